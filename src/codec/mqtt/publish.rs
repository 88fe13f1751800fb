//! PUBLISH (MQTT §3.3).

use core::num::NonZeroU16;

use super::frame::split;
use super::property::{id, property_set};
use super::reader::Reader;
use super::topic::check_topic_name;
use super::writer::{
    field_length, put_packet, put_section, put_string, put_u16, put_variable_integer,
    variable_integer_length,
};
use super::{
    EncodeError, FixedHeader, Malformed, PacketId, PacketType, QoS, VARIABLE_INTEGER_MAX, Version,
};

property_set! {
    /// Properties of a PUBLISH (MQTT §3.3.2.3).
    PublishProperties {
        once {
            /// Whether the payload is UTF-8 text.
            PAYLOAD_FORMAT_INDICATOR payload_format_indicator: bool,
            /// Seconds until the message is no longer worth delivering.
            MESSAGE_EXPIRY_INTERVAL message_expiry_interval_s: u32,
            /// Stands for the topic, or is given to it.
            TOPIC_ALIAS topic_alias: NonZeroU16,
            /// Where an answer is expected.
            RESPONSE_TOPIC response_topic: &'a str,
            /// What the answer must repeat.
            CORRELATION_DATA correlation_data: &'a [u8],
            /// Kind of the payload.
            CONTENT_TYPE content_type: &'a str,
        }
        many {
            /// The subscriptions that the message is for.
            SUBSCRIPTION_IDENTIFIER subscription_ids: SubscriptionIds,
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// A message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Sent before, perhaps. Always false with QoS 0.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// To be kept for later subscribers.
    pub retain: bool,
    /// Topic name; empty only with a topic alias.
    pub topic: &'a str,
    /// Present with QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// All empty before 5.0.
    pub properties: PublishProperties<'a>,
    /// Everything after them.
    pub payload: &'a [u8],
}

/// Reads one whole packet that is known to be a PUBLISH: what [`decode`](super::decode) does for
/// it, without a copy into [`Packet`](super::Packet). This is the way of the message path.
///
/// # Errors
/// The rule it breaks; [`Malformed::PacketType`] if it is another packet.
#[inline]
pub fn decode_publish(packet: &[u8], version: Version) -> Result<Publish<'_>, Malformed> {
    let (header, body) = split(packet)?;
    if header.packet_type() != PacketType::Publish {
        return Err(Malformed::PacketType);
    }
    Publish::read(header, body, version)
}

impl<'a> Publish<'a> {
    // always: else the packet is copied from the result of this function into that of `decode`
    #[inline(always)]
    pub(super) fn read(
        header: FixedHeader,
        body: &'a [u8],
        version: Version,
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let topic = check_topic_name(reader.binary()?)?;
        let packet_id = match header.qos() {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id()?),
        };
        // most messages have no property: the length of the properties is one byte, 0
        let payload = match reader.rest() {
            rest if !version.is_v5() => rest,
            [0, payload @ ..] => payload,
            rest => return Self::read_properties(header, topic, packet_id, rest),
        };
        if topic.is_empty() {
            return Err(Malformed::TopicEmpty);
        }
        Ok(Self {
            dup: header.dup(),
            qos: header.qos(),
            retain: header.retain(),
            topic,
            packet_id,
            properties: PublishProperties::default(),
            payload,
        })
    }

    /// Reads properties and payload.
    #[inline(never)]
    fn read_properties(
        header: FixedHeader,
        topic: &'a str,
        packet_id: Option<PacketId>,
        rest: &'a [u8],
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::new(rest);
        let properties = PublishProperties::read(&mut reader)?;
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(Malformed::TopicEmpty);
        }
        check_response_topic(properties.response_topic)?;
        Ok(Self {
            dup: header.dup(),
            qos: header.qos(),
            retain: header.retain(),
            topic,
            packet_id,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet. Before 5.0 the properties are left out.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        check_packet_id(self.qos, self.packet_id)?;
        put_packet(out, FixedHeader::publish_byte(self.dup, self.qos, self.retain), |out| {
            put_string(out, self.topic)?;
            if let Some(packet_id) = self.packet_id.filter(|_| self.qos > QoS::AtMostOnce) {
                put_u16(out, packet_id.get());
            }
            if version.is_v5() {
                put_section(out, |out| self.properties.write(out))?;
            }
            out.extend_from_slice(self.payload);
            Ok(())
        })
    }
}

/// A PUBLISH without topic and payload, for [`encode_publish`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishHead {
    /// Sent before. Ignored with QoS 0 (MQTT-3.3.1-2).
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// A retained message.
    pub retain: bool,
    /// Needed with QoS 1 and 2, ignored with QoS 0.
    pub packet_id: Option<PacketId>,
    /// Topic alias; ignored before 5.0.
    pub topic_alias: Option<NonZeroU16>,
}

const TOPIC_ALIAS_BYTES: usize = 3;

impl PublishHead {
    /// Bytes of the packet after its fixed header.
    #[inline]
    fn body_bytes(&self, topic_bytes: usize, payload_bytes: usize, version: Version) -> usize {
        let packet_id = if self.qos > QoS::AtMostOnce { 2 } else { 0 };
        let properties = match self.topic_alias {
            _ if !version.is_v5() => 0,
            Some(_) => 1 + TOPIC_ALIAS_BYTES,
            None => 1,
        };
        2 + topic_bytes + packet_id + properties + payload_bytes
    }

    /// Bytes of the whole packet that [`encode_publish`] appends for a topic and a payload of so
    /// many bytes: what the peer's Maximum Packet Size counts (MQTT §3.1.2.11.4).
    #[inline]
    pub fn packet_bytes(
        &self,
        topic_bytes: usize,
        payload_bytes: usize,
        version: Version,
    ) -> usize {
        let body = self.body_bytes(topic_bytes, payload_bytes, version);
        1 + variable_integer_length(body) + body
    }
}

/// Appends a PUBLISH that has no property but perhaps a topic alias.
///
/// The topic is given in pieces that follow each other as they are, so that a caller who makes it
/// up from parts needs no string to join them in.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
#[inline]
pub fn encode_publish(
    head: &PublishHead,
    topic: &[&str],
    payload: &[u8],
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    check_packet_id(head.qos, head.packet_id)?;
    let topic_bytes = topic.iter().map(|piece| piece.len()).sum();
    let topic_length = field_length(topic_bytes)?;
    let body_bytes = head.body_bytes(topic_bytes, payload.len(), version);
    if body_bytes > VARIABLE_INTEGER_MAX as usize {
        return Err(EncodeError::PacketTooLarge { bytes: body_bytes });
    }
    out.reserve(1 + variable_integer_length(body_bytes) + body_bytes);
    out.push(FixedHeader::publish_byte(head.dup, head.qos, head.retain));
    put_variable_integer(out, body_bytes)?;
    put_u16(out, topic_length);
    for piece in topic {
        out.extend_from_slice(piece.as_bytes());
    }
    if let Some(packet_id) = head.packet_id.filter(|_| head.qos > QoS::AtMostOnce) {
        put_u16(out, packet_id.get());
    }
    if version.is_v5() {
        match head.topic_alias {
            None => out.push(0),
            Some(alias) => {
                out.extend_from_slice(&[TOPIC_ALIAS_BYTES as u8, id::TOPIC_ALIAS]);
                put_u16(out, alias.get());
            }
        }
    }
    out.extend_from_slice(payload);
    Ok(())
}

#[inline]
fn check_packet_id(qos: QoS, packet_id: Option<PacketId>) -> Result<(), EncodeError> {
    if qos > QoS::AtMostOnce && packet_id.is_none() {
        return Err(EncodeError::PacketIdMissing);
    }
    Ok(())
}

/// A Response Topic is a topic name (MQTT-3.3.2-14, MQTT-4.7.3-1).
#[inline]
pub(super) fn check_response_topic(topic: Option<&str>) -> Result<(), Malformed> {
    match topic {
        Some(topic) if topic.is_empty() || topic.contains(['+', '#']) => {
            Err(Malformed::ResponseTopic)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v311(packet: &[u8]) -> Result<Publish<'_>, Malformed> {
        decode_publish(packet, Version::V311)
    }

    fn v5(packet: &[u8]) -> Result<Publish<'_>, Malformed> {
        decode_publish(packet, Version::V5)
    }

    #[test]
    fn reads_a_message_of_each_version() {
        let message = Publish { topic: "a/b", payload: b"hi", ..Publish::default() };
        assert_eq!(v311(b"\x30\x07\0\x03a/bhi"), Ok(message));
        assert_eq!(v5(b"\x30\x08\0\x03a/b\0hi"), Ok(message));
        let message = Publish {
            dup: true,
            qos: QoS::ExactlyOnce,
            retain: true,
            packet_id: PacketId::new(0x0102),
            topic: "a",
            ..Publish::default()
        };
        assert_eq!(v311(b"\x3D\x05\0\x01a\x01\x02"), Ok(message));
    }

    #[test]
    fn reads_the_properties() {
        let read = v5(b"\x30\x11\0\0\x0D\x23\0\x07\x26\0\x01k\0\x01v\x0B\x80\x01x").expect("valid");
        assert_eq!(read.properties.topic_alias, NonZeroU16::new(7));
        assert!(read.properties.user.iter().eq([("k", "v")]));
        let ids: Vec<u32> = read.properties.subscription_ids.iter().map(|id| id.get()).collect();
        assert_eq!(ids, [128]);
        assert_eq!(read.payload, b"x");
    }

    #[test]
    fn refuses_bad_topics() {
        assert_eq!(v311(b"\x30\x03\0\x01+"), Err(Malformed::TopicWildcard));
        assert_eq!(v311(b"\x30\x04\0\x02a#"), Err(Malformed::TopicWildcard));
        assert_eq!(v311(b"\x30\x03\0\x01\0"), Err(Malformed::NulInString));
        assert_eq!(v311(b"\x30\x05\0\x03\xED\xA0\x80"), Err(Malformed::Utf8));
        assert_eq!(v311(b"\x30\x02\0\0"), Err(Malformed::TopicEmpty));
        assert_eq!(v5(b"\x30\x03\0\0\0"), Err(Malformed::TopicEmpty));
        // properties, but not the one that would stand for the topic
        assert_eq!(v5(b"\x30\x05\0\0\x02\x01\x01"), Err(Malformed::TopicEmpty));
        assert_eq!(v311(b"\x30\x03\0\x02a"), Err(Malformed::Truncated));
    }

    #[test]
    fn refuses_bad_packet_identifiers() {
        assert_eq!(v311(b"\x32\x05\0\x01a\0\0"), Err(Malformed::PacketIdZero));
        assert_eq!(v311(b"\x32\x04\0\x01a\x01"), Err(Malformed::Truncated));
    }

    #[test]
    fn refuses_bad_properties() {
        let refused = |properties: &[u8], rule: Malformed| {
            let mut packet =
                vec![0x30, 4 + properties.len() as u8, 0, 1, b'a', properties.len() as u8];
            packet.extend_from_slice(properties);
            assert_eq!(v5(&packet), Err(rule), "{properties:02X?}");
        };
        refused(&[0x01, 2], Malformed::PropertyValue(0x01));
        refused(&[0x01, 1, 0x01, 1], Malformed::PropertyDuplicate(0x01));
        refused(&[0x23, 0, 0], Malformed::PropertyValue(0x23));
        refused(&[0x0B, 0], Malformed::PropertyValue(0x0B));
        refused(&[0x0B, 0x80, 0], Malformed::NonMinimalInteger);
        refused(&[0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 1], Malformed::VariableInteger);
        refused(&[0x02, 0, 0, 1], Malformed::Truncated);
        refused(&[0x08, 0, 1, b'#'], Malformed::ResponseTopic);
        refused(&[0x08, 0, 0], Malformed::ResponseTopic);
        refused(&[0x26, 0, 1, b'k', 0, 1, 0xFF], Malformed::Utf8);
        refused(&[0x11, 0, 0, 0, 1], Malformed::PropertyNotAllowed(0x11));
        refused(&[0x04, 0], Malformed::PropertyUnknown(0x04));
        refused(&[0x7F], Malformed::PropertyUnknown(0x7F));
        // the length of the properties runs past the packet
        assert_eq!(v5(b"\x30\x05\0\x01a\x02\x01"), Err(Malformed::Truncated));
    }

    #[test]
    fn the_short_way_writes_what_the_long_way_writes() {
        for version in [Version::V31, Version::V311, Version::V5] {
            for (qos, alias, payload) in
                [(0, None, 0), (1, NonZeroU16::new(9), 200), (2, None, 20_000)]
            {
                let payload = vec![7; payload];
                let head = PublishHead {
                    dup: true,
                    qos: QoS::from_u8(qos).expect("0..=2"),
                    packet_id: PacketId::new(5),
                    topic_alias: alias,
                    retain: true,
                };
                let mut short = Vec::new();
                encode_publish(&head, &["a/", "", "b"], &payload, version, &mut short)
                    .expect("fits");
                let publish = Publish {
                    dup: true,
                    qos: head.qos,
                    retain: true,
                    topic: "a/b",
                    packet_id: head.packet_id,
                    properties: PublishProperties { topic_alias: alias, ..Default::default() },
                    payload: &payload,
                };
                let mut long = Vec::new();
                publish.encode(version, &mut long).expect("fits");
                assert_eq!(short, long);
                assert_eq!(short[0], [0x31, 0x3B, 0x3D][head.qos as usize]);
                assert_eq!(head.packet_bytes(3, payload.len(), version), short.len());
            }
        }
    }

    #[test]
    fn refuses_to_write_what_has_no_form() {
        let mut out = vec![1];
        let head = PublishHead { qos: QoS::AtLeastOnce, ..PublishHead::default() };
        let missing = encode_publish(&head, &["a"], b"", Version::V5, &mut out);
        assert_eq!(missing, Err(EncodeError::PacketIdMissing));
        let half = "x".repeat(40_000);
        let head = PublishHead::default();
        let long = encode_publish(&head, &[&half, &half], b"", Version::V5, &mut out);
        assert_eq!(long, Err(EncodeError::FieldTooLong { bytes: 80_000 }));
        assert_eq!(out, [1]);
    }
}
