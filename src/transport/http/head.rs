//! Request lines and headers.

use std::ops::Range;

use super::Refusal;
use crate::transport::head::{self, Fault, HEADERS_MAX, Headers};

/// How a head says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// What a head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The path within the buffer.
    pub path: Range<usize>,
    pub framing: Framing,
    pub keeps_alive: bool,
    pub expects_continue: bool,
    /// Its size.
    pub bytes: usize,
}

/// Takes the head that `bytes` begin with, if it is there in full. `searched` is how far its end
/// has been searched.
pub(super) fn take(bytes: &[u8], searched: &mut usize) -> Result<Option<Head>, Refusal> {
    // No request begins like this, whatever follows: TLS, for example. Empty lines before a
    // request are none (RFC 9112 §2.2), and they count as a part of it.
    let first = bytes.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
    if first.is_some_and(|byte| !byte.is_ascii_alphabetic()) {
        return Err(Refusal::Malformed);
    }
    let lead = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let most = &bytes[..bytes.len().min(head::BYTES_MAX)];
    let Some(end) = head::end(most, lead, *searched) else {
        *searched = bytes.len();
        return if bytes.len() < head::BYTES_MAX { Ok(None) } else { Err(Refusal::HeadTooLarge) };
    };
    parse(&bytes[..end], lead).map(Some)
}

/// Parses a head that `lead` bytes of empty lines come before.
fn parse(bytes: &[u8], lead: usize) -> Result<Head, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let request = head::parse(&bytes[lead..], &mut headers).map_err(|fault| match fault {
        Fault::TooManyHeaders => Refusal::HeadTooLarge,
        Fault::Version => Refusal::Version,
        Fault::Malformed => Refusal::Malformed,
    })?;
    if request.method != Some("POST") {
        return Err(Refusal::Method);
    }
    let is_1_1 = request.version == Some(1);
    let headers = Headers(request.headers);
    let hosts = headers.all("host").count();
    if hosts > 1 || hosts == 0 && is_1_1 {
        return Err(Refusal::Host);
    }
    let path = head::path(request.path.unwrap_or_default());
    // Of the same buffer.
    let path_at = path.as_ptr().addr() - bytes.as_ptr().addr();
    let names = |token| headers.names("connection", token);
    let expected = headers.all("expect").collect::<Vec<_>>();
    let expects_continue = match expected[..] {
        [] => false,
        [what] if what.eq_ignore_ascii_case("100-continue") => is_1_1,
        _ => return Err(Refusal::Expectation),
    };
    Ok(Head {
        path: path_at..path_at + path.len(),
        framing: framing(&headers, is_1_1)?,
        keeps_alive: if is_1_1 { !names("close") } else { names("keep-alive") },
        expects_continue,
        bytes: bytes.len(),
    })
}

/// Where the body ends. What an intermediary may understand otherwise is refused (RFC 9112 §6.3).
fn framing(headers: &Headers, is_1_1: bool) -> Result<Framing, Refusal> {
    let mut codings = headers.tokens("transfer-encoding");
    let mut lengths = headers.tokens("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (None, Some(length)) => {
            let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || lengths.any(|other| other != length) {
                return Err(Refusal::Length);
            }
            // One that does not fit is over any limit.
            Ok(Framing::Length(length.parse().unwrap_or(u64::MAX)))
        }
        (Some(_), Some(_)) => Err(Refusal::Length),
        // A version 1.0 peer may not understand it (RFC 9112 §6.1).
        (Some(_), None) if !is_1_1 => Err(Refusal::Length),
        (Some(coding), None) => {
            let is_chunked = coding.eq_ignore_ascii_case("chunked") && codings.next().is_none();
            if is_chunked { Ok(Framing::Chunked) } else { Err(Refusal::TransferCoding) }
        }
    }
}

/// The resource path that a request's path stands for: what follows its first `/`, percent-decoded
/// into `into`. `None`: it is none that could be a topic. An encoded slash would be a level that
/// nobody sees.
pub fn resource_path<'a>(path: &str, into: &'a mut Vec<u8>) -> Option<&'a str> {
    into.clear();
    let mut rest = path.strip_prefix('/')?.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        rest = others;
        let byte = if first == b'%' {
            let (digits, others) = rest.split_first_chunk::<2>()?;
            rest = others;
            let digits = std::str::from_utf8(digits).ok()?;
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(digits, 16).ok().filter(|byte| is_hex && *byte != b'/')?
        } else {
            first
        };
        if byte.is_ascii_control() || matches!(byte, b'+' | b'#') {
            return None;
        }
        into.push(byte);
    }
    std::str::from_utf8(into).ok()
}
