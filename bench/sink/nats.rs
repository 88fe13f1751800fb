//! As much of the NATS client protocol as a receiver needs that discards what it is told.

use std::fmt;
use std::net::SocketAddr;

/// Answer to a PING.
pub const PONG: &[u8; 6] = b"PONG\r\n";
/// The longest control line accepted; nats-server's own default is 4,096.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What INFO announces as the longest payload.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The greeting of a server without authentication, TLS or a cluster.
pub fn info(address: SocketAddr) -> String {
    format!(
        "INFO {{\"server_id\":\"BENCHSINK\",\"server_name\":\"bench-sink\",\"version\":\"2.12.0\",\
         \"proto\":1,\"go\":\"none\",\"host\":\"{}\",\"port\":{},\"headers\":true,\
         \"max_payload\":{PAYLOAD_BYTES_MAX},\"client_id\":1}}\r\n",
        address.ip(),
        address.port()
    )
}

/// What a stretch of the stream held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub messages: u64,
    pub pings: u64,
}

/// Why the stream makes no sense; the connection is given up.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    LineTooLong,
    Verb(String),
    Size(String),
    PayloadTooLong(usize),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong => write!(f, "a control line is longer than {LINE_BYTES_MAX} bytes"),
            Self::Verb(line) => write!(f, "unknown NATS verb in {line:?}"),
            Self::Size(line) => write!(f, "no payload size at the end of {line:?}"),
            Self::PayloadTooLong(bytes) => write!(f, "a payload of {bytes} bytes"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Follows the stream from read to read: steps over payloads, counts PUB and PING.
#[derive(Default)]
pub struct Scanner {
    /// Bytes of a payload (with its CRLF) still to come.
    payload_left: usize,
    /// The beginning of a control line that a read cut off.
    line: Vec<u8>,
}

impl Scanner {
    pub fn scan(&mut self, mut bytes: &[u8]) -> Result<Found, Malformed> {
        let mut found = Found::default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skip = self.payload_left.min(bytes.len());
                self.payload_left -= skip;
                bytes = &bytes[skip..];
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return if self.line.len() > LINE_BYTES_MAX {
                    Err(Malformed::LineTooLong)
                } else {
                    Ok(found)
                };
            };
            if self.line.is_empty() {
                self.payload_left = control_line(&bytes[..end], &mut found)?;
            } else {
                self.line.extend_from_slice(&bytes[..end]);
                self.payload_left = control_line(&self.line, &mut found)?;
                self.line.clear();
            }
            bytes = &bytes[end + 1..];
        }
        Ok(found)
    }
}

/// Takes one line without its LF; tells how many bytes of payload and CRLF follow it.
fn control_line(line: &[u8], found: &mut Found) -> Result<usize, Malformed> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let verb = line.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    if verb.eq_ignore_ascii_case(b"PUB") || verb.eq_ignore_ascii_case(b"HPUB") {
        found.messages += 1;
        return Ok(payload_bytes(line)? + b"\r\n".len());
    }
    if verb.eq_ignore_ascii_case(b"PING") {
        found.pings += 1;
        return Ok(0);
    }
    let silent: [&[u8]; 5] = [b"PONG", b"CONNECT", b"SUB", b"UNSUB", b""];
    if silent.iter().any(|known| verb.eq_ignore_ascii_case(known)) {
        return Ok(0);
    }
    Err(Malformed::Verb(text(line)))
}

/// The last word of a PUB or HPUB line: all that follows it, headers included.
fn payload_bytes(line: &[u8]) -> Result<usize, Malformed> {
    let last = line.rsplit(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    let size: usize = std::str::from_utf8(last)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Malformed::Size(text(line)))?;
    if size > PAYLOAD_BYTES_MAX { Err(Malformed::PayloadTooLong(size)) } else { Ok(size) }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"CONNECT {}\r\nPING\r\nPUB a.b r.x 6\r\nPING\r\n\r\nSUB a 1\r\n\
        HPUB a 2 8\r\nPUB x 9\r\n\r\nPUB c 0\r\n\r\nPING\r\n";

    #[test]
    fn counts_a_ping_outside_payloads_only() {
        let found = Scanner::default().scan(STREAM);
        assert_eq!(found, Ok(Found { messages: 3, pings: 2 }));
    }

    #[test]
    fn finds_the_same_however_the_stream_is_cut() {
        for cut in 1..STREAM.len() {
            let mut scanner = Scanner::default();
            let mut sum = Found::default();
            for part in [&STREAM[..cut], &STREAM[cut..]] {
                let found = scanner.scan(part).expect("a good stream");
                sum.messages += found.messages;
                sum.pings += found.pings;
            }
            assert_eq!(sum, Found { messages: 3, pings: 2 }, "cut at {cut}");
        }
    }

    #[test]
    fn refuses_what_is_no_nats() {
        assert!(matches!(Scanner::default().scan(b"GET / HTTP/1.1\n"), Err(Malformed::Verb(_))));
        assert!(matches!(Scanner::default().scan(b"PUB a b\r\n"), Err(Malformed::Size(_))));
    }
}
