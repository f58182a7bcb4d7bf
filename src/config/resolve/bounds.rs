//! How long a client may take and how many there may be: set for all, for a database, for a user. The tightest holds.

use super::{Config, Database, PoolSettings, User};
use std::fmt;
use std::time::Duration;

/// As written in one place; None where nothing is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub clients_max: Option<usize>,
    /// one statement, from its arrival to the end of its answer
    pub query_max: Option<Duration>,
    pub transaction_max: Option<Duration>,
    /// in a transaction, the client's turn
    pub transaction_idle_max: Option<Duration>,
    /// outside a transaction
    pub client_idle_max: Option<Duration>,
}

/// What a user's pools have instead of the database's settings, where it is less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserPool {
    pub size: Option<usize>,
    pub wait_max: Option<Duration>,
}

impl UserPool {
    #[must_use]
    pub fn within(&self, settings: &PoolSettings) -> PoolSettings {
        let mut own = settings.clone();
        own.size = self.size.map_or(own.size, |size| size.min(own.size));
        own.size_min = own.size_min.min(own.size);
        own.wait_max = self
            .wait_max
            .map_or(own.wait_max, |max| max.min(own.wait_max));
        own
    }
}

/// Where a bound was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    All,
    Database(String),
    User(String),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all clients"),
            Self::Database(name) => write!(f, "database \"{name}\""),
            Self::User(name) => write!(f, "user \"{name}\""),
        }
    }
}

/// A time that holds for a client, and by whose limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub max: Duration,
    pub holder: Holder,
}

/// What holds for the clients of one user in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientBounds {
    pub query: Option<Bound>,
    pub transaction: Option<Bound>,
    pub transaction_idle: Option<Bound>,
    pub client_idle: Option<Bound>,
}

impl Config {
    #[must_use]
    pub fn client_bounds(&self, user: &str, database: &str) -> ClientBounds {
        let places = self.places(user, database);
        let tightest = |of: fn(&Bounds) -> Option<Duration>| {
            let bound = |(bounds, holder): &(Bounds, Holder)| {
                of(bounds).map(|max| Bound {
                    max,
                    holder: holder.clone(),
                })
            };
            places.iter().filter_map(bound).min_by_key(|b| b.max)
        };
        ClientBounds {
            query: tightest(|b| b.query_max),
            transaction: tightest(|b| b.transaction_max),
            transaction_idle: tightest(|b| b.transaction_idle_max),
            client_idle: tightest(|b| b.client_idle_max),
        }
    }

    /// How many clients this user and this database may have; that of all is `limits.clients_max`.
    #[must_use]
    pub fn clients_max(&self, user: &str, database: &str) -> [Option<usize>; 2] {
        let user = self.user(user).and_then(|u| u.bounds.clients_max);
        let database = self.database(database).and_then(|d| d.bounds.clients_max);
        [user, database]
    }

    /// The tightest time anybody is bounded by.
    #[must_use]
    pub fn shortest_bound(&self) -> Option<Duration> {
        let databases = self.databases.iter().map(|d| d.bounds);
        let users = self.users.iter().map(|u| u.bounds);
        std::iter::once(self.limits.bounds)
            .chain(databases)
            .chain(users)
            .flat_map(|b| {
                [
                    b.query_max,
                    b.transaction_max,
                    b.transaction_idle_max,
                    b.client_idle_max,
                ]
            })
            .flatten()
            .min()
    }

    fn places(&self, user: &str, database: &str) -> Vec<(Bounds, Holder)> {
        let mut places = Vec::with_capacity(3);
        places.extend(
            self.user(user)
                .map(|u| (u.bounds, Holder::User(u.name.clone()))),
        );
        places.extend(
            self.database(database)
                .map(|d| (d.bounds, Holder::Database(d.name.clone()))),
        );
        places.push((self.limits.bounds, Holder::All));
        places
    }

    fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.name == name)
    }
}
