//! Properties of 5.0 (MQTT §2.2.2): their values, and the macro that makes one struct per packet.

use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use super::reader::Reader;
use super::writer::{Written, put_binary, put_string, put_u16, put_variable_integer};
use super::{EncodeError, Malformed, QoS, VARIABLE_INTEGER_MAX};

/// Identifiers, as MQTT table 2-4 numbers them.
pub(super) mod id {
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1A;
    pub const SERVER_REFERENCE: u8 = 0x1C;
    pub const REASON_STRING: u8 = 0x1F;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// A value as it stands after the identifier. Reading checks the range that the standard sets.
pub(super) trait Value<'a>: Sized {
    fn read(reader: &mut Reader<'a>, id: u8) -> Result<Self, Malformed>;
    fn write(self, out: &mut Vec<u8>) -> Written;
}

impl Value<'_> for bool {
    fn read(reader: &mut Reader<'_>, id: u8) -> Result<Self, Malformed> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::PropertyValue(id)),
        }
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        out.push(u8::from(self));
        Ok(())
    }
}

/// Maximum QoS: 2 is said by leaving the property out (MQTT §3.2.2.3.4).
impl Value<'_> for QoS {
    fn read(reader: &mut Reader<'_>, id: u8) -> Result<Self, Malformed> {
        match QoS::from_u8(reader.u8()?) {
            Some(qos) if qos < QoS::ExactlyOnce => Ok(qos),
            _ => Err(Malformed::PropertyValue(id)),
        }
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        out.push(self as u8);
        Ok(())
    }
}

impl Value<'_> for u16 {
    fn read(reader: &mut Reader<'_>, _: u8) -> Result<Self, Malformed> {
        reader.u16()
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        put_u16(out, self);
        Ok(())
    }
}

impl Value<'_> for NonZeroU16 {
    fn read(reader: &mut Reader<'_>, id: u8) -> Result<Self, Malformed> {
        Self::new(reader.u16()?).ok_or(Malformed::PropertyValue(id))
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        self.get().write(out)
    }
}

impl Value<'_> for u32 {
    fn read(reader: &mut Reader<'_>, _: u8) -> Result<Self, Malformed> {
        reader.u32()
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        out.extend_from_slice(&self.to_be_bytes());
        Ok(())
    }
}

impl Value<'_> for NonZeroU32 {
    fn read(reader: &mut Reader<'_>, id: u8) -> Result<Self, Malformed> {
        Self::new(reader.u32()?).ok_or(Malformed::PropertyValue(id))
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        self.get().write(out)
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>, _: u8) -> Result<Self, Malformed> {
        reader.string()
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        put_string(out, self)
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>, _: u8) -> Result<Self, Malformed> {
        reader.binary()
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        put_binary(out, self)
    }
}

/// Subscription Identifier: 1 to 268,435,455 (MQTT §3.8.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    /// The identifier with this value, `None` if it is out of range.
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) if value.get() <= VARIABLE_INTEGER_MAX => Some(Self(value)),
            _ => None,
        }
    }

    /// Its value.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl Value<'_> for SubscriptionId {
    fn read(reader: &mut Reader<'_>, id: u8) -> Result<Self, Malformed> {
        Self::new(reader.variable_integer()?).ok_or(Malformed::PropertyValue(id))
    }

    fn write(self, out: &mut Vec<u8>) -> Written {
        put_variable_integer(out, self.get() as usize)
    }
}

/// Reads past the value of the property `id`. Checks its shape only.
fn skip(reader: &mut Reader<'_>, id: u8) -> Result<(), Malformed> {
    match id {
        id::PAYLOAD_FORMAT_INDICATOR
        | id::REQUEST_PROBLEM_INFORMATION
        | id::REQUEST_RESPONSE_INFORMATION
        | id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => reader.u8().map(drop),
        id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
            reader.u16().map(drop)
        }
        id::MESSAGE_EXPIRY_INTERVAL
        | id::SESSION_EXPIRY_INTERVAL
        | id::WILL_DELAY_INTERVAL
        | id::MAXIMUM_PACKET_SIZE => reader.u32().map(drop),
        id::SUBSCRIPTION_IDENTIFIER => reader.variable_integer().map(drop),
        id::CONTENT_TYPE
        | id::RESPONSE_TOPIC
        | id::CORRELATION_DATA
        | id::ASSIGNED_CLIENT_IDENTIFIER
        | id::AUTHENTICATION_METHOD
        | id::AUTHENTICATION_DATA
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => reader.binary().map(drop),
        id::USER_PROPERTY => {
            reader.binary()?;
            reader.binary().map(drop)
        }
        _ => Err(Malformed::PropertyUnknown(id)),
    }
}

/// Why a property that the packet does not list is refused.
pub(super) fn refusal(id: u8) -> Malformed {
    match skip(&mut Reader::new(&[0; 4]), id) {
        Ok(()) => Malformed::PropertyNotAllowed(id),
        Err(rule) => rule,
    }
}

/// Keeps the value of a property that may appear once.
pub(super) fn put_once<T>(slot: &mut Option<T>, value: T, id: u8) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::PropertyDuplicate(id)),
    }
}

/// Makes a view over the properties of one packet that may appear many times.
macro_rules! repeated_property {
    ($(#[$doc:meta])* $name:ident, $iter:ident, $id:expr, $item:ty, $read:expr, $write:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        pub struct $name<'a> {
            /// All properties of the packet, checked; empty if none of them is of this kind.
            section: &'a [u8],
        }

        impl<'a> $name<'a> {
            const ID: u8 = $id;

            /// Views properties that stand alone: identifier and value of one after the other,
            /// without the length before them.
            ///
            /// # Errors
            /// Whatever makes them malformed; [`Malformed::PropertyNotAllowed`] for other kinds.
            pub fn new(section: &'a [u8]) -> Result<Self, Malformed> {
                let mut reader = Reader::new(section);
                while !reader.is_empty() {
                    match reader.u8()? {
                        Self::ID => Self::check(&mut reader)?,
                        id => return Err(refusal(id)),
                    }
                }
                Ok(Self { section })
            }

            /// Views those among the properties of a packet, which must have been checked.
            pub(super) fn among(section: &'a [u8]) -> Self {
                Self { section }
            }

            pub(super) fn check(reader: &mut Reader<'a>) -> Result<(), Malformed> {
                $read(reader).map(drop)
            }

            pub(super) fn write(&self, out: &mut Vec<u8>) -> Written {
                for item in self.iter() {
                    out.push(Self::ID);
                    $write(item, out)?;
                }
                Ok(())
            }

            /// Whether there is none.
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.iter().next().is_none()
            }

            /// All of them, in order of appearance.
            #[inline]
            pub fn iter(&self) -> $iter<'a> {
                $iter { reader: Reader::new(self.section) }
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $name<'_> {}

        impl<'a> IntoIterator for $name<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        #[doc = concat!("Iterates over [`", stringify!($name), "`].")]
        #[derive(Debug, Clone)]
        pub struct $iter<'a> {
            reader: Reader<'a>,
        }

        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            // the properties have been checked, so that no reading fails before the end
            fn next(&mut self) -> Option<$item> {
                loop {
                    match self.reader.u8().ok()? {
                        $name::ID => return $read(&mut self.reader).ok(),
                        id => skip(&mut self.reader, id).ok()?,
                    }
                }
            }
        }
    };
}

repeated_property! {
    /// User properties: pairs of name and value, in order; a name may appear again
    /// (MQTT §3.1.2.11.8 and its like). Made for writing with [`append_user_property`] and
    /// [`UserProperties::new`].
    UserProperties, UserPropertiesIter, id::USER_PROPERTY, (&'a str, &'a str), read_pair, write_pair
}

repeated_property! {
    /// Subscription identifiers of a PUBLISH (MQTT §3.3.2.3.8). Only a server may send them
    /// (MQTT-3.3.4-6).
    SubscriptionIds, SubscriptionIdsIter, id::SUBSCRIPTION_IDENTIFIER, SubscriptionId,
    |reader: &mut Reader<'a>| SubscriptionId::read(reader, id::SUBSCRIPTION_IDENTIFIER),
    SubscriptionId::write
}

fn read_pair<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), Malformed> {
    Ok((reader.string()?, reader.string()?))
}

fn write_pair((name, value): (&str, &str), out: &mut Vec<u8>) -> Written {
    put_string(out, name)?;
    put_string(out, value)
}

/// Appends one user property in the form that [`UserProperties::new`] views.
///
/// # Errors
/// [`EncodeError::FieldTooLong`]; `out` is then as it was.
pub fn append_user_property(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), EncodeError> {
    let start = out.len();
    out.push(id::USER_PROPERTY);
    write_pair((name, value), out).inspect_err(|_| out.truncate(start))
}

/// Appends one subscription identifier in the form that [`SubscriptionIds::new`] views.
pub fn append_subscription_id(out: &mut Vec<u8>, value: SubscriptionId) {
    out.push(id::SUBSCRIPTION_IDENTIFIER);
    // it fits: the type is bounded
    let _ = value.write(out);
}

/// Makes the struct with the properties of one packet: which ones it may carry, under which
/// identifier and as which type. `once` ones may appear once, `many` ones any number of times.
macro_rules! property_set {
    (
        $(#[$doc:meta])*
        $name:ident {
            once { $($(#[$once_doc:meta])* $id:ident $field:ident: $value:ty,)* }
            many { $($(#[$many_doc:meta])* $many_id:ident $many:ident: $view:ident,)* }
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name<'a> {
            $($(#[$once_doc])* pub $field: Option<$value>,)*
            $($(#[$many_doc])* pub $many: $crate::codec::mqtt::property::$view<'a>,)*
        }

        impl<'a> $name<'a> {
            /// Reads the length of the properties and the properties.
            #[inline]
            pub(super) fn read(
                reader: &mut $crate::codec::mqtt::reader::Reader<'a>,
            ) -> Result<Self, $crate::codec::mqtt::Malformed> {
                match reader.section()? {
                    [] => Ok(Self::default()),
                    section => Self::read_section(section),
                }
            }

            #[inline(never)]
            fn read_section(section: &'a [u8]) -> Result<Self, $crate::codec::mqtt::Malformed> {
                use $crate::codec::mqtt::property::{self, id};
                let mut set = Self::default();
                let mut reader = $crate::codec::mqtt::reader::Reader::new(section);
                while !reader.is_empty() {
                    match reader.u8()? {
                        $(id::$id => {
                            let value = property::Value::read(&mut reader, id::$id)?;
                            property::put_once(&mut set.$field, value, id::$id)?;
                        })*
                        $(id::$many_id => {
                            property::$view::check(&mut reader)?;
                            set.$many = property::$view::among(section);
                        })*
                        id => return Err(property::refusal(id)),
                    }
                }
                Ok(set)
            }

            /// Appends the properties without the length before them.
            pub(super) fn write(
                &self,
                out: &mut Vec<u8>,
            ) -> Result<(), $crate::codec::mqtt::EncodeError> {
                $(if let Some(value) = self.$field {
                    out.push($crate::codec::mqtt::property::id::$id);
                    $crate::codec::mqtt::property::Value::write(value, out)?;
                })*
                $(self.$many.write(out)?;)*
                Ok(())
            }
        }
    };
}
pub(super) use property_set;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_identifier_fits_a_variable_byte_integer() {
        assert_eq!(SubscriptionId::new(0), None);
        assert_eq!(SubscriptionId::new(VARIABLE_INTEGER_MAX + 1), None);
        let highest = SubscriptionId::new(VARIABLE_INTEGER_MAX).expect("in range");
        assert_eq!(highest.get(), 268_435_455);
    }

    #[test]
    fn views_only_its_own_kind_when_made_from_bytes() {
        let mut section = Vec::new();
        append_user_property(&mut section, "k", "v").expect("short enough");
        append_user_property(&mut section, "k", "").expect("short enough");
        let user = UserProperties::new(&section).expect("valid");
        assert!(user.iter().eq([("k", "v"), ("k", "")]));
        let refused = Malformed::PropertyNotAllowed(id::USER_PROPERTY);
        assert_eq!(SubscriptionIds::new(&section).expect_err("another kind"), refused);
        assert_eq!(UserProperties::new(&section[1..]), Err(Malformed::PropertyUnknown(0)));
    }

    #[test]
    fn a_user_property_that_is_too_long_is_not_appended() {
        let mut section = vec![7];
        let long = "x".repeat(65_536);
        assert!(append_user_property(&mut section, "k", &long).is_err());
        assert_eq!(section, [7]);
    }

    #[test]
    fn finds_user_properties_among_others() {
        // every property there is, user properties between them
        let user = [0x26, 0, 1, b'k', 0, 1, b'v'];
        let shapes: [(&[u8], &[u8]); 5] = [
            (&[0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A, 0x0B], &[1]),
            (&[0x13, 0x21, 0x22, 0x23], &[0, 1]),
            (&[0x02, 0x11, 0x18, 0x27], &[0, 0, 0, 1]),
            (&[0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F], &[0, 2, 0x26, 0]),
            (&[0x0B], &[0x80, 0x01]),
        ];
        let mut section = Vec::new();
        for (ids, value) in shapes {
            for id in ids {
                section.push(*id);
                section.extend_from_slice(value);
                section.extend_from_slice(&user);
            }
        }
        let user = UserProperties::among(&section);
        assert_eq!(user.iter().count(), 27);
        assert!(user.iter().all(|pair| pair == ("k", "v")));
        let ids = SubscriptionIds::among(&section);
        assert!(ids.iter().map(SubscriptionId::get).eq([1, 128]));
    }
}
