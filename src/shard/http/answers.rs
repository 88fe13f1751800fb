//! Responses: the answers of extension services, and those of ours.

use super::{Carried, Exchange, Sender};
use crate::codec::avro::ExtensionData;
use crate::codec::kp1::{self, Outcome};
use crate::session::Refused;
use crate::session::catalogue::ExtensionId;
use crate::shard::connection::Hold;
use crate::shard::core::Core;
use crate::shard::correlation::ConnectionKey;
use crate::telemetry::{AnswerStatus, CloseReason, DropReason, HttpStatus};
use crate::transport::http::{Refusal, Response};

/// What the payloads of 1/KP are over HTTP, and errors always.
const CONTENT_TYPE: &str = "application/json";
/// What an extension answers that no client of HTTP can be told.
const BAD_GATEWAY: i32 = 502;

impl Carried {
    /// Whether who answers is whom the request was carried to, for the endpoint that it is of.
    fn was_asked(&self, data: &ExtensionData<'_>, extension: ExtensionId) -> bool {
        let endpoint_id = match &self.sender {
            Sender::Endpoint(grant) => Some(&*grant.endpoint_id),
            Sender::Unknown { .. } => None,
        };
        self.extension == extension && endpoint_id == data.endpoint_id
    }

    /// Whether an answer without correlationId is to this request.
    fn is_recognized(&self, data: &ExtensionData<'_>) -> bool {
        match &self.sender {
            Sender::Endpoint(_) => true,
            Sender::Unknown { app_version, resource_path } => {
                data.app_version_name == Some(&**app_version)
                    && *data.resource_path == **resource_path
            }
        }
    }
}

impl Core {
    /// The connection whose request this answers, by its request id and, where it has been echoed,
    /// the connection that the correlationId names. Nobody answers for another instance, endpoint
    /// or tenant than was asked.
    pub(in crate::shard) fn exchange_answered_by(
        &self,
        data: &ExtensionData<'_>,
        extension: ExtensionId,
        echoed: Option<ConnectionKey>,
    ) -> Option<ConnectionKey> {
        let request_id = u32::try_from(data.request_id?).ok()?;
        let key = self.exchanges.find(request_id)?;
        let exchange = self.find(key)?.http()?.exchange.as_ref()?;
        let (carried, app) = (exchange.carried.as_ref()?, exchange.app?);
        let is_answered = match echoed {
            Some(connection) => connection == key,
            None => carried.is_recognized(data),
        };
        let was_asked = carried.was_asked(data, extension);
        (was_asked && is_answered && !self.is_of_another_tenant(data, app.0)).then_some(key)
    }

    /// An extension service has answered a request.
    pub(in crate::shard) fn answer_exchange(&mut self, index: u32, data: &ExtensionData<'_>) {
        match u16::try_from(data.status_code).ok().filter(|code| (200..600).contains(code)) {
            Some(code) if Outcome::of(data.status_code) == Outcome::Status => {
                self.respond(index, code, data.payload.unwrap_or_default());
            }
            Some(_) => {
                let phrase = data.reason_phrase;
                let phrase = phrase.unwrap_or_else(|| kp1::reason_phrase(data.status_code));
                self.respond_with_error(index, data.status_code, phrase);
            }
            None => {
                self.counters.dropped(DropReason::BadExtensionData);
                let why = "the extension service gave no status code of HTTP";
                self.respond_error(index, BAD_GATEWAY, Some(why));
            }
        }
        self.take_requests(index);
    }

    /// An error of ours, counted as such; without a phrase, the usual one.
    pub(in crate::shard) fn respond_error(
        &mut self,
        index: u32,
        status_code: i32,
        phrase: Option<&str>,
    ) {
        self.counters.answers_error[AnswerStatus::of(status_code).index()].add(1);
        let phrase = phrase.unwrap_or_else(|| kp1::reason_phrase(status_code));
        self.respond_with_error(index, status_code, phrase);
    }

    /// NATS has not taken the message of a request, or nobody has heard it.
    #[cold]
    pub(in crate::shard) fn exchange_failed(&mut self, index: u32, status_code: i32, why: &str) {
        self.respond_error(index, status_code, Some(why));
        self.take_requests(index);
    }

    /// The error form of 1/KP. Status codes of providers are none of HTTP now and then.
    fn respond_with_error(&mut self, index: u32, status_code: i32, phrase: &str) {
        let code = u16::try_from(status_code).ok().filter(|code| (200..600).contains(code));
        let mut payload = std::mem::take(&mut self.payload_text);
        payload.clear();
        kp1::error_payload(&mut payload, status_code, phrase);
        self.respond(index, code.unwrap_or(BAD_GATEWAY as u16), &payload);
        self.payload_text = payload;
    }

    /// Ends the exchange of a connection with a response, and the connection if no other request
    /// may follow.
    fn respond(&mut self, index: u32, status_code: u16, body: &[u8]) {
        let Some(exchange) = self.end_exchange(index) else { return };
        let may_stay = exchange.keeps_alive && !self.is_draining();
        let connection = &self.connections[index as usize];
        let more_has_come = exchange.has_successor || !connection.pending.is_empty();
        let keeps_alive = may_stay && (!connection.peer_closed || more_has_come);
        self.write_response(index, status_code, body, keeps_alive);
        if !keeps_alive {
            return self.close(index, CloseReason::Completed);
        }
        let connection = &mut self.connections[index as usize];
        connection.since_ms = self.now.ms;
        if connection.hold == Hold::Exchange {
            connection.hold = Hold::None;
        }
    }

    /// Forgets the exchange of a connection, if there is one.
    pub(in crate::shard) fn end_exchange(&mut self, index: u32) -> Option<Exchange> {
        let exchange = self.connections[index as usize].http_mut()?.exchange.take()?;
        self.exchanges.end(exchange.request_id);
        self.counters.http_exchanges.set(self.exchanges.len() as u64);
        Some(exchange)
    }

    fn write_response(&mut self, index: u32, status_code: u16, body: &[u8], keeps_alive: bool) {
        self.counters.http_responded(HttpStatus::of(status_code));
        let unix_s = u64::try_from(self.now.unix_ms / 1000).unwrap_or_default();
        self.dates.update(unix_s);
        let connection = &mut self.connections[index as usize];
        if connection.out.capacity() == 0 {
            connection.out = self.pool.take();
        }
        let (date, content_type) = (self.dates.text(), CONTENT_TYPE);
        let response = Response { status_code, date, content_type, body, keeps_alive };
        response.write(&mut connection.out);
        self.touch(index);
    }

    /// Says what is wrong with a request that cannot be taken, and ends the connection: what
    /// follows cannot be told from it.
    pub(in crate::shard) fn refuse_request(&mut self, index: u32, why: Refusal) {
        let status_code = why.status_code();
        if let Some(suppressed) = self.log_door.allow(self.now.ms) {
            let (peer, shard) = (self.peer(index), self.number);
            tracing::warn!(shard, peer, %why, status_code, suppressed, "HTTP request refused");
        }
        self.last_response(index, status_code, why.why(), CloseReason::HttpRefused);
    }

    /// A deadline of a connection that speaks HTTP is over.
    pub(in crate::shard) fn expire_http(&mut self, index: u32) {
        let connection = &self.connections[index as usize];
        let (is_answering, is_quiet) = (connection.is_answering(), !connection.awaits_bytes());
        if is_answering {
            let why = "no answer from the extension service in time";
            self.last_response(index, 504, why, CloseReason::AnswerTimeout);
        } else if is_quiet {
            self.close(index, CloseReason::IdleTimeout);
        } else {
            let why = "the request did not come in full in time";
            self.last_response(index, 408, why, CloseReason::RequestTimeout);
        }
    }

    /// What a client is told whose connection is ended while it waits for a response.
    pub(in crate::shard) fn say_last_response(&mut self, index: u32, reason: CloseReason) {
        let (status_code, why) = match reason {
            CloseReason::Shutdown => (503, "the gateway stops"),
            CloseReason::Revoked | CloseReason::NotAuthorized => (401, "no longer authorized"),
            _ => return,
        };
        let connection = &self.connections[index as usize];
        let is_open = !connection.is_shaking_hands() && !connection.awaits_header();
        let has_more = connection.http().is_some() && !connection.pending.is_empty() && is_open;
        match self.end_exchange(index) {
            // Whether what was carried was also processed, nobody knows here.
            Some(exchange) if exchange.carried.is_some() => {
                self.write_last_response(index, 504, why);
            }
            Some(_) => self.write_last_response(index, status_code, why),
            // A request that has not been taken any more.
            None if has_more => self.write_last_response(index, status_code, why),
            None => {}
        }
    }

    /// The client's certificate is not good, or nobody can say.
    pub(in crate::shard) fn refuse_http(&mut self, index: u32, refused: Refused) {
        let (status_code, why) = match refused {
            Refused::Unavailable => (503, "nobody can say whose the client certificate is"),
            Refused::TooManyAttempts => (429, "too many attempts have failed"),
            Refused::NotAuthorized => (403, "the client certificate may not be used"),
            _ => (401, "the client certificate is not known"),
        };
        self.last_response(index, status_code, why, CloseReason::NotAuthorized);
    }

    fn last_response(&mut self, index: u32, status_code: u16, why: &str, reason: CloseReason) {
        self.end_exchange(index);
        self.write_last_response(index, status_code, why);
        self.close(index, reason);
    }

    fn write_last_response(&mut self, index: u32, status_code: u16, why: &str) {
        self.counters.answers_error[AnswerStatus::of(status_code.into()).index()].add(1);
        let mut payload = std::mem::take(&mut self.payload_text);
        payload.clear();
        kp1::error_payload(&mut payload, status_code.into(), why);
        self.write_response(index, status_code, &payload, false);
        self.payload_text = payload;
    }
}
