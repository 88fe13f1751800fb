//! Whether the process is fit to take devices, and if not, why.

use crate::telemetry::{LinkStatus, ShardCounters};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// A shard whose last tick is older is stuck, in milliseconds.
pub const TICK_SILENCE_MS_MAX: u64 = 5_000;

/// What is known of one shard's health.
#[derive(Debug)]
pub struct ShardHealth {
    /// Of which the last tick is looked at.
    pub counters: Arc<ShardCounters>,
    /// The shard's link to NATS.
    pub link: Arc<LinkStatus>,
}

/// Everything `/health` looks at. A shard's number is its place in the list.
#[derive(Debug)]
pub struct Health {
    shards: Vec<ShardHealth>,
    control_link: Arc<LinkStatus>,
    draining: AtomicBool,
    failed: Mutex<Vec<(u16, String)>>,
}

impl Health {
    /// The health of these shards and of the control thread's link.
    #[must_use]
    pub fn new(shards: Vec<ShardHealth>, control_link: Arc<LinkStatus>) -> Self {
        Self { shards, control_link, draining: AtomicBool::new(false), failed: Mutex::default() }
    }

    /// The process is stopping: no more devices should be sent here.
    pub fn set_draining(&self) {
        self.draining.store(true, Relaxed);
    }

    /// A shard cannot go on.
    pub fn set_failed(&self, shard: u16, why: String) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((shard, why));
    }

    /// What is wrong that keeps no device from being served, one remark a line.
    #[must_use]
    pub fn remarks(&self) -> String {
        match self.control_link.trouble() {
            trouble if trouble.is_empty() => trouble,
            trouble => format!("control: {}\n", one_line(&trouble)),
        }
    }

    /// Why the process is not healthy at `now_ms` (the process's monotonic time), one reason a
    /// line; empty when it is.
    #[must_use]
    pub fn reasons(&self, now_ms: u64) -> String {
        let mut reasons = String::new();
        let mut add = |reason: std::fmt::Arguments<'_>| {
            // Writing to a String does not fail.
            let _ = writeln!(reasons, "{}", one_line(&reason.to_string()));
        };
        if self.draining.load(Relaxed) {
            add(format_args!("draining: the process is stopping"));
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for (shard, why) in failed.iter() {
            add(format_args!("shard {shard}: failed: {why}"));
        }
        for (shard, health) in self.shards.iter().enumerate() {
            if let Some(down) = down(&health.link, now_ms) {
                add(format_args!("shard {shard}: {down}"));
            }
            let silence_ms = now_ms.saturating_sub(health.counters.last_tick_ms.get());
            if silence_ms > TICK_SILENCE_MS_MAX {
                add(format_args!("shard {shard}: stuck: last tick {} ago", seconds(silence_ms)));
            }
        }
        if let Some(down) = down(&self.control_link, now_ms) {
            add(format_args!("control: {down}"));
        }
        reasons
    }
}

fn down(link: &LinkStatus, now_ms: u64) -> Option<String> {
    if link.is_up() {
        return None;
    }
    let since = seconds(now_ms.saturating_sub(link.since_ms()));
    let what = if link.connects() == 0 { "not connected to NATS yet" } else { "NATS link down" };
    Some(match link.last_error() {
        error if error.is_empty() => format!("{what}, for {since}"),
        error => format!("{what}, for {since}: {error}"),
    })
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// Errors come from servers and the system: one reason stays one line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::clock;

    fn health() -> (Health, Vec<Arc<LinkStatus>>, Arc<LinkStatus>) {
        let links: Vec<_> = (0..2).map(|_| Arc::new(LinkStatus::new())).collect();
        let control = Arc::new(LinkStatus::new());
        let shards = links
            .iter()
            .map(|link| ShardHealth {
                counters: Arc::new(ShardCounters::new()),
                link: link.clone(),
            })
            .collect();
        (Health::new(shards, control.clone()), links, control)
    }

    #[test]
    fn all_links_up_and_all_shards_ticking_is_healthy() {
        let (health, links, control) = health();
        links.iter().chain([&control]).for_each(|link| link.went_up("h:4222"));
        assert_eq!(health.reasons(clock::monotonic_ms()), "");
    }

    #[test]
    fn each_link_that_is_down_is_named_with_its_error_and_since_when() {
        let (health, links, control) = health();
        links[0].went_up("h:4222");
        links[1].went_up("h:4222");
        links[1].went_down("connection refused\r\nfoo");
        let since_ms = links[1].since_ms();
        control.failed("no such host");
        let reasons = health.reasons(since_ms + 3_210);
        let lines: Vec<_> = reasons.lines().collect();
        assert_eq!(lines[0], "shard 1: NATS link down, for 3.2 s: connection refused  foo");
        assert!(lines[1].starts_with("control: not connected to NATS yet, for 3."), "{reasons}");
        assert!(lines[1].ends_with(": no such host"), "{reasons}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_shard_that_stopped_ticking_is_stuck() {
        let (health, links, control) = health();
        links.iter().chain([&control]).for_each(|link| link.went_up("h:4222"));
        health.shards[0].counters.tick(clock::monotonic_ms() + 60_000);
        let last_ms = health.shards[1].counters.last_tick_ms.get();
        assert_eq!(health.reasons(last_ms + TICK_SILENCE_MS_MAX), "");
        let reasons = health.reasons(last_ms + TICK_SILENCE_MS_MAX + 1);
        assert_eq!(reasons, "shard 1: stuck: last tick 5.0 s ago\n");
    }

    #[test]
    fn what_keeps_no_device_from_being_served_is_a_remark() {
        let (health, links, control) = health();
        links.iter().chain([&control]).for_each(|link| link.went_up("h:4222"));
        assert_eq!(health.remarks(), "");
        control.set_trouble("nothing comes\nback");
        assert_eq!(health.remarks(), "control: nothing comes back\n");
        assert_eq!(health.reasons(clock::monotonic_ms()), "");
        control.set_trouble("");
        assert_eq!(health.remarks(), "");
    }

    #[test]
    fn draining_and_failed_shards_are_told() {
        let (health, links, control) = health();
        links.iter().chain([&control]).for_each(|link| link.went_up("h:4222"));
        health.set_draining();
        health.set_failed(1, "no ring".into());
        let reasons = health.reasons(clock::monotonic_ms());
        assert_eq!(reasons, "draining: the process is stopping\nshard 1: failed: no ring\n");
    }
}
