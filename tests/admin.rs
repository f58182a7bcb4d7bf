//! The admin console and the HTTP endpoints, seen from outside: tokio-postgres and psql against a listener that does
//! nothing but an unconditional login, over sources that are made up here. No PostgreSQL server is needed; psql must
//! be on the PATH or where the Debian packages put it.

use async_trait::async_trait;
use bytes::BytesMut;
use pgshunt::admin::{
    AccessRow, ClientRow, ConfigRow, Greeting, PoolRow, ReplicaRow, ServerRow, ShardRow, Sources,
    serve, serve_http,
};
use pgshunt::stats::{
    ClientState, Clients, Counts, Executed, Identity, Outcome, Recorder, ServedBy, ShardSet, Stats,
    Way,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::types::Type;
use tokio_postgres::{NoTls, SimpleQueryMessage};

struct Fake {
    stats: Arc<Stats>,
    clients: Arc<Clients>,
    well: AtomicBool,
}

#[async_trait]
impl Sources for Fake {
    fn pools(&self) -> Vec<PoolRow> {
        let pool = |shard: &str| PoolRow {
            database: "social".into(),
            shard: shard.into(),
            server: "127.0.0.1:5433".into(),
            role: "primary".into(),
            user: "app \"quoted\"".into(),
            mode: "transaction".into(),
            size: 10,
            idle: 3,
            oldest_wait: Duration::from_micros(1500),
            ..PoolRow::default()
        };
        vec![pool("s1"), pool("s2")]
    }

    fn clients(&self) -> Vec<ClientRow> {
        let all = self.clients.status(Instant::now());
        all.into_iter()
            .map(|client| ClientRow::of(client, |_, shard| format!("s{shard}")))
            .collect()
    }

    fn servers(&self) -> Vec<ServerRow> {
        vec![ServerRow {
            state: "idle".into(),
            pid: Some(77),
            ..ServerRow::default()
        }]
    }

    fn shards(&self) -> Vec<ShardRow> {
        vec![ShardRow {
            shard: "s1".into(),
            home: true,
            primary_up: true,
            ..ShardRow::default()
        }]
    }

    fn replicas(&self) -> Vec<ReplicaRow> {
        let known = ReplicaRow {
            shard: "s1".into(),
            up: true,
            lag_bytes: Some(4096),
            lag: Some(Duration::from_millis(12)),
            ..ReplicaRow::default()
        };
        let unknown = ReplicaRow {
            shard: "s2".into(),
            reason: Some("down".into()),
            ..ReplicaRow::default()
        };
        vec![known, unknown]
    }

    fn config(&self) -> Vec<ConfigRow> {
        vec![ConfigRow {
            name: "workers".into(),
            value: "2".into(),
            note: "threads".into(),
        }]
    }

    fn access(&self) -> Vec<AccessRow> {
        vec![AccessRow {
            line: Some(7),
            method: "reject".into(),
            ..AccessRow::default()
        }]
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }

    fn healthy(&self) -> Result<(), String> {
        if self.well.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("shard s2: no route to 127.0.0.1:5433".into())
        }
    }

    async fn reload(&self) -> Result<String, String> {
        tokio::task::yield_now().await;
        if self.well.load(Ordering::Relaxed) {
            Ok("1 database".into())
        } else {
            Err("line 7: no such shard".into())
        }
    }
}

fn fake() -> Arc<Fake> {
    let fake = Fake {
        stats: Stats::new(2, 100),
        clients: Clients::new(10),
        well: AtomicBool::new(true),
    };
    record(&fake.stats.recorder("social", "app"));
    Arc::new(fake)
}

fn record(recorder: &Recorder) {
    let shape: Arc<str> = "SELECT name FROM users WHERE id = ?".into();
    for ms in 1..=100 {
        recorder.query(&Executed {
            fingerprint: 0xabc,
            shape: &shape,
            duration: Duration::from_millis(ms),
            rows: 1,
            outcome: if ms == 7 {
                Outcome::Failed
            } else {
                Outcome::Done
            },
            served_by: ServedBy::Replica,
            shards: ShardSet::one((ms % 2) as u16),
            way: Some(if ms % 4 == 0 {
                Way::Gathered
            } else {
                Way::Single
            }),
        });
    }
    recorder.count(&Counts {
        transactions: 100,
        bytes_in: 6000,
        bytes_out: 9000,
        ..Counts::default()
    });
}

/// Takes every startup message for a login and hands the rest to the console.
async fn console(sources: Arc<Fake>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, peer) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let sources: Arc<dyn Sources> = Arc::<Fake>::clone(&sources);
            tokio::spawn(async move {
                let length = stream.read_u32().await.unwrap() as usize;
                stream.read_exact(&mut vec![0; length - 4]).await.unwrap();
                stream.write_all(b"R\0\0\0\x08\0\0\0\0").await.unwrap();
                let greeting = Greeting {
                    user: "ops".into(),
                    database: "pgshunt".into(),
                    application_name: "test".into(),
                    peer: Some(peer),
                    pid: 42,
                    secret: vec![1, 2, 3, 4],
                };
                let _ = serve(stream, BytesMut::new(), greeting, sources).await;
            });
        }
    });
    port
}

async fn connect(port: u16) -> tokio_postgres::Client {
    let text = format!("host=127.0.0.1 port={port} user=ops dbname=pgshunt sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn row_counts(messages: &[SimpleQueryMessage]) -> Vec<u64> {
    let done = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    done.collect()
}

#[tokio::test]
async fn every_view_answers_in_both_protocols() {
    let client = connect(console(fake()).await).await;
    for view in
        "POOLS CLIENTS SERVERS SHARDS REPLICAS STATS QUERIES CONFIG ACCESS VERSION HELP".split(' ')
    {
        let query = format!("SHOW {view}");
        let simple = client.simple_query(&query).await.unwrap();
        let prepared = client.prepare(&query).await.unwrap();
        let extended = client.query(&prepared, &[]).await.unwrap();
        assert_eq!(row_counts(&simple), [extended.len() as u64], "{view}");
        for row in &extended {
            for (at, column) in row.columns().iter().enumerate() {
                assert_eq!(column.type_(), prepared.columns()[at].type_());
                decode(row, at, column.type_());
            }
        }
    }
}

fn decode(row: &tokio_postgres::Row, at: usize, kind: &Type) {
    match *kind {
        Type::INT8 => drop(row.get::<_, Option<i64>>(at)),
        Type::FLOAT8 => drop(row.get::<_, Option<f64>>(at)),
        Type::BOOL => drop(row.get::<_, Option<bool>>(at)),
        Type::TEXT => drop(row.get::<_, Option<String>>(at)),
        ref other => panic!("unexpected type {other}"),
    }
}

#[tokio::test]
async fn statistics_are_those_that_were_recorded() {
    let client = connect(console(fake()).await).await;
    let stats = client.query_one("SHOW STATS", &[]).await.unwrap();
    assert_eq!(stats.get::<_, String>("user"), "app");
    assert_eq!(stats.get::<_, i64>("queries"), 100);
    assert_eq!(stats.get::<_, i64>("errors"), 1);
    assert_eq!(stats.get::<_, i64>("bytes_out"), 9000);
    assert!((stats.get::<_, f64>("avg_ms") - 50.5).abs() < 0.01);
    assert!((stats.get::<_, f64>("p99_ms") - 99.0).abs() <= 1.0);
    let query = client.query_one("SHOW QUERIES", &[]).await.unwrap();
    assert_eq!(
        query.get::<_, String>("query"),
        "SELECT name FROM users WHERE id = ?"
    );
    assert_eq!(
        (query.get::<_, i64>("calls"), query.get::<_, i64>("rows")),
        (100, 100)
    );
    assert_eq!(query.get::<_, i64>("shards_touched"), 2);
    let ways = [
        "single",
        "concatenated",
        "combined",
        "gathered",
        "everywhere",
    ];
    assert_eq!(ways.map(|way| query.get::<_, i64>(way)), [75, 0, 0, 25, 0]);
    assert!((query.get::<_, f64>("shards_per_call") - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn what_is_not_known_is_null_and_lag_has_both_units() {
    let client = connect(console(fake()).await).await;
    let rows = client.query("SHOW REPLICAS", &[]).await.unwrap();
    assert_eq!(rows[0].get::<_, Option<i64>>("lag_bytes"), Some(4096));
    assert_eq!(rows[0].get::<_, Option<f64>>("lag_ms"), Some(12.0));
    assert_eq!(rows[0].get::<_, Option<String>>("reason"), None);
    assert_eq!(rows[1].get::<_, Option<i64>>("lag_bytes"), None);
    assert_eq!(
        rows[1].get::<_, Option<String>>("reason").as_deref(),
        Some("down")
    );
}

#[tokio::test]
async fn a_client_is_shown_with_what_it_holds_and_why() {
    let fake = fake();
    let identity = Identity {
        user: "app".into(),
        database: "social".into(),
        peer: Some(([127, 0, 0, 1], 1).into()),
        pid: 7,
    };
    let handle = fake.clients.register(identity, Instant::now()).unwrap();
    handle.set_application_name("worker");
    handle.pin(Some(("temporary table", Instant::now())));
    handle.hold(2);
    handle.set_state(ClientState::Waiting, Instant::now());
    let client = connect(console(Arc::clone(&fake)).await).await;
    let row = client.query_one("SHOW CLIENTS", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>("state"), "waiting");
    assert_eq!(row.get::<_, String>("pinned"), "temporary table");
    assert_eq!(row.get::<_, String>("shards"), "s2");
    assert_eq!(row.get::<_, String>("application_name"), "worker");
    assert!(row.get::<_, Option<f64>>("wait_ms").is_some());
    assert_eq!(row.get::<_, Option<f64>>("transaction_ms"), None);
    drop(handle);
    assert!(client.query("SHOW CLIENTS", &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn errors_leave_the_connection_usable_in_both_protocols() {
    let client = connect(console(fake()).await).await;
    let error = client
        .simple_query("SHOW POOLS; SELECT 1 FROM pg_class")
        .await
        .unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "0A000");
    assert!(error.as_db_error().unwrap().hint().is_some());
    let error = client.query("SHOW NOTHING", &[]).await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "42704");
    let error = client
        .query("SHOW POOLS; SHOW STATS", &[])
        .await
        .unwrap_err();
    assert_eq!(error.as_db_error().unwrap().code().code(), "42601");
    assert_eq!(client.query("SHOW POOLS", &[]).await.unwrap().len(), 2);
    assert_eq!(
        client
            .query_one("SELECT 1", &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        1
    );
}

#[tokio::test]
async fn drivers_may_open_transactions_and_use_cursors() {
    let mut client = connect(console(fake()).await).await;
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("SHOW POOLS").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 1).await.unwrap().len(), 1);
    assert_eq!(
        transaction
            .query_portal(&portal, i32::MAX)
            .await
            .unwrap()
            .len(),
        1
    );
    let whole = transaction.bind(&statement, &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&whole, -1).await.unwrap().len(), 2);
    assert!(transaction.query("SHOW NOTHING", &[]).await.is_err());
    transaction.rollback().await.unwrap();
    let mixed = client
        .simple_query("BEGIN; SHOW STATS; COMMIT; SET x = 1; DISCARD ALL; ;")
        .await
        .unwrap();
    assert_eq!(row_counts(&mixed).len(), 5);
    assert!(client.simple_query("").await.is_ok());
    assert!(client.query("", &[]).await.unwrap().is_empty());
    assert!(client.execute("-- nothing", &[]).await.is_ok());
}

#[tokio::test]
async fn reload_says_what_came_of_it() {
    let fake = fake();
    let client = connect(console(Arc::clone(&fake)).await).await;
    client.batch_execute("RELOAD").await.unwrap();
    client.execute("RELOAD", &[]).await.unwrap();
    fake.well.store(false, Ordering::Relaxed);
    let error = client.batch_execute("RELOAD").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(
        (error.code().code(), error.message()),
        ("F0000", "line 7: no such shard")
    );
    assert!(error.hint().unwrap().contains("stays as it was"));
}

#[tokio::test]
async fn what_a_client_may_keep_here_is_bounded() {
    let client = connect(console(fake()).await).await;
    let mut kept = Vec::new();
    let refused = loop {
        match client.prepare("SHOW POOLS").await {
            Ok(statement) => kept.push(statement),
            Err(error) => break error,
        }
        assert!(kept.len() <= 200, "nothing is bounded");
    };
    assert_eq!(refused.as_db_error().unwrap().code().code(), "54000");
    kept.clear();
    assert!(
        client.prepare("SHOW POOLS").await.is_ok(),
        "room again after Close"
    );
}

/// A message of the console's protocol.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[tag], &length[..], body].concat()
}

async fn raw(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"\0\0\0\x08\0\x03\0\0").await.unwrap();
    stream
}

/// All that comes until the server closes or says nothing for a while.
async fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let reading = stream.read_to_end(&mut all);
    let _ = tokio::time::timeout(Duration::from_millis(300), reading).await;
    all
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_broken_message_ends_its_connection_with_an_error_and_no_other() {
    let port = console(fake()).await;
    let broken: [Vec<u8>; 5] = [
        message(b'P', b"a\0SHOW POOLS\0\xff\xff"),
        message(b'B', b"\0\0\0\0\xff\xff"),
        message(b'F', b"\0\0\0\0"),
        vec![b'Q', 0x7f, 0xff, 0xff, 0xff],
        vec![b'Q', 0, 0, 0, 0],
    ];
    for bytes in broken {
        let mut stream = raw(port).await;
        stream.write_all(&bytes).await.unwrap();
        let answer = drain(&mut stream).await;
        assert!(contains(&answer, b"C08P01\0"), "{bytes:?}");
    }
    assert!(connect(port).await.simple_query("SHOW POOLS").await.is_ok());
}

#[tokio::test]
async fn after_an_error_messages_are_skipped_until_sync() {
    let mut stream = raw(console(fake()).await).await;
    let pipeline = [
        message(b'P', b"\0SHOW NOTHING\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'Q', b"SHOW VERSION\0"),
        message(b'S', b""),
        // seven formats for one column
        message(b'P', b"\0SHOW VERSION\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\x02\0\0\0\0"),
        message(b'S', b""),
        message(b'X', b""),
    ];
    stream.write_all(&pipeline.concat()).await.unwrap();
    let answer = drain(&mut stream).await;
    let ready = answer
        .windows(6)
        .filter(|window| *window == b"Z\0\0\0\x05I")
        .count();
    assert_eq!(ready, 3, "after the greeting and after each Sync");
    assert!(contains(&answer, b"C42704\0") && contains(&answer, b"2 result formats"));
    assert!(!contains(&answer, b"pgshunt 0.1.0\0"), "nothing was run");
}

fn psql() -> &'static str {
    let known = ["/usr/lib/postgresql/15/bin/psql", "/usr/bin/psql"];
    known
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .unwrap_or("psql")
}

async fn psql_says(port: u16, arguments: &[&str]) -> (bool, String) {
    let mut command = std::process::Command::new(psql());
    command.args([
        "-X",
        "-h",
        "127.0.0.1",
        "-U",
        "ops",
        "-d",
        "pgshunt",
        "-p",
        &port.to_string(),
    ]);
    command
        .args(arguments)
        .env("PGSSLMODE", "disable")
        .env("PGGSSENCMODE", "disable");
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run
        .await
        .unwrap()
        .expect("psql is needed: install postgresql-client");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn psql_shows_tables_and_clear_errors() {
    let port = console(fake()).await;
    let (well, said) = psql_says(
        port,
        &["-c", "show pools", "-c", "SHOW REPLICAS;", "-c", "RELOAD"],
    )
    .await;
    assert!(
        well && said.contains("oldest_wait_ms") && said.contains("(2 rows)"),
        "{said}"
    );
    assert!(
        said.contains("NOTICE:  1 database") && said.contains("RELOAD"),
        "{said}"
    );
    let (well, said) = psql_says(port, &["-c", "\\d"]).await;
    assert!(
        !well && said.contains("has no tables") && said.contains("HINT:  SHOW HELP"),
        "{said}"
    );
    let (well, said) = psql_says(port, &["-c", "\\conninfo", "-c", "show version", "-At"]).await;
    assert!(well && said.contains("pgshunt 0.1.0"), "{said}");
}

async fn http() -> (Arc<Fake>, u16) {
    let fake = fake();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve_http(listener, Arc::<Fake>::clone(&fake)));
    (fake, port)
}

async fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // ends because the server closes after each answer
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_are_in_the_text_format_with_help_and_units() {
    let (_fake, port) = http().await;
    let text = get(port, "/metrics").await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK") && text.contains("application/openmetrics-text"),
        "{text}"
    );
    assert!(text.trim_end().ends_with("# EOF"));
    for line in [
        "# TYPE pgshunt_queries counter",
        "# HELP pgshunt_query_duration_seconds Time from",
        "pgshunt_queries_total{database=\"social\",user=\"app\"} 100",
        "pgshunt_routed_total{database=\"social\",user=\"app\",way=\"gathered\"} 25",
        "pgshunt_sent_bytes_total{database=\"social\",user=\"app\"} 9000",
        "pgshunt_reads_total{database=\"social\",user=\"app\",role=\"replica\"} 100",
        "pgshunt_query_duration_seconds_count{database=\"social\",user=\"app\"} 100",
        "pgshunt_query_duration_seconds_bucket{le=\"+Inf\",database=\"social\",user=\"app\"} 100",
        "user=\"app \\\"quoted\\\"\",state=\"idle\"} 3",
        "pgshunt_replica_lag_bytes{database=\"\",shard=\"s1\",server=\"\"} 4096",
        "pgshunt_replica_lag_seconds{database=\"\",shard=\"s1\",server=\"\"} 0.012",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn health_follows_the_primaries() {
    let (fake, port) = http().await;
    assert!(get(port, "/healthz").await.starts_with("HTTP/1.1 200"));
    fake.well.store(false, Ordering::Relaxed);
    let sick = get(port, "/healthz").await;
    assert!(
        sick.starts_with("HTTP/1.1 503") && sick.contains("shard s2"),
        "{sick}"
    );
    assert!(get(port, "/elsewhere").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn more_scrapers_than_permitted_wait_their_turn() {
    let (_fake, port) = http().await;
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let refused = tokio::time::timeout(Duration::from_millis(200), get(port, "/healthz")).await;
    assert!(
        refused.is_err(),
        "a thirty-third connection is not served at once"
    );
    drop(idle);
    assert!(get(port, "/healthz").await.starts_with("HTTP/1.1 200"));
}
