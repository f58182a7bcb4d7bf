//! Plan cases: `tests/plans/*.txt` hold a comment, a statement and the plan it must get. No server is needed: the shard
//! map and the catalog are below. `PGSHUNT_REWRITE_PLANS=1 cargo test --test plans` writes what the planner says now; read
//! the difference before it is committed.

use pgshunt::catalog::{Catalog, CatalogBuilder, ColumnDefault, QualifiedName, Volatility};
use pgshunt::config::{self, Config, Database};
use pgshunt::route::planner::{PlanContext, plan};
use pgshunt::route::{ParamValue, Plan, Targets, Values};
use pgshunt::shard::ShardId;
use pgshunt::sql::lift::{Lifted, lift};
use std::fmt::Write as _;
use std::path::Path;

const MAP: &str = r#"
listen: [{ address: "127.0.0.1:6432" }]
users: [{ name: app, auth: trust }]
databases:
  - name: social
    home: s1
    control: { user: pgshunt, password: x }
    shards:
      - { name: s1, primary: "127.0.0.1:1" }
      - { name: s2, primary: "127.0.0.1:2" }
      - { name: s3, primary: "127.0.0.1:3" }
    keyspaces:
      - name: by_user
        type: bigint
        ranges:
          - { shard: s1, to: 100 }
          - { shard: s2, from: 100, to: 200 }
          - { shard: s3, from: 200 }
      - name: by_region
        type: [text, integer]
        hash: { buckets: 64 }
      - name: by_device
        type: uuid
        hash: { buckets: 64 }
      - name: by_time
        type: timestamptz
        hash: { buckets: 64 }
      - name: by_code
        type: text
        list:
          - { shard: s1, values: [de, at] }
          - { shard: s2, values: ["no", se] }
    tables:
      - { name: users, keyspace: by_user, key: id }
      - { name: accounts, keyspace: by_user, key: id }
      - { name: posts, keyspace: by_user, key: user_id }
      - { name: likes, keyspace: by_user, key: user_id }
      - { name: follows, keyspace: by_user, key: user_id }
      - { name: secured, keyspace: by_user, key: user_id }
      - { name: events, keyspace: by_user, key: user_id }
      - { name: orders, keyspace: by_region, key: [region, customer] }
      - { name: items, keyspace: by_region, key: [region, customer] }
      - { name: readings, keyspace: by_device, key: device }
      - { name: ticks, keyspace: by_time, key: at }
      - { name: cities, keyspace: by_code, key: code }
      - { name: unborn, keyspace: by_user, key: id }
    reference_tables: [countries, currencies, stamps]
    functions:
      slugify: pure
      nightly_report: home
"#;

fn config() -> Config {
    config::parse(MAP, "map.yaml").unwrap()
}

fn catalog() -> Catalog {
    let always = ColumnDefault::IdentityAlways(QualifiedName::new("public", "accounts_id_seq"));
    let view = "SELECT users.id, users.name FROM public.users WHERE users.name IS NOT NULL;";
    let totals = "SELECT posts.user_id, count(*) AS n FROM public.posts GROUP BY posts.user_id;";
    CatalogBuilder::new()
        .table("users", &[("id", "bigint"), ("name", "text"), ("country", "text"), ("age", "integer")], &["id"])
        .serial("users", "id")
        .table("accounts", &[("id", "bigint"), ("name", "text")], &["id"])
        .default("accounts", "id", always)
        .table("posts", &[("id", "bigint"), ("user_id", "bigint"), ("body", "text"), ("score", "double precision"), ("created", "timestamptz")], &["id"])
        .serial("posts", "id")
        .default("posts", "created", ColumnDefault::Volatile)
        .table("likes", &[("user_id", "bigint"), ("post_id", "bigint")], &["user_id", "post_id"])
        .table("follows", &[("user_id", "bigint"), ("followed", "bigint")], &["user_id", "followed"])
        .table("secured", &[("user_id", "bigint"), ("secret", "text")], &["user_id"])
        .alter("secured", |relation| relation.has_row_security = true)
        .table("events", &[("user_id", "bigint"), ("what", "text")], &["user_id"])
        .alter("events", |relation| relation.unlogged = true)
        .table("events_2024", &[("user_id", "bigint"), ("what", "text")], &["user_id"])
        .alter("events_2024", |relation| relation.parents = vec![QualifiedName::new("public", "events")])
        .table("orders", &[("region", "text"), ("customer", "integer"), ("total", "numeric")], &["region", "customer"])
        .table("items", &[("region", "text"), ("customer", "integer"), ("sku", "text")], &["region", "customer"])
        .table("readings", &[("device", "uuid"), ("value", "double precision")], &["device"])
        .table("ticks", &[("at", "timestamptz"), ("value", "double precision")], &["at"])
        .table("cities", &[("code", "text"), ("name", "text")], &["code"])
        .table("countries", &[("code", "text"), ("name", "text")], &["code"])
        .table("currencies", &[("code", "text"), ("rate", "numeric"), ("updated", "timestamptz")], &["code"])
        .default("currencies", "updated", ColumnDefault::Volatile)
        .table("stamps", &[("id", "bigint"), ("name", "text")], &["id"])
        .serial("stamps", "id")
        .table("audit", &[("id", "bigint"), ("user_id", "bigint"), ("what", "text")], &["id"])
        .table("jobs", &[("id", "bigint"), ("payload", "jsonb")], &["id"])
        .table("pg_catalog.pg_class", &[("oid", "oid"), ("relname", "name")], &["oid"])
        .view("named_users", &[("id", "bigint"), ("name", "text")], view, &["users"])
        .view("post_counts", &[("user_id", "bigint"), ("n", "bigint")], totals, &["posts"])
        .view("country_names", &[("name", "text")], "SELECT countries.name FROM public.countries;", &["countries"])
        .view("open_jobs", &[("id", "bigint")], "SELECT jobs.id FROM public.jobs;", &["jobs"])
        .function("slugify", Volatility::Immutable, 1)
        .function("nightly_report", Volatility::Volatile, 0)
        .function("user_feed", Volatility::Stable, 1)
        .function("my_report", Volatility::Stable, 0)
        .function("tricky", Volatility::Volatile, 1)
        .function("full_name", Volatility::Stable, 1)
        .user_type("mood")
        .build()
}

/// The literals of the text itself; no parameters.
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

struct World {
    config: Config,
    catalog: Catalog,
    search_path: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self { config: config(), catalog: catalog(), search_path: vec!["public".to_owned()] }
    }

    fn database(&self) -> &Database {
        &self.config.databases[0]
    }

    fn context<'a>(&'a self, declared: &'a [u32]) -> PlanContext<'a> {
        PlanContext {
            catalog: &self.catalog,
            database: self.database(),
            search_path: &self.search_path,
            standard_conforming_strings: true,
            declared,
            forced_shard: None,
            parsed_bytes_max: 1 << 20,
        }
    }

    /// One line a statement: the plan, and the shards that the text's own literals lead to.
    fn outcome(&self, sql: &str, declared: &[u32]) -> String {
        let mut lifted = Lifted::default();
        lift(sql.as_bytes(), true, &mut lifted);
        let planned = match plan(sql.as_bytes(), &lifted, self.context(declared)) {
            Ok(planned) => planned,
            Err(refusal) => return format!("=> refused {}: {}\n", refusal.code.0, refusal.message),
        };
        let mut lines = String::new();
        for plan in &planned.statements {
            let targets = self.targets(plan, sql, &lifted);
            writeln!(lines, "=> {}{targets}", plan.describe(self.database())).unwrap();
        }
        lines
    }

    fn targets(&self, plan: &Plan, sql: &str, lifted: &Lifted) -> String {
        if plan.refusal.is_some() || sql.contains('$') {
            return String::new();
        }
        let name = |shard: &ShardId| self.database().shards[shard.index()].name.clone();
        match plan.resolve(&Literals(sql.as_bytes(), lifted), self.database()) {
            Ok(Targets::None) => String::new(),
            Ok(Targets::One(shard)) => format!(" -> {}", name(&shard)),
            Ok(Targets::Many(shards)) => format!(" -> {}", shards.iter().map(name).collect::<Vec<_>>().join(", ")),
            Err(refusal) => format!(" -> refused {}: {}", refusal.code.0, refusal.message),
        }
    }
}

struct Case {
    comments: String,
    sql: String,
    expected: String,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let mut case = Case { comments: String::new(), sql: String::new(), expected: String::new() };
        for line in block.lines().filter(|line| !line.is_empty()) {
            let place = match line {
                line if line.starts_with("-- ") && case.sql.is_empty() => &mut case.comments,
                line if line.starts_with("=> ") || line.starts_with("  hint: ") => &mut case.expected,
                _ => &mut case.sql,
            };
            place.push_str(line);
            place.push('\n');
        }
        cases.push(case);
    }
    cases
}

fn declared(comments: &str) -> Vec<u32> {
    let types = comments.lines().find_map(|line| line.strip_prefix("-- declared: ")).unwrap_or_default();
    types.split(", ").filter_map(|oid| oid.parse().ok()).collect()
}

#[test]
fn plan_cases() {
    let world = World::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let rewrite = std::env::var_os("PGSHUNT_REWRITE_PLANS").is_some();
    let mut wrong = String::new();
    let mut count = 0;
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let mut text = String::new();
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            let found = world.outcome(case.sql.trim_end(), &declared(&case.comments));
            if found != case.expected && !rewrite {
                writeln!(wrong, "{}:\n{}{}expected\n{}found\n{found}", path.display(), case.comments, case.sql, case.expected).unwrap();
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{}{}{found}", case.comments, case.sql));
        }
        if rewrite {
            std::fs::write(&path, text).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 150, "only {count} cases");
}
