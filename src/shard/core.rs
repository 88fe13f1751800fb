//! What a shard knows and decides, without its ring and its sockets' readiness: bytes of a
//! connection in, packets for connections and messages for NATS out.
//!
//! The shell ([`super`]) owns the ring. It gives events to the core and afterwards carries
//! out what the core has left behind: `dirty` names the connections that have something to send, or
//! that are to be read from again, or no more, or to be closed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use super::ask::AskAddresses;
use super::asks::Asks;
use super::clients::Clients;
use super::connection::{Connection, Hold, Life, Transport};
use super::correlation::{ConnectionKey, Correlations};
use super::drain::Drain;
use super::endpoints::Endpoints;
use super::handshakes::Handshakes;
use super::http::{Dates, Exchanges};
use super::logins::Logins;
use super::mail::{Mail, MailSender, Reporter};
use super::parked::Parked;
use super::place::Places;
use super::pool::Pool;
use super::recent::Recent;
use super::registry::Registry;
use super::settings::ShardSettings;
use super::wheel::Wheel;
use crate::auth::{Clerk, RevokedLately, Throttle, Verdicts};
use crate::codec::mqtt::{self, Frame, PacketType, QoS};
use crate::codec::subjects;
use crate::session::Step;
use crate::session::catalogue::{Catalogue, Extension};
use crate::telemetry::{BatchSizes, CloseReason, Latency, RateLimit, ShardCounters};
use crate::tls::Slot;
use crate::uplink::ledger::{Ledger, SubjectId};

/// Entries of ended connections that the list of those that wait for the uplink may hold beside
/// twice as many as there are connections.
const WAITING_SLACK: usize = 64;
/// Connections whose place in the table is reserved from the start. Memory comes with the first use
/// of each; a table that grows copies itself, and leaves its old room behind.
const CONNECTIONS_ROOM: usize = 65_536;
/// Log lines about dropped messages, per shard and second.
const DROP_LOGS_PER_S_MAX: u32 = 5;
/// Log lines about clients that are refused, per shard and second.
const LOGIN_LOGS_PER_S_MAX: u32 = 5;
/// Log lines about clients whose TLS fails, per shard and second.
const TLS_LOGS_PER_S_MAX: u32 = 5;
/// Log lines about clients that break what lies between TLS and MQTT, per shard and second.
const DOOR_LOGS_PER_S_MAX: u32 = 5;
/// Log lines about providers that do not do their work, per shard and second.
const ASK_LOGS_PER_S_MAX: u32 = 1;

/// The time, read once per turn.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// Microseconds of the process's monotonic clock.
    pub us: u64,
    /// Milliseconds of the same.
    pub ms: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// How a ClientData for an extension instance is addressed.
#[derive(Debug)]
pub(super) struct Address {
    /// `PUB <subject> <reply> `, ready for the size.
    pub head: Box<[u8]>,
    /// The subject, as the ledger knows it.
    pub subject: SubjectId,
}

/// See the module's documentation.
pub struct Core {
    pub(super) number: u16,
    pub(super) settings: ShardSettings,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) addresses: Vec<Address>,
    /// Subject that answers to this shard come on.
    pub(super) reply_subject: Box<str>,
    pub(super) connections: Slab<Connection>,
    /// By the number of the profile.
    pub(super) tls_profiles: Vec<Arc<Slot>>,
    pub(super) handshakes: Handshakes,
    pub(super) next_generation: u32,
    pub(super) endpoints: Endpoints,
    pub(super) recent: Recent,
    pub(super) verdicts: Verdicts,
    /// Changes whenever a resolved topic may lead where it should no more: those of earlier epochs
    /// are resolved again.
    pub(super) epoch: u32,
    pub(super) revoked_lately: RevokedLately,
    pub(super) asks: Asks,
    pub(super) ask_addresses: AskAddresses,
    pub(super) clerks: Clerks,
    pub(super) parked: Parked,
    pub(super) places: Places,
    pub(super) clients: Clients,
    pub(super) logins: Logins,
    pub(super) throttle: Arc<Throttle>,
    pub(super) registry: Arc<Registry>,
    pub(super) peers: Vec<MailSender>,
    pub(super) reporter: Reporter,
    pub(super) ledger: Rc<RefCell<Ledger>>,
    /// Whether the link to NATS is up.
    pub(super) link_is_up: bool,
    /// Whether it ever was.
    pub(super) link_was_up: bool,
    /// What the server takes in one message; unlimited while no server has been seen.
    pub(super) payload_bytes_max: usize,
    pub(super) counters: Arc<ShardCounters>,
    pub(super) latency: Latency,
    pub(super) batch_sizes: BatchSizes,
    pub(super) correlations: Correlations,
    pub(super) exchanges: Exchanges,
    pub(super) dates: Dates,
    pub(super) sequence: u32,
    pub(super) wheel: Wheel,
    pub(super) pool: Pool,
    pub(super) now: Now,
    /// Connections the shell has something to do for.
    pub(super) dirty: Vec<u32>,
    /// Connections that wait for room in the uplink, first come first served.
    pub(super) waiting: VecDeque<ConnectionKey>,
    /// Connections whose window has room again, until the end of [`Core::settle`].
    pub(super) window_waiting: Vec<ConnectionKey>,
    pub(super) drain: Drain,
    pub(super) log_drop: RateLimit,
    pub(super) log_login: RateLimit,
    pub(super) log_tls: RateLimit,
    pub(super) log_door: RateLimit,
    pub(super) log_ask: RateLimit,
    /// Scratch space for a topic, a payload, an affinity's PUB head.
    pub(super) topic_text: Vec<u8>,
    pub(super) payload_text: Vec<u8>,
}

/// Who answers questions about credentials within this process.
#[derive(Clone, Default)]
pub struct Clerks {
    /// Of the internal provider.
    pub internal: Option<Arc<dyn Clerk>>,
    /// Of the provider behind HTTP.
    pub http: Option<Arc<dyn Clerk>>,
}

/// What a core works with and shares with others.
pub(super) struct Surroundings {
    /// Application versions and extension instances.
    pub catalogue: Arc<Catalogue>,
    /// Client ids of all shards.
    pub registry: Arc<Registry>,
    /// The mailboxes of all shards, by number.
    pub peers: Vec<MailSender>,
    /// The way to the control thread.
    pub reporter: Reporter,
    /// Who knows of credentials.
    pub clerks: Clerks,
    /// Failed logins of all shards.
    pub throttle: Arc<Throttle>,
    /// What TLS is spoken by, by the number of the profile.
    pub tls_profiles: Vec<Arc<Slot>>,
    /// What goes to NATS.
    pub ledger: Rc<RefCell<Ledger>>,
    /// The shard's counters.
    pub counters: Arc<ShardCounters>,
}

impl Core {
    /// The core of a shard without connections, whose link to NATS is not up yet. `now_ms` is the
    /// time of the clock that [`Now::ms`] is read from.
    pub(super) fn new(
        number: u16,
        settings: ShardSettings,
        surroundings: Surroundings,
        now_ms: u64,
    ) -> Self {
        let Surroundings {
            catalogue,
            registry,
            peers,
            reporter,
            clerks,
            throttle,
            tls_profiles,
            ledger,
            counters,
        } = surroundings;
        let auth = &settings.auth;
        let ask_addresses =
            AskAddresses::new(&auth.ecap_instance, &auth.cap_instance, &settings.replica);
        let verdicts = Verdicts::new(auth.verdicts_max);
        let asks = Asks::new(auth.asks);
        let logins = Logins::new(auth.login_ttl_ms > 0);
        let tls_handshakes_max = settings.tls_handshakes_max;
        let room = settings.seats.max().min(CONNECTIONS_ROOM);
        let reply_subject = subjects::replica(&settings.replica, subjects::esp::EXTENSION_DATA);
        let address = |extension: &Extension| Address::of(&extension.name, &reply_subject);
        Self {
            number,
            correlations: Correlations::new(&settings.replica),
            settings,
            addresses: catalogue.extensions().iter().map(address).collect(),
            catalogue,
            reply_subject: reply_subject.into(),
            connections: Slab::with_capacity(room),
            tls_profiles,
            handshakes: Handshakes::new(tls_handshakes_max),
            // Not from 0: an answer to a request from before a restart must not find a connection.
            next_generation: std::hash::RandomState::new().hash_one(number) as u32,
            endpoints: Endpoints::default(),
            recent: Recent::default(),
            verdicts,
            epoch: 0,
            revoked_lately: RevokedLately::default(),
            asks,
            ask_addresses,
            clerks,
            parked: Parked::default(),
            places: Places::default(),
            clients: Clients::default(),
            logins,
            throttle,
            registry,
            peers,
            reporter,
            ledger,
            link_is_up: false,
            link_was_up: false,
            payload_bytes_max: usize::MAX,
            counters,
            latency: Latency::new(),
            batch_sizes: BatchSizes::new(),
            exchanges: Exchanges::new(),
            dates: Dates::default(),
            sequence: 0,
            wheel: Wheel::new(now_ms),
            pool: Pool::default(),
            now: Now::default(),
            dirty: Vec::new(),
            waiting: VecDeque::new(),
            window_waiting: Vec::new(),
            drain: Drain::No,
            log_drop: RateLimit::new(DROP_LOGS_PER_S_MAX),
            log_login: RateLimit::new(LOGIN_LOGS_PER_S_MAX),
            log_tls: RateLimit::new(TLS_LOGS_PER_S_MAX),
            log_door: RateLimit::new(DOOR_LOGS_PER_S_MAX),
            log_ask: RateLimit::new(ASK_LOGS_PER_S_MAX),
            topic_text: Vec::new(),
            payload_text: Vec::new(),
        }
    }

    /// Takes one mail.
    pub(super) fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Push { reply_to, datum } => self.extension_data(reply_to.as_deref(), &datum),
            Mail::RouteMoved { endpoint } => self.endpoints.moved_away(&endpoint),
            Mail::Roamed { endpoints } => self.roamed(&endpoints),
            Mail::Takeover { connection } => {
                self.guard(connection.index, |core| core.give_way(connection));
            }
            Mail::SessionMoved { to, name, saved } => {
                self.guard(to.index, |core| core.session_moved(to, name, saved));
            }
            Mail::Answered { ask, verdict } => self.answered(ask, verdict),
            Mail::Placed { ask, is_granted } => self.placed(ask, is_granted),
            Mail::Enforcement { tenant, demands } => self.enforce(&tenant, demands),
            Mail::Revoked(revocation) => self.revoked(&revocation),
            Mail::Doubt => self.doubt(),
            Mail::Distrust => self.distrust(),
            Mail::Drain => self.begin_drain(),
        }
    }

    /// Takes a connection into the table.
    pub(super) fn insert(&mut self, socket: OwnedFd, listener: u16) -> u32 {
        self.counters.connections_accepted.add(1);
        self.next_generation = self.next_generation.wrapping_add(1);
        let connection = Connection::new(socket, listener, self.next_generation, self.now.ms);
        let index = self.connections.insert(connection) as u32;
        self.counters.connections_open.set(self.connections.len() as u64);
        self.check_at(index, self.now.ms + u64::from(self.settings.connect_timeout_ms));
        self.touch(index);
        index
    }

    /// The connection of a key, if it is still there.
    pub(super) fn find(&self, key: ConnectionKey) -> Option<&Connection> {
        let connection = self.connections.get(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    /// Puts a connection on the list of those the shell has something to do for.
    pub(super) fn touch(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Bytes have come from a connection's socket; they may be changed where they lie.
    pub fn arrived(&mut self, index: u32, bytes: &mut [u8]) {
        self.counters.socket_bytes_in.add(bytes.len() as u64);
        match self.connections.get(index as usize).map(|connection| &connection.transport) {
            Some(Transport::Plain) => self.guard(index, |core| core.take_framed(index, bytes)),
            Some(Transport::Proxied { .. }) => {
                self.guard(index, |core| core.take_header(index, bytes));
            }
            Some(_) => self.guard(index, |core| core.take_ciphertext(index, bytes)),
            None => {}
        }
    }

    /// Packets, or parts of them, have come from a connection.
    pub fn received(&mut self, index: u32, bytes: &[u8]) {
        self.guard(index, |core| core.take_bytes(index, bytes));
    }

    pub(super) fn take_bytes(&mut self, index: u32, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if connection.life != Life::Open {
            return;
        }
        connection.heard_ms = self.now.ms;
        if connection.hold != Hold::None || !connection.pending.is_empty() {
            if connection.pending.capacity() == 0 {
                connection.pending = self.pool.take();
            }
            connection.pending.extend_from_slice(bytes);
            if connection.hold == Hold::None {
                self.take_pending(index);
            }
            return;
        }
        let taken = self.take_packets(index, bytes);
        let rest = &bytes[taken..];
        let connection = &mut self.connections[index as usize];
        if !rest.is_empty() && connection.life == Life::Open {
            connection.pending = self.pool.take();
            connection.pending.extend_from_slice(rest);
        }
    }

    /// Takes packets from what has been kept of a connection's bytes.
    pub(super) fn take_pending(&mut self, index: u32) {
        let mut pending = std::mem::take(&mut self.connections[index as usize].pending);
        let taken = self.take_packets(index, &pending);
        let connection = &mut self.connections[index as usize];
        if taken == pending.len() || connection.life != Life::Open {
            self.pool.give(pending);
        } else {
            pending.drain(..taken);
            connection.pending = pending;
        }
        let connection = &self.connections[index as usize];
        if connection.peer_closed && connection.hold == Hold::None {
            self.close(index, CloseReason::PeerClosed);
        }
    }

    /// Takes as many whole packets from `bytes` as there are and as may be taken; returns how many
    /// bytes that were.
    fn take_packets(&mut self, index: u32, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            let frame = mqtt::frame(rest, self.settings.policy.packet_bytes_max);
            let (packet_type, packet_bytes) = match frame {
                Ok(Frame::Complete { header, packet_bytes }) => {
                    (header.packet_type(), packet_bytes)
                }
                Ok(Frame::NeedMore(_)) => break,
                Err(error) => {
                    self.bad_frame(index, error, rest);
                    break;
                }
            };
            if !self.may_take(index, packet_type, rest[0]) {
                break;
            }
            taken += packet_bytes;
            self.packet(index, &rest[..packet_bytes]);
            let connection = &self.connections[index as usize];
            if connection.life != Life::Open || connection.hold != Hold::None {
                break;
            }
        }
        let connection = &mut self.connections[index as usize];
        if connection.out.is_empty() {
            // Nothing was to be said: it must not keep the buffer while it is quiet.
            self.pool.give(std::mem::take(&mut connection.out));
        }
        taken
    }

    /// Whether the next packet may be taken now; otherwise the connection is put on hold.
    #[inline]
    fn may_take(&mut self, index: u32, packet_type: PacketType, first_byte: u8) -> bool {
        let policy = &self.settings.policy;
        let connection = &mut self.connections[index as usize];
        let hold = if connection.waiting_bytes() >= policy.outbound_bytes_max {
            Hold::Output
        } else if packet_type != PacketType::Publish || !connection.session.is_live() {
            Hold::None
        } else if connection.parked_bytes as usize >= self.settings.auth.parked_bytes_max {
            Hold::Parked
        } else if self.uplink_must_wait(first_byte) {
            Hold::Uplink
        } else if first_byte & 0b110 != 0
            && self.connections[index as usize].session.window_is_full(policy)
        {
            Hold::Window
        } else {
            Hold::None
        };
        if hold == Hold::None {
            return true;
        }
        let connection = &mut self.connections[index as usize];
        connection.hold = hold;
        if hold == Hold::Uplink {
            self.counters.pauses.add(1);
            let key = connection.key(index);
            self.wait(key);
        }
        self.touch(index);
        false
    }

    /// Puts a connection at the end of those that wait for the uplink. Those that have ended while
    /// they waited are cleared away now and then, so that there are never many more than live ones.
    fn wait(&mut self, key: ConnectionKey) {
        self.waiting.push_back(key);
        if self.waiting.len() > WAITING_SLACK + 2 * self.connections.len() {
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.retain(|key| self.waits(*key));
            self.waiting = waiting;
        }
    }

    fn waits(&self, key: ConnectionKey) -> bool {
        self.find(key).is_some_and(|connection| connection.hold == Hold::Uplink)
    }

    fn packet(&mut self, index: u32, packet: &[u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.out.capacity() == 0 {
            connection.out = self.pool.take();
        }
        let out_before = connection.out.len();
        let subscriptions_before = connection.session.subscriptions();
        let step = connection.session.packet(packet, &self.settings.policy, &mut connection.out);
        let subscriptions = connection.session.subscriptions();
        if subscriptions != subscriptions_before {
            let gauge = &self.counters.subscriptions;
            gauge.set(gauge.get() + subscriptions as u64 - subscriptions_before as u64);
        }
        if connection.out.len() > out_before {
            self.touch(index);
        }
        match step {
            Step::Done => {}
            Step::Publish(incoming) => self.publish(index, incoming),
            Step::Connect(hello) => self.log_in(index, hello),
            Step::Refused(label, reason) => {
                self.counters.connect_refused(label);
                self.close(index, reason);
            }
            Step::Close(reason) => self.close(index, reason),
        }
    }

    /// The uplink has room again: connections that wait for it go on, in turn.
    pub(super) fn resume_waiting(&mut self) {
        if self.waiting.is_empty() || !self.ledger.borrow().has_room_again() {
            return;
        }
        for _ in 0..self.waiting.len() {
            if self.ledger.borrow().is_full() {
                return;
            }
            self.resume_first_waiting();
        }
    }

    fn resume_all_waiting(&mut self) {
        for _ in 0..self.waiting.len() {
            self.resume_first_waiting();
        }
    }

    fn resume_first_waiting(&mut self) {
        if let Some(key) = self.waiting.pop_front()
            && self.waits(key)
        {
            self.resume(key.index);
        }
    }

    /// Lifts a connection's hold and takes what has gathered meanwhile.
    pub(super) fn resume(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        connection.hold = Hold::None;
        // It was not listened to; it must not be held against it.
        connection.heard_ms = self.now.ms;
        if connection.http().is_some() {
            self.request_begins(index);
        }
        self.touch(index);
        self.guard(index, |core| core.take_kept(index));
        let connection = &mut self.connections[index as usize];
        if self.drain != Drain::No && connection.hold == Hold::None {
            // It had its turn; nothing more is read.
            connection.hold = Hold::Draining;
        }
    }

    /// The peer has closed its side, or the socket has failed.
    pub fn peer_ended(&mut self, index: u32, failed: bool) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        connection.peer_closed = true;
        // A device that published and left while it was not its turn is still owed that its
        // messages are carried.
        let must_carry = !failed
            && matches!(
                connection.hold,
                Hold::Uplink | Hold::Window | Hold::Parked | Hold::Entering | Hold::Exchange
            );
        // The same goes for one that waits for the response to its request, and for what came with
        // the end of a handshake.
        let must_carry =
            must_carry || !failed && (connection.is_answering() || connection.awaits_step());
        let reason = if failed { CloseReason::PeerReset } else { CloseReason::PeerClosed };
        if connection.life == Life::Open && !must_carry {
            self.close(index, reason);
        }
        self.touch(index);
    }

    /// A send has ended.
    pub fn sent(&mut self, index: u32, bytes: Vec<u8>, is_ok: bool) {
        self.counters.socket_bytes_out.add(bytes.len() as u64);
        self.pool.give(bytes);
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        connection.sending_bytes = 0;
        if !is_ok {
            connection.out.clear();
            self.peer_ended(index, true);
        } else if connection.hold == Hold::Output {
            self.resume(index);
        }
        self.touch(index);
    }

    /// Does work for one connection: a panic there ends that connection alone.
    pub(super) fn guard(&mut self, index: u32, work: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| work(self))).is_ok() {
            return;
        }
        self.counters.panics.add(1);
        if let Some(connection) = self.connections.get_mut(index as usize) {
            connection.out.clear();
            self.close(index, CloseReason::Panic);
        }
    }

    /// Forgets a connection whose socket is done with.
    pub fn remove(&mut self, index: u32) {
        if let Some(connection) = self.connections.try_remove(index as usize) {
            self.pool.give(connection.out);
            self.settings.give_seat_back(connection.listener);
            self.counters.connections_open.set(self.connections.len() as u64);
        }
    }

    /// Lets the wheel look at a connection at `deadline_ms` at the latest.
    pub(super) fn check_by(&mut self, index: u32, deadline_ms: u64) {
        let check_ms = self.connections[index as usize].check_ms;
        if check_ms > deadline_ms || check_ms <= self.now.ms {
            self.check_at(index, deadline_ms);
        }
    }

    /// Lets the wheel look at a connection at `deadline_ms`, or at the end of one of its turns.
    pub(super) fn check_at(&mut self, index: u32, deadline_ms: u64) {
        let key = self.connections[index as usize].key(index);
        self.connections[index as usize].check_ms = self.wheel.insert(key, deadline_ms);
    }

    /// NATS has accepted the link, or has changed how large a message may be.
    pub fn link_up(&mut self, payload_bytes_max: usize) {
        if !self.link_is_up && self.link_was_up {
            self.counters.link_reconnects.add(1);
        }
        if !self.link_is_up {
            self.ask_again_over_nats();
        }
        self.link_is_up = true;
        self.link_was_up = true;
        self.payload_bytes_max = payload_bytes_max;
    }

    /// The link is down. With `when-unavailable: refuse`, who waited for room is refused now.
    pub fn link_down(&mut self) {
        self.link_is_up = false;
        self.asks.link_down(self.now.ms);
        if self.refuses_publications() {
            self.resume_all_waiting();
        }
    }

    /// The QoS of a number in 0..=2.
    pub(super) fn qos(level: u8) -> QoS {
        QoS::from_u8(level).unwrap_or_default()
    }

    /// Peer address for a log line.
    pub(super) fn peer(&self, index: u32) -> String {
        self.connections
            .get(index as usize)
            .and_then(Connection::address)
            .map_or_else(|| "unknown".to_owned(), |peer| peer.to_string())
    }
}
