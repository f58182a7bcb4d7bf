//! Why a client did not get a server, in words and numbers a person can act on.

use crate::wire::sqlstate::SqlState;
use std::sync::Arc;
use std::time::Duration;

/// Why a server could not be dialled. Remembered by its pool for a moment, so that a dead server is not hammered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DialFailure {
    /// SQLSTATE: the server's own where it gave one
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckoutError {
    #[error("waited {} for a server of pool {pool}: {}, {}", seconds(.waited), .held, clients(*.waiting))]
    TimedOut {
        pool: String,
        waited: Duration,
        held: Occupancy,
        waiting: usize,
    },
    #[error("too many clients wait for a server of pool {pool}: {held}, {}", clients(*.waiting))]
    QueueFull {
        pool: String,
        held: Occupancy,
        waiting: usize,
    },
    #[error("pool {pool} is closed")]
    Closed { pool: String },
    #[error("no server of pool {pool}: {failure}")]
    Unreachable {
        pool: String,
        failure: Arc<DialFailure>,
    },
}

/// Where the servers of a pool were when a client was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    pub in_use: usize,
    pub dialling: usize,
    pub size: usize,
    pub paused: bool,
    /// how many connections the server may have in all, where it has them and this pool could have more
    pub ceiling: Option<usize>,
}

impl CheckoutError {
    /// The SQLSTATE for the client.
    pub fn code(&self) -> &str {
        match self {
            Self::TimedOut { .. } | Self::QueueFull { .. } => SqlState::TOO_MANY_CONNECTIONS.0,
            Self::Closed { .. } => SqlState::CANNOT_CONNECT_NOW.0,
            Self::Unreachable { failure, .. } => &failure.code,
        }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::TimedOut { held, .. } | Self::QueueFull { held, .. } if held.paused => {
                Some("The pool is paused: resume it from the admin console.")
            }
            Self::TimedOut { held, .. } | Self::QueueFull { held, .. }
                if held.ceiling.is_some() =>
            {
                Some(
                    "limits.server_connections_max in the shard map bounds the connections to one server over all pools: raise it where the server's max_connections allows, or make pools smaller. SHOW POOLS says which pools hold them.",
                )
            }
            Self::TimedOut { .. } => Some(
                "Transactions hold the servers longer than clients may wait: shorten them, or raise the pool's size or its wait limit. SHOW POOLS and SHOW CLIENTS say who holds and who waits.",
            ),
            Self::QueueFull { .. } => Some(
                "Open fewer connections, or raise the pool's size or its limit of waiting clients.",
            ),
            Self::Closed { .. } => {
                Some("pgshunt is stopping or its configuration has changed: connect again.")
            }
            Self::Unreachable { failure, .. } => failure.hint.as_deref(),
        }
    }
}

impl std::fmt::Display for Occupancy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.in_use, self.dialling) {
            (all, 0) if all >= self.size => write!(f, "all {all} in use")?,
            (some, 0) => write!(f, "{some} of {} in use", self.size)?,
            (some, dialling) => write!(
                f,
                "{some} of {} in use and {dialling} being dialled",
                self.size
            )?,
        }
        if let Some(max) = self.ceiling {
            write!(f, ", all {max} connections to its server are taken")?;
        }
        if self.paused {
            write!(f, ", the pool is paused")
        } else {
            Ok(())
        }
    }
}

fn seconds(waited: &Duration) -> String {
    format!("{:.1} s", waited.as_secs_f64())
}

fn clients(waiting: usize) -> String {
    match waiting {
        1 => "1 client waiting".to_owned(),
        n => format!("{n} clients waiting"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_says_how_long_and_who_holds() {
        let held = Occupancy {
            in_use: 10,
            dialling: 0,
            size: 10,
            paused: false,
            ceiling: None,
        };
        let error = CheckoutError::TimedOut {
            pool: "s1/app/social".into(),
            waited: Duration::from_secs(5),
            held,
            waiting: 23,
        };
        assert_eq!(
            error.to_string(),
            "waited 5.0 s for a server of pool s1/app/social: all 10 in use, 23 clients waiting"
        );
        assert_eq!(error.code(), "53300");
        assert!(error.hint().is_some());
    }

    #[test]
    fn where_the_server_has_no_room_that_is_said() {
        let held = Occupancy {
            in_use: 3,
            dialling: 0,
            size: 10,
            paused: false,
            ceiling: Some(40),
        };
        let error = CheckoutError::QueueFull {
            pool: "s1/app/social".into(),
            held,
            waiting: 1,
        };
        assert_eq!(
            error.to_string(),
            "too many clients wait for a server of pool s1/app/social: 3 of 10 in use, all 40 connections to its server are taken, 1 client waiting"
        );
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("server_connections_max"), "{hint}");
    }

    #[test]
    fn a_failed_dial_keeps_the_servers_code_and_words() {
        let failure = DialFailure {
            code: "28P01".into(),
            message: "password authentication failed".into(),
            hint: None,
        };
        let error = CheckoutError::Unreachable {
            pool: "s1/app/social".into(),
            failure: Arc::new(failure),
        };
        assert_eq!(error.code(), "28P01");
        assert_eq!(
            error.to_string(),
            "no server of pool s1/app/social: password authentication failed"
        );
    }
}
