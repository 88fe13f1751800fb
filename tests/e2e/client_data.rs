//! What an extension service receives: 4/ESP `ClientData`, field by field.

use std::collections::HashSet;

use crate::harness::Bench;
use crate::harness::extension::{self, now_ms};
use crate::harness::gateway::REPLICA;

#[test]
fn a_sample_reaches_the_extension_field_by_field() {
    let bench = Bench::start();
    let before_ms = now_ms();
    let mut device = bench.device("device-1");
    device.request("kp1/v1/dcx/token-1/json/42", r#"[{"temperature":21}]"#, 1);
    let data = bench.dcx.take();

    assert_eq!(data.subject, "kaa.v1.service.dcx.esp.ClientData");
    let reply = data.reply.clone().expect("a reply subject");
    let shard = reply
        .strip_prefix(&format!("kaa.v1.replica.{REPLICA}-"))
        .and_then(|rest| rest.strip_suffix(".esp.ExtensionData"))
        .unwrap_or_else(|| panic!("{reply} is not a replica subject"));
    assert!(["0", "1"].contains(&shard), "{reply} names a shard");

    assert!(!data.correlation_id.is_empty());
    assert!((before_ms..=now_ms()).contains(&data.timestamp_ms), "{}", data.timestamp_ms);
    assert_eq!(data.timeout_ms, 0);
    assert_eq!(data.app_version_name, "v1");
    assert_eq!(data.endpoint_id.as_deref(), Some("token-1"));
    assert_eq!(data.resource_path, "/json");
    assert_eq!(data.request_id, Some(42));
    assert_eq!(data.payload, br#"[{"temperature":21}]"#);
    assert_eq!(data.config_name, None);
    assert!(data.headers.is_none(), "{:?}", data.headers);
}

#[test]
fn a_message_without_a_request_id_has_none_and_gets_no_answer() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    device.publish_qos1("kp1/v1/dcx/token-1/json", "[]");
    assert_eq!(bench.dcx.take().request_id, None);
    device.expect_silence();
}

#[test]
fn every_message_has_a_correlation_id_of_its_own() {
    let bench = Bench::start();
    let mut devices = ["a", "b"].map(|id| bench.device(id));
    for _ in 0..50 {
        for device in &mut devices {
            device.publish_qos0("kp1/v1/dcx/token-1/json", "[]");
        }
    }
    bench.dcx.wait_for_count(100);
    let received = bench.dcx.received();
    let distinct: HashSet<_> = received.iter().map(|data| &data.correlation_id).collect();
    assert_eq!(distinct.len(), 100);
}

#[test]
fn payloads_pass_byte_for_byte() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    let every_byte: Vec<u8> = (0..=255).collect();
    let looks_like_nats = b"\r\nPUB kaa.v1.service.dcx.esp.ClientData 0\r\n\r\n".to_vec();
    let large: Vec<u8> = (0..600_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    for payload in [Vec::new(), every_byte, looks_like_nats, large] {
        for qos in 0..=2 {
            device.publish("kp1/v1/dcx/token-1/plain/x", &payload, qos);
            let data = bench.dcx.take();
            assert_eq!(data.payload.len(), payload.len());
            assert!(data.payload == payload, "a payload of {} bytes changed", payload.len());
        }
    }
}

#[test]
fn messages_of_one_device_arrive_in_order() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for number in 0..2_000 {
        device.publish_qos0("kp1/v1/dcx/token-1/json", number.to_string());
    }
    bench.dcx.wait_for_count(2_000);
    let texts: Vec<_> = bench.dcx.received().iter().map(|data| data.text().to_owned()).collect();
    let expected: Vec<_> = (0..2_000).map(|number: u32| number.to_string()).collect();
    assert_eq!(texts, expected);
}

#[test]
fn the_last_level_is_a_request_id_only_as_a_canonical_number_an_avro_int_holds() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for (levels, path, request_id) in [
        ("/json/1", "/json", Some(1)),
        ("/json/0", "/json", Some(0)),
        ("/json/2147483647", "/json", Some(2_147_483_647)),
        ("/json/007", "/json/007", None),
        ("/json/00", "/json/00", None),
        ("/json/-1", "/json/-1", None),
        ("/json/1x", "/json/1x", None),
        ("/json/1/", "/json/1/", None),
        ("/json/1/2", "/json/1", Some(2)),
        ("/json", "/json", None),
        ("/json/", "/json/", None),
        ("//json", "//json", None),
        ("/json/any/further/levels", "/json/any/further/levels", None),
        ("/plain/\u{e4}\u{20ac}", "/plain/\u{e4}\u{20ac}", None),
    ] {
        device.publish_qos0(&format!("kp1/v1/dcx/token-1{levels}"), "x");
        let data = bench.dcx.take();
        assert_eq!((data.resource_path.as_str(), data.request_id), (path, request_id), "{levels}");
    }
}

#[test]
fn an_endpoint_unaware_extension_gets_no_endpoint_and_its_whole_path() {
    let bench = Bench::start();
    let tsx = bench.extension("tsx", extension::is_silent);
    let mut device = bench.device("device-1");
    device.publish_qos1("kp1/v1/tsx/get/time/5", "");
    let data = tsx.take();
    assert_eq!(data.subject, "kaa.v1.service.tsx.esp.ClientData");
    assert_eq!(data.endpoint_id, None);
    assert_eq!(data.resource_path, "/get/time");
    assert_eq!(data.request_id, Some(5));
    assert!(!data.correlation_id.is_empty());
}

#[test]
fn config_name_is_the_last_level_of_a_configuration_path() {
    let bench = Bench::start();
    let cmx = bench.extension("cmx", extension::is_silent);
    let mut device = bench.device("device-1");
    for (levels, path, config_name) in [
        ("/config/json", "/config/json", None),
        ("/config/json/network", "/config/json/network", Some("network")),
        ("/config/json/network/7", "/config/json/network", Some("network")),
        ("/config/json/42", "/config/json", None),
        ("/applied/json/a_B-9", "/applied/json/a_B-9", Some("a_B-9")),
        ("/report/json/x", "/report/json/x", Some("x")),
        ("/other/json/x", "/other/json/x", None),
    ] {
        device.publish_qos0(&format!("kp1/v1/cmx/token-1{levels}"), "");
        let data = cmx.take();
        assert_eq!(data.resource_path, path);
        assert_eq!(data.config_name.as_deref(), config_name, "{levels}");
    }
}

#[test]
fn config_name_can_be_always_null() {
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.esp.config-name", serde_json::Value::Null)
    });
    let cmx = bench.extension("cmx", extension::is_silent);
    bench.device("device-1").publish_qos1("kp1/v1/cmx/token-1/config/json/network", "");
    let data = cmx.take();
    assert_eq!(data.config_name, None);
    assert!(data.has_config_name);
}

#[test]
fn config_name_can_be_left_out_for_services_of_the_older_schema() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.esp.config-name", "omit"));
    let cmx = bench.extension("cmx", extension::is_silent);
    bench.device("device-1").publish_qos1("kp1/v1/cmx/token-1/config/json/network", "{}");
    let data = cmx.take();
    assert!(!data.has_config_name);
    assert_eq!(data.resource_path, "/config/json/network");
    assert_eq!(data.payload, b"{}");
}

#[test]
fn the_timeout_of_client_data_is_configured() {
    let bench =
        Bench::start_with(|settings| settings.set("ringgate.esp.client-data-timeout-ms", 9_000));
    bench.device("device-1").publish_qos1("kp1/v1/dcx/token-1/json", "[]");
    assert_eq!(bench.dcx.take().timeout_ms, 9_000);
}
