//! A seeded simulation of the ledger between a shard and a small model of nats-server: random
//! appends, writes that complete in part or never, lost connections, notices and refusals.
//!
//! `RINGGATE_SIMULATION_SEED=<n>` runs one seed alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;

use ringgate::codec::nats::publish_head;
use ringgate::uplink::{Ledger, Limits, SubjectId, Tag, Verdict};

const SEEDS: u64 = 2_000;
const STEPS: u32 = 400;
const SUBJECTS: [&str; 4] = ["ext.a", "ext.b", "ext.c", "ext.refused"];
const REFUSED: usize = 3;
const DEVICES: u64 = 4;
const LIMITS: Limits = Limits { batch_bytes_max: 600, unconfirmed_bytes_max: 6_000 };
const PAYLOAD_BYTES_MAX: usize = 300;
const PAYLOAD_BYTES_MAX_SMALL: usize = 60;
const FRAME_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 64;
const RECORD_BYTES_MAX: usize = 64;

#[test]
fn keeps_its_promises_whatever_happens_to_the_connection() {
    match std::env::var("RINGGATE_SIMULATION_SEED") {
        Ok(seed) => simulate(seed.parse().expect("a seed is a number")),
        Err(_) => (0..SEEDS).for_each(simulate),
    }
}

fn simulate(seed: u64) {
    let run = std::panic::AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
    });
    if std::panic::catch_unwind(run).is_err() {
        panic!("the simulation failed: RINGGATE_SIMULATION_SEED={seed}");
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

#[derive(Clone, Copy)]
struct Message {
    device: u32,
    qos: u8,
    subject: usize,
    is_note: bool,
    is_tracked: bool,
    payload_bytes: usize,
}

enum ToClient {
    Notice(usize),
    Refused(usize),
    Pong(BTreeSet<u64>),
}

/// The server's end of one connection.
#[derive(Default)]
struct Server {
    received: VecDeque<u8>,
    to_client: VecDeque<ToClient>,
    group: BTreeSet<u64>,
    /// Last message of QoS 1 or 2 of each device on this connection.
    last_of_device: BTreeMap<u32, u64>,
    payload_bytes_max: usize,
}

struct World {
    random: Random,
    ledger: Ledger,
    now_us: u64,
    messages: Vec<Message>,
    server: Option<Server>,
    in_flight: Option<(Vec<u8>, usize)>,
    names_subject: bool,
    changes_payload_max: bool,
    /// One message in so many is of QoS 1 or 2 or has a request id.
    tracked_one_in: u64,
    payload_bytes_max: usize,
    has_interest: [bool; SUBJECTS.len()],
    /// A change of interest that no confirmed message has met, and the message that met it first.
    flip: [Option<Option<u64>>; SUBJECTS.len()],
    /// How often the server took each message, and whether nobody was interested the last time.
    taken: BTreeMap<u64, (u32, bool)>,
    proven: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    reported: BTreeSet<u64>,
    last_acknowledged: BTreeMap<u32, u64>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let names_subject = !random.one_in(4);
        let changes_payload_max = random.one_in(8);
        let tracked_one_in = if random.one_in(3) { 12 } else { 1 };
        World {
            random,
            ledger: Ledger::new(LIMITS),
            now_us: 0,
            messages: Vec::new(),
            server: None,
            in_flight: None,
            names_subject,
            changes_payload_max,
            tracked_one_in,
            payload_bytes_max: PAYLOAD_BYTES_MAX,
            has_interest: [true; SUBJECTS.len()],
            flip: [None; SUBJECTS.len()],
            taken: BTreeMap::new(),
            proven: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            reported: BTreeSet::new(),
            last_acknowledged: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        self.now_us += self.random.below(100);
        match self.random.below(100) {
            0..40 => self.append(),
            40..43 => self.note(),
            43..60 => self.write(),
            60..75 => self.serve(),
            75..92 => self.receive(),
            92..94 => self.ledger.request_ping(),
            94..97 => self.flip_interest(),
            97..98 => self.disconnect(),
            _ => self.connect(),
        }
        let bound = LIMITS.unconfirmed_bytes_max + FRAME_BYTES_MAX + RECORD_BYTES_MAX;
        assert!(self.ledger.unconfirmed_bytes() <= bound, "the bound is exceeded");
    }

    fn tag(&mut self, id: u64, device: u32, qos: u8) -> Tag {
        let packet_id = NonZeroU16::new(id as u16 + 1).filter(|_| qos > 0);
        let has_request_id = self.random.one_in(2);
        // The simulation has far fewer messages than there are generations: it carries the id.
        Tag { connection: device, generation: id as u32, packet_id, qos, has_request_id }
    }

    fn append(&mut self) {
        let id = self.messages.len() as u64;
        let device = self.random.below(DEVICES) as u32;
        let is_tracked = self.random.one_in(self.tracked_one_in);
        let qos = if is_tracked { self.random.below(3) as u8 } else { 0 };
        let subject = match self.random.below(20) {
            0 => REFUSED,
            n => (n % 3) as usize,
        };
        let payload_bytes = self.random.below(self.payload_bytes_max as u64 - 8) as usize + 8;
        let tag = self.tag(id, device, qos);
        let tag = (qos > 0 || is_tracked && tag.has_request_id).then_some(tag);
        let name = SUBJECTS[subject].as_bytes();
        let was_full = self.ledger.is_full();
        let done = self.ledger.append(SubjectId::of(name), tag, self.now_us, |batch| {
            publish_head(batch, name, Some(b"reply"), payload_bytes);
            batch.extend_from_slice(&id.to_be_bytes());
            batch.resize(batch.len() + payload_bytes - 8, b'\n');
            batch.extend_from_slice(b"\r\n");
        });
        assert_eq!(done.is_err(), was_full);
        if done.is_ok() {
            let (is_note, is_tracked) = (false, tag.is_some());
            let message = Message { device, qos, subject, is_note, is_tracked, payload_bytes };
            self.messages.push(message);
        }
    }

    fn note(&mut self) {
        let id = self.messages.len() as u64;
        let device = self.random.below(DEVICES) as u32;
        let tag = self.tag(id, device, 1);
        if self.ledger.note(tag, self.now_us).is_ok() {
            let (qos, subject, is_note, is_tracked, payload_bytes) = (1, 0, true, true, 0);
            let message = Message { device, qos, subject, is_note, is_tracked, payload_bytes };
            self.messages.push(message);
        }
    }

    /// Begins a write, moves some of its bytes, or learns that it is done.
    fn write(&mut self) {
        let Some(server) = &mut self.server else { return };
        match &mut self.in_flight {
            None => {
                let has_bytes = self.ledger.has_bytes_to_write();
                let batch = self.ledger.take_for_write();
                assert_eq!(batch.is_some(), has_bytes);
                self.in_flight = batch.map(|batch| (batch, 0));
                if let Some((batch, _)) = &self.in_flight {
                    assert!(batch.capacity() <= 2 * (LIMITS.batch_bytes_max + FRAME_BYTES_MAX));
                }
            }
            Some((batch, sent)) if *sent == batch.len() => self.finish_write(),
            Some((batch, sent)) => {
                let rest = batch.len() - *sent;
                let count = match self.random.below(3) {
                    0 => self.random.below(rest as u64) as usize,
                    _ => rest,
                };
                server.received.extend(&batch[*sent..*sent + count]);
                *sent += count;
            }
        }
    }

    fn finish_write(&mut self) {
        if let Some((batch, _)) = self.in_flight.take() {
            self.ledger.write_done(batch);
            self.collect();
        }
    }

    /// The server works off what it has received, or some of it.
    fn serve(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let mut operations = if self.random.one_in(2) { u64::MAX } else { self.random.below(4) };
        while operations > 0 && self.serve_one(&mut server) {
            operations -= 1;
        }
        self.server = Some(server);
    }

    fn serve_one(&mut self, server: &mut Server) -> bool {
        let Some(line_end) = server.received.iter().position(|byte| *byte == b'\n') else {
            return false;
        };
        let line: Vec<u8> = server.received.range(..line_end - 1).copied().collect();
        let line = String::from_utf8(line).expect("a control line is text");
        if line == "PING" {
            server.received.drain(..=line_end);
            let group = std::mem::take(&mut server.group);
            server.to_client.push_back(ToClient::Pong(group));
            return true;
        }
        let words: Vec<&str> = line.split(' ').collect();
        let ["PUB", subject, "reply", size] = words[..] else { panic!("not a frame: {line:?}") };
        let size: usize = size.parse().expect("a size is a number");
        assert!(size <= server.payload_bytes_max, "this server would close the connection");
        if server.received.len() < line_end + 1 + size + 2 {
            return false;
        }
        server.received.drain(..=line_end);
        let payload: Vec<u8> = server.received.drain(..size + 2).collect();
        assert!(payload.ends_with(b"\r\n"));
        let id = u64::from_be_bytes(payload[..8].try_into().expect("8 bytes"));
        let subject = SUBJECTS.iter().position(|name| *name == subject).expect("a known subject");
        self.take(server, id, subject);
        true
    }

    fn take(&mut self, server: &mut Server, id: u64, subject: usize) {
        let message = self.messages[id as usize];
        assert_eq!(message.subject, subject);
        if message.qos > 0 {
            let last = server.last_of_device.insert(message.device, id);
            assert!(last < Some(id), "messages of a device change places");
        }
        let is_unheard = subject != REFUSED && !self.has_interest[subject];
        let (times, _) = self.taken.get(&id).copied().unwrap_or_default();
        assert!(message.qos > 0 || times == 0, "a message of QoS 0 was delivered twice");
        self.taken.insert(id, (times + 1, is_unheard));
        server.group.insert(id);
        if let Some(met_by @ None) = &mut self.flip[subject] {
            *met_by = Some(id);
        }
        if subject == REFUSED {
            server.to_client.push_back(ToClient::Refused(subject));
        } else if is_unheard {
            server.to_client.push_back(ToClient::Notice(subject));
        }
    }

    /// The client takes in what the server says.
    fn receive(&mut self) {
        let Some(server) = &mut self.server else { return };
        let Some(event) = server.to_client.pop_front() else { return };
        let id_of = |subject: usize| SubjectId::of(SUBJECTS[subject].as_bytes());
        match event {
            ToClient::Notice(subject) => {
                self.ledger.no_responders(self.names_subject.then(|| id_of(subject)));
            }
            ToClient::Refused(subject) => self.ledger.refused(id_of(subject)),
            ToClient::Pong(group) => {
                for flip in &mut self.flip {
                    if flip.flatten().is_some_and(|met_by| group.contains(&met_by)) {
                        *flip = None;
                    }
                }
                self.proven.extend(group);
                self.ledger.pong().expect("every PONG has its PING");
                self.collect();
            }
        }
    }

    /// The rule by which notices are attributed is exact if interest changes no more than once
    /// between what the ledger knows and the end of a group.
    fn flip_interest(&mut self) {
        let subject = self.random.below(REFUSED as u64) as usize;
        if self.flip[subject].is_none() {
            self.flip[subject] = Some(None);
            self.has_interest[subject] = !self.has_interest[subject];
        }
    }

    fn connect(&mut self) {
        if self.server.is_some() {
            return;
        }
        if self.changes_payload_max {
            let is_small = self.random.one_in(2);
            self.payload_bytes_max =
                if is_small { PAYLOAD_BYTES_MAX_SMALL } else { PAYLOAD_BYTES_MAX };
        }
        self.ledger.connected(self.payload_bytes_max);
        let payload_bytes_max = self.payload_bytes_max;
        self.server = Some(Server { payload_bytes_max, ..Server::default() });
    }

    fn disconnect(&mut self) {
        if self.random.one_in(2) {
            self.serve();
        }
        if self.server.take().is_none() {
            return;
        }
        self.finish_write();
        self.ledger.disconnected();
        assert!(!self.ledger.awaits_pong());
        for flip in self.flip.iter_mut().flatten() {
            *flip = None;
        }
    }

    fn collect(&mut self) {
        while let Some(group) = self.ledger.confirmed(self.now_us) {
            for outcome in group.outcomes() {
                let id = u64::from(outcome.tag.generation);
                let message = self.messages[id as usize];
                assert_eq!(outcome.tag.connection, message.device);
                assert_eq!(outcome.tag.qos, message.qos);
                let is_too_large = outcome.verdict == Verdict::TooLarge;
                if message.is_note || is_too_large {
                    assert!(outcome.frame.is_empty() && outcome.payload().is_empty());
                    assert!(message.is_note || message.payload_bytes > PAYLOAD_BYTES_MAX_SMALL);
                } else {
                    assert!(self.proven.contains(&id), "{id} was confirmed before its PONG");
                    assert_eq!(outcome.payload()[..8], id.to_be_bytes());
                    assert_eq!(outcome.payload().len(), message.payload_bytes);
                    self.check_verdict(id, outcome.verdict);
                }
                if message.qos > 0 {
                    assert!(self.acknowledged.insert(id), "{id} was acknowledged twice");
                    let last = self.last_acknowledged.insert(message.device, id);
                    assert!(last < Some(id), "acknowledgements change places");
                } else {
                    assert_ne!(outcome.verdict, Verdict::Taken, "nothing is owed to {id}");
                    assert!(self.reported.insert(id), "{id} was reported twice");
                }
            }
            self.ledger.recycle(group);
        }
    }

    fn check_verdict(&self, id: u64, verdict: Verdict) {
        let (_, is_unheard) = self.taken[&id];
        if self.messages[id as usize].subject == REFUSED {
            assert_eq!(verdict, Verdict::Refused);
        } else if self.names_subject {
            let expected = if is_unheard { Verdict::NoResponders } else { Verdict::Taken };
            assert_eq!(verdict, expected, "of message {id}");
        }
    }

    /// Lets everything come to rest and takes stock.
    fn finish(&mut self) {
        self.changes_payload_max = false;
        self.connect();
        let is_read =
            |world: &World| world.server.as_ref().is_none_or(|server| server.received.is_empty());
        for _ in 0..10_000 {
            if self.ledger.is_empty() && self.in_flight.is_none() && is_read(self) {
                break;
            }
            self.write();
            self.serve();
            self.receive();
        }
        assert!(self.ledger.is_empty() && !self.ledger.has_bytes_to_write());
        assert_eq!(self.ledger.unconfirmed_bytes(), 0);
        let stats = *self.ledger.stats();
        let mut qos0_missing = 0;
        for (id, message) in (0..).zip(&self.messages) {
            let is_unheard = self.taken.get(&id).is_some_and(|(_, is_unheard)| *is_unheard);
            if message.is_tracked && message.qos == 0 && self.proven.contains(&id) {
                let is_due = self.names_subject && (is_unheard || message.subject == REFUSED);
                assert!(!is_due || self.reported.contains(&id), "nobody heard of {id}");
            }
            match message.qos {
                0 => qos0_missing += u64::from(!self.taken.contains_key(&id)),
                _ => assert!(self.acknowledged.contains(&id), "{id} was never acknowledged"),
            }
        }
        let qos0_given_up = stats.qos0_lost + stats.too_large;
        assert!(qos0_missing <= qos0_given_up, "{qos0_missing} lost, {qos0_given_up} counted");
        let appended = self.messages.iter().filter(|message| !message.is_note).count();
        assert_eq!(stats.messages, appended as u64);
    }
}
