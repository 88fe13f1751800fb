//! What tenants demand of clients.

use crate::harness::connectivity::Change::{Connected, Disconnected};
use crate::harness::device::Device;
use crate::harness::eventually;
use crate::harness::extension::ExtensionData;
use crate::harness::packet::{Connect, PUBACK, Publish, V5, V31, V311};
use crate::harness::secured::{Secured, error_of, secret};

/// Tenant `acme` demands a user name and password; everybody's tokens are good.
fn strict() -> Secured {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.tenants.acme.require.mqtt-tcp", "basic");
    });
    bench.provider.token("demo", &secret("acme"), "endpoint-acme");
    bench.provider.token("narrow", &secret("other"), "endpoint-other");
    bench.provider.client("acme", "user", &secret("password"));
    bench.provider.client("other", "user", &secret("password"));
    bench
}

/// Topics of an application of `acme` and one of `other`.
fn topics() -> [String; 2] {
    [
        format!("kp1/v1/dcx/{}/json/1", secret("acme")),
        format!("kp1/v2/dcx/{}/json/1", secret("other")),
    ]
}

#[test]
fn a_client_nobody_knows_may_connect_but_not_speak_where_that_is_not_enough() {
    let bench = strict();
    let [acme, other] = topics();
    for level in [V31, V311, V5] {
        for qos in 0..=2 {
            let mut device = bench.device_of(level, "device");
            // Subscriptions say nothing of a tenant, and another tenant is content.
            device.subscribe(&[("#", 0)]);
            device.request(&other, "[]", 1);
            device.ping();
            device.send_publish(&Publish::new(&acme, "[]").qos(qos, 100));
            if level == V5 {
                let why = device.expect_disconnect_because(0x87);
                assert!(why.is_some_and(|why| !why.is_empty()), "no reason string");
            } else {
                device.expect_closed();
            }
        }
    }
    assert_eq!(bench.provider.count(&secret("acme")), 0, "its token is not even looked at");
    bench.dcx.wait_for_count(9);
    assert!(bench.dcx.received().iter().all(|data| data.app_version_name == "v2"));
    bench.gateway.wait_until_closed("not_authorized", 9.0);
}

#[test]
fn a_client_that_is_known_may_speak_for_its_tenant() {
    let bench = strict();
    let [acme, _] = topics();
    for level in [V31, V311, V5] {
        let mut client = bench.client(level, "client", "user@acme", &secret("password"));
        let answer = client.request(&acme, "[]", 1);
        assert!(answer.topic.ends_with("/status"), "{answer:?}");
    }
    bench.dcx.wait_for_count(3);
}

#[test]
fn a_client_of_one_tenant_may_not_speak_for_another() {
    let bench = strict();
    let [acme, other] = topics();
    for (username, good, bad) in [("user@acme", &acme, &other), ("user@other", &other, &acme)] {
        let mut client = bench.client(V5, "client", username, &secret("password"));
        client.request(good, "[]", 1);
        for qos in 0..=2 {
            let answer = client.request(bad, "[]", qos);
            assert_eq!(error_of(&answer).0, 403, "{username}");
        }
        client.send_publish(&Publish::new(bad.trim_end_matches("/1"), "[]").qos(1, 200));
        assert_eq!(client.receive_ack(PUBACK).reason, 0x87);
        client.request(good, "[]", 1);
    }
    bench.dcx.wait_for_count(4);
    bench.dcx.wait_until(|messages| messages.len() == 4);
    bench.gateway.wait_until_dropped("wrong_tenant", 8.0);
}

#[test]
fn endpoints_of_two_tenants_with_one_id_on_two_shards_get_nothing_of_each_other() {
    let bench = Secured::start_with(|settings| settings.set("ringgate.shards", 2));
    bench.provider.token("demo", &secret("acme"), "same-id");
    bench.provider.token("narrow", &secret("other"), "same-id");
    let [acme, other] = topics();
    let mut first = bench.device("first");
    first.request(&acme, "[]", 1);
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
    // The kernel spreads connections over the shards: keep coming until it chooses the other one.
    // On the first one's shard, the second is refused at once.
    let mut second = eventually("a connection on the other shard", || {
        let mut second = bench.device("second");
        second.request(&other, "[]", 1).topic.ends_with("/status").then_some(second)
    });
    let alien = || bench.gateway.metric("ringgate_endpoints_alien_total", &[]);
    eventually("the directory to refuse it", || (alien() == 1.0).then_some(()));

    let push = |version: &str, text: &str| {
        let mut push = ExtensionData::push("dcx", "same-id", "/command", text);
        push.app_version_name = Some(version.to_owned());
        bench.dcx.push(&push);
    };
    push("v2", "for nobody here");
    let label = "reason=\"wrong_tenant\"";
    bench.gateway.wait_for_metric("ringgate_pushes_dropped_total", &[label], 1.0);
    push("v1", "for the first");
    assert_eq!(first.receive_publish().text(), "for the first");
    bench.connectivity.expect_no_more("same-id", &[Connected]);

    first.disconnect();
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 0.0);
    second.request(&other, "[]", 1);
    bench.gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
    push("v2", "for the second");
    assert_eq!(second.receive_publish().text(), "for the second");
    bench.connectivity.wait_for("same-id", &[Connected, Disconnected, Connected]);
}

#[test]
fn a_demand_on_all_holds_for_tenants_without_their_own() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.require.mqtt-tcp", "any");
        settings.set("ringgate.tenants.other.require.mqtt-tcp", "none");
    });
    bench.provider.token("demo", &secret("acme"), "endpoint-acme");
    bench.provider.token("narrow", &secret("other"), "endpoint-other");
    bench.provider.client("acme", "user", &secret("password"));
    let [acme, other] = topics();
    let mut device = bench.device_of(V5, "device");
    device.request(&other, "[]", 1);
    device.send_publish(&Publish::new(&acme, "[]"));
    device.expect_disconnect(0x87);
    bench.client(V5, "client", "user@acme", &secret("password")).request(&acme, "[]", 1);
}

#[test]
fn plain_mqtt_is_closed_to_a_tenant_that_demands_a_certificate() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.tenants.acme.require.mqtt-tcp", "certificate");
    });
    bench.provider.token("demo", &secret("acme"), "endpoint-acme");
    bench.provider.client("acme", "user", &secret("password"));
    let connect = Connect::new(V5, "client").credentials("user@acme", &secret("password"));
    let (mut client, _) = Device::connected(bench.gateway.mqtt, connect);
    client.publish_qos0(&topics()[0], "[]");
    client.expect_disconnect(0x87);
    bench.gateway.wait_until_dropped("not_proven", 1.0);
    let log = bench.gateway.output();
    let line = log.lines().find(|line| line.contains("client put out")).expect("a line");
    assert!(line.contains("the tenant requires clients to authenticate"), "{line}");
    assert!(line.contains("client") && line.contains("127.0.0.1:"), "{line}");
}
