//! Responses.

use std::time::{Duration, UNIX_EPOCH};

/// Tells a client that waits for it to go on with its body (RFC 9110 §10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A final response.
#[derive(Debug)]
pub struct Response<'a> {
    /// From 200 to 599.
    pub status_code: u16,
    /// As [`date`] makes it.
    pub date: &'a str,
    /// What the body is; said where there is one.
    pub content_type: &'a str,
    /// The body; there is none with 204 and 304.
    pub body: &'a [u8],
    /// Whether the client may send another request.
    pub keeps_alive: bool,
}

impl Response<'_> {
    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut number = itoa::Buffer::new();
        let mut put =
            |parts: &[&str]| parts.iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
        put(&["HTTP/1.1 ", number.format(self.status_code), " ", reason(self.status_code), "\r\n"]);
        put(&["Date: ", self.date, "\r\n"]);
        // RFC 9110 §6.4.1, §15.3.6, §15.4.5.
        let may_have_body = !matches!(self.status_code, 204 | 304);
        let body = if may_have_body && self.status_code != 205 { self.body } else { &[] };
        if !body.is_empty() {
            put(&["Content-Type: ", self.content_type, "\r\n"]);
        }
        if may_have_body {
            put(&["Content-Length: ", number.format(body.len()), "\r\n"]);
        }
        if self.status_code == 405 {
            put(&["Allow: POST\r\n"]);
        }
        // Said also where it is understood: a client of version 1.0 needs it.
        let connection = if self.keeps_alive { "keep-alive" } else { "close" };
        put(&["Connection: ", connection, "\r\n\r\n"]);
        out.extend_from_slice(body);
    }
}

/// The time of a response in the form that HTTP wants (RFC 9110 §5.6.7).
pub fn date(unix_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s))
}

/// The usual phrase; an empty one is as good (RFC 9112 §4).
fn reason(status_code: u16) -> &'static str {
    match status_code {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
