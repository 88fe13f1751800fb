//! The brain of one client: an MQTT session as a state machine.
//!
//! Pure: packets and events in; replies appended to a buffer, and at most one [`Step`] for the
//! shell to take, out. No socket, no clock, no runtime, which is what lets tests drive it through
//! thousands of orders of events a second.

pub mod catalogue;
mod connect;
mod deliver;
pub mod inbound;
pub mod outbound;
pub mod policy;
pub mod saved;
pub mod subscriptions;
pub mod topics;

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

pub use connect::{ClientId, Hello, Login, Refused};
pub use deliver::{Delivery, Outgoing};
pub use policy::Policy;

use crate::codec::mqtt::{
    self, AckKind, Disconnect, DisconnectProperties, FrameError, Malformed, Packet, PacketId, QoS,
    ReasonCode, Version,
};
use crate::telemetry::{CloseReason, ConnectRefusal};
use inbound::{Arrival, Inbound};
use outbound::Outbound;
use saved::Saved;
use subscriptions::Subscriptions;
use topics::Topics;

/// Bytes of a DISCONNECT around its reason string, at most: two lengths of up to four bytes, packet
/// type, reason code, property and length of the text.
const GOODBYE_BYTES_MAX: usize = 13;
/// Packet type of a PUBLISH, in the high half of its first byte (MQTT §2.1.2).
const PUBLISH: u8 = 3;

/// What the shell must do about a packet; replies are in the buffer already.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing more.
    Done,
    /// The client asks to come in: claim its client id, then [`Session::accept`] or
    /// [`Session::refuse_connect`]. No further packet may be given before that.
    Connect(Hello),
    /// A message to carry: end it with [`Session::confirmed`], or with [`Session::dropped`].
    Publish(Incoming<'a>),
    /// The client is not let in; close the connection once the buffer is sent.
    Refused(ConnectRefusal, CloseReason),
    /// Close the connection once the buffer is sent.
    Close(CloseReason),
}

/// A message from the client.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// The topic, whole.
    pub topic: Topic<'a>,
    /// The payload.
    pub payload: &'a [u8],
    /// Its QoS.
    pub qos: QoS,
    /// `None` exactly for QoS 0.
    pub packet_id: Option<PacketId>,
    /// Whether the client wanted it retained, which ringgate does not do.
    pub retain: bool,
}

/// The topic of a message: in its packet, or behind a topic alias.
#[derive(Debug)]
pub enum Topic<'a> {
    /// In the packet.
    Sent(&'a str),
    /// Set up earlier (MQTT 5.0 §3.3.2.3.4).
    Aliased(Rc<str>),
}

impl Deref for Topic<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match self {
            Self::Sent(topic) => topic,
            Self::Aliased(topic) => topic,
        }
    }
}

/// Topics behind the aliases the client has set up: alias 1 first.
#[derive(Debug, Default)]
struct AliasesIn(Vec<Option<Rc<str>>>);

/// Topics behind the aliases set up towards the client: alias 1 first.
#[derive(Debug, Default)]
struct AliasesOut(Vec<Box<str>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No CONNECT yet.
    Expecting,
    /// CONNECT taken, the shell decides.
    Entering,
    /// In.
    Live,
}

/// See the module's documentation. Kept small: a gateway holds a million of them.
#[derive(Debug)]
pub struct Session {
    state: State,
    version: Version,
    /// Granted keep alive in seconds, 0 for none.
    keep_alive_s: u16,
    /// Granted session expiry in seconds, 0: ends with the connection.
    expiry_s: u32,
    /// Publications the client takes at a time.
    client_receive_maximum: u16,
    client_packet_bytes_max: u32,
    client_alias_maximum: u16,
    client_id: Option<Arc<str>>,
    inbound: Inbound,
    outbound: Option<Box<Outbound>>,
    subscriptions: Option<Box<Subscriptions>>,
    aliases_in: Option<Box<AliasesIn>>,
    aliases_out: Option<Box<AliasesOut>>,
    /// Topics resolved lately; the shell fills and reads it.
    topics: Option<Box<Topics>>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            state: State::Expecting,
            version: Version::V311,
            keep_alive_s: 0,
            expiry_s: 0,
            client_receive_maximum: u16::MAX,
            client_packet_bytes_max: u32::MAX,
            client_alias_maximum: 0,
            client_id: None,
            inbound: Inbound::default(),
            outbound: None,
            subscriptions: None,
            aliases_in: None,
            aliases_out: None,
            topics: None,
        }
    }
}

impl Session {
    /// Takes one whole packet. Replies are appended to `out`.
    #[inline]
    pub fn packet<'a>(&mut self, packet: &'a [u8], policy: &Policy, out: &mut Vec<u8>) -> Step<'a> {
        match self.state {
            State::Live if packet.first().is_some_and(|first| first >> 4 == PUBLISH) => {
                match mqtt::decode_publish(packet, self.version) {
                    Ok(publish) => self.publish(publish, policy, out),
                    Err(rule) => self.malformed(rule, out),
                }
            }
            State::Live => match mqtt::decode(packet, self.version) {
                Ok(packet) => self.other(packet, policy, out),
                Err(rule) => self.malformed(rule, out),
            },
            State::Expecting => self.first(packet, policy, out),
            State::Entering => {
                debug_assert!(false, "no packet before the shell has decided");
                Step::Close(CloseReason::Internal)
            }
        }
    }

    /// Bytes that are no packet, or too long a one.
    pub fn bad_frame(&mut self, error: FrameError, out: &mut Vec<u8>) -> CloseReason {
        let reason = match error {
            FrameError::Malformed(_) => CloseReason::MalformedPacket,
            FrameError::TooLarge { .. } => CloseReason::PacketTooLarge,
        };
        self.say_goodbye(error.reason_code(), out);
        reason
    }

    fn malformed<'a>(&mut self, rule: Malformed, out: &mut Vec<u8>) -> Step<'a> {
        let code = rule.reason_code();
        self.say_goodbye(code, out);
        Step::Close(match code {
            ReasonCode::ProtocolError => CloseReason::ProtocolError,
            _ => CloseReason::MalformedPacket,
        })
    }

    /// Tells a v5 client why it is disconnected; earlier versions have no such packet from a
    /// server.
    pub fn say_goodbye(&mut self, reason: ReasonCode, out: &mut Vec<u8>) {
        if self.state == State::Live && self.version.is_v5() {
            // Without properties a DISCONNECT always fits.
            let _ = Disconnect { reason, ..Disconnect::default() }.encode(self.version, out);
        }
    }

    /// As [`Session::say_goodbye`], with a word for whoever looks for the cause, if the client takes
    /// so long a packet.
    pub fn say_goodbye_because(&mut self, reason: ReasonCode, why: &str, out: &mut Vec<u8>) {
        let packet_bytes = GOODBYE_BYTES_MAX + why.len();
        if self.state != State::Live
            || !self.version.is_v5()
            || packet_bytes > self.client_packet_bytes_max as usize
        {
            return self.say_goodbye(reason, out);
        }
        let properties =
            DisconnectProperties { reason_string: Some(why), ..DisconnectProperties::default() };
        // Only a reason of more than 65,535 bytes does not fit, and there is none.
        let encoded = Disconnect { reason, properties }.encode(self.version, out);
        debug_assert!(encoded.is_ok());
    }

    fn fail<'a>(&mut self, code: ReasonCode, reason: CloseReason, out: &mut Vec<u8>) -> Step<'a> {
        self.say_goodbye(code, out);
        Step::Close(reason)
    }

    #[inline]
    fn publish<'a>(
        &mut self,
        publish: mqtt::Publish<'a>,
        policy: &Policy,
        out: &mut Vec<u8>,
    ) -> Step<'a> {
        let v5 = self.version.is_v5();
        if !publish.properties.subscription_ids.is_empty() {
            // MQTT-3.3.4-6: only a server sends them.
            return self.fail(ReasonCode::ProtocolError, CloseReason::ProtocolError, out);
        }
        if publish.retain && v5 {
            // MQTT-3.2.2-14: CONNACK said that nothing is retained.
            return self.fail(ReasonCode::RetainNotSupported, CloseReason::ProtocolError, out);
        }
        let topic = match publish.properties.topic_alias {
            None => Topic::Sent(publish.topic),
            Some(alias) => match self.alias(alias.get(), publish.topic, policy) {
                Ok(topic) => topic,
                Err(code) => return self.fail(code, CloseReason::ProtocolError, out),
            },
        };
        if let Some(id) = publish.packet_id {
            let window = usize::from(policy.receive_maximum);
            let is_repeated = publish.qos == QoS::ExactlyOnce && self.inbound.is_known(id);
            if v5 && self.inbound.open() >= window && !is_repeated {
                // MQTT-3.3.4-7.
                let code = ReasonCode::ReceiveMaximumExceeded;
                return self.fail(code, CloseReason::ReceiveMaximumExceeded, out);
            }
            match self.inbound.arrived(id, publish.qos) {
                Arrival::New => {}
                Arrival::Repeated => return Step::Done,
                Arrival::AcknowledgeAgain => {
                    self.acknowledge(AckKind::PubRec, id, ReasonCode::Success, out);
                    return Step::Done;
                }
            }
        }
        Step::Publish(Incoming {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            packet_id: publish.packet_id,
            retain: publish.retain,
        })
    }

    /// Sets up or follows a topic alias. One out of range is invalid, one never set up a protocol
    /// error (MQTT 5.0 §3.3.4).
    fn alias<'a>(
        &mut self,
        alias: u16,
        topic: &'a str,
        policy: &Policy,
    ) -> Result<Topic<'a>, ReasonCode> {
        if alias > policy.topic_alias_maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let aliases = &mut self.aliases_in.get_or_insert_default().0;
        let at = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = aliases.get(at).cloned().flatten();
            return known.map(Topic::Aliased).ok_or(ReasonCode::ProtocolError);
        }
        if aliases.len() <= at {
            aliases.resize(at + 1, None);
        }
        if aliases[at].as_deref() != Some(topic) {
            aliases[at] = Some(topic.into());
        }
        Ok(Topic::Sent(topic))
    }

    fn other<'a>(&mut self, packet: Packet<'a>, policy: &Policy, out: &mut Vec<u8>) -> Step<'a> {
        match packet {
            Packet::PubAck(ack) => {
                if let Some(outbound) = &mut self.outbound {
                    outbound.acknowledged(ack.packet_id);
                }
                self.send_waiting(out);
            }
            Packet::PubRec(ack) => self.pubrec(ack.packet_id, ack.reason, out),
            Packet::PubComp(ack) => {
                if let Some(outbound) = &mut self.outbound {
                    outbound.completed(ack.packet_id);
                }
                self.send_waiting(out);
            }
            Packet::PubRel(ack) => {
                let reason = match self.inbound.released(ack.packet_id) {
                    true => ReasonCode::Success,
                    false => ReasonCode::PacketIdentifierNotFound,
                };
                self.acknowledge(AckKind::PubComp, ack.packet_id, reason, out);
            }
            Packet::Subscribe(subscribe) => return self.subscribe(&subscribe, policy, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe, out),
            Packet::PingReq => mqtt::encode_pingresp(out),
            Packet::Disconnect(disconnect) => return self.disconnect(&disconnect, policy, out),
            // A second CONNECT (MQTT-3.1.0-2), and packets only a server sends; AUTH, because no
            // authentication method was agreed on (MQTT-4.12.0-6).
            _ => return self.fail(ReasonCode::ProtocolError, CloseReason::ProtocolError, out),
        }
        Step::Done
    }

    fn pubrec(&mut self, id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
        let refused = reason.is_error();
        let known = self.outbound.as_mut().is_some_and(|o| o.received(id, refused));
        if known {
            self.acknowledge(AckKind::PubRel, id, ReasonCode::Success, out);
        } else if !refused {
            self.acknowledge(AckKind::PubRel, id, ReasonCode::PacketIdentifierNotFound, out);
        }
        self.send_waiting(out);
    }

    fn acknowledge(&self, kind: AckKind, id: PacketId, reason: ReasonCode, out: &mut Vec<u8>) {
        mqtt::encode_ack(kind, id, reason, self.version, out);
    }

    fn subscribe<'a>(
        &mut self,
        subscribe: &mqtt::Subscribe<'_>,
        policy: &Policy,
        out: &mut Vec<u8>,
    ) -> Step<'a> {
        if subscribe.properties.subscription_id.is_some() {
            // CONNACK said that there are none (MQTT 5.0 §3.2.2.3.12).
            let code = ReasonCode::SubscriptionIdentifiersNotSupported;
            return self.fail(code, CloseReason::ProtocolError, out);
        }
        let v5 = self.version.is_v5();
        let held = self.subscriptions.get_or_insert_default();
        let codes = subscribe.subscriptions.iter().map(|subscription| {
            if v5 && mqtt::shared_filter(subscription.filter).is_some() {
                return ReasonCode::SharedSubscriptionsNotSupported;
            }
            let qos = subscription.options.qos_max;
            match (held.insert(subscription.filter, qos, policy.subscriptions_max), v5) {
                (true, _) => granted(qos),
                (false, true) => ReasonCode::QuotaExceeded,
                (false, false) => ReasonCode::UnspecifiedError,
            }
        });
        // As many codes as filters, which fitted in a packet.
        let encoded = mqtt::encode_suback(subscribe.packet_id, codes, self.version, out);
        debug_assert!(encoded.is_ok());
        Step::Done
    }

    fn unsubscribe(&mut self, unsubscribe: &mqtt::Unsubscribe<'_>, out: &mut Vec<u8>) {
        let mut held = self.subscriptions.as_mut();
        let codes = unsubscribe.filters.iter().map(|filter| {
            match held.as_mut().is_some_and(|held| held.remove(filter)) {
                true => ReasonCode::Success,
                false => ReasonCode::NoSubscriptionExisted,
            }
        });
        // As many codes as filters, which fitted in a packet.
        let encoded = mqtt::encode_unsuback(unsubscribe.packet_id, codes, self.version, out);
        debug_assert!(encoded.is_ok());
    }

    fn disconnect<'a>(
        &mut self,
        disconnect: &mqtt::Disconnect<'_>,
        policy: &Policy,
        out: &mut Vec<u8>,
    ) -> Step<'a> {
        if let Some(expiry_s) = disconnect.properties.session_expiry_interval_s {
            if self.expiry_s == 0 && expiry_s != 0 {
                // MQTT 5.0 §3.14.2.2.2.
                return self.fail(ReasonCode::ProtocolError, CloseReason::ProtocolError, out);
            }
            self.expiry_s = expiry_s.min(policy.session_expiry_s_max);
        }
        Step::Close(CloseReason::ClientDisconnect)
    }

    /// NATS has confirmed the message (or its drop may now be acknowledged): appends PUBACK or
    /// PUBREC. Returns whether there was one to acknowledge.
    #[inline]
    pub fn confirmed(&mut self, id: PacketId, qos: QoS, out: &mut Vec<u8>) -> bool {
        if !self.inbound.must_wait(id, qos) {
            return self.acknowledge_publish(id, qos, out);
        }
        while let Some((id, qos)) = self.inbound.next_due() {
            self.acknowledge_publish(id, qos, out);
        }
        true
    }

    #[inline]
    fn acknowledge_publish(&mut self, id: PacketId, qos: QoS, out: &mut Vec<u8>) -> bool {
        let Some(reason) = self.inbound.confirmed(id, qos, self.version.is_v5()) else {
            return false;
        };
        let kind = match qos {
            QoS::ExactlyOnce => AckKind::PubRec,
            _ => AckKind::PubAck,
        };
        self.acknowledge(kind, id, reason, out);
        true
    }

    /// The message will not be carried, and is acknowledged with `reason` (v5) all the same
    /// (MQTT-3.3.5-2). Returns `true` when that must wait for acknowledgements before it: then
    /// [`Session::confirmed`] is due after them.
    pub fn dropped(
        &mut self,
        id: PacketId,
        qos: QoS,
        reason: ReasonCode,
        out: &mut Vec<u8>,
    ) -> bool {
        self.inbound.refuse(id, reason);
        if self.inbound.unconfirmed() > 1 {
            return true;
        }
        self.confirmed(id, qos, out);
        false
    }

    /// The message just taken waits apart until more is known of it: messages of other endpoints
    /// are carried meanwhile, and acknowledged after it.
    pub fn set_apart(&mut self, id: PacketId, qos: QoS) {
        self.inbound.set_apart(id, qos);
    }

    /// The acknowledgement of the message will carry `reason` (v5).
    pub fn refuse(&mut self, id: PacketId, reason: ReasonCode) {
        self.inbound.refuse(id, reason);
    }

    /// Whether the client has as many exchanges open as it may: a v3 client, which cannot be told,
    /// is then not read from until one ends.
    #[inline]
    pub fn window_is_full(&self, policy: &Policy) -> bool {
        !self.version.is_v5() && self.inbound.unconfirmed() >= usize::from(policy.receive_maximum)
    }

    /// Protocol version of the client.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the client is in.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether no CONNECT has come yet.
    pub fn is_expecting(&self) -> bool {
        self.state == State::Expecting
    }

    /// The client id; `None` before CONNECT and for a nameless 3.1.1 client.
    pub fn client_id(&self) -> Option<&Arc<str>> {
        self.client_id.as_ref()
    }

    /// Milliseconds of silence after which the client counts as gone: 1.5 times its keep alive
    /// (MQTT-3.1.2-22); `None` for no limit.
    pub fn silence_ms_max(&self) -> Option<u64> {
        (self.keep_alive_s > 0).then(|| u64::from(self.keep_alive_s) * 1500)
    }

    /// How many subscriptions the client holds.
    #[inline]
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.as_ref().map_or(0, |held| held.len())
    }

    /// For how long the session outlives the connection, in seconds.
    pub fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    /// Topics resolved lately.
    pub fn topics(&mut self) -> &mut Topics {
        self.topics.get_or_insert_default()
    }

    /// The connection has ended: what is kept of the session.
    pub fn into_saved(self) -> Saved {
        Saved {
            subscriptions: self.subscriptions.map(|s| *s).unwrap_or_default(),
            outbound: self.outbound.map(|o| *o).unwrap_or_default(),
            inbound: self.inbound.into_saved(),
            expiry_s: self.expiry_s,
        }
    }
}

/// The SUBACK code of a granted QoS.
fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}

#[cfg(test)]
mod tests;
