//! MQTT packets as a client needs them: made once, patched per message; split on the way in.

use crate::options::{Names, Version};

/// Request ids have ten digits, so that a topic keeps its length: 1000000000 and up.
pub const REQUEST_ID_FIRST: u64 = 1_000_000_000;
/// How many request ids a client goes through before it begins again.
pub const REQUEST_IDS: u64 = 1_000_000_000;
const REQUEST_ID_DIGITS: usize = 10;

pub const PINGREQ: &[u8] = &[0xc0, 0];
/// Longest packet taken from the server; more is taken for a broken stream.
const PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;

pub fn connect(
    version: Version,
    names: &Names,
    password: Option<&str>,
    keep_alive: u16,
) -> Vec<u8> {
    let mut body = Vec::new();
    let (name, level) = match version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    put_text(&mut body, name);
    let flags = 0x02 // clean session
        | if names.username.is_some() { 0x80 } else { 0 }
        | if password.is_some() { 0x40 } else { 0 };
    body.extend([level, flags]);
    body.extend(keep_alive.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, &names.client_id);
    if let Some(username) = &names.username {
        put_text(&mut body, username);
    }
    if let Some(password) = password {
        put_text(&mut body, password);
    }
    packet(0x10, &body)
}

pub fn subscribe(version: Version, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    put_text(&mut body, filter);
    body.push(qos);
    packet(0x82, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with reason "success".
pub fn acknowledgement(first: u8, packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [first, 2, high, low]
}

/// DISCONNECT, the normal one of every version.
pub const DISCONNECT: &[u8] = &[0xe0, 0];

/// A PUBLISH in which only the packet identifier and the request id change.
pub struct PublishTemplate {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    request_id_at: Option<usize>,
}

impl PublishTemplate {
    pub fn new(version: Version, topic: &str, payload: &[u8], qos: u8, request_id: bool) -> Self {
        let mut body = Vec::new();
        let with_id = format!("{topic}/{REQUEST_ID_FIRST}");
        put_text(&mut body, if request_id { &with_id } else { topic });
        let topic_end = body.len();
        if qos > 0 {
            body.extend([0, 1]);
        }
        if version == Version::V5 {
            body.push(0);
        }
        body.extend_from_slice(payload);
        let bytes = packet(0x30 | qos << 1, &body);
        let body_at = bytes.len() - body.len();
        Self {
            packet_id_at: (qos > 0).then_some(body_at + topic_end),
            request_id_at: request_id.then(|| body_at + topic_end - REQUEST_ID_DIGITS),
            bytes,
        }
    }

    /// Appends the packet.
    pub fn write(&self, packet_id: u16, request_id: u64, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(place) = self.packet_id_at {
            out[at + place..at + place + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(place) = self.request_id_at {
            let mut rest = request_id;
            for digit in out[at + place..at + place + REQUEST_ID_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

/// One packet at the front of the bytes received.
pub struct Frame<'a> {
    pub first: u8,
    pub body: &'a [u8],
    /// Bytes of the whole packet.
    pub len: usize,
}

/// The stream is not MQTT.
#[derive(Debug, PartialEq, Eq)]
pub struct BrokenStream;

/// Takes the first packet off `bytes`; `None` while it is not whole.
pub fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, BrokenStream> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let mut remaining = 0;
    for place in 0..4 {
        let Some(&byte) = bytes.get(1 + place) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let body_at = 2 + place;
            let len = body_at + remaining;
            return if len > PACKET_BYTES_MAX {
                Err(BrokenStream)
            } else {
                Ok(bytes.get(body_at..len).map(|body| Frame { first, body, len }))
            };
        }
    }
    Err(BrokenStream)
}

/// What a CONNACK says.
pub struct Connack {
    /// 0: accepted.
    pub code: u8,
    /// How many QoS 1 and 2 messages the server takes at once.
    pub receive_maximum: u16,
    /// The highest QoS the server takes.
    pub qos_max: u8,
}

pub fn connack(version: Version, body: &[u8]) -> Option<Connack> {
    let code = *body.get(1)?;
    let mut connack = Connack { code, receive_maximum: u16::MAX, qos_max: 2 };
    if version == Version::V5 {
        let (len, len_bytes) = variable_int(body.get(2..)?)?;
        let mut rest = body.get(2 + len_bytes..2 + len_bytes + len)?;
        while let Some((&id, value)) = rest.split_first() {
            let value_len = property_len(id, value)?;
            match id {
                0x21 => {
                    connack.receive_maximum = u16::from_be_bytes([*value.first()?, *value.get(1)?])
                }
                0x24 => connack.qos_max = *value.first()?,
                _ => {}
            }
            rest = value.get(value_len..)?;
        }
    }
    Some(connack)
}

/// Bytes of the value of a property of CONNACK (MQTT-2.2.2.2); `None` if it is unknown.
fn property_len(id: u8, value: &[u8]) -> Option<usize> {
    let text = || Some(2 + usize::from(u16::from_be_bytes([*value.first()?, *value.get(1)?])));
    match id {
        0x24 | 0x25 | 0x28..=0x2a => Some(1),
        0x13 | 0x21 | 0x22 => Some(2),
        0x11 | 0x27 => Some(4),
        0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(),
        0x26 => {
            let key = text()?;
            let rest = value.get(key..)?;
            Some(key + 2 + usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])))
        }
        _ => None,
    }
}

fn variable_int(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// An application message from the server.
pub struct Incoming<'a> {
    pub topic: &'a [u8],
    /// 0 at QoS 0.
    pub packet_id: u16,
}

pub fn incoming<'a>(frame: &Frame<'a>) -> Option<Incoming<'a>> {
    let topic_len = usize::from(u16::from_be_bytes([*frame.body.first()?, *frame.body.get(1)?]));
    let topic = frame.body.get(2..2 + topic_len)?;
    let packet_id =
        if frame.first & 0x06 == 0 { 0 } else { packet_id(frame.body.get(2 + topic_len..)?)? };
    Some(Incoming { topic, packet_id })
}

pub fn packet_id(body: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]))
}

/// How a request was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u64),
    Error(u64),
}

/// Reads `…/<request id>/status` or `…/<request id>/error` (1/KP §Response topics).
pub fn answer(topic: &[u8]) -> Option<Answer> {
    let (rest, status) = match topic.strip_suffix(b"/status") {
        Some(rest) => (rest, true),
        None => (topic.strip_suffix(b"/error")?, false),
    };
    let digits = rest.rsplit(|byte| *byte == b'/').next()?;
    let id = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if status { Answer::Status(id) } else { Answer::Error(id) })
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(if rest > 0 { byte | 0x80 } else { byte });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// # Panics
/// If the text is longer than MQTT allows; `main` checks before.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("names and topics are checked to be short");
    out.extend(len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { index: "0".into(), client_id: "ab".into(), username: Some("u".into()) }
    }

    #[test]
    fn encodes_connect_in_every_version() {
        let v311 = connect(Version::V311, &names(), Some("p"), 60);
        assert_eq!(v311, b"\x10\x14\0\x04MQTT\x04\xc2\0\x3c\0\x02ab\0\x01u\0\x01p");
        let v5 = connect(Version::V5, &names(), None, 0);
        assert_eq!(v5, b"\x10\x12\0\x04MQTT\x05\x82\0\0\0\0\x02ab\0\x01u");
        assert_eq!(&connect(Version::V31, &names(), None, 0)[..11], b"\x10\x13\0\x06MQIsdp\x03");
    }

    #[test]
    fn patches_the_packet_id_and_the_request_id() {
        let template = PublishTemplate::new(Version::V5, "t", b"xy", 1, true);
        let mut out = Vec::new();
        template.write(0x0203, REQUEST_ID_FIRST + 42, &mut out);
        assert_eq!(out, b"\x32\x13\0\x0ct/1000000042\x02\x03\0xy");
    }

    #[test]
    fn splits_the_stream_only_at_whole_packets() {
        let stream = b"\x40\x02\0\x07\xd0\0";
        for cut in 0..4 {
            assert!(frame(&stream[..cut]).expect("good").is_none(), "cut at {cut}");
        }
        let first = frame(stream).expect("good").expect("whole");
        assert_eq!((first.first, packet_id(first.body), first.len), (0x40, Some(7), 4));
        assert!(frame(b"\x30\xff\xff\xff\xff\x01").is_err());
    }

    #[test]
    fn reads_the_limits_in_a_version_5_connack() {
        let body = b"\0\0\x0a\x12\0\x01x\x21\0\x05\x24\x01\x2a";
        assert!(connack(Version::V5, body).is_none(), "cut off in a property");
        let body = b"\0\0\x09\x12\0\x01x\x21\0\x05\x24\x01";
        let connack = connack(Version::V5, body).expect("good");
        assert_eq!((connack.code, connack.receive_maximum, connack.qos_max), (0, 5, 1));
    }

    #[test]
    fn finds_the_request_id_in_an_answer() {
        assert_eq!(
            answer(b"kp1/a/dcx/t/json/1000000001/status"),
            Some(Answer::Status(1_000_000_001))
        );
        assert_eq!(answer(b"kp1/a/dcx/t/json/12/error"), Some(Answer::Error(12)));
        assert_eq!(answer(b"kp1/a/dcx/t/json/status"), None);
    }
}
