//! Histograms a shard records without a lock and hands over once per tick.
//!
//! The recording half belongs to the shard. At a tick it adds what it gathered to the shared
//! half, unless a scrape holds that at the moment: then it keeps it until the next tick, so a
//! shard never waits for a scrape.

use hdrhistogram::Histogram;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Longest latency told apart: 60 s. Longer ones count as this one.
pub const LATENCY_US_MAX: u64 = 60_000_000;
/// Largest batch told apart, in messages. Larger ones count as this one.
pub const BATCH_MESSAGES_MAX: u64 = 1 << 20;
/// Two digits keep a histogram of 1 µs..60 s at 20 KiB and are exact up to 255.
const SIGNIFICANT_DIGITS: u8 = 2;

/// Upper bounds of the exposed latency buckets, in microseconds; `+Inf` follows.
pub const LATENCY_BUCKETS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Upper bounds of the exposed batch size buckets, in messages; `+Inf` follows.
pub const BATCH_BUCKETS: [u64; 15] =
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384];

/// An HDR histogram with the exact sum of what was recorded.
#[derive(Debug)]
struct Recording {
    histogram: Histogram<u64>,
    sum: u64,
}

impl Recording {
    fn new(value_max: u64) -> Self {
        // Fails only for a maximum below 2 or more than 5 digits.
        let histogram = Histogram::new_with_bounds(1, value_max, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants and valid");
        Self { histogram, sum: 0 }
    }

    #[inline]
    fn record(&mut self, value: u64, count: u64) {
        self.histogram.saturating_record_n(value, count);
        self.sum = self.sum.wrapping_add(value.wrapping_mul(count));
    }

    fn hand_over(&mut self, shared: &SharedHistogram) -> bool {
        if self.histogram.is_empty() {
            return true;
        }
        let mut total = match shared.0.try_lock() {
            Ok(total) => total,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        // Fails only for a value beyond the bounds, and both have the same.
        total.histogram.add(&self.histogram).expect("both halves have the same bounds");
        total.sum = total.sum.wrapping_add(self.sum);
        self.histogram.reset();
        self.sum = 0;
        true
    }
}

/// The half of a histogram that is read: everything handed over since the start.
#[derive(Debug)]
pub struct SharedHistogram(Mutex<Recording>);

/// A histogram as Prometheus wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Sum of all values recorded.
    pub sum: u64,
    /// Number of values recorded.
    pub count: u64,
    /// Values in each bucket (not cumulated); one more than there are bounds, for `+Inf`.
    pub counts: Vec<u64>,
}

impl SharedHistogram {
    /// Sorts everything handed over so far into buckets with the upper `bounds`. A value is
    /// placed within 1 % of itself.
    #[must_use]
    pub fn buckets(&self, bounds: &[u64]) -> Buckets {
        let total: MutexGuard<'_, Recording> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = vec![0; bounds.len() + 1];
        for step in total.histogram.iter_recorded() {
            let value = total.histogram.lowest_equivalent(step.value_iterated_to());
            let bucket = bounds.partition_point(|bound| *bound < value);
            counts[bucket] += step.count_since_last_iteration();
        }
        Buckets { sum: total.sum, count: total.histogram.len(), counts }
    }

    /// The value below which the share `quantile` (0..=1) of all values lies.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        let total = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        total.histogram.value_at_quantile(quantile)
    }
}

/// Time from a PUBLISH read to its batch confirmed: the shard's half.
#[derive(Debug)]
pub struct Latency(Recording);

impl Latency {
    /// An empty histogram. Allocates now, so that recording never does.
    #[must_use]
    pub fn new() -> Self {
        Self(Recording::new(LATENCY_US_MAX))
    }

    /// Records that `count` messages took `latency_us` each.
    #[inline]
    pub fn record_us(&mut self, latency_us: u64, count: u64) {
        self.0.record(latency_us, count);
    }

    /// Hands what was recorded to `shared`; says whether that was done. Otherwise it is kept.
    pub fn hand_over(&mut self, shared: &SharedHistogram) -> bool {
        self.0.hand_over(shared)
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

/// Messages per batch: the shard's half.
#[derive(Debug)]
pub struct BatchSizes(Recording);

impl BatchSizes {
    /// An empty histogram. Allocates now, so that recording never does.
    #[must_use]
    pub fn new() -> Self {
        Self(Recording::new(BATCH_MESSAGES_MAX))
    }

    /// Records a batch of that many messages.
    #[inline]
    pub fn record(&mut self, messages: u64) {
        self.0.record(messages, 1);
    }

    /// Hands what was recorded to `shared`; says whether that was done. Otherwise it is kept.
    pub fn hand_over(&mut self, shared: &SharedHistogram) -> bool {
        self.0.hand_over(shared)
    }
}

impl Default for BatchSizes {
    fn default() -> Self {
        Self::new()
    }
}

/// The shared half of a [`Latency`].
pub(super) fn shared_latency() -> SharedHistogram {
    SharedHistogram(Mutex::new(Recording::new(LATENCY_US_MAX)))
}

/// The shared half of [`BatchSizes`].
pub(super) fn shared_batch_sizes() -> SharedHistogram {
    SharedHistogram(Mutex::new(Recording::new(BATCH_MESSAGES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let shared = shared_batch_sizes();
        let mut sizes = BatchSizes::new();
        for messages in [1, 2, 3, 4, 5, 100_000] {
            sizes.record(messages);
        }
        assert!(sizes.hand_over(&shared));
        let buckets = shared.buckets(&BATCH_BUCKETS);
        assert_eq!(buckets.counts[..5], [1, 1, 2, 1, 0]);
        assert_eq!(buckets.counts.last(), Some(&1), "+Inf");
        assert_eq!((buckets.count, buckets.sum), (6, 100_015));
    }

    #[test]
    fn handing_over_adds_up_and_empties_the_shards_half() {
        let shared = shared_latency();
        let mut latency = Latency::new();
        latency.record_us(150, 10);
        assert!(latency.hand_over(&shared));
        assert!(latency.hand_over(&shared), "nothing to hand over is no failure");
        latency.record_us(0, 1);
        latency.record_us(LATENCY_US_MAX * 2, 1);
        assert!(latency.hand_over(&shared));
        let buckets = shared.buckets(&LATENCY_BUCKETS_US);
        assert_eq!(buckets.count, 12);
        assert_eq!(buckets.counts[0], 1);
        assert_eq!(buckets.counts[1], 10);
        assert_eq!(buckets.counts[LATENCY_BUCKETS_US.len()], 1);
        assert!(shared.quantile(0.5).abs_diff(150) <= 1);
    }

    #[test]
    fn a_scrape_in_progress_does_not_hold_the_shard_up() {
        let shared = shared_latency();
        let mut latency = Latency::new();
        latency.record_us(10, 1);
        let scrape = shared.0.lock().expect("not poisoned");
        assert!(!latency.hand_over(&shared));
        drop(scrape);
        assert!(latency.hand_over(&shared));
        assert_eq!(shared.buckets(&LATENCY_BUCKETS_US).count, 1);
    }
}
