//! UNSUBSCRIBE (MQTT §3.10).

use core::fmt;

use super::property::property_set;
use super::reader::Reader;
use super::topic::check_topic_filter;
use super::writer::{put_packet, put_section, put_string, put_u16};
use super::{EncodeError, FixedHeader, Malformed, PacketId, PacketType, Version};

property_set! {
    /// Properties of an UNSUBSCRIBE (MQTT §3.10.2.1).
    UnsubscribeProperties {
        once {}
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// The topic filters of an UNSUBSCRIBE: at least one.
#[derive(Clone, Copy)]
pub struct Filters<'a> {
    /// All of them, checked.
    bytes: &'a [u8],
}

impl<'a> Filters<'a> {
    /// Views the payload of an UNSUBSCRIBE.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn new(bytes: &'a [u8], version: Version) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Err(Malformed::NoFilters);
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            check_topic_filter(reader.string()?, version)?;
        }
        Ok(Self { bytes })
    }

    /// All of them, in order.
    pub fn iter(&self) -> FiltersIter<'a> {
        FiltersIter { reader: Reader::new(self.bytes) }
    }
}

impl fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Filters<'_> {}

impl<'a> IntoIterator for Filters<'a> {
    type Item = &'a str;
    type IntoIter = FiltersIter<'a>;

    fn into_iter(self) -> FiltersIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Filters`].
#[derive(Debug, Clone)]
pub struct FiltersIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for FiltersIter<'a> {
    type Item = &'a str;

    // the bytes have been checked, so that no reading fails before the end
    fn next(&mut self) -> Option<&'a str> {
        self.reader.string().ok()
    }
}

/// Appends one topic filter in the form that [`Filters::new`] views.
///
/// # Errors
/// [`EncodeError::FieldTooLong`]; `out` is then as it was.
pub fn append_filter(filter: &str, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    put_string(out, filter)
}

/// Request to end subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// To be repeated in the UNSUBACK.
    pub packet_id: PacketId,
    /// All empty before 5.0.
    pub properties: UnsubscribeProperties<'a>,
    /// What is no longer wanted.
    pub filters: Filters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn read(body: &'a [u8], version: Version) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut properties = UnsubscribeProperties::default();
        if version.is_v5() {
            properties = UnsubscribeProperties::read(&mut reader)?;
        }
        let filters = Filters::new(reader.rest(), version)?;
        Ok(Self { packet_id, properties, filters })
    }

    /// Appends the packet. Before 5.0 the properties are left out.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_packet(out, FixedHeader::first_byte(PacketType::Unsubscribe), |out| {
            put_u16(out, self.packet_id.get());
            if version.is_v5() {
                put_section(out, |out| self.properties.write(out))?;
            }
            out.extend_from_slice(self.filters.bytes);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters() {
        let read = Unsubscribe::read(b"\0\x05\0\x01a\0\x03b/#", Version::V311).expect("valid");
        assert!(read.filters.iter().eq(["a", "b/#"]));
    }

    #[test]
    fn refuses_bad_requests() {
        let refused = |body: &[u8], version, rule| {
            assert_eq!(Unsubscribe::read(body, version), Err(rule), "{body:02X?}");
        };
        refused(&[0, 0, 0, 1, b'a'], Version::V311, Malformed::PacketIdZero);
        refused(&[0, 1], Version::V311, Malformed::NoFilters);
        refused(&[0, 1, 0], Version::V5, Malformed::NoFilters);
        refused(&[0, 1, 0, 1, b'a', 0], Version::V311, Malformed::Truncated);
        refused(&[0, 1, 0, 0], Version::V311, Malformed::TopicFilter);
        refused(b"\0\x01\0\0\x09$share//a", Version::V5, Malformed::SharedSubscription);
        refused(&[0, 1, 2, 0x0B, 1], Version::V5, Malformed::PropertyNotAllowed(0x0B));
    }
}
