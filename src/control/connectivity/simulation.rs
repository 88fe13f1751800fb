//! Random lives of an outbox before a NATS that loses, delays and repeats, and of endpoints that
//! move between replicas which hear of each other late.

use super::super::directory::{Gone, Here};
use super::outbox::{CHANGES_MAX, CONFIRM_MS_MAX, Event, Outbox, UNHEARD_MS_MAX};
use super::*;
use crate::control::tenants::TenantsOfVersions;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet, VecDeque};

const ENDPOINTS: [&str; 4] = ["a", "b", "c", "d"];

/// What NATS has got: correlationId, kind, endpoints.
type Arrival = (String, Kind, Vec<Arc<str>>);

/// An outbox, its link, and a NATS.
struct World {
    outbox: Outbox,
    clock: Clock,
    now: Now,
    is_up: bool,
    is_connected: [bool; ENDPOINTS.len()],
    changes: [Vec<Kind>; ENDPOINTS.len()],
    /// On its way to NATS, in order.
    wire: VecDeque<Arrival>,
    /// Left over in a link that broke: may still arrive.
    stray: Vec<Arrival>,
    /// On its way back.
    echoes: Vec<String>,
    arrived: Vec<Arrival>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Change(usize),
    /// All at once: a client is lost, or comes.
    ChangeAll,
    Pass(u64),
    Up,
    Down {
        arrive: usize,
    },
    Arrive,
    Stray(usize),
    /// Some echo comes, also one that came before if `keep`.
    Echo {
        which: usize,
        keep: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..ENDPOINTS.len()).prop_map(Step::Change),
        1 => Just(Step::ChangeAll),
        4 => (0..60_u64).prop_map(Step::Pass),
        1 => (500..7_000_u64).prop_map(Step::Pass),
        2 => Just(Step::Up),
        1 => (0..4_usize).prop_map(|arrive| Step::Down { arrive }),
        6 => Just(Step::Arrive),
        1 => (0..4_usize).prop_map(Step::Stray),
        6 => (0..4_usize, prop::bool::weighted(0.2))
            .prop_map(|(which, keep)| Step::Echo { which, keep }),
    ]
}

impl World {
    fn new(changes_max: usize) -> Self {
        Self {
            outbox: Outbox::with_limit("p".to_owned(), 20, changes_max),
            clock: Clock::new(),
            now: Now { ms: 1_000, unix_ms: 5_000_000 },
            is_up: false,
            is_connected: [false; ENDPOINTS.len()],
            changes: Default::default(),
            wire: VecDeque::new(),
            stray: Vec::new(),
            echoes: Vec::new(),
            arrived: Vec::new(),
        }
    }

    fn change(&mut self, endpoint: usize) {
        let is_connected = &mut self.is_connected[endpoint];
        let kind = if *is_connected { Kind::Disconnected } else { Kind::Connected };
        *is_connected = !*is_connected;
        self.changes[endpoint].push(kind);
        let entry = (ENDPOINTS[endpoint].into(), "v".into());
        self.outbox.change(kind, entry, self.now, &mut self.clock);
    }

    fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_ms += ms as i64;
    }

    fn send(&mut self) {
        while let Some(event) = self.outbox.next(self.now, &mut self.clock) {
            assert!(self.is_up, "sent into a link that is down");
            let Event { kind, correlation_id, endpoints, .. } = event;
            let names = endpoints.iter().map(|(endpoint, _)| endpoint.clone()).collect();
            self.wire.push_back((correlation_id.to_owned(), kind, names));
        }
    }

    fn arrive(&mut self, arrival: Arrival, echoes: bool) {
        if echoes {
            self.echoes.push(arrival.0.clone());
        }
        self.arrived.push(arrival);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(endpoint) => self.change(endpoint),
            Step::ChangeAll => (0..ENDPOINTS.len()).for_each(|endpoint| self.change(endpoint)),
            Step::Pass(ms) => self.pass(ms),
            Step::Up if !self.is_up => {
                self.is_up = true;
                self.outbox.link_up(1 << 20);
            }
            Step::Down { arrive } if self.is_up => {
                self.is_up = false;
                self.outbox.link_down();
                self.echoes.clear();
                for (number, arrival) in std::mem::take(&mut self.wire).into_iter().enumerate() {
                    if number < arrive {
                        self.arrive(arrival, false);
                    } else {
                        self.stray.push(arrival);
                    }
                }
            }
            Step::Arrive => {
                if let Some(arrival) = self.wire.pop_front() {
                    self.arrive(arrival, true);
                }
            }
            // One that was not sent again cannot have been overtaken by its own successor: the
            // server it waits in has it before that one is sent, or never gives it on.
            Step::Stray(which) if which < self.stray.len() => {
                let arrival = self.stray.swap_remove(which);
                if self.arrived.iter().any(|(id, ..)| *id == arrival.0) || self.is_up {
                    self.arrive(arrival, false);
                }
            }
            Step::Echo { which, keep } if which < self.echoes.len() => {
                let echo = self.echoes[which].clone();
                if !keep {
                    self.echoes.remove(which);
                }
                self.outbox.confirm(&echo, |_, _, _| {});
            }
            Step::Up | Step::Down { .. } | Step::Stray(_) | Step::Echo { .. } => {}
        }
        self.send();
    }

    fn rest(&mut self) {
        self.step(Step::Up);
        for _ in 0..1_000 {
            if self.outbox.pending() == 0 {
                return;
            }
            self.step(Step::Arrive);
            self.step(Step::Echo { which: 0, keep: false });
            self.step(Step::Pass(50));
            if self.wire.is_empty() && self.echoes.is_empty() {
                self.step(Step::Pass(CONFIRM_MS_MAX));
            }
        }
        panic!("never at rest: {:?}", self.outbox);
    }

    /// The events that NATS has got, each where it came first. Repetitions say the same.
    fn distinct(&self) -> Vec<&Arrival> {
        let mut seen: HashMap<&str, &Arrival> = HashMap::new();
        let mut distinct = Vec::new();
        for arrival in &self.arrived {
            match seen.insert(&arrival.0, arrival) {
                Some(before) => assert_eq!(before, arrival, "another event of the same name"),
                None => distinct.push(arrival),
            }
        }
        distinct
    }

    fn told(&self, endpoint: &str) -> Vec<Kind> {
        let names =
            |(_, _, names): &Arrival| names.iter().filter(|name| &***name == endpoint).count();
        let events = self.distinct();
        assert!(events.iter().all(|event| names(event) <= 1), "an event names it twice");
        events.iter().filter(|event| names(event) == 1).map(|event| event.1).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever is lost, late or comes twice: for each endpoint, the distinct events at NATS are
    /// the changes, in their order, and at rest all of them.
    #[test]
    fn nothing_is_lost_or_doubled_and_the_order_is_kept(
        steps in prop::collection::vec(step(), 0..150)
    ) {
        let mut world = World::new(CHANGES_MAX);
        for step in steps {
            world.step(step);
            for (endpoint, changes) in ENDPOINTS.iter().zip(&world.changes) {
                let told = world.told(endpoint);
                prop_assert_eq!(&told[..], &changes[..told.len()]);
            }
        }
        world.rest();
        for (endpoint, changes) in ENDPOINTS.iter().zip(&world.changes) {
            prop_assert_eq!(&world.told(endpoint), changes);
        }
        prop_assert_eq!(world.outbox.lost(), 0);
        prop_assert_eq!(world.outbox.wake_ms(), None);
    }

    /// What there is no room for is counted; the rest arrives, in order.
    #[test]
    fn beyond_its_bound_the_oldest_changes_are_lost_and_counted(
        steps in prop::collection::vec(step(), 0..150), changes_max in 1..12_usize,
    ) {
        let mut world = World::new(changes_max);
        for step in steps {
            world.step(step);
            prop_assert!(world.outbox.pending() <= changes_max + ENDPOINTS.len());
        }
        world.rest();
        let mut told = 0;
        for (endpoint, changes) in ENDPOINTS.iter().zip(&world.changes) {
            let events = world.told(endpoint);
            told += events.len();
            let mut changes = changes.iter();
            prop_assert!(events.iter().all(|event| changes.any(|change| change == event)));
        }
        let changes: usize = world.changes.iter().map(Vec::len).sum();
        prop_assert_eq!(told + world.outbox.lost() as usize, changes);
    }
}

#[test]
fn a_lost_client_is_told_in_one_event_though_its_endpoints_come_one_by_one() {
    let mut world = World::new(CHANGES_MAX);
    world.step(Step::ChangeAll);
    world.rest();
    world.arrived.clear();
    world.step(Step::Change(0));
    for endpoint in 1..ENDPOINTS.len() {
        world.pass(8); // the window has passed before the last
        world.step(Step::Change(endpoint));
        world.step(Step::Pass(1));
    }
    world.rest();
    assert_eq!(world.arrived.len(), 1);
    assert_eq!(world.arrived[0].2.len(), ENDPOINTS.len());
}

#[test]
fn a_large_group_goes_out_in_parts_and_what_fits_nowhere_is_lost() {
    let (mut clock, now) = (Clock::new(), Now { ms: 0, unix_ms: 0 });
    let mut outbox = Outbox::new("p".to_owned(), 20);
    let huge = "x".repeat(2_000);
    for endpoint in ["e1", &huge, "e2", "e3"] {
        outbox.change(Kind::Connected, (endpoint.into(), "v".into()), now, &mut clock);
    }
    outbox.link_up(80);
    let mut told = Vec::new();
    let later = Now { ms: 100, unix_ms: 100 };
    while let Some(event) = outbox.next(later, &mut clock) {
        told.push(event.endpoints.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>());
        let id = event.correlation_id.to_owned();
        assert!(outbox.confirm(&id, |_, _, _| {}));
        assert!(!outbox.confirm(&id, |_, _, _| {}), "once");
    }
    let mut all = told.concat();
    all.sort();
    assert_eq!(all, ["e1", "e2", "e3"]);
    assert!(told.len() > 1, "{told:?}");
    assert_eq!((outbox.pending(), outbox.lost()), (0, 1));
}

/// Replicas of one instance; each hears each other one in order, but late.
struct Fleet {
    replicas: Vec<Replica>,
    now_ms: u64,
    /// Who claimed each endpoint last, and whether it knew of all claims before.
    last: [Option<(usize, bool)>; 2],
    has_closed: bool,
}

struct Replica {
    connectivity: Connectivity,
    directory: Directory,
    /// How far the clock is off.
    offset_ms: i64,
    /// From each replica: when it comes, and what.
    inbox: Vec<VecDeque<(u64, Kind, Vec<u8>)>>,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Speak {
        endpoint: usize,
        replica: usize,
    },
    /// A connection ends that is not the client's last.
    Close {
        endpoint: usize,
        replica: usize,
    },
    Pass(u64),
    /// Messages from one to another are this late from now on.
    Delay {
        from: usize,
        to: usize,
        ms: u64,
    },
}

fn any_move(replicas: usize) -> impl Strategy<Value = Move> {
    let (endpoint, replica) = (0..2_usize, 0..replicas);
    prop_oneof![
        4 => (endpoint.clone(), replica.clone())
            .prop_map(|(endpoint, replica)| Move::Speak { endpoint, replica }),
        1 => (endpoint, replica.clone())
            .prop_map(|(endpoint, replica)| Move::Close { endpoint, replica }),
        4 => (0..200_u64).prop_map(Move::Pass),
        1 => (0..8_000_u64).prop_map(Move::Pass),
        2 => (replica.clone(), replica, 0..2_000_u64)
            .prop_map(|(from, to, ms)| Move::Delay { from, to, ms }),
    ]
}

impl Fleet {
    fn new(offsets_ms: &[i64]) -> Self {
        let replica = |(number, offset_ms): (usize, &i64)| {
            let mut connectivity = Connectivity::new(ConnectivitySettings {
                replica: format!("r{number}").into(),
                correlation_prefix: format!("r{number}"),
                window_ms: 20,
                shared_versions: HashSet::new(),
                tracks_foreign: true,
            });
            connectivity.link_up(1 << 20);
            let inbox = offsets_ms.iter().map(|_| VecDeque::new()).collect();
            let directory = Directory::new(10, TenantsOfVersions::default());
            Replica { connectivity, directory, offset_ms: *offset_ms, inbox }
        };
        let replicas = offsets_ms.iter().enumerate().map(replica).collect();
        Self { replicas, now_ms: 100_000, last: [None; 2], has_closed: false }
    }

    fn now(&self, replica: usize) -> Now {
        let offset_ms = self.replicas[replica].offset_ms;
        Now { ms: self.now_ms, unix_ms: 1_000_000 + self.now_ms as i64 + offset_ms }
    }

    fn speak(&mut self, endpoint: usize, at: usize) {
        let (name, now) = (ENDPOINTS[endpoint], self.now(at));
        if self.replicas[at].directory.here(name, "v", 0) == Here::First {
            let knows_all = self.knows_all(at, name);
            self.last[endpoint] = Some((at, knows_all));
            self.replicas[at].connectivity.change(Kind::Connected, name, "v".into(), now);
        }
    }

    /// Whether no claim to the endpoint is under way to this replica.
    fn knows_all(&self, at: usize, name: &str) -> bool {
        let waits = |replica: &Replica| replica.connectivity.outbox.claim(name).is_some();
        let comes = |(_, _, datum): &(u64, Kind, Vec<u8>)| {
            let event = ConnectivityEvent::decode(datum).expect("ours");
            event.endpoints.iter().any(|(id, _)| id == name)
        };
        !self.replicas.iter().any(waits) && !self.replicas[at].inbox.iter().flatten().any(comes)
    }

    fn close(&mut self, endpoint: usize, at: usize) {
        let (name, now) = (ENDPOINTS[endpoint], self.now(at));
        if self.last[endpoint].is_some_and(|(last, _)| last == at) {
            return;
        }
        let replica = &mut self.replicas[at];
        if let Gone::Last(version) = replica.directory.gone(name, 0) {
            replica.connectivity.change(Kind::Disconnected, name, version, now);
            self.has_closed = true;
        }
    }

    fn run(&mut self, until_ms: u64, delays: &HashMap<(usize, usize), u64>) {
        while self.now_ms < until_ms {
            self.now_ms += 1;
            for from in 0..self.replicas.len() {
                self.publish(from, delays);
            }
            for to in 0..self.replicas.len() {
                self.hear(to);
            }
        }
    }

    fn publish(&mut self, from: usize, delays: &HashMap<(usize, usize), u64>) {
        let now = self.now(from);
        let mut datum = Vec::new();
        let Some(sent) = self.replicas[from].connectivity.next(now, &mut datum) else { return };
        for to in 0..self.replicas.len() {
            let inbox = &mut self.replicas[to].inbox[from];
            let after_ms = inbox.back().map_or(0, |(at_ms, ..)| *at_ms);
            let delay_ms = delays.get(&(from, to)).copied().unwrap_or(1);
            let at_ms = (self.now_ms + delay_ms).max(after_ms);
            inbox.push_back((at_ms, sent.kind, datum.clone()));
        }
    }

    fn hear(&mut self, to: usize) {
        let now = self.now(to);
        let Replica { connectivity, directory, inbox, .. } = &mut self.replicas[to];
        for from in inbox {
            while from.front().is_some_and(|(at_ms, ..)| *at_ms <= now.ms) {
                let Some((_, kind, datum)) = from.pop_front() else { return };
                let event = ConnectivityEvent::decode(&datum).expect("ours");
                for endpoint in connectivity.heard(kind, &event, directory, now) {
                    directory.roamed(&endpoint);
                }
            }
        }
    }

    fn rest(&mut self) {
        self.run(self.now_ms + 3 * CONFIRM_MS_MAX, &HashMap::new());
        for replica in &self.replicas {
            assert_eq!(replica.connectivity.pending(), 0, "at rest");
        }
    }

    fn holders(&self, endpoint: usize) -> Vec<usize> {
        let has = |replica: &Replica| replica.directory.holder(ENDPOINTS[endpoint]).is_some();
        (0..self.replicas.len()).filter(|number| has(&self.replicas[*number])).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However late replicas hear of each other: at rest one of them has an endpoint, and it is the
    /// one that claimed it last, if that one knew of the other claims. The endpoint's next message
    /// makes it so in any case.
    #[test]
    fn at_rest_one_replica_has_an_endpoint_and_it_is_the_last_claimer(
        offsets in prop::collection::vec(-400..400_i64, 2..4),
        moves in prop::collection::vec(any_move(3), 1..40),
    ) {
        let mut fleet = Fleet::new(&offsets);
        let mut delays = HashMap::new();
        for step in moves {
            match step {
                Move::Speak { endpoint, replica } => {
                    fleet.speak(endpoint, replica % fleet.replicas.len());
                }
                Move::Close { endpoint, replica } => {
                    fleet.close(endpoint, replica % fleet.replicas.len());
                }
                Move::Pass(ms) => fleet.run(fleet.now_ms + ms, &delays),
                Move::Delay { from, to, ms } => {
                    delays.insert((from, to), 1 + ms);
                }
            }
        }
        fleet.rest();
        for endpoint in 0..2 {
            let Some((last, knew_all)) = fleet.last[endpoint] else { continue };
            let holders = fleet.holders(endpoint);
            if knew_all {
                prop_assert_eq!(&holders, &[last]);
            } else if !fleet.has_closed {
                prop_assert_eq!(holders.len(), 1, "{:?}", holders);
            }
            prop_assert!(holders.len() <= 1, "{:?}", holders);
            fleet.speak(endpoint, last);
        }
        fleet.rest();
        for (endpoint, (name, last)) in ENDPOINTS.iter().zip(fleet.last).enumerate() {
            let Some((last, _)) = last else { continue };
            prop_assert_eq!(fleet.holders(endpoint), [last]);
            for (number, replica) in fleet.replicas.iter().enumerate() {
                let elsewhere = replica.connectivity.elsewhere(name);
                let expected = Some(format!("r{last}")).filter(|_| number != last);
                prop_assert_eq!(elsewhere, expected.as_deref());
            }
        }
    }
}

#[test]
fn an_endpoint_that_moved_while_a_replica_was_cut_off_stays_with_who_has_it() {
    let mut fleet = Fleet::new(&[0, 0]);
    fleet.replicas[0].connectivity.link_down();
    fleet.speak(0, 0);
    fleet.run(fleet.now_ms + 8_000, &HashMap::new());
    // The other one's claim is not heard by the one that is cut off.
    fleet.speak(0, 1);
    fleet.run(fleet.now_ms + 8_000, &HashMap::new());
    fleet.replicas[0].inbox.iter_mut().for_each(VecDeque::clear);
    fleet.replicas[0].directory.here(ENDPOINTS[0], "v", 0);
    fleet.replicas[0].connectivity.link_up(1 << 20);
    fleet.rest();
    assert_eq!(fleet.holders(0), [1], "a claim made long before another does not win");
}

#[test]
fn an_event_that_does_not_come_back_on_one_link_is_seen() {
    let (mut outbox, mut clock) = (Outbox::new("r-1".into(), 0), Clock::new());
    let at = |ms| Now { ms, unix_ms: 0 };
    let mut send = |outbox: &mut Outbox, ms| outbox.next(at(ms), &mut clock).is_some();
    outbox.change(Kind::Connected, ("e".into(), "v".into()), at(0), &mut Clock::new());
    assert_eq!(outbox.unheard_ms(at(100_000)), None, "there is no link");
    outbox.link_up(1 << 20);
    for ms in [100_000, 100_000 + CONFIRM_MS_MAX] {
        assert!(send(&mut outbox, ms));
        assert_eq!(outbox.unheard_ms(at(ms)), None);
    }
    assert_eq!(outbox.unheard_ms(at(100_000 + UNHEARD_MS_MAX)), Some(UNHEARD_MS_MAX));
    outbox.link_down();
    assert_eq!(outbox.unheard_ms(at(200_000)), None);
    outbox.link_up(1 << 20);
    assert!(send(&mut outbox, 200_000));
    assert_eq!(outbox.unheard_ms(at(200_000)), None, "it is tried anew");
    outbox.confirm("r-1-1", |_, _, _| {});
    assert_eq!(outbox.unheard_ms(at(300_000)), None);
}

#[test]
fn every_event_has_a_name_of_its_own() {
    let mut world = World::new(CHANGES_MAX);
    for _ in 0..20 {
        world.step(Step::Change(0));
        world.rest();
    }
    let names: HashSet<_> = world.arrived.iter().map(|(id, ..)| id).collect();
    assert_eq!(names.len(), 20);
}
