//! The shard, its provider, its clients and NATS: what happens between them, and what must hold.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::mpsc::Receiver;

use super::Fault;
use super::device::{Device, Heard, connect};
use super::provider::{APPS, Asked, Desk, Standing, Subject, TOKENS, Thought, USERS, judge};
use super::rig::{Ring, build};
use crate::auth::{Rejection, Requirement, Verdict};
use crate::shard::connection::{Hold, Life, Receive};
use crate::shard::core::Core;
use crate::shard::mail::{Mail, Report};
use crate::shard::simulation::random::Random;
use crate::shard::simulation::setup::MQTT;
use crate::shard::simulation::wire;

/// The largest message NATS takes.
const PAYLOAD_BYTES_MAX: usize = 4096;

/// One PUBLISH of a device.
pub struct Message {
    pub device: usize,
    pub qos: u8,
    pub token: Option<usize>,
    pub app: usize,
    /// When the shard got it, or later, as long as it has waited there.
    pub at: u64,
    /// The same as to its token.
    pub token_at: u64,
    /// Its device was not let talk for the tenant at that time, and it was taken at once.
    pub is_forbidden: bool,
    /// It waits, and its device has not proven what the tenant demands by now.
    pub is_barred: bool,
    pub has_arrived: bool,
    pub is_confirmed: bool,
    /// It was acknowledged as one that is not carried.
    pub was_dropped: bool,
}

pub struct World {
    pub core: Core,
    pub reports: Receiver<Report>,
    pub desk: Arc<Desk>,
    pub ring: Ring,
    pub fault: Option<Fault>,
    pub random: Random,
    pub now_ms: u64,
    pub devices: Vec<Device>,
    /// The device at each place of the core's table.
    pub places: Vec<Option<usize>>,
    pub messages: Vec<Message>,
    /// The last message at NATS, by device and token.
    pub last: Vec<(usize, Option<usize>, usize)>,
    pub tokens: [Standing; TOKENS.len()],
    pub users: [Standing; USERS.len()],
    pub requirements: [Requirement; APPS.len()],
    /// Endpoints that are here, as reported.
    pub here: Vec<Box<str>>,
    pub questions: Vec<Asked>,
    /// When each question was first asked.
    pub first_asked: Vec<(u64, u64)>,
    pub link_is_up: bool,
    /// Messages of each PING that NATS has not answered, and those behind the last PING.
    pub pings: Vec<Vec<usize>>,
    pub unpinged: Vec<usize>,
    pub correlations: Vec<(String, usize)>,
    socket: OwnedFd,
}

impl World {
    pub fn new(group: u64, fault: Option<Fault>) -> Self {
        let (core, reports, desk) = build(group);
        Self {
            core,
            reports,
            desk,
            ring: Ring::default(),
            fault,
            random: Random::new(group),
            now_ms: 1000,
            devices: Vec::new(),
            places: Vec::new(),
            messages: Vec::new(),
            last: Vec::new(),
            tokens: Default::default(),
            users: Default::default(),
            requirements: [Requirement::None; APPS.len()],
            here: Vec::new(),
            questions: Vec::new(),
            first_asked: Vec::new(),
            link_is_up: false,
            pings: Vec::new(),
            unpinged: Vec::new(),
            correlations: Vec::new(),
            socket: File::open("/dev/null").expect("is there").into(),
        }
    }

    pub fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = &mut self.core.now;
        (now.ms, now.us, now.unix_ms) =
            (self.now_ms, self.now_ms * 1000, self.now_ms as i64 + 1_700_000_000_000);
    }

    pub fn connect(&mut self) {
        let login = match self.random.below(10) {
            0..4 => None,
            other => Some((self.random.below(USERS.len()), other < 9)),
        };
        let level = self.random.pick(&[4, 5]);
        let client_id = self.random.pick(&["x", "y", "z"]);
        let clean = self.random.percent(50);
        let socket = self.socket.try_clone().expect("a descriptor is left");
        let at = self.desk.next_moment();
        let index = self.core.opened(socket, MQTT).expect("there is room");
        let number = self.devices.len();
        self.devices.push(Device::new(index, level, login, at));
        if self.places.len() <= index as usize {
            self.places.resize(index as usize + 1, None);
        }
        self.places[index as usize] = Some(number);
        self.core.received(index, &connect(level, client_id, clean, login));
        self.settle();
    }

    /// A device that can still say something, if there is one.
    pub fn talker(&mut self) -> Option<usize> {
        let count = self.devices.iter().filter(|device| !device.has_ended).count();
        let at = (count > 0).then(|| self.random.below(count))?;
        let mut able = (0..self.devices.len()).filter(|at| !self.devices[*at].has_ended);
        able.nth(at)
    }

    pub fn publish(&mut self, number: usize) {
        let token = match self.random.below(12) {
            0 => None,
            _ => Some(self.random.below(TOKENS.len())),
        };
        let app = token.map_or_else(|| self.random.below(APPS.len()), |at| TOKENS[at].app);
        let qos = self.random.below(3) as u8;
        let message = self.messages.len();
        let mut topic = String::with_capacity(40);
        for part in ["kp1/", APPS[app].2, if token.is_some() { "/dcx/" } else { "/tsx" }] {
            topic.push_str(part);
        }
        topic.push_str(token.map_or("", |at| TOKENS[at].text));
        topic.push_str("/data");
        if self.random.percent(40) {
            topic.push_str("/7");
        }
        let packet_id = if qos > 0 { 1 + message as u16 } else { 0 };
        let device = &mut self.devices[number];
        if let Some(at) = token {
            device.named[at] = true;
        }
        if qos > 0 {
            device.owed[usize::from(qos) - 1].push_back((packet_id, message));
        }
        let connection = &self.core.connections[device.index as usize];
        let is_direct = connection.hold == Hold::None && connection.pending.is_empty();
        let is_met = device.meets(self.requirements[app]);
        let at = self.desk.next_moment();
        self.messages.push(Message {
            device: number,
            qos,
            token,
            app,
            at,
            token_at: at,
            is_forbidden: is_direct && !is_met,
            is_barred: false,
            has_arrived: false,
            is_confirmed: false,
            was_dropped: false,
        });
        let payload = (message as u32).to_be_bytes();
        let publish = wire::Publish {
            topic: &topic,
            payload: &payload,
            qos,
            packet_id,
            dup: false,
            alias: 0,
        };
        let bytes = wire::publish(device.level, &publish);
        let index = device.index;
        self.core.received(index, &bytes);
        // Put on hold by this very message, it is judged by what is demanded when it is taken.
        let connection = self.core.connections.get(index as usize);
        if connection.is_some_and(|connection| !connection.pending.is_empty()) {
            self.messages[message].is_forbidden = false;
        }
        self.settle();
    }

    /// A device leaves: with DISCONNECT, by closing, or by a reset.
    pub fn leave(&mut self, number: usize) {
        let how = self.random.below(3);
        let device = &mut self.devices[number];
        let index = device.index;
        device.has_ended = true;
        self.desk.next_moment();
        if how == 0 && device.is_in {
            self.core.received(index, &[0xE0, 0]);
        }
        self.core.receive_stopped(index);
        self.core.peer_ended(index, how == 2);
        self.settle();
    }

    /// The provider thinks about one of the questions, and does not answer yet.
    pub fn think(&mut self) {
        if !self.questions.is_empty() {
            let at = self.random.below(self.questions.len());
            let thought = self.judge(self.questions[at].subject);
            self.questions[at].thought = Some(thought);
        }
    }

    fn judge(&self, subject: Subject) -> Thought {
        let standing = match subject {
            Subject::Token(at) => &self.tokens[at],
            Subject::User(at, _) => &self.users[at],
        };
        judge(subject, standing, self.fault == Some(Fault::CarelessClerk))
    }

    /// One of the questions is answered.
    pub fn answer(&mut self, passing: bool) {
        if self.questions.is_empty() {
            return;
        }
        let at = self.random.below(self.questions.len());
        let asked = self.questions.swap_remove(at);
        let now = self.judge(asked.subject);
        let thought = asked.thought.clone().unwrap_or(now);
        let mut number = asked.number;
        if self.fault == Some(Fault::WrongNumber)
            && let Some(other) = self.questions.first()
        {
            number = other.number;
        }
        self.answered(number, asked.subject, thought, passing);
        if self.random.percent(10) {
            let again = self.judge(asked.subject);
            self.answered(number, asked.subject, again, false);
        }
    }

    fn answered(&mut self, number: u64, subject: Subject, thought: Thought, passing: bool) {
        self.desk.next_moment();
        let is_awaited = self.core.asks.get(number).is_some();
        let mut verdict = thought.verdict;
        if passing {
            let rejection = Rejection { status_code: 503, reason: None };
            verdict = Verdict::Rejected(rejection);
        } else if is_awaited {
            let first = self.first_asked.iter().find(|(asked, _)| *asked == number);
            let asked_at = first.map_or(0, |(_, at)| *at);
            let standing = match subject {
                Subject::Token(at) => &mut self.tokens[at],
                Subject::User(at, _) => &mut self.users[at],
            };
            if thought.is_true_grant {
                standing.granted_asked_at = standing.granted_asked_at.max(asked_at);
            } else {
                standing.was_rejected = true;
            }
        }
        self.core.mail(Mail::Answered { ask: number, verdict });
        self.settle();
    }

    pub fn link_up(&mut self) {
        if !self.link_is_up {
            self.link_is_up = true;
            self.core.ledger.borrow_mut().connected(PAYLOAD_BYTES_MAX);
            self.core.link_up(PAYLOAD_BYTES_MAX);
            self.settle();
            self.judge_waiting();
        }
    }

    /// While the link is up, all that is carried is there: what waits still may go on only when its
    /// device, gone or not, has proven what is demanded then.
    pub fn judge_waiting(&mut self) {
        let Self { messages, devices, requirements, link_is_up, .. } = self;
        for message in messages.iter_mut().filter(|message| *link_is_up && !message.has_arrived) {
            let is_met = devices[message.device].meets(requirements[message.app]);
            message.is_barred = !is_met;
        }
    }

    pub fn link_down(&mut self) {
        if self.link_is_up {
            self.link_is_up = false;
            self.pings.clear();
            self.unpinged.clear();
            self.core.ledger.borrow_mut().disconnected();
            self.core.link_down();
            self.settle();
        }
    }

    pub fn pong(&mut self) {
        if self.pings.is_empty() {
            return;
        }
        for message in self.pings.remove(0) {
            self.messages[message].is_confirmed = true;
        }
        let known = self.core.ledger.borrow_mut().pong();
        assert!(known.is_ok(), "{known:?}");
        self.core.settle();
        self.settle();
    }

    /// What the shell does at the end of each turn, until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            self.core.resume_waiting();
            while let Some(index) = self.core.dirty.pop() {
                self.core.finish(index, &mut self.ring);
            }
            for index in std::mem::take(&mut self.ring.cancels) {
                self.core.receive_stopped(index);
            }
            for (index, bytes) in std::mem::take(&mut self.ring.lasts) {
                self.hear(index, &bytes);
            }
            for (index, bytes) in std::mem::take(&mut self.ring.sends) {
                let replies = self.hear(index, &bytes);
                self.core.sent(index, bytes, true);
                let number = self.places[index as usize].expect("somebody is there");
                if !replies.is_empty() && !self.devices[number].has_ended {
                    self.core.received(index, &replies);
                }
            }
            self.see_ends();
            self.write();
            if self.core.dirty.is_empty() {
                break;
            }
        }
        let at = self.desk.time.load(Relaxed);
        let mut asked = self.desk.take();
        // Several at once come in the order of a hash table, which no seed decides.
        asked.sort_by_key(|asked| asked.subject);
        for asked in asked {
            if !self.first_asked.iter().any(|(number, _)| *number == asked.number) {
                self.first_asked.push((asked.number, asked.at.min(at)));
            }
            self.questions.push(asked);
        }
        self.take_reports();
    }

    /// What a device reads, and what it replies.
    fn hear(&mut self, index: u32, bytes: &[u8]) -> Vec<u8> {
        let number = self.places[index as usize].expect("somebody is there");
        let mut replies = Vec::new();
        let Self { devices, users, messages, tokens, .. } = self;
        let device = &mut devices[number];
        let (login, connected_at, level) = (device.login, device.connected_at, device.level);
        device.hear(bytes, &mut replies, |heard| match heard {
            Heard::LetIn => {
                let Some((user, is_right)) = login else { return };
                assert!(is_right, "let in with a wrong password");
                let standing = &users[user];
                let asked_at = standing.granted_asked_at;
                assert!(asked_at > connected_at, "let in before its credentials were granted");
                assert!(asked_at > standing.revoked_at, "let in with revoked credentials");
            }
            Heard::Acknowledged(number, code) => {
                let message = &mut messages[number];
                if message.is_confirmed || code >= 0x80 {
                    return;
                }
                assert!(!message.has_arrived, "{number} acknowledged before its PONG");
                let is_alien = login.is_some_and(|(at, _)| USERS[at].1 != APPS[message.app].1);
                let is_rejected = message.token.is_some_and(|at| tokens[at].was_rejected);
                let may_be_dropped = level < 5 && (is_alien || is_rejected);
                assert!(may_be_dropped, "{number} acknowledged and not carried");
                message.was_dropped = true;
            }
        });
        replies
    }

    /// Devices whose connection the gateway has ended close it too.
    fn see_ends(&mut self) {
        for index in 0..self.places.len() {
            let Some(number) = self.places[index] else { continue };
            let index = index as u32;
            let Some(connection) = self.core.connections.get(index as usize) else {
                self.places[index as usize] = None;
                self.devices[number].has_ended = true;
                continue;
            };
            let (life, receiving) = (connection.life, connection.receive != Receive::Idle);
            if life != Life::Open {
                self.devices[number].has_ended = true;
                if !connection.peer_closed {
                    self.core.peer_ended(index, false);
                }
                if receiving {
                    self.core.receive_stopped(index);
                }
            }
        }
    }

    fn take_reports(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            match report {
                Report::EndpointHere { endpoint, .. } => {
                    assert!(!self.here.contains(&endpoint), "{endpoint} is here twice");
                    self.here.push(endpoint);
                }
                Report::EndpointGone { endpoint, .. } => {
                    let at = self.here.iter().position(|id| *id == endpoint);
                    let at = at.unwrap_or_else(|| panic!("{endpoint} has gone, but was not here"));
                    self.here.swap_remove(at);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
