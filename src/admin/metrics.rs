//! `/metrics`: what the sources say at the moment of a scrape, in the OpenMetrics text format. Nothing is kept between
//! scrapes. No label has more values than there are users, databases, shards and servers in the shard map.

use super::{PoolRow, ReplicaRow, Sources};
use crate::stats::totals::Totals;
use crate::stats::{AccountTotals, Way};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the duration histogram's buckets, in microseconds: a proxy's own time up to what a report takes.
const BOUNDS_MICROS: [u64; 15] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
];

type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug)]
enum Value {
    Int(u64),
    Real(f64),
}

/// One metric with all its series; the unit becomes the end of the name.
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    series: Vec<(Labels, Value)>,
}

struct Scrape {
    sources: Arc<dyn Sources>,
}

/// The text of one scrape.
pub fn scrape(sources: &Arc<dyn Sources>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("pgshunt");
    registry.register_collector(Box::new(Scrape {
        sources: Arc::clone(sources),
    }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sources = &*self.sources;
        let accounts = sources.stats().totals();
        let mut families = vec![build()];
        families.extend(account_families(&accounts));
        families.extend(pool_families(&sources.pools()));
        families.push(clients(sources));
        families.push(shards(sources));
        families.extend(replica_families(&sources.replicas()));
        for family in &families {
            family.encode(&mut encoder)?;
        }
        durations(&accounts, &mut encoder)
    }
}

impl Family {
    fn counter(name: &'static str, help: &'static str, series: Vec<(Labels, Value)>) -> Self {
        Self {
            name,
            help,
            unit: None,
            kind: MetricType::Counter,
            series,
        }
    }

    fn gauge(name: &'static str, help: &'static str, series: Vec<(Labels, Value)>) -> Self {
        Self {
            name,
            help,
            unit: None,
            kind: MetricType::Gauge,
            series,
        }
    }

    fn in_unit(self, unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric =
            encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind)?;
        for (labels, value) in &self.series {
            let series = metric.encode_family(labels)?;
            match self.kind {
                MetricType::Counter => encode_counter(series, *value)?,
                _ => encode_gauge(series, *value)?,
            }
        }
        Ok(())
    }
}

fn encode_counter(mut series: MetricEncoder<'_>, value: Value) -> fmt::Result {
    const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;
    match value {
        Value::Int(value) => series.encode_counter(&value, NONE),
        Value::Real(value) => series.encode_counter(&value, NONE),
    }
}

fn encode_gauge(mut series: MetricEncoder<'_>, value: Value) -> fmt::Result {
    match value {
        Value::Int(value) => series.encode_gauge(&value),
        Value::Real(value) => series.encode_gauge(&value),
    }
}

fn build() -> Family {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    Family::gauge(
        "build_info",
        "Always 1; the label is the version.",
        vec![(version, Value::Int(1))],
    )
}

fn account_labels(account: &AccountTotals) -> Labels {
    vec![
        ("database", account.database.to_string()),
        ("user", account.user.to_string()),
    ]
}

fn account_families(accounts: &[AccountTotals]) -> Vec<Family> {
    let of = |value: fn(&Totals) -> Value| {
        accounts
            .iter()
            .map(|a| (account_labels(a), value(&a.totals)))
            .collect::<Vec<_>>()
    };
    vec![
        Family::counter("queries", "Statements.", of(|t| Value::Int(t.queries))),
        Family::counter(
            "transactions",
            "Transactions.",
            of(|t| Value::Int(t.transactions)),
        ),
        Family::counter(
            "errors",
            "Statements that failed.",
            of(|t| Value::Int(t.errors)),
        ),
        Family::counter(
            "refused",
            "Statements that pgshunt would not run.",
            of(|t| Value::Int(t.refused)),
        ),
        Family::counter(
            "pins",
            "Times a session began to keep a server beyond a transaction.",
            of(|t| Value::Int(t.pins)),
        ),
        Family::counter("writes", "Writes.", of(|t| Value::Int(t.writes))),
        Family::counter(
            "reads",
            "Reads, by the role of the server that answered.",
            reads(accounts),
        ),
        Family::counter(
            "routed",
            "Statements done, by the part that shards had in them.",
            routed(accounts),
        ),
        Family::counter(
            "received",
            "Read from clients.",
            of(|t| Value::Int(t.bytes_in)),
        )
        .in_unit(Unit::Bytes),
        Family::counter(
            "sent",
            "Written to clients.",
            of(|t| Value::Int(t.bytes_out)),
        )
        .in_unit(Unit::Bytes),
        Family::counter(
            "waits",
            "Times a client had to wait for a server.",
            of(|t| Value::Int(t.waits)),
        ),
        Family::counter(
            "wait",
            "Time that clients waited for servers.",
            of(|t| real(t.wait)),
        )
        .in_unit(Unit::Seconds),
    ]
}

fn reads(accounts: &[AccountTotals]) -> Vec<(Labels, Value)> {
    let by_role = |account: &AccountTotals| {
        let with = |role: &str, reads| {
            let mut labels = account_labels(account);
            labels.push(("role", role.to_owned()));
            (labels, Value::Int(reads))
        };
        [
            with("replica", account.totals.replica_reads),
            with("primary", account.totals.primary_reads),
        ]
    };
    accounts.iter().flat_map(by_role).collect()
}

fn routed(accounts: &[AccountTotals]) -> Vec<(Labels, Value)> {
    let by_way = |account: &AccountTotals| {
        Way::ALL.map(|way| {
            let mut labels = account_labels(account);
            labels.push(("way", way.name().to_owned()));
            (labels, Value::Int(account.totals.ways.of(way)))
        })
    };
    accounts.iter().flat_map(by_way).collect()
}

fn durations(accounts: &[AccountTotals], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let help = "Time from the request of a client to the last byte of its answer.";
    let unit = Unit::Seconds;
    let mut metric =
        encoder.encode_descriptor("query_duration", help, Some(&unit), MetricType::Histogram)?;
    for account in accounts {
        let latency = &account.totals.latency;
        let counts = latency.buckets(&BOUNDS_MICROS.map(Duration::from_micros));
        let bounds = BOUNDS_MICROS
            .map(|micros| micros as f64 / 1e6)
            .into_iter()
            .chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let labels = account_labels(account);
        let mut series = metric.encode_family(&labels)?;
        let sum = latency.sum().as_secs_f64();
        series.encode_histogram::<NoLabelSet>(sum, latency.count(), &buckets, None)?;
    }
    Ok(())
}

fn pool_labels(pool: &PoolRow) -> Labels {
    vec![
        ("database", pool.database.clone()),
        ("shard", pool.shard.clone()),
        ("server", pool.server.clone()),
        ("role", pool.role.clone()),
        ("user", pool.user.clone()),
    ]
}

fn pool_families(pools: &[PoolRow]) -> Vec<Family> {
    let of = |value: fn(&PoolRow) -> Value| {
        pools
            .iter()
            .map(|pool| (pool_labels(pool), value(pool)))
            .collect::<Vec<_>>()
    };
    vec![
        Family::gauge(
            "pool_servers",
            "Connections to servers, by state.",
            servers(pools),
        ),
        Family::gauge(
            "pool_servers_max",
            "Most connections of the pool.",
            of(|p| count(p.size)),
        ),
        Family::gauge(
            "pool_waiting_clients",
            "Clients in the pool's queue.",
            of(|p| count(p.waiting)),
        ),
        Family::gauge(
            "pool_oldest_wait",
            "How long the first in the queue has waited.",
            of(|p| real(p.oldest_wait)),
        )
        .in_unit(Unit::Seconds),
        Family::counter(
            "pool_checkouts",
            "Servers lent.",
            of(|p| Value::Int(p.checkouts)),
        ),
        Family::counter(
            "pool_shared_statements",
            "Statements that shared a server with those of other clients.",
            of(|p| Value::Int(p.shared)),
        ),
        Family::counter(
            "pool_waits",
            "Checkouts that had to wait.",
            of(|p| Value::Int(p.waits)),
        ),
        Family::counter(
            "pool_timeouts",
            "Waits that ended without a server.",
            of(|p| Value::Int(p.timeouts)),
        ),
        Family::counter(
            "pool_dials",
            "Connections opened.",
            of(|p| Value::Int(p.dials)),
        ),
        Family::counter(
            "pool_closes",
            "Connections closed.",
            of(|p| Value::Int(p.closes)),
        ),
    ]
}

fn servers(pools: &[PoolRow]) -> Vec<(Labels, Value)> {
    let by_state = |pool: &PoolRow| {
        let with = |state: &str, servers| {
            let mut labels = pool_labels(pool);
            labels.push(("state", state.to_owned()));
            (labels, count(servers))
        };
        [
            with("idle", pool.idle),
            with("in_use", pool.in_use),
            with("dialling", pool.dialling),
        ]
    };
    pools.iter().flat_map(by_state).collect()
}

fn clients(sources: &dyn Sources) -> Family {
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for client in sources.clients() {
        *counts.entry((client.database, client.state)).or_default() += 1;
    }
    let labelled = |((database, state), clients)| {
        (
            vec![("database", database), ("state", state)],
            Value::Int(clients),
        )
    };
    Family::gauge(
        "clients",
        "Connected clients, by state.",
        counts.into_iter().map(labelled).collect(),
    )
}

fn shards(sources: &dyn Sources) -> Family {
    let up = |row: super::ShardRow| {
        let labels = vec![
            ("database", row.database),
            ("shard", row.shard),
            ("server", row.primary),
        ];
        (labels, Value::Int(row.primary_up.into()))
    };
    let help = "1 when the shard's primary can be reached.";
    Family::gauge(
        "primary_up",
        help,
        sources.shards().into_iter().map(up).collect(),
    )
}

fn replica_labels(replica: &ReplicaRow) -> Labels {
    vec![
        ("database", replica.database.clone()),
        ("shard", replica.shard.clone()),
        ("server", replica.address.clone()),
    ]
}

/// A lag that is not known has no series: no number would be true.
fn replica_families(replicas: &[ReplicaRow]) -> Vec<Family> {
    let of = |value: fn(&ReplicaRow) -> Option<Value>| {
        replicas
            .iter()
            .filter_map(|r| Some((replica_labels(r), value(r)?)))
            .collect::<Vec<_>>()
    };
    vec![
        Family::gauge(
            "replica_up",
            "1 when the replica can be reached.",
            of(|r| Some(Value::Int(r.up.into()))),
        ),
        Family::gauge(
            "replica_lag",
            "WAL that the replica has yet to replay.",
            of(|r| r.lag_bytes.map(Value::Int)),
        )
        .in_unit(Unit::Bytes),
        Family::gauge(
            "replica_lag",
            "Time that the replica is behind.",
            of(|r| r.lag.map(real)),
        )
        .in_unit(Unit::Seconds),
    ]
}

fn count(n: usize) -> Value {
    Value::Int(n as u64)
}

fn real(duration: Duration) -> Value {
    Value::Real(duration.as_secs_f64())
}
