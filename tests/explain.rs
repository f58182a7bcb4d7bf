//! EXPLAIN through pgshunt over two shards: what one server answers is PostgreSQL's own, what several shards answer comes with
//! pgshunt's plan first; the formats stay what parsers expect; ANALYZE runs a statement as often as it says, and counts right.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use serde_json::Value;
use std::sync::OnceLock;
use support::cluster::Proxy;
use support::raw::{Answer, Raw, bind, execute, message, parse, query, sync};
use support::town::Town;

const TABLES: &str = "\
keyspaces:
  - name: by_user
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: users, keyspace: by_user, key: id }
  - { name: posts, keyspace: by_user, key: user_id }
  - { name: counters, keyspace: by_user, key: id }
  - { name: drawn, keyspace: by_user, key: id }
reference_tables: [countries]
";

const SCHEMA: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY, name text COLLATE \"und-x-icu\", country text, age int);
CREATE TABLE posts (user_id bigint, id bigint, title text, PRIMARY KEY (user_id, id));
CREATE TABLE counters (id bigint PRIMARY KEY, n int);
CREATE TABLE drawn (id bigserial PRIMARY KEY, v text);
CREATE TABLE countries (code text PRIMARY KEY, name text, n int);
CREATE TABLE notes (id int PRIMARY KEY, body text);";

const USERS: usize = 40;

struct House {
    town: Town,
    proxy: Proxy,
    /// rows of users on each shard
    users: Vec<usize>,
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let town = Town::start("explain", 2, 1);
        town.on_primaries(SCHEMA);
        town.direct(0, 0)
            .ask("CREATE TABLE homely (id int PRIMARY KEY)")
            .ok();
        town.catch_up();
        let proxy = Proxy::start(&town.cluster.map_with(TABLES));
        let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        for id in 1..=USERS {
            for sql in [
                format!(
                    "INSERT INTO users VALUES ({id}, 'name {}', 'c{}', {id})",
                    id % 7,
                    id % 3
                ),
                format!("INSERT INTO posts VALUES ({id}, 1, 'title {id}')"),
                format!("INSERT INTO counters VALUES ({id}, 0)"),
            ] {
                sharded.ask(&sql).ok();
            }
        }
        for sql in [
            "INSERT INTO countries VALUES ('c0', 'Zero', 0), ('c1', 'One', 0)",
            "INSERT INTO notes VALUES (1, 'a note')",
        ] {
            sharded.ask(sql).ok();
        }
        town.on_primaries("ANALYZE");
        town.catch_up();
        let users = (0..2).map(|shard| count(&mut town.direct(shard, 0), "users"));
        let users = users.collect();
        House { town, proxy, users }
    })
}

fn count(raw: &mut Raw, table: &str) -> usize {
    let answer = raw.ask(&format!("SELECT count(*) FROM {table}")).ok();
    answer.value().parse().expect("a count")
}

fn connect() -> Raw {
    Raw::connect(house().proxy.port(), "app", "social").expect("pgshunt")
}

fn lines(answer: &Answer) -> Vec<String> {
    answer
        .rows
        .iter()
        .map(|row| row[0].clone().expect("a line"))
        .collect()
}

#[track_caller]
fn json(raw: &mut Raw, sql: &str) -> Value {
    let answer = raw.ask(sql).ok();
    assert_eq!(answer.columns.as_ref().expect("columns")[0].type_oid, 114);
    serde_json::from_str(answer.value())
        .unwrap_or_else(|error| panic!("{error}: {}", answer.value()))
}

/// The shard that has this user.
fn shard_of(id: usize) -> usize {
    let has = |shard: &usize| {
        let sql = format!("SELECT count(*) FROM users WHERE id = {id}");
        house().town.direct(*shard, 0).ask(&sql).ok().value() == "1"
    };
    (0..2).find(has).expect("a shard")
}

/// Statements that several shards answer, and how.
const SEVERAL: [(&str, &str); 6] = [
    ("SELECT * FROM users", "rows concatenated"),
    (
        "SELECT name, id FROM users ORDER BY id LIMIT 3",
        "rows merged by 1 key, limit 3",
    ),
    (
        "SELECT count(*), avg(age) FROM users",
        "partial results combined, 2 hidden columns",
    ),
    (
        "SELECT country, max(age) FROM users GROUP BY country",
        "groups of 1 column combined",
    ),
    (
        "SELECT name FROM users ORDER BY name",
        "gathered: users(id, name)",
    ),
    (
        "SELECT u.name, p.title FROM users u JOIN posts p ON p.user_id = u.age WHERE u.country = 'c1'",
        "gathered: posts",
    ),
];

#[test]
fn what_one_server_answers_without_sharded_tables_is_its_own() {
    let mut sharded = connect();
    let mut direct = house().town.direct(0, 0);
    for options in [
        "",
        "(COSTS off, VERBOSE)",
        "(FORMAT json)",
        "(FORMAT yaml)",
        "(FORMAT xml)",
    ] {
        for sql in [
            "SELECT * FROM notes WHERE id = 1",
            "SELECT 1",
            "SELECT count(*) FROM countries",
            "DELETE FROM notes",
            "SELECT relname FROM pg_class WHERE oid = 1",
        ] {
            let sql = format!("EXPLAIN {options} {sql}");
            assert_eq!(sharded.ask(&sql).ok(), direct.ask(&sql).ok(), "{sql}");
            let [ours, theirs] = [&mut sharded, &mut direct]
                .map(|raw| raw.extended(&sql, &[], &[]).expect("an answer").ok());
            assert_eq!(ours, theirs, "{sql}");
        }
    }
    // mistakes are worded by PostgreSQL
    for sql in [
        "EXPLAIN (NIX) SELECT * FROM users WHERE id = 1",
        "EXPLAIN (FORMAT nix) SELECT 1",
        "EXPLAIN VACUUM",
    ] {
        assert_eq!(sharded.ask(sql).error, direct.ask(sql).error, "{sql}");
    }
    let several = sharded.ask("EXPLAIN (TIMING) SELECT count(*) FROM users");
    assert_eq!(several.code(), "22023", "{several:?}");
}

#[test]
fn a_database_of_one_shard_answers_as_postgresql_does() {
    let house = house();
    let map = house.town.cluster.map_with(TABLES);
    let second = map.find("      - name: s2").expect("the second shard");
    let end = map[second..]
        .find("    keyspaces")
        .or(map[second..].find("keyspaces:"));
    let rest = second + end.expect("what follows the shards");
    let map = format!("{}{}", &map[..second], &map[rest..]);
    let proxy = Proxy::start(&map);
    let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    let mut direct = house.town.direct(0, 0);
    for sql in [
        "EXPLAIN SELECT * FROM users WHERE id = 1",
        "EXPLAIN (FORMAT json) SELECT name FROM users ORDER BY name",
        "EXPLAIN UPDATE countries SET n = 1",
    ] {
        assert_eq!(sharded.ask(sql).ok(), direct.ask(sql).ok(), "{sql}");
    }
}

#[test]
fn one_shard_gives_its_answer_below_a_line_of_ours() {
    let mut sharded = connect();
    for id in [1, 2, 3, 17] {
        let shard = shard_of(id);
        let mut direct = house().town.direct(shard, 0);
        for sql in [
            format!("SELECT * FROM users WHERE id = {id}"),
            format!("DELETE FROM users WHERE id = {id}"),
            format!("INSERT INTO users VALUES ({id}, 'x')"),
            format!("UPDATE users SET name = 'x' WHERE id = {id}"),
        ] {
            let access = if sql.starts_with("SELECT") {
                "read"
            } else {
                "write"
            };
            let explain = format!("EXPLAIN (VERBOSE) {sql}");
            let (ours, theirs) = (sharded.ask(&explain).ok(), direct.ask(&explain).ok());
            let shown = lines(&ours);
            let name = shard + 1;
            assert_eq!(
                shown[0],
                format!("pgshunt: shard s{name} ({access} by_user = {id})")
            );
            assert_eq!(shown[1..], lines(&theirs)[..], "{sql}");
            assert_eq!((&ours.columns, &ours.tags), (&theirs.columns, &theirs.tags));
            assert_eq!(ours.messages, theirs.messages);
            let extended = sharded
                .extended(&explain, &[], &[])
                .expect("an answer")
                .ok();
            assert_eq!(lines(&extended), shown);
            // what parses PostgreSQL's JSON parses this
            let explain = format!("EXPLAIN (FORMAT json) {sql}");
            let mut ours = json(&mut sharded, &explain);
            let theirs = json(&mut direct, &explain);
            let added = ours[0]
                .as_object_mut()
                .expect("an object")
                .remove("pgshunt");
            assert_eq!(added.expect("ours")["Shards"][0], format!("s{name}"));
            assert_eq!(ours, theirs, "{sql}");
        }
    }
    let none = lines(
        &sharded
            .ask("EXPLAIN SELECT * FROM users WHERE id = NULL")
            .ok(),
    );
    assert!(none[0].ends_with("(read by_user = nothing)"), "{none:?}");
    let hinted = lines(
        &sharded
            .ask("/* pgshunt: shard=s2 */ EXPLAIN SELECT count(*) FROM users")
            .ok(),
    );
    assert_eq!(
        hinted[0],
        "pgshunt: shard s2 (read, named by hint or setting)"
    );
    assert!(hinted[1].contains("Aggregate"), "{hinted:?}");
}

#[test]
fn several_shards_show_our_plan_first_and_theirs_below() {
    let mut sharded = connect();
    for (sql, how) in SEVERAL {
        let answer = sharded.ask(&format!("EXPLAIN {sql}")).ok();
        assert_eq!(answer.messages, "TCZ", "{sql}");
        assert_eq!(answer.tags, ["EXPLAIN"]);
        assert!(answer.notices.is_empty());
        let columns = answer.columns.as_ref().expect("columns");
        assert_eq!(
            (columns[0].name.as_str(), columns[0].type_oid),
            ("QUERY PLAN", 25)
        );
        let shown = lines(&answer);
        assert!(
            shown[0].starts_with(&format!("pgshunt: read all shards, {how}")),
            "{shown:?}"
        );
        assert!(shown[1].starts_with("  Because: "), "{shown:?}");
        assert_eq!(shown[2], "  Shards: s1, s2");
        let shards = shown
            .iter()
            .filter(|line| line.starts_with("  ->  Shard s"));
        assert!(shards.count() >= 2, "{shown:?}");
        let extended = sharded
            .extended(&format!("EXPLAIN {sql}"), &[], &[])
            .expect("an answer")
            .ok();
        assert_eq!(
            (lines(&extended), &extended.columns),
            (shown, &answer.columns),
            "{sql}"
        );
        assert_eq!(extended.messages, "1tT2CZ");
    }
    let merged = lines(
        &sharded
            .ask("EXPLAIN (COSTS off) SELECT id FROM users ORDER BY age DESC, id LIMIT 2 OFFSET 1")
            .ok(),
    );
    let expected =
        "pgshunt: read all shards, rows merged by 2 keys, 1 hidden column, limit 2, offset 1
  Because: each shard answers for its own rows
  Shards: s1, s2
  Statement: SELECT id, \"age\" AS \"pgshunt 0\" FROM users ORDER BY age DESC, id LIMIT 3
  Step: merge by hidden column 1 DESC, column 1, offset 1, limit 2
  ->  Shard s1
        Limit";
    assert_eq!(merged[..7].join("\n"), expected);
}

#[test]
fn every_format_can_be_parsed() {
    let mut sharded = connect();
    let mut direct = house().town.direct(0, 0);
    for analyze in ["", "ANALYZE, "] {
        for (sql, how) in SEVERAL {
            let read = json(
                &mut sharded,
                &format!("EXPLAIN ({analyze}FORMAT json) {sql}"),
            );
            let elements = read.as_array().expect("an array");
            let ours = &elements[0]["pgshunt"];
            assert!(
                ours["Plan"].as_str().expect("a text").contains(how),
                "{ours}"
            );
            assert_eq!(ours["Shards"], serde_json::json!(["s1", "s2"]));
            for element in elements {
                assert!(element["Plan"]["Node Type"].is_string(), "{element}");
            }
            let shards = elements
                .iter()
                .filter_map(|element| element["Shard"].as_str());
            assert!(shards.collect::<Vec<_>>().contains(&"s2"));
            let xml = sharded
                .ask(&format!("EXPLAIN ({analyze}FORMAT xml) {sql}"))
                .ok();
            assert_eq!(xml.columns.as_ref().expect("columns")[0].type_oid, 142);
            let wrapped = xml.value().replace('\'', "''");
            let parsed = direct.ask(&format!(
                "SELECT (xpath('count(/e:explain/e:Query/e:Plan)', '{wrapped}'::xml, \
                 ARRAY[ARRAY['e', 'http://www.postgresql.org/2009/explain']]))[1]"
            ));
            assert_eq!(parsed.ok().value(), elements.len().to_string(), "{sql}");
            let yaml = sharded
                .ask(&format!("EXPLAIN ({analyze}FORMAT yaml) {sql}"))
                .ok();
            let read: Value = serde_saphyr::from_str(yaml.value()).expect("YAML");
            assert_eq!(read.as_array().expect("a list").len(), elements.len());
            assert_eq!(read[0]["pgshunt"]["Shards"][1], "s2");
            assert!(read[0]["Plan"]["Node Type"].is_string(), "{read}");
        }
    }
}

#[test]
fn analyze_counts_what_is_really_there() {
    let house = house();
    let mut sharded = connect();
    let all = json(
        &mut sharded,
        "EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM users",
    );
    let step = &all[0]["pgshunt"]["Steps"][0];
    assert_eq!(step["Rows"], USERS);
    for (n, element) in all.as_array().expect("an array").iter().enumerate() {
        assert_eq!(element["Rows"], house.users[n]);
        assert_eq!(element["Plan"]["Actual Rows"], house.users[n]);
        assert!(element["Bytes"].as_u64() > Some(house.users[n] as u64 * 20));
        assert!(element["Time"].as_f64() > Some(0.0));
    }
    let bytes = |n: usize| all[n]["Bytes"].as_u64().expect("bytes");
    assert_eq!(step["Bytes"], bytes(0) + bytes(1));
    let limited = json(
        &mut sharded,
        "EXPLAIN (ANALYZE, FORMAT json) SELECT id FROM users ORDER BY id LIMIT 5 OFFSET 2",
    );
    assert_eq!(limited[0]["pgshunt"]["Steps"][0]["Rows"], 5);
    assert!(limited[0]["Rows"].as_u64() <= Some(7));
    let groups = json(
        &mut sharded,
        "EXPLAIN (ANALYZE, FORMAT json) SELECT country, count(*) FROM users GROUP BY country",
    );
    assert_eq!(
        (
            &groups[0]["Rows"],
            &groups[0]["pgshunt"]["Steps"][0]["Rows"]
        ),
        (&3.into(), &3.into())
    );
    // gathered: what was copied, and the scratch database's own plan
    let sql = "EXPLAIN (ANALYZE, FORMAT json) SELECT u.name FROM users u JOIN posts p ON p.user_id = u.age ORDER BY u.name";
    let gathered = json(&mut sharded, sql);
    assert_eq!(gathered[0]["pgshunt"]["Steps"][0]["Rows"], 2 * USERS);
    let elements = gathered.as_array().expect("an array");
    assert_eq!(elements.len(), 5, "{gathered}");
    for element in &elements[..4] {
        let shard = usize::from(element["Shard"] == "s2");
        assert_eq!(element["Rows"], house.users[shard], "{element}");
        assert!(
            element["Plan"]["Actual Rows"].is_null(),
            "not run again: {element}"
        );
    }
    assert_eq!(elements[4]["Database"], "scratch database");
    assert_eq!(elements[4]["Plan"]["Actual Rows"], USERS);
    // within a READ COMMITTED transaction one statement brings all tables
    sharded.ask("BEGIN").ok();
    let together = json(&mut sharded, sql);
    assert_eq!(
        together.as_array().expect("an array").len(),
        3,
        "{together}"
    );
    assert_eq!(together[0]["Rows"], 2 * house.users[0]);
    sharded.ask("COMMIT").ok();
}

#[test]
fn reads_run_as_often_as_the_answer_says() {
    let town = &house().town;
    let mut sharded = connect();
    let runs = |like: &str| {
        let calls = town.calls(like);
        calls
            .chunks(2)
            .map(|shard| shard.iter().sum::<u64>())
            .collect::<Vec<_>>()
    };
    sharded
        .ask("EXPLAIN ANALYZE SELECT id, 'combined' FROM users ORDER BY id")
        .ok();
    assert_eq!(runs("SELECT id, $1 FROM users ORDER BY id"), [1, 1]);
    assert_eq!(
        runs("EXPLAIN (ANALYZE) SELECT id, $1 FROM users ORDER BY id").len(),
        2
    );
    sharded
        .ask("EXPLAIN SELECT age, id FROM users ORDER BY age")
        .ok();
    assert_eq!(runs("SELECT age, id FROM users ORDER BY age%"), [0, 0]);
    sharded
        .ask("EXPLAIN SELECT country, age, name FROM users ORDER BY name")
        .ok();
    assert_eq!(
        runs("COPY (SELECT %\"country\", \"age\")%")
            .iter()
            .sum::<u64>(),
        0
    );
    let copies = || runs("COPY (SELECT \"id\", \"name\", \"age\" FROM%");
    let before = copies();
    let answer = sharded
        .ask("EXPLAIN ANALYZE SELECT age, name FROM users ORDER BY name")
        .ok();
    let after: Vec<u64> = copies()
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(after, [1, 1], "{answer:?}");
    // no rows of the statement come to the client
    assert!(lines(&answer)[0].starts_with("pgshunt: "));
}

#[test]
fn explain_changes_nothing_and_analyze_of_a_write_runs_it_once() {
    let house = house();
    let mut sharded = connect();
    let value = |raw: &mut Raw, sql: &str| raw.ask(sql).ok().value().to_owned();
    for (id, sql) in [
        (1, "UPDATE counters SET n = n + 1 WHERE id = 1"),
        (
            2,
            "WITH done AS (UPDATE counters SET n = n + 1 WHERE id = 2 RETURNING n) SELECT * FROM done",
        ),
    ] {
        let seen = format!("SELECT n FROM counters WHERE id = {id}");
        sharded.ask(&format!("EXPLAIN {sql}")).ok();
        assert_eq!(value(&mut sharded, &seen), "0");
        let shown = lines(&sharded.ask(&format!("EXPLAIN ANALYZE {sql}")).ok());
        assert!(shown[0].starts_with("pgshunt: shard s"), "{shown:?}");
        assert_eq!(value(&mut sharded, &seen), "1");
        sharded
            .extended(&format!("EXPLAIN ANALYZE {sql}"), &[], &[])
            .expect("an answer")
            .ok();
        assert_eq!(value(&mut sharded, &seen), "2");
        // undone with its transaction
        sharded.ask("BEGIN").ok();
        sharded
            .ask(&format!("EXPLAIN (ANALYZE, FORMAT json) {sql}"))
            .ok();
        assert_eq!(value(&mut sharded, &seen), "3");
        sharded.ask("ROLLBACK").ok();
        assert_eq!(value(&mut sharded, &seen), "2");
    }
    // a reference table, on every shard
    let update = "UPDATE countries SET n = n + 1 WHERE code = 'c0'";
    let seen = "SELECT n FROM countries WHERE code = 'c0'";
    let everywhere = |expected: &str| {
        for shard in 0..2 {
            let there = house.town.direct(shard, 0).ask(seen).ok();
            assert_eq!(there.value(), expected);
        }
    };
    let shown = lines(&sharded.ask(&format!("EXPLAIN {update}")).ok());
    assert_eq!(
        shown[0],
        "pgshunt: write all shards, in a transaction on every shard"
    );
    everywhere("0");
    let shown = lines(&sharded.ask(&format!("EXPLAIN ANALYZE {update}")).ok());
    assert!(
        shown
            .iter()
            .any(|line| line.contains("ran once on every shard")),
        "{shown:?}"
    );
    everywhere("1");
    let extended = sharded
        .extended(&format!("EXPLAIN ANALYZE {update}"), &[], &[])
        .expect("an answer")
        .ok();
    assert_eq!(extended.messages, "1tT2CZ");
    everywhere("2");
}

#[test]
fn keys_that_are_drawn_are_drawn_by_analyze_only() {
    let mut sharded = connect();
    let drawn = |sharded: &mut Raw| {
        sharded
            .ask("SELECT last_value, is_called FROM drawn_id_seq")
            .ok()
            .rows
    };
    let before = drawn(&mut sharded);
    let insert = "INSERT INTO drawn (v) VALUES ('x')";
    let shown = lines(&sharded.ask(&format!("EXPLAIN {insert}")).ok());
    assert!(
        shown[0].starts_with("pgshunt: write by a key that will be drawn"),
        "{shown:?}"
    );
    sharded
        .extended(&format!("EXPLAIN {insert}"), &[], &[])
        .expect("an answer")
        .ok();
    assert_eq!(drawn(&mut sharded), before);
    for n in 1..=10 {
        if n % 2 == 0 {
            let shown = lines(&sharded.ask(&format!("EXPLAIN ANALYZE {insert}")).ok());
            assert!(shown[0].ends_with("(write by a drawn key)"), "{shown:?}");
        } else {
            let sql = "EXPLAIN ANALYZE INSERT INTO drawn (v) VALUES ($1)";
            let answer = sharded
                .extended(sql, &[], &[Some("x")])
                .expect("an answer")
                .ok();
            assert!(
                lines(&answer)[0].starts_with("pgshunt: shard s"),
                "{answer:?}"
            );
        }
        assert_eq!(count(&mut sharded, "drawn"), n);
    }
    // each row is where its key leads
    for row in sharded.ask("SELECT id FROM drawn ORDER BY id").ok().rows {
        let id = row[0].clone().expect("an id");
        let found = sharded
            .ask(&format!("SELECT v FROM drawn WHERE id = {id}"))
            .ok();
        assert_eq!(found.value(), "x", "{id}");
    }
}

#[test]
fn what_is_refused_is_refused_alike() {
    let mut sharded = connect();
    for sql in [
        "DELETE FROM users",
        "UPDATE users SET name = 'x' WHERE country = 'c1'",
        "INSERT INTO users VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
        "INSERT INTO users VALUES (NULL, 'a')",
        "INSERT INTO countries VALUES ('x', 'x', random()::int)",
        "SELECT name FROM users ORDER BY name FOR UPDATE",
        "SELECT ctid FROM users ORDER BY name",
        "SELECT random(), name FROM users ORDER BY name",
        "UPDATE users SET id = 9 WHERE id = 8",
        "SELECT current_database(), count(*) FROM users",
    ] {
        let refused = sharded.ask(sql);
        let error = refused.error.expect("a refusal");
        assert!(
            !error.hint.is_empty() || error.code != "0A000",
            "{sql}: {error:?}"
        );
        for explain in ["EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN (FORMAT json)"] {
            let explain = format!("{explain} {sql}");
            assert_eq!(
                sharded.ask(&explain).error.as_ref(),
                Some(&error),
                "{explain}"
            );
            let extended = sharded.extended(&explain, &[], &[]).expect("an answer");
            assert_eq!(extended.error.as_ref(), Some(&error), "{explain}");
        }
    }
    assert_eq!(count(&mut sharded, "users"), USERS);
    // a cursor is not declared by it: its query is explained
    let cursor = sharded
        .ask("EXPLAIN DECLARE c CURSOR FOR SELECT name FROM users ORDER BY id")
        .ok();
    assert!(lines(&cursor)[0].contains("merged by 1 key"), "{cursor:?}");
}

#[test]
fn parameters_and_portions() {
    let mut sharded = connect();
    let sql = "EXPLAIN (ANALYZE, TIMING off, SUMMARY off) SELECT name FROM users WHERE age <= $1 ORDER BY id LIMIT $2";
    let answer = sharded
        .extended(sql, &[], &[Some("12"), Some("4")])
        .expect("an answer")
        .ok();
    let shown = lines(&answer);
    assert!(
        shown.iter().any(|line| line.contains("limit $2  (rows=4 ")),
        "{shown:?}"
    );
    let by_key = "EXPLAIN SELECT name FROM users WHERE id = $1";
    for id in 1..=6 {
        let value = id.to_string();
        let answer = sharded
            .extended(by_key, &[20], &[Some(&value)])
            .expect("an answer")
            .ok();
        assert_eq!(
            lines(&answer)[0],
            format!("pgshunt: shard s{} (read by_user = $1)", shard_of(id) + 1)
        );
    }
    // gathered, narrowed by a parameter
    let gathered = "EXPLAIN ANALYZE SELECT name FROM users WHERE country = $1 ORDER BY name";
    let answer = sharded
        .extended(gathered, &[25], &[Some("c1")])
        .expect("an answer")
        .ok();
    let shown = lines(&answer);
    let copied: usize = shown
        .iter()
        .filter(|line| line.contains("Shard s") && line.contains("'c1'"))
        .map(|line| {
            line.split("(rows=")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .expect("rows")
        })
        .map(|rows| rows.parse::<usize>().expect("a number"))
        .sum();
    assert_eq!(
        copied,
        (1..=USERS).filter(|id| id % 3 == 1).count(),
        "{shown:?}"
    );
    assert_eq!(answer.messages, "1tT2CZ");
    // with a table that no other shard has
    let sql = "EXPLAIN SELECT name FROM users JOIN homely ON homely.id = age WHERE name <> $1";
    for _ in 0..4 {
        let answer = sharded
            .extended(sql, &[], &[Some("x")])
            .expect("an answer")
            .ok();
        assert!(lines(&answer)[0].contains("gathered: homely"), "{answer:?}");
    }
    // in portions, in a transaction
    sharded.ask("BEGIN").ok();
    let mut bytes = parse("", "EXPLAIN SELECT id FROM users ORDER BY id", &[]);
    bytes.extend(bind("some", "", &[]));
    bytes.extend(message(b'D', b"Psome\0"));
    bytes.extend(execute("some", 2));
    bytes.extend(sync());
    sharded.send(&bytes).expect("sent");
    let first = sharded.until_ready().expect("an answer").ok();
    assert_eq!((first.rows.len(), first.messages.as_str()), (2, "12TsZ"));
    sharded
        .send(&[execute("some", 0), sync()].concat())
        .expect("sent");
    let rest = sharded.until_ready().expect("an answer").ok();
    let whole = sharded.ask("EXPLAIN SELECT id FROM users ORDER BY id").ok();
    assert_eq!([lines(&first), lines(&rest)].concat(), lines(&whole));
    sharded.ask("COMMIT").ok();
}

#[test]
fn several_statements_in_one_batch_keep_their_answers_apart() {
    let mut sharded = connect();
    let mut bytes = Vec::new();
    for sql in [
        "SELECT name FROM users WHERE id = 1",
        "EXPLAIN SELECT name FROM users WHERE id = 1",
        "EXPLAIN SELECT count(*) FROM users",
        "SELECT age FROM users WHERE id = 1",
    ] {
        bytes.extend(parse("", sql, &[]));
        bytes.extend(bind("", "", &[]));
        bytes.extend(execute("", 0));
    }
    bytes.extend(sync());
    sharded.send(&bytes).expect("sent");
    let answer = sharded.until_ready().expect("an answer").ok();
    assert_eq!(answer.tags, ["SELECT 1", "EXPLAIN", "EXPLAIN", "SELECT 1"]);
    let shown = lines(&answer);
    assert_eq!(
        (shown[0].as_str(), shown.last().map(String::as_str)),
        ("name 1", Some("1"))
    );
    assert!(shown[1].starts_with("pgshunt: shard s"));
    let simple = sharded
        .ask("SELECT 1; EXPLAIN SELECT count(*) FROM users; SELECT 2")
        .ok();
    assert_eq!(simple.tags, ["SELECT 1", "EXPLAIN", "SELECT 1"]);
    assert_eq!(simple.messages, "TCTCTCZ");
}

#[test]
fn cursors_of_one_shard_go_on_beside_it() {
    let mut sharded = connect();
    sharded.ask("BEGIN").ok();
    sharded
        .ask("DECLARE c CURSOR FOR SELECT id FROM users WHERE id = 1")
        .ok();
    for sql in [
        "SELECT * FROM users WHERE id = 1",
        "SELECT count(*) FROM users WHERE id IN (1, 2, 3, 4)",
    ] {
        sharded
            .extended(&format!("EXPLAIN {sql}"), &[], &[])
            .expect("an answer")
            .ok();
    }
    let row = sharded
        .extended("FETCH 1 FROM c", &[], &[])
        .expect("an answer")
        .ok();
    assert_eq!(row.value(), "1");
    assert_eq!(sharded.ask("FETCH ALL FROM c").ok().rows.len(), 0);
    sharded.ask("COMMIT").ok();
}

#[test]
fn a_cancel_request_ends_it() {
    let mut sharded = connect();
    let slow = "SELECT id, (SELECT count(*) FROM generate_series(1, 99999) a, generate_series(1, 99999) b) FROM users";
    for (sql, how) in [
        (format!("{slow} ORDER BY id"), "merged"),
        (format!("{slow} ORDER BY name"), "gathered"),
    ] {
        let plan = lines(&sharded.ask(&format!("EXPLAIN {sql}")).ok());
        assert!(plan[0].contains(how), "{plan:?}");
        sharded
            .send(&query(&format!("EXPLAIN ANALYZE {sql}")))
            .expect("sent");
        let town = &house().town;
        town.eventually("servers work at it", || {
            let works = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%99999%' AND state = 'active' AND pid <> pg_backend_pid()";
            let work = |(shard, member)| town.superuser(shard, member, "postgres").ask(works).ok().value() != "0";
            town.members().into_iter().any(work)
        });
        cancel(&sharded);
        let answer = sharded
            .until_ready()
            .unwrap_or_else(|error| panic!("{how}: {error}"));
        assert_eq!(answer.code(), "57014", "{answer:?}");
        assert!(answer.rows.is_empty());
        assert_eq!(count(&mut sharded, "users"), USERS);
    }
}

fn cancel(raw: &Raw) {
    use std::io::{Read, Write};
    let mut packet = (8 + raw.secret.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(80_877_102_u32.to_be_bytes());
    packet.extend(raw.pid.to_be_bytes());
    packet.extend(&raw.secret);
    let address = ("127.0.0.1", house().proxy.port());
    let mut socket = std::net::TcpStream::connect(address).expect("pgshunt");
    socket.write_all(&packet).expect("sent");
    let _ = socket.read(&mut [0; 1]);
}

#[test]
fn transactions_see_their_own_writes_and_fail_as_a_whole() {
    let mut sharded = connect();
    sharded.ask("BEGIN").ok();
    sharded.ask("INSERT INTO counters VALUES (1000, 5)").ok();
    for sql in [
        "SELECT * FROM counters",
        "SELECT n, count(*) OVER () FROM counters",
    ] {
        let read = json(
            &mut sharded,
            &format!("EXPLAIN (ANALYZE, FORMAT json) {sql}"),
        );
        assert_eq!(read[0]["pgshunt"]["Steps"][0]["Rows"], USERS + 1, "{sql}");
    }
    let failed = sharded.ask("EXPLAIN ANALYZE SELECT 1 / (n - 5) FROM counters");
    assert_eq!(failed.code(), "22012", "{failed:?}");
    assert!(failed.rows.is_empty());
    assert_eq!(
        sharded.ask("EXPLAIN SELECT * FROM counters").code(),
        "25P02"
    );
    assert_eq!(
        sharded
            .ask("EXPLAIN SELECT * FROM counters WHERE id = 1")
            .code(),
        "25P02"
    );
    sharded.ask("ROLLBACK").ok();
    let wrong = sharded.ask("EXPLAIN SELECT nothing FROM users");
    assert_eq!(wrong.code(), "42703");
    sharded.ask("SET client_encoding = 'LATIN1'").ok();
    let latin = lines(
        &sharded
            .ask("EXPLAIN SELECT 'gr\\u00fcn', count(*) FROM users GROUP BY 1")
            .ok(),
    );
    assert!(latin[0].starts_with("pgshunt: "), "{latin:?}");
}

#[test]
fn statistics_tell_how_the_shards_had_a_part() {
    let house = house();
    let mut sharded = connect();
    let calls = [
        ("SELECT name, 'ways' FROM users WHERE id = 1", "single"),
        ("SELECT name, 'ways' FROM users", "concatenated"),
        ("SELECT name, 'ways' FROM users ORDER BY id", "combined"),
        ("SELECT name, 'ways' FROM users ORDER BY name", "gathered"),
        (
            "UPDATE countries SET n = n WHERE name = 'ways'",
            "everywhere",
        ),
        ("ANALYZE countries", "everywhere"),
        ("VACUUM countries", "everywhere"),
        ("SELECT body, 'ways' FROM notes", "single"),
        (
            "EXPLAIN SELECT age, 'ways' FROM users ORDER BY id",
            "combined",
        ),
    ];
    for (n, (sql, _)) in calls.iter().enumerate() {
        for _ in 0..=n % 2 {
            sharded.ask(sql).ok();
        }
    }
    let mut console = Raw::connect(house.proxy.port(), "app", "pgshunt").expect("the console");
    let shown = console.ask("SHOW QUERIES").ok();
    let columns = shown.columns.expect("columns");
    let at = |name: &str| {
        columns
            .iter()
            .position(|c| c.name == name)
            .expect("a column")
    };
    for (n, (sql, way)) in calls.iter().enumerate() {
        let shape = sql.replace("= 1", "= ?").replace("= 'ways'", "= ?");
        let row = shown
            .rows
            .iter()
            .find(|row| row[at("query")].as_deref() == Some(&shape))
            .unwrap_or_else(|| panic!("{shape}"));
        for name in [
            "single",
            "concatenated",
            "combined",
            "gathered",
            "everywhere",
        ] {
            let expected = if name == *way { 1 + n % 2 } else { 0 };
            assert_eq!(
                row[at(name)].as_deref(),
                Some(&*expected.to_string()),
                "{sql}: {name}"
            );
        }
    }
}
