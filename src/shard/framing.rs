//! What packets and requests are framed in: which way the bytes of a connection go.

use super::connection::Framing;
use super::core::Core;
use super::pool::Pool;

impl Core {
    /// Bytes have come from a connection, as they are behind TLS; they may be changed where they
    /// lie.
    pub(super) fn take_framed(&mut self, index: u32, bytes: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        match connection.framing {
            Framing::Mqtt => self.take_bytes(index, bytes),
            Framing::WebSocket(_) => self.take_frames(index, bytes),
            Framing::Http(_) => self.take_http(index, bytes),
            Framing::Taken => {}
        }
    }

    /// As [`Self::take_framed`], of bytes that may not be changed.
    pub(super) fn take_plaintext(&mut self, index: u32, plain: &[u8]) {
        match self.connections[index as usize].framing {
            Framing::Mqtt => return self.take_bytes(index, plain),
            Framing::Http(_) => return self.take_http(index, plain),
            Framing::WebSocket(_) | Framing::Taken => {}
        }
        let mut copy = self.pool.take();
        copy.extend_from_slice(plain);
        self.take_framed(index, &mut copy);
        self.pool.give(copy);
    }

    /// Takes what has been kept of a connection's bytes while it was on hold.
    pub(super) fn take_kept(&mut self, index: u32) {
        match self.connections[index as usize].framing {
            Framing::Http(_) => self.take_requests(index),
            Framing::Mqtt | Framing::WebSocket(_) | Framing::Taken => self.take_pending(index),
        }
    }
}

/// What packets that are to be sent are framed in, and what is said beside them; `end` is the code
/// that a WebSocket ends with after them.
pub(super) fn frame(
    framing: &mut Framing,
    packets: Vec<u8>,
    end: Option<u16>,
    pool: &mut Pool,
) -> Vec<u8> {
    match framing {
        Framing::Mqtt | Framing::Http(_) => packets,
        Framing::WebSocket(socket) => {
            let mut frames = pool.take();
            socket.wrap(&packets, end, &mut frames);
            pool.give(packets);
            frames
        }
        Framing::Taken => {
            pool.give(packets);
            Vec::new()
        }
    }
}
