//! SUBACK (MQTT §3.9) and UNSUBACK (MQTT §3.11).

use core::fmt;

use super::reader::Reader;
use super::writer::{put_packet, put_section, put_u16};
use super::{
    AckProperties, EncodeError, FixedHeader, Malformed, PacketId, PacketType, ReasonCode, Version,
};

/// Reason codes, one for each filter of the request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ReasonCodes<'a> {
    /// All of them, checked.
    bytes: &'a [u8],
}

impl<'a> ReasonCodes<'a> {
    /// Views the payload of a SUBACK or UNSUBACK.
    ///
    /// # Errors
    /// [`Malformed::ReasonCode`] for a code that this packet must not carry in this version,
    /// [`Malformed::NoReasonCodes`], [`Malformed::TrailingBytes`] for any code in an UNSUBACK
    /// before 5.0.
    pub fn new(bytes: &'a [u8], packet: PacketType, version: Version) -> Result<Self, Malformed> {
        if packet == PacketType::UnsubAck && !version.is_v5() {
            Reader::new(bytes).finish()?;
            return Ok(Self::default());
        }
        if bytes.is_empty() {
            return Err(Malformed::NoReasonCodes);
        }
        let allowed = |byte| match ReasonCode::from_u8(byte) {
            Some(code) if version.is_v5() => code.is_allowed_in(packet),
            // 3.1.1 §3.9.3
            Some(code) => matches!(code as u8, 0..=2 | 0x80),
            None => false,
        };
        if bytes.iter().all(|byte| allowed(*byte)) {
            Ok(Self { bytes })
        } else {
            Err(Malformed::ReasonCode)
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> ReasonCodesIter<'a> {
        ReasonCodesIter { bytes: self.bytes.iter() }
    }
}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for ReasonCodes<'a> {
    type Item = ReasonCode;
    type IntoIter = ReasonCodesIter<'a>;

    fn into_iter(self) -> ReasonCodesIter<'a> {
        self.iter()
    }
}

/// Iterates over [`ReasonCodes`].
#[derive(Debug, Clone)]
pub struct ReasonCodesIter<'a> {
    bytes: core::slice::Iter<'a, u8>,
}

impl Iterator for ReasonCodesIter<'_> {
    type Item = ReasonCode;

    // the bytes have been checked: each one is a code
    fn next(&mut self) -> Option<ReasonCode> {
        ReasonCode::from_u8(*self.bytes.next()?)
    }
}

macro_rules! filters_ack {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name<'a> {
            /// Of the request.
            pub packet_id: PacketId,
            /// All empty before 5.0.
            pub properties: AckProperties<'a>,
            /// One for each filter of the request.
            pub reasons: ReasonCodes<'a>,
        }

        impl<'a> $name<'a> {
            pub(super) fn read(body: &'a [u8], version: Version) -> Result<Self, Malformed> {
                let mut reader = Reader::new(body);
                let packet_id = reader.packet_id()?;
                let mut properties = AckProperties::default();
                if version.is_v5() {
                    properties = AckProperties::read(&mut reader)?;
                }
                let reasons = ReasonCodes::new(reader.rest(), PacketType::$name, version)?;
                Ok(Self { packet_id, properties, reasons })
            }

            /// Appends the packet. Before 5.0 the properties are left out, and codes that the
            /// version lacks are said with those that it has.
            ///
            /// # Errors
            /// [`EncodeError`]; `out` is then as it was.
            pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                let Self { packet_id, properties, reasons } = self;
                let codes = reasons.iter();
                encode_codes(PacketType::$name, *packet_id, properties, codes, version, out)
            }
        }
    };
}

filters_ack! {
    /// Answer to a SUBSCRIBE.
    SubAck
}

filters_ack! {
    /// Answer to an UNSUBSCRIBE. Without codes before 5.0.
    UnsubAck
}

/// Appends a SUBACK without properties, with one code for each subscription of the request.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn encode_suback(
    packet_id: PacketId,
    reasons: impl Iterator<Item = ReasonCode>,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let properties = AckProperties::default();
    encode_codes(PacketType::SubAck, packet_id, &properties, reasons, version, out)
}

/// Appends an UNSUBACK without properties, with one code for each filter of the request; before 5.0
/// they are left out.
///
/// # Errors
/// [`EncodeError`]; `out` is then as it was.
pub fn encode_unsuback(
    packet_id: PacketId,
    reasons: impl Iterator<Item = ReasonCode>,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let properties = AckProperties::default();
    encode_codes(PacketType::UnsubAck, packet_id, &properties, reasons, version, out)
}

fn encode_codes(
    packet: PacketType,
    packet_id: PacketId,
    properties: &AckProperties<'_>,
    reasons: impl Iterator<Item = ReasonCode>,
    version: Version,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    put_packet(out, FixedHeader::first_byte(packet), |out| {
        put_u16(out, packet_id.get());
        if version.is_v5() {
            put_section(out, |out| properties.write(out))?;
            out.extend(reasons.map(|code| code as u8));
        } else if packet == PacketType::SubAck {
            // 3.1.1 §3.9.3 knows one failure only
            out.extend(reasons.map(|code| if code.is_error() { 0x80 } else { code as u8 }));
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_bad_answers() {
        let suback = |body: &[u8], version, rule| {
            assert_eq!(SubAck::read(body, version), Err(rule), "{body:02X?}");
        };
        suback(&[0, 0, 1], Version::V311, Malformed::PacketIdZero);
        suback(&[0, 1], Version::V311, Malformed::NoReasonCodes);
        suback(&[0, 1, 0, 3], Version::V311, Malformed::ReasonCode);
        suback(&[0, 1, 0x87], Version::V311, Malformed::ReasonCode);
        suback(&[0, 1, 0, 0x11], Version::V5, Malformed::ReasonCode);
        suback(&[0, 1, 0], Version::V5, Malformed::NoReasonCodes);
        let unsuback = |body: &[u8], version, rule| {
            assert_eq!(UnsubAck::read(body, version), Err(rule), "{body:02X?}");
        };
        unsuback(&[0, 1, 0], Version::V311, Malformed::TrailingBytes);
        unsuback(&[0, 1, 0], Version::V5, Malformed::NoReasonCodes);
        unsuback(&[0, 1, 0, 1], Version::V5, Malformed::ReasonCode);
    }

    #[test]
    fn says_a_refusal_in_the_words_of_the_version() {
        let packet_id = PacketId::MIN;
        let reasons = [ReasonCode::GrantedQoS1, ReasonCode::TopicFilterInvalid];
        let mut out = Vec::new();
        encode_suback(packet_id, reasons.into_iter(), Version::V311, &mut out).expect("fits");
        encode_suback(packet_id, reasons.into_iter(), Version::V5, &mut out).expect("fits");
        encode_unsuback(packet_id, reasons.into_iter(), Version::V311, &mut out).expect("fits");
        let expected: [&[u8]; 3] =
            [&[0x90, 4, 0, 1, 1, 0x80], &[0x90, 5, 0, 1, 0, 1, 0x8F], &[0xB0, 2, 0, 1]];
        assert_eq!(out, expected.concat());
    }
}
