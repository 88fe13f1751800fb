//! QoS 1 and 2 as exchanges: duplicates, replays, receive maximum, redelivery.

use crate::harness::device::{Device, Next};
use crate::harness::extension::ExtensionData;
use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Publish, V5, V31, V311, Value,
    acknowledgement, property,
};
use crate::harness::{Bench, SILENCE};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

#[test]
fn a_repeated_qos2_publish_is_delivered_once() {
    let bench = Bench::start();
    for level in [V31, V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        let publish = Publish::new(TOPIC, format!("once-{level}")).qos(2, 7);
        device.send_publish(&publish);
        assert_eq!(device.receive_ack(PUBREC).packet_id, 7);
        for _ in 0..3 {
            device.send_publish(&publish.clone().duplicate());
            let pubrec = device.receive_ack(PUBREC);
            assert_eq!((pubrec.packet_id, pubrec.reason), (7, 0));
        }
        device.send(&acknowledgement(PUBREL, 7));
        assert_eq!(device.receive_ack(PUBCOMP).packet_id, 7);

        // The identifier is free again: the same one now means another message.
        device.send_publish(&Publish::new(TOPIC, format!("twice-{level}")).qos(2, 7));
        assert_eq!(device.receive_ack(PUBREC).packet_id, 7);
        device.send(&acknowledgement(PUBREL, 7));
        assert_eq!(device.receive_ack(PUBCOMP).packet_id, 7);

        assert_eq!(bench.dcx.take().text(), format!("once-{level}"));
        assert_eq!(bench.dcx.take().text(), format!("twice-{level}"));
    }
    bench.dcx.expect_silence();
}

#[test]
fn a_repeated_pubrel_is_completed_again() {
    let bench = Bench::start();
    for level in [V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        device.publish_qos2(TOPIC, "x");
        let id = 1;
        device.send(&acknowledgement(PUBREL, id));
        let pubcomp = device.receive_ack(PUBCOMP);
        assert_eq!(pubcomp.packet_id, id);
        // MQTT 5.0 §3.7.2.1: 0x92 says that the identifier was not known any more.
        assert!([0, 0x92].contains(&pubcomp.reason), "{pubcomp:?}");
        device.ping();
    }
}

#[test]
fn a_qos2_exchange_survives_a_broken_connection() {
    let bench = Bench::start();
    let mut first = Device::connected(bench.gateway.mqtt, resuming("device-1")).0;
    let publish = Publish::new(TOPIC, "exactly once").qos(2, 3);
    first.send_publish(&publish);
    assert_eq!(first.receive_ack(PUBREC).packet_id, 3);
    drop(first);

    let (mut again, connack) = Device::connected(bench.gateway.mqtt, resuming("device-1"));
    assert!(connack.session_present);
    again.send_publish(&publish.duplicate());
    assert_eq!(again.receive_ack(PUBREC).packet_id, 3);
    again.send(&acknowledgement(PUBREL, 3));
    assert_eq!(again.receive_ack(PUBCOMP).packet_id, 3);
    assert_eq!(bench.dcx.take().text(), "exactly once");
    bench.dcx.expect_silence();
}

#[test]
fn a_repeated_qos1_publish_is_acknowledged_each_time() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    let publish = Publish::new(TOPIC, "at least once").qos(1, 9);
    for publish in [publish.clone(), publish.duplicate()] {
        device.send_publish(&publish);
        assert_eq!(device.receive_ack(PUBACK).packet_id, 9);
        assert_eq!(bench.dcx.take().text(), "at least once");
    }
}

#[test]
fn acknowledgements_come_in_the_order_of_the_publishes() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for id in 1..=500 {
        device.send_publish(&Publish::new(TOPIC, "x").qos(1, id));
    }
    for id in 1..=500 {
        assert_eq!(device.receive_ack(PUBACK).packet_id, id);
    }
}

#[test]
fn every_qos_in_one_write_is_carried() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    let mut bytes = Vec::new();
    for number in 0..300_u16 {
        let publish = Publish::new(TOPIC, number.to_string()).qos((number % 3) as u8, number + 1);
        bytes.extend(publish.bytes(V311));
    }
    device.send(&bytes);
    let mut acknowledged = 0;
    let mut completed = 0;
    while acknowledged < 100 || completed < 100 {
        let packet = device.receive();
        match packet.kind() {
            PUBACK => acknowledged += 1,
            PUBREC => {
                let id = packet.acknowledged(PUBREC, V311).packet_id;
                device.send(&acknowledgement(PUBREL, id));
            }
            _ => {
                packet.acknowledged(PUBCOMP, V311);
                completed += 1;
            }
        }
    }
    bench.dcx.wait_for_count(300);
    let texts: Vec<_> = bench.dcx.received().iter().map(|data| data.text().to_owned()).collect();
    assert_eq!(texts, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn one_packet_in_single_bytes_is_understood() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    for byte in Publish::new(TOPIC, "slowly").qos(1, 1).bytes(V311) {
        device.send(&[byte]);
    }
    assert_eq!(device.receive_ack(PUBACK).packet_id, 1);
    assert_eq!(bench.dcx.take().text(), "slowly");
}

fn resuming(client_id: &str) -> Connect {
    Connect::new(V311, client_id).resuming()
}

/// A bench whose pushes have the given QoS, and a device that can be pushed to.
fn with_pushes(qos: u8, connect: Connect) -> (Bench, Device) {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.push-qos", qos));
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    device.publish_qos1(TOPIC, "[]");
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
    (bench, device)
}

fn push(bench: &Bench, text: &str) {
    bench.dcx.push(&ExtensionData::push("cex", "token-1", "/command/x", text));
}

#[test]
fn the_clients_receive_maximum_is_kept() {
    let connect = Connect::new(V5, "device-1").property(property::RECEIVE_MAXIMUM, Value::Two(2));
    let (bench, mut device) = with_pushes(1, connect);
    for number in 0..5 {
        push(&bench, &number.to_string());
    }
    let first = device.receive_publish();
    let second = device.receive_publish();
    assert_eq!((first.text(), second.text()), ("0", "1"));
    device.expect_silence();
    device.send(&acknowledgement(PUBACK, first.packet_id));
    let third = device.receive_publish();
    assert_eq!(third.text(), "2");
    device.expect_silence();
    for id in [second.packet_id, third.packet_id] {
        device.send(&acknowledgement(PUBACK, id));
    }
    assert_eq!(device.receive_publish().text(), "3");
    assert_eq!(device.receive_publish().text(), "4");
}

#[test]
fn qos2_counts_against_the_receive_maximum_until_pubcomp() {
    let connect = Connect::new(V5, "device-1").property(property::RECEIVE_MAXIMUM, Value::Two(1));
    let (bench, mut device) = with_pushes(2, connect);
    push(&bench, "0");
    push(&bench, "1");
    let first = device.receive_publish();
    device.send(&acknowledgement(PUBREC, first.packet_id));
    assert_eq!(device.receive_ack(PUBREL).packet_id, first.packet_id);
    device.expect_silence();
    device.send(&acknowledgement(PUBCOMP, first.packet_id));
    assert_eq!(device.receive_publish().text(), "1");
}

#[test]
fn a_client_over_our_receive_maximum_is_disconnected() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.receive-maximum", 3));
    let (mut device, connack) = Device::connected(bench.gateway.mqtt, Connect::new(V5, "device-1"));
    assert_eq!(connack.properties.number(property::RECEIVE_MAXIMUM), Some(3));
    // Nothing is confirmed while NATS stands still, so nothing is acknowledged.
    bench.nats.freeze();
    for id in 1..=3 {
        device.send_publish(&Publish::new(TOPIC, "x").qos(1 + (id % 2) as u8, id));
    }
    device.expect_silence();
    device.send_publish(&Publish::new(TOPIC, "x").qos(1, 4));
    device.expect_disconnect(0x93);
    bench.nats.thaw();
    bench.gateway.wait_until_closed("receive_maximum_exceeded", 1.0);
}

#[test]
fn an_older_client_with_many_publishes_under_way_is_only_slowed_down() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.receive-maximum", 3));
    let mut device = bench.device("device-1");
    for id in 1..=200 {
        device.send_publish(&Publish::new(TOPIC, "x").qos(1, id));
    }
    for id in 1..=200 {
        assert_eq!(device.receive_ack(PUBACK).packet_id, id);
    }
}

#[test]
fn an_unacknowledged_push_is_sent_again_when_the_session_is_resumed() {
    for qos in 1..=2_u8 {
        let (bench, mut device) = with_pushes(qos, resuming("device-1"));
        push(&bench, "again");
        let lost = device.receive_publish();
        assert_eq!((lost.qos, lost.duplicate), (qos, false));
        drop(device);

        let (mut device, connack) = Device::connected(bench.gateway.mqtt, resuming("device-1"));
        assert!(connack.session_present);
        let again = device.receive_and_acknowledge();
        assert!(again.duplicate);
        assert_eq!(
            (again.packet_id, again.qos, &again.topic, again.text()),
            (lost.packet_id, qos, &lost.topic, "again")
        );
        device.disconnect();

        let (mut device, _) = Device::connected(bench.gateway.mqtt, resuming("device-1"));
        device.ping();
    }
}

#[test]
fn a_released_qos2_push_goes_on_with_pubrel_when_the_session_is_resumed() {
    let (bench, mut device) = with_pushes(2, resuming("device-1"));
    push(&bench, "released");
    let push = device.receive_publish();
    device.send(&acknowledgement(PUBREC, push.packet_id));
    assert_eq!(device.receive_ack(PUBREL).packet_id, push.packet_id);
    drop(device);

    let (mut device, _) = Device::connected(bench.gateway.mqtt, resuming("device-1"));
    assert_eq!(device.receive_ack(PUBREL).packet_id, push.packet_id);
    device.send(&acknowledgement(PUBCOMP, push.packet_id));
    device.ping();
}

#[test]
fn acknowledgements_nobody_waits_for_are_harmless() {
    let bench = Bench::start();
    for level in [V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        device.send(&acknowledgement(PUBACK, 77));
        device.send(&acknowledgement(PUBCOMP, 78));
        device.send(&acknowledgement(PUBREC, 79));
        // MQTT 5.0 §4.3.3: an unknown PUBREC may be answered with PUBREL 0x92.
        device.send(&crate::harness::packet::PINGREQ_BYTES);
        loop {
            let packet = device.receive();
            if packet.kind() == crate::harness::packet::PINGRESP {
                break;
            }
            assert_eq!(packet.acknowledged(PUBREL, level).packet_id, 79);
        }
    }
}

#[test]
fn a_client_that_never_acknowledges_has_a_bounded_queue() {
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.mqtt.push-qos", 1);
        settings.set("ringgate.mqtt.outbound-messages-max", 8);
    });
    let mut device = bench.device("device-1");
    device.publish_qos1(TOPIC, "[]");
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
    for number in 0..50 {
        push(&bench, &number.to_string());
    }
    bench.gateway.wait_for_metric("ringgate_pushes_received_total", &[], 50.0);
    let mut received = 0;
    while let Next::Packet(packet) = device.next_within(SILENCE) {
        assert_eq!(packet.kind(), PUBLISH);
        received += 1;
    }
    assert!(received <= 8, "{received} messages under way with a bound of 8");
    let dropped = bench.gateway.dropped("slow_consumer");
    let closed =
        bench.gateway.metric("ringgate_connections_closed_total", &["reason=\"quota_exceeded\""]);
    assert!(dropped + closed >= 1.0);
}
