//! What a client is told: the topic of the answer and the payload of an error.

use std::fmt;

use super::{TOPIC_BYTES_MAX, is_name};

/// How a request ended: the last level of the answer's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// `/status`.
    Status,
    /// `/error`.
    Error,
}

impl Outcome {
    /// The outcome an HTTP status code stands for: 2xx is a success, everything else an error.
    #[must_use]
    pub const fn of(status_code: i32) -> Self {
        if matches!(status_code, 200..=299) { Self::Status } else { Self::Error }
    }

    /// With its leading `/`: what is appended to a request topic to answer it.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Status => "/status",
            Self::Error => "/error",
        }
    }
}

/// The parts of the topic an answer or a push is published on: the request topic + `/status` or
/// `/error` (1/KP §Response).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseTopic<'a> {
    /// Application version name.
    pub app_version: &'a str,
    /// Extension instance name.
    pub extension: &'a str,
    /// Token the client used for the endpoint; `None` for an endpoint-unaware extension instance.
    pub token: Option<&'a str>,
    /// Verbatim: empty, or with its leading `/`.
    pub resource_path: &'a str,
    /// `None` for a push, or an answer to a request without id.
    pub request_id: Option<u32>,
    /// Last level.
    pub outcome: Outcome,
}

/// Parts that make no topic. They come from an extension service, which may say anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseTopicError {
    /// The application version is not of `a-z 0-9 - _`.
    AppVersion,
    /// The extension instance is not of `a-z 0-9 - _`.
    Extension,
    /// The resource path does not start with `/`, or has one of `+`, `#` or NUL, which no topic
    /// name has (MQTT-3.3.2-2, MQTT-1.5.4-2).
    ResourcePath,
    /// Longer than [`TOPIC_BYTES_MAX`].
    TooLong,
}

impl ResponseTopic<'_> {
    /// Length in bytes of what [`ResponseTopic::append_to`] appends.
    #[inline]
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        "kp1/".len()
            + self.app_version.len()
            + "/".len()
            + self.extension.len()
            + self.token.map_or(0, |token| "/".len() + token.len())
            + self.resource_path.len()
            + self.request_id.map_or(0, |id| "/".len() + decimal_len(id))
            + self.outcome.suffix().len()
    }

    /// Whether [`ResponseTopic::append_to`] gives a topic that can be published. The token is not
    /// looked at: it is the client's own, checked when its request was taken apart.
    ///
    /// # Errors
    /// [`ResponseTopicError`].
    #[inline]
    pub fn validate(&self) -> Result<(), ResponseTopicError> {
        if !is_name(self.app_version) {
            return Err(ResponseTopicError::AppVersion);
        }
        if !is_name(self.extension) {
            return Err(ResponseTopicError::Extension);
        }
        let path = self.resource_path.as_bytes();
        let starts_well = path.first().is_none_or(|&first| first == b'/');
        if !starts_well || memchr::memchr3(b'+', b'#', 0, path).is_some() {
            return Err(ResponseTopicError::ResourcePath);
        }
        if self.encoded_len() > TOPIC_BYTES_MAX {
            return Err(ResponseTopicError::TooLong);
        }
        Ok(())
    }

    /// Appends the topic as it is, checked or not: see [`ResponseTopic::validate`]. Does not
    /// allocate when `out` has room for [`ResponseTopic::encoded_len`] bytes more.
    #[inline]
    pub fn append_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_len());
        out.extend_from_slice(b"kp1/");
        out.extend_from_slice(self.app_version.as_bytes());
        out.push(b'/');
        out.extend_from_slice(self.extension.as_bytes());
        if let Some(token) = self.token {
            out.push(b'/');
            out.extend_from_slice(token.as_bytes());
        }
        out.extend_from_slice(self.resource_path.as_bytes());
        if let Some(id) = self.request_id {
            out.push(b'/');
            put_decimal(out, id);
        }
        out.extend_from_slice(self.outcome.suffix().as_bytes());
    }
}

/// Appends the payload of an error: a JSON object of exactly `statusCode` and `reasonPhrase`
/// (1/KP §Error response). Does not allocate when `out` has room.
pub fn error_payload(out: &mut Vec<u8>, status_code: i32, reason_phrase: &str) {
    out.extend_from_slice(br#"{"statusCode":"#);
    if status_code < 0 {
        out.push(b'-');
    }
    put_decimal(out, status_code.unsigned_abs());
    out.extend_from_slice(br#","reasonPhrase":""#);
    put_json_escaped(out, reason_phrase);
    out.extend_from_slice(br#""}"#);
}

/// The text for an error status that came without one: that of RFC 9110 for the codes the gateway
/// itself gives, else a plain "Error".
#[must_use]
pub const fn reason_phrase(status_code: i32) -> &'static str {
    match status_code {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Error",
    }
}

/// Decimal digits of `u32::MAX`.
const DECIMAL_BYTES_MAX: usize = 10;

fn decimal_len(value: u32) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

fn put_decimal(out: &mut Vec<u8>, mut value: u32) {
    let mut digits = [b'0'; DECIMAL_BYTES_MAX];
    let len = decimal_len(value);
    for digit in digits[..len].iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[..len]);
}

/// Appends `text` as the inside of a JSON string (RFC 8259 §7: quote, backslash and U+0000 to
/// U+001F are escaped).
fn put_json_escaped(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..0x20 => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => out.push(byte),
        }
    }
}

impl fmt::Display for ResponseTopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppVersion => "the application version of the answer is not of a-z 0-9 - _",
            Self::Extension => "the extension instance of the answer is not of a-z 0-9 - _",
            Self::ResourcePath => {
                "the resource path of the answer does not start with / or has one of +, # or NUL"
            }
            Self::TooLong => "the topic of the answer is longer than 65535 bytes",
        })
    }
}

impl std::error::Error for ResponseTopicError {}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: ResponseTopic<'static> = ResponseTopic {
        app_version: "v1",
        extension: "cmx",
        token: Some("t"),
        resource_path: "/config/json",
        request_id: None,
        outcome: Outcome::Status,
    };

    fn text(topic: ResponseTopic<'_>) -> String {
        let mut out = Vec::new();
        topic.append_to(&mut out);
        assert_eq!(out.len(), topic.encoded_len());
        String::from_utf8(out).expect("made of text")
    }

    #[test]
    fn answers_on_the_request_topic_and_its_outcome() {
        assert_eq!(text(PUSH), "kp1/v1/cmx/t/config/json/status");
        let error = ResponseTopic { request_id: Some(0), outcome: Outcome::of(404), ..PUSH };
        assert_eq!(text(error), "kp1/v1/cmx/t/config/json/0/error");
        let unaware = ResponseTopic {
            token: None,
            resource_path: "",
            request_id: Some(2_147_483_647),
            ..PUSH
        };
        assert_eq!(text(unaware), "kp1/v1/cmx/2147483647/status");
    }

    #[test]
    fn only_2xx_is_a_success() {
        for code in [200, 204, 299] {
            assert_eq!(Outcome::of(code), Outcome::Status);
        }
        for code in [-200, 0, 199, 300, 304, 404, 500] {
            assert_eq!(Outcome::of(code), Outcome::Error);
        }
    }

    #[test]
    fn refuses_parts_that_make_no_topic() {
        assert_eq!(PUSH.validate(), Ok(()));
        assert_eq!(ResponseTopic { resource_path: "", ..PUSH }.validate(), Ok(()));
        for resource_path in ["config", "/a/+", "/#", "/a\0"] {
            let topic = ResponseTopic { resource_path, ..PUSH };
            assert_eq!(topic.validate(), Err(ResponseTopicError::ResourcePath));
        }
        let topic = ResponseTopic { app_version: "", ..PUSH };
        assert_eq!(topic.validate(), Err(ResponseTopicError::AppVersion));
        let topic = ResponseTopic { extension: "a/b", ..PUSH };
        assert_eq!(topic.validate(), Err(ResponseTopicError::Extension));
    }

    #[test]
    fn refuses_a_topic_mqtt_could_not_carry() {
        let room = TOPIC_BYTES_MAX - ResponseTopic { resource_path: "", ..PUSH }.encoded_len();
        let path = format!("/{}", "a".repeat(room));
        let longest = ResponseTopic { resource_path: &path[..room], ..PUSH };
        assert_eq!(longest.validate(), Ok(()));
        let topic = ResponseTopic { resource_path: &path, ..PUSH };
        assert_eq!(topic.validate(), Err(ResponseTopicError::TooLong));
    }

    #[test]
    fn an_error_is_json_of_two_keys() {
        let mut out = Vec::new();
        error_payload(&mut out, 404, reason_phrase(404));
        assert_eq!(out, br#"{"statusCode":404,"reasonPhrase":"Not Found"}"#);
    }

    #[test]
    fn escapes_what_json_forbids_in_a_string() {
        let phrase = "say \"hi\" \\ \n\r\t\u{0}\u{1f}\u{7f} \u{e9}";
        let mut out = Vec::new();
        error_payload(&mut out, i32::MIN, phrase);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json["statusCode"], i64::from(i32::MIN));
        assert_eq!(json["reasonPhrase"], phrase);
    }
}
