//! Shard key values: parsed from SQL literals and parameters exactly as PostgreSQL's input functions would, or refused.

/// The types a shard key column may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyType {
    SmallInt,
    Integer,
    BigInt,
    /// text and varchar, deterministic collation
    Text,
    Uuid,
    Date,
    Timestamp,
    TimestampTz,
    Numeric,
}

/// One key column's value in a form where equal values of the type are equal here (numeric scale normalised, ...).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyValue {
    /// smallint, integer, bigint
    Int(i64),
    Text(Box<[u8]>),
    Uuid([u8; 16]),
    /// days since 2000-01-01; i32::MIN / i32::MAX are -infinity / infinity
    Date(i32),
    /// microseconds since 2000-01-01; i64::MIN / MAX are -infinity / infinity
    Timestamp(i64),
    Numeric(Numeric),
}

/// Canonical numeric; the helper that owns this file defines the inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Numeric(pub Box<[u8]>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// PostgreSQL itself would refuse the text or bytes: let a server word the error.
    #[error("not a valid value of the key's type")]
    Invalid,
    /// The meaning depends on session settings (`'tomorrow'`, DMY dates, timestamptz without offset): not provable.
    #[error("the value's meaning depends on session settings")]
    Ambiguous,
}

impl KeyType {
    /// A literal's or a text parameter's characters, without quotes, as PostgreSQL's input function reads them.
    pub fn parse_text(self, _text: &[u8]) -> Result<KeyValue, KeyError> {
        todo!()
    }
    /// A binary parameter as PostgreSQL's receive function of this very type reads it.
    pub fn parse_binary(self, _bytes: &[u8]) -> Result<KeyValue, KeyError> {
        todo!()
    }
    /// OID of the type (`Text` is 25; varchar 1043 is accepted by the catalog check as Text too).
    #[must_use]
    pub fn oid(self) -> u32 {
        todo!()
    }
    /// The type of an OID that may be a key column's, or None.
    #[must_use]
    pub fn of_oid(_oid: u32) -> Option<Self> {
        todo!()
    }
}
