//! Shard key values: parsed from SQL literals and parameters exactly as PostgreSQL's input and receive functions would, or
//! refused. It knows no types' modifiers: what `varchar(3)`, `numeric(10,2)` or `timestamp(0)` does to a value when it is
//! stored is for the caller to rule out.

mod calendar;
mod integer;
mod numeric;
mod time;
mod uuid;

pub use numeric::Numeric;
use std::fmt;

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
/// Values of one type compare as PostgreSQL compares them, text by its bytes (collation "C").
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

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// PostgreSQL itself would refuse the text or bytes: let a server word the error.
    #[error("not a valid value of the key's type")]
    Invalid,
    /// The meaning depends on session settings (`'tomorrow'`, DMY dates, timestamptz without offset) or on the server's
    /// version (`'0x1F'`, `'1_000'`): not provable.
    #[error("the value's meaning depends on session settings or the server's version")]
    Ambiguous,
}

const NAMES: [(&str, KeyType); 10] = [
    ("smallint", KeyType::SmallInt),
    ("integer", KeyType::Integer),
    ("bigint", KeyType::BigInt),
    ("text", KeyType::Text),
    ("varchar", KeyType::Text),
    ("uuid", KeyType::Uuid),
    ("date", KeyType::Date),
    ("timestamp", KeyType::Timestamp),
    ("timestamptz", KeyType::TimestampTz),
    ("numeric", KeyType::Numeric),
];

impl KeyType {
    /// A literal's or a text parameter's characters, without quotes, as PostgreSQL's input function reads them.
    pub fn parse_text(self, text: &[u8]) -> Result<KeyValue, KeyError> {
        // The wire and the parser end a string at a zero byte: no server ever sees one.
        if text.contains(&0) {
            return Err(KeyError::Invalid);
        }
        match self {
            Self::SmallInt => integer::parse::<i16>(text),
            Self::Integer => integer::parse::<i32>(text),
            Self::BigInt => integer::parse::<i64>(text),
            Self::Text => Ok(KeyValue::Text(text.into())),
            Self::Uuid => uuid::parse(text).map(KeyValue::Uuid),
            Self::Date => time::parse_date(text).map(KeyValue::Date),
            Self::Timestamp => time::parse_timestamp(text).map(KeyValue::Timestamp),
            Self::TimestampTz => time::parse_timestamptz(text).map(KeyValue::Timestamp),
            Self::Numeric => numeric::parse(text).map(KeyValue::Numeric),
        }
    }

    /// A binary parameter as PostgreSQL's receive function of this very type reads it.
    pub fn parse_binary(self, bytes: &[u8]) -> Result<KeyValue, KeyError> {
        match self {
            Self::SmallInt => Ok(KeyValue::Int(i16::from_be_bytes(exactly(bytes)?).into())),
            Self::Integer => Ok(KeyValue::Int(i32::from_be_bytes(exactly(bytes)?).into())),
            Self::BigInt => Ok(KeyValue::Int(i64::from_be_bytes(exactly(bytes)?))),
            Self::Text if bytes.contains(&0) => Err(KeyError::Invalid),
            Self::Text => Ok(KeyValue::Text(bytes.into())),
            Self::Uuid => Ok(KeyValue::Uuid(exactly(bytes)?)),
            Self::Date => time::receive_date(exactly(bytes)?).map(KeyValue::Date),
            Self::Timestamp | Self::TimestampTz => {
                time::receive_timestamp(exactly(bytes)?).map(KeyValue::Timestamp)
            }
            Self::Numeric => numeric::receive(bytes).map(KeyValue::Numeric),
        }
    }

    /// OID of the type (`Text` is 25; varchar 1043 is accepted by the catalog check as Text too).
    #[must_use]
    pub fn oid(self) -> u32 {
        match self {
            Self::SmallInt => 21,
            Self::Integer => 23,
            Self::BigInt => 20,
            Self::Text => 25,
            Self::Uuid => 2950,
            Self::Date => 1082,
            Self::Timestamp => 1114,
            Self::TimestampTz => 1184,
            Self::Numeric => 1700,
        }
    }

    /// The type of an OID that may be a key column's, or None.
    #[must_use]
    pub fn of_oid(oid: u32) -> Option<Self> {
        let types = NAMES.iter().map(|(_, key_type)| *key_type);
        let varchar = (oid == 1043).then_some(Self::Text);
        types
            .into_iter()
            .find(|key_type| key_type.oid() == oid)
            .or(varchar)
    }

    /// The type of a name as the shard map writes it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, key_type)| *key_type)
    }

    /// Every name the shard map may use.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, key_type)| *key_type == self)
            .map_or("", |(name, _)| name)
    }

    /// Whether a value is of this type's kind.
    #[must_use]
    pub fn admits(self, value: &KeyValue) -> bool {
        match value {
            KeyValue::Int(_) => matches!(self, Self::SmallInt | Self::Integer | Self::BigInt),
            KeyValue::Text(_) => self == Self::Text,
            KeyValue::Uuid(_) => self == Self::Uuid,
            KeyValue::Date(_) => self == Self::Date,
            KeyValue::Timestamp(_) => matches!(self, Self::Timestamp | Self::TimestampTz),
            KeyValue::Numeric(_) => self == Self::Numeric,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// For people: EXPLAIN and error messages. Not for SQL.
impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "{n}"),
            Self::Text(bytes) => write!(
                f,
                "'{}'",
                String::from_utf8_lossy(bytes).replace('\'', "''")
            ),
            Self::Uuid(bytes) => uuid::write(f, bytes),
            Self::Date(days) => calendar::write_date(f, *days),
            Self::Timestamp(micros) => calendar::write_timestamp(f, *micros),
            Self::Numeric(numeric) => write!(f, "{numeric}"),
        }
    }
}

/// A receive function reads its width and refuses anything more or less.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], KeyError> {
    bytes.try_into().map_err(|_| KeyError::Invalid)
}

/// `isspace` of the C locale, which the input functions skip on both sides.
fn trim_space(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(start, |last| last + 1);
    &text[start..end]
}
