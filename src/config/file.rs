//! `shard-map.yaml` as it is written: every field with its default and its description. The JSON Schema of the file comes
//! from these types. Nothing is checked here beyond the form; `resolve` makes sense of it.

use super::place::At;
pub use super::scalar::{OneOrMany, PasswordFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shard map of pgshunt: who may connect, which servers hold the data, and which rows live where.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pgshunt shard map")]
pub struct MapFile {
    /// Where clients connect to.
    pub listen: At<Vec<At<ListenFile>>>,
    /// The admin console and the HTTP endpoints.
    #[serde(default)]
    pub admin: AdminFile,
    /// Who may connect; may be empty where a database has an `auth_query`.
    pub users: At<Vec<At<UserFile>>>,
    /// Who may come from where: the first rule that fits decides, and where none does the client is refused. Left out:
    /// every user from everywhere, by the user's own `auth`.
    #[serde(default)]
    pub access: Option<At<Vec<At<AccessFile>>>>,
    /// The databases clients see, each spread over its shards.
    pub databases: At<Vec<At<DatabaseFile>>>,
    /// Bounds of everything that could grow.
    #[serde(default)]
    pub limits: LimitsFile,
    #[serde(default)]
    pub log: LogFile,
    /// Worker threads; by default one, which costs least per query.
    #[serde(default)]
    pub workers: Option<At<u64>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenFile {
    /// `host:port`, `[::1]:port` for IPv6; without a port, 6432. Either this or `socket`.
    #[serde(default)]
    pub address: Option<At<String>>,
    /// Folder of a Unix socket, `/run/pgshunt` or `/run/pgshunt:port`; its file is `.s.PGSQL.<port>`, as PostgreSQL's.
    #[serde(default)]
    pub socket: Option<At<String>>,
    /// Who may open the Unix socket, as for chmod: "0770". By default everybody, "0777".
    #[serde(default)]
    pub permissions: Option<At<String>>,
    /// Offer TLS to clients.
    #[serde(default)]
    pub tls: Option<ListenTlsFile>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenTlsFile {
    /// PEM file with the certificate chain; relative to the shard map's folder.
    pub certificate: At<String>,
    /// PEM file with the private key.
    pub key: At<String>,
    /// Refuse clients that do not use TLS.
    #[serde(default)]
    pub required: bool,
    /// PEM file with the certificates that vouch for those of clients; needed by `cert`.
    #[serde(default)]
    pub client_ca: Option<At<String>>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminFile {
    /// Name of the database that is the admin console.
    pub database: At<String>,
    /// Users who may open the admin console.
    pub users: Vec<At<String>>,
    /// `host:port` of `/metrics` and `/healthz`; not served when left out.
    pub http: Option<At<String>>,
}

impl Default for AdminFile {
    fn default() -> Self {
        Self {
            database: At::default_of("pgshunt".to_owned()),
            users: Vec::new(),
            http: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserFile {
    pub name: At<String>,
    /// How clients prove who they are.
    #[serde(default)]
    pub auth: At<AuthFile>,
    /// Password, SCRAM-SHA-256 verifier (`SCRAM-SHA-256$…` as in pg_authid) or, with `auth: md5`, md5 hash (`md5…`). Not
    /// with `auth: trust` or `auth: cert`.
    #[serde(default)]
    pub password: Option<At<PasswordFile>>,
    /// User name on the servers; by default the same.
    #[serde(default)]
    pub server_user: Option<At<String>>,
    /// Password on the servers; by default the plain password above, and with a verifier or hash what the client proves
    /// itself with.
    #[serde(default)]
    pub server_password: Option<At<PasswordFile>>,
    /// Names (CN) of client certificates that prove this user, where `cert` is asked for; by default its own name.
    #[serde(default)]
    pub certificates: Vec<At<String>>,
    /// Databases this user may use; all when left out.
    #[serde(default)]
    pub databases: Vec<At<String>>,
    /// Bounds of this user's clients; the tightest of these, the database's and those of all holds.
    #[serde(default)]
    pub limits: BoundsFile,
    /// Bounds of this user's connections to servers, within those of the database's `pool`.
    #[serde(default)]
    pub pool: UserPoolFile,
}

/// Bounds of some clients; nothing is bounded by what is left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoundsFile {
    /// Clients at a time.
    pub clients_max: Option<At<u64>>,
    /// How long a statement may run, from its arrival to the end of its answer.
    pub query_ms_max: Option<At<u64>>,
    /// How long a transaction may be open.
    pub transaction_ms_max: Option<At<u64>>,
    /// How long a client may leave its transaction idle.
    pub transaction_idle_ms_max: Option<At<u64>>,
    /// How long a client may be idle outside a transaction.
    pub client_idle_ms_max: Option<At<u64>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserPoolFile {
    /// Connections to each server.
    pub size: Option<At<u64>>,
    /// How long a statement may wait for a server.
    pub wait_ms_max: Option<At<u64>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum AuthFile {
    /// No proof is asked for.
    #[serde(rename = "trust")]
    Trust,
    #[default]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// For clients that know nothing better.
    #[serde(rename = "md5")]
    Md5,
    /// A certificate of the client's, over TLS.
    #[serde(rename = "cert")]
    Cert,
}

impl AuthFile {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::ScramSha256 => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Cert => "cert",
        }
    }
}

/// One line of who may come from where.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessFile {
    /// How the client has connected.
    #[serde(rename = "type")]
    pub connection: At<AccessTypeFile>,
    /// Databases it asks for; all when left out.
    #[serde(default)]
    pub databases: Vec<At<String>>,
    /// Users it says to be; all when left out.
    #[serde(default)]
    pub users: Vec<At<String>>,
    /// `10.0.0.0/8`, `fd00::/8` or one address; all when left out.
    #[serde(default)]
    pub addresses: Vec<At<String>>,
    /// What it has to show; by default what the user's `auth` says.
    #[serde(default)]
    pub method: Option<At<AccessMethodFile>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessTypeFile {
    /// Over a Unix socket.
    Local,
    /// Over TCP, with TLS or without.
    Host,
    /// Over TCP with TLS.
    HostSsl,
    /// Over TCP without TLS.
    HostNoSsl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AccessMethodFile {
    #[serde(rename = "trust")]
    Trust,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "md5")]
    Md5,
    #[serde(rename = "cert")]
    Cert,
    #[serde(rename = "reject")]
    Reject,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseFile {
    /// The name clients ask for.
    pub name: At<String>,
    /// The name on the servers; by default the same.
    #[serde(default)]
    pub server_database: Option<At<String>>,
    /// The shard of every table that is not listed here; by default the first shard.
    #[serde(default)]
    pub home: Option<At<String>>,
    /// Where scratch databases are made, `host:port`; by default on the home shard's primary. The users of the map and `control` log
    /// in there, too.
    #[serde(default)]
    pub scratch_server: Option<At<String>>,
    /// Who pgshunt itself logs in as, for health, lag and catalog.
    pub control: ControlFile,
    pub shards: At<Vec<At<ShardFile>>>,
    /// Colocation groups: tables that share a key type and a placement.
    #[serde(default)]
    pub keyspaces: Vec<At<KeyspaceFile>>,
    /// Tables spread over the shards.
    #[serde(default)]
    pub tables: Vec<At<TableFile>>,
    /// Tables that are whole on every shard: `name` (schema public) or `schema.name`.
    #[serde(default)]
    pub reference_tables: Vec<At<String>>,
    /// What functions outside pg_catalog do, where pgshunt cannot see it.
    #[serde(default)]
    pub functions: BTreeMap<String, At<FunctionFile>>,
    #[serde(default)]
    pub pool: PoolFile,
    #[serde(default)]
    pub consistency: ConsistencyFile,
    #[serde(default)]
    pub server_tls: ServerTlsFile,
    /// Bounds of this database's clients; the tightest of these, the user's and those of all holds.
    #[serde(default)]
    pub limits: BoundsFile,
    /// Where the passwords of users that are not listed come from: the home shard's primary.
    #[serde(default)]
    pub auth_query: Option<At<AuthQueryFile>>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthQueryFile {
    /// Who asks; by default the control user.
    pub user: Option<At<String>>,
    /// Its password.
    #[serde(skip_serializing)]
    pub password: Option<At<PasswordFile>>,
    /// Gives at most one row for the user named by $1: its name, and its password as PostgreSQL stores it.
    pub query: At<String>,
    /// An answer is asked for again after this.
    pub cache_ms_max: At<u64>,
    /// Answers kept: so many of users that exist, and as many of users that do not.
    pub cache_max: At<u64>,
}

impl Default for AuthQueryFile {
    fn default() -> Self {
        Self {
            user: None,
            password: None,
            query: At::default_of(AUTH_QUERY.to_owned()),
            cache_ms_max: At::default_of(60_000),
            cache_max: At::default_of(10_000),
        }
    }
}

/// A password that is no longer valid is none.
const AUTH_QUERY: &str = "SELECT usename, CASE WHEN valuntil < now() THEN NULL ELSE passwd END FROM pg_catalog.pg_shadow WHERE usename = $1";

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControlFile {
    pub user: At<String>,
    /// Left out when the servers trust this user.
    #[serde(default)]
    pub password: Option<At<PasswordFile>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardFile {
    pub name: At<String>,
    /// `host:port`, `[::1]:port` for IPv6, `/var/run/postgresql:port` for the Unix socket in that folder; without a port, 5432.
    pub primary: At<String>,
    /// Streaming replicas of this primary.
    #[serde(default)]
    pub replicas: Vec<At<String>>,
}

/// Exactly one of `hash`, `ranges` and `list`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyspaceFile {
    pub name: At<String>,
    /// Type of the key, or the types of a composite key: smallint, integer, bigint, text, varchar, uuid, date, timestamp,
    /// timestamptz, numeric.
    #[serde(rename = "type")]
    pub types: At<OneOrMany>,
    /// Spread by hash.
    #[serde(default)]
    pub hash: Option<At<HashFile>>,
    /// Spread by ranges of the key.
    #[serde(default)]
    pub ranges: Option<At<Vec<At<RangeFile>>>>,
    /// Spread by lists of key values.
    #[serde(default)]
    pub list: Option<At<Vec<At<ListFile>>>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashFile {
    #[serde(default)]
    pub function: HashFunctionFile,
    /// How many buckets; fixed for the life of the data. For `postgres` this is the modulus.
    pub buckets: At<u64>,
    /// Which buckets live where; by default spread evenly, in order, over all shards.
    #[serde(default)]
    pub placement: Option<At<Vec<At<PlacementFile>>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashFunctionFile {
    /// XXH3, 64 bit
    #[default]
    Xxh3,
    /// PostgreSQL's own: the bucket is the remainder of `PARTITION BY HASH`
    Postgres,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacementFile {
    pub shard: At<String>,
    /// `7`, `0-511` (both included) or `0-255,512-767`.
    pub buckets: At<String>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeFile {
    pub shard: At<String>,
    /// First key of the range; left out: from the beginning.
    #[serde(default)]
    #[schemars(with = "Option<KeyText>")]
    pub from: Option<At<String>>,
    /// First key after the range; left out: to the end.
    #[serde(default)]
    #[schemars(with = "Option<KeyText>")]
    pub to: Option<At<String>>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFile {
    pub shard: At<String>,
    #[schemars(with = "Vec<KeyText>")]
    pub values: At<Vec<At<String>>>,
}

/// How a key value is written: `42`, `de`, `"2026-01-01"`.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only describes the JSON Schema")]
enum KeyText {
    Text(String),
    Number(i64),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// `name` (schema public) or `schema.name`.
    pub name: At<String>,
    pub keyspace: At<String>,
    /// The key column, or the columns in the order of the keyspace's types.
    pub key: At<OneOrMany>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FunctionFile {
    /// Touches no table: may run on any shard.
    Pure,
    /// Runs on the home shard.
    Home,
    /// This argument, counted from 1, is the key.
    KeyArgument(u16),
}

/// One pool is: one server, one database, one user.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PoolFile {
    pub mode: PoolModeFile,
    /// Most server connections of one pool.
    pub size: At<u64>,
    /// Server connections kept open while the pool is in use.
    pub size_min: At<u64>,
    /// Clients that may wait for a server of one pool; one more is turned away at once.
    pub waiters_max: At<u64>,
    /// How long a client waits for a server.
    pub wait_ms_max: At<u64>,
    /// How long connecting to a server may take.
    pub connect_ms_max: At<u64>,
    /// An idle server connection is closed after this.
    pub idle_ms_max: At<u64>,
    /// A server connection is closed at its first return after this, give or take 10 %.
    pub lifetime_ms_max: At<u64>,
    /// Prepared statements kept on one server connection.
    pub prepared_max: At<u64>,
    /// Clients whose short reads may share one server at a time; 1: none.
    pub pipeline_max: At<u64>,
    /// Short is what takes no longer than this on average.
    pub pipeline_ms_max: At<u64>,
    /// Whether a session may keep its server beyond a transaction, for what cannot follow it to another.
    pub pin: PinFile,
    /// Compare every server that goes back to its pool with a fresh one: for tests, it costs a round trip.
    pub verify: bool,
}

impl Default for PoolFile {
    fn default() -> Self {
        Self {
            mode: PoolModeFile::Transaction,
            size: At::default_of(20),
            size_min: At::default_of(0),
            waiters_max: At::default_of(10_000),
            wait_ms_max: At::default_of(30_000),
            connect_ms_max: At::default_of(5_000),
            idle_ms_max: At::default_of(600_000),
            lifetime_ms_max: At::default_of(3_600_000),
            prepared_max: At::default_of(256),
            pipeline_max: At::default_of(32),
            pipeline_ms_max: At::default_of(5),
            pin: PinFile::Allow,
            verify: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PinFile {
    /// It keeps the server until what it has there is gone.
    Allow,
    /// What would need it is an error.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolModeFile {
    /// A server connection is held for one transaction.
    Transaction,
    /// A server connection is held until the client leaves.
    Session,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistencyFile {
    /// How fresh a read must be when the session does not say.
    pub level: At<LevelFile>,
    /// Pause between WAL samples while sessions wait for one.
    pub sample_busy_ms: At<u64>,
    /// Pause between WAL samples otherwise.
    pub sample_idle_ms: At<u64>,
    /// A replica with more lag than this is not read at all.
    pub lag_ms_max: At<u64>,
    /// Named sessions remembered.
    pub sessions_max: At<u64>,
}

impl Default for ConsistencyFile {
    fn default() -> Self {
        Self {
            level: At::default_of(LevelFile::Session),
            sample_busy_ms: At::default_of(5),
            sample_idle_ms: At::default_of(1_000),
            lag_ms_max: At::default_of(30_000),
            sessions_max: At::default_of(100_000),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelFile {
    /// Any replica.
    Eventual,
    /// Replicas whose lag is at most so many milliseconds.
    BoundedMs(u32),
    /// A session sees its own writes and never goes back in time.
    #[default]
    Session,
    /// Always the primary.
    Strong,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTlsFile {
    /// As libpq's sslmode.
    pub mode: At<TlsModeFile>,
    /// PEM file with the certificates that are trusted; needed by verify-ca and verify-full.
    pub root_certificate: Option<At<String>>,
    /// PEM file with the certificate that pgshunt shows servers which ask for one.
    pub certificate: Option<At<String>>,
    /// PEM file with its private key.
    pub key: Option<At<String>>,
    /// How TLS begins, as libpq's sslnegotiation.
    pub negotiation: At<NegotiationFile>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NegotiationFile {
    /// The server is asked first, as every version of PostgreSQL understands.
    #[default]
    Postgres,
    /// TLS from the first byte, a round trip less: PostgreSQL 17 and later.
    Direct,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsModeFile {
    Disable,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Clients at a time.
    pub clients_max: At<u64>,
    /// Connections to one PostgreSQL server at a time, over all pools.
    pub server_connections_max: Option<At<u64>>,
    /// From accepting a client to its first ReadyForQuery.
    pub login_ms_max: At<u64>,
    /// Longest message a client may send.
    pub message_bytes_max: At<u64>,
    /// Longest SQL text that is parsed for routing.
    pub parsed_bytes_max: At<u64>,
    /// Plans kept.
    pub plans_max: At<u64>,
    /// Memory of one statement that puts rows of several shards together: its groups, or the rows of a DISTINCT.
    pub combine_bytes_max: At<u64>,
    /// Rows that one client's portals and cursors over several shards keep until they are fetched.
    pub portal_bytes_max: At<u64>,
    /// Prepared statements of one client.
    pub client_prepared_max: At<u64>,
    /// How long a SIGTERM waits for transactions in flight.
    pub drain_ms_max: At<u64>,
    /// Statements kept apart in SHOW QUERIES.
    pub queries_max: At<u64>,
    /// Notifications that wait for one client.
    pub notify_bytes_max: At<u64>,
    /// Bytes that one statement may bring together in a scratch database.
    pub gather_bytes_max: At<u64>,
    /// Scratch databases in use at a time, for each database.
    pub gather_connections_max: At<u64>,
    /// How long a statement may run, from its arrival to the end of its answer.
    pub query_ms_max: Option<At<u64>>,
    /// How long a transaction may be open.
    pub transaction_ms_max: Option<At<u64>>,
    /// How long a client may leave its transaction idle.
    pub transaction_idle_ms_max: Option<At<u64>>,
    /// How long a client may be idle outside a transaction.
    pub client_idle_ms_max: Option<At<u64>>,
    /// Bytes on disk that the scratch databases of one server may have in all, those of other instances among them.
    pub gather_disk_bytes_max: At<u64>,
}

impl Default for LimitsFile {
    fn default() -> Self {
        Self {
            clients_max: At::default_of(10_000),
            server_connections_max: None,
            login_ms_max: At::default_of(15_000),
            message_bytes_max: At::default_of(1 << 30),
            parsed_bytes_max: At::default_of(1 << 20),
            plans_max: At::default_of(10_000),
            combine_bytes_max: At::default_of(64 << 20),
            portal_bytes_max: At::default_of(64 << 20),
            client_prepared_max: At::default_of(10_000),
            drain_ms_max: At::default_of(30_000),
            queries_max: At::default_of(1_000),
            notify_bytes_max: At::default_of(8 << 20),
            gather_bytes_max: At::default_of(256 << 20),
            gather_connections_max: At::default_of(4),
            query_ms_max: None,
            transaction_ms_max: None,
            transaction_idle_ms_max: None,
            client_idle_ms_max: None,
            gather_disk_bytes_max: At::default_of(4 << 30),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogFile {
    pub level: LogLevelFile,
    pub format: LogFormatFile,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevelFile {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormatFile {
    #[default]
    Text,
    Json,
}

/// JSON Schema of the file, for editors.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(MapFile).to_value()
}
