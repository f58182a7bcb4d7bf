//! TPC-H at scale factor 0.01 over two shards (over four, too, with `PGSHUNT_LONG=1`): orders and lineitem by order key, customer,
//! part and partsupp each by its own key, the rest on every shard. Every query is asked in every manner and gives what one
//! Postgres gives, or is refused.

mod support {
    pub mod blocks;
    pub mod bounds;
    pub mod cluster;
    pub mod oracle;
    pub mod raw;
    pub mod town;
}

use pgshunt::config;
use pgshunt::shard::{KeyType, Keyspace};
use std::fmt::Display;
use support::blocks::blocks;
use support::oracle::{Manner, Setting, Side, Tally, Verdict, World};
use support::raw::{self, Raw};
use tpchgen::distribution::Distributions;
use tpchgen::generators as tpch;
use tpchgen::text::TextPool;

const SCALE: f64 = 0.01;

const TABLES: &str = "\
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

const MANNERS: [Manner; 3] = [Manner::Simple, Manner::Extended, Manner::Binary];

struct Table {
    name: &'static str,
    rows: Vec<String>,
}

fn table<R: Display>(name: &'static str, rows: impl Iterator<Item = R>) -> Table {
    let line = |row: R| row.to_string().trim_end_matches('|').to_owned();
    Table {
        name,
        rows: rows.map(line).collect(),
    }
}

/// Lines as COPY reads them; the key, where there is one, is the first column of every table.
fn tables() -> Vec<Table> {
    let distributions: &'static Distributions = Distributions::static_default();
    // the specification's is 300 MB; comments come out of it, nothing else
    let pool: &'static TextPool = Box::leak(Box::new(TextPool::new(4 << 20, distributions)));
    macro_rules! made {
        ($generator:ident) => {
            tpch::$generator::new_with_distributions_and_text_pool(SCALE, 1, 1, distributions, pool)
                .iter()
        };
    }
    vec![
        table("region", tpch::RegionGenerator::new(SCALE, 1, 1).iter()),
        table("nation", tpch::NationGenerator::new(SCALE, 1, 1).iter()),
        table("supplier", made!(SupplierGenerator)),
        table("part", made!(PartGenerator)),
        table(
            "partsupp",
            tpch::PartSuppGenerator::new_with_text_pool(SCALE, 1, 1, pool).iter(),
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
fn load(world: &World, tables: &[Table]) {
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

#[test]
fn the_22_queries_of_tpch_are_exact_or_refused() {
    let long = std::env::var("PGSHUNT_LONG").is_ok();
    let mut world = World::start(&Setting {
        name: "tpch",
        tables: TABLES,
        schema: include_str!("oracle/tpch-schema.sql"),
        database: "",
        ways: if long { &[2, 4] } else { &[2] },
    });
    load(&world, &tables());
    let queries = blocks(include_str!("oracle/tpch.sql"));
    assert_eq!(queries.len(), 22);
    let mut tally = Tally::default();
    for query in &queries {
        let mut report = Vec::new();
        for manner in MANNERS {
            let asked = query.asked();
            let (expected, verdicts) = world.judge(&asked, manner);
            assert_eq!(expected.error, None, "{}", query.comment);
            if manner == Manner::Simple {
                let undetermined = world.undetermined(&asked, manner, &expected);
                assert_eq!(undetermined, None, "{}", query.comment);
                report.push(format!("{} rows", expected.rows.len()));
            }
            for (shards, verdict) in verdicts {
                let what = format!("{} ({manner:?})", query.comment);
                tally.add(&what, shards, &query.statement, &verdict);
                report.push(format!("{manner:?} over {shards}: {}", word(&verdict)));
            }
        }
        println!("{}: {}", query.comment, report.join(", "));
    }
    for (_, Side { raw, .. }) in &mut world.sharded {
        assert_eq!(raw.ask("SELECT 1").ok().value(), "1");
    }
    tally.show("TPC-H");
    tally.require("TPC-H", support::bounds::TPCH);
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Exact => "exact",
        Verdict::Refused(_) => "refused",
        Verdict::Wrong(_) => "WRONG",
    }
}
