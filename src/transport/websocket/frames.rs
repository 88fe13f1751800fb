//! Headers of frames (RFC 6455 §5.2).

use crate::telemetry::WebSocketFailure;

/// What a header is at most: two bytes, eight of length, four of the mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;
/// What a control frame may carry (RFC 6455 §5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
/// In place of the length: it follows in two bytes, in eight.
const LENGTH_IN_2: u8 = 126;
const LENGTH_IN_8: u8 = 127;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// More of the message that an earlier frame began.
    Continuation,
    /// The beginning of a text message.
    Text,
    /// The beginning of a binary message.
    Binary,
    /// The peer sends no more.
    Close,
    /// The peer wants a pong.
    Ping,
    /// What a ping asked for, or a sign of life.
    Pong,
}

impl Opcode {
    fn of(first: u8) -> Option<Self> {
        Some(match first & 0x0f {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// Whether it is about the connection rather than part of a message.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub opcode: Opcode,
    /// Whether its message ends with it.
    pub is_final: bool,
    pub payload_bytes: u64,
    pub mask: [u8; 4],
}

/// Reads the header that `bytes` begin with, and how many they are; `None` while more are needed.
/// What is wrong is found with the first byte that shows it.
///
/// # Errors
/// No client may send this.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, WebSocketFailure> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let is_final = first & FINAL != 0;
    let opcode = Opcode::of(first).filter(|_| first & RESERVED == 0);
    let opcode = opcode.ok_or(WebSocketFailure::BadFrame)?;
    if opcode.is_control() && !is_final {
        return Err(WebSocketFailure::BadFrame);
    }
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(WebSocketFailure::Unmasked);
    }
    let short = second & LENGTH;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(WebSocketFailure::BadFrame);
    }
    let long = &bytes[2..];
    let (payload_bytes, mask) = match short {
        LENGTH_IN_2 => {
            let Some((length, rest)) = long.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        LENGTH_IN_8 => {
            let Some((length, rest)) = long.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*length), rest)
        }
        _ => (u64::from(short), long),
    };
    // In as few bytes as it fits in, and not over 63 bits.
    let is_right = match short {
        LENGTH_IN_2 => payload_bytes >= u64::from(LENGTH_IN_2),
        LENGTH_IN_8 => payload_bytes > u64::from(u16::MAX) && payload_bytes >> 63 == 0,
        _ => true,
    };
    if !is_right {
        return Err(WebSocketFailure::BadFrame);
    }
    let Some((mask, rest)) = mask.split_first_chunk() else { return Ok(None) };
    let header = Header { opcode, is_final, payload_bytes, mask: *mask };
    Ok(Some((header, bytes.len() - rest.len())))
}

/// Appends a frame of ours: whole, and not masked.
pub(super) fn write(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(FINAL | opcode.bits());
    match payload.len() {
        length @ 0..126 => out.push(length as u8),
        length => match u16::try_from(length) {
            Ok(length) => {
                out.push(LENGTH_IN_2);
                out.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                out.push(LENGTH_IN_8);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
    out.extend_from_slice(payload);
}

/// Whether a peer may give this code for its end (RFC 6455 §7.4 and the registry it founded).
pub(super) fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
