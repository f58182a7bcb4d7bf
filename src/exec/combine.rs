//! A read over several shards whose rows are put together while they come: all servers start at once and are read
//! side by side, each only as far ahead as a bounded buffer allows. `merge` decides what goes out; here are the sockets.

use super::client::OUTPUT_MAX;
use super::executor::{Done, Executor, Placement};
use super::failure::{Failure, Report};
use super::job::Job;
use super::merge::{Combiner, Run, Step, Stream, Trouble};
use super::relay::{RelayError, poll_client_presence, settle};
use crate::consistency::Level;
use crate::pool::server::{Answer, Filter};
use crate::shard::ShardId;
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// How far a shard is read ahead of the others.
pub(super) const AHEAD_MAX: usize = 64 * 1024;
/// Shards that have sorted at most so many rows are left to send them to the end; others are told to stop.
const LEFT_TO_FINISH: u64 = 1_000;

/// The shards of one run.
struct Side {
    shard: ShardId,
    /// among the held servers
    index: usize,
    answer: Answer,
}

impl Executor {
    pub async fn run_combined(
        &mut self,
        job: &Job,
        shards: &[ShardId],
        level: Level,
    ) -> Result<Done, Failure> {
        let Some(run) = job.combine.clone() else {
            return Err(Report::new(
                SqlState::INTERNAL_ERROR,
                "rows are to be put together, and it is not known how",
            )
            .into());
        };
        Self::no_portions(job)?;
        self.guard_encoding(&run)?;
        let mut placement = self.placement(job, level);
        let outside = self.transaction.is_none();
        loop {
            self.start_all(job, shards, placement).await?;
            if outside && placement != Placement::Primary {
                self.client.hold();
            }
            let mut begun = false;
            let outcome = self.combine(job, &run, shards, &mut begun).await;
            let unseen = outside && placement != Placement::Primary && !begun;
            if unseen && self.starts_again(outcome.as_ref().err(), shards).await {
                placement = Placement::Primary;
                continue;
            }
            self.client.release();
            if matches!(outcome, Err(Failure::ClientGone)) {
                // whoever ends the session stops the servers
                return Err(Failure::ClientGone);
            }
            let by_replica = self.any_replica(shards);
            self.drop_unfinished_outside();
            let rows = outcome?;
            self.note_reads();
            return Ok(Done {
                rows,
                tag: Some(format!("SELECT {rows}")),
                by_replica,
                shards: shards.len() as u32,
                shard: None,
                captured: Vec::new(),
                ..Done::default()
            });
        }
    }

    /// The client's encoding is the servers': text compares here as it does there.
    pub fn same_encoding(&self) -> bool {
        let parameters = self.observed.as_deref().unwrap_or(&self.reported);
        let value = |wanted: &str| {
            let mut found = parameters.iter().filter(|(name, _)| name == wanted);
            found.next().map_or("", |(_, value)| value.as_str())
        };
        let client = value("client_encoding");
        client == value("server_encoding") || client == "SQL_ASCII"
    }

    /// A plan is made for an encoding; in the middle of a batch another may have been set.
    pub fn guard_encoding(&self, run: &Run) -> Result<(), Failure> {
        if !run.made.compares_text() || self.same_encoding() {
            return Ok(());
        }
        Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "text of several shards is compared, and the client's encoding has just been changed",
        )
        .hint("Send the statement again.")
        .into())
    }

    /// Until all rows are out; then CommandComplete is, too.
    async fn combine(
        &mut self,
        job: &Job,
        run: &Arc<Run>,
        shards: &[ShardId],
        begun: &mut bool,
    ) -> Result<u64, Failure> {
        let mut sides = self.sides(shards);
        let mut streams: Vec<Stream> = sides.iter().map(|_| Stream::default()).collect();
        let memory_max = self.backend.config.limits.combine_bytes_max;
        let mut combiner = Combiner::new(run.clone(), sides.len(), memory_max);
        if let Some(measured) = &mut self.measured {
            measured.begin(shards, Instant::now());
        }
        loop {
            self.take_in(&mut sides, &mut streams, &mut combiner, run.unedited)
                .await?;
            let output = &mut self.client.output;
            let step = match self.measured.as_deref_mut() {
                None => combiner.step(&mut streams, output, OUTPUT_MAX),
                Some(measured) => measured.step(&mut combiner, &mut streams, output),
            };
            let step = match step {
                Ok(step) => step,
                Err(trouble) => return Err(self.stop(&sides, &streams, trouble).await),
            };
            if combiner.rows > 0 && !*begun && self.measured.is_none() {
                *begun = true;
                self.client.release();
            }
            if step == Step::Done {
                break;
            }
            self.client.expects_more = *begun;
            if let Err((at, error)) = self.exchange_all(&sides, &streams, &combiner).await {
                return Err(self.side_lost(&sides, at, error).await);
            }
        }
        self.client.expects_more = false;
        self.let_finish(run, &mut sides, &mut streams).await?;
        if let Some(measured) = &mut self.measured {
            measured.end(Instant::now());
        } else if job.executes {
            let tag = format!("SELECT {}", combiner.rows);
            build::command_complete(&mut self.client.output, &tag);
        }
        Ok(combiner.rows)
    }

    fn sides(&self, shards: &[ShardId]) -> Vec<Side> {
        let index = |shard: &ShardId| self.held.iter().position(|h| h.shard == *shard);
        let sides = shards.iter().filter_map(|shard| {
            Some(Side {
                shard: *shard,
                index: index(shard)?,
                answer: Answer::default(),
            })
        });
        sides.collect()
    }

    /// What has come in goes to the streams. The first error of any shard ends the others' work.
    async fn take_in(
        &mut self,
        sides: &mut [Side],
        streams: &mut [Stream],
        combiner: &mut Combiner,
        unedited: Option<usize>,
    ) -> Result<(), Failure> {
        for n in 0..sides.len() {
            if streams[n].ended {
                continue;
            }
            let (side, stream) = (&mut sides[n], &mut streams[n]);
            let before = stream.buffer.len();
            let server = &mut self.held[side.index].server;
            let digested = server.digest(Filter::First, &mut stream.buffer, &mut side.answer);
            stream.ended = server.is_answered();
            if let Some(measured) = &mut self.measured {
                measured.took(n, &stream.buffer[before..], Instant::now());
            }
            if let Err(error) = digested {
                return Err(self.side_lost(sides, n, error.into()).await);
            }
            if side.answer.error.is_some() || side.answer.own_error.is_some() {
                // an error comes behind all that was right
                let said = combiner.put_before_error(n, stream, &mut self.client.output);
                if let Err(trouble) = said {
                    return Err(self.stop(sides, streams, trouble).await);
                }
                let shard = side.shard;
                let answer = std::mem::take(&mut side.answer);
                let others: SmallVec<[ShardId; 8]> = unfinished(sides, streams, n).collect();
                return Err(self.side_failed(shard, &answer, unedited, &others).await);
            }
        }
        Ok(())
    }

    /// The error of a shard is told, with its name; the others stop.
    pub(super) async fn side_failed(
        &mut self,
        shard: ShardId,
        answer: &Answer,
        unedited: Option<usize>,
        others: &[ShardId],
    ) -> Failure {
        let error = answer.error.as_ref().or(answer.own_error.as_ref());
        let name = &self.snapshot.database.shards[shard.index()].name;
        let context = format!("on shard {name}");
        if let Some(error) = self.client.worded(error.map_or(&[], |error| &error[..])) {
            build::error_with_context(&mut self.client.output, &error, &context, unedited);
        }
        self.silence_others(others).await;
        Failure::Shown
    }

    /// Moves bytes until some server has said more, or the client has taken what was due.
    async fn exchange_all(
        &mut self,
        sides: &[Side],
        streams: &[Stream],
        combiner: &Combiner,
    ) -> Result<(), (usize, RelayError)> {
        let ready = |n: usize| {
            let (side, stream) = (&sides[n], &streams[n]);
            let ahead = stream.buffer.len() >= AHEAD_MAX && !combiner.needs(n, stream);
            (!stream.ended).then_some((n, side.index, !ahead))
        };
        let wanted: SmallVec<[_; 8]> = (0..sides.len()).filter_map(ready).collect();
        poll_fn(|cx| self.poll_all(&wanted, cx)).await
    }

    /// Of these sides, each with the place of its server among those held and whether it is read, Ready when one has said
    /// more.
    pub(super) fn poll_all(
        &mut self,
        wanted: &[(usize, usize, bool)],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), (usize, RelayError)>> {
        let was_full = self.client.output.len() >= OUTPUT_MAX;
        if let Poll::Ready(Err(_)) = self.client.poll_send(cx) {
            return Poll::Ready(Err((0, RelayError::ClientGone)));
        }
        if self.client.output.len() >= OUTPUT_MAX {
            return poll_client_presence(&mut self.client, cx).map_err(|error| (0, error));
        }
        let mut moved = was_full;
        for &(n, index, reads) in wanted {
            let server = &mut self.held[index].server;
            let broken = server.unsent() > 0 && matches!(server.poll_send(cx), Poll::Ready(Err(_)));
            if !reads && !broken {
                continue;
            }
            match server.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err((n, RelayError::ServerGone))),
                Poll::Ready(Ok(_)) => moved = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err((n, RelayError::Server(error)))),
                Poll::Pending if broken => return Poll::Ready(Err((n, RelayError::ServerGone))),
                Poll::Pending => {}
            }
        }
        if moved {
            return Poll::Ready(Ok(()));
        }
        poll_client_presence(&mut self.client, cx).map_err(|error| (0, error))
    }

    /// A connection broke: the others stop. When it is the client's, all of them are closed.
    async fn side_lost(&mut self, sides: &[Side], at: usize, error: RelayError) -> Failure {
        let error = error.explained(&sides[at].answer);
        if matches!(error, RelayError::ClientGone) {
            for side in sides {
                let _ = self.lost(side.index, &error);
            }
            return Failure::ClientGone;
        }
        let others: SmallVec<[ShardId; 8]> = sides
            .iter()
            .enumerate()
            .filter(|(n, side)| *n != at && !self.held[side.index].server.is_answered())
            .map(|(_, side)| side.shard)
            .collect();
        let failure = self.lost(sides[at].index, &error);
        self.silence_others(&others).await;
        failure
    }

    /// What the shards sent cannot be put together.
    async fn stop(&mut self, sides: &[Side], streams: &[Stream], trouble: Trouble) -> Failure {
        let all: SmallVec<[ShardId; 8]> = unfinished(sides, streams, usize::MAX).collect();
        self.silence_others(&all).await;
        troubled(trouble).into()
    }

    /// All rows are out: shards that still have some to send either do so soon, or are told to stop. In a transaction a
    /// cancel would fail it, so there they always finish.
    async fn let_finish(
        &mut self,
        run: &Run,
        sides: &mut [Side],
        streams: &mut [Stream],
    ) -> Result<(), Failure> {
        let left: SmallVec<[ShardId; 8]> = unfinished(sides, streams, usize::MAX).collect();
        if left.is_empty() {
            return Ok(());
        }
        let few = run.limit.unwrap_or(u64::MAX).saturating_add(run.offset) <= LEFT_TO_FINISH;
        let sorted = !run.made.order.is_empty() && few;
        if self.transaction.is_none() && !sorted {
            self.silence_others(&left).await;
            return Ok(());
        }
        for shard in left {
            let Some(index) = self.held.iter().position(|h| h.shard == shard) else {
                continue;
            };
            let mut answer = Answer::default();
            if let Err(error) = settle(&mut self.held[index].server, &mut answer).await {
                return Err(self.lost(index, &error));
            }
            if let Some(error) = answer.error.or(answer.own_error) {
                self.client.show_error(&error);
                return Err(Failure::Shown);
            }
        }
        Ok(())
    }
}

/// Shards that have more to say, except the one at this place.
fn unfinished<'s>(
    sides: &'s [Side],
    streams: &'s [Stream],
    except: usize,
) -> impl Iterator<Item = ShardId> + 's {
    let open = sides.iter().zip(streams).enumerate();
    open.filter(move |(n, (_, stream))| *n != except && !stream.ended)
        .map(|(_, (side, _))| side.shard)
}

/// Why rows could not be put together, as the client is told.
pub(super) fn troubled(trouble: Trouble) -> Report {
    match trouble {
        Trouble::Unreadable => Report::new(SqlState::INTERNAL_ERROR, trouble.to_string()),
        Trouble::OutOfRange => Report::new(SqlState("22003"), trouble.to_string()),
        Trouble::TooMuch(_) => Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, trouble.to_string())
            .hint("limits.combine_bytes_max in the shard map bounds it; narrow the query, or name the shard key."),
    }
}
