//! Answers of extension services on their way back to the device that asked.

use serde_json::{Value, json};

use crate::harness::extension::{self, Answer, ClientData, ExtensionData};
use crate::harness::packet::{V5, V31, V311};
use crate::harness::{Bench, device::Device};

/// A 1/KP error payload must have exactly these two keys.
pub fn assert_error(payload: &[u8], status_code: i32, reason_phrase: &str) {
    let error: Value = serde_json::from_slice(payload).expect("an error payload is JSON");
    assert_eq!(error, json!({ "statusCode": status_code, "reasonPhrase": reason_phrase }));
}

#[test]
fn status_comes_back_without_subscribe_in_every_version_and_with_the_requests_qos() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut device = bench.device_of(level, &format!("device-{level}"));
        for qos in 0..=2 {
            let answer = device.request("kp1/v1/dcx/token-1/json/7", "[]", qos);
            assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/7/status");
            assert_eq!(answer.payload, b"");
            assert_eq!(answer.qos, qos);
            assert!(!answer.duplicate && !answer.retain);
        }
        device.ping();
    }
}

#[test]
fn an_answers_payload_passes_byte_for_byte() {
    let bench = Bench::start();
    let _echo = bench.extension("cex", extension::echoes);
    let mut device = bench.device("device-1");
    let large: Vec<u8> = (0..300_000_u32).map(|n| (n % 253) as u8).collect();
    for payload in [b"\0\r\n\xff".to_vec(), large] {
        let answer = device.request("kp1/v1/cex/token-1/result/reboot/3", &payload, 1);
        assert_eq!(answer.topic, "kp1/v1/cex/token-1/result/reboot/3/status");
        assert!(answer.payload == payload, "a payload of {} bytes changed", payload.len());
    }
}

#[test]
fn an_error_has_exactly_two_keys_and_the_topic_of_the_request() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| {
        let status: i32 = data.text().parse().expect("the tests send a status code");
        Some(
            ExtensionData::answering(data, status).payload("ignored").reason("So \"it\" is").into(),
        )
    });
    let mut device = bench.device("device-1");
    for status in [304, 400, 404, 500] {
        for qos in 0..=2 {
            let answer =
                device.request("kp1/v1/cmx/token-1/config/json/9", status.to_string(), qos);
            assert_eq!(answer.topic, "kp1/v1/cmx/token-1/config/json/9/error");
            assert_eq!(answer.qos, qos);
            assert_error(&answer.payload, status, "So \"it\" is");
        }
    }
}

#[test]
fn every_2xx_is_a_success() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| {
        let status: i32 = data.text().parse().expect("the tests send a status code");
        Some(ExtensionData::answering(data, status).into())
    });
    let mut device = bench.device("device-1");
    for (status, ending) in [(200, "status"), (204, "status"), (299, "status"), (300, "error")] {
        let answer = device.request("kp1/v1/cmx/token-1/x/1", status.to_string(), 0);
        assert_eq!(answer.topic, format!("kp1/v1/cmx/token-1/x/1/{ending}"));
    }
}

#[test]
fn an_error_without_a_reason_still_has_a_phrase() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| Some(ExtensionData::answering(data, 404).into()));
    let answer = bench.device("device-1").request("kp1/v1/cmx/token-1/x/1", "", 0);
    let error: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(error.as_object().expect("an object").len(), 2);
    assert_eq!(error["statusCode"], 404);
    assert!(error["reasonPhrase"].is_string(), "{error}");
}

#[test]
fn an_error_to_a_message_without_request_id_is_delivered() {
    let bench = Bench::start();
    let _cmx = bench
        .extension("cmx", |data| Some(ExtensionData::answering(data, 400).reason("Bad").into()));
    let answer = bench.device("device-1").request("kp1/v1/cmx/token-1/config/json", "", 0);
    assert_eq!(answer.topic, "kp1/v1/cmx/token-1/config/json/error");
    assert_error(&answer.payload, 400, "Bad");
}

#[test]
fn a_missing_app_version_is_filled_from_the_route() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| {
        let mut answer = ExtensionData::answering(data, 200);
        answer.app_version_name = None;
        Some(answer.into())
    });
    let answer = bench.device("device-1").request("kp1/v1/cmx/token-1/config/json/4", "", 0);
    assert_eq!(answer.topic, "kp1/v1/cmx/token-1/config/json/4/status");
}

#[test]
fn an_answer_without_its_correlation_id_is_routed_by_its_endpoint() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| {
        let mut answer = ExtensionData::answering(data, 200);
        answer.correlation_id = String::new();
        Some(answer.into())
    });
    let answer = bench.device("device-1").request("kp1/v1/cmx/token-1/config/json/4", "", 1);
    assert_eq!(answer.topic, "kp1/v1/cmx/token-1/config/json/4/status");
}

#[test]
fn an_answer_with_a_foreign_correlation_id_is_routed_by_its_endpoint() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| {
        let mut answer = ExtensionData::answering(data, 200);
        answer.correlation_id = "0c4d2d9e-5b5e-4a53-b7ab-19a8a1d5d6f1".to_owned();
        Some(answer.into())
    });
    let answer = bench.device("device-1").request("kp1/v1/cmx/token-1/config/json/4", "", 0);
    assert_eq!(answer.topic, "kp1/v1/cmx/token-1/config/json/4/status");
}

#[test]
fn one_client_speaks_for_several_endpoints() {
    let bench = Bench::start();
    let _echo = bench.extension("cex", extension::echoes);
    let mut gateway = bench.device("field-gateway");
    // More than a session's table of resolved topics holds.
    for round in 0..2 {
        for number in 0..100 {
            let topic = format!("kp1/v1/cex/token-{number}/result/x/{round}");
            let answer = gateway.request(&topic, number.to_string(), 0);
            assert_eq!(answer.topic, format!("{topic}/status"));
            assert_eq!(answer.text(), number.to_string());
        }
    }
}

#[test]
fn an_endpoint_used_by_two_clients_answers_whoever_asked() {
    let bench = Bench::start();
    let _echo = bench.extension("cex", extension::echoes);
    let mut clients = ["a", "b"].map(|id| bench.device(id));
    for round in 0..4 {
        for (index, client) in clients.iter_mut().enumerate() {
            let text = format!("{round}-{index}");
            let answer = client.request("kp1/v1/cex/token-1/result/x/1", &text, 1);
            assert_eq!(answer.text(), text);
        }
    }
    for client in &mut clients {
        client.ping();
    }
}

#[test]
fn several_requests_under_way_are_answered_each() {
    let bench = Bench::start();
    let _echo = bench.extension("cex", extension::echoes);
    let mut device = bench.device("device-1");
    for id in 0..500 {
        device.publish_qos0(&format!("kp1/v1/cex/token-1/result/x/{id}"), id.to_string());
    }
    for id in 0..500 {
        let answer = device.receive_publish();
        assert_eq!(answer.topic, format!("kp1/v1/cex/token-1/result/x/{id}/status"));
        assert_eq!(answer.text(), id.to_string());
    }
}

/// An endpoint-unaware service that may or may not echo the correlation id.
fn time_service(echoes_correlation_id: bool) -> impl Fn(&ClientData) -> Option<Answer> {
    move |data| {
        let mut answer = ExtensionData::answering(data, 200).payload("12:00");
        if !echoes_correlation_id {
            answer.correlation_id = "unrelated".to_owned();
        }
        Some(answer.into())
    }
}

#[test]
fn an_endpoint_unaware_service_answers_by_correlation_id() {
    let bench = Bench::start();
    let _tsx = bench.extension("tsx", time_service(true));
    let mut others = ["x", "y", "z"].map(|id| bench.device(id));
    let mut device = bench.device("device-1");
    for qos in 0..=2 {
        let answer = device.request("kp1/v1/tsx/time/8", "", qos);
        assert_eq!(answer.topic, "kp1/v1/tsx/time/8/status");
        assert_eq!((answer.text(), answer.qos), ("12:00", qos));
    }
    for other in &mut others {
        other.ping();
    }
}

#[test]
fn an_endpoint_unaware_service_that_echoes_nothing_answers_by_path_and_request_id() {
    let bench = Bench::start();
    let _tsx = bench.extension("tsx", time_service(false));
    let mut device = bench.device("device-1");
    let answer = device.request("kp1/v1/tsx/time/8", "", 0);
    assert_eq!(answer.topic, "kp1/v1/tsx/time/8/status");
    assert_eq!(answer.text(), "12:00");
}

#[test]
fn an_endpoint_unaware_answer_without_any_match_is_dropped_and_counted() {
    let bench = Bench::start();
    let tsx = bench.extension("tsx", |data| {
        let mut answer = ExtensionData::answering(data, 200);
        answer.correlation_id = "unrelated".to_owned();
        answer.request_id = Some(99);
        Some(answer.into())
    });
    let mut device = bench.device("device-1");
    device.publish_qos0("kp1/v1/tsx/time/1", "");
    tsx.take();
    bench.gateway.wait_until_dropped("no_route", 1.0);
    device.ping();
}

#[test]
fn an_answer_for_a_client_that_has_left_is_dropped_and_counted() {
    let bench = Bench::start();
    let cmx = bench.extension("cmx", extension::is_silent);
    let mut device = bench.device("device-1");
    device.publish_qos1("kp1/v1/cmx/token-1/config/json/1", "");
    device.disconnect();
    let data = cmx.take();
    bench.gateway.wait_for_metric("ringgate_endpoints", &[], 0.0);
    let reply = data.reply.clone().expect("a reply subject");
    cmx.publish(&reply, None, ExtensionData::answering(&data, 200).datum());
    bench.gateway.wait_until_dropped("no_route", 1.0);
}

#[test]
fn an_expired_answer_is_dropped_and_counted() {
    let bench = Bench::start();
    let _cmx = bench.extension("cmx", |data| {
        let mut answer = ExtensionData::answering(data, 200);
        answer.timestamp_ms -= 60_000;
        answer.timeout_ms = 1_000;
        Some(answer.into())
    });
    let mut device = bench.device("device-1");
    device.publish_qos0("kp1/v1/cmx/token-1/config/json/1", "");
    bench.gateway.wait_until_dropped("expired", 1.0);
    device.ping();
}

#[test]
fn garbage_on_the_reply_subject_is_dropped_and_counted() {
    let bench = Bench::start();
    let cmx = bench.extension("cmx", extension::is_silent);
    let mut device = bench.device("device-1");
    device.publish_qos1("kp1/v1/cmx/token-1/config/json/1", "");
    let reply = cmx.take().reply.expect("a reply subject");
    for garbage in [&b"\x80"[..], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", &[0x41; 700]] {
        cmx.publish(&reply, None, garbage.to_vec());
    }
    bench.gateway.wait_until_dropped("bad_extension_data", 3.0);
    device.ping();
    bench.gateway.wait_until_healthy();
}

#[test]
fn an_extension_that_adds_trailing_bytes_is_understood() {
    let bench = Bench::start();
    let cmx = bench.extension("cmx", extension::is_silent);
    let mut device = bench.device("device-1");
    device.publish_qos1("kp1/v1/cmx/token-1/config/json/1", "");
    let data = cmx.take();
    let mut datum = ExtensionData::answering(&data, 200).payload("{}").datum();
    datum.extend([0, 2, 4]);
    cmx.publish(&data.reply.expect("a reply subject"), None, datum);
    assert_eq!(device.receive_publish().text(), "{}");
}

const AFFINITY_SUBJECT: &str = "kaa.v1.replica.cex-7.esp.ClientData";

/// A service whose replica wants to keep the endpoints it has answered.
fn with_affinity(data: &ClientData) -> Option<Answer> {
    let mut data = ExtensionData::answering(data, 200);
    data.extension_instance_name = Some("cex".to_owned());
    let reply_to = Some(AFFINITY_SUBJECT.to_owned());
    Some(Answer { data, subject: None, reply_to })
}

fn ask(device: &mut Device, token: &str) {
    device.request(&format!("kp1/v1/cex/{token}/x/1"), "", 0);
}

#[test]
fn affinity_is_honoured_per_endpoint_and_forgotten_on_disconnect() {
    let bench = Bench::start();
    let cex = bench.extension("cex", with_affinity);
    cex.also_listen_on(AFFINITY_SUBJECT);
    let instance = "kaa.v1.service.cex.esp.ClientData";

    let mut device = bench.device("device-1");
    ask(&mut device, "token-1");
    assert_eq!(cex.take().subject, instance, "the first message knows no affinity");
    ask(&mut device, "token-1");
    assert_eq!(cex.take().subject, AFFINITY_SUBJECT, "the reply subject is used");
    ask(&mut device, "token-2");
    assert_eq!(cex.take().subject, instance, "another endpoint has no affinity yet");
    device.disconnect();

    let mut device = bench.device("device-1");
    ask(&mut device, "token-1");
    assert_eq!(cex.take().subject, instance, "a new connection starts without affinity");
}

#[test]
fn what_was_meant_for_a_replica_that_is_gone_reaches_the_instance() {
    let bench = Bench::start();
    // Nobody listens on the affinity subject.
    let cex = bench.extension("cex", with_affinity);
    for qos in [1, 2] {
        let mut device = bench.device("device-1");
        ask(&mut device, "token-1");
        cex.take();
        let answer = device.request("kp1/v1/cex/token-1/x/2", "", qos);
        assert_eq!(answer.topic, "kp1/v1/cex/token-1/x/2/status");
        let carried = cex.take();
        assert_eq!(carried.subject, "kaa.v1.service.cex.esp.ClientData");
        assert_eq!(carried.request_id, Some(2));
    }
    let mut device = bench.device("device-1");
    ask(&mut device, "token-1");
    let answer = device.request("kp1/v1/cex/token-1/x/2", "", 0);
    assert_eq!(answer.topic, "kp1/v1/cex/token-1/x/2/error", "QoS 0 is never sent twice");
    assert_error(&answer.payload, 503, "Service Unavailable");
}
