//! 1/KP against a second, naive reading of its grammar: a topic is a list of levels.

use proptest::prelude::*;
use ringgate::codec::kp1::{
    Malformed, RequestId, TopicError, error_payload, split, split_request_id,
};

use crate::corpus::kp1::check;

/// App version, extension instance, token, resource path, request id.
type Read = (String, String, Option<String>, String, RequestId);

fn naive(topic: &str, endpoint_aware: bool) -> Result<Read, TopicError> {
    let mut levels: Vec<&str> = topic.split('/').collect();
    if levels[0] != "kp1" {
        return Err(TopicError::NotKp1);
    }
    let name = |level: Option<&&str>| {
        let name = level.copied().filter(|name| !name.is_empty())?;
        let allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_";
        name.chars().all(|c| allowed.contains(c)).then(|| name.to_owned())
    };
    let malformed = TopicError::Malformed;
    let app_version = name(levels.get(1)).ok_or(malformed(Malformed::AppVersion))?;
    let extension = name(levels.get(2)).ok_or(malformed(Malformed::Extension))?;
    let mut path_at = 3;
    let mut token = None;
    if endpoint_aware {
        let level =
            levels.get(3).filter(|level| !level.is_empty() && !level.contains(['+', '#', '.']));
        token = Some((*level.ok_or(malformed(Malformed::Token))?).to_owned());
        path_at = 4;
    }
    let request_id = match levels.get(path_at..).and_then(|path| path.last()) {
        Some(last) => naive_request_id(last),
        None => RequestId::None,
    };
    if request_id != RequestId::None {
        levels.pop();
    }
    let path = levels[path_at..].iter().map(|level| format!("/{level}")).collect();
    Ok((app_version, extension, token, path, request_id))
}

fn naive_request_id(level: &str) -> RequestId {
    let is_decimal = !level.is_empty() && level.chars().all(|c| c.is_ascii_digit());
    if !is_decimal || (level.len() > 1 && level.starts_with('0')) {
        return RequestId::None;
    }
    if level.len() > 10 {
        return RequestId::TooLarge;
    }
    match i32::try_from(level.parse::<u64>().expect("ten digits")) {
        Ok(id) => RequestId::Some(id.unsigned_abs()),
        Err(_) => RequestId::TooLarge,
    }
}

fn ours(topic: &str, endpoint_aware: bool) -> Result<Read, TopicError> {
    let levels = split(topic)?;
    let request = if endpoint_aware {
        levels.endpoint_aware().map_err(TopicError::Malformed)?
    } else {
        levels.endpoint_unaware()
    };
    Ok((
        levels.app_version.to_owned(),
        levels.extension.to_owned(),
        request.token.map(str::to_owned),
        request.resource_path.to_owned(),
        request.request_id,
    ))
}

fn level() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z0-9_-]{1,6}",
        2 => prop::sample::select(vec!["", "kp1", "json", "config", "status", "error"])
            .prop_map(str::to_owned),
        2 => (0u64..5_000_000_000).prop_map(|id| id.to_string()),
        1 => prop::sample::select(vec!["0", "00", "007", "2147483647", "2147483648", "-1", "+1"])
            .prop_map(str::to_owned),
        1 => "[0-9]{1,30}",
        1 => "[A-Za-z0-9.+#\u{e9}\u{661} *>]{0,5}",
    ]
}

fn topic() -> impl Strategy<Value = String> {
    let start = prop_oneof![6 => Just("kp1/v1/dcx/"), 3 => Just("kp1/"), 1 => Just("")];
    let rest = prop::collection::vec(level(), 0..8);
    (start, rest).prop_map(|(start, levels)| format!("{start}{}", levels.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn reads_a_topic_as_a_list_of_levels_does(topic in topic(), endpoint_aware: bool) {
        prop_assert_eq!(ours(&topic, endpoint_aware), naive(&topic, endpoint_aware));
    }

    #[test]
    fn invariants_hold_for_topics(topic in topic()) {
        check(topic.as_bytes());
    }

    #[test]
    fn invariants_hold_for_any_text(text in "\\PC{0,40}") {
        check(text.as_bytes());
        check(format!("kp1/v1/dcx/{text}").as_bytes());
    }

    #[test]
    fn one_table_entry_serves_all_ids_of_a_topic(topic in topic(), id in 0..=i32::MAX as u32) {
        let topic = format!("{topic}/json");
        if ours(&topic, true).is_ok() {
            let with_id = format!("{topic}/{id}");
            prop_assert_eq!(split_request_id(&with_id), Some((&*topic, RequestId::Some(id))));
            prop_assert_eq!(split_request_id(&topic), Some((&*topic, RequestId::None)));
        }
    }

    #[test]
    fn an_error_payload_is_json_whatever_the_phrase(status_code: i32, phrase: String) {
        let mut out = Vec::new();
        error_payload(&mut out, status_code, &phrase);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let expected = serde_json::json!({"statusCode": status_code, "reasonPhrase": phrase});
        prop_assert_eq!(json, expected);
    }
}
