//! SUBSCRIBE and UNSUBSCRIBE. Delivery needs neither; both are answered as the standard says.

use std::time::Duration;

use crate::harness::Bench;
use crate::harness::device::Next;
use crate::harness::packet::{SUBACK, V5, V31, V311, subscribe};

#[test]
fn suback_carries_the_granted_qos_of_each_filter() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        let granted = device.subscribe(&[
            ("kp1/v1/dcx/token-1/json/status", 0),
            ("kp1/v1/dcx/token-1/json/+/status", 1),
            ("kp1/v1/cmx/token-1/#", 2),
            ("#", 1),
            ("+/+", 2),
            ("entirely/different", 2),
        ]);
        assert_eq!(granted, [0, 1, 2, 1, 2, 2]);
    }
}

#[test]
fn an_answer_matched_by_several_filters_comes_once() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        device.subscribe(&[
            ("kp1/v1/dcx/token-1/json/4/status", 2),
            ("kp1/v1/dcx/token-1/#", 2),
            ("kp1/+/dcx/+/json/+/status", 2),
            ("#", 2),
        ]);
        for qos in 0..=2 {
            let answer = device.request("kp1/v1/dcx/token-1/json/4", "[]", qos);
            assert_eq!((answer.qos, answer.payload.len()), (qos, 0));
            device.ping();
        }
    }
}

#[test]
fn a_request_sent_right_behind_subscribe_is_answered() {
    // The JavaScript SDK publishes before its SUBSCRIBE is acknowledged.
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    let mut bytes = subscribe(V311, 1, &[("kp1/v1/dcx/token-1/json/+", 0)]);
    bytes.extend(
        crate::harness::packet::Publish::new("kp1/v1/dcx/token-1/json/4", "[]").bytes(V311),
    );
    device.send(&bytes);
    assert_eq!(device.receive().suback(SUBACK, V311).reasons, [0]);
    assert_eq!(device.receive_publish().topic, "kp1/v1/dcx/token-1/json/4/status");
}

#[test]
fn unsubscribe_is_always_acknowledged() {
    let bench = Bench::start();
    for (level, codes) in [(V31, vec![]), (V311, vec![]), (V5, vec![0x00, 0x11])] {
        let mut device = bench.device_of(level, "device-1");
        device.subscribe(&[("kp1/held", 0)]);
        assert_eq!(device.unsubscribe(&["kp1/held", "kp1/never/held"]), codes);
        device.ping();
    }
}

#[test]
fn a_repeated_subscribe_replaces_the_qos() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for qos in [2, 0, 1] {
        assert_eq!(device.subscribe(&[("kp1/#", qos)]), [qos]);
    }
    bench.gateway.wait_for_metric("ringgate_subscriptions", &[], 1.0);
}

#[test]
fn filters_that_are_no_filters_are_refused() {
    let bench = Bench::start();
    for level in [V311, V5] {
        for filter in ["", "a/#/b", "a#", "a+/b", "#/a"] {
            let mut device = bench.device_of(level, "device-1");
            device.send(&subscribe(level, 1, &[("fine", 1), (filter, 1)]));
            match device.next_within(Duration::from_secs(20)) {
                // A code for that filter alone, or an end with the reason: both are the standard's.
                Next::Packet(packet) if packet.kind() == SUBACK => {
                    let refusal = if level == V5 { 0x8F } else { 0x80 };
                    assert_eq!(packet.suback(SUBACK, level).reasons, [1, refusal], "{filter}");
                }
                Next::Packet(packet) => {
                    assert_eq!((level, packet.disconnect().0), (V5, 0x8F), "{filter}");
                    device.expect_closed();
                }
                Next::Closed => assert_eq!(level, V311, "{filter}"),
                Next::Nothing => panic!("no answer to the filter {filter:?}"),
            }
        }
    }
}

#[test]
fn subscriptions_beyond_the_limit_are_refused_one_by_one() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.subscriptions-max", 2));
    for (level, refusal) in [(V311, 0x80), (V5, 0x97)] {
        let mut device = bench.device_of(level, "device-1");
        let granted = device.subscribe(&[("a", 0), ("b", 1), ("c", 1), ("a", 2)]);
        assert_eq!(granted, [0, 1, refusal, 2]);
    }
}

#[test]
fn a_filter_delivers_nothing_from_other_clients() {
    let bench = Bench::start();
    let mut listener = bench.device("listener");
    listener.subscribe(&[("#", 2)]);
    let mut speaker = bench.device("speaker");
    speaker.request("kp1/v1/dcx/token-1/json/1", "[]", 1);
    speaker.publish_qos1("kp1/v1/dcx/token-1/json", "[]");
    listener.ping();
}
