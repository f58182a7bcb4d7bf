//! `currval()` and `lastval()`: what a sequence has last given to a session only the server knows that gave it, and it does not
//! know that its sessions change. So a session gets the server back on which it has written, as long as there are others
//! for the others, and is answered when nobody else has written there.

use super::executor::Executor;
use super::failure::{Failure, Report};
use super::held::Held;
use crate::cluster::topology::ServerId;
use crate::pool::Borrower;
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use std::num::NonZeroU64;
use std::time::Duration;

/// How long a session waits for the server that knows, while others read there.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Where a session has written: any write may have called `nextval()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    #[default]
    Nowhere,
    /// on one server only: its process, and how often those who write there had changed
    On(ServerId, i32, u64),
    /// on several, or on one where others have written in between
    Scattered,
}

impl Written {
    fn on(held: &Held) -> Self {
        Self::On(held.member, held.server.pid, held.server.writers)
    }

    /// This session has written there.
    pub fn note(&mut self, held: &mut Held, session: u64) {
        let here = Self::on(held);
        match *self {
            Self::Nowhere => *self = here,
            before if before == here => {}
            _ => *self = Self::Scattered,
        }
        if let Some(whose) = self.at_home(session) {
            held.server.keep_for(Some(whose));
        }
    }

    /// As whom the session asks its pool for a server: by name where it would like the one it had.
    pub fn at_home(&self, session: u64) -> Borrower {
        match self {
            Self::On(..) => NonZeroU64::new(session),
            Self::Nowhere | Self::Scattered => None,
        }
    }
}

impl Executor {
    /// Takes the server that the session has written on, before its pool gives it another.
    pub(super) async fn go_home(&mut self, shard: ShardId) -> Result<(), Failure> {
        let Written::On(member, ..) = self.written else {
            return Ok(());
        };
        let Some(whose) = self.written.at_home(self.id) else {
            return Ok(());
        };
        if member.shard != shard || self.held.iter().any(|held| held.shard == shard) {
            return Ok(());
        }
        let entry = self.entry(member)?;
        // it may be lent to several at a time
        entry.lanes.recall();
        let longest = self.snapshot.database.pool.wait_max.min(WAIT_MAX);
        let kept = entry.pool.checkout_kept(whose, longest);
        let kept = self.unless_cancelled("a server", kept).await?;
        if let Some(mut server) = kept.filter(|_| self.backend.topology.primary(shard) == member)
            && server.still_there()
        {
            server.info.note_busy();
            self.hold(Held::new(shard, member, false, server));
        }
        Ok(())
    }

    /// All that the session has ever written is on this server, and nobody else has written there since; or its
    /// transaction has.
    pub(super) fn guard_sequence(&self, index: usize) -> Result<(), Failure> {
        let held = &self.held[index];
        if held.in_transaction && held.wrote || self.written == Written::on(held) {
            return Ok(());
        }
        if self.written == Written::Nowhere {
            let message = "currval or lastval is not yet defined in this session";
            return Err(Report::new(SqlState::NOT_IN_PREREQUISITE_STATE, message).into());
        }
        Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "currval() or lastval() after this session has written on another server, or others on this one",
        )
        .hint("Use INSERT … RETURNING, or ask in the transaction that has called nextval().")
        .into())
    }

    /// The session has ended, or wants nothing of what it has written.
    pub fn forget_written(&mut self) {
        if let (Written::On(member, ..), Some(whose)) =
            (self.written, self.written.at_home(self.id))
            && let Some(entry) = self.entries.iter().find(|entry| entry.member == member)
        {
            entry.pool.forget(whose);
        }
        self.written = Written::Nowhere;
    }
}
