//! Pushes: messages of extension services that answer no request, sent to the instance subject.

use crate::harness::Bench;
use crate::harness::device::Device;
use crate::harness::extension::{Extension, ExtensionData};
use crate::harness::packet::{V5, V31, V311};

/// Makes the endpoint known: a device is reachable once it has published for it. Returns when the
/// control thread knows as many endpoints as `known`.
fn speak_for(bench: &Bench, device: &mut Device, endpoint: &str, known: usize) {
    device.publish_qos1(&format!("kp1/v1/dcx/{endpoint}/json"), "[]");
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], known as f64);
}

fn config(endpoint: &str, payload: &str) -> ExtensionData {
    ExtensionData::push("cmx", endpoint, "/config/json", payload)
}

#[test]
fn a_push_reaches_the_endpoints_client_without_subscribe() {
    let bench = Bench::start();
    for (number, level) in [V31, V311, V5].into_iter().enumerate() {
        let mut device = bench.device_of(level, &format!("device-{level}"));
        let endpoint = format!("token-{level}");
        speak_for(&bench, &mut device, &endpoint, 1);
        bench.dcx.push(&config(&endpoint, "{\"on\":true}"));
        let push = device.receive_publish();
        assert_eq!(push.topic, format!("kp1/v1/cmx/{endpoint}/config/json/status"));
        assert_eq!(push.text(), "{\"on\":true}");
        assert_eq!((push.qos, push.retain), (0, false));
        assert_eq!(bench.gateway.metric("ringgate_pushes_posted_total", &[]), number as f64 + 1.0);
        device.disconnect();
        bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 0.0);
    }
}

#[test]
fn a_push_with_an_error_status_goes_to_the_error_topic() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    speak_for(&bench, &mut device, "token-1", 1);
    let mut push = config("token-1", "").reason("Gone away");
    push.status_code = 410;
    bench.dcx.push(&push);
    let push = device.receive_publish();
    assert_eq!(push.topic, "kp1/v1/cmx/token-1/config/json/error");
    crate::answers::assert_error(&push.payload, 410, "Gone away");
}

#[test]
fn pushes_have_the_configured_qos() {
    for qos in 1..=2_u8 {
        let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.push-qos", qos));
        let mut device = bench.device("device-1");
        speak_for(&bench, &mut device, "token-1", 1);
        bench.dcx.push(&config("token-1", "{}"));
        let push = device.receive_and_acknowledge();
        assert_eq!((push.qos, push.text()), (qos, "{}"));
        device.ping();
    }
}

#[test]
fn an_extension_instance_may_have_a_push_qos_of_its_own() {
    let bench = Bench::start_with(|settings| {
        settings.set("kaa.extension-instances.cmx.push-qos", 1);
    });
    let mut device = bench.device("device-1");
    speak_for(&bench, &mut device, "token-1", 1);
    bench.dcx.push(&config("token-1", "{}"));
    assert_eq!(device.receive_and_acknowledge().qos, 1);
    bench.dcx.push(&ExtensionData::push("cex", "token-1", "/command/reboot", "[]"));
    let command = device.receive_and_acknowledge();
    assert_eq!(command.topic, "kp1/v1/cex/token-1/command/reboot/status");
    assert_eq!(command.qos, 0);
}

#[test]
fn a_subscription_caps_the_qos_of_a_push() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.mqtt.push-qos", 2));
    let mut device = bench.device("device-1");
    assert_eq!(device.subscribe(&[("kp1/v1/cmx/token-1/#", 1)]), [1]);
    speak_for(&bench, &mut device, "token-1", 1);
    bench.dcx.push(&config("token-1", "{}"));
    assert_eq!(device.receive_and_acknowledge().qos, 1);
}

#[test]
fn a_push_without_an_app_version_is_given_the_endpoints() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    speak_for(&bench, &mut device, "token-1", 1);
    let mut push = config("token-1", "{}");
    push.app_version_name = None;
    bench.dcx.push(&push);
    assert_eq!(device.receive_publish().topic, "kp1/v1/cmx/token-1/config/json/status");
}

#[test]
fn a_push_goes_to_the_client_that_spoke_for_the_endpoint_last() {
    let bench = Bench::start();
    let mut devices = ["a", "b", "c", "d"].map(|id| bench.device(id));
    for round in 0..3 {
        for index in 0..devices.len() {
            speak_for(&bench, &mut devices[index], "token-1", 1);
            let text = format!("{round}-{index}");
            // The new route is told to the control thread after the PUBACK; a push before that
            // reaches the former client, which is allowed. So push until this one has it.
            let mut reached = false;
            for _ in 0..50 {
                bench.dcx.push(&config("token-1", &text));
                match devices[index].next_within(std::time::Duration::from_millis(100)) {
                    crate::harness::device::Next::Packet(packet) => {
                        assert_eq!(packet.publish(V311).text(), text);
                        reached = true;
                        break;
                    }
                    other => assert_eq!(other, crate::harness::device::Next::Nothing),
                }
            }
            assert!(reached, "the push {text} never came");
            drain(&mut devices);
        }
    }
}

/// Two clients, the first of which has spoken for the endpoint before the second.
fn two_speakers(bench: &Bench, endpoint: &str) -> [Device; 2] {
    let mut devices = ["a", "b"].map(|id| bench.device(id));
    for device in &mut devices {
        speak_for(bench, device, endpoint, 1);
    }
    devices
}

#[test]
fn a_push_goes_to_the_client_that_spoke_before_when_the_last_one_leaves() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.shards", 1));
    for leaves_orderly in [true, false] {
        let [mut first, second] = two_speakers(&bench, "token-1");
        if leaves_orderly {
            second.disconnect()
        } else {
            drop(second)
        }
        bench.gateway.wait_for_metric("ringgate_connections_open", &[], 1.0);
        bench.dcx.push(&config("token-1", "to the first"));
        assert_eq!(first.receive_publish().text(), "to the first");
        first.disconnect();
        bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 0.0);
    }
}

#[test]
fn a_push_stays_with_the_last_client_when_the_one_before_leaves() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.shards", 1));
    let [first, mut second] = two_speakers(&bench, "token-1");
    first.disconnect();
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 1.0);
    bench.dcx.push(&config("token-1", "to the second"));
    assert_eq!(second.receive_publish().text(), "to the second");
}

#[test]
fn a_push_goes_back_to_the_shard_of_the_client_that_spoke_before() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.shards", 2));
    let moved =
        |times: f64| bench.gateway.wait_for_metric("ringgate_routes_moved_total", &[], times);
    let endpoints_of = |shard: &str| bench.gateway.metric("ringgate_endpoints", &[shard]);
    let mut first = bench.device("first");
    speak_for(&bench, &mut first, "token-1", 1);
    // The kernel spreads connections over the shards: keep coming until it chooses the other one.
    let mut second = bench.device("second");
    speak_for(&bench, &mut second, "token-1", 1);
    for tries in 0.. {
        if endpoints_of("shard=\"0\"") == endpoints_of("shard=\"1\"") {
            break;
        }
        assert!(tries < 100, "a shard gets no connection, or has lost the endpoint");
        second.disconnect();
        second = bench.device("second");
        speak_for(&bench, &mut second, "token-1", 1);
    }
    moved(1.0);
    bench.dcx.push(&config("token-1", "to the second"));
    assert_eq!(second.receive_publish().text(), "to the second");

    second.disconnect();
    moved(2.0);
    bench.dcx.push(&config("token-1", "to the first"));
    assert_eq!(first.receive_publish().text(), "to the first");
    first.publish_qos1("kp1/v1/dcx/token-1/json", "[]");
    first.disconnect();
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 0.0);
}

/// Reads what has come for any of the devices.
fn drain(devices: &mut [Device]) {
    for device in devices {
        device.send(&crate::harness::packet::PINGREQ_BYTES);
        while device.receive().kind() != crate::harness::packet::PINGRESP {}
    }
}

#[test]
fn every_endpoint_of_one_client_gets_its_own_pushes() {
    let bench = Bench::start();
    let mut gateway = bench.device("field-gateway");
    for number in 0..20 {
        speak_for(&bench, &mut gateway, &format!("token-{number}"), number + 1);
    }
    for number in (0..20).rev() {
        bench.dcx.push(&config(&format!("token-{number}"), &number.to_string()));
        let push = gateway.receive_publish();
        assert_eq!(push.topic, format!("kp1/v1/cmx/token-{number}/config/json/status"));
        assert_eq!(push.text(), number.to_string());
    }
}

#[test]
fn pushes_find_their_clients_on_every_shard() {
    let bench = Bench::start();
    let mut devices: Vec<_> = (0..24).map(|n| bench.device(&format!("device-{n}"))).collect();
    for (number, device) in devices.iter_mut().enumerate() {
        speak_for(&bench, device, &format!("token-{number}"), number + 1);
    }
    for number in 0..devices.len() {
        bench.dcx.push(&config(&format!("token-{number}"), &number.to_string()));
    }
    for (number, device) in devices.iter_mut().enumerate() {
        assert_eq!(device.receive_publish().text(), number.to_string());
        device.ping();
    }
}

#[test]
fn pushes_for_others_replicas_endpoints_and_garbage_are_counted_and_harmless() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    speak_for(&bench, &mut device, "token-1", 1);
    let instance = "kaa.v1.service.kpc.esp.ExtensionData";

    bench.dcx.push(&config("token-elsewhere", "{}"));
    let mut nobody = config("token-1", "{}");
    nobody.endpoint_id = None;
    bench.dcx.push(&nobody);
    bench.dcx.publish(instance, None, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec());
    bench.dcx.publish(instance, None, Vec::new());
    for (reason, count) in [("not_held", 1.0), ("no_endpoint", 1.0), ("malformed", 2.0)] {
        let label = format!("reason=\"{reason}\"");
        bench.gateway.wait_for_metric("ringgate_pushes_dropped_total", &[&label], count);
    }

    bench.dcx.push(&config("token-1", "still here"));
    assert_eq!(device.receive_publish().text(), "still here");
}

#[test]
fn a_push_after_the_client_has_left_is_not_held() {
    let bench = Bench::start();
    let mut device = bench.device("device-1");
    speak_for(&bench, &mut device, "token-1", 1);
    device.disconnect();
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 0.0);
    bench.dcx.push(&config("token-1", "{}"));
    let label = ["reason=\"not_held\""];
    bench.gateway.wait_for_metric("ringgate_pushes_dropped_total", &label, 1.0);
}

#[test]
fn two_replicas_each_deliver_to_their_own_endpoints() {
    let bench = Bench::start();
    let other = crate::harness::gateway::Gateway::start(&bench.nats.url(), |settings| {
        settings.set("service.instance.replica.id", "other");
    });
    let mut here = bench.device("device-1");
    speak_for(&bench, &mut here, "token-here", 1);
    let connect = crate::harness::packet::Connect::new(V311, "device-2");
    let mut there = Device::connected(other.mqtt, connect).0;
    there.publish_qos1("kp1/v1/dcx/token-there/json", "[]");
    other.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);

    bench.dcx.push(&config("token-there", "there"));
    bench.dcx.push(&config("token-here", "here"));
    assert_eq!(here.receive_publish().text(), "here");
    assert_eq!(there.receive_publish().text(), "there");
    here.ping();
    there.ping();
}

#[test]
fn a_slow_reader_loses_qos0_pushes_or_is_closed_and_others_are_served() {
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.mqtt.outbound-bytes-max", 64 * 1024);
    });
    let mut slow = bench.device("slow");
    speak_for(&bench, &mut slow, "token-slow", 1);
    let mut quick = bench.device("quick");
    speak_for(&bench, &mut quick, "token-quick", 2);

    // Far more than the kernel's socket buffers hold, and the slow one reads nothing.
    let large = "x".repeat(60_000);
    let pusher: &Extension = &bench.dcx;
    for number in 0..400 {
        pusher.push(&config("token-slow", &large));
        pusher.push(&config("token-quick", &number.to_string()));
    }
    for number in 0..400 {
        assert_eq!(quick.receive_publish().text(), number.to_string());
    }
    let dropped = bench.gateway.dropped("slow_consumer");
    let closed =
        bench.gateway.metric("ringgate_connections_closed_total", &["reason=\"quota_exceeded\""]);
    assert!(dropped + closed > 0.0, "a bound on what waits for a slow reader");
}
