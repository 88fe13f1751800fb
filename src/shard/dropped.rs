//! Messages that are not carried: why, and how their clients are told.

use super::core::Core;
use crate::auth::Rejection;
use crate::codec::kp1::{self, Outcome, RequestId};
use crate::codec::mqtt::{PacketId, QoS, ReasonCode};
use crate::session::Incoming;
use crate::session::catalogue::{Catalogue, Refusal};
use crate::telemetry::{AnswerStatus, CloseReason, DropReason};
use crate::uplink::ledger::Tag;

/// Level of a 1/KP topic that holds the endpoint token, if it has one.
const TOKEN_LEVEL: usize = 3;
/// A message that cannot be carried, and how its client is told.
pub(super) struct Drop {
    reason: DropReason,
    /// Status of the error answer, where there is a request id.
    status_code: i32,
    /// Its reason phrase, if not the usual one of the status.
    phrase: Option<Box<str>>,
    /// What v5 is told in the acknowledgement.
    code: ReasonCode,
    /// What a client before v5 must not take for an acknowledgement: its connection is closed.
    must_not_acknowledge: bool,
}

impl Drop {
    pub(super) fn new(reason: DropReason, status_code: i32, code: ReasonCode) -> Self {
        Self { reason, status_code, phrase: None, code, must_not_acknowledge: false }
    }

    fn of(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::ExtensionNotAllowed => ReasonCode::NotAuthorized,
            Refusal::TooManyEndpoints => ReasonCode::QuotaExceeded,
            _ => ReasonCode::TopicNameInvalid,
        };
        Self::new(refusal.drop_reason(), refusal.status_code(), code)
    }

    /// The provider does not know the token, or cannot tell.
    pub(super) fn rejected(rejection: &Rejection) -> Self {
        let is_passing = rejection.is_passing();
        let reason = drop_reason(rejection);
        let code = match is_passing {
            true => ReasonCode::UnspecifiedError,
            false => ReasonCode::NotAuthorized,
        };
        Self {
            phrase: rejection.reason.clone(),
            // Its message may be good, and is to come again.
            must_not_acknowledge: is_passing,
            ..Self::new(reason, rejection.status_code, code)
        }
    }

    /// The status of the error answer.
    pub(super) fn status_code(&self) -> i32 {
        self.status_code
    }

    /// The phrase of the error answer, if not the usual one.
    pub(super) fn phrase(&self) -> Option<&str> {
        self.phrase.as_deref()
    }

    /// Under what it is counted.
    pub(super) fn reason(&self) -> DropReason {
        self.reason
    }

    pub(super) fn wrong_tenant() -> Self {
        Self::new(DropReason::WrongTenant, 403, ReasonCode::NotAuthorized)
    }

    pub(super) fn too_large() -> Self {
        Self::new(DropReason::PayloadTooLarge, 413, ReasonCode::ImplementationSpecificError)
    }

    pub(super) fn unavailable(reason: DropReason) -> Self {
        let drop = Self::new(reason, 503, ReasonCode::QuotaExceeded);
        Self { must_not_acknowledge: true, ..drop }
    }
}

/// Under what a message is counted that is dropped because of its token.
pub(super) fn drop_reason(rejection: &Rejection) -> DropReason {
    match rejection.status_code {
        _ if rejection.is_passing() => DropReason::TokenUnvalidated,
        409 => DropReason::EndpointElsewhere,
        _ => DropReason::TokenRejected,
    }
}

/// Why a message does not go on at once.
pub(super) enum Stop {
    /// It is dropped.
    Drop(Drop),
    /// It waits for the answer to a question.
    Park(u64),
    /// Its connection has been ended.
    Ended,
}

/// What keeps a client from talking for a tenant.
pub(super) enum Bar {
    /// It has proven to be of another.
    OtherTenant,
    /// It has not proven what the tenant demands.
    NotProven,
}

impl Bar {
    /// Under what a message is counted that it keeps from being carried.
    pub(super) fn reason(&self) -> DropReason {
        match self {
            Self::OtherTenant => DropReason::WrongTenant,
            Self::NotProven => DropReason::NotProven,
        }
    }
}

impl Stop {
    /// It would have to wait where too much does.
    pub(super) fn no_room() -> Self {
        Self::Drop(Drop::unavailable(DropReason::ParkedFull))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Drop(Drop::of(refusal))
    }
}

impl Core {
    /// Drops a message because of what a provider has said of its token.
    pub(super) fn drop_rejected(
        &mut self,
        index: u32,
        incoming: &Incoming<'_>,
        rejection: &Rejection,
    ) {
        self.give_up(index, incoming, Drop::rejected(rejection));
    }

    /// Drops a message that would have to wait where too many do.
    pub(super) fn drop_for_want_of_room(&mut self, index: u32, incoming: &Incoming<'_>) {
        self.give_up(index, incoming, Drop::unavailable(DropReason::ParkedFull));
    }

    /// Drops a message: counted, logged at a limited rate, answered with an error where it has a
    /// request id, and acknowledged as its QoS demands (MQTT-3.3.5-2).
    #[cold]
    pub(super) fn give_up(&mut self, index: u32, incoming: &Incoming<'_>, dropped: Drop) {
        self.counters.dropped(dropped.reason);
        self.log_dropped(index, &incoming.topic, dropped.reason);
        if has_request_id(&incoming.topic) {
            let status_code = dropped.status_code;
            let phrase = dropped.phrase.as_deref();
            let phrase = phrase.unwrap_or_else(|| kp1::reason_phrase(status_code));
            self.answer_error(index, &incoming.topic, status_code, phrase, incoming.qos);
        }
        if !self.connections[index as usize].session.is_live() {
            // It did not even read that.
            return;
        }
        let Some(id) = incoming.packet_id else { return };
        let is_v5 = self.connections[index as usize].session.version().is_v5();
        if dropped.must_not_acknowledge && !is_v5 {
            return self.close(index, CloseReason::UplinkRefused);
        }
        self.acknowledge_dropped(index, id, incoming.qos, dropped.code);
    }

    /// Acknowledges a message that was not carried, after those before it.
    fn acknowledge_dropped(&mut self, index: u32, id: PacketId, qos: QoS, code: ReasonCode) {
        let connection = &mut self.connections[index as usize];
        let key = connection.key(index);
        let must_wait = connection.session.dropped(id, qos, code, &mut connection.out);
        if must_wait {
            let tag = Tag {
                connection: key.index,
                generation: key.generation,
                packet_id: Some(id),
                qos: qos as u8,
                has_request_id: false,
            };
            if self.ledger.borrow_mut().note(tag, self.now.us).is_err() {
                // No room to remember what is owed: the client sends it again when it is back.
                return self.close(index, CloseReason::UplinkRefused);
            }
        }
        self.touch(index);
    }

    /// Sends the error form of 1/KP on `<request topic>/error`, if that is not too long for a
    /// topic.
    pub(super) fn answer_error(
        &mut self,
        index: u32,
        request_topic: &str,
        status_code: i32,
        reason_phrase: &str,
        qos: QoS,
    ) {
        if request_topic.len() + Outcome::Error.suffix().len() > kp1::TOPIC_BYTES_MAX {
            return;
        }
        self.counters.answers_error[AnswerStatus::of(status_code).index()].add(1);
        let mut topic = std::mem::take(&mut self.topic_text);
        let mut payload = std::mem::take(&mut self.payload_text);
        topic.clear();
        payload.clear();
        topic.extend_from_slice(request_topic.as_bytes());
        topic.extend_from_slice(Outcome::Error.suffix().as_bytes());
        kp1::error_payload(&mut payload, status_code, reason_phrase);
        if let Ok(text) = std::str::from_utf8(&topic) {
            self.send(index, text, &payload, qos, false);
        }
        self.topic_text = topic;
        self.payload_text = payload;
    }

    pub(super) fn log_dropped(&mut self, index: u32, topic: &str, reason: DropReason) {
        let Some(suppressed) = self.log_drop.allow(self.now.ms) else { return };
        let client_id = self.connections[index as usize].session.client_id().cloned();
        tracing::warn!(
            shard = self.number,
            client_id = client_id.as_deref().unwrap_or(""),
            peer = self.peer(index),
            topic = %without_token(&self.catalogue, topic),
            %reason,
            suppressed,
            "message dropped"
        );
    }
}

/// A topic as it may be logged: an endpoint token is a credential. Where it stands is only known of
/// a topic that leads to an extension instance; of any other, nothing is shown but its size.
fn without_token(catalogue: &Catalogue, topic: &str) -> String {
    let levels: Vec<&str> = topic.split('/').collect();
    match levels[..] {
        ["kp1", app_version, extension, token, ..]
            if catalogue.has_version(app_version)
                && catalogue.id_of(extension).is_some()
                && !token.is_empty() =>
        {
            let mask = |(level, text)| if level == TOKEN_LEVEL { "***" } else { text };
            levels.iter().copied().enumerate().map(mask).collect::<Vec<_>>().join("/")
        }
        _ => format!("{} bytes in {} levels", topic.len(), levels.len()),
    }
}

/// Whether a topic ends in a request id, so that its client hears of an error.
fn has_request_id(topic: &str) -> bool {
    match kp1::split_request_id(topic) {
        Some((_, request_id)) => request_id != RequestId::None && topic.starts_with("kp1/"),
        None => false,
    }
}
