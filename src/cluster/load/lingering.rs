//! Reads the bodies of functions, to know which of them leave something in a session. Cheap enough to be asked after
//! every statement that makes or changes a function.

use super::{BYTES_MAX, LoadError, ROWS_MAX};
use crate::catalog::lingering::{Body, Lingering};
use crate::cluster::patience::{LOCK_TIMEOUT, patiently};
use futures::TryStreamExt;
use std::pin::pin;
use tokio_postgres::{Client, SimpleQueryMessage};

const BODIES: &str = include_str!("lingering.sql");

/// What holds now.
pub async fn lingering(client: &Client) -> Result<Lingering, LoadError> {
    patiently(|| read(client)).await
}

async fn read(client: &Client) -> Result<Lingering, LoadError> {
    let sql = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {BODIES}");
    let mut stream = pin!(client.simple_query_raw(&sql).await?);
    let (mut bodies, mut bytes) = (Vec::new(), 0);
    while let Some(message) = stream.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else {
            continue;
        };
        let text = |n: usize| -> Result<String, LoadError> {
            Ok(row.try_get(n)?.unwrap_or_default().to_owned())
        };
        let body = Body {
            name: text(0)?,
            language: text(1)?,
            text: text(2)?,
            is_trigger: row.try_get(3)? == Some("t"),
            is_used: row.try_get(4)? == Some("t"),
        };
        bytes += body.text.len();
        bodies.push(body);
        if bodies.len() > ROWS_MAX || bytes > BYTES_MAX {
            return Err(LoadError::TooLarge {
                rows: ROWS_MAX,
                bytes: BYTES_MAX,
            });
        }
    }
    Ok(Lingering::of(&bodies))
}
