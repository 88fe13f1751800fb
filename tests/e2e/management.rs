//! `GET /health` and `GET /metrics`.

use std::time::Duration;

use crate::harness::packet::{V5, V311};
use crate::harness::{Bench, eventually, eventually_within, http, let_time_pass};

#[test]
fn health_says_200_when_all_is_well() {
    let bench = Bench::start();
    let response = http::get(bench.gateway.admin, "/health").expect("an answer");
    assert_eq!(response.status, 200);
    assert!(response.head.contains("content-type: text/plain"), "{}", response.head);
}

#[test]
fn health_says_500_and_why_when_nats_is_down_and_200_when_it_is_back() {
    let mut bench = Bench::start();
    bench.nats.kill();
    let response = bench.gateway.wait_until_unhealthy();
    assert!(response.body.contains("NATS"), "{response:?}");
    assert!(response.head.contains("content-type: text/plain"), "{}", response.head);
    bench.nats.restart();
    bench.gateway.wait_until_healthy();
}

#[test]
fn health_notices_a_nats_server_that_stands_still() {
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.nats.ping-interval-ms", 200);
        settings.set("ringgate.nats.pings-outstanding-max", 2);
    });
    bench.nats.freeze();
    bench.gateway.wait_until_unhealthy();
    bench.nats.thaw();
    eventually_within(Duration::from_secs(40), "health to say 200 again", || {
        http::get(bench.gateway.admin, "/health").filter(|response| response.status == 200)
    });
}

#[test]
fn other_paths_and_methods_are_refused_as_http_says() {
    let bench = Bench::start();
    let status =
        |method, path| http::request(bench.gateway.admin, method, path).expect("an answer").status;
    assert_eq!(status("GET", "/"), 404);
    assert_eq!(status("GET", "/healthz"), 404);
    assert_eq!(status("POST", "/health"), 405);
    assert_eq!(status("DELETE", "/metrics"), 405);
    assert_eq!(status("GET", "/health?verbose"), 200);
    // No TLS is configured here.
    assert_eq!(status("GET", "/api/v1/certificate-chain"), 404);
    assert_eq!(status("POST", "/api/v1/certificate-chain"), 405);
}

#[test]
fn metrics_count_what_travelled() {
    let bench = Bench::start();
    let mut older = bench.device_of(V311, "older");
    let mut newer = bench.device_of(V5, "newer");
    for (device, endpoint) in [(&mut older, "token-1"), (&mut newer, "token-2")] {
        let topic = format!("kp1/v1/dcx/{endpoint}/json/1");
        device.request(&topic, "12345", 0);
        device.request(&topic, "1234567", 1);
        device.request(&topic, "123456789", 2);
    }
    older.disconnect();

    let gateway = &bench.gateway;
    let sum = |name: &str, label: &str| gateway.metric(name, &[label]);
    gateway.wait_for_metric("ringgate_uplink_messages_total", &[], 6.0);
    gateway.wait_for_metric("ringgate_connections_open", &[], 1.0);
    for (qos, bytes) in [("qos=\"0\"", 10.0), ("qos=\"1\"", 14.0), ("qos=\"2\"", 18.0)] {
        assert_eq!(sum("ringgate_messages_received_total", qos), 2.0);
        assert_eq!(sum("ringgate_payload_received_bytes_total", qos), bytes);
        assert_eq!(sum("ringgate_messages_sent_total", qos), 2.0);
        assert_eq!(sum("ringgate_payload_sent_bytes_total", qos), 0.0);
    }
    assert_eq!(gateway.metric("ringgate_connections_accepted_total", &[]), 2.0);
    assert_eq!(sum("ringgate_connections_closed_total", "reason=\"client_disconnect\""), 1.0);
    let batches = gateway.metric("ringgate_uplink_batches_total", &[]);
    assert!((1.0..=6.0).contains(&batches), "{batches} batches of six messages");
    assert!(gateway.metric("ringgate_uplink_sent_bytes_total", &[]) > 600.0);
    assert!(gateway.metric("ringgate_socket_received_bytes_total", &[]) > 200.0);
    assert!(gateway.metric("ringgate_socket_sent_bytes_total", &[]) > 200.0);
    gateway.wait_for_metric("ringgate_endpoints", &[], 1.0);
    gateway.wait_for_metric("ringgate_uplink_unconfirmed_bytes", &[], 0.0);
    assert_eq!(gateway.metric("ringgate_panics_total", &[]), 0.0);

    // Nobody is owed a confirmation for QoS 0, but a request may bring one.
    let confirmed = gateway.metric("ringgate_uplink_confirmed_messages_total", &[]);
    assert!((4.0..=6.0).contains(&confirmed), "{confirmed} confirmations");
    // Histograms are handed over at the shard's tick.
    eventually("every confirmation in the histogram", || {
        let count = gateway.metric("ringgate_uplink_confirm_seconds_count", &[]);
        (count >= confirmed).then_some(())
    });
    assert!(gateway.metric("ringgate_uplink_confirm_seconds_sum", &[]) > 0.0);
    gateway.wait_for_metric("ringgate_uplink_batch_size_messages_sum", &[], 6.0);
    let metrics = gateway.metrics();
    assert_eq!(
        metrics.sum("ringgate_uplink_confirm_seconds_bucket", &["le=\"+Inf\""]),
        metrics.sum("ringgate_uplink_confirm_seconds_count", &[]),
    );
}

#[test]
fn every_shard_reports_for_itself() {
    let bench = Bench::start_with(|settings| settings.set("ringgate.shards", 3));
    for shard in ["0", "1", "2"] {
        let label = format!("shard=\"{shard}\"");
        let utilisation = bench.gateway.metric("ringgate_loop_utilisation_ratio", &[&label]);
        assert!((0.0..=1.0).contains(&utilisation), "{utilisation}");
        assert!(bench.gateway.metric("ringgate_loop_wakeups_total", &[&label]) >= 0.0);
    }
    let text = bench.gateway.metrics().text;
    assert!(!text.contains("shard=\"3\""));
}

#[test]
fn metrics_are_prometheus_text_of_bounded_size() {
    let bench = Bench::start();
    let _devices: Vec<_> = (0..50).map(|n| bench.device(&format!("device-{n}"))).collect();
    let response = http::get(bench.gateway.admin, "/metrics").expect("an answer");
    assert!(
        response.head.contains("content-type: application/openmetrics-text")
            || response.head.contains("content-type: text/plain"),
        "{}",
        response.head
    );
    assert!(!response.body.contains("device-"), "a label names a client");
    for line in response.body.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().expect("a name");
        let known = ["ringgate_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(known, "{line}");
    }
}

#[test]
fn an_idle_gateway_sleeps() {
    let bench = Bench::start();
    let _devices: Vec<_> = (0..100).map(|n| bench.device(&format!("device-{n}"))).collect();
    let cpu = || bench.gateway.metric("process_cpu_seconds_total", &[]);
    // A window without scrapes; the measure is coarse, a busy loop would show as a whole second.
    let quiet = eventually("an idle second", || {
        let before = cpu();
        let_time_pass(Duration::from_secs(1));
        Some(cpu() - before)
    });
    assert!(quiet < 0.3, "{quiet} s of CPU in an idle second");
}
