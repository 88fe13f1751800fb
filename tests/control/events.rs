//! What the control thread tells the world of endpoints, and obeys of what providers revoke.

use super::rig::*;
use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use ringgate::admin::{Change, CredentialsApi};
use ringgate::auth::{
    Busy, Clerk, Demands, EndpointGrant, Method, Question, Rejection, Revocation, Ticket, Verdict,
};
use ringgate::codec::avro::Header;
use ringgate::codec::avro::elce::ConnectivityEvent;
use ringgate::codec::avro::{cap, ecap, tle};
use ringgate::config::Secret;
use ringgate::control::{Answers, OVER_NATS, Outcome, Providers, Service, answers};
use ringgate::credentials::Credentials;
use ringgate::shard::mail::Mail;
use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use tokio::runtime::Runtime;

const CONNECTED: &str = "kaa.v1.events.kpc.endpoint.connectivity.connected";

/// A NATS client that waits.
pub struct Nats {
    pub runtime: Runtime,
    pub client: Client,
}

impl Nats {
    pub fn connect(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let client = runtime.block_on(async_nats::connect(format!("127.0.0.1:{port}")));
        Self { client: client.expect("connects"), runtime }
    }

    pub fn subscribe(&self, subject: &str) -> Subscriber {
        self.runtime.block_on(async {
            let subscriber = self.client.subscribe(subject.to_owned()).await.expect("subscribes");
            // Its PONG tells that the server has the subscription.
            self.round_trip().await;
            subscriber
        })
    }

    async fn round_trip(&self) {
        let inbox = self.client.new_inbox();
        let mut echo = self.client.subscribe(inbox.clone()).await.expect("subscribes");
        self.client.publish(inbox, "".into()).await.expect("publishes");
        tokio::time::timeout(PATIENCE, echo.next()).await.expect("comes back");
    }

    fn publish(&self, subject: &str, datum: Vec<u8>) {
        self.runtime.block_on(async {
            self.client.publish(subject.to_owned(), datum.into()).await.expect("publishes");
            self.round_trip().await;
        });
    }

    pub fn next(&self, subscriber: &mut Subscriber) -> Message {
        let next = async { tokio::time::timeout(PATIENCE, subscriber.next()).await };
        self.runtime.block_on(next).expect("a message in time").expect("subscribed")
    }

    pub fn nothing_more(&self, subscriber: &mut Subscriber) {
        let next =
            async { tokio::time::timeout(Duration::from_millis(100), subscriber.next()).await };
        let message = self.runtime.block_on(next);
        assert!(message.is_err(), "{message:?}");
    }

    /// The next event about endpoints: its subject's last word, and the endpoints it names.
    fn event(&self, subscriber: &mut Subscriber) -> (String, HashMap<String, String>) {
        let message = self.next(subscriber);
        let event = ConnectivityEvent::decode(&message.payload).expect("an event");
        assert_eq!(event.originator_replica_id, "r1");
        let own = |(id, version): (&str, &str)| (id.to_owned(), version.to_owned());
        let kind = message.subject.rsplit('.').next().expect("a word");
        (kind.to_owned(), event.endpoints.iter().map(own).collect())
    }
}

fn endpoints(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(id, version)| (id.to_string(), version.to_string())).collect()
}

fn header(timestamp_ms: i64) -> Header<'static> {
    Header { correlation_id: "theirs", timestamp_ms, timeout_ms: 0 }
}

fn now_ms() -> i64 {
    ringgate::telemetry::clock::unix_ms()
}

fn connected_elsewhere(endpoint: &str, timestamp_ms: i64) -> Vec<u8> {
    let mut datum = Vec::new();
    let endpoints = [(endpoint, "v1")].into_iter();
    ConnectivityEvent::encode(&header(timestamp_ms), endpoints, "r2", &mut datum);
    datum
}

#[test]
fn endpoints_that_come_and_go_are_told_and_at_the_end_all_are_gone() {
    let port = free_port();
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let mut events = nats.subscribe("kaa.v1.events.kpc.>");
    let (control, mut shards) = start(port);
    shards[0].reporter.endpoint_here("e1".into(), "v1".into());
    shards[1].reporter.endpoint_here("e2".into(), "v2".into());
    let mut told = HashMap::new();
    while told.len() < 2 {
        let (kind, endpoints) = nats.event(&mut events);
        assert_eq!(kind, "connected");
        told.extend(endpoints);
    }
    assert_eq!(told, endpoints(&[("e1", "v1"), ("e2", "v2")]));

    // From one shard to another it stays connected.
    shards[1].reporter.endpoint_here("e1".into(), "v1".into());
    shards[0].reporter.endpoint_gone("e1".into());
    nats.nothing_more(&mut events);
    shards[1].reporter.endpoint_gone("e1".into());
    assert_eq!(nats.event(&mut events), ("disconnected".into(), endpoints(&[("e1", "v1")])));

    assert_eq!(finish(control, &mut shards), Outcome::Drained);
    assert_eq!(nats.event(&mut events), ("disconnected".into(), endpoints(&[("e2", "v2")])));
    nats.nothing_more(&mut events);
}

/// Carries one connection to `port` on to `to`, until either side ends or the handle is dropped.
struct Cable(TcpStream, TcpStream);

impl Cable {
    fn lay(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let near = listener.accept().expect("a connection").0;
        let far = TcpStream::connect(("127.0.0.1", to)).expect("connects");
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (mut from, mut to) = (from.try_clone(), to.try_clone());
            std::thread::spawn(move || {
                let (from, to) = (from.as_mut().expect("a socket"), to.as_mut().expect("a socket"));
                let _ = std::io::copy(from, to);
            });
        }
        Self(near, far)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
        let _ = self.1.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn what_happens_while_nats_is_away_is_told_in_order_when_it_is_back() {
    let (port, cable_port) = (free_port(), free_port());
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let mut events = nats.subscribe("kaa.v1.events.kpc.>");
    let (control, mut shards) = start(cable_port);
    let e1 = || endpoints(&[("e1", "v1")]);
    let reporter = &mut shards[0].reporter;
    reporter.endpoint_here("e1".into(), "v1".into());
    reporter.endpoint_gone("e1".into());
    reporter.endpoint_here("e1".into(), "v1".into());
    let cable = Cable::lay(cable_port, port);
    for kind in ["connected", "disconnected", "connected"] {
        assert_eq!(nats.event(&mut events), (kind.into(), e1()));
    }
    until("all is confirmed", || (control_pending(&control) == 0).then_some(()));
    drop(cable);
    until("the link is down", || {
        http(control.management_addr(), "GET", "/health").1.contains("link down").then_some(())
    });
    let reporter = &mut shards[0].reporter;
    reporter.endpoint_gone("e1".into());
    until("the change waits", || (control_pending(&control) == 1).then_some(()));
    let _cable = Cable::lay(cable_port, port);
    assert_eq!(nats.event(&mut events), ("disconnected".into(), e1()));
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
    nats.nothing_more(&mut events);
}

#[test]
fn events_that_we_may_not_hear_are_told_by_health() {
    expect_trouble("subscribe");
}

#[test]
fn events_that_we_may_not_publish_are_told_by_health() {
    expect_trouble("publish");
}

/// What an account without one of the permissions sees.
fn expect_trouble(denied: &str) {
    let subjects = "kaa.v1.events.kpc.endpoint.connectivity.*";
    let port = free_port();
    let name = format!("ringgate-denied-{denied}-{}", std::process::id());
    let file = std::env::temp_dir().join(name);
    let permissions = format!("{denied}: {{ deny: \"{subjects}\" }}");
    let users = format!("{{ user: u, password: p, permissions: {{ {permissions} }} }}");
    std::fs::write(&file, format!("authorization {{ users = [{users}] }}")).expect("written");
    let _server = Server::start_with(port, &["-c", file.to_str().expect("a plain path")]);
    let mut settings = settings(port);
    settings.ringgate.nats.credentials.username = Some("u".into());
    settings.ringgate.nats.credentials.password = Some(Secret::new("p"));
    let (control, mut shards) = start_with(&settings).expect("starts");
    shards.iter().for_each(|shard| shard.link.went_up("127.0.0.1:1"));
    let health = |shards: &[Shard]| {
        shards.iter().for_each(Shard::tick);
        http(control.management_addr(), "GET", "/health")
    };
    until("healthy", || (health(&shards).1 == "OK\n").then_some(()));
    shards[0].reporter.endpoint_here("e1".into(), "v1".into());
    let (head, body) = until("the missing permission is told", || {
        Some(health(&shards)).filter(|(_, body)| body.contains("9/ELCE"))
    });
    assert_eq!(status(&head), "200", "devices can be served");
    assert!(body.starts_with("OK\ncontrol: ") && body.contains(subjects), "{body}");
    assert!(metric(&control, "ringgate_connectivity_repeated_total") >= 2);
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
    std::fs::remove_file(file).expect("removed");
}

fn control_pending(control: &ringgate::control::Control) -> u64 {
    metric(control, "ringgate_connectivity_pending")
}

pub fn metric(control: &ringgate::control::Control, name: &str) -> u64 {
    let metrics = http(control.management_addr(), "GET", "/metrics").1;
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    let value = line.and_then(|line| line.rsplit(' ').next()).expect("such a metric");
    value.parse().expect("a number")
}

#[test]
fn an_endpoint_that_another_replica_has_leaves_without_a_farewell() {
    let port = free_port();
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let mut events = nats.subscribe("kaa.v1.events.kpc.>");
    let (control, mut shards) = start(port);
    shards[1].reporter.endpoint_here("e1".into(), "v1".into());
    shards[0].reporter.endpoint_here("e2".into(), "v1".into());
    let mut told = 0;
    while told < 2 {
        told += nats.event(&mut events).1.len();
    }
    until("both are confirmed", || (control_pending(&control) == 0).then_some(()));

    // An old claim changes nothing, and is answered with ours.
    nats.publish(CONNECTED, connected_elsewhere("e1", now_ms() - 20_000));
    nats.next(&mut events);
    assert_eq!(nats.event(&mut events), ("connected".into(), endpoints(&[("e1", "v1")])));

    nats.publish(CONNECTED, connected_elsewhere("e1", now_ms() + 1));
    let mail = until("the shard is told", || {
        shards[1].mails().into_iter().find(|mail| matches!(mail, Mail::Roamed { .. }))
    });
    assert!(matches!(mail, Mail::Roamed { endpoints } if *endpoints == ["e1".into()]));
    assert_eq!(metric(&control, "ringgate_roamed_total"), 1);
    // The shard removes its route and says so, which is no news.
    shards[1].reporter.endpoint_gone("e1".into());
    nats.next(&mut events);
    nats.nothing_more(&mut events);
    assert!(shards[0].mails().is_empty());
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
    assert_eq!(nats.event(&mut events), ("disconnected".into(), endpoints(&[("e2", "v1")])));
}

#[test]
fn every_revocation_reaches_every_shard() {
    let port = free_port();
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let (control, mut shards) = start(port);
    until("the link is up", || (metric(&control, "ringgate_doubts_total") > 0).then_some(()));
    let mut tokens = Vec::new();
    let ids = ["t1", "t2"].into_iter();
    ecap::EndpointTokenRevokedEvent::encode(&header(1), "app", "e1", ids, "cm-1", &mut tokens);
    let mut credential = Vec::new();
    ecap::ClientCredentialRevokedEvent {
        header: header(1),
        credential_id: "id",
        originator_replica_id: "cm-1",
    }
    .encode(&mut credential);
    let mut credentials = Vec::new();
    cap::ClientCredentialsRevokedEvent {
        header: header(1),
        tenant_id: "t",
        credentials_id: "id",
        originator_replica_id: "ccm-1",
    }
    .encode(&mut credentials);
    let mut tenant = Vec::new();
    let originator_replica_id = "tm-1";
    tle::TenantEvent { header: header(1), tenant_id: "t", originator_replica_id }
        .encode(&mut tenant);

    let of_tenant = |method| Revocation::Client {
        tenant: Some("t".into()),
        method: Some(method),
        credentials_id: "id".into(),
    };
    let revocations = [
        (
            "kaa.v1.events.cm.endpoint.token.revoked",
            tokens,
            Revocation::Tokens {
                app: "app".into(),
                endpoint_id: "e1".into(),
                token_ids: vec!["t1".into(), "t2".into()],
            },
        ),
        (
            "kaa.v1.events.cm.client.credential.revoked",
            credential,
            Revocation::Client { tenant: None, method: None, credentials_id: "id".into() },
        ),
        (
            "kaa.v1.events.ccm.client-credentials.basic.revoked",
            credentials.clone(),
            of_tenant(Method::Basic),
        ),
        (
            "kaa.v1.events.ccm.client-credentials.certificate.revoked",
            credentials,
            of_tenant(Method::Certificate),
        ),
        (
            "kaa.v1.events.tenant-manager.tenant.lifecycle.unregistered",
            tenant,
            Revocation::Tenant { tenant: "t".into() },
        ),
    ];
    for (subject, datum, expected) in revocations {
        nats.publish(subject, datum);
        for shard in &mut shards {
            let mail = until(subject, || shard.mails().into_iter().next());
            assert!(matches!(&mail, Mail::Revoked(revoked) if **revoked == expected), "{mail:?}");
        }
    }
    nats.publish("kaa.v1.events.cm.endpoint.token.revoked", vec![1]);
    until("garbage is counted", || {
        (metric(&control, "ringgate_events_malformed_total") == 1).then_some(())
    });
    assert!(shards.iter_mut().all(|shard| shard.mails().is_empty()));
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

#[test]
fn our_own_store_tells_the_shards_and_the_world_once_each() {
    let port = free_port();
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let mut events = nats.subscribe("kaa.v1.events.>");
    let (_, service) = service();
    let folder = std::env::temp_dir().join(format!("ringgate-control-{}", std::process::id()));
    let (changes, changed) = tokio::sync::mpsc::channel(1);
    let api = CredentialsApi {
        credentials: Credentials::open(&folder).expect("a store"),
        bearer: Secret::new("pl4nted-bearer"),
        changes: changes.clone(),
        configured: Box::new(|_| Demands::default()),
    };
    let store = Some((api, changed));
    let providers = Providers { store, service: Some(service), http: None };
    let (control, mut shards) = start_serving(&settings(port), providers).expect("starts");
    until("the link is up", || (metric(&control, "ringgate_doubts_total") > 0).then_some(()));
    let revocation = Revocation::Client {
        tenant: Some("t".into()),
        method: Some(Method::Basic),
        credentials_id: "id".into(),
    };
    changes.blocking_send(Change::Revoked(revocation.clone())).expect("control lives");
    let mut heard = [nats.next(&mut events), nats.next(&mut events)].map(|m| m.subject.to_string());
    heard.sort();
    let subjects = [
        "kaa.v1.events.ccm.client-credentials.basic.revoked",
        "kaa.v1.events.cm.client.credential.revoked",
    ];
    assert_eq!(heard, subjects);
    // The echo of ours has come to the control link too by now, or does before this.
    nats.publish("kaa.v1.events.cm.endpoint.token.revoked", vec![1]);
    until("what came later is heard", || {
        (metric(&control, "ringgate_events_malformed_total") == 1).then_some(())
    });
    for shard in &mut shards {
        let mails = shard.mails();
        let [Mail::Revoked(revoked)] = &mails[..] else { panic!("{mails:?}") };
        assert_eq!(**revoked, revocation);
    }
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

#[test]
fn each_new_link_makes_the_shards_doubt() {
    let port = free_port();
    let server = Server::start(port);
    let (control, mut shards) = start(port);
    let doubts = |shard: &mut Shard| {
        shard.all_mails().iter().filter(|mail| matches!(mail, Mail::Doubt)).count()
    };
    for shard in &mut shards {
        until("the first link", || (doubts(shard) > 0).then_some(()));
    }
    drop(server);
    let _server = Server::start(port);
    for shard in &mut shards {
        until("the second link", || (doubts(shard) > 0).then_some(()));
    }
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

/// Settings with more time for the end than anything here takes.
fn patient(port: u16) -> ringgate::config::Settings {
    let mut settings = settings(port);
    settings.service.graceful_shutdown_s = 10 * PATIENCE.as_secs() as u32;
    settings
}

#[test]
fn a_process_without_nats_ends_at_once_when_nobody_has_heard_of_its_endpoints() {
    let (control, mut shards) = start_with(&patient(free_port())).expect("starts");
    shards[0].reporter.endpoint_here("e1".into(), "v1".into());
    shards[1].reporter.endpoint_here("e2".into(), "v1".into());
    shards[1].reporter.endpoint_gone("e2".into());
    until("the changes wait", || (control_pending(&control) == 3).then_some(()));
    let ending = std::thread::spawn(move || finish(control, &mut shards));
    until("it ends, having waited for nothing", || ending.is_finished().then_some(()));
    assert_eq!(ending.join().expect("ends"), Outcome::Drained);
}

#[test]
fn a_process_that_nats_has_left_waits_for_it_to_tell_of_endpoints_that_were_told() {
    let (port, cable_port) = (free_port(), free_port());
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let mut events = nats.subscribe("kaa.v1.events.kpc.>");
    let (control, mut shards) = start_with(&patient(cable_port)).expect("starts");
    let cable = Cable::lay(cable_port, port);
    let e1 = || endpoints(&[("e1", "v1")]);
    shards[0].reporter.endpoint_here("e1".into(), "v1".into());
    assert_eq!(nats.event(&mut events), ("connected".into(), e1()));
    until("it is confirmed", || (control_pending(&control) == 0).then_some(()));
    drop(cable);
    until("the link is down", || {
        http(control.management_addr(), "GET", "/health").1.contains("link down").then_some(())
    });
    let address = control.management_addr();
    let ending = std::thread::spawn(move || finish(control, &mut shards));
    until("the shards have drained and the farewell waits", || {
        let metrics = http(address, "GET", "/metrics").1;
        metrics.contains("ringgate_connectivity_pending 1\n").then_some(())
    });
    let _cable = Cable::lay(cable_port, port);
    assert_eq!(nats.event(&mut events), ("disconnected".into(), e1()));
    assert_eq!(ending.join().expect("ends"), Outcome::Drained);
}

#[test]
fn a_process_that_nats_has_left_for_good_ends_when_its_time_is_over() {
    let port = free_port();
    let server = Server::start(port);
    let (control, mut shards) = start(port);
    shards[0].reporter.endpoint_here("e1".into(), "v1".into());
    until("it is told", || {
        let told = metric(&control, "ringgate_directory_endpoints") == 1;
        let events = http(control.management_addr(), "GET", "/metrics").1;
        let kind = "ringgate_connectivity_events_total{kind=\"connected\"} 1\n";
        (told && events.contains(kind) && control_pending(&control) == 0).then_some(())
    });
    drop(server);
    until("the link is down", || {
        http(control.management_addr(), "GET", "/health").1.contains("link down").then_some(())
    });
    let started = std::time::Instant::now();
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
    assert!(started.elapsed() > Duration::from_millis(900), "a second of grace");
}

/// Knows one token, and what it is asked after that waits until it is told to answer.
struct OneToken(Answers);

impl Clerk for OneToken {
    fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy> {
        assert_eq!(ticket.shard, OVER_NATS);
        let verdict = match question {
            Question::Token { token, .. } if token.expose() == "good" => {
                let (endpoint_id, token_id) = ("e1".into(), Some("t1".into()));
                Verdict::Endpoint(EndpointGrant { endpoint_id, token_id })
            }
            _ => Verdict::Rejected(Rejection::new(404, "unknown")),
        };
        self.0.give(ticket.ask, verdict);
        Ok(())
    }
}

fn service() -> (Answers, Service) {
    let (given, taken) = answers();
    let clerk = std::sync::Arc::new(OneToken(given.clone()));
    (given, Service { clerk, answers: taken })
}

#[test]
fn other_gateways_are_answered_over_nats() {
    let port = free_port();
    let _server = Server::start(port);
    let nats = Nats::connect(port);
    let (_, service) = service();
    let providers = Providers { service: Some(service), ..Providers::default() };
    let (control, mut shards) = start_serving(&settings(port), providers).expect("starts");
    until("the link is up", || (metric(&control, "ringgate_doubts_total") > 0).then_some(()));
    let request = |token| {
        let mut datum = Vec::new();
        let header = Header { correlation_id: token, timestamp_ms: now_ms(), timeout_ms: 10_000 };
        ecap::EndpointTokenValidationRequest { header, app_name: "app", token }.encode(&mut datum);
        datum
    };
    let subject = "kaa.v1.service.cm.ecap.ep-token-request";
    for (token, status_code, endpoint_id) in [("good", 200, Some("e1")), ("bad", 404, None)] {
        let answer = until("an answer", || {
            let asked = nats.client.request(subject, request(token).into());
            nats.runtime.block_on(asked).ok()
        });
        let answer = ecap::EndpointTokenValidationResponse::decode(&answer.payload).expect("reads");
        assert_eq!(answer.header.correlation_id, token);
        assert_eq!((answer.status_code, answer.endpoint_id), (status_code, endpoint_id));
    }
    nats.publish(subject, request("good"));
    until("one that nobody waits for is counted", || {
        (metric(&control, "ringgate_questions_ignored_total") == 1).then_some(())
    });
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}
