//! What configuration allows one client.

use crate::codec::mqtt::QoS;

/// Limits of a session, from `ringgate.mqtt.*`.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Largest MQTT packet taken from a client, in bytes, fixed header included.
    pub packet_bytes_max: u32,
    /// Longest keep alive a v5 client is granted, in seconds; 0: whatever it asks for.
    pub keep_alive_s_max: u16,
    /// Longest client id, in bytes.
    pub client_id_bytes_max: usize,
    /// QoS 1 and 2 publications of one client that may await their end.
    pub receive_maximum: u16,
    /// Topic aliases a v5 client may set up; also how many ringgate sets up towards it.
    pub topic_alias_maximum: u16,
    /// Longest time a session outlives its connection, in seconds.
    pub session_expiry_s_max: u32,
    /// Filters one session may hold.
    pub subscriptions_max: usize,
    /// Messages that may wait for a slow client's acknowledgements.
    pub outbound_messages_max: usize,
    /// Bytes that may wait to be sent to a slow client.
    pub outbound_bytes_max: usize,
    /// QoS of a message whose request is unknown, before a subscription caps it.
    pub push_qos: QoS,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1 << 20,
            keep_alive_s_max: 0,
            client_id_bytes_max: 256,
            receive_maximum: 1024,
            topic_alias_maximum: 16,
            session_expiry_s_max: 3600,
            subscriptions_max: 64,
            outbound_messages_max: 256,
            outbound_bytes_max: 1 << 20,
            push_qos: QoS::AtMostOnce,
        }
    }
}
