//! What was good and is good no more.

use crate::harness::connectivity::Change::{Connected, Disconnected};
use crate::harness::connectivity::JUNK;
use crate::harness::device::{Device, Next};
use crate::harness::extension::ExtensionData;
use crate::harness::packet::{Connect, V5, V311};
use crate::harness::provider::Behaviour;
use crate::harness::secured::{Secured, asks_over_nats, error_of, secret};
use crate::harness::{PATIENCE, eventually};

#[test]
fn a_revoked_token_speaks_no_more_and_its_connection_stays() {
    let bench = Secured::start();
    for endpoint in ["one", "two"] {
        bench.provider.token("demo", &secret(endpoint), endpoint);
    }
    let mut device = bench.device_of(V5, "device-1");
    let topic = |token| format!("kp1/v1/dcx/{}/json/1", secret(token));
    device.request(&topic("one"), "[]", 1);
    device.request(&topic("two"), "[]", 1);
    bench.connectivity.wait_for("one", &[Connected]);

    bench.provider.revoke_token("demo", "one");
    bench.connectivity.wait_for("one", &[Connected, Disconnected]);
    // No push finds it.
    bench.dcx.push(&ExtensionData::push("dcx", "one", "/command", "[]"));
    device.expect_silence();
    let answer = device.request(&topic("one"), "[]", 1);
    assert_eq!(error_of(&answer), (403, "revoked".to_owned()));
    assert_eq!(bench.provider.count(&secret("one")), 2, "asked again");
    // The other endpoint of the connection is not touched.
    device.request(&topic("two"), "[]", 1);
    assert_eq!(bench.provider.count(&secret("two")), 1);
    bench.connectivity.wait_for("two", &[Connected]);
    // Active again, it is let in again.
    bench.provider.token("demo", &secret("one"), "one");
    eventually("the short memory of a bad token to end", || {
        device.request(&topic("one"), "[]", 1).topic.ends_with("/status").then_some(())
    });
    bench.connectivity.wait_for("one", &[Connected, Disconnected, Connected]);
}

#[test]
fn a_token_revoked_while_it_is_asked_about_is_asked_about_again() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.request-timeout-ms", 20_000);
    });
    bench.provider.token("demo", &secret("one"), "one");
    bench.provider.behave(Behaviour::Hold);
    let mut device = bench.device("device-1");
    device.publish_qos0(&format!("kp1/v1/dcx/{}/json/1", secret("one")), "[]");
    bench.provider.wait_for_count(&secret("one"), 1);
    bench.provider.behave(Behaviour::Normal);
    // On its way: a good answer from before; then the revocation overtakes it.
    bench.provider.revoke_token("demo", "one");
    // Another endpoint's revocation came after it, on the same link: it has been heard.
    hear(&bench);
    bench.provider.release();
    assert_eq!(error_of(&device.receive_publish()), (403, "revoked".to_owned()));
    bench.dcx.expect_silence();
}

/// Waits until a revocation published now has been heard by every shard.
fn hear(bench: &Secured) {
    bench.provider.client("acme", "probe", &secret("probe"));
    let connect = || Connect::new(V5, "").credentials("probe@acme", &secret("probe"));
    let mut probes = Vec::new();
    for _ in 0..8 {
        probes.push(Device::connected(bench.gateway.mqtt, connect()).0);
    }
    bench.provider.revoke_cap_client("basic", "acme", "id-of-probe");
    probes.iter_mut().for_each(|probe| probe.expect_disconnect(0x98));
}

#[test]
fn revoked_clients_are_put_out_and_let_in_no_more() {
    for (provider, revoke) in [
        (
            "cap",
            (|bench| bench.provider.revoke_cap_client("basic", "acme", "id-of-user"))
                as fn(&Secured),
        ),
        ("ecap", |bench| bench.provider.revoke_ecap_client("id-of-user")),
    ] {
        let bench = Secured::start_with(|settings| {
            settings.set("ringgate.auth.client-provider", provider);
        });
        let password = secret("password");
        bench.provider.client("acme", "user", &password);
        bench.provider.client("acme", "innocent", &password);
        bench.provider.token("demo", &secret("one"), "one");
        let mut innocent = bench.client(V5, "innocent", "innocent@acme", &password);
        let mut anonymous = bench.device("anonymous");
        let mut v5: Vec<Device> = (0..6)
            .map(|number| bench.client(V5, &format!("c-{number}"), "user@acme", &password))
            .collect();
        let mut v311 = bench.client(V311, "older", "user@acme", &password);
        v5[0].request(&format!("kp1/v1/dcx/{}/json/1", secret("one")), "[]", 1);
        bench.connectivity.wait_for("one", &[Connected]);

        revoke(&bench);
        for client in &mut v5 {
            let why = client.expect_disconnect_because(0x98);
            assert!(why.is_some_and(|why| why.contains("revoked")), "no reason string");
        }
        v311.expect_closed();
        bench.connectivity.wait_for("one", &[Connected, Disconnected]);
        let connect = Connect::new(V5, "c-0").credentials("user@acme", &password);
        assert_eq!(bench.refused(connect).code, 0x87);
        innocent.ping();
        anonymous.ping();
        bench.gateway.wait_until_closed("revoked", 7.0);
    }
}

#[test]
fn a_certificate_revoked_is_not_a_password_revoked() {
    let bench = Secured::start();
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    let mut client = bench.client(V5, "client", "user@acme", &password);
    // 22/CAP: ids are of their kind and tenant.
    bench.provider.revoke_cap_client("certificate", "acme", "id-of-user");
    bench.provider.revoke_cap_client("basic", "other", "id-of-user");
    hear(&bench);
    client.ping();
    bench.provider.revoke_cap_client("basic", "acme", "id-of-user");
    client.expect_disconnect(0x98);
}

#[test]
fn an_unregistered_tenant_takes_its_sessions_along() {
    let bench = Secured::start();
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    bench.provider.client("other", "user", &password);
    bench.provider.token("demo", &secret("acme"), "endpoint-acme");
    bench.provider.token("narrow", &secret("other"), "endpoint-other");
    let mut of_acme = bench.client(V5, "of-acme", "user@acme", &password);
    let mut of_other = bench.client(V5, "of-other", "user@other", &password);
    // Nobody knows it, but it has spoken for the tenant.
    let mut anonymous = bench.device_of(V5, "anonymous");
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("acme"));
    anonymous.request(&topic, "[]", 1);
    bench.connectivity.wait_for("endpoint-acme", &[Connected]);

    bench.provider.unregister_tenant("acme");
    of_acme.expect_disconnect(0x98);
    anonymous.expect_disconnect(0x98);
    bench.connectivity.wait_for("endpoint-acme", &[Connected, Disconnected]);
    of_other.request(&format!("kp1/v2/dcx/{}/json/1", secret("other")), "[]", 1);
    // Whoever comes back is asked about again.
    bench.provider.bad_token("demo", &secret("acme"), 404, None);
    let answer = bench.device("again").request(&topic, "[]", 1);
    assert_eq!(error_of(&answer).0, 404);
}

#[test]
fn events_that_are_no_events_are_survived() {
    let bench = Secured::start();
    bench.provider.token("demo", &secret("one"), "one");
    let mut device = bench.device("device-1");
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("one"));
    device.request(&topic, "[]", 1);
    for subject in [
        "kaa.v1.events.cm.endpoint.token.revoked",
        "kaa.v1.events.cm.client.credential.revoked",
        "kaa.v1.events.ccm.client-credentials.basic.revoked",
        "kaa.v1.events.ccm.client-credentials.certificate.revoked",
        "kaa.v1.events.tenant-manager.tenant.lifecycle.unregistered",
        "kaa.v1.events.kpc.endpoint.connectivity.connected",
    ] {
        for junk in JUNK {
            bench.provider.publish(subject, junk);
        }
    }
    // Nor does it hurt to revoke what nobody has.
    bench.provider.revoke_token("unknown-app", "one");
    bench.provider.revoke_token("narrow", "one");
    bench.provider.token("demo", &secret("one"), "one");
    hear(&bench);
    device.request(&topic, "[]", 1);
    assert_eq!(device.next_within(PATIENCE / 100), Next::Nothing);
}

#[test]
fn what_was_revoked_while_nats_was_away_is_found_out() {
    let mut bench = Secured::start_with(asks_over_nats);
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("one"));
    bench.provider.token("demo", &secret("one"), "one");
    let mut device = bench.device("device-1");
    device.request(&topic, "[]", 1);
    bench.nats.kill();
    bench.gateway.wait_until_unhealthy();
    bench.provider.bad_token("demo", &secret("one"), 403, Some("revoked"));
    bench.nats.restart();
    bench.gateway.wait_until_healthy();
    let answer = eventually("the token to be asked about again", || {
        let answer = device.request(&topic, "[]", 1);
        answer.topic.ends_with("/error").then_some(answer)
    });
    assert_eq!(error_of(&answer).0, 403);
}
