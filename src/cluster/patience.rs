//! Reading a schema locks the tables that its views and functions stand on, one after the other, until all has been read. Who
//! changes these tables must never wait for a reader that waits for him: a reader waits for no lock longer than a moment, lets go
//! of all that it has, and tries again.

use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// Far less than the `deadlock_timeout` of those who must not fail.
pub const LOCK_TIMEOUT: &str = "50ms";
/// How long it is tried.
const LONGEST: Duration = Duration::from_secs(10);
/// Pauses between two attempts, each twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Of one who tries again.
pub struct Patience {
    until: Instant,
    pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            until: Instant::now() + LONGEST,
            pause: PAUSE_MIN,
        }
    }
}

impl Patience {
    /// After a failure: true when it was a lock that was not given in `LOCK_TIMEOUT`, and it is time to try again.
    pub async fn tries_again(&mut self, error: &tokio_postgres::Error) -> bool {
        if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) || Instant::now() > self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}
