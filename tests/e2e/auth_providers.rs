//! Credentials services that misbehave, or are not there.

use crate::harness::gateway::Gateway;
use crate::harness::nats::Nats;
use crate::harness::packet::{self, Connect, PUBACK, Publish, V5, V311};
use crate::harness::provider::{Behaviour, Provider};
use crate::harness::secured::{REQUEST_ATTEMPTS, Secured, asks_over_nats, error_of, secret};
use crate::harness::{device::Device, eventually, extension};

#[test]
fn a_provider_that_never_answers_is_asked_again_and_given_up_with_504() {
    let bench = Secured::start();
    bench.provider.behave(Behaviour::Silent);
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let mut device = bench.device("device-1");
    for round in 1..=2 {
        let answer = device.request(&format!("kp1/v1/dcx/{token}/json/1"), "[]", 0);
        assert_eq!(error_of(&answer).0, 504);
        // What nobody could say is not remembered.
        assert_eq!(bench.provider.count(&token) as u64, round * REQUEST_ATTEMPTS);
    }
    bench.gateway.wait_until_dropped("token_unvalidated", 2.0);
    bench.dcx.expect_silence();
    bench.provider.behave(Behaviour::Normal);
    device.request(&format!("kp1/v1/dcx/{token}/json/1"), "[]", 1);
    assert_eq!(bench.dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
}

#[test]
fn what_could_not_be_validated_is_not_acknowledged_as_if_it_were() {
    let bench = Secured::start();
    bench.provider.behave(Behaviour::Silent);
    let topic = format!("kp1/v1/dcx/{}/json", secret("good"));
    let mut device = bench.device_of(V5, "device-5");
    device.send_publish(&Publish::new(&topic, "[]").qos(1, 1));
    assert!(device.receive_ack(PUBACK).reason >= 0x80);
    device.ping();
    // Before version 5 there is no way to say so but to end: the client sends it again.
    let mut device = bench.device("device-4");
    device.send_publish(&Publish::new(&topic, "[]").qos(1, 1));
    device.expect_closed();
}

#[test]
fn no_provider_at_all_is_503_and_a_new_one_is_found() {
    let nats = Nats::start();
    let dcx = extension::Extension::start(&nats.url(), "dcx", extension::collects_data);
    let gateway = Gateway::start(&nats.url(), asks_over_nats);
    let token = secret("good");
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    let answer = device.request(&topic, "[]", 0);
    assert_eq!(error_of(&answer).0, 503);
    let client = Connect::new(V5, "client-1").credentials("user@acme", &secret("password"));
    assert_eq!(Device::refused(gateway.mqtt, client).code, 0x88);

    let provider = Provider::start(&nats.url());
    provider.token("demo", &token, "endpoint-1");
    let answer = device.request(&topic, "[]", 0);
    assert!(answer.topic.ends_with("/status"), "{answer:?}");
    assert_eq!(dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
}

#[test]
fn answers_that_make_no_sense_are_survived_and_let_nobody_in() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    bench.provider.client("acme", "user", &secret("password"));
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    let connect = || Connect::new(V5, "client").credentials("user@acme", &secret("password"));
    let mut device = bench.device("device-1");
    for behaviour in
        [Behaviour::Garbage, Behaviour::WrongCorrelation, Behaviour::Nonsense, Behaviour::Broken]
    {
        bench.provider.behave(behaviour);
        let (status, _) = error_of(&device.request(&topic, "[]", 0));
        assert!((500..600).contains(&status), "{behaviour:?}: {status}");
        assert_eq!(bench.refused(connect()).code, 0x88, "{behaviour:?}");
    }
    bench.dcx.expect_silence();
    bench.provider.behave(Behaviour::Twice);
    for request in 0..3 {
        device.request(&format!("kp1/v1/dcx/{token}/json/{request}"), "[]", 1);
    }
    bench.client(V5, "client", "user@acme", &secret("password")).ping();
    assert_eq!(bench.dcx.count(), 3);
    device.ping();
}

#[test]
fn an_answer_that_comes_too_late_is_only_counted() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    bench.provider.behave(Behaviour::Hold);
    let mut device = bench.device("device-1");
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    assert_eq!(error_of(&device.request(&topic, "[]", 0)).0, 504);
    bench.provider.release();
    bench.gateway.wait_for_metric(
        "ringgate_auth_requests_ended_total",
        &["outcome=\"late\""],
        REQUEST_ATTEMPTS as f64,
    );
    bench.dcx.expect_silence();
    device.ping();
    // And it is not taken for the answer to a later question.
    bench.provider.behave(Behaviour::Normal);
    bench.provider.bad_token("demo", &token, 403, None);
    assert_eq!(error_of(&device.request(&topic, "[]", 0)).0, 403);
}

#[test]
fn whatever_comes_on_the_reply_subjects_is_survived() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let mut device = bench.device("device-1");
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    device.request(&topic, "[]", 1);
    for message in ["ecap.ep-token-response", "cap.basic-response", "cap.certificate-response"] {
        for shard in 0..2 {
            let subject = format!("kaa.v1.replica.e2e-{shard}.{message}");
            for junk in [&b""[..], b"\0", &[0x80; 100], &[0xFF; 5000]] {
                bench.provider.publish(&subject, junk);
            }
        }
    }
    eventually("all of it to be counted", || {
        let labels = ["outcome=\"malformed\""];
        let count = bench.gateway.metric("ringgate_auth_requests_ended_total", &labels);
        (count >= 24.0).then_some(())
    });
    device.request(&topic, "[]", 1);
}

#[test]
fn while_nats_is_away_messages_wait_for_it_and_for_their_tokens() {
    let mut bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let mut device = bench.device("device-1");
    device.ping();
    bench.nats.kill();
    bench.gateway.wait_until_unhealthy();
    device.publish_qos0(&format!("kp1/v1/dcx/{token}/json"), "[1]");
    device.ping();
    // Longer than a provider that is there would get.
    crate::harness::let_time_pass(std::time::Duration::from_millis(2_000));
    // A client that wants in is told at once that nobody can say.
    let connect = Connect::new(packet::V311, "client").credentials("u@acme", &secret("password"));
    assert_eq!(bench.refused(connect).code, 3);
    bench.nats.restart();
    bench.dcx.wait_for_count(1);
    assert_eq!(bench.dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
}
