//! The register of connected clients, bounded: who is there and what each of them is doing, as their sessions say.
//! It does not know sessions, servers or names of shards.

use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// between transactions, holds nothing
    Idle,
    /// a statement is running
    Active,
    /// waits for a server
    Waiting,
    /// in a transaction, the client's turn
    IdleInTransaction,
}

impl ClientState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::IdleInTransaction => "idle in transaction",
        }
    }

    fn of_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::Idle,
            1 => Self::Active,
            2 => Self::Waiting,
            _ => Self::IdleInTransaction,
        }
    }
}

/// Who a client is; fixed at login.
#[derive(Clone, Debug)]
pub struct Identity {
    pub user: String,
    pub database: String,
    /// None over a Unix socket
    pub peer: Option<SocketAddr>,
    /// the backend key's process id, as the client sees it
    pub pid: i32,
}

/// One connected client. Written by its own session only, read by the console.
#[derive(Debug)]
pub struct ClientInfo {
    pub id: u64,
    pub identity: Identity,
    pub connected_at: Instant,
    /// microseconds since `connected_at` of the last change, shifted left by 2; the state in the lowest 2 bits
    state: AtomicU64,
    queries: AtomicU64,
    /// the state for which it was last found to have taken too long
    overrun: AtomicU64,
    rest: Mutex<Rest>,
}

/// What a client is doing, and since when; another moment is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    word: u64,
    pub state: ClientState,
    pub since: Instant,
}

/// What changes once a transaction or more rarely.
#[derive(Debug, Default)]
struct Rest {
    application_name: String,
    pinned: Option<(&'static str, Instant)>,
    transaction_since: Option<Instant>,
    shards: SmallVec<[u16; 4]>,
}

/// A client at one moment.
#[derive(Clone, Debug)]
pub struct ClientStatus {
    pub id: u64,
    pub identity: Identity,
    pub application_name: String,
    pub state: ClientState,
    pub in_state: Duration,
    pub connected: Duration,
    pub queries: u64,
    pub pinned: Option<(&'static str, Duration)>,
    pub transaction: Option<Duration>,
    /// shards whose servers it holds
    pub shards: Vec<u16>,
}

impl ClientInfo {
    /// One atomic store; `now` is the batch's clock reading.
    pub fn set_state(&self, state: ClientState, now: Instant) {
        let micros = now.saturating_duration_since(self.connected_at).as_micros() as u64;
        self.state
            .store(micros << 2 | state as u64, Ordering::Relaxed);
    }

    #[must_use]
    pub fn doing(&self) -> Doing {
        let word = self.state.load(Ordering::SeqCst);
        Doing {
            word,
            state: ClientState::of_bits(word),
            since: self.connected_at + Duration::from_micros(word >> 2),
        }
    }

    /// True the first time for each thing it does.
    #[must_use]
    pub fn note_overrun(&self, doing: Doing, ends: bool) -> bool {
        let word = doing.word | u64::from(ends) << 63;
        self.overrun.swap(word, Ordering::Relaxed) != word
    }

    #[must_use]
    pub fn transaction_since(&self) -> Option<Instant> {
        self.rest.lock().transaction_since
    }

    /// Statements done; the session is the only writer, so nothing is locked.
    pub fn count_queries(&self, queries: u64) {
        let before = self.queries.load(Ordering::Relaxed);
        self.queries.store(before + queries, Ordering::Relaxed);
    }

    /// As in Postgres: the first 63 bytes.
    pub fn set_application_name(&self, name: &str) {
        let end = (0..=name.len().min(63))
            .rev()
            .find(|end| name.is_char_boundary(*end));
        name[..end.unwrap_or(0)].clone_into(&mut self.rest.lock().application_name);
    }

    /// Why it keeps a server, and since when. True when that is another pin than the last one.
    pub fn pin(&self, pin: Option<(&'static str, Instant)>) -> bool {
        let before = std::mem::replace(&mut self.rest.lock().pinned, pin);
        pin.is_some() && pin != before
    }

    pub fn begin_transaction(&self, now: Instant) {
        self.rest.lock().transaction_since.get_or_insert(now);
    }

    pub fn end_transaction(&self) {
        self.rest.lock().transaction_since = None;
    }

    /// A server of this shard is held from now on.
    pub fn hold(&self, shard: u16) {
        let mut rest = self.rest.lock();
        if !rest.shards.contains(&shard) {
            rest.shards.push(shard);
        }
    }

    /// No server is held any more.
    pub fn release(&self) {
        self.rest.lock().shards.clear();
    }

    #[must_use]
    pub fn status(&self, now: Instant) -> ClientStatus {
        let word = self.state.load(Ordering::Relaxed);
        let connected = now.saturating_duration_since(self.connected_at);
        let since = |then: Instant| now.saturating_duration_since(then);
        let rest = self.rest.lock();
        ClientStatus {
            id: self.id,
            identity: self.identity.clone(),
            application_name: rest.application_name.clone(),
            state: ClientState::of_bits(word),
            in_state: connected.saturating_sub(Duration::from_micros(word >> 2)),
            connected,
            queries: self.queries.load(Ordering::Relaxed),
            pinned: rest.pinned.map(|(reason, then)| (reason, since(then))),
            transaction: rest.transaction_since.map(since),
            shards: rest.shards.to_vec(),
        }
    }
}

/// The register.
#[derive(Debug)]
pub struct Clients {
    max: usize,
    next_id: AtomicU64,
    connected: Mutex<HashMap<u64, Arc<ClientInfo>>>,
}

impl Clients {
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            next_id: AtomicU64::new(1),
            connected: Mutex::default(),
        })
    }

    /// None when `max` clients are connected already. The client is in the register until the handle is dropped.
    pub fn register(self: &Arc<Self>, identity: Identity, now: Instant) -> Option<ClientHandle> {
        let mut connected = self.connected.lock();
        if connected.len() >= self.max {
            return None;
        }
        let info = Arc::new(ClientInfo {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            identity,
            connected_at: now,
            state: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            overrun: AtomicU64::new(u64::MAX),
            rest: Mutex::default(),
        });
        connected.insert(info.id, Arc::clone(&info));
        Some(ClientHandle {
            info,
            register: Arc::clone(self),
        })
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.connected.lock().len()
    }

    /// How many of those connected are like this.
    #[must_use]
    pub fn count_of(&self, like: impl Fn(&Identity) -> bool) -> usize {
        let connected = self.connected.lock();
        connected.values().filter(|c| like(&c.identity)).count()
    }

    /// Everybody, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.connected.lock().values().cloned().collect()
    }

    /// Everybody, in the order of their arrival.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<ClientStatus> {
        let mut all: Vec<_> = self.connected.lock().values().cloned().collect();
        all.sort_unstable_by_key(|client| client.id);
        all.iter().map(|client| client.status(now)).collect()
    }
}

/// A session's own place in the register.
#[derive(Debug)]
pub struct ClientHandle {
    info: Arc<ClientInfo>,
    register: Arc<Clients>,
}

impl Deref for ClientHandle {
    type Target = ClientInfo;

    fn deref(&self) -> &ClientInfo {
        &self.info
    }
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.register.connected.lock().remove(&self.info.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            user: "app".into(),
            database: "social".into(),
            peer: Some(([127, 0, 0, 1], 5000).into()),
            pid: 7,
        }
    }

    #[test]
    fn the_register_is_bounded_and_forgets_who_left() {
        let clients = Clients::new(2);
        let now = Instant::now();
        let first = clients.register(identity(), now).unwrap();
        let second = clients.register(identity(), now).unwrap();
        assert!(clients.register(identity(), now).is_none());
        assert_ne!(first.id, second.id);
        drop(first);
        assert_eq!(clients.count(), 1);
        assert!(clients.register(identity(), now).is_some());
    }

    #[test]
    fn a_status_says_what_the_session_said() {
        let clients = Clients::new(2);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let client = clients.register(identity(), start).unwrap();
        client.set_application_name(&"ä".repeat(40));
        client.begin_transaction(at(10));
        client.hold(3);
        client.hold(3);
        assert!(client.pin(Some(("temporary table", at(20)))));
        assert!(!client.pin(Some(("temporary table", at(20)))));
        client.set_state(ClientState::Waiting, at(40));
        client.count_queries(2);
        client.count_queries(1);
        let status = clients.status(at(100)).remove(0);
        assert_eq!(status.application_name.len(), 62);
        assert_eq!(status.state, ClientState::Waiting);
        assert_eq!(status.in_state, Duration::from_millis(60));
        assert_eq!(status.transaction, Some(Duration::from_millis(90)));
        assert_eq!(
            status.pinned,
            Some(("temporary table", Duration::from_millis(80)))
        );
        assert_eq!((status.shards, status.queries), (vec![3], 3));
        client.release();
        assert!(!client.pin(None));
        client.end_transaction();
        let status = client.status(at(100));
        assert!(
            status.shards.is_empty() && status.pinned.is_none() && status.transaction.is_none()
        );
    }

    #[test]
    fn every_state_survives_its_packing() {
        use ClientState::{Active, Idle, IdleInTransaction, Waiting};
        for state in [Idle, Active, Waiting, IdleInTransaction] {
            assert_eq!(ClientState::of_bits(12_345 << 2 | state as u64), state);
        }
    }
}
