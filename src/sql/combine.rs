//! How the answers of several shards become the one answer: what each shard is asked instead, and what is done with its
//! rows. Plain data, made by the analysis, carried by the plan, done by `exec::combine`. No parser type appears here.

use super::edit::DrawEdit;

/// A SELECT that each shard answers for its own rows, in parts that go together exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Combination {
    /// the shards' text: edits of the statement's own, ascending by offset
    pub edits: Vec<DrawEdit>,
    /// columns added at the end of the select list, which the client does not see
    pub hidden: usize,
    /// every shard's rows come in this order, and so do the rows of all
    pub order: Vec<SortKey>,
    /// rows that are equal byte for byte are one (DISTINCT of types for which that is their equality)
    pub distinct: bool,
    /// the shards' rows are partial results of groups
    pub groups: Option<Groups>,
    pub limit: Option<Amount>,
    pub offset: Option<Amount>,
}

/// A number of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    Fixed(u64),
    /// `$n`, 1-based
    Param(usize),
}

/// Which column of a shard's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// counted from the first
    Visible(usize),
    /// counted from the first hidden one
    Hidden(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    pub value: Source,
    pub descending: bool,
    pub nulls_first: bool,
}

/// A value of a row, and how its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub place: Place,
    pub reading: Reading,
}

/// How a column's bytes become something that can be compared. What is not `Sent` is read in the format, text or binary,
/// in which the client wants the column: its text depends on no setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// int2, int4, int8
    Integer,
    Oid,
    Numeric,
    Boolean,
    /// compares by its bytes in either format: uuid, time, text under the "C" collation
    Bytes,
    Text,
    Bytea,
    /// a bytea that holds what the type's send function gives
    Sent(Sent),
}

/// Types whose text depends on settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    Float4,
    Float8,
    Date,
    Timestamp,
    TimeTz,
    Interval,
}

/// Partial results go together by these columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// equal byte for byte within a group; none when all rows are one group
    pub keys: Vec<Place>,
    pub aggregates: Vec<Aggregate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// the column that becomes the result
    pub place: Place,
    pub fold: Fold,
}

/// How partial results become one; a NULL adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// bigints are added: count(), sum() of int2 and int4
    AddInteger,
    AddNumeric,
    /// of these two hidden columns: a sum, and a count
    Average {
        sum: Source,
        count: Place,
    },
    /// the row with the least (greatest) of these; its column is the result
    Least(Source),
    Greatest(Source),
    And,
    Or,
    BitAnd,
    BitOr,
    BitXor,
}

impl Combination {
    /// The shards' rows as they come, one shard after the other.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Does it compare text? Then the client's encoding must be the servers'.
    #[must_use]
    pub fn compares_text(&self) -> bool {
        let keys = self.order.iter().map(|key| key.value.reading);
        let folds = self.groups.iter().flat_map(|groups| &groups.aggregates);
        let folded = folds.filter_map(|aggregate| match aggregate.fold {
            Fold::Least(source) | Fold::Greatest(source) => Some(source.reading),
            _ => None,
        });
        keys.chain(folded).any(|reading| reading == Reading::Text)
    }
}

/// How a type's values are read for comparing them, and the function that makes the bytes where its text will not do.
/// None for types whose order is not known here.
#[must_use]
pub fn reading(type_oid: u32, by_bytes: bool) -> Option<(Reading, Option<&'static str>)> {
    let sent = |sent, function| Some((Reading::Sent(sent), Some(function)));
    let direct = |reading| Some((reading, None));
    match type_oid {
        20 | 21 | 23 => direct(Reading::Integer),
        26 => direct(Reading::Oid),
        1700 => direct(Reading::Numeric),
        16 => direct(Reading::Boolean),
        2950 | 1083 => direct(Reading::Bytes),
        25 | 1043 if by_bytes => direct(Reading::Text),
        17 => direct(Reading::Bytea),
        700 => sent(Sent::Float4, "float4send"),
        701 => sent(Sent::Float8, "float8send"),
        1082 => sent(Sent::Date, "date_send"),
        1114 => sent(Sent::Timestamp, "timestamp_send"),
        1184 => sent(Sent::Timestamp, "timestamptz_send"),
        1266 => sent(Sent::TimeTz, "timetz_send"),
        1186 => sent(Sent::Interval, "interval_send"),
        _ => None,
    }
}

/// Whether equal values of a type have equal bytes, in text and in binary, and others have others. `Sent` types only in
/// the bytes of their send function, which the second tells.
#[must_use]
pub fn equality(type_oid: u32, deterministic: bool) -> Option<Option<&'static str>> {
    match type_oid {
        16 | 17 | 20 | 21 | 23 | 26 | 1083 | 2950 => Some(None),
        25 | 1043 if deterministic => Some(None),
        1082 => Some(Some("date_send")),
        1114 => Some(Some("timestamp_send")),
        1184 => Some(Some("timestamptz_send")),
        _ => None,
    }
}
