//! A model of one MQTT client connection: what it says, and what it must hear.

use std::collections::{HashMap, HashSet, VecDeque};

use super::random::Random;
use super::truth::{Message, Target, Truth};
use super::wire::{self, Connect, FromServer};

/// Endpoint tokens of all devices: few, so that they are shared.
pub const TOKENS: [&str; 4] = ["e0", "e1", "e2", "e3"];
/// What the gateway lets a v5 client have open.
pub const RECEIVE_MAXIMUM: u16 = 3;
/// Topic aliases the gateway takes.
pub const ALIAS_MAXIMUM: u16 = 4;

/// Where an outgoing QoS 2 message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Published,
    Received,
}

/// What a client remembers from one connection to the next.
#[derive(Clone, Debug, Default)]
struct Memory {
    /// Packet id and number of each QoS 1 message that is not acknowledged, in order.
    qos1: VecDeque<(u16, usize)>,
    qos2: VecDeque<(u16, usize, Stage)>,
    /// QoS 2 messages received and not released.
    received: HashSet<u16>,
    last_packet_id: u16,
}

impl Memory {
    fn open(&self) -> usize {
        self.qos1.len() + self.qos2.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    In,
    /// The server has said DISCONNECT.
    Told,
}

pub struct Device {
    pub number: usize,
    pub level: u8,
    pub asked: Connect,
    /// What the CONNACK must say about the session.
    pub present_expected: Option<bool>,
    /// Bytes the gateway has not got yet, and how many it has.
    pub outgoing: VecDeque<u8>,
    pub delivered_bytes: usize,
    pub connect_bytes: usize,
    /// It has closed after those bytes.
    pub has_closed: bool,
    /// Its host has gone: nothing of `outgoing` arrives.
    pub has_failed: bool,
    pub reads: bool,
    /// The gateway has ended the connection.
    pub is_ended: bool,
    /// A newer connection is the client now: this one says and hears nothing more.
    pub is_abandoned: bool,
    /// What DISCONNECT said of the expiry.
    pub last_expiry_s: Option<u32>,
    memory: Memory,
    /// Earlier connections of the same session.
    before: Vec<usize>,
    /// Endpoints it has spoken for.
    pub spoke_for: HashSet<&'static str>,
    pub topics_asked: HashSet<String>,
    state: State,
    incoming: Vec<u8>,
    acks: VecDeque<Vec<u8>>,
    /// Messages of the gateway it has not acknowledged to the end.
    owed: HashSet<u16>,
    aliases_out: HashMap<u16, String>,
    aliases_in: HashMap<u16, String>,
    seen: HashSet<(usize, u8)>,
    pings: usize,
    subscribes: VecDeque<(u16, Vec<u8>)>,
}

impl Device {
    pub fn new(number: usize, level: u8, asked: Connect) -> Self {
        let connect = wire::connect(level, &asked);
        Self {
            number,
            level,
            asked,
            present_expected: None,
            connect_bytes: connect.len(),
            outgoing: connect.into(),
            delivered_bytes: 0,
            has_closed: false,
            has_failed: false,
            reads: true,
            is_ended: false,
            is_abandoned: false,
            last_expiry_s: None,
            memory: Memory::default(),
            before: Vec::new(),
            spoke_for: HashSet::new(),
            topics_asked: HashSet::new(),
            state: State::Connecting,
            incoming: Vec::new(),
            acks: VecDeque::new(),
            owed: HashSet::new(),
            aliases_out: HashMap::new(),
            aliases_in: HashMap::new(),
            seen: HashSet::new(),
            pings: 0,
            subscribes: VecDeque::new(),
        }
    }

    /// What its session is known by: its client id, or one of its own for a client that is given
    /// one.
    pub fn session(&self) -> String {
        match &*self.asked.client_id {
            "" => format!("#{}", self.number),
            client_id => client_id.to_owned(),
        }
    }

    /// It is what `before` was.
    pub fn follow(&mut self, before: &mut Device) {
        self.memory = std::mem::take(&mut before.memory);
        self.before = before.before.clone();
        self.before.push(before.number);
        self.topics_asked = before.topics_asked.clone();
    }

    /// Whether it can still say something.
    pub fn may_act(&self) -> bool {
        !self.has_closed && !self.has_failed && !self.is_abandoned && self.state != State::Told
    }

    pub fn is_in(&self) -> bool {
        self.state == State::In
    }

    pub fn was_told_to_go(&self) -> bool {
        self.state == State::Told
    }

    /// Whether all it has sent is acknowledged and all it was asked is answered.
    pub fn is_satisfied(&self) -> bool {
        self.is_in()
            && self.memory.open() == 0
            && self.owed.is_empty()
            && self.acks.is_empty()
            && self.pings == 0
            && self.subscribes.is_empty()
    }

    pub fn why_not_satisfied(&self) -> String {
        format!(
            "device {} (level {}, {:?}) is {:?} with {:?}, owes {:?} and {} acks, waits for {} \
             pings and {:?}",
            self.number,
            self.level,
            self.asked,
            self.state,
            self.memory,
            self.owed,
            self.acks.len(),
            self.pings,
            self.subscribes
        )
    }

    fn say(&mut self, packet: &[u8]) {
        self.outgoing.extend(packet);
    }

    pub fn has_acks(&self) -> bool {
        self.may_act() && !self.acks.is_empty()
    }

    /// Sends one acknowledgement that is due.
    pub fn send_ack(&mut self) {
        if let Some(ack) = self.acks.pop_front() {
            if ack[0] == 0x40 || ack[0] == 0x70 {
                self.owed.remove(&u16::from_be_bytes([ack[2], ack[3]]));
            }
            self.say(&ack);
        }
    }

    /// Does something a client may do.
    pub fn act(&mut self, truth: &mut Truth, random: &mut Random) {
        // Most wait for CONNACK; a client with a clean session may be hasty.
        if self.state == State::Connecting && !(self.asked.clean && random.percent(20)) {
            if random.percent(3) {
                self.has_failed = true;
            }
            return;
        }
        match random.below(100) {
            0..70 => {
                for _ in 0..1 + random.below(4) {
                    self.publish(truth, random);
                }
            }
            70..74 if self.state == State::In => self.repeat(truth, random),
            74..78 => {
                self.pings += 1;
                self.say(&wire::ping());
            }
            78..84 => self.subscribe(random),
            84..92 => self.reads = !self.reads,
            92..95 => self.has_failed = true,
            95..97 => self.has_closed = true,
            97..100 => self.leave(random),
            _ => {}
        }
    }

    /// DISCONNECT.
    pub fn leave(&mut self, random: &mut Random) {
        if self.asked.expiry_s > 0 && random.percent(30) {
            self.last_expiry_s = Some(random.pick(&[0, 100_000]));
        }
        self.say(&wire::disconnect(self.level, self.last_expiry_s.filter(|_| self.level == 5)));
        self.has_closed = true;
    }

    fn free_packet_id(&mut self) -> u16 {
        loop {
            self.memory.last_packet_id = self.memory.last_packet_id % 20 + 1;
            let id = self.memory.last_packet_id;
            let used = self.memory.qos1.iter().any(|(used, _)| *used == id)
                || self.memory.qos2.iter().any(|(used, ..)| *used == id)
                || self.subscribes.iter().any(|(used, _)| *used == id);
            if !used {
                return id;
            }
        }
    }

    fn publish(&mut self, truth: &mut Truth, random: &mut Random) {
        let qos = random.pick(&[0, 0, 1, 1, 1, 2]);
        let is_open = self.memory.open();
        if qos > 0 && (is_open >= 12 || self.level == 5 && is_open >= usize::from(RECEIVE_MAXIMUM))
        {
            return;
        }
        let (target, topic) = choose_topic(random);
        if let Some(token) = target.and_then(|target| target.token) {
            self.spoke_for.insert(token);
        }
        self.topics_asked.insert(topic.clone());
        let number = truth.messages.len();
        truth.messages.push(Message { device: self.number, qos, first: number, target });
        let packet_id = if qos > 0 { self.free_packet_id() } else { 0 };
        match qos {
            1 => self.memory.qos1.push_back((packet_id, number)),
            2 => self.memory.qos2.push_back((packet_id, number, Stage::Published)),
            _ => {}
        }
        let padding = random.pick(&[0, 0, 10, 200]);
        self.send_publish(&topic, number, padding, qos, packet_id, false, random);
    }

    #[allow(clippy::too_many_arguments)]
    fn send_publish(
        &mut self,
        topic: &str,
        number: usize,
        padding: usize,
        qos: u8,
        packet_id: u16,
        dup: bool,
        random: &mut Random,
    ) {
        let payload = format!("m{number} {}", "x".repeat(padding));
        let mut alias = 0;
        let mut text = topic;
        if self.level == 5 && self.state == State::In && random.percent(30) {
            alias = 1 + random.below(usize::from(ALIAS_MAXIMUM)) as u16;
            if self.aliases_out.get(&alias).is_some_and(|known| known == topic) {
                text = "";
            } else {
                self.aliases_out.insert(alias, topic.to_owned());
            }
        }
        let payload = payload.as_bytes();
        let message = wire::Publish { topic: text, payload, qos, packet_id, dup, alias };
        let packet = wire::publish(self.level, &message);
        self.say(&packet);
    }

    /// Before v5 a client may send a QoS 2 message again on the same connection.
    fn repeat(&mut self, truth: &Truth, random: &mut Random) {
        if self.level == 5 || self.memory.qos2.is_empty() {
            return;
        }
        let (packet_id, number, stage) = self.memory.qos2[random.below(self.memory.qos2.len())];
        if stage == Stage::Published
            && let Some(target) = truth.messages[number].target
        {
            self.send_publish(&target.topic(), number, 0, 2, packet_id, true, random);
        }
    }

    fn subscribe(&mut self, random: &mut Random) {
        let packet_id = self.free_packet_id();
        let filters = [("#", 0), ("kp1/v1/dcx/#", 1), ("kp1/v1/+/+/json/#", 2), ("other", 1)];
        let chosen = &filters[..1 + random.below(4)];
        self.subscribes.push_back((packet_id, chosen.iter().map(|(_, qos)| *qos).collect()));
        let packet = wire::subscribe(self.level, packet_id, chosen);
        self.say(&packet);
    }

    /// Sends again what was not acknowledged on the connection before.
    fn resume(&mut self, truth: &mut Truth, random: &mut Random) {
        let mut again = |number: usize, qos: u8, device: usize| {
            let Message { first, target, .. } = truth.messages[number];
            let new = truth.messages.len();
            truth.messages.push(Message { device, qos, first, target });
            (new, target)
        };
        let topic = |target: Option<Target>| {
            target.map_or_else(|| "foo/bar".to_owned(), |target| target.topic())
        };
        for (packet_id, number) in std::mem::take(&mut self.memory.qos1) {
            let (new, target) = again(number, 1, self.number);
            self.memory.qos1.push_back((packet_id, new));
            self.spoke_for.extend(target.and_then(|target| target.token));
            self.topics_asked.insert(topic(target));
            self.send_publish(&topic(target), new, 0, 1, packet_id, true, random);
        }
        for (packet_id, number, stage) in std::mem::take(&mut self.memory.qos2) {
            if stage == Stage::Received {
                self.memory.qos2.push_back((packet_id, number, stage));
                self.say(&wire::acknowledge(0x62, packet_id));
                continue;
            }
            let (new, target) = again(number, 2, self.number);
            self.memory.qos2.push_back((packet_id, new, stage));
            self.spoke_for.extend(target.and_then(|target| target.token));
            self.topics_asked.insert(topic(target));
            self.send_publish(&topic(target), new, 0, 2, packet_id, true, random);
        }
    }

    /// Bytes have come from the gateway.
    pub fn receive(&mut self, bytes: &[u8], truth: &mut Truth, random: &mut Random) {
        if self.is_abandoned || self.has_closed || self.has_failed {
            return;
        }
        self.incoming.extend_from_slice(bytes);
        let incoming = std::mem::take(&mut self.incoming);
        let mut at = 0;
        while let Some((packet, len)) = wire::take(self.level, &incoming[at..]) {
            let max = self.asked.packet_bytes_max.filter(|_| self.level == 5);
            assert!(max.is_none_or(|max| len <= max as usize), "{len} bytes are over {max:?}");
            at += len;
            assert_ne!(self.state, State::Told, "{packet:?} after DISCONNECT");
            self.hear(packet, truth, random);
        }
        self.incoming = incoming[at..].to_vec();
    }

    fn hear(&mut self, packet: FromServer, truth: &mut Truth, random: &mut Random) {
        let is_first = matches!(packet, FromServer::ConnAck { .. });
        assert_eq!(is_first, self.state == State::Connecting, "{packet:?} is out of place");
        match packet {
            FromServer::ConnAck { present, code } => {
                assert_eq!(code, 0, "refused: {:?}", self.asked);
                self.state = State::In;
                // MQTT 3.1 is not told: its client goes on as if the session were there.
                let expected = self.present_expected.unwrap_or(present || self.level == 3);
                if self.level > 3 {
                    assert_eq!(present, expected, "session present, device {}", self.number);
                }
                match expected {
                    true => self.resume(truth, random),
                    false if !self.asked.clean => {
                        self.memory = Memory::default();
                        self.before.clear();
                        self.topics_asked.clear();
                    }
                    false => {}
                }
            }
            FromServer::PubAck { packet_id, code } => {
                let (expected, number) = self.memory.qos1.pop_front().expect("none is due");
                assert_eq!(packet_id, expected, "PUBACK out of order");
                truth.acknowledged(number, code);
            }
            FromServer::PubRec { packet_id, code } => self.pubrec(packet_id, code, truth),
            FromServer::PubComp { packet_id } => {
                self.memory.qos2.retain(|(id, ..)| *id != packet_id);
            }
            FromServer::PubRel { packet_id } => {
                self.memory.received.remove(&packet_id);
                self.acks.push_back(wire::acknowledge(0x70, packet_id));
            }
            FromServer::SubAck { packet_id, codes } => {
                let expected = self.subscribes.pop_front();
                assert_eq!(Some((packet_id, codes)), expected, "SUBACK");
            }
            FromServer::PingResp => {
                self.pings = self.pings.checked_sub(1).expect("no PINGREQ was sent");
            }
            FromServer::Disconnect { .. } => self.state = State::Told,
            FromServer::Publish { topic, payload, qos, dup, packet_id, alias } => {
                let topic = self.unalias(topic, alias);
                self.hear_message(&topic, &payload, qos, dup, packet_id, truth);
            }
        }
    }

    fn pubrec(&mut self, packet_id: u16, code: u8, truth: &Truth) {
        let at = self.memory.qos2.iter().position(|(id, ..)| *id == packet_id);
        let Some(at) = at else { panic!("PUBREC for {packet_id}, which is not open") };
        let (_, number, stage) = self.memory.qos2[at];
        if stage == Stage::Published {
            // A message sent again whose PUBREC was lost is answered at once, which may be before
            // one whose refusal was lost.
            let mut earlier = self.memory.qos2.range(..at).filter(|open| open.2 == stage);
            let in_order = earlier.all(|open| truth.messages[open.1].target.is_none());
            assert!(in_order || truth.may_refuse, "PUBREC out of order");
            truth.acknowledged(number, code);
        }
        if code >= 0x80 {
            self.memory.qos2.remove(at);
        } else if stage == Stage::Published {
            self.memory.qos2[at].2 = Stage::Received;
            self.acks.push_back(wire::acknowledge(0x62, packet_id));
        }
    }

    fn unalias(&mut self, topic: String, alias: u16) -> String {
        if alias == 0 {
            assert!(!topic.is_empty());
            return topic;
        }
        assert!(alias <= self.asked.alias_max, "alias {alias} was not offered");
        if topic.is_empty() {
            return self.aliases_in[&alias].clone();
        }
        self.aliases_in.insert(alias, topic.clone());
        topic
    }

    fn hear_message(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: u8,
        dup: bool,
        packet_id: u16,
        truth: &Truth,
    ) {
        if qos > 0 {
            self.owed.insert(packet_id);
            let max = self.asked.receive_max.filter(|_| self.level == 5).unwrap_or(u16::MAX);
            assert!(self.owed.len() <= usize::from(max), "over the receive maximum {max}");
            self.acks.push_back(wire::acknowledge(if qos == 1 { 0x40 } else { 0x50 }, packet_id));
        }
        if qos == 2 && !self.memory.received.insert(packet_id) {
            assert!(dup, "a QoS 2 message came again without DUP");
            return;
        }
        let text = std::str::from_utf8(payload).expect("text");
        if let Some(request) = topic.strip_suffix("/error")
            && !text.contains('#')
        {
            assert!(self.topics_asked.contains(request), "an error for {request}: nobody asked");
            assert!(text.starts_with("{\"statusCode\":"), "{text}");
            return;
        }
        let digits = text.split('#').nth(1).expect("numbered");
        let number = digits.parse().expect("a number");
        truth.delivered(self.number, &self.before, number, topic);
        let is_new = self.seen.insert((number, qos));
        assert!(is_new || dup, "answer {number} came twice");
    }
}

/// A topic, mostly one that leads somewhere.
fn choose_topic(random: &mut Random) -> (Option<Target>, String) {
    let request_id = random.pick(&[None, None, Some(0), Some(1), Some(2), Some(2_147_483_647)]);
    let target = match random.below(20) {
        0..11 => Target {
            extension: "dcx",
            token: Some(random.pick(&TOKENS)),
            path: random.pick(&["/json", "/json", "/plain/rpm", ""]),
            request_id,
        },
        11..14 => Target {
            extension: "cmx",
            token: Some(random.pick(&TOKENS)),
            path: "/config/json",
            request_id,
        },
        14..17 => Target { extension: "tsx", token: None, path: "/now", request_id },
        17 => Target { extension: "tsx", token: None, path: "", request_id: Some(42) },
        18 => Target { extension: "tsx", token: None, path: "/42", request_id: Some(7) },
        _ => {
            let topic = random.pick(&[
                "foo/bar",
                "kp1/v9/dcx/e0/json",
                "kp1/v1/nix/e0/json/5",
                "kp1/v1/dcx/e0/json/99999999999",
            ]);
            return (None, topic.to_owned());
        }
    };
    (Some(target), target.topic())
}
