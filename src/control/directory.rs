//! Which shards speak for an endpoint, and which of them gets its pushes: endpoint id → shards, as
//! the shards report it; and when this replica claimed it. Pure.
//!
//! An endpoint is known by its id alone, as in 4/ESP and 9/ELCE. Should two tenants have endpoints
//! of the same id, the one that is here first has it until it goes.

use super::tenants::TenantsOfVersions;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Endpoints the directory holds at most. Each shard bounds its own far below; this bounds what
/// lost reports could leave behind.
pub const ENDPOINTS_MAX: usize = 1 << 24;

/// Shards that an endpoint remembers at most. One more, and the one whose report is the oldest is
/// forgotten until it reports again.
pub const SHARDS_MAX: usize = 8;

/// Names of application versions that endpoints share. They are of the catalogue, so that there are
/// few; beyond this each endpoint has a copy of its own.
pub const VERSIONS_MAX: usize = 4_096;

/// What a report of an endpoint means.
#[derive(Debug, PartialEq, Eq)]
pub enum Here {
    /// No shard held it before: it has connected.
    First,
    /// The same shard held it before.
    Held,
    /// Another shard held it and is to be told that it no longer does.
    MovedFrom(u16),
    /// Another tenant's endpoint has that id: pushes go to that one, and this one is not known.
    Alien,
    /// The directory is full: pushes for this endpoint will not be delivered.
    Full,
}

/// What a report that a shard has lost an endpoint means.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// It was not known to have it, or another one holds it anyway.
    Quiet,
    /// No shard has the endpoint any more: it has disconnected, and spoke as this application
    /// version.
    Last(Arc<str>),
    /// The shard that reported the endpoint before holds it again.
    MovedBack,
}

/// The shards that have an endpoint, the one that reported it last first: that one holds it. In
/// place, since nearly every endpoint has one shard and a box would be as large.
#[derive(Debug)]
struct Shards([u16; SHARDS_MAX]);

/// Fills the places behind the last shard. Not a shard's number: there are at most 1 024.
const NONE: u16 = u16::MAX;

impl Shards {
    fn new(shard: u16) -> Self {
        let mut shards = Self([NONE; SHARDS_MAX]);
        shards.0[0] = shard;
        shards
    }

    fn holder(&self) -> u16 {
        self.0[0]
    }

    fn place(&self, shard: u16) -> Option<usize> {
        self.0.iter().position(|&other| other == shard)
    }

    /// Puts a shard first: one that is known moves there, a new one takes the last place's.
    fn put_first(&mut self, shard: u16) {
        let place = self.place(shard).unwrap_or(SHARDS_MAX - 1);
        self.0[..=place].rotate_right(1);
        self.0[0] = shard;
    }

    fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.into_iter().take_while(|&shard| shard != NONE)
    }

    /// Removes a shard; `false` when no other is left.
    fn remove(&mut self, shard: u16) -> bool {
        if let Some(place) = self.place(shard) {
            self.0[place..].rotate_left(1);
            self.0[SHARDS_MAX - 1] = NONE;
        }
        self.holder() != NONE
    }
}

/// What is known of an endpoint.
#[derive(Debug)]
struct Entry {
    shards: Shards,
    /// The application version it speaks as.
    version: Arc<str>,
    /// See [`Directory::claimed`].
    claimed_ms: i64,
}

/// The time of a claim that NATS has not spread.
const NEVER: i64 = i64::MIN;

/// See the module's documentation.
#[derive(Debug)]
pub struct Directory {
    endpoints: HashMap<Box<str>, Entry, foldhash::fast::RandomState>,
    endpoints_max: usize,
    versions: HashSet<Arc<str>, foldhash::fast::RandomState>,
    tenants: TenantsOfVersions,
}

impl Directory {
    /// A directory without endpoints that takes `endpoints_max` of them.
    #[must_use]
    pub fn new(endpoints_max: usize, tenants: TenantsOfVersions) -> Self {
        let (endpoints, versions) = (HashMap::default(), HashSet::default());
        Self { endpoints, endpoints_max, versions, tenants }
    }

    /// `shard` reports that it speaks for `endpoint`, as `version`: whoever reported last holds it.
    pub fn here(&mut self, endpoint: &str, version: &str, shard: u16) -> Here {
        if let Some(entry) = self.endpoints.get_mut(endpoint) {
            if self.tenants.differ(&entry.version, version) {
                return Here::Alien;
            }
            let before = entry.shards.holder();
            entry.shards.put_first(shard);
            if *entry.version != *version {
                entry.version = shared(&mut self.versions, version);
            }
            return if before == shard { Here::Held } else { Here::MovedFrom(before) };
        }
        if self.endpoints.len() >= self.endpoints_max {
            return Here::Full;
        }
        let version = shared(&mut self.versions, version);
        let entry = Entry { shards: Shards::new(shard), version, claimed_ms: NEVER };
        self.endpoints.insert(endpoint.into(), entry);
        Here::First
    }

    /// `shard` reports that it no longer speaks for `endpoint`: if it held it, the shard that
    /// reported it before does again.
    pub fn gone(&mut self, endpoint: &str, shard: u16) -> Gone {
        let Some(entry) = self.endpoints.get_mut(endpoint) else { return Gone::Quiet };
        let before = entry.shards.holder();
        if entry.shards.remove(shard) {
            return if entry.shards.holder() == before { Gone::Quiet } else { Gone::MovedBack };
        }
        match self.endpoints.remove(endpoint) {
            Some(entry) => Gone::Last(entry.version),
            None => Gone::Quiet,
        }
    }

    /// `endpoint` now speaks through another replica: it is forgotten. Returns the shards that had
    /// it.
    pub fn roamed(&mut self, endpoint: &str) -> Vec<u16> {
        let entry = self.endpoints.remove(endpoint);
        entry.map_or(Vec::new(), |entry| entry.shards.iter().collect())
    }

    /// Forgets every endpoint, and calls `gone` with the application version each speaks as.
    pub fn clear(&mut self, mut gone: impl FnMut(&str, Arc<str>)) {
        self.endpoints.drain().for_each(|(endpoint, entry)| gone(&endpoint, entry.version));
    }

    /// NATS has spread this replica's claim to `endpoint`, made at `timestamp_ms`. `false` if it is
    /// not here any more.
    pub fn claimed(&mut self, endpoint: &str, timestamp_ms: i64) -> bool {
        let Some(entry) = self.endpoints.get_mut(endpoint) else { return false };
        entry.claimed_ms = timestamp_ms;
        true
    }

    /// The application version that `endpoint` speaks as and the time of this replica's claim to
    /// it; the least of all times if NATS has spread none.
    #[must_use]
    pub fn claim(&self, endpoint: &str) -> Option<(&Arc<str>, i64)> {
        self.endpoints.get(endpoint).map(|entry| (&entry.version, entry.claimed_ms))
    }

    /// The shard that speaks for `endpoint`.
    #[must_use]
    pub fn holder(&self, endpoint: &str) -> Option<u16> {
        self.endpoints.get(endpoint).map(|entry| entry.shards.holder())
    }

    /// Whether an endpoint of that id is here and of another tenant than `version`.
    #[must_use]
    pub fn is_alien(&self, endpoint: &str, version: &str) -> bool {
        let entry = self.endpoints.get(endpoint);
        entry.is_some_and(|entry| self.tenants.differ(&entry.version, version))
    }

    /// How many endpoints are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

fn shared(
    versions: &mut HashSet<Arc<str>, foldhash::fast::RandomState>,
    version: &str,
) -> Arc<str> {
    if let Some(known) = versions.get(version) {
        return known.clone();
    }
    let version: Arc<str> = version.into();
    if versions.len() < VERSIONS_MAX {
        versions.insert(version.clone());
    }
    version
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grant;
    use crate::shard::correlation::ConnectionKey;
    use crate::shard::endpoints::{Claim, Endpoints};
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::rc::Rc;

    #[test]
    fn the_last_reporter_holds_the_endpoint_and_the_one_before_is_named() {
        let mut directory = Directory::new(10, TenantsOfVersions::default());
        assert_eq!(directory.here("e", "v", 1), Here::First);
        assert_eq!(directory.here("e", "v", 1), Here::Held);
        assert_eq!(directory.here("e", "v", 2), Here::MovedFrom(1));
        assert_eq!(directory.holder("e"), Some(2));
        assert_eq!(directory.gone("e", 1), Gone::Quiet);
        assert_eq!(directory.holder("e"), Some(2), "a late farewell changes nothing");
        assert_eq!(directory.gone("e", 2), Gone::Last("v".into()));
        assert!(directory.is_empty());
    }

    #[test]
    fn an_endpoint_goes_back_to_the_shard_that_reported_it_before() {
        let mut directory = Directory::new(10, TenantsOfVersions::default());
        for shard in [1, 2, 3, 1] {
            directory.here("e", "v", shard);
        }
        assert_eq!(directory.gone("e", 1), Gone::MovedBack);
        assert_eq!(directory.holder("e"), Some(3));
        assert_eq!(directory.gone("e", 3), Gone::MovedBack);
        assert_eq!(directory.holder("e"), Some(2));
        assert_eq!(directory.gone("e", 2), Gone::Last("v".into()));
        assert!(directory.is_empty());
    }

    #[test]
    fn an_endpoint_that_roamed_is_forgotten_and_late_farewells_change_nothing() {
        let mut directory = Directory::new(10, TenantsOfVersions::default());
        directory.here("e", "v1", 1);
        directory.here("e", "v2", 2);
        directory.claimed("e", 7);
        assert_eq!(directory.claim("e"), Some((&"v2".into(), 7)));
        assert_eq!(directory.roamed("e"), [2, 1]);
        assert!(directory.roamed("e").is_empty());
        assert_eq!(directory.gone("e", 2), Gone::Quiet);
        assert_eq!(directory.here("e", "v1", 2), Here::First);
        assert_eq!(directory.claim("e"), Some((&"v1".into(), NEVER)));
    }

    #[test]
    fn a_full_directory_still_follows_the_endpoints_it_knows() {
        let mut directory = Directory::new(1, TenantsOfVersions::default());
        assert_eq!(directory.here("e", "v", 1), Here::First);
        assert_eq!(directory.here("f", "v", 1), Here::Full);
        assert_eq!(directory.here("e", "v", 2), Here::MovedFrom(1));
        directory.gone("e", 2);
        directory.gone("e", 1);
        assert_eq!(directory.here("f", "v", 1), Here::First);
    }

    #[test]
    fn of_two_tenants_endpoints_with_one_id_the_first_is_there_until_it_goes() {
        let mut directory = Directory::new(10, crate::control::tenants::testing::two());
        assert_eq!(directory.here("e", "acme-1", 1), Here::First);
        assert_eq!(directory.here("e", "other-1", 2), Here::Alien);
        assert_eq!((directory.holder("e"), directory.len()), (Some(1), 1));
        assert!(directory.is_alien("e", "other-1") && !directory.is_alien("f", "other-1"));
        assert!(!directory.is_alien("e", "acme-2") && !directory.is_alien("e", "unknown"));
        assert_eq!(directory.gone("e", 2), Gone::Quiet, "it was not known there");
        assert_eq!(directory.here("e", "acme-2", 3), Here::MovedFrom(1), "of the same tenant");
        assert_eq!(directory.gone("e", 3), Gone::MovedBack);
        assert_eq!(directory.gone("e", 1), Gone::Last("acme-2".into()));
        assert_eq!(directory.here("e", "other-1", 2), Here::First);
    }

    /// One shard's side: its table, what it has reported and what it has been told but not heard.
    #[derive(Default)]
    struct Side {
        endpoints: Endpoints,
        reports: VecDeque<Report>,
        moves: VecDeque<&'static str>,
    }

    enum Report {
        Here(&'static str),
        Gone(Box<str>),
    }

    fn grant(endpoint_id: &str) -> Rc<Grant> {
        let (endpoint_id, token) = (endpoint_id.into(), "t".into());
        Rc::new(Grant { app: 0, token, endpoint_id, token_id: None })
    }

    const NAMES: [&str; 2] = ["a", "b"];

    impl Side {
        fn speak(&mut self, name: &'static str, connection: ConnectionKey) {
            let (_, claim) = self.endpoints.claim(&grant(name), "v", connection);
            if claim == Claim::New {
                self.reports.push_back(Report::Here(name));
            }
        }

        fn leave(&mut self, connection: ConnectionKey) {
            let keys: Vec<_> =
                NAMES.iter().filter_map(|name| self.endpoints.find_key(name)).collect();
            let reports = &mut self.reports;
            self.endpoints.release(keys, connection, |id| reports.push_back(Report::Gone(id)));
        }

        fn hear_move(&mut self) {
            if let Some(name) = self.moves.pop_front() {
                self.endpoints.moved_away(name);
            }
        }
    }

    fn take_report(directory: &mut Directory, sides: &mut [Side], shard: usize) {
        match sides[shard].reports.pop_front() {
            Some(Report::Here(name)) => match directory.here(name, "v", shard as u16) {
                Here::First | Here::Held => {}
                Here::MovedFrom(before) => sides[usize::from(before)].moves.push_back(name),
                Here::Full | Here::Alien => panic!("there is room for all, of one tenant"),
            },
            Some(Report::Gone(name)) => {
                directory.gone(&name, shard as u16);
            }
            None => {}
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Speak(usize, u32, usize),
        Leave(usize, u32),
        Report(usize),
        Move(usize),
    }

    fn step(shards: usize) -> impl Strategy<Value = Step> {
        let shard = 0..shards;
        let connection = 0..3_u32;
        prop_oneof![
            (shard.clone(), connection.clone(), 0..NAMES.len())
                .prop_map(|(shard, connection, name)| Step::Speak(shard, connection, name)),
            (shard.clone(), connection).prop_map(|(s, connection)| Step::Leave(s, connection)),
            shard.clone().prop_map(Step::Report),
            shard.prop_map(Step::Move),
        ]
    }

    proptest! {
        /// Whatever the shards report, in whatever order: an endpoint is with the shard that
        /// reported it last, of those that have not said since that they lost it.
        #[test]
        fn each_endpoint_is_with_the_last_claimer_that_still_has_it(
            reports in prop::collection::vec((0..12_u16, 0..2_usize, any::<bool>()), 0..120)
        ) {
            let mut directory = Directory::new(NAMES.len(), TenantsOfVersions::default());
            let mut models: [Vec<u16>; 2] = Default::default();
            for (shard, name, here) in reports {
                let model = &mut models[name];
                let before = model.last().copied();
                model.retain(|other| *other != shard);
                if here {
                    model.push(shard);
                    if model.len() > SHARDS_MAX {
                        model.remove(0);
                    }
                    let moved = before.filter(|before| *before != shard);
                    let expected = match (before, moved) {
                        (None, _) => Here::First,
                        (_, None) => Here::Held,
                        (_, Some(moved)) => Here::MovedFrom(moved),
                    };
                    prop_assert_eq!(directory.here(NAMES[name], "v", shard), expected);
                } else {
                    let expected = match before {
                        Some(before) if before == shard && !model.is_empty() => Gone::MovedBack,
                        Some(_) if model.is_empty() => Gone::Last("v".into()),
                        _ => Gone::Quiet,
                    };
                    prop_assert_eq!(directory.gone(NAMES[name], shard), expected);
                }
                prop_assert_eq!(directory.holder(NAMES[name]), model.last().copied());
                let held = models.iter().filter(|model| !model.is_empty()).count();
                prop_assert_eq!(directory.len(), held);
            }
        }

        /// However reports and mails cross each other: once all have come, an endpoint that
        /// anybody speaks for is with a shard where somebody does; whoever speaks for it next takes
        /// it; and an endpoint nobody speaks for is forgotten.
        #[test]
        fn a_push_finds_somebody_as_long_as_anybody_speaks_for_its_endpoint(
            steps in prop::collection::vec(step(4), 0..200),
            last in (0..4_usize, 0..3_u32),
        ) {
            let connection = |index| ConnectionKey { index, generation: 1 };
            let mut directory = Directory::new(NAMES.len(), TenantsOfVersions::default());
            let mut sides: [Side; 4] = Default::default();
            let settle = |directory: &mut Directory, sides: &mut [Side; 4]| {
                for shard in 0..4 {
                    while !sides[shard].reports.is_empty() {
                        take_report(directory, sides, shard);
                    }
                }
                sides.iter_mut().for_each(|side| while !side.moves.is_empty() { side.hear_move() });
            };
            for step in steps {
                match step {
                    Step::Speak(shard, index, name) => {
                        sides[shard].speak(NAMES[name], connection(index));
                    }
                    Step::Leave(shard, index) => sides[shard].leave(connection(index)),
                    Step::Report(shard) => take_report(&mut directory, &mut sides, shard),
                    Step::Move(shard) => sides[shard].hear_move(),
                }
            }
            settle(&mut directory, &mut sides);
            for name in NAMES {
                let has = |side: &Side| side.endpoints.find(name).is_some();
                match directory.holder(name) {
                    Some(holder) => prop_assert!(has(&sides[usize::from(holder)])),
                    None => prop_assert!(!sides.iter().any(has)),
                }
                let (shard, index) = last;
                sides[shard].speak(name, connection(index));
                settle(&mut directory, &mut sides);
                prop_assert_eq!(directory.holder(name), Some(shard as u16));
                let route = sides[shard].endpoints.find(name).expect("spoken for");
                prop_assert_eq!(route.holder.connection, connection(index));
            }
        }
    }
}
