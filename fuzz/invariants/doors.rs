//! What must hold for whatever a device sends at a door: before its packets, around them, or
//! instead of them.

use std::sync::Arc;

use ringgate::transport::http::{self, Read, Refusal, RequestReader};
use ringgate::transport::proxy;
use ringgate::transport::websocket::{Rules, WebSocket};

const BODY_BYTES_MAX: usize = 200;
/// A request that is granted.
const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// All three read alike in one piece and in pieces, within their bounds, and without a panic. The
/// first byte chooses how the rest is cut, and where it is said.
pub fn check(data: &[u8]) {
    let Some((choice, said)) = data.split_first() else { return };
    let step = usize::from(*choice) / 4 + 1;
    match choice % 4 {
        0 => check_proxy(said),
        1 => assert_eq!(requests(said, said.len()), requests(said, step)),
        2 => assert_eq!(frames(said, said.len()), frames(said, step)),
        _ => {
            let said = [UPGRADE, said].concat();
            assert_eq!(frames(&said, said.len()), frames(&said, step));
        }
    }
}

fn check_proxy(said: &[u8]) {
    let whole = proxy::parse(said);
    if let Ok(Some((_, taken))) = &whole {
        assert!(*taken <= said.len() && proxy::begins(said) == Some(true));
    }
    for end in 0..said.len() {
        match proxy::parse(&said[..end]) {
            Ok(None) => {}
            early => return assert_eq!(early, whole, "after {end} bytes"),
        }
    }
}

/// A path, a body, and whether another request may follow.
type Seen = (Vec<u8>, Vec<u8>, bool);

fn requests(said: &[u8], step: usize) -> (Vec<Seen>, Option<Refusal>) {
    let (mut reader, mut pending, mut seen) = (RequestReader::default(), Vec::new(), Vec::new());
    for piece in said.chunks(step.max(1)) {
        pending.extend_from_slice(piece);
        while !pending.is_empty() {
            match reader.read(&mut pending, BODY_BYTES_MAX) {
                Ok(Read::More) => break,
                Ok(Read::Continue) => {}
                Ok(Read::Request(request)) => {
                    assert!(request.bytes <= pending.len() && request.body.len() <= BODY_BYTES_MAX);
                    let path = pending[request.path].to_vec();
                    let text = std::str::from_utf8(&path).expect("paths are text");
                    let _ = http::resource_path(text, &mut Vec::new());
                    seen.push((path, pending[request.body].to_vec(), request.keeps_alive));
                    pending.drain(..request.bytes);
                }
                Err(why) => return (seen, Some(why)),
            }
        }
    }
    (seen, None)
}

fn frames(said: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, bool) {
    let rules = Rules { path: "/ws".to_owned(), origins: Vec::new(), frame_bytes_max: 1000 };
    let (mut socket, mut heard) = (WebSocket::new(Arc::new(rules)), Vec::new());
    let mut has_failed = false;
    for piece in said.chunks(step.max(1)) {
        let taken = socket.receive(&mut piece.to_vec(), |payload| heard.extend(payload));
        assert!(!(has_failed && taken.is_err()), "it fails once");
        has_failed |= taken.is_err();
    }
    let mut answer = Vec::new();
    socket.wrap(&[], Some(1000), &mut answer);
    assert!(!socket.has_outgoing() && !socket.owes_close());
    (heard, answer, has_failed)
}
