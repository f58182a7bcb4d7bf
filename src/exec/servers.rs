//! The data plane's pools: one for each server and user, made when first asked for.
//! Here a permission to dial becomes a server.

use super::failure::Report;
use super::lane::Lanes;
use crate::auth::keyring::{Holder, KeyRing};
use crate::auth::server::{Credentials, LoginError, login};
use crate::cluster::topology::{ServerId, Topology};
use crate::config::{Database, UserPool};
use crate::net::Connector;
use crate::pool::server::{Server, ServerInfo};
use crate::pool::upkeep::{self, Keeper};
use crate::pool::{
    Borrower, Ceilings, Checkout, CheckoutError, DialFailure, DialPermit, Lease, Pool, PoolName,
};
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two rounds of a pool's upkeep.
const UPKEEP_PAUSE: Duration = Duration::from_secs(1);

type Key = (ServerId, Arc<str>);

pub struct Servers {
    dialer: Arc<Dialer>,
    /// of all databases
    ceilings: Arc<Ceilings<Server>>,
    pools: RwLock<HashMap<Key, Arc<Entry>>>,
}

/// Makes connections to the servers of one database.
pub struct Dialer {
    database: Arc<Database>,
    connector: Connector,
    topology: Arc<Topology>,
    /// what clients have shown, for users without a password of ours
    ring: Arc<KeyRing>,
}

/// A user as servers know it.
#[derive(Clone)]
pub struct ServerUser {
    pub name: String,
    pub password: Option<String>,
    /// what clients have shown goes in the place of a password
    pub passes_on: bool,
    /// what is different in its pools
    pub pool: UserPool,
}

/// Whose connections they are.
#[derive(Clone)]
pub struct Account {
    member: ServerId,
    user: ServerUser,
    /// whose clients have shown something
    holder: Option<Holder>,
}

impl Account {
    #[must_use]
    pub fn member(&self) -> ServerId {
        self.member
    }
}

/// One pool and what is needed to dial for it.
pub struct Entry {
    pub member: ServerId,
    pub pool: Arc<Pool<Server>>,
    pub lanes: Arc<Lanes>,
    account: Account,
    connections: Arc<Connections>,
}

/// Every connection of a pool that is open, for SHOW SERVERS.
#[derive(Default)]
struct Connections {
    open: parking_lot::Mutex<Vec<std::sync::Weak<ServerInfo>>>,
}

impl Connections {
    fn enroll(&self, info: &Arc<ServerInfo>) {
        let mut open = self.open.lock();
        open.retain(|weak| weak.strong_count() > 0);
        open.push(Arc::downgrade(info));
    }
}

/// One connection as SHOW SERVERS shows it.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub pid: i32,
    pub age: Duration,
    /// None while it is in use
    pub idle: Option<Duration>,
    pub prepared: usize,
}

impl Entry {
    /// Servers in use, and clients that wait for one or share one.
    #[must_use]
    pub fn load(&self) -> usize {
        self.pool.load() + self.lanes.riders()
    }

    #[must_use]
    pub fn connections(&self, now: Instant) -> Vec<Connection> {
        let open: Vec<Arc<ServerInfo>> = self
            .connections
            .open
            .lock()
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .collect();
        open.iter()
            .map(|info| Connection {
                pid: info.pid,
                age: now.saturating_duration_since(info.born),
                idle: info
                    .idle_since()
                    .map(|since| now.saturating_duration_since(since)),
                prepared: info.prepared(),
            })
            .collect()
    }
}

impl Servers {
    #[must_use]
    pub fn new(
        database: Arc<Database>,
        connector: Connector,
        topology: Arc<Topology>,
        ring: Arc<KeyRing>,
        ceilings: Arc<Ceilings<Server>>,
    ) -> Self {
        Self {
            dialer: Arc::new(Dialer {
                database,
                connector,
                topology,
                ring,
            }),
            ceilings,
            pools: RwLock::default(),
        }
    }

    /// The pool of a server and user.
    #[must_use]
    pub fn entry(&self, member: ServerId, user: &Arc<str>, account: ServerUser) -> Arc<Entry> {
        let key = (member, user.clone());
        if let Some(entry) = self.pools.read().get(&key) {
            return entry.clone();
        }
        let name = PoolName {
            server: self.dialer.member_name(member),
            user: user.to_string(),
            database: self.dialer.database.name.clone(),
        };
        let mut pools = self.pools.write();
        if let Some(entry) = pools.get(&key) {
            return entry.clone();
        }
        let settings = account.pool.within(&self.dialer.database.pool);
        let account = self.account(member, user, account);
        let ceiling = self.ceilings.of(self.dialer.topology.address(member));
        let pool = Pool::new(name, settings, ceiling);
        let connections = Arc::<Connections>::default();
        let keeper = PoolKeeper {
            dialer: self.dialer.clone(),
            account: account.clone(),
            connections: connections.clone(),
        };
        tokio::spawn(upkeep::run(
            Arc::downgrade(&pool),
            Arc::new(keeper),
            UPKEEP_PAUSE,
        ));
        let entry = Arc::new(Entry {
            member,
            pool,
            lanes: Arc::default(),
            account,
            connections,
        });
        pools.insert(key, entry.clone());
        entry
    }

    #[must_use]
    pub fn member_name(&self, member: ServerId) -> String {
        self.dialer.member_name(member)
    }

    #[must_use]
    pub fn topology(&self) -> &Arc<Topology> {
        &self.dialer.topology
    }

    #[must_use]
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.pools.read().values().cloned().collect()
    }

    /// Closes every server that is not in use, and those that are when they come back.
    pub fn leave(&self) {
        for entry in self.all() {
            entry.lanes.recall();
            drop(entry.pool.close_all());
        }
    }

    /// A client has shown something new: what failed for want of it may succeed now.
    pub fn forget_failures(&self, user: &str) {
        let user: Arc<str> = user.into();
        let pools = self.pools.read();
        for (shard, servers) in (0_u16..).zip(&self.dialer.database.shards) {
            let count = u16::try_from(servers.replicas.len()).unwrap_or(u16::MAX);
            for member in 0..=count {
                let server = ServerId {
                    shard: ShardId(shard),
                    member,
                };
                if let Some(entry) = pools.get(&(server, user.clone())) {
                    entry.pool.forget_failure();
                }
            }
        }
    }

    /// Servers of this member and user that are in use (for the choice of the least loaded).
    #[must_use]
    pub fn load(&self, member: ServerId, user: &Arc<str>) -> usize {
        self.pools
            .read()
            .get(&(member, user.clone()))
            .map_or(0, |e| e.load())
    }

    /// Whose connections they are: of our user, as whom the servers know it.
    #[must_use]
    pub fn account(&self, member: ServerId, user: &str, known_as: ServerUser) -> Account {
        let holder = known_as.passes_on.then(|| Holder {
            database: self.dialer.database.name.clone(),
            user: user.to_owned(),
        });
        Account {
            member,
            user: known_as,
            holder,
        }
    }

    /// A connection to another database of a server; it belongs to no pool. To one that is being made or dropped the server
    /// lets nobody in before that is done: `longest` bounds the wait.
    pub async fn connect_aside(
        &self,
        account: &Account,
        database: &str,
        longest: Duration,
    ) -> Result<Server, Report> {
        let made = self.dialer.connect_to(account, database, longest).await;
        made.map_err(|(report, _)| report)
    }

    /// Whether the server is open to new connections. From the moment it shuts down it is not, before it ends the first of
    /// those it has.
    pub async fn lets_in(&self, entry: &Entry, longest: Duration) -> bool {
        let database = &self.dialer.database.server_database;
        let dialed = self.dialer.connect_to(&entry.account, database, longest);
        dialed.await.map_or_else(|(_, down)| !down, |_server| true)
    }

    /// An idle server of the pool, if there is one and nobody waits for it.
    #[must_use]
    pub fn checkout_idle(&self, entry: &Entry, whose: Borrower) -> Option<Checkout<Server>> {
        self.checkout_quiet(entry, usize::MAX, whose)
    }

    /// The same, if fewer than so many are in use.
    #[must_use]
    pub fn checkout_quiet(
        &self,
        entry: &Entry,
        in_use: usize,
        whose: Borrower,
    ) -> Option<Checkout<Server>> {
        loop {
            let mut server = entry.pool.try_checkout_quiet(in_use, whose)?;
            if server.still_there() {
                server.info.note_busy();
                return Some(server);
            }
        }
    }

    /// A server, from the pool or newly dialled.
    pub async fn checkout(
        &self,
        entry: &Entry,
        whose: Borrower,
    ) -> Result<Checkout<Server>, Report> {
        loop {
            let lease = if let Some(lease) = entry.pool.try_checkout(whose) {
                lease
            } else {
                entry.lanes.recall();
                let checkout = entry.pool.checkout(whose).await;
                checkout.map_err(|e| checkout_report(&e))?
            };
            match lease {
                Lease::Ready(mut server) => {
                    if server.still_there() {
                        server.info.note_busy();
                        return Ok(server);
                    }
                    // closed by the server while it was idle: dropping it frees its place
                }
                Lease::Dial(permit) => {
                    // its future is large, and nobody who only waits needs it
                    let dial = self.dialer.dial(&entry.account, permit);
                    let server = Box::pin(dial).await?;
                    entry.connections.enroll(&server.info);
                    return Ok(server);
                }
            }
        }
    }
}

impl Dialer {
    /// "s1" for a primary, "s1/replica1" for its first replica.
    #[must_use]
    pub fn member_name(&self, member: ServerId) -> String {
        let shard = self.shard_name(member);
        if member.member == 0 {
            shard.to_owned()
        } else if member.member == ServerId::SCRATCH {
            "the scratch server".to_owned()
        } else {
            format!("{shard}/replica{}", member.member)
        }
    }

    fn shard_name(&self, member: ServerId) -> &str {
        self.database
            .shards
            .get(member.shard.index())
            .map_or("?", |s| s.name.as_str())
    }

    /// Turns a permission into a server; a failure is remembered by pool and topology.
    pub async fn dial(
        &self,
        account: &Account,
        permit: DialPermit<Server>,
    ) -> Result<Checkout<Server>, Report> {
        match self.connect(account).await {
            Ok(server) => Ok(permit.fulfil(server)),
            Err((report, down)) => {
                if down {
                    self.topology.mark_failed(account.member, Instant::now());
                }
                tracing::warn!(server = %self.member_name(account.member), error = %report.message, "cannot connect");
                permit.fail(failure_of(&report));
                Err(report)
            }
        }
    }

    async fn connect(&self, account: &Account) -> Result<Server, (Report, bool)> {
        let limit = self.database.pool.connect_timeout;
        // as at PostgreSQL, who comes while the database is dropped waits for the outcome
        let _ = tokio::time::timeout(limit, self.topology.gate().opened()).await;
        self.connect_to(account, &self.database.server_database, limit)
            .await
    }

    async fn connect_to(
        &self,
        account: &Account,
        database: &str,
        limit: Duration,
    ) -> Result<Server, (Report, bool)> {
        let address = self.topology.address(account.member);
        let name = self.member_name(account.member);
        let unreachable = |why: String| {
            let report = Report::new(
                SqlState::CANNOT_CONNECT,
                format!(
                    "cannot connect to {name} at {}:{}: {why}",
                    address.host, address.port
                ),
            )
            .hint("SHOW REPLICAS in the admin database shows which servers are up.");
            (report, true)
        };
        let attempt = async {
            let mut stream = self
                .connector
                .connect(address, self.database.pool.connect_timeout)
                .await
                .map_err(|e| unreachable(e.to_string()))?;
            let keys = account
                .holder
                .as_ref()
                .and_then(|holder| self.ring.keys(holder));
            let credentials = match (&account.user.password, &keys) {
                (Some(password), _) => Credentials::Password(password),
                (None, Some(keys)) => Credentials::Keys(keys),
                (None, None) if account.user.passes_on => Credentials::KeysAway,
                (None, None) => Credentials::Nothing,
            };
            let done = login(&mut stream, &account.user.name, credentials, database, &[])
                .await
                .map_err(|e| login_report(&name, &e, &unreachable))?;
            Ok(Server::new(
                stream,
                done,
                self.database.pool.prepared_max,
                Instant::now(),
            ))
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(unreachable(format!("no answer within {limit:?}"))),
        }
    }
}

fn failure_of(report: &Report) -> DialFailure {
    DialFailure {
        code: report.code.0.to_owned(),
        message: report.message.clone(),
        hint: report.hint.clone(),
    }
}

/// Keeps one pool in shape: closes what is old, dials what is missing.
struct PoolKeeper {
    dialer: Arc<Dialer>,
    account: Account,
    connections: Arc<Connections>,
}

impl Keeper<Server> for PoolKeeper {
    async fn dial(&self, _pool: &Arc<Pool<Server>>) -> Result<Server, DialFailure> {
        let server = self
            .dialer
            .connect(&self.account)
            .await
            .map_err(|(report, _)| failure_of(&report))?;
        self.connections.enroll(&server.info);
        server.info.note_idle(0, Instant::now());
        Ok(server)
    }

    fn is_alive(&self, server: &mut Server) -> bool {
        server.still_there()
    }

    fn close(&self, server: Server) {
        drop(server);
    }
}

fn login_report(
    name: &str,
    error: &LoginError,
    unreachable: &impl Fn(String) -> (Report, bool),
) -> (Report, bool) {
    match error {
        LoginError::Refused { error, .. } => {
            let (code, message) = (&error.code, &error.message);
            // 57P03: starting up or shutting down; that says nothing about our credentials
            let down = code == "57P03";
            let state = match code.as_str() {
                "57P03" => SqlState::CANNOT_CONNECT,
                "3D000" => SqlState::INVALID_CATALOG_NAME,
                _ => SqlState::CONNECTION_FAILURE,
            };
            let report = Report::new(state, format!("{name} refused the login: {code}: {message}"))
                .hint("Check server_user and server_password of this user in the shard map, and the server's pg_hba.conf.");
            (report, down)
        }
        LoginError::Io(_) | LoginError::Closed | LoginError::Protocol(_) => {
            unreachable(error.to_string())
        }
        // the server is there, and other users may get on with it
        other => {
            let message = format!("cannot log in to {name}: {other}");
            let report = Report::new(SqlState::CONNECTION_FAILURE, message);
            let report = match other.hint() {
                Some(hint) => report.hint(hint),
                None => report,
            };
            (report, false)
        }
    }
}

fn checkout_report(error: &CheckoutError) -> Report {
    let code = match error.code() {
        "53300" => SqlState::TOO_MANY_CONNECTIONS,
        "57P03" => SqlState::CANNOT_CONNECT_NOW,
        "08006" => SqlState::CONNECTION_FAILURE,
        _ => SqlState::CANNOT_CONNECT,
    };
    let report = Report::new(code, error.to_string());
    match error.hint() {
        Some(hint) => report.hint(hint),
        None => report,
    }
}
