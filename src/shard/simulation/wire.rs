//! The client's side of MQTT, written by hand and by the book, so that it shares nothing with the
//! codec under test. Levels are protocol levels: 3, 4 and 5.

/// What a client asks for in CONNECT. The last four are of v5 only.
#[derive(Clone, Debug, Default)]
pub struct Connect {
    pub client_id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub expiry_s: u32,
    pub receive_max: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub alias_max: u16,
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        packet.push(if length > 0 { digit | 128 } else { digit });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// A section of properties that is shorter than 128 bytes.
fn put_properties(body: &mut Vec<u8>, properties: &[u8]) {
    body.push(properties.len() as u8);
    body.extend_from_slice(properties);
}

pub fn connect(level: u8, asked: &Connect) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, if level == 3 { "MQIsdp" } else { "MQTT" });
    body.push(level);
    body.push(if asked.clean { 2 } else { 0 });
    body.extend_from_slice(&asked.keep_alive_s.to_be_bytes());
    if level == 5 {
        let mut properties = vec![0x11];
        properties.extend_from_slice(&asked.expiry_s.to_be_bytes());
        if let Some(max) = asked.receive_max {
            properties.push(0x21);
            properties.extend_from_slice(&max.to_be_bytes());
        }
        if let Some(max) = asked.packet_bytes_max {
            properties.push(0x27);
            properties.extend_from_slice(&max.to_be_bytes());
        }
        properties.push(0x22);
        properties.extend_from_slice(&asked.alias_max.to_be_bytes());
        put_properties(&mut body, &properties);
    }
    put_text(&mut body, &asked.client_id);
    packet(0x10, &body)
}

/// A message for [`publish`]. `packet_id` is 0 with QoS 0, `alias` 0 where there is none.
pub struct Publish<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    pub packet_id: u16,
    pub dup: bool,
    pub alias: u16,
}

pub fn publish(level: u8, message: &Publish<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, message.topic);
    if message.qos > 0 {
        body.extend_from_slice(&message.packet_id.to_be_bytes());
    }
    if level == 5 {
        match message.alias {
            0 => body.push(0),
            alias => put_properties(&mut body, &[0x23, (alias >> 8) as u8, alias as u8]),
        }
    }
    body.extend_from_slice(message.payload);
    packet(0x30 | u8::from(message.dup) << 3 | message.qos << 1, &body)
}

/// PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70.
pub fn acknowledge(first: u8, packet_id: u16) -> Vec<u8> {
    packet(first, &packet_id.to_be_bytes())
}

pub fn subscribe(level: u8, packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == 5 {
        body.push(0);
    }
    for (filter, qos) in filters {
        put_text(&mut body, filter);
        body.push(*qos);
    }
    packet(0x82, &body)
}

pub fn ping() -> Vec<u8> {
    packet(0xC0, &[])
}

/// DISCONNECT; v5 may change the session's expiry.
pub fn disconnect(level: u8, expiry_s: Option<u32>) -> Vec<u8> {
    let mut body = Vec::new();
    if let (5, Some(expiry_s)) = (level, expiry_s) {
        body.push(0);
        let mut properties = vec![0x11];
        properties.extend_from_slice(&expiry_s.to_be_bytes());
        put_properties(&mut body, &properties);
    }
    packet(0xE0, &body)
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum FromServer {
    ConnAck { present: bool, code: u8 },
    Publish { topic: String, payload: Vec<u8>, qos: u8, dup: bool, packet_id: u16, alias: u16 },
    PubAck { packet_id: u16, code: u8 },
    PubRec { packet_id: u16, code: u8 },
    PubRel { packet_id: u16 },
    PubComp { packet_id: u16 },
    SubAck { packet_id: u16, codes: Vec<u8> },
    PingResp,
    Disconnect { code: u8 },
}

/// Takes the packet that `bytes` begins with, and says how long it was; `None` when it is not all
/// there.
///
/// # Panics
/// When no server may say that.
pub fn take(level: u8, bytes: &[u8]) -> Option<(FromServer, usize)> {
    let first = *bytes.first()?;
    let mut length = 0;
    let mut at = 1;
    for shift in (0..28).step_by(7) {
        let digit = *bytes.get(at)?;
        at += 1;
        length |= usize::from(digit & 127) << shift;
        if digit < 128 {
            break;
        }
        assert!(shift < 21, "a length of more than four bytes");
    }
    let body = bytes.get(at..at + length)?;
    Some((read(level, first, body), at + length))
}

fn read(level: u8, first: u8, body: &[u8]) -> FromServer {
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let code = || match body.get(2) {
        Some(code) => {
            assert!(level == 5 && body.len() == 3, "only v5 has a reason: {body:?}");
            *code
        }
        None => 0,
    };
    match first {
        0x20 => {
            assert_eq!(body.len() == 2, level != 5, "CONNACK {body:?}");
            assert!(body[0] < 2 && (level > 3 || body[0] == 0), "CONNACK flags {body:?}");
            FromServer::ConnAck { present: body[0] == 1, code: body[1] }
        }
        0x30..=0x3F => read_publish(level, first, body),
        0x40 => FromServer::PubAck { packet_id: number(0), code: code() },
        0x50 => FromServer::PubRec { packet_id: number(0), code: code() },
        0x62 => FromServer::PubRel { packet_id: number(0) },
        0x70 => FromServer::PubComp { packet_id: number(0) },
        0x90 => {
            let codes = if level == 5 { &body[3..] } else { &body[2..] };
            FromServer::SubAck { packet_id: number(0), codes: codes.to_vec() }
        }
        0xD0 => {
            assert!(body.is_empty());
            FromServer::PingResp
        }
        0xE0 => {
            assert_eq!(level, 5, "only v5 is told why");
            FromServer::Disconnect { code: body.first().copied().unwrap_or(0) }
        }
        _ => panic!("a server does not say {first:#04X} {body:?}"),
    }
}

fn read_publish(level: u8, first: u8, body: &[u8]) -> FromServer {
    let qos = first >> 1 & 3;
    assert!(qos < 3 && first & 1 == 0, "QoS 3, or retained");
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8(body[2..topic_end].to_vec()).expect("UTF-8");
    let mut rest = &body[topic_end..];
    let mut packet_id = 0;
    if qos > 0 {
        packet_id = u16::from_be_bytes([rest[0], rest[1]]);
        assert_ne!(packet_id, 0);
        rest = &rest[2..];
    }
    let mut alias = 0;
    if level == 5 {
        match rest {
            [0, payload @ ..] => rest = payload,
            [3, 0x23, high, low, payload @ ..] => {
                alias = u16::from_be_bytes([*high, *low]);
                assert_ne!(alias, 0);
                rest = payload;
            }
            _ => panic!("properties no gateway needs: {rest:?}"),
        }
    }
    let dup = first & 8 != 0;
    assert!(qos > 0 || !dup, "DUP with QoS 0");
    FromServer::Publish { topic, payload: rest.to_vec(), qos, dup, packet_id, alias }
}
