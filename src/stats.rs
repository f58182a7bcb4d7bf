//! What pgshunt counts: totals of each user of each database, statements by fingerprint, connected clients. Every
//! session writes to its worker's own share and a reader adds the shares up, so that counting is one short lock that
//! nobody else wants. It does not read the clock and does not know what the numbers are shown on.

pub mod clients;
pub mod latency;
pub mod queries;
pub mod shards;
pub mod totals;
pub mod ways;

pub use clients::{ClientHandle, ClientInfo, ClientState, ClientStatus, Clients, Doing, Identity};
pub use queries::QueryTotals;
pub use shards::{ShardSet, ShardTally};
pub use totals::{Counts, Totals};
pub use ways::{Way, Ways};

use parking_lot::{Mutex, RwLock};
use queries::{Entry, Key, QueryTable};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Users of databases told apart; one more is counted under [`OTHER`]. Names come and go only with reloads.
const ACCOUNTS_MAX: usize = 1024;
/// Stands for what is not told apart any more.
pub const OTHER: &str = "(other)";

/// One executed statement.
#[derive(Clone, Copy, Debug)]
pub struct Executed<'a> {
    pub fingerprint: u128,
    pub shape: &'a Arc<str>,
    pub duration: Duration,
    pub rows: u64,
    pub outcome: Outcome,
    pub served_by: ServedBy,
    pub shards: ShardSet,
    /// None when no server had a part in it, and of what failed
    pub way: Option<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// an error from a server, or on the way to it
    Failed,
    /// pgshunt would not run it
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedBy {
    /// a read
    Replica,
    /// a read
    Primary,
    Write,
    /// a refusal, or an answer of pgshunt's own
    Nobody,
}

/// All counters.
#[derive(Debug)]
pub struct Stats {
    workers: Box<[Mutex<Worker>]>,
    accounts: RwLock<Accounts>,
    next_worker: AtomicUsize,
    queries_max: usize,
}

#[derive(Debug, Default)]
struct Worker {
    /// by account number; grows when a number is first used
    totals: Vec<Totals>,
    queries: QueryTable,
}

/// Numbers for the users of databases and for databases, so that counting compares no names. Number 0 is [`OTHER`].
#[derive(Debug)]
struct Accounts {
    names: Vec<AccountName>,
    databases: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AccountName {
    database: Arc<str>,
    user: Arc<str>,
}

/// The counters of one user of one database.
#[derive(Clone, Debug)]
pub struct AccountTotals {
    pub database: Arc<str>,
    pub user: Arc<str>,
    pub totals: Totals,
}

/// The counters of one statement; `statement` is None for those that are counted together.
#[derive(Clone, Debug)]
pub struct StatementTotals {
    pub statement: Option<Statement>,
    pub totals: QueryTotals,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub database: Arc<str>,
    pub fingerprint: u128,
    pub shape: Arc<str>,
}

impl Stats {
    /// `workers`: threads of the runtime. `queries_max`: fingerprints kept by each of them, and shown.
    #[must_use]
    pub fn new(workers: usize, queries_max: usize) -> Arc<Self> {
        Arc::new(Self {
            workers: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
            accounts: RwLock::new(Accounts::new()),
            next_worker: AtomicUsize::new(0),
            queries_max,
        })
    }

    /// One for each session, at its start.
    pub fn recorder(self: &Arc<Self>, database: &str, user: &str) -> Recorder {
        let (account, database) = self.accounts.write().number(database, user);
        let worker = self.next_worker.fetch_add(1, Ordering::Relaxed) % self.workers.len();
        Recorder {
            stats: Arc::clone(self),
            worker,
            account,
            database,
        }
    }

    /// Totals of every user of every database that has connected, by name.
    #[must_use]
    pub fn totals(&self) -> Vec<AccountTotals> {
        let mut sums: Vec<Totals> = Vec::new();
        for worker in &self.workers {
            let worker = worker.lock();
            sums.resize_with(sums.len().max(worker.totals.len()), Totals::default);
            for (sum, share) in sums.iter_mut().zip(&worker.totals) {
                sum.add(share);
            }
        }
        let names = self.accounts.read().names.clone();
        sums.resize_with(names.len(), Totals::default);
        let named = names.into_iter().zip(sums).enumerate();
        let mut all: Vec<_> = named
            .filter(|(number, (_, totals))| *number > 0 || totals.queries + totals.transactions > 0)
            .map(|(_, (name, totals))| AccountTotals {
                database: name.database,
                user: name.user,
                totals,
            })
            .collect();
        all.sort_by(|a, b| (&a.database, &a.user).cmp(&(&b.database, &b.user)));
        all
    }

    /// Statements by fingerprint, the most called first, at most `queries_max`; what is not told apart comes last.
    #[must_use]
    pub fn queries(&self) -> Vec<StatementTotals> {
        let (known, mut other) = self.sum_queries();
        let mut known: Vec<_> = known.into_iter().collect();
        known.sort_unstable_by_key(|(key, entry)| {
            (std::cmp::Reverse(entry.totals.calls), key.fingerprint)
        });
        for (_, entry) in known.drain(self.queries_max.min(known.len())..) {
            other.add(&entry.totals);
        }
        let accounts = self.accounts.read();
        let mut rows: Vec<_> = known
            .into_iter()
            .map(|(key, entry)| StatementTotals {
                statement: Some(Statement {
                    database: accounts.database(key.database),
                    fingerprint: key.fingerprint,
                    shape: entry.shape,
                }),
                totals: entry.totals,
            })
            .collect();
        if other.calls > 0 {
            rows.push(StatementTotals {
                statement: None,
                totals: other,
            });
        }
        rows
    }

    /// Makes room for new fingerprints; to be called every ten seconds or so.
    pub fn sweep(&self) {
        for worker in &self.workers {
            worker.lock().queries.sweep(self.queries_max);
        }
    }

    fn sum_queries(&self) -> (HashMap<Key, Entry>, QueryTotals) {
        let mut known: HashMap<Key, Entry> = HashMap::new();
        let mut other = QueryTotals::default();
        for worker in &self.workers {
            let worker = worker.lock();
            other.add(&worker.queries.other);
            for (key, entry) in worker.queries.iter() {
                known
                    .entry(*key)
                    .and_modify(|sum| sum.totals.add(&entry.totals))
                    .or_insert_with(|| entry.clone());
            }
        }
        (known, other)
    }
}

impl Accounts {
    fn new() -> Self {
        let other: Arc<str> = OTHER.into();
        Self {
            names: vec![AccountName {
                database: Arc::clone(&other),
                user: Arc::clone(&other),
            }],
            databases: vec![other],
        }
    }

    /// (account, database)
    fn number(&mut self, database: &str, user: &str) -> (usize, u32) {
        let known = self
            .names
            .iter()
            .position(|n| &*n.database == database && &*n.user == user);
        if known.is_none() && self.names.len() >= ACCOUNTS_MAX {
            return (0, 0);
        }
        let number = self.databases.iter().position(|name| &**name == database);
        let number = number.unwrap_or_else(|| {
            self.databases.push(database.into());
            self.databases.len() - 1
        });
        let account = known.unwrap_or_else(|| {
            let database = Arc::clone(&self.databases[number]);
            self.names.push(AccountName {
                database,
                user: user.into(),
            });
            self.names.len() - 1
        });
        // at most ACCOUNTS_MAX databases
        (account, number as u32)
    }

    fn database(&self, number: u32) -> Arc<str> {
        let name = self
            .databases
            .get(number as usize)
            .or_else(|| self.databases.first());
        name.cloned().unwrap_or_else(|| OTHER.into())
    }
}

/// A session's way to count. Each call is one short lock that at most a few sessions of the same worker share.
#[derive(Clone, Debug)]
pub struct Recorder {
    stats: Arc<Stats>,
    worker: usize,
    account: usize,
    database: u32,
}

impl Recorder {
    pub fn query(&self, executed: &Executed<'_>) {
        let mut worker = self.stats.workers[self.worker].lock();
        worker.totals_of(self.account).record(executed);
        worker
            .queries
            .record(self.database, executed, self.stats.queries_max);
    }

    pub fn count(&self, counts: &Counts) {
        self.stats.workers[self.worker]
            .lock()
            .totals_of(self.account)
            .count(counts);
    }
}

impl Worker {
    fn totals_of(&mut self, account: usize) -> &mut Totals {
        if self.totals.len() <= account {
            self.totals.resize_with(account + 1, Totals::default);
        }
        &mut self.totals[account]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed(fingerprint: u128, shape: &Arc<str>) -> Executed<'_> {
        Executed {
            fingerprint,
            shape,
            duration: Duration::from_millis(2),
            rows: 1,
            outcome: Outcome::Done,
            served_by: ServedBy::Replica,
            shards: ShardSet::one(1),
            way: Some(Way::Single),
        }
    }

    #[test]
    fn shares_of_all_workers_are_added_up() {
        let stats = Stats::new(3, 10);
        let shape: Arc<str> = "SELECT ?".into();
        for _ in 0..7 {
            let recorder = stats.recorder("social", "app");
            recorder.query(&executed(1, &shape));
            recorder.count(&Counts {
                transactions: 1,
                bytes_in: 10,
                waits: 1,
                ..Counts::default()
            });
        }
        let failed = Executed {
            outcome: Outcome::Failed,
            served_by: ServedBy::Write,
            ..executed(1, &shape)
        };
        stats.recorder("social", "other").query(&failed);
        let totals = stats.totals();
        assert_eq!(totals.len(), 2);
        assert_eq!((&*totals[0].database, &*totals[0].user), ("social", "app"));
        let app = &totals[0].totals;
        assert_eq!(
            (app.queries, app.transactions, app.bytes_in, app.waits),
            (7, 7, 70, 7)
        );
        assert_eq!(
            (app.replica_reads, app.errors, app.latency.count()),
            (7, 0, 7)
        );
        assert_eq!((totals[1].totals.writes, totals[1].totals.errors), (1, 1));
        let queries = stats.queries();
        assert_eq!(queries.len(), 1);
        assert_eq!(
            (
                queries[0].totals.calls,
                queries[0].totals.errors,
                queries[0].totals.rows
            ),
            (8, 1, 8)
        );
        assert_eq!(&*queries[0].statement.as_ref().unwrap().shape, "SELECT ?");
    }

    #[test]
    fn one_text_in_two_databases_is_two_statements() {
        let stats = Stats::new(1, 10);
        let shape: Arc<str> = "SELECT ?".into();
        stats.recorder("a", "app").query(&executed(1, &shape));
        stats.recorder("b", "app").query(&executed(1, &shape));
        let databases: Vec<_> = stats
            .queries()
            .into_iter()
            .map(|q| q.statement.unwrap().database)
            .collect();
        assert_eq!(databases.len(), 2);
        assert_ne!(databases[0], databases[1]);
    }

    #[test]
    fn fingerprints_are_bounded_and_nothing_is_lost_from_the_sum() {
        let stats = Stats::new(2, 5);
        let shape: Arc<str> = "SELECT ?".into();
        let recorders = [stats.recorder("a", "app"), stats.recorder("a", "app")];
        for round in 0..100_u128 {
            recorders[round as usize % 2].query(&executed(round, &shape));
            if round % 10 == 0 {
                stats.sweep();
            }
        }
        let queries = stats.queries();
        assert_eq!(queries.len(), 6);
        assert!(queries.last().unwrap().statement.is_none());
        assert_eq!(queries.iter().map(|q| q.totals.calls).sum::<u64>(), 100);
    }

    #[test]
    fn accounts_are_bounded_and_the_rest_is_counted_together() {
        let stats = Stats::new(1, 5);
        let shape: Arc<str> = "SELECT ?".into();
        for n in 0..ACCOUNTS_MAX + 10 {
            stats
                .recorder("a", &format!("user{n}"))
                .query(&executed(1, &shape));
        }
        let totals = stats.totals();
        assert_eq!(totals.len(), ACCOUNTS_MAX);
        assert_eq!(
            (&*totals[0].database, totals[0].totals.queries),
            (OTHER, 11)
        );
        assert_eq!(
            totals.iter().map(|t| t.totals.queries).sum::<u64>(),
            (ACCOUNTS_MAX + 10) as u64
        );
    }

    #[test]
    fn the_hot_path_is_short() {
        let stats = Stats::new(1, 100);
        let recorder = stats.recorder("a", "app");
        let shape: Arc<str> = "SELECT ?".into();
        let start = std::time::Instant::now();
        for n in 0..100_000_u128 {
            recorder.query(&executed(n % 50, &shape));
        }
        // tens of nanoseconds with optimisation; the bound only catches a blunder
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
