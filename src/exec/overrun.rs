//! A client that takes longer than the shard map allows: what it is told, and whether that is the end of its connection.
//! Written by the sweep that watches the clocks, read by the session where it would otherwise speak of a cancel request.

use super::failure::Report;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub report: Report,
    /// the connection ends, not only the statement
    pub ends: bool,
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

    /// The session has begun something else.
    pub fn lift(&self) {
        if self.passed.load(Ordering::SeqCst) {
            self.passed.store(false, Ordering::SeqCst);
            *self.verdict.lock() = None;
        }
    }

    /// What is said of a statement that was cancelled by it.
    #[must_use]
    pub fn of_statement(&self) -> Option<Report> {
        if !self.passed.load(Ordering::SeqCst) {
            return None;
        }
        let verdict = self.verdict.lock();
        verdict.as_ref().map(|verdict| verdict.report.clone())
    }

    /// The last word to the client, if its connection ends by it.
    #[must_use]
    pub fn of_connection(&self) -> Option<Report> {
        if !self.passed.load(Ordering::SeqCst) {
            return None;
        }
        let verdict = self.verdict.lock();
        let ends = verdict.as_ref().filter(|verdict| verdict.ends);
        ends.map(|verdict| verdict.report.clone())
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
            ends: false,
        });
        assert_eq!(overrun.of_statement(), Some(report.clone()));
        assert_eq!(overrun.of_connection(), None);
        overrun.pass(Verdict {
            report: report.clone(),
            ends: true,
        });
        assert_eq!(overrun.of_connection(), Some(report));
        overrun.lift();
        assert_eq!(overrun.of_statement(), None);
    }
}
