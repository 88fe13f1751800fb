//! The server's side of HTTP/1.1 (RFC 9112) as far as `POST` needs it: bytes of a connection to
//! requests, and responses to bytes.
//!
//! The bytes that are not taken yet lie in one buffer that begins with the request being read, so
//! what is said of a request are places in it. Nothing is looked at twice, however small the pieces
//! that it comes in.

mod body;
mod head;
mod response;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use head::resource_path;
pub use response::{CONTINUE, Response, date};

use self::body::Body;
use self::head::Head;

/// What is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No request of HTTP.
    Malformed,
    /// Another version than 1.0 and 1.1.
    Version,
    /// The request line and headers are over 8 KiB, or more than 64.
    HeadTooLarge,
    /// A method other than POST.
    Method,
    /// Not exactly one `Host` (RFC 9112 §3.2).
    Host,
    /// Where the body ends can be understood in more than one way (RFC 9112 §6.3).
    Length,
    /// The body is over the limit.
    BodyTooLarge,
    /// A transfer coding other than chunked.
    TransferCoding,
    /// A body in chunks that are none.
    Chunks,
    /// Something else than 100-continue is expected.
    Expectation,
}

impl Refusal {
    /// The status code of its response.
    pub fn status_code(self) -> u16 {
        match self {
            Self::Malformed | Self::Host | Self::Length | Self::Chunks => 400,
            Self::Method => 405,
            Self::BodyTooLarge => 413,
            Self::Expectation => 417,
            Self::HeadTooLarge => 431,
            Self::TransferCoding => 501,
            Self::Version => 505,
        }
    }

    /// What is wrong.
    pub fn why(self) -> &'static str {
        match self {
            Self::Malformed => "this is no request of HTTP",
            Self::Version => "only HTTP/1.1 and HTTP/1.0 are spoken here",
            Self::HeadTooLarge => "the request line and headers are too large",
            Self::Method => "only POST is served here",
            Self::Host => "a request has one Host",
            Self::Length => "Content-Length and Transfer-Encoding do not agree",
            Self::BodyTooLarge => "the body is too large",
            Self::TransferCoding => "only chunked is understood as Transfer-Encoding",
            Self::Chunks => "the chunks of the body are malformed",
            Self::Expectation => "only 100-continue is understood as Expect",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.why())
    }
}

/// What has been read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// More must come.
    More,
    /// The client waits to be told to go on with [`CONTINUE`]; it is told once.
    Continue,
    /// A whole request.
    Request(Request),
}

/// A whole request, by places in the buffer it was read from.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, still percent-encoded, without its query.
    pub path: Range<usize>,
    /// The body, decoded.
    pub body: Range<usize>,
    /// Whether the client may send another one.
    pub keeps_alive: bool,
    /// How many bytes of the buffer it was.
    pub bytes: usize,
}

/// Reads the requests of one connection.
#[derive(Debug, Default)]
pub struct RequestReader {
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The end of the head has not come; so many bytes have been searched for it.
    Head { searched: usize },
    /// The head is known.
    Body { head: Head, body: Body },
}

impl Default for Stage {
    fn default() -> Self {
        Self::Head { searched: 0 }
    }
}

impl RequestReader {
    /// Reads on. `bytes` is all that came since the last request was taken; chunks among them are
    /// put together where they lie. After a whole request, the next call wants what follows it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing more can be read from the connection.
    pub fn read(&mut self, bytes: &mut [u8], body_bytes_max: usize) -> Result<Read, Refusal> {
        if let Stage::Head { searched } = &mut self.stage {
            let Some(head) = head::take(bytes, searched)? else { return Ok(Read::More) };
            let body = Body::new(&head, body_bytes_max)?;
            let is_awaited = head.expects_continue && bytes.len() == head.bytes;
            let is_empty = matches!(body, Body::Length(0));
            self.stage = Stage::Body { head, body };
            if is_awaited && !is_empty {
                return Ok(Read::Continue);
            }
        }
        let Stage::Body { head, body } = &mut self.stage else { return Ok(Read::More) };
        let Some((length, end)) = body.take(&mut bytes[head.bytes..], body_bytes_max)? else {
            return Ok(Read::More);
        };
        let request = Request {
            path: head.path.clone(),
            body: head.bytes..head.bytes + length,
            keeps_alive: head.keeps_alive,
            bytes: head.bytes + end,
        };
        self.stage = Stage::default();
        Ok(Read::Request(request))
    }
}
