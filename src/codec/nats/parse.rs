//! Operations of a server, parsed in place.

use memchr::{memchr, memchr2};

use super::{CONTROL_LINE_BYTES_MAX, Headers, INFO_LINE_BYTES_MAX, NatsError};

/// One operation of a server; everything in it borrows from the bytes parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// The server's JSON about itself, for [`ServerInfo::from_json`](super::ServerInfo::from_json).
    Info(&'a str),
    /// A message.
    Msg {
        /// Subject it was published to.
        subject: &'a [u8],
        /// Number of our subscription.
        sid: u64,
        /// Where to answer.
        reply: Option<&'a [u8]>,
        /// Content.
        payload: &'a [u8],
    },
    /// A message with headers.
    HMsg {
        /// Subject it was published to.
        subject: &'a [u8],
        /// Number of our subscription.
        sid: u64,
        /// Where to answer.
        reply: Option<&'a [u8]>,
        /// Headers.
        headers: Headers<'a>,
        /// Content.
        payload: &'a [u8],
    },
    /// The server wants a PONG.
    Ping,
    /// The answer to our PING.
    Pong,
    /// `+OK`, in verbose mode.
    Ok,
    /// `-ERR`, the text without its quotes.
    Err(&'a str),
}

/// Outcome of looking at the front of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The operation is not complete: at least so many bytes are missing.
    NeedMore(usize),
    /// An operation and the number of bytes it took.
    Op(ServerOp<'a>, usize),
}

/// Parses the operation at the front of `bytes`. Operations are recognised in upper and lower case,
/// as the protocol says.
///
/// # Errors
/// [`NatsError`]; the stream cannot be read on after it. A payload above `payload_bytes_max` and a
/// line that is too long are reported before all of it has come.
pub fn parse(bytes: &[u8], payload_bytes_max: usize) -> Result<Parsed<'_>, NatsError> {
    let line_bytes_max = match bytes.first() {
        Some(b'I' | b'i') => INFO_LINE_BYTES_MAX,
        _ => CONTROL_LINE_BYTES_MAX,
    };
    let window = &bytes[..bytes.len().min(line_bytes_max + 2)];
    let line_end = match memchr(b'\n', window) {
        Some(newline) if newline > 0 && bytes[newline - 1] == b'\r' => newline - 1,
        Some(_) => return Err(NatsError::UnknownOperation),
        None if window.len() == line_bytes_max + 2 => return Err(NatsError::LineTooLong),
        None if !may_begin_an_operation(bytes) => return Err(NatsError::UnknownOperation),
        None => return Ok(Parsed::NeedMore(1)),
    };
    let line = &bytes[..line_end];
    let after_line = line_end + 2;
    let name_end = memchr2(b' ', b'\t', line).unwrap_or(line.len());
    let (name, arguments) = line.split_at(name_end);
    let op = match name {
        name if name.eq_ignore_ascii_case(b"MSG") => {
            return message(bytes, after_line, arguments, payload_bytes_max);
        }
        name if name.eq_ignore_ascii_case(b"HMSG") => {
            return message_with_headers(bytes, after_line, arguments, payload_bytes_max);
        }
        name if name.eq_ignore_ascii_case(b"PING") => ServerOp::Ping,
        name if name.eq_ignore_ascii_case(b"PONG") => ServerOp::Pong,
        name if name.eq_ignore_ascii_case(b"+OK") => ServerOp::Ok,
        name if name.eq_ignore_ascii_case(b"INFO") => ServerOp::Info(text(arguments)?),
        name if name.eq_ignore_ascii_case(b"-ERR") => {
            ServerOp::Err(text(arguments)?.trim_matches('\''))
        }
        _ => return Err(NatsError::UnknownOperation),
    };
    Ok(Parsed::Op(op, after_line))
}

/// Whether a line that has only begun can still become an operation.
fn may_begin_an_operation(bytes: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [b"MSG", b"HMSG", b"PING", b"PONG", b"+OK", b"INFO", b"-ERR"];
    NAMES.iter().any(|name| {
        let common = name.len().min(bytes.len());
        bytes[..common].eq_ignore_ascii_case(&name[..common])
    })
}

fn text(bytes: &[u8]) -> Result<&str, NatsError> {
    std::str::from_utf8(bytes.trim_ascii()).map_err(|_| NatsError::NotUtf8)
}

/// `MSG <subject> <sid> [reply] <size>`.
fn message<'a>(
    bytes: &'a [u8],
    after_line: usize,
    arguments: &'a [u8],
    payload_bytes_max: usize,
) -> Result<Parsed<'a>, NatsError> {
    let (arguments, count) = split_arguments(arguments)?;
    let (reply, size) = match count {
        3 => (None, arguments[2]),
        4 => (Some(arguments[2]), arguments[3]),
        _ => return Err(NatsError::BadArguments),
    };
    let sid = number(arguments[1]).ok_or(NatsError::BadArguments)?;
    let size = size_of_payload(size)?;
    let (payload, consumed) = match body(bytes, after_line, size, payload_bytes_max)? {
        Body::Missing(missing) => return Ok(Parsed::NeedMore(missing)),
        Body::Complete(payload, consumed) => (payload, consumed),
    };
    Ok(Parsed::Op(ServerOp::Msg { subject: arguments[0], sid, reply, payload }, consumed))
}

/// `HMSG <subject> <sid> [reply] <header size> <total size>`.
fn message_with_headers<'a>(
    bytes: &'a [u8],
    after_line: usize,
    arguments: &'a [u8],
    payload_bytes_max: usize,
) -> Result<Parsed<'a>, NatsError> {
    let (arguments, count) = split_arguments(arguments)?;
    let (reply, headers_size, size) = match count {
        4 => (None, arguments[2], arguments[3]),
        5 => (Some(arguments[2]), arguments[3], arguments[4]),
        _ => return Err(NatsError::BadArguments),
    };
    let sid = number(arguments[1]).ok_or(NatsError::BadArguments)?;
    let (headers_size, size) = (size_of_payload(headers_size)?, size_of_payload(size)?);
    if headers_size > size {
        return Err(NatsError::HeadersLongerThanMessage);
    }
    let (body, consumed) = match body(bytes, after_line, size, payload_bytes_max)? {
        Body::Missing(missing) => return Ok(Parsed::NeedMore(missing)),
        Body::Complete(body, consumed) => (body, consumed),
    };
    let headers = Headers::parse(&body[..headers_size])?;
    let (subject, payload) = (arguments[0], &body[headers_size..]);
    Ok(Parsed::Op(ServerOp::HMsg { subject, sid, reply, headers, payload }, consumed))
}

/// Arguments of the longest line, an HMSG with a reply subject.
const ARGUMENTS_MAX: usize = 5;

fn split_arguments(mut rest: &[u8]) -> Result<([&[u8]; ARGUMENTS_MAX], usize), NatsError> {
    let mut arguments = [&rest[..0]; ARGUMENTS_MAX];
    let mut count = 0;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok((arguments, count));
        }
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        *arguments.get_mut(count).ok_or(NatsError::BadArguments)? = &rest[..end];
        count += 1;
        rest = &rest[end..];
    }
}

enum Body<'a> {
    Missing(usize),
    Complete(&'a [u8], usize),
}

/// The `size` bytes after a control line, which CRLF must follow.
fn body(bytes: &[u8], at: usize, size: usize, size_max: usize) -> Result<Body<'_>, NatsError> {
    if size > size_max {
        return Err(NatsError::PayloadTooLarge);
    }
    let end = at + size;
    let consumed = end + 2;
    if bytes.len() < consumed {
        return Ok(Body::Missing(consumed - bytes.len()));
    }
    if &bytes[end..consumed] != b"\r\n" {
        return Err(NatsError::PayloadNotTerminated);
    }
    Ok(Body::Complete(&bytes[at..end], consumed))
}

/// A size, saturating where `usize` is too small: such a payload is too large in any case.
fn size_of_payload(digits: &[u8]) -> Result<usize, NatsError> {
    let size = number(digits).ok_or(NatsError::BadArguments)?;
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}

/// A decimal number of at most 18 digits.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_MAX: usize = 100;

    fn op(bytes: &[u8]) -> ServerOp<'_> {
        match parse(bytes, SIZE_MAX) {
            Ok(Parsed::Op(op, consumed)) if consumed == bytes.len() => op,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_messages_with_and_without_reply_and_headers() {
        let (subject, sid) = (&b"a.b"[..], 12);
        let (reply, payload) = (Some(&b"r"[..]), &b"hi"[..]);
        assert_eq!(op(b"MSG a.b 12 r 2\r\nhi\r\n"), ServerOp::Msg { subject, sid, reply, payload });
        let reply = None;
        assert_eq!(
            op(b"msg\ta.b  12\t2\r\nhi\r\n"),
            ServerOp::Msg { subject, sid, reply, payload }
        );
        let message = b"HMSG a.b 12 r 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nhi\r\n";
        let ServerOp::HMsg { subject, sid, reply, headers, payload } = op(message) else {
            panic!("{:?}", op(message));
        };
        assert_eq!((subject, sid, reply, payload), (&b"a.b"[..], 12, Some(&b"r"[..]), &b"hi"[..]));
        assert_eq!((headers.status(), headers.get("A")), (None, Some(&b"1"[..])));
    }

    #[test]
    fn reads_no_responders_notices_of_newer_and_older_servers() {
        let notice = |bytes| match op(bytes) {
            ServerOp::HMsg { headers, payload: b"", .. } => {
                (headers.status(), headers.get("Nats-Subject").map(<[u8]>::to_vec))
            }
            other => panic!("{other:?}"),
        };
        let newer = b"HMSG rep.a 1 35 35\r\nNATS/1.0 503\r\nNats-Subject: foo\r\n\r\n\r\n";
        assert_eq!(notice(newer), (Some(503), Some(b"foo".to_vec())));
        let older = b"HMSG rep.a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        assert_eq!(notice(older), (Some(503), None));
    }

    #[test]
    fn reads_the_short_operations() {
        assert_eq!(op(b"PING\r\n"), ServerOp::Ping);
        assert_eq!(op(b"pong\r\n"), ServerOp::Pong);
        assert_eq!(op(b"+OK\r\n"), ServerOp::Ok);
        assert_eq!(op(b"-ERR 'Stale Connection'\r\n"), ServerOp::Err("Stale Connection"));
        assert_eq!(op(b"INFO {} \r\n"), ServerOp::Info("{}"));
    }

    #[test]
    fn says_how_many_bytes_are_missing() {
        assert_eq!(parse(b"", SIZE_MAX), Ok(Parsed::NeedMore(1)));
        assert_eq!(parse(b"MSG a 1 5", SIZE_MAX), Ok(Parsed::NeedMore(1)));
        assert_eq!(parse(b"MSG a 1 5\r\nab", SIZE_MAX), Ok(Parsed::NeedMore(5)));
    }

    #[test]
    fn refuses_what_is_too_large_before_it_has_come() {
        assert_eq!(parse(b"MSG a 1 101\r\n", SIZE_MAX), Err(NatsError::PayloadTooLarge));
        assert_eq!(parse(b"HMSG a 1 9 101\r\n", SIZE_MAX), Err(NatsError::PayloadTooLarge));
        let mut line = b"MSG ".to_vec();
        line.resize(CONTROL_LINE_BYTES_MAX + 1, b'a');
        assert_eq!(parse(&line, SIZE_MAX), Ok(Parsed::NeedMore(1)));
        line.push(b'a');
        assert_eq!(parse(&line, SIZE_MAX), Err(NatsError::LineTooLong));
        let mut info = b"INFO ".to_vec();
        info.resize(INFO_LINE_BYTES_MAX, b' ');
        info.extend_from_slice(b"\r\n");
        assert_eq!(op(&info), ServerOp::Info(""));
    }

    #[test]
    fn refuses_what_is_not_the_protocol() {
        let cases: [(&[u8], NatsError); 12] = [
            (b"HTTP/1.1", NatsError::UnknownOperation),
            (b"PING\n", NatsError::UnknownOperation),
            (b"PINGS\r\n", NatsError::UnknownOperation),
            (b"MSG a 1\r\n", NatsError::BadArguments),
            (b"MSG a 1 r x 2\r\n", NatsError::BadArguments),
            (b"MSG a 1 -2\r\n", NatsError::BadArguments),
            (b"MSG a 1 2222222222222222222\r\n", NatsError::BadArguments),
            (b"MSG a 1 2\r\nhi!!", NatsError::PayloadNotTerminated),
            (b"HMSG a 1 3 2\r\n", NatsError::HeadersLongerThanMessage),
            (b"HMSG a 1 12 12\r\nNATS/2.0\r\n\r\n\r\n", NatsError::BadHeaders),
            (b"HMSG a 1 10 10\r\nNATS/1.0\r\n\r\n", NatsError::BadHeaders),
            (b"-ERR \xff\r\n", NatsError::NotUtf8),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse(bytes, SIZE_MAX), Err(error), "{}", bytes.escape_ascii());
        }
    }
}
