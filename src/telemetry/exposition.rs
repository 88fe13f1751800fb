//! `/metrics`: every shard's counters as OpenMetrics text, read at scrape.
//!
//! Labels are `shard`, `qos`, `reason`, `status`, `kind` and nothing a device can choose, so the
//! number of series is bounded by the number of shards.

use super::histogram::{BATCH_BUCKETS, Buckets, LATENCY_BUCKETS_US, SharedHistogram};
use super::labels::{
    AnswerStatus, AskOutcome, CloseReason, ConnectRefusal, ConnectivityKind, DropReason,
    HttpStatus, PushDrop, RevocationKind, TlsFailure, WebSocketFailure,
};
use super::{ControlCounters, Counter, ShardCounters, process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// What [`Metrics::render`] returns, as Prometheus names it.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics(Registry);

impl Metrics {
    /// Metrics of these shards, numbered by their place, and of the control thread.
    #[must_use]
    pub fn new(shards: Vec<Arc<ShardCounters>>, control: Arc<ControlCounters>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(All { shards, control }));
        Self(registry)
    }

    /// The text of one scrape, of the type [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(64 * 1_024);
        // Writing to a String does not fail, and no encoder here makes an error of its own.
        prometheus_client::encoding::text::encode(&mut text, &self.0)
            .expect("a String takes any text");
        text
    }
}

#[derive(Debug)]
struct All {
    shards: Vec<Arc<ShardCounters>>,
    control: Arc<ControlCounters>,
}

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out { encoder: &mut encoder, shards: &self.shards };
        for (name, help, read) in COUNTERS {
            out.per_shard(name, help, MetricType::Counter, |shard| Value::Int(read(shard)))?;
        }
        for (name, help, read) in GAUGES {
            out.per_shard(name, help, MetricType::Gauge, |shard| Value::Int(read(shard)))?;
        }
        out.by_label()?;
        out.loop_times()?;
        out.histograms()?;
        out.control(&self.control)?;
        out.process()?;
        out.build()
    }
}

/// Name, help and source of a figure that each shard has once. The encoder appends `_total` to
/// the names of counters.
type Plain = (&'static str, &'static str, fn(&ShardCounters) -> u64);

const COUNTERS: &[Plain] = &[
    ("ringgate_connections_accepted", "Device connections accepted.", |s| {
        s.connections_accepted.get()
    }),
    ("ringgate_connections_refused", "Device connections closed at the limit.", |s| {
        s.connections_refused.get()
    }),
    ("ringgate_sessions_resumed", "CONNECTs that found their session kept.", |s| {
        s.sessions_resumed.get()
    }),
    ("ringgate_takeovers", "Connections ended by a new one with their client id.", |s| {
        s.takeovers.get()
    }),
    ("ringgate_socket_received_bytes", "Bytes read from device sockets.", |s| {
        s.socket_bytes_in.get()
    }),
    ("ringgate_socket_sent_bytes", "Bytes written to device sockets.", |s| {
        s.socket_bytes_out.get()
    }),
    ("ringgate_http_requests", "Whole requests over HTTP.", |s| s.http_requests.get()),
    ("ringgate_http_received_bytes", "Bytes of the bodies of requests over HTTP.", |s| {
        s.http_body_bytes_in.get()
    }),
    ("ringgate_wills_ignored", "Wills accepted and not kept.", |s| s.wills_ignored.get()),
    ("ringgate_retained_ignored", "Retain flags ignored.", |s| s.retained_ignored.get()),
    ("ringgate_uplink_batches", "Batches written to NATS.", |s| s.batches.get()),
    ("ringgate_uplink_messages", "Messages written to NATS.", |s| s.batch_messages.get()),
    ("ringgate_uplink_sent_bytes", "Bytes of the batches written to NATS.", |s| {
        s.batch_bytes.get()
    }),
    ("ringgate_uplink_confirmed_messages", "Messages that NATS has confirmed.", |s| {
        s.confirmations.get()
    }),
    ("ringgate_uplink_reconnects", "Times the NATS link came up again.", |s| {
        s.link_reconnects.get()
    }),
    (
        "ringgate_uplink_qos0_lost",
        "QoS 0 messages written but not confirmed when the NATS link broke.",
        |s| s.qos0_lost_on_reconnect.get(),
    ),
    ("ringgate_uplink_no_responders", "Messages that no extension service listens for.", |s| {
        s.no_responders.get()
    }),
    ("ringgate_uplink_errors", "Errors reported by the NATS server.", |s| s.nats_errors.get()),
    ("ringgate_auth_requests", "Attempts to ask a provider of credentials.", |s| s.asks_made.get()),
    ("ringgate_reports_lost", "Reports to the control thread lost.", |s| s.reports_lost.get()),
    ("ringgate_panics", "Panics caught in the handling of one connection.", |s| s.panics.get()),
    ("ringgate_read_buffers_exhausted", "Times no receive buffer was left.", |s| {
        s.read_buffers_exhausted.get()
    }),
    ("ringgate_pauses", "Times a connection was not read because the uplink was full.", |s| {
        s.pauses.get()
    }),
    ("ringgate_loop_wakeups", "Times the shard's loop woke up.", |s| s.loop_wakeups.get()),
];

const GAUGES: &[Plain] = &[
    ("ringgate_connections_open", "Device connections open.", |s| s.connections_open.get()),
    ("ringgate_tls_handshakes_pending", "TLS handshakes under way.", |s| {
        s.tls_handshakes_under_way.get()
    }),
    ("ringgate_http_exchanges", "Requests over HTTP being answered.", |s| s.http_exchanges.get()),
    ("ringgate_sessions", "Sessions connected.", |s| s.sessions.get()),
    (
        "ringgate_sessions_kept",
        "Sessions that wait for their client to come back; shard 0 says it for the process.",
        |s| s.sessions_kept.get(),
    ),
    ("ringgate_subscriptions", "Subscriptions of the connected sessions.", |s| {
        s.subscriptions.get()
    }),
    ("ringgate_endpoints", "Endpoints with a route.", |s| s.endpoints.get()),
    ("ringgate_auth_requests_pending", "Questions to providers under way.", |s| {
        s.asks_pending.get()
    }),
    (
        "ringgate_auth_parked_bytes",
        "Bytes of messages that wait for endpoint tokens to be validated.",
        |s| s.parked_bytes.get(),
    ),
    ("ringgate_auth_verdicts", "Verdicts on endpoint tokens remembered.", |s| s.verdicts.get()),
    ("ringgate_clients_authenticated", "Clients connected that have proven who they are.", |s| {
        s.clients_authenticated.get()
    }),
    ("ringgate_uplink_unconfirmed_bytes", "Bytes kept until NATS confirms them.", |s| {
        s.unconfirmed_bytes.get()
    }),
];

enum Value {
    Int(u64),
    Float(f64),
}

/// The state of one scrape.
struct Out<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    shards: &'a [Arc<ShardCounters>],
}

impl Out<'_, '_> {
    /// One series per shard.
    fn per_shard(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        read: impl Fn(&ShardCounters) -> Value,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, metric_type)?;
        for (number, shard) in self.shards.iter().enumerate() {
            put(&mut metric, &[("shard", number)], metric_type, &read(shard))?;
        }
        Ok(())
    }

    /// One counter per shard and value of the label `key`.
    fn per_shard_by(
        &mut self,
        (name, help): (&str, &str),
        key: &'static str,
        values: impl Iterator<Item = &'static str> + Clone,
        read: impl Fn(&ShardCounters) -> &[Counter],
    ) -> fmt::Result {
        let counter = MetricType::Counter;
        let mut metric = self.encoder.encode_descriptor(name, help, None, counter)?;
        for (number, shard) in self.shards.iter().enumerate() {
            for (value, count) in values.clone().zip(read(shard)) {
                let labels = ([("shard", number)], [(key, value)]);
                put(&mut metric, &labels, counter, &Value::Int(count.get()))?;
            }
        }
        Ok(())
    }

    fn by_label(&mut self) -> fmt::Result {
        let qos = ["0", "1", "2"].into_iter();
        let name = ("ringgate_messages_received", "PUBLISH packets from devices.");
        self.per_shard_by(name, "qos", qos.clone(), |s| &s.messages_in)?;
        let name = ("ringgate_payload_received_bytes", "Payload bytes from devices.");
        self.per_shard_by(name, "qos", qos.clone(), |s| &s.payload_bytes_in)?;
        let name = ("ringgate_messages_sent", "PUBLISH packets to devices.");
        self.per_shard_by(name, "qos", qos.clone(), |s| &s.messages_out)?;
        let name = ("ringgate_payload_sent_bytes", "Payload bytes to devices.");
        self.per_shard_by(name, "qos", qos, |s| &s.payload_bytes_out)?;

        let closes = CloseReason::ALL.iter().map(|reason| reason.as_str());
        let name = ("ringgate_connections_closed", "Device connections ended.");
        self.per_shard_by(name, "reason", closes, |s| &s.connections_closed)?;
        let kinds = ["full", "resumed"].into_iter();
        let name = ("ringgate_tls_handshakes", "TLS handshakes of devices that ended well.");
        self.per_shard_by(name, "kind", kinds, |s| &s.tls_handshakes)?;
        let failures = TlsFailure::ALL.iter().map(|reason| reason.as_str());
        let name = ("ringgate_tls_failures", "Connections whose TLS failed.");
        self.per_shard_by(name, "reason", failures, |s| &s.tls_failures)?;
        let failures = WebSocketFailure::ALL.iter().map(|reason| reason.as_str());
        let name = ("ringgate_websocket_failures", "Connections whose WebSocket failed.");
        self.per_shard_by(name, "reason", failures, |s| &s.websocket_failures)?;
        let statuses = HttpStatus::ALL.iter().map(|status| status.as_str());
        let name = ("ringgate_http_responses", "Responses over HTTP.");
        self.per_shard_by(name, "status", statuses, |s| &s.http_responses)?;
        let refusals = ConnectRefusal::ALL.iter().map(|reason| reason.as_str());
        let name = ("ringgate_connects_refused", "CONNECTs answered with a refusal.");
        self.per_shard_by(name, "reason", refusals, |s| &s.connects_refused)?;
        let asked = AskOutcome::ALL.iter().map(|outcome| outcome.as_str());
        let name = ("ringgate_auth_requests_ended", "What came of asking providers.");
        self.per_shard_by(name, "outcome", asked, |s| &s.asks_ended)?;
        let drops = DropReason::ALL.iter().map(|reason| reason.as_str());
        let name = ("ringgate_messages_dropped", "Messages dropped.");
        self.per_shard_by(name, "reason", drops, |s| &s.messages_dropped)?;
        let statuses = AnswerStatus::ALL.iter().map(|status| status.as_str());
        let name = ("ringgate_answers_error", "Error answers that ringgate gave to devices.");
        self.per_shard_by(name, "status", statuses, |s| &s.answers_error)
    }

    fn loop_times(&mut self) -> fmt::Result {
        self.per_shard(
            "ringgate_loop_busy_seconds",
            "Time the shard's loop spent working.",
            MetricType::Counter,
            |shard| Value::Float(shard.loop_busy_ns.get() as f64 / 1e9),
        )?;
        self.per_shard(
            "ringgate_loop_utilisation_ratio",
            "Share of the time between the shard's last two ticks spent working.",
            MetricType::Gauge,
            |shard| Value::Float(shard.loop_utilisation_ppm.get() as f64 / 1e6),
        )
    }

    fn histograms(&mut self) -> fmt::Result {
        self.histogram(
            "ringgate_uplink_confirm_seconds",
            "Time from a PUBLISH read to its batch confirmed by NATS.",
            &LATENCY_BUCKETS_US,
            1e-6,
            |shard| &shard.confirm_latency,
        )?;
        self.histogram(
            "ringgate_uplink_batch_size_messages",
            "Messages per batch written to NATS.",
            &BATCH_BUCKETS,
            1.0,
            |shard| &shard.batch_sizes,
        )
    }

    /// One histogram per shard; `unit` turns recorded values into exposed ones.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[u64],
        unit: f64,
        read: impl Fn(&ShardCounters) -> &SharedHistogram,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (number, shard) in self.shards.iter().enumerate() {
            let Buckets { sum, count, counts } = read(shard).buckets(bounds);
            let upper = bounds.iter().map(|bound| *bound as f64 * unit).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = upper.zip(counts).collect();
            metric.encode_family(&[("shard", number)])?.encode_histogram::<NoLabelSet>(
                sum as f64 * unit,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn control(&mut self, control: &ControlCounters) -> fmt::Result {
        let counters = [
            (
                "ringgate_pushes_received",
                "Messages heard on the instance-wide ExtensionData subject.",
                &control.pushes_received,
            ),
            ("ringgate_pushes_posted", "Pushes given to a shard.", &control.pushes_posted),
            (
                "ringgate_directory_full",
                "Reports of endpoints that the directory had no room for.",
                &control.directory_full,
            ),
            ("ringgate_tls_renewed", "TLS profiles made anew.", &control.tls_renewed),
            (
                "ringgate_tls_refused",
                "TLS profiles whose changed files were refused.",
                &control.tls_refused,
            ),
            (
                "ringgate_endpoints_alien",
                "Reports of endpoints whose id another tenant's endpoint has.",
                &control.endpoints_alien,
            ),
            (
                "ringgate_routes_moved",
                "Times an endpoint moved to another shard.",
                &control.routes_moved,
            ),
            (
                "ringgate_route_moves_lost",
                "Route moves not told to the old shard, its mailbox being full.",
                &control.route_moves_lost,
            ),
            (
                "ringgate_connectivity_repeated",
                "Events about endpoints sent again, NATS not having spread them in time.",
                &control.connectivity_repeated,
            ),
            (
                "ringgate_connectivity_lost",
                "Changes of endpoints that were never told, too many having waited.",
                &control.connectivity_lost,
            ),
            ("ringgate_roamed", "Endpoints that moved to another replica.", &control.roamed),
            (
                "ringgate_revocations_own",
                "Revocations made by this process's own store.",
                &control.revocations_own,
            ),
            ("ringgate_doubts", "Times that revocations may have been missed.", &control.doubts),
            (
                "ringgate_mails_given_up",
                "Mails to a shard given up, its mailbox having been full for long.",
                &control.mails_given_up,
            ),
            (
                "ringgate_events_malformed",
                "Events of other services that cannot be read.",
                &control.events_malformed,
            ),
            (
                "ringgate_questions_served",
                "Questions of other gateways to this process's own store.",
                &control.questions_served,
            ),
            (
                "ringgate_questions_ignored",
                "Of those, not answered: too late, unreadable, or without a reply subject.",
                &control.questions_ignored,
            ),
            (
                "ringgate_replies_lost",
                "Answers to such questions given up, too many having waited for NATS.",
                &control.replies_lost,
            ),
            (
                "ringgate_control_disconnects",
                "Times the control thread lost NATS.",
                &control.link_disconnects,
            ),
        ];
        for (name, help, counter) in counters {
            self.single(name, help, MetricType::Counter, &Value::Int(counter.get()))?;
        }
        let endpoints = Value::Int(control.directory_endpoints.get());
        let help = "Endpoints known to the control thread.";
        self.single("ringgate_directory_endpoints", help, MetricType::Gauge, &endpoints)?;

        let pending = Value::Int(control.connectivity_pending.get());
        let help = "Changes of endpoints that NATS has not spread yet.";
        self.single("ringgate_connectivity_pending", help, MetricType::Gauge, &pending)?;
        self.control_by_label(control)
    }

    fn control_by_label(&mut self, control: &ControlCounters) -> fmt::Result {
        let reasons = PushDrop::ALL.iter().map(|reason| reason.as_str());
        let name = ("ringgate_pushes_dropped", "Pushes given to no shard.");
        self.by(name, "reason", reasons, &control.pushes_dropped)?;
        let kinds = ConnectivityKind::ALL.iter().map(|kind| kind.as_str());
        let name = ("ringgate_connectivity_events", "Events about endpoints, without repetitions.");
        self.by(name, "kind", kinds.clone(), &control.connectivity_events)?;
        let name = ("ringgate_connectivity_endpoints", "Endpoints named by those events.");
        self.by(name, "kind", kinds, &control.connectivity_endpoints)?;
        let kinds = RevocationKind::ALL.iter().map(|kind| kind.as_str());
        let name = ("ringgate_revocations", "Revocations given to the shards.");
        self.by(name, "kind", kinds, &control.revocations)
    }

    /// One counter of the control thread per value of the label `key`.
    fn by(
        &mut self,
        (name, help): (&str, &str),
        key: &'static str,
        values: impl Iterator<Item = &'static str>,
        counts: &[Counter],
    ) -> fmt::Result {
        let counter = MetricType::Counter;
        let mut metric = self.encoder.encode_descriptor(name, help, None, counter)?;
        for (value, count) in values.zip(counts) {
            put(&mut metric, &[(key, value)], counter, &Value::Int(count.get()))?;
        }
        Ok(())
    }

    /// The metrics that every process has by convention, under their usual names.
    fn process(&mut self) -> fmt::Result {
        let gauge = MetricType::Gauge;
        if let Some(bytes) = process::resident_memory_bytes() {
            let name = "process_resident_memory_bytes";
            self.single(name, "Resident memory size.", gauge, &Value::Int(bytes))?;
        }
        if let Some(fds) = process::open_fds() {
            self.single("process_open_fds", "Open descriptors.", gauge, &Value::Int(fds))?;
        }
        if let Some(fds) = process::max_fds() {
            self.single("process_max_fds", "Limit of descriptors.", gauge, &Value::Int(fds))?;
        }
        if let Some(seconds) = process::start_time_seconds() {
            let name = "process_start_time_seconds";
            self.single(name, "Start time since the epoch.", gauge, &Value::Float(seconds))?;
        }
        if let Some(seconds) = process::cpu_seconds() {
            let name = "process_cpu_seconds";
            let help = "User and system CPU time.";
            self.single(name, help, MetricType::Counter, &Value::Float(seconds))?;
        }
        Ok(())
    }

    fn build(&mut self) -> fmt::Result {
        let name = "ringgate_build";
        let help = "Version of ringgate.";
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        metric.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    /// A metric of one series without labels.
    fn single(
        &mut self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        value: &Value,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, metric_type)?;
        put_value(&mut metric, metric_type, value)
    }
}

fn put(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    metric_type: MetricType,
    value: &Value,
) -> fmt::Result {
    put_value(&mut metric.encode_family(labels)?, metric_type, value)
}

fn put_value(
    metric: &mut MetricEncoder<'_>,
    metric_type: MetricType,
    value: &Value,
) -> fmt::Result {
    match (metric_type, value) {
        (MetricType::Counter, Value::Int(value)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (MetricType::Counter, Value::Float(value)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(value, None)
        }
        (_, Value::Int(value)) => metric.encode_gauge(value),
        (_, Value::Float(value)) => metric.encode_gauge(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchSizes, Latency};
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// What a strict reader makes of a scrape: the type of each family and every sample.
    struct Scrape {
        types: HashMap<String, String>,
        samples: HashMap<String, f64>,
    }

    /// Reads OpenMetrics text line by line and panics at what is not allowed.
    fn parse(text: &str) -> Scrape {
        let (mut types, mut helps) = (HashMap::new(), HashSet::new());
        let mut samples = HashMap::new();
        let body = text.strip_suffix("# EOF\n").expect("ends with the EOF marker");
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("HELP has a text");
                assert!(help.ends_with('.'), "{line}");
                assert!(helps.insert(name.to_owned()), "{name} twice");
            } else if let Some(metric_type) = line.strip_prefix("# TYPE ") {
                let (name, metric_type) = metric_type.split_once(' ').expect("TYPE has a type");
                assert!(helps.contains(name), "{name} has no HELP before");
                types.insert(name.to_owned(), metric_type.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                check_series(series, &types);
                let value = value.parse().expect("a number");
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} twice");
            }
        }
        Scrape { types, samples }
    }

    /// A series must belong to a family that was declared, by the suffix its type asks for, and
    /// carry allowed labels only.
    fn check_series(series: &str, types: &HashMap<String, String>) {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffixes = [
            ("_total", "counter"),
            ("", "gauge"),
            ("_info", "info"),
            ("_sum", "histogram"),
            ("_count", "histogram"),
            ("_bucket", "histogram"),
        ];
        assert!(
            suffixes.iter().any(|(suffix, metric_type)| {
                let family = name.strip_suffix(suffix).unwrap_or_default();
                types.get(family).is_some_and(|declared| declared == metric_type)
            }),
            "{series} belongs to no family"
        );
        let labels = labels.strip_suffix('}').expect("labels are closed");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').expect("a label has a value");
            let allowed = ["shard", "qos", "reason", "status", "outcome", "kind", "le", "version"];
            assert!(allowed.contains(&key), "{label}");
            assert!(value.len() >= 3 && value.starts_with('"') && value.ends_with('"'), "{label}");
        }
    }

    fn metrics(shards: usize) -> (Vec<Arc<ShardCounters>>, Arc<ControlCounters>, Metrics) {
        let shards: Vec<_> = (0..shards).map(|_| Arc::new(ShardCounters::new())).collect();
        let control = Arc::new(ControlCounters::default());
        let metrics = Metrics::new(shards.clone(), control.clone());
        (shards, control, metrics)
    }

    #[test]
    fn every_line_is_valid_and_every_family_is_described() {
        let (_, _, metrics) = metrics(3);
        let scrape = parse(&metrics.render());
        for name in COUNTERS.iter().map(|plain| plain.0) {
            assert_eq!(scrape.types[name], "counter");
            assert_eq!(scrape.samples[&format!("{name}_total{{shard=\"2\"}}")], 0.0);
        }
        for name in ["ringgate_uplink_confirm_seconds", "ringgate_uplink_batch_size_messages"] {
            assert_eq!(scrape.types[name], "histogram");
        }
        assert!(scrape.samples["process_resident_memory_bytes"] > 0.0);
        assert!(scrape.samples.contains_key("process_cpu_seconds_total"));
        assert_eq!(scrape.types["ringgate_build"], "info");
    }

    #[test]
    fn shows_what_the_shards_and_the_control_thread_count() {
        let (shards, control, metrics) = metrics(2);
        shards[1].messages_in[1].add(7);
        shards[1].closed(CloseReason::KeepAliveTimeout);
        shards[0].dropped(DropReason::UplinkFull);
        shards[0].answered(503);
        shards[0].connections_open.set(4);
        shards[0].loop_busy_ns.add(1_500_000_000);
        shards[0].loop_utilisation_ppm.set(250_000);
        control.push_dropped(PushDrop::NotHeld);
        control.connectivity_endpoints[ConnectivityKind::Disconnected.index()].add(5);
        control.revocations[RevocationKind::Client.index()].add(2);
        let samples = parse(&metrics.render()).samples;
        for (series, value) in [
            (r#"ringgate_messages_received_total{shard="1",qos="1"}"#, 7.0),
            (r#"ringgate_messages_received_total{shard="0",qos="1"}"#, 0.0),
            (r#"ringgate_connections_closed_total{shard="1",reason="keep_alive_timeout"}"#, 1.0),
            (r#"ringgate_messages_dropped_total{shard="0",reason="uplink_full"}"#, 1.0),
            (r#"ringgate_answers_error_total{shard="0",status="503"}"#, 1.0),
            (r#"ringgate_connections_open{shard="0"}"#, 4.0),
            (r#"ringgate_loop_busy_seconds_total{shard="0"}"#, 1.5),
            (r#"ringgate_loop_utilisation_ratio{shard="0"}"#, 0.25),
            (r#"ringgate_pushes_dropped_total{reason="not_held"}"#, 1.0),
            (r#"ringgate_connectivity_endpoints_total{kind="disconnected"}"#, 5.0),
            (r#"ringgate_revocations_total{kind="client"}"#, 2.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }

    #[test]
    fn histograms_are_cumulative_and_in_base_units() {
        let (shards, _, metrics) = metrics(1);
        let mut latency = Latency::new();
        latency.record_us(900, 3);
        latency.record_us(2_000_000, 1);
        assert!(latency.hand_over(&shards[0].confirm_latency));
        let mut sizes = BatchSizes::new();
        sizes.record(10);
        assert!(sizes.hand_over(&shards[0].batch_sizes));

        let samples = parse(&metrics.render()).samples;
        let bucket = |le: &str| {
            samples[&format!("ringgate_uplink_confirm_seconds_bucket{{le=\"{le}\",shard=\"0\"}}")]
        };
        assert_eq!(bucket("0.0005"), 0.0);
        assert_eq!(bucket("0.001"), 3.0);
        assert_eq!(bucket("1.0"), 3.0);
        assert_eq!(bucket("2.5"), 4.0);
        assert_eq!(bucket("+Inf"), 4.0);
        assert_eq!(samples[r#"ringgate_uplink_confirm_seconds_count{shard="0"}"#], 4.0);
        let sum = samples[r#"ringgate_uplink_confirm_seconds_sum{shard="0"}"#];
        assert!((sum - 2.0027).abs() < 1e-9, "{sum}");
        assert_eq!(
            samples[r#"ringgate_uplink_batch_size_messages_bucket{le="16.0",shard="0"}"#],
            1.0
        );
    }
}
