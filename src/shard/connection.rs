//! One device connection: its session, and what the shell has under way for it on the ring.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::affinity::Affinities;
use super::clients::Client;
use super::correlation::ConnectionKey;
use super::http::Http;
use super::origin::Origin;
use crate::rt::socket;
use crate::session::catalogue::AppId;
use crate::session::topics::EndpointKey;
use crate::session::{Hello, Session};
use crate::telemetry::CloseReason;
use crate::tls::{PeerCertificate, Profile};
use crate::transport::tls::TlsSession;
use crate::transport::websocket::WebSocket;

/// Why no packet is taken from a connection for now, although bytes may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing holds it.
    None,
    /// Too many TLS handshakes are under way for its own to begin.
    Handshake,
    /// CONNECT is being decided: a provider is asked who the client is, or another connection hands
    /// its session over.
    Entering,
    /// The uplink has no room: TCP pushes back on the device.
    Uplink,
    /// The client has as many exchanges open as it may.
    Window,
    /// As much as may wait for endpoint tokens to be validated does.
    Parked,
    /// The client does not read what it is sent.
    Output,
    /// A request over HTTP is being answered, and more have come than are kept.
    Exchange,
    /// The shard is about to end.
    Draining,
}

/// How far the end of a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Open.
    Open,
    /// What is in `out` is still sent, then the sending side is shut.
    Closing,
    /// The sending side is shut; bytes of the peer are thrown away until it closes too, so that it
    /// gets to read our last packet instead of a reset.
    Lingering,
    /// Shut in both directions; only the ring's last completions are awaited.
    Shut,
}

/// What the ring has under way to receive bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// Nothing.
    Idle,
    /// It receives until told otherwise.
    Armed,
    /// It has been told to end that; its last completion is still to come.
    Cancelling,
}

/// What lies between the socket and the frames.
#[derive(Debug)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// A PROXY header, if it comes from where that is believed, and otherwise none; then TLS by the
    /// profile of that number, or nothing.
    Proxied {
        /// Whether it is believed.
        is_believed: bool,
        /// The profile.
        tls: Option<u16>,
    },
    /// TLS by the profile of that number, whose handshake may not begin yet.
    Waiting(u16),
    /// TLS.
    Tls(Box<Tls>),
    /// TLS, while what has come through it is being taken; for good where that panics, or where
    /// it can protect no more. Nothing is sent.
    Taken,
}

/// What packets are framed in.
#[derive(Debug)]
pub enum Framing {
    /// Nothing.
    Mqtt,
    /// Frames of a WebSocket.
    WebSocket(Box<WebSocket>),
    /// Requests of HTTP.
    Http(Box<Http>),
    /// A WebSocket, while what has come through it is being taken; for good where that panics.
    /// Nothing is sent.
    Taken,
}

/// TLS of a connection.
#[derive(Debug)]
pub struct Tls {
    /// Its state.
    pub session: TlsSession,
    /// What it is spoken by: the profile that was of the day when it began.
    pub profile: Arc<Profile>,
    /// Whether the next step of its handshake is queued.
    pub is_queued: bool,
    /// Whether its handshake counts among those under way, which it does until it is over or the
    /// connection ends.
    pub is_under_way: bool,
}

/// See the module's documentation. Buffers are taken from the shard's pool when needed, so that a
/// quiet connection holds none.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: OwnedFd,
    /// Tells this connection from others that had its place in the table.
    pub generation: u32,
    /// The number of the listener it came in by.
    pub listener: u16,
    /// What lies between its socket and its frames.
    pub transport: Transport,
    /// What lies between those and its packets.
    pub framing: Framing,
    /// The client's session.
    pub session: Session,
    /// Bytes not yet taken: the beginning of a packet, or all that came while on hold.
    pub pending: Vec<u8>,
    /// Packets for the client that wait for the next send.
    pub out: Vec<u8>,
    /// Bytes of the send the ring is working on; 0: none.
    pub sending_bytes: u32,
    /// What the ring has under way to receive for it.
    pub receive: Receive,
    /// Whether the peer has closed its side.
    pub peer_closed: bool,
    /// Whether it is on the shard's list of connections with something to do at the end of the
    /// turn.
    pub is_dirty: bool,
    /// Why no packet is taken.
    pub hold: Hold,
    /// How far its end has come.
    pub life: Life,
    /// Why it ends.
    pub close_reason: Option<CloseReason>,
    /// When bytes last came, in milliseconds of the shard's clock.
    pub heard_ms: u64,
    /// When its life so far, or its end, began, likewise.
    pub since_ms: u64,
    /// When the wheel looks at it next; what fires earlier is stale.
    pub check_ms: u64,
    /// What its CONNECT waits for.
    pub entering: Option<Box<Entering>>,
    /// Who its client has proven to be.
    pub client: Option<Rc<Client>>,
    /// What it has spoken for.
    pub spoken: Option<Box<Spoken>>,
    /// What its messages cost that wait for endpoint tokens to be validated, in bytes.
    pub parked_bytes: u32,
    /// What a proxy has said of it.
    pub origin: Option<Box<Origin>>,
}

/// What a CONNECT waits for.
#[derive(Debug)]
pub enum Entering {
    /// CONNECT itself is still to come. The transport has verified this client certificate.
    Presenting(PeerCertificate),
    /// A provider is asked who the client is.
    Asking {
        /// What it has said.
        hello: Hello,
        /// The only tenant it may be of, if its certificate says so.
        tenant: Option<Box<str>>,
    },
    /// The session that another connection still holds.
    Inheriting {
        /// The client id.
        client_id: Arc<str>,
        /// What the registry knows it by, claimed already.
        name: Arc<str>,
    },
}

/// What a connection has spoken for.
#[derive(Debug, Default)]
pub struct Spoken {
    /// Endpoints.
    pub endpoints: HashSet<EndpointKey, foldhash::fast::RandomState>,
    /// Applications.
    pub apps: Vec<AppId>,
    /// Where extensions want to be answered by those endpoints.
    pub affinities: Affinities,
}

impl Connection {
    /// A connection just accepted.
    pub fn new(socket: OwnedFd, listener: u16, generation: u32, now_ms: u64) -> Self {
        Self {
            socket,
            generation,
            listener,
            transport: Transport::Plain,
            framing: Framing::Mqtt,
            session: Session::default(),
            pending: Vec::new(),
            out: Vec::new(),
            sending_bytes: 0,
            receive: Receive::Idle,
            peer_closed: false,
            is_dirty: false,
            hold: Hold::None,
            life: Life::Open,
            close_reason: None,
            heard_ms: now_ms,
            since_ms: now_ms,
            check_ms: 0,
            entering: None,
            client: None,
            spoken: None,
            parked_bytes: 0,
            origin: None,
        }
    }

    /// Its key, given its place.
    pub fn key(&self, index: u32) -> ConnectionKey {
        ConnectionKey { index, generation: self.generation }
    }

    /// Bytes that have not left for the client.
    pub fn waiting_bytes(&self) -> usize {
        self.out.len() + self.sending_bytes as usize
    }

    /// Whether the ring should be told to receive. While lingering it should, to throw away what
    /// comes and to see the peer's end.
    pub fn wants_receive(&self) -> bool {
        let is_wanted = match self.life {
            Life::Open => self.hold == Hold::None,
            Life::Closing | Life::Shut => false,
            Life::Lingering => true,
        };
        is_wanted && self.receive == Receive::Idle && !self.peer_closed
    }

    /// Whether the ring should be told to receive no more, so that TCP pushes back.
    pub fn wants_cancel(&self) -> bool {
        let is_held = self.life == Life::Open && self.hold != Hold::None;
        is_held && self.receive == Receive::Armed
    }

    /// Whether its TLS handshake is still to come or not over.
    pub fn is_shaking_hands(&self) -> bool {
        match &self.transport {
            Transport::Plain | Transport::Proxied { .. } | Transport::Taken => false,
            Transport::Waiting(_) => true,
            Transport::Tls(tls) => tls.session.is_handshaking(),
        }
    }

    /// Whether what has come waits for the next step of its handshake.
    pub fn awaits_step(&self) -> bool {
        matches!(&self.transport, Transport::Tls(tls) if tls.is_queued)
    }

    /// Whether anything is to be sent: packets, or what a layer below has to say itself.
    fn has_output(&self) -> bool {
        let is_last = self.life == Life::Closing;
        !self.out.is_empty()
            || matches!(&self.transport, Transport::Tls(tls)
                if tls.session.has_outgoing() || is_last && tls.session.owes_close())
            || matches!(&self.framing, Framing::WebSocket(socket)
                if socket.has_outgoing() || is_last && socket.owes_close())
    }

    /// Whether the next send may start: one at a time keeps them in order.
    pub fn can_send(&self) -> bool {
        self.has_output()
            && self.sending_bytes == 0
            && matches!(self.life, Life::Open | Life::Closing)
    }

    /// Ends it in both directions.
    pub fn shut(&mut self) {
        socket::shutdown_both(&self.socket);
        self.life = Life::Shut;
    }

    /// Whether the ring has nothing under way for it any more.
    pub fn is_idle(&self) -> bool {
        self.receive == Receive::Idle && self.sending_bytes == 0
    }
}
