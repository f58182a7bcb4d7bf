//! The shard map as arithmetic: key value -> bucket -> shard. Knows no SQL text and no sockets.

pub mod bucket;
pub mod hash;
pub mod key;
pub mod keyspace;

pub use key::{KeyError, KeyType, KeyValue};
pub use keyspace::{Keyspace, KeyspaceKind, ShardSet, Unmapped};

/// Position of a shard in its database's `shards` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
