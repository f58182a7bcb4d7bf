//! What a session must see: its own watermarks, or those it shares with every session of its name.

use crate::cluster::topology::{ReadChoice, ServerId, Topology};
use crate::consistency::{Level, Watermarks};
use crate::shard::ShardId;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

pub enum Marks {
    Own(Watermarks),
    Named(String, Arc<Mutex<Watermarks>>),
}

pub struct Freshness {
    pub marks: Marks,
    pub level: Level,
}

impl Freshness {
    pub fn with<T>(&mut self, act: impl FnOnce(&mut Watermarks) -> T) -> T {
        match &mut self.marks {
            Marks::Own(marks) => act(marks),
            Marks::Named(_, shared) => act(&mut shared.lock()),
        }
    }

    pub fn note_write(&mut self, shard: ShardId, now: Instant) {
        self.with(|marks| marks.note_write(shard, now));
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
