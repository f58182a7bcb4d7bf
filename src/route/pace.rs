//! How long a statement's executions have lately taken and how much they brought: short ones may share a server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A statement that brings more bytes on average is not short.
const SMALL_BYTES: u32 = 16 * 1024;
/// What is assumed of a statement that was never run, or has proved longer than was thought: some twenty short
/// executions are to show otherwise.
const UNKNOWN_US: u32 = 80_000;
/// The newest execution counts for this part of the average.
const PART: u32 = 8;
/// The quickest execution is forgotten by this part of what later ones take longer.
const FORGETTING: u32 = 64;

/// Averages, kept without a lock: two executions that end at the same moment may count as one.
#[derive(Debug)]
pub struct Pace {
    micros: AtomicU32,
    least: AtomicU32,
    bytes: AtomicU32,
}

/// How long a short statement takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// with all that it waits for at its server: the processor, where many want it
    pub average: Duration,
    /// of the quickest ones lately: what it costs the server itself
    pub least: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            micros: AtomicU32::new(UNKNOWN_US),
            least: AtomicU32::new(UNKNOWN_US),
            bytes: AtomicU32::new(0),
        }
    }
}

impl Pace {
    /// One execution has ended.
    pub fn note(&self, took: Duration, bytes: usize) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        mix(&self.micros, micros.min(UNKNOWN_US * PART));
        sink(&self.least, micros.min(UNKNOWN_US));
        mix(&self.bytes, bytes.min(SMALL_BYTES * PART * PART));
    }

    /// It has failed, or proved long, where it shared a server.
    pub fn note_missed(&self) {
        self.micros.store(UNKNOWN_US, Ordering::Relaxed);
    }

    /// How long they take, where that is no longer than this on average.
    #[must_use]
    pub fn short(&self, longest: Duration) -> Option<Short> {
        let micros = |of: &AtomicU32| Duration::from_micros(of.load(Ordering::Relaxed).into());
        let average = micros(&self.micros);
        let is_short = average <= longest && self.bytes.load(Ordering::Relaxed) < SMALL_BYTES;
        is_short.then(|| Short {
            average,
            least: micros(&self.least),
        })
    }
}

fn mix(average: &AtomicU32, new: u32) {
    let old = average.load(Ordering::Relaxed);
    let mixed = old - old / PART + new / PART;
    if mixed != old {
        average.store(mixed, Ordering::Relaxed);
    }
}

fn sink(least: &AtomicU32, new: u32) {
    let old = least.load(Ordering::Relaxed);
    let next = if new < old {
        new
    } else {
        old + (new - old) / FORGETTING
    };
    if next != old {
        least.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(5);

    #[test]
    fn a_statement_is_short_after_some_short_executions_and_long_after_a_long_one() {
        let pace = Pace::default();
        assert!(pace.short(LONGEST).is_none());
        let short = Duration::from_micros(300);
        let runs = (0..100).take_while(|_| {
            pace.note(short, 100);
            pace.short(LONGEST).is_none()
        });
        assert!((10..40).contains(&runs.count()));
        pace.note(Duration::from_secs(1), 100);
        assert!(pace.short(LONGEST).is_none());
    }

    #[test]
    fn what_the_server_needs_is_told_from_what_it_waits() {
        let pace = Pace::default();
        let least = |pace: &Pace| pace.short(LONGEST).map(|short| short.least);
        for n in 0..100_u64 {
            pace.note(Duration::from_micros(50 + 10 * (n % 32)), 100);
        }
        assert!(least(&pace).is_some_and(|least| least < Duration::from_micros(150)));
        // a schema without its index: no longer what it was
        (0..1000).for_each(|_| pace.note(Duration::from_millis(3), 100));
        assert!(least(&pace).is_some_and(|least| least > Duration::from_millis(2)));
    }

    #[test]
    fn one_that_brings_much_is_not_short() {
        let pace = Pace::default();
        (0..100).for_each(|_| pace.note(Duration::from_micros(300), 100));
        assert!(pace.short(LONGEST).is_some());
        pace.note(Duration::from_micros(300), 1 << 30);
        assert!(pace.short(LONGEST).is_none());
        (0..100).for_each(|_| pace.note(Duration::from_micros(300), 20_000));
        assert!(pace.short(LONGEST).is_none());
    }
}
