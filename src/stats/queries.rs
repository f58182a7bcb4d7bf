//! A bounded table of statements by fingerprint. When it is full, statements not seen before are counted together in
//! one row until a sweep has made room. It knows nothing of SQL: the shape of a statement is a text somebody made.

use super::latency::Coarse;
use super::shards::ShardTally;
use super::ways::Ways;
use super::{Executed, Outcome, ServedBy};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Fingerprints are per database: the same text may go to other shards there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub fingerprint: u128,
    pub database: u32,
}

/// What is counted for one statement, about 240 bytes and its histogram (448 bytes to 1.9 KB).
#[derive(Clone, Debug)]
pub struct QueryTotals {
    pub calls: u64,
    /// failed and refused
    pub errors: u64,
    pub rows: u64,
    pub replica_reads: u64,
    pub shards: ShardTally,
    pub ways: Ways,
    pub latency: Coarse,
}

impl Default for QueryTotals {
    fn default() -> Self {
        Self {
            calls: 0,
            errors: 0,
            rows: 0,
            replica_reads: 0,
            shards: ShardTally::default(),
            ways: Ways::default(),
            latency: Coarse::coarse(),
        }
    }
}

impl QueryTotals {
    fn record(&mut self, executed: &Executed<'_>) {
        self.calls += 1;
        self.errors += u64::from(executed.outcome != Outcome::Done);
        self.rows += executed.rows;
        self.replica_reads += u64::from(executed.served_by == ServedBy::Replica);
        self.shards.record(executed.shards);
        self.ways.record(executed.way);
        self.latency.record(executed.duration);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.errors += other.errors;
        self.rows += other.rows;
        self.replica_reads += other.replica_reads;
        self.shards.add(&other.shards);
        self.ways.add(&other.ways);
        self.latency.add(&other.latency);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub shape: Arc<str>,
    pub totals: QueryTotals,
    /// calls at the last sweep
    swept: u64,
}

/// One worker's table.
#[derive(Debug, Default)]
pub(super) struct QueryTable {
    entries: HashMap<Key, Entry, BuildHasherDefault<FingerprintHasher>>,
    /// statements that found no room, and those swept out
    pub other: QueryTotals,
}

impl QueryTable {
    pub fn record(&mut self, database: u32, executed: &Executed<'_>, max: usize) {
        let key = Key {
            fingerprint: executed.fingerprint,
            database,
        };
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.totals.record(executed);
        } else if self.entries.len() < max {
            let mut totals = QueryTotals::default();
            totals.record(executed);
            self.entries.insert(
                key,
                Entry {
                    shape: Arc::clone(executed.shape),
                    totals,
                    swept: 0,
                },
            );
        } else {
            self.other.record(executed);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// When the table is full, a tenth of it makes room: the statements least called since the last sweep, and among
    /// those the least called of all. What they counted moves to `other`.
    pub fn sweep(&mut self, max: usize) {
        if self.entries.len() >= max {
            self.evict(max - max.div_ceil(10).min(max));
        }
        for entry in self.entries.values_mut() {
            entry.swept = entry.totals.calls;
            entry.totals.latency.make_room();
        }
        self.other.latency.make_room();
    }

    fn evict(&mut self, keep: usize) {
        let mut ranked: Vec<_> = self
            .entries
            .iter()
            .map(|(key, entry)| ((entry.totals.calls - entry.swept, entry.totals.calls), *key))
            .collect();
        ranked.sort_unstable_by_key(|(rank, _)| std::cmp::Reverse(*rank));
        for (_, key) in ranked.into_iter().skip(keep) {
            if let Some(entry) = self.entries.remove(&key) {
                self.other.add(&entry.totals);
            }
        }
    }
}

/// A fingerprint is a hash already: its halves and the database are folded, nothing is mixed again.
#[derive(Debug, Default)]
pub(super) struct FingerprintHasher(u64);

impl Hasher for FingerprintHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 ^= u64::from(n);
    }

    fn write_u128(&mut self, n: u128) {
        self.0 ^= (n >> 64) as u64 ^ n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::ShardSet;
    use std::time::Duration;

    fn call(table: &mut QueryTable, fingerprint: u128, times: usize, max: usize) {
        let shape: Arc<str> = format!("SELECT {fingerprint}").into();
        for _ in 0..times {
            let executed = Executed {
                fingerprint,
                shape: &shape,
                duration: Duration::from_millis(1),
                rows: 2,
                outcome: Outcome::Done,
                served_by: ServedBy::Replica,
                shards: ShardSet::one(0),
                way: None,
            };
            table.record(0, &executed, max);
        }
    }

    fn calls(table: &QueryTable) -> u64 {
        table.iter().map(|(_, e)| e.totals.calls).sum::<u64>() + table.other.calls
    }

    #[test]
    fn a_full_table_counts_newcomers_together_until_a_sweep_makes_room() {
        let mut table = QueryTable::default();
        for fingerprint in 0..10 {
            call(&mut table, fingerprint, 2 + fingerprint as usize, 10);
        }
        call(&mut table, 99, 3, 10);
        assert_eq!((table.iter().count(), table.other.calls), (10, 3));
        table.sweep(10);
        assert_eq!(table.iter().count(), 9);
        assert!(
            table.iter().all(|(key, _)| key.fingerprint != 0),
            "the least called went"
        );
        call(&mut table, 99, 1, 10);
        assert!(table.iter().any(|(key, _)| key.fingerprint == 99));
        assert_eq!(calls(&table), 65 + 3 + 1);
    }

    #[test]
    fn a_newcomer_in_use_outlives_an_old_favourite_nobody_calls() {
        let mut table = QueryTable::default();
        call(&mut table, 1, 1000, 2);
        table.sweep(2);
        call(&mut table, 2, 5, 2);
        table.sweep(2);
        let left: Vec<u128> = table.iter().map(|(key, _)| key.fingerprint).collect();
        assert_eq!(left, [2]);
        assert_eq!(table.other.calls, 1000);
    }

    #[test]
    fn no_room_at_all_still_counts() {
        let mut table = QueryTable::default();
        call(&mut table, 1, 4, 0);
        table.sweep(0);
        assert_eq!(
            (table.iter().count(), table.other.calls, table.other.rows),
            (0, 4, 8)
        );
    }
}
