//! Messages towards the client.

use super::outbound::{Exchange, Message};
use super::{Policy, Session};
use crate::codec::mqtt::{self, AckKind, PacketId, PublishHead, QoS, ReasonCode};

/// What became of a message for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It was sent, or will be as soon as the client's receive maximum allows, at this QoS.
    Accepted(QoS),
    /// Too much is waiting for the client already: dropped.
    TooSlow,
    /// The client takes no packet of that size (MQTT-3.1.2-24): dropped.
    TooLarge,
}

/// Bytes a PUBLISH has beyond topic and payload, at most: fixed header, lengths, identifier, alias.
const OVERHEAD_BYTES: usize = 16;

impl Session {
    /// Sends a message, capped in QoS by what the client has subscribed to. `waiting_bytes` is what
    /// has not left for the client yet. `recurs` says that the topic will come again, so that a
    /// topic alias is worth setting up.
    pub fn deliver(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        recurs: bool,
        policy: &Policy,
        waiting_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Delivery {
        let granted = self.subscriptions.as_ref().and_then(|held| held.granted(topic));
        let qos = granted.map_or(qos, |granted| qos.min(granted));
        let packet_bytes = topic.len() + payload.len() + OVERHEAD_BYTES;
        if packet_bytes > self.client_packet_bytes_max as usize {
            return Delivery::TooLarge;
        }
        if waiting_bytes + packet_bytes > policy.outbound_bytes_max {
            return Delivery::TooSlow;
        }
        if qos == QoS::AtMostOnce {
            let alias = self.alias_out(topic, recurs, policy);
            encode(self.version, topic, payload, qos, None, false, alias, out);
            return Delivery::Accepted(qos);
        }
        let message = Message { topic: topic.into(), payload: payload.into(), qos };
        let outbound = self.outbound.get_or_insert_default();
        if !outbound.offer(message, policy.outbound_messages_max, policy.outbound_bytes_max) {
            return Delivery::TooSlow;
        }
        self.send_waiting(out);
        Delivery::Accepted(qos)
    }

    /// Starts as many waiting exchanges as the client's receive maximum allows.
    pub(super) fn send_waiting(&mut self, out: &mut Vec<u8>) {
        let Some(outbound) = &mut self.outbound else { return };
        while let Some((id, message)) = outbound.start_next(self.client_receive_maximum) {
            encode_message(self.version, id, message, false, out);
        }
        if outbound.is_empty() {
            self.outbound = None;
        }
    }

    /// A resumed session sends again what was not finished (MQTT-4.4.0-1).
    pub(super) fn send_unfinished(&mut self, out: &mut Vec<u8>) {
        if let Some(outbound) = &self.outbound {
            for (id, exchange) in outbound.unfinished() {
                match exchange {
                    Exchange::Published(message) => {
                        encode_message(self.version, id, message, true, out);
                    }
                    Exchange::Released => {
                        let (kind, reason) = (AckKind::PubRel, ReasonCode::Success);
                        mqtt::encode_ack(kind, id, reason, self.version, out);
                    }
                }
            }
        }
        self.send_waiting(out);
    }

    /// The alias of a topic, and whether the client knows it already.
    fn alias_out(&mut self, topic: &str, recurs: bool, policy: &Policy) -> Option<(u16, bool)> {
        let max = usize::from(self.client_alias_maximum.min(policy.topic_alias_maximum));
        if max == 0 || !recurs {
            return None;
        }
        let aliases = self.aliases_out.get_or_insert_default();
        if let Some(at) = aliases.iter().position(|known| **known == *topic) {
            return Some((at as u16 + 1, true));
        }
        if aliases.len() >= max {
            return None;
        }
        aliases.push(topic.into());
        Some((aliases.len() as u16, false))
    }
}

fn encode_message(
    version: mqtt::Version,
    id: PacketId,
    message: &Message,
    dup: bool,
    out: &mut Vec<u8>,
) {
    encode(version, &message.topic, &message.payload, message.qos, Some(id), dup, None, out);
}

#[allow(clippy::too_many_arguments)]
fn encode(
    version: mqtt::Version,
    topic: &str,
    payload: &[u8],
    qos: QoS,
    packet_id: Option<PacketId>,
    dup: bool,
    alias: Option<(u16, bool)>,
    out: &mut Vec<u8>,
) {
    let head = PublishHead {
        dup,
        qos,
        retain: false,
        packet_id,
        topic_alias: alias.and_then(|(alias, _)| std::num::NonZeroU16::new(alias)),
    };
    let topic = if matches!(alias, Some((_, true))) { "" } else { topic };
    // Topics are bounded by 1/KP to what MQTT can carry, payloads by NATS' max_payload, far below
    // MQTT's limit of 256 MB.
    let encoded = mqtt::encode_publish(&head, &[topic], payload, version, out);
    debug_assert!(encoded.is_ok());
}
