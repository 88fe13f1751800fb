//! What a thread counted and measured, and how that is shown while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// Longest latency told apart: a minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Latencies in microseconds, three significant digits.
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        Self(histogram.expect("the bounds are constants that fit"))
    }
}

impl Latency {
    pub fn record(&mut self, elapsed_ns: u64) {
        self.0.saturating_record((elapsed_ns / 1000).max(1));
    }

    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the same bounds on both sides");
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn quantile_us(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub fn max_us(&self) -> u64 {
        self.0.max()
    }
}

#[derive(Default)]
pub struct Tally {
    pub connected: u64,
    pub failed: u64,
    pub lost: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub acknowledged: u64,
    /// Acknowledgements that carried a reason of failure.
    pub refused: u64,
    pub answered: u64,
    /// Answers that came on `/error`.
    pub errors: u64,
    pub received: u64,
    pub received_bytes: u64,
    /// How far the worst write was behind its schedule.
    pub behind_ns_max: u64,
    pub connect_us: Latency,
    pub acknowledged_us: Latency,
    pub answered_us: Latency,
    /// The first few reasons why connections failed or were lost.
    pub reasons: Vec<String>,
}

/// Reasons kept for the report.
const REASONS_MAX: usize = 5;

impl Tally {
    pub fn add_reason(&mut self, reason: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.connected += other.connected;
        self.failed += other.failed;
        self.lost += other.lost;
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.answered += other.answered;
        self.errors += other.errors;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.behind_ns_max = self.behind_ns_max.max(other.behind_ns_max);
        self.connect_us.merge(&other.connect_us);
        self.acknowledged_us.merge(&other.acknowledged_us);
        self.answered_us.merge(&other.answered_us);
        for reason in other.reasons {
            self.add_reason(reason);
        }
    }
}

/// A thread's counts as others may see them while it runs.
#[derive(Default)]
pub struct Gauges {
    pub connected: AtomicU64,
    pub failed: AtomicU64,
    pub lost: AtomicU64,
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    pub answered: AtomicU64,
    pub received: AtomicU64,
    pub in_flight: AtomicU64,
    /// Clients ready to publish (connected and, where asked for, subscribed).
    pub ready: AtomicU64,
    /// The thread has sent all it is to send.
    pub done_sending: AtomicBool,
}

impl Gauges {
    pub fn show(&self, tally: &Tally) {
        let pairs = [
            (&self.connected, tally.connected),
            (&self.failed, tally.failed),
            (&self.lost, tally.lost),
            (&self.sent, tally.sent),
            (&self.acknowledged, tally.acknowledged),
            (&self.answered, tally.answered),
            (&self.received, tally.received),
        ];
        for (gauge, value) in pairs {
            gauge.store(value, Ordering::Relaxed);
        }
    }
}
