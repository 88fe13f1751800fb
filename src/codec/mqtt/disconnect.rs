//! DISCONNECT (MQTT §3.14).

use super::ack::read_reason;
use super::property::property_set;
use super::reader::Reader;
use super::writer::{put_packet, put_section};
use super::{EncodeError, FixedHeader, Malformed, PacketType, ReasonCode, Version};

property_set! {
    /// Properties of a DISCONNECT (MQTT §3.14.2.2).
    DisconnectProperties {
        once {
            /// Seconds that the session outlives the connection. Only a client may send it
            /// (MQTT-3.14.2-2).
            SESSION_EXPIRY_INTERVAL session_expiry_interval_s: u32,
            /// Text for people who look for the cause.
            REASON_STRING reason_string: &'a str,
            /// Another server to use.
            SERVER_REFERENCE server_reference: &'a str,
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// The end of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Always success, that is normal disconnection, before 5.0.
    pub reason: ReasonCode,
    /// All empty before 5.0.
    pub properties: DisconnectProperties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn read(body: &'a [u8], version: Version) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let mut disconnect = Self::default();
        // a normal disconnection without properties may leave both out (MQTT §3.14.2.1)
        if version.is_v5() && !reader.is_empty() {
            disconnect.reason = read_reason(&mut reader, PacketType::Disconnect)?;
            // the length of the properties may be left out (MQTT §3.14.2.2.1)
            if !reader.is_empty() {
                disconnect.properties = DisconnectProperties::read(&mut reader)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    /// Appends the packet, as short as its contents allow. Before 5.0 it is empty.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_packet(out, FixedHeader::first_byte(PacketType::Disconnect), |out| {
            if !version.is_v5() || *self == Self::default() {
                return Ok(());
            }
            out.push(self.reason as u8);
            if self.properties == DisconnectProperties::default() {
                return Ok(());
            }
            put_section(out, |out| self.properties.write(out))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_short_and_the_long_form() {
        let read = |body: &'static [u8]| Disconnect::read(body, Version::V5);
        assert_eq!(read(&[]), Ok(Disconnect::default()));
        assert_eq!(read(&[0]), Ok(Disconnect::default()));
        assert_eq!(read(&[0, 0]), Ok(Disconnect::default()));
        let with_will = read(&[4, 5, 0x11, 0, 0, 0, 9]).expect("valid");
        assert_eq!(with_will.reason, ReasonCode::DisconnectWithWill);
        assert_eq!(with_will.properties.session_expiry_interval_s, Some(9));
    }

    #[test]
    fn refuses_bad_goodbyes() {
        let refused = |body: &[u8], version, rule| {
            assert_eq!(Disconnect::read(body, version), Err(rule), "{body:02X?}");
        };
        refused(&[0], Version::V311, Malformed::TrailingBytes);
        refused(&[1], Version::V5, Malformed::ReasonCode);
        refused(&[0, 0, 0], Version::V5, Malformed::TrailingBytes);
        refused(&[0, 3, 0x21, 0, 1], Version::V5, Malformed::PropertyNotAllowed(0x21));
    }

    #[test]
    fn writes_no_more_than_needed() {
        let mut out = Vec::new();
        let taken_over = Disconnect { reason: ReasonCode::SessionTakenOver, ..<_>::default() };
        taken_over.encode(Version::V5, &mut out).expect("fits");
        taken_over.encode(Version::V311, &mut out).expect("fits");
        assert_eq!(out, [0xE0, 1, 0x8E, 0xE0, 0]);
    }
}
