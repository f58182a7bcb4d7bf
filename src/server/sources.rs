//! What the admin console and /metrics show, gathered from the parts that know it.

use super::App;
use crate::admin::{
    AccessRow, ClientRow, ConfigRow, PoolRow, ReplicaRow, ServerRow, ShardRow, Sources,
};
use crate::cluster::topology::MemberStatus;
use crate::config::PoolMode;
use crate::exec::backend::Backend;
use crate::shard::ShardId;
use crate::stats::Stats;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl App {
    fn live(&self) -> Vec<Arc<Backend>> {
        let backends = self.backends.load();
        let mut live: Vec<_> = backends.values().map(|slot| slot.load_full()).collect();
        live.sort_by_key(|backend| backend.snapshot().database.name.clone());
        live
    }

    fn shard_name(&self, database: &str, shard: u16) -> String {
        let backends = self.backends.load();
        backends
            .get(database)
            .and_then(|slot| {
                slot.load()
                    .snapshot()
                    .database
                    .shards
                    .get(usize::from(shard))
                    .map(|s| s.name.clone())
            })
            .unwrap_or_else(|| shard.to_string())
    }
}

#[async_trait::async_trait]
impl Sources for App {
    fn pools(&self) -> Vec<PoolRow> {
        self.live()
            .iter()
            .flat_map(|backend| pools_of(backend))
            .collect()
    }

    fn clients(&self) -> Vec<ClientRow> {
        let name = |database: &str, shard: u16| self.shard_name(database, shard);
        self.clients
            .status(Instant::now())
            .into_iter()
            .map(|client| ClientRow::of(client, name))
            .collect()
    }

    fn servers(&self) -> Vec<ServerRow> {
        self.live()
            .iter()
            .flat_map(|backend| servers_of(backend))
            .collect()
    }

    fn shards(&self) -> Vec<ShardRow> {
        self.live()
            .iter()
            .flat_map(|backend| shards_of(backend))
            .collect()
    }

    fn replicas(&self) -> Vec<ReplicaRow> {
        self.live()
            .iter()
            .flat_map(|backend| replicas_of(backend))
            .collect()
    }

    fn config(&self) -> Vec<ConfigRow> {
        crate::admin::config_rows(&self.config.load())
    }

    fn access(&self) -> Vec<AccessRow> {
        crate::admin::access_rows(&self.config.load())
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn healthy(&self) -> Result<(), String> {
        let down: Vec<String> = self
            .shards()
            .into_iter()
            .filter(|shard| !shard.primary_up)
            .map(|s| {
                let why = s.reason.unwrap_or_else(|| "not reachable".to_owned());
                format!("{}/{}: primary {} {why}", s.database, s.shard, s.primary)
            })
            .collect();
        if down.is_empty() {
            Ok(())
        } else {
            Err(down.join("\n"))
        }
    }

    async fn reload(&self) -> Result<String, String> {
        self.reload_map().await
    }
}

fn role(member: u16) -> String {
    if member == 0 { "primary" } else { "replica" }.to_owned()
}

fn pools_of(backend: &Backend) -> Vec<PoolRow> {
    let snapshot = backend.snapshot();
    let database = &snapshot.database;
    let mode = match database.pool.mode {
        PoolMode::Transaction => "transaction",
        PoolMode::Session => "session",
    };
    let mut rows: Vec<PoolRow> = backend
        .servers
        .all()
        .iter()
        .map(|entry| {
            let status = entry.pool.status();
            let address = backend.topology.address(entry.member);
            PoolRow {
                database: database.name.clone(),
                shard: database.shards[entry.member.shard.index()].name.clone(),
                server: format!("{}:{}", address.host, address.port),
                role: role(entry.member.member),
                user: entry.pool.name().user.clone(),
                mode: mode.to_owned(),
                size: status.size,
                idle: status.idle,
                in_use: status.in_use,
                dialling: status.dialling,
                waiting: status.waiting,
                oldest_wait: status.oldest_wait,
                checkouts: status.totals.checkouts,
                shared: entry.lanes.shared(),
                waits: status.totals.waits,
                timeouts: status.totals.timeouts,
                dials: status.totals.dials,
                closes: status.totals.closes,
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.shard, &a.server, &a.user).cmp(&(&b.shard, &b.server, &b.user)));
    rows
}

fn servers_of(backend: &Backend) -> Vec<ServerRow> {
    let snapshot = backend.snapshot();
    let database = &snapshot.database;
    let now = Instant::now();
    let mut rows = Vec::new();
    for entry in backend.servers.all() {
        let address = backend.topology.address(entry.member);
        for server in entry.connections(now) {
            rows.push(ServerRow {
                address: format!("{}:{}", address.host, address.port),
                role: role(entry.member.member),
                database: database.name.clone(),
                shard: database.shards[entry.member.shard.index()].name.clone(),
                user: entry.pool.name().user.clone(),
                state: if server.idle.is_some() {
                    "idle"
                } else {
                    "in use"
                }
                .to_owned(),
                pid: Some(server.pid),
                age: server.age,
                idle: server.idle,
                prepared: server.prepared,
            });
        }
    }
    rows
}

fn shards_of(backend: &Backend) -> Vec<ShardRow> {
    let snapshot = backend.snapshot();
    let database = &snapshot.database;
    let members = backend.topology.status();
    database
        .shards
        .iter()
        .enumerate()
        .map(|(n, shard)| {
            let id = ShardId(u16::try_from(n).unwrap_or(u16::MAX));
            let of_shard: Vec<&MemberStatus> =
                members.iter().filter(|m| m.id.shard == id).collect();
            let primary = of_shard.iter().find(|m| m.id.member == 0);
            ShardRow {
                database: database.name.clone(),
                shard: shard.name.clone(),
                home: database.home == id,
                primary: format!("{}:{}", shard.primary.host, shard.primary.port),
                primary_up: primary.is_some_and(|p| p.up),
                replicas: shard.replicas.len(),
                replicas_up: of_shard.iter().filter(|m| m.id.member > 0 && m.up).count(),
                holds: crate::admin::placement(database, id),
                reason: primary.and_then(|p| p.reason.clone()),
            }
        })
        .collect()
}

fn replicas_of(backend: &Backend) -> Vec<ReplicaRow> {
    let snapshot = backend.snapshot();
    let database = &snapshot.database;
    let members = backend.topology.status();
    members
        .into_iter()
        .filter(|m| m.id.member > 0)
        .map(|m| ReplicaRow {
            database: database.name.clone(),
            shard: database.shards[m.id.shard.index()].name.clone(),
            address: format!("{}:{}", m.address.host, m.address.port),
            up: m.up,
            lsn: m
                .lsn
                .map(|lsn| format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & 0xFFFF_FFFF)),
            lag_bytes: m.lag_bytes,
            lag: m.lag_ms.map(Duration::from_millis),
            sampled_ago: m.sampled_ago,
            reason: m.reason,
        })
        .collect()
}
