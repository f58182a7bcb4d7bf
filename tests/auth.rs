//! Who gets in and how, against real servers, with psql as the client: passwords that pgshunt does not know, passwords that
//! the database knows, the list of who may come from where, Unix sockets on both sides, certificates of clients and new
//! ones of ours.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::cluster::Proxy;
use support::raw::Raw;
use support::town::{Map, Town};

const TABLES: &str = "\
keyspaces:
  - name: by_key
    type: bigint
    list:
      - { shard: s1, values: [1] }
      - { shard: s2, values: [2] }
tables:
  - { name: rows, keyspace: by_key, key: k }
";
/// Both shards, so that every one of them has to be logged in to.
const BOTH: &str = "SELECT sum(k) FROM rows";

fn passwords(name: &str) -> Town {
    let options = ["--auth", "scram-sha-256", "--set", "fsync=off"];
    Town::start_with(name, 2, 0, &options)
}

/// What psql says: its output, or its error.
fn psql(connection: &str, password: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql")
        .args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            connection,
            "-c",
            sql,
        ])
        .env("PGPASSWORD", password)
        .env("PGCONNECT_TIMEOUT", "20")
        .stdin(Stdio::null())
        .output()
        .expect("psql is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn at(port: u16, user: &str) -> String {
    format!("host=127.0.0.1 port={port} user={user} dbname=social")
}

#[track_caller]
fn refused(outcome: Result<String, String>, words: &str) {
    let error = outcome.expect_err("a refusal");
    assert!(error.contains(words), "{words:?} is not in: {error}");
}

/// A role with this password, stored alike on all shards; the stored form.
fn role(town: &Town, name: &str, password: &str, encryption: &str) -> String {
    let first = town.superuser(0, 0, "social").ask(&format!(
        "SET password_encryption = '{encryption}'; CREATE ROLE {name} LOGIN PASSWORD '{password}'; GRANT app TO {name}"
    ));
    first.ok();
    let stored = town.superuser(0, 0, "social").ask(&format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{name}'"
    ));
    let stored = stored.ok().value().to_owned();
    for shard in 1..town.shards {
        let same = format!("CREATE ROLE {name} LOGIN PASSWORD '{stored}'; GRANT app TO {name}");
        town.superuser(shard, 0, "social").ask(&same).ok();
    }
    stored
}

fn rows(town: &Town) {
    town.as_superuser("CREATE TABLE rows (k bigint PRIMARY KEY, v text); GRANT ALL ON rows TO app");
    for shard in 0..2 {
        let insert = format!("INSERT INTO rows VALUES ({}, 'v')", shard + 1);
        town.superuser(shard, 0, "social").ask(&insert).ok();
    }
}

fn map(town: &Town, users: &str) -> Map {
    let mut map = Map::of(town, 2, 0).tables(TABLES);
    map.users = format!("  - {{ name: app, password: \"app\" }}\n{users}");
    map.control = "{ user: pgshunt, password: pgshunt }".into();
    map
}

// ---- passwords that pgshunt does not know

#[test]
fn what_a_client_shows_opens_the_servers_with_the_same_verifier() {
    let town = passwords("pass-on");
    rows(&town);
    let stored = role(&town, "stored", "s3cret pass", "scram-sha-256");
    let old = role(&town, "old", "md5 pass", "md5");
    role(&town, "unlike", "s3cret", "scram-sha-256");
    // the same password with a salt of its own
    town.superuser(1, 0, "social")
        .ask("ALTER ROLE unlike PASSWORD 's3cret'")
        .ok();
    let unlike = town
        .superuser(0, 0, "social")
        .ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'unlike'");
    let unlike = unlike.ok().value().to_owned();
    let users = format!(
        "  - {{ name: stored, password: \"{stored}\" }}\n  - {{ name: old, auth: md5, password: \"{old}\" }}\n  - {{ name: unlike, password: \"{unlike}\" }}\n"
    );
    for (shard, text) in [(0, "md5"), (1, "md5")] {
        let hba = town.cluster.data_dir(shard, 0).join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("host all old 127.0.0.1/32 {text}\n{rules}")).unwrap();
        let reload = "SELECT pg_reload_conf()";
        town.superuser(shard, 0, "social").ask(reload).ok();
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().display().to_string();
    let access = "access:\n  - { type: local, method: trust }\n  - { type: host }\n";
    let mut map = map(&town, &users).pool("size: 4, size_min: 2").rest(access);
    map.listen
        .push_str(&format!("  - socket: {socket}:LISTEN_PORT\n"));
    let proxy = Proxy::start(&map.text());
    let port = proxy.port();
    // who has shown nothing has nothing that could be passed on
    let local = format!("host={socket} port={port} user=stored dbname=social");
    let words = "no client has proven itself as this user lately";
    refused(psql(&local, "", BOTH), words);
    assert_eq!(psql(&at(port, "stored"), "s3cret pass", BOTH).unwrap(), "3");
    assert_eq!(psql(&at(port, "old"), "md5 pass", BOTH).unwrap(), "3");
    for (user, wrong) in [("stored", "s3cret"), ("old", "md5")] {
        let words = format!("password authentication failed for user \"{user}\"");
        refused(psql(&at(port, user), wrong, BOTH), &words);
    }
    let one = "SELECT v FROM rows WHERE k = 1";
    assert_eq!(psql(&at(port, "unlike"), "s3cret", one).unwrap(), "v");
    let other = psql(
        &at(port, "unlike"),
        "s3cret",
        "SELECT v FROM rows WHERE k = 2",
    );
    refused(
        other.clone(),
        "verifier for unlike is not the one that the client has proven itself",
    );
    refused(other, "rolpassword");
    gathered(&town, port);
    // the server was there all the while: others are served
    assert_eq!(psql(&at(port, "stored"), "s3cret pass", BOTH).unwrap(), "3");
    kept_filled(&town, &proxy, &map);
    let log = proxy.log();
    for secret in ["s3cret", "md5 pass", &stored[20..], &old[3..]] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// A scratch database belongs to the client's role, which the control user takes where nothing else is known.
fn gathered(town: &Town, port: u16) {
    let join = "SELECT count(*) FROM rows a JOIN rows b ON a.v = b.v";
    let stored = || psql(&at(port, "stored"), "s3cret pass", join);
    refused(stored(), "GRANT \"stored\" TO \"pgshunt\"");
    town.as_superuser("GRANT stored TO pgshunt");
    assert_eq!(stored().unwrap(), "4");
}

/// Pools stay filled when the clients have left, also after a reload, with what they have shown.
fn kept_filled(town: &Town, proxy: &Proxy, map: &Map) {
    let servers = || {
        let count =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'stored' AND datname = 'social'";
        let answer = town.superuser(0, 0, "social").ask(count).ok();
        answer.value().parse::<u32>().unwrap()
    };
    town.eventually("the pool is filled", || servers() == 2);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'stored' AND datname = 'social'";
    town.superuser(0, 0, "social").ask(kill).ok();
    town.eventually("the pool is filled again", || servers() == 2);
    proxy.write_map(&map.text());
    proxy.signal("HUP");
    town.eventually("the reload", || proxy.log().contains("reloaded: "));
    let port = proxy.port();
    assert_eq!(psql(&at(port, "stored"), "s3cret pass", BOTH).unwrap(), "3");
}

#[test]
fn the_database_knows_the_users_that_are_not_listed() {
    let town = passwords("auth-query");
    rows(&town);
    role(&town, "known", "s3cret", "scram-sha-256");
    role(&town, "old", "md5 pass", "md5");
    role(&town, "expired", "s3cret", "scram-sha-256");
    town.as_superuser(
        "ALTER ROLE expired VALID UNTIL '2001-01-01'; CREATE ROLE bare LOGIN; CREATE ROLE asker LOGIN PASSWORD 'asker' SUPERUSER",
    );
    for shard in 0..2 {
        let hba = town.cluster.data_dir(shard, 0).join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("host all old 127.0.0.1/32 md5\n{rules}")).unwrap();
    }
    town.as_superuser("SELECT pg_reload_conf()");
    let asking = "auth_query: { user: asker, password: asker, cache_ms_max: 600000 }\n";
    let proxy = Proxy::start(&map(&town, "").database(asking).text());
    let port = proxy.port();
    for _ in 0..3 {
        assert_eq!(psql(&at(port, "known"), "s3cret", BOTH).unwrap(), "3");
    }
    assert_eq!(psql(&at(port, "old"), "md5 pass", BOTH).unwrap(), "3");
    assert_eq!(psql(&at(port, "app"), "app", "SELECT 1").unwrap(), "1");
    for user in ["known", "old", "expired", "bare", "nobody", "nobody"] {
        let words = format!("password authentication failed for user \"{user}\"");
        refused(psql(&at(port, user), "wrong", BOTH), &words);
    }
    let expired = psql(&at(port, "expired"), "s3cret", BOTH);
    refused(
        expired,
        "password authentication failed for user \"expired\"",
    );
    // a new password is noticed: by a wrong proof, not by the cache's end
    town.superuser(0, 0, "social")
        .ask("ALTER ROLE known PASSWORD 'another'")
        .ok();
    let stored = town
        .superuser(0, 0, "social")
        .ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'known'");
    let same = format!("ALTER ROLE known PASSWORD '{}'", stored.ok().value());
    town.superuser(1, 0, "social").ask(&same).ok();
    std::thread::sleep(Duration::from_millis(1100));
    let _ = psql(&at(port, "known"), "another", "SELECT 1");
    assert_eq!(psql(&at(port, "known"), "another", BOTH).unwrap(), "3");
    let admin = format!("host=127.0.0.1 port={port} user=known dbname=pgshunt");
    refused(
        psql(&admin, "another", "SHOW HELP"),
        "password authentication failed",
    );
}

#[test]
fn a_failing_query_is_logged_and_nobody_gets_in() {
    let town = Town::start("auth-query-fails", 1, 0);
    town.as_superuser("CREATE ROLE known LOGIN PASSWORD 's3cret'");
    let mut map = Map::of(&town, 1, 0);
    for (query, words) in [
        (
            "SELECT usename, passwd FROM nowhere WHERE usename = $1",
            "nowhere",
        ),
        ("SELECT $1::text", "one column"),
        ("SELECT a, $1::text FROM generate_series(1, 2) a", "2 rows"),
        ("SELECT $1::text, 42", "not a password"),
        (
            "SELECT usename, passwd FROM pg_shadow WHERE usename = $1",
            "permission denied",
        ),
    ] {
        map.database = format!("auth_query: {{ query: \"{query}\" }}\n");
        let proxy = Proxy::start(&map.text());
        let outcome = psql(&at(proxy.port(), "known"), "s3cret", "SELECT 1");
        refused(outcome, "password authentication failed for user \"known\"");
        let log = proxy.log();
        assert!(
            log.contains("auth_query failed") && log.contains(words),
            "{log}"
        );
        assert!(!log.contains("s3cret"), "{log}");
        let (good, said) = checked(&map);
        assert!(
            !good && said.contains("auth_query: ") && said.contains(words),
            "{said}"
        );
    }
    map.database = "auth_query: { user: postgres2, query: \"SELECT $1::text, null\" }\n".into();
    map.rest = "access:\n  - { type: host, addresses: [\"::1\"], method: reject }\n".into();
    town.as_superuser("CREATE ROLE postgres2 LOGIN");
    let (good, said) = checked(&map);
    assert!(good, "{said}");
    let rule =
        "access rule 1: host connections, databases all, users all, addresses ::1/128: reject";
    assert!(said.contains(rule), "{said}");
}

/// `pgshunt check`.
fn checked(map: &Map) -> (bool, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = map.text().replace("LISTEN_PORT", "6432");
    std::fs::write(file.path(), text.replace("HTTP_PORT", "9187")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pgshunt"))
        .args(["check", "--map"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), format!("{said}{errors}"))
}

// ---- who may come from where

#[test]
fn the_first_rule_that_fits_decides() {
    let town = Town::start("access", 1, 0);
    town.as_superuser("CREATE ROLE old LOGIN; CREATE ROLE other LOGIN");
    let folder = tempfile::tempdir().unwrap();
    let mut map = Map::of(&town, 1, 0);
    map.users = "  - { name: app, auth: trust }\n  - { name: old, password: \"s3cret\" }\n  - { name: other, password: \"s3cret\" }\n".into();
    let socket = folder.path().display();
    map.listen
        .push_str(&format!("  - socket: {socket}:LISTEN_PORT\n"));
    map.rest = "\
access:
  - { type: hostnossl, users: [app], databases: [pgshunt], method: reject }
  - { type: host, users: [app, old], addresses: [127.0.0.0/8], method: md5 }
  - { type: host, users: [other], addresses: [10.0.0.0/8, fd00::/8], method: trust }
  - { type: local, users: [old], method: trust }
  - { type: local }
"
    .into();
    let proxy = Proxy::start(&map.text());
    let port = proxy.port();
    let local = |user: &str| format!("host={socket} port={port} user={user} dbname=social");
    // no password is known of a user who is otherwise trusted: nobody can show it
    refused(
        psql(&at(port, "app"), "x", "SELECT 1"),
        "password authentication failed for user \"app\"",
    );
    assert_eq!(psql(&at(port, "old"), "s3cret", "SELECT 1").unwrap(), "1");
    refused(
        psql(&at(port, "old"), "wrong", "SELECT 1"),
        "password authentication failed for user \"old\"",
    );
    let words =
        "no access rule for host \"127.0.0.1\", user \"other\", database \"social\", no encryption";
    refused(psql(&at(port, "other"), "s3cret", "SELECT 1"), words);
    let admin = format!("host=127.0.0.1 port={port} user=app dbname=pgshunt");
    let words = "an access rule rejects the connection for host \"127.0.0.1\", user \"app\", database \"pgshunt\", no encryption";
    refused(psql(&admin, "", "SHOW HELP"), words);
    for user in ["app", "old"] {
        assert_eq!(psql(&local(user), "", "SELECT current_user").unwrap(), user);
    }
    assert_eq!(psql(&local("other"), "s3cret", "SELECT 1").unwrap(), "1");
    refused(
        psql(&local("other"), "wrong", "SELECT 1"),
        "password authentication failed",
    );
    shown(&local("app").replace("social", "pgshunt"), &folder, port);
}

/// What the console says of the rules and of a client without an address.
fn shown(console: &str, folder: &tempfile::TempDir, port: u16) {
    let rules = psql(console, "", "SHOW ACCESS").unwrap();
    let lines: Vec<&str> = rules.lines().collect();
    assert_eq!(lines.len(), 5, "{rules}");
    assert!(
        lines[1].ends_with("host|all|app, old|127.0.0.0/8|md5"),
        "{rules}"
    );
    assert!(
        lines[4].ends_with("local|all|all|all|as the user's auth"),
        "{rules}"
    );
    let clients = psql(console, "", "SHOW CLIENTS").unwrap();
    assert!(clients.contains("[local]"), "{clients}");
    let config = psql(console, "", "SHOW CONFIG").unwrap();
    assert!(
        config.contains(&format!("{}:{port}", folder.path().display())),
        "{config}"
    );
}

// ---- Unix sockets

#[test]
fn unix_sockets_on_both_sides() {
    let town = Town::start("sockets", 1, 0);
    town.as_superuser("CREATE TABLE t (id bigint PRIMARY KEY)");
    let run = town.cluster.data_dir(0, 0).canonicalize().unwrap();
    let run = run.parent().unwrap().join("run");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().display().to_string();
    let mut map = Map::of(&town, 1, 0);
    let tcp = format!("127.0.0.1:{}", town.port(0, 0));
    let unix = format!("{}:{}", run.display(), town.port(0, 0));
    map.shards = map.shards.replace(&tcp, &unix);
    map.listen.push_str(&format!(
        "  - {{ socket: \"{socket}:LISTEN_PORT\", permissions: \"0750\" }}\n"
    ));
    // as libpq: TLS is for networks
    map.database = "server_tls: { mode: require }\n".into();
    let proxy = Proxy::start(&map.text());
    let port = proxy.port();
    let file = folder.path().join(format!(".s.PGSQL.{port}"));
    // the listeners are opened one after the other
    town.eventually("the second listener, with its permissions", || {
        file.exists() && mode(&file) == 0o750
    });
    let local = format!("host={socket} port={port} user=app dbname=social sslmode=prefer");
    let from = "SELECT client_addr IS NULL, count(*) OVER () > 0 FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    assert_eq!(psql(&local, "", from).unwrap(), "t|t");
    assert_eq!(psql(&at(port, "app"), "", from).unwrap(), "t|t");
    large(&local);
    cancelled(folder.path(), port);
    // a second one is told
    map.listen = format!("  - socket: {socket}:{port}\n");
    let second = Proxy::spawn(&map.text());
    let status = second.wait_exit(Duration::from_secs(20)).expect("its end");
    assert!(!status.success());
    assert!(
        second.log().contains("another process holds the lock file"),
        "{}",
        second.log()
    );
    assert_eq!(psql(&local, "", "SELECT 1").unwrap(), "1");
    // killed, it leaves its files; the next one clears them
    proxy.signal("KILL");
    proxy.wait_exit(Duration::from_secs(5));
    assert!(file.exists());
    map.listen.push_str("  - address: 127.0.0.1:LISTEN_PORT\n");
    let next = Proxy::start(&map.text());
    assert_eq!(psql(&local, "", "SELECT 1").unwrap(), "1");
    next.signal("TERM");
    assert!(next.wait_exit(Duration::from_secs(20)).is_some());
    assert!(!file.exists(), "the socket goes with its owner");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// More than fits into the socket's buffers, both ways.
fn large(local: &str) {
    let sql = "SELECT md5(string_agg(repeat(i::text, 100), ',')) FROM generate_series(1, 20000) i";
    let sum = psql(local, "", sql).unwrap();
    let rows = psql(
        local,
        "",
        "SELECT repeat(i::text, 100) FROM generate_series(1, 20000) i",
    )
    .unwrap();
    assert_eq!(rows.lines().count(), 20_000);
    assert_eq!(sum.len(), 32);
}

fn cancelled(folder: &Path, port: u16) {
    let mut client = Raw::connect_unix(folder, port, "app", "social").unwrap();
    let (pid, secret) = (client.pid, client.secret.clone());
    let folder = folder.to_owned();
    let canceller = std::thread::spawn(move || {
        use std::io::{Read, Write};
        std::thread::sleep(Duration::from_millis(500));
        let mut packet = (12 + secret.len() as i32).to_be_bytes().to_vec();
        packet.extend(80_877_102_i32.to_be_bytes());
        packet.extend(pid.to_be_bytes());
        packet.extend(&secret);
        let path = folder.join(format!(".s.PGSQL.{port}"));
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.write_all(&packet).unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let answer = client.ask("SELECT pg_sleep(30)");
    canceller.join().unwrap();
    assert_eq!(answer.code(), "57014", "{answer:?}");
}

// ---- certificates

struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for ca in ["ca", "stranger-ca"] {
            made.openssl(&format!("req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {ca}.key -out {ca}.crt -subj /CN={ca}"));
        }
        std::fs::write(
            made.path("san"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        )
        .unwrap();
        made.sign("server", "localhost", "ca");
        made.sign("newer", "localhost", "ca");
        made.sign("app", "app", "ca");
        made.sign("robot", "robot.example", "ca");
        made.sign("stranger", "app", "stranger-ca");
        made
    }

    fn sign(&self, name: &str, subject: &str, ca: &str) {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={subject}"
        ));
        self.openssl(&format!("x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial -days 2 -out {name}.crt -extfile san"));
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// psql's options to show this certificate.
    fn shown(&self, name: &str) -> String {
        format!(
            " sslmode=require sslcert={} sslkey={}",
            self.path(&format!("{name}.crt")).display(),
            self.path(&format!("{name}.key")).display()
        )
    }
}

#[test]
fn certificates_prove_users_and_new_ones_of_ours_need_no_restart() {
    let town = Town::start("certificates", 1, 0);
    town.as_superuser("CREATE ROLE robot LOGIN; CREATE ROLE plain LOGIN");
    let made = Certificates::new();
    let pair = |name: &str| {
        for end in ["crt", "key"] {
            std::fs::copy(
                made.path(&format!("{name}.{end}")),
                made.path(&format!("shown.{end}")),
            )
            .unwrap();
        }
    };
    pair("server");
    let mut map = Map::of(&town, 1, 0);
    map.listen = format!(
        "  - address: 127.0.0.1:LISTEN_PORT\n    tls: {{ certificate: {0}, key: {1}, client_ca: {2} }}\n",
        made.path("shown.crt").display(),
        made.path("shown.key").display(),
        made.path("ca.crt").display()
    );
    map.users = "  - { name: app, auth: cert }\n  - { name: robot, auth: cert, certificates: [robot.example, robot2] }\n  - { name: plain, password: \"s3cret\" }\n".into();
    let proxy = Proxy::start(&map.text());
    let port = proxy.port();
    let ask = |user: &str, more: &str| {
        psql(
            &format!("{}{more}", at(port, user)),
            "s3cret",
            "SELECT current_user",
        )
    };
    let none = " sslmode=require sslcert=/nowhere";
    assert_eq!(ask("app", &made.shown("app")).unwrap(), "app");
    assert_eq!(ask("robot", &made.shown("robot")).unwrap(), "robot");
    // a certificate does no harm where something else is asked for
    assert_eq!(ask("plain", &made.shown("app")).unwrap(), "plain");
    assert_eq!(
        ask("plain", &format!("{none} channel_binding=require")).unwrap(),
        "plain"
    );
    for (user, more, words) in [
        (
            "app",
            made.shown("robot"),
            "certificate authentication failed for user \"app\"",
        ),
        (
            "robot",
            made.shown("app"),
            "certificate authentication failed for user \"robot\"",
        ),
        (
            "app",
            none.to_owned(),
            "connection requires a valid client certificate",
        ),
        (
            "app",
            " sslmode=disable".to_owned(),
            "connection requires a valid client certificate",
        ),
        ("app", made.shown("stranger"), "SSL error"),
        (
            "nobody",
            made.shown("app"),
            "password authentication failed",
        ),
    ] {
        refused(ask(user, &more), words);
    }
    renewed(&proxy, &made, &map.text(), pair);
}

fn renewed(proxy: &Proxy, made: &Certificates, map: &str, pair: impl Fn(&str)) {
    let port = proxy.port();
    let serial = || {
        let shown = Command::new("openssl")
            .args([
                "s_client",
                "-starttls",
                "postgres",
                "-connect",
                &format!("127.0.0.1:{port}"),
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----").unwrap();
        rest.split_once("-----END").unwrap().0.replace('\n', "")
    };
    let file = |name: &str| {
        std::fs::read_to_string(made.path(name))
            .unwrap()
            .replace('\n', "")
    };
    assert!(file("server.crt").contains(&serial()));
    // a client that stays: one session of psql, asked before and after
    let mut client = Command::new("psql")
        .args([
            "-XAtq",
            "-d",
            &format!("{} sslmode=require", at(port, "plain")),
        ])
        .env("PGPASSWORD", "s3cret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, from) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(from));
    let mut ask = |sql: &str| {
        use std::io::Write;
        writeln!(to, "{sql};").unwrap();
        lines.next().unwrap().unwrap()
    };
    assert_eq!(ask("SELECT 1"), "1");
    pair("newer");
    proxy.write_map(map);
    proxy.signal("HUP");
    support::town::eventually(Duration::from_secs(20), "the new certificate", &mut || {
        file("newer.crt").contains(&serial())
    });
    assert_eq!(ask("SELECT 2"), "2", "who is in stays in");
    // one that does not fit its key is refused, and all stays as it was
    std::fs::copy(made.path("app.key"), made.path("shown.key")).unwrap();
    proxy.signal("HUP");
    support::town::eventually(Duration::from_secs(20), "the refusal", &mut || {
        proxy
            .log()
            .contains("not reloaded, everything stays as it was")
    });
    assert!(file("newer.crt").contains(&serial()));
    assert_eq!(ask("SELECT 3"), "3");
    drop(to);
    assert!(client.wait().unwrap().success());
}
