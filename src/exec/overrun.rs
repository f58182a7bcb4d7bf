//! A client that takes longer than the shard map allows: what it is told, and whether that is the end of its connection.
//! Written by the sweep that watches the clocks, read by the session where it would otherwise speak of a cancel request.

use super::failure::Report;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub report: Report,
    pub scope: Scope,
}

/// What ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Statement,
    /// the connection, unless the client has begun something else by then
    Connection,
    ConnectionForGood,
}

impl Verdict {
    #[must_use]
    pub fn ends_connection(&self) -> bool {
        self.scope != Scope::Statement
    }
}

/// The verdict on what a session is doing at this moment, if there is one.
#[derive(Debug, Default)]
pub struct Overrun {
    passed: AtomicBool,
    verdict: Mutex<Option<Box<Verdict>>>,
}

impl Overrun {
    pub fn pass(&self, verdict: Verdict) {
        *self.verdict.lock() = Some(Box::new(verdict));
        self.passed.store(true, Ordering::SeqCst);
    }

    /// The session has begun something else. Whether a verdict holds for that, too.
    pub fn lift(&self) -> bool {
        if !self.passed.load(Ordering::SeqCst) {
            return false;
        }
        let mut verdict = self.verdict.lock();
        let stays = |verdict: &Verdict| verdict.scope == Scope::ConnectionForGood;
        let stays = verdict.as_deref().is_some_and(stays);
        if !stays {
            self.passed.store(false, Ordering::SeqCst);
            *verdict = None;
        }
        stays
    }

    /// What is said of a statement that was cancelled by it.
    #[must_use]
    pub fn of_statement(&self) -> Option<Report> {
        self.where_it(|_| true)
    }

    /// The last word to the client, if its connection ends by it.
    #[must_use]
    pub fn of_connection(&self) -> Option<Report> {
        self.where_it(Verdict::ends_connection)
    }

    /// The same, if that holds whatever the client has begun since.
    #[must_use]
    pub fn for_good(&self) -> Option<Report> {
        self.where_it(|verdict| verdict.scope == Scope::ConnectionForGood)
    }

    fn where_it(&self, is: impl FnOnce(&Verdict) -> bool) -> Option<Report> {
        if !self.passed.load(Ordering::SeqCst) {
            return None;
        }
        let verdict = self.verdict.lock();
        let verdict = verdict.as_deref().filter(|verdict| is(verdict))?;
        Some(verdict.report.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sqlstate::SqlState;

    #[test]
    fn a_verdict_holds_until_something_else_begins() {
        let overrun = Overrun::default();
        assert_eq!(overrun.of_statement(), None);
        let report = Report::new(SqlState::QUERY_CANCELED, "too long");
        overrun.pass(Verdict {
            report: report.clone(),
            scope: Scope::Statement,
        });
        assert_eq!(overrun.of_statement(), Some(report.clone()));
        assert_eq!(overrun.of_connection(), None);
        overrun.pass(Verdict {
            report: report.clone(),
            scope: Scope::Connection,
        });
        assert_eq!(overrun.of_connection(), Some(report.clone()));
        assert!(!overrun.lift());
        assert_eq!(overrun.of_statement(), None);
        overrun.pass(Verdict {
            report: report.clone(),
            scope: Scope::ConnectionForGood,
        });
        assert!(overrun.lift());
        assert_eq!(overrun.of_connection(), Some(report));
    }
}
