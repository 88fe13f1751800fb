//! The range of every number among the settings.

use std::fmt;

/// The values a number may take, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Least value.
    pub min: u64,
    /// Greatest value.
    pub max: u64,
    /// What the number counts; empty for a mere number.
    pub unit: &'static str,
}

impl Limit {
    const fn new(min: u64, max: u64, unit: &'static str) -> Self {
        Self { min, max, unit }
    }

    /// Refuses a value out of range, with the reason.
    pub(super) fn check(self, value: i128) -> Result<u64, String> {
        let space = if self.unit.is_empty() { "" } else { " " };
        if value < i128::from(self.min) {
            Err(format!("{value} is too small: at least {}{space}{}", self.min, self.unit))
        } else if value > i128::from(self.max) {
            Err(format!("{value} is too large: at most {}{space}{}", self.max, self.unit))
        } else {
            // Between two u64, so one itself.
            Ok(value as u64)
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// Bytes of a name that becomes a subject token or a topic level.
pub const NAME_BYTES_MAX: usize = 128;

/// `service.graceful-shutdown`
pub const GRACEFUL_SHUTDOWN_S: Limit = Limit::new(0, 3_600, "seconds");
/// Every port.
pub const PORT: Limit = Limit::new(1, 65_535, "");
/// `push-qos`
pub const QOS: Limit = Limit::new(0, 2, "");
/// `ringgate.shards`
pub const SHARDS: Limit = Limit::new(1, 1_024, "shards");
/// `ringgate.listen.backlog`
pub const BACKLOG: Limit = Limit::new(1, 65_535, "connections");

/// `ringgate.http.request-timeout-ms` and its like
pub const HTTP_TIMEOUT_MS: Limit = Limit::new(100, 600_000, "milliseconds");
/// `ringgate.websocket.frame-bytes-max`
pub const FRAME_BYTES: Limit = Limit::new(125, 1_073_741_824, "bytes");

/// `ringgate.tls-handshakes.max`
pub const TLS_HANDSHAKES: Limit = Limit::new(1, 1_000_000, "handshakes");
/// `ringgate.tls-handshakes.timeout-ms`
pub const TLS_HANDSHAKE_TIMEOUT_MS: Limit = Limit::new(100, 600_000, "milliseconds");

/// `ringgate.read-buffers.count`: the kernel takes at most 32768 in one ring.
pub const READ_BUFFERS: Limit = Limit::new(1, 32_768, "buffers");
/// `ringgate.read-buffers.bytes`
pub const READ_BUFFER_BYTES: Limit = Limit::new(1_024, 1_048_576, "bytes");

/// `ringgate.nats.connect-timeout-ms`
pub const NATS_CONNECT_TIMEOUT_MS: Limit = Limit::new(100, 60_000, "milliseconds");
/// `ringgate.nats.reconnect-delay-ms-min` and `-max`
pub const RECONNECT_DELAY_MS: Limit = Limit::new(1, 600_000, "milliseconds");
/// `ringgate.nats.ping-interval-ms`
pub const PING_INTERVAL_MS: Limit = Limit::new(100, 600_000, "milliseconds");
/// `ringgate.nats.pings-outstanding-max`
pub const PINGS_OUTSTANDING: Limit = Limit::new(1, 100, "pings");
/// `ringgate.nats.batch-bytes-max`
pub const BATCH_BYTES: Limit = Limit::new(4_096, 67_108_864, "bytes");
/// `ringgate.nats.unconfirmed-bytes-max`
pub const UNCONFIRMED_BYTES: Limit = Limit::new(65_536, 68_719_476_736, "bytes");

/// `ringgate.mqtt.packet-bytes-max`: the upper end is what a remaining length can say
/// (MQTT 5.0 §1.5.5), with the fixed header.
pub const PACKET_BYTES: Limit = Limit::new(1_024, 268_435_460, "bytes");
/// `ringgate.mqtt.connect-timeout-ms`
pub const MQTT_CONNECT_TIMEOUT_MS: Limit = Limit::new(100, 600_000, "milliseconds");
/// `ringgate.mqtt.keep-alive-s-max`: 16 bits in CONNECT.
pub const KEEP_ALIVE_S: Limit = Limit::new(0, 65_535, "seconds");
/// `ringgate.mqtt.client-id-bytes-max`: 23 is what a server must allow (MQTT-3.1.3-5).
pub const CLIENT_ID_BYTES: Limit = Limit::new(23, 65_535, "bytes");
/// `ringgate.mqtt.receive-maximum`: 16 bits, 0 is a protocol error (MQTT 5.0 §3.2.2.3.3).
pub const RECEIVE_MAXIMUM: Limit = Limit::new(1, 65_535, "messages");
/// `ringgate.mqtt.topic-alias-maximum`
pub const TOPIC_ALIAS_MAXIMUM: Limit = Limit::new(0, 65_535, "aliases");
/// `ringgate.mqtt.session-expiry-s-max`: 4294967295 is never (MQTT 5.0 §3.1.2.11.2).
pub const SESSION_EXPIRY_S: Limit = Limit::new(0, 4_294_967_295, "seconds");
/// `ringgate.mqtt.sessions-kept-max`
pub const SESSIONS_KEPT: Limit = Limit::new(0, 100_000_000, "sessions");
/// `ringgate.mqtt.subscriptions-max`
pub const SUBSCRIPTIONS: Limit = Limit::new(1, 65_535, "subscriptions");
/// `ringgate.mqtt.outbound-messages-max`
pub const OUTBOUND_MESSAGES: Limit = Limit::new(1, 65_535, "messages");
/// `ringgate.mqtt.outbound-bytes-max`
pub const OUTBOUND_BYTES: Limit = Limit::new(1_024, 1_073_741_824, "bytes");
/// `ringgate.mqtt.endpoints-max`
pub const ENDPOINTS: Limit = Limit::new(1, 10_000_000, "endpoints");
/// `ringgate.mqtt.connections-max`
pub const CONNECTIONS: Limit = Limit::new(1, 100_000_000, "connections");

/// `ringgate.auth.request-timeout-ms`
pub const AUTH_REQUEST_TIMEOUT_MS: Limit = Limit::new(100, 60_000, "milliseconds");
/// `ringgate.auth.request-attempts`
pub const AUTH_REQUEST_ATTEMPTS: Limit = Limit::new(1, 10, "attempts");
/// `ringgate.auth.requests-max`
pub const AUTH_REQUESTS: Limit = Limit::new(1, 1_000_000, "requests");
/// `ringgate.auth.verdict-ttl-s`
pub const VERDICT_TTL_S: Limit = Limit::new(1, 86_400, "seconds");
/// `ringgate.auth.rejection-ttl-s`
pub const REJECTION_TTL_S: Limit = Limit::new(0, 3_600, "seconds");
/// `ringgate.auth.verdicts-max`
pub const VERDICTS: Limit = Limit::new(1, 10_000_000, "verdicts");
/// `ringgate.auth.client-verdict-ttl-s`
pub const CLIENT_VERDICT_TTL_S: Limit = Limit::new(0, 86_400, "seconds");
/// `ringgate.auth.parked-bytes-max`
pub const PARKED_BYTES: Limit = Limit::new(1_024, 1_073_741_824, "bytes");
/// `ringgate.auth.parked-bytes-max-per-shard`
pub const PARKED_BYTES_PER_SHARD: Limit = Limit::new(1_024, 68_719_476_736, "bytes");
/// `ringgate.auth.login-failures-max-per-address` and `-per-username`
pub const LOGIN_FAILURES: Limit = Limit::new(0, 1_000_000, "failures");
/// `ringgate.auth.login-failures-window-s`
pub const LOGIN_FAILURES_WINDOW_S: Limit = Limit::new(1, 86_400, "seconds");
/// `ringgate.auth.http.concurrency-max`
pub const HTTP_CONCURRENCY: Limit = Limit::new(1, 4_096, "requests");

/// `ringgate.credentials.verifier-threads`
pub const VERIFIER_THREADS: Limit = Limit::new(1, 64, "threads");
/// `ringgate.credentials.queue-max`
pub const VERIFIER_QUEUE: Limit = Limit::new(1, 1_000_000, "questions");

/// `ringgate.connectivity.window-ms`
pub const CONNECTIVITY_WINDOW_MS: Limit = Limit::new(0, 1_000, "milliseconds");

/// `ringgate.esp.client-data-timeout-ms`
pub const CLIENT_DATA_TIMEOUT_MS: Limit = Limit::new(0, 86_400_000, "milliseconds");
