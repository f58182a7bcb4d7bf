//! What a session must see, shard by shard. The obligations only grow; when they are met is `choice`'s business.
//!
//! Moments passed in must be read *after* the answer they stand for has come in, and a write must be noted before the
//! client can see its end: another session of the same name may ask the very next moment.

use super::{Position, Samples};
use crate::shard::ShardId;
use smallvec::SmallVec;
use std::time::Instant;

/// One entry a shard, by position in the shard map.
#[derive(Clone, Debug)]
pub struct Watermarks {
    marks: SmallVec<[Mark; 2]>,
}

/// What must be seen on one shard.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// every replica that serves must have reached this
    pub(super) at: Option<Position>,
    /// and the first primary sample asked for at this moment or later; until it is known, only the primary serves
    pub(super) pending: Option<Instant>,
    /// what a replica has shown
    pub(super) shown: Option<Shown>,
    /// the moment of the choice of the replica whose answer is awaited
    pub(super) chosen_at: Option<Instant>,
    /// writes sent whose end is not known yet
    pub(super) writing: u16,
    /// obligations that do not compare came together: start again at the next choice
    pub(super) restart: bool,
    /// nothing was asked of this shard yet
    fresh: bool,
    /// the replica read last, the favourite among equals
    pub(super) favourite: Option<u16>,
    /// the primary has served plain reads since
    pub(super) primary_since: Option<Instant>,
}

/// The replica `member` answered reads that began at `began` or later, the last of them ending at `until`. No bound in
/// WAL is known; the first primary sample asked for after `until` is one. The same server, if it has not been restarted,
/// shows it all anyway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub member: u16,
    pub began: Option<Instant>,
    pub until: Instant,
}

impl Watermarks {
    /// A session of which nothing is known may have written a moment ago, elsewhere (hazard 24).
    #[must_use]
    pub fn unknown(shards: usize, now: Instant) -> Self {
        Self {
            marks: SmallVec::from_elem(Mark::unknown(now), shards),
        }
    }

    #[must_use]
    pub fn shards(&self) -> usize {
        self.marks.len()
    }

    /// Of a name that several sessions share: others may have written under it, so a token adds and never replaces.
    #[must_use]
    pub fn shared(mut self) -> Self {
        for mark in &mut self.marks {
            mark.fresh = false;
        }
        self
    }

    #[must_use]
    pub fn mark(&self, shard: ShardId) -> Option<&Mark> {
        self.marks.get(shard.index())
    }

    pub fn mark_mut(&mut self, shard: ShardId) -> Option<&mut Mark> {
        self.marks.get_mut(shard.index())
    }

    /// Anything not proven a read was acknowledged, refused or lost at this moment.
    pub fn note_write(&mut self, shard: ShardId, ended_at: Instant) {
        if let Some(mark) = self.mark_mut(shard) {
            mark.note_write(ended_at);
        }
    }

    /// A write is about to be sent: until `end_write`, only the primary serves sessions of this name. Not needed for a
    /// session of its own, which waits for its answer; each call must be paired, also when the connection is lost.
    pub fn begin_write(&mut self, shard: ShardId) {
        if let Some(mark) = self.mark_mut(shard) {
            mark.writing = mark.writing.saturating_add(1);
            mark.fresh = false;
        }
    }

    pub fn end_write(&mut self, shard: ShardId, ended_at: Instant) {
        if let Some(mark) = self.mark_mut(shard) {
            mark.writing = mark.writing.saturating_sub(1);
            mark.note_write(ended_at);
        }
    }

    /// A read ended at this moment; `member` 0 is the primary.
    pub fn note_read(&mut self, shard: ShardId, member: u16, ended_at: Instant) {
        if let Some(mark) = self.mark_mut(shard) {
            match member {
                0 => mark.note_primary_read(ended_at),
                replica => mark.note_replica_read(replica, ended_at),
            }
        }
    }

    /// What is known of this shard no longer holds (a bucket moved): as if the session were unknown.
    pub fn reset(&mut self, shard: ShardId, now: Instant) {
        if let Some(mark) = self.mark_mut(shard) {
            mark.note_write(now);
            mark.at = None;
        }
    }

    /// What a token says of a shard: a session that has asked nothing yet is no longer unknown, any other owes both.
    pub fn take(&mut self, shard: ShardId, position: Position) {
        if let Some(mark) = self.mark_mut(shard) {
            if mark.fresh {
                mark.pending = None;
                mark.at = None;
            }
            mark.raise(position);
            mark.fresh = false;
        }
    }

    /// Takes over all that `other` owes.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.marks.iter_mut().zip(&other.marks) {
            mine.merge(theirs);
        }
    }
}

impl Mark {
    fn unknown(now: Instant) -> Self {
        Self {
            at: None,
            pending: Some(now),
            shown: None,
            chosen_at: None,
            writing: 0,
            restart: false,
            fresh: true,
            favourite: None,
            primary_since: None,
        }
    }

    fn note_write(&mut self, ended_at: Instant) {
        self.fresh = false;
        self.primary_since = None;
        self.wait_for(ended_at);
    }

    fn note_primary_read(&mut self, ended_at: Instant) {
        self.fresh = false;
        self.primary_since.get_or_insert(ended_at);
        self.wait_for(ended_at);
    }

    /// A sample asked for after `moment` is owed; it bounds what replicas showed before `moment` as well.
    fn wait_for(&mut self, moment: Instant) {
        self.pending = self.pending.max(Some(moment));
        if self.shown.is_some_and(|s| s.until <= moment) {
            self.shown = None;
        }
    }

    fn note_replica_read(&mut self, member: u16, ended_at: Instant) {
        self.fresh = false;
        self.primary_since = None;
        self.favourite = Some(member);
        let read = Shown {
            member,
            began: self.chosen_at.take(),
            until: ended_at,
        };
        self.show(read);
    }

    fn show(&mut self, read: Shown) {
        let Some(before) = self.shown else {
            self.shown = Some(read);
            return;
        };
        if before.member == read.member {
            // None, "not known", is the least
            let began = before.began.min(read.began);
            let until = before.until.max(read.until);
            self.shown = Some(Shown {
                began,
                until,
                ..read
            });
        } else {
            // this replica was read without proof that it shows what the other one showed (level eventual)
            self.shown = Some(read);
            self.pending = self.pending.max(Some(before.until));
        }
    }

    /// Every replica must have reached `position` as well. Positions that do not compare make the session start again.
    pub(super) fn raise(&mut self, position: Position) {
        match self.at {
            None => self.at = Some(position),
            Some(at) => match at.join(position) {
                Some(both) => self.at = Some(both),
                None => self.restart = true,
            },
        }
    }

    fn merge(&mut self, other: &Self) {
        self.fresh = false;
        self.restart |= other.restart;
        self.pending = self.pending.max(other.pending);
        if let Some(at) = other.at {
            self.raise(at);
        }
        if let Some(shown) = other.shown {
            self.show(shown);
        }
    }

    /// The moment after which a primary sample must have been asked for, to bound everything that is owed.
    #[must_use]
    pub fn owed_since(&self) -> Option<Instant> {
        self.pending.max(self.shown.map(|s| s.until))
    }

    /// One position that stands for everything owed; None when the samples do not tell yet.
    #[must_use]
    pub fn position(&self, samples: &Samples) -> Option<Position> {
        let latest = samples.latest()?.position;
        let known = self
            .at
            .filter(|at| at.same_history(latest) && !self.restart);
        if self.at.is_some() != known.is_some() {
            return None;
        }
        let owed = match self.owed_since() {
            Some(moment) => samples.first_after(moment)?.position,
            None => return known,
        };
        known.map_or(Some(owed), |at| at.join(owed))
    }

    /// What was owed belongs to a history that is no more: from `now` on, only what the primary shows counts.
    pub(super) fn start_again(&mut self, now: Instant) {
        self.at = None;
        self.restart = false;
        self.wait_for(now);
    }
}
