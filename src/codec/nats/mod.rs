//! The client side of the NATS protocol: what a server sends is parsed in place, what a client
//! sends is appended to the caller's buffer.
//!
//! Source: the NATS client protocol reference (docs.nats.io, "Client Protocol") and, for the
//! `Nats-Subject` header of a `no responders` notice, nats-server 2.15.

mod encode;
mod headers;
mod info;
mod parse;

use std::fmt;

pub use encode::{Connect, PING, PONG, connect, publish_head, subscribe, unsubscribe};
pub use headers::{HEADER_SUBJECT, Headers, STATUS_NO_RESPONDERS};
pub use info::ServerInfo;
pub use parse::{Parsed, ServerOp, parse};

/// A control line may be at most this long, CRLF excluded (the server's `max_control_line`).
pub const CONTROL_LINE_BYTES_MAX: usize = 4096;
/// An INFO line may be longer: it lists every server of the cluster.
pub const INFO_LINE_BYTES_MAX: usize = 64 * 1024;

/// Why bytes from a server are not NATS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsError {
    /// A line does not begin with an operation of the protocol.
    UnknownOperation,
    /// A line is longer than [`CONTROL_LINE_BYTES_MAX`], or [`INFO_LINE_BYTES_MAX`] for INFO.
    LineTooLong,
    /// MSG or HMSG has the wrong number of arguments, or an argument that is no number where one
    /// must be.
    BadArguments,
    /// The headers of an HMSG are longer than the whole message.
    HeadersLongerThanMessage,
    /// The headers of an HMSG do not begin with `NATS/1.0` or do not end with an empty line.
    BadHeaders,
    /// A payload is larger than allowed. Reported before the payload has arrived.
    PayloadTooLarge,
    /// A payload is not followed by CRLF.
    PayloadNotTerminated,
    /// INFO or -ERR is not UTF-8.
    NotUtf8,
}

impl fmt::Display for NatsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NatsError::UnknownOperation => "a line begins with no operation of the NATS protocol",
            NatsError::LineTooLong => "a control line is too long",
            NatsError::BadArguments => "MSG or HMSG has bad arguments",
            NatsError::HeadersLongerThanMessage => "headers are longer than their message",
            NatsError::BadHeaders => "headers are malformed",
            NatsError::PayloadTooLarge => "a payload is larger than allowed",
            NatsError::PayloadNotTerminated => "a payload is not followed by CRLF",
            NatsError::NotUtf8 => "INFO or -ERR is not UTF-8",
        })
    }
}

impl std::error::Error for NatsError {}
