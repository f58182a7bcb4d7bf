//! How many connections one PostgreSQL server may have, over all its pools. A pool takes a seat before it dials, and the
//! seat comes back when that connection is closed. Where no seat is free, an idle connection of another pool gives way,
//! the longest idle first; where none is idle, clients of all pools are served in the order in which they came.
//!
//! Locks: a seat comes back, and hunger is noted, under a pool's lock, and takes none here. Whoever has waited is served
//! by a task of its own, which holds no lock when it turns to a pool.

use super::lending::Pool;
use crate::config::ServerAddress;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A connection that its own pool has use for changes hands no more often than this, and for no client of another pool
/// that has waited less: each time costs a dial.
pub const GRACE: Duration = Duration::from_millis(50);

const NOBODY: u64 = u64::MAX;

/// The ceilings of all servers, by address. They outlive a reload of the configuration.
pub struct Ceilings<S> {
    state: Mutex<Known<S>>,
}

struct Known<S> {
    /// `usize::MAX` where nothing is bounded
    max: usize,
    servers: HashMap<ServerAddress, Arc<Ceiling<S>>>,
}

/// The ceiling of one server.
pub struct Ceiling<S> {
    max: AtomicUsize,
    taken: AtomicUsize,
    /// when the one came who has waited longest for a seat, in microseconds since `born`; or `NOBODY`
    hungry: AtomicU64,
    /// when a connection last changed hands although its own pool had use for it
    moved: AtomicU64,
    born: Instant,
    pools: Mutex<Vec<Weak<Pool<S>>>>,
    freed: Arc<Notify>,
}

/// The right to one connection. Dropping it gives it back.
pub struct Seat<S>(Arc<Ceiling<S>>);

impl<S: Send + 'static> Ceilings<S> {
    #[must_use]
    pub fn new(max: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(Known {
                max: max.unwrap_or(usize::MAX),
                servers: HashMap::new(),
            }),
        })
    }

    /// The ceiling of a server; the first to ask makes it, and the task that serves those who wait.
    pub fn of(&self, address: &ServerAddress) -> Arc<Ceiling<S>> {
        let mut state = self.state.lock();
        if let Some(ceiling) = state.servers.get(address) {
            return ceiling.clone();
        }
        let ceiling = Ceiling::new(state.max);
        tokio::spawn(serve(Arc::downgrade(&ceiling), ceiling.freed.clone()));
        // those of a configuration that is no more
        state
            .servers
            .retain(|_, ceiling| Arc::strong_count(ceiling) > 1);
        state.servers.insert(address.clone(), ceiling.clone());
        ceiling
    }

    /// A lower one closes nothing that is in use: no more is dialled until enough has come back.
    pub fn set_max(&self, max: Option<usize>) {
        let mut state = self.state.lock();
        state.max = max.unwrap_or(usize::MAX);
        for ceiling in state.servers.values() {
            ceiling.max.store(state.max, Ordering::Relaxed);
            ceiling.freed.notify_one();
        }
    }
}

async fn serve<S>(ceiling: Weak<Ceiling<S>>, freed: Arc<Notify>) {
    loop {
        freed.notified().await;
        let Some(ceiling) = ceiling.upgrade() else {
            return;
        };
        ceiling.relieve();
    }
}

impl<S> Drop for Ceiling<S> {
    fn drop(&mut self) {
        // its task looks, and ends
        self.freed.notify_one();
    }
}

impl<S> Ceiling<S> {
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicUsize::new(max),
            taken: AtomicUsize::new(0),
            hungry: AtomicU64::new(NOBODY),
            moved: AtomicU64::new(0),
            born: Instant::now(),
            pools: Mutex::default(),
            freed: Arc::default(),
        })
    }

    pub(super) fn enroll(&self, pool: &Arc<Pool<S>>) {
        let mut pools = self.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(pool));
    }

    /// None, too, while clients wait: then seats are given in the order of those.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat<S>> {
        if self.is_awaited() {
            return None;
        }
        let max = self.max.load(Ordering::Relaxed);
        let one_more = |taken: usize| (taken < max).then_some(taken + 1);
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        self.taken.fetch_update(set, get, one_more).ok()?;
        Some(Seat(self.clone()))
    }

    /// A pool that asks for a seat gets one.
    pub(super) fn has_room(&self) -> bool {
        !self.is_awaited() && self.is_free()
    }

    fn is_awaited(&self) -> bool {
        self.hungry.load(Ordering::Acquire) != NOBODY
    }

    fn is_free(&self) -> bool {
        self.taken.load(Ordering::Acquire) < self.max.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Somebody waits since then, in a pool that could dial but for the ceiling.
    pub(super) fn note_hungry(&self, since: Instant) {
        let before = self.hungry.fetch_min(self.tick(since), Ordering::AcqRel);
        if before == NOBODY || self.is_free() {
            self.freed.notify_one();
        }
    }

    /// Is a connection that comes back to be closed, so that the client of another pool gets one? `first` is when the
    /// first client came that waits for this very connection.
    pub(super) fn wants_back(&self, first: Option<Instant>) -> bool {
        let hungry = self.hungry.load(Ordering::Acquire);
        if hungry == NOBODY {
            return false;
        }
        let Some(first) = first else { return true };
        let (now, moved) = (self.now(), self.moved.load(Ordering::Acquire));
        let due = hungry < self.tick(first) && hungry.max(moved) + micros(GRACE) <= now;
        let (set, get) = (Ordering::AcqRel, Ordering::Relaxed);
        due && self.moved.compare_exchange(moved, now, set, get).is_ok()
    }

    /// Serves who waits for a seat, while there are any to be had.
    pub(super) fn relieve(&self) {
        loop {
            self.hungry.store(NOBODY, Ordering::Release);
            let pools = self.living();
            let mut hungry: Vec<_> = pools
                .iter()
                .filter_map(|pool| Some((pool.starved()?.since, pool)))
                .collect();
            hungry.sort_by_key(|(since, _)| *since);
            hungry.retain_mut(|(since, pool)| match pool.serve() {
                Some(still) => {
                    *since = still;
                    true
                }
                None => false,
            });
            let Some((since, _)) = hungry.iter().min_by_key(|(since, _)| *since) else {
                return;
            };
            // noted before it is looked who is idle: a connection that comes back meanwhile sees one or is seen by the other
            self.hungry.fetch_min(self.tick(*since), Ordering::AcqRel);
            let wanted = hungry
                .iter()
                .filter_map(|(_, pool)| pool.starved())
                .map(|starved| starved.dials)
                .sum();
            let closed = close_idle(&pools, wanted);
            if closed == 0 && !self.is_free() {
                return;
            }
        }
    }

    fn living(&self) -> Vec<Arc<Pool<S>>> {
        self.pools.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn now(&self) -> u64 {
        self.tick(Instant::now())
    }

    fn tick(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.born))
    }
}

/// Closes the connections that were idle longest, whichever pool they are of.
fn close_idle<S>(pools: &[Arc<Pool<S>>], most: usize) -> usize {
    let longest = || {
        let idle = pools
            .iter()
            .filter_map(|pool| Some((pool.idle_since()?, pool)));
        idle.min_by_key(|(since, _)| *since)
    };
    let closed = (0..most).map_while(|_| longest()?.1.give_way());
    closed.count()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(NOBODY - 1)
}

impl<S> Drop for Seat<S> {
    fn drop(&mut self) {
        let ceiling = &self.0;
        ceiling.taken.fetch_sub(1, Ordering::AcqRel);
        if ceiling.is_awaited() {
            ceiling.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
