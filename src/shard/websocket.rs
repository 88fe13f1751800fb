//! Connections that speak MQTT over WebSocket.

use super::connection::{Framing, Life};
use super::core::Core;
use crate::telemetry::{CloseReason, WebSocketFailure};

/// What is said of a client whose WebSocket has failed.
const LOG_FAILED: &str = "WebSocket with a client failed";

impl Core {
    pub(super) fn take_frames(&mut self, index: u32, bytes: &mut [u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.life != Life::Open {
            return;
        }
        let taken = std::mem::replace(&mut connection.framing, Framing::Taken);
        let Framing::WebSocket(mut socket) = taken else { return };
        let outcome = socket.receive(bytes, |payload| self.take_bytes(index, payload));
        let (has_outgoing, has_ended) = (socket.has_outgoing(), socket.peer_has_closed());
        self.connections[index as usize].framing = Framing::WebSocket(socket);
        if let Err(why) = outcome {
            self.websocket_failed(index, why);
            return;
        }
        if has_outgoing {
            self.touch(index);
        }
        if has_ended && !self.connections[index as usize].peer_closed {
            self.peer_ended(index, false);
        }
    }

    fn websocket_failed(&mut self, index: u32, why: WebSocketFailure) {
        self.counters.websocket_failed(why);
        if let Some(suppressed) = self.log_door.allow(self.now.ms) {
            let peer = self.peer(index);
            let shard = self.number;
            tracing::warn!(shard, peer, %why, suppressed, "{LOG_FAILED}");
        }
        // What we say about it waits in the socket.
        self.close(index, CloseReason::WebSocketFailed);
    }
}

/// The code that a WebSocket ends with which is ended for that reason (RFC 6455 §7.4.1).
pub(super) fn end_code(reason: Option<CloseReason>) -> u16 {
    use CloseReason as R;
    match reason {
        None | Some(R::ClientDisconnect | R::PeerClosed | R::PeerReset | R::Completed) => 1000,
        Some(R::Shutdown) => 1001,
        Some(R::MalformedPacket | R::ProtocolError | R::WrongProtocolName) => 1002,
        Some(R::UnsupportedVersion | R::WebSocketFailed | R::TlsFailed | R::HttpRefused) => 1002,
        Some(R::ProxyHeader | R::UnlistedProxy | R::TlsOnPlainPort) => 1002,
        Some(R::PacketTooLarge) => 1009,
        Some(R::Panic | R::Internal | R::UplinkRefused) => 1011,
        // What is not allowed, in one way or the other.
        Some(
            R::ConnectTimeout
            | R::TlsHandshakeTimeout
            | R::KeepAliveTimeout
            | R::RequestTimeout
            | R::AnswerTimeout
            | R::IdleTimeout
            | R::Takeover
            | R::ReceiveMaximumExceeded
            | R::BadClientId
            | R::QuotaExceeded
            | R::NotAuthorized
            | R::Revoked,
        ) => 1008,
    }
}
