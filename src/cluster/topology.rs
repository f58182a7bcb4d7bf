//! The servers of a database: who is primary, who is a replica, who may serve a read now. Samplers feed it, sessions ask
//! it; an answer takes no lock unless a session waits for a sample. It moves no client's bytes and opens no transaction.

use super::control::ControlPools;
use super::gate::{Closed, Gate};
use super::health::ShardHealth;
use super::sampler::{Answer, Probe, SampleError};
use crate::config::{Database, ServerAddress};
use crate::consistency::choice::Question;
use crate::consistency::{Level, Lsn, ShardView, TokenError, Watermarks, token};
use crate::shard::ShardId;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long a forced sample may take.
const SAMPLE_MAX: Duration = Duration::from_secs(3);
/// A server that cannot show what somebody waits for (its replay stands still) is asked quickly for this long, no longer;
/// and for this long a read that had to wait makes others likely.
const LINGER: Duration = Duration::from_millis(250);
/// However many wait for a sample, the questions keep this distance.
const HURRY_PAUSE: Duration = Duration::from_millis(1);
/// A server that does not answer is asked again after at most this.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// A server of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    pub shard: ShardId,
    /// 0 is the primary, n the n-th replica
    pub member: u16,
}

impl ServerId {
    /// The number, beside a shard's members, of the server that has the scratch databases, where that is one of its own.
    pub const SCRATCH: u16 = u16::MAX;
}

/// Where a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadChoice {
    pub server: ServerId,
    pub is_replica: bool,
    /// `settle` is worth its wait now: the session reads without pause and would stay on the primary for good
    pub worth_waiting: bool,
    proven_at: Option<Instant>,
}

impl ReadChoice {
    /// The primary, without asking any further.
    #[must_use]
    pub fn primary(shard: ShardId) -> Self {
        let server = ServerId { shard, member: 0 };
        Self {
            server,
            is_replica: false,
            worth_waiting: false,
            proven_at: None,
        }
    }

    /// A replica is proven by a sample. A connection opened after that sample may lead to a server that was restarted
    /// in between and shows less: it must not serve this read (the primary does), but the next ones.
    #[must_use]
    pub fn admits(&self, connected_at: Instant) -> bool {
        self.proven_at
            .is_none_or(|proven_at| connected_at <= proven_at)
    }
}

/// One server, for SHOW REPLICAS and the like.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    pub id: ServerId,
    pub address: ServerAddress,
    pub up: bool,
    pub lsn: Option<Lsn>,
    /// replicas only
    pub lag_bytes: Option<u64>,
    pub lag_ms: Option<u64>,
    pub sampled_ago: Option<Duration>,
    /// why it does not serve what its role promises
    pub reason: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error("the primary of shard {0} does not tell its position")]
    NoSample(String),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Stops its samplers when dropped.
pub struct Topology {
    members: Arc<Members>,
    control: Arc<ControlPools>,
    _samplers: JoinSet<()>,
}

struct Members {
    shards: Vec<Shard>,
    scratch: Option<ServerAddress>,
    started: Instant,
    busy: Duration,
    idle: Duration,
}

struct Shard {
    name: String,
    /// the primary first
    addresses: Vec<ServerAddress>,
    health: Mutex<ShardHealth>,
    view: ArcSwap<ShardView>,
    /// rings at each new view
    changed: Notify,
    /// rings when somebody waits for samples after a pause
    wake: Notify,
    /// rings when a sample of the primary is wanted at once
    hurry: Notify,
    /// when somebody last waited for a sample, in nanoseconds since the start
    wanted: AtomicU64,
    /// when a read last went to the primary for want of one
    missed: AtomicU64,
    /// samplers that wait for `wake`
    resting: AtomicUsize,
}

impl Topology {
    /// Starts one sampler a server. Needs a tokio runtime around it.
    #[must_use]
    pub fn start(database: &Database, pools: Arc<ControlPools>) -> Arc<Self> {
        let settings = &database.consistency;
        let members = Arc::new(Members {
            shards: database
                .shards
                .iter()
                .map(|shard| Shard::new(shard, settings.lag_max))
                .collect(),
            scratch: database.scratch_server.clone(),
            started: Instant::now(),
            busy: settings.sample_busy.max(Duration::from_millis(1)),
            idle: settings.sample_idle.max(settings.sample_busy),
        });
        let mut samplers = JoinSet::new();
        for id in members.ids() {
            samplers.spawn(sample_forever(members.clone(), id, pools.clone()));
        }
        Arc::new(Self {
            members,
            control: pools,
            _samplers: samplers,
        })
    }

    #[must_use]
    pub fn primary(&self, shard: ShardId) -> ServerId {
        ServerId { shard, member: 0 }
    }

    /// Where scratch databases are made.
    #[must_use]
    pub fn scratch(&self, home: ShardId) -> ServerId {
        if self.members.scratch.is_none() {
            return self.primary(home);
        }
        ServerId {
            shard: home,
            member: ServerId::SCRATCH,
        }
    }

    #[must_use]
    pub fn address(&self, server: ServerId) -> &ServerAddress {
        static NOWHERE: ServerAddress = ServerAddress {
            host: String::new(),
            port: 0,
        };
        self.members.address(server).unwrap_or(&NOWHERE)
    }

    /// Those who connect to the database wait here.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        self.control.gate()
    }

    /// The control plane leaves the database, and stays out as long as the answer lives.
    #[must_use]
    pub fn leave(&self) -> Closed {
        self.control.leave()
    }

    /// Answered its last sample, in its role, and no connection failed since.
    #[must_use]
    pub fn is_up(&self, server: ServerId) -> bool {
        let Some(shard) = self.members.shard(server.shard) else {
            return false;
        };
        let view = shard.view.load();
        match usize::from(server.member).checked_sub(1) {
            None => view.primary.up,
            Some(n) => view.replicas.get(n).is_some_and(|r| r.readable),
        }
    }

    /// The data plane could not connect: the server serves no reads until an answer to a later sample.
    pub fn mark_failed(&self, server: ServerId, now: Instant) {
        if let Some(shard) = self.members.shard(server.shard) {
            shard.update(|health| health.mark_failed(server.member, now));
            self.members.want(shard, now);
        }
    }

    /// A replica that is proven to show all that the session must see, else the primary. `now` is read after the
    /// session's last answer came in.
    pub fn choose_read(
        &self,
        shard: ShardId,
        watermarks: &mut Watermarks,
        level: Level,
        now: Instant,
        load: impl Fn(ServerId) -> usize,
    ) -> ReadChoice {
        let primary = ReadChoice {
            server: self.primary(shard),
            is_replica: false,
            worth_waiting: false,
            proven_at: None,
        };
        let (Some(servers), Some(mark)) = (self.members.shard(shard), watermarks.mark_mut(shard))
        else {
            return primary;
        };
        let question = Question {
            level,
            now,
            first_after: |t| servers.health.lock().samples().first_after(t),
            load: |member| load(ServerId { shard, member }),
            coin: |sides| rand::rng().random_range(0..sides),
        };
        let choice = servers.view.load().choose(mark, question);
        if choice.wants_sample {
            let moment = self.members.nanos(now);
            servers.missed.fetch_max(moment, Ordering::Relaxed);
            self.members.want(servers, now);
        }
        ReadChoice {
            server: ServerId {
                shard,
                member: choice.member,
            },
            is_replica: choice.member != 0,
            worth_waiting: choice.worth_waiting,
            proven_at: choice.proven_at,
        }
    }

    /// Something was written, or read from the primary, or a session begins. Where reads have lately had to wait for samples, the next one
    /// is wanted now, before the session's next read.
    pub fn expect_reads(&self, shard: ShardId, now: Instant) {
        let Some(shard) = self.members.shard(shard) else {
            return;
        };
        let missed = shard.missed.load(Ordering::Relaxed);
        if missed != 0 && self.members.is_recent(missed, now) {
            self.members.want(shard, now);
        }
    }

    /// Waits until `ready` says so (a replica can be chosen), asked again after each sample; false when `longest` is over.
    pub async fn settle(
        &self,
        shard: ShardId,
        longest: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> bool {
        let Some(servers) = self.members.shard(shard) else {
            return false;
        };
        // stays with the sampler until its question in flight, which may be too old, is answered
        servers.hurry.notify_one();
        let watch = async {
            loop {
                let changed = servers.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if ready() {
                    return;
                }
                self.members.want(servers, Instant::now());
                changed.await;
            }
        };
        tokio::time::timeout(longest, watch).await.is_ok()
    }

    /// Waits for a sample of the shard's primary that was asked for after this call.
    pub async fn sample_now(&self, shard: ShardId) -> Result<(), TopologyError> {
        self.sampled_since(shard, Instant::now()).await
    }

    async fn sampled_since(&self, shard: ShardId, moment: Instant) -> Result<(), TopologyError> {
        let Some(servers) = self.members.shard(shard) else {
            return Err(TopologyError::NoSample(format!("number {}", shard.0)));
        };
        let known = || {
            let latest = servers.view.load().primary.latest;
            latest.is_some_and(|sample| sample.asked_at >= moment)
        };
        if self.settle(shard, SAMPLE_MAX, known).await {
            Ok(())
        } else {
            Err(TopologyError::NoSample(servers.name.clone()))
        }
    }

    /// All that the session must see, as text. Never empty: samples are taken where they are missing (hazard 24).
    pub async fn token(&self, watermarks: &Watermarks) -> Result<String, TopologyError> {
        let mut positions = Vec::with_capacity(self.members.shards.len());
        for (number, shard) in (0..).map(ShardId).zip(&self.members.shards) {
            let known = watermarks
                .mark(number)
                .and_then(|mark| mark.position(shard.health.lock().samples()));
            let position = if let Some(position) = known {
                Some(position)
            } else {
                // what the primary shows now is all that anyone can have written or seen
                self.sample_now(number).await?;
                let latest = shard.view.load().primary.latest;
                latest.map(|sample| sample.position)
            };
            let position = position.ok_or_else(|| TopologyError::NoSample(shard.name.clone()))?;
            positions.push((shard.name.as_str(), position));
        }
        Ok(token::encode(&positions))
    }

    /// Takes a token over. Shards it does not name are as for an unknown session; so are all, if it names one that is
    /// not here (the map has changed).
    pub fn take_token(&self, watermarks: &mut Watermarks, text: &str) -> Result<(), TokenError> {
        let entries = token::decode(text)?;
        let now = Instant::now();
        let find = |name: &str| self.members.shards.iter().position(|s| s.name == name);
        let changed = entries.iter().any(|(name, _)| find(name).is_none());
        for (number, shard) in (0..).map(ShardId).zip(&self.members.shards) {
            let named = entries.iter().find(|(name, _)| *name == shard.name);
            match named {
                Some((_, position)) if !changed => watermarks.take(number, *position),
                _ => watermarks.note_write(number, now),
            }
        }
        Ok(())
    }

    /// True when every server has answered or failed to within this time.
    pub async fn wait_first_samples(&self, longest: Duration) -> bool {
        let ends = tokio::time::Instant::now() + longest;
        for (number, shard) in (0..).map(ShardId).zip(&self.members.shards) {
            let left = ends.saturating_duration_since(tokio::time::Instant::now());
            let tried = || shard.health.lock().all_tried();
            if !tried() && !self.settle(number, left, tried).await {
                return false;
            }
        }
        true
    }

    #[must_use]
    pub fn status(&self) -> Vec<MemberStatus> {
        let now = Instant::now();
        let shards = (0..).map(ShardId).zip(&self.members.shards);
        shards
            .flat_map(|(id, shard)| shard.status(id, now))
            .collect()
    }
}

impl Members {
    fn shard(&self, shard: ShardId) -> Option<&Shard> {
        self.shards.get(shard.index())
    }

    fn address(&self, server: ServerId) -> Option<&ServerAddress> {
        if server.member == ServerId::SCRATCH {
            return self.scratch.as_ref();
        }
        self.shard(server.shard)?
            .addresses
            .get(usize::from(server.member))
    }

    fn ids(&self) -> impl Iterator<Item = ServerId> {
        (0..)
            .map(ShardId)
            .zip(&self.shards)
            .flat_map(|(shard, servers)| {
                (0..)
                    .zip(&servers.addresses)
                    .map(move |(member, _)| ServerId { shard, member })
            })
    }

    /// Notes that somebody waits, and wakes the samplers that rest.
    fn want(&self, shard: &Shard, now: Instant) {
        shard.wanted.fetch_max(self.nanos(now), Ordering::SeqCst);
        if shard.resting.load(Ordering::SeqCst) > 0 {
            shard.wake.notify_waiters();
        }
    }

    /// Somebody waits for what this server did not show when it was last asked.
    fn wanted(&self, shard: &Shard, member: u16) -> bool {
        let last = shard.wanted.load(Ordering::SeqCst);
        if last == 0 || !self.is_recent(last, Instant::now()) {
            return false;
        }
        let view = shard.view.load();
        let shown = match usize::from(member).checked_sub(1) {
            None => view.primary.latest.map(|sample| sample.asked_at),
            Some(n) => view.replicas.get(n).and_then(|r| r.covered_until),
        };
        shown.is_none_or(|moment| self.nanos(moment) < last)
    }

    fn is_recent(&self, moment: u64, now: Instant) -> bool {
        self.nanos(now).saturating_sub(moment) < LINGER.as_nanos() as u64
    }

    /// Never 0, which stands for "never".
    fn nanos(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.started).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }
}

impl Shard {
    fn new(shard: &crate::config::Shard, lag_max: Duration) -> Self {
        let health = ShardHealth::new(shard.replicas.len(), lag_max);
        Self {
            name: shard.name.clone(),
            addresses: std::iter::once(&shard.primary)
                .chain(&shard.replicas)
                .cloned()
                .collect(),
            view: ArcSwap::from_pointee(health.view(Instant::now())),
            health: Mutex::new(health),
            changed: Notify::new(),
            wake: Notify::new(),
            hurry: Notify::new(),
            wanted: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            resting: AtomicUsize::new(0),
        }
    }

    /// Every change of health makes a new view, in the order of the changes.
    fn update(&self, change: impl FnOnce(&mut ShardHealth)) {
        let mut health = self.health.lock();
        change(&mut health);
        self.view.store(Arc::new(health.view(Instant::now())));
        drop(health);
        self.changed.notify_waiters();
    }

    fn status(&self, shard: ShardId, now: Instant) -> Vec<MemberStatus> {
        let standings = self.health.lock().standings();
        let members = (0..).zip(self.addresses.iter().zip(standings));
        members
            .map(|(member, (address, standing))| MemberStatus {
                id: ServerId { shard, member },
                address: address.clone(),
                up: standing.up,
                lsn: standing.lsn,
                lag_bytes: standing.lag_bytes,
                lag_ms: standing
                    .lag
                    .map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
                sampled_ago: standing
                    .sampled_at
                    .map(|at| now.saturating_duration_since(at)),
                reason: standing.reason.map(|reason| reason.to_string()),
            })
            .collect()
    }

    fn take(&self, member: u16, asked_at: Instant, answer: Result<Answer, SampleError>) {
        self.update(|health| match answer {
            Ok(Answer::Primary(report)) => health.primary_report(report),
            Ok(Answer::Replica(report)) => health.replica_report(member, report),
            Err(error) => health.unreachable(member, asked_at, error.to_string()),
        });
    }
}

/// One sampler. It ends when the topology is dropped.
async fn sample_forever(members: Arc<Members>, id: ServerId, pools: Arc<ControlPools>) {
    let (Some(shard), Some(address)) = (members.shard(id.shard), members.address(id)) else {
        return;
    };
    let mut probe = match id.member {
        0 => Probe::primary(address.clone()),
        _ => Probe::replica(address.clone()),
    };
    let mut said = None;
    loop {
        let asked_at = Instant::now();
        let answer = tokio::select! {
            biased;
            () = pools.gate().closed() => {
                probe.leave();
                pools.gate().opened().await;
                continue;
            }
            answer = probe.ask(&pools) => answer,
        };
        let failed = answer.is_err();
        shard.take(id.member, asked_at, answer);
        say_changes(shard, id, &mut said);
        tokio::select! {
            () = members.rest(shard, id, asked_at, failed) => {}
            () = pools.gate().closed() => {}
        }
    }
}

impl Members {
    /// The pause between two samples: short while somebody waits for what this server has not shown, long otherwise, none
    /// when one is wanted at once.
    async fn rest(&self, shard: &Shard, id: ServerId, asked_at: Instant, failed: bool) {
        if failed {
            tokio::time::sleep(RETRY_MAX.min(self.idle)).await;
            return;
        }
        let hurry = async {
            match id.member {
                0 => {
                    tokio::time::sleep(HURRY_PAUSE.min(self.busy)).await;
                    shard.hurry.notified().await;
                }
                _ => std::future::pending().await,
            }
        };
        let rested = async {
            tokio::select! {
                () = tokio::time::sleep(self.idle) => {}
                () = self.called(shard, id.member) => {
                    // however often somebody asks, the questions keep this distance
                    tokio::time::sleep_until((asked_at + self.busy).into()).await;
                }
            }
        };
        tokio::select! {
            () = rested => {}
            () = hurry => {}
        }
    }

    /// Ends when somebody waits for what this server has not shown.
    async fn called(&self, shard: &Shard, member: u16) {
        let _resting = Resting::of(&shard.resting);
        loop {
            let wake = shard.wake.notified();
            tokio::pin!(wake);
            // from here on a call is heard, so that none is lost between the question below and the wait
            wake.as_mut().enable();
            if self.wanted(shard, member) {
                return;
            }
            wake.await;
        }
    }
}

/// Counts one sampler among those that rest, while it lives.
struct Resting<'a>(&'a AtomicUsize);

impl<'a> Resting<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Resting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A server's standing is logged when it changes, not at each sample. Lag alone comes and goes: it is not news.
fn say_changes(shard: &Shard, id: ServerId, said: &mut Option<(bool, Option<String>)>) {
    let standings = shard.health.lock().standings();
    let Some(standing) = standings.into_iter().nth(usize::from(id.member)) else {
        return;
    };
    let news = (
        standing.up,
        standing
            .reason
            .filter(super::health::Reason::is_news)
            .map(|r| r.to_string()),
    );
    if said.as_ref() == Some(&news) {
        return;
    }
    let role = if id.member == 0 { "primary" } else { "replica" };
    let Some(address) = shard.addresses.get(usize::from(id.member)) else {
        return;
    };
    let (host, port) = (&address.host, address.port);
    match &news.1 {
        Some(reason) => tracing::warn!(shard = %shard.name, role, host, port, "{reason}"),
        None if said.is_some() => {
            tracing::info!(shard = %shard.name, role, host, port, "in order again");
        }
        None => tracing::debug!(shard = %shard.name, role, host, port, "in order"),
    }
    *said = Some(news);
}
