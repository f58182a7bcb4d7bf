//! Every mistake in a shard map is refused with its place, what was found and what was expected. Each file in
//! `tests/broken_maps` is a map with one mistake or several, and the whole message in its last lines.
//!
//! `PGSHUNT_REWRITE=1 cargo test --test broken_maps` writes the messages as they are now, to be read before they are kept.

use pgshunt::config;
use std::path::{Path, PathBuf};

const MARK: &str = "\n# expected:\n";
/// Passwords in these maps contain this word; no message may.
const SECRET: &str = "hunter2";

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken_maps");
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    cases.sort();
    cases
}

fn refusal(path: &Path, map: &str) -> String {
    let error = config::parse(map, "map.yaml").err();
    let error = error.unwrap_or_else(|| panic!("{} is not refused", path.display()));
    assert!(!error.problems.is_empty());
    error.to_string()
}

#[test]
fn every_mistake_is_refused_with_its_message() {
    let rewrite = std::env::var_os("PGSHUNT_REWRITE").is_some();
    let mut wrong = Vec::new();
    for path in cases() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (map, expected) = text.split_once(MARK).unwrap_or((text.trim_end(), ""));
        let found = refusal(&path, map);
        let as_comment = format!("#   {}\n", found.trim_end().replace('\n', "\n#   "));
        if rewrite {
            std::fs::write(&path, format!("{map}{MARK}{as_comment}")).unwrap();
        } else if as_comment != expected {
            wrong.push(format!(
                "{}\nexpected:\n{expected}found:\n{as_comment}",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases().len() > 50);
}

#[test]
fn no_message_shows_a_password() {
    for path in cases() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !refusal(&path, &text).contains(SECRET),
            "{}",
            path.display()
        );
    }
}

/// Cutting a map anywhere, or spoiling one character, must neither panic nor show the password.
#[test]
fn spoilt_maps_are_refused_quietly() {
    let map = std::fs::read_to_string(example())
        .unwrap()
        .replace("\"app\"", "\"hunter2\"");
    let ends = map.char_indices().map(|(end, _)| end);
    for end in ends.clone().step_by(7) {
        quiet(&map[..end]);
    }
    for (i, spoiler) in ends.step_by(5).zip(
        ["{", "]", ":", "\"", "\t", "- ", "#", "&a ", "*b ", "|", "'"]
            .iter()
            .cycle(),
    ) {
        quiet(&format!("{}{spoiler}{}", &map[..i], &map[i..]));
    }
}

fn quiet(map: &str) {
    if let Err(error) = config::parse(map, "map.yaml") {
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("shard-map.yaml")
}

#[test]
fn the_example_is_right() {
    let config = config::load(&example()).unwrap_or_else(|error| panic!("{error}"));
    let social = &config.databases[0];
    assert_eq!(social.shards.len(), 2);
    assert_eq!(social.tables.len(), 5);
    assert_eq!(social.positions.shard(social.home).column, 15);
    for row in config.describe() {
        assert!(
            row.1 != "app" || row.0.ends_with("user") || row.0 == "admin.users",
            "{row:?}"
        );
    }
}

/// Its defaults are the program's: the example may be cut down to what has none.
#[test]
fn the_example_shows_the_defaults() {
    let written = std::fs::read_to_string(example()).unwrap();
    let bounds = ["pool:", "consistency:", "server_tls:", "limits:", "log:"];
    let mut cut = String::new();
    let mut skipping = None;
    for line in written.lines() {
        let indent = line.len() - line.trim_start().len();
        if skipping.is_some_and(|level| indent <= level && !line.trim().is_empty()) {
            skipping = None;
        }
        if bounds
            .iter()
            .any(|field| line.trim_start().starts_with(field))
        {
            skipping = Some(indent);
        }
        if skipping.is_none() {
            cut += line;
            cut.push('\n');
        }
    }
    let describe = |text: &str| config::parse(text, "map.yaml").unwrap().describe();
    assert_eq!(describe(&cut), describe(&written));
}

/// Every commented line of the example that is an alternative is right, too, when it is uncommented.
#[test]
fn other_kinds_of_maps_are_right() {
    let map = r#"
listen: [{ address: "[::1]:6432" }, { address: "*" }]
users:
  - { name: trusted, auth: trust, server_user: app, server_password: "x", databases: [d, pgshunt] }
  - { name: hashed, password: "SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }
databases:
  - name: d
    control: { user: pgshunt }
    shards: [{ name: s1, primary: a }, { name: s2, primary: "b:5433", replicas: [c, d] }, { name: s3, primary: e }]
    keyspaces:
      - { name: even, type: bigint, hash: { buckets: 8 } }
      - { name: placed, type: uuid, hash: { function: postgres, buckets: 8, placement: [{ shard: s3, buckets: "0-2,7" }, { shard: s1, buckets: 3-6 }] } }
      - name: days
        type: date
        ranges: [{ shard: s2, from: 2026-01-01 }, { shard: s1, to: 2026-01-01 }]
      - { name: regions, type: text, list: [{ shard: s1, values: [de, no, 1e3, 007] }] }
      - { name: both, type: [bigint, text], hash: { buckets: 3 } }
    tables: [{ name: iot.readings, keyspace: both, key: [tenant, device] }]
    functions: { slugify: pure, report: home }
    pool: { mode: session, size: 5, size_min: 2 }
    consistency: { level: { bounded_ms: 500 } }
"#;
    let config = config::parse(map, "map.yaml").unwrap_or_else(|error| panic!("{error}"));
    placed_as_written(&config);
}

fn placed_as_written(config: &config::Config) {
    use pgshunt::shard::{KeyType, KeyspaceKind};
    let database = &config.databases[0];
    let buckets = |keyspace: usize| match &database.keyspaces[keyspace].kind {
        KeyspaceKind::HashXxh3 { buckets } | KeyspaceKind::HashPostgres { buckets } => {
            buckets.iter().map(|shard| shard.0).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    assert_eq!(buckets(0), [0, 0, 0, 1, 1, 1, 2, 2]);
    assert_eq!(buckets(1), [2, 2, 2, 0, 0, 0, 0, 2]);
    let locate = |keyspace: usize, key_type: KeyType, text: &str| {
        let value = key_type.parse_text(text.as_bytes()).unwrap();
        database.keyspaces[keyspace]
            .locate(&[value])
            .ok()
            .map(|shard| shard.0)
    };
    assert_eq!(locate(2, KeyType::Date, "2025-12-31"), Some(0));
    assert_eq!(locate(2, KeyType::Date, "2026-01-01"), Some(1));
    // YAML would like `no` to be false, 1e3 to be 1000 and 007 to be 7
    assert_eq!(
        ["no", "1e3", "007", "7"].map(|text| locate(3, KeyType::Text, text)),
        [Some(0), Some(0), Some(0), None]
    );
    assert_eq!(database.tables[0].schema, "iot");
    assert_eq!(
        database
            .positions
            .replica(pgshunt::shard::ShardId(1), 1)
            .line,
        9
    );
    assert_eq!(config.listeners[0].host, "::1");
    assert_eq!(config.listeners[1].port, 6432);
    assert!(!format!("{config:?}").contains("SCRAM-SHA-256$"));
}

#[test]
fn the_schema_describes_the_file() {
    let schema = config::json_schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(
        schema["$defs"]["PoolFile"]["properties"]["size"]["default"],
        20
    );
    assert!(schema["$defs"]["ShardFile"]["properties"]["primary"]["description"].is_string());
    assert_eq!(
        schema["$defs"]["UserFile"]["required"],
        serde_json::json!(["name"])
    );
}

#[test]
fn a_missing_file_is_one_message() {
    let error = config::load(Path::new("/nowhere/shard-map.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nowhere/shard-map.yaml: found No such file or directory (os error 2); expected a readable shard map"
    );
}
