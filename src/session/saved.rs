//! What outlives a connection when the client asked for that (`clean_session=0`, v5 session
//! expiry): it moves between shards when the client comes back elsewhere.

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::subscriptions::Subscriptions;

/// The state of a session (MQTT 5.0 §4.1), without what belongs to a connection: topic aliases,
/// limits the client announced, resolved topics.
#[derive(Debug, Default)]
pub struct Saved {
    /// Filters and the QoS granted to them.
    pub subscriptions: Subscriptions,
    /// Messages owed to the client.
    pub outbound: Outbound,
    /// QoS 2 publications received and not yet released.
    pub inbound: Inbound,
    /// For how long it outlives its connection, in seconds.
    pub expiry_s: u32,
}
