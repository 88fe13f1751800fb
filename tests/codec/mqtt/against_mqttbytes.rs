//! mqttbytes against our 3.1.1: each packet of ours is also made with its types. It must read our
//! bytes as that packet, and we must read its bytes as ours.

use bytes::{Bytes, BytesMut};
use mqttbytes::v4;
use proptest::prelude::*;
use ringgate::codec::mqtt::*;

use super::packets::{config, encoded, packet};

fn qos_of_v4(qos: QoS) -> mqttbytes::QoS {
    mqttbytes::qos(qos as u8).expect("0..=2")
}

/// The packet in the words of mqttbytes, `None` if it cannot say it.
fn to_v4(packet: &Packet<'_>) -> Option<v4::Packet> {
    Some(match *packet {
        Packet::Connect(connect) => {
            let login = match (connect.user_name, connect.password) {
                (None, _) => None,
                // it takes empty ones for absent ones (3.1.1 §3.1.3.4 does not), and passwords for
                // text (3.1.1 §3.1.3.5 has them binary)
                (Some(""), _) | (_, Some(b"")) => return None,
                (Some(user_name), password) => Some(v4::Login {
                    username: user_name.to_owned(),
                    password: String::from_utf8(password.unwrap_or_default().to_vec()).ok()?,
                }),
            };
            let last_will = connect.will.map(|will| {
                v4::LastWill::new(will.topic, will.payload, qos_of_v4(will.qos), will.retain)
            });
            v4::Packet::Connect(v4::Connect {
                protocol: mqttbytes::Protocol::V4,
                keep_alive: connect.keep_alive_s,
                client_id: connect.client_id.to_owned(),
                clean_session: connect.clean_start,
                last_will,
                login,
            })
        }
        Packet::ConnAck(connack) => {
            use v4::ConnectReturnCode as Theirs;
            let code = match connack.reason.v3_return_code() {
                ConnectReturnCode::Accepted => Theirs::Success,
                ConnectReturnCode::UnacceptableProtocolVersion => Theirs::RefusedProtocolVersion,
                ConnectReturnCode::IdentifierRejected => Theirs::BadClientId,
                ConnectReturnCode::ServerUnavailable => Theirs::ServiceUnavailable,
                ConnectReturnCode::BadUserNameOrPassword => Theirs::BadUserNamePassword,
                ConnectReturnCode::NotAuthorized => Theirs::NotAuthorized,
            };
            v4::Packet::ConnAck(v4::ConnAck::new(code, connack.session_present))
        }
        Packet::Publish(publish) => v4::Packet::Publish(v4::Publish {
            dup: publish.dup,
            qos: qos_of_v4(publish.qos),
            retain: publish.retain,
            topic: publish.topic.to_owned(),
            pkid: publish.packet_id.map_or(0, PacketId::get),
            payload: Bytes::copy_from_slice(publish.payload),
        }),
        Packet::PubAck(ack) => v4::Packet::PubAck(v4::PubAck::new(ack.packet_id.get())),
        Packet::PubRec(ack) => v4::Packet::PubRec(v4::PubRec::new(ack.packet_id.get())),
        Packet::PubRel(ack) => v4::Packet::PubRel(v4::PubRel::new(ack.packet_id.get())),
        Packet::PubComp(ack) => v4::Packet::PubComp(v4::PubComp::new(ack.packet_id.get())),
        Packet::Subscribe(subscribe) => {
            let filters = subscribe.subscriptions.iter().map(|one| {
                let qos = qos_of_v4(one.options.qos_max);
                v4::SubscribeFilter::new(one.filter.to_owned(), qos)
            });
            let filters = filters.collect();
            v4::Packet::Subscribe(v4::Subscribe { pkid: subscribe.packet_id.get(), filters })
        }
        Packet::SubAck(suback) => {
            let code = |code: ReasonCode| match QoS::from_u8(code as u8) {
                Some(qos) => v4::SubscribeReasonCode::Success(qos_of_v4(qos)),
                None => v4::SubscribeReasonCode::Failure,
            };
            let codes = suback.reasons.iter().map(code).collect();
            v4::Packet::SubAck(v4::SubAck::new(suback.packet_id.get(), codes))
        }
        Packet::Unsubscribe(unsubscribe) => v4::Packet::Unsubscribe(v4::Unsubscribe {
            pkid: unsubscribe.packet_id.get(),
            topics: unsubscribe.filters.iter().map(str::to_owned).collect(),
        }),
        Packet::UnsubAck(ack) => v4::Packet::UnsubAck(v4::UnsubAck::new(ack.packet_id.get())),
        Packet::PingReq => v4::Packet::PingReq,
        Packet::PingResp => v4::Packet::PingResp,
        Packet::Disconnect(_) => v4::Packet::Disconnect,
        Packet::Auth(_) => return None,
    })
}

fn written_by_v4(packet: &v4::Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    let written = match packet {
        v4::Packet::Connect(packet) => packet.write(&mut out),
        v4::Packet::ConnAck(packet) => packet.write(&mut out),
        v4::Packet::Publish(packet) => packet.write(&mut out),
        v4::Packet::PubAck(packet) => packet.write(&mut out),
        v4::Packet::PubRec(packet) => packet.write(&mut out),
        v4::Packet::PubRel(packet) => packet.write(&mut out),
        v4::Packet::PubComp(packet) => packet.write(&mut out),
        v4::Packet::Subscribe(packet) => packet.write(&mut out),
        v4::Packet::SubAck(packet) => packet.write(&mut out),
        v4::Packet::Unsubscribe(packet) => packet.write(&mut out),
        v4::Packet::UnsubAck(packet) => packet.write(&mut out),
        v4::Packet::PingReq => v4::PingReq.write(&mut out),
        v4::Packet::PingResp => v4::PingResp.write(&mut out),
        v4::Packet::Disconnect => v4::Disconnect.write(&mut out),
    };
    written.expect("valid packets can be written");
    out.to_vec()
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn mqttbytes_reads_and_writes_the_same_3_1_1(ours in packet(Version::V311)) {
        let Some(theirs) = to_v4(&ours) else {
            return Ok(());
        };
        let mut stream = BytesMut::from(&encoded(&ours, Version::V311)[..]);
        prop_assert_eq!(v4::read(&mut stream, usize::MAX), Ok(theirs.clone()));
        prop_assert!(stream.is_empty());
        let bytes = written_by_v4(&theirs);
        prop_assert_eq!(decode(&bytes, Version::V311), Ok(ours));
    }
}
