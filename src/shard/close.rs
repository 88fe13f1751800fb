//! The end of a connection, as far as the core is concerned: what it held is given up.

use super::connection::{Entering, Hold, Life};
use super::core::Core;
use super::correlation::ConnectionKey;
use super::registry::Place;
use crate::session::Session;
use crate::telemetry::CloseReason;

impl Core {
    /// Ends a connection: what is in its buffer is still sent.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason) {
        let connection = &self.connections[index as usize];
        if connection.life != Life::Open {
            return;
        }
        let key = connection.key(index);
        self.say_last_response(index, reason);
        self.end_exchange(index);
        self.counters.closed(reason);
        let connection = &mut self.connections[index as usize];
        connection.life = Life::Closing;
        connection.close_reason = Some(reason);
        connection.hold = Hold::None;
        connection.since_ms = self.now.ms;
        self.pool.give(std::mem::take(&mut connection.pending));
        let session = std::mem::take(&mut connection.session);
        let entering = connection.entering.take();
        if let Some(spoken) = connection.spoken.take() {
            let reporter = &mut self.reporter;
            self.endpoints.release(spoken.endpoints, key, |id| reporter.endpoint_gone(id));
            self.counters.endpoints.set(self.endpoints.len() as u64);
        }
        // A request over HTTP that gets no response has failed: it is not carried later.
        let is_http = self.connections[index as usize].http().is_some();
        if is_http || matches!(reason, CloseReason::Revoked | CloseReason::NotAuthorized) {
            self.forget_parked(key);
        }
        self.end_session(key, session, entering.map(|entering| *entering));
        let connection = &mut self.connections[index as usize];
        if let Some(client) = connection.client.take() {
            self.counters.clients_authenticated.sub(1);
            self.leave_clients(key, Some(&client));
        }
        self.check_at(index, self.now.ms + super::LINGER_MS_MAX);
        self.touch(index);
        self.end_handshake(index);
        tracing::debug!(shard = self.number, connection = index, %reason, "connection closed");
    }

    /// Gives up the session of a connection that has ended.
    fn end_session(&mut self, key: ConnectionKey, session: Session, entering: Option<Entering>) {
        let place = Place { shard: self.number, connection: key };
        if session.is_live() {
            self.counters.sessions.sub(1);
            self.counters.subscriptions.sub(session.subscriptions() as u64);
        }
        if let Some(Entering::Inheriting { name, .. }) = entering {
            self.registry.abandon(&name, place);
        }
        let Some(client_id) = session.client_id() else { return };
        let name = self.name(key.index, client_id);
        let expiry_s = session.expiry_s();
        let saved = (expiry_s > 0).then(|| Box::new(session.into_saved()));
        self.release(place, name, saved, expiry_s);
    }
}
