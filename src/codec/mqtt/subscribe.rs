//! SUBSCRIBE (MQTT §3.8).

use core::fmt;

use super::property::{SubscriptionId, property_set};
use super::reader::Reader;
use super::topic::{check_topic_filter, shared_filter};
use super::writer::{put_packet, put_section, put_string, put_u16};
use super::{EncodeError, FixedHeader, Malformed, PacketId, PacketType, QoS, Version};

property_set! {
    /// Properties of a SUBSCRIBE (MQTT §3.8.2.1).
    SubscribeProperties {
        once {
            /// To be told with every message that the subscriptions bring.
            SUBSCRIPTION_IDENTIFIER subscription_id: SubscriptionId,
        }
        many {
            /// User properties.
            USER_PROPERTY user: UserProperties,
        }
    }
}

/// When a new subscription brings retained messages (MQTT §3.8.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always.
    #[default]
    Send = 0,
    /// If there was no such subscription.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// Options of one subscription. Before 5.0 there is only the QoS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Highest QoS of the messages to the client.
    pub qos_max: QoS,
    /// The client does not want its own messages.
    pub no_local: bool,
    /// Messages keep the RETAIN flag that they were published with.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    fn read(byte: u8, version: Version) -> Result<Self, Malformed> {
        let reserved = if version.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
        if byte & reserved != 0 {
            return Err(Malformed::SubscriptionOptions);
        }
        Ok(Self {
            qos_max: QoS::from_u8(byte & 0b11).ok_or(Malformed::SubscriptionQoS)?,
            no_local: byte & 0b0100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling: match byte >> 4 {
                0 => RetainHandling::Send,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(Malformed::RetainHandling),
            },
        })
    }

    fn byte(self, version: Version) -> u8 {
        if !version.is_v5() {
            return self.qos_max as u8;
        }
        self.qos_max as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// One subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Topic filter; [`shared_filter`] takes a shared one apart.
    pub filter: &'a str,
    /// Its options.
    pub options: SubscriptionOptions,
}

impl<'a> Subscription<'a> {
    /// Reads one subscription; only the shape of the filter's string is judged.
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let filter = reader.string()?;
        let options = SubscriptionOptions::read(reader.u8()?, version)?;
        Ok(Self { filter, options })
    }

    fn check(&self, version: Version) -> Result<(), Malformed> {
        check_topic_filter(self.filter, version)?;
        if self.options.no_local && shared_filter(self.filter).is_some() {
            return Err(Malformed::SharedNoLocal);
        }
        Ok(())
    }

    /// Appends the subscription in the form that [`Subscriptions::new`] views.
    ///
    /// # Errors
    /// [`EncodeError::FieldTooLong`]; `out` is then as it was.
    pub fn append(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_string(out, self.filter)?;
        out.push(self.options.byte(version));
        Ok(())
    }
}

/// The subscriptions of a SUBSCRIBE: at least one.
#[derive(Clone, Copy)]
pub struct Subscriptions<'a> {
    /// All of them, checked.
    bytes: &'a [u8],
}

impl<'a> Subscriptions<'a> {
    /// Views the payload of a SUBSCRIBE.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn new(bytes: &'a [u8], version: Version) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Err(Malformed::NoFilters);
        }
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            Subscription::read(&mut reader, version)?.check(version)?;
        }
        Ok(Self { bytes })
    }

    /// All of them, in order.
    pub fn iter(&self) -> SubscriptionsIter<'a> {
        SubscriptionsIter { reader: Reader::new(self.bytes) }
    }
}

impl fmt::Debug for Subscriptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Subscriptions<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Subscriptions<'_> {}

impl<'a> IntoIterator for Subscriptions<'a> {
    type Item = Subscription<'a>;
    type IntoIter = SubscriptionsIter<'a>;

    fn into_iter(self) -> SubscriptionsIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Subscriptions`].
#[derive(Debug, Clone)]
pub struct SubscriptionsIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for SubscriptionsIter<'a> {
    type Item = Subscription<'a>;

    // the bytes have been checked, so that no reading fails before the end; the options of the
    // older versions read the same in 5.0
    fn next(&mut self) -> Option<Subscription<'a>> {
        Subscription::read(&mut self.reader, Version::V5).ok()
    }
}

/// Subscription request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To be repeated in the SUBACK.
    pub packet_id: PacketId,
    /// All empty before 5.0.
    pub properties: SubscribeProperties<'a>,
    /// What is asked for.
    pub subscriptions: Subscriptions<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn read(body: &'a [u8], version: Version) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut properties = SubscribeProperties::default();
        if version.is_v5() {
            properties = SubscribeProperties::read(&mut reader)?;
        }
        let subscriptions = Subscriptions::new(reader.rest(), version)?;
        Ok(Self { packet_id, properties, subscriptions })
    }

    /// Appends the packet. Before 5.0 everything but filter and QoS is left out.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is then as it was.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_packet(out, FixedHeader::first_byte(PacketType::Subscribe), |out| {
            put_u16(out, self.packet_id.get());
            if version.is_v5() {
                put_section(out, |out| self.properties.write(out))?;
            }
            self.subscriptions.iter().try_for_each(|one| one.append(version, out))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_filters_and_options() {
        let read = Subscribe::read(b"\0\x05\x02\x0B\x07\0\x01a\x2E\0\x03b/#\x01", Version::V5)
            .expect("valid");
        assert_eq!(read.packet_id.get(), 5);
        assert_eq!(read.properties.subscription_id, SubscriptionId::new(7));
        let options = SubscriptionOptions {
            qos_max: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        let second = SubscriptionOptions { qos_max: QoS::AtLeastOnce, ..<_>::default() };
        assert!(read.subscriptions.iter().eq([
            Subscription { filter: "a", options },
            Subscription { filter: "b/#", options: second },
        ]));
    }

    #[test]
    fn refuses_bad_requests() {
        let refused = |body: &[u8], version, rule| {
            assert_eq!(Subscribe::read(body, version), Err(rule), "{body:02X?}");
        };
        refused(&[0, 0, 0, 1, b'a', 0], Version::V311, Malformed::PacketIdZero);
        refused(&[0, 1], Version::V311, Malformed::NoFilters);
        refused(&[0, 1, 0], Version::V5, Malformed::NoFilters);
        refused(&[0, 1, 0, 1, b'a'], Version::V311, Malformed::Truncated);
        refused(&[0, 1, 0, 1, b'a', 3], Version::V311, Malformed::SubscriptionQoS);
        refused(&[0, 1, 0, 1, b'a', 4], Version::V311, Malformed::SubscriptionOptions);
        refused(&[0, 1, 0, 0, 1, b'a', 0x40], Version::V5, Malformed::SubscriptionOptions);
        refused(&[0, 1, 0, 0, 1, b'a', 0x30], Version::V5, Malformed::RetainHandling);
        refused(&[0, 1, 0, 0, 1, b'a', 0x03], Version::V5, Malformed::SubscriptionQoS);
        refused(&[0, 1, 0, 0, 0], Version::V31, Malformed::TopicFilter);
        refused(&[0, 1, 0, 2, b'a', b'#', 0], Version::V311, Malformed::TopicFilter);
        refused(&[0, 1, 0, 2, b'a', 0, 0], Version::V311, Malformed::NulInString);
        refused(b"\0\x01\0\0\x08$share/g\0", Version::V5, Malformed::SharedSubscription);
        refused(b"\0\x01\0\0\x0A$share/g/a\x04", Version::V5, Malformed::SharedNoLocal);
        refused(&[0, 1, 2, 0x0B, 0], Version::V5, Malformed::PropertyValue(0x0B));
        refused(&[0, 1, 4, 0x0B, 1, 0x0B, 1], Version::V5, Malformed::PropertyDuplicate(0x0B));
        refused(&[0, 1, 1, 0x1F], Version::V5, Malformed::PropertyNotAllowed(0x1F));
        // the second subscription is judged like the first
        refused(&[0, 1, 0, 1, b'a', 0, 0, 1, b'b'], Version::V311, Malformed::Truncated);
    }
}
