//! Statements whose rows of several shards are combined: the text the shards are asked, and the numbers of one execution.

use super::Session;
use super::context::Context;
use super::preparing::{identity, server_name};
use super::simple::misplaced;
use crate::exec::Failure;
use crate::exec::failure::Report;
use crate::exec::job::{Ask, Job, Prepared};
use crate::exec::merge::{Formats, Run};
use crate::route::{Amount, Combination, Merge, Plan, PlannedText, Targets};
use crate::sql::edit::{Drawn, splice};
use crate::sql::lift::Span;
use crate::wire::message::{Bind, BindValue};
use bytes::Bytes;
use std::sync::Arc;

impl Session {
    /// A simple query's statement for several shards.
    pub(super) fn combined_job(
        &self,
        plan: &Plan,
        made: &Arc<Combination>,
        text: &Bytes,
        sql: &Bytes,
        targets: Targets,
    ) -> Result<Job, Failure> {
        let range = self.range_sent(plan, text, sql);
        let slots = &self.lifted.slots;
        let start = range.start;
        let edited = splice(text, slots, range, &made.edits, Drawn::Literals(&[]));
        let edited = edited.ok_or_else(misplaced)?;
        let fixed = |amount| match amount {
            Some(Amount::Fixed(rows)) => Some(rows),
            _ => None,
        };
        let run = Run {
            made: made.clone(),
            formats: Formats::AllText,
            limit: fixed(made.limit),
            offset: fixed(made.offset).unwrap_or(0),
            unedited: unedited(made, sql, slots, start),
        };
        Ok(Job {
            combine: Some(Arc::new(run)),
            ..self.job(plan, Ask::Simple(edited.into()), targets, Vec::new())
        })
    }
}

/// The statement as several shards are asked it, where that is another one.
pub(super) fn prepared(
    text: &Bytes,
    types: &[u32],
    named: bool,
    planned: &Arc<PlannedText>,
    context: &Context,
) -> Result<Option<Arc<Prepared>>, Report> {
    let Some(Merge::Combine(made)) = planned.statements.first().map(|plan| &plan.merge) else {
        return Ok(None);
    };
    if made.edits.is_empty() {
        return Ok(None);
    }
    let edited = splice(text, &[], 0..text.len(), &made.edits, Drawn::Literals(&[]));
    let server_text: Bytes = edited.ok_or_else(misplaced)?.into();
    let id = identity(context.settings, &server_text, types);
    Ok(Some(Arc::new(Prepared {
        id,
        name: server_name(named, id),
        named,
        client_text: text.clone(),
        server_text,
        types: types.to_vec(),
        hidden: 0,
        planned: planned.clone(),
        combined: None,
        timed: None,
        context: context.fingerprint,
        settings: context.settings,
        local: false,
        result: std::sync::atomic::AtomicU64::new(0),
        told_types: std::sync::OnceLock::new(),
    })))
}

/// What this Bind makes of a plan that combines; the formats of hidden columns are added to it.
pub(super) fn combined(
    planned: &PlannedText,
    targets: &Targets,
    bind: &Bind<'_>,
    prepared: &Prepared,
    rest: &mut Bytes,
) -> Option<Arc<Run>> {
    let types = &prepared.types;
    let Targets::Many(_) = targets else {
        return None;
    };
    let Merge::Combine(made) = &planned.statements.first()?.merge else {
        return None;
    };
    let told = bind.result_formats();
    let formats = match told.as_slice() {
        [] | [false] => Formats::AllText,
        [true] => Formats::AllBinary,
        each => {
            *rest = bind.with_result_columns(made.hidden).into();
            let hidden = std::iter::repeat_n(true, made.hidden);
            Formats::Each(each.iter().copied().chain(hidden).collect())
        }
    };
    Some(Arc::new(Run {
        made: made.clone(),
        formats,
        limit: rows(made.limit, bind, types),
        offset: rows(made.offset, bind, types).unwrap_or(0),
        unedited: unedited(made, &prepared.client_text, &[], 0),
    }))
}

/// A number of rows by the values of this Bind.
pub(super) fn rows(amount: Option<Amount>, bind: &Bind<'_>, types: &[u32]) -> Option<u64> {
    match amount? {
        Amount::Fixed(rows) => Some(rows),
        Amount::Param(n) => parameter(bind, types, n),
    }
}

/// Characters of a statement (which begins at `start` of the planned text) before its first edit.
fn unedited(made: &Combination, sql: &[u8], slots: &[Span], start: usize) -> Option<usize> {
    let at = made.edits.first()?.at.absolute(slots)?.checked_sub(start)?;
    let before = std::str::from_utf8(sql.get(..at)?).ok()?;
    Some(before.chars().count())
}

/// A parameter of LIMIT or OFFSET; None for NULL, and for what the shards will refuse.
fn parameter(bind: &Bind<'_>, types: &[u32], n: usize) -> Option<u64> {
    let at = n.checked_sub(1)?;
    let rows = match bind.value(at)? {
        BindValue::Null => return None,
        BindValue::Text(text) => std::str::from_utf8(text).ok()?.trim().parse().ok()?,
        BindValue::Binary(bytes) => match types.get(at).copied().unwrap_or(0) {
            21 => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
            23 => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
            _ => i64::from_be_bytes(bytes.try_into().ok()?),
        },
    };
    u64::try_from(rows).ok()
}
