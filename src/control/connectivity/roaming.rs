//! When an endpoint has moved to another replica of this instance. Pure.
//!
//! Every replica hears the others' `connected` events. The timestamp of an event is that of a
//! [`Clock`] which is never behind what its replica has heard: who has heard of a claim makes a
//! later one. So timestamps differ the way it was, and only claims that nobody could know of each
//! other are settled by chance, on both sides alike.

use std::collections::HashMap;
use std::sync::Arc;

/// A claim older than this gives way to any that is not itself older than it by as much: so long
/// may events be on their way, and so far may clocks be apart.
pub const ROAMING_SKEW_MS: i64 = 5_000;

/// A timestamp further from our own time than this says nothing: that clock is wrong, or the event
/// has waited for very long.
pub const CLOCK_DISTANCE_MS_MAX: i64 = 60_000;

/// Endpoints of other replicas that are known at most.
pub const FOREIGN_MAX: usize = 1 << 22;

/// Timestamps of our events: our time, but later than all that has been heard.
#[derive(Debug)]
pub struct Clock {
    floor_ms: i64,
}

impl Clock {
    /// A clock that has heard nothing.
    pub fn new() -> Self {
        Self { floor_ms: i64::MIN }
    }

    /// The timestamp of an event made at `unix_ms`.
    pub fn stamp(&mut self, unix_ms: i64) -> i64 {
        self.floor_ms = unix_ms.max(self.floor_ms.saturating_add(1));
        self.floor_ms
    }

    /// Another replica's timestamp has come. One far ahead is a wrong clock's and not followed.
    pub fn hear(&mut self, timestamp_ms: i64, unix_ms: i64) {
        if timestamp_ms <= unix_ms.saturating_add(CLOCK_DISTANCE_MS_MAX) {
            self.floor_ms = self.floor_ms.max(timestamp_ms);
        }
    }
}

/// How far our own claim has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// It has no timestamp yet: it will be later than what has just been heard.
    Open,
    /// It has been made, and the other replica may or may not have heard it.
    Made {
        /// Its timestamp.
        timestamp_ms: i64,
    },
    /// It has been made and NATS has spread it, before the other's came.
    Confirmed {
        /// Its timestamp.
        timestamp_ms: i64,
    },
}

/// Another replica's claim.
#[derive(Debug, Clone, Copy)]
pub struct Theirs<'a> {
    /// Its timestamp.
    pub timestamp_ms: i64,
    /// The replica.
    pub replica: &'a str,
}

/// Who has the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// They do: our route goes, without a `disconnected`.
    Theirs,
    /// We do, and they are going to hear so.
    Ours,
    /// We do, but they may have missed it: it is to be said again.
    OursAgain,
}

/// Settles two claims. Both sides come to the same answer: they compare the same two timestamps,
/// and they agree on how old a claim is as far as clocks and delays differ less than
/// [`ROAMING_SKEW_MS`].
pub fn settle(ours: Ours, replica: &str, theirs: Theirs<'_>, unix_ms: i64) -> Settled {
    let (timestamp_ms, kept) = match ours {
        Ours::Open => return Settled::Ours,
        Ours::Made { timestamp_ms } => (timestamp_ms, Settled::Ours),
        Ours::Confirmed { timestamp_ms } => (timestamp_ms, Settled::OursAgain),
    };
    let distance_ms = theirs.timestamp_ms.saturating_sub(unix_ms).saturating_abs();
    let is_stale = theirs.timestamp_ms < timestamp_ms.saturating_sub(ROAMING_SKEW_MS);
    let is_old = unix_ms.saturating_sub(timestamp_ms) > ROAMING_SKEW_MS;
    let is_ours = if distance_ms > CLOCK_DISTANCE_MS_MAX {
        false // What came last counts.
    } else if is_stale {
        true
    } else if is_old {
        false
    } else {
        (timestamp_ms, replica) > (theirs.timestamp_ms, theirs.replica)
    };
    if is_ours { kept } else { Settled::Theirs }
}

/// Which endpoints other replicas have, as far as their events say: for the policy that lets no
/// endpoint in which is elsewhere. A replica that dies without a `disconnected` leaves its
/// endpoints here until another one has them.
#[derive(Debug, Default)]
pub struct Foreign {
    /// By endpoint: when it was claimed last, and by whom.
    holders: HashMap<Box<str>, (i64, Arc<str>), foldhash::fast::RandomState>,
}

impl Foreign {
    /// `replica` has claimed the endpoint. Of several claims the last one counts, in whatever order
    /// they come.
    pub fn connected(&mut self, endpoint: &str, replica: &Arc<str>, timestamp_ms: i64) {
        let claim = (timestamp_ms, replica.clone());
        if let Some(holder) = self.holders.get_mut(endpoint) {
            if *holder < claim {
                *holder = claim;
            }
        } else if self.holders.len() < FOREIGN_MAX {
            self.holders.insert(endpoint.into(), claim);
        }
    }

    /// `replica` has the endpoint no more.
    pub fn disconnected(&mut self, endpoint: &str, replica: &str) {
        if self.holder(endpoint) == Some(replica) {
            self.holders.remove(endpoint);
        }
    }

    /// We have the endpoint.
    pub fn ours(&mut self, endpoint: &str) {
        self.holders.remove(endpoint);
    }

    /// The replica that has the endpoint.
    pub fn holder(&self, endpoint: &str) -> Option<&str> {
        self.holders.get(endpoint).map(|(_, replica)| &**replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn theirs(timestamp_ms: i64, replica: &str) -> Theirs<'_> {
        Theirs { timestamp_ms, replica }
    }

    #[test]
    fn a_clock_is_never_behind_what_it_has_heard_unless_that_is_absurd() {
        let mut clock = Clock::new();
        assert_eq!(clock.stamp(10), 10);
        assert_eq!(clock.stamp(10), 11, "no two events are of one time");
        clock.hear(500, 20);
        assert_eq!(clock.stamp(20), 501);
        clock.hear(20 + CLOCK_DISTANCE_MS_MAX + 1, 20);
        clock.hear(i64::MAX, 20);
        assert_eq!(clock.stamp(600), 600);
    }

    #[test]
    fn concurrent_claims_are_settled_alike_on_both_sides() {
        for (a_ms, b_ms) in [(NOW, NOW), (NOW, NOW - 1), (NOW - 4_000, NOW), (NOW - 100, NOW)] {
            for (a, b) in [("r1", "r2"), ("r2", "r1")] {
                let at_a = settle(Ours::Made { timestamp_ms: a_ms }, a, theirs(b_ms, b), NOW + 30);
                let at_b = settle(Ours::Made { timestamp_ms: b_ms }, b, theirs(a_ms, a), NOW + 10);
                assert_ne!(at_a, at_b, "exactly one has it");
            }
        }
    }

    #[test]
    fn an_old_claim_gives_way_but_not_to_a_stale_one() {
        let ours = Ours::Confirmed { timestamp_ms: NOW - ROAMING_SKEW_MS - 1 };
        let earlier = NOW - ROAMING_SKEW_MS - 100;
        assert_eq!(settle(ours, "r9", theirs(NOW, "r1"), NOW), Settled::Theirs);
        assert_eq!(settle(ours, "r9", theirs(earlier, "r1"), NOW), Settled::Theirs);
        let stale = theirs(NOW - 2 * ROAMING_SKEW_MS - 2, "r1");
        assert_eq!(settle(ours, "r9", stale, NOW), Settled::OursAgain);
        let wrong_clock = theirs(NOW - CLOCK_DISTANCE_MS_MAX - 1, "r1");
        assert_eq!(settle(ours, "r9", wrong_clock, NOW), Settled::Theirs);
    }

    #[test]
    fn what_is_said_again_is_what_the_other_side_may_have_missed() {
        let late = theirs(NOW, "r1");
        assert_eq!(settle(Ours::Open, "r0", late, NOW), Settled::Ours);
        assert_eq!(settle(Ours::Made { timestamp_ms: NOW + 1 }, "r0", late, NOW), Settled::Ours);
        let confirmed = Ours::Confirmed { timestamp_ms: NOW + 1 };
        assert_eq!(settle(confirmed, "r0", late, NOW), Settled::OursAgain);
    }

    #[test]
    fn an_endpoint_is_elsewhere_until_its_holder_says_otherwise_or_we_have_it() {
        let (r1, r2): (Arc<str>, Arc<str>) = ("r1".into(), "r2".into());
        let mut foreign = Foreign::default();
        foreign.connected("e", &r2, 6);
        foreign.connected("e", &r1, 5);
        foreign.disconnected("e", "r1");
        assert_eq!(foreign.holder("e"), Some("r2"));
        foreign.disconnected("e", "r2");
        assert_eq!(foreign.holder("e"), None);
        foreign.connected("e", &r1, 7);
        foreign.ours("e");
        assert_eq!(foreign.holder("e"), None);
    }
}
