//! Appending fields and packets to a buffer.

use core::fmt;

use super::VARIABLE_INTEGER_MAX;

/// Why a packet cannot be written. The buffer is then as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// A string or binary field is longer than 65,535 bytes (MQTT §1.5.4).
    FieldTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The packet is longer than a remaining length can say (MQTT §2.1.4).
    PacketTooLarge {
        /// Bytes after the fixed header.
        bytes: usize,
    },
    /// A PUBLISH with QoS 1 or 2 lacks a packet identifier (MQTT-2.2.1-3).
    PacketIdMissing,
    /// The version has no such packet: AUTH before 5.0.
    NotInVersion,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldTooLong { bytes } => {
                write!(f, "a field of {bytes} bytes, at most 65535 can be written")
            }
            Self::PacketTooLarge { bytes } => {
                write!(f, "a packet body of {bytes} bytes, at most {VARIABLE_INTEGER_MAX} fit")
            }
            Self::PacketIdMissing => f.write_str("QoS 1 or 2 without a packet identifier"),
            Self::NotInVersion => f.write_str("this version has no such packet"),
        }
    }
}

impl core::error::Error for EncodeError {}

pub(super) type Written = Result<(), EncodeError>;

#[inline]
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// The two-byte length that stands before a string or binary field of so many bytes.
#[inline]
pub(super) fn field_length(bytes: usize) -> Result<u16, EncodeError> {
    u16::try_from(bytes).map_err(|_| EncodeError::FieldTooLong { bytes })
}

pub(super) fn put_binary(out: &mut Vec<u8>, field: &[u8]) -> Written {
    put_u16(out, field_length(field.len())?);
    out.extend_from_slice(field);
    Ok(())
}

pub(super) fn put_string(out: &mut Vec<u8>, field: &str) -> Written {
    put_binary(out, field.as_bytes())
}

/// The bytes of a variable byte integer and how many of them count.
#[inline]
fn variable_integer_bytes(value: usize) -> Result<([u8; 4], usize), EncodeError> {
    if value > VARIABLE_INTEGER_MAX as usize {
        return Err(EncodeError::PacketTooLarge { bytes: value });
    }
    let length = variable_integer_length(value);
    let mut bytes = [0; 4];
    for (index, byte) in bytes.iter_mut().take(length).enumerate() {
        let more = if index + 1 < length { 0x80 } else { 0 };
        *byte = (value >> (7 * index)) as u8 & 0x7F | more;
    }
    Ok((bytes, length))
}

/// How many bytes a variable byte integer takes; four for what does not fit one.
#[inline]
pub(super) const fn variable_integer_length(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

#[inline]
pub(super) fn put_variable_integer(out: &mut Vec<u8>, value: usize) -> Written {
    if value < 0x80 {
        out.push(value as u8);
        return Ok(());
    }
    let (bytes, length) = variable_integer_bytes(value)?;
    out.extend_from_slice(&bytes[..length]);
    Ok(())
}

/// Appends what `write` appends, with its length as variable byte integer before it.
pub(super) fn put_section(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Written,
) -> Written {
    let place = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - place - 1;
    if length < 0x80 {
        out[place] = length as u8;
        return Ok(());
    }
    let (bytes, count) = variable_integer_bytes(length)?;
    out.splice(place..=place, bytes[..count].iter().copied());
    Ok(())
}

/// Appends a packet: its first byte, its remaining length, and what `body` appends.
pub(super) fn put_packet(
    out: &mut Vec<u8>,
    first: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Written,
) -> Written {
    let start = out.len();
    out.push(first);
    let written = put_section(out, body);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::mqtt::frame::variable_integer;

    #[test]
    fn writes_lengths_with_as_few_bytes_as_they_need() {
        let edges = [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455];
        for (index, value) in edges.into_iter().enumerate() {
            let mut out = Vec::new();
            put_variable_integer(&mut out, value).expect("in range");
            assert_eq!(out.len(), index / 2 + 1);
            assert_eq!(out.len(), variable_integer_length(value));
            assert_eq!(variable_integer(&out), Ok(Some((value as u32, out.len()))));
        }
        let too_large = Err(EncodeError::PacketTooLarge { bytes: 268_435_456 });
        assert_eq!(put_variable_integer(&mut Vec::new(), 268_435_456), too_large);
    }

    #[test]
    fn a_packet_that_cannot_be_written_leaves_the_buffer_as_it_was() {
        let mut out = vec![1, 2];
        let long = "x".repeat(65_536);
        let written = put_packet(&mut out, 0x10, |out| put_string(out, &long));
        assert_eq!(written, Err(EncodeError::FieldTooLong { bytes: 65_536 }));
        assert_eq!(out, [1, 2]);
    }

    #[test]
    fn widens_the_length_of_a_long_section() {
        let mut out = vec![9];
        put_packet(&mut out, 0x10, |out| {
            out.resize(out.len() + 200, 7);
            Ok(())
        })
        .expect("short enough");
        assert_eq!(out[..4], [9, 0x10, 0xC8, 0x01]);
        assert_eq!(out.len(), 204);
    }
}
