//! Real clusters and real pgshunt processes for a test. A `Cluster` is what `scripts/cluster` starts: PostgreSQL primaries
//! with streaming replicas on loopback; a `Proxy` is the binary under test on a free port. Both go when they are dropped, and
//! also when the test process dies in any other way: a guardian shell outside waits for the end of a pipe only this process
//! holds. Nothing here knows what the tests ask.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Below the ports that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 22_000..32_000;
const LISTEN_PORT: &str = "LISTEN_PORT";
const HTTP_PORT: &str = "HTTP_PORT";

pub struct Cluster {
    dir: PathBuf,
    base_port: u16,
    shards: usize,
    replicas: usize,
    map: String,
    guardian: Guardian,
}

impl Cluster {
    /// `shards` primaries with `replicas` streaming replicas each, database `social` owned by `app`, everybody trusted.
    pub fn start(name: &str, shards: usize, replicas: usize) -> Self {
        Self::start_with(name, shards, replicas, &["--auth", "trust"])
    }

    /// As `start`, with more options for `scripts/cluster` (`--set fsync=off`, `--auth scram-sha-256`, …).
    pub fn start_with(name: &str, shards: usize, replicas: usize, options: &[&str]) -> Self {
        let dir = scratch(name);
        let mut seed = (name, std::process::id());
        for _ in 0..5 {
            let base_port = free_block(&seed, 10 * shards as u16);
            let guardian = Guardian::of_cluster(&dir);
            if up(&dir, base_port, shards, replicas, options) {
                let map = std::fs::read_to_string(dir.join("shard-map.yaml"));
                return Self {
                    map: map.expect("the shard map that scripts/cluster wrote"),
                    dir,
                    base_port,
                    shards,
                    replicas,
                    guardian,
                };
            }
            // Somebody took a port between our look and the start.
            drop(guardian);
            seed.1 = seed.1.wrapping_add(7919);
        }
        panic!("scripts/cluster up failed five times for {name}");
    }

    /// Shards count from 0: shard 0 is `s1` in the map.
    pub fn primary_port(&self, shard: usize) -> u16 {
        self.base_port + 10 * shard as u16
    }

    /// Replicas count from 0.
    pub fn replica_port(&self, shard: usize, replica: usize) -> u16 {
        self.primary_port(shard) + 1 + replica as u16
    }

    /// The shard map of this cluster with the demo's tables. `Proxy::start` puts its own ports in.
    pub fn map(&self) -> String {
        self.map.clone()
    }

    /// The shard map with `tables` (`keyspaces:`, `tables:`, `reference_tables:`, from column 0) in the place of the demo's.
    pub fn map_with(&self, tables: &str) -> String {
        let mut map = String::new();
        let mut skipping = false;
        for line in self.map.lines() {
            if line.starts_with("    keyspaces:") {
                skipping = true;
                tables
                    .lines()
                    .for_each(|line| map.push_str(&format!("    {line}\n")));
            }
            skipping &= !line.starts_with("    pool:");
            if !skipping {
                map.push_str(line);
                map.push('\n');
            }
        }
        map
    }

    /// The folder of the server: member 0 is the primary, n the n-th replica.
    pub fn data_dir(&self, shard: usize, member: usize) -> PathBuf {
        let name = match member {
            0 => format!("s{}-primary", shard + 1),
            n => format!("s{}-replica{n}", shard + 1),
        };
        self.dir.join("data").join(name)
    }

    /// The postmaster's process id; member 0 is the primary, n the n-th replica.
    pub fn server_pid(&self, shard: usize, member: usize) -> u32 {
        let file = self.data_dir(shard, member).join("postmaster.pid");
        let text = std::fs::read_to_string(file).expect("a running server");
        let first = text.lines().next().expect("its first line");
        first.parse().expect("a process id")
    }

    /// Starts what is down again (a killed replica, for one).
    pub fn up(&self) {
        let restarted = up(&self.dir, self.base_port, self.shards, self.replicas, &[]);
        assert!(restarted, "scripts/cluster up failed");
    }

    /// A direct connection, past pgshunt.
    pub async fn connect(&self, port: u16, user: &str, database: &str) -> Client {
        connect(port, user, database).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.guardian.act();
    }
}

/// Set, every pool of every map compares the servers that are given back with fresh ones, and a finding fails the test.
const VERIFY: &str = "PGSHUNT_VERIFY";

pub struct Proxy {
    /// asked for by `PGSHUNT_VERIFY`, not by the test
    verified: bool,
    port: u16,
    http_port: u16,
    log: PathBuf,
    map: PathBuf,
    pid: u32,
    child: Mutex<Child>,
    guardian: Guardian,
}

impl Proxy {
    /// `pgshunt serve` with this map, once it accepts connections. Every `LISTEN_PORT` and `HTTP_PORT` in the map becomes a
    /// free port.
    pub fn start(map_text: &str) -> Self {
        let mut proxy = Self::spawn(map_text);
        let until = Instant::now() + Duration::from_secs(30);
        // a port that was free a moment ago may not be any more
        let beaten = |proxy: &Self| proxy.log().contains("Address already in use");
        while TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).is_err() {
            let ended = proxy.child.get_mut().expect("no panic").try_wait();
            let ended = ended.expect("its state").is_some();
            if ended && beaten(&proxy) && Instant::now() < until {
                proxy = Self::spawn(map_text);
                continue;
            }
            assert!(
                !(ended || Instant::now() > until),
                "pgshunt does not serve; its log:\n{}",
                proxy.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    /// The same without waiting: for maps that `serve` must refuse.
    pub fn spawn(map_text: &str) -> Self {
        let port = free_block(&(std::process::id(), "listen"), 1);
        let http_port = free_block(&(std::process::id(), "http"), 1);
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let log = place.join(format!("pgshunt-{port}.log"));
        let map = place.join(format!("pgshunt-{port}.yaml"));
        std::fs::write(&map, with_ports(map_text, port, http_port)).expect("the map, written");
        let output = std::fs::File::create(&log).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_pgshunt"))
            .arg("serve")
            .arg("--map")
            .arg(&map)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("the log twice"))
            .stderr(output)
            .spawn()
            .expect("pgshunt starts");
        Self {
            verified: std::env::var(VERIFY).is_ok() && !map_text.contains("verify:"),
            port,
            http_port,
            log,
            map,
            pid: child.id(),
            guardian: Guardian::of_process(child.id()),
            child: Mutex::new(child),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Writes another map in the place of the first, for a reload.
    pub fn write_map(&self, map_text: &str) {
        let text = with_ports(map_text, self.port, self.http_port);
        std::fs::write(&self.map, text).expect("the map, written");
    }

    /// Sends `TERM`, `HUP`, `KILL`, …
    pub fn signal(&self, name: &str) {
        let pid = self.pid.to_string();
        let _ = Command::new("kill").args(["-s", name, &pid]).status();
    }

    /// Its exit status, when it ends within `time`.
    pub fn wait_exit(&self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            let ended = self.child.lock().expect("no panic").try_wait();
            if let Some(status) = ended.expect("its state") {
                return Some(status);
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub async fn connect(&self, user: &str, database: &str) -> Client {
        connect(self.port, user, database).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.wait_exit(Duration::ZERO).is_none() {
            self.signal("TERM");
        }
        if self.wait_exit(Duration::from_secs(10)).is_none() {
            self.signal("KILL");
            self.wait_exit(Duration::from_secs(5));
        }
        self.guardian.dismiss();
        let _ = std::fs::remove_file(&self.map);
        let log = self.log();
        let found = log.lines().find(|line| line.contains("not as a fresh one"));
        if let (Some(found), true, false) = (found, self.verified, std::thread::panicking()) {
            panic!("{found}\npgshunt's log is {}", self.log.display());
        }
        if std::thread::panicking() {
            eprintln!("pgshunt's log is {}", self.log.display());
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// A client over loopback; the password is the user's name, where one is asked for.
pub async fn connect(port: u16, user: &str, database: &str) -> Client {
    try_connect(port, user, database)
        .await
        .expect("a connection")
}

pub async fn try_connect(
    port: u16,
    user: &str,
    database: &str,
) -> Result<Client, tokio_postgres::Error> {
    let text = format!(
        "host=127.0.0.1 port={port} user={user} password={user} dbname={database} connect_timeout=10"
    );
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A shell of its own process group that acts when the pipe to it ends without a word: also after `kill -9` of the test.
struct Guardian {
    shell: Child,
}

impl Guardian {
    fn of_cluster(dir: &Path) -> Self {
        let script = script().display().to_string();
        let dir = dir.display().to_string();
        Self::new("read -r _ || \"$0\" down --dir \"$1\"", &[&script, &dir])
    }

    fn of_process(pid: u32) -> Self {
        Self::new("read -r _ || kill -s TERM \"$0\"", &[&pid.to_string()])
    }

    fn new(program: &str, arguments: &[&str]) -> Self {
        let shell = Command::new("sh")
            .args(["-c", program])
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self {
            shell: shell.expect("a shell"),
        }
    }

    fn act(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }

    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.act();
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/cluster")
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

fn up(dir: &Path, base_port: u16, shards: usize, replicas: usize, options: &[&str]) -> bool {
    let log = dir.with_extension("up.log");
    let output = std::fs::File::create(&log).expect("a log file");
    let started = Command::new(script())
        .arg("up")
        .arg("--dir")
        .arg(dir)
        .args(["--shards", &shards.to_string()])
        .args(["--replicas", &replicas.to_string()])
        .args(["--base-port", &base_port.to_string()])
        .args(["--listen", &format!("127.0.0.1:{LISTEN_PORT}")])
        .args(["--http", &format!("127.0.0.1:{HTTP_PORT}")])
        .args(options)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("the log twice"))
        .stderr(output)
        .status()
        .expect("scripts/cluster runs")
        .success();
    if !started {
        eprintln!("{}", std::fs::read_to_string(&log).unwrap_or_default());
    }
    let _ = std::fs::remove_file(&log);
    started
}

fn with_ports(map: &str, port: u16, http_port: u16) -> String {
    let map = if std::env::var(VERIFY).is_ok() {
        verified(map)
    } else {
        map.to_owned()
    };
    map.replace(LISTEN_PORT, &port.to_string())
        .replace(HTTP_PORT, &http_port.to_string())
}

fn verified(map: &str) -> String {
    let verify = |line: &str| {
        let is_pool = line.trim_start().starts_with("pool: {") && !line.contains("verify:");
        let end = line.rfind('}').filter(|_| is_pool);
        end.map_or(line.to_owned(), |end| {
            format!("{}, verify: true }}", line[..end].trim_end())
        })
    };
    map.lines().map(|line| verify(line) + "\n").collect()
}

/// The first of `count` free ports in a row. Where the search begins depends on the seed and on what this process took
/// before, so that tests that start in the same moment do not look at the same ports.
fn free_block(seed: &impl Hash, count: u16) -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let mut hasher = DefaultHasher::new();
    (seed, std::process::id()).hash(&mut hasher);
    let room = PORTS.end - PORTS.start - count;
    let begin = (hasher.finish() % u64::from(room)) as u16;
    let mut offset = (begin + TAKEN.fetch_add(count, Ordering::Relaxed)) % room;
    for _ in 0..room {
        let base = PORTS.start + offset;
        if (base..base + count).all(is_free) {
            return base;
        }
        offset = (offset + count) % room;
    }
    panic!("no {count} free ports in a row");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
