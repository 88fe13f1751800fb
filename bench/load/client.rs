//! One MQTT client, without its socket: bytes in, bytes out, and what it measured.

use std::collections::VecDeque;
use std::fmt;

use crate::options::Version;
use crate::packet::{self, Answer, BrokenStream, Frame, PublishTemplate};
use crate::tally::Tally;

/// What a message in flight still waits for.
const ACKNOWLEDGEMENT: u8 = 1;
const ANSWER: u8 = 2;

/// What all clients of a run have in common.
pub struct Behaviour {
    pub version: Version,
    pub qos: u8,
    pub burst: u64,
    pub window: u64,
    pub request_id: bool,
}

impl Behaviour {
    fn wants(&self) -> u8 {
        let acknowledgement = if self.qos > 0 { ACKNOWLEDGEMENT } else { 0 };
        let answer = if self.request_id { ANSWER } else { 0 };
        acknowledgement | answer
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Closed,
    /// The TCP handshake or the CONNACK is awaited, since this time.
    Connecting {
        since_ns: u64,
    },
    /// The SUBACK is awaited.
    Subscribing,
    Running,
}

/// Why a connection ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    Refused(u8),
    QosTooHigh(u8),
    BurstTooLarge(u16),
    NotSubscribed(u8),
    Disconnected(u8),
    Broken,
    Closed,
    Socket(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "CONNACK refused with code 0x{code:02x}"),
            Self::QosTooHigh(max) => write!(f, "the server takes QoS {max} at most"),
            Self::BurstTooLarge(max) => write!(f, "--burst exceeds the receive maximum {max}"),
            Self::NotSubscribed(code) => write!(f, "SUBACK refused with code 0x{code:02x}"),
            Self::Disconnected(code) => write!(f, "the server sent DISCONNECT 0x{code:02x}"),
            Self::Broken => f.write_str("the server sent what is no MQTT"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Socket(error) => f.write_str(error),
        }
    }
}

impl From<BrokenStream> for End {
    fn from(_: BrokenStream) -> Self {
        Self::Broken
    }
}

/// A message in flight. Its packet identifier is its slot's number plus one.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// When it was due.
    at_ns: u64,
    wants: u8,
    /// How often the slot was used, so that no request id comes twice.
    round: u64,
}

pub struct Client {
    pub phase: Phase,
    /// Bursts written so far; they place the next one on the schedule.
    pub bursts: u64,
    /// Bytes the socket did not take yet.
    pub out: Vec<u8>,
    /// When something was written last, for the keep-alive.
    pub written_ns: u64,
    partial: Vec<u8>,
    template: Option<PublishTemplate>,
    subscribe: Option<Vec<u8>>,
    slots: Vec<Slot>,
    free: VecDeque<u16>,
}

impl Client {
    pub fn new(template: Option<PublishTemplate>, subscribe: Option<Vec<u8>>) -> Self {
        Self {
            phase: Phase::Closed,
            bursts: 0,
            out: Vec::new(),
            written_ns: 0,
            partial: Vec::new(),
            template,
            subscribe,
            slots: Vec::new(),
            free: VecDeque::new(),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Forgets the connection.
    pub fn reset(&mut self) {
        self.phase = Phase::Closed;
        self.out = Vec::new();
        self.partial = Vec::new();
        self.slots = Vec::new();
        self.free = VecDeque::new();
    }

    /// Whether the next burst may be written.
    pub fn may_publish(&self, behaviour: &Behaviour) -> bool {
        self.phase == Phase::Running
            && self.out.is_empty()
            && (behaviour.wants() == 0 || self.free.len() as u64 >= behaviour.burst)
    }

    /// Appends the next burst to `out`.
    pub fn publish(&mut self, due_ns: u64, behaviour: &Behaviour, out: &mut Vec<u8>) {
        let Some(template) = &self.template else { return };
        let wants = behaviour.wants();
        for _ in 0..behaviour.burst {
            if wants == 0 {
                template.write(0, 0, out);
                continue;
            }
            let Some(index) = self.free.pop_front() else { break };
            let window = self.slots.len() as u64;
            let slot = &mut self.slots[usize::from(index)];
            *slot = Slot { at_ns: due_ns, wants, round: slot.round + 1 };
            let request = (slot.round * window + u64::from(index)) % packet::REQUEST_IDS;
            template.write(index + 1, packet::REQUEST_ID_FIRST + request, out);
        }
        self.bursts += 1;
    }

    /// Takes what the server sent; answers go to `self.out`.
    pub fn take(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        behaviour: &Behaviour,
        tally: &mut Tally,
    ) -> Result<(), End> {
        if self.partial.is_empty() {
            let used = self.take_packets(bytes, now_ns, behaviour, tally)?;
            self.partial.extend_from_slice(&bytes[used..]);
        } else {
            let mut all = std::mem::take(&mut self.partial);
            all.extend_from_slice(bytes);
            let used = self.take_packets(&all, now_ns, behaviour, tally)?;
            all.drain(..used);
            self.partial = all;
        }
        Ok(())
    }

    fn take_packets(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        behaviour: &Behaviour,
        tally: &mut Tally,
    ) -> Result<usize, End> {
        let mut used = 0;
        while let Some(frame) = packet::frame(&bytes[used..])? {
            used += frame.len;
            self.take_packet(&frame, now_ns, behaviour, tally)?;
        }
        Ok(used)
    }

    fn take_packet(
        &mut self,
        frame: &Frame<'_>,
        now_ns: u64,
        behaviour: &Behaviour,
        tally: &mut Tally,
    ) -> Result<(), End> {
        match frame.first & 0xf0 {
            0x20 => self.connack(frame.body, now_ns, behaviour, tally),
            0x30 => self.message(frame, now_ns, tally),
            0x40 | 0x70 => self.acknowledged(frame.body, now_ns, tally),
            0x50 => self.reply(0x62, frame.body, now_ns, tally),
            0x60 => self.reply(0x70, frame.body, now_ns, tally),
            0x90 => self.suback(frame.body),
            0xd0 => Ok(()),
            0xe0 => Err(End::Disconnected(frame.body.first().copied().unwrap_or(0))),
            _ => Err(End::Broken),
        }
    }

    fn connack(
        &mut self,
        body: &[u8],
        now_ns: u64,
        behaviour: &Behaviour,
        tally: &mut Tally,
    ) -> Result<(), End> {
        let Phase::Connecting { since_ns } = self.phase else { return Err(End::Broken) };
        let connack = packet::connack(behaviour.version, body).ok_or(End::Broken)?;
        if connack.code != 0 {
            return Err(End::Refused(connack.code));
        }
        if behaviour.qos > connack.qos_max && self.template.is_some() {
            return Err(End::QosTooHigh(connack.qos_max));
        }
        if behaviour.wants() != 0 && self.template.is_some() {
            self.open_window(connack.receive_maximum, behaviour)?;
        }
        tally.connected += 1;
        tally.connect_us.record(now_ns - since_ns);
        self.phase = match &self.subscribe {
            Some(subscribe) => {
                self.out.extend_from_slice(subscribe);
                Phase::Subscribing
            }
            None => Phase::Running,
        };
        Ok(())
    }

    fn open_window(&mut self, receive_maximum: u16, behaviour: &Behaviour) -> Result<(), End> {
        let server = if behaviour.qos > 0 { receive_maximum } else { u16::MAX };
        if behaviour.burst > u64::from(server) {
            return Err(End::BurstTooLarge(server));
        }
        let window = behaviour.window.min(u64::from(server)) as u16;
        self.slots = vec![Slot::default(); usize::from(window)];
        self.free = (0..window).collect();
        Ok(())
    }

    fn suback(&mut self, body: &[u8]) -> Result<(), End> {
        match body.last() {
            Some(0..=2) if self.phase == Phase::Subscribing => {
                self.phase = Phase::Running;
                Ok(())
            }
            Some(&code) => Err(End::NotSubscribed(code)),
            None => Err(End::Broken),
        }
    }

    /// PUBACK or PUBCOMP.
    fn acknowledged(&mut self, body: &[u8], now_ns: u64, tally: &mut Tally) -> Result<(), End> {
        let packet_id = packet::packet_id(body).ok_or(End::Broken)?;
        if body.get(2).is_some_and(|reason| *reason >= 0x80) {
            tally.refused += 1;
        }
        if let Some(at_ns) = self.settle(usize::from(packet_id).wrapping_sub(1), ACKNOWLEDGEMENT) {
            tally.acknowledged += 1;
            tally.acknowledged_us.record(now_ns.saturating_sub(at_ns));
        }
        Ok(())
    }

    /// PUBREC asks for PUBREL, PUBREL for PUBCOMP; a refusing PUBREC ends the exchange.
    fn reply(&mut self, first: u8, body: &[u8], now_ns: u64, tally: &mut Tally) -> Result<(), End> {
        if body.get(2).is_some_and(|reason| *reason >= 0x80) {
            return self.acknowledged(body, now_ns, tally);
        }
        let packet_id = packet::packet_id(body).ok_or(End::Broken)?;
        self.out.extend(packet::acknowledgement(first, packet_id));
        Ok(())
    }

    fn message(&mut self, frame: &Frame<'_>, now_ns: u64, tally: &mut Tally) -> Result<(), End> {
        let incoming = packet::incoming(frame).ok_or(End::Broken)?;
        tally.received += 1;
        tally.received_bytes += frame.len as u64;
        match frame.first & 0x06 {
            0x02 => self.out.extend(packet::acknowledgement(0x40, incoming.packet_id)),
            0x04 => self.out.extend(packet::acknowledgement(0x50, incoming.packet_id)),
            _ => {}
        }
        if self.slots.is_empty() {
            return Ok(());
        }
        let (id, is_error) = match packet::answer(incoming.topic) {
            Some(Answer::Status(id)) => (id, false),
            Some(Answer::Error(id)) => (id, true),
            None => return Ok(()),
        };
        let Some(request) = id.checked_sub(packet::REQUEST_ID_FIRST) else { return Ok(()) };
        if let Some(at_ns) = self.settle(request as usize % self.slots.len(), ANSWER) {
            if is_error {
                tally.errors += 1;
            }
            tally.answered += 1;
            tally.answered_us.record(now_ns.saturating_sub(at_ns));
        }
        Ok(())
    }

    /// One of the things a message waited for has come; tells when the message was due.
    fn settle(&mut self, index: usize, what: u8) -> Option<u64> {
        let slot = self.slots.get_mut(index)?;
        if slot.wants & what == 0 {
            return None;
        }
        slot.wants &= !what;
        if slot.wants == 0 {
            self.free.push_back(index as u16);
        }
        Some(slot.at_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(qos: u8, request_id: bool) -> (Client, Behaviour, Tally) {
        let template = PublishTemplate::new(Version::V5, "t", b"x", qos, request_id);
        let mut client = Client::new(Some(template), None);
        let behaviour = Behaviour { version: Version::V5, qos, burst: 1, window: 8, request_id };
        let mut tally = Tally::default();
        client.phase = Phase::Connecting { since_ns: 0 };
        let connack = [0x20, 6, 0, 0, 3, 0x21, 0, 2];
        client.take(&connack, 1000, &behaviour, &mut tally).expect("accepted");
        (client, behaviour, tally)
    }

    #[test]
    fn keeps_within_the_receive_maximum_of_the_server() {
        let (mut client, behaviour, mut tally) = running(1, false);
        let mut out = Vec::new();
        client.publish(0, &behaviour, &mut out);
        client.publish(0, &behaviour, &mut out);
        assert!(!client.may_publish(&behaviour));
        client.take(&[0x40, 2, 0, 1], 5_000, &behaviour, &mut tally).expect("a PUBACK");
        assert!(client.may_publish(&behaviour));
        assert_eq!((tally.acknowledged, client.in_flight()), (1, 1));
    }

    #[test]
    fn completes_qos_2_in_four_steps() {
        let (mut client, behaviour, mut tally) = running(2, false);
        client.publish(0, &behaviour, &mut Vec::new());
        client.take(&[0x50, 2, 0, 1], 10, &behaviour, &mut tally).expect("a PUBREC");
        assert_eq!(client.out, [0x62, 2, 0, 1]);
        assert_eq!(tally.acknowledged, 0);
        client.take(&[0x70, 2, 0, 1], 20, &behaviour, &mut tally).expect("a PUBCOMP");
        assert_eq!((tally.acknowledged, client.in_flight()), (1, 0));
    }

    #[test]
    fn holds_a_request_until_it_is_acknowledged_and_answered() {
        let (mut client, behaviour, mut tally) = running(1, true);
        let mut out = Vec::new();
        client.publish(0, &behaviour, &mut out);
        let topic = format!("{}/status", String::from_utf8_lossy(&out[4..16]));
        let mut answer = vec![0x30, (topic.len() + 3) as u8, 0, topic.len() as u8];
        answer.extend(topic.as_bytes());
        answer.push(0);
        for part in answer.chunks(7) {
            client.take(part, 9_000, &behaviour, &mut tally).expect("an answer");
        }
        assert_eq!((tally.answered, client.in_flight()), (1, 1), "{topic}");
        client.take(&[0x40, 2, 0, 1], 10_000, &behaviour, &mut tally).expect("a PUBACK");
        assert_eq!(client.in_flight(), 0);
    }
}
