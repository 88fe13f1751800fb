//! Messages that wait until it is known whose endpoint token they were sent with: per question, in
//! the order they came, bounded in bytes.

use std::collections::{HashMap, VecDeque};

use super::correlation::ConnectionKey;
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

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Parked {
    by_ask: HashMap<u64, VecDeque<Message>, foldhash::fast::RandomState>,
    bytes: usize,
}

impl Parked {
    /// A message waits for the answer to question `ask`.
    pub fn push(&mut self, ask: u64, message: Message) {
        self.bytes += message.bytes();
        self.by_ask.entry(ask).or_default().push_back(message);
    }

    /// The messages that waited for a question, in order.
    pub fn take(&mut self, ask: u64) -> VecDeque<Message> {
        let messages = self.by_ask.remove(&ask).unwrap_or_default();
        self.bytes -= messages.iter().map(Message::bytes).sum::<usize>();
        messages
    }

    /// What waited for question `from` waits for `to` now.
    pub fn move_to(&mut self, from: u64, to: u64) {
        if let Some(messages) = self.by_ask.remove(&from) {
            self.by_ask.entry(to).or_default().extend(messages);
        }
    }

    /// Forgets the messages of a connection.
    pub fn forget(&mut self, connection: ConnectionKey) -> usize {
        let mut forgotten = 0;
        for messages in self.by_ask.values_mut() {
            messages.retain(|message| {
                let is_kept = message.connection != connection;
                if !is_kept {
                    self.bytes -= message.bytes();
                    forgotten += 1;
                }
                is_kept
            });
        }
        self.by_ask.retain(|_, messages| !messages.is_empty());
        forgotten
    }

    /// What all of them cost.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.by_ask.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(index: u32, payload: &str) -> Message {
        Message {
            connection: ConnectionKey { index, generation: 1 },
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
        assert_eq!(parked.forget(ConnectionKey { index: 2, generation: 1 }), 1);
        parked.move_to(1, 3);
        assert!(parked.take(1).is_empty());
        let payloads: Vec<_> = parked.take(3).into_iter().map(|message| message.payload).collect();
        assert_eq!(payloads, [b"a"[..].into(), b"d"[..].into()] as [Box<[u8]>; 2]);
        assert_eq!(parked.bytes(), message_bytes(1, 1));
        parked.take(2);
        assert!(parked.is_empty() && parked.bytes() == 0);
    }
}
