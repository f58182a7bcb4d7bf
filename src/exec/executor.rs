//! The executor holds what a session holds: the client's socket, servers, transaction, settings, watermarks.
//! It runs one job at a time and leaves the books in order behind it.

use super::backend::{Backend, Snapshot};
use super::client::Client;
use super::failure::{Failure, Report};
use super::freshness::Freshness;
use super::held::{Held, Pin};
use super::job::{Job, Setting};
use super::listening::Listening;
use super::measure::Measured;
use super::overrun::Overrun;
use super::relay::RelayError;
use super::sequences::Written;
use super::servers::Entry;
use super::transaction::{Kind, Opened, Transaction};
use crate::cluster::topology::{ReadChoice, ServerId, Topology};
use crate::config::{Pins, PoolMode};
use crate::consistency::Level;
use crate::pool::Checkout;
use crate::pool::outstanding::Fate;
use crate::pool::server::{Described, Server, Status, belongs_to_session, parameters_hash};
use crate::route::{Access, Ddl, Isolation, Merge, Targets};
use crate::shard::ShardId;
use crate::vars::Vars;
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many samples a session that reads without pause waits for, so that it gets back to the replicas.
const SETTLE_SAMPLES: u32 = 3;

/// Servers found dead one after the other before a statement gives up.
const DEAD_MAX: u32 = 5;
/// Within this time a primary one of whose servers has ended shows that it goes on.
const STILL_THERE_MAX: Duration = Duration::from_millis(500);

/// The servers whose work a cancel request of this client would stop.
#[derive(Default)]
pub struct CancelTarget {
    pub running: SmallVec<[(ServerId, i32, i32); 2]>,
    /// where they are; a reload may have replaced the session's own by now
    pub topology: Option<Arc<Topology>>,
    /// processes that a cancel request may still reach: it was not seen to arrive
    pub doubtful: SmallVec<[i32; 2]>,
}

/// Shared with the one who receives cancel requests. The outer lock is held while a cancel is under way,
/// so that no server goes back to its pool before the cancel has arrived.
#[derive(Default)]
pub struct CancelSlot {
    pub target: tokio::sync::Mutex<CancelTarget>,
    /// wakes a client that is idle, when pgshunt shuts down
    pub bell: futures::task::AtomicWaker,
    /// wakes a client that waits for a server
    pub wake: tokio::sync::Notify,
    /// a cancel came for what the client does now: what takes several steps looks here before the next one
    pub requested: AtomicBool,
    pub overrun: Overrun,
}

impl CancelSlot {
    /// The client has begun something else: what was cancelled is behind it, unless its connection ends.
    pub fn begin(&self) {
        if self.requested.load(Ordering::SeqCst) {
            self.requested.store(false, Ordering::SeqCst);
            if self.overrun.lift() {
                self.requested.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Waits only while a cancel is under way.
    pub(super) async fn lock(&self) -> tokio::sync::MutexGuard<'_, CancelTarget> {
        match self.target.try_lock() {
            Ok(target) => target,
            Err(_) => Box::pin(self.target.lock()).await,
        }
    }
}

pub struct Executor {
    pub client: Client,
    pub backend: Arc<Backend>,
    /// what the current transaction (or statement) reads
    pub snapshot: Arc<Snapshot>,
    pub user: Arc<str>,
    /// pools this session has used; of this backend
    pub entries: SmallVec<[Arc<Entry>; 2]>,
    pub held: Vec<Held>,
    pub transaction: Option<Transaction>,
    pub vars: Vars,
    pub freshness: Freshness,
    pub cancel: Arc<CancelSlot>,
    /// a commit's error, until it is known where it belongs
    pub pending_error: Option<Box<Bytes>>,
    /// parameters as the client knows them
    pub reported: Arc<Vec<(String, String)>>,
    pub reported_hash: u64,
    /// as a server that has the session's settings reports them now, if that differs
    pub observed: Option<Box<Vec<(String, String)>>>,
    /// the channels it listens to
    pub listening: Option<Box<Listening>>,
    /// statements parsed by the last batch before it failed
    pub parsed: u32,
    /// unlike that of any other session
    pub id: u64,
    /// its process's number, as the client has been told
    pub pid: i32,
    pub written: Written,
    /// what shared a server has had to run again
    pub missed: bool,
    /// the statements it has described, if any
    pub described: Option<Box<Vec<Described>>>,
    /// a server that the session's state lived on is gone: so must the session
    pub bereft: Option<Box<Report>>,
    /// what this primary's server said when it ended while it owed an answer
    pub ended: Option<Box<(ServerId, Report)>>,
    /// EXPLAIN (ANALYZE) measures the run
    pub measured: Option<Box<Measured>>,
    /// the clock as last read: when the work at hand began, or when its answer had come in
    pub clock: Instant,
}

/// What a finished job tells its caller.
#[derive(Debug, Default)]
pub struct Done {
    pub rows: u64,
    pub tag: Option<String>,
    /// statements parsed before an error
    pub by_replica: bool,
    pub shards: u32,
    /// the only one
    pub shard: Option<ShardId>,
    /// first columns, where they were captured
    pub captured: Vec<Bytes>,
    /// from when its only server could begin to its answer, and the bytes of that; unknown: zero
    pub took: std::time::Duration,
    pub bytes: usize,
}

/// Where a read may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// the level asks for, as far as proven
    ReplicaIfFresh(Level),
    Primary,
}

impl Executor {
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The transaction is good for nothing but its end.
    pub fn has_failed(&self) -> bool {
        self.transaction.as_ref().is_some_and(|tx| tx.failed)
    }

    /// A transaction is open in which statements still run.
    pub fn has_live_transaction(&self) -> bool {
        self.in_transaction() && !self.has_failed()
    }

    /// What a portal is asked for needs its transaction.
    pub(super) fn guard_failed(&self) -> Result<(), Report> {
        if self.has_live_transaction() {
            Ok(())
        } else {
            Err(in_failed_transaction())
        }
    }

    /// The status for ReadyForQuery.
    pub fn status(&self) -> u8 {
        match &self.transaction {
            None => b'I',
            Some(tx) if tx.failed => b'E',
            Some(_) => b'T',
        }
    }

    /// A statement failed: so has the transaction around it.
    pub fn note_failure(&mut self) {
        if let Some(tx) = &mut self.transaction {
            tx.failed = true;
        }
    }

    /// Runs one job; what the client is to see is in its output when this returns.
    pub async fn run(&mut self, job: &Job, level: Level) -> Result<Done, Failure> {
        if self.has_failed() && !self.server_knows_failure() {
            return Err(in_failed_transaction().into());
        }
        if let Some(reason) = job.effects.pins.filter(|_| job.executes) {
            self.guard_pin(reason)?;
        }
        // describing a statement does not bring a server into the transaction
        let aside = if job.only_describes() && self.held.is_empty() {
            self.transaction.take().map(Box::new)
        } else {
            None
        };
        let result = match self.only_shard(job) {
            // the way nearly everything goes
            Some(shard) => self.run_single(job, shard, level).await,
            None => Box::pin(self.dispatch(job, level)).await,
        };
        // one server's answer has set it already
        if result.is_err() || !matches!(job.targets, Targets::One(_)) || job.merge != Merge::Single
        {
            self.clock = Instant::now();
        }
        self.reconcile(job.effects.ddl);
        if aside.is_some() {
            self.let_idle_servers_go().await;
            self.transaction = aside.map(|aside| *aside);
        }
        if result.is_err() {
            self.note_failure();
        }
        // what a vanished client's servers are doing is stopped by whoever ends the session
        if !job.keeps_batch_open() && !matches!(result, Err(Failure::ClientGone)) {
            self.let_idle_servers_go().await;
        }
        result
    }

    /// What would keep its server beyond the transaction, where the map does not allow that.
    pub fn guard_pin(&self, reason: &str) -> Result<(), Report> {
        let pool = &self.snapshot.database.pool;
        if pool.pins == Pins::Allowed || pool.mode == PoolMode::Session {
            return Ok(());
        }
        Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("this would keep a server connection beyond its transaction ({reason})"),
        )
        .hint("pool.pin in the shard map refuses that; `pin: allow` and `mode: session` do not."))
    }

    /// With one shard its server words what it says in the transaction it has failed: a syntax error comes first there, and
    /// PREPARE TRANSACTION is a ROLLBACK.
    fn server_knows_failure(&self) -> bool {
        match &self.held[..] {
            [held] => {
                self.snapshot.database.shards.len() == 1
                    && held.in_transaction
                    && held.server.in_step()
                    && held.server.status() == Status::Failed
            }
            _ => false,
        }
    }

    /// The shard it runs on, where that is one.
    fn only_shard(&self, job: &Job) -> Option<ShardId> {
        match (&job.targets, &job.merge) {
            (_, Merge::Everywhere) => (!job.executes).then(|| self.any_shard()),
            (_, Merge::EverywhereOutsideTransaction) | (Targets::Many(_), _) => None,
            (Targets::One(shard), _) => Some(*shard),
            (Targets::None, _) => Some(self.any_shard()),
        }
    }

    /// Work for several shards.
    async fn dispatch(&mut self, job: &Job, level: Level) -> Result<Done, Failure> {
        match (&job.targets, &job.merge) {
            (_, Merge::Everywhere) => self.run_everywhere(job).await,
            (_, Merge::EverywhereOutsideTransaction) => self.run_one_after_another(job).await,
            (Targets::Many(shards), Merge::Concatenate) => {
                self.run_concatenated(job, shards, level).await
            }
            (Targets::Many(shards), Merge::Combine(_)) => {
                self.run_combined(job, shards, level).await
            }
            (Targets::Many(shards), Merge::Gather(gather)) => {
                self.run_gathered(job, gather, shards, level).await
            }
            _ => Err(several_shards().into()),
        }
    }

    /// A shard for what any of them can answer: one that is held already, else the home shard.
    pub fn any_shard(&self) -> ShardId {
        self.held
            .first()
            .map_or(self.snapshot.database.home, |h| h.shard)
    }

    /// Where a read goes: to a replica when no transaction that could write is open. A batch without its Sync is one.
    pub fn placement(&self, job: &Job, level: Level) -> Placement {
        let allowed = match &self.transaction {
            None => !job.keeps_batch_open(),
            Some(tx) => tx.replica_can_serve(),
        };
        // a session that keeps its server may write next
        if job.access == Access::Read && allowed && job.effects.pins.is_none() {
            Placement::ReplicaIfFresh(level)
        } else {
            Placement::Primary
        }
    }

    /// Index of the held server of this shard; takes one if need be and brings it into the transaction.
    pub async fn acquire(
        &mut self,
        shard: ShardId,
        placement: Placement,
    ) -> Result<usize, Failure> {
        for _ in 0..DEAD_MAX {
            let index = self.held_or_taken(shard, placement).await?;
            if !self.lacks_settings(index) {
                return self.joined(index).await;
            }
            if Box::pin(self.bring_settings(index)).await? {
                self.still_wanted()?;
                return self.joined(index).await;
            }
        }
        Err(Report::new(
            SqlState::CONNECTION_FAILURE,
            "one server after the other was lost before it could be asked anything",
        )
        .hint("SHOW REPLICAS in the admin database shows which servers are up.")
        .into())
    }

    async fn joined(&mut self, index: usize) -> Result<usize, Failure> {
        if self.transaction.is_some() && !self.held[index].in_transaction {
            Box::pin(self.join_transaction(index)).await?;
        }
        Ok(index)
    }

    /// The held server of this shard, or one just taken.
    async fn held_or_taken(
        &mut self,
        shard: ShardId,
        placement: Placement,
    ) -> Result<usize, Failure> {
        let usable =
            |h: &Held| !h.is_replica || h.in_transaction || placement != Placement::Primary;
        let index = match self.held.iter().position(|h| h.shard == shard) {
            Some(index) if usable(&self.held[index]) => index,
            other => {
                if let Some(replica) = other {
                    self.drop_held(replica);
                }
                if let Some(index) = self.take_idle_server(shard, placement) {
                    index
                } else {
                    let index = Box::pin(self.take_server(shard, placement)).await?;
                    self.still_wanted()?;
                    index
                }
            }
        };
        Ok(index)
    }

    /// The common case, in which nothing is waited for. None: `take_server` has to see to it.
    fn take_idle_server(&mut self, shard: ShardId, placement: Placement) -> Option<usize> {
        let choice = self.choose_now(shard, placement, self.clock);
        if choice.worth_waiting {
            return None;
        }
        let entry = self.entry(choice.server).ok()?;
        let servers = &self.backend.servers;
        let server = servers.checkout_idle(&entry, self.written.at_home(self.id))?;
        self.hold_chosen(shard, &choice, server)
    }

    /// Index of this server, which was idle; None where it may not serve the read.
    pub(super) fn hold_chosen(
        &mut self,
        shard: ShardId,
        choice: &ReadChoice,
        server: Checkout<Server>,
    ) -> Option<usize> {
        if choice.is_replica && !choice.admits(server.info.born) {
            server.info.note_idle(server.prepared_len(), self.clock);
            server.check_in();
            return None;
        }
        Some(self.hold(Held::new(shard, choice.server, choice.is_replica, server)))
    }

    /// The pool of this server and the session's user.
    pub(super) fn entry(&mut self, member: ServerId) -> Result<Arc<Entry>, Report> {
        if let Some(entry) = self.entries.iter().find(|e| e.member == member) {
            return Ok(entry.clone());
        }
        let account = self.backend.server_user(&self.user).ok_or_else(|| {
            Report::new(
                SqlState::INVALID_AUTHORIZATION,
                format!("user \"{}\" is no longer in the shard map", self.user),
            )
        })?;
        let entry = self.backend.servers.entry(member, &self.user, account);
        self.entries.push(entry.clone());
        Ok(entry)
    }

    async fn take_server(
        &mut self,
        shard: ShardId,
        placement: Placement,
    ) -> Result<usize, Failure> {
        let choice = self.choose(shard, placement).await;
        let server = match (choice.is_replica, self.checkout(choice.server).await) {
            // connected after the replica was proven fresh: it may have been restarted in between
            (true, Ok(server)) if !choice.admits(server.info.born) => {
                if self
                    .proven_since(choice.server, server.info.born, placement)
                    .await
                {
                    Some(server)
                } else {
                    server.check_in();
                    None
                }
            }
            (_, Ok(server)) => Some(server),
            // a replica that cannot be had is no reason to fail: the primary knows all it knows
            (true, Err(Failure::Report(_))) => None,
            (_, Err(failure)) => return Err(failure),
        };
        let held = if let Some(server) = server {
            Held::new(shard, choice.server, choice.is_replica, server)
        } else {
            let primary = self.backend.topology.primary(shard);
            Held::new(shard, primary, false, self.checkout(primary).await?)
        };
        self.clock = Instant::now();
        Ok(self.hold(held))
    }

    /// Index of the server that is held from now on.
    pub(super) fn hold(&mut self, held: Held) -> usize {
        self.held.push(held);
        self.held.len() - 1
    }

    /// Waits a few samples for the proof that this replica is fresh, by one asked for after it was connected to.
    async fn proven_since(
        &mut self,
        server: ServerId,
        born: Instant,
        placement: Placement,
    ) -> bool {
        let Placement::ReplicaIfFresh(level) = placement else {
            return false;
        };
        let backend = self.backend.clone();
        let longest = self.snapshot.database.consistency.sample_busy * SETTLE_SAMPLES;
        let proven = || {
            let choice = self.ask_topology(server.shard, level, Instant::now());
            choice.server == server && choice.admits(born)
        };
        backend.topology.settle(server.shard, longest, proven).await
    }

    async fn choose(&mut self, shard: ShardId, placement: Placement) -> ReadChoice {
        let choice = self.choose_now(shard, placement, Instant::now());
        if !choice.worth_waiting {
            return choice;
        }
        let backend = self.backend.clone();
        let longest = self.snapshot.database.consistency.sample_busy * SETTLE_SAMPLES;
        let ready = || self.choose_now(shard, placement, Instant::now()).is_replica;
        backend.topology.settle(shard, longest, ready).await;
        self.choose_now(shard, placement, Instant::now())
    }

    pub(super) fn choose_now(
        &mut self,
        shard: ShardId,
        placement: Placement,
        now: Instant,
    ) -> ReadChoice {
        match placement {
            Placement::Primary => ReadChoice::primary(shard),
            Placement::ReplicaIfFresh(level) => self.ask_topology(shard, level, now),
        }
    }

    fn ask_topology(&mut self, shard: ShardId, level: Level, now: Instant) -> ReadChoice {
        let Self {
            backend,
            freshness,
            user,
            entries,
            ..
        } = self;
        let load = |member| match entries.iter().find(|e| e.member == member) {
            Some(entry) => entry.load(),
            None => backend.servers.load(member, user),
        };
        freshness.choose(&backend.topology, shard, level, now, load)
    }

    /// A server of the pool; a cancel request ends the wait.
    async fn checkout(&mut self, member: ServerId) -> Result<Checkout<Server>, Failure> {
        let entry = self.entry(member)?;
        if !self.held.is_empty() {
            return Box::pin(self.checkout_holding(&entry)).await;
        }
        let whose = self.written.at_home(self.id);
        let checkout = self.backend.servers.checkout(&entry, whose);
        Ok(self.unless_cancelled("a server", checkout).await??)
    }

    /// A wait that a cancel request has ended, or a bound.
    /// What is waited for, unless a cancel request comes first or has come already.
    pub(super) async fn unless_cancelled<T>(
        &self,
        thing: &str,
        wanted: impl Future<Output = T>,
    ) -> Result<T, Report> {
        let cancel = self.cancel.wake.notified();
        if self.cancel.requested.load(Ordering::SeqCst) {
            return Err(self.cancelled_waiting(thing));
        }
        tokio::select! {
            biased;
            got = wanted => Ok(got),
            () = cancel => Err(self.cancelled_waiting(thing)),
        }
    }

    pub(super) fn cancelled_waiting(&self, thing: &str) -> Report {
        self.cancelled(&format!(" while it waited for {thing}"))
    }

    pub(super) fn cancelled(&self, circumstances: &str) -> Report {
        self.cancel.overrun.of_statement().unwrap_or_else(|| {
            let message = format!("canceling statement due to user request{circumstances}");
            Report::new(SqlState::QUERY_CANCELED, message)
        })
    }

    /// To be asked between the steps of what takes several: a cancel request may have come when there was nothing to stop.
    pub fn still_wanted(&self) -> Result<(), Report> {
        if self.cancel.requested.load(Ordering::SeqCst) {
            return Err(self.cancelled(""));
        }
        Ok(())
    }

    /// The settings that a server must have: the session's, or those the transaction began with, which it is about to
    /// join.
    pub(super) fn wanted_settings(&self) -> &Vars {
        match &self.transaction {
            Some(tx) => &tx.vars_before,
            None => &self.vars,
        }
    }

    fn lacks_settings(&mut self, index: usize) -> bool {
        let held = &self.held[index];
        if held.in_transaction || held.batch_open {
            return false;
        }
        let wanted = match &mut self.transaction {
            Some(tx) => &mut tx.vars_before,
            None => &mut self.vars,
        };
        !wanted.agree(&held.server.vars)
    }

    /// Brings the server to the wanted settings. False: it was dead already, and nothing is lost with it.
    async fn bring_settings(&mut self, index: usize) -> Result<bool, Failure> {
        let wanted = self.wanted_settings().clone();
        let held = &mut self.held[index];
        let has = &held.server.vars;
        let way = match held.pin {
            Some(_) => has.careful_way_to(&wanted),
            None => has.way_to(&wanted),
        };
        let Some(sql) = way else {
            held.server.vars = wanted;
            return Ok(true);
        };
        let answer = match held.run(&sql, Fate::Skip).await {
            Ok(answer) => answer,
            Err(_) if held.pin.is_none() => {
                self.drop_held(index);
                return Ok(false);
            }
            Err(error) => return Err(self.lost(index, &error)),
        };
        let held = &mut self.held[index];
        if let Some(error) = answer.own_error {
            held.server
                .taint("a session setting could not be brought to it");
            self.client.show_error(&error);
            self.drop_held(index);
            return Err(Failure::Shown);
        }
        held.server.vars = wanted;
        Ok(true)
    }

    pub async fn join_transaction(&mut self, index: usize) -> Result<(), Failure> {
        let Some(tx) = &self.transaction else {
            return Ok(());
        };
        let others = self.held.iter().any(|h| h.in_transaction);
        let held = &mut self.held[index];
        if held.in_transaction {
            return Ok(());
        }
        if others && tx.isolation == Some(Isolation::Serializable) {
            return Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a SERIALIZABLE transaction over several shards is not supported",
            )
            .hint("Stay on one shard, or use REPEATABLE READ.")
            .into());
        }
        let shard = held.shard;
        held.vars_before = held.server.vars.clone();
        held.in_transaction = true;
        held.wrote = held.batch_open && held.wrote;
        held.stamped = held.batch_open && held.stamped;
        held.read = held.batch_open && held.read;
        held.server.begin(tx.begin().as_bytes());
        let missed = tx.missed();
        if let Some(tx) = &mut self.transaction {
            tx.joined_first.get_or_insert(shard);
        }
        if missed.is_empty() {
            return Ok(());
        }
        match held.run(&missed, Fate::Skip).await {
            Ok(answer) if answer.own_error.is_none() => {
                self.held[index].server.vars = self.vars.clone();
                Ok(self.still_wanted()?)
            }
            Ok(answer) => {
                self.client
                    .show_error(&answer.own_error.unwrap_or_default());
                self.drop_held(index);
                Err(Failure::Shown)
            }
            Err(error) => Err(self.lost(index, &error)),
        }
    }

    /// The server is out of reach or out of step: it is closed, and the transaction with it.
    pub fn lost(&mut self, index: usize, error: &RelayError) -> Failure {
        if matches!(error, RelayError::ClientGone) {
            self.held[index].server.taint("its client is gone");
            return Failure::ClientGone;
        }
        let pinned = self.held[index].pin.map(|pin| pin.reason);
        let held = self.drop_held(index);
        if let RelayError::ServerSaid { code, message } = error
            && code == SqlState::ADMIN_SHUTDOWN.0
            && held.member == 0
        {
            let said = Report::new(SqlState::ADMIN_SHUTDOWN, message.clone());
            self.ended = Some(Box::new((held, said)));
        }
        let name = self.backend.servers.member_name(held);
        if self.transaction.is_some()
            && let Some(tx) = &mut self.transaction
        {
            tx.failed = true;
            tx.lost = true;
        }
        tracing::warn!(server = %name, %error, "server connection lost");
        let report = Report::new(
            code_of(error),
            format!("the connection to {name} was lost: {error}"),
        );
        if let Some(reason) = pinned {
            let hint = format!(
                "The session's state was there ({reason}): connect again. Whether the statement took effect is not known unless it was a read."
            );
            self.bereft = Some(Box::new(report.clone().hint(hint)));
        }
        report
            .hint("Whether the statement took effect is not known unless it was a read. Roll back if in a transaction, and try again.")
            .into()
    }

    /// The session's server has ended while it owed an answer. Where it alone was ended, somebody meant the session, which
    /// ends with it as at PostgreSQL; not where all its servers go because PostgreSQL does.
    pub async fn see_whether_meant(&mut self) {
        let Some((primary, said)) = self.ended.take().map(|ended| *ended) else {
            return;
        };
        let Ok(entry) = self.entry(primary) else {
            return;
        };
        // a connection that is there already may not have heard of it yet
        let servers = &self.backend.servers;
        if servers.lets_in(&entry, STILL_THERE_MAX).await {
            self.bereft = Some(Box::new(said));
        }
    }

    /// Closes a held server.
    pub fn drop_held(&mut self, index: usize) -> ServerId {
        let mut held = self.held.remove(index);
        held.server.taint("closed");
        self.mourn(&held);
        held.member
    }

    /// A server is given up. With it goes what the session had there.
    fn mourn(&mut self, held: &Held) {
        let Some(pin) = &held.pin else { return };
        let name = self.backend.servers.member_name(held.member);
        let report = Report::new(
            SqlState::CONNECTION_FAILURE,
            format!(
                "the connection to {name} was given up, and the session's state with it ({})",
                pin.reason
            ),
        );
        let hint = "Connect again; a transaction that was open has been rolled back.";
        self.bereft
            .get_or_insert_with(|| Box::new(report.hint(hint)));
    }

    /// After a job or a transaction: what nothing pins goes back to its pool.
    pub async fn let_idle_servers_go(&mut self) {
        if self.transaction.is_some() || self.held.is_empty() {
            return;
        }
        self.forget_cancel().await;
        let session_mode = self.snapshot.database.pool.mode == PoolMode::Session;
        let mut index = 0;
        while index < self.held.len() {
            let held = &mut self.held[index];
            if session_mode && !held.is_replica && held.pin.is_none() {
                held.pin = Some(Pin {
                    reason: "session mode",
                    since: Instant::now(),
                });
            }
            if held.in_transaction
                || held.batch_open
                || (held.pin.is_some() && held.server.is_clean())
            {
                held.wrote &= held.in_transaction || held.batch_open;
                held.read &= held.in_transaction || held.batch_open;
                index += 1;
            } else {
                let mut held = self.held.remove(index);
                self.mourn(&held);
                if self.snapshot.database.pool.verify {
                    Box::pin(held.verify()).await;
                }
                if let Some(unclean) = held.let_go_clean(self.clock) {
                    Box::pin(unclean.let_go()).await;
                }
            }
        }
    }

    /// From now on a cancel request stops these servers. One that came before, when there was nothing to stop, is obeyed
    /// here.
    pub(super) async fn aim_cancel(&self) -> Result<(), Report> {
        self.note_cancel_target().await;
        self.still_wanted()
    }

    /// From now on a cancel request stops these servers.
    pub(super) async fn note_cancel_target(&self) {
        let mut target = self.cancel.lock().await;
        let topology = &self.backend.topology;
        if !target
            .topology
            .as_ref()
            .is_some_and(|t| Arc::ptr_eq(t, topology))
        {
            target.topology = Some(topology.clone());
        }
        target.running.clear();
        target.running.extend(
            self.held
                .iter()
                .map(|h| (h.member, h.server.pid, h.server.secret)),
        );
    }

    /// From now on a cancel request finds nothing to stop. Waits for one that is under way. A server that a request may
    /// still reach is closed when it is let go.
    pub async fn forget_cancel(&mut self) {
        let mut target = self.cancel.lock().await;
        target.running.clear();
        if target.doubtful.is_empty() {
            return;
        }
        let doubtful = std::mem::take(&mut target.doubtful);
        drop(target);
        for held in &mut self.held {
            if doubtful.contains(&held.server.pid) {
                held.server
                    .taint("a cancel request may still be on its way");
            }
        }
    }

    /// The server's word on whether a transaction is open, where it differs from ours: PREPARE TRANSACTION has ended
    /// one, or a text that could not be read has begun one.
    pub(super) fn reconcile(&mut self, ddl: Option<Ddl>) {
        let mut ended = false;
        for held in &mut self.held {
            if held.batch_open || !held.server.in_step() {
                continue;
            }
            match held.server.status() {
                _ if held.server.has_not_begun() => {
                    if let Some(tx) = &mut self.transaction {
                        tx.failed = true;
                        tx.lost = true;
                    }
                }
                Status::Idle if held.in_transaction => {
                    held.in_transaction = false;
                    ended = true;
                }
                Status::Failed if held.in_transaction => {
                    if let Some(tx) = &mut self.transaction {
                        tx.failed = true;
                    }
                }
                Status::Open | Status::Failed
                    if !held.in_transaction && self.transaction.is_none() =>
                {
                    let mut tx = Transaction::new(Opened::ByClient, &self.vars);
                    tx.failed = held.server.status() == Status::Failed;
                    tx.ddl = ddl;
                    self.transaction = Some(tx);
                    held.in_transaction = true;
                    held.opaque = true;
                }
                _ => {}
            }
        }
        if ended && !self.held.iter().any(|h| h.in_transaction) {
            self.transaction = None;
        }
    }

    /// Says these settings to every server of the transaction, and to those that join it later.
    pub async fn repeat_settings(&mut self, settings: &[(String, String)], kind: Kind) {
        if let Some(tx) = &mut self.transaction {
            for (name, statement) in settings {
                tx.note_setting(name, kind, statement);
            }
        }
        let statements: Vec<&str> = settings.iter().map(|(_, s)| s.as_str()).collect();
        let sql = statements.join(";");
        for index in 0..self.held.len() {
            let held = &mut self.held[index];
            let within = held.in_transaction || held.batch_open && !held.batch_failed;
            if !within || !held.server.in_step() {
                continue;
            }
            let done = if held.batch_open {
                held.run_in_batch(&statements).await
            } else {
                held.run(&sql, Fate::Skip).await
            };
            if matches!(done, Ok(answer) if answer.own_error.is_none()) {
                self.held[index].server.vars = self.vars.clone();
                self.observe(index);
            } else {
                self.held[index]
                    .server
                    .taint("a session setting could not be brought to it");
                self.note_failure();
            }
        }
    }

    /// Looks whether this server reports other parameters than the client was told.
    pub fn observe(&mut self, index: usize) {
        let told = self.told();
        let server = &self.held[index].server;
        if server.parameters_hash() != told {
            self.observed = Some(Box::new(server.parameters.clone()));
        }
    }

    /// What the client knows of its parameters, or will be told.
    pub(super) fn told(&self) -> u64 {
        match &self.observed {
            Some(observed) => parameters_hash(observed),
            None => self.reported_hash,
        }
    }

    /// Tells the client which parameters have changed since it was last told.
    pub fn tell_parameters(&mut self) {
        let Some(observed) = self.observed.take() else {
            return;
        };
        let reported = Arc::make_mut(&mut self.reported);
        for (name, value) in observed.iter().filter(|(name, _)| belongs_to_session(name)) {
            match reported.iter_mut().find(|(n, _)| n == name) {
                Some((_, told)) if told == value => {}
                Some((_, told)) => {
                    build::parameter_status(&mut self.client.output, name, value);
                    told.clone_from(value);
                }
                None => reported.push((name.clone(), value.clone())),
            }
        }
        self.reported_hash = parameters_hash(&self.reported);
    }

    /// Pins, opacity and catalog changes that a job leaves behind on the server it ran on.
    pub fn note_effects(&mut self, index: usize, job: &Job) {
        let held = &mut self.held[index];
        if let Some(reason) = job.effects.pins {
            held.pin.get_or_insert(Pin {
                reason,
                since: Instant::now(),
            });
            held.opaque = true;
        }
        held.opaque |= job.effects.opaque;
        if let Some(tx) = &mut self.transaction {
            tx.ddl = tx.ddl.max(job.effects.ddl);
        }
        if job.is_set() && job.keeps_batch_open() {
            // an error before the Sync would undo it unseen
            self.held[index].opaque = true;
        }
        for setting in &job.settings {
            self.note_setting(index, setting);
        }
    }

    /// A setting was changed on this server, and so in the session.
    fn note_setting(&mut self, index: usize, setting: &Setting) {
        let whole = self.held[index].whole_setting(setting);
        let setting = whole.as_ref().unwrap_or(setting);
        if let Some(tx) = &mut self.transaction {
            let (name, kind, statement) = setting.heard();
            tx.note_setting(name, kind, &statement);
        }
        for vars in [&mut self.vars, &mut self.held[index].server.vars] {
            match setting {
                Setting::Set { name, statement } => vars.set(name, statement),
                Setting::Reset(name) => vars.reset(name),
                Setting::ResetAll => vars.reset_all(),
                Setting::Local { .. } => {}
            }
        }
    }
}

#[must_use]
pub fn in_failed_transaction() -> Report {
    Report::new(
        SqlState::IN_FAILED_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

/// The server's own code where it says that it goes down; otherwise the connection has failed, for whatever reason.
fn code_of(error: &RelayError) -> SqlState {
    let RelayError::ServerSaid { code, .. } = error else {
        return SqlState::CONNECTION_FAILURE;
    };
    match code.as_str() {
        "57P01" => SqlState::ADMIN_SHUTDOWN,
        "57P02" => SqlState::CRASH_SHUTDOWN,
        _ => SqlState::CONNECTION_FAILURE,
    }
}

fn several_shards() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "this statement would need several shards",
    )
    .hint("Give the shard key a value, so that one shard is named.")
}
