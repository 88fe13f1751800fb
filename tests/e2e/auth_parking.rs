//! Messages that wait for their token's verdict, at the edges: connections that end, time out, are
//! taken over, or are full; exchanges of QoS 1 and 2; a gateway that is told to stop.

use std::time::Duration;

use crate::harness::device::Device;
use crate::harness::packet::{
    self, Connect, PUBACK, PUBREC, PUBREL, Publish, V5, V311, Value, property,
};
use crate::harness::provider::Behaviour;
use crate::harness::secured::{Secured, error_of, secret};
use crate::harness::{eventually, let_time_pass};

/// A bench whose provider knows the token `good` and holds its answers back, for long enough.
fn held() -> Secured {
    held_with(|_| {})
}

fn held_with(adjust: impl FnOnce(&mut crate::harness::gateway::Settings)) -> Secured {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.request-timeout-ms", 20_000);
        adjust(settings);
    });
    bench.provider.token("demo", &secret("good"), "endpoint-1");
    bench.provider.behave(Behaviour::Hold);
    bench
}

fn topic(token: &str) -> String {
    format!("kp1/v1/dcx/{}/json", secret(token))
}

/// What the extension service got, in order.
fn texts(bench: &Secured) -> Vec<String> {
    bench.dcx.received().iter().map(|data| data.text().to_owned()).collect()
}

#[test]
fn a_bad_token_is_counted_also_when_its_publisher_has_left() {
    let bench = held();
    let mut device = bench.device("device-1");
    device.publish_qos0(&topic("unknown"), "[]");
    bench.provider.wait_for_count(&secret("unknown"), 1);
    device.disconnect();
    bench.gateway.wait_until_closed("client_disconnect", 1.0);
    bench.provider.release();
    bench.gateway.wait_until_dropped("token_rejected", 1.0);
    bench.dcx.expect_silence();
}

#[test]
fn an_exactly_once_message_sent_again_on_its_resumed_session_is_carried_once() {
    let bench = held();
    let resuming = || Connect::new(V311, "device-1").resuming();
    let mut device = Device::connected(bench.gateway.mqtt, resuming()).0;
    let publish = Publish::new(&topic("good"), "once").qos(2, 7);
    device.send_publish(&publish);
    bench.provider.wait_for_count(&secret("good"), 1);
    drop(device);
    bench.gateway.wait_until_closed("peer_closed", 1.0);
    let (mut device, connack) = Device::connected(bench.gateway.mqtt, resuming());
    assert!(connack.session_present);
    device.send_publish(&publish.duplicate());
    device.ping();
    bench.provider.behave(Behaviour::Normal);
    bench.provider.release();
    assert_eq!(device.receive_ack(PUBREC).packet_id, 7);
    device.send(&packet::acknowledgement(PUBREL, 7));
    device.receive_ack(packet::PUBCOMP);
    // Behind it nothing else can be on its way.
    device.publish_qos1(&topic("good"), "last");
    bench.dcx.wait_until(|messages| messages.iter().any(|data| data.text() == "last"));
    assert_eq!(texts(&bench), ["once", "last"]);
}

#[test]
fn an_exactly_once_message_sent_twice_while_it_waits_is_carried_once() {
    let bench = held();
    for level in [V311, V5] {
        bench.provider.behave(Behaviour::Hold);
        let token = format!("level-{level}");
        bench.provider.token("demo", &secret(&token), &format!("endpoint-{level}"));
        let mut device = bench.device_of(level, &format!("device-{level}"));
        let publish = Publish::new(&topic(&token), "once").qos(2, 7);
        device.send_publish(&publish);
        device.send_publish(&publish.duplicate());
        device.ping();
        bench.provider.wait_for_count(&secret(&token), 1);
        bench.provider.behave(Behaviour::Normal);
        bench.provider.release();
        assert_eq!(device.receive_ack(PUBREC).packet_id, 7);
        device.send(&packet::acknowledgement(PUBREL, 7));
        while device.receive().kind() != packet::PUBCOMP {}
        device.publish_qos1(&topic(&token), "last");
        bench.dcx.wait_until(|messages| messages.iter().any(|data| data.text() == "last"));
        let of_it = |data: &crate::harness::extension::ClientData| {
            data.endpoint_id.as_deref() == Some(&format!("endpoint-{level}")[..])
        };
        let messages = bench.dcx.received();
        assert_eq!(messages.iter().filter(|data| of_it(data)).count(), 2, "level {level}");
        while bench.dcx.count() > 0 {
            bench.dcx.take();
        }
    }
}

#[test]
fn order_is_kept_when_the_client_comes_again_while_its_messages_wait() {
    let bench = held_with(|settings| settings.set("ringgate.shards", 1));
    let mut first = bench.device_of(V5, "device-1");
    for number in 0..5 {
        first.publish_qos0(&topic("good"), number.to_string());
    }
    bench.provider.wait_for_count(&secret("good"), 1);
    first.ping();
    let mut second = bench.device_of(V5, "device-1");
    first.expect_disconnect(0x8E);
    for number in 5..10 {
        second.publish_qos0(&topic("good"), number.to_string());
    }
    second.ping();
    bench.provider.release();
    bench.dcx.wait_for_count(10);
    assert_eq!(texts(&bench), (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_topic_alias_set_by_a_message_that_waits_is_known_to_the_next() {
    let bench = held();
    let mut device = bench.device_of(V5, "device-1");
    let with_alias = |topic: &str, text: &str| {
        Publish::new(topic, text).property(property::TOPIC_ALIAS, Value::Two(3))
    };
    device.send_publish(&with_alias(&topic("good"), "whole"));
    device.send_publish(&with_alias("", "short"));
    bench.provider.wait_for_count(&secret("good"), 1);
    device.ping();
    assert_eq!(bench.dcx.count(), 0);
    bench.provider.release();
    bench.dcx.wait_for_count(2);
    assert_eq!(texts(&bench), ["whole", "short"]);
}

#[test]
fn who_is_not_read_because_too_much_waits_is_not_taken_for_dead() {
    let bench = held_with(|settings| settings.set("ringgate.auth.parked-bytes-max", 2_048));
    let connect = Connect::new(V311, "device-1").keep_alive(1);
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    for number in 0..5 {
        let text = format!("{number}{}", "x".repeat(1_000));
        device.send(&Publish::new(&topic("good"), text).bytes(V311));
    }
    bench.provider.wait_for_count(&secret("good"), 1);
    // Three times what a silent client would have.
    for _ in 0..9 {
        let_time_pass(Duration::from_millis(500));
        device.send(&packet::PINGREQ_BYTES);
    }
    bench.provider.release();
    bench.dcx.wait_for_count(5);
    for _ in 0..9 {
        assert_eq!(device.receive().kind(), packet::PINGRESP);
    }
    let numbers: Vec<String> = texts(&bench).iter().map(|text| text[..1].to_owned()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_login_that_takes_longer_than_the_connect_timeout_is_waited_for() {
    let bench = held_with(|settings| settings.set("ringgate.mqtt.connect-timeout-ms", 500));
    bench.provider.client("acme", "user", &secret("password"));
    let mut device = Device::open(bench.gateway.mqtt, V5);
    let connect = Connect::new(V5, "client").credentials("user@acme", &secret("password"));
    device.send(&connect.bytes());
    bench.provider.wait_for_count("user", 1);
    let_time_pass(Duration::from_millis(2_500));
    bench.provider.release();
    assert_eq!(device.receive().connack(V5).code, 0);
    device.ping();
}

#[test]
fn a_gateway_that_stops_carries_and_acknowledges_what_waits() {
    let mut bench = held();
    let mut device = bench.device_of(V5, "device-1");
    for id in 1..=3 {
        device.send_publish(&Publish::new(&topic("good"), id.to_string()).qos(1, id));
    }
    bench.provider.wait_for_count(&secret("good"), 1);
    device.ping();
    bench.gateway.signal(libc::SIGTERM);
    eventually("the listening port to close", || {
        std::net::TcpStream::connect(bench.gateway.mqtt).is_err().then_some(())
    });
    bench.provider.release();
    for id in 1..=3 {
        let puback = device.receive_ack(PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (id, 0));
    }
    device.expect_disconnect(0x8B);
    bench.dcx.wait_for_count(3);
    assert_eq!(texts(&bench), ["1", "2", "3"]);
    let limit = Duration::from_secs(crate::harness::gateway::GRACEFUL_SHUTDOWN_S + 5);
    assert_eq!(bench.gateway.wait(limit).code(), Some(0));
}

#[test]
fn what_a_shard_has_no_room_for_is_refused_and_never_acknowledged_as_carried() {
    let bench = held_with(|settings| {
        settings.set("ringgate.shards", 1);
        settings.set("ringgate.auth.parked-bytes-max", 4_096);
        settings.set("ringgate.auth.parked-bytes-max-per-shard", 4_096);
    });
    let mut full = bench.device("full");
    for _ in 0..3 {
        full.publish_qos0(&topic("good"), "x".repeat(1_100));
    }
    bench.provider.wait_for_count(&secret("good"), 1);
    full.ping();
    let mut device = bench.device_of(V5, "device-5");
    let answer = device.request(&format!("{}/1", topic("good")), "x".repeat(1_100), 0);
    assert_eq!(error_of(&answer).0, 503);
    device.send_publish(&Publish::new(&topic("good"), "x".repeat(1_100)).qos(1, 1));
    assert_eq!(device.receive_ack(PUBACK).reason, 0x97);
    // Before version 5 a PUBACK would say that it has been carried.
    let mut device = bench.device("device-4");
    device.send_publish(&Publish::new(&topic("good"), "x".repeat(1_100)).qos(1, 1));
    device.expect_closed();
    bench.gateway.wait_until_dropped("parked_full", 3.0);
    bench.provider.release();
    bench.dcx.wait_for_count(3);
    full.ping();
}

#[test]
fn questions_are_bounded_and_there_is_room_again_afterwards() {
    let bench = held_with(|settings| {
        settings.set("ringgate.shards", 1);
        settings.set("ringgate.auth.requests-max", 2);
    });
    let mut device = bench.device("device-1");
    for token in ["one", "two"] {
        bench.provider.token("demo", &secret(token), token);
        device.publish_qos0(&topic(token), token);
        bench.provider.wait_for_count(&secret(token), 1);
    }
    let answer = device.request(&format!("{}/1", topic("good")), "[]", 0);
    assert_eq!(error_of(&answer).0, 503);
    // What is being asked already takes no more room.
    device.publish_qos0(&topic("one"), "one more");
    let connect = Connect::new(V5, "client").credentials("user@acme", &secret("password"));
    assert_eq!(bench.refused(connect).code, 0x88);
    bench.provider.behave(Behaviour::Normal);
    bench.provider.release();
    bench.dcx.wait_for_count(3);
    device.request(&format!("{}/2", topic("good")), "[]", 1);
}

#[test]
fn a_revocation_heard_while_messages_wait_lets_none_of_them_through() {
    let bench = held();
    let mut device = bench.device("device-1");
    for number in 0..5 {
        device.publish_qos0(&topic("good"), number.to_string());
    }
    bench.provider.wait_for_count(&secret("good"), 1);
    bench.provider.behave(Behaviour::Normal);
    // From now on the provider says 403; the good answer is still on its way.
    bench.provider.revoke_token("demo", "endpoint-1");
    eventually("the revocation to be heard", || {
        let heard = bench.gateway.metric("ringgate_revocations_total", &[]);
        (heard >= 1.0).then_some(())
    });
    bench.provider.release();
    bench.gateway.wait_until_dropped("token_rejected", 5.0);
    bench.dcx.expect_silence();
    assert_eq!(bench.provider.count(&secret("good")), 2);
}

#[test]
fn many_tokens_of_one_connection_are_asked_about_at_once() {
    const TOKENS: usize = 2_000;
    let bench = held_with(|settings| settings.set("ringgate.auth.parked-bytes-max", 4_000_000));
    let mut device = bench.device("gateway-device");
    for number in 0..TOKENS {
        let token = format!("many-{number}");
        bench.provider.token("demo", &secret(&token), &token);
        device.publish_qos0(&topic(&token), number.to_string());
    }
    bench.provider.wait_for_count(&secret(&format!("many-{}", TOKENS - 1)), 1);
    device.ping();
    bench.provider.release();
    bench.dcx.wait_for_count(TOKENS);
    for data in bench.dcx.received() {
        assert_eq!(data.endpoint_id.as_deref(), Some(&format!("many-{}", data.text())[..]));
    }
}
