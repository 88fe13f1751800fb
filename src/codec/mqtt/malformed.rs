//! What can be wrong with a packet.

use core::fmt;

use super::ReasonCode;
use super::property::id;

/// The rule that a packet breaks. [`Malformed::reason_code`] is what a v5 peer is told.
///
/// A `u8` is the identifier of the property at fault (MQTT §2.2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Packet type 0, or AUTH before 5.0 (MQTT §2.1.2).
    PacketType,
    /// Flags of the fixed header differ from what the packet type demands (MQTT-2.1.3-1).
    ReservedFlags,
    /// Both QoS bits of a PUBLISH are set (MQTT-3.3.1-4).
    PublishQoS,
    /// DUP is set on a QoS 0 PUBLISH (MQTT-3.3.1-2).
    DupWithQoS0,
    /// A variable byte integer goes on after its fourth byte (MQTT §1.5.5).
    VariableInteger,
    /// A variable byte integer is longer than its value needs (MQTT-1.5.5-1; 3.1.1 table 2.4).
    NonMinimalInteger,
    /// The bytes at hand are not as many as the fixed header announces.
    PacketLength,
    /// A field runs past the end of the packet or of the properties.
    Truncated,
    /// Bytes are left after the last field.
    TrailingBytes,
    /// A string is not well-formed UTF-8, or holds a surrogate (MQTT-1.5.4-1).
    Utf8,
    /// A string holds U+0000 (MQTT-1.5.4-2).
    NulInString,
    /// A packet identifier is 0 (MQTT-2.2.1-3).
    PacketIdZero,
    /// A CONNECT with a protocol name that is not MQTT's (MQTT-3.1.2-1).
    ProtocolName,
    /// A CONNECT with a protocol level that is not known (MQTT-3.1.2-2).
    ProtocolLevel,
    /// The reserved bit of the CONNECT flags is set (MQTT-3.1.2-3).
    ConnectReservedFlag,
    /// Will QoS or Will Retain without the Will Flag (MQTT-3.1.2-11, MQTT-3.1.2-13).
    WillFlags,
    /// Will QoS is 3 (MQTT-3.1.2-12).
    WillQoS,
    /// A password without a user name before 5.0 (3.1.1 MQTT-3.1.2-22).
    PasswordWithoutUserName,
    /// A property identifier that the standard does not know.
    PropertyUnknown(u8),
    /// A property that this packet must not carry (MQTT §2.2.2.2).
    PropertyNotAllowed(u8),
    /// A property that may appear once appears again.
    PropertyDuplicate(u8),
    /// The value of a property is out of its range.
    PropertyValue(u8),
    /// Response Topic is empty or holds a wildcard (MQTT-3.3.2-14).
    ResponseTopic,
    /// Authentication Data without Authentication Method (MQTT §3.1.2.11.10).
    AuthenticationData,
    /// An AUTH with a body lacks the Authentication Method (MQTT §3.15.2.2.2).
    AuthenticationMethod,
    /// An empty topic name, in a PUBLISH without a Topic Alias (MQTT-4.7.3-1, MQTT §3.3.2.1).
    TopicEmpty,
    /// A topic name with a wildcard (MQTT-3.3.2-2).
    TopicWildcard,
    /// A topic filter that is empty or has a wildcard in a wrong place (MQTT-4.7.1-1,
    /// MQTT-4.7.1-2, MQTT-4.7.3-1).
    TopicFilter,
    /// `$share/` without a share name or without a filter after it (MQTT-4.8.2-1, MQTT-4.8.2-2).
    SharedSubscription,
    /// No Local on a shared subscription (MQTT-3.8.3-4).
    SharedNoLocal,
    /// Reserved bits of the subscription options are set (MQTT-3.8.3-5).
    SubscriptionOptions,
    /// Maximum QoS of a subscription is 3 (MQTT §3.8.3.1).
    SubscriptionQoS,
    /// Retain Handling of a subscription is 3 (MQTT §3.8.3.1).
    RetainHandling,
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter (MQTT-3.8.3-2, MQTT-3.10.3-2).
    NoFilters,
    /// A SUBACK, or a v5 UNSUBACK, without a reason code (MQTT-3.8.4-6, MQTT-3.11.3-1).
    NoReasonCodes,
    /// A reason code that the standard does not know or that this packet must not carry
    /// (MQTT-3.2.2-8, MQTT-3.4.2-1, MQTT-3.14.2-1, …).
    ReasonCode,
    /// Reserved CONNACK flags are set (MQTT-3.2.2-1).
    ConnAckFlags,
    /// Session Present together with a refusal (MQTT-3.2.2-6).
    SessionPresent,
}

impl Malformed {
    /// The reason code to close a v5 connection with (MQTT §4.13).
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            // MQTT-3.3.2-8
            Self::PropertyValue(id::TOPIC_ALIAS) => ReasonCode::TopicAliasInvalid,
            Self::PacketIdZero
            | Self::PropertyDuplicate(_)
            | Self::PropertyValue(_)
            | Self::ResponseTopic
            | Self::AuthenticationData
            | Self::AuthenticationMethod
            | Self::TopicEmpty
            | Self::SharedNoLocal
            | Self::SubscriptionQoS
            | Self::RetainHandling
            | Self::NoFilters
            | Self::NoReasonCodes
            | Self::SessionPresent => ReasonCode::ProtocolError,
            Self::ProtocolName | Self::ProtocolLevel => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicWildcard => ReasonCode::TopicNameInvalid,
            Self::TopicFilter | Self::SharedSubscription => ReasonCode::TopicFilterInvalid,
            _ => ReasonCode::MalformedPacket,
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::PacketType => "reserved packet type",
            Self::ReservedFlags => "reserved flags of the fixed header",
            Self::PublishQoS => "QoS 3",
            Self::DupWithQoS0 => "DUP on a QoS 0 message",
            Self::VariableInteger => "a length of more than four bytes",
            Self::NonMinimalInteger => "a length with superfluous bytes",
            Self::PacketLength => "packet length differs from the fixed header",
            Self::Truncated => "a field runs past the end",
            Self::TrailingBytes => "bytes after the last field",
            Self::Utf8 => "a string that is not UTF-8",
            Self::NulInString => "U+0000 in a string",
            Self::PacketIdZero => "packet identifier 0",
            Self::ProtocolName => "unknown protocol name",
            Self::ProtocolLevel => "unknown protocol level",
            Self::ConnectReservedFlag => "reserved CONNECT flag",
            Self::WillFlags => "will QoS or will retain without a will",
            Self::WillQoS => "will QoS 3",
            Self::PasswordWithoutUserName => "password without user name",
            Self::PropertyUnknown(id) => return write!(f, "unknown property 0x{id:02X}"),
            Self::PropertyNotAllowed(id) => {
                return write!(f, "property 0x{id:02X} is not allowed in this packet");
            }
            Self::PropertyDuplicate(id) => return write!(f, "property 0x{id:02X} appears twice"),
            Self::PropertyValue(id) => {
                return write!(f, "property 0x{id:02X} has a value out of range");
            }
            Self::ResponseTopic => "response topic is empty or has a wildcard",
            Self::AuthenticationData => "authentication data without a method",
            Self::AuthenticationMethod => "AUTH without an authentication method",
            Self::TopicEmpty => "empty topic",
            Self::TopicWildcard => "wildcard in a topic name",
            Self::TopicFilter => "invalid topic filter",
            Self::SharedSubscription => "invalid shared subscription",
            Self::SharedNoLocal => "no-local on a shared subscription",
            Self::SubscriptionOptions => "reserved subscription options",
            Self::SubscriptionQoS => "subscription with QoS 3",
            Self::RetainHandling => "retain handling 3",
            Self::NoFilters => "no topic filter",
            Self::NoReasonCodes => "no reason code",
            Self::ReasonCode => "reason code is not allowed in this packet",
            Self::ConnAckFlags => "reserved CONNACK flags",
            Self::SessionPresent => "session present in a refusal",
        };
        f.write_str(text)
    }
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_property_at_fault() {
        assert_eq!(Malformed::PropertyDuplicate(0x23).to_string(), "property 0x23 appears twice");
    }

    #[test]
    fn tells_protocol_errors_from_malformed_packets() {
        assert_eq!(Malformed::Utf8.reason_code() as u8, 0x81);
        assert_eq!(Malformed::PropertyNotAllowed(1).reason_code() as u8, 0x81);
        assert_eq!(Malformed::PropertyDuplicate(1).reason_code() as u8, 0x82);
        assert_eq!(Malformed::PropertyValue(0x21).reason_code() as u8, 0x82);
        assert_eq!(Malformed::TopicFilter.reason_code() as u8, 0x8F);
        assert_eq!(Malformed::TopicWildcard.reason_code() as u8, 0x90);
        assert_eq!(Malformed::PropertyValue(0x23).reason_code() as u8, 0x94);
    }
}
