use proptest::prelude::*;

use super::*;

const BODY_BYTES_MAX: usize = 5000;

/// What was read of one request.
type Seen = (String, Vec<u8>, bool);

/// A connection as a shard keeps it.
#[derive(Default)]
struct Conversation {
    reader: RequestReader,
    pending: Vec<u8>,
    seen: Vec<Seen>,
    continues: usize,
    refused: Option<Refusal>,
}

impl Conversation {
    fn hear(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        while self.refused.is_none() && !self.pending.is_empty() {
            match self.reader.read(&mut self.pending, BODY_BYTES_MAX) {
                Ok(Read::More) => return,
                Ok(Read::Continue) => self.continues += 1,
                Ok(Read::Request(request)) => {
                    let path = String::from_utf8(self.pending[request.path].to_vec());
                    let body = self.pending[request.body].to_vec();
                    self.seen.push((path.expect("ASCII"), body, request.keeps_alive));
                    self.pending.drain(..request.bytes);
                }
                Err(why) => self.refused = Some(why),
            }
        }
    }

    /// Everything at once, and in pieces of any one size, which must come to the same.
    fn of(bytes: &[u8]) -> Self {
        let mut whole = Self::default();
        whole.hear(bytes);
        for size in [1, 2, 3, 7, 50] {
            let mut pieces = Self::default();
            bytes.chunks(size).for_each(|piece| pieces.hear(piece));
            assert_eq!(pieces.seen, whole.seen, "in pieces of {size}");
            assert_eq!(pieces.refused, whole.refused, "in pieces of {size}");
        }
        whole
    }
}

fn seen(path: &str, body: &[u8], keeps_alive: bool) -> Seen {
    (path.to_owned(), body.to_vec(), keeps_alive)
}

#[test]
fn requests_follow_each_other_with_bodies_of_both_kinds() {
    let talk = Conversation::of(
        b"POST /kp1/v1/dcx/t/json HTTP/1.1\r\nHost: gate\r\nContent-Length: 2\r\n\r\n[]\
          POST /b?query#x HTTP/1.1\r\nhost: gate\r\nTransfer-Encoding: Chunked\r\n\r\n\
          3\r\nabc\r\n0A;ext=\"1\"\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
          \r\nPOST http://gate:80/c HTTP/1.1\r\nHost: gate\r\nConnection: x, Close\r\n\r\n",
    );
    assert_eq!(
        talk.seen,
        [
            seen("/kp1/v1/dcx/t/json", b"[]", true),
            seen("/b", b"abc0123456789", true),
            seen("/c", b"", false),
        ]
    );
    assert!(talk.pending.is_empty() && talk.refused.is_none());
}

#[test]
fn a_target_without_a_path_has_an_empty_one_and_empty_lines_come_before_requests() {
    let talk = Conversation::of(
        b"\nPOST http://gate HTTP/1.1\r\nHost: gate\r\n\r\n\r\n\n\
          POST http://gate?/a HTTP/1.1\r\nHost: gate\r\n\r\n\
          POST * HTTP/1.1\r\nHost: gate\r\n\r\n",
    );
    assert_eq!(talk.seen, [seen("", b"", true), seen("", b"", true), seen("", b"", true)]);
}

#[test]
fn version_1_0_lives_on_only_where_it_says_so() {
    let talk = Conversation::of(
        b"POST /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nPOST /b HTTP/1.0\r\n\r\n",
    );
    assert_eq!(talk.seen, [seen("/a", b"", true), seen("/b", b"", false)]);
}

#[test]
fn a_client_that_waits_to_go_on_is_told_once() {
    let head = "POST /a HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut talk = Conversation::default();
    talk.hear(head.as_bytes());
    talk.hear(b"bo");
    talk.hear(b"dy");
    assert_eq!((talk.continues, &talk.seen[..]), (1, &[seen("/a", b"body", true)][..]));
    // One that does not wait need not be told.
    let mut talk = Conversation::default();
    talk.hear(format!("{head}body").as_bytes());
    assert_eq!((talk.continues, talk.seen.len()), (0, 1));
}

#[test]
fn what_is_wrong_is_refused() {
    use Refusal as R;
    let post = |rest: &str| format!("POST /a HTTP/1.1\r\nHost: g\r\n{rest}\r\n");
    let chunked = |rest: &str| post(&format!("Transfer-Encoding: chunked\r\n\r\n{rest}"));
    let many = "x: y\r\n".repeat(70);
    let large = format!("x: {}\r\n", "y".repeat(9000));
    for (said, why, status_code) in [
        ("\u{16}\u{3}\u{1}".to_owned(), R::Malformed, 400),
        ("\u{10}\u{e}\0\u{4}MQTT".to_owned(), R::Malformed, 400),
        ("POST\r\n\r\n".to_owned(), R::Malformed, 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), R::Version, 505),
        ("GET /a HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), R::Method, 405),
        ("POST /a HTTP/1.1\r\n\r\n".to_owned(), R::Host, 400),
        (post("Host: h\r\n"), R::Host, 400),
        (post(&many), R::HeadTooLarge, 431),
        (post(&large), R::HeadTooLarge, 431),
        ("\r\n".repeat(10_000), R::HeadTooLarge, 431),
        // An LF alone ends nothing: for some intermediary it does not, either.
        (post("X: y\nContent-Length: 5\r\n"), R::Malformed, 400),
        ("POST /a HTTP/1.1\r\nHost: g\n\nPOST /b HTTP/1.1\r\n\r\n".to_owned(), R::Malformed, 400),
        (post("X: y\r\n z\r\n"), R::Malformed, 400),
        (post("X : y\r\n"), R::Malformed, 400),
        // A no-break space is no white space of HTTP.
        (post("Content-Length: 5\u{a0}\r\n"), R::Length, 400),
        (post("Transfer-Encoding: chunked\u{a0}\r\n"), R::TransferCoding, 501),
        (chunked("1\r\r\n"), R::Chunks, 400),
        (chunked("1\u{c}\r\n"), R::Chunks, 400),
        (chunked("1;a\rb\r\n"), R::Chunks, 400),
        (post("Content-Length: 10000000000\r\n"), R::BodyTooLarge, 413),
        (post("Content-Length: 99999999999999999999999\r\n"), R::BodyTooLarge, 413),
        (post("Content-Length: 5001\r\nExpect: 100-continue\r\n"), R::BodyTooLarge, 413),
        (post("Content-Length: +1\r\n"), R::Length, 400),
        (post("Content-Length:\r\n"), R::Length, 400),
        (post("Content-Length: 1\r\nContent-Length: 2\r\n"), R::Length, 400),
        (post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), R::Length, 400),
        (post("Transfer-Encoding: gzip, chunked\r\n"), R::TransferCoding, 501),
        (post("Transfer-Encoding: identity\r\n"), R::TransferCoding, 501),
        ("POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), R::Length, 400),
        (post("Expect: a miracle\r\n"), R::Expectation, 417),
        (chunked("x\r\n"), R::Chunks, 400),
        (chunked("-1\r\n"), R::Chunks, 400),
        (chunked("2\r\nabc\r\n"), R::Chunks, 400),
        (chunked("2 x\r\nab\r\n"), R::Chunks, 400),
        (chunked("2\nab\r\n"), R::Chunks, 400),
        (chunked(&"1".repeat(300)), R::Chunks, 400),
        (chunked("1389\r\n"), R::BodyTooLarge, 413),
        (chunked("1388\r\n"), R::Chunks, 400),
        (chunked("ffffffffffffffffff\r\n"), R::BodyTooLarge, 413),
        (chunked(&format!("0\r\n{}", "x: y\r\n".repeat(1000))), R::HeadTooLarge, 431),
    ] {
        // What is left of the body where its beginning is good.
        let said = if said.ends_with("1388\r\n\r\n") { said + &"z".repeat(6000) } else { said };
        let talk = Conversation::of(said.as_bytes());
        assert_eq!(talk.refused, Some(why), "{:.200}", said);
        assert_eq!(why.status_code(), status_code);
        assert!(talk.seen.is_empty() && talk.continues == 0);
    }
}

#[test]
fn chunks_that_are_mostly_overhead_are_refused() {
    let mut talk = Conversation::default();
    talk.hear(b"POST /a HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(200));
    let mut told = 0;
    while talk.refused.is_none() {
        talk.hear(chunk.as_bytes());
        told += chunk.len();
        assert!(told < 100_000);
    }
    assert_eq!(talk.refused, Some(Refusal::Chunks));
}

#[test]
fn paths_are_decoded_as_far_as_they_could_be_topics() {
    let decoded = |path| resource_path(path, &mut vec![1, 2]).map(str::to_owned);
    assert_eq!(decoded("/kp1/v/dcx/t/json").as_deref(), Some("kp1/v/dcx/t/json"));
    assert_eq!(decoded("/kp1/%c3%A4/x%20y").as_deref(), Some("kp1/ä/x y"));
    assert_eq!(decoded("/").as_deref(), Some(""));
    for bad in ["", "*", "kp1/v", "/%", "/%4", "/%+4", "/%zz", "/a%2fb", "/a%00", "/%ff", "/a+b"] {
        assert_eq!(decoded(bad), None, "{bad}");
    }
    assert_eq!(decoded("/a%23"), None);
}

#[test]
fn a_response_says_how_long_it_is_and_whether_more_may_follow() {
    let written = |status_code, body: &[u8], keeps_alive| {
        let (date, content_type) = (&*date(784_111_777), "application/json");
        let mut out = Vec::new();
        Response { status_code, date, content_type, body, keeps_alive }.write(&mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(
        written(200, b"[]", true),
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n[]"
    );
    let empty = written(200, b"", false);
    assert!(empty.contains("Content-Length: 0\r\n") && !empty.contains("Content-Type"), "{empty}");
    assert!(empty.ends_with("Connection: close\r\n\r\n"));
    assert!(!written(204, b"x", true).contains("Content-Length"));
    let reset = written(205, b"x", true);
    assert!(reset.contains("Content-Length: 0\r\n") && reset.ends_with("\r\n\r\n"), "{reset}");
    assert!(written(405, b"", true).contains("\r\nAllow: POST\r\n"));
    assert!(written(299, b"", true).starts_with("HTTP/1.1 299 \r\n"));
}

/// A body in chunks of these sizes, over and over.
fn in_chunks(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut wire, mut rest) = (Vec::new(), body);
    for size in sizes.iter().cycle() {
        let (chunk, others) = rest.split_at((*size).min(rest.len()));
        wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
        if chunk.is_empty() {
            wire.extend(b"\r\n");
            return wire;
        }
        wire.extend(chunk);
        wire.extend(b"\r\n");
        rest = others;
    }
    wire
}

proptest! {
    /// Whatever the requests, the chunks of their bodies and the pieces they come in: each is read
    /// as it was meant, and nothing is left.
    #[test]
    fn what_is_read_is_what_was_said(
        requests in prop::collection::vec(
            (
                "/[a-z0-9/]{0,30}",
                prop::collection::vec(any::<u8>(), 0..600),
                prop::option::of(prop::collection::vec(1usize..200, 1..4)),
                any::<bool>(),
            ),
            1..5,
        ),
        pieces in prop::collection::vec(1usize..200, 1..5),
    ) {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for (path, body, chunks, is_last) in &requests {
            let connection = if *is_last { "close" } else { "keep-alive" };
            let head = format!("POST {path} HTTP/1.1\r\nHost: g\r\nConnection: {connection}\r\n");
            wire.extend(head.bytes());
            match chunks {
                Some(sizes) => {
                    wire.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    wire.extend(in_chunks(body, sizes));
                }
                None => {
                    wire.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                    wire.extend(body);
                }
            }
            expected.push(seen(path, body, !is_last));
        }
        let mut talk = Conversation::default();
        let (mut rest, mut sizes) = (&wire[..], pieces.iter().cycle());
        while !rest.is_empty() {
            let size = (*sizes.next().expect("endless")).min(rest.len());
            talk.hear(&rest[..size]);
            rest = &rest[size..];
        }
        prop_assert_eq!(talk.refused, None);
        prop_assert_eq!(talk.seen, expected);
        prop_assert!(talk.pending.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic_or_keep_more_than_its_limits(
        start in prop::sample::select(vec![
            "", "POST / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: g\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        ]),
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"\r\n0123:abc; ".to_vec())],
            0..300,
        ),
        piece in 1usize..60,
    ) {
        let mut talk = Conversation::default();
        talk.hear(start.as_bytes());
        bytes.chunks(piece).for_each(|piece| talk.hear(piece));
        let _ = resource_path(&String::from_utf8_lossy(&bytes), &mut Vec::new());
    }
}
