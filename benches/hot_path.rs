//! What the parts of a routed query cost by themselves: `cargo bench`. The whole, beside PgBouncer, is scripts/bench.

use criterion::{Criterion, criterion_group, criterion_main};
use pgshunt::catalog::{Catalog, CatalogBuilder};
use pgshunt::config::{self, Config};
use pgshunt::pool::{Ceiling, Lease, Pool, PoolName};
use pgshunt::route::planner::{PlanContext, plan};
use pgshunt::route::{ParamValue, PlannedText, Values};
use pgshunt::sql::lift::templates::Templates;
use pgshunt::sql::lift::{Lifted, lift};
use pgshunt::wire::{build, frame};
use std::hint::black_box;

const MAP: &str = r#"
listen: [{ address: "127.0.0.1:6432" }]
users: [{ name: app, auth: trust }]
databases:
  - name: bench
    home: s1
    control: { user: pgshunt }
    shards:
      - { name: s1, primary: "127.0.0.1:1" }
      - { name: s2, primary: "127.0.0.1:2" }
    keyspaces:
      - { name: by_account, type: integer, hash: { function: xxh3, buckets: 1024 } }
    tables:
      - { name: pgbench_accounts, keyspace: by_account, key: aid }
"#;

const POINT: &[u8] = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;";

fn catalog() -> Catalog {
    let columns = [
        ("aid", "integer"),
        ("bid", "integer"),
        ("abalance", "integer"),
    ];
    CatalogBuilder::new()
        .table("pgbench_accounts", &columns, &["aid"])
        .build()
}

fn planned(config: &Config, catalog: &Catalog, lifted: &Lifted) -> PlannedText {
    let context = PlanContext {
        catalog,
        database: &config.databases[0],
        search_path: &["public".to_owned()],
        standard_conforming_strings: true,
        declared: &[],
        forced_shard: None,
        parsed_bytes_max: 1 << 20,
        same_encoding: true,
    };
    plan(POINT, lifted, context).expect("the statement can be planned")
}

struct Literals<'a>(&'a Lifted);

impl Values for Literals<'_> {
    fn slot(&self, n: usize) -> Option<&[u8]> {
        self.0.literal(POINT, n)
    }

    fn param(&self, _: usize) -> Option<ParamValue<'_>> {
        None
    }
}

/// The headers of a thousand rows.
fn framing(c: &mut Criterion) {
    let mut rows = bytes::BytesMut::new();
    for n in 0..1000 {
        build::text_row(&mut rows, &[&n.to_string(), "a row of a result"]);
    }
    c.bench_function("framing: 1000 rows", |b| {
        b.iter(|| {
            let mut at = 0;
            while let Ok(Some(head)) = frame::header(black_box(&rows[at..]), 1 << 30) {
                at += head.len;
            }
            assert_eq!(at, rows.len());
        });
    });
}

fn lifting(c: &mut Criterion) {
    let mut out = Lifted::default();
    c.bench_function("lifting: a point SELECT, scanned", |b| {
        b.iter(|| lift(black_box(POINT), true, &mut out));
    });
    let templates = Templates::new(1000);
    templates.lift(POINT, true, &mut out);
    c.bench_function("lifting: a point SELECT like the one before", |b| {
        b.iter(|| templates.lift(black_box(POINT), true, &mut out));
    });
}

fn planning_and_resolving(c: &mut Criterion) {
    let config = config::parse(MAP, "map.yaml").expect("the map is right");
    let catalog = catalog();
    let mut lifted = Lifted::default();
    lift(POINT, true, &mut lifted);
    c.bench_function("planning: a point SELECT, once for each shape", |b| {
        b.iter(|| planned(&config, &catalog, black_box(&lifted)));
    });
    let planned = planned(&config, &catalog, &lifted);
    c.bench_function("resolving: its key to a shard", |b| {
        b.iter(|| {
            planned.statements[0].resolve(black_box(&Literals(&lifted)), &config.databases[0])
        });
    });
}

fn checkout(c: &mut Criterion) {
    let config = config::parse(MAP, "map.yaml").expect("the map is right");
    let name = PoolName {
        server: "s1".to_owned(),
        user: "app".to_owned(),
        database: "bench".to_owned(),
    };
    let pool = Pool::new(
        name,
        config.databases[0].pool.clone(),
        Ceiling::new(usize::MAX),
    );
    match pool.try_checkout(None) {
        Some(Lease::Dial(permit)) => permit.fulfil(7_u64).check_in(),
        _ => panic!("an empty pool lends nothing but the right to dial"),
    }
    c.bench_function("checkout: an idle server, and back", |b| {
        b.iter(|| match pool.try_checkout(None) {
            Some(Lease::Ready(server)) => server.check_in(),
            _ => panic!("the server is idle"),
        });
    });
}

criterion_group!(benches, framing, lifting, planning_and_resolving, checkout);
criterion_main!(benches);
