//! What pgshunt answers itself: the bounds of transactions, and its own settings.

use super::Session;
use crate::consistency::Level;
use crate::exec::commit::Ended;
use crate::exec::executor::in_failed_transaction;
use crate::exec::executor::{Done, Placement};
use crate::exec::failure::{Failure, Report};
use crate::exec::freshness::Marks;
use crate::exec::held::Held;
use crate::exec::job::{Ask, Job, Setting};
use crate::exec::listening::Wish;
use crate::exec::transaction::{Kind, Opened, Transaction};
use crate::pool::outstanding::Fate;
use crate::pool::server::Status;
use crate::route::{Access, Command, Isolation, Merge, Plan, Routing, Targets, Values};
use crate::shard::ShardId;
use crate::sql::hint::Reads;
use crate::wire::build::{self, Severity};
use crate::wire::sqlstate::SqlState;
use std::time::Instant;

const CHARACTERISTICS_NOW: &str = "SELECT pg_catalog.concat_ws(',', \
    pg_catalog.current_setting('transaction_isolation'), pg_catalog.current_setting('transaction_read_only'), \
    pg_catalog.current_setting('transaction_deferrable'))";

impl Session {
    /// Whether no server is asked, or only those that the transaction holds.
    pub fn is_own(&self, plan: &Plan) -> bool {
        match &plan.command {
            Command::Begin { .. }
            | Command::Commit { .. }
            | Command::Rollback { .. }
            | Command::Savepoint(_)
            | Command::ReleaseSavepoint(_)
            | Command::RollbackToSavepoint(_)
            | Command::SetTransaction { .. }
            | Command::DiscardAll
            | Command::Deallocate(None)
            | Command::SetLocal { .. }
            | Command::ShowLocal(_) => true,
            Command::Deallocate(Some(name)) => self.statements.contains(name.as_bytes()),
            _ => matches!(plan.routing, Routing::Local),
        }
    }

    /// Does it; the command tag. An acknowledgement is held back until the books are kept.
    pub async fn own(&mut self, plan: &Plan, sql: &[u8]) -> Result<String, Failure> {
        if let Some(refusal) = &plan.refusal {
            return Err(refusal.clone().into());
        }
        self.tell_truncated(sql);
        let failed = self.exec.has_failed();
        let ends = matches!(
            plan.command,
            Command::Commit { .. } | Command::Rollback { .. } | Command::RollbackToSavepoint(_)
        );
        if failed && !ends {
            return Err(in_failed_transaction().into());
        }
        let tag = match &plan.command {
            Command::Begin { .. } => self.begin(&plan.command, sql).await?,
            Command::Commit { chain } => self.commit(*chain).await?.to_owned(),
            Command::Rollback { chain } => self.rollback(*chain).await?.to_owned(),
            Command::Savepoint(name) => self.savepoint(name).await?.to_owned(),
            Command::ReleaseSavepoint(name) => {
                self.need_block("RELEASE SAVEPOINT")?;
                let number = self.savepoint_number(name);
                self.exec.release_savepoint(name).await?;
                self.lift_portals(number);
                "RELEASE".to_owned()
            }
            Command::RollbackToSavepoint(name) => {
                self.need_block("ROLLBACK TO SAVEPOINT")?;
                let number = self.savepoint_number(name);
                self.exec.rollback_to_savepoint(name).await?;
                self.end_portals_since(number);
                self.refresh_context();
                "ROLLBACK".to_owned()
            }
            Command::SetTransaction { .. } => self.set_transaction(plan, sql).await?,
            Command::DiscardAll => self.discard_all().await?,
            Command::Deallocate(None) => self.deallocate_all().await,
            Command::Deallocate(Some(name)) => {
                self.deallocate(name).await?;
                "DEALLOCATE".to_owned()
            }
            Command::SetLocal { name, value } => {
                self.set_local(name, value.as_deref())?;
                if value.is_some() {
                    "SET".to_owned()
                } else {
                    "RESET".to_owned()
                }
            }
            Command::Listen(channel) => {
                self.exec.wish(Wish::Listen(channel.clone())).await?;
                "LISTEN".to_owned()
            }
            Command::Unlisten(channel) => {
                let channel = channel.clone();
                let wish = channel.map_or(Wish::UnlistenAll, Wish::Unlisten);
                self.exec.wish(wish).await?;
                "UNLISTEN".to_owned()
            }
            Command::ShowLocal(name) => {
                let value = self.show_local(name).await?;
                build::text_row(&mut self.exec.client.output, &[&value]);
                "SHOW".to_owned()
            }
            _ => String::new(),
        };
        Ok(tag)
    }

    /// RowDescription of those that answer with rows, for the simple protocol.
    pub fn own_rows(&mut self, plan: &Plan) {
        if let Command::ShowLocal(name) = &plan.command {
            build::text_columns(&mut self.exec.client.output, &[&format!("pgshunt.{name}")]);
        }
    }

    fn warn(&mut self, code: SqlState, text: &str) {
        build::report(
            &mut self.exec.client.output,
            Severity::Warning,
            code,
            text,
            None,
        );
    }

    async fn begin(&mut self, command: &Command, sql: &[u8]) -> Result<String, Failure> {
        let word = sql.trim_ascii_start().get(..5).unwrap_or(b"");
        let tag = if word.eq_ignore_ascii_case(b"start") {
            "START TRANSACTION"
        } else {
            "BEGIN"
        };
        match &mut self.exec.transaction {
            Some(tx) if tx.opened == Opened::Implicitly => {
                let fresh = Transaction::of(command, &tx.vars_before);
                tx.opened = Opened::ByClient;
                tx.read_only = fresh.read_only;
                tx.isolation = fresh.isolation;
                tx.deferrable = fresh.deferrable;
            }
            Some(_) => self.warn(
                SqlState("25001"),
                "there is already a transaction in progress",
            ),
            None => {
                self.exec.transaction = Some(Transaction::of(command, &self.exec.vars));
                // what a batch has done since its last Sync is part of the transaction from now on
                for index in 0..self.exec.held.len() {
                    if self.exec.held[index].batch_open {
                        self.exec.join_transaction(index).await?;
                    }
                }
            }
        }
        Ok(tag.to_owned())
    }

    async fn commit(&mut self, chain: bool) -> Result<&'static str, Failure> {
        self.look_at_characteristics(chain).await?;
        let Some(tx) = self.exec.transaction.clone() else {
            self.need_chain(chain, "COMMIT AND CHAIN")?;
            self.warn(
                SqlState::NO_ACTIVE_TRANSACTION,
                "there is no transaction in progress",
            );
            Box::pin(self.exec.end_open_batches("COMMIT")).await?;
            return Ok("COMMIT");
        };
        self.close_open_batches().await;
        self.exec.client.hold();
        let holding = self.take_holding();
        let ended = self.exec.commit_all().await;
        self.portals.clear();
        let result = match ended {
            Ok(Ended::Committed) => {
                self.keep_holding(holding);
                Ok("COMMIT")
            }
            Ok(Ended::RolledBack) => Ok("ROLLBACK"),
            Err(failure) => {
                self.exec.show_pending_error();
                Err(failure)
            }
        };
        self.exec.client.release();
        if chain && result.is_ok() {
            self.chain(&tx);
        }
        self.refresh_context();
        result
    }

    async fn rollback(&mut self, chain: bool) -> Result<&'static str, Failure> {
        self.look_at_characteristics(chain).await?;
        let Some(tx) = self.exec.transaction.clone() else {
            self.need_chain(chain, "ROLLBACK AND CHAIN")?;
            self.warn(
                SqlState::NO_ACTIVE_TRANSACTION,
                "there is no transaction in progress",
            );
            Box::pin(self.exec.end_open_batches("ROLLBACK")).await?;
            return Ok("ROLLBACK");
        };
        self.exec.rollback_all().await;
        self.portals.clear();
        if self.exec.bereft.is_some() {
            return Err(Failure::Shown);
        }
        if chain {
            self.chain(&tx);
        }
        self.refresh_context();
        Ok("ROLLBACK")
    }

    fn need_chain(&self, chain: bool, what: &str) -> Result<(), Failure> {
        if chain { self.need_block(what) } else { Ok(()) }
    }

    /// What the next transaction of a chain is to be, the server of this one knows best: settings, texts of several
    /// statements and savepoints have a part in it.
    async fn look_at_characteristics(&mut self, chain: bool) -> Result<(), Failure> {
        let asks = |held: &Held| held.in_transaction && held.server.status() == Status::Open;
        let Some(index) = self.exec.held.iter().position(asks).filter(|_| chain) else {
            return Ok(());
        };
        let answer = match self.exec.held[index]
            .run(CHARACTERISTICS_NOW, Fate::Capture)
            .await
        {
            Ok(answer) => answer,
            Err(error) => return Err(self.exec.lost(index, &error)),
        };
        let words = answer.captured.first().map(|row| row.as_ref().to_vec());
        let words = String::from_utf8(words.unwrap_or_default()).unwrap_or_default();
        let mut words = words.split(',');
        if let (Some(tx), Some(isolation), Some(read_only), Some(deferrable)) = (
            &mut self.exec.transaction,
            words.next(),
            words.next(),
            words.next(),
        ) {
            tx.isolation = match isolation {
                "serializable" => Some(Isolation::Serializable),
                "repeatable read" => Some(Isolation::RepeatableRead),
                "read uncommitted" => Some(Isolation::ReadUncommitted),
                _ => Some(Isolation::ReadCommitted),
            };
            tx.read_only = Some(read_only == "on");
            tx.deferrable = Some(deferrable == "on");
        }
        Ok(())
    }

    fn chain(&mut self, old: &Transaction) {
        let mut tx = Transaction::new(Opened::ByClient, &self.exec.vars);
        tx.inherited = old.passes_on();
        if let Some(inherited) = tx.inherited {
            tx.read_only = inherited.read_only;
            tx.isolation = inherited.isolation;
            tx.deferrable = inherited.deferrable;
        }
        self.exec.transaction = Some(tx);
    }

    fn need_block(&self, what: &str) -> Result<(), Failure> {
        match &self.exec.transaction {
            Some(tx) if tx.opened == Opened::ByClient => Ok(()),
            _ => Err(Report::new(
                SqlState::NO_ACTIVE_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            )
            .into()),
        }
    }

    async fn savepoint(&mut self, name: &str) -> Result<&'static str, Failure> {
        self.need_block("SAVEPOINT")?;
        self.exec.savepoint(name).await?;
        Ok("SAVEPOINT")
    }

    fn savepoint_number(&self, name: &str) -> usize {
        let transaction = self.exec.transaction.as_ref();
        transaction
            .and_then(|tx| tx.savepoint_number(name))
            .unwrap_or(usize::MAX)
    }

    /// SET TRANSACTION: noted while no server has begun, else sent to those that have.
    async fn set_transaction(&mut self, plan: &Plan, sql: &[u8]) -> Result<String, Failure> {
        if self.exec.transaction.is_none() {
            self.warn(
                SqlState::NO_ACTIVE_TRANSACTION,
                "SET TRANSACTION can only be used in transaction blocks",
            );
            return Ok("SET".to_owned());
        }
        let savepoints = self
            .exec
            .transaction
            .as_ref()
            .map_or(0, Transaction::savepoints);
        if savepoints > 0 && self.exec.snapshot.database.shards.len() == 1 {
            // said behind a savepoint it ends with it: the server keeps that in mind
            let home = self.exec.snapshot.database.home;
            self.exec.acquire(home, Placement::Primary).await?;
        }
        for index in 0..self.exec.held.len() {
            if !self.exec.held[index].in_transaction {
                continue;
            }
            let text = String::from_utf8_lossy(sql).into_owned();
            match self.exec.held[index].run(&text, Fate::Skip).await {
                Ok(answer) if answer.own_error.is_none() => {}
                Ok(answer) => {
                    self.exec
                        .client
                        .show_error(&answer.own_error.unwrap_or_default());
                    self.exec.note_failure();
                    return Err(Failure::Shown);
                }
                Err(error) => return Err(self.exec.lost(index, &error)),
            }
        }
        if let (
            Command::SetTransaction {
                read_only,
                isolation,
            },
            Some(tx),
        ) = (&plan.command, &mut self.exec.transaction)
        {
            tx.read_only = read_only.or(tx.read_only);
            tx.isolation = isolation.or(tx.isolation);
        }
        Ok("SET".to_owned())
    }

    async fn discard_all(&mut self) -> Result<String, Failure> {
        if self
            .exec
            .transaction
            .as_ref()
            .is_some_and(|tx| tx.opened == Opened::ByClient)
        {
            self.exec.note_failure();
            return Err(Report::new(
                SqlState("25001"),
                "DISCARD ALL cannot run inside a transaction block",
            )
            .into());
        }
        self.statements.clear();
        self.by_sql = None;
        self.portals.clear();
        self.holding = None;
        self.exec.listening = None;
        self.exec.forget_written();
        let before = std::mem::replace(&mut self.exec.vars, self.start_vars.clone());
        let changed = before != self.start_vars || !self.exec.held.is_empty();
        for held in &mut self.exec.held {
            held.pin = None;
            held.opaque = true;
        }
        // also of a server that the session keeps: it gets another, or this one cleaned by its pool
        self.exec.forget_cancel().await;
        let kept = std::mem::take(&mut self.exec.held);
        for held in kept {
            held.let_go().await;
        }
        if changed {
            // what its settings are again is told at once
            Box::pin(self.look_again()).await;
        }
        self.refresh_context();
        Ok("DISCARD ALL".to_owned())
    }

    /// Drops the client's statements, and those made by SQL PREPARE on servers it is pinned to.
    async fn deallocate_all(&mut self) -> String {
        self.statements.clear();
        self.by_sql = None;
        for held in &mut self.exec.held {
            let sql = "DEALLOCATE ALL";
            let done = if held.batch_open {
                held.run_in_batch(&[sql]).await
            } else {
                held.run(sql, Fate::Skip).await
            };
            if matches!(done, Ok(answer) if answer.own_error.is_none()) {
                held.server.forget_prepared();
                held.brought.clear();
            }
        }
        "DEALLOCATE ALL".to_owned()
    }

    // ---- jobs ----------------------------------------------------------------------------------

    /// The shards a plan addresses with these values.
    pub fn targets_of(&self, plan: &Plan, values: &dyn Values) -> Result<Targets, Failure> {
        let database = &self.exec.snapshot.database;
        let targets = match &plan.routing {
            Routing::Unsharded | Routing::Home => Targets::One(database.home),
            Routing::Hinted(shard) => Targets::One(*shard),
            Routing::AnyShard | Routing::Local => Targets::One(self.any_shard()),
            Routing::AllShards => Targets::Many(all_shards(database.shards.len())),
            Routing::ByKey { .. } => match plan.resolve(values, database)? {
                Targets::None => Targets::One(self.any_shard()),
                targets => targets,
            },
        };
        match (&targets, &plan.multi_refusal) {
            (Targets::Many(_), Some(refusal)) => Err(refusal.clone().into()),
            _ => Ok(targets),
        }
    }

    /// Where a cursor that was declared by a statement may be, if anywhere.
    pub(super) fn cursors_shard(&self) -> Option<ShardId> {
        let database = &self.exec.snapshot.database;
        let only = (database.shards.len() == 1).then_some(database.home);
        only.or_else(|| match &self.exec.held[..] {
            [held] => Some(held.shard),
            held => held.iter().find(|h| h.pin.is_some()).map(|h| h.shard),
        })
    }

    /// Outside a transaction only those are left that keep a server.
    pub(super) fn may_be_a_cursor(&self, name: &[u8]) -> bool {
        !name.is_empty() && !self.exec.held.is_empty() && self.cursors_shard().is_some()
    }

    /// Where what any shard can answer is answered: where the session already is, else in turn.
    pub fn any_shard(&self) -> ShardId {
        if let Some(held) = self.exec.held.first() {
            return held.shard;
        }
        let shards = self.exec.snapshot.database.shards.len().max(1);
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let shard = usize::from(turn) % shards;
        u16::try_from(shard).map_or(ShardId(0), ShardId)
    }

    pub fn job(&self, plan: &Plan, ask: Ask, targets: Targets, settings: Vec<Setting>) -> Job {
        let in_transaction = self.exec.held.iter().any(|h| h.in_transaction);
        let is_set = !settings.is_empty();
        let merge = if is_set && in_transaction {
            Merge::Everywhere
        } else {
            plan.merge.clone()
        };
        Job {
            ask,
            access: if is_set { Access::Read } else { plan.access },
            targets,
            merge,
            effects: match plan.effects.pins {
                // brought along like any other SET: no reason to stay
                Some(_) if is_set => crate::route::Effects {
                    pins: None,
                    ..plan.effects.clone()
                },
                None if super::settings::stays_there(plan, &settings) => crate::route::Effects {
                    pins: Some(super::settings::FOREIGN),
                    opaque: true,
                    ..plan.effects.clone()
                },
                _ => plan.effects.clone(),
            },
            combine: None,
            limited: false,
            settings,
            executes: true,
            moved: None,
            parts: None,
            shares: plan
                .may_share(self.exec.snapshot.database.pool.pipeline_time_max)
                .filter(|_| !is_set),
        }
    }

    /// What a SET or RESET will have changed; empty for any other statement.
    pub fn settings_of(&self, plan: &Plan, sql: &[u8]) -> Result<Vec<Setting>, Failure> {
        let statement = || {
            let text = String::from_utf8_lossy(sql);
            text.trim().trim_end_matches(';').to_owned()
        };
        Ok(match &plan.command {
            Command::Set { .. } if self.is_foreign(sql)? => Vec::new(),
            Command::Set { name, local: true } => vec![Setting::Local {
                name: name.clone(),
                statement: self
                    .local_start(name)
                    .filter(|_| super::settings::is_default(plan))
                    .unwrap_or_else(statement),
            }],
            Command::Set { name, local: false } if super::settings::is_default(plan) => {
                vec![Setting::Reset(name.clone())]
            }
            Command::Set { name, local: false } if name == super::settings::CHARACTERISTICS => {
                super::settings::characteristics(sql)
            }
            Command::Set { name, local: false } => {
                let statement = statement();
                self.refuse_unsafe_encoding(name, &statement)?;
                vec![Setting::Set {
                    name: name.clone(),
                    statement,
                }]
            }
            Command::Reset(Some(name)) => vec![Setting::Reset(name.clone())],
            Command::Reset(None) => vec![Setting::ResetAll],
            _ if super::settings::calls_set_config(plan) => {
                let setting = self.set_config(sql)?;
                if let Some(Setting::Set { name, statement }) = &setting {
                    self.refuse_unsafe_encoding(name, statement)?;
                }
                setting.into_iter().collect()
            }
            _ => Vec::new(),
        })
    }

    fn refuse_unsafe_encoding(&self, name: &str, statement: &str) -> Result<(), Failure> {
        if name != "client_encoding" || self.exec.snapshot.database.shards.len() < 2 {
            return Ok(());
        }
        let values = super::context::set_values(statement).unwrap_or_default();
        match values
            .iter()
            .find(|v| super::context::is_unsafe_encoding(v))
        {
            Some(encoding) => Err(super::startup::unsafe_encoding(encoding).into()),
            None => Ok(()),
        }
    }

    /// A setting may have changed what statements mean; RESET returns to what the start-up packet asked for.
    pub async fn after_setting(&mut self, job: &Job) {
        if !job.is_set() {
            return;
        }
        let mut again = Vec::new();
        for setting in &job.settings {
            match setting {
                Setting::Reset(name) => again.extend(self.return_to_start(Some(name))),
                Setting::ResetAll => again.extend(self.return_to_start(None)),
                Setting::Local { name, statement } => self.local_again(name, statement).await,
                Setting::Set { .. } => {}
            }
        }
        if !again.is_empty() {
            self.exec.repeat_settings(&again, Kind::Set).await;
            self.look_again().await;
        }
        self.refresh_context();
    }

    /// What the start-up packet said of a setting, for the rest of a transaction.
    fn local_start(&self, name: &str) -> Option<String> {
        let statement = self.start_vars.statement(name)?;
        Some(statement.replacen("SET ", "SET LOCAL ", 1))
    }

    /// SET LOCAL … TO DEFAULT has brought servers to their own default, not to the session's.
    async fn local_again(&mut self, name: &str, statement: &str) {
        let starts = self.local_start(name).as_deref() == Some(statement);
        if starts {
            let again = [(name.to_owned(), statement.to_owned())];
            self.exec.repeat_settings(&again, Kind::SetLocal).await;
        }
    }

    /// Settings that go back to what the start-up packet said.
    fn return_to_start(&mut self, name: Option<&str>) -> Vec<(String, String)> {
        let concerns = |setting: &str| match name {
            // RESET ALL leaves who the session is
            None => !matches!(setting, "role" | "session_authorization"),
            Some("session_authorization") => matches!(setting, "role" | "session_authorization"),
            Some(name) => name == setting,
        };
        let start = self.start_vars.entries();
        let returned: Vec<(String, String)> = start
            .filter(|(setting, _)| concerns(setting))
            .map(|(setting, statement)| (setting.to_owned(), statement.to_owned()))
            .collect();
        for (setting, statement) in &returned {
            self.exec.vars.set(setting, statement);
        }
        returned
    }

    /// The server that ran the RESET does not have the start-up packet's settings: one that has them is asked what the
    /// client is to be told.
    pub async fn look_again(&mut self) {
        if self.exec.transaction.is_some() {
            return;
        }
        self.exec.observed = None;
        let shard = self.exec.any_shard();
        if let Ok(index) = self.exec.acquire(shard, Placement::Primary).await {
            self.exec.observe(index);
        }
        self.exec.let_idle_servers_go().await;
    }

    /// The level of one statement: its own hint, else the session's.
    pub(super) fn level_of(&self, plan: &Plan) -> Level {
        match plan.reads {
            None => self.exec.freshness.level,
            Some(Reads::Primary | Reads::Strong) => Level::Strong,
            Some(Reads::Eventual) => Level::Eventual,
            Some(Reads::Bounded(ms)) => Level::Bounded(ms),
            Some(Reads::Session) => Level::Session,
        }
    }

    /// Runs a job under its plan's hints: how fresh, and whose watermark.
    pub async fn run_planned(&mut self, plan: &Plan, job: &Job) -> Result<Done, Failure> {
        let effects = &plan.effects;
        let special = effects.asks_channels | effects.asks_statements | effects.vacates.is_some();
        let special = special || self.may_execute_unseen(plan);
        let level = self.level_of(plan);
        if plan.session.is_some() || special {
            return Box::pin(self.run_specially(plan, job, level)).await;
        }
        self.exec.run(job, level).await
    }

    /// A statement with a hint that names the session whose watermark counts, that asks what only the session knows, or
    /// that wants a database empty.
    async fn run_specially(
        &mut self,
        plan: &Plan,
        job: &Job,
        level: Level,
    ) -> Result<Done, Failure> {
        // in a batch it has its own place
        let names = plan.effects.asks_statements || self.may_execute_unseen(plan);
        if names && !matches!(job.ask, Ask::Batch { .. }) {
            self.bring_statements(self.all_statements()).await?;
        }
        let asks = plan.effects.asks_channels && self.exec.listens();
        if asks {
            self.exec.lend_channels(job).await?;
        }
        let _vacancy = match plan.effects.vacates.as_deref() {
            Some(database) => self.exec.vacate(database).await?,
            None => None,
        };
        let own = self.enter_marks(plan);
        let result = self.exec.run(job, level).await;
        self.leave_marks(own);
        if asks {
            self.exec.take_channels_back().await;
        }
        result
    }

    /// A hint names the session whose watermark counts: the session's own, to be put back.
    pub(super) fn enter_marks(&mut self, plan: &Plan) -> Option<Marks> {
        let name = plan.session.as_ref()?;
        let shards = self.exec.snapshot.database.shards.len();
        let shared = self.exec.backend.named.open(name, shards, Instant::now());
        let named = Marks::Named(name.clone(), shared);
        Some(std::mem::replace(&mut self.exec.freshness.marks, named))
    }

    pub(super) fn leave_marks(&mut self, own: Option<Marks>) {
        let Some(own) = own else { return };
        let theirs = std::mem::replace(&mut self.exec.freshness.marks, own);
        // what this connection has written or seen under the name, it has written or seen
        if let Marks::Named(_, shared) = theirs {
            let theirs = shared.lock().clone();
            self.exec.freshness.with(|own| own.merge(&theirs));
        }
    }
}

pub fn all_shards(count: usize) -> smallvec::SmallVec<[ShardId; 8]> {
    (0..count)
        .filter_map(|n| u16::try_from(n).ok())
        .map(ShardId)
        .collect()
}
