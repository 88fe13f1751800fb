//! Endpoints that appear elsewhere: on another connection, shard or replica.

use std::time::Duration;

use crate::harness::connectivity::Change::Connected;
use crate::harness::connectivity::Connectivity;
use crate::harness::device::{Device, Next};
use crate::harness::eventually;
use crate::harness::extension::{Extension, ExtensionData, collects_data};
use crate::harness::gateway::Gateway;
use crate::harness::nats::{Cluster, Nats};
use crate::harness::packet::{Connect, PUBACK, Publish, V5};
use crate::harness::provider::Provider;
use crate::harness::secured::{Secured, asks_over_nats, error_of, secret};

fn topic() -> String {
    format!("{}/json/1", topic_base())
}

fn topic_base() -> String {
    format!("kp1/v1/dcx/{}", secret("roaming"))
}

fn push(path: &str) -> ExtensionData {
    ExtensionData::push("dcx", "roamer", path, "[]")
}

fn device(gateway: &Gateway, client_id: &str) -> Device {
    Device::connected(gateway.mqtt, Connect::new(V5, client_id)).0
}

/// Speaks for the endpoint; the answer comes back to the one that spoke.
fn speak(device: &mut Device) {
    let answer = device.request(&topic(), "[]", 1);
    assert_eq!(answer.topic, format!("{}/status", topic()));
}

#[test]
fn an_endpoint_moves_from_connection_to_connection() {
    let bench = Secured::start();
    bench.provider.token("demo", &secret("roaming"), "roamer");
    let mut devices: Vec<Device> =
        (0..6).map(|number| bench.device_of(V5, &format!("device-{number}"))).collect();
    for round in 0..3 {
        for at in 0..devices.len() {
            speak(&mut devices[at]);
            pushes_arrive_at(&bench.dcx, &mut devices, at, &format!("/command/{round}-{at}"));
        }
    }
    bench.connectivity.expect_no_more("roamer", &[Connected]);
}

/// Pushes reach one of these devices, and no other. What a shard says of a move and a push come on
/// different ways: for a moment pushes may still reach the one before.
fn pushes_arrive_at(dcx: &Extension, devices: &mut [Device], at: usize, path: &str) {
    eventually(&format!("pushes to reach device {at}"), || {
        dcx.push(&push(path));
        let reached = eventually("a push to reach somebody", || {
            devices.iter_mut().position(|device| {
                match device.next_within(Duration::from_millis(5)) {
                    Next::Packet(packet) => {
                        let topic = format!("{}{path}/status", topic_base());
                        assert_eq!(packet.publish(V5).topic, topic);
                        true
                    }
                    Next::Nothing => false,
                    Next::Closed => panic!("a device has been put out"),
                }
            })
        });
        (reached == at).then_some(())
    });
}

/// A push reaches the device.
fn push_arrives(dcx: &Extension, device: &mut Device, path: &str) {
    dcx.push(&push(path));
    assert_eq!(device.receive_publish().topic, format!("{}{path}/status", topic_base()));
}

#[test]
fn an_endpoint_that_may_not_move_stays_where_it_is() {
    let bench = Secured::start_with(|settings| {
        settings.set("kaa.applications.demo.endpoint-elsewhere", "reject");
    });
    bench.provider.token("demo", &secret("roaming"), "roamer");
    let mut first = bench.device_of(V5, "first");
    speak(&mut first);
    bench.connectivity.wait_for("roamer", &[Connected]);
    for number in 0..6 {
        let mut other = bench.device_of(V5, &format!("other-{number}"));
        let answer = other.request(&topic(), "[]", 0);
        assert_eq!(error_of(&answer).0, 409);
        other.send_publish(&Publish::new(topic().trim_end_matches("/1"), "[]").qos(1, 1));
        assert_eq!(other.receive_ack(PUBACK).reason, 0x87);
    }
    bench.dcx.push(&push("/command"));
    assert!(first.receive_publish().topic.ends_with("/command/status"));
    bench.gateway.wait_until_dropped("endpoint_elsewhere", 12.0);
    // Gone, it may come back anywhere.
    drop(first);
    let mut other = bench.device_of(V5, "other");
    eventually("the place to be free", || {
        other.request(&topic(), "[]", 0).topic.ends_with("/status").then_some(())
    });
}

#[test]
fn where_both_may_speak_answers_go_to_who_asked() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.endpoint-elsewhere", "allow");
    });
    bench.provider.token("demo", &secret("roaming"), "roamer");
    let mut devices: Vec<Device> =
        (0..4).map(|number| bench.device_of(V5, &format!("device-{number}"))).collect();
    for _ in 0..3 {
        devices.iter_mut().for_each(speak);
    }
    bench.connectivity.expect_no_more("roamer", &[Connected]);
}

#[test]
fn an_endpoint_moves_to_another_replica_without_a_disconnected() {
    let nats = Nats::start();
    roams(&[nats.url(), nats.url()], &nats.url(), |_| {});
}

#[test]
fn an_endpoint_moves_between_replicas_at_different_nodes_of_a_cluster() {
    let cluster = Cluster::start();
    let url = |at: usize| cluster.servers[at].url();
    roams(&[url(0), url(1)], &url(2), |subject| cluster.wait_until_heard(2, subject));
}

/// Two replicas, and the services at `url`; `spread` waits until a subject heard there is known
/// everywhere.
fn roams(replicas: &[String; 2], url: &str, spread: impl Fn(&str)) {
    let dcx = Extension::start(url, "dcx", collects_data);
    let provider = Provider::start(url);
    let connectivity = Connectivity::start(url);
    spread("kaa.v1.service.dcx.esp.ClientData");
    spread("kaa.v1.service.cm.ecap.ep-token-request");
    spread("kaa.v1.events.kpc.endpoint.connectivity.*");
    provider.token("demo", &secret("roaming"), "roamer");
    let start = |at: usize, id: &str| {
        Gateway::start(&replicas[at], |settings| {
            asks_over_nats(settings);
            settings.set("service.instance.replica.id", id);
        })
    };
    let gateways = [start(0, "e2e-a"), start(1, "e2e-b")];
    let mut devices = [device(&gateways[0], "left"), device(&gateways[1], "right")];
    for round in 0..4 {
        let (here, there) = (round % 2, (round + 1) % 2);
        speak(&mut devices[here]);
        let count = round + 1;
        eventually("the endpoint to be told connected", || {
            (connectivity.history("roamer").len() == count).then_some(())
        });
        assert_eq!(connectivity.history("roamer"), vec![Connected; count]);
        // The other replica lets go of it.
        gateways[there].wait_for_metric("ringgate_endpoints", &[], 0.0);
        push_arrives(&dcx, &mut devices[here], &format!("/command/{round}"));
        // A push goes to all replicas: this one must have heard it before the endpoint comes.
        let not_held = ["reason=\"not_held\""];
        let pushes = (round / 2 + 1) as f64;
        gateways[there].wait_for_metric("ringgate_pushes_dropped_total", &not_held, pushes);
        devices[there].ping();
    }
    // The last one holds it: its end is the endpoint's end, and the other's is nobody's.
    let [left, right] = devices;
    left.disconnect();
    crate::harness::let_time_pass(crate::harness::SILENCE);
    assert_eq!(connectivity.history("roamer"), vec![Connected; 4]);
    right.disconnect();
    eventually("the endpoint to be told disconnected", || {
        (connectivity.history("roamer").len() == 5).then_some(())
    });
    let replicas: Vec<String> =
        connectivity.events().into_iter().map(|event| event.replica).collect();
    assert_eq!(replicas, ["e2e-a", "e2e-b", "e2e-a", "e2e-b", "e2e-b"]);
}

#[test]
fn what_another_replica_says_is_believed_and_ones_own_words_are_not() {
    let bench = Secured::start();
    bench.provider.token("demo", &secret("roaming"), "roamer");
    let mut device = bench.device_of(V5, "device-1");
    speak(&mut device);
    bench.connectivity.wait_for("roamer", &[Connected]);
    // As if it came from here: an echo.
    bench.connectivity.announce_elsewhere("roamer", "v1", "e2e");
    bench.connectivity.wait_for("roamer", &[Connected, Connected]);
    push_arrives(&bench.dcx, &mut device, "/one");
    bench.connectivity.announce_elsewhere("roamer", "v1", "another");
    bench.gateway.wait_for_metric("ringgate_endpoints", &[], 0.0);
    bench.dcx.push(&push("/two"));
    device.expect_silence();
    // It speaks again: it is here again, and told so.
    speak(&mut device);
    bench.connectivity.wait_for("roamer", &[Connected; 4]);
    push_arrives(&bench.dcx, &mut device, "/three");
}
