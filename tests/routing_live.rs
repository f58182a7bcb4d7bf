//! Random keys of every kind of keyspace, inserted through pgshunt in every way a value can be written: each is found on the
//! one shard that the map (or Postgres's own partition arithmetic) says, and a read by key touches one server, as the servers
//! count it. Keys that the tables draw themselves are unique over all shards.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use pgshunt::shard::{KeyType, Keyspace, KeyspaceKind, ShardId};
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{Dice, Map, Town};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Xxh3,
    Postgres,
    Ranges,
    List,
}

/// One table of one keyspace.
struct Case {
    kind: Kind,
    types: &'static [&'static str],
    keys: usize,
}

const CASES: &[Case] = &[
    Case {
        kind: Kind::Xxh3,
        types: &["bigint"],
        keys: 10_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["bigint"],
        keys: 10_000,
    },
    Case {
        kind: Kind::Ranges,
        types: &["bigint"],
        keys: 2_000,
    },
    Case {
        kind: Kind::List,
        types: &["bigint"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["text"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["text"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Ranges,
        types: &["text"],
        keys: 1_000,
    },
    Case {
        kind: Kind::List,
        types: &["text"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["uuid"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["uuid"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Ranges,
        types: &["uuid"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["date"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["date"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Ranges,
        types: &["date"],
        keys: 1_000,
    },
    Case {
        kind: Kind::List,
        types: &["date"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["timestamptz"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["timestamptz"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Ranges,
        types: &["timestamptz"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["numeric"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["numeric"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Ranges,
        types: &["numeric"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["integer"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["smallint"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Xxh3,
        types: &["bigint", "text"],
        keys: 1_000,
    },
    Case {
        kind: Kind::Postgres,
        types: &["uuid", "date", "numeric"],
        keys: 1_000,
    },
];

const BUCKETS: usize = 64;
/// Buckets below this one are on s1.
const BORDER: usize = 29;

impl Case {
    fn name(&self) -> String {
        format!("{:?}_{}", self.kind, self.types.join("_")).to_lowercase()
    }

    fn table(&self) -> String {
        let columns: Vec<String> = self
            .types
            .iter()
            .enumerate()
            .map(|(n, t)| format!("k{n} {t}"))
            .collect();
        let keys = self.columns().join(", ");
        let mut sql = format!(
            "CREATE TABLE {} ({}, v bigint, PRIMARY KEY ({keys}));",
            self.name(),
            columns.join(", ")
        );
        if self.kind == Kind::Postgres {
            let (name, columns) = (self.name(), columns.join(", "));
            sql.push_str(&format!(
                "CREATE TABLE oracle_{name} ({columns}) PARTITION BY HASH ({keys});"
            ));
        }
        sql
    }

    fn columns(&self) -> Vec<String> {
        (0..self.types.len()).map(|n| format!("k{n}")).collect()
    }

    /// Where s2 begins, for ranges: text compares by its bytes.
    fn border(&self) -> &'static str {
        match self.types[0] {
            "bigint" => "0",
            "text" => "m",
            "uuid" => "7fffffff-0000-0000-0000-000000000000",
            "date" => "2001-02-03",
            "timestamptz" => "2001-02-03 04:05:06.789+02:00",
            _ => "-10.50",
        }
    }

    fn spread(&self, keys: &[Key]) -> String {
        match self.kind {
            Kind::Xxh3 | Kind::Postgres => {
                let function = format!("{:?}", self.kind).to_lowercase();
                let (before, last) = (BORDER - 1, BUCKETS - 1);
                format!(
                    "hash: {{ function: {function}, buckets: {BUCKETS}, placement: [{{ shard: s1, buckets: 0-{before} }}, {{ shard: s2, buckets: {BORDER}-{last} }}] }}"
                )
            }
            Kind::Ranges => {
                let border = self.border();
                format!(
                    "ranges: [{{ shard: s1, to: \"{border}\" }}, {{ shard: s2, from: \"{border}\" }}]"
                )
            }
            Kind::List => {
                let values = |shard| {
                    let of = keys
                        .iter()
                        .enumerate()
                        .filter(|(n, _)| n % 2 == shard)
                        .map(|(_, k)| serde_json::json!(k.parts[0].text).to_string());
                    of.collect::<Vec<_>>().join(", ")
                };
                format!(
                    "list: [{{ shard: s1, values: [{}] }}, {{ shard: s2, values: [{}] }}]",
                    values(0),
                    values(1)
                )
            }
        }
    }
}

// ---- keys ----------------------------------------------------------------------------------------

/// A value as text and in binary.
#[derive(Clone)]
struct Part {
    text: String,
    binary: Vec<u8>,
    bare: bool,
}

#[derive(Clone)]
struct Key {
    parts: Vec<Part>,
}

impl Part {
    fn quoted(&self) -> String {
        format!("'{}'", self.text.replace('\'', "''"))
    }

    /// As it may stand in SQL: numbers bare or in quotes.
    fn literal(&self, dice: &mut Dice) -> String {
        if self.bare && dice.chance(70) {
            self.text.clone()
        } else {
            self.quoted()
        }
    }
}

fn part(key_type: &str, n: u64, dice: &mut Dice) -> Part {
    // n makes it different from all others
    let random = dice.next();
    match key_type {
        "bigint" => {
            let value = if random.is_multiple_of(3) {
                n as i64 - 500
            } else {
                (random ^ n) as i64
            };
            Part {
                text: value.to_string(),
                binary: value.to_be_bytes().to_vec(),
                bare: true,
            }
        }
        "integer" => {
            let value = (random as i32 & !0xffff) | n as i32;
            Part {
                text: value.to_string(),
                binary: value.to_be_bytes().to_vec(),
                bare: true,
            }
        }
        "smallint" => {
            let value = (n as i64 * 60 - 30_000) as i16;
            Part {
                text: value.to_string(),
                binary: value.to_be_bytes().to_vec(),
                bare: true,
            }
        }
        "text" => {
            let letters: Vec<char> = "abmzAZ09 '\\é☃𝄞%_$-/*\"".chars().collect();
            let mut text: String = (0..dice.below(12))
                .map(|_| letters[dice.below(letters.len() as u64) as usize])
                .collect();
            text.push_str(&n.to_string());
            Part {
                binary: text.clone().into_bytes(),
                text,
                bare: false,
            }
        }
        "uuid" => {
            let value = (u128::from(random) << 64) | u128::from(dice.next() ^ n);
            let hex = format!("{value:032x}");
            let mut text = [
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..],
            ]
            .join("-");
            if dice.chance(20) {
                text = text.to_uppercase();
            }
            Part {
                text,
                binary: value.to_be_bytes().to_vec(),
                bare: false,
            }
        }
        "date" => {
            let days = n as i32 * 17 - 9_000;
            Part {
                text: civil(days),
                binary: days.to_be_bytes().to_vec(),
                bare: false,
            }
        }
        "timestamptz" => {
            let micros = (n as i64 - 450) * 100_000_000_000 + (random % 86_400_000_000) as i64;
            Part {
                text: timestamp(micros, dice.below(25) as i64 - 12),
                binary: micros.to_be_bytes().to_vec(),
                bare: false,
            }
        }
        _ => numeric(n as i64 * 3 - 1_400, random % 10_000, dice),
    }
}

/// Days since 2000-01-01 as a date.
fn civil(days: i32) -> String {
    let z = i64::from(days) + 730_425;
    let era = z.div_euclid(146_097);
    let day = z.rem_euclid(146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let (d, m) = (
        in_year - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
    );
    format!("{:04}-{m:02}-{d:02}", year + era * 400 + i64::from(m <= 2))
}

/// Microseconds since 2000-01-01 00:00 UTC, written at an offset of whole hours.
fn timestamp(micros: i64, offset: i64) -> String {
    let local = micros + offset * 3_600_000_000;
    let (days, rest) = (
        local.div_euclid(86_400_000_000),
        local.rem_euclid(86_400_000_000),
    );
    let (s, us) = (rest / 1_000_000, rest % 1_000_000);
    let time = format!("{:02}:{:02}:{:02}.{us:06}", s / 3_600, s / 60 % 60, s % 60);
    format!("{} {time}{offset:+03}", civil(days as i32))
}

/// whole.fraction with four digits, in more or fewer zeros than needed.
fn numeric(whole: i64, fraction: u64, dice: &mut Dice) -> Part {
    let negative = whole < 0;
    let mut text = format!(
        "{}{}.{fraction:04}",
        if negative { "-" } else { "" },
        whole.abs()
    );
    match dice.below(3) {
        0 => text.push_str("000"),
        1 => text.truncate(text.trim_end_matches('0').trim_end_matches('.').len()),
        _ => {}
    }
    let scale = text.split_once('.').map_or(0, |(_, f)| f.len()) as i16;
    let mut digits = vec![whole.unsigned_abs() as u16];
    let mut weight = 0_i16;
    if scale > 0 {
        digits.push(fraction as u16);
    }
    if digits[0] == 0 {
        digits.remove(0);
        weight = -1;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    let sign: u16 = if negative { 0x4000 } else { 0 };
    if digits.is_empty() {
        weight = 0;
    }
    let mut binary = (digits.len() as i16).to_be_bytes().to_vec();
    binary.extend(weight.to_be_bytes());
    binary.extend(sign.to_be_bytes());
    binary.extend(scale.to_be_bytes());
    for digit in &digits {
        binary.extend(digit.to_be_bytes());
    }
    Part {
        text,
        binary,
        bare: true,
    }
}

fn keys(case: &Case, seed: u64) -> Vec<Key> {
    let mut dice = Dice(seed);
    let mut seen = HashSet::new();
    let make = |n| Key {
        parts: case.types.iter().map(|t| part(t, n, &mut dice)).collect(),
    };
    let all = (0..case.keys as u64).map(make);
    all.filter(|key| {
        seen.insert(
            key.parts
                .iter()
                .map(|p| p.binary.clone())
                .collect::<Vec<_>>(),
        )
    })
    .collect()
}

// ---- statements ----------------------------------------------------------------------------------

const WAYS: usize = 4;

/// The messages of one statement; `$1…` in the text are the key's columns.
fn messages(text: &str, key: &Key, way: usize, case: &Case, dice: &mut Dice) -> Vec<u8> {
    if way == 0 {
        let mut text = text.to_owned();
        for (n, part) in key.parts.iter().enumerate().rev() {
            // by position: the values themselves may hold a dollar sign
            text = text.replacen(&format!("${}", n + 1), &part.literal(dice), 1);
        }
        return raw::query(&text);
    }
    let types: Vec<u32> = match way {
        1 => Vec::new(),
        _ => case
            .types
            .iter()
            .map(|t| KeyType::of_name(t).expect("a key type").oid())
            .collect(),
    };
    let mut bytes = raw::parse("", text, &types);
    let values: Vec<(bool, &[u8])> = key
        .parts
        .iter()
        .map(|p| {
            if way == 1 || way == 2 {
                (false, p.text.as_bytes())
            } else {
                (true, &p.binary[..])
            }
        })
        .collect();
    bytes.extend(bind(&values));
    bytes.extend(raw::execute("", 0));
    bytes.extend(raw::sync());
    bytes
}

fn bind(values: &[(bool, &[u8])]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend((values.len() as i16).to_be_bytes());
    for (binary, _) in values {
        body.extend(i16::from(*binary).to_be_bytes());
    }
    body.extend((values.len() as i16).to_be_bytes());
    for (_, value) in values {
        body.extend((value.len() as i32).to_be_bytes());
        body.extend(*value);
    }
    body.extend([0, 0]);
    raw::message(b'B', &body)
}

/// Runs one statement for each of these keys, many under way at a time; what each answered is judged by `judge`.
fn run(
    client: &mut Raw,
    case: &Case,
    keys: &[(usize, Key)],
    shift: usize,
    text: impl Fn(usize) -> String,
    judge: impl Fn(usize, &raw::Answer),
) {
    let mut dice = Dice(keys.len() as u64);
    for some in keys.chunks(40) {
        let mut bytes = Vec::new();
        for (n, key) in some {
            bytes.extend(messages(
                &text(*n),
                key,
                (n + shift) % WAYS,
                case,
                &mut dice,
            ));
        }
        client.send(&bytes).expect("sent");
        for (n, key) in some {
            let answer = client.until_ready().expect("an answer");
            let shown: Vec<_> = key.parts.iter().map(|p| &p.text).collect();
            assert!(
                answer.error.is_none(),
                "{} {shown:?} way {}: {:?}",
                case.name(),
                (n + shift) % WAYS,
                answer.error
            );
            judge(*n, &answer);
        }
    }
}

// ---- the town ------------------------------------------------------------------------------------

struct Setting {
    town: Town,
    proxy: Proxy,
    keys: Vec<Vec<Key>>,
}

const DRAWN: &str = "
CREATE TABLE drawn_identity (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v bigint, note text DEFAULT 'none');
CREATE TABLE drawn_serial (id bigserial PRIMARY KEY, v bigint, note text DEFAULT 'none');
CREATE TABLE drawn_small (v bigint, id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, note text DEFAULT 'none');
CREATE TABLE drawn_always (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v bigint, note text DEFAULT 'none');
CREATE TABLE child (id bigint, parent bigint, PRIMARY KEY (parent, id));";

fn setting() -> &'static Setting {
    static SETTING: OnceLock<Setting> = OnceLock::new();
    SETTING.get_or_init(|| {
        let seed = std::env::var("PGSHUNT_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(u64::from(std::process::id()));
        println!("seed {seed} (PGSHUNT_SEED={seed} repeats it)");
        let town = Town::start("routing", 2, 1);
        let keys: Vec<Vec<Key>> = CASES.iter().enumerate().map(|(n, case)| keys(case, seed + n as u64)).collect();
        let mut tables = String::from("keyspaces:\n");
        let mut listed = String::from("tables:\n");
        for (case, keys) in CASES.iter().zip(&keys) {
            town.on_primaries(&case.table());
            let (name, types, columns) = (case.name(), case.types.join(", "), case.columns().join(", "));
            tables.push_str(&format!("  - name: {name}\n    type: [{types}]\n    {}\n", case.spread(keys)));
            listed.push_str(&format!("  - {{ name: {name}, keyspace: {name}, key: [{columns}] }}\n"));
        }
        town.on_primaries(DRAWN);
        tables.push_str("  - { name: drawn, type: bigint, hash: { buckets: 64 } }\n  - { name: drawn_int, type: integer, hash: { buckets: 64 } }\n");
        for table in ["identity", "serial", "always"] {
            listed.push_str(&format!("  - {{ name: drawn_{table}, keyspace: drawn, key: id }}\n"));
        }
        listed.push_str("  - { name: drawn_small, keyspace: drawn_int, key: id }\n  - { name: child, keyspace: drawn, key: parent }\n");
        town.catch_up();
        let map = Map::of(&town, 2, 1).tables(&(tables + &listed)).text();
        Setting { proxy: Proxy::start(&map), town, keys }
    })
}

fn client() -> Raw {
    Raw::connect(setting().proxy.port(), "app", "social").expect("pgshunt")
}

fn check(numbers: impl Iterator<Item = usize>) {
    let numbers: Vec<usize> = numbers.collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(n) =
                    numbers.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let outcome =
                        std::panic::catch_unwind(|| check_case(&CASES[*n], &setting().keys[*n]));
                    if let Err(panic) = outcome {
                        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                        failures
                            .lock()
                            .expect("no panic")
                            .push(format!("{}: {text}", CASES[*n].name()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check_case(case: &Case, keys: &[Key]) {
    let town = &setting().town;
    let name = case.name();
    let numbered: Vec<(usize, Key)> = keys.iter().cloned().enumerate().collect();
    let dollars: Vec<String> = (1..=case.types.len()).map(|n| format!("${n}")).collect();
    let before = town.calls(&format!("INSERT INTO {name} %"));
    let insert = |n| format!("INSERT INTO {name} VALUES ({}, {n})", dollars.join(", "));
    run(&mut client(), case, &numbered, 0, insert, |n, answer| {
        assert_eq!(answer.tags, ["INSERT 0 1"], "{n}");
    });
    let after = town.calls(&format!("INSERT INTO {name} %"));
    let calls: u64 = after.iter().zip(&before).map(|(a, b)| a - b).sum();
    assert_eq!(
        calls,
        keys.len() as u64,
        "{name}: each insert touched one server"
    );
    // read in another way than written
    let some: Vec<(usize, Key)> = numbered
        .into_iter()
        .step_by(keys.len().div_ceil(1_000))
        .collect();
    let condition: Vec<String> = case
        .columns()
        .iter()
        .zip(&dollars)
        .map(|(c, d)| format!("{c} = {d}"))
        .collect();
    let select = |_| format!("SELECT v FROM {name} WHERE {}", condition.join(" AND "));
    run(&mut client(), case, &some, 1, select, |n, answer| {
        assert_eq!(answer.value(), n.to_string());
    });
    let calls: u64 = town.calls(&format!("SELECT v FROM {name} %")).iter().sum();
    assert_eq!(
        calls,
        some.len() as u64,
        "{name}: each read touched one server"
    );
    check_places(case, keys);
}

/// Asks the shards themselves what they hold.
fn check_places(case: &Case, keys: &[Key]) {
    let town = &setting().town;
    let name = case.name();
    let counts = town.on_primaries(&format!("SELECT count(*) FROM {name}"));
    let counts: Vec<usize> = counts
        .iter()
        .map(|a| a.value().parse().expect("a count"))
        .collect();
    println!("{name}: {counts:?}");
    assert_eq!(
        counts.iter().sum::<usize>(),
        keys.len(),
        "{name}: on one shard only"
    );
    assert!(counts.iter().all(|c| *c > 0), "{name}: {counts:?}");
    for shard in 0..2 {
        let strangers = match case.kind {
            Kind::Xxh3 => by_xxh3(case, shard),
            Kind::Postgres => {
                let (low, high) = if shard == 0 {
                    (0, BORDER - 1)
                } else {
                    (BORDER, BUCKETS - 1)
                };
                let columns = case.columns().join(", ");
                direct_count(
                    shard,
                    &format!(
                        "{name} WHERE NOT EXISTS (SELECT FROM generate_series({low}, {high}) r WHERE satisfies_hash_partition('oracle_{name}'::regclass, {BUCKETS}, r, {columns}))"
                    ),
                )
            }
            Kind::Ranges => {
                let order = if case.types[0] == "text" {
                    " COLLATE \"C\""
                } else {
                    ""
                };
                let comparison = if shard == 0 { "<" } else { ">=" };
                direct_count(
                    shard,
                    &format!(
                        "{name} WHERE NOT k0 {comparison} '{}'{order}",
                        case.border()
                    ),
                )
            }
            Kind::List => direct_count(shard, &format!("{name} WHERE v % 2 <> {shard}")),
        };
        assert_eq!(
            strangers,
            0,
            "{name}: keys on s{} that belong elsewhere",
            shard + 1
        );
    }
}

fn direct_count(shard: usize, from: &str) -> usize {
    let answer = setting()
        .town
        .direct(shard, 0)
        .ask(&format!("SELECT count(*) FROM {from}"))
        .ok();
    answer.value().parse().expect("a count")
}

/// There is no second implementation of this one: the map's own arithmetic, on values as Postgres prints them.
fn by_xxh3(case: &Case, shard: usize) -> usize {
    let types: Vec<KeyType> = case
        .types
        .iter()
        .map(|t| KeyType::of_name(t).expect("a key type"))
        .collect();
    let buckets = (0..BUCKETS)
        .map(|b| ShardId(u16::from(b >= BORDER)))
        .collect();
    let keyspace = Keyspace {
        name: "k".into(),
        types: types.clone(),
        kind: KeyspaceKind::HashXxh3 { buckets },
    };
    let columns = case.columns().join(", ");
    let rows = setting()
        .town
        .direct(shard, 0)
        .ask(&format!("SELECT {columns} FROM {}", case.name()))
        .ok()
        .rows;
    let is_stranger = |row: &&raw::Row| {
        let parse = |(t, text): (&KeyType, &Option<String>)| {
            t.parse_text(text.as_deref().expect("a key").as_bytes())
                .expect("a value")
        };
        let values: Vec<_> = types.iter().zip(row.iter()).map(parse).collect();
        usize::from(keyspace.locate(&values).expect("a shard").0) != shard
    };
    rows.iter().filter(is_stranger).count()
}

#[test]
fn keys_spread_by_xxh3_are_where_the_map_says() {
    check((0..CASES.len()).filter(|n| CASES[*n].kind == Kind::Xxh3));
}

#[test]
fn keys_spread_by_postgres_hash_are_where_postgres_says() {
    check((0..CASES.len()).filter(|n| CASES[*n].kind == Kind::Postgres));
}

#[test]
fn keys_spread_by_range_and_list_are_where_the_map_says() {
    check((0..CASES.len()).filter(|n| matches!(CASES[*n].kind, Kind::Ranges | Kind::List)));
}

#[test]
fn a_key_that_no_list_holds_is_an_error_and_touches_nothing() {
    let mut client = client();
    let before = setting().town.calls("%list_text%");
    for sql in [
        "SELECT v FROM list_text WHERE k0 = 'unheard of'",
        "INSERT INTO list_text VALUES ('unheard of', 1)",
    ] {
        let answer = client.ask(sql);
        assert!(answer.error.is_some(), "{sql}: {answer:?}");
    }
    let answer = client.ask("INSERT INTO list_text VALUES (NULL, 1)");
    assert_eq!(answer.code(), "23502", "{answer:?}");
    let after = setting().town.calls("%list_text%");
    assert!(after.iter().sum::<u64>() - before.iter().sum::<u64>() <= 1);
}

// ---- keys drawn from the table's own sequence ----------------------------------------------------

const DRAWN_TABLES: [&str; 4] = [
    "drawn_identity",
    "drawn_serial",
    "drawn_small",
    "drawn_always",
];

#[test]
fn drawn_keys_are_unique_over_all_shards_and_routed() {
    let town = &setting().town;
    std::thread::scope(|scope| {
        for (worker, table) in DRAWN_TABLES.into_iter().cycle().take(8).enumerate() {
            scope.spawn(move || {
                let mut client = client();
                let mut returned = HashMap::new();
                for n in 0..40 {
                    let mark = (worker * 1000 + n) as i64;
                    for (id, v) in insert_drawn(&mut client, table, mark, n % 9) {
                        assert!(returned.insert(id, v).is_none(), "{table}: an id twice");
                    }
                }
                for (id, v) in &returned {
                    let answer = client
                        .ask(&format!("SELECT v FROM {table} WHERE id = {id}"))
                        .ok();
                    assert_eq!(answer.value(), v, "{table} {id}");
                    client
                        .ask(&format!(
                            "INSERT INTO child VALUES ({worker}, {id}) ON CONFLICT DO NOTHING"
                        ))
                        .ok();
                }
            });
        }
    });
    for table in DRAWN_TABLES {
        let answers = town.on_primaries(&format!("SELECT id FROM {table}"));
        let shards: Vec<HashSet<_>> = answers
            .into_iter()
            .map(|a| a.rows.into_iter().map(|r| r[0].clone()).collect())
            .collect();
        println!("{table}: {} and {} rows", shards[0].len(), shards[1].len());
        assert!(
            shards.iter().all(|ids| ids.len() > 10),
            "{table} uses both shards"
        );
        assert!(
            shards[0].is_disjoint(&shards[1]),
            "{table}: ids on both shards"
        );
    }
    // children lie with their parents
    let orphans = "SELECT count(*) FROM child c WHERE NOT EXISTS (SELECT FROM drawn_identity p WHERE p.id = c.parent)
        AND NOT EXISTS (SELECT FROM drawn_serial p WHERE p.id = c.parent) AND NOT EXISTS (SELECT FROM drawn_always p WHERE p.id = c.parent)
        AND c.id IN (0, 1, 3, 4, 5, 7)";
    for answer in town.on_primaries(orphans) {
        assert_eq!(answer.value(), "0");
    }
}

/// One INSERT without its key, in one of nine forms; the ids and values that came back.
fn insert_drawn(client: &mut Raw, table: &str, mark: i64, form: usize) -> Vec<(String, String)> {
    let v = mark.to_string();
    let expected = if form == 2 || form == 5 { 3 } else { 1 };
    let three = format!("({mark}), ({mark}), ({mark})");
    let answer = match form {
        0 => client.query(&format!(
            "INSERT INTO {table} (v) VALUES ({mark}) RETURNING id, v"
        )),
        1 => client.query(&format!(
            "INSERT INTO {table} (id, v) VALUES (DEFAULT, {mark}) RETURNING id, v"
        )),
        2 => client.query(&format!(
            "INSERT INTO {table} (v) VALUES {three} RETURNING id, v"
        )),
        3 => client.extended(
            &format!("INSERT INTO {table} (v) VALUES ($1) RETURNING id, v"),
            &[],
            &[Some(&v)],
        ),
        4 => client.extended(
            &format!("INSERT INTO {table} (v, note) VALUES ($2, $1) RETURNING id, v"),
            &[25, 20],
            &[Some("n"), Some(&v)],
        ),
        5 => client.extended(
            &format!("INSERT INTO {table} (v) VALUES ($1), ($1), ($2) RETURNING id, v"),
            &[],
            &[Some(&v), Some(&v)],
        ),
        6 => client.extended(
            &format!("INSERT INTO {table} (v, id) VALUES ($1, DEFAULT) RETURNING id, v"),
            &[],
            &[Some(&v)],
        ),
        7 => client.query(&format!(
            "INSERT INTO {table} (v) VALUES ({mark}) ON CONFLICT DO NOTHING RETURNING id, v"
        )),
        _ => client.query(&format!(
            "INSERT INTO {table} AS t (v, note) VALUES ({mark}, 'it''s') RETURNING t.id, v"
        )),
    };
    let answer = answer.expect("an answer");
    // an identity that is ALWAYS generated takes no value: refusing is right where drawing is not
    if table == "drawn_always" && answer.code() == "0A000" {
        return Vec::new();
    }
    let rows = answer.ok().rows;
    assert_eq!(rows.len(), expected, "{table} form {form}");
    rows.into_iter()
        .map(|row| {
            assert_eq!(row[1].as_deref(), Some(v.as_str()));
            (row[0].clone().expect("an id"), v.clone())
        })
        .collect()
}

#[test]
fn a_prepared_insert_draws_a_new_key_each_time() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let client = setting().proxy.connect("app", "social").await;
        let insert = client
            .prepare("INSERT INTO drawn_identity (v, note) VALUES ($1, $2) RETURNING id, note")
            .await
            .expect("prepared");
        assert_eq!(
            insert.params().len(),
            2,
            "the drawn key is not one of the client's parameters"
        );
        let read = client
            .prepare("SELECT v FROM drawn_identity WHERE id = $1")
            .await
            .expect("prepared");
        let mut ids = HashSet::new();
        for n in 0..60_i64 {
            let row = client
                .query_one(&insert, &[&n, &format!("note {n}")])
                .await
                .expect("inserted");
            let id: i64 = row.get(0);
            assert!(ids.insert(id), "{id} twice");
            assert_eq!(row.get::<_, String>(1), format!("note {n}"));
            assert_eq!(
                client
                    .query_one(&read, &[&id])
                    .await
                    .expect("read")
                    .get::<_, i64>(0),
                n
            );
        }
    });
}

#[test]
fn a_drawn_key_and_its_children_fit_in_one_transaction() {
    let mut client = client();
    for n in 0..30 {
        client.ask("BEGIN").ok();
        let id = client
            .ask(&format!(
                "INSERT INTO drawn_serial (v) VALUES ({n}) RETURNING id"
            ))
            .ok()
            .value()
            .to_owned();
        client
            .ask(&format!(
                "INSERT INTO child VALUES (100, {id}), (101, {id})"
            ))
            .ok();
        let joined = format!(
            "SELECT count(*) FROM drawn_serial p JOIN child c ON c.parent = p.id WHERE p.id = {id}"
        );
        assert_eq!(client.ask(&joined).ok().value(), "2");
        client.ask("COMMIT").ok();
    }
}
