//! What the console shows, as rows of plain values with the names already looked up. Whoever knows a thing fills its
//! row in; nothing here knows where it came from.

use std::time::Duration;

/// One pool: one server, one database, one user.
#[derive(Clone, Debug, Default)]
pub struct PoolRow {
    pub database: String,
    pub shard: String,
    /// host:port
    pub server: String,
    /// "primary" or "replica"
    pub role: String,
    pub user: String,
    /// "transaction" or "session"
    pub mode: String,
    /// most servers
    pub size: usize,
    pub idle: usize,
    pub in_use: usize,
    pub dialling: usize,
    /// clients in the queue
    pub waiting: usize,
    pub oldest_wait: Duration,
    pub checkouts: u64,
    /// statements that have shared a server with others at the time
    pub shared: u64,
    pub waits: u64,
    pub timeouts: u64,
    pub dials: u64,
    pub closes: u64,
}

#[derive(Clone, Debug, Default)]
pub struct ClientRow {
    pub id: u64,
    pub user: String,
    pub database: String,
    /// host:port of the client
    pub address: String,
    pub application_name: String,
    pub state: String,
    pub in_state: Duration,
    /// for a server, while it waits
    pub wait: Option<Duration>,
    /// why it keeps its server, and for how long already
    pub pinned: Option<(String, Duration)>,
    pub transaction: Option<Duration>,
    /// names of the shards whose servers it holds
    pub shards: Vec<String>,
    pub connected: Duration,
    pub queries: u64,
}

/// One connection to a server.
#[derive(Clone, Debug, Default)]
pub struct ServerRow {
    /// host:port
    pub address: String,
    pub role: String,
    pub database: String,
    pub shard: String,
    pub user: String,
    /// "idle", "in use", ...
    pub state: String,
    /// the backend's process id on that server
    pub pid: Option<i32>,
    pub age: Duration,
    /// None while it is in use
    pub idle: Option<Duration>,
    /// prepared statements it holds
    pub prepared: usize,
}

#[derive(Clone, Debug, Default)]
pub struct ShardRow {
    pub database: String,
    pub shard: String,
    pub home: bool,
    /// host:port
    pub primary: String,
    pub primary_up: bool,
    pub replicas: usize,
    pub replicas_up: usize,
    /// what lives here, see [`super::placement`]
    pub holds: String,
    /// why it is not well
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct ReplicaRow {
    pub database: String,
    pub shard: String,
    /// host:port
    pub address: String,
    pub up: bool,
    /// replayed up to here, `16/B374D848`
    pub lsn: Option<String>,
    /// behind its primary; None when not known
    pub lag_bytes: Option<u64>,
    /// 0 when it has caught up; None when not known
    pub lag: Option<Duration>,
    pub sampled_ago: Option<Duration>,
    /// why it is not read
    pub reason: Option<String>,
}

/// One rule of who may come from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRow {
    /// of the shard map; None where it holds without having been written
    pub line: Option<u64>,
    /// local, host, hostssl, hostnossl
    pub connection: String,
    pub databases: String,
    pub users: String,
    pub addresses: String,
    /// what the client has to show
    pub method: String,
}

/// One setting as it is in force; never a password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigRow {
    pub name: String,
    pub value: String,
    /// what it means
    pub note: String,
}
