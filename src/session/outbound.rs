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

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub struct Due<'a> {
    /// Packet identifier of the exchange.
    pub id: PacketId,
    /// PUBLISH or PUBREL, as it stands.
    pub exchange: &'a Exchange,
    /// Whether an earlier connection may have sent it already.
    pub is_again: bool,
}

/// The exchanges under way and the messages that wait for their turn.
#[derive(Debug, Default, Clone)]
pub struct Outbound {
    last_id: u16,
    in_flight: VecDeque<(PacketId, Exchange)>,
    /// How many exchanges of `in_flight`, from the front, this connection has sent.
    sent: usize,
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

    /// What to send next if the client's receive maximum leaves room (MQTT-3.3.4-9): first what a
    /// connection before has left unfinished, in its order (MQTT-4.4.0-1, MQTT-4.6.0-1), then what
    /// waits.
    pub fn send_next(&mut self, receive_maximum: u16) -> Option<Due<'_>> {
        if self.sent >= usize::from(receive_maximum) {
            return None;
        }
        let is_again = self.sent < self.in_flight.len();
        if !is_again {
            let id = (!self.waiting.is_empty()).then(|| self.free_id())??;
            let message = self.waiting.pop_front()?;
            self.in_flight.push_back((id, Exchange::Published(message)));
        }
        let (id, exchange) = self.in_flight.get(self.sent)?;
        self.sent += 1;
        Some(Due { id: *id, exchange, is_again })
    }

    /// The connection has ended: what is unfinished is to be sent again on the next one.
    pub fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Forgets the messages that are not `wanted`, but not the exchanges that are past PUBLISH.
    pub fn retain(&mut self, wanted: impl Fn(&Message) -> bool) {
        self.in_flight.retain(|(_, exchange)| match exchange {
            Exchange::Published(message) => wanted(message),
            Exchange::Released => true,
        });
        self.waiting.retain(&wanted);
        let published = self.in_flight.iter().filter_map(|(_, exchange)| match exchange {
            Exchange::Published(message) => Some(message),
            Exchange::Released => None,
        });
        self.bytes = published.chain(&self.waiting).map(Message::bytes).sum();
        self.sent = self.sent.min(self.in_flight.len());
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
        if at < self.sent {
            self.sent -= 1;
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

    /// Starts the next exchange; its identifier.
    fn start(outbound: &mut Outbound) -> PacketId {
        outbound.send_next(9).expect("something is due").id
    }

    #[test]
    fn keeps_to_the_receive_maximum_and_goes_on_when_acknowledged() {
        let mut outbound = Outbound::default();
        for text in ["a", "b", "c"] {
            assert!(outbound.offer(message(text, QoS::AtLeastOnce), 10, 100));
        }
        let first = outbound.send_next(2).expect("room for two").id;
        assert!(outbound.send_next(2).is_some());
        assert!(outbound.send_next(2).is_none(), "the receive maximum is reached");
        assert!(outbound.acknowledged(first));
        assert!(!outbound.acknowledged(first), "an exchange ends once");
        let third = outbound.send_next(2).expect("room again");
        assert_eq!(third.exchange, &Exchange::Published(message("c", QoS::AtLeastOnce)));
        assert!(!third.is_again);
    }

    #[test]
    fn a_new_connection_gets_the_unfinished_again_within_its_own_receive_maximum() {
        let mut outbound = Outbound::default();
        for text in ["a", "b", "c"] {
            assert!(outbound.offer(message(text, QoS::ExactlyOnce), 10, 100));
        }
        let ids = [start(&mut outbound), start(&mut outbound)];
        assert!(outbound.received(ids[0], false));
        outbound.rewind();
        let again = outbound.send_next(1).expect("due again");
        assert_eq!((again.id, again.exchange, again.is_again), (ids[0], &Exchange::Released, true));
        assert!(outbound.send_next(1).is_none());
        assert!(outbound.completed(ids[0]));
        let again = outbound.send_next(1).expect("room again");
        assert_eq!((again.id, again.is_again), (ids[1], true));
        assert!(outbound.received(ids[1], false) && outbound.completed(ids[1]));
        assert!(!outbound.send_next(1).expect("what waited").is_again);
    }

    #[test]
    fn what_is_not_wanted_is_forgotten_with_its_bytes() {
        let mut outbound = Outbound::default();
        for text in ["long", "x", "long", "x"] {
            assert!(outbound.offer(message(text, QoS::ExactlyOnce), 10, 100));
        }
        let released = start(&mut outbound);
        let _ = (start(&mut outbound), start(&mut outbound));
        assert!(outbound.received(released, false));
        outbound.retain(|message| message.payload.len() < 4);
        assert_eq!((outbound.len(), outbound.bytes()), (3, 4));
    }

    #[test]
    fn refuses_beyond_its_bounds_and_returns_to_zero() {
        let mut outbound = Outbound::default();
        assert!(outbound.offer(message("1234", QoS::AtLeastOnce), 2, 10));
        assert!(!outbound.offer(message("12345", QoS::AtLeastOnce), 2, 10), "bytes");
        assert!(outbound.offer(message("1", QoS::ExactlyOnce), 2, 10));
        assert!(!outbound.offer(message("", QoS::AtLeastOnce), 2, 10), "messages");
        let one = start(&mut outbound);
        let two = start(&mut outbound);
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
        let id = start(&mut outbound);
        assert!(!outbound.acknowledged(id));
        assert!(!outbound.completed(id));
        assert_eq!(outbound.len(), 1);
    }

    #[test]
    fn never_reuses_an_identifier_in_use() {
        let mut outbound = Outbound { last_id: u16::MAX - 1, ..Outbound::default() };
        for _ in 0..3 {
            assert!(outbound.offer(message("", QoS::AtLeastOnce), 9, 9));
        }
        let ids: Vec<u16> = (0..3).map(|_| start(&mut outbound).get()).collect();
        assert_eq!(ids, [u16::MAX, 1, 2]);
    }
}
