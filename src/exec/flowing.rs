//! A read over several shards that goes on where it stopped. Each shard has a portal of its own in the transaction and gives
//! as many rows as it is asked for: what waits here is bounded by shards, and the servers are free meanwhile.

use super::client::OUTPUT_MAX;
use super::combine::AHEAD_MAX;
use super::executor::{Executor, in_failed_transaction};
use super::failure::{Failure, Report};
use super::merge::{Combiner, Formats, Run, Step, Stream, Trouble};
use super::relay::{RelayError, settle};
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::{Answer, Filter, Server};
use crate::shard::ShardId;
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

/// Rows a shard is asked for before it is known how long they are.
const FIRST_ROWS: u64 = 64;
const ROWS_MAX: u64 = 100_000;
/// The portal of a FETCH of ours.
const FETCH: &[u8] = b"pgshunt/fetch";

/// What the portals of a client are called on the shards: its own names are not there, so that no statement finds a
/// cursor that stands elsewhere than the client's.
#[must_use]
pub fn name_there(name: &[u8]) -> Bytes {
    [b"pgshunt/", name].concat().into()
}

/// How rows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// in the formats the portal was bound to
    Execute,
    /// in those of each portion
    Fetch,
}

pub struct Flow {
    name: Bytes,
    by: By,
    sides: Vec<Side>,
    streams: Vec<Stream>,
    combiner: Combiner,
    formats: Formats,
    unedited: Option<usize>,
}

struct Side {
    shard: ShardId,
    /// rows it was asked for and has not answered yet; 0: all
    asked: Option<u64>,
    /// what it has sent so far
    rows: u64,
    bytes: usize,
    answer: Answer,
}

/// What is done with the rows of a portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Sent,
    PassedOver,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
}

impl Flow {
    /// Of portals with this name on these shards that have given no row yet.
    #[must_use]
    pub fn new(name: Bytes, by: By, shards: &[ShardId], run: Arc<Run>, memory_max: usize) -> Self {
        let side = |shard: &ShardId| Side {
            shard: *shard,
            asked: None,
            rows: 0,
            bytes: 0,
            answer: Answer::default(),
        };
        Self {
            name,
            by,
            sides: shards.iter().map(side).collect(),
            streams: shards.iter().map(|_| Stream::default()).collect(),
            formats: run.formats.clone(),
            unedited: run.unedited,
            combiner: Combiner::new(run, shards.len(), memory_max),
        }
    }

    /// What it keeps in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let waiting: usize = self.streams.iter().map(|s| s.buffer.len()).sum();
        waiting + self.combiner.kept_bytes()
    }

    /// Columns that the client does not see.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.combiner.hidden()
    }

    #[must_use]
    pub fn shards(&self) -> u32 {
        u32::try_from(self.sides.len()).unwrap_or(u32::MAX)
    }

    /// Rows come in these formats from now on; false when that cannot be.
    pub fn set_formats(&mut self, formats: &Formats) -> bool {
        let waiting = self.streams.iter().any(|s| !s.buffer.is_empty());
        if *formats != self.formats && (waiting || !self.combiner.set_formats(formats)) {
            return false;
        }
        self.formats = formats.clone();
        true
    }

    /// How many rows this shard is asked for next; 0: all.
    fn amount(&self, n: usize) -> u64 {
        let Some(wanted) = self.combiner.wanted() else {
            return 0;
        };
        let side = &self.sides[n];
        let room = u64::try_from(AHEAD_MAX).unwrap_or(u64::MAX);
        let bytes = u64::try_from(side.bytes).unwrap_or(u64::MAX);
        let fits = match bytes.checked_div(side.rows) {
            None => FIRST_ROWS,
            Some(mean) => (room / mean.max(1)).clamp(1, ROWS_MAX),
        };
        wanted.clamp(1, fits)
    }

    fn ask(&mut self, n: usize, server: &mut Server) {
        let rows = self.amount(n);
        self.sides[n].asked = Some(rows);
        match self.by {
            By::Execute => {
                let rows = i32::try_from(rows).unwrap_or(0);
                server.ask(Reply::Execute, Fate::Forward, |out| {
                    build::execute(out, &self.name, rows);
                });
            }
            By::Fetch => self.ask_fetch(rows, server),
        }
        server.sync();
    }

    fn ask_fetch(&self, rows: u64, server: &mut Server) {
        let name = quoted(&self.name);
        let text = match rows {
            0 => [b"FETCH FORWARD ALL FROM ", &name[..]].concat(),
            rows => [format!("FETCH FORWARD {rows} FROM ").as_bytes(), &name[..]].concat(),
        };
        server.parse_unnamed(0, &text, &[], Fate::Skip);
        server.unnamed = None;
        server.ask(Reply::Bind, Fate::Skip, |out| {
            build::bind(out, FETCH, b"", &bind_rest(&self.formats));
        });
        server.ask(Reply::Execute, Fate::Forward, |out| {
            build::execute(out, FETCH, 0);
        });
        server.ask(Reply::Close(None), Fate::Skip, |out| {
            build::named(out, b'C', b'P', FETCH);
        });
    }

    /// A shard has answered: whether it has more is known by what ends its rows.
    fn note_answer(&mut self, n: usize) {
        let side = &mut self.sides[n];
        let answer = std::mem::take(&mut side.answer);
        let asked = side.asked.take().unwrap_or(0);
        let over = match self.by {
            By::Execute => answer.tag.is_some(),
            By::Fetch => asked == 0 || answer.rows < asked,
        };
        side.rows += if over { answer.rows } else { asked };
        self.streams[n].ended = over;
    }

    fn is_asked(&self) -> bool {
        self.sides.iter().any(|side| side.asked.is_some())
    }

    /// Shards that have not answered, but this.
    fn others(&self, except: usize) -> SmallVec<[ShardId; 8]> {
        let sides = self.sides.iter().enumerate();
        sides
            .filter(|(n, side)| *n != except && side.asked.is_some())
            .map(|(_, side)| side.shard)
            .collect()
    }

    /// Nothing more is wanted of it.
    fn end(&mut self) {
        for stream in &mut self.streams {
            stream.buffer = BytesMut::new();
            stream.ended = true;
        }
    }
}

impl Executor {
    /// Goes on for so many rows, or all (None); how many there were. At the end of a portion no more than `room` bytes wait.
    pub async fn flow(
        &mut self,
        flow: &mut Flow,
        rows: Option<u64>,
        shown: Rows,
        room: usize,
    ) -> Result<u64, Failure> {
        self.guard_failed()?;
        let before = flow.combiner.rows;
        let result = self.flow_on(flow, rows, shown, room).await;
        self.clock = Instant::now();
        self.client.expects_more = false;
        self.reconcile(None);
        if result.is_err() {
            self.note_failure();
        }
        result?;
        self.note_reads();
        Ok(flow.combiner.rows - before)
    }

    async fn flow_on(
        &mut self,
        flow: &mut Flow,
        rows: Option<u64>,
        shown: Rows,
        room: usize,
    ) -> Result<(), Failure> {
        self.end_batches_of(flow).await;
        self.aim_cancel().await?;
        flow.combiner.pause_after(rows);
        let mut unseen = BytesMut::new();
        let step = loop {
            self.take_flow(flow).await?;
            let out = if shown == Rows::Sent {
                &mut self.client.output
            } else {
                unseen.clear();
                &mut unseen
            };
            match flow.combiner.step(&mut flow.streams, out, OUTPUT_MAX) {
                Ok(step @ (Step::Paused | Step::Done)) => break step,
                Ok(Step::Full) if shown == Rows::PassedOver => continue,
                Ok(Step::Full) => {}
                Ok(Step::Wants) => self.ask_flow(flow)?,
                Err(trouble) => return Err(self.flow_stopped(flow, trouble).await),
            }
            self.client.expects_more = shown == Rows::Sent;
            self.exchange_flow(flow, false).await?;
        };
        // rows that nobody wants any more are read all the same: a cancel would fail the transaction
        let done = step == Step::Done;
        while flow.is_asked() && (done || flow.bytes() <= room) {
            self.exchange_flow(flow, true).await?;
            self.take_flow(flow).await?;
            if done {
                for stream in &mut flow.streams {
                    stream.buffer.clear();
                }
            }
        }
        if done {
            flow.end();
        } else if flow.bytes() > room {
            let others = flow.others(usize::MAX);
            self.silence_others(&others).await;
            return Err(too_much(self.backend.config.limits.portal_bytes_max).into());
        }
        Ok(())
    }

    /// A Flush has left a batch open: nothing of it waits for its Sync in a transaction block.
    async fn end_batches_of(&mut self, flow: &Flow) {
        for side in &flow.sides {
            let index = self.held.iter().position(|h| h.shard == side.shard);
            if let Some(index) = index
                && !self.close_batch(index).await
            {
                self.drop_held(index);
            }
        }
    }

    fn held_at(&self, shard: ShardId) -> Result<usize, Failure> {
        let at = self
            .held
            .iter()
            .position(|h| h.shard == shard && h.in_transaction);
        at.ok_or_else(|| {
            let text = "the server of a portal over several shards is gone";
            Report::new(SqlState::NOT_IN_PREREQUISITE_STATE, text).into()
        })
    }

    fn ask_flow(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        for n in 0..flow.sides.len() {
            let idle = flow.sides[n].asked.is_none() && !flow.streams[n].ended;
            if idle && flow.combiner.needs(n, &flow.streams[n]) {
                let index = self.held_at(flow.sides[n].shard)?;
                self.held[index].read = true;
                flow.ask(n, &mut self.held[index].server);
            }
        }
        if flow.is_asked() {
            return Ok(());
        }
        let text = Trouble::Unreadable.to_string();
        Err(Report::new(SqlState::INTERNAL_ERROR, text).into())
    }

    /// What has come in goes to the streams.
    async fn take_flow(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        for n in 0..flow.sides.len() {
            if flow.sides[n].asked.is_none() {
                continue;
            }
            let index = self.held_at(flow.sides[n].shard)?;
            let server = &mut self.held[index].server;
            let (side, stream) = (&mut flow.sides[n], &mut flow.streams[n]);
            let before = stream.buffer.len();
            let digested = server.digest(Filter::Rest, &mut stream.buffer, &mut side.answer);
            side.bytes += stream.buffer.len() - before;
            let answered = server.is_answered();
            if let Err(error) = digested {
                return Err(self.flow_lost(flow, n, &error.into()).await);
            }
            if side.answer.error.is_some() || side.answer.own_error.is_some() {
                self.client.forget_held();
                let (shard, answer) = (side.shard, std::mem::take(&mut side.answer));
                let others = flow.others(if answered { n } else { usize::MAX });
                let failed = self.side_failed(shard, &answer, flow.unedited, &others);
                return Err(failed.await);
            }
            if answered {
                flow.note_answer(n);
            }
        }
        Ok(())
    }

    /// Moves bytes until some server has said more, or the client has taken what was due.
    async fn exchange_flow(&mut self, flow: &Flow, all: bool) -> Result<(), Failure> {
        // more than is held back in memory counts as seen; as long as it is held, nothing moves
        if self.client.held_back() >= OUTPUT_MAX {
            self.client.release();
        }
        let mut wanted: SmallVec<[(usize, usize, bool); 8]> = SmallVec::new();
        for (n, side) in flow.sides.iter().enumerate() {
            if side.asked.is_some() {
                let stream = &flow.streams[n];
                let waits = stream.buffer.len() < AHEAD_MAX || flow.combiner.needs(n, stream);
                wanted.push((n, self.held_at(side.shard)?, all || waits));
            }
        }
        match poll_fn(|cx| self.poll_all(&wanted, cx)).await {
            Ok(()) => Ok(()),
            Err((n, error)) => {
                let error = error.explained(&flow.sides[n].answer);
                Err(self.flow_lost(flow, n, &error).await)
            }
        }
    }

    async fn flow_lost(&mut self, flow: &Flow, n: usize, error: &RelayError) -> Failure {
        if matches!(error, RelayError::ClientGone) {
            return Failure::ClientGone;
        }
        let others = flow.others(n);
        let failure = match self.held_at(flow.sides[n].shard) {
            Ok(index) => self.lost(index, error),
            Err(failure) => failure,
        };
        self.silence_others(&others).await;
        failure
    }

    async fn flow_stopped(&mut self, flow: &Flow, trouble: Trouble) -> Failure {
        let all = flow.others(usize::MAX);
        self.silence_others(&all).await;
        super::combine::troubled(trouble).into()
    }

    /// CLOSE ALL wherever there may be cursors.
    pub async fn close_all_cursors(&mut self) -> Result<(), Failure> {
        for index in 0..self.held.len() {
            let held = &mut self.held[index];
            if !held.in_transaction && held.pin.is_none() {
                continue;
            }
            if !self.close_batch(index).await {
                return Err(in_failed_transaction().into());
            }
            self.run_on(index, "CLOSE ALL").await?;
        }
        Ok(())
    }

    /// Its portals on the shards are closed.
    pub async fn end_flow(&mut self, flow: &Flow) {
        let shards: SmallVec<[ShardId; 8]> = flow.sides.iter().map(|side| side.shard).collect();
        self.close_there(&flow.name, &shards).await;
    }

    /// Closes the portals of this name, where there are any.
    pub async fn close_there(&mut self, name: &[u8], shards: &[ShardId]) {
        if !self.has_live_transaction() {
            // they have ended with it
            return;
        }
        for shard in shards {
            let Ok(index) = self.held_at(*shard) else {
                continue;
            };
            let server = &mut self.held[index].server;
            server.ask(Reply::Close(None), Fate::Skip, |out| {
                build::named(out, b'C', b'P', name);
            });
            server.sync();
            let mut answer = Answer::default();
            if let Err(error) = settle(server, &mut answer).await {
                let _ = self.lost(index, &error);
            }
        }
    }
}

/// An identifier as it is written in SQL, whatever the encoding.
fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    out.push(b'"');
    for byte in name {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
    out
}

/// A Bind without values, behind its names.
#[must_use]
pub fn bind_rest(formats: &Formats) -> Vec<u8> {
    let mut rest = vec![0; 4];
    put_formats(&mut rest, formats);
    rest
}

/// The formats of results at the end of a Bind.
pub fn put_formats(rest: &mut Vec<u8>, formats: &Formats) {
    match formats {
        Formats::AllText => rest.put_u16(0),
        Formats::AllBinary => rest.extend_from_slice(&[0, 1, 0, 1]),
        Formats::Each(each) => {
            rest.put_u16(u16::try_from(each.len()).unwrap_or(u16::MAX));
            for binary in each {
                rest.put_u16(u16::from(*binary));
            }
        }
    }
}

#[must_use]
pub fn too_much(most: usize) -> Report {
    Report::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("rows of several shards that are fetched in portions need more than {most} bytes"),
    )
    .hint("limits.portal_bytes_max in the shard map bounds them; fetch all rows at once, narrow the query, or name the shard key.")
}
