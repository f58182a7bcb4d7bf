//! The SHOW commands: for each its columns, what it shows, and how its rows are made from what the sources say.

use super::Sources;
use super::table::ColumnType::{Bool, Float8, Int8, Text};
use super::table::{Cell, Column, ColumnType, Row, ms, seconds};
use crate::stats::{AccountTotals, StatementTotals, Way};

type Columns = &'static [(&'static str, ColumnType)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Pools,
    Clients,
    Servers,
    Shards,
    Replicas,
    Stats,
    Queries,
    Config,
    Access,
    Version,
    Help,
}

impl View {
    pub const ALL: [Self; 11] = [
        Self::Pools,
        Self::Clients,
        Self::Servers,
        Self::Shards,
        Self::Replicas,
        Self::Stats,
        Self::Queries,
        Self::Config,
        Self::Access,
        Self::Version,
        Self::Help,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pools => "POOLS",
            Self::Clients => "CLIENTS",
            Self::Servers => "SERVERS",
            Self::Shards => "SHARDS",
            Self::Replicas => "REPLICAS",
            Self::Stats => "STATS",
            Self::Queries => "QUERIES",
            Self::Config => "CONFIG",
            Self::Access => "ACCESS",
            Self::Version => "VERSION",
            Self::Help => "HELP",
        }
    }

    /// In any case, as typed.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|view| view.name().eq_ignore_ascii_case(name))
    }

    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Pools => "pools: servers idle, in use and being dialled; clients waiting",
            Self::Clients => "connected clients, what they do, what they hold and why",
            Self::Servers => "connections to servers",
            Self::Shards => "shards, their servers and what they hold",
            Self::Replicas => "replicas, their lag, and why one is not read",
            Self::Stats => "totals of each user of each database since the start",
            Self::Queries => "statements by fingerprint, the most called first",
            Self::Config => "settings in force",
            Self::Access => "who may come from where; the first rule that fits decides",
            Self::Version => "version of pgshunt",
            Self::Help => "this list",
        }
    }

    #[must_use]
    pub fn columns(self) -> Vec<Column> {
        self.column_list()
            .iter()
            .map(|(name, kind)| Column::of(name, *kind))
            .collect()
    }

    fn column_list(self) -> Columns {
        match self {
            Self::Pools => POOLS,
            Self::Clients => CLIENTS,
            Self::Servers => SERVERS,
            Self::Shards => SHARDS,
            Self::Replicas => REPLICAS,
            Self::Stats => STATS,
            Self::Queries => QUERIES,
            Self::Config => CONFIG,
            Self::Access => ACCESS,
            Self::Version => VERSION,
            Self::Help => HELP,
        }
    }

    #[must_use]
    pub fn rows(self, sources: &dyn Sources) -> Vec<Row> {
        match self {
            Self::Pools => pools(sources),
            Self::Clients => clients(sources),
            Self::Servers => servers(sources),
            Self::Shards => shards(sources),
            Self::Replicas => replicas(sources),
            Self::Stats => sources.stats().totals().into_iter().map(account).collect(),
            Self::Queries => sources
                .stats()
                .queries()
                .into_iter()
                .map(statement)
                .collect(),
            Self::Config => config(sources),
            Self::Access => access(sources),
            Self::Version => vec![vec![super::VERSION_TEXT.into()]],
            Self::Help => help(),
        }
    }
}

const POOLS: Columns = &[
    ("database", Text),
    ("shard", Text),
    ("server", Text),
    ("role", Text),
    ("user", Text),
    ("mode", Text),
    ("size_max", Int8),
    ("idle", Int8),
    ("in_use", Int8),
    ("dialling", Int8),
    ("waiting", Int8),
    ("oldest_wait_ms", Float8),
    ("checkouts", Int8),
    ("shared", Int8),
    ("waits", Int8),
    ("timeouts", Int8),
    ("dials", Int8),
    ("closes", Int8),
];

fn pools(sources: &dyn Sources) -> Vec<Row> {
    let row = |p: super::PoolRow| {
        vec![
            p.database.into(),
            p.shard.into(),
            p.server.into(),
            p.role.into(),
            p.user.into(),
            p.mode.into(),
            p.size.into(),
            p.idle.into(),
            p.in_use.into(),
            p.dialling.into(),
            p.waiting.into(),
            ms(p.oldest_wait),
            p.checkouts.into(),
            p.shared.into(),
            p.waits.into(),
            p.timeouts.into(),
            p.dials.into(),
            p.closes.into(),
        ]
    };
    sources.pools().into_iter().map(row).collect()
}

const CLIENTS: Columns = &[
    ("id", Int8),
    ("user", Text),
    ("database", Text),
    ("address", Text),
    ("application_name", Text),
    ("state", Text),
    ("state_ms", Float8),
    ("wait_ms", Float8),
    ("pinned", Text),
    ("pinned_s", Float8),
    ("transaction_ms", Float8),
    ("shards", Text),
    ("connected_s", Float8),
    ("queries", Int8),
];

fn clients(sources: &dyn Sources) -> Vec<Row> {
    let row = |c: super::ClientRow| {
        let (reason, pinned_for) = c.pinned.unzip();
        let shards = (!c.shards.is_empty()).then(|| c.shards.join(", "));
        vec![
            c.id.into(),
            c.user.into(),
            c.database.into(),
            c.address.into(),
            c.application_name.into(),
            c.state.into(),
            ms(c.in_state),
            ms(c.wait),
            reason.into(),
            seconds(pinned_for),
            ms(c.transaction),
            shards.into(),
            seconds(c.connected),
            c.queries.into(),
        ]
    };
    sources.clients().into_iter().map(row).collect()
}

const SERVERS: Columns = &[
    ("address", Text),
    ("role", Text),
    ("database", Text),
    ("shard", Text),
    ("user", Text),
    ("state", Text),
    ("pid", Int8),
    ("age_s", Float8),
    ("idle_s", Float8),
    ("prepared", Int8),
];

fn servers(sources: &dyn Sources) -> Vec<Row> {
    let row = |s: super::ServerRow| {
        vec![
            s.address.into(),
            s.role.into(),
            s.database.into(),
            s.shard.into(),
            s.user.into(),
            s.state.into(),
            s.pid.into(),
            seconds(s.age),
            seconds(s.idle),
            s.prepared.into(),
        ]
    };
    sources.servers().into_iter().map(row).collect()
}

const SHARDS: Columns = &[
    ("database", Text),
    ("shard", Text),
    ("home", Bool),
    ("primary", Text),
    ("primary_up", Bool),
    ("replicas", Int8),
    ("replicas_up", Int8),
    ("holds", Text),
    ("reason", Text),
];

fn shards(sources: &dyn Sources) -> Vec<Row> {
    let row = |s: super::ShardRow| {
        vec![
            s.database.into(),
            s.shard.into(),
            s.home.into(),
            s.primary.into(),
            s.primary_up.into(),
            s.replicas.into(),
            s.replicas_up.into(),
            s.holds.into(),
            s.reason.into(),
        ]
    };
    sources.shards().into_iter().map(row).collect()
}

const REPLICAS: Columns = &[
    ("database", Text),
    ("shard", Text),
    ("address", Text),
    ("up", Bool),
    ("lsn", Text),
    ("lag_bytes", Int8),
    ("lag_ms", Float8),
    ("sampled_ms", Float8),
    ("reason", Text),
];

fn replicas(sources: &dyn Sources) -> Vec<Row> {
    let row = |r: super::ReplicaRow| {
        vec![
            r.database.into(),
            r.shard.into(),
            r.address.into(),
            r.up.into(),
            r.lsn.into(),
            r.lag_bytes.into(),
            ms(r.lag),
            ms(r.sampled_ago),
            r.reason.into(),
        ]
    };
    sources.replicas().into_iter().map(row).collect()
}

const STATS: Columns = &[
    ("database", Text),
    ("user", Text),
    ("queries", Int8),
    ("transactions", Int8),
    ("errors", Int8),
    ("refused", Int8),
    ("bytes_in", Int8),
    ("bytes_out", Int8),
    ("avg_ms", Float8),
    ("p50_ms", Float8),
    ("p95_ms", Float8),
    ("p99_ms", Float8),
    ("waits", Int8),
    ("wait_ms", Float8),
    ("replica_reads", Int8),
    ("primary_reads", Int8),
    ("writes", Int8),
    ("pins", Int8),
];

fn account(account: AccountTotals) -> Row {
    let t = &account.totals;
    vec![
        (&*account.database).into(),
        (&*account.user).into(),
        t.queries.into(),
        t.transactions.into(),
        t.errors.into(),
        t.refused.into(),
        t.bytes_in.into(),
        t.bytes_out.into(),
        ms(t.latency.mean()),
        ms(t.latency.quantile(0.50)),
        ms(t.latency.quantile(0.95)),
        ms(t.latency.quantile(0.99)),
        t.waits.into(),
        ms(t.wait),
        t.replica_reads.into(),
        t.primary_reads.into(),
        t.writes.into(),
        t.pins.into(),
    ]
}

const QUERIES: Columns = &[
    ("database", Text),
    ("fingerprint", Text),
    ("calls", Int8),
    ("errors", Int8),
    ("rows", Int8),
    ("avg_ms", Float8),
    ("p50_ms", Float8),
    ("p95_ms", Float8),
    ("p99_ms", Float8),
    ("replica_reads", Int8),
    ("shards_touched", Int8),
    ("shards_per_call", Float8),
    ("single", Int8),
    ("concatenated", Int8),
    ("combined", Int8),
    ("gathered", Int8),
    ("everywhere", Int8),
    ("query", Text),
];

fn statement(row: StatementTotals) -> Row {
    let t = &row.totals;
    let (database, fingerprint, shape) = row
        .statement
        .map(|s| {
            (
                s.database.to_string(),
                format!("{:032x}", s.fingerprint),
                s.shape.to_string(),
            )
        })
        .map_or((None, None, crate::stats::OTHER.to_owned()), |(d, f, s)| {
            (Some(d), Some(f), s)
        });
    let per_call = t.shards.touches() as f64 / t.calls.max(1) as f64;
    let mut row: Row = vec![
        database.into(),
        fingerprint.into(),
        t.calls.into(),
        t.errors.into(),
        t.rows.into(),
        ms(t.latency.mean()),
        ms(t.latency.quantile(0.50)),
        ms(t.latency.quantile(0.95)),
        ms(t.latency.quantile(0.99)),
        t.replica_reads.into(),
        t.shards.distinct().into(),
        Cell::Float8((per_call * 100.0).round() / 100.0),
    ];
    row.extend(Way::ALL.map(|way| t.ways.of(way).into()));
    row.push(shape.into());
    row
}

const CONFIG: Columns = &[("name", Text), ("value", Text), ("note", Text)];

fn config(sources: &dyn Sources) -> Vec<Row> {
    let row = |c: super::ConfigRow| vec![c.name.into(), c.value.into(), c.note.into()];
    sources.config().into_iter().map(row).collect()
}

const ACCESS: Columns = &[
    ("line", Int8),
    ("type", Text),
    ("databases", Text),
    ("users", Text),
    ("addresses", Text),
    ("method", Text),
];

fn access(sources: &dyn Sources) -> Vec<Row> {
    let row = |a: super::AccessRow| {
        vec![
            a.line.into(),
            a.connection.into(),
            a.databases.into(),
            a.users.into(),
            a.addresses.into(),
            a.method.into(),
        ]
    };
    sources.access().into_iter().map(row).collect()
}

const VERSION: Columns = &[("version", Text)];

const HELP: Columns = &[("command", Text), ("shows", Text)];

fn help() -> Vec<Row> {
    let shows =
        View::ALL.map(|view| vec![format!("SHOW {}", view.name()).into(), view.about().into()]);
    let reload = vec![
        "RELOAD".into(),
        "reads the shard map again, as SIGHUP does".into(),
    ];
    shows.into_iter().chain([reload]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_found_by_name_in_any_case() {
        for view in View::ALL {
            assert_eq!(View::named(&view.name().to_lowercase()), Some(view));
        }
        assert_eq!(View::named("pool"), None);
    }

    #[test]
    fn column_names_are_not_repeated() {
        for view in View::ALL {
            let columns = view.columns();
            let names: std::collections::HashSet<_> = columns.iter().map(|c| &c.name).collect();
            assert_eq!(names.len(), columns.len(), "{view:?}");
        }
    }

    #[test]
    fn help_lists_every_command() {
        assert_eq!(help().len(), View::ALL.len() + 1);
        assert!(help().iter().all(|row| row.len() == HELP.len()));
    }
}
