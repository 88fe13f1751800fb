//! Messages that wait until it is known whose endpoint token they were sent with: per question, in
//! the order they came, bounded in bytes.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::clients::Client;
use super::correlation::ConnectionKey;
use crate::auth::Transport;
use crate::codec::mqtt::{PacketId, QoS};

/// What a parked message costs beside its topic and payload, in bytes: this record and what the
/// allocator adds.
const RECORD_BYTES: usize = 96;

/// A message kept while it waits. It may outlive its connection: a device that publishes and leaves
/// at once is still owed that its message is carried.
#[derive(Debug)]
pub struct Message {
    /// The connection it came from.
    pub connection: ConnectionKey,
    /// Who its client had proven to be when it came.
    pub client: Option<Rc<Client>>,
    /// What that came by.
    pub transport: Transport,
    /// Its topic, whole.
    pub topic: Box<str>,
    /// Its payload.
    pub payload: Box<[u8]>,
    /// Its QoS.
    pub qos: QoS,
    /// `None` exactly for QoS 0.
    pub packet_id: Option<PacketId>,
}

impl Message {
    /// What it costs.
    pub fn bytes(&self) -> usize {
        message_bytes(self.topic.len(), self.payload.len())
    }
}

/// What a message of such a size costs to keep.
pub fn message_bytes(topic_bytes: usize, payload_bytes: usize) -> usize {
    RECORD_BYTES + topic_bytes + payload_bytes
}

/// What waits of one connection.
#[derive(Debug, Default)]
struct Share {
    messages: usize,
    /// Whether nobody wants them any more. They go when the questions they wait for are answered:
    /// to look for them earlier would cost as much as all that waits, for each connection put out.
    is_forgotten: bool,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Parked {
    by_ask: HashMap<u64, VecDeque<Message>, foldhash::fast::RandomState>,
    shares: HashMap<ConnectionKey, Share, foldhash::fast::RandomState>,
    bytes: usize,
    /// Messages that somebody wants.
    wanted: usize,
}

impl Parked {
    /// A message waits for the answer to question `ask`.
    pub fn push(&mut self, ask: u64, message: Message) {
        self.bytes += message.bytes();
        self.wanted += 1;
        self.shares.entry(message.connection).or_default().messages += 1;
        self.by_ask.entry(ask).or_default().push_back(message);
    }

    /// The messages that waited for a question, in order, without those that were forgotten.
    pub fn take(&mut self, ask: u64) -> VecDeque<Message> {
        let mut messages = self.by_ask.remove(&ask).unwrap_or_default();
        messages.retain(|message| self.leaves(message));
        messages
    }

    /// Takes a message off the books; whether somebody wants it.
    fn leaves(&mut self, message: &Message) -> bool {
        self.bytes -= message.bytes();
        let Some(share) = self.shares.get_mut(&message.connection) else { return false };
        let is_wanted = !share.is_forgotten;
        share.messages -= 1;
        if share.messages == 0 {
            self.shares.remove(&message.connection);
        }
        self.wanted -= usize::from(is_wanted);
        is_wanted
    }

    /// What waited for question `from` waits for `to` now.
    pub fn move_to(&mut self, from: u64, to: u64) {
        if let Some(messages) = self.by_ask.remove(&from) {
            self.by_ask.entry(to).or_default().extend(messages);
        }
    }

    /// Forgets the messages of a connection that has ended, which keep their room until the
    /// questions they wait for are answered. Returns how many there were.
    pub fn forget(&mut self, connection: ConnectionKey) -> usize {
        let Some(share) = self.shares.get_mut(&connection) else { return 0 };
        if std::mem::replace(&mut share.is_forgotten, true) {
            return 0;
        }
        self.wanted -= share.messages;
        share.messages
    }

    /// Forgets the messages of all connections of which a message is meant: for what is rare, since
    /// it looks at all that waits. Returns how many there were.
    pub fn forget_those_of(&mut self, is_meant: impl Fn(&Message) -> bool) -> usize {
        let messages = self.by_ask.values().flatten();
        let meant: Vec<_> = messages
            .filter(|message| is_meant(message))
            .map(|message| message.connection)
            .collect();
        meant.into_iter().map(|connection| self.forget(connection)).sum()
    }

    /// What all of them cost.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits that somebody wants.
    pub fn is_empty(&self) -> bool {
        self.wanted == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: u32, payload: &str) -> Message {
        Message {
            connection: ConnectionKey { index, generation: 1 },
            client: None,
            transport: Transport::MqttTcp,
            topic: "t".into(),
            payload: payload.as_bytes().into(),
            qos: QoS::AtMostOnce,
            packet_id: None,
        }
    }

    #[test]
    fn messages_come_out_in_their_order_and_free_what_they_cost() {
        let mut parked = Parked::default();
        for (ask, connection, payload) in [(1, 1, "a"), (2, 1, "b"), (1, 2, "c"), (1, 1, "d")] {
            parked.push(ask, message(connection, payload));
        }
        let key = |index| ConnectionKey { index, generation: 1 };
        assert_eq!(parked.forget(key(2)), 1);
        assert_eq!(parked.forget(key(2)), 0, "it has been");
        assert_eq!(parked.bytes(), 4 * message_bytes(1, 1), "its room is not free yet");
        parked.move_to(1, 3);
        assert!(parked.take(1).is_empty());
        let payloads: Vec<_> = parked.take(3).into_iter().map(|message| message.payload).collect();
        assert_eq!(payloads, [b"a"[..].into(), b"d"[..].into()] as [Box<[u8]>; 2]);
        assert_eq!(parked.bytes(), message_bytes(1, 1));
        assert!(!parked.is_empty());
        assert_eq!(parked.forget_those_of(|message| *message.payload == *b"b"), 1);
        assert!(parked.is_empty() && parked.bytes() > 0, "nobody waits for it");
        assert!(parked.take(2).is_empty());
        assert!(parked.bytes() == 0 && parked.shares.is_empty());
    }
}
