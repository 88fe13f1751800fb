//! The process's clocks. The monotonic one has one origin for all threads, so that a time written
//! by a shard can be compared by the control thread.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

/// Origin of [`monotonic_ms`]: the first use of the clock.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first call in this process. Never goes back.
#[must_use]
pub fn monotonic_ms() -> u64 {
    // u64 milliseconds last 584 million years.
    ORIGIN.elapsed().as_millis() as u64
}

/// Microseconds since the first call in this process. Never goes back.
#[must_use]
pub fn monotonic_us() -> u64 {
    // u64 microseconds last 584 thousand years.
    ORIGIN.elapsed().as_micros() as u64
}

/// Milliseconds since the Unix epoch, by the host's clock; 0 before it.
#[must_use]
pub fn unix_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_between_threads() {
        let before = monotonic_ms();
        let elsewhere = std::thread::spawn(monotonic_ms).join().expect("thread ends");
        let after = monotonic_ms();
        assert!(before <= elsewhere && elsewhere <= after);
    }
}
