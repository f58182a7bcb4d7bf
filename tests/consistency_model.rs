//! Read-your-writes and monotonic reads against a simulated shard: a primary, replicas that replay late, restart and lose
//! ground, a failover that loses writes, samplers whose answers travel, sessions of their own and sessions that share a
//! name. Whatever the order of events, no read may miss what its session wrote or was shown; and when all is quiet,
//! reads return to the replicas. Needs no server.

use pgshunt::cluster::health::{
    PrimaryReport, PrimaryState, Receiver, ReplicaReport, ReplicaState, ShardHealth,
};
use pgshunt::consistency::choice::Question;
use pgshunt::consistency::{Level, Lsn, Position, Watermarks, Xid};
use pgshunt::shard::ShardId;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const REPLICAS: usize = 2;
/// 0 and 1 share a name, 2 is on its own
const SESSIONS: usize = 3;
const S1: ShardId = ShardId(0);

#[derive(Clone, Debug)]
enum Event {
    Tick(u64),
    OthersWrite,
    Noise,
    Write(usize),
    StartWrite(usize),
    EndWrite(usize),
    Read(usize, Level),
    StartRead(usize, Level),
    RunRead(usize),
    EndRead(usize),
    Replay(usize, usize),
    SampleAll,
    Sample(usize),
    Ask(usize),
    Answer(usize),
    Deliver(usize),
    MarkFailed(usize),
    Restart(usize, usize),
    Rebuild(usize),
    Failover(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let session = 0..SESSIONS;
    let level = prop_oneof![5 => Just(Level::Session), 1 => Just(Level::Eventual)];
    let read = (session.clone(), level);
    let member = 0..=REPLICAS;
    let replica = 0..REPLICAS;
    prop_oneof![
        4 => (1..20u64).prop_map(Event::Tick),
        12 => Just(Event::OthersWrite),
        6 => Just(Event::Noise),
        4 => session.clone().prop_map(Event::Write),
        2 => session.clone().prop_map(Event::StartWrite),
        2 => session.clone().prop_map(Event::EndWrite),
        60 => read.clone().prop_map(|(s, l)| Event::Read(s, l)),
        4 => read.prop_map(|(s, l)| Event::StartRead(s, l)),
        4 => session.clone().prop_map(Event::RunRead),
        6 => session.prop_map(Event::EndRead),
        20 => (replica.clone(), 1..12usize).prop_map(|(r, n)| Event::Replay(r, n)),
        20 => Just(Event::SampleAll),
        20 => member.clone().prop_map(Event::Sample),
        2 => member.clone().prop_map(Event::Ask),
        2 => member.clone().prop_map(Event::Answer),
        2 => member.clone().prop_map(Event::Deliver),
        1 => member.prop_map(Event::MarkFailed),
        2 => (replica.clone(), 0..6usize).prop_map(|(r, n)| Event::Restart(r, n)),
        1 => replica.prop_map(Event::Rebuild),
        1 => (0..5usize).prop_map(Event::Failover),
    ]
}

/// Commits by number, in the order of the WAL; the position is the length, which also counts records that commit nothing.
type Log = Vec<u64>;

/// A record that commits nothing.
const NOISE: u64 = 0;

/// One more than the last transaction that has ended: they end in the order of their numbers here.
fn xid_of(log: &Log) -> Xid {
    Xid(log.iter().max().map_or(0, |last| last + 1))
}

#[derive(Clone, Default)]
struct Server {
    log: Log,
    timeline: u32,
    /// restarts; a connection belongs to one life
    life: u32,
}

#[derive(Default)]
struct Sampler {
    /// the life its connection belongs to, and since when
    link: Option<(u32, Instant)>,
    asked: Option<Instant>,
    answered: Option<(Instant, Instant, Server)>,
}

struct Read {
    level: Level,
    member: usize,
    /// the life the connection belongs to
    life: u32,
    must_show: BTreeSet<u64>,
    shown: Option<Log>,
}

#[derive(Default)]
struct Session {
    read: Option<Read>,
    /// a write that is committed but not acknowledged
    writing: Option<u64>,
    /// per replica: when its connection was opened, in which life
    connections: [Option<(Instant, u32)>; REPLICAS],
}

struct World {
    now: Instant,
    commits: u64,
    /// the primary first
    servers: Vec<Server>,
    samplers: Vec<Sampler>,
    health: ShardHealth,
    sessions: Vec<Session>,
    /// by name: 0 is shared
    marks: Vec<Watermarks>,
    /// what each name wrote, with acknowledgement, or was shown
    owed: Vec<BTreeSet<u64>>,
    on_replicas: usize,
    dice: u64,
    calm: bool,
}

fn name_of(session: usize) -> usize {
    session.saturating_sub(1)
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let server = Server {
            timeline: 1,
            ..Server::default()
        };
        let names = name_of(SESSIONS - 1) + 1;
        let unknown = |n| {
            let marks = Watermarks::unknown(1, now);
            if n == 0 { marks.shared() } else { marks }
        };
        Self {
            now,
            commits: 0,
            servers: vec![server; REPLICAS + 1],
            samplers: (0..=REPLICAS).map(|_| Sampler::default()).collect(),
            health: ShardHealth::new(REPLICAS, Duration::from_secs(3600)),
            sessions: (0..SESSIONS).map(|_| Session::default()).collect(),
            marks: (0..names).map(unknown).collect(),
            owed: vec![BTreeSet::new(); names],
            on_replicas: 0,
            dice: 0,
            calm: false,
        }
    }

    fn handle(&mut self, event: &Event) {
        // time moves between any two events, if only a little
        self.now += Duration::from_micros(1);
        match *event {
            Event::Tick(ms) => self.now += Duration::from_millis(ms),
            Event::OthersWrite => {
                self.commit();
            }
            Event::Noise => self.servers[0].log.push(NOISE),
            Event::Write(s) => {
                self.start_write(s);
                self.now += Duration::from_micros(1);
                self.end_write(s);
            }
            Event::StartWrite(s) => self.start_write(s),
            Event::EndWrite(s) => self.end_write(s),
            Event::Read(s, level) => {
                self.start_read(s, level);
                self.now += Duration::from_micros(1);
                self.end_read(s);
            }
            Event::StartRead(s, level) => self.start_read(s, level),
            Event::RunRead(s) => self.run_read(s),
            Event::EndRead(s) => self.end_read(s),
            Event::Replay(r, n) => self.replay(r + 1, n),
            Event::SampleAll => (0..=REPLICAS).for_each(|m| self.sample(m)),
            Event::Sample(m) => self.sample(m),
            Event::Ask(m) => self.ask(m),
            Event::Answer(m) => self.answer(m),
            Event::Deliver(m) => self.deliver(m),
            Event::MarkFailed(m) => self.health.mark_failed(m as u16, self.now),
            Event::Restart(r, lost) => self.restart(r + 1, lost),
            Event::Rebuild(r) => self.rebuild(r + 1),
            Event::Failover(lost) => self.failover(lost),
        }
    }

    fn commit(&mut self) -> u64 {
        self.commits += 1;
        self.servers[0].log.push(self.commits);
        self.commits
    }

    fn is_idle(&self, session: usize) -> bool {
        self.sessions[session].read.is_none() && self.sessions[session].writing.is_none()
    }

    fn start_write(&mut self, session: usize) {
        if self.is_idle(session) {
            self.sessions[session].writing = Some(self.commit());
        }
    }

    fn end_write(&mut self, session: usize) {
        if let Some(commit) = self.sessions[session].writing.take() {
            let name = name_of(session);
            self.marks[name].note_write(S1, self.now);
            self.owed[name].insert(commit);
        }
    }

    fn start_read(&mut self, session: usize, level: Level) {
        if !self.is_idle(session) {
            return;
        }
        let member = self.choose(session, level);
        let name = name_of(session);
        self.sessions[session].read = Some(Read {
            level,
            member,
            life: self.servers[member].life,
            must_show: self.owed[name].clone(),
            shown: None,
        });
    }

    /// As the data plane does it: the choice, then a connection, which may be too new for it.
    fn choose(&mut self, session: usize, level: Level) -> usize {
        // loads change all the time, so that sessions change replicas
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let dice = if self.calm { 0 } else { self.dice >> 40 };
        let mark = self.marks[name_of(session)].mark_mut(S1).unwrap();
        let question = Question {
            level,
            now: self.now,
            first_after: |t| self.health.samples().first_after(t),
            load: |member| usize::from((dice >> member) & 1 == 1),
            coin: |_| 0,
        };
        let choice = self.health.view(self.now).choose(mark, question);
        let member = usize::from(choice.member);
        if member == 0 {
            return 0;
        }
        let life = self.servers[member].life;
        let connection = &mut self.sessions[session].connections[member - 1];
        if connection.is_none_or(|(_, its)| its != life) {
            *connection = Some((self.now, life));
        }
        let opened = connection.unwrap().0;
        let admitted = choice.proven_at.is_some_and(|at| opened <= at);
        if admitted || level == Level::Eventual {
            member
        } else {
            0
        }
    }

    fn run_read(&mut self, session: usize) {
        let Some(read) = &mut self.sessions[session].read else {
            return;
        };
        if read.shown.is_some() {
            return;
        }
        if self.servers[read.member].life != read.life {
            // the connection is gone: run again on the primary
            read.member = 0;
        }
        let server = &self.servers[read.member];
        read.shown = Some(server.log.clone());
        // what a failover lost is nowhere to be seen
        let primary: BTreeSet<_> = self.servers[0].log.iter().collect();
        let missed = |id: &&u64| **id != NOISE && primary.contains(id) && !server.log.contains(id);
        if read.level == Level::Session {
            let missed: Vec<_> = read.must_show.iter().filter(missed).collect();
            assert!(
                missed.is_empty(),
                "server {} misses {missed:?}",
                read.member
            );
            self.on_replicas += usize::from(read.member != 0);
        }
    }

    fn end_read(&mut self, session: usize) {
        self.run_read(session);
        if let Some(read) = self.sessions[session].read.take() {
            let name = name_of(session);
            self.marks[name].note_read(S1, read.member as u16, self.now);
            self.owed[name].extend(read.shown.unwrap_or_default());
        }
    }

    /// A replica follows its primary only while it has replayed nothing that the primary does not have.
    fn replay(&mut self, member: usize, count: usize) {
        let (primary, replicas) = self.servers.split_at_mut(1);
        let (primary, replica) = (&primary[0], &mut replicas[member - 1]);
        let have = replica.log.len();
        if primary.log.get(..have) == Some(&replica.log[..]) {
            replica.timeline = primary.timeline;
            let more = primary.log[have..].iter().take(count);
            replica.log.extend(more);
        }
    }

    fn restart(&mut self, member: usize, lost: usize) {
        let server = &mut self.servers[member];
        server.life += 1;
        server.log.truncate(server.log.len().saturating_sub(lost));
    }

    fn rebuild(&mut self, member: usize) {
        let mut copy = self.servers[0].clone();
        copy.life = self.servers[member].life + 1;
        self.servers[member] = copy;
    }

    /// A standby without the last commits takes over, on a new timeline.
    fn failover(&mut self, lost: usize) {
        let primary = &mut self.servers[0];
        primary.log.truncate(primary.log.len().saturating_sub(lost));
        primary.timeline += 1;
        primary.life += 1;
    }

    fn ask(&mut self, member: usize) {
        let life = self.servers[member].life;
        let sampler = &mut self.samplers[member];
        if sampler.asked.is_some() || sampler.answered.is_some() {
            return;
        }
        match sampler.link {
            Some((its, _)) if its != life => {
                sampler.link = None;
                self.health
                    .unreachable(member as u16, self.now, "gone".into());
            }
            Some(_) => sampler.asked = Some(self.now),
            None => {
                sampler.link = Some((life, self.now));
                sampler.asked = Some(self.now);
            }
        }
    }

    fn answer(&mut self, member: usize) {
        let sampler = &mut self.samplers[member];
        let Some(asked_at) = sampler.asked.take() else {
            return;
        };
        let server = self.servers[member].clone();
        if sampler.link.is_some_and(|(life, _)| life == server.life) {
            sampler.answered = Some((asked_at, self.now, server));
        } else {
            sampler.link = None;
            self.health
                .unreachable(member as u16, asked_at, "gone".into());
        }
    }

    fn deliver(&mut self, member: usize) {
        let sampler = &mut self.samplers[member];
        let (Some((asked_at, answered_at, server)), Some((_, since))) =
            (sampler.answered.take(), sampler.link)
        else {
            return;
        };
        let lsn = Lsn(server.log.len() as u64);
        if member == 0 {
            let position = Position {
                system_id: 1,
                timeline: server.timeline,
                lsn,
                xid: Some(xid_of(&server.log)),
            };
            let state = PrimaryState::Writing {
                position,
                fork: None,
                synchronous: false,
            };
            self.health
                .primary_report(PrimaryReport { asked_at, state });
            return;
        }
        let state = ReplicaState::Replaying {
            lsn: Some(lsn),
            xid: Some(xid_of(&server.log)),
            receiver: Receiver::Timeline(server.timeline),
            fork: None,
            paused: false,
        };
        let report = ReplicaReport {
            asked_at,
            answered_at,
            since,
            system_id: 1,
            state,
        };
        self.health.replica_report(member as u16, report);
    }

    fn sample(&mut self, member: usize) {
        for event in [
            Event::Ask(member),
            Event::Answer(member),
            Event::Deliver(member),
        ] {
            self.handle(&event);
        }
    }

    /// Everything ends, replicas catch up, samples come: who serves?
    fn calm_down(&mut self) -> Vec<usize> {
        self.calm = true;
        for session in 0..SESSIONS {
            self.handle(&Event::EndRead(session));
            self.handle(&Event::EndWrite(session));
        }
        for replica in 0..REPLICAS {
            self.handle(&Event::Rebuild(replica));
        }
        // what is under way ends, and a connection that is gone is opened again
        (0..4).for_each(|_| self.sample(0));
        // a failover is learned at the first choice: from there on the session starts again
        // and a connection that is opened then serves after the next sample
        for _ in 0..6 {
            for session in 0..SESSIONS {
                self.choose(session, Level::Session);
            }
            (0..=REPLICAS).for_each(|member| self.sample(member));
        }
        (0..SESSIONS)
            .map(|session| self.choose(session, Level::Session))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_read_misses_what_its_session_wrote_or_saw(
        events in prop::collection::vec(event(), 1..200)
    ) {
        let mut world = World::new();
        for event in &events {
            world.handle(event);
        }
        let serving = world.calm_down();
        prop_assert!(serving.iter().all(|member| *member != 0), "{serving:?}");
    }
}

/// The model is worth nothing if its replicas never serve.
#[test]
fn replicas_serve_in_the_model() {
    let mut world = World::new();
    world.calm = true;
    for round in 0..50 {
        for session in 0..SESSIONS {
            world.handle(&Event::StartWrite(session));
            world.handle(&Event::EndWrite(session));
        }
        (0..REPLICAS).for_each(|r| world.handle(&Event::Replay(r, 100)));
        (0..=REPLICAS).for_each(|m| world.sample(m));
        for session in 0..SESSIONS {
            world.handle(&Event::StartRead(session, Level::Session));
            world.handle(&Event::EndRead(session));
        }
        assert!(round == 0 || world.on_replicas > 0);
    }
    assert!(world.on_replicas >= 48 * SESSIONS, "{}", world.on_replicas);
}
