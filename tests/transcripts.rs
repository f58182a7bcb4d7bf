//! Wire transcripts: each file in tests/transcripts must hold at PostgreSQL itself and then, unchanged, through pgshunt before
//! that same server; those in tests/transcripts/sharded hold through pgshunt over two shards. `TRANSCRIPT=copy,cancel` in
//! the environment runs only the files with one of these in their names; `TRANSCRIPT_FILL=yes` writes PostgreSQL's answers under every
//! `until` that has none, for a new transcript.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/transcript.rs"]
mod transcript;
#[path = "support/wire.rs"]
mod wire;

use cluster::{Cluster, Proxy};
use std::path::{Path, PathBuf};
use transcript::{Place, Target, Transcript, fill};

fn files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let wanted = std::env::var("TRANSCRIPT").unwrap_or_default();
    let mut files: Vec<_> = std::fs::read_dir(root.join(folder))
        .expect("the folder of transcripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| {
            wanted
                .split(',')
                .any(|part| path.to_string_lossy().contains(part))
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {folder}");
    files
}

fn place(target: Target, port: u16) -> Place {
    let (user, database) = ("app".to_owned(), "social".to_owned());
    Place {
        target,
        port,
        user,
        database,
    }
}

/// Runs them all; says which failed, and how.
fn run_all(files: &[PathBuf], name: &str, place: &Place) -> Vec<String> {
    let fills = place.target == Target::Postgres && std::env::var("TRANSCRIPT_FILL").is_ok();
    let run = |path: &PathBuf| {
        let filled = Transcript::read(path)?.run(place, fills)?;
        fill(path, &filled).map_err(|error| error.to_string())
    };
    let failed = files.iter().filter_map(|path| {
        let problem = run(path).err()?;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        Some(format!("{file}, {name}: {problem}"))
    });
    failed.collect()
}

fn assert_none(failed: &[String], files: usize) {
    assert!(
        failed.is_empty(),
        "{} failures in {files} transcripts:\n\n{}\n",
        failed.len(),
        failed.join("\n\n")
    );
}

const UNSHARDED: &str = "keyspaces: []\ntables: []";

/// SCRAM on both sides; pools of several shapes, so that transcripts meet servers others have used before.
#[test]
fn transcripts_hold_at_postgres_and_through_pgshunt() {
    let files = files("");
    let cluster = Cluster::start_with("transcripts", 1, 1, &["--set", "fsync=off"]);
    let postgres = place(Target::Postgres, cluster.primary_port(0));
    assert_none(&run_all(&files, "at PostgreSQL", &postgres), files.len());
    let mut failed = Vec::new();
    let map = cluster.map_with(UNSHARDED);
    let pool = "pool: { mode: transaction, size: 20 }";
    let scram = "auth: scram-sha-256, password: \"app\"";
    assert!(
        map.contains(pool) && map.contains(scram),
        "scripts/cluster writes other maps now"
    );
    let shapes = [
        ("through pgshunt", pool),
        (
            "three servers a pool, each looked at",
            "pool: { mode: transaction, size: 3, verify: true }",
        ),
        ("session mode", "pool: { mode: session, size: 20 }"),
    ];
    for (name, shape) in shapes {
        let mut map = map.replace(pool, shape);
        if shape != pool {
            // passwords have been tried by then, and cost time
            map = map.replace(scram, "auth: trust, server_password: \"app\"");
        }
        let proxy = Proxy::start(&map);
        let through = place(Target::Pgshunt, proxy.port());
        failed.extend(run_all(&files, name, &through));
        let log = proxy.log();
        let found = |line: &&str| line.contains("not as a fresh one");
        failed.extend(log.lines().filter(found).map(str::to_owned));
    }
    assert_none(&failed, files.len());
}

#[test]
fn sharded_transcripts_hold_through_pgshunt() {
    let files = files("sharded");
    let cluster = Cluster::start("sharded", 2, 1);
    let proxy = Proxy::start(&cluster.map());
    let through = place(Target::Pgshunt, proxy.port());
    load_schema(&through);
    assert_none(&run_all(&files, "through pgshunt", &through), files.len());
}

/// Users 1, 4 and 8 are on shard s1; 2, 3, 5, 6 and 7 on s2. They stay as they are; transcripts add users above 1000.
fn load_schema(place: &Place) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/sharded/schema.sql");
    let schema = std::fs::read_to_string(path).expect("the schema");
    for statement in schema.split(";\n") {
        let line = format!("setup {}", statement.replace('\n', " "));
        let transcript = Transcript::parse(&line).expect("a transcript of one line");
        let loaded = transcript.run(place, false).map(drop);
        assert_eq!(loaded, Ok(()), "{statement}");
    }
}
