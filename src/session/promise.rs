//! What a client was told of the result of its prepared statement holds as long as the statement: when the schema has changed
//! since, the statement is planned anew only if its result is the same, as in PostgreSQL.

use super::Session;
use crate::exec::executor::Placement;
use crate::exec::failure::{Failure, Report};
use crate::exec::job::{Ask, Prepared, Step};
use crate::exec::relay::settle;
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::Answer;
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Notes what the client has been told by Describe.
pub(super) fn note_results(ask: &Ask, results: &[u64]) {
    let (Ask::Batch { steps, .. }, false) = (ask, results.is_empty()) else {
        return;
    };
    let described = steps.iter().filter_map(|step| match step {
        Step::DescribeStatement(prepared) => Some(prepared),
        _ => None,
    });
    for (prepared, result) in described.zip(results) {
        prepared.result.store(*result, Ordering::Relaxed);
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
        let fresh = self.prepare(found.named, text, found.types.clone())?;
        let home = self.exec.snapshot.database.home;
        let index = self.exec.acquire(home, Placement::Primary).await?;
        let server = &mut *self.exec.held[index].server;
        server.parse_unnamed(0, &fresh.server_text, &fresh.types, Fate::Skip);
        let reply = Reply::DescribeStatement { hidden: 0 };
        server.ask(reply, Fate::Skip, |out| build::named(out, b'D', b'S', b""));
        server.sync();
        let mut answer = Answer::default();
        let settled = settle(server, &mut answer).await;
        server.unnamed = None;
        if let Err(error) = settled {
            return Err(self.exec.lost(index, &error));
        }
        self.exec.let_idle_servers_go().await;
        if let Some(error) = answer.own_error {
            self.exec.client.output.extend_from_slice(&error);
            return Err(Failure::Shown);
        }
        if answer.described.first() != Some(&promised) {
            let message = "cached plan must not change result type";
            let report = Report::new(SqlState::FEATURE_NOT_SUPPORTED, message);
            // by this name drivers know that they may prepare it again
            return Err(report.routine("RevalidateCachedQuery").into());
        }
        fresh.result.store(promised, Ordering::Relaxed);
        self.statements.insert(Bytes::copy_from_slice(name), fresh);
        Ok(())
    }
}
