//! Counters and gauges with one writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows. **One thread writes it**; any thread may read it.
///
/// `add` is a load and a store, not a read-modify-write: two writers would lose counts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. To be called by the one writing thread only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes over a count kept elsewhere. To be called by the one writing thread only.
    #[inline]
    pub fn set(&self, count: u64) {
        self.0.store(count, Relaxed);
    }

    /// The count so far.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down. **One thread writes it**; any thread may read it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// A gauge that starts at `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// Replaces the value. To be called by the one writing thread only.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Adds `n`. To be called by the one writing thread only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Takes `n` off, down to zero at most. To be called by the one writing thread only.
    #[inline]
    pub fn sub(&self, n: u64) {
        let value = self.get();
        debug_assert!(value >= n, "a gauge fell below zero");
        self.set(value.saturating_sub(n));
    }

    /// The present value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_and_measures_both_ways() {
        let counter = Counter::default();
        counter.add(2);
        counter.add(3);
        assert_eq!(counter.get(), 5);

        let gauge = Gauge::new(7);
        gauge.add(2);
        gauge.sub(4);
        assert_eq!(gauge.get(), 5);
        gauge.set(1);
        assert_eq!(gauge.get(), 1);
    }
}
