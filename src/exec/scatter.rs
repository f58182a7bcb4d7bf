//! A read over several shards whose rows are simply put one behind the other.
//! All servers start at once; their rows are passed on in shard order, so memory stays bounded by the sockets.

use super::cancel::send_cancel;
use super::executor::{Done, Executor, Placement};
use super::failure::{Failure, Report};
use super::job::Job;
use super::relay::{Ends, relay, send_only, settle};
use super::single::replica_cannot;
use crate::consistency::Level;
use crate::pool::server::{Answer, Filter};
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, frame, message};
use std::time::Instant;

impl Executor {
    pub async fn run_concatenated(
        &mut self,
        job: &Job,
        shards: &[ShardId],
        level: Level,
    ) -> Result<Done, Failure> {
        Self::no_portions(job)?;
        let mut placement = self.placement(job, level);
        let outside = self.transaction.is_none();
        loop {
            let indexes = self.start_all(job, shards, placement).await?;
            if outside && placement != Placement::Primary {
                self.client.hold();
            }
            let mut rows = 0;
            let mut begun = false;
            let outcome = self.collect(&indexes, &mut rows, &mut begun).await;
            let unseen = outside && placement != Placement::Primary && !begun;
            if unseen && self.starts_again(outcome.as_ref().err(), &indexes).await {
                placement = Placement::Primary;
                continue;
            }
            self.client.release();
            if matches!(outcome, Err(Failure::ClientGone)) {
                // whoever ends the session stops the servers
                return Err(Failure::ClientGone);
            }
            let by_replica = self.any_replica(&indexes);
            self.drop_unfinished_outside();
            let tag = outcome?;
            self.note_reads();
            return Ok(Done {
                rows,
                tag: Some(tag),
                by_replica,
                shards: shards.len() as u32,
                shard: None,
                captured: Vec::new(),
                ..Done::default()
            });
        }
    }

    /// A failure that nobody has seen, and that the primaries may not share: what there is of the answer is taken back.
    pub(super) async fn starts_again(
        &mut self,
        failure: Option<&Failure>,
        shards: &[ShardId],
    ) -> bool {
        let failed = matches!(failure, Some(failure) if !matches!(failure, Failure::ClientGone));
        if !failed || !self.primary_may_answer() || !self.any_replica(shards) {
            return false;
        }
        self.client.forget_held();
        self.drop_unfinished();
        self.let_idle_servers_go().await;
        true
    }

    /// Portals over several shards are read to their end.
    pub(super) fn no_portions(job: &Job) -> Result<(), Failure> {
        if !job.limited && !job.keeps_batch_open() {
            return Ok(());
        }
        Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "fetching rows in portions from several shards is not supported",
        )
        .hint("Fetch all rows at once, or give the shard key a value.")
        .into())
    }

    /// Acquires every server and sends the job to each; answers wait in the sockets.
    pub(super) async fn start_all(
        &mut self,
        job: &Job,
        shards: &[ShardId],
        placement: Placement,
    ) -> Result<Vec<ShardId>, Failure> {
        for shard in shards {
            self.acquire(*shard, placement).await?;
        }
        self.aim_cancel().await?;
        for shard in shards {
            let Some(index) = self.held.iter().position(|h| h.shard == *shard) else {
                continue;
            };
            job.ask.compose(&mut self.held[index].server);
            self.held[index].read = true;
            if let Err(error) = send_only(&mut self.held[index].server).await {
                let failure = self.lost(index, &error);
                self.drop_unfinished();
                return Err(failure);
            }
        }
        Ok(shards.to_vec())
    }

    /// Passes on the rows of one shard after the other; ends with one CommandComplete.
    async fn collect(
        &mut self,
        shards: &[ShardId],
        rows: &mut u64,
        begun: &mut bool,
    ) -> Result<String, Failure> {
        let mut tag = String::new();
        for (n, shard) in shards.iter().enumerate() {
            let Some(index) = self.held.iter().position(|h| h.shard == *shard) else {
                continue;
            };
            let filter = if n == 0 { Filter::First } else { Filter::Rest };
            let mut answer = Answer::default();
            let result = relay(
                &mut self.client,
                &mut self.held[index].server,
                filter,
                Ends::AtOnce,
                &mut answer,
            )
            .await;
            *begun |= answer.rows_begun;
            if let Err(error) = result {
                let said = answer.error.is_some();
                let failure = self.lost(index, &error);
                return Err(if said && !matches!(failure, Failure::ClientGone) {
                    Failure::Shown
                } else {
                    failure
                });
            }
            if let Some(own) = &answer.own_error {
                self.client.show_error(own);
            }
            if answer.error.is_some() || answer.own_error.is_some() {
                self.silence_others(&shards[n + 1..]).await;
                return Err(Failure::Shown);
            }
            *rows += answer.rows;
            tag = answer.tag.unwrap_or(tag);
        }
        let tag = sum_tag(&tag, *rows);
        if tag.starts_with("COPY") {
            build::bare(&mut self.client.output, b'c');
        }
        if !tag.is_empty() {
            build::command_complete(&mut self.client.output, &tag);
        }
        Ok(tag)
    }

    /// The others' rows are no longer wanted: they are told to stop, and what is still on its way is read and thrown away.
    pub(super) async fn silence_others(&mut self, shards: &[ShardId]) {
        let cancels = shards.iter().map(|shard| async {
            let held = self.held.iter().find(|h| h.shard == *shard)?;
            let address = self.backend.topology.address(held.member);
            Some(send_cancel(address, held.server.pid, held.server.secret).await)
        });
        let told = futures::future::join_all(cancels).await;
        for (shard, told) in shards.iter().zip(told) {
            let Some(index) = self.held.iter().position(|h| h.shard == *shard) else {
                continue;
            };
            if told == Some(false) {
                self.held[index]
                    .server
                    .taint("a cancel request may still be on its way");
            }
            let mut answer = Answer::default();
            if let Err(error) = settle(&mut self.held[index].server, &mut answer).await {
                self.lost(index, &error);
            }
        }
    }

    /// What failed was a replica, not the statement: a cancel or a timeout would only be waited for twice.
    fn primary_may_answer(&self) -> bool {
        let mut rest = self.client.held();
        while let Ok(Some(head)) = frame::header(rest, usize::MAX) {
            let Some(message) = rest.get(..head.len) else {
                break;
            };
            if head.tag == b'E' {
                return replica_cannot(message);
            }
            rest = &rest[head.len..];
        }
        true
    }

    pub(super) fn any_replica(&self, shards: &[ShardId]) -> bool {
        self.held
            .iter()
            .any(|h| h.is_replica && shards.contains(&h.shard))
    }

    /// Servers that are out of step are closed.
    pub(super) fn drop_unfinished(&mut self) {
        self.held.retain(|h| h.server.in_step());
    }

    pub(super) fn drop_unfinished_outside(&mut self) {
        if self.held.iter().any(|h| !h.server.in_step()) {
            if let Some(tx) = &mut self.transaction {
                tx.failed = true;
                tx.lost = true;
            }
            self.drop_unfinished();
        }
    }

    pub(super) fn note_reads(&mut self) {
        let now = Instant::now();
        let members: Vec<_> = self.held.iter().map(|h| h.member).collect();
        for member in members {
            self.freshness.note_read(member, now);
        }
    }
}

/// "SELECT 3" and 10 rows in all is "SELECT 10".
fn sum_tag(tag: &str, rows: u64) -> String {
    match (message::tag_rows(tag), tag.rsplit_once(' ')) {
        (Some(_), Some((words, _))) => format!("{words} {rows}"),
        _ => tag.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::sum_tag;

    #[test]
    fn tags_are_added_up() {
        assert_eq!(sum_tag("SELECT 3", 10), "SELECT 10");
        assert_eq!(sum_tag("COPY 1", 2), "COPY 2");
        assert_eq!(sum_tag("EXPLAIN", 2), "EXPLAIN");
    }
}
