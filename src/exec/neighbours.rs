//! The databases beside a session's own. PostgreSQL drops, renames, moves and copies a database only while nobody is
//! connected to it: clients of pgshunt count, connections that pgshunt keeps for them do not. What is done to the database,
//! and whether it may be, is not known here.

use super::backend::Backend;
use super::executor::{Executor, Placement};
use super::failure::Failure;
use crate::cluster::gate::Closed;
use crate::config::ServerAddress;
use crate::stats::Clients;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Pause between two looks at whether clients have left: PostgreSQL itself waits five seconds for them.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

pub struct Neighbours {
    clients: Arc<Clients>,
    backends: Mutex<Vec<Weak<Backend>>>,
}

/// While it lives, pgshunt has no connection to a database that no client is in.
pub enum Vacancy {
    /// it was empty
    Now { _closed: Vec<Closed> },
    /// it may become so
    Later(AbortHandle),
}

impl Drop for Vacancy {
    fn drop(&mut self) {
        if let Self::Later(watch) = self {
            watch.abort();
        }
    }
}

impl Neighbours {
    #[must_use]
    pub fn new(clients: Arc<Clients>) -> Arc<Self> {
        Arc::new(Self {
            clients,
            backends: Mutex::default(),
        })
    }

    pub fn enlist(&self, backend: &Arc<Backend>) {
        let mut backends = self.backends.lock();
        backends.retain(|known| known.strong_count() > 0);
        backends.push(Arc::downgrade(backend));
    }

    /// Leaves this database of a server as soon as no client but the one who asks is in it. None when it is nobody's.
    fn vacate(
        self: &Arc<Self>,
        asks: &Backend,
        address: &ServerAddress,
        database: &str,
    ) -> Option<Vacancy> {
        let all = self.backends.lock();
        let all: Vec<Arc<Backend>> = all.iter().filter_map(Weak::upgrade).collect();
        let is_at = |backend: &Arc<Backend>| backend.is_at(address, database);
        let those: Vec<_> = all.into_iter().filter(is_at).collect();
        if those.is_empty() {
            return None;
        }
        let own = usize::from(asks.is_at(address, database));
        if self.clients_in(&those) <= own {
            return Some(leave(&those));
        }
        let this = self.clone();
        let watch = tokio::spawn(async move {
            while this.clients_in(&those) > own {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            let _vacancy = leave(&those);
            std::future::pending::<()>().await;
        });
        Some(Vacancy::Later(watch.abort_handle()))
    }

    fn clients_in(&self, those: &[Arc<Backend>]) -> usize {
        let within = |database: &str| {
            let named = |backend: &Arc<Backend>| backend.snapshot().database.name == database;
            those.iter().any(named)
        };
        self.clients.count_of(|client| within(&client.database))
    }
}

impl Executor {
    /// Before a statement that wants this database empty, but for the session itself, which has its server by then.
    pub async fn vacate(&mut self, database: &str) -> Result<Option<Vacancy>, Failure> {
        if self.has_failed() {
            return Ok(None);
        }
        let home = self.snapshot.database.home;
        self.acquire(home, Placement::Primary).await?;
        let backend = &self.backend;
        let address = backend.topology.address(backend.topology.primary(home));
        Ok(backend.neighbours.vacate(backend, address, database))
    }
}

fn leave(those: &[Arc<Backend>]) -> Vacancy {
    let closed = those.iter().map(|backend| backend.leave()).collect();
    Vacancy::Now { _closed: closed }
}
