//! Rows of several shards in portions: portals with row limits, and cursors, each message beside one Postgres that has all the
//! rows. The same messages, rows, tags and errors, whichever way the rows come together.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use support::cluster::Proxy;
use support::raw::{Answer, Raw, bind, execute, message, parse, query, sync};
use support::town::{Dice, Town};

const TABLES: &str = "\
keyspaces:
  - name: by_id
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: things, keyspace: by_id, key: id }
";

const SCHEMA: &str = "CREATE TABLE things (id bigint PRIMARY KEY, n int, note text)";

/// Put together while they come, and in a scratch database.
const STATEMENTS: [&str; 5] = [
    "SELECT id, n, note FROM things ORDER BY id",
    "SELECT id, n FROM things WHERE n = 3 ORDER BY n, id DESC LIMIT 7",
    "SELECT count(*), sum(n) FROM things",
    "SELECT a.id, b.id AS other FROM things a JOIN things b ON a.n = b.n + 1 ORDER BY 1, 2 LIMIT 11",
    "SELECT id FROM things WHERE n > 1000",
];

struct House {
    town: Town,
    proxy: Proxy,
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let town = Town::start("portals", 2, 1);
        for answer in town.on_primaries(SCHEMA) {
            answer.ok();
        }
        let mut postgres = town.superuser(0, 0, "postgres");
        postgres.ask("CREATE DATABASE plain OWNER app").ok();
        let mut plain = Raw::connect(town.port(0, 0), "app", "plain").expect("the one Postgres");
        plain.ask(SCHEMA).ok();
        town.catch_up();
        let map = town.cluster.map_with(TABLES) + "limits: { portal_bytes_max: 300000 }\n";
        let proxy = Proxy::start(&map);
        let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        for id in 1..=60 {
            let sql = format!(
                "INSERT INTO things VALUES ({id}, {}, repeat('x', 20))",
                id * 7 % 6
            );
            sharded.ask(&sql).ok();
            plain.ask(&sql).ok();
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

/// Tables have numbers of their own in each database.
fn told(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    for column in answer.columns.iter_mut().flatten() {
        column.type_oid = column.type_oid.min(16_384);
    }
    if let Some(error) = &mut answer.error {
        error.hint.clear();
    }
    answer
}

impl Pair {
    #[track_caller]
    fn same(&mut self, bytes: &[u8]) -> Answer {
        self.sharded.send(bytes).expect("sent");
        self.plain.send(bytes).expect("sent");
        let here = self.sharded.until_ready().expect("pgshunt");
        let there = self.plain.until_ready().expect("the one Postgres");
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(told(&here), told(&there), "{shown}");
        assert_eq!(self.sharded.status, self.plain.status, "{shown}");
        here
    }

    #[track_caller]
    fn ask(&mut self, sql: &str) -> Answer {
        self.same(&query(sql))
    }

    #[track_caller]
    fn batch(&mut self, parts: &[Vec<u8>]) -> Answer {
        self.same(&[parts.concat(), sync()].concat())
    }
}

fn describe(portal: &str) -> Vec<u8> {
    message(b'D', format!("P{portal}\0").as_bytes())
}

fn close(portal: &str) -> Vec<u8> {
    message(b'C', format!("P{portal}\0").as_bytes())
}

#[test]
fn one_batch_with_many_executes() {
    let mut pair = pair();
    for sql in STATEMENTS {
        let start = [parse("", sql, &[]), bind("", "", &[]), describe("")];
        for limits in [
            &[3, 0][..],
            &[7, 7],
            &[60, 1],
            &[0, 3, 0],
            &[1, 1, 1, 100, 5],
            &[-1],
            &[11, 11, 0],
        ] {
            let mut parts = start.to_vec();
            parts.extend(limits.iter().map(|limit| execute("", *limit)));
            pair.batch(&parts);
        }
        // gone with the Sync
        pair.batch(&[execute("", 1)]);
    }
}

#[test]
fn portions_over_the_batches_of_a_transaction() {
    let mut pair = pair();
    for sql in STATEMENTS {
        pair.ask("BEGIN");
        let begun = [
            parse("s", sql, &[]),
            bind("p", "s", &[]),
            describe("p"),
            execute("p", 4),
        ];
        pair.batch(&begun);
        pair.ask("SELECT 1");
        pair.batch(&[execute("p", 2), execute("p", 2)]);
        pair.ask("SELECT n FROM things WHERE id = 5");
        pair.batch(&[execute("p", 0), execute("p", 1)]);
        pair.batch(&[close("p")]);
        let gone = pair.batch(&[execute("p", 1)]);
        assert_eq!(gone.code(), "34000");
        pair.ask("ROLLBACK");
        pair.batch(&[message(b'C', b"Ss\0")]);
    }
}

#[test]
fn several_portals_take_turns() {
    let mut pair = pair();
    pair.ask("BEGIN ISOLATION LEVEL REPEATABLE READ");
    for (n, sql) in STATEMENTS.iter().enumerate() {
        let name = n.to_string();
        pair.batch(&[parse("", sql, &[]), bind(&name, "", &[]), execute(&name, 1)]);
    }
    let mut dice = Dice(7);
    for _ in 0..80 {
        let name = dice.below(STATEMENTS.len() as u64).to_string();
        pair.batch(&[execute(&name, dice.below(4) as i32)]);
    }
    pair.ask("COMMIT");
    pair.batch(&[execute("0", 1)]);
}

#[test]
fn the_unnamed_portal_ends_with_the_next_bind_or_query() {
    let mut pair = pair();
    pair.ask("BEGIN");
    let bound = [parse("", STATEMENTS[0], &[]), bind("", "", &[])];
    pair.batch(&[bound.concat(), execute("", 2)]);
    pair.batch(&[execute("", 2)]);
    pair.batch(&[bind("", "", &[]), execute("", 3)]);
    pair.ask("SELECT 1");
    let gone = pair.batch(&[execute("", 2)]);
    assert_eq!(gone.code(), "34000");
    pair.batch(&[execute("", 2)]);
    pair.ask("ROLLBACK");
}

#[test]
fn bound_alone_and_executed_later() {
    let mut pair = pair();
    for sql in &STATEMENTS[..3] {
        pair.ask("BEGIN");
        pair.batch(&[parse("", sql, &[]), bind("p", "", &[])]);
        pair.batch(&[describe("p")]);
        pair.batch(&[execute("p", 2)]);
        pair.batch(&[execute("p", 0)]);
        pair.ask("COMMIT");
    }
}

#[test]
fn savepoints_end_the_portals_made_since() {
    let mut pair = pair();
    let sql = STATEMENTS[0];
    pair.ask("BEGIN");
    pair.batch(&[parse("", sql, &[]), bind("old", "", &[]), execute("old", 2)]);
    pair.ask("SAVEPOINT a");
    pair.batch(&[parse("", sql, &[]), bind("new", "", &[]), execute("new", 2)]);
    pair.batch(&[execute("old", 2)]);
    pair.ask("ROLLBACK TO a");
    pair.batch(&[execute("old", 2)]);
    pair.batch(&[execute("new", 2)]);
    pair.batch(&[execute("old", 2)]);
    pair.ask("ROLLBACK TO a");
    pair.batch(&[execute("old", 2)]);
    pair.batch(&[
        parse("", sql, &[]),
        bind("kept", "", &[]),
        execute("kept", 2),
    ]);
    pair.ask("RELEASE a");
    pair.ask("SAVEPOINT b");
    pair.ask("ROLLBACK TO b");
    pair.batch(&[execute("kept", 2)]);
    pair.ask("ROLLBACK");
}

#[test]
fn errors_are_shown_as_ever_and_nothing_is_half_answered() {
    let mut pair = pair();
    let sql = "SELECT 100 / (id - 1) FROM things ORDER BY id";
    for begin in [false, true] {
        if begin {
            pair.sharded.ask("BEGIN").ok();
        }
        let asked = [
            parse("", sql, &[]),
            bind("p", "", &[]),
            execute("p", 1),
            sync(),
        ];
        pair.sharded.send(&asked.concat()).expect("sent");
        let answer = pair.sharded.until_ready().expect("an answer");
        assert_eq!((answer.code(), answer.rows.len()), ("22012", 0));
        if begin {
            let again = [execute("p", 1), sync()].concat();
            pair.sharded.send(&again).expect("sent");
            let answer = pair.sharded.until_ready().expect("an answer");
            assert_eq!(answer.code(), "25P02");
            pair.sharded.ask("ROLLBACK").ok();
        }
    }
    // more than there is room for
    let large = "SELECT id, repeat('y', 10000) FROM things ORDER BY id";
    let ask = [
        parse("", large, &[]),
        bind("", "", &[]),
        execute("", 1),
        sync(),
    ]
    .concat();
    pair.sharded.send(&ask).expect("sent");
    let answer = pair.sharded.until_ready().expect("an answer");
    assert_eq!(answer.code(), "54000");
    assert_eq!(answer.rows.len(), 0);
    // and all at once there is no need to keep them
    pair.batch(&[parse("", large, &[]), bind("", "", &[]), execute("", 0)]);
    let less = "SELECT id, repeat('y', 4500) FROM things ORDER BY id";
    pair.batch(&[
        parse("", less, &[]),
        bind("", "", &[]),
        execute("", 1),
        execute("", 0),
    ]);
}

#[test]
fn a_flush_is_answered() {
    let mut pair = pair();
    for sql in STATEMENTS {
        for begin in [true, false] {
            if begin {
                pair.ask("BEGIN");
            }
            let flush = message(b'H', b"");
            let bytes = [
                parse("", sql, &[]),
                bind("", "", &[]),
                execute("", 2),
                flush.clone(),
                execute("", 2),
                flush,
                execute("", 0),
            ];
            pair.batch(&bytes);
            if begin {
                pair.ask("COMMIT");
            }
        }
    }
}

const WAYS: [&str; 22] = [
    "FETCH c",
    "FETCH 3 FROM c",
    "FETCH NEXT IN c",
    "FETCH FORWARD 2 c",
    "FETCH ALL c",
    "FETCH FORWARD ALL FROM c",
    "FETCH PRIOR FROM c",
    "FETCH BACKWARD 4 c",
    "FETCH BACKWARD ALL c",
    "FETCH -2 c",
    "FETCH 0 c",
    "FETCH FIRST c",
    "FETCH LAST FROM c",
    "FETCH ABSOLUTE 5 c",
    "FETCH ABSOLUTE -3 c",
    "FETCH ABSOLUTE 0 c",
    "FETCH RELATIVE 2 c",
    "FETCH RELATIVE -2 c",
    "FETCH RELATIVE 0 c",
    "MOVE 2 IN c",
    "MOVE BACKWARD 3 c",
    "MOVE ABSOLUTE 70 c",
];

#[test]
fn a_scroll_cursor_goes_about_as_postgres_does() {
    let mut pair = pair();
    let mut dice = Dice(11);
    for sql in STATEMENTS {
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c SCROLL CURSOR FOR {sql}"));
        for way in WAYS {
            pair.ask(way);
        }
        for _ in 0..150 {
            pair.ask(dice.one(&WAYS));
        }
        pair.ask("MOVE ALL c; FETCH -1 c");
        pair.ask("CLOSE c");
        assert_eq!(pair.ask("FETCH c").code(), "34000");
        pair.ask("ROLLBACK");
    }
}

#[test]
fn a_cursor_that_only_goes_forward() {
    let mut pair = pair();
    for sql in STATEMENTS {
        for back in ["FETCH PRIOR c", "FETCH BACKWARD ALL c", "MOVE -1 c"] {
            pair.ask("BEGIN");
            pair.ask(&format!(
                "DECLARE c NO SCROLL CURSOR WITHOUT HOLD FOR {sql}"
            ));
            pair.ask("FETCH 2 c");
            pair.ask("MOVE RELATIVE 2 c");
            assert_eq!(pair.ask(back).code(), "55000");
            pair.ask("ROLLBACK");
        }
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c CURSOR FOR {sql}"));
        pair.ask("FETCH FORWARD 3 c; FETCH NEXT FROM c");
        pair.ask("FETCH ALL c");
        pair.ask("FETCH ALL c");
        let answer = pair.sharded.ask("FETCH PRIOR c");
        assert_eq!(answer.code(), "0A000");
        pair.sharded.ask("ROLLBACK").ok();
        pair.plain.ask("ROLLBACK").ok();
    }
}

#[test]
fn cursors_begin_and_end_as_postgres_has_it() {
    let mut pair = pair();
    let all = STATEMENTS[0];
    assert_eq!(
        pair.ask(&format!("DECLARE c CURSOR FOR {all}")).code(),
        "25P01"
    );
    pair.ask(&format!("DECLARE c CURSOR FOR {all}; FETCH 2 c; FETCH 1 c"));
    pair.ask("FETCH 2 c");
    pair.ask("BEGIN");
    pair.ask(&format!("DECLARE c CURSOR FOR {all}"));
    // what is written after it is not in it
    pair.ask("UPDATE things SET n = n WHERE id = 1");
    pair.ask("DELETE FROM things WHERE id = 1");
    pair.ask("FETCH 2 c");
    pair.ask("ROLLBACK");
    pair.ask("BEGIN");
    pair.ask(&format!("DECLARE c CURSOR FOR {all}"));
    pair.ask("SAVEPOINT a");
    pair.ask(&format!("DECLARE \"D d\" CURSOR FOR {all}"));
    pair.ask("FETCH 3 \"D d\"");
    pair.ask("FETCH 2 c");
    assert_eq!(
        pair.ask(&format!("DECLARE c CURSOR FOR {all}")).code(),
        "42P03"
    );
    assert_eq!(pair.ask("FETCH 2 c").code(), "25P02");
    pair.ask("ROLLBACK TO a");
    pair.ask("FETCH 2 c");
    assert_eq!(pair.ask("FETCH 1 \"D d\"").code(), "34000");
    pair.ask("ROLLBACK TO a");
    pair.ask(&format!("DECLARE e CURSOR FOR {all}"));
    pair.ask("RELEASE a");
    pair.ask("SAVEPOINT b");
    pair.ask("ROLLBACK TO b");
    pair.ask("FETCH 1 e");
    pair.ask("CLOSE ALL");
    assert_eq!(pair.ask("FETCH 1 e").code(), "34000");
    pair.ask("ROLLBACK");
    assert_eq!(pair.ask("FETCH 1 c").code(), "34000");
    // an error of the query, and a cursor on one shard
    pair.ask("BEGIN");
    pair.ask("DECLARE one SCROLL CURSOR FOR SELECT id, n FROM things WHERE id = 7");
    pair.ask("FETCH ALL one");
    pair.ask("FETCH PRIOR one");
    pair.ask(&format!("DECLARE c SCROLL CURSOR FOR {all}"));
    pair.ask("FETCH LAST c");
    pair.ask("COMMIT");
}

#[test]
fn what_cursors_over_several_shards_cannot_do_is_refused() {
    let mut pair = pair();
    let all = STATEMENTS[0];
    for declare in [
        format!("DECLARE c CURSOR WITH HOLD FOR {all}"),
        format!("DECLARE c BINARY CURSOR FOR {all}"),
        format!("DECLARE c CURSOR FOR {all} FOR UPDATE"),
    ] {
        pair.sharded.ask("BEGIN").ok();
        let answer = pair.sharded.ask(&declare);
        assert_eq!(answer.code(), "0A000", "{declare}");
        assert!(!answer.error.expect("an error").hint.is_empty());
        pair.sharded.ask("ROLLBACK").ok();
    }
    let mut refused = |before: &[u8], sql: &str| {
        pair.sharded.ask("BEGIN").ok();
        pair.sharded.send(before).expect("sent");
        pair.sharded.until_ready().expect("an answer").ok();
        let answer = pair.sharded.extended(sql, &[], &[]).expect("an answer");
        assert_eq!(answer.code(), "0A000", "{sql}");
        pair.sharded.ask("ROLLBACK").ok();
    };
    let declare = format!("DECLARE c CURSOR FOR {all}");
    let bound = [parse("", all, &[]), bind("c", "", &[]), sync()].concat();
    refused(&query("SELECT 1"), &declare);
    refused(&query(&declare), "FETCH 1 c");
    refused(&bound, "FETCH 1 c");
    // no server has all rows of a portal
    pair.sharded.ask("BEGIN").ok();
    pair.sharded.send(&bound).expect("sent");
    pair.sharded.until_ready().expect("an answer").ok();
    assert_eq!(pair.sharded.ask("FETCH 1 c").code(), "0A000");
    pair.sharded.ask("ROLLBACK").ok();
    // more than there is room for
    pair.sharded.ask("BEGIN").ok();
    let large = "DECLARE c CURSOR FOR SELECT repeat('y', 10000) FROM things";
    assert_eq!(pair.sharded.ask(large).code(), "54000");
    pair.sharded.ask("ROLLBACK").ok();
}
