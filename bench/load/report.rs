//! The figures of a run, for people and for scripts.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::options::Mode;
use crate::process::Usage;
use crate::tally::{Latency, Tally};

/// Everything a run found out.
pub struct Report {
    mode: &'static str,
    clients: u64,
    version: &'static str,
    qos: u8,
    pub tally: Tally,
    pub connect_seconds: f64,
    /// How long was published, listened or held.
    pub seconds: f64,
    /// Messages that were due but could not be written before the end.
    pub unsent: u64,
    /// Messages still unacknowledged or unanswered when waiting ended.
    pub in_flight: u64,
    pub own_cpu_s: f64,
    server_cpu_s: Option<f64>,
    server_rss_kib: Option<u64>,
    rss_kib_per_connection: Option<f64>,
}

impl Report {
    pub fn new(mode: &Mode) -> Self {
        let qos = match mode {
            Mode::Pub(options) => options.qos,
            Mode::Sub(options) => options.qos,
            Mode::Idle(_) | Mode::Conn(_) => 0,
        };
        let version = match mode.common().mqtt_version {
            crate::options::Version::V31 => "3.1",
            crate::options::Version::V311 => "3.1.1",
            crate::options::Version::V5 => "5.0",
        };
        Self {
            mode: mode.name(),
            clients: mode.common().clients,
            version,
            qos,
            tally: Tally::default(),
            connect_seconds: 0.0,
            seconds: 0.0,
            unsent: 0,
            in_flight: 0,
            own_cpu_s: 0.0,
            server_cpu_s: None,
            server_rss_kib: None,
            rss_kib_per_connection: None,
        }
    }

    /// The watched process before and after what is measured.
    pub fn cpu(&mut self, before: Option<Usage>, after: Option<Usage>) {
        if let (Some(before), Some(after)) = (before, after) {
            self.server_cpu_s = Some(after.cpu_s - before.cpu_s);
            self.server_rss_kib = Some(after.rss_kib);
        }
    }

    /// The watched process before and after `connections` more were held.
    pub fn slope(&mut self, connections: u64, low: Option<Usage>, high: Option<Usage>) {
        if let (Some(low), Some(high)) = (low, high) {
            let grown = high.rss_kib as f64 - low.rss_kib as f64;
            self.rss_kib_per_connection = Some(grown / connections as f64);
        }
    }

    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        let tally = &self.tally;
        tally.failed + tally.lost + tally.refused + tally.errors + self.in_flight == 0
    }

    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.tally.sent as f64 / self.seconds } else { 0.0 }
    }

    fn cpu_us_per(&self, count: u64) -> Option<f64> {
        self.server_cpu_s.filter(|_| count > 0).map(|cpu| cpu * 1e6 / count as f64)
    }

    /// One object of plain numbers and texts on one line.
    pub fn json(&self) -> Value {
        let tally = &self.tally;
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| {
            map.insert(key.to_owned(), value);
        };
        put("mode", json!(self.mode));
        put("mqtt_version", json!(self.version));
        put("qos", json!(self.qos));
        put("clients", json!(self.clients));
        put("connected", json!(tally.connected));
        put("failed", json!(tally.failed));
        put("lost", json!(tally.lost));
        put("reasons", json!(tally.reasons));
        put("connect_seconds", json!(self.connect_seconds));
        put("seconds", json!(self.seconds));
        put("sent", json!(tally.sent));
        put("sent_bytes", json!(tally.sent_bytes));
        put("sent_per_second", json!(self.rate()));
        put("unsent", json!(self.unsent));
        put("acknowledged", json!(tally.acknowledged));
        put("refused", json!(tally.refused));
        put("answered", json!(tally.answered));
        put("errors", json!(tally.errors));
        put("in_flight", json!(self.in_flight));
        put("received", json!(tally.received));
        put("received_bytes", json!(tally.received_bytes));
        put("behind_schedule_us_max", json!(tally.behind_ns_max / 1000));
        put("own_cpu_seconds", json!(self.own_cpu_s));
        put("server_cpu_seconds", json!(self.server_cpu_s));
        put("server_cpu_us_per_message", json!(self.cpu_us_per(tally.sent)));
        put("server_cpu_us_per_connect", json!(self.cpu_us_per_connect()));
        put("server_rss_kib", json!(self.server_rss_kib));
        put("server_rss_kib_per_connection", json!(self.rss_kib_per_connection));
        for (name, latency) in self.latencies() {
            for (quantile, label) in [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p999")] {
                put(&format!("{name}_us_{label}"), json!(latency.quantile_us(quantile)));
            }
            put(&format!("{name}_us_max"), json!(latency.max_us()));
        }
        Value::Object(map)
    }

    fn cpu_us_per_connect(&self) -> Option<f64> {
        if self.mode == "conn" { self.cpu_us_per(self.tally.connected) } else { None }
    }

    fn latencies(&self) -> impl Iterator<Item = (&'static str, &Latency)> {
        let tally = &self.tally;
        [
            ("connect", &tally.connect_us),
            ("acknowledged", &tally.acknowledged_us),
            ("answered", &tally.answered_us),
        ]
        .into_iter()
        .filter(|(_, latency)| !latency.is_empty())
    }

    /// Several lines for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("a String takes all that is written");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let tally = &self.tally;
        writeln!(
            out,
            "{} clients, MQTT {}: {} connected in {:.2} s ({:.0}/s), {} failed, {} lost",
            self.clients,
            self.version,
            tally.connected,
            self.connect_seconds,
            tally.connected as f64 / self.connect_seconds.max(1e-9),
            tally.failed,
            tally.lost
        )?;
        for reason in &tally.reasons {
            writeln!(out, "  {reason}")?;
        }
        if self.mode == "pub" {
            writeln!(
                out,
                "sent {} at QoS {} in {:.2} s ({:.0}/s, {:.1} MB/s), {} due but unsent, at worst \
                 {:.1} ms behind schedule",
                tally.sent,
                self.qos,
                self.seconds,
                self.rate(),
                tally.sent_bytes as f64 / 1e6 / self.seconds.max(1e-9),
                self.unsent,
                tally.behind_ns_max as f64 / 1e6
            )?;
            writeln!(
                out,
                "acknowledged {} ({} refused), answered {} ({} errors), {} left in flight",
                tally.acknowledged, tally.refused, tally.answered, tally.errors, self.in_flight
            )?;
        }
        if tally.received > 0 {
            writeln!(out, "received {} ({} bytes)", tally.received, tally.received_bytes)?;
        }
        for (name, latency) in self.latencies() {
            writeln!(
                out,
                "{name:<12} p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
                latency.quantile_us(0.5),
                latency.quantile_us(0.9),
                latency.quantile_us(0.99),
                latency.quantile_us(0.999),
                latency.max_us()
            )?;
        }
        self.write_usage(out)
    }

    fn write_usage(&self, out: &mut String) -> std::fmt::Result {
        if let Some(cpu) = self.server_cpu_s {
            write!(out, "server: {cpu:.2} s of CPU")?;
            if let Some(us) = self.cpu_us_per(self.tally.sent) {
                write!(out, ", {us:.3} us per message")?;
            }
            if let Some(us) = self.cpu_us_per_connect() {
                write!(out, ", {us:.1} us per connection")?;
            }
            if let Some(rss) = self.server_rss_kib {
                write!(out, ", {rss} KiB resident")?;
            }
            if let Some(kib) = self.rss_kib_per_connection {
                write!(out, ", {kib:.2} KiB per connection")?;
            }
            writeln!(out)?;
        }
        writeln!(out, "generator: {:.2} s of CPU", self.own_cpu_s)
    }
}
