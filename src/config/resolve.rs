//! The configuration as the rest of pgshunt uses it: names resolved, ranges checked, nothing optional that has a default.
//! The files below make it from what was written; this one only says what it is. `Debug` shows no passwords.

mod access;
mod amounts;
mod bounds;
mod build;
mod database;
mod describe;
mod keyspace;
mod listen;
mod users;

pub use bounds::{Bound, Bounds, ClientBounds, Holder, UserPool};
pub(super) use build::resolve;

use super::place::Place;
use crate::shard::{Keyspace, ShardId};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: Vec<Listener>,
    pub admin: Admin,
    pub users: Vec<User>,
    /// who may come from where; None lets every user come from everywhere
    pub access: Option<Vec<AccessRule>>,
    pub databases: Vec<Database>,
    pub limits: Limits,
    pub log: Log,
    /// worker threads of the runtime; at least 1
    pub workers: usize,
}

#[derive(Clone, Debug)]
pub struct Listener {
    /// host or IP; the folder of a Unix socket begins with a slash
    pub host: String,
    pub port: u16,
    /// of a Unix socket's file
    pub permissions: u32,
    pub tls: Option<ListenerTls>,
}

impl Listener {
    #[must_use]
    pub fn address(&self) -> ServerAddress {
        ServerAddress {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ListenerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// refuse clients that do not use TLS
    pub required: bool,
    /// vouches for certificates of clients; None asks for none
    pub client_ca: Option<PathBuf>,
}

/// One line of the list of who may come from where.
#[derive(Clone, Debug)]
pub struct AccessRule {
    /// where it was written
    pub place: Place,
    pub connection: ConnectionKind,
    /// empty means all
    pub databases: Vec<String>,
    /// empty means all
    pub users: Vec<String>,
    /// empty means all
    pub addresses: Vec<ipnet::IpNet>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// over a Unix socket
    Local,
    /// over TCP
    Host,
    HostSsl,
    HostNoSsl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Reject,
    /// let in who shows this
    Ask(Method),
    /// as the user's own `auth` says
    AskAsUser,
}

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Trust,
    ScramSha256,
    Md5,
    Cert,
}

#[derive(Clone, Debug)]
pub struct Admin {
    /// name of the admin database, "pgshunt"
    pub database: String,
    /// who may use it
    pub users: Vec<String>,
    /// where /metrics and /healthz are served, "127.0.0.1:9187"
    pub http: Option<String>,
}

#[derive(Clone)]
pub struct User {
    pub name: String,
    /// how clients prove who they are
    pub auth: ClientAuth,
    /// user name on the servers (default: the same)
    pub server_user: String,
    /// password for the servers; None for trust, and where what the client shows is passed on
    pub server_password: Option<String>,
    /// names of certificates that prove this user; empty means its own name
    pub certificates: Vec<String>,
    /// databases this user may use; empty means all
    pub databases: Vec<String>,
    pub bounds: Bounds,
    pub pool: UserPool,
}

#[derive(Clone)]
pub enum ClientAuth {
    Trust,
    /// plain password, proven by SCRAM-SHA-256
    ScramPassword(String),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`
    ScramVerifier(String),
    /// plain password, proven by md5
    Md5Password(String),
    /// `md5<32 hex digits>`
    Md5Hash(String),
    Certificate,
}

/// Where the passwords of users that are not listed come from.
#[derive(Clone)]
pub struct AuthQuery {
    /// user and password; None asks as the control user
    pub login: Option<(String, Option<String>)>,
    pub query: String,
    /// answers kept, of users that exist and of others
    pub cache_max: usize,
    pub cache_time: Duration,
}

#[derive(Clone)]
pub struct Database {
    /// the name clients ask for
    pub name: String,
    /// the name on the servers
    pub server_database: String,
    pub shards: Vec<Shard>,
    pub home: ShardId,
    /// where scratch databases are made instead of the home shard's primary
    pub scratch_server: Option<ServerAddress>,
    pub keyspaces: Vec<Keyspace>,
    pub tables: Vec<ShardedTable>,
    /// (schema, name)
    pub reference_tables: Vec<(String, String)>,
    /// declared functions, by unqualified name
    pub functions: HashMap<String, DeclaredFunction>,
    pub pool: PoolSettings,
    pub consistency: ConsistencySettings,
    pub server_tls: ServerTls,
    pub bounds: Bounds,
    /// who the control plane logs in as
    pub control_user: String,
    pub control_password: Option<String>,
    pub auth_query: Option<AuthQuery>,
    /// where all this was written, for findings on the live servers
    pub positions: Positions,
}

/// Where the parts of a database stand in the shard map. Empty for a database that was not read from a file: then every
/// place is unknown and nothing fails.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    /// the file's name as it was given
    pub file: String,
    pub database: Place,
    pub home: Place,
    pub scratch_server: Place,
    pub control: Place,
    pub server_tls: Place,
    pub shards: Vec<ShardPlaces>,
    pub keyspaces: Vec<Place>,
    pub tables: Vec<TablePlaces>,
    pub reference_tables: Vec<Place>,
    pub functions: HashMap<String, Place>,
}

#[derive(Clone, Debug, Default)]
pub struct ShardPlaces {
    pub name: Place,
    pub primary: Place,
    pub replicas: Vec<Place>,
}

#[derive(Clone, Debug, Default)]
pub struct TablePlaces {
    pub name: Place,
    pub keyspace: Place,
    /// one for each key column
    pub key: Vec<Place>,
}

impl Positions {
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Place {
        self.shards
            .get(shard.index())
            .map_or(Place::default(), |shard| shard.name)
    }

    #[must_use]
    pub fn primary(&self, shard: ShardId) -> Place {
        self.shards
            .get(shard.index())
            .map_or(Place::default(), |shard| shard.primary)
    }

    /// `replica` counts from 0.
    #[must_use]
    pub fn replica(&self, shard: ShardId, replica: usize) -> Place {
        let places = self.shards.get(shard.index());
        places
            .and_then(|shard| shard.replicas.get(replica))
            .copied()
            .unwrap_or_default()
    }

    #[must_use]
    pub fn keyspace(&self, keyspace: usize) -> Place {
        self.keyspaces.get(keyspace).copied().unwrap_or_default()
    }

    #[must_use]
    pub fn table(&self, table: usize) -> Place {
        self.tables
            .get(table)
            .map_or(Place::default(), |table| table.name)
    }

    /// `column` counts the key's columns from 0.
    #[must_use]
    pub fn key_column(&self, table: usize, column: usize) -> Place {
        let places = self.tables.get(table);
        places
            .and_then(|table| table.key.get(column))
            .copied()
            .unwrap_or_default()
    }

    #[must_use]
    pub fn reference_table(&self, table: usize) -> Place {
        self.reference_tables
            .get(table)
            .copied()
            .unwrap_or_default()
    }

    /// `file:line:column`, or the file alone when the place is unknown.
    #[must_use]
    pub fn show(&self, place: Place) -> String {
        if place.is_known() {
            format!("{}:{place}", self.file)
        } else {
            self.file.clone()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclaredFunction {
    /// touches no table: may run anywhere; reads only
    Pure,
    /// runs on the home shard, may write
    Home,
    /// this argument (1-based) is the key
    KeyArgument(usize),
}

#[derive(Clone, Debug)]
pub struct Shard {
    pub name: String,
    pub primary: ServerAddress,
    pub replicas: Vec<ServerAddress>,
}

/// A host and port, or the folder of a Unix socket (it begins with a slash) and the number in its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddress {
    pub host: String,
    pub port: u16,
}

impl ServerAddress {
    /// The file of the Unix socket; None where it is an address of a network.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        self.host
            .starts_with('/')
            .then(|| PathBuf::from(format!("{}/.s.PGSQL.{}", self.host, self.port)))
    }
}

#[derive(Clone, Debug)]
pub struct ShardedTable {
    pub schema: String,
    pub name: String,
    /// index into `Database::keyspaces`
    pub keyspace: usize,
    /// key columns, as many as the keyspace has types
    pub key: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    Transaction,
    Session,
}

/// One pool is: one server, one database, one user.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    pub mode: PoolMode,
    /// most server connections of one pool
    pub size: usize,
    /// kept open while the pool is in use
    pub size_min: usize,
    /// waiters of one pool; one more is turned away at once
    pub waiters_max: usize,
    /// how long a client waits for a server
    pub wait_max: Duration,
    pub connect_timeout: Duration,
    /// an idle server is closed after this
    pub idle_max: Duration,
    /// a server is closed at the first check-in after this, ±10 %
    pub lifetime_max: Duration,
    /// prepared statements kept on one server (LRU)
    pub prepared_max: usize,
    /// clients whose short reads may share one server at a time; 1: none
    pub pipeline_max: usize,
    /// short is what takes no longer than this on average
    pub pipeline_time_max: Duration,
    pub pins: Pins,
    /// compare every server that goes back with a fresh one
    pub verify: bool,
}

/// Whether a session may keep its server beyond a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pins {
    Allowed,
    Refused,
}

#[derive(Clone, Debug)]
pub struct ConsistencySettings {
    pub level: crate::consistency::Level,
    /// pause between WAL samples while sessions wait for one
    pub sample_busy: Duration,
    /// pause between WAL samples otherwise
    pub sample_idle: Duration,
    /// a replica with more lag than this is not read at all
    pub lag_max: Duration,
    /// named sessions remembered
    pub sessions_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug)]
pub struct ServerTls {
    pub mode: TlsMode,
    pub root_certificate: Option<PathBuf>,
    /// what we show servers that ask: certificate and key
    pub own_certificate: Option<(PathBuf, PathBuf)>,
    pub negotiation: Negotiation,
}

/// How TLS with a server begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// it is asked first
    Asked,
    /// from the first byte
    Direct,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub clients_max: usize,
    /// connections to one server at a time, over all pools
    pub server_connections_max: Option<usize>,
    /// from accept to ReadyForQuery
    pub login_max: Duration,
    /// longest message a client may send
    pub message_bytes_max: usize,
    /// longest SQL text that is parsed for routing
    pub parsed_bytes_max: usize,
    /// plans kept
    pub plans_max: usize,
    /// memory of one statement that puts rows of several shards together
    pub combine_bytes_max: usize,
    /// rows that one client's portals and cursors over several shards keep
    pub portal_bytes_max: usize,
    /// prepared statements one client may have
    pub client_prepared_max: usize,
    /// how long a SIGTERM waits for transactions in flight
    pub drain_max: Duration,
    /// fingerprints kept for SHOW QUERIES
    pub queries_max: usize,
    /// notifications that wait for one client
    pub notify_bytes_max: usize,
    /// what one statement may bring together in a scratch database
    pub gather_bytes_max: u64,
    /// scratch databases in use at a time
    pub gather_connections_max: usize,
    /// of every client
    pub bounds: Bounds,
    /// what all scratch databases of a server may have on disk
    pub gather_disk_bytes_max: u64,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// error, warn, info, debug, trace
    pub level: String,
    pub json: bool,
}

impl User {
    /// Servers get what the client has shown: pgshunt knows no password.
    #[must_use]
    pub fn passes_on(&self) -> bool {
        let hashed = matches!(
            self.auth,
            ClientAuth::ScramVerifier(_) | ClientAuth::Md5Hash(_)
        );
        hashed && self.server_password.is_none()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("auth", &self.auth)
            .field("server_user", &self.server_user)
            .field("databases", &self.databases)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "Trust",
            Self::ScramPassword(_) => "ScramPassword(hidden)",
            Self::ScramVerifier(_) => "ScramVerifier(hidden)",
            Self::Md5Password(_) => "Md5Password(hidden)",
            Self::Md5Hash(_) => "Md5Hash(hidden)",
            Self::Certificate => "Certificate",
        })
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name)
            .field("shards", &self.shards)
            .field("keyspaces", &self.keyspaces)
            .field("tables", &self.tables)
            .field("reference_tables", &self.reference_tables)
            .finish_non_exhaustive()
    }
}
