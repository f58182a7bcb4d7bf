//! `currval()` and `lastval()`: what a sequence has last given to a session only the server knows that gave it, and it does not
//! know that its sessions change.

use super::executor::Executor;
use super::failure::{Failure, Report};
use super::held::Held;
use crate::cluster::topology::ServerId;
use crate::wire::sqlstate::SqlState;

/// Where a session has written: any write may have called `nextval()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    #[default]
    Nowhere,
    /// on one server only: its process, and how often that had changed hands
    On(ServerId, i32, u64),
    /// on several, or on one that others have had in between
    Scattered,
}

impl Written {
    fn on(held: &Held) -> Self {
        Self::On(held.member, held.server.pid, held.server.changes)
    }

    pub fn note(&mut self, held: &Held) {
        let here = Self::on(held);
        match *self {
            Self::Nowhere => *self = here,
            before if before == here => {}
            _ => *self = Self::Scattered,
        }
    }
}

impl Executor {
    /// The answer is the session's own where all it has ever written is on this server, which nobody has had in between, or
    /// where its transaction has written here.
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
}
