//! What holds for any text taken as the topic of a PUBLISH.

use ringgate::codec::kp1::{
    Outcome, Request, RequestId, ResponseTopic, ResponseTopicError, TOPIC_BYTES_MAX, Topic, split,
    split_request_id,
};

/// Takes `data` as a topic of an endpoint-aware and of an endpoint-unaware extension instance.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let base = split_request_id(text);
    if let Some((base, request_id)) = base {
        assert!(text.starts_with(base));
        assert_eq!(base.len() == text.len(), request_id == RequestId::None);
    }
    let Ok(topic) = split(text) else { return };
    let requests = [topic.endpoint_aware().ok(), Some(topic.endpoint_unaware())];
    for request in requests.into_iter().flatten() {
        check_response(text, topic, request);
        if let Some((base, request_id)) = base {
            assert_eq!(request_id, request.request_id);
            check_base(base, topic, request);
        }
    }
}

/// The answer's topic is the request's and the outcome: nothing was lost in taking it apart.
fn check_response(text: &str, topic: Topic<'_>, request: Request<'_>) {
    let request_id = match request.request_id {
        RequestId::None => None,
        RequestId::Some(id) => Some(id),
        RequestId::TooLarge => return,
    };
    let response = ResponseTopic {
        app_version: topic.app_version,
        extension: topic.extension,
        token: request.token,
        resource_path: request.resource_path,
        request_id,
        outcome: Outcome::Status,
    };
    let expected = format!("{text}/status");
    let mut out = Vec::new();
    response.append_to(&mut out);
    assert_eq!(out, expected.as_bytes());
    assert_eq!(response.encoded_len(), expected.len());

    let has_wildcard_or_nul = request.resource_path.contains(['+', '#', '\0']);
    let validity = match response.validate() {
        Ok(()) => expected.len() <= TOPIC_BYTES_MAX && !has_wildcard_or_nul,
        Err(ResponseTopicError::TooLong) => expected.len() > TOPIC_BYTES_MAX,
        Err(ResponseTopicError::ResourcePath) => has_wildcard_or_nul,
        Err(ResponseTopicError::AppVersion | ResponseTopicError::Extension) => false,
    };
    assert!(validity, "{expected:?}");
}

/// A table keyed by bases gives every topic with this base the same token and resource path.
fn check_base(base: &str, topic: Topic<'_>, request: Request<'_>) {
    let sibling = format!("{base}/7");
    if sibling.len() > TOPIC_BYTES_MAX
        || split_request_id(&sibling) != Some((base, RequestId::Some(7)))
    {
        return;
    }
    let other = split(&sibling).expect("the first levels are the same");
    assert_eq!((other.app_version, other.extension), (topic.app_version, topic.extension));
    let other = match request.token {
        Some(_) => other.endpoint_aware().expect("the token is the same"),
        None => other.endpoint_unaware(),
    };
    assert_eq!((other.token, other.resource_path), (request.token, request.resource_path));
    assert_eq!(other.request_id, RequestId::Some(7));
}
