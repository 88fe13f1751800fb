//! Why bytes are not the datum they should be.

use std::fmt;

/// A datum that cannot be decoded. `at` is the offset, in bytes from the start of the datum, of the
/// value that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AvroError {
    /// The bytes end before the value does.
    Truncated {
        /// Offset of the value.
        at: usize,
        /// Avro type of the value.
        expected: &'static str,
    },
    /// A varint that holds more than 64 bits.
    VarintTooLong {
        /// Offset of the varint.
        at: usize,
    },
    /// An `int` that does not fit in 32 bits.
    IntOutOfRange {
        /// Offset of the `int`.
        at: usize,
        /// What was read.
        value: i64,
    },
    /// A `string` or `bytes` whose length is negative.
    NegativeLength {
        /// Offset of the length.
        at: usize,
        /// What was read.
        length: i64,
    },
    /// A union index outside the schema's branches.
    UnknownBranch {
        /// Offset of the index.
        at: usize,
        /// What was read.
        index: i64,
    },
    /// A `string` that is not UTF-8.
    NotUtf8 {
        /// Offset of the first byte that is not part of a character.
        at: usize,
    },
}

impl fmt::Display for AvroError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { at, expected } => {
                write!(f, "Avro datum ends inside the {expected} at byte {at}")
            }
            Self::VarintTooLong { at } => {
                write!(f, "Avro number at byte {at} has more than 64 bits")
            }
            Self::IntOutOfRange { at, value } => {
                write!(f, "Avro int at byte {at} is {value}, which 32 bits cannot hold")
            }
            Self::NegativeLength { at, length } => {
                write!(f, "Avro length at byte {at} is negative: {length}")
            }
            Self::UnknownBranch { at, index } => {
                write!(f, "Avro union at byte {at} has no branch {index}")
            }
            Self::NotUtf8 { at } => write!(f, "Avro string is not UTF-8 at byte {at}"),
        }
    }
}

impl std::error::Error for AvroError {}
