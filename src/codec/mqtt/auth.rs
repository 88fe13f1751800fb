//! AUTH (MQTT §3.15).

use super::ack::read_reason;
use super::property::property_set;
use super::reader::Reader;
use super::writer::{put_packet, put_section};
use super::{EncodeError, FixedHeader, Malformed, PacketType, ReasonCode, Version};

property_set! {
    /// Properties of an AUTH (MQTT §3.15.2.2).
    AuthProperties {
        once {
            /// Name of the extended authentication.
            AUTHENTICATION_METHOD authentication_method: &'a str,
            /// Data of this step.
            AUTHENTICATION_DATA authentication_data: &'a [u8],
            /// Text for people who look for the cause.
            REASON_STRING reason_string: &'a str,
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// A step of the extended authentication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// With an authentication method, unless the packet is the empty one that says success.
    pub properties: AuthProperties<'a>,
}

impl<'a> Auth<'a> {
    pub(super) fn read(body: &'a [u8], version: Version) -> Result<Self, Malformed> {
        if !version.is_v5() {
            return Err(Malformed::PacketType);
        }
        // success without properties leaves everything out (MQTT §3.15.2.1)
        if body.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(body);
        let reason = read_reason(&mut reader, PacketType::Auth)?;
        let properties = AuthProperties::read(&mut reader)?;
        reader.finish()?;
        if properties.authentication_method.is_none() {
            return Err(Malformed::AuthenticationMethod);
        }
        Ok(Self { reason, properties })
    }

    /// Appends the packet.
    ///
    /// # Errors
    /// [`EncodeError`], [`EncodeError::NotInVersion`] before 5.0; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !version.is_v5() {
            return Err(EncodeError::NotInVersion);
        }
        put_packet(out, FixedHeader::first_byte(PacketType::Auth), |out| {
            if *self == Self::default() {
                return Ok(());
            }
            out.push(self.reason as u8);
            put_section(out, |out| self.properties.write(out))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_step() {
        let step = Auth::read(b"\x18\x09\x15\0\x01m\x16\0\x02\0\xFF", Version::V5).expect("valid");
        assert_eq!(step.reason, ReasonCode::ContinueAuthentication);
        assert_eq!(step.properties.authentication_method, Some("m"));
        assert_eq!(step.properties.authentication_data, Some(&b"\0\xFF"[..]));
        assert_eq!(Auth::read(&[], Version::V5), Ok(Auth::default()));
    }

    #[test]
    fn refuses_bad_steps() {
        let refused = |body: &[u8], version, rule| {
            assert_eq!(Auth::read(body, version), Err(rule), "{body:02X?}");
        };
        refused(&[], Version::V311, Malformed::PacketType);
        refused(&[0x18], Version::V5, Malformed::Truncated);
        refused(&[0x18, 0], Version::V5, Malformed::AuthenticationMethod);
        refused(&[0x80, 0], Version::V5, Malformed::ReasonCode);
        refused(&[0x18, 4, 0x15, 0, 1, b'm', 0], Version::V5, Malformed::TrailingBytes);
        refused(&[0x18, 3, 0x21, 0, 1], Version::V5, Malformed::PropertyNotAllowed(0x21));
    }
}
