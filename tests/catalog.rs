//! Catalog load, comparison, start-up check and draws against private PostgreSQL servers, started by the test itself
//! (`support/pg.rs`) from the installed server programs.

#[path = "support/pg.rs"]
mod pg;

use pgshunt::catalog::{Catalog, ColumnDefault, QualifiedName, RelationKind, Volatility};
use pgshunt::cluster::load::load;

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
