//! Cancel requests: from the key a client was given to the servers that work for it at this moment.

use crate::exec::backend::Backend;
use crate::exec::executor::CancelSlot;
use crate::wire::build;
use arc_swap::ArcSwap;
use bytes::BytesMut;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long one cancel may take; its client's servers stay with it that long.
const CANCEL_MAX: Duration = Duration::from_secs(5);

struct Entry {
    secret: Vec<u8>,
    slot: Arc<CancelSlot>,
    backend: Arc<ArcSwap<Backend>>,
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
        backend: Arc<ArcSwap<Backend>>,
    ) -> Registered {
        self.entries.lock().insert(pid, Entry { secret, slot, backend });
        Registered { cancels: self.clone(), pid }
    }

    /// Stops what the client with this key is doing; a wrong key does nothing.
    pub async fn cancel(&self, pid: i32, secret: &[u8]) {
        let (slot, backend) = {
            let entries = self.entries.lock();
            let Some(entry) = entries.get(&pid) else { return };
            if !bool::from(entry.secret.as_slice().ct_eq(secret)) {
                return;
            }
            (entry.slot.clone(), entry.backend.load_full())
        };
        // a client that waits for a server is woken; one that does not has left nothing to wake
        slot.wake.notify_waiters();
        // held until every cancel has arrived: none of these servers is lent to anyone else before
        let target = slot.target.lock().await;
        for (member, pid, secret) in &target.running {
            let address = backend.topology.address(*member);
            let _ = tokio::time::timeout(CANCEL_MAX, send(&address.host, address.port, *pid, *secret)).await;
        }
    }
}

async fn send(host: &str, port: u16, pid: i32, secret: i32) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect((host, port)).await?;
    let mut packet = BytesMut::new();
    build::cancel_request(&mut packet, pid, secret);
    stream.write_all(&packet).await?;
    // the postmaster closes the connection when the signal has been sent
    let mut rest = [0; 1];
    let _ = stream.read(&mut rest).await?;
    Ok(())
}
