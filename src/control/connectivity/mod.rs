//! Who is connected, as the rest of the world is told (9/ELCE), and endpoints that move to another
//! replica. Pure: changes, events heard and the time in; events to publish and endpoints that have
//! moved away out.

mod outbox;
mod roaming;
#[cfg(test)]
mod simulation;

pub use outbox::{Kind, Now};

use std::collections::HashSet;
use std::sync::Arc;

use super::directory::Directory;
use crate::codec::avro::Header;
use crate::codec::avro::elce::ConnectivityEvent;
use outbox::Outbox;
use roaming::{Clock, Foreign, Ours, Settled, Theirs};

/// How connectivity is handled.
#[derive(Debug, Clone)]
pub struct ConnectivitySettings {
    /// Our replica id.
    pub replica: Arc<str>,
    /// What correlationIds begin with: of this process alone, also after a restart.
    pub correlation_prefix: String,
    /// How long changes are gathered, in milliseconds.
    pub window_ms: u64,
    /// Application versions whose endpoints may be on several replicas at a time: they stay when
    /// another one claims them.
    pub shared_versions: HashSet<Box<str>>,
    /// Whether to know which endpoints other replicas have.
    pub tracks_foreign: bool,
}

/// What [`Connectivity::next`] has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Of which kind the event is, and so its subject.
    pub kind: Kind,
    /// How many endpoints it names.
    pub endpoints: usize,
    /// Whether it has been sent before.
    pub is_repeated: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Connectivity {
    replica: Arc<str>,
    outbox: Outbox,
    clock: Clock,
    shared_versions: HashSet<Box<str>>,
    foreign: Option<Foreign>,
    /// The replica heard last, so that its name is shared by its endpoints.
    speaker: Arc<str>,
}

impl Connectivity {
    /// Nobody is connected, and the link to NATS is down.
    #[must_use]
    pub fn new(settings: ConnectivitySettings) -> Self {
        Self {
            replica: settings.replica,
            outbox: Outbox::new(settings.correlation_prefix, settings.window_ms),
            clock: Clock::new(),
            shared_versions: settings.shared_versions,
            foreign: settings.tracks_foreign.then(Foreign::default),
            speaker: "".into(),
        }
    }

    /// An endpoint has connected, or disconnected, and spoke as that application version.
    pub fn change(&mut self, kind: Kind, endpoint: &str, version: Arc<str>, now: Now) {
        self.outbox.change(kind, (endpoint.into(), version), now, &mut self.clock);
    }

    /// Takes an event of this instance, ours or another replica's. Returns the endpoints that have
    /// moved away; `directory` knows them no more than it did, and is to be told.
    pub fn heard(
        &mut self,
        kind: Kind,
        event: &ConnectivityEvent<'_>,
        directory: &mut Directory,
        now: Now,
    ) -> Vec<Box<str>> {
        if *event.originator_replica_id == *self.replica {
            self.confirm(event.header.correlation_id, directory);
            return Vec::new();
        }
        // What is overdue was made before this came.
        self.outbox.close_overdue(now, &mut self.clock);
        self.clock.hear(event.header.timestamp_ms, now.unix_ms);
        if *self.speaker != *event.originator_replica_id {
            self.speaker = event.originator_replica_id.into();
        }
        let endpoints = event.endpoints.iter();
        if kind == Kind::Disconnected {
            if let Some(foreign) = &mut self.foreign {
                endpoints.for_each(|(endpoint, _)| foreign.disconnected(endpoint, &self.speaker));
            }
            return Vec::new();
        }
        let timestamp_ms = event.header.timestamp_ms;
        // Another tenant's endpoint of the same id is another endpoint: ours stays.
        let moved = endpoints.filter(|(endpoint, version)| {
            !directory.is_alien(endpoint, version)
                && self.loses(endpoint, timestamp_ms, directory, now)
        });
        moved.map(|(endpoint, _)| endpoint.into()).collect()
    }

    fn confirm(&mut self, correlation_id: &str, directory: &mut Directory) {
        let foreign = &mut self.foreign;
        self.outbox.confirm(correlation_id, |kind, endpoint, timestamp_ms| {
            if kind == Kind::Connected
                && directory.claimed(endpoint, timestamp_ms)
                && let Some(foreign) = foreign
            {
                foreign.ours(endpoint);
            }
        });
    }

    /// The replica that speaks has claimed the endpoint: whether it was ours and is no more.
    fn loses(
        &mut self,
        endpoint: &str,
        timestamp_ms: i64,
        directory: &Directory,
        now: Now,
    ) -> bool {
        let held = directory.claim(endpoint);
        let gives_way = held.filter(|(version, _)| !self.shared_versions.contains(&***version));
        let settled = gives_way.map(|(_, claimed_ms)| {
            let confirmed = Ours::Confirmed { timestamp_ms: claimed_ms };
            let ours = self.outbox.claim(endpoint).unwrap_or(confirmed);
            let theirs = Theirs { timestamp_ms, replica: &self.speaker };
            roaming::settle(ours, &self.replica, theirs, now.unix_ms)
        });
        match (settled, held) {
            (Some(Settled::Ours), _) => return false,
            (Some(Settled::OursAgain), Some((version, claimed_ms))) => {
                self.outbox.repeat((endpoint.into(), version.clone()), claimed_ms, now);
                return false;
            }
            _ => {}
        }
        if let Some(foreign) = &mut self.foreign {
            foreign.connected(endpoint, &self.speaker, timestamp_ms);
        }
        settled.is_some()
    }

    /// Appends the event to publish now, if there is one. To be called again until there is none.
    pub fn next(&mut self, now: Now, out: &mut Vec<u8>) -> Option<Sent> {
        let event = self.outbox.next(now, &mut self.clock)?;
        let header = Header {
            correlation_id: event.correlation_id,
            timestamp_ms: event.timestamp_ms,
            timeout_ms: 0,
        };
        let endpoints = event.endpoints.iter().map(|(endpoint, version)| (&**endpoint, &**version));
        ConnectivityEvent::encode(&header, endpoints, &self.replica, out);
        let (kind, is_repeated) = (event.kind, event.is_repeated);
        Some(Sent { kind, endpoints: event.endpoints.len(), is_repeated })
    }

    /// When [`Connectivity::next`] is to be called, if nothing else happens before: monotonic
    /// milliseconds.
    #[must_use]
    pub fn wake_ms(&self) -> Option<u64> {
        self.outbox.wake_ms()
    }

    /// The link to NATS has come up, to a server that takes so much in one message.
    pub fn link_up(&mut self, payload_bytes_max: usize) {
        self.outbox.link_up(payload_bytes_max);
    }

    /// The link to NATS has broken.
    pub fn link_down(&mut self) {
        self.outbox.link_down();
    }

    /// From here on nothing waits for company: the process is about to end.
    pub fn hurry(&mut self) {
        self.outbox.hurry();
    }

    /// For how long an event has not come back from NATS although the link is up, once that is
    /// too long.
    #[must_use]
    pub fn unheard_ms(&self, now: Now) -> Option<u64> {
        self.outbox.unheard_ms(now)
    }

    /// Once every endpoint has disconnected: those of which NATS has yet to spread that, because
    /// the world has heard of them.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.outbox.owed()
    }

    /// Changes that NATS has not spread yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.outbox.pending()
    }

    /// Changes that were lost because too many waited, or one was too large for the server.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.outbox.lost()
    }

    /// The other replica that has the endpoint, as far as its events say; `None` also when that is
    /// not kept track of.
    #[must_use]
    pub fn elsewhere(&self, endpoint: &str) -> Option<&str> {
        self.foreign.as_ref()?.holder(endpoint)
    }
}
