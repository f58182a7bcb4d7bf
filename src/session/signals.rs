//! `pg_terminate_backend()` and `pg_cancel_backend()` of the number that a client was told at its start: no server has such a
//! process, so pgshunt does it, and a server gives the answer. Whose signal PostgreSQL would take for certain: one user's own.
//! `pg_backend_pid()` by itself is that number: another's process would be hit by the number of a server.

use super::Session;
use super::bound::Bound;
use crate::exec::failure::Report;
use crate::exec::job::Prepared;
use crate::route::{ParamValue, Plan, Values};
use crate::sql::signal::{Call, Number, Signal, call, own_number};
use crate::sql::tokens::tokenize;
use crate::wire::message;
use bytes::Bytes;
use std::sync::Arc;

/// What is done in place of a bound call.
pub(super) struct Instead {
    pub answer: Arc<Prepared>,
    /// whom to signal before that
    pub signal: Option<(i32, Signal)>,
}

impl Session {
    /// The text that answers, once the signal is on its way.
    pub(super) fn signal_simple(&self, plan: &Plan, sql: Bytes) -> Bytes {
        match self.call_in(plan, &sql) {
            Some(call) => match call.number {
                Number::Literal(pid) if pid == self.exec.pid => call.at_own_server(&sql).into(),
                Number::Literal(pid) if self.cancels.may_signal(pid, &self.exec.user) => {
                    self.signal(pid, call.signal);
                    call.answered(&sql).into()
                }
                _ => sql,
            },
            None => sql,
        }
    }

    /// The statement that answers in place of a bound one, and whom to signal before that, if not itself.
    pub(super) fn signal_bound(
        &mut self,
        prepared: &Prepared,
        bind: &message::Bind<'_>,
    ) -> Result<Option<Instead>, Report> {
        let text = &prepared.client_text;
        let plan = prepared.planned.statements.first();
        let Some(call) = plan.and_then(|plan| self.call_in(plan, text)) else {
            return Ok(None);
        };
        let types = &prepared.types;
        let pid = match call.number {
            Number::Literal(pid) => Some(pid),
            Number::Param(n) => Bound { bind, types }
                .param(n)
                .and_then(|value| read(&value)),
        };
        let Some(pid) = pid.filter(|pid| self.cancels.may_signal(*pid, &self.exec.user)) else {
            return Ok(None);
        };
        let (answer, signal) = if pid == self.exec.pid {
            (call.at_own_server(text), None)
        } else {
            (call.answered(text), Some((pid, call.signal)))
        };
        let answer = self.prepare(false, answer.into(), types.clone())?;
        Ok(Some(Instead { answer, signal }))
    }

    /// The text that asks for the number the client was told, where it asks for that of its process and nothing else.
    pub(super) fn with_own_number(&self, plan: &Plan, sql: &[u8]) -> Option<Bytes> {
        if !plan.effects.numbers {
            return None;
        }
        let tokens = tokenize(sql, self.context.standard_conforming_strings).ok()?;
        own_number(sql, &tokens, self.exec.pid).map(Bytes::from)
    }

    fn call_in(&self, plan: &Plan, sql: &[u8]) -> Option<Call> {
        if !plan.effects.numbers {
            return None;
        }
        let tokens = tokenize(sql, self.context.standard_conforming_strings).ok()?;
        call(sql, &tokens)
    }

    pub(super) fn signal(&self, pid: i32, signal: Signal) {
        // PostgreSQL runs nothing in a transaction that has failed
        if !self.exec.has_failed() {
            self.cancels.signal(pid, signal);
        }
    }
}

/// An integer of either width.
fn read(value: &ParamValue<'_>) -> Option<i32> {
    match value {
        ParamValue::Null => None,
        ParamValue::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok(),
        ParamValue::Binary(_, bytes) => match bytes.len() {
            4 => Some(i32::from_be_bytes((*bytes).try_into().ok()?)),
            8 => i64::from_be_bytes((*bytes).try_into().ok()?)
                .try_into()
                .ok(),
            _ => None,
        },
    }
}
