//! The extended protocol: messages are gathered until Sync or Flush, resolved, cut into segments of one destination
//! each, and run. A segment has one server (or one scatter); the common batch is one segment.

mod gathering;
mod segments;
mod steps;

use gathering::Wrote;
use segments::{OwnStep, Segment};

pub use gathering::Gathering;
pub(in crate::session) use segments::Work;

use super::Session;
use super::promise::note_results;
use crate::exec::Failure;
use crate::exec::executor::Done;
use crate::exec::failure::Report;
use crate::exec::gather::{Parked, Parking};
use crate::exec::held::Held;
use crate::exec::job::{Ask, End, Job, Prepared};
use crate::route::{Access, Command, PlannedText};
use crate::vars::Vars;
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::time::Instant;

impl Session {
    pub async fn on_sync(&mut self) -> Result<(), Failure> {
        let result = self.run_gathered(End::Sync).await;
        self.gathering.skipping |= result.is_err();
        self.tell(result).await?;
        self.sync().await?;
        self.ready_with_mail().await
    }

    /// Takes a message of the extended protocol. False when what has come together is to run: see `on_flush`.
    pub fn gathers(&mut self, frame: Bytes) -> bool {
        frame[0] != b'H' && self.gathering.take(frame) && self.gather()
    }

    /// The client has asked for what there is by a Flush, or has sent so much that it is run without one.
    pub async fn on_flush(&mut self, asked: bool) -> Result<(), Failure> {
        let result = self.flush().await;
        self.gathering.cut |= !asked;
        result
    }

    /// What has come in already and only waits for its Sync. False when it must wait no longer.
    fn gather(&mut self) -> bool {
        let one_server = self.exec.snapshot.database.shards.len() == 1;
        loop {
            let next = self.exec.client.next_tag();
            if one_server && next != Some(b'S') && self.gathering.is_piece() {
                return false;
            }
            let Some(tag) = next else { return true };
            if !matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C') {
                return true;
            }
            // a bad one is found again, and reported, where frames are waited for
            let Ok(Some(frame)) = self.exec.client.take_frame() else {
                return true;
            };
            if !self.gathering.take(frame.freeze()) {
                return false;
            }
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        let result = self.run_gathered(End::Flush).await;
        if result.is_err() {
            self.gathering.skipping = true;
        }
        self.tell(result).await?;
        self.exec
            .client
            .send()
            .await
            .map_err(|_| Failure::ClientGone)
    }

    #[must_use]
    pub fn has_open_batch(&self) -> bool {
        !self.gathering.is_empty() || self.exec.held.iter().any(|h| h.batch_open)
    }

    /// A simple query in the middle of a batch: what was gathered runs first. False when that failed, or something
    /// had failed before: then the query is skipped like everything else up to the Sync.
    pub async fn end_open_batch(&mut self) -> Result<bool, Failure> {
        if self.gathering.skipping {
            return Ok(false);
        }
        if !self.gathering.frames.is_empty() {
            let result = self.run_gathered(End::Flush).await;
            self.gathering.skipping = result.is_err();
            self.tell(result).await?;
        }
        if !self.gathering.skipping && self.exec.held.iter().any(|h| h.batch_open) {
            self.sync().await?;
        }
        Ok(!self.gathering.skipping)
    }

    async fn sync(&mut self) -> Result<(), Failure> {
        let gathered = std::mem::take(&mut self.gathering);
        if gathered.skipping && self.exec.transaction.is_none() {
            Box::pin(self.undo_since_sync(gathered.vars)).await;
            self.still_whole()?;
        }
        if self.exec.held.iter().any(|h| h.batch_open) {
            Box::pin(self.close_open_batches()).await;
        }
        if self.exec.transaction.is_none() {
            // what a batch needed is not kept by an idle client
            self.portals.clear();
            self.exec.let_idle_servers_go().await;
        }
        Ok(())
    }

    /// Something between two Syncs failed: what a server has done in between and not undone itself must not be committed
    /// by its Sync.
    async fn undo_since_sync(&mut self, vars: Option<Vars>) {
        let undone = |h: &Held| !h.batch_open || h.batch_failed || !h.wrote;
        while let Some(index) = self.exec.held.iter().position(|h| !undone(h)) {
            self.exec.drop_held(index);
        }
        // a server that has failed has undone its settings itself: those that functions have set there, too
        let undone = |h: &&mut Held| h.pin.is_some() && (h.batch_failed || !h.batch_open);
        if let Some(vars) = &vars {
            for held in self.exec.held.iter_mut().filter(undone) {
                held.server.vars = vars.clone();
            }
        }
        if let Some(vars) = vars.filter(|vars| *vars != self.exec.vars) {
            self.exec.vars = vars;
            self.look_again().await;
            self.refresh_context();
        }
    }

    pub async fn close_open_batches(&mut self) {
        let mut index = 0;
        while index < self.exec.held.len() {
            let (shard, wrote, member) = {
                let held = &self.exec.held[index];
                (held.shard, held.wrote, held.member)
            };
            let open = self.exec.held[index].batch_open;
            if open && wrote {
                self.exec.freshness.begin_write(shard);
            }
            if open && !self.exec.close_batch(index).await {
                self.exec.drop_held(index);
            } else {
                index += 1;
            }
            // an implicit transaction is committed by its Sync
            if open && wrote {
                self.exec.freshness.note_write(shard, Instant::now());
            } else if open {
                self.exec.freshness.note_read(member, Instant::now());
            }
        }
    }

    async fn run_gathered(&mut self, end: End) -> Result<(), Failure> {
        let frames = std::mem::take(&mut self.gathering.frames);
        self.gathering.bytes = 0;
        self.gathering.executes = 0;
        if frames.is_empty() || self.gathering.skipping {
            return Ok(());
        }
        if std::mem::take(&mut self.gathering.cut) {
            // PostgreSQL would have been at work here: a cancel that came meanwhile is meant for this
            self.exec.still_wanted()?;
        }
        self.refresh_snapshot();
        let mut segments = Vec::new();
        for frame in &frames {
            if let Err(failure) = self.add_step(frame, &mut segments).await {
                match failure {
                    Failure::Report(report) => segments.push(Segment::Fail(report)),
                    other => return Err(other),
                }
                break;
            }
        }
        self.refuse_split_writes(&mut segments);
        match only_work(&mut segments) {
            Some(work) => self.run_one(work, end).await,
            None => Box::pin(self.run_segments(segments, end)).await,
        }
    }

    /// Between two Syncs outside a transaction all is one transaction: writes cannot be on several servers.
    fn refuse_split_writes(&mut self, segments: &mut Vec<Segment>) {
        if self.exec.transaction.is_some() {
            return;
        }
        let begins = segments.iter().any(Segment::begins);
        if !begins {
            fail_first(segments);
        }
        let mut wrote = self.gathering.wrote;
        for n in 0..segments.len() {
            let Segment::Work(work) = &segments[n] else {
                continue;
            };
            if work.executes == 0 || work.job.is_set() {
                continue;
            }
            match wrote.then(work) {
                Some(next) => wrote = next,
                None if begins => break,
                None => {
                    // what ran before is undone at the Sync, but not what is committed by then
                    let place = if wrote == Wrote::Everywhere { 0 } else { n };
                    return segments.insert(place, Segment::Fail(split_writes()));
                }
            }
        }
        self.gathering.wrote = wrote;
    }

    async fn run_segments(&mut self, segments: Vec<Segment>, end: End) -> Result<(), Failure> {
        let mut segments = segments.into_iter();
        while let Some(segment) = segments.next() {
            let result = match segment {
                Segment::Fail(report) => Err(report.into()),
                Segment::Own(steps) => self.run_own(steps).await,
                Segment::Work(work) => {
                    let end = if segments.len() > 0 {
                        self.end_between(&work)
                    } else {
                        end
                    };
                    self.run_one(work, end).await
                }
            };
            if let Err(failure) = result {
                self.unregister(segments);
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn run_one(&mut self, mut work: Box<Work>, end: End) -> Result<(), Failure> {
        match work.portion.take() {
            None => self.run_work(work, end).await.map(|_| ()),
            Some(portion) => Box::pin(self.run_portion(work, *portion, end)).await,
        }
    }

    /// What ends a segment that others follow: what was written is committed by the client's own Sync, when nothing after
    /// it has failed.
    fn end_between(&self, work: &Work) -> End {
        let writes = work.executes > 0 && work.job.access == Access::Write;
        let open = self.exec.held.iter().any(|h| h.batch_open);
        let outside = self.exec.transaction.is_none();
        if outside && work.shard().is_some() && (writes || open) {
            End::Flush
        } else {
            End::Sync
        }
    }

    /// Statements whose Parse was never run do not exist.
    fn unregister(&mut self, segments: impl Iterator<Item = Segment>) {
        for segment in segments {
            if let Segment::Work(work) = segment {
                for name in work.parsed {
                    self.statements.remove(&name);
                }
            }
        }
    }

    pub(super) async fn run_work(
        &mut self,
        mut work: Box<Work>,
        end: End,
    ) -> Result<Done, Failure> {
        // what only describes leaves nothing open: its server is let go
        let open = self.exec.held.iter().any(|h| h.batch_open);
        let end = if work.job.only_describes() && !open {
            End::Sync
        } else {
            end
        };
        if work.job.is_set() && self.exec.transaction.is_none() && self.gathering.vars.is_none() {
            self.gathering.vars = Some(self.exec.vars.clone());
        }
        if let Ask::Batch { end: slot, .. } = &mut work.job.ask {
            *slot = end;
        }
        let longest = self.exec.snapshot.database.pool.pipeline_time_max;
        work.job.shares = work.may_share(end, longest);
        let started = self.begin_work();
        self.exec.parsed = 0;
        let planned = work.planned.clone();
        let result = match planned.as_ref().and_then(|p| p.statements.first()) {
            Some(plan) => self.run_planned(plan, &work.job).await,
            None => self.exec.run(&work.job, self.exec.freshness.level).await,
        };
        if work.job.is_set() && result.is_ok() {
            Box::pin(self.after_setting(&work.job)).await;
        }
        if let (true, Some(planned)) = (work.executes > 0, &work.planned) {
            self.count(planned, started, &result);
        }
        self.after_work(&mut work, result.is_err());
        result
    }

    /// What is known of statements that were described, and those that were not parsed are forgotten.
    fn after_work(&mut self, work: &mut Work, failed: bool) {
        if let Some(described) = self.exec.described.take() {
            note_results(&work.job.ask, *described);
        }
        if failed {
            for name in work.parsed.drain(..).skip(self.exec.parsed as usize) {
                self.statements.remove(&name);
            }
        }
    }

    /// Work that leaves its portal in a scratch database.
    pub(super) async fn run_parked(
        &mut self,
        mut work: Box<Work>,
        parking: Parking,
    ) -> Result<Parked, Failure> {
        let Some(planned) = work.planned.clone() else {
            return Err(super::simple::misplaced().into());
        };
        let started = self.begin_work();
        self.exec.parsed = 0;
        let result = self.park_planned(&planned, &work.job, parking).await;
        let (done, parked) = match result {
            Ok((done, parked)) => (Ok(done), Ok(parked)),
            Err(failure) => (super::portions::outcome_of(&failure), Err(failure)),
        };
        self.count(&planned, started, &done);
        self.after_work(&mut work, done.is_err());
        parked
    }

    pub(super) async fn park_planned(
        &mut self,
        planned: &PlannedText,
        job: &Job,
        parking: Parking,
    ) -> Result<(Done, Parked), Failure> {
        let Some(plan) = planned.statements.first() else {
            return Err(super::simple::misplaced().into());
        };
        let level = self.level_of(plan);
        let own = self.enter_marks(plan);
        let result = self.exec.run_parked(job, level, parking).await;
        self.leave_marks(own);
        result
    }

    async fn run_own(&mut self, steps: Vec<OwnStep>) -> Result<(), Failure> {
        for step in steps {
            match step {
                OwnStep::Answer(bytes) => self.exec.client.output.extend_from_slice(bytes),
                OwnStep::Describe(prepared) => self.describe_own(&prepared),
                OwnStep::Cursor(step) => Box::pin(self.run_cursor_step(*step)).await?,
                OwnStep::Signal(pid, signal) => self.signal(pid, signal),
                OwnStep::Bring(bring) => Box::pin(self.bring_statements(*bring)).await?,
                OwnStep::Execute(prepared) => {
                    let text = prepared.client_text.clone();
                    if let Some(plan) = prepared.planned.statements.first() {
                        let tag = self.own(plan, &text).await?;
                        build::command_complete(&mut self.exec.client.output, &tag);
                        self.exec.client.release();
                    }
                }
            }
        }
        Ok(())
    }

    fn describe_own(&mut self, prepared: &Prepared) {
        match prepared.planned.statements.first() {
            Some(plan) if matches!(plan.command, Command::ShowLocal(_)) => self.own_rows(plan),
            _ => build::bare(&mut self.exec.client.output, b'n'),
        }
    }
}

/// The work of the common batch, which is all there is to do. What several segments need is not in every client's future.
fn only_work(segments: &mut Vec<Segment>) -> Option<Box<Work>> {
    if !matches!(segments[..], [Segment::Work(_)]) {
        return None;
    }
    match segments.pop()? {
        Segment::Work(work) => Some(work),
        _ => None,
    }
}

fn split_writes() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "the statements between two Syncs are one transaction, and here they go to several shards",
    )
    .hint("Send a Sync after each statement, or keep the statements of a batch on one shard.")
}

/// What fails in the end must undo the writes before it, which are of the same implicit transaction: those that commit on
/// every shard are not run.
fn fail_first(segments: &mut Vec<Segment>) {
    let writes = |s: &Segment| match s {
        Segment::Work(work) => {
            work.executes > 0 && work.job.access == Access::Write && work.shard().is_none()
        }
        _ => false,
    };
    if !matches!(segments.last(), Some(Segment::Fail(_))) || !segments.iter().any(writes) {
        return;
    }
    if let Some(failure) = segments.pop() {
        segments.insert(0, failure);
    }
}
