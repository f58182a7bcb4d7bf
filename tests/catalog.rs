//! Catalog load, comparison, start-up check and draws against private PostgreSQL servers, started by the test itself
//! (`support/pg.rs`) from the installed server programs.

#[allow(dead_code)] // shared with other tests
#[path = "support/pg.rs"]
mod pg;

use pgshunt::catalog::{
    Catalog, CatalogBuilder, ColumnDefault, QualifiedName, RelationKind, Volatility,
};
use pgshunt::cluster::check::check;
use pgshunt::cluster::draw::{DrawError, draw, draw_on_one_shard};
use pgshunt::cluster::finding::{Finding, Report, Severity};
use pgshunt::cluster::inspect::{facts, inspect_all};
use pgshunt::cluster::load::load;
use pgshunt::config::{
    ConsistencySettings, Database, DeclaredFunction, Negotiation, PoolMode, PoolSettings,
    Positions, ServerAddress, ServerTls, Shard, ShardedTable, TlsMode,
};
use pgshunt::shard::{KeyType, Keyspace, KeyspaceKind, ShardId, Unmapped};
use std::collections::BTreeSet;
use std::time::Duration;

const SCHEMA: &str = include_str!("catalog/schema.sql");

fn name(name: &str) -> QualifiedName {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    QualifiedName::new(schema, name)
}

fn default<'a>(catalog: &'a Catalog, column: &str) -> &'a ColumnDefault {
    &catalog.relations[&name("defaults")]
        .column(column)
        .expect("the column")
        .default
}

fn volatility(catalog: &Catalog, function: &str) -> Volatility {
    catalog.functions[function]
        .iter()
        .map(|function| function.volatility)
        .max()
        .expect("an overload")
}

fn depends(catalog: &Catalog, view: &str) -> Vec<String> {
    catalog.relations[&name(view)]
        .depends_on
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[tokio::test]
async fn a_schema_is_loaded_as_it_is() {
    let servers = pg::start(1, &[]);
    let client = servers.servers[0].client().await;
    client.batch_execute(SCHEMA).await.expect("the schema");
    let started = std::time::Instant::now();
    let catalog = load(&client).await.expect("a catalog");
    println!("loaded in {:?}", started.elapsed());

    tables_are_described(&catalog);
    defaults_are_classified(&catalog);
    functions_are_looked_through(&catalog);
    views_are_looked_through(&catalog);
    the_builder_knows_the_real_functions(&catalog);
    search_paths_are_those_of_fresh_connections(&catalog);
    the_connection_is_left_clean(&client).await;
    versions_move_with_the_schema(&client, &catalog).await;
}

fn tables_are_described(catalog: &Catalog) {
    let users = &catalog.relations[&name("users")];
    assert_eq!(users.kind, RelationKind::Table);
    assert_eq!(users.primary_key, ["id"]);
    assert_eq!(
        users.column("id").map(|c| (c.type_oid, c.not_null)),
        Some((20, true))
    );
    assert!(users.has_triggers && !users.unlogged && !users.has_row_security);
    assert!(catalog.relations[&name("scratch")].unlogged);
    assert!(!users.column("nick").expect("nick").collation_deterministic);
    assert_eq!(users.column("tag").map(|c| c.type_modifier), Some(9));
    assert_eq!(catalog.relations[&name("pair")].primary_key, ["b", "a"]);
    let events = &catalog.relations[&name("events")];
    assert_eq!(events.kind, RelationKind::PartitionedTable);
    assert_eq!(
        catalog.relations[&name("events_1")].parents,
        [name("events")]
    );
    assert!(!catalog.relations.contains_key(&name("Dropped")));
    assert!(
        catalog.relations.contains_key(&name("Odd \"Name\".x"))
            || catalog
                .relations
                .contains_key(&QualifiedName::new("Odd \"Name\"", "x"))
    );
    assert!(catalog.relations.contains_key(&name("pg_catalog.pg_class")));
    assert!(
        catalog.user_types.contains_key(&name("mood"))
            && catalog.user_types.contains_key(&name("posint"))
    );
    assert!(!catalog.user_types.contains_key(&name("users")));
    assert!(
        catalog.user_operators.contains("<=>"),
        "an operator over a SQL function is opaque"
    );
    assert!(
        !catalog.user_operators.contains("="),
        "citext's own operators are not"
    );
    assert!(
        catalog
            .relations
            .keys()
            .all(|name| !name.schema.starts_with("pg_temp"))
    );
}

fn defaults_are_classified(catalog: &Catalog) {
    assert_eq!(default(catalog, "nothing"), &ColumnDefault::None);
    assert_eq!(
        default(catalog, "small"),
        &ColumnDefault::Serial(name("defaults_small_seq"))
    );
    assert_eq!(
        default(catalog, "plain"),
        &ColumnDefault::Serial(name("defaults_plain_seq"))
    );
    assert_eq!(
        default(catalog, "big"),
        &ColumnDefault::Serial(name("Shared'Seq"))
    );
    assert_eq!(
        default(catalog, "always"),
        &ColumnDefault::IdentityAlways(name("defaults_always_seq"))
    );
    assert_eq!(
        default(catalog, "by_default"),
        &ColumnDefault::IdentityByDefault(name("defaults_by_default_seq"))
    );
    assert_eq!(default(catalog, "made"), &ColumnDefault::Generated);
    for column in ["constant", "typed", "arithmetic", "in_domain"] {
        assert_eq!(
            default(catalog, column),
            &ColumnDefault::Immutable,
            "{column}"
        );
    }
    for column in [
        "late_bound",
        "stepped",
        "at",
        "day",
        "who",
        "dice",
        "through_text",
        "own",
        "drawn_domain",
    ] {
        assert_eq!(
            default(catalog, column),
            &ColumnDefault::Volatile,
            "{column}"
        );
    }
}

fn functions_are_looked_through(catalog: &Catalog) {
    assert_eq!(volatility(catalog, "now"), Volatility::Stable);
    assert_eq!(volatility(catalog, "nextval"), Volatility::Volatile);
    assert_eq!(volatility(catalog, "honest"), Volatility::Stable);
    assert_eq!(volatility(catalog, "liar"), Volatility::Volatile);
    assert_eq!(volatility(catalog, "liars_friend"), Volatility::Volatile);
    assert_eq!(volatility(catalog, "locker"), Volatility::Volatile);
    assert_eq!(volatility(catalog, "parsed_liar"), Volatility::Volatile);
    assert_eq!(
        volatility(catalog, "sum_of"),
        Volatility::Volatile,
        "an aggregate is its support functions"
    );
    assert_eq!(volatility(catalog, "sum"), Volatility::Immutable);
    assert!(
        catalog.functions["lower"]
            .iter()
            .all(|f| f.builtin || f.schema == "public")
    );
    assert!(catalog.functions["query_to_xml"].iter().all(|f| !f.builtin));
    assert!(catalog.functions["citext_eq"].iter().all(|f| f.builtin));
    assert!(catalog.functions["honest"].iter().all(|f| !f.builtin));
}

/// Functions that call themselves stable and write, by ways in which no function is named.
const UNSEEN: &str = include_str!("catalog/unseen.sql");
/// With these, what could be a check or a cast may be one that writes.
const CHECKS: &str = "
    CREATE DOMAIN checked AS int CHECK (w('domain') = VALUE);
    CREATE FUNCTION u_domain(x checked) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION u_variable() RETURNS int STABLE LANGUAGE plpgsql AS $$ DECLARE x checked; BEGIN x := 1; RETURN x; END $$;";
const NAMED: &str = "
    CREATE TYPE spot AS (x int);
    CREATE FUNCTION spotted(int) RETURNS spot LANGUAGE plpgsql AS $$ BEGIN PERFORM w('spot'); RETURN row($1)::spot; END $$;
    CREATE CAST (int AS spot) WITH FUNCTION spotted(int);
    CREATE FUNCTION u_cast() RETURNS text STABLE LANGUAGE sql AS 'SELECT (1::spot)::text';";
const CASTS: &str = "
    CREATE FUNCTION made(int) RETURNS point LANGUAGE plpgsql AS $$ BEGIN PERFORM w('cast'); RETURN point($1, $1); END $$;
    CREATE CAST (int AS point) WITH FUNCTION made(int);";

/// Reading the schema locks what its views stand on: who alters these tables must not be the one who fails when both wait for
/// each other.
#[tokio::test]
async fn a_load_is_in_nobodys_way() {
    let servers = pg::start(1, &[]);
    let server = &servers.servers[0];
    let client = server.client().await;
    let schema = "CREATE TABLE one (a int); CREATE TABLE two (a int);
        CREATE VIEW over_one AS SELECT a FROM one; CREATE VIEW over_two AS SELECT a FROM two;
        CREATE FUNCTION of_one() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM one; END;
        CREATE FUNCTION of_two() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM two; END";
    client.batch_execute(schema).await.expect("the schema");
    for (first, second) in [("one", "two"), ("two", "one")] {
        let other = server.client().await;
        let lock = |table: &str| format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        other.batch_execute("BEGIN").await.expect("a transaction");
        other.batch_execute(&lock(first)).await.expect("a lock");
        let meanwhile = async {
            // its deadlock_timeout is over by then, and nothing was found
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let waited = std::time::Instant::now();
            other.batch_execute(&lock(second)).await.expect("a lock");
            assert!(waited.elapsed() < Duration::from_millis(900));
            other.batch_execute("COMMIT").await.expect("committed");
        };
        let (loaded, ()) = tokio::join!(load(&client), meanwhile);
        loaded.expect("a catalog");
    }
}

#[tokio::test]
async fn what_runs_unseen_makes_a_function_volatile() {
    let servers = pg::start(1, &[]);
    let client = servers.servers[0].client().await;
    client.batch_execute(UNSEEN).await.expect("the schema");
    let catalog = load(&client).await.expect("a catalog");
    for (name, overloads) in &catalog.functions {
        if name.starts_with("u_") {
            assert_eq!(overloads[0].volatility, Volatility::Volatile, "{name}");
        }
    }
    assert_eq!(volatility(&catalog, "seen"), Volatility::Stable);
    assert!(!catalog.casts_write);
    client.batch_execute(CHECKS).await.expect("a domain");
    let catalog = load(&client).await.expect("a catalog");
    assert_eq!(volatility(&catalog, "u_domain"), Volatility::Volatile);
    assert_eq!(volatility(&catalog, "u_variable"), Volatility::Volatile);
    assert_eq!(volatility(&catalog, "seen"), Volatility::Stable);
    client.batch_execute(NAMED).await.expect("a cast to a type");
    let catalog = load(&client).await.expect("a catalog");
    assert!(!catalog.casts_write);
    assert_eq!(volatility(&catalog, "u_cast"), Volatility::Volatile);
    assert_eq!(volatility(&catalog, "seen"), Volatility::Stable);
    client.batch_execute(CASTS).await.expect("a cast");
    let catalog = load(&client).await.expect("a catalog");
    assert!(catalog.casts_write);
    assert_eq!(volatility(&catalog, "seen"), Volatility::Volatile);
}

/// Tests without a server stand on the builder's list: it has to be the truth of the version it was taken from.
fn the_builder_knows_the_real_functions(catalog: &Catalog) {
    if catalog.shape.server_version / 10_000 != 15 {
        return;
    }
    let built = CatalogBuilder::new().build().functions;
    let overloads = built
        .iter()
        .flat_map(|(name, overloads)| overloads.iter().map(move |one| (name, one)));
    let wrong: Vec<_> = overloads
        .filter(|(name, one)| !catalog.functions[*name].contains(one))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn views_are_looked_through(catalog: &Catalog) {
    assert_eq!(depends(catalog, "names"), ["public.users"]);
    assert_eq!(
        depends(catalog, "names_of_names"),
        ["public.pair", "public.users"]
    );
    assert_eq!(
        depends(catalog, "calls"),
        ["public.honest", "public.parsed", "public.users"]
    );
    assert_eq!(depends(catalog, "over_matview"), ["public.frozen"]);
    assert_eq!(depends(catalog, "system"), ["pg_catalog.pg_class"]);
    let volatile = |view: &str| catalog.relations[&name(view)].volatile;
    for view in [
        "names",
        "names_of_names",
        "calls",
        "over_matview",
        "frozen",
        "with_now",
        "users",
    ] {
        assert!(!volatile(view), "{view}");
    }
    for view in [
        "dice",
        "dice_below",
        "locking",
        "aggregated",
        "window_dice",
        "guarded",
        "over_guarded",
        "checked",
    ] {
        assert!(volatile(view), "{view}");
    }
    assert!(volatile("pg_catalog.pg_locks") && !volatile("pg_catalog.pg_stat_activity"));
    let definition = &catalog.relations[&name("names")].definition;
    assert!(definition.contains("FROM public.users"), "{definition}");
}

fn search_paths_are_those_of_fresh_connections(catalog: &Catalog) {
    assert_eq!(catalog.default_search_path, ["app", "$user", "public"]);
    assert_eq!(catalog.search_path_of("ann"), ["Ann's", "public"]);
    assert_eq!(catalog.search_path_of("bob"), ["app", "bob", "public"]);
}

async fn the_connection_is_left_clean(client: &tokio_postgres::Client) {
    let row = client.query_one(
        "SELECT current_setting('search_path'), current_setting('transaction_read_only')",
        &[],
    );
    let row = row.await.expect("a row");
    assert_ne!(row.get::<_, &str>(0), "pg_catalog");
    assert_eq!(row.get::<_, &str>(1), "off");
}

async fn versions_move_with_the_schema(client: &tokio_postgres::Client, first: &Catalog) {
    let second = load(client).await.expect("a catalog").successor_of(first);
    assert_eq!(second.version, first.version);
    client
        .batch_execute("ALTER TABLE scratch ADD more int")
        .await
        .expect("DDL");
    let third = load(client).await.expect("a catalog").successor_of(&second);
    assert_eq!(third.version, second.version + 1);
}

const MAPPED: &str = include_str!("catalog/mapped.sql");
const MISTAKES: &str = include_str!("catalog/mistakes.sql");
const UNLIKE: &str = include_str!("catalog/unlike.sql");

fn address(port: u16) -> ServerAddress {
    ServerAddress {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

fn keyspace(name: &str, key: KeyType) -> Keyspace {
    let kind = KeyspaceKind::HashXxh3 {
        buckets: vec![ShardId(0), ShardId(1)],
    };
    Keyspace {
        name: name.to_owned(),
        types: vec![key],
        kind,
    }
}

fn sharded(name: &str, keyspace: usize, key: &str) -> ShardedTable {
    ShardedTable {
        schema: "public".to_owned(),
        name: name.to_owned(),
        keyspace,
        key: vec![key.to_owned()],
    }
}

/// Shards s1, s2, ... with these primaries; the tables of `mapped.sql`.
fn database(primaries: &[u16]) -> Database {
    let shard = |(number, port): (usize, &u16)| Shard {
        name: format!("s{}", number + 1),
        primary: address(*port),
        replicas: Vec::new(),
    };
    Database {
        name: "social".to_owned(),
        server_database: "postgres".to_owned(),
        shards: primaries.iter().enumerate().map(shard).collect(),
        home: ShardId(0),
        scratch_server: None,
        keyspaces: vec![
            keyspace("by_user", KeyType::BigInt),
            keyspace("by_name", KeyType::Text),
        ],
        tables: vec![
            sharded("users", 0, "id"),
            sharded("posts", 0, "user_id"),
            sharded("names", 1, "name"),
        ],
        reference_tables: vec![("public".to_owned(), "countries".to_owned())],
        functions: std::collections::HashMap::new(),
        pool: PoolSettings {
            pipeline_max: 1,
            pipeline_time_max: Duration::from_millis(5),
            mode: PoolMode::Transaction,
            size: 10,
            size_min: 0,
            waiters_max: 100,
            wait_max: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            idle_max: Duration::from_secs(60),
            lifetime_max: Duration::from_secs(600),
            prepared_max: 100,
            pins: pgshunt::config::Pins::Allowed,
            verify: false,
        },
        consistency: ConsistencySettings {
            level: pgshunt::consistency::Level::Session,
            sample_busy: Duration::from_millis(5),
            sample_idle: Duration::from_millis(200),
            lag_max: Duration::from_secs(10),
            sessions_max: 100,
        },
        server_tls: ServerTls {
            mode: TlsMode::Disable,
            root_certificate: None,
            own_certificate: None,
            negotiation: Negotiation::Asked,
        },
        auth_query: None,
        control_user: "postgres".to_owned(),
        control_password: None,
        bounds: pgshunt::config::Bounds::default(),
        positions: Positions::default(),
    }
}

async fn report(database: &Database) -> Report {
    let inspection = inspect_all(database, |address| connect(address.port));
    check(database, &spawnable(inspection).await)
}

/// The caller may run it as a task of its own.
fn spawnable<T: Future + Send>(future: T) -> T {
    future
}

/// A client in a box, as a pool's would be; a server that is down is an error here.
async fn connect(port: u16) -> Result<Box<tokio_postgres::Client>, String> {
    let text = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let connected = tokio_postgres::connect(&text, tokio_postgres::NoTls).await;
    let (client, connection) = connected.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(Box::new(client))
}

async fn run(servers: &pg::Servers, position: usize, sql: &str) {
    servers.servers[position]
        .client()
        .await
        .batch_execute(sql)
        .await
        .expect(sql);
}

fn codes(findings: &[Finding]) -> BTreeSet<&str> {
    findings.iter().map(|finding| finding.code).collect()
}

fn set<'a>(codes: &[&'a str]) -> BTreeSet<&'a str> {
    codes.iter().copied().collect()
}

fn one<'a>(report: &'a Report, code: &str, text: &str) -> &'a Finding {
    let found = report
        .iter()
        .find(|finding| finding.code == code && finding.to_string().contains(text));
    found.unwrap_or_else(|| panic!("no {code} with {text} in {report:#?}"))
}

#[tokio::test]
async fn a_cluster_that_is_as_the_map_says_passes() {
    let mut servers = pg::start(2, &["max_prepared_transactions=10"]);
    run(&servers, 0, MAPPED).await;
    run(&servers, 1, MAPPED).await;
    let replica = servers.replicate(0);
    let mut database = database(&[servers.servers[0].port, servers.servers[1].port]);
    database.shards[0].replicas.push(address(replica));
    let found = report(&database).await;
    assert_eq!(codes(&found.errors), set(&[]), "{found:#?}");
    assert_eq!(
        codes(&found.warnings),
        set(&["unique_per_shard"]),
        "posts.id is no key: {found:#?}"
    );

    // a replica of one shard named under the other, a primary named as a replica, a replica as a primary
    database.shards[1].replicas = vec![address(replica), address(servers.servers[1].port)];
    let found = report(&database).await;
    one(&found, "replica_of_another", "s2");
    one(&found, "replica_not_standby", "s2");
    one(&found, "listed_twice", "the same server as the primary");
    database.shards[1].replicas.clear();
    database.shards[1].primary = address(replica);
    let found = report(&database).await;
    one(&found, "primary_in_recovery", "s2");
    one(&found, "same_server", "the same as shard s1");

    // servers that are down: the replica a warning, the primary an error that does not forbid serving the others
    let second = servers.servers[1].port;
    database.shards[1].primary = address(second);
    servers.servers[1].stop();
    servers.servers[2].stop();
    let found = report(&database).await;
    assert_eq!(codes(&found.errors), set(&["primary_down"]));
    assert!(!found.forbids_serving());
    one(&found, "replica_down", "s1");
    database.home = ShardId(1);
    let found = report(&database).await;
    assert_eq!(
        codes(&found.errors),
        set(&["primary_down"]),
        "another shard's catalog stands in for the home shard's"
    );
}

#[tokio::test]
async fn mistakes_of_the_map_and_the_schema_are_found() {
    let servers = pg::start(1, &[]);
    run(&servers, 0, MAPPED).await;
    run(&servers, 0, MISTAKES).await;
    let mut database = database(&[servers.servers[0].port]);
    database.tables = vec![
        sharded("nowhere", 0, "id"),
        sharded("a_view", 0, "id"),
        sharded("users", 0, "uid"),
        sharded("posts", 1, "user_id"),
        sharded("citexts", 1, "name"),
        sharded("chars", 1, "name"),
        sharded("odd_collation", 1, "name"),
        sharded("rounded", 2, "amount"),
        sharded("child", 0, "id"),
        sharded("made", 0, "id"),
        sharded("uuids", 3, "id"),
        sharded("names", 1, "name"),
    ];
    database
        .keyspaces
        .push(keyspace("by_amount", KeyType::Numeric));
    database.keyspaces.push(keyspace("by_uuid", KeyType::Uuid));
    database
        .reference_tables
        .push(("public".to_owned(), "labels".to_owned()));
    database
        .functions
        .insert("missing".to_owned(), DeclaredFunction::Pure);
    database
        .functions
        .insert("one_argument".to_owned(), DeclaredFunction::KeyArgument(2));
    let found = report(&database).await;
    one(&found, "table_missing", "nowhere");
    one(&found, "table_kind", "a_view is a view");
    one(&found, "key_missing", "one of id, country");
    one(
        &found,
        "key_type",
        "user_id is bigint; expected text or varchar",
    );
    one(&found, "key_type", "name is public.citext");
    one(&found, "key_type", "name is char(n)");
    one(&found, "key_collation", "nondeterministic");
    one(&found, "key_rounded", "amount is numeric with a precision");
    one(
        &found,
        "parent_unlisted",
        "public.child is a child of public.parent",
    );
    one(&found, "key_generated", "generated");
    one(&found, "key_default", "only the server knows");
    one(
        &found,
        "foreign_key_across",
        "public.labels: FOREIGN KEY (owner)",
    );
    one(
        &found,
        "foreign_key_across",
        "public.unlisted: FOREIGN KEY (name)",
    );
    one(&found, "function_missing", "missing");
    one(&found, "function_argument", "at most 1 arguments");
    assert!(found.forbids_serving());
    assert!(
        found
            .iter()
            .all(|finding| !finding.subject.describe(&database).is_empty()
                && finding.line(&database).contains(finding.code))
    );
}

#[tokio::test]
async fn shards_that_differ_are_found() {
    let servers = pg::start(2, &[]);
    for position in 0..2 {
        run(&servers, position, MAPPED).await;
    }
    run(
        &servers,
        0,
        "CREATE TABLE settings (a int); CREATE TYPE early AS ENUM ('x')",
    )
    .await;
    run(&servers, 1, "CREATE TABLE shift (a int)").await;
    for position in 0..2 {
        run(
            &servers,
            position,
            "CREATE TYPE moody AS ENUM ('a'); ALTER TABLE users ADD m moody, ADD ms moody[]",
        )
        .await;
    }
    run(&servers, 1, UNLIKE).await;
    let database = database(&[servers.servers[0].port, servers.servers[1].port]);
    let found = report(&database).await;
    for (code, text) in [
        ("setting", "TimeZone = 'Asia/Tokyo'"),
        (
            "column",
            "public.names.other is character varying(3); expected text",
        ),
        (
            "columns",
            "public.posts has the columns (id, user_id, body, extra)",
        ),
        ("type_oid", "public.users.m "),
        ("type_oid", "public.users.ms "),
        ("constraint_missing", "UNIQUE (name, email)"),
        ("constraint_extra", "CHECK"),
        ("behaviour", "trigger noisy"),
        ("table_kind", "row security"),
        (
            "type",
            "type public.color: enum ('red'); expected enum ('red', 'green')",
        ),
        ("view", "view public.seen"),
        ("function", "function public.twice(x integer)"),
        ("function_overload", "public.once(x bigint)"),
        ("shadow", "other.users"),
    ] {
        assert_eq!(one(&found, code, text).severity, Severity::Error);
    }
    for (code, text) in [
        ("unlisted_table_missing", "public.settings"),
        ("index_missing", "public.posts"),
        ("extension", "citext 1.6; expected not installed"),
        ("max_prepared_transactions", "= 0"),
        ("role_settings", "all roles: TimeZone = Asia/Tokyo"),
        ("object_missing", "no function public.gone("),
    ] {
        assert_eq!(one(&found, code, text).severity, Severity::Warning);
    }
    assert!(
        found
            .iter()
            .all(|finding| finding.shard.as_deref() != Some("s1")
                || finding.severity == Severity::Warning)
    );
}

#[tokio::test]
async fn facts_are_read_without_rights() {
    let servers = pg::start(1, &[]);
    run(
        &servers,
        0,
        "CREATE ROLE poor LOGIN; REVOKE EXECUTE ON FUNCTION pg_last_wal_replay_lsn(), pg_control_system() FROM public",
    )
    .await;
    let client = pg::connect(servers.servers[0].port, "poor", "postgres").await;
    let facts = facts(&client).await.expect("facts");
    assert!(!facts.is_superuser && !facts.is_monitor && !facts.may_read_wal);
    assert_eq!(facts.system_identifier, None);
    assert!(load(&client).await.is_ok());
}

#[tokio::test]
async fn drawn_values_lie_on_one_shard_and_never_repeat() {
    let servers = pg::start(1, &[]);
    run(
        &servers,
        0,
        "CREATE SEQUENCE \"Odd \"\"Seq\"; CREATE SEQUENCE short MAXVALUE 3",
    )
    .await;
    let client = servers.servers[0].client().await;
    let sequence = name("Odd \"Seq").quoted();
    assert_eq!(
        draw(&client, &sequence, 3).await.expect("values"),
        [1, 2, 3]
    );
    let by_three = |value: i64| Ok(ShardId(u16::try_from(value % 3).expect("small")));
    let drawn = draw_on_one_shard(&client, &sequence, 2, None, by_three)
        .await
        .expect("values");
    assert_eq!(drawn, (ShardId(1), vec![4, 7]));
    let drawn = draw_on_one_shard(&client, &sequence, 1, Some(ShardId(0)), by_three)
        .await
        .expect("values");
    assert_eq!(drawn.0, ShardId(0));
    assert!(drawn.1[0] > 7 && drawn.1[0] % 3 == 0);
    let nowhere = |_| {
        Err(Unmapped {
            keyspace: "k".to_owned(),
        })
    };
    assert!(matches!(
        draw_on_one_shard(&client, &sequence, 1, None, nowhere).await,
        Err(DrawError::Unmapped(_))
    ));
    assert!(matches!(
        draw(&client, "short", 4).await,
        Err(DrawError::Server(_))
    ));
    assert!(matches!(
        draw(&client, "short", 1_000_000).await,
        Err(DrawError::TooMany { .. })
    ));
    client
        .batch_execute("SET synchronous_commit = off")
        .await
        .expect("SET");
    draw(&client, &sequence, 1).await.expect("a value");
    let row = client
        .query_one("SHOW synchronous_commit", &[])
        .await
        .expect("a row");
    assert_eq!(
        row.get::<_, &str>(0),
        "off",
        "the session's own setting is back"
    );
}
