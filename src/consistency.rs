//! Read-your-writes as values: WAL positions, what a session must see, what a server shows.
//! No clock and no sockets: time comes in as an argument.
//!
//! The argument in one paragraph. A session that wrote must see the first primary sample *asked for after* its commit
//! was acknowledged: the insert position is past the commit record by then. A replica may serve it once its own replay
//! position, on the same history, has reached that sample. What a read has shown is bounded the same way: nothing it
//! showed can lie past the first primary sample asked for after it ended.

pub mod choice;
pub mod lsn;
pub mod named;
pub mod samples;
pub mod token;
pub mod watermarks;

pub use choice::{Choice, PrimaryView, ReplicaView, ShardView};
pub use lsn::WalLayout;
pub use named::NamedSessions;
pub use samples::Samples;
pub use token::TokenError;
pub use watermarks::{Mark, Watermarks};

use std::fmt;
use std::time::Instant;

/// A WAL position (bytes), normalised: a position just past a page or segment header is the page's start (hazard 26).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

/// As Postgres writes it: `0/5000028`.
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A position on one history of one database cluster; positions of different histories do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub system_id: u64,
    pub timeline: u32,
    pub lsn: Lsn,
    pub xid: Option<Xid>,
}

/// A bound of transaction numbers (64 bits, as `pg_current_snapshot()` counts them). Of a primary: every transaction that
/// had ended is below it. Of a replica: every transaction below it has ended there. WAL that no commit waits for (pruning,
/// hint bits, snapshots of running transactions) stays unflushed for a while, and a replica cannot reach the position of
/// a sample that counts it; that everything has ended there all the same is seen by this bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xid(pub u64);

impl Position {
    #[must_use]
    pub fn same_history(self, other: Self) -> bool {
        self.system_id == other.system_id && self.timeline == other.timeline
    }

    /// True when a server at this position shows all that `needed` stands for.
    #[must_use]
    pub fn reaches(self, needed: Self) -> bool {
        let ended = matches!((self.xid, needed.xid), (Some(here), Some(there)) if here >= there);
        self.same_history(needed) && (self.lsn >= needed.lsn || ended)
    }

    /// What stands for both; None when they are of different histories.
    #[must_use]
    pub fn join(self, other: Self) -> Option<Self> {
        let later = |other: Self| Self {
            lsn: self.lsn.max(other.lsn),
            xid: self.xid.zip(other.xid).map(|(a, b)| a.max(b)),
            ..self
        };
        self.same_history(other).then(|| later(other))
    }
}

/// One reading of a server's WAL position (insert position of a primary, replay position of a replica).
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// taken before the question was sent
    pub asked_at: Instant,
    pub position: Position,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    Eventual,
    /// replicas whose lag is at most so many milliseconds
    Bounded(u32),
    #[default]
    Session,
    /// always the primary
    Strong,
}
