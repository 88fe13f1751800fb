//! Messages towards the client.

use std::num::NonZeroU16;

use super::outbound::{Due, Exchange, Message, Outbound};
use super::{Policy, Session};
use crate::codec::mqtt::{self, AckKind, PublishHead, QoS, ReasonCode};

/// A message for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// The whole topic.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// Its QoS, before a subscription caps it.
    pub qos: QoS,
    /// Whether the topic will come again, so that a topic alias is worth setting up.
    pub recurs: bool,
}

/// What became of a message for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was sent, or will be as soon as the client's receive maximum allows, at this QoS.
    Accepted(QoS),
    /// Too much is waiting for the client already: dropped. It would have had this QoS.
    TooSlow(QoS),
    /// The client takes no packet of that size (MQTT-3.1.2-24): dropped.
    TooLarge,
}

/// Bytes that a topic alias adds to a PUBLISH.
const ALIAS_BYTES: usize = 3;

impl Session {
    /// Sends a message, capped in QoS by what the client has subscribed to. `waiting_bytes` is what
    /// has not left for the client yet.
    pub fn deliver(
        &mut self,
        message: Outgoing<'_>,
        policy: &Policy,
        waiting_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Delivery {
        let Outgoing { topic, payload, qos, recurs } = message;
        let granted = self.subscriptions.as_ref().and_then(|held| held.granted(topic));
        let qos = granted.map_or(qos, |granted| qos.min(granted));
        let packet_bytes = self.packet_bytes(topic, payload, qos);
        let packet_bytes_max = self.client_packet_bytes_max as usize;
        if packet_bytes > packet_bytes_max {
            return Delivery::TooLarge;
        }
        if waiting_bytes + packet_bytes > policy.outbound_bytes_max {
            return Delivery::TooSlow(qos);
        }
        if qos == QoS::AtMostOnce {
            let has_room = packet_bytes + ALIAS_BYTES <= packet_bytes_max;
            let alias = self.alias_out(topic, recurs && has_room, policy);
            let (topic_alias, is_known) = alias.unzip();
            let head = PublishHead { qos, topic_alias, ..PublishHead::default() };
            let topic = if is_known == Some(true) { "" } else { topic };
            encode(self.version, head, topic, payload, out);
            return Delivery::Accepted(qos);
        }
        let message = Message { topic: topic.into(), payload: payload.into(), qos };
        let outbound = self.outbound.get_or_insert_default();
        if !outbound.offer(message, policy.outbound_messages_max, policy.outbound_bytes_max) {
            return Delivery::TooSlow(qos);
        }
        self.send_waiting(out);
        Delivery::Accepted(qos)
    }

    /// Bytes of a PUBLISH to the client without a topic alias.
    fn packet_bytes(&self, topic: &str, payload: &[u8], qos: QoS) -> usize {
        let head = PublishHead { qos, ..PublishHead::default() };
        head.packet_bytes(topic.len(), payload.len(), self.version)
    }

    /// Takes over what is owed to the client from a connection before. Messages that this one does
    /// not take for their size count as sent (MQTT-3.1.2-25).
    pub(super) fn inherit(&mut self, mut outbound: Outbound) {
        let bytes_max = self.client_packet_bytes_max as usize;
        outbound.rewind();
        outbound.retain(|message| {
            self.packet_bytes(&message.topic, &message.payload, message.qos) <= bytes_max
        });
        self.outbound = (!outbound.is_empty()).then(|| Box::new(outbound));
    }

    /// Sends as much of what is owed as the client's receive maximum allows.
    pub(super) fn send_waiting(&mut self, out: &mut Vec<u8>) {
        let Some(outbound) = &mut self.outbound else { return };
        while let Some(Due { id, exchange, is_again }) =
            outbound.send_next(self.client_receive_maximum)
        {
            match exchange {
                Exchange::Published(message) => {
                    let Message { topic, payload, qos } = message;
                    let head = PublishHead {
                        dup: is_again,
                        qos: *qos,
                        packet_id: Some(id),
                        ..PublishHead::default()
                    };
                    encode(self.version, head, topic, payload, out);
                }
                Exchange::Released => {
                    let (kind, reason) = (AckKind::PubRel, ReasonCode::Success);
                    mqtt::encode_ack(kind, id, reason, self.version, out);
                }
            }
        }
        if outbound.is_empty() {
            self.outbound = None;
        }
    }

    /// The alias of a topic, and whether the client knows it already.
    fn alias_out(
        &mut self,
        topic: &str,
        recurs: bool,
        policy: &Policy,
    ) -> Option<(NonZeroU16, bool)> {
        let max = usize::from(self.client_alias_maximum.min(policy.topic_alias_maximum));
        if max == 0 || !recurs {
            return None;
        }
        let aliases = &mut self.aliases_out.get_or_insert_default().0;
        if let Some(at) = aliases.iter().position(|known| **known == *topic) {
            return Some((NonZeroU16::new(at as u16 + 1)?, true));
        }
        if aliases.len() >= max {
            return None;
        }
        aliases.push(topic.into());
        Some((NonZeroU16::new(aliases.len() as u16)?, false))
    }
}

fn encode(
    version: mqtt::Version,
    head: PublishHead,
    topic: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    // Topics are bounded by 1/KP to what MQTT can carry, payloads by NATS' max_payload, far below
    // MQTT's limit of 256 MB.
    let encoded = mqtt::encode_publish(&head, &[topic], payload, version, out);
    debug_assert!(encoded.is_ok());
}
