//! What must hold for whatever a NATS server sends.

use ringgate::codec::nats::{NatsError, Parsed, ServerInfo, ServerOp, parse};

const PAYLOAD_BYTES_MAX: usize = 64;

/// The stream is read alike in one piece and in pieces, within its bounds, and without a panic. The
/// first byte chooses how it is cut.
pub fn check(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = read(stream, stream.len());
    let step = usize::from(*cut) % 61 + 1;
    assert_eq!(whole, read(stream, step), "pieces of {step} bytes are read otherwise");
}

/// Reads the stream `step` bytes at a time: its operations, and the error it ends in.
fn read(stream: &[u8], step: usize) -> (Vec<String>, Option<NatsError>) {
    let mut operations = Vec::new();
    let (mut begin, mut end) = (0, step.min(stream.len()));
    loop {
        match parse(&stream[begin..end], PAYLOAD_BYTES_MAX) {
            Ok(Parsed::Op(op, consumed)) => {
                assert!(consumed > 0 && begin + consumed <= end);
                inspect(&op);
                operations.push(format!("{op:?}"));
                begin += consumed;
            }
            Ok(Parsed::NeedMore(missing)) => {
                assert!(missing > 0);
                for more in 0..missing.min(stream.len() - end) {
                    let longer = parse(&stream[begin..end + more], PAYLOAD_BYTES_MAX);
                    assert!(!matches!(longer, Ok(Parsed::Op(..))), "{missing} were not missing");
                }
                if end == stream.len() {
                    return (operations, None);
                }
                end = (end + step).min(stream.len());
            }
            Err(error) => return (operations, Some(error)),
        }
    }
}

fn inspect(op: &ServerOp<'_>) {
    match op {
        ServerOp::Msg { subject, payload, .. } => {
            assert!(!subject.is_empty() && payload.len() <= PAYLOAD_BYTES_MAX);
        }
        ServerOp::HMsg { subject, headers, payload, .. } => {
            assert!(!subject.is_empty() && payload.len() <= PAYLOAD_BYTES_MAX);
            assert!(headers.status().is_none_or(|status| status < 1_000));
            if let Some(value) = headers.get("Nats-Subject") {
                assert!(!value.contains(&b'\n') && value.trim_ascii() == value);
            }
        }
        ServerOp::Info(json) => drop(ServerInfo::from_json(json)),
        ServerOp::Err(text) => assert!(!text.contains('\n')),
        ServerOp::Ping | ServerOp::Pong | ServerOp::Ok => {}
    }
}
