//! CONNACK (MQTT §3.2).

use core::num::{NonZeroU16, NonZeroU32};

use super::ack::read_reason;
use super::property::property_set;
use super::reader::Reader;
use super::writer::{put_packet, put_section};
use super::{
    ConnectReturnCode, EncodeError, FixedHeader, Malformed, PacketType, QoS, ReasonCode, Version,
};

property_set! {
    /// Properties of a CONNACK (MQTT §3.2.2.3).
    ConnAckProperties {
        once {
            /// Seconds that the session outlives the connection, if not as the client asked.
            SESSION_EXPIRY_INTERVAL session_expiry_interval_s: u32,
            /// QoS 1 and 2 messages that the server takes at once; absent is 65,535.
            RECEIVE_MAXIMUM receive_max: NonZeroU16,
            /// Highest QoS that the server takes, 0 or 1; absent is 2.
            MAXIMUM_QOS qos_max: QoS,
            /// Whether the server retains messages; absent is true.
            RETAIN_AVAILABLE retain_available: bool,
            /// Longest packet that the server takes, in bytes; absent is no limit.
            MAXIMUM_PACKET_SIZE packet_bytes_max: NonZeroU32,
            /// The client identifier that the server chose.
            ASSIGNED_CLIENT_IDENTIFIER assigned_client_id: &'a str,
            /// Highest topic alias that the server takes; absent is 0, none.
            TOPIC_ALIAS_MAXIMUM topic_alias_max: u16,
            /// Text for people who look for the cause.
            REASON_STRING reason_string: &'a str,
            /// Whether filters may hold wildcards; absent is true.
            WILDCARD_SUBSCRIPTION_AVAILABLE wildcard_subscription_available: bool,
            /// Whether subscriptions may have identifiers; absent is true.
            SUBSCRIPTION_IDENTIFIERS_AVAILABLE subscription_ids_available: bool,
            /// Whether subscriptions may be shared; absent is true.
            SHARED_SUBSCRIPTION_AVAILABLE shared_subscription_available: bool,
            /// Keep alive in seconds that the client must use instead of its own.
            SERVER_KEEP_ALIVE server_keep_alive_s: u16,
            /// A basis for response topics.
            RESPONSE_INFORMATION response_information: &'a str,
            /// Another server to use.
            SERVER_REFERENCE server_reference: &'a str,
            /// Name of the extended authentication.
            AUTHENTICATION_METHOD authentication_method: &'a str,
            /// Its last data.
            AUTHENTICATION_DATA authentication_data: &'a [u8],
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// Answer to a CONNECT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// The server still has the session. Only with success.
    pub session_present: bool,
    /// Before 5.0 written and read as [`ConnectReturnCode`].
    pub reason: ReasonCode,
    /// All empty before 5.0.
    pub properties: ConnAckProperties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(super) fn read(body: &'a [u8], version: Version) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        // 3.1 has no flags there, it only says that the byte is not used
        if flags > 1 && version != Version::V31 {
            return Err(Malformed::ConnAckFlags);
        }
        let session_present = flags & 1 != 0 && version != Version::V31;
        let (reason, properties) = if version.is_v5() {
            let reason = read_reason(&mut reader, PacketType::ConnAck)?;
            (reason, ConnAckProperties::read(&mut reader)?)
        } else {
            let code = ConnectReturnCode::from_u8(reader.u8()?).ok_or(Malformed::ReasonCode)?;
            (code.reason_code(), ConnAckProperties::default())
        };
        reader.finish()?;
        if session_present && reason != ReasonCode::Success {
            return Err(Malformed::SessionPresent);
        }
        Ok(Self { session_present, reason, properties })
    }

    /// Appends the packet. Before 5.0 the properties are left out and the reason becomes a return
    /// code; 3.1 has no Session Present either.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_packet(out, FixedHeader::first_byte(PacketType::ConnAck), |out| {
            out.push(u8::from(self.session_present && version != Version::V31));
            if version.is_v5() {
                out.push(self.reason as u8);
                put_section(out, |out| self.properties.write(out))
            } else {
                out.push(self.reason.v3_return_code() as u8);
                Ok(())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_bad_answers() {
        let refused = |body: &[u8], version, rule| {
            assert_eq!(ConnAck::read(body, version), Err(rule), "{body:02X?}");
        };
        refused(&[2, 0], Version::V311, Malformed::ConnAckFlags);
        refused(&[1, 5], Version::V311, Malformed::SessionPresent);
        refused(&[0, 6], Version::V311, Malformed::ReasonCode);
        refused(&[0], Version::V311, Malformed::Truncated);
        refused(&[0, 0, 0], Version::V311, Malformed::TrailingBytes);
        refused(&[0, 0], Version::V5, Malformed::Truncated);
        refused(&[0, 0x8D, 0], Version::V5, Malformed::ReasonCode);
        refused(&[0, 0, 2, 0x24, 2], Version::V5, Malformed::PropertyValue(0x24));
        refused(&[0, 0, 5, 0x27, 0, 0, 0, 0], Version::V5, Malformed::PropertyValue(0x27));
        refused(&[0, 0, 3, 0x21, 0, 0], Version::V5, Malformed::PropertyValue(0x21));
        refused(&[0, 0, 3, 0x23, 0, 1], Version::V5, Malformed::PropertyNotAllowed(0x23));
    }

    #[test]
    fn says_a_refusal_in_the_words_of_the_version() {
        let refusal = ConnAck { reason: ReasonCode::UnsupportedProtocolVersion, ..<_>::default() };
        let mut out = Vec::new();
        refusal.encode(Version::V311, &mut out).expect("fits");
        refusal.encode(Version::V5, &mut out).expect("fits");
        assert_eq!(out, [0x20, 2, 0, 1, 0x20, 3, 0, 0x84, 0]);
    }

    #[test]
    fn leaves_session_present_out_of_3_1() {
        let mut out = Vec::new();
        let accepted = ConnAck { session_present: true, ..<_>::default() };
        accepted.encode(Version::V31, &mut out).expect("fits");
        accepted.encode(Version::V311, &mut out).expect("fits");
        assert_eq!(out, [0x20, 2, 0, 0, 0x20, 2, 1, 0]);
    }
}
