//! Cancel requests under load: each stops what it was meant for, and nothing else, ever.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::io::{Read, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{ACCOUNTS_BY_KEY, Dice, Map, Town};

/// Clients at a time that cancel their own statements.
const CLIENTS: u64 = 64;

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("cancels", 2, 0);
        town.on_primaries("CREATE TABLE accounts (k bigint PRIMARY KEY, v bigint)");
        let loader = proxy_of(&town, 2);
        let mut client = connect(&loader);
        for k in 1..=10 {
            let insert = format!("INSERT INTO accounts VALUES ({k}, {k})");
            client.ask(&insert).ok();
        }
        town
    })
}

fn proxy_of(town: &Town, size: usize) -> Proxy {
    let pool = format!("size: {size}, wait_ms_max: 60000");
    Proxy::start(
        &Map::of(town, 2, 0)
            .tables(ACCOUNTS_BY_KEY)
            .pool(&pool)
            .text(),
    )
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// Returns when the request has been passed on: its connection is closed then.
fn cancel(port: u16, pid: i32, secret: &[u8]) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("pgshunt");
    let mut packet = (12 + secret.len() as i32).to_be_bytes().to_vec();
    packet.extend(80_877_102_i32.to_be_bytes());
    packet.extend(pid.to_be_bytes());
    packet.extend(secret);
    stream.write_all(&packet).expect("sent");
    let _ = stream.read(&mut [0]);
}

/// What one of them has seen.
#[derive(Default)]
struct Seen {
    hit: AtomicU64,
    missed: AtomicU64,
}

/// One statement with a cancel somewhere in its life; the next one must not hear of it.
fn one_round(proxy: &Proxy, client: &mut Raw, dice: &mut Dice, seen: &Seen) {
    let token = dice.next() >> 33;
    let key = 1 + dice.below(10);
    let in_transaction = dice.chance(30);
    if in_transaction {
        client.ask("BEGIN").ok();
    }
    let pause = dice.below(4);
    let sql = match dice.below(4) {
        0 => format!("SELECT {token}, pg_sleep(0.00{pause})"),
        1 => format!("SELECT {token} FROM accounts WHERE k = {key}"),
        2 => format!("SELECT {token}, pg_sleep(0.00{pause}) FROM accounts WHERE k = {key}"),
        _ => format!("SELECT max({token}) FROM accounts"),
    };
    client.send(&raw::query(&sql)).expect("sent");
    std::thread::sleep(Duration::from_micros(dice.below(4000)));
    cancel(proxy.port(), client.pid, &client.secret);
    let answer = client.until_ready().expect("an answer");
    match answer.code() {
        "" => {
            assert_eq!(answer.rows[0][0], Some(token.to_string()), "{sql}");
            seen.missed.fetch_add(1, Ordering::Relaxed);
        }
        "57014" => {
            seen.hit.fetch_add(1, Ordering::Relaxed);
        }
        other => panic!("{sql}: {other} {answer:?}"),
    }
    if in_transaction {
        client.ask("ROLLBACK").ok();
    }
    let next = client.ask(&format!("SELECT {token} + 1, pg_sleep(0.001)"));
    assert_eq!(next.ok().rows[0][0], Some((token + 1).to_string()));
}

#[test]
fn a_storm_of_cancels_hits_nobody_else() {
    let rounds = if std::env::var_os("PGSHUNT_LONG").is_some() {
        100_000 / CLIENTS + 1
    } else {
        40
    };
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let proxy = proxy_of(town(), 10);
    let over = AtomicBool::new(false);
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let bystanders: Vec<_> = (0..8)
            .map(|n| {
                let (proxy, over) = (&proxy, &over);
                scope.spawn(move || bystander(proxy, seed ^ (n << 40), over))
            })
            .collect();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (proxy, seen) = (&proxy, &seen);
                scope.spawn(move || {
                    let mut dice = Dice(seed ^ n);
                    let mut client = connect(proxy);
                    for _ in 0..rounds {
                        one_round(proxy, &mut client, &mut dice, seen);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = clients
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Release);
        let asked: u64 = bystanders
            .into_iter()
            .map(|b| b.join().expect("never cancelled"))
            .sum();
        assert!(ended.iter().all(Result::is_ok), "a foreign cancel");
        let (hit, missed) = (&seen.hit, &seen.missed);
        println!("{hit:?} hit, {missed:?} came too early or too late, bystanders asked {asked}");
        assert!(asked > 100, "only {asked}");
        assert!(
            hit.load(Ordering::Relaxed) > 50,
            "cancels that hit nothing prove nothing"
        );
    });
}

/// Never cancels anything, and is never cancelled.
fn bystander(proxy: &Proxy, seed: u64, over: &AtomicBool) -> u64 {
    let mut dice = Dice(seed);
    let mut client = connect(proxy);
    let mut asked = 0;
    while !over.load(Ordering::Acquire) {
        let token = dice.next() >> 33;
        let answer = client.ask(&format!("SELECT {token}, pg_sleep(0.002)")).ok();
        assert_eq!(answer.rows[0][0], Some(token.to_string()));
        asked += 1;
    }
    asked
}

#[test]
fn a_cancel_reaches_a_statement_wherever_it_is() {
    let proxy = proxy_of(town(), 1);
    // waiting for a server of the pool
    let mut holder = connect(&proxy);
    holder.ask("BEGIN").ok();
    holder.ask("SELECT v FROM accounts WHERE k = 1").ok();
    let mut client = connect(&proxy);
    client
        .send(&raw::query("SELECT v FROM accounts WHERE k = 1"))
        .expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    cancel(proxy.port(), client.pid, &client.secret);
    let answer = client.until_ready().expect("an answer");
    assert_eq!(answer.code(), "57014");
    let said = answer.error.unwrap_or_default().message;
    assert!(said.contains("while it waited for a server"), "{said}");
    holder.ask("COMMIT").ok();
    assert_eq!(client.ask("SELECT 1").ok().value(), "1");
    // gathering: while the scratch database is made, filled, or asked
    for pause in [20, 100, 400, 1500] {
        let sql = "SELECT count(DISTINCT v + g) FROM accounts, generate_series(1, 300000000) g";
        client.send(&raw::query(sql)).expect("sent");
        std::thread::sleep(Duration::from_millis(pause));
        cancel(proxy.port(), client.pid, &client.secret);
        let answer = client.until_ready().expect("an answer");
        assert_eq!(answer.code(), "57014", "after {pause} ms: {answer:?}");
        assert_eq!(client.ask("SELECT 1").ok().value(), "1");
    }
}

/// The statement's server is at hand, but has the session's role to learn yet: a cancel that comes then holds, too.
#[test]
fn a_cancel_holds_while_a_server_is_made_ready() {
    let town = town();
    town.superuser(0, 0, "social")
        .ask("CREATE ROLE visitor; GRANT visitor TO app")
        .ok();
    let map = Map::of(town, 1, 0).pool("size: 1").text();
    let proxy = Proxy::start(&map);
    let (mut client, mut other) = (connect(&proxy), connect(&proxy));
    client.ask("SET ROLE visitor").ok();
    other.ask("SELECT 1").ok();
    // the server has to look up again who may take the role, and cannot; a login does not have to
    let mut locker = town.superuser(0, 0, "social");
    locker.ask("GRANT visitor TO postgres").ok();
    locker
        .ask("BEGIN; LOCK TABLE pg_auth_members IN ACCESS EXCLUSIVE MODE")
        .ok();
    client
        .send(&raw::query("SELECT pg_sleep(20)"))
        .expect("sent");
    town.eventually("the role is being set", || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'ROLE'";
        // in a transaction the first look is what every later one sees
        locker.ask("SELECT pg_stat_clear_snapshot()").ok();
        locker.ask(waiting).value() == "1"
    });
    cancel(proxy.port(), client.pid, &client.secret);
    locker.ask("ROLLBACK").ok();
    let begun = std::time::Instant::now();
    let answer = client.until_ready().expect("an answer");
    assert_eq!(answer.code(), "57014", "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.ask("SELECT current_user").value(), "visitor");
}
