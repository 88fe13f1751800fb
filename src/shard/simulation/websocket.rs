//! Connections over WebSocket: the same session behind another framing, with an end of its own.

use std::fs::File;
use std::sync::Arc;

use super::directed::{Rig, message};
use super::setup::{MQTT, Setup, WS, WSS};
use super::wire::{self, Connect};
use crate::shard::connection::{Hold, Life};
use crate::shard::mail::Mail;
use crate::shard::seats::Seats;
use crate::telemetry::{CloseReason, WebSocketFailure};
use crate::tls::{Profile, Slot};
use crate::transport::tls::testing::CONFIGS;
use crate::transport::websocket::testing::{
    BINARY, CLOSE, FINAL, PING, PONG, TEXT, frame, head, read, request,
};

const TOPIC: &str = "kp1/v1/dcx/e0/json";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];

fn rig() -> Rig {
    let mut setup = Setup::plain();
    setup.settings.fault_topic = Some("kp1/v1/dcx/e0/panic".to_owned());
    Rig::new(&setup)
}

fn connect(index: u32) -> Vec<u8> {
    let client_id = format!("client-{index}");
    wire::connect(4, &Connect { client_id, clean: true, keep_alive_s: 10, ..Connect::default() })
}

fn tell(rig: &mut Rig, index: u32, bytes: &[u8]) {
    rig.core.arrived(index, &mut bytes.to_vec());
    rig.turn();
}

/// A WebSocket that is not asked for yet.
fn opened(rig: &mut Rig) -> u32 {
    let socket = File::open("/dev/null").expect("is there").into();
    rig.core.opened(socket, WS).expect("accepted")
}

fn heard(rig: &mut Rig, index: u32) -> Vec<(u8, Vec<u8>)> {
    read(&rig.heard.remove(&index).unwrap_or_default())
}

/// A client that is let in.
fn client(rig: &mut Rig) -> u32 {
    let index = opened(rig);
    tell(rig, index, &head("GET /ws HTTP/1.1", &request()));
    let answer = rig.heard.remove(&index).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    tell(rig, index, &frame(FINAL | BINARY, &connect(index)));
    assert_eq!(heard(rig, index), [(FINAL | BINARY, CONNACK.to_vec())]);
    index
}

fn end(code: u16) -> (u8, Vec<u8>) {
    (FINAL | CLOSE, code.to_be_bytes().to_vec())
}

#[test]
fn messages_come_and_go_in_frames_that_are_no_units_of_theirs() {
    let mut rig = rig();
    let index = client(&mut rig);
    let two = [message(4, TOPIC, 1, 7), message(4, TOPIC, 1, 8)].concat();
    let (one, other) = two.split_at(11);
    tell(&mut rig, index, &frame(FINAL | BINARY, one));
    tell(&mut rig, index, &frame(BINARY, other));
    assert_eq!(rig.carry(), 2);
    assert_eq!(heard(&mut rig, index), [(FINAL | BINARY, vec![0x40, 2, 0, 7, 0x40, 2, 0, 8])]);
    assert_eq!(rig.core.connections[index as usize].pending.capacity(), 0);
    assert_eq!(rig.core.connections[index as usize].out.capacity(), 0);
}

#[test]
fn a_message_that_must_wait_does_and_what_follows_it_too() {
    let mut rig = rig();
    let index = client(&mut rig);
    let many: Vec<u8> = (0..100).flat_map(|_| message(4, TOPIC, 0, 0)).collect();
    tell(&mut rig, index, &frame(FINAL | BINARY, &many));
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Uplink);
    tell(&mut rig, index, &frame(FINAL | BINARY, &message(4, TOPIC, 0, 0)));
    tell(&mut rig, index, &frame(FINAL | CLOSE, &1000u16.to_be_bytes()));
    assert_eq!(rig.carry(), 101, "what came before the end is carried");
    assert_eq!(heard(&mut rig, index), [end(1000)]);
    assert_eq!(rig.why_closed(index), Some(CloseReason::PeerClosed));
}

#[test]
fn a_ping_is_answered_and_is_no_sign_of_life_of_the_session() {
    let mut rig = rig();
    let index = client(&mut rig);
    for _ in 0..14 {
        rig.pass(1000);
        tell(&mut rig, index, &frame(FINAL | PING, b"there?"));
        assert_eq!(heard(&mut rig, index), [(FINAL | PONG, b"there?".to_vec())]);
    }
    rig.pass(4000);
    assert_eq!(rig.why_closed(index), Some(CloseReason::KeepAliveTimeout));
    assert_eq!(heard(&mut rig, index), [end(1008)]);
}

#[test]
fn who_says_goodbye_is_told_goodbye_and_may_close_first() {
    let mut rig = rig();
    let index = client(&mut rig);
    tell(&mut rig, index, &frame(FINAL | BINARY, &[0xe0, 0]));
    assert_eq!(rig.why_closed(index), Some(CloseReason::ClientDisconnect));
    assert_eq!(heard(&mut rig, index), [end(1000)]);
    assert_eq!(rig.core.connections[index as usize].life, Life::Lingering);
    tell(&mut rig, index, &frame(FINAL | CLOSE, &1000u16.to_be_bytes()));
    rig.leave(index, false);
    assert!(rig.core.connections.is_empty());
}

#[test]
fn what_breaks_the_protocol_ends_it_with_a_code_that_says_so() {
    let bad_topic = message(4, "kp1/#", 0, 0);
    let cases = [
        (frame(FINAL | TEXT, b"hello"), 1003, CloseReason::WebSocketFailed),
        (vec![FINAL | BINARY, 1, 0], 1002, CloseReason::WebSocketFailed),
        (frame(FINAL | BINARY, &[0xf0, 0]), 1002, CloseReason::MalformedPacket),
        (frame(FINAL | BINARY, &bad_topic), 1002, CloseReason::MalformedPacket),
        (frame(FINAL | BINARY, &[0x30, 0x80, 0x80, 1]), 1009, CloseReason::PacketTooLarge),
        (frame(FINAL | BINARY, &connect(0)), 1002, CloseReason::ProtocolError),
    ];
    for (said, code, why) in cases {
        let mut rig = rig();
        let index = client(&mut rig);
        tell(&mut rig, index, &said);
        assert_eq!(rig.why_closed(index), Some(why));
        assert_eq!(heard(&mut rig, index), [end(code)], "{why}");
        let has_failed = u64::from(why == CloseReason::WebSocketFailed);
        let failures = rig.core.counters.websocket_failures.iter();
        assert_eq!(failures.map(|counter| counter.get()).sum::<u64>(), has_failed);
    }
}

#[test]
fn a_request_that_is_refused_costs_nobody_else_anything() {
    let mut rig = rig();
    let good = client(&mut rig);
    let mut headers = request();
    headers.pop();
    let bad = opened(&mut rig);
    tell(&mut rig, bad, &head("GET /ws HTTP/1.1", &headers));
    let answer = String::from_utf8(rig.heard.remove(&bad).expect("an answer")).expect("text");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("must name mqtt"), "{answer}");
    let counter = &rig.core.counters.websocket_failures[WebSocketFailure::NoSubprotocol.index()];
    assert_eq!(counter.get(), 1);
    tell(&mut rig, good, &frame(FINAL | BINARY, &message(4, TOPIC, 1, 1)));
    assert_eq!(rig.carry(), 1);
    assert_eq!(heard(&mut rig, good).len(), 1);
}

#[test]
fn who_does_not_ask_in_time_is_put_out() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, b"GET /ws HTTP/1.1\r\n");
    rig.pass(7000);
    assert_eq!(rig.why_closed(index), Some(CloseReason::ConnectTimeout));
    assert!(!rig.heard.contains_key(&index), "there is nobody to say anything to");
}

#[test]
fn a_shard_that_stops_says_so() {
    let mut rig = rig();
    let index = client(&mut rig);
    rig.core.mail(Mail::Drain);
    assert!(rig.core.goodbyes_are_due());
    rig.core.say_goodbye_to_all();
    rig.turn();
    assert_eq!(heard(&mut rig, index), [end(1001)]);
}

#[test]
fn a_panic_ends_its_connection_alone_and_says_nothing() {
    let mut rig = rig();
    let (index, other) = (client(&mut rig), client(&mut rig));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    tell(&mut rig, index, &frame(FINAL | BINARY, &message(4, "kp1/v1/dcx/e0/panic", 0, 0)));
    std::panic::set_hook(hook);
    assert_eq!(rig.why_closed(index), Some(CloseReason::Panic));
    assert!(heard(&mut rig, index).is_empty());
    tell(&mut rig, other, &frame(FINAL | BINARY, &message(4, TOPIC, 0, 0)));
    assert_eq!(rig.carry(), 1);
}

#[test]
fn a_listener_takes_no_more_connections_than_its_limit_and_others_still_do() {
    let mut setup = Setup::plain();
    setup.settings.listeners[usize::from(WS)].seats = Seats::new(1);
    let mut rig = Rig::new(&setup);
    let socket = || File::open("/dev/null").expect("is there").into();
    let first = rig.core.opened(socket(), WS).expect("accepted");
    assert_eq!(rig.core.opened(socket(), WS), None);
    assert_eq!(rig.core.counters.connections_refused.get(), 1);
    rig.client(4, 0);
    rig.leave(first, true);
    let second = rig.core.opened(socket(), WS).expect("there is room again");
    // Where there is none in all, no place at the listener is lost.
    while rig.core.opened(socket(), MQTT).is_some() {}
    rig.leave(second, true);
    assert!(rig.core.opened(socket(), MQTT).is_some());
    assert_eq!(rig.core.opened(socket(), WS), None);
    let plain = rig.core.connections.iter().find(|(_, c)| c.listener == MQTT).map(|(i, _)| i);
    rig.leave(plain.expect("many") as u32, true);
    assert!(rig.core.opened(socket(), WS).is_some());
}

#[test]
fn it_goes_through_tls_too() {
    let mut setup = Setup::plain();
    setup.tls_profiles = vec![Arc::new(Slot::new(Arc::new(Profile::of(CONFIGS.server.clone()))))];
    let mut rig = Rig::new(&setup);
    let mut client = super::tls::Client::at(&mut rig, WSS, 1);
    client.say(&mut rig, &head("GET /ws HTTP/1.1", &request()));
    assert!(std::mem::take(&mut client.told).starts_with(b"HTTP/1.1 101 "));
    client.say(&mut rig, &frame(FINAL | BINARY, &connect(0)));
    client.say(&mut rig, &frame(FINAL | BINARY, &message(4, TOPIC, 1, 7)));
    assert_eq!(rig.carry(), 1);
    client.hear(&mut rig);
    let acknowledged = (FINAL | BINARY, vec![0x40, 2, 0, 7]);
    let connected = (FINAL | BINARY, CONNACK.to_vec());
    assert_eq!(read(&std::mem::take(&mut client.told)), [connected, acknowledged]);
    client.say(&mut rig, &frame(FINAL | CLOSE, &[]));
    assert_eq!(read(&client.told), [(FINAL | CLOSE, Vec::new())]);
    assert!(client.has_ended, "and the end of TLS after that of the WebSocket");
}
