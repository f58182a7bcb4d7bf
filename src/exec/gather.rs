//! A read that the shards cannot answer each for itself: its tables are copied into a scratch database, each shard read at
//! one snapshot as the client's role, and the statement runs there unchanged. The scratch database is no part of the
//! client's transaction; whatever happens, nothing of it stays.

mod answer;
mod disk;
mod filling;
mod lending;
mod parked;
mod reading;
mod upkeep;

use super::executor::{Done, Executor, Placement};
use super::failure::{Failure, Report};
use super::job::{Ask, Job, Step, compose_step};
use super::relay::{poll_exchange, settle};
use super::transaction::Heard;
use crate::cluster::scratch::Object;
use crate::consistency::Level;
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::{Answer, Filter};
use crate::route::{Ddl, Gather, Gathered, Part, Source};
use crate::shard::{ShardId, ShardSet};
use crate::wire::message;
use crate::wire::sqlstate::SqlState;
use answer::{Translation, Untranslatable};
use bytes::Bytes;
use lending::{Lent, Scratch, broken};
use std::future::poll_fn;
use std::time::Instant;

pub use lending::{Parking, Scratches};
pub use parked::{More, Parked};

/// Why an attempt came to nothing.
enum Stop {
    /// a replica failed before anything was shown
    Replica,
    /// the client's role may not lock a table by name: it may still read some of its columns
    Columns,
    /// this table is not what the scratch database takes it for
    Schema(String),
    Failed(Failure),
}

/// How one shard is read: the tables, and the text that brings them.
#[derive(Debug)]
pub struct Reading<'g> {
    pub shard: ShardId,
    pub texts: Vec<(Vec<&'g Gathered>, String)>,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Report> for Stop {
    fn from(report: Report) -> Self {
        Self::Failed(report.into())
    }
}

impl Executor {
    pub async fn run_gathered(
        &mut self,
        job: &Job,
        gather: &Gather,
        shards: &[ShardId],
        level: Level,
    ) -> Result<Done, Failure> {
        let (done, lent) = self.gather_rows(job, gather, shards, level).await?;
        self.end_gather(lent).await;
        Ok(done)
    }

    /// With the scratch database, in which the statement's portal may still be.
    async fn gather_rows(
        &mut self,
        job: &Job,
        gather: &Gather,
        shards: &[ShardId],
        level: Level,
    ) -> Result<(Done, Lent), Failure> {
        let reads = self.reads(gather, job.parts.as_deref().unwrap_or_default(), shards);
        self.guard_gather(job)?;
        let mut placement = if gather.primary_only {
            Placement::Primary
        } else {
            self.placement(job, level)
        };
        let mut looked_again = false;
        loop {
            let mut lent = self.lend_scratch().await?;
            let result = self
                .gather_once(job, gather, &reads, placement, &mut lent.scratch)
                .await;
            let stop = match result {
                Ok(done) => return Ok((done, lent)),
                Err(stop) => stop,
            };
            self.end_gather(lent).await;
            match stop {
                Stop::Failed(failure) => return Err(failure),
                Stop::Replica => placement = Placement::Primary,
                // it is not a way that ends so again
                Stop::Columns => self.backend.scratches.read_by_columns(&self.user),
                Stop::Schema(_) if !looked_again && self.transaction.is_none() => {
                    looked_again = true;
                    self.backend.scratches.forget_recipe().await;
                    self.reload_catalog(Ddl::Code).await;
                }
                Stop::Schema(table) => return Err(other_schema(&table).into()),
            }
        }
    }

    /// Which tables each shard is read for. Each table is read somewhere, so that the client's rights to it are asked for.
    fn reads<'g>(
        &self,
        gather: &'g Gather,
        parts: &[Part],
        shards: &[ShardId],
    ) -> Vec<(ShardId, Vec<&'g Gathered>)> {
        let home = self.snapshot.database.home;
        let places: Vec<Option<&ShardSet>> = (0..gather.tables.len())
            .map(|at| parts.get(at)?.shards.as_ref())
            .collect();
        let narrow = places.iter().flatten().flat_map(|places| places.iter());
        let all_narrow = gather
            .tables
            .iter()
            .zip(&places)
            .all(|(table, places)| table.source != Source::Sharded || places.is_some());
        let narrowest = narrow.min().filter(|_| all_narrow).copied();
        let any = narrowest.or(shards.first().copied()).unwrap_or(home);
        let is_read = |table: &Gathered, places: Option<&ShardSet>, shard: ShardId| match (
            table.source,
            places,
        ) {
            (Source::Home, _) => shard == home,
            (Source::Reference, _) => shard == any,
            (Source::Sharded, None) => shards.contains(&shard),
            (Source::Sharded, Some(places)) if places.is_empty() => shard == any,
            (Source::Sharded, Some(places)) => places.contains(&shard),
        };
        let everywhere =
            (0..self.snapshot.database.shards.len()).filter_map(|n| u16::try_from(n).ok());
        let reads = everywhere.map(ShardId).map(|shard| {
            let tables = gather.tables.iter().zip(&places);
            let here = tables.filter(|(table, places)| is_read(table, **places, shard));
            (shard, here.map(|(table, _)| table).collect::<Vec<_>>())
        });
        reads.filter(|(_, tables)| !tables.is_empty()).collect()
    }

    /// The texts by which the shards would be read.
    pub fn readings<'g>(
        &self,
        gather: &'g Gather,
        parts: &[Part],
        shards: &[ShardId],
    ) -> Vec<Reading<'g>> {
        let asked = reading::Asked { gather, parts };
        let each = |(shard, tables): (ShardId, Vec<&'g Gathered>)| {
            let together = self.within().together(&tables);
            let texts = asked.selects(&tables, together);
            let of = |n: usize| {
                if together {
                    tables.clone()
                } else {
                    vec![tables[n]]
                }
            };
            let named = texts.into_iter().enumerate();
            Reading {
                shard,
                texts: named.map(|(n, text)| (of(n), text)).collect(),
            }
        };
        self.reads(gather, parts, shards)
            .into_iter()
            .map(each)
            .collect()
    }

    /// What is known to be wrong before anything is asked.
    pub fn guard_gather(&self, job: &Job) -> Result<(), Failure> {
        let refuse = |what: &str, hint: &str| {
            let report = Report::new(SqlState::FEATURE_NOT_SUPPORTED, what).hint(hint);
            Err(Failure::from(report))
        };
        // outside a transaction the Sync closes the portal: there is no next portion
        let goes_on = job.limited && self.transaction.is_some();
        if goes_on || job.keeps_batch_open() || self.held.iter().any(|h| h.batch_open) {
            return refuse(
                "fetching rows in portions from several shards is not supported",
                "Fetch all rows at once, or give the shard key a value.",
            );
        }
        if !one_portal(&job.ask) {
            return refuse(
                "a portal over several shards that is not executed right after its Bind",
                "Send Bind and Execute of one portal together, without others between them.",
            );
        }
        if self.said("role") || self.said("session_authorization") {
            return refuse(
                "a statement that is gathered from several shards, under another role",
                "RESET ROLE first, or give the shard key a value.",
            );
        }
        let temporary = |pin: &super::held::Pin| pin.reason == "temporary table";
        if self
            .held
            .iter()
            .any(|h| h.pin.as_ref().is_some_and(temporary))
        {
            return refuse(
                "a statement that is gathered from several shards, in a session with temporary tables",
                "Use another connection, or DISCARD ALL.",
            );
        }
        if job.effects.clock && self.transaction.is_some() {
            return refuse(
                "now() and other clocks in a transaction over several shards",
                "Pass the time as a value: one for the whole transaction.",
            );
        }
        if job.effects.names_time && self.transaction.is_some() {
            return refuse(
                "a literal like 'now' in a transaction over several shards",
                "Give the time itself.",
            );
        }
        Ok(())
    }

    /// The session or its transaction has set this.
    fn said(&self, setting: &str) -> bool {
        let heard = self.transaction.as_ref().is_some_and(|tx| {
            tx.heard
                .iter()
                .any(|heard| matches!(heard, Heard::Setting { name, .. } if name == setting))
        });
        heard || self.vars.statement(setting).is_some()
    }

    async fn gather_once(
        &mut self,
        job: &Job,
        gather: &Gather,
        reads: &[(ShardId, Vec<&Gathered>)],
        placement: Placement,
        scratch: &mut Scratch,
    ) -> Result<Done, Stop> {
        self.open_scratch(gather, scratch).await?;
        self.still_wanted()?;
        let parts = job.parts.as_deref().unwrap_or_default();
        let by_replica = self.fill(gather, parts, reads, placement, scratch).await?;
        if self.transaction.is_none() {
            self.let_idle_servers_go().await;
        }
        self.aim_cancel_at(scratch).await?;
        let answer = self.answer_from(job, scratch).await?;
        scratch.suspended = answer.suspended;
        if let Some(measured) = &mut self.measured {
            measured.end(Instant::now());
        }
        Ok(Done {
            rows: answer.rows,
            tag: answer.tag,
            by_replica,
            shards: reads.len() as u32,
            shard: None,
            captured: Vec::new(),
            ..Done::default()
        })
    }

    /// A transaction in the scratch database with the session's settings and the right to read what will be gathered.
    async fn open_scratch(&mut self, gather: &Gather, scratch: &mut Scratch) -> Result<(), Stop> {
        for table in &gather.tables {
            let object = Object {
                is_type: false,
                name: table.table.clone(),
            };
            if !scratch.has(&object) || !scratch.recipe.tables.contains_key(&table.table) {
                return Err(Stop::Schema(table.table.name.clone()));
            }
            let text = scratch.recipe.tables.get(&table.table);
            if text.is_some_and(|table| !table.binary) && self.said("intervalstyle") {
                let what = format!(
                    "\"{}\" travels as text, and intervalstyle is set",
                    table.table.name
                );
                return Err(Report::new(SqlState::FEATURE_NOT_SUPPORTED, what)
                    .hint("RESET intervalstyle, or give the shard key a value.")
                    .into());
            }
        }
        let wanted = self.wanted_settings().clone();
        // apart from what follows: it stays when that is rolled back
        if let Some(way) = scratch.server.vars.way_to(&wanted) {
            self.in_scratch(scratch, &way).await?;
            scratch.server.vars = wanted;
        }
        let grants: Vec<String> = gather.tables.iter().map(grant).collect();
        let mut sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE;{}",
            grants.join(";")
        );
        for heard in self.transaction.iter().flat_map(|tx| &tx.heard) {
            if let Heard::Setting { statement, .. } = heard {
                sql.push(';');
                sql.push_str(statement);
            }
        }
        self.in_scratch(scratch, &sql).await
    }

    async fn in_scratch(&mut self, scratch: &mut Scratch, sql: &str) -> Result<(), Stop> {
        let answer = scratch.run(sql, Fate::Skip).await;
        let answer = answer.map_err(|error| broken(&error))?;
        if let Some(error) = answer.own_error {
            scratch.server.taint("its settings are not known");
            self.client.show_error(&error);
            return Err(Failure::Shown.into());
        }
        Ok(())
    }

    /// As [`Self::aim_cancel`]; a cancel request stops the scratch database, too.
    async fn aim_cancel_at(&mut self, scratch: &Scratch) -> Result<(), Report> {
        self.note_cancel_target().await;
        let server = &scratch.server;
        let mut target = self.cancel.lock().await;
        target
            .running
            .push((scratch.member, server.pid, server.secret));
        drop(target);
        self.still_wanted()
    }

    /// The statement itself.
    async fn answer_from(&mut self, job: &Job, scratch: &mut Scratch) -> Result<Answer, Stop> {
        // an error may turn out not to be the statement's own
        self.client.hold();
        let ours_after = compose(&job.ask, scratch);
        let passed = self.pass_answer(scratch, ours_after).await;
        let unknown = passed.as_ref().is_ok_and(is_unknown_there);
        if unknown {
            self.client.forget_held();
        }
        self.client.release();
        let answer = passed?;
        self.parsed = answer.parsed;
        match &answer.error {
            None => Ok(answer),
            Some(error) if unknown => Err(self.not_there(job, error).await.into()),
            Some(_) => Err(Failure::Shown.into()),
        }
    }

    /// What was asked of it, on its way to the client.
    async fn pass_answer(
        &mut self,
        scratch: &mut Scratch,
        ours_after: Option<usize>,
    ) -> Result<Answer, Stop> {
        let Scratch { server, oids, .. } = scratch;
        let mut translation = Translation::new(oids, ours_after);
        let mut answer = Answer::default();
        loop {
            let (from, had_rows) = (self.client.output.len(), answer.rows_begun);
            let digested = server.digest(Filter::All, &mut self.client.output, &mut answer);
            digested.map_err(|error| broken(&error.into()))?;
            if let Some(error) = &answer.error {
                self.client.word_last(error);
            }
            if !had_rows {
                let translated = translation.translate(&mut self.client.output, from);
                translated.map_err(untranslatable)?;
            }
            if answer.rows_begun {
                self.client.release();
            }
            self.client.expects_more = false;
            if server.is_answered() {
                return Ok(answer);
            }
            self.client.expects_more = answer.rows_begun;
            if let Err(error) = poll_fn(|cx| poll_exchange(&mut self.client, server, cx)).await {
                return Err(scratch_lost(&error.explained(&answer)));
            }
        }
    }

    /// The scratch database does not know something, or may not read it: if the home shard says so as well, that is the
    /// answer.
    async fn not_there(&mut self, job: &Job, error: &[u8]) -> Failure {
        let (text, types) = match &job.ask {
            Ask::Simple(text) => (text.clone(), Vec::new()),
            Ask::Batch { steps, .. } => {
                let bound = steps.iter().rev().find_map(|step| match step {
                    Step::Bind { prepared, .. } => Some(prepared),
                    _ => None,
                });
                match bound {
                    Some(prepared) => (prepared.server_text.clone(), prepared.types.clone()),
                    None => return refused_there(error),
                }
            }
            Ask::Function(_) | Ask::Execute(_) => return refused_there(error),
        };
        let home = self.snapshot.database.home;
        let Ok(index) = self.acquire(home, Placement::Primary).await else {
            return refused_there(error);
        };
        let server = &mut *self.held[index].server;
        server.parse_unnamed(0, &text, &types, Fate::Skip);
        server.sync();
        let mut said = Answer::default();
        if let Err(error) = settle(server, &mut said).await {
            return self.lost(index, &error);
        }
        server.unnamed = None;
        match said.own_error {
            Some(own) => {
                self.client.show_error(&own);
                Failure::Shown
            }
            None => refused_there(error),
        }
    }

    /// Empties the scratch database and gives it back, while the client goes on; where it is not known to be clean it is
    /// closed.
    async fn end_gather(&mut self, lent: Lent) {
        let pid = lent.scratch.server.pid;
        let doubtful = {
            let mut target = self.cancel.lock().await;
            target.running.retain(|(_, its, _)| *its != pid);
            target.doubtful.contains(&pid)
        };
        if doubtful {
            return;
        }
        parked::let_go(self.backend.clone(), lent);
    }
}

/// The right to what is gathered, and to no other column: what the planner did not see fails instead of being empty.
fn grant(table: &Gathered) -> String {
    let columns = if table.partly {
        format!(" ({})", reading::columns(table))
    } else {
        String::new()
    };
    format!(
        "GRANT SELECT{columns}, INSERT{columns} ON TABLE {} TO CURRENT_USER",
        table.table.quoted()
    )
}

/// What is gathered is there for one portal, and no longer than for one batch.
fn one_portal(ask: &Ask) -> bool {
    let Ask::Batch { steps, .. } = ask else {
        return true;
    };
    let (mut bound, mut fits) = (None, true);
    for step in steps {
        match step {
            Step::Bind { portal, .. } => fits &= bound.replace(&portal[..]).is_none(),
            Step::Portal { reply, frame } => {
                let named = match reply {
                    Reply::Execute => message::execute(frame).map(|(portal, _)| portal),
                    _ => message::named(frame).map(|(_, portal)| portal),
                };
                fits &= bound.is_some() && named.ok() == bound;
            }
            Step::Parse(_)
            | Step::DescribeStatement(_)
            | Step::CloseStatement
            | Step::CloseQuietly(_) => {}
        }
    }
    fits && bound.is_some()
}

/// An error that may come from what a scratch database lacks.
fn is_unknown_there(answer: &Answer) -> bool {
    let code = answer
        .error
        .as_deref()
        .and_then(|error| message::error_field(error, b'C'));
    !answer.rows_begun && code.is_some_and(|code| code.starts_with("42"))
}

async fn cleaned(mut lent: Lent) -> Option<Lent> {
    let scratch = &mut lent.scratch;
    let emptied = scratch.run("ROLLBACK;DISCARD PLANS", Fate::Skip).await;
    if !matches!(emptied, Ok(answer) if answer.own_error.is_none()) {
        return None;
    }
    if let Some(sql) = scratch.litter.swept() {
        let swept = scratch.run(&sql, Fate::Skip).await.ok()?;
        if swept.own_error.is_some() {
            return None;
        }
    }
    scratch.server.info.note_idle(0, Instant::now());
    scratch.server.is_clean().then_some(lent)
}

/// The statement's messages for the scratch database. None: rows need no description of ours; else it comes after so many
/// others.
fn compose(ask: &Ask, scratch: &mut Scratch) -> Option<usize> {
    let Ask::Batch { steps, .. } = ask else {
        ask.compose(&mut scratch.server);
        return None;
    };
    let described = steps.iter().any(|step| {
        matches!(
            step,
            Step::Portal {
                reply: Reply::DescribePortal,
                ..
            }
        )
    });
    let (mut descriptions, mut ours_after) = (0, None);
    for step in steps {
        if let Step::Portal { reply, frame } = step {
            descriptions += usize::from(*reply == Reply::DescribePortal);
            if *reply == Reply::Execute && !described {
                ours_after = Some(descriptions);
                describe(frame, scratch);
            }
        }
        descriptions += usize::from(matches!(step, Step::DescribeStatement(_)));
        let step = on_scratch(step, scratch);
        compose_step(&step, &mut scratch.server);
    }
    scratch.server.sync();
    ours_after
}

/// What rows will look like, for ourselves: values in binary may not mean the same everywhere.
fn describe(execute: &Bytes, scratch: &mut Scratch) {
    let portal = message::execute(execute).map(|(portal, _)| portal);
    let portal = portal.unwrap_or_default();
    scratch
        .server
        .ask(Reply::DescribePortal, Fate::Forward, |out| {
            crate::wire::build::named(out, b'D', b'P', portal);
        });
}

/// Nothing is kept prepared in a scratch database.
fn on_scratch(step: &Step, scratch: &Scratch) -> Step {
    let unnamed =
        |prepared: &super::job::Prepared| prepared.unnamed(scratch.types_here(&prepared.types));
    match step {
        Step::Parse(prepared) => Step::Parse(unnamed(prepared)),
        Step::Bind {
            portal,
            prepared,
            rest,
        } => Step::Bind {
            portal: portal.clone(),
            prepared: unnamed(prepared),
            rest: rest.clone(),
        },
        Step::DescribeStatement(prepared) => Step::DescribeStatement(unnamed(prepared)),
        other => other.clone(),
    }
}

fn scratch_lost(error: &super::relay::RelayError) -> Stop {
    match error {
        super::relay::RelayError::ClientGone => Failure::ClientGone.into(),
        other => broken(other).into(),
    }
}

fn refused_there(error: &[u8]) -> Failure {
    let said = message::error_field(error, b'M').unwrap_or("?");
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("the statement would have to run in a scratch database, which cannot run it: {said}"),
    )
    .hint("What was gathered can be read there, and nothing else. Give the shard key a value, or read in several statements.")
    .into()
}

fn untranslatable(what: Untranslatable) -> Stop {
    let report = match what {
        Untranslatable::Type => Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "a result from several shards has a type that the home shard does not have",
        )
        .hint("Cast it to a type that comes with PostgreSQL, or to text."),
        Untranslatable::Binary => Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "a result from several shards in binary, of an array or row of user-defined types",
        )
        .hint("Ask for it in text, or cast it to text."),
        Untranslatable::Name => Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "a result from several shards in binary that is the OID of a type, table, function or the like",
        )
        .hint("Ask for it in text, or cast it to text."),
    };
    report.into()
}

/// A view shows its owner's tables, but it is the client's role that gathers (hazard 20).
fn hidden_tables(view: &str) -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!(
            "the view \"{view}\" over several shards, of whose tables the user may not read all"
        ),
    )
    .hint("Grant SELECT on its tables, or give the shard key a value.")
}

fn other_schema(table: &str) -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("\"{table}\" cannot be gathered: it could not be made in a scratch database, or the shards do not agree on its columns"),
    )
    .hint("pgshunt check compares the shards; the log says what was left out of the scratch database.")
}
