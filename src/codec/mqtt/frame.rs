//! The fixed header: where a packet ends, and whether it is wanted at all.

use core::fmt;

use super::{Malformed, QoS, ReasonCode};

/// Type of a packet: the upper half of its first byte (MQTT table 2-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Connection request.
    Connect = 1,
    /// Answer to CONNECT.
    ConnAck = 2,
    /// A message.
    Publish = 3,
    /// Answer to a QoS 1 PUBLISH.
    PubAck = 4,
    /// First answer to a QoS 2 PUBLISH.
    PubRec = 5,
    /// Answer to PUBREC.
    PubRel = 6,
    /// Answer to PUBREL.
    PubComp = 7,
    /// Subscription request.
    Subscribe = 8,
    /// Answer to SUBSCRIBE.
    SubAck = 9,
    /// Request to end subscriptions.
    Unsubscribe = 10,
    /// Answer to UNSUBSCRIBE.
    UnsubAck = 11,
    /// Sign of life.
    PingReq = 12,
    /// Answer to PINGREQ.
    PingResp = 13,
    /// The end of the connection.
    Disconnect = 14,
    /// A step of the extended authentication of 5.0.
    Auth = 15,
}

impl PacketType {
    /// The type with this number, `None` for 0 and above 15.
    #[inline]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }
}

/// The first byte of a packet, known to be one that some version allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    packet_type: PacketType,
    flags: u8,
}

const FLAG_RETAIN: u8 = 0b0001;
const FLAG_QOS_1: u8 = 0b0010;
const FLAG_DUP: u8 = 0b1000;

impl FixedHeader {
    /// Checks a first byte.
    ///
    /// DUP passes on PUBREL, SUBSCRIBE and UNSUBSCRIBE, since 3.1 sets it when it repeats them;
    /// [`decode`](super::decode) refuses it for the later versions.
    ///
    /// # Errors
    /// [`Malformed::PacketType`], [`Malformed::ReservedFlags`], [`Malformed::PublishQoS`],
    /// [`Malformed::DupWithQoS0`].
    #[inline]
    pub const fn new(first: u8) -> Result<Self, Malformed> {
        let flags = first & 0x0F;
        let Some(packet_type) = PacketType::from_u8(first >> 4) else {
            return Err(Malformed::PacketType);
        };
        match packet_type {
            PacketType::Publish if flags & 0b0110 == 0b0110 => Err(Malformed::PublishQoS),
            PacketType::Publish if flags & 0b1110 == FLAG_DUP => Err(Malformed::DupWithQoS0),
            PacketType::Publish => Ok(Self { packet_type, flags }),
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe
                if flags & !FLAG_DUP == FLAG_QOS_1 =>
            {
                Ok(Self { packet_type, flags })
            }
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => {
                Err(Malformed::ReservedFlags)
            }
            _ if flags == 0 => Ok(Self { packet_type, flags }),
            _ => Err(Malformed::ReservedFlags),
        }
    }

    /// Type of the packet.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        self.packet_type
    }

    /// DUP: the packet may have been sent before.
    #[inline]
    pub const fn dup(self) -> bool {
        self.flags & FLAG_DUP != 0
    }

    /// QoS of a PUBLISH.
    #[inline]
    pub const fn qos(self) -> QoS {
        match (self.flags >> 1) & 0b11 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            // 3 does not pass `new`
            _ => QoS::ExactlyOnce,
        }
    }

    /// RETAIN of a PUBLISH.
    #[inline]
    pub const fn retain(self) -> bool {
        self.flags & FLAG_RETAIN != 0
    }

    /// The first byte of a packet of this type that is not a PUBLISH.
    pub(super) const fn first_byte(packet_type: PacketType) -> u8 {
        let flags = match packet_type {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => FLAG_QOS_1,
            _ => 0,
        };
        (packet_type as u8) << 4 | flags
    }

    /// The first byte of a PUBLISH. With QoS 0 there is no DUP (MQTT-3.3.1-2).
    #[inline]
    pub(super) const fn publish_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
        let dup = dup && qos as u8 > 0;
        (PacketType::Publish as u8) << 4 | (dup as u8) << 3 | (qos as u8) << 1 | retain as u8
    }
}

/// What [`frame`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// The packet is not complete: at least so many bytes are missing.
    NeedMore(usize),
    /// The first `packet_bytes` bytes are one whole packet.
    Complete {
        /// Its first byte, checked.
        header: FixedHeader,
        /// Its length in bytes, fixed header included.
        packet_bytes: usize,
    },
}

/// Why a packet is refused before its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The fixed header breaks a rule.
    Malformed(Malformed),
    /// The packet is longer than allowed (MQTT §3.1.2.11.4).
    TooLarge {
        /// What the fixed header announces, fixed header included.
        packet_bytes: usize,
        /// The limit.
        packet_bytes_max: u32,
    },
}

impl FrameError {
    /// The reason code to close a v5 connection with.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::Malformed(rule) => rule.reason_code(),
            Self::TooLarge { .. } => ReasonCode::PacketTooLarge,
        }
    }
}

impl From<Malformed> for FrameError {
    fn from(rule: Malformed) -> Self {
        Self::Malformed(rule)
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(rule) => rule.fmt(f),
            Self::TooLarge { packet_bytes, packet_bytes_max } => {
                write!(f, "a packet of {packet_bytes} bytes, {packet_bytes_max} are allowed")
            }
        }
    }
}

impl core::error::Error for FrameError {}

/// Finds the end of the packet at the start of `bytes`.
///
/// `packet_bytes_max` counts the whole packet, fixed header included, as the v5 Maximum Packet Size
/// does. [`Frame::NeedMore`] never asks for more than what the packet needs, so reading that many
/// bytes cannot wait for bytes of a packet that the peer has not sent yet.
///
/// # Errors
/// As soon as the bytes at hand show it: a first byte that no version allows, a remaining length of
/// more than four bytes or with superfluous bytes, a packet longer than allowed.
#[inline]
pub fn frame(bytes: &[u8], packet_bytes_max: u32) -> Result<Frame, FrameError> {
    let Some(&first) = bytes.first() else {
        return Ok(Frame::NeedMore(2));
    };
    let header = FixedHeader::new(first)?;
    let Some((remaining, length_bytes)) = variable_integer(&bytes[1..])? else {
        return Ok(Frame::NeedMore(1));
    };
    let packet_bytes = 1 + length_bytes + remaining as usize;
    if packet_bytes > packet_bytes_max as usize {
        return Err(FrameError::TooLarge { packet_bytes, packet_bytes_max });
    }
    if packet_bytes > bytes.len() {
        return Ok(Frame::NeedMore(packet_bytes - bytes.len()));
    }
    Ok(Frame::Complete { header, packet_bytes })
}

/// Splits one whole packet into its checked first byte and what follows the fixed header.
#[inline]
pub(super) fn split(packet: &[u8]) -> Result<(FixedHeader, &[u8]), Malformed> {
    let (&first, rest) = packet.split_first().ok_or(Malformed::PacketLength)?;
    let header = FixedHeader::new(first)?;
    let (remaining, length_bytes) = variable_integer(rest)?.ok_or(Malformed::PacketLength)?;
    let body = &rest[length_bytes..];
    if body.len() != remaining as usize {
        return Err(Malformed::PacketLength);
    }
    Ok((header, body))
}

/// Reads a variable byte integer (MQTT §1.5.5): its value and how many bytes it takes, `None` if
/// the bytes end before it does.
#[inline]
pub(super) fn variable_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    match *bytes {
        [first, ..] if first < 0x80 => Ok(Some((u32::from(first), 1))),
        [first, second @ 1..0x80, ..] => {
            Ok(Some((u32::from(first & 0x7F) | u32::from(second) << 7, 2)))
        }
        _ => long_variable_integer(bytes),
    }
}

#[inline(never)]
fn long_variable_integer(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            if byte == 0 && index > 0 {
                return Err(Malformed::NonMinimalInteger);
            }
            return Ok(Some((value, index + 1)));
        }
    }
    // the fourth byte announces a fifth: no need to wait for it
    if bytes.len() >= 4 { Err(Malformed::VariableInteger) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_is_missing() {
        assert_eq!(frame(&[], 100), Ok(Frame::NeedMore(2)));
        assert_eq!(frame(&[0x30], 100), Ok(Frame::NeedMore(1)));
        assert_eq!(frame(&[0x30, 5], 100), Ok(Frame::NeedMore(5)));
        assert_eq!(frame(&[0x30, 5, 0, 1], 100), Ok(Frame::NeedMore(3)));
        assert_eq!(frame(&[0x30, 0x80], 1000), Ok(Frame::NeedMore(1)));
        assert_eq!(frame(&[0x30, 0x80, 1], 1000), Ok(Frame::NeedMore(128)));
    }

    #[test]
    fn finds_the_end_of_a_packet_and_leaves_what_follows() {
        let header = FixedHeader::new(0xC0).expect("PINGREQ");
        assert_eq!(frame(&[0xC0, 0, 0x30], 2), Ok(Frame::Complete { header, packet_bytes: 2 }));
    }

    #[test]
    fn refuses_a_packet_over_the_limit_before_its_body() {
        let error = FrameError::TooLarge { packet_bytes: 11, packet_bytes_max: 10 };
        assert_eq!(frame(&[0x30, 9], 10), Err(error));
        assert_eq!(error.reason_code(), ReasonCode::PacketTooLarge);
        assert_eq!(frame(&[0x30, 8], 10), Ok(Frame::NeedMore(8)));
        let all = frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], u32::MAX);
        assert_eq!(all, Ok(Frame::NeedMore(0x0FFF_FFFF)));
    }

    #[test]
    fn refuses_bad_lengths() {
        let refused = |bytes: &[u8], rule: Malformed| {
            assert_eq!(frame(bytes, u32::MAX), Err(FrameError::Malformed(rule)));
        };
        refused(&[0x30, 0x80, 0x80, 0x80, 0x80], Malformed::VariableInteger);
        refused(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], Malformed::VariableInteger);
        refused(&[0x30, 0x80, 0x00], Malformed::NonMinimalInteger);
        refused(&[0x30, 0xFF, 0x80, 0x00], Malformed::NonMinimalInteger);
    }

    #[test]
    fn judges_the_first_byte_alone() {
        let allowed: Vec<u8> = (0..=255).filter(|first| FixedHeader::new(*first).is_ok()).collect();
        let expected = [
            0x10, 0x20, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D, 0x40, 0x50,
            0x62, 0x6A, 0x70, 0x82, 0x8A, 0x90, 0xA2, 0xAA, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0,
        ];
        assert_eq!(allowed, expected);
        assert_eq!(FixedHeader::new(0x00), Err(Malformed::PacketType));
        assert_eq!(FixedHeader::new(0x36), Err(Malformed::PublishQoS));
        assert_eq!(FixedHeader::new(0x38), Err(Malformed::DupWithQoS0));
        assert_eq!(FixedHeader::new(0x80), Err(Malformed::ReservedFlags));
        assert_eq!(frame(&[0x80], 100), Err(Malformed::ReservedFlags.into()));
    }
}
