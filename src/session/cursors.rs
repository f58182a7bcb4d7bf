//! Cursors by SQL over several shards: DECLARE reads all rows, which stay with the transaction; FETCH, MOVE and CLOSE find
//! them here. Cursors on one shard are its server's own.

use super::Session;
use super::portions::{sort, too_much};
use super::simple::Literals;
use crate::exec::Failure;
use crate::exec::client::{Kept, OUTPUT_MAX};
use crate::exec::cursors::{CURSORS_MAX, Cursor, Direction, Stuck};
use crate::exec::executor::{Done, in_failed_transaction};
use crate::exec::failure::Report;
use crate::exec::job::Job;
use crate::exec::transaction::Transaction;
use crate::route::{Access, Command, Plan, Targets};
use crate::sql::command::cursor::{CursorWords, Way, cursor_words};
use crate::sql::tokens::tokenize;
use crate::wire::sqlstate::SqlState;
use crate::wire::{build, frame};
use bytes::{Bytes, BytesMut};

impl Session {
    /// As a simple query it is answered here, or may be.
    pub(super) fn is_answered_here(&self, plan: &Plan) -> bool {
        match plan.command {
            Command::DeclareOver
            | Command::Explain(_)
            | Command::Prepare(_)
            | Command::ExecutePrepared(_) => true,
            Command::Cursor => self.keeps_rows(),
            _ => self.is_own(plan),
        }
    }

    /// There are cursors or portals over several shards. No statement can name the unnamed portal, which may still be that
    /// of an EXPLAIN before it.
    pub(super) fn keeps_rows(&self) -> bool {
        let unnamed = self.portals.get(b"").and_then(|p| p.progress.as_ref());
        let explained = unnamed.is_some_and(|progress| progress.lock().explains());
        let kept = self.portals.iter().filter(|p| p.progress.is_some()).count();
        !self.cursors().is_empty() || kept > usize::from(explained)
    }

    pub(super) fn cursors(&self) -> &[Cursor] {
        let transaction = self.exec.transaction.as_ref();
        let cursors = transaction.and_then(|tx| tx.cursors.as_deref());
        cursors.map_or(&[], Vec::as_slice)
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

    /// DECLARE, FETCH, MOVE or CLOSE; what is not kept here goes to a server.
    async fn cursor_statement(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Done, Failure> {
        if self.exec.transaction.as_ref().is_some_and(|tx| tx.failed) {
            return Err(in_failed_transaction().into());
        }
        let strings = self.context.standard_conforming_strings;
        let tokens = tokenize(&sql, strings).unwrap_or_default();
        match cursor_words(&sql, &tokens, strings) {
            Some(CursorWords::Declare {
                name,
                binary,
                scroll,
                hold,
                query,
            }) => {
                self.refuse_duplicate(&name)?;
                if !self.is_over_several(plan, text) {
                    return self.on_server(plan, text, sql).await;
                }
                if self.exec.transaction.is_none() {
                    return Err(outside().into());
                }
                if binary || hold {
                    return Err(refused("a BINARY cursor").into());
                }
                let start = tokens
                    .get(query.start)
                    .map_or(sql.len(), |token| token.start);
                self.declare(plan, name, scroll, sql.slice(start..)).await
            }
            Some(CursorWords::Fetch { name, way }) if self.has(&name)? => {
                self.fetch(&name, way, true).await
            }
            Some(CursorWords::Move { name, way }) if self.has(&name)? => {
                self.fetch(&name, way, false).await
            }
            Some(CursorWords::Close(Some(name))) if self.has(&name)? => {
                if let Some(cursors) = self.cursors_mut() {
                    cursors.retain(|cursor| cursor.name != name);
                }
                Ok(self.done("CLOSE CURSOR", 0))
            }
            Some(CursorWords::Close(None)) => {
                if let Some(cursors) = self.cursors_mut() {
                    cursors.clear();
                }
                self.portals.retain(|portal| portal.progress.is_none());
                self.on_server(plan, text, sql).await
            }
            Some(_) => self.on_server(plan, text, sql).await,
            None => Err(refused("this statement beside cursors").into()),
        }
    }

    fn cursors_mut(&mut self) -> Option<&mut Vec<Cursor>> {
        let transaction = self.exec.transaction.as_mut();
        transaction.and_then(|tx| tx.cursors.as_deref_mut())
    }

    /// Whether this cursor is kept here. A portal of the protocol is no cursor here, and no server has all of its rows.
    fn has(&self, name: &str) -> Result<bool, Report> {
        let portal = self.portals.get(name.as_bytes());
        if portal.is_some_and(|portal| portal.progress.is_some()) {
            return Err(refused("FETCH, MOVE or CLOSE of a portal"));
        }
        Ok(self.cursors().iter().any(|cursor| cursor.name == name))
    }

    fn refuse_duplicate(&self, name: &str) -> Result<(), Report> {
        let portal = self.portals.get(name.as_bytes());
        let known = self.cursors().iter().any(|cursor| cursor.name == name);
        if known || portal.is_some_and(|portal| portal.progress.is_some()) {
            let text = format!("cursor \"{name}\" already exists");
            return Err(Report::new(SqlState::DUPLICATE_CURSOR, text));
        }
        Ok(())
    }

    fn is_over_several(&self, plan: &Plan, text: &Bytes) -> bool {
        let lifted = &self.lifted;
        plan.command == Command::DeclareOver
            && (plan.refusal.is_some()
                || self.targets_of(plan, &Literals { text, lifted }).is_err())
    }

    pub(super) async fn on_server(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: Bytes,
    ) -> Result<Done, Failure> {
        let job = self.job_of(plan, text, sql).await?;
        self.run_planned(plan, &job).await
    }

    /// The query runs as one of its own, and its answer is kept.
    async fn declare(
        &mut self,
        plan: &Plan,
        name: String,
        scroll: Option<bool>,
        query: Bytes,
    ) -> Result<Done, Failure> {
        if self.cursors().len() >= CURSORS_MAX {
            let text = format!("more than {CURSORS_MAX} cursors over several shards");
            return Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, text)
                .hint("CLOSE those no longer needed.")
                .into());
        }
        let lifted = std::mem::take(&mut self.lifted);
        let job = self.query_job(&query).await;
        self.lifted = lifted;
        let job = job?;
        let most = self.exec.backend.config.limits.portal_bytes_max;
        self.exec
            .client
            .keep(most.saturating_sub(self.kept_bytes()));
        let result = self.run_planned(plan, &job).await;
        let Kept { bytes, overflown } = self.exec.client.take_kept();
        let sorted = sort(bytes);
        let description = self.tell_all_but_description(sorted.asides);
        let done = match result {
            Err(Failure::Shown) | Ok(_) if overflown => return Err(too_much(most).into()),
            result => result?,
        };
        if let Some(tx) = &mut self.exec.transaction {
            let savepoints = Transaction::savepoints(tx);
            let cursor = Cursor::new(name, description, sorted.rows, scroll, savepoints);
            tx.cursors.get_or_insert_default().push(cursor);
        }
        // where each row ends is kept, too
        if self.kept_bytes() > most {
            self.cursors_mut().and_then(Vec::pop);
            return Err(too_much(most).into());
        }
        build::command_complete(&mut self.exec.client.output, "DECLARE CURSOR");
        Ok(Done {
            rows: 0,
            tag: Some("DECLARE CURSOR".to_owned()),
            ..done
        })
    }

    /// The query of a DECLARE as a job over several shards.
    async fn query_job(&mut self, query: &Bytes) -> Result<Job, Failure> {
        let planned = self.plan_simple(query)?;
        let [inner] = &planned.statements[..] else {
            return Err(refused("a cursor for this statement").into());
        };
        let job = self.job_of(inner, query, query.clone()).await?;
        let several = matches!(job.targets, Targets::Many(_)) && job.merge.puts_together();
        if inner.command != Command::Select || job.access != Access::Read || !several {
            return Err(refused("a cursor for this statement").into());
        }
        Ok(job)
    }

    /// Notices and errors are shown; the RowDescription comes with each FETCH.
    fn tell_all_but_description(&mut self, mut asides: BytesMut) -> Bytes {
        let mut description = Bytes::new();
        while let Ok(Some(head)) = frame::header(&asides, usize::MAX) {
            let message = asides.split_to(head.len.min(asides.len()));
            if head.tag == b'T' {
                description = message.freeze();
            } else {
                self.exec.client.output.extend_from_slice(&message);
            }
        }
        description
    }

    async fn fetch(&mut self, name: &str, way: Way, shows: bool) -> Result<Done, Failure> {
        let direction = match way {
            Way::Rows(rows) => Direction::Forward(rows),
            Way::All => Direction::ForwardAll,
            Way::BackwardAll => Direction::BackwardAll,
            Way::Absolute(row) => Direction::Absolute(row),
            Way::Relative(rows) => Direction::Relative(rows),
        };
        let mut cursors = self.cursors_mut().into_iter().flatten();
        let Some(cursor) = cursors.find(|cursor| cursor.name == name) else {
            return Err(refused("this cursor").into());
        };
        let gone = cursor.go(direction).map_err(stuck)?;
        let (description, shown) = (cursor.description.clone(), cursor.shown(&gone));
        if !shows {
            return Ok(self.done(&format!("MOVE {}", gone.count), 0));
        }
        self.exec.client.output.extend_from_slice(&description);
        for mut rows in shown {
            self.send_rows(&mut rows).await?;
            let client = &mut self.exec.client;
            if client.output.len() >= OUTPUT_MAX {
                client.send().await.map_err(|_| Failure::ClientGone)?;
            }
        }
        Ok(self.done(&format!("FETCH {}", gone.count), gone.count as u64))
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

/// In the extended protocol a cursor's name may mean rows that are kept here.
pub(super) fn extended() -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        "statements about cursors in the extended protocol, beside cursors or portals over several shards",
    )
    .hint("Send them as simple queries.")
}

fn outside() -> Report {
    Report::new(
        SqlState::NO_ACTIVE_TRANSACTION,
        "DECLARE CURSOR can only be used in transaction blocks",
    )
}

fn refused(what: &str) -> Report {
    Report::new(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("{what} over several shards is not supported"),
    )
    .hint("Name the key, or read without a cursor.")
}

fn stuck(why: Stuck) -> Report {
    match why {
        Stuck::ForwardOnly => Report::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            "cursor can only scan forward",
        )
        .hint("Declare it with SCROLL option to enable backward scan."),
        Stuck::Unsaid => Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "going back in a cursor over several shards that was declared without SCROLL is not supported",
        )
        .hint("Declare it with SCROLL."),
    }
}
