//! The session brain alone: the rules of the standards, one by one, and any packets in any order.

mod coming_in;
mod from_the_client;
mod random_lives;
mod subscribing;
mod to_the_client;

use std::num::{NonZeroU16, NonZeroU32};

use super::*;
use crate::codec::mqtt::{
    Ack, Auth, Connect, ConnectProperties, DisconnectProperties, Filters, Frame, PacketType,
    Publish, PublishProperties, Subscribe, Subscription, SubscriptionOptions, Subscriptions,
    Unsubscribe, Will, WillProperties, append_filter,
};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A session with its client.
struct Client {
    version: Version,
    session: Session,
    policy: Policy,
    out: Vec<u8>,
}

/// What a packet has led to.
#[derive(Debug, PartialEq, Eq)]
enum Led {
    Done,
    Connect(Hello),
    Publish { topic: String, qos: QoS, retain: bool },
    Close(CloseReason),
}

/// What the session has said: the type, the packet identifier, and the codes or the payload.
type Said = (PacketType, u16, Vec<u8>);

fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not 0")
}

fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "client",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

fn publication(qos: QoS, packet_id: u16) -> Publish<'static> {
    let packet_id = PacketId::new(packet_id);
    Publish { qos, topic: "kp1/v/dcx/t/json", packet_id, ..Publish::default() }
}

impl Client {
    fn new(version: Version) -> Self {
        let policy = Policy { receive_maximum: 2, topic_alias_maximum: 2, ..Policy::default() };
        Self { version, session: Session::default(), policy, out: Vec::new() }
    }

    /// A client that is in.
    fn entered(version: Version) -> Self {
        Self::with(connect(version))
    }

    fn with(connect: Connect<'_>) -> Self {
        let mut client = Self::new(connect.version);
        assert!(matches!(client.connect(&connect), Led::Connect(_)));
        client.accept(None);
        client.out.clear();
        client
    }

    fn connect(&mut self, connect: &Connect<'_>) -> Led {
        let mut packet = Vec::new();
        connect.encode(&mut packet).expect("encodes");
        self.raw(&packet)
    }

    fn accept(&mut self, resumed: Option<Saved>) {
        self.session.accept(Some("client".into()), false, resumed, &self.policy, &mut self.out);
    }

    fn raw(&mut self, packet: &[u8]) -> Led {
        match self.session.packet(packet, &self.policy, &mut self.out) {
            Step::Done => Led::Done,
            Step::Connect(hello) => Led::Connect(hello),
            Step::Publish(Incoming { topic, qos, retain, .. }) => {
                Led::Publish { topic: topic.to_string(), qos, retain }
            }
            Step::Refused(_, reason) | Step::Close(reason) => Led::Close(reason),
        }
    }

    fn packet(&mut self, packet: Packet<'_>) -> Led {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).expect("encodes");
        self.raw(&bytes)
    }

    fn publish(&mut self, qos: QoS, packet_id: u16) -> Led {
        self.packet(Packet::Publish(publication(qos, packet_id)))
    }

    fn publish_alias(&mut self, topic: &str, alias: u16) -> Led {
        let properties =
            PublishProperties { topic_alias: NonZeroU16::new(alias), ..<_>::default() };
        self.packet(Packet::Publish(Publish { topic, properties, ..Publish::default() }))
    }

    fn acknowledge(&mut self, packet: fn(Ack<'static>) -> Packet<'static>, packet_id: u16) -> Led {
        let reason = ReasonCode::Success;
        self.packet(packet(Ack { packet_id: id(packet_id), reason, properties: <_>::default() }))
    }

    fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Led {
        let mut bytes = Vec::new();
        for (filter, qos_max) in filters {
            let options = SubscriptionOptions { qos_max: *qos_max, ..<_>::default() };
            Subscription { filter, options }.append(self.version, &mut bytes).expect("short");
        }
        let subscriptions = Subscriptions::new(&bytes, self.version).expect("valid");
        self.packet(Packet::Subscribe(Subscribe {
            packet_id: id(9),
            properties: <_>::default(),
            subscriptions,
        }))
    }

    fn disconnect(&mut self, expiry_s: Option<u32>) -> Led {
        let properties =
            DisconnectProperties { session_expiry_interval_s: expiry_s, ..<_>::default() };
        self.packet(Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties }))
    }

    fn deliver(&mut self, topic: &str, payload: &[u8], qos: QoS) -> Delivery {
        let message = Outgoing { topic, payload, qos, recurs: true };
        self.session.deliver(message, &self.policy, 0, &mut self.out)
    }

    /// What has been said since the last time. Everything must be well formed.
    fn said(&mut self) -> Vec<Said> {
        let out = std::mem::take(&mut self.out);
        let mut said = Vec::new();
        let mut rest = &out[..];
        while !rest.is_empty() {
            let Ok(Frame::Complete { header, packet_bytes }) = mqtt::frame(rest, u32::MAX) else {
                panic!("no packet: {rest:02X?}");
            };
            let packet = mqtt::decode(&rest[..packet_bytes], self.version).expect("well formed");
            let (packet_id, codes) = essence(packet);
            said.push((header.packet_type(), packet_id, codes));
            rest = &rest[packet_bytes..];
        }
        said
    }

    fn capabilities(&mut self) -> (Option<u32>, Option<u16>) {
        match mqtt::decode(&self.out, self.version) {
            Ok(Packet::ConnAck(connack)) => (
                connack.properties.session_expiry_interval_s,
                connack.properties.server_keep_alive_s,
            ),
            other => panic!("{other:?}"),
        }
    }
}

fn essence(packet: Packet<'_>) -> (u16, Vec<u8>) {
    let ack = |ack: Ack<'_>| (ack.packet_id.get(), vec![ack.reason as u8]);
    match packet {
        Packet::ConnAck(connack) => {
            (0, vec![u8::from(connack.session_present), connack.reason as u8])
        }
        Packet::PubAck(a) | Packet::PubRec(a) | Packet::PubRel(a) | Packet::PubComp(a) => ack(a),
        Packet::SubAck(suback) => {
            (suback.packet_id.get(), suback.reasons.iter().map(|code| code as u8).collect())
        }
        Packet::UnsubAck(unsuback) => {
            (unsuback.packet_id.get(), unsuback.reasons.iter().map(|code| code as u8).collect())
        }
        Packet::Publish(publish) => {
            (publish.packet_id.map_or(0, PacketId::get), publish.payload.to_vec())
        }
        Packet::Disconnect(disconnect) => (0, vec![disconnect.reason as u8]),
        Packet::PingResp => (0, vec![]),
        other => panic!("a server does not say {other:?}"),
    }
}

fn goodbye(code: ReasonCode) -> Vec<Said> {
    vec![(PacketType::Disconnect, 0, vec![code as u8])]
}

/// A session of a gateway that holds a million of them.
#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 160, "{} bytes", size_of::<Session>());
}
