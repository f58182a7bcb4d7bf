//! The lending of servers: first come first served, by hand-off to the first waiter. Generic over what is lent, so it
//! knows no sockets; it does not know what will be asked of a server, nor whether one is clean: the borrower says so by
//! checking it in, and everything else closes it.
//!
//! The invariants, held under one short lock:
//!   idle + in_use + dialling <= size        (more only while a shrunk pool is being drained)
//!   a client waits  =>  nothing is idle and no dial is free, or the pool is paused, or a dial has just failed,
//!                       or the server has no room under its ceiling
//! Servers and senders are dropped and woken outside the lock.

use super::ceiling::{Ceiling, Seat};
use super::checkout_error::{CheckoutError, DialFailure, Occupancy};
use super::expiry::{self, IdleSince};
use super::lease::{
    Borrower, Checkout, DialPermit, Handoff, Held, Lease, Life, Retired, Returned, Slot,
};
use super::wishes::{self, Wishes};
use crate::config::PoolSettings;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a failed dial speaks for the next ones.
pub const DIAL_BACKOFF: Duration = Duration::from_millis(250);

/// One server, one user, one database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolName {
    /// shard and member, as a person knows it: "s1", "s1/replica1"
    pub server: String,
    pub user: String,
    pub database: String,
}

impl std::fmt::Display for PoolName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.server, self.user, self.database)
    }
}

pub struct Pool<S> {
    name: PoolName,
    settings: PoolSettings,
    dial_backoff: Duration,
    ceiling: Arc<Ceiling<S>>,
    state: Mutex<State<S>>,
    /// a server came back that somebody asks for by name
    returned: tokio::sync::Notify,
}

/// What SHOW POOLS shows: taken under the lock, so the numbers agree with each other.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    pub idle: usize,
    pub in_use: usize,
    pub dialling: usize,
    pub waiting: usize,
    pub size: usize,
    pub paused: bool,
    /// of the client at the head of the queue; zero when nobody waits
    pub oldest_wait: Duration,
    pub totals: PoolTotals,
    /// the failed dial that is still remembered
    pub failure: Option<Arc<DialFailure>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolTotals {
    /// servers lent, each dialled one included
    pub checkouts: u64,
    /// clients that had to queue
    pub waits: u64,
    /// time spent in the queue by those who were served or gave up
    pub waited: Duration,
    pub timeouts: u64,
    /// turned away because the queue was full
    pub rejected: u64,
    pub dials: u64,
    pub dial_failures: u64,
    /// servers closed, for whatever reason
    pub closes: u64,
}

/// What a sweep asks of its caller.
pub struct Sweep<S> {
    pub closed: Vec<Retired<S>>,
    /// to be dialled, fulfilled and checked in
    pub dials: Vec<DialPermit<S>>,
}

struct State<S> {
    /// last used last
    idle: Vec<Idle<S>>,
    wishes: Wishes,
    /// first come first; tickets ascend
    waiters: VecDeque<Waiter<S>>,
    next_ticket: u64,
    in_use: usize,
    dialling: usize,
    size: usize,
    /// servers of an older one are closed when they come back
    generation: u64,
    paused: bool,
    closed: bool,
    failed: Option<Failed>,
    /// time of the last sweep: good enough for idle times, and no clock is read on the way in or out
    swept_at: Instant,
    last_used: Option<Instant>,
    totals: PoolTotals,
}

struct Idle<S> {
    server: Box<S>,
    life: Life<S>,
    since: Instant,
    wanted_by: Borrower,
}

struct Waiter<S> {
    ticket: u64,
    since: Instant,
    grant: oneshot::Sender<Grant<S>>,
}

struct Failed {
    until: Instant,
    failure: Arc<DialFailure>,
}

enum Grant<S> {
    Lease(Handoff<S>),
    Unreachable(Arc<DialFailure>),
}

/// What has become of the server that somebody would like to have again.
enum Kept<S> {
    Here(Box<Checkout<S>>),
    /// somebody else has it
    Lent,
    No,
}

type Grants<S> = SmallVec<[(oneshot::Sender<Grant<S>>, Grant<S>); 1]>;

/// A pool that could dial but for the ceiling of its server.
pub(super) struct Starved {
    /// when the first of those came who wait
    pub since: Instant,
    /// what it would dial
    pub dials: usize,
}

enum Entered<S> {
    Served(Lease<S>),
    Queued(Waiting<S>),
}

/// A place in the queue. Dropping it leaves the queue; a hand-off that was already on its way goes to the next.
struct Waiting<S> {
    pool: Arc<Pool<S>>,
    ticket: u64,
    since: Instant,
    grant: oneshot::Receiver<Grant<S>>,
}

impl<S> Pool<S> {
    pub fn new(name: PoolName, settings: PoolSettings, ceiling: Arc<Ceiling<S>>) -> Arc<Self> {
        Self::with_dial_backoff(name, settings, ceiling, DIAL_BACKOFF)
    }

    pub fn with_dial_backoff(
        name: PoolName,
        settings: PoolSettings,
        ceiling: Arc<Ceiling<S>>,
        dial_backoff: Duration,
    ) -> Arc<Self> {
        let state = Mutex::new(State::new(settings.size));
        let pool = Arc::new(Self {
            name,
            settings,
            dial_backoff,
            ceiling,
            state,
            returned: tokio::sync::Notify::new(),
        });
        pool.ceiling.enroll(&pool);
        pool
    }

    pub fn name(&self) -> &PoolName {
        &self.name
    }

    pub fn settings(&self) -> &PoolSettings {
        &self.settings
    }

    /// A server at once or not at all: an idle one, or the right to dial where the pool has room. Touches no timer.
    pub fn try_checkout(self: &Arc<Self>, whose: Borrower) -> Option<Lease<S>> {
        let mut state = self.state.lock();
        if state.closed || !state.waiters.is_empty() {
            return None;
        }
        state.next_lease(self, whose)
    }

    /// An idle server or nothing. Touches no timer.
    pub fn try_checkout_idle(self: &Arc<Self>, whose: Borrower) -> Option<Checkout<S>> {
        self.try_checkout_quiet(usize::MAX, whose)
    }

    /// The same, while fewer than so many are in use.
    pub fn try_checkout_quiet(
        self: &Arc<Self>,
        in_use: usize,
        whose: Borrower,
    ) -> Option<Checkout<S>> {
        let lease = {
            let mut state = self.state.lock();
            if !state.waiters.is_empty() || state.idle.is_empty() || state.in_use >= in_use {
                return None;
            }
            state.next_lease(self, whose)
        };
        match lease? {
            Lease::Ready(checkout) => Some(checkout),
            // its slot frees itself
            Lease::Dial(_) => None,
        }
    }

    /// First come first served. Waits at most `wait_max`; a future that is dropped leaves the queue.
    pub async fn checkout(self: &Arc<Self>, whose: Borrower) -> Result<Lease<S>, CheckoutError> {
        match self.enter(whose)? {
            Entered::Served(lease) => Ok(lease),
            Entered::Queued(waiting) => waiting.outcome().await,
        }
    }

    /// The server that is kept for this borrower, once who has it meanwhile gives it back; None when it is not kept any
    /// more, or not to be had within that time. From now on this pool rather dials than lends what is kept for somebody.
    pub async fn checkout_kept(
        self: &Arc<Self>,
        whose: NonZeroU64,
        longest: Duration,
    ) -> Option<Checkout<S>> {
        let came_back = async {
            loop {
                let mut returned = std::pin::pin!(self.returned.notified());
                returned.as_mut().enable();
                let taken = self.state.lock().take_kept(self, whose);
                match taken {
                    Kept::Here(server) => return Some(*server),
                    Kept::Lent => returned.await,
                    Kept::No => return None,
                }
            }
        };
        let came_back = tokio::time::timeout(longest, came_back).await;
        came_back.ok().flatten()
    }

    /// This borrower wants nothing more.
    pub fn forget(&self, whose: NonZeroU64) {
        self.state.lock().forget(whose);
    }

    /// A server more could be dialled now.
    pub fn can_grow(&self) -> bool {
        self.ceiling.has_room() && self.state.lock().may_dial()
    }

    /// Somebody waits for a server.
    pub fn has_waiters(&self) -> bool {
        !self.state.lock().waiters.is_empty()
    }

    /// Servers in use and clients that wait for one.
    pub fn load(&self) -> usize {
        let state = self.state.lock();
        state.in_use + state.waiters.len()
    }

    pub fn status(&self) -> PoolStatus {
        let state = self.state.lock();
        PoolStatus {
            idle: state.idle.len(),
            in_use: state.in_use,
            dialling: state.dialling,
            waiting: state.waiters.len(),
            size: state.size,
            paused: state.paused,
            oldest_wait: state
                .waiters
                .front()
                .map_or(Duration::ZERO, |first| first.since.elapsed()),
            totals: state.totals,
            failure: state.failed.as_ref().map(|failed| failed.failure.clone()),
        }
    }

    /// Lends nothing until `resume`; who comes meanwhile waits.
    pub fn pause(&self) {
        self.state.lock().paused = true;
    }

    pub fn resume(self: &Arc<Self>) {
        self.state.lock().paused = false;
        self.settle();
    }

    /// A smaller pool closes its idle servers now and the lent ones when they come back.
    pub fn resize(self: &Arc<Self>, size: usize) {
        let surplus: Vec<_> = {
            let mut state = self.state.lock();
            state.size = size;
            let over = state.open().saturating_sub(size).min(state.idle.len());
            state.close_idle(over)
        };
        drop(surplus);
        self.settle();
    }

    /// What made dials fail may be over: the next one is not told of them.
    pub fn forget_failure(self: &Arc<Self>) {
        let had = self.state.lock().failed.take().is_some();
        if had {
            self.settle();
        }
    }

    /// Closes every server: the idle now (they are handed out for that), the lent when they come back.
    pub fn close_all(self: &Arc<Self>) -> Vec<Retired<S>> {
        let servers = {
            let mut state = self.state.lock();
            state.generation += 1;
            state.failed = None;
            let all = state.idle.len();
            state.close_idle(all)
        };
        self.settle();
        servers
    }

    /// The end of this pool: as `close_all`, waiters are turned away and so is everybody after them.
    pub fn close(self: &Arc<Self>) -> Vec<Retired<S>> {
        let waiters = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.waiters)
        };
        // a dropped sender tells its waiter
        drop(waiters);
        self.close_all()
    }

    /// Upkeep: ages, minimum size, and waiters who could be served since a failed dial was forgotten.
    pub fn sweep(self: &Arc<Self>, now: Instant) -> Sweep<S> {
        let sweep = self.state.lock().sweep(now, self);
        self.settle();
        sweep
    }

    /// Takes the idle servers that `is_alive` gives up out of the pool. It runs under the lock: it must not wait.
    pub fn cull(self: &Arc<Self>, mut is_alive: impl FnMut(&mut S) -> bool) -> Vec<Retired<S>> {
        let dead = self.state.lock().cull(&mut is_alive);
        if !dead.is_empty() {
            self.settle();
        }
        dead
    }

    fn enter(self: &Arc<Self>, whose: Borrower) -> Result<Entered<S>, CheckoutError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(CheckoutError::Closed {
                pool: self.name.to_string(),
            });
        }
        if state.waiters.is_empty()
            && let Some(lease) = state.next_lease(self, whose)
        {
            return Ok(Entered::Served(lease));
        }
        if let Some(failure) = state.hopeless() {
            return Err(self.unreachable(failure));
        }
        if state.waiters.len() >= self.settings.waiters_max {
            state.totals.rejected += 1;
            let (held, waiting) = (state.held(&self.ceiling), state.waiters.len());
            return Err(CheckoutError::QueueFull {
                pool: self.name.to_string(),
                held,
                waiting,
            });
        }
        let waiting = state.enqueue(self);
        drop(state);
        // a failed dial may have been forgotten since the others queued
        self.settle();
        Ok(Entered::Queued(waiting))
    }

    /// A lent server comes back clean.
    pub(super) fn take_back(self: &Arc<Self>, returned: Returned<S>) {
        let was_wanted = returned.lent_as.is_some();
        let (refused, grants) = {
            let mut state = self.state.lock();
            let refused = state.put_back(returned, &self.ceiling);
            if refused.is_none() && state.waiters.is_empty() {
                drop(state);
                if was_wanted {
                    self.returned.notify_waiters();
                }
                return;
            }
            (refused, state.grants(self))
        };
        let closed = refused.is_some();
        drop(refused);
        if was_wanted {
            self.returned.notify_waiters();
        }
        // what was closed had a seat when the grants were made
        if self.deliver(grants) || closed {
            self.settle();
        }
    }

    /// A slot comes back without its server.
    pub(super) fn free(self: &Arc<Self>, held: Held, lent_as: Borrower) {
        let was_wanted = {
            let mut state = self.state.lock();
            match held {
                Held::InUse => {
                    state.in_use = state.in_use.saturating_sub(1);
                    state.totals.closes += 1;
                }
                Held::Dialling => state.dialling = state.dialling.saturating_sub(1),
                Held::Nothing => {}
            }
            state.wishes.note_back(lent_as)
        };
        if was_wanted {
            self.returned.notify_waiters();
        }
        self.settle();
    }

    pub(super) fn dialled(self: &Arc<Self>, generation: u64, seat: Seat<S>) -> Life<S> {
        let dies_at = expiry::dies_at(Instant::now(), self.settings.lifetime_max, rand::random());
        {
            let mut state = self.state.lock();
            state.dialling = state.dialling.saturating_sub(1);
            state.in_use += 1;
            state.totals.dials += 1;
            state.failed = None;
        }
        // waiters that an earlier failure held back may dial too
        self.settle();
        Life {
            generation,
            dies_at,
            seat,
        }
    }

    pub(super) fn redial(self: &Arc<Self>, lent_as: Borrower, seat: Seat<S>) -> DialPermit<S> {
        let mut state = self.state.lock();
        state.wishes.note_back(lent_as);
        state.in_use = state.in_use.saturating_sub(1);
        state.dialling += 1;
        state.totals.closes += 1;
        let slot = Slot::new(self.clone(), Held::Dialling);
        DialPermit::new(slot, seat, state.generation)
    }

    pub(super) fn dial_failed(self: &Arc<Self>, failure: &Arc<DialFailure>) {
        let disappointed = {
            let mut state = self.state.lock();
            state.dialling = state.dialling.saturating_sub(1);
            state.totals.dial_failures += 1;
            state.failed = Some(Failed {
                until: Instant::now() + self.dial_backoff,
                failure: failure.clone(),
            });
            // while somebody holds a server the waiters may still get that one
            if state.hopeless().is_some() {
                std::mem::take(&mut state.waiters)
            } else {
                VecDeque::new()
            }
        };
        for waiter in disappointed {
            // a waiter that has gone needs no answer
            let _ = waiter.grant.send(Grant::Unreachable(failure.clone()));
        }
        self.settle();
    }

    /// Serves waiters until nobody can be served; who waits for a seat is noted.
    fn settle(self: &Arc<Self>) {
        if let Some(since) = self.serve() {
            self.ceiling.note_hungry(since);
        }
    }

    /// The same without the note: since when the first waits who would be served but for the ceiling.
    pub(super) fn serve(self: &Arc<Self>) -> Option<Instant> {
        loop {
            let (grants, starved) = {
                let mut state = self.state.lock();
                (state.grants(self), state.starved())
            };
            if !self.deliver(grants) {
                return starved.map(|starved| starved.since);
            }
        }
    }

    pub(super) fn starved(&self) -> Option<Starved> {
        self.state.lock().starved()
    }

    /// Of the server that is idle longest.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.state.lock().idle.first().map(|idle| idle.since)
    }

    /// Closes that server, for another pool; None when it was lent meanwhile.
    pub(super) fn give_way(&self) -> Option<()> {
        let server = self.state.lock().close_idle(1).pop()?;
        drop(server);
        Some(())
    }

    /// Sends grants to their waiters; true when one had gone meanwhile and its grant is back for the next.
    fn deliver(self: &Arc<Self>, grants: Grants<S>) -> bool {
        let mut returned = false;
        for (waiter, grant) in grants {
            if let Err(grant) = waiter.send(grant) {
                returned = true;
                self.recall(grant);
            }
        }
        returned
    }

    fn recall(&self, grant: Grant<S>) {
        let Grant::Lease(handoff) = grant else { return };
        match handoff.accept() {
            Some(Lease::Ready(checkout)) => {
                let (_, returned) = checkout.into_parts();
                let refused = self.state.lock().put_back(returned, &self.ceiling);
                drop(refused);
            }
            // its slot frees itself
            Some(Lease::Dial(permit)) => drop(permit),
            None => {}
        }
    }

    /// Takes a place out of the queue. False when its grant is already on the way.
    fn leave(&self, ticket: u64) -> bool {
        let mut state = self.state.lock();
        let Ok(at) = state
            .waiters
            .binary_search_by_key(&ticket, |waiter| waiter.ticket)
        else {
            return false;
        };
        let gone = state.waiters.remove(at);
        drop(state);
        gone.is_some()
    }

    fn unreachable(&self, failure: Arc<DialFailure>) -> CheckoutError {
        CheckoutError::Unreachable {
            pool: self.name.to_string(),
            failure,
        }
    }
}

impl<S> State<S> {
    fn new(size: usize) -> Self {
        Self {
            idle: Vec::new(),
            wishes: Wishes::default(),
            waiters: VecDeque::new(),
            next_ticket: 0,
            in_use: 0,
            dialling: 0,
            size,
            generation: 0,
            paused: false,
            closed: false,
            failed: None,
            swept_at: Instant::now(),
            last_used: None,
            totals: PoolTotals::default(),
        }
    }

    fn open(&self) -> usize {
        self.idle.len() + self.in_use + self.dialling
    }

    fn held(&self, ceiling: &Ceiling<S>) -> Occupancy {
        let could = self.open() < self.size && !self.paused;
        Occupancy {
            in_use: self.in_use,
            dialling: self.dialling,
            size: self.size,
            paused: self.paused,
            ceiling: (could && !ceiling.has_room()).then(|| ceiling.max()),
        }
    }

    /// What the next client in line gets: the server used last (its caches are warm), but none that is kept for somebody
    /// while there is another; else the right to dial.
    fn next_lease(&mut self, pool: &Arc<Pool<S>>, whose: Borrower) -> Option<Lease<S>> {
        if self.paused || self.closed {
            return None;
        }
        let wanted = self.idle.iter().map(|idle| idle.wanted_by);
        let choice = wishes::choose(wanted, whose);
        if let Some(choice) = choice
            && !(choice.kept_for_another && self.wishes.asked && self.may_dial())
        {
            return Some(Lease::Ready(self.lend(choice.index, pool)));
        }
        if !self.may_dial() {
            return None;
        }
        match self.dial(pool) {
            Some(permit) => {
                self.lent();
                Some(Lease::Dial(permit))
            }
            // what is kept for another is better than nothing
            None => choice.map(|choice| Lease::Ready(self.lend(choice.index, pool))),
        }
    }

    fn lend(&mut self, index: usize, pool: &Arc<Pool<S>>) -> Checkout<S> {
        let idle = self.idle.remove(index);
        self.in_use += 1;
        self.lent();
        self.wishes.note_lent(idle.wanted_by);
        let slot = Slot::lent_as(pool.clone(), idle.wanted_by);
        Checkout::new(idle.server, slot, idle.life)
    }

    fn take_kept(&mut self, pool: &Arc<Pool<S>>, whose: NonZeroU64) -> Kept<S> {
        self.wishes.asked = true;
        if self.paused || self.closed {
            return Kept::No;
        }
        let kept = |idle: &Idle<S>| idle.wanted_by == Some(whose);
        match self.idle.iter().rposition(kept) {
            Some(index) => Kept::Here(Box::new(self.lend(index, pool))),
            None if self.wishes.is_lent(whose) => Kept::Lent,
            None => Kept::No,
        }
    }

    fn forget(&mut self, whose: NonZeroU64) {
        self.wishes.forget(whose);
        for idle in &mut self.idle {
            idle.wanted_by = idle.wanted_by.filter(|wanted_by| *wanted_by != whose);
        }
    }

    fn may_dial(&mut self) -> bool {
        !self.paused && !self.closed && self.open() < self.size && !self.failing()
    }

    fn lent(&mut self) {
        self.totals.checkouts += 1;
        self.last_used = Some(self.swept_at);
    }

    /// None where the server has no room for one more.
    fn dial(&mut self, pool: &Arc<Pool<S>>) -> Option<DialPermit<S>> {
        let seat = pool.ceiling.seat()?;
        self.dialling += 1;
        let slot = Slot::new(pool.clone(), Held::Dialling);
        Some(DialPermit::new(slot, seat, self.generation))
    }

    /// Some where clients wait although the pool could dial: after `grants`, that is for want of a seat.
    fn starved(&mut self) -> Option<Starved> {
        let since = self.waiters.front()?.since;
        let room = self.size.saturating_sub(self.open());
        (self.idle.is_empty() && self.may_dial()).then(|| Starved {
            since,
            dials: room.min(self.waiters.len()),
        })
    }

    /// Is a failed dial still to be believed? The clock is read only then.
    fn failing(&mut self) -> bool {
        if self
            .failed
            .as_ref()
            .is_some_and(|failed| Instant::now() >= failed.until)
        {
            self.failed = None;
        }
        self.failed.is_some()
    }

    /// The failure that every waiter would meet: a dial has just failed and there is no server to wait for.
    fn hopeless(&mut self) -> Option<Arc<DialFailure>> {
        let nobody = self.open() == 0 && !self.paused;
        if !nobody || !self.failing() {
            return None;
        }
        self.failed.as_ref().map(|failed| failed.failure.clone())
    }

    fn enqueue(&mut self, pool: &Arc<Pool<S>>) -> Waiting<S> {
        let (sender, grant) = oneshot::channel();
        let (ticket, since) = (self.next_ticket, Instant::now());
        self.next_ticket += 1;
        self.totals.waits += 1;
        self.waiters.push_back(Waiter {
            ticket,
            since,
            grant: sender,
        });
        Waiting {
            pool: pool.clone(),
            ticket,
            since,
            grant,
        }
    }

    /// What can be given to the waiters now, in the order in which they came.
    fn grants(&mut self, pool: &Arc<Pool<S>>) -> Grants<S> {
        let mut grants = SmallVec::new();
        while !self.waiters.is_empty() {
            let Some(lease) = self.next_lease(pool, None) else {
                break;
            };
            let Some(waiter) = self.waiters.pop_front() else {
                break;
            };
            grants.push((waiter.grant, Grant::Lease(Handoff::new(lease))));
        }
        grants
    }

    /// Back to the idle list, or out again to be closed where its time is over.
    fn put_back(&mut self, returned: Returned<S>, ceiling: &Ceiling<S>) -> Option<Retired<S>> {
        let Returned {
            server,
            life,
            wanted_by,
            lent_as,
        } = returned;
        let remembered = self.wishes.note_back(lent_as);
        let over = self.open() > self.size;
        self.in_use = self.in_use.saturating_sub(1);
        if over
            || self.closed
            || life.generation != self.generation
            || self.swept_at >= life.dies_at
            || ceiling.wants_back(self.waiters.front().map(|first| first.since))
        {
            self.totals.closes += 1;
            return Some(Retired::new(server, life));
        }
        self.idle.push(Idle {
            server,
            life,
            since: self.swept_at,
            // who wanted it may have gone meanwhile
            wanted_by: wanted_by.filter(|_| remembered || wanted_by != lent_as),
        });
        None
    }

    /// The `count` servers that were idle longest.
    fn close_idle(&mut self, count: usize) -> Vec<Retired<S>> {
        let count = count.min(self.idle.len());
        self.totals.closes += count as u64;
        self.idle.drain(..count).map(Idle::retire).collect()
    }

    fn sweep(&mut self, now: Instant, pool: &Arc<Pool<S>>) -> Sweep<S> {
        self.swept_at = self.swept_at.max(now);
        let ages: SmallVec<[IdleSince; 32]> = self
            .idle
            .iter()
            .map(|idle| IdleSince {
                idle_since: idle.since,
                dies_at: idle.life.dies_at,
            })
            .collect();
        let counts = expiry::Counts {
            busy: self.in_use + self.dialling,
            size_min: pool.settings.size_min,
            size: self.size,
            idle_max: pool.settings.idle_max,
            last_used: self.last_used,
        };
        let actions = expiry::plan(self.swept_at, &ages, counts);
        let closed: Vec<_> = actions
            .close
            .iter()
            .rev()
            .map(|index| self.idle.remove(*index).retire())
            .collect();
        self.totals.closes += closed.len() as u64;
        let may_dial = !self.paused && !self.closed && self.waiters.is_empty() && !self.failing();
        let dials = (0..if may_dial { actions.dial } else { 0 })
            .map_while(|_| self.dial(pool))
            .collect();
        Sweep { closed, dials }
    }

    fn cull(&mut self, is_alive: &mut impl FnMut(&mut S) -> bool) -> Vec<Retired<S>> {
        let dead: Vec<_> = self
            .idle
            .extract_if(.., |idle| !is_alive(&mut idle.server))
            .map(Idle::retire)
            .collect();
        self.totals.closes += dead.len() as u64;
        dead
    }
}

impl<S> Idle<S> {
    fn retire(self) -> Retired<S> {
        Retired::new(self.server, self.life)
    }
}

impl<S> Waiting<S> {
    async fn outcome(mut self) -> Result<Lease<S>, CheckoutError> {
        let wait_max = self.pool.settings.wait_max;
        let granted = match tokio::time::timeout(wait_max, &mut self.grant).await {
            Ok(granted) => granted,
            Err(_) if self.pool.leave(self.ticket) => return Err(self.timed_out()),
            // the hand-off and the deadline met: the server has left the queue's hands and arrives now
            Err(_) => (&mut self.grant).await,
        };
        self.pool.state.lock().totals.waited += self.since.elapsed();
        let pool = || self.pool.name.to_string();
        match granted {
            Ok(Grant::Lease(handoff)) => handoff
                .accept()
                .ok_or_else(|| CheckoutError::Closed { pool: pool() }),
            Ok(Grant::Unreachable(failure)) => Err(self.pool.unreachable(failure)),
            Err(_) => Err(CheckoutError::Closed { pool: pool() }),
        }
    }

    fn timed_out(&self) -> CheckoutError {
        let mut state = self.pool.state.lock();
        let waited = self.since.elapsed();
        state.totals.timeouts += 1;
        state.totals.waited += waited;
        // counted with itself: this client was one of those waiting
        let waiting = state.waiters.len() + 1;
        CheckoutError::TimedOut {
            pool: self.pool.name.to_string(),
            waited,
            held: state.held(&self.pool.ceiling),
            waiting,
        }
    }
}

impl<S> Drop for Waiting<S> {
    fn drop(&mut self) {
        // afterwards the receiver goes, and with it a hand-off that had arrived: its own Drop passes it on
        self.pool.leave(self.ticket);
    }
}

#[cfg(test)]
pub(super) mod tests;
