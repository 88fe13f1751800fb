//! 9/ELCE: which endpoints are there, told once, in order, and to the end.

use std::time::Duration;

use crate::harness::connectivity::Change::{Connected, Disconnected};
use crate::harness::device::Device;
use crate::harness::gateway::{GRACEFUL_SHUTDOWN_S, REPLICA};
use crate::harness::packet::{Connect, V5, V311};
use crate::harness::secured::{Secured, asks_over_nats, secret};
use crate::harness::{SILENCE, eventually};

/// Everybody's token is good and is the endpoint's id.
fn trustful() -> Secured {
    trustful_with(|_| {})
}

fn trustful_with(adjust: impl FnOnce(&mut crate::harness::gateway::Settings)) -> Secured {
    Secured::start_with(|settings| {
        settings.set("ringgate.auth.endpoint-provider", "trustful");
        adjust(settings);
    })
}

fn topic(endpoint: &str) -> String {
    format!("kp1/v1/dcx/{endpoint}/json/1")
}

#[test]
fn an_endpoint_is_connected_with_its_first_message_and_disconnected_with_its_client() {
    let bench = trustful();
    let mut device = bench.device("device-1");
    device.ping();
    assert!(bench.connectivity.events().is_empty(), "a connection alone is no endpoint");
    for _ in 0..3 {
        device.request(&topic("one"), "[]", 1);
    }
    bench.connectivity.wait_for("one", &[Connected]);
    let event = bench.connectivity.events().remove(0);
    assert_eq!(event.endpoints["one"], "v1");
    assert_eq!(event.replica, REPLICA);
    device.disconnect();
    bench.connectivity.expect_no_more("one", &[Connected, Disconnected]);
    let mut again = bench.device("device-1");
    again.request(&topic("one"), "[]", 1);
    bench.connectivity.wait_for("one", &[Connected, Disconnected, Connected]);
}

#[test]
fn an_endpoint_is_connected_when_it_can_be_reached() {
    let bench = trustful();
    for number in 0..20 {
        let endpoint = format!("endpoint-{number}");
        let mut device = bench.device(&endpoint);
        device.publish_qos0(&topic(&endpoint), "[]");
        bench.connectivity.wait_for(&endpoint, &[Connected]);
        // Whoever hears of it may push at once.
        let answer = device.receive_publish();
        assert!(answer.topic.ends_with("/status"));
        bench.dcx.push(&crate::harness::extension::ExtensionData::push(
            "dcx", &endpoint, "/command", "[]",
        ));
        let topic = format!("kp1/v1/dcx/{endpoint}/command/status");
        assert_eq!(device.receive_publish().topic, topic);
    }
}

#[test]
fn a_lost_client_takes_all_its_endpoints_along_in_one_event() {
    let bench = trustful();
    let mut device = bench.device("gateway-device");
    let names: Vec<String> = (0..200).map(|number| format!("endpoint-{number}")).collect();
    for name in &names {
        device.publish_qos0(&topic(name), "[]");
    }
    for name in &names {
        bench.connectivity.wait_for(name, &[Connected]);
    }
    // Batched: far fewer events than endpoints.
    let batches = bench.connectivity.events().len();
    assert!(batches < names.len() / 2, "{batches} events");
    bench.connectivity.forget();
    drop(device);
    for name in &names {
        bench.connectivity.wait_for(name, &[Disconnected]);
    }
    let events = bench.connectivity.events();
    assert_eq!(events.len(), 1, "one event about all");
    assert_eq!(events[0].endpoints.len(), names.len());
}

#[test]
fn a_client_that_times_out_is_disconnected() {
    let bench = trustful();
    let connect = Connect::new(V311, "device-1").keep_alive(1);
    let (mut device, _) = Device::connected(bench.gateway.mqtt, connect);
    device.request(&topic("one"), "[]", 0);
    device.expect_closed();
    bench.connectivity.wait_for("one", &[Connected, Disconnected]);
}

#[test]
fn an_endpoint_that_moves_to_another_connection_stays_connected() {
    let bench = trustful();
    // Over both shards, and on one.
    let mut devices: Vec<Device> =
        (0..6).map(|number| bench.device(&format!("device-{number}"))).collect();
    for device in &mut devices {
        device.request(&topic("one"), "[]", 1);
    }
    let last = devices.pop().expect("six of them");
    drop(devices);
    bench.connectivity.expect_no_more("one", &[Connected]);
    drop(last);
    bench.connectivity.expect_no_more("one", &[Connected, Disconnected]);
}

#[test]
fn a_client_id_taken_over_is_told_in_order() {
    let bench = trustful();
    for level in [V311, V5] {
        bench.connectivity.forget();
        let mut before = bench.device_of(level, "same-id");
        before.request(&topic("one"), "[]", 1);
        bench.connectivity.wait_for("one", &[Connected]);
        let mut after = bench.device_of(level, "same-id");
        before.expect_refusal(0x8E);
        after.request(&topic("one"), "[]", 1);
        drop(after);
        // Whether the endpoint was away in between depends on who is quicker.
        eventually("the end of it", || {
            let history = bench.connectivity.history("one");
            let alternates = history.chunks(2).all(|pair| pair[0] == Connected)
                && history.chunks(2).all(|pair| pair.get(1).is_none_or(|c| *c == Disconnected));
            assert!(alternates, "{history:?}");
            history.len().is_multiple_of(2).then_some(())
        });
        crate::harness::let_time_pass(SILENCE);
        assert_eq!(bench.connectivity.history("one").last(), Some(&Disconnected));
    }
}

#[test]
fn a_clean_stop_tells_of_every_endpoint() {
    let mut bench = trustful();
    let mut devices: Vec<Device> =
        (0..10).map(|number| bench.device(&format!("device-{number}"))).collect();
    for (number, device) in devices.iter_mut().enumerate() {
        for endpoint in 0..5 {
            device.publish_qos0(&topic(&format!("endpoint-{number}-{endpoint}")), "[]");
        }
        device.publish_qos0(&topic("shared"), "[]");
    }
    let names: Vec<String> = (0..10)
        .flat_map(|number| (0..5).map(move |endpoint| format!("endpoint-{number}-{endpoint}")))
        .chain(["shared".to_owned()])
        .collect();
    for name in &names {
        bench.connectivity.wait_for(name, &[Connected]);
    }
    bench.gateway.signal(libc::SIGTERM);
    let status = bench.gateway.wait(Duration::from_secs(2 * GRACEFUL_SHUTDOWN_S));
    assert!(status.success(), "{status:?}");
    for name in &names {
        bench.connectivity.wait_for(name, &[Connected, Disconnected]);
    }
}

#[test]
fn nothing_is_lost_or_doubled_while_nats_restarts() {
    let mut bench = trustful();
    let mut staying = bench.device("staying");
    let mut leaving = bench.device("leaving");
    staying.request(&topic("staying"), "[]", 1);
    leaving.request(&topic("leaving"), "[]", 1);
    bench.connectivity.wait_for("staying", &[Connected]);
    bench.connectivity.wait_for("leaving", &[Connected]);
    bench.nats.kill();
    bench.gateway.wait_until_unhealthy();
    drop(leaving);
    let mut coming = bench.device("coming");
    coming.publish_qos0(&topic("coming"), "[]");
    coming.ping();
    bench.nats.restart();
    bench.connectivity.wait_until_ready();
    bench.gateway.wait_until_healthy();
    bench.dcx.wait_until_ready();
    staying.request(&topic("staying"), "[]", 1);
    coming.request(&topic("coming"), "[]", 1);
    // The listener may come back after the event has been sent; then it has been told again.
    let mut after = bench.device("after");
    after.request(&topic("after"), "[]", 1);
    bench.connectivity.wait_for("after", &[Connected]);
    bench.connectivity.expect_no_more("staying", &[Connected]);
    drop(coming);
    eventually("coming to be gone", || {
        (bench.connectivity.history("coming").last() == Some(&Disconnected)).then_some(())
    });
    for endpoint in ["coming", "leaving"] {
        let history = bench.connectivity.history(endpoint);
        let once = |change| history.iter().filter(|c| **c == change).count() <= 1;
        assert!(once(Connected) && once(Disconnected), "{endpoint}: {history:?}");
    }
}

#[test]
fn nothing_is_told_where_that_is_switched_off() {
    let bench = trustful_with(|settings| settings.set("ringgate.connectivity.enabled", false));
    let mut device = bench.device("device-1");
    device.request(&topic("one"), "[]", 1);
    device.disconnect();
    crate::harness::let_time_pass(SILENCE);
    assert!(bench.connectivity.events().is_empty());
}

#[test]
fn a_rejected_token_is_told_nobody() {
    let bench = Secured::start_with(asks_over_nats);
    let mut device = bench.device("device-1");
    device.request(&topic(&secret("unknown")), "[]", 1);
    device.disconnect();
    crate::harness::let_time_pass(SILENCE);
    assert!(bench.connectivity.events().is_empty());
}
