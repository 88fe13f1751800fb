//! The management interface of the store of credentials, as far as it reaches into the gateway;
//! its own details are tested where it is.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::device::{Device, Next};
use crate::harness::gateway::{Gateway, Settings};
use crate::harness::http::{self, Response};
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, PUBLISH, V5, V311};
use crate::harness::secured::{Secured, secret};
use crate::harness::{PATIENCE, TempDir, eventually};

fn internal(settings: &mut Settings) {
    settings.set("ringgate.auth.client-provider", "internal");
}

/// The management token: in a file that its owner alone can read.
fn bearer(gateway: &Gateway) -> String {
    let file = gateway.dir().path().join("credentials/management-token");
    let mode = std::fs::metadata(&file).expect("a token").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    std::fs::read_to_string(file).expect("a token").trim().to_owned()
}

fn ask(gateway: &Gateway, token: Option<&str>, method: &str, path: &str, body: &Value) -> Response {
    let authorization = token.map(|token| format!("authorization: Bearer {token}"));
    let headers: Vec<&str> = authorization.as_deref().into_iter().collect();
    let path = format!("/api/v1{path}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::send(gateway.admin, method, &path, &headers, &body).expect("an answer")
}

fn good(response: &Response) -> Value {
    assert!((200..300).contains(&response.status), "{response:?}");
    serde_json::from_str(&response.body).unwrap_or(Value::Null)
}

#[test]
fn nobody_manages_credentials_without_the_token() {
    let bench = Secured::start_with(internal);
    let bearer = bearer(&bench.gateway);
    let list = |token: Option<&str>| {
        ask(&bench.gateway, token, "GET", "/basic-credentials", &Value::Null).status
    };
    assert_eq!(list(None), 401);
    assert_eq!(list(Some("")), 401);
    assert_eq!(list(Some(&bearer[1..])), 401);
    assert_eq!(list(Some(&format!("{bearer}x"))), 401);
    assert_eq!(list(Some(&bearer)), 200);
    let make = json!({ "tenantId": "acme", "username": "user", "password": secret("password") });
    let made = ask(&bench.gateway, None, "POST", "/basic-credentials", &make);
    assert_eq!(made.status, 401);
    let connect = Connect::new(V5, "client").credentials("user@acme", &secret("password"));
    assert_eq!(bench.refused(connect).code, 0x86);
    // Health and metrics are for everybody who comes this far.
    bench.gateway.wait_until_healthy();
    let output = bench.gateway.output();
    assert!(!output.contains(&bearer), "the token has been logged");
}

#[test]
fn where_no_store_is_needed_there_is_none_to_manage() {
    let bench = Secured::start();
    let answer = ask(&bench.gateway, Some("any"), "GET", "/basic-credentials", &Value::Null);
    assert_eq!(answer.status, 404);
    assert!(!bench.gateway.dir().path().join("credentials").exists());
}

#[test]
fn enforcement_switched_on_ends_unauthenticated_sessions_at_once() {
    let bench = Secured::start_with(internal);
    let gateway = &bench.gateway;
    let bearer = bearer(gateway);
    let make = json!({ "tenantId": "acme", "username": "user", "password": secret("password") });
    good(&ask(gateway, Some(&bearer), "POST", "/basic-credentials", &make));
    bench.provider.token("demo", &secret("acme"), "endpoint-acme");
    bench.provider.token("narrow", &secret("other"), "endpoint-other");
    let acme = format!("kp1/v1/dcx/{}/json/1", secret("acme"));
    let other = format!("kp1/v2/dcx/{}/json/1", secret("other"));

    let mut known = bench.client(V5, "known", "user@acme", &secret("password"));
    known.request(&acme, "[]", 1);
    let mut strangers: Vec<Device> = (0..6)
        .map(|number| {
            let level = if number % 2 == 0 { V5 } else { V311 };
            let mut device = bench.device_of(level, &format!("stranger-{number}"));
            device.request(&acme, "[]", 1);
            device
        })
        .collect();
    let mut elsewhere = bench.device_of(V5, "elsewhere");
    elsewhere.request(&other, "[]", 1);
    let mut silent = bench.device_of(V5, "silent");

    let on = json!({ "mqttTcp": "basic" });
    good(&ask(gateway, Some(&bearer), "PUT", "/tenants/acme/authentication", &on));
    for device in &mut strangers {
        device.expect_refusal(0x87);
    }
    known.request(&acme, "[]", 1);
    elsewhere.request(&other, "[]", 1);
    // It has not spoken for anybody yet; when it does, it is too late.
    silent.ping();
    silent.publish_qos0(&acme, "[]");
    silent.expect_disconnect(0x87);

    let off = json!({ "mqttTcp": "none" });
    good(&ask(gateway, Some(&bearer), "PUT", "/tenants/acme/authentication", &off));
    eventually("strangers to be let speak again", || {
        let mut device = bench.device_of(V5, "again");
        device.publish_qos0(&acme, "[]");
        let Next::Packet(packet) = device.next_within(PATIENCE) else { return None };
        (packet.kind() == PUBLISH).then_some(())
    });
}

#[test]
fn what_a_tenant_demands_outlives_the_process() {
    let nats = Nats::start();
    let store = TempDir::new();
    let at = |settings: &mut Settings| {
        internal(settings);
        settings.set("ringgate.credentials.directory", store.path().display().to_string());
    };
    let file = store.path().join("management-token");
    let token = || std::fs::read_to_string(&file).expect("a token").trim().to_owned();
    let before = {
        let gateway = Gateway::start(&nats.url(), at);
        let on = json!({ "mqttTcp": "basic" });
        good(&ask(&gateway, Some(&token()), "PUT", "/tenants/default/authentication", &on));
        token()
    };
    let gateway = Gateway::start(&nats.url(), at);
    assert_eq!(token(), before);
    // From the first message of the first connection.
    for number in 0..4 {
        let connect = Connect::new(V5, &format!("device-{number}"));
        let (mut device, _) = Device::connected(gateway.mqtt, connect);
        device.publish_qos0("kp1/v1/dcx/any/json", "[]");
        device.expect_disconnect(0x87);
    }
}

#[test]
fn a_password_made_by_the_gateway_is_shown_once_and_works() {
    let bench = Secured::start_with(internal);
    let gateway = &bench.gateway;
    let bearer = bearer(gateway);
    let make = json!({ "tenantId": "acme", "username": "user" });
    let made = good(&ask(gateway, Some(&bearer), "POST", "/basic-credentials", &make));
    let password = made["password"].as_str().expect("a password").to_owned();
    let id = made["id"].as_str().expect("an id");
    bench.client(V5, "client", "user@acme", &password).ping();
    eventually("its first use to be noted", || {
        let path = format!("/basic-credentials/{id}");
        let shown = good(&ask(gateway, Some(&bearer), "GET", &path, &Value::Null));
        assert!(shown.get("password").is_none_or(Value::is_null), "shown again");
        (shown["state"].as_str()?.to_lowercase() == "active").then_some(())
    });
    assert!(!gateway.output().contains(&password), "the password has been logged");
}
