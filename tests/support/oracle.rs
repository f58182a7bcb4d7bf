//! One unsharded Postgres as the oracle, and the same rows behind pgshunt over two shards (or four). A `World` starts them and
//! loads them, asks both the same, and judges: exact, refused, or wrong. A statement whose answer depends on the order in which
//! rows lie is none that can be compared; `World::reversed` holds the same rows in the other order to find such statements.
#![allow(dead_code, reason = "each test file uses its part")]

use super::cluster::Proxy;
use super::raw::{self, Answer, Column, Fields, Raw, Row};
use super::town::Town;
use std::collections::{BTreeMap, HashMap};

/// Built-in types have the same numbers everywhere; others are compared by name.
const FIRST_OWN_OID: u32 = 16_384;

const TIMED_OUT: &str = "57014";
const ROWS_MAX: usize = 5_000;

/// How a statement is put to both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Query, values in the text
    Simple,
    /// Parse, Describe, Bind, Execute, values in the text
    Extended,
    /// the same, rows in binary format
    Binary,
    /// values as parameters, in text
    Parameters,
    /// values as parameters, the types declared; rows in binary format
    TypedParameters,
    /// a portal that gives three rows, then the rest
    Portal,
    /// in a transaction: a portal that is suspended between batches, with other statements meanwhile
    Suspended,
    /// DECLARE and FETCH as simple queries
    Cursor,
    /// with values as parameters, FETCH in binary format
    BinaryCursor,
}

pub const MANNERS: [Manner; 6] = [
    Manner::Simple,
    Manner::Extended,
    Manner::Binary,
    Manner::Parameters,
    Manner::TypedParameters,
    Manner::Portal,
];

/// Those with rows in portions in a transaction, too.
pub fn all_manners() -> Vec<Manner> {
    let in_portions = [Manner::Suspended, Manner::Cursor, Manner::BinaryCursor];
    [&MANNERS[..], &in_portions].concat()
}

/// What of the order of rows the statement settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Total,
    /// these columns of the result, from 0, come in one order only
    By(Vec<usize>),
    None,
}

/// A value that stands in the text as `$1`, `$2`, ….
#[derive(Clone, Debug)]
pub struct Value {
    pub literal: String,
    /// None is NULL
    pub text: Option<String>,
    pub oid: u32,
}

#[derive(Clone, Debug)]
pub struct Asked {
    /// with `$1`, `$2`, … where there are values
    pub text: String,
    pub values: Vec<Value>,
    pub order: Order,
}

impl Asked {
    pub fn plain(text: &str, order: Order) -> Self {
        Self {
            text: text.to_owned(),
            values: Vec::new(),
            order,
        }
    }

    /// With the values in the text.
    pub fn literal(&self) -> String {
        let mut text = self.text.clone();
        for (n, value) in self.values.iter().enumerate().rev() {
            text = text.replace(&format!("${}", n + 1), &value.literal);
        }
        text
    }
}

#[derive(Clone, Debug)]
pub enum Verdict {
    Exact,
    Refused(Fields),
    Wrong(String),
}

pub struct Side {
    pub name: String,
    pub raw: Raw,
    /// names of types that users made
    types: HashMap<u32, String>,
}

pub struct World {
    pub town: Town,
    pub proxy: Proxy,
    /// the shard map as pgshunt was given it, ports and all
    pub map: String,
    pub plain: Side,
    pub reversed: Side,
    /// one each for two and for four shards
    pub sharded: Vec<(usize, Side)>,
}

/// How the servers' databases come to be.
pub struct Setting<'a> {
    pub name: &'a str,
    /// keyspaces, tables and reference tables, from column 0; BY_RANGE stands for ranges of small numbers
    pub tables: &'a str,
    pub schema: &'a str,
    /// more words of CREATE DATABASE
    pub database: &'a str,
    /// how many shards: two, or two and four
    pub ways: &'a [usize],
    /// of each shard
    pub replicas: usize,
}

impl World {
    /// Servers, databases and schema; no rows yet.
    pub fn start(setting: &Setting<'_>) -> Self {
        let widest = setting.ways.iter().copied().max().unwrap_or(2);
        let town = Town::start(setting.name, widest, setting.replicas);
        let create = |server: usize, name: &str| {
            let mut superuser = town.superuser(server, 0, "postgres");
            let sql = format!("CREATE DATABASE {name} OWNER app {}", setting.database);
            superuser.ask(&sql).ok();
            let mut app = Raw::connect(town.port(server, 0), "app", name).expect("its owner");
            app.ask(setting.schema).ok();
        };
        // the same on every server and in this order: types have the same numbers on all shards
        for &shards in setting.ways {
            (0..widest).for_each(|server| create(server, &format!("over_{shards}")));
        }
        create(0, "plain");
        create(0, "reversed");
        let map = map(&town, setting);
        let proxy = Proxy::start(&map);
        let direct = |name| Raw::connect(town.port(0, 0), "app", name).expect("the one Postgres");
        let (plain, reversed) = (direct("plain"), direct("reversed"));
        let through = |&shards: &usize| {
            let name = format!("over_{shards}");
            let raw = Raw::connect(proxy.port(), "app", &name).expect("pgshunt");
            (shards, Side::new(&name, raw))
        };
        let sharded = setting.ways.iter().map(through).collect();
        Self {
            map: map.replace("LISTEN_PORT", "1"),
            plain: Side::new("one Postgres", plain),
            reversed: Side::new("one Postgres, rows reversed", reversed),
            sharded,
            proxy,
            town,
        }
    }

    /// Bounds what one statement may cost the oracle.
    pub fn hurry(&mut self) {
        self.plain.raw.ask("SET statement_timeout = '2s'").ok();
    }

    /// Runs statements that each touch one shard, or every one, everywhere; on `reversed` from the last to the first.
    pub fn load(&mut self, statements: &[String]) {
        for statement in statements {
            let direct = self.plain.raw.ask(statement).ok();
            for (_, side) in &mut self.sharded {
                let through = side.raw.ask(statement);
                assert_eq!(through.error, None, "{statement}");
                assert_eq!(through.tags, direct.tags, "{statement}");
            }
        }
        for statement in statements.iter().rev() {
            self.reversed.raw.ask(statement).ok();
        }
    }

    /// The oracle's answer, and the verdict on each way over shards. What is too much for one Postgres is asked nowhere else.
    pub fn judge(&mut self, asked: &Asked, manner: Manner) -> (Answer, Vec<(usize, Verdict)>) {
        let expected = self.plain.ask(asked, manner);
        if expected.code() == TIMED_OUT || expected.rows.len() > ROWS_MAX {
            return (expected, Vec::new());
        }
        let judge = |(shards, side): &mut (usize, Side)| {
            let found = side.ask(asked, manner);
            (*shards, verdict(&found, &expected, &asked.order))
        };
        let verdicts = self.sharded.iter_mut().map(judge).collect();
        (expected, verdicts)
    }

    /// Runs it on all sides; the same must come of it.
    pub fn everywhere(&mut self, statement: &str) {
        let direct = self.plain.raw.ask(statement).ok();
        self.reversed.raw.ask(statement).ok();
        for (_, side) in &mut self.sharded {
            let through = side.raw.ask(statement);
            assert_eq!(through.error, None, "{statement}");
            assert_eq!(through.tags, direct.tags, "{statement}");
        }
    }

    /// What differs at one Postgres when the rows lie in another order.
    pub fn undetermined(
        &mut self,
        asked: &Asked,
        manner: Manner,
        expected: &Answer,
    ) -> Option<String> {
        let found = self.reversed.ask(asked, manner);
        difference(&found, expected, &asked.order)
    }
}

/// The numbers from 1 to 14, and all others, over so many shards.
fn ranges(shards: usize) -> String {
    let end = |shard: usize| 1 + 14 * shard / shards;
    let range = |shard: usize| match shard {
        1 => format!("{{ shard: s1, to: {} }}", end(1)),
        last if last == shards => format!("{{ shard: s{last}, from: {} }}", end(last - 1)),
        n => format!("{{ shard: s{n}, from: {}, to: {} }}", end(n - 1), end(n)),
    };
    let ranges: Vec<String> = (1..=shards).map(range).collect();
    format!("[{}]", ranges.join(", "))
}

fn map(town: &Town, setting: &Setting<'_>) -> String {
    let mut text = "listen:\n  - address: 127.0.0.1:LISTEN_PORT\nusers:\n  - { name: app, auth: trust }\ndatabases:\n".to_owned();
    for &shards in setting.ways {
        text += &format!(
            "  - name: over_{shards}\n    home: s1\n    control: {{ user: pgshunt }}\n    shards:\n"
        );
        for shard in 0..shards {
            let port = town.port(shard, 0);
            let replica = |n| format!("\"127.0.0.1:{}\"", town.port(shard, n));
            let replicas: Vec<String> = (1..=setting.replicas).map(replica).collect();
            text += &format!(
                "      - {{ name: s{}, primary: \"127.0.0.1:{port}\", replicas: [{}] }}\n",
                shard + 1,
                replicas.join(", ")
            );
        }
        for line in setting.tables.lines() {
            text += &format!("    {}\n", line.replace("BY_RANGE", &ranges(shards)));
        }
    }
    text
}

impl Side {
    fn new(name: &str, mut raw: Raw) -> Self {
        let sql = format!(
            "SELECT oid, typname FROM pg_catalog.pg_type WHERE oid >= {FIRST_OWN_OID} ORDER BY oid"
        );
        let rows = raw.ask(&sql).ok().rows;
        let pair = |row: Row| {
            let [oid, name] = <[Option<String>; 2]>::try_from(row).ok()?;
            Some((oid?.parse().ok()?, name?))
        };
        Self {
            name: name.to_owned(),
            raw,
            types: rows.into_iter().filter_map(pair).collect(),
        }
    }

    /// Types that users made get their name in the place of the number.
    pub fn ask(&mut self, asked: &Asked, manner: Manner) -> Answer {
        let answer = put(&mut self.raw, asked, manner);
        let mut answer =
            answer.unwrap_or_else(|e| panic!("{}: {e}: {}", self.name, asked.literal()));
        for column in answer.columns.iter_mut().flatten() {
            if let Some(name) = self.types.get(&column.type_oid) {
                column.name = format!("{} ({name})", column.name);
                column.type_oid = FIRST_OWN_OID;
            }
        }
        answer
    }
}

fn put(raw: &mut Raw, asked: &Asked, manner: Manner) -> std::io::Result<Answer> {
    let literal = asked.literal();
    match manner {
        Manner::Simple => return raw.query(&literal),
        Manner::Extended => raw.send(&batch(&literal, &[], &[], 0, &[0]))?,
        Manner::Binary => raw.send(&batch(&literal, &[], &[], 1, &[0]))?,
        Manner::Parameters => raw.send(&batch(&asked.text, &[], &asked.values, 0, &[0]))?,
        Manner::TypedParameters => {
            let types: Vec<u32> = asked.values.iter().map(|v| v.oid).collect();
            raw.send(&batch(&asked.text, &types, &asked.values, 1, &[0]))?;
        }
        Manner::Portal => raw.send(&batch(&asked.text, &[], &asked.values, 0, &[3, 0]))?,
        Manner::Suspended => {
            let bound = named("p", &batch(&asked.text, &[], &asked.values, 0, &[]));
            let first = [bound, raw::execute("p", 2), raw::sync()].concat();
            let more = |rows| [raw::execute("p", rows), raw::sync()].concat();
            return in_portions(raw, &[first, more(1), more(4), more(0)]);
        }
        Manner::Cursor => {
            let declare = raw::query(&format!("DECLARE portion CURSOR FOR {literal}"));
            let fetch = |much| raw::query(&format!("FETCH {much} FROM portion"));
            return in_portions(raw, &[declare, fetch("2"), fetch("NEXT"), fetch("ALL")]);
        }
        Manner::BinaryCursor => {
            let text = format!("DECLARE portion NO SCROLL CURSOR FOR {}", asked.text);
            let declare = batch(&text, &[], &asked.values, 0, &[0]);
            let fetch = |much| {
                let text = format!("FETCH {much} FROM portion");
                batch(&text, &[], &[], 1, &[0])
            };
            return in_portions(raw, &[declare, fetch("3"), fetch("ALL")]);
        }
    }
    raw.until_ready()
}

/// A batch whose only Bind is to this portal, without its Sync.
fn named(portal: &str, batch: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = batch;
    while let [tag, a, b, c, d, ..] = *rest {
        let length = i32::from_be_bytes([a, b, c, d]) as usize;
        let body = &rest[5..=length];
        match tag {
            b'B' => out.extend(raw::message(b'B', &[portal.as_bytes(), body].concat())),
            b'S' => {}
            _ => out.extend(&rest[..=length]),
        }
        rest = &rest[length + 1..];
    }
    out
}

/// The answers of several messages in one transaction as one, other statements between them.
fn in_portions(raw: &mut Raw, parts: &[Vec<u8>]) -> std::io::Result<Answer> {
    raw.query("BEGIN")?;
    let mut all = Answer::default();
    for part in parts {
        raw.send(part)?;
        let answer = raw.until_ready()?;
        all.columns = all.columns.or(answer.columns);
        all.rows.extend(answer.rows);
        all.tags.extend(answer.tags);
        all.messages += &answer.messages;
        all.error = all.error.or(answer.error);
        if all.error.is_some() {
            break;
        }
        raw.query("SELECT id FROM tenants WHERE id = 3")?;
    }
    raw.query("ROLLBACK")?;
    Ok(all)
}

/// Parse, Describe, Bind, as many Executes as `limits`, Sync.
fn batch(text: &str, types: &[u32], values: &[Value], format: i16, limits: &[i32]) -> Vec<u8> {
    let mut bytes = raw::parse("", text, types);
    bytes.extend(raw::message(b'D', b"S\0"));
    let mut body = vec![0, 0];
    body.extend(0_i16.to_be_bytes());
    body.extend((values.len() as i16).to_be_bytes());
    for value in values {
        match &value.text {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(text) => {
                body.extend((text.len() as i32).to_be_bytes());
                body.extend(text.as_bytes());
            }
        }
    }
    body.extend(1_i16.to_be_bytes());
    body.extend(format.to_be_bytes());
    bytes.extend(raw::message(b'B', &body));
    for &limit in limits {
        bytes.extend(raw::execute("", limit));
    }
    bytes.extend(raw::sync());
    bytes
}

/// Where Postgres refuses with 0A000 itself, the same refusal is exact.
fn verdict(found: &Answer, expected: &Answer, order: &Order) -> Verdict {
    match &found.error {
        Some(error) if error.code == "0A000" && expected.code() != "0A000" => {
            if error.hint.is_empty() || error.message.is_empty() {
                Verdict::Wrong(format!("a refusal without words or hint: {error:?}"))
            } else {
                Verdict::Refused(error.clone())
            }
        }
        _ => difference(found, expected, order).map_or(Verdict::Exact, Verdict::Wrong),
    }
}

fn difference(found: &Answer, expected: &Answer, order: &Order) -> Option<String> {
    if found.code() != expected.code() {
        return Some(format!(
            "error {:?}\n  expected {:?}, rows {:?}",
            found.error,
            expected.error,
            few(&expected.rows)
        ));
    }
    if expected.error.is_some() {
        return None;
    }
    if shape(found) != shape(expected) {
        return Some(format!(
            "columns {:?}\n  expected {:?}",
            found.columns, expected.columns
        ));
    }
    if found.tags != expected.tags {
        return Some(format!(
            "tags {:?}, rows {:?}\n  expected {:?}, rows {:?}",
            found.tags,
            few(&found.rows),
            expected.tags,
            few(&expected.rows)
        ));
    }
    if found.messages != expected.messages {
        return Some(format!(
            "messages {}\n  expected {}",
            found.messages, expected.messages
        ));
    }
    let same = same_rows(&found.rows, &expected.rows, order);
    (!same).then(|| {
        format!(
            "rows {:?}\n  expected {:?}",
            few(&found.rows),
            few(&expected.rows)
        )
    })
}

fn shape(answer: &Answer) -> Option<&[Column]> {
    answer.columns.as_deref()
}

fn same_rows(found: &[Row], expected: &[Row], order: &Order) -> bool {
    if *order == Order::Total {
        return found == expected;
    }
    if let Order::By(columns) = order {
        let keys = |rows: &[Row]| -> Vec<Vec<Option<String>>> {
            let key = |row: &Row| columns.iter().map(|&n| row[n].clone()).collect();
            rows.iter().map(key).collect()
        };
        if keys(found) != keys(expected) {
            return false;
        }
    }
    let sorted = |rows: &[Row]| {
        let mut rows = rows.to_vec();
        rows.sort();
        rows
    };
    sorted(found) == sorted(expected)
}

fn few(rows: &[Row]) -> String {
    let shown: Vec<String> = rows
        .iter()
        .take(30)
        .map(|row| {
            let values: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("∅")).collect();
            values.join("|")
        })
        .collect();
    format!("({}) {}", rows.len(), shown.join("; "))
}

/// Counts verdicts, keeps one statement for each kind of refusal, and everything that is wrong.
#[derive(Default)]
pub struct Tally {
    pub exact: usize,
    pub refused: usize,
    pub wrong: Vec<String>,
    /// message without the names and numbers in it, how often, one statement
    refusals: BTreeMap<String, (usize, String)>,
}

impl Tally {
    pub fn add(&mut self, what: &str, shards: usize, statement: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Exact => self.exact += 1,
            Verdict::Refused(error) => {
                self.refused += 1;
                let entry = self.refusals.entry(error.message.clone());
                entry.or_insert_with(|| (0, statement.to_owned())).0 += 1;
            }
            Verdict::Wrong(difference) => self.wrong.push(format!(
                "{what} over {shards} shards: {statement}\n  {difference}"
            )),
        }
    }

    pub fn asked(&self) -> usize {
        self.exact + self.refused + self.wrong.len()
    }

    pub fn exact_percent(&self) -> f64 {
        100.0 * self.exact as f64 / self.asked().max(1) as f64
    }

    pub fn show(&self, name: &str) {
        let mut refusals: Vec<_> = self.refusals.iter().collect();
        refusals.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (message, (count, statement)) in refusals.into_iter().take(40) {
            println!("{count} refused: {message}\n    {statement}");
        }
        println!(
            "{name}: {} asked, {} exact ({:.2} %), {} refused, {} wrong",
            self.asked(),
            self.exact,
            self.exact_percent(),
            self.refused,
            self.wrong.len()
        );
    }

    /// Nothing wrong, ever; and no fewer exact answers than were reached before.
    #[track_caller]
    pub fn require(&self, name: &str, exact_percent_min: f64) {
        let shown: Vec<&str> = self.wrong.iter().take(20).map(String::as_str).collect();
        assert!(
            self.wrong.is_empty(),
            "{name}: {} wrong:\n{}",
            self.wrong.len(),
            shown.join("\n")
        );
        assert!(
            self.exact_percent() >= exact_percent_min,
            "{name}: {:.2} % exact, at least {exact_percent_min} % before",
            self.exact_percent()
        );
    }
}
