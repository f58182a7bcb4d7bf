//! The same statements at one Postgres and through pgshunt over two shards: rows, columns, types, tags and SQLSTATEs are
//! equal, or pgshunt refuses with 0A000 and a hint. Never a silent difference. The statements are random, from a seed that is
//! printed; `PGSHUNT_SEED` repeats a run, `PGSHUNT_STATEMENTS` makes it longer.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod statements;
    pub mod town;
}

use std::collections::BTreeMap;
use support::cluster::Proxy;
use support::raw::{Answer, Column, Raw};
use support::statements::{Statement, Statements};
use support::town::{Dice, Town};

const TABLES: &str = "\
keyspaces:
  - name: by_user
    type: bigint
    hash: { buckets: 64 }
tables:
  - { name: users, keyspace: by_user, key: id }
  - { name: posts, keyspace: by_user, key: user_id }
reference_tables: [countries]
";

const SCHEMA: &str = "\
CREATE TABLE users (id bigint PRIMARY KEY, name text, country text, age int, score numeric(10,2), born date, joined timestamptz);
CREATE TABLE posts (user_id bigint, id bigint, title text NOT NULL, likes int, PRIMARY KEY (user_id, id));
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE notes (id int PRIMARY KEY, user_id bigint, body text);";

#[test]
fn one_postgres_and_two_shards_never_differ_silently() {
    let seed = number("PGSHUNT_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
    let count = number("PGSHUNT_STATEMENTS").unwrap_or(800);
    println!("seed {seed}, {count} statements (PGSHUNT_SEED={seed} repeats them)");
    let town = Town::start("differential", 2, 1);
    town.superuser(0, 0, "postgres")
        .ask("CREATE DATABASE plain OWNER app")
        .ok();
    let mut plain = Raw::connect(town.port(0, 0), "app", "plain").expect("the one Postgres");
    plain.ask(SCHEMA).ok();
    town.on_primaries(SCHEMA);
    town.catch_up();
    let proxy = Proxy::start(&town.cluster.map_with(TABLES));
    let sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    let mut pair = Pair {
        plain,
        sharded,
        refused: 0,
        compared: 0,
        answered: 0,
        refusals: BTreeMap::new(),
        differences: Vec::new(),
        in_block: false,
    };
    pair.load();
    let mut statements = Statements::new(seed);
    let mut dice = Dice(seed ^ 0xb10c);
    for n in 0..count {
        if dice.chance(5) {
            pair.toggle_block(&mut dice);
        }
        let statement = statements.next();
        pair.run(n, &statement, dice.below(3));
    }
    pair.end_block("COMMIT");
    pair.compare_tables(&town);
    pair.report();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Pair {
    plain: Raw,
    sharded: Raw,
    refused: usize,
    compared: usize,
    /// compared, and no error
    answered: usize,
    /// message, how often, and one statement
    refusals: BTreeMap<String, (usize, String)>,
    differences: Vec<String>,
    in_block: bool,
}

impl Pair {
    fn load(&mut self) {
        for id in 1..=40 {
            let country = ["'de'", "'fr'", "'pe'", "'xx'", "NULL"][id % 5];
            self.both(&format!(
                "INSERT INTO users VALUES ({id}, 'user {id}', {country}, {}, {}.50, '2000-01-{:02}', '2024-01-01 00:00:00+00')",
                20 + id % 7,
                id % 9,
                1 + id % 28
            ));
            for post in 1..=(id % 4) {
                self.both(&format!(
                    "INSERT INTO posts VALUES ({id}, {post}, 'post {post} of {id}', {})",
                    (id * post) % 6
                ));
            }
        }
        self.both("INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France'), ('pe', 'Peru'), ('zz', 'Nowhere')");
        for id in 1..=5 {
            self.both(&format!(
                "INSERT INTO notes VALUES ({id}, {}, 'note {id}')",
                id * 3
            ));
        }
    }

    fn both(&mut self, sql: &str) {
        let through = self.sharded.ask(sql).ok();
        let direct = self.plain.ask(sql).ok();
        assert_eq!(through.tags, direct.tags, "{sql}");
    }

    fn toggle_block(&mut self, dice: &mut Dice) {
        if self.in_block {
            self.end_block(dice.one(&["COMMIT", "COMMIT", "ROLLBACK"]));
        } else {
            self.both(dice.one(&[
                "BEGIN",
                "BEGIN ISOLATION LEVEL REPEATABLE READ",
                "START TRANSACTION",
            ]));
            self.in_block = true;
        }
    }

    fn end_block(&mut self, how: &str) {
        if self.in_block {
            self.both(how);
            self.in_block = false;
        }
    }

    fn run(&mut self, n: u64, statement: &Statement, way: u64) {
        let through = ask(&mut self.sharded, statement, way);
        if through.code() == "0A000" {
            self.refused += 1;
            let error = through.error.as_ref().expect("an error");
            self.refusals
                .entry(error.message.clone())
                .or_insert_with(|| (0, statement.literal()))
                .0 += 1;
            if error.hint.is_empty() {
                self.differences.push(format!(
                    "#{n} a refusal without a hint: {}\n  {error:?}",
                    statement.literal()
                ));
            }
            // the reference has not seen it, so the block is over on both sides
            self.end_block("ROLLBACK");
            return;
        }
        let direct = ask(&mut self.plain, statement, way);
        self.compared += 1;
        self.answered += usize::from(direct.error.is_none());
        if let Some(difference) = difference(&through, &direct, statement.ordered) {
            let how = ["simple", "extended", "extended with parameters"][way as usize];
            self.differences.push(format!(
                "#{n} ({how}) {}\n  {difference}",
                statement.literal()
            ));
        }
        if self.sharded.status != self.plain.status {
            self.differences.push(format!(
                "#{n} status {} here, {} there",
                self.sharded.status, self.plain.status
            ));
        }
        if through.error.is_some() {
            self.end_block("ROLLBACK");
        }
    }

    /// All rows are where they would be, each on one shard only.
    fn compare_tables(&mut self, town: &Town) {
        for table in ["users", "posts"] {
            let sql = format!("SELECT * FROM {table}");
            let mut all: Vec<_> = town
                .on_primaries(&sql)
                .into_iter()
                .flat_map(|a| a.rows)
                .collect();
            let mut expected = self.plain.ask(&sql).ok().rows;
            all.sort();
            expected.sort();
            if all != expected {
                self.differences.push(format!(
                    "at the end, {table} differs:\n  {all:?}\n  {expected:?}"
                ));
            }
        }
        for answer in town.on_primaries("SELECT * FROM countries ORDER BY code") {
            let expected = self
                .plain
                .ask("SELECT * FROM countries ORDER BY code")
                .ok()
                .rows;
            if answer.rows != expected {
                self.differences
                    .push("at the end, countries differs".into());
            }
        }
    }

    fn report(self) {
        for (message, (count, statement)) in &self.refusals {
            println!("{count} refused: {message}\n    {statement}");
        }
        let (compared, answered, refused) = (self.compared, self.answered, self.refused);
        println!(
            "{compared} compared ({answered} without an error), {refused} refused, {} differences",
            self.differences.len()
        );
        let shown = self
            .differences
            .iter()
            .take(20)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            self.differences.is_empty(),
            "{} differences:\n{shown}",
            self.differences.len()
        );
        assert!(
            answered > refused / 2,
            "{answered} answered, {refused} refused"
        );
    }
}

fn ask(raw: &mut Raw, statement: &Statement, way: u64) -> Answer {
    let literal = statement.literal();
    let answer = match way {
        0 => raw.query(&literal),
        1 => raw.extended(&literal, &[], &[]),
        _ => {
            let values: Vec<Option<&str>> = statement.values.iter().map(|v| v.as_deref()).collect();
            raw.extended(&statement.text, &[], &values)
        }
    };
    answer.unwrap_or_else(|error| panic!("{literal}: {error}"))
}

/// Types that users made (rows of tables) have numbers of their own in each database.
fn columns(answer: &Answer) -> Option<Vec<Column>> {
    let mut columns = answer.columns.clone();
    for column in columns
        .iter_mut()
        .flatten()
        .filter(|c| c.type_oid >= 16_384)
    {
        column.type_oid = 16_384;
    }
    columns
}

fn difference(through: &Answer, direct: &Answer, ordered: bool) -> Option<String> {
    if through.code() != direct.code() {
        return Some(format!(
            "error {:?} here, {:?} there",
            through.error, direct.error
        ));
    }
    if through.error.is_some() {
        return None;
    }
    if columns(through) != columns(direct) {
        return Some(format!(
            "columns {:?} here, {:?} there",
            through.columns, direct.columns
        ));
    }
    if through.tags != direct.tags {
        return Some(format!(
            "tags {:?} here, {:?} there",
            through.tags, direct.tags
        ));
    }
    let (mut here, mut there) = (through.rows.clone(), direct.rows.clone());
    if !ordered {
        here.sort();
        there.sort();
    }
    (here != there).then(|| format!("rows {here:?} here, {there:?} there"))
}
