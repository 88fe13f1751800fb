//! The simulated world: what exists, what can happen next, and what must always hold.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::device::Device;
use super::nats::{Link, Nats};
use super::random::Random;
use super::setup::Setup;
use super::truth::Truth;
use crate::shard::connection::Life;
use crate::shard::core::Core;
use crate::shard::mail::{Mail, Mailbox, Report};
use crate::shard::registry::Registry;
use crate::shard::sockets::Sockets;

/// What the gateway grants of the expiry asked for, in seconds, at most.
pub(super) const EXPIRY_S_MAX: u32 = 3600;

/// Something wrong, put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The ledger hears of a PONG as soon as a batch is written.
    EarlyPong,
    /// NATS loses messages of a batch it confirms.
    Loss,
    /// NATS gets messages twice.
    Repetition,
    /// Mails between shards are lost.
    LostMail,
    /// Answers go to any client.
    CrossedAnswers,
    /// A connection is put on hold and forgotten.
    ForgottenHold,
}

/// A model of a shard's ring.
#[derive(Default)]
pub(super) struct Ring {
    pub(super) sends: HashMap<u32, Vec<u8>>,
    pub(super) receives: HashSet<u32>,
    pub(super) cancels: HashSet<u32>,
}

impl Sockets for Ring {
    fn send(&mut self, index: u32, _: &OwnedFd, bytes: Vec<u8>) {
        assert!(!bytes.is_empty());
        assert!(self.sends.insert(index, bytes).is_none(), "two sends at a time");
    }

    /// Takes nothing, like a socket whose buffer is full: the bytes come by [`Self::send`].
    fn send_last(&mut self, _: u32, _: &OwnedFd, _: &[u8]) -> usize {
        0
    }

    fn receive(&mut self, index: u32, _: &OwnedFd) {
        assert!(self.receives.insert(index), "two receives at a time");
    }

    fn cancel_receive(&mut self, index: u32) {
        assert!(self.receives.contains(&index), "nothing to cancel");
        assert!(self.cancels.insert(index), "cancelled twice");
    }
}

pub(super) struct Shard {
    pub(super) core: Core,
    pub(super) mailbox: Mailbox,
    pub(super) mails: VecDeque<Mail>,
    pub(super) ring: Ring,
    pub(super) link: Link,
    /// The device at each place of the core's table.
    pub(super) places: HashMap<u32, usize>,
}

/// What is known of a client id's session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Session {
    /// A connection owns it.
    Live(usize),
    Kept {
        expires_ms: u64,
    },
    /// Its last connection ended before it was let in, and how much is left is not known.
    Unknown,
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Deliver(usize, u32),
    Sent(usize, u32),
    Cancelled(usize, u32),
    Mail(usize),
    Report,
    Connect(usize),
    StartWrite(usize),
    EndWrite(usize),
    Serve(usize),
    Hear(usize),
    Answer,
    Acknowledge(usize),
    Goodbye(usize),
}

pub struct World {
    pub(super) random: Random,
    pub(super) fault: Option<Fault>,
    pub(super) now_ms: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) registry: Arc<Registry>,
    pub(super) reports: Receiver<Report>,
    pub(super) reported: VecDeque<Report>,
    pub(super) directory: HashMap<String, usize>,
    pub(super) pushes: HashMap<Vec<u8>, (usize, &'static str)>,
    pub(super) devices: Vec<Device>,
    pub(super) sessions: HashMap<String, Session>,
    /// The device that connected last with each client id.
    pub(super) claimants: HashMap<String, usize>,
    pub(super) nats: Nats,
    pub(super) truth: Truth,
    pub(super) drains: bool,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut random = Random::new(seed);
        let setup = Setup::random(&mut random);
        let truth = Truth::new(setup.may_refuse());
        let (cores, registry, reports) = setup.build();
        let shards = cores
            .into_iter()
            .map(|(core, mailbox)| Shard {
                core,
                mailbox,
                mails: VecDeque::new(),
                ring: Ring::default(),
                link: Link::default(),
                places: HashMap::new(),
            })
            .collect();
        let nats = Nats {
            loses: fault == Some(Fault::Loss),
            repeats: fault == Some(Fault::Repetition),
            ..Nats::default()
        };
        let mut world = Self {
            random,
            fault,
            now_ms: 0,
            shards,
            registry,
            reports,
            reported: VecDeque::new(),
            directory: HashMap::new(),
            pushes: HashMap::new(),
            devices: Vec::new(),
            sessions: HashMap::new(),
            claimants: HashMap::new(),
            nats,
            truth,
            drains: setup.drains,
        };
        world.advance(1000);
        world
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        for shard in &mut self.shards {
            let now = &mut shard.core.now;
            (now.ms, now.us, now.unix_ms) =
                (self.now_ms, self.now_ms * 1000, self.now_ms as i64 + 1_700_000_000_000);
        }
    }

    /// Lets something happen.
    pub fn step(&mut self) {
        let events = self.events();
        if !events.is_empty() && self.random.percent(75) {
            let event = self.random.pick(&events);
            self.happen(event);
            return;
        }
        match self.random.below(100) {
            0..12 => self.connect_device(),
            12..80 => {
                let able: Vec<usize> =
                    (0..self.devices.len()).filter(|at| self.devices[*at].may_act()).collect();
                if !able.is_empty() {
                    let at = self.random.pick(&able);
                    self.devices[at].act(&mut self.truth, &mut self.random);
                }
            }
            80..84 => {
                let shard = self.random.below(self.shards.len());
                self.break_link(shard);
            }
            84..90 => {
                let ms = self.random.pick(&[10, 300, 1000, 1000, 7_000, 70_000]);
                self.advance(ms as u64);
                for shard in 0..self.shards.len() {
                    self.shards[shard].core.tick();
                    self.settle_turn(shard);
                }
            }
            90..95 => self.push(),
            95..97 => self.nats.toggle(&mut self.random),
            _ => self.run_out_of_buffers(),
        }
    }

    /// What may happen without anybody deciding anything.
    pub(super) fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            self.socket_events(number, shard, &mut events);
            if !shard.mails.is_empty() {
                events.push(Event::Mail(number));
            }
            let ledger = shard.core.ledger.borrow();
            let link = &shard.link;
            if !link.is_up {
                events.push(Event::Connect(number));
            } else if link.writing.is_some() {
                events.push(Event::EndWrite(number));
            } else if ledger.has_bytes_to_write() {
                events.push(Event::StartWrite(number));
            }
            if link.has_work() {
                events.push(Event::Serve(number));
            }
            if !link.said.is_empty() {
                events.push(Event::Hear(number));
            }
            if shard.core.goodbyes_are_due() {
                events.push(Event::Goodbye(number));
            }
        }
        if !self.reported.is_empty() {
            events.push(Event::Report);
        }
        if !self.nats.pending.is_empty() {
            events.push(Event::Answer);
        }
        let due = self.devices.iter().filter(|device| device.has_acks());
        events.extend(due.map(|device| Event::Acknowledge(device.number)));
        events
    }

    fn socket_events(&self, number: usize, shard: &Shard, events: &mut Vec<Event>) {
        let Shard { core, ring, places, .. } = shard;
        let mut indices: Vec<u32> = places.keys().copied().collect();
        indices.sort_unstable();
        for index in indices {
            let device = &self.devices[places[&index]];
            let is_shut = core.connections[index as usize].life == Life::Shut;
            let is_over = device.has_failed || is_shut;
            if ring.receives.contains(&index)
                && (!device.outgoing.is_empty() || device.has_closed || is_over)
            {
                events.push(Event::Deliver(number, index));
            }
            if ring.sends.contains_key(&index) && (device.reads || device.has_closed || is_over) {
                events.push(Event::Sent(number, index));
            }
            if ring.cancels.contains(&index) {
                events.push(Event::Cancelled(number, index));
            }
        }
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(shard, index) => self.deliver(shard, index),
            Event::Sent(shard, index) => self.sent(shard, index),
            Event::Cancelled(shard, index) => self.receive_ends(shard, index, None),
            Event::Mail(shard) => self.take_mail(shard),
            Event::Report => self.take_reports(),
            Event::Connect(shard) => self.connect_link(shard),
            Event::StartWrite(shard) => self.start_write(shard),
            Event::EndWrite(shard) => self.end_write(shard),
            Event::Serve(shard) => {
                let link = &mut self.shards[shard].link;
                self.nats.serve(link, &mut self.truth, &mut self.random);
            }
            Event::Hear(shard) => self.hear(shard),
            Event::Answer => self.answer(),
            Event::Acknowledge(device) => self.devices[device].send_ack(),
            Event::Goodbye(shard) => {
                self.shards[shard].core.say_goodbye_to_all();
                self.settle_turn(shard);
            }
        }
    }

    /// What the shell does at the end of each turn, and then what must hold.
    pub(super) fn settle_turn(&mut self, shard: usize) {
        let Shard { core, ring, places, .. } = &mut self.shards[shard];
        core.resume_waiting();
        let mut ended: Vec<_> = places
            .iter()
            .filter_map(|(index, device)| {
                let connection = &core.connections[*index as usize];
                connection.close_reason.map(|reason| (*device, reason))
            })
            .collect();
        ended.sort_unstable_by_key(|(device, _)| *device);
        while let Some(index) = core.dirty.pop() {
            core.finish(index, ring);
        }
        places.retain(|index, _| core.connections.contains(*index as usize));
        if self.fault == Some(Fault::ForgottenHold) && self.random.percent(2) {
            core.waiting.pop_front();
        }
        for (device, reason) in ended {
            self.ended(device, reason);
        }
        self.collect_mail();
        while let Ok(report) = self.reports.try_recv() {
            self.reported.push_back(report);
        }
        self.check();
    }

    pub(super) fn collect_mail(&mut self) {
        for shard in &mut self.shards {
            shard.mailbox.drain(|mail| shard.mails.push_back(mail));
        }
    }

    fn check(&self) {
        let no_mail = self.shards.iter().all(|shard| shard.mails.is_empty());
        if !no_mail {
            return;
        }
        let mut live = HashSet::new();
        for shard in &self.shards {
            for (_, connection) in &shard.core.connections {
                if let Some(client_id) = connection.session.client_id() {
                    assert!(live.insert(client_id.clone()), "client {client_id} lives twice");
                }
            }
        }
    }
}
