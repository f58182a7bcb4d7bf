//! The control plane's connections: a small pool for each server of a database, lent by bb8. The sampler, the catalog
//! loader and the key draws use them; clients' statements never do.

use crate::config::{Database, ServerAddress, ServerTls, TlsMode};
use crate::net::tls::{TlsError, server_tls};
use bb8::{Pool, PooledConnection, RunError};
use bb8_postgres::PostgresConnectionManager;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections to one server: one stays with the sampler, the others are for loads and draws.
const CONNECTIONS_MAX: u32 = 4;
/// To connect, or to wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A peer that vanished without a word is noticed after this.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const IDLE_MAX: Duration = Duration::from_secs(60);

type Manager = PostgresConnectionManager<MakeRustlsConnect>;

/// Dereferences to `tokio_postgres::Client`; goes back to its pool on drop.
pub type ControlClient = PooledConnection<'static, Manager>;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("no connection of the control plane within {CONNECT_MAX:?}")]
    TimedOut,
    #[error("{host}:{port} is not a server of this database")]
    Unknown { host: String, port: u16 },
}

pub struct ControlPools {
    pools: HashMap<ServerAddress, Pool<Manager>>,
}

impl ControlPools {
    /// Opens nothing yet. Needs a tokio runtime around it.
    pub fn new(database: &Database) -> Result<Self, ControlError> {
        let tls = MakeRustlsConnect::new(client_config(&database.server_tls)?);
        let addresses = database
            .shards
            .iter()
            .flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas));
        let pools = addresses
            .map(|address| (address.clone(), pool(database, address, &tls)))
            .collect();
        Ok(Self { pools })
    }

    pub async fn client(&self, address: &ServerAddress) -> Result<ControlClient, ControlError> {
        let pool = self
            .pools
            .get(address)
            .ok_or_else(|| ControlError::Unknown {
                host: address.host.clone(),
                port: address.port,
            })?;
        pool.get_owned().await.map_err(|error| match error {
            RunError::User(error) => ControlError::Server(error),
            RunError::TimedOut => ControlError::TimedOut,
        })
    }
}

fn pool(database: &Database, address: &ServerAddress, tls: &MakeRustlsConnect) -> Pool<Manager> {
    let manager = Manager::new(settings(database, address), tls.clone());
    Pool::builder()
        .max_size(CONNECTIONS_MAX)
        .min_idle(0)
        // a round trip at each checkout tells nothing that the query itself would not
        .test_on_check_out(false)
        // who is down is reported at once, the caller decides when to ask again
        .retry_connection(false)
        .connection_timeout(CONNECT_MAX)
        .idle_timeout(IDLE_MAX)
        .max_lifetime(None)
        .build_unchecked(manager)
}

fn settings(database: &Database, address: &ServerAddress) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&address.host)
        .port(address.port)
        .dbname(&database.server_database)
        .user(&database.control_user)
        .application_name("pgshunt control")
        .ssl_mode(match database.server_tls.mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        })
        .connect_timeout(CONNECT_MAX)
        .keepalives_idle(SILENCE_MAX)
        .tcp_user_timeout(SILENCE_MAX);
    if let Some(password) = &database.control_password {
        config.password(password);
    }
    config
}

/// The connector wants a configuration also where TLS is off and it will not be used.
fn client_config(settings: &ServerTls) -> Result<rustls::ClientConfig, TlsError> {
    let unused = ServerTls {
        mode: TlsMode::Prefer,
        root_certificate: None,
    };
    let config = match server_tls(settings)? {
        Some(config) => Some(config),
        None => server_tls(&unused)?,
    };
    config
        .map(|config| (*config).clone())
        .ok_or(TlsError::RootMissing("disable"))
}

/// Postgres's own words where it said any.
pub fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!(
            "{}: {} ({})",
            said.severity(),
            said.message(),
            said.code().code()
        ),
        None => chain(error),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}
