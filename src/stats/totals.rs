//! What is counted for one user of one database. Plain numbers; who counts them and when is not known here.

use super::latency::Fine;
use super::ways::Ways;
use super::{Executed, Outcome, ServedBy};
use std::time::Duration;

/// What happened besides statements, counted in one go at the end of a batch. Bytes are the client's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub transactions: u64,
    /// read from the client
    pub bytes_in: u64,
    /// written to the client
    pub bytes_out: u64,
    /// checkouts that had to wait for a server
    pub waits: u64,
    /// time spent in those waits
    pub wait: Duration,
    /// statements refused that have no fingerprint (what could not even be scanned)
    pub refused: u64,
    /// sessions that began to keep a server beyond a transaction
    pub pins: u64,
}

/// Everything since the start.
#[derive(Clone, Debug)]
pub struct Totals {
    pub queries: u64,
    pub transactions: u64,
    /// statements that failed on a server or on the way to it
    pub errors: u64,
    /// statements that pgshunt itself would not run
    pub refused: u64,
    /// times a session began to keep a server beyond a transaction
    pub pins: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub waits: u64,
    pub wait: Duration,
    pub replica_reads: u64,
    pub primary_reads: u64,
    pub writes: u64,
    pub ways: Ways,
    pub latency: Fine,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            queries: 0,
            transactions: 0,
            errors: 0,
            refused: 0,
            pins: 0,
            bytes_in: 0,
            bytes_out: 0,
            waits: 0,
            wait: Duration::ZERO,
            replica_reads: 0,
            primary_reads: 0,
            writes: 0,
            ways: Ways::default(),
            latency: Fine::fine(),
        }
    }
}

impl Totals {
    pub(super) fn record(&mut self, executed: &Executed<'_>) {
        self.queries += 1;
        match executed.outcome {
            Outcome::Done => {}
            Outcome::Failed => self.errors += 1,
            Outcome::Refused => self.refused += 1,
        }
        match executed.served_by {
            ServedBy::Replica => self.replica_reads += 1,
            ServedBy::Primary => self.primary_reads += 1,
            ServedBy::Write => self.writes += 1,
            ServedBy::Nobody => {}
        }
        self.ways.record(executed.way);
        self.latency.record(executed.duration);
    }

    pub(super) fn count(&mut self, counts: &Counts) {
        self.transactions += counts.transactions;
        self.refused += counts.refused;
        self.pins += counts.pins;
        self.bytes_in += counts.bytes_in;
        self.bytes_out += counts.bytes_out;
        self.waits += counts.waits;
        self.wait = self.wait.saturating_add(counts.wait);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.queries += other.queries;
        self.transactions += other.transactions;
        self.errors += other.errors;
        self.refused += other.refused;
        self.pins += other.pins;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.waits += other.waits;
        self.wait = self.wait.saturating_add(other.wait);
        self.replica_reads += other.replica_reads;
        self.primary_reads += other.primary_reads;
        self.writes += other.writes;
        self.ways.add(&other.ways);
        self.latency.add(&other.latency);
    }
}
