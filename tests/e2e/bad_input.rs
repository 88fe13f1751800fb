//! Malformed and oversized packets: the exact reason for the sender, nothing for anybody else.

use std::time::Duration;

use crate::harness::Bench;
use crate::harness::device::{Device, Next};
use crate::harness::packet::{
    PUBACK, Publish, V5, V31, V311, Value, framed, prefixed, property, variable,
};

const TOPIC: &[u8] = b"kp1/v1/dcx/token-1/json";

/// What is wrong, the bytes, and the reason a v5 client is given.
type Case = (&'static str, Vec<u8>, u8);

/// A PUBLISH body: topic, then `rest`.
fn topic_then(rest: &[u8]) -> Vec<u8> {
    [prefixed(TOPIC), rest.to_vec()].concat()
}

/// The empty property block that a v5 packet has and an older one has not.
fn no_properties(level: u8) -> &'static [u8] {
    if level == V5 { &[0] } else { &[] }
}

/// Cases for every version.
fn cases(level: u8) -> Vec<Case> {
    let none = no_properties(level);
    let publish = |head: u8, topic: &[u8]| {
        framed(head, &[prefixed(topic), none.to_vec(), b"x".to_vec()].concat())
    };
    let subscribe = |filters: &[u8]| [&[0, 9], none, filters].concat();
    vec![
        ("packet type 0", vec![0x00, 0], 0x81),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], 0x81),
        ("QoS 3", framed(0x36, &topic_then(&[0, 1, 0])), 0x81),
        ("DUP with QoS 0", publish(0x38, TOPIC), 0x81),
        ("a topic that runs past the end", framed(0x30, &[0, 200, b'k', b'p']), 0x81),
        ("no topic at all", framed(0x30, &[]), 0x81),
        ("a topic that is no UTF-8", publish(0x30, b"kp1/\xC3\x28"), 0x81),
        ("a surrogate in a topic", publish(0x30, b"kp1/\xED\xA0\x80"), 0x81),
        ("U+0000 in a topic", publish(0x30, b"kp1/\0/x"), 0x81),
        ("+ in a topic", publish(0x30, b"kp1/v1/dcx/+/json"), 0x90),
        ("# in a topic", publish(0x30, b"kp1/v1/dcx/#"), 0x90),
        ("packet id 0", framed(0x32, &topic_then(&[&[0, 0], none].concat())), 0x82),
        ("no packet id", framed(0x32, &topic_then(&[])), 0x81),
        ("PUBACK cut short", framed(0x40, &[0]), 0x81),
        ("PUBREL with wrong flags", framed(0x60, &[0, 1]), 0x81),
        ("SUBSCRIBE with wrong flags", framed(0x80, &subscribe(b"\x00\x01a\x00")), 0x81),
        ("SUBSCRIBE without a filter", framed(0x82, &subscribe(b"")), 0x82),
        ("SUBSCRIBE without options", framed(0x82, &subscribe(b"\x00\x01a")), 0x81),
        ("SUBSCRIBE with QoS 3", framed(0x82, &subscribe(b"\x00\x01a\x03")), 0x82),
        ("SUBSCRIBE with reserved options", framed(0x82, &subscribe(b"\x00\x01a\xC0")), 0x81),
        ("SUBSCRIBE with packet id 0", framed(0x82, &[&[0, 0], none, b"\0\x01a\0"].concat()), 0x82),
        ("UNSUBSCRIBE without a filter", framed(0xA2, &subscribe(b"")), 0x82),
        ("PINGREQ with a body", framed(0xC0, &[0]), 0x81),
        ("PINGREQ with flags", vec![0xC1, 0], 0x81),
        ("a CONNACK from a client", framed(0x20, &[&[0, 0], none].concat()), 0x82),
        ("a PINGRESP from a client", vec![0xD0, 0], 0x82),
    ]
}

/// Cases only version 5 has.
fn cases_of_v5() -> Vec<Case> {
    let with_properties = |properties: &[u8]| {
        let length = variable(properties.len() as u32);
        framed(0x30, &topic_then(&[length.as_slice(), properties, b"x"].concat()))
    };
    vec![
        ("properties past the end", framed(0x30, &topic_then(&[9, 0x01])), 0x81),
        ("an unknown property", with_properties(&[0x7F, 0]), 0x81),
        ("a property of another packet", with_properties(&[0x21, 0, 9]), 0x81),
        ("a property twice", with_properties(&[0x01, 1, 0x01, 1]), 0x82),
        ("a payload format of 2", with_properties(&[0x01, 2]), 0x82),
        ("a response topic with a wildcard", with_properties(b"\x08\x00\x01#"), 0x82),
        ("a subscription id from a client", with_properties(&[0x0B, 1]), 0x82),
        ("retain handling 3", framed(0x82, b"\0\x01\0\0\x01a\x30"), 0x82),
        ("a subscription id of 0", framed(0x82, b"\0\x01\x02\x0B\0\0\x01a\0"), 0x82),
        ("an unknown reason", framed(0x40, &[0, 1, 0x55, 0]), 0x81),
        ("DISCONNECT with an unknown reason", framed(0xE0, &[0x55]), 0x81),
    ]
}

#[test]
fn a_malformed_packet_ends_its_connection_with_the_exact_reason_and_no_other() {
    let bench = Bench::start();
    let mut companions =
        [V31, V311, V5].map(|level| bench.device_of(level, &format!("companion-{level}")));
    let mut wrong = Vec::new();
    for level in [V31, V311, V5] {
        let more = if level == V5 { cases_of_v5() } else { Vec::new() };
        for (what, bytes, reason) in cases(level).into_iter().chain(more) {
            let mut device = bench.device_of(level, "offender");
            device.send_regardless(&bytes);
            match device.next_within(Duration::from_secs(3)) {
                Next::Closed if level != V5 => {}
                Next::Packet(packet) if level == V5 && packet.disconnect().0 == reason => {
                    device.expect_closed();
                }
                other => wrong.push(format!("{what}, level {level}: {other:02x?}")),
            }
            for companion in &mut companions {
                companion.publish_qos1("kp1/v1/dcx/companion/json", what);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let label = |reason: &str| format!("reason=\"{reason}\"");
    let closed =
        |reason: &str| bench.gateway.metric("ringgate_connections_closed_total", &[&label(reason)]);
    let counted = closed("malformed_packet") + closed("protocol_error");
    let count = 3 * cases(V5).len() + cases_of_v5().len();
    assert_eq!(counted, count as f64);
    assert_eq!(bench.gateway.metric("ringgate_panics_total", &[]), 0.0);
}

#[test]
fn what_came_before_a_malformed_packet_counts() {
    let bench = Bench::start();
    let mut device = bench.device_of(V5, "device-1");
    let topic = "kp1/v1/dcx/token-1/json";
    let mut bytes = Publish::new(topic, "good").qos(1, 1).bytes(V5);
    bytes.extend([0x00, 0]);
    device.send(&bytes);
    assert_eq!(bench.dcx.take().text(), "good");
    loop {
        let packet = device.receive();
        if packet.kind() != PUBACK {
            assert_eq!(packet.disconnect().0, 0x81);
            break;
        }
    }
    device.expect_closed();
}

#[test]
fn an_oversized_packet_is_refused_before_its_body_has_come() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.packet-bytes-max", 4_096));
    for level in [V31, V311, V5] {
        // Just inside: the limit counts the fixed header too.
        let mut device = bench.device_of(level, "device-1");
        let overhead = Publish::new("kp1/v1/dcx/token-1/json", "").bytes(level).len() + 1;
        device.publish_qos0("kp1/v1/dcx/token-1/json", vec![b'x'; 4_096 - overhead]);
        assert_eq!(bench.dcx.take().payload.len(), 4_096 - overhead);

        // One byte more, and only the fixed header is sent.
        let header = [&[0x30][..], &variable(4_096 - 3 + 1)].concat();
        assert_eq!(header.len(), 3);
        device.send(&header);
        device.expect_refusal(0x95);

        let mut device = bench.device_of(level, "device-1");
        device.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        device.expect_refusal(0x95);
    }
    bench.gateway.wait_until_closed("packet_too_large", 6.0);
}

#[test]
fn an_oversized_connect_is_refused() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.packet-bytes-max", 1_024));
    let mut device = Device::open(bench.gateway.mqtt, V311);
    device.send(&[0x10, 0xFF, 0xFF, 0x7F]);
    match device.next_within(crate::harness::PATIENCE) {
        Next::Closed => {}
        // A v5 client could be told in a CONNACK; which version this is nobody knows yet.
        Next::Packet(packet) => {
            assert_eq!(packet.head, 0x20, "{packet:02x?}");
            device.expect_closed();
        }
        Next::Nothing => panic!("the connection stays open"),
    }
}

#[test]
fn random_bytes_never_disturb_others() {
    let bench = Bench::start();
    let mut companion = bench.device("companion");
    // xorshift64: the same bytes in every run.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let level = [V31, V311, V5][round % 3];
        let mut bytes = Vec::new();
        let mut device = if next() % 2 == 0 {
            bench.device_of(level, "noise")
        } else {
            Device::open(bench.gateway.mqtt, level)
        };
        for _ in 0..next() % 200 {
            bytes.extend(next().to_le_bytes());
        }
        device.send_regardless(&bytes);
        device.hang_up();
        if round % 20 == 0 {
            companion.publish_qos1("kp1/v1/dcx/companion/json", round.to_string());
        }
    }
    companion.ping();
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 1.0);
    assert_eq!(bench.gateway.metric("ringgate_panics_total", &[]), 0.0);
    bench.gateway.wait_until_healthy();
}

#[test]
fn truncated_packets_followed_by_a_hang_up_are_cleaned_up() {
    let bench = Bench::start();
    let whole = Publish::new("kp1/v1/dcx/token-1/json", "never whole")
        .qos(1, 1)
        .property(property::TOPIC_ALIAS, Value::Two(1))
        .bytes(V5);
    for length in 1..whole.len() {
        let mut device = bench.device_of(V5, &format!("device-{length}"));
        device.send(&whole[..length]);
        device.hang_up();
        device.expect_closed();
    }
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
    bench.gateway.wait_for_metric("ringgate_sessions", &[], 0.0);
    bench.dcx.expect_silence();
}
