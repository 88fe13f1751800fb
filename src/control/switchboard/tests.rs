use super::*;
use crate::admin::Change;
use crate::auth::{Busy, Clerk, LaidDown, Question, Revocation, Ticket};
use crate::codec::avro::elce::ConnectivityEvent;
use crate::codec::avro::{Header, ecap};
use crate::config::Settings;
use crate::control::late::LATE_TENANTS_MAX;
use crate::control::news::REPLIES_MAX;
use crate::control::providers::tell_changes;
use crate::control::serve::{Asked, Service, answers};
use crate::control::tenants::testing;
use crate::shard::mail::{MAILS_MAX, Mailbox, mailbox};
use crate::telemetry::{LinkStatus, ShardCounters};

fn switchboard(shards: usize) -> (Switchboard, Vec<Mailbox>, Arc<ControlCounters>) {
    let counters = Arc::new(ControlCounters::default());
    let (handles, mailboxes) = (0..shards)
        .map(|_| {
            let (mail, mailbox) = mailbox().expect("a descriptor is left");
            let counters = Arc::new(ShardCounters::new());
            (ShardHandle { mail, counters, link: Arc::new(LinkStatus::new()) }, mailbox)
        })
        .unzip();
    (Switchboard::new(handles, testing::two(), news(None), counters.clone()), mailboxes, counters)
}

fn news(service: Option<Service>) -> News {
    News::new(&Settings::default(), service, tokio::sync::mpsc::channel(1).0)
}

fn datum(endpoint_id: Option<&str>) -> Bytes {
    datum_of(Some("av1"), endpoint_id)
}

fn datum_of(app_version_name: Option<&str>, endpoint_id: Option<&str>) -> Bytes {
    let data = ExtensionData {
        correlation_id: "c1",
        timestamp_ms: 1,
        timeout_ms: 0,
        app_version_name,
        extension_instance_name: Some("cmx"),
        endpoint_id,
        resource_path: "/config/json",
        request_id: None,
        payload: Some(b"{}"),
        status_code: 200,
        reason_phrase: None,
    };
    let mut out = Vec::new();
    data.encode(&mut out);
    out.into()
}

fn taken(mailbox: &mut Mailbox) -> Vec<Mail> {
    let mut mails = Vec::new();
    mailbox.drain(|mail| mails.push(mail));
    mails
}

#[test]
fn a_push_goes_to_the_shard_that_holds_its_endpoint() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(2);
    switchboard.endpoint_here(1, "e1".into(), "v");
    switchboard.push(Some("kaa.v1.replica.x.esp.ClientData"), datum(Some("e1")));
    assert!(taken(&mut mailboxes[0]).is_empty());
    let mails = taken(&mut mailboxes[1]);
    let [Mail::Push { reply_to: Some(reply_to), datum: delivered }] = &mails[..] else {
        panic!("{mails:?}");
    };
    assert_eq!(&**reply_to, "kaa.v1.replica.x.esp.ClientData");
    assert_eq!(*delivered, datum(Some("e1")));
    assert_eq!((counters.pushes_received.get(), counters.pushes_posted.get()), (1, 1));
    assert_eq!(counters.directory_endpoints.get(), 1);
}

#[test]
fn pushes_for_nobody_here_are_dropped_and_counted() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(1);
    switchboard.endpoint_here(0, "e1".into(), "v");
    switchboard.endpoint_gone(0, "e1");
    switchboard.push(None, datum(Some("e1")));
    switchboard.push(None, datum(None));
    switchboard.push(None, Bytes::from_static(b"\x04"));
    assert!(taken(&mut mailboxes[0]).is_empty());
    for reason in [PushDrop::NotHeld, PushDrop::NoEndpoint, PushDrop::Malformed] {
        assert_eq!(counters.pushes_dropped[reason.index()].get(), 1, "{reason}");
    }
    assert_eq!(counters.directory_endpoints.get(), 0);
}

#[test]
fn a_shard_that_does_not_empty_its_mailbox_loses_pushes_and_nobody_waits() {
    let (mut switchboard, _mailboxes, counters) = switchboard(1);
    switchboard.endpoint_here(0, "e1".into(), "v");
    for _ in 0..MAILS_MAX + 3 {
        switchboard.push(None, datum(Some("e1")));
    }
    assert_eq!(counters.pushes_dropped[PushDrop::MailboxFull.index()].get(), 3);
}

#[test]
fn the_shard_an_endpoint_left_is_told() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(2);
    switchboard.endpoint_here(0, "e1".into(), "v");
    switchboard.endpoint_here(1, "e1".into(), "v");
    let mails = taken(&mut mailboxes[0]);
    assert!(matches!(&mails[..], [Mail::RouteMoved { endpoint }] if &**endpoint == "e1"));
    assert_eq!(counters.routes_moved.get(), 1);
    switchboard.push(None, datum(Some("e1")));
    assert_eq!(taken(&mut mailboxes[1]).len(), 1);
}

#[test]
fn a_push_goes_back_to_the_shard_that_still_has_the_endpoint() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(2);
    switchboard.endpoint_here(0, "e1".into(), "v");
    switchboard.endpoint_here(1, "e1".into(), "v");
    taken(&mut mailboxes[0]);
    switchboard.endpoint_gone(1, "e1");
    assert_eq!(counters.routes_moved.get(), 2);
    switchboard.push(None, datum(Some("e1")));
    assert!(matches!(&taken(&mut mailboxes[0])[..], [Mail::Push { .. }]));
    assert!(taken(&mut mailboxes[1]).is_empty());
    switchboard.endpoint_gone(0, "e1");
    assert_eq!((counters.routes_moved.get(), counters.directory_endpoints.get()), (2, 0));
}

#[test]
fn a_report_of_a_shard_that_does_not_exist_harms_nothing() {
    let (mut switchboard, _mailboxes, counters) = switchboard(1);
    switchboard.endpoint_here(7, "e1".into(), "v");
    switchboard.push(None, datum(Some("e1")));
    assert_eq!(counters.pushes_posted.get(), 0);
}

#[test]
fn of_two_tenants_endpoints_with_one_id_none_gets_what_is_for_the_other() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(2);
    let told = || counters.connectivity_pending.get();
    switchboard.endpoint_here(0, "e1".into(), "acme-1");
    switchboard.endpoint_here(1, "e1".into(), "other-1");
    assert_eq!((counters.endpoints_alien.get(), counters.routes_moved.get()), (1, 0));
    assert_eq!(told(), 1);
    // It is to report the endpoint anew with its next message.
    let mails = taken(&mut mailboxes[1]);
    assert!(matches!(&mails[..], [Mail::RouteMoved { endpoint }] if &**endpoint == "e1"));
    for version in [Some("acme-2"), Some("other-1"), None] {
        switchboard.push(None, datum_of(version, Some("e1")));
    }
    assert_eq!(taken(&mut mailboxes[0]).len(), 2, "its own, and what names no version");
    assert_eq!(counters.pushes_dropped[PushDrop::WrongTenant.index()].get(), 1);
    switchboard.endpoint_wanted(0, 7, "e1".into(), "other-1");
    let mails = taken(&mut mailboxes[0]);
    assert!(matches!(mails[..], [Mail::Placed { ask: 7, is_granted: false }]), "{mails:?}");

    // The other's farewell is no news; once the first has gone, the other is let in.
    switchboard.endpoint_gone(1, "e1");
    assert_eq!((told(), counters.directory_endpoints.get()), (1, 1));
    switchboard.endpoint_gone(0, "e1");
    switchboard.endpoint_here(1, "e1".into(), "other-1");
    assert_eq!(told(), 3);
    switchboard.push(None, datum_of(Some("other-1"), Some("e1")));
    assert!(matches!(&taken(&mut mailboxes[1])[..], [Mail::Push { .. }]));
    assert!(taken(&mut mailboxes[0]).is_empty());
}

#[test]
fn another_replica_takes_no_endpoint_over_for_another_tenants_of_the_same_id() {
    let (mut switchboard, mut mailboxes, _) = switchboard(1);
    switchboard.endpoint_here(0, "e1".into(), "acme-1");
    let claim = |version| {
        let mut datum = Vec::new();
        let timestamp_ms = clock::unix_ms() + 60_000;
        let header = Header { correlation_id: "theirs", timestamp_ms, timeout_ms: 0 };
        ConnectivityEvent::encode(&header, [("e1", version)].into_iter(), "r2", &mut datum);
        datum
    };
    // Ours has been told long ago.
    switchboard.news = news(None);
    switchboard.connectivity_heard(Kind::Connected, &claim("other-1"));
    assert!(taken(&mut mailboxes[0]).is_empty());
    switchboard.connectivity_heard(Kind::Connected, &claim("acme-2"));
    assert!(matches!(&taken(&mut mailboxes[0])[..], [Mail::Roamed { .. }]));
}

#[test]
fn endpoints_of_one_event_that_roamed_come_to_a_shard_in_one_mail() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(2);
    for (shard, endpoint) in [(0, "e1"), (1, "e2"), (0, "e3"), (1, "e3")] {
        switchboard.endpoint_here(shard, endpoint.into(), "v");
    }
    taken(&mut mailboxes[0]);
    switchboard.endpoints_roamed(["e1", "e2", "e3"].map(Into::into).into());
    for (mailbox, expected) in mailboxes.iter_mut().zip([["e1", "e3"], ["e2", "e3"]]) {
        let mails = taken(mailbox);
        let [Mail::Roamed { endpoints }] = &mails[..] else { panic!("{mails:?}") };
        assert_eq!(**endpoints, expected.map(Box::from));
    }
    assert_eq!((counters.roamed.get(), counters.directory_endpoints.get()), (3, 0));
}

/// Has no time for anybody.
struct Refusing;

impl Clerk for Refusing {
    fn ask(&self, _: Ticket, _: Question) -> Result<(), Busy> {
        Err(Busy)
    }
}

#[test]
fn of_too_many_replies_the_oldest_are_given_up() {
    let (mut switchboard, _mailboxes, counters) = switchboard(1);
    let service = Service { clerk: Arc::new(Refusing), answers: answers().1 };
    switchboard.news = news(Some(service));
    for asker in 0..REPLIES_MAX + 2 {
        let (mut datum, asker) = (Vec::new(), asker.to_string());
        let header = Header { correlation_id: &asker, timestamp_ms: 0, timeout_ms: 0 };
        ecap::EndpointTokenValidationRequest { header, app_name: "a", token: "t" }
            .encode(&mut datum);
        switchboard.asked(Asked::Token, Some(&asker), &datum);
    }
    assert_eq!(counters.replies_lost.get(), 2);
    let mut asked = Vec::new();
    while let Some((subject, _)) = switchboard.next_message() {
        asked.push(subject);
    }
    let expected = (2..REPLIES_MAX + 2).map(|asker| asker.to_string());
    assert!(asked.into_iter().eq(expected));
}

#[tokio::test]
async fn changes_of_the_store_wait_while_too_many_tenants_are_news_to_a_stuck_shard() {
    let (mut switchboard, mut mailboxes, _) = switchboard(1);
    while switchboard.post(0, Mail::Doubt).is_ok() {}
    for tenant in 0..LATE_TENANTS_MAX {
        let tenant: Box<str> = tenant.to_string().into();
        switchboard.post_surely(0, Mail::Enforcement { tenant, demands: LaidDown::default() });
    }
    let switchboard = RefCell::new(switchboard);
    let (changes, taken_changes) = tokio::sync::mpsc::channel(1);
    let revocation = Revocation::Tenant { tenant: "t".into() };
    changes.try_send(Change::Revoked(revocation)).expect("room");
    let telling = tell_changes(Some(taken_changes), &switchboard);
    let test = async {
        changes.reserve().await.expect("the change is taken");
        let revoked = |counters: &ControlCounters| counters.revocations_own.get();
        assert_eq!(revoked(&switchboard.borrow().counters), 0, "and waits");
        while !taken(&mut mailboxes[0]).is_empty() {}
        switchboard.borrow_mut().retry_late();
        while revoked(&switchboard.borrow().counters) == 0 {
            tokio::time::sleep(LATE_PAUSE).await;
        }
    };
    tokio::select! {
        never = telling => match never {},
        () = test => {}
    }
}

#[test]
fn what_must_not_be_lost_waits_for_room_in_a_full_mailbox() {
    let (mut switchboard, mut mailboxes, counters) = switchboard(1);
    switchboard.endpoint_here(0, "e1".into(), "v");
    for _ in 0..MAILS_MAX {
        switchboard.push(None, datum(Some("e1")));
    }
    switchboard.doubt();
    switchboard.endpoints_roamed(vec!["e1".into()]);
    assert!(!switchboard.retry_late());
    while !taken(&mut mailboxes[0]).is_empty() {}
    assert!(switchboard.retry_late());
    let mails = taken(&mut mailboxes[0]);
    assert!(matches!(&mails[..], [Mail::Doubt, Mail::Roamed { .. }]), "{mails:?}");
    assert_eq!((counters.roamed.get(), counters.mails_given_up.get()), (1, 0));
    assert_eq!(counters.directory_endpoints.get(), 0);
}
