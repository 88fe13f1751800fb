//! Start, stop, drain, and a panic that stays in its connection.

use std::collections::HashSet;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::device::{Device, Next};
use crate::harness::gateway::{GRACEFUL_SHUTDOWN_S, Gateway};
use crate::harness::packet::{Connect, PUBACK, Publish, V5, V31, V311};
use crate::harness::{Bench, PATIENCE, eventually, http};

const TOPIC: &str = "kp1/v1/dcx/token-1/json";

/// The drain's own limit and what a loaded machine may add.
const STOP_LIMIT: Duration = Duration::from_secs(GRACEFUL_SHUTDOWN_S + 5);

#[test]
fn a_signal_drains_and_ends_with_success() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut bench = Bench::start();
        let mut devices = [V31, V311, V5].map(|level| {
            let mut device = bench.device_of(level, &format!("device-{level}"));
            device.publish_qos1(TOPIC, "[]");
            device
        });
        let started = Instant::now();
        bench.gateway.signal(signal);
        for device in &mut devices {
            device.expect_refusal(0x8B);
        }
        let status = bench.gateway.wait(STOP_LIMIT);
        assert_eq!(status.code(), Some(0), "{status:?}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(GRACEFUL_SHUTDOWN_S), "an idle drain took {took:?}");
        assert!(TcpStream::connect(bench.gateway.mqtt).is_err(), "the port is closed");
    }
}

#[test]
fn a_draining_gateway_takes_no_new_connection_and_confirms_what_it_has() {
    let mut bench = Bench::start_with(|settings| settings.set("service.graceful-shutdown", 30));
    let mut device = bench.device_of(V5, "device-1");
    device.publish_qos1(TOPIC, "before");
    bench.nats.freeze();
    for id in 101..=150 {
        device.send_publish(&Publish::new(TOPIC, id.to_string()).qos(1, id));
    }
    device.ping();
    bench.gateway.signal(libc::SIGTERM);
    eventually("the listening port to close", || {
        TcpStream::connect(bench.gateway.mqtt).is_err().then_some(())
    });
    assert!(!bench.gateway.has_exited(), "messages are unconfirmed yet");
    bench.nats.thaw();

    let mut acknowledged = HashSet::new();
    loop {
        match device.next_within(PATIENCE) {
            Next::Packet(packet) if packet.kind() == PUBACK => {
                acknowledged.insert(packet.acknowledged(PUBACK, V5).packet_id);
            }
            Next::Packet(packet) => assert_eq!(packet.disconnect().0, 0x8B),
            Next::Closed => break,
            Next::Nothing => panic!("the connection stays open"),
        }
    }
    assert_eq!(bench.gateway.wait(STOP_LIMIT).code(), Some(0));
    // Whatever the device was told, everything taken in went out.
    bench.dcx.wait_for_count(51);
    let texts: HashSet<_> =
        bench.dcx.received().iter().map(|data| data.text().to_owned()).collect();
    for id in 101..=150 {
        assert!(texts.contains(&id.to_string()), "message {id}");
    }
    assert!(acknowledged.iter().all(|id| texts.contains(&id.to_string())));
}

#[test]
fn the_drain_ends_within_its_limit_although_nats_is_gone() {
    let mut bench = Bench::start();
    let mut device = bench.device("device-1");
    device.publish_qos1(TOPIC, "before");
    bench.nats.kill();
    device.send_publish(&Publish::new(TOPIC, "stuck").qos(1, 9));
    device.ping();
    let started = Instant::now();
    bench.gateway.signal(libc::SIGTERM);
    bench.gateway.wait(STOP_LIMIT);
    let took = started.elapsed();
    assert!(took < STOP_LIMIT, "{took:?}");
    match device.next_within(PATIENCE) {
        Next::Closed => {}
        other => panic!("an unconfirmed message was answered: {other:?}"),
    }
}

#[test]
fn under_load_everything_acknowledged_has_reached_the_extension() {
    const DEVICES: usize = 8;
    const WINDOW: u16 = 30;
    let mut bench = Bench::start();
    let address = bench.gateway.mqtt;
    let total = AtomicUsize::new(0);
    let acknowledged: Vec<(usize, HashSet<u16>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..DEVICES)
            .map(|index| {
                let total = &total;
                scope.spawn(move || (index, publish_until_closed(address, index, WINDOW, total)))
            })
            .collect();
        eventually("a thousand acknowledgements", || {
            (total.load(Ordering::Relaxed) >= 1_000).then_some(())
        });
        bench.gateway.signal(libc::SIGTERM);
        workers.into_iter().map(|worker| worker.join().expect("a device's thread")).collect()
    });
    assert_eq!(bench.gateway.wait(STOP_LIMIT).code(), Some(0));

    let count: usize = acknowledged.iter().map(|(_, ids)| ids.len()).sum();
    bench.dcx.wait_for_count(count);
    eventually("every acknowledged message at the extension", || {
        let arrived: HashSet<_> =
            bench.dcx.received().iter().map(|data| data.text().to_owned()).collect();
        let all = acknowledged
            .iter()
            .all(|(index, ids)| ids.iter().all(|id| arrived.contains(&format!("{index}-{id}"))));
        all.then_some(())
    });
}

/// Keeps `window` QoS 1 publishes under way until the gateway ends the connection; returns the
/// identifiers it acknowledged.
fn publish_until_closed(
    address: std::net::SocketAddr,
    index: usize,
    window: u16,
    total: &AtomicUsize,
) -> HashSet<u16> {
    let connect = Connect::new(V5, &format!("device-{index}"));
    let mut device = Device::connected(address, connect).0;
    let mut acknowledged = HashSet::new();
    let mut sent = 0_u16;
    loop {
        while sent < 60_000 && usize::from(sent) - acknowledged.len() < usize::from(window) {
            sent += 1;
            let topic = format!("kp1/v1/dcx/token-{index}/json");
            let publish = Publish::new(&topic, format!("{index}-{sent}")).qos(1, sent);
            device.send_regardless(&publish.bytes(V5));
        }
        match device.next_within(PATIENCE) {
            Next::Packet(packet) if packet.kind() == PUBACK => {
                let puback = packet.acknowledged(PUBACK, V5);
                assert_eq!(puback.reason, 0);
                acknowledged.insert(puback.packet_id);
                total.fetch_add(1, Ordering::Relaxed);
            }
            Next::Packet(packet) => assert_eq!(packet.disconnect().0, 0x8B),
            Next::Closed => return acknowledged,
            Next::Nothing => panic!("device {index} heard nothing"),
        }
    }
}

#[test]
fn a_restarted_gateway_takes_the_same_port_at_once() {
    let bench = Bench::start();
    let port = bench.gateway.mqtt.port();
    let mut device = bench.device("device-1");
    device.publish_qos1(TOPIC, "first");
    let Bench { mut gateway, dcx, nats } = bench;
    gateway.signal(libc::SIGTERM);
    assert_eq!(gateway.wait(STOP_LIMIT).code(), Some(0));
    let again = Gateway::start(&nats.url(), |settings| {
        settings.set("kaa.kpc.transports.mqtt.tcp.port", port);
    });
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let mut device = Device::connected(address, Connect::new(V311, "device-1")).0;
    device.publish_qos1(TOPIC, "second");
    dcx.wait_for_count(2);
    drop(again);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = crate::harness::ports::Port::reserve();
    let _listener =
        std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, taken.number)).expect("bind");
    let nats = crate::harness::nats::Nats::start();
    for key in ["kaa.kpc.transports.mqtt.tcp.port", "server.port"] {
        let mut gateway = Gateway::spawn(&nats.url(), |settings| settings.set(key, taken.number));
        let status = gateway.wait(PATIENCE);
        assert_eq!(status.code(), Some(1));
        assert!(gateway.output().contains(&taken.number.to_string()), "{key} is not named");
    }
}

/// Only debug builds know this variable: a PUBLISH to exactly that topic panics in the shard.
#[cfg(debug_assertions)]
const PANIC_VARIABLE: &str = "RINGGATE_FAULT_PANIC_TOPIC";

#[cfg(debug_assertions)]
#[test]
fn a_panic_closes_its_connection_only_and_is_counted() {
    let poison = "kp1/v1/dcx/poison/json";
    let bench = Bench::start_with(|settings| {
        settings.environment(PANIC_VARIABLE, poison);
        settings.set("ringgate.shards", 1);
    });
    let mut companions: Vec<_> = (0..5).map(|n| bench.device(&format!("companion-{n}"))).collect();
    for count in 1..=5 {
        let mut victim = bench.device(&format!("victim-{count}"));
        victim.publish_qos1("kp1/v1/dcx/token-1/json", "well so far");
        victim.send_publish(&Publish::new(poison, "x").qos(1, 9));
        victim.expect_closed();
        for companion in &mut companions {
            let answer = companion.request("kp1/v1/dcx/companion/json/1", "[]", 1);
            assert_eq!(answer.topic, "kp1/v1/dcx/companion/json/1/status");
        }
        bench.gateway.wait_for_metric("ringgate_panics_total", &[], f64::from(count));
        // The same client may come back.
        bench.device(&format!("victim-{count}")).publish_qos1(TOPIC, "again");
    }
    bench.gateway.wait_until_closed("panic", 5.0);
    bench.gateway.wait_until_healthy();
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 5.0);
}

#[test]
fn a_panic_behind_a_full_window_closes_its_connection_only() {
    let poison = "kp1/v1/dcx/poison/json";
    let bench = Bench::start_with(|settings| {
        settings.environment(PANIC_VARIABLE, poison);
        settings.set("ringgate.shards", 1);
        settings.set("ringgate.mqtt.receive-maximum", 8);
    });
    let mut companion = bench.device("companion");
    let mut victim = bench.device_of(V311, "victim");
    // All at once, so that the poisonous one waits until NATS has confirmed some before it.
    let mut bytes = Vec::new();
    for id in 1..=100 {
        bytes.extend(Publish::new(TOPIC, "fine").qos(1, id).bytes(V311));
    }
    bytes.extend(Publish::new(poison, "x").qos(1, 101).bytes(V311));
    victim.send(&bytes);
    bench.gateway.wait_until_closed("panic", 1.0);
    let answer = companion.request("kp1/v1/dcx/companion/json/1", "[]", 1);
    assert_eq!(answer.topic, "kp1/v1/dcx/companion/json/1/status");
    bench.gateway.wait_until_healthy();
}

#[test]
fn the_start_is_logged_and_the_ports_answer() {
    let bench = Bench::start();
    assert!(!bench.gateway.output().is_empty(), "a start says something");
    assert!(http::get(bench.gateway.admin, "/health").is_some());
    let mut device = bench.device("device-1");
    device.ping();
}
