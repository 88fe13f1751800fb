//! Messages on their way to one client: packet identifiers, acknowledgements, the client's receive
//! maximum, and what must be sent again when the session is resumed.

use std::collections::VecDeque;

use crate::codec::mqtt::{PacketId, QoS};

/// A message that is owed to the client until it has acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The whole topic.
    pub topic: Box<str>,
    /// The payload.
    pub payload: Box<[u8]>,
    /// 1 or 2.
    pub qos: QoS,
}

impl Message {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// Where an exchange stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// PUBLISH was sent, PUBACK or PUBREC is awaited.
    Published(Message),
    /// PUBREL was sent, PUBCOMP is awaited (QoS 2).
    Released,
}

/// The exchanges under way and the messages that wait for their turn.
#[derive(Debug, Default, Clone)]
pub struct Outbound {
    last_id: u16,
    in_flight: VecDeque<(PacketId, Exchange)>,
    waiting: VecDeque<Message>,
    bytes: usize,
}

impl Outbound {
    /// Takes a message in. Returns `false`, and drops it, when `messages_max` or `bytes_max` would
    /// be exceeded.
    pub fn offer(&mut self, message: Message, messages_max: usize, bytes_max: usize) -> bool {
        if self.len() >= messages_max || self.bytes + message.bytes() > bytes_max {
            return false;
        }
        self.bytes += message.bytes();
        self.waiting.push_back(message);
        true
    }

    /// Starts the next waiting exchange if the client's receive maximum leaves room (MQTT-3.3.4-9),
    /// and returns what to send.
    pub fn start_next(&mut self, receive_maximum: u16) -> Option<(PacketId, &Message)> {
        if self.in_flight.len() >= usize::from(receive_maximum) || self.waiting.is_empty() {
            return None;
        }
        let id = self.free_id()?;
        let message = self.waiting.pop_front()?;
        self.in_flight.push_back((id, Exchange::Published(message)));
        match self.in_flight.back() {
            Some((id, Exchange::Published(message))) => Some((*id, message)),
            _ => None,
        }
    }

    /// An identifier no exchange uses; `None` when all 65,535 are in use.
    fn free_id(&mut self) -> Option<PacketId> {
        for _ in 0..u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last_id)?;
            if !self.in_flight.iter().any(|(used, _)| *used == id) {
                return Some(id);
            }
        }
        None
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        self.in_flight.iter().position(|(used, _)| *used == id)
    }

    fn finish(&mut self, at: usize) {
        if let Some((_, Exchange::Published(message))) = self.in_flight.remove(at) {
            self.bytes -= message.bytes();
        }
    }

    /// PUBACK: the exchange is over. Returns whether it was one.
    pub fn acknowledged(&mut self, id: PacketId) -> bool {
        let at = self.position(id).filter(|&at| {
            matches!(&self.in_flight[at].1, Exchange::Published(m) if m.qos == QoS::AtLeastOnce)
        });
        at.map(|at| self.finish(at)).is_some()
    }

    /// PUBREC: returns whether PUBREL is due for a known exchange. A refusing PUBREC ends it.
    pub fn received(&mut self, id: PacketId, refused: bool) -> bool {
        let Some(at) = self.position(id) else { return false };
        match &self.in_flight[at].1 {
            Exchange::Published(message) if message.qos == QoS::ExactlyOnce => {
                if refused {
                    self.finish(at);
                    return false;
                }
                self.bytes -= message.bytes();
                self.in_flight[at].1 = Exchange::Released;
                true
            }
            Exchange::Published(_) => false,
            Exchange::Released => !refused,
        }
    }

    /// PUBCOMP: the exchange is over. Returns whether it was one.
    pub fn completed(&mut self, id: PacketId) -> bool {
        let at = self.position(id).filter(|&at| self.in_flight[at].1 == Exchange::Released);
        at.map(|at| self.finish(at)).is_some()
    }

    /// What a resumed session sends again, in order (MQTT-4.4.0-1, MQTT-4.6.0-1).
    pub fn unfinished(&self) -> impl Iterator<Item = (PacketId, &Exchange)> {
        self.in_flight.iter().map(|(id, exchange)| (*id, exchange))
    }

    /// Messages in flight or waiting.
    pub fn len(&self) -> usize {
        self.in_flight.len() + self.waiting.len()
    }

    /// Whether nothing is owed to the client.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of topics and payloads held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, qos: QoS) -> Message {
        Message { topic: "t".into(), payload: text.as_bytes().into(), qos }
    }

    #[test]
    fn keeps_to_the_receive_maximum_and_goes_on_when_acknowledged() {
        let mut outbound = Outbound::default();
        for text in ["a", "b", "c"] {
            assert!(outbound.offer(message(text, QoS::AtLeastOnce), 10, 100));
        }
        let first = outbound.start_next(2).expect("room for two").0;
        assert!(outbound.start_next(2).is_some());
        assert!(outbound.start_next(2).is_none(), "the receive maximum is reached");
        assert!(outbound.acknowledged(first));
        assert!(!outbound.acknowledged(first), "an exchange ends once");
        let (_, third) = outbound.start_next(2).expect("room again");
        assert_eq!(&*third.payload, b"c");
    }

    #[test]
    fn refuses_beyond_its_bounds_and_returns_to_zero() {
        let mut outbound = Outbound::default();
        assert!(outbound.offer(message("1234", QoS::AtLeastOnce), 2, 10));
        assert!(!outbound.offer(message("12345", QoS::AtLeastOnce), 2, 10), "bytes");
        assert!(outbound.offer(message("1", QoS::ExactlyOnce), 2, 10));
        assert!(!outbound.offer(message("", QoS::AtLeastOnce), 2, 10), "messages");
        let one = outbound.start_next(9).expect("started").0;
        let two = outbound.start_next(9).expect("started").0;
        assert!(outbound.acknowledged(one));
        assert!(outbound.received(two, false));
        assert!(outbound.received(two, false), "a repeated PUBREC is answered again");
        assert!(outbound.completed(two));
        assert_eq!((outbound.len(), outbound.bytes()), (0, 0));
    }

    #[test]
    fn an_acknowledgement_of_the_wrong_kind_changes_nothing() {
        let mut outbound = Outbound::default();
        assert!(outbound.offer(message("x", QoS::ExactlyOnce), 2, 10));
        let id = outbound.start_next(9).expect("started").0;
        assert!(!outbound.acknowledged(id));
        assert!(!outbound.completed(id));
        assert_eq!(outbound.unfinished().count(), 1);
    }

    #[test]
    fn never_reuses_an_identifier_in_use() {
        let mut outbound = Outbound { last_id: u16::MAX - 1, ..Outbound::default() };
        for _ in 0..3 {
            assert!(outbound.offer(message("", QoS::AtLeastOnce), 9, 9));
        }
        let ids: Vec<u16> =
            (0..3).map(|_| outbound.start_next(9).expect("started").0.get()).collect();
        assert_eq!(ids, [u16::MAX, 1, 2]);
    }
}
