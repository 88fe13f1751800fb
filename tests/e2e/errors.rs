//! Errors that ringgate itself answers, and what it drops.

use serde_json::Value;

use crate::answers::assert_error;
use crate::harness::gateway::Gateway;
use crate::harness::nats::Nats;
use crate::harness::packet::{PUBACK, PUBREC, Publish, V5, V31, V311};
use crate::harness::{Bench, TempDir, extension};

/// The status code of an error answer, which must have exactly the two keys.
fn status_code(payload: &[u8]) -> i64 {
    let error: Value = serde_json::from_slice(payload).expect("an error payload is JSON");
    let keys: Vec<_> = error.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys.len(), 2, "{error}");
    assert!(error["reasonPhrase"].as_str().is_some_and(|phrase| !phrase.is_empty()), "{error}");
    error["statusCode"].as_i64().expect("an integer")
}

#[test]
fn a_request_that_leads_nowhere_is_answered_with_the_reason() {
    let bench = Bench::start();
    for (topic, status, drop_reason) in [
        ("kp1/v9/dcx/token-1/json/1", 404, "unknown_app_version"),
        ("kp1/v1/zzz/token-1/json/1", 404, "unknown_extension"),
        ("kp1/v2/cmx/token-1/json/1", 403, "extension_not_allowed"),
        ("kp1/v1/dcx/token-1/json/2147483648", 400, "request_id_too_large"),
        ("kp1/v1/dcx/token-1/json/99999999999999999999", 400, "request_id_too_large"),
    ] {
        let dropped_before = bench.gateway.dropped(drop_reason);
        for level in [V311, V5] {
            let mut device = bench.device_of(level, "device-1");
            for qos in 0..=2 {
                let answer = device.request(topic, "[]", qos);
                assert_eq!(answer.topic, format!("{topic}/error"));
                assert_eq!(answer.qos, qos, "{topic}");
                assert_eq!(status_code(&answer.payload), status, "{topic}");
            }
            device.ping();
        }
        bench.gateway.wait_until_dropped(drop_reason, dropped_before + 6.0);
    }
    bench.dcx.expect_silence();
    assert_eq!(bench.gateway.metric("ringgate_answers_error_total", &["status=\"404\""]), 12.0);
}

#[test]
fn without_a_request_id_nothing_is_answered_only_counted() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for (topic, drop_reason) in [
        ("kp1/v9/dcx/token-1/json", "unknown_app_version"),
        ("kp1/v1/zzz/token-1/json", "unknown_extension"),
        ("kp1/v2/cmx/token-1/json", "extension_not_allowed"),
        ("kp1/v1/dcx", "malformed_topic"),
        ("kp1/v1/dcx/bad.token/json", "malformed_topic"),
        ("kp1/v1/dcx//json", "malformed_topic"),
        ("kp1/V1/dcx/token-1/json", "malformed_topic"),
        ("kp1", "malformed_topic"),
        ("kp2/v1/dcx/token-1/json", "not_kp1"),
        ("kp1x/v1/dcx/token-1/json", "not_kp1"),
        ("/kp1/v1/dcx/token-1/json", "not_kp1"),
    ] {
        let before = bench.gateway.dropped(drop_reason);
        device.publish_qos0(topic, "[]");
        device.ping();
        bench.gateway.wait_until_dropped(drop_reason, before + 1.0);
    }
    bench.dcx.expect_silence();
}

#[test]
fn nats_subjects_cannot_be_forged_through_a_topic() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for extension in ["dcx.esp", "*", ">", "dcx dcx", "dcx\r\nPUB x 0"] {
        // `*` and `>` are allowed in an MQTT topic; a space or a line end is too.
        device.publish_qos0(&format!("kp1/v1/{extension}/token-1/json"), "");
        device.publish_qos0(&format!("kp1/{extension}/dcx/token-1/json"), "");
    }
    device.publish_qos1("kp1/v1/dcx/*>  \r\nPUB x 0\r\n/json", "last");
    let data = bench.dcx.take();
    assert_eq!(data.endpoint_id.as_deref(), Some("*>  \r\nPUB x 0\r\n"));
    assert_eq!(data.text(), "last");
    bench.gateway.wait_until_healthy();
}

#[test]
fn topics_outside_kp1_are_acknowledged_as_the_standard_says_and_counted() {
    let bench = Bench::start();
    for (level, reason) in [(V31, 0), (V311, 0), (V5, 0x90)] {
        let before = bench.gateway.dropped("not_kp1");
        let mut device = bench.device_of(level, "device-1");
        device.send_publish(&Publish::new("some/topic", "x"));
        device.send_publish(&Publish::new("some/topic/1", "x").qos(1, 11));
        let puback = device.receive_ack(PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (11, reason));
        device.send_publish(&Publish::new("some/topic", "x").qos(2, 12));
        let pubrec = device.receive_ack(PUBREC);
        assert_eq!((pubrec.packet_id, pubrec.reason), (12, reason));
        device.ping();
        bench.gateway.wait_until_dropped("not_kp1", before + 3.0);
    }
}

#[test]
fn an_extension_nobody_runs_is_answered_503() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for (topic, qos) in [
        ("kp1/v1/cmx/token-1/config/json/3", 0),
        ("kp1/v1/cmx/token-1/config/json/3", 1),
        ("kp1/v1/cmx/token-1/config/json/0", 2),
        ("kp1/v1/tsx/time/5", 1),
    ] {
        let answer = device.request(topic, "", qos);
        assert_eq!(answer.topic, format!("{topic}/error"));
        assert_eq!(answer.qos, qos);
        assert_eq!(status_code(&answer.payload), 503);
    }
    assert_eq!(bench.gateway.metric("ringgate_uplink_no_responders_total", &[]), 4.0);

    device.publish_qos1("kp1/v1/cmx/token-1/config/json", "");
    bench.gateway.wait_for_metric("ringgate_uplink_no_responders_total", &[], 5.0);
    device.ping();
}

#[test]
fn the_503_goes_to_whoever_asked() {
    let bench = Bench::start();
    let mut devices: Vec<_> = (0..20).map(|n| bench.device(&format!("device-{n}"))).collect();
    for (number, device) in devices.iter_mut().enumerate() {
        device.publish_qos0(&format!("kp1/v1/cmx/token-{number}/config/json/{number}"), "");
    }
    for (number, device) in devices.iter_mut().enumerate() {
        let answer = device.receive_publish();
        let topic = format!("kp1/v1/cmx/token-{number}/config/json/{number}/error");
        assert_eq!(answer.topic, topic);
    }
}

#[test]
fn a_message_over_the_nats_servers_limit_is_answered_413() {
    let nats = Nats::start_configured(TempDir::new(), "max_payload: 4096\n");
    let dcx = extension::Extension::start(&nats.url(), "dcx", extension::collects_data);
    let gateway = Gateway::start(&nats.url(), |_| {});
    let bench = Bench { gateway, dcx, nats };

    let mut device = bench.device("device-1");
    for qos in 0..=2 {
        let answer = device.request("kp1/v1/dcx/token-1/json/1", vec![b'x'; 8192], qos);
        assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/1/error");
        assert_eq!(status_code(&answer.payload), 413);
    }
    device.publish_qos0("kp1/v1/dcx/token-1/json", vec![b'x'; 8192]);
    bench.gateway.wait_until_dropped("payload_too_large", 4.0);

    // The limit counts the whole ClientData; what fits goes through, on the same link.
    let answer = device.request("kp1/v1/dcx/token-1/json/2", vec![b'x'; 3500], 1);
    assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/2/status");
    assert_eq!(bench.dcx.take().payload.len(), 3500);
    assert_eq!(bench.gateway.metric("ringgate_uplink_reconnects_total", &[]), 0.0);
}

#[test]
fn error_payloads_are_plain_json() {
    let bench = Bench::start();
    let answer = bench.device("device-1").request("kp1/v9/dcx/token-1/json/1", "", 0);
    let error: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    let phrase = error["reasonPhrase"].as_str().expect("text");
    assert_error(&answer.payload, 404, phrase);
}

#[test]
fn a_connection_speaks_for_as_many_endpoints_as_configured() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.endpoints-max", 2));
    let mut device = bench.device_of(V5, "device-1");
    for token in ["one", "two", "one"] {
        let answer = device.request(&format!("kp1/v1/dcx/{token}/json/1"), "[]", 0);
        assert_eq!(answer.topic, format!("kp1/v1/dcx/{token}/json/1/status"));
    }
    let answer = device.request("kp1/v1/dcx/three/json/1", "[]", 0);
    assert_eq!(answer.topic, "kp1/v1/dcx/three/json/1/error");
    assert_error(&answer.payload, 429, "Too Many Requests");
    device.send_publish(&Publish::new("kp1/v1/dcx/three/json", "[]").qos(1, 7));
    assert_eq!(device.receive_ack(PUBACK).reason, 0x97);
    bench.gateway.wait_until_dropped("too_many_endpoints", 2.0);
}

#[test]
fn a_token_is_not_logged_with_a_message_that_is_dropped() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    device.publish_qos1("kp1/unknown/dcx/very-secret-token/json", "[]");
    device.publish_qos1("kp1/v1/never/very-secret-token/json", "[]");
    bench.gateway.wait_until_dropped("unknown_extension", 1.0);
    let output = bench.gateway.output();
    assert!(output.contains("bytes in 5 levels"), "{output}");
    assert!(!output.contains("very-secret-token"), "{output}");
}
