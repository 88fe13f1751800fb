//! Cursor over a received datum.

use super::{AvroError, VARINT_BYTES_MAX};

/// Reads values one after the other from borrowed bytes; never past their end.
///
/// After an error the position is that of the value that failed, or inside it; a datum that failed
/// is not read on.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next value, in bytes from the start of the datum.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// Whether nothing is left: every field that follows takes its default.
    #[inline]
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Reads a `long`. A longer form than needed is accepted (`80 00` is 0), as other readers do.
    ///
    /// # Errors
    /// [`AvroError::Truncated`], [`AvroError::VarintTooLong`].
    #[inline]
    pub fn long(&mut self) -> Result<i64, AvroError> {
        self.varint("long")
    }

    /// Reads an `int`.
    ///
    /// # Errors
    /// [`AvroError::Truncated`], [`AvroError::VarintTooLong`], [`AvroError::IntOutOfRange`].
    #[inline]
    pub fn int(&mut self) -> Result<i32, AvroError> {
        let at = self.at;
        let value = self.varint("int")?;
        i32::try_from(value).map_err(|_| AvroError::IntOutOfRange { at, value })
    }

    /// Reads a `bytes` value.
    ///
    /// # Errors
    /// [`AvroError::Truncated`], [`AvroError::VarintTooLong`], [`AvroError::NegativeLength`].
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], AvroError> {
        self.block("bytes")
    }

    /// Reads a `string`.
    ///
    /// # Errors
    /// Those of [`Reader::bytes`], and [`AvroError::NotUtf8`].
    #[inline]
    pub fn string(&mut self) -> Result<&'a str, AvroError> {
        let block = self.block("string")?;
        let start = self.at - block.len();
        std::str::from_utf8(block)
            .map_err(|error| AvroError::NotUtf8 { at: start + error.valid_up_to() })
    }

    /// Reads the index of a union of `branches` branches: less than `branches`.
    ///
    /// # Errors
    /// [`AvroError::Truncated`], [`AvroError::VarintTooLong`], [`AvroError::UnknownBranch`].
    #[inline]
    pub fn union_index(&mut self, branches: u32) -> Result<u32, AvroError> {
        let at = self.at;
        let index = self.varint("union")?;
        match u32::try_from(index) {
            Ok(branch) if branch < branches => Ok(branch),
            _ => Err(AvroError::UnknownBranch { at, index }),
        }
    }

    #[inline]
    fn block(&mut self, expected: &'static str) -> Result<&'a [u8], AvroError> {
        let at = self.at;
        let length = self.varint(expected)?;
        let len = usize::try_from(length).map_err(|_| AvroError::NegativeLength { at, length })?;
        let rest = &self.bytes[self.at..];
        let block = rest.get(..len).ok_or(AvroError::Truncated { at, expected })?;
        self.at += len;
        Ok(block)
    }

    /// Most numbers of a message are lengths and branches: one byte.
    #[inline]
    fn varint(&mut self, expected: &'static str) -> Result<i64, AvroError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(un_zig_zag(u64::from(byte)))
            }
            _ => self.long_varint(expected),
        }
    }

    fn long_varint(&mut self, expected: &'static str) -> Result<i64, AvroError> {
        let at = self.at;
        let mut value = 0u64;
        for group in 0..VARINT_BYTES_MAX {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(AvroError::Truncated { at, expected });
            };
            self.at += 1;
            // Nine groups hold 63 bits: of the tenth only the lowest bit is left.
            if group == VARINT_BYTES_MAX - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * group);
            if byte < 0x80 {
                return Ok(un_zig_zag(value));
            }
        }
        Err(AvroError::VarintTooLong { at })
    }
}

const fn un_zig_zag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_a_longer_varint_than_needed() {
        assert_eq!(Reader::new(&[0x82, 0x00]).long(), Ok(1));
        let widest = [0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(Reader::new(&widest).long(), Ok(1));
        assert_eq!(Reader::new(&widest).int(), Ok(1));
    }

    #[test]
    fn refuses_more_than_64_bits() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x02;
        assert_eq!(Reader::new(&bytes).long(), Err(AvroError::VarintTooLong { at: 0 }));
        let eleven = [0x80; 11];
        assert_eq!(Reader::new(&eleven).long(), Err(AvroError::VarintTooLong { at: 0 }));
    }

    #[test]
    fn refuses_an_int_of_33_bits() {
        let mut out = Vec::new();
        super::super::put_long(&mut out, 1 << 31);
        let error = AvroError::IntOutOfRange { at: 0, value: 1 << 31 };
        assert_eq!(Reader::new(&out).int(), Err(error));
        assert_eq!(
            error.to_string(),
            "Avro int at byte 0 is 2147483648, which 32 bits cannot hold"
        );
    }

    #[test]
    fn never_reads_past_the_end() {
        let truncated = |at, expected| Err(AvroError::Truncated { at, expected });
        assert_eq!(Reader::new(b"").long(), truncated(0, "long").map(|()| 0));
        assert_eq!(Reader::new(b"\x80").int(), truncated(0, "int").map(|()| 0));
        assert_eq!(Reader::new(b"\x06fo").string(), truncated(0, "string").map(|()| ""));
        let mut huge = Vec::new();
        super::super::put_long(&mut huge, i64::MAX);
        assert_eq!(Reader::new(&huge).bytes(), truncated(0, "bytes").map(|()| &b""[..]));
    }

    #[test]
    fn refuses_a_negative_length() {
        let error = AvroError::NegativeLength { at: 0, length: -1 };
        assert_eq!(Reader::new(b"\x01abc").bytes(), Err(error));
    }

    #[test]
    fn refuses_a_branch_the_union_does_not_have() {
        assert_eq!(Reader::new(b"\x02").union_index(2), Ok(1));
        let error = |index| Err(AvroError::UnknownBranch { at: 0, index });
        assert_eq!(Reader::new(b"\x04").union_index(2), error(2));
        assert_eq!(Reader::new(b"\x01").union_index(2), error(-1));
    }

    #[test]
    fn says_where_text_stops_being_utf8() {
        let mut reader = Reader::new(b"\x02a\x06ok\xff");
        assert_eq!(reader.string(), Ok("a"));
        assert_eq!(reader.string(), Err(AvroError::NotUtf8 { at: 5 }));
    }
}
