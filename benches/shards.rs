//! What statements over four shards cost, beside the servers themselves: a sorted LIMIT, a merge of a million rows, the 22
//! queries of TPC-H. `scripts/bench --shards` runs it; real servers, all on this machine, which share its processors.

#[path = "../tests/support"]
mod support {
    pub mod blocks;
    pub mod cluster;
    pub mod oracle;
    pub mod raw;
    pub mod town;
    pub mod tpch;
}

use std::time::{Duration, Instant};
use support::blocks::blocks;
use support::oracle::{Setting, World};
use support::raw::{self, Raw};
use support::tpch;

const SHARDS: usize = 4;
const SCALE: f64 = 0.1;
const MERGED: u64 = 1_000_000;
/// As anybody would have them: the foreign keys, and what the sorted LIMIT sorts by.
const INDEXES: [&str; 6] = [
    "lineitem (l_extendedprice DESC, l_orderkey, l_linenumber)",
    "lineitem (l_partkey, l_suppkey)",
    "orders (o_custkey)",
    "customer (c_nationkey)",
    "supplier (s_nationkey)",
    "partsupp (ps_suppkey)",
];

fn main() {
    // cargo's own flags are not ours
    let world = World::start(&Setting {
        replicas: 0,
        name: "bench",
        tables: tpch::TABLES,
        schema: include_str!("../tests/oracle/tpch-schema.sql"),
        database: "",
        ways: &[SHARDS],
    });
    tpch::load(&world, &tpch::tables(SCALE));
    let one = Raw::connect(world.town.port(0, 0), "app", "plain").expect("a server");
    let shards = (0..SHARDS).map(|shard| shard_of(&world, shard));
    for mut raw in shards.chain([one]) {
        for index in INDEXES {
            raw.ask(&format!("CREATE INDEX ON {index}")).ok();
        }
        raw.ask("ANALYZE").ok();
    }
    top_twenty(&world);
    merge(&world);
    tpch_queries(&world);
}

fn shard_of(world: &World, shard: usize) -> Raw {
    let database = format!("over_{SHARDS}");
    Raw::connect(world.town.port(shard, 0), "app", &database).expect("a shard")
}

fn through(world: &World) -> Raw {
    let database = format!("over_{SHARDS}");
    Raw::connect(world.proxy.port(), "app", &database).expect("pgshunt")
}

/// The median of so many runs, without the first, which fills caches.
fn median(runs: usize, raw: &mut Raw, sql: &str) -> Duration {
    let mut times: Vec<Duration> = (0..=runs)
        .map(|_| {
            let started = Instant::now();
            raw.ask(sql).ok();
            started.elapsed()
        })
        .skip(1)
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A sorted LIMIT costs what the slowest shard costs, and a little: 1.3 times and 0.3 ms are allowed.
fn top_twenty(world: &World) {
    let sql = "SELECT l_orderkey, l_linenumber, l_extendedprice FROM lineitem \
               ORDER BY l_extendedprice DESC, l_orderkey, l_linenumber LIMIT 20";
    let alone: Vec<Duration> = (0..SHARDS)
        .map(|shard| median(301, &mut shard_of(world, shard), sql))
        .collect();
    let slowest = alone.into_iter().max().unwrap_or_default();
    let mut raw = through(world);
    let before = cpu_ms(world.proxy.pid());
    let all = median(301, &mut raw, sql);
    let each = (cpu_ms(world.proxy.pid()) - before) / 302.0;
    let allowed = ms(slowest) * 1.3 + 0.3;
    println!("metric=top_twenty_cpu_ms pgshunt={each:.3}");
    println!(
        "metric=top_twenty_ms pgshunt={:.3} slowest_shard={:.3} allowed={allowed:.3}",
        ms(all),
        ms(slowest)
    );
}

/// Rows in order, read as they come: pgshunt's memory must not grow with them.
fn merge(world: &World) {
    let sql = format!(
        "SELECT l_orderkey, l_linenumber, g, l_comment FROM lineitem, generate_series(1, 2) g \
         ORDER BY l_orderkey, l_linenumber, g LIMIT {MERGED}"
    );
    let mut raw = through(world);
    let before = resident_kb(world.proxy.pid(), "VmRSS");
    let started = Instant::now();
    raw.send(&raw::query(&sql)).expect("sent");
    let mut rows = 0;
    loop {
        let message = raw.receive().expect("rows");
        match message.tag {
            b'D' => rows += 1,
            b'E' => panic!("{}", String::from_utf8_lossy(&message.body)),
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(rows, MERGED);
    println!(
        "metric=merge_rows_per_second pgshunt={:.0}",
        MERGED as f64 / started.elapsed().as_secs_f64()
    );
    println!(
        "metric=merge_peak_resident_mb pgshunt={:.1} before={:.1} allowed=50",
        resident_kb(world.proxy.pid(), "VmHWM") / 1024.0,
        before / 1024.0
    );
}

/// Processor time of all of a process's threads.
fn cpu_ms(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let spent = threads.flatten().filter_map(|thread| {
        let said = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        said.split_whitespace().next()?.parse::<f64>().ok()
    });
    spent.sum::<f64>() / 1e6
}

fn resident_kb(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with(field));
    let words = line.expect("its memory").split_whitespace().nth(1);
    words.and_then(|kb| kb.parse().ok()).expect("a number")
}

fn tpch_queries(world: &World) {
    let mut pgshunt = through(world);
    let mut postgres = Raw::connect(world.town.port(0, 0), "app", "plain").expect("a server");
    let queries = blocks(include_str!("../tests/oracle/tpch.sql"));
    let mut totals = [0.0, 0.0];
    for (n, query) in queries.iter().enumerate() {
        let asked = query.asked();
        let before = cpu_ms(world.proxy.pid());
        let times = [&mut pgshunt, &mut postgres].map(|raw| ms(median(3, raw, &asked.text)));
        println!(
            "metric=tpch_{:02}_ms pgshunt={:.1} postgres={:.1} ratio={:.2} cpu={:.1} # {}",
            n + 1,
            times[0],
            times[1],
            times[0] / times[1],
            (cpu_ms(world.proxy.pid()) - before) / 4.0,
            query.comment
        );
        totals[0] += times[0];
        totals[1] += times[1];
    }
    println!(
        "metric=tpch_total_ms pgshunt={:.0} postgres={:.0} ratio={:.2}",
        totals[0],
        totals[1],
        totals[0] / totals[1]
    );
}
