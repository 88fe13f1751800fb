//! Which shard speaks for an endpoint: endpoint id → shard, as the shards report it. Pure.

use std::collections::HashMap;

/// Endpoints the directory holds at most. Each shard bounds its own far below; this bounds what
/// lost reports could leave behind.
pub const ENDPOINTS_MAX: usize = 1 << 24;

/// What a report of an endpoint means.
#[derive(Debug, PartialEq, Eq)]
pub enum Here {
    /// No shard held it before, or the same one.
    Held,
    /// Another shard held it and is to be told that it no longer does.
    MovedFrom(u16),
    /// The directory is full: pushes for this endpoint will not be delivered.
    Full,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Directory {
    holders: HashMap<Box<str>, u16, foldhash::fast::RandomState>,
    endpoints_max: usize,
}

impl Directory {
    /// A directory without endpoints that takes `endpoints_max` of them.
    #[must_use]
    pub fn new(endpoints_max: usize) -> Self {
        Self { holders: HashMap::default(), endpoints_max }
    }

    /// `shard` reports that it speaks for `endpoint`: whoever reported last holds it.
    pub fn here(&mut self, endpoint: &str, shard: u16) -> Here {
        if let Some(holder) = self.holders.get_mut(endpoint) {
            let before = std::mem::replace(holder, shard);
            return if before == shard { Here::Held } else { Here::MovedFrom(before) };
        }
        if self.holders.len() >= self.endpoints_max {
            return Here::Full;
        }
        self.holders.insert(endpoint.into(), shard);
        Here::Held
    }

    /// `shard` reports that it no longer speaks for `endpoint`. Without effect when another shard
    /// holds it meanwhile.
    pub fn gone(&mut self, endpoint: &str, shard: u16) {
        if self.holder(endpoint) == Some(shard) {
            self.holders.remove(endpoint);
        }
    }

    /// The shard that speaks for `endpoint`.
    #[must_use]
    pub fn holder(&self, endpoint: &str) -> Option<u16> {
        self.holders.get(endpoint).copied()
    }

    /// How many endpoints are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_reporter_holds_the_endpoint_and_the_one_before_is_named() {
        let mut directory = Directory::new(10);
        assert_eq!(directory.here("e", 1), Here::Held);
        assert_eq!(directory.here("e", 1), Here::Held);
        assert_eq!(directory.here("e", 2), Here::MovedFrom(1));
        assert_eq!(directory.holder("e"), Some(2));
        directory.gone("e", 1);
        assert_eq!(directory.holder("e"), Some(2), "a late farewell changes nothing");
        directory.gone("e", 2);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_full_directory_still_follows_the_endpoints_it_knows() {
        let mut directory = Directory::new(1);
        assert_eq!(directory.here("e", 1), Here::Held);
        assert_eq!(directory.here("f", 1), Here::Full);
        assert_eq!(directory.here("e", 2), Here::MovedFrom(1));
        directory.gone("e", 2);
        assert_eq!(directory.here("f", 1), Here::Held);
    }

    proptest! {
        /// Whatever the shards report, in whatever order: an endpoint is held by the shard of its
        /// last "here", unless that shard has said "gone" since; and of all shards that ever
        /// reported it, only that one has not been told or has not said itself that it left.
        #[test]
        fn each_endpoint_is_with_the_shard_that_last_claimed_it(
            reports in prop::collection::vec((0..4_u16, 0..3_usize, any::<bool>()), 0..60)
        ) {
            let names = ["a", "b", "c"];
            let mut directory = Directory::new(names.len());
            let mut believers = [const { std::collections::BTreeSet::new() }; 3];
            for (at, &(shard, name, here)) in reports.iter().enumerate() {
                if here {
                    believers[name].insert(shard);
                    match directory.here(names[name], shard) {
                        Here::Held => {}
                        Here::MovedFrom(before) => prop_assert!(believers[name].remove(&before)),
                        Here::Full => prop_assert!(false, "there is room for all"),
                    }
                } else {
                    directory.gone(names[name], shard);
                    believers[name].remove(&shard);
                }
                let last_claim = reports[..=at].iter().rposition(|r| r.1 == name && r.2);
                let expected = last_claim.and_then(|claim| {
                    let holder = reports[claim].0;
                    let left = reports[claim..=at].contains(&(holder, name, false));
                    (!left).then_some(holder)
                });
                prop_assert_eq!(directory.holder(names[name]), expected);
                let alone: Vec<u16> = believers[name].iter().copied().collect();
                prop_assert_eq!(alone, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
