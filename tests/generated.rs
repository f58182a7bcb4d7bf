//! Random queries at one Postgres and through pgshunt: the same, or refused. `PGSHUNT_SEED` repeats a run; `PGSHUNT_LONG=1` asks
//! 10,000 over two and over four shards, `PGSHUNT_QUERIES` any number. What differs is shown with both answers and made shorter.

mod support {
    pub mod bounds;
    pub mod cluster;
    pub mod generator;
    pub mod oracle;
    pub mod raw;
    pub mod shop;
    pub mod town;
}

use support::generator::Generator;
use support::oracle::{Asked, Manner, Order, Setting, Tally, Verdict, World, all_manners};
use support::shop;
use support::town::Dice;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_queries_are_exact_or_refused() {
    let run = Run::drawn(1, 500, 10_000);
    let ways: &[usize] = if is_long() { &[2, 4] } else { &[2] };
    // an even seed shards by hashes, an odd one by ranges
    let sharded = [shop::setting, shop::ranged][usize::from(run.seed % 2 == 1)];
    let mut world = World::start(&sharded("generated", ways));
    run.ask_all(&mut world, |_, _| {});
}

/// The session writes now and then: what it reads, from replicas where they have come so far, has what it wrote.
#[test]
fn random_queries_see_the_sessions_writes_with_replicas() {
    let run = Run::drawn(2, 150, 2_000);
    let mut world = World::start(&Setting {
        replicas: 1,
        ..shop::setting("generated-replicas", &[2])
    });
    run.ask_all(&mut world, |world, dice| {
        if dice.chance(15) {
            let tenant = 1 + dice.below(shop::TENANTS);
            let write = dice.one(&shop::WRITES);
            world.everywhere(&write.replace("$1", &tenant.to_string()));
        }
    });
    let by_replicas = (0..2).map(|shard| reads(&world, shard, 1)).sum::<u64>();
    let by_primaries = (0..2).map(|shard| reads(&world, shard, 0)).sum::<u64>();
    println!("transactions at replicas {by_replicas}, at primaries {by_primaries}");
    assert!(by_replicas > run.count / 4, "the replicas were not read");
}

/// Transactions that this server has seen in the database of the two shards.
fn reads(world: &World, shard: usize, member: usize) -> u64 {
    let mut superuser = world.town.superuser(shard, member, "postgres");
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'over_2'";
    superuser.ask(sql).ok().value().parse().expect("a number")
}

fn is_long() -> bool {
    std::env::var("PGSHUNT_LONG").is_ok()
}

/// So many queries, drawn from a seed.
struct Run {
    seed: u64,
    count: u64,
}

impl Run {
    fn drawn(salt: u64, short: u64, long: u64) -> Self {
        let seed = number("PGSHUNT_SEED");
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 7919 + salt);
        let count = number("PGSHUNT_QUERIES").unwrap_or(if is_long() { long } else { short });
        println!("PGSHUNT_SEED={seed} PGSHUNT_QUERIES={count} repeats this");
        Self { seed, count }
    }

    /// Each has a seed of its own, so that it can be asked alone.
    fn query(&self, n: u64) -> Asked {
        Generator::new(self.seed.wrapping_mul(1_000_003).wrapping_add(n)).next()
    }

    /// `before` each query something may be done to the world.
    fn ask_all(&self, world: &mut World, mut before: impl FnMut(&mut World, &mut Dice)) {
        world.load(&shop::rows());
        world.hurry();
        // another plan, too
        let reversed = &mut world.reversed.raw;
        reversed.ask("SET enable_hashagg = off").ok();
        let manners = all_manners();
        let mut dice = Dice(self.seed ^ 0x5eed);
        let mut tally = Tally::default();
        let (mut failed, mut heavy) = (0, 0);
        for n in 0..self.count {
            before(world, &mut dice);
            let asked = self.query(n);
            let manner = manners[dice.below(manners.len() as u64) as usize];
            match ask(world, n, &asked, manner, &mut tally) {
                Outcome::Compared => {}
                Outcome::Failed => failed += 1,
                Outcome::Heavy => heavy += 1,
            }
        }
        let count = self.count;
        println!("of {count}, {failed} fail at one Postgres, too, {heavy} are too much for it");
        assert!(
            (failed + heavy) * 20 <= count,
            "{failed} of {count} queries fail"
        );
        tally.show("random queries");
        tally.require("random queries", support::bounds::GENERATED);
    }
}

enum Outcome {
    Compared,
    /// alike at one Postgres
    Failed,
    /// nothing that could be compared
    Heavy,
}

fn ask(world: &mut World, n: u64, asked: &Asked, manner: Manner, tally: &mut Tally) -> Outcome {
    let (expected, verdicts) = world.judge(asked, manner);
    if verdicts.is_empty() {
        return Outcome::Heavy;
    }
    let mut outcome = Outcome::Compared;
    if let Some(error) = &expected.error {
        outcome = Outcome::Failed;
        println!(
            "#{n} {}: {}\n    {}",
            error.code,
            error.message,
            asked.literal()
        );
    }
    let undetermined = world.undetermined(asked, manner, &expected);
    if undetermined.is_some() && sorts_too_little(&asked.literal()) {
        return Outcome::Heavy;
    }
    assert_eq!(undetermined, None, "#{n}, not settled: {}", asked.literal());
    for (way, (shards, verdict)) in verdicts.into_iter().enumerate() {
        let mut statement = asked.literal();
        if let Verdict::Wrong(_) = &verdict {
            statement += "\n  shorter: ";
            statement += &shorter(world, way, asked);
        }
        tally.add(&format!("#{n} ({manner:?})"), shards, &statement, &verdict);
    }
    outcome
}

/// One PostgreSQL takes two columns that stand for the same one below for equal, which they are not where a grouping set leaves one of
/// them NULL, and sorts by the first alone: the order is then that of its plan.
fn sorts_too_little(sql: &str) -> bool {
    ["GROUPING SETS", "ROLLUP", "CUBE"]
        .iter()
        .any(|word| sql.contains(word))
}

/// Takes words away while the answer stays wrong.
fn shorter(world: &mut World, way: usize, asked: &Asked) -> String {
    let literal = asked.literal();
    let mut words: Vec<&str> = literal.split(' ').collect();
    let mut is_wrong = |words: &[&str]| {
        let asked = Asked::plain(&words.join(" "), Order::None);
        let (expected, verdicts) = world.judge(&asked, Manner::Simple);
        expected.error.is_none()
            && matches!(verdicts[way].1, Verdict::Wrong(_))
            && world
                .undetermined(&asked, Manner::Simple, &expected)
                .is_none()
    };
    let mut size = words.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at + size <= words.len() {
            let rest = [&words[..at], &words[at + size..]].concat();
            if is_wrong(&rest) {
                words = rest;
            } else {
                at += 1;
            }
        }
        size /= 2;
    }
    words.join(" ")
}
