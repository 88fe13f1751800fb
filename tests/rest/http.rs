//! What the interface makes of HTTP: who is let in, versions, and requests that make no sense.

use crate::rig::{BEARER, Rig};
use serde_json::json;

#[test]
fn nobody_is_let_in_without_the_bearer_token() {
    let rig = Rig::start();
    for (headers, word) in [
        (&[][..], "needed"),
        (&["Authorization: Basic cGxhbnRlZA=="][..], "needed"),
        (&["Authorization: Bearer"][..], "not the management token"),
        (&["Authorization: Bearer planted-bearer"][..], "not the management token"),
        (&["Authorization: Bearer \u{e4}"][..], "needed"),
    ] {
        for (method, path) in [
            ("GET", "/basic-credentials"),
            ("POST", "/endpoints/e/tokens"),
            ("DELETE", "/tenants/t/authentication"),
            ("GET", "/no/such/path"),
        ] {
            let answer = rig.request(method, path, headers, "");
            let challenge = answer.header("www-authenticate").expect("says how");
            assert!(challenge.starts_with("Bearer realm="), "{challenge}");
            let why = answer.refused(401);
            assert!(why.contains(word), "{why}");
        }
    }
    let bearer = format!("authorization: bearer {BEARER}");
    rig.request("GET", "/basic-credentials", &[&bearer], "").of(200);
}

#[test]
fn the_pages_for_probes_and_scrapes_need_no_token_and_stay_as_they_are() {
    let rig = Rig::start();
    for (path, status) in [("/metrics", 200), ("/health", 500), ("/", 404), ("/api/v1x", 404)] {
        let answer = rig.raw(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
        assert_eq!(answer.status, status, "{path}");
    }
}

#[test]
fn a_version_that_the_caller_has_is_not_sent_again_and_an_old_one_not_changed() {
    let rig = Rig::start();
    let body = json!({"tenantId": "t", "username": "u", "password": "p"});
    let made = rig.post("/basic-credentials", &body);
    let tag = made.etag().to_owned();
    let made = made.of(201);
    let path = format!("/basic-credentials/{}", made["id"].as_str().expect("has one"));
    let again = rig.with(&format!("If-None-Match: \"x\", {tag}"), "GET", &path);
    assert_eq!((again.status, &*again.text, again.etag()), (304, "", &*tag));
    let list = rig.get("/basic-credentials");
    let list_tag = format!("If-None-Match: {}", list.etag());
    assert_eq!(rig.with(&list_tag, "GET", "/basic-credentials").status, 304);

    let reset = format!("{path}/password");
    assert_eq!(rig.with(&format!("If-Match: {tag}"), "POST", &reset).status, 200);
    rig.with(&list_tag, "GET", "/basic-credentials").of(200);
    rig.with(&format!("If-Match: {tag}"), "DELETE", &path).refused(412);
    rig.with("If-Match: *", "DELETE", &path).of(204);
    rig.with("If-Match: *", "DELETE", &path).refused(404);
}

#[test]
fn methods_and_paths_that_do_not_exist_are_refused_with_those_that_do() {
    let rig = Rig::start();
    for (method, path, allow) in [
        ("PUT", "/basic-credentials", "GET, HEAD, POST"),
        ("POST", "/endpoint-tokens", "GET, HEAD"),
        ("PATCH", "/x509-credentials/1", "GET, HEAD, DELETE"),
        ("GET", "/basic-credentials/1/revoke", "POST"),
        ("GET", "/basic-credentials/1/password", "POST"),
        ("POST", "/tenants/t/authentication", "GET, HEAD, PUT, DELETE"),
    ] {
        let answer = rig.with("X: y", method, path);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        answer.refused(405);
    }
    for path in ["/nothing", "/basic-credentials/1/explode", "/x509-credentials/1/password", ""] {
        let answer = rig.with("X: y", "POST", path);
        answer.refused(404);
    }
    for path in ["/endpoint-tokens/none", "/basic-credentials/none", "/x509-credentials/none"] {
        rig.get(path).refused(404);
        rig.post(&format!("{path}/revoke"), &json!({})).refused(404);
    }
    let head = rig.with("X: y", "HEAD", "/basic-credentials");
    assert_eq!((head.status, &*head.text), (200, ""));
}

#[test]
fn queries_that_make_no_sense_are_refused_with_what_does() {
    let rig = Rig::start();
    for (query, word) in [
        ("limit=0", "1 to 1000"),
        ("limit=1001", "1 to 1000"),
        ("limit=x", "1 to 1000"),
        ("limit=1&limit=2", "more than once"),
        ("offset=-1", "offset"),
        ("order=up", "ASC or DESC"),
        ("state=gone", "Inactive, Active"),
        ("tenant=t", "tenantId"),
        ("tenantId=%", "encoded"),
    ] {
        let why = rig.get(&format!("/basic-credentials?{query}")).refused(400);
        assert!(why.contains(word), "{query}: {why}");
    }
}

#[test]
fn bodies_that_are_too_long_or_no_json_are_refused() {
    let rig = Rig::start();
    let bearer = format!("Authorization: Bearer {BEARER}");
    let json = "Content-Type: application/json";
    let post = |headers: &[&str], body: &str| {
        rig.request("POST", "/basic-credentials", &[&[&*bearer], headers].concat(), body)
    };
    let long = format!(r#"{{"username":"{}"}}"#, "x".repeat(64 * 1_024));
    let why = post(&[json], &long).refused(413);
    assert!(why.contains("65536 bytes"), "{why}");
    post(&["Content-Type: application/x-www-form-urlencoded"], "username=u").refused(415);
    post(&[], "{}").refused(415);
    post(&[json], "{").refused(400);
    post(&[json], "[]").refused(422);
    post(&[json], "").refused(422);
    for body in [
        json!({"tenantId": "t"}),
        json!({"tenantId": "t", "username": ""}),
        json!({"tenantId": "t@u", "username": "u"}),
        json!({"tenantId": "t", "username": "u\u{0}"}),
        json!({"tenantId": "t", "username": "u", "password": ""}),
        json!({"tenantId": "t", "username": "u", "password": 7}),
        json!({"tenantId": "t", "username": "u", "pasword": "p"}),
    ] {
        post(&[json], &body.to_string()).refused(422);
    }
    assert_eq!(rig.get("/basic-credentials").of(200)["total"], 0);
}
