//! What breaks, and who notices: server connections, replicas, primaries and clients that are killed, and pgshunt itself told
//! to stop or to read its map again. The others go on; the one concerned gets an SQLSTATE and a hint.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Answer, Raw};
use support::town::{Map, Town};

const TABLES: &str = "\
keyspaces:
  - name: by_key
    type: bigint
    list:
      - { shard: s1, values: [1, 3, 5, 7, 9] }
      - { shard: s2, values: [2, 4, 6, 8] }
tables:
  - { name: rows, keyspace: by_key, key: k }
";

/// Codes that say a connection to a server was lost or cannot be had.
const CONNECTION: [&str; 6] = ["08006", "08001", "08003", "57P01", "57P02", "57P03"];

fn start(name: &str, replicas: usize) -> Town {
    let town = Town::start(name, 2, replicas);
    let sql = "CREATE TABLE rows (k bigint PRIMARY KEY, v bigint NOT NULL DEFAULT 0)";
    town.on_primaries(sql);
    town.direct(0, 0)
        .ask("INSERT INTO rows SELECT generate_series(1, 9, 2)")
        .ok();
    town.direct(1, 0)
        .ask("INSERT INTO rows SELECT generate_series(2, 8, 2)")
        .ok();
    town.catch_up();
    town
}

fn map(town: &Town) -> Map {
    Map::of(town, 2, town.replicas).tables(TABLES)
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// What the admin console says of them.
fn replicas(proxy: &Proxy) -> Vec<raw::Row> {
    let mut console = Raw::connect(proxy.port(), "app", "pgshunt").expect("the console");
    console.ask("SHOW REPLICAS").rows
}

fn kill(pid: &str) {
    let status = Command::new("kill")
        .args(["-9", pid])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

#[track_caller]
fn assert_told(answer: &Answer, who: &str) {
    let error = answer
        .error
        .as_ref()
        .unwrap_or_else(|| panic!("{who} got an answer: {answer:?}"));
    assert!(
        CONNECTION.contains(&error.code.as_str()),
        "{who}: {error:?}"
    );
    assert!(
        !error.message.is_empty() && !error.hint.is_empty(),
        "{who}: {error:?}"
    );
}

/// Clients that go on with the reads and writes of one shard, and count what went wrong.
struct Traffic {
    over: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Traffic {
    fn new() -> Self {
        Self {
            over: AtomicBool::new(false),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// `writes` keeps it to the primary.
    fn run(&self, proxy: &Proxy, key: u64, writes: bool) {
        let mut client = connect(proxy);
        while !self.over.load(Ordering::Acquire) {
            let sql = if writes {
                format!("UPDATE rows SET v = v + 1 WHERE k = {key}")
            } else {
                format!("SELECT k FROM rows WHERE k = {key}")
            };
            match client.query(&sql) {
                Ok(answer) if answer.error.is_none() => self.done.fetch_add(1, Ordering::Relaxed),
                Ok(answer) => {
                    println!("key {key}: {:?}", answer.error);
                    self.failed.fetch_add(1, Ordering::Relaxed)
                }
                Err(error) => {
                    println!("key {key}: {error}");
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    client = connect(proxy);
                    0
                }
            };
        }
    }

    fn stop(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// It goes on: so many more statements.
    fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        let until = Instant::now() + Duration::from_secs(10);
        while self.done.load(Ordering::Relaxed) < before + 20 {
            assert!(Instant::now() < until, "the others stand still");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Stops the traffic also when the test fails in between.
struct Stop<'a>(&'a Traffic);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

// A killed backend makes its postmaster restart all of that server's backends, so the others are those of other servers.

#[test]
fn a_killed_server_process_is_told_to_its_client_and_to_nobody_else() {
    let town = start("backend", 0);
    let proxy = Proxy::start(&map(&town).text());
    let traffic = Traffic::new();
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic);
        scope.spawn(|| traffic.run(&proxy, 2, true));
        let mut client = connect(&proxy);
        for _ in 0..3 {
            // in a transaction
            client.ask("BEGIN").ok();
            client.ask("UPDATE rows SET v = 100 WHERE k = 1").ok();
            let pid = client
                .ask("SELECT pg_backend_pid() FROM rows WHERE k = 1")
                .ok()
                .value()
                .to_owned();
            kill(&pid);
            let answer = client.ask("SELECT v FROM rows WHERE k = 1");
            assert_told(&answer, "the client in a transaction");
            if answer.error.expect("an error").severity == "FATAL" {
                // as Postgres does: the connection ends with its last words
                assert!(client.query("COMMIT").is_err());
                client = connect(&proxy);
            } else {
                assert_eq!(client.ask("SELECT v FROM rows WHERE k = 1").code(), "25P02");
                assert_eq!(client.ask("COMMIT").ok().tags, ["ROLLBACK"]);
                assert_eq!(client.status, b'I');
            }
            // the same client goes on as soon as its server does
            town.eventually("shard s1 again", || {
                client.ask("SELECT v FROM rows WHERE k = 1").error.is_none()
            });
            assert_eq!(
                client.ask("SELECT v FROM rows WHERE k = 1").ok().value(),
                "0"
            );
            // in the middle of a query
            let pids = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%'";
            client
                .send(&raw::query("SELECT pg_sleep(30), v FROM rows WHERE k = 1"))
                .expect("sent");
            let mut pid = String::new();
            town.eventually("the query runs", || {
                let rows = town.superuser(0, 0, "postgres").ask(pids).rows;
                pid = rows.first().and_then(|r| r[0].clone()).unwrap_or_default();
                !pid.is_empty()
            });
            kill(&pid);
            assert_told(
                &client.until_ready().expect("an error, not the end"),
                "the client in a query",
            );
            assert_eq!(client.status, b'I');
            town.eventually("shard s1 again", || {
                client.ask("SELECT v FROM rows WHERE k = 1").error.is_none()
            });
        }
        traffic.goes_on();
    });
    assert_eq!(
        traffic.failed.into_inner(),
        0,
        "the other shard's client noticed"
    );
}

#[test]
fn terminated_idle_servers_are_noticed_before_they_are_used() {
    let town = start("idle", 0);
    let proxy = Proxy::start(&map(&town).text());
    let mut client = connect(&proxy);
    for _ in 0..30 {
        client.ask("UPDATE rows SET v = v + 1 WHERE k = 3").ok();
        let sql =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'";
        town.superuser(0, 0, "postgres").ask(sql).ok();
        // their farewell has arrived
        town.eventually("they are gone", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
            town.superuser(0, 0, "postgres").ask(sql).ok().value() == "0"
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        client.ask("SELECT v FROM rows WHERE k = 3").ok().value(),
        "30"
    );
    // with a transaction open, the client hears Postgres's own words
    client.ask("BEGIN; UPDATE rows SET v = 0 WHERE k = 3").ok();
    town.superuser(0, 0, "postgres")
        .ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'")
        .ok();
    let told = client.query("SELECT v FROM rows WHERE k = 3");
    match told {
        Ok(answer) => assert!(CONNECTION.contains(&answer.code()), "{answer:?}"),
        Err(error) => panic!("closed without a word: {error}"),
    }
    assert_eq!(
        connect(&proxy)
            .ask("SELECT v FROM rows WHERE k = 3")
            .ok()
            .value(),
        "30"
    );
}

#[test]
fn a_killed_replica_is_not_noticed_and_comes_back() {
    let town = start("replica", 1);
    let proxy = Proxy::start(&map(&town).text());
    let traffic = Traffic::new();
    let by = |client: &mut Raw| {
        client
            .ask("SELECT inet_server_port() FROM rows WHERE k = 1")
            .ok()
            .value()
            .to_owned()
    };
    let replica = town.port(0, 1).to_string();
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic);
        for key in [1, 3, 2] {
            let (traffic, proxy) = (&traffic, &proxy);
            scope.spawn(move || traffic.run(proxy, key, false));
        }
        let mut client = connect(&proxy);
        town.eventually("reads on the replica", || by(&mut client) == replica);
        traffic.goes_on();
        town.kill_server(0, 1);
        // its children may answer for a moment longer, rightly; then every read is the primary's
        town.eventually("reads on the primary", || by(&mut client) != replica);
        for _ in 0..50 {
            assert_ne!(by(&mut client), replica);
        }
        traffic.goes_on();
        town.revive(0, 1);
        let until = Instant::now() + Duration::from_secs(40);
        while by(&mut client) != replica {
            assert!(
                Instant::now() < until,
                "the replica is up, but not read: {:?}\n{}\n{}",
                replicas(&proxy),
                town.server_log(0, 1),
                proxy.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        traffic.goes_on();
    });
    assert_eq!(
        traffic.failed.into_inner(),
        0,
        "reads are the primary's when the replica is gone"
    );
    let log = proxy.log();
    assert!(log.contains("replica"), "the log says so:\n{log}");
}

#[test]
fn a_primary_that_is_down_fails_its_own_statements_only() {
    let town = start("primary", 0);
    let map = map(&town)
        .pool("size: 5, wait_ms_max: 1500, connect_ms_max: 500")
        .text();
    let proxy = Proxy::start(&map);
    let traffic = Traffic::new();
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic);
        for key in [1, 3] {
            let (traffic, proxy) = (&traffic, &proxy);
            scope.spawn(move || traffic.run(proxy, key, true));
        }
        let mut client = connect(&proxy);
        client.ask("UPDATE rows SET v = 1 WHERE k = 2").ok();
        town.kill_server(1, 0);
        let started = Instant::now();
        let (mut told, mut acknowledged) = (0, "1");
        while told < 5 {
            let answer = client.ask("UPDATE rows SET v = 2 WHERE k = 2");
            // a server process looks for its postmaster only when it waits for its client
            std::thread::sleep(Duration::from_millis(20));
            let Some(error) = &answer.error else {
                assert!(started.elapsed() < Duration::from_secs(5), "who answered?");
                acknowledged = "2";
                continue;
            };
            assert!(
                answer.tags.is_empty(),
                "success and failure in one: {answer:?}"
            );
            assert!(
                error.message.contains("s2"),
                "the shard is not named: {error:?}"
            );
            assert_told(&answer, "shard s2's client");
            told += 1;
        }
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "told late: {:?}",
            started.elapsed()
        );
        // the same client's work on the other shard goes on
        client.ask("UPDATE rows SET v = v + 1 WHERE k = 5").ok();
        traffic.goes_on();
        town.revive(1, 0);
        town.eventually("shard s2 again", || {
            client.ask("SELECT v FROM rows WHERE k = 2").error.is_none()
        });
        assert_eq!(
            client.ask("SELECT v FROM rows WHERE k = 2").ok().value(),
            acknowledged
        );
    });
    assert_eq!(traffic.failed.into_inner(), 0, "shard s1 noticed");
}

#[test]
fn killed_clients_leave_nothing_behind() {
    let town = start("clients", 0);
    let proxy = Proxy::start(&map(&town).pool("size: 3").text());
    let traffic = Traffic::new();
    std::thread::scope(|scope| {
        let _stop = Stop(&traffic);
        scope.spawn(|| traffic.run(&proxy, 1, true));
        for round in 0..8 {
            // a process of its own, killed while its statement runs
            let sleep = format!("SELECT pg_sleep(2), 'round {round}', v FROM rows WHERE k = 9");
            let mut psql = Command::new("psql")
                .args(["-X", "-q", "-h", "127.0.0.1", "-U", "app", "-d", "social"])
                .args(["-p", &proxy.port().to_string()])
                .args([
                    "-c",
                    "BEGIN",
                    "-c",
                    "UPDATE rows SET v = -1 WHERE k = 9",
                    "-c",
                    &sleep,
                ])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("psql");
            town.eventually("it sleeps", || {
                let sql = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%round {round}%' AND query LIKE 'SELECT pg_sleep%' AND state = 'active'");
                town.superuser(0, 0, "postgres").ask(&sql).ok().value() == "t"
            });
            psql.kill().expect("killed");
            let _ = psql.wait();
            // its place in the pool of three is free at once, whatever its server still does
            let started = Instant::now();
            let holders: Vec<Raw> = (0..2)
                .map(|_| connect(&proxy))
                .map(|mut c| {
                    c.ask("BEGIN; UPDATE rows SET v = v WHERE k = 7").ok();
                    c.ask("ROLLBACK").ok();
                    c
                })
                .collect();
            assert!(
                started.elapsed() < Duration::from_secs(1),
                "{:?}",
                started.elapsed()
            );
            drop(holders);
        }
        traffic.goes_on();
    });
    assert_eq!(traffic.failed.into_inner(), 0);
    assert_eq!(
        connect(&proxy)
            .ask("SELECT v FROM rows WHERE k = 9")
            .ok()
            .value(),
        "0"
    );
}

#[test]
fn sigterm_lets_open_transactions_end() {
    let town = start("drain", 0);
    let proxy = Proxy::start(&map(&town).rest("limits: { drain_ms_max: 10000 }\n").text());
    let (mut busy, mut idle) = (connect(&proxy), connect(&proxy));
    busy.ask("BEGIN; UPDATE rows SET v = 5 WHERE k = 5").ok();
    idle.ask("SELECT 1").ok();
    proxy.signal("TERM");
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        Raw::connect(proxy.port(), "app", "social").is_err(),
        "new connections are refused"
    );
    // the idle one was told, with a code that drivers know
    let told = idle.until_ready();
    assert!(
        matches!(&told, Ok(answer) if answer.code() == "57P01"),
        "{told:?}"
    );
    assert_eq!(
        busy.ask("UPDATE rows SET v = v + 1 WHERE k = 5").ok().tags,
        ["UPDATE 1"]
    );
    assert_eq!(busy.ask("COMMIT").ok().tags, ["COMMIT"]);
    let status = proxy
        .wait_exit(Duration::from_secs(5))
        .expect("it ends once nothing is open");
    assert!(status.success(), "{status:?}");
    assert_eq!(
        town.direct(0, 0)
            .ask("SELECT v FROM rows WHERE k = 5")
            .ok()
            .value(),
        "6"
    );
}

#[test]
fn sigterm_does_not_wait_for_ever() {
    let town = start("drainlimit", 0);
    let proxy = Proxy::start(&map(&town).rest("limits: { drain_ms_max: 1000 }\n").text());
    let mut stuck = connect(&proxy);
    stuck.ask("BEGIN; UPDATE rows SET v = 7 WHERE k = 7").ok();
    let started = Instant::now();
    proxy.signal("TERM");
    assert!(
        proxy.wait_exit(Duration::from_secs(6)).is_some(),
        "still there"
    );
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    town.eventually("rolled back", || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state LIKE 'idle in%'";
        town.superuser(0, 0, "postgres").ask(sql).ok().value() == "0"
    });
    assert_eq!(
        town.direct(0, 0)
            .ask("SELECT v FROM rows WHERE k = 7")
            .ok()
            .value(),
        "0"
    );
}

#[test]
fn a_broken_map_is_not_taken_over_and_a_good_one_is() {
    let town = start("reload", 1);
    let good = map(&town);
    let proxy = Proxy::start(&good.text());
    let mut client = connect(&proxy);
    client.ask("SELECT 1").ok();
    // broken: said with its place, and nothing changes
    proxy.write_map(&good.text().replace("pool:", "pond:"));
    proxy.signal("HUP");
    town.eventually("the log names the mistake", || {
        let log = proxy.log();
        log.contains("pond") && log.contains(".yaml")
    });
    assert_eq!(
        client.ask("SELECT k FROM rows WHERE k = 1").ok().value(),
        "1"
    );
    assert_eq!(
        connect(&proxy)
            .ask("SELECT k FROM rows WHERE k = 2")
            .ok()
            .value(),
        "2"
    );
    // good: a user more, another table
    town.on_primaries("CREATE TABLE others (k bigint PRIMARY KEY)");
    town.as_superuser("CREATE ROLE reader LOGIN; GRANT SELECT ON rows, others TO reader");
    let mut better = map(&town).tables(&format!(
        "{TABLES}  - {{ name: others, keyspace: by_key, key: k }}\n"
    ));
    better.users.push_str("  - { name: reader, auth: trust }\n");
    assert!(Raw::connect(proxy.port(), "reader", "social").is_err());
    client.ask("BEGIN; UPDATE rows SET v = 1 WHERE k = 1").ok();
    proxy.write_map(&better.text());
    proxy.signal("HUP");
    town.eventually("the new user", || {
        Raw::connect(proxy.port(), "reader", "social").is_ok()
    });
    // a transaction that was open ends as it began
    client.ask("UPDATE rows SET v = v + 1 WHERE k = 1").ok();
    client.ask("COMMIT").ok();
    assert_eq!(
        client.ask("SELECT v FROM rows WHERE k = 1").ok().value(),
        "2"
    );
    let mut fresh = connect(&proxy);
    fresh.ask("INSERT INTO others VALUES (2)").ok();
    assert_eq!(
        town.direct(1, 0).ask("SELECT k FROM others").ok().value(),
        "2"
    );
    client.ask("INSERT INTO others VALUES (4)").ok();
    assert_eq!(
        town.direct(1, 0)
            .ask("SELECT count(*) FROM others")
            .ok()
            .value(),
        "2"
    );
}
