//! What a sweep of a pool has to do, as a value: which idle servers are too old, how many to dial.
//! No clock, no lock, no sockets: time and the pool's counts come in as arguments.

use std::time::{Duration, Instant};

/// An idle server as upkeep sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleSince {
    pub idle_since: Instant,
    /// end of its lifetime, jitter included
    pub dies_at: Instant,
}

/// The pool's counts and limits at the time of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// servers lent or being dialled
    pub busy: usize,
    pub size_min: usize,
    pub size: usize,
    pub idle_max: Duration,
    /// when a client last had a server; `size_min` holds only while the pool is in use
    pub last_used: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Actions {
    /// indexes into the idle list, ascending
    pub close: Vec<usize>,
    /// servers to dial so that `size_min` are open
    pub dial: usize,
}

/// `idle` is ordered by last use, the longest idle first.
pub fn plan(now: Instant, idle: &[IdleSince], counts: Counts) -> Actions {
    let keep = if in_use(now, &counts) {
        counts.size_min.min(counts.size)
    } else {
        0
    };
    let mut open = counts.busy + idle.len();
    let mut close = Vec::new();
    for (index, entry) in idle.iter().enumerate() {
        let spare = open > keep;
        let unused = now.saturating_duration_since(entry.idle_since) >= counts.idle_max;
        // the end of a lifetime is final; a server that is merely unused may be one of the kept
        if now >= entry.dies_at || open > counts.size || (unused && spare) {
            close.push(index);
            open -= 1;
        }
    }
    Actions {
        close,
        dial: keep.saturating_sub(open),
    }
}

fn in_use(now: Instant, counts: &Counts) -> bool {
    counts
        .last_used
        .is_some_and(|used| now.saturating_duration_since(used) < counts.idle_max)
}

/// End of a server's life: `lifetime_max` from `born`, moved by up to ±10 % so that servers born together do not die
/// together. `roll` is in 0.0..=1.0.
pub fn dies_at(born: Instant, lifetime_max: Duration, roll: f64) -> Instant {
    let factor = 0.9 + 0.2 * roll.clamp(0.0, 1.0);
    let limit =
        Duration::try_from_secs_f64(lifetime_max.as_secs_f64() * factor).unwrap_or(lifetime_max);
    // a lifetime beyond what the clock can say is no limit
    born.checked_add(limit).unwrap_or_else(|| born + FOREVER)
}

const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn counts(last_used: Option<Instant>) -> Counts {
        Counts {
            busy: 0,
            size_min: 2,
            size: 10,
            idle_max: 10 * MINUTE,
            last_used,
        }
    }

    fn idle(since: Instant, dies_at: Instant) -> IdleSince {
        IdleSince {
            idle_since: since,
            dies_at,
        }
    }

    #[test]
    fn the_unused_are_closed_down_to_the_minimum_while_the_pool_is_used() {
        let start = Instant::now();
        let now = start + 20 * MINUTE;
        let list = [idle(start, now + MINUTE); 5];
        let used = plan(now, &list, counts(Some(now.checked_sub(MINUTE).unwrap())));
        assert_eq!(
            used,
            Actions {
                close: vec![0, 1, 2],
                dial: 0
            }
        );
        let unused = plan(now, &list, counts(Some(start)));
        assert_eq!(
            unused,
            Actions {
                close: vec![0, 1, 2, 3, 4],
                dial: 0
            }
        );
    }

    #[test]
    fn the_end_of_a_lifetime_is_final_and_refilled() {
        let start = Instant::now();
        let now = start + 5 * MINUTE;
        let list = [
            idle(now, now.checked_sub(MINUTE).unwrap()),
            idle(now, now + MINUTE),
        ];
        assert_eq!(
            plan(now, &list, counts(Some(now))),
            Actions {
                close: vec![0],
                dial: 1
            }
        );
    }

    #[test]
    fn a_pool_that_nobody_used_is_not_filled() {
        let now = Instant::now();
        assert_eq!(plan(now, &[], counts(None)), Actions::default());
        assert_eq!(plan(now, &[], counts(Some(now))).dial, 2);
    }

    #[test]
    fn a_shrunk_pool_closes_what_is_over() {
        let now = Instant::now();
        let list = [idle(now, now + MINUTE); 4];
        let shrunk = Counts {
            busy: 1,
            size: 3,
            size_min: 0,
            ..counts(Some(now))
        };
        assert_eq!(plan(now, &list, shrunk).close, vec![0, 1]);
    }

    #[test]
    fn lifetimes_differ_by_at_most_a_tenth() {
        let born = Instant::now();
        assert_eq!(dies_at(born, 10 * MINUTE, 0.0), born + 9 * MINUTE);
        assert_eq!(dies_at(born, 10 * MINUTE, 1.0), born + 11 * MINUTE);
        assert!(dies_at(born, Duration::MAX, 0.5) > born);
    }
}
