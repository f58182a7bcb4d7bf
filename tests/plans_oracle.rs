//! PostgreSQL as the judge of the planner: random SELECTs over small tables run on one database that holds everything, and,
//! as planned, on three that hold a third each. Whatever is not refused must give the same rows.
//! Needs the server programs of the system's packages; starts a private server.

#[allow(dead_code)] // shared with other tests
#[path = "support/pg.rs"]
mod pg;

use bytes::BytesMut;
use pgshunt::catalog::{Catalog, CatalogBuilder};
use pgshunt::config::{self, Config, Database};
use pgshunt::exec::merge::row::put_columns;
use pgshunt::exec::merge::{self, Combiner, Formats, Run, Step, Stream};
use pgshunt::route::planner::{PlanContext, plan};
use pgshunt::route::{Amount, Combination, Gather, Merge, ParamValue, Targets, Values};
use pgshunt::sql::edit::{Drawn, splice};
use pgshunt::sql::lift::{Lifted, lift};
use pgshunt::wire::frame::header;
use rand::prelude::*;
use rand::rngs::StdRng;
use std::fmt::Write as _;
use std::sync::Arc;
use tokio_postgres::{Client, SimpleQueryMessage};

const MAP: &str = r#"
listen: [{ address: "127.0.0.1:6432" }]
users: [{ name: app, auth: trust }]
databases:
  - name: social
    home: s1
    control: { user: pgshunt, password: x }
    shards: [{ name: s1, primary: "127.0.0.1:1" }, { name: s2, primary: "127.0.0.1:2" }, { name: s3, primary: "127.0.0.1:3" }]
    keyspaces:
      - name: by_user
        type: bigint
        ranges: [{ shard: s1, to: 3 }, { shard: s2, from: 3, to: 6 }, { shard: s3, from: 6 }]
    tables:
      - { name: a, keyspace: by_user, key: k }
      - { name: b, keyspace: by_user, key: k }
      - { name: c, keyspace: by_user, key: k }
    reference_tables: [r]
"#;

const TABLES: &str = "CREATE TABLE a (k bigint NOT NULL, x bigint, t text);
    CREATE TABLE b (k bigint NOT NULL, x bigint, t text);
    CREATE TABLE c (k bigint NOT NULL, x bigint, t text);
    CREATE TABLE r (k bigint, x bigint, t text);
    CREATE VIEW va AS SELECT k, x, t FROM a WHERE x IS NOT NULL;
    CREATE VIEW vg AS SELECT k, count(*) AS x, min(t) AS t FROM b GROUP BY k;";

fn catalog() -> Catalog {
    let columns = [("k", "bigint"), ("x", "bigint"), ("t", "text")];
    let va = "SELECT a.k, a.x, a.t FROM public.a WHERE (a.x IS NOT NULL);";
    let vg = "SELECT b.k, count(*) AS x, min(b.t) AS t FROM public.b GROUP BY b.k;";
    CatalogBuilder::new()
        .table("a", &columns, &[])
        .table("b", &columns, &[])
        .table("c", &columns, &[])
        .table("r", &columns, &[])
        .view("va", &columns, va, &["a"])
        .view("vg", &columns, vg, &["b"])
        .build()
}

/// Random statements. Aliases are `q0`, `q1`, …; those in `seen` may be named.
struct Maker {
    random: StdRng,
    next: usize,
}

impl Maker {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.random_range(0..from.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn column(&mut self, seen: &[String]) -> String {
        let relation = &seen[self.random.random_range(0..seen.len())];
        let name = if self.chance(75) { "k" } else { "x" };
        format!("{relation}.{name}")
    }

    fn condition(&mut self, seen: &[String], depth: u32) -> String {
        let column = self.column(seen);
        let number = self.random.random_range(0..8);
        match self.random.random_range(0..24) {
            19 => format!("{column} {} {number}", self.pick(&["<", "<=", ">", ">="])),
            20 => format!("{number} {} {column}", self.pick(&["<", "<=", ">", ">="])),
            21 => format!(
                "{column} {}BETWEEN {number} AND {}",
                self.pick(&["", "", "", "NOT "]),
                self.random.random_range(0..9)
            ),
            22 => format!(
                "({column} > {number} AND {} OR {column} < {})",
                self.condition(seen, 0),
                self.random.random_range(0..8)
            ),
            23 => format!(
                "({column}, {}) {} ({number}, 3)",
                self.column(seen),
                self.pick(&["<", "<=", ">", ">="])
            ),
            16 => format!(
                "({column} = {number} AND {} OR {column} = {} AND {})",
                self.condition(seen, 0),
                self.random.random_range(0..8),
                self.condition(seen, 0)
            ),
            17 => {
                let (one, other) = (self.column(seen), self.column(seen));
                format!(
                    "({one} = {other} AND {} OR {} AND {other} = {one})",
                    self.condition(seen, 0),
                    self.condition(seen, 0)
                )
            }
            18 => format!("{column} IS NOT DISTINCT FROM {number}"),
            0..=4 => format!("{column} = {number}"),
            5..=8 => format!("{column} = {}", self.column(seen)),
            9 => format!("{column} IN ({number}, {})", self.random.random_range(0..8)),
            10 => format!("({column} = {number} OR {})", self.condition(seen, depth)),
            11 => format!("NOT ({})", self.condition(seen, depth)),
            12 if depth > 0 => {
                let not = self.pick(&["", "NOT "]);
                format!(
                    "{column} {not}IN (SELECT k FROM ({}) i)",
                    self.query(seen, depth - 1)
                )
            }
            13 if depth > 0 => {
                let not = self.pick(&["", "NOT "]);
                format!("{not}EXISTS ({})", self.query(seen, depth - 1))
            }
            14 if depth > 0 => format!(
                "{column} = (SELECT max(k) FROM ({}) i)",
                self.query(seen, depth - 1)
            ),
            15 => format!("{column} IS NOT NULL"),
            _ => format!("({column}, {}) = ({number}, {number})", self.column(seen)),
        }
    }

    fn conditions(&mut self, seen: &[String], depth: u32) -> String {
        let mut text = self.condition(seen, depth);
        while self.chance(45) {
            write!(text, " AND {}", self.condition(seen, depth)).unwrap();
        }
        text
    }

    fn having(&mut self) -> String {
        let number = self.random.random_range(0..8);
        match self.random.random_range(0..4) {
            0 => format!("k = {number}"),
            1 => format!("k IN ({number}, 3) AND count(*) > 0"),
            2 => format!("(k = {number} OR count(*) > 1)"),
            _ => format!("max(x) = {number} AND k = max(k)"),
        }
    }

    /// Gives columns k, x and t.
    fn relation(&mut self, depth: u32) -> (String, String) {
        let alias = format!("q{}", self.next);
        self.next += 1;
        let text = match self.random.random_range(0..14) {
            12 if depth > 0 => format!(
                "(SELECT k, count(*) AS x, min(t) AS t FROM ({}) g GROUP BY k HAVING {}) {alias}",
                self.query(&[], depth - 1),
                self.having()
            ),
            13 if depth > 0 => format!(
                "(SELECT k, row_number() OVER (PARTITION BY {} ORDER BY x, t, k) AS x, t FROM ({}) g) {alias}",
                self.pick(&["k", "k", "k, t", "x"]),
                self.query(&[], depth - 1)
            ),
            0 if depth > 0 => format!("({}) {alias}", self.query(&[], depth - 1)),
            1 if depth > 0 => format!(
                "(SELECT k, count(*) AS x, min(t) AS t FROM ({}) g GROUP BY k) {alias}",
                self.query(&[], depth - 1)
            ),
            2 if depth > 0 => format!(
                "(SELECT DISTINCT k, x, t FROM ({}) g) {alias}",
                self.query(&[], depth - 1)
            ),
            3 if depth > 0 => {
                let set = self.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
                format!(
                    "({} {set} {}) {alias}",
                    self.query(&[], depth - 1),
                    self.query(&[], depth - 1)
                )
            }
            4 if depth > 0 => format!(
                "(SELECT * FROM ({}) g ORDER BY k, x, t LIMIT 2) {alias}",
                self.query(&[], depth - 1)
            ),
            5 => format!("r {alias}"),
            6 => format!("va {alias}"),
            7 => format!("vg {alias}"),
            _ => format!("{} {alias}", self.pick(&["a", "b", "c"])),
        };
        (text, alias)
    }

    fn from(&mut self, depth: u32) -> (String, Vec<String>) {
        let (mut text, first) = self.relation(depth);
        let mut seen = vec![first];
        while self.chance(45) && seen.len() < 4 {
            let (relation, alias) = self.relation(depth);
            seen.push(alias);
            let join = self.pick(&[
                "JOIN",
                "LEFT JOIN",
                "RIGHT JOIN",
                "FULL JOIN",
                "JOIN",
                "LEFT JOIN",
                ",",
            ]);
            if join == "," && !text.contains("JOIN") {
                write!(text, ", {relation}").unwrap();
                continue;
            }
            let join = if join == "," { "JOIN" } else { join };
            let left = seen[seen.len() - 2].clone();
            let right = seen[seen.len() - 1].clone();
            // without comma items left of it, every relation of the list may be named
            let visible: Vec<String> = if text.contains(", ") {
                vec![right.clone()]
            } else {
                seen.clone()
            };
            let mut on = format!("{left}.k = {right}.k");
            if !visible.contains(&left) || self.chance(25) {
                on = self.condition(&visible, 0);
            }
            if self.chance(30) && join != "FULL JOIN" {
                write!(
                    on,
                    " AND {}",
                    self.conditions(&visible, depth.saturating_sub(1))
                )
                .unwrap();
            }
            write!(text, " {join} {relation} ON {on}").unwrap();
        }
        (text, seen)
    }

    fn query(&mut self, outer: &[String], depth: u32) -> String {
        let (from, mut seen) = self.from(depth);
        let (k, x) = (self.column(&seen), self.column(&seen));
        seen.extend_from_slice(outer);
        let mut text = format!("SELECT {k} AS k, {x} AS x, {}.t AS t FROM {from}", seen[0]);
        if self.chance(80) {
            write!(text, " WHERE {}", self.conditions(&seen, depth)).unwrap();
        }
        text
    }

    /// Order, numbers, groups on top of a FROM as above.
    fn on_top(&mut self, depth: u32) -> String {
        let (from, seen) = self.from(depth);
        let mut rest = format!("FROM {from}");
        if self.chance(50) {
            write!(rest, " WHERE {}", self.conditions(&seen, depth)).unwrap();
        }
        let (k, x) = (self.column(&seen), self.column(&seen));
        let first = &seen[0];
        match self.random.random_range(0..9) {
            0 => format!("SELECT {k} AS a, {x} AS b {rest} ORDER BY a DESC, b, 1"),
            1 => format!("SELECT {k} AS a, {x} AS b {rest} ORDER BY 1, 2 LIMIT 4 OFFSET 1"),
            2 => format!("SELECT {first}.t {rest} LIMIT 3"),
            3 => format!("SELECT DISTINCT {k} AS k, {x} AS x {rest}"),
            4 => format!(
                "SELECT count(*), count({x}), sum({x}), avg({k}), min({x}), max({k}), count(DISTINCT {k}) {rest}"
            ),
            5 => format!("SELECT {k} AS k, count(*), avg({x}), max({x}) {rest} GROUP BY {k}"),
            6 => format!("SELECT {x} AS g, sum({k}) AS s {rest} GROUP BY 1 ORDER BY s DESC, g"),
            7 => format!(
                "SELECT {k} AS k, string_agg({first}.t, '' ORDER BY {first}.t) {rest} GROUP BY {k}, {x} HAVING count(*) > 1"
            ),
            _ => format!(
                "SELECT {k} AS k, {x} AS x, count(*) OVER (PARTITION BY {k}) {rest} ORDER BY 1, 2"
            ),
        }
    }

    fn statement(&mut self) -> String {
        self.next = 0;
        let depth = self.random.random_range(0..3);
        if self.chance(40) {
            return self.on_top(depth);
        }
        let query = self.query(&[], depth);
        match self.random.random_range(0..10) {
            0 => format!("SELECT count(*) FROM ({query}) s"),
            1 => format!(
                "SELECT k, count(*) FROM ({query}) s WHERE k = {} GROUP BY k",
                self.random.random_range(0..8)
            ),
            2 => {
                let name = self.pick(&["a", "b", "m"]);
                let number = self.random.random_range(0..8);
                format!(
                    "WITH {name} AS ({query}) SELECT u.k, v.x FROM {name} u, {name} v WHERE u.k = v.k AND u.k = {number}"
                )
            }
            3 => format!("{query} UNION ALL {}", self.query(&[], depth)),
            4 => format!("SELECT s.k, (SELECT count(*) FROM b z WHERE z.k = s.k) FROM ({query}) s"),
            5 => format!(
                "SELECT s.k, l.n FROM ({query}) s, LATERAL (SELECT count(*) AS n FROM c z WHERE z.k = s.k) l"
            ),
            _ => query,
        }
    }
}

async fn connect(port: u16, database: &str) -> Client {
    pg::connect(port, "postgres", database).await
}

type Row = Vec<Option<String>>;

async fn rows(client: &Client, sql: &str) -> Result<Vec<Row>, String> {
    let messages = client
        .simple_query(sql)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(
            (0..row.len())
                .map(|n| row.get(n).map(str::to_owned))
                .collect(),
        ),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

struct Cluster {
    whole: Client,
    shards: Vec<Client>,
    /// what is gathered from several shards, by these
    gathered: Vec<(Vec<usize>, Client)>,
}

async fn cluster(port: u16) -> Cluster {
    let admin = connect(port, "postgres").await;
    for name in ["whole", "s1", "s2", "s3", "s01", "s02", "s12", "s012"] {
        admin
            .simple_query(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
    }
    let whole = connect(port, "whole").await;
    let mut shards = Vec::new();
    for name in ["s1", "s2", "s3"] {
        shards.push(connect(port, name).await);
    }
    let mut gathered = Vec::new();
    for of in [vec![0, 1], vec![0, 2], vec![1, 2], vec![0, 1, 2]] {
        let name: String = of.iter().map(usize::to_string).collect();
        gathered.push((of, connect(port, &format!("s{name}")).await));
    }
    let together = gathered.iter().map(|(_, client)| client);
    for client in shards.iter().chain([&whole]).chain(together) {
        client.simple_query(TABLES).await.unwrap();
    }
    for (_, together) in &gathered {
        for table in ["a", "b", "c"] {
            let sql = format!("ALTER TABLE {table} ALTER k DROP NOT NULL");
            together.simple_query(&sql).await.unwrap();
        }
    }
    let mut random = StdRng::seed_from_u64(7);
    for table in ["a", "b", "c", "r"] {
        for _ in 0..14 {
            let key = random.random_range(0..8_i64);
            let x = if random.random_bool(0.2) {
                "NULL".to_owned()
            } else {
                random.random_range(0..8).to_string()
            };
            let insert = format!(
                "INSERT INTO {table} VALUES ({key}, {x}, '{}')",
                random.random_range(0..3)
            );
            whole.simple_query(&insert).await.unwrap();
            for (n, shard) in shards.iter().enumerate() {
                if table == "r" || n as i64 == (key / 3).min(2) {
                    shard.simple_query(&insert).await.unwrap();
                }
            }
            for (of, together) in &gathered {
                if table == "r" || of.contains(&((key / 3).min(2) as usize)) {
                    together.simple_query(&insert).await.unwrap();
                }
            }
        }
    }
    Cluster {
        whole,
        shards,
        gathered,
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

/// Where a statement goes, and how its rows are put together.
struct Targeted {
    shards: Vec<usize>,
    /// as each shard is asked it
    text: String,
    combination: Option<Arc<Combination>>,
    /// what makes copies of whole tables to what would be brought
    gathered: Option<String>,
}

/// None when it is refused.
fn targets(sql: &str, config: &Config, catalog: &Catalog) -> Option<Targeted> {
    let mut lifted = Lifted::default();
    lift(sql.as_bytes(), true, &mut lifted);
    let search_path = ["public".to_owned()];
    let context = PlanContext {
        catalog,
        database: &config.databases[0],
        search_path: &search_path,
        standard_conforming_strings: true,
        declared: &[],
        forced_shard: None,
        parsed_bytes_max: 1 << 20,
        same_encoding: true,
    };
    let planned = plan(sql.as_bytes(), &lifted, context).ok()?;
    let statement = &planned.statements[0];
    if statement.refusal.is_some() {
        return None;
    }
    let mut targeted = Targeted {
        shards: Vec::new(),
        text: sql.to_owned(),
        combination: None,
        gathered: None,
    };
    targeted.shards = match statement
        .resolve(&Literals(sql.as_bytes(), &lifted), &config.databases[0])
        .ok()?
    {
        Targets::None => vec![1],
        Targets::One(shard) => vec![shard.index()],
        Targets::Many(_) if statement.multi_refusal.is_some() => return None,
        Targets::Many(shards) => {
            match &statement.merge {
                Merge::Combine(made) => {
                    let none = Drawn::Literals(&[]);
                    let slots = &lifted.slots;
                    let edited = splice(sql.as_bytes(), slots, 0..sql.len(), &made.edits, none);
                    targeted.text = String::from_utf8(edited.unwrap()).unwrap();
                    targeted.combination = Some(made.clone());
                }
                Merge::Gather(gather) => {
                    let values = Literals(sql.as_bytes(), &lifted);
                    targeted.gathered = Some(brought(gather, &values, &config.databases[0]));
                }
                merge => assert_eq!(*merge, Merge::Concatenate, "{sql}"),
            }
            shards.iter().map(|shard| shard.index()).collect()
        }
    };
    Some(targeted)
}

/// The rows of several shards, combined as pgshunt combines them.
fn combined(made: &Arc<Combination>, answers: Vec<Vec<Row>>) -> Vec<Row> {
    let fixed = |amount| match amount {
        Some(Amount::Fixed(rows)) => Some(rows),
        _ => None,
    };
    let run = Run {
        made: made.clone(),
        formats: Formats::AllText,
        limit: fixed(made.limit),
        offset: fixed(made.offset).unwrap_or(0),
        unedited: None,
    };
    let stream = |rows: Vec<Row>| {
        let mut buffer = BytesMut::new();
        for row in rows {
            let columns: Vec<_> = row
                .iter()
                .map(|c| c.as_ref().map(String::as_bytes))
                .collect();
            put_columns(&mut buffer, columns.into_iter());
        }
        Stream {
            buffer,
            ended: true,
        }
    };
    let mut streams: Vec<Stream> = answers.into_iter().map(stream).collect();
    let mut combiner = Combiner::new(Arc::new(run), streams.len(), 1 << 20);
    let mut out = BytesMut::new();
    let step = combiner.step(&mut streams, &mut out, usize::MAX);
    assert_eq!(step, Ok(Step::Done));
    let mut rows = Vec::new();
    while let Ok(Some(head)) = header(&out, usize::MAX) {
        let frame = out.split_to(head.len);
        let row = merge::row::Row::read(&frame).unwrap();
        let text = |c: Option<&[u8]>| c.map(|c| String::from_utf8(c.to_vec()).unwrap());
        rows.push(row.columns.iter().copied().map(text).collect());
    }
    rows
}

/// Rows and columns that are not gathered are not there.
fn brought(gather: &Gather, values: &dyn Values, database: &Database) -> String {
    let mut sql = String::from("BEGIN;");
    for (table, part) in gather.tables.iter().zip(gather.parts(values, database)) {
        let name = &table.table.name;
        if let Some(condition) = part.condition {
            let _ = write!(sql, "DELETE FROM {name} WHERE ({condition}) IS NOT TRUE;");
        }
        if let Some(shards) = part.shards {
            let here: Vec<String> = shards.iter().map(|shard| shard.0.to_string()).collect();
            let array = here.join(",");
            let _ = write!(
                sql,
                "DELETE FROM {name} WHERE width_bucket(k, ARRAY[3, 6]::bigint[]) <> ALL ('{{{array}}}');"
            );
        }
        for column in ["k", "x", "t"] {
            if !table.columns.iter().any(|c| c == column) {
                let _ = write!(sql, "UPDATE {name} SET {column} = NULL;");
            }
        }
    }
    sql
}

#[tokio::test]
async fn what_is_not_refused_gives_what_one_postgres_gives() {
    let servers = pg::start(1, &[]);
    let cluster = cluster(servers.servers[0].port).await;
    let (config, catalog) = (config::parse(MAP, "map.yaml").unwrap(), catalog());
    let seed = std::env::var("PGSHUNT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let count = std::env::var("PGSHUNT_CASES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(2_500);
    let mut maker = Maker {
        random: StdRng::seed_from_u64(seed),
        next: 0,
    };
    let (mut ran, mut several, mut put_together, mut refused, mut seen) = (0, 0, 0, 0, 0_usize);
    for _ in 0..count {
        let sql = maker.statement();
        let Some(targeted) = targets(&sql, &config, &catalog) else {
            refused += 1;
            continue;
        };
        // these are many, and slow
        seen += usize::from(targeted.gathered.is_some());
        if targeted.gathered.is_some() && seen % 8 != 0 {
            continue;
        }
        let Ok(mut expected) = rows(&cluster.whole, &sql).await else {
            continue;
        };
        let mut answers = Vec::new();
        let mut failed = None;
        let servers: Vec<&Client> = if let Some(brought) = &targeted.gathered {
            let of = cluster
                .gathered
                .iter()
                .find(|(of, _)| *of == targeted.shards);
            let together = &of.unwrap().1;
            together.simple_query(brought).await.unwrap();
            vec![together]
        } else {
            targeted
                .shards
                .iter()
                .map(|&shard| &cluster.shards[shard])
                .collect()
        };
        for server in servers {
            match rows(server, &targeted.text).await {
                Ok(rows) => answers.push(rows),
                Err(error) => failed = Some(error),
            }
        }
        if targeted.gathered.is_some() {
            let of = cluster
                .gathered
                .iter()
                .find(|(of, _)| *of == targeted.shards);
            of.unwrap().1.simple_query("ROLLBACK").await.unwrap();
        }
        assert_eq!(failed, None, "{sql}");
        let mut found = match &targeted.combination {
            Some(made) => combined(made, answers),
            None => answers.concat(),
        };
        let limited = targeted
            .combination
            .as_ref()
            .is_some_and(|made| made.limit.is_some());
        expected.sort();
        found.sort();
        if limited && !sql.contains("ORDER BY") {
            assert_eq!(found.len(), expected.len(), "{sql}");
        } else {
            assert_eq!(found, expected, "on shards {:?}: {sql}", targeted.shards);
        }
        ran += 1;
        several += usize::from(targeted.shards.len() > 1 && targeted.gathered.is_none());
        put_together += usize::from(targeted.combination.is_some());
    }
    eprintln!(
        "{ran} ran, {several} of them on several shards, {put_together} put together; {refused} refused"
    );
    assert!(ran > count / 20 && several > 10, "{ran} {several}");
}
