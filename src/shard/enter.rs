//! Coming in: who owns a client id, and whose session a client inherits.

use std::sync::Arc;

use super::connection::{Entering, Hold, Life};
use super::core::Core;
use super::correlation::ConnectionKey;
use super::mail::Mail;
use super::registry::{Claim, Place, Release};
use crate::codec::mqtt::ReasonCode;
use crate::session::saved::Saved;
use crate::session::{ClientId, Hello, Refused};
use crate::telemetry::{CloseReason, DropReason};

impl Core {
    /// A client asks to be let in, and has proven who it is if it could.
    pub(super) fn enter(&mut self, index: u32, hello: &Hello) {
        if self.connections[index as usize].http().is_some() {
            // Its requests are taken now.
            return;
        }
        if hello.has_will {
            self.counters.wills_ignored.add(1);
        }
        let (client_id, is_assigned) = match &hello.client_id {
            ClientId::Nameless => return self.accept(index, None, false, None),
            ClientId::Named(id) => (id.clone(), false),
            ClientId::Assign => (self.new_client_id(index), true),
        };
        let place = self.place(index);
        let wants_session = !hello.clean_start;
        let name = self.name(index, &client_id);
        match self.registry.claim(&name, place, wants_session, self.now.ms) {
            Claim::Free => self.accept(index, Some(client_id), is_assigned, None),
            Claim::Kept(saved) => self.accept(index, Some(client_id), is_assigned, Some(saved)),
            Claim::Live(previous) => {
                self.take_over(index, previous, client_id, name, wants_session);
            }
        }
    }

    /// What the registry knows a client id of this connection by. A client that has proven who it
    /// is shares client ids with its tenant's only: nobody else can take over its session.
    pub(super) fn name(&self, index: u32, client_id: &Arc<str>) -> Arc<str> {
        match &self.connections[index as usize].client {
            None => client_id.clone(),
            // No client id has a NUL (MQTT-1.5.4-2).
            Some(client) => format!("{}\0{client_id}", client.grant.tenant).into(),
        }
    }

    fn place(&self, index: u32) -> Place {
        Place { shard: self.number, connection: self.connections[index as usize].key(index) }
    }

    /// Another connection has the client id: it must end, and leave its session to this one if the
    /// client wants it. Until then no packet is taken.
    fn take_over(
        &mut self,
        index: u32,
        previous: Place,
        client_id: Arc<str>,
        name: Arc<str>,
        wants_session: bool,
    ) {
        let is_here = previous.shard == self.number;
        let mail = Mail::Takeover { connection: previous.connection };
        if !is_here && self.peers[usize::from(previous.shard)].post(mail).is_err() {
            self.registry.give_back(&name, self.place(index), previous);
            return self.refuse(index, Refused::Unavailable);
        }
        if wants_session {
            let connection = &mut self.connections[index as usize];
            connection.hold = Hold::Entering;
            let client_id = client_id.clone();
            connection.entering = Some(Box::new(Entering::Inheriting { client_id, name }));
            self.touch(index);
        }
        if is_here {
            self.give_way(previous.connection);
        }
        if !wants_session {
            self.accept(index, Some(client_id), false, None);
        }
    }

    /// Closes the connection whose client id has connected again (MQTT-3.1.4-3), if it is still
    /// there.
    pub(super) fn give_way(&mut self, key: ConnectionKey) {
        if self.find(key).is_none_or(|connection| connection.life != Life::Open) {
            return;
        }
        self.counters.takeovers.add(1);
        let connection = &mut self.connections[key.index as usize];
        connection.session.say_goodbye(ReasonCode::SessionTakenOver, &mut connection.out);
        self.close(key.index, CloseReason::Takeover);
    }

    /// Gives up the session of a connection that has ended: to who waits for it, or to be kept.
    /// `name` is what the registry knows it by.
    pub(super) fn release(
        &mut self,
        place: Place,
        name: Arc<str>,
        saved: Option<Box<Saved>>,
        expiry_s: u32,
    ) {
        let expires_ms = self.now.ms + u64::from(expiry_s) * 1000;
        let saved = saved.map(|saved| (saved, expires_ms));
        match self.registry.release(&name, place, saved) {
            Release::Done => {}
            Release::NoRoom => self.counters.dropped(DropReason::NotResumed),
            Release::Heir(heir, saved) if heir.shard == self.number => {
                self.session_moved(heir.connection, name, saved);
            }
            Release::Heir(heir, saved) => {
                let mail = Mail::SessionMoved { to: heir.connection, name, saved };
                let posted = self.peers[usize::from(heir.shard)].post(mail);
                if let Err(Mail::SessionMoved { name, saved, .. }) = posted {
                    // Its mailbox is full. The heir waits until its connect timeout, and finds the
                    // session when it comes again.
                    self.release(heir, name, saved, expiry_s);
                }
            }
        }
    }

    /// The session that a connection waits for has come.
    pub(super) fn session_moved(
        &mut self,
        to: ConnectionKey,
        name: Arc<str>,
        saved: Option<Box<Saved>>,
    ) {
        let place = Place { shard: self.number, connection: to };
        let waits =
            |entering: &mut Box<Entering>| matches!(**entering, Entering::Inheriting { .. });
        let connection = self.find(to).is_some();
        let connection = connection.then(|| &mut self.connections[to.index as usize]);
        let entering = connection.and_then(|connection| connection.entering.take_if(waits));
        let Some(Entering::Inheriting { client_id, .. }) = entering.map(|entering| *entering)
        else {
            // It has ended meanwhile.
            let expiry_s = saved.as_ref().map_or(0, |saved| saved.expiry_s);
            return self.release(place, name, saved, expiry_s);
        };
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
        if self.connections[index as usize].http().is_some() {
            return self.refuse_http(index, refused);
        }
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
