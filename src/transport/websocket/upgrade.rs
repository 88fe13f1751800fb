//! The request that a WebSocket begins with, and its answer (RFC 6455 §4.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::Rules;
use crate::telemetry::WebSocketFailure;
use crate::transport::head::{self, Fault, HEADERS_MAX, Headers};

/// Bytes of a key once decoded.
const KEY_BYTES: usize = 16;
/// What the key is hashed with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What is spoken here: MQTT (MQTT-6.0.0-3), and as it was called before it had that name.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// The answer to a request whose head that is.
///
/// # Errors
/// It is no request for a WebSocket that may be had here.
pub(super) fn answer(bytes: &[u8], rules: &Rules) -> Result<Vec<u8>, WebSocketFailure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let request = head::parse(bytes, &mut headers).map_err(|fault| match fault {
        Fault::TooManyHeaders => WebSocketFailure::HeadTooLarge,
        Fault::Version | Fault::Malformed => WebSocketFailure::NotHttp,
    })?;
    if request.method != Some("GET") {
        return Err(WebSocketFailure::WrongMethod);
    }
    if head::path(request.path.unwrap_or_default()) != rules.path {
        return Err(WebSocketFailure::WrongPath);
    }
    let headers = Headers(request.headers);
    // A body would be taken for frames.
    let has_body = headers.all("transfer-encoding").next().is_some()
        || headers.all("content-length").any(|length| length != "0");
    if request.version != Some(1) || headers.all("host").count() != 1 || has_body {
        return Err(WebSocketFailure::NotHttp);
    }
    if !headers.names("upgrade", "websocket") || !headers.names("connection", "upgrade") {
        return Err(WebSocketFailure::NotAnUpgrade);
    }
    if headers.only("sec-websocket-version") != Some("13") {
        return Err(WebSocketFailure::WrongVersion);
    }
    let key = headers.only("sec-websocket-key").filter(|key| is_key(key));
    let key = key.ok_or(WebSocketFailure::BadKey)?;
    if !may_come_from(&headers, rules) {
        return Err(WebSocketFailure::ForbiddenOrigin);
    }
    let spoken = headers.tokens("sec-websocket-protocol").find(|name| SUBPROTOCOLS.contains(name));
    let spoken = spoken.ok_or(WebSocketFailure::NoSubprotocol)?;
    Ok(accept(key, spoken))
}

/// Whether the page that the client runs in may come here. Only browsers say which it is; nothing
/// else runs in a page of somebody else's.
fn may_come_from(headers: &Headers, rules: &Rules) -> bool {
    if rules.origins.is_empty() || headers.all("origin").next().is_none() {
        return true;
    }
    let origin = headers.only("origin").unwrap_or_default();
    rules.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

fn is_key(key: &str) -> bool {
    STANDARD.decode(key).is_ok_and(|key| key.len() == KEY_BYTES)
}

fn accept(key: &str, subprotocol: &str) -> Vec<u8> {
    let mut hashed = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hashed.update(key.as_bytes());
    hashed.update(GUID);
    let proof = STANDARD.encode(hashed.finish());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {proof}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
    .into_bytes()
}

/// What is answered to a request that failed.
pub(super) fn refuse(why: WebSocketFailure, rules: &Rules) -> Vec<u8> {
    use WebSocketFailure as F;
    let (status, header) = match why {
        F::HeadTooLarge => ("431 Request Header Fields Too Large", ""),
        F::WrongMethod => ("405 Method Not Allowed", "Allow: GET\r\n"),
        F::WrongPath => ("404 Not Found", ""),
        F::NotAnUpgrade => ("426 Upgrade Required", "Upgrade: websocket\r\n"),
        F::WrongVersion => {
            ("426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        }
        F::ForbiddenOrigin => ("403 Forbidden", ""),
        _ => ("400 Bad Request", ""),
    };
    let body = match why {
        F::HeadTooLarge => "the head of the request is too large\n".to_owned(),
        F::WrongMethod => "a WebSocket begins with GET\n".to_owned(),
        F::WrongPath => {
            format!("there is nothing here but MQTT over WebSocket at {}\n", rules.path)
        }
        F::NotAnUpgrade => "here is MQTT over WebSocket, and this request is for none\n".to_owned(),
        F::WrongVersion => "Sec-WebSocket-Version must be 13\n".to_owned(),
        F::BadKey => "Sec-WebSocket-Key must be 16 bytes in base64\n".to_owned(),
        F::ForbiddenOrigin => "pages of this origin may not connect\n".to_owned(),
        F::NoSubprotocol => "Sec-WebSocket-Protocol must name mqtt or mqttv3.1\n".to_owned(),
        _ => "this is no request of HTTP/1.1\n".to_owned(),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{header}Connection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
