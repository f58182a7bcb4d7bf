//! One message of a batch after the other, put where it belongs.

use super::gathering::Wrote;
use super::segments::{
    BIND_COMPLETE, CLOSE_COMPLETE, Destination, OwnStep, PARSE_COMPLETE, Segment, destination,
    new_work, note_execute, own, own_cursor, push, with_work, work_for,
};
use crate::exec::Failure;
use crate::exec::failure::Report;
use crate::exec::job::{Prepared, Setting, Step};
use crate::pool::outstanding::Reply;
use crate::route::{Access, Command, Merge, Part, Plan, Routing, Targets};
use crate::session::bound::Bound;
use crate::session::bringing::When;
use crate::session::clocks::{refuse_clock_value, refuse_clock_words};
use crate::session::combine::combined;
use crate::session::cursor_batch::Bindings;
use crate::session::cursor_steps::CursorStep;
use crate::session::cursors::Whose;
use crate::session::instead::refuse_times;
use crate::session::portions::Portion;
use crate::session::startup::protocol_violation;
use crate::session::{Portal, Session};
use crate::wire::message;
use crate::wire::sqlstate::SqlState;
use bytes::Bytes;
use std::sync::Arc;

impl Session {
    pub(super) async fn add_step(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        match frame[0] {
            b'P' => self.add_parse(frame, segments),
            b'B' => self.add_bind(frame, segments).await,
            b'D' => self.add_describe(frame, segments),
            b'E' => self.add_execute(frame, segments),
            _ => self.add_close(frame, segments),
        }
    }

    pub(super) fn add_parse(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let parse = message::parse(frame).map_err(protocol_violation)?;
        let name = frame.slice_ref(parse.name);
        if !name.is_empty() && self.statements.contains(&name) {
            let text = format!(
                "prepared statement \"{}\" already exists",
                String::from_utf8_lossy(&name)
            );
            return Err(Report::new(SqlState::DUPLICATE_STATEMENT, text).into());
        }
        let most = self.exec.backend.config.limits.client_prepared_max;
        if self.statements.len() >= most {
            return Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("more than {most} prepared statements"))
                .hint("limits.client_prepared_max in the shard map bounds them; close those no longer needed.")
                .into());
        }
        let again = self.same_again(&name, parse.text, &parse.types);
        let prepared = if let Some(prepared) = again {
            self.add_bring(When::Parsed, &prepared, segments)?;
            prepared
        } else {
            let text = Bytes::copy_from_slice(parse.text);
            let prepared = self.prepare(!name.is_empty(), text, parse.types)?;
            self.add_bring(When::Parsed, &prepared, segments)?;
            let name = Bytes::copy_from_slice(&name);
            self.statements.insert(name, prepared.clone());
            prepared
        };
        if prepared.local {
            own(segments, OwnStep::Answer(PARSE_COMPLETE));
            return Ok(());
        }
        let destination = self.preference(&prepared);
        let name = Bytes::copy_from_slice(&name);
        with_work(segments, destination, &prepared.clone(), |work| {
            work.parsed.push(name);
            push(work, Step::Parse(prepared));
        });
        Ok(())
    }

    pub(super) fn add_bring(
        &self,
        when: When,
        prepared: &Prepared,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Report> {
        if let Some(bring) = self.needs_there(when, prepared)? {
            own(segments, OwnStep::Bring(Box::new(bring)));
        }
        Ok(())
    }

    pub(super) async fn add_bind(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let bind = message::bind(frame).map_err(protocol_violation)?;
        self.bound_portals(bind.portal)?;
        let prepared = self.statement_bound(&bind, segments).await?;
        if prepared.timed.is_some() {
            let alone = !segments.iter().any(Segment::runs);
            let known = segments.iter().all(Segment::keeps_the_time);
            let known = self.gathering.times.as_deref().filter(|_| known).cloned();
            let timed = Box::pin(self.bound_with_the_time(&prepared, &bind, alone, known)).await?;
            if let Some((prepared, frame)) = timed {
                let bind = message::bind(&frame).map_err(protocol_violation)?;
                return self.add_bound(&frame, &bind, prepared, segments).await;
            }
        }
        self.add_bound(frame, &bind, prepared, segments).await
    }

    pub(super) async fn add_bound(
        &mut self,
        frame: &Bytes,
        bind: &message::Bind<'_>,
        prepared: Arc<Prepared>,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let portal = Bytes::copy_from_slice(bind.portal);
        if prepared.local {
            self.portals.insert(portal, Portal::local(prepared));
            own(segments, OwnStep::Answer(BIND_COMPLETE));
            return Ok(());
        }
        let mut rest = frame.slice_ref(bind.rest);
        let planned = prepared.planned.clone();
        let bound = Bound {
            bind,
            types: &prepared.types,
        };
        let targets = self.targets_bound(&prepared, &bound, &mut rest).await?;
        let mut targets = match targets {
            Bindings::Targets(targets) => targets,
            Bindings::Anywhere => self.beside(segments),
            Bindings::Here(asked) => {
                let portal_here = Portal::of_cursor(asked, self.exec.transaction.as_ref());
                self.portals.insert(portal, portal_here);
                own(segments, OwnStep::Answer(BIND_COMPLETE));
                return Ok(());
            }
        };
        let combine = combined(&planned, &targets, bind, &prepared, &mut rest);
        let progress = self.progress_of(&prepared, &mut targets, &bound)?;
        let there = progress
            .as_ref()
            .and_then(|progress| progress.lock().there());
        if progress.is_some() {
            self.refuse_duplicate(&portal)?;
        }
        self.portals.insert(
            portal.clone(),
            Portal {
                progress,
                prepared: prepared.clone(),
                targets: targets.clone(),
                combine: combine.clone(),
                cursor: None,
            },
        );
        let plan = prepared.planned.statements.first();
        let parts = self.parts_of(plan, &targets, &bound);
        let destination = destination(plan, targets);
        let asked = prepared.combined.as_ref().filter(|_| combine.is_some());
        let before = there.clone();
        let step = Step::Bind {
            portal: there.unwrap_or(portal),
            prepared: asked.unwrap_or(&prepared).clone(),
            rest,
        };
        with_work(segments, destination, &prepared, |work| {
            // it takes the place of the one before it, which may have been given up
            if let Some(portal) = before {
                push(work, Step::CloseQuietly(portal));
            }
            push(work, step);
            work.job.parts = parts;
            work.job.combine = combine.or(work.job.combine.take());
        });
        Ok(())
    }

    /// The statement that a Bind names, as it is to run, behind what has to be done first.
    pub(super) async fn statement_bound(
        &mut self,
        bind: &message::Bind<'_>,
        segments: &mut Vec<Segment>,
    ) -> Result<Arc<Prepared>, Failure> {
        let prepared = self.kept(bind.statement).await?;
        self.add_bring(When::Bound, &prepared, segments)?;
        let Some(instead) = self.signal_bound(&prepared, bind)? else {
            return Ok(prepared);
        };
        if let Some((pid, signal)) = instead.signal {
            own(segments, OwnStep::Signal(pid, signal));
        }
        Ok(instead.answer)
    }

    pub(super) async fn targets_bound(
        &mut self,
        prepared: &Arc<Prepared>,
        bound: &Bound<'_>,
        rest: &mut Bytes,
    ) -> Result<Bindings, Failure> {
        Ok(Bindings::Targets(
            match prepared.planned.statements.first() {
                None => Targets::One(self.exec.any_shard()),
                Some(plan) if self.is_about_cursors(plan) => {
                    return self.bind_cursor(plan, prepared, bound, rest.clone());
                }
                Some(plan) if plan.routing == Routing::AnyShard => return Ok(Bindings::Anywhere),
                Some(plan) => {
                    if let Some(draw) = &plan.draw {
                        let (shard, values) = self.draw(draw).await?;
                        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
                        *rest = bound.bind.with_text_values(&texts).into();
                        Targets::One(shard)
                    } else {
                        let strings = self.context.standard_conforming_strings;
                        refuse_clocks(plan, bound.bind, prepared, strings)?;
                        let targets = self.targets_of(plan, bound)?;
                        let within = self.exec.transaction.is_some();
                        refuse_times(plan, &targets, bound.bind, prepared, within)?;
                        targets
                    }
                }
            },
        ))
    }

    pub(super) fn parts_of(
        &self,
        plan: Option<&Plan>,
        targets: &Targets,
        bound: &Bound<'_>,
    ) -> Option<Box<[Part]>> {
        match (&plan?.merge, targets) {
            (Merge::Gather(gather), Targets::Many(_)) => {
                Some(gather.parts(bound, &self.exec.snapshot.database).into())
            }
            _ => None,
        }
    }

    pub(super) fn bound_portals(&self, portal: &[u8]) -> Result<(), Report> {
        let most = self.exec.backend.config.limits.client_prepared_max;
        if self.portals.len() < most || self.portals.get(portal).is_some() {
            return Ok(());
        }
        Err(Report::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("more than {most} portals"))
            .hint("limits.client_prepared_max in the shard map bounds them; close those no longer needed."))
    }

    /// Where what any shard can answer is answered: beside what stands before it.
    pub(super) fn beside(&self, segments: &[Segment]) -> Targets {
        let before = segments.iter().rev().find_map(|segment| match segment {
            Segment::Work(work) if !work.open => work.shard(),
            _ => None,
        });
        let wrote = match self.gathering.wrote {
            Wrote::On(shard) => Some(shard),
            _ => None,
        };
        let shard = wrote.or(before).unwrap_or_else(|| self.any_shard());
        Targets::One(shard)
    }

    pub(super) fn add_describe(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let (kind, name) = message::named(frame).map_err(protocol_violation)?;
        if kind == b'P' {
            return self.add_portal_step(frame, name, Reply::DescribePortal, false, segments);
        }
        let prepared = self.statement(name)?;
        if prepared.local {
            own(segments, OwnStep::Answer(b"t\0\0\0\x06\0\0"));
            own(segments, OwnStep::Describe(prepared));
            return Ok(());
        }
        let plan = prepared.planned.statements.first();
        if plan.is_some_and(|plan| self.is_about_cursors(plan))
            && let Some(asked) = self.described_here(&prepared)?
        {
            let statement = true;
            own_cursor(segments, CursorStep::Describe { asked, statement });
            return Ok(());
        }
        let destination = self.preference(&prepared);
        let step = Step::DescribeStatement(prepared.clone());
        with_work(segments, destination, &prepared, |work| push(work, step));
        Ok(())
    }

    pub(super) fn add_execute(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let (portal, rows) = message::execute(frame).map_err(protocol_violation)?;
        self.add_portal_step(frame, portal, Reply::Execute, rows > 0, segments)
    }

    pub(super) fn add_portal_step(
        &mut self,
        frame: &Bytes,
        name: &[u8],
        reply: Reply,
        limited: bool,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let Some(Portal {
            prepared,
            targets,
            combine,
            progress,
            cursor,
        }) = self.portals.get(name).cloned()
        else {
            if self.knows_cursors() && self.add_known_cursor_step(frame, name, reply, segments)? {
                return Ok(());
            }
            return self.add_cursor_step(frame, name, reply, limited, segments);
        };
        if let Some(asked) = cursor {
            let step = CursorStep::of_portal(asked, progress, reply, frame)?;
            own_cursor(segments, step);
            return Ok(());
        }
        if prepared.local {
            let step = if reply == Reply::Execute {
                OwnStep::Execute(prepared)
            } else {
                OwnStep::Describe(prepared)
            };
            own(segments, step);
            return Ok(());
        }
        let plan = prepared.planned.statements.first();
        let settings = match plan {
            Some(plan) if reply == Reply::Execute => self.settings_in_batch(plan, &prepared)?,
            _ => Vec::new(),
        };
        let everywhere = !settings.is_empty() && self.exec.held.iter().any(|h| h.in_transaction);
        let after = match plan {
            Some(plan) if reply == Reply::Execute && self.is_about_cursors(plan) => {
                self.after_cursor(&prepared, &targets)?
            }
            _ => None,
        };
        let destination = destination(plan, targets);
        let (frame, portion) = Portion::placed(progress, reply, frame, name)?;
        let step = Step::Portal { reply, frame };
        let limited = limited && portion.is_none();
        with_work(segments, destination, &prepared, |work| {
            push(work, step);
            work.job.combine = combine.or(work.job.combine.take());
            if reply == Reply::Execute {
                note_execute(work, plan, limited, settings, everywhere);
                work.portion = portion.map(Box::new);
            }
        });
        if let Some(step) = after {
            own_cursor(segments, step);
        }
        Ok(())
    }

    /// What an Execute changes of the settings. What would pin is refused here where the map says so, behind the answers of
    /// what stands before it.
    pub(super) fn settings_in_batch(
        &self,
        plan: &Plan,
        prepared: &Prepared,
    ) -> Result<Vec<Setting>, Failure> {
        let settings = self.settings_of(plan, &prepared.client_text)?;
        if let Some(reason) = plan.effects.pins.filter(|_| settings.is_empty()) {
            self.exec.guard_pin(reason)?;
        }
        Ok(settings)
    }

    /// Of a portal that is a cursor by SQL; false when there is none.
    pub(super) fn add_known_cursor_step(
        &mut self,
        frame: &Bytes,
        name: &[u8],
        reply: Reply,
        segments: &mut Vec<Segment>,
    ) -> Result<bool, Failure> {
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(false);
        };
        let name = name.to_owned();
        match self.whose_declared(&name) {
            Whose::Ours => own_cursor(
                segments,
                match reply {
                    Reply::Close(_) => CursorStep::CloseCursor(name),
                    Reply::DescribePortal => CursorStep::DescribeCursor(name),
                    _ => return Err(crate::session::cursors::refused("Execute of a cursor").into()),
                },
            ),
            Whose::Server(shard) => {
                let mut work = new_work(&Destination::on(shard));
                let frame = frame.clone();
                push(&mut work, Step::Portal { reply, frame });
                work.executes = usize::from(reply == Reply::Execute);
                work.job.executes = reply == Reply::Execute;
                segments.push(Segment::Work(Box::new(work)));
                if matches!(reply, Reply::Close(_)) {
                    own_cursor(segments, CursorStep::Closed(name));
                }
            }
            Whose::Portal | Whose::Unknown => return Ok(false),
        }
        Ok(true)
    }

    /// A portal the client has not bound may be a cursor: a statement has declared it, on a server.
    pub(super) fn add_cursor_step(
        &self,
        frame: &Bytes,
        name: &[u8],
        reply: Reply,
        limited: bool,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let Some(shard) = self.cursors_shard().filter(|_| !name.is_empty()) else {
            let text = format!(
                "portal \"{}\" does not exist",
                String::from_utf8_lossy(name)
            );
            return Err(Report::new(SqlState::INVALID_CURSOR_NAME, text).into());
        };
        let frame = frame.clone();
        if let Some(work) = work_for(segments, Destination::on(shard)) {
            push(work, Step::Portal { reply, frame });
            if reply == Reply::Execute {
                note_execute(work, None, limited, Vec::new(), false);
            }
        }
        Ok(())
    }

    pub(super) fn add_close(
        &mut self,
        frame: &Bytes,
        segments: &mut Vec<Segment>,
    ) -> Result<(), Failure> {
        let (kind, name) = message::named(frame).map_err(protocol_violation)?;
        let portal = if kind == b'P' {
            self.portals.remove(name)
        } else {
            None
        };
        if kind == b'S' {
            self.statements.remove(name);
        }
        if kind == b'P'
            && portal.is_none()
            && self.knows_cursors()
            && self.add_known_cursor_step(frame, name, Reply::Close(None), segments)?
        {
            return Ok(());
        }
        match portal {
            Some(Portal {
                cursor: None,
                prepared,
                targets,
                combine,
                progress,
                ..
            }) if !prepared.local
                && !crate::session::portions::only_gathered(&prepared, &targets)
                && !self.exec.has_failed() =>
            {
                let destination = destination(prepared.planned.statements.first(), targets);
                let there = progress.and_then(|progress| progress.lock().there());
                let step = Step::Portal {
                    reply: Reply::Close(None),
                    frame: there.map_or(frame.clone(), |there| {
                        crate::session::portions::renamed(frame, &there)
                    }),
                };
                with_work(segments, destination, &prepared, |work| {
                    push(work, step);
                    work.job.combine = combine.or(work.job.combine.take());
                });
            }
            // in a failed transaction closing is still allowed, and its end closes all the same
            None if kind == b'P' && !self.exec.has_failed() && self.may_be_a_cursor(name) => {
                let reply = Reply::Close(None);
                self.add_cursor_step(frame, name, reply, false, segments)?;
            }
            _ => match segments.last_mut() {
                Some(Segment::Work(work)) if !work.is_complete() => {
                    push(work, Step::CloseStatement);
                }
                _ => own(segments, OwnStep::Answer(CLOSE_COMPLETE)),
            },
        }
        Ok(())
    }

    /// Where Parse and Describe go when nothing is bound: every shard knows the tables.
    pub(super) fn preference(&self, prepared: &Prepared) -> Destination {
        let plan = prepared.planned.statements.first();
        let anywhere = Destination {
            targets: Targets::One(self.exec.any_shard()),
            merge: Merge::Single,
            access: plan.map_or(Access::Write, |p| p.access),
            open: true,
            alone: false,
        };
        match plan {
            // a server in a transaction is taken only for what runs
            Some(plan)
                if matches!(plan.routing, Routing::Home | Routing::Unsharded)
                    || plan.command == Command::DeclareOver
                    || matches!(plan.told_merge(), Merge::Gather(_)) =>
            {
                Destination {
                    targets: Targets::One(self.exec.snapshot.database.home),
                    ..anywhere
                }
            }
            _ => anywhere,
        }
    }
}

fn refuse_clocks(
    plan: &Plan,
    bind: &message::Bind<'_>,
    prepared: &Prepared,
    strings: bool,
) -> Result<(), Report> {
    if *plan.told_merge() != Merge::Everywhere {
        return Ok(());
    }
    refuse_clock_words(plan, &prepared.client_text, strings)?;
    for n in 0..bind.params {
        if let Some(message::BindValue::Text(value)) = bind.value(n) {
            refuse_clock_value(plan, value)?;
        }
    }
    Ok(())
}
