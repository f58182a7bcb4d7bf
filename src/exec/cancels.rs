//! From the key or number that a client was given to what it does at this moment: cancel requests, bounds of time, and
//! `pg_terminate_backend()` and `pg_cancel_backend()` of its number.

use super::cancel::send_cancel;
use super::executor::{CancelSlot, CancelTarget};
use super::failure::Report;
use super::overrun::{Scope, Verdict};
use crate::auth::client::Login;
use crate::sql::signal::Signal;
use crate::wire::sqlstate::SqlState;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::MutexGuard;

/// Between two attempts to stop what a client does that is to end.
const STOPS_EVERY: Duration = Duration::from_millis(100);

struct Entry {
    secret: Vec<u8>,
    user: Box<str>,
    slot: Arc<CancelSlot>,
}

/// Keys of the clients that are connected; as many as there are clients.
#[derive(Default)]
pub struct Cancels {
    entries: Mutex<HashMap<i32, Entry>>,
}

/// Takes the key away when its client leaves.
pub struct Registered {
    cancels: Arc<Cancels>,
    pid: i32,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.entries.lock().remove(&self.pid);
    }
}

impl Cancels {
    pub fn register(self: &Arc<Self>, login: &Login, slot: Arc<CancelSlot>) -> Registered {
        let pid = login.pid;
        let entry = Entry {
            secret: login.secret.clone(),
            user: login.user.as_str().into(),
            slot,
        };
        self.entries.lock().insert(pid, entry);
        Registered {
            cancels: self.clone(),
            pid,
        }
    }

    /// Wakes every client that is idle, so that it sees that pgshunt shuts down.
    pub fn ring_all(&self) {
        let slots: Vec<_> = self
            .entries
            .lock()
            .values()
            .map(|e| e.slot.clone())
            .collect();
        for slot in slots {
            slot.bell.wake();
        }
    }

    /// Stops what the client with this key is doing; a wrong key does nothing.
    pub async fn cancel(&self, pid: i32, secret: &[u8]) {
        let knows = |entry: &Entry| bool::from(entry.secret.as_slice().ct_eq(secret));
        let Some(slot) = self.slot_where(pid, knows) else {
            return;
        };
        let target = slot.target.lock().await;
        stop(&slot, target).await;
    }

    /// A client of this number and user is connected: PostgreSQL would let the user signal its process.
    #[must_use]
    pub fn may_signal(&self, pid: i32, user: &str) -> bool {
        self.slot_where(pid, |entry| *entry.user == *user).is_some()
    }

    /// What the client of this number does, if it is one of these.
    fn slot_where(&self, pid: i32, is: impl FnOnce(&Entry) -> bool) -> Option<Arc<CancelSlot>> {
        let entries = self.entries.lock();
        let entry = entries.get(&pid).filter(|entry| is(entry))?;
        Some(entry.slot.clone())
    }

    /// Does to this client what a signal does to a process. Nobody waits until it has been done.
    pub fn signal(self: &Arc<Self>, pid: i32, signal: Signal) {
        let Some(slot) = self.slot_where(pid, |_| true) else {
            return;
        };
        match signal {
            Signal::Cancel => {
                tokio::spawn(async move { stop(&slot, slot.target.lock().await).await });
            }
            // somebody is at it
            Signal::Terminate if slot.overrun.for_good().is_some() => {}
            Signal::Terminate => {
                slot.overrun.pass(terminated());
                tokio::spawn(self.clone().end(pid, slot));
            }
        }
    }

    /// Stops what this client is doing until it has gone: a server that is told to before it has the statement does nothing.
    async fn end(self: Arc<Self>, pid: i32, slot: Arc<CancelSlot>) {
        while self
            .slot_where(pid, |entry| Arc::ptr_eq(&entry.slot, &slot))
            .is_some()
        {
            stop(&slot, slot.target.lock().await).await;
            tokio::time::sleep(STOPS_EVERY).await;
        }
    }

    /// Passes this verdict on the client with this key, if it still holds when its turn has come, and stops what it is
    /// doing.
    pub async fn overrun(&self, pid: i32, verdict: Verdict, holds: impl Fn() -> bool) {
        let Some(slot) = self.slot_where(pid, |_| true) else {
            return;
        };
        let target = slot.target.lock().await;
        slot.overrun.pass(verdict);
        slot.requested.store(true, Ordering::SeqCst);
        if !holds() {
            slot.begin();
            return;
        }
        slot.bell.wake();
        stop(&slot, target).await;
    }
}

/// In PostgreSQL's words.
fn terminated() -> Verdict {
    let words = "terminating connection due to administrator command";
    Verdict {
        report: Report::new(SqlState("57P01"), words),
        scope: Scope::ConnectionForGood,
    }
}

/// Stops what this client is doing. The target is held until every cancel has arrived: none of these servers is lent to
/// anyone else before.
async fn stop(slot: &CancelSlot, mut target: MutexGuard<'_, CancelTarget>) {
    slot.requested.store(true, Ordering::SeqCst);
    // a client that waits for a server is woken; one that does not has left nothing to wake
    slot.wake.notify_waiters();
    // and one whose statement shares a server
    slot.bell.wake();
    let Some(topology) = target.topology.clone() else {
        return;
    };
    for (member, pid, secret) in std::mem::take(&mut target.running) {
        if !send_cancel(topology.address(member), pid, secret).await {
            target.doubtful.push(pid);
        }
        target.running.push((member, pid, secret));
    }
}
