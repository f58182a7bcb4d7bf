//! The ends of a transaction: COMMIT and ROLLBACK over the servers it holds, savepoints between.
//! Several servers are committed one after the other, and only when all have done their work; a failure
//! between two commits names the shards.

use super::executor::{Executor, in_failed_transaction};
use super::failure::{Failure, Report};
use super::held::Held;
use super::listening::wishes;
use super::transaction::{Heard, Transaction};
use crate::pool::outstanding::Fate;
use crate::pool::server::Status;
use crate::route::Ddl;
use crate::shard::ShardId;
use crate::sql::name::quote_ident;
use crate::vars::Vars;
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::time::Instant;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Committed,
    RolledBack,
}

impl Executor {
    /// COMMIT on every server of the transaction.
    pub async fn commit_all(&mut self) -> Result<Ended, Failure> {
        let Some(tx) = self.transaction.take() else {
            return Ok(Ended::Committed);
        };
        let failed = |h: &Held| h.in_transaction && h.server.status() == Status::Failed;
        if tx.failed || self.held.iter().any(failed) {
            self.roll_back(tx).await;
            return Ok(Ended::RolledBack);
        }
        let wishes = wishes(&tx);
        if wishes.is_empty() {
            return self.commit_members(tx).await;
        }
        let channels = self.channels();
        if let Err(report) = Box::pin(self.begin_listening(&wishes)).await {
            self.roll_back(tx).await;
            return Err(report.into());
        }
        let ended = self.commit_members(tx).await;
        match &ended {
            Ok(Ended::Committed) => self.end_listening(&wishes),
            _ => self.stay_with(&channels),
        }
        ended
    }

    async fn commit_members(&mut self, tx: Transaction) -> Result<Ended, Failure> {
        self.note_cancel_target().await;
        let writers = self.members(|h| h.wrote);
        let readers = self.members(|h| !h.wrote);
        let only_reads = writers.is_empty();
        let mut committed: Vec<ShardId> = Vec::new();
        for (n, shard) in writers.iter().enumerate() {
            if let Err(failure) = self.commit_one(*shard).await {
                return Err(self
                    .commit_failed(tx, failure, &committed, &writers[n..])
                    .await);
            }
            committed.push(*shard);
        }
        for shard in &readers {
            let Err(failure) = self.commit_one(*shard).await else {
                continue;
            };
            if only_reads {
                return Err(self.commit_failed(tx, failure, &[], &readers).await);
            }
            // what was written is committed: how a read ends changes nothing of it
            self.pending_error = None;
        }
        if let Some(ddl) = tx.ddl {
            self.reload_catalog(ddl).await;
        }
        self.let_idle_servers_go().await;
        Ok(Ended::Committed)
    }

    /// Shards that take part, in order.
    fn members(&self, wanted: impl Fn(&Held) -> bool) -> Vec<ShardId> {
        let mut shards: Vec<ShardId> = self
            .held
            .iter()
            .filter(|h| h.in_transaction && wanted(h))
            .map(|h| h.shard)
            .collect();
        shards.sort();
        shards
    }

    async fn commit_one(&mut self, shard: ShardId) -> Result<(), Failure> {
        let Some(index) = self.held.iter().position(|h| h.shard == shard) else {
            return Ok(());
        };
        if self.held[index].wrote {
            self.freshness.begin_write(shard);
        }
        let result = self.held[index].run("COMMIT", Fate::Notices).await;
        let now = Instant::now();
        let (member, wrote) = (self.held[index].member, self.held[index].wrote);
        if wrote {
            self.freshness.note_write(shard, now);
        } else if self.held[index].read {
            self.freshness.note_read(member, now);
        }
        if !self.held[index].is_replica {
            self.backend.topology.expect_reads(shard, now);
        }
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Err(self.lost(index, &error)),
        };
        leave(&mut self.held[index]);
        self.client.output.extend_from_slice(&answer.notices);
        self.observe(index);
        if answer.own_error.is_none() && !answer.own_rollback {
            return Ok(());
        }
        let before = self.held[index].vars_before.clone();
        self.held[index].server.vars = before;
        match answer.own_error {
            Some(error) => {
                self.held_error(error);
                Err(Failure::Shown)
            }
            None => Err(Report::new(
                SqlState::TRANSACTION_UNKNOWN,
                "the server rolled the transaction back instead of committing it",
            )
            .into()),
        }
    }

    fn held_error(&mut self, error: Bytes) {
        self.pending_error = Some(Box::new(error));
    }

    /// The server's error of a commit, put where the client sees it.
    pub fn show_pending_error(&mut self) {
        if let Some(error) = self.pending_error.take() {
            self.client.show_error(&error);
        }
    }

    async fn commit_failed(
        &mut self,
        tx: Transaction,
        failure: Failure,
        committed: &[ShardId],
        rest: &[ShardId],
    ) -> Failure {
        self.vars = tx.vars_before.clone();
        for shard in rest {
            if let Some(index) = self
                .held
                .iter()
                .position(|h| h.shard == *shard && h.in_transaction)
            {
                self.roll_back_one(index).await;
            }
        }
        if let (Some(ddl), false) = (tx.ddl, committed.is_empty()) {
            self.reload_catalog(ddl).await;
        }
        self.let_idle_servers_go().await;
        if committed.is_empty() {
            return failure;
        }
        let why = match (&failure, self.pending_error.take()) {
            (Failure::Report(report), _) => report.message.clone(),
            (_, Some(error)) => crate::wire::message::error_field(&error, b'M')
                .unwrap_or("unknown error")
                .to_owned(),
            _ => "the client is gone".to_owned(),
        };
        let names = |list: &[ShardId]| {
            let shards = &self.snapshot.database.shards;
            list.iter()
                .map(|s| shards[s.index()].name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        Report::new(
            SqlState::TRANSACTION_UNKNOWN,
            format!("committed on {} but not on {}: {why}", names(committed), names(rest)),
        )
        .hint("The shards differ now: repeat the statement on the shards named last, with a hint /* pgshunt: shard=… */.")
        .into()
    }

    /// ROLLBACK on every server of the transaction.
    pub async fn rollback_all(&mut self) {
        if let Some(tx) = self.transaction.take() {
            self.roll_back(tx).await;
        }
    }

    async fn roll_back(&mut self, tx: Transaction) {
        self.vars = tx.vars_before;
        let mut index = 0;
        while index < self.held.len() {
            if self.held[index].in_transaction && !self.roll_back_one(index).await {
                continue;
            }
            index += 1;
        }
        self.let_idle_servers_go().await;
    }

    /// False when the server had to be closed, which rolls back as well.
    async fn roll_back_one(&mut self, index: usize) -> bool {
        let member = self.held[index].member;
        let done = if self.held[index].server.in_step() || self.held[index].batch_open {
            self.close_batch(index).await
                && self.held[index].run("ROLLBACK", Fate::Skip).await.is_ok()
        } else {
            false
        };
        // what was rolled back may have raised sequences, and an error may have hidden a commit inside a procedure
        if self.held.get(index).is_some_and(|h| h.wrote) {
            self.freshness.note_write(member.shard, Instant::now());
        }
        if !done {
            self.drop_held(index);
            return false;
        }
        let held = &mut self.held[index];
        held.server.vars = held.vars_before.clone();
        leave(held);
        self.observe(index);
        true
    }

    /// Runs one of our own statements there; the server's error is shown.
    pub(super) async fn run_on(&mut self, index: usize, sql: &str) -> Result<(), Failure> {
        match self.held[index].run(sql, Fate::Skip).await {
            Ok(answer) => match answer.own_error {
                None => Ok(()),
                Some(error) => {
                    self.client.show_error(&error);
                    Err(Failure::Shown)
                }
            },
            Err(error) => Err(self.lost(index, &error)),
        }
    }

    /// COMMIT or ROLLBACK of what has been done since the last Sync, outside a transaction block: PostgreSQL warns, and does it.
    pub async fn end_open_batches(&mut self, sql: &str) -> Result<(), Failure> {
        for index in 0..self.held.len() {
            let held = &mut self.held[index];
            if !held.batch_open || held.batch_failed || !held.server.in_step() {
                continue;
            }
            self.run_on(index, sql).await?;
        }
        Ok(())
    }

    /// Sends the Sync that a batch ended by Flush still owes. False when the server is gone. What the commit of the
    /// batch's own transaction has to say goes to the client.
    pub async fn close_batch(&mut self, index: usize) -> bool {
        let held = &mut self.held[index];
        if !held.batch_open {
            return true;
        }
        held.batch_open = false;
        held.batch_failed = false;
        held.server.sync();
        let mut answer = crate::pool::server::Answer::default();
        let settled = super::relay::settle(&mut held.server, &mut answer).await;
        if let Some(error) = &answer.own_error {
            self.client.show_error(error);
            self.note_failure();
        }
        settled.is_ok()
    }

    /// SAVEPOINT, RELEASE and ROLLBACK TO on every server of the transaction.
    pub async fn savepoint(&mut self, name: &str) -> Result<(), Failure> {
        self.on_all_held(&format!("SAVEPOINT {}", quote_ident(name)))
            .await?;
        let vars = self.vars.clone();
        if let Some(tx) = &mut self.transaction {
            tx.heard.push(Heard::Savepoint {
                name: name.to_owned(),
                vars,
            });
        }
        Ok(())
    }

    pub async fn release_savepoint(&mut self, name: &str) -> Result<(), Failure> {
        let (place, _) = self.find_savepoint(name)?;
        self.on_all_held(&format!("RELEASE SAVEPOINT {}", quote_ident(name)))
            .await?;
        if let Some(tx) = &mut self.transaction {
            tx.release(place);
        }
        Ok(())
    }

    pub async fn rollback_to_savepoint(&mut self, name: &str) -> Result<(), Failure> {
        let (place, vars) = self.find_savepoint(name)?;
        if self.transaction.as_ref().is_some_and(|tx| tx.lost) {
            return Err(in_failed_transaction().into());
        }
        self.on_all_held(&format!("ROLLBACK TO SAVEPOINT {}", quote_ident(name)))
            .await?;
        if let Some(tx) = &mut self.transaction {
            tx.back_to(place);
        }
        for held in self.held.iter_mut().filter(|h| h.in_transaction) {
            held.server.vars = vars.clone();
        }
        self.vars = vars;
        Ok(())
    }

    fn find_savepoint(&mut self, name: &str) -> Result<(usize, Vars), Failure> {
        let found = self
            .transaction
            .as_ref()
            .and_then(|tx| tx.savepoint(name))
            .map(|(place, vars)| (place, vars.clone()));
        found.ok_or_else(|| {
            self.note_failure();
            Report::new(
                SqlState("3B001"),
                format!("savepoint \"{name}\" does not exist"),
            )
            .into()
        })
    }

    async fn on_all_held(&mut self, sql: &str) -> Result<(), Failure> {
        for index in 0..self.held.len() {
            if !self.held[index].in_transaction {
                continue;
            }
            match self.held[index].run(sql, Fate::Skip).await {
                Ok(answer) => {
                    if let Some(error) = answer.own_error {
                        self.client.show_error(&error);
                        self.note_failure();
                        return Err(Failure::Shown);
                    }
                    self.observe(index);
                }
                Err(error) => return Err(self.lost(index, &error)),
            }
        }
        Ok(())
    }

    /// DDL has been committed: what is planned from now on must know it.
    pub(super) async fn reload_catalog(&mut self, ddl: Ddl) {
        if ddl == Ddl::Defaults {
            self.backend.begin_anew();
        }
        if self.backend.may_refresh_later() {
            self.backend.refresh_soon();
            if ddl >= Ddl::Code
                && let Err(error) = self.backend.refresh_lingering().await
            {
                tracing::error!(%error, "the functions could not be looked at after DDL");
            }
            self.snapshot = self.backend.snapshot();
            return;
        }
        if let Err(error) = self.backend.refresh_catalog().await {
            tracing::error!(%error, "the catalog could not be loaded after DDL; plans are made from the old one");
        }
        self.snapshot = self.backend.snapshot();
    }
}

/// The server is out of the transaction.
fn leave(held: &mut Held) {
    held.in_transaction = false;
    held.wrote = false;
    held.stamped = false;
    held.read = false;
    debug_assert!(!held.server.is_clean() || held.server.status() == Status::Idle);
}
