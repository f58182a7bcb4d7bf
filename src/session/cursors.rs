//! Statements about cursors where there are several shards: whose cursor is meant is known by its name. One on a single shard
//! is its server's own; those over several have their rows put together here, as they are fetched.

use super::Session;
use super::bound::Bound;
use super::combine::combined;
use super::cursor_steps::How;
use super::portions::{renamed, sort, unlimited};
use super::simple::Literals;
use crate::exec::Failure;
use crate::exec::client::Kept as Output;
use crate::exec::cursors::{CURSORS_MAX, Cursor, Cursors, Flowing, Kept, Place};
use crate::exec::executor::{Done, in_failed_transaction};
use crate::exec::failure::Report;
use crate::exec::flowing::{By, Flow, name_there, put_formats, too_much};
use crate::exec::gather::Parking;
use crate::exec::job::{Ask, End, Job, Prepared, Step};
use crate::exec::merge::Formats;
use crate::exec::transaction::Transaction;
use crate::pool::outstanding::Reply;
use crate::route::{Access, Command, Merge, Plan, Targets};
use crate::shard::ShardId;
use crate::sql::command::cursor::{CursorWords, cursor_words};
use crate::sql::tokens::tokenize;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, frame, message};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::sync::Arc;

/// The portal of a cursor whose rows are read at once.
const WHOLE: &[u8] = b"pgshunt/whole";

/// Whose cursor a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// rows are put together here
    Ours,
    Server(ShardId),
    /// a portal of the protocol over several shards
    Portal,
    Unknown,
}

/// DECLARE, as it is written.
#[derive(Debug)]
pub(super) struct Declared {
    pub name: String,
    pub binary: bool,
    pub scroll: Option<bool>,
    pub hold: bool,
    /// the whole statement, and the offset of its query
    pub text: Bytes,
    pub query: usize,
}

/// What a cursor's rows are to come from.
struct Source {
    inner: Arc<Prepared>,
    job: Job,
    shards: SmallVec<[ShardId; 8]>,
    formats: Formats,
    /// the query's Bind, behind its names
    rest: Bytes,
}

impl Session {
    /// As a simple query it is answered here, or may be.
    pub(super) fn is_answered_here(&self, plan: &Plan) -> bool {
        match plan.command {
            Command::DeclareOver
            | Command::Explain(_)
            | Command::Prepare(_)
            | Command::ExecutePrepared(_) => true,
            Command::Cursor => self.knows_cursors(),
            _ => self.is_own(plan),
        }
    }

    /// With one shard all cursors are its server's own.
    pub(super) fn knows_cursors(&self) -> bool {
        self.exec.snapshot.database.shards.len() > 1
    }

    /// Those of the transaction, and those that outlive theirs.
    pub(super) fn cursors(&self) -> impl Iterator<Item = &Cursor> {
        let transaction = self.exec.transaction.as_ref();
        let own = transaction.and_then(|tx| tx.cursors.as_deref());
        own.into_iter()
            .flat_map(|cursors| &cursors.0)
            .chain(self.holding.iter().flat_map(|cursors| &cursors.0))
    }

    /// What `is_answered_here`.
    pub(super) async fn answer_here(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Done, Failure> {
        match &plan.command {
            Command::Explain(explain) => self.explain_statement(plan, explain, text, sql).await,
            Command::Prepare(_) | Command::ExecutePrepared(_) => {
                Box::pin(self.prepared_statement(plan, text, sql)).await
            }
            _ => self.cursor_statement(plan, text, sql).await,
        }
    }

    /// The words of a statement about cursors.
    pub(super) fn cursor_words(&self, sql: &Bytes) -> Result<(CursorWords, usize), Report> {
        let strings = self.context.standard_conforming_strings;
        let tokens = tokenize(sql, strings).unwrap_or_default();
        let words = cursor_words(sql, &tokens, strings).ok_or_else(|| {
            refused("this statement about cursors, where there are several shards,")
        })?;
        let query = match &words {
            CursorWords::Declare { query, .. } => query.start,
            _ => 0,
        };
        let query = tokens.get(query).map_or(sql.len(), |token| token.start);
        Ok((words, query))
    }

    /// DECLARE, FETCH, MOVE or CLOSE; what is not kept here goes to a server.
    async fn cursor_statement(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Done, Failure> {
        if self.exec.has_failed() {
            return Err(in_failed_transaction().into());
        }
        let (words, query) = self.cursor_words(&sql)?;
        match words {
            CursorWords::Declare {
                name,
                binary,
                scroll,
                hold,
                ..
            } => {
                let declared = Declared {
                    name,
                    binary,
                    scroll,
                    hold,
                    text: sql,
                    query,
                };
                self.declare(plan, text, declared).await
            }
            CursorWords::Fetch { name, way } => match self.whose(&name)? {
                Whose::Ours => self.fetch(&name, way, true, How::Simple(&sql)).await,
                whose => self.on_server(plan, text, sql, whose).await,
            },
            CursorWords::Move { name, way } => match self.whose(&name)? {
                Whose::Ours => self.fetch(&name, way, false, How::Simple(&sql)).await,
                whose => self.on_server(plan, text, sql, whose).await,
            },
            CursorWords::Close(Some(name)) => match self.whose(&name)? {
                Whose::Ours => self.close_cursor(&name).await,
                whose => {
                    let done = self.on_server(plan, text, sql, whose).await?;
                    self.take_cursor(&name);
                    Ok(done)
                }
            },
            CursorWords::Close(None) => self.close_all().await,
        }
    }

    /// Whose cursor this is. No server has all rows of a portal over several shards.
    pub(super) fn whose(&self, name: &str) -> Result<Whose, Report> {
        match self.whose_cursor(name) {
            Whose::Portal => Err(refused("FETCH, MOVE or CLOSE of a portal")),
            whose => Ok(whose),
        }
    }

    pub(super) fn whose_cursor(&self, name: &str) -> Whose {
        if let Some(cursor) = self.cursors().find(|cursor| cursor.name == name) {
            return match cursor.place {
                Place::Server(shard) => Whose::Server(shard),
                _ => Whose::Ours,
            };
        }
        match self.portals.get(name.as_bytes()) {
            Some(portal) if portal.progress.is_some() => Whose::Portal,
            Some(portal) => match portal.targets {
                Targets::One(shard) => Whose::Server(shard),
                _ => Whose::Unknown,
            },
            None => Whose::Unknown,
        }
    }

    /// Cursors and portals have their names together; only the unnamed portal makes room for the next.
    pub(super) fn refuse_duplicate(&self, name: &[u8]) -> Result<(), Report> {
        let portal = self.portals.get(name);
        let known = self.cursors().any(|cursor| cursor.name.as_bytes() == name);
        let taken = known || portal.is_some_and(|portal| portal.progress.is_some());
        if taken && !name.is_empty() {
            let name = String::from_utf8_lossy(name);
            let text = format!("cursor \"{name}\" already exists");
            return Err(Report::new(SqlState::DUPLICATE_CURSOR, text));
        }
        Ok(())
    }

    /// What is not known here may have been opened by a function, where the session is.
    pub(super) async fn on_server(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
        whose: Whose,
    ) -> Result<Done, Failure> {
        let mut job = self.job_of(plan, text, sql).await?;
        if let Whose::Server(shard) = whose {
            job.targets = Targets::One(shard);
        }
        self.run_planned(plan, &job).await
    }

    async fn declare(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        mut declared: Declared,
    ) -> Result<Done, Failure> {
        if declared.hold || self.exec.transaction.is_some() {
            self.refuse_duplicate(declared.name.as_bytes())?;
        }
        if let Some(refusal) = &plan.refusal {
            return Err(refusal.clone().into());
        }
        let lifted = &self.lifted;
        let shard = match self.targets_of(plan, &Literals { text, lifted })? {
            targets @ Targets::Many(_) => {
                let sql = declared.text.clone();
                if let Some(instead) = self.with_the_time(plan, text, &sql, &targets).await? {
                    declared.text = instead.text;
                    declared.query = self.cursor_words(&declared.text)?.1;
                }
                return self.declare_over(declared, None).await;
            }
            Targets::One(shard) => Whose::Server(shard),
            Targets::None => Whose::Unknown,
        };
        self.room_for_cursors()?;
        let done = self
            .on_server(plan, text, declared.text.clone(), shard)
            .await?;
        if let Some(shard) = done.shard {
            self.add_cursor(declared.name, declared.hold, Place::Server(shard));
        }
        Ok(done)
    }

    pub(super) fn room_for_cursors(&self) -> Result<(), Report> {
        if self.cursors().count() < CURSORS_MAX {
            return Ok(());
        }
        let text = format!("more than {CURSORS_MAX} cursors where there are several shards");
        Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text)
            .hint("CLOSE those no longer needed."))
    }

    pub(super) fn add_cursor(&mut self, name: String, holds: bool, place: Place) {
        let transaction = self.exec.transaction.as_mut();
        let savepoints = transaction.as_deref().map_or(0, Transaction::savepoints);
        let cursor = Cursor {
            name,
            savepoints,
            holds,
            place,
        };
        match transaction {
            Some(tx) => tx.cursors.get_or_insert_default().0.push(cursor),
            None if holds => self.holding.get_or_insert_default().0.push(cursor),
            None => {}
        }
    }

    /// Puts one back where it was; its transaction may have gone.
    pub(super) fn put_cursor(&mut self, cursor: Cursor, of_transaction: bool) {
        let list = if of_transaction {
            self.exec.transaction.as_mut().map(|tx| &mut tx.cursors)
        } else {
            Some(&mut self.holding)
        };
        if let Some(list) = list {
            list.get_or_insert_default().0.push(cursor);
        }
    }

    /// With whether it is the transaction's.
    pub(super) fn take_cursor(&mut self, name: &str) -> Option<(Cursor, bool)> {
        let transaction = self.exec.transaction.as_mut();
        let own = transaction.and_then(|tx| tx.cursors.as_deref_mut());
        for (cursors, of_transaction) in [(own, true), (self.holding.as_deref_mut(), false)] {
            let Some(cursors) = cursors else { continue };
            let at = cursors.0.iter().position(|cursor| cursor.name == name);
            if let Some(at) = at {
                return Some((cursors.0.remove(at), of_transaction));
            }
        }
        None
    }

    /// Those WITH HOLD of a transaction that is about to commit.
    pub(super) fn take_holding(&mut self) -> Vec<Cursor> {
        let transaction = self.exec.transaction.as_mut();
        let cursors = transaction.and_then(|tx| tx.cursors.as_deref_mut());
        cursors.map_or_else(Vec::new, Cursors::take_holding)
    }

    pub(super) fn keep_holding(&mut self, cursors: Vec<Cursor>) {
        if !cursors.is_empty() {
            self.holding.get_or_insert_default().0.extend(cursors);
        }
    }

    pub(super) async fn close_cursor(&mut self, name: &str) -> Result<Done, Failure> {
        if let Some((cursor, _)) = self.take_cursor(name)
            && let Place::Flowing(flowing) = &cursor.place
        {
            self.exec.end_flow(&flowing.flow).await;
        }
        Ok(self.done("CLOSE CURSOR", 0))
    }

    pub(super) async fn close_all(&mut self) -> Result<Done, Failure> {
        self.holding = None;
        if let Some(tx) = &mut self.exec.transaction {
            tx.cursors = None;
        }
        self.portals.retain(|portal| portal.progress.is_none());
        self.exec.close_all_cursors().await?;
        Ok(self.done("CLOSE CURSOR ALL", 0))
    }

    // ---- DECLARE over several shards ---------------------------------------------------------

    /// `values`: the statement as it was parsed, and the body of its Bind.
    pub(super) async fn declare_over(
        &mut self,
        declared: Declared,
        values: Option<(&Arc<Prepared>, &Bytes)>,
    ) -> Result<Done, Failure> {
        if self.exec.transaction.is_none() && !declared.hold {
            return Err(outside().into());
        }
        self.room_for_cursors()?;
        let source = self.source(&declared, values)?;
        let gathered = matches!(source.job.merge, Merge::Gather(_));
        // a session's own channels are lent to a server for one run
        let lent = source.job.effects.asks_channels;
        let at_once = declared.hold || lent || declared.scroll == Some(true) && !gathered;
        let parking = if gathered && !at_once {
            self.exec.backend.scratches.parking()
        } else {
            None
        };
        let (place, done) = if let Some(parking) = parking {
            self.declare_parked(&declared, source, values, parking)
                .await?
        } else if at_once || gathered {
            self.declare_whole(&declared, source).await?
        } else {
            self.declare_flowing(&declared, source).await?
        };
        self.add_cursor(declared.name.clone(), declared.hold, place);
        // where each row ends is kept, too
        let most = self.exec.backend.config.limits.portal_bytes_max;
        if self.kept_bytes() > most {
            self.take_cursor(&declared.name);
            return Err(too_much(most).into());
        }
        let shown = self.done("DECLARE CURSOR", 0);
        Ok(Done {
            shards: done.shards,
            by_replica: done.by_replica,
            ..shown
        })
    }

    /// The query as a statement of its own, at its place in the text, so that errors name the client's places.
    fn source(
        &mut self,
        declared: &Declared,
        values: Option<(&Arc<Prepared>, &Bytes)>,
    ) -> Result<Source, Failure> {
        let (before, query) = declared.text.split_at(declared.query);
        let blanks = std::str::from_utf8(before).map_or(before.len(), |text| text.chars().count());
        let text: Bytes = [&b" ".repeat(blanks)[..], query].concat().into();
        let types = values.map_or_else(Vec::new, |(prepared, _)| prepared.types.clone());
        let inner = self.prepare(false, text, types)?;
        let planned = inner.planned.clone();
        let plan = planned.statements.first();
        let Some(plan) = plan.filter(|plan| plan.command == Command::Select) else {
            return Err(refused("a cursor for this statement").into());
        };
        let formats = if declared.binary {
            Formats::AllBinary
        } else {
            Formats::AllText
        };
        let body = query_bind(values.map(|(_, rest)| rest), &formats)?;
        let bind = message::bind(&body).map_err(super::startup::protocol_violation)?;
        let types = &inner.types;
        let bound = Bound { bind: &bind, types };
        let targets = self.targets_of(plan, &bound)?;
        let Targets::Many(shards) = targets.clone() else {
            return Err(refused("a cursor for this statement").into());
        };
        if plan.access != Access::Read || !plan.merge.puts_together() {
            return Err(refused("a cursor for this statement").into());
        }
        let mut rest = body.slice_ref(bind.rest);
        let combine = combined(&planned, &targets, &bind, &inner, &mut rest);
        let parts = match &plan.merge {
            Merge::Gather(gather) => {
                Some(gather.parts(&bound, &self.exec.snapshot.database).into())
            }
            _ => None,
        };
        let nothing = Ask::Batch {
            steps: Vec::new(),
            end: End::Sync,
        };
        let job = Job {
            combine,
            parts,
            ..self.job(plan, nothing, targets, Vec::new())
        };
        Ok(Source {
            inner,
            job,
            shards,
            formats,
            rest,
        })
    }

    /// All rows are read and kept.
    async fn declare_whole(
        &mut self,
        declared: &Declared,
        mut source: Source,
    ) -> Result<(Place, Done), Failure> {
        source.ask(WHOLE, true);
        let most = self.exec.backend.config.limits.portal_bytes_max;
        let room = most.saturating_sub(self.kept_bytes());
        let (description, rows, done) = self.run_aside(&source, room, most).await?;
        let kept = Kept::new(description, source.formats, rows, declared.scroll);
        Ok((Place::Kept(kept), done))
    }

    /// Each shard has a portal of the query.
    async fn declare_flowing(
        &mut self,
        declared: &Declared,
        mut source: Source,
    ) -> Result<(Place, Done), Failure> {
        let there = name_there(declared.name.as_bytes());
        source.ask(&there, false);
        let (description, _, done) = self.run_aside(&source, usize::MAX, usize::MAX).await?;
        let run = source.job.combine.clone().unwrap_or_default();
        let memory_max = self.exec.backend.config.limits.combine_bytes_max;
        let flow = Flow::new(there, By::Fetch, &source.shards, run, memory_max);
        let forward_only = declared.scroll == Some(false);
        let flowing = Flowing::new(description, flow, source.formats, forward_only);
        Ok((Place::Flowing(flowing), done))
    }

    /// The cursor itself is in a scratch database.
    async fn declare_parked(
        &mut self,
        declared: &Declared,
        mut source: Source,
        values: Option<(&Arc<Prepared>, &Bytes)>,
        parking: Parking,
    ) -> Result<(Place, Done), Failure> {
        source.job.ask = match values {
            None => Ask::Simple(declared.text.clone()),
            Some((prepared, rest)) => Ask::Batch {
                steps: vec![
                    Step::Bind {
                        portal: Bytes::from_static(WHOLE),
                        prepared: prepared.clone(),
                        rest: rest.clone(),
                    },
                    execute_all(WHOLE),
                ],
                end: End::Sync,
            },
        };
        let planned = source.inner.planned.clone();
        self.exec.client.keep(usize::MAX);
        let result = self.park_planned(&planned, &source.job, parking).await;
        let Output { bytes, .. } = self.exec.client.take_kept();
        self.tell_notices(sort(bytes).asides);
        let (done, parked) = result?;
        Ok((Place::Parked(Box::new(parked)), done))
    }

    /// Runs it unseen: the description of its rows, and the rows.
    async fn run_aside(
        &mut self,
        source: &Source,
        room: usize,
        most: usize,
    ) -> Result<(Bytes, Bytes, Done), Failure> {
        let planned = source.inner.planned.clone();
        let Some(plan) = planned.statements.first() else {
            return Err(super::simple::misplaced().into());
        };
        self.exec.client.keep(room);
        let result = self.run_planned(plan, &source.job).await;
        let Output { bytes, overflown } = self.exec.client.take_kept();
        let sorted = sort(bytes);
        let description = self.tell_notices(sorted.asides);
        match result {
            Err(Failure::Shown) | Ok(_) if overflown => Err(too_much(most).into()),
            Err(failure) => Err(failure),
            Ok(done) => Ok((description, sorted.rows, done)),
        }
    }

    /// Notices and errors are shown; the RowDescription comes with each FETCH.
    fn tell_notices(&mut self, mut asides: BytesMut) -> Bytes {
        let mut description = Bytes::new();
        while let Ok(Some(head)) = frame::header(&asides, usize::MAX) {
            let message = asides.split_to(head.len.min(asides.len()));
            match head.tag {
                b'T' => description = message.freeze(),
                b'N' | b'E' => self.exec.client.output.extend_from_slice(&message),
                _ => {}
            }
        }
        description
    }

    pub(super) fn done(&mut self, tag: &str, rows: u64) -> Done {
        build::command_complete(&mut self.exec.client.output, tag);
        Done {
            rows,
            tag: Some(tag.to_owned()),
            ..Done::default()
        }
    }
}

impl Source {
    /// Binds the query to this portal and describes it; `runs` it as well.
    fn ask(&mut self, portal: &[u8], runs: bool) {
        let portal = Bytes::copy_from_slice(portal);
        let combined = self.inner.combined.as_ref();
        let asked = combined.filter(|_| self.job.combine.is_some());
        let describe = Bytes::from_static(b"D");
        let close = Bytes::from_static(b"C");
        let mut steps = Vec::with_capacity(4);
        if !runs {
            // one that was given up may be there
            steps.push(Step::CloseQuietly(portal.clone()));
        }
        steps.push(Step::Bind {
            portal: portal.clone(),
            prepared: asked.unwrap_or(&self.inner).clone(),
            rest: self.rest.clone(),
        });
        steps.push(Step::Portal {
            reply: Reply::DescribePortal,
            frame: renamed(&describe, &portal),
        });
        if runs {
            steps.push(execute_all(&portal));
            steps.push(Step::Portal {
                reply: Reply::Close(None),
                frame: renamed(&close, &portal),
            });
        }
        self.job.executes = runs;
        self.job.ask = Ask::Batch {
            steps,
            end: End::Sync,
        };
    }
}

fn execute_all(portal: &[u8]) -> Step {
    Step::Portal {
        reply: Reply::Execute,
        frame: unlimited(portal),
    }
}

/// A Bind with these values and other formats.
fn query_bind(rest: Option<&Bytes>, formats: &Formats) -> Result<Bytes, Report> {
    let named = |rest: &[u8]| {
        let mut out = BytesMut::new();
        build::bind(&mut out, b"", b"", rest);
        out.freeze()
    };
    let mut values = vec![0; 4];
    if let Some(rest) = rest {
        let whole = named(rest);
        let bind = message::bind(&whole).map_err(super::startup::protocol_violation)?;
        values = bind.rest[..bind.values_end].to_vec();
    }
    put_formats(&mut values, formats);
    Ok(named(&values))
}

pub(super) fn outside() -> Report {
    Report::new(
        SqlState::NO_ACTIVE_TRANSACTION,
        "DECLARE CURSOR can only be used in transaction blocks",
    )
}

pub(super) fn refused(what: &str) -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("{what} over several shards is not supported"),
    )
    .hint("Name the key, or read without a cursor.")
}
