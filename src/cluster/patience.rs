//! Reading a schema locks the tables that its views and functions stand on, one after the other, until all has been read. Who
//! changes these tables must never wait for a reader that waits for him: a reader waits for no lock longer than a moment, lets go
//! of all that it has, and tries again.

use std::error::Error;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// Far less than the `deadlock_timeout` of those who must not fail.
pub const LOCK_TIMEOUT: &str = "50ms";
/// How long it is tried.
const LONGEST: Duration = Duration::from_secs(10);
/// Pauses between two attempts, each twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Reads until no lock is in the way.
pub async fn patiently<T, E, F>(mut read: impl FnMut() -> F) -> Result<T, E>
where
    E: Error,
    F: Future<Output = Result<T, E>>,
{
    let mut patience = Patience::default();
    loop {
        let failure = match read().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let said = failure
            .source()
            .and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
        let code = said.and_then(tokio_postgres::Error::code);
        if code != Some(&SqlState::LOCK_NOT_AVAILABLE) || !patience.is_left().await {
            return Err(failure);
        }
    }
}

/// Of one who tries again.
struct Patience {
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
    /// Waits until it is time to try again; false where it has been tried for long enough.
    async fn is_left(&mut self) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}
