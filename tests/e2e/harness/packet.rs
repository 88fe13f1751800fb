//! MQTT packets byte by byte, written for these tests alone: nothing of ringgate's codec is used,
//! so an error there cannot hide itself here. Encoding also makes what no client should send.

/// Protocol levels as CONNECT carries them.
pub const V31: u8 = 3;
pub const V311: u8 = 4;
pub const V5: u8 = 5;

/// Packet types: the high half of a packet's first byte.
pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBACK: u8 = 9;
pub const UNSUBACK: u8 = 11;
pub const PINGRESP: u8 = 13;
pub const DISCONNECT: u8 = 14;

/// MQTT 5 property identifiers (MQTT 5.0 §2.2.2.2).
pub mod property {
    pub const SUBSCRIPTION_ID: u32 = 0x0B;
    pub const SESSION_EXPIRY: u32 = 0x11;
    pub const ASSIGNED_CLIENT_ID: u32 = 0x12;
    pub const SERVER_KEEP_ALIVE: u32 = 0x13;
    pub const REASON_STRING: u32 = 0x1F;
    pub const RECEIVE_MAXIMUM: u32 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u32 = 0x22;
    pub const TOPIC_ALIAS: u32 = 0x23;
    pub const MAXIMUM_QOS: u32 = 0x24;
    pub const RETAIN_AVAILABLE: u32 = 0x25;
    pub const USER_PROPERTY: u32 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u32 = 0x27;
    pub const WILDCARD_AVAILABLE: u32 = 0x28;
    pub const SUBSCRIPTION_ID_AVAILABLE: u32 = 0x29;
    pub const SHARED_AVAILABLE: u32 = 0x2A;
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// Properties of an MQTT 5 packet, in the order of the wire.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties(pub Vec<(u32, Value)>);

impl Properties {
    pub fn number(&self, id: u32) -> Option<u32> {
        self.0.iter().find(|(found, _)| *found == id).and_then(|(_, value)| match value {
            Value::Byte(number) => Some(u32::from(*number)),
            Value::Two(number) => Some(u32::from(*number)),
            Value::Four(number) | Value::Variable(number) => Some(*number),
            _ => None,
        })
    }

    pub fn text(&self, id: u32) -> Option<&str> {
        self.0.iter().find(|(found, _)| *found == id).and_then(|(_, value)| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for (id, value) in &self.0 {
            content.extend(variable(*id));
            match value {
                Value::Byte(number) => content.push(*number),
                Value::Two(number) => content.extend(number.to_be_bytes()),
                Value::Four(number) => content.extend(number.to_be_bytes()),
                Value::Variable(number) => content.extend(variable(*number)),
                Value::Text(text) => content.extend(prefixed(text.as_bytes())),
                Value::Binary(bytes) => content.extend(prefixed(bytes)),
                Value::Pair(key, value) => {
                    content.extend(prefixed(key.as_bytes()));
                    content.extend(prefixed(value.as_bytes()));
                }
            }
        }
        let mut bytes = variable(u32::try_from(content.len()).expect("short properties"));
        bytes.extend(content);
        bytes
    }
}

/// A variable byte integer (MQTT 5.0 §1.5.5).
pub fn variable(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number % 128) as u8;
        number /= 128;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Bytes or text with their two-byte length.
pub fn prefixed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// A whole packet: first byte, remaining length, body.
pub fn framed(head: u8, body: &[u8]) -> Vec<u8> {
    let length = variable(u32::try_from(body.len()).expect("a body below 256 MiB"));
    [&[head], length.as_slice(), body].concat()
}

/// A CONNECT in the making.
#[derive(Debug, Clone)]
pub struct Connect {
    pub level: u8,
    pub name: &'static str,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    /// Topic and payload.
    pub will: Option<(String, Vec<u8>)>,
    pub properties: Properties,
}

impl Connect {
    pub fn new(level: u8, client_id: &str) -> Self {
        Self {
            level,
            name: if level == V31 { "MQIsdp" } else { "MQTT" },
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive_s: 60,
            username: None,
            password: None,
            will: None,
            properties: Properties::default(),
        }
    }

    /// Clean session off (v5: clean start off).
    pub fn resuming(mut self) -> Self {
        self.clean = false;
        self
    }

    /// A password of any bytes.
    pub fn password_bytes(mut self, password: &[u8]) -> Self {
        self.password = Some(password.to_vec());
        self
    }

    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    pub fn credentials(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.to_owned());
        self.password = Some(password.as_bytes().to_vec());
        self
    }

    pub fn will(mut self, topic: &str, payload: &[u8]) -> Self {
        self.will = Some((topic.to_owned(), payload.to_vec()));
        self
    }

    pub fn property(mut self, id: u32, value: Value) -> Self {
        self.properties.0.push((id, value));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let flags = u8::from(self.clean) << 1
            | u8::from(self.will.is_some()) << 2
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.username.is_some()) << 7;
        let mut body = prefixed(self.name.as_bytes());
        body.extend([self.level, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.level == V5 {
            body.extend(self.properties.bytes());
        }
        body.extend(prefixed(self.client_id.as_bytes()));
        if let Some((topic, payload)) = &self.will {
            if self.level == V5 {
                body.push(0);
            }
            body.extend(prefixed(topic.as_bytes()));
            body.extend(prefixed(payload));
        }
        if let Some(username) = &self.username {
            body.extend(prefixed(username.as_bytes()));
        }
        if let Some(password) = &self.password {
            body.extend(prefixed(password));
        }
        framed(0x10, &body)
    }
}

/// A PUBLISH, made or received.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub packet_id: u16,
    pub duplicate: bool,
    pub retain: bool,
    pub properties: Properties,
}

impl Publish {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self { topic: topic.to_owned(), payload: payload.as_ref().to_vec(), ..Self::default() }
    }

    pub fn qos(mut self, qos: u8, packet_id: u16) -> Self {
        self.qos = qos;
        self.packet_id = packet_id;
        self
    }

    pub fn duplicate(mut self) -> Self {
        self.duplicate = true;
        self
    }

    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub fn property(mut self, id: u32, value: Value) -> Self {
        self.properties.0.push((id, value));
        self
    }

    pub fn bytes(&self, level: u8) -> Vec<u8> {
        let head = 0x30 | u8::from(self.duplicate) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut body = prefixed(self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.packet_id.to_be_bytes());
        }
        if level == V5 {
            body.extend(self.properties.bytes());
        }
        body.extend(&self.payload);
        framed(head, &body)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a UTF-8 payload")
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with success.
pub fn acknowledgement(kind: u8, packet_id: u16) -> Vec<u8> {
    let head = kind << 4 | if kind == PUBREL { 2 } else { 0 };
    framed(head, &packet_id.to_be_bytes())
}

/// SUBSCRIBE; each filter with its options byte (before v5: the requested QoS).
pub fn subscribe(level: u8, packet_id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(level, packet_id, filters, &Properties::default())
}

/// SUBSCRIBE with v5 properties.
pub fn subscribe_with(
    level: u8,
    packet_id: u16,
    filters: &[(&str, u8)],
    properties: &Properties,
) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == V5 {
        body.extend(properties.bytes());
    }
    for (filter, options) in filters {
        body.extend(prefixed(filter.as_bytes()));
        body.push(*options);
    }
    framed(0x82, &body)
}

pub fn unsubscribe(level: u8, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if level == V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(prefixed(filter.as_bytes()));
    }
    framed(0xA2, &body)
}

pub const PINGREQ_BYTES: [u8; 2] = [0xC0, 0];
pub const DISCONNECT_BYTES: [u8; 2] = [0xE0, 0];

/// A received packet: first byte and body.
#[derive(Debug, Clone, PartialEq)]
pub struct Packet {
    pub head: u8,
    pub body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Connack {
    pub session_present: bool,
    pub code: u8,
    pub properties: Properties,
}

/// Any packet that carries a packet id and, in v5, a reason and properties.
#[derive(Debug, Clone, PartialEq)]
pub struct Acknowledged {
    pub packet_id: u16,
    pub reason: u8,
    pub properties: Properties,
}

/// SUBACK or UNSUBACK.
#[derive(Debug, Clone, PartialEq)]
pub struct Suback {
    pub packet_id: u16,
    pub properties: Properties,
    pub reasons: Vec<u8>,
}

impl Packet {
    /// Takes the first whole packet off `bytes`.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let mut length = 0usize;
        for index in 0..4 {
            let byte = *bytes.get(1 + index)?;
            length |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                let start = 2 + index;
                let body = bytes.get(start..start + length)?.to_vec();
                let head = bytes[0];
                bytes.drain(..start + length);
                return Some(Self { head, body });
            }
        }
        panic!("the gateway sent a remaining length of more than four bytes: {bytes:02x?}")
    }

    pub fn kind(&self) -> u8 {
        self.head >> 4
    }

    pub fn connack(&self, level: u8) -> Connack {
        let mut reader = self.reader(CONNACK, 0);
        let flags = reader.byte();
        assert_eq!(flags & 0xFE, 0, "reserved CONNACK flags in {self:02x?}");
        let code = reader.byte();
        let properties = reader.properties_of(level);
        reader.end();
        Connack { session_present: flags == 1, code, properties }
    }

    pub fn publish(&self, level: u8) -> Publish {
        assert_eq!(self.kind(), PUBLISH, "expected a PUBLISH, got {self:02x?}");
        let mut reader = Reader(&self.body);
        let topic = reader.text();
        let qos = self.head >> 1 & 3;
        let packet_id = if qos > 0 { reader.two() } else { 0 };
        let properties = reader.properties_of(level);
        Publish {
            topic,
            payload: reader.0.to_vec(),
            qos,
            packet_id,
            duplicate: self.head & 8 != 0,
            retain: self.head & 1 != 0,
            properties,
        }
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledged(&self, kind: u8, level: u8) -> Acknowledged {
        let mut reader = self.reader(kind, if kind == PUBREL { 2 } else { 0 });
        let packet_id = reader.two();
        // MQTT 5.0 §3.4.2.1: reason and properties may be left out when they say "success".
        let reason = if level == V5 && !reader.0.is_empty() { reader.byte() } else { 0 };
        let properties =
            if reader.0.is_empty() { Properties::default() } else { reader.properties_of(level) };
        reader.end();
        Acknowledged { packet_id, reason, properties }
    }

    /// SUBACK or UNSUBACK.
    pub fn suback(&self, kind: u8, level: u8) -> Suback {
        let mut reader = self.reader(kind, 0);
        let packet_id = reader.two();
        let properties = reader.properties_of(level);
        Suback { packet_id, properties, reasons: reader.0.to_vec() }
    }

    /// A v5 DISCONNECT from the server: its reason and properties.
    pub fn disconnect(&self) -> (u8, Properties) {
        let mut reader = self.reader(DISCONNECT, 0);
        let reason = if reader.0.is_empty() { 0 } else { reader.byte() };
        let properties =
            if reader.0.is_empty() { Properties::default() } else { reader.properties_of(V5) };
        reader.end();
        (reason, properties)
    }

    fn reader(&self, kind: u8, flags: u8) -> Reader<'_> {
        assert_eq!(self.head, kind << 4 | flags, "another packet than expected: {self:02x?}");
        Reader(&self.body)
    }
}

/// Reads a packet's body from the front; panics where the gateway sent something malformed.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().expect("a packet that ends too early");
        self.0 = rest;
        *byte
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn four(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn variable(&mut self) -> u32 {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            number |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return number;
            }
        }
        panic!("a variable byte integer of more than four bytes")
    }

    fn binary(&mut self) -> Vec<u8> {
        let length = usize::from(self.two());
        assert!(length <= self.0.len(), "a field longer than its packet");
        let (field, rest) = self.0.split_at(length);
        self.0 = rest;
        field.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.binary()).expect("UTF-8 text")
    }

    /// The property block a v5 packet has and an older one has not.
    fn properties_of(&mut self, level: u8) -> Properties {
        if level != V5 {
            return Properties::default();
        }
        let length = self.variable() as usize;
        assert!(length <= self.0.len(), "properties longer than their packet");
        let (content, rest) = self.0.split_at(length);
        self.0 = rest;
        let mut reader = Reader(content);
        let mut properties = Properties::default();
        while !reader.0.is_empty() {
            let id = reader.variable();
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Byte(reader.byte()),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Two(reader.two()),
                0x02 | 0x11 | 0x18 | 0x27 => Value::Four(reader.four()),
                0x0B => Value::Variable(reader.variable()),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(reader.text()),
                0x09 | 0x16 => Value::Binary(reader.binary()),
                0x26 => Value::Pair(reader.text(), reader.text()),
                _ => panic!("the gateway sent an unknown property {id:#04x}"),
            };
            properties.0.push((id, value));
        }
        properties
    }

    fn end(&self) {
        assert!(self.0.is_empty(), "bytes after the end of a packet: {:02x?}", self.0);
    }
}
