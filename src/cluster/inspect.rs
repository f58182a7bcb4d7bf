//! Asks every server of a database what it is, and every primary for its schema. It judges nothing: that is `check`'s.

use super::load::load;
use crate::catalog::Catalog;
use crate::cluster::topology::ServerId;
use crate::config::{Database, ServerAddress};
use crate::shard::ShardId;
use futures::future::join_all;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Deref;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

const FACTS: &str = include_str!("inspect.sql");
const IDENTITY: &str = "SELECT system_identifier::text FROM pg_control_system()";
const REPLAYED: &str = "SELECT pg_last_wal_replay_lsn()::text";
const SETTINGS: &str = "SET LOCAL search_path = pg_catalog; SET LOCAL statement_timeout = '30s'; ";

/// One server of the shard map as it was met.
#[derive(Clone, Debug)]
pub struct Member {
    pub shard: ShardId,
    /// 0 is the primary, n is replica n-1
    pub member: u16,
    /// what it says of itself, or why it does not
    pub state: Result<Inspected, String>,
}

#[derive(Clone, Debug)]
pub struct Inspected {
    pub facts: ServerFacts,
    /// primaries only
    pub catalog: Option<Catalog>,
}

/// The answer of `inspect.sql`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ServerFacts {
    /// as `server_version_num`
    pub version: u32,
    pub version_text: String,
    /// not from `inspect.sql`, as it may be forbidden: None
    #[serde(skip)]
    pub system_identifier: Option<String>,
    pub in_recovery: bool,
    /// seconds since the epoch; tells two addresses of one server
    pub started_at: String,
    pub receives_wal: bool,
    /// a standby that does not say how far it has replayed; not from `inspect.sql` either
    #[serde(skip)]
    pub replay_hidden: bool,
    /// encoding, collation and character type of the database
    pub locale: BTreeMap<String, Option<String>>,
    pub collation_versions: String,
    /// settings that change answers, as a fresh session has them
    pub settings: BTreeMap<String, String>,
    pub max_prepared_transactions: u32,
    pub max_connections: u32,
    pub reserved_connections: u32,
    pub synchronous_standby_names: String,
    pub is_superuser: bool,
    pub is_monitor: bool,
    pub may_create_databases: bool,
    pub may_read_wal: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error("{}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("the server describes itself in a way pgshunt does not understand: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the server does not describe itself")]
    Silent,
}

/// All servers at once. `connect` gives a client of the server's database as the control user; its error is a text
/// that says why not.
pub async fn inspect_all<C, F>(
    database: &Database,
    connect: impl Fn(&ServerAddress) -> F,
) -> Vec<Member>
where
    C: Deref<Target = Client>,
    F: Future<Output = Result<C, String>>,
{
    let connect = &connect;
    let members = database.shards.iter().zip(0..).flat_map(|(shard, number)| {
        let addresses = std::iter::once(&shard.primary)
            .chain(&shard.replicas)
            .zip(0..);
        addresses.map(move |(address, member)| async move {
            let state = inspect_one(connect(address), member == 0).await;
            Member {
                shard: ShardId(number),
                member,
                state,
            }
        })
    });
    let mut members = join_all(members).await;
    if let Some(address) = &database.scratch_server {
        members.push(Member {
            shard: database.home,
            member: ServerId::SCRATCH,
            state: inspect_one(connect(address), false).await,
        });
    }
    members
}

async fn inspect_one<C>(
    connected: impl Future<Output = Result<C, String>>,
    is_primary: bool,
) -> Result<Inspected, String>
where
    C: Deref<Target = Client>,
{
    let client = connected.await?;
    let facts = facts(&client).await.map_err(|error| error.to_string())?;
    let catalog = if is_primary {
        Some(load(&client).await.map_err(|error| error.to_string())?)
    } else {
        None
    };
    Ok(Inspected { facts, catalog })
}

/// What one server says of itself; leaves no setting behind.
pub async fn facts(client: &Client) -> Result<ServerFacts, InspectError> {
    let statement = format!("SELECT row_to_json(x)::text FROM (\n{FACTS}\n) x");
    let json = ask(client, &statement).await?.ok_or(InspectError::Silent)?;
    let mut facts: ServerFacts = serde_json::from_str(&json)?;
    facts.system_identifier = ask_if_allowed(client, IDENTITY).await?;
    facts.replay_hidden = facts.in_recovery && ask_if_allowed(client, REPLAYED).await?.is_none();
    Ok(facts)
}

async fn ask(client: &Client, query: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(&format!("{SETTINGS}{query}")).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// A right that was taken away is no reason to know nothing.
async fn ask_if_allowed(
    client: &Client,
    query: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    match ask(client, query).await {
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        other => other,
    }
}

/// tokio-postgres' own text leaves out what the server said.
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(server) => format!("{} ({})", server.message(), server.code().code()),
        None => error.to_string(),
    }
}

/// The catalog to plan with: the home shard's, or while that is down the first that could be read.
#[must_use]
pub fn home_catalog<'a>(database: &Database, members: &'a [Member]) -> Option<&'a Catalog> {
    let catalogs = || {
        members.iter().filter_map(|member| {
            Some((member.shard, member.state.as_ref().ok()?.catalog.as_ref()?))
        })
    };
    let home = catalogs().find(|(shard, _)| *shard == database.home);
    home.or_else(|| catalogs().next())
        .map(|(_, catalog)| catalog)
}
