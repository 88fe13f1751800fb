//! What the core leaves to be done for a connection, carried out by whatever moves its bytes: the
//! shard's ring, or the model of one in the simulation.

use std::os::fd::{AsRawFd, OwnedFd};

use super::connection::{Framing, Life, Receive, Transport};
use super::core::Core;
use super::framing::frame;
use super::pool::Pool;
use super::websocket::end_code;
use crate::rt::ring::DeviceRing;
use crate::rt::socket;
use crate::telemetry::CloseReason;

/// Moves the bytes of connections; what comes of an order is told to the core later.
pub(super) trait Sockets {
    /// Sends all of `bytes`; ends with [`Core::sent`].
    fn send(&mut self, index: u32, socket: &OwnedFd, bytes: Vec<u8>);
    /// Gives the socket its last bytes, which its end is to follow in the same segment; returns
    /// how many it has taken, at once.
    fn send_last(&mut self, index: u32, socket: &OwnedFd, bytes: &[u8]) -> usize;
    /// Receives until told otherwise; ends with [`Core::receive_stopped`].
    fn receive(&mut self, index: u32, socket: &OwnedFd);
    /// Receives no more; [`Core::receive_stopped`] says when that is so.
    fn cancel_receive(&mut self, index: u32);
}

impl Sockets for DeviceRing {
    fn send(&mut self, index: u32, socket: &OwnedFd, bytes: Vec<u8>) {
        DeviceRing::send(self, index, socket.as_raw_fd(), bytes);
    }

    fn send_last(&mut self, _: u32, socket: &OwnedFd, bytes: &[u8]) -> usize {
        socket::send_before_end(socket, bytes)
    }

    fn receive(&mut self, index: u32, socket: &OwnedFd) {
        DeviceRing::receive(self, index, socket.as_raw_fd());
    }

    fn cancel_receive(&mut self, index: u32) {
        DeviceRing::cancel_receive(self, index);
    }
}

/// What goes to the socket for frames that are to be sent.
///
/// # Errors
/// TLS can protect no more bytes.
fn seal(
    transport: &mut Transport,
    plain: Vec<u8>,
    is_last: bool,
    pool: &mut Pool,
) -> Result<Vec<u8>, rustls::Error> {
    match transport {
        Transport::Plain => Ok(plain),
        Transport::Tls(tls) => {
            let mut ciphertext = pool.take();
            let sealed = tls.session.seal(&plain, is_last, &mut ciphertext);
            pool.give(plain);
            if sealed.is_err() {
                *transport = Transport::Taken;
            }
            sealed.map(|()| ciphertext)
        }
        // Nothing of ours may be sent in the clear.
        Transport::Proxied { .. } | Transport::Waiting(_) | Transport::Taken => {
            pool.give(plain);
            Ok(Vec::new())
        }
    }
}

impl Core {
    /// Does what is to be done for one connection taken from `dirty`: send, read on or no more,
    /// close.
    pub(super) fn finish(&mut self, index: u32, sockets: &mut impl Sockets) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        connection.is_dirty = false;
        // Who has said DISCONNECT reads no more, but waits for the end of its WebSocket.
        let peer_reads_on = !connection.peer_closed
            && (connection.close_reason != Some(CloseReason::ClientDisconnect)
                || matches!(connection.framing, Framing::WebSocket(_)));
        if connection.can_send() {
            let packets = std::mem::take(&mut connection.out);
            let is_last = connection.life == Life::Closing;
            let end = is_last.then(|| end_code(connection.close_reason));
            let plain = frame(&mut connection.framing, packets, end, &mut self.pool);
            let sealed = seal(&mut connection.transport, plain, is_last, &mut self.pool);
            let Ok(mut bytes) = sealed else {
                self.peer_ended(index, true);
                return;
            };
            if connection.life == Life::Closing && peer_reads_on {
                let taken = sockets.send_last(index, &connection.socket, &bytes);
                self.counters.socket_bytes_out.add(taken as u64);
                bytes.drain(..taken);
            }
            if bytes.is_empty() {
                self.pool.give(bytes);
            } else {
                connection.sending_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                sockets.send(index, &connection.socket, bytes);
            }
        }
        if connection.life == Life::Closing && connection.waiting_bytes() == 0 {
            if peer_reads_on {
                socket::shutdown_write(&connection.socket);
                connection.life = Life::Lingering;
            } else {
                connection.shut();
            }
        }
        if connection.life == Life::Lingering && connection.peer_closed {
            connection.shut();
        }
        if connection.wants_receive() {
            connection.receive = Receive::Armed;
            sockets.receive(index, &connection.socket);
        } else if connection.wants_cancel() {
            connection.receive = Receive::Cancelling;
            sockets.cancel_receive(index);
        }
        if connection.life == Life::Shut && connection.is_idle() {
            self.remove(index);
        }
    }

    /// The receive of a connection has ended, for whatever reason.
    pub(super) fn receive_stopped(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index as usize) {
            connection.receive = Receive::Idle;
            self.touch(index);
        }
    }
}
