//! What all of the REST interface has in common: requests taken apart, answers put together, errors
//! in the style of CM and CCM. No input or output.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_NONE_MATCH, LOCATION, WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode, Uri};
use serde_json::{Map, Value, json};

/// Bytes of a request's body at most. The largest is a signing request of a few KiB.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1_024;
const JSON: &str = "application/json";
/// Certificates as text.
pub(super) const PEM: &str = "application/x-pem-file";

/// A request with its body, taken apart.
#[derive(Debug)]
pub(super) struct Call {
    pub method: Method,
    /// Segments of the path, decoded.
    pub path: Vec<String>,
    /// The query's names and values, decoded, in order.
    pub query: Vec<(String, String)>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    content_type: Option<String>,
    pub body: Bytes,
}

/// An answer before it is one of HTTP.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    headers: Vec<(HeaderName, String)>,
}

/// What a handler gives: errors are replies too.
pub(super) type Handled = Result<Reply, Reply>;

impl Call {
    /// Takes a request apart whose path follows `base`.
    ///
    /// # Errors
    /// The answer, if the path or query is badly encoded.
    pub fn new(
        method: Method,
        uri: &Uri,
        base: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Self, Reply> {
        let bad = || Reply::error(StatusCode::BAD_REQUEST, "the path is badly percent-encoded");
        let path = uri.path().strip_prefix(base).unwrap_or_default();
        let path = path.trim_matches('/').split('/');
        let path: Result<_, Reply> =
            path.map(|segment| decoded(segment, false).ok_or_else(bad)).collect();
        let text = |name| {
            let value: Option<&HeaderValue> = headers.get(name);
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Ok(Self {
            method: if method == Method::HEAD { Method::GET } else { method },
            path: path?,
            query: query(uri.query().unwrap_or_default())?,
            if_match: text(IF_MATCH),
            if_none_match: text(IF_NONE_MATCH),
            content_type: text(CONTENT_TYPE),
            body,
        })
    }

    /// The body's fields, all of them among `known`; none if there is no body.
    ///
    /// No value is ever repeated in an error: it may be a secret.
    pub fn fields(&self, known: &[&str]) -> Result<Fields, Reply> {
        if self.body.is_empty() {
            return Ok(Fields(Map::new()));
        }
        let content_type = self.content_type.as_deref().unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(JSON) {
            let why = "the body must be JSON: Content-Type: application/json";
            return Err(Reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
        }
        let value: Value = serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let why = format!("the body is no JSON (line {line}, column {column})");
            Reply::error(StatusCode::BAD_REQUEST, &why)
        })?;
        let Value::Object(fields) = value else {
            return Err(invalid("the body must be a JSON object"));
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(invalid(&unknown("field", name, known))),
            None => Ok(Fields(fields)),
        }
    }

    /// The values of a query parameter; in what follows `[]` an array is written by some.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let is_named = move |given: &str| given.strip_suffix("[]").unwrap_or(given) == name;
        self.query.iter().filter(move |(given, _)| is_named(given)).map(|(_, value)| &**value)
    }

    /// A query parameter that is given once at most.
    pub fn parameter<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Reply> {
        let mut values = self.parameters(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(bad_query(&format!("{name} is given more than once"))),
            (value, None) => Ok(value),
        }
    }

    /// Refuses query parameters that are not among `known`.
    pub fn check_query(&self, known: &[&str]) -> Result<(), Reply> {
        let is_known = |name: &str| known.contains(&name.strip_suffix("[]").unwrap_or(name));
        match self.query.iter().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => Err(bad_query(&unknown("parameter", name, known))),
            None => Ok(()),
        }
    }

    /// The version that a change is meant for (RFC 9110 §13.1.1), without its quotes; none if any
    /// will do.
    pub fn if_match(&self) -> Result<Option<&str>, Reply> {
        let Some(given) = self.if_match.as_deref().map(str::trim) else { return Ok(None) };
        if given == "*" {
            return Ok(None);
        }
        let tag = given.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match tag.filter(|tag| !tag.contains('"')) {
            Some(tag) => Ok(Some(tag)),
            None => Err(Reply::error(
                StatusCode::BAD_REQUEST,
                "If-Match must name one version, in quotes, as ETag had it",
            )),
        }
    }

    /// Whether the caller has this version already (RFC 9110 §13.1.2).
    fn has(&self, tag: &str) -> bool {
        let given = self.if_none_match.as_deref().unwrap_or_default();
        given.split(',').map(str::trim).any(|given| {
            let given = given.strip_prefix("W/").unwrap_or(given);
            given == "*" || given.strip_prefix('"').and_then(|g| g.strip_suffix('"')) == Some(tag)
        })
    }

    /// 200 with JSON of this version, or 304 if the caller has it.
    pub fn versioned(&self, body: &Value, tag: &str) -> Reply {
        let mut reply = Reply::json(StatusCode::OK, body);
        if self.has(tag) {
            reply.status = StatusCode::NOT_MODIFIED;
            reply.body.clear();
        }
        reply.tagged(tag)
    }

    /// 405, with what is possible instead.
    pub fn not_allowed(&self, allowed: &str) -> Reply {
        let why = format!("{} is not possible here; possible: {allowed}", self.method);
        Reply::error(StatusCode::METHOD_NOT_ALLOWED, &why).with(ALLOW, allowed)
    }
}

/// The fields of a body.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// A text that may be missing or null.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Reply> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(&format!("{name} must be a text"))),
        }
    }

    /// A text that must be there.
    pub fn required(&self, name: &str) -> Result<&str, Reply> {
        self.text(name)?.ok_or_else(|| invalid(&format!("{name} is missing")))
    }

    /// A whole number that may be missing or null.
    pub fn number(&self, name: &str) -> Result<Option<u32>, Reply> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                let why = || invalid(&format!("{name} must be a whole number"));
                number.ok_or_else(why).map(Some)
            }
        }
    }
}

impl Reply {
    /// JSON.
    pub fn json(status: StatusCode, body: &Value) -> Self {
        Self::text(status, JSON, format!("{body}\n"))
    }

    /// Another text.
    pub fn text(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, body, headers: Vec::new() }
    }

    /// 204.
    pub fn nothing() -> Self {
        Self::text(StatusCode::NO_CONTENT, JSON, String::new())
    }

    /// An error, with words that help.
    pub fn error(status: StatusCode, reason: &str) -> Self {
        Self::json(status, &json!({ "statusCode": status.as_u16(), "reasonPhrase": reason }))
    }

    /// 401 (RFC 6750 §3).
    pub fn unauthorized(is_wrong: bool) -> Self {
        let (reason, challenge) = if is_wrong {
            (
                "this is not the management token",
                r#"Bearer realm="ringgate", error="invalid_token""#,
            )
        } else {
            ("the management token is needed: Authorization: Bearer", r#"Bearer realm="ringgate""#)
        };
        Self::error(StatusCode::UNAUTHORIZED, reason).with(WWW_AUTHENTICATE, challenge)
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With the version of what it shows.
    pub fn tagged(self, tag: &str) -> Self {
        self.with(ETAG, &format!("\"{tag}\""))
    }

    /// With the place of what has been made.
    pub fn located(self, path: &str) -> Self {
        self.with(LOCATION, path)
    }

    /// As HTTP has it.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let has_body = !self.body.is_empty();
        let mut response = Response::new(Full::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        // What is shown may be a secret; and a version is to be asked for again each time.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            // All are texts of ours, or encoded.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// The version of a body that has no other: sixteen hexadecimal digits of its SHA-256.
pub(super) fn tag_of(body: &Value) -> String {
    crate::credentials::fingerprint(body.to_string().as_bytes())
}

/// 422: what is asked for makes no sense.
pub(super) fn invalid(why: &str) -> Reply {
    Reply::error(StatusCode::UNPROCESSABLE_ENTITY, why)
}

/// 400: the query makes no sense.
pub(super) fn bad_query(why: &str) -> Reply {
    Reply::error(StatusCode::BAD_REQUEST, why)
}

/// The first characters of what the caller wrote are enough for them to find it.
const SHOWN_CHARS_MAX: usize = 40;

/// A name that the caller has given, for the answer.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(SHOWN_CHARS_MAX).collect()
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let name = shown(name);
    match known {
        [] => format!("unknown {what} {name:?}; there is none here"),
        _ => format!("unknown {what} {name:?}; there are: {}", known.join(", ")),
    }
}

fn query(text: &str) -> Result<Vec<(String, String)>, Reply> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let pair = decoded(name, true).zip(decoded(value, true));
            pair.ok_or_else(|| bad_query("the query is badly percent-encoded"))
        })
        .collect()
}

/// Text without its percent-encoding (RFC 3986 §2.1); in a query, `+` is a space as forms have it.
fn decoded(text: &str, is_query: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' if is_query => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(uri: &str, headers: &[(HeaderName, &str)], body: &'static str) -> Result<Call, Reply> {
        let uri: Uri = uri.parse().expect("is one");
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("is one")))
            .collect();
        Call::new(Method::POST, &uri, "/api/v1", &headers, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn paths_and_queries_are_decoded_piece_by_piece() {
        let call = call("/api/v1/a%2Fb/c%20d/?x=%C3%A4+b&y&state[]=A&state=B", &[], "");
        let call = call.expect("is one");
        assert_eq!(call.path, ["a/b", "c d"]);
        assert_eq!(call.parameter("x").expect("once"), Some("ä b"));
        assert_eq!(call.parameter("y").expect("once"), Some(""));
        assert_eq!(call.parameter("z").expect("once"), None);
        assert_eq!(call.parameters("state").collect::<Vec<_>>(), ["A", "B"]);
        assert!(call.parameter("state").is_err());
        assert!(call.check_query(&["x", "y", "state"]).is_ok());
        assert!(call.check_query(&["x", "y"]).is_err());
    }

    #[test]
    fn bad_encoding_is_refused() {
        for uri in ["/api/v1/%", "/api/v1/%4", "/api/v1/%zz", "/api/v1/%ff", "/api/v1/a?b=%"] {
            let refused = call(uri, &[], "").expect_err(uri);
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{uri}");
        }
    }

    #[test]
    fn bodies_are_refused_without_a_word_of_them() {
        let json = [(CONTENT_TYPE, "application/json; charset=utf-8")];
        let fields = |headers: &[_], body| {
            let call = call("/api/v1/a", headers, body).expect("is one");
            call.fields(&["password"]).and_then(|fields| fields.required("password").map(str::len))
        };
        assert_eq!(fields(&json, r#"{"password":"abc"}"#).expect("is good"), 3);
        for (headers, body, status) in [
            (&json[..], r#"{"password":"planted"#, 400),
            (&json[..], r#"["planted"]"#, 422),
            (&json[..], r#"{"password":["planted"]}"#, 422),
            (&json[..], r#"{"password":null}"#, 422),
            (&json[..], r#"{"pass":"planted"}"#, 422),
            (&[][..], r#"{"password":"planted"}"#, 415),
            (&[(CONTENT_TYPE, "text/plain")][..], r#"{"password":"planted"}"#, 415),
        ] {
            let refused = fields(headers, body).expect_err(body);
            assert_eq!(refused.status.as_u16(), status, "{body}");
            assert!(!refused.body.contains("planted"), "{}", refused.body);
        }
    }

    #[test]
    fn versions_are_compared_as_http_has_it() {
        let has =
            |given: &str| call("/api/v1/a", &[(IF_NONE_MATCH, given)], "").expect("one").has("x");
        assert!(has("\"x\"") && has("W/\"x\"") && has("\"a\", \"x\"") && has("*"));
        assert!(!has("\"y\"") && !has("x") && !has(""));
        let wanted = |given: &str| {
            let call = call("/api/v1/a", &[(IF_MATCH, given)], "").expect("is one");
            call.if_match().map(|tag| tag.map(str::to_owned)).map_err(|reply| reply.status)
        };
        assert_eq!(wanted("\"x\""), Ok(Some("x".to_owned())));
        assert_eq!(wanted("*"), Ok(None));
        for given in ["x", "W/\"x\"", "\"x\", \"y\"", "\""] {
            assert_eq!(wanted(given), Err(StatusCode::BAD_REQUEST), "{given}");
        }
    }
}
