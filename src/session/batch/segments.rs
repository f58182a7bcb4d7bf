//! A batch cut into segments of one destination each: what a segment takes, and what it becomes for the executor.

use crate::exec::failure::Report;
use crate::exec::job::{Ask, End, Job, Prepared, Setting, Step};
use crate::pool::outstanding::Reply;
use crate::route::pace::Short;
use crate::route::{Access, Command, Merge, Plan, PlannedText, Targets};
use crate::session::bringing::Bring;
use crate::session::cursor_steps::CursorStep;
use crate::session::portions::Portion;
use crate::shard::ShardId;
use crate::sql::signal::Signal;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// Part of a batch with one destination.
pub(super) enum Segment {
    Work(Box<Work>),
    /// answered here
    Own(Vec<OwnStep>),
    /// from here on nothing runs
    Fail(Report),
}

pub(in crate::session) struct Work {
    pub(in crate::session) job: Job,
    pub(in crate::session) planned: Option<Arc<PlannedText>>,
    /// names of the statements it parses, in order
    pub(in crate::session) parsed: SmallVec<[Bytes; 1]>,
    pub(in crate::session) executes: usize,
    /// the destination is only a preference so far: nothing in it has been bound
    pub(super) open: bool,
    /// it ends with an Execute of a portal over several shards
    pub(super) portion: Option<Box<Portion>>,
}

impl Work {
    /// One statement, run once and to its end.
    pub(super) fn may_share(&self, end: End, longest: Duration) -> Option<Short> {
        let plan = self.planned.as_ref().and_then(|p| p.statements.first());
        let alone = end == End::Sync && self.executes == 1;
        plan.filter(|_| alone)?.may_share(longest)
    }
}

impl Segment {
    /// More than statements that are parsed and portals that are bound.
    pub(super) fn runs(&self) -> bool {
        match self {
            Self::Work(work) => work.executes > 0,
            Self::Own(steps) => !steps.iter().all(|s| matches!(s, OwnStep::Answer(_))),
            Self::Fail(_) => true,
        }
    }

    /// A time that was put into a statement before it is that of those after it.
    pub(super) fn keeps_the_time(&self) -> bool {
        match self {
            Self::Work(work) => {
                let everywhere = work.job.merge == Merge::Everywhere;
                work.executes == 0 || work.job.access == Access::Read || everywhere
            }
            other => !other.runs(),
        }
    }

    /// A BEGIN is run here.
    pub(super) fn begins(&self) -> bool {
        let begins = |step: &OwnStep| match step {
            OwnStep::Execute(prepared) => {
                let plan = prepared.planned.statements.first();
                plan.is_some_and(|plan| matches!(plan.command, Command::Begin { .. }))
            }
            _ => false,
        };
        matches!(self, Self::Own(steps) if steps.iter().any(begins))
    }
}

pub(super) enum OwnStep {
    Answer(&'static [u8]),
    Describe(Arc<Prepared>),
    Execute(Arc<Prepared>),
    Cursor(Box<CursorStep>),
    Bring(Box<Bring>),
    Signal(i32, Signal),
}

pub(super) const PARSE_COMPLETE: &[u8] = b"1\0\0\0\x04";

pub(super) const BIND_COMPLETE: &[u8] = b"2\0\0\0\x04";

pub(super) const CLOSE_COMPLETE: &[u8] = b"3\0\0\0\x04";

/// Where a step goes.
pub(super) struct Destination {
    pub(super) targets: Targets,
    pub(super) merge: Merge,
    pub(super) access: Access,
    /// any shard would do
    pub(super) open: bool,
    /// SET: not together with other statements
    pub(super) alone: bool,
}

impl Destination {
    /// A read on this shard.
    pub(super) fn on(shard: ShardId) -> Self {
        Self {
            targets: Targets::One(shard),
            merge: Merge::Single,
            access: Access::Read,
            open: false,
            alone: false,
        }
    }
}

impl Work {
    /// What stands before the Execute at its end, if anything does.
    pub(in crate::session) fn without_execute(mut self: Box<Self>) -> Option<Box<Self>> {
        let Ask::Batch { steps, .. } = &mut self.job.ask else {
            return None;
        };
        steps.pop();
        let rest = !steps.is_empty();
        self.executes = 0;
        self.job.executes = false;
        rest.then_some(self)
    }

    /// Its last step, an Execute, is to be this one.
    pub(in crate::session) fn execute(&mut self, frame: Bytes) {
        if let Ask::Batch { steps, end } = &mut self.job.ask {
            *end = End::Sync;
            steps.pop();
            let reply = Reply::Execute;
            steps.push(Step::Portal { reply, frame });
        }
    }

    /// The only shard it goes to.
    pub(super) fn shard(&self) -> Option<ShardId> {
        match (&self.job.targets, &self.job.merge) {
            (Targets::One(shard), merge) if merge.is_a_read() => Some(*shard),
            _ => None,
        }
    }

    pub(super) fn takes(&self, destination: &Destination) -> bool {
        let stays_alone = destination.alone && self.executes > 0;
        !self.is_complete()
            && !stays_alone
            && (destination.open
                || self.open
                || (self.job.targets == destination.targets && self.job.merge == destination.merge))
    }

    /// The answers of several shards become one at the end of a segment, and a SET may go to several servers where its
    /// neighbours go to one: such a segment takes nothing more once it runs something.
    pub(super) fn is_complete(&self) -> bool {
        let scatters =
            self.job.merge.puts_together() && matches!(self.job.targets, Targets::Many(_));
        let everywhere = self.job.merge == Merge::Everywhere;
        let portion = self.portion.is_some();
        self.executes > 0 && (scatters || everywhere || portion || self.job.is_set())
    }
}

/// The segment that takes a step for this destination: the last one if they agree, else a new one.
pub(super) fn with_work(
    segments: &mut Vec<Segment>,
    destination: Destination,
    prepared: &Arc<Prepared>,
    act: impl FnOnce(&mut Work),
) {
    let Some(work) = work_for(segments, destination) else {
        return;
    };
    work.planned.get_or_insert_with(|| prepared.planned.clone());
    act(work);
}

/// The last segment, if it takes this, else a new one.
pub(super) fn work_for(segments: &mut Vec<Segment>, destination: Destination) -> Option<&mut Work> {
    let fits = matches!(segments.last(), Some(Segment::Work(last)) if last.takes(&destination));
    if !fits {
        segments.push(Segment::Work(Box::new(new_work(&destination))));
    }
    let Some(Segment::Work(work)) = segments.last_mut() else {
        return None;
    };
    if work.open && !destination.open {
        work.job.targets = destination.targets;
        work.job.merge = destination.merge;
        work.open = false;
    }
    if destination.access == Access::Write {
        work.job.access = Access::Write;
    }
    Some(work)
}

pub(super) fn new_work(destination: &Destination) -> Work {
    Work {
        job: Job {
            ask: Ask::Batch {
                steps: Vec::new(),
                end: End::Sync,
            },
            access: destination.access,
            targets: destination.targets.clone(),
            merge: destination.merge.clone(),
            effects: crate::route::Effects::default(),
            combine: None,
            limited: false,
            settings: Vec::new(),
            executes: false,
            moved: None,
            parts: None,
            shares: None,
        },
        planned: None,
        parsed: SmallVec::new(),
        executes: 0,
        open: destination.open,
        portion: None,
    }
}

pub(super) fn destination(plan: Option<&Plan>, targets: Targets) -> Destination {
    Destination {
        targets,
        merge: plan.map_or(Merge::Single, |p| p.merge.clone()),
        access: plan.map_or(Access::Write, |p| p.access),
        open: false,
        alone: plan.is_some_and(is_alone),
    }
}

pub(super) fn is_alone(plan: &Plan) -> bool {
    matches!(plan.command, Command::Explain(_)) || crate::session::settings::is_setting(plan)
}

pub(super) fn note_execute(
    work: &mut Work,
    plan: Option<&Plan>,
    limited: bool,
    settings: Vec<Setting>,
    everywhere: bool,
) {
    work.executes += 1;
    work.job.executes = true;
    work.job.limited |= limited;
    let stays = plan.filter(|plan| crate::session::settings::stays_there(plan, &settings));
    work.job.settings.extend(settings);
    if everywhere {
        work.job.merge = Merge::Everywhere;
    }
    if let Some(plan) = plan {
        join_effects(work, plan);
        if work.job.is_set() {
            // brought along like any other SET: no reason to stay
            work.job.effects.pins = None;
        }
    }
    if stays.is_some() {
        work.job.effects.pins = Some(crate::session::settings::FOREIGN);
        work.job.effects.opaque = true;
    }
}

pub(super) fn join_effects(work: &mut Work, plan: &Plan) {
    let effects = &mut work.job.effects;
    effects.pins = effects.pins.or(plan.effects.pins);
    effects.opaque |= plan.effects.opaque;
    effects.ddl = effects.ddl.max(plan.effects.ddl);
    effects.clock |= plan.effects.clock;
    effects.names_time |= plan.effects.names_time;
    effects.notifies |= plan.effects.notifies;
    // what stands before it in the batch may be what has called nextval()
    effects.asks_sequence |= plan.effects.asks_sequence && work.executes == 1;
}

pub(super) fn push(work: &mut Work, step: Step) {
    if let Ask::Batch { steps, .. } = &mut work.job.ask {
        steps.push(step);
    }
}

pub(super) fn own_cursor(segments: &mut Vec<Segment>, step: CursorStep) {
    own(segments, OwnStep::Cursor(Box::new(step)));
}

pub(super) fn own(segments: &mut Vec<Segment>, step: OwnStep) {
    match segments.last_mut() {
        Some(Segment::Own(steps)) => steps.push(step),
        _ => segments.push(Segment::Own(vec![step])),
    }
}
