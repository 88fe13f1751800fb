//! What tests say as the client of a WebSocket, and how they read what it hears.

pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const MORE: u8 = 0x0;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
pub(crate) const FINAL: u8 = 0x80;

pub(crate) fn request() -> Vec<(&'static str, String)> {
    let line = |name, value: &str| (name, value.to_owned());
    vec![
        line("Host", "gate.example:8083"),
        line("Upgrade", "websocket"),
        line("Connection", "keep-alive, Upgrade"),
        line("Sec-WebSocket-Key", KEY),
        line("Sec-WebSocket-Version", "13"),
        line("Sec-WebSocket-Protocol", "mqttv3.1, mqtt"),
    ]
}

pub(crate) fn head(line: &str, headers: &[(&str, String)]) -> Vec<u8> {
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{line}\r\n{lines}\r\n").into_bytes()
}

/// A client's frame; `first` is the first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// What a server says: frames, each with its first byte and payload.
pub(crate) fn read(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (length, header) = match bytes[1] {
            126 => (u16::from_be_bytes([bytes[2], bytes[3]]).into(), 4),
            127 => (u64::from_be_bytes(bytes[2..10].try_into().expect("eight")) as usize, 10),
            length => (usize::from(length), 2),
        };
        assert!(bytes[1] < 128, "a server does not mask");
        frames.push((bytes[0], bytes[header..header + length].to_vec()));
        bytes = &bytes[header + length..];
    }
    frames
}
