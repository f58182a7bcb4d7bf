//! The servers a session holds: for the length of a transaction, or longer where something pins them.

use super::brought::Brought;
use super::job::Setting;
use super::relay::{RelayError, settle};
use crate::cluster::notifications::Speaking;
use crate::cluster::topology::ServerId;
use crate::pool::Checkout;
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::{Answer, NOBODY, Server};
use crate::shard::ShardId;
use crate::vars::Vars;
use crate::wire::build;
use std::time::Instant;

/// Statements that make up a setting with two halves: more than there are ways to say either.
const HALVES_MAX: usize = 8;

/// Why a server stays with its session after the transaction.
#[derive(Clone, Copy, Debug)]
pub struct Pin {
    pub reason: &'static str,
    pub since: Instant,
}

pub struct Held {
    pub shard: ShardId,
    pub member: ServerId,
    pub is_replica: bool,
    pub server: Checkout<Server>,
    /// BEGIN has been sent
    pub in_transaction: bool,
    /// something that is not proven a read ran here in this transaction
    pub wrote: bool,
    /// what ran may have put the server's own time into what it wrote
    pub stamped: bool,
    /// a read ran here in this transaction
    pub read: bool,
    pub pin: Option<Pin>,
    /// session state unknown: reset before anyone else has it
    pub opaque: bool,
    /// a batch ended with Flush here: a Sync is owed
    pub batch_open: bool,
    /// and the server has undone what it did: it waits for that Sync
    pub batch_failed: bool,
    /// settings as they were when the transaction began
    pub vars_before: Vars,
    /// the session's statements that are there under the client's own names
    pub brought: Vec<Brought>,
    /// the session notifies through it
    pub speaks: Option<Box<Speaking>>,
}

impl Held {
    #[must_use]
    pub fn has_temporary_tables(&self) -> bool {
        let of_tables = |pin: &Pin| pin.reason.contains("temporary");
        self.pin.as_ref().is_some_and(of_tables)
    }

    #[must_use]
    pub fn new(
        shard: ShardId,
        member: ServerId,
        is_replica: bool,
        server: Checkout<Server>,
    ) -> Self {
        Self {
            shard,
            member,
            is_replica,
            vars_before: server.vars.clone(),
            server,
            in_transaction: false,
            wrote: false,
            stamped: false,
            read: false,
            pin: None,
            opaque: false,
            batch_open: false,
            batch_failed: false,
            brought: Vec::new(),
            speaks: None,
        }
    }

    /// Something that is not proven a read runs here.
    pub fn note_write(&mut self, session: u64) {
        self.wrote = true;
        self.server.written_by(session);
    }

    /// Runs one of our own statements; the server's error, if it has one.
    pub async fn run(&mut self, sql: &str, fate: Fate) -> Result<Answer, RelayError> {
        self.run_bytes(sql.as_bytes(), fate).await
    }

    /// The same in the client's encoding.
    pub async fn run_bytes(&mut self, sql: &[u8], fate: Fate) -> Result<Answer, RelayError> {
        let mut answer = Answer::default();
        self.server.query(sql, fate);
        settle(&mut self.server, &mut answer).await?;
        Ok(answer)
    }

    /// The same within a batch that is open: a query would end what the batch has begun.
    pub async fn run_in_batch(&mut self, statements: &[&str]) -> Result<Answer, RelayError> {
        let server = &mut *self.server;
        for sql in statements {
            server.parse_unnamed(0, sql.as_bytes(), &[], Fate::Skip);
            server.ask(Reply::Bind, Fate::Skip, |out| {
                build::bind(out, b"", b"", &[0; 6]);
            });
            server.ask(Reply::Execute, Fate::Skip, |out| {
                build::execute(out, b"", 0);
            });
        }
        server.flush_request();
        server.unnamed = None;
        let mut answer = Answer::default();
        settle(server, &mut answer).await?;
        Ok(answer)
    }

    /// `SET datestyle TO dmy` changes one half of a setting: the whole of it is as the server reports it.
    #[must_use]
    pub fn whole_setting(&self, setting: &Setting) -> Option<Setting> {
        let Setting::Set { name, statement } = setting else {
            return None;
        };
        if name != "datestyle" {
            return None;
        }
        if self.batch_open {
            // what a batch has changed is reported at its Sync: until then it is what it was, changed by this
            let before = self.server.vars.statement(name)?;
            let halves = before.split(';').filter(|half| half != statement);
            let halves: Vec<&str> = halves.collect();
            let kept = &halves[halves.len().saturating_sub(HALVES_MAX)..];
            return Some(Setting::Set {
                name: name.clone(),
                statement: format!("{};{statement}", kept.join(";")),
            });
        }
        let mut parameters = self.server.parameters.iter();
        let (_, value) = parameters.find(|(name, _)| name == "DateStyle")?;
        Some(Setting::Set {
            name: name.clone(),
            statement: format!("SET datestyle TO {value}"),
        })
    }

    /// Gives the server back where nothing has to be done to it; else the rest is `let_go`'s.
    #[must_use]
    pub fn let_go_clean(self, now: Instant) -> Option<Self> {
        if self.opaque || self.batch_open || self.speaks.is_some() || !self.server.is_clean() {
            return Some(self);
        }
        self.give_back(now);
        None
    }

    fn give_back(mut self, now: Instant) {
        self.server.shed();
        self.server.info.note_idle(self.server.prepared_len(), now);
        self.server.check_in();
    }

    /// Gives the server back if it is known to be clean, else closes it.
    pub async fn let_go(mut self) {
        if self.batch_open {
            // its Sync was never asked for: closing rolls back what it did
            return;
        }
        if self.server.is_clean() && self.opaque {
            match self.run("DISCARD ALL", Fate::Skip).await {
                Ok(answer) if answer.own_error.is_none() => {
                    self.server.forget_prepared();
                    // what sequences have given is forgotten, too
                    self.server.written_by(NOBODY);
                    self.server.keep_for(None);
                    self.server.vars.clear();
                }
                _ => return,
            }
        }
        if let Some(speaks) = self.speaks.take() {
            speaks.end().await;
        }
        if self.server.is_clean() {
            self.give_back(Instant::now());
        }
    }
}
