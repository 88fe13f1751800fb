//! What the control thread tells the world, and is told: endpoints that come, go and roam (9/ELCE),
//! and what providers revoke (16/ECAP, 22/CAP, 21/TLE).

use super::connectivity::{Connectivity, ConnectivitySettings, Kind, Now};
use super::revocations::{self, Broadcasts, Heard, Teller};
use super::serve::{self, AnswersTaken, Asked, Ignored, REQUESTS_MAX, Server, Service};
use super::switchboard::Switchboard;
use super::transitions::Transition;
use crate::auth::{Method, Revocation};
use crate::codec::avro::elce::ConnectivityEvent;
use crate::codec::avro::{AvroError, Header};
use crate::codec::subjects;
use crate::config::{Elsewhere, Settings};
use crate::shard::mail::Mail;
use crate::telemetry::{ConnectivityKind, RateLimit, RevocationKind, clock};
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Lines a second about events that cannot be read, and the like.
const LOGS_PER_SECOND: u32 = 1;
/// Replies to others that wait for NATS: one for each question that may be with the clerk, and as
/// many that are refused at once. Beyond it the oldest is given up, whose asker has waited longest
/// and asks again.
pub const REPLIES_MAX: usize = 2 * REQUESTS_MAX;

/// What comes on a subscription of the control link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// ExtensionData to the instance.
    Push,
    /// Events of this instance's replicas about endpoints.
    Connectivity(Kind),
    /// Events of providers.
    Revoked(Heard),
    /// Questions to our own store.
    Asked(Asked),
}

/// State of what is told and heard.
#[derive(Debug)]
pub struct News {
    replica: Arc<str>,
    /// `None` where nothing is told of endpoints.
    connectivity: Option<Connectivity>,
    connected_subject: String,
    disconnected_subject: String,
    /// `None` where this process's own store serves nobody else.
    teller: Option<Teller>,
    broadcasts: Broadcasts,
    /// Answers others' questions, where it does, and its answers.
    server: Option<(Server, AnswersTaken)>,
    /// Replies on their way to NATS, oldest first; at most [`REPLIES_MAX`].
    replies: VecDeque<(String, Bytes)>,
    correlation_prefix: String,
    sequence: u64,
    /// There may be something to publish.
    changed: Arc<Notify>,
    log_limit: RateLimit,
}

impl News {
    /// Nothing has been told yet, and the link is down.
    ///
    /// With a `service`, others are served; tokens they want to have another status go to
    /// `transitions`.
    pub fn new(
        settings: &Settings,
        service: Option<Service>,
        transitions: mpsc::Sender<Transition>,
    ) -> Self {
        let instance = &settings.service.instance_name;
        let replica = settings.service.replica_id.as_str();
        let (auth, connectivity) = (&settings.ringgate.auth, &settings.ringgate.connectivity);
        // Of this run alone: what a run before has sent is no echo of ours.
        let run = std::hash::RandomState::new().hash_one(replica);
        let correlation_prefix = format!("{replica}-{run:016x}");
        let changed = service.as_ref().map(|service| service.answers.changed());
        let changed = changed.unwrap_or_default();
        Self {
            replica: replica.into(),
            connectivity: connectivity.enabled.then(|| {
                Connectivity::new(ConnectivitySettings {
                    replica: replica.into(),
                    correlation_prefix: correlation_prefix.clone(),
                    window_ms: connectivity.window_ms.into(),
                    shared_versions: shared_versions(settings),
                    tracks_foreign: settings.rejects_elsewhere(),
                })
            }),
            connected_subject: subjects::event(instance, subjects::elce::CONNECTED),
            disconnected_subject: subjects::event(instance, subjects::elce::DISCONNECTED),
            teller: service.is_some().then(|| Teller {
                ecap_instance: auth.ecap_instance.clone(),
                cap_instance: auth.cap_instance.clone(),
                replica: replica.to_owned(),
            }),
            broadcasts: Broadcasts::default(),
            server: service.map(|Service { clerk, answers }| {
                (Server::new(clerk, &auth.default_tenant, transitions), answers)
            }),
            replies: VecDeque::new(),
            correlation_prefix,
            sequence: 0,
            changed,
            log_limit: RateLimit::new(LOGS_PER_SECOND),
        }
    }

    /// Is notified when there may be something to publish.
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// When there will be something to publish, if nothing else happens before: monotonic
    /// milliseconds.
    pub fn wake_ms(&self) -> Option<u64> {
        self.connectivity.as_ref()?.wake_ms()
    }

    /// What is wrong with the link although it is up, in words for the operator.
    pub fn trouble(&self) -> Option<String> {
        let unheard_ms = self.connectivity.as_ref()?.unheard_ms(now())?;
        let (subjects, _) = self.connected_subject.rsplit_once('.')?;
        Some(format!(
            "events about endpoints (9/ELCE) have not come back from NATS for {} s and none is \
             told any more: may ringgate publish and subscribe to {subjects}.*?",
            unheard_ms / 1_000
        ))
    }

    /// What others must hear before this process ends, once nobody is connected any more: that
    /// endpoints they know of have disconnected, and what our own store has revoked.
    pub fn owed(&self) -> usize {
        self.connectivity.as_ref().map_or(0, Connectivity::owed) + self.broadcasts.unsent()
    }

    /// The other replica that has an endpoint, where that is kept track of.
    pub fn elsewhere(&self, endpoint: &str) -> Option<&str> {
        self.connectivity.as_ref()?.elsewhere(endpoint)
    }

    fn warn(&mut self, what: &str) {
        if let Some(suppressed) = self.log_limit.allow(clock::monotonic_ms()) {
            tracing::warn!(suppressed, "{what}");
        }
    }
}

/// A subject that is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The subject.
    pub subject: String,
    /// The queue group, where one replica of many is to get each message.
    pub group: Option<String>,
    /// What comes.
    pub topic: Topic,
}

/// What is subscribed to, beside pushes; with questions if this replica serves others. Events are
/// for every replica, since each has routes and verdicts of its own.
pub fn subscriptions(settings: &Settings, serves: bool) -> Vec<Subscription> {
    let event = |(subject, topic)| Subscription { subject, group: None, topic };
    let asked = |(subject, group, asked)| Subscription {
        subject,
        group: Some(group),
        topic: Topic::Asked(asked),
    };
    let questions = if serves { serve::subscriptions(settings) } else { Vec::new() };
    events(settings).into_iter().map(event).chain(questions.into_iter().map(asked)).collect()
}

fn events(settings: &Settings) -> Vec<(String, Topic)> {
    let auth = &settings.ringgate.auth;
    let (ecap, cap) = (&auth.ecap_instance, &auth.cap_instance);
    let credentials = |method| Topic::Revoked(Heard::Credentials(method));
    let instance = &settings.service.instance_name;
    let mut subscriptions = vec![
        (subjects::event(ecap, subjects::ecap::TOKEN_REVOKED), Topic::Revoked(Heard::Tokens)),
        (
            subjects::event(ecap, subjects::ecap::CREDENTIAL_REVOKED),
            Topic::Revoked(Heard::Credential),
        ),
        (subjects::event(cap, subjects::cap::BASIC_REVOKED), credentials(Method::Basic)),
        (
            subjects::event(cap, subjects::cap::CERTIFICATE_REVOKED),
            credentials(Method::Certificate),
        ),
        (
            subjects::event(&auth.tenant_manager_instance, subjects::tle::UNREGISTERED),
            Topic::Revoked(Heard::Tenant),
        ),
    ];
    if settings.ringgate.connectivity.enabled {
        for (event, kind) in [
            (subjects::elce::CONNECTED, Kind::Connected),
            (subjects::elce::DISCONNECTED, Kind::Disconnected),
        ] {
            subscriptions.push((subjects::event(instance, event), Topic::Connectivity(kind)));
        }
    }
    subscriptions
}

fn shared_versions(settings: &Settings) -> HashSet<Box<str>> {
    let applications = settings.kaa.applications.iter();
    let shared =
        applications.filter(|(name, _)| settings.endpoint_elsewhere(name) == Elsewhere::Allow);
    shared.flat_map(|(_, app)| app.versions.keys()).map(|name| name.as_str().into()).collect()
}

fn now() -> Now {
    Now { ms: clock::monotonic_ms(), unix_ms: clock::unix_ms() }
}

fn label(kind: Kind) -> ConnectivityKind {
    match kind {
        Kind::Connected => ConnectivityKind::Connected,
        Kind::Disconnected => ConnectivityKind::Disconnected,
    }
}

impl Switchboard {
    /// An endpoint has connected or disconnected.
    pub(super) fn endpoint_changed(&mut self, kind: Kind, endpoint: &str, version: Arc<str>) {
        let Some(connectivity) = &mut self.news.connectivity else { return };
        connectivity.change(kind, endpoint, version, now());
        self.news.changed.notify_one();
        self.count_pending();
    }

    /// Nobody speaks for any endpoint any more: the shards have ended. What they have not said is
    /// said here.
    pub fn all_gone(&mut self) {
        if let Some(connectivity) = &mut self.news.connectivity {
            let now = now();
            self.directory.clear(|endpoint, version| {
                connectivity.change(Kind::Disconnected, endpoint, version, now);
            });
            connectivity.hurry();
            self.news.changed.notify_one();
            self.count_pending();
        }
    }

    fn count_pending(&self) {
        if let Some(connectivity) = &self.news.connectivity {
            self.counters.connectivity_pending.set(connectivity.pending() as u64);
            self.counters.connectivity_lost.set(connectivity.lost());
        }
    }

    /// Takes an event about endpoints, ours or another replica's.
    pub fn connectivity_heard(&mut self, kind: Kind, datum: &[u8]) {
        let Some(connectivity) = &mut self.news.connectivity else { return };
        let event = match ConnectivityEvent::decode(datum) {
            Ok(event) => event,
            Err(error) => return self.malformed(&error),
        };
        let moved = connectivity.heard(kind, &event, &mut self.directory, now());
        self.endpoints_roamed(moved);
        self.count_pending();
    }

    /// Takes a provider's event. One of ours has been obeyed before it was told.
    pub fn revocation_heard(&mut self, heard: Heard, datum: &[u8]) {
        match revocations::decode(heard, datum) {
            Ok((originator, _)) if *originator == *self.news.replica => {}
            Ok((_, revocation)) => self.revoke(revocation),
            Err(error) => self.malformed(&error),
        }
    }

    /// Our own store has revoked something: the shards are told, and the world where others ask us.
    pub fn revoke_own(&mut self, revocation: Revocation) {
        self.counters.revocations_own.add(1);
        self.take_answers();
        let news = &mut self.news;
        if let Some(teller) = &news.teller {
            news.sequence += 1;
            let header = Header {
                correlation_id: &format!("{}-r{}", news.correlation_prefix, news.sequence),
                timestamp_ms: clock::unix_ms(),
                timeout_ms: 0,
            };
            let lost = news.broadcasts.push(teller.events(&revocation, &header));
            if lost > 0 {
                news.warn("too many revocations wait for NATS: the oldest are not told to others");
            }
            self.news.changed.notify_one();
        }
        self.revoke(revocation);
    }

    fn revoke(&mut self, revocation: Revocation) {
        let kind = match &revocation {
            Revocation::Tokens { .. } => RevocationKind::Tokens,
            Revocation::Client { .. } => RevocationKind::Client,
            Revocation::Tenant { .. } => RevocationKind::Tenant,
        };
        self.counters.revocations[kind.index()].add(1);
        tracing::debug!(?revocation, "revoked");
        let revocation = Arc::new(revocation);
        self.post_to_all(|| Mail::Revoked(revocation.clone()));
    }

    /// Revocations may have been missed: what remote providers have said is asked for again.
    pub fn doubt(&mut self) {
        self.counters.doubts.add(1);
        self.post_to_all(|| Mail::Doubt);
    }

    fn malformed(&mut self, error: &AvroError) {
        self.counters.events_malformed.add(1);
        self.news.warn(&format!("an event of another service cannot be read: {error}"));
    }

    /// The link to NATS has come up, to a server that takes so much in one message. Whatever was
    /// told meanwhile has been missed.
    pub fn link_up(&mut self, payload_bytes_max: usize) {
        if let Some(connectivity) = &mut self.news.connectivity {
            connectivity.link_up(payload_bytes_max);
        }
        self.news.broadcasts.link_up(clock::monotonic_ms());
        self.doubt();
    }

    /// The link to NATS has broken.
    pub fn link_down(&mut self) {
        if let Some(connectivity) = &mut self.news.connectivity {
            connectivity.link_down();
        }
        self.news.broadcasts.link_down();
        // Who asked has given up when the link is back.
        self.news.replies.clear();
    }

    /// Takes a question to our own store.
    pub fn asked(&mut self, asked: Asked, reply_to: Option<&str>, datum: &[u8]) {
        let Some((server, _)) = &mut self.news.server else { return };
        self.counters.questions_served.add(1);
        match server.request(asked, reply_to, datum, clock::unix_ms()) {
            Ok(reply) => self.reply(reply),
            Err(ignored) => {
                self.counters.questions_ignored.add(1);
                match ignored {
                    Ignored::NoReplyTo => self.news.warn("a question has no reply subject"),
                    Ignored::Expired => {}
                    Ignored::Malformed(error) => self.malformed(&error),
                }
            }
        }
    }

    /// Takes what our own store has answered and done. To be called before a revocation of its is
    /// told, since it was given before.
    pub fn take_answers(&mut self) {
        while let Some((server, answers)) = &mut self.news.server
            && let Some((ask, answer)) = answers.try_next()
        {
            let reply = server.answered(ask, &answer, clock::unix_ms());
            self.reply(reply);
        }
    }

    fn reply(&mut self, reply: Option<(String, Bytes)>) {
        self.news.replies.extend(reply);
        if self.news.replies.len() > REPLIES_MAX {
            self.news.replies.pop_front();
            self.counters.replies_lost.add(1);
            self.news.warn("too many replies to other gateways wait for NATS: the oldest are lost");
        }
    }

    /// The next message to publish, as subject and datum. To be called again until there is none.
    pub fn next_message(&mut self) -> Option<(String, Bytes)> {
        self.take_answers();
        if let Some(reply) = self.news.replies.pop_front() {
            return Some(reply);
        }
        let now = now();
        if let Some(event) = self.news.broadcasts.next(now.ms) {
            return Some(event);
        }
        let mut datum = Vec::new();
        let sent = self.news.connectivity.as_mut()?.next(now, &mut datum)?;
        let index = label(sent.kind).index();
        if sent.is_repeated {
            self.counters.connectivity_repeated.add(1);
            self.news.warn(
                "an event about endpoints has not come back from NATS and is sent again; if this \
                 goes on, /health says so",
            );
        } else {
            self.counters.connectivity_events[index].add(1);
            self.counters.connectivity_endpoints[index].add(sent.endpoints as u64);
        }
        let subject = match sent.kind {
            Kind::Connected => &self.news.connected_subject,
            Kind::Disconnected => &self.news.disconnected_subject,
        };
        Some((subject.clone(), datum.into()))
    }
}
