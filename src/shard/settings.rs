//! What the configuration says to one shard.

use super::asks;
use super::doors::ListenerPlan;
use super::seats::Seats;
use super::tenants::Tenants;
use crate::auth::Provider;
use crate::codec::avro::ConfigName;
use crate::config::{Qos0WhenFull, WhenUnavailable};
use crate::session::Policy;
use crate::session::catalogue::AppId;

/// Environment variable of debug builds: a PUBLISH to the topic it holds panics.
#[cfg(debug_assertions)]
pub const FAULT_VARIABLE: &str = "RINGGATE_FAULT_PANIC_TOPIC";

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    /// `<replica id>-<shard>`: names the shard in NATS subjects.
    pub replica: String,
    /// Core the thread is tied to.
    pub core: Option<usize>,
    /// Limits of HTTP.
    pub http: HttpSettings,
    /// What holds at each listener, by its number.
    pub listeners: Vec<ListenerPlan>,
    /// Places for connections, whatever their listener.
    pub seats: Seats,
    /// Endpoints one connection may speak for.
    pub endpoints_max: usize,
    /// Milliseconds from accepted to CONNECT.
    pub connect_timeout_ms: u32,
    /// Milliseconds from accepted to the end of the TLS handshake.
    pub tls_handshake_timeout_ms: u32,
    /// TLS handshakes of this shard that may be under way at a time.
    pub tls_handshakes_max: usize,
    /// Limits of a session.
    pub policy: Policy,
    /// Who may talk.
    pub auth: AuthSettings,
    /// How `configName` is written.
    pub config_name: ConfigName,
    /// The field `timeout` of a ClientData, in milliseconds; 0: none.
    pub client_data_timeout_ms: u32,
    /// What becomes of a publication while NATS is away.
    pub when_unavailable: WhenUnavailable,
    /// What becomes of a QoS 0 publication when there is no room.
    pub qos0_when_full: Qos0WhenFull,
    /// Read buffers of the device ring; a power of two.
    pub read_buffer_count: u16,
    /// Bytes of each.
    pub read_buffer_bytes: u32,
    /// Milliseconds a stopping shard may take.
    pub drain_ms_max: u64,
    /// The topic of [`FAULT_VARIABLE`].
    #[cfg(debug_assertions)]
    pub fault_topic: Option<String>,
}

impl ShardSettings {
    /// Takes a place for a connection at a listener, if one is free.
    pub(super) fn take_seat(&self, listener: u16) -> bool {
        let at_listener = &self.listeners[usize::from(listener)].seats;
        if !at_listener.take() {
            return false;
        }
        let is_taken = self.seats.take();
        if !is_taken {
            at_listener.give_back();
        }
        is_taken
    }

    /// Gives back the place of a connection.
    pub(super) fn give_seat_back(&self, listener: u16) {
        self.listeners[usize::from(listener)].seats.give_back();
        self.seats.give_back();
    }
}

/// Limits of connections that speak HTTP.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Milliseconds from the first byte of a request to its last.
    pub request_timeout_ms: u32,
    /// Milliseconds from a whole request to the answer of its extension service.
    pub answer_timeout_ms: u32,
    /// Milliseconds that a connection may be without a request.
    pub idle_timeout_ms: u32,
}

/// Who may talk, and who says so.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Who identifies the endpoints of each application, by its place in the catalogue.
    pub apps: Vec<Provider>,
    /// Applications whose endpoints are rejected while they are connected elsewhere.
    pub rejecting: Vec<AppId>,
    /// Who knows clients.
    pub client_provider: Provider,
    /// Tenant of clients whose user name has none.
    pub default_tenant: Box<str>,
    /// Service instance behind 16/ECAP.
    pub ecap_instance: Box<str>,
    /// Service instance behind 22/CAP.
    pub cap_instance: Box<str>,
    /// What tenants demand.
    pub tenants: Tenants,
    /// Bounds of the questions under way.
    pub asks: asks::Limits,
    /// Verdicts on endpoint tokens remembered.
    pub verdicts_max: usize,
    /// Milliseconds that a token is good for without asking again.
    pub verdict_ttl_ms: u64,
    /// Milliseconds that a token is bad for without asking again.
    pub rejection_ttl_ms: u64,
    /// Milliseconds that a login is good for without asking again; 0: for its session only.
    pub login_ttl_ms: u64,
    /// Bytes of one connection's messages that may wait for tokens to be validated, before it is
    /// not read from.
    pub parked_bytes_max: usize,
    /// Bytes of all connections' messages that may wait so, before messages are dropped.
    pub parked_bytes_per_shard_max: usize,
}

impl AuthSettings {
    /// Who identifies the endpoints of an application.
    pub fn provider(&self, app: AppId) -> Provider {
        // Both lists are made from the same configuration.
        self.apps.get(usize::from(app.0)).copied().unwrap_or(Provider::Internal)
    }
}

impl Default for AuthSettings {
    /// Everybody may talk.
    fn default() -> Self {
        Self {
            apps: vec![Provider::Trustful],
            rejecting: Vec::new(),
            client_provider: Provider::Trustful,
            default_tenant: "default".into(),
            ecap_instance: "cm".into(),
            cap_instance: "ccm".into(),
            tenants: Tenants::default(),
            asks: asks::Limits { asks_max: 65_536, timeout_ms: 2000, attempts_max: 3 },
            verdicts_max: 100_000,
            verdict_ttl_ms: 300_000,
            rejection_ttl_ms: 5000,
            login_ttl_ms: 0,
            parked_bytes_max: 64 * 1024,
            parked_bytes_per_shard_max: 16 * 1024 * 1024,
        }
    }
}
