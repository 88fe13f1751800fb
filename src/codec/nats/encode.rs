//! What a client sends.

use serde::Serialize;

/// Asks for a PONG, which the server sends after it has processed everything before.
pub const PING: &[u8] = b"PING\r\n";
/// The answer to the server's PING.
pub const PONG: &[u8] = b"PONG\r\n";

/// The JSON of a CONNECT. Credentials that are `None` are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connect<'a> {
    /// Ask for `+OK` after every operation.
    pub verbose: bool,
    /// Ask for strict checks of subjects.
    pub pedantic: bool,
    /// Whether the connection is over TLS.
    pub tls_required: bool,
    /// Name of the client, shown by the server's monitoring.
    pub name: &'a str,
    /// Language of the client.
    pub lang: &'a str,
    /// Version of the client.
    pub version: &'a str,
    /// 1: the client understands INFO at any time.
    pub protocol: u8,
    /// Whether the client wants messages that it has published itself.
    pub echo: bool,
    /// Whether the client understands headers.
    pub headers: bool,
    /// Whether the client wants to be told when a request reaches nobody; needs `headers`.
    pub no_responders: bool,
    /// User name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// Password of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<&'a str>,
    /// Token, in place of user and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_token: Option<&'a str>,
    /// User JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<&'a str>,
    /// Public key of the user where there is no JWT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<&'a str>,
    /// The server's nonce, signed; base64url without padding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sig: Option<&'a str>,
}

/// Appends `CONNECT <json>`.
pub fn connect(out: &mut Vec<u8>, options: &Connect<'_>) {
    out.extend_from_slice(b"CONNECT ");
    // Writing plain structs of strings and booleans to a Vec has no way to fail.
    let _ = serde_json::to_writer(&mut *out, options);
    out.extend_from_slice(b"\r\n");
}

/// Appends `SUB <subject> [queue] <sid>`. The subject and the queue group must hold no white space.
pub fn subscribe(out: &mut Vec<u8>, subject: &str, queue: Option<&str>, sid: u64) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject.as_bytes());
    if let Some(queue) = queue {
        out.push(b' ');
        out.extend_from_slice(queue.as_bytes());
    }
    out.push(b' ');
    decimal(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends `UNSUB <sid>`.
pub fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    out.extend_from_slice(b"UNSUB ");
    decimal(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a publication, `PUB <subject> [reply] <size>` and CRLF. The caller appends
/// `payload_bytes` bytes and another CRLF. The subjects must hold no white space.
pub fn publish_head(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload_bytes: usize) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    if let Some(reply) = reply {
        out.push(b' ');
        out.extend_from_slice(reply);
    }
    out.push(b' ');
    decimal(out, payload_bytes as u64);
    out.extend_from_slice(b"\r\n");
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    // 20 digits hold every u64.
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_lines_of_the_protocol() {
        let mut out = Vec::new();
        subscribe(&mut out, "a.>", None, 1);
        subscribe(&mut out, "a.*", Some("q"), u64::MAX);
        unsubscribe(&mut out, 0);
        publish_head(&mut out, b"s", Some(b"r"), 1_000);
        publish_head(&mut out, b"s", None, 0);
        let expected = "SUB a.> 1\r\nSUB a.* q 18446744073709551615\r\nUNSUB 0\r\n\
                        PUB s r 1000\r\nPUB s 0\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn connect_leaves_out_credentials_that_are_not_set() {
        let mut out = Vec::new();
        let options = Connect { name: "x \"y\"", user: Some("u"), ..Connect::default() };
        connect(&mut out, &options);
        let json = out.strip_prefix(b"CONNECT ").unwrap().strip_suffix(b"\r\n").unwrap();
        let value: serde_json::Value = serde_json::from_slice(json).unwrap();
        assert_eq!(value["name"], "x \"y\"");
        assert_eq!(value["user"], "u");
        assert!(value.get("pass").is_none() && value.get("jwt").is_none());
    }
}
