//! Latencies, and what is said of them.

use std::time::Duration;

/// Of single sessions.
#[derive(Default)]
pub struct Latencies(Vec<Duration>);

/// A figure that is to be held, and what was measured.
pub struct Held {
    limit: Duration,
    measured: Option<Duration>,
}

/// The head of the table.
pub fn print_head() {
    println!(
        "{:<32} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "revoked; ms until closed", "sessions", "first", "p50", "p99", "max"
    );
}

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// The smallest latency that so many percent do not exceed (0: the smallest); none of nothing.
    fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    /// A line of the table.
    pub fn print(&self, what: &str) {
        let at = |percent| shown(self.percentile(percent));
        let ([first, p50, p99, max], count) = ([0, 50, 99, 100].map(at), self.0.len());
        println!("{what:<32} {count:>8} {first:>8} {p50:>8} {p99:>8} {max:>8}");
    }

    pub fn held(&self, limit: Duration) -> Held {
        Held { limit, measured: self.percentile(99) }
    }
}

impl Held {
    pub fn print(&self, what: &str) {
        let verdict = match self.measured {
            None => "not measured",
            Some(measured) if measured < self.limit => "reached",
            Some(_) => "not reached",
        };
        let (measured, limit) = (shown(self.measured), self.limit.as_millis());
        println!("{what}: {measured} ms, under {limit} ms: {verdict}");
    }
}

/// In milliseconds.
fn shown(latency: Option<Duration>) -> String {
    latency.map_or("-".to_owned(), |latency| format!("{:.2}", latency.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_latency_that_was_measured() {
        let latencies = Latencies((1..=200).rev().map(Duration::from_millis).collect());
        let of = |percent| latencies.percentile(percent).map(|latency| latency.as_millis());
        assert_eq!([of(50), of(99), of(100)], [Some(100), Some(198), Some(200)]);
        assert_eq!(Latencies::default().percentile(99), None);
    }
}
