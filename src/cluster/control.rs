//! The control plane's connections: a small pool for each server of a database, lent by bb8. The sampler, the catalog
//! loader and the key draws use them; clients' statements never do.

use super::gate::{Closed, Gate};
use crate::config::{Database, Negotiation, ServerAddress, ServerTls, TlsMode};
use crate::net::tls::{TlsError, server_tls};
use bb8::{ErrorSink, Pool, PooledConnection, RunError};
use bb8_postgres::PostgresConnectionManager;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_postgres::Socket;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connections to one server: one stays with the sampler, the others are for loads and draws.
const CONNECTIONS_MAX: u32 = 4;
/// To be let into a database that somebody tries to drop: PostgreSQL lets nobody in while it waits five seconds for those
/// who are inside to leave, and then for a checkpoint.
const LET_IN_MAX: Duration = Duration::from_secs(120);
/// To connect, or to wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A peer that vanished without a word is noticed after this.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A database that servers have from the beginning.
const ANY_DATABASE: &str = "postgres";
const IDLE_MAX: Duration = Duration::from_secs(60);

type Manager = PostgresConnectionManager<MakeRustlsConnect>;

/// Dereferences to `tokio_postgres::Client`; goes back to its pool on drop.
pub type ControlClient = PooledConnection<'static, Manager>;

/// The half of a connection that reads and writes.
pub type ControlConnection =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("{0}")]
    Refused(String),
    #[error("no connection of the control plane within {0:?}")]
    TimedOut(Duration),
    #[error("{host}:{port} is not a server of this database")]
    Unknown { host: String, port: u16 },
}

pub struct ControlPools {
    pools: HashMap<ServerAddress, Lender>,
    database: Database,
    tls: MakeRustlsConnect,
    gate: Arc<Gate>,
}

/// One server's pool, and what it last said when it would not connect.
struct Lender {
    /// another one once everybody had to leave the database
    pool: Mutex<Pool<Manager>>,
    refusals: Refusals,
}

/// bb8 keeps the reason of a failed connection to itself and lets its callers wait until their time is over: here the
/// reason is heard, and the callers are told at once.
#[derive(Clone, Debug, Default)]
struct Refusals(Arc<Refused>);

#[derive(Debug, Default)]
struct Refused {
    last: Mutex<Option<String>>,
    rings: Notify,
}

impl ErrorSink<tokio_postgres::Error> for Refusals {
    fn sink(&self, error: tokio_postgres::Error) {
        *self.0.last.lock() = Some(words(&error));
        self.0.rings.notify_waiters();
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<tokio_postgres::Error>> {
        Box::new(self.clone())
    }
}

impl Lender {
    async fn lend(&self) -> Result<ControlClient, ControlError> {
        let pool = self.pool.lock().clone();
        let refused = self.refusals.0.rings.notified();
        tokio::pin!(refused);
        refused.as_mut().enable();
        tokio::select! {
            biased;
            got = pool.get_owned() => got.map_err(|error| match error {
                RunError::User(error) => ControlError::Server(error),
                RunError::TimedOut => ControlError::TimedOut(CONNECT_MAX),
            }),
            () = refused => Err(self.reason()),
        }
    }

    fn reason(&self) -> ControlError {
        let last = self.refusals.0.last.lock().clone();
        last.map_or(ControlError::TimedOut(CONNECT_MAX), ControlError::Refused)
    }
}

impl ControlPools {
    /// Opens nothing yet. Needs a tokio runtime around it.
    pub fn new(database: &Database) -> Result<Self, ControlError> {
        let tls = MakeRustlsConnect::new(client_config(&database.server_tls)?);
        let addresses = database
            .shards
            .iter()
            .flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas))
            .chain(&database.scratch_server);
        let pools = addresses
            .map(|address| (address.clone(), lender(database, address, &tls)))
            .collect();
        Ok(Self {
            pools,
            database: database.clone(),
            tls,
            gate: Arc::default(),
        })
    }

    /// A connection of its own to another database of a server, as the control user or as a client's role. It closes when
    /// it is dropped.
    pub async fn connect(
        &self,
        address: &ServerAddress,
        owner: Option<&super::scratch::Owner>,
        database: &str,
    ) -> Result<tokio_postgres::Client, ControlError> {
        let mut config = settings(&self.database, address);
        config.dbname(database);
        let of_control = config.clone();
        if let Some(owner) = owner {
            config.user(&owner.user);
            // the control user's must not be shown in another's name
            config.password(owner.password.as_deref().unwrap_or_default());
        }
        let Some(owner) = owner.filter(|owner| owner.by_role) else {
            return self.open(&config, LET_IN_MAX).await;
        };
        let client = self.open(&of_control, LET_IN_MAX).await?;
        match self.take_role(&client, &owner.user).await {
            Ok(()) => Ok(client),
            // a server that trusts everybody asks for nothing
            Err(refused) => {
                let opened = self.open(&config, LET_IN_MAX).await;
                opened.map_err(|_| refused)
            }
        }
    }

    /// A connection of its own for what takes long: nobody waits for one that such work keeps.
    pub async fn connect_aside(
        &self,
        address: &ServerAddress,
    ) -> Result<tokio_postgres::Client, ControlError> {
        self.open(&settings(&self.database, address), CONNECT_MAX)
            .await
    }

    async fn open(
        &self,
        config: &tokio_postgres::Config,
        longest: Duration,
    ) -> Result<tokio_postgres::Client, ControlError> {
        let (client, connection) = self.dial_with(config, longest).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A connection of its own to a database of a server, as the control user; its other half is the caller's to read.
    pub async fn dial(
        &self,
        address: &ServerAddress,
        database: &str,
    ) -> Result<(tokio_postgres::Client, ControlConnection), ControlError> {
        self.admitted().await?;
        let mut config = settings(&self.database, address);
        config.dbname(database);
        self.dial_with(&config, CONNECT_MAX).await
    }

    async fn dial_with(
        &self,
        config: &tokio_postgres::Config,
        longest: Duration,
    ) -> Result<(tokio_postgres::Client, ControlConnection), ControlError> {
        let connecting = config.connect(self.tls.clone());
        let connected = tokio::time::timeout(longest, connecting).await;
        Ok(connected.map_err(|_| ControlError::TimedOut(longest))??)
    }

    async fn take_role(
        &self,
        client: &tokio_postgres::Client,
        user: &str,
    ) -> Result<(), ControlError> {
        let role = format!("\"{}\"", user.replace('"', "\"\""));
        let taken = client.batch_execute(&format!("SET ROLE {role}")).await;
        taken.map_err(|error| match error.as_db_error() {
            Some(_) => ControlError::Refused(format!(
                "{}; no password of this user is known, so its role is taken by the control user: GRANT {role} TO \"{}\"",
                words(&error),
                self.database.control_user
            )),
            None => error.into(),
        })
    }

    pub async fn client(&self, address: &ServerAddress) -> Result<ControlClient, ControlError> {
        let lender = self
            .pools
            .get(address)
            .ok_or_else(|| ControlError::Unknown {
                host: address.host.clone(),
                port: address.port,
            })?;
        self.admitted().await?;
        lender.lend().await
    }

    /// Where those who connect to the database look first.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Closes the gate, and every connection that nobody uses; those in use when they come back.
    #[must_use]
    pub fn leave(&self) -> Closed {
        let closed = self.gate.close();
        for (address, lender) in &self.pools {
            *lender.pool.lock() = pool(&self.database, address, &self.tls, &lender.refusals);
        }
        closed
    }

    async fn admitted(&self) -> Result<(), ControlError> {
        let opened = tokio::time::timeout(CONNECT_MAX, self.gate.opened()).await;
        opened.map_err(|_| ControlError::TimedOut(CONNECT_MAX))
    }
}

fn lender(database: &Database, address: &ServerAddress, tls: &MakeRustlsConnect) -> Lender {
    let refusals = Refusals::default();
    Lender {
        pool: Mutex::new(pool(database, address, tls, &refusals)),
        refusals,
    }
}

fn pool(
    database: &Database,
    address: &ServerAddress,
    tls: &MakeRustlsConnect,
    refusals: &Refusals,
) -> Pool<Manager> {
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
        .error_sink(Box::new(refusals.clone()))
        .build_unchecked(manager)
}

fn settings(database: &Database, address: &ServerAddress) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    let mut shards = database.shards.iter();
    let of_a_shard = shards.any(|s| s.primary == *address || s.replicas.contains(address));
    let only_scratch = database.scratch_server.as_ref() == Some(address) && !of_a_shard;
    config
        .host(&address.host)
        .port(address.port)
        .dbname(if only_scratch {
            ANY_DATABASE
        } else {
            &database.server_database
        })
        .user(&database.control_user)
        .application_name("pgshunt control")
        .ssl_mode(match database.server_tls.mode {
            // as libpq: no TLS over Unix sockets, whatever the mode
            _ if address.socket().is_some() => SslMode::Disable,
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        })
        .ssl_negotiation(match database.server_tls.negotiation {
            Negotiation::Direct if address.socket().is_none() => SslNegotiation::Direct,
            _ => SslNegotiation::Postgres,
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
        own_certificate: None,
        negotiation: Negotiation::Asked,
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
