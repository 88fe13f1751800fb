//! What the configuration says to one shard.

use crate::auth::Provider;
use crate::codec::avro::ConfigName;
use crate::config::{Qos0WhenFull, WhenUnavailable};
use crate::session::Policy;

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
    /// Connections of this shard.
    pub connections_max: usize,
    /// Endpoints one connection may speak for.
    pub endpoints_max: usize,
    /// Milliseconds from accepted to CONNECT.
    pub connect_timeout_ms: u32,
    /// Limits of a session.
    pub policy: Policy,
    /// Who identifies endpoints.
    pub provider: Provider,
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
