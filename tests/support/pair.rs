//! One Postgres that has all the rows, and pgshunt before two shards: the same messages to both, and the same answers.

use super::cluster::Proxy;
use super::raw::{Answer, Raw, message, query, sync};
use super::town::Town;
use std::sync::OnceLock;

pub const TABLES: &str = "\
keyspaces:
  - name: by_id
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: things, keyspace: by_id, key: id }
  - { name: others, keyspace: by_id, key: id }
";

pub const SCHEMA: &str = "CREATE TABLE things (id bigint PRIMARY KEY, n int, note text);
    CREATE TABLE others (id bigint PRIMARY KEY, n int, note text)";

pub struct House {
    pub town: Town,
    pub proxy: Proxy,
}

pub fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let town = Town::start("portals", 2, 1);
        for answer in town.on_primaries(SCHEMA) {
            answer.ok();
        }
        let mut postgres = town.superuser(0, 0, "postgres");
        postgres.ask("CREATE DATABASE plain OWNER app").ok();
        let mut plain = Raw::connect(town.port(0, 0), "app", "plain").expect("the one Postgres");
        plain.ask(SCHEMA).ok();
        town.catch_up();
        let map = town.cluster.map_with(TABLES)
            + "limits: { portal_bytes_max: 300000, gather_connections_max: 12 }\n";
        let proxy = Proxy::start(&map);
        let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        for id in 1..=60 {
            let sql = format!(
                "INSERT INTO things VALUES ({id}, {}, repeat('x', 20))",
                id * 7 % 6
            );
            let others = sql.replace("things", "others");
            for sql in [sql, others] {
                sharded.ask(&sql).ok();
                plain.ask(&sql).ok();
            }
        }
        House { town, proxy }
    })
}

pub struct Pair {
    pub sharded: Raw,
    pub plain: Raw,
}

pub fn pair() -> Pair {
    let house = house();
    Pair {
        sharded: Raw::connect(house.proxy.port(), "app", "social").expect("pgshunt"),
        plain: Raw::connect(house.town.port(0, 0), "app", "plain").expect("the one Postgres"),
    }
}

/// Tables have numbers of their own in each database.
pub fn told(answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    for column in answer.columns.iter_mut().flatten() {
        column.type_oid = column.type_oid.min(16_384);
    }
    if let Some(error) = &mut answer.error {
        error.hint.clear();
    }
    answer
}

impl Pair {
    #[track_caller]
    pub fn same(&mut self, bytes: &[u8]) -> Answer {
        self.sharded.send(bytes).expect("sent");
        self.plain.send(bytes).expect("sent");
        let here = self.sharded.until_ready().expect("pgshunt");
        let there = self.plain.until_ready().expect("the one Postgres");
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(told(&here), told(&there), "{shown}");
        assert_eq!(self.sharded.status, self.plain.status, "{shown}");
        here
    }

    #[track_caller]
    pub fn ask(&mut self, sql: &str) -> Answer {
        self.same(&query(sql))
    }

    #[track_caller]
    pub fn batch(&mut self, parts: &[Vec<u8>]) -> Answer {
        self.same(&[parts.concat(), sync()].concat())
    }
}

pub fn describe(portal: &str) -> Vec<u8> {
    message(b'D', format!("P{portal}\0").as_bytes())
}

pub fn close(portal: &str) -> Vec<u8> {
    message(b'C', format!("P{portal}\0").as_bytes())
}
