//! Where devices come in, and what is spoken there.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::connection::{Framing, Transport};
use super::core::Core;
use super::seats::Seats;
use crate::auth;
use crate::codec::mqtt::FrameError;
use crate::config::Network;
use crate::rt::socket;
use crate::telemetry::CloseReason;
use crate::transport::websocket::{Rules, WebSocket};

/// What TLS begins with: a record of a handshake, of a version 3.x (RFC 8446 §5.1).
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// A listening socket of a shard.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub socket: OwnedFd,
    /// The number of its listener: of its place among [`super::ShardSettings::listeners`].
    pub listener: u16,
}

/// What holds for the connections of a listener.
#[derive(Debug, Clone)]
pub struct ListenerPlan {
    /// The number of the profile that TLS is spoken by; `None`: it is not.
    pub tls: Option<u16>,
    /// What is spoken, within TLS or without.
    pub speaks: Speaks,
    /// Places for connections at it.
    pub seats: Seats,
    /// Proxies whose PROXY headers are believed; empty: none are read.
    pub proxies: Vec<Network>,
}

/// What is spoken at a listener.
#[derive(Debug, Clone)]
pub enum Speaks {
    /// MQTT.
    Mqtt,
    /// MQTT over WebSocket.
    WebSocket(Arc<Rules>),
    /// The HTTP binding of 1/KP.
    Http,
}

impl ListenerPlan {
    /// Plain MQTT, for all who come.
    pub fn mqtt() -> Self {
        let (speaks, seats) = (Speaks::Mqtt, Seats::new(usize::MAX));
        Self { tls: None, speaks, seats, proxies: Vec::new() }
    }
}

impl Core {
    /// What holds at the listener that a connection came in by.
    pub(super) fn listener_of(&self, index: u32) -> &ListenerPlan {
        let listener = self.connections[index as usize].listener;
        &self.settings.listeners[usize::from(listener)]
    }

    /// A connection was accepted at the listener of that number; `None` when there are too many
    /// (the socket is closed).
    pub fn opened(&mut self, socket: OwnedFd, listener: u16) -> Option<u32> {
        let plan = &self.settings.listeners[usize::from(listener)];
        let framing = match &plan.speaks {
            Speaks::Mqtt => Framing::Mqtt,
            Speaks::WebSocket(rules) => Framing::WebSocket(Box::new(WebSocket::new(rules.clone()))),
            Speaks::Http => Framing::Http(Box::default()),
        };
        if !plan.proxies.is_empty() && socket::is_gone(&socket) {
            // A health check of the proxy, most of the time. Who it was, nobody knows: what it has
            // said can neither be believed nor held against anybody.
            self.counters.connections_accepted.add(1);
            self.counters.closed(CloseReason::PeerReset);
            return None;
        }
        if self.is_draining() || !self.settings.take_seat(listener) {
            self.counters.connections_refused.add(1);
            return None;
        }
        let client = match plan.proxies.is_empty() {
            true => None,
            false => socket::peer(&socket).map(|address| address.ip()),
        };
        let transport = self.transport_at(listener, client, plan.tls);
        let is_tls = matches!(transport, Transport::Waiting(_));
        let index = self.insert(socket, listener);
        let connection = &mut self.connections[index as usize];
        connection.framing = framing;
        connection.transport = transport;
        if is_tls {
            self.begin_tls(index);
        }
        Some(index)
    }

    /// What has come from a connection is no MQTT.
    #[cold]
    pub(super) fn bad_frame(&mut self, index: u32, error: FrameError, bytes: &[u8]) {
        let connection = &mut self.connections[index as usize];
        let is_first = connection.session.is_expecting();
        let reason = connection.session.bad_frame(error, &mut connection.out);
        if !(is_first && bytes.starts_with(&TLS_HANDSHAKE)) {
            return self.close(index, reason);
        }
        if let Some(suppressed) = self.log_door.allow(self.now.ms) {
            let (peer, shard) = (self.peer(index), self.number);
            tracing::warn!(
                shard,
                peer,
                suppressed,
                "a client speaks TLS where plain MQTT is spoken"
            );
        }
        self.close(index, CloseReason::TlsOnPlainPort);
    }

    /// What the client of a connection comes by.
    pub(super) fn comes_by(&self, index: u32) -> auth::Transport {
        let connection = &self.connections[index as usize];
        let is_tls_elsewhere = connection.origin.as_ref().is_some_and(|origin| origin.is_tls);
        match (&self.listener_of(index).speaks, &connection.transport) {
            (Speaks::Mqtt, Transport::Plain) if !is_tls_elsewhere => auth::Transport::MqttTcp,
            (Speaks::Mqtt, _) => auth::Transport::MqttTls,
            (Speaks::WebSocket(_), _) => auth::Transport::MqttWs,
            (Speaks::Http, _) => auth::Transport::Http,
        }
    }
}
