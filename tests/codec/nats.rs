//! The NATS wire: any sequence of operations, cut anywhere.

use proptest::prelude::*;
use ringgate::codec::nats::{Parsed, ServerOp, parse};

use crate::corpus::nats::check;

const PAYLOAD_BYTES_MAX: usize = 300;

/// What a server may send, as we make it up.
#[derive(Clone, Debug)]
enum Sent {
    Ping,
    Pong,
    Err(String),
    Info(String),
    Msg { subject: String, sid: u64, reply: Option<String>, payload: Vec<u8> },
    HMsg { subject: String, reply: Option<String>, value: String, payload: Vec<u8> },
}

fn subject() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_$]{1,8}(\\.[a-z0-9]{1,8}){0,3}"
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        Just(Sent::Ping),
        Just(Sent::Pong),
        "[a-zA-Z ]{0,20}".prop_map(|text| Sent::Err(text.trim().to_owned())),
        "[a-z0-9:\",]{0,40}".prop_map(|text| Sent::Info(format!("{{{text}}}"))),
        (subject(), 0..1_000_000_000_u64, prop::option::of(subject()), payload())
            .prop_map(|(subject, sid, reply, payload)| Sent::Msg { subject, sid, reply, payload }),
        (subject(), prop::option::of(subject()), "[!-~]{0,12}", payload()).prop_map(
            |(subject, reply, value, payload)| Sent::HMsg { subject, reply, value, payload }
        ),
    ]
}

impl Sent {
    fn write(&self, out: &mut Vec<u8>) {
        let words =
            |reply: &Option<String>| reply.as_ref().map_or(String::new(), |r| format!(" {r}"));
        match self {
            Sent::Ping => out.extend_from_slice(b"PING\r\n"),
            Sent::Pong => out.extend_from_slice(b"PONG\r\n"),
            Sent::Err(text) => out.extend_from_slice(format!("-ERR '{text}'\r\n").as_bytes()),
            Sent::Info(json) => out.extend_from_slice(format!("INFO {json}\r\n").as_bytes()),
            Sent::Msg { subject, sid, reply, payload } => {
                let (reply, size) = (words(reply), payload.len());
                out.extend_from_slice(format!("MSG {subject} {sid}{reply} {size}\r\n").as_bytes());
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
            Sent::HMsg { subject, reply, value, payload } => {
                let headers = format!("NATS/1.0 503\r\nOther: x\r\nNats-Subject: {value}\r\n\r\n");
                let (reply, size) = (words(reply), headers.len() + payload.len());
                let line = format!("HMSG {subject} 1{reply} {} {size}\r\n", headers.len());
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(headers.as_bytes());
                out.extend_from_slice(payload);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn is(&self, op: &ServerOp<'_>) -> bool {
        let same = |theirs: Option<&[u8]>, ours: &Option<String>| {
            theirs == ours.as_ref().map(String::as_bytes)
        };
        match (self, op) {
            (Sent::Ping, ServerOp::Ping) | (Sent::Pong, ServerOp::Pong) => true,
            (Sent::Err(ours), ServerOp::Err(theirs)) => ours == theirs,
            (Sent::Info(ours), ServerOp::Info(theirs)) => ours == theirs,
            (
                Sent::Msg { subject, sid, reply, payload },
                ServerOp::Msg { subject: s, sid: i, reply: r, payload: p },
            ) => subject.as_bytes() == *s && sid == i && same(*r, reply) && payload == p,
            (
                Sent::HMsg { subject, reply, value, payload },
                ServerOp::HMsg { subject: s, sid: 1, reply: r, headers, payload: p },
            ) => {
                let header = headers.get("Nats-Subject") == Some(value.as_bytes());
                let status = headers.status() == Some(503) && headers.get("nats-subject").is_none();
                subject.as_bytes() == *s && same(*r, reply) && header && status && payload == p
            }
            _ => false,
        }
    }
}

proptest! {
    #[test]
    fn operations_are_read_as_they_were_sent_however_the_stream_is_cut(
        sent in prop::collection::vec(sent(), 0..12),
        cuts in prop::collection::vec(1..80_usize, 1..20),
    ) {
        let mut stream = Vec::new();
        sent.iter().for_each(|op| op.write(&mut stream));
        let mut cuts = cuts.into_iter().cycle();
        let (mut begin, mut end) = (0, 0);
        for expected in &sent {
            loop {
                match parse(&stream[begin..end], PAYLOAD_BYTES_MAX) {
                    Ok(Parsed::Op(op, consumed)) => {
                        prop_assert!(expected.is(&op), "{:?} for {:?}", op, expected);
                        begin += consumed;
                        break;
                    }
                    Ok(Parsed::NeedMore(missing)) => {
                        prop_assert!(end + missing <= stream.len(), "more than was sent");
                        end = (end + cuts.next().unwrap_or(1)).min(stream.len());
                    }
                    Err(error) => prop_assert!(false, "{error}"),
                }
            }
        }
        prop_assert_eq!(begin, stream.len());
    }

    #[test]
    fn invariants_hold_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        check(&bytes);
    }

    #[test]
    fn invariants_hold_for_damaged_streams(
        sent in prop::collection::vec(sent(), 1..5),
        cut in any::<u8>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut stream = vec![cut];
        sent.iter().for_each(|op| op.write(&mut stream));
        let at = at.index(stream.len());
        stream[at] = byte;
        check(&stream);
    }
}
