//! Read-your-writes on real replicas: with replay stopped no write is missed, on one connection, over all connections of one
//! name and along a token; with replay running the replicas serve the reads. The servers say who answered.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::Raw;
use support::town::{Dice, Town, with_pool};

const TABLES: &str = "\
keyspaces:
  - name: by_key
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: pairs, keyspace: by_key, key: k }
";

/// In the order of the shards, the ports of those who can answer are unique: `inet_server_port()` names the server.
const READ: &str = "SELECT v, inet_server_port() FROM pairs WHERE k = ";

struct Setting {
    town: Town,
    proxy: Proxy,
}

/// One cluster for all tests of this file, one test at a time: they stop replicas.
fn setting() -> (&'static Setting, MutexGuard<'static, ()>) {
    static SETTING: OnceLock<Setting> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let setting = SETTING.get_or_init(|| {
        let town = Town::start("ryw", 2, 2);
        town.on_primaries("CREATE TABLE pairs (k bigint PRIMARY KEY, v bigint)");
        town.catch_up();
        let map = with_pool(
            &town.cluster.map_with(TABLES),
            "mode: transaction, size: 20",
            "",
        );
        Setting {
            proxy: Proxy::start(&map),
            town,
        }
    });
    setting.town.resume_all();
    setting.town.catch_up();
    (setting, turn)
}

impl Setting {
    fn client(&self) -> Raw {
        Raw::connect(self.proxy.port(), "app", "social").expect("pgshunt")
    }

    fn client_of(&self, options: &str) -> Raw {
        Raw::connect_with(self.proxy.port(), "app", "social", &[("options", options)])
            .expect("pgshunt")
    }

    fn is_replica(&self, port: &str) -> bool {
        let port: u16 = port.parse().expect("a port");
        let replicas = self.town.members().into_iter().filter(|(_, m)| *m > 0);
        replicas
            .into_iter()
            .any(|(s, m)| self.town.port(s, m) == port)
    }
}

fn write(client: &mut Raw, key: u64, value: u64) {
    let sql = format!(
        "INSERT INTO pairs VALUES ({key}, {value}) ON CONFLICT (k) DO UPDATE SET v = {value}"
    );
    client.ask(&sql).ok();
}

/// The value, and the port of the server that said so; by turns in one protocol and the other.
fn read(client: &mut Raw, key: u64) -> (Option<String>, String) {
    let answer = if key.is_multiple_of(2) {
        client.ask(&format!("{READ}{key}"))
    } else {
        client
            .extended(&format!("{READ}$1"), &[], &[Some(&key.to_string())])
            .expect("an answer")
    };
    match &answer.ok().rows[..] {
        [row] => (row[0].clone(), row[1].clone().expect("a port")),
        _ => (None, String::new()),
    }
}

#[test]
fn ten_thousand_pairs_on_sixteen_connections_miss_nothing_while_replay_is_paused() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let misses = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..16_u64 {
            let misses = &misses;
            scope.spawn(move || {
                let mut client = setting.client();
                for n in 0..625 {
                    let key = worker * 1_000_000 + n % 50;
                    write(&mut client, key, n);
                    if read(&mut client, key).0 != Some(n.to_string()) {
                        misses.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    setting.town.resume_all();
    assert_eq!(misses.into_inner(), 0, "misses of 10,000");
}

/// Writes on one connection, reads on another; `prepare` ties the two together before each read.
fn misses_of_pairs(
    setting: &Setting,
    workers: u64,
    pairs: u64,
    pair: impl Fn(u64) -> (Raw, Raw) + Sync,
    tie: impl Fn(&mut Raw, &mut Raw) + Sync,
) -> usize {
    let misses = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (misses, pair, tie) = (&misses, &pair, &tie);
            scope.spawn(move || {
                let (mut writer, mut reader) = pair(worker);
                for n in 0..pairs {
                    let key = (100 + worker) * 1_000_000 + n % 40;
                    write(&mut writer, key, n);
                    tie(&mut writer, &mut reader);
                    if read(&mut reader, key).0 != Some(n.to_string()) {
                        misses.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    setting.town.resume_all();
    misses.into_inner()
}

#[test]
fn connections_of_one_name_see_each_others_writes() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let pair = |worker: u64| {
        let (mut writer, mut reader) = (setting.client(), setting.client());
        for client in [&mut writer, &mut reader] {
            client
                .ask(&format!("SET pgshunt.session = 'user-{worker}'"))
                .ok();
        }
        (writer, reader)
    };
    assert_eq!(misses_of_pairs(setting, 8, 200, pair, |_, _| {}), 0);
}

#[test]
fn a_name_in_the_startup_options_counts_too() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let pair = |worker: u64| {
        let options = format!("-c pgshunt.session=option-{worker}");
        (setting.client_of(&options), setting.client_of(&options))
    };
    assert_eq!(misses_of_pairs(setting, 4, 100, pair, |_, _| {}), 0);
}

#[test]
fn a_new_connection_of_the_name_sees_them_too() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let options = "-c pgshunt.session=newcomer";
    for n in 0..40 {
        let mut writer = setting.client_of(options);
        write(&mut writer, 900, n);
        drop(writer);
        let mut reader = setting.client();
        reader.ask("SET pgshunt.session = 'newcomer'").ok();
        assert_eq!(read(&mut reader, 900).0, Some(n.to_string()));
    }
}

#[test]
fn a_comment_names_the_session_of_one_statement() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let (mut writer, mut reader) = (setting.client(), setting.client());
    for n in 0..40 {
        let hint = "/* pgshunt: session='commented' */";
        writer
            .ask(&format!(
                "{hint} INSERT INTO pairs VALUES (901, {n}) ON CONFLICT (k) DO UPDATE SET v = {n}"
            ))
            .ok();
        let answer = reader.ask(&format!("{hint} {READ}901")).ok();
        assert_eq!(answer.rows[0][0], Some(n.to_string()));
    }
}

#[test]
fn a_token_carries_what_must_be_seen() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let pair = |_| (setting.client(), setting.client());
    let tie = |writer: &mut Raw, reader: &mut Raw| {
        let token = writer.ask("SHOW pgshunt.token").ok().value().to_owned();
        assert!(!token.is_empty());
        reader.ask(&format!("SET pgshunt.token = '{token}'")).ok();
    };
    assert_eq!(misses_of_pairs(setting, 4, 50, pair, tie), 0);
}

#[test]
fn a_token_holds_at_another_pgshunt() {
    let (setting, _turn) = setting();
    let other = Proxy::start(&setting.town.cluster.map_with(TABLES));
    // the other one has settled long before the write: only the token can tell it of it
    std::thread::sleep(Duration::from_millis(300));
    setting.town.pause_all();
    let mut writer = setting.client();
    let mut reader = Raw::connect(other.port(), "app", "social").expect("the other pgshunt");
    let _ = read(&mut reader, 902);
    for n in 0..30 {
        write(&mut writer, 902, n);
        let token = writer.ask("SHOW pgshunt.token").ok().value().to_owned();
        reader.ask(&format!("SET pgshunt.token = '{token}'")).ok();
        assert_eq!(read(&mut reader, 902).0, Some(n.to_string()));
    }
}

#[test]
fn a_broken_token_is_an_error() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    let mut token = client.ask("SHOW pgshunt.token").ok().value().to_owned();
    for broken in ["nonsense".to_owned(), token.split_off(token.len() / 2)] {
        let answer = client.ask(&format!("SET pgshunt.token = '{broken}'"));
        assert_eq!(answer.code(), "22023", "{answer:?}");
    }
}

#[test]
fn with_replay_running_the_replicas_serve_the_reads() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    for key in 0..100 {
        write(&mut client, key, key);
    }
    setting.town.catch_up();
    // pools and sessions find their shape first
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = setting.client();
                for key in 0..100 {
                    read(&mut client, key);
                }
            });
        }
    });
    let before = setting.town.calls("%/* counted */%");
    // one write in a hundred, and a moment between two reads: a session that writes and reads without a pause is the primary's
    std::thread::scope(|scope| {
        for worker in 0..8_u64 {
            scope.spawn(move || {
                let mut client = setting.client();
                let mut dice = Dice(worker);
                for n in 0..400 {
                    if n % 100 == 50 {
                        write(&mut client, worker * 1000, n);
                    }
                    let key = dice.below(100);
                    let sql = format!("SELECT v /* counted */ FROM pairs WHERE k = {key}");
                    assert_eq!(client.ask(&sql).ok().rows.len(), 1);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
    });
    let after = setting.town.calls("%/* counted */%");
    let (mut on_primaries, mut on_replicas) = (0, 0);
    for (n, (_, member)) in setting.town.members().into_iter().enumerate() {
        let calls = after[n] - before[n];
        if member == 0 {
            on_primaries += calls;
        } else {
            on_replicas += calls;
        }
        assert!(
            member == 0 || calls > 100,
            "every replica takes part: {after:?}"
        );
    }
    println!("{on_replicas} reads on replicas, {on_primaries} on primaries");
    assert_eq!(on_primaries + on_replicas, 3200);
    assert!(
        on_replicas * 10 >= 3200 * 9,
        "only {on_replicas} of 3200 on replicas"
    );
}

#[test]
fn a_session_that_wrote_comes_back_to_the_replicas() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    for n in 0..5 {
        write(&mut client, 903, n);
        let started = Instant::now();
        let until = started + Duration::from_secs(3);
        loop {
            let (value, port) = read(&mut client, 903);
            assert_eq!(value, Some(n.to_string()));
            if setting.is_replica(&port) {
                println!("back on a replica after {:?}", started.elapsed());
                break;
            }
            assert!(Instant::now() < until, "still on the primary after 3 s");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn reads_never_go_back_in_time() {
    let (setting, _turn) = setting();
    let mut writer = setting.client();
    write(&mut writer, 904, 0);
    setting.town.catch_up();
    // one replica of each shard stands still, the other goes on
    for shard in 0..2 {
        setting.town.pause(shard, 1);
    }
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=300 {
                write(&mut writer, 904, n);
                std::thread::sleep(Duration::from_millis(5));
            }
            done.store(1, Ordering::Release);
        });
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = setting.client();
                let (mut last, mut by_replica) = (0, 0);
                while done.load(Ordering::Acquire) == 0 {
                    let (value, port) = read(&mut client, 904);
                    let value: u64 = value.expect("a row").parse().expect("a number");
                    assert!(value >= last, "{value} after {last}, from {port}");
                    by_replica += usize::from(setting.is_replica(&port));
                    last = value;
                }
                println!("{by_replica} reads by replicas");
            });
        }
    });
}

#[test]
fn monotonic_reads_hold_between_connections_of_one_name() {
    let (setting, _turn) = setting();
    let mut writer = setting.client();
    write(&mut writer, 905, 0);
    setting.town.catch_up();
    for shard in 0..2 {
        setting.town.pause(shard, 2);
    }
    let (mut first, mut second) = (setting.client(), setting.client());
    for client in [&mut first, &mut second] {
        client.ask("SET pgshunt.session = 'pair'").ok();
    }
    let mut last = 0;
    for n in 1..=150_u64 {
        write(&mut writer, 905, n);
        let client = if n % 2 == 0 { &mut first } else { &mut second };
        let value: u64 = read(client, 905)
            .0
            .expect("a row")
            .parse()
            .expect("a number");
        assert!(value >= last, "{value} after {last}");
        last = value;
    }
}

/// Until this read is served by a replica: a connection that is new to pgshunt is used once it is proven to be to the server
/// that was sampled.
fn on_a_replica(setting: &Setting, client: &mut Raw, sql: &str) {
    setting.town.eventually("a read on a replica", || {
        let answer = client.ask(sql).ok();
        setting.is_replica(answer.rows[0][1].as_deref().expect("a port"))
    });
}

#[test]
fn eventual_reads_may_be_old_and_stay_on_replicas() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    write(&mut client, 906, 1);
    setting.town.catch_up();
    client.ask("SET pgshunt.consistency = 'eventual'").ok();
    on_a_replica(setting, &mut client, &format!("{READ}906"));
    setting.town.pause_all();
    for n in 2..20 {
        write(&mut client, 906, n);
        let (value, port) = read(&mut client, 906);
        assert!(setting.is_replica(&port), "answered by {port}");
        assert_eq!(value, Some("1".into()));
    }
    client.ask("SET pgshunt.consistency = 'session'").ok();
    assert_eq!(read(&mut client, 906).0, Some("19".into()));
}

#[test]
fn a_hint_sends_one_read_to_a_replica() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    write(&mut client, 907, 1);
    setting.town.catch_up();
    on_a_replica(
        setting,
        &mut client,
        &format!("/* pgshunt: replica */ {READ}907"),
    );
    setting.town.pause_all();
    write(&mut client, 907, 2);
    let answer = client
        .ask(&format!("/* pgshunt: replica */ {READ}907"))
        .ok();
    assert_eq!(answer.rows[0][0], Some("1".into()), "{answer:?}");
    let answer = client.ask(&format!("{READ}907")).ok();
    assert_eq!(answer.rows[0][0], Some("2".into()));
}

#[test]
fn strong_reads_are_the_primarys() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    client.ask("SET pgshunt.consistency = 'strong'").ok();
    write(&mut setting.client(), 908, 8);
    for _ in 0..20 {
        let (value, port) = read(&mut client, 908);
        assert_eq!(value, Some("8".into()));
        assert!(!setting.is_replica(&port));
    }
    let answer = setting
        .client()
        .ask(&format!("/* pgshunt: primary */ {READ}908"))
        .ok();
    assert!(!setting.is_replica(answer.rows[0][1].as_deref().expect("a port")));
}

#[test]
fn bounded_reads_leave_a_replica_that_lags() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    write(&mut client, 909, 1);
    setting.town.catch_up();
    client.ask("SET pgshunt.consistency = 'bounded 800'").ok();
    let by_replica = |client: &mut Raw| setting.is_replica(&read(client, 909).1);
    setting
        .town
        .eventually("a bounded read on a replica", || by_replica(&mut client));
    setting.town.pause_all();
    let mut other = setting.client();
    write(&mut other, 909, 2);
    // later than the bound allows, and with writes going on so that the lag shows
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        write(&mut other, 910, 1);
        write(&mut other, 911, 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..20 {
        assert_eq!(
            read(&mut client, 909).0,
            Some("2".into()),
            "older than 800 ms"
        );
    }
    setting.town.resume_all();
    setting.town.catch_up();
    setting
        .town
        .eventually("back on the replicas", || by_replica(&mut client));
}

#[test]
fn a_failed_write_counts_as_a_write() {
    let (setting, _turn) = setting();
    setting.town.pause_all();
    let mut client = setting.client();
    write(&mut client, 912, 1);
    for n in 2..12 {
        // the second statement fails after the first has been committed
        let sql = format!(
            "INSERT INTO pairs VALUES (912, {n}) ON CONFLICT (k) DO UPDATE SET v = {n}; COMMIT; SELECT 1/0"
        );
        let answer = client.ask(&format!("BEGIN; {sql}"));
        assert_eq!(answer.code(), "22012");
        assert_eq!(read(&mut client, 912).0, Some(n.to_string()));
    }
}

#[test]
fn read_only_transactions_see_the_sessions_writes() {
    let (setting, _turn) = setting();
    let mut client = setting.client();
    for paused in [true, false] {
        if paused {
            setting.town.pause_all();
        } else {
            setting.town.resume_all();
        }
        for n in 0..20 {
            write(&mut client, 913, n);
            client.ask("BEGIN READ ONLY").ok();
            assert_eq!(read(&mut client, 913).0, Some(n.to_string()));
            assert_eq!(read(&mut client, 913).0, Some(n.to_string()));
            client.ask("COMMIT").ok();
        }
    }
    setting.town.catch_up();
    setting
        .town
        .eventually("a read only transaction on a replica", || {
            client.ask("BEGIN READ ONLY").ok();
            let (_, port) = read(&mut client, 913);
            client.ask("COMMIT").ok();
            setting.is_replica(&port)
        });
}
