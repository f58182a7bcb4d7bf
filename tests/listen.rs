//! LISTEN and NOTIFY over a pool: many listen, none of them holds a server, everything committed is heard, once, by those
//! who asked for it.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use std::time::Duration;
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{ACCOUNTS_BY_KEY, Map, Town};

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("listen", 2, 1);
        town.on_primaries(
            "CREATE TABLE accounts (k bigint PRIMARY KEY, v bigint);
             CREATE TABLE notes (n int);
             CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_notify('notes', NEW.n::text); RETURN NEW; END $$;
             CREATE TRIGGER tell AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION tell();
             CREATE FUNCTION tell_account() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_notify('accounts', NEW.k::text); RETURN NEW; END $$;",
        );
        town
    })
}

fn proxy(rest: &str) -> Proxy {
    let map = Map::of(town(), 2, 1)
        .tables(ACCOUNTS_BY_KEY)
        .pool("size: 3")
        .rest(rest);
    Proxy::start(&map.text())
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// The next notification to a client that only waits: channel and payload.
fn next(client: &mut Raw) -> (String, String) {
    let message = client.receive().expect("a notification");
    assert_eq!(
        message.tag,
        b'A',
        "{}",
        String::from_utf8_lossy(&message.body)
    );
    let words: Vec<String> = message.body[4..]
        .split(|b| *b == 0)
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect();
    (words[0].clone(), words[1].clone())
}

/// Tags of an answer in which notifications may stand.
fn tags(client: &mut Raw, sql: &str) -> String {
    client.ask(sql).ok().messages
}

#[test]
fn a_hundred_listen_and_none_holds_a_server() {
    let proxy = proxy("");
    let mut listeners: Vec<Raw> = (0..100).map(|_| connect(&proxy)).collect();
    for (n, listener) in listeners.iter_mut().enumerate() {
        listener.ask("LISTEN everybody").ok();
        listener.ask(&format!("LISTEN only_{n}")).ok();
    }
    let mut speaker = connect(&proxy);
    for round in 0..20 {
        speaker.ask(&format!("NOTIFY everybody, '{round}'")).ok();
    }
    speaker.ask("NOTIFY only_42, 'you'").ok();
    for (n, listener) in listeners.iter_mut().enumerate() {
        for round in 0..20 {
            assert_eq!(next(listener), ("everybody".into(), round.to_string()));
        }
        if n == 42 {
            assert_eq!(next(listener), ("only_42".into(), "you".into()));
        }
        assert_eq!(listener.ask("SELECT 1").ok().value(), "1");
    }
    drop(listeners);
    // the channels are given up when nobody wants them
    town().eventually("silence", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'UNLISTEN%'";
        town().superuser(0, 0, "social").ask(sql).ok().value() != "0"
    });
}

#[test]
fn a_transaction_begins_and_ends_listening_when_it_commits() {
    let proxy = proxy("");
    let (mut client, mut speaker) = (connect(&proxy), connect(&proxy));
    client.ask("BEGIN").ok();
    client.ask("LISTEN a").ok();
    client.ask("SAVEPOINT s").ok();
    client.ask("LISTEN b").ok();
    client.ask("ROLLBACK TO s").ok();
    client.ask("LISTEN c").ok();
    speaker.ask("NOTIFY a, 'too early'").ok();
    client.ask("COMMIT").ok();
    speaker.ask("NOTIFY b, 'rolled back'").ok();
    speaker.ask("NOTIFY a, '1'").ok();
    speaker.ask("NOTIFY c, '2'").ok();
    assert_eq!(next(&mut client), ("a".into(), "1".into()));
    assert_eq!(next(&mut client), ("c".into(), "2".into()));
    // not while a transaction is open, and all of it behind its end
    client.ask("BEGIN").ok();
    speaker.ask("NOTIFY a, '3'").ok();
    assert!(!tags(&mut client, "SELECT pg_sleep(0.2)").contains('A'));
    client.ask("UNLISTEN a").ok();
    client.ask("ROLLBACK").ok();
    speaker.ask("NOTIFY a, '4'").ok();
    speaker.ask("NOTIFY c, '5'").ok();
    let mut heard = Vec::new();
    while heard.last() != Some(&"5".to_owned()) {
        // '3' may stand before ROLLBACK's ReadyForQuery, which `ask` has read
        heard.push(next(&mut client).1);
    }
    assert!(
        heard.ends_with(&["4".to_owned(), "5".to_owned()]),
        "{heard:?}"
    );
    client.ask("BEGIN; LISTEN gone; ROLLBACK").ok();
    client.ask("UNLISTEN *").ok();
    speaker.ask("NOTIFY gone, '6'").ok();
    speaker.ask("NOTIFY c, '7'").ok();
    client.ask("LISTEN last").ok();
    speaker.ask("NOTIFY last, '8'").ok();
    assert_eq!(next(&mut client), ("last".into(), "8".into()));
    client.ask("DISCARD ALL").ok();
    speaker.ask("NOTIFY last, '9'").ok();
    assert!(!tags(&mut client, "SELECT pg_sleep(0.2)").contains('A'));
}

#[test]
fn a_notification_is_heard_after_its_commit_and_never_without() {
    let proxy = proxy("");
    let (mut client, mut speaker) = (connect(&proxy), connect(&proxy));
    client.ask("LISTEN notes").ok();
    speaker.ask("BEGIN").ok();
    speaker.ask("INSERT INTO notes VALUES (1)").ok();
    speaker.ask("ROLLBACK").ok();
    speaker.ask("BEGIN").ok();
    speaker.ask("INSERT INTO notes VALUES (2)").ok();
    speaker.ask("NOTIFY notes, 'by hand'").ok();
    assert!(!tags(&mut client, "SELECT pg_sleep(0.2)").contains('A'));
    speaker.ask("COMMIT").ok();
    assert_eq!(next(&mut client), ("notes".into(), "2".into()));
    assert_eq!(next(&mut client), ("notes".into(), "by hand".into()));
    // its own are there before it may go on, in both protocols
    assert!(tags(&mut client, "INSERT INTO notes VALUES (3)").contains("CAZ"));
    let answer = client
        .extended("SELECT pg_notify('notes', $1)", &[], &[Some("4")])
        .expect("an answer");
    assert!(answer.ok().messages.contains("CAZ"));
    assert_eq!(tags(&mut client, "SELECT 1"), "TCZ");
}

#[test]
fn a_lost_connection_is_replaced_and_the_gap_is_told() {
    let proxy = proxy("");
    let mut client = connect(&proxy);
    client.ask("LISTEN far").ok();
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE usename = 'pgshunt' AND query LIKE 'LISTEN \"far\"%'";
    assert_ne!(town().superuser(0, 0, "social").ask(kill).ok().value(), "0");
    let told = client.receive().expect("a warning");
    assert_eq!(told.tag, b'N');
    assert!(String::from_utf8_lossy(&told.body).contains("may have been lost"));
    connect(&proxy).ask("NOTIFY far, 'again'").ok();
    assert_eq!(next(&mut client), ("far".into(), "again".into()));
}

#[test]
fn who_does_not_fetch_is_told_that_it_missed_something() {
    let proxy = proxy("limits: { notify_bytes_max: 16384 }\n");
    let mut client = connect(&proxy);
    client.ask("LISTEN flood").ok();
    client.ask("BEGIN").ok();
    let mut speaker = connect(&proxy);
    for n in 0..30 {
        speaker
            .ask(&format!(
                "SELECT pg_notify('flood', repeat('{}', 1000))",
                n % 10
            ))
            .ok();
    }
    std::thread::sleep(Duration::from_millis(300));
    client.send(&raw::query("COMMIT")).expect("sent");
    let mut last = String::new();
    while let Ok(message) = client.receive() {
        last = String::from_utf8_lossy(&message.body).into_owned();
    }
    assert!(last.contains("more notifications wait"), "{last}");
}

#[test]
fn names_are_identifiers_and_channels_are_the_sessions_own_secret() {
    let proxy = proxy("");
    let (mut client, mut speaker) = (connect(&proxy), connect(&proxy));
    client.ask("LISTEN Mixed").ok();
    client.ask("LISTEN \"Odd \"\" One; DROP\"").ok();
    let long = "x".repeat(70);
    client.ask(&format!("LISTEN {long}")).ok();
    speaker.ask("NOTIFY mixed, '1'").ok();
    speaker.ask("NOTIFY \"Odd \"\" One; DROP\", '2'").ok();
    speaker
        .ask(&format!("SELECT pg_notify('{}', '3')", &long[..63]))
        .ok();
    for n in ["1", "2", "3"] {
        assert_eq!(next(&mut client).1, n);
    }
    let asked = client
        .ask("SELECT c FROM pg_listening_channels() c ORDER BY c")
        .ok();
    assert_eq!(asked.rows.len(), 3);
    client.ask("BEGIN").ok();
    let asked = client.ask("SELECT PG_listening_channels()");
    assert_eq!(asked.code(), "0A000");
    client.ask("ROLLBACK").ok();
    assert_eq!(
        speaker
            .ask("SELECT pg_listening_channels()")
            .ok()
            .rows
            .len(),
        0
    );
    // a function that listens leaves nothing to whoever gets its server next
    speaker.ask("DO $$ BEGIN EXECUTE 'LISTEN hidden'; END $$");
    speaker.ask("NOTIFY hidden, 'x'").ok();
    for _ in 0..10 {
        assert_eq!(tags(&mut client, "SELECT 1"), "TCZ");
    }
}

/// A trigger speaks where its row is.
#[test]
fn what_is_said_on_any_shard_is_heard() {
    let proxy = proxy("");
    connect(&proxy);
    town().on_primaries(
        "CREATE TRIGGER tell AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION tell_account()",
    );
    let (mut client, mut speaker) = (connect(&proxy), connect(&proxy));
    client.ask("LISTEN accounts").ok();
    let mut told = Vec::new();
    for k in 1..=20 {
        speaker
            .ask(&format!("INSERT INTO accounts VALUES ({k}, 0)"))
            .ok();
        told.push(next(&mut client));
    }
    let on_second = town()
        .direct(1, 0)
        .ask("SELECT count(*) FROM accounts")
        .ok();
    assert_ne!(on_second.value(), "0", "keys on both shards");
    let expected = (1..=20).map(|k| ("accounts".to_owned(), k.to_string()));
    assert!(told.into_iter().eq(expected));
    // its own are there before it may go on, wherever they were said
    for k in 21..=40 {
        let insert = format!("INSERT INTO accounts VALUES ({k}, 0)");
        assert!(tags(&mut client, &insert).contains("CAZ"), "{k}");
    }
    client.ask("UNLISTEN accounts").ok();
    speaker.ask("INSERT INTO accounts VALUES (41, 0), (42, 0), (43, 0)");
    speaker.ask("INSERT INTO accounts VALUES (44, 0)").ok();
    assert_eq!(tags(&mut client, "SELECT 1"), "TCZ");
}

/// A shard that is down has nothing to say; when it is back, who listens is told that it may have.
#[test]
fn a_shard_that_is_down_is_heard_again_when_it_is_back() {
    let town = Town::start("listen-down", 2, 0);
    town.on_primaries(
        "CREATE TABLE accounts (k bigint PRIMARY KEY, v bigint);
         CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_notify('accounts', NEW.k::text); RETURN NEW; END $$;
         CREATE TRIGGER tell AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION tell();",
    );
    let proxy = Proxy::start(&Map::of(&town, 2, 0).tables(ACCOUNTS_BY_KEY).text());
    let mut client = connect(&proxy);
    client.ask("LISTEN accounts").ok();
    town.kill_server(1, 0);
    let (mut late, mut speaker) = (connect(&proxy), connect(&proxy));
    late.ask("LISTEN accounts").ok();
    late.ask("LISTEN other").ok();
    speaker.ask("NOTIFY accounts, 'home'").ok();
    for listener in [&mut client, &mut late] {
        assert_eq!(next(listener), ("accounts".into(), "home".into()));
    }
    town.revive(1, 0);
    for listener in [&mut client, &mut late] {
        let told = listener.receive().expect("a warning");
        assert_eq!(told.tag, b'N');
        let words = String::from_utf8_lossy(&told.body).into_owned();
        assert!(
            words.contains("may have been lost") && words.contains("s2"),
            "{words}"
        );
    }
    let mut heard = 0;
    town.eventually("a row on the second shard", || {
        heard += 1;
        let inserted = speaker.ask(&format!("INSERT INTO accounts VALUES ({heard}, 0)"));
        inserted.error.is_none() && {
            assert_eq!(next(&mut client).1, heard.to_string());
            assert_eq!(next(&mut late).1, heard.to_string());
            town.direct(1, 0)
                .ask("SELECT count(*) FROM accounts")
                .ok()
                .value()
                != "0"
        }
    });
}

/// Number, channel and payload of a notification.
fn heard(client: &mut Raw) -> (i32, String) {
    let message = client.receive().expect("a notification");
    assert_eq!(message.tag, b'A');
    let pid = i32::from_be_bytes(message.body[..4].try_into().expect("a number"));
    let words: Vec<&[u8]> = message.body[4..].split(|b| *b == 0).collect();
    (pid, String::from_utf8_lossy(words[1]).into_owned())
}

/// Drivers compare the number in a notification with that of their own connection.
#[test]
fn a_notification_names_the_client_that_sent_it() {
    let proxy = proxy("");
    let mut client = connect(&proxy);
    client.ask("LISTEN own").ok();
    for sql in [
        "NOTIFY own",
        "SELECT pg_notify('own', '')",
        "BEGIN; NOTIFY own; COMMIT",
    ] {
        client.send(&raw::query(sql)).expect("sent");
        let mut seen = None;
        loop {
            let message = client.receive().expect("an answer");
            match message.tag {
                b'A' => seen = message.body[..4].try_into().ok().map(i32::from_be_bytes),
                b'Z' => break,
                _ => {}
            }
        }
        assert_eq!(seen, Some(client.pid), "{sql}");
    }
}

#[test]
fn nobody_is_taken_for_the_sender_who_had_the_server_before_or_after() {
    let proxy = proxy("");
    let mut listener = connect(&proxy);
    listener.ask("LISTEN names").ok();
    let (speakers, rounds) = (8, 60);
    let speak = |n: u64| {
        let mut client = connect(&proxy);
        let said = client.pid.to_string();
        std::thread::spawn(move || {
            for round in 0..rounds {
                match (n + round) % 4 {
                    0 => client.ask(&format!("NOTIFY names, '{said}'")).ok(),
                    1 => client
                        .ask(&format!("BEGIN; NOTIFY names, '{said}'; COMMIT"))
                        .ok(),
                    2 => {
                        client.ask("BEGIN").ok();
                        client
                            .ask(&format!("SELECT pg_notify('names', '{said}')"))
                            .ok();
                        client.ask("COMMIT").ok()
                    }
                    _ => {
                        let batch = [
                            raw::parse("", &format!("NOTIFY names, '{said}'"), &[]),
                            raw::bind("", "", &[]),
                            raw::execute("", 0),
                            raw::sync(),
                        ];
                        client.send(&batch.concat()).expect("sent");
                        client.until_ready().expect("an answer").ok()
                    }
                };
                // and something that others see through the same server
                client.ask("SELECT 1").ok();
            }
        })
    };
    let threads: Vec<_> = (0..speakers).map(speak).collect();
    for _ in 0..speakers * rounds {
        let (pid, said) = heard(&mut listener);
        assert_eq!(pid.to_string(), said);
    }
    for thread in threads {
        thread.join().expect("it has spoken");
    }
}
