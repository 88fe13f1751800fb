//! MQTT 5 only: what CONNACK announces, topic aliases, limits of the client.

use crate::harness::device::{Device, Next};
use crate::harness::extension::{self, ExtensionData};
use crate::harness::packet::{
    Connect, PUBACK, Publish, V5, V31, V311, Value, framed, prefixed, property, subscribe_with,
};
use crate::harness::packet::{Properties, SUBACK};
use crate::harness::{Bench, SILENCE};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

#[test]
fn connack_tells_the_truth() {
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.mqtt.receive-maximum", 77);
        settings.set("ringgate.mqtt.packet-bytes-max", 5_000);
        settings.set("ringgate.mqtt.topic-alias-maximum", 9);
        settings.set("ringgate.mqtt.session-expiry-s-max", 600);
    });
    let connect =
        Connect::new(V5, "device-1").property(property::SESSION_EXPIRY, Value::Four(7_200));
    let (mut device, connack) = Device::connected(bench.gateway.mqtt, connect);
    let told = &connack.properties;
    assert_eq!(told.number(property::RECEIVE_MAXIMUM), Some(77));
    assert_eq!(told.number(property::MAXIMUM_PACKET_SIZE), Some(5_000));
    assert_eq!(told.number(property::TOPIC_ALIAS_MAXIMUM), Some(9));
    assert_eq!(told.number(property::SESSION_EXPIRY), Some(600));
    assert_eq!(told.number(property::RETAIN_AVAILABLE), Some(0));
    assert_eq!(told.number(property::SHARED_AVAILABLE), Some(0));
    assert_eq!(told.number(property::SUBSCRIPTION_ID_AVAILABLE), Some(0));
    // Absent means 2 and "available" (MQTT 5.0 §3.2.2.3); so must they be.
    assert_eq!(told.number(property::MAXIMUM_QOS), None);
    assert_ne!(told.number(property::WILDCARD_AVAILABLE), Some(0));
    assert_eq!(told.text(property::ASSIGNED_CLIENT_ID), None);
    assert_eq!(told.number(property::SERVER_KEEP_ALIVE), None);
    assert_eq!(device.subscribe(&[("kp1/+/#", 2)]), [2]);
}

#[test]
fn a_shared_subscription_is_refused_as_announced() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    device.send(&crate::harness::packet::subscribe(V5, 1, &[("$share/group/kp1/#", 0)]));
    let packet = device.receive();
    if packet.kind() == SUBACK {
        assert_eq!(packet.suback(SUBACK, V5).reasons, [0x9E]);
        device.ping();
    } else {
        assert_eq!(packet.disconnect().0, 0x9E);
        device.expect_closed();
    }
}

#[test]
fn a_subscription_identifier_is_refused_as_announced() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    let id = Properties(vec![(property::SUBSCRIPTION_ID, Value::Variable(5))]);
    device.send(&subscribe_with(V5, 1, &[("kp1/#", 0)], &id));
    let packet = device.receive();
    if packet.kind() == SUBACK {
        assert_eq!(packet.suback(SUBACK, V5).reasons, [0xA1]);
    } else {
        assert_eq!(packet.disconnect().0, 0xA1);
    }
}

#[test]
fn the_retain_flag_is_ignored_before_v5_and_refused_as_announced_in_v5() {
    let bench = Bench::start();
    for (level, count) in [(V31, 1.0), (V311, 2.0)] {
        let mut device = bench.device_of(level, "device-1");
        device.send_publish(&Publish::new(TOPIC, "kept by nobody").qos(1, 1).retain());
        assert_eq!(device.receive_ack(PUBACK).packet_id, 1);
        assert_eq!(bench.dcx.take().text(), "kept by nobody");
        bench.gateway.wait_for_metric("ringgate_retained_ignored_total", &[], count);
    }
    // MQTT 5.0 §3.2.2.3.5: CONNACK has said that it is not available.
    let mut device = bench.device_of(V5, "device-1");
    device.send_publish(&Publish::new(TOPIC, "kept by nobody").qos(1, 1).retain());
    device.expect_disconnect(0x9A);
    bench.dcx.expect_silence();
}

fn alias(publish: Publish, alias: u16) -> Publish {
    publish.property(property::TOPIC_ALIAS, Value::Two(alias))
}

#[test]
fn a_client_may_alias_its_topics() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    let second = "kp1/v1/dcx/token-2/plain/x";
    for publish in [
        alias(Publish::new(TOPIC, "0"), 1),
        alias(Publish::new(second, "1"), 2),
        alias(Publish::new("", "2"), 1),
        alias(Publish::new("", "3"), 2),
        alias(Publish::new(second, "4"), 1),
        alias(Publish::new("", "5"), 1),
    ] {
        device.send_publish(&publish);
    }
    let endpoints: Vec<_> = (0..6)
        .map(|number| {
            let data = bench.dcx.take();
            assert_eq!(data.text(), number.to_string());
            data.endpoint_id.expect("an endpoint")
        })
        .collect();
    let expected = ["token-1", "token-2", "token-1", "token-2", "token-2", "token-2"];
    assert_eq!(endpoints, expected);

    // Aliases last as long as the connection.
    let mut again = bench.device_of(V5, "device-1");
    again.send_publish(&alias(Publish::new("", "6"), 1));
    again.expect_disconnect(0x82);
}

#[test]
fn an_aliased_request_is_answered_on_its_full_topic() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    device.send_publish(&alias(Publish::new("kp1/v1/dcx/token-1/json/5", ""), 3));
    assert_eq!(device.receive_publish().topic, "kp1/v1/dcx/token-1/json/5/status");
    device.send_publish(&alias(Publish::new("", ""), 3));
    assert_eq!(device.receive_publish().topic, "kp1/v1/dcx/token-1/json/5/status");
}

#[test]
fn wrong_aliases_end_the_connection() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.topic-alias-maximum", 4));
    for (publish, reason) in [
        (alias(Publish::new(TOPIC, "x"), 0), 0x94),
        (alias(Publish::new(TOPIC, "x"), 5), 0x94),
        (alias(Publish::new("", "x"), 5), 0x94),
        (alias(Publish::new("", "x"), 2), 0x82),
        (Publish::new("", "x"), 0x82),
    ] {
        let mut device = bench.device_of(V5, "device-1");
        device.send_publish(&publish);
        device.expect_disconnect(reason);
    }
    bench.dcx.expect_silence();
}

/// Pushes to one resource and returns the publishes as they came.
fn pushes(bench: &Bench, device: &mut Device, count: usize) -> Vec<Publish> {
    device.publish_qos1(TOPIC, "[]");
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
    (0..count)
        .map(|number| {
            let payload = number.to_string();
            bench.dcx.push(&ExtensionData::push("cmx", "token-1", "/config/json", payload));
            device.receive_publish()
        })
        .collect()
}

#[test]
fn the_gateway_aliases_topics_where_the_client_allows_it() {
    let bench = Bench::start();
    let connect =
        Connect::new(V5, "device-1").property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(3));
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    let mut topics = std::collections::HashMap::new();
    let mut empty = 0;
    for (number, push) in pushes(&bench, &mut device, 6).into_iter().enumerate() {
        assert_eq!(push.text(), number.to_string());
        let alias = push.properties.number(property::TOPIC_ALIAS);
        if let Some(alias) = alias {
            assert!((1..=3).contains(&alias), "alias {alias} of 3");
        }
        let topic = if push.topic.is_empty() {
            empty += 1;
            topics[&alias.expect("an empty topic has an alias")]
        } else {
            if let Some(alias) = alias {
                topics.insert(alias, "kp1/v1/cmx/token-1/config/json/status");
            }
            "kp1/v1/cmx/token-1/config/json/status"
        };
        assert!(push.topic.is_empty() || push.topic == topic);
    }
    assert!(empty >= 1, "a topic sent six times is sent short at least once");
}

#[test]
fn more_topics_than_aliases_are_all_delivered() {
    let bench = Bench::start();
    let _echo = bench.extension("cex", extension::echoes);
    let connect =
        Connect::new(V5, "device-1").property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(2));
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    let mut topics = std::collections::HashMap::new();
    for number in 0..60 {
        let request = format!("kp1/v1/cex/token-{}/x/1", number % 5);
        device.publish_qos0(&request, number.to_string());
        let answer = device.receive_publish();
        assert_eq!(answer.text(), number.to_string());
        let alias = answer.properties.number(property::TOPIC_ALIAS);
        let topic = match alias {
            None => answer.topic,
            Some(alias) if answer.topic.is_empty() => String::clone(&topics[&alias]),
            Some(alias) => {
                assert!((1..=2).contains(&alias));
                topics.insert(alias, answer.topic.clone());
                answer.topic
            }
        };
        assert_eq!(topic, format!("{request}/status"));
    }
}

#[test]
fn no_alias_is_used_towards_a_client_that_allows_none() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    for push in pushes(&bench, &mut device, 4) {
        assert_eq!(push.topic, "kp1/v1/cmx/token-1/config/json/status");
        assert_eq!(push.properties.number(property::TOPIC_ALIAS), None);
    }
}

#[test]
fn nothing_over_the_clients_maximum_packet_size_is_sent_to_it() {
    let bench = Bench::start();
    let _echo = bench.extension("cex", extension::echoes);
    let connect =
        Connect::new(V5, "device-1").property(property::MAXIMUM_PACKET_SIZE, Value::Four(200));
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    device.publish_qos0("kp1/v1/cex/token-1/x/1", vec![b'x'; 300]);
    assert_eq!(device.next_within(SILENCE), Next::Nothing);
    device.publish_qos0("kp1/v1/cex/token-1/x/2", "small");
    assert_eq!(device.receive_publish().text(), "small");
}

#[test]
fn properties_of_a_publish_are_read_over() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    let pair = Value::Pair("key".to_owned(), "value".to_owned());
    let publish = Publish::new(TOPIC, "with properties")
        .qos(1, 1)
        .property(0x01, Value::Byte(1))
        .property(0x02, Value::Four(60))
        .property(0x03, Value::Text("application/json".to_owned()))
        .property(0x08, Value::Text("answer/here".to_owned()))
        .property(0x09, Value::Binary(vec![1, 2, 3]))
        .property(property::USER_PROPERTY, pair.clone())
        .property(property::USER_PROPERTY, pair);
    device.send_publish(&publish);
    assert_eq!(device.receive_ack(PUBACK).reason, 0);
    assert_eq!(bench.dcx.take().text(), "with properties");
}

#[test]
fn a_disconnect_with_a_reason_is_understood() {
    let bench = Bench::start();
    // 0x04: with will message. The will is ignored like any other.
    for (count, body) in [&[][..], &[0x00], &[0x04], &[0x00, 0]].into_iter().enumerate() {
        let mut device = bench.device_of(V5, "device-1");
        device.send(&framed(0xE0, body));
        device.expect_closed();
        bench.gateway.wait_until_closed("client_disconnect", count as f64 + 1.0);
    }
}

#[test]
fn an_auth_packet_without_a_method_agreed_ends_the_connection() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    // AUTH, Re-authenticate, with a method.
    let mut method = vec![0x15];
    method.extend(prefixed(b"SCRAM"));
    let mut body = vec![0x19, method.len() as u8];
    body.extend(method);
    device.send(&framed(0xF0, &body));
    let (reason, _) = device.receive().disconnect();
    assert!([0x82, 0x8C].contains(&reason), "{reason:#04x}");
    device.expect_closed();
}
