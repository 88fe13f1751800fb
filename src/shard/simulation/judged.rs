//! Single situations of who may talk: a word of a provider, of the control thread and of a client
//! that cross.

use std::sync::{Arc, Mutex, PoisonError};

use super::directed::{Rig, message};
use super::setup::{MQTT, Setup};
use super::wire;
use crate::auth::{
    Busy, CertificateDetails, CertificateName, Clerk, ClientGrant, EndpointGrant, LaidDown, Method,
    Provider, Question, Rejection, Requirement, Revocation, Ticket, Verdict,
};
use crate::session::catalogue::AppId;
use crate::shard::connection::{Entering, Hold};
use crate::shard::core::Clerks;
use crate::shard::mail::{Mail, Report};
use crate::telemetry::CloseReason;
use crate::tls::PeerCertificate;

const TOPIC: &str = "kp1/v1/dcx/token/json";
/// Of the other tenant.
const OTHER_TOPIC: &str = "kp1/v2/dcx/other/json";

/// Notes what it is asked.
#[derive(Default)]
pub(super) struct Desk(Mutex<Vec<(u64, Question)>>);

impl Desk {
    pub(super) fn take(&self) -> Vec<(u64, Question)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the one question.
    #[track_caller]
    pub(super) fn one(&self) -> u64 {
        let asked = self.take();
        let [(ask, _)] = &asked[..] else { panic!("asked {asked:?}") };
        *ask
    }
}

impl Clerk for Desk {
    fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((ticket.ask, question));
        Ok(())
    }
}

/// A shard whose provider of tokens is a desk.
pub(super) fn rig(adjust: impl FnOnce(&mut Setup)) -> (Rig, Arc<Desk>) {
    let desk = Arc::new(Desk::default());
    let mut setup = Setup::plain();
    setup.clerks = Clerks { internal: Some(desk.clone()), http: None };
    setup.settings.auth.apps = vec![Provider::Internal; 2];
    adjust(&mut setup);
    (Rig::new(&setup), desk)
}

pub(super) fn answer(rig: &mut Rig, ask: u64, verdict: Verdict) {
    rig.core.mail(Mail::Answered { ask, verdict });
    rig.turn();
}

pub(super) fn good(endpoint: &str) -> Verdict {
    let (endpoint_id, token_id) = (endpoint.into(), Some("id".into()));
    Verdict::Endpoint(EndpointGrant { endpoint_id, token_id })
}

fn bad() -> Verdict {
    Verdict::Rejected(Rejection::new(404, "unknown"))
}

fn revoke(rig: &mut Rig, endpoint: &str) {
    let token_ids = vec!["id".into()];
    let revocation =
        Revocation::Tokens { app: "app".into(), endpoint_id: endpoint.into(), token_ids };
    rig.core.mail(Mail::Revoked(Arc::new(revocation)));
    // An answer to a question of the same millisecond could be older.
    rig.core.now.ms += 1;
    rig.turn();
}

/// The number under which the place of an endpoint is asked for.
#[track_caller]
fn place_wanted(rig: &mut Rig) -> u64 {
    let mut wanted = None;
    while let Ok(report) = rig.reports.try_recv() {
        if let Report::EndpointWanted { ask, .. } = report {
            wanted = Some(ask);
        }
    }
    wanted.expect("the place is asked for")
}

fn place(rig: &mut Rig, ask: u64) {
    rig.core.mail(Mail::Placed { ask, is_granted: true });
    rig.turn();
}

#[test]
fn a_token_revoked_while_its_place_is_asked_for_is_asked_about_again() {
    let (mut rig, desk) = rig(|setup| setup.settings.auth.rejecting = vec![AppId(0)]);
    let index = rig.client(5, 0);
    rig.say(index, &message(5, TOPIC, 1, 7));
    answer(&mut rig, desk.one(), good("e"));
    let ask = place_wanted(&mut rig);
    revoke(&mut rig, "e");
    place(&mut rig, ask);
    assert_eq!(rig.carry(), 0, "it is not known whose token it is");
    answer(&mut rig, desk.one(), bad());
    assert_eq!(rig.carry(), 0);
}

#[test]
fn a_message_whose_client_has_left_is_not_carried_on_a_token_revoked_meanwhile() {
    let (mut rig, desk) = rig(|setup| setup.settings.auth.rejecting = vec![AppId(0)]);
    let index = rig.client(5, 0);
    rig.say(index, &message(5, TOPIC, 1, 7));
    answer(&mut rig, desk.one(), good("e"));
    let ask = place_wanted(&mut rig);
    rig.leave(index, false);
    revoke(&mut rig, "e");
    place(&mut rig, ask);
    assert_eq!(rig.carry(), 0, "it is not known whose token it is");
    answer(&mut rig, desk.one(), good("e"));
    place_wanted(&mut rig);
    assert_eq!(rig.carry(), 0, "nor whether it may be here");
}

#[test]
fn a_message_whose_client_has_left_is_carried_when_its_token_is_good() {
    let (mut rig, desk) = rig(|_| {});
    let index = rig.client(5, 0);
    rig.say(index, &message(5, TOPIC, 1, 7));
    rig.leave(index, false);
    answer(&mut rig, desk.one(), good("e"));
    assert_eq!(rig.carry(), 1);
}

#[test]
fn the_endpoint_of_another_tenant_is_not_spoken_for_by_the_same_id() {
    let (mut rig, desk) = rig(|_| {});
    let (first, second) = (rig.client(5, 0), rig.client(5, 0));
    rig.say(first, &message(5, TOPIC, 1, 7));
    answer(&mut rig, desk.one(), good("same"));
    assert_eq!(rig.carry(), 1);
    rig.say(second, &message(5, OTHER_TOPIC, 1, 7));
    answer(&mut rig, desk.one(), good("same"));
    assert_eq!(rig.carry(), 0);
    let endpoint = rig.core.endpoints.find("same").expect("is there");
    assert_eq!(&*endpoint.holder.grant.token, "token");
    // Within its tenant it goes on.
    rig.say(first, &message(5, TOPIC, 1, 8));
    assert_eq!(rig.carry(), 1);
}

#[test]
fn a_client_whose_window_was_full_goes_on_when_what_waited_is_rejected() {
    for level in [3, 4] {
        let (mut rig, desk) = rig(|setup| setup.settings.policy.receive_maximum = 1);
        let index = rig.client(level, 0);
        let both = [message(level, TOPIC, 1, 7), message(level, "kp1/v1/tsx/json", 1, 8)].concat();
        rig.say(index, &both);
        assert_eq!(rig.core.connections[index as usize].hold, Hold::Window);
        answer(&mut rig, desk.one(), bad());
        assert_eq!(rig.core.connections[index as usize].hold, Hold::None);
        assert_eq!(rig.carry(), 1, "the message behind it");
    }
}

// ---------------------------------------------------------------- certificates

/// A shard that asks its desk about clients; tokens are all good.
fn certificates(adjust: impl FnOnce(&mut Setup)) -> (Rig, Arc<Desk>) {
    rig(|setup| {
        setup.settings.auth.apps = vec![Provider::Trustful; 2];
        setup.settings.auth.client_provider = Provider::Internal;
        adjust(setup);
    })
}

/// The client of a connection has shown the certificate of that number.
pub(super) fn present(rig: &mut Rig, index: u32, serial: &str) {
    let name = CertificateName { issuer: "CN=CA".into(), serial: serial.into() };
    let subject = Some(format!("CN=pump {serial}").into());
    let details = Box::new(CertificateDetails { subject, ..CertificateDetails::default() });
    let shown = Entering::Presenting(PeerCertificate { name, details, tenant: None });
    rig.core.connections[index as usize].entering = Some(Box::new(shown));
}

/// A client that has shown this certificate, and waits for its CONNACK.
fn shown(rig: &mut Rig, level: u8, serial: &str) -> u32 {
    let socket = std::fs::File::open("/dev/null").expect("is there").into();
    let index = rig.core.opened(socket, MQTT).expect("accepted");
    present(rig, index, serial);
    let client_id = format!("client-{index}");
    rig.say(index, &wire::connect(level, &wire::Connect { client_id, ..Default::default() }));
    index
}

pub(super) fn client(tenant: &str, id: &str) -> Verdict {
    let (tenant, credentials_id) = (tenant.into(), Some(id.into()));
    Verdict::Client(ClientGrant { tenant, credentials_id, client_id: None })
}

#[test]
fn a_certificate_that_is_not_good_is_refused_with_the_code_of_the_version() {
    for (status_code, older, v5) in [(401, 4, 0x86), (403, 5, 0x87), (429, 3, 0x9F)] {
        for level in [3, 4, 5] {
            let (mut rig, desk) = certificates(|_| {});
            let index = shown(&mut rig, level, "7");
            answer(&mut rig, desk.one(), Verdict::Rejected(Rejection::new(status_code, "")));
            let code = if level == 5 { v5 } else { older };
            let heard = rig.heard.remove(&index).expect("a CONNACK");
            assert_eq!((heard[0], heard[3]), (0x20, code), "{status_code}, version {level}");
            assert!(rig.why_closed(index).is_some());
        }
    }
}

#[test]
fn what_a_certificate_says_beside_its_name_is_for_a_service_behind_http_alone() {
    for (provider, is_told) in [(Provider::Internal, false), (Provider::Http, true)] {
        let (mut rig, desk) = certificates(|setup| {
            setup.settings.auth.client_provider = provider;
            setup.clerks.http = setup.clerks.internal.clone();
        });
        shown(&mut rig, 5, "7");
        let asked = desk.take();
        let [(_, Question::Certificate { name, details })] = &asked[..] else {
            panic!("asked {asked:?}")
        };
        assert_eq!((&*name.issuer, &*name.serial), ("CN=CA", "7"));
        let subject = details.as_ref().and_then(|details| details.subject.as_deref());
        assert_eq!(subject, is_told.then_some("CN=pump 7"), "{provider:?}");
    }
}

#[test]
fn a_revoked_certificate_puts_out_those_that_have_shown_it_and_nobody_else() {
    let (mut rig, desk) = certificates(|_| {});
    let [one, twin, other] = ["7", "7", "8"].map(|serial| {
        let index = shown(&mut rig, 5, serial);
        answer(&mut rig, desk.one(), client("acme", &format!("c{serial}")));
        rig.heard.remove(&index);
        index
    });
    let revocation = |method| Revocation::Client {
        tenant: Some("acme".into()),
        method: Some(method),
        credentials_id: "c7".into(),
    };
    rig.core.mail(Mail::Revoked(Arc::new(revocation(Method::Basic))));
    rig.turn();
    assert_eq!(rig.why_closed(one), None, "a password of the same id");
    rig.core.mail(Mail::Revoked(Arc::new(revocation(Method::Certificate))));
    rig.turn();
    for index in [one, twin] {
        assert_eq!(rig.why_closed(index), Some(CloseReason::Revoked));
        let heard = rig.heard.remove(&index).expect("a DISCONNECT");
        assert_eq!((heard[0], heard[2]), (0xE0, 0x98));
    }
    assert_eq!(rig.why_closed(other), None);
}

#[test]
fn who_has_shown_a_certificate_may_talk_where_one_is_demanded_and_others_may_not() {
    let (mut rig, desk) = certificates(|_| {});
    let good = shown(&mut rig, 5, "7");
    answer(&mut rig, desk.one(), client("acme", "c7"));
    let anonymous = rig.client(5, 0);
    let demands = LaidDown { mqtt_tcp: Some(Requirement::Certificate), ..LaidDown::default() };
    rig.core.mail(Mail::Enforcement { tenant: "acme".into(), demands });
    rig.turn();
    rig.say(good, &message(5, TOPIC, 1, 7));
    assert_eq!(rig.carry(), 1);
    rig.heard.remove(&anonymous);
    rig.say(anonymous, &message(5, TOPIC, 1, 7));
    assert_eq!(rig.carry(), 0);
    assert_eq!(rig.why_closed(anonymous), Some(CloseReason::NotAuthorized));
    let heard = rig.heard.remove(&anonymous).expect("a DISCONNECT");
    assert_eq!((heard[0], heard[2]), (0xE0, 0x87));
    // And for its own tenant only.
    rig.say(good, &message(5, OTHER_TOPIC, 1, 8));
    assert_eq!(rig.carry(), 0);
    assert_eq!(rig.why_closed(good), None);
}
