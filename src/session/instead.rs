//! Statements that several servers are asked in the place of the client's: each of them would take `now()`, or a literal
//! like 'now', for another time.

use super::Session;
use super::bound::Bound;
use super::control::all_shards;
use super::preparing::{identity, params_in, server_name};
use super::simple::misplaced;
use crate::exec::Failure;
use crate::exec::failure::Report;
use crate::exec::job::{Job, Prepared};
use crate::route::{Merge, Plan, PlannedText, Routing, Targets};
use crate::sql::clock::{Call, Moved, Times, Told, may_be_time, slots_name_time, told, used};
use crate::sql::lift::{Lifted, lift};
use crate::wire::build;
use crate::wire::message::{Bind, BindValue};
use crate::wire::sqlstate::SqlState;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

/// date, time, timestamp, timestamptz, timetz
const TIMES: [u32; 5] = [1082, 1083, 1114, 1184, 1266];

/// A statement of its own, with its plan.
pub(super) struct Instead {
    pub planned: Arc<PlannedText>,
    pub text: Bytes,
    pub lifted: Lifted,
    /// what of the client's text is at another place in this one
    pub moved: Option<Arc<Moved>>,
}

/// What comes of a statement's plan: a job, unless something else is to be asked.
pub(super) type Made = Result<Job, Box<Instead>>;

impl Session {
    /// A simple statement for several shards with a literal like 'now': planned with that literal in it, which may mean
    /// that it is gathered.
    pub(super) fn with_its_literals(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: &Bytes,
    ) -> Result<Option<Box<Instead>>, Report> {
        let named = || slots_name_time(text, &self.lifted.slots);
        if !is_pushed(plan) || plan.effects.names_time || !named() {
            return Ok(None);
        }
        Ok(Some(Box::new(Instead {
            planned: self.plan_parse(sql, &[])?,
            text: sql.clone(),
            lifted: Lifted::default(),
            moved: None,
        })))
    }

    /// A simple statement with the time in the place of its clocks, where several servers have a part in it or in its
    /// transaction.
    pub(super) async fn with_the_time(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: &Bytes,
        targets: &Targets,
    ) -> Result<Option<Box<Instead>>, Failure> {
        let Some(calls) = plan.clocks.as_deref() else {
            return Ok(None);
        };
        if plan.refusal.is_some() {
            // is it for its clocks that it is refused?
            if self
                .timed(plan, text, sql, calls, &Times::some())?
                .is_none()
            {
                return Ok(None);
            }
        }
        let level = self.level_of(plan);
        match self.exec.time_for(targets, plan.access, level).await? {
            Some(times) => Ok(self.timed(plan, text, sql, calls, &times)?.map(Box::new)),
            None => Ok(None),
        }
    }

    /// Not what one server answers by itself.
    pub(super) fn may_need_the_time(&self, plan: &Plan) -> bool {
        let alone = self.exec.transaction.is_none() && plan.refusal.is_none();
        let one = matches!(plan.routing, Routing::AnyShard | Routing::Home);
        plan.clocks.is_some() && !(alone && one)
    }

    /// None where it still asks a clock (a view does), or is refused.
    fn timed(
        &mut self,
        plan: &Plan,
        text: &Bytes,
        sql: &Bytes,
        calls: &[Call],
        times: &Times,
    ) -> Result<Option<Instead>, Report> {
        let range = self.range_sent(plan, text, sql);
        let slots = &self.lifted.slots;
        let timed = told(text, slots, range, calls, Told::Literals(times));
        let (text, moved) = timed.ok_or_else(misplaced)?;
        let text = Bytes::from(text);
        let strings = self.context.standard_conforming_strings;
        let mut lifted = Lifted::default();
        lift(&text, strings, &mut lifted);
        let planned = self.plan_once(&text, &lifted)?;
        Ok(planned.is_steady().then_some(Instead {
            planned,
            text,
            lifted,
            moved: Some(Arc::new(moved)),
        }))
    }

    /// A prepared statement with parameters in the place of its clocks.
    pub(super) fn timed_statement(
        &mut self,
        named: bool,
        text: &Bytes,
        types: &[u32],
        planned: &PlannedText,
    ) -> Result<Option<Arc<Prepared>>, Report> {
        let [plan] = &planned.statements[..] else {
            return Ok(None);
        };
        let Some(calls) = plan.clocks.as_deref().filter(|_| plan.draw.is_none()) else {
            return Ok(None);
        };
        let strings = self.context.standard_conforming_strings;
        let first = params_in(text, strings).max(types.len()) + 1;
        let timed = told(text, &[], 0..text.len(), calls, Told::Params { first });
        let (text, _) = timed.ok_or_else(misplaced)?;
        let text = Bytes::from(text);
        let clocks = used(calls);
        let mut types = types.to_vec();
        types.resize(first - 1, 0);
        types.extend(clocks.iter().map(|clock| clock.type_oid()));
        let planned = self.plan_parse(&text, &types)?;
        if !planned.is_steady() {
            return Ok(None);
        }
        let id = identity(self.context.settings, &text, &types);
        let combined = super::combine::prepared(&text, &types, named, &planned, &self.context)?;
        Ok(Some(Arc::new(Prepared {
            id,
            name: server_name(named, id),
            named,
            client_text: text.clone(),
            server_text: text,
            types,
            hidden: clocks.len(),
            planned,
            combined,
            timed: None,
            context: self.context.fingerprint,
            settings: self.context.settings,
            local: false,
            result: AtomicU64::new(0),
            told_types: OnceLock::new(),
        })))
    }

    /// The statement with the time as a parameter, and its Bind, where a bound statement needs that. Where something runs
    /// before it in the batch it is not `alone`, and only a time that is `known` can be put into it.
    pub(super) async fn bound_with_the_time(
        &mut self,
        prepared: &Prepared,
        bind: &Bind<'_>,
        alone: bool,
        known: Option<Times>,
    ) -> Result<Option<(Arc<Prepared>, Bytes)>, Failure> {
        let Some((timed, plan)) = prepared
            .timed
            .as_ref()
            .zip(prepared.planned.statements.first())
        else {
            return Ok(None);
        };
        let refused = || match &plan.refusal {
            Some(refusal) => Err(refusal.clone().into()),
            None => Ok(None),
        };
        if !alone && known.is_none() || !self.may_need_the_time(plan) {
            return refused();
        }
        let bound = Bound {
            bind,
            types: &prepared.types,
        };
        let targets = match plan.refusal {
            Some(_) => self.every_shard(),
            None => self.targets_of(plan, &bound)?,
        };
        let level = self.level_of(plan);
        let times = match known {
            Some(times) if !matches!(targets, Targets::One(_)) => Some(times),
            _ => self.exec.time_for(&targets, plan.access, level).await?,
        };
        let Some(times) = times else {
            return refused();
        };
        self.gathering.times = Some(Box::new(times.clone()));
        let calls = plan.clocks.as_deref().unwrap_or_default();
        let values: Vec<String> = used(calls).into_iter().map(|c| times.of(c)).collect();
        let mut frame = BytesMut::new();
        let rest = bind.with_text_values(&values);
        build::bind(&mut frame, bind.portal, bind.statement, &rest);
        Ok(Some((timed.clone(), frame.freeze())))
    }

    pub(super) fn every_shard(&self) -> Targets {
        Targets::Many(all_shards(self.exec.snapshot.database.shards.len()))
    }
}

/// Each shard takes the statement as it is, and for what it is there.
fn is_pushed(plan: &Plan) -> bool {
    matches!(plan.merge, Merge::Concatenate | Merge::Combine(_))
}

/// A parameter like 'now' of a statement for several shards.
pub(super) fn refuse_times(
    plan: &Plan,
    targets: &Targets,
    bind: &Bind<'_>,
    prepared: &Prepared,
    in_transaction: bool,
) -> Result<(), Report> {
    // what is gathered is run in one place, but not where the transaction is
    let apart = is_pushed(plan) || in_transaction;
    if !apart || !matches!(targets, Targets::Many(_)) {
        return Ok(());
    }
    let told = prepared.told_types.get();
    let type_of = |n: usize| {
        let told = told.and_then(|types| types.get(n)).copied();
        told.or_else(|| prepared.types.get(n).copied())
            .filter(|oid| *oid != 0)
    };
    for n in 0..bind.params {
        let Some(BindValue::Text(value)) = bind.value(n) else {
            continue;
        };
        if may_be_time(value) && type_of(n).is_none_or(|oid| TIMES.contains(&oid)) {
            return Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!(
                    "parameter ${} over several shards: each may read it as another time",
                    n + 1
                ),
            )
            .hint("Give the time itself, or declare the parameter as text."));
        }
    }
    Ok(())
}
