//! How an operator looks at pgshunt: the console (`psql` on the admin database) and, over HTTP, `/metrics` and
//! `/healthz`. Both show what [`Sources`] say; neither knows sessions, nor where a source has its rows from.

pub mod access;
pub mod command;
pub mod console;
pub mod handlers;
pub mod http;
pub mod intake;
pub mod metrics;
pub mod rows;
pub mod settings;
pub mod table;
pub mod views;
pub mod words;

pub use access::access_rows;
pub use console::{Greeting, serve};
pub use http::serve_http;
pub use rows::{AccessRow, ClientRow, ConfigRow, PoolRow, ReplicaRow, ServerRow, ShardRow};
pub use settings::{config_rows, placement};

use crate::stats::{ClientState, ClientStatus, Stats};
use async_trait::async_trait;

/// "pgshunt 0.1.0"
pub const VERSION_TEXT: &str = concat!("pgshunt ", env!("CARGO_PKG_VERSION"));
/// What the console says as its server_version: drivers read the number in front.
pub const SERVER_VERSION: &str = concat!("15.0 (pgshunt ", env!("CARGO_PKG_VERSION"), ")");

/// Who knows what is shown. Called for each command and each scrape: rows are made on the spot, nothing is kept.
#[async_trait]
pub trait Sources: Send + Sync {
    fn pools(&self) -> Vec<PoolRow>;
    fn clients(&self) -> Vec<ClientRow>;
    fn servers(&self) -> Vec<ServerRow>;
    fn shards(&self) -> Vec<ShardRow>;
    fn replicas(&self) -> Vec<ReplicaRow>;
    fn config(&self) -> Vec<ConfigRow>;
    fn access(&self) -> Vec<AccessRow>;
    fn stats(&self) -> &Stats;
    /// Ok when the primary of every shard can be reached; else which cannot and why, for a person.
    fn healthy(&self) -> Result<(), String>;
    /// Reads the shard map again: what has changed, or why everything stays as it was; both for a person.
    async fn reload(&self) -> Result<String, String>;
}

impl ClientRow {
    /// A client's row; `shard_name` names a shard of the client's database.
    #[must_use]
    pub fn of(client: ClientStatus, shard_name: impl Fn(&str, u16) -> String) -> Self {
        let shards = client
            .shards
            .iter()
            .map(|shard| shard_name(&client.identity.database, *shard))
            .collect();
        Self {
            id: client.id,
            address: client
                .identity
                .peer
                .map_or_else(|| "[local]".to_owned(), |peer| peer.to_string()),
            user: client.identity.user,
            database: client.identity.database,
            application_name: client.application_name,
            state: client.state.as_str().to_owned(),
            in_state: client.in_state,
            wait: (client.state == ClientState::Waiting).then_some(client.in_state),
            pinned: client
                .pinned
                .map(|(reason, held)| (reason.to_owned(), held)),
            transaction: client.transaction,
            shards,
            connected: client.connected,
            queries: client.queries,
        }
    }
}
