//! Servers that the short reads of several clients share: each gets its own answer, whatever its neighbours do.
//! `PGSHUNT_LONG` makes it long.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{ACCOUNTS_BY_KEY, Dice, Map, Town};

const ACCOUNTS: u64 = 40;
const CLIENTS: u64 = 24;

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("lanes", 2, 1);
        town.on_primaries("CREATE TABLE accounts (k bigint PRIMARY KEY, v bigint, owner bigint)");
        // as far as anyone can see it only reads
        town.on_primaries(
            "CREATE FUNCTION nap(seconds float8) RETURNS int STABLE LANGUAGE plpgsql \
             AS 'BEGIN PERFORM pg_sleep(seconds); RETURN 1; END'",
        );
        // on a replica it goes with its server
        town.on_primaries(
            "CREATE FUNCTION last_word(n int) RETURNS int STABLE LANGUAGE plpgsql AS 'BEGIN \
             IF pg_is_in_recovery() THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF; RETURN n; END'",
        );
        let loader = proxy_of(&town, 2, 0);
        let mut client = connect(&loader);
        for k in 1..=ACCOUNTS {
            let insert = format!("INSERT INTO accounts VALUES ({k}, {k}, 0)");
            client.ask(&insert).ok();
        }
        town.catch_up();
        town
    })
}

fn proxy_of(town: &Town, size: usize, replicas: usize) -> Proxy {
    let pool = format!("size: {size}, wait_ms_max: 60000, pipeline_ms_max: 1000, verify: false");
    Proxy::start(
        &Map::of(town, 2, replicas)
            .tables(&format!(
                "{ACCOUNTS_BY_KEY}functions:\n  nap: pure\n  last_word: pure\n"
            ))
            .pool(&pool)
            .text(),
    )
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// Statements that have shared a server so far.
fn shared(proxy: &Proxy) -> u64 {
    let mut admin = Raw::connect(proxy.port(), "app", "pgshunt").expect("the admin database");
    let answer = admin.ask("SHOW POOLS").ok();
    let names = answer.columns.expect("columns");
    let at = names
        .iter()
        .position(|c| c.name == "shared")
        .expect("shared");
    let counts = answer
        .rows
        .iter()
        .map(|row| row[at].as_deref().unwrap_or("0"));
    counts.map(|n| n.parse::<u64>().expect("a number")).sum()
}

/// Processes of its servers on replicas, each after a comma.
fn servers(proxy: &Proxy) -> Vec<String> {
    let mut admin = Raw::connect(proxy.port(), "app", "pgshunt").expect("the admin database");
    let answer = admin.ask("SHOW SERVERS").ok();
    let names = answer.columns.expect("columns");
    let at = |name: &str| names.iter().position(|c| c.name == name).expect("a column");
    let (role, pid) = (at("role"), at("pid"));
    let replicas = answer
        .rows
        .iter()
        .filter(|row| row[role].as_deref() == Some("replica"));
    replicas
        .filter_map(|row| row[pid].as_ref().map(|pid| format!(",{pid}")))
        .collect()
}

/// A client that does a bit of everything, and looks at every answer.
struct Reader<'a> {
    proxy: &'a Proxy,
    client: Raw,
    dice: Dice,
    /// its accounts, which nobody else writes
    own: Vec<u64>,
    values: BTreeMap<u64, u64>,
    work_mem: &'static str,
}

impl Reader<'_> {
    fn round(&mut self) {
        match self.dice.below(100) {
            0..50 => self.read(),
            50..65 => self.read_extended(),
            65..75 => self.read_prepared(),
            75..80 => self.divide(),
            80..84 => self.read_much(),
            84..86 => self.linger(),
            86..89 => self.leave(),
            89..93 => self.set(),
            _ => self.write(),
        }
    }

    fn token(&mut self) -> u64 {
        self.dice.next() >> 34
    }

    fn read(&mut self) {
        let (token, k) = (self.token(), 1 + self.dice.below(ACCOUNTS));
        let sql = format!("SELECT k, {token} AS token FROM accounts WHERE k = {k}");
        let answer = self.client.ask(&sql).ok();
        assert_eq!(
            answer.rows,
            [[Some(k.to_string()), Some(token.to_string())]]
        );
        assert_eq!(answer.messages, "TCZ");
    }

    fn read_extended(&mut self) {
        let (token, k) = (
            self.token().to_string(),
            (1 + self.dice.below(ACCOUNTS)).to_string(),
        );
        let sql = "SELECT k, $2::text FROM accounts WHERE k = $1";
        let answer = self.client.extended(sql, &[], &[Some(&k), Some(&token)]);
        let answer = answer.expect("an answer").ok();
        assert_eq!(answer.rows, [[Some(k), Some(token)]]);
    }

    fn read_prepared(&mut self) {
        let (token, k) = (
            self.token().to_string(),
            (1 + self.dice.below(ACCOUNTS)).to_string(),
        );
        let mut bytes = raw::parse("mine", "SELECT $2::text, k FROM accounts WHERE k = $1", &[]);
        bytes.extend(raw::bind("", "mine", &[Some(&k), Some(&token)]));
        bytes.extend(raw::execute("", 0));
        bytes.extend(raw::message(b'C', b"Smine\0"));
        bytes.extend(raw::sync());
        self.client.send(&bytes).expect("sent");
        let answer = self.client.until_ready().expect("an answer").ok();
        assert_eq!(answer.rows, [[Some(token), Some(k)]]);
    }

    /// One shape of statement fails at times: only its own client hears of it.
    fn divide(&mut self) {
        let (n, by) = (self.token(), self.dice.below(4));
        let answer = self
            .client
            .ask(&format!("SELECT {n} / {by} FROM accounts WHERE k = 1"));
        match n.checked_div(by) {
            None => assert_eq!(answer.code(), "22012"),
            Some(quotient) => assert_eq!(answer.ok().value(), quotient.to_string()),
        }
    }

    /// One that is small at most times.
    fn read_much(&mut self) {
        let n = if self.dice.chance(20) { 300_000 } else { 3 };
        let sql = format!("SELECT repeat('x', {n}) FROM accounts WHERE k = 2");
        assert_eq!(self.client.ask(&sql).ok().value().len(), n);
    }

    /// One that is quick at most times.
    fn linger(&mut self) {
        let token = self.token();
        let pause = if self.dice.chance(20) { 0.2 } else { 0.0 };
        let sql = format!("SELECT {token}, nap({pause}) FROM accounts WHERE k = 3");
        let answer = self.client.ask(&sql).ok();
        assert_eq!(answer.rows[0][0], Some(token.to_string()));
    }

    /// Gone before the answer.
    fn leave(&mut self) {
        let sql = "SELECT k, nap(0.0) FROM accounts WHERE k = 4";
        self.client.send(&raw::query(sql)).expect("sent");
        self.client = connect(self.proxy);
        self.work_mem = "4MB";
    }

    fn set(&mut self) {
        self.work_mem = self.dice.one(&["4MB", "5MB", "6MB"]);
        self.client
            .ask(&format!("SET work_mem = '{}'", self.work_mem))
            .ok();
        assert_eq!(self.client.ask("SHOW work_mem").ok().value(), self.work_mem);
        let sql = "SELECT current_setting('work_mem') FROM accounts WHERE k = 5";
        assert_eq!(self.client.ask(sql).ok().value(), self.work_mem);
    }

    /// What it has written it reads, wherever that is.
    fn write(&mut self) {
        let k = self.own[self.dice.below(self.own.len() as u64) as usize];
        let v = self.token();
        let update = format!("UPDATE accounts SET v = {v} WHERE k = {k}");
        if self.dice.chance(50) {
            self.client.ask("BEGIN").ok();
            self.client.ask(&update).ok();
            self.client.ask("COMMIT").ok();
        } else {
            self.client.ask(&update).ok();
        }
        self.values.insert(k, v);
        for (k, v) in &self.values {
            let sql = format!("SELECT v FROM accounts WHERE k = {k}");
            assert_eq!(self.client.ask(&sql).ok().value(), v.to_string());
        }
    }
}

#[test]
fn each_gets_its_own_answer() {
    let rounds = if std::env::var_os("PGSHUNT_LONG").is_some() {
        20_000
    } else {
        300
    };
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let proxy = proxy_of(town(), 2, 1);
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let proxy = &proxy;
            scope.spawn(move || {
                let own = (1..=ACCOUNTS).filter(|k| k % CLIENTS == n).collect();
                let mut reader = Reader {
                    proxy,
                    client: connect(proxy),
                    dice: Dice(seed ^ (n << 32)),
                    own,
                    values: BTreeMap::new(),
                    work_mem: "4MB",
                };
                for _ in 0..rounds {
                    reader.round();
                }
            });
        }
    });
    let shared = shared(&proxy);
    println!("{shared} statements have shared a server");
    assert!(shared > CLIENTS * rounds / 20);
}

/// Ends the readers, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Many read until this is over; how long the slowest answer took.
fn while_many_read(proxy: &Proxy, meanwhile: impl FnOnce()) -> Duration {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..16)
            .map(|n| {
                let over = &over;
                scope.spawn(move || {
                    let mut client = connect(proxy);
                    let mut slowest = Duration::ZERO;
                    let mut token = n;
                    while !over.load(Ordering::Relaxed) {
                        token += 16;
                        let begun = Instant::now();
                        let sql = format!("SELECT {token}, nap(0.0) FROM accounts WHERE k = 1");
                        let answer = client.ask(&sql).ok();
                        assert_eq!(answer.rows[0][0], Some(token.to_string()));
                        slowest = slowest.max(begun.elapsed());
                    }
                    slowest
                })
            })
            .collect();
        let end = End(&over);
        meanwhile();
        drop(end);
        let slowest = readers.into_iter().map(|r| r.join().expect("a reader"));
        let slowest = slowest.max().unwrap_or_default();
        let shared = shared(proxy);
        println!("{shared} statements have shared a server");
        assert!(shared > 100);
        slowest
    })
}

#[test]
fn a_server_that_dies_takes_no_answer_with_it() {
    let proxy = proxy_of(town(), 3, 1);
    while_many_read(&proxy, || {
        let mut root: Vec<Raw> = (0..2)
            .map(|shard| town().superuser(shard, 1, "social"))
            .collect();
        for _ in 0..30 {
            std::thread::sleep(Duration::from_millis(50));
            let kill = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid IN (0{})",
                servers(&proxy).concat()
            );
            for root in &mut root {
                root.ask(&kill).ok();
            }
        }
    });
}

/// The rows before its end come with the server's last words: nobody has seen them, so the primary is asked.
#[test]
fn a_replica_that_dies_between_its_rows_is_not_noticed() {
    let proxy = proxy_of(town(), 3, 1);
    let mut client = connect(&proxy);
    let sql = "SELECT n, CASE WHEN n = 3 THEN last_word(n) ELSE n END FROM accounts, (VALUES (1), (2), (3), (4)) AS v(n) WHERE k = 1";
    for _ in 0..5 {
        let standby = "SELECT current_setting('transaction_read_only') FROM accounts WHERE k = 1";
        let begun = Instant::now();
        while client.ask(standby).ok().rows[0][0].as_deref() != Some("on") {
            assert!(begun.elapsed() < Duration::from_secs(20), "no replica");
        }
        let before = servers(&proxy);
        assert_eq!(before.len(), 1);
        let rows = client.ask(sql).ok().rows;
        let second = rows.iter().map(|row| row[1].as_deref().unwrap_or(""));
        assert_eq!(second.collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        assert!(!servers(&proxy).contains(&before[0]), "it has not died");
    }
}

/// What saves a few microseconds is not worth milliseconds of waiting while other servers have nothing to do.
#[test]
fn statements_of_milliseconds_share_nothing_while_the_pool_has_servers() {
    let ask = |proxy: &Proxy, clients: u64, rounds: u64| {
        std::thread::scope(|scope| {
            for n in 0..clients {
                scope.spawn(move || {
                    let mut client = connect(proxy);
                    for token in 0..rounds {
                        let token = token * clients + n;
                        let sql = format!("SELECT {token}, nap(0.003) FROM accounts WHERE k = 1");
                        let answer = client.ask(&sql).ok();
                        assert_eq!(answer.rows[0][0], Some(token.to_string()));
                    }
                });
            }
        });
        shared(proxy)
    };
    assert_eq!(ask(&proxy_of(town(), 12, 0), 8, 100), 0);
    // and where it has none left they need not wait for one
    assert!(ask(&proxy_of(town(), 2, 0), 8, 100) > 100);
}

#[test]
fn one_that_takes_long_does_not_hold_up_the_others() {
    let proxy = proxy_of(town(), 4, 0);
    let slowest = while_many_read(&proxy, || {
        let mut slow = connect(&proxy);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(300));
            slow.ask("SELECT 0, nap(2.5) FROM accounts WHERE k = 1")
                .ok();
        }
    });
    println!("the slowest answer took {slowest:?}");
    assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
}

#[test]
fn a_vanished_client_or_a_cancel_stops_its_statement_only() {
    let proxy = proxy_of(town(), 4, 0);
    while_many_read(&proxy, || {
        std::thread::sleep(Duration::from_millis(300));
        let mut leaver = connect(&proxy);
        let sql = "SELECT 0, nap(60) FROM accounts WHERE k = 1";
        leaver.send(&raw::query(sql)).expect("sent");
        std::thread::sleep(Duration::from_millis(200));
        drop(leaver);
        let mut root: Vec<Raw> = (0..2)
            .map(|shard| town().superuser(shard, 0, "social"))
            .collect();
        let count = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%nap(60)%' AND pid <> pg_backend_pid()";
        town().eventually("nobody sleeps", || {
            root.iter_mut()
                .all(|root| root.ask(count).ok().value() == "0")
        });
    });
}

#[test]
fn who_needs_a_server_of_its_own_gets_one() {
    let proxy = proxy_of(town(), 2, 0);
    while_many_read(&proxy, || {
        std::thread::sleep(Duration::from_millis(200));
        let slowest = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    let proxy = &proxy;
                    scope.spawn(move || {
                        let mut client = connect(proxy);
                        let mut slowest = Duration::ZERO;
                        for _ in 0..25 {
                            let begun = Instant::now();
                            client.ask("BEGIN").ok();
                            let update = format!(
                                "UPDATE accounts SET owner = owner + 1 WHERE k = {}",
                                n + 1
                            );
                            client.ask(&update).ok();
                            client.ask("COMMIT").ok();
                            slowest = slowest.max(begun.elapsed());
                        }
                        slowest
                    })
                })
                .collect();
            let slowest = writers.into_iter().map(|w| w.join().expect("a writer"));
            slowest.max().unwrap_or_default()
        });
        println!("the slowest transaction took {slowest:?}");
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
}
