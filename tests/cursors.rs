//! Cursors by SQL over several shards, each statement beside one Postgres that has all the rows: both protocols, every way to
//! go, transactions and savepoints, WITH HOLD and BINARY; what is refused is refused clearly.

mod support {
    pub mod cluster;
    pub mod pair;
    pub mod raw;
    pub mod town;
}

use std::sync::Mutex;
use support::pair::{Pair, close, describe, pair};
use support::raw::{Raw, bind, execute, message, parse, query, sync};
use support::town::Dice;

/// Put together while they come, and in a scratch database.
const STATEMENTS: [&str; 5] = [
    "SELECT id, n, note FROM things ORDER BY id",
    "SELECT id, n FROM things WHERE n = 3 ORDER BY n, id DESC LIMIT 7",
    "SELECT count(*), sum(n) FROM things",
    "SELECT a.id, b.id AS other FROM things a JOIN things b ON a.n = b.n + 1 ORDER BY 1, 2 LIMIT 11",
    "SELECT id FROM things WHERE n > 1000",
];

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
        // it depends on the plan whether PostgreSQL goes back
        let answer = pair.sharded.ask("FETCH PRIOR c");
        let gathered = sql == STATEMENTS[3];
        assert!(answer.code() == "0A000" || gathered, "{answer:?}");
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

fn bind_binary(portal: &str, statement: &str) -> Vec<u8> {
    let mut bind = bind(portal, statement, &[]);
    let end = bind.len() - 2;
    bind.truncate(end);
    bind.extend([0, 1, 0, 1]);
    let length = (bind.len() as i32 - 1).to_be_bytes();
    bind[1..5].copy_from_slice(&length);
    bind
}

/// Parse, Describe of the statement, Bind, Describe of the portal, Execute in portions.
fn asked(sql: &str, values: &[Option<&str>], portions: &[i32]) -> Vec<Vec<u8>> {
    let mut parts = vec![
        parse("", sql, &[]),
        message(b'D', b"S\0"),
        bind("", "", values),
        describe(""),
    ];
    parts.extend(portions.iter().map(|rows| execute("", *rows)));
    parts
}

#[test]
fn the_extended_protocol_has_cursors_too() {
    let mut pair = pair();
    for sql in STATEMENTS {
        for scroll in ["", "NO SCROLL ", "SCROLL "] {
            pair.ask("BEGIN");
            let declare = format!("DECLARE c {scroll}CURSOR FOR {sql}");
            pair.batch(&asked(&declare, &[], &[0]));
            pair.batch(&[describe("c")]);
            pair.batch(&asked("FETCH 3 FROM c", &[], &[0]));
            pair.batch(&asked("FETCH 5 FROM c", &[], &[2, 2, 2]));
            pair.batch(&asked("FETCH NEXT c", &[], &[1, 1]));
            pair.ask("FETCH 1 c");
            pair.batch(&asked("MOVE 2 c", &[], &[0]));
            pair.batch(&asked("FETCH ALL c", &[], &[0]));
            pair.batch(&asked("FETCH ALL c", &[], &[0]));
            pair.batch(&asked("CLOSE c", &[], &[0]));
            assert_eq!(
                pair.batch(&asked("FETCH 3 FROM c", &[], &[0])).code(),
                "34000"
            );
            pair.ask("ROLLBACK");
        }
    }
}

#[test]
fn one_batch_declares_and_fetches() {
    let mut pair = pair();
    for sql in [
        STATEMENTS[0],
        STATEMENTS[3],
        "SELECT id FROM things WHERE id = 7",
    ] {
        let declare = format!("DECLARE c CURSOR FOR {sql}");
        let steps = [
            asked("BEGIN", &[], &[0]),
            asked(&declare, &[], &[0]),
            asked("FETCH 2 FROM c", &[], &[0]),
            asked("CLOSE c", &[], &[0]),
            asked(&declare, &[], &[0]),
            asked("FETCH 1 FROM c", &[], &[0]),
            asked("COMMIT", &[], &[0]),
        ];
        pair.batch(&steps.concat());
    }
}

#[test]
fn parameters_and_named_statements() {
    let mut pair = pair();
    for values in [["3", "50"], ["1", "60"]] {
        pair.ask("BEGIN");
        let values = values.map(Some);
        let declare =
            "DECLARE c CURSOR FOR SELECT id, n FROM things WHERE n > $1 AND id < $2 ORDER BY n, id";
        pair.batch(&asked(declare, &values, &[0]));
        let gathered = "DECLARE \"D\" SCROLL CURSOR FOR SELECT n, string_agg(note, ',' ORDER BY id) \
            FROM things WHERE n > $1 AND id < $2 GROUP BY n ORDER BY n";
        pair.batch(&asked(gathered, &values, &[0]));
        pair.batch(&[
            parse("f", "FETCH 2 c", &[]),
            parse("g", "FETCH 2 \"D\"", &[]),
        ]);
        for _ in 0..3 {
            pair.batch(&[
                bind("p", "f", &[]),
                describe("p"),
                execute("p", 0),
                close("p"),
            ]);
            pair.batch(&[bind("", "g", &[]), describe(""), execute("", 0)]);
        }
        pair.batch(&[message(b'D', b"Sf\0")]);
        pair.batch(&[close("c")]);
        assert_eq!(pair.ask("FETCH 1 c").code(), "34000");
        pair.ask("FETCH BACKWARD 1 \"D\"");
        pair.ask("COMMIT");
        pair.batch(&[message(b'C', b"Sf\0"), message(b'C', b"Sg\0")]);
    }
}

#[test]
fn binary_cursors_and_binary_fetches() {
    let mut pair = pair();
    for sql in STATEMENTS {
        for scroll in ["", "SCROLL "] {
            pair.ask("BEGIN");
            pair.ask(&format!("DECLARE c BINARY {scroll}CURSOR FOR {sql}"));
            pair.ask("FETCH 4 c");
            pair.ask("FETCH ALL c");
            pair.ask("ROLLBACK");
        }
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c CURSOR FOR {sql}"));
        for _ in 0..2 {
            pair.batch(&[
                parse("", "FETCH 2 c", &[]),
                bind_binary("", ""),
                describe(""),
                execute("", 0),
            ]);
        }
        pair.batch(&[
            parse("", "FETCH ALL c", &[]),
            bind_binary("", ""),
            execute("", 0),
        ]);
        pair.ask("ROLLBACK");
    }
}

#[test]
fn with_hold_outlives_its_transaction() {
    let mut pair = pair();
    for sql in STATEMENTS {
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c SCROLL CURSOR WITH HOLD FOR {sql}"));
        pair.ask("FETCH 2 c");
        pair.ask("COMMIT");
        pair.ask("FETCH 2 c");
        pair.ask("BEGIN");
        pair.ask("FETCH PRIOR c");
        pair.ask("ROLLBACK");
        pair.ask("FETCH FIRST c");
        assert_eq!(
            pair.ask(&format!("DECLARE c CURSOR WITH HOLD FOR {sql}"))
                .code(),
            "42P03"
        );
        pair.ask("CLOSE c");
        assert_eq!(pair.ask("FETCH 2 c").code(), "34000");
        // no block is needed, and a rollback takes it
        pair.ask(&format!("DECLARE c CURSOR WITH HOLD FOR {sql}"));
        pair.ask("DELETE FROM things WHERE id = 1000");
        pair.batch(&asked("FETCH 3 FROM c", &[], &[0]));
        pair.ask("FETCH ALL c");
        pair.ask("CLOSE ALL");
        assert_eq!(pair.ask("FETCH 2 c").code(), "34000");
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c CURSOR WITH HOLD FOR {sql}"));
        pair.ask("ROLLBACK");
        assert_eq!(pair.ask("FETCH 2 c").code(), "34000");
        pair.ask(&format!(
            "DECLARE c CURSOR WITH HOLD FOR {sql}; DECLARE d CURSOR FOR {sql}; FETCH 1 d"
        ));
        pair.ask("FETCH 1 c");
        assert_eq!(pair.ask("FETCH 1 d").code(), "34000");
        pair.ask("DISCARD ALL");
        assert_eq!(pair.ask("FETCH 1 c").code(), "34000");
    }
}

/// Keys of two shards.
fn apart(pair: &mut Pair) -> (i32, i32) {
    let mut shards = (1..=60).map(|id| {
        let sql = format!("EXPLAIN (COSTS OFF) SELECT id FROM things WHERE id = {id}");
        (
            id,
            format!("{:?}", pair.sharded.ask(&sql).rows).contains("s1"),
        )
    });
    let (first, on_one) = shards.next().expect("a key");
    let (second, _) = shards.find(|(_, on)| *on != on_one).expect("another shard");
    (first, second)
}

#[test]
fn a_name_means_one_cursor_wherever_it_is() {
    let mut pair = pair();
    let (a, b) = apart(&mut pair);
    let one = |id: i32| format!("DECLARE c CURSOR FOR SELECT id, n FROM things WHERE id = {id}");
    let all = format!("DECLARE c CURSOR FOR {}", STATEMENTS[0]);
    let gathered = format!("DECLARE c CURSOR FOR {}", STATEMENTS[3]);
    let ways = [one(a), one(b), all, gathered];
    for first in &ways {
        for second in &ways {
            pair.ask("BEGIN");
            pair.ask(first);
            pair.ask("SAVEPOINT a");
            assert_eq!(pair.ask(second).code(), "42P03", "{first}; {second}");
            pair.ask("ROLLBACK TO a");
            pair.ask("FETCH 1 c");
            pair.batch(&asked("FETCH 1 c", &[], &[0]));
            pair.ask("CLOSE c");
            pair.ask(second);
            pair.ask("FETCH 1 c");
            pair.batch(&asked("CLOSE c", &[], &[0]));
            pair.batch(&asked(first, &[], &[0]));
            pair.batch(&[describe("c")]);
            pair.batch(&asked("FETCH 1 c", &[], &[0]));
            pair.ask("SAVEPOINT b");
            let again = pair.batch(&asked(second, &[], &[0]));
            assert_eq!(again.code(), "42P03");
            pair.ask("ROLLBACK TO b");
            pair.ask("CLOSE ALL");
            assert_eq!(pair.ask("FETCH 1 c").code(), "34000");
            pair.ask("ROLLBACK");
        }
    }
    // each by its own name
    pair.ask("BEGIN");
    for (n, declare) in ways.iter().enumerate() {
        pair.ask(&declare.replace("DECLARE c", &format!("DECLARE c{n}")));
    }
    for _ in 0..3 {
        for n in 0..ways.len() {
            pair.ask(&format!("FETCH 1 c{n}"));
        }
    }
    pair.ask("COMMIT");
}

/// One row is more than is held back before anything is shown, and less than may be kept between two portions.
#[test]
fn rows_larger_than_what_is_held_back_come() {
    let mut pair = pair();
    pair.ask("BEGIN");
    pair.ask(
        "DECLARE c CURSOR FOR SELECT id, repeat('y', 280000) FROM things WHERE id < 12 ORDER BY id",
    );
    pair.ask("FETCH 1 c");
    pair.ask("FETCH 3 c");
    pair.ask("FETCH ALL c");
    pair.ask("COMMIT");
}

/// The same whichever shard answers first.
#[test]
fn a_row_larger_than_what_may_be_kept_is_refused() {
    for _ in 0..10 {
        let mut pair = pair();
        pair.sharded.ask("BEGIN").ok();
        let sql = "DECLARE c CURSOR FOR SELECT repeat('y', 310000) FROM things ORDER BY id";
        pair.sharded.ask(sql).ok();
        let error = pair.sharded.ask("FETCH 1 c").error.expect("refused");
        assert_eq!(error.code, "54000", "{error:?}");
        assert!(error.hint.contains("portal_bytes_max"), "{error:?}");
        pair.sharded.ask("ROLLBACK").ok();
        pair.sharded.ask("SELECT count(*) FROM things").ok();
    }
}

/// Those who use up what may be kept, and those who rely on it.
static PARKING: Mutex<()> = Mutex::new(());

#[test]
fn rows_come_as_they_are_fetched() {
    let _alone = PARKING.lock();
    let mut pair = pair();
    // all of them would be more than is kept: 60 rows of 10,000 bytes
    let large = "SELECT id, repeat('y', 10000) FROM things";
    let gathered = "SELECT a.id, repeat('y', 10000) FROM things a JOIN things b ON a.n = b.n + 1 \
        ORDER BY 1, b.id";
    for sql in [
        format!("{large} ORDER BY id"),
        format!("{large} WHERE id < 40 ORDER BY n, id"),
        gathered.to_owned(),
    ] {
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c CURSOR FOR {sql}"));
        pair.batch(&[parse("", &sql, &[]), bind("p", "", &[]), execute("p", 1)]);
        for _ in 0..4 {
            pair.ask("FETCH 3 c");
            pair.batch(&[execute("p", 2)]);
        }
        pair.ask("MOVE 2 c");
        pair.ask("FETCH ALL c");
        pair.batch(&[execute("p", 0)]);
        pair.ask("COMMIT");
    }
}

#[test]
fn more_cursors_than_scratch_databases_may_keep() {
    let _alone = PARKING.lock();
    let mut pair = pair();
    let sql = STATEMENTS[3];
    pair.ask("BEGIN");
    for n in 0..9 {
        pair.ask(&format!("DECLARE c{n} CURSOR FOR {sql}"));
        let name = format!("p{n}");
        pair.batch(&[parse("", sql, &[]), bind(&name, "", &[]), execute(&name, 2)]);
    }
    for n in 0..9 {
        pair.ask(&format!("FETCH 2 c{n}"));
        pair.batch(&[execute(&format!("p{n}"), 3)]);
        pair.ask(&format!("FETCH ALL c{n}"));
        pair.batch(&[execute(&format!("p{n}"), 0)]);
    }
    // another client gathers all the same
    let mut other =
        Raw::connect(support::pair::house().proxy.port(), "app", "social").expect("pgshunt");
    assert_eq!(other.ask(sql).ok().rows.len(), 11);
    pair.ask("COMMIT");
}

#[test]
fn servers_do_other_things_between_fetches() {
    let mut pair = pair();
    let mut dice = Dice(23);
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        pair.ask(&format!("BEGIN ISOLATION LEVEL {isolation}"));
        pair.ask("UPDATE things SET note = 'mine' WHERE id = 5");
        for (n, sql) in STATEMENTS.iter().enumerate() {
            pair.ask(&format!("DECLARE c{n} CURSOR FOR {sql}"));
        }
        for _ in 0..60 {
            let n = dice.below(STATEMENTS.len() as u64);
            match dice.below(5) {
                0 => pair.ask("UPDATE things SET n = n + 1 WHERE id = 5"),
                1 => pair.ask("SELECT count(*), sum(n) FROM things"),
                2 => pair.ask("SELECT id, n FROM things WHERE id = 12"),
                3 => pair.batch(&asked(&format!("FETCH 2 c{n}"), &[], &[0])),
                _ => pair.ask(&format!("FETCH {} c{n}", 1 + dice.below(4))),
            };
        }
        pair.ask("ROLLBACK");
    }
}

#[test]
fn a_cursor_that_was_closed_holds_nothing_on_the_shards() {
    let mut pair = pair();
    for sql in &STATEMENTS[..3] {
        let sql = &sql.replace("things", "others");
        pair.ask("BEGIN");
        pair.ask(&format!("DECLARE c CURSOR FOR {sql}"));
        pair.ask("FETCH 1 c");
        pair.ask("CLOSE c");
        pair.batch(&[parse("", sql, &[]), bind("", "", &[]), execute("", 1)]);
        // a simple query ends the unnamed portal
        pair.ask("SELECT 1");
        pair.batch(&[
            parse("", sql, &[]),
            bind("p", "", &[]),
            execute("p", 1),
            close("p"),
        ]);
        pair.ask("ALTER TABLE others ADD COLUMN more int");
        pair.ask("ROLLBACK");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let mut pair = pair();
    let all = STATEMENTS[0];
    let mut refused = |before: &[u8], sql: &str| {
        for extended in [false, true] {
            pair.sharded.ask("BEGIN").ok();
            pair.sharded.send(before).expect("sent");
            pair.sharded.until_ready().expect("an answer").ok();
            let answer = if extended {
                pair.sharded.extended(sql, &[], &[]).expect("an answer")
            } else {
                pair.sharded.ask(sql)
            };
            assert_eq!(answer.code(), "0A000", "{sql}");
            assert!(!answer.error.expect("an error").hint.is_empty());
            pair.sharded.ask("ROLLBACK").ok();
        }
    };
    let bound = [parse("", all, &[]), bind("c", "", &[]), sync()].concat();
    refused(
        &query("SELECT 1"),
        &format!("DECLARE c CURSOR FOR {all} FOR UPDATE"),
    );
    // no server has all rows of a portal
    refused(&bound, "FETCH 1 c");
    refused(&bound, "CLOSE c");
    let declared = query(&format!("DECLARE c CURSOR FOR {all}; FETCH 2 c"));
    refused(&declared, "FETCH PRIOR c");
    // the shards stand elsewhere than the client
    let current = "UPDATE things SET n = 0 WHERE CURRENT OF c";
    let mut raw: Raw = pair.sharded;
    raw.ask("BEGIN").ok();
    raw.send(&declared).expect("sent");
    raw.until_ready().expect("an answer").ok();
    assert!(raw.ask(current).error.is_some());
    raw.ask("ROLLBACK").ok();
    raw.ask("BEGIN").ok();
    raw.send(&declared).expect("sent");
    raw.until_ready().expect("an answer").ok();
    let hinted = format!("/* pgshunt: shard=s1 */ {current}");
    assert_eq!(raw.ask(&hinted).code(), "34000");
    raw.ask("ROLLBACK").ok();
    // more than there is room for
    let large = "SELECT id, repeat('y', 10000) FROM things";
    for declare in [
        format!("DECLARE c CURSOR WITH HOLD FOR {large}"),
        format!("DECLARE c SCROLL CURSOR FOR {large}"),
    ] {
        raw.ask("BEGIN").ok();
        assert_eq!(raw.ask(&declare).code(), "54000");
        raw.ask("ROLLBACK").ok();
    }
}

#[test]
fn errors_name_their_places() {
    let mut pair = pair();
    for sql in [
        "DECLARE c CURSOR FOR SELECT id, nothing FROM things ORDER BY id",
        "DECLARE c CURSOR FOR SELECT id FROM nowhere",
        "DECLARE c CURSOR FOR SELECT 1 / (n - n) FROM things",
    ] {
        pair.ask("BEGIN");
        let answer = pair.ask(sql);
        if answer.error.is_none() {
            pair.ask("FETCH 1 c");
        }
        pair.ask("FETCH 1 c");
        pair.ask("ROLLBACK");
    }
    // after an error nothing can be done with it
    pair.ask("BEGIN");
    pair.ask("DECLARE c NO SCROLL CURSOR FOR SELECT id FROM things ORDER BY id");
    pair.ask("SAVEPOINT a");
    pair.ask("FETCH 2 c");
    pair.ask("FETCH PRIOR c");
    pair.ask("ROLLBACK TO a");
    assert_eq!(pair.ask("FETCH 1 c").code(), "55000");
    pair.ask("ROLLBACK");
}

/// One step of a random session; None where what it would do is refused.
fn step(pair: &mut Pair, dice: &mut Dice, declared: &mut [(&'static str, u8)]) -> Option<Vec<u8>> {
    let at = dice.below(declared.len() as u64) as usize;
    let (name, kind) = declared[at];
    let sql = *dice.one(&[&STATEMENTS]).get(dice.below(5) as usize)?;
    let statement = |text: &str, dice: &mut Dice| {
        if dice.chance(50) {
            return query(text);
        }
        let portal = dice.one(&["", "x"]);
        let end = if portal.is_empty() {
            Vec::new()
        } else {
            close(portal)
        };
        let mut bytes = parse("", text, &[]);
        bytes.extend(bind(portal, "", &[]));
        if dice.chance(50) {
            bytes.extend(describe(portal));
        }
        bytes.extend([execute(portal, 0), end, sync()].concat());
        bytes
    };
    Some(match dice.below(22) {
        _ if pair.sharded.status == b'I' && dice.chance(60) => query("BEGIN"),
        0 => query("BEGIN"),
        _ if pair.sharded.status == b'E' && dice.chance(50) => {
            query(dice.one(&["ROLLBACK TO a", "ROLLBACK TO a", "ROLLBACK"]))
        }
        1 => query(dice.one(&["COMMIT", "ROLLBACK"])),
        2 => query("SAVEPOINT a"),
        3 => query(dice.one(&["ROLLBACK TO a", "RELEASE a", "ROLLBACK TO a"])),
        4..=6 => {
            let (words, kind) = match dice.below(4) {
                0 => ("SCROLL CURSOR", 2),
                1 => ("CURSOR WITH HOLD", 1),
                2 => ("NO SCROLL CURSOR", 1),
                _ => ("CURSOR", 1),
            };
            declared[at].1 = kind;
            let one = "SELECT id, n FROM things WHERE id = 9";
            let sql = if dice.chance(20) { one } else { sql };
            statement(&format!("DECLARE {name} {words} FOR {sql}"), dice)
        }
        7..=12 => {
            let ways = ["NEXT", "3", "ALL", "FORWARD 2", "RELATIVE 2", "0"];
            let back = [
                "PRIOR",
                "FIRST",
                "ABSOLUTE 4",
                "BACKWARD 2",
                "LAST",
                "ABSOLUTE -2",
            ];
            let way = if kind == 2 && dice.chance(50) {
                dice.one(&back)
            } else {
                dice.one(&ways[..if kind == 2 { 6 } else { 5 }])
            };
            let verb = dice.one(&["FETCH", "FETCH", "MOVE"]);
            statement(&format!("{verb} {way} FROM {name}"), dice)
        }
        13 => statement(&format!("CLOSE {name}"), dice),
        14 => query("CLOSE ALL"),
        15 => [
            parse("", sql, &[]),
            bind("p", "", &[]),
            execute("p", 2),
            sync(),
        ]
        .concat(),
        16 => [
            parse("", sql, &[]),
            bind("", "", &[]),
            execute("", 1),
            sync(),
        ]
        .concat(),
        // after an error the words for it may be others
        17 if pair.sharded.status == b'E' => return None,
        17 => [execute(dice.one(&["p", ""]), dice.below(3) as i32), sync()].concat(),
        18 => [close("p"), sync()].concat(),
        19 => query("SELECT count(*), sum(n) FROM things WHERE id <> 5"),
        20 if pair.sharded.status == b'T' => query("UPDATE things SET n = n + 1 WHERE id = 5"),
        _ => query(dice.one(&["SELECT 1 / 0", "SELECT id FROM things WHERE id = 9"])),
    })
}

#[test]
fn random_sessions_are_the_same() {
    let _alone = PARKING.lock();
    let given = std::env::var("PGSHUNT_SEED").ok();
    let seed = given.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(144_062_448);
    println!("PGSHUNT_SEED={seed} repeats this");
    let mut dice = Dice(seed);
    let sessions = std::env::var("PGSHUNT_LONG").map_or(25, |_| 400);
    for n in 0..sessions {
        let mut pair = pair();
        let mut declared = [("a", 1), ("b", 1), ("\"C c\"", 1)];
        let mut so_far = String::new();
        for _ in 0..60 {
            let Some(bytes) = step(&mut pair, &mut dice, &mut declared) else {
                continue;
            };
            so_far += &String::from_utf8_lossy(&bytes).replace('\0', " ");
            so_far.push('\n');
            pair.sharded.send(&bytes).expect("sent");
            let here = pair.sharded.until_ready().expect("pgshunt");
            if here.code() == "0A000" {
                // it may go no further
                break;
            }
            pair.plain.send(&bytes).expect("sent");
            let there = pair.plain.until_ready().expect("the one Postgres");
            assert_eq!(
                support::pair::told(&here),
                support::pair::told(&there),
                "seed {seed}, session {n}:\n{so_far}"
            );
            assert_eq!(pair.sharded.status, pair.plain.status, "{so_far}");
        }
        for raw in [&mut pair.sharded, &mut pair.plain] {
            raw.ask("ROLLBACK");
        }
    }
}
