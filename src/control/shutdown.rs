//! When the process may end: what has been asked of the shards and what they have answered. Pure.

use std::collections::BTreeSet;
use std::fmt;

/// How the process came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every shard has drained.
    Drained,
    /// The time for that was over before these shards had.
    Overdue {
        /// The shards that had not drained.
        shards: Vec<u16>,
    },
    /// A shard could not go on, and the others were drained because of it.
    ShardFailed {
        /// The shard.
        shard: u16,
        /// What it said.
        why: String,
    },
    /// The control thread itself broke.
    ControlPanicked,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("all shards have drained"),
            Self::Overdue { shards } => write!(f, "not drained in time: shards {shards:?}"),
            Self::ShardFailed { shard, why } => write!(f, "shard {shard} failed: {why}"),
            Self::ControlPanicked => f.write_str("the control thread panicked"),
        }
    }
}

/// See the module's documentation. Times are monotonic milliseconds.
#[derive(Debug)]
pub struct Shutdown {
    /// Shards whose threads run.
    running: BTreeSet<u16>,
    /// Shards that have not been told to drain yet.
    untold: BTreeSet<u16>,
    grace_ms: u64,
    deadline_ms: Option<u64>,
    failure: Option<(u16, String)>,
}

impl Shutdown {
    /// `shards` shards run; once asked, they have `grace_ms` to drain.
    pub fn new(shards: u16, grace_ms: u64) -> Self {
        let running: BTreeSet<u16> = (0..shards).collect();
        Self { untold: running.clone(), running, grace_ms, deadline_ms: None, failure: None }
    }

    /// Somebody asks for the end. Returns `false` when it has been asked for before.
    pub fn ask(&mut self, now_ms: u64) -> bool {
        let first = self.deadline_ms.is_none();
        if first {
            self.deadline_ms = Some(now_ms.saturating_add(self.grace_ms));
        }
        first
    }

    /// Whether the end has been asked for.
    pub fn asked(&self) -> bool {
        self.deadline_ms.is_some()
    }

    /// The shards still to be told, once the end has been asked for. `tell` says whether it
    /// could; if not, it is tried again at the next call.
    pub fn tell(&mut self, mut tell: impl FnMut(u16) -> bool) {
        if self.asked() {
            self.untold.retain(|shard| !tell(*shard));
        }
    }

    /// A shard has drained.
    pub fn drained(&mut self, shard: u16) {
        self.running.remove(&shard);
        self.untold.remove(&shard);
    }

    /// A shard cannot go on: a gateway without one of its shards would look well and serve only
    /// some, so the others are to drain too. The first failure is the one that counts.
    pub fn failed(&mut self, shard: u16, why: String, now_ms: u64) {
        self.drained(shard);
        self.failure.get_or_insert((shard, why));
        self.ask(now_ms);
    }

    /// No shard can report any more: those that have not reported their end have broken.
    pub fn all_ended(&mut self, now_ms: u64) {
        while let Some(&shard) = self.running.first() {
            self.failed(shard, "its thread ended without a report".to_owned(), now_ms);
        }
    }

    /// Whether the time for an orderly end is over.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms)
    }

    /// How it ended, if it has.
    pub fn outcome(&self, now_ms: u64) -> Option<Outcome> {
        if !self.running.is_empty() && !self.is_over(now_ms) {
            return None;
        }
        Some(match &self.failure {
            Some((shard, why)) => Outcome::ShardFailed { shard: *shard, why: why.clone() },
            None if self.running.is_empty() => Outcome::Drained,
            None => Outcome::Overdue { shards: self.running.iter().copied().collect() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_every_shard_has_drained() {
        let mut shutdown = Shutdown::new(2, 1_000);
        assert_eq!(shutdown.outcome(u64::MAX), None, "nobody has asked");
        assert!(shutdown.ask(100));
        assert!(!shutdown.ask(200), "the second time");
        shutdown.drained(0);
        assert_eq!(shutdown.outcome(1_099), None);
        shutdown.drained(1);
        assert_eq!(shutdown.outcome(1_099), Some(Outcome::Drained));
    }

    #[test]
    fn ends_when_the_time_is_over_and_names_who_is_late() {
        let mut shutdown = Shutdown::new(3, 1_000);
        shutdown.ask(0);
        shutdown.drained(1);
        assert_eq!(shutdown.outcome(1_000), Some(Outcome::Overdue { shards: vec![0, 2] }));
    }

    #[test]
    fn every_shard_is_told_once_and_again_only_if_it_could_not_be() {
        let mut shutdown = Shutdown::new(3, 1_000);
        shutdown.tell(|_| panic!("nobody has asked"));
        shutdown.ask(0);
        shutdown.drained(2);
        let mut told = Vec::new();
        shutdown.tell(|shard| {
            told.push(shard);
            shard != 1
        });
        shutdown.tell(|shard| {
            told.push(shard);
            true
        });
        shutdown.tell(|_| panic!("all have been told"));
        assert_eq!(told, [0, 1, 1]);
    }

    #[test]
    fn a_shard_that_ends_without_a_report_has_failed() {
        let mut shutdown = Shutdown::new(2, 1_000);
        shutdown.drained(0);
        shutdown.all_ended(0);
        assert!(matches!(shutdown.outcome(0), Some(Outcome::ShardFailed { shard: 1, .. })));

        let mut shutdown = Shutdown::new(1, 1_000);
        shutdown.drained(0);
        shutdown.all_ended(0);
        assert_eq!(shutdown.outcome(0), Some(Outcome::Drained));
    }

    #[test]
    fn a_shard_that_fails_takes_the_others_along_in_order() {
        let mut shutdown = Shutdown::new(2, 1_000);
        shutdown.failed(1, "ring".into(), 0);
        shutdown.failed(0, "later".into(), 1);
        assert!(shutdown.asked());
        let failed = Outcome::ShardFailed { shard: 1, why: "ring".into() };
        assert_eq!(shutdown.outcome(2), Some(failed));
    }
}
