//! CONNECT (MQTT §3.1).

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use super::frame::split;
use super::property::property_set;
use super::publish::check_response_topic;
use super::reader::Reader;
use super::topic::check_topic_name;
use super::writer::{put_binary, put_packet, put_section, put_string, put_u16};
use super::{EncodeError, FixedHeader, Malformed, PacketType, QoS, ReasonCode, Version};

property_set! {
    /// Properties of a CONNECT (MQTT §3.1.2.11).
    ConnectProperties {
        once {
            /// Seconds that the session outlives the connection; absent is 0, `u32::MAX` for ever.
            SESSION_EXPIRY_INTERVAL session_expiry_interval_s: u32,
            /// QoS 1 and 2 messages that the client takes at once; absent is 65,535.
            RECEIVE_MAXIMUM receive_max: NonZeroU16,
            /// Longest packet that the client takes, in bytes; absent is no limit.
            MAXIMUM_PACKET_SIZE packet_bytes_max: NonZeroU32,
            /// Highest topic alias that the client takes; absent is 0, none.
            TOPIC_ALIAS_MAXIMUM topic_alias_max: u16,
            /// Whether the client wants response information; absent is false.
            REQUEST_RESPONSE_INFORMATION request_response_information: bool,
            /// Whether the client wants reason strings and user properties; absent is true.
            REQUEST_PROBLEM_INFORMATION request_problem_information: bool,
            /// Name of the extended authentication.
            AUTHENTICATION_METHOD authentication_method: &'a str,
            /// Its first data.
            AUTHENTICATION_DATA authentication_data: &'a [u8],
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

property_set! {
    /// Properties of a will (MQTT §3.1.3.2).
    WillProperties {
        once {
            /// Seconds between the end of the connection and the will.
            WILL_DELAY_INTERVAL delay_interval_s: u32,
            /// Whether the payload is UTF-8 text.
            PAYLOAD_FORMAT_INDICATOR payload_format_indicator: bool,
            /// Seconds until the message is no longer worth delivering.
            MESSAGE_EXPIRY_INTERVAL message_expiry_interval_s: u32,
            /// Kind of the payload.
            CONTENT_TYPE content_type: &'a str,
            /// Where an answer is expected.
            RESPONSE_TOPIC response_topic: &'a str,
            /// What the answer must repeat.
            CORRELATION_DATA correlation_data: &'a [u8],
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// The message to publish when the connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Quality of service.
    pub qos: QoS,
    /// To be retained.
    pub retain: bool,
    /// Topic name.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// All empty before 5.0.
    pub properties: WillProperties<'a>,
}

/// Connection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Version of this and all later packets.
    pub version: Version,
    /// Clean Start, before 5.0 Clean Session.
    pub clean_start: bool,
    /// Longest silence of the client in seconds, 0 for no limit.
    pub keep_alive_s: u16,
    /// May be empty and may be longer than the 23 bytes of 3.1: that is for the server to judge
    /// (MQTT-3.1.3-5, MQTT-3.1.3-6).
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// All empty before 5.0.
    pub properties: ConnectProperties<'a>,
}

/// Why a first packet opens no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// It is not a CONNECT (MQTT-3.1.0-1).
    NotConnect(PacketType),
    /// The protocol name is none of MQTT's (MQTT-3.1.2-1).
    ProtocolName,
    /// The name is right, the level is this one (MQTT-3.1.2-2).
    ProtocolLevel(u8),
    /// The packet breaks a rule. The version is known unless the rule is broken before it.
    Malformed {
        /// What the packet says it is.
        version: Option<Version>,
        /// The rule.
        rule: Malformed,
    },
}

impl ConnectError {
    /// The reason code for a v5 CONNACK or DISCONNECT. Its
    /// [`v3_return_code`](ReasonCode::v3_return_code) is 1 for a protocol level that is not known;
    /// before 5.0 the other errors are met by closing without a word.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            Self::NotConnect(_) => ReasonCode::ProtocolError,
            Self::ProtocolName | Self::ProtocolLevel(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::Malformed { rule, .. } => rule.reason_code(),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnect(packet) => write!(f, "first packet is {packet:?}, not CONNECT"),
            Self::ProtocolName => f.write_str("unknown protocol name"),
            Self::ProtocolLevel(level) => write!(f, "unknown protocol level {level}"),
            Self::Malformed { version: Some(version), rule } => write!(f, "MQTT {version}: {rule}"),
            Self::Malformed { version: None, rule } => rule.fmt(f),
        }
    }
}

impl core::error::Error for ConnectError {}

const FLAG_RESERVED: u8 = 0b0000_0001;
const FLAG_CLEAN_START: u8 = 0b0000_0010;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAGS_WILL_QOS: u8 = 0b0001_1000;
const FLAG_WILL_RETAIN: u8 = 0b0010_0000;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USER_NAME: u8 = 0b1000_0000;

/// Reads the first packet of a connection: exactly one whole packet, which says its version itself.
///
/// # Errors
/// [`ConnectError`]. Name and level are judged first, as what follows them depends on them.
pub fn decode_connect(packet: &[u8]) -> Result<Connect<'_>, ConnectError> {
    let unversioned = |rule| ConnectError::Malformed { version: None, rule };
    let (header, body) = split(packet).map_err(unversioned)?;
    if header.packet_type() != PacketType::Connect {
        return Err(ConnectError::NotConnect(header.packet_type()));
    }
    let mut reader = Reader::new(body);
    let name = reader.binary().map_err(unversioned)?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(ConnectError::ProtocolName);
    }
    let level = reader.u8().map_err(unversioned)?;
    let version = match (name, level) {
        (b"MQIsdp", 3) => Version::V31,
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        _ => return Err(ConnectError::ProtocolLevel(level)),
    };
    Connect::read(reader, version)
        .map_err(|rule| ConnectError::Malformed { version: Some(version), rule })
}

impl<'a> Connect<'a> {
    /// Reads what follows the protocol level.
    fn read(mut reader: Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive_s = reader.u16()?;
        let mut properties = ConnectProperties::default();
        if version.is_v5() {
            properties = ConnectProperties::read(&mut reader)?;
            if properties.authentication_data.is_some()
                && properties.authentication_method.is_none()
            {
                return Err(Malformed::AuthenticationData);
            }
        }
        let client_id = reader.string()?;
        let will = match flags & FLAG_WILL {
            0 => None,
            _ => Some(Will::read(&mut reader, flags, version)?),
        };
        // 3.1 lets a client set the flags and leave the fields out (3.1 §3.1, User name and
        // password)
        let present = |flag, reader: &Reader<'_>| {
            flags & flag != 0 && !(version == Version::V31 && reader.is_empty())
        };
        let user_name =
            if present(FLAG_USER_NAME, &reader) { Some(reader.string()?) } else { None };
        let password = if present(FLAG_PASSWORD, &reader) { Some(reader.binary()?) } else { None };
        reader.finish()?;
        Ok(Self {
            version,
            clean_start: flags & FLAG_CLEAN_START != 0,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    fn flags(&self) -> u8 {
        let bit = |flag, set| if set { flag } else { 0 };
        let will = match &self.will {
            Some(will) => FLAG_WILL | (will.qos as u8) << 3 | bit(FLAG_WILL_RETAIN, will.retain),
            None => 0,
        };
        will | bit(FLAG_CLEAN_START, self.clean_start)
            | bit(FLAG_PASSWORD, self.password.is_some())
            | bit(FLAG_USER_NAME, self.user_name.is_some())
    }

    /// Appends the packet in its own version. Before 5.0 the properties are left out.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let v5 = self.version.is_v5();
        put_packet(out, FixedHeader::first_byte(PacketType::Connect), |out| {
            put_string(out, self.version.protocol_name())?;
            out.push(self.version.level());
            out.push(self.flags());
            put_u16(out, self.keep_alive_s);
            if v5 {
                put_section(out, |out| self.properties.write(out))?;
            }
            put_string(out, self.client_id)?;
            if let Some(will) = &self.will {
                if v5 {
                    put_section(out, |out| will.properties.write(out))?;
                }
                put_string(out, will.topic)?;
                put_binary(out, will.payload)?;
            }
            if let Some(user_name) = self.user_name {
                put_string(out, user_name)?;
            }
            if let Some(password) = self.password {
                put_binary(out, password)?;
            }
            Ok(())
        })
    }
}

/// What 3.1 does not use it does not forbid, so that the reserved bit and the bits of an absent
/// will are judged from 3.1.1 on.
fn check_flags(flags: u8, version: Version) -> Result<(), Malformed> {
    let strict = version != Version::V31;
    let will = flags & FLAG_WILL != 0;
    if strict && flags & FLAG_RESERVED != 0 {
        return Err(Malformed::ConnectReservedFlag);
    }
    if strict && !will && flags & (FLAGS_WILL_QOS | FLAG_WILL_RETAIN) != 0 {
        return Err(Malformed::WillFlags);
    }
    if will && flags & FLAGS_WILL_QOS == FLAGS_WILL_QOS {
        return Err(Malformed::WillQoS);
    }
    if !version.is_v5() && flags & (FLAG_USER_NAME | FLAG_PASSWORD) == FLAG_PASSWORD {
        return Err(Malformed::PasswordWithoutUserName);
    }
    Ok(())
}

impl<'a> Will<'a> {
    fn read(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Self, Malformed> {
        let mut properties = WillProperties::default();
        if version.is_v5() {
            properties = WillProperties::read(reader)?;
            check_response_topic(properties.response_topic)?;
        }
        let topic = check_topic_name(reader.binary()?)?;
        if topic.is_empty() {
            return Err(Malformed::TopicEmpty);
        }
        Ok(Self {
            qos: QoS::from_u8((flags & FLAGS_WILL_QOS) >> 3).ok_or(Malformed::WillQoS)?,
            retain: flags & FLAG_WILL_RETAIN != 0,
            topic,
            payload: reader.binary()?,
            properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CONNECT of this name, level and flags with keep alive 60; `rest` follows.
    fn connect(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x10, (name.len() + 6 + rest.len()) as u8, 0, name.len() as u8];
        packet.extend_from_slice(name.as_bytes());
        packet.extend_from_slice(&[level, flags, 0, 60]);
        packet.extend_from_slice(rest);
        packet
    }

    fn rule(packet: &[u8]) -> Malformed {
        match decode_connect(packet) {
            Err(ConnectError::Malformed { rule, .. }) => rule,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_each_version() {
        let packet = connect("MQIsdp", 3, 0x02, b"\0\x01c");
        let read = decode_connect(&packet).expect("valid");
        assert_eq!((read.version, read.clean_start, read.client_id), (Version::V31, true, "c"));
        let packet = connect("MQTT", 4, 0xEE, b"\0\x01c\0\x01w\0\x02hi\0\x01u\0\x01\xFF");
        let read = decode_connect(&packet).expect("valid");
        let will = read.will.expect("has a will");
        assert_eq!(read.version, Version::V311);
        assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
        assert_eq!((will.topic, will.payload), ("w", &b"hi"[..]));
        assert_eq!((read.user_name, read.password), (Some("u"), Some(&b"\xFF"[..])));
        assert_eq!(read.keep_alive_s, 60);
        let packet =
            connect("MQTT", 5, 0x44, b"\x03\x21\0\x05\0\0\x05\x18\0\0\0\x07\0\x01w\0\0\0\x01p");
        let read = decode_connect(&packet).expect("valid");
        assert_eq!(read.properties.receive_max, NonZeroU16::new(5));
        assert_eq!(read.will.expect("has a will").properties.delay_interval_s, Some(7));
        assert_eq!((read.client_id, read.user_name), ("", None));
        assert_eq!(read.password, Some(&b"p"[..]));
    }

    #[test]
    fn does_not_limit_the_client_identifier_of_3_1() {
        let id = [&[0, 60][..], &[b'x'; 60]].concat();
        assert!(decode_connect(&connect("MQIsdp", 3, 0x02, &id)).is_ok());
    }

    #[test]
    fn tells_name_level_and_packet_apart() {
        let refused = |packet: &[u8], error| assert_eq!(decode_connect(packet), Err(error));
        refused(&connect("MQTT", 3, 2, b"\0\0"), ConnectError::ProtocolLevel(3));
        refused(&connect("MQTT", 0x84, 2, b"\0\0"), ConnectError::ProtocolLevel(0x84));
        refused(&connect("MQIsdp", 4, 2, b"\0\0"), ConnectError::ProtocolLevel(4));
        refused(&connect("mqtt", 4, 2, b"\0\0"), ConnectError::ProtocolName);
        refused(&[0xC0, 0], ConnectError::NotConnect(PacketType::PingReq));
        // the packet of an unknown level may look different after it
        refused(&connect("MQTT", 6, 0xFF, b""), ConnectError::ProtocolLevel(6));
        let malformed = ConnectError::Malformed { version: None, rule: Malformed::Truncated };
        refused(&[0x10, 2, 0, 4], malformed);
    }

    #[test]
    fn refuses_bad_flags() {
        assert_eq!(rule(&connect("MQTT", 4, 0x03, b"\0\x01c")), Malformed::ConnectReservedFlag);
        assert_eq!(rule(&connect("MQTT", 4, 0x0A, b"\0\x01c")), Malformed::WillFlags);
        assert_eq!(rule(&connect("MQTT", 5, 0x22, b"\0\0\x01c")), Malformed::WillFlags);
        assert_eq!(rule(&connect("MQTT", 4, 0x1E, b"\0\x01c\0\x01w\0\0")), Malformed::WillQoS);
        let password = b"\0\x01c\0\x01p";
        assert_eq!(rule(&connect("MQTT", 4, 0x42, password)), Malformed::PasswordWithoutUserName);
        assert_eq!(rule(&connect("MQIsdp", 3, 0x42, password)), Malformed::PasswordWithoutUserName);
        assert!(decode_connect(&connect("MQIsdp", 3, 0x3B, b"\0\x01c")).is_ok());
    }

    #[test]
    fn lets_only_3_1_announce_a_user_name_and_leave_it_out() {
        let read = connect("MQIsdp", 3, 0xC2, b"\0\x01c");
        assert_eq!(decode_connect(&read).expect("valid").user_name, None);
        assert_eq!(rule(&connect("MQTT", 4, 0xC2, b"\0\x01c")), Malformed::Truncated);
    }

    #[test]
    fn refuses_bad_fields() {
        assert_eq!(rule(&connect("MQTT", 4, 0x02, b"\0\x01\0")), Malformed::NulInString);
        assert_eq!(rule(&connect("MQTT", 4, 0x02, b"\0\x01c\0")), Malformed::TrailingBytes);
        assert_eq!(rule(&connect("MQTT", 4, 0x02, b"")), Malformed::Truncated);
        assert_eq!(
            rule(&connect("MQTT", 4, 0x06, b"\0\x01c\0\x01+\0\0")),
            Malformed::TopicWildcard
        );
        assert_eq!(rule(&connect("MQTT", 4, 0x06, b"\0\x01c\0\0\0\0")), Malformed::TopicEmpty);
        assert_eq!(rule(&connect("MQTT", 4, 0x82, b"\0\x01c\0\x01\xFF")), Malformed::Utf8);
    }

    #[test]
    fn refuses_bad_properties() {
        let v5 = |properties: &[u8]| {
            let rest = [&[properties.len() as u8], properties, b"\0\x01c"].concat();
            rule(&connect("MQTT", 5, 0x02, &rest))
        };
        assert_eq!(v5(&[0x21, 0, 0]), Malformed::PropertyValue(0x21));
        assert_eq!(v5(&[0x27, 0, 0, 0, 0]), Malformed::PropertyValue(0x27));
        assert_eq!(v5(&[0x17, 2]), Malformed::PropertyValue(0x17));
        assert_eq!(v5(&[0x19, 2]), Malformed::PropertyValue(0x19));
        assert_eq!(v5(&[0x22, 0, 1, 0x22, 0, 1]), Malformed::PropertyDuplicate(0x22));
        assert_eq!(v5(&[0x16, 0, 1, 7]), Malformed::AuthenticationData);
        assert_eq!(v5(&[0x18, 0, 0, 0, 1]), Malformed::PropertyNotAllowed(0x18));
        assert_eq!(v5(&[0x26, 0, 1, b'k']), Malformed::Truncated);
        let will = b"\0\0\x01c\x05\x11\0\0\0\x01\0\x01w\0\0";
        assert_eq!(rule(&connect("MQTT", 5, 0x06, will)), Malformed::PropertyNotAllowed(0x11));
        let will = b"\0\0\x01c\x04\x08\0\x01+\0\x01w\0\0";
        assert_eq!(rule(&connect("MQTT", 5, 0x06, will)), Malformed::ResponseTopic);
    }

    #[test]
    fn names_the_version_of_a_malformed_connect() {
        let error =
            decode_connect(&connect("MQTT", 5, 0x03, b"\0\0\0")).expect_err("reserved flag");
        let rule = Malformed::ConnectReservedFlag;
        assert_eq!(error, ConnectError::Malformed { version: Some(Version::V5), rule });
        assert_eq!(error.to_string(), "MQTT 5.0: reserved CONNECT flag");
    }
}
