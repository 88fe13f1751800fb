//! Messages that wait for a verdict, and what becomes of them meanwhile: single situations, set up
//! by hand.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::directed::{Rig, message};
use super::setup::{MQTT, Setup};
use super::wire::{self, Publish};
use crate::auth::{
    ClientGrant, EndpointGrant, LaidDown, Method, Provider, Requirement, Revocation, Verdict,
};
use crate::session::catalogue::AppId;
use crate::shard::asks;
use crate::shard::clients::Client;
use crate::shard::mail::{Mail, Report};
use crate::shard::parked::message_bytes;
use crate::telemetry::{CloseReason, DropReason};
use crate::uplink::ledger::SubjectId;

const APP: AppId = AppId(0);
const TOPIC: &str = "kp1/v1/dcx/e0/json";
/// Where questions about tokens go.
const ECAP_SUBJECT: &[u8] = b"kaa.v1.service.cm.ecap.ep-token-request";
const ASKS: asks::Limits = asks::Limits { asks_max: 10, timeout_ms: 1000, attempts_max: 2 };
/// Longer than a question may take, but not by much.
const LONG_MS: u64 = 4000;
const OTHER_TOPIC: &str = "kp1/v1/dcx/e1/json";

/// A shard whose provider answers when the test does.
fn rig() -> Rig {
    Rig::new(&setup())
}

fn setup() -> Setup {
    let mut setup = Setup::plain();
    setup.settings.auth.apps = vec![Provider::Internal];
    setup.settings.policy.receive_maximum = 10;
    setup
}

fn socket() -> OwnedFd {
    File::open("/dev/null").expect("is there").into()
}

/// The client of a connection is of a tenant, and has proven that by a password.
fn prove(rig: &mut Rig, index: u32, tenant: &str, credentials_id: &str) {
    let (tenant, credentials_id) = (tenant.into(), Some(credentials_id.into()));
    let grant = ClientGrant { tenant, credentials_id, client_id: None };
    let key = rig.core.connections[index as usize].key(index);
    let client = rig.core.clients.join(Client { grant, method: Method::Basic }, key);
    rig.core.counters.clients_authenticated.add(1);
    rig.core.connections[index as usize].client = Some(client);
}

/// A client that publishes one message, which waits, and leaves.
fn one_that_left(rig: &mut Rig, credentials_id: Option<&str>) {
    let index = rig.client(4, 0);
    if let Some(id) = credentials_id {
        prove(rig, index, "acme", id);
    }
    rig.say(index, &message(4, TOPIC, 1, 1));
    rig.leave(index, false);
    assert!(rig.core.connections.is_empty() && !rig.core.parked.is_empty());
}

/// The provider says that a token is good.
fn answer_well(rig: &mut Rig, token: &str) {
    let ask = rig.core.asks.of_token(APP, token).expect("it is being asked about");
    let grant = EndpointGrant { endpoint_id: token.into(), token_id: Some("id".into()) };
    rig.core.mail(Mail::Answered { ask, verdict: Verdict::Endpoint(grant) });
    rig.turn();
}

fn dropped(rig: &Rig, reason: DropReason) -> u64 {
    rig.core.counters.messages_dropped[reason.index()].get()
}

fn revoke(rig: &mut Rig, credentials_id: &str) {
    let credentials_id = credentials_id.into();
    let revocation = Revocation::Client { tenant: None, method: None, credentials_id };
    rig.core.mail(Mail::Revoked(revocation.into()));
    rig.turn();
}

#[test]
fn a_message_is_dropped_when_its_clients_credentials_are_revoked_though_it_has_left() {
    let mut rig = rig();
    one_that_left(&mut rig, Some("c"));
    one_that_left(&mut rig, Some("c"));
    one_that_left(&mut rig, Some("d"));
    revoke(&mut rig, "c");
    assert_eq!(dropped(&rig, DropReason::TokenUnvalidated), 2);
    assert!(rig.core.clients.with_credentials("c", None, None).is_empty());
    answer_well(&mut rig, "e0");
    assert_eq!(rig.carry(), 1, "of other credentials");
    assert!(rig.core.clients.with_credentials("d", None, None).is_empty());
}

#[test]
fn who_has_left_is_found_as_long_as_one_of_its_messages_waits() {
    let mut rig = rig();
    let index = rig.client(4, 0);
    prove(&mut rig, index, "acme", "c");
    rig.say(index, &message(4, TOPIC, 0, 0));
    rig.say(index, &message(4, OTHER_TOPIC, 0, 0));
    rig.leave(index, false);
    answer_well(&mut rig, "e0");
    assert_eq!(rig.carry(), 1);
    revoke(&mut rig, "c");
    assert_eq!(dropped(&rig, DropReason::TokenUnvalidated), 1);
    assert!(rig.core.parked.is_empty());
}

#[test]
fn a_message_is_dropped_when_its_tenant_is_no_more_or_anything_may_have_been_missed() {
    let tenant = || Revocation::Tenant { tenant: "acme".into() };
    for mail in [Mail::Revoked(tenant().into()), Mail::Distrust] {
        let mut rig = rig();
        one_that_left(&mut rig, Some("c"));
        one_that_left(&mut rig, None);
        rig.core.mail(mail);
        assert_eq!(dropped(&rig, DropReason::TokenUnvalidated), 2);
        answer_well(&mut rig, "e0");
        assert_eq!(rig.carry(), 0);
    }
}

#[test]
fn who_has_left_is_judged_by_what_its_tenant_demands_when_the_verdict_is_there() {
    for (requirement, expected) in [
        (Requirement::None, 2),
        (Requirement::Any, 1),
        (Requirement::Basic, 1),
        (Requirement::Certificate, 0),
    ] {
        let mut rig = rig();
        one_that_left(&mut rig, None);
        one_that_left(&mut rig, Some("c"));
        let demands = LaidDown { mqtt_tcp: Some(requirement), ..LaidDown::default() };
        rig.core.mail(Mail::Enforcement { tenant: "acme".into(), demands });
        answer_well(&mut rig, "e0");
        assert_eq!(rig.carry(), expected, "{requirement:?}");
        assert_eq!(dropped(&rig, DropReason::NotProven), 2 - expected as u64);
    }
}

#[test]
fn who_has_left_is_judged_by_the_transport_it_came_by() {
    let mut rig = rig();
    one_that_left(&mut rig, None);
    let demands = LaidDown { mqtt_tls: Some(Requirement::Any), ..LaidDown::default() };
    rig.core.mail(Mail::Enforcement { tenant: "acme".into(), demands });
    answer_well(&mut rig, "e0");
    assert_eq!(rig.carry(), 1);
}

#[test]
fn who_has_left_talks_for_no_other_tenant() {
    let mut rig = rig();
    one_that_left(&mut rig, Some("c"));
    // It cannot come about, since what a client has proven stays as it is: so by hand.
    let ask = rig.core.asks.of_token(APP, "e0").expect("it is being asked about");
    let mut waiting = rig.core.parked.take_first(ask).expect("a message");
    let grant = ClientGrant { tenant: "beta".into(), credentials_id: None, client_id: None };
    waiting.client = Some(Rc::new(Client { grant, method: Method::Basic }));
    rig.core.parked.push(ask, waiting);
    answer_well(&mut rig, "e0");
    assert_eq!(rig.carry(), 0);
    assert_eq!(dropped(&rig, DropReason::WrongTenant), 1);
}

#[test]
fn nobody_is_asked_for_a_message_that_has_no_room_to_wait() {
    let mut setup = setup();
    setup.settings.auth.rejecting = vec![APP];
    setup.settings.auth.parked_bytes_per_shard_max = message_bytes(TOPIC.len(), 2);
    let mut rig = Rig::new(&setup);
    let index = rig.client(5, 0);
    rig.say(index, &message(5, TOPIC, 0, 0));
    assert_eq!((rig.core.asks.len(), dropped(&rig, DropReason::ParkedFull)), (1, 0));
    rig.say(index, &message(5, OTHER_TOPIC, 0, 0));
    assert_eq!((rig.core.asks.len(), dropped(&rig, DropReason::ParkedFull)), (1, 1));

    // Nor where the endpoint may be in one place only.
    let grant = EndpointGrant { endpoint_id: "e1".into(), token_id: None };
    rig.core.verdicts.granted(APP.0, "e1", grant, u64::MAX);
    rig.say(index, &message(5, OTHER_TOPIC, 0, 0));
    assert_eq!(dropped(&rig, DropReason::ParkedFull), 2);
    assert!(rig.reports.try_recv().is_err());

    // The message that waits has the room it needs for the next question.
    answer_well(&mut rig, "e0");
    assert!(matches!(rig.reports.try_recv(), Ok(Report::EndpointWanted { .. })));
    assert_eq!(rig.core.parked.bytes(), message_bytes(TOPIC.len(), 2));
}

/// Message `number` of a client.
fn numbered(qos: u8, number: u16, payload_bytes: usize) -> Vec<u8> {
    let payload = format!("{number:x<payload_bytes$}");
    let (payload, packet_id) = (payload.as_bytes(), if qos > 0 { number } else { 0 });
    wire::publish(4, &Publish { topic: TOPIC, payload, qos, packet_id, dup: false, alias: 0 })
}

/// The numbers of the messages that NATS gets, in order.
fn carried(rig: &mut Rig) -> Vec<u16> {
    let mut numbers = Vec::new();
    loop {
        let batch = rig.core.ledger.borrow_mut().take_for_write();
        let Some(batch) = batch else { return numbers };
        let text = String::from_utf8_lossy(&batch).into_owned();
        let number = |at| text[..at].bytes().last().map(|digit| u16::from(digit - b'0'));
        numbers.extend(text.match_indices("xxx").filter_map(|(at, _)| number(at)));
        rig.core.ledger.borrow_mut().write_done(batch);
    }
}

#[test]
fn what_waits_behind_a_message_that_ends_its_connection_is_of_one_that_has_ended() {
    let mut rig = rig();
    let (index, other) = (rig.client(4, 0), rig.client(4, 0));
    // The second is too large by then, which the client can only be told after the first.
    for (qos, number, bytes) in [(1, 1, 4), (1, 2, 300), (0, 3, 4), (2, 4, 4), (1, 5, 4)] {
        rig.say(index, &numbered(qos, number, bytes));
    }
    rig.say(other, &numbered(1, 6, 4));
    rig.core.link_up(250);
    let filler = rig.client(5, 0);
    while !rig.core.ledger.borrow().is_full() {
        rig.say(filler, &message(5, "kp1/v1/tsx/json", 0, 0));
    }
    answer_well(&mut rig, "e0");
    assert_eq!(rig.why_closed(index), Some(CloseReason::UplinkRefused), "no room to remember it");
    assert_eq!(rig.why_closed(other), None);
    assert_eq!(dropped(&rig, DropReason::PayloadTooLarge), 1);
    // That of QoS 2 is left to its client.
    assert_eq!(carried(&mut rig), [1, 3, 5, 6]);
    assert!(rig.core.parked.is_empty());
}

#[test]
fn what_waits_behind_a_message_whose_connection_is_put_out_is_forgotten() {
    let mut rig = rig();
    let (index, other) = (rig.client(4, 0), rig.client(4, 0));
    prove(&mut rig, other, "acme", "c");
    for number in 1..=3 {
        rig.say(index, &numbered(1, number, 4));
        rig.say(other, &numbered(1, number + 3, 4));
    }
    // Nobody is put out at once: so by hand.
    let demands = LaidDown { mqtt_tcp: Some(Requirement::Any), ..LaidDown::default() };
    rig.core.settings.auth.tenants.lay_down("acme", demands);
    answer_well(&mut rig, "e0");
    assert_eq!(rig.why_closed(index), Some(CloseReason::NotAuthorized));
    assert_eq!(dropped(&rig, DropReason::NotProven), 1, "the message that showed it");
    assert_eq!(dropped(&rig, DropReason::TokenUnvalidated), 2);
    assert_eq!(carried(&mut rig), [4, 5, 6]);
    assert!(rig.core.parked.is_empty());
}

/// NATS has written all there is; of every question it says that nobody was there.
fn nobody_is_there(rig: &mut Rig) {
    let core = &mut rig.core;
    core.ledger.borrow_mut().no_responders(Some(SubjectId::of(ECAP_SUBJECT)));
    core.ledger.borrow_mut().pong().expect("awaited");
    core.settle();
}

fn write(rig: &mut Rig) {
    let batch = rig.core.ledger.borrow_mut().take_for_write().expect("a question");
    rig.core.ledger.borrow_mut().write_done(batch);
}

#[test]
fn that_nobody_heard_an_attempt_which_is_over_does_not_end_the_next() {
    let mut setup = setup();
    setup.settings.auth.apps = vec![Provider::Ecap];
    setup.settings.auth.asks = ASKS;
    let mut rig = Rig::new(&setup);
    let index = rig.client(4, 0);
    rig.say(index, &message(4, TOPIC, 0, 0));
    write(&mut rig);
    for ms in [1000, asks::RETRY_PAUSE_MS] {
        rig.core.now.ms += ms;
        rig.core.asks_due();
    }
    write(&mut rig);
    nobody_is_there(&mut rig);
    assert_eq!(rig.core.asks.len(), 1, "the second attempt is under way");
    nobody_is_there(&mut rig);
    assert!(rig.core.asks.is_empty(), "nobody heard the second either");
    assert_eq!(dropped(&rig, DropReason::TokenUnvalidated), 1);
}

/// The link breaks and is mended, again and again: sooner than a question is answered. Milliseconds
/// until `is_over`, for an hour at most.
fn flap_until(rig: &mut Rig, is_over: impl Fn(&Rig) -> bool) -> Option<u64> {
    for now_ms in (0..3_600_000).step_by(500) {
        if is_over(rig) {
            return Some(now_ms);
        }
        rig.core.link_down();
        for link_is_up in [false, true] {
            if link_is_up {
                rig.core.link_up(4096);
            }
            for _ in 0..5 {
                rig.core.now.ms += asks::ASK_TICK_MS;
                rig.core.asks_due();
            }
        }
        loop {
            let batch = rig.core.ledger.borrow_mut().take_for_write();
            let Some(batch) = batch else { break };
            rig.core.ledger.borrow_mut().write_done(batch);
        }
        rig.core.ledger.borrow_mut().disconnected();
        rig.turn();
    }
    None
}

#[test]
fn a_login_on_a_link_that_breaks_again_and_again_is_given_up_in_time() {
    let mut setup = setup();
    setup.settings.auth.client_provider = Provider::Cap;
    setup.settings.auth.asks = ASKS;
    let mut rig = Rig::new(&setup);
    let index = rig.core.opened(socket(), MQTT).expect("accepted");
    rig.say(index, b"\x10\x18\0\x04MQTT\x04\xC2\0\0\0\x01c\0\x06u@acme\0\x01p");
    assert_eq!(rig.core.asks.len(), 1);
    let over_ms = flap_until(&mut rig, |rig| rig.core.asks.is_empty()).expect("an end");
    assert!((2000..=LONG_MS).contains(&over_ms), "{over_ms}");
    assert_eq!(rig.heard[&index], [0x20, 2, 0, 3], "server unavailable");
}

#[test]
fn a_token_on_a_link_that_breaks_again_and_again_is_given_up_when_the_link_was_up_for_long() {
    let mut setup = setup();
    setup.settings.auth.apps = vec![Provider::Ecap];
    setup.settings.auth.asks = ASKS;
    let mut rig = Rig::new(&setup);
    let index = rig.client(4, 0);
    rig.say(index, &message(4, TOPIC, 0, 0));
    // However long it is down, the message waits.
    rig.core.link_down();
    for _ in 0..100 {
        rig.core.now.ms += LONG_MS;
        rig.core.asks_due();
    }
    assert!(!rig.core.parked.is_empty());
    rig.core.link_up(4096);
    // It is up half of the time.
    let over_ms = flap_until(&mut rig, |rig| rig.core.parked.is_empty()).expect("an end");
    assert!((LONG_MS..=2 * LONG_MS).contains(&over_ms), "{over_ms}");
    assert_eq!(dropped(&rig, DropReason::TokenUnvalidated), 1);
}

#[test]
fn what_is_asked_anew_has_the_time_that_was_left() {
    let mut rig = rig();
    let index = rig.client(4, 0);
    rig.say(index, &message(4, TOPIC, 0, 0));
    let under_way = |rig: &Rig| {
        let number = rig.core.asks.of_token(APP, "e0").expect("under way");
        (number, rig.core.asks.get(number).expect("under way").term)
    };
    let (number, term) = under_way(&rig);
    rig.core.now.ms += 1000;
    // What is granted may have been revoked since it was asked for.
    rig.core.revoked_lately.note("e0", rig.core.now.ms);
    answer_well(&mut rig, "e0");
    let (anew, term_anew) = under_way(&rig);
    assert_ne!(anew, number);
    assert_eq!(term_anew, term);
}
