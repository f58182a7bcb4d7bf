//! Durations folded into a histogram of microseconds. It knows no names and no clock.

use hdrhistogram::{Counter, Histogram};
use std::time::Duration;

/// Longer durations count as this: one hour.
const MICROS_MAX: u64 = 3_600_000_000;

/// Percentiles of durations. The histogram grows with the longest duration seen and no further than one hour's worth.
/// With one significant digit and 32-bit counts that is 448 bytes up to a millisecond, 1.1 KB up to a second and 1.9 KB
/// at most; with two digits and 64-bit counts 26.6 KB at most.
#[derive(Clone, Debug)]
pub struct Latency<C: Counter> {
    /// None only if the library refuses its own documented arguments; then there are counts without percentiles
    histogram: Option<Histogram<C>>,
    count: u64,
    sum_micros: u64,
    longest_micros: u64,
}

/// For one statement among many: values within 10 %.
pub type Coarse = Latency<u32>;
/// For the totals of one user: values within 1 %.
pub type Fine = Latency<u64>;

impl Latency<u32> {
    #[must_use]
    pub fn coarse() -> Self {
        Self::with_digits(1)
    }

    /// Halves the counts before 32 bits could overflow; the shape stays. Called by the sweep.
    pub fn make_room(&mut self) {
        let Some(full) = self
            .histogram
            .as_ref()
            .filter(|h| h.len() > u64::from(u32::MAX / 4))
        else {
            return;
        };
        let mut halved = Histogram::new(1).ok();
        if let Some(histogram) = &mut halved {
            for bucket in full.iter_recorded() {
                // cannot fail: an auto-resizing histogram takes any value
                let _ = histogram.record_n(bucket.value_iterated_to(), bucket.count_at_value() / 2);
            }
        }
        self.histogram = halved;
    }
}

impl Latency<u64> {
    #[must_use]
    pub fn fine() -> Self {
        Self::with_digits(2)
    }
}

impl<C: Counter> Latency<C> {
    fn with_digits(digits: u8) -> Self {
        Self {
            histogram: Histogram::new(digits).ok(),
            count: 0,
            sum_micros: 0,
            longest_micros: 0,
        }
    }

    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros())
            .unwrap_or(MICROS_MAX)
            .min(MICROS_MAX);
        if let Some(histogram) = &mut self.histogram {
            // cannot fail: an auto-resizing histogram takes any value
            let _ = histogram.record(micros);
        }
        self.count += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
        self.longest_micros = self.longest_micros.max(micros);
    }

    pub fn add(&mut self, other: &Self) {
        if let (Some(mine), Some(theirs)) = (&mut self.histogram, &other.histogram) {
            let _ = mine.add(theirs);
        }
        self.count += other.count;
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
        self.longest_micros = self.longest_micros.max(other.longest_micros);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// None when nothing was recorded.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.sum_micros
            .checked_div(self.count)
            .map(Duration::from_micros)
    }

    /// The duration that the fraction `q` (0 to 1) of all stayed within; None when nothing was recorded.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let histogram = self.histogram.as_ref().filter(|h| !h.is_empty())?;
        // the upper end of a bucket may lie above the longest duration seen
        let micros = histogram.value_at_quantile(q).min(self.longest_micros);
        Some(Duration::from_micros(micros))
    }

    /// How many durations lie in each interval that ends at one of `bounds` (ascending), then how many above the last.
    #[must_use]
    pub fn buckets(&self, bounds: &[Duration]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        for bucket in self.histogram.iter().flat_map(Histogram::iter_recorded) {
            let value = Duration::from_micros(bucket.value_iterated_to());
            counts[bounds.partition_point(|bound| *bound < value)] +=
                bucket.count_at_value().as_u64();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand<C: Counter>(mut latency: Latency<C>) -> Latency<C> {
        for ms in 1..=1000 {
            latency.record(Duration::from_millis(ms));
        }
        latency
    }

    fn within(found: Option<Duration>, expected_ms: u64, error: f64) {
        let found = found.unwrap().as_secs_f64() * 1e3;
        let expected = expected_ms as f64;
        assert!(
            (found - expected).abs() <= expected * error,
            "{found} is not {expected}"
        );
    }

    #[test]
    fn percentiles_are_as_exact_as_promised() {
        let fine = thousand(Latency::fine());
        within(fine.quantile(0.5), 500, 0.01);
        within(fine.quantile(0.99), 990, 0.01);
        within(fine.mean(), 500, 0.01);
        let coarse = thousand(Latency::coarse());
        within(coarse.quantile(0.5), 500, 0.1);
        within(coarse.quantile(0.99), 990, 0.1);
        assert_eq!(coarse.quantile(1.0), Some(Duration::from_secs(1)));
    }

    #[test]
    fn nothing_recorded_has_no_percentile() {
        assert_eq!(Latency::fine().quantile(0.5), None);
        assert_eq!(Latency::fine().mean(), None);
    }

    #[test]
    fn buckets_add_up_to_the_count() {
        let mut fine = thousand(Latency::fine());
        fine.record(Duration::from_secs(86_400));
        fine.record(Duration::ZERO);
        let bounds = [Duration::from_millis(100), Duration::from_millis(500)];
        let buckets = fine.buckets(&bounds);
        assert_eq!(buckets.iter().sum::<u64>(), fine.count());
        assert!(buckets[0].abs_diff(101) <= 2, "{buckets:?}");
    }

    #[test]
    fn a_full_histogram_is_halved_and_keeps_its_percentiles() {
        let mut coarse = thousand(Latency::coarse());
        for _ in 0..22 {
            let same = coarse.clone();
            coarse.add(&same);
        }
        let before = coarse.quantile(0.9);
        coarse.make_room();
        assert!(coarse.histogram.as_ref().unwrap().len() < u64::from(u32::MAX));
        assert_eq!(coarse.count(), 1000 << 22);
        within(
            coarse.quantile(0.9),
            before.unwrap().as_millis() as u64,
            0.1,
        );
    }
}
