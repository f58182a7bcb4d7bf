//! What a pool lends: a server, or the right to dial one. Each is a guard of one slot of its pool: whatever happens to
//! it, the slot comes back and the next waiter is served. A server that is dropped is closed; only `check_in` reuses it.

use super::ceiling::Seat;
use super::checkout_error::DialFailure;
use super::lending::Pool;
use std::num::NonZeroU64;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

pub enum Lease<S> {
    Ready(Checkout<S>),
    Dial(DialPermit<S>),
}

/// A lent server. Dropping it closes it.
pub struct Checkout<S> {
    // declared in this order: the server is gone before its seat is free, and that before the slot is, so that neither a
    // server nor a pool ever has more than it may, and who comes next finds both
    server: Box<S>,
    life: Life<S>,
    slot: Slot<S>,
    wanted_by: Borrower,
}

/// A server that comes back to its pool.
pub(super) struct Returned<S> {
    pub server: Box<S>,
    pub life: Life<S>,
    pub wanted_by: Borrower,
    pub lent_as: Borrower,
}

/// Who would like to have a certain server again.
pub type Borrower = Option<NonZeroU64>;

/// The right to open one more server. Dropping it passes the right to the next waiter.
pub struct DialPermit<S> {
    // before the slot, as above
    seat: Seat<S>,
    slot: Slot<S>,
    generation: u64,
}

/// What is known of one server, fixed when it was dialled.
pub(super) struct Life<S> {
    pub generation: u64,
    pub dies_at: Instant,
    pub seat: Seat<S>,
}

/// A server that its pool has given up, to be closed.
pub struct Retired<S> {
    server: Box<S>,
    // free once the server is gone
    _life: Life<S>,
}

impl<S> Retired<S> {
    pub(super) fn new(server: Box<S>, life: Life<S>) -> Self {
        Self {
            server,
            _life: life,
        }
    }

    pub fn close_with(self, close: impl FnOnce(S)) {
        let Self { server, _life } = self;
        close(*server);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    InUse,
    Dialling,
    /// given back already
    Nothing,
}

/// One slot of the pool's size.
pub(super) struct Slot<S> {
    pool: Arc<Pool<S>>,
    held: Held,
    /// who wanted its server when that was lent
    lent_as: Borrower,
}

impl<S> Slot<S> {
    pub(super) fn new(pool: Arc<Pool<S>>, held: Held) -> Self {
        Self {
            pool,
            held,
            lent_as: None,
        }
    }

    pub(super) fn lent_as(pool: Arc<Pool<S>>, lent_as: Borrower) -> Self {
        Self {
            pool,
            held: Held::InUse,
            lent_as,
        }
    }

    fn disarm(mut self) -> Arc<Pool<S>> {
        self.held = Held::Nothing;
        self.pool.clone()
    }
}

impl<S> Drop for Slot<S> {
    fn drop(&mut self) {
        if self.held != Held::Nothing {
            self.pool.free(self.held, self.lent_as);
        }
    }
}

impl<S> Checkout<S> {
    pub(super) fn new(server: Box<S>, slot: Slot<S>, life: Life<S>) -> Self {
        Self {
            server,
            wanted_by: slot.lent_as,
            slot,
            life,
        }
    }

    /// From now on others get it only where they can get no other. It holds for nobody else that has it in between.
    pub fn keep_for(&mut self, borrower: Borrower) {
        self.wanted_by = borrower;
    }

    pub fn pool(&self) -> &Arc<Pool<S>> {
        &self.slot.pool
    }

    /// The server is clean and in step: to the first waiter, or to the idle list. Closed instead when its time is over.
    pub fn check_in(self) {
        let (pool, returned) = self.into_parts();
        pool.take_back(returned);
    }

    pub(super) fn into_parts(self) -> (Arc<Pool<S>>, Returned<S>) {
        let Self {
            server,
            slot,
            life,
            wanted_by,
        } = self;
        let returned = Returned {
            server,
            life,
            wanted_by,
            lent_as: slot.lent_as,
        };
        (slot.disarm(), returned)
    }

    /// Closes the server and frees its slot. The same as dropping it, said aloud.
    pub fn close(self) {}

    /// Takes the server out to be closed with care (a Terminate, say) and keeps its slot as the right to dial another:
    /// for a server found dead at checkout, whose client has already waited.
    pub fn replace(self) -> (S, DialPermit<S>) {
        let Self {
            server, life, slot, ..
        } = self;
        let lent_as = slot.lent_as;
        let pool = slot.disarm();
        let permit = pool.redial(lent_as, life.seat);
        (*server, permit)
    }
}

impl<S> Deref for Checkout<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.server
    }
}

impl<S> DerefMut for Checkout<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.server
    }
}

impl<S> DialPermit<S> {
    pub(super) fn new(slot: Slot<S>, seat: Seat<S>, generation: u64) -> Self {
        Self {
            seat,
            slot,
            generation,
        }
    }

    pub fn pool(&self) -> &Arc<Pool<S>> {
        &self.slot.pool
    }

    /// The dial worked: the permit becomes the checkout of its server.
    pub fn fulfil(self, server: S) -> Checkout<S> {
        let Self {
            seat,
            slot,
            generation,
        } = self;
        let pool = slot.disarm();
        let life = pool.dialled(generation, seat);
        Checkout::new(Box::new(server), Slot::new(pool, Held::InUse), life)
    }

    /// The dial failed. The pool remembers it for a moment, and when nobody holds a server its waiters hear of it now.
    pub fn fail(self, failure: DialFailure) -> Arc<DialFailure> {
        let failure = Arc::new(failure);
        let Self { seat, slot, .. } = self;
        drop(seat);
        slot.disarm().dial_failed(&failure);
        failure
    }
}

/// A lease on its way to a waiter. When the waiter is gone before it looked, the server goes to the next one unharmed.
pub(super) struct Handoff<S>(Option<Lease<S>>);

impl<S> Handoff<S> {
    pub(super) fn new(lease: Lease<S>) -> Self {
        Self(Some(lease))
    }

    pub(super) fn accept(mut self) -> Option<Lease<S>> {
        self.0.take()
    }
}

impl<S> Drop for Handoff<S> {
    fn drop(&mut self) {
        if let Some(Lease::Ready(checkout)) = self.0.take() {
            checkout.check_in();
        }
    }
}
