//! One client of the leak hunt. It changes at random whatever a session can hold, at pgshunt and in the same words at a
//! session of its own at PostgreSQL, and compares all that both answer. It keeps no model of what should be: PostgreSQL does.

use super::raw::{self, Answer, Raw};
use super::town::Dice;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Settings and values they are given.
const SETTINGS: [(&str, &[&str]); 8] = [
    ("work_mem", &["'5MB'", "'6MB'", "'7MB'"]),
    ("statement_timeout", &["'50s'", "'51s'", "'52s'"]),
    ("search_path", &["a", "b", "a, b", "b, public"]),
    ("timezone", &["'Asia/Tokyo'", "'America/Lima'"]),
    ("datestyle", &["German", "'SQL, DMY'", "dmy", "'ISO, YMD'"]),
    ("app.tenant", &["'one'", "'two'", "'it''s three'"]),
    ("application_name", &["'reports'", "'worker'"]),
    (
        "default_transaction_isolation",
        &["'serializable'", "'repeatable read'"],
    ),
];
const LOOK: &str = "SELECT current_user || '|' || session_user || '|' || current_setting('role'), \
    coalesce(to_regclass('pg_temp.mine')::text, ''), coalesce(to_regclass('pg_temp.made')::text, ''), \
    (SELECT coalesce(string_agg(objid::text || mode, ',' ORDER BY objid, mode), '') FROM pg_locks \
      WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
    (SELECT coalesce(string_agg(name, ',' ORDER BY name), '') FROM pg_cursors WHERE is_holdable), \
    current_setting('transaction_isolation'), current_setting('transaction_read_only'), place()";
const PREPARED: &str = ", (SELECT coalesce(string_agg(name, ',' ORDER BY name), '') FROM pg_prepared_statements WHERE from_sql)";
const CHANNELS: &str =
    "SELECT coalesce(string_agg(c, ',' ORDER BY c), '') FROM pg_listening_channels() c";

/// What all clients of a hunt share.
pub struct Hunt {
    pub port: u16,
    /// where PostgreSQL itself is, and the database there that is like pgshunt's
    pub oracle_port: u16,
    /// how many clients may keep a server to themselves at one time: the others must get one, too
    pub places: AtomicUsize,
    pub stop: AtomicBool,
    pub transactions: AtomicUsize,
    pub findings: parking_lot::Mutex<Vec<String>>,
    /// the last steps of every client
    pub trails: parking_lot::Mutex<Vec<String>>,
}

pub struct Hunter<'a> {
    number: u64,
    dice: Dice,
    ours: Raw,
    oracle: Raw,
    /// has statements prepared by SQL: who asks for them keeps a server
    prepared: bool,
    /// holds one of the few places of those who keep a server
    place: bool,
    hunt: &'a Hunt,
    trail: Vec<String>,
}

fn look() -> String {
    SETTINGS
        .iter()
        .fold(LOOK.to_owned(), |mut text, (name, _)| {
            let _ = write!(text, ", coalesce(current_setting('{name}', true), '')");
            text
        })
}

impl<'a> Hunter<'a> {
    pub fn new(number: u64, seed: u64, hunt: &'a Hunt) -> Self {
        Self {
            number,
            dice: Dice(seed.wrapping_mul(1000).wrapping_add(number)),
            ours: connect(hunt.port, "social", &[]),
            oracle: connect(hunt.oracle_port, "oracle", &[]),
            prepared: false,
            place: false,
            hunt,
            trail: Vec::new(),
        }
    }

    pub fn run(&mut self) {
        while !self.hunt.stop.load(Ordering::Relaxed) {
            self.look();
            self.act();
            self.hunt.transactions.fetch_add(2, Ordering::Relaxed);
        }
        self.give_place_back();
        let trail = format!("client {}: {}", self.number, self.trail.join(" ~ "));
        self.hunt.trails.lock().push(trail);
    }

    fn look(&mut self) {
        let mut sql = look();
        let simple = self.dice.chance(50);
        if self.place || !self.prepared {
            sql.push_str(PREPARED);
        }
        if self.ours.status == b'I' {
            if simple {
                // a transaction that nobody has begun here is older than the statement
                sql.push_str(", now() = statement_timestamp()");
            }
            self.ask(CHANNELS);
        }
        self.both(&sql, simple);
    }

    /// In the words of the simple or of the extended protocol.
    fn ask(&mut self, sql: &str) -> Answer {
        let simple = sql.contains(';') || self.dice.chance(70);
        self.both(sql, simple)
    }

    fn both(&mut self, sql: &str, simple: bool) -> Answer {
        let bytes = if simple {
            raw::query(sql)
        } else {
            let mut bytes = raw::parse("", sql, &[]);
            bytes.extend(raw::message(b'D', b"S\0"));
            bytes.extend(raw::bind("", "", &[]));
            bytes.extend(raw::execute("", 0));
            bytes.extend(raw::sync());
            bytes
        };
        self.send(sql, &bytes)
    }

    fn send(&mut self, what: &str, bytes: &[u8]) -> Answer {
        self.trail
            .push(what.split(" || ").next().unwrap_or_default().to_owned());
        if self.trail.len() > 30 {
            self.trail.remove(0);
        }
        let ours = exchange(&mut self.ours, bytes);
        let oracle = exchange(&mut self.oracle, bytes);
        self.compare(&ours, &oracle);
        ours
    }

    fn compare(&mut self, ours: &Answer, oracle: &Answer) {
        // what a failed transaction takes back is told at its end
        let told = |client: &Raw| (client.status != b'E').then(|| reported(client));
        let state = |client: &Raw, answer| (essence(answer), client.status as char, told(client));
        let seen = state(&self.ours, ours);
        let expected = state(&self.oracle, oracle);
        if seen == expected || self.hunt.stop.load(Ordering::Relaxed) {
            return;
        }
        let trail = self.trail.join("\n    ");
        self.hunt.findings.lock().push(format!(
            "client {}:\n  pgshunt    {seen:?} {:?}\n  PostgreSQL {expected:?} {:?}\n  after\n    {trail}",
            self.number,
            ours.error.as_ref().map(|e| &e.message),
            oracle.error.as_ref().map(|e| &e.message),
        ));
        self.hunt.stop.store(true, Ordering::Relaxed);
    }

    // ---- what it does --------------------------------------------------------------------------

    fn act(&mut self) {
        match self.dice.below(24) {
            0..=4 => {
                let sql = self.setting();
                self.ask(&sql);
            }
            5..=8 => self.transaction(),
            9 | 10 => {
                let sql = self.role();
                self.ask(&sql);
            }
            11 => self.implicit_transaction(),
            12 => self.pipeline(),
            13 | 14 => self.pinned(),
            15 => self.listening(),
            16 => self.discard(),
            17 => self.leave(),
            18 => self.prepared_by_protocol(),
            19 => self.prepared_by_sql(),
            20 | 21 => self.sequences(),
            _ => {
                self.ask("SELECT 1; SELECT 1/0");
            }
        }
    }

    fn setting(&mut self) -> String {
        let (name, values) = SETTINGS[self.dice.below(SETTINGS.len() as u64) as usize];
        let value = self.dice.one(values);
        // the function takes a text
        let quoted = format!("'{}'", value.trim_matches('\''));
        match self.dice.below(12) {
            0..=2 => format!("SET {name} TO {value}"),
            3 => format!("SET SESSION {name} = {value}"),
            4 | 5 => format!("SET LOCAL {name} TO {value}"),
            6 => format!("SET {name} TO DEFAULT"),
            7 => format!("RESET {name}"),
            8 => "RESET ALL".to_owned(),
            9 => format!("SELECT set_config('{name}', {quoted}, false)"),
            10 => format!("SELECT pg_catalog.set_config('{name}', {quoted}, true)"),
            _ => "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ"
                .to_owned(),
        }
    }

    fn role(&mut self) -> String {
        let role = self.dice.one(&["role_a", "role_b"]);
        match self.dice.below(9) {
            0 | 1 => format!("SET ROLE {role}"),
            2 => format!("SET LOCAL ROLE {role}"),
            3 => "RESET ROLE".to_owned(),
            4 => "SET ROLE NONE".to_owned(),
            5 => format!("SET SESSION AUTHORIZATION {role}"),
            6 => format!("SET LOCAL SESSION AUTHORIZATION {role}"),
            7 => "SET SESSION AUTHORIZATION DEFAULT".to_owned(),
            _ => "RESET SESSION AUTHORIZATION".to_owned(),
        }
    }

    /// With savepoints, errors, and a look now and then.
    fn transaction(&mut self) {
        let begin = self.dice.one(&[
            "BEGIN",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "BEGIN READ ONLY",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
        ]);
        self.ask(begin);
        for _ in 0..self.dice.below(7) {
            match self.dice.below(12) {
                0..=3 => {
                    let sql = self.setting();
                    self.ask(&sql);
                }
                4 => {
                    let sql = self.role();
                    self.ask(&sql);
                }
                5 | 6 => self.savepoint(),
                7 => {
                    let sql = self
                        .dice
                        .one(&["SELECT 1/0", "SELECT no_such_column", "SELEKT"]);
                    self.ask(sql);
                }
                8 => {
                    self.ask("SAVEPOINT s; SELECT 1; RELEASE s");
                }
                9 => self.pinned(),
                10 if self.dice.chance(50) => self.prepared_by_sql(),
                10 => self.listening(),
                _ => self.look(),
            }
        }
        let end = self
            .dice
            .one(&["COMMIT", "COMMIT", "ROLLBACK", "END", "ABORT"]);
        if self.dice.chance(10) {
            self.ask(&format!("{end} AND CHAIN"));
            self.look();
        }
        self.ask(end);
        if self.ours.status != b'I' {
            self.ask("ROLLBACK");
        }
    }

    fn savepoint(&mut self) {
        let name = self.dice.one(&["s", "t"]);
        let sql = match self.dice.below(4) {
            0 | 1 => format!("SAVEPOINT {name}"),
            2 => format!("ROLLBACK TO SAVEPOINT {name}"),
            _ => format!("RELEASE {name}"),
        };
        self.ask(&sql);
    }

    /// Several statements in one text.
    fn implicit_transaction(&mut self) {
        let (one, two) = (self.setting(), self.setting());
        let text = match self.dice.below(6) {
            0 => format!("{one}; {two}"),
            1 => format!("{one}; {two}; SELECT 1/0"),
            2 => format!("{one}; COMMIT; {two}; SELECT 1/0"),
            3 => format!("BEGIN; {one}; SAVEPOINT s; {two}; ROLLBACK TO s; COMMIT"),
            4 => format!("BEGIN; {one}; ROLLBACK; {two}"),
            _ => format!("SELECT 1; {one}; SELECT current_setting('work_mem')"),
        };
        self.ask(&text);
    }

    /// Several statements before one Sync, at times with an error among them.
    fn pipeline(&mut self) {
        let mut texts = Vec::new();
        for _ in 0..=self.dice.below(4) {
            let text = match self.dice.below(5) {
                // half a setting beside SET LOCAL of the other half is more than is kept of a batch
                0..=2 => self.setting().replace("dmy", "'ISO, DMY'"),
                3 => "SELECT current_setting('work_mem'), current_user".to_owned(),
                _ if self.dice.chance(40) => "SELECT 1/0".to_owned(),
                _ => "SELECT place()".to_owned(),
            };
            texts.push(text);
        }
        let mut bytes = Vec::new();
        for text in &texts {
            bytes.extend(raw::parse("", text, &[]));
            bytes.extend(raw::bind("", "", &[]));
            bytes.extend(raw::execute("", 0));
        }
        bytes.extend(raw::sync());
        self.send(&texts.join(" | "), &bytes);
    }

    fn take_place(&mut self) -> bool {
        let places = &self.hunt.places;
        self.place = self.place
            || places
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
        self.place
    }

    fn give_place_back(&mut self) {
        if std::mem::take(&mut self.place) {
            self.hunt.places.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What keeps the server.
    fn pinned(&mut self) {
        if !self.take_place() {
            return;
        }
        let number = self.number;
        let (name, values) = SETTINGS[self.dice.below(SETTINGS.len() as u64) as usize];
        let value = self.dice.one(values).trim_matches('\'').to_owned();
        let sql = match self.dice.below(15) {
            0 => "CREATE TEMP TABLE IF NOT EXISTS mine AS SELECT 1 AS one".to_owned(),
            1 => "DROP TABLE IF EXISTS pg_temp.mine".to_owned(),
            2 => "SELECT public.makes_table()".to_owned(),
            // by the protocol it stays on the server
            3..=5 => return self.both_extended(&format!("EXECUTE p{number}('1')")),
            6 => format!("SELECT pg_advisory_lock({number})"),
            7 => format!("SELECT pg_advisory_unlock({number})"),
            8 => format!("SELECT public.locks({number})"),
            9 => "DECLARE held CURSOR WITH HOLD FOR SELECT 1".to_owned(),
            10 => "CLOSE held".to_owned(),
            11 => format!("SELECT public.sets('{name}', '{value}')"),
            12 => format!("DO $$ BEGIN PERFORM set_config('{name}', '{value}', false); END $$"),
            13 => "SELECT pg_advisory_unlock_all()".to_owned(),
            _ => format!("DO $$ BEGIN PERFORM set_config('{name}', '{value}', true); END $$"),
        };
        self.ask(&sql);
    }

    fn both_extended(&mut self, sql: &str) {
        self.both(sql, false);
    }

    /// One name for all, with a text of each client's own.
    fn prepared_by_sql(&mut self) {
        let number = self.number;
        let sql = match self.dice.below(8) {
            0 => format!("PREPARE p{number} (int) AS SELECT {number} + $1, place(), current_user"),
            1 => format!(
                "PREPARE shared AS SELECT {number}, $1 || coalesce(current_setting('app.tenant', true), '')"
            ),
            2 => "DEALLOCATE shared".to_owned(),
            3 => format!("DEALLOCATE p{number}"),
            4 => "EXECUTE shared('x')".to_owned(),
            5 => format!("PREPARE p{number} AS SELECT no_such; SELECT 1"),
            _ => format!("EXECUTE p{number}(7)"),
        };
        let answer = self.both(&sql, true);
        self.prepared |= answer.tags.iter().any(|tag| tag == "PREPARE");
    }

    /// What a sequence has given, always in the transaction where it gave it; else right or refused. Each client has its own, so
    /// that a stranger's value shows.
    fn sequences(&mut self) {
        let next = format!("SELECT nextval('public.of_client_{}')", self.number);
        let current = format!("SELECT currval('public.of_client_{}')", self.number);
        match self.dice.below(4) {
            0 => {
                self.ask("BEGIN");
                self.ask(&next);
                self.ask("SELECT lastval()");
                self.ask(&current);
                self.ask("COMMIT");
            }
            1 => {
                self.ask(&next);
            }
            2 => {
                // it writes, but calls no sequence
                self.ask("BEGIN");
                self.ask("DELETE FROM pg_catalog.pg_largeobject_metadata WHERE false");
                self.right_or_refused("SELECT lastval()");
                self.ask("ROLLBACK");
            }
            _ => {
                self.right_or_refused(&current);
                self.right_or_refused("SELECT lastval()");
            }
        }
    }

    fn right_or_refused(&mut self, sql: &str) {
        self.trail.push(sql.to_owned());
        let ours = exchange(&mut self.ours, &raw::query(sql));
        let oracle = exchange(&mut self.oracle, &raw::query(sql));
        if ours.code() != "0A000" {
            self.compare(&ours, &oracle);
        }
    }

    fn listening(&mut self) {
        let number = self.number;
        let sql = match self.dice.below(4) {
            0 | 1 => format!("LISTEN c{number}"),
            2 => format!("UNLISTEN c{number}"),
            _ => "UNLISTEN *".to_owned(),
        };
        self.ask(&sql);
    }

    fn discard(&mut self) {
        let sql = self.dice.one(&[
            "DISCARD ALL",
            "DISCARD ALL",
            "DISCARD PLANS",
            "DISCARD SEQUENCES",
            "DISCARD TEMP",
            "DEALLOCATE ALL",
        ]);
        let answer = self.ask(sql);
        if answer.tags == ["DISCARD ALL"] {
            self.prepared = false;
            self.give_place_back();
        }
    }

    /// Without a word, and in the middle of something at times; back with other settings from the start.
    fn leave(&mut self) {
        if self.dice.chance(30) {
            self.ask("BEGIN");
            let sql = self.setting();
            self.ask(&sql);
        }
        let more: &[(&str, &str)] = match self.dice.below(4) {
            0 => &[
                ("application_name", "from the start"),
                ("timezone", "Asia/Tokyo"),
            ],
            1 => &[(
                "options",
                "-c work_mem=9MB -c search_path=b,\\ a -c app.tenant=start",
            )],
            2 => &[
                ("datestyle", "SQL, DMY"),
                ("options", "-c statement_timeout=40s"),
            ],
            _ => &[],
        };
        self.prepared = false;
        self.trail.clear();
        self.trail.push(format!("connect {more:?}"));
        self.ours = connect(self.hunt.port, "social", more);
        self.oracle = connect(self.hunt.oracle_port, "oracle", more);
        if self.place {
            // its server is closed in the background
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.give_place_back();
    }

    /// One name, another text for every client; what it means goes by the search path of the moment.
    fn prepared_by_protocol(&mut self) {
        let text = format!("SELECT {} + $1::int, place(), current_user", self.number);
        let mut bytes = raw::message(b'C', b"Ssame\0");
        bytes.extend(raw::parse("same", &text, &[]));
        bytes.extend(raw::sync());
        self.send("Parse", &bytes);
        for more in 0..3 {
            let mut bytes = raw::bind("", "same", &[Some(&more.to_string())]);
            bytes.extend(raw::execute("", 0));
            bytes.extend(raw::sync());
            self.send("Bind, Execute", &bytes);
            if self.dice.chance(50) {
                let sql = self.setting();
                self.ask(&sql);
            }
        }
    }
}

/// What must be the same.
fn essence(answer: &Answer) -> (Vec<raw::Row>, Vec<String>, String) {
    let rows = answer.rows.clone();
    // a transaction that pgshunt itself has failed is not asked for errors of syntax first
    let code = match answer.code() {
        "42601" => "25P02",
        code => code,
    };
    (rows, answer.tags.clone(), code.to_owned())
}

/// Parameters of the session as they were told last.
fn reported(client: &Raw) -> Vec<(String, String)> {
    let ours = [
        "DateStyle",
        "TimeZone",
        "application_name",
        "is_superuser",
        "session_authorization",
    ];
    let last = |name: &&str| {
        let told = client
            .parameters
            .iter()
            .rev()
            .find(|(told, _)| told == name);
        (
            (*name).to_owned(),
            told.map(|(_, value)| value.clone()).unwrap_or_default(),
        )
    };
    ours.iter().map(last).collect()
}

fn exchange(client: &mut Raw, bytes: &[u8]) -> Answer {
    client.send(bytes).expect("sent");
    client.until_ready().expect("an answer")
}

fn connect(port: u16, database: &str, more: &[(&str, &str)]) -> Raw {
    Raw::connect_with(port, "app", database, more).expect("a connection")
}
