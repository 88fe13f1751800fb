//! The cases of the Autobahn test suite for servers, as far as they are about binary messages, and
//! what MQTT adds to them.

use proptest::prelude::*;

use super::testing::*;
use super::*;

/// What the tests say the end is for, when it is up to them.
const OUR_CODE: u16 = 1001;

fn rules() -> Arc<Rules> {
    let origins = vec!["https://panel.example".to_owned()];
    Arc::new(Rules { path: "/ws".to_owned(), origins, frame_bytes_max: 1 << 20 })
}

/// A WebSocket that was granted, and what its server has heard.
struct Open {
    socket: WebSocket,
    heard: Vec<u8>,
    outcome: Result<(), WebSocketFailure>,
}

impl Open {
    fn new() -> Self {
        let mut socket = WebSocket::new(rules());
        let mut request = head("GET /ws HTTP/1.1", &request());
        socket.receive(&mut request, |_| panic!("nothing has been said")).expect("granted");
        let mut answer = Vec::new();
        socket.wrap(&[], None, &mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        Self { socket, heard: Vec::new(), outcome: Ok(()) }
    }

    /// Gives it bytes in pieces of that size.
    fn tell(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece) {
            let outcome =
                self.socket.receive(&mut piece.to_vec(), |heard| self.heard.extend(heard));
            if self.outcome.is_ok() {
                self.outcome = outcome;
            }
        }
    }

    fn says(&mut self, packets: &[u8], end: Option<u16>) -> Vec<(u8, Vec<u8>)> {
        let mut out = Vec::new();
        self.socket.wrap(packets, end, &mut out);
        read(&out)
    }

    /// The frames it still says, without the end, and the code of that.
    fn ends(&mut self) -> (Vec<(u8, Vec<u8>)>, Option<u16>) {
        let mut frames = self.says(&[], Some(OUR_CODE));
        let (first, payload) = frames.pop().expect("an end");
        assert_eq!(first, FINAL | CLOSE);
        assert!(!self.socket.owes_close() && !self.socket.has_outgoing());
        assert!(self.says(b"too late", Some(OUR_CODE)).is_empty());
        (frames, payload.first_chunk().map(|code| u16::from_be_bytes(*code)))
    }
}

/// Runs a case in pieces of many sizes; it is heard that, and answered these pongs, and ended with
/// that code.
fn case(name: &str, said: &[Vec<u8>], heard: &[u8], pongs: &[&[u8]], end: Option<u16>) {
    let said = said.concat();
    for piece in [1, 2, 3, 7, 100, said.len().max(1)] {
        let mut open = Open::new();
        open.tell(&said, piece);
        assert!(open.heard == heard, "{name} in pieces of {piece}");
        let (frames, code) = open.ends();
        let expected: Vec<_> =
            pongs.iter().map(|payload| (FINAL | PONG, payload.to_vec())).collect();
        assert_eq!(frames, expected, "{name} in pieces of {piece}");
        assert_eq!(code, end, "{name} in pieces of {piece}: {:?}", open.outcome);
        assert!(open.outcome.is_err() || !said.is_empty());
    }
}

#[test]
fn binary_messages_of_every_length_are_heard_and_said() {
    // 1.2.1 to 1.2.8, 9.2.1 to 9.2.4
    for size in [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1 << 18, 1 << 20] {
        let payload: Vec<u8> = (0..size).map(|at| (at * 7) as u8).collect();
        let said = frame(FINAL | BINARY, &payload);
        for piece in [997, said.len()] {
            let mut open = Open::new();
            open.tell(&said, piece);
            assert!(open.heard == payload, "{size}");
            assert_eq!(open.outcome, Ok(()));
            let expected = if size == 0 { vec![] } else { vec![(FINAL | BINARY, payload.clone())] };
            assert!(open.says(&payload, None) == expected, "{size}");
        }
    }
}

#[test]
fn pings_are_answered() {
    let ping = |payload: &[u8]| frame(FINAL | PING, payload);
    case("2.1", &[ping(b"")], b"", &[b""], Some(OUR_CODE));
    case("2.2", &[ping(b"Hello, world!")], b"", &[b"Hello, world!"], Some(OUR_CODE));
    case("2.3", &[ping(&[0, 255, 254, 0])], b"", &[&[0, 255, 254, 0]], Some(OUR_CODE));
    case("2.4", &[ping(&[b'x'; 125])], b"", &[&[b'x'; 125]], Some(OUR_CODE));
    case("2.5", &[ping(&[b'x'; 126])], b"", &[], Some(1002));
    case("2.7", &[frame(FINAL | PONG, b"unasked")], b"", &[], Some(OUR_CODE));
    let after_pong = [frame(FINAL | PONG, b"unasked"), ping(b"mine")];
    case("2.9", &after_pong, b"", &[b"mine"], Some(OUR_CODE));
    let ten: Vec<Vec<u8>> = (b'0'..=b'9').map(|at| ping(&[at])).collect();
    let all: Vec<[u8; 1]> = (b'0'..=b'9').map(|at| [at]).collect();
    let all: Vec<&[u8]> = all.iter().map(|one| &one[..]).collect();
    case("2.10", &ten, b"", &all, Some(OUR_CODE));
}

#[test]
fn a_flood_of_pings_is_answered_with_the_last_of_them_and_bounded() {
    let mut open = Open::new();
    for at in 0..10_000u32 {
        open.tell(&frame(FINAL | PING, &[&at.to_be_bytes()[..], &[0; 100]].concat()), 1000);
        assert!(open.socket.pongs.len() <= PONG_BYTES_MAX);
    }
    let pongs = open.says(&[], None);
    let last = pongs.last().expect("a pong");
    assert_eq!(last.1[..4], 9_999u32.to_be_bytes());
    assert_eq!(open.outcome, Ok(()));
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for (name, first) in (1..8).map(|bits| (format!("3.{bits}"), FINAL | bits << 4 | BINARY)) {
        case(&name, &[frame(first, b"x")], b"", &[], Some(1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let said = [frame(FINAL | BINARY, b"good"), frame(FINAL | opcode, b"bad")];
        case(&format!("4, opcode {opcode}"), &said, b"good", &[], Some(1002));
    }
}

#[test]
fn fragments_make_one_message_with_control_frames_between_them() {
    let good = Some(OUR_CODE);
    let ping = || frame(FINAL | PING, b"p");
    case("5.1", &[frame(PING, b"a"), frame(FINAL | MORE, b"b")], b"", &[], Some(1002));
    case("5.2", &[frame(PONG, b"a"), frame(FINAL | MORE, b"b")], b"", &[], Some(1002));
    case("5.3", &[frame(BINARY, b"a"), frame(FINAL | MORE, b"b")], b"ab", &[], good);
    let said = [frame(BINARY, b"a"), ping(), frame(FINAL | MORE, b"b")];
    case("5.6", &said, b"ab", &[b"p"], good);
    case("5.9", &[frame(FINAL | MORE, b"a"), frame(FINAL | BINARY, b"b")], b"", &[], Some(1002));
    case("5.12", &[frame(MORE, b"a"), frame(FINAL | BINARY, b"b")], b"", &[], Some(1002));
    let said = [frame(BINARY, b"a"), frame(FINAL | MORE, b"b"), frame(MORE, b"c")];
    case("5.15", &said, b"ab", &[], Some(1002));
    case("5.18", &[frame(BINARY, b"a"), frame(FINAL | BINARY, b"b")], b"a", &[], Some(1002));
    let said = [
        frame(BINARY, b"a"),
        frame(MORE, b"b"),
        ping(),
        frame(MORE, b""),
        ping(),
        frame(FINAL | MORE, b"e"),
    ];
    case("5.19", &said, b"abe", &[b"p", b"p"], good);
}

#[test]
fn text_is_refused() {
    case("1.1.1", &[frame(FINAL | TEXT, b"")], b"", &[], Some(1003));
    case("5.4", &[frame(TEXT, b"a"), frame(FINAL | MORE, b"b")], b"", &[], Some(1003));
    case("6.3.1", &[frame(FINAL | TEXT, &[0xed, 0xa0, 0x80])], b"", &[], Some(1003));
}

#[test]
fn an_end_is_answered_with_its_own_code() {
    let close = |payload: &[u8]| frame(FINAL | CLOSE, payload);
    let of = |code: u16, reason: &[u8]| close(&[&code.to_be_bytes()[..], reason].concat());
    let hello = || frame(FINAL | BINARY, b"hello");
    case("7.1.1", &[hello(), close(b"")], b"hello", &[], None);
    case("7.1.2", &[close(b""), close(b"")], b"", &[], None);
    case("7.1.3", &[close(b""), frame(FINAL | PING, b"p")], b"", &[], None);
    case("7.1.4", &[close(b""), hello()], b"", &[], None);
    case("7.1.5", &[frame(BINARY, b"a"), close(b""), frame(FINAL | MORE, b"b")], b"a", &[], None);
    case("7.3.2", &[close(b"a")], b"", &[], Some(1002));
    case("7.3.3", &[of(1000, b"")], b"", &[], Some(1000));
    case("7.3.4", &[of(1000, b"Hello World!")], b"", &[], Some(1000));
    case("7.3.5", &[of(1000, &[b'*'; 123])], b"", &[], Some(1000));
    case("7.3.6", &[of(1000, &[b'*'; 124])], b"", &[], Some(1002));
    case("7.5.1", &[of(1000, &[0xce, 0xba, 0xed, 0xa0, 0x80])], b"", &[], Some(1007));
    for good in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        case("7.7", &[of(good, b"")], b"", &[], Some(good));
    }
    for bad in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        case("7.9, 7.13", &[of(bad, b"")], b"", &[], Some(1002));
    }
}

#[test]
fn a_frame_that_is_not_masked_is_refused() {
    case("5.1 of the RFC", &[vec![FINAL | BINARY, 2, b'h', b'i']], b"", &[], Some(1002));
    let mut open = Open::new();
    open.tell(&[FINAL | BINARY, 0], 2);
    assert_eq!(open.outcome, Err(WebSocketFailure::Unmasked));
}

#[test]
fn a_length_in_more_bytes_than_it_needs_is_refused() {
    for long in [&[126, 0, 125][..], &[127, 0, 0, 0, 0, 0, 0, 255, 255], &[127, 0x80, 0, 0, 0]] {
        let mut said = vec![FINAL | BINARY, 0x80 | long[0]];
        said.extend(&long[1..]);
        said.resize(14, 0);
        case("5.2 of the RFC", &[said], b"", &[], Some(1002));
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_with_its_header() {
    let whole = frame(FINAL | BINARY, &vec![0; (1 << 20) + 1]);
    let mut open = Open::new();
    open.tell(&whole[..14], 14);
    assert_eq!(open.outcome, Err(WebSocketFailure::FrameTooLarge));
    assert_eq!(open.ends().1, Some(1009));
}

#[test]
fn a_request_is_granted_with_the_proof_and_the_subprotocol() {
    let mut socket = WebSocket::new(rules());
    let mut bytes = head("GET /ws?from=browser HTTP/1.1", &request());
    // A client in a hurry says something behind its request.
    bytes.extend(frame(FINAL | BINARY, b"connect"));
    let mut heard: Vec<u8> = Vec::new();
    for byte in &mut bytes {
        let said = socket.receive(std::slice::from_mut(byte), |heard_now| heard.extend(heard_now));
        said.expect("good");
    }
    assert_eq!(heard, b"connect");
    let mut answer = Vec::new();
    socket.wrap(b"ok", None, &mut answer);
    // The proof is that of the RFC's example (§1.3).
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                    Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n\u{2}ok";
    assert_eq!(answer.len(), expected.len() + 1);
    assert!(answer.starts_with(&expected.as_bytes()[..expected.len() - 3]));
    assert!(answer.ends_with(&[FINAL | BINARY, 2, b'o', b'k']));
    assert!(!socket.has_outgoing());
    assert_eq!(socket.answer.capacity() + socket.pongs.capacity() + socket.control.capacity(), 0);
}

/// What a request is answered whose first line or one header is changed.
fn refused(line: &str, header: &str, value: Option<&str>) -> (WebSocketFailure, String) {
    let mut headers = request();
    headers.retain(|(name, _)| *name != header);
    let name: &'static str = header.to_owned().leak();
    headers.extend(value.map(|value| (name, value.to_owned())));
    let mut socket = WebSocket::new(rules());
    let why = socket.receive(&mut head(line, &headers), |_| panic!("nothing is heard"));
    let why = why.expect_err("is refused");
    let mut answer = Vec::new();
    socket.wrap(b"not to be said", Some(OUR_CODE), &mut answer);
    assert!(socket.receive(&mut [FINAL; 10], |_| panic!("nothing is heard")).is_ok());
    assert!(!socket.owes_close() && !socket.has_outgoing());
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert!(head.contains("Connection: close"), "{answer}");
    (why, answer)
}

#[test]
fn a_request_that_lacks_something_is_told_what() {
    use WebSocketFailure as F;
    let get = "GET /ws HTTP/1.1";
    let cases = [
        ("POST /ws HTTP/1.1", "", None, F::WrongMethod, "405"),
        ("GET / HTTP/1.1", "", None, F::WrongPath, "404"),
        ("GET /ws HTTP/1.0", "", None, F::NotHttp, "400"),
        ("GET", "", None, F::NotHttp, "400"),
        (get, "Host", None, F::NotHttp, "400"),
        ("GET http://gate/other HTTP/1.1", "", None, F::WrongPath, "404"),
        (get, "Content-Length", Some("5"), F::NotHttp, "400"),
        (get, "Transfer-Encoding", Some("chunked"), F::NotHttp, "400"),
        (get, "X", Some("y\nContent-Length: 0"), F::NotHttp, "400"),
        (get, "Upgrade", None, F::NotAnUpgrade, "426"),
        (get, "Upgrade", Some("h2c"), F::NotAnUpgrade, "426"),
        (get, "Connection", Some("keep-alive"), F::NotAnUpgrade, "426"),
        (get, "Sec-WebSocket-Version", Some("8"), F::WrongVersion, "426"),
        (get, "Sec-WebSocket-Key", None, F::BadKey, "400"),
        (get, "Sec-WebSocket-Key", Some("c2hvcnQ="), F::BadKey, "400"),
        (get, "Sec-WebSocket-Key", Some("no base64 at all"), F::BadKey, "400"),
        (get, "Sec-WebSocket-Protocol", None, F::NoSubprotocol, "400"),
        (get, "Sec-WebSocket-Protocol", Some("amqp, MQTT"), F::NoSubprotocol, "400"),
        (get, "Origin", Some("https://evil.example"), F::ForbiddenOrigin, "403"),
        (get, "Origin", Some("null"), F::ForbiddenOrigin, "403"),
    ];
    for (line, header, value, expected, status) in cases {
        let (why, answer) = refused(line, header, value);
        assert_eq!(why, expected, "{line} {header} {value:?}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert!(refused(get, "Sec-WebSocket-Version", Some("8")).1.contains("Version: 13\r\n"));
}

#[test]
fn a_page_of_an_allowed_origin_may_connect() {
    let mut headers = request();
    headers.push(("Origin", "HTTPS://panel.example".to_owned()));
    let mut socket = WebSocket::new(rules());
    socket.receive(&mut head("GET /ws HTTP/1.1", &headers), |_| {}).expect("is granted");
}

#[test]
fn a_target_may_say_the_whole_address() {
    let mut socket = WebSocket::new(rules());
    let mut said = head("GET wss://gate:8084/ws?x HTTP/1.1", &request());
    socket.receive(&mut said, |_| {}).expect("is granted");
}

#[test]
fn what_is_no_request_is_refused_at_once_and_a_request_without_end_in_the_end() {
    for bytes in [&mut [22, 3, 1][..], &mut [0x10, 14, 0, 4]] {
        let why = WebSocket::new(rules()).receive(bytes, |_| panic!("nothing is heard"));
        assert_eq!(why, Err(WebSocketFailure::NotHttp));
    }
    let mut socket = WebSocket::new(rules());
    let mut told = 0;
    let why = loop {
        told += 1;
        if let Err(why) = socket.receive(&mut [b'G'], |_| panic!("nothing is heard")) {
            break why;
        }
    };
    assert_eq!((why, told), (WebSocketFailure::HeadTooLarge, head::BYTES_MAX));
    let headers = vec![("X", String::new()); 100];
    let why = WebSocket::new(rules()).receive(&mut head("GET /ws HTTP/1.1", &headers), |_| {});
    assert_eq!(why, Err(WebSocketFailure::HeadTooLarge));
}

proptest! {
    /// Whatever the packets, the frames they are cut into, the pieces those come in and the pings
    /// among them: what is heard is what was said, and a quiet one holds no buffer.
    #[test]
    fn what_is_heard_is_what_was_said(
        said in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(0usize..700, 1..8),
        pieces in prop::collection::vec(1usize..300, 1..5),
    ) {
        let mut bytes = Vec::new();
        let (mut rest, mut first) = (&said[..], BINARY);
        for (at, cut) in cuts.iter().enumerate() {
            let (fragment, others) = rest.split_at((*cut).min(rest.len()));
            let is_final = at % 3 == 2;
            bytes.extend(frame(first | u8::from(is_final) << 7, fragment));
            bytes.extend(frame(FINAL | PING, &[at as u8]));
            first = if is_final { BINARY } else { MORE };
            rest = others;
        }
        bytes.extend(frame(first | FINAL, rest));
        let mut open = Open::new();
        let (mut left, mut sizes) = (&bytes[..], pieces.iter().cycle());
        while !left.is_empty() {
            let size = (*sizes.next().expect("endless")).min(left.len());
            open.tell(&left[..size], size);
            left = &left[size..];
        }
        prop_assert_eq!(open.outcome, Ok(()));
        prop_assert_eq!(&open.heard, &said);
        prop_assert_eq!(open.says(&[], None).len(), cuts.len());
        let socket = &open.socket;
        prop_assert_eq!(socket.control.capacity() + socket.pongs.capacity(), 0);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        is_open: bool,
        piece in 1usize..50,
    ) {
        let mut socket = if is_open { Open::new().socket } else { WebSocket::new(rules()) };
        for piece in bytes.chunks(piece) {
            let _ = socket.receive(&mut piece.to_vec(), |_| {});
        }
        socket.wrap(b"x", Some(OUR_CODE), &mut Vec::new());
    }
}
