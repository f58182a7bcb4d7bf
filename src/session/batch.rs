//! The extended protocol: messages are gathered until Sync or Flush, resolved, cut into segments of one destination
//! each, and run. A segment has one server (or one scatter); the common batch is one segment.

use super::bringing::{Bring, When};
use super::clocks::{refuse_clock_value, refuse_clock_words};
use super::combine::combined;
use super::cursor_batch::Bindings;
use super::cursor_steps::CursorStep;
use super::cursors::Whose;
use super::instead::refuse_times;
use super::portions::Portion;
use super::promise::note_results;
use super::startup::protocol_violation;
use super::{Portal, Session};
use crate::exec::Failure;
use crate::exec::executor::Done;
use crate::exec::failure::Report;
use crate::exec::gather::{Parked, Parking};
use crate::exec::held::Held;
use crate::exec::job::{Ask, End, Job, Prepared, Setting, Step};
use crate::exec::transaction::Transaction;
use crate::pool::outstanding::Reply;
use crate::pool::server::statement_name;
use crate::route::pace::Short;
use crate::route::{
    Access, Command, Merge, ParamValue, Part, Plan, PlannedText, Routing, Targets, Values,
};
use crate::shard::ShardId;
use crate::sql::clock::Times;
use crate::sql::edit::{Drawn, splice};
use crate::sql::signal::Signal;
use crate::sql::tokens::{TokenKind, tokenize};
use crate::vars::Vars;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, message};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A batch larger than this is run as far as it has come, as if the client had sent a Flush.
const GATHERED_MAX: usize = 1 << 20;

/// So is one of several statements and more than this, before one server: an error among the first is heard before the client
/// has said all.
const PIECE: usize = 64 << 10;

/// Messages that wait for their Sync.
#[derive(Debug, Default)]
pub struct Gathering {
    frames: Vec<Bytes>,
    bytes: usize,
    executes: usize,
    /// what came before has run although the client has sent neither Sync nor Flush
    cut: bool,
    /// an error happened: everything up to the Sync is ignored
    skipping: bool,
    /// settings as they were at the last Sync, to which an error returns
    vars: Option<Vars>,
    /// where something was written since the last Sync, outside a transaction block
    wrote: Wrote,
    /// the time that was put into statements since then
    pub(super) times: Option<Times>,
    /// cursors declared or closed since then
    pub(super) declared: Vec<(String, Whose)>,
}

/// Where something was written between two Syncs: all of it is one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wrote {
    #[default]
    Nothing,
    On(ShardId),
    /// on every shard, and committed there
    Everywhere,
}

impl Wrote {
    /// None when this work would have to be one transaction with what was written elsewhere.
    fn then(self, work: &Work) -> Option<Self> {
        let shard = work.shard();
        match (self, work.job.access) {
            (Self::Everywhere, _) => None,
            (Self::Nothing, Access::Read) => Some(self),
            (Self::Nothing, Access::Write) => Some(shard.map_or(Self::Everywhere, Self::On)),
            // a read of one shard may fail: then the write, which is not committed yet, is undone
            (Self::On(_), Access::Read) => shard.map(|_| self),
            (Self::On(its), Access::Write) => (shard == Some(its)).then_some(self),
        }
    }
}

impl Gathering {
    /// False when so much has come together that it is to run.
    fn take(&mut self, frame: Bytes) -> bool {
        if !self.skipping {
            self.bytes += frame.len();
            self.executes += usize::from(frame[0] == b'E');
            self.frames.push(frame);
        }
        self.bytes <= GATHERED_MAX
    }

    /// It ends with an Execute, not the first, and is long.
    fn is_piece(&self) -> bool {
        let ended = self.frames.last().is_some_and(|frame| frame[0] == b'E');
        ended && self.executes > 1 && self.bytes > PIECE
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && !self.skipping
    }

    /// There is something to run.
    pub fn waits(&self) -> bool {
        !self.frames.is_empty()
    }
}

/// The values of a Bind.
pub(super) struct Bound<'a> {
    pub(super) bind: &'a message::Bind<'a>,
    pub(super) types: &'a [u32],
}

impl Values for Bound<'_> {
    fn slot(&self, _n: usize) -> Option<&[u8]> {
        None
    }

    fn param(&self, n: usize) -> Option<ParamValue<'_>> {
        let n = n.checked_sub(1)?;
        Some(match self.bind.value(n)? {
            message::BindValue::Null => ParamValue::Null,
            message::BindValue::Text(text) => ParamValue::Text(text),
            message::BindValue::Binary(bytes) => {
                ParamValue::Binary(self.types.get(n).copied().unwrap_or(0), bytes)
            }
        })
    }
}

/// Part of a batch with one destination.
enum Segment {
    Work(Box<Work>),
    /// answered here
    Own(Vec<OwnStep>),
    /// from here on nothing runs
    Fail(Report),
}

pub(super) struct Work {
    pub(super) job: Job,
    pub(super) planned: Option<Arc<PlannedText>>,
    /// names of the statements it parses, in order
    pub(super) parsed: SmallVec<[Bytes; 1]>,
    pub(super) executes: usize,
    /// the destination is only a preference so far: nothing in it has been bound
    open: bool,
    /// it ends with an Execute of a portal over several shards
    portion: Option<Box<Portion>>,
}

impl Work {
    /// One statement, run once and to its end.
    fn may_share(&self, end: End, longest: Duration) -> Option<Short> {
        let plan = self.planned.as_ref().and_then(|p| p.statements.first());
        let alone = end == End::Sync && self.executes == 1;
        plan.filter(|_| alone)?.may_share(longest)
    }
}

impl Segment {
    /// More than statements that are parsed and portals that are bound.
    fn runs(&self) -> bool {
        match self {
            Self::Work(work) => work.executes > 0,
            Self::Own(steps) => !steps.iter().all(|s| matches!(s, OwnStep::Answer(_))),
            Self::Fail(_) => true,
        }
    }

    /// A time that was put into a statement before it is that of those after it.
    fn keeps_the_time(&self) -> bool {
        match self {
            Self::Work(work) => {
                let everywhere = work.job.merge == Merge::Everywhere;
                work.executes == 0 || work.job.access == Access::Read || everywhere
            }
            other => !other.runs(),
        }
    }

    /// A BEGIN is run here.
    fn begins(&self) -> bool {
        let begins = |step: &OwnStep| match step {
            OwnStep::Execute(prepared) => {
                let plan = prepared.planned.statements.first();
                plan.is_some_and(|plan| matches!(plan.command, Command::Begin { .. }))
            }
            _ => false,
        };
        matches!(self, Self::Own(steps) if steps.iter().any(begins))
    }
}

enum OwnStep {
    Answer(&'static [u8]),
    Describe(Arc<Prepared>),
    Execute(Arc<Prepared>),
    Cursor(Box<CursorStep>),
    Bring(Box<Bring>),
    Signal(i32, Signal),
}

const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";
const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";
const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";

/// Where a step goes.
struct Destination {
    targets: Targets,
    merge: Merge,
    access: Access,
    /// any shard would do
    open: bool,
    /// SET: not together with other statements
    alone: bool,
}

impl Destination {
    /// A read on this shard.
    fn on(shard: ShardId) -> Self {
        Self {
            targets: Targets::One(shard),
            merge: Merge::Single,
            access: Access::Read,
            open: false,
            alone: false,
        }
    }
}

impl Session {
    pub async fn on_extended(&mut self, frame: Bytes) -> Result<(), Failure> {
        match frame[0] {
            b'S' => {
                let result = self.run_gathered(End::Sync).await;
                self.gathering.skipping |= result.is_err();
                self.tell(result).await?;
                self.sync().await?;
                self.ready_with_mail().await?;
                Ok(())
            }
            b'H' => Box::pin(self.flush()).await,
            _ => {
                if self.gathering.take(frame) && self.gather() {
                    Ok(())
                } else {
                    let result = Box::pin(self.flush()).await;
                    self.gathering.cut = true;
                    result
                }
            }
        }
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
        self.run_segments(segments, end).await
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
        let last = segments.len();
        let mut segments = segments.into_iter().enumerate();
        while let Some((n, segment)) = segments.next() {
            let result = match segment {
                Segment::Fail(report) => Err(report.into()),
                Segment::Own(steps) => Box::pin(self.run_own(steps)).await,
                Segment::Work(mut work) => {
                    let end = if n + 1 == last {
                        end
                    } else {
                        self.end_between(&work)
                    };
                    match work.portion.take() {
                        None => self.run_work(work, end).await.map(|_| ()),
                        Some(portion) => Box::pin(self.run_portion(work, *portion, end)).await,
                    }
                }
            };
            if let Err(failure) = result {
                self.unregister(segments.map(|(_, s)| s));
                return Err(failure);
            }
        }
        Ok(())
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
            for name in work.parsed.drain(..).skip(self.exec.parsed) {
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

    // ---- steps ---------------------------------------------------------------------------------

    async fn add_step(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        match frame[0] {
            b'P' => self.add_parse(frame, segments),
            b'B' => self.add_bind(frame, segments).await,
            b'D' => self.add_describe(frame, segments),
            b'E' => self.add_execute(frame, segments),
            _ => self.add_close(frame, segments),
        }
    }

    fn add_parse(&mut self, frame: &Bytes, segments: &mut Vec<Segment>) -> Result<(), Failure> {
        let parse = message::parse(frame).map_err(protocol_violation)?;
        let name = frame.slice_ref(parse.name);
        if !name.is_empty() && self.statements.contains_key(&name) {
            let text = format!(
                "prepared statement \"{}\" already exists",
                String::from_utf8_lossy(&name)
            );
            return Err(Report::new(SqlState::DUPLICATE_STATEMENT, text).into());
        }
        let most = self.exec.backend.config.limits.client_prepared_max;
        if self.statements.len() >= most {
            return Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("more than {most} prepared statements"))
                .hint("limits.client_prepared_max in the shard map bounds them; close those no longer needed.")
                .into());
        }
        let again = self.same_again(&name, parse.text, &parse.types);
        let prepared = if let Some(prepared) = again {
            self.add_bring(When::Parsed, &prepared, segments)?;
            prepared
        } else {
            let text = Bytes::copy_from_slice(parse.text);
            let prepared = self.prepare(!name.is_empty(), text, parse.types)?;
            self.add_bring(When::Parsed, &prepared, segments)?;
            let name = Bytes::copy_from_slice(&name);
            self.statements.insert(name, prepared.clone());
            prepared
        };
        if prepared.local {
            own(segments, OwnStep::Answer(PARSE_COMPLETE));
            return Ok(());
        }
        let destination = self.preference(&prepared);
        let name = Bytes::copy_from_slice(&name);
        with_work(segments, destination, &prepared.clone(), |work| {
            work.parsed.push(name);
            push(work, Step::Parse(prepared));
        });
        Ok(())
    }

    fn add_bring(
        &self,
        when: When,
        prepared: &Prepared,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Report> {
        if let Some(bring) = self.needs_there(when, prepared)? {
            own(segments, OwnStep::Bring(Box::new(bring)));
        }
        Ok(())
    }

    /// The statement of this name, where it is just the one that is to be parsed.
    fn same_again(&self, name: &[u8], text: &[u8], types: &[u32]) -> Option<Arc<Prepared>> {
        let found = self.statements.get(name)?;
        let same = found.client_text == text
            && found.types == types
            && found.context == self.context.fingerprint
            && found.settings == self.context.settings;
        // what is answered here may be answered otherwise now
        (same
            && !self.may_mean_something_else()
            && !found.local
            && found.planned.statements.len() == 1
            && !matches!(found.planned.statements[0].command, Command::Deallocate(_)))
        .then(|| found.clone())
    }

    /// The transaction has changed the schema, or there are temporary tables: what a server has parsed of the same text may
    /// be about tables that are no more, and would fail for its result. Only what runs then would show it, too late.
    fn may_mean_something_else(&self) -> bool {
        let changed = |tx: &Transaction| tx.ddl.is_some();
        self.exec.transaction.as_ref().is_some_and(changed)
            || self.exec.held.iter().any(Held::has_temporary_tables)
    }

    /// Plans a text; the statement as this session knows it.
    pub(super) fn prepare(
        &mut self,
        named: bool,
        text: Bytes,
        types: Vec<u32>,
    ) -> Result<Arc<Prepared>, Report> {
        let planned = self.plan_parse(&text, &types)?;
        let plan = planned.statements.first();
        let timed = self.timed_statement(named, &text, &types, &planned)?;
        let refusal = plan.and_then(|p| p.refusal.as_ref());
        if let (Some(refusal), None) = (refusal, &timed) {
            return Err(refusal.clone().into());
        }
        let own = plan.and_then(|plan| self.with_own_number(plan, &text));
        let mut server_text = own.unwrap_or_else(|| text.clone());
        let mut hidden = 0;
        if let Some(draw) = plan.and_then(|p| p.draw.as_ref()) {
            let first =
                params_in(&text, self.context.standard_conforming_strings).max(types.len()) + 1;
            let edited = splice(
                &text,
                &[],
                0..text.len(),
                &draw.edits,
                Drawn::Params { first },
            );
            server_text = edited.ok_or_else(super::simple::misplaced)?.into();
            hidden = draw.rows;
        }
        let local = planned.statements.len() == 1 && plan.is_some_and(|plan| self.is_own(plan));
        // one that asks which there are is not to see itself by another name
        let named = named && !plan.is_some_and(|plan| plan.effects.asks_statements);
        let mut id = identity(self.context.settings, &server_text, &types);
        if self.may_mean_something_else() {
            id = rand::random::<u128>() | 1;
        }
        let combined = super::combine::prepared(&text, &types, named, &planned, &self.context)?;
        Ok(Arc::new(Prepared {
            id,
            name: server_name(named, id),
            named,
            client_text: text,
            server_text,
            types,
            hidden,
            combined,
            timed,
            planned,
            context: self.context.fingerprint,
            settings: self.context.settings,
            local,
            result: AtomicU64::new(0),
            told_types: OnceLock::new(),
        }))
    }

    /// The statement of a name, planned anew when settings or catalog have changed since.
    pub(super) fn statement(&mut self, name: &[u8]) -> Result<Arc<Prepared>, Failure> {
        let Some(found) = self.statements.get(name).cloned() else {
            let text = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!(
                    "prepared statement \"{}\" does not exist",
                    String::from_utf8_lossy(name)
                )
            };
            return Err(Report::new(SqlState::INVALID_STATEMENT_NAME, text).into());
        };
        let same_plan = found.context == self.context.fingerprint;
        if same_plan && found.settings == self.context.settings {
            return Ok(found);
        }
        let fresh = if same_plan {
            found.under(self.context.settings)
        } else {
            let types = found.types_again(self.exec.snapshot.database.shards.len());
            self.prepare(found.named, found.client_text.clone(), types)?
        };
        self.statements
            .insert(Bytes::copy_from_slice(name), fresh.clone());
        Ok(fresh)
    }

    async fn add_bind(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let bind = message::bind(frame).map_err(protocol_violation)?;
        self.bound_portals(bind.portal)?;
        let prepared = self.statement_bound(&bind, segments).await?;
        if prepared.timed.is_some() {
            let alone = !segments.iter().any(Segment::runs);
            let known = segments.iter().all(Segment::keeps_the_time);
            let known = self.gathering.times.clone().filter(|_| known);
            let timed = Box::pin(self.bound_with_the_time(&prepared, &bind, alone, known)).await?;
            if let Some((prepared, frame)) = timed {
                let bind = message::bind(&frame).map_err(protocol_violation)?;
                return self.add_bound(&frame, &bind, prepared, segments).await;
            }
        }
        self.add_bound(frame, &bind, prepared, segments).await
    }

    async fn add_bound(
        &mut self,
        frame: &Bytes,
        bind: &message::Bind<'_>,
        prepared: Arc<Prepared>,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let portal = Bytes::copy_from_slice(bind.portal);
        if prepared.local {
            self.portals.insert(portal, Portal::local(prepared));
            own(segments, OwnStep::Answer(BIND_COMPLETE));
            return Ok(());
        }
        let mut rest = frame.slice_ref(bind.rest);
        let planned = prepared.planned.clone();
        let bound = Bound {
            bind,
            types: &prepared.types,
        };
        let targets = self.targets_bound(&prepared, &bound, &mut rest).await?;
        let mut targets = match targets {
            Bindings::Targets(targets) => targets,
            Bindings::Anywhere => self.beside(segments),
            Bindings::Here(asked) => {
                let portal_here = Portal::of_cursor(asked, self.exec.transaction.as_ref());
                self.portals.insert(portal, portal_here);
                own(segments, OwnStep::Answer(BIND_COMPLETE));
                return Ok(());
            }
        };
        let combine = combined(&planned, &targets, bind, &prepared, &mut rest);
        let progress = self.progress_of(&prepared, &mut targets, &bound)?;
        let there = progress
            .as_ref()
            .and_then(|progress| progress.lock().there());
        if progress.is_some() {
            self.refuse_duplicate(&portal)?;
        }
        self.portals.insert(
            portal.clone(),
            Portal {
                progress,
                prepared: prepared.clone(),
                targets: targets.clone(),
                combine: combine.clone(),
                cursor: None,
            },
        );
        let plan = prepared.planned.statements.first();
        let parts = self.parts_of(plan, &targets, &bound);
        let destination = destination(plan, targets);
        let asked = prepared.combined.as_ref().filter(|_| combine.is_some());
        let before = there.clone();
        let step = Step::Bind {
            portal: there.unwrap_or(portal),
            prepared: asked.unwrap_or(&prepared).clone(),
            rest,
        };
        with_work(segments, destination, &prepared, |work| {
            // it takes the place of the one before it, which may have been given up
            if let Some(portal) = before {
                push(work, Step::CloseQuietly(portal));
            }
            push(work, step);
            work.job.parts = parts;
            work.job.combine = combine.or(work.job.combine.take());
        });
        Ok(())
    }

    /// The statement that a Bind names, as it is to run, behind what has to be done first.
    async fn statement_bound(
        &mut self,
        bind: &message::Bind<'_>,
        segments: &mut Vec<Segment>,
    ) -> Result<Arc<Prepared>, Failure> {
        let prepared = self.kept(bind.statement).await?;
        self.add_bring(When::Bound, &prepared, segments)?;
        let Some((pid, signal, answer)) = self.signal_bound(&prepared, bind)? else {
            return Ok(prepared);
        };
        own(segments, OwnStep::Signal(pid, signal));
        Ok(answer)
    }

    async fn targets_bound(
        &mut self,
        prepared: &Arc<Prepared>,
        bound: &Bound<'_>,
        rest: &mut Bytes,
    ) -> Result<Bindings, Failure> {
        Ok(Bindings::Targets(
            match prepared.planned.statements.first() {
                None => Targets::One(self.exec.any_shard()),
                Some(plan) if self.is_about_cursors(plan) => {
                    return self.bind_cursor(plan, prepared, bound, rest.clone());
                }
                Some(plan) if plan.routing == Routing::AnyShard => return Ok(Bindings::Anywhere),
                Some(plan) => {
                    if let Some(draw) = &plan.draw {
                        let (shard, values) = self.draw(draw).await?;
                        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
                        *rest = bound.bind.with_text_values(&texts).into();
                        Targets::One(shard)
                    } else {
                        let strings = self.context.standard_conforming_strings;
                        refuse_clocks(plan, bound.bind, prepared, strings)?;
                        let targets = self.targets_of(plan, bound)?;
                        let within = self.exec.transaction.is_some();
                        refuse_times(plan, &targets, bound.bind, prepared, within)?;
                        targets
                    }
                }
            },
        ))
    }

    fn parts_of(
        &self,
        plan: Option<&Plan>,
        targets: &Targets,
        bound: &Bound<'_>,
    ) -> Option<Box<[Part]>> {
        match (&plan?.merge, targets) {
            (Merge::Gather(gather), Targets::Many(_)) => {
                Some(gather.parts(bound, &self.exec.snapshot.database).into())
            }
            _ => None,
        }
    }

    fn bound_portals(&self, portal: &[u8]) -> Result<(), Report> {
        let most = self.exec.backend.config.limits.client_prepared_max;
        if self.portals.len() < most || self.portals.get(portal).is_some() {
            return Ok(());
        }
        Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("more than {most} portals"))
            .hint("limits.client_prepared_max in the shard map bounds them; close those no longer needed."))
    }

    /// Where what any shard can answer is answered: beside what stands before it.
    fn beside(&self, segments: &[Segment]) -> Targets {
        let before = segments.iter().rev().find_map(|segment| match segment {
            Segment::Work(work) if !work.open => work.shard(),
            _ => None,
        });
        let wrote = match self.gathering.wrote {
            Wrote::On(shard) => Some(shard),
            _ => None,
        };
        let shard = wrote.or(before).unwrap_or_else(|| self.any_shard());
        Targets::One(shard)
    }

    fn add_describe(&mut self, frame: &Bytes, segments: &mut Vec<Segment>) -> Result<(), Failure> {
        let (kind, name) = message::named(frame).map_err(protocol_violation)?;
        if kind == b'P' {
            return self.add_portal_step(frame, name, Reply::DescribePortal, false, segments);
        }
        let prepared = self.statement(name)?;
        if prepared.local {
            own(segments, OwnStep::Answer(b"t\0\0\0\x06\0\0"));
            own(segments, OwnStep::Describe(prepared));
            return Ok(());
        }
        let plan = prepared.planned.statements.first();
        if plan.is_some_and(|plan| self.is_about_cursors(plan))
            && let Some(asked) = self.described_here(&prepared)?
        {
            let statement = true;
            own_cursor(segments, CursorStep::Describe { asked, statement });
            return Ok(());
        }
        let destination = self.preference(&prepared);
        let step = Step::DescribeStatement(prepared.clone());
        with_work(segments, destination, &prepared, |work| push(work, step));
        Ok(())
    }

    fn add_execute(&mut self, frame: &Bytes, segments: &mut Vec<Segment>) -> Result<(), Failure> {
        let (portal, rows) = message::execute(frame).map_err(protocol_violation)?;
        self.add_portal_step(frame, portal, Reply::Execute, rows > 0, segments)
    }

    fn add_portal_step(
        &mut self,
        frame: &Bytes,
        name: &[u8],
        reply: Reply,
        limited: bool,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let Some(Portal {
            prepared,
            targets,
            combine,
            progress,
            cursor,
        }) = self.portals.get(name).cloned()
        else {
            if self.knows_cursors() && self.add_known_cursor_step(frame, name, reply, segments)? {
                return Ok(());
            }
            return self.add_cursor_step(frame, name, reply, limited, segments);
        };
        if let Some(asked) = cursor {
            let step = CursorStep::of_portal(asked, progress, reply, frame)?;
            own_cursor(segments, step);
            return Ok(());
        }
        if prepared.local {
            let step = if reply == Reply::Execute {
                OwnStep::Execute(prepared)
            } else {
                OwnStep::Describe(prepared)
            };
            own(segments, step);
            return Ok(());
        }
        let plan = prepared.planned.statements.first();
        let settings = match plan {
            Some(plan) if reply == Reply::Execute => self.settings_in_batch(plan, &prepared)?,
            _ => Vec::new(),
        };
        let everywhere = !settings.is_empty() && self.exec.held.iter().any(|h| h.in_transaction);
        let after = match plan {
            Some(plan) if reply == Reply::Execute && self.is_about_cursors(plan) => {
                self.after_cursor(&prepared, &targets)?
            }
            _ => None,
        };
        let destination = destination(plan, targets);
        let (frame, portion) = Portion::placed(progress, reply, frame, name)?;
        let step = Step::Portal { reply, frame };
        let limited = limited && portion.is_none();
        with_work(segments, destination, &prepared, |work| {
            push(work, step);
            work.job.combine = combine.or(work.job.combine.take());
            if reply == Reply::Execute {
                note_execute(work, plan, limited, settings, everywhere);
                work.portion = portion.map(Box::new);
            }
        });
        if let Some(step) = after {
            own_cursor(segments, step);
        }
        Ok(())
    }

    /// What an Execute changes of the settings. What would pin is refused here where the map says so, behind the answers of
    /// what stands before it.
    fn settings_in_batch(&self, plan: &Plan, prepared: &Prepared) -> Result<Vec<Setting>, Failure> {
        let settings = self.settings_of(plan, &prepared.client_text)?;
        if let Some(reason) = plan.effects.pins.filter(|_| settings.is_empty()) {
            self.exec.guard_pin(reason)?;
        }
        Ok(settings)
    }

    /// Of a portal that is a cursor by SQL; false when there is none.
    fn add_known_cursor_step(
        &mut self,
        frame: &Bytes,
        name: &[u8],
        reply: Reply,
        segments: &mut Vec<Segment>,
    ) -> Result<bool, Failure> {
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(false);
        };
        let name = name.to_owned();
        match self.whose_declared(&name) {
            Whose::Ours => own_cursor(
                segments,
                match reply {
                    Reply::Close(_) => CursorStep::CloseCursor(name),
                    Reply::DescribePortal => CursorStep::DescribeCursor(name),
                    _ => return Err(super::cursors::refused("Execute of a cursor").into()),
                },
            ),
            Whose::Server(shard) => {
                let mut work = new_work(&Destination::on(shard));
                let frame = frame.clone();
                push(&mut work, Step::Portal { reply, frame });
                work.executes = usize::from(reply == Reply::Execute);
                work.job.executes = reply == Reply::Execute;
                segments.push(Segment::Work(Box::new(work)));
                if matches!(reply, Reply::Close(_)) {
                    own_cursor(segments, CursorStep::Closed(name));
                }
            }
            Whose::Portal | Whose::Unknown => return Ok(false),
        }
        Ok(true)
    }

    /// A portal the client has not bound may be a cursor: a statement has declared it, on a server.
    fn add_cursor_step(
        &self,
        frame: &Bytes,
        name: &[u8],
        reply: Reply,
        limited: bool,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let Some(shard) = self.cursors_shard().filter(|_| !name.is_empty()) else {
            let text = format!(
                "portal \"{}\" does not exist",
                String::from_utf8_lossy(name)
            );
            return Err(Report::new(SqlState::INVALID_CURSOR_NAME, text).into());
        };
        let frame = frame.clone();
        if let Some(work) = work_for(segments, Destination::on(shard)) {
            push(work, Step::Portal { reply, frame });
            if reply == Reply::Execute {
                note_execute(work, None, limited, Vec::new(), false);
            }
        }
        Ok(())
    }

    fn add_close(&mut self, frame: &Bytes, segments: &mut Vec<Segment>) -> Result<(), Failure> {
        let (kind, name) = message::named(frame).map_err(protocol_violation)?;
        let portal = if kind == b'P' {
            self.portals.remove(name)
        } else {
            None
        };
        if kind == b'S' {
            self.statements.remove(name);
        }
        if kind == b'P'
            && portal.is_none()
            && self.knows_cursors()
            && self.add_known_cursor_step(frame, name, Reply::Close(None), segments)?
        {
            return Ok(());
        }
        match portal {
            Some(Portal {
                cursor: None,
                prepared,
                targets,
                combine,
                progress,
                ..
            }) if !prepared.local
                && !super::portions::only_gathered(&prepared, &targets)
                && !self.exec.has_failed() =>
            {
                let destination = destination(prepared.planned.statements.first(), targets);
                let there = progress.and_then(|progress| progress.lock().there());
                let step = Step::Portal {
                    reply: Reply::Close(None),
                    frame: there.map_or(frame.clone(), |there| {
                        super::portions::renamed(frame, &there)
                    }),
                };
                with_work(segments, destination, &prepared, |work| {
                    push(work, step);
                    work.job.combine = combine.or(work.job.combine.take());
                });
            }
            // in a failed transaction closing is still allowed, and its end closes all the same
            None if kind == b'P' && !self.exec.has_failed() && self.may_be_a_cursor(name) => {
                let reply = Reply::Close(None);
                self.add_cursor_step(frame, name, reply, false, segments)?;
            }
            _ => match segments.last_mut() {
                Some(Segment::Work(work)) if !work.is_complete() => {
                    push(work, Step::CloseStatement);
                }
                _ => own(segments, OwnStep::Answer(CLOSE_COMPLETE)),
            },
        }
        Ok(())
    }

    /// Where Parse and Describe go when nothing is bound: every shard knows the tables.
    fn preference(&self, prepared: &Prepared) -> Destination {
        let plan = prepared.planned.statements.first();
        let anywhere = Destination {
            targets: Targets::One(self.exec.any_shard()),
            merge: Merge::Single,
            access: plan.map_or(Access::Write, |p| p.access),
            open: true,
            alone: false,
        };
        match plan {
            // a server in a transaction is taken only for what runs
            Some(plan)
                if matches!(plan.routing, Routing::Home | Routing::Unsharded)
                    || plan.command == Command::DeclareOver
                    || matches!(plan.told_merge(), Merge::Gather(_)) =>
            {
                Destination {
                    targets: Targets::One(self.exec.snapshot.database.home),
                    ..anywhere
                }
            }
            _ => anywhere,
        }
    }
}

pub(super) fn server_name(named: bool, id: u128) -> Box<str> {
    if named {
        statement_name(id).into()
    } else {
        Box::default()
    }
}

/// A statement is the same on a server when text, types and all that it takes in when it is parsed agree.
pub(super) fn identity(settings: u64, text: &[u8], types: &[u32]) -> u128 {
    let mut seed = xxhash_rust::xxh3::Xxh3::with_seed(settings);
    seed.update(text);
    for oid in types {
        seed.update(&oid.to_le_bytes());
    }
    seed.digest128() | 1
}

impl Prepared {
    /// The same statement, to be parsed under other settings.
    fn under(&self, settings: u64) -> Arc<Self> {
        let id = identity(settings, &self.server_text, &self.types);
        Arc::new(Self {
            id,
            name: server_name(self.named, id),
            settings,
            client_text: self.client_text.clone(),
            server_text: self.server_text.clone(),
            types: self.types.clone(),
            planned: self.planned.clone(),
            combined: self.combined.as_ref().map(|one| one.under(settings)),
            timed: self.timed.as_ref().map(|one| one.under(settings)),
            result: AtomicU64::new(self.result.load(Ordering::Relaxed)),
            told_types: self.told_types.clone(),
            ..*self
        })
    }
}

fn split_writes() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "the statements between two Syncs are one transaction, and here they go to several shards",
    )
    .hint("Send a Sync after each statement, or keep the statements of a batch on one shard.")
}

fn refuse_clocks(
    plan: &Plan,
    bind: &message::Bind<'_>,
    prepared: &Prepared,
    strings: bool,
) -> Result<(), Report> {
    if *plan.told_merge() != Merge::Everywhere {
        return Ok(());
    }
    refuse_clock_words(plan, &prepared.client_text, strings)?;
    for n in 0..bind.params {
        if let Some(message::BindValue::Text(value)) = bind.value(n) {
            refuse_clock_value(plan, value)?;
        }
    }
    Ok(())
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

/// The segment that takes a step for this destination: the last one if they agree, else a new one.
fn with_work(
    segments: &mut Vec<Segment>,
    destination: Destination,
    prepared: &Arc<Prepared>,
    act: impl FnOnce(&mut Work),
) {
    let Some(work) = work_for(segments, destination) else {
        return;
    };
    work.planned.get_or_insert_with(|| prepared.planned.clone());
    act(work);
}

/// The last segment, if it takes this, else a new one.
fn work_for(segments: &mut Vec<Segment>, destination: Destination) -> Option<&mut Work> {
    let fits = matches!(segments.last(), Some(Segment::Work(last)) if last.takes(&destination));
    if !fits {
        segments.push(Segment::Work(Box::new(new_work(&destination))));
    }
    let Some(Segment::Work(work)) = segments.last_mut() else {
        return None;
    };
    if work.open && !destination.open {
        work.job.targets = destination.targets;
        work.job.merge = destination.merge;
        work.open = false;
    }
    if destination.access == Access::Write {
        work.job.access = Access::Write;
    }
    Some(work)
}

impl Work {
    /// What stands before the Execute at its end, if anything does.
    pub(super) fn without_execute(mut self: Box<Self>) -> Option<Box<Self>> {
        let Ask::Batch { steps, .. } = &mut self.job.ask else {
            return None;
        };
        steps.pop();
        let rest = !steps.is_empty();
        self.executes = 0;
        self.job.executes = false;
        rest.then_some(self)
    }

    /// Its last step, an Execute, is to be this one.
    pub(super) fn execute(&mut self, frame: Bytes) {
        if let Ask::Batch { steps, end } = &mut self.job.ask {
            *end = End::Sync;
            steps.pop();
            let reply = Reply::Execute;
            steps.push(Step::Portal { reply, frame });
        }
    }

    /// The only shard it goes to.
    fn shard(&self) -> Option<ShardId> {
        match (&self.job.targets, &self.job.merge) {
            (Targets::One(shard), merge) if merge.is_a_read() => Some(*shard),
            _ => None,
        }
    }

    fn takes(&self, destination: &Destination) -> bool {
        let stays_alone = destination.alone && self.executes > 0;
        !self.is_complete()
            && !stays_alone
            && (destination.open
                || self.open
                || (self.job.targets == destination.targets && self.job.merge == destination.merge))
    }

    /// The answers of several shards become one at the end of a segment, and a SET may go to several servers where its
    /// neighbours go to one: such a segment takes nothing more once it runs something.
    fn is_complete(&self) -> bool {
        let scatters =
            self.job.merge.puts_together() && matches!(self.job.targets, Targets::Many(_));
        let everywhere = self.job.merge == Merge::Everywhere;
        let portion = self.portion.is_some();
        self.executes > 0 && (scatters || everywhere || portion || self.job.is_set())
    }
}

/// The highest `$n` of a text.
pub(super) fn params_in(text: &[u8], scs: bool) -> usize {
    let tokens = tokenize(text, scs).unwrap_or_default();
    let numbers = tokens
        .iter()
        .filter(|t| matches!(t.kind, TokenKind::Param(_)))
        .filter_map(|t| {
            std::str::from_utf8(t.bytes(text))
                .ok()
                .and_then(|word| word.trim_start_matches('$').parse::<usize>().ok())
        });
    numbers.max().unwrap_or(0)
}

fn new_work(destination: &Destination) -> Work {
    Work {
        job: Job {
            ask: Ask::Batch {
                steps: Vec::new(),
                end: End::Sync,
            },
            access: destination.access,
            targets: destination.targets.clone(),
            merge: destination.merge.clone(),
            effects: crate::route::Effects::default(),
            combine: None,
            limited: false,
            settings: Vec::new(),
            executes: false,
            moved: None,
            parts: None,
            shares: None,
        },
        planned: None,
        parsed: SmallVec::new(),
        executes: 0,
        open: destination.open,
        portion: None,
    }
}

fn destination(plan: Option<&Plan>, targets: Targets) -> Destination {
    Destination {
        targets,
        merge: plan.map_or(Merge::Single, |p| p.merge.clone()),
        access: plan.map_or(Access::Write, |p| p.access),
        open: false,
        alone: plan.is_some_and(is_alone),
    }
}

fn is_alone(plan: &Plan) -> bool {
    matches!(plan.command, Command::Explain(_)) || super::settings::is_setting(plan)
}

fn note_execute(
    work: &mut Work,
    plan: Option<&Plan>,
    limited: bool,
    settings: Vec<Setting>,
    everywhere: bool,
) {
    work.executes += 1;
    work.job.executes = true;
    work.job.limited |= limited;
    let stays = plan.filter(|plan| super::settings::stays_there(plan, &settings));
    work.job.settings.extend(settings);
    if everywhere {
        work.job.merge = Merge::Everywhere;
    }
    if let Some(plan) = plan {
        join_effects(work, plan);
        if work.job.is_set() {
            // brought along like any other SET: no reason to stay
            work.job.effects.pins = None;
        }
    }
    if stays.is_some() {
        work.job.effects.pins = Some(super::settings::FOREIGN);
        work.job.effects.opaque = true;
    }
}

fn join_effects(work: &mut Work, plan: &Plan) {
    let effects = &mut work.job.effects;
    effects.pins = effects.pins.or(plan.effects.pins);
    effects.opaque |= plan.effects.opaque;
    effects.ddl = effects.ddl.max(plan.effects.ddl);
    effects.clock |= plan.effects.clock;
    effects.names_time |= plan.effects.names_time;
    effects.notifies |= plan.effects.notifies;
    // what stands before it in the batch may be what has called nextval()
    effects.asks_sequence |= plan.effects.asks_sequence && work.executes == 1;
}

fn push(work: &mut Work, step: Step) {
    if let Ask::Batch { steps, .. } = &mut work.job.ask {
        steps.push(step);
    }
}

fn own_cursor(segments: &mut Vec<Segment>, step: CursorStep) {
    own(segments, OwnStep::Cursor(Box::new(step)));
}

fn own(segments: &mut Vec<Segment>, step: OwnStep) {
    match segments.last_mut() {
        Some(Segment::Own(steps)) => steps.push(step),
        _ => segments.push(Segment::Own(vec![step])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, length: usize) -> Bytes {
        let mut frame = vec![0; length];
        frame[0] = tag;
        frame.into()
    }

    /// A single statement is no pipeline, however long it is, and nothing is cut off before its Execute.
    #[test]
    fn a_piece_ends_with_the_execute_of_a_later_statement() {
        let mut gathering = Gathering::default();
        for (tag, length, piece) in [
            (b'P', 100, false),
            (b'B', PIECE, false),
            (b'E', 10, false),
            (b'B', 100, false),
            (b'E', 10, true),
        ] {
            assert!(gathering.take(frame(tag, length)));
            assert_eq!(gathering.is_piece(), piece, "{}", char::from(tag));
        }
    }
}
