//! Keys by ranges: what is compared with a key says which shards are asked, and the answer is that of one PostgreSQL, for every type
//! that a map can divide, every comparison, in both protocols.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use support::cluster::Proxy;
use support::raw::{Answer, Raw};
use support::town::Town;

const TABLES: &str = "\
keyspaces:
  - { name: by_number, type: integer, ranges: [{ shard: s1, to: 10 }, { shard: s2, from: 10, to: 20 }, { shard: s3, from: 20 }] }
  - { name: by_word, type: text, ranges: [{ shard: s1, to: Z }, { shard: s2, from: Z, to: m }, { shard: s3, from: m }] }
  - { name: by_day, type: date, ranges: [{ shard: s1, to: 2024-01-10 }, { shard: s2, from: 2024-01-10, to: 2024-01-20 }, { shard: s3, from: 2024-01-20 }] }
  - { name: by_time, type: timestamptz, ranges: [{ shard: s1, to: '2024-01-01 10:00+00' }, { shard: s2, from: '2024-01-01 10:00+00', to: '2024-01-01 20:00+00' }, { shard: s3, from: '2024-01-01 20:00+00' }] }
  - { name: by_price, type: numeric, ranges: [{ shard: s1, to: '9.99' }, { shard: s2, from: '9.99', to: '1e2' }, { shard: s3, from: '1e2' }] }
tables:
  - { name: numbers, keyspace: by_number, key: k }
  - { name: others, keyspace: by_number, key: k }
  - { name: bytes, keyspace: by_word, key: k }
  - { name: words, keyspace: by_word, key: k }
  - { name: days, keyspace: by_day, key: k }
  - { name: times, keyspace: by_time, key: k }
  - { name: prices, keyspace: by_price, key: k }
";

/// `bytes` compare as the map does, `words` as people do.
const SCHEMA: &str = "\
CREATE TABLE numbers (k int PRIMARY KEY, v int);
CREATE TABLE others (k int PRIMARY KEY, v int);
CREATE TABLE bytes (k text COLLATE \"C\" PRIMARY KEY, v int);
CREATE TABLE words (k text COLLATE \"und-x-icu\" PRIMARY KEY, v int);
CREATE TABLE days (k date PRIMARY KEY, v int);
CREATE TABLE times (k timestamptz PRIMARY KEY, v int);
CREATE TABLE prices (k numeric PRIMARY KEY, v int);";

/// Table, and values of its key around the ends of its ranges.
const KEYS: &[(&str, &[&str])] = &[
    (
        "numbers",
        &[
            "-2147483648",
            "-1",
            "0",
            "9",
            "10",
            "11",
            "19",
            "20",
            "21",
            "2147483647",
        ],
    ),
    (
        "bytes",
        &[
            "", "A", "Y", "YZ", "Z", "Za", "a", "l", "lz", "m", "ma", "z", "é",
        ],
    ),
    (
        "words",
        &[
            "", "A", "Y", "YZ", "Z", "Za", "a", "l", "lz", "m", "ma", "z", "é",
        ],
    ),
    (
        "days",
        &[
            "-infinity",
            "0001-01-01 BC",
            "2024-01-09",
            "2024-01-10",
            "2024-01-11",
            "2024-01-19",
            "2024-01-20",
            "9999-12-31",
            "infinity",
        ],
    ),
    (
        "times",
        &[
            "-infinity",
            "2024-01-01 09:59:59.999999+00",
            "2024-01-01 10:00:00+00",
            "2024-01-01 12:00:00-02",
            "2024-01-01 20:00:00.5+00",
            "infinity",
        ],
    ),
    (
        "prices",
        &[
            "-1e10", "0", "9.989", "9.99", "9.991", "99.999", "100", "1e30", "NaN", "Infinity",
        ],
    ),
];

/// More that a key is compared with: other widths, other types, and what is none at all.
const STRANGE: &[(&str, &[&str])] = &[
    (
        "numbers",
        &[
            "3000000000",
            "-3000000000",
            "99999999999999999999",
            "9.5",
            "10.0",
            "'10'",
            "' 10 '",
            "'ten'",
            "NULL",
            "10::bigint",
            "10::float8",
            "'3000000000'",
            "'3000000000'::bigint",
            "5 + 5",
            "-(-10)",
        ],
    ),
    (
        "bytes",
        &[
            "'m'::varchar",
            "'m' COLLATE \"und-x-icu\"",
            "NULL",
            "'M'::text",
        ],
    ),
    (
        "days",
        &[
            "'2024-01-10 12:00'",
            "'2024-01-10 12:00'::timestamp",
            "'10/01/2024'",
            "'someday'",
            "date '2024-01-10'",
            "'2024-01-10'::date + 1",
        ],
    ),
    (
        "times",
        &[
            "'2024-01-01 10:00'",
            "timestamptz '2024-01-01 10:00+00'",
            "'2024-01-10'::date",
        ],
    ),
    (
        "prices",
        &[
            "9.99::float8",
            "9",
            "10::bigint",
            "'9.99'",
            "'nan'",
            "'cheap'",
        ],
    ),
];

const COMPARISONS: &[&str] = &["<", "<=", ">", ">=", "="];

struct House {
    town: Town,
    proxy: Proxy,
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let town = Town::start("ranges", 3, 0);
        town.on_primaries(SCHEMA);
        town.superuser(0, 0, "postgres")
            .ask("CREATE DATABASE plain OWNER app")
            .ok();
        let mut plain = Raw::connect(town.port(0, 0), "app", "plain").expect("the one Postgres");
        plain.ask(SCHEMA).ok();
        let proxy = Proxy::start(&town.cluster.map_with(TABLES));
        let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        for (table, keys) in KEYS {
            for (n, key) in keys.iter().enumerate() {
                let sql = format!("INSERT INTO {table} VALUES ('{key}', {n})");
                sharded.ask(&sql).ok();
                plain.ask(&sql).ok();
                if *table == "numbers" {
                    let sql = format!("INSERT INTO others VALUES ('{key}', {})", n % 3);
                    sharded.ask(&sql).ok();
                    plain.ask(&sql).ok();
                }
            }
        }
        House { town, proxy }
    })
}

struct Pair {
    sharded: Raw,
    plain: Raw,
}

fn pair() -> Pair {
    let house = house();
    Pair {
        sharded: Raw::connect(house.proxy.port(), "app", "social").expect("pgshunt"),
        plain: Raw::connect(house.town.port(0, 0), "app", "plain").expect("the one Postgres"),
    }
}

#[track_caller]
fn same(sql: &str, here: &Answer, there: &Answer) {
    let words = |answer: &Answer| {
        answer
            .error
            .as_ref()
            .map(|e| (e.code.clone(), e.message.clone()))
    };
    assert_eq!(words(here), words(there), "{sql}");
    assert_eq!(here.rows, there.rows, "{sql}");
    assert_eq!(here.tags, there.tags, "{sql}");
}

impl Pair {
    #[track_caller]
    fn same(&mut self, sql: &str) {
        same(sql, &self.sharded.ask(sql), &self.plain.ask(sql));
    }

    #[track_caller]
    fn extended(&mut self, sql: &str, types: &[u32], values: &[Option<&str>]) {
        let here = self.sharded.extended(sql, types, values).expect("pgshunt");
        let there = self
            .plain
            .extended(sql, types, values)
            .expect("the one Postgres");
        same(&format!("{sql} {types:?} {values:?}"), &here, &there);
    }
}

/// Statements over one table by a condition: rows in order, groups, gathered.
fn statements(table: &str, condition: &str) -> [String; 3] {
    [
        format!("SELECT v FROM {table} WHERE {condition} ORDER BY v"),
        format!("SELECT count(*), sum(v) FROM {table} WHERE {condition}"),
        format!(
            "SELECT a.v, (SELECT count(*) FROM {table} b WHERE b.v < a.v) FROM {table} a WHERE {condition} ORDER BY a.v"
        ),
    ]
}

#[test]
fn comparisons_with_literals() {
    let mut pair = pair();
    for (table, keys) in KEYS {
        for key in *keys {
            for comparison in COMPARISONS {
                for sql in statements(table, &format!("k {comparison} '{key}'")) {
                    pair.same(&sql);
                }
            }
        }
    }
    for (table, values) in STRANGE {
        for value in *values {
            for comparison in COMPARISONS {
                pair.same(&format!(
                    "SELECT v FROM {table} WHERE k {comparison} {value} ORDER BY v"
                ));
                pair.same(&format!(
                    "SELECT v FROM {table} WHERE {value} {comparison} k ORDER BY v"
                ));
            }
            pair.same(&format!(
                "SELECT v FROM {table} WHERE k BETWEEN {value} AND {value} ORDER BY v"
            ));
        }
    }
}

#[test]
fn two_limits() {
    let mut pair = pair();
    for (table, keys) in KEYS {
        for low in keys.iter().step_by(2) {
            for high in *keys {
                let between = format!("k BETWEEN '{low}' AND '{high}'");
                let open = format!("k > '{low}' AND k < '{high}'");
                let outside = format!("(k < '{low}' OR k > '{high}')");
                let values = format!("(k IN ('{low}') OR k >= '{high}')");
                for condition in [between, open, outside, values] {
                    let [rows, sums, _] = statements(table, &condition);
                    pair.same(&rows);
                    pair.same(&sums);
                }
                pair.extended(
                    &format!("SELECT v FROM {table} WHERE k >= $1 AND k < $2 ORDER BY v"),
                    &[],
                    &[Some(low), Some(high)],
                );
            }
        }
    }
}

#[test]
fn parameters_of_any_type() {
    let mut pair = pair();
    let values = ["10", "-5", "3000000000", "9.5", "ten", "", "19"];
    for types in [&[][..], &[20], &[21], &[23], &[1700], &[701], &[25]] {
        for value in values.iter().copied().map(Some).chain([None]) {
            for sql in [
                "SELECT v FROM numbers WHERE k < $1 ORDER BY v",
                "SELECT v FROM numbers WHERE k >= $1 ORDER BY v",
                "SELECT v FROM numbers WHERE k BETWEEN 5 AND $1 ORDER BY v",
                "SELECT v FROM numbers WHERE k = $1 OR k > $1 ORDER BY v",
                "SELECT a.v, b.v FROM numbers a JOIN others b ON a.v = b.v WHERE a.k < $1 ORDER BY 1, 2",
                "SELECT a.v, b.v FROM numbers a JOIN others b ON a.v = b.v WHERE a.k = $1 ORDER BY 1, 2",
                "SELECT a.v, b.v FROM numbers a JOIN others b ON a.v = b.v WHERE a.k > 5 AND b.v = ANY (ARRAY[1, 2]) AND b.k < $1 ORDER BY 1, 2",
            ] {
                pair.extended(sql, types, &[value]);
            }
        }
    }
    for array in ["{1,2}", "{}", "{NULL}", "{3000000000}", "{x}"] {
        for types in [&[][..], &[1007], &[1016]] {
            let sql = "SELECT a.v, b.v FROM numbers a JOIN others b ON a.v = b.v WHERE b.v = ANY ($1) ORDER BY 1, 2";
            pair.extended(sql, types, &[Some(array)]);
        }
    }
}

#[test]
fn joins_and_subqueries() {
    let mut pair = pair();
    for sql in [
        "SELECT a.v FROM numbers a JOIN others b USING (k) WHERE k < 10 ORDER BY 1",
        "SELECT a.k, b.k FROM numbers a LEFT JOIN others b ON a.k = b.k AND b.k > 15 WHERE a.k < 30 ORDER BY 1",
        "SELECT a.k, b.k FROM numbers a LEFT JOIN others b ON b.k > 15 WHERE a.k < 10 ORDER BY 1, 2",
        "SELECT a.k, b.k FROM numbers a FULL JOIN others b ON a.k = b.k AND a.k > 15 ORDER BY 1, 2",
        "SELECT count(*) FROM (SELECT k FROM numbers WHERE k < 5 UNION ALL SELECT k FROM others WHERE k > 19) x",
        "SELECT count(*) FROM (SELECT k FROM numbers WHERE k < 5 EXCEPT SELECT k FROM others WHERE k > -5) x",
        "WITH x AS (SELECT k, count(*) FROM numbers GROUP BY k) SELECT * FROM x WHERE k BETWEEN 9 AND 10 ORDER BY 1",
        "SELECT k, sum(v) FROM numbers GROUP BY k HAVING k > 10 ORDER BY 1",
        "SELECT v % 2, sum(k) FROM numbers GROUP BY 1 HAVING max(k) > 10 ORDER BY 1",
        "SELECT k, rank() OVER (PARTITION BY k ORDER BY v) FROM numbers WHERE k > 10 ORDER BY 1",
        "SELECT * FROM (SELECT k, rank() OVER (ORDER BY v) FROM numbers) x WHERE k > 10 ORDER BY 1",
        "SELECT k FROM numbers WHERE k IN (SELECT k FROM others WHERE k <= 10) ORDER BY 1",
        "SELECT k FROM numbers a WHERE NOT EXISTS (SELECT FROM others b WHERE b.k = a.k AND b.k < 10) ORDER BY 1",
        "SELECT k FROM numbers WHERE (k, v) > (10, 3) ORDER BY k LIMIT 3",
        "SELECT k FROM numbers WHERE (k, v) >= (10, NULL) ORDER BY k",
        "SELECT k FROM numbers WHERE k > (SELECT min(k) FROM others WHERE k > 10) ORDER BY 1",
        "SELECT count(*) FROM numbers WHERE k > 20 AND k < 5",
        "SELECT 1/v FROM numbers WHERE k > 20 AND k < 5 AND 1/(v-v) > 0",
        "SELECT a.v, b.v FROM numbers a, days b WHERE a.v = b.v AND a.k BETWEEN 9 AND 19 AND b.k < '2024-01-15' ORDER BY 1",
        "SELECT a.k, b.k FROM numbers a JOIN numbers b ON a.v = b.v + 1 WHERE a.k < 10 AND b.k > -5 ORDER BY 1, 2",
        "SELECT a.k, b.k FROM bytes a JOIN words b ON a.v = b.v WHERE a.k < 'a' AND b.k < 'a' ORDER BY a.v",
    ] {
        pair.same(sql);
        pair.extended(sql, &[], &[]);
        pair.same("BEGIN");
        pair.same(sql);
        pair.same("ROLLBACK");
    }
}

#[test]
fn set_operations() {
    let mut pair = pair();
    for sql in [
        "SELECT k, v FROM numbers UNION ALL SELECT v, k FROM others ORDER BY 1, 2",
        "SELECT k AS n FROM numbers UNION ALL SELECT v FROM others ORDER BY n DESC LIMIT 7",
        "SELECT k FROM numbers UNION ALL SELECT k FROM others ORDER BY 1 LIMIT 5 OFFSET 3",
        "SELECT k FROM numbers WHERE k > 5 UNION ALL SELECT v FROM others WHERE k < 5 ORDER BY 1",
        "SELECT k, v FROM numbers UNION SELECT k, v % 3 FROM others ORDER BY 1, 2",
        "SELECT k FROM numbers INTERSECT SELECT k FROM others WHERE v > 1 ORDER BY 1",
        "SELECT k, v % 3 FROM numbers EXCEPT SELECT k, v FROM others ORDER BY 1, 2",
        "SELECT v % 3 FROM numbers EXCEPT ALL SELECT v FROM others ORDER BY 1",
        "SELECT v FROM numbers UNION SELECT v FROM others ORDER BY 1",
        "SELECT k FROM numbers UNION ALL SELECT 1 ORDER BY 1",
        "SELECT a.k FROM numbers a JOIN others b USING (k) UNION ALL SELECT k FROM others ORDER BY 1",
        "SELECT k FROM numbers WHERE v = 1 UNION ALL SELECT 1/(v - 1) FROM others ORDER BY 1",
        "SELECT k FROM numbers UNION ALL SELECT 'x' FROM others ORDER BY 1",
        "SELECT k FROM bytes UNION SELECT k FROM bytes WHERE v > 3 ORDER BY 1",
        "SELECT k FROM prices UNION ALL SELECT v FROM prices ORDER BY 1",
        "SELECT v FROM days UNION ALL SELECT k FROM numbers ORDER BY 1",
    ] {
        pair.same(sql);
        pair.extended(sql, &[], &[]);
    }
    let count =
        "SELECT count(*) FROM (SELECT k FROM numbers UNION ALL SELECT v FROM others LIMIT 5) x";
    pair.same(count);
    let limit =
        "SELECT k FROM numbers UNION ALL SELECT v FROM others ORDER BY 1 LIMIT $1 OFFSET $2";
    for (limit_is, offset) in [("3", "2"), ("0", "0"), ("100", "19"), ("-1", "0")] {
        pair.extended(limit, &[20, 20], &[Some(limit_is), Some(offset)]);
    }
}

#[test]
fn only_the_shards_that_can_hold_rows_are_asked() {
    // its own servers, whose statistics of statements nothing else fills
    let town = Town::start("ranges-asked", 3, 0);
    town.on_primaries(SCHEMA);
    let proxy = Proxy::start(&town.cluster.map_with(TABLES));
    let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    for (n, (condition, expected)) in [
        ("k < 10", [1, 0, 0]),
        ("k BETWEEN 10 AND 19", [0, 1, 0]),
        ("k > 9 AND k < 20", [0, 1, 0]),
        ("k > 19", [0, 0, 1]),
        ("k < 0 OR k > 50", [1, 0, 1]),
        ("k <= 10", [1, 1, 0]),
        ("v > 3", [1, 1, 1]),
    ]
    .into_iter()
    .enumerate()
    {
        let sql = format!("SELECT count(*) AS asked_{n} FROM numbers WHERE {condition}");
        sharded.ask(&sql).ok();
        let calls = town.calls(&format!("%asked_{n} %"));
        assert_eq!(calls, expected, "{condition}");
        // gathered: the table is read there only
        let sql = format!(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v) FROM others WHERE ({condition}) AND {n} = {n}"
        );
        let before = town.calls("COPY (SELECT %others%");
        sharded.ask(&sql).ok();
        let after = town.calls("COPY (SELECT %others%");
        let read: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        let one = expected.iter().sum::<u64>() == 1;
        assert_eq!(read, if one { [0; 3] } else { expected }, "{sql}");
    }
}

#[test]
fn writes_by_ranges_touch_one_shard_or_are_refused() {
    let mut pair = pair();
    for write in [
        "UPDATE others SET v = v + 1 WHERE k < 10",
        "DELETE FROM others WHERE k BETWEEN 12 AND 19",
        "UPDATE others SET v = 5 WHERE k > 7 AND k < 3",
    ] {
        pair.same("BEGIN");
        pair.same(write);
        pair.same("SELECT k, v FROM others ORDER BY k");
        pair.same("ROLLBACK");
    }
    let refused = pair.sharded.ask("UPDATE others SET v = 1 WHERE k > 5");
    assert_eq!(refused.code(), "0A000");
}

#[test]
fn a_table_without_rows_that_matter_still_needs_its_rights() {
    let house = house();
    let mut pair = pair();
    let sql =
        "SELECT count(*) FROM numbers a JOIN others b ON a.v = b.v WHERE b.k = NULL AND a.v > 1";
    pair.same(sql);
    house
        .town
        .as_superuser("REVOKE SELECT ON others FROM app; ALTER TABLE others OWNER TO postgres");
    let refused = pair.sharded.ask(sql);
    house
        .town
        .as_superuser("ALTER TABLE others OWNER TO app; GRANT SELECT ON others TO app");
    assert_eq!(refused.code(), "42501", "{:?}", refused.error);
}
