//! The choice of servers against a real primary and streaming replica, started by the test itself (`support/pg.rs`) from
//! the installed server programs.

#[path = "support/pg.rs"]
mod pg;

use pgshunt::cluster::control::ControlPools;
use pgshunt::cluster::topology::{MemberStatus, ServerId, Topology};
use pgshunt::config::Database;
use pgshunt::consistency::{Level, Watermarks};
use pgshunt::shard::ShardId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const S1: ShardId = ShardId(0);

struct Setup {
    servers: pg::Servers,
    topology: Arc<Topology>,
}

impl Setup {
    async fn start() -> Self {
        let mut servers = pg::start(1, &[]);
        servers.replicate(0);
        let database = database(&servers.servers.iter().map(|s| s.port).collect::<Vec<_>>());
        let pools = Arc::new(ControlPools::new(&database).expect("pools"));
        let topology = Topology::start(&database, pools);
        assert!(topology.wait_first_samples(Duration::from_secs(10)).await);
        Self { servers, topology }
    }

    async fn primary(&self) -> Client {
        self.servers.servers[0].client().await
    }

    async fn replica(&self) -> Client {
        self.servers.servers[1].client().await
    }

    /// Where this session's read goes now; true for the replica.
    fn replica_serves(&self, marks: &mut Watermarks, level: Level) -> bool {
        let choice = self
            .topology
            .choose_read(S1, marks, level, Instant::now(), |_| 0);
        assert_eq!(choice.is_replica, choice.server.member == 1);
        choice.is_replica
    }

    async fn comes_back(&self, marks: &mut Watermarks, level: Level) -> bool {
        let ready = || self.replica_serves(marks, level);
        self.topology
            .settle(S1, Duration::from_secs(10), ready)
            .await
    }

    fn status(&self, member: u16) -> MemberStatus {
        let all = self.topology.status();
        all.into_iter()
            .find(|m| m.id.member == member)
            .expect("the server")
    }

    async fn until(&self, longest: Duration, what: impl Fn(&Self) -> bool) -> bool {
        self.topology.settle(S1, longest, || what(self)).await
    }
}

/// The first port is the primary's.
fn database(ports: &[u16]) -> Database {
    let replicas: Vec<_> = ports[1..]
        .iter()
        .map(|p| format!("127.0.0.1:{p}"))
        .collect();
    let map = format!(
        "listen: [{{ address: '127.0.0.1:6432' }}]
users: [{{ name: app, auth: trust }}]
databases:
  - name: app
    server_database: postgres
    control: {{ user: postgres }}
    consistency: {{ sample_busy_ms: 5, sample_idle_ms: 1000, lag_ms_max: 3000 }}
    shards: [{{ name: s1, primary: '127.0.0.1:{}', replicas: {replicas:?} }}]
",
        ports[0]
    );
    let config = pgshunt::config::parse(&map, "test.yaml").expect("a good map");
    config.databases.into_iter().next().expect("a database")
}

fn unknown() -> Watermarks {
    Watermarks::unknown(1, Instant::now())
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect(sql);
}

async fn write(client: &Client, marks: &mut Watermarks) {
    run(client, "INSERT INTO t DEFAULT VALUES").await;
    marks.note_write(S1, Instant::now());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_serve_what_they_are_proven_to_show() {
    let setup = Setup::start().await;
    let (primary, replica) = (setup.primary().await, setup.replica().await);
    let mut marks = unknown();
    assert!(
        setup.comes_back(&mut marks, Level::Session).await,
        "{:?}",
        setup.topology.status()
    );
    run(&primary, "CREATE TABLE t (id serial)").await;
    marks.note_write(S1, Instant::now());
    assert!(!setup.replica_serves(&mut marks, Level::Session));
    assert!(setup.comes_back(&mut marks, Level::Session).await);

    paused_replay(&setup, &primary, &replica, &mut marks).await;
    many_pairs(&setup, &primary, &replica, &mut marks).await;
    idle_after_a_segment_switch(&setup, &primary, &mut marks).await;
    tokens(&setup, &primary, &replica).await;
    bounds(&setup, &primary, &replica).await;
    synchronous_standbys(&setup, &primary, &mut marks).await;
}

async fn paused_replay(setup: &Setup, primary: &Client, replica: &Client, marks: &mut Watermarks) {
    run(replica, "SELECT pg_wal_replay_pause()").await;
    write(primary, marks).await;
    let mut reader = unknown();
    let long = Duration::from_millis(500);
    let came_back = setup
        .topology
        .settle(S1, long, || {
            setup.replica_serves(marks, Level::Session)
                || setup.replica_serves(&mut reader, Level::Session)
        })
        .await;
    assert!(!came_back, "the replica does not show the write");
    assert!(setup.replica_serves(marks, Level::Eventual));
    let status = setup.status(1);
    assert!(
        status.lag_bytes > Some(0) && status.lag_ms > Some(0),
        "{status:?}"
    );

    run(replica, "SELECT pg_wal_replay_resume()").await;
    assert!(setup.comes_back(marks, Level::Session).await);
    assert!(setup.comes_back(&mut reader, Level::Session).await);
    assert!(
        setup
            .until(Duration::from_secs(5), |s| s.status(1).lag_ms == Some(0))
            .await
    );
    let status = setup.status(1);
    assert_eq!((status.lag_bytes, status.reason), (Some(0), None));
}

/// Write, read where the topology says, as fast as it goes: no write is ever missed, and with pauses replicas serve.
async fn many_pairs(setup: &Setup, primary: &Client, replica: &Client, marks: &mut Watermarks) {
    let mut on_replica = 0;
    for n in 0..600 {
        let row = primary
            .query_one("INSERT INTO t DEFAULT VALUES RETURNING id", &[])
            .await
            .expect("insert");
        marks.note_write(S1, Instant::now());
        let id: i32 = row.get(0);
        if n % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(n % 20)).await;
        }
        let choice = setup
            .topology
            .choose_read(S1, marks, Level::Session, Instant::now(), |_| 0);
        let server = if choice.is_replica { replica } else { primary };
        let rows = server
            .query("SELECT 1 FROM t WHERE id = $1", &[&id])
            .await
            .expect("select");
        marks.note_read(S1, choice.server.member, Instant::now());
        assert_eq!(rows.len(), 1, "write {n} missed on {choice:?}");
        on_replica += usize::from(choice.is_replica);
    }
    assert!(on_replica > 50, "{on_replica} reads of 600 on the replica");
}

/// Hazard 26: the insert position lies past a header that replay has not seen.
async fn idle_after_a_segment_switch(setup: &Setup, primary: &Client, marks: &mut Watermarks) {
    write(primary, marks).await;
    run(primary, "CHECKPOINT").await;
    run(primary, "SELECT pg_switch_wal()").await;
    marks.note_write(S1, Instant::now());
    let mut fresh = unknown();
    assert!(
        setup.comes_back(&mut fresh, Level::Session).await
            && setup.comes_back(marks, Level::Session).await,
        "{:?}",
        setup.topology.status()
    );
}

async fn tokens(setup: &Setup, primary: &Client, replica: &Client) {
    run(replica, "SELECT pg_wal_replay_pause()").await;
    let mut writer = unknown();
    let before = setup.topology.token(&writer).await.expect("a token");
    write(primary, &mut writer).await;
    let after = setup.topology.token(&writer).await.expect("a token");
    let mut other = unknown();
    setup
        .topology
        .take_token(&mut other, &before)
        .expect("taken");
    assert!(
        setup.replica_serves(&mut other, Level::Session),
        "the older token asks for less than an unknown session"
    );
    setup
        .topology
        .take_token(&mut other, &after)
        .expect("taken");
    assert!(!setup.replica_serves(&mut other, Level::Session));
    assert!(setup.topology.take_token(&mut other, "1.nonsense").is_err());
    run(replica, "SELECT pg_wal_replay_resume()").await;
    assert!(setup.comes_back(&mut other, Level::Session).await);
}

async fn bounds(setup: &Setup, primary: &Client, replica: &Client) {
    let mut marks = unknown();
    assert!(setup.comes_back(&mut marks, Level::Bounded(200)).await);
    run(replica, "SELECT pg_wal_replay_pause()").await;
    write(primary, &mut marks).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!setup.replica_serves(&mut marks, Level::Bounded(200)));
    assert!(setup.replica_serves(&mut marks, Level::Bounded(60_000)));
    assert!(!setup.replica_serves(&mut marks, Level::Strong));
    // past lag_max it is not read at all
    let too_old = |s: &Setup| !s.replica_serves(&mut unknown(), Level::Eventual);
    assert!(setup.until(Duration::from_secs(8), too_old).await);
    let reason = setup.status(1).reason.unwrap_or_default();
    assert!(reason.contains("replay is paused"), "{reason}");
    run(replica, "SELECT pg_wal_replay_resume()").await;
    assert!(setup.comes_back(&mut marks, Level::Session).await);
}

async fn synchronous_standbys(setup: &Setup, primary: &Client, marks: &mut Watermarks) {
    run(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    run(primary, "SELECT pg_reload_conf()").await;
    let primary_only = |s: &Setup| !s.replica_serves(&mut marks.clone(), Level::Session);
    assert!(setup.until(Duration::from_secs(5), primary_only).await);
    assert!(setup.replica_serves(marks, Level::Eventual));
    let reason = setup.status(1).reason.unwrap_or_default();
    assert!(reason.contains("synchronous_standby_names"), "{reason}");
    run(primary, "ALTER SYSTEM RESET synchronous_standby_names").await;
    run(primary, "SELECT pg_reload_conf()").await;
    assert!(setup.comes_back(marks, Level::Session).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_go_and_come_back() {
    let setup = Setup::start().await;
    let primary = setup.primary().await;
    run(&primary, "CREATE TABLE t (id serial)").await;
    let mut marks = unknown();
    assert!(setup.comes_back(&mut marks, Level::Session).await);
    a_failed_connection(&setup, &mut marks).await;
    a_dead_replica(&setup, &primary, &mut marks).await;
    a_dead_primary(&setup, &mut marks).await;
    a_promotion(&setup).await;
}

async fn a_failed_connection(setup: &Setup, marks: &mut Watermarks) {
    let replica = ServerId {
        shard: S1,
        member: 1,
    };
    setup.topology.mark_failed(replica, Instant::now());
    // the very next sample may already be there
    assert!(setup.comes_back(marks, Level::Session).await);
    setup
        .topology
        .mark_failed(replica, Instant::now() + Duration::from_secs(1));
    assert!(!setup.replica_serves(marks, Level::Eventual));
    let choice = setup
        .topology
        .choose_read(S1, marks, Level::Eventual, Instant::now(), |_| 0);
    assert_eq!(choice.server, setup.topology.primary(S1));
    assert!(setup.comes_back(marks, Level::Session).await);
}

async fn a_dead_replica(setup: &Setup, primary: &Client, marks: &mut Watermarks) {
    let old_connection = Instant::now();
    let server = &setup.servers.servers[1];
    server.stop();
    assert!(
        setup
            .until(Duration::from_secs(2), |s| !s.status(1).up)
            .await
    );
    assert!(!setup.replica_serves(marks, Level::Eventual));
    write(primary, marks).await;
    server.restart();
    assert!(setup.comes_back(marks, Level::Session).await);
    let choice = setup
        .topology
        .choose_read(S1, marks, Level::Session, Instant::now(), |_| 0);
    assert!(choice.admits(old_connection) && !choice.admits(Instant::now()));
}

async fn a_dead_primary(setup: &Setup, marks: &mut Watermarks) {
    let server = &setup.servers.servers[0];
    server.stop();
    assert!(
        setup
            .until(Duration::from_secs(2), |s| !s.status(0).up)
            .await
    );
    assert!(!setup.topology.is_up(setup.topology.primary(S1)));
    // nothing has moved: what the replica is known to show, it still shows
    assert!(setup.replica_serves(marks, Level::Session));
    assert!(!setup.replica_serves(&mut unknown(), Level::Session));
    assert!(setup.topology.token(&unknown()).await.is_err());
    server.restart();
    assert!(
        setup
            .until(Duration::from_secs(5), |s| s.status(0).up)
            .await
    );
    assert!(setup.comes_back(&mut unknown(), Level::Session).await);
}

/// The replica becomes a server of its own: it is not read, whatever its position.
async fn a_promotion(setup: &Setup) {
    let replica = setup.replica().await;
    run(&replica, "SELECT pg_promote()").await;
    assert!(
        setup
            .until(Duration::from_secs(5), |s| s.status(1).reason.is_some())
            .await
    );
    assert!(!setup.replica_serves(&mut unknown(), Level::Eventual));
    let reason = setup.status(1).reason.unwrap_or_default();
    assert!(reason.contains("not in recovery"), "{reason}");
    promoted_primary(setup).await;
}

/// Seen with the roles of the new order: the promoted server is the primary, on a new timeline; the old primary is none
/// of its replicas.
async fn promoted_primary(setup: &Setup) {
    let ports: Vec<u16> = setup.servers.servers.iter().rev().map(|s| s.port).collect();
    let database = database(&ports);
    let pools = Arc::new(ControlPools::new(&database).expect("pools"));
    let topology = Topology::start(&database, pools);
    assert!(topology.wait_first_samples(Duration::from_secs(10)).await);
    // a session of the old order: its position is of another timeline, so it starts again with the new primary
    let mut marks = unknown();
    let token = setup
        .topology
        .token(&marks)
        .await
        .expect("a token of timeline 1");
    topology.take_token(&mut marks, &token).expect("taken");
    let choice = topology.choose_read(S1, &mut marks, Level::Session, Instant::now(), |_| 0);
    assert!(!choice.is_replica);
    let renewed = topology.token(&marks).await.expect("a token");
    let decoded = pgshunt::consistency::token::decode(&renewed).expect("valid");
    assert_eq!(decoded[0].1.timeline, 2);
    assert!(topology.status().iter().all(|m| m.up));
}
