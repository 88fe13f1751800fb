//! NATS is not there: at start, or not quick enough.

use std::time::Duration;

use serde_json::Value;

use crate::harness::device::{Device, Next};
use crate::harness::extension::{self, Extension};
use crate::harness::gateway::{Gateway, Settings};
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, PUBACK, PUBLISH, Publish, V5, V31, V311};
use crate::harness::proxy::Proxy;
use crate::harness::{Bench, PATIENCE, eventually, http};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

#[test]
fn ringgate_starts_without_nats_and_recovers_by_itself() {
    let mut nats = Nats::absent();
    let gateway = Gateway::spawn(&nats.url(), |_| {});
    let health = gateway.wait_until_unhealthy();
    assert!(health.body.to_uppercase().contains("NATS"), "{health:?}");

    let mut devices = [V31, V311, V5].map(|level| {
        let connect = Connect::new(level, &format!("device-{level}"));
        Device::connected(gateway.mqtt, connect).0
    });
    for device in &mut devices {
        device.ping();
        device.send_publish(&Publish::new(TOPIC, "waits").qos(1, 5));
        device.ping();
    }
    for device in &mut devices {
        assert_eq!(device.next_within(Duration::from_millis(200)), Next::Nothing);
    }

    nats.restart();
    for device in &mut devices {
        let puback = device.receive_ack(PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (5, 0));
    }
    gateway.wait_until_healthy();
    let dcx = Extension::start(&nats.url(), "dcx", extension::collects_data);
    for device in &mut devices {
        let answer = device.request("kp1/v1/dcx/token-1/json/3", "[]", 1);
        assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/3/status");
        dcx.take();
    }
}

#[test]
fn what_waited_for_nats_arrives() {
    let nats = Nats::start();
    let dcx = Extension::start(&nats.url(), "dcx", extension::is_silent);
    let proxy = Proxy::to(nats.address());
    proxy.shut();
    let gateway = Gateway::spawn(&proxy.url(), |_| {});
    gateway.wait_until_unhealthy();
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    for id in 1..=100 {
        device.send_publish(&Publish::new(TOPIC, id.to_string()).qos(1, id));
    }
    device.expect_silence();
    proxy.open();
    for id in 1..=100 {
        assert_eq!(device.receive_ack(PUBACK).packet_id, id);
    }
    dcx.wait_for_count(100);
    let texts: Vec<_> = dcx.received().iter().map(|data| data.text().to_owned()).collect();
    assert_eq!(texts, (1..=100).map(|id: u16| id.to_string()).collect::<Vec<_>>());
}

/// Small buffers towards NATS, so that a test can fill them.
fn small_buffers(settings: &mut Settings) {
    settings.set("ringgate.nats.batch-bytes-max", 64 * 1024);
    settings.set("ringgate.nats.unconfirmed-bytes-max", 256 * 1024);
    settings.set("ringgate.mqtt.packet-bytes-max", 32 * 1024);
    settings.set("ringgate.shards", 1);
}

const LARGE: usize = 16 * 1024;

#[test]
fn tcp_pushes_back_when_the_buffers_are_full_and_nothing_is_lost() {
    let bench = Bench::start_with(small_buffers);
    let mut device = bench.device("device-1");
    device.publish_qos1(TOPIC, "warm");
    bench.dcx.take();
    bench.nats.freeze();

    // Numbered messages until the gateway stops reading for a while.
    let mut sent = 0_u32;
    let payload = |number: u32| {
        let mut payload = vec![b'.'; LARGE];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        payload
    };
    loop {
        let bytes = Publish::new(TOPIC, payload(sent)).bytes(V311);
        let left = device.send_within(&bytes, Duration::from_millis(500));
        sent += 1;
        if !left.is_empty() {
            assert!(bench.gateway.metric("ringgate_pauses_total", &[]) >= 1.0);
            bench.nats.thaw();
            device.send(&left);
            break;
        }
        assert!(sent < 20_000, "the gateway took 300 MB without pushing back");
    }
    device.publish_qos1(TOPIC, "last");
    bench.dcx.wait_for_count(sent as usize + 1);
    let received = bench.dcx.received();
    for number in 0..sent {
        assert!(received[number as usize].payload == payload(number), "message {number}");
    }
    assert_eq!(received[sent as usize].text(), "last");
}

#[test]
fn a_paused_device_is_kept_although_its_keep_alive_has_passed() {
    let bench = Bench::start_with(small_buffers);
    let connect = Connect::new(V311, "device-1").keep_alive(1);
    let mut device = Device::connected(bench.gateway.mqtt, connect).0;
    bench.nats.freeze();
    let bytes = Publish::new(TOPIC, vec![b'.'; LARGE]).bytes(V311);
    let mut left = Vec::new();
    let mut sent = 0_usize;
    while left.is_empty() {
        left = device.send_within(&bytes, Duration::from_millis(300));
        sent += 1;
    }
    // Its bytes lie in the socket unread; to count it as silent would be unjust.
    assert_eq!(device.next_within(Duration::from_millis(3_000)), Next::Nothing);
    bench.nats.thaw();
    device.send(&left);
    bench.dcx.wait_for_count(sent);
    device.ping();
}

#[test]
fn qos0_is_dropped_and_counted_where_so_configured() {
    let bench = Bench::start_with(|settings| {
        small_buffers(settings);
        settings.set("ringgate.nats.qos0-when-full", "drop");
    });
    let mut device = bench.device("device-1");
    device.publish_qos1(TOPIC, "warm");
    bench.nats.freeze();
    let payload = vec![b'.'; LARGE];
    let mut sent = 0_u32;
    while bench.gateway.dropped("uplink_full") == 0.0 {
        assert!(sent < 2_000, "nothing was dropped");
        for _ in 0..10 {
            device.publish_qos0(TOPIC, &payload);
            sent += 1;
        }
        device.ping();
    }
    bench.nats.thaw();
    let dropped = bench.gateway.dropped("uplink_full") as usize;
    bench.dcx.wait_for_count(1 + sent as usize - dropped);
    device.publish_qos1(TOPIC, "after");
    bench.dcx.wait_until(|messages| messages.iter().any(|data| data.payload == b"after"));
    assert_eq!(bench.dcx.count(), 2 + sent as usize - dropped);
}

/// A gateway that refuses what it cannot pass on, while NATS is away.
fn refusing() -> (Nats, Gateway) {
    let nats = Nats::absent();
    let gateway = Gateway::spawn(&nats.url(), |settings| {
        small_buffers(settings);
        settings.set("ringgate.nats.when-unavailable", "refuse");
    });
    eventually("GET /health", || http::get(gateway.admin, "/health"));
    (nats, gateway)
}

#[test]
fn a_v5_publish_is_refused_with_quota_exceeded_where_so_configured() {
    let (mut nats, gateway) = refusing();
    let mut device = Device::connected(gateway.mqtt, Connect::new(V5, "device-1")).0;
    let mut refused = None;
    for id in 1..200 {
        device.send_publish(&Publish::new(TOPIC, vec![b'.'; LARGE]).qos(1, id));
        if let Next::Packet(packet) = device.next_within(Duration::from_millis(50)) {
            let puback = packet.acknowledged(PUBACK, V5);
            assert_eq!(puback.reason, 0x97);
            refused = Some(puback.packet_id);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    device.ping();

    // What was taken before is kept and acknowledged once NATS is there.
    nats.restart();
    for id in 1..refused {
        let puback = device.receive_ack(PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (id, 0));
    }
    gateway.wait_until_healthy();
    let _dcx = Extension::start(&nats.url(), "dcx", extension::collects_data);
    device.publish_qos1(TOPIC, "fine");
}

#[test]
fn a_refused_request_is_answered_503_where_so_configured() {
    let (_nats, gateway) = refusing();
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    for _ in 0..200 {
        device.publish_qos0("kp1/v1/dcx/token-1/json/6", vec![b'.'; LARGE]);
        if let Next::Packet(packet) = device.next_within(Duration::from_millis(50)) {
            assert_eq!(packet.kind(), PUBLISH);
            let answer = packet.publish(V311);
            assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/6/error");
            let error: Value = serde_json::from_slice(&answer.payload).expect("JSON");
            assert_eq!(error["statusCode"], 503);
            device.ping();
            return;
        }
    }
    panic!("no request was refused");
}

#[test]
fn an_older_clients_qos1_publish_is_refused_by_closing_where_so_configured() {
    let (_nats, gateway) = refusing();
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    for id in 1..200 {
        device.send_regardless(&Publish::new(TOPIC, vec![b'.'; LARGE]).qos(1, id).bytes(V311));
        match device.next_within(Duration::from_millis(50)) {
            Next::Nothing => {}
            Next::Closed => {
                gateway.wait_until_closed("uplink_refused", 1.0);
                return;
            }
            Next::Packet(packet) => panic!("{packet:02x?}"),
        }
    }
    panic!("no publish was refused");
}

#[test]
fn the_next_server_of_the_list_is_used() {
    let (gone, nats) = (Nats::absent(), Nats::start());
    let dcx = Extension::start(&nats.url(), "dcx", extension::collects_data);
    let gateway = Gateway::start(&nats.url(), |settings| {
        settings.set("ringgate.nats.urls", vec![gone.url(), nats.url()]);
    });
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    device.publish_qos1(TOPIC, "found");
    assert_eq!(dcx.take().text(), "found");
}

#[test]
fn servers_learnt_from_info_are_used_when_the_first_is_gone() {
    let route_ports = [(); 2].map(|()| crate::harness::ports::Port::reserve());
    let routes = route_ports
        .iter()
        .map(|port| format!("nats://127.0.0.1:{}", port.number))
        .collect::<Vec<_>>()
        .join(",");
    let start = |index: usize| {
        let cluster = format!("nats://127.0.0.1:{}", route_ports[index].number);
        Nats::start_with(&["--cluster_name", "e2e", "--cluster", &cluster, "--routes", &routes])
    };
    let mut first = start(0);
    let second = start(1);
    // Each tells its clients of the other once the route between them stands.
    eventually("connect_urls", || {
        let info = info_line(&first)?;
        info.contains(&second.address().to_string()).then_some(())
    });
    let dcx = Extension::start(&second.url(), "dcx", extension::collects_data);
    let gateway = Gateway::start(&first.url(), |_| {});
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    device.publish_qos1(TOPIC, "through the first");
    first.kill();
    let answer = eventually("an answer through the second server", || {
        device.publish_qos0("kp1/v1/dcx/token-1/json/1", "through the second");
        match device.next_within(Duration::from_millis(300)) {
            Next::Packet(packet) => Some(packet.publish(V311)),
            _ => None,
        }
    });
    assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/1/status");
    dcx.wait_until(|messages| messages.iter().any(|data| data.text() == "through the second"));
    gateway.wait_until_healthy();
}

/// The INFO line of a server.
fn info_line(nats: &Nats) -> Option<String> {
    use std::io::{BufRead, BufReader};
    let stream = std::net::TcpStream::connect(nats.address()).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}
