//! Avro arrays and maps: entries in blocks, each with its count.
//!
//! A block is a `long` count and as many entries; a count of 0 ends the value. A negative count
//! means its absolute value, and the block's size in bytes follows it (Avro 1.12, Arrays and Maps).
//! An entry has at least one byte, so that no count makes a reader walk further than its datum, and
//! nothing is allocated for it.

use std::fmt;

use super::{AvroError, Reader, put_long, put_string};

/// Entries that are left of the block being read.
#[derive(Debug, Clone, Default)]
struct Blocks {
    left: u64,
    ended: bool,
}

impl Blocks {
    /// Whether an entry follows; moves over what stands between two blocks.
    fn advance(&mut self, reader: &mut Reader<'_>) -> Result<bool, AvroError> {
        if self.left == 0 && !self.ended {
            let count = reader.long()?;
            if count < 0 {
                // The size lets a reader skip the block, which this one never does.
                reader.long()?;
            }
            self.left = count.unsigned_abs();
            self.ended = count == 0;
        }
        self.left = self.left.saturating_sub(1);
        Ok(!self.ended)
    }
}

/// An `array<string>`, found whole and well-formed when its message was decoded.
#[derive(Clone)]
pub struct StringArray<'a>(Reader<'a>);

impl<'a> StringArray<'a> {
    /// Checks the array and moves behind it.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, AvroError> {
        let array = Self(reader.clone());
        let mut blocks = Blocks::default();
        while blocks.advance(reader)? {
            reader.string()?;
        }
        Ok(array)
    }

    /// The strings, in the order of the array.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (mut reader, mut blocks) = (self.0.clone(), Blocks::default());
        // No error comes up that `read` has not met.
        std::iter::from_fn(move || match blocks.advance(&mut reader) {
            Ok(true) => reader.string().ok(),
            _ => None,
        })
    }
}

/// Equal entries in the same order, however they are spread over blocks.
impl PartialEq for StringArray<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for StringArray<'_> {}

impl fmt::Debug for StringArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A `map<string>`, found whole and well-formed when its message was decoded.
#[derive(Clone)]
pub struct StringMap<'a>(Reader<'a>);

impl<'a> StringMap<'a> {
    /// Checks the map and moves behind it.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, AvroError> {
        let map = Self(reader.clone());
        let mut blocks = Blocks::default();
        while blocks.advance(reader)? {
            reader.string()?;
            reader.string()?;
        }
        Ok(map)
    }

    /// Keys and values, in the order of the datum. A key that the writer put in twice comes twice;
    /// the last one counts.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (mut reader, mut blocks) = (self.0.clone(), Blocks::default());
        std::iter::from_fn(move || match blocks.advance(&mut reader) {
            Ok(true) => Some((reader.string().ok()?, reader.string().ok()?)),
            _ => None,
        })
    }
}

/// Equal entries in the same order, however they are spread over blocks.
impl PartialEq for StringMap<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for StringMap<'_> {}

impl fmt::Debug for StringMap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Appends an `array<string>` of one block.
pub(super) fn put_string_array<'b>(
    out: &mut Vec<u8>,
    strings: impl ExactSizeIterator<Item = &'b str>,
) {
    put_count(out, strings.len());
    let none = strings.len() == 0;
    strings.for_each(|text| put_string(out, text));
    if !none {
        put_count(out, 0);
    }
}

/// Appends a `map<string>` of one block.
pub(super) fn put_string_map<'b>(
    out: &mut Vec<u8>,
    entries: impl ExactSizeIterator<Item = (&'b str, &'b str)>,
) {
    put_count(out, entries.len());
    let none = entries.len() == 0;
    for (key, value) in entries {
        put_string(out, key);
        put_string(out, value);
    }
    if !none {
        put_count(out, 0);
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_long(out, count as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(bytes: &[u8]) -> Result<(Vec<&str>, usize), AvroError> {
        let mut reader = Reader::new(bytes);
        let array = StringArray::read(&mut reader)?;
        Ok((array.iter().collect(), reader.offset()))
    }

    #[test]
    fn blocks_of_both_kinds_are_read_one_after_the_other() {
        // Two entries; one with the size of its block; the end; a byte that is not the array's.
        let bytes = b"\x04\x02a\x02b\x01\x04\x02c\x00\xff";
        assert_eq!(array(bytes), Ok((vec!["a", "b", "c"], bytes.len() - 1)));
        let mut reader = Reader::new(b"\x02\x02k\x02v\x01\x08\x02l\x02w\x00");
        let map = StringMap::read(&mut reader).expect("well-formed");
        assert_eq!(map.iter().collect::<Vec<_>>(), [("k", "v"), ("l", "w")]);
        assert_eq!(format!("{map:?}"), r#"{"k": "v", "l": "w"}"#);
        assert!(reader.is_at_end());
    }

    #[test]
    fn nothing_is_one_byte() {
        let mut out = Vec::new();
        put_string_array(&mut out, [].into_iter());
        put_string_map(&mut out, [].into_iter());
        assert_eq!(out, [0, 0]);
        assert_eq!(array(&out), Ok((vec![], 1)));
    }

    #[test]
    fn a_count_beyond_the_datum_ends_with_the_datum() {
        for count in [i64::MAX, i64::MIN, -i64::MAX] {
            let mut bytes = Vec::new();
            put_long(&mut bytes, count);
            bytes.extend_from_slice(&[0; 3]);
            let at = bytes.len();
            let error = AvroError::Truncated { at, expected: "string" };
            assert_eq!(array(&bytes), Err(error), "{count}");
        }
        assert_eq!(array(b"\x02\x02a"), Err(AvroError::Truncated { at: 3, expected: "long" }));
    }
}
