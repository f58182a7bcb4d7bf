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
    Range { ranges: Vec<(Option<KeyValue>, Option<KeyValue>, ShardId)> },
    /// one key column
    List { values: std::collections::HashMap<KeyValue, ShardId> },
}

impl Keyspace {
    /// The shard that holds a key; `values` has one entry per key column, none of them NULL
    /// (NULL keys are refused by the planner on INSERT and match nothing in comparisons).
    pub fn locate(&self, values: &[KeyValue]) -> Result<ShardId, Unmapped> {
        let fits = values.len() == self.types.len()
            && self.types.iter().zip(values).all(|(key_type, value)| key_type.admits(value));
        let found = if fits { self.lookup(values) } else { None };
        found.ok_or_else(|| Unmapped { keyspace: self.name.clone() })
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
    hash.checked_rem(count as u64).map(|remainder| remainder as usize)
}

fn range_of(key: &KeyValue, ranges: &[(Option<KeyValue>, Option<KeyValue>, ShardId)]) -> Option<ShardId> {
    let begun = ranges.partition_point(|(from, _, _)| from.as_ref().is_none_or(|from| from <= key));
    let (_, to, shard) = ranges.get(begun.checked_sub(1)?)?;
    to.as_ref().is_none_or(|to| key < to).then_some(*shard)
}

fn is_empty(low: Bound<&KeyValue>, high: Bound<&KeyValue>) -> bool {
    match (low, high) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => low >= high,
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
