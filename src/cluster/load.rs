//! Reads a shard's schema into a `Catalog` with one statement, so that it is one moment's schema and a caller who gives up
//! half-way leaves the connection clean. The queries are the `.sql` files beside `rows`; what the rows mean is
//! `assemble`'s. It does not know the shard map.

mod assemble;
mod defaults;
mod functions;
mod hidden;
mod lingering;
mod rows;
mod views;

pub use defaults::defaults;
pub use lingering::lingering;

use super::patience::{LOCK_TIMEOUT, patiently};
use crate::catalog::Catalog;
use futures::TryStreamExt;
use rows::Rows;
use std::pin::pin;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

/// More than any schema people run; past it the load is refused rather than the memory filled.
const ROWS_MAX: usize = 1_000_000;
const BYTES_MAX: usize = 512 << 20;
/// A definition can vanish between the snapshot and its deparsing; the next attempt sees it gone.
const ATTEMPTS: usize = 3;

/// Texts are made under settings that are the same everywhere, so that equal definitions are equal texts. `SET LOCAL`
/// ends with the implicit transaction of the one message all this is sent in.
const SETTINGS: &str = "SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '120s'; \
    SET LOCAL transaction_read_only = on; SET LOCAL jit = off; \
    SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL DateStyle = ISO; SET LOCAL IntervalStyle = postgres; \
    SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = hex; \
    SET LOCAL quote_all_identifiers = off; ";

const SECTIONS: [(&str, &str); 15] = [
    ("session", include_str!("load/session.sql")),
    ("schema", include_str!("load/schema.sql")),
    ("setting", include_str!("load/setting.sql")),
    ("relation", include_str!("load/relation.sql")),
    ("columns", include_str!("load/columns.sql")),
    ("view", include_str!("load/view.sql")),
    ("function", include_str!("load/function.sql")),
    ("operator", include_str!("load/operator.sql")),
    ("type", include_str!("load/type.sql")),
    ("constraint", include_str!("load/constraint.sql")),
    ("index", include_str!("load/index.sql")),
    ("behaviour", include_str!("load/behaviour.sql")),
    ("collation", include_str!("load/collation.sql")),
    ("extension", include_str!("load/extension.sql")),
    ("cast", include_str!("load/cast.sql")),
];

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the catalog cannot be read: {0}")]
    Server(#[from] tokio_postgres::Error),
    #[error(
        "the catalog query's section {section} answered what pgshunt does not understand: {source}"
    )]
    Unreadable {
        section: String,
        source: serde_json::Error,
    },
    #[error(
        "the schema is larger than pgshunt takes: over {rows} rows or {bytes} bytes of catalog"
    )]
    TooLarge { rows: usize, bytes: usize },
}

/// The schema as it is now; `version` is 0, see [`Catalog::successor_of`].
pub async fn load(client: &Client) -> Result<Catalog, LoadError> {
    let mut catalog = load_schema(client).await?;
    catalog.lingering = lingering(client).await?;
    Ok(catalog)
}

async fn load_schema(client: &Client) -> Result<Catalog, LoadError> {
    let statement = statement();
    for _ in 1..ATTEMPTS {
        match patiently(|| read(client, &statement)).await {
            Err(LoadError::Server(error)) if vanished(&error) => {}
            // its definition is NULL then
            Err(LoadError::Unreadable { .. }) => {}
            other => return other.map(assemble::catalog),
        }
    }
    let rows = patiently(|| read(client, &statement)).await;
    rows.map(assemble::catalog)
}

fn statement() -> String {
    let parts: Vec<String> = SECTIONS
        .iter()
        .map(|(section, sql)| {
            format!("SELECT '{section}', json_strip_nulls(row_to_json(x))::text FROM (\n{sql}\n) x")
        })
        .collect();
    let lock_timeout = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; ");
    format!("{SETTINGS}{lock_timeout}{}", parts.join("\nUNION ALL\n"))
}

async fn read(client: &Client, statement: &str) -> Result<Rows, LoadError> {
    let mut rows = Rows::default();
    let (mut count, mut bytes) = (0, 0);
    let mut stream = pin!(client.simple_query_raw(statement).await?);
    while let Some(message) = stream.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        let (section, json) = (
            row.try_get(0)?.unwrap_or_default(),
            row.try_get(1)?.unwrap_or_default(),
        );
        count += 1;
        bytes += json.len();
        if count > ROWS_MAX || bytes > BYTES_MAX {
            return Err(LoadError::TooLarge {
                rows: ROWS_MAX,
                bytes: BYTES_MAX,
            });
        }
        rows.take(section, json)
            .map_err(|source| LoadError::Unreadable {
                section: section.to_owned(),
                source,
            })?;
    }
    Ok(rows)
}

/// "cache lookup failed", "relation does not exist", "could not open relation": dropped under our hands.
fn vanished(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::INTERNAL_ERROR,
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_OBJECT,
        ]
        .contains(code)
    })
}
