//! The configuration in force as rows: every bound and every choice, never a password, a key or a verifier.

use super::rows::ConfigRow;
use crate::config::{Config, Database, Limits, Negotiation, PoolMode, PoolSettings, TlsMode};
use crate::shard::{KeyspaceKind, ShardId};
use std::time::Duration;

/// All rows of SHOW CONFIG.
#[must_use]
pub fn config_rows(config: &Config) -> Vec<ConfigRow> {
    let mut rows = Vec::new();
    process(config, &mut rows);
    limits(&config.limits, &mut rows);
    for database in &config.databases {
        shared(database, &mut rows);
        watching(database, &mut rows);
        pool(database, &database.pool, &mut rows);
    }
    rows
}

fn push(rows: &mut Vec<ConfigRow>, name: String, value: String, note: &str) {
    rows.push(ConfigRow {
        name,
        value,
        note: note.to_owned(),
    });
}

fn process(config: &Config, rows: &mut Vec<ConfigRow>) {
    for (at, listener) in config.listeners.iter().enumerate() {
        let permissions = format!("Unix socket, permissions {:04o}", listener.permissions);
        let note = match &listener.tls {
            None if listener.host.starts_with('/') => &permissions,
            None => "no TLS",
            Some(tls) if tls.required => "TLS required",
            Some(_) => "TLS offered",
        };
        let value = format!("{}:{}", listener.host, listener.port);
        push(rows, format!("listeners[{at}]"), value, note);
    }
    let mut row = |name: &str, value: String, note| push(rows, name.to_owned(), value, note);
    row(
        "workers",
        config.workers.to_string(),
        "threads of the runtime",
    );
    row(
        "users",
        config.users.len().to_string(),
        "users that may log in",
    );
    row(
        "admin.database",
        config.admin.database.clone(),
        "this database",
    );
    row(
        "admin.users",
        config.admin.users.join(", "),
        "who may use it",
    );
    let http = config
        .admin
        .http
        .clone()
        .unwrap_or_else(|| "off".to_owned());
    row("admin.http", http, "where /metrics and /healthz are served");
    row(
        "log.level",
        config.log.level.clone(),
        "least severe lines that are logged",
    );
    row("log.json", config.log.json.to_string(), "log lines as JSON");
}

fn limits(limits: &Limits, rows: &mut Vec<ConfigRow>) {
    let mut row =
        |name: &str, value: String, note| push(rows, format!("limits.{name}"), value, note);
    row(
        "clients_max",
        limits.clients_max.to_string(),
        "clients connected at a time",
    );
    let connections = limits.server_connections_max.map(|n| n.to_string());
    row(
        "server_connections_max",
        connections.unwrap_or_else(|| "none".to_owned()),
        "connections to one server, over all pools",
    );
    row("login_max", time(limits.login_max), "from accept to ready");
    row(
        "message_bytes_max",
        limits.message_bytes_max.to_string(),
        "longest message of a client",
    );
    row(
        "parsed_bytes_max",
        limits.parsed_bytes_max.to_string(),
        "longest text parsed for routing",
    );
    row("plans_max", limits.plans_max.to_string(), "plans kept");
    row(
        "client_prepared_max",
        limits.client_prepared_max.to_string(),
        "prepared statements of one client",
    );
    row(
        "queries_max",
        limits.queries_max.to_string(),
        "fingerprints kept for SHOW QUERIES",
    );
    row(
        "drain_max",
        time(limits.drain_max),
        "how long a stop waits for transactions",
    );
    for (name, value, note) in several_shards(limits) {
        row(name, value.to_string(), note);
    }
}

fn several_shards(limits: &Limits) -> [(&'static str, u64, &'static str); 5] {
    [
        (
            "combine_bytes_max",
            limits.combine_bytes_max as u64,
            "memory of one statement over several shards",
        ),
        (
            "portal_bytes_max",
            limits.portal_bytes_max as u64,
            "rows kept for one client's portals and cursors over several shards",
        ),
        (
            "gather_bytes_max",
            limits.gather_bytes_max,
            "what one statement may bring together in a scratch database",
        ),
        (
            "gather_connections_max",
            limits.gather_connections_max as u64,
            "scratch databases in use at a time",
        ),
        (
            "gather_disk_bytes_max",
            limits.gather_disk_bytes_max,
            "what all scratch databases of a server may have on disk",
        ),
    ]
}

fn shared(database: &Database, rows: &mut Vec<ConfigRow>) {
    let prefix = format!("databases.{}", database.name);
    let mut row =
        |name: &str, value: String, note| push(rows, format!("{prefix}.{name}"), value, note);
    row(
        "server_database",
        database.server_database.clone(),
        "its name on the servers",
    );
    row(
        "shards",
        database
            .shards
            .iter()
            .map(|s| s.name.clone())
            .collect::<Vec<_>>()
            .join(", "),
        "in order",
    );
    row(
        "home",
        shard_name(database, database.home),
        "shard of every table that is not listed",
    );
    for keyspace in &database.keyspaces {
        let note = match &keyspace.kind {
            KeyspaceKind::HashXxh3 { .. } => "hash, xxh3",
            KeyspaceKind::HashPostgres { .. } => "hash, as Postgres partitions",
            KeyspaceKind::Range { .. } => "ranges",
            KeyspaceKind::List { .. } => "lists",
        };
        row(
            &format!("keyspaces.{}", keyspace.name),
            format!("{:?}", keyspace.types).to_lowercase(),
            note,
        );
    }
    row(
        "tables",
        database.tables.len().to_string(),
        "sharded tables",
    );
    row(
        "reference_tables",
        database.reference_tables.len().to_string(),
        "tables on every shard",
    );
}

fn watching(database: &Database, rows: &mut Vec<ConfigRow>) {
    let prefix = format!("databases.{}", database.name);
    let mut row =
        |name: &str, value: String, note| push(rows, format!("{prefix}.{name}"), value, note);
    let consistency = &database.consistency;
    row(
        "consistency.level",
        format!("{:?}", consistency.level).to_lowercase(),
        "how fresh a read is, unless asked",
    );
    row(
        "consistency.sample_busy",
        time(consistency.sample_busy),
        "between WAL samples while a session waits",
    );
    row(
        "consistency.sample_idle",
        time(consistency.sample_idle),
        "between WAL samples otherwise",
    );
    row(
        "consistency.lag_max",
        time(consistency.lag_max),
        "a replica further behind is not read",
    );
    row(
        "consistency.sessions_max",
        consistency.sessions_max.to_string(),
        "named sessions remembered",
    );
    row(
        "server_tls.mode",
        sslmode(&database.server_tls.mode).to_owned(),
        "TLS towards the servers",
    );
    row(
        "server_tls.negotiation",
        match database.server_tls.negotiation {
            Negotiation::Asked => "postgres",
            Negotiation::Direct => "direct",
        }
        .to_owned(),
        "how TLS with them begins",
    );
    if let Some(asked) = &database.auth_query {
        let asker = asked.login.as_ref().map(|(user, _)| user.as_str());
        row(
            "auth_query.user",
            asker.unwrap_or(&database.control_user).to_owned(),
            "who asks for passwords of users that are not listed",
        );
        row(
            "auth_query.cache_max",
            asked.cache_max.to_string(),
            "answers kept, of users that exist and of others",
        );
        row(
            "auth_query.cache_time",
            time(asked.cache_time),
            "an answer is asked for again after this",
        );
    }
    row(
        "control_user",
        database.control_user.clone(),
        "who watches the servers",
    );
}

fn pool(database: &Database, pool: &PoolSettings, rows: &mut Vec<ConfigRow>) {
    let prefix = format!("databases.{}.pool", database.name);
    let mut row =
        |name: &str, value: String, note| push(rows, format!("{prefix}.{name}"), value, note);
    let mode = match pool.mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    row("mode", mode.to_owned(), "how long a client keeps a server");
    row("size", pool.size.to_string(), "most servers of one pool");
    row(
        "size_min",
        pool.size_min.to_string(),
        "kept open while the pool is in use",
    );
    row(
        "waiters_max",
        pool.waiters_max.to_string(),
        "longest queue; one more is turned away",
    );
    row("wait_max", time(pool.wait_max), "longest wait for a server");
    row(
        "connect_timeout",
        time(pool.connect_timeout),
        "longest dial",
    );
    row(
        "idle_max",
        time(pool.idle_max),
        "an idle server is closed after this",
    );
    row(
        "lifetime_max",
        time(pool.lifetime_max),
        "a server is closed after this, give or take a tenth",
    );
    row(
        "prepared_max",
        pool.prepared_max.to_string(),
        "prepared statements kept on one server",
    );
    row(
        "verify",
        pool.verify.to_string(),
        "servers given back are compared with a fresh one",
    );
}

/// libpq's words.
fn sslmode(mode: &TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}

fn time(duration: Duration) -> String {
    format!("{duration:?}")
}

fn shard_name(database: &Database, shard: ShardId) -> String {
    database
        .shards
        .get(shard.index())
        .map_or_else(|| "?".to_owned(), |shard| shard.name.clone())
}

/// What of each keyspace lives on a shard: "by_user: 128 of 256 buckets; by_region: 2 ranges".
#[must_use]
pub fn placement(database: &Database, shard: ShardId) -> String {
    let buckets = |all: &[ShardId]| {
        let here = all.iter().filter(|s| **s == shard).count();
        format!("{here} of {} buckets", all.len())
    };
    let of = |keyspace: &crate::shard::Keyspace| {
        let share = match &keyspace.kind {
            KeyspaceKind::HashXxh3 { buckets: all }
            | KeyspaceKind::HashPostgres { buckets: all } => buckets(all),
            KeyspaceKind::Range { ranges } => {
                format!(
                    "{} ranges",
                    ranges.iter().filter(|(_, _, s)| *s == shard).count()
                )
            }
            KeyspaceKind::List { values } => {
                format!(
                    "{} values",
                    values.values().filter(|s| **s == shard).count()
                )
            }
        };
        format!("{}: {share}", keyspace.name)
    };
    database
        .keyspaces
        .iter()
        .map(of)
        .collect::<Vec<_>>()
        .join("; ")
}
