//! One statement or batch, one server: the way nearly everything goes.

use super::client::Client;
use super::copy::{Asked, copy_in};
use super::executor::{Done, Executor, Placement};
use super::failure::{Failure, Report};
use super::job::{Ask, Job};
use super::relay::{Ends, RelayError, Stand, relay};
use super::ride::Shared;
use crate::cluster::topology::ServerId;
use crate::consistency::Level;
use crate::pool::server::{Answer, Filter, Server};
use crate::route::Access;
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, message};
use bytes::BytesMut;
use std::time::Instant;

/// How an attempt ended.
enum Attempt {
    Done(Done),
    /// the replica turned the read away before its first row: nobody has seen anything
    Again,
}

impl Executor {
    pub async fn run_single(
        &mut self,
        job: &Job,
        shard: ShardId,
        level: Level,
    ) -> Result<Done, Failure> {
        self.guard_second_write(job, shard)?;
        if job.effects.clock {
            self.guard_clock(shard, job.access)?;
        }
        let crowded = match self.share(job, shard, level).await? {
            Shared::Done(done) => return Ok(done),
            Shared::Alone => false,
            Shared::Crowded => true,
        };
        let mut placement = self.placement(job, level);
        loop {
            match self.attempt(job, shard, placement, crowded).await? {
                Attempt::Done(done) => return Ok(done),
                Attempt::Again => placement = Placement::Primary,
            }
        }
    }

    /// A transaction that has written on one shard must not write on another until there is two-phase commit.
    fn guard_second_write(&self, job: &Job, shard: ShardId) -> Result<(), Failure> {
        let Some(tx) = &self.transaction else {
            return Ok(());
        };
        if job.access == Access::Read || !job.executes || job.is_set() || tx.everywhere {
            return Ok(());
        }
        let Some(other) = self
            .held
            .iter()
            .find(|h| h.in_transaction && h.wrote && h.shard != shard)
        else {
            return Ok(());
        };
        let name = |shard: ShardId| &self.snapshot.database.shards[shard.index()].name;
        Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "this transaction has written on shard {} and cannot also write on shard {}",
                name(other.shard),
                name(shard)
            ),
        )
        .hint("Keep a transaction's writes on one shard, or commit in between.")
        .into())
    }

    async fn attempt(
        &mut self,
        job: &Job,
        shard: ShardId,
        placement: Placement,
        crowded: bool,
    ) -> Result<Attempt, Failure> {
        if job.effects.asks_sequence {
            Box::pin(self.go_home(shard)).await?;
        }
        let mut index = self.acquire(shard, placement).await?;
        if crowded {
            match Box::pin(self.share_acquired(job, index, shard, placement)).await? {
                Ok(done) => return Ok(Attempt::Done(done)),
                Err(own) => index = own,
            }
        }
        if job.effects.notifies {
            Box::pin(self.speak(index)).await;
        }
        let (asked, shown) = (self.clock, self.client.shown());
        if job.effects.asks_sequence {
            self.guard_sequence(index)?;
        }
        self.aim_cancel().await?;
        if job.executes && (job.access == Access::Write || job.effects.pins.is_some()) {
            self.claim_sequences(job, index).await?;
        }
        let unseen = self.replaceable_replica(index);
        if unseen || self.may_lack_sequence(job) {
            self.client.hold();
        }
        let mut answer = Answer::default();
        if job.executes && job.access == Access::Write {
            self.freshness.begin_write(shard);
        }
        let result = self.exchange(job, index, &mut answer).await;
        self.parsed = answer.parsed;
        self.note_described(&mut answer);
        if unseen && turned_away(&result, &answer) && self.client.holds() {
            self.client.forget_held();
            let broken = result.is_err() || self.held[index].server.has_not_begun();
            Box::pin(self.give_up_replica(index, broken)).await;
            return Ok(Attempt::Again);
        }
        self.keep_books(job, index, result.is_ok());
        let mut result = self.conclude(job, index, &mut answer, result);
        if let Ok(done) = &mut result {
            done.took = self.clock.saturating_duration_since(asked);
            done.bytes = self.client.shown() - shown;
        }
        if let (Ok(_), true, Some(ddl)) = (&result, job.executes, job.effects.ddl)
            && self.transaction.is_none()
        {
            Box::pin(self.reload_catalog(ddl)).await;
        }
        self.client.release();
        result.map(Attempt::Done)
    }

    /// Is this a replica whose place another server could still take?
    fn replaceable_replica(&self, index: usize) -> bool {
        let held = &self.held[index];
        held.is_replica && (self.transaction.is_none() || !held.read && !held.wrote)
    }

    /// The exchange itself, with copy data where the server wants some.
    pub async fn exchange(
        &mut self,
        job: &Job,
        index: usize,
        answer: &mut Answer,
    ) -> Result<(), RelayError> {
        let Self { client, held, .. } = self;
        let server = &mut *held[index].server;
        if let Ask::Execute(execution) = &job.ask {
            client.hold();
            Box::pin(execution.make_ready(server, answer)).await?;
            if let Some(error) = &answer.own_error {
                let mut placed = BytesMut::new();
                build::error_elsewhere(&mut placed, error, |at| at + execution.before);
                answer.own_error = Some(placed.freeze());
                return Ok(());
            }
        }
        job.ask.compose(server);
        loop {
            let stand = relay(client, server, Filter::All, Ends::AtOnce, answer).await?;
            if stand == Stand::Answered {
                if let (Ask::Execute(execution), Some(error)) = (&job.ask, &answer.error) {
                    client.place_last(error, |at| execution.place_of(at));
                }
                return Ok(());
            }
            Box::pin(copy_one(client, server, answer, job.copy_asked())).await?;
        }
    }

    /// The session's watermark and the transaction's books, before the client learns of anything.
    fn keep_books(&mut self, job: &Job, index: usize, alive: bool) {
        let now = Instant::now();
        self.clock = now;
        let held = &mut self.held[index];
        held.batch_open = alive && job.keeps_batch_open();
        self.observe(index);
        let held = &mut self.held[index];
        if !job.executes {
            return;
        }
        if job.access == Access::Write {
            held.stamped = true;
            self.written.note(held, self.id);
        } else {
            held.read = true;
        }
        let (member, shard) = (held.member, held.shard);
        if job.access == Access::Write {
            self.backend.topology.expect_reads(shard, now);
            self.freshness.note_write(shard, now);
        } else {
            self.note_read(member, now);
        }
    }

    /// This server has answered a read.
    pub(super) fn note_read(&mut self, member: ServerId, now: Instant) {
        if member.member == 0 {
            self.backend.topology.expect_reads(member.shard, now);
        }
        self.freshness.note_read(member, now);
    }

    fn conclude(
        &mut self,
        job: &Job,
        index: usize,
        answer: &mut Answer,
        result: Result<(), RelayError>,
    ) -> Result<Done, Failure> {
        if let Err(error) = result {
            let failure = self.lost(index, &error);
            return match (failure, answer.error.is_some(), &answer.own_error) {
                (Failure::ClientGone, ..) => Err(Failure::ClientGone),
                (_, true, _) => Err(Failure::Shown),
                (_, false, Some(words)) => {
                    self.client.show_error(words);
                    Err(Failure::Shown)
                }
                (failure, false, None) => Err(failure),
            };
        }
        let failed = answer.error.is_some() || answer.own_error.is_some();
        self.held[index].batch_failed = failed && self.held[index].batch_open;
        self.give_up_not_begun(index);
        if let (Some(error), None) = (&answer.own_error, &answer.error) {
            self.client.show_error(error);
        }
        if failed {
            let unknown = self.unknown_sequence(job, answer);
            return Err(unknown.map_or(Failure::Shown, Failure::Report));
        }
        self.note_effects(index, job);
        let held = &self.held[index];
        Ok(Done {
            rows: answer.rows,
            tag: answer.tag.take(),
            by_replica: held.is_replica,
            shards: 1,
            shard: Some(held.shard),
            captured: std::mem::take(&mut answer.captured),
            ..Done::default()
        })
    }

    /// The BEGIN in front of what was asked has failed, and nothing has run.
    pub(super) fn give_up_not_begun(&mut self, index: usize) {
        if !self.held[index].server.has_not_begun() {
            return;
        }
        self.drop_held(index);
        if let Some(tx) = &mut self.transaction {
            tx.failed = true;
            tx.lost = true;
        }
    }

    pub(super) fn note_described(&mut self, answer: &mut Answer) {
        let described = std::mem::take(&mut answer.described);
        self.described = (!described.is_empty()).then(|| Box::new(described));
    }

    async fn give_up_replica(&mut self, index: usize, broken: bool) {
        if broken {
            self.drop_held(index);
            return;
        }
        let mut held = self.held.remove(index);
        if held.in_transaction {
            if held
                .run("ROLLBACK", crate::pool::outstanding::Fate::Skip)
                .await
                .is_err()
            {
                return;
            }
            held.server.vars = held.vars_before.clone();
        }
        held.let_go().await;
    }
}

async fn copy_one(
    client: &mut Client,
    server: &mut Server,
    answer: &mut Answer,
    asked: Asked,
) -> Result<(), RelayError> {
    let mut shown = BytesMut::new();
    let mut answers = [std::mem::take(answer)];
    client.release();
    let copied = copy_in(client, &mut [server], &mut answers, &mut shown, asked).await;
    let [first] = answers;
    *answer = first;
    client.hold();
    client.output.extend_from_slice(&shown);
    if let Some(error) = &answer.error {
        client.word_last(error);
    }
    copied.map(|_told| ())
}

/// Did a replica fail in a way in which another server may not?
fn turned_away(result: &Result<(), RelayError>, answer: &Answer) -> bool {
    let said = answer.error.as_deref().or(answer.own_error.as_deref());
    match result {
        Ok(()) => said.is_some_and(replica_cannot),
        Err(error) => !matches!(error, RelayError::ClientGone),
    }
}

/// What a standby says when it cannot do what a primary could.
pub(super) fn replica_cannot(error: &[u8]) -> bool {
    matches!(
        message::error_field(error, b'C'),
        // read-only; recovery conflict; no WAL functions; not supported in recovery; shutting down, starting up, crashed
        Some(
            "25006"
                | "40001"
                | "40P01"
                | "55000"
                | "0A000"
                | "57P01"
                | "57P02"
                | "57P03"
                | "58000"
                | "58P01"
                | "72000"
        )
    )
}
