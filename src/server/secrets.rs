//! Who may log in: the users of the shard map, and for databases with an `auth_query` those that the database knows. It is
//! asked over a connection of its own to the home shard's primary, which is opened when first needed.

use crate::auth::lookup::{Lookup, SecretSource};
use crate::auth::users::Users;
use crate::cluster::control::{ControlPools, words};
use crate::cluster::scratch::Owner;
use crate::config::{AuthQuery, Config, Database};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::{Client, Row};

/// For one answer, connecting included.
const ANSWER_MAX: Duration = Duration::from_secs(5);

pub fn users(config: &Config) -> Result<Users, String> {
    let users = Users::new(config).map_err(|e| e.to_string())?;
    let mut lookups = HashMap::new();
    for database in &config.databases {
        if let Some(settings) = &database.auth_query {
            let source = Source::new(database, settings)?;
            let lookup = Lookup::new(&database.name, settings, Box::new(source));
            lookups.insert(database.name.clone(), Arc::new(lookup));
        }
    }
    Ok(users.with_lookups(lookups))
}

/// Whether `auth_query` works, where there is one: its answer for the control user.
pub async fn try_out(database: &Database) -> Result<(), String> {
    let Some(settings) = &database.auth_query else {
        return Ok(());
    };
    let source = Source::new(database, settings)?;
    source.stored(&database.control_user).await.map(drop)
}

struct Source {
    control: ControlPools,
    database: Database,
    login: Option<(String, Option<String>)>,
    query: String,
    client: Mutex<Option<Client>>,
}

#[async_trait::async_trait]
impl SecretSource for Source {
    async fn stored(&self, user: &str) -> Result<Option<Option<String>>, String> {
        match tokio::time::timeout(ANSWER_MAX, self.ask(user)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {ANSWER_MAX:?}")),
        }
    }
}

impl Source {
    /// Opens nothing yet.
    fn new(database: &Database, settings: &AuthQuery) -> Result<Self, String> {
        Ok(Self {
            control: ControlPools::new(database).map_err(|e| e.to_string())?,
            database: database.clone(),
            login: settings.login.clone(),
            query: settings.query.clone(),
            client: Mutex::default(),
        })
    }

    async fn ask(&self, user: &str) -> Result<Option<Option<String>>, String> {
        let mut kept = self.client.lock().await;
        // taken out: a connection whose answer was not waited for is closed
        let client = match kept.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect().await?,
        };
        let mut rows = client.query(&self.query, &[&user]).await;
        let mut client = client;
        // closed by the server while it was idle
        if rows.is_err() && client.is_closed() {
            client = self.connect().await?;
            rows = client.query(&self.query, &[&user]).await;
        }
        *kept = Some(client);
        stored(&rows.map_err(|error| words(&error))?)
    }

    async fn connect(&self) -> Result<Client, String> {
        let home = &self.database.shards[self.database.home.index()].primary;
        let owner = self.login.clone();
        let owner = owner.map(|(user, password)| Owner {
            user,
            password,
            by_role: false,
        });
        let name = &self.database.server_database;
        let connected = self.control.connect(home, owner.as_ref(), name).await;
        connected.map_err(|error| format!("{}:{}: {error}", home.host, home.port))
    }
}

/// The second column of the only row.
fn stored(rows: &[Row]) -> Result<Option<Option<String>>, String> {
    let [row] = rows else {
        return match rows.len() {
            0 => Ok(None),
            several => Err(format!("the query gave {several} rows for one user")),
        };
    };
    if row.len() < 2 {
        return Err("the query gave one column, not a user's name and its password".to_owned());
    }
    row.try_get(1)
        .map(Some)
        .map_err(|error| format!("the query's second column is not a password: {error}"))
}
