//! Plans: where a statement goes and what is done with the answers. Plain data with Display, which is what EXPLAIN shows.
//! Pure: no async, no sockets, no clock, no logging.

pub mod cache;
mod display;
pub mod explain;
mod gather;
pub mod pace;
pub mod planner;
pub mod resolve;

pub use crate::sql::combine::{self, Amount, Combination};
pub use gather::{Gather, Gathered, Keys, Part, Source};

pub use crate::sql::edit::{DrawEdit, Drawn, EditPart, TextAnchor};
pub use crate::sql::statement::{ColumnValues, KeyTuple, ValueSource};

use crate::shard::{KeyType, ShardId};
use crate::sql::clock;
use crate::sql::command::Setting;
pub use crate::sql::command::explain::Format;
use crate::sql::hint::Reads;
use crate::wire::sqlstate::SqlState;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// A whole simple query, or the text of one Parse: zero or more statements.
#[derive(Debug)]
pub struct PlannedText {
    /// 128-bit xxh3 of the lifted text: the statement's identity in SHOW QUERIES
    pub fingerprint: u128,
    /// the lifted text (literals as `$n`-less placeholders `?`), for SHOW QUERIES; at most 2 KB
    pub shape: Arc<str>,
    /// empty for an empty query
    pub statements: Vec<Plan>,
}

impl PlannedText {
    /// One statement of which nothing is another thing a moment later, and that is not refused.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        let [plan] = &self.statements[..] else {
            return false;
        };
        !plan.effects.clock && !plan.effects.names_time && plan.refusal.is_none()
    }
}

/// What to do with one statement.
#[derive(Debug)]
pub struct Plan {
    /// where the statement stands in the text it was planned from (without its semicolon)
    pub start: TextAnchor,
    pub end: TextAnchor,
    pub command: Command,
    pub access: Access,
    pub routing: Routing,
    pub merge: Merge,
    /// why, in words: shown by `pgshunt explain`
    pub because: String,
    /// what executing it leaves behind in the session or server
    pub effects: Effects,
    /// INSERT: characters that each key column takes (`varchar(n)`), where it is bounded
    pub key_lengths: SmallVec<[Option<u32>; 1]>,
    /// an INSERT whose shard key pgshunt draws
    pub draw: Option<KeyDraw>,
    /// a refusal decided at planning time: sent when the statement is executed (Parse itself may still succeed)
    pub refusal: Option<Refusal>,
    /// sent instead when the key values of this execution lie on more than one shard; None when `merge` copes with several
    pub multi_refusal: Option<Refusal>,
    /// a hint says where and how fresh it must be read
    pub reads: Option<Reads>,
    /// a hint names the session whose watermark counts
    pub session: Option<String>,
    /// calls of clocks that a time can stand in for
    pub clocks: Option<Arc<[clock::Call]>>,
    /// `Command::Set`: the whole of it, with its value
    pub setting: Option<Setting>,
    /// of its executions
    pub pace: pace::Pace,
}

impl Plan {
    /// How long it takes, where it is a read that leaves nothing behind and takes no longer than this on average: it may be
    /// run again, and beside others.
    #[must_use]
    pub fn may_share(&self, longest: Duration) -> Option<pace::Short> {
        let Effects {
            pins: None,
            opaque: false,
            ddl: None,
            clock: _,
            names_time: _,
            asks_channels: false,
            asks_sequence: false,
            asks_statements: false,
            numbers: false,
            notifies: false,
            vacates: None,
        } = self.effects
        else {
            return None;
        };
        let reads = self.access == Access::Read && self.command == Command::Select;
        reads.then(|| self.pace.short(longest)).flatten()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Routing {
    /// one shard only in this database: everything passes
    Unsharded,
    /// catalog queries, unlisted tables
    Home,
    /// sharded tables whose keys are proven: every tuple is one possible key; all resolved shards are addressed
    ByKey {
        keyspace: usize,
        tuples: Vec<KeyTuple>,
    },
    /// reference tables only, or nothing at all (`SELECT 1`)
    /// (`resolve` gives `Targets::None`: any shard may answer)
    AnyShard,
    /// every shard
    AllShards,
    /// a hint in a comment names the shard
    Hinted(ShardId),
    /// answered by pgshunt itself (SET pgshunt.…, SHOW pgshunt.…)
    Local,
}

/// How answers of several shards become one.
#[derive(Clone, Debug, PartialEq)]
pub enum Merge {
    /// one shard answers; with more than one target this statement is refused (the planner fills `multi_refusal`)
    Single,
    /// COPY TO: answers one shard after another, tags added up
    Concatenate,
    /// SELECT: each shard is asked an edited text, and its rows are put together while they come
    Combine(Arc<Combination>),
    /// SELECT: its tables are brought together in a scratch database, where it runs unchanged
    Gather(Arc<Gather>),
    /// DDL, writes to reference tables: in a transaction on every shard; the first shard's answer is shown; row counts must agree
    Everywhere,
    /// as Everywhere, for what cannot run in a transaction (VACUUM, CREATE INDEX CONCURRENTLY): one shard after another
    EverywhereOutsideTransaction,
}

impl Merge {
    /// On one shard it is nothing but the statement itself.
    #[must_use]
    pub fn is_a_read(&self) -> bool {
        matches!(
            self,
            Self::Single | Self::Concatenate | Self::Combine(_) | Self::Gather(_)
        )
    }

    /// The answers of several shards become one.
    #[must_use]
    pub fn puts_together(&self) -> bool {
        matches!(self, Self::Concatenate | Self::Combine(_) | Self::Gather(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// What the session must know about the statement, beyond where it goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// SELECT, VALUES, TABLE, WITH, SHOW of a server setting, EXPLAIN of what one server answers as it stands
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    /// BEGIN / START TRANSACTION
    Begin {
        read_only: Option<bool>,
        isolation: Option<Isolation>,
        deferrable: Option<bool>,
    },
    Commit {
        chain: bool,
    },
    Rollback {
        chain: bool,
    },
    Savepoint(String),
    ReleaseSavepoint(String),
    RollbackToSavepoint(String),
    /// SET / SET SESSION / SET LOCAL of a server setting; name lower case
    Set {
        name: String,
        local: bool,
    },
    /// SET TRANSACTION ..., SET SESSION CHARACTERISTICS is `Set{name:"session characteristics"}`
    SetTransaction {
        read_only: Option<bool>,
        isolation: Option<Isolation>,
    },
    /// RESET name; None is RESET ALL
    Reset(Option<String>),
    DiscardAll,
    /// SET pgshunt.name = value; None is RESET / TO DEFAULT
    SetLocal {
        name: String,
        value: Option<String>,
    },
    /// SHOW pgshunt.name
    ShowLocal(String),
    CopyIn,
    CopyOut,
    /// CREATE, ALTER, DROP, GRANT, ...: refreshes catalog and plans
    Ddl,
    /// SQL PREPARE name / EXECUTE name / DEALLOCATE [name]
    Prepare(String),
    ExecutePrepared(String),
    Deallocate(Option<String>),
    /// DECLARE for a query whose rows several shards have
    DeclareOver,
    /// DECLARE, FETCH, MOVE, CLOSE: on the server that the transaction holds
    Cursor,
    /// EXPLAIN of a statement on sharded tables, or for every shard
    Explain(Arc<Explain>),
    Listen(String),
    /// None is `*`
    Unlisten(Option<String>),
    /// NOTIFY, LOAD, VACUUM, LOCK, CALL, DO, ...
    Other,
}

/// EXPLAIN of a statement that is not one server's own business. The plan around it says where it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Explain {
    pub analyze: bool,
    pub format: Format,
    /// EXPLAIN and its options, for the texts that shards are asked
    pub with: String,
    /// the same without ANALYZE
    pub without: String,
    /// where the explained statement begins; it ends with the plan
    pub start: TextAnchor,
    pub command: Command,
    pub access: Access,
    pub merge: Merge,
    /// it would draw its key
    pub draws: bool,
}

impl Command {
    /// What is explained, or the command itself.
    #[must_use]
    pub fn explained(&self) -> &Self {
        match self {
            Self::Explain(explain) => &explain.command,
            other => other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// what PostgreSQL calls so, it treats as READ COMMITTED
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    /// Each statement has a snapshot of its own.
    #[must_use]
    pub fn sees_each_commit(self) -> bool {
        matches!(self, Self::ReadUncommitted | Self::ReadCommitted)
    }
}

/// What a change of the schema is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ddl {
    /// tables, indexes, types and the like
    Data,
    /// functions, triggers and whatever else runs code: what a statement leaves behind depends on it
    Code,
    /// with what settings a session of a role or database begins
    Defaults,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// this session must keep the server after the transaction, for this reason
    pub pins: Option<&'static str>,
    /// the server's session state is no longer known after it (DO, CALL, volatile user functions): reset before reuse
    pub opaque: bool,
    /// reload catalog and drop plans after its commit
    pub ddl: Option<Ddl>,
    /// it asks a clock, and two servers of one transaction would answer differently
    pub clock: bool,
    /// a literal in it may be read as the time
    pub names_time: bool,
    /// it asks which channels the session listens to, which no server knows
    pub asks_channels: bool,
    /// it asks which statements the session has prepared
    pub asks_statements: bool,
    /// it asks for values that sequences have had in the session
    pub asks_sequence: bool,
    /// it signals a process, or asks for the number of its own, by name: a client's, maybe
    pub numbers: bool,
    /// it notifies by name, or may: NOTIFY, pg_notify()
    pub notifies: bool,
    /// a database that nobody may be connected to when it runs
    pub vacates: Option<Arc<str>>,
}

/// An INSERT without its identity or serial shard key: pgshunt draws `rows` values from the sequence
/// (on the home shard), all on one shard, and splices them in.
#[derive(Clone, Debug)]
pub struct KeyDraw {
    pub keyspace: usize,
    pub key_type: KeyType,
    /// quoted, qualified, ready for nextval('…')
    pub sequence: String,
    pub rows: usize,
    /// edits of the statement's original text, ascending by offset: see `sql::edit::splice`
    pub edits: Vec<DrawEdit>,
}

/// Positions that survive literals of other lengths.
pub mod sqlpos {
    pub use crate::sql::combine::{self, Amount, Combination};
    pub use crate::sql::edit::TextAnchor;
}

/// The shards a statement is sent to in one execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// any shard may answer: nothing of it is sharded, or it is proven that no sharded row matches (key = NULL).
    /// Also of an INSERT whose key pgshunt draws (`Plan::draw`): the drawn values say the shard
    None,
    One(ShardId),
    /// ascending
    Many(SmallVec<[ShardId; 8]>),
}

/// Why a statement is not run: becomes one ErrorResponse.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: SqlState,
    pub message: String,
    pub hint: Option<String>,
}

/// The values of one execution, as they came: literals of the lifted text or parameters of a Bind.
pub trait Values {
    /// characters of literal slot n, as written in the text, quotes and all (`42`, `'abc'`, `E'x'`, `-7`)
    fn slot(&self, n: usize) -> Option<&[u8]>;
    /// parameter n (1-based)
    fn param(&self, n: usize) -> Option<ParamValue<'_>>;
}

#[derive(Clone, Copy, Debug)]
pub enum ParamValue<'a> {
    Null,
    Text(&'a [u8]),
    /// with the parameter's type OID as resolved by Parse (0 when not declared by the client)
    Binary(u32, &'a [u8]),
}
