//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT §3.4 to §3.7): one shape, four types.

use super::property::property_set;
use super::reader::Reader;
use super::writer::{put_packet, put_section, put_u16};
use super::{EncodeError, FixedHeader, Malformed, PacketId, PacketType, ReasonCode, Version};

property_set! {
    /// Properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK (MQTT §3.4.2.2).
    AckProperties {
        once {
            /// Text for people who look for the cause.
            REASON_STRING reason_string: &'a str,
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// Which of the four packets that acknowledge a PUBLISH, or each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

impl AckKind {
    /// The packet type.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// Of the PUBLISH.
    pub packet_id: PacketId,
    /// Always success before 5.0.
    pub reason: ReasonCode,
    /// All empty before 5.0.
    pub properties: AckProperties<'a>,
}

impl<'a> Ack<'a> {
    #[inline]
    pub(super) fn read(body: &'a [u8], kind: AckKind, version: Version) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut ack = Self { packet_id, reason: ReasonCode::Success, properties: <_>::default() };
        // success without properties may leave both out (MQTT §3.4.2.1)
        if version.is_v5() && !reader.is_empty() {
            ack.reason = read_reason(&mut reader, kind.packet_type())?;
            // the length of the properties may be left out (MQTT §3.4.2.2.1)
            if !reader.is_empty() {
                ack.properties = AckProperties::read(&mut reader)?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends the packet, as short as its contents allow. Before 5.0 only the identifier is
    /// written.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(
        &self,
        kind: AckKind,
        version: Version,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        if !version.is_v5() || self.properties == AckProperties::default() {
            encode_ack(kind, self.packet_id, self.reason, version, out);
            return Ok(());
        }
        put_packet(out, FixedHeader::first_byte(kind.packet_type()), |out| {
            put_u16(out, self.packet_id.get());
            out.push(self.reason as u8);
            put_section(out, |out| self.properties.write(out))
        })
    }
}

/// Appends an acknowledgement without properties: four bytes, or five if a v5 peer has to be told
/// something else than success.
#[inline]
pub fn encode_ack(
    kind: AckKind,
    packet_id: PacketId,
    reason: ReasonCode,
    version: Version,
    out: &mut Vec<u8>,
) {
    let first = FixedHeader::first_byte(kind.packet_type());
    let [high, low] = packet_id.get().to_be_bytes();
    if version.is_v5() && reason != ReasonCode::Success {
        out.extend_from_slice(&[first, 3, high, low, reason as u8]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

/// Reads a reason code that a packet of this type may carry.
#[inline]
pub(super) fn read_reason(
    reader: &mut Reader<'_>,
    packet: PacketType,
) -> Result<ReasonCode, Malformed> {
    ReasonCode::from_u8(reader.u8()?)
        .filter(|code| code.is_allowed_in(packet))
        .ok_or(Malformed::ReasonCode)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBACK: AckKind = AckKind::PubAck;

    #[test]
    fn reads_the_short_and_the_long_form() {
        let read = |body: &'static [u8]| Ack::read(body, PUBACK, Version::V5);
        let success = read(&[0, 7]).expect("valid");
        assert_eq!(success.packet_id.get(), 7);
        assert_eq!(success.reason, ReasonCode::Success);
        assert_eq!(read(&[0, 7, 0]), Ok(success));
        assert_eq!(read(&[0, 7, 0, 0]), Ok(success));
        let told = read(b"\0\x07\x97\x06\x1F\0\x03why").expect("valid");
        assert_eq!(told.reason, ReasonCode::QuotaExceeded);
        assert_eq!(told.properties.reason_string, Some("why"));
    }

    #[test]
    fn refuses_bad_acknowledgements() {
        let refused = |body: &[u8], version, rule| {
            assert_eq!(Ack::read(body, PUBACK, version), Err(rule), "{body:02X?}");
        };
        refused(&[0, 0], Version::V311, Malformed::PacketIdZero);
        refused(&[0], Version::V311, Malformed::Truncated);
        refused(&[0, 1, 0], Version::V311, Malformed::TrailingBytes);
        refused(&[0, 1, 0, 0, 0], Version::V5, Malformed::TrailingBytes);
        refused(&[0, 1, 0x92], Version::V5, Malformed::ReasonCode);
        refused(&[0, 1, 0x03], Version::V5, Malformed::ReasonCode);
        refused(&[0, 1, 0, 2, 0x01, 1], Version::V5, Malformed::PropertyNotAllowed(0x01));
        assert!(Ack::read(&[0, 1, 0x92], AckKind::PubRel, Version::V5).is_ok());
    }

    #[test]
    fn writes_no_more_than_needed() {
        let written = |kind, reason, version| {
            let mut out = Vec::new();
            encode_ack(kind, PacketId::MAX, reason, version, &mut out);
            out
        };
        let quota = ReasonCode::QuotaExceeded;
        assert_eq!(written(PUBACK, ReasonCode::Success, Version::V5), [0x40, 2, 0xFF, 0xFF]);
        assert_eq!(written(PUBACK, quota, Version::V311), [0x40, 2, 0xFF, 0xFF]);
        assert_eq!(written(PUBACK, quota, Version::V5), [0x40, 3, 0xFF, 0xFF, 0x97]);
        assert_eq!(written(AckKind::PubRel, quota, Version::V31)[0], 0x62);
    }
}
