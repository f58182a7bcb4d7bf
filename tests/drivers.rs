//! What drivers look at beside the answers: fields of errors by which they know that they may try again, the number of
//! their process, what a transaction is.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::io::Write;
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{Map, Town};

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| Town::start("drivers", 1, 0))
}

fn proxy() -> Proxy {
    Proxy::start(&Map::of(town(), 1, 0).pool("size: 3").text())
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// Everything up to ReadyForQuery, as bytes.
fn bytes(client: &mut Raw, request: &[u8]) -> Vec<u8> {
    client.send(request).expect("sent");
    let mut all = Vec::new();
    loop {
        let message = client.receive().expect("an answer");
        all.push(message.tag);
        all.extend(message.body);
        if message.tag == b'Z' {
            return all;
        }
    }
}

/// asyncpg and the JDBC driver prepare a statement again when an error of this routine says so; the code alone has many
/// meanings.
#[test]
fn a_changed_result_is_told_with_the_name_of_its_routine() {
    let proxy = proxy();
    for (name, port) in [("direct", town().port(0, 0)), ("pgshunt", proxy.port())] {
        let mut client = Raw::connect(port, "app", "social").expect("a connection");
        client.ask(&format!("CREATE TABLE {name} (a int)")).ok();
        let prepare = [
            raw::parse("s", &format!("SELECT * FROM {name}"), &[]),
            raw::message(b'D', b"Ss\0"),
            raw::sync(),
        ];
        bytes(&mut client, &prepare.concat());
        client
            .ask(&format!("ALTER TABLE {name} ALTER COLUMN a TYPE text"))
            .ok();
        let use_it = [raw::bind("", "s", &[]), raw::execute("", 0), raw::sync()].concat();
        let answer = bytes(&mut client, &use_it);
        let routine = b"RRevalidateCachedQuery\0";
        assert!(
            answer.windows(routine.len()).any(|w| w == routine),
            "{name}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

/// Drivers' users hand the number of their connection to pg_terminate_backend(): idle, in a transaction and at work, by both
/// protocols, it ends as at PostgreSQL, with one last word.
#[test]
fn a_client_is_terminated_by_the_number_it_was_told() {
    let proxy = proxy();
    town().on_primaries("CREATE TABLE terminated (a int)");
    for (name, port) in [("direct", town().port(0, 0)), ("pgshunt", proxy.port())] {
        let connect = || Raw::connect(port, "app", "social").expect("a connection");
        let mut client = connect();
        for state in ["", "BEGIN; SELECT 1", "SET work_mem TO '2MB'"] {
            let mut other = connect();
            other.ask(state).ok();
            let answer = client.ask(&format!("SELECT pg_terminate_backend({})", other.pid));
            let column = answer.columns.as_ref().and_then(|columns| columns.first());
            assert_eq!(
                column.map(|column| &*column.name),
                Some("pg_terminate_backend")
            );
            assert_eq!(answer.value(), "t", "{name}: {state}");
            is_terminated(&mut other);
        }
        for (n, work) in works().iter().chain(&works()).enumerate() {
            let mut other = connect();
            other.send(work).expect("sent");
            std::thread::sleep(Duration::from_millis(100));
            let pid = other.pid.to_string();
            let sql =
                ["$1", "$1::int"].map(|n| format!("SELECT pg_catalog.pg_terminate_backend({n})"));
            let answer = client.extended(&sql[n / works().len()], &[], &[Some(&pid)]);
            assert_eq!(answer.expect("an answer").value(), "t", "{name}");
            is_terminated(&mut other);
        }
        // one that does not read what it asked for may never hear of it
        let mut deaf = connect();
        let rows = "SELECT 7, repeat('long', 10000) FROM generate_series(1, 2000)";
        deaf.send(&raw::query(rows)).expect("sent");
        std::thread::sleep(Duration::from_millis(300));
        let terminate = format!("SELECT pg_terminate_backend({})", deaf.pid);
        assert_eq!(client.ask(&terminate).value(), "t", "{name}");
        let left = "SELECT count(*) FROM pg_stat_activity
            WHERE state <> 'idle' AND pid <> pg_backend_pid() AND query ~ 'SELECT 7|COPY terminated'";
        let until = Instant::now() + Duration::from_secs(5);
        while client.ask(left).value() != "0" {
            assert!(Instant::now() < until, "{name}: its work goes on");
        }
        while let Ok(message) = deaf.receive() {
            assert!(!b"CZ".contains(&message.tag), "{name}: it got all of it");
        }
    }
}

/// A statement that comes at the same moment does not get by.
#[test]
fn a_client_that_begins_something_is_terminated_all_the_same() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    for round in 0..400 {
        let mut other = connect(&proxy);
        let terminate = format!("SELECT pg_terminate_backend({})", other.pid);
        client.send(&raw::query(&terminate)).expect("sent");
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_micros(round * 3));
        }
        let began = Instant::now();
        let _ = other.send(&raw::query("SELECT 7 FROM pg_sleep(3)"));
        let answer = client.until_ready().expect("an answer");
        assert_eq!(answer.value(), "t", "{round}");
        while let Ok(message) = other.receive() {
            assert!(!b"CZ".contains(&message.tag), "{round}: it went on");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{round}");
    }
}

/// What a client may be at when it is terminated.
fn works() -> Vec<Vec<u8>> {
    let sleeps = "SELECT 7 FROM pg_sleep(60)";
    let extended = [
        raw::parse("", sleeps, &[]),
        raw::bind("", "", &[]),
        raw::execute("", 0),
    ];
    let extended = extended.concat();
    let copy = "COPY terminated FROM STDIN";
    vec![
        raw::query(sleeps),
        raw::query(&format!("BEGIN; {sleeps}; COMMIT")),
        [raw::query("BEGIN"), raw::query(sleeps)].concat(),
        [&extended[..], &raw::sync()].concat(),
        [&extended[..], &raw::message(b'H', b"")].concat(),
        // others wait behind it
        [raw::query(sleeps), raw::query(sleeps), raw::query(sleeps)].concat(),
        // it is waited for
        raw::query(copy),
        raw::query(&format!("CREATE TEMP TABLE mine (a int); {copy}")),
        raw::query(sleeps)[..9].to_vec(),
    ]
}

/// The one error that comes is FATAL, 57P01, and the last word.
fn is_terminated(client: &mut Raw) {
    let mut last = Vec::new();
    let mut errors = 0;
    while let Ok(message) = client.receive() {
        errors += usize::from(message.tag == b'E');
        last = message.body;
    }
    let last = String::from_utf8_lossy(&last);
    let last = &last[..last.len().min(200)];
    assert!(
        errors == 1 && last.starts_with("SFATAL\0") && last.contains("\0C57P01\0"),
        "{errors} {last:?}"
    );
}

/// They ask for it in SQL as well: it is the same number, on whatever server and in whatever state.
#[test]
fn a_client_is_told_its_number_when_it_asks() {
    let proxy = proxy();
    for port in [town().port(0, 0), proxy.port()] {
        let mut client = Raw::connect(port, "app", "social").expect("a connection");
        let own = client.pid.to_string();
        for state in ["", "BEGIN", "COMMIT", "CREATE TEMP TABLE t (a int)"] {
            client.ask(state).ok();
            for sql in [
                "SELECT pg_backend_pid()",
                "select pg_catalog.pg_backend_pid() AS n;",
            ] {
                let answer = client.ask(sql).ok();
                assert_eq!(answer.value(), own, "{sql} {state}");
                let column = answer.columns.expect("columns").remove(0);
                let name = if sql.contains("AS n") {
                    "n"
                } else {
                    "pg_backend_pid"
                };
                assert_eq!((column.name.as_str(), column.type_oid), (name, 23));
                let prepared = client.extended(sql, &[], &[]).expect("an answer");
                assert_eq!(prepared.ok().value(), own, "{sql} {state}");
            }
        }
        let several = client.ask("SELECT pg_backend_pid(); SELECT 1").ok();
        assert_eq!(several.rows[0][0].as_deref(), Some(&*own));
        // the server's own number, where it is looked for among those of servers
        let among = "SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        assert_eq!(client.ask(among).ok().value(), "1");
    }
}

/// The statement by which a client names itself is ended or cancelled, as at PostgreSQL.
#[test]
fn a_client_signals_itself() {
    let proxy = proxy();
    let answers = [town().port(0, 0), proxy.port()].map(|port| {
        let mut answers = Vec::new();
        for state in ["", "BEGIN", "CREATE TEMP TABLE mine (a int)"] {
            for bound in [false, true] {
                let mut client = Raw::connect(port, "app", "social").expect("a connection");
                client.ask(state).ok();
                let pid = client.pid.to_string();
                for (function, code) in [
                    ("pg_cancel_backend", "57014"),
                    ("pg_terminate_backend", "57P01"),
                ] {
                    let answer = if bound {
                        client.extended(&format!("SELECT {function}($1)"), &[], &[Some(&pid)])
                    } else {
                        client.query(&format!("SELECT {function}({pid})"))
                    };
                    let answer = answer.expect("an answer");
                    let code = if state == "BEGIN" && code == "57P01" {
                        "25P02"
                    } else {
                        code
                    };
                    assert_eq!(answer.code(), code, "{port} {state} {bound}: {answer:?}");
                    answers.push((state, bound, function, answer.rows, answer.messages));
                }
                let goes_on = client.query("SELECT 1").is_ok();
                assert_eq!(goes_on, state == "BEGIN", "{port} {state} {bound}");
            }
        }
        answers
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_client_is_cancelled_by_the_number_it_was_told() {
    let proxy = proxy();
    let (mut client, mut other) = (connect(&proxy), connect(&proxy));
    other
        .send(&raw::query("SELECT pg_sleep(60)"))
        .expect("sent");
    std::thread::sleep(Duration::from_millis(50));
    let answer = client.ask(&format!("SELECT pg_cancel_backend({})", other.pid));
    assert_eq!(answer.value(), "t");
    assert_eq!(other.until_ready().expect("an answer").code(), "57014");
    assert_eq!(other.ask("SELECT 1").value(), "1");
}

/// What is no client's number, or another user's client's, is as at PostgreSQL: nobody's process.
#[test]
fn nobody_else_is_hit_by_a_number() {
    let proxy = proxy();
    let (mut client, mut other) = (connect(&proxy), connect(&proxy));
    let nobody = client.pid.max(other.pid) + 1000;
    assert_eq!(
        client
            .ask(&format!("SELECT pg_terminate_backend({nobody})"))
            .value(),
        "f"
    );
    client.ask("BEGIN").ok();
    client.ask("SELECT 1 / 0");
    let asked = client.ask(&format!("SELECT pg_terminate_backend({})", other.pid));
    assert_eq!(asked.code(), "25P02");
    assert_eq!(other.ask("SELECT 1").value(), "1");
}

/// A driver that sends many rows before its Sync looks at times whether one of them has failed: asyncpg's executemany() does.
#[test]
fn a_long_batch_is_run_while_it_is_still_being_sent() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    let mut watcher = town().direct(0, 0);
    client
        .ask("CREATE TABLE long_batch (a int PRIMARY KEY, v text)")
        .ok();
    let long = "v".repeat(40 << 10);
    let row = |a: u32, v: &str| {
        let values = [Some(&*a.to_string()), Some(v)];
        [raw::bind("", "put", &values), raw::execute("", 0)].concat()
    };
    let parse = raw::parse("put", "INSERT INTO long_batch VALUES ($1, $2)", &[]);
    let begin = [parse, row(1, &long), row(2, &long), row(3, &long)];
    client.send(&begin.concat()).expect("sent");
    let runs = "SELECT count(*) FROM pg_locks WHERE relation = 'long_batch'::regclass AND mode = 'RowExclusiveLock'";
    // little more comes, but without a pause
    let seen = (4..40).any(|a| {
        client.send(&row(a, "short")).expect("sent");
        std::thread::sleep(Duration::from_millis(2));
        watcher.ask(runs).value() == "1"
    });
    assert!(seen, "it has waited for its Sync");
    let failing = [row(1, "again"), raw::sync()].concat();
    client.send(&failing).expect("sent");
    assert_eq!(client.until_ready().expect("an answer").code(), "23505");
    assert_eq!(client.ask("SELECT count(*) FROM long_batch").value(), "0");
}

/// A cancel that comes between two pieces of a long batch is meant for what is behind: at PostgreSQL it is at work all the time.
#[test]
fn a_cancel_stops_a_long_batch_wherever_it_is() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    client.ask("CREATE TABLE stopped (v text)").ok();
    let long = "v".repeat(40 << 10);
    let insert = "INSERT INTO stopped SELECT $1 FROM pg_sleep(0.002)";
    for round in 0..30 {
        let row = [raw::bind("", "", &[Some(&*long)]), raw::execute("", 0)].concat();
        let batch = [raw::parse("", insert, &[25]), row.repeat(60), raw::sync()];
        client.send(&batch.concat()).expect("sent");
        std::thread::sleep(Duration::from_millis(20 + round));
        cancel(&proxy, &client);
        let answer = client.until_ready().expect("an answer");
        assert_eq!(answer.code(), "57014", "round {round}");
        assert_eq!(client.ask("SELECT count(*) FROM stopped").value(), "0");
    }
}

/// asyncpg's executemany() with a timeout: rows in several writes, ROLLBACK and Sync when the time is over, and a cancel request
/// beside them. Whatever comes first, no row stays.
#[test]
fn a_long_batch_is_given_up_as_a_whole() {
    let proxy = proxy();
    let mut client = connect(&proxy);
    client.ask("CREATE TABLE given_up (v text)").ok();
    let long = "v".repeat(32 << 10);
    let insert = "INSERT INTO given_up SELECT $1 FROM pg_sleep(0.01)";
    client
        .send(&[raw::parse("put", insert, &[25]), raw::sync()].concat())
        .expect("sent");
    client.until_ready().expect("an answer").ok();
    let rows = [raw::bind("", "put", &[Some(&*long)]), raw::execute("", 0)].concat();
    let rollback = [
        raw::parse("", "ROLLBACK", &[]),
        raw::bind("", "", &[]),
        raw::execute("", 0),
        raw::sync(),
    ];
    for round in 0..60_u64 {
        for _ in 0..=round % 3 {
            client.send(&rows.repeat(4)).expect("sent");
        }
        std::thread::sleep(Duration::from_millis(30 + round));
        if round % 2 == 0 {
            client.send(&rollback.concat()).expect("sent");
            cancel(&proxy, &client);
        } else {
            cancel(&proxy, &client);
            client.send(&rollback.concat()).expect("sent");
        }
        client.until_ready().expect("an answer");
        let left = client.ask("SELECT count(*) FROM given_up");
        if left.error.is_none() {
            assert_eq!(left.value(), "0", "round {round}");
        }
    }
}

fn cancel(proxy: &Proxy, client: &Raw) {
    let mut packet = [16_i32.to_be_bytes(), 80_877_102_i32.to_be_bytes()].concat();
    packet.extend(client.pid.to_be_bytes());
    packet.extend(&client.secret);
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).expect("pgshunt");
    stream.write_all(&packet).expect("sent");
}
