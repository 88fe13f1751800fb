//! Single situations, set up by hand, that chance brings about too seldom or cannot tell apart.

use std::collections::HashMap;
use std::fs::File;

use tokio::sync::mpsc::Receiver;

use super::nats;
use super::random::Random;
use super::setup::{MQTT, Setup};
use super::truth::Truth;
use super::wire::{self, Connect, FromServer, Publish};
use super::world::Ring;
use crate::auth::{EndpointGrant, Provider};
use crate::codec::avro::ExtensionData;
use crate::shard::connection::Hold;
use crate::shard::core::Core;
use crate::shard::mail::{Mail, Report};
use crate::telemetry::CloseReason;
use crate::uplink::ledger::{Limits, SubjectId};

const TOPIC: &str = "kp1/v1/dcx/e0/json";

/// One shard, and clients that say what the test says.
pub(super) struct Rig {
    pub(super) core: Core,
    pub(super) ring: Ring,
    /// Whether sends go through.
    pub(super) reads: bool,
    pub(super) heard: HashMap<u32, Vec<u8>>,
    pub(super) reports: Receiver<Report>,
}

impl Rig {
    pub(super) fn new(setup: &Setup) -> Self {
        let (mut cores, _, reports) = setup.build();
        let (mut core, _) = cores.remove(0);
        core.now.ms = 1000;
        core.link_up(4096);
        Self { core, ring: Ring::default(), reads: true, heard: HashMap::new(), reports }
    }

    pub(super) fn turn(&mut self) {
        self.core.resume_waiting();
        loop {
            while self.core.handshakes.has_steps() {
                self.core.shake_hands();
            }
            while let Some(index) = self.core.dirty.pop() {
                self.core.finish(index, &mut self.ring);
            }
            if !self.reads || self.ring.sends.is_empty() {
                return;
            }
            for (index, bytes) in std::mem::take(&mut self.ring.sends) {
                self.heard.entry(index).or_default().extend_from_slice(&bytes);
                self.core.sent(index, bytes, true);
            }
        }
    }

    pub(super) fn say(&mut self, index: u32, bytes: &[u8]) {
        self.core.guard(index, |core| core.received(index, bytes));
        self.turn();
    }

    /// A client that is let in.
    pub(super) fn client(&mut self, level: u8, keep_alive_s: u16) -> u32 {
        let socket = File::open("/dev/null").expect("is there").into();
        let index = self.core.opened(socket, MQTT).expect("accepted");
        let client_id = format!("client-{index}");
        let asked = Connect { client_id, clean: true, keep_alive_s, ..Connect::default() };
        self.say(index, &wire::connect(level, &asked));
        let heard = self.take_heard(level, index);
        assert_eq!(heard, [FromServer::ConnAck { present: false, code: 0 }]);
        index
    }

    fn take_heard(&mut self, level: u8, index: u32) -> Vec<FromServer> {
        let bytes = self.heard.remove(&index).unwrap_or_default();
        let mut packets = Vec::new();
        let mut at = 0;
        while let Some((packet, len)) = wire::take(level, &bytes[at..]) {
            packets.push(packet);
            at += len;
        }
        assert_eq!(at, bytes.len());
        packets
    }

    /// NATS takes all there is. Returns how many messages that was.
    pub(super) fn carry(&mut self) -> usize {
        let mut messages = 0;
        loop {
            let batch = self.core.ledger.borrow_mut().take_for_write();
            let Some(batch) = batch else { return messages };
            messages += batch.windows(4).filter(|bytes| bytes == b"PUB ").count();
            let has_ping = batch.ends_with(b"PING\r\n");
            self.core.ledger.borrow_mut().write_done(batch);
            if has_ping {
                self.core.ledger.borrow_mut().pong().expect("awaited");
                self.core.settle();
            }
            self.turn();
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 1000 {
            self.core.now.ms += 1000;
            self.core.tick();
            self.turn();
        }
    }

    pub(super) fn leave(&mut self, index: u32, failed: bool) {
        self.ring.receives.remove(&index);
        self.ring.cancels.remove(&index);
        self.core.receive_stopped(index);
        self.core.peer_ended(index, failed);
        self.turn();
    }

    pub(super) fn why_closed(&self, index: u32) -> Option<CloseReason> {
        self.core.connections[index as usize].close_reason
    }
}

pub(super) fn message(level: u8, topic: &str, qos: u8, packet_id: u16) -> Vec<u8> {
    let payload = b"21";
    wire::publish(level, &Publish { topic, payload, qos, packet_id, dup: false, alias: 0 })
}

#[test]
fn qos_0_messages_alone_never_stop_the_shard_for_want_of_a_confirmation() {
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(4, 0);
    let messages: Vec<u8> = (0..100).flat_map(|_| message(4, TOPIC, 0, 0)).collect();
    rig.say(index, &messages);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Uplink);
    assert_eq!(rig.carry(), 100);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::None);
}

#[test]
fn what_a_client_said_before_it_left_is_carried_when_its_window_opens() {
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(4, 0);
    let messages: Vec<u8> = (1..=7).flat_map(|id| message(4, TOPIC, 1, id)).collect();
    rig.say(index, &messages);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Window);
    rig.leave(index, false);
    assert_eq!(rig.carry(), 7);
    assert_eq!(rig.core.connections.len(), 0);
}

#[test]
fn a_client_that_never_reads_is_ended_by_its_keep_alive() {
    let mut setup = Setup::plain();
    setup.settings.policy.outbound_bytes_max = 100;
    let mut rig = Rig::new(&setup);
    let index = rig.client(4, 10);
    rig.reads = false;
    rig.say(index, &wire::ping().repeat(200));
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Output);
    rig.pass(14_000);
    assert_eq!(rig.why_closed(index), None);
    rig.pass(3_000);
    assert_eq!(rig.why_closed(index), Some(CloseReason::KeepAliveTimeout));
}

#[test]
fn who_waits_for_the_uplink_is_not_ended_by_its_keep_alive() {
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(4, 10);
    let messages: Vec<u8> = (0..100).flat_map(|_| message(4, TOPIC, 0, 0)).collect();
    rig.say(index, &messages);
    rig.pass(100_000);
    assert_eq!(rig.why_closed(index), None);
    assert_eq!(rig.carry(), 100);
}

#[test]
fn clients_that_leave_while_they_wait_do_not_pile_up() {
    let mut setup = Setup::plain();
    setup.limits = Limits { batch_bytes_max: 200, unconfirmed_bytes_max: 200 };
    let mut rig = Rig::new(&setup);
    for _ in 0..500 {
        let index = rig.client(4, 0);
        rig.say(index, &message(4, TOPIC, 1, 1).repeat(3));
        rig.leave(index, true);
    }
    assert!(rig.core.waiting.len() < 100, "{}", rig.core.waiting.len());
    assert_eq!(rig.core.connections.len(), 0);
}

#[test]
#[cfg(debug_assertions)]
fn a_panic_ends_one_connection_whenever_its_message_is_taken() {
    let mut setup = Setup::plain();
    setup.settings.fault_topic = Some("panic".to_owned());
    let mut rig = Rig::new(&setup);
    let (index, other) = (rig.client(4, 0), rig.client(4, 0));
    let mut messages: Vec<u8> = (1..=3).flat_map(|id| message(4, TOPIC, 1, id)).collect();
    messages.extend(message(4, "panic", 1, 4));
    rig.say(other, &message(4, TOPIC, 1, 1));
    rig.say(index, &messages);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Window);
    assert_eq!(rig.carry(), 4);
    assert_eq!(rig.why_closed(index), Some(CloseReason::Panic));
    assert_eq!(rig.core.counters.panics.get(), 1);
    assert_eq!(rig.take_heard(4, other), [FromServer::PubAck { packet_id: 1, code: 0 }]);
    assert_eq!(rig.why_closed(other), None);
}

#[test]
#[cfg(debug_assertions)]
fn a_panic_while_the_uplink_has_room_again_is_no_different() {
    let mut setup = Setup::plain();
    setup.settings.fault_topic = Some("panic".to_owned());
    let mut rig = Rig::new(&setup);
    let index = rig.client(4, 0);
    let mut messages: Vec<u8> = (0..40).flat_map(|_| message(4, TOPIC, 0, 0)).collect();
    messages.extend(message(4, "panic", 0, 0));
    rig.say(index, &messages);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Uplink);
    assert_eq!(rig.carry(), 40);
    assert_eq!(rig.why_closed(index), Some(CloseReason::Panic));
}

#[test]
fn a_draining_shard_takes_what_waits_for_the_uplink_and_reads_no_more() {
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(5, 0);
    let messages: Vec<u8> = (0..40).flat_map(|_| message(5, TOPIC, 0, 0)).collect();
    rig.say(index, &messages);
    rig.core.mail(Mail::Drain);
    rig.turn();
    assert!(!rig.core.goodbyes_are_due());
    assert_eq!(rig.carry(), 40);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Draining);
    assert!(rig.core.goodbyes_are_due());
    rig.core.say_goodbye_to_all();
    rig.turn();
    assert_eq!(rig.take_heard(5, index), [FromServer::Disconnect { code: 0x8B }]);
    assert!(rig.core.is_drained());
}

#[test]
fn an_affinity_that_nobody_listens_on_is_forgotten_by_messages_nobody_waits_for() {
    const AFFINITY: &str = "kaa.v1.replica.cmx-a.esp.ClientData";
    let topic = "kp1/v1/cmx/e0/config/json";
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(4, 0);
    rig.say(index, &message(4, topic, 0, 0));
    rig.carry();
    let (push, _) = nats::push("e0", &mut Truth::default(), &mut Random::new(0));
    rig.core.extension_data(Some(AFFINITY), &push);
    let subject = |rig: &mut Rig| {
        rig.say(index, &message(4, topic, 0, 0));
        let batch = rig.core.ledger.borrow_mut().take_for_write().expect("a message");
        let line = String::from_utf8_lossy(&batch[..80]).into_owned();
        rig.core.ledger.borrow_mut().write_done(batch);
        line.split(' ').nth(1).expect("a subject").to_owned()
    };
    assert_eq!(subject(&mut rig), AFFINITY);
    let mut ledger = rig.core.ledger.borrow_mut();
    ledger.no_responders(Some(SubjectId::of(AFFINITY.as_bytes())));
    ledger.pong().expect("awaited");
    drop(ledger);
    rig.core.settle();
    assert_eq!(subject(&mut rig), "kaa.v1.service.cmx.esp.ClientData");
}

#[test]
fn what_is_for_another_tenants_endpoint_of_the_same_id_is_not_delivered() {
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(4, 0);
    rig.say(index, &message(4, TOPIC, 0, 0));
    let push = |version| {
        let mut datum = Vec::new();
        ExtensionData {
            correlation_id: "push",
            timestamp_ms: 0,
            timeout_ms: 0,
            app_version_name: version,
            extension_instance_name: Some("cmx"),
            endpoint_id: Some("e0"),
            resource_path: "/config/json",
            request_id: None,
            payload: None,
            status_code: 200,
            reason_phrase: None,
        }
        .encode(&mut datum);
        datum
    };
    rig.core.extension_data(None, &push(Some("v2")));
    rig.turn();
    assert_eq!(rig.take_heard(4, index), []);
    for version in [Some("v1"), None] {
        rig.core.extension_data(None, &push(version));
        rig.turn();
        assert_eq!(rig.take_heard(4, index).len(), 1, "{version:?}");
    }
}

#[test]
fn a_client_that_only_publishes_holds_no_buffer() {
    let mut rig = Rig::new(&Setup::plain());
    let index = rig.client(4, 0);
    rig.say(index, &message(4, TOPIC, 0, 0));
    let connection = &rig.core.connections[index as usize];
    assert_eq!((connection.out.capacity(), connection.pending.capacity()), (0, 0));
}

#[test]
fn an_error_too_long_for_a_topic_is_not_sent() {
    let mut setup = Setup::plain();
    setup.settings.policy.packet_bytes_max = 100_000;
    let mut rig = Rig::new(&setup);
    let index = rig.client(5, 0);
    let topic = format!("kp1/v9/dcx/{}/1", "x".repeat(65_500));
    rig.say(index, &message(5, &format!("{topic}{}", "0".repeat(65_535 - topic.len())), 1, 1));
    let refused = FromServer::PubAck { packet_id: 1, code: 0x90 };
    assert_eq!(rig.take_heard(5, index), [refused]);
}

#[test]
fn a_shard_that_may_have_missed_anything_begins_anew() {
    let mut setup = Setup::plain();
    setup.settings.auth.apps = vec![Provider::Internal];
    let mut rig = Rig::new(&setup);
    let (speaker, listener, new) = (rig.client(5, 0), rig.client(4, 0), rig.client(4, 0));
    let granted = || EndpointGrant { endpoint_id: "e0".into(), token_id: Some("id".into()) };
    rig.core.verdicts.granted(0, "e0", granted(), u64::MAX);
    rig.say(speaker, &message(5, TOPIC, 0, 0));
    assert_eq!((rig.carry(), rig.core.endpoints.len()), (1, 1));
    rig.core.mail(Mail::Distrust);
    rig.turn();
    assert_eq!(rig.take_heard(5, speaker), [FromServer::Disconnect { code: 0x98 }]);
    for index in [speaker, listener, new] {
        assert_eq!(rig.why_closed(index), Some(CloseReason::Revoked));
    }
    assert!(rig.core.endpoints.is_empty() && rig.core.verdicts.is_empty());

    // Who comes back is asked about, and an answer from before says nothing.
    let again = rig.client(5, 0);
    rig.say(again, &message(5, TOPIC, 1, 1));
    assert_eq!(rig.carry(), 0);
    assert!(rig.core.revoked_lately.is_doubtful(&[], rig.core.now.ms));
}

#[test]
fn an_endpoint_that_roamed_is_gone_and_its_next_message_claims_it_anew() {
    let mut rig = Rig::new(&Setup::plain());
    let (index, other) = (rig.client(4, 0), rig.client(4, 0));
    let here =
        || Report::EndpointHere { shard: 0, endpoint: "e0".into(), app_version: "v1".into() };
    rig.say(index, &message(4, TOPIC, 0, 0));
    rig.say(other, &message(4, TOPIC, 0, 0));
    assert_eq!(rig.reports.try_recv(), Ok(here()));
    for _ in 0..2 {
        rig.core.mail(Mail::Roamed { endpoints: ["e0".into()].into() });
    }
    assert!(rig.core.endpoints.is_empty());
    let gone = Report::EndpointGone { shard: 0, endpoint: "e0".into() };
    assert_eq!(rig.reports.try_recv(), Ok(gone), "once");
    rig.say(index, &message(4, TOPIC, 0, 0));
    assert_eq!(rig.reports.try_recv(), Ok(here()));
    rig.leave(other, true);
    assert!(rig.reports.try_recv().is_err(), "it does not speak for it any more");
    rig.leave(index, true);
    assert!(matches!(rig.reports.try_recv(), Ok(Report::EndpointGone { .. })));
    assert_eq!(rig.carry(), 3);
}
