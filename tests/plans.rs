//! Plan cases: `tests/plans/*.txt` hold a comment, a statement and the plan it must get. No server is needed: the shard
//! map and the catalog are below. `PGSHUNT_REWRITE_PLANS=1 cargo test --test plans` writes what the planner says now; read
//! the difference before it is committed.

use pgshunt::catalog::{Catalog, CatalogBuilder, ColumnDefault, QualifiedName, Volatility};
use pgshunt::config::{self, Config, Database};
use pgshunt::route::planner::{PlanContext, plan};
use pgshunt::route::{Drawn, ParamValue, Plan, Targets, Values};
use pgshunt::shard::ShardId;
use pgshunt::sql::edit::splice;
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
      - name: by_word
        type: text
        ranges:
          - { shard: s1, to: h }
          - { shard: s2, from: h, to: q }
          - { shard: s3, from: q }
      - name: by_day
        type: date
        ranges:
          - { shard: s1, to: "2024-01-01" }
          - { shard: s2, from: "2024-01-01", to: "2025-01-01" }
      - name: by_price
        type: numeric
        ranges:
          - { shard: s1, to: "9.99" }
          - { shard: s3, from: "9.99" }
    tables:
      - { name: words, keyspace: by_word, key: word }
      - { name: nouns, keyspace: by_word, key: word }
      - { name: days, keyspace: by_day, key: day }
      - { name: offers, keyspace: by_price, key: price }
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
        .table(
            "users",
            &[
                ("id", "bigint"),
                ("name", "text"),
                ("country", "text"),
                ("age", "integer"),
            ],
            &["id"],
        )
        .serial("users", "id")
        .table("accounts", &[("id", "bigint"), ("name", "text")], &["id"])
        .default("accounts", "id", always)
        .table(
            "posts",
            &[
                ("id", "bigint"),
                ("user_id", "bigint"),
                ("body", "text"),
                ("score", "double precision"),
                ("created", "timestamptz"),
            ],
            &["id"],
        )
        .serial("posts", "id")
        .default("posts", "created", ColumnDefault::Volatile)
        .table(
            "likes",
            &[("user_id", "bigint"), ("post_id", "bigint")],
            &["user_id", "post_id"],
        )
        .table(
            "follows",
            &[("user_id", "bigint"), ("followed", "bigint")],
            &["user_id", "followed"],
        )
        .table(
            "secured",
            &[("user_id", "bigint"), ("secret", "text")],
            &["user_id"],
        )
        .alter("secured", |relation| relation.has_row_security = true)
        .table(
            "events",
            &[("user_id", "bigint"), ("what", "text")],
            &["user_id"],
        )
        .alter("events", |relation| relation.unlogged = true)
        .table(
            "events_2024",
            &[("user_id", "bigint"), ("what", "text")],
            &["user_id"],
        )
        .alter("events_2024", |relation| {
            relation.parents = vec![QualifiedName::new("public", "events")];
        })
        .table(
            "orders",
            &[
                ("region", "text"),
                ("customer", "integer"),
                ("total", "numeric"),
            ],
            &["region", "customer"],
        )
        .table(
            "items",
            &[("region", "text"), ("customer", "integer"), ("sku", "text")],
            &["region", "customer"],
        )
        .table(
            "readings",
            &[("device", "uuid"), ("value", "double precision")],
            &["device"],
        )
        .table(
            "ticks",
            &[("at", "timestamptz"), ("value", "double precision")],
            &["at"],
        )
        .table("cities", &[("code", "text"), ("name", "text")], &["code"])
        .table("words", &[("word", "text"), ("said", "bigint")], &["word"])
        .by_bytes("words", "word")
        .table("nouns", &[("word", "text")], &["word"])
        .table("days", &[("day", "date"), ("rain", "integer")], &["day"])
        .table(
            "offers",
            &[("price", "numeric"), ("what", "text")],
            &["price", "what"],
        )
        .table(
            "countries",
            &[("code", "text"), ("name", "text")],
            &["code"],
        )
        .table(
            "currencies",
            &[
                ("code", "text"),
                ("rate", "numeric"),
                ("updated", "timestamptz"),
            ],
            &["code"],
        )
        .default("currencies", "updated", ColumnDefault::Volatile)
        .table("stamps", &[("id", "bigint"), ("name", "text")], &["id"])
        .serial("stamps", "id")
        .table(
            "audit",
            &[("id", "bigint"), ("user_id", "bigint"), ("what", "text")],
            &["id"],
        )
        .table("jobs", &[("id", "bigint"), ("payload", "jsonb")], &["id"])
        .table(
            "pg_catalog.pg_class",
            &[("oid", "oid"), ("relname", "name")],
            &["oid"],
        )
        .view(
            "named_users",
            &[("id", "bigint"), ("name", "text")],
            view,
            &["users"],
        )
        .view(
            "post_counts",
            &[("user_id", "bigint"), ("n", "bigint")],
            totals,
            &["posts"],
        )
        .view(
            "country_names",
            &[("name", "text")],
            "SELECT countries.name FROM public.countries;",
            &["countries"],
        )
        .view(
            "open_jobs",
            &[("id", "bigint")],
            "SELECT jobs.id FROM public.jobs;",
            &["jobs"],
        )
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
        Self {
            config: config(),
            catalog: catalog(),
            search_path: vec!["public".to_owned()],
        }
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
            same_encoding: true,
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
            Ok(Targets::Many(shards)) => format!(
                " -> {}",
                shards.iter().map(name).collect::<Vec<_>>().join(", ")
            ),
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
        let mut case = Case {
            comments: String::new(),
            sql: String::new(),
            expected: String::new(),
        };
        for line in block.lines().filter(|line| !line.is_empty()) {
            let place = match line {
                line if line.starts_with("-- ") && case.sql.is_empty() => &mut case.comments,
                line if line.starts_with("=> ") || line.starts_with("  hint: ") => {
                    &mut case.expected
                }
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
    let types = comments
        .lines()
        .find_map(|line| line.strip_prefix("-- declared: "))
        .unwrap_or_default();
    types
        .split(", ")
        .filter_map(|oid| oid.parse().ok())
        .collect()
}

#[test]
fn plan_cases() {
    let world = World::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let rewrite = std::env::var_os("PGSHUNT_REWRITE_PLANS").is_some();
    let mut wrong = String::new();
    let mut count = 0;
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let mut text = String::new();
        for case in cases(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            let found = world.outcome(case.sql.trim_end(), &declared(&case.comments));
            if found != case.expected && !rewrite {
                writeln!(
                    wrong,
                    "{}:\n{}{}expected\n{}found\n{found}",
                    path.display(),
                    case.comments,
                    case.sql,
                    case.expected
                )
                .unwrap();
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

/// Parameters of one Bind.
struct Params<'a>(Vec<ParamValue<'a>>);

impl Values for Params<'_> {
    fn slot(&self, _: usize) -> Option<&[u8]> {
        None
    }

    fn param(&self, n: usize) -> Option<ParamValue<'_>> {
        self.0.get(n.checked_sub(1)?).copied()
    }
}

fn resolved(sql: &str, declared: &[u32], params: Vec<ParamValue<'_>>) -> String {
    let world = World::new();
    let planned = plan(sql.as_bytes(), &Lifted::default(), world.context(declared)).unwrap();
    let statement = &planned.statements[0];
    assert_eq!(statement.refusal, None, "{sql}");
    match statement.resolve(&Params(params), world.database()) {
        Ok(targets) => format!("{targets:?}"),
        Err(refusal) => refusal.code.0.to_owned(),
    }
}

const ONE: &str = "One(ShardId(1))";
const ALL: &str = "Many([ShardId(0), ShardId(1), ShardId(2)])";

#[test]
fn parameters_in_text_and_binary() {
    let by_id = "SELECT * FROM users WHERE id = $1";
    let wide = 107_i64.to_be_bytes();
    let narrow = 107_i32.to_be_bytes();
    assert_eq!(resolved(by_id, &[], vec![ParamValue::Text(b"107")]), ONE);
    assert_eq!(
        resolved(by_id, &[], vec![ParamValue::Binary(0, &wide)]),
        ONE
    );
    assert_eq!(
        resolved(by_id, &[20], vec![ParamValue::Binary(20, &wide)]),
        ONE
    );
    assert_eq!(
        resolved(by_id, &[23], vec![ParamValue::Binary(23, &narrow)]),
        ONE
    );
    assert_eq!(resolved(by_id, &[], vec![ParamValue::Null]), "None");
    // Postgres words the error
    assert_eq!(
        resolved(by_id, &[], vec![ParamValue::Text(b"x")]),
        "One(ShardId(0))"
    );
    // another type than was planned with narrows nothing
    assert_eq!(
        resolved(
            by_id,
            &[],
            vec![ParamValue::Binary(701, &107_f64.to_be_bytes())]
        ),
        ALL
    );
    assert_eq!(
        resolved(
            "SELECT * FROM users WHERE id = $1::bigint",
            &[25],
            vec![ParamValue::Binary(25, b"107")]
        ),
        ONE
    );
}

#[test]
fn array_parameters() {
    let any = "SELECT name FROM users WHERE id = ANY($1)";
    assert_eq!(
        resolved(any, &[], vec![ParamValue::Text(b"{101,NULL,102}")]),
        ONE
    );
    assert_eq!(resolved(any, &[], vec![ParamValue::Text(b"{}")]), "None");
    assert_eq!(
        resolved(any, &[], vec![ParamValue::Text(b"[0:1]={1,2}")]),
        ALL
    );
    assert_eq!(resolved(any, &[], vec![ParamValue::Null]), "None");
    let mut binary = Vec::new();
    for n in [1_i32, 0, 20, 1, 1, 8] {
        binary.extend(n.to_be_bytes());
    }
    binary.extend(107_i64.to_be_bytes());
    assert_eq!(
        resolved(any, &[1016], vec![ParamValue::Binary(1016, &binary)]),
        ONE
    );
}

#[test]
fn a_null_key_is_not_stored() {
    let insert = "INSERT INTO users (id, name) VALUES ($1, $2)";
    assert_eq!(
        resolved(insert, &[], vec![ParamValue::Null, ParamValue::Null]),
        "23502"
    );
    assert_eq!(
        resolved(
            insert,
            &[],
            vec![ParamValue::Text(b"107"), ParamValue::Null]
        ),
        ONE
    );
}

fn lifted(sql: &str) -> Lifted {
    let mut lifted = Lifted::default();
    lift(sql.as_bytes(), true, &mut lifted);
    lifted
}

#[test]
fn one_plan_serves_other_literals() {
    let world = World::new();
    let first =
        "SELECT * FROM users WHERE id = 7 AND name = 'x'; DELETE FROM posts WHERE user_id = 8";
    let second = "SELECT * FROM users WHERE id = 107 AND name = 'it''s longer'; DELETE FROM posts WHERE user_id = 208";
    let (a, b) = (lifted(first), lifted(second));
    assert_eq!(a.fingerprint, b.fingerprint);
    let planned = plan(first.as_bytes(), &a, world.context(&[])).unwrap();
    let values = Literals(second.as_bytes(), &b);
    let target = |n: usize| {
        planned.statements[n]
            .resolve(&values, world.database())
            .unwrap()
    };
    assert_eq!(
        (target(0), target(1)),
        (Targets::One(ShardId(1)), Targets::One(ShardId(2)))
    );
    let statement = &planned.statements[1];
    let span =
        statement.start.absolute(&b.slots).unwrap()..statement.end.absolute(&b.slots).unwrap();
    assert_eq!(&second[span], "DELETE FROM posts WHERE user_id = 208");
}

/// The text of an INSERT with its drawn keys.
fn drawn(sql: &str, how: Drawn<'_>) -> String {
    let world = World::new();
    let lifted = lifted(sql);
    let planned = plan(sql.as_bytes(), &lifted, world.context(&[])).unwrap();
    let draw = planned.statements[0].draw.as_ref().unwrap();
    String::from_utf8(
        splice(
            sql.as_bytes(),
            &lifted.slots,
            0..sql.len(),
            &draw.edits,
            how,
        )
        .unwrap(),
    )
    .unwrap()
}

#[test]
fn drawn_keys_are_put_in() {
    let cases = [
        (
            "INSERT INTO users (name) VALUES ('a') RETURNING id",
            "INSERT INTO users (\"id\", name) VALUES (5, 'a') RETURNING id",
        ),
        (
            "INSERT INTO users AS u (name) VALUES ('a'), ('b)')",
            "INSERT INTO users AS u (\"id\", name) VALUES (5, 'a'), (6, 'b)')",
        ),
        (
            "INSERT INTO users (name, id) VALUES (upper('a'), DEFAULT)",
            "INSERT INTO users (name, id) VALUES (upper('a'), 5)",
        ),
        (
            "INSERT INTO users VALUES (DEFAULT, 'a')",
            "INSERT INTO users VALUES (5, 'a')",
        ),
        (
            "INSERT INTO users DEFAULT VALUES RETURNING id",
            "INSERT INTO users (\"id\") VALUES (5) RETURNING id",
        ),
        (
            "INSERT INTO accounts DEFAULT VALUES",
            "INSERT INTO accounts (\"id\") OVERRIDING SYSTEM VALUE VALUES (5)",
        ),
        (
            "INSERT INTO accounts (name) VALUES ('a')",
            "INSERT INTO accounts (\"id\", name) OVERRIDING SYSTEM VALUE VALUES (5, 'a')",
        ),
        (
            "INSERT INTO accounts (id, name) VALUES (DEFAULT, 'a')",
            "INSERT INTO accounts (id, name) OVERRIDING SYSTEM VALUE VALUES (5, 'a')",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(drawn(sql, Drawn::Literals(&[5, 6])), expected);
    }
    let params = drawn(
        "INSERT INTO users (name) VALUES ($1), ($2)",
        Drawn::Params { first: 3 },
    );
    assert_eq!(
        params,
        "INSERT INTO users (\"id\", name) VALUES ($3, $1), ($4, $2)"
    );
}

#[test]
fn with_one_shard_everything_passes() {
    let mut world = World::new();
    world.config.databases[0].shards.truncate(1);
    let one = |sql: &str| {
        let lifted = lifted(sql);
        let planned = plan(sql.as_bytes(), &lifted, world.context(&[])).unwrap();
        planned.statements[0].describe(world.database())
    };
    assert_eq!(one("SELECT count(*) FROM users"), "read only shard");
    assert_eq!(
        one("SELECT my_report(), tricky(1)"),
        "write only shard, opaque"
    );
    assert_eq!(one("DELETE FROM users"), "write only shard");
    assert_eq!(
        one("INSERT INTO users (name) VALUES ('a')"),
        "write only shard"
    );
    assert_eq!(
        one("SELECT 1 FROM xmltable(nonsense nonsense)"),
        "write only shard"
    );
    assert_eq!(one("DO $$ BEGIN END $$"), "write only shard, opaque");
    assert_eq!(one("SELECT 'unterminated"), "write only shard");
    assert_eq!(one("SELECT * FROM events"), "write only shard");
    assert_eq!(one("CREATE TABLE t AS SELECT 1"), "write only shard, ddl");
}

#[test]
fn long_and_deep_texts_are_refused_not_fatal() {
    let world = World::new();
    let ands = format!(
        "SELECT * FROM users WHERE id = 1 {}",
        "AND name = 'x' ".repeat(20_000)
    );
    let unions = vec!["SELECT * FROM users WHERE id = 1"; 1_000].join(" UNION ");
    let nested = format!(
        "SELECT * FROM users WHERE {}id = 1{}",
        "(".repeat(10_000),
        ")".repeat(10_000)
    );
    let ctes = format!(
        "WITH a0 AS (SELECT * FROM users){} SELECT * FROM a60 WHERE id = 1",
        (1..61)
            .map(|n| format!(
                ", a{n} AS (SELECT x.* FROM a{} x, a{} y WHERE x.id = y.id)",
                n - 1,
                n - 1
            ))
            .collect::<String>()
    );
    let list = format!(
        "SELECT name FROM users WHERE id IN ({})",
        (0..20_000)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    );
    let long = format!(
        "SELECT name FROM users WHERE id = 1 AND name = '{}'",
        "x".repeat(1 << 20)
    );
    for (sql, expected) in [
        (ands, "refused"),
        (unions, "=> read by_user"),
        (nested, "refused"),
        (ctes, "refused"),
        (list, "concatenated"),
        (long, "refused"),
    ] {
        let outcome = world.outcome(&sql, &[]);
        assert!(
            outcome.contains(expected),
            "{} … {}",
            &sql[..80],
            outcome
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect::<String>()
        );
    }
}

#[test]
fn nesting_up_to_the_limit_fits_the_stack() {
    let world = World::new();
    for levels in [5, 14, 28, 29, 60, 120] {
        let nested = format!(
            "SELECT name FROM users WHERE id = 1 AND id IN {}SELECT 1{}",
            "(SELECT id FROM users WHERE id IN ".repeat(levels) + "(",
            ")".repeat(levels + 1)
        );
        let chain: String = (1..levels.min(90))
            .map(|n| format!(", a{n} AS (SELECT * FROM a{})", n - 1))
            .collect();
        let ctes = format!(
            "WITH a0 AS (SELECT * FROM users){chain} SELECT * FROM a{} WHERE id = 1",
            levels.min(90) - 1
        );
        assert!(world.outcome(&nested, &[]).starts_with("=> "));
        assert!(
            world
                .outcome(&ctes, &[])
                .starts_with("=> read by_user = literal 1"),
            "{levels}"
        );
    }
}

#[test]
fn a_forced_shard_is_trusted() {
    let world = World::new();
    let sql = "SELECT count(*) FROM users";
    let context = PlanContext {
        forced_shard: Some(ShardId(2)),
        ..world.context(&[])
    };
    let planned = plan(sql.as_bytes(), &lifted(sql), context).unwrap();
    assert_eq!(
        planned.statements[0].describe(world.database()),
        "read shard s3 by hint"
    );
    let begin = plan(b"BEGIN", &lifted("BEGIN"), context).unwrap();
    assert_eq!(
        begin.statements[0].describe(world.database()),
        "write any shard"
    );
}

#[test]
fn a_function_with_a_key_argument() {
    use pgshunt::config::DeclaredFunction;
    let mut world = World::new();
    let database = &mut world.config.databases[0];
    database.keyspaces.truncate(1);
    database.tables.retain(|table| table.keyspace == 0);
    database
        .functions
        .insert("user_feed".to_owned(), DeclaredFunction::KeyArgument(1));
    assert_eq!(
        world.outcome("SELECT * FROM user_feed(107)", &[]),
        "=> read by_user = 107; on several shards refused: functions declared with a key argument are called for several shards -> s2\n"
    );
    assert!(
        world
            .outcome("SELECT user_feed($1)", &[])
            .starts_with("=> read by_user = $1")
    );
    assert!(
        world
            .outcome("SELECT user_feed(100 + 7)", &[])
            .starts_with("=> refused")
    );
}
