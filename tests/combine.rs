//! SELECTs over three shards whose rows pgshunt puts together, beside one Postgres that has all the rows: what comes back is
//! the same, bytes and order, in the simple and the extended protocol, in text and in binary. Every type has its NULLs,
//! ties, and ends. Statements that must be combined are named; random ones may also be refused.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use support::cluster::Proxy;
use support::raw::{Answer, Raw, bind, execute, message, parse, sync};
use support::town::{Dice, Town};

const TABLES: &str = "\
keyspaces:
  - name: by_id
    type: bigint
    ranges:
      - { shard: s1, to: 1000 }
      - { shard: s2, from: 1000, to: 2000 }
      - { shard: s3, from: 2000 }
tables:
  - { name: things, keyspace: by_id, key: id }
  - { name: parts, keyspace: by_id, key: thing }
  - { name: numbers, keyspace: by_id, key: id }
  - { name: nothing, keyspace: by_id, key: id }
reference_tables: [kinds]
";

const SCHEMA: &str = "\
CREATE TABLE things (id bigint PRIMARY KEY, owner int, kind text, code text COLLATE \"C\", short varchar(9) COLLATE \"C\",
  small smallint, whole int, big bigint, amount numeric, price numeric(12,2), f4 real, f8 float8, flag bool,
  d date, t time, tz timetz, ts timestamp, tstz timestamptz, iv interval, u uuid, b bytea, o oid);
CREATE TABLE parts (thing bigint, id int, label text, qty int, cost numeric, PRIMARY KEY (thing, id));
CREATE TABLE numbers (id bigint PRIMARY KEY, g int, i2 smallint, i4 int, i8 bigint, n numeric);
CREATE TABLE nothing (id bigint PRIMARY KEY, n int, x numeric, d date);
CREATE TABLE kinds (kind text PRIMARY KEY, title text);
INSERT INTO kinds SELECT 'k' || i, 'kind ' || i FROM generate_series(0, 9) i;";

/// Keys that one shard has.
const RANGES: [(i64, i64); 3] = [(700, 1000), (1000, 1300), (2000, 2200)];

/// The rows with these keys, the same wherever they are made.
fn rows(from: i64, to: i64) -> String {
    let h = |salt: &str| format!("abs(('x' || substr(md5(i || '{salt}'), 1, 7))::bit(28)::int)");
    let or_null =
        |salt: &str, value: String| format!("CASE WHEN {} % 7 > 0 THEN {value} END", h(salt));
    let things = [
        "i".to_owned(),
        format!("{} % 20", h("owner")),
        or_null("k", format!("'k' || {} % 11", h("kind"))),
        or_null(
            "c",
            format!(
                "substr(md5(i || 'code'), 1, 1 + {} % 3) || CASE {} % 3 WHEN 0 THEN 'Z' WHEN 1 THEN 'ä' ELSE '' END",
                h("c1"),
                h("c2")
            ),
        ),
        or_null("sh", format!("chr(60 + {} % 60)", h("short"))),
        or_null("s", format!("({} % 200 - 100)::smallint", h("small"))),
        or_null(
            "w",
            format!(
                "({} % 50 - 25) * CASE {} % 9 WHEN 0 THEN 80000000 ELSE 1 END",
                h("whole"),
                h("w2")
            ),
        ),
        or_null(
            "bg",
            format!("({} - 100000000)::bigint * {}", h("big"), h("b2")),
        ),
        or_null(
            "am",
            format!(
                "CASE {} % 40 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' WHEN 2 THEN '-Infinity' ELSE round(({} - 130000000) / (10.0 ^ ({} % 12)), {} % 9) END",
                h("a0"),
                h("a1"),
                h("a2"),
                h("a3")
            ),
        ),
        or_null("pr", format!("({} % 1000 - 500) / 100.0", h("price"))),
        or_null(
            "f",
            format!(
                "CASE {} % 30 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' WHEN 2 THEN 'Infinity' WHEN 3 THEN '0' ELSE ({} - 130000000) / 7777.0 END::real",
                h("f0"),
                h("f1")
            ),
        ),
        or_null(
            "g",
            format!(
                "CASE {} % 30 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' WHEN 2 THEN '-Infinity' WHEN 3 THEN '0' ELSE ({} - 130000000) / 7777.0 END::float8",
                h("g0"),
                h("g1")
            ),
        ),
        or_null("fl", format!("{} % 2 = 0", h("flag"))),
        or_null(
            "d",
            format!(
                "CASE {} % 50 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity' WHEN 2 THEN '0044-03-15 BC' ELSE date '1990-01-01' + {} % 9000 END",
                h("d0"),
                h("d1")
            ),
        ),
        or_null(
            "t",
            format!(
                "time '00:00' + {} % 86400000 * interval '1 millisecond'",
                h("t1")
            ),
        ),
        or_null(
            "z",
            format!(
                "(({} % 24) || ':00:00' || CASE {} % 3 WHEN 0 THEN '+00' WHEN 1 THEN '+02' ELSE '-05:30' END)::timetz",
                h("z0"),
                h("z1")
            ),
        ),
        or_null(
            "ts",
            format!(
                "CASE {} % 50 WHEN 0 THEN 'infinity' ELSE timestamp '2000-01-01' + {} * interval '17 second' END",
                h("ts0"),
                h("ts1")
            ),
        ),
        or_null(
            "tt",
            format!(
                "timestamptz '2021-10-31 00:00+00' + {} % 20000 * interval '1 minute'",
                h("tstz")
            ),
        ),
        or_null(
            "iv",
            format!(
                "CASE {} % 3 WHEN 0 THEN {} % 4 * interval '1 month' WHEN 1 THEN {} % 100 * interval '1 day' ELSE {} % 900000 * interval '-1 second' END",
                h("i0"),
                h("i1"),
                h("i2"),
                h("i3")
            ),
        ),
        or_null("u", "md5(i || 'uuid')::uuid".to_owned()),
        or_null(
            "b",
            format!(
                "decode(substr(md5(i || 'bytea'), 1, 2 * ({} % 5)), 'hex')",
                h("bl")
            ),
        ),
        or_null("o", format!("({}::bigint * 16)::oid", h("oid"))),
    ];
    format!(
        "INSERT INTO things SELECT {} FROM generate_series({from}, {to} - 1) i;
         INSERT INTO parts SELECT i, n, 'part ' || {} % 5, nullif({} % 12, 3), ({} % 3000) / 100.0
           FROM generate_series({from}, {to} - 1) i, generate_series(1, i % 4) n;
         INSERT INTO numbers SELECT i, {} % 150, ({} % 65536 - 32768)::smallint, {} * 8 - 1073741824, ({} - 130000000)::bigint * {} * 30,
           round(({} - 130000000)::numeric * {} / (10.0 ^ ({} % 25)), {} % 20)
           FROM generate_series({from}::bigint, {from} + ({to} - {from}) * 3 - 1) i WHERE i < {to} OR {from} = 2000;",
        things.join(", "),
        h("label"), h("qty"), h("cost"), h("g"), h("n2"), h("n4"), h("n8"), h("n9"), h("n10"), h("n11"), h("n12"), h("n13"),
    )
}

struct Pair {
    plain: Raw,
    sharded: Raw,
    compared: usize,
    refused: usize,
    differences: Vec<String>,
}

/// How a statement is asked.
#[derive(Clone, Copy, Debug)]
enum Way {
    Simple,
    /// Parse, Bind, Describe, Execute, Sync with these result formats
    Extended(&'static [u16]),
}

const WAYS: [Way; 3] = [Way::Simple, Way::Extended(&[]), Way::Extended(&[1])];

fn start(name: &str, replicas: usize) -> (Town, Proxy, Pair) {
    let town = Town::start(name, 3, replicas);
    town.superuser(0, 0, "postgres")
        .ask("CREATE DATABASE plain OWNER app")
        .ok();
    let mut plain = Raw::connect(town.port(0, 0), "app", "plain").expect("the one Postgres");
    plain.ask(SCHEMA).ok();
    for (shard, (from, to)) in RANGES.into_iter().enumerate() {
        let sql = rows(from, to);
        plain.ask(&sql).ok();
        let mut direct = town.direct(shard, 0);
        direct.ask(SCHEMA).ok();
        direct.ask(&sql).ok();
    }
    town.on_primaries("ANALYZE");
    town.catch_up();
    let proxy = Proxy::start(&town.cluster.map_with(TABLES));
    let sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    let pair = Pair {
        plain,
        sharded,
        compared: 0,
        refused: 0,
        differences: Vec::new(),
    };
    (town, proxy, pair)
}

fn ask(raw: &mut Raw, sql: &str, values: &[Option<&str>], way: Way) -> Seen {
    let bytes = match way {
        Way::Simple => support::raw::query(sql),
        Way::Extended(formats) => {
            let mut bound = bind("", "", values);
            bound.truncate(bound.len() - 2);
            bound.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
            for format in formats {
                bound.extend(format.to_be_bytes());
            }
            let length = u32::try_from(bound.len() - 1).unwrap();
            bound[1..5].copy_from_slice(&length.to_be_bytes());
            let describe = message(b'D', b"P\0");
            let parts = [parse("", sql, &[]), bound, describe, execute("", 0), sync()];
            parts.concat()
        }
    };
    raw.send(&bytes).expect("it is sent");
    let mut seen = Seen::default();
    loop {
        let message = raw.receive().expect("an answer");
        match message.tag {
            b'T' => seen.description = described(&message.body),
            b'D' => seen.rows.push(message.body),
            b'C' => seen.tag = String::from_utf8_lossy(&message.body).into_owned(),
            b'E' => {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                seen.code = field(&text, 'C');
                seen.error = text.replace('\0', "|");
            }
            b'Z' => return seen,
            _ => {}
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// name, type, modifier, format of each column
    description: Vec<(String, Vec<u8>)>,
    rows: Vec<Vec<u8>>,
    tag: String,
    code: String,
    error: String,
}

fn field(error: &str, kind: char) -> String {
    let found = error.split('\0').find(|field| field.starts_with(kind));
    found.map(|field| field[1..].to_owned()).unwrap_or_default()
}

fn described(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut columns = Vec::new();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == 0).expect("a name");
        let name = String::from_utf8_lossy(&rest[..end]).into_owned();
        // the table's number differs
        columns.push((name, rest[end + 7..end + 19].to_vec()));
        rest = &rest[end + 19..];
    }
    columns
}

impl Pair {
    /// The same answer; `ordered`: also in the order of its rows. A refusal is counted.
    fn compare(&mut self, sql: &str, values: &[Option<&str>], ordered: bool, way: Way) -> bool {
        let mut through = ask(&mut self.sharded, sql, values, way);
        if through.code == "0A000" {
            self.refused += 1;
            return false;
        }
        let mut direct = ask(&mut self.plain, sql, values, way);
        self.compared += 1;
        if !ordered {
            through.rows.sort();
            direct.rows.sort();
        }
        (through.error, direct.error) = (String::new(), String::new());
        for seen in [&mut through, &mut direct] {
            // how much was shown before an error is chance
            if !seen.code.is_empty() {
                seen.rows.clear();
                seen.description.clear();
            }
        }
        if through != direct {
            let show = |seen: &Seen| {
                let rows = seen.rows.iter().take(12);
                let rows: Vec<_> = rows.map(|row| String::from_utf8_lossy(row)).collect();
                format!(
                    "{} {} {} rows {rows:?} {:?}",
                    seen.code,
                    seen.tag,
                    seen.rows.len(),
                    seen.description
                )
            };
            let (here, there) = (show(&through), show(&direct));
            self.differences
                .push(format!("{way:?} {sql}\n  here  {here}\n  there {there}"));
        }
        true
    }

    /// In every way, and never refused.
    #[track_caller]
    fn same(&mut self, sql: &str, ordered: bool) {
        for way in WAYS {
            let answered = self.compare(sql, &[], ordered, way);
            if !answered {
                let why = ask(&mut self.sharded, sql, &[], way).error;
                self.differences.push(format!("refused: {sql}\n  {why}"));
                return;
            }
        }
    }

    fn with(&mut self, sql: &str, values: &[Option<&str>], ordered: bool) {
        for formats in [&[][..], &[1]] {
            let answered = self.compare(sql, values, ordered, Way::Extended(formats));
            if !answered {
                self.differences.push(format!("refused: {sql} {values:?}"));
            }
        }
    }

    #[track_caller]
    fn report(self) {
        let shown: Vec<String> = self.differences.iter().take(25).cloned().collect();
        println!("{} compared, {} refused", self.compared, self.refused);
        assert!(
            shown.is_empty(),
            "{} differences:\n{}",
            self.differences.len(),
            shown.join("\n")
        );
    }
}

const EXACT: [&str; 19] = [
    "id", "owner", "code", "short", "small", "whole", "big", "amount", "price", "f4", "f8", "flag",
    "d", "t", "tz", "ts", "tstz", "iv", "u",
];

#[test]
fn what_is_combined_is_what_one_postgres_gives() {
    let (_town, _proxy, mut pair) = start("combine", 0);
    orders(&mut pair);
    settings(&mut pair);
    limits(&mut pair);
    aggregates(&mut pair);
    groups(&mut pair);
    whole(&mut pair);
    distinct(&mut pair);
    empty(&mut pair);
    protocol(&mut pair);
    transactions(&mut pair);
    gathered(&mut pair);
    let seed = std::env::var("PGSHUNT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    random(
        &mut pair,
        seed.unwrap_or_else(|| u64::from(std::process::id())),
    );
    pair.report();
}

fn orders(pair: &mut Pair) {
    for key in EXACT.iter().chain(&["b", "o"]) {
        for how in ["", "DESC", "NULLS FIRST", "DESC NULLS LAST"] {
            pair.same(
                &format!("SELECT id, {key} FROM things ORDER BY {key} {how}, id"),
                true,
            );
            pair.same(
                &format!("SELECT id FROM things ORDER BY {key} {how}, id DESC"),
                true,
            );
        }
        pair.same(
            &format!("SELECT * FROM things ORDER BY {key}, things.id LIMIT 40"),
            true,
        );
    }
    for sql in [
        "SELECT code, id FROM things ORDER BY 1, 2",
        "SELECT id AS whole, whole AS id FROM things ORDER BY whole",
        "SELECT whole AS w, id FROM things ORDER BY w DESC NULLS LAST, things.id",
        "SELECT t.\"id\", t.kind FROM things t ORDER BY t.kind COLLATE \"C\", t.id",
        "SELECT kind FROM things ORDER BY kind COLLATE \"C\" DESC, id LIMIT 33",
        "SELECT t.id, p.id, p.qty FROM things t JOIN parts p ON p.thing = t.id ORDER BY p.qty DESC, t.id, p.id",
        "SELECT t.id, p.id, p.cost FROM things t LEFT JOIN parts p ON p.thing = t.id ORDER BY p.cost NULLS FIRST, t.id, p.id",
        "SELECT t.id, k.title FROM things t JOIN kinds k ON k.kind = t.kind ORDER BY t.big, t.id",
        "SELECT id FROM things t WHERE EXISTS (SELECT 1 FROM parts p WHERE p.thing = t.id AND p.qty > 3) ORDER BY whole, id",
        "SELECT id FROM things t WHERE NOT EXISTS (SELECT 1 FROM parts p WHERE p.thing = t.id) ORDER BY ts DESC, id",
        "SELECT id, (SELECT count(*) FROM parts p WHERE p.thing = t.id) FROM things t ORDER BY d, id",
        "WITH x AS (SELECT id, price FROM things WHERE price > 1) SELECT * FROM x ORDER BY price DESC, id",
        "SELECT id, whole IS DISTINCT FROM 3 AS \"from\" FROM things ORDER BY flag, id -- the end",
        "SELECT id, 'a;b' AS s /* not , the end */ FROM things WHERE kind <> 'it''s' AND whole < 12 ORDER BY /* x */ f8 /* y */ , id",
        "SELECT id FROM things WHERE id IN (800, 1100, 2100) ORDER BY code, id",
        "SELECT id FROM things WHERE id = ANY ('{801,1101,2101}') ORDER BY amount DESC",
        "(SELECT id FROM things ORDER BY id LIMIT 3)",
    ] {
        if sql.starts_with('(') {
            pair.compare(sql, &[], true, Way::Simple);
        } else {
            pair.same(sql, true);
        }
    }
}

/// What settings change in the texts of values must not change their order.
fn settings(pair: &mut Pair) {
    for (set, reset) in [
        ("SET DateStyle = 'SQL, DMY'", "RESET DateStyle"),
        ("SET DateStyle = 'German'", "RESET DateStyle"),
        ("SET TimeZone = 'Europe/Moscow'", "RESET TimeZone"),
        ("SET IntervalStyle = 'iso_8601'", "RESET IntervalStyle"),
        ("SET extra_float_digits = -12", "RESET extra_float_digits"),
        ("SET bytea_output = 'escape'", "RESET bytea_output"),
    ] {
        both(pair, set);
        for key in ["d", "ts", "tstz", "tz", "iv", "f4", "f8", "b"] {
            pair.same(
                &format!("SELECT {key}, id FROM things ORDER BY {key} DESC, id"),
                true,
            );
        }
        for sql in [
            "SELECT tstz, count(*) FROM things GROUP BY tstz",
            "SELECT min(d), max(ts), min(tstz), max(iv), min(f8), max(f4) FROM things",
            "SELECT DISTINCT tstz, d FROM things",
        ] {
            pair.same(sql, false);
        }
        both(pair, reset);
    }
    both(pair, "SET client_encoding = 'LATIN1'");
    pair.same("SELECT id FROM things ORDER BY whole, id", true);
    // text is compared in another encoding: PostgreSQL does it
    pair.same("SELECT code, id FROM things ORDER BY code, id", true);
    pair.same("SELECT min(code), max(code) FROM things", true);
    pair.same("SELECT DISTINCT code FROM things ORDER BY code", true);
    both(pair, "RESET client_encoding");
}

fn both(pair: &mut Pair, sql: &str) {
    pair.plain.ask(sql).ok();
    pair.sharded.ask(sql).ok();
}

fn limits(pair: &mut Pair) {
    for amounts in [
        "LIMIT 0",
        "LIMIT 1",
        "LIMIT 10",
        "LIMIT 700",
        "LIMIT 5000",
        "LIMIT 10 OFFSET 5",
        "OFFSET 790 LIMIT 20",
        "OFFSET 3",
        "LIMIT ALL",
        "LIMIT NULL",
        "LIMIT ALL OFFSET 7",
        "LIMIT 3 OFFSET NULL",
        "FETCH FIRST 3 ROWS ONLY",
        "FETCH NEXT ROW ONLY",
        "OFFSET 2 ROWS FETCH FIRST 4 ROWS ONLY",
        "LIMIT 9223372036854775807 OFFSET 9223372036854775807",
        "OFFSET 100000",
    ] {
        pair.same(
            &format!("SELECT id, code FROM things ORDER BY whole, id {amounts}"),
            true,
        );
        pair.same(&format!("SELECT 1 FROM things {amounts}"), true);
        pair.same(
            &format!("SELECT owner, count(*) FROM things GROUP BY owner ORDER BY owner {amounts}"),
            true,
        );
    }
    for sql in [
        "SELECT id FROM things ORDER BY id LIMIT -1",
        "SELECT id FROM things ORDER BY id LIMIT 2 OFFSET -1",
    ] {
        pair.compare(sql, &[], true, Way::Simple);
    }
    let two = "SELECT id FROM things WHERE whole < 20 ORDER BY price, id LIMIT $1 OFFSET $2";
    for values in [
        [Some("10"), Some("0")],
        [Some("10"), Some("5")],
        [None, Some("5")],
        [Some("5"), None],
        [None, None],
        [Some("0"), Some("0")],
        [Some("-1"), Some("0")],
        [Some("3"), Some("-2")],
        [Some("-3"), Some("-2")],
        [Some("x"), Some("0")],
        [Some(" 7 "), Some("+1")],
        [Some("9223372036854775807"), Some("9223372036854775807")],
        [Some("9223372036854775808"), Some("1")],
    ] {
        pair.with(two, &values, true);
        pair.with(
            "SELECT owner, count(*) FROM things GROUP BY owner ORDER BY owner LIMIT $1 OFFSET $2",
            &values,
            true,
        );
    }
    for value in [Some("4"), None, Some("-4"), Some("")] {
        pair.with(
            "SELECT id FROM things ORDER BY price, id LIMIT $1",
            &[value],
            true,
        );
        pair.with(
            "SELECT id FROM things ORDER BY price, id OFFSET $1",
            &[value],
            true,
        );
        pair.with(
            "SELECT id FROM things ORDER BY price, id FETCH FIRST $1 ROWS ONLY",
            &[value],
            true,
        );
        pair.with(
            "SELECT id FROM things ORDER BY price, id OFFSET $1 LIMIT 5",
            &[value],
            true,
        );
        pair.with(
            "SELECT id FROM things ORDER BY price, id LIMIT $1 OFFSET 5",
            &[value],
            true,
        );
    }
}

fn aggregates(pair: &mut Pair) {
    for sql in [
        "SELECT count(*) FROM things",
        "SELECT count(*), count(kind), count(lower(kind)), count(DISTINCT id) AS ids FROM things",
        "SELECT sum(small), sum(whole), sum(big), sum(price), sum(amount) FROM things",
        "SELECT avg(small), avg(whole), avg(big), avg(price), avg(amount) FROM things",
        "SELECT min(small), max(whole), min(big), max(price), min(amount), max(amount), min(code), max(short) FROM things",
        "SELECT min(f4), max(f8), min(d), max(t), min(tz), max(ts), min(tstz), max(iv), min(o) FROM things",
        "SELECT bool_and(flag), bool_or(flag), every(id > 3), bit_and(whole), bit_or(small), bit_xor(big) FROM things",
        "SELECT sum(whole) FILTER (WHERE kind = 'k1'), avg(big) FILTER (WHERE flag), count(*) FILTER (WHERE whole > 100000) FROM things",
        "SELECT sum(small * owner), sum(price * 2), avg(coalesce(whole, 0) + 1), sum(CASE WHEN flag THEN 1 ELSE 0 END) FROM things",
        "SELECT sum(whole::numeric / 7), max(-whole), sum(CASE WHEN kind = 'k2' THEN price END) FROM things WHERE kind <> 'k3' AND id > 750",
        "SELECT count(*) AS n, 'it', 7 FROM things t JOIN parts p ON p.thing = t.id",
        "SELECT sum(p.cost), count(DISTINCT t.id) FROM things t LEFT JOIN parts p ON p.thing = t.id",
        "SELECT COUNT(*), Sum(\"whole\") AS \"FROM\" FROM things ORDER BY 1 LIMIT 5",
        "SELECT avg(i2), avg(i4), avg(i8), avg(n), sum(n), sum(i8) FROM numbers",
        "SELECT pg_catalog.count(*), pg_catalog.avg(price) FROM things",
    ] {
        pair.same(sql, true);
    }
}

fn groups(pair: &mut Pair) {
    for sql in [
        "SELECT kind, count(*) FROM things GROUP BY kind",
        "SELECT count(*) FROM things GROUP BY kind",
        "SELECT kind AS k, avg(price), sum(big), min(code), max(tstz) FROM things GROUP BY k",
        "SELECT owner, flag, count(*), avg(amount) FROM things GROUP BY 1, 2",
        "SELECT d, count(*) FROM things GROUP BY d",
        "SELECT ts, tstz, count(*) FROM things WHERE id < 1100 GROUP BY ts, tstz",
        "SELECT u, b, count(*) FROM things GROUP BY u, b",
        "SELECT t.kind, k.title, sum(p.qty) FROM things t JOIN parts p ON p.thing = t.id JOIN kinds k ON k.kind = t.kind GROUP BY t.kind, k.title",
        "SELECT g, count(*), avg(i2), avg(i4), avg(i8), avg(n), sum(n), sum(i4), sum(i8), max(n) FROM numbers GROUP BY g",
        "SELECT i2, avg(n), sum(n) FROM numbers GROUP BY i2",
        "SELECT label, sum(cost) FROM parts GROUP BY label LIMIT 100",
    ] {
        pair.same(sql, false);
    }
    for sql in [
        "SELECT owner, count(*) FROM things GROUP BY owner ORDER BY owner DESC",
        "SELECT owner, count(*) AS n FROM things GROUP BY owner ORDER BY n DESC, owner LIMIT 7 OFFSET 2",
        "SELECT owner, avg(price) FROM things GROUP BY owner ORDER BY avg(price) DESC NULLS LAST, 1",
        "SELECT owner, max(d), min(tstz) AS first FROM things GROUP BY owner ORDER BY 2 DESC, first, owner",
        "SELECT d, sum(whole) FROM things GROUP BY d ORDER BY d NULLS FIRST LIMIT 30",
        "SELECT code, count(*) FROM things GROUP BY code ORDER BY count(*) DESC, code",
        "SELECT date_trunc('month', tstz) AS month, count(*) FROM things GROUP BY 1 ORDER BY 1",
        "SELECT ts::date AS day, avg(price), max(code) FROM things GROUP BY day ORDER BY day DESC LIMIT 40",
        "SELECT date(tstz), whole % 3, count(*) FROM things GROUP BY date(tstz), whole % 3 ORDER BY 2, 1",
        "SELECT owner / 2 AS half, sum(whole) FROM things GROUP BY half ORDER BY half",
        "SELECT DISTINCT ts::date FROM things ORDER BY 1",
        "SELECT sum(price) AS total, owner FROM things GROUP BY owner ORDER BY total, owner FETCH FIRST 5 ROWS ONLY",
        "SELECT owner, sum(price * (1 - small)) AS revenue FROM things GROUP BY owner ORDER BY revenue DESC, owner",
    ] {
        pair.same(sql, true);
    }
}

/// Each shard's own groups are whole.
fn whole(pair: &mut Pair) {
    for sql in [
        "SELECT thing, count(*), string_agg(label, ',' ORDER BY id), avg(qty::float8) FROM parts GROUP BY thing",
        "SELECT thing, sum(qty) FROM parts GROUP BY thing HAVING count(*) > 2 ORDER BY thing",
        "SELECT thing, label, count(*) FROM parts GROUP BY 1, 2 ORDER BY thing DESC, 3 DESC, label COLLATE \"C\" LIMIT 20",
        "SELECT t.id, t.kind, count(p.id) AS n FROM things t LEFT JOIN parts p ON p.thing = t.id GROUP BY t.id ORDER BY n DESC, t.id LIMIT 15",
        "SELECT DISTINCT thing FROM parts",
        "SELECT DISTINCT thing, label FROM parts ORDER BY thing",
        "SELECT DISTINCT ON (thing) thing, label FROM parts ORDER BY thing, id DESC",
        "SELECT thing, id, row_number() OVER (PARTITION BY thing ORDER BY id DESC) FROM parts",
        "SELECT thing, id, sum(qty) OVER (PARTITION BY thing) AS s FROM parts ORDER BY thing, id LIMIT 11",
        "SELECT thing, max(cost) AS m FROM parts GROUP BY thing ORDER BY m DESC, thing LIMIT 9",
        "SELECT t.id, max(t.tstz) FROM things t GROUP BY t.id ORDER BY max(t.tstz), t.id",
    ] {
        let total = sql.contains("ORDER BY") && !sql.contains("label FROM parts ORDER BY thing\"");
        pair.same(
            sql,
            total && !sql.ends_with("ORDER BY thing") && !sql.contains("string_agg"),
        );
    }
}

fn distinct(pair: &mut Pair) {
    for sql in [
        "SELECT DISTINCT kind FROM things",
        "SELECT DISTINCT flag, owner FROM things",
        "SELECT DISTINCT d, ts FROM things",
        "SELECT DISTINCT label FROM parts WHERE qty > 2",
        "SELECT DISTINCT kind FROM things LIMIT 100",
    ] {
        pair.same(sql, false);
    }
    for sql in [
        "SELECT DISTINCT owner FROM things ORDER BY owner DESC",
        "SELECT DISTINCT owner, flag FROM things ORDER BY flag, 1 LIMIT 10 OFFSET 3",
        "SELECT DISTINCT d FROM things ORDER BY d LIMIT 50",
        "SELECT DISTINCT whole AS w, small FROM things ORDER BY w NULLS FIRST, small",
    ] {
        pair.same(sql, true);
    }
}

fn empty(pair: &mut Pair) {
    for sql in [
        "SELECT count(*), count(n), sum(n), avg(x), min(d), max(x), bool_and(n > 0), bit_or(n) FROM nothing",
        "SELECT n, count(*) FROM nothing GROUP BY n",
        "SELECT * FROM nothing ORDER BY d, id LIMIT 3",
        "SELECT DISTINCT n FROM nothing ORDER BY n",
        "SELECT count(*), sum(whole), min(code), avg(price) FROM things WHERE id >= 2000 AND id < 2005",
        "SELECT sum(whole), avg(whole), min(d) FROM things WHERE id < 0",
        "SELECT owner, avg(price) FROM things WHERE id > 2150 GROUP BY owner ORDER BY owner",
        "SELECT count(*) FROM things WHERE id = NULL",
    ] {
        pair.same(sql, true);
    }
}

/// Formats column by column, mistakes, statements used again.
fn protocol(pair: &mut Pair) {
    for formats in [&[0, 1, 0][..], &[1, 0, 1], &[1, 1, 1], &[0, 0, 0]] {
        for sql in [
            "SELECT id, d, f8 FROM things ORDER BY f8, d DESC, id",
            "SELECT owner, avg(price), sum(whole) FROM things GROUP BY owner ORDER BY 2, 1",
            "SELECT owner, max(ts), bool_or(flag) FROM things GROUP BY owner ORDER BY owner",
        ] {
            pair.compare(sql, &[], true, Way::Extended(formats));
        }
    }
    for formats in [&[0, 1][..], &[1, 1, 1, 1]] {
        pair.compare(
            "SELECT id, d, f8 FROM things ORDER BY f8, id",
            &[],
            true,
            Way::Extended(formats),
        );
    }
    for sql in [
        "SELECT id, whole / 0 FROM things ORDER BY id",
        "SELECT id FROM things WHERE 1 / (id - 1100) > 5 ORDER BY whole",
        "SELECT sum(whole / (id - 2100)) FROM things",
        "SELECT nosuch FROM things ORDER BY id",
        "SELECT id FROM things ORDER BY nosuch",
        "SELECT id FROM things ORDER BY 2",
        "SELECT kind, count(*) FROM things",
        "SELECT kind, whole FROM things GROUP BY kind",
        "SELECT max(flag) FROM things",
        "SELECT DISTINCT owner FROM things ORDER BY whole",
        "SELECT DISTINCT thing, label FROM parts ORDER BY qty",
        "SELECT DISTINCT * FROM parts ORDER BY cost, thing, id",
        "SELECT id AS x, whole AS x FROM things ORDER BY x",
    ] {
        for way in WAYS {
            pair.compare(sql, &[], true, way);
        }
    }
}

/// A transaction sees its own writes, and goes on after rows that nobody wanted.
fn transactions(pair: &mut Pair) {
    for begin in ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        both(pair, begin);
        both(
            pair,
            "INSERT INTO nothing VALUES (1500, 7, 1.50, '2020-02-02')",
        );
        both(pair, "UPDATE things SET whole = 4711 WHERE id = 1100");
        for sql in [
            "SELECT count(*), sum(n), avg(x), max(d) FROM nothing",
            "SELECT max(whole), count(*) FROM things WHERE whole = 4711",
        ] {
            pair.same(sql, true);
        }
        pair.same("SELECT 1 FROM things LIMIT 3", true);
        pair.same(
            "SELECT id, whole FROM things ORDER BY whole DESC NULLS LAST, id LIMIT 5",
            true,
        );
        pair.same("SELECT id FROM things ORDER BY id LIMIT 2000", true);
        both(pair, "ROLLBACK");
        pair.same("SELECT count(*) FROM nothing", true);
    }
    both(pair, "BEGIN");
    for raw in [&mut pair.plain, &mut pair.sharded] {
        let failed = raw.ask("SELECT id / (id - 1100) FROM things ORDER BY id");
        assert_eq!(failed.code(), "22012");
        assert_eq!(raw.ask("SELECT count(*) FROM things").code(), "25P02");
        assert_eq!(raw.ask("COMMIT").ok().tags, ["ROLLBACK"]);
    }
    pair.same("SELECT count(*) FROM things", true);
}

/// What is not combined is gathered.
fn gathered(pair: &mut Pair) {
    for sql in [
        "SELECT id, kind FROM things ORDER BY kind",
        "SELECT round(sum(f8)::numeric, 3) FROM things",
        "SELECT round(avg(f4)::numeric, 3) FROM things",
        "SELECT array_agg(id ORDER BY id) FROM things",
        "SELECT count(DISTINCT kind) FROM things",
        "SELECT max(kind) FROM things",
        "SELECT coalesce(max(whole), 0) FROM things",
        "SELECT kind FROM things GROUP BY kind HAVING count(*) > 3",
        "SELECT amount, count(*) FROM things GROUP BY amount",
        "SELECT f8, count(*) FROM things GROUP BY f8",
        "SELECT DISTINCT price FROM things",
        "SELECT kind, count(*) FROM things GROUP BY ROLLUP (kind)",
        "SELECT id FROM things ORDER BY id FETCH FIRST 3 ROWS WITH TIES",
        "SELECT id, row_number() OVER (ORDER BY id) FROM things",
        "SELECT DISTINCT ON (kind) id FROM things ORDER BY kind, id",
        "SELECT id FROM things ORDER BY whole + 1.5::float8",
        "SELECT * FROM things ORDER BY 1",
    ] {
        let seen = ask(&mut pair.sharded, sql, &[], Way::Simple);
        if seen.code != "0A000" {
            pair.compare(sql, &[], false, Way::Simple);
        }
    }
}

/// Random ones of these classes: whatever is answered is right.
fn random(pair: &mut Pair, seed: u64) {
    println!("seed {seed} (PGSHUNT_SEED={seed} repeats it)");
    let mut dice = Dice(seed);
    let count = std::env::var("PGSHUNT_STATEMENTS").ok();
    for _ in 0..count.and_then(|n| n.parse().ok()).unwrap_or(300) {
        let (sql, ordered) = if dice.chance(60) {
            random_rows(&mut dice)
        } else {
            random_groups(&mut dice)
        };
        let way = WAYS[usize::try_from(dice.below(3)).unwrap()];
        pair.compare(&sql, &[], ordered, way);
    }
}

fn filter(dice: &mut Dice) -> &'static str {
    dice.one(&[
        "",
        "",
        " WHERE whole > 0",
        " WHERE flag",
        " WHERE id > 990 AND id < 1010",
        " WHERE kind = 'k1' OR kind IS NULL",
        " WHERE id IN (900, 901, 1100, 2050)",
        " WHERE price BETWEEN -1 AND 2",
        " WHERE false",
    ])
}

fn some(dice: &mut Dice, of: &[&'static str], most: u64) -> Vec<&'static str> {
    (0..=dice.below(most)).map(|_| dice.one(of)).collect()
}

fn random_rows(dice: &mut Dice) -> (String, bool) {
    let shown = if dice.chance(20) {
        "*".to_owned()
    } else {
        let mut shown = some(dice, &EXACT, 4);
        shown.push("id");
        shown.join(", ")
    };
    let keys: Vec<String> = some(dice, &EXACT, 3)
        .into_iter()
        .map(|key| {
            let way = dice.one(&["", "", " DESC", " ASC", " NULLS FIRST", " DESC NULLS LAST"]);
            format!("things.{key}{way}")
        })
        .collect();
    let limit = dice.one(&[
        "",
        "",
        " LIMIT 5",
        " LIMIT 60 OFFSET 13",
        " OFFSET 100",
        " LIMIT 1",
    ]);
    let sql = format!(
        "SELECT {shown} FROM things{} ORDER BY {}, things.id{limit}",
        filter(dice),
        keys.join(", ")
    );
    (sql, true)
}

fn random_groups(dice: &mut Dice) -> (String, bool) {
    const KEYS: [&str; 8] = [
        "owner", "kind", "flag", "small", "d", "code", "tstz", "short",
    ];
    const CALLS: [&str; 14] = [
        "count(*)",
        "count(price)",
        "sum(whole)",
        "sum(big)",
        "sum(price)",
        "avg(whole)",
        "avg(amount)",
        "avg(big)",
        "min(d)",
        "max(f8)",
        "max(code)",
        "bool_or(flag)",
        "bit_xor(whole)",
        "min(iv)",
    ];
    let keys = some(dice, &KEYS, 2);
    let calls = some(dice, &CALLS, 4);
    let numbers: Vec<String> = (1..=keys.len()).map(|n| n.to_string()).collect();
    let order = if dice.chance(50) {
        format!(" ORDER BY {}", numbers.join(", "))
    } else {
        String::new()
    };
    let sql = format!(
        "SELECT {}, {} FROM things{} GROUP BY {}{order}",
        keys.join(", "),
        calls.join(", "),
        filter(dice),
        numbers.join(", "),
    );
    let total = !order.is_empty();
    (sql, total)
}

#[test]
fn an_answer_names_the_shard_that_failed_once() {
    let (_town, _proxy, mut pair) = start("combine-errors", 0);
    let seen = ask(
        &mut pair.sharded,
        "SELECT id FROM things WHERE 1 / (id - 1100) > 5 ORDER BY whole",
        &[],
        Way::Simple,
    );
    assert_eq!(seen.code, "22012");
    assert!(seen.error.contains("on shard s2"), "{}", seen.error);
    let after: Answer = pair.sharded.ask("SELECT count(*) FROM things").ok();
    assert_eq!(after.value(), "800");
}

/// What nobody waits for any more does not go on.
#[test]
fn a_client_that_leaves_stops_the_work_on_every_shard() {
    let (town, proxy, mut pair) = start("combine-leaves", 0);
    let busy = |town: &Town| -> usize {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%leaving%' AND pid <> pg_backend_pid()";
        let count = |shard| town.direct(shard, 0).ask(sql).ok().value().parse::<usize>();
        (0..3).map(|shard| count(shard).expect("a number")).sum()
    };
    for sql in [
        "SELECT count(*), 'leaving' FROM things, generate_series(1, 5000) g, generate_series(1, 5000) h",
        "SELECT id, 'leaving' FROM things, generate_series(1, 5000) g, generate_series(1, 5000) h WHERE g + h < 0",
        "SELECT id, 'leaving' FROM things, generate_series(1, 5000) g, generate_series(1, 5000) h WHERE g + h < 0 ORDER BY things.id",
        "SELECT count(*), 'leaving' FROM things, generate_series(1, 5000) g, generate_series(1, 5000) h, generate_series(1, 5000) i WHERE id = 800",
    ] {
        let mut leaving = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        leaving.send(&support::raw::query(sql)).expect("it is sent");
        town.eventually(sql, || busy(&town) > 0);
        drop(leaving);
        town.eventually("no work on the shards", || busy(&town) == 0);
    }
    assert_eq!(
        pair.sharded.ask("SELECT count(*) FROM things").ok().value(),
        "800"
    );
}

/// Two sessions hold the one server of a shard each, and want the other's (hazard 25).
#[test]
fn sessions_that_wait_for_each_others_servers_do_not_wait_forever() {
    let town = Town::start("combine-deadlock", 2, 0);
    town.on_primaries("CREATE TABLE things (id bigint PRIMARY KEY, whole int)");
    for (shard, key) in [1, 1500].into_iter().enumerate() {
        town.direct(shard, 0)
            .ask(&format!("INSERT INTO things VALUES ({key}, 1)"))
            .ok();
    }
    let tables = "keyspaces:\n  - name: by_id\n    type: bigint\n    ranges: [{ shard: s1, to: 1000 }, { shard: s2, from: 1000 }]\n\
                  tables: [{ name: things, keyspace: by_id, key: id }]";
    let map = town.cluster.map_with(tables);
    let at = map.find("    pool:").expect("a pool");
    let end = at + map[at..].find('\n').expect("its end");
    let map = format!(
        "{}    pool: {{ size: 1, size_min: 0 }}{}",
        &map[..at],
        &map[end..]
    );
    let proxy = Proxy::start(&map);
    let begin = |key: u32| {
        let mut raw = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        raw.ask("BEGIN").ok();
        raw.ask(&format!("SELECT whole FROM things WHERE id = {key}"))
            .ok();
        raw
    };
    let (mut one, mut other) = (begin(1), begin(1500));
    let both = "SELECT id FROM things ORDER BY id";
    let waits = std::thread::spawn(move || {
        let answer = one.ask(both);
        one.ask("ROLLBACK").ok();
        answer
    });
    let second = other.ask(both);
    other.ask("ROLLBACK").ok();
    let first = waits.join().expect("no panic");
    let codes = [first.code().to_owned(), second.code().to_owned()];
    assert!(codes.contains(&"40P01".to_owned()), "{codes:?}");
    assert!(
        codes.iter().all(|code| code.is_empty() || code == "40P01"),
        "{codes:?}"
    );
    let mut after = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    assert_eq!(after.ask(both).ok().rows.len(), 2);
}
