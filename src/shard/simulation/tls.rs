//! Connections behind TLS: their handshakes take turns, and nothing leaves in the clear.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::directed::{Rig, message};
use super::setup::{MQTTS, Setup};
use super::wire::{self, Connect};
use crate::shard::connection::{Hold, Life};
use crate::shard::handshakes::STEPS_PER_TURN_MAX;
use crate::shard::mail::Mail;
use crate::telemetry::{CloseReason, TlsFailure};
use crate::tls::{Profile, Slot};
use crate::transport::tls::testing::CONFIGS;

const TOPIC: &str = "kp1/v1/dcx/e0/json";
/// Of [`Setup::plain`].
const HANDSHAKES_MAX: usize = 2;
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

fn rig() -> Rig {
    let mut setup = Setup::plain();
    setup.tls_profiles = vec![Arc::new(Slot::new(Arc::new(Profile::of(CONFIGS.server.clone()))))];
    assert_eq!(setup.settings.tls_handshakes_max, HANDSHAKES_MAX);
    setup.settings.fault_topic = Some("kp1/v1/dcx/e0/panic".to_owned());
    Rig::new(&setup)
}

/// A client that speaks TLS of version 1.2 (0) or 1.3 (1).
pub(super) struct Client {
    pub(super) index: u32,
    tls: ClientConnection,
    pub(super) told: Vec<u8>,
    pub(super) has_ended: bool,
}

impl Client {
    fn new(rig: &mut Rig, version: usize) -> Self {
        Self::at(rig, MQTTS, version)
    }

    pub(super) fn at(rig: &mut Rig, listener: u16, version: usize) -> Self {
        Self::with(rig, listener, CONFIGS.clients[version].clone())
    }

    pub(super) fn with(rig: &mut Rig, listener: u16, config: Arc<ClientConfig>) -> Self {
        let socket = File::open("/dev/null").expect("is there").into();
        let index = rig.core.opened(socket, listener).expect("accepted");
        let name = ServerName::try_from("gate").expect("a name");
        let tls = ClientConnection::new(config, name).expect("a client");
        Self { index, tls, told: Vec::new(), has_ended: false }
    }

    /// One of TLS 1.3 that has heard the gateway's hello, and has the end of its handshake to say.
    fn greeted(rig: &mut Rig) -> Self {
        let mut client = Self::new(rig, 1);
        client.send(rig);
        rig.turn();
        client.hear(rig);
        client
    }

    /// What the client has to say first.
    pub(super) fn hello(&mut self) -> Vec<u8> {
        let mut up = Vec::new();
        self.tls.write_tls(&mut up).expect("a Vec takes all");
        up
    }

    /// Gives the gateway what the client has to say, without a turn.
    fn send(&mut self, rig: &mut Rig) {
        let mut up = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut up).expect("a Vec takes all");
        }
        if !up.is_empty() {
            rig.core.arrived(self.index, &mut up);
        }
    }

    /// Takes what the gateway has sent.
    pub(super) fn hear(&mut self, rig: &mut Rig) {
        let down = rig.heard.remove(&self.index).unwrap_or_default();
        let mut down = &down[..];
        while !down.is_empty() {
            self.tls.read_tls(&mut down).expect("reads");
            self.tls.process_new_packets().expect("good ciphertext");
            self.has_ended = self.tls.reader().read_to_end(&mut self.told).is_ok();
        }
    }

    pub(super) fn say(&mut self, rig: &mut Rig, packet: &[u8]) {
        self.tls.writer().write_all(packet).expect("takes it");
        for _ in 0..10 {
            self.send(rig);
            rig.turn();
            self.hear(rig);
        }
    }

    /// Shakes hands and connects.
    fn connect(&mut self, rig: &mut Rig) {
        let asked = Connect {
            client_id: format!("client-{}", self.index),
            clean: true,
            ..Connect::default()
        };
        self.say(rig, &wire::connect(4, &asked));
        assert_eq!(std::mem::take(&mut self.told), CONNACK);
    }

    fn hold(&self, rig: &Rig) -> Hold {
        rig.core.connections[self.index as usize].hold
    }
}

#[test]
fn messages_come_and_go_through_either_version() {
    let mut rig = rig();
    for version in 0..2 {
        let mut client = Client::new(&mut rig, version);
        client.connect(&mut rig);
        client.say(&mut rig, &message(4, TOPIC, 1, 7));
        assert_eq!(rig.carry(), 1);
        client.hear(&mut rig);
        assert_eq!(client.told, [0x40, 2, 0, 7]);
    }
    assert_eq!(rig.core.counters.tls_handshakes[0].get(), 2);
    assert_eq!(rig.core.handshakes.under_way(), 0);
}

#[test]
fn what_comes_with_the_end_of_a_handshake_is_taken() {
    let mut rig = rig();
    let mut client = Client::greeted(&mut rig);
    // CONNECT and a message in one go with Finished.
    let asked = Connect { client_id: "c".to_owned(), clean: true, ..Connect::default() };
    client.tls.writer().write_all(&wire::connect(4, &asked)).expect("takes it");
    client.say(&mut rig, &message(4, TOPIC, 0, 0));
    assert_eq!(client.told, CONNACK);
    assert_eq!(rig.carry(), 1);
}

#[test]
fn a_turn_takes_a_few_steps_of_handshakes_and_all_get_theirs() {
    let mut rig = rig();
    rig.core.handshakes = crate::shard::handshakes::Handshakes::new(100);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::new(&mut rig, 1)).collect();
    for client in &mut clients {
        client.send(&mut rig);
    }
    let count_answered = |rig: &mut Rig| {
        while let Some(index) = rig.core.dirty.pop() {
            rig.core.finish(index, &mut rig.ring);
        }
        rig.ring.sends.len()
    };
    assert_eq!(count_answered(&mut rig), 0, "what costs much is not done on arrival");
    rig.core.shake_hands();
    assert_eq!(count_answered(&mut rig), STEPS_PER_TURN_MAX);
    while rig.core.handshakes.has_steps() {
        rig.core.shake_hands();
    }
    assert_eq!(count_answered(&mut rig), 20);
}

#[test]
fn who_may_not_begin_is_not_read_and_begins_when_another_is_done() {
    let mut rig = rig();
    // Who is silent is in nobody's way.
    let silent: Vec<Client> = (0..4).map(|_| Client::new(&mut rig, 0)).collect();
    assert_eq!(rig.core.handshakes.under_way(), 0);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::new(&mut rig, 0)).collect();
    rig.turn();
    for client in &mut clients {
        client.send(&mut rig);
    }
    let waiting = |client: &Client| client.hold(&rig) == Hold::Handshake;
    assert_eq!(clients.iter().map(waiting).collect::<Vec<_>>(), [false, false, true, true]);
    assert!(silent.iter().all(|client| client.hold(&rig) == Hold::None));
    rig.turn();
    assert!(rig.ring.cancels.contains(&clients[2].index));
    clients[0].connect(&mut rig);
    assert_eq!(clients[2].hold(&rig), Hold::None);
    assert_eq!(clients[3].hold(&rig), Hold::Handshake);
    // One that gives up makes room too.
    rig.leave(clients[1].index, true);
    assert_eq!(clients[3].hold(&rig), Hold::None);
    rig.turn();
    for client in &mut clients[2..] {
        assert!(rig.ring.receives.contains(&client.index));
        client.connect(&mut rig);
    }
    assert_eq!(rig.core.handshakes.under_way(), 0);
}

#[test]
fn a_handshake_that_hangs_ends_and_holds_up_nobody() {
    let mut rig = rig();
    let hanging: Vec<Client> = (0..HANDSHAKES_MAX).map(|_| Client::new(&mut rig, 1)).collect();
    // Half a record.
    for client in &hanging {
        rig.core.arrived(client.index, &mut [22, 3, 1, 2, 0, 1]);
    }
    let mut plain = rig.client(4, 0);
    rig.say(plain, &message(4, TOPIC, 0, 0));
    assert_eq!(rig.carry(), 1, "other connections go on");
    let mut late = Client::new(&mut rig, 1);
    late.send(&mut rig);
    assert_eq!(late.hold(&rig), Hold::Handshake);
    rig.pass(11_000);
    for client in &hanging {
        assert_eq!(rig.why_closed(client.index), Some(CloseReason::TlsHandshakeTimeout));
    }
    assert_eq!(rig.why_closed(late.index), Some(CloseReason::TlsHandshakeTimeout), "as late");
    late = Client::new(&mut rig, 1);
    late.connect(&mut rig);
    plain = rig.client(5, 0);
    assert_eq!(rig.core.connections[plain as usize].life, Life::Open);
}

#[test]
fn who_floods_the_door_before_its_turn_is_put_out() {
    let mut rig = rig();
    let client = Client::new(&mut rig, 1);
    for _ in 0..20 {
        rig.core.arrived(client.index, &mut vec![22; 16 * 1024]);
    }
    rig.turn();
    assert_eq!(rig.why_closed(client.index), Some(CloseReason::TlsFailed));
    assert_eq!(rig.core.handshakes.under_way(), 0);
}

#[test]
fn a_handshake_that_ends_with_a_failure_makes_room_like_any_other() {
    let mut rig = rig();
    for _ in 0..2 * HANDSHAKES_MAX {
        let mut client = Client::greeted(&mut rig);
        // The end of the handshake, and in one go a record that nobody has protected.
        let mut up = client.hello();
        up.extend([23, 3, 3, 0, 20]);
        up.extend([7; 20]);
        rig.core.arrived(client.index, &mut up);
        rig.turn();
        assert_eq!(rig.why_closed(client.index), Some(CloseReason::TlsFailed));
        assert_eq!(rig.core.handshakes.under_way(), 0);
    }
    Client::new(&mut rig, 1).connect(&mut rig);
}

#[test]
fn a_client_that_says_all_in_one_go_and_leaves_has_said_it() {
    let mut rig = rig();
    let mut client = Client::greeted(&mut rig);
    let asked = Connect { client_id: "c".to_owned(), clean: true, ..Connect::default() };
    let said = [wire::connect(4, &asked), message(4, TOPIC, 0, 0)].concat();
    client.tls.writer().write_all(&said).expect("takes it");
    client.send(&mut rig);
    rig.leave(client.index, false);
    assert_eq!(rig.carry(), 1);

    // One that leaves in the middle is not waited for.
    let mut client = Client::new(&mut rig, 1);
    client.send(&mut rig);
    rig.leave(client.index, false);
    assert!(rig.core.connections.is_empty());
    assert_eq!(rig.core.handshakes.under_way(), 0);
}

#[test]
fn a_client_that_says_a_lot_before_its_turn_is_read_no_more_until_then() {
    let mut rig = rig();
    let mut client = Client::greeted(&mut rig);
    let asked = Connect { client_id: "c".to_owned(), clean: true, ..Connect::default() };
    client.tls.set_buffer_limit(None);
    client.tls.writer().write_all(&wire::connect(4, &asked)).expect("takes it");
    let said = message(4, TOPIC, 0, 0).repeat(3000);
    client.tls.writer().write_all(&said).expect("takes it");
    client.send(&mut rig);
    assert_eq!(client.hold(&rig), Hold::Handshake);
    rig.turn();
    // All of it has been taken, as fast as NATS takes it.
    assert_eq!(client.hold(&rig), Hold::Uplink);
    let mut carried = rig.carry();
    while carried < 3000 {
        rig.turn();
        match rig.carry() {
            0 => break,
            more => carried += more,
        }
    }
    assert_eq!(carried, 3000);
    assert_eq!(client.hold(&rig), Hold::None);
}

#[test]
fn a_shard_that_stops_begins_no_handshake() {
    let mut rig = rig();
    let mut clients: Vec<Client> = (0..=HANDSHAKES_MAX).map(|_| Client::new(&mut rig, 1)).collect();
    for client in &mut clients {
        client.send(&mut rig);
    }
    rig.core.mail(Mail::Drain);
    rig.leave(clients[0].index, true);
    let last = &clients[HANDSHAKES_MAX];
    assert_eq!(last.hold(&rig), Hold::Draining);
    assert_eq!(rig.core.handshakes.under_way(), HANDSHAKES_MAX - 1);
}

#[test]
fn plain_text_is_answered_with_an_alert_and_counted() {
    let mut rig = rig();
    let client = Client::new(&mut rig, 1);
    rig.core.arrived(client.index, &mut wire::connect(4, &Connect::default()));
    rig.turn();
    assert_eq!(rig.why_closed(client.index), Some(CloseReason::TlsFailed));
    let heard = rig.heard.remove(&client.index).expect("an alert");
    assert_eq!((heard[0], heard.len()), (21, 7), "{heard:?}");
    let failures = &rig.core.counters.tls_failures;
    assert_eq!(failures[TlsFailure::NotTls.index()].get(), 1);
    assert_eq!(rig.core.handshakes.under_way(), 0);
}

#[test]
fn goodbye_is_said_under_tls_and_followed_by_its_end() {
    let mut rig = rig();
    for version in 0..2 {
        let mut client = Client::new(&mut rig, version);
        client.connect(&mut rig);
        // A second CONNECT is not allowed.
        let asked = Connect { client_id: "again".to_owned(), ..Connect::default() };
        client.say(&mut rig, &wire::connect(4, &asked));
        assert_eq!(rig.why_closed(client.index), Some(CloseReason::ProtocolError));
        assert!(client.has_ended, "close_notify");
    }
}

#[test]
fn the_end_of_tls_ends_the_connection() {
    let mut rig = rig();
    let mut client = Client::new(&mut rig, 1);
    client.connect(&mut rig);
    client.tls.send_close_notify();
    client.say(&mut rig, &[]);
    assert_eq!(rig.why_closed(client.index), Some(CloseReason::PeerClosed));
}

#[test]
fn after_a_panic_nothing_leaves_in_the_clear() {
    let mut rig = rig();
    let mut client = Client::new(&mut rig, 1);
    client.connect(&mut rig);
    let packets = [message(4, TOPIC, 1, 7), message(4, "kp1/v1/dcx/e0/panic", 1, 8)].concat();
    client.tls.writer().write_all(&packets).expect("takes it");
    client.send(&mut rig);
    rig.turn();
    assert_eq!(rig.carry(), 1);
    assert_eq!(rig.why_closed(client.index), Some(CloseReason::Panic));
    assert_eq!(rig.heard.get(&client.index), None);
}
