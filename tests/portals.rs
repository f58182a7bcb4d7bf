//! Rows of several shards in portions: portals with row limits, and cursors, each message beside one Postgres that has all the
//! rows. The same messages, rows, tags and errors, whichever way the rows come together.

mod support {
    pub mod cluster;
    pub mod pair;
    pub mod raw;
    pub mod town;
}

use support::pair::{close, describe, pair};
use support::raw::{bind, execute, message, parse, sync};
use support::town::Dice;

/// Put together while they come, and in a scratch database.
const STATEMENTS: [&str; 5] = [
    "SELECT id, n, note FROM things ORDER BY id",
    "SELECT id, n FROM things WHERE n = 3 ORDER BY n, id DESC LIMIT 7",
    "SELECT count(*), sum(n) FROM things",
    "SELECT a.id, b.id AS other FROM things a JOIN things b ON a.n = b.n + 1 ORDER BY 1, 2 LIMIT 11",
    "SELECT id FROM things WHERE n > 1000",
];

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
fn an_error_comes_behind_all_that_was_right() {
    let mut pair = pair();
    let at_once = "SELECT id, 100 / (id - id) FROM things ORDER BY id";
    let groups = "SELECT n, count(*), max(100 / (n - n)) FROM things GROUP BY n";
    let gathered = "SELECT a.id, 1 / (b.id - b.id) FROM things a JOIN things b ON a.n = b.n + 1";
    for sql in [at_once, groups, gathered] {
        pair.ask(sql);
        pair.batch(&[parse("", sql, &[]), bind("", "", &[]), execute("", 0)]);
        pair.batch(&[
            parse("", sql, &[]),
            bind("", "", &[]),
            describe(""),
            execute("", 0),
        ]);
        pair.batch(&[
            parse("", sql, &[]),
            message(b'D', b"S\0"),
            bind("", "", &[]),
            describe(""),
            execute("", 1),
        ]);
    }
    for sql in [
        "SELECT id FROM things WHERE n > $1 ORDER BY id",
        "SELECT a.id FROM things a JOIN things b ON a.n = b.n + 1 WHERE a.n > $1 ORDER BY 1",
    ] {
        pair.batch(&[
            parse("", sql, &[23]),
            bind("", "", &[Some("one")]),
            execute("", 0),
        ]);
    }
    pair.batch(&[
        parse("", "SELECT nothing FROM things", &[]),
        bind("", "", &[]),
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
