//! Hand-written statements over a shop for many tenants, text ordered by ICU: those of one tenant go to exactly one shard, whole,
//! in every spelling; those that span tenants are exact or refused. Two shards, with `PGSHUNT_LONG=1` four, too.

mod support {
    pub mod blocks;
    pub mod bounds;
    pub mod cluster;
    pub mod oracle;
    pub mod raw;
    pub mod shop;
    pub mod town;
}

use pgshunt::catalog::Catalog;
use pgshunt::cluster::control::ControlPools;
use pgshunt::cluster::inspect::home_catalog;
use pgshunt::config::{self, Config, Database};
use pgshunt::route::planner::{PlanContext, plan};
use pgshunt::route::{ParamValue, Targets, Values};
use pgshunt::server::build::look;
use pgshunt::sql::lift::{Lifted, lift};
use support::blocks::{Block, blocks};
use support::bounds;
use support::oracle::{Asked, MANNERS, Manner, Order, Tally, Verdict, World};
use support::shop;

const NAMES: [&str; 5] = [
    "of one tenant",
    "over tenants",
    "under other settings",
    "within transactions",
    "through cursors",
];

#[test]
fn statements_of_tenants_are_exact_or_refused_and_one_tenants_go_to_one_shard() {
    let ways: &[usize] = match std::env::var("PGSHUNT_LONG") {
        Ok(_) => &[2, 4],
        Err(_) => &[2],
    };
    let mut world = World::start(&shop::setting("tenants", ways));
    world.load(&shop::rows());
    orders_text_by_icu(&mut world);
    let one = blocks(include_str!("oracle/one-tenant.sql"));
    let many = blocks(include_str!("oracle/many-tenants.sql"));
    assert!(
        one.len() + many.len() >= 250,
        "{} + {}",
        one.len(),
        many.len()
    );
    let scattered = not_on_one_shard(&world, &one);
    let mut tallies = [(); 5].map(|()| Tally::default());
    let [single, spread, set, within, fetched] = &mut tallies;
    ask_all(&mut world, &one, single);
    ask_all(&mut world, &many, spread);
    under_settings(&mut world, &many, set);
    in_transactions(&mut world, &many, within);
    through_cursors(&mut world, &many, fetched);
    for (name, tally) in NAMES.iter().zip(&tallies) {
        tally.show(name);
    }
    for ((name, tally), bound) in NAMES.iter().zip(&tallies).zip(bounds::TENANTS) {
        tally.require(name, bound);
    }
    assert!(
        scattered.is_empty(),
        "not on one shard:\n{}",
        scattered.join("\n")
    );
}

/// Otherwise the test would not see an order by bytes.
fn orders_text_by_icu(world: &mut World) {
    let sql = "SELECT 'a' < 'B' AND 'co-op' < 'coop' AND 'ä' < 'z'";
    assert_eq!(world.plain.raw.ask(sql).ok().value(), "t");
    for (_, side) in &mut world.sharded {
        assert_eq!(side.raw.ask(sql).ok().value(), "t");
    }
}

/// Every statement in every manner, and the rows in two orders. In a comment, "fails" says that Postgres refuses it, "text" that
/// its binary format shows numbers of types, which each database has its own of.
fn ask_all(world: &mut World, blocks: &[Block], tally: &mut Tally) {
    let mut mistaken = Vec::new();
    for block in blocks {
        let asked = block.asked();
        let text = block.comment.contains("text");
        for manner in MANNERS {
            if text && matches!(manner, Manner::Binary | Manner::TypedParameters) {
                continue;
            }
            let (expected, verdicts) = world.judge(&asked, manner);
            if expected.error.is_some() != block.comment.contains("fails") {
                mistaken.push(format!("{}: {:?}", block.statement, expected.error));
            }
            if let Some(difference) = world.undetermined(&asked, manner, &expected) {
                mistaken.push(format!("not settled: {}: {difference}", block.statement));
            }
            for (shards, verdict) in verdicts {
                tally.add(&format!("{manner:?}"), shards, &block.statement, &verdict);
            }
        }
    }
    assert!(mistaken.is_empty(), "{}", mistaken.join("\n"));
}

/// They change how values are written, read or compared.
const SETTINGS: [&str; 9] = [
    "DateStyle = 'German, DMY'",
    "DateStyle = 'SQL, MDY'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'America/St_Johns'",
    "extra_float_digits = -10",
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "transform_null_equals = on",
    "standard_conforming_strings = off",
];

/// Each statement under one of them, under all in the long form.
fn under_settings(world: &mut World, blocks: &[Block], tally: &mut Tally) {
    let long = std::env::var("PGSHUNT_LONG").is_ok();
    for (at, setting) in SETTINGS.iter().enumerate() {
        world.everywhere(&format!("SET {setting}"));
        for (n, block) in blocks.iter().enumerate() {
            if !long && n % SETTINGS.len() != at {
                continue;
            }
            let manner = [Manner::Simple, Manner::Extended, Manner::Binary][n % 3];
            let text = block.comment.contains("text");
            let manner = if text { Manner::Simple } else { manner };
            let (_, verdicts) = world.judge(&block.asked(), manner);
            for (shards, verdict) in verdicts {
                tally.add(setting, shards, &block.statement, &verdict);
            }
        }
        let (name, _) = setting.split_once(' ').expect("a name");
        world.everywhere(&format!("RESET {name}"));
    }
}

/// Writes of one tenant, before the statements that must see them.
const WRITES: [&str; 4] = [
    "UPDATE members SET level = 4, name = 'aardvark' WHERE tenant_id = 5",
    "DELETE FROM tasks WHERE tenant_id = 5 AND id < 3",
    "INSERT INTO tasks (tenant_id, id, title, done, due) VALUES (5, 50, 'new', false, '2024-02-02')",
    "UPDATE tenants SET budget = 1000.25, country = 'pe' WHERE id = 5",
];

/// Each statement in a transaction that has written on one shard.
fn in_transactions(world: &mut World, blocks: &[Block], tally: &mut Tally) {
    for (n, block) in blocks.iter().enumerate() {
        let begin = ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"][n % 2];
        let manner = [Manner::Simple, Manner::Parameters][n / 2 % 2];
        world.everywhere(begin);
        for write in WRITES {
            world.everywhere(write);
        }
        let (_, verdicts) = world.judge(&block.asked(), manner);
        for (shards, verdict) in verdicts {
            tally.add(begin, shards, &block.statement, &verdict);
        }
        world.everywhere("ROLLBACK");
    }
}

/// DECLARE, then FETCH in two portions: which rows come first is settled by a total order only.
fn through_cursors(world: &mut World, blocks: &[Block], tally: &mut Tally) {
    for block in blocks.iter().filter(|b| !b.comment.contains("fails")) {
        let order = block.asked().order;
        world.everywhere("BEGIN");
        let declare = format!("DECLARE portion CURSOR FOR {}", block.statement);
        let fetch = match order {
            Order::Total => ["FETCH 3 FROM portion", "FETCH ALL FROM portion"].as_slice(),
            _ => &["FETCH ALL FROM portion"],
        };
        for sql in [declare.as_str()].iter().chain(fetch) {
            let (_, verdicts) = world.judge(&Asked::plain(sql, order.clone()), Manner::Simple);
            let over = verdicts.iter().any(|(_, v)| !matches!(v, Verdict::Exact));
            for (shards, verdict) in verdicts {
                tally.add(sql, shards, &block.statement, &verdict);
            }
            if over {
                break;
            }
        }
        world.everywhere("ROLLBACK");
    }
}

struct Literals<'a>(&'a [u8], &'a Lifted);

impl Values for Literals<'_> {
    fn slot(&self, n: usize) -> Option<&[u8]> {
        let span = self.1.slots.get(n)?;
        self.0.get(span.start..span.end)
    }

    fn param(&self, _: usize) -> Option<ParamValue<'_>> {
        None
    }
}

/// The planner's own word, with the schema as pgshunt reads it from the servers.
fn not_on_one_shard(world: &World, blocks: &[Block]) -> Vec<String> {
    let config = config::parse(&world.map, "shard-map.yaml").expect("the shard map");
    let database = config.databases.last().expect("a database");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let control = runtime.block_on(async { ControlPools::new(database) });
    let control = control.expect("the control plane");
    let members = runtime.block_on(look(database, &control));
    let catalog = home_catalog(database, &members).expect("a catalog");
    let scattered = |block: &Block| {
        let found = target(&block.statement, &config, database, catalog);
        (found != "one").then(|| format!("{found}: {}", block.statement))
    };
    blocks.iter().filter_map(scattered).collect()
}

fn target(sql: &str, config: &Config, database: &Database, catalog: &Catalog) -> String {
    let mut lifted = Lifted::default();
    lift(sql.as_bytes(), true, &mut lifted);
    let context = PlanContext {
        catalog,
        database,
        search_path: &["public".to_owned()],
        standard_conforming_strings: true,
        declared: &[],
        forced_shard: None,
        parsed_bytes_max: config.limits.parsed_bytes_max,
        same_encoding: true,
    };
    let planned = plan(sql.as_bytes(), &lifted, context).expect("a plan");
    let statement = &planned.statements[0];
    if let Some(refusal) = &statement.refusal {
        return refusal.to_string();
    }
    match statement.resolve(&Literals(sql.as_bytes(), &lifted), database) {
        Ok(Targets::One(_)) => "one".to_owned(),
        other => format!("{other:?}"),
    }
}
