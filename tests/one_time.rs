//! One time for every server that a statement or a transaction reaches: `now()` and its kin, and literals like 'now', are the
//! same in all rows, in all statements of a transaction, and in what is written on every shard.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::collections::BTreeSet;
use std::sync::OnceLock;
use support::cluster::Proxy;
use support::raw::{self, Answer, Raw};
use support::town::{Map, Town};

const TABLES: &str = "\
keyspaces:
  - { name: by_id, type: bigint, hash: { buckets: 64 } }
tables:
  - { name: events, keyspace: by_id, key: id }
reference_tables: [countries]
";

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("one_time", 2, 0);
        town.on_primaries(
            "CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz DEFAULT now(), day date DEFAULT '2020-02-02', note text);
             CREATE TABLE countries (code text PRIMARY KEY, updated timestamptz);
             CREATE VIEW recent AS SELECT id, at < now() AS past FROM events;
             CREATE TABLE plain (id int);
             CREATE SCHEMA own;
             CREATE FUNCTION own.now() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT timestamptz '2001-01-01' $$;
             GRANT USAGE ON SCHEMA own TO app;",
        );
        town
    })
}

fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        let mut map = Map::of(town(), 2, 0).pool("size: 10");
        map.tables = TABLES.into();
        let proxy = Proxy::start(&map.text());
        let mut client = connect(&proxy);
        for id in 1..=40 {
            let sql =
                format!("INSERT INTO events (id, at, note) VALUES ({id}, '2020-01-01', 'today')");
            client.ask(&sql).ok();
        }
        client
            .ask("INSERT INTO countries VALUES ('de', NULL), ('ch', NULL)")
            .ok();
        proxy
    })
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// An id of each shard.
fn apart() -> [i64; 2] {
    proxy();
    [0, 1].map(|shard| {
        let found = town()
            .direct(shard, 0)
            .ask("SELECT min(id) FROM events WHERE id <= 40")
            .ok();
        found.value().parse().expect("an id on each shard")
    })
}

/// The different values of the first column.
fn different(answer: Answer) -> BTreeSet<String> {
    let answer = answer.ok();
    let values = answer
        .rows
        .iter()
        .map(|row| row[0].clone().unwrap_or_default());
    values.collect()
}

/// In both protocols.
fn in_both(client: &mut Raw, sql: &str) -> [Answer; 2] {
    let simple = client.ask(sql);
    [simple, client.extended(sql, &[], &[]).expect("an answer")]
}

#[test]
fn every_row_has_the_same_time() {
    let mut client = connect(proxy());
    for clock in [
        "now()",
        "pg_catalog.now()",
        "current_timestamp",
        "transaction_timestamp()",
        "localtimestamp",
        "'now'::timestamptz",
        "timestamp 'NOW'",
        "now() - interval '1 day'",
        "statement_timestamp()",
    ] {
        let sql = format!("SELECT {clock}, id FROM events WHERE id <= 40");
        for answer in in_both(&mut client, &sql) {
            assert_eq!(answer.rows.len(), 40, "{clock}: {answer:?}");
            assert_eq!(different(answer).len(), 1, "{clock}");
        }
    }
    let sql = "SELECT $1::timestamptz, id FROM events";
    let refused = client
        .extended(sql, &[], &[Some("now")])
        .expect("an answer");
    assert_eq!(refused.code(), "0A000", "{refused:?}");
    assert_eq!(
        client
            .extended(sql, &[], &[Some("2020-01-01")])
            .expect("an answer")
            .code(),
        ""
    );
    // a text is a text
    let sql = "SELECT count(*) FROM events WHERE id <= 40 AND note = 'today'";
    for answer in in_both(&mut client, sql) {
        assert_eq!(answer.ok().value(), "40");
    }
}

#[test]
fn columns_have_the_names_that_postgresql_gives_them() {
    let (mut client, mut direct) = (connect(proxy()), town().direct(0, 0));
    for list in [
        "now(), current_date, localtimestamp, current_timestamp, transaction_timestamp()",
        "pg_catalog.now(), now() AS then, now() - at, coalesce(at, now()), (now()), now()::date, CAST(now() AS date)",
        "CASE WHEN id > 7 THEN at ELSE now() END, (SELECT now()), now() IS NULL, date_trunc('day', now()), now() AT TIME ZONE 'UTC'",
        "DISTINCT now()",
        "'now'::timestamptz, date 'today', timestamp 'now', CAST('now' AS date), 'now'::timestamptz::date, now() - 'now'::timestamptz AS none",
        "extract(year FROM now()), -(now() - now()), ARRAY[now()], now() BETWEEN at AND now()",
    ] {
        let sql = format!("SELECT {list} FROM events");
        let names = |answer: Answer| {
            let answer = answer.ok();
            let columns = answer.columns.expect("columns");
            columns
                .iter()
                .map(|c| (c.name.clone(), c.type_oid))
                .collect::<Vec<_>>()
        };
        let expected = names(direct.ask(&sql));
        for answer in in_both(&mut client, &sql) {
            assert_eq!(names(answer), expected, "{sql}");
        }
    }
}

#[test]
fn a_transaction_has_one_time_whichever_shards_it_reaches() {
    let [one, other] = apart();
    let mut client = connect(proxy());
    for extended in [false, true] {
        let mut time = |sql: &str| {
            let answer = if extended {
                client.extended(sql, &[], &[]).expect("an answer")
            } else {
                client.ask(sql)
            };
            different(answer).into_iter().collect::<Vec<_>>().join(" ")
        };
        let at = |id: i64| format!("SELECT now() FROM events WHERE id = {id}");
        for first in [
            at(one),
            at(other),
            "SELECT now()".to_owned(),
            "SELECT now() FROM plain RIGHT JOIN (SELECT 1) s ON true".to_owned(),
            "SELECT DISTINCT now() FROM events".to_owned(),
            "SELECT max(now()) FROM events".to_owned(),
        ] {
            time("BEGIN");
            let begun = time(&first);
            assert!(begun.len() > 20, "{first}: {begun}");
            for next in [
                at(other),
                at(one),
                "SELECT now()".to_owned(),
                "SELECT now(), id FROM events".to_owned(),
                "SELECT DISTINCT now(), id % 3 FROM events ORDER BY 2".to_owned(),
                "SELECT 'now'::timestamptz, id FROM events".to_owned(),
                "SELECT DISTINCT timestamptz 'NOW' FROM events WHERE at < CAST('today' AS date)"
                    .to_owned(),
                "SELECT current_timestamp FROM events e JOIN countries c ON true".to_owned(),
            ] {
                assert_eq!(time(&next), begun, "{first}, then {next}");
            }
            time("COMMIT");
        }
    }
}

/// What a server has put into its own rows by a default is of its own time.
#[test]
fn the_time_is_that_of_the_shard_that_is_written_on_or_refused() {
    let [one, other] = apart();
    let mut client = connect(proxy());
    client.ask("BEGIN").ok();
    client
        .ask(&format!("SELECT id FROM events WHERE id = {one}"))
        .ok();
    let inserted = 100
        + (0..1000)
            .find(|n| on_shard(100 + n) == on_shard(other))
            .expect("an id");
    client
        .ask(&format!("INSERT INTO events (id) VALUES ({inserted})"))
        .ok();
    let mine = "SELECT count(*) FROM events WHERE at = now()";
    for answer in in_both(&mut client, mine) {
        assert_eq!(answer.ok().value(), "1");
    }
    client.ask("ROLLBACK").ok();
    // once a client has seen the time of one, a row of the other may have another
    client.ask("BEGIN").ok();
    client
        .ask(&format!("SELECT now() FROM events WHERE id = {one}"))
        .ok();
    client
        .ask(&format!("INSERT INTO events (id) VALUES ({inserted})"))
        .ok();
    assert_eq!(client.ask(mine).code(), "0A000");
    client.ask("ROLLBACK").ok();
    client.ask("BEGIN").ok();
    client
        .ask(&format!("SELECT now() FROM events WHERE id = {one}"))
        .ok();
    for (time, extended) in [
        ("now()", false),
        ("now()", true),
        ("timestamptz 'now'", false),
        ("timestamptz 'now'", true),
    ] {
        let told = format!("UPDATE events SET at = {time} WHERE id = {other}");
        let answer = if extended {
            client.extended(&told, &[], &[]).expect("an answer")
        } else {
            client.ask(&told)
        };
        assert_eq!(answer.code(), "0A000", "{time}");
        client.ask("ROLLBACK").ok();
        client.ask("BEGIN").ok();
        client
            .ask(&format!("SELECT now() FROM events WHERE id = {one}"))
            .ok();
    }
    client.ask("ROLLBACK").ok();
}

/// Which shard has this id, by its hash.
fn on_shard(id: i64) -> String {
    let sql = format!("/* pgshunt: key={id} keyspace=by_id */ SELECT inet_server_port()");
    connect(proxy()).ask(&sql).ok().value().to_owned()
}

#[test]
fn what_is_written_on_every_shard_has_the_same_time_there() {
    let mut client = connect(proxy());
    let mut write = |sql: &str, extended: bool| {
        let answer = if extended {
            client.extended(sql, &[], &[]).expect("an answer")
        } else {
            client.ask(sql)
        };
        answer.ok()
    };
    for extended in [false, true] {
        for sql in [
            "UPDATE countries SET updated = now()",
            "INSERT INTO countries VALUES ('fr', current_timestamp) ON CONFLICT (code) DO UPDATE SET updated = now() + interval '1 hour'",
            "UPDATE countries SET updated = localtimestamp WHERE updated < now() + interval '1 day' RETURNING updated",
            "BEGIN; UPDATE countries SET updated = now(); COMMIT",
        ] {
            if extended && sql.starts_with("BEGIN") {
                continue;
            }
            write(sql, extended);
            let there = [0, 1].map(|shard| {
                let sql = "SELECT string_agg(updated::text, ' ' ORDER BY code) FROM countries";
                town().direct(shard, 0).ask(sql).ok().value().to_owned()
            });
            assert!(there[0].len() > 40, "{there:?}");
            assert_eq!(there[0], there[1], "{sql}");
        }
    }
    let refused = client_refuses("UPDATE countries SET updated = clock_timestamp()");
    assert!(refused.contains("countries"), "{refused}");
}

fn client_refuses(sql: &str) -> String {
    let mut client = connect(proxy());
    let [simple, extended] = in_both(&mut client, sql);
    assert_eq!((simple.code(), extended.code()), ("0A000", "0A000"));
    simple.error.map(|error| error.message).unwrap_or_default()
}

#[test]
fn the_day_is_that_of_the_sessions_time_zone() {
    let mut client = connect(proxy());
    for zone in ["Pacific/Kiritimati", "Pacific/Midway", "UTC"] {
        client.ask(&format!("SET TimeZone = '{zone}'")).ok();
        client.ask("SET DateStyle = 'German, DMY'").ok();
        let mut direct = town().direct(0, 0);
        direct
            .ask(&format!(
                "SET TimeZone = '{zone}'; SET DateStyle = 'German, DMY'"
            ))
            .ok();
        let expected = direct.ask("SELECT current_date").ok();
        for answer in in_both(&mut client, "SELECT DISTINCT current_date FROM events") {
            assert_eq!(answer.ok().value(), expected.value(), "{zone}");
        }
        for answer in in_both(
            &mut client,
            "SELECT count(*) FROM events WHERE at < now() AND now() - localtimestamp = '0'",
        ) {
            assert_eq!(answer.ok().value(), "40", "{zone}");
        }
    }
}

/// What cannot be given a time is gathered, which is one time as well, or refused in a transaction.
#[test]
fn views_that_ask_the_time_are_still_exact_or_refused() {
    let mut client = connect(proxy());
    for answer in in_both(
        &mut client,
        "SELECT count(*) FROM recent WHERE past AND now() IS NOT NULL",
    ) {
        assert_eq!(answer.ok().value(), "40");
    }
    client.ask("BEGIN").ok();
    assert_eq!(client.ask("SELECT past, now() FROM recent").code(), "0A000");
    client.ask("ROLLBACK").ok();
}

/// With its time in it a statement is asked of the shards, not copied from them.
#[test]
fn a_statement_with_a_clock_is_pushed_down() {
    let mut client = connect(proxy());
    let counted = "SELECT count(*) FROM events WHERE at < now() - interval '1 day'";
    for answer in in_both(&mut client, &format!("EXPLAIN {counted}")) {
        let text: Vec<String> = answer
            .ok()
            .rows
            .iter()
            .map(|r| r[0].clone().unwrap_or_default())
            .collect();
        let text = text.join("\n");
        assert!(
            text.contains("partial results combined") && !text.contains("gathered"),
            "{text}"
        );
    }
    for answer in in_both(&mut client, &format!("EXPLAIN (ANALYZE) {counted}")) {
        assert!(answer.ok().rows.len() > 4);
    }
    for answer in in_both(&mut client, "EXPLAIN UPDATE countries SET updated = now()") {
        assert!(answer.ok().rows.len() > 1);
    }
}

/// What stands between two Syncs is one transaction.
#[test]
fn a_batch_has_one_time() {
    let mut client = connect(proxy());
    let mut batch = raw::parse(
        "many",
        "SELECT DISTINCT now() FROM events WHERE id <> $1",
        &[],
    );
    batch.extend(raw::parse(
        "write",
        "UPDATE countries SET updated = now() WHERE code = $1",
        &[],
    ));
    batch.extend(raw::sync());
    client.send(&batch).expect("a server");
    client.until_ready().expect("an answer").ok();
    let mut batch = Vec::new();
    for id in ["1", "2", "3"] {
        batch.extend(raw::bind("", "many", &[Some(id)]));
        batch.extend(raw::execute("", 0));
    }
    batch.extend(raw::sync());
    client.send(&batch).expect("a server");
    let answer = client.until_ready().expect("an answer").ok();
    assert_eq!(answer.rows.len(), 3);
    assert_eq!(different(answer).len(), 1);
    client.ask("BEGIN").ok();
    let mut batch = Vec::new();
    for code in ["de", "ch"] {
        batch.extend(raw::bind("", "write", &[Some(code)]));
        batch.extend(raw::execute("", 0));
    }
    batch.extend(raw::sync());
    client.send(&batch).expect("a server");
    let answer = client.until_ready().expect("an answer").ok();
    assert_eq!(answer.tags, ["UPDATE 1", "UPDATE 1"]);
    client
        .ask("UPDATE countries SET updated = now() WHERE code = 'de'")
        .ok();
    client.ask("COMMIT").ok();
    let sql = "SELECT DISTINCT updated FROM countries WHERE code IN ('de', 'ch')";
    let there = [0, 1].map(|shard| different(town().direct(shard, 0).ask(sql)));
    assert_eq!((there[0].len(), &there[0]), (1, &there[1]));
}

/// psql marks it in what was typed.
#[test]
fn an_error_is_about_a_place_of_the_clients_text() {
    let (mut client, mut direct) = (connect(proxy()), town().direct(0, 0));
    for sql in [
        "SELECT count(*) FROM events WHERE at < now() AND nothing = 1",
        "SELECT now(), id, current_date, nothing FROM events ORDER BY id",
        "SELECT 'ä', now() + 7 FROM events",
        "UPDATE countries SET updated = now(), nothing = 1",
        "SELECT DISTINCT note, now(), nothing.id FROM events",
    ] {
        let place = |answer: Answer| {
            let error = answer.error.expect("an error");
            (error.code, error.position)
        };
        let expected = place(direct.ask(sql));
        assert!(!expected.1.is_empty(), "{sql}");
        assert_eq!(place(client.ask(sql)), expected, "{sql}");
    }
}

#[test]
fn a_function_of_the_user_is_no_clock() {
    let mut client = connect(proxy());
    let sql = "SELECT count(*) FROM events WHERE id <= 40 AND at > now()";
    for answer in in_both(&mut client, sql) {
        assert_eq!(answer.ok().value(), "0");
    }
    client.ask("SET search_path = own, public, pg_catalog").ok();
    for answer in in_both(&mut client, sql) {
        assert!(
            answer.code() == "0A000" || answer.value() == "40",
            "{answer:?}"
        );
    }
}
