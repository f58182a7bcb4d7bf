//! What a client was told of its prepared statement holds as long as the statement, as in PostgreSQL: when the schema has changed
//! since, it is parsed anew with the parameter types of before, which the client's binary values are of, and only if its
//! result is the same.

use super::Session;
use crate::exec::executor::Placement;
use crate::exec::failure::{Failure, Report};
use crate::exec::job::{Ask, Prepared, Step};
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::Described;
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Notes what the client has been told by Describe.
pub(super) fn note_results(ask: &Ask, results: Vec<Described>) {
    let (Ask::Batch { steps, .. }, false) = (ask, results.is_empty()) else {
        return;
    };
    let described = steps.iter().filter_map(|step| match step {
        Step::DescribeStatement(prepared) => Some(prepared),
        _ => None,
    });
    for (prepared, told) in described.zip(results) {
        prepared.result.store(told.result, Ordering::Relaxed);
        prepared.told_types.get_or_init(|| told.types);
    }
}

impl Session {
    /// The statement of this name, to be bound.
    pub(super) async fn kept(&mut self, name: &[u8]) -> Result<Arc<Prepared>, Failure> {
        if self.promised(name).is_some() {
            Box::pin(self.keep_promise(name)).await?;
        }
        self.statement(name)
    }

    /// The statement of this name, when its result was promised under another schema or search path than today's.
    fn promised(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        self.statements.get(name).filter(|found| {
            found.context != self.context.fingerprint && found.result.load(Ordering::Relaxed) != 0
        })
    }

    /// Plans it anew and asks a server whether the result is what was promised.
    async fn keep_promise(&mut self, name: &[u8]) -> Result<(), Failure> {
        let Some(found) = self.promised(name).cloned() else {
            return Ok(());
        };
        let promised = found.result.load(Ordering::Relaxed);
        let text = found.client_text.clone();
        let types = found.types_again(self.exec.snapshot.database.shards.len());
        let fresh = self.prepare(found.named, text, types)?;
        let home = self.exec.snapshot.database.home;
        let index = self.exec.acquire(home, Placement::Primary).await?;
        let asked = self.exec.held[index].ask_quietly(|server| {
            server.parse_unnamed(0, &fresh.server_text, &fresh.types, Fate::Skip);
            let reply = Reply::DescribeStatement { hidden: 0 };
            server.ask(reply, Fate::Skip, |out| build::named(out, b'D', b'S', b""));
        });
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.exec.lost(index, &error)),
        };
        self.exec.let_idle_servers_go().await;
        if let Some(error) = answer.own_error {
            self.exec.client.show_error(&error);
            return Err(Failure::Shown);
        }
        if answer.described.first().map(|told| told.result) != Some(promised) {
            let message = "cached plan must not change result type";
            let report = Report::new(SqlState::FEATURE_NOT_SUPPORTED, message);
            // by this name drivers know that they may prepare it again
            return Err(report.routine("RevalidateCachedQuery").into());
        }
        fresh.result.store(promised, Ordering::Relaxed);
        if let Some(types) = found.told_types.get() {
            fresh.told_types.get_or_init(|| types.clone());
        }
        self.statements.insert(Bytes::copy_from_slice(name), fresh);
        Ok(())
    }
}
