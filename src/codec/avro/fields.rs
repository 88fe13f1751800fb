//! Fields that several messages have: the header of 3/ISM, and unions with null.
//!
//! Unions with null are `[value, null]` in some fields and `[null, value]` in others; the wire
//! differs.

use std::fmt;

use super::{AvroError, Reader, put_long, put_string, put_union_index};

/// Branches of `[value, null]`.
pub(super) const VALUE: u32 = 0;
pub(super) const NULL: u32 = 1;
/// Branches of `[null, value]`.
const NULL_FIRST: u32 = 0;
const VALUE_SECOND: u32 = 1;

/// What nearly every message begins with (3/ISM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Identifies the message in logs; an answer has that of its request.
    pub correlation_id: &'a str,
    /// When the message was made, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// For how long after the timestamp the message is worth processing; 0 = for ever.
    pub timeout_ms: i64,
}

impl<'a> Header<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, AvroError> {
        Ok(Self {
            correlation_id: reader.string()?,
            timestamp_ms: reader.long()?,
            timeout_ms: reader.long()?,
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_string(out, self.correlation_id);
        put_long(out, self.timestamp_ms);
        put_long(out, self.timeout_ms);
    }

    /// Whether the message should no longer be processed at `now_ms`, in milliseconds since the
    /// Unix epoch (3/ISM: `timeout` after `timestamp`, 0 = never).
    #[must_use]
    pub fn expired(&self, now_ms: i64) -> bool {
        expired(self.timestamp_ms, self.timeout_ms, now_ms)
    }
}

/// Wider than the wire, so that no timestamp overflows.
pub(super) fn expired(timestamp_ms: i64, timeout_ms: i64, now_ms: i64) -> bool {
    timeout_ms != 0 && i128::from(timestamp_ms) + i128::from(timeout_ms) < i128::from(now_ms)
}

pub(super) fn value_or_null<'a, T>(
    reader: &mut Reader<'a>,
    value: impl FnOnce(&mut Reader<'a>) -> Result<T, AvroError>,
) -> Result<Option<T>, AvroError> {
    if reader.union_index(2)? == VALUE { value(reader).map(Some) } else { Ok(None) }
}

/// A `["string", "null"]`.
pub(super) fn string_or_null<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, AvroError> {
    value_or_null(reader, Reader::string)
}

/// A trailing `["null", "string"] = null`.
pub(super) fn null_or_string_if_present<'a>(
    reader: &mut Reader<'a>,
) -> Result<Option<&'a str>, AvroError> {
    if reader.is_at_end() || reader.union_index(2)? == NULL_FIRST {
        return Ok(None);
    }
    reader.string().map(Some)
}

pub(super) fn put_string_or_null(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(text) => {
            put_union_index(out, VALUE);
            put_string(out, text);
        }
        None => put_union_index(out, NULL),
    }
}

pub(super) fn put_int_or_null(out: &mut Vec<u8>, value: Option<i32>) {
    match value {
        Some(int) => {
            put_union_index(out, VALUE);
            put_long(out, i64::from(int));
        }
        None => put_union_index(out, NULL),
    }
}

pub(super) fn put_null_or_string(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(text) => {
            put_union_index(out, VALUE_SECOND);
            put_string(out, text);
        }
        None => put_union_index(out, NULL_FIRST),
    }
}

/// What `Debug` shows of a password or a token.
pub(super) struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
