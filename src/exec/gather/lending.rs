//! Scratch databases and the connections to them: one connection a database, taken by an advisory lock, kept for the next
//! statement of the same role. What is bounded is how many are in use; no more than that many are kept.

use super::disk::{Disk, Litter};
use crate::cluster::scratch::{
    Known, Object, Objects, Owner, Recipe, ScratchError, State, Workshop, database_name,
};
use crate::cluster::topology::ServerId;
use crate::exec::backend::Backend;
use crate::exec::executor::Executor;
use crate::exec::failure::{Failure, Report};
use crate::exec::relay::{RelayError, settle};
use crate::exec::servers::{Account, ServerUser};
use crate::pool::outstanding::Fate;
use crate::pool::server::{Answer, Server};
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

/// Who holds this lock in a scratch database has it for himself.
const CLAIM: &str = "SELECT pg_catalog.pg_try_advisory_lock(7305804402566980980)";
/// Databases of one role that are tried before giving up: other instances may have the first ones.
const TRIES_MAX: usize = 64;
/// To wait for one that is being emptied rather than make another.
const CLEANING_MAX: Duration = Duration::from_millis(100);
/// What is waited for, in messages.
const THING: &str = "a scratch database";
/// To make and furnish one.
const MAKING_MAX: Duration = Duration::from_secs(120);

pub struct Scratches {
    permits: Arc<Semaphore>,
    /// those that may be kept by a portal: half of them, so that the others never stand still for idle clients
    parking: Arc<Semaphore>,
    connections_max: usize,
    idle: Mutex<Vec<Scratch>>,
    /// of the catalog with this version
    recipe: tokio::sync::Mutex<Option<(u64, Arc<Recipe>)>>,
    names: Arc<Names>,
    returning: Arc<Returning>,
    pub disk: Disk,
    /// users who have turned out to have rights to columns only; no more than the map has
    by_columns: RwLock<HashSet<String>>,
}

/// Scratch databases that are being emptied: soon there will be one that need not be made.
#[derive(Default)]
struct Returning {
    count: AtomicUsize,
    done: Notify,
}

/// One of them.
pub struct Cleaning(Arc<Returning>);

impl Drop for Cleaning {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.done.notify_waiters();
    }
}

/// Databases that this process has.
#[derive(Default)]
struct Names(Mutex<HashSet<String>>);

/// Takes a name for as long as it lives.
struct Name {
    name: String,
    names: Arc<Names>,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.names.0.lock().remove(&self.name);
    }
}

pub struct Scratch {
    pub server: Server,
    pub member: ServerId,
    pub recipe: Arc<Recipe>,
    /// types and relations as they are here
    here: Objects,
    /// their OIDs here to what they are on the home shard
    pub oids: HashMap<u32, Known>,
    pub litter: Litter,
    /// a portal in it has given as many rows as it was asked for
    pub suspended: bool,
    user: String,
    _name: Name,
}

/// The right to keep a scratch database for longer than a statement.
pub struct Parking(#[expect(dead_code, reason = "held, not used")] OwnedSemaphorePermit);

/// A scratch database in use.
pub struct Lent {
    pub scratch: Scratch,
    _permit: OwnedSemaphorePermit,
}

impl Scratch {
    /// Runs our own statements.
    pub async fn run(&mut self, sql: &str, fate: Fate) -> Result<Answer, RelayError> {
        run(&mut self.server, sql, fate).await
    }

    pub fn has(&self, object: &Object) -> bool {
        self.here.contains_key(object)
    }

    /// Types of this schema as the home shard numbers them, to their numbers here.
    pub fn types_here(&self, types: &[u32]) -> Vec<u32> {
        let here = |oid: &u32| {
            self.oids
                .iter()
                .find(|(_, home)| home.oid == *oid)
                .map_or(*oid, |(here, _)| *here)
        };
        types
            .iter()
            .map(|oid| if *oid < 16_384 { *oid } else { here(oid) })
            .collect()
    }

    fn follow(&mut self, recipe: &Arc<Recipe>) {
        if Arc::ptr_eq(&self.recipe, recipe) && !self.oids.is_empty() {
            return;
        }
        self.recipe = recipe.clone();
        self.oids = self
            .here
            .iter()
            .filter_map(|(object, here)| Some((here.oid, *recipe.objects.get(object)?)))
            .collect();
    }
}

async fn run(server: &mut Server, sql: &str, fate: Fate) -> Result<Answer, RelayError> {
    let mut answer = Answer::default();
    server.query(sql.as_bytes(), fate);
    settle(server, &mut answer).await?;
    Ok(answer)
}

impl Scratches {
    #[must_use]
    pub fn new(connections_max: usize, disk_bytes_max: u64) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(connections_max)),
            parking: Arc::new(Semaphore::new(connections_max / 2)),
            connections_max,
            idle: Mutex::default(),
            recipe: tokio::sync::Mutex::default(),
            names: Arc::default(),
            returning: Arc::default(),
            disk: Disk::new(disk_bytes_max),
            by_columns: RwLock::default(),
        }
    }

    /// None: as many portals as may have kept theirs.
    pub fn parking(&self) -> Option<Parking> {
        let permit = self.parking.clone().try_acquire_owned();
        permit.ok().map(Parking)
    }

    pub fn reads_by_columns(&self, user: &str) -> bool {
        self.by_columns.read().contains(user)
    }

    pub fn read_by_columns(&self, user: &str) {
        self.by_columns.write().insert(user.to_owned());
    }

    pub fn has_idle(&self) -> bool {
        !self.idle.lock().is_empty()
    }

    /// Connections to databases of another schema keep them for nothing.
    pub fn close_idle_of_others(&self, fingerprint: u64) {
        let is_current = |scratch: &Scratch| scratch.recipe.fingerprint == fingerprint;
        self.idle.lock().retain(is_current);
    }

    pub fn cleaning(&self) -> Cleaning {
        self.returning.count.fetch_add(1, Ordering::SeqCst);
        Cleaning(self.returning.clone())
    }

    /// An idle one, or one that soon will be.
    async fn idle(&self, user: &str, member: ServerId, fingerprint: u64) -> Option<Scratch> {
        let until = tokio::time::Instant::now() + CLEANING_MAX;
        loop {
            let done = self.returning.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            let found = self.take_idle(user, member, fingerprint);
            if found.is_some() || self.returning.count.load(Ordering::SeqCst) == 0 {
                return found;
            }
            if tokio::time::timeout_at(until, done).await.is_err() {
                return None;
            }
        }
    }

    fn take_idle(&self, user: &str, member: ServerId, fingerprint: u64) -> Option<Scratch> {
        let mut idle = self.idle.lock();
        loop {
            let at = idle
                .iter()
                .rposition(|s| s.user == user && s.member == member)?;
            let mut scratch = idle.remove(at);
            if scratch.recipe.fingerprint == fingerprint && scratch.server.still_there() {
                return Some(scratch);
            }
        }
    }

    /// For the next statement.
    pub fn give_back(&self, lent: Lent) {
        let mut idle = self.idle.lock();
        idle.push(lent.scratch);
        while idle.len() > self.connections_max {
            idle.remove(0);
        }
    }

    /// One database the more is about to be in use.
    fn make_room(&self) {
        let in_use = self.connections_max - self.permits.available_permits();
        let mut idle = self.idle.lock();
        while !idle.is_empty() && idle.len() + in_use > self.connections_max {
            idle.remove(0);
        }
    }

    /// The schema as of this version of the catalog.
    pub async fn recipe(
        &self,
        backend: &Backend,
        version: u64,
    ) -> Result<Arc<Recipe>, ScratchError> {
        let mut known = self.recipe.lock().await;
        if let Some((of, recipe)) = known.as_ref()
            && *of == version
        {
            return Ok(recipe.clone());
        }
        let recipe = Arc::new(backend.loader().recipe().await?);
        *known = Some((version, recipe.clone()));
        Ok(recipe)
    }

    /// The schema has changed without a word: it is read again.
    pub async fn forget_recipe(&self) {
        *self.recipe.lock().await = None;
    }

    fn name(&self, name: &str) -> Option<Name> {
        self.names.0.lock().insert(name.to_owned()).then(|| Name {
            name: name.to_owned(),
            names: self.names.clone(),
        })
    }
}

/// What it takes to make a scratch database.
struct Making<'a> {
    backend: &'a Backend,
    workshop: Workshop<'a>,
    account: Account,
    owner: Owner,
    recipe: Arc<Recipe>,
}

impl Making<'_> {
    async fn make(&self) -> Result<Scratch, Report> {
        let scratches = &self.backend.scratches;
        for n in 1..=TRIES_MAX {
            let name = database_name(self.workshop.database, &self.owner.user, n);
            let Some(name) = scratches.name(&name) else {
                continue;
            };
            if let Some(server) = self.furnished(&name.name).await? {
                let contents = self.workshop.contents(&name.name).await;
                let contents = contents.map_err(report)?;
                let mut litter = Litter::default();
                for (table, bytes) in contents.litter {
                    litter.add(&table, bytes);
                }
                let mut scratch = Scratch {
                    server,
                    member: self.account.member(),
                    recipe: self.recipe.clone(),
                    here: contents.objects,
                    oids: HashMap::new(),
                    litter,
                    suspended: false,
                    user: self.owner.user.clone(),
                    _name: name,
                };
                scratch.follow(&self.recipe);
                return Ok(scratch);
            }
        }
        Err(Report::new(
            SqlState::TOO_MANY_CONNECTIONS,
            "no scratch database is free: others use all of them",
        )
        .hint("Fewer instances of pgshunt, or a smaller limits.gather_connections_max, need fewer of them."))
    }

    /// The connection to a database that is ours and has the schema; None when someone else has it.
    async fn furnished(&self, name: &str) -> Result<Option<Server>, Report> {
        self.workshop.ensure(name).await.map_err(report)?;
        let Some(server) = self.claim(name).await? else {
            return Ok(None);
        };
        // it may have changed until it was ours
        match self.workshop.ensure(name).await.map_err(report)? {
            State::Finished { fingerprint } if fingerprint == self.recipe.fingerprint => {
                return Ok(Some(server));
            }
            _ => drop(server),
        }
        let gone = self.workshop.remove(name).await.map_err(report)?;
        if !gone || self.workshop.ensure(name).await.map_err(report)? != State::New {
            return Ok(None);
        }
        let Some(server) = self.claim(name).await? else {
            return Ok(None);
        };
        let furnished = self.workshop.furnish(name, &self.owner, &self.recipe);
        furnished.await.map_err(report)?;
        tracing::info!(scratch = name, user = %self.owner.user, "made");
        Ok(Some(server))
    }

    async fn claim(&self, name: &str) -> Result<Option<Server>, Report> {
        let servers = &self.backend.servers;
        let connecting = servers.connect_aside(&self.account, name, MAKING_MAX);
        let mut server = match connecting.await {
            Ok(server) => server,
            // another instance has dropped it
            Err(report) if report.code == SqlState::INVALID_CATALOG_NAME => return Ok(None),
            Err(report) => return Err(report),
        };
        let answer = run(&mut server, CLAIM, Fate::Capture).await;
        let answer = answer.map_err(|error| broken(&error))?;
        let ours = answer.captured.first().is_some_and(|value| value == "t");
        Ok(ours.then_some(server))
    }
}

/// One scratch database for a user, with the schema of this version of the catalog.
struct Order {
    backend: Arc<Backend>,
    /// ours
    user: Arc<str>,
    known_as: ServerUser,
    home: ShardId,
    version: u64,
    permit: OwnedSemaphorePermit,
}

impl Order {
    async fn fulfil(self, tell: oneshot::Sender<Result<Lent, Report>>) {
        let backend = self.backend.clone();
        // who has asked for it has given up: it is there for the next one
        if let Err(Ok(lent)) = tell.send(self.lend().await) {
            backend.scratches.give_back(lent);
        }
    }

    async fn lend(self) -> Result<Lent, Report> {
        let Self {
            backend,
            user,
            known_as,
            home,
            version,
            permit,
        } = self;
        let scratches = &backend.scratches;
        scratches.find_room(&backend).await?;
        let member = backend.topology.scratch(home);
        let recipe = scratches.recipe(&backend, version).await.map_err(report)?;
        let found = scratches.idle(&known_as.name, member, recipe.fingerprint);
        let scratch = if let Some(mut scratch) = found.await {
            scratch.follow(&recipe);
            scratch
        } else {
            scratches.make_room();
            let making = Making {
                backend: &backend,
                workshop: backend.loader().workshop(backend.topology.address(member)),
                owner: Owner {
                    user: known_as.name.clone(),
                    password: known_as.password.clone(),
                    by_role: known_as.passes_on,
                },
                account: backend.servers.account(member, &user, known_as),
                recipe,
            };
            let made = tokio::time::timeout(MAKING_MAX, making.make()).await;
            made.unwrap_or_else(|_| Err(not_made(format!("within {MAKING_MAX:?}"))))?
        };
        Ok(Lent {
            scratch,
            _permit: permit,
        })
    }
}

impl Executor {
    /// A scratch database with the schema as it is in force.
    pub(super) async fn lend_scratch(&mut self) -> Result<Lent, Failure> {
        let longest = self.snapshot.database.pool.wait_max;
        let waiting = self.backend.scratches.permits.clone().acquire_owned();
        let waiting = tokio::time::timeout(longest, waiting);
        let Ok(Ok(permit)) = self.unless_cancelled(THING, waiting).await? else {
            return Err(all_in_use(longest).into());
        };
        let known_as = self.backend.server_user(&self.user).ok_or_else(|| {
            Report::new(
                SqlState::INVALID_AUTHORIZATION,
                "the user is no longer in the shard map",
            )
        })?;
        let order = Order {
            backend: self.backend.clone(),
            user: self.user.clone(),
            known_as,
            home: self.snapshot.database.home,
            version: self.snapshot.catalog.version,
            permit,
        };
        let (tell, told) = oneshot::channel();
        // aside: a statement that is cancelled before it is made does not undo the work, or the next one would be, too
        tokio::spawn(order.fulfil(tell));
        let lent = self.unless_cancelled(THING, told).await?;
        Ok(lent.unwrap_or_else(|_| Err(not_made("while pgshunt goes down".to_owned())))?)
    }
}

fn not_made(when: String) -> Report {
    Report::new(
        SqlState::CANNOT_CONNECT,
        format!("no scratch database was made {when}"),
    )
}

fn all_in_use(waited: Duration) -> Report {
    Report::new(
        SqlState::TOO_MANY_CONNECTIONS,
        format!("all scratch databases were in use for {} ms", waited.as_millis()),
    )
    .hint("limits.gather_connections_max in the shard map bounds them, pool.wait_ms_max how long a statement waits.")
}

/// The connection to the scratch database failed.
pub fn broken(error: &RelayError) -> Report {
    Report::new(
        SqlState::CONNECTION_FAILURE,
        format!("the connection to the scratch database was lost: {error}"),
    )
    .hint("Nothing was changed: try again.")
}

fn report(error: ScratchError) -> Report {
    match error {
        ScratchError::NoRight { user } => Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("this statement needs a scratch database, and the control user \"{user}\" may not create databases"),
        )
        .hint(format!("On the home shard's primary: ALTER ROLE \"{user}\" CREATEDB. Or give the shard key a value, so that one shard is named.")),
        other => Report::new(
            SqlState::CANNOT_CONNECT,
            format!("no scratch database could be made: {other}"),
        )
        .hint("See the log; pgshunt check looks at the rights it needs."),
    }
}
