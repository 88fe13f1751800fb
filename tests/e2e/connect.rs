//! CONNECT: versions, client ids, refusals, timeouts, keep alive.

use std::time::{Duration, Instant};

use crate::harness::device::{Device, Next};
use crate::harness::packet::{
    Connect, PINGREQ_BYTES, PINGRESP, Publish, V5, V31, V311, Value, framed, property,
};
use crate::harness::{Bench, PATIENCE, let_time_pass};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

/// Everything the gateway sends until it closes the connection; `None` when it does not close it.
fn words_until_closed(device: &mut Device) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match device.next_within(Duration::from_secs(3)) {
            Next::Packet(packet) => bytes.extend(framed(packet.head, &packet.body)),
            Next::Closed => return Some(bytes),
            Next::Nothing => return None,
        }
    }
}

fn last_words(device: &mut Device) -> Vec<u8> {
    words_until_closed(device).expect("the gateway closes the connection")
}

#[test]
fn every_version_is_accepted_with_credentials_and_will() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let connect = Connect::new(level, "device-1")
            .credentials("somebody@tenant", "secret")
            .will("kp1/v1/dcx/token-1/json", b"gone");
        let (mut device, connack) = Device::connected(bench.gateway.mqtt, connect);
        assert!(!connack.session_present);
        device.publish_qos1(TOPIC, "[]");
        bench.dcx.take();
        // A connection that breaks is when a broker would publish the will.
        drop(device);
    }
    bench.gateway.wait_for_metric("ringgate_wills_ignored_total", &[], 3.0);
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
    bench.dcx.expect_silence();
}

#[test]
fn unknown_protocol_levels_are_refused_with_the_code_for_it() {
    let bench = Bench::start();
    for (name, level) in [("MQTT", 6), ("MQTT", 3), ("MQTT", 0), ("MQIsdp", 4), ("MQTT", 255)] {
        let mut connect = Connect::new(V311, "device-1");
        connect.name = name;
        connect.level = level;
        let mut device = Device::open(bench.gateway.mqtt, V311);
        device.send(&connect.bytes());
        let words = last_words(&mut device);
        let (older, newer) = (vec![0x20, 2, 0, 1], vec![0x20, 3, 0, 0x84, 0]);
        assert!(words == older || words == newer, "{name} {level}: {words:02x?}");
    }
    let label = "reason=\"unsupported_version\"";
    bench.gateway.wait_for_metric("ringgate_connects_refused_total", &[label], 5.0);
}

#[test]
fn an_unknown_protocol_name_is_closed() {
    let bench = Bench::start();
    for name in ["HTTP", "mqtt", "MQTTX", "", "AMQP"] {
        let mut connect = Connect::new(V311, "device-1");
        connect.name = name;
        let mut device = Device::open(bench.gateway.mqtt, V311);
        device.send(&connect.bytes());
        let words = last_words(&mut device);
        let allowed = [vec![], vec![0x20, 2, 0, 1], vec![0x20, 3, 0, 0x84, 0]];
        assert!(allowed.contains(&words), "{name}: {words:02x?}");
    }
    Device::connected(bench.gateway.mqtt, Connect::new(V311, "device-1")).0.ping();
}

#[test]
fn an_empty_client_id_is_accepted_where_the_session_is_clean() {
    let bench = Bench::start();
    let mut first = Device::connected(bench.gateway.mqtt, Connect::new(V311, "")).0;
    let mut second = Device::connected(bench.gateway.mqtt, Connect::new(V311, "")).0;
    // Two of them are two sessions: no takeover.
    first.ping();
    second.ping();
    first.publish_qos1(TOPIC, "[]");
    second.publish_qos1(TOPIC, "[]");
}

#[test]
fn an_empty_client_id_without_a_clean_session_is_refused() {
    let bench = Bench::start();
    for level in [V31, V311] {
        let connect = Connect::new(level, "").resuming();
        let (mut device, connack) = Device::connect(bench.gateway.mqtt, connect);
        assert_eq!((connack.code, connack.session_present), (2, false));
        device.expect_closed();
    }
    let label = "reason=\"bad_client_id\"";
    bench.gateway.wait_for_metric("ringgate_connects_refused_total", &[label], 2.0);
}

#[test]
fn an_empty_v5_client_id_is_given_one_that_can_be_resumed() {
    let bench = Bench::start();
    let resumable = |id: &str| {
        Connect::new(V5, id).resuming().property(property::SESSION_EXPIRY, Value::Four(60))
    };
    let (device, connack) = Device::connected(bench.gateway.mqtt, resumable(""));
    let id = connack.properties.text(property::ASSIGNED_CLIENT_ID).expect("an id").to_owned();
    assert!(!id.is_empty());
    device.disconnect();
    let (_other, other) = Device::connected(bench.gateway.mqtt, Connect::new(V5, ""));
    assert_ne!(other.properties.text(property::ASSIGNED_CLIENT_ID), Some(id.as_str()));
    let (_device, connack) = Device::connected(bench.gateway.mqtt, resumable(&id));
    assert!(connack.session_present);
    assert_eq!(connack.properties.text(property::ASSIGNED_CLIENT_ID), None);
}

#[test]
fn a_client_id_over_the_limit_is_refused() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.client-id-bytes-max", 64));
    for (level, code) in [(V31, 2), (V311, 2), (V5, 0x85)] {
        let longest = Connect::new(level, &"x".repeat(64));
        Device::connected(bench.gateway.mqtt, longest).0.ping();
        let too_long = Connect::new(level, &"x".repeat(65));
        let (mut device, connack) = Device::connect(bench.gateway.mqtt, too_long);
        assert_eq!(connack.code, code);
        device.expect_closed();
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        device.send(&Connect::new(level, "device-1").bytes());
        device.expect_refusal(0x82);
    }
    bench.gateway.wait_until_closed("protocol_error", 3.0);
}

#[test]
fn a_packet_before_connect_ends_the_connection() {
    let bench = Bench::start();
    for bytes in [
        PINGREQ_BYTES.to_vec(),
        Publish::new(TOPIC, "x").bytes(V311),
        framed(0xE0, &[]),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3],
    ] {
        let mut device = Device::open(bench.gateway.mqtt, V311);
        device.send(&bytes);
        assert_eq!(last_words(&mut device), b"", "after {bytes:02x?}");
    }
    bench.dcx.expect_silence();
}

#[test]
fn packets_sent_right_behind_connect_are_not_lost() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut bytes = Connect::new(level, "device-1").bytes();
        bytes.extend(Publish::new(TOPIC, "early").qos(1, 1).bytes(level));
        let mut device = Device::open(bench.gateway.mqtt, level);
        device.send(&bytes);
        assert_eq!(device.receive().connack(level).code, 0);
        assert_eq!(device.receive_ack(crate::harness::packet::PUBACK).packet_id, 1);
        assert_eq!(bench.dcx.take().text(), "early");
    }
}

#[test]
fn a_connection_that_never_says_connect_is_closed() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.connect-timeout-ms", 700));
    let started = Instant::now();
    let mut silent = Device::open(bench.gateway.mqtt, V311);
    let mut half = Device::open(bench.gateway.mqtt, V311);
    half.send(&Connect::new(V311, "device-1").bytes()[..9]);
    silent.expect_closed();
    half.expect_closed();
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(600), "closed after {waited:?}");
    assert!(waited < Duration::from_secs(5), "closed after {waited:?}");
    bench.gateway.wait_until_closed("connect_timeout", 2.0);
}

#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let bench = Bench::start();
    for (level, count) in [(V311, 1.0), (V5, 2.0)] {
        let started = Instant::now();
        let connect = Connect::new(level, "device-1").keep_alive(2);
        let mut device = Device::connected(bench.gateway.mqtt, connect).0;
        device.expect_refusal(0x8D);
        let waited = started.elapsed();
        assert!(waited >= Duration::from_millis(2_900), "closed after {waited:?}");
        assert!(waited < Duration::from_millis(8_000), "closed after {waited:?}");
        bench.gateway.wait_until_closed("keep_alive_timeout", count);
    }
}

#[test]
fn a_client_that_reads_nothing_does_not_escape_its_keep_alive() {
    let bench = Bench::start();
    let connect = Connect::new(V311, "device-1").keep_alive(2);
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    let pings = PINGREQ_BYTES.repeat(16 * 1024 * 1024);
    let left = device.send_within(&pings, Duration::from_millis(500));
    assert!(!left.is_empty(), "the gateway stops reading a client that does not read");
    bench.gateway.wait_until_closed("keep_alive_timeout", 1.0);
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
}

#[test]
fn any_packet_keeps_a_connection_alive() {
    let bench = Bench::start();
    let connect = || Connect::new(V311, "").keep_alive(1);
    let mut pinging = Device::connected(bench.gateway.mqtt, connect()).0;
    let mut publishing = Device::connected(bench.gateway.mqtt, connect()).0;
    let mut without = Device::connected(bench.gateway.mqtt, connect().keep_alive(0)).0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        publishing.publish_qos0(TOPIC, "alive");
        pinging.send(&PINGREQ_BYTES);
        match pinging.next_within(Duration::from_millis(600)) {
            Next::Packet(packet) => assert_eq!(packet.kind(), PINGRESP),
            other => panic!("{other:?}"),
        }
        let_time_pass(Duration::from_millis(300));
    }
    publishing.ping();
    without.ping();
}

#[test]
fn the_keep_alive_is_capped_where_so_configured() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.keep-alive-s-max", 30));
    for (asked, in_force) in [(60, 30), (0, 30), (30, 30), (10, 10)] {
        let connect = Connect::new(V5, "device-1").keep_alive(asked);
        let (_device, connack) = Device::connected(bench.gateway.mqtt, connect);
        let told = connack.properties.number(property::SERVER_KEEP_ALIVE);
        assert_eq!(told.unwrap_or(asked.into()), in_force, "asked for {asked}");
    }
}

#[test]
fn a_capped_keep_alive_is_enforced() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.keep-alive-s-max", 1));
    let connect = Connect::new(V5, "device-1").keep_alive(600);
    Device::connected(bench.gateway.mqtt, connect).0.expect_disconnect(0x8D);
}

#[test]
fn malformed_connects_are_refused() {
    let bench = Bench::start();
    let body_of = |level: u8| {
        let bytes = Connect::new(level, "device-1").bytes();
        bytes[2..].to_vec()
    };
    let mut wrong = Vec::new();
    for level in [V31, V311, V5] {
        let good = body_of(level);
        let flags = if level == V31 { 9 } else { 7 };
        let with_flags = |value: u8| {
            let mut body = good.clone();
            body[flags] = value;
            body
        };
        let cases = [
            ("a reserved flag", with_flags(0x03)),
            ("will QoS without a will", with_flags(0x0A)),
            ("will retain without a will", with_flags(0x22)),
            ("a will that is not there", with_flags(0x06)),
            ("will QoS 3", with_flags(0x1E)),
            ("trailing bytes", [good.clone(), vec![0]].concat()),
            ("a client id cut short", good[..good.len() - 1].to_vec()),
        ];
        // MQTT 3.1 has no rules for flags, and allows a user name flag without a user name.
        let first = if level == V31 { 3 } else { 0 };
        for (what, body) in &cases[first..] {
            let mut device = Device::open(bench.gateway.mqtt, level);
            device.send(&framed(0x10, body));
            // v5 may say why in a CONNACK (MQTT 5.0 §4.13); older versions just close.
            let words = words_until_closed(&mut device);
            let refused = match words.as_deref() {
                Some([]) => true,
                Some([0x20, _, 0, 0x81 | 0x82, ..]) => level == V5,
                _ => false,
            };
            if !refused {
                wrong.push(format!("{what}, level {level}: {words:02x?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut not_utf8 = body_of(V311);
    let end = not_utf8.len();
    not_utf8[end - 1] = 0xFF;
    let mut device = Device::open(bench.gateway.mqtt, V311);
    device.send(&framed(0x10, &not_utf8));
    assert_eq!(last_words(&mut device), b"");
    bench.device("device-1").ping();
}

#[test]
fn version_31_allows_a_user_name_flag_without_a_user_name() {
    let bench = Bench::start();
    let mut body = Connect::new(V31, "device-1").bytes()[2..].to_vec();
    body[9] = 0x82;
    let mut device = Device::open(bench.gateway.mqtt, V31);
    device.send(&framed(0x10, &body));
    assert_eq!(device.receive().connack(V31).code, 0);
    device.ping();
}

#[test]
fn extended_authentication_is_refused() {
    let bench = Bench::start();
    // Authentication Method (0x15): ringgate has none.
    let connect =
        Connect::new(V5, "device-1").property(0x15, Value::Text("SCRAM-SHA-256".to_owned()));
    let (mut device, connack) = Device::connect(bench.gateway.mqtt, connect);
    assert_eq!(connack.code, 0x8C);
    device.expect_closed();
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.mqtt.connections-max", 4);
        // Wherever the kernel puts them: shards count together.
        settings.set("ringgate.shards", 2);
    });
    let mut devices: Vec<_> = (0..4).map(|n| bench.device(&format!("device-{n}"))).collect();
    let mut fifth = Device::open(bench.gateway.mqtt, V311);
    fifth.send_regardless(&Connect::new(V311, "fifth").bytes());
    match fifth.next_within(PATIENCE) {
        Next::Closed => {}
        Next::Packet(packet) => assert_ne!(packet.connack(V311).code, 0),
        Next::Nothing => panic!("a fifth connection of four was kept"),
    }
    for device in &mut devices {
        device.ping();
    }
    bench.gateway.wait_for_metric("ringgate_connections_refused_total", &[], 1.0);
    devices.pop().expect("four devices").disconnect();
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 3.0);
    bench.device("sixth").ping();
}
