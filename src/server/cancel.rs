//! Cancel requests: from the key a client was given to the servers that work for it at this moment.

use crate::exec::cancel::send_cancel;
use crate::exec::executor::{CancelSlot, CancelTarget};
use crate::exec::overrun::Verdict;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use subtle::ConstantTimeEq;
use tokio::sync::MutexGuard;

struct Entry {
    secret: Vec<u8>,
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
    pub fn register(
        self: &Arc<Self>,
        pid: i32,
        secret: Vec<u8>,
        slot: Arc<CancelSlot>,
    ) -> Registered {
        self.entries.lock().insert(pid, Entry { secret, slot });
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
        let slot = {
            let entries = self.entries.lock();
            let Some(entry) = entries.get(&pid) else {
                return;
            };
            if !bool::from(entry.secret.as_slice().ct_eq(secret)) {
                return;
            }
            entry.slot.clone()
        };
        let target = slot.target.lock().await;
        stop(&slot, target).await;
    }

    /// Passes this verdict on the client with this key, if it still holds when its turn has come, and stops what it is
    /// doing.
    pub async fn overrun(&self, pid: i32, verdict: Verdict, holds: impl Fn() -> bool) {
        let slot = {
            let entries = self.entries.lock();
            let Some(entry) = entries.get(&pid) else {
                return;
            };
            entry.slot.clone()
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
