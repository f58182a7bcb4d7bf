//! Statements of EXPLAIN on several servers: each shard is asked texts of its own, all at once, and the answers are handed
//! over apart instead of going to the client. What they mean is the caller's business.

use super::executor::{Executor, Placement, in_failed_transaction};
use super::failure::{Failure, Report};
use super::job::Ask;
use super::relay::{RelayError, poll_client_presence, poll_server, send_only};
use crate::consistency::Level;
use crate::pool::server::{Answer, Filter};
use crate::route::Access;
use crate::shard::ShardId;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, frame, message};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

/// What one shard is asked; the answers come in the order of the asks.
#[derive(Debug)]
pub struct Apart {
    pub shard: ShardId,
    pub asks: Vec<Ask>,
}

/// The answer to one ask.
#[derive(Debug, Default)]
pub struct Said {
    /// its RowDescription, where one was asked for
    pub description: Option<Bytes>,
    /// first columns
    pub rows: Vec<Bytes>,
}

impl Executor {
    /// Answers in the order of `apart`, a list for each of it. They may take `room` bytes together.
    pub async fn run_apart(
        &mut self,
        apart: &[Apart],
        access: Access,
        level: Level,
        room: usize,
    ) -> Result<Vec<Vec<Said>>, Failure> {
        if self.has_failed() {
            return Err(in_failed_transaction().into());
        }
        let result = self.all_apart(apart, access, level, room).await;
        self.clock = Instant::now();
        self.reconcile(None);
        if result.is_err() {
            self.note_failure();
        }
        if !matches!(result, Err(Failure::ClientGone)) {
            self.let_idle_servers_go().await;
        }
        result
    }

    async fn all_apart(
        &mut self,
        apart: &[Apart],
        access: Access,
        level: Level,
        room: usize,
    ) -> Result<Vec<Vec<Said>>, Failure> {
        if self.held.iter().any(|held| held.batch_open) {
            return Err(in_a_batch().into());
        }
        let shards: Vec<ShardId> = apart.iter().map(|apart| apart.shard).collect();
        let outside = self.transaction.is_none();
        let reads = match &self.transaction {
            None => access == Access::Read,
            Some(tx) => access == Access::Read && tx.replica_can_serve(),
        };
        let mut placement = if reads {
            Placement::ReplicaIfFresh(level)
        } else {
            Placement::Primary
        };
        loop {
            self.client.hold();
            let outcome = self.apart_once(apart, &shards, placement, room).await;
            let unseen = outside && placement != Placement::Primary;
            if unseen && self.starts_again(outcome.as_ref().err(), &shards).await {
                placement = Placement::Primary;
                continue;
            }
            self.client.release();
            if matches!(outcome, Err(Failure::ClientGone)) {
                return Err(Failure::ClientGone);
            }
            self.drop_unfinished_outside();
            if outcome.is_ok() {
                self.note_reads();
            }
            return outcome;
        }
    }

    async fn apart_once(
        &mut self,
        apart: &[Apart],
        shards: &[ShardId],
        placement: Placement,
        room: usize,
    ) -> Result<Vec<Vec<Said>>, Failure> {
        for shard in shards {
            self.acquire(*shard, placement).await?;
        }
        self.aim_cancel().await?;
        for one in apart {
            let Some(index) = self.held.iter().position(|h| h.shard == one.shard) else {
                continue;
            };
            for ask in &one.asks {
                ask.compose(&mut self.held[index].server);
            }
            self.held[index].read = true;
            if let Err(error) = send_only(&mut self.held[index].server).await {
                let failure = self.lost(index, &error);
                self.drop_unfinished();
                return Err(failure);
            }
        }
        let (mut all, mut left) = (Vec::with_capacity(apart.len()), room);
        for (n, shard) in shards.iter().enumerate() {
            match self.listen(*shard, left).await {
                Ok(bytes) => {
                    left -= bytes.len().min(left);
                    all.push(answers(bytes));
                }
                Err(failure) => {
                    if !matches!(failure, Failure::ClientGone) {
                        self.silence_others(&shards[n..]).await;
                    }
                    return Err(failure);
                }
            }
        }
        Ok(all)
    }

    /// All that one shard answers.
    async fn listen(&mut self, shard: ShardId, room: usize) -> Result<BytesMut, Failure> {
        let Some(index) = self.held.iter().position(|h| h.shard == shard) else {
            return Ok(BytesMut::new());
        };
        let (mut bytes, mut answer) = (BytesMut::new(), Answer::default());
        let result = self.listen_to(index, room, &mut bytes, &mut answer).await;
        if let Some(error) = answer.error.as_ref().or(answer.own_error.as_ref()) {
            let name = &self.snapshot.database.shards[shard.index()].name;
            let context = format!("on shard {name}");
            if let Some(error) = self.client.worded(error) {
                // places are those of a text of ours
                build::error_with_context(&mut self.client.output, &error, &context, Some(0));
            }
            if let Err(error) = result {
                let _ = self.lost(index, &error);
            }
            return Err(Failure::Shown);
        }
        match result {
            Ok(()) if bytes.len() > room => Err(too_long(room).into()),
            Ok(()) => Ok(bytes),
            Err(error) => Err(self.lost(index, &error.explained(&answer))),
        }
    }

    /// Until it has answered, has said an error, or has said too much.
    async fn listen_to(
        &mut self,
        index: usize,
        room: usize,
        bytes: &mut BytesMut,
        answer: &mut Answer,
    ) -> Result<(), RelayError> {
        let Self { client, held, .. } = self;
        let server = &mut held[index].server;
        loop {
            server.digest(Filter::All, bytes, answer)?;
            if server.is_answered() || bytes.len() > room {
                return Ok(());
            }
            poll_fn(|cx| match poll_server(server, cx) {
                Poll::Pending => poll_client_presence(client, cx),
                ready @ Poll::Ready(_) => ready,
            })
            .await?;
        }
    }
}

/// The answers are told apart by what ends them.
fn answers(mut bytes: BytesMut) -> Vec<Said> {
    let (mut all, mut said) = (Vec::new(), Said::default());
    while let Ok(Some(head)) = frame::header(&bytes, usize::MAX) {
        if bytes.len() < head.len {
            break;
        }
        let message = bytes.split_to(head.len).freeze();
        match head.tag {
            b'T' => said.description = Some(message),
            b'D' => {
                let value = message::first_column(&message).unwrap_or_default();
                said.rows.push(message.slice_ref(value));
            }
            b'C' => all.push(std::mem::take(&mut said)),
            _ => {}
        }
    }
    all
}

fn in_a_batch() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "EXPLAIN of a statement for several shards, between statements that are not ended by a Sync yet",
    )
    .hint("Send a Sync before it.")
}

fn too_long(room: usize) -> Report {
    Report::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("the plans of several shards need more than {room} bytes"),
    )
    .hint("limits.portal_bytes_max in the shard map bounds them; name the shard: /* pgshunt: shard=… */")
}
