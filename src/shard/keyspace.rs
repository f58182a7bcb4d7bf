//! A keyspace is a colocation group: tables that share a key type and a placement.

use super::{KeyType, KeyValue, ShardId};

/// A key value that no range, list entry or bucket covers: an error for the client, never a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no shard of keyspace \"{keyspace}\" holds this key value")]
pub struct Unmapped {
    pub keyspace: String,
}

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
    pub fn locate(&self, _values: &[KeyValue]) -> Result<ShardId, Unmapped> {
        todo!()
    }
}
