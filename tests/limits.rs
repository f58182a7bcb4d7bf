//! Bounds in time and number, for all, for a database, for a user: whoever takes more is told which bound it was, and
//! nobody else notices.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{ACCOUNTS_BY_KEY, Map, Town};

const ONE_SHARD: &str = "SELECT v FROM accounts WHERE k = 1";

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("limits", 2, 0);
        town.on_primaries("CREATE TABLE accounts (k bigint PRIMARY KEY, v bigint)");
        let loader = Proxy::start(&Map::of(&town, 2, 0).tables(ACCOUNTS_BY_KEY).text());
        let mut client = connect(&loader, "app");
        for k in 1..=10 {
            client
                .ask(&format!("INSERT INTO accounts VALUES ({k}, {k})"))
                .ok();
        }
        for shard in 0..2 {
            town.superuser(shard, 0, "postgres")
                .ask("CREATE ROLE other LOGIN IN ROLE app")
                .ok();
        }
        town
    })
}

fn proxy(user: &str, database: &str, all: &str) -> Proxy {
    let mut map = Map::of(town(), 2, 0)
        .tables(ACCOUNTS_BY_KEY)
        .pool("size: 2, wait_ms_max: 20000")
        .database(database)
        .rest(all);
    map.users =
        format!("  - {{ name: app, auth: trust{user} }}\n  - {{ name: other, auth: trust }}\n");
    Proxy::start(&map.text())
}

fn connect(proxy: &Proxy, user: &str) -> Raw {
    Raw::connect(proxy.port(), user, "social").expect("pgshunt")
}

/// The error, its hint's subject and how long it took.
fn took(ask: impl FnOnce() -> raw::Answer) -> (String, String, Duration) {
    let started = Instant::now();
    let answer = ask();
    let error = answer.error.clone().unwrap_or_default();
    (
        answer.code().to_owned(),
        format!("{error:?}"),
        started.elapsed(),
    )
}

#[test]
fn a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on() {
    let proxy = proxy(", limits: { query_ms_max: 300 }", "", "");
    let mut client = connect(&proxy, "app");
    for extended in [false, true] {
        let (code, said, time) = took(|| {
            if extended {
                client
                    .extended("SELECT pg_sleep(20)", &[], &[])
                    .expect("an answer")
            } else {
                client.ask("SELECT pg_sleep(20)")
            }
        });
        assert_eq!(code, "57014", "{said}");
        assert!(said.contains("more than 300 ms"), "{said}");
        assert!(
            said.contains("query_ms_max in the limits of user \\\"app\\\""),
            "{said}"
        );
        assert!(time < Duration::from_secs(5), "{time:?}");
        assert_eq!(client.ask("SELECT 7").ok().value(), "7");
    }
    // over several shards, combined and gathered
    for (sql, way) in [
        (
            "SELECT k FROM accounts, generate_series(1, 300000000) g WHERE g < 0",
            "concatenated",
        ),
        (
            "SELECT count(*) FROM accounts, generate_series(1, 300000000) g",
            "combined",
        ),
        (
            "SELECT count(DISTINCT v + g) FROM accounts, generate_series(1, 300000000) g",
            "gathered",
        ),
    ] {
        let (code, said, time) = took(|| client.ask(sql));
        assert_eq!(code, "57014", "{way}: {said}");
        assert!(said.contains("more than 300 ms"), "{way}: {said}");
        assert!(time < Duration::from_secs(5), "{way}: {time:?}");
        assert_eq!(client.ask("SELECT 7").ok().value(), "7");
    }
    // nobody else's
    assert!(
        connect(&proxy, "other")
            .ask("SELECT pg_sleep(0.6)")
            .error
            .is_none()
    );
}

#[test]
fn in_a_transaction_the_bound_of_a_statement_fails_the_transaction_only() {
    let proxy = proxy("", "limits: { query_ms_max: 300 }\n", "");
    let mut client = connect(&proxy, "app");
    client.ask("BEGIN").ok();
    let (code, said, _) = took(|| client.ask("SELECT pg_sleep(20)"));
    assert_eq!(code, "57014");
    assert!(said.contains("limits of database \\\"social\\\""), "{said}");
    assert_eq!(client.ask("SELECT 1").code(), "25P02");
    client.ask("ROLLBACK").ok();
    assert_eq!(client.ask("SELECT 7").ok().value(), "7");
}

#[test]
fn the_time_in_the_queue_counts_and_a_user_may_have_less_of_it() {
    let proxy = proxy(
        ", limits: { query_ms_max: 1500 }, pool: { size: 1 }",
        "",
        "",
    );
    let mut holder = connect(&proxy, "app");
    holder.ask("BEGIN").ok();
    holder.ask(ONE_SHARD).ok();
    let (code, said, time) = took(|| connect(&proxy, "app").ask(ONE_SHARD));
    assert_eq!(code, "57014", "{said}");
    assert!(said.contains("more than 1500 ms"), "{said}");
    assert!(time < Duration::from_secs(6), "{time:?}");
    holder.ask("COMMIT").ok();
    drop(holder);

    let proxy = self::proxy(", pool: { size: 1, wait_ms_max: 200 }", "", "");
    let mut holder = connect(&proxy, "app");
    holder.ask("BEGIN").ok();
    holder.ask(ONE_SHARD).ok();
    let (code, said, time) = took(|| connect(&proxy, "app").ask(ONE_SHARD));
    assert_eq!(code, "53300", "{said}");
    assert!(time < Duration::from_secs(6), "{time:?}");
}

/// Waits for the server's last word on a connection that does nothing.
fn last_word(mut client: Raw) -> (String, Duration) {
    let started = Instant::now();
    let message = client.receive().expect("a last word");
    assert_eq!(message.tag, b'E');
    let said = String::from_utf8_lossy(&message.body).into_owned();
    assert!(client.receive().is_err(), "and the connection is closed");
    (said, started.elapsed())
}

#[test]
fn who_leaves_a_transaction_idle_loses_the_connection_and_its_work() {
    let proxy = proxy("", "", "limits: { transaction_idle_ms_max: 400 }\n");
    let mut client = connect(&proxy, "app");
    // idle outside a transaction is no crime
    std::thread::sleep(Duration::from_millis(900));
    client.ask("BEGIN").ok();
    client.ask("INSERT INTO accounts VALUES (77, 1)").ok();
    let (said, time) = last_word(client);
    assert!(
        said.contains("25P03") && said.contains("limits of all clients"),
        "{said}"
    );
    assert!(
        time > Duration::from_millis(350) && time < Duration::from_secs(5),
        "{time:?}"
    );
    let mut next = connect(&proxy, "app");
    assert_eq!(
        next.ask("SELECT count(*) FROM accounts WHERE k = 77")
            .ok()
            .value(),
        "0"
    );
}

#[test]
fn a_transaction_has_an_end_whatever_its_client_does() {
    let proxy = proxy("", "limits: { transaction_ms_max: 600 }\n", "");
    let mut client = connect(&proxy, "app");
    client.ask("BEGIN").ok();
    client.ask("INSERT INTO accounts VALUES (78, 1)").ok();
    let started = Instant::now();
    while client.query("SELECT 1").is_ok_and(|a| a.error.is_none()) {
        assert!(started.elapsed() < Duration::from_secs(10), "still open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(started.elapsed() > Duration::from_millis(300));
    let mut next = connect(&proxy, "app");
    assert_eq!(
        next.ask("SELECT count(*) FROM accounts WHERE k = 78")
            .ok()
            .value(),
        "0"
    );
    // a statement alone is a transaction, too
    let (code, said, _) = took(|| next.ask("SELECT pg_sleep(20)"));
    assert_eq!(code, "25P04", "{said}");
}

#[test]
fn an_idle_client_is_told_and_let_go_one_that_works_is_not() {
    let proxy = proxy(", limits: { client_idle_ms_max: 500 }", "", "");
    let idle = connect(&proxy, "app");
    let mut busy = connect(&proxy, "app");
    let mut other = connect(&proxy, "other");
    let (said, time) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| last_word(idle));
        for _ in 0..15 {
            busy.ask("SELECT 1").ok();
            std::thread::sleep(Duration::from_millis(100));
        }
        waiting.join().expect("a last word")
    });
    assert!(
        said.contains("57P05") && said.contains("user \"app\""),
        "{said}"
    );
    assert!(time < Duration::from_secs(5), "{time:?}");
    busy.ask("SELECT 1").ok();
    other.ask("SELECT 1").ok();
}

#[test]
fn a_user_and_a_database_have_so_many_clients_and_no_more() {
    let proxy = proxy(
        ", limits: { clients_max: 2 }",
        "limits: { clients_max: 3 }\n",
        "",
    );
    let refused = |user: &str| {
        let error = Raw::connect(proxy.port(), user, "social")
            .err()
            .expect("refused");
        error.to_string()
    };
    let app: Vec<Raw> = (0..2).map(|_| connect(&proxy, "app")).collect();
    let said = refused("app");
    assert!(said.contains("too many clients of user \"app\""), "{said}");
    let mut other = connect(&proxy, "other");
    let said = refused("other");
    assert!(
        said.contains("too many clients of database \"social\""),
        "{said}"
    );
    other.ask("SELECT 1").ok();
    drop(app);
    town().eventually("room again", || {
        Raw::connect(proxy.port(), "app", "social").is_ok()
    });
}
