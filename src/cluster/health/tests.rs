//! What reports make of a shard, in milliseconds since the start.

use super::*;

struct Scene {
    start: Instant,
    health: ShardHealth,
}

fn position(timeline: u32, lsn: u64) -> Position {
    Position {
        system_id: 1,
        timeline,
        lsn: Lsn(lsn),
        xid: None,
    }
}

fn replaying(lsn: u64, receiver: Receiver) -> ReplicaState {
    ReplicaState::Replaying {
        lsn: Some(Lsn(lsn)),
        xid: None,
        receiver,
        fork: None,
        paused: false,
    }
}

const ON_1: Receiver = Receiver::Timeline(1);

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            start: Instant::now(),
            health: ShardHealth::new(1, Duration::from_millis(500)),
        };
        scene.primary(1, position(1, 100));
        scene
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn primary(&mut self, ms: u64, position: Position) {
        self.primary_with(ms, position, None, false);
    }

    fn primary_with(&mut self, ms: u64, position: Position, fork: Option<u64>, synchronous: bool) {
        let state = PrimaryState::Writing {
            position,
            fork,
            synchronous,
        };
        let asked_at = self.at(ms);
        self.health
            .primary_report(PrimaryReport { asked_at, state });
    }

    fn replica(&mut self, ms: u64, state: ReplicaState) {
        self.replica_since(0, ms, state);
    }

    fn replica_since(&mut self, since: u64, ms: u64, state: ReplicaState) {
        let report = ReplicaReport {
            asked_at: self.at(ms),
            answered_at: self.at(ms),
            since: self.at(since),
            system_id: 1,
            state,
        };
        self.health.replica_report(1, report);
    }

    fn seen(&self) -> ReplicaView {
        self.health.view(self.start).replicas[0]
    }

    fn reason(&self) -> Option<Reason> {
        self.health.standings()[1].reason.clone()
    }
}

#[test]
fn a_replica_in_step_is_proven() {
    let mut scene = Scene::new();
    assert_eq!(scene.reason(), Some(Reason::NotSampled));
    scene.replica(2, replaying(100, ON_1));
    assert_eq!(scene.seen().proven, Some(position(1, 100)));
    assert_eq!(scene.reason(), None);
    assert_eq!(scene.seen().lag, Some(Duration::ZERO));
}

#[test]
fn lag_is_the_age_of_what_may_be_missing() {
    let mut scene = Scene::new();
    scene.primary(50, position(1, 200));
    scene.replica(60, replaying(150, ON_1));
    assert_eq!(scene.seen().lag, Some(Duration::from_millis(59)));
    let standing = &scene.health.standings()[1];
    assert_eq!(standing.lag_bytes, Some(50));
    scene.replica(600, replaying(150, ON_1));
    assert_eq!(scene.reason(), Some(Reason::Behind));
    assert!(!scene.seen().readable);
    scene.replica(700, replaying(200, ON_1));
    assert_eq!(scene.seen().lag, Some(Duration::ZERO));
    assert_eq!(scene.seen().covered_until, Some(scene.at(50)));
    // an idle primary's next sample finds the same position: covered for longer
    scene.primary(800, position(1, 200));
    assert_eq!(scene.seen().covered_until, Some(scene.at(800)));
}

#[test]
fn a_replica_never_seen_in_step_is_not_read() {
    let mut scene = Scene::new();
    scene.replica(2, replaying(20, ON_1));
    assert_eq!(
        (scene.seen().lag, scene.reason()),
        (None, Some(Reason::Behind))
    );
}

#[test]
fn strangers_are_not_read() {
    let mut scene = Scene::new();
    scene.replica(2, ReplicaState::Writing);
    assert_eq!(scene.reason(), Some(Reason::ReplicaWriting));
    scene.replica(3, replaying(100, Receiver::Timeline(2)));
    let other = Reason::OtherTimeline { its: 2, primary: 1 };
    assert_eq!(scene.reason(), Some(other));
    let mut report = ReplicaReport {
        asked_at: scene.at(4),
        answered_at: scene.at(4),
        since: scene.start,
        system_id: 2,
        state: replaying(100, ON_1),
    };
    scene.health.replica_report(1, report.clone());
    assert_eq!(scene.reason(), Some(Reason::OtherSystem));
    assert!(!scene.seen().readable);
    report.system_id = 1;
    scene.health.replica_report(1, report);
    assert_eq!(scene.reason(), None);
}

#[test]
fn ahead_of_its_primary_is_another_history() {
    let mut scene = Scene::new();
    scene.replica(2, replaying(101, ON_1));
    assert_eq!(scene.reason(), None, "the primary may have moved on too");
    scene.primary(3, position(1, 100));
    assert_eq!(scene.reason(), Some(Reason::AheadOfPrimary));
    scene.primary(4, position(1, 102));
    assert_eq!(scene.reason(), None);
}

#[test]
fn one_number_two_forks() {
    let mut scene = Scene::new();
    scene.primary_with(2, position(2, 100), Some(7), false);
    let state = |fork| ReplicaState::Replaying {
        xid: None,
        lsn: Some(Lsn(100)),
        receiver: Receiver::Timeline(2),
        fork,
        paused: false,
    };
    scene.replica(3, state(Some(8)));
    assert_eq!(scene.reason(), Some(Reason::OtherFork(2)));
    scene.replica(4, state(Some(7)));
    assert_eq!(scene.reason(), None);
    scene.replica(5, state(None));
    assert_eq!(
        scene.reason(),
        None,
        "where it cannot be read the number has to do"
    );
}

#[test]
fn a_timeline_in_doubt_proves_nothing() {
    let mut scene = Scene::new();
    scene.replica(2, replaying(100, Receiver::Hidden));
    assert_eq!(scene.reason(), Some(Reason::TimelineHidden));
    assert!(scene.seen().readable && scene.seen().proven.is_none());
    scene.replica(3, replaying(100, Receiver::None));
    assert_eq!(scene.reason(), Some(Reason::NotStreaming));
    scene.replica(4, replaying(100, ON_1));
    // the stream ends: sure as long as nothing is replayed by the same process
    scene.replica(5, replaying(100, Receiver::None));
    assert_eq!(scene.seen().proven, Some(position(1, 100)));
    scene.replica_since(6, 7, replaying(100, Receiver::None));
    assert_eq!(scene.seen().proven, None);
    scene.replica_since(6, 8, replaying(100, ON_1));
    scene.replica_since(6, 9, replaying(101, Receiver::None));
    assert_eq!(scene.seen().proven, None);
}

#[test]
fn only_a_later_answer_closes_the_breaker() {
    let mut scene = Scene::new();
    scene.replica(2, replaying(100, ON_1));
    scene.health.mark_failed(1, scene.at(5));
    assert_eq!(scene.reason(), Some(Reason::Failed));
    scene.replica(4, replaying(100, ON_1));
    assert!(!scene.seen().readable);
    scene.replica(6, replaying(100, ON_1));
    assert!(scene.seen().readable);
    // an old failure is no news
    scene.health.mark_failed(1, scene.at(3));
    assert!(scene.seen().readable);
    scene.health.unreachable(1, scene.at(7), "refused".into());
    assert_eq!(scene.reason(), Some(Reason::Unreachable("refused".into())));
}

#[test]
fn a_primary_in_recovery_or_of_the_past_is_not_up() {
    let mut scene = Scene::new();
    let fault = |scene: &Scene| scene.health.standings()[0].reason.clone();
    assert_eq!(fault(&scene), None);
    let (asked_at, state) = (scene.at(2), PrimaryState::InRecovery);
    scene
        .health
        .primary_report(PrimaryReport { asked_at, state });
    assert_eq!(fault(&scene), Some(Reason::PrimaryInRecovery));
    assert!(!scene.health.view(scene.start).primary.up);
    scene.primary(3, position(2, 90));
    assert_eq!(fault(&scene), None);
    scene.primary(4, position(1, 200));
    let replaced = Reason::TimelineReplaced { its: 1, newer: 2 };
    assert_eq!(fault(&scene), Some(replaced));
    let latest = scene.health.samples().latest().unwrap();
    assert_eq!(latest.position, position(2, 90));
}

#[test]
fn synchronous_standbys_are_said() {
    let mut scene = Scene::new();
    scene.replica(2, replaying(100, ON_1));
    scene.primary_with(3, position(1, 100), None, true);
    assert_eq!(scene.reason(), Some(Reason::Synchronous));
    assert!(scene.health.view(scene.start).primary.synchronous);
}

#[test]
fn nobody_serves_before_the_primary_was_seen() {
    let start = Instant::now();
    let health = ShardHealth::new(1, Duration::from_secs(1));
    let mut scene = Scene { start, health };
    assert!(!scene.health.all_tried());
    scene.replica(1, replaying(100, ON_1));
    assert_eq!(scene.reason(), Some(Reason::PrimaryUnknown));
    scene.health.unreachable(0, scene.at(1), "refused".into());
    assert!(scene.health.all_tried());
    scene.primary(2, position(1, 100));
    assert_eq!(scene.reason(), None);
}
