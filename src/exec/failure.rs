//! How running a statement can fail, and what the client is told.

use crate::route::Refusal;
use crate::wire::sqlstate::SqlState;

/// One ErrorResponse of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub code: SqlState,
    pub message: String,
    pub hint: Option<String>,
    /// where PostgreSQL finds it, for drivers that look at that
    pub routine: Option<&'static str>,
}

impl Report {
    #[must_use]
    pub fn new(code: SqlState, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            routine: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn routine(mut self, routine: &'static str) -> Self {
        self.routine = Some(routine);
        self
    }
}

impl From<Refusal> for Report {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            message: refusal.message,
            hint: refusal.hint,
            routine: None,
        }
    }
}

#[derive(Debug)]
pub enum Failure {
    /// the server's own ErrorResponse is on its way to the client already
    Shown,
    /// to be told
    Report(Report),
    /// nobody is there to be told
    ClientGone,
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Report(refusal.into())
    }
}
