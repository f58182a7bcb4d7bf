//! A keyspace is a colocation group: tables that share a key type and a placement. It answers on which shard a key lives,
//! and which shards an interval of keys touches. It knows no SQL and does not parse values.

use super::bucket::key_hash;
use super::hash::partition_hash;
use super::{KeyType, KeyValue, ShardId};
use smallvec::SmallVec;
use std::ops::Bound;

/// A key value that no range, list entry or bucket covers: an error for the client, never a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no shard of keyspace \"{keyspace}\" holds this key value")]
pub struct Unmapped {
    pub keyspace: String,
}

/// Shards, sorted, each once.
pub type ShardSet = SmallVec<[ShardId; 8]>;

#[derive(Clone, Debug)]
pub struct Keyspace {
    pub name: String,
    /// types of the key columns, in the order of the tables' `key` lists
    pub types: Vec<KeyType>,
    pub kind: KeyspaceKind,
}

#[derive(Clone, Debug)]
pub enum KeyspaceKind {
    /// bucket = xxh3(canonical key bytes) % buckets.len(); bucket -> shard
    HashXxh3 { buckets: Vec<ShardId> },
    /// bucket = remainder as in `PARTITION BY HASH` with modulus buckets.len(); bucket -> shard
    HashPostgres { buckets: Vec<ShardId> },
    /// sorted, half open [from, to); None is unbounded; one key column
    Range {
        ranges: Vec<(Option<KeyValue>, Option<KeyValue>, ShardId)>,
    },
    /// one key column
    List {
        values: std::collections::HashMap<KeyValue, ShardId>,
    },
}

impl Keyspace {
    /// The shard that holds a key; `values` has one entry per key column, none of them NULL
    /// (NULL keys are refused by the planner on INSERT and match nothing in comparisons).
    pub fn locate(&self, values: &[KeyValue]) -> Result<ShardId, Unmapped> {
        let fits = values.len() == self.types.len()
            && self
                .types
                .iter()
                .zip(values)
                .all(|(key_type, value)| key_type.admits(value));
        let found = if fits { self.lookup(values) } else { None };
        found.ok_or_else(|| Unmapped {
            keyspace: self.name.clone(),
        })
    }

    fn lookup(&self, values: &[KeyValue]) -> Option<ShardId> {
        match &self.kind {
            KeyspaceKind::HashXxh3 { buckets } => bucket(key_hash(values), buckets),
            KeyspaceKind::HashPostgres { buckets } => bucket(partition_hash(values), buckets),
            KeyspaceKind::Range { ranges } => range_of(values.first()?, ranges),
            KeyspaceKind::List { values: shards } => shards.get(values.first()?).copied(),
        }
    }

    /// The bucket of a key, for EXPLAIN; None when the keyspace has none.
    #[must_use]
    pub fn bucket_of(&self, values: &[KeyValue]) -> Option<usize> {
        let (hash, count) = match &self.kind {
            KeyspaceKind::HashXxh3 { buckets } => (key_hash(values), buckets.len()),
            KeyspaceKind::HashPostgres { buckets } => (partition_hash(values), buckets.len()),
            _ => return None,
        };
        remainder(hash, count)
    }

    /// Every shard that may hold a key between the bounds; empty when none can. Only ranges narrow: in any other keyspace
    /// neighbours live anywhere, and these are all its shards. Text compares by its bytes: a predicate under another
    /// collation must not come here.
    #[must_use]
    pub fn shards_between(&self, low: Bound<&KeyValue>, high: Bound<&KeyValue>) -> ShardSet {
        let KeyspaceKind::Range { ranges } = &self.kind else {
            return self.all_shards();
        };
        if is_empty(low, high) {
            return ShardSet::new();
        }
        let touched = ranges.iter().filter(|(from, to, _)| {
            begins_before(from.as_ref(), high) && ends_after(to.as_ref(), low)
        });
        sorted(touched.map(|(_, _, shard)| *shard))
    }

    /// Every shard of this keyspace.
    #[must_use]
    pub fn all_shards(&self) -> ShardSet {
        match &self.kind {
            KeyspaceKind::HashXxh3 { buckets } | KeyspaceKind::HashPostgres { buckets } => {
                sorted(buckets.iter().copied())
            }
            KeyspaceKind::Range { ranges } => sorted(ranges.iter().map(|(_, _, shard)| *shard)),
            KeyspaceKind::List { values } => sorted(values.values().copied()),
        }
    }
}

fn bucket(hash: u64, buckets: &[ShardId]) -> Option<ShardId> {
    buckets.get(remainder(hash, buckets.len())?).copied()
}

fn remainder(hash: u64, count: usize) -> Option<usize> {
    hash.checked_rem(count as u64)
        .map(|remainder| remainder as usize)
}

fn range_of(
    key: &KeyValue,
    ranges: &[(Option<KeyValue>, Option<KeyValue>, ShardId)],
) -> Option<ShardId> {
    let begun = ranges.partition_point(|(from, _, _)| from.as_ref().is_none_or(|from| from <= key));
    let (_, to, shard) = ranges.get(begun.checked_sub(1)?)?;
    to.as_ref().is_none_or(|to| key < to).then_some(*shard)
}

fn is_empty(low: Bound<&KeyValue>, high: Bound<&KeyValue>) -> bool {
    match (low, high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (
            Bound::Included(low) | Bound::Excluded(low),
            Bound::Included(high) | Bound::Excluded(high),
        ) => low >= high,
    }
}

fn begins_before(from: Option<&KeyValue>, high: Bound<&KeyValue>) -> bool {
    match (from, high) {
        (None, _) | (_, Bound::Unbounded) => true,
        (Some(from), Bound::Included(high)) => from <= high,
        (Some(from), Bound::Excluded(high)) => from < high,
    }
}

fn ends_after(to: Option<&KeyValue>, low: Bound<&KeyValue>) -> bool {
    match (to, low) {
        (None, _) | (_, Bound::Unbounded) => true,
        (Some(to), Bound::Included(low) | Bound::Excluded(low)) => low < to,
    }
}

fn sorted(shards: impl Iterator<Item = ShardId>) -> ShardSet {
    // A keyspace may have very many buckets, but few shards.
    let mut set = ShardSet::new();
    for shard in shards {
        if let Err(place) = set.binary_search(&shard) {
            set.insert(place, shard);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keyspace(types: &[KeyType], kind: KeyspaceKind) -> Keyspace {
        Keyspace {
            name: "k".into(),
            types: types.to_vec(),
            kind,
        }
    }

    fn shards(set: &[u16]) -> ShardSet {
        set.iter().map(|n| ShardId(*n)).collect()
    }

    /// [-inf,10) on 0, [10,20) on 1, [20,30) on 0; nothing from 30
    fn ranges() -> Keyspace {
        let int = |n: i64| Some(KeyValue::Int(n));
        let ranges = vec![
            (None, int(10), ShardId(0)),
            (int(10), int(20), ShardId(1)),
            (int(20), int(30), ShardId(0)),
        ];
        keyspace(&[KeyType::BigInt], KeyspaceKind::Range { ranges })
    }

    #[test]
    fn ranges_are_half_open() {
        let at = |n| {
            ranges()
                .locate(&[KeyValue::Int(n)])
                .map(|shard| shard.0)
                .ok()
        };
        assert_eq!(
            [at(i64::MIN), at(9), at(10), at(19), at(20), at(29)].map(Option::unwrap),
            [0, 0, 1, 1, 0, 0]
        );
        assert_eq!([at(30), at(i64::MAX)], [None, None]);
    }

    #[test]
    fn intervals_touch_only_their_ranges() {
        let ten = KeyValue::Int(10);
        let (nineteen, thirty) = (KeyValue::Int(19), KeyValue::Int(30));
        let between = |low, high| ranges().shards_between(low, high);
        assert_eq!(
            between(Bound::Unbounded, Bound::Excluded(&ten)),
            shards(&[0])
        );
        assert_eq!(
            between(Bound::Unbounded, Bound::Included(&ten)),
            shards(&[0, 1])
        );
        assert_eq!(
            between(Bound::Included(&ten), Bound::Included(&nineteen)),
            shards(&[1])
        );
        assert_eq!(
            between(Bound::Included(&thirty), Bound::Unbounded),
            shards(&[])
        );
        assert_eq!(
            between(Bound::Excluded(&ten), Bound::Included(&ten)),
            shards(&[])
        );
        assert_eq!(between(Bound::Unbounded, Bound::Unbounded), shards(&[0, 1]));
    }

    #[test]
    fn lists_know_their_values_only() {
        let text = |s: &str| KeyValue::Text(s.as_bytes().into());
        let values = [(text("de"), ShardId(1))].into();
        let list = keyspace(&[KeyType::Text], KeyspaceKind::List { values });
        assert_eq!(list.locate(&[text("de")]), Ok(ShardId(1)));
        let unmapped = list.locate(&[text("fr")]).unwrap_err();
        assert_eq!(
            unmapped.to_string(),
            "no shard of keyspace \"k\" holds this key value"
        );
    }

    #[test]
    fn values_of_another_kind_or_number_are_unmapped() {
        let hash = KeyspaceKind::HashXxh3 {
            buckets: vec![ShardId(0)],
        };
        let hash = keyspace(&[KeyType::BigInt], hash);
        assert!(hash.locate(&[KeyValue::Date(1)]).is_err());
        assert!(hash.locate(&[]).is_err());
        assert!(hash.locate(&[KeyValue::Int(1), KeyValue::Int(1)]).is_err());
        assert!(
            keyspace(
                &[KeyType::BigInt],
                KeyspaceKind::HashXxh3 { buckets: vec![] }
            )
            .locate(&[KeyValue::Int(1)])
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_located_key_is_in_every_interval_around_it(key in -5_i64..40, below in 0_i64..10, above in 0_i64..10) {
            let keyspace = ranges();
            let (low, high) = (KeyValue::Int(key - below), KeyValue::Int(key + above));
            let touched = keyspace.shards_between(Bound::Included(&low), Bound::Included(&high));
            if let Ok(shard) = keyspace.locate(&[KeyValue::Int(key)]) {
                prop_assert!(touched.contains(&shard));
                let open = keyspace.shards_between(Bound::Excluded(&KeyValue::Int(key - 1)), Bound::Excluded(&KeyValue::Int(key + 1)));
                prop_assert!(open.contains(&shard));
            }
        }

        #[test]
        fn every_key_has_a_bucket(key in any::<i64>(), text in any::<Vec<u8>>(), count in 1_usize..5000) {
            let buckets: Vec<ShardId> = (0..count).map(|n| ShardId((n % 7) as u16)).collect();
            let key = [KeyValue::Int(key), KeyValue::Text(text.into())];
            for kind in [KeyspaceKind::HashXxh3 { buckets: buckets.clone() }, KeyspaceKind::HashPostgres { buckets: buckets.clone() }] {
                let keyspace = keyspace(&[KeyType::Integer, KeyType::Text], kind);
                let shard = keyspace.locate(&key).unwrap();
                prop_assert_eq!(buckets[keyspace.bucket_of(&key).unwrap()], shard);
            }
        }

        #[test]
        fn parsing_never_panics(text in any::<Vec<u8>>()) {
            for name in KeyType::names() {
                let key_type = KeyType::of_name(name).unwrap();
                let _ = key_type.parse_text(&text);
                let _ = key_type.parse_binary(&text);
            }
        }

        #[test]
        fn what_is_shown_reads_back(days in -2_451_545_i32..2_145_031_949, micros in -211_813_488_000_000_000_i64..9_223_371_331_200_000_000, text in "-?[0-9]{0,30}\\.?[0-9]{1,30}(e-?[0-9]{1,2})?") {
            let date = KeyValue::Date(days);
            prop_assert_eq!(KeyType::Date.parse_text(date.to_string().as_bytes()), Ok(date));
            let timestamp = KeyValue::Timestamp(micros);
            prop_assert_eq!(KeyType::Timestamp.parse_text(timestamp.to_string().as_bytes()), Ok(timestamp));
            let numeric = KeyType::Numeric.parse_text(text.as_bytes()).unwrap();
            prop_assert_eq!(KeyType::Numeric.parse_text(numeric.to_string().as_bytes()), Ok(numeric));
        }
    }
}
