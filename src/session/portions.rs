//! Rows of several shards in portions: the first Execute of a portal reads all its rows, which stay here until they are
//! fetched or the portal ends. No server is asked for the later ones.

use super::batch::Work;
use super::explain::Asked;
use super::startup::protocol_violation;
use super::{Portal, Session};
use crate::exec::Failure;
use crate::exec::client::{Kept, OUTPUT_MAX};
use crate::exec::cursors::Cursor;
use crate::exec::executor::{Done, in_failed_transaction};
use crate::exec::failure::Report;
use crate::exec::flowing::{By, Flow, Rows as Sending, name_there, too_much};
use crate::exec::gather::{More, Parked, Parking};
use crate::exec::job::{End, Prepared};
use crate::exec::transaction::Transaction;
use crate::pool::outstanding::Reply;
use crate::route::{Merge, PlannedText, Targets};
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, frame, message};
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use std::sync::Arc;

/// How far a portal over several shards has been read.
#[derive(Debug)]
pub(super) struct Progress {
    rows: Rows,
    /// savepoints there were when it was made
    savepoints: usize,
    /// of an EXPLAIN: what it explains, until it has
    explained: Option<Arc<Asked>>,
    /// what its portals on the shards are called, where they give rows as they are asked for
    there: Option<Bytes>,
}

#[derive(Debug)]
enum Rows {
    /// nothing ran yet
    Unread,
    /// the shards have more
    Flowing(Box<Flow>),
    /// a scratch database has
    Parked(Box<Parked>),
    /// these are left, of so many bytes in all; with the tag's words, where it counts rows
    Left {
        rows: Bytes,
        held: usize,
        tag: Box<str>,
    },
    /// it has failed, or cannot run twice
    Over,
}

pub(super) type Shared = Arc<Mutex<Progress>>;

/// An Execute of such a portal.
pub(super) struct Portion {
    pub progress: Shared,
    pub portal: Bytes,
    /// 0: all that is left
    pub limit: usize,
}

/// What a whole run has said.
pub(super) struct Sorted {
    /// all but rows and the CommandComplete
    pub asides: BytesMut,
    pub rows: Bytes,
    tag: Option<String>,
    /// COPY
    streams: bool,
}

impl Portion {
    /// A message about a portal with the name it has on servers; of an Execute over several shards what it asks for, too.
    pub(super) fn placed(
        progress: Option<Shared>,
        reply: Reply,
        frame: &Bytes,
        name: &[u8],
    ) -> Result<(Bytes, Option<Self>), Report> {
        let Some(progress) = progress else {
            return Ok((frame.clone(), None));
        };
        let there = progress.lock().there();
        if reply == Reply::Execute {
            let portion = Self::of(progress, frame)?;
            return Ok((unlimited(there.as_deref().unwrap_or(name)), Some(portion)));
        }
        let frame = there.map_or_else(|| frame.clone(), |there| renamed(frame, &there));
        Ok((frame, None))
    }

    /// Nothing of it ran yet.
    pub(super) fn is_unread(&self) -> bool {
        matches!(self.progress.lock().rows, Rows::Unread)
    }

    /// It cannot run twice.
    pub(super) fn spend(&self) {
        self.progress.lock().rows = Rows::Over;
    }

    pub(super) fn of(progress: Shared, execute: &Bytes) -> Result<Self, Report> {
        let (portal, rows) = message::execute(execute).map_err(protocol_violation)?;
        Ok(Self {
            progress,
            portal: execute.slice_ref(portal),
            limit: usize::try_from(rows).unwrap_or(0),
        })
    }
}

/// An Execute of all rows.
pub(super) fn unlimited(portal: &[u8]) -> Bytes {
    limited(portal, 0)
}

fn limited(portal: &[u8], rows: i32) -> Bytes {
    let mut out = BytesMut::new();
    build::execute(&mut out, portal, rows);
    out.freeze()
}

/// Describe or Close of a portal by the name it has on servers.
pub(super) fn renamed(frame: &Bytes, there: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    build::named(&mut out, frame[0], b'P', there);
    out.freeze()
}

/// All rows are out.
fn no_more(tag: &str) -> Rows {
    Rows::Left {
        rows: Bytes::new(),
        held: 0,
        tag: tag.into(),
    }
}

/// As statistics have it.
fn outcome(result: &Result<(), Failure>, done: Done) -> Result<Done, Failure> {
    result.as_ref().map_or_else(outcome_of, |()| Ok(done))
}

pub(super) fn outcome_of(failure: &Failure) -> Result<Done, Failure> {
    Err(match failure {
        Failure::Report(report) => Failure::Report(report.clone()),
        _ => Failure::Shown,
    })
}

fn cannot_be_run(portal: &[u8]) -> Report {
    let name = String::from_utf8_lossy(portal);
    let text = format!("portal \"{name}\" cannot be run");
    Report::new(SqlState::NOT_IN_PREREQUISITE_STATE, text)
}

/// Its portal is on no server of the session.
pub(super) fn only_gathered(prepared: &Prepared, targets: &Targets) -> bool {
    let plan = prepared.planned.statements.first();
    matches!(targets, Targets::Many(_))
        && plan.is_some_and(|plan| matches!(plan.merge, Merge::Gather(_)))
}

impl Progress {
    /// A portal of a statement about cursors.
    pub(super) fn new(transaction: Option<&Transaction>) -> Shared {
        Arc::new(Mutex::new(Self {
            rows: Rows::Unread,
            savepoints: transaction.map_or(0, Transaction::savepoints),
            explained: None,
            there: None,
        }))
    }

    /// A portal of an EXPLAIN.
    pub(super) fn explained(asked: Asked, transaction: Option<&Transaction>) -> Shared {
        Arc::new(Mutex::new(Self {
            rows: Rows::Unread,
            savepoints: transaction.map_or(0, Transaction::savepoints),
            explained: Some(Arc::new(asked)),
            there: None,
        }))
    }

    pub(super) fn there(&self) -> Option<Bytes> {
        self.there.clone()
    }

    /// What is to be explained, unless it has been.
    fn take_explained(&mut self) -> Option<Arc<Asked>> {
        let asked = self.explained.take()?;
        self.rows = Rows::Over;
        Some(asked)
    }

    /// What gives rows as they are asked for; it is to be put back.
    fn take_flowing(&mut self) -> Option<Rows> {
        let flows = matches!(self.rows, Rows::Flowing(_) | Rows::Parked(_));
        flows.then(|| std::mem::replace(&mut self.rows, Rows::Over))
    }

    fn bytes(&self) -> usize {
        match &self.rows {
            Rows::Left { held, .. } => *held,
            Rows::Flowing(flow) => flow.bytes(),
            _ => 0,
        }
    }
}

impl Session {
    /// A portal is made; None unless it is over several shards.
    pub(super) fn new_progress(
        &self,
        planned: &PlannedText,
        targets: &Targets,
        portal: &[u8],
    ) -> Option<Shared> {
        let Targets::Many(_) = targets else {
            return None;
        };
        let merge = &planned.statements.first()?.merge;
        if !merge.puts_together() {
            return None;
        }
        let transaction = self.exec.transaction.as_ref();
        let flows = transaction.is_some() && !matches!(merge, Merge::Gather(_));
        Some(Arc::new(Mutex::new(Progress {
            rows: Rows::Unread,
            savepoints: transaction.map_or(0, Transaction::savepoints),
            explained: None,
            there: flows.then(|| name_there(portal)),
        })))
    }

    /// An Execute of a portal over several shards, with what stands before it.
    pub(super) async fn run_portion(
        &mut self,
        work: Box<Work>,
        portion: Portion,
        end: End,
    ) -> Result<(), Failure> {
        let asked = portion.progress.lock().take_explained();
        if let Some(asked) = asked {
            return Box::pin(self.run_explain(work, portion, asked, end)).await;
        }
        if matches!(portion.progress.lock().rows, Rows::Unread) {
            return self.run_first(work, portion, end).await;
        }
        if let Some(before) = work.without_execute() {
            self.run_work(before, end).await?;
        }
        if self.exec.has_failed() {
            return Err(in_failed_transaction().into());
        }
        self.send_portion(&portion).await
    }

    /// The first Execute. In a transaction block, which lasts, the rows stay where they are until they are asked for.
    async fn run_first(
        &mut self,
        work: Box<Work>,
        portion: Portion,
        end: End,
    ) -> Result<(), Failure> {
        let lasts = portion.limit > 0 && self.exec.transaction.is_some();
        let there = portion.progress.lock().there.clone();
        let gathered = matches!(work.job.merge, Merge::Gather(_));
        if gathered && lasts && !self.asks_channels(&work) {
            // where no more can wait there, the rows wait here
            if let Some(parking) = self.exec.backend.scratches.parking() {
                return self.park(work, portion, parking).await;
            }
        }
        match there {
            Some(there) if lasts => self.begin_flow(work, portion, there).await,
            _ => self.run_whole(work, portion, end).await,
        }
    }

    /// Its text would be edited for the run alone.
    fn asks_channels(&self, work: &Work) -> bool {
        work.job.effects.asks_channels && self.exec.listens()
    }

    /// Each shard has a portal, and is asked for as many rows as are needed.
    async fn begin_flow(
        &mut self,
        work: Box<Work>,
        portion: Portion,
        there: Bytes,
    ) -> Result<(), Failure> {
        let Targets::Many(shards) = work.job.targets.clone() else {
            return Err(cannot_be_run(&portion.portal).into());
        };
        let run = work.job.combine.clone().unwrap_or_default();
        let planned = work.planned.clone();
        if let Some(before) = work.without_execute() {
            self.run_work(before, End::Sync).await?;
        }
        let memory_max = self.exec.backend.config.limits.combine_bytes_max;
        let flow = Flow::new(there, By::Execute, &shards, run, memory_max);
        portion.progress.lock().rows = Rows::Flowing(Box::new(flow));
        let started = self.begin_work();
        let result = self.send_portion(&portion).await;
        if let Some(planned) = planned {
            let done = Done {
                shards: u32::try_from(shards.len()).unwrap_or(u32::MAX),
                ..Done::default()
            };
            self.count(&planned, started, &outcome(&result, done));
        }
        result
    }

    /// The next rows of the shards; how many there were.
    async fn flow(&mut self, portion: &Portion, mut flow: Box<Flow>) -> Result<(), Failure> {
        let most = self.exec.backend.config.limits.portal_bytes_max;
        let room = most.saturating_sub(self.kept_bytes());
        let limit = portion.limit as u64;
        let rows = (limit > 0).then_some(limit);
        let count = self.exec.flow(&mut flow, rows, Sending::Sent, room).await?;
        let left = if rows == Some(count) {
            build::bare(&mut self.exec.client.output, b's');
            Rows::Flowing(flow)
        } else {
            let tag = format!("SELECT {count}");
            build::command_complete(&mut self.exec.client.output, &tag);
            no_more("SELECT")
        };
        portion.progress.lock().rows = left;
        Ok(())
    }

    /// The scratch database keeps the portal.
    async fn park(
        &mut self,
        mut work: Box<Work>,
        portion: Portion,
        parking: Parking,
    ) -> Result<(), Failure> {
        portion.progress.lock().rows = Rows::Over;
        let rows = i32::try_from(portion.limit).unwrap_or(i32::MAX);
        work.execute(limited(&portion.portal, rows));
        let parked = self.run_parked(work, parking).await?;
        self.keep_parked(&portion, parked);
        Ok(())
    }

    async fn unpark(&mut self, portion: &Portion, mut parked: Box<Parked>) -> Result<(), Failure> {
        let more = More::Execute {
            portal: &portion.portal,
            rows: i32::try_from(portion.limit).unwrap_or(i32::MAX),
        };
        self.exec.ask_parked(&mut parked, more).await?;
        self.keep_parked(portion, *parked);
        Ok(())
    }

    fn keep_parked(&self, portion: &Portion, parked: Parked) {
        portion.progress.lock().rows = if parked.suspended() {
            Rows::Parked(Box::new(parked))
        } else {
            no_more("SELECT")
        };
    }

    /// The portals that a vanished one has left on the shards.
    pub(super) async fn abandon(&mut self, portal: Portal) {
        let there = portal.progress.and_then(|progress| progress.lock().there());
        if let (Some(there), Targets::Many(shards)) = (there, &portal.targets) {
            self.exec.close_there(&there, shards).await;
        }
    }

    /// All rows are read; those not asked for are kept.
    async fn run_whole(
        &mut self,
        work: Box<Work>,
        portion: Portion,
        end: End,
    ) -> Result<(), Failure> {
        // between two Syncs nothing is left to do on these servers, and a transaction block does not end with a Sync
        let open = self.exec.held.iter().any(|held| held.batch_open);
        let end = if self.exec.transaction.is_some() || !open {
            End::Sync
        } else {
            end
        };
        portion.progress.lock().rows = Rows::Over;
        if portion.limit == 0 {
            let tag = self.run_work(work, end).await?.tag;
            // a scratch database's tag has gone by unread: nothing but SELECT runs there
            let tag = tag.as_deref().unwrap_or("SELECT 0");
            self.keep_rows(&portion, Bytes::new(), 0, tag);
            return Ok(());
        }
        let most = self.exec.backend.config.limits.portal_bytes_max;
        let room = most.saturating_sub(self.kept_bytes());
        self.exec.client.keep(room);
        let result = self.run_work(work, end).await;
        let Kept { bytes, overflown } = self.exec.client.take_kept();
        let sorted = sort(bytes);
        self.exec.client.output.extend_from_slice(&sorted.asides);
        match result {
            Err(Failure::Shown) | Ok(_) if overflown => Err(too_much(most).into()),
            Err(failure) => Err(failure),
            Ok(_) if sorted.streams => Ok(()),
            Ok(_) => {
                let held = sorted.rows.len();
                let tag = sorted.tag.unwrap_or_default();
                self.keep_rows(&portion, sorted.rows, held, &tag);
                self.send_portion(&portion).await
            }
        }
    }

    pub(super) fn keep_rows(&self, portion: &Portion, rows: Bytes, held: usize, tag: &str) {
        let words = match (message::tag_rows(tag), tag.rsplit_once(' ')) {
            (Some(_), Some((words, _))) => words,
            _ => tag,
        };
        if !words.starts_with("COPY") {
            portion.progress.lock().rows = Rows::Left {
                rows,
                held,
                tag: words.into(),
            };
        }
    }

    /// The next rows of a portal that has run.
    pub(super) async fn send_portion(&mut self, portion: &Portion) -> Result<(), Failure> {
        let flowing = portion.progress.lock().take_flowing();
        match flowing {
            Some(Rows::Flowing(flow)) => return self.flow(portion, flow).await,
            Some(Rows::Parked(parked)) => return self.unpark(portion, parked).await,
            _ => {}
        }
        let taken = match &mut portion.progress.lock().rows {
            Rows::Left { rows, held, tag } => {
                let (end, count) = first_rows(rows, portion.limit);
                let taken = rows.split_to(end);
                let suspended = portion.limit > 0 && count == portion.limit;
                if rows.is_empty() {
                    // even an empty one would keep the others' memory
                    *rows = Bytes::new();
                    *held = 0;
                }
                Some((taken, count, (!suspended).then(|| tag.clone())))
            }
            _ => None,
        };
        let Some((mut rows, count, tag)) = taken else {
            return Err(cannot_be_run(&portion.portal).into());
        };
        self.send_rows(&mut rows).await?;
        let out = &mut self.exec.client.output;
        match tag.as_deref() {
            None => build::bare(out, b's'),
            Some(words @ ("SELECT" | "FETCH")) => {
                build::command_complete(out, &format!("{words} {count}"));
            }
            Some(other) => build::command_complete(out, other),
        }
        Ok(())
    }

    /// Rows that were kept go out, no more at a time than any others would.
    pub(super) async fn send_rows(&mut self, rows: &mut Bytes) -> Result<(), Failure> {
        loop {
            let piece = rows.len().min(OUTPUT_MAX);
            let client = &mut self.exec.client;
            client.output.extend_from_slice(&rows.split_to(piece));
            if rows.is_empty() {
                return Ok(());
            }
            client.send().await.map_err(|_| Failure::ClientGone)?;
        }
    }

    /// What the session's portals over several shards keep.
    pub(super) fn kept_bytes(&self) -> usize {
        let portals = self.portals.iter().filter_map(|p| p.progress.as_ref());
        let cursors = self.cursors().map(Cursor::bytes);
        portals
            .map(|progress| progress.lock().bytes())
            .chain(cursors)
            .sum()
    }

    /// ROLLBACK TO a savepoint ends what was made since.
    pub(super) fn end_portals_since(&mut self, savepoint: usize) {
        self.portals.retain(|portal| {
            let progress = portal.progress.as_ref();
            progress.is_none_or(|progress| progress.lock().savepoints < savepoint)
        });
        if let Some(cursors) = self
            .exec
            .transaction
            .as_mut()
            .and_then(|tx| tx.cursors.as_mut())
        {
            cursors.0.retain(|cursor| cursor.savepoints < savepoint);
        }
    }

    /// RELEASE of a savepoint: what was made since belongs to the level above.
    pub(super) fn lift_portals(&mut self, savepoint: usize) {
        for progress in self.portals.iter().filter_map(|p| p.progress.as_ref()) {
            let mut progress = progress.lock();
            progress.savepoints = progress.savepoints.min(savepoint.saturating_sub(1));
        }
        let transaction = self.exec.transaction.as_mut();
        for cursor in transaction
            .and_then(|tx| tx.cursors.as_mut())
            .into_iter()
            .flat_map(|cursors| cursors.0.iter_mut())
        {
            cursor.savepoints = cursor.savepoints.min(savepoint.saturating_sub(1));
        }
    }
}

/// Where the first rows end, no more than `limit` (0: all), and how many they are.
fn first_rows(rows: &[u8], limit: usize) -> (usize, usize) {
    let (mut end, mut count) = (0, 0);
    while limit == 0 || count < limit {
        match frame::header(&rows[end..], usize::MAX) {
            Ok(Some(head)) if rows.len() - end >= head.len => end += head.len,
            _ => break,
        }
        count += 1;
    }
    (end, count)
}

/// Takes the answer of a whole run apart. Notices come before rows: they are told at once.
pub(super) fn sort(mut bytes: BytesMut) -> Sorted {
    let mut sorted = Sorted {
        asides: BytesMut::new(),
        rows: Bytes::new(),
        tag: None,
        streams: false,
    };
    let mut rows = BytesMut::new();
    while let Ok(Some(head)) = frame::header(&bytes, usize::MAX) {
        if bytes.len() < head.len {
            break;
        }
        match head.tag {
            b'D' => {
                let run = run_of_rows(&bytes);
                if rows.is_empty() {
                    rows = bytes.split_to(run);
                } else {
                    rows.extend_from_slice(&bytes[..run]);
                    bytes.advance(run);
                }
                continue;
            }
            b'C' => sorted.tag = Some(message::command_tag(&bytes[..head.len]).to_owned()),
            b'd' => sorted.streams = true,
            _ => {}
        }
        if head.tag != b'C' || sorted.streams {
            sorted.asides.extend_from_slice(&bytes[..head.len]);
        }
        bytes.advance(head.len);
    }
    sorted.rows = rows.freeze();
    sorted
}

fn run_of_rows(bytes: &[u8]) -> usize {
    let mut end = 0;
    while bytes.get(end) == Some(&b'D') {
        match frame::header(&bytes[end..], usize::MAX) {
            Ok(Some(head)) if bytes.len() - end >= head.len => end += head.len,
            _ => break,
        }
    }
    end
}
