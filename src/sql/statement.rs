//! What is known of one statement once it is parsed: the relations it touches, what is proven of their shard keys, the
//! functions it calls, the clauses that matter. Plain data; the planner decides by it. No parser type appears here.

use crate::catalog::QualifiedName;
use crate::shard::KeyValue;
use crate::sql::combine::Combination;
use crate::sql::filter::Known;
use smallvec::SmallVec;
use std::sync::Arc;

/// Where the value of a key column comes from at execution.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueSource {
    /// literal slot number of the lifted simple query (0-based)
    Slot(usize),
    /// `$n` (1-based)
    Param(usize),
    /// a value fixed at planning time
    Fixed(KeyValue),
    /// a parameter that is an array (`= ANY($1)`) of the key's type
    ArrayParam(usize),
    /// a literal slot that is an array text `'{1,2}'`
    ArraySlot(usize),
    /// every value within all of these limits; only where values compare here as they do at PostgreSQL
    Between(Arc<[Limit]>),
}

/// One end of a range of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub end: End,
    /// the value itself is within
    pub inclusive: bool,
    /// one value: no array, no range
    pub value: ValueSource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Low,
    High,
}

impl Limit {
    /// As SQL says it of the column.
    #[must_use]
    pub fn operator(&self) -> &'static str {
        match (self.end, self.inclusive) {
            (End::Low, true) => ">=",
            (End::Low, false) => ">",
            (End::High, true) => "<=",
            (End::High, false) => "<",
        }
    }
}

/// One alternative of a constraint: one source per key column of the keyspace.
pub type KeyTuple = SmallVec<[ValueSource; 1]>;

/// How a relation takes part in sharding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// index into `Database::tables`
    Sharded(usize),
    Reference,
    Home,
}

/// What the analysis proved of one sharded relation in one place of the statement.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyProof {
    /// not a sharded relation
    NotSharded,
    /// the rows that matter have one of these keys; none at all when empty (`key = NULL`)
    Tuples(Vec<KeyTuple>),
    Unproven,
}

/// One relation at one place of the statement (a table joined with itself is two).
#[derive(Clone, Debug)]
pub struct Touched {
    pub table: QualifiedName,
    pub placement: Placement,
    pub proof: KeyProof,
    /// its key equals the anchor's key in every row that matters (the anchor is tied to itself)
    pub tied: bool,
    /// UNLOGGED, foreign, sequences: not the same on a replica
    pub primary_only: bool,
    pub row_security: bool,
    /// what holds for the rows that matter
    pub known: Known,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnValues {
    pub column: String,
    pub type_oid: u32,
    /// none: no row matters
    pub values: Vec<ValueSource>,
}

/// A function called, by syntax or as `relation.name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionUse {
    pub schema: Option<String>,
    pub name: String,
    /// that it is called with, where that is plain
    pub arguments: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
}

#[derive(Clone, Debug)]
pub struct Facts {
    pub verb: Verb,
    pub touched: Vec<Touched>,
    pub functions: Vec<FunctionUse>,
    /// arguments that are plain values of the call of a function declared with a key argument
    pub key_arguments: Vec<Option<ValueSource>>,
    /// operators, casts to types or columns that may hide a user function
    pub opaque_expression: bool,
    /// FOR UPDATE and the like, anywhere
    pub locking: bool,
    /// a data-modifying CTE besides the statement's own verb
    pub modifying_cte: bool,
    pub into: Option<IntoTarget>,
    /// what keeps the rows of several shards from being put together at all
    pub not_concatenable: Option<String>,
    /// the clause for which they are not simply one after another; None when they are
    pub together: Option<String>,
    /// how they go together in spite of it
    pub combination: Option<Arc<Combination>>,
    /// INSERT, UPDATE, DELETE and MERGE
    pub write: Option<WriteFacts>,
    /// some LIMIT, OFFSET, FETCH or DISTINCT ON
    pub limited: bool,
    /// one of them below the outermost SELECT
    pub limited_within: bool,
    pub subqueries: bool,
    /// what matters when it runs on copies of its tables
    pub on_copies: crate::sql::analyze::OnCopies,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntoTarget {
    pub temporary: bool,
}

#[derive(Clone, Debug)]
pub struct WriteFacts {
    /// index into `Facts::touched`
    pub target: usize,
    /// columns assigned by SET (also of ON CONFLICT DO UPDATE), with the plain value where there is one
    pub assigned: Vec<(String, Option<ValueSource>)>,
    pub insert: Option<InsertFacts>,
}

/// What one INSERT puts into the key columns of its table.
#[derive(Clone, Debug)]
pub struct InsertFacts {
    /// per row one entry per key column; empty for INSERT … SELECT
    pub rows: Vec<Vec<InsertedKey>>,
    /// INSERT … SELECT: what is proven of the inserted key columns
    pub selected: Option<Vec<InsertedKey>>,
    pub shape: InsertShape,
    pub overriding: Overriding,
    /// where the (first) key column stands in a row
    pub key_position: Option<usize>,
    /// columns that get no value from the statement
    pub defaulted: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertShape {
    /// DEFAULT VALUES
    DefaultValues,
    /// number of columns named; None when there is no list
    Rows {
        listed: Option<usize>,
    },
    Query,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overriding {
    Nothing,
    System,
    User,
}

#[derive(Clone, Debug, PartialEq)]
pub enum InsertedKey {
    Value(ValueSource),
    /// several possible values (INSERT … SELECT … WHERE key IN (…))
    AnyOf(Vec<ValueSource>),
    Null,
    /// DEFAULT written at this position of the row
    DefaultWord,
    /// not mentioned
    Missing,
    /// an expression whose value is not known before it runs
    Unknown,
}
