//! All packets under one name.

use super::frame::split;
use super::reader::Reader;
use super::{
    Ack, AckKind, Auth, ConnAck, Connect, ConnectError, Disconnect, EncodeError, FixedHeader,
    Malformed, PacketType, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
    decode_connect,
};

/// A packet, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Connection request.
    Connect(Connect<'a>),
    /// Answer to CONNECT.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// Answer to a QoS 1 PUBLISH.
    PubAck(Ack<'a>),
    /// First answer to a QoS 2 PUBLISH.
    PubRec(Ack<'a>),
    /// Answer to PUBREC.
    PubRel(Ack<'a>),
    /// Answer to PUBREL.
    PubComp(Ack<'a>),
    /// Subscription request.
    Subscribe(Subscribe<'a>),
    /// Answer to SUBSCRIBE.
    SubAck(SubAck<'a>),
    /// Request to end subscriptions.
    Unsubscribe(Unsubscribe<'a>),
    /// Answer to UNSUBSCRIBE.
    UnsubAck(UnsubAck<'a>),
    /// Sign of life.
    PingReq,
    /// Answer to PINGREQ.
    PingResp,
    /// The end of the connection.
    Disconnect(Disconnect<'a>),
    /// A step of the extended authentication.
    Auth(Auth<'a>),
}

/// Reads exactly one whole packet, as [`frame`](super::frame) finds it.
///
/// A CONNECT is read in the version that it names itself.
///
/// # Errors
/// The rule it breaks.
#[inline]
pub fn decode(packet: &[u8], version: Version) -> Result<Packet<'_>, Malformed> {
    let (header, body) = split(packet)?;
    if header.packet_type() == PacketType::Publish {
        return Publish::read(header, body, version).map(Packet::Publish);
    }
    decode_other(packet, header, body, version)
}

fn decode_other<'a>(
    packet: &'a [u8],
    header: FixedHeader,
    body: &'a [u8],
    version: Version,
) -> Result<Packet<'a>, Malformed> {
    // only 3.1 repeats PUBREL, SUBSCRIBE and UNSUBSCRIBE with DUP (MQTT-2.1.3-1)
    if header.dup() && version != Version::V31 {
        return Err(Malformed::ReservedFlags);
    }
    let empty = |packet| Reader::new(body).finish().map(|()| packet);
    match header.packet_type() {
        PacketType::Connect => decode_connect(packet).map(Packet::Connect).map_err(rule_of),
        PacketType::ConnAck => ConnAck::read(body, version).map(Packet::ConnAck),
        PacketType::Publish => Publish::read(header, body, version).map(Packet::Publish),
        PacketType::PubAck => Ack::read(body, AckKind::PubAck, version).map(Packet::PubAck),
        PacketType::PubRec => Ack::read(body, AckKind::PubRec, version).map(Packet::PubRec),
        PacketType::PubRel => Ack::read(body, AckKind::PubRel, version).map(Packet::PubRel),
        PacketType::PubComp => Ack::read(body, AckKind::PubComp, version).map(Packet::PubComp),
        PacketType::Subscribe => Subscribe::read(body, version).map(Packet::Subscribe),
        PacketType::SubAck => SubAck::read(body, version).map(Packet::SubAck),
        PacketType::Unsubscribe => Unsubscribe::read(body, version).map(Packet::Unsubscribe),
        PacketType::UnsubAck => UnsubAck::read(body, version).map(Packet::UnsubAck),
        PacketType::PingReq => empty(Packet::PingReq),
        PacketType::PingResp => empty(Packet::PingResp),
        PacketType::Disconnect => Disconnect::read(body, version).map(Packet::Disconnect),
        PacketType::Auth => Auth::read(body, version).map(Packet::Auth),
    }
}

fn rule_of(error: ConnectError) -> Malformed {
    match error {
        ConnectError::NotConnect(_) => Malformed::PacketType,
        ConnectError::ProtocolName => Malformed::ProtocolName,
        ConnectError::ProtocolLevel(_) => Malformed::ProtocolLevel,
        ConnectError::Malformed { rule, .. } => rule,
    }
}

impl Packet<'_> {
    /// Its type.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet; a CONNECT in the version that it names itself.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::ConnAck(connack) => connack.encode(version, out),
            Self::Publish(publish) => publish.encode(version, out),
            Self::PubAck(ack) => ack.encode(AckKind::PubAck, version, out),
            Self::PubRec(ack) => ack.encode(AckKind::PubRec, version, out),
            Self::PubRel(ack) => ack.encode(AckKind::PubRel, version, out),
            Self::PubComp(ack) => ack.encode(AckKind::PubComp, version, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::SubAck(suback) => suback.encode(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::UnsubAck(unsuback) => unsuback.encode(version, out),
            Self::PingReq => {
                encode_pingreq(out);
                Ok(())
            }
            Self::PingResp => {
                encode_pingresp(out);
                Ok(())
            }
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(version, out),
        }
    }
}

/// Appends a PINGREQ.
#[inline]
pub fn encode_pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FixedHeader::first_byte(PacketType::PingReq), 0]);
}

/// Appends a PINGRESP.
#[inline]
pub fn encode_pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FixedHeader::first_byte(PacketType::PingResp), 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_exactly_one_packet() {
        assert_eq!(decode(&[0xC0, 0], Version::V311), Ok(Packet::PingReq));
        for bytes in [&[][..], &[0xC0], &[0xC0, 1], &[0xC0, 0, 0], &[0x30, 0x80]] {
            assert_eq!(decode(bytes, Version::V311), Err(Malformed::PacketLength), "{bytes:02X?}");
        }
    }

    #[test]
    fn refuses_a_ping_with_a_body() {
        assert_eq!(decode(&[0xC0, 1, 0], Version::V5), Err(Malformed::TrailingBytes));
        assert_eq!(decode(&[0xD0, 1, 0], Version::V5), Err(Malformed::TrailingBytes));
    }

    #[test]
    fn lets_only_3_1_repeat_a_pubrel_with_dup() {
        let pubrel = [0x6A, 2, 0, 1];
        assert!(decode(&pubrel, Version::V31).is_ok());
        assert_eq!(decode(&pubrel, Version::V311), Err(Malformed::ReservedFlags));
        assert_eq!(decode(&pubrel, Version::V5), Err(Malformed::ReservedFlags));
    }

    #[test]
    fn refuses_a_connect_of_another_protocol() {
        let other = b"\x10\x0B\0\x04MQTX\x04\x02\0\0\0\0";
        assert_eq!(decode(&other[..], Version::V311), Err(Malformed::PacketLength));
        let other = b"\x10\x0C\0\x04MQTX\x04\x02\0\0\0\0";
        assert_eq!(decode(other, Version::V311), Err(Malformed::ProtocolName));
        let level = b"\x10\x0C\0\x04MQTT\x06\x02\0\0\0\0";
        assert_eq!(decode(level, Version::V311), Err(Malformed::ProtocolLevel));
        assert_eq!(decode_connect(level), Err(ConnectError::ProtocolLevel(6)));
    }
}
