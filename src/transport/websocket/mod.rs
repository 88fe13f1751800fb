//! One WebSocket of a device, without its socket (RFC 6455): bytes of the client in, MQTT out, and
//! the other way round. A message is no unit of anything here: packets may span frames and frames
//! packets (MQTT-6.0.0-2), so payload is handed on as it comes, and a quiet connection holds no
//! buffer.

mod frames;
mod mask;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upgrade;

use std::sync::Arc;

use self::frames::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Opcode};
use super::head;
use crate::telemetry::WebSocketFailure;

/// Bytes of pongs that wait to be sent; when a ping comes and there is no room, only that one is
/// answered (RFC 6455 §5.5.3 allows it).
const PONG_BYTES_MAX: usize = 16 * (2 + CONTROL_BYTES_MAX);

/// What holds at a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Where the WebSocket is.
    pub path: String,
    /// Origins whose pages may connect; empty: all may.
    pub origins: Vec<String>,
    /// Payload bytes of one frame.
    pub frame_bytes_max: u64,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// The request has not come in full; this is its beginning.
    Request(Vec<u8>),
    /// The next frame has not begun, or its header is not there in full: that many bytes of
    /// `header` are.
    Header(u8),
    /// That frame is under way; so much of its payload is still to come, masked with that.
    Payload { header: Header, left: u64, mask: [u8; 4] },
    /// The client has said that it sends no more.
    Closed,
    /// It has failed.
    Failed,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct WebSocket {
    rules: Arc<Rules>,
    stage: Stage,
    /// The beginning of a header.
    header: [u8; HEADER_BYTES_MAX],
    /// Payload of the control frame under way.
    control: Vec<u8>,
    /// Whether a message has begun and not ended.
    is_in_message: bool,
    /// The answer to the request, until it is sent.
    answer: Vec<u8>,
    /// Pongs to be sent.
    pongs: Vec<u8>,
    /// The code of our end that is not up to the caller: what the client gave for its own, or what
    /// it did wrong.
    end_code: Option<u16>,
    /// Whether frames of ours may be sent: the request was granted, and our end has not been said.
    may_speak: bool,
}

impl WebSocket {
    /// One on which nothing has been said.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            stage: Stage::Request(Vec::new()),
            header: [0; HEADER_BYTES_MAX],
            control: Vec::new(),
            is_in_message: false,
            answer: Vec::new(),
            pongs: Vec::new(),
            end_code: None,
            may_speak: false,
        }
    }

    /// Whether the client has said that it sends no more.
    pub fn peer_has_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// Takes what has come, unmasking it where it lies, and gives the payload to `take`, piece by
    /// piece. What is to be answered waits in [`Self::has_outgoing`].
    ///
    /// # Errors
    /// The request is refused, or the client breaks the protocol. What is to be said about it waits
    /// to be sent; nothing else can be done with the connection.
    pub fn receive(
        &mut self,
        mut bytes: &mut [u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), WebSocketFailure> {
        while !bytes.is_empty() {
            let taken = match &mut self.stage {
                Stage::Request(_) => self.take_request(bytes),
                Stage::Header(_) => self.take_header(bytes),
                Stage::Payload { .. } => self.take_payload(bytes, &mut take),
                Stage::Closed | Stage::Failed => return Ok(()),
            };
            match taken {
                Ok(taken) => bytes = &mut bytes[taken..],
                Err(why) => {
                    self.fail(why);
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, why: WebSocketFailure) {
        self.control = Vec::new();
        if let Stage::Request(_) = self.stage {
            self.answer = upgrade::refuse(why, &self.rules);
        } else {
            self.end_code = Some(close_code(why));
        }
        self.stage = Stage::Failed;
    }

    /// Takes bytes of the request; returns how many.
    fn take_request(&mut self, bytes: &[u8]) -> Result<usize, WebSocketFailure> {
        let Stage::Request(request) = &mut self.stage else { return Ok(0) };
        let before = request.len();
        let room = head::BYTES_MAX - before;
        request.extend_from_slice(&bytes[..bytes.len().min(room)]);
        // No request begins like this, whatever follows: TLS, for example.
        if !request[0].is_ascii_alphabetic() && !matches!(request[0], b'\r' | b'\n') {
            return Err(WebSocketFailure::NotHttp);
        }
        let Some(end) = head::end(request, 0, before) else {
            if request.len() == head::BYTES_MAX {
                return Err(WebSocketFailure::HeadTooLarge);
            }
            return Ok(bytes.len());
        };
        self.answer = upgrade::answer(&request[..end], &self.rules)?;
        self.may_speak = true;
        self.stage = Stage::Header(0);
        Ok(end - before)
    }

    /// Takes bytes of a frame's header; returns how many.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, WebSocketFailure> {
        let Stage::Header(kept) = self.stage else { return Ok(0) };
        let kept = usize::from(kept);
        if kept == 0
            && let Some((header, taken)) = frames::parse(bytes)?
        {
            self.begin(header)?;
            return Ok(taken);
        }
        // Rare: it came in pieces.
        for (taken, byte) in (1..).zip(bytes) {
            self.header[kept + taken - 1] = *byte;
            if let Some((header, _)) = frames::parse(&self.header[..kept + taken])? {
                self.begin(header)?;
                return Ok(taken);
            }
        }
        // A header of full length is whole, so this is less.
        self.stage = Stage::Header((kept + bytes.len()) as u8);
        Ok(bytes.len())
    }

    /// A frame has begun.
    fn begin(&mut self, header: Header) -> Result<(), WebSocketFailure> {
        match header.opcode {
            Opcode::Text => return Err(WebSocketFailure::NotBinary),
            Opcode::Binary if self.is_in_message => return Err(WebSocketFailure::BadFrame),
            Opcode::Continuation if !self.is_in_message => return Err(WebSocketFailure::BadFrame),
            Opcode::Binary | Opcode::Continuation => self.is_in_message = !header.is_final,
            Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        if header.payload_bytes > self.rules.frame_bytes_max && !header.opcode.is_control() {
            return Err(WebSocketFailure::FrameTooLarge);
        }
        self.stage = Stage::Payload { header, left: header.payload_bytes, mask: header.mask };
        if header.payload_bytes == 0 {
            return self.end_frame(header.opcode);
        }
        Ok(())
    }

    /// Takes bytes of a frame's payload; returns how many.
    fn take_payload(
        &mut self,
        bytes: &mut [u8],
        take: &mut impl FnMut(&[u8]),
    ) -> Result<usize, WebSocketFailure> {
        let Stage::Payload { header, left, mask } = &mut self.stage else { return Ok(0) };
        let opcode = header.opcode;
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        let piece = &mut bytes[..taken];
        *mask = mask::unmask(piece, *mask);
        *left -= taken as u64;
        let is_over = *left == 0;
        if opcode.is_control() {
            self.control.extend_from_slice(piece);
        } else {
            take(piece);
        }
        if is_over {
            self.end_frame(opcode)?;
        }
        Ok(taken)
    }

    fn end_frame(&mut self, opcode: Opcode) -> Result<(), WebSocketFailure> {
        self.stage = Stage::Header(0);
        if !opcode.is_control() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.control);
        match opcode {
            Opcode::Ping => {
                if self.pongs.len() + 2 + payload.len() > PONG_BYTES_MAX {
                    self.pongs.clear();
                }
                frames::write(Opcode::Pong, &payload, &mut self.pongs);
            }
            Opcode::Close => {
                self.end_code = Some(code_of_close(&payload)?);
                self.stage = Stage::Closed;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether there is something to say that is not MQTT.
    pub fn has_outgoing(&self) -> bool {
        !self.answer.is_empty() || !self.pongs.is_empty()
    }

    /// Whether it is to be said that no more comes, and has not been.
    pub fn owes_close(&self) -> bool {
        self.may_speak
    }

    /// Appends to `out` all that is to be sent: the answer to the request, pongs, `packets` in a
    /// frame, and with `end` that no more comes, for the reason of that code (RFC 6455 §7.4.1)
    /// unless the client has given one.
    pub fn wrap(&mut self, packets: &[u8], end: Option<u16>, out: &mut Vec<u8>) {
        out.append(&mut self.answer);
        self.answer = Vec::new();
        if !self.may_speak {
            return;
        }
        out.append(&mut self.pongs);
        self.pongs = Vec::new();
        if !packets.is_empty() {
            frames::write(Opcode::Binary, packets, out);
        }
        if let Some(code) = end {
            let code = self.end_code.unwrap_or(code);
            // A client that gave no code is given none.
            let code = code.to_be_bytes();
            let payload = if code == NO_CODE.to_be_bytes() { &[][..] } else { &code[..] };
            frames::write(Opcode::Close, payload, out);
            self.may_speak = false;
        }
    }
}

/// Stands for a close frame without a code (RFC 6455 §7.1.5); never sent.
const NO_CODE: u16 = 1005;

/// The code of a client's close frame.
fn code_of_close(payload: &[u8]) -> Result<u16, WebSocketFailure> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(NO_CODE) } else { Err(WebSocketFailure::BadFrame) };
    };
    let code = u16::from_be_bytes(*code);
    if !frames::may_be_sent(code) {
        return Err(WebSocketFailure::BadFrame);
    }
    // The only text that is taken: it must be text (RFC 6455 §8.1).
    std::str::from_utf8(reason).map_err(|_| WebSocketFailure::BadText)?;
    Ok(code)
}

/// What a client is told that breaks the protocol (RFC 6455 §7.4.1).
fn close_code(why: WebSocketFailure) -> u16 {
    match why {
        WebSocketFailure::NotBinary => 1003,
        WebSocketFailure::BadText => 1007,
        WebSocketFailure::FrameTooLarge => 1009,
        _ => 1002,
    }
}
