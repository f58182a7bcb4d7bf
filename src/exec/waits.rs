//! Who waits for a pool while holding servers of others: no PostgreSQL sees such a circle (hazard 25). A wait is
//! looked at once a second; where everybody who could give a server back waits in turn, the one who looks gives up, as
//! the one whose deadlock_timeout is over does in PostgreSQL.

use super::executor::Executor;
use super::failure::{Failure, Report};
use super::servers::Entry;
use crate::pool::server::Server;
use crate::pool::{Checkout, Pool};
use crate::wire::sqlstate::SqlState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

type AnyPool = Arc<Pool<Server>>;

/// One session that holds servers and waits for another: at most one entry a client.
struct Waiting {
    id: u64,
    wants: AnyPool,
    /// pools whose servers it holds, by address
    holds: SmallVec<[usize; 4]>,
}

#[derive(Default)]
pub struct Waits {
    state: Mutex<(u64, Vec<Waiting>)>,
}

/// Leaves the list when dropped.
struct Entered<'w> {
    waits: &'w Waits,
    id: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.waits.state.lock().1.retain(|w| w.id != self.id);
    }
}

fn address(pool: &AnyPool) -> usize {
    Arc::as_ptr(pool).addr()
}

impl Waits {
    fn enter(&self, wants: AnyPool, holds: SmallVec<[usize; 4]>) -> Entered<'_> {
        let mut state = self.state.lock();
        state.0 += 1;
        let id = state.0;
        state.1.push(Waiting { id, wants, holds });
        Entered { waits: self, id }
    }

    /// Nobody who holds a server of the wanted pool can go on, nor anybody these wait for.
    fn is_deadlocked(&self, id: u64) -> bool {
        let state = self.state.lock();
        let holds = |n: usize| state.1[n].holds.as_slice();
        let wants: Vec<(usize, Option<usize>)> = state
            .1
            .iter()
            .map(|waiting| (address(&waiting.wants), full(&waiting.wants)))
            .collect();
        let stuck = stuck(&wants, holds);
        let me = state.1.iter().position(|waiting| waiting.id == id);
        me.is_some_and(|me| stuck[me])
    }
}

/// Servers of a pool in use, when all of it is.
fn full(pool: &AnyPool) -> Option<usize> {
    let status = pool.status();
    let free = status.idle > 0 || status.dialling > 0 || status.in_use < status.size;
    (!free).then_some(status.in_use)
}

/// Which of those who wait wait for each other only. `wants`: a pool, and how many of its servers are in use when all are.
fn stuck<'h>(wants: &[(usize, Option<usize>)], holds: impl Fn(usize) -> &'h [usize]) -> Vec<bool> {
    let mut stuck = vec![true; wants.len()];
    loop {
        let held_by_stuck = |pool: usize| {
            let holders = (0..wants.len()).filter(|n| stuck[*n] && holds(*n).contains(&pool));
            holders.count()
        };
        let goes_on = (0..wants.len()).find(|n| {
            let (pool, in_use) = wants[*n];
            stuck[*n] && in_use.is_none_or(|in_use| held_by_stuck(pool) < in_use)
        });
        match goes_on {
            Some(n) => stuck[n] = false,
            None => return stuck,
        }
    }
}

impl Executor {
    /// A server of the pool for a session that holds others already.
    pub(super) async fn checkout_holding(
        &mut self,
        entry: &Entry,
    ) -> Result<Checkout<Server>, Failure> {
        let pools = self.held.iter().filter_map(|held| {
            let mut entries = self.entries.iter();
            entries
                .find(|e| e.member == held.member)
                .map(|e| address(&e.pool))
        });
        let backend = self.backend.clone();
        let entered = backend.waits.enter(entry.pool.clone(), pools.collect());
        let checkout = backend
            .servers
            .checkout(entry, self.written.at_home(self.id));
        tokio::pin!(checkout);
        loop {
            let looked = tokio::time::timeout(LOOK, &mut checkout);
            if let Ok(got) = self.unless_cancelled("a server", looked).await? {
                return Ok(got?);
            }
            if backend.waits.is_deadlocked(entered.id) {
                let name = backend.servers.member_name(entry.member);
                return Err(Report::new(
                    SqlState("40P01"),
                    format!("deadlock detected: every connection to {name} is held by a session that waits for one this session holds"),
                )
                .hint("Try again. A larger pool.size in the shard map makes it rarer.")
                .into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stuck;

    #[test]
    fn a_circle_is_stuck_and_whoever_waits_for_it() {
        // 0 holds pool 1 and wants 2, 1 holds 2 and wants 1, 2 holds 3 and wants 1
        let holds: [&[usize]; 3] = [&[1], &[2], &[3]];
        let wants = [(2, Some(1)), (1, Some(1)), (1, Some(1))];
        assert_eq!(stuck(&wants, |n| holds[n]), [true, true, true]);
    }

    #[test]
    fn one_holder_who_does_not_wait_frees_all() {
        let holds: [&[usize]; 2] = [&[1], &[2]];
        // pool 1 has two servers in use: the other is with somebody who works
        let wants = [(2, Some(1)), (1, Some(2))];
        assert_eq!(stuck(&wants, |n| holds[n]), [false, false]);
        let wants = [(2, None), (1, Some(1))];
        assert_eq!(stuck(&wants, |n| holds[n]), [false, false]);
    }
}
