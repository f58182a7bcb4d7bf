//! The configuration as rows for SHOW CONFIG: every bound with its unit, passwords hidden.

use super::{
    Bounds, ClientAuth, Config, Database, Limits, Pins, PoolMode, Shard, ShardedTable, TlsMode,
    User,
};
use crate::consistency::Level;
use crate::shard::KeyspaceKind;
use std::time::Duration;

/// (name, value, unit or meaning)
pub type Described = (String, String, &'static str);

impl Config {
    /// Every setting in force.
    #[must_use]
    pub fn describe(&self) -> Vec<Described> {
        let mut rows = Rows::default();
        for (i, listener) in self.listeners.iter().enumerate() {
            let tls = listener.tls.as_ref().map_or("off", |tls| {
                if tls.required { "required" } else { "offered" }
            });
            rows.add(
                format!("listen[{i}].address"),
                format!("{}:{}", listener.host, listener.port),
                "where clients connect",
            );
            rows.add(format!("listen[{i}].tls"), tls, "TLS for clients");
        }
        rows.add(
            "admin.database",
            &self.admin.database,
            "name of the admin console",
        );
        rows.add(
            "admin.users",
            self.admin.users.join(", "),
            "who may open it",
        );
        rows.add(
            "admin.http",
            self.admin.http.as_deref().unwrap_or("off"),
            "/metrics and /healthz",
        );
        self.users.iter().for_each(|user| rows.user(user));
        self.databases
            .iter()
            .for_each(|database| rows.database(database));
        rows.limits(self);
        rows.process(self);
        rows.0
    }
}

#[derive(Default)]
struct Rows(Vec<Described>);

impl Rows {
    fn add(&mut self, name: impl Into<String>, value: impl ToString, comment: &'static str) {
        self.0.push((name.into(), value.to_string(), comment));
    }

    fn millis(&mut self, name: impl Into<String>, value: Duration, comment: &'static str) {
        self.add(name, value.as_millis(), comment);
    }

    fn user(&mut self, user: &User) {
        let name = &user.name;
        let auth = match user.auth {
            ClientAuth::Trust => "trust",
            ClientAuth::ScramPassword(_) | ClientAuth::ScramVerifier(_) => "scram-sha-256",
            ClientAuth::Md5Password(_) | ClientAuth::Md5Hash(_) => "md5",
            ClientAuth::Certificate => "cert",
        };
        let databases = if user.databases.is_empty() {
            "all".to_owned()
        } else {
            user.databases.join(", ")
        };
        rows_password(
            self,
            format!("users.{name}.server_password"),
            user.server_password.as_ref(),
        );
        self.add(
            format!("users.{name}.auth"),
            auth,
            "how clients prove who they are",
        );
        self.add(
            format!("users.{name}.server_user"),
            &user.server_user,
            "user on the servers",
        );
        self.add(
            format!("users.{name}.databases"),
            databases,
            "databases this user may use",
        );
        self.bounds(&format!("users.{name}.limits"), &user.bounds);
        let own = |bound: Option<String>| bound.unwrap_or_else(|| "the database's".to_owned());
        let pool = &user.pool;
        self.add(
            format!("users.{name}.pool.size"),
            own(pool.size.map(|n| n.to_string())),
            "connections to each server",
        );
        self.add(
            format!("users.{name}.pool.wait_ms_max"),
            own(pool.wait_max.map(|max| max.as_millis().to_string())),
            "ms a statement may wait for a server",
        );
    }

    /// Those of a user or a database, or of all.
    fn bounds(&mut self, at: &str, bounds: &Bounds) {
        let times = [
            ("query_ms_max", bounds.query_max, "ms a statement may run"),
            (
                "transaction_ms_max",
                bounds.transaction_max,
                "ms a transaction may be open",
            ),
            (
                "transaction_idle_ms_max",
                bounds.transaction_idle_max,
                "ms a client may leave its transaction idle",
            ),
            (
                "client_idle_ms_max",
                bounds.client_idle_max,
                "ms a client may be idle outside a transaction",
            ),
        ];
        if at != "limits" {
            let clients = bounds.clients_max.map(|n| n.to_string());
            self.add(
                format!("{at}.clients_max"),
                clients.unwrap_or_else(|| "none".to_owned()),
                "clients at a time",
            );
        }
        for (name, max, comment) in times {
            let max = max.map(|max| max.as_millis().to_string());
            self.add(
                format!("{at}.{name}"),
                max.unwrap_or_else(|| "none".to_owned()),
                comment,
            );
        }
    }

    fn database(&mut self, database: &Database) {
        let at = |field: &str| format!("databases.{}.{field}", database.name);
        let home = database
            .shards
            .get(database.home.index())
            .map_or("", |shard| &shard.name);
        self.add(
            at("server_database"),
            &database.server_database,
            "name on the servers",
        );
        self.add(at("home"), home, "shard of every table not listed");
        if let Some(server) = &database.scratch_server {
            let server = format!("{}:{}", server.host, server.port);
            self.add(
                at("scratch_server"),
                server,
                "where scratch databases are made",
            );
        }
        self.add(
            at("control.user"),
            &database.control_user,
            "who pgshunt logs in as",
        );
        rows_password(
            self,
            at("control.password"),
            database.control_password.as_ref(),
        );
        self.add(
            at("server_tls.mode"),
            tls_mode(&database.server_tls.mode),
            "TLS to the servers",
        );
        database
            .shards
            .iter()
            .for_each(|shard| self.shard(&at("shards"), shard));
        self.keyspaces(database);
        database
            .tables
            .iter()
            .for_each(|table| self.table(database, table));
        let reference = database
            .reference_tables
            .iter()
            .map(|(schema, name)| format!("{schema}.{name}"));
        self.add(
            at("reference_tables"),
            reference.collect::<Vec<_>>().join(", "),
            "whole on every shard",
        );
        self.pool(database);
        self.consistency(database);
        self.bounds(&at("limits"), &database.bounds);
    }

    fn shard(&mut self, at: &str, shard: &Shard) {
        let replicas: Vec<String> = shard
            .replicas
            .iter()
            .map(|replica| format!("{}:{}", replica.host, replica.port))
            .collect();
        self.add(
            format!("{at}.{}.primary", shard.name),
            format!("{}:{}", shard.primary.host, shard.primary.port),
            "takes the writes",
        );
        self.add(
            format!("{at}.{}.replicas", shard.name),
            replicas.join(", "),
            "serve reads",
        );
    }

    fn keyspaces(&mut self, database: &Database) {
        for keyspace in &database.keyspaces {
            let types: Vec<&str> = keyspace
                .types
                .iter()
                .map(|key_type| key_type.name())
                .collect();
            let kind = match &keyspace.kind {
                KeyspaceKind::HashXxh3 { buckets } => format!("xxh3, {} buckets", buckets.len()),
                KeyspaceKind::HashPostgres { buckets } => {
                    format!("postgres, {} buckets", buckets.len())
                }
                KeyspaceKind::Range { ranges } => format!("{} ranges", ranges.len()),
                KeyspaceKind::List { values } => format!("list of {} values", values.len()),
            };
            let value = format!("{} by {kind}", types.join(", "));
            self.add(
                format!("databases.{}.keyspaces.{}", database.name, keyspace.name),
                value,
                "colocation group",
            );
        }
    }

    fn table(&mut self, database: &Database, table: &ShardedTable) {
        let keyspace = database
            .keyspaces
            .get(table.keyspace)
            .map_or("", |keyspace| &keyspace.name);
        let value = format!("{keyspace} ({})", table.key.join(", "));
        self.add(
            format!(
                "databases.{}.tables.{}.{}",
                database.name, table.schema, table.name
            ),
            value,
            "keyspace and key",
        );
    }

    fn pool(&mut self, database: &Database) {
        let at = |field: &str| format!("databases.{}.pool.{field}", database.name);
        let pool = &database.pool;
        let mode = if pool.mode == PoolMode::Transaction {
            "transaction"
        } else {
            "session"
        };
        self.add(at("mode"), mode, "how long a client holds a server");
        self.add(
            at("size"),
            pool.size,
            "server connections of one pool, at most",
        );
        self.add(
            at("size_min"),
            pool.size_min,
            "server connections kept open",
        );
        self.add(
            at("waiters_max"),
            pool.waiters_max,
            "clients waiting for one pool",
        );
        self.millis(
            at("wait_ms_max"),
            pool.wait_max,
            "ms a client waits for a server",
        );
        self.millis(
            at("connect_ms_max"),
            pool.connect_timeout,
            "ms to connect to a server",
        );
        self.millis(
            at("idle_ms_max"),
            pool.idle_max,
            "ms until an idle server connection is closed",
        );
        self.millis(
            at("lifetime_ms_max"),
            pool.lifetime_max,
            "ms a server connection lives, ±10 %",
        );
        self.add(
            at("prepared_max"),
            pool.prepared_max,
            "prepared statements on one server connection",
        );
        self.add(
            at("pipeline_max"),
            pool.pipeline_max,
            "clients whose short reads may share one server at a time",
        );
        self.millis(
            at("pipeline_ms_max"),
            pool.pipeline_time_max,
            "ms that such a read may take on average",
        );
        self.keeping(database);
    }

    /// What becomes of a server after its transaction.
    fn keeping(&mut self, database: &Database) {
        let at = |field: &str| format!("databases.{}.pool.{field}", database.name);
        let pool = &database.pool;
        let pins = match pool.pins {
            Pins::Allowed => "allow",
            Pins::Refused => "refuse",
        };
        self.add(
            at("pin"),
            pins,
            "what needs its server beyond a transaction",
        );
        self.add(
            at("verify"),
            pool.verify,
            "servers given back are compared with a fresh one",
        );
    }

    fn consistency(&mut self, database: &Database) {
        let at = |field: &str| format!("databases.{}.consistency.{field}", database.name);
        let consistency = &database.consistency;
        let level = match consistency.level {
            Level::Eventual => "eventual".to_owned(),
            Level::Bounded(millis) => format!("bounded, {millis} ms"),
            Level::Session => "session".to_owned(),
            Level::Strong => "strong".to_owned(),
        };
        self.add(at("level"), level, "how fresh a read must be");
        self.millis(
            at("sample_busy_ms"),
            consistency.sample_busy,
            "ms between WAL samples while sessions wait",
        );
        self.millis(
            at("sample_idle_ms"),
            consistency.sample_idle,
            "ms between WAL samples otherwise",
        );
        self.millis(
            at("lag_ms_max"),
            consistency.lag_max,
            "ms of lag beyond which a replica is not read",
        );
        self.add(
            at("sessions_max"),
            consistency.sessions_max,
            "named sessions remembered",
        );
    }

    /// Of statements over several shards.
    fn several_shards(&mut self, limits: &Limits) {
        self.add(
            "limits.combine_bytes_max",
            limits.combine_bytes_max,
            "bytes of rows that one statement puts together",
        );
        self.add(
            "limits.portal_bytes_max",
            limits.portal_bytes_max,
            "bytes of rows that one client's portals and cursors over several shards keep",
        );
        self.add(
            "limits.gather_bytes_max",
            limits.gather_bytes_max,
            "bytes one statement may bring together in a scratch database",
        );
        self.add(
            "limits.gather_connections_max",
            limits.gather_connections_max,
            "scratch databases in use at a time",
        );
    }

    fn limits(&mut self, config: &Config) {
        let limits = &config.limits;
        self.add(
            "limits.clients_max",
            limits.clients_max,
            "clients at a time",
        );
        let connections = limits.server_connections_max.map(|n| n.to_string());
        self.add(
            "limits.server_connections_max",
            connections.unwrap_or_else(|| "none".to_owned()),
            "connections to one server, over all pools",
        );
        self.millis(
            "limits.login_ms_max",
            limits.login_max,
            "ms from accept to ReadyForQuery",
        );
        self.bounds("limits", &limits.bounds);
        self.add(
            "limits.message_bytes_max",
            limits.message_bytes_max,
            "bytes of one client message",
        );
        self.add(
            "limits.parsed_bytes_max",
            limits.parsed_bytes_max,
            "bytes of SQL parsed for routing",
        );
        self.add("limits.plans_max", limits.plans_max, "plans kept");
        self.several_shards(limits);
        self.add(
            "limits.client_prepared_max",
            limits.client_prepared_max,
            "prepared statements of one client",
        );
        self.millis(
            "limits.drain_ms_max",
            limits.drain_max,
            "ms a SIGTERM waits for transactions",
        );
        self.add(
            "limits.queries_max",
            limits.queries_max,
            "statements kept apart in SHOW QUERIES",
        );
        self.add(
            "limits.notify_bytes_max",
            limits.notify_bytes_max,
            "bytes of notifications that wait for one client",
        );
        self.add(
            "limits.gather_disk_bytes_max",
            limits.gather_disk_bytes_max,
            "bytes on disk of all scratch databases of a server",
        );
    }

    fn process(&mut self, config: &Config) {
        self.add("log.level", &config.log.level, "least severity logged");
        self.add(
            "log.format",
            if config.log.json { "json" } else { "text" },
            "form of the log",
        );
        self.add("workers", config.workers, "worker threads");
    }
}

fn rows_password(rows: &mut Rows, name: String, password: Option<&String>) {
    rows.add(
        name,
        if password.is_some() {
            "(hidden)"
        } else {
            "none"
        },
        "password for the servers",
    );
}

fn tls_mode(mode: &TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Prefer => "prefer",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
    }
}
