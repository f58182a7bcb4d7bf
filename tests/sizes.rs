//! What is large passes in bounded memory: rows, results that nobody fetches, values of a Bind, copies; and as many
//! parameters as the protocol has room for. `PGSHUNT_LONG=1` makes the rows 500 MB and the values 200 MB.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{Map, Town};

/// What a stream of any length may take in pgshunt.
const ROOM_KB: u64 = 16 * 1024;
/// The same for copies both ways in three formats: less than any of them has bytes.
const COPY_ROOM_KB: u64 = 32 * 1024;

fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("sizes", 2, 0);
        town.on_primaries("CREATE TABLE lines (n int, filler text)");
        town
    })
}

/// One after the other: they are about memory.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn proxy() -> Proxy {
    Proxy::start(&Map::of(town(), 1, 0).pool("size: 2").text())
}

fn connect(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

fn long() -> bool {
    std::env::var_os("PGSHUNT_LONG").is_some()
}

/// A line of /proc/PID/status, in KB.
fn resident(proxy: &Proxy, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).expect("status");
    let line = status.lines().find(|line| line.starts_with(what));
    let words: Vec<&str> = line.expect("the line").split_whitespace().collect();
    words[1].parse().expect("a number")
}

/// KB that the most it ever took has risen by. The kernel counts in portions: it may say a little less than before.
fn grown(proxy: &Proxy, before: u64) -> u64 {
    resident(proxy, "VmHWM").saturating_sub(before)
}

/// Connections of this shard that wait until what they send is read.
fn wait_for_us(shard: usize) -> String {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'";
    let mut server = town().superuser(shard, 0, "social");
    server.ask(waits).ok().value().to_owned()
}

/// Reads up to ReadyForQuery; bytes of the messages with this tag.
fn drain(client: &mut Raw, tag: u8) -> u64 {
    let mut bytes = 0;
    loop {
        let message = client.receive().expect("a message");
        match message.tag {
            b'E' => panic!("{}", String::from_utf8_lossy(&message.body)),
            b'Z' => return bytes,
            seen if seen == tag => bytes += message.body.len() as u64,
            _ => {}
        }
    }
}

#[test]
fn a_row_passes_that_is_larger_than_what_pgshunt_may_take() {
    let _alone = alone();
    let proxy = proxy();
    let mut client = connect(&proxy);
    client.ask("SELECT 1").ok();
    let length: u64 = if long() { 500_000_000 } else { 60_000_000 };
    let before = resident(&proxy, "VmHWM");
    client
        .send(&raw::query(&format!("SELECT repeat('x', {length})")))
        .expect("sent");
    assert_eq!(drain(&mut client, b'D'), length + 6);
    let mut batch = raw::parse("", &format!("SELECT repeat('y', {length}), 1"), &[]);
    batch.extend(raw::bind("", "", &[]));
    batch.extend(raw::execute("", 0));
    batch.extend(raw::sync());
    client.send(&batch).expect("sent");
    assert_eq!(drain(&mut client, b'D'), length + 11);
    let grown = grown(&proxy, before);
    println!("{length} bytes in one row: {grown} KB more");
    assert!(grown < ROOM_KB, "{grown} KB");
}

#[test]
fn who_does_not_read_is_waited_for() {
    let _alone = alone();
    let proxy = proxy();
    let mut client = connect(&proxy);
    client.ask("SELECT 1").ok();
    let before = resident(&proxy, "VmHWM");
    let rows = 60_000_u64;
    client
        .send(&raw::query(&format!(
            "SELECT repeat('x', 1000) FROM generate_series(1, {rows})"
        )))
        .expect("sent");
    std::thread::sleep(Duration::from_secs(2));
    // the others go on, and the server waits
    assert_eq!(connect(&proxy).ask("SELECT 1").ok().value(), "1");
    assert_eq!(wait_for_us(0), "1");
    assert_eq!(drain(&mut client, b'D'), rows * 1006);
    let grown = grown(&proxy, before);
    println!("{grown} KB more");
    assert!(grown < ROOM_KB, "{grown} KB");
}

/// A sorted result whose first shard says nothing yet: the other one's rows wait at their server.
#[test]
fn a_shard_ahead_of_another_is_waited_for() {
    let _alone = alone();
    let tables = "\
keyspaces:
  - { name: by_id, type: bigint, hash: { buckets: 64 } }
tables:
  - { name: apart, keyspace: by_id, key: id }
";
    let rows = 60_000_u64;
    let insert = format!(
        "CREATE TABLE apart (id bigint PRIMARY KEY); INSERT INTO apart SELECT generate_series(1, {rows})"
    );
    town().on_primaries(&insert);
    let map = Map::of(town(), 2, 0).tables(tables).pool("size: 4");
    let proxy = Proxy::start(&map.text());
    let mut client = connect(&proxy);
    client.ask("SELECT count(*) FROM apart").ok();
    let before = resident(&proxy, "VmHWM");
    for slow in [0, 1] {
        let mut holder = town().superuser(slow, 0, "social");
        holder.ask("BEGIN; LOCK TABLE apart").ok();
        let sql = "SELECT id, repeat('x', 1000) FROM apart ORDER BY id";
        client.send(&raw::query(sql)).expect("sent");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(wait_for_us(1 - slow), "1");
        holder.ask("ROLLBACK").ok();
        assert!(drain(&mut client, b'D') > 2 * rows * 1000);
    }
    let grown = grown(&proxy, before);
    println!("{grown} KB more");
    assert!(grown < ROOM_KB, "{grown} KB");
    town().on_primaries("DROP TABLE apart");
}

#[test]
fn copies_pass_in_both_directions_and_nothing_piles_up() {
    let _alone = alone();
    let proxy = proxy();
    let mut client = connect(&proxy);
    // what TRUNCATE has pgshunt look at again is no part of what is measured
    client.ask("TRUNCATE lines").ok();
    let before = resident(&proxy, "VmHWM");
    let lines: u64 = if long() { 200_000 } else { 40_000 };
    for format in ["text", "csv", "binary"] {
        client.ask("DELETE FROM lines").ok();
        let answer = client.ask(&format!("COPY lines FROM STDIN (FORMAT {format})"));
        assert_eq!(answer.messages, "G");
        if format == "binary" {
            let mut head = b"PGCOPY\n\xff\r\n\0".to_vec();
            head.extend([0; 8]);
            client.send(&raw::message(b'd', &head)).expect("sent");
        }
        let filler = "z".repeat(1000);
        for n in 0..lines {
            let line = match format {
                "text" => format!("{n}\t{filler}\n").into_bytes(),
                "csv" => format!("{n},\"{filler}\"\n").into_bytes(),
                _ => {
                    let mut line = 2_i16.to_be_bytes().to_vec();
                    line.extend(4_i32.to_be_bytes());
                    line.extend((n as i32).to_be_bytes());
                    line.extend(1000_i32.to_be_bytes());
                    line.extend(filler.as_bytes());
                    line
                }
            };
            client.send(&raw::message(b'd', &line)).expect("sent");
        }
        if format == "binary" {
            client
                .send(&raw::message(b'd', &(-1_i16).to_be_bytes()))
                .expect("sent");
        }
        client.send(&raw::message(b'c', b"")).expect("sent");
        let copied = client.until_ready().expect("an answer").ok();
        assert_eq!(copied.tags, [format!("COPY {lines}")]);
        let sums = "SELECT count(*) || ' ' || sum(n) || ' ' || sum(length(filler)) FROM lines";
        let expected = format!("{lines} {} {}", lines * (lines - 1) / 2, lines * 1000);
        assert_eq!(client.ask(sums).ok().value(), expected, "{format}");
        client
            .send(&raw::query(&format!(
                "COPY lines TO STDOUT (FORMAT {format})"
            )))
            .expect("sent");
        assert!(drain(&mut client, b'd') > lines * 1000);
    }
    let grown = grown(&proxy, before);
    println!("{grown} KB more");
    assert!(grown < COPY_ROOM_KB, "{grown} KB");
}

/// PostgreSQL takes the same bytes at once, too.
#[test]
fn a_value_of_a_bind_may_be_as_large_as_messages_are() {
    let _alone = alone();
    let proxy = proxy();
    let mut client = connect(&proxy);
    client.ask("SELECT 1").ok();
    let before = resident(&proxy, "VmRSS");
    let length = if long() { 200_000_000 } else { 20_000_000 };
    let value = "v".repeat(length);
    let mut batch = raw::parse("", "SELECT length($1), md5($1)", &[25]);
    batch.extend(raw::bind("", "", &[Some(&value)]));
    batch.extend(raw::execute("", 0));
    batch.extend(raw::sync());
    client.send(&batch).expect("sent");
    let answer = client.until_ready().expect("an answer").ok();
    assert_eq!(answer.rows[0][0], Some(length.to_string()));
    let direct = format!("SELECT md5(repeat('v', {length}))");
    assert_eq!(
        answer.rows[0][1].as_deref(),
        Some(town().direct(0, 0).ask(&direct).ok().value())
    );
    // an idle client keeps none of it, and no server
    drop(batch);
    client.ask("SELECT 1").ok();
    let mut kept = 0;
    town().eventually("the memory given back", || {
        kept = resident(&proxy, "VmRSS").saturating_sub(before);
        println!("{kept} KB kept");
        kept < ROOM_KB
    });
}

#[test]
fn as_many_parameters_as_there_is_room_for() {
    let _alone = alone();
    let proxy = proxy();
    for mut client in [town().direct(0, 0), connect(&proxy)] {
        ask_with_many(&mut client);
    }
}

fn ask_with_many(client: &mut Raw) {
    let names: Vec<String> = (1..=65_535).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT count(*), sum(v) FROM unnest(ARRAY[{}]::int[]) v",
        names.join(",")
    );
    let values: Vec<String> = (1..=65_535).map(|n| n.to_string()).collect();
    let mut batch = raw::parse("many", &sql, &[]);
    batch.extend(bind_many("many", &values));
    batch.extend(raw::execute("", 0));
    batch.extend(raw::sync());
    for _ in 0..3 {
        client.send(&batch).expect("sent");
        let answer = client.until_ready().expect("an answer").ok();
        let expected = [Some("65535".to_owned()), Some("2147450880".to_owned())];
        assert_eq!(answer.rows[0], expected);
        // the next one finds it prepared, on whichever server
        batch = bind_many("many", &values);
        batch.extend(raw::execute("", 0));
        batch.extend(raw::sync());
    }
}

fn bind_many(statement: &str, values: &[String]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend(statement.as_bytes());
    body.push(0);
    body.extend(0_u16.to_be_bytes());
    body.extend(
        u16::try_from(values.len())
            .expect("as many as fit")
            .to_be_bytes(),
    );
    for value in values {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend(0_u16.to_be_bytes());
    raw::message(b'B', &body)
}
