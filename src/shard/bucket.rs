//! xxh3 buckets, and the canonical bytes they are computed from. These bytes are a promise: data that is already placed
//! depends on them, so they never change.
//!
//! One column's canonical bytes, all numbers little-endian:
//!
//! | type | bytes |
//! |---|---|
//! | smallint, integer, bigint | 8: the value as int64, so that all widths agree |
//! | text, varchar | the characters in the server's encoding |
//! | uuid | 16, as printed |
//! | date | 4: days since 2000-01-01; the least and the greatest int32 are -infinity and infinity |
//! | timestamp, timestamptz | 8: microseconds since 2000-01-01 (UTC); infinities alike |
//! | numeric | 1: 0 positive or zero, 1 negative, 2 NaN, 3 infinity, 4 -infinity; when finite 2: weight as int16, then 2 for each base-10000 digit, without zeros at either end |
//!
//! A key of one column is hashed as these bytes. Of a composite key each column is preceded by its length (4 bytes), so that
//! ("ab", "c") and ("a", "bc") differ. The bucket is XXH3-64 with seed 0 modulo the number of buckets.

use super::KeyValue;
use super::key::Numeric;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

pub(super) type KeyBytes = SmallVec<[u8; 64]>;

/// XXH3-64 of the key's canonical bytes.
#[must_use]
pub fn key_hash(values: &[KeyValue]) -> u64 {
    match values {
        [KeyValue::Int(n) | KeyValue::Timestamp(n)] => xxh3_64(&n.to_le_bytes()),
        [KeyValue::Text(bytes)] => xxh3_64(bytes),
        [KeyValue::Uuid(bytes)] => xxh3_64(bytes),
        [value] => xxh3_64(&column_bytes(value)),
        _ => xxh3_64(&composite_bytes(values)),
    }
}

fn composite_bytes(values: &[KeyValue]) -> KeyBytes {
    let mut bytes = KeyBytes::new();
    for value in values {
        let column = column_bytes(value);
        // A value is at most 1 GB, as PostgreSQL's are.
        bytes.extend_from_slice(&(column.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&column);
    }
    bytes
}

fn column_bytes(value: &KeyValue) -> KeyBytes {
    match value {
        KeyValue::Int(n) | KeyValue::Timestamp(n) => KeyBytes::from_slice(&n.to_le_bytes()),
        KeyValue::Date(days) => KeyBytes::from_slice(&days.to_le_bytes()),
        KeyValue::Text(bytes) => KeyBytes::from_slice(bytes),
        KeyValue::Uuid(bytes) => KeyBytes::from_slice(bytes),
        KeyValue::Numeric(numeric) => numeric_bytes(numeric),
    }
}

fn numeric_bytes(numeric: &Numeric) -> KeyBytes {
    let kind = match numeric {
        Numeric::Finite { negative, .. } => u8::from(*negative),
        Numeric::NaN => 2,
        Numeric::Infinity => 3,
        Numeric::NegativeInfinity => 4,
    };
    let mut bytes = KeyBytes::from_slice(&[kind]);
    if let Some((weight, digits)) = numeric.weight_and_digits() {
        bytes.extend_from_slice(&weight.to_le_bytes());
        bytes.extend(digits.iter().flat_map(|digit| digit.to_le_bytes()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::KeyType;

    fn numeric(text: &str) -> KeyBytes {
        let value = KeyType::Numeric.parse_text(text.as_bytes()).unwrap();
        column_bytes(&value)
    }

    #[test]
    fn canonical_bytes_are_as_documented() {
        assert_eq!(
            column_bytes(&KeyValue::Int(-2)).as_slice(),
            (-2_i64).to_le_bytes()
        );
        assert_eq!(column_bytes(&KeyValue::Date(1)).as_slice(), [1, 0, 0, 0]);
        assert_eq!(
            numeric("-10000.5").as_slice(),
            [1, 1, 0, 1, 0, 0, 0, 0x88, 0x13]
        );
        assert_eq!(numeric("0.00").as_slice(), [0, 0, 0]);
        assert_eq!(numeric("NaN").as_slice(), [2]);
        assert_eq!(numeric("-inf").as_slice(), [4]);
    }

    #[test]
    fn hashes_never_change() {
        assert_eq!(
            key_hash(&[KeyValue::Int(42)]),
            xxh3_64(&[42, 0, 0, 0, 0, 0, 0, 0])
        );
        assert_eq!(key_hash(&[KeyValue::Int(42)]) % 1024, 968);
        assert_eq!(
            key_hash(&[KeyValue::Text(b"hello"[..].into())]),
            0x9555_e855_5c62_dcfd
        );
        assert_eq!(
            key_hash(&[KeyValue::Int(1), KeyValue::Date(-1)]),
            8_298_542_096_456_028_844
        );
    }

    #[test]
    fn composite_keys_do_not_run_together() {
        let text = |s: &str| KeyValue::Text(s.as_bytes().into());
        assert_ne!(
            key_hash(&[text("ab"), text("c")]),
            key_hash(&[text("a"), text("bc")])
        );
        assert_ne!(key_hash(&[text("a"), text("")]), key_hash(&[text("a")]));
    }
}
