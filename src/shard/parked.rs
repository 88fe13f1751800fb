//! Messages that wait until it is known whose endpoint token they were sent with: per question, in
//! the order they came, bounded in bytes. Also found by connection, so that to forget those of one
//! costs nothing for the others, however many wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::clients::Client;
use super::correlation::ConnectionKey;
use crate::auth::Transport;
use crate::codec::mqtt::{PacketId, QoS};

/// What a parked message costs beside its topic and payload, in bytes: this record, its places in
/// both orders, and what the allocator adds.
const RECORD_BYTES: usize = 160;

/// A message kept while it waits. It may outlive its connection: a device that publishes and leaves
/// at once is still owed that its message is carried.
#[derive(Debug)]
pub struct Message {
    /// The connection it came from.
    pub connection: ConnectionKey,
    /// Who that connection's client had proven to be: it is judged by that also when it has left.
    pub client: Option<Rc<Client>>,
    /// What it came by.
    pub comes_by: Transport,
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

/// Where a message stands: its question, and its turn among all messages.
type Place = (u64, u64);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Parked {
    messages: BTreeMap<Place, Message>,
    /// Where the messages of each connection stand.
    places: HashMap<ConnectionKey, BTreeSet<Place>, foldhash::fast::RandomState>,
    next_turn: u64,
    bytes: usize,
}

impl Parked {
    /// A message waits for the answer to question `ask`.
    pub fn push(&mut self, ask: u64, message: Message) {
        self.next_turn += 1;
        self.insert((ask, self.next_turn), message);
    }

    fn insert(&mut self, place: Place, message: Message) {
        self.bytes += message.bytes();
        self.places.entry(message.connection).or_default().insert(place);
        self.messages.insert(place, message);
    }

    fn remove(&mut self, place: Place) -> Option<Message> {
        let message = self.messages.remove(&place)?;
        self.bytes -= message.bytes();
        if let Some(places) = self.places.get_mut(&message.connection) {
            places.remove(&place);
            if places.is_empty() {
                self.places.remove(&message.connection);
            }
        }
        Some(message)
    }

    fn places_of(&self, ask: u64) -> impl Iterator<Item = Place> {
        self.messages.range((ask, 0)..=(ask, u64::MAX)).map(|(place, _)| *place)
    }

    /// How many messages wait for a question.
    pub fn count(&self, ask: u64) -> usize {
        self.places_of(ask).count()
    }

    /// The first of the messages that wait for a question.
    pub fn take_first(&mut self, ask: u64) -> Option<Message> {
        let first = self.places_of(ask).next()?;
        self.remove(first)
    }

    /// What waited for question `from` waits for `to` now.
    pub fn move_to(&mut self, from: u64, to: u64) {
        let places: Vec<Place> = self.places_of(from).collect();
        for place in places {
            if let Some(message) = self.remove(place) {
                self.insert((to, place.1), message);
            }
        }
    }

    /// Whether messages of a connection wait.
    pub fn holds(&self, connection: ConnectionKey) -> bool {
        self.places.contains_key(&connection)
    }

    /// The connections with a message for which `is_meant`.
    pub fn connections_with(&self, is_meant: impl Fn(&Message) -> bool) -> Vec<ConnectionKey> {
        let message = |place: &Place| self.messages.get(place);
        let is_meant = |place: &Place| message(place).is_some_and(&is_meant);
        let meant = self.places.iter().filter(|(_, places)| places.iter().any(is_meant));
        meant.map(|(connection, _)| *connection).collect()
    }

    /// Forgets the messages of a connection.
    pub fn forget(&mut self, connection: ConnectionKey) -> Vec<Message> {
        let places = self.places.remove(&connection).unwrap_or_default();
        places.into_iter().filter_map(|place| self.remove(place)).collect()
    }

    /// What all of them cost.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(index: u32) -> ConnectionKey {
        ConnectionKey { index, generation: 1 }
    }

    fn message(index: u32, payload: &str) -> Message {
        Message {
            connection: connection(index),
            client: None,
            comes_by: Transport::MqttTcp,
            topic: "t".into(),
            payload: payload.as_bytes().into(),
            qos: QoS::AtMostOnce,
            packet_id: None,
        }
    }

    #[test]
    fn messages_come_out_in_their_order_and_free_what_they_cost() {
        let mut parked = Parked::default();
        for (ask, index, payload) in [(1, 1, "a"), (2, 1, "b"), (1, 2, "c"), (1, 1, "d")] {
            parked.push(ask, message(index, payload));
        }
        let with_b = parked.connections_with(|message| *message.payload == *b"b");
        assert_eq!(with_b, [connection(1)]);
        assert!(parked.holds(connection(2)));
        assert_eq!(parked.forget(connection(2)).len(), 1);
        assert!(!parked.holds(connection(2)));
        assert!(parked.forget(connection(2)).is_empty());
        parked.move_to(1, 3);
        assert_eq!((parked.count(1), parked.count(3)), (0, 2));
        let taken = std::iter::from_fn(|| parked.take_first(3));
        let payloads: Vec<_> = taken.map(|message| message.payload).collect();
        assert_eq!(payloads, [b"a"[..].into(), b"d"[..].into()] as [Box<[u8]>; 2]);
        assert_eq!(parked.bytes(), message_bytes(1, 1));
        parked.take_first(2);
        assert!(parked.is_empty() && parked.bytes() == 0 && parked.places.is_empty());
    }

    /// Were all messages looked at for each connection, this would take minutes.
    #[test]
    fn connections_put_out_at_once_cost_as_much_each_as_their_own_messages() {
        const CONNECTIONS: u32 = 50_000;
        let mut parked = Parked::default();
        for index in 0..CONNECTIONS {
            // All wait for the same, and each for something of its own.
            parked.push(0, message(index, "a"));
            parked.push(1 + u64::from(index), message(index, "b"));
        }
        let forgotten: usize = (0..CONNECTIONS).map(|i| parked.forget(connection(i)).len()).sum();
        assert_eq!(forgotten, 2 * CONNECTIONS as usize);
        assert!(parked.is_empty() && parked.bytes() == 0 && parked.places.is_empty());
    }
}
