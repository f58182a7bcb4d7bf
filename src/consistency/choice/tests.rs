//! The rules one by one, on a shard of one primary and two replicas, in milliseconds since the start.

use super::*;
use crate::consistency::{Lsn, Samples, Watermarks, Xid};
use crate::shard::ShardId;

const S1: ShardId = ShardId(0);

struct Scene {
    start: Instant,
    samples: Samples,
    view: ShardView,
    marks: Watermarks,
    loads: [usize; 2],
}

impl Scene {
    /// A session that began at 0, the primary's sample of 1 ms at 100, both replicas there.
    fn new() -> Self {
        let start = Instant::now();
        let mut scene = Self {
            start,
            samples: Samples::new(Duration::from_secs(10)),
            view: ShardView::default(),
            marks: Watermarks::unknown(1, start),
            loads: [0, 0],
        };
        for _ in 0..2 {
            scene.view.replicas.push(ReplicaView {
                readable: true,
                proven: None,
                proven_at: start,
                since: start,
                covered_until: None,
                lag: Some(Duration::ZERO),
            });
        }
        scene.primary(1, 100);
        scene.replica(1, 2, 100);
        scene.replica(2, 2, 100);
        scene
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn position(timeline: u32, lsn: u64) -> Position {
        Position {
            system_id: 1,
            timeline,
            lsn: Lsn(lsn),
            xid: None,
        }
    }

    fn primary(&mut self, ms: u64, lsn: u64) {
        self.primary_on(1, ms, lsn);
    }

    fn primary_on(&mut self, timeline: u32, ms: u64, lsn: u64) {
        let sample = Sample {
            asked_at: self.at(ms),
            position: Self::position(timeline, lsn),
        };
        self.samples.push(sample);
        self.view.primary.latest = Some(sample);
    }

    fn replica(&mut self, member: usize, ms: u64, lsn: u64) {
        let proven_at = self.at(ms);
        let replica = &mut self.view.replicas[member - 1];
        replica.proven = Some(Self::position(1, lsn));
        replica.proven_at = proven_at;
        replica.covered_until = self.samples.covered_until(Lsn(lsn), None);
    }

    fn choose(&mut self, ms: u64, level: Level) -> Choice {
        let question = Question {
            level,
            now: self.at(ms),
            first_after: |t| self.samples.first_after(t),
            load: |member: u16| self.loads[usize::from(member) - 1],
            coin: |_| 1,
        };
        self.view.choose(self.marks.mark_mut(S1).unwrap(), question)
    }

    fn serves(&mut self, ms: u64) -> u16 {
        self.choose(ms, Level::Session).member
    }

    fn read(&mut self, ms: u64) -> u16 {
        let member = self.serves(ms);
        self.marks.note_read(S1, member, self.at(ms));
        member
    }
}

#[test]
fn an_unknown_session_waits_for_the_first_sample() {
    let mut scene = Scene::new();
    scene.marks = Watermarks::unknown(1, scene.at(1) + Duration::from_micros(1));
    let choice = scene.choose(3, Level::Session);
    assert_eq!((choice.member, choice.wants_sample), (0, true));
    scene.primary(4, 100);
    assert_eq!(scene.serves(5), 1);
}

#[test]
fn a_write_keeps_to_the_primary_until_a_replica_shows_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.serves(3), 1);
    scene.marks.note_write(S1, scene.at(4));
    assert_eq!(scene.serves(5), 0);
    scene.primary(6, 120);
    assert_eq!(scene.serves(7), 0);
    scene.replica(2, 8, 119);
    assert_eq!(scene.serves(9), 0);
    scene.replica(2, 10, 120);
    assert_eq!(scene.serves(11), 2);
}

#[test]
fn the_first_sample_after_counts_not_the_latest() {
    let mut scene = Scene::new();
    scene.marks.note_write(S1, scene.at(4));
    scene.primary(5, 120);
    scene.primary(6, 900);
    scene.replica(1, 7, 120);
    assert_eq!(scene.serves(8), 1);
}

#[test]
fn the_other_replica_must_show_what_the_first_has_shown() {
    let mut scene = Scene::new();
    assert_eq!(scene.read(3), 1);
    scene.loads = [5, 0];
    assert_eq!(scene.read(4), 1, "no bound is known of what it showed");
    scene.primary(5, 150);
    assert_eq!(scene.serves(6), 1, "the other one is not there");
    scene.replica(2, 7, 150);
    assert_eq!(scene.read(8), 2);
    scene.loads = [0, 5];
    assert_eq!(scene.serves(9), 2, "and back");
    scene.primary(10, 150);
    assert_eq!(scene.serves(11), 2, "the first was last seen at 100");
    scene.replica(1, 12, 150);
    assert_eq!(scene.serves(13), 1);
}

#[test]
fn a_restarted_replica_is_another_one() {
    let mut scene = Scene::new();
    scene.view.replicas[1].readable = false;
    assert_eq!(scene.read(3), 1);
    // it had replayed beyond its last sample; after the restart it is back where it was then
    scene.view.replicas[0].since = scene.at(5);
    scene.replica(1, 6, 100);
    assert_eq!(scene.serves(7), 0);
    scene.primary(8, 130);
    scene.replica(1, 9, 130);
    assert_eq!(scene.serves(10), 1);
}

#[test]
fn what_an_eventual_read_has_shown_is_not_taken_back() {
    let mut scene = Scene::new();
    assert_eq!(scene.read(3), 1);
    scene.replica(2, 4, 50);
    scene.loads = [5, 0];
    assert_eq!(scene.choose(5, Level::Eventual).member, 2);
    scene.marks.note_read(S1, 2, scene.at(6));
    assert_eq!(scene.serves(7), 0);
    scene.primary(8, 100);
    assert_eq!(scene.serves(9), 1);
}

#[test]
fn a_busy_reader_of_the_primary_is_told_when_a_wait_pays() {
    let mut scene = Scene::new();
    scene.marks.note_write(S1, scene.at(4));
    let mut told = Vec::new();
    for ms in 5..200 {
        // a sample comes each millisecond, never in time for the next read
        scene.primary(ms, 100 + ms);
        let choice = scene.choose(ms, Level::Session);
        assert_eq!(choice.member, 0);
        if choice.worth_waiting {
            told.push(ms);
        }
        scene
            .marks
            .note_read(S1, 0, scene.at(ms) + Duration::from_micros(900));
    }
    assert_eq!(told.len(), 9, "{told:?}");
    scene.view.replicas[0].lag = Some(Duration::from_secs(1));
    scene.view.replicas[1].lag = None;
    assert!(!scene.choose(400, Level::Session).worth_waiting);
}

#[test]
fn wal_that_commits_nothing_does_not_keep_a_replica_away() {
    let mut scene = Scene::new();
    let bound = |lsn, xid| Position {
        xid: Some(Xid(xid)),
        ..Scene::position(1, lsn)
    };
    scene.marks.take(S1, bound(150, 7));
    assert_eq!(scene.serves(3), 0);
    // unflushed WAL: not replayed, but every transaction below 7 has ended here
    scene.view.replicas[1].proven = Some(bound(140, 6));
    assert_eq!(scene.serves(4), 0);
    scene.view.replicas[1].proven = Some(bound(140, 7));
    assert_eq!(scene.serves(5), 2);
    // one obligation without a bound: the position alone counts
    scene.marks.take(S1, Scene::position(1, 145));
    assert_eq!(scene.serves(6), 0);
}

#[test]
fn positions_of_a_lost_history_start_again() {
    let mut scene = Scene::new();
    assert_eq!(scene.serves(3), 1);
    scene.primary_on(2, 4, 90);
    assert_eq!(scene.serves(5), 0);
    for replica in &mut scene.view.replicas {
        replica.proven = Some(Scene::position(2, 95));
    }
    assert_eq!(scene.serves(6), 0, "no sample of the new primary since");
    scene.primary_on(2, 7, 95);
    assert_eq!(scene.serves(8), 1);
}

#[test]
fn levels() {
    let mut scene = Scene::new();
    scene.marks.note_write(S1, scene.at(3));
    assert_eq!(scene.choose(4, Level::Eventual).member, 1);
    assert_eq!(scene.choose(4, Level::Strong).member, 0);
    // covered until 1 ms
    assert_eq!(scene.choose(11, Level::Bounded(10)).member, 1);
    assert_eq!(scene.choose(12, Level::Bounded(10)).member, 0);
    scene.view.replicas[0].proven = None;
    assert_eq!(scene.choose(11, Level::Bounded(10)).member, 2);
    scene.view.replicas[1].readable = false;
    assert_eq!(scene.choose(4, Level::Eventual).member, 1);
}

#[test]
fn synchronous_standbys_may_be_ahead_of_the_primary() {
    let mut scene = Scene::new();
    scene.view.primary.synchronous = true;
    assert_eq!(scene.serves(3), 0);
    assert_eq!(scene.choose(3, Level::Eventual).member, 1);
}

#[test]
fn the_least_loaded_and_among_equals_the_last_read() {
    let mut scene = Scene::new();
    scene.loads = [3, 2];
    assert_eq!(scene.read(3), 2);
    scene.loads = [2, 2];
    scene.primary(4, 100);
    assert_eq!(scene.read(5), 2);
    scene.loads = [1, 2];
    scene.primary(6, 100);
    assert_eq!(scene.read(7), 1);
}

#[test]
fn a_write_under_way_stops_the_name() {
    let mut scene = Scene::new();
    scene.marks.begin_write(S1);
    scene.primary(4, 200);
    scene.replica(1, 5, 200);
    assert_eq!(scene.serves(6), 0);
    scene.marks.end_write(S1, scene.at(7));
    assert_eq!(scene.serves(8), 0);
    scene.primary(9, 200);
    assert_eq!(scene.serves(10), 1);
}

#[test]
fn merged_marks_owe_both() {
    let mut scene = Scene::new();
    assert_eq!(scene.serves(3), 1);
    let mut other = Watermarks::unknown(1, scene.start);
    other.take(S1, Scene::position(1, 140));
    scene.marks.merge(&other);
    assert_eq!(scene.serves(4), 0);
    scene.replica(2, 5, 140);
    assert_eq!(scene.serves(6), 2);
    // of another system: nothing compares, so the session starts again
    let stranger = Position {
        system_id: 9,
        ..Scene::position(1, 1)
    };
    let mut other = Watermarks::unknown(1, scene.start);
    other.take(S1, stranger);
    scene.marks.merge(&other);
    assert_eq!(scene.serves(7), 0);
    scene.primary(8, 140);
    assert_eq!(scene.serves(9), 2);
}

#[test]
fn a_token_frees_a_session_that_asked_nothing_yet() {
    let mut scene = Scene::new();
    scene.marks = Watermarks::unknown(1, scene.at(50));
    assert_eq!(scene.serves(51), 0);
    scene.marks.take(S1, Scene::position(1, 100));
    assert_eq!(scene.serves(52), 1);
    let mut shared = Watermarks::unknown(1, scene.at(50)).shared();
    shared.take(S1, Scene::position(1, 100));
    scene.marks = shared;
    assert_eq!(scene.serves(53), 0);
}

#[test]
fn one_position_stands_for_all_that_is_owed() {
    let mut scene = Scene::new();
    scene.marks.note_write(S1, scene.at(5));
    let position = |scene: &Scene| scene.marks.mark(S1).unwrap().position(&scene.samples);
    assert_eq!(position(&scene), None);
    scene.primary(6, 130);
    assert_eq!(position(&scene), Some(Scene::position(1, 130)));
    scene.marks.take(S1, Scene::position(1, 170));
    assert_eq!(position(&scene), Some(Scene::position(1, 170)));
    scene.primary_on(2, 7, 120);
    assert_eq!(position(&scene), None, "of a history that is no more");
}
