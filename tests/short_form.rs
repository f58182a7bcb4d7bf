//! The short form of scripts/compat: the files of tests/compat/short, by psql, at PostgreSQL and through pgshunt in transaction
//! mode while other clients keep the pool moving. What psql prints is the same to the byte.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use support::cluster::Proxy;
use support::raw::Raw;
use support::town::{Map, Town};

/// Fewer servers than noisy clients, and one more client beside them.
const POOL: usize = 3;
const NOISY: u64 = 4;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/short");
    let entries = std::fs::read_dir(folder).expect("the files").flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// All that psql prints, errors in their places.
fn psql(port: u16, database: &str, file: &Path) -> String {
    let output = Command::new("sh")
        .args([
            "-c",
            "exec psql -X -a -q -h 127.0.0.1 -p \"$0\" -U postgres -d \"$1\" -f \"$2\" 2>&1",
        ])
        .args([&port.to_string(), database])
        .arg(file)
        .env("PGOPTIONS", "-c client_min_messages=notice")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect("psql runs");
    // where in PostgreSQL's sources an error was found does not count
    let printed = String::from_utf8_lossy(&output.stdout);
    let lines = printed
        .lines()
        .filter(|line| !line.starts_with("LOCATION:"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A client that does short transactions until it is told to stop.
fn noise(port: u16, stop: &Arc<AtomicBool>, done: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (stop, done) = (stop.clone(), done.clone());
    std::thread::spawn(move || {
        let mut client = Raw::connect(port, "postgres", "pooled").expect("pgshunt");
        while !stop.load(Ordering::SeqCst) {
            client.ask("BEGIN").ok();
            client.ask("SELECT count(*) FROM pg_class").ok();
            std::thread::sleep(Duration::from_millis(1));
            client.ask("COMMIT").ok();
            client.ask("SELECT 1").ok();
            done.fetch_add(1, Ordering::SeqCst);
        }
    })
}

fn first_difference(direct: &str, pooled: &str) -> Option<String> {
    if direct == pooled {
        return None;
    }
    let (mut theirs, mut ours) = (direct.lines(), pooled.lines());
    let mut number = 0;
    loop {
        number += 1;
        let (expected, got) = (theirs.next(), ours.next());
        if expected != got || expected.is_none() {
            return Some(format!(
                "line {number}\n  PostgreSQL: {expected:?}\n  pgshunt:    {got:?}"
            ));
        }
    }
}

#[test]
fn psql_prints_the_same_through_a_pool_that_others_use() {
    let town = Town::start("compat", 1, 0);
    for database in ["direct", "pooled"] {
        town.superuser(0, 0, "postgres")
            .ask(&format!("CREATE DATABASE {database} TEMPLATE template0"))
            .ok();
    }
    let direct = town.port(0, 0);
    let mut map = Map::of(&town, 1, 0);
    map.users.push_str("  - { name: postgres, auth: trust }\n");
    let pooled = format!(
        "  - name: pooled\n    control: {{ user: postgres }}\n    shards: [{{ name: s1, primary: \"127.0.0.1:{direct}\" }}]\n    \
         pool: {{ size: {POOL}, verify: true }}\n"
    );
    let proxy = Proxy::start(&map.rest(&pooled).text());

    let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let noisy: Vec<_> = (0..NOISY)
        .map(|_| noise(proxy.port(), &stop, &done))
        .collect();
    let mut different = Vec::new();
    for file in files() {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let expected = psql(direct, "direct", &file);
        assert!(
            expected.len() > 1000,
            "psql printed nothing of {name}: {expected}"
        );
        let before = done.load(Ordering::SeqCst);
        let got = psql(proxy.port(), "pooled", &file);
        assert!(
            done.load(Ordering::SeqCst) > before,
            "the others did nothing meanwhile"
        );
        if let Some(difference) = first_difference(&expected, &got) {
            different.push(format!("{name}, {difference}"));
        }
    }
    stop.store(true, Ordering::SeqCst);
    for client in noisy {
        client.join().expect("the others were not disturbed");
    }
    assert!(different.is_empty(), "\n{}", different.join("\n"));
    let log = proxy.log();
    assert!(!log.contains("not as a fresh one"), "{log}");
}
