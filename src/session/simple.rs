//! The simple protocol: one text, any number of statements.

use super::Session;
use super::clocks::refuse_clock_words;
use super::instead::{Instead, Made};
use crate::exec::Failure;
use crate::exec::executor::Done;
use crate::exec::failure::Report;
use crate::exec::job::{Ask, Job};
use crate::exec::transaction::{Opened, Transaction};
use crate::route::{Command, Merge, Plan, PlannedText, Targets, Values};
use crate::sql::clock::{Moved, slots_name_time};
use crate::sql::edit::{Drawn, splice};
use crate::sql::lift::Lifted;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, message};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// The literals of a lifted text.
pub struct Literals<'a> {
    pub text: &'a [u8],
    pub lifted: &'a Lifted,
}

impl Values for Literals<'_> {
    fn slot(&self, n: usize) -> Option<&[u8]> {
        let span = self.lifted.slots.get(n)?;
        self.text.get(span.start..span.end)
    }

    fn param(&self, _n: usize) -> Option<crate::route::ParamValue<'_>> {
        None
    }
}

impl Session {
    pub async fn on_query(&mut self, frame: Bytes) -> Result<(), Failure> {
        if self.has_open_batch() && !Box::pin(self.end_open_batch()).await? {
            return Ok(());
        }
        if !self.statements.is_empty() {
            self.statements.remove(b"");
            // a query takes the place of the unnamed portal, too
            if let Some(portal) = self.portals.remove(b"")
                && portal.progress.is_some()
            {
                Box::pin(self.abandon(portal)).await;
            }
        }
        let result = match message::query(&frame) {
            Ok(text) => {
                let text = frame.slice_ref(text);
                self.refresh_snapshot();
                self.simple(&text).await
            }
            Err(malformed) => Err(super::startup::protocol_violation(malformed).into()),
        };
        self.tell(result).await?;
        self.ready_with_mail().await
    }

    /// Says what went wrong, if anything; only a vanished client goes further up, or a session whose state is gone.
    pub async fn tell(&mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        if self.exec.ended.is_some() {
            match &result {
                Ok(()) => self.exec.ended = None,
                Err(_) => Box::pin(self.exec.see_whether_meant()).await,
            }
        }
        if let Err(failure @ (Failure::Shown | Failure::Report(_))) = &result
            && let Some(last_word) = self.exec.cancel.overrun.of_connection()
        {
            if let Failure::Report(report) = failure
                && *report != last_word
            {
                self.say(report);
            }
            return Err(last_word.into());
        }
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Shown | Failure::Report(_)) if self.exec.bereft.is_some() => {
                self.still_whole()
            }
            Err(Failure::Shown) => Ok(()),
            Err(Failure::Report(report)) => {
                self.say(&report);
                self.exec.note_failure();
                Ok(())
            }
            Err(Failure::ClientGone) => Err(Failure::ClientGone),
        }
    }

    /// An error when the server is gone on which the session's state lived: that ends the session, as at PostgreSQL.
    pub(super) fn still_whole(&mut self) -> Result<(), Failure> {
        match self.exec.bereft.take() {
            None => Ok(()),
            Some(report) => Err((*report).into()),
        }
    }

    async fn simple(&mut self, text: &Bytes) -> Result<(), Failure> {
        let started = self.begin_work();
        let planned = self.plan_simple(text)?;
        if planned.statements.is_empty() {
            build::bare(&mut self.exec.client.output, b'I');
            return Ok(());
        }
        let whole = match self.whole(&planned, text).await {
            Ok(whole) => whole,
            Err(failure) => return Err(failure),
        };
        // by reference: it would lie in the future of an idle client twice
        let result = if let Some(job) = &whole {
            let plan = &planned.statements[0];
            let result = match &job.moved {
                None => self.run_planned(plan, job).await,
                Some(moved) => Box::pin(self.run_placed(plan, job, moved)).await,
            };
            if job.is_set() && result.is_ok() {
                Box::pin(self.after_setting(job)).await;
            }
            result
        } else {
            Box::pin(self.one_by_one(&planned, text)).await
        };
        self.count(&planned, started, &result);
        result.map(|_| ())
    }

    /// The text as one job, when one server (or every shard) takes it as it is.
    async fn whole(&mut self, planned: &PlannedText, text: &Bytes) -> Result<Option<Job>, Failure> {
        if let [plan] = &planned.statements[..] {
            if self.is_answered_here(plan) {
                return Ok(None);
            }
            return self.job_of(plan, text, text.clone()).await.map(Some);
        }
        let plain = |plan: &Plan| {
            !self.is_answered_here(plan)
                && plan.refusal.is_none()
                && plan.draw.is_none()
                && plan.effects.pins.is_none()
                && !plan.effects.numbers
                && !matches!(
                    plan.command,
                    Command::Set { .. } | Command::Reset(_) | Command::Deallocate(_)
                )
        };
        let among = self.may_hold_bounds(planned);
        let fits = |plan: &Plan| plain(plan) || among && is_bound(plan);
        if self.exec.transaction.is_some() && !among || !planned.statements.iter().all(fits) {
            return Ok(None);
        }
        self.common_job(planned, text)
    }

    /// With one shard a text with BEGIN or COMMIT in it goes to the server as it is, which alone knows all of what an
    /// implicit transaction is. Not where pgshunt would have to know which savepoints and settings are left behind it.
    fn may_hold_bounds(&self, planned: &PlannedText) -> bool {
        if self.exec.snapshot.database.shards.len() > 1 {
            return false;
        }
        let transaction = self.exec.transaction.as_ref();
        let statements = &planned.statements;
        let Some(last_bound) = statements.iter().rev().find(|plan| is_bound(plan)) else {
            return false;
        };
        let ends = matches!(
            last_bound.command,
            Command::Commit { chain: false } | Command::Rollback { chain: false }
        );
        let begins = |plan: &Plan| matches!(plan.command, Command::Begin { .. });
        let in_block = transaction.is_some() || statements.iter().any(begins);
        let leaves_savepoints = in_block && !ends && statements.iter().any(is_savepoint);
        !leaves_savepoints && transaction.is_none_or(|tx| tx.heard.is_empty())
    }

    /// Several plain statements for one shard: the server runs them in its own implicit transaction.
    fn common_job(&self, planned: &PlannedText, text: &Bytes) -> Result<Option<Job>, Failure> {
        let literals = Literals {
            text,
            lifted: &self.lifted,
        };
        let mut common: Option<Job> = None;
        for plan in &planned.statements {
            if !plan.merge.is_a_read() && self.exec.snapshot.database.shards.len() > 1 {
                return Ok(None);
            }
            let Targets::One(shard) = self.targets_of(plan, &literals)? else {
                return Ok(None);
            };
            let targets = Targets::One(shard);
            match &mut common {
                None => {
                    let job = self.job(plan, Ask::Simple(text.clone()), targets, Vec::new());
                    common = Some(Job {
                        merge: Merge::Single,
                        shares: None,
                        ..job
                    });
                }
                Some(job) if job.targets == targets => {
                    if plan.access == crate::route::Access::Write {
                        job.access = plan.access;
                    }
                    job.effects.opaque |= plan.effects.opaque;
                    job.effects.notifies |= plan.effects.notifies;
                    job.effects.ddl = job.effects.ddl.max(plan.effects.ddl);
                }
                Some(_) => return Ok(None),
            }
        }
        Ok(common)
    }

    /// One statement of the text as a job; `sql` is what the server is sent, if nothing else is.
    pub(super) async fn job_of(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Job, Failure> {
        let plain = plan.refusal.is_none() && plan.draw.is_none() && plan.clocks.is_none();
        let made = if plain {
            self.plainly_made(plan, text, sql)?
        } else {
            Box::pin(self.made_of(plan, text, sql)).await?
        };
        match made {
            Ok(job) => Ok(job),
            Err(instead) => Box::pin(self.job_instead(*instead)).await,
        }
    }

    async fn job_instead(&mut self, mut instead: Instead) -> Result<Job, Failure> {
        let Some(plan) = instead.planned.statements.first() else {
            return Err(misplaced().into());
        };
        std::mem::swap(&mut self.lifted, &mut instead.lifted);
        let made = self
            .made_of(plan, &instead.text, instead.text.clone())
            .await;
        std::mem::swap(&mut self.lifted, &mut instead.lifted);
        let mut job = match made? {
            Ok(job) => job,
            Err(again) => Box::pin(self.job_instead(*again)).await?,
        };
        job.moved = job.moved.or(instead.moved);
        Ok(job)
    }

    async fn made_of(&mut self, plan: &Plan, text: &Bytes, sql: Bytes) -> Result<Made, Failure> {
        if let Some(refusal) = &plan.refusal {
            let all = self.every_shard();
            let instead = Box::pin(self.with_the_time(plan, text, &sql, &all)).await?;
            return match instead {
                Some(instead) => Ok(Err(instead)),
                None => Err(refusal.clone().into()),
            };
        }
        if let Some(draw) = &plan.draw {
            let (shard, values) = Box::pin(self.draw(draw)).await?;
            let slots = &self.lifted.slots;
            let range = self.range_sent(plan, text, &sql);
            let edited = splice(text, slots, range, &draw.edits, Drawn::Literals(&values));
            let edited = edited.ok_or_else(misplaced)?;
            return Ok(Ok(self.job(
                plan,
                Ask::Simple(edited.into()),
                Targets::One(shard),
                Vec::new(),
            )));
        }
        if self.may_need_the_time(plan) {
            let literals = Literals {
                text,
                lifted: &self.lifted,
            };
            let targets = self.targets_of(plan, &literals)?;
            let instead = Box::pin(self.with_the_time(plan, text, &sql, &targets)).await?;
            return match instead {
                Some(instead) => Ok(Err(instead)),
                None => self.made_for(plan, text, sql, targets),
            };
        }
        self.plainly_made(plan, text, sql)
    }

    /// Nobody has to be asked for it.
    fn plainly_made(&mut self, plan: &Plan, text: &Bytes, sql: Bytes) -> Result<Made, Failure> {
        let literals = Literals {
            text,
            lifted: &self.lifted,
        };
        let targets = self.targets_of(plan, &literals)?;
        self.made_for(plan, text, sql, targets)
    }

    fn made_for(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
        targets: Targets,
    ) -> Result<Made, Failure> {
        let sql = self.with_own_number(plan, &sql).unwrap_or(sql);
        let sql = self.signal_simple(plan, sql);
        refuse_clock_words(plan, &sql, self.context.standard_conforming_strings)?;
        if let Targets::Many(_) = &targets
            && let Some(instead) = self.with_its_literals(plan, text, &sql)?
        {
            return Ok(Err(instead));
        }
        if let (Merge::Combine(made), Targets::Many(_)) = (&plan.merge, &targets) {
            return self.combined_job(plan, made, text, &sql, targets).map(Ok);
        }
        let settings = self.settings_of(plan, &sql)?;
        let mut job = self.job(plan, Ask::Simple(sql), targets, settings);
        if let (Merge::Gather(gather), Targets::Many(_)) = (&plan.merge, &job.targets) {
            let literals = Literals {
                text,
                lifted: &self.lifted,
            };
            job.parts = Some(gather.parts(&literals, &self.exec.snapshot.database).into());
            job.effects.names_time |= slots_name_time(text, &self.lifted.slots);
        }
        Ok(Ok(job))
    }

    /// Runs it; what an error says of a place is about the client's text, also where another was sent.
    async fn run_placed(&mut self, plan: &Plan, job: &Job, moved: &Moved) -> Result<Done, Failure> {
        let before = self.exec.client.shown();
        let result = self.run_planned(plan, job).await;
        if matches!(result, Err(Failure::Shown)) {
            let client = &mut self.exec.client;
            client.place_error_since(before, |place| moved.back(place));
        }
        result
    }

    /// Statement after statement, in one transaction around those that are not in one already.
    async fn one_by_one(
        &mut self,
        planned: &Arc<PlannedText>,
        text: &Bytes,
    ) -> Result<Done, Failure> {
        let several = planned.statements.len() > 1;
        let mut done = Done::default();
        for plan in &planned.statements {
            if several && self.exec.transaction.is_none() {
                self.exec.transaction = Some(Transaction::new(Opened::Implicitly, &self.exec.vars));
            }
            match self.one(plan, text).await {
                Ok(one) => done = one,
                Err(failure) => {
                    self.exec.note_failure();
                    return Err(self.end_implicit_failed(failure).await);
                }
            }
        }
        if self.is_implicit() {
            self.exec.client.hold();
            let holding = self.take_holding();
            let committed = self.exec.commit_all().await;
            self.exec.client.release();
            if let Err(failure) = committed {
                self.exec.show_pending_error();
                return Err(failure);
            }
            self.keep_holding(holding);
            self.refresh_context();
        }
        Ok(done)
    }

    /// The error is told before the transaction is ended, so that the answers stay in order.
    async fn end_implicit_failed(&mut self, failure: Failure) -> Failure {
        let failure = match failure {
            Failure::Report(report) => {
                self.say(&report);
                Failure::Shown
            }
            other => other,
        };
        if self.is_implicit() {
            self.exec.rollback_all().await;
            self.refresh_context();
        }
        failure
    }

    fn is_implicit(&self) -> bool {
        self.exec
            .transaction
            .as_ref()
            .is_some_and(|tx| tx.opened == Opened::Implicitly)
    }

    async fn one(&mut self, plan: &Plan, text: &Bytes) -> Result<Done, Failure> {
        let sql = text.slice(self.range_of(plan, text.len()));
        self.exec.clock = Instant::now();
        if self.is_own(plan) {
            return self.own_simple(plan, &sql).await;
        }
        if self.is_answered_here(plan) {
            return Box::pin(self.answer_here(plan, text, sql)).await;
        }
        let job = self.job_of(plan, text, sql).await?;
        let done = match &job.moved {
            None => self.run_planned(plan, &job).await?,
            Some(moved) => self.run_placed(plan, &job, moved).await?,
        };
        self.after_setting(&job).await;
        Ok(done)
    }

    /// The same, where all of the text may be sent.
    pub(super) fn range_sent(
        &self,
        plan: &Plan,
        text: &[u8],
        sql: &[u8],
    ) -> std::ops::Range<usize> {
        if sql.len() == text.len() {
            0..text.len()
        } else {
            self.range_of(plan, text.len())
        }
    }

    /// Where the statement stands in this execution's text.
    pub(super) fn range_of(&self, plan: &Plan, len: usize) -> std::ops::Range<usize> {
        let slots = &self.lifted.slots;
        let start = plan.start.absolute(slots).unwrap_or(0).min(len);
        let end = plan.end.absolute(slots).unwrap_or(len).min(len);
        start..end.max(start)
    }

    /// A statement that pgshunt answers itself.
    async fn own_simple(&mut self, plan: &Plan, sql: &Bytes) -> Result<Done, Failure> {
        let shown_from = self.exec.client.output.len();
        self.own_rows(plan);
        let tag = match self.own(plan, sql).await {
            Ok(tag) => tag,
            Err(failure) => {
                // no description of rows that do not come
                if matches!(plan.command, Command::ShowLocal(_)) {
                    self.exec.client.output.truncate(shown_from);
                }
                return Err(failure);
            }
        };
        build::command_complete(&mut self.exec.client.output, &tag);
        self.exec.client.release();
        Ok(Done {
            tag: Some(tag),
            ..Done::default()
        })
    }
}

/// BEGIN, COMMIT and what else bounds transactions.
fn is_bound(plan: &Plan) -> bool {
    matches!(
        plan.command,
        Command::Begin { .. }
            | Command::Commit { .. }
            | Command::Rollback { .. }
            | Command::SetTransaction { .. }
    ) || is_savepoint(plan)
}

fn is_savepoint(plan: &Plan) -> bool {
    matches!(
        plan.command,
        Command::Savepoint(_) | Command::ReleaseSavepoint(_) | Command::RollbackToSavepoint(_)
    )
}

/// The plan's places do not fit the text: a promise of ours is broken, and nothing is sent.
pub fn misplaced() -> Report {
    Report::new(
        SqlState::INTERNAL_ERROR,
        "a drawn key could not be put into the statement",
    )
}
