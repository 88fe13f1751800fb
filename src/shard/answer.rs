//! NATS → device: answers and pushes of extension services, and what NATS says of our batches.

use super::ask::ASKER;
use super::connection::Hold;
use super::core::Core;
use super::correlation::{ConnectionKey, Correlation};
use super::http::TOO_LARGE;
use super::recent::{Asker, Request};
use crate::codec::avro::{ClientData, ExtensionData};
use crate::codec::kp1::{self, ResponseTopic};
use crate::codec::mqtt::{QoS, ReasonCode};
use crate::session::catalogue::{Extension, ExtensionId};
use crate::session::topics::EndpointKey;
use crate::session::{Delivery, Outgoing};
use crate::shard::affinity;
use crate::telemetry::{CloseReason, DropReason};
use crate::uplink::ledger::{Outcome, Tag, Verdict};

/// Place of no connection.
const NOBODY: u32 = u32::MAX;

impl Core {
    /// An ExtensionData datum has come, as an answer or a push. `reply_to` is where the extension
    /// wants the endpoint's next messages (4/ESP affinity).
    pub fn extension_data(&mut self, reply_to: Option<&str>, datum: &[u8]) {
        let delivered = match ExtensionData::decode(datum) {
            Ok(data) => self.deliver(reply_to, &data),
            Err(_) => Err(DropReason::BadExtensionData),
        };
        if let Err(reason) = delivered {
            self.counters.dropped(reason);
            if let Some(suppressed) = self.log_drop.allow(self.now.ms) {
                tracing::warn!(shard = self.number, %reason, suppressed, "answer dropped");
            }
        }
    }

    fn deliver(
        &mut self,
        reply_to: Option<&str>,
        data: &ExtensionData<'_>,
    ) -> Result<(), DropReason> {
        if data.expired(self.now.unix_ms) {
            return Err(DropReason::Expired);
        }
        let catalogue = self.catalogue.clone();
        let extension = data
            .extension_instance_name
            .and_then(|name| catalogue.extension_named(name))
            .ok_or(DropReason::BadExtensionData)?;
        if extension.endpoint_aware != data.endpoint_id.is_some() {
            // Without its token, or with one too many, it would come on a topic nobody knows.
            return Err(DropReason::BadExtensionData);
        }
        let correlation = self.correlations.decode(data.correlation_id);
        if let Some(key) = self.exchange_of(correlation, data, &extension.name)? {
            self.guard(key.index, |core| core.answer_exchange(key.index, data));
            return Ok(());
        }
        let asker = self.asker(correlation, data, extension)?;
        let mut handed_over = Ok(());
        self.guard(asker.connection.index, |core| {
            handed_over = core.hand_over(reply_to, data, extension, asker);
        });
        handed_over
    }

    fn hand_over(
        &mut self,
        reply_to: Option<&str>,
        data: &ExtensionData<'_>,
        extension: &Extension,
        asker: Asker,
    ) -> Result<(), DropReason> {
        let index = asker.connection.index;
        let endpoint = data.endpoint_id.and_then(|id| self.endpoints.find_key(id));
        self.write_answer(data, extension, endpoint, asker.connection)?;
        if let Some(subject) = reply_to {
            self.set_affinity(index, extension, endpoint, subject);
        }
        let topic = std::mem::take(&mut self.topic_text);
        let payload = std::mem::take(&mut self.payload_text);
        let text = std::str::from_utf8(&topic).map_err(|_| DropReason::BadExtensionData);
        let sent = text.map(|text| {
            let body: &[u8] = match kp1::Outcome::of(data.status_code) {
                kp1::Outcome::Status => data.payload.unwrap_or_default(),
                kp1::Outcome::Error => &payload,
            };
            self.send(index, text, body, asker.qos, data.request_id.is_none());
        });
        self.topic_text = topic;
        self.payload_text = payload;
        sent
    }

    /// The connection that waits for this as the response to its request over HTTP, if it is one.
    fn exchange_of(
        &self,
        correlation: Option<Correlation>,
        data: &ExtensionData<'_>,
        extension: &str,
    ) -> Result<Option<ConnectionKey>, DropReason> {
        if correlation.is_some_and(|correlation| correlation.qos.is_some()) {
            return Ok(None);
        }
        let extension = self.catalogue.id_of(extension).ok_or(DropReason::BadExtensionData)?;
        let echoed = correlation.map(|correlation| correlation.connection);
        match self.exchange_answered_by(data, extension, echoed) {
            // It was answered already, or waits no more.
            None if echoed.is_some() => Err(DropReason::NoRoute),
            // Not echoed: it may be for a session too.
            found => Ok(found),
        }
    }

    /// Whose message this is: the connection the correlationId names; else the one that speaks for
    /// the endpoint, which may be the same client come again; else the one that asked the same of
    /// an endpoint-unaware instance, unless the correlationId names another.
    fn asker(
        &self,
        correlation: Option<Correlation>,
        data: &ExtensionData<'_>,
        extension: &Extension,
    ) -> Result<Asker, DropReason> {
        if let Some(Correlation { connection, qos: Some(qos), .. }) = correlation
            && self.is_live(connection)
        {
            return Ok(Asker { connection, qos });
        }
        let push_qos = extension.push_qos.unwrap_or(self.settings.policy.push_qos);
        let found = match data.endpoint_id {
            Some(id) => self
                .endpoints
                .find(id)
                .map(|endpoint| Asker { connection: endpoint.holder.connection, qos: push_qos }),
            None if correlation.is_some() => None,
            None => self.recent.find(Request {
                app_version: data.app_version_name.unwrap_or_default(),
                extension: &extension.name,
                resource_path: data.resource_path,
                request_id: data.request_id.and_then(|id| u32::try_from(id).ok()),
            }),
        };
        found.filter(|asker| self.is_live(asker.connection)).ok_or(DropReason::NoRoute)
    }

    fn is_live(&self, key: ConnectionKey) -> bool {
        self.find(key).is_some_and(|connection| connection.session.is_live())
    }

    /// Writes the answer's topic, and the payload if it is an error, into the scratch space.
    fn write_answer(
        &mut self,
        data: &ExtensionData<'_>,
        extension: &Extension,
        endpoint: Option<EndpointKey>,
        asker: ConnectionKey,
    ) -> Result<(), DropReason> {
        let route = endpoint.and_then(|key| self.endpoints.get(key));
        let token = route.and_then(|route| route.token_of(asker));
        if data.endpoint_id.is_some() && token.is_none() {
            // Its token has been revoked, or it has not spoken for the endpoint for long.
            return Err(DropReason::NoRoute);
        }
        if route.is_some_and(|route| self.is_of_another_tenant(data, route.holder.grant.app)) {
            return Err(DropReason::WrongTenant);
        }
        let app_version = data
            .app_version_name
            .or(route.map(|route| &*route.app_version))
            .ok_or(DropReason::BadExtensionData)?;
        let outcome = kp1::Outcome::of(data.status_code);
        let topic = ResponseTopic {
            app_version,
            extension: &extension.name,
            token,
            resource_path: data.resource_path,
            request_id: data.request_id.and_then(|id| u32::try_from(id).ok()),
            outcome,
        };
        topic.validate().map_err(|_| DropReason::BadExtensionData)?;
        self.topic_text.clear();
        topic.append_to(&mut self.topic_text);
        self.payload_text.clear();
        if outcome == kp1::Outcome::Error {
            let phrase = data.reason_phrase.unwrap_or_else(|| kp1::reason_phrase(data.status_code));
            kp1::error_payload(&mut self.payload_text, data.status_code, phrase);
        }
        Ok(())
    }

    /// Whether what has come names a version of another tenant's than `app`: endpoints of two
    /// tenants may have the same id.
    pub(super) fn is_of_another_tenant(&self, data: &ExtensionData<'_>, app: u16) -> bool {
        let named = data.app_version_name.and_then(|name| self.catalogue.app_of_version(name));
        named.is_some_and(|named| !self.is_of_one_tenant(named.0, app))
    }

    fn set_affinity(
        &mut self,
        index: u32,
        extension: &Extension,
        endpoint: Option<EndpointKey>,
        subject: &str,
    ) {
        if !affinity::is_publishable(subject) {
            return;
        }
        let Some(extension) = self.catalogue.id_of(&extension.name) else { return };
        let connection = &mut self.connections[index as usize];
        let topics = connection.session.topics();
        let spoken = connection.spoken.get_or_insert_default();
        spoken.affinities.set(extension, endpoint, subject, topics);
    }

    /// Sends a message to a client. A slow one loses a QoS 0 message; one of QoS 1 or 2 must not be
    /// lost, so the connection ends.
    pub(super) fn send(&mut self, index: u32, topic: &str, payload: &[u8], qos: QoS, recurs: bool) {
        let connection = &mut self.connections[index as usize];
        if connection.out.capacity() == 0 {
            connection.out = self.pool.take();
        }
        let waiting_bytes = connection.waiting_bytes();
        let policy = &self.settings.policy;
        let (session, out) = (&mut connection.session, &mut connection.out);
        let message = Outgoing { topic, payload, qos, recurs };
        match session.deliver(message, policy, waiting_bytes, out) {
            Delivery::Accepted(qos) => {
                self.counters.messages_out[qos as usize].add(1);
                self.counters.payload_bytes_out[qos as usize].add(payload.len() as u64);
            }
            Delivery::TooLarge => self.counters.dropped(DropReason::PayloadTooLarge),
            Delivery::TooSlow(qos) => {
                self.counters.dropped(DropReason::SlowConsumer);
                if qos != QoS::AtMostOnce {
                    session.say_goodbye(ReasonCode::QuotaExceeded, out);
                    self.close(index, CloseReason::QuotaExceeded);
                }
            }
        }
        self.touch(index);
    }

    /// NATS has confirmed batches: acknowledges what they held.
    pub fn settle(&mut self) {
        loop {
            let confirmed = self.ledger.borrow_mut().confirmed(self.now.us);
            let Some(confirmed) = confirmed else { break };
            let mut messages = 0;
            for outcome in confirmed.outcomes() {
                messages += 1;
                self.guard(outcome.tag.connection, |core| core.outcome(&outcome));
            }
            self.counters.confirmations.add(messages);
            if let Some(latency_us) = confirmed.latency_us().filter(|_| messages > 0) {
                self.latency.record_us(latency_us, messages);
            }
            self.ledger.borrow_mut().recycle(confirmed);
        }
        while let Some(key) = self.window_waiting.pop() {
            if self.find(key).is_some_and(|connection| connection.hold == Hold::Window) {
                self.resume(key.index);
            }
        }
        self.resume_waiting();
    }

    fn outcome(&mut self, outcome: &Outcome<'_>) {
        let tag = outcome.tag;
        if tag.connection == ASKER {
            return self.ask_outcome(tag, outcome.verdict);
        }
        let key = ConnectionKey { index: tag.connection, generation: tag.generation };
        if !self.is_live(key) {
            return self.exchange_outcome(key, outcome.verdict);
        }
        match outcome.verdict {
            Verdict::Taken => self.acknowledge(key.index, tag, None),
            Verdict::NoResponders => self.no_responders(key.index, tag, outcome),
            Verdict::Refused => self.uplink_refused(key.index, tag, DropReason::UplinkUnavailable),
            Verdict::TooLarge => self.uplink_refused(key.index, tag, DropReason::PayloadTooLarge),
        }
    }

    /// What has become of the message of a request over HTTP.
    #[cold]
    fn exchange_outcome(&mut self, key: ConnectionKey, verdict: Verdict) {
        if self.find(key).is_none_or(|connection| !connection.is_answering_what_was_carried()) {
            return;
        }
        match verdict {
            Verdict::Taken => {}
            Verdict::NoResponders => {
                self.counters.no_responders.add(1);
                self.exchange_failed(key.index, 503, "no extension service listens");
            }
            Verdict::Refused => {
                self.counters.dropped(DropReason::UplinkUnavailable);
                self.exchange_failed(key.index, 503, "NATS has refused the message");
            }
            Verdict::TooLarge => {
                self.counters.dropped(DropReason::PayloadTooLarge);
                self.exchange_failed(key.index, 413, TOO_LARGE);
            }
        }
    }

    #[inline]
    fn acknowledge(&mut self, index: u32, tag: Tag, refusal: Option<ReasonCode>) {
        let Some(id) = tag.packet_id else { return };
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        if connection.out.capacity() == 0 {
            connection.out = self.pool.take();
        }
        if let Some(reason) = refusal {
            connection.session.refuse(id, reason);
        }
        let qos = Self::qos(tag.qos);
        connection.session.confirmed(id, qos, &mut connection.out);
        let may_go_on = connection.hold == Hold::Window
            && !connection.session.window_is_full(&self.settings.policy);
        let key = connection.key(index);
        self.touch(index);
        if may_go_on {
            // Once all that is confirmed has been acknowledged, not packet by packet.
            self.window_waiting.push(key);
        }
    }

    /// NATS did not take the message: v5 is told, an older client must not take silence or an
    /// acknowledgement for success, so its connection ends and it sends the message again.
    #[cold]
    fn uplink_refused(&mut self, index: u32, tag: Tag, reason: DropReason) {
        self.counters.dropped(reason);
        if tag.packet_id.is_none() {
            return;
        }
        if self.connections[index as usize].session.version().is_v5() {
            self.acknowledge(index, tag, Some(ReasonCode::NotAuthorized));
        } else {
            self.close(index, CloseReason::UplinkRefused);
        }
    }

    /// Nobody listens for the message. On a subject of affinity that is no more than a replica that
    /// has gone: a message of QoS 1 or 2 goes to the instance instead (one of QoS 0 is never sent
    /// twice). Otherwise its client is told 503 where it has asked for an answer.
    #[cold]
    fn no_responders(&mut self, index: u32, tag: Tag, outcome: &Outcome<'_>) {
        let Some(subject) = subject_of(outcome.frame) else { return };
        let connection = &mut self.connections[index as usize];
        let forgotten = match &mut connection.spoken {
            Some(spoken) => spoken.affinities.forget(subject, connection.session.topics()),
            None => None,
        };
        let extension = match forgotten {
            Some(id) if tag.packet_id.is_some() => {
                self.carry_again(tag, id, outcome.payload());
                return self.acknowledge(index, tag, None);
            }
            Some(id) => Some(id),
            None => instance_of(subject).and_then(|name| self.catalogue.id_of(name)),
        };
        self.counters.no_responders.add(1);
        if let Some(extension) = extension.filter(|_| tag.has_request_id) {
            self.answer_unheard(index, tag, extension, outcome.payload());
        }
        self.acknowledge(index, tag, None);
    }

    /// Sends a ClientData to its extension instance after the replica it was meant for has gone. It
    /// is acknowledged now, in its turn, so nobody is owed anything for this second time.
    fn carry_again(&mut self, tag: Tag, extension: ExtensionId, datum: &[u8]) {
        let address = &self.addresses[usize::from(extension.0)];
        let mut size = itoa::Buffer::new();
        let size = size.format(datum.len()).as_bytes();
        let unowed = Tag { connection: NOBODY, has_request_id: false, ..tag };
        let mut ledger = self.ledger.borrow_mut();
        ledger.append_again(address.subject, Some(unowed), self.now.us, |batch| {
            for part in [&address.head, size, b"\r\n", datum, b"\r\n"] {
                batch.extend_from_slice(part);
            }
        });
    }

    /// Answers 503 to a request that nobody heard.
    fn answer_unheard(&mut self, index: u32, tag: Tag, extension: ExtensionId, datum: &[u8]) {
        let catalogue = self.catalogue.clone();
        let extension = catalogue.extension(extension);
        let Ok(data) = ClientData::decode(datum) else { return };
        let route = data.endpoint_id.and_then(|id| self.endpoints.find(id));
        let asker = self.connections[index as usize].key(index);
        let token = route.and_then(|route| route.token_of(asker));
        if data.endpoint_id.is_some() && token.is_none() {
            return;
        }
        let mut topic = Vec::new();
        ResponseTopic {
            app_version: data.app_version_name,
            extension: &extension.name,
            token,
            resource_path: data.resource_path,
            request_id: data.request_id.and_then(|id| u32::try_from(id).ok()),
            outcome: kp1::Outcome::Error,
        }
        .append_to(&mut topic);
        let suffix = kp1::Outcome::Error.suffix();
        if let Some(request) = std::str::from_utf8(&topic).ok().and_then(|t| t.strip_suffix(suffix))
        {
            self.answer_error(index, request, 503, kp1::reason_phrase(503), Self::qos(tag.qos));
        }
    }
}

/// The subject of a `PUB` frame.
fn subject_of(frame: &[u8]) -> Option<&str> {
    let after = frame.strip_prefix(b"PUB ")?;
    let end = memchr::memchr(b' ', after)?;
    std::str::from_utf8(&after[..end]).ok()
}

/// The extension instance a ClientData subject addresses.
fn instance_of(subject: &str) -> Option<&str> {
    subject.strip_prefix("kaa.v1.service.")?.strip_suffix(".esp.ClientData")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_subject_and_instance_of_a_frame() {
        let frame = b"PUB kaa.v1.service.dcx.esp.ClientData kaa.v1.replica.r-0.x 5\r\nhello\r\n";
        let subject = subject_of(frame).expect("a PUB frame");
        assert_eq!(instance_of(subject), Some("dcx"));
        assert_eq!(instance_of("kaa.v1.replica.x.esp.ClientData"), None);
        assert_eq!(subject_of(b"PING\r\n"), None);
    }
}
