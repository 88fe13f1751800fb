//! What tenants demand of clients.

use crate::harness::device::Device;
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
}
