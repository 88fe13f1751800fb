//! Bodies, of a length said before or in chunks (RFC 9112 §6, §7.1).

use super::Refusal;
use super::head::{Framing, Head};

/// Bytes of a line that says how large a chunk is, its extensions included.
const SIZE_LINE_BYTES_MAX: usize = 256;
/// Bytes that chunks may cost beyond twice what is in them.
const OVERHEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all trailers.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// A body on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Of so many bytes.
    Length(usize),
    /// In chunks.
    Chunked(Chunks),
}

/// How far the chunks of a body have been taken. They are put together at the body's beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    stage: Stage,
    /// Bytes put together.
    length: usize,
    /// Bytes done with.
    at: usize,
    /// Of the line or the trailers under way, bytes that have been searched for its end.
    searched: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The line with the size of the next chunk.
    #[default]
    Size,
    /// A chunk, of which so much is still to come.
    Data(usize),
    /// The end of the line after it.
    End,
    /// After the last chunk; so many bytes of trailers have come.
    Trailers(usize),
}

impl Body {
    pub(super) fn new(head: &Head, bytes_max: usize) -> Result<Self, Refusal> {
        match head.framing {
            Framing::Chunked => Ok(Self::Chunked(Chunks::default())),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= bytes_max => Ok(Self::Length(length)),
                _ => Err(Refusal::BodyTooLarge),
            },
        }
    }

    /// Reads on in `bytes`, which begin with the body; its length once it is whole, and how many
    /// bytes it was on the wire.
    pub(super) fn take(
        &mut self,
        bytes: &mut [u8],
        bytes_max: usize,
    ) -> Result<Option<(usize, usize)>, Refusal> {
        match self {
            Self::Length(length) => Ok((bytes.len() >= *length).then_some((*length, *length))),
            Self::Chunked(chunks) => chunks.take(bytes, bytes_max),
        }
    }
}

impl Chunks {
    fn take(
        &mut self,
        bytes: &mut [u8],
        bytes_max: usize,
    ) -> Result<Option<(usize, usize)>, Refusal> {
        loop {
            match self.stage {
                Stage::Size => {
                    let Some(line) = self.line(bytes, SIZE_LINE_BYTES_MAX, Refusal::Chunks)? else {
                        return Ok(None);
                    };
                    let size = size(&bytes[line])?;
                    if size > bytes_max - self.length {
                        return Err(Refusal::BodyTooLarge);
                    }
                    if self.at > 2 * self.length + OVERHEAD_BYTES_MAX {
                        return Err(Refusal::Chunks);
                    }
                    self.stage = if size == 0 { Stage::Trailers(0) } else { Stage::Data(size) };
                }
                Stage::Data(left) => {
                    let taken = left.min(bytes.len() - self.at);
                    bytes.copy_within(self.at..self.at + taken, self.length);
                    self.at += taken;
                    self.length += taken;
                    if taken < left {
                        self.stage = Stage::Data(left - taken);
                        return Ok(None);
                    }
                    self.stage = Stage::End;
                }
                Stage::End => {
                    let Some(end) = bytes.get(self.at..self.at + 2) else { return Ok(None) };
                    if end != b"\r\n" {
                        return Err(Refusal::Chunks);
                    }
                    self.at += 2;
                    self.stage = Stage::Size;
                }
                Stage::Trailers(before) => {
                    let Some(line) =
                        self.line(bytes, TRAILER_BYTES_MAX - before, Refusal::HeadTooLarge)?
                    else {
                        return Ok(None);
                    };
                    if line.is_empty() {
                        return Ok(Some((self.length, self.at)));
                    }
                    let trailers = before + line.len() + 2;
                    self.stage = Stage::Trailers(trailers.min(TRAILER_BYTES_MAX));
                }
            }
        }
    }

    /// The next line, without its end, if it is there. One of more than `bytes_max` is `too_long`.
    fn line(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        too_long: Refusal,
    ) -> Result<Option<std::ops::Range<usize>>, Refusal> {
        let rest = &bytes[self.at..];
        let Some(found) = memchr::memchr(b'\n', &rest[self.searched..]) else {
            self.searched = rest.len();
            return if rest.len() <= bytes_max { Ok(None) } else { Err(too_long) };
        };
        let end = self.searched + found;
        if end > bytes_max {
            return Err(too_long);
        }
        if end == 0 || rest[end - 1] != b'\r' {
            return Err(Refusal::Chunks);
        }
        let line = self.at..self.at + end - 1;
        self.at += end + 1;
        self.searched = 0;
        Ok(Some(line))
    }
}

/// The size that a line says; extensions are nothing to us, but they must be text: a CR alone could
/// end the line for an intermediary (RFC 9112 §2.2).
fn size(line: &[u8]) -> Result<usize, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let mut rest = line[digits..].iter().skip_while(|byte| matches!(byte, b' ' | b'\t'));
    let is_text = line.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if digits == 0 || !is_text || rest.next().is_some_and(|byte| *byte != b';') {
        return Err(Refusal::Chunks);
    }
    let digits = std::str::from_utf8(&line[..digits]).unwrap_or_default();
    // One that does not fit is over any limit.
    Ok(usize::from_str_radix(digits, 16).unwrap_or(usize::MAX))
}
