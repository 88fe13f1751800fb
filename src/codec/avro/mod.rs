//! Raw Avro datum: the bytes of one value, without container header, fingerprint or length prefix
//! (the messages of 4/ESP, 9/ELCE, 16/ECAP, 21/TLE and 22/CAP travel so in a NATS payload).
//!
//! Writers append to the caller's `Vec<u8>`; [`Reader`] borrows from the received bytes. Neither
//! allocates (a writer only where the vector has to grow).
//!
//! An `int` or `long` is a zig-zag varint: little-endian groups of seven bits, at most
//! [`VARINT_BYTES_MAX`] of them. A `string` or `bytes` is a `long` length and that many bytes. A
//! union is the `long` index of the branch and the value of that branch (Avro 1.12, Binary
//! Encoding).

mod blocks;
pub mod cap;
pub mod ecap;
pub mod elce;
mod error;
mod esp;
mod fields;
mod reader;
mod template;
pub mod tle;

pub use blocks::{StringArray, StringMap};
pub use error::AvroError;
pub use esp::{ClientData, ExtensionData};
pub use fields::Header;
pub use reader::Reader;
pub use template::{ClientDataTemplate, ConfigName, config_name};

/// The longest varint of a 64-bit value, in bytes: ten groups of seven bits.
pub const VARINT_BYTES_MAX: usize = 10;

/// Bytes that [`put_long`] writes for `value`: 1 to [`VARINT_BYTES_MAX`].
#[inline]
#[must_use]
pub const fn long_len(value: i64) -> usize {
    let bits = u64::BITS - (zig_zag(value) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Bytes that [`put_bytes`] or [`put_string`] writes for content of `len` bytes.
#[inline]
#[must_use]
pub const fn bytes_len(len: usize) -> usize {
    long_len(len as i64) + len
}

/// Appends a `long`. An `int` has the same form.
#[inline]
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    let mut varints = Varints::<1>::default();
    varints.push(value);
    out.extend_from_slice(varints.as_bytes());
}

/// Appends a `bytes` value: its length and the content.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_long(out, value.len() as i64);
    out.extend_from_slice(value);
}

/// Appends a `string`: its length in bytes and the UTF-8 text.
#[inline]
pub fn put_string(out: &mut Vec<u8>, value: &str) {
    put_bytes(out, value.as_bytes());
}

/// Appends the index of the union branch whose value follows.
#[inline]
pub fn put_union_index(out: &mut Vec<u8>, index: u32) {
    put_long(out, i64::from(index));
}

/// Small numbers are short whatever their sign: 0, -1, 1, -2 become 0, 1, 2, 3.
const fn zig_zag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Up to `N` varints in a row on the stack, so that neighbours are appended in one copy.
struct Varints<const N: usize> {
    groups: [[u8; VARINT_BYTES_MAX]; N],
    len: usize,
}

impl<const N: usize> Default for Varints<N> {
    #[inline]
    fn default() -> Self {
        Self { groups: [[0; VARINT_BYTES_MAX]; N], len: 0 }
    }
}

impl<const N: usize> Varints<N> {
    /// # Panics
    /// On more than `N` pushes, when the last does not fit.
    #[inline]
    fn push(&mut self, value: i64) {
        let bytes = self.groups.as_flattened_mut();
        let mut rest = zig_zag(value);
        while rest >= 0x80 {
            bytes[self.len] = rest as u8 | 0x80;
            self.len += 1;
            rest >>= 7;
        }
        bytes[self.len] = rest as u8;
        self.len += 1;
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        &self.groups.as_flattened()[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_longs_of_the_avro_specification() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            put_long(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(long_len(value), bytes.len(), "{value}");
            assert_eq!(Reader::new(bytes).long(), Ok(value));
        }
    }

    #[test]
    fn counts_the_bytes_of_a_long_at_every_group_boundary() {
        for shift in 0..63 {
            for value in [(1i64 << shift) - 1, 1 << shift, -(1 << shift), !(1 << shift)] {
                let mut out = Vec::new();
                put_long(&mut out, value);
                assert_eq!(long_len(value), out.len(), "{value}");
            }
        }
    }

    #[test]
    fn writes_length_before_text() {
        let mut out = Vec::new();
        put_string(&mut out, "foo");
        assert_eq!(out, b"\x06foo");
        assert_eq!(bytes_len(3), 4);
    }
}
