//! What kind of statement it is, by its leading words alone: this needs no parser, so that statements which the parser
//! cannot read are still known for what they are. It does not know tables, keys or shards.

use super::tokens::Token;
use std::ops::Range;

/// One statement. All `Range<usize>` count tokens of the slice given to `classify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Empty,
    /// SELECT, VALUES, TABLE, WITH … SELECT, in parentheses or not
    Query {
        into: Option<Into>,
    },
    /// also WITH … INSERT, and so on
    Insert,
    Update,
    Delete,
    Merge,
    Begin(TransactionModes),
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    /// PREPARE TRANSACTION 'gid'
    PrepareTransaction(String),
    CommitPrepared(String),
    RollbackPrepared(String),
    /// SET TRANSACTION …
    SetTransaction(TransactionModes),
    /// SET TRANSACTION SNAPSHOT
    SetTransactionSnapshot,
    /// SET SESSION CHARACTERISTICS AS TRANSACTION …
    SessionCharacteristics(TransactionModes),
    /// SET of a server setting
    Set(Setting),
    /// RESET name; name in lower case
    Reset(String),
    ResetAll,
    Discard(Discard),
    /// SHOW name; "all" for SHOW ALL
    Show(String),
    /// SET pgshunt.name = value; None is RESET or DEFAULT. The name is given without its prefix
    SetLocal {
        name: String,
        value: Option<String>,
    },
    /// SHOW pgshunt.name, without its prefix
    ShowLocal(String),
    Copy(Copy),
    Explain {
        analyze: bool,
        statement: Range<usize>,
    },
    /// PREPARE name [(types)] AS statement
    Prepare {
        name: String,
        statement: Range<usize>,
    },
    Execute {
        name: String,
    },
    /// DEALLOCATE [PREPARE] name; None is ALL
    Deallocate(Option<String>),
    /// DECLARE name CURSOR [WITH HOLD] FOR query
    Declare {
        name: String,
        hold: bool,
        query: Range<usize>,
    },
    Fetch,
    Move,
    /// CLOSE name; None is ALL
    CloseCursor(Option<String>),
    Listen(String),
    /// None is `*`
    Unlisten(Option<String>),
    Notify(String),
    Truncate,
    /// LOCK TABLE
    Lock,
    Call,
    Do,
    /// CREATE, ALTER, DROP, GRANT, REVOKE, COMMENT, SECURITY LABEL, REASSIGN, IMPORT
    Ddl(Ddl),
    /// VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH, CHECKPOINT
    Maintenance {
        word: String,
        outside_transaction: bool,
    },
    /// SET CONSTRAINTS, LOAD, …, and whatever is not known: its first word in lower case
    Other(String),
}

/// `SELECT … INTO [TEMP] t`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Into {
    pub temporary: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    pub isolation: Option<Isolation>,
    pub read_only: Option<bool>,
    pub deferrable: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// SET [SESSION | LOCAL] name = value, and its other spellings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// canonical, lower case: "timezone", "role", "session_authorization", "client_encoding", "search_path"
    pub name: String,
    pub local: bool,
    pub value: SettingValue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingValue {
    Default,
    /// one or more values as Postgres reads them: quotes removed, bare words in lower case, signs kept
    List(Vec<String>),
    /// SET TIME ZONE INTERVAL …, or a value that is not read here
    Opaque,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    All,
    Plans,
    Temporary,
    Sequences,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub direction: CopyDirection,
    pub subject: CopySubject,
    pub endpoint: CopyEndpoint,
    /// everything after the endpoint: `WITH (FORMAT csv)`, `WHERE …`
    pub options: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    /// COPY … FROM
    In,
    /// COPY … TO
    Out,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySubject {
    Table {
        schema: Option<String>,
        name: String,
        columns: Option<Vec<String>>,
    },
    /// COPY (query) TO …: the tokens between the parentheses
    Query(Range<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyEndpoint {
    /// STDIN, STDOUT (either word, as in Postgres)
    Client,
    /// a file on the server
    File,
    Program,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ddl {
    /// "create", "alter", "drop", …
    pub verb: String,
    /// "table", "index", "materialized view", …; empty when not known
    pub object: String,
    /// it is refused in a transaction block
    pub outside_transaction: bool,
    /// it makes something in the session's temporary schema
    pub temporary: bool,
}

/// Classifies the tokens of one statement (without its semicolon).
pub fn classify(text: &[u8], tokens: &[Token], scs: bool) -> Command {
    let _ = (text, scs);
    if tokens.is_empty() {
        Command::Empty
    } else {
        Command::Other(String::new())
    }
}
