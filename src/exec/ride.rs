//! A session's short read on a server that it shares with others (`lane`).

use super::executor::{Done, Executor, Placement};
use super::failure::Failure;
use super::held::Held;
use super::job::{Ask, End, Job};
use super::lane::{Passage, Riding};
use super::relay::poll_client_presence;
use super::servers::Entry;
use crate::cluster::topology::{ReadChoice, ServerId};
use crate::config::PoolMode;
use crate::consistency::Level;
use crate::route::pace::Short;
use crate::shard::ShardId;
use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Servers of a pool in use while each statement gets one of its own: alone it is answered sooner.
const QUIET: usize = 2;

/// So long a statement may have to wait for those before it on a lane while another server of the pool is idle: as long as
/// sharing saves both proxy and server work. By what they cost the server; where all processors are busy they would wait
/// for one anyway.
const WAIT_BESIDE_IDLE: Duration = Duration::from_micros(400);
/// The same by what they take on average, which counts when it is not for want of processors.
const AVERAGE_WAIT_BESIDE_IDLE: Duration = Duration::from_micros(1600);
/// The same, while the pool could have another server.
const WAIT_BEFORE_GROWTH: Duration = Duration::from_millis(4);
/// Riders of one lane while another server is idle, however short they are.
const RIDERS_USUAL: usize = 8;

/// How a read that may share a server fared.
pub(super) enum Shared {
    Done(Done),
    /// it runs on a server of its own
    Alone,
    /// the same, and then that server is shared
    Crowded,
}

impl Executor {
    /// How long it takes, if it may share a server.
    fn may_share(&self, job: &Job) -> Option<Short> {
        let pool = &self.snapshot.database.pool;
        let may = self.transaction.is_none()
            && self.held.is_empty()
            && matches!(job.ask, Ask::Simple(_) | Ask::Batch { end: End::Sync, .. })
            && pool.pipeline_max > 1
            && pool.mode == PoolMode::Transaction
            && !pool.verify;
        job.shares.filter(|_| may)
    }

    /// Lets a short read share a server, where there are more of them than servers would be good for.
    pub(super) async fn share(
        &mut self,
        job: &Job,
        shard: ShardId,
        level: Level,
    ) -> Result<Shared, Failure> {
        let Some(pace) = self.may_share(job) else {
            return Ok(Shared::Alone);
        };
        let choice = self.choose_now(shard, self.placement(job, level), self.clock);
        let Ok(entry) = self.entry(choice.server) else {
            return Ok(Shared::Alone);
        };
        if choice.worth_waiting {
            return Ok(Shared::Alone);
        }
        let most = self.snapshot.database.pool.pipeline_max;
        let usual = within(WAIT_BESIDE_IDLE, pace.least)
            .min(within(AVERAGE_WAIT_BESIDE_IDLE, pace.average))
            .min(RIDERS_USUAL)
            .min(most);
        let alone = match usual {
            1 => Some(usize::MAX),
            _ if entry.lanes.riders() == 0 => Some(QUIET),
            _ => None,
        };
        let servers = &self.backend.servers;
        let whose = self.written.at_home(self.id);
        let own = alone.and_then(|in_use| servers.checkout_quiet(&entry, in_use, whose));
        if let Some(server) = own {
            self.hold_chosen(shard, &choice, server);
            return Ok(Shared::Alone);
        }
        let passage = Passage::new(job.ask.clone(), self.told());
        let boarded = entry
            .lanes
            .board(&mut self.vars, &choice, passage, usual)
            .or_else(|passage| self.open_lane(&entry, &choice, passage))
            .or_else(|passage| {
                let grows = entry.pool.can_grow();
                let growth = within(WAIT_BEFORE_GROWTH, pace.average).min(most);
                let most = if grows { growth } else { most };
                let boarded = entry.lanes.board(&mut self.vars, &choice, passage, most);
                boarded.map_err(|_| grows)
            });
        match boarded {
            Ok(riding) => self.ride(riding, choice.server).await,
            Err(true) => Ok(Shared::Alone),
            Err(false) => Ok(Shared::Crowded),
        }
    }

    /// One more lane, where a server is idle that fits.
    fn open_lane(
        &mut self,
        entry: &Entry,
        choice: &ReadChoice,
        passage: Box<Passage>,
    ) -> Result<Riding, Box<Passage>> {
        let Some(server) = self.backend.servers.checkout_idle(entry, None) else {
            return Err(passage);
        };
        if !self.vars.agree(&server.vars) || !choice.admits(server.info.born) {
            server.info.note_idle(server.prepared_len(), self.clock);
            server.check_in();
            return Err(passage);
        }
        let address = self.backend.topology.address(choice.server).clone();
        entry.lanes.open(server, address, passage)
    }

    /// The server that was waited for is shared at once with those who come after. Else the index of one of its own.
    pub(super) async fn share_acquired(
        &mut self,
        job: &Job,
        index: usize,
        shard: ShardId,
        placement: Placement,
    ) -> Result<Result<Done, usize>, Failure> {
        match self.share_held(job, index).await? {
            Shared::Done(done) => Ok(Ok(done)),
            _ if self.held.is_empty() => Ok(Err(self.acquire(shard, placement).await?)),
            _ => Ok(Err(index)),
        }
    }

    async fn share_held(&mut self, job: &Job, index: usize) -> Result<Shared, Failure> {
        let fits = |held: &Held| !held.opaque && held.pin.is_none() && held.server.is_clean();
        if self.held.len() != 1
            || !fits(&self.held[index])
            || self.held[index].server.vars != self.vars
        {
            return Ok(Shared::Alone);
        }
        let held = self.held.remove(index);
        let entry = self.entry(held.member)?;
        let address = self.backend.topology.address(held.member).clone();
        let passage = Passage::new(job.ask.clone(), self.told());
        match entry.lanes.open(held.server, address, passage) {
            Ok(riding) => self.ride(riding, held.member).await,
            Err(_) => Ok(Shared::Alone),
        }
    }

    async fn ride(&mut self, mut riding: Riding, member: ServerId) -> Result<Shared, Failure> {
        let Self { client, cancel, .. } = self;
        let arrived = poll_fn(|cx| {
            if let Poll::Ready(passage) = riding.poll(cx) {
                return Poll::Ready(Ok(passage));
            }
            cancel.bell.register(cx.waker());
            if cancel.requested.load(Ordering::SeqCst) {
                return Poll::Ready(Err(true));
            }
            match poll_client_presence(client, cx) {
                Poll::Ready(_) => Poll::Ready(Err(false)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match arrived {
            Ok(Some(passage)) => Ok(Shared::Done(self.arrive(passage, member))),
            Ok(None) => {
                self.missed = true;
                Ok(Shared::Alone)
            }
            Err(true) => Err(self.cancelled("").into()),
            Err(false) => Err(Failure::ClientGone),
        }
    }

    /// The answer has come whole: into the books, and to the client.
    fn arrive(&mut self, passage: Box<Passage>, member: ServerId) -> Done {
        let Passage {
            sink,
            mut answer,
            parameters,
            took,
            ..
        } = *passage;
        let now = Instant::now();
        self.clock = now;
        if parameters.is_some() {
            self.observed = parameters.map(Box::new);
        }
        self.parsed = answer.parsed;
        self.note_described(&mut answer);
        self.note_read(member, now);
        let bytes = sink.len();
        self.client.output.unsplit(sink);
        self.client.release();
        Done {
            rows: answer.rows,
            tag: answer.tag.take(),
            by_replica: member.member != 0,
            shards: 1,
            shard: Some(member.shard),
            took,
            bytes,
            ..Done::default()
        }
    }
}

/// Statements of this length, of which the last one waits no longer than so; at least one.
fn within(wait: Duration, pace: Duration) -> usize {
    let statements = wait.as_micros() / pace.as_micros().max(1);
    usize::try_from(statements).unwrap_or(usize::MAX).max(1)
}
