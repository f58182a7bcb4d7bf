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
use support::oracle::{Asked, Manner, Order, Tally, Verdict, World, all_manners};
use support::shop;
use support::town::Dice;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_queries_are_exact_or_refused() {
    let long = std::env::var("PGSHUNT_LONG").is_ok();
    let seed = number("PGSHUNT_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    let count = number("PGSHUNT_QUERIES").unwrap_or(if long { 10_000 } else { 500 });
    println!("PGSHUNT_SEED={seed} PGSHUNT_QUERIES={count} repeats this");
    let ways: &[usize] = if long { &[2, 4] } else { &[2] };
    // an even seed shards by hashes, an odd one by ranges
    let sharded = [shop::setting, shop::ranged][usize::from(seed % 2 == 1)];
    let mut world = World::start(&sharded("generated", ways));
    world.load(&shop::rows());
    world.hurry();
    // another plan, too
    let reversed = &mut world.reversed.raw;
    reversed.ask("SET enable_hashagg = off").ok();
    let manners = all_manners();
    let mut dice = Dice(seed ^ 0x5eed);
    let mut tally = Tally::default();
    let (mut failed, mut heavy) = (0, 0);
    for n in 0..count {
        // each has a seed of its own, so that it can be asked alone
        let asked = Generator::new(seed.wrapping_mul(1_000_003).wrapping_add(n)).next();
        let manner = manners[dice.below(manners.len() as u64) as usize];
        let (expected, verdicts) = world.judge(&asked, manner);
        if verdicts.is_empty() {
            heavy += 1;
            continue;
        }
        failed += usize::from(expected.error.is_some());
        if let Some(error) = &expected.error {
            println!(
                "#{n} {}: {}\n    {}",
                error.code,
                error.message,
                asked.literal()
            );
        }
        let undetermined = world.undetermined(&asked, manner, &expected);
        if undetermined.is_some() && sorts_too_little(&asked.literal()) {
            heavy += 1;
            continue;
        }
        assert_eq!(undetermined, None, "#{n}, not settled: {}", asked.literal());
        for (way, (shards, verdict)) in verdicts.into_iter().enumerate() {
            let mut statement = asked.literal();
            if let Verdict::Wrong(_) = &verdict {
                statement += "\n  shorter: ";
                statement += &shorter(&mut world, way, &asked);
            }
            tally.add(&format!("#{n} ({manner:?})"), shards, &statement, &verdict);
        }
    }
    println!("of {count}, {failed} fail at one Postgres, too, {heavy} are too much for it");
    assert!(
        (failed + heavy) * 20 <= count as usize,
        "{failed} of {count} queries fail"
    );
    tally.show("random queries");
    tally.require("random queries", support::bounds::GENERATED);
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
