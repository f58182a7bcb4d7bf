//! One database of the shard map, live: its pools, topology, catalog and plans.
//! A transaction reads one snapshot of it, which a reload or DDL replaces whole.

use super::gather::Scratches;
use super::neighbours::Neighbours;
use super::sequences::Asking;
use super::servers::{ServerUser, Servers};
use super::waits::Waits;
use crate::catalog::Catalog;
use crate::catalog::lingering::Lingering;
use crate::cluster::gate::Closed;
use crate::cluster::notifications::Notifications;
use crate::cluster::scratch::{Recipe, ScratchError, Workshop};
use crate::cluster::topology::Topology;
use crate::config::{Config, Database, ServerAddress, UserPool};
use crate::consistency::NamedSessions;
use crate::pool::server::parameters_hash;
use crate::route::PlannedText;
use crate::route::cache::PlanCache;
use crate::sql::lift::templates::Templates;
use crate::wire::build;
use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sets of reported parameters kept.
const GREETINGS_MAX: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How long DDL is gathered before the catalog is loaded for all of it.
const REFRESH_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
const REFRESH_ATTEMPTS: usize = 10;

/// What a session is told at its start, as a server with its settings would tell it.
pub struct Greeting {
    pub parameters: Arc<Vec<(String, String)>>,
    /// of those that a session can change
    pub hash: u64,
    /// a ParameterStatus for each
    pub messages: Bytes,
}

impl Greeting {
    #[must_use]
    pub fn new(parameters: Vec<(String, String)>) -> Self {
        let mut messages = BytesMut::new();
        for (name, value) in &parameters {
            build::parameter_status(&mut messages, name, value);
        }
        Self {
            hash: parameters_hash(&parameters),
            parameters: Arc::new(parameters),
            messages: messages.freeze(),
        }
    }
}

/// By user and settings.
type Greetings = lru::LruCache<(Arc<str>, u64), Arc<Greeting>>;

/// What one transaction may read.
pub struct Snapshot {
    pub database: Arc<Database>,
    pub catalog: Arc<Catalog>,
    /// part of every plan's key: differs whenever map or catalog do
    pub version: u64,
}

pub struct Backend {
    pub config: Arc<Config>,
    pub topology: Arc<Topology>,
    pub servers: Servers,
    /// sessions that wait for a server while they hold others
    pub waits: Waits,
    pub named: NamedSessions,
    pub plans: PlanCache<PlannedText>,
    pub templates: Templates,
    pub scratches: Scratches,
    pub notifications: Arc<Notifications>,
    pub asking: Asking,
    pub neighbours: Arc<Neighbours>,
    /// what servers report at log-in, by user and settings
    pub greetings: Mutex<Greetings>,
    snapshot: ArcSwap<Snapshot>,
    /// with what settings sessions began when that was last looked at
    defaults: Mutex<Option<String>>,
    /// one refresh of the catalog at a time
    refresh: tokio::sync::Mutex<()>,
    /// how often functions were looked at; held while what was seen is put in place
    looked: tokio::sync::Mutex<u64>,
    /// DDL has run that nobody waits for: a refresh is under way, or follows the one that is
    stale: AtomicBool,
    /// loads the catalog from the home shard; given by whoever built this
    loader: Box<dyn Loader>,
}

/// Where a fresh catalog comes from.
#[async_trait::async_trait]
pub trait Loader: Send + Sync {
    async fn load(&self) -> Result<Catalog, String>;
    /// Of the catalog, what has to be known before the next statement.
    async fn lingering(&self) -> Result<Lingering, String>;
    /// With what settings sessions begin on the home shard, as a text that differs when they do.
    async fn defaults(&self) -> Result<String, String>;
    /// The home shard's schema as scratch databases are made after it.
    async fn recipe(&self) -> Result<Recipe, ScratchError>;
    /// Where scratch databases are made: on the server with this address.
    fn workshop<'a>(&'a self, address: &'a ServerAddress) -> Workshop<'a>;
    /// Values of a sequence of the home shard, all of one shard of the keyspace.
    async fn draw(
        &self,
        keyspace: usize,
        key_type: crate::shard::KeyType,
        sequence: &str,
        rows: usize,
        wanted: Option<crate::shard::ShardId>,
    ) -> Result<(crate::shard::ShardId, Vec<i64>), String>;
}

impl Backend {
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        database: Arc<Database>,
        catalog: Catalog,
        servers: Servers,
        notifications: Arc<Notifications>,
        neighbours: Arc<Neighbours>,
        loader: Box<dyn Loader>,
    ) -> Arc<Self> {
        let snapshot = Snapshot {
            database: database.clone(),
            catalog: Arc::new(catalog),
            version: 1,
        };
        let backend = Arc::new(Self {
            plans: PlanCache::new(config.limits.plans_max),
            templates: Templates::new(config.limits.plans_max),
            scratches: Scratches::new(
                config.limits.gather_connections_max,
                config.limits.gather_disk_bytes_max,
            ),
            named: NamedSessions::new(database.consistency.sessions_max),
            greetings: Mutex::new(lru::LruCache::new(GREETINGS_MAX)),
            config,
            topology: servers.topology().clone(),
            servers,
            notifications,
            asking: Asking::default(),
            neighbours: neighbours.clone(),
            waits: Waits::default(),
            snapshot: ArcSwap::from_pointee(snapshot),
            defaults: Mutex::default(),
            refresh: tokio::sync::Mutex::new(()),
            looked: tokio::sync::Mutex::new(0),
            stale: AtomicBool::new(false),
            loader,
        });
        neighbours.enlist(&backend);
        backend
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Whether `snapshot` is still the one in force (no counting on the hot path).
    #[must_use]
    pub fn is_current(&self, snapshot: &Arc<Snapshot>) -> bool {
        std::ptr::eq(Arc::as_ptr(snapshot), Arc::as_ptr(&self.snapshot.load()))
    }

    #[must_use]
    pub fn loader(&self) -> &dyn Loader {
        &*self.loader
    }

    /// As whom servers know this user of ours; None for one that is neither listed nor known to the database.
    #[must_use]
    pub fn server_user(&self, name: &str) -> Option<ServerUser> {
        let listed = self.config.users.iter().find(|u| u.name == name);
        let listed = listed.map(|user| ServerUser {
            name: user.server_user.clone(),
            password: user.server_password.clone(),
            passes_on: user.passes_on(),
            pool: user.pool,
        });
        let asked = self.snapshot.load().database.auth_query.is_some();
        listed.or_else(|| {
            asked.then(|| ServerUser {
                name: name.to_owned(),
                password: None,
                passes_on: true,
                pool: UserPool::default(),
            })
        })
    }

    /// Whether its data, or a part of it, is this database of this server.
    #[must_use]
    pub fn is_at(&self, address: &ServerAddress, database: &str) -> bool {
        let ours = self.snapshot();
        let mut shards = ours.database.shards.iter();
        ours.database.server_database == database && shards.any(|s| s.primary == *address)
    }

    /// Closes what is connected and not in use, and connects no more as long as the answer lives.
    #[must_use]
    pub fn leave(&self) -> Closed {
        let closed = self.topology.leave();
        self.servers.leave();
        self.notifications.leave();
        closed
    }

    /// Loads the catalog again; if it has changed, plans of the old one are no longer found.
    pub async fn refresh_catalog(&self) -> Result<(), String> {
        let _one = self.refresh.lock().await;
        self.stale.store(false, Ordering::SeqCst);
        let looked = *self.looked.lock().await;
        let mut catalog = self.loader.load().await?;
        let now = self.looked.lock().await;
        if *now != looked {
            // functions have changed while it was loaded
            catalog.lingering = self.loader.lingering().await?;
        }
        let old = self.snapshot.load();
        if catalog.version == old.catalog.version {
            return Ok(());
        }
        self.put(Some(&Arc::new(catalog)));
        Ok(())
    }

    /// Sessions begin with other settings from now on: so does every server that one of them gets.
    pub fn begin_anew(&self) {
        for entry in self.servers.all() {
            drop(entry.pool.close_all());
        }
        self.greetings.lock().clear();
    }

    /// The same where it was said by another way than through here.
    pub async fn look_at_defaults(&self) -> Result<(), String> {
        let now = self.loader.defaults().await?;
        let before = self.defaults.lock().replace(now.clone());
        if before.is_some_and(|before| before != now) {
            self.begin_anew();
        }
        Ok(())
    }

    /// With one server there is no choice that a catalog of a moment ago could make wrongly: statements go on while it is
    /// loaded, and a migration of a thousand statements costs a few loads.
    #[must_use]
    pub fn may_refresh_later(&self) -> bool {
        let shards = &self.snapshot.load().database.shards;
        matches!(&shards[..], [only] if only.replicas.is_empty())
    }

    /// Functions have changed: which of them leave something in a session is known before the next statement.
    pub async fn refresh_lingering(&self) -> Result<(), String> {
        let mut looked = self.looked.lock().await;
        *looked = looked.wrapping_add(1);
        let lingering = self.loader.lingering().await?;
        let old = self.snapshot.load();
        if lingering == old.catalog.lingering {
            return Ok(());
        }
        let mut catalog = Catalog::clone(&old.catalog);
        catalog.lingering = lingering;
        self.put(Some(&Arc::new(catalog)));
        Ok(())
    }

    /// A snapshot of its own version, whoever else makes one at this moment.
    fn put(&self, catalog: Option<&Arc<Catalog>>) {
        self.snapshot.rcu(|old| Snapshot {
            database: old.database.clone(),
            catalog: catalog.unwrap_or(&old.catalog).clone(),
            version: old.version + 1,
        });
        self.plans.clear();
    }

    /// Loads the catalog again, soon. What was planned and parsed before is not found any more from now on: the tables it
    /// names may be others.
    pub fn refresh_soon(self: &Arc<Self>) {
        self.put(None);
        if self.stale.swap(true, Ordering::SeqCst) {
            return;
        }
        let backend = self.clone();
        tokio::spawn(async move {
            // while others change the schema, what is read can vanish under the reading
            for attempt in 1..=REFRESH_ATTEMPTS {
                tokio::time::sleep(REFRESH_PAUSE).await;
                match backend.refresh_catalog().await {
                    Ok(()) => return,
                    Err(error) if attempt == REFRESH_ATTEMPTS => {
                        tracing::error!(%error, "the catalog could not be loaded after DDL; plans are made from the old one");
                    }
                    Err(_) => {}
                }
            }
        });
    }
}
