//! Sessions: takeover, resumption, expiry; on one shard and across shards.

use std::time::Duration;

use crate::harness::device::{Device, Next};
use crate::harness::extension::ExtensionData;
use crate::harness::packet::{Connect, DISCONNECT, V5, V31, V311, Value, framed, property};
use crate::harness::{Bench, let_time_pass};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

/// Successive connections until, with two shards, both kinds of takeover have happened for all
/// practical purposes: the kernel spreads connections over the listeners at random.
const CONNECTIONS: usize = 16;

#[test]
fn a_client_id_that_connects_again_takes_the_session_over() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut current = bench.device_of(level, "device-1");
        for number in 0..CONNECTIONS {
            let mut next = bench.device_of(level, "device-1");
            current.expect_refusal(0x8E);
            let answer = next.request(&format!("{TOPIC}/{number}"), "[]", 1);
            assert_eq!(answer.topic, format!("{TOPIC}/{number}/status"));
            current = next;
        }
        current.disconnect();
    }
    let takeovers = 3.0 * CONNECTIONS as f64;
    bench.gateway.wait_for_metric("ringgate_takeovers_total", &[], takeovers);
    bench.gateway.wait_until_closed("takeover", takeovers);
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
}

#[test]
fn many_connections_with_one_client_id_at_once_leave_exactly_one() {
    let bench = Bench::start();
    let mut devices: Vec<_> = (0..40).map(|_| Device::open(bench.gateway.mqtt, V311)).collect();
    for device in &mut devices {
        device.send(&Connect::new(V311, "device-1").bytes());
    }
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 1.0);
    let mut alive = 0;
    for device in &mut devices {
        loop {
            match device.next_within(Duration::from_millis(50)) {
                Next::Packet(packet) => assert_eq!(packet.connack(V311).code, 0),
                Next::Closed => break,
                Next::Nothing => {
                    device.publish_qos1(TOPIC, "alive");
                    alive += 1;
                    break;
                }
            }
        }
    }
    assert_eq!(alive, 1);
}

#[test]
fn a_late_end_of_the_old_connection_does_not_touch_the_new_one() {
    let bench = Bench::start();
    for _ in 0..CONNECTIONS {
        let old = bench.device("device-1");
        let mut new = bench.device("device-1");
        drop(old);
        new.publish_qos1(TOPIC, "[]");
        // The endpoint's route is the new connection's, and stays.
        let answer = new.request("kp1/v1/dcx/token-1/json/1", "[]", 0);
        assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/1/status");
    }
}

/// An expiry is a matter of time: nothing tells when it is over.
const LONGER_THAN_A_SECOND: Duration = Duration::from_millis(2_500);

fn resuming(level: u8, expiry_s: u32) -> Connect {
    let connect = Connect::new(level, "device-1").resuming();
    if level == V5 {
        connect.property(property::SESSION_EXPIRY, Value::Four(expiry_s))
    } else {
        connect
    }
}

#[test]
fn a_session_is_resumed_wherever_the_connection_lands() {
    let bench = Bench::start();
    for level in [V311, V5] {
        let (device, connack) = Device::connected(bench.gateway.mqtt, resuming(level, 60));
        assert!(!connack.session_present, "the first connection");
        device.disconnect();
        for number in 0..CONNECTIONS {
            let (device, connack) = Device::connected(bench.gateway.mqtt, resuming(level, 60));
            assert!(connack.session_present, "connection {number}");
            device.disconnect();
        }
        // A clean start ends it, and what a clean session leaves is not kept.
        let clean = Connect::new(level, "device-1");
        let (device, connack) = Device::connected(bench.gateway.mqtt, clean);
        assert!(!connack.session_present);
        device.disconnect();
        let (device, connack) = Device::connected(bench.gateway.mqtt, resuming(level, 0));
        assert!(!connack.session_present);
        device.disconnect();
        Device::connected(bench.gateway.mqtt, Connect::new(level, "device-1")).0.disconnect();
    }
    let resumed = 2.0 * CONNECTIONS as f64;
    bench.gateway.wait_for_metric("ringgate_sessions_resumed_total", &[], resumed);
}

#[test]
fn a_takeover_resumes_the_session_too() {
    let bench = Bench::start();
    let (mut current, _) = Device::connected(bench.gateway.mqtt, resuming(V5, 60));
    for _ in 0..CONNECTIONS {
        let (next, connack) = Device::connected(bench.gateway.mqtt, resuming(V5, 60));
        assert!(connack.session_present);
        current.expect_disconnect(0x8E);
        current = next;
    }
}

#[test]
fn version_31_has_no_session_present_flag_and_resumes_nevertheless() {
    let bench = Bench::start();
    let (device, _) = Device::connected(bench.gateway.mqtt, resuming(V31, 0));
    device.disconnect();
    let (device, connack) = Device::connected(bench.gateway.mqtt, resuming(V31, 0));
    // MQTT 3.1 §3.2: the first byte of CONNACK is reserved.
    assert!(!connack.session_present);
    device.disconnect();
    bench.gateway.wait_for_metric("ringgate_sessions_resumed_total", &[], 1.0);
}

#[test]
fn subscriptions_are_part_of_the_session() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.push-qos", 2));
    let (mut device, _) = Device::connected(bench.gateway.mqtt, resuming(V311, 0));
    assert_eq!(device.subscribe(&[("kp1/v1/cmx/#", 1)]), [1]);
    device.disconnect();
    for _ in 0..4 {
        let (mut device, connack) = Device::connected(bench.gateway.mqtt, resuming(V311, 0));
        assert!(connack.session_present);
        device.publish_qos1(TOPIC, "[]");
        bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
        bench.dcx.push(&ExtensionData::push("cmx", "token-1", "/config/json", "{}"));
        // The subscription shows in the QoS it caps.
        assert_eq!(device.receive_and_acknowledge().qos, 1);
        device.disconnect();
        bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 0.0);
    }
}

#[test]
fn a_session_expires() {
    let bench = Bench::start();
    let (device, connack) = Device::connected(bench.gateway.mqtt, resuming(V5, 1));
    assert!(!connack.session_present);
    drop(device);
    let_time_pass(LONGER_THAN_A_SECOND);
    let (_device, connack) = Device::connected(bench.gateway.mqtt, resuming(V5, 1));
    assert!(!connack.session_present);
}

#[test]
fn the_longest_expiry_is_bounded_by_configuration() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.session-expiry-s-max", 1));
    // Before v5 a session without "clean" would last for ever.
    let (device, _) = Device::connected(bench.gateway.mqtt, resuming(V311, 0));
    drop(device);
    let_time_pass(LONGER_THAN_A_SECOND);
    let (_device, connack) = Device::connected(bench.gateway.mqtt, resuming(V311, 0));
    assert!(!connack.session_present);
}

#[test]
fn a_disconnect_may_shorten_the_expiry() {
    let bench = Bench::start();
    let (mut device, _) = Device::connected(bench.gateway.mqtt, resuming(V5, 600));
    // Normal disconnection, Session Expiry Interval 0.
    device.send(&framed(DISCONNECT << 4, &[0, 5, 0x11, 0, 0, 0, 0]));
    device.expect_closed();
    let (_device, connack) = Device::connected(bench.gateway.mqtt, resuming(V5, 600));
    assert!(!connack.session_present);
}

#[test]
fn a_disconnect_must_not_bring_an_expiry_where_there_was_none() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    // MQTT-3.14.2-2: a protocol error.
    device.send(&framed(DISCONNECT << 4, &[0, 5, 0x11, 0, 0, 0, 9]));
    device.expect_disconnect(0x82);
}

#[test]
fn no_more_sessions_are_kept_than_configured() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.sessions-kept-max", 10));
    for number in 0..40 {
        let connect = Connect::new(V311, &format!("device-{number}")).resuming();
        Device::connected(bench.gateway.mqtt, connect).0.disconnect();
    }
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
    let kept = (0..40).rev().filter(|number| {
        let connect = Connect::new(V311, &format!("device-{number}")).resuming();
        Device::connected(bench.gateway.mqtt, connect).1.session_present
    });
    let kept = kept.count();
    assert!((1..=10).contains(&kept), "{kept} sessions were kept");
}

#[test]
fn sessions_are_counted_connected_or_not() {
    let bench = Bench::start();
    let (left, _) = Device::connected(bench.gateway.mqtt, resuming(V311, 0));
    left.disconnect();
    let _here = bench.device("device-2");
    bench.gateway.wait_for_metric("ringgate_sessions", &[], 1.0);
    bench.gateway.wait_for_metric("ringgate_sessions_kept", &[], 1.0);
}
