//! Messages that wait for a verdict, and what becomes of them meanwhile: single situations, set up
//! by hand.

use std::rc::Rc;

use super::directed::{Rig, message};
use super::setup::Setup;
use crate::auth::{
    ClientGrant, EndpointGrant, LaidDown, Method, Provider, Requirement, Revocation, Verdict,
};
use crate::session::catalogue::AppId;
use crate::shard::clients::Client;
use crate::shard::mail::{Mail, Report};
use crate::shard::parked::message_bytes;
use crate::telemetry::DropReason;

const APP: AppId = AppId(0);
const TOPIC: &str = "kp1/v1/dcx/e0/json";
const OTHER_TOPIC: &str = "kp1/v1/dcx/e1/json";

/// A shard whose provider answers when the test does.
fn rig() -> Rig {
    let mut setup = Setup::plain();
    setup.settings.auth.apps = vec![Provider::Internal];
    Rig::new(&setup)
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
        assert_eq!(dropped(&rig, DropReason::WrongTenant), 2 - expected as u64);
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
    let mut setup = Setup::plain();
    setup.settings.auth.apps = vec![Provider::Internal];
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
