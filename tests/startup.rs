//! Start-up: what does not stop it and is said in the log, what stops it with one message a person can act on, and who may
//! come in, over TLS and with passwords, on both sides.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;
use support::cluster::Proxy;
use support::raw::Raw;
use support::town::{Map, Town};

const TABLES: &str = "\
keyspaces:
  - name: by_key
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: rows, keyspace: by_key, key: k }
";

/// Two plain shards that nobody kills, with tables that fit a map and tables that do not.
fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| {
        let town = Town::start("startup", 2, 0);
        town.on_primaries(
            "CREATE TABLE rows (k bigint PRIMARY KEY, v bigint);
             CREATE TABLE wrong_type (k text PRIMARY KEY);
             CREATE TABLE padded (k char(8) PRIMARY KEY);
             CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TABLE blurred (k text COLLATE blind PRIMARY KEY);",
        );
        town.direct(0, 0).ask("CREATE TABLE uneven (k bigint PRIMARY KEY, a int, b text)").ok();
        town.direct(1, 0).ask("CREATE TABLE uneven (k bigint PRIMARY KEY, a int)").ok();
        town.direct(0, 0).ask("CREATE TABLE one_sided (k bigint PRIMARY KEY)").ok();
        town
    })
}

fn good() -> Map {
    Map::of(town(), 2, 0).tables(TABLES)
}

/// What pgshunt says when it must not serve this map.
#[track_caller]
fn refusal(map: &str) -> String {
    let proxy = Proxy::spawn(map);
    match proxy.wait_exit(Duration::from_secs(20)) {
        None => panic!("it serves:\n{map}\n{}", proxy.log()),
        Some(status) => assert!(!status.success(), "stopped, but as if all were well"),
    }
    proxy.log()
}

// ---- what does not stop it -----------------------------------------------------------------------

#[test]
fn a_replica_that_is_down_is_a_line_in_the_log() {
    let town = Town::start("replicadown", 2, 1);
    town.on_primaries("CREATE TABLE rows (k bigint PRIMARY KEY, v bigint)");
    town.catch_up();
    town.kill_server(1, 1);
    let proxy = Proxy::start(&Map::of(&town, 2, 1).tables(TABLES).text());
    let mut client = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    for k in 0..40 {
        client
            .ask(&format!("INSERT INTO rows VALUES ({k}, {k})"))
            .ok();
        assert_eq!(
            client
                .ask(&format!("SELECT v FROM rows WHERE k = {k}"))
                .ok()
                .value(),
            k.to_string()
        );
    }
    let log = proxy.log();
    let port = town.port(1, 1).to_string();
    let said = |line: &&str| {
        line.contains("WARN") && (line.contains(&port) || line.contains("s2/replica1"))
    };
    assert!(
        log.lines().any(|line| said(&line)),
        "no warning names the replica:\n{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_primary_that_is_down_leaves_the_other_shard_served() {
    let town = Town::start("primarydown", 2, 0);
    town.on_primaries("CREATE TABLE rows (k bigint PRIMARY KEY, v bigint)");
    town.kill_server(1, 0);
    let list = TABLES.replace(
        "hash: { buckets: 64 }",
        "list: [{ shard: s1, values: [1] }, { shard: s2, values: [2] }]",
    );
    let map = Map::of(&town, 2, 0)
        .tables(&list)
        .pool("size: 5, connect_ms_max: 500, wait_ms_max: 1000")
        .text();
    let proxy = Proxy::start(&map);
    let mut client = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    client.ask("INSERT INTO rows VALUES (1, 1)").ok();
    let answer = client.ask("INSERT INTO rows VALUES (2, 2)");
    assert!(
        answer.code().starts_with("08") || answer.code().starts_with("57P"),
        "{answer:?}"
    );
    assert!(proxy.log().contains("s2"), "{}", proxy.log());
    town.revive(1, 0);
    town.eventually("s2 is served", || {
        client
            .ask("INSERT INTO rows VALUES (2, 2) ON CONFLICT DO NOTHING")
            .error
            .is_none()
    });
}

// ---- mistakes in the map -------------------------------------------------------------------------

/// One mistake: the map's text, `^` before the place that must be named, and words that must be said.
fn mistake(text: &str, words: &[&str]) -> Result<(), String> {
    let at = text.find('^').expect("a marked place");
    let line = 1 + text[..at].matches('\n').count();
    let column = 1 + at - text[..at].rfind('\n').map_or(0, |n| n + 1);
    let text = text.replace('^', "");
    let log = refusal(&text);
    let place = format!(".yaml:{line}:{column}");
    let messages = log.matches(".yaml:").count();
    let missing: Vec<_> = words.iter().filter(|w| !log.contains(**w)).collect();
    if log.contains(&place) && missing.is_empty() && messages == 1 {
        return Ok(());
    }
    Err(format!(
        "wanted {place} once and {words:?}, got:\n{log}\nfor the line: {}\n",
        text.lines().nth(line - 1).unwrap_or("")
    ))
}

#[test]
fn every_mistake_in_the_map_is_named_with_its_place() {
    let good = good().text();
    let with_tables = |tables: &str| Map::of(town(), 2, 0).tables(tables).text();
    let keyspace = |kind: &str| {
        with_tables(&format!(
            "keyspaces:\n  - name: by_key\n    type: bigint\n    {kind}\ntables: [{{ name: rows, keyspace: by_key, key: k }}]\n"
        ))
    };
    let table = |tables: &str| {
        with_tables(&format!(
            "keyspaces:\n  - {{ name: by_key, type: bigint, hash: {{ buckets: 8 }} }}\ntables:\n{tables}"
        ))
    };
    let s2 = format!("primary: 127.0.0.1:{}", town().port(1, 0));
    let s1 = format!("127.0.0.1:{}", town().port(0, 0));
    let cases: Vec<(String, Vec<&str>)> = vec![
        (good.replace("    pool:", "    ^pond:"), vec!["pond"]),
        (good.replace("size: 10", "size: ^many"), vec!["many"]),
        (good.replace("size: 10", "size: ^0"), vec!["0"]),
        (good.replace("home: s1", "home: ^s9"), vec!["s9", "s1"]),
        (good.replace("name: s2", "name: ^s1"), vec!["s1"]),
        (good.replace(&s2, &format!("primary: ^{s1}")), vec![&s1]),
        (good.replace("auth: trust", "auth: ^md4"), vec!["md4"]),
        (
            good.replace("auth: trust", "auth: ^scram-sha-256"),
            vec!["password"],
        ),
        (
            good.replace(
                "- address: 127.0.0.1:LISTEN_PORT",
                "- address: ^127.0.0.1:99999",
            ),
            vec!["99999"],
        ),
        (good.replace("type: bigint", "type: ^money"), vec!["money"]),
        (
            good.replace("keyspace: by_key, key: k", "keyspace: ^by_kex, key: k"),
            vec!["by_kex", "by_key"],
        ),
        (good.replace("key: k }", "key: ^[k, v] }"), vec!["2", "1"]),
        (
            good.replace("hash: { buckets: 64 }", "hash: { buckets: ^0 }"),
            vec!["0"],
        ),
        (
            keyspace(
                "hash: { buckets: 8, placement: [{ shard: s1, buckets: 0-4 }, { shard: s2, buckets: ^4-7 }] }",
            ),
            vec!["4"],
        ),
        (
            keyspace(
                "hash: { buckets: 8, placement: ^[{ shard: s1, buckets: 0-3 }, { shard: s2, buckets: 5-7 }] }",
            ),
            vec!["4"],
        ),
        (
            keyspace(
                "hash: { buckets: 8, placement: [{ shard: s1, buckets: 0-3 }, { shard: ^s3, buckets: 4-7 }] }",
            ),
            vec!["s3"],
        ),
        (
            keyspace("ranges: [{ shard: s1, to: 10 }, { shard: s2, from: ^5 }]"),
            vec!["5", "10"],
        ),
        (
            keyspace("ranges: [{ shard: s1, to: 10 }, { shard: s2, from: ^20 }]"),
            vec!["10", "20"],
        ),
        (
            keyspace("ranges: [{ shard: s1, to: ^ten }, { shard: s2, from: 10 }]"),
            vec!["ten"],
        ),
        (
            keyspace("list: [{ shard: s1, values: [1, 2] }, { shard: s2, values: [3, ^2] }]"),
            vec!["2"],
        ),
        (
            table(
                "  - { name: rows, keyspace: by_key, key: k }\n  - { name: ^rows, keyspace: by_key, key: k }\n",
            ),
            vec!["rows"],
        ),
        (
            table("  - { name: rows, keyspace: by_key, key: k }\nreference_tables: [^rows]\n"),
            vec!["rows"],
        ),
    ];
    let check = |(text, words): &(String, Vec<&str>)| mistake(text, words).err();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = cases.chunks(cases.len().div_ceil(2)).collect();
        let running: Vec<_> = halves
            .into_iter()
            .map(|half| scope.spawn(move || half.iter().filter_map(check).collect::<Vec<_>>()))
            .collect();
        running
            .into_iter()
            .flat_map(|r| r.join().expect("no panic"))
            .collect()
    });
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn a_file_that_is_no_yaml_or_is_not_there_is_said_plainly() {
    let log = refusal("listen: [\n  - {{{\n");
    assert!(log.contains(".yaml:"), "{log}");
    let run = Command::new(env!("CARGO_BIN_EXE_pgshunt"))
        .args(["serve", "--map", "/nowhere/map.yaml"])
        .output();
    let output = run.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && said.contains("/nowhere/map.yaml"),
        "{said}"
    );
}

// ---- maps that the servers contradict ------------------------------------------------------------

#[test]
fn tables_that_are_not_what_the_map_says_are_refused() {
    let table = |text: &str| Map::of(town(), 2, 0).tables(text).text();
    let bigint = |rest: &str| {
        table(&format!(
            "keyspaces: [{{ name: by_key, type: bigint, hash: {{ buckets: 8 }} }}]\ntables:\n  - {rest}\n"
        ))
    };
    let text = |rest: &str| {
        table(&format!(
            "keyspaces: [{{ name: by_key, type: text, hash: {{ buckets: 8 }} }}]\ntables:\n  - {rest}\n"
        ))
    };
    let cases = [
        (
            bigint("{ name: rows, keyspace: by_key, key: nokey }"),
            vec!["rows", "nokey"],
        ),
        (
            bigint("{ name: wrong_type, keyspace: by_key, key: k }"),
            vec!["wrong_type", "text", "bigint"],
        ),
        (
            bigint("{ name: uneven, keyspace: by_key, key: k }"),
            vec!["uneven", "s2", "b"],
        ),
        (
            text("{ name: padded, keyspace: by_key, key: k }"),
            vec!["padded", "k"],
        ),
        (
            text("{ name: blurred, keyspace: by_key, key: k }"),
            vec!["blurred", "nondeterministic"],
        ),
    ];
    for (map, words) in cases {
        let log = refusal(&map);
        for word in words {
            assert!(log.contains(word), "{word} is not named:\n{log}");
        }
    }
}

#[test]
fn two_shards_that_are_one_server_are_refused() {
    let mut map = good();
    map.shards = map.shards.replace(
        &format!("127.0.0.1:{}", town().port(1, 0)),
        &format!("localhost:{}", town().port(0, 0)),
    );
    let log = refusal(&map.text());
    assert!(log.contains("s1") && log.contains("s2"), "{log}");
}

#[test]
fn a_replica_of_another_primary_is_never_read() {
    let town = Town::start("mixed", 2, 1);
    town.on_primaries("CREATE TABLE rows (k bigint PRIMARY KEY, v bigint)");
    town.catch_up();
    let (a, b) = (town.port(0, 1).to_string(), town.port(1, 1).to_string());
    let mut map = Map::of(&town, 2, 1).tables(TABLES);
    map.shards = map
        .shards
        .replace(&a, "OTHER")
        .replace(&b, &a)
        .replace("OTHER", &b);
    let proxy = Proxy::spawn(&map.text());
    if let Some(status) = proxy.wait_exit(Duration::from_secs(3)) {
        assert!(
            !status.success() && proxy.log().contains("replica"),
            "{}",
            proxy.log()
        );
    } else {
        let mut client = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        for k in 0..40 {
            client
                .ask(&format!("INSERT INTO rows VALUES ({k}, {k})"))
                .ok();
            let sql = format!("/* pgshunt: replica */ SELECT v FROM rows WHERE k = {k}");
            assert_eq!(client.ask(&sql).ok().value(), k.to_string());
        }
    }
}

#[test]
fn a_control_user_who_cannot_log_in_is_named() {
    let mut map = good();
    map.control = "{ user: nobody_there }".into();
    let proxy = Proxy::spawn(&map.text());
    town().eventually("it is said", || {
        let log = proxy.log();
        log.contains("nobody_there") && log.contains("does not exist")
    });
}

// ---- TLS and passwords ---------------------------------------------------------------------------

/// A certificate authority of our own and a certificate for localhost signed by it, made by openssl.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn make(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let this = Self { folder };
        this.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt");
        std::fs::write(
            this.path("ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        )
        .expect("written");
        this.openssl(
            "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        );
        this.openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.crt");
        this.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other-ca -keyout other.key -out other.crt");
        this
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn text(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).expect("a file")
    }

    fn openssl(&self, arguments: &str) {
        let run = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.folder)
            .output()
            .expect("openssl");
        assert!(
            run.status.success(),
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The system's psql: libpq as people use it.
fn psql(port: u16, more: &str, password: &str, sql: &str) -> Output {
    psql_as(port, &format!("app {more}"), password, sql)
}

fn psql_as(port: u16, user: &str, password: &str, sql: &str) -> Output {
    Command::new("psql")
        .args(["-X", "-A", "-t", "-c", sql])
        .arg(format!(
            "host=localhost hostaddr=127.0.0.1 port={port} dbname=social user={user}"
        ))
        .env("PGPASSWORD", password)
        .env("PGCONNECT_TIMEOUT", "10")
        .output()
        .expect("psql")
}

#[track_caller]
fn says(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        expected,
        "{error}"
    );
}

fn tls_map(certificates: &Certificates, required: bool) -> Map {
    let mut map = good();
    let (certificate, key) = (
        certificates.path("server.crt"),
        certificates.path("server.key"),
    );
    map.listen.push_str(&format!(
        "    tls: {{ certificate: {}, key: {}, required: {required} }}\n",
        certificate.display(),
        key.display()
    ));
    map
}

#[test]
fn clients_come_in_over_tls_up_to_verify_full() {
    let certificates = Certificates::make("client");
    let proxy = Proxy::start(&tls_map(&certificates, false).text());
    let root = format!("sslrootcert={}", certificates.path("ca.crt").display());
    for mode in ["disable", "prefer", "require"] {
        says(
            &psql(
                proxy.port(),
                &format!("sslmode={mode}"),
                "",
                "SELECT 41 + 1",
            ),
            "42",
        );
    }
    for mode in ["verify-ca", "verify-full"] {
        says(
            &psql(
                proxy.port(),
                &format!("sslmode={mode} {root}"),
                "",
                "SELECT 41 + 1",
            ),
            "42",
        );
    }
    let other = format!(
        "sslmode=verify-full sslrootcert={}",
        certificates.path("other.crt").display()
    );
    assert!(!psql(proxy.port(), &other, "", "SELECT 1").status.success());
    // many rows and many bytes, through the encryption and back
    let sql = "SELECT md5(string_agg(g::text, ',')) FROM generate_series(1, 200000) g";
    let direct = town().direct(0, 0).ask(sql).ok().value().to_owned();
    says(&psql(proxy.port(), "sslmode=require", "", sql), &direct);

    let strict = Proxy::start(&tls_map(&certificates, true).text());
    says(&psql(strict.port(), "sslmode=require", "", "SELECT 1"), "1");
    let refused = psql(strict.port(), "sslmode=disable", "", "SELECT 1");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("encrypted"),
        "{said}"
    );
    let code = Raw::connect(strict.port(), "app", "social")
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    assert!(code.starts_with("28000"), "{code}");
}

#[test]
fn servers_are_reached_over_tls_up_to_verify_full() {
    let certificates = Certificates::make("server");
    let town = Town::start("servertls", 2, 0);
    town.on_primaries("CREATE TABLE rows (k bigint PRIMARY KEY, v bigint)");
    let map = |mode: &str| {
        let root = certificates.path("ca.crt");
        Map::of(&town, 2, 0).tables(TABLES).database(&format!(
            "server_tls: {{ mode: {mode}, root_certificate: {} }}\n",
            root.display()
        ))
    };
    let check = |map: &Map, encrypted: &str| {
        let proxy = Proxy::start(&map.text());
        let mut client = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(client.ask(sql).ok().value(), encrypted);
    };
    // no TLS there yet
    check(&map("prefer"), "f");
    let log = refusal_or_unusable(&map("require"));
    assert!(
        log.contains("TLS") || log.contains("SSL") || log.contains("ssl"),
        "{log}"
    );
    for shard in 0..2 {
        let mut server = town.superuser(shard, 0, "postgres");
        for file in ["server.crt", "server.key"] {
            let text = certificates.text(file);
            server.ask(&format!("COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) TO PROGRAM 'umask 077; cat > {file}'")).ok();
        }
        server.ask("ALTER SYSTEM SET ssl = on").ok();
        server.ask("SELECT pg_reload_conf()").ok();
        town.eventually("TLS is on", || {
            town.superuser(shard, 0, "postgres")
                .ask("SHOW ssl")
                .ok()
                .value()
                == "on"
        });
    }
    check(&map("disable"), "f");
    for mode in ["prefer", "require", "verify-ca", "verify-full"] {
        check(&map(mode), "t");
    }
    // a name that is not in the certificate, and an authority that did not sign it
    let mut other = map("verify-full");
    other.database = other.database.replace("ca.crt", "other.crt");
    let log = refusal_or_unusable(&other);
    assert!(log.to_lowercase().contains("certificate"), "{log}");
}

/// The log of a pgshunt that ends at once, or serves a client nothing but errors.
fn refusal_or_unusable(map: &Map) -> String {
    let proxy = Proxy::spawn(&map.text());
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while std::time::Instant::now() < until && proxy.wait_exit(Duration::ZERO).is_none() {
        if let Ok(mut client) = Raw::connect(proxy.port(), "app", "social") {
            let answer = client.ask("SELECT 1");
            let error = answer.error.expect("no answer past a broken certificate");
            return proxy.log() + &error.message;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    proxy.log()
}

/// The SQLSTATE of a login with this password; empty when it succeeds.
fn login(port: u16, user: &str, password: &str, database: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(port)
            .user(user)
            .password(password)
            .dbname(database);
        match config.connect(tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                let connection = tokio::spawn(connection);
                let one = client.query_one("SELECT 1", &[]).await.expect("an answer");
                assert_eq!(one.get::<_, i32>(0), 1);
                connection.abort();
                String::new()
            }
            Err(error) => error
                .code()
                .map_or_else(|| error.to_string(), |code| code.code().to_owned()),
        }
    })
}

#[test]
fn passwords_are_proven_on_both_sides() {
    let options = ["--auth", "scram-sha-256", "--set", "fsync=off"];
    let town = Town::start_with("scram", 2, 1, &options);
    let verifier = town
        .superuser(0, 0, "postgres")
        .ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
        .ok()
        .value()
        .to_owned();
    let secret =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secret-{}", std::process::id()));
    std::fs::write(&secret, "from a file\n").expect("written");
    let mut map = Map::of(&town, 2, 1);
    map.control = "{ user: pgshunt, password: \"pgshunt\" }".into();
    let server = "server_user: app, server_password: \"app\"";
    map.users = format!(
        "  - {{ name: app, auth: scram-sha-256, password: \"app\" }}
  - {{ name: verified, auth: scram-sha-256, password: \"{verifier}\", {server} }}
  - {{ name: filed, auth: scram-sha-256, password: {{ file: {} }}, {server} }}
  - {{ name: elsewhere, auth: scram-sha-256, password: \"e\", {server}, databases: [] }}
  - {{ name: wrong_inside, auth: scram-sha-256, password: \"w\", server_user: app, server_password: \"not this\" }}\n",
        secret.display()
    );
    let proxy = Proxy::start(&map.text());
    let port = proxy.port();
    assert_eq!(login(port, "app", "app", "social"), "");
    assert_eq!(login(port, "verified", "app", "social"), "");
    assert_eq!(login(port, "filed", "from a file", "social"), "");
    for (user, password) in [
        ("app", "wrong"),
        ("verified", "wrong"),
        ("app", ""),
        ("nobody", "app"),
        ("filed", "app"),
    ] {
        let code = login(port, user, password, "social");
        // an empty password is refused by the driver itself
        assert!(
            code == "28P01" || password.is_empty(),
            "{user} with '{password}': {code}"
        );
        assert!(!code.is_empty());
    }
    assert_eq!(login(port, "app", "app", "no_such_database"), "3D000");
    assert_eq!(login(port, "app", "app", "postgres"), "3D000");
    assert_eq!(
        login(port, "nobody", "app", "no_such_database"),
        "28P01",
        "no telling who exists"
    );
    // psql: one line, with the reason
    let output = psql(port, "", "wrong", "SELECT 1");
    assert!(String::from_utf8_lossy(&output.stderr).contains("password authentication failed"));
    says(&psql(port, "", "app", "SELECT current_user"), "app");
    // the servers refuse: the client is told which server and why
    let output = psql_as(port, "wrong_inside", "w", "SELECT 1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("s1")
            && said.contains("password authentication failed")
            && said.contains("HINT"),
        "{said}"
    );
    let _ = std::fs::remove_file(&secret);
}

#[test]
fn many_wrong_logins_cost_nothing_and_lock_nobody_out() {
    let mut map = good();
    map.users =
        "  - { name: app, auth: scram-sha-256, password: \"right\", server_user: app }\n".into();
    map = map.rest("limits: { login_ms_max: 4000 }\n");
    let proxy = Proxy::start(&map.text());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                (0..5).for_each(|_| {
                    assert_eq!(login(proxy.port(), "app", "wrong", "social"), "28P01");
                });
            });
        }
        // those who never say anything are shown out in time
        scope.spawn(|| {
            use std::io::Read;
            let mut silent =
                std::net::TcpStream::connect(("127.0.0.1", proxy.port())).expect("a socket");
            silent
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("set");
            let mut rest = Vec::new();
            assert!(
                silent.read_to_end(&mut rest).is_ok(),
                "still open after 20 s"
            );
        });
        assert_eq!(login(proxy.port(), "app", "right", "social"), "");
    });
}
