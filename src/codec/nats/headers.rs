//! The header block of an HMSG.

use memchr::memchr;
use memchr::memmem::find;

use super::NatsError;

/// Status of a `no responders` notice.
pub const STATUS_NO_RESPONDERS: u16 = 503;
/// Header of a `no responders` notice that names the subject published to (nats-server 2.15 and
/// newer).
pub const HEADER_SUBJECT: &str = "Nats-Subject";

const VERSION: &[u8] = b"NATS/1.0";
const BLOCK_END: &[u8] = b"\r\n\r\n";

/// A header block: `NATS/1.0[ status[ description]]`, then `Name: value` lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    status: Option<u16>,
    /// The lines after the first, each with its CRLF.
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// # Errors
    /// [`NatsError::BadHeaders`]: wrong version, or no empty line at the end.
    pub(super) fn parse(block: &'a [u8]) -> Result<Headers<'a>, NatsError> {
        let ends_right = block.ends_with(BLOCK_END);
        let rest = block.strip_prefix(VERSION).filter(|_| ends_right);
        let rest = rest.ok_or(NatsError::BadHeaders)?;
        let line_end = find(rest, b"\r\n").ok_or(NatsError::BadHeaders)?;
        let status_line = &rest[..line_end];
        if !status_line.is_empty() && status_line[0] != b' ' {
            return Err(NatsError::BadHeaders);
        }
        let status = status_line.trim_ascii_start().get(..3).and_then(super::parse::number);
        Ok(Headers { status: status.map(|status| status as u16), lines: &rest[line_end + 2..] })
    }

    /// The status in the first line, if there is one.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Value of the first header of that name, without the white space around it. Upper and lower
    /// case are told apart, as NATS does.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let mut lines = self.lines;
        while let Some(end) = find(lines, b"\r\n") {
            let line = &lines[..end];
            lines = &lines[end + 2..];
            let Some(colon) = memchr(b':', line) else { continue };
            if &line[..colon] == name.as_bytes() {
                return Some(line[colon + 1..].trim_ascii());
            }
        }
        None
    }
}
