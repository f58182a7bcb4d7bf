//! The life of scratch databases: how much disk they may have, when old ones go, and that nobody loses one in use.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::time::Duration;
use support::cluster::Proxy;
use support::raw::{Raw, query};
use support::town::{Map, Town, eventually};

const TABLES: &str = "\
keyspaces:
  - { name: by_key, type: bigint, hash: { buckets: 8 } }
tables: [{ name: rows, keyspace: by_key, key: k }]
";
const SCHEMA: &str = "CREATE TABLE rows (k bigint PRIMARY KEY, v text)";
const MEDIAN: &str = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v) FROM rows";

fn town(name: &str) -> Town {
    let town = Town::start(name, 2, 0);
    town.on_primaries(SCHEMA);
    town
}

fn client(proxy: &Proxy) -> Raw {
    Raw::connect(proxy.port(), "app", "social").expect("pgshunt")
}

/// Names of the scratch databases, in order.
fn scratches(town: &Town) -> Vec<String> {
    let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'pgshunt_scratch_%' ORDER BY 1";
    let answer = town.superuser(0, 0, "postgres").ask(sql).ok();
    answer.rows.into_iter().flatten().flatten().collect()
}

#[test]
fn they_have_no_more_on_disk_than_the_bound() {
    let town = town("scratch-disk");
    let map = format!(
        "{}\nlimits: {{ gather_disk_bytes_max: 20000000 }}\n",
        town.cluster.map_with(TABLES)
    );
    let proxy = Proxy::start(&map);
    let mut sharded = client(&proxy);
    sharded.ask("INSERT INTO rows VALUES (1, 'one')").ok();
    assert_eq!(sharded.ask(MEDIAN).ok().value(), "one");
    for shard in 0..2 {
        let fill = format!(
            "INSERT INTO rows SELECT g, repeat(md5(g::text), 10) FROM generate_series({}, {}) g",
            10 + 100_000 * shard,
            40_000 + 100_000 * shard
        );
        town.direct(shard, 0).ask(&fill).ok();
    }
    let answer = sharded.ask(MEDIAN);
    assert_eq!(answer.code(), "53400", "{answer:?}");
    let error = answer.error.expect("an error");
    assert!(error.hint.contains("gather_disk_bytes_max"), "{error:?}");
    // nothing of it stays
    eventually(Duration::from_secs(20), "there is room again", &mut || {
        sharded
            .ask("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v) FROM rows WHERE k < 5")
            .code()
            .is_empty()
    });
    // what others have counts, too
    let mut root = town.superuser(0, 0, "postgres");
    root.ask("CREATE DATABASE pgshunt_scratch_of_another").ok();
    town.superuser(0, 0, "pgshunt_scratch_of_another")
        .ask("CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 200000)")
        .ok();
    root.ask("GRANT pg_read_all_stats TO pgshunt").ok();
    eventually(Duration::from_secs(30), "it is seen", &mut || {
        sharded
            .ask("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v) FROM rows WHERE k < 5")
            .code()
            == "53400"
    });
    assert!(scratches(&town).contains(&"pgshunt_scratch_of_another".to_owned()));
}

/// A vacuum waits for the one who has a table's rights in hand, who would wait for it to gather statistics: a deadlock.
#[test]
fn the_server_does_not_vacuum_them_by_itself() {
    let town = town("scratch-vacuum");
    let proxy = Proxy::start(&town.cluster.map_with(TABLES));
    let mut sharded = client(&proxy);
    sharded.ask("INSERT INTO rows VALUES (1, 'one')").ok();
    assert_eq!(sharded.ask(MEDIAN).ok().value(), "one");
    let name = scratches(&town).pop().expect("a scratch database");
    let sql = "SELECT count(*) FILTER (WHERE coalesce(c.reloptions::text, '') NOT LIKE '%autovacuum_enabled=off%'), \
               count(*) FROM pg_class c WHERE c.oid >= 16384 AND c.relkind IN ('r', 't')";
    let mut there = town.superuser(0, 0, &name);
    let answer = there.ask(sql).ok();
    let counts = &answer.rows[0];
    assert_eq!(counts[0].as_deref(), Some("0"), "{counts:?}");
    assert_ne!(counts[1].as_deref(), Some("0"), "no tables");
}

#[test]
fn old_ones_are_dropped_and_those_in_use_are_not() {
    let town = town("scratch-old");
    let map = town.cluster.map_with(TABLES);
    let first = Proxy::start(&map);
    let mut sharded = client(&first);
    sharded.ask("INSERT INTO rows VALUES (1, 'one')").ok();
    sharded.ask(MEDIAN).ok();
    let made = scratches(&town);
    assert_eq!(made.len(), 1, "{made:?}");
    // left by the one that is gone: the next takes it over
    drop((sharded, first));
    let second = Proxy::start(&map);
    let mut sharded = client(&second);
    assert_eq!(sharded.ask(MEDIAN).ok().value(), "one");
    assert!(!second.log().contains("made scratch"), "{}", second.log());
    assert_eq!(scratches(&town), made);
    // two at a time: both instances use theirs, and neither drops the other's
    let third = Proxy::start(&map);
    let mut other = client(&third);
    for _ in 0..4 {
        assert_eq!(other.ask(MEDIAN).ok().value(), "one");
        assert_eq!(sharded.ask(MEDIAN).ok().value(), "one");
        for proxy in [&second, &third] {
            reload(proxy);
        }
    }
    assert_eq!(scratches(&town).len(), 2);
    // another schema: what is not in use goes
    drop((other, third));
    sharded.ask("ALTER TABLE rows ADD COLUMN more int").ok();
    let mut root = town.superuser(0, 0, "postgres");
    let unknown = "CREATE DATABASE pgshunt_scratch_0_1";
    root.ask(unknown).ok();
    let others = "CREATE DATABASE pgshunt_scratch_0_2; COMMENT ON DATABASE pgshunt_scratch_0_2 IS 'pgshunt scratch database of other, unfinished'";
    for sql in others.split("; ") {
        root.ask(sql).ok();
    }
    for (name, what) in [("0_3", "unfinished"), ("0_4", "schema 0000000000000001")] {
        root.ask(&format!(
            "CREATE DATABASE pgshunt_scratch_{name} OWNER pgshunt"
        ))
        .ok();
        root.ask(&format!(
            "COMMENT ON DATABASE pgshunt_scratch_{name} IS 'pgshunt scratch database of social, {what}'"
        ))
        .ok();
    }
    // somebody is in it
    let mut inside = town.superuser(0, 0, "pgshunt_scratch_0_4");
    sharded.ask(MEDIAN).ok();
    reload(&second);
    let left = [
        "pgshunt_scratch_0_1",
        "pgshunt_scratch_0_2",
        "pgshunt_scratch_0_4",
    ];
    eventually(Duration::from_secs(30), "old ones are gone", &mut || {
        let found = scratches(&town);
        left.iter().all(|name| found.iter().any(|f| f == name)) && found.len() == 4
    });
    inside.ask("SELECT 1").ok();
    drop(inside);
    eventually(Duration::from_secs(30), "the last one is gone", &mut || {
        reload(&second);
        !scratches(&town).contains(&"pgshunt_scratch_0_4".to_owned())
    });
    assert_eq!(client(&second).ask(MEDIAN).ok().value(), "one");
}

/// SIGHUP, until it has been heard.
fn reload(proxy: &Proxy) {
    let times = proxy.log().matches("reloaded: ").count();
    let pid = proxy.pid().to_string();
    let status = std::process::Command::new("kill")
        .args(["-HUP", &pid])
        .status();
    assert!(status.expect("kill").success());
    eventually(Duration::from_secs(20), "it has reloaded", &mut || {
        proxy.log().matches("reloaded: ").count() > times
    });
}

/// Two instances that drop and make them at the same time lose no statement by it.
#[test]
fn instances_do_not_take_each_others_away() {
    let town = town("scratch-two");
    let map = town.cluster.map_with(TABLES);
    let proxies = [Proxy::start(&map), Proxy::start(&map)];
    client(&proxies[0])
        .ask("INSERT INTO rows VALUES (1, 'one')")
        .ok();
    std::thread::scope(|scope| {
        for proxy in &proxies {
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..20 {
                        // a new session each time, now and then with a new schema
                        assert_eq!(client(proxy).ask(MEDIAN).ok().value(), "one");
                    }
                });
            }
        }
        scope.spawn(|| {
            for _ in 0..4 {
                proxies.iter().for_each(reload);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
    });
}

/// A server lets nobody into a database while it drops or renames it, however long that takes there. Who cancels does not
/// wait with it, and finds a database the next time.
#[test]
fn one_that_is_being_dropped_is_waited_for() {
    let town = town("scratch-slow");
    let map = town.cluster.map_with(TABLES);
    let first = Proxy::start(&map);
    let mut sharded = client(&first);
    sharded.ask("INSERT INTO rows VALUES (1, 'one')").ok();
    sharded.ask(MEDIAN).ok();
    drop((sharded, first));
    let name = scratches(&town).pop().expect("a scratch database");
    let mut root = town.superuser(0, 0, "postgres");
    let inside = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'pgshunt_scratch_%'";
    eventually(Duration::from_secs(20), "nobody is in it", &mut || {
        root.ask(inside).ok().value() == "0"
    });
    let second = Proxy::start(&map);
    root.ask(&format!("BEGIN; ALTER DATABASE {name} RENAME TO elsewhere"))
        .ok();
    let mut sharded = client(&second);
    sharded.send(&query(MEDIAN)).expect("sent");
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND objid = (SELECT oid FROM pg_database WHERE datname = 'elsewhere')";
    eventually(Duration::from_secs(20), "it waits", &mut || {
        root.ask(waiting).ok().value() == "1"
    });
    cancel(second.port(), &sharded);
    let answer = sharded.until_ready().expect("an answer");
    assert_eq!(answer.code(), "57014");
    let said = answer.error.unwrap_or_default().message;
    assert!(said.contains("waited for a scratch database"), "{said}");
    assert_eq!(root.ask(waiting).ok().value(), "1");
    // longer than a server has to answer a connection
    std::thread::sleep(Duration::from_secs(6));
    root.ask("ROLLBACK").ok();
    eventually(Duration::from_secs(20), "it is taken", &mut || {
        root.ask(inside).ok().value() == "1"
    });
    assert_eq!(sharded.ask(MEDIAN).ok().value(), "one");
}

/// A third server that no shard lives on.
#[test]
fn a_server_of_their_own() {
    let town = Town::start("scratch-own", 3, 0);
    for shard in 0..2 {
        town.direct(shard, 0).ask(SCHEMA).ok();
        let view = "CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TABLE rows ADD m mood; CREATE VIEW moods AS SELECT k, m FROM rows";
        town.direct(shard, 0).ask(view).ok();
    }
    let own = town.port(2, 0);
    let map = Map::of(&town, 2, 0)
        .tables(TABLES)
        .database(&format!("scratch_server: 127.0.0.1:{own}"))
        .text();
    // nothing of the database is there: only servers' own ones
    town.superuser(2, 0, "postgres")
        .ask("DROP DATABASE social")
        .ok();
    let proxy = Proxy::start(&map);
    let mut sharded = client(&proxy);
    for k in 0..100 {
        let mood = ["'sad'", "'ok'", "NULL"][k % 3];
        sharded
            .ask(&format!(
                "INSERT INTO rows VALUES ({k}, 'v{}', {mood})",
                k % 7
            ))
            .ok();
    }
    assert_eq!(sharded.ask(MEDIAN).ok().value(), "v3");
    let moods = sharded
        .ask("SELECT m, count(*) OVER (), pg_typeof(m) FROM moods ORDER BY m, k LIMIT 1")
        .ok();
    assert_eq!(moods.value(), "sad");
    sharded.ask("BEGIN").ok();
    sharded.ask("INSERT INTO rows VALUES (1000, 'v0')").ok();
    assert_eq!(
        sharded
            .ask("SELECT count(DISTINCT v) + count(*) FROM rows")
            .ok()
            .value(),
        "108"
    );
    sharded.ask("ROLLBACK").ok();
    assert_eq!(scratches(&town).len(), 0);
    let there = "SELECT count(*) FROM pg_database WHERE datname LIKE 'pgshunt_scratch_%'";
    let mut root = town.superuser(2, 0, "postgres");
    assert_eq!(root.ask(there).ok().value(), "1");
    // a cancel request finds it
    let slow = "SELECT count(*), sum(a.k + b.k + c.k + d.k + e.k) FROM rows a, rows b, rows c, rows d, rows e";
    sharded.send(&query(slow)).expect("sent");
    let working = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%sum(a.k%' AND query NOT LIKE '%activity%'";
    eventually(Duration::from_secs(20), "it works", &mut || {
        root.ask(working).ok().value() == "1"
    });
    cancel(proxy.port(), &sharded);
    assert_eq!(sharded.until_ready().expect("an answer").code(), "57014");
    assert_eq!(sharded.ask(MEDIAN).ok().value(), "v3");
    drop((sharded, proxy));
    // what the check says of it
    assert!(!check(&map).contains("scratch server"), "{}", check(&map));
    root.ask("ALTER ROLE pgshunt NOCREATEDB").ok();
    let said = check(&map);
    assert!(said.contains("no_createdb: scratch server"), "{said}");
    root.ask("ALTER ROLE pgshunt NOLOGIN").ok();
    let said = check(&map);
    assert!(
        said.contains("scratch_server_down: scratch server"),
        "{said}"
    );
    // such statements are refused, all others go on
    let proxy = Proxy::start(&map);
    let mut sharded = client(&proxy);
    assert_eq!(sharded.ask("SELECT count(*) FROM rows").ok().value(), "100");
    assert_eq!(sharded.ask(MEDIAN).code(), "08001");
}

fn cancel(port: u16, raw: &Raw) {
    use std::io::{Read, Write};
    let mut packet = (8 + raw.secret.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(80_877_102_u32.to_be_bytes());
    packet.extend(raw.pid.to_be_bytes());
    packet.extend(&raw.secret);
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).expect("pgshunt");
    socket.write_all(&packet).expect("sent");
    let _ = socket.read(&mut [0; 1]);
}

/// What `pgshunt check` says.
fn check(map: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("scratch-check.yaml");
    let map = map.replace("LISTEN_PORT", "1").replace("HTTP_PORT", "2");
    std::fs::write(&file, map).expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pgshunt"))
        .args(["check", "--map"])
        .arg(&file)
        .output();
    String::from_utf8_lossy(&output.expect("its words").stdout).into_owned()
}
