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
    pub mod tpch;
}

use support::blocks::blocks;
use support::oracle::{Manner, Setting, Side, Tally, Verdict, World};
use support::tpch;

const MANNERS: [Manner; 3] = [Manner::Simple, Manner::Extended, Manner::Binary];

#[test]
fn the_22_queries_of_tpch_are_exact_or_refused() {
    let long = std::env::var("PGSHUNT_LONG").is_ok();
    let mut world = World::start(&Setting {
        replicas: 0,
        name: "tpch",
        tables: tpch::TABLES,
        schema: include_str!("oracle/tpch-schema.sql"),
        database: "",
        ways: if long { &[2, 4] } else { &[2] },
    });
    tpch::load(&world, &tpch::tables(0.01));
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
