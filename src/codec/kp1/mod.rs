//! 1/KP: the topics devices speak on, and what answers look like.
//!
//! ```text
//! kp1/<app version>/<extension instance>[/<endpoint token>]<resource path>[/<request id>]
//! ```
//!
//! The token is there only where the extension instance is endpoint-aware, which the configuration
//! knows and the topic does not: [`split`] takes the part that needs no such knowledge, then
//! [`Topic::endpoint_aware`] or [`Topic::endpoint_unaware`] the rest.
//!
//! The resource path is kept verbatim with its leading `/`, or is empty when nothing follows the
//! token: leading and trailing slashes are significant.
//!
//! A request id is a last level that is a canonical decimal of 0 to [`REQUEST_ID_MAX`]. 1/KP asks
//! for a positive integer; shipped clients also send 0. The limit is that of `requestId`, an Avro
//! `int`. Digits with a leading zero are path, since the answer's topic is rebuilt from the number.

mod request;
mod response;

pub use request::{Malformed, Request, RequestId, Topic, TopicError, split, split_request_id};
pub use response::{Outcome, ResponseTopic, ResponseTopicError, error_payload, reason_phrase};

/// The longest topic MQTT can carry, in bytes (MQTT-1.5.4: a UTF-8 string has a 16-bit length).
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// The largest request id: the largest Avro `int`.
pub const REQUEST_ID_MAX: u32 = i32::MAX as u32;

/// Whether `name` may name an application version or an extension instance: one or more of
/// `a-z 0-9 - _`.
///
/// Such a name is safe as a token of a NATS subject.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_name_byte = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    !name.is_empty() && name.bytes().all(is_name_byte)
}

/// Whether `token` may be an endpoint token: not empty, none of `+ # / .`.
#[must_use]
pub fn is_endpoint_token(token: &str) -> bool {
    let is_forbidden = |byte| matches!(byte, b'+' | b'#' | b'/' | b'.');
    !token.is_empty() && !token.bytes().any(is_forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_digits_dash_and_underscore() {
        assert!(is_name("smart_kettle-v1"));
        for name in ["", "Kettle", "a.b", "a b", "a*", "\u{e9}", "a/b"] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn tokens_are_anything_but_wildcards_slash_and_dot() {
        assert!(is_endpoint_token("Kettle 1*\u{e9}"));
        for token in ["", "+", "a#", "a/b", "a.b"] {
            assert!(!is_endpoint_token(token), "{token}");
        }
    }
}
