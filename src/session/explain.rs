//! EXPLAIN of statements on sharded tables: where the plan would send the statement, PostgreSQL is asked for its plans there,
//! and the answer says both. With ANALYZE the statement runs as pgshunt runs it, once, and is measured; only reads over
//! several shards, whose rows pass through pgshunt, are asked a second time for the plans of their shards.

mod account;

use super::Session;
use super::batch::Work;
use super::bound::Bound;
use super::clocks::refuse_clock_words;
use super::instead::Instead;
use super::portions::{Portion, Progress, Shared, sort};
use super::preparing::identity;
use super::simple::{Literals, misplaced};
use crate::exec::Failure;
use crate::exec::client::Kept;
use crate::exec::executor::{Done, in_failed_transaction};
use crate::exec::explain::{Apart, Said};
use crate::exec::failure::Report;
use crate::exec::flowing::too_much;
use crate::exec::job::{Ask, End, Job, Prepared, Step};
use crate::exec::measure::Measured;
use crate::exec::merge::{Formats, Run};
use crate::pool::outstanding::Reply;
use crate::route::{
    Access, Combination, Command, Explain, Gather, Merge, Part, Plan, Targets, Values,
};
use crate::shard::ShardId;
use crate::sql::edit::{Drawn, splice};
use crate::sql::lift::Span;
use crate::wire::{build, frame, message};
use account::{Account, Answer};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// What portals of ours are called on servers: the client's own stay what they are.
const PORTAL: &[u8] = b"pgshunt_explain";

/// What is explained, with the values of one execution.
#[derive(Debug)]
pub(super) struct Asked {
    pub targets: Targets,
    /// the statement
    pub statement: Bytes,
    /// as several shards are asked it
    pub edited: Bytes,
    pub parts: Box<[Part]>,
    run: Option<Arc<Run>>,
    way: Way,
}

impl Asked {
    /// The shards that are asked one by one. What is for one shard, or changes something on every shard, runs as any other
    /// statement does.
    fn several(&self, plan: &Plan) -> Option<&SmallVec<[ShardId; 8]>> {
        match (&self.targets, &plan.merge) {
            (Targets::Many(shards), Merge::Single) => Some(shards),
            _ => None,
        }
    }
}

/// How texts reach a server.
#[derive(Debug)]
enum Way {
    Simple,
    /// with the values of a Bind, all results as text
    Bound {
        prepared: Arc<Prepared>,
        values: Bytes,
    },
}

/// What the shards have answered.
struct Found {
    answer: Answer,
    measured: Option<Box<Measured>>,
    description: Option<Bytes>,
    /// notices, and in the extended protocol what answers the messages before Execute
    asides: BytesMut,
    done: Done,
}

impl Way {
    fn ask(&self, text: Bytes) -> Ask {
        let Self::Bound { prepared, values } = self else {
            return Ask::Simple(text);
        };
        let close = {
            let mut out = BytesMut::new();
            build::named(&mut out, b'C', b'P', PORTAL);
            out.freeze()
        };
        Ask::Batch {
            steps: vec![
                Step::Bind {
                    portal: Bytes::from_static(PORTAL),
                    prepared: Arc::new(asking(prepared, text)),
                    rest: values.clone(),
                },
                Step::Portal {
                    reply: Reply::Execute,
                    frame: super::portions::unlimited(PORTAL),
                },
                Step::Portal {
                    reply: Reply::Close(None),
                    frame: close,
                },
            ],
            end: End::Sync,
        }
    }
}

impl Way {
    /// Of the answer to an ask what the client is to see: not what answers messages of ours.
    fn asides(&self, mut all: BytesMut) -> BytesMut {
        let mut shown = BytesMut::new();
        while let Ok(Some(head)) = frame::header(&all, usize::MAX) {
            let message = all.split_to(head.len.min(all.len()));
            let described = head.tag == b'T' && matches!(self, Self::Simple);
            if described || head.tag == b'N' {
                shown.extend_from_slice(&message);
            }
        }
        shown
    }
}

/// Another text with the same parameters.
fn asking(prepared: &Prepared, text: Bytes) -> Prepared {
    Prepared {
        id: identity(prepared.settings, &text, &prepared.types),
        name: Box::default(),
        named: false,
        client_text: prepared.client_text.clone(),
        server_text: text,
        types: prepared.types.clone(),
        hidden: 0,
        planned: prepared.planned.clone(),
        combined: None,
        timed: None,
        context: prepared.context,
        settings: prepared.settings,
        local: false,
        result: std::sync::atomic::AtomicU64::new(0),
        told_types: std::sync::OnceLock::new(),
    }
}

impl Session {
    // ---- the simple protocol -----------------------------------------------------------------

    pub(super) async fn explain_statement(
        &mut self,
        plan: &Plan,
        explain: &Explain,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Done, Failure> {
        if self.exec.has_failed() {
            return Err(in_failed_transaction().into());
        }
        if let Some(mut instead) = self.explained_instead(plan, text, &sql).await?
            && let Some(plan) = instead.planned.statements.first()
            && let Command::Explain(explain) = &plan.command
        {
            std::mem::swap(&mut self.lifted, &mut instead.lifted);
            let text = &instead.text;
            let done = Box::pin(self.explain_statement(plan, explain, text, text.clone())).await;
            std::mem::swap(&mut self.lifted, &mut instead.lifted);
            return done;
        }
        if let Some(refusal) = &plan.refusal {
            return Err(refusal.clone().into());
        }
        refuse_clock_words(plan, &sql, self.context.standard_conforming_strings)?;
        let asked = self.asked_simply(plan, explain, text)?;
        let found = if let Some(shards) = asked.several(plan) {
            self.ask_shards(plan, explain, &asked, shards).await?
        } else {
            let job = self.job_of(plan, text, sql).await?;
            self.as_it_stands(plan, &job).await?
        };
        let Found { done, .. } = found;
        let rows = self.shown(
            plan,
            explain,
            &asked,
            &found.answer,
            found.measured.as_deref(),
        );
        let out = &mut self.exec.client.output;
        out.extend_from_slice(&found.asides);
        out.extend_from_slice(found.description.as_deref().unwrap_or_default());
        self.send_rows(&mut frames(&rows)).await?;
        build::command_complete(&mut self.exec.client.output, "EXPLAIN");
        Ok(Done {
            tag: Some("EXPLAIN".to_owned()),
            ..done
        })
    }

    /// The statement is explained as it would be run.
    async fn explained_instead(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: &Bytes,
    ) -> Result<Option<Box<Instead>>, Failure> {
        if plan.clocks.is_none() || plan.draw.is_some() {
            return Ok(None);
        }
        let lifted = &self.lifted;
        let targets = match plan.refusal {
            Some(_) => self.every_shard(),
            None => self.targets_of(plan, &Literals { text, lifted })?,
        };
        self.with_the_time(plan, text, sql, &targets).await
    }

    fn asked_simply(&self, plan: &Plan, explain: &Explain, text: &Bytes) -> Result<Asked, Failure> {
        let lifted = &self.lifted;
        let values = Literals { text, lifted };
        let targets = match plan.draw {
            // the drawn key will say it
            Some(_) => Targets::None,
            None => self.targets_of(plan, &values)?,
        };
        let rows = |amount| match amount {
            Some(crate::route::Amount::Fixed(rows)) => Some(rows),
            _ => None,
        };
        let run = combination(explain).map(|made| run(made, rows(made.limit), rows(made.offset)));
        let (statement, edited) = texts(plan, explain, text, &lifted.slots)?;
        Ok(Asked {
            targets,
            statement,
            edited,
            parts: self.parts(explain, &values),
            run,
            way: Way::Simple,
        })
    }

    /// The EXPLAIN itself, where one server (or each of them) can take it as it is.
    async fn as_it_stands(&mut self, plan: &Plan, job: &Job) -> Result<Found, Failure> {
        self.measure_if(job.merge == Merge::Everywhere);
        let room = self.room();
        self.exec.client.keep(room);
        let result = self.run_planned(plan, job).await;
        self.found_in_output(result)
    }

    fn measure_if(&mut self, wanted: bool) {
        let measured = || Box::new(Measured::new(Instant::now()));
        self.exec.measured = wanted.then(measured);
    }

    /// What was kept of an answer meant for the client.
    fn found_in_output(&mut self, result: Result<Done, Failure>) -> Result<Found, Failure> {
        let most = self.exec.backend.config.limits.portal_bytes_max;
        let Kept { bytes, overflown } = self.exec.client.take_kept();
        let mut measured = self.exec.measured.take();
        let sorted = sort(bytes);
        let done = match result {
            Err(Failure::Shown) | Ok(_) if overflown => return Err(too_much(most).into()),
            Ok(done) => done,
            Err(failure) => {
                self.exec.client.output.extend_from_slice(&sorted.asides);
                return Err(failure);
            }
        };
        if let Some(measured) = &mut measured {
            measured.end(Instant::now());
        }
        Ok(Found {
            answer: Answer::Whole {
                shard: done.shard,
                rows: values(sorted.rows),
            },
            measured,
            description: None,
            asides: sorted.asides,
            done,
        })
    }

    // ---- several shards ----------------------------------------------------------------------

    async fn ask_shards(
        &mut self,
        plan: &Plan,
        explain: &Explain,
        asked: &Asked,
        shards: &SmallVec<[ShardId; 8]>,
    ) -> Result<Found, Failure> {
        match &explain.merge {
            Merge::Gather(gather) => {
                Box::pin(self.ask_gathered(plan, explain, asked, (gather, shards))).await
            }
            _ => Box::pin(self.ask_each(plan, explain, asked, shards)).await,
        }
    }

    /// Each shard plans, and perhaps runs, what it would be asked.
    async fn ask_each(
        &mut self,
        plan: &Plan,
        explain: &Explain,
        asked: &Asked,
        shards: &SmallVec<[ShardId; 8]>,
    ) -> Result<Found, Failure> {
        let mut measured = None;
        if explain.analyze {
            let job = self.measured_job(plan, explain, asked);
            self.measure_if(true);
            let result = self.run_planned(plan, &job).await;
            measured = self.exec.measured.take();
            result?;
        } else if let Some(run) = &asked.run {
            self.exec.guard_encoding(run)?;
        }
        // what is not proven to be a read runs once
        let again = !explain.analyze || plan.access == Access::Read;
        let options = if again {
            &explain.with
        } else {
            &explain.without
        };
        let text = asking_for(options, &asked.edited);
        let apart = shards.iter().map(|shard| Apart {
            shard: *shard,
            asks: vec![asked.way.ask(text.clone())],
        });
        let apart: Vec<Apart> = apart.collect();
        let said = self.plans_of(plan, plan.access, &apart).await?;
        let said: Vec<Said> = said.into_iter().flatten().collect();
        Ok(Found {
            description: said.first().and_then(|said| said.description.clone()),
            answer: Answer::Each(shards.iter().copied().zip(rows_of(said)).collect()),
            measured,
            asides: BytesMut::new(),
            done: done_by(shards.len()),
        })
    }

    fn parts(&self, explain: &Explain, values: &dyn Values) -> Box<[Part]> {
        match &explain.merge {
            Merge::Gather(gather) => gather.parts(values, &self.exec.snapshot.database).into(),
            _ => Box::default(),
        }
    }

    /// The statement as pgshunt runs it.
    fn measured_job(&self, plan: &Plan, explain: &Explain, asked: &Asked) -> Job {
        Job {
            merge: explain.merge.clone(),
            combine: asked.run.clone(),
            parts: Some(asked.parts.clone()),
            ..self.job(
                plan,
                asked.way.ask(asked.edited.clone()),
                asked.targets.clone(),
                Vec::new(),
            )
        }
    }

    /// What would be read on the shards; with ANALYZE it is, and PostgreSQL runs the statement in the scratch database.
    async fn ask_gathered(
        &mut self,
        plan: &Plan,
        explain: &Explain,
        asked: &Asked,
        (gather, shards): (&Arc<Gather>, &[ShardId]),
    ) -> Result<Found, Failure> {
        let mut found = None;
        let text = asking_for(&explain.with, &asked.statement);
        let job = Job {
            ask: asked.way.ask(text),
            ..self.measured_job(plan, explain, asked)
        };
        if explain.analyze {
            self.measure_if(true);
            let room = self.room();
            self.exec.client.keep(room);
            let result = self.run_planned(plan, &job).await;
            found = Some(self.found_in_output(result)?);
        } else {
            self.exec.guard_gather(&job)?;
        }
        let readings = self.exec.readings(gather, &asked.parts, shards);
        let ask = |text: &String| Ask::Simple(asking_for(&explain.without, text.as_bytes()));
        let apart = readings.iter().map(|reading| Apart {
            shard: reading.shard,
            asks: reading.texts.iter().map(|(_, text)| ask(text)).collect(),
        });
        let access = if gather.primary_only {
            Access::Write
        } else {
            plan.access
        };
        let apart: Vec<Apart> = apart.collect();
        let said = self.plans_of(plan, access, &apart).await?;
        let description = said.iter().flatten().find_map(|s| s.description.clone());
        let tables = readings
            .iter()
            .zip(said)
            .flat_map(|(reading, said)| account::tables(gather, reading, rows_of(said)));
        let tables = tables.collect();
        let (scratch, measured, asides, done) = match found {
            None => (None, None, BytesMut::new(), done_by(readings.len())),
            Some(found) => {
                let asides = asked.way.asides(found.asides);
                (found.answer.whole(), found.measured, asides, found.done)
            }
        };
        Ok(Found {
            answer: Answer::Gathered { tables, scratch },
            measured,
            description: description.filter(|_| !explain.analyze),
            asides,
            done,
        })
    }

    async fn plans_of(
        &mut self,
        plan: &Plan,
        access: Access,
        apart: &[Apart],
    ) -> Result<Vec<Vec<Said>>, Failure> {
        let (level, room) = (self.level_of(plan), self.room());
        let own = self.enter_marks(plan);
        let said = self.exec.run_apart(apart, access, level, room).await;
        self.leave_marks(own);
        said
    }

    fn room(&self) -> usize {
        let most = self.exec.backend.config.limits.portal_bytes_max;
        most.saturating_sub(self.kept_bytes())
    }

    // ---- the extended protocol ---------------------------------------------------------------

    /// How far a new portal has been read, where that is known here.
    pub(super) fn progress_of(
        &self,
        prepared: &Arc<Prepared>,
        targets: &mut Targets,
        bound: &Bound<'_>,
    ) -> Result<Option<Shared>, Failure> {
        if let Some(plan) = prepared.planned.statements.first()
            && let Command::Explain(explain) = &plan.command
        {
            let shared = self.bind_explain(plan, explain, targets, bound, prepared)?;
            return Ok(Some(shared));
        }
        Ok(self.new_progress(&prepared.planned, targets, bound.bind.portal))
    }

    /// A portal of an EXPLAIN. It is on one server, which describes it; what it shows is found out by its first Execute.
    fn bind_explain(
        &self,
        plan: &Plan,
        explain: &Explain,
        targets: &mut Targets,
        bound: &Bound<'_>,
        prepared: &Arc<Prepared>,
    ) -> Result<Shared, Failure> {
        let rows = |amount| super::combine::rows(amount, bound.bind, &prepared.types);
        let run = combination(explain).map(|made| run(made, rows(made.limit), rows(made.offset)));
        let (statement, edited) = texts(plan, explain, &prepared.client_text, &[])?;
        let mut values = bound.bind.rest[..bound.bind.values_end].to_vec();
        values.extend_from_slice(&[0, 0]);
        let asked = Asked {
            targets: targets.clone(),
            statement,
            edited,
            parts: self.parts(explain, bound),
            run,
            way: Way::Bound {
                prepared: prepared.clone(),
                values: values.into(),
            },
        };
        if let Some(shards) = asked.several(plan) {
            let home = self.exec.snapshot.database.home;
            let first = shards.first().copied().unwrap_or(home);
            // tables that are on no other shard may be gathered
            let gathers = matches!(explain.merge, Merge::Gather(_));
            *targets = Targets::One(if gathers { home } else { first });
        }
        Ok(Progress::explained(asked, self.exec.transaction.as_ref()))
    }

    /// The first Execute of such a portal, with what stands before it.
    pub(super) async fn run_explain(
        &mut self,
        work: Box<Work>,
        portion: Portion,
        asked: Arc<Asked>,
        end: End,
    ) -> Result<(), Failure> {
        let Way::Bound { prepared, .. } = &asked.way else {
            return Err(misplaced().into());
        };
        let planned = prepared.planned.clone();
        let Some(plan) = planned.statements.first() else {
            return Err(misplaced().into());
        };
        let Command::Explain(explain) = &plan.command else {
            return Err(misplaced().into());
        };
        let found = if let Some(shards) = asked.several(plan) {
            let started = Instant::now();
            self.described_before(work, end).await?;
            let found = self.ask_shards(plan, explain, &asked, shards).await;
            let result = found.as_ref().map(|found| Done {
                shards: found.done.shards,
                by_replica: found.done.by_replica,
                ..Done::default()
            });
            let result = result.map_err(|failure| match failure {
                Failure::Report(report) => Failure::Report(report.clone()),
                _ => Failure::Shown,
            });
            self.count(&planned, started, &result);
            found?
        } else {
            self.measure_if(plan.merge == Merge::Everywhere);
            let room = self.room();
            self.exec.client.keep(room);
            let result = self.run_work(work, end).await;
            self.found_in_output(result)?
        };
        let rows = self.shown(
            plan,
            explain,
            &asked,
            &found.answer,
            found.measured.as_deref(),
        );
        self.exec.client.output.extend_from_slice(&found.asides);
        let rows = frames(&rows);
        let held = rows.len();
        self.keep_rows(&portion, rows, held, "EXPLAIN");
        self.send_portion(&portion).await
    }

    /// What stands before the Execute is the one server's.
    async fn described_before(&mut self, work: Box<Work>, end: End) -> Result<(), Failure> {
        let Some(before) = work.without_execute() else {
            return Ok(());
        };
        let open = self.exec.held.iter().any(|held| held.batch_open);
        let end = if self.exec.transaction.is_some() || !open {
            End::Sync
        } else {
            end
        };
        self.run_work(before, end).await.map(|_| ())
    }

    // ---- what is shown -----------------------------------------------------------------------

    fn shown(
        &self,
        plan: &Plan,
        explain: &Explain,
        asked: &Asked,
        answer: &Answer,
        measured: Option<&Measured>,
    ) -> Vec<Vec<u8>> {
        let account = Account {
            plan,
            explain,
            asked,
            database: &self.exec.snapshot.database,
            measured,
        };
        let mut shown = account.of(answer);
        let parameters = self.exec.observed.as_deref().unwrap_or(&self.exec.reported);
        let utf8 = parameters
            .iter()
            .any(|(name, value)| name == "client_encoding" && value == "UTF8");
        if !utf8 {
            crate::route::explain::ascii(&mut shown);
        }
        shown.rows(explain.format)
    }
}

fn combination(explain: &Explain) -> Option<&Arc<Combination>> {
    match &explain.merge {
        Merge::Combine(made) => Some(made),
        _ => None,
    }
}

fn run(made: &Arc<Combination>, limit: Option<u64>, offset: Option<u64>) -> Arc<Run> {
    Arc::new(Run {
        made: made.clone(),
        formats: Formats::AllText,
        limit,
        offset: offset.unwrap_or(0),
        // no place in it is one of the client's text
        unedited: Some(0),
    })
}

/// The statement that is explained, and what several shards are asked instead.
fn texts(
    plan: &Plan,
    explain: &Explain,
    text: &Bytes,
    slots: &[Span],
) -> Result<(Bytes, Bytes), Report> {
    let start = explain.start.absolute(slots).unwrap_or(0).min(text.len());
    let end = plan.end.absolute(slots).unwrap_or(text.len());
    let range = start..end.clamp(start, text.len());
    let statement = text.slice(range.clone());
    let Some(made) = combination(explain).filter(|made| !made.edits.is_empty()) else {
        return Ok((statement.clone(), statement));
    };
    let edited = splice(text, slots, range, &made.edits, Drawn::Literals(&[]));
    Ok((statement, edited.ok_or_else(misplaced)?.into()))
}

fn asking_for(options: &str, statement: &[u8]) -> Bytes {
    [options.as_bytes(), b" ", statement].concat().into()
}

fn done_by(shards: usize) -> Done {
    Done {
        shards: u32::try_from(shards).unwrap_or(u32::MAX),
        ..Done::default()
    }
}

fn rows_of(said: Vec<Said>) -> impl Iterator<Item = Vec<Bytes>> {
    said.into_iter().map(|said| said.rows)
}

/// First columns of DataRows.
fn values(rows: Bytes) -> Vec<Bytes> {
    let (mut values, mut at) = (Vec::new(), 0);
    while let Ok(Some(head)) = frame::header(&rows[at..], usize::MAX) {
        let Some(row) = rows.get(at..at + head.len) else {
            break;
        };
        let value = message::first_column(row).unwrap_or_default();
        values.push(rows.slice_ref(value));
        at += head.len;
    }
    values
}

fn frames(rows: &[Vec<u8>]) -> Bytes {
    let mut out = BytesMut::new();
    for row in rows {
        build::row(&mut out, &[row]);
    }
    out.freeze()
}
