//! Coming in: who owns a client id, and whose session a client inherits.

use std::sync::Arc;

use super::connection::{Entering, Hold, Life};
use super::core::Core;
use super::correlation::ConnectionKey;
use super::mail::Mail;
use super::registry::{Claim, Place};
use crate::codec::mqtt::ReasonCode;
use crate::session::saved::Saved;
use crate::session::{ClientId, Hello, Refused};
use crate::telemetry::CloseReason;

impl Core {
    /// A CONNECT has been taken.
    pub(super) fn enter(&mut self, index: u32, hello: Hello) {
        if hello.has_will {
            self.counters.wills_ignored.add(1);
        }
        let (client_id, is_assigned) = match &hello.client_id {
            ClientId::Nameless => return self.accept(index, None, false, None),
            ClientId::Named(id) => (id.clone(), false),
            ClientId::Assign => (self.new_client_id(index), true),
        };
        let connection = self.connections[index as usize].key(index);
        let place = Place { shard: self.number, connection };
        let inherited = match self.registry.claim(&client_id, place, self.now.ms) {
            Claim::Free => None,
            Claim::Kept(saved) => Some(saved),
            Claim::Live(previous) if previous.shard == self.number => {
                self.give_way(previous.connection, &client_id)
            }
            Claim::Live(previous) => {
                return self.ask_for_session(index, previous, client_id, &hello);
            }
        };
        let inherited = inherited.filter(|_| !hello.clean_start);
        self.accept(index, Some(client_id), is_assigned, inherited);
    }

    /// The owner before lives on another shard: it must close that connection, and hand the session
    /// over if the client wants it. Until then no packet is taken.
    fn ask_for_session(&mut self, index: u32, previous: Place, client_id: Arc<str>, hello: &Hello) {
        let connection = self.connections[index as usize].key(index);
        let place = Place { shard: self.number, connection };
        let heir = (!hello.clean_start).then_some(place);
        let mail =
            Mail::Takeover { connection: previous.connection, client_id: client_id.clone(), heir };
        if self.peers[usize::from(previous.shard)].post(mail).is_err() {
            self.registry.release(&client_id, place, None);
            return self.refuse(index, Refused::Unavailable);
        }
        if heir.is_none() {
            return self.accept(index, Some(client_id), false, None);
        }
        let connection = &mut self.connections[index as usize];
        connection.hold = Hold::Entering;
        connection.entering = Some(Box::new(Entering { client_id }));
        self.touch(index);
    }

    /// Another shard's connection has taken over a client id of this shard.
    pub(super) fn takeover(
        &mut self,
        connection: ConnectionKey,
        client_id: Arc<str>,
        heir: Option<Place>,
    ) {
        let saved = self.give_way(connection, &client_id);
        let Some(heir) = heir else { return };
        let mail = Mail::SessionMoved { to: heir.connection, client_id, saved };
        // The heir's mailbox is full: its client is let in by its connect timeout's end, or not at
        // all; the session is lost with the mail.
        if self.peers[usize::from(heir.shard)].post(mail).is_err() {
            self.counters.dropped(crate::telemetry::DropReason::NotResumed);
        }
    }

    /// Closes the connection whose client id connected again (MQTT-3.1.4-3) and returns its session
    /// if that outlives it.
    fn give_way(&mut self, key: ConnectionKey, client_id: &str) -> Option<Box<Saved>> {
        let is_open = self.find(key).is_some_and(|connection| connection.life == Life::Open);
        if is_open {
            self.counters.takeovers.add(1);
            let connection = &mut self.connections[key.index as usize];
            connection.session.say_goodbye(ReasonCode::SessionTakenOver, &mut connection.out);
            // Its release leaves the session with the registry, since it is the owner before.
            self.close(key.index, CloseReason::Takeover);
        }
        self.registry.take_left(client_id)
    }

    /// The session asked for has come.
    pub(super) fn session_moved(
        &mut self,
        to: ConnectionKey,
        client_id: Arc<str>,
        saved: Option<Box<Saved>>,
    ) {
        let waits = self.find(to).is_some_and(|connection| connection.hold == Hold::Entering);
        if !waits {
            let expires_ms =
                self.now.ms + u64::from(self.settings.policy.session_expiry_s_max) * 1000;
            if let Some(saved) = saved {
                self.registry.put_back(&client_id, saved, expires_ms);
            }
            return;
        }
        self.connections[to.index as usize].entering = None;
        self.accept(to.index, Some(client_id), false, saved);
        self.resume(to.index);
    }

    fn accept(
        &mut self,
        index: u32,
        client_id: Option<Arc<str>>,
        is_assigned: bool,
        inherited: Option<Box<Saved>>,
    ) {
        if inherited.is_some() {
            self.counters.sessions_resumed.add(1);
        }
        let connection = &mut self.connections[index as usize];
        let inherited = inherited.map(|saved| *saved);
        let policy = &self.settings.policy;
        connection.session.accept(client_id, is_assigned, inherited, policy, &mut connection.out);
        self.counters.sessions.add(1);
        self.counters.subscriptions.add(connection.session.subscriptions() as u64);
        if let Some(silence_ms) = connection.session.silence_ms_max() {
            let deadline_ms = connection.heard_ms + silence_ms;
            self.check_at(index, deadline_ms);
        }
        self.touch(index);
    }

    /// Does not let a client in.
    pub(super) fn refuse(&mut self, index: u32, refused: Refused) {
        self.counters.connect_refused(refused.label());
        let connection = &mut self.connections[index as usize];
        let reason = connection.session.refuse_connect(refused, &mut connection.out);
        self.close(index, reason);
    }

    /// A name for a v5 client that has none: unique among all replicas, since it carries this
    /// shard's replica id.
    fn new_client_id(&mut self, index: u32) -> Arc<str> {
        let generation = self.connections[index as usize].generation;
        format!("{}-{index:x}-{generation:x}-{:x}", self.settings.replica, self.now.us).into()
    }
}
