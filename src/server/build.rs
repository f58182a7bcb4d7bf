//! From the configuration to live databases: control pools, topology, catalog, the start-up check, data pools.

use super::Backends;
use crate::auth::keyring::KeyRing;
use crate::catalog::Catalog;
use crate::catalog::lingering::Lingering;
use crate::cluster::check::check;
use crate::cluster::control::ControlPools;
use crate::cluster::draw::draw_on_one_shard;
use crate::cluster::finding::{Report, Severity};
use crate::cluster::inspect::{Member, home_catalog, inspect_all};
use crate::cluster::load::{defaults, lingering, load};
use crate::cluster::notifications::Notifications;
use crate::cluster::scratch::{self, Recipe, ScratchError, Workshop};
use crate::cluster::topology::Topology;
use crate::config::{Config, Database, ServerAddress};
use crate::exec::backend::{Backend, Loader};
use crate::exec::neighbours::Neighbours;
use crate::exec::servers::Servers;
use crate::net::Connector;
use crate::pool::Ceilings;
use crate::pool::server::Server;
use crate::shard::{KeyType, KeyValue, ShardId};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

/// How long the first look at a server may take.
const INSPECT_MAX: Duration = Duration::from_secs(5);

/// What all databases share, and a reload keeps.
pub struct Common {
    /// what clients have shown, to log in to servers with
    pub ring: Arc<KeyRing>,
    pub neighbours: Arc<Neighbours>,
    pub ceilings: Arc<Ceilings<Server>>,
}

/// One for each database of the map; what goes on listening is taken over from those that run.
pub async fn backends(
    config: &Arc<Config>,
    common: &Common,
    running: &Backends,
) -> Result<Backends, String> {
    let mut backends = Backends::new();
    for database in &config.databases {
        let running = running.get(&database.name).map(|slot| slot.load_full());
        let backend = backend(config, database, common, running.as_deref()).await?;
        backends.insert(database.name.clone(), Arc::new(ArcSwap::new(backend)));
    }
    Ok(backends)
}

async fn backend(
    config: &Arc<Config>,
    database: &Database,
    common: &Common,
    running: Option<&Backend>,
) -> Result<Arc<Backend>, String> {
    let database = Arc::new(database.clone());
    let control = Arc::new(ControlPools::new(&database).map_err(|e| e.to_string())?);
    let members = look(&database, &control).await;
    let report = check(&database, &members);
    say(&report, &database);
    if report.forbids_serving() {
        return Err(refusal(&report, &database));
    }
    let catalog = home_catalog(&database, &members)
        .cloned()
        .unwrap_or_default();
    let topology = Topology::start(&database, control.clone());
    topology.wait_first_samples(Duration::from_secs(2)).await;
    let connector = Connector::new(&database.server_tls).map_err(|e| e.to_string())?;
    let servers = Servers::new(
        database.clone(),
        connector,
        topology,
        common.ring.clone(),
        common.ceilings.clone(),
    );
    let notifications = match running {
        Some(running) if running.notifications.serves(&database) => running.notifications.clone(),
        _ => Notifications::new(control.clone(), &database, config.limits.notify_bytes_max),
    };
    let loader = Box::new(ControlLoader {
        database: database.clone(),
        control,
        known: parking_lot::Mutex::new(catalog.clone()),
    });
    let backend = Backend::new(
        config.clone(),
        database,
        catalog,
        servers,
        notifications,
        common.neighbours.clone(),
        loader,
    );
    if let Err(error) = backend.look_at_defaults().await {
        tracing::debug!(%error, "what sessions begin with is not known yet");
    }
    Ok(backend)
}

/// Every server of the database as it is now.
pub async fn look(database: &Database, control: &ControlPools) -> Vec<Member> {
    inspect_all(database, |address| {
        let address = address.clone();
        async move {
            match tokio::time::timeout(INSPECT_MAX, control.client(&address)).await {
                Ok(Ok(client)) => Ok(client),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {INSPECT_MAX:?}")),
            }
        }
    })
    .await
}

fn say(report: &Report, database: &Database) {
    for finding in report.iter() {
        let text = finding.line(database);
        match finding.severity {
            Severity::Error => tracing::error!(database = %database.name, "{text}"),
            Severity::Warning => tracing::warn!(database = %database.name, "{text}"),
        }
    }
}

fn refusal(report: &Report, database: &Database) -> String {
    let errors: Vec<String> = report
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .map(|f| f.line(database))
        .collect();
    errors.join("\n")
}

/// Loads and draws over the control plane's connections to the home shard.
struct ControlLoader {
    database: Arc<Database>,
    control: Arc<ControlPools>,
    known: parking_lot::Mutex<Catalog>,
}

#[async_trait::async_trait]
impl Loader for ControlLoader {
    async fn load(&self) -> Result<Catalog, String> {
        let home = &self.database.shards[self.database.home.index()].primary;
        let client = self.control.client(home).await.map_err(|e| e.to_string())?;
        let fresh = load(&client).await.map_err(|e| e.to_string())?;
        let mut known = self.known.lock();
        let next = fresh.successor_of(&known);
        *known = next.clone();
        Ok(next)
    }

    async fn lingering(&self) -> Result<Lingering, String> {
        let home = &self.database.shards[self.database.home.index()].primary;
        let client = self.control.client(home).await.map_err(|e| e.to_string())?;
        lingering(&client).await.map_err(|e| e.to_string())
    }

    async fn defaults(&self) -> Result<String, String> {
        let home = &self.database.shards[self.database.home.index()].primary;
        let client = self.control.client(home).await.map_err(|e| e.to_string())?;
        defaults(&client).await.map_err(|e| e.to_string())
    }

    async fn recipe(&self) -> Result<Recipe, ScratchError> {
        let home = &self.database.shards[self.database.home.index()].primary;
        let name = &self.database.server_database;
        let client = self.control.connect(home, None, name).await?;
        scratch::recipe(&client).await
    }

    fn workshop<'a>(&'a self, address: &'a ServerAddress) -> Workshop<'a> {
        Workshop {
            control: &self.control,
            database: &self.database,
            address,
        }
    }

    async fn draw(
        &self,
        keyspace: usize,
        key_type: KeyType,
        sequence: &str,
        rows: usize,
        wanted: Option<ShardId>,
    ) -> Result<(ShardId, Vec<i64>), String> {
        let home = &self.database.shards[self.database.home.index()].primary;
        let client = self.control.client(home).await.map_err(|e| e.to_string())?;
        let keyspace = &self.database.keyspaces[keyspace];
        let locate = |value: i64| {
            let key = match key_type {
                KeyType::Numeric => KeyType::Numeric
                    .parse_text(value.to_string().as_bytes())
                    .unwrap_or(KeyValue::Int(value)),
                _ => KeyValue::Int(value),
            };
            keyspace.locate(&[key])
        };
        draw_on_one_shard(&client, sequence, rows, wanted, locate)
            .await
            .map_err(|e| e.to_string())
    }
}
