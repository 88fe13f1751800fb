//! What a client asks for: the topic of its PUBLISH taken apart.

use std::fmt;

use super::{REQUEST_ID_MAX, TOPIC_BYTES_MAX, is_endpoint_token, is_name};

/// A 1/KP topic as far as it can be read without knowing the extension instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic<'a> {
    /// Application version name.
    pub app_version: &'a str,
    /// Extension instance name.
    pub extension: &'a str,
    /// What follows the extension instance: empty, or verbatim from the `/` on.
    rest: &'a str,
}

/// What a topic asks of its extension instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Endpoint token; `None` exactly where the extension instance is endpoint-unaware.
    pub token: Option<&'a str>,
    /// Verbatim: empty, or with its leading `/`.
    pub resource_path: &'a str,
    /// The last level, where it is a number.
    pub request_id: RequestId,
}

/// What the last level of a topic says about the answer (1/KP §Request ID).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestId {
    /// No number: the client wants no answer.
    None,
    /// At most [`REQUEST_ID_MAX`].
    Some(u32),
    /// A canonical decimal above [`REQUEST_ID_MAX`], which 4/ESP cannot carry: to be answered with
    /// status 400 on the request topic + `/error`.
    TooLarge,
}

/// A topic that asks for nothing 1/KP can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// The first level is not `kp1`: another protocol's topic.
    NotKp1,
    /// A `kp1` topic of the wrong shape.
    Malformed(Malformed),
}

/// What is wrong with the shape of a `kp1` topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than [`TOPIC_BYTES_MAX`].
    TooLong,
    /// The application version level is missing or is no name.
    AppVersion,
    /// The extension instance level is missing or is no name.
    Extension,
    /// The endpoint token level is missing or is no token.
    Token,
}

/// Takes the levels every 1/KP topic starts with.
///
/// # Errors
/// [`TopicError::NotKp1`] for a topic outside 1/KP, else [`TopicError::Malformed`].
pub fn split(topic: &str) -> Result<Topic<'_>, TopicError> {
    let (kp1, after_kp1) = split_level(topic);
    if kp1 != "kp1" {
        return Err(TopicError::NotKp1);
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::Malformed(Malformed::TooLong));
    }
    let (app_version, after_version) = split_level(after_kp1.strip_prefix('/').unwrap_or_default());
    if !is_name(app_version) {
        return Err(TopicError::Malformed(Malformed::AppVersion));
    }
    let (extension, rest) = split_level(after_version.strip_prefix('/').unwrap_or_default());
    if !is_name(extension) {
        return Err(TopicError::Malformed(Malformed::Extension));
    }
    Ok(Topic { app_version, extension, rest })
}

impl<'a> Topic<'a> {
    /// Reads the rest for an extension instance that serves endpoints: a token comes first. A
    /// token of digits is a token, not a request id.
    ///
    /// # Errors
    /// [`Malformed::Token`].
    pub fn endpoint_aware(&self) -> Result<Request<'a>, Malformed> {
        let (token, after_token) = split_level(self.rest.strip_prefix('/').unwrap_or_default());
        if !is_endpoint_token(token) {
            return Err(Malformed::Token);
        }
        let (resource_path, request_id) = take_request_id(after_token);
        Ok(Request { token: Some(token), resource_path, request_id })
    }

    /// Reads the rest for an extension instance that knows no endpoints.
    #[must_use]
    pub fn endpoint_unaware(&self) -> Request<'a> {
        let (resource_path, request_id) = take_request_id(self.rest);
        Request { token: None, resource_path, request_id }
    }
}

/// Takes the request id off a whole topic, for a table of resolved topics keyed by what is left:
/// all requests of one kind share one entry, whatever their ids.
///
/// Two topics with the same base ask the same of their extension instance, and the id is the one
/// [`Topic::endpoint_aware`] or [`Topic::endpoint_unaware`] finds. `None` where the topic alone
/// cannot say: the number in `kp1/<app version>/<extension instance>/42` is the token or the
/// request id, as the instance is. Such a topic is neither looked up nor kept in the table.
///
/// Checks nothing else: the topic may be malformed or not 1/KP at all.
#[inline]
#[must_use]
pub fn split_request_id(topic: &str) -> Option<(&str, RequestId)> {
    let (base, request_id) = take_request_id(topic);
    if request_id == RequestId::None {
        return Some((topic, RequestId::None));
    }
    let mut levels = memchr::memchr_iter(b'/', base.as_bytes());
    match (levels.nth(1), levels.next()) {
        (Some(_), Some(_)) => Some((base, request_id)),
        (Some(_), None) => None,
        // The number is in a place that a name has.
        (None, _) => Some((topic, RequestId::None)),
    }
}

/// The first level, and what follows it from the `/` on.
#[inline]
fn split_level(levels: &str) -> (&str, &str) {
    levels.split_at(memchr::memchr(b'/', levels.as_bytes()).unwrap_or(levels.len()))
}

/// Splits `/<digits>` off the end where it is a request id.
#[inline]
fn take_request_id(path: &str) -> (&str, RequestId) {
    let digits = path.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (before, number) = path.split_at(path.len() - digits);
    let Some(base) = before.strip_suffix('/') else {
        return (path, RequestId::None);
    };
    if number.is_empty() || (number.starts_with('0') && number.len() > 1) {
        return (path, RequestId::None);
    }
    match number.parse() {
        Ok(id) if id <= REQUEST_ID_MAX => (base, RequestId::Some(id)),
        _ => (base, RequestId::TooLarge),
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKp1 => write!(f, "the topic does not start with kp1/"),
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the topic is longer than 65535 bytes",
            Self::AppVersion => "the application version in the topic is not of a-z 0-9 - _",
            Self::Extension => "the extension instance in the topic is not of a-z 0-9 - _",
            Self::Token => "the endpoint token in the topic is empty or has one of + # / .",
        })
    }
}

impl std::error::Error for TopicError {}
impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    fn aware(topic: &str) -> (&str, &str, RequestId) {
        let request = split(topic).expect("1/KP").endpoint_aware().expect("a token");
        (request.token.expect("endpoint-aware"), request.resource_path, request.request_id)
    }

    fn unaware(topic: &str) -> (&str, RequestId) {
        let request = split(topic).expect("1/KP").endpoint_unaware();
        assert_eq!(request.token, None);
        (request.resource_path, request.request_id)
    }

    #[test]
    fn takes_the_topics_of_shipped_clients_apart() {
        let topic = split("kp1/kettle-v1/cmx_ota/t/config/json/7").expect("1/KP");
        assert_eq!((topic.app_version, topic.extension), ("kettle-v1", "cmx_ota"));
        assert_eq!(aware("kp1/v/dcx/t/json/42"), ("t", "/json", RequestId::Some(42)));
        assert_eq!(aware("kp1/v/dcx/t/plain/rpm"), ("t", "/plain/rpm", RequestId::None));
        assert_eq!(aware("kp1/v/rsx/t/dcx/234531"), ("t", "/dcx", RequestId::Some(234_531)));
        assert_eq!(aware("kp1/v/tsx/t"), ("t", "", RequestId::None));
        assert_eq!(unaware("kp1/v/tsx"), ("", RequestId::None));
        assert_eq!(unaware("kp1/v/rgx/register/9"), ("/register", RequestId::Some(9)));
    }

    #[test]
    fn a_request_id_is_a_canonical_decimal_of_31_bits() {
        for (level, id) in [
            ("0", RequestId::Some(0)),
            ("2147483647", RequestId::Some(REQUEST_ID_MAX)),
            ("2147483648", RequestId::TooLarge),
            ("99999999999999999999999999", RequestId::TooLarge),
        ] {
            let topic = format!("kp1/v/dcx/t/json/{level}");
            assert_eq!(aware(&topic), ("t", "/json", id));
        }
        for level in ["007", "00", "+1", "-1", "1a", "a1", "1.0", " 1", "\u{661}"] {
            let topic = format!("kp1/v/dcx/t/json/{level}");
            assert_eq!(aware(&topic), ("t", &*format!("/json/{level}"), RequestId::None));
        }
    }

    #[test]
    fn slashes_are_significant() {
        assert_eq!(aware("kp1/v/e/t/"), ("t", "/", RequestId::None));
        assert_eq!(aware("kp1/v/e/t/a/"), ("t", "/a/", RequestId::None));
        assert_eq!(aware("kp1/v/e/t/a/1/"), ("t", "/a/1/", RequestId::None));
        assert_eq!(aware("kp1/v/e/t//a//1"), ("t", "//a/", RequestId::Some(1)));
        assert_eq!(aware("kp1/v/e/t/1"), ("t", "", RequestId::Some(1)));
        assert_eq!(unaware("kp1/v/e/"), ("/", RequestId::None));
        assert_eq!(unaware("kp1/v/e//1"), ("/", RequestId::Some(1)));
    }

    #[test]
    fn a_token_of_digits_is_a_token() {
        assert_eq!(aware("kp1/v/e/42"), ("42", "", RequestId::None));
        assert_eq!(aware("kp1/v/e/42/7"), ("42", "", RequestId::Some(7)));
        assert_eq!(unaware("kp1/v/e/42"), ("", RequestId::Some(42)));
    }

    #[test]
    fn tells_foreign_topics_from_malformed_ones() {
        for topic in ["", "/", "/kp1/v/e/t", "kp10/v/e/t", "KP1/v/e/t", "v/e/t"] {
            assert_eq!(split(topic), Err(TopicError::NotKp1), "{topic}");
        }
        for (topic, malformed) in [
            ("kp1", Malformed::AppVersion),
            ("kp1/", Malformed::AppVersion),
            ("kp1//e/t", Malformed::AppVersion),
            ("kp1/V/e/t", Malformed::AppVersion),
            ("kp1/v", Malformed::Extension),
            ("kp1/v/", Malformed::Extension),
            ("kp1/v//t", Malformed::Extension),
            ("kp1/v/a.>/t", Malformed::Extension),
        ] {
            assert_eq!(split(topic), Err(TopicError::Malformed(malformed)), "{topic}");
        }
        for topic in ["kp1/v/e", "kp1/v/e/", "kp1/v/e//json", "kp1/v/e/a.b/json"] {
            let topic = split(topic).expect("names are fine");
            assert_eq!(topic.endpoint_aware(), Err(Malformed::Token));
        }
    }

    #[test]
    fn refuses_a_topic_mqtt_could_not_carry() {
        let longest = format!("kp1/v/e/t/{}", "a".repeat(TOPIC_BYTES_MAX - 10));
        assert!(split(&longest).is_ok());
        let error = TopicError::Malformed(Malformed::TooLong);
        assert_eq!(split(&format!("{longest}a")), Err(error));
    }

    #[test]
    fn the_base_of_a_topic_keeps_token_and_extension() {
        for (topic, split) in [
            ("kp1/v/dcx/t/json/42", Some(("kp1/v/dcx/t/json", RequestId::Some(42)))),
            ("kp1/v/dcx/t/42", Some(("kp1/v/dcx/t", RequestId::Some(42)))),
            ("kp1/v/dcx/t/json", Some(("kp1/v/dcx/t/json", RequestId::None))),
            ("kp1/v/dcx/t/json/042", Some(("kp1/v/dcx/t/json/042", RequestId::None))),
            ("kp1/v/e/t/json/2147483648", Some(("kp1/v/e/t/json", RequestId::TooLarge))),
            ("kp1/v/dcx/42", None),
            ("kp1/v/dcx/99999999999", None),
            ("kp1/v/42", Some(("kp1/v/42", RequestId::None))),
            ("kp1/42", Some(("kp1/42", RequestId::None))),
            ("42", Some(("42", RequestId::None))),
            ("", Some(("", RequestId::None))),
        ] {
            assert_eq!(split_request_id(topic), split, "{topic}");
        }
    }
}
