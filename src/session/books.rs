//! What a session counts and keeps current: statistics, its context, keys it draws.

use super::Session;
use super::context::Context;
use crate::exec::executor::Done;
use crate::exec::failure::{Failure, Report};
use crate::exec::freshness::Marks;
use crate::route::{Access, KeyDraw, Merge, Plan, PlannedText};
use crate::shard::ShardId;
use crate::stats::{ClientState, Counts, Executed, Outcome, ServedBy, ShardSet, Way};
use crate::wire::sqlstate::SqlState;
use std::time::Instant;

impl Session {
    /// One executed text, for SHOW STATS and SHOW QUERIES.
    pub fn count(
        &mut self,
        planned: &PlannedText,
        started: Instant,
        result: &Result<Done, Failure>,
    ) {
        let now = self.exec.clock;
        let write = planned.statements.iter().any(|p| p.access == Access::Write);
        let (outcome, rows, served_by, shards) = match result {
            Ok(done) => {
                let by = match (done.shards, write, done.by_replica) {
                    (0, ..) => ServedBy::Nobody,
                    (_, true, _) => ServedBy::Write,
                    (_, _, true) => ServedBy::Replica,
                    _ => ServedBy::Primary,
                };
                let shards = if done.shards > 1 {
                    ShardSet::all(u16::try_from(done.shards).unwrap_or(u16::MAX))
                } else {
                    done.shard.map_or(ShardSet::NONE, |s| ShardSet::one(s.0))
                };
                (Outcome::Done, done.rows, by, shards)
            }
            Err(Failure::Report(report)) if report.code == SqlState::FEATURE_NOT_SUPPORTED => {
                (Outcome::Refused, 0, ServedBy::Nobody, ShardSet::NONE)
            }
            Err(_) => (Outcome::Failed, 0, ServedBy::Nobody, ShardSet::NONE),
        };
        self.pace(planned, result);
        let way = match result {
            Ok(done) if done.shards == 1 => Some(Way::Single),
            Ok(done) if done.shards > 1 => Some(way_of(planned)),
            _ => None,
        };
        self.recorder.query(&Executed {
            fingerprint: planned.fingerprint,
            shape: &planned.shape,
            duration: now.saturating_duration_since(started),
            rows,
            outcome,
            served_by,
            shards,
            way,
        });
        if write && let Some(listening) = &mut self.exec.listening {
            listening.expects = true;
        }
        let traffic = self.exec.client.take_traffic();
        self.recorder.count(&Counts {
            transactions: u64::from(self.exec.transaction.is_none()),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            ..Counts::default()
        });
        self.handle.count_queries(1);
    }

    /// How long it took and what it brought, for whether it may share a server.
    fn pace(&mut self, planned: &PlannedText, result: &Result<Done, Failure>) {
        let missed = std::mem::take(&mut self.exec.missed);
        if let (true, [plan]) = (missed, &planned.statements[..]) {
            plan.pace.note_missed();
        }
        if let ([plan], Ok(done)) = (&planned.statements[..], result)
            && plan.access == Access::Read
            && done.shards == 1
        {
            plan.pace.note(done.took, done.bytes);
        }
    }

    /// The clock is read, and what was said of the work before it no longer counts.
    pub fn begin_work(&mut self) -> Instant {
        let now = Instant::now();
        self.exec.clock = now;
        self.handle.set_state(ClientState::Active, now);
        self.exec.cancel.begin();
        now
    }

    /// What SHOW CLIENTS tells of this session.
    pub fn show_state(&mut self) {
        let now = self.exec.clock;
        match (&self.exec.transaction, self.shown_transaction) {
            (Some(_), false) => self.handle.begin_transaction(now),
            (None, true) => self.handle.end_transaction(),
            _ => {}
        }
        self.shown_transaction = self.exec.transaction.is_some();
        if !self.exec.held.is_empty() || self.shown_held {
            self.handle.release();
            for held in &self.exec.held {
                self.handle.hold(held.shard.0);
            }
            let pin = self.exec.held.iter().find_map(|held| held.pin);
            if self.handle.pin(pin.map(|pin| (pin.reason, pin.since))) {
                self.recorder.count(&Counts {
                    pins: 1,
                    ..Counts::default()
                });
            }
            self.shown_held = !self.exec.held.is_empty();
        }
        let state = if self.shown_transaction {
            ClientState::IdleInTransaction
        } else {
            ClientState::Idle
        };
        self.handle.set_state(state, now);
    }

    /// Settings or catalog may have changed what statements mean.
    pub fn refresh_context(&mut self) {
        let exec = &self.exec;
        let snapshot = &exec.snapshot;
        let mut context = Context::new(
            &snapshot.catalog,
            snapshot.version,
            &exec.user,
            &exec.vars,
            exec.transaction.as_ref(),
        );
        if let Some(shard) = self.forced_shard {
            context.fingerprint ^= (u64::from(shard.0) + 1) << 40;
        }
        self.context = context;
    }

    /// Values for a shard key that is the table's own identity or serial, all of one shard.
    pub async fn draw(&mut self, draw: &KeyDraw) -> Result<(ShardId, Vec<i64>), Failure> {
        // inside a transaction that has written, the row has to live where the others do
        let wanted = self
            .exec
            .held
            .iter()
            .find(|h| h.in_transaction && h.wrote)
            .map(|h| h.shard);
        let loader = self.exec.backend.loader();
        let drawn = loader
            .draw(
                draw.keyspace,
                draw.key_type,
                &draw.sequence,
                draw.rows,
                wanted,
            )
            .await;
        drawn.map_err(|error| {
            Report::new(
                SqlState::CONNECTION_FAILURE,
                format!("no value could be drawn from sequence {}: {error}", draw.sequence),
            )
            .hint("The sequence of the home shard gives the keys; the control user needs USAGE on it.")
            .into()
        })
    }

    /// A reload may have put another backend in place: taken over between transactions.
    pub fn follow_reload(&mut self) {
        if self.exec.transaction.is_some() || !self.exec.held.is_empty() {
            return;
        }
        let current = self.slot.load();
        if std::ptr::eq(
            std::sync::Arc::as_ptr(&current),
            std::sync::Arc::as_ptr(&self.exec.backend),
        ) {
            return;
        }
        let backend = current.clone();
        drop(current);
        self.exec.snapshot = backend.snapshot();
        self.exec.backend = backend;
        self.exec.entries.clear();
        let shards = self.exec.snapshot.database.shards.len();
        let name = match &self.exec.freshness.marks {
            Marks::Named(name, _) => Some(name.clone()),
            Marks::Own(_) => None,
        };
        // positions of another map mean nothing here: begin at "the first sample from now"
        self.exec.freshness.marks = Marks::Own(Box::new(crate::consistency::Watermarks::unknown(
            shards,
            Instant::now(),
        )));
        if name.is_some() {
            self.set_session_name(name.as_deref());
        }
        self.forced_shard = None;
        self.refresh_context();
    }
}

/// How several shards had a part in it; of a text of several statements that of the last, whose outcome is the text's.
fn way_of(planned: &PlannedText) -> Way {
    match planned.statements.last().map(Plan::told_merge) {
        Some(Merge::Concatenate) => Way::Concatenated,
        Some(Merge::Combine(made)) if made.is_plain() => Way::Concatenated,
        Some(Merge::Combine(_)) => Way::Combined,
        Some(Merge::Gather(_)) => Way::Gathered,
        _ => Way::Everywhere,
    }
}
