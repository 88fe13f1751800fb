//! Device → NATS: a PUBLISH becomes a ClientData in the batch being filled.

use std::rc::Rc;

use super::clients::Client;
use super::core::{Address, Core};
use super::correlation::Correlation;
use super::dropped::{Bar, Drop, Stop};
use super::endpoints::Claim;
use super::parked;
use super::recent::{Asker, Request};
use super::revoke::NOT_PROVEN;
use crate::auth::{Grant, Known, Provider, Transport};
use crate::codec::avro::ClientDataTemplate;
use crate::codec::kp1::{self, RequestId};
use crate::codec::mqtt::ReasonCode;
use crate::codec::subjects;
use crate::config::{Qos0WhenFull, WhenUnavailable};
use crate::session::Incoming;
use crate::session::catalogue::{AppId, Refusal, Target};
use crate::session::topics::{EndpointKey, ResolvedTopic, TopicSlot};
use crate::telemetry::{CloseReason, DropReason};
use crate::uplink::ledger::{SubjectId, Tag};

/// Bits of the first byte of a PUBLISH that hold its QoS.
const QOS_BITS: u8 = 0b110;

/// Whether a message needs room in the ledger. One that has waited elsewhere takes the room it had
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Needed,
    Given,
}

impl Core {
    /// Whether a PUBLISH with this first byte must wait for room in the uplink.
    #[inline]
    pub(super) fn uplink_must_wait(&self, first_byte: u8) -> bool {
        let drops = self.settings.qos0_when_full == Qos0WhenFull::Drop;
        self.ledger.borrow().is_full()
            && !(drops && first_byte & QOS_BITS == 0)
            && !self.refuses_publications()
    }

    pub(super) fn refuses_publications(&self) -> bool {
        !self.link_is_up && self.settings.when_unavailable == WhenUnavailable::Refuse
    }

    /// Carries a message, or drops it and says so where somebody can hear it.
    pub(super) fn publish(&mut self, index: u32, incoming: Incoming<'_>) {
        let level = incoming.qos as usize;
        self.counters.messages_in[level].add(1);
        self.counters.payload_bytes_in[level].add(incoming.payload.len() as u64);
        if incoming.retain {
            self.counters.retained_ignored.add(1);
        }
        #[cfg(debug_assertions)]
        self.panic_on_fault_topic(&incoming.topic);
        self.carry(index, &incoming, Room::Needed);
    }

    /// Carries a message that has waited for its endpoint token to be validated.
    pub(super) fn carry_parked(&mut self, index: u32, incoming: &Incoming<'_>) {
        self.carry(index, incoming, Room::Given);
    }

    #[inline]
    fn carry(&mut self, index: u32, incoming: &Incoming<'_>, room: Room) {
        let stop = match self.locate(index, incoming) {
            Err(stop) => stop,
            Ok(_) if self.refuses_publications() => {
                Stop::Drop(Drop::unavailable(DropReason::UplinkUnavailable))
            }
            Ok((slot, request_id)) => match self.append(index, slot, request_id, incoming, room) {
                Ok(()) => return,
                Err(dropped) => Stop::Drop(dropped),
            },
        };
        match stop {
            Stop::Drop(dropped) => self.give_up(index, incoming, dropped),
            Stop::Park(ask) => self.park(index, ask, incoming),
            Stop::Ended => {}
        }
    }

    /// Debug builds panic on a PUBLISH to the topic in
    /// [`FAULT_VARIABLE`](super::settings::FAULT_VARIABLE), for the test that a panic in one
    /// connection costs only that connection.
    #[cfg(debug_assertions)]
    fn panic_on_fault_topic(&self, topic: &str) {
        let is_fault = self.settings.fault_topic.as_deref() == Some(topic);
        assert!(!is_fault, "fault injected by {}", super::settings::FAULT_VARIABLE);
    }

    /// Finds or resolves a topic: its entry, and the request id.
    #[inline]
    fn locate(
        &mut self,
        index: u32,
        incoming: &Incoming<'_>,
    ) -> Result<(TopicSlot, Option<u32>), Stop> {
        let split = kp1::split_request_id(&incoming.topic);
        if let Some((base, request_id)) = split
            && let Some(slot) = self.connections[index as usize].session.topics().find(base)
            && self.speak_for(index, slot)
        {
            return match request_id {
                RequestId::None => Ok((slot, None)),
                RequestId::Some(id) => Ok((slot, Some(id))),
                RequestId::TooLarge => Err(Refusal::RequestIdTooLarge.into()),
            };
        }
        self.resolve(index, incoming, split.map(|(base, _)| base))
    }

    /// Makes the connection the one that speaks for a known topic's endpoint; `false` when the
    /// topic must be resolved anew: its token has to be asked for again, something was revoked, or
    /// the endpoint's route has gone.
    #[inline]
    fn speak_for(&mut self, index: u32, slot: TopicSlot) -> bool {
        let connection = &mut self.connections[index as usize];
        let holder = connection.key(index);
        let topic = connection.session.topics().get(slot);
        if topic.epoch != self.epoch || topic.valid_until_ms <= self.now.ms {
            return false;
        }
        let Some(endpoint) = topic.endpoint else { return true };
        match self.endpoints.reclaim(endpoint, holder) {
            None => {
                if let Some(spoken) = &mut connection.spoken {
                    spoken.endpoints.remove(&endpoint);
                }
                false
            }
            Some(Claim::Held) => true,
            Some(claim) => {
                self.claimed(index, endpoint, claim);
                true
            }
        }
    }

    #[cold]
    fn claimed(&mut self, index: u32, endpoint: EndpointKey, claim: Claim) {
        let spoken = self.connections[index as usize].spoken.get_or_insert_default();
        spoken.endpoints.insert(endpoint);
        if claim == Claim::New
            && let Some(endpoint) = self.endpoints.get(endpoint)
            && !self.places.is_granted(endpoint.id())
        {
            let app_version = endpoint.app_version.clone();
            self.reporter.endpoint_here(endpoint.id().into(), app_version);
        }
        self.counters.endpoints.set(self.endpoints.len() as u64);
    }

    /// A connection may speak for one more endpoint only below its limit.
    fn check_endpoints(&self, index: u32, endpoint_id: &str) -> Result<(), Refusal> {
        let Some(spoken) = &self.connections[index as usize].spoken else { return Ok(()) };
        let held = &spoken.endpoints;
        let is_held = self.endpoints.find_key(endpoint_id).is_some_and(|key| held.contains(&key));
        if is_held || held.len() < self.settings.endpoints_max {
            return Ok(());
        }
        Err(Refusal::TooManyEndpoints)
    }

    /// What keeps a client that comes by a transport from talking for an application's tenant.
    pub(super) fn bar(
        &self,
        app: AppId,
        client: Option<&Client>,
        comes_by: Transport,
    ) -> Option<Bar> {
        let tenant = &self.catalogue.app(app).tenant;
        if client.is_some_and(|client| client.grant.tenant != *tenant) {
            return Some(Bar::OtherTenant);
        }
        let requirement = self.settings.auth.tenants.requirement(tenant, comes_by);
        let is_met = requirement.is_met_by(client.map(|client| client.method));
        (!is_met).then_some(Bar::NotProven)
    }

    /// A client that has proven who it is talks for its own tenant only; one that has not, where
    /// the tenant lets it. Who is not let talk at all is put out.
    fn check_tenant(&mut self, index: u32, app: AppId) -> Result<(), Stop> {
        let connection = &self.connections[index as usize];
        match self.bar(app, connection.client.as_deref(), self.comes_by(index)) {
            None => {}
            Some(Bar::OtherTenant) => return Err(Stop::Drop(Drop::wrong_tenant())),
            Some(bar @ Bar::NotProven) => {
                self.counters.dropped(bar.reason());
                let (code, reason) = (ReasonCode::NotAuthorized, CloseReason::NotAuthorized);
                self.put_out(connection.key(index), code, reason, NOT_PROVEN);
                return Err(Stop::Ended);
            }
        }
        let spoken = self.connections[index as usize].spoken.get_or_insert_default();
        if !spoken.apps.contains(&app) {
            spoken.apps.push(app);
        }
        Ok(())
    }

    /// Whose token it is, and until when that holds. Nobody is asked for a message of `bytes` that
    /// cannot wait for the answer.
    pub(super) fn identify(
        &mut self,
        app: AppId,
        token: &str,
        bytes: usize,
    ) -> Result<(Rc<Grant>, u64), Stop> {
        if self.settings.auth.provider(app) == Provider::Trustful {
            let (token, endpoint_id) = (token.into(), token.into());
            let grant = Grant { app: app.0, token, endpoint_id, token_id: None };
            return Ok((Rc::new(grant), u64::MAX));
        }
        match self.verdicts.find(app.0, token, self.now.ms) {
            Some(Known::Good(grant, until_ms)) => Ok((grant, until_ms)),
            Some(Known::Bad(rejection)) => Err(Stop::Drop(Drop::rejected(&rejection))),
            None if !self.can_park(bytes) => Err(Stop::no_room()),
            None => match self.ask_token(app, token) {
                Some(ask) => Err(Stop::Park(ask)),
                None => Err(Stop::no_room()),
            },
        }
    }

    /// Follows a topic not seen lately. `base` is what it is remembered by, if it can be.
    #[cold]
    fn resolve(
        &mut self,
        index: u32,
        incoming: &Incoming<'_>,
        base: Option<&str>,
    ) -> Result<(TopicSlot, Option<u32>), Stop> {
        let topic = &*incoming.topic;
        let bytes = parked::message_bytes(topic.len(), incoming.payload.len());
        let catalogue = self.catalogue.clone();
        let target = catalogue.resolve(topic)?;
        self.check_tenant(index, target.app)?;
        let mut valid_until_ms = u64::MAX;
        let mut endpoint = None;
        let mut endpoint_id = None;
        if let Some(token) = target.token {
            let (grant, until_ms) = self.identify(target.app, token, bytes)?;
            endpoint = Some(self.claim(index, &grant, target.app_version, bytes)?);
            endpoint_id = Some(grant);
            valid_until_ms = until_ms;
        }
        let Target { app_version, extension, resource_path, request_id, .. } = target;
        let template = ClientDataTemplate::new(
            app_version,
            endpoint_id.as_ref().map(|grant| &*grant.endpoint_id),
            resource_path,
            self.settings.config_name,
        );
        let mut resolved = ResolvedTopic::new(base.unwrap_or(topic), extension, endpoint, template);
        resolved.epoch = self.epoch;
        resolved.valid_until_ms = valid_until_ms;
        let connection = &mut self.connections[index as usize];
        resolved.affinity = connection
            .spoken
            .as_ref()
            .and_then(|spoken| spoken.affinities.get(extension, endpoint))
            .map(Into::into);
        let topics = connection.session.topics();
        let slot = match base {
            Some(_) => topics.insert(resolved),
            None => topics.set_aside(resolved),
        };
        Ok((slot, request_id))
    }

    pub(super) fn is_of_one_tenant(&self, app: u16, other: u16) -> bool {
        app == other
            || self.catalogue.app(AppId(app)).tenant == self.catalogue.app(AppId(other)).tenant
    }

    /// Makes a connection speak for the endpoint of a token. One whose id another tenant's endpoint
    /// has is not let take its route over.
    fn claim(
        &mut self,
        index: u32,
        grant: &Rc<Grant>,
        app_version: &str,
        bytes: usize,
    ) -> Result<EndpointKey, Stop> {
        self.check_endpoints(index, &grant.endpoint_id)?;
        let holder = self.connections[index as usize].key(index);
        let other = self.endpoints.find(&grant.endpoint_id).map(|e| e.holder.grant.app);
        if other.is_some_and(|other| !self.is_of_one_tenant(other, grant.app)) {
            return Err(Stop::Drop(Drop::wrong_tenant()));
        }
        self.check_place(grant, app_version, Some(holder), bytes)?;
        let (key, claim) = self.endpoints.claim(grant, app_version, holder);
        self.claimed(index, key, claim);
        Ok(key)
    }

    /// Writes the message behind its PUB line into the batch being filled: the one copy of its
    /// payload.
    #[inline]
    fn append(
        &mut self,
        index: u32,
        slot: TopicSlot,
        request_id: Option<u32>,
        incoming: &Incoming<'_>,
        room: Room,
    ) -> Result<(), Drop> {
        let connection = &mut self.connections[index as usize];
        let key = connection.key(index);
        let topic = connection.session.topics().get(slot);
        self.sequence = self.sequence.wrapping_add(1);
        let correlation = self.correlations.encode(Correlation {
            connection: key,
            qos: Some(incoming.qos),
            sequence: self.sequence,
        });
        let timestamp_ms = self.now.unix_ms;
        let timeout_ms = i64::from(self.settings.client_data_timeout_ms);
        let datum_bytes = topic.template.encoded_len(
            correlation.len(),
            timestamp_ms,
            timeout_ms,
            request_id,
            incoming.payload.len(),
        );
        if datum_bytes > self.payload_bytes_max {
            return Err(Drop::too_large());
        }
        let address = &self.addresses[usize::from(topic.extension.0)];
        let (head, subject): (&[u8], _) = match &topic.affinity {
            None => (&address.head, address.subject),
            Some(subject) => {
                write_head(&mut self.payload_text, subject, &self.reply_subject);
                (&self.payload_text, SubjectId::of(subject.as_bytes()))
            }
        };
        // An affinity is forgotten when nobody responds, which only a tracked message tells.
        let is_tracked =
            incoming.packet_id.is_some() || request_id.is_some() || topic.affinity.is_some();
        let tag = is_tracked.then(|| Tag {
            connection: key.index,
            generation: key.generation,
            packet_id: incoming.packet_id,
            qos: incoming.qos as u8,
            has_request_id: request_id.is_some(),
        });
        let mut size = itoa::Buffer::new();
        let size = size.format(datum_bytes).as_bytes();
        let template = &topic.template;
        let mut ledger = self.ledger.borrow_mut();
        if room == Room::Needed && ledger.is_full() {
            return Err(Drop::unavailable(DropReason::UplinkFull));
        }
        ledger.append_again(subject, tag, self.now.us, |batch| {
            batch.reserve(head.len() + size.len() + datum_bytes + 4);
            batch.extend_from_slice(head);
            batch.extend_from_slice(size);
            batch.extend_from_slice(b"\r\n");
            template.encode_into(
                correlation,
                timestamp_ms,
                timeout_ms,
                request_id,
                incoming.payload,
                batch,
            );
            batch.extend_from_slice(b"\r\n");
        });
        drop(ledger);
        if topic.endpoint.is_none() {
            self.remember(index, request_id, incoming);
        }
        Ok(())
    }

    /// An endpoint-unaware instance may answer without echoing the correlationId.
    #[cold]
    fn remember(&mut self, index: u32, request_id: Option<u32>, incoming: &Incoming<'_>) {
        let Ok(target) = self.catalogue.resolve(&incoming.topic) else { return };
        let request = Request {
            app_version: target.app_version,
            extension: &self.catalogue.extension(target.extension).name,
            resource_path: target.resource_path,
            request_id,
        };
        let connection = self.connections[index as usize].key(index);
        self.recent.remember(request, Asker { connection, qos: incoming.qos });
    }
}

fn write_head(head: &mut Vec<u8>, subject: &str, reply: &str) {
    head.clear();
    for part in ["PUB ", subject, " ", reply, " "] {
        head.extend_from_slice(part.as_bytes());
    }
}

impl Address {
    /// The address of an extension instance, for messages answered on `reply`.
    pub(super) fn of(instance: &str, reply: &str) -> Self {
        Self::new(&subjects::service(instance, subjects::esp::CLIENT_DATA), reply)
    }

    /// The address of whoever hears `subject`, for messages answered on `reply`.
    pub(super) fn new(subject: &str, reply: &str) -> Self {
        let mut head = Vec::new();
        write_head(&mut head, subject, reply);
        Self { head: head.into(), subject: SubjectId::of(subject.as_bytes()) }
    }
}
