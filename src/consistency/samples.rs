//! The recent past of one primary's WAL position: the last samples, and behind them some spaced further apart.
//! It answers two questions, "which sample was first asked for after t" and "up to when does position x show everything".

use super::{Lsn, Sample, Xid};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Samples kept of each kind.
const KEPT: usize = 64;

#[derive(Debug)]
pub struct Samples {
    recent: VecDeque<Sample>,
    spaced: VecDeque<Sample>,
    spacing: Duration,
}

impl Samples {
    /// `reach`: how far back the spaced samples go, about.
    #[must_use]
    pub fn new(reach: Duration) -> Self {
        Self {
            recent: VecDeque::with_capacity(KEPT),
            spaced: VecDeque::with_capacity(KEPT),
            spacing: reach / 64,
        }
    }

    /// Another history, or a position that went back (a primary that lost unflushed WAL in a crash), forgets the past:
    /// in each list positions never fall.
    pub fn push(&mut self, sample: Sample) {
        if let Some(last) = self.latest() {
            if sample.asked_at < last.asked_at {
                return;
            }
            let (new, old) = (sample.position, last.position);
            if !new.same_history(old) || new.lsn < old.lsn || new.xid < old.xid {
                self.recent.clear();
                self.spaced.clear();
            }
        }
        let due = |last: &Sample| {
            sample.asked_at.saturating_duration_since(last.asked_at) >= self.spacing
        };
        if self.spaced.back().is_none_or(due) {
            append(&mut self.spaced, sample);
        }
        append(&mut self.recent, sample);
    }

    #[must_use]
    pub fn latest(&self) -> Option<Sample> {
        self.recent.back().copied()
    }

    /// The earliest sample known that was asked for at `t` or later.
    #[must_use]
    pub fn first_after(&self, t: Instant) -> Option<Sample> {
        let first =
            |list: &VecDeque<Sample>| list.get(list.partition_point(|s| s.asked_at < t)).copied();
        match (first(&self.spaced), first(&self.recent)) {
            (Some(a), Some(b)) => Some(if a.asked_at <= b.asked_at { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    /// Whoever has replayed up to `lsn`, or has seen every transaction below `xid` end, shows all that was committed
    /// before this moment.
    #[must_use]
    pub fn covered_until(&self, lsn: Lsn, xid: Option<Xid>) -> Option<Instant> {
        let ended = |s: &Sample| s.position.xid.is_some() && s.position.xid <= xid;
        let last = |list: &VecDeque<Sample>| {
            let past = list.partition_point(|s| s.position.lsn <= lsn || ended(s));
            past.checked_sub(1)
                .and_then(|n| list.get(n))
                .map(|s| s.asked_at)
        };
        last(&self.recent).max(last(&self.spaced))
    }
}

fn append(list: &mut VecDeque<Sample>, sample: Sample) {
    if list.len() >= KEPT {
        list.pop_front();
    }
    list.push_back(sample);
}

#[cfg(test)]
mod tests {
    use super::super::Position;
    use super::*;

    fn at(start: Instant, ms: u64, timeline: u32, lsn: u64) -> Sample {
        let position = Position {
            system_id: 1,
            timeline,
            lsn: Lsn(lsn),
            xid: None,
        };
        Sample {
            asked_at: start + Duration::from_millis(ms),
            position,
        }
    }

    #[test]
    fn finds_the_first_sample_asked_for_after() {
        let start = Instant::now();
        let mut samples = Samples::new(Duration::from_secs(64));
        for n in 0..10 {
            samples.push(at(start, n * 10, 1, 100 + n));
        }
        let after = |ms| {
            samples
                .first_after(start + Duration::from_millis(ms))
                .map(|s| s.position.lsn.0)
        };
        assert_eq!(after(0), Some(100));
        assert_eq!(after(1), Some(101));
        assert_eq!(after(90), Some(109));
        assert_eq!(after(91), None);
    }

    #[test]
    fn spaced_samples_reach_further_back() {
        let start = Instant::now();
        let mut samples = Samples::new(Duration::from_secs(64));
        for n in 0..10_000 {
            samples.push(at(start, n * 5, 1, n));
        }
        // 50 s at 200 a second; of the first seconds only one sample each is left
        let found = samples
            .first_after(start + Duration::from_millis(1_001))
            .unwrap();
        assert_eq!(found.position.lsn.0, 400);
        assert_eq!(
            samples.covered_until(Lsn(450), None),
            Some(start + Duration::from_secs(2))
        );
        assert_eq!(
            samples.covered_until(Lsn(9_990), None),
            Some(start + Duration::from_millis(49_950))
        );
        assert!(samples.recent.len() <= KEPT && samples.spaced.len() <= KEPT);
    }

    #[test]
    fn another_history_or_a_fallen_position_forgets_the_past() {
        let start = Instant::now();
        let mut samples = Samples::new(Duration::from_secs(1));
        samples.push(at(start, 0, 1, 500));
        samples.push(at(start, 1, 2, 400));
        assert_eq!(samples.first_after(start).unwrap().position.timeline, 2);
        samples.push(at(start, 2, 2, 300));
        assert_eq!(samples.covered_until(Lsn(299), None), None);
        assert_eq!(samples.first_after(start).unwrap().position.lsn, Lsn(300));
    }

    #[test]
    fn a_late_answer_is_ignored() {
        let start = Instant::now();
        let mut samples = Samples::new(Duration::from_secs(1));
        samples.push(at(start, 5, 1, 500));
        samples.push(at(start, 4, 1, 600));
        assert_eq!(samples.latest().unwrap().position.lsn, Lsn(500));
    }
}
