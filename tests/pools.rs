//! Pools that keep promises: fair among many, bounded in size and wait, closed when idle or old, and never, whatever
//! happened to the client before, a server that answers somebody else's question.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{ACCOUNTS_BY_KEY, Dice, Map, Town};

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("pools", 2, 0);
        town.on_primaries(
            "CREATE TABLE accounts (k bigint PRIMARY KEY, v bigint);
             CREATE TABLE victims (n bigint);
             CREATE TABLE big AS SELECT g AS n, repeat('x', 500) AS filler FROM generate_series(1, 20000) g;",
        );
        town
    })
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// With a login on the servers that no other proxy of this file has, so that its servers can be counted.
fn named(mut map: Map, role: &str) -> Map {
    for shard in 0..2 {
        town()
            .superuser(shard, 0, "postgres")
            .ask(&format!("CREATE ROLE {role} LOGIN IN ROLE app"))
            .ok();
    }
    map.users = format!("  - {{ name: app, auth: trust, server_user: {role} }}\n");
    map
}

/// Server connections of this login on this shard.
fn servers(shard: usize, role: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    town()
        .superuser(shard, 0, "postgres")
        .ask(&sql)
        .ok()
        .value()
        .parse()
        .expect("a count")
}

#[test]
fn two_hundred_clients_on_pools_of_ten_are_served_evenly() {
    let town = town();
    let map = named(
        Map::of(town, 2, 0).tables(ACCOUNTS_BY_KEY).pool("size: 10"),
        "crowd",
    );
    let proxy = Proxy::start(&map.text());
    let mut client = connect(&proxy);
    for k in 0..400 {
        client
            .ask(&format!("INSERT INTO accounts VALUES ({k}, 0)"))
            .ok();
    }
    let stop = AtomicBool::new(false);
    let seconds = std::env::var("PGSHUNT_FAIRNESS_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(30);
    let (mut counts, most) = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..200_u64)
            .map(|worker| {
                let (proxy, stop) = (&proxy, &stop);
                scope.spawn(move || short_transactions(&mut connect(proxy), worker, stop))
            })
            .collect();
        let mut most = 0;
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until {
            most = most.max(servers(0, "crowd")).max(servers(1, "crowd"));
            std::thread::sleep(Duration::from_millis(250));
        }
        stop.store(true, Ordering::Release);
        let counts: Vec<u64> = workers
            .into_iter()
            .map(|w| w.join().expect("a client that finished"))
            .collect();
        (counts, most)
    });
    counts.sort_unstable();
    let (slowest, fastest) = (counts[0], counts[counts.len() - 1]);
    println!(
        "{} transactions, {slowest} to {fastest} a client, at most {most} servers",
        counts.iter().sum::<u64>()
    );
    assert!(most <= 10, "{most} servers in a pool of ten");
    assert!(
        slowest * 3 >= fastest,
        "slowest {slowest}, fastest {fastest}"
    );
    let total: u64 = town
        .on_primaries("SELECT coalesce(sum(v), 0) FROM accounts WHERE k < 400")
        .iter()
        .map(|a| a.value().parse::<u64>().expect("a sum"))
        .sum();
    assert_eq!(
        total,
        counts.iter().sum::<u64>(),
        "every acknowledged update, once"
    );
}

fn short_transactions(client: &mut Raw, worker: u64, stop: &AtomicBool) -> u64 {
    let mut dice = Dice(worker);
    let mut done = 0;
    while !stop.load(Ordering::Acquire) {
        let (a, b) = (worker, 200 + worker);
        let k = if dice.chance(50) { a } else { b };
        client.ask("BEGIN").ok();
        let row = client
            .ask(&format!("SELECT k FROM accounts WHERE k = {k}"))
            .ok();
        assert_eq!(row.value(), k.to_string());
        let update = client.extended(
            "UPDATE accounts SET v = v + 1 WHERE k = $1",
            &[],
            &[Some(&k.to_string())],
        );
        assert_eq!(update.expect("an answer").ok().tags, ["UPDATE 1"]);
        client.ask("COMMIT").ok();
        done += 1;
    }
    done
}

#[test]
fn a_waiter_is_told_in_plain_words_when_its_time_is_over() {
    let map = Map::of(town(), 1, 0)
        .pool("size: 1, wait_ms_max: 400, waiters_max: 2")
        .text();
    let proxy = Proxy::start(&map);
    let (mut holder, mut waiter) = (connect(&proxy), connect(&proxy));
    holder.ask("BEGIN; INSERT INTO victims VALUES (1)").ok();
    let started = Instant::now();
    let answer = waiter.ask("SELECT count(*) FROM victims WHERE n = 1");
    let waited = started.elapsed();
    assert_eq!(answer.code(), "53300", "{answer:?}");
    let error = answer.error.expect("an error");
    assert!(error.message.contains("waited"), "{error:?}");
    assert!(!error.hint.is_empty());
    assert!(
        waited > Duration::from_millis(350) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    assert_eq!(waiter.status, b'I');
    // a third in the queue of two is turned away at once
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| connect(&proxy).ask("SELECT 1"));
        }
        std::thread::sleep(Duration::from_millis(150));
        let started = Instant::now();
        let answer = connect(&proxy).ask("SELECT 1");
        assert_eq!(answer.code(), "53300", "{answer:?}");
        assert!(
            started.elapsed() < Duration::from_millis(200),
            "{:?}",
            started.elapsed()
        );
    });
    holder.ask("ROLLBACK").ok();
    assert_eq!(
        waiter
            .ask("SELECT count(*) FROM victims WHERE n = 1")
            .ok()
            .value(),
        "0"
    );
}

#[test]
fn waiters_are_served_in_the_order_they_came() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 1").text());
    let mut holder = connect(&proxy);
    holder
        .ask("BEGIN; SELECT 1; INSERT INTO victims VALUES (2)")
        .ok();
    let turn = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..10 {
            let mut client = connect(&proxy);
            let turn = &turn;
            scope.spawn(move || {
                client.ask("SELECT pg_sleep(0.02)").ok();
                assert_eq!(
                    turn.fetch_add(1, Ordering::SeqCst),
                    n,
                    "first come, first served"
                );
            });
            std::thread::sleep(Duration::from_millis(60));
        }
        holder.ask("ROLLBACK").ok();
    });
}

#[test]
fn in_session_mode_a_client_keeps_its_server() {
    let proxy = Proxy::start(
        &Map::of(town(), 1, 0)
            .pool("mode: session, size: 2, wait_ms_max: 300")
            .text(),
    );
    let pid = |client: &mut Raw| {
        client
            .ask("SELECT pg_backend_pid() + 0")
            .ok()
            .value()
            .to_owned()
    };
    let (mut first, mut second) = (connect(&proxy), connect(&proxy));
    let (one, two) = (pid(&mut first), pid(&mut second));
    assert_ne!(one, two);
    first
        .ask("CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (7)")
        .ok();
    for _ in 0..20 {
        assert_eq!(pid(&mut first), one);
        assert_eq!(pid(&mut second), two);
    }
    assert_eq!(first.ask("SELECT n FROM mine").ok().value(), "7");
    assert_eq!(connect(&proxy).ask("SELECT 1").code(), "53300");
    drop(first);
    let mut third = connect(&proxy);
    town().eventually("a server for the third", || {
        third.ask("SELECT 1").error.is_none()
    });
    assert_eq!(third.ask("SELECT n FROM mine").code(), "42P01");
}

#[test]
fn idle_servers_are_closed_and_old_ones_replaced() {
    let map = named(
        Map::of(town(), 1, 0).pool("size: 5, idle_ms_max: 600"),
        "idler",
    );
    let proxy = Proxy::start(&map.text());
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| connect(&proxy).ask("SELECT pg_sleep(0.3)").ok());
        }
    });
    assert!(servers(0, "idler") >= 2, "several servers");
    town().eventually("idle servers closed", || servers(0, "idler") == 0);
    assert_eq!(connect(&proxy).ask("SELECT 1").ok().value(), "1");

    let map = named(
        Map::of(town(), 1, 0).pool("size: 1, lifetime_ms_max: 1000"),
        "mortal",
    );
    let proxy = Proxy::start(&map.text());
    let mut client = connect(&proxy);
    let mut pids = std::collections::HashSet::new();
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        pids.insert(
            client
                .ask("SELECT pg_backend_pid() + 0")
                .ok()
                .value()
                .to_owned(),
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        pids.len() >= 3,
        "{} servers in 6 s at 1 s of life",
        pids.len()
    );
}

#[test]
fn a_minimum_is_kept_open() {
    let map = named(Map::of(town(), 1, 0).pool("size: 5, size_min: 3"), "steady");
    let proxy = Proxy::start(&map.text());
    connect(&proxy).ask("SELECT 1").ok();
    town().eventually("three servers", || servers(0, "steady") == 3);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(servers(0, "steady"), 3);
        std::thread::sleep(Duration::from_millis(100));
    }
}

// ---- a server is never reused out of step --------------------------------------------------------

#[test]
fn whatever_happens_to_a_client_the_next_one_gets_its_own_answers() {
    let seed = std::env::var("PGSHUNT_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(u64::from(std::process::id()));
    println!("seed {seed} (PGSHUNT_SEED={seed} repeats it)");
    let proxy = Proxy::start(&named(Map::of(town(), 1, 0).pool("size: 3"), "hostage").text());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let witnesses: Vec<_> = (0..3_u64)
            .map(|n| {
                let (proxy, over) = (&proxy, &over);
                scope.spawn(move || witness(proxy, seed ^ n, over))
            })
            .collect();
        let victims: Vec<_> = (0..3_u64)
            .map(|n| {
                let proxy = &proxy;
                scope.spawn(move || {
                    let mut dice = Dice(seed ^ (n << 32));
                    for _ in 0..140 {
                        victim(proxy, &mut dice);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = victims
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::Release);
        let asked: u64 = witnesses
            .into_iter()
            .map(|w| w.join().expect("right answers only"))
            .sum();
        assert!(ended.iter().all(Result::is_ok));
        println!("{asked} answers, all right");
        assert!(asked > 100, "only {asked} answers");
    });
    // nothing that was not committed has stayed, nothing is held
    let mut direct = town().superuser(0, 0, "social");
    town().eventually("no lock or transaction left", || {
        let held = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') +
                    (SELECT count(*) FROM pg_stat_activity WHERE usename = 'hostage' AND state LIKE 'idle in transaction%')";
        direct.ask(held).ok().value() == "0"
    });
    let left = direct
        .ask("SELECT n, count(*) FROM victims WHERE n >= 1000 GROUP BY n")
        .ok()
        .rows;
    assert!(
        left.is_empty(),
        "committed, though nobody asked for it (n - 1000 is the way): {left:?}"
    );
}

/// A BEGIN can fail like any statement: with a timeout of a millisecond, and more to do than there are processors, it does
/// every now and then.
#[test]
fn what_was_meant_for_a_transaction_does_not_run_without_it() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 16").text());
    let hurried = |simple: bool| {
        let mut client = connect(&proxy);
        client.ask("SET statement_timeout = 1").ok();
        for _ in 0..400 {
            client.ask("BEGIN").ok();
            let insert = "INSERT INTO victims VALUES (-6)";
            let done = if simple {
                client.ask(insert)
            } else {
                client.extended(insert, &[], &[]).expect("an answer")
            };
            let failed = done.error.is_some();
            assert_eq!(client.status, if failed { b'E' } else { b'T' }, "{done:?}");
            client.ask("ROLLBACK").ok();
        }
    };
    std::thread::scope(|scope| {
        for n in 0..16 {
            let hurried = &hurried;
            scope.spawn(move || hurried(n % 2 == 0));
        }
    });
    let kept = "SELECT count(*) FROM victims WHERE n = -6";
    assert_eq!(town().direct(0, 0).ask(kept).ok().value(), "0");
}

#[test]
fn a_batch_that_was_never_synced_is_rolled_back_when_its_client_leaves() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 1").text());
    for way in ["gone", "farewell"] {
        let mut client = connect(&proxy);
        let mut bytes = raw::parse("", "INSERT INTO victims VALUES (-5)", &[]);
        bytes.extend(raw::bind("", "", &[]));
        bytes.extend(raw::execute("", 0));
        bytes.extend(raw::message(b'H', b""));
        client.send(&bytes).expect("sent");
        let tags: Vec<u8> = (0..3)
            .map(|_| client.receive().expect("an answer").tag)
            .collect();
        assert_eq!(tags, b"12C");
        if way == "farewell" {
            client.send(&raw::message(b'X', b"")).expect("sent");
        }
        drop(client);
        let mut next = connect(&proxy);
        for _ in 0..3 {
            assert_eq!(
                next.ask("SELECT count(*) FROM victims WHERE n = -5")
                    .ok()
                    .value(),
                "0",
                "{way}"
            );
        }
        let committed = town()
            .direct(0, 0)
            .ask("SELECT count(*) FROM victims WHERE n = -5")
            .ok();
        assert_eq!(committed.value(), "0", "{way}: nobody asked for a commit");
    }
}

/// Asks questions with one right answer, over and over, on old and new connections.
fn witness(proxy: &Proxy, seed: u64, over: &AtomicBool) -> u64 {
    let mut dice = Dice(seed);
    let mut client = connect(proxy);
    let mut asked = 0;
    while !over.load(Ordering::Acquire) {
        if dice.chance(20) {
            client = connect(proxy);
        }
        let token = dice.next();
        match dice.below(4) {
            0 => {
                let answer = client.ask(&format!("SELECT 'w{token}', current_setting('work_mem'), current_setting('search_path')")).ok();
                let expected = [
                    format!("w{token}"),
                    "4MB".into(),
                    "\"$user\", public".into(),
                ]
                .map(Some);
                assert_eq!(answer.rows, [expected.to_vec()]);
            }
            1 => {
                let answer = client.extended(
                    "SELECT $1::text, g FROM generate_series(1, 3) g",
                    &[],
                    &[Some(&token.to_string())],
                );
                let rows = answer.expect("an answer").ok().rows;
                let expected: Vec<_> = (1..=3)
                    .map(|g| vec![Some(token.to_string()), Some(g.to_string())])
                    .collect();
                assert_eq!(rows, expected);
            }
            2 => {
                client.ask("BEGIN").ok();
                assert_eq!(
                    client.ask(&format!("SELECT {}", token >> 33)).ok().value(),
                    (token >> 33).to_string()
                );
                let pid = client
                    .ask("SELECT pg_backend_pid() + 0")
                    .ok()
                    .value()
                    .to_owned();
                assert_eq!(client.ask("SELECT pg_backend_pid() + 0").ok().value(), pid);
                client.ask("COMMIT").ok();
            }
            _ => {
                let answer = client.ask("SELECT no_such_column");
                assert_eq!(answer.code(), "42703", "{answer:?}");
                assert_eq!(
                    client
                        .ask("SELECT to_regclass('pg_temp.mine') IS NULL")
                        .ok()
                        .value(),
                    "t"
                );
            }
        }
        assert_eq!(client.status, b'I');
        asked += 1;
    }
    asked
}

/// A client that is gone in the middle of something.
fn victim(proxy: &Proxy, dice: &mut Dice) {
    let mut client = connect(proxy);
    let way = dice.below(12);
    // says in the table how its client went
    let mark = 1000 + way;
    match way {
        0 => {
            // anywhere in a pipeline of messages
            let mut bytes = raw::query(&format!("SELECT {mark}"));
            bytes.extend(raw::parse("s", "SELECT $1::int + 1", &[]));
            bytes.extend(raw::bind("p", "s", &[Some("41")]));
            bytes.extend(raw::execute("p", 0));
            bytes.extend(raw::sync());
            bytes.extend(raw::query("BEGIN; INSERT INTO victims VALUES (1000)"));
            bytes.extend(raw::query("SELECT 'left over'"));
            let cut = dice.below(bytes.len() as u64) as usize;
            let _ = client.send(&bytes[..cut]);
        }
        1 => {
            let _ = client.query("BEGIN");
            let _ = client.query(&format!("INSERT INTO victims VALUES ({mark})"));
        }
        2 => {
            let _ = client.query("BEGIN");
            let _ = client.send(&raw::query(&format!(
                "INSERT INTO victims VALUES ({mark}); SELECT pg_sleep(0.0{})",
                dice.below(9)
            )));
        }
        3 => {
            let _ = client.query("COPY victims FROM STDIN");
            for _ in 0..dice.below(20) {
                let _ = client.send(&raw::message(b'd', format!("{mark}\n").as_bytes()));
            }
            if dice.chance(50) {
                let _ = client.send(&raw::message(b'd', b"1234\n")[..4]);
            }
        }
        4 => {
            let _ = client.send(&raw::query("SELECT n, filler FROM big"));
            for _ in 0..dice.below(2000) {
                let _ = client.receive();
            }
        }
        5 => {
            let _ = client.send(&raw::query("COPY big TO STDOUT"));
            for _ in 0..dice.below(500) {
                let _ = client.receive();
            }
        }
        6 => {
            // no Sync: the server is left with an open batch
            let mut bytes = raw::parse("", "INSERT INTO victims VALUES ($1)", &[]);
            bytes.extend(raw::bind("", "", &[Some(&mark.to_string())]));
            bytes.extend(raw::execute("", 0));
            if dice.chance(70) {
                bytes.extend(raw::message(b'H', b""));
            }
            let _ = client.send(&bytes);
            if dice.chance(50) {
                std::thread::sleep(Duration::from_millis(dice.below(10)));
            }
        }
        7 => {
            let _ = client.query("SET work_mem = '77MB'; SET search_path = pg_catalog");
            if dice.chance(50) {
                let _ = client.query("BEGIN; SET LOCAL work_mem = '66MB'; SELECT 1");
            }
        }
        8 => {
            let _ = client.query("CREATE TEMP TABLE mine (n int)");
        }
        9 => {
            let _ = client.query(&format!("SELECT pg_advisory_lock({mark})"));
        }
        10 => {
            // rows asked for one by one, some never fetched
            let mut bytes = raw::query("BEGIN");
            bytes.extend(raw::parse("cut", "SELECT n FROM big", &[]));
            bytes.extend(raw::bind("half", "cut", &[]));
            bytes.extend(raw::execute("half", 5));
            bytes.extend(raw::message(b'H', b""));
            let _ = client.send(&bytes);
            for _ in 0..dice.below(6) {
                let _ = client.receive();
            }
        }
        _ => {
            let _ = client.send(&raw::query(&format!("SELECT pg_sleep(0.05), {mark}")));
            cancel(proxy, client.pid, &client.secret);
        }
    }
}

fn cancel(proxy: &Proxy, pid: i32, secret: &[u8]) {
    use std::io::Write;
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", proxy.port())) else {
        return;
    };
    let mut packet = (12 + secret.len() as i32).to_be_bytes().to_vec();
    packet.extend(80_877_102_i32.to_be_bytes());
    packet.extend(pid.to_be_bytes());
    packet.extend(secret);
    let _ = stream.write_all(&packet);
}

#[test]
fn a_cancel_stops_its_own_query_and_nobody_elses() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 2").text());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut client = connect(&proxy);
            while !over.load(Ordering::Acquire) {
                client.ask("SELECT pg_sleep(0.01)").ok();
            }
        });
        for n in 0..40 {
            let mut client = connect(&proxy);
            client
                .send(&raw::query("SELECT pg_sleep(20)"))
                .expect("sent");
            std::thread::sleep(Duration::from_millis(n % 7 * 3));
            // until it has hit: the first may come before the query has begun
            let hit = AtomicBool::new(false);
            let (pid, secret) = (client.pid, client.secret.clone());
            std::thread::scope(|inner| {
                inner.spawn(|| {
                    while !hit.load(Ordering::Acquire) {
                        cancel(&proxy, pid, &secret);
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
                let answer = client.until_ready().expect("an answer");
                hit.store(true, Ordering::Release);
                assert_eq!(answer.code(), "57014", "{answer:?}");
            });
            // a cancel that was still on its way may hit the client's next query, as it may without a proxy
            let next = (0..3)
                .map(|_| client.ask("SELECT 1"))
                .find(|a| a.code() != "57014")
                .expect("no cancel left");
            assert_eq!(next.ok().value(), "1");
        }
        over.store(true, Ordering::Release);
        bystander.join().expect("never cancelled");
    });
}

/// What a sequence has last given to a session is nobody else's: right, or refused.
#[test]
fn currval_is_the_sessions_own_or_refused() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 2").text());
    connect(&proxy).ask("CREATE SEQUENCE numbers").ok();
    let answers: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..6)
            .map(|_| {
                let proxy = &proxy;
                scope.spawn(move || {
                    let mut client = connect(proxy);
                    let (mut right, mut refused) = (0, 0);
                    for round in 0..60 {
                        let given = client.ask("SELECT nextval('numbers')").ok();
                        let asked = if round % 2 == 0 {
                            client.ask("SELECT currval('numbers')")
                        } else {
                            let lastval = client.extended("SELECT lastval()", &[], &[]);
                            lastval.expect("an answer")
                        };
                        if asked.code() == "0A000" {
                            refused += 1;
                        } else {
                            assert_eq!(asked.ok().value(), given.value());
                            right += 1;
                        }
                        client.ask("BEGIN").ok();
                        let given = client.ask("SELECT nextval('numbers')").ok();
                        let asked = client.ask("SELECT currval('numbers')").ok();
                        assert_eq!(asked.value(), given.value());
                        client.ask("COMMIT").ok();
                    }
                    (right, refused)
                })
            })
            .collect();
        sessions
            .into_iter()
            .map(|s| s.join().expect("its own values"))
            .collect()
    });
    println!("right and refused: {answers:?}");
    assert!(answers.iter().any(|(_, refused)| *refused > 0));
    // a write on another server does not make that the one that knows
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 2").text());
    let (mut client, mut other) = (connect(&proxy), connect(&proxy));
    client.ask("SELECT nextval('numbers')").ok();
    other.ask("BEGIN").ok();
    let first = other.ask("SELECT pg_backend_pid() + 0").ok();
    client.ask("UPDATE victims SET n = n WHERE false").ok();
    let second = client.ask("SELECT pg_backend_pid() + 0").ok();
    assert_ne!(first.value(), second.value());
    assert_eq!(client.ask("SELECT currval('numbers')").code(), "0A000");
    other.ask("COMMIT").ok();
    assert_eq!(client.ask("SELECT currval('numbers')").code(), "0A000");
    // what it does on a server that it keeps is known there, and nothing else
    client.ask("CREATE TEMP SEQUENCE mine").ok();
    let given = client.ask("SELECT nextval('mine')").ok();
    for asks in ["SELECT currval('mine')", "SELECT lastval()"] {
        assert_eq!(client.ask(asks).ok().value(), given.value());
    }
    assert_eq!(client.ask("SELECT currval('numbers')").code(), "0A000");
    let given = client.ask("SELECT nextval('numbers')").ok();
    let asked = client.ask("SELECT currval('numbers')").ok();
    assert_eq!(asked.value(), given.value());
    let mut alone = connect(&proxy);
    assert_eq!(alone.ask("SELECT lastval()").code(), "55000");
    let given = alone.ask("SELECT nextval('numbers')").ok();
    let asked = alone.ask("SELECT currval('numbers')").ok();
    assert_eq!(asked.value(), given.value());
    alone.ask("DROP SEQUENCE numbers").ok();
}

/// What a stranger was given on the same server is never the answer, not even after a write of one's own.
#[test]
fn currval_is_never_a_strangers() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 1").text());
    let mut stranger = connect(&proxy);
    stranger.ask("CREATE SEQUENCE strange").ok();
    for asks in ["SELECT currval('strange')", "SELECT lastval()"] {
        let mut client = connect(&proxy);
        stranger.ask("SELECT nextval('strange')").ok();
        client.ask("BEGIN").ok();
        client.ask("UPDATE victims SET n = n WHERE false").ok();
        assert_eq!(client.ask(asks).code(), "55000");
        client.ask("ROLLBACK").ok();
        stranger.ask("SELECT nextval('strange')").ok();
        let mut other = connect(&proxy);
        other.ask("UPDATE victims SET n = n WHERE false").ok();
        assert_eq!(other.ask(asks).code(), "55000");
        stranger.ask("SELECT nextval('strange')").ok();
        client.ask("BEGIN").ok();
        client.ask("UPDATE victims SET n = n WHERE false").ok();
        let given = client.ask("SELECT nextval('strange')").ok();
        assert_eq!(client.ask(asks).ok().value(), given.value());
        client.ask("COMMIT").ok();
    }
    stranger.ask("DROP SEQUENCE strange").ok();
}

/// Who only reads takes nothing from the one who has written; and once somebody asks, others rather dial.
#[test]
fn currval_is_answered_while_others_use_the_pool() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 10").text());
    connect(&proxy).ask("CREATE SEQUENCE counted").ok();
    let (stop, writing) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (proxy, stop, writing) = (&proxy, &stop, &writing);
            scope.spawn(move || {
                let mut client = connect(proxy);
                let mut dice = Dice(n);
                while !stop.load(Ordering::Acquire) {
                    client.ask("BEGIN").ok();
                    if writing.load(Ordering::Acquire) {
                        client.ask("SELECT nextval('counted')").ok();
                    } else {
                        client.ask("SELECT count(*) FROM accounts").ok();
                    }
                    std::thread::sleep(Duration::from_millis(1 + dice.below(3)));
                    client.ask("COMMIT").ok();
                    client.ask("SELECT count(*) FROM victims WHERE n = 77").ok();
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut client = connect(&proxy);
        for round in 0..200 {
            writing.store(round >= 100, Ordering::Release);
            let given = client.ask("SELECT nextval('counted')").ok();
            for _ in 0..3 {
                client.ask("SELECT count(*) FROM accounts").ok();
            }
            let asked = client.ask("SELECT currval('counted')").ok();
            assert_eq!(asked.value(), given.value(), "round {round}");
            client.ask("BEGIN").ok();
            let asked = client.ask("SELECT lastval()").ok();
            assert_eq!(asked.value(), given.value(), "round {round}");
            client.ask("COMMIT").ok();
        }
        stop.store(true, Ordering::Release);
    });
    connect(&proxy).ask("DROP SEQUENCE counted").ok();
}

/// Of a user, by name.
fn shown(proxy: &Proxy, what: &str, column: &str) -> String {
    let mut console = Raw::connect(proxy.port(), "app", "pgshunt").expect("the console");
    let answer = console.ask(what).ok();
    let columns = answer.columns.as_ref().expect("columns");
    let place = columns
        .iter()
        .position(|c| c.name == column)
        .expect("the column");
    let database = columns
        .iter()
        .position(|c| c.name == "database")
        .expect("the database");
    let row = answer
        .rows
        .iter()
        .find(|row| row[database].as_deref() == Some("social"));
    row.expect("a row")[place].clone().unwrap_or_default()
}

#[test]
fn what_would_pin_is_counted_or_refused() {
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 2").text());
    let mut client = connect(&proxy);
    client.ask("CREATE TEMP TABLE mine (n int)").ok();
    client.ask("SELECT pg_advisory_lock(77)").ok();
    assert_eq!(shown(&proxy, "SHOW CLIENTS", "pinned"), "temporary table");
    assert!(!shown(&proxy, "SHOW CLIENTS", "pinned_s").is_empty());
    client.ask("DISCARD ALL").ok();
    assert_eq!(shown(&proxy, "SHOW CLIENTS", "pinned"), "");
    client.ask("SELECT pg_advisory_lock(77)").ok();
    assert_eq!(shown(&proxy, "SHOW STATS", "pins"), "2");
    drop(client);
    let proxy = Proxy::start(&Map::of(town(), 1, 0).pool("size: 2, pin: refuse").text());
    let mut client = connect(&proxy);
    for sql in [
        "CREATE TEMP TABLE mine (n int)",
        "CREATE TABLE pg_temp.mine (n int)",
        "SELECT 1 AS n INTO TEMP mine",
        "SELECT pg_advisory_lock(77)",
        "SELECT set_config('work_mem', v, false) FROM (VALUES ('3MB')) t (v)",
        "DO $$ BEGIN PERFORM set_config('work_mem', '3MB', false); END $$",
        "SELECT name FROM pg_prepared_statements; PREPARE one AS SELECT 1",
        "LOAD 'plpgsql'",
    ] {
        if sql.contains("PREPARE") {
            client.ask("PREPARE other AS SELECT 2").ok();
        }
        let answer = client.ask(sql);
        assert_eq!(answer.code(), "0A000", "{sql}: {answer:?}");
        assert!(answer.error.unwrap().hint.contains("pool.pin"), "{sql}");
        assert_eq!(client.ask("SELECT 1").ok().value(), "1");
    }
    client.ask("BEGIN").ok();
    client.ask("SELECT pg_advisory_xact_lock(77)").ok();
    let hold = "DECLARE held CURSOR WITH HOLD FOR SELECT 1";
    assert_eq!(client.ask(hold).code(), "0A000");
    assert_eq!(client.status, b'E');
    client.ask("ROLLBACK").ok();
    // what follows the client is not refused
    client.ask("SET work_mem = '3MB'").ok();
    client
        .ask("SELECT set_config('work_mem', '4MB', false)")
        .ok();
    assert_eq!(client.ask("EXECUTE other").ok().value(), "2");
    // what stands before it in a batch is answered
    let mut batch = raw::parse("", "SELECT 5", &[]);
    batch.extend(raw::bind("", "", &[]));
    batch.extend(raw::execute("", 0));
    batch.extend(raw::parse("", "SELECT pg_advisory_lock(77)", &[]));
    batch.extend(raw::bind("", "", &[]));
    batch.extend(raw::execute("", 0));
    batch.extend(raw::sync());
    client.send(&batch).expect("sent");
    let answer = client.until_ready().expect("an answer");
    assert_eq!(
        (answer.code(), answer.tags.clone()),
        ("0A000", vec!["SELECT 1".to_owned()])
    );
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(
        town().superuser(0, 0, "social").ask(locks).ok().value(),
        "0"
    );
    let mut lock = raw::Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    assert_eq!(shown(&proxy, "SHOW STATS", "pins"), "0");
    lock.ask("SELECT 1").ok();
}

/// ALTER ROLE … SET and ALTER DATABASE … SET are for sessions that begin after them, whatever servers there are.
#[test]
fn what_sessions_begin_with_is_theirs_from_the_first_statement() {
    let proxy = Proxy::start(&named(Map::of(town(), 1, 0).pool("size: 4"), "beginner").text());
    let begins = |name: &str| {
        let mut client = connect(&proxy);
        let reported = client.parameters.iter().rev().find(|(n, _)| n == name);
        let reported = reported.map(|(_, value)| value.clone());
        let shown = client.ask(&format!("SHOW {name}")).ok().value().to_owned();
        assert_eq!(reported.unwrap_or_else(|| shown.clone()), shown);
        shown
    };
    assert_eq!(begins("work_mem"), "4MB");
    let mut there = connect(&proxy);
    there.ask("ALTER ROLE beginner SET work_mem = '7MB'").ok();
    assert_eq!(begins("work_mem"), "7MB");
    there.ask("BEGIN").ok();
    there.ask("ALTER USER beginner SET work_mem TO '8MB'").ok();
    assert_eq!(begins("work_mem"), "7MB");
    there.ask("COMMIT").ok();
    assert_eq!(begins("work_mem"), "8MB");
    there
        .ask("ALTER ROLE beginner IN DATABASE social SET DateStyle = 'German'")
        .ok();
    assert_eq!(begins("DateStyle"), "German, DMY");
    there
        .ask("ALTER ROLE beginner IN DATABASE social RESET ALL")
        .ok();
    there.ask("ALTER ROLE beginner RESET work_mem").ok();
    assert_eq!(begins("work_mem"), "4MB");
    assert!(begins("DateStyle").starts_with("ISO"));
    // said by another way, it is seen a little later
    let mut direct = town().superuser(0, 0, "social");
    direct.ask("ALTER ROLE beginner SET work_mem = '9MB'").ok();
    support::town::eventually(Duration::from_secs(60), "the new default", &mut || {
        begins("work_mem") == "9MB"
    });
}
