//! Who may serve a read. A shard's servers as last seen, and the rules by which a replica is proven fresh enough.
//! It knows neither sockets nor the clock, and is never surer than its samples.

use super::{Level, Mark, Position, Sample};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

/// Reads that stay on the primary for so long, only because the session never pauses, are worth a short wait.
const PATIENCE: Duration = Duration::from_millis(20);
/// and only if replicas are hardly behind
const WORTH_LAG: Duration = Duration::from_millis(10);

/// A shard's servers at one moment.
#[derive(Clone, Debug, Default)]
pub struct ShardView {
    pub primary: PrimaryView,
    pub replicas: SmallVec<[ReplicaView; 3]>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct PrimaryView {
    pub up: bool,
    pub latest: Option<Sample>,
    /// synchronous standbys are configured: a replica may show a commit before the primary does (hazard 9)
    pub synchronous: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct ReplicaView {
    /// up, a replica of this primary, and within the most lag that is allowed
    pub readable: bool,
    /// replay position on the primary's history; None while that history is in doubt
    pub proven: Option<Position>,
    /// when `proven` was asked for
    pub proven_at: Instant,
    /// it has not been restarted since
    pub since: Instant,
    /// it shows all that was committed before this moment
    pub covered_until: Option<Instant>,
    /// when last measured; zero when caught up
    pub lag: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// 0 is the primary
    pub member: u16,
    /// when a replica's position was asked for
    pub proven_at: Option<Instant>,
    /// a fresher sample might have allowed a replica
    pub wants_sample: bool,
    /// this session will not come back to the replicas unless it waits a moment
    pub worth_waiting: bool,
}

impl Choice {
    const PRIMARY: Self = Self {
        member: 0,
        proven_at: None,
        wants_sample: false,
        worth_waiting: false,
    };

    const WAITING: Self = Self {
        wants_sample: true,
        ..Self::PRIMARY
    };
}

/// What the choice needs besides the view and the session's mark.
pub struct Question<S, L, C> {
    pub level: Level,
    pub now: Instant,
    /// the first primary sample asked for at this moment or later
    pub first_after: S,
    /// how busy a replica is
    pub load: L,
    /// a number below its argument
    pub coin: C,
}

impl ShardView {
    pub fn choose<S, L, C>(&self, mark: &mut Mark, mut question: Question<S, L, C>) -> Choice
    where
        S: Fn(Instant) -> Option<Sample>,
        L: Fn(u16) -> usize,
        C: FnMut(usize) -> usize,
    {
        let choice = match question.level {
            Level::Strong => Choice::PRIMARY,
            Level::Eventual => self.least_loaded(mark, &mut question, |_, _| true),
            Level::Bounded(ms) => self.choose_bounded(mark, &mut question, ms),
            Level::Session => self.choose_proven(mark, &mut question),
        };
        if choice.member == 0 {
            let hope = choice.wants_sample && self.replicas.iter().any(|r| r.readable);
            return Choice {
                wants_sample: hope,
                ..choice
            };
        }
        // the oldest choice still unanswered counts: nothing is claimed that another session's read did not show
        mark.chosen_at.get_or_insert(question.now);
        choice
    }

    fn choose_bounded<S, L, C>(
        &self,
        mark: &Mark,
        question: &mut Question<S, L, C>,
        ms: u32,
    ) -> Choice
    where
        L: Fn(u16) -> usize,
        C: FnMut(usize) -> usize,
    {
        let bound = Duration::from_millis(ms.into());
        let now = question.now;
        self.least_loaded(mark, question, |_, replica| {
            replica.proven.is_some()
                && replica
                    .covered_until
                    .is_some_and(|until| now.saturating_duration_since(until) <= bound)
        })
    }

    fn choose_proven<S, L, C>(&self, mark: &mut Mark, question: &mut Question<S, L, C>) -> Choice
    where
        S: Fn(Instant) -> Option<Sample>,
        L: Fn(u16) -> usize,
        C: FnMut(usize) -> usize,
    {
        if self.primary.synchronous || self.replicas.is_empty() {
            return Choice::PRIMARY;
        }
        let choice = match self.settle(mark, question.now, &question.first_after) {
            Settled::Known(bound) => {
                let choice =
                    self.least_loaded(mark, question, |member, r| shows(r, member, mark, bound));
                let chosen = members(&self.replicas).find(|(member, _)| *member == choice.member);
                if let Some((member, replica)) = chosen {
                    note_switch(mark, replica, member, bound);
                }
                choice
            }
            Settled::Waiting => Choice::WAITING,
        };
        self.consider_waiting(mark, choice, question.now)
    }

    /// Turns moments into positions where samples allow it.
    fn settle(
        &self,
        mark: &mut Mark,
        now: Instant,
        first_after: impl Fn(Instant) -> Option<Sample>,
    ) -> Settled {
        let Some(latest) = self.primary.latest else {
            return Settled::Waiting;
        };
        let gone = mark.at.is_some_and(|at| !at.same_history(latest.position));
        if gone || mark.restart {
            mark.start_again(now);
        }
        if mark.writing > 0 {
            return Settled::Waiting;
        }
        // the latest sample is compared first: the samples themselves are behind a lock
        let resolve = |moment: Instant| {
            (latest.asked_at >= moment)
                .then(|| first_after(moment))
                .flatten()
        };
        if let Some(moment) = mark.pending {
            let Some(sample) = resolve(moment) else {
                return Settled::Waiting;
            };
            mark.pending = None;
            mark.raise(sample.position);
            if mark.restart {
                return Settled::Waiting;
            }
        }
        let Some(shown) = mark.shown else {
            return Settled::Known(None);
        };
        let all_its_own = members(&self.replicas).all(|(member, r)| is_same(mark, member, r));
        let bound = if all_its_own {
            None
        } else {
            resolve(shown.until).map(|s| s.position)
        };
        Settled::Known(bound)
    }

    /// The least loaded of those that qualify; among equals the one read last, else any.
    fn least_loaded<S, L, C>(
        &self,
        mark: &Mark,
        question: &mut Question<S, L, C>,
        qualifies: impl Fn(u16, &ReplicaView) -> bool,
    ) -> Choice
    where
        L: Fn(u16) -> usize,
        C: FnMut(usize) -> usize,
    {
        let mut best: Option<(usize, bool, u16, Instant)> = None;
        let mut equals = 0;
        for (member, replica) in members(&self.replicas) {
            if !replica.readable || !qualifies(member, replica) {
                continue;
            }
            // false comes before true: the favourite wins among equals
            let rank = ((question.load)(member), mark.favourite != Some(member));
            let standing = best.map(|(load, other, ..)| (load, other));
            let better = match standing.map(|s| rank.cmp(&s)) {
                None | Some(Ordering::Less) => {
                    equals = 1;
                    true
                }
                Some(Ordering::Equal) => {
                    equals += 1;
                    (question.coin)(equals) == 0
                }
                Some(Ordering::Greater) => false,
            };
            if better {
                best = Some((rank.0, rank.1, member, replica.proven_at));
            }
        }
        match best {
            Some((.., member, proven_at)) => Choice {
                member,
                proven_at: Some(proven_at),
                ..Choice::PRIMARY
            },
            None => Choice::WAITING,
        }
    }

    /// A session that has no choice but the primary, read after read, would never come back if it does not pause: each
    /// read raises what it must see next (hazard 27). Now and then it is told that a short wait pays.
    fn consider_waiting(&self, mark: &mut Mark, choice: Choice, now: Instant) -> Choice {
        let patient = mark
            .primary_since
            .is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        let hardly_behind = |r: &ReplicaView| {
            r.readable && r.proven.is_some() && r.lag.is_some_and(|lag| lag <= WORTH_LAG)
        };
        let pays = choice.member == 0 && mark.writing == 0 && patient;
        if pays && self.replicas.iter().any(hardly_behind) {
            mark.primary_since = Some(now);
            return Choice {
                worth_waiting: true,
                ..choice
            };
        }
        choice
    }
}

enum Settled {
    /// what the session must see is known; and the bound of what a replica has shown it, for the other replicas
    Known(Option<Position>),
    /// it is not known yet
    Waiting,
}

fn members(replicas: &[ReplicaView]) -> impl Iterator<Item = (u16, &ReplicaView)> {
    (1..).zip(replicas)
}

/// The very server that showed the session what it has seen, not restarted since: it only moves forward.
fn is_same(mark: &Mark, member: u16, replica: &ReplicaView) -> bool {
    mark.shown.is_some_and(|shown| {
        shown.member == member && shown.began.is_some_and(|began| began >= replica.since)
    })
}

/// True when this replica is proven to show all that the session wrote and has seen.
fn shows(replica: &ReplicaView, member: u16, mark: &Mark, bound: Option<Position>) -> bool {
    let Some(position) = replica.proven else {
        return false;
    };
    let owed = mark.at.is_none_or(|at| position.reaches(at));
    let seen = mark.shown.is_none()
        || is_same(mark, member, replica)
        || bound.is_some_and(|b| position.reaches(b));
    owed && seen
}

/// Another server than the one that showed things serves from now on: it has reached the bound, all others must too.
fn note_switch(mark: &mut Mark, replica: &ReplicaView, member: u16, bound: Option<Position>) {
    if mark.shown.is_none() || is_same(mark, member, replica) {
        return;
    }
    if let Some(bound) = bound {
        mark.raise(bound);
        mark.shown = None;
    }
}

#[cfg(test)]
mod tests;
