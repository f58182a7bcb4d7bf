//! A hunt for leaks: many clients change whatever a session can hold, at random, over few servers, and each looks before
//! every transaction whether it sees exactly its own state: nothing of a stranger's, and nothing of its own lost.
//! `PGSHUNT_LEAK_SECONDS` and `PGSHUNT_LEAK_CLIENTS` make it long, `PGSHUNT_SEED` repeats it.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Answer, Raw};
use support::town::{Dice, Map, Town};

const SERVERS: usize = 8;
/// Clients that may hold a server for themselves at one time: the others must get one, too.
const PINNED_MAX: usize = 5;

/// Settings and the values that they are given; the first is what they are by default.
const SETTINGS: [(&str, &[&str]); 7] = [
    ("work_mem", &["4MB", "5MB", "6MB", "7MB"]),
    ("statement_timeout", &["0", "50s", "51s", "52s"]),
    ("search_path", &["\"$user\", public", "a", "b", "a, b"]),
    ("timezone", &["UTC", "Asia/Tokyo", "America/Lima"]),
    ("datestyle", &["ISO, MDY", "German, DMY", "SQL, MDY"]),
    ("app.tenant", &["", "one", "two", "it's three"]),
    ("application_name", &["", "reports", "worker"]),
];
const LOOK: &str = "SELECT current_user || '|' || session_user, \
    coalesce(to_regclass('pg_temp.mine')::text, ''), \
    (SELECT coalesce(string_agg(name, ',' ORDER BY name), '') FROM pg_prepared_statements WHERE name NOT LIKE 'pgshunt%'), \
    (SELECT coalesce(string_agg(objid::text, ',' ORDER BY objid), '') FROM pg_locks \
      WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT coalesce(string_agg(c, ',' ORDER BY c), '') FROM pg_listening_channels() c), \
    (SELECT coalesce(string_agg(name, ',' ORDER BY name), '') FROM pg_cursors WHERE is_holdable)";

/// What one session holds.
#[derive(Clone, Default, Debug)]
struct Own {
    settings: BTreeMap<&'static str, String>,
    role: Option<&'static str>,
    temporary: bool,
    prepared: BTreeSet<String>,
    locks: BTreeSet<u64>,
    channels: BTreeSet<String>,
    cursor: bool,
}

impl Own {
    fn pins(&self) -> bool {
        self.temporary
            || self.cursor
            || !self.prepared.is_empty()
            || !self.locks.is_empty()
            || !self.channels.is_empty()
    }

    fn expected(&self) -> Vec<String> {
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
        let locks: Vec<String> = self.locks.iter().map(u64::to_string).collect();
        let mut row = vec![
            format!("{}|app", self.role.unwrap_or("app")),
            if self.temporary { "mine" } else { "" }.to_owned(),
            join(&self.prepared),
            locks.join(","),
            join(&self.channels),
            if self.cursor { "held" } else { "" }.to_owned(),
        ];
        for (name, values) in SETTINGS {
            let value = self.settings.get(name);
            row.push(value.map_or(values[0], String::as_str).to_owned());
        }
        row
    }
}

struct Hunter<'a> {
    number: u64,
    port: u16,
    dice: Dice,
    client: Raw,
    own: Own,
    /// holds one of the few places of those who keep a server
    place: bool,
    hunt: &'a Hunt,
    trail: Vec<String>,
}

#[derive(Default)]
struct Hunt {
    stop: AtomicBool,
    places: AtomicUsize,
    transactions: AtomicUsize,
    findings: parking_lot::Mutex<Vec<String>>,
}

fn look() -> String {
    let settings =
        SETTINGS.map(|(name, _)| format!("coalesce(current_setting('{name}', true), '')"));
    format!("{LOOK}, {}", settings.join(", "))
}

impl Hunter<'_> {
    fn run(&mut self) {
        while !self.hunt.stop.load(Ordering::Relaxed) {
            self.look();
            self.act();
            self.hunt.transactions.fetch_add(2, Ordering::Relaxed);
        }
        self.give_place_back();
    }

    fn look(&mut self) {
        let sql = look();
        let answer = if self.dice.chance(50) {
            self.client.query(&sql)
        } else {
            self.client.extended(&sql, &[], &[])
        };
        let answer = answer.expect("an answer");
        let seen: Vec<String> = match answer.rows.first() {
            Some(row) => row.iter().map(|v| v.clone().unwrap_or_default()).collect(),
            None => vec![format!("{:?}", answer.error)],
        };
        let expected = self.own.expected();
        if seen != expected {
            let trail = self.trail.join("\n    ");
            self.hunt.findings.lock().push(format!(
                "client {}:\n  sees     {seen:?}\n  expected {expected:?}\n  after\n    {trail}",
                self.number
            ));
            self.hunt.stop.store(true, Ordering::Relaxed);
        }
    }

    fn ask(&mut self, sql: &str) -> Answer {
        self.trail.push(sql.to_owned());
        if self.trail.len() > 25 {
            self.trail.remove(0);
        }
        let answer = if self.dice.chance(70) || sql.contains(';') {
            self.client.query(sql)
        } else {
            self.client.extended(sql, &[], &[])
        };
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(
            answer.error.as_ref().is_none_or(|e| e.code == "22012"),
            "{sql}: {:?}\n{}",
            answer.error,
            self.trail.join("\n")
        );
        answer
    }

    fn act(&mut self) {
        match self.dice.below(17) {
            0..=2 => self.set(""),
            3 => {
                self.ask("BEGIN");
                self.set("");
                let before = self.own.settings.clone();
                self.ask("SAVEPOINT s");
                self.set("");
                self.set("LOCAL ");
                self.own.settings = before;
                self.ask("ROLLBACK TO SAVEPOINT s");
                self.ask("COMMIT");
            }
            4 => {
                let before = self.own.clone();
                self.ask("BEGIN");
                self.set("");
                self.change_role();
                if self.dice.chance(50) {
                    self.ask("SELECT 1/0");
                }
                self.ask("ROLLBACK");
                self.own = before;
            }
            5 => {
                let before = self.own.settings.clone();
                self.ask("BEGIN");
                self.set("LOCAL ");
                self.ask("COMMIT");
                self.own.settings = before;
            }
            6 => {
                let (name, _) = SETTINGS[self.dice.below(7) as usize];
                self.ask(&format!("RESET {name}"));
                self.own.settings.remove(name);
            }
            7 => {
                self.ask("RESET ALL");
                self.own.settings.clear();
            }
            8 => self.set_by_function(),
            9 => self.change_role(),
            10 => {
                self.ask("SELECT 1; SELECT 1/0");
            }
            11 | 12 => self.pinned(),
            13 => self.discard(),
            14 => self.leave(),
            15 => self.prepared_by_protocol(),
            _ => {
                self.ask("BEGIN; SELECT 1; COMMIT");
            }
        }
    }

    fn value(&mut self) -> (&'static str, &'static str) {
        let (name, values) = SETTINGS[self.dice.below(7) as usize];
        (
            name,
            values[1 + self.dice.below(values.len() as u64 - 1) as usize],
        )
    }

    fn set(&mut self, local: &str) {
        let (name, value) = self.value();
        let written = match name {
            "search_path" | "datestyle" => value.to_owned(),
            _ => format!("'{}'", value.replace('\'', "''")),
        };
        self.ask(&format!("SET {local}{name} TO {written}"));
        self.own.settings.insert(name, value.to_owned());
    }

    fn set_by_function(&mut self) {
        let (name, value) = self.value();
        let quoted = format!("'{}'", value.replace('\'', "''"));
        match self.dice.below(4) {
            // what a function or a block sets keeps the server
            0 | 1 if !self.take_place() => return,
            0 => self.ask(&format!("SELECT public.sets('{name}', {quoted})")),
            1 => self.ask(&format!(
                "DO $$ BEGIN PERFORM set_config('{name}', {quoted}, false); END $$"
            )),
            2 => self.ask(&format!("SELECT set_config('{name}', {quoted}, false)")),
            _ => {
                self.ask(&format!("SELECT set_config('{name}', {quoted}, true)"));
                return;
            }
        };
        self.own.settings.insert(name, value.to_owned());
    }

    fn change_role(&mut self) {
        let role: Option<&'static str> = match self.dice.below(3) {
            0 => Some("role_a"),
            1 => Some("role_b"),
            _ => None,
        };
        self.ask(&role.map_or("RESET ROLE".to_owned(), |role| format!("SET ROLE {role}")));
        self.own.role = role;
    }

    fn take_place(&mut self) -> bool {
        let places = &self.hunt.places;
        self.place = self.place
            || places
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                    (n < PINNED_MAX).then_some(n + 1)
                })
                .is_ok();
        self.place
    }

    fn give_place_back(&mut self) {
        if std::mem::take(&mut self.place) {
            self.hunt.places.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn pinned(&mut self) {
        if self.own.role.is_some() || !self.take_place() {
            return;
        }
        let number = self.number;
        match self.dice.below(5) {
            0 if !self.own.temporary => {
                self.ask("CREATE TEMP TABLE mine AS SELECT 1 AS one");
                self.own.temporary = true;
            }
            1 => {
                let name = format!("p{number}");
                if self.own.prepared.insert(name.clone()) {
                    self.ask(&format!("PREPARE {name} AS SELECT {number}"));
                } else {
                    let answer = self.ask(&format!("EXECUTE {name}"));
                    assert_eq!(answer.value(), number.to_string());
                }
            }
            2 => {
                self.ask(&format!("SELECT pg_advisory_lock({number})"));
                self.own.locks.insert(number);
            }
            3 => {
                self.ask(&format!("LISTEN c{number}"));
                self.own.channels.insert(format!("c{number}"));
            }
            _ if !self.own.cursor => {
                self.ask("BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT 1; COMMIT");
                self.own.cursor = true;
            }
            _ => {}
        }
    }

    fn discard(&mut self) {
        self.ask("DISCARD ALL");
        self.own = Own::default();
        self.give_place_back();
    }

    /// Without a word, and in the middle of something at times.
    fn leave(&mut self) {
        if self.dice.chance(30) {
            self.ask("BEGIN");
            self.set("");
        }
        self.client = connect(self.port);
        if self.own.pins() {
            // its server is closed in the background
            std::thread::sleep(Duration::from_millis(5));
        }
        self.own = Own::default();
        self.trail.clear();
        self.give_place_back();
    }

    /// One name, another text for every client.
    fn prepared_by_protocol(&mut self) {
        let text = format!("SELECT {} + $1::int", self.number);
        let mut bytes = raw::message(b'C', b"Ssame\0");
        bytes.extend(raw::parse("same", &text, &[]));
        bytes.extend(raw::sync());
        self.client.send(&bytes).expect("sent");
        self.client.until_ready().expect("parsed").ok();
        for more in 0..3 {
            let mut bytes = raw::bind("", "same", &[Some(&more.to_string())]);
            bytes.extend(raw::execute("", 0));
            bytes.extend(raw::sync());
            self.client.send(&bytes).expect("sent");
            let answer = self.client.until_ready().expect("an answer").ok();
            assert_eq!(answer.value(), (self.number + more).to_string());
        }
    }
}

fn connect(port: u16) -> Raw {
    Raw::connect(port, "app", "social").expect("pgshunt")
}

fn number_of(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn every_session_sees_its_own_state_and_nobody_elses() {
    let town = Town::start("leaks", 1, 0);
    town.as_superuser(
        "CREATE ROLE role_a; CREATE ROLE role_b; GRANT role_a, role_b TO app;
         CREATE SCHEMA a; CREATE SCHEMA b;
         CREATE FUNCTION public.sets(name text, value text) RETURNS void LANGUAGE plpgsql
             AS $$ BEGIN PERFORM pg_catalog.set_config(name, value, false); END $$",
    );
    let proxy = Proxy::start(
        &Map::of(&town, 1, 0)
            .pool(&format!("size: {SERVERS}, verify: true"))
            .text(),
    );
    let seed = number_of("PGSHUNT_SEED", 7);
    let clients = number_of("PGSHUNT_LEAK_CLIENTS", 40);
    let hunt = Hunt::default();
    std::thread::scope(|scope| {
        for number in 1..=clients {
            let (hunt, port) = (&hunt, proxy.port());
            scope.spawn(move || {
                let mut hunter = Hunter {
                    number,
                    port,
                    dice: Dice(seed.wrapping_mul(1000) + number),
                    client: connect(port),
                    own: Own::default(),
                    place: false,
                    hunt,
                    trail: Vec::new(),
                };
                let result =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hunter.run()));
                if result.is_err() {
                    hunt.findings.lock().push(format!("client {number} failed"));
                    hunt.stop.store(true, Ordering::Relaxed);
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(number_of("PGSHUNT_LEAK_SECONDS", 10));
        while Instant::now() < until && !hunt.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        hunt.stop.store(true, Ordering::Relaxed);
    });
    let mut findings = hunt.findings.into_inner();
    let log = proxy.log();
    findings.extend(
        log.lines()
            .filter(|line| line.contains("not as a fresh one"))
            .map(str::to_owned),
    );
    println!(
        "{} transactions, {} findings",
        hunt.transactions.into_inner(),
        findings.len()
    );
    assert!(findings.is_empty(), "{}", findings.join("\n\n"));
}
