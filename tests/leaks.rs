//! A hunt for leaks: many clients change whatever a session can hold, at random, over few servers, and each sees at every
//! step what a session of its own at PostgreSQL shows: nothing of a stranger's, and nothing of its own lost. Faults are
//! planted to show that the hunt would see them. `PGSHUNT_LONG=1` makes it 200 clients over ten servers and a million
//! transactions; `PGSHUNT_LEAK_TRANSACTIONS`, `PGSHUNT_LEAK_SECONDS` (as far as it comes in that time) and `PGSHUNT_LEAK_CLIENTS` say
//! otherwise, `PGSHUNT_SEED` repeats it.

mod support {
    pub mod cluster;
    pub mod hunter;
    pub mod raw;
    pub mod saboteur;
    pub mod town;
}

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::hunter::{Hunt, Hunter};
use support::saboteur::Saboteur;
use support::town::{Map, Town};

/// In both databases.
const SCHEMA: &str = "
    GRANT ALL ON SCHEMA public TO PUBLIC;
    CREATE SCHEMA a; CREATE SCHEMA b; GRANT USAGE ON SCHEMA a, b TO PUBLIC;
    CREATE FUNCTION a.place() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''a''';
    CREATE FUNCTION b.place() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''b''';
    CREATE FUNCTION public.place() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''public''';
    CREATE FUNCTION public.sets(name text, value text) RETURNS void LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_catalog.set_config(name, value, false); END $$;
    CREATE FUNCTION public.makes_table() RETURNS void LANGUAGE plpgsql
        AS $$ BEGIN CREATE TEMP TABLE IF NOT EXISTS made (a int); END $$;
    CREATE FUNCTION public.locks(n bigint) RETURNS void LANGUAGE plpgsql
        AS $$ BEGIN PERFORM pg_catalog.pg_advisory_lock_shared(n); END $$;
    DO $$ BEGIN FOR n IN 0..255 LOOP
        EXECUTE format('CREATE SEQUENCE public.of_client_%s START %s', n, n * 1000000 + 1); END LOOP; END $$;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;";

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let mut options = vec!["--auth", "trust", "--set", "fsync=off", "--set", "max_connections=500"];
        if std::env::var("PGSHUNT_LEAK_TRAILS").is_ok() {
            options.extend(["--set", "log_statement=all", "--set", "log_line_prefix=%p:"]);
        }
        let town = Town::start_with("leaks", 1, 0, &options);
        // who may change the session's user at all
        town.as_superuser("ALTER ROLE app SUPERUSER; CREATE ROLE role_a; CREATE ROLE role_b; GRANT role_a, role_b TO app");
        town.as_superuser("CREATE DATABASE oracle OWNER app");
        town.as_superuser(SCHEMA);
        town.superuser(0, 0, "oracle").ask(SCHEMA).ok();
        town
    })
}

fn number_of(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|v| v.parse().ok()).unwrap_or(default)
}

struct Caught {
    transactions: usize,
    findings: Vec<String>,
    /// of `pool.verify`
    logged: Vec<String>,
}

/// How long a hunt goes on.
#[derive(Clone, Copy)]
struct Extent {
    longest: Duration,
    transactions: usize,
}

impl Extent {
    fn seconds(longest: u64) -> Self {
        Self {
            longest: Duration::from_secs(longest),
            transactions: usize::MAX,
        }
    }
}

/// Pauses between two lines about how far a long hunt has come.
const TELL_EACH: Duration = Duration::from_secs(60);

/// `clients` over `servers`, until there were enough transactions, the time is over or something is found.
fn hunt(map: &Map, clients: u64, servers: usize, extent: Extent, seed: u64) -> Caught {
    let proxy = Proxy::start(&map.text());
    let hunt = Hunt {
        port: proxy.port(),
        oracle_port: town().port(0, 0),
        places: AtomicUsize::new(servers / 2),
        stop: AtomicBool::new(false),
        transactions: AtomicUsize::new(0),
        findings: parking_lot::Mutex::new(Vec::new()),
        trails: parking_lot::Mutex::new(Vec::new()),
    };
    std::thread::scope(|scope| {
        for number in 1..=clients {
            let hunt = &hunt;
            scope.spawn(move || {
                let hunting = || Hunter::new(number, seed, hunt).run();
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hunting));
                if result.is_err() {
                    hunt.findings.lock().push(format!("client {number} failed"));
                    hunt.stop.store(true, Ordering::Relaxed);
                }
            });
        }
        let until = Instant::now() + extent.longest;
        let mut told = Instant::now();
        while Instant::now() < until && !hunt.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            let done = hunt.transactions.load(Ordering::Relaxed);
            if told.elapsed() > TELL_EACH {
                told = Instant::now();
                println!("{done} transactions so far");
            }
            if done >= extent.transactions {
                break;
            }
            if proxy.log().contains("not as a fresh one") {
                break;
            }
        }
        hunt.stop.store(true, Ordering::Relaxed);
    });
    let log = proxy.log();
    let logged = log
        .lines()
        .filter(|line| line.contains("not as a fresh one"));
    if let Ok(file) = std::env::var("PGSHUNT_LEAK_TRAILS") {
        let trails = hunt.trails.lock().join("\n") + &town().whole_log(0, 0);
        std::fs::write(file, trails).expect("the trails, written");
    }
    Caught {
        transactions: hunt.transactions.into_inner(),
        findings: hunt.findings.into_inner(),
        logged: logged.map(str::to_owned).collect(),
    }
}

#[test]
fn every_session_sees_its_own_state_and_nobody_elses() {
    let long = std::env::var("PGSHUNT_LONG").is_ok();
    let (clients, servers) = if long { (200, 10) } else { (40, 8) };
    // the longest is for a hunt that is stuck
    let (transactions, seconds) = if long { (1_000_000, 6 * 3600) } else { (0, 10) };
    let clients = number_of("PGSHUNT_LEAK_CLIENTS", clients);
    let seconds = number_of("PGSHUNT_LEAK_SECONDS", seconds);
    let pool = format!("size: {servers}, verify: true");
    let map = Map::of(town(), 1, 0).pool(&pool);
    let transactions = number_of("PGSHUNT_LEAK_TRANSACTIONS", transactions);
    let mut extent = Extent::seconds(seconds);
    if transactions > 0 {
        extent.transactions = usize::try_from(transactions).expect("a count");
    }
    let caught = hunt(&map, clients, servers, extent, number_of("PGSHUNT_SEED", 7));
    let findings: Vec<String> = caught.findings.into_iter().chain(caught.logged).collect();
    println!(
        "{} transactions, {} findings",
        caught.transactions,
        findings.len()
    );
    assert!(findings.is_empty(), "{}", findings.join("\n\n"));
    if long && std::env::var("PGSHUNT_LEAK_SECONDS").is_err() {
        assert!(caught.transactions as u64 >= transactions, "it was stuck");
    }
}

/// What a leak of each kind would leave on a server.
const PLANTS: [(&str, &str); 9] = [
    ("a setting", "SET work_mem TO '3MB'"),
    ("a role", "SET ROLE role_b"),
    ("a session's user", "SET SESSION AUTHORIZATION role_a"),
    ("a temporary table", "CREATE TEMP TABLE mine (a int)"),
    ("an advisory lock", "SELECT pg_advisory_lock(4711)"),
    ("a prepared statement", "PREPARE planted AS SELECT 1"),
    ("a channel", "LISTEN planted"),
    (
        "a cursor",
        "BEGIN; DECLARE planted CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    ),
    ("an open transaction", "BEGIN"),
];

/// Each kind of state is put on servers behind pgshunt's back, and the clients of the hunt must see it.
#[test]
fn what_is_planted_is_found() {
    for (what, plant) in PLANTS.into_iter().chain([("what was lost", "DISCARD ALL")]) {
        let saboteur = Saboteur::start(town().port(0, 0), "app", plant, 50);
        let caught = hunt(
            &sabotaged(&saboteur, "size: 4, verify: false"),
            8,
            4,
            Extent::seconds(20),
            7,
        );
        assert!(saboteur.planted() > 0, "{what} was never planted");
        assert!(!caught.findings.is_empty(), "{what}: nobody saw it");
        println!("{what}: {}", caught.findings[0]);
    }
}

/// And `pool.verify` must see it when the server is given back.
#[test]
fn what_is_planted_is_found_by_verify() {
    // an open transaction is told to the client at once
    for (what, plant) in PLANTS.into_iter().filter(|(_, plant)| *plant != "BEGIN") {
        let saboteur = Saboteur::start(town().port(0, 0), "app", plant, 3);
        let map = sabotaged(&saboteur, "size: 1, verify: true");
        let proxy = Proxy::start(&map.text());
        let mut client =
            support::raw::Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        for _ in 0..5 {
            client.ask("SELECT 1").ok();
        }
        assert!(saboteur.planted() > 0, "{what} was never planted");
        let log = proxy.log();
        assert!(log.contains("not as a fresh one"), "{what}:\n{log}");
    }
}

/// A map whose server is reached by way of the saboteur.
fn sabotaged(saboteur: &Saboteur, pool: &str) -> Map {
    let mut map = Map::of(town(), 1, 0).pool(pool);
    let direct = format!("127.0.0.1:{}", town().port(0, 0));
    let detour = format!("127.0.0.1:{}", saboteur.port());
    map.shards = map.shards.replace(&direct, &detour);
    map.database("server_tls: { mode: disable }")
}
