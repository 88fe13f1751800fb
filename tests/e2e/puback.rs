//! The guarantee: a PUBACK (PUBREC for QoS 2) is sent only after NATS has confirmed the batch that
//! holds the message, so what is acknowledged is never lost between device and NATS.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::device::{Device, Next};
use crate::harness::extension::{self, Extension};
use crate::harness::gateway::Gateway;
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, PUBACK, PUBREC, Publish, V5, V311};
use crate::harness::proxy::Proxy;
use crate::harness::{Bench, eventually};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

#[test]
fn puback_waits_for_nats() {
    let bench = Bench::start();
    for level in [V311, V5] {
        let mut device = bench.device_of(level, "device-1");
        device.publish_qos1(TOPIC, "before");
        bench.nats.freeze();
        device.send_publish(&Publish::new(TOPIC, "meanwhile").qos(1, 8));
        device.expect_silence();
        // The gateway itself is well: it answers what needs no NATS.
        device.ping();
        bench.nats.thaw();
        let puback = device.receive_ack(PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (8, 0));
        assert_eq!(bench.dcx.take().text(), "before");
        assert_eq!(bench.dcx.take().text(), "meanwhile");
    }
}

#[test]
fn pubrec_waits_for_nats() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    device.publish_qos2(TOPIC, "before");
    bench.nats.freeze();
    device.send_publish(&Publish::new(TOPIC, "meanwhile").qos(2, 8));
    // A client that repeats itself does not get an early PUBREC either.
    device.send_publish(&Publish::new(TOPIC, "meanwhile").qos(2, 8).duplicate());
    device.expect_silence();
    bench.nats.thaw();
    assert_eq!(device.receive_ack(PUBREC).packet_id, 8);
    bench.dcx.wait_for_count(2);
    let texts: Vec<_> = bench.dcx.received().iter().map(|data| data.text().to_owned()).collect();
    assert_eq!(texts, ["before", "meanwhile"]);
}

#[test]
fn a_device_that_left_before_the_confirmation_disturbs_nobody() {
    let bench = Bench::start();
    let mut leaves = bench.device("leaves");
    let mut stays = bench.device("stays");
    stays.publish_qos1(TOPIC, "warm");
    bench.dcx.take();
    bench.nats.freeze();
    for id in 1..=20 {
        leaves.send_publish(&Publish::new(TOPIC, "left").qos(1, id));
    }
    leaves.ping();
    stays.send_publish(&Publish::new(TOPIC, "stayed").qos(1, 77));
    stays.ping();
    leaves.disconnect();
    // Takes the slot and perhaps the place in a table that the first one had.
    let mut newcomer = bench.device("newcomer");
    newcomer.ping();
    bench.nats.thaw();
    assert_eq!(stays.receive_ack(PUBACK).packet_id, 77);
    bench.dcx.wait_for_count(21);
    newcomer.ping();
}

/// NATS, an extension on it, and a gateway that reaches NATS through a proxy only.
struct Proxied {
    gateway: Gateway,
    proxy: Proxy,
    dcx: Extension,
    nats: Nats,
}

impl Proxied {
    fn start() -> Self {
        let nats = Nats::start();
        let dcx = Extension::start(&nats.url(), "dcx", extension::is_silent);
        let proxy = Proxy::to(nats.address());
        let gateway = Gateway::start(&proxy.url(), |_| {});
        Self { gateway, proxy, dcx, nats }
    }

    /// Waits until each of these texts has come at least once.
    fn expect(&self, texts: impl IntoIterator<Item = String>) {
        let mut missing: Vec<String> = texts.into_iter().collect();
        eventually("every message that was acknowledged", || {
            let received = self.dcx.received();
            let received: HashSet<_> = received.iter().map(|data| data.text()).collect();
            missing.retain(|text| !received.contains(text.as_str()));
            missing.is_empty().then_some(())
        });
    }
}

#[test]
fn messages_survive_kill_9_of_nats() {
    let mut proxied = Proxied::start();
    let mut device = Device::connected(proxied.gateway.mqtt, Connect::new(V311, "device-1")).0;
    for number in 0..200 {
        device.publish_qos1(TOPIC, format!("before-{number}"));
    }
    // Confirmed by NATS is not yet written to the extension's socket.
    proxied.dcx.wait_for_count(200);
    proxied.nats.freeze();
    for number in 0..200_u16 {
        let publish = Publish::new(TOPIC, format!("after-{number}")).qos(1, 1_000 + number);
        device.send_publish(&publish);
    }
    device.expect_silence();

    // The proxy stays shut until the extension listens again: core NATS keeps nothing.
    proxied.proxy.shut();
    proxied.nats.kill();
    device.ping();
    proxied.nats.restart();
    proxied.dcx.wait_until_ready();
    proxied.proxy.open();

    for number in 0..200 {
        assert_eq!(device.receive_ack(PUBACK).packet_id, 1_000 + number);
    }
    proxied.expect(
        (0..200).flat_map(|number| [format!("before-{number}"), format!("after-{number}")]),
    );
    assert!(proxied.gateway.metric("ringgate_uplink_reconnects_total", &[]) >= 1.0);
    proxied.gateway.wait_until_healthy();
}

#[test]
fn qos2_messages_survive_kill_9_of_nats() {
    let mut proxied = Proxied::start();
    let mut device = Device::connected(proxied.gateway.mqtt, Connect::new(V311, "device-1")).0;
    device.publish_qos2(TOPIC, "before");
    proxied.dcx.wait_for_count(1);
    proxied.nats.freeze();
    device.send_publish(&Publish::new(TOPIC, "after").qos(2, 9));
    device.expect_silence();
    proxied.proxy.shut();
    proxied.nats.kill();
    proxied.nats.restart();
    proxied.dcx.wait_until_ready();
    proxied.proxy.open();
    assert_eq!(device.receive_ack(PUBREC).packet_id, 9);
    proxied.expect(["before".to_owned(), "after".to_owned()]);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_link_breaks_again_and_again() {
    const WINDOW: u16 = 40;
    const MESSAGES: u16 = 6_000;
    let proxied = Proxied::start();
    let mut device = Device::connected(proxied.gateway.mqtt, Connect::new(V311, "device-1")).0;
    let mut sent = 0;
    let mut acknowledged = 0;
    let mut cuts = 0;
    while acknowledged < MESSAGES {
        while sent < MESSAGES && sent - acknowledged < WINDOW {
            sent += 1;
            device.send_publish(&Publish::new(TOPIC, sent.to_string()).qos(1, sent));
        }
        let packet = device.receive();
        acknowledged += 1;
        assert_eq!(packet.acknowledged(PUBACK, V311).packet_id, acknowledged);
        if acknowledged % 500 == 0 && cuts < 10 {
            proxied.proxy.cut();
            cuts += 1;
        }
    }
    proxied.expect((1..=MESSAGES).map(|number| number.to_string()));
    assert!(proxied.gateway.metric("ringgate_uplink_reconnects_total", &[]) >= 1.0);
}

#[test]
fn the_gateway_comes_back_by_itself_after_nats_was_killed() {
    let mut bench = Bench::start();
    let mut device = bench.device("device-1");
    device.publish_qos1(TOPIC, "before");
    bench.nats.kill();
    bench.gateway.wait_until_unhealthy();
    device.ping();
    device.send_publish(&Publish::new(TOPIC, "meanwhile").qos(1, 50));
    assert_eq!(device.next_within(Duration::from_millis(300)), Next::Nothing);
    bench.nats.restart();
    assert_eq!(device.receive_ack(PUBACK).packet_id, 50);
    bench.gateway.wait_until_healthy();

    bench.dcx.wait_until_ready();
    let answer = device.request("kp1/v1/dcx/token-1/json/1", "[]", 1);
    assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/1/status");
    // The control thread is back too: pushes arrive.
    let push = eventually("a push after the restart", || {
        let push = extension::ExtensionData::push("cex", "token-1", "/command/x", "back");
        bench.dcx.push(&push);
        match device.next_within(Duration::from_millis(200)) {
            Next::Packet(packet) => Some(packet.publish(V311)),
            _ => None,
        }
    });
    assert_eq!(push.text(), "back");
}
