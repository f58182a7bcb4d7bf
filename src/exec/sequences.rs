//! `currval()` and `lastval()`: what a sequence has last given to a session only the server knows that gave it, and it does not
//! know that its sessions change. So a session gets the server back on which it has written, as long as there are others
//! for the others, and is answered when nobody else has written there. Where somebody asks at all, a server forgets what it
//! has given to others before another session writes there.

use super::executor::Executor;
use super::failure::{Failure, Report};
use super::held::Held;
use super::job::Job;
use crate::cluster::topology::ServerId;
use crate::pool::Borrower;
use crate::pool::outstanding::Fate;
use crate::pool::server::{Answer, NOBODY, Status};
use crate::shard::ShardId;
use crate::wire::message;
use crate::wire::sqlstate::SqlState;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a session waits for the server that knows, while others read there.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Servers that are made to forget before it is known whether anybody asks.
const UNTIL_KNOWN: u32 = 10_000;
/// Somebody has asked.
const FOR_GOOD: u32 = u32::MAX;

/// Whether sessions of this database ask what sequences have given to them: who begins with it does so soon.
pub struct Asking {
    left: AtomicU32,
}

impl Default for Asking {
    fn default() -> Self {
        Self {
            left: AtomicU32::new(UNTIL_KNOWN),
        }
    }
}

impl Asking {
    fn is_likely(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    fn note_asked(&self) {
        self.left.store(FOR_GOOD, Ordering::Relaxed);
    }

    /// A server was made to forget.
    fn note_provision(&self) {
        let less = |left: u32| (left != FOR_GOOD).then(|| left.saturating_sub(1));
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// Where a session has written: any write may have called `nextval()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    #[default]
    Nowhere,
    On(Place),
    /// since nobody had written there; before that elsewhere, and what that server does not know is not known
    Since(Place),
    /// on several, or on one where others have written in between
    Scattered,
}

/// A server, its process, and how often those who write there had changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    member: ServerId,
    pid: i32,
    writers: u32,
}

impl Place {
    fn of(held: &Held) -> Self {
        Self {
            member: held.member,
            pid: held.server.pid,
            writers: held.server.writers,
        }
    }
}

impl Written {
    /// This session writes there.
    pub fn note(&mut self, held: &mut Held, session: u64) {
        let unwritten = held.server.is_unwritten();
        held.note_write(session);
        let here = Place::of(held);
        *self = match *self {
            Self::Nowhere => Self::On(here),
            before if before.place() == Some(here) => before,
            _ if unwritten => Self::Since(here),
            _ => Self::Scattered,
        };
        if let Some(whose) = self.at_home(session) {
            held.server.keep_for(Some(whose));
        }
    }

    /// The server that knows.
    fn place(self) -> Option<Place> {
        match self {
            Self::On(place) | Self::Since(place) => Some(place),
            Self::Nowhere | Self::Scattered => None,
        }
    }

    /// As whom the session asks its pool for a server: by name where it would like the one it had.
    pub fn at_home(&self, session: u64) -> Borrower {
        self.place().and(NonZeroU64::new(session))
    }
}

impl Executor {
    /// Takes the server that the session has written on, before its pool gives it another.
    pub(super) async fn go_home(&mut self, shard: ShardId) -> Result<(), Failure> {
        let Some(Place { member, .. }) = self.written.place() else {
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

    /// Before a session's first write on a server, or before it stays there: what sequences have given to others there is
    /// forgotten, as it could not be told from the session's own any more.
    pub(super) async fn claim_sequences(&mut self, job: &Job, index: usize) -> Result<(), Failure> {
        let held = &self.held[index];
        let settles = job.effects.pins.is_some() && held.pin.is_none();
        let own = held.server.is_written_only_by(self.id);
        if held.server.is_unwritten()
            || own && self.written.place() == Some(Place::of(held))
            || held.wrote
            || held.batch_open
            || !settles && !self.backend.asking.is_likely()
        {
            return Ok(());
        }
        if held.server.in_step() && held.server.status() == Status::Failed {
            return Ok(());
        }
        Box::pin(self.forget_foreign_sequences(index)).await
    }

    async fn forget_foreign_sequences(&mut self, index: usize) -> Result<(), Failure> {
        let held = &mut self.held[index];
        match held.run("DISCARD SEQUENCES", Fate::Skip).await {
            Ok(answer) => match &answer.own_error {
                None => {
                    held.server.written_by(NOBODY);
                    self.backend.asking.note_provision();
                    Ok(self.still_wanted()?)
                }
                // a cancel request was meant for the statement that would have come next
                Some(error) => {
                    self.client.show_error(error);
                    self.give_up_not_begun(index);
                    Err(Failure::Shown)
                }
            },
            Err(error) => Err(self.lost(index, &error)),
        }
    }

    /// All that has ever been written on this server is the session's, and it has written nowhere else, or in this
    /// transaction.
    pub(super) fn guard_sequence(&self, index: usize) -> Result<(), Failure> {
        self.backend.asking.note_asked();
        let held = &self.held[index];
        let own = held.server.is_written_only_by(self.id);
        let here = self.written.place() == Some(Place::of(held));
        if own && (here || held.in_transaction && held.wrote) {
            return Ok(());
        }
        if self.written == Written::Nowhere {
            let message = "currval or lastval is not yet defined in this session";
            return Err(Report::new(SqlState::NOT_IN_PREREQUISITE_STATE, message).into());
        }
        Err(not_known().into())
    }

    /// It asks for what may have been given elsewhere.
    pub(super) fn may_lack_sequence(&self, job: &Job) -> bool {
        job.effects.asks_sequence && !matches!(self.written, Written::On(_))
    }

    /// The server says that a sequence has given nothing yet, and the session was elsewhere before: that is told instead.
    pub(super) fn unknown_sequence(&mut self, job: &Job, answer: &Answer) -> Option<Report> {
        if !self.may_lack_sequence(job) {
            return None;
        }
        let error = answer.error.as_deref()?;
        let undefined = SqlState::NOT_IN_PREREQUISITE_STATE.0;
        if message::error_field(error, b'C') != Some(undefined) || !self.client.take_back(error) {
            return None;
        }
        Some(not_known())
    }

    /// The session has ended, or wants nothing of what it has written.
    pub fn forget_written(&mut self) {
        if let (Some(place), Some(whose)) = (self.written.place(), self.written.at_home(self.id))
            && let Some(entry) = self.entries.iter().find(|e| e.member == place.member)
        {
            entry.pool.forget(whose);
        }
        self.written = Written::Nowhere;
    }
}

fn not_known() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "currval() or lastval() after this session has written on another server, or others on this one",
    )
    .hint("Use INSERT … RETURNING, or ask in the transaction that has called nextval().")
}
