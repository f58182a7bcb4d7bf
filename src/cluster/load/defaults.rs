//! What ALTER ROLE and ALTER DATABASE say of the settings with which sessions begin, as one text to compare.

use super::LoadError;
use tokio_postgres::{Client, SimpleQueryMessage};

const DEFAULTS: &str = "SELECT pg_catalog.md5(pg_catalog.string_agg(s::pg_catalog.text, ' ' ORDER BY s::pg_catalog.text)) \
    FROM pg_catalog.pg_db_role_setting s";

/// What holds now.
pub async fn defaults(client: &Client) -> Result<String, LoadError> {
    let answer = client.simple_query(DEFAULTS).await?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.unwrap_or_default().to_owned())
}
