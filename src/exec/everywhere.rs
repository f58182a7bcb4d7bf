//! DDL and writes to reference tables: the same statement in a transaction on every shard.
//! Shards are taken in order, one after the other, so that two such statements cannot block each other across shards.

use super::copy::copy_in;
use super::executor::{Done, Executor, Placement, in_failed_transaction};
use super::failure::{Failure, Report};
use super::held::Held;
use super::job::Job;
use super::relay::{Ends, RelayError, Stand, relay};
use super::sequences::Written;
use super::transaction::{Opened, Transaction};
use crate::pool::server::{Answer, Filter, Server};
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use bytes::BytesMut;
use std::time::Instant;

impl Executor {
    /// Every shard, or, for SET, every server that the transaction holds.
    fn everywhere_shards(&self, job: &Job) -> Vec<ShardId> {
        if job.is_set() {
            let mut held: Vec<_> = self.held.iter().map(|h| h.shard).collect();
            if held.is_empty() {
                held.push(self.snapshot.database.home);
            }
            return held;
        }
        (0..self.snapshot.database.shards.len())
            .filter_map(|n| u16::try_from(n).ok())
            .map(ShardId)
            .collect()
    }

    pub async fn run_everywhere(&mut self, job: &Job) -> Result<Done, Failure> {
        if job.keeps_batch_open() && !job.is_set() {
            return Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a statement for every shard must end with a Sync of its own",
            )
            .into());
        }
        let alone = self.transaction.is_none() && !job.is_set();
        if alone {
            self.transaction = Some(Transaction::new(Opened::Implicitly, &self.vars));
        }
        if let (false, Some(tx)) = (job.is_set(), &mut self.transaction) {
            tx.everywhere = true;
            self.written = Written::Scattered;
        }
        let result = self.on_every_shard(job).await;
        if result.is_err() {
            self.client.forget_held();
            self.note_failure();
        }
        let ended = if alone {
            self.end_alone(result.is_ok()).await
        } else {
            Ok(())
        };
        self.client.release();
        match (result, ended) {
            (Ok(done), Ok(())) => Ok(done),
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
        }
    }

    /// The statement's own transaction: committed on all shards, or on none.
    async fn end_alone(&mut self, good: bool) -> Result<(), Failure> {
        if good {
            let committed = self.commit_all().await;
            if committed.is_err() {
                self.client.forget_held();
                self.show_pending_error();
            }
            committed.map(|_| ())
        } else {
            self.rollback_all().await;
            Ok(())
        }
    }

    /// One shard after the other; the client is shown what the last one says, when all others have done their part.
    async fn on_every_shard(&mut self, job: &Job) -> Result<Done, Failure> {
        let shards = self.everywhere_shards(job);
        let mut first: Option<(u64, Option<String>)> = None;
        let mut rows = 0;
        for (n, shard) in shards.iter().enumerate() {
            let index = self.acquire(*shard, Placement::Primary).await?;
            self.aim_cancel().await?;
            let mut answer = Answer::default();
            job.ask.compose(&mut self.held[index].server);
            if !job.is_set() {
                self.held[index].note_write(self.id);
                // what is written to reference tables has no time of its own, or is refused
                self.held[index].stamped |= job.effects.ddl.is_some();
            }
            let filter = shown(&shards, n);
            let stand = self.relay_one(index, filter, &mut answer).await;
            if matches!(stand, Ok(Stand::CopyIn)) {
                return self.copy_everywhere(job, &shards).await;
            }
            self.parsed = self.parsed.max(answer.parsed);
            self.take_answer(job, index, filter, &answer, stand.map(|_| ()))?;
            rows = answer.rows;
            self.same_count(&mut first, &answer, *shard)?;
            if let Some(measured) = &mut self.measured {
                measured.lap(*shard, Instant::now());
            }
        }
        let tag = first.and_then(|(_, tag)| tag);
        Ok(Done {
            rows,
            tag,
            by_replica: false,
            shards: shards.len() as u32,
            shard: None,
            captured: Vec::new(),
            ..Done::default()
        })
    }

    async fn relay_one(
        &mut self,
        index: usize,
        filter: Filter,
        answer: &mut Answer,
    ) -> Result<Stand, RelayError> {
        let Self { client, held, .. } = self;
        // nothing of the others is shown, so that nothing of them is held back
        let ends = if filter == Filter::All {
            Ends::Later
        } else {
            Ends::AtOnce
        };
        relay(client, &mut held[index].server, filter, ends, answer).await
    }

    /// What a shard has answered; its error is the statement's.
    fn take_answer(
        &mut self,
        job: &Job,
        index: usize,
        filter: Filter,
        answer: &Answer,
        result: Result<(), RelayError>,
    ) -> Result<(), Failure> {
        let shard = self.held[index].shard;
        let now = Instant::now();
        if !job.is_set() {
            self.freshness.note_write(shard, now);
        }
        if let Err(error) = result {
            self.client.forget_held();
            return Err(self.lost(index, &error));
        }
        if let Some(error) = answer.error.as_ref().or(answer.own_error.as_ref()) {
            // what the client is shown holds its error already
            if answer.error.is_none() || filter == Filter::Errors {
                self.client.show_error(error);
            }
            return Err(Failure::Shown);
        }
        self.observe(index);
        self.note_effects(index, job);
        Ok(())
    }

    /// Copies of a reference table that count differently are no copies.
    fn same_count(
        &self,
        first: &mut Option<(u64, Option<String>)>,
        answer: &Answer,
        shard: ShardId,
    ) -> Result<(), Failure> {
        match first {
            None => *first = Some((answer.rows, answer.tag.clone())),
            Some((rows, _)) if *rows != answer.rows => {
                let name = &self.snapshot.database.shards[shard.index()].name;
                return Err(Report::new(
                    SqlState::DATA_CORRUPTED,
                    format!("the statement touched {rows} rows on the first shard but {} on shard {name}", answer.rows),
                )
                .hint("The copies of a reference table differ between the shards; nothing was changed. Compare and repair them.")
                .into());
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// COPY FROM STDIN into a reference table: every shard gets the same data.
    async fn copy_everywhere(&mut self, job: &Job, shards: &[ShardId]) -> Result<Done, Failure> {
        for (n, shard) in shards.iter().enumerate().skip(1) {
            let index = self.acquire(*shard, Placement::Primary).await?;
            job.ask.compose(&mut self.held[index].server);
            self.held[index].note_write(self.id);
            let mut answer = Answer::default();
            let filter = shown(shards, n);
            let stand = self.relay_one(index, filter, &mut answer).await;
            if !matches!(stand, Ok(Stand::CopyIn)) {
                return Err(self.copy_not_begun(*shard, filter, stand, &answer));
            }
        }
        self.client.release();
        let asked = job.copy_asked();
        let mut answers: Vec<Answer> = shards.iter().map(|_| Answer::default()).collect();
        let mut shown = BytesMut::new();
        let mut held: Vec<&mut Held> = self
            .held
            .iter_mut()
            .filter(|h| shards.contains(&h.shard))
            .collect();
        held.sort_by_key(|h| h.shard);
        let mut servers: Vec<&mut Server> = held.into_iter().map(|h| &mut *h.server).collect();
        let result = copy_in(
            &mut self.client,
            &mut servers,
            &mut answers,
            &mut shown,
            asked,
        )
        .await;
        self.end_copy(result, &answers, &shown, shards)
    }

    fn copy_not_begun(
        &mut self,
        shard: ShardId,
        filter: Filter,
        stand: Result<Stand, RelayError>,
        answer: &Answer,
    ) -> Failure {
        let index = self.held.iter().position(|h| h.shard == shard);
        let failure = match (stand, index) {
            (Err(error), Some(index)) => self.lost(index, &error),
            _ if answer.error.is_some() => Failure::Shown,
            _ => in_failed_transaction().into(),
        };
        if let (Some(error), Filter::Errors) = (&answer.error, filter) {
            self.client.show_error(error);
        }
        // servers that wait for data in vain are closed, which undoes their part
        self.held.retain(|h| h.server.in_step());
        if let Some(tx) = &mut self.transaction {
            tx.lost = true;
        }
        failure
    }

    fn end_copy(
        &mut self,
        result: Result<bool, RelayError>,
        answers: &[Answer],
        shown: &[u8],
        shards: &[ShardId],
    ) -> Result<Done, Failure> {
        let now = Instant::now();
        for shard in shards {
            self.freshness.note_write(*shard, now);
        }
        let told = match result {
            Ok(told) => told,
            Err(error) => return Err(self.copy_broken_off(error)),
        };
        if let Some(error) = answers.iter().find_map(|a| a.error.as_ref()) {
            if !told {
                self.client.show_error(error);
            }
            return Err(Failure::Shown);
        }
        self.client.hold();
        self.client.output.extend_from_slice(shown);
        let first = &answers[0];
        Ok(Done {
            rows: first.rows,
            tag: first.tag.clone(),
            by_replica: false,
            shards: shards.len() as u32,
            shard: None,
            captured: Vec::new(),
            ..Done::default()
        })
    }

    fn copy_broken_off(&mut self, error: RelayError) -> Failure {
        self.held.retain(|h| h.server.in_step());
        if let Some(tx) = &mut self.transaction {
            tx.failed = true;
            tx.lost = true;
        }
        match error {
            RelayError::ClientGone => Failure::ClientGone,
            other => Report::new(
                SqlState::CONNECTION_FAILURE,
                format!("the copy broke off: {other}"),
            )
            .hint("Nothing was copied on any shard. Try again.")
            .into(),
        }
    }

    /// VACUUM, CREATE INDEX CONCURRENTLY: one shard after another, without a transaction around them.
    pub async fn run_one_after_another(&mut self, job: &Job) -> Result<Done, Failure> {
        if self.transaction.is_some() {
            // the server has the right words for it
            let home = self.snapshot.database.home;
            return self
                .run_single(job, home, crate::consistency::Level::Strong)
                .await;
        }
        let shards = self.everywhere_shards(job);
        let mut done = Done::default();
        let all = shards.len() as u32;
        for (n, shard) in shards.iter().enumerate() {
            // the last answer is the client's: it comes when all is done
            let shown = n + 1 == shards.len();
            self.client.send().await.map_err(|_| Failure::ClientGone)?;
            match self
                .run_single(job, *shard, crate::consistency::Level::Strong)
                .await
            {
                Ok(one) => done = Done { shards: all, ..one },
                Err(failure) => {
                    self.warn_partly_done(&shards[..n], *shard);
                    return Err(failure);
                }
            }
            if !shown {
                self.client.output.clear();
            }
            self.let_idle_servers_go().await;
        }
        Ok(done)
    }

    fn warn_partly_done(&mut self, finished: &[ShardId], failed: ShardId) {
        if finished.is_empty() {
            return;
        }
        let shards = &self.snapshot.database.shards;
        let names: Vec<_> = finished
            .iter()
            .map(|s| shards[s.index()].name.as_str())
            .collect();
        let text = format!(
            "the statement was carried out on {} and failed on {}",
            names.join(", "),
            shards[failed.index()].name
        );
        crate::wire::build::report(
            &mut self.client.output,
            crate::wire::build::Severity::Warning,
            SqlState("01000"),
            &text,
            Some(
                "Repair the cause, then run it again: IF NOT EXISTS and IF EXISTS make that safe.",
            ),
        );
    }
}

/// The client is shown what the last shard says.
fn shown(shards: &[ShardId], n: usize) -> Filter {
    if n + 1 == shards.len() {
        Filter::All
    } else {
        Filter::Errors
    }
}
