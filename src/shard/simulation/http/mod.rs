//! Connections that speak HTTP: one exchange at a time, each answered once, and by nobody else's
//! answer.

mod endings;
mod seeded;

use std::fs::File;
use std::sync::Arc;

use super::directed::{Rig, message};
use super::judged;
use super::setup::{HTTP, HTTPS, Setup};
use crate::auth::{LaidDown, Provider, Rejection, Requirement, Revocation, Verdict};
use crate::codec::avro::{ClientData, ExtensionData};
use crate::shard::connection::Hold;
use crate::shard::mail::Mail;
use crate::telemetry::{CloseReason, HttpStatus};
use crate::tls::{Profile, Slot};
use crate::transport::tls::testing::CONFIGS;
use crate::uplink::ledger::SubjectId;

const PATH: &str = "/kp1/v1/dcx/e0/json";

fn rig() -> Rig {
    Rig::new(&Setup::plain())
}

fn opened(rig: &mut Rig) -> u32 {
    let socket = File::open("/dev/null").expect("is there").into();
    rig.core.opened(socket, HTTP).expect("accepted")
}

fn tell(rig: &mut Rig, index: u32, bytes: impl AsRef<[u8]>) {
    rig.core.arrived(index, &mut bytes.as_ref().to_vec());
    rig.turn();
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    status: u16,
    body: String,
    is_last: bool,
}

fn heard(rig: &mut Rig, index: u32) -> Vec<Heard> {
    let text = String::from_utf8(rig.heard.remove(&index).unwrap_or_default()).expect("text");
    let (mut rest, mut responses) = (&*text, Vec::new());
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let field = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| line.strip_prefix(name)).map(str::trim)
        };
        let length = field("Content-Length:").map_or(0, |text| text.parse().expect("a number"));
        responses.push(Heard {
            status: head[9..12].parse().expect("a status"),
            body: after[..length].to_owned(),
            is_last: field("Connection:") == Some("close"),
        });
        rest = &after[length..];
    }
    assert_eq!(rest, "");
    responses
}

#[track_caller]
fn heard_one(rig: &mut Rig, index: u32) -> (u16, String) {
    let mut all = heard(rig, index);
    assert_eq!(all.len(), 1, "{all:?}");
    let one = all.remove(0);
    (one.status, one.body)
}

fn error(status_code: u16, reason: &str) -> (u16, String) {
    (status_code, format!(r#"{{"statusCode":{status_code},"reasonPhrase":"{reason}"}}"#))
}

/// A ClientData that has gone to NATS.
#[derive(Debug, Clone)]
struct Asked {
    correlation_id: String,
    app_version: Option<String>,
    endpoint_id: Option<String>,
    path: String,
    request_id: i32,
    payload: String,
}

/// Takes what goes to NATS, which confirms it.
fn taken(rig: &mut Rig) -> Vec<Asked> {
    taken_and(rig, true)
}

/// As [`taken`], where services hear it or do not.
fn taken_and(rig: &mut Rig, is_heard: bool) -> Vec<Asked> {
    let mut asked = Vec::new();
    loop {
        let batch = rig.core.ledger.borrow_mut().take_for_write();
        let Some(batch) = batch else { return asked };
        let (mut rest, mut unheard) = (&batch[..], Vec::new());
        while let Some(line) = rest.strip_prefix(b"PUB ") {
            let end = memchr::memmem::find(line, b"\r\n").expect("a line");
            let head = std::str::from_utf8(&line[..end]).expect("text");
            if !is_heard {
                let subject = head.split(' ').next().unwrap_or_default();
                let subject = Some(SubjectId::of(subject.as_bytes()));
                unheard.push(subject);
            }
            let size: usize = head.rsplit(' ').next().expect("a size").parse().expect("a number");
            let data = ClientData::decode(&line[end + 2..end + 2 + size]).expect("a ClientData");
            asked.push(Asked {
                correlation_id: data.correlation_id.to_owned(),
                app_version: Some(data.app_version_name.to_owned()),
                endpoint_id: data.endpoint_id.map(str::to_owned),
                path: data.resource_path.to_owned(),
                request_id: data.request_id.unwrap_or_default(),
                payload: String::from_utf8(data.payload.to_vec()).expect("text"),
            });
            rest = &line[end + 2 + size + 2..];
        }
        let has_ping = rest == b"PING\r\n";
        rig.core.ledger.borrow_mut().write_done(batch);
        for subject in unheard {
            rig.core.ledger.borrow_mut().no_responders(subject);
        }
        if has_ping {
            rig.core.ledger.borrow_mut().pong().expect("awaited");
            rig.core.settle();
        }
        rig.turn();
    }
}

#[track_caller]
fn taken_one(rig: &mut Rig) -> Asked {
    let mut all = taken(rig);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// The answer of an extension service.
fn answer(rig: &mut Rig, asked: &Asked, status_code: i32, payload: &str, reason: Option<&str>) {
    let extension = if asked.endpoint_id.is_some() { "dcx" } else { "tsx" };
    let mut datum = Vec::new();
    ExtensionData {
        correlation_id: &asked.correlation_id,
        timestamp_ms: 0,
        timeout_ms: 0,
        app_version_name: asked.app_version.as_deref(),
        extension_instance_name: Some(extension),
        endpoint_id: asked.endpoint_id.as_deref(),
        resource_path: &asked.path,
        request_id: Some(asked.request_id),
        payload: Some(payload.as_bytes()),
        status_code,
        reason_phrase: reason,
    }
    .encode(&mut datum);
    rig.core.extension_data(None, &datum);
    rig.turn();
}

#[test]
fn a_request_is_carried_with_an_id_of_ours_and_answered_with_what_the_extension_says() {
    let mut rig = rig();
    let index = opened(&mut rig);
    for (path, body) in [(PATH, "[1]"), ("/kp1/v1/dcx/e0/json/17", "[2]")] {
        tell(&mut rig, index, post(path, body));
        let asked = taken_one(&mut rig);
        assert_eq!((asked.endpoint_id.as_deref(), &*asked.path), (Some("e0"), "/json"));
        assert_eq!(asked.payload, body);
        assert!(asked.request_id >= 1 << 30, "{}", asked.request_id);
        assert!(heard(&mut rig, index).is_empty());
        answer(&mut rig, &asked, 200, "fine", None);
        let expected = Heard { status: 200, body: "fine".to_owned(), is_last: false };
        assert_eq!(heard(&mut rig, index), [expected]);
    }
    tell(&mut rig, index, post("/kp1/v1/tsx/now", ""));
    let asked = taken_one(&mut rig);
    assert_eq!((asked.endpoint_id.as_deref(), &*asked.path), (None, "/now"));
    answer(&mut rig, &asked, 404, "ignored", Some("no \"time\""));
    assert_eq!(heard_one(&mut rig, index), error(404, r#"no \"time\""#));
    assert_eq!(rig.core.connections[index as usize].pending.capacity(), 0);
    assert_eq!(rig.core.connections[index as usize].out.capacity(), 0);
    assert_eq!(rig.core.counters.http_responses[HttpStatus::S200.index()].get(), 2);
    assert_eq!((rig.core.counters.sessions.get(), rig.core.endpoints.len()), (0, 0));
}

#[test]
fn requests_in_a_row_are_answered_in_their_order_one_at_a_time() {
    let mut rig = rig();
    let index = opened(&mut rig);
    let bad = post("/kp1/v9/dcx/e0/json", "");
    tell(&mut rig, index, [post(PATH, "1"), bad, post(PATH, "3"), post(PATH, "4")].concat());
    let mut bodies = String::new();
    for payload in ["1", "3", "4"] {
        let asked = taken_one(&mut rig);
        assert_eq!(asked.payload, payload);
        answer(&mut rig, &asked, 200, payload, None);
        for response in heard(&mut rig, index) {
            bodies += if response.status == 200 { &response.body } else { "?" };
        }
    }
    assert_eq!(bodies, "1?34");
}

#[test]
fn what_comes_while_a_request_is_answered_is_kept_up_to_a_limit() {
    let mut rig = rig();
    let index = opened(&mut rig);
    let many = post(PATH, "x").repeat(400);
    tell(&mut rig, index, &many);
    assert_eq!(rig.core.connections[index as usize].hold, Hold::Exchange);
    let mut count = 0;
    while let [asked] = &taken(&mut rig)[..] {
        answer(&mut rig, asked, 200, "", None);
        count += 1;
    }
    assert_eq!((count, heard(&mut rig, index).len()), (400, 400));
    assert_eq!(rig.core.connections[index as usize].hold, Hold::None);
}

#[test]
fn a_request_that_leads_nowhere_is_told_so_and_another_may_follow() {
    let mut rig = rig();
    let index = opened(&mut rig);
    for (path, status, reason) in [
        ("/", 404, "the path does not begin with kp1"),
        ("/other/v1/dcx/e0/json", 404, "the path does not begin with kp1"),
        ("/kp1/v9/dcx/e0/json", 404, "no such application version"),
        ("/kp1/v1/nox/e0/json", 404, "no such extension instance"),
        ("/kp1/v1/dcx", 400, "the path is none of 1/KP"),
        ("/kp1//dcx/e0", 400, "the path is none of 1/KP"),
        ("/kp1/v1/dcx/e%2f0/json", 400, "the path is none of 1/KP"),
        ("/kp1/v1/dcx/e0/%00", 400, "the path is none of 1/KP"),
    ] {
        tell(&mut rig, index, post(path, ""));
        assert_eq!(heard_one(&mut rig, index), error(status, reason), "{path}");
    }
    assert_eq!(rig.why_closed(index), None);
    assert!(taken(&mut rig).is_empty());
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    for (said, status) in [
        ("GET / HTTP/1.1\r\nHost: g\r\n\r\n".to_owned(), 405),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 10000000000\r\n\r\n".to_owned(), 413),
        (post(PATH, &"x".repeat(1001)), 413),
    ] {
        let mut rig = rig();
        let (index, other) = (opened(&mut rig), opened(&mut rig));
        tell(&mut rig, other, &post(PATH, "good")[..20]);
        tell(&mut rig, index, &said);
        let all = heard(&mut rig, index);
        assert!(all.len() == 1 && all[0].status == status && all[0].is_last, "{all:?}");
        assert_eq!(rig.why_closed(index), Some(CloseReason::HttpRefused));
        tell(&mut rig, other, &post(PATH, "good")[20..]);
        assert_eq!(taken_one(&mut rig).payload, "good", "nobody else notices");
    }
}

#[test]
fn a_client_that_waits_to_go_on_is_told_to() {
    let mut rig = rig();
    let index = opened(&mut rig);
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    );
    tell(&mut rig, index, head);
    assert_eq!(rig.heard.remove(&index), Some(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()));
    tell(&mut rig, index, "[]");
    assert_eq!(taken_one(&mut rig).payload, "[]");
}

#[test]
fn an_answer_without_the_correlation_id_finds_its_request_and_no_other() {
    let mut rig = rig();
    let (index, other) = (opened(&mut rig), opened(&mut rig));
    let device = rig.client(4, 0);
    rig.say(device, &message(4, "kp1/v1/dcx/e0/json", 0, 0));
    taken(&mut rig);
    tell(&mut rig, index, post(PATH, "[]"));
    tell(&mut rig, other, post(PATH, "[]"));
    let asked = taken(&mut rig);
    let anonymous = Asked { correlation_id: String::new(), ..asked[1].clone() };
    // Of another endpoint, or of another tenant's: a device that has guessed the id.
    for forged in [
        Asked { endpoint_id: Some("e1".to_owned()), ..anonymous.clone() },
        Asked { app_version: Some("v2".to_owned()), ..anonymous.clone() },
    ] {
        answer(&mut rig, &forged, 200, "forged", None);
        assert!(heard(&mut rig, other).is_empty());
    }
    // Which version it was need not be said where the endpoint is.
    let anonymous = Asked { app_version: None, ..anonymous };
    answer(&mut rig, &anonymous, 200, "good", None);
    assert_eq!(heard_one(&mut rig, other), (200, "good".to_owned()));
    // A second time: nobody waits for it.
    answer(&mut rig, &asked[1], 200, "again", None);
    assert!(heard(&mut rig, other).is_empty() && !rig.heard.contains_key(&device));
    answer(&mut rig, &asked[0], 200, "first", None);
    assert_eq!(heard_one(&mut rig, index), (200, "first".to_owned()));
}

#[test]
fn an_instance_that_knows_no_endpoints_answers_by_version_path_and_request_id() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, post("/kp1/v1/tsx/time", "[]"));
    let asked = Asked { correlation_id: String::new(), ..taken_one(&mut rig) };
    assert_eq!(asked.endpoint_id, None);
    for forged in [
        Asked { app_version: Some("v2".to_owned()), ..asked.clone() },
        Asked { app_version: None, ..asked.clone() },
        Asked { path: "/date".to_owned(), ..asked.clone() },
    ] {
        answer(&mut rig, &forged, 200, "forged", None);
        assert!(heard(&mut rig, index).is_empty());
    }
    answer(&mut rig, &asked, 200, "good", None);
    assert_eq!(heard_one(&mut rig, index), (200, "good".to_owned()));
    // Where the correlation id is echoed, it tells all that.
    tell(&mut rig, index, post("/kp1/v1/tsx/time", "[]"));
    let asked = taken_one(&mut rig);
    answer(&mut rig, &Asked { app_version: Some("v2".to_owned()), ..asked.clone() }, 200, "", None);
    assert!(heard(&mut rig, index).is_empty(), "another tenant's");
    let terse = Asked { app_version: None, path: String::new(), ..asked };
    answer(&mut rig, &terse, 200, "good", None);
    assert_eq!(heard_one(&mut rig, index), (200, "good".to_owned()));
}

#[test]
fn an_answer_to_an_earlier_request_does_not_answer_a_later_one() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, "1"));
    let first = taken_one(&mut rig);
    answer(&mut rig, &first, 200, "1", None);
    tell(&mut rig, index, post(PATH, "2"));
    answer(&mut rig, &first, 200, "1", None);
    assert_eq!(heard(&mut rig, index).len(), 1);
    let second = taken_one(&mut rig);
    answer(&mut rig, &second, 200, "2", None);
    assert_eq!(heard_one(&mut rig, index), (200, "2".to_owned()));
}

#[test]
fn a_push_goes_to_the_session_of_the_endpoint_and_never_into_a_response() {
    let mut rig = rig();
    let device = rig.client(4, 0);
    rig.say(device, &message(4, "kp1/v1/dcx/e0/json", 0, 0));
    taken(&mut rig);
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, "1"));
    let asked = taken_one(&mut rig);
    let push = Asked { correlation_id: "push".to_owned(), request_id: 5, ..asked.clone() };
    answer(&mut rig, &push, 200, "pushed", None);
    assert!(rig.heard.remove(&device).is_some(), "it still has its route");
    assert!(heard(&mut rig, index).is_empty());
    answer(&mut rig, &asked, 200, "answered", None);
    assert_eq!(heard_one(&mut rig, index), (200, "answered".to_owned()));
    assert!(!rig.heard.contains_key(&device));
}

#[test]
fn a_status_code_that_is_none_of_http_becomes_502() {
    for status_code in [0, -1, 100, 199, 600, 70_000] {
        let mut rig = rig();
        let index = opened(&mut rig);
        tell(&mut rig, index, post(PATH, "1"));
        let asked = taken_one(&mut rig);
        answer(&mut rig, &asked, status_code, "x", None);
        let (status, body) = heard_one(&mut rig, index);
        assert!(status == 502 && body.contains("no status code of HTTP"), "{body}");
    }
}

#[test]
fn nobody_there_no_link_and_no_room_are_503() {
    let mut rig = rig();
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, "1"));
    let batch = rig.core.ledger.borrow_mut().take_for_write().expect("a batch");
    rig.core.ledger.borrow_mut().write_done(batch);
    let subject = SubjectId::of(b"kaa.v1.service.dcx.esp.ClientData");
    rig.core.ledger.borrow_mut().no_responders(Some(subject));
    rig.core.ledger.borrow_mut().pong().expect("awaited");
    rig.core.settle();
    rig.turn();
    assert_eq!(heard_one(&mut rig, index), error(503, "no extension service listens"));

    let device = rig.client(4, 0);
    rig.say(device, &message(4, "kp1/v1/dcx/e9/json", 0, 0).repeat(100));
    tell(&mut rig, index, post(PATH, "1"));
    assert_eq!(heard_one(&mut rig, index), error(503, "the link to NATS has no room"));
    rig.core.link_down();
    tell(&mut rig, index, post(PATH, "1"));
    assert_eq!(heard_one(&mut rig, index), error(503, "there is no link to NATS"));
    assert_eq!(rig.why_closed(index), None);
}

#[test]
fn a_body_that_nats_would_not_take_is_413() {
    let mut rig = rig();
    rig.core.link_up(300);
    let index = opened(&mut rig);
    tell(&mut rig, index, post(PATH, &"x".repeat(900)));
    assert_eq!(heard_one(&mut rig, index), error(413, "the message is larger than NATS takes"));
}

#[test]
fn a_verdict_of_nats_says_nothing_of_a_request_that_has_not_gone_there() {
    let (mut rig, desk) = judged::rig(|_| {});
    let index = opened(&mut rig);
    tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "1"));
    judged::answer(&mut rig, desk.one(), judged::good("e7"));
    let batch = rig.core.ledger.borrow_mut().take_for_write().expect("a batch");
    rig.core.ledger.borrow_mut().write_done(batch);
    let connection = &rig.core.connections[index as usize];
    let http = connection.http().expect("speaks HTTP");
    let request_id = http.exchange_id().expect("is being answered") as i32;
    let first = Asked {
        correlation_id: String::new(),
        app_version: Some("v1".to_owned()),
        endpoint_id: Some("e7".to_owned()),
        path: "/json".to_owned(),
        request_id,
        payload: String::new(),
    };
    answer(&mut rig, &first, 200, "1", None);
    assert_eq!(heard_one(&mut rig, index), (200, "1".to_owned()));
    // The next one is still being asked about when NATS says that nobody heard the first.
    tell(&mut rig, index, post("/kp1/v1/dcx/other/json", "2"));
    let subject = SubjectId::of(b"kaa.v1.service.dcx.esp.ClientData");
    rig.core.ledger.borrow_mut().no_responders(Some(subject));
    rig.core.ledger.borrow_mut().pong().expect("awaited");
    rig.core.settle();
    rig.turn();
    assert!(heard(&mut rig, index).is_empty());
    judged::answer(&mut rig, desk.one(), judged::good("e8"));
    assert_eq!(taken(&mut rig).len(), 1);
}

#[test]
fn a_provider_that_cannot_tell_is_503_whatever_it_says() {
    let (mut rig, desk) = judged::rig(|setup| setup.settings.auth.asks.attempts_max = 1);
    let index = opened(&mut rig);
    for status_code in [500, 502, 504, 0] {
        tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "1"));
        let why = Verdict::Rejected(Rejection::new(status_code, "cannot tell"));
        judged::answer(&mut rig, desk.one(), why);
        assert_eq!(heard_one(&mut rig, index), error(503, "cannot tell"));
    }
}

#[test]
fn a_token_is_asked_about_once_and_its_request_waits() {
    let (mut rig, desk) = judged::rig(|_| {});
    let index = opened(&mut rig);
    tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "1"));
    assert!(taken(&mut rig).is_empty());
    judged::answer(&mut rig, desk.one(), judged::good("e7"));
    let asked = taken_one(&mut rig);
    assert_eq!(asked.endpoint_id.as_deref(), Some("e7"));
    answer(&mut rig, &asked, 200, "", None);
    tell(&mut rig, index, post("/kp1/v1/dcx/token/json", "2"));
    assert_eq!(taken(&mut rig).len(), 1, "it is known now");
    assert_eq!(rig.core.connections[index as usize].parked_bytes, 0);

    let other = opened(&mut rig);
    tell(&mut rig, other, post("/kp1/v1/dcx/unknown/json", "1"));
    let why = Verdict::Rejected(Rejection::new(401, "not yours"));
    judged::answer(&mut rig, desk.one(), why);
    assert_eq!(heard_one(&mut rig, other), error(401, "not yours"));
}

#[test]
fn a_tenant_that_wants_clients_to_prove_themselves_is_obeyed() {
    let mut setup = Setup::plain();
    setup.settings.auth.apps = vec![Provider::Trustful; 2];
    let mut rig = Rig::new(&setup);
    let index = opened(&mut rig);
    let demands = LaidDown { http: Some(Requirement::Any), ..LaidDown::default() };
    rig.core.mail(Mail::Enforcement { tenant: "acme".into(), demands });
    tell(&mut rig, index, post(PATH, "1"));
    assert_eq!(
        heard_one(&mut rig, index),
        error(401, "the tenant requires clients to authenticate")
    );
    tell(&mut rig, index, post("/kp1/v2/dcx/e0/json", "1"));
    assert_eq!(taken(&mut rig).len(), 1, "another tenant's");
}

#[test]
fn it_goes_through_tls_too_and_a_certificate_is_asked_about_before_the_first_request() {
    let (mut rig, desk) = judged::rig(|setup| {
        let profile = Profile::of(CONFIGS.server.clone());
        setup.tls_profiles = vec![Arc::new(Slot::new(Arc::new(profile)))];
        setup.settings.auth.apps = vec![Provider::Trustful; 2];
        setup.settings.auth.client_provider = Provider::Internal;
    });
    let mut client = super::tls::Client::at(&mut rig, HTTPS, 1);
    client.say(&mut rig, b"");
    judged::present(&mut rig, client.index, "7");
    client.say(&mut rig, post(PATH, "1").as_bytes());
    assert!(taken(&mut rig).is_empty());
    judged::answer(&mut rig, desk.one(), judged::client("acme", "id"));
    let asked = taken_one(&mut rig);
    assert_eq!(rig.core.counters.clients_authenticated.get(), 1);
    answer(&mut rig, &asked, 200, "welcome", None);
    client.hear(&mut rig);
    assert!(client.told.ends_with(b"welcome"));
    // Of another tenant than the application.
    client.told.clear();
    client.say(&mut rig, post("/kp1/v2/dcx/e0/json", "1").as_bytes());
    assert!(client.told.starts_with(b"HTTP/1.1 403 "));

    let mut client = super::tls::Client::at(&mut rig, HTTPS, 1);
    client.say(&mut rig, b"");
    judged::present(&mut rig, client.index, "8");
    client.say(&mut rig, post(PATH, "1").as_bytes());
    judged::answer(&mut rig, desk.one(), Verdict::Rejected(Rejection::new(404, "unknown")));
    client.hear(&mut rig);
    assert!(client.told.starts_with(b"HTTP/1.1 401 "));
    assert!(client.has_ended);
}
