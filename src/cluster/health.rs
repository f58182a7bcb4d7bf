//! What is known of one shard's servers, folded from what the samplers report and the data plane finds: roles, histories,
//! lag, circuit breakers. A value without clock and sockets; it makes the view by which reads are placed.

use crate::consistency::{
    Lsn, Position, PrimaryView, ReplicaView, Sample, Samples, ShardView, Xid,
};
use std::fmt;
use std::time::{Duration, Instant};

/// A primary's answer.
#[derive(Clone, Debug)]
pub struct PrimaryReport {
    /// before the question was sent
    pub asked_at: Instant,
    pub state: PrimaryState,
}

#[derive(Clone, Debug)]
pub enum PrimaryState {
    Writing {
        position: Position,
        /// hash of the timeline's history file, where it may be read
        fork: Option<u64>,
        /// `synchronous_standby_names` is set
        synchronous: bool,
    },
    /// it is a standby
    InRecovery,
}

/// A replica's answer.
#[derive(Clone, Debug)]
pub struct ReplicaReport {
    /// before the question was sent, and after the answer came
    pub asked_at: Instant,
    pub answered_at: Instant,
    /// the same connection has answered since: the server was not restarted
    pub since: Instant,
    pub system_id: u64,
    pub state: ReplicaState,
}

#[derive(Clone, Debug)]
pub enum ReplicaState {
    Replaying {
        /// None where the server does not tell
        lsn: Option<Lsn>,
        /// below it every transaction has ended
        xid: Option<Xid>,
        receiver: Receiver,
        /// hash of the timeline's history file, where it may be read
        fork: Option<u64>,
        paused: bool,
    },
    /// it is not a standby
    Writing,
}

/// The replica's own replication connection: the only one that knows its timeline for sure (hazard 17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    None,
    /// the control user may not look
    Hidden,
    Timeline(u32),
}

/// Why a server does not serve what its role promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    NotSampled,
    Unreachable(String),
    Failed,
    PrimaryInRecovery,
    TimelineReplaced { its: u32, newer: u32 },
    Synchronous,
    ReplicaWriting,
    PrimaryUnknown,
    OtherSystem,
    OtherTimeline { its: u32, primary: u32 },
    OtherFork(u32),
    AheadOfPrimary,
    NoPosition,
    NotStreaming,
    TimelineHidden,
    Behind,
    BehindPaused,
}

impl Reason {
    /// Worth a line in the log. Lag, and what comes and goes with it, is not.
    #[must_use]
    pub fn is_news(&self) -> bool {
        !matches!(
            self,
            Self::NotSampled | Self::PrimaryUnknown | Self::Behind | Self::BehindPaused
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Unreachable(why) => return write!(f, "unreachable: {why}"),
            Self::TimelineReplaced { its, newer } => {
                return write!(f, "on timeline {its}, which timeline {newer} has replaced");
            }
            Self::OtherTimeline { its, primary } => {
                return write!(f, "on timeline {its}, its primary on {primary}");
            }
            Self::OtherFork(timeline) => {
                return write!(
                    f,
                    "its timeline {timeline} is another fork than its primary's"
                );
            }
            Self::NotSampled => "not asked yet",
            Self::Failed => "a connection failed; waiting for a good sample",
            Self::PrimaryInRecovery => "the primary is in recovery: writes will fail",
            Self::Synchronous => {
                "synchronous_standby_names is set: sessions read from the primary (levels eventual and bounded may use replicas)"
            }
            Self::ReplicaWriting => "not in recovery: not a replica, not read",
            Self::PrimaryUnknown => "its primary has not been seen yet",
            Self::OtherSystem => {
                "a replica of another system (its system identifier differs), not read"
            }
            Self::AheadOfPrimary => "ahead of its primary: another history, not read",
            Self::NoPosition => "it does not tell its replay position",
            Self::NotStreaming => {
                "not streaming: its timeline is in doubt, only level eventual reads it"
            }
            Self::TimelineHidden => {
                "its timeline is hidden: grant pg_monitor to the control user; only level eventual reads it"
            }
            Self::Behind => "further behind than lag_max, not read",
            Self::BehindPaused => "replay is paused, further behind than lag_max, not read",
        };
        f.write_str(text)
    }
}

/// What the console shows of a server.
#[derive(Clone, Debug)]
pub struct Standing {
    pub up: bool,
    pub lsn: Option<Lsn>,
    pub lag_bytes: Option<u64>,
    pub lag: Option<Duration>,
    pub sampled_at: Option<Instant>,
    pub reason: Option<Reason>,
}

/// One shard's servers.
#[derive(Debug)]
pub struct ShardHealth {
    lag_max: Duration,
    samples: Samples,
    primary: Primary,
    replicas: Vec<Replica>,
}

/// Reachable or not, with the rule of the circuit breaker: only an answer asked for after the failure closes it.
#[derive(Debug, Default)]
struct Breaker {
    answered: Option<Instant>,
    failure: Option<(Instant, Reason)>,
}

#[derive(Debug, Default)]
struct Primary {
    breaker: Breaker,
    fork: Option<u64>,
    synchronous: bool,
    fault: Option<Reason>,
}

#[derive(Debug, Default)]
struct Replica {
    breaker: Breaker,
    last: Option<ReplicaReport>,
    /// timeline of the last answer, when it is sure
    timeline: Option<u32>,
    covered_until: Option<Instant>,
    lag: Option<Duration>,
    ahead: bool,
}

impl Breaker {
    fn succeed(&mut self, asked_at: Instant) -> bool {
        if self.failure.as_ref().is_some_and(|(at, _)| asked_at < *at) {
            return false;
        }
        self.failure = None;
        self.answered = Some(asked_at);
        true
    }

    fn fail(&mut self, at: Instant, reason: Reason) {
        // what was found later, and was good, stands
        if self.answered.is_none_or(|answered| answered <= at) {
            self.failure = Some((at, reason));
        }
    }

    fn fault(&self) -> Option<Reason> {
        match (&self.failure, self.answered) {
            (Some((_, reason)), _) => Some(reason.clone()),
            (None, None) => Some(Reason::NotSampled),
            (None, Some(_)) => None,
        }
    }

    fn tried(&self) -> bool {
        self.failure.is_some() || self.answered.is_some()
    }
}

impl ShardHealth {
    #[must_use]
    pub fn new(replicas: usize, lag_max: Duration) -> Self {
        Self {
            lag_max,
            // a replica further behind is not read: older samples serve nothing
            samples: Samples::new(lag_max.saturating_mul(2).max(Duration::from_secs(1))),
            primary: Primary::default(),
            replicas: (0..replicas).map(|_| Replica::default()).collect(),
        }
    }

    #[must_use]
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    pub fn primary_report(&mut self, report: PrimaryReport) {
        if !self.primary.breaker.succeed(report.asked_at) {
            return;
        }
        match report.state {
            PrimaryState::InRecovery => self.primary.fault = Some(Reason::PrimaryInRecovery),
            PrimaryState::Writing {
                position,
                fork,
                synchronous,
            } => {
                self.primary.synchronous = synchronous;
                self.primary.fault = self.replaced(position);
                if self.primary.fault.is_none() {
                    self.primary.fork = fork;
                    self.take_sample(Sample {
                        asked_at: report.asked_at,
                        position,
                    });
                }
            }
        }
    }

    /// A primary that comes back with an older timeline was replaced while it was away: an ancestor loses (hazard 17).
    fn replaced(&self, position: Position) -> Option<Reason> {
        let known = self.samples.latest()?.position;
        let older = known.system_id == position.system_id && position.timeline < known.timeline;
        older.then_some(Reason::TimelineReplaced {
            its: position.timeline,
            newer: known.timeline,
        })
    }

    fn take_sample(&mut self, sample: Sample) {
        self.samples.push(sample);
        for replica in &mut self.replicas {
            replica.compare(sample);
            replica.measure(&self.samples);
            if replica.lag.is_none() {
                replica.measure_lag(&self.samples);
            }
        }
    }

    /// `member` counts from 1.
    pub fn replica_report(&mut self, member: u16, report: ReplicaReport) {
        let samples = &self.samples;
        let Some(replica) = replica_mut(&mut self.replicas, member) else {
            return;
        };
        if !replica.breaker.succeed(report.asked_at) {
            return;
        }
        replica.take(report);
        replica.measure(samples);
        replica.measure_lag(samples);
    }

    /// No answer to what was asked at this moment.
    pub fn unreachable(&mut self, member: u16, asked_at: Instant, why: String) {
        self.fail(member, asked_at, Reason::Unreachable(why));
    }

    /// The data plane could not connect: not used until an answer asked for after this moment.
    pub fn mark_failed(&mut self, member: u16, at: Instant) {
        self.fail(member, at, Reason::Failed);
    }

    fn fail(&mut self, member: u16, at: Instant, reason: Reason) {
        if member == 0 {
            self.primary.breaker.fail(at, reason);
        } else if let Some(replica) = replica_mut(&mut self.replicas, member) {
            replica.breaker.fail(at, reason);
        }
    }

    /// True when every server has answered, or failed to.
    #[must_use]
    pub fn all_tried(&self) -> bool {
        self.primary.breaker.tried() && self.replicas.iter().all(|r| r.breaker.tried())
    }

    #[must_use]
    pub fn view(&self, now: Instant) -> ShardView {
        ShardView {
            primary: PrimaryView {
                up: self.primary_fault().is_none(),
                latest: self.samples.latest(),
                synchronous: self.primary.synchronous,
            },
            replicas: self
                .replicas
                .iter()
                .map(|r| self.replica_view(r, now))
                .collect(),
        }
    }

    fn replica_view(&self, replica: &Replica, now: Instant) -> ReplicaView {
        let verdict = self.judge(replica);
        ReplicaView {
            readable: verdict.readable,
            proven: verdict.proven,
            proven_at: replica.last.as_ref().map_or(now, |r| r.asked_at),
            since: replica.last.as_ref().map_or(now, |r| r.since),
            covered_until: replica.covered_until,
            lag: replica.lag,
        }
    }

    fn primary_fault(&self) -> Option<Reason> {
        self.primary
            .breaker
            .fault()
            .or_else(|| self.primary.fault.clone())
    }

    /// What may be read here, and if not everything, why.
    fn judge(&self, replica: &Replica) -> Verdict {
        if let Some(reason) = replica.breaker.fault() {
            return Verdict::unreadable(reason);
        }
        let Some(last) = &replica.last else {
            return Verdict::unreadable(Reason::NotSampled);
        };
        let ReplicaState::Replaying {
            lsn,
            xid,
            receiver,
            fork,
            paused,
        } = last.state
        else {
            return Verdict::unreadable(Reason::ReplicaWriting);
        };
        let Some(latest) = self.samples.latest() else {
            return Verdict::unreadable(Reason::PrimaryUnknown);
        };
        let Some(lsn) = lsn else {
            return Verdict::unreadable(Reason::NoPosition);
        };
        if let Some(reason) = self.stranger(replica, last.system_id, fork, latest.position) {
            return Verdict::unreadable(reason);
        }
        if replica.lag.is_none_or(|lag| lag > self.lag_max) {
            let reason = if paused {
                Reason::BehindPaused
            } else {
                Reason::Behind
            };
            return Verdict::unreadable(reason);
        }
        match replica.timeline {
            Some(timeline) => Verdict {
                readable: true,
                proven: Some(Position {
                    system_id: last.system_id,
                    timeline,
                    lsn,
                    xid,
                }),
                reason: self.primary.synchronous.then_some(Reason::Synchronous),
            },
            None => Verdict {
                readable: true,
                proven: None,
                reason: Some(match receiver {
                    Receiver::Hidden => Reason::TimelineHidden,
                    _ => Reason::NotStreaming,
                }),
            },
        }
    }

    /// Not a replica of this primary, or no longer on its history.
    fn stranger(
        &self,
        replica: &Replica,
        system_id: u64,
        fork: Option<u64>,
        primary: Position,
    ) -> Option<Reason> {
        if system_id != primary.system_id {
            return Some(Reason::OtherSystem);
        }
        let timeline = replica.timeline.unwrap_or(primary.timeline);
        if timeline != primary.timeline {
            return Some(Reason::OtherTimeline {
                its: timeline,
                primary: primary.timeline,
            });
        }
        // equal numbers are not enough: two servers may both have been promoted to the same one
        let differs = matches!((fork, self.primary.fork), (Some(a), Some(b)) if a != b);
        if differs {
            return Some(Reason::OtherFork(timeline));
        }
        replica.ahead.then_some(Reason::AheadOfPrimary)
    }

    /// The primary first.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let fault = self.primary_fault();
        let latest = self.samples.latest();
        let primary = Standing {
            up: fault.is_none(),
            lsn: latest.map(|s| s.position.lsn),
            lag_bytes: None,
            lag: None,
            sampled_at: self.primary.breaker.answered,
            reason: fault,
        };
        let replicas = self.replicas.iter().map(|r| self.standing(r, latest));
        std::iter::once(primary).chain(replicas).collect()
    }

    fn standing(&self, replica: &Replica, latest: Option<Sample>) -> Standing {
        let lsn = replica.lsn();
        let behind = |(lsn, sample): (Lsn, Sample)| sample.position.lsn.0.saturating_sub(lsn.0);
        Standing {
            up: replica.breaker.fault().is_none(),
            lsn,
            lag_bytes: lsn.zip(latest).map(behind),
            lag: replica.lag,
            sampled_at: replica.breaker.answered,
            reason: self.judge(replica).reason,
        }
    }
}

struct Verdict {
    readable: bool,
    proven: Option<Position>,
    reason: Option<Reason>,
}

impl Verdict {
    fn unreadable(reason: Reason) -> Self {
        Self {
            readable: false,
            proven: None,
            reason: Some(reason),
        }
    }
}

impl Replica {
    fn lsn(&self) -> Option<Lsn> {
        match self.last.as_ref()?.state {
            ReplicaState::Replaying { lsn, .. } => lsn,
            ReplicaState::Writing => None,
        }
    }

    fn xid(&self) -> Option<Xid> {
        match self.last.as_ref()?.state {
            ReplicaState::Replaying { xid, .. } => xid,
            ReplicaState::Writing => None,
        }
    }

    fn take(&mut self, report: ReplicaReport) {
        let before = self.last.as_ref().map(|r| r.since).zip(self.lsn());
        let sure = self.timeline;
        self.last = Some(report);
        let now = self.last.as_ref().map(|r| r.since).zip(self.lsn());
        let receiver = match self.last.as_ref().map(|r| &r.state) {
            Some(ReplicaState::Replaying { receiver, .. }) => *receiver,
            _ => Receiver::None,
        };
        self.timeline = match receiver {
            Receiver::Timeline(timeline) => Some(timeline),
            // a server that has not replayed a byte since its timeline was sure is still on it
            Receiver::None if before == now => sure,
            _ => None,
        };
        let onward = before
            .zip(now)
            .is_some_and(|(b, n)| b.0 == n.0 && n.1 >= b.1);
        if !onward {
            self.covered_until = None;
        }
    }

    /// Asked for after the replica's answer, a primary of the same history cannot be behind it.
    fn compare(&mut self, sample: Sample) {
        if let (Some(last), Some(lsn)) = (&self.last, self.lsn())
            && last.answered_at <= sample.asked_at
        {
            self.ahead = lsn > sample.position.lsn;
        }
    }

    fn measure(&mut self, samples: &Samples) {
        if let Some(lsn) = self.lsn() {
            let covered = samples.covered_until(lsn, self.xid());
            self.covered_until = self.covered_until.max(covered);
        }
    }

    /// Zero when everything known of the primary is shown; else the age of the oldest thing that may be missing.
    fn measure_lag(&mut self, samples: &Samples) {
        let ended = |latest: Position| latest.xid.is_some() && self.xid() >= latest.xid;
        let caught_up = self
            .lsn()
            .zip(samples.latest().map(|sample| sample.position))
            .is_some_and(|(lsn, latest)| lsn >= latest.lsn || ended(latest));
        self.lag = match (&self.last, self.covered_until) {
            _ if caught_up => Some(Duration::ZERO),
            (Some(last), Some(until)) => Some(last.asked_at.saturating_duration_since(until)),
            _ => None,
        };
    }
}

fn replica_mut(replicas: &mut [Replica], member: u16) -> Option<&mut Replica> {
    replicas.get_mut(usize::from(member).checked_sub(1)?)
}

#[cfg(test)]
mod tests;
