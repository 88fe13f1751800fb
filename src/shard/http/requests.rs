//! Bytes of a client to requests, and requests to messages for NATS.

use super::{Carried, Exchange, Http, PIPELINE_BYTES_MAX, Sender};
use crate::auth::Known;
use crate::codec::mqtt::{QoS, ReasonCode};
use crate::session::Hello;
use crate::session::catalogue::{Catalogue, Target};
use crate::shard::connection::{Connection, Entering, Framing, Hold, Life};
use crate::shard::core::Core;
use crate::shard::dropped::{Bar, Drop, Stop};
use crate::shard::parked::{self, Message};
use crate::shard::revoke::NOT_PROVEN;
use crate::telemetry::{CloseReason, DropReason};
use crate::transport::http::{self, Read};
use crate::uplink::ledger::Tag;

impl Connection {
    /// What is known of it, if it speaks HTTP.
    pub(in crate::shard) fn http(&self) -> Option<&Http> {
        match &self.framing {
            Framing::Http(http) => Some(http),
            _ => None,
        }
    }

    pub(super) fn http_mut(&mut self) -> Option<&mut Http> {
        match &mut self.framing {
            Framing::Http(http) => Some(http),
            _ => None,
        }
    }

    /// Whether a request of it is being answered.
    pub(in crate::shard) fn is_answering(&self) -> bool {
        self.http().is_some_and(Http::is_answering)
    }

    /// Whether a request has begun to come and its rest is read.
    pub(in crate::shard) fn awaits_bytes(&self) -> bool {
        !self.pending.is_empty() && self.hold == Hold::None
    }

    /// Whether a request of it is being answered that has gone to NATS.
    pub(in crate::shard) fn is_answering_what_was_carried(&self) -> bool {
        let exchange = self.http().and_then(|http| http.exchange.as_ref());
        exchange.is_some_and(|exchange| exchange.carried.is_some())
    }
}

impl Core {
    /// Bytes have come from a connection that speaks HTTP.
    pub(in crate::shard) fn take_http(&mut self, index: u32, bytes: &[u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.life != Life::Open {
            return;
        }
        connection.heard_ms = self.now.ms;
        if connection.pending.is_empty() {
            if connection.pending.capacity() == 0 {
                connection.pending = self.pool.take();
            }
            self.request_begins(index);
        }
        self.connections[index as usize].pending.extend_from_slice(bytes);
        self.take_requests(index);
    }

    /// The first bytes of a request are there, or are read on: the rest must follow in time.
    pub(in crate::shard) fn request_begins(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.is_answering() {
            connection.since_ms = self.now.ms;
            let timeout_ms = u64::from(self.settings.http.request_timeout_ms);
            self.check_by(index, self.now.ms + timeout_ms);
        }
    }

    /// Takes requests from what has come of a connection, until one has to be waited for.
    pub(in crate::shard) fn take_requests(&mut self, index: u32) {
        while self.may_take_request(index) {
            let connection = &mut self.connections[index as usize];
            let mut pending = std::mem::take(&mut connection.pending);
            let body_bytes_max = self.settings.http.body_bytes_max;
            let Some(http) = connection.http_mut() else { return };
            match http.reader.read(&mut pending, body_bytes_max) {
                Ok(Read::More) => {
                    connection.pending = pending;
                    if connection.peer_closed {
                        self.close(index, CloseReason::PeerClosed);
                    }
                    return;
                }
                Ok(Read::Continue) => {
                    connection.pending = pending;
                    connection.out.extend_from_slice(http::CONTINUE);
                    self.touch(index);
                }
                Ok(Read::Request(request)) => {
                    let has_successor = request.bytes < pending.len();
                    self.begin_exchange(index, request.keeps_alive, has_successor);
                    self.request(index, &pending[request.path], &pending[request.body]);
                    self.put_back(index, pending, request.bytes);
                }
                Err(why) => {
                    self.pool.give(pending);
                    return self.refuse_request(index, why);
                }
            }
        }
    }

    /// Keeps what follows the first `taken` bytes.
    fn put_back(&mut self, index: u32, mut pending: Vec<u8>, taken: usize) {
        let connection = &mut self.connections[index as usize];
        if taken == pending.len() || connection.life != Life::Open {
            return self.pool.give(pending);
        }
        pending.drain(..taken);
        connection.pending = pending;
        self.request_begins(index);
    }

    /// Whether the next request may be taken now; otherwise the connection is put on hold where
    /// more of it would have to be kept.
    fn may_take_request(&mut self, index: u32) -> bool {
        let outbound_bytes_max = self.settings.policy.outbound_bytes_max;
        let connection = &mut self.connections[index as usize];
        if connection.life != Life::Open || connection.hold != Hold::None {
            return false;
        }
        if connection.is_answering() {
            if connection.pending.len() > PIPELINE_BYTES_MAX {
                connection.hold = Hold::Exchange;
                self.touch(index);
            }
            return false;
        }
        if connection.pending.is_empty() {
            let pending = std::mem::take(&mut connection.pending);
            self.pool.give(pending);
            if self.connections[index as usize].peer_closed {
                self.close(index, CloseReason::PeerClosed);
            }
            return false;
        }
        if connection.waiting_bytes() >= outbound_bytes_max {
            connection.hold = Hold::Output;
            self.touch(index);
            return false;
        }
        if matches!(connection.entering.as_deref(), Some(Entering::Presenting(_))) {
            // Who it is is asked once, before its first request.
            self.log_in(index, Hello::of_nobody());
            let connection = &self.connections[index as usize];
            return connection.life == Life::Open && connection.hold == Hold::None;
        }
        true
    }

    fn begin_exchange(&mut self, index: u32, keeps_alive: bool, has_successor: bool) {
        let until_ms = self.now.ms + u64::from(self.settings.http.answer_timeout_ms);
        let connection = &mut self.connections[index as usize];
        let key = connection.key(index);
        let Some(http) = connection.http_mut() else { return };
        let request_id = self.exchanges.begin(key);
        http.exchange = Some(Exchange {
            request_id,
            keeps_alive,
            has_successor,
            until_ms,
            app: None,
            carried: None,
        });
        self.counters.http_exchanges.set(self.exchanges.len() as u64);
        self.check_by(index, until_ms);
    }

    /// The exchange of a connection, if a request of it is being answered.
    fn exchange_mut(&mut self, index: u32) -> Option<&mut Exchange> {
        self.connections[index as usize].http_mut()?.exchange.as_mut()
    }

    /// A whole request: carries it, or answers why not.
    fn request(&mut self, index: u32, path: &[u8], body: &[u8]) {
        self.counters.http_requests.add(1);
        self.counters.http_body_bytes_in.add(body.len() as u64);
        let path = std::str::from_utf8(path).unwrap_or_default();
        let mut decoded = Vec::new();
        match http::resource_path(path, &mut decoded) {
            Some(decoded) => self.carry_request(index, decoded, body),
            None => {
                let code = ReasonCode::TopicNameInvalid;
                self.drop_request(index, path, Drop::new(DropReason::MalformedTopic, 400, code));
            }
        }
    }

    /// Carries a request, or answers why not.
    fn carry_request(&mut self, index: u32, path: &str, body: &[u8]) {
        match self.try_request(index, path, body) {
            Ok(()) | Err(Stop::Ended) => {}
            Err(Stop::Drop(dropped)) => self.drop_request(index, path, dropped),
            Err(Stop::Park(ask)) => self.park_request(index, ask, path, body),
        }
    }

    fn drop_request(&mut self, index: u32, path: &str, dropped: Drop) {
        self.counters.dropped(dropped.reason());
        self.log_dropped(index, path, dropped.reason());
        let status_code = match dropped.reason() {
            // What a provider says that cannot tell would pass for the extension service's word.
            DropReason::TokenUnvalidated => 503,
            _ => dropped.status_code(),
        };
        self.respond_error(index, status_code, dropped.phrase().or(phrase(dropped.reason())));
    }

    fn park_request(&mut self, index: u32, ask: u64, path: &str, body: &[u8]) {
        let bytes = parked::message_bytes(path.len(), body.len());
        let comes_by = self.comes_by(index);
        let connection = &mut self.connections[index as usize];
        // Far below 4 GiB: of a shard's messages no more may wait.
        connection.parked_bytes += bytes as u32;
        let message = Message {
            connection: connection.key(index),
            client: connection.client.clone(),
            comes_by,
            topic: path.into(),
            payload: body.into(),
            qos: QoS::AtMostOnce,
            packet_id: None,
        };
        self.parked.push(ask, message);
    }

    /// What a request has waited for is known.
    pub(in crate::shard) fn request_goes_on(
        &mut self,
        index: u32,
        message: &Message,
        known: &Known,
    ) {
        if !self.connections[index as usize].is_answering() {
            // It was answered 504 meanwhile.
            return;
        }
        match known {
            Known::Good(..) => self.carry_request(index, &message.topic, &message.payload),
            Known::Bad(rejection) => {
                self.drop_request(index, &message.topic, Drop::rejected(rejection));
            }
        }
        self.take_requests(index);
    }

    fn try_request(&mut self, index: u32, path: &str, body: &[u8]) -> Result<(), Stop> {
        let catalogue = self.catalogue.clone();
        let target = resolve(&catalogue, path)?;
        if let Some(exchange) = self.exchange_mut(index) {
            exchange.app = Some(target.app);
        }
        if !self.link_is_up {
            return Err(Stop::Drop(Drop::unavailable(DropReason::UplinkUnavailable)));
        }
        let client = self.connections[index as usize].client.as_deref();
        match self.bar(target.app, client, self.comes_by(index)) {
            None => {}
            Some(Bar::OtherTenant) => return Err(Stop::Drop(Drop::wrong_tenant())),
            Some(bar @ Bar::NotProven) => {
                let code = ReasonCode::NotAuthorized;
                return Err(Stop::Drop(Drop::new(bar.reason(), 401, code)));
            }
        }
        let endpoint = match target.token {
            None => None,
            Some(token) => {
                let bytes = parked::message_bytes(path.len(), body.len());
                let (grant, _) = self.identify(target.app, token, bytes)?;
                self.check_place(&grant, target.app_version, None, bytes)?;
                Some(grant)
            }
        };
        if self.ledger.borrow().is_full() {
            return Err(Stop::Drop(Drop::unavailable(DropReason::UplinkFull)));
        }
        let key = self.connections[index as usize].key(index);
        let Some(exchange) = self.exchange_mut(index) else { return Ok(()) };
        // In place of the client's own, if it gave one.
        let target = Target { request_id: Some(exchange.request_id), ..target };
        let sender = match &endpoint {
            Some(grant) => Sender::Endpoint(grant.clone()),
            None => Sender::Unknown {
                app_version: target.app_version.into(),
                resource_path: target.resource_path.into(),
            },
        };
        exchange.carried = Some(Carried { extension: target.extension, sender });
        let tag = Tag {
            connection: key.index,
            generation: key.generation,
            packet_id: None,
            qos: 0,
            has_request_id: true,
        };
        let endpoint_id = endpoint.as_ref().map(|grant| &*grant.endpoint_id);
        self.append_unclaimed(&target, endpoint_id, (key, None), body, Some(tag))
            .map_err(Stop::Drop)
    }
}

/// What a client is told whose message is larger than NATS takes.
pub(in crate::shard) const TOO_LARGE: &str = "the message is larger than NATS takes";

/// What a client is told beside the status of a request that was not carried: several causes share
/// one. `None`: the usual phrase says it all.
fn phrase(reason: DropReason) -> Option<&'static str> {
    Some(match reason {
        DropReason::NotKp1 => "the path does not begin with kp1",
        DropReason::MalformedTopic => "the path is none of 1/KP",
        DropReason::RequestIdTooLarge => "the request id is over 2147483647",
        DropReason::UnknownAppVersion => "no such application version",
        DropReason::UnknownExtension => "no such extension instance",
        DropReason::ExtensionNotAllowed => "the application version may not use the instance",
        DropReason::WrongTenant => "the client is of another tenant",
        DropReason::NotProven => NOT_PROVEN,
        DropReason::PayloadTooLarge => TOO_LARGE,
        DropReason::UplinkUnavailable => "there is no link to NATS",
        DropReason::UplinkFull => "the link to NATS has no room",
        DropReason::ParkedFull => "too much waits for endpoint tokens to be validated",
        _ => return None,
    })
}

/// Where a path leads. A request id that it ends in is of no use here.
fn resolve<'a>(catalogue: &Catalogue, path: &'a str) -> Result<Target<'a>, Stop> {
    use crate::session::catalogue::Refusal;
    catalogue.resolve(path).map_err(|refusal| match refusal {
        Refusal::NotKp1 => {
            Stop::Drop(Drop::new(DropReason::NotKp1, 404, ReasonCode::TopicNameInvalid))
        }
        other => other.into(),
    })
}
