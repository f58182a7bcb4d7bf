//! PostgreSQL's partition hash: the extended hash functions of the key types (Jenkins lookup3, 64 bit out), combined over
//! the columns as `satisfies_hash_partition` does. Little-endian servers, as all that PostgreSQL is commonly built for.
//! It knows nothing of buckets and shards.

use super::KeyValue;
use super::key::Numeric;
use smallvec::SmallVec;

/// `HASH_PARTITION_SEED` of PostgreSQL's partition/partbounds.h.
const HASH_PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;

/// The row hash of a partition key without NULLs; the remainder is this modulo the modulus.
#[must_use]
pub fn partition_hash(values: &[KeyValue]) -> u64 {
    values.iter().fold(0, |row, value| {
        hash_combine64(row, hash_value(value, HASH_PARTITION_SEED))
    })
}

/// The type's own extended hash function.
#[must_use]
pub fn hash_value(value: &KeyValue, seed: u64) -> u64 {
    match value {
        KeyValue::Int(n) | KeyValue::Timestamp(n) => hash_int8(*n, seed),
        KeyValue::Date(days) => hash_int8(i64::from(*days), seed),
        KeyValue::Text(bytes) => hash_bytes_extended(bytes, seed),
        KeyValue::Uuid(bytes) => hash_bytes_extended(bytes, seed),
        KeyValue::Numeric(numeric) => hash_numeric(numeric, seed),
    }
}

/// hashint8extended; gives the same as hashint2extended and hashint4extended for values that fit those.
fn hash_int8(value: i64, seed: u64) -> u64 {
    let bits = value.cast_unsigned();
    let [low, high] = [bits as u32, (bits >> 32) as u32];
    let folded = low ^ if value >= 0 { high } else { !high };
    hash_bytes_extended(&folded.to_le_bytes(), seed)
}

/// hash_numeric_extended: digits (base 10000, as int16) and weight; neither sign nor scale.
fn hash_numeric(numeric: &Numeric, seed: u64) -> u64 {
    let Some((weight, digits)) = numeric.weight_and_digits() else {
        return seed;
    };
    if digits.is_empty() {
        return seed.wrapping_sub(1);
    }
    let bytes: SmallVec<[u8; 32]> = digits
        .iter()
        .flat_map(|digit| digit.to_le_bytes())
        .collect();
    hash_bytes_extended(&bytes, seed) ^ i64::from(weight).cast_unsigned()
}

fn hash_combine64(a: u64, b: u64) -> u64 {
    a ^ b
        .wrapping_add(0x49a0_f4dd_15e5_a8e3)
        .wrapping_add(a << 54)
        .wrapping_add(a >> 7)
}

/// `hash_bytes_extended` of PostgreSQL's common/hashfn.c.
#[must_use]
pub fn hash_bytes_extended(bytes: &[u8], seed: u64) -> u64 {
    // The length wraps at 32 bits there, too.
    let start = 0x9e37_79b9_u32
        .wrapping_add(bytes.len() as u32)
        .wrapping_add(3_923_095);
    let mut state = [start; 3];
    if seed != 0 {
        state[0] = state[0].wrapping_add((seed >> 32) as u32);
        state[1] = state[1].wrapping_add(seed as u32);
        mix(&mut state);
    }
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        add_words(&mut state, block);
        mix(&mut state);
    }
    add_tail(&mut state, blocks.remainder());
    finish(&mut state);
    (u64::from(state[1]) << 32) | u64::from(state[2])
}

fn add_words(state: &mut [u32; 3], block: &[u8]) {
    for (word, four) in state.iter_mut().zip(block.chunks(4)) {
        *word = word.wrapping_add(little_endian(four));
    }
}

/// The last 0 to 11 bytes. In the third word the lowest byte is left for the length, so its bytes stand one higher.
fn add_tail(state: &mut [u32; 3], tail: &[u8]) {
    let (front, last) = tail.split_at(tail.len().min(8));
    add_words(state, front);
    state[2] = state[2].wrapping_add(little_endian(last) << 8);
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| (word << 8) | u32::from(*byte))
}

fn mix([a, b, c]: &mut [u32; 3]) {
    // one step: x -= z; x ^= rot(z, k); z += y
    fn step(x: &mut u32, z: &mut u32, y: u32, k: u32) {
        *x = x.wrapping_sub(*z) ^ z.rotate_left(k);
        *z = z.wrapping_add(y);
    }
    step(a, c, *b, 4);
    step(b, a, *c, 6);
    step(c, b, *a, 8);
    step(a, c, *b, 16);
    step(b, a, *c, 19);
    step(c, b, *a, 4);
}

fn finish([a, b, c]: &mut [u32; 3]) {
    fn step(x: &mut u32, y: u32, k: u32) {
        *x = (*x ^ y).wrapping_sub(y.rotate_left(k));
    }
    step(c, *b, 14);
    step(a, *c, 11);
    step(b, *a, 25);
    step(c, *b, 16);
    step(a, *c, 4);
    step(b, *a, 14);
    step(c, *b, 24);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::KeyType;

    #[test]
    fn fixed_vectors_of_postgres() {
        for line in include_str!("hash_vectors.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            let [type_name, text, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("three columns: {line}");
            };
            let value = KeyType::of_name(type_name)
                .unwrap()
                .parse_text(text.as_bytes())
                .unwrap();
            let expected: i64 = expected.parse().unwrap();
            assert_eq!(
                hash_value(&value, HASH_PARTITION_SEED),
                expected.cast_unsigned(),
                "{line}"
            );
        }
    }

    #[test]
    fn columns_are_combined_in_order() {
        let (one, two) = (KeyValue::Int(1), KeyValue::Int(2));
        assert_ne!(
            partition_hash(&[one.clone(), two.clone()]),
            partition_hash(&[two, one])
        );
    }
}
