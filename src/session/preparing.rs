//! Statements of the extended protocol as a session knows them: planned, and planned anew when settings or catalog have changed.

use super::Session;
use crate::exec::Failure;
use crate::exec::failure::Report;
use crate::exec::held::Held;
use crate::exec::job::Prepared;
use crate::exec::transaction::Transaction;
use crate::pool::server::statement_name;
use crate::route::Command;
use crate::sql::edit::{Drawn, splice};
use crate::sql::tokens::{TokenKind, tokenize};
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

impl Session {
    /// The statement of this name, where it is just the one that is to be parsed.
    pub(super) fn same_again(
        &self,
        name: &[u8],
        text: &[u8],
        types: &[u32],
    ) -> Option<Arc<Prepared>> {
        let found = self.statements.get(name)?;
        let same = found.client_text == text
            && found.types == types
            && found.context == self.context.fingerprint
            && found.settings == self.context.settings;
        // what is answered here may be answered otherwise now
        (same
            && !self.may_mean_something_else()
            && !found.local
            && found.planned.statements.len() == 1
            && !matches!(found.planned.statements[0].command, Command::Deallocate(_)))
        .then(|| found.clone())
    }

    /// The transaction has changed the schema, or there are temporary tables: what a server has parsed of the same text may
    /// be about tables that are no more, and would fail for its result. Only what runs then would show it, too late.
    pub(super) fn may_mean_something_else(&self) -> bool {
        let changed = |tx: &Transaction| tx.ddl.is_some();
        self.exec.transaction.as_ref().is_some_and(changed)
            || self.exec.held.iter().any(Held::has_temporary_tables)
    }

    /// Plans a text; the statement as this session knows it.
    pub(super) fn prepare(
        &mut self,
        named: bool,
        text: Bytes,
        types: Vec<u32>,
    ) -> Result<Arc<Prepared>, Report> {
        let planned = self.plan_parse(&text, &types)?;
        let plan = planned.statements.first();
        let timed = self.timed_statement(named, &text, &types, &planned)?;
        let refusal = plan.and_then(|p| p.refusal.as_ref());
        if let (Some(refusal), None) = (refusal, &timed) {
            return Err(refusal.clone().into());
        }
        let own = plan.and_then(|plan| self.with_own_number(plan, &text));
        let mut server_text = own.unwrap_or_else(|| text.clone());
        let mut hidden = 0;
        if let Some(draw) = plan.and_then(|p| p.draw.as_ref()) {
            let first =
                params_in(&text, self.context.standard_conforming_strings).max(types.len()) + 1;
            let edited = splice(
                &text,
                &[],
                0..text.len(),
                &draw.edits,
                Drawn::Params { first },
            );
            server_text = edited.ok_or_else(super::simple::misplaced)?.into();
            hidden = draw.rows;
        }
        let local = planned.statements.len() == 1 && plan.is_some_and(|plan| self.is_own(plan));
        // one that asks which there are is not to see itself by another name
        let named = named && !plan.is_some_and(|plan| plan.effects.asks_statements);
        let mut id = identity(self.context.settings, &server_text, &types);
        if self.may_mean_something_else() {
            id = rand::random::<u128>() | 1;
        }
        let combined = super::combine::prepared(&text, &types, named, &planned, &self.context)?;
        Ok(Arc::new(Prepared {
            id,
            name: server_name(named, id),
            named,
            client_text: text,
            server_text,
            types,
            hidden,
            combined,
            timed,
            planned,
            context: self.context.fingerprint,
            settings: self.context.settings,
            local,
            result: AtomicU64::new(0),
            told_types: OnceLock::new(),
        }))
    }

    /// The statement of a name, planned anew when settings or catalog have changed since.
    pub(super) fn statement(&mut self, name: &[u8]) -> Result<Arc<Prepared>, Failure> {
        let Some(found) = self.statements.get(name).cloned() else {
            let text = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!(
                    "prepared statement \"{}\" does not exist",
                    String::from_utf8_lossy(name)
                )
            };
            return Err(Report::new(SqlState::INVALID_STATEMENT_NAME, text).into());
        };
        let same_plan = found.context == self.context.fingerprint;
        if same_plan && found.settings == self.context.settings {
            return Ok(found);
        }
        let fresh = if same_plan {
            found.under(self.context.settings)
        } else {
            let types = found.types_again(self.exec.snapshot.database.shards.len());
            self.prepare(found.named, found.client_text.clone(), types)?
        };
        self.statements
            .insert(Bytes::copy_from_slice(name), fresh.clone());
        Ok(fresh)
    }
}

pub(super) fn server_name(named: bool, id: u128) -> Box<str> {
    if named {
        statement_name(id).into()
    } else {
        Box::default()
    }
}

/// A statement is the same on a server when text, types and all that it takes in when it is parsed agree.
pub(super) fn identity(settings: u64, text: &[u8], types: &[u32]) -> u128 {
    let mut seed = xxhash_rust::xxh3::Xxh3::with_seed(settings);
    seed.update(text);
    for oid in types {
        seed.update(&oid.to_le_bytes());
    }
    seed.digest128() | 1
}

impl Prepared {
    /// The same statement, to be parsed under other settings.
    fn under(&self, settings: u64) -> Arc<Self> {
        let id = identity(settings, &self.server_text, &self.types);
        Arc::new(Self {
            id,
            name: server_name(self.named, id),
            settings,
            client_text: self.client_text.clone(),
            server_text: self.server_text.clone(),
            types: self.types.clone(),
            planned: self.planned.clone(),
            combined: self.combined.as_ref().map(|one| one.under(settings)),
            timed: self.timed.as_ref().map(|one| one.under(settings)),
            result: AtomicU64::new(self.result.load(Ordering::Relaxed)),
            told_types: self.told_types.clone(),
            ..*self
        })
    }
}

/// The highest `$n` of a text.
pub(super) fn params_in(text: &[u8], scs: bool) -> usize {
    let tokens = tokenize(text, scs).unwrap_or_default();
    let numbers = tokens
        .iter()
        .filter(|t| matches!(t.kind, TokenKind::Param(_)))
        .filter_map(|t| {
            std::str::from_utf8(t.bytes(text))
                .ok()
                .and_then(|word| word.trim_start_matches('$').parse::<usize>().ok())
        });
    numbers.max().unwrap_or(0)
}
