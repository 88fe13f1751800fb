//! A cursor over the body of a packet.

use super::frame::variable_integer;
use super::{Malformed, PacketId};

/// Reads field after field; whatever it hands out is borrowed from the packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that has not been read.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    #[inline]
    pub fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.u16()?).ok_or(Malformed::PacketIdZero)
    }

    /// A variable byte integer (MQTT §1.5.5).
    #[inline]
    pub fn variable_integer(&mut self) -> Result<u32, Malformed> {
        let (value, bytes) = variable_integer(self.rest)?.ok_or(Malformed::Truncated)?;
        self.rest = &self.rest[bytes..];
        Ok(value)
    }

    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Binary data: two bytes of length, then that many bytes (MQTT §1.5.6).
    #[inline]
    pub fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A UTF-8 encoded string (MQTT §1.5.4).
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.binary()?;
        if memchr::memchr(0, bytes).is_some() {
            return Err(Malformed::NulInString);
        }
        core::str::from_utf8(bytes).map_err(|_| Malformed::Utf8)
    }

    /// A length as variable byte integer, then that many bytes: the properties (MQTT §2.2.2).
    #[inline]
    pub fn section(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.variable_integer()?;
        self.take(length as usize)
    }

    /// Checks that nothing is left.
    #[inline]
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::TrailingBytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_strings_that_are_not_well_formed() {
        let string = |bytes: &'static [u8]| Reader::new(bytes).string();
        assert_eq!(string(&[0, 2, 0xC3, 0xA9]), Ok("é"));
        assert_eq!(string(&[0, 3, b'a', 0, b'b']), Err(Malformed::NulInString));
        assert_eq!(string(&[0, 2, 0xC0, 0x80]), Err(Malformed::Utf8), "over-long");
        assert_eq!(string(&[0, 3, 0xED, 0xA0, 0x80]), Err(Malformed::Utf8), "surrogate D800");
        assert_eq!(string(&[0, 4, 0xF4, 0x90, 0x80, 0x80]), Err(Malformed::Utf8), "above 10FFFF");
        assert_eq!(string(&[0, 1, 0xC3]), Err(Malformed::Utf8), "cut short");
        assert_eq!(string(&[0, 4, b'a']), Err(Malformed::Truncated));
        assert_eq!(string(&[0]), Err(Malformed::Truncated));
        // a byte order mark stays part of the string (MQTT-1.5.4-3)
        assert_eq!(string(&[0, 3, 0xEF, 0xBB, 0xBF]), Ok("\u{FEFF}"));
    }
}
