//! Heads of requests of HTTP/1.1, as far as all who read them here read them alike.

use httparse::{Error, Header, Request, Status};

/// Bytes of a head.
pub(super) const BYTES_MAX: usize = 8 * 1024;
/// Headers of a request.
pub(super) const HEADERS_MAX: usize = 64;
/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// Why a head is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has more headers than may be.
    TooManyHeaders,
    /// It is of no version that is spoken here.
    Version,
    /// It is no head.
    Malformed,
}

/// Where the head ends that is in `bytes` from `start` on; `searched` bytes have been searched
/// before.
pub(super) fn end(bytes: &[u8], start: usize, searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(END.len() - 1).max(start).min(bytes.len());
    memchr::memmem::find(&bytes[from..], END).map(|at| from + at + END.len())
}

/// Parses a whole head.
pub(super) fn parse<'h, 'b>(
    bytes: &'b [u8],
    headers: &'h mut [Header<'b>; HEADERS_MAX],
) -> Result<Request<'h, 'b>, Fault> {
    // An LF alone would end a line for httparse, and even the head, but not for every intermediary
    // (RFC 9112 §2.2): what one of them takes for a value must not be a header here.
    if !memchr::memchr_iter(b'\n', bytes).all(|at| at > 0 && bytes[at - 1] == b'\r') {
        return Err(Fault::Malformed);
    }
    let mut request = Request::new(headers);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => Ok(request),
        Err(Error::TooManyHeaders) => Err(Fault::TooManyHeaders),
        Err(Error::Version) => Err(Fault::Version),
        Ok(Status::Partial) | Err(_) => Err(Fault::Malformed),
    }
}

/// The path of a target in origin form or absolute form (RFC 9112 §3.2), without its query: a slice
/// of the target also where it is empty.
pub(super) fn path(target: &str) -> &str {
    let target = &target[..target.find(['?', '#']).unwrap_or(target.len())];
    if target.starts_with('/') {
        return target;
    }
    let scheme = ["http://", "https://", "ws://", "wss://"].into_iter().find(|scheme| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    let rest = &target[scheme.map_or(target.len(), str::len)..];
    // Without an authority it is none.
    let at = rest.find('/').filter(|at| *at > 0);
    &rest[at.unwrap_or(rest.len())..]
}

/// The headers of a request.
pub(super) struct Headers<'a>(pub &'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// Values of a header, in the order of the request; one that is no text is empty.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let of_name = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        of_name.map(|header| trim(std::str::from_utf8(header.value).unwrap_or_default()))
    }

    /// The value of a header that stands there once.
    pub fn only(&self, name: &str) -> Option<&'a str> {
        let mut all = self.all(name);
        let value = all.next()?;
        all.next().is_none().then_some(value)
    }

    /// The elements of a header that is a list.
    pub fn tokens(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(trim)
    }

    /// Whether a header that is a list names that.
    pub fn names(&self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|found| found.eq_ignore_ascii_case(token))
    }
}

/// Without the white space around it that is none of it (RFC 9110 §5.6.3). What else Unicode calls
/// white space is a part of the value.
fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_target_is_what_an_intermediary_takes_for_it() {
        for (target, expected) in [
            ("/a/b?c#d", "/a/b"),
            ("//a?/b", "//a"),
            ("http://gate:80/a?b", "/a"),
            ("HTTPS://gate/a#/b", "/a"),
            ("ws://gate/ws", "/ws"),
            ("http://gate", ""),
            ("http://gate?x=/a", ""),
            ("http:///a", ""),
            ("x?u=http://gate/a", ""),
            ("ftp://gate/a", ""),
            ("*", ""),
            ("ä", ""),
        ] {
            assert_eq!(path(target), expected, "{target}");
        }
    }
}
