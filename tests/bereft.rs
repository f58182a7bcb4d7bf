//! What a client sees when the server it works with is terminated by an administrator: outside a transaction and in one the
//! session lives on; where the session's state was on that server, the session ends, as it does at PostgreSQL.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::time::Duration;
use support::cluster::Proxy;
use support::raw::{Answer, Raw};
use support::town::{Map, Town};

fn terminate(town: &Town, pid: &str) {
    let sql = format!("SELECT pg_terminate_backend({pid})");
    town.superuser(0, 0, "social").ask(&sql).ok();
}

/// Its server is terminated in the middle of a statement.
fn interrupted(town: &Town, client: &mut Raw) -> Answer {
    let pid = client
        .ask("SELECT pg_backend_pid() + 0")
        .ok()
        .value()
        .to_owned();
    std::thread::scope(|scope| {
        let statement = scope.spawn(|| client.ask("SELECT pg_sleep(20)"));
        town.eventually("it sleeps", || {
            let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND query LIKE '%pg_sleep%'");
            town.superuser(0, 0, "social").ask(&sql).ok().value() == "1"
        });
        std::thread::sleep(Duration::from_millis(50));
        terminate(town, &pid);
        statement.join().expect("an answer")
    })
}

#[test]
fn a_terminated_server_takes_only_what_was_on_it() {
    let town = Town::start("bereft", 1, 0);
    let proxy = Proxy::start(&Map::of(&town, 1, 0).pool("size: 1").text());
    let connect = || Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    let severity = |answer: &Answer| answer.error.as_ref().map(|e| e.severity.clone());

    // who waits for an answer of a server that somebody terminates is told what PostgreSQL says
    let mut other = connect();
    other.ask("SET work_mem TO '7MB'").ok();
    for begins in [
        "SELECT 1",
        "BEGIN",
        "CREATE TEMPORARY TABLE mine (a int)",
        "SELECT pg_advisory_lock(1)",
        "DO $$ BEGIN PERFORM set_config('work_mem', '6MB', false); END $$",
    ] {
        let mut client = connect();
        client.ask(begins).ok();
        let answer = interrupted(&town, &mut client);
        assert_eq!(
            (answer.code(), severity(&answer).as_deref()),
            ("57P01", Some("FATAL")),
            "{begins}: {answer:?}"
        );
        let words = answer.error.as_ref().map(|e| e.message.clone());
        let direct = "terminating connection due to administrator command";
        assert_eq!(words.as_deref(), Some(direct), "{begins}");
        assert!(client.query("SELECT 1").is_err(), "{begins}: it went on");
    }
    assert_eq!(other.ask("SHOW work_mem").ok().value(), "7MB");
    let mut client = connect();
    let answer = client.ask("SELECT pg_terminate_backend(pg_backend_pid())");
    assert_eq!(severity(&answer).as_deref(), Some("FATAL"));
    assert!(client.query("SELECT 1").is_err());
}

/// Its server's whole PostgreSQL is shut down in the middle of a statement, by this signal.
fn shut_down(town: &Town, client: &mut Raw, signal: &str) -> Answer {
    let mut watching = town.superuser(0, 0, "social");
    std::thread::scope(|scope| {
        let statement = scope.spawn(|| client.ask("SELECT pg_sleep(20)"));
        let sleeps =
            "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(2%' AND pid <> pg_backend_pid()";
        town.eventually("it sleeps", || {
            let count = watching.ask(&format!("SELECT count(*) {sleeps}"));
            count.ok().value() == "1"
        });
        town.signal(0, 0, signal);
        if signal == "-TERM" {
            // it lets nobody in, and waits for those it has
            town.eventually("it shuts down", || !town.lets_in(0, 0));
            let end = format!("SELECT pg_terminate_backend(pid) {sleeps}");
            watching.ask(&end).ok();
        }
        statement.join().expect("an answer")
    })
}

/// Nobody meant the session: it waits for its server, and goes on.
#[test]
fn a_server_that_shuts_down_ends_no_session_that_has_nothing_on_it() {
    let town = Town::start("shut_down", 1, 0);
    let proxy = Proxy::start(&Map::of(&town, 1, 0).pool("size: 1").text());
    let mut client = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    client.ask("SET work_mem TO '7MB'").ok();
    // smart: an administrator ends what it has, and other connections (the control user's) still answer; fast: it ends all
    for signal in ["-TERM", "-INT"] {
        client.ask("BEGIN").ok();
        let answer = shut_down(&town, &mut client, signal);
        assert_eq!(
            (answer.code(), client.status),
            ("57P01", b'E'),
            "{signal}: {answer:?}"
        );
        if signal == "-TERM" {
            town.signal(0, 0, "-INT");
        }
        town.revive(0, 0);
        client.ask("ROLLBACK").ok();
        town.eventually("it serves again", || client.ask("SELECT 1").error.is_none());
        assert_eq!(client.ask("SHOW work_mem").ok().value(), "7MB");
    }
}
