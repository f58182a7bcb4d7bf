//! What kind of statement it is, by its leading words alone: this needs no parser, so that statements which the parser
//! cannot read are still known for what they are. It does not know tables, keys or shards.

mod copy;
pub mod cursor;
mod ddl;
pub mod explain;
mod setting;
mod transaction;
mod words;

use super::tokens::{Token, TokenKind};
use std::ops::Range;
use words::Words;

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
    /// SET [LOCAL] pgshunt.name = value; None is RESET or DEFAULT. The name is given without its prefix
    SetLocal {
        name: String,
        value: Option<String>,
        /// SET LOCAL: until the end of the transaction
        local: bool,
    },
    /// SHOW pgshunt.name, without its prefix
    ShowLocal(String),
    Copy(Copy),
    Explain(explain::Explain),
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
    /// a database that nobody may be connected to
    pub vacates: Option<String>,
}

/// Classifies the tokens of one statement (without its semicolon). What is malformed is `Other`: Postgres words that error.
pub fn classify(text: &[u8], tokens: &[Token], scs: bool) -> Command {
    let mut words = Words::new(text, tokens, scs);
    let Some(first) = words.peek() else {
        return Command::Empty;
    };
    if first.kind == TokenKind::ParenOpen {
        return query(&words);
    }
    let word = words.next_word().unwrap_or_default();
    let command = match word.as_str() {
        "select" | "values" | "table" => Some(query(&words)),
        "with" => Some(with(&mut words)),
        "insert" => Some(Command::Insert),
        "update" => Some(Command::Update),
        "delete" => Some(Command::Delete),
        "merge" => Some(Command::Merge),
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            transaction::parse(&word, &mut words)
        }
        "set" => setting::set(&mut words),
        "reset" => setting::reset(&mut words),
        "show" => setting::show(&mut words),
        "discard" => setting::discard(&mut words),
        "copy" => copy::parse(&mut words).map(Command::Copy),
        "explain" => Some(Command::Explain(explain::explain(&mut words))),
        "prepare" => prepare(&mut words),
        "execute" => words.name().map(|name| Command::Execute { name }),
        "deallocate" => deallocate(&mut words),
        "declare" => declare(&mut words),
        "fetch" => Some(Command::Fetch),
        "move" => Some(Command::Move),
        "close" => words.name_or_all().map(Command::CloseCursor),
        "listen" => words.name().map(Command::Listen),
        "unlisten" => unlisten(&mut words),
        "notify" => words.name().map(Command::Notify),
        "truncate" => Some(Command::Truncate),
        "lock" => Some(Command::Lock),
        "call" => Some(Command::Call),
        "do" => Some(Command::Do),
        "create" | "alter" | "drop" | "grant" | "revoke" | "comment" | "security" | "reassign"
        | "import" => Some(Command::Ddl(ddl::parse(&word, &mut words))),
        "vacuum" | "analyze" | "analyse" | "reindex" | "cluster" | "refresh" | "checkpoint" => {
            Some(ddl::maintenance(&word, &mut words))
        }
        _ => None,
    };
    command.unwrap_or(Command::Other(word))
}

/// SELECT and its kin; `INTO` outside parentheses makes it a CREATE TABLE.
fn query(words: &Words) -> Command {
    let into = words.find_outside_parens("into").map(|at| Into {
        temporary: (1..=2)
            .any(|n| words.is_word_at(at + n, "temp") || words.is_word_at(at + n, "temporary"))
            || words.mentions_temporary_schema(),
    });
    Command::Query { into }
}

/// WITH names its CTEs, each in parentheses; the verb comes after the last one.
fn with(words: &mut Words) -> Command {
    let verb = ["insert", "update", "delete", "merge"]
        .into_iter()
        .find(|verb| {
            words
                .find_outside_parens(verb)
                .is_some_and(|at| words.kind_at(at.wrapping_sub(1)) == Some(TokenKind::ParenClose))
        });
    match verb {
        Some("insert") => Command::Insert,
        Some("update") => Command::Update,
        Some("delete") => Command::Delete,
        Some("merge") => Command::Merge,
        _ => query(words),
    }
}

/// `PREPARE TRANSACTION 'gid'` or `PREPARE name [(types)] AS statement`.
fn prepare(words: &mut Words) -> Option<Command> {
    if words.is_word_at(words.position(), "transaction") && words.is_string_at(words.position() + 1)
    {
        words.skip(1);
        return words.string().map(Command::PrepareTransaction);
    }
    let name = words.name()?;
    if words.peek_kind() == Some(TokenKind::ParenOpen) {
        let close = words.closing_paren()?;
        words.skip_to(close + 1);
    }
    words.take("as").then(|| Command::Prepare {
        name,
        statement: words.rest(),
    })
}

fn deallocate(words: &mut Words) -> Option<Command> {
    if words.rest().len() > 1 && !words.take("prepare") {
        return None;
    }
    words.name_or_all().map(Command::Deallocate)
}

/// `DECLARE name [options] CURSOR [WITH | WITHOUT HOLD] FOR query`.
fn declare(words: &mut Words) -> Option<Command> {
    let name = words.name()?;
    while !words.take("cursor") {
        words.next_word()?;
    }
    let hold = words.take("with");
    if hold || words.take("without") {
        words.expect("hold")?;
    }
    words.expect("for")?;
    Some(Command::Declare {
        name,
        hold,
        query: words.rest(),
    })
}

fn unlisten(words: &mut Words) -> Option<Command> {
    if words.is_text_at(words.position(), "*") {
        return Some(Command::Unlisten(None));
    }
    words.name().map(|name| Command::Unlisten(Some(name)))
}

#[cfg(test)]
mod tests;
