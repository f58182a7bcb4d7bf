//! What a session must see: its own watermarks, or those it shares with every session of its name.

use crate::cluster::topology::{ReadChoice, ServerId, Topology};
use crate::consistency::{Level, Watermarks};
use crate::shard::ShardId;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

pub enum Marks {
    Own(Box<Watermarks>),
    Named(String, Arc<Mutex<Watermarks>>),
}

pub struct Freshness {
    pub marks: Marks,
    pub level: Level,
    /// writes under way that sessions of the same name must not miss
    writing: SmallVec<[ShardId; 1]>,
}

impl Freshness {
    pub fn with<T>(&mut self, act: impl FnOnce(&mut Watermarks) -> T) -> T {
        match &mut self.marks {
            Marks::Own(marks) => act(marks),
            Marks::Named(_, shared) => act(&mut shared.lock()),
        }
    }

    #[must_use]
    pub fn new(marks: Marks, level: Level) -> Self {
        Self {
            marks,
            level,
            writing: SmallVec::new(),
        }
    }

    /// A write is about to be sent. Its acknowledgement may reach the client before we have read it whole, and the
    /// client may then read on another connection of the same name: until `note_write` those go to the primary.
    pub fn begin_write(&mut self, shard: ShardId) {
        if matches!(self.marks, Marks::Named(..)) && !self.writing.contains(&shard) {
            self.writing.push(shard);
            self.with(|marks| marks.begin_write(shard));
        }
    }

    /// A write has ended, well or not.
    pub fn note_write(&mut self, shard: ShardId, now: Instant) {
        match self.writing.iter().position(|s| *s == shard) {
            Some(begun) => {
                self.writing.remove(begun);
                self.with(|marks| marks.end_write(shard, now));
            }
            None => self.with(|marks| marks.note_write(shard, now)),
        }
    }

    pub fn note_read(&mut self, server: ServerId, now: Instant) {
        self.with(|marks| marks.note_read(server.shard, server.member, now));
    }

    pub fn choose(
        &mut self,
        topology: &Topology,
        shard: ShardId,
        level: Level,
        now: Instant,
        load: impl Fn(ServerId) -> usize,
    ) -> ReadChoice {
        self.with(|marks| topology.choose_read(shard, marks, level, now, load))
    }
}
