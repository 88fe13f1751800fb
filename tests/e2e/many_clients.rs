//! Thousands of clients at once, in the shape of `emqtt_bench conn | pub | sub`: MQTT 5 by
//! default, `%i` (number of the client) and `%c` (its client id) in topics.

use std::collections::HashSet;

use crate::harness::device::Device;
use crate::harness::extension::{self, ExtensionData};
use crate::harness::packet::{Connect, PINGREQ_BYTES, PINGRESP, PUBACK, Publish, SUBACK, V5};
use crate::harness::packet::{DISCONNECT_BYTES, subscribe};
use crate::harness::{Bench, eventually};

const CLIENTS: usize = 2_000;

/// `emqtt_bench` replaces `%i` and `%c` like this.
fn topic(pattern: &str, number: usize) -> String {
    pattern.replace("%i", &number.to_string()).replace("%c", &client_id(number))
}

/// The default form of `emqtt_bench`'s client ids.
fn client_id(number: usize) -> String {
    format!("host_bench_{number}_{}", 1_000_000_000 + number)
}

/// Opens all connections, and only then reads the CONNACKs: a storm.
fn connect_all(bench: &Bench) -> Vec<Device> {
    allow_many_files();
    let mut devices: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut device = Device::open(bench.gateway.mqtt, V5);
            device.send(&Connect::new(V5, &client_id(number)).keep_alive(300).bytes());
            device
        })
        .collect();
    for device in &mut devices {
        assert_eq!(device.receive().connack(V5).code, 0);
    }
    devices
}

/// Raises the soft limit of open files to the hard one; a desktop's soft limit is 1,024.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a local of the right type.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
    assert!(limit.rlim_cur > 2 * CLIENTS as u64, "the hard limit of open files is too low");
}

fn start() -> Bench {
    allow_many_files();
    Bench::start()
}

#[test]
fn conn_thousands_connect_stay_and_leave() {
    let bench = start();
    let mut devices = connect_all(&bench);
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], CLIENTS as f64);
    for shard in ["shard=\"0\"", "shard=\"1\""] {
        let share = bench.gateway.metric("ringgate_connections_open", &[shard]);
        assert!(share > 0.2 * CLIENTS as f64, "{share} connections on {shard}");
    }
    for device in &mut devices {
        device.send(&PINGREQ_BYTES);
    }
    for device in &mut devices {
        assert_eq!(device.receive().kind(), PINGRESP);
    }
    for device in &mut devices {
        device.send(&DISCONNECT_BYTES);
    }
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
    bench.gateway.wait_for_metric("ringgate_sessions", &[], 0.0);
}

#[test]
fn pub_thousands_publish_with_every_qos() {
    const ROUNDS: usize = 3;
    let bench = start();
    let mut devices = connect_all(&bench);
    for round in 0..ROUNDS {
        for (number, device) in devices.iter_mut().enumerate() {
            let topic = topic("kp1/v1/dcx/%c/json", number);
            let payload = format!("{number}-{round}");
            device.send_publish(&Publish::new(&topic, &payload));
            device.send_publish(&Publish::new(&topic, payload).qos(1, round as u16 + 1));
        }
    }
    for device in &mut devices {
        for round in 0..ROUNDS {
            let puback = device.receive_ack(PUBACK);
            assert_eq!((puback.packet_id, puback.reason), (round as u16 + 1, 0));
        }
    }
    bench.dcx.wait_for_count(CLIENTS * ROUNDS * 2);
    let received = bench.dcx.received();
    assert_eq!(received.len(), CLIENTS * ROUNDS * 2, "each exactly once");
    let endpoints: HashSet<_> = received.iter().map(|data| data.endpoint_id.clone()).collect();
    assert_eq!(endpoints.len(), CLIENTS);
    assert!(endpoints.contains(&Some(client_id(CLIENTS - 1))));
}

#[test]
fn sub_thousands_subscribe_and_each_gets_its_own_push() {
    let bench = start();
    let mut devices = connect_all(&bench);
    for (number, device) in devices.iter_mut().enumerate() {
        device.send(&subscribe(V5, 1, &[(&topic("kp1/v1/cmx/token-%i/#", number), 1)]));
        // Speaking for the endpoint is what makes it reachable.
        device.send_publish(&Publish::new(&topic("kp1/v1/dcx/token-%i/json", number), "[]"));
    }
    for device in &mut devices {
        assert_eq!(device.receive().suback(SUBACK, V5).reasons, [1]);
    }
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], CLIENTS as f64);
    for number in 0..CLIENTS {
        let endpoint = topic("token-%i", number);
        bench.dcx.push(&ExtensionData::push("cmx", &endpoint, "/config/json", &endpoint));
    }
    for (number, device) in devices.iter_mut().enumerate() {
        let push = device.receive_publish();
        assert_eq!(push.topic, topic("kp1/v1/cmx/token-%i/config/json/status", number));
        assert_eq!(push.text(), format!("token-{number}"));
    }
    for device in &mut devices {
        device.send(&PINGREQ_BYTES);
    }
    for device in &mut devices {
        assert_eq!(device.receive().kind(), PINGRESP, "each push comes once");
    }
}

#[test]
fn thousands_ask_and_each_is_answered() {
    let bench = start();
    let _echo = bench.extension("cex", extension::echoes);
    let mut devices = connect_all(&bench);
    for (number, device) in devices.iter_mut().enumerate() {
        let topic = topic("kp1/v1/cex/token-%i/x/%i", number);
        device.send_publish(&Publish::new(&topic, number.to_string()));
    }
    for (number, device) in devices.iter_mut().enumerate() {
        let answer = device.receive_publish();
        assert_eq!(answer.topic, topic("kp1/v1/cex/token-%i/x/%i/status", number));
        assert_eq!(answer.text(), number.to_string());
    }
    eventually("all confirmed", || {
        let unconfirmed = bench.gateway.metric("ringgate_uplink_unconfirmed_bytes", &[]);
        (unconfirmed == 0.0).then_some(())
    });
}
