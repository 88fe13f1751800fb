//! Who has failed to log in too often lately, by address and by user name. Shared by all shards.
//!
//! Asked at a CONNECT with credentials only, never on the message path, so locks over stripes
//! serve. Its memory is bounded: when a stripe is full, who was heard of least lately is forgotten.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use lru::LruCache;

/// Locks that addresses and user names are spread over.
const STRIPES: usize = 16;
/// Addresses and user names remembered per stripe.
const REMEMBERED_PER_STRIPE_MAX: usize = 8_192;

/// What a failure counts.
const FAILURE: u64 = 1000;
/// What an attempt under way counts until it is known how it ends: so that guesses made at the same
/// time are bounded, and a fleet that comes back at the same time with good credentials is let in.
const ATTEMPT: u64 = FAILURE / 50;

/// How many failures are borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures from one address (of IPv6: from one /64) within the window; 0: any number.
    pub per_address: u32,
    /// Failures of one user name within the window; 0: any number.
    pub per_username: u32,
    /// Milliseconds after which a failure is forgotten, at the latest.
    pub window_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_address: 20, per_username: 20, window_ms: 60_000 }
    }
}

/// A bucket that a failure fills and time empties.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Failures, in thousandths.
    level: u64,
    at_ms: u64,
}

impl Bucket {
    fn level_at(self, now_ms: u64, failures_max: u32, window_ms: u64) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        let leaked = elapsed_ms.saturating_mul(u64::from(failures_max) * 1000) / window_ms.max(1);
        self.level.saturating_sub(leaked)
    }
}

/// A stripe's buckets, by the hash of whom they are of. Two with one hash share a bucket, which
/// nobody can bring about without the hasher's key.
type Stripe = LruCache<u64, Bucket, RandomState>;

/// See the module's documentation.
#[derive(Debug)]
pub struct Throttle {
    limits: Limits,
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
}

impl Throttle {
    /// Nobody has failed yet.
    pub fn new(limits: Limits) -> Self {
        let stripe = || Mutex::new(LruCache::unbounded_with_hasher(RandomState::default()));
        let stripes = (0..STRIPES).map(|_| stripe()).collect();
        Self { limits, hasher: RandomState::default(), stripes }
    }

    /// Whether somebody at `address` who calls himself `username` may try at `now_ms`.
    fn may_try(&self, address: Option<IpAddr>, username: &str, now_ms: u64) -> bool {
        let Limits { per_address, per_username, .. } = self.limits;
        let address_is_free =
            address.is_none_or(|address| self.is_free(network(address), per_address, now_ms));
        address_is_free && (username.is_empty() || self.is_free(username, per_username, now_ms))
    }

    /// Whether he may try. If so, an attempt is under way, which counts a little until it has
    /// [failed](Self::failed) or [not](Self::forgive). Certificates have no user name, and are
    /// bounded by address only.
    pub fn try_now(&self, address: Option<IpAddr>, username: &str, now_ms: u64) -> bool {
        let may_try = self.may_try(address, username, now_ms);
        if may_try {
            self.fill_both(address, username, ATTEMPT, now_ms);
        }
        may_try
    }

    /// An attempt under way has not failed.
    pub fn forgive(&self, address: Option<IpAddr>, username: &str) {
        if let Some(address) = address {
            self.empty(network(address));
        }
        if !username.is_empty() {
            self.empty(username);
        }
    }

    fn empty(&self, who: impl Hash) {
        let hash = self.hasher.hash_one(who);
        if let Some(bucket) = self.stripe(hash).peek_mut(&hash) {
            bucket.level = bucket.level.saturating_sub(ATTEMPT);
        }
    }

    /// An attempt under way has failed.
    pub fn failed(&self, address: Option<IpAddr>, username: &str, now_ms: u64) {
        self.fill_both(address, username, FAILURE - ATTEMPT, now_ms);
    }

    fn fill_both(&self, address: Option<IpAddr>, username: &str, by: u64, now_ms: u64) {
        let Limits { per_address, per_username, .. } = self.limits;
        if let Some(address) = address {
            self.fill(network(address), per_address, by, now_ms);
        }
        if !username.is_empty() {
            self.fill(username, per_username, by, now_ms);
        }
    }

    fn is_free(&self, who: impl Hash, failures_max: u32, now_ms: u64) -> bool {
        if failures_max == 0 {
            return true;
        }
        let hash = self.hasher.hash_one(who);
        let Some(bucket) = self.stripe(hash).peek(&hash).copied() else { return true };
        let level = bucket.level_at(now_ms, failures_max, self.limits.window_ms);
        level + ATTEMPT <= u64::from(failures_max) * FAILURE
    }

    fn fill(&self, who: impl Hash, failures_max: u32, by: u64, now_ms: u64) {
        if failures_max == 0 {
            return;
        }
        let hash = self.hasher.hash_one(who);
        let mut stripe = self.stripe(hash);
        let bucket = stripe.get(&hash).copied();
        let level =
            bucket.map_or(0, |b| b.level_at(now_ms, failures_max, self.limits.window_ms)) + by;
        stripe.put(hash, Bucket { level, at_ms: now_ms });
        if stripe.len() > REMEMBERED_PER_STRIPE_MAX {
            stripe.pop_lru();
        }
    }

    fn stripe(&self, hash: u64) -> MutexGuard<'_, Stripe> {
        // A panic while it was locked leaves at worst a bucket that is out of date.
        let stripe = &self.stripes[hash as usize % STRIPES];
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for an address: of IPv6 the /64, since a host has all of one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_address: 3, per_username: 2, window_ms: 60_000 };

    fn fail(throttle: &Throttle, address: Option<IpAddr>, username: &str) {
        throttle.try_now(address, username, 0);
        throttle.failed(address, username, 0);
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn an_address_is_shut_out_after_its_failures_and_let_in_again_as_they_are_forgotten() {
        let throttle = Throttle::new(LIMITS);
        let here = address("192.0.2.1");
        for n in 0..3 {
            assert!(throttle.may_try(here, "a", 0), "failure {n}");
            fail(&throttle, here, &format!("user-{n}"));
        }
        assert!(!throttle.may_try(here, "a", 0));
        assert!(throttle.may_try(address("192.0.2.2"), "a", 0));
        assert!(throttle.may_try(here, "a", 20_000), "a third of the window frees one of three");
    }

    #[test]
    fn attempts_at_the_same_time_count_until_they_are_forgiven() {
        let throttle = Throttle::new(LIMITS);
        let here = address("192.0.2.1");
        let together = (2 * FAILURE / ATTEMPT) as usize;
        assert!((0..together).all(|_| throttle.try_now(here, "a", 0)));
        assert!(!throttle.try_now(here, "a", 0));
        throttle.forgive(here, "a");
        assert!(throttle.try_now(here, "a", 0));
        assert!(!throttle.try_now(here, "a", 0));
        assert!(throttle.try_now(here, "", 0), "certificates do not shut each other out");
    }

    #[test]
    fn a_fleet_behind_one_address_is_let_in_all_at_once_with_good_credentials() {
        let throttle = Throttle::new(Limits::default());
        let here = address("192.0.2.1");
        for round in 0..10 {
            let fleet = || (0..900).map(|n| format!("device-{n}"));
            for name in fleet() {
                assert!(throttle.try_now(here, &name, 0), "round {round}: {name}");
            }
            fleet().for_each(|name| throttle.forgive(here, &name));
        }
    }

    #[test]
    fn a_user_name_is_shut_out_wherever_its_failures_come_from() {
        let throttle = Throttle::new(LIMITS);
        fail(&throttle, address("192.0.2.1"), "a");
        fail(&throttle, address("192.0.2.2"), "a");
        assert!(!throttle.may_try(address("192.0.2.3"), "a", 0));
        assert!(throttle.may_try(address("192.0.2.3"), "b", 0));
        assert!(throttle.may_try(address("192.0.2.3"), "a", 30_000));
    }

    #[test]
    fn a_host_cannot_change_its_ipv6_address_to_be_let_in() {
        let throttle = Throttle::new(LIMITS);
        for n in 0..3 {
            fail(&throttle, address(&format!("2001:db8::{n}")), &format!("user-{n}"));
        }
        assert!(!throttle.may_try(address("2001:db8::ffff:ffff:ffff:ffff"), "a", 0));
        assert!(throttle.may_try(address("2001:db8:0:1::"), "a", 0));
    }

    #[test]
    fn no_limit_lets_everybody_try_and_remembers_nobody() {
        let throttle = Throttle::new(Limits { per_address: 0, per_username: 0, window_ms: 1 });
        for _ in 0..1000 {
            fail(&throttle, address("192.0.2.1"), "a");
        }
        assert!(throttle.may_try(address("192.0.2.1"), "a", 0));
        assert!(throttle.stripes.iter().all(|stripe| stripe.lock().expect("unharmed").is_empty()));
    }

    #[test]
    fn its_memory_is_bounded() {
        let throttle = Throttle::new(LIMITS);
        for n in 0..2 * STRIPES * REMEMBERED_PER_STRIPE_MAX {
            fail(&throttle, None, &n.to_string());
        }
        for stripe in &throttle.stripes {
            assert!(stripe.lock().expect("unharmed").len() <= REMEMBERED_PER_STRIPE_MAX);
        }
    }
}
