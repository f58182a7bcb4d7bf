//! The tables of TPC-H, made as its specification says, and put straight onto the servers: each row on the shard where
//! pgshunt's own arithmetic places it.

use super::oracle::World;
use super::raw::{self, Raw};
use pgshunt::config;
use pgshunt::shard::{KeyType, Keyspace};
use std::fmt::Display;
use tpchgen::distribution::Distributions;
use tpchgen::generators as tpch;
use tpchgen::text::TextPool;

pub const TABLES: &str = "\
keyspaces:
  - { name: by_order, type: bigint, hash: { buckets: 64 } }
  - { name: by_customer, type: bigint, hash: { buckets: 64 } }
  - { name: by_part, type: bigint, hash: { buckets: 32 } }
  - { name: by_supplied_part, type: bigint, hash: { function: postgres, buckets: 16 } }
tables:
  - { name: orders, keyspace: by_order, key: o_orderkey }
  - { name: lineitem, keyspace: by_order, key: l_orderkey }
  - { name: customer, keyspace: by_customer, key: c_custkey }
  - { name: part, keyspace: by_part, key: p_partkey }
  - { name: partsupp, keyspace: by_supplied_part, key: ps_partkey }
reference_tables: [region, nation, supplier]
";

pub struct Table {
    pub name: &'static str,
    pub rows: Vec<String>,
}

fn table<R: Display>(name: &'static str, rows: impl Iterator<Item = R>) -> Table {
    let line = |row: R| row.to_string().trim_end_matches('|').to_owned();
    Table {
        name,
        rows: rows.map(line).collect(),
    }
}

/// Lines as COPY reads them; the key, where there is one, is the first column of every table.
pub fn tables(scale: f64) -> Vec<Table> {
    let distributions: &'static Distributions = Distributions::static_default();
    // the specification's is 300 MB; comments come out of it, nothing else
    let pool: &'static TextPool = Box::leak(Box::new(TextPool::new(4 << 20, distributions)));
    macro_rules! made {
        ($generator:ident) => {
            tpch::$generator::new_with_distributions_and_text_pool(scale, 1, 1, distributions, pool)
                .iter()
        };
    }
    vec![
        table("region", tpch::RegionGenerator::new(scale, 1, 1).iter()),
        table("nation", tpch::NationGenerator::new(scale, 1, 1).iter()),
        table("supplier", made!(SupplierGenerator)),
        table("part", made!(PartGenerator)),
        table(
            "partsupp",
            tpch::PartSuppGenerator::new_with_text_pool(scale, 1, 1, pool).iter(),
        ),
        table("customer", made!(CustomerGenerator)),
        table("orders", made!(OrderGenerator)),
        table("lineitem", made!(LineItemGenerator)),
    ]
}

fn copy<'a>(raw: &mut Raw, table: &str, rows: impl Iterator<Item = &'a String>) {
    raw.ask(&format!("COPY {table} FROM STDIN (DELIMITER '|')"));
    let mut data = String::new();
    for row in rows {
        data.push_str(row);
        data.push('\n');
    }
    for chunk in data.as_bytes().chunks(1 << 20) {
        raw.send(&raw::message(b'd', chunk)).expect("copy data");
    }
    raw.send(&raw::message(b'c', b"")).expect("the copy's end");
    raw.until_ready().expect("an answer").ok();
}

/// Straight onto the servers, each row where pgshunt's own arithmetic places it.
pub fn load(world: &World, tables: &[Table]) {
    let map = config::parse(&world.map, "shard-map.yaml").expect("the shard map");
    let connect = |server, name: &str| {
        Raw::connect(world.town.port(server, 0), "app", name).expect("a server")
    };
    for name in ["plain", "reversed"] {
        let mut raw = connect(0, name);
        for table in tables {
            match name {
                "plain" => copy(&mut raw, table.name, table.rows.iter()),
                _ => copy(&mut raw, table.name, table.rows.iter().rev()),
            }
        }
        raw.ask("ANALYZE").ok();
    }
    for database in &map.databases {
        for shard in 0..database.shards.len() {
            let mut raw = connect(shard, &database.name);
            for table in tables {
                let sharded = database.tables.iter().find(|t| t.name == table.name);
                let keyspace = sharded.map(|t| &database.keyspaces[t.keyspace]);
                let here =
                    |row: &&String| keyspace.is_none_or(|keyspace| place(keyspace, row) == shard);
                copy(&mut raw, table.name, table.rows.iter().filter(here));
            }
            raw.ask("ANALYZE").ok();
        }
    }
}

fn place(keyspace: &Keyspace, row: &str) -> usize {
    let key = row.split('|').next().expect("a first column");
    let key = KeyType::BigInt
        .parse_text(key.as_bytes())
        .expect("a number");
    keyspace.locate(&[key]).expect("a shard").index()
}
