//! Cancel requests: from the key a client was given to the servers that work for it at this moment.

use crate::exec::cancel::send_cancel;
use crate::exec::executor::CancelSlot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

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
        // a client that waits for a server is woken; one that does not has left nothing to wake
        slot.wake.notify_waiters();
        // held until every cancel has arrived: none of these servers is lent to anyone else before
        let mut target = slot.target.lock().await;
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
}
