//! A cluster with the ways into its servers that the acceptance tests need: as the superuser through the socket, as the
//! application past pgshunt, and the servers' own counts of what they ran.
#![allow(dead_code, reason = "each test file uses its part")]

use super::cluster::Cluster;
use super::raw::{Answer, Raw};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a shard map says of one table, `accounts`, with the key `k`.
pub const ACCOUNTS_BY_KEY: &str = "\
keyspaces:
  - name: by_key
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: accounts, keyspace: by_key, key: k }
";

pub struct Town {
    pub cluster: Cluster,
    pub shards: usize,
    pub replicas: usize,
    run: PathBuf,
}

impl Town {
    pub fn start(name: &str, shards: usize, replicas: usize) -> Self {
        let options = [
            "--auth",
            "trust",
            "--set",
            "fsync=off",
            "--set",
            "track_functions=all",
        ];
        Self::start_with(name, shards, replicas, &options)
    }

    pub fn start_with(name: &str, shards: usize, replicas: usize, options: &[&str]) -> Self {
        let cluster = Cluster::start_with(name, shards, replicas, options);
        let data = cluster
            .data_dir(0, 0)
            .canonicalize()
            .expect("the primary's folder");
        let run = data.parent().expect("its parent").join("run");
        Self {
            cluster,
            shards,
            replicas,
            run,
        }
    }

    /// Member 0 is the primary.
    pub fn port(&self, shard: usize, member: usize) -> u16 {
        self.cluster.primary_port(shard) + member as u16
    }

    pub fn members(&self) -> Vec<(usize, usize)> {
        (0..self.shards)
            .flat_map(|s| (0..=self.replicas).map(move |m| (s, m)))
            .collect()
    }

    pub fn superuser(&self, shard: usize, member: usize, database: &str) -> Raw {
        let port = self.port(shard, member);
        Raw::connect_unix(&self.run, port, "postgres", database)
            .expect("the superuser's connection")
    }

    /// The application's connection past pgshunt.
    pub fn direct(&self, shard: usize, member: usize) -> Raw {
        Raw::connect(self.port(shard, member), "app", "social").expect("a direct connection")
    }

    /// Runs it on every primary as the application.
    pub fn on_primaries(&self, sql: &str) -> Vec<Answer> {
        let run = |shard| self.direct(shard, 0).ask(sql).ok();
        (0..self.shards).map(run).collect()
    }

    /// Runs it on every primary as the superuser, in the application's database.
    pub fn as_superuser(&self, sql: &str) {
        for shard in 0..self.shards {
            self.superuser(shard, 0, "social").ask(sql).ok();
        }
    }

    pub fn pause(&self, shard: usize, member: usize) {
        self.superuser(shard, member, "social")
            .ask("SELECT pg_wal_replay_pause()")
            .ok();
        self.eventually("replay paused", || {
            let state = self
                .superuser(shard, member, "social")
                .ask("SELECT pg_get_wal_replay_pause_state()");
            state.ok().value() == "paused"
        });
    }

    pub fn resume(&self, shard: usize, member: usize) {
        self.superuser(shard, member, "social")
            .ask("SELECT pg_wal_replay_resume()")
            .ok();
    }

    pub fn pause_all(&self) {
        self.each_replica(|shard, member| self.pause(shard, member));
    }

    pub fn resume_all(&self) {
        self.each_replica(|shard, member| self.resume(shard, member));
    }

    fn each_replica(&self, act: impl Fn(usize, usize)) {
        self.members()
            .into_iter()
            .filter(|(_, m)| *m > 0)
            .for_each(|(s, m)| act(s, m));
    }

    /// Until every replica shows what its primary has.
    pub fn catch_up(&self) {
        for shard in 0..self.shards {
            let lsn = self
                .superuser(shard, 0, "social")
                .ask("SELECT pg_current_wal_lsn()")
                .ok()
                .value()
                .to_owned();
            for member in 1..=self.replicas {
                let ask = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
                self.eventually("replicas caught up", || {
                    self.superuser(shard, member, "social")
                        .ask(&ask)
                        .ok()
                        .value()
                        == "t"
                });
            }
        }
    }

    /// How often each server ran statements like this (LIKE, over the text that `pg_stat_statements` keeps); indexed as `members`.
    pub fn calls(&self, like: &str) -> Vec<u64> {
        let sql = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '{like}' AND query NOT LIKE '%pg_stat_statements%'"
        );
        let count = |(shard, member)| {
            let answer = self.superuser(shard, member, "postgres").ask(&sql).ok();
            answer.value().parse().expect("a count")
        };
        self.members().into_iter().map(count).collect()
    }

    /// What a server has logged.
    pub fn whole_log(&self, shard: usize, member: usize) -> String {
        let folder = self.cluster.data_dir(shard, member);
        let name = folder.file_name().expect("a name").to_string_lossy();
        let log = folder.with_file_name("log").join(format!("{name}.log"));
        std::fs::read_to_string(log).unwrap_or_default()
    }

    /// The end of it.
    pub fn server_log(&self, shard: usize, member: usize) -> String {
        let text = self.whole_log(shard, member);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Kills the postmaster; its children end on their own when they see that it is gone.
    pub fn kill_server(&self, shard: usize, member: usize) {
        self.signal(shard, member, "-9");
    }

    /// To a server's first process: `-INT` is a fast shutdown, `-TERM` a smart one.
    pub fn signal(&self, shard: usize, member: usize, signal: &str) {
        let pid = self.cluster.server_pid(shard, member).to_string();
        let status = std::process::Command::new("kill")
            .args([signal, &pid])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Starts again what was killed, once nothing of it is left: a server's processes all run in its folder.
    pub fn revive(&self, shard: usize, member: usize) {
        let folder = self.cluster.data_dir(shard, member).canonicalize();
        let folder = folder.expect("the server's folder");
        self.eventually("the killed server's processes gone", || {
            let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
            let mut folders =
                processes.filter_map(|p| std::fs::read_link(p.path().join("cwd")).ok());
            !folders.any(|f| f == folder)
        });
        // where nobody has collected the dead process yet, its files make it look alive
        let socket = format!(".s.PGSQL.{}", self.port(shard, member));
        let lock = self.run.join(format!("{socket}.lock"));
        for file in [folder.join("postmaster.pid"), lock, self.run.join(socket)] {
            let _ = std::fs::remove_file(file);
        }
        self.cluster.up();
        self.eventually("the killed server answers again", || {
            self.lets_in(shard, member)
        });
    }

    /// Whether a server is open to new connections.
    pub fn lets_in(&self, shard: usize, member: usize) -> bool {
        Raw::connect_unix(&self.run, self.port(shard, member), "postgres", "postgres").is_ok()
    }

    #[track_caller]
    pub fn eventually(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        eventually(Duration::from_secs(30), what, &mut is_so);
    }
}

#[track_caller]
pub fn eventually(limit: Duration, what: &str, is_so: &mut dyn FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The map with one line of it replaced, and `more` lines for the database put beside it.
pub fn with_pool(map: &str, pool: &str, more: &str) -> String {
    let found = map
        .lines()
        .find(|line| line.starts_with("    pool:"))
        .expect("the map's pool line");
    map.replace(found, &format!("    pool: {{ {pool} }}\n{more}"))
}

/// A small generator of numbers that repeats itself: a failing run can be run again.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A shard map in parts, so that a test says only what is special about its own.
pub struct Map {
    pub listen: String,
    pub users: String,
    pub control: String,
    pub shards: String,
    /// keyspaces, tables, reference tables, functions, from column 0
    pub tables: String,
    pub pool: String,
    /// more fields of the database, from column 0
    pub database: String,
    /// more fields of the whole, from column 0
    pub rest: String,
}

impl Map {
    /// The first `shards` shards of the town with `replicas` replicas each, everybody trusted.
    pub fn of(town: &Town, shards: usize, replicas: usize) -> Self {
        let mut text = String::from("shards:\n");
        for shard in 0..shards {
            let ports: Vec<String> = (1..=replicas)
                .map(|m| format!("\"127.0.0.1:{}\"", town.port(shard, m)))
                .collect();
            text.push_str(&format!(
                "  - name: s{}\n    primary: 127.0.0.1:{}\n",
                shard + 1,
                town.port(shard, 0)
            ));
            text.push_str(&format!("    replicas: [{}]\n", ports.join(", ")));
        }
        Self {
            listen: "  - address: 127.0.0.1:LISTEN_PORT\n".into(),
            users: "  - { name: app, auth: trust }\n".into(),
            control: "{ user: pgshunt }".into(),
            shards: text,
            tables: String::new(),
            pool: "size: 10".into(),
            database: String::new(),
            rest: String::new(),
        }
    }

    pub fn tables(mut self, text: &str) -> Self {
        self.tables = text.into();
        self
    }

    pub fn pool(mut self, text: &str) -> Self {
        self.pool = text.into();
        self
    }

    pub fn database(mut self, text: &str) -> Self {
        self.database = text.into();
        self
    }

    pub fn rest(mut self, text: &str) -> Self {
        self.rest = text.into();
        self
    }

    pub fn text(&self) -> String {
        let Self {
            listen,
            users,
            control,
            shards,
            tables,
            pool,
            database,
            rest,
        } = self;
        let inner =
            format!("home: s1\ncontrol: {control}\n{shards}{tables}pool: {{ {pool} }}\n{database}");
        let inner = format!("    {}\n", inner.trim_end().replace('\n', "\n    "));
        format!(
            "listen:\n{listen}admin: {{ users: [app], http: \"127.0.0.1:HTTP_PORT\" }}\nusers:\n{users}databases:\n  - name: social\n{inner}{rest}"
        )
    }
}
