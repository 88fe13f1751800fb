//! The certificate chain that devices are shown.

use crate::rig::{Answer, Rig};
use ringgate::admin::ProfileChains;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const PATH: &str = "/certificate-chain";

/// A profile whose chains say for which name they are.
fn profile(name: &str) -> ProfileChains {
    let profile = name.to_owned();
    let find = move |server_name: Option<&str>| match server_name {
        None => Some(format!("the first of {profile}\n")),
        Some("a.example") => Some(format!("a.example of {profile}\n")),
        Some(_) => None,
    };
    ProfileChains { name: name.to_owned(), find: Box::new(find) }
}

/// Asks as anybody may: without a token.
fn get(rig: &Rig, query: &str) -> Answer {
    rig.request("GET", &format!("{PATH}{query}"), &[], "")
}

#[test]
fn anybody_may_have_the_chain_of_the_only_profile() {
    let rig = Rig::start_with(vec![profile("door")]);
    let answer = get(&rig, "");
    assert_eq!((answer.status, &*answer.text), (200, "the first of door\n"));
    assert_eq!(answer.header("content-type"), Some("application/x-pem-file"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for (query, text) in [
        ("?profile=door", "the first of door\n"),
        ("?server-name=a.example", "a.example of door\n"),
        ("?server-name=a.example&profile=door", "a.example of door\n"),
    ] {
        let answer = get(&rig, query);
        assert_eq!((answer.status, &*answer.text), (200, text), "{query}");
    }
    let head = rig.request("HEAD", PATH, &[], "");
    assert_eq!((head.status, &*head.text), (200, ""));
}

#[test]
fn of_several_profiles_one_must_be_named() {
    let rig = Rig::start_with(vec![profile("mqtt-tls"), profile("plant")]);
    assert_eq!(get(&rig, "?profile=plant").text, "the first of plant\n");
    let why = get(&rig, "").refused(400);
    assert!(why.contains("profile is needed; there are: mqtt-tls, plant"), "{why}");
}

#[test]
fn what_is_not_there_is_404_with_what_is() {
    let none = get(&Rig::start(), "").refused(404);
    assert!(none.contains("no TLS for devices is configured"), "{none}");
    let none = get(&Rig::start(), "?profile=door").refused(404);
    assert!(none.contains("no TLS for devices is configured"), "{none}");
    let rig = Rig::start_with(vec![profile("door")]);
    let why = get(&rig, "?profile=gate").refused(404);
    assert!(why.contains("no TLS profile \"gate\"; there are: door"), "{why}");
    let why = get(&rig, "?server-name=b.example").refused(404);
    assert!(why.contains("no certificate of TLS profile door is for \"b.example\""), "{why}");
    let long = get(&rig, &format!("?server-name={}", "x".repeat(1_000))).refused(404);
    assert!(long.len() < 200, "{long}");
}

#[test]
fn other_methods_and_parameters_are_refused() {
    let rig = Rig::start_with(vec![profile("door")]);
    for method in ["POST", "PUT", "DELETE"] {
        let answer = rig.request(method, PATH, &[], "");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
        answer.refused(405);
    }
    for query in ["?name=a", "?profile=door&profile=door", "?server-name=%"] {
        get(&rig, query).refused(400);
    }
}

#[test]
fn every_request_finds_the_chain_of_the_day() {
    let asked = Arc::new(AtomicU32::new(0));
    let find = move |_: Option<&str>| Some(asked.fetch_add(1, Ordering::Relaxed).to_string());
    let profile = ProfileChains { name: "door".to_owned(), find: Box::new(find) };
    let rig = Rig::start_with(vec![profile]);
    assert_eq!([get(&rig, "").text, get(&rig, "").text], ["0", "1"]);
}
