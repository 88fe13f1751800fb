//! Connections behind TLS: their handshakes, and what comes and goes through them.

use super::connection::{Connection, Entering, Hold, Life, Tls, Transport};
use super::core::Core;
use super::correlation::ConnectionKey;
use super::doors::Speaks;
use super::handshakes::STEPS_PER_TURN_MAX;
use crate::telemetry::{CloseReason, TlsFailure};
use crate::tls::Profile;
use crate::transport::tls::{PARTIAL_BYTES_MAX, TlsSession, failure};

/// Bytes that are read of a client whose handshake waits for its next step, or a little more.
const UNREAD_BYTES_MAX: usize = 64 * 1024;
/// What is said of a client whose TLS has failed.
const LOG_FAILED: &str = "TLS with a client failed";

impl Core {
    /// A connection begins with TLS, once its client says something: whoever is silent is in
    /// nobody's way.
    pub(super) fn begin_tls(&mut self, index: u32) {
        let since_ms = self.connections[index as usize].since_ms;
        self.check_at(index, since_ms + u64::from(self.settings.tls_handshake_timeout_ms));
    }

    /// Ciphertext has come from a connection whose handshake has not begun.
    fn take_hello(&mut self, index: u32, ciphertext: &[u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.pending.len() + ciphertext.len() > PARTIAL_BYTES_MAX {
            return self.after_tls(index, Err(rustls::Error::PeerSentOversizedRecord));
        }
        if connection.pending.capacity() == 0 {
            connection.pending = self.pool.take();
        }
        connection.pending.extend_from_slice(ciphertext);
        if connection.hold == Hold::None {
            self.begin_handshake(index);
        }
    }

    /// Begins a handshake, or lets it wait unread until it may begin.
    fn begin_handshake(&mut self, index: u32) {
        let connection = &self.connections[index as usize];
        let Transport::Waiting(profile) = connection.transport else { return };
        let key = connection.key(index);
        if !self.handshakes.try_begin() {
            self.connections[index as usize].hold = Hold::Handshake;
            self.touch(index);
            let Self { handshakes, connections, .. } = self;
            handshakes.wait(key, connections.len(), |key| {
                let connection = connections.get(key.index as usize);
                connection.is_some_and(|c| c.generation == key.generation && c.life == Life::Open)
            });
            return;
        }
        self.counters.tls_handshakes_under_way.set(self.handshakes.under_way() as u64);
        // Which profiles there are never changes while the process runs.
        let profile = self.tls_profiles[usize::from(profile)].current();
        let config = match self.listener_of(index).speaks {
            Speaks::Mqtt => &profile.config,
            Speaks::WebSocket(_) | Speaks::Http => &profile.web_config,
        };
        match TlsSession::new(config.clone()) {
            Ok(session) => {
                let connection = &mut self.connections[index as usize];
                let tls = Tls { session, profile, is_queued: false, is_under_way: true };
                connection.transport = Transport::Tls(Box::new(tls));
                connection.hold = Hold::None;
                let mut hello = std::mem::take(&mut connection.pending);
                self.touch(index);
                self.take_ciphertext(index, &mut hello);
                self.pool.give(hello);
            }
            Err(error) => {
                self.handshakes.end();
                self.counters.tls_handshakes_under_way.set(self.handshakes.under_way() as u64);
                tracing::error!(shard = self.number, %error, "no TLS session can be made");
                self.close(index, CloseReason::Internal);
            }
        }
    }

    /// The handshake of a connection, if it is under way, is over, one way or the other: who has
    /// waited longest may begin.
    pub(super) fn end_handshake(&mut self, index: u32) {
        let Transport::Tls(tls) = &mut self.connections[index as usize].transport else { return };
        // What rustls says is not asked: a handshake may be over and the connection have failed, by
        // one and the same flight of the client.
        if !std::mem::take(&mut tls.is_under_way) {
            return;
        }
        self.handshakes.end();
        while let Some(key) = self.handshakes.next_waiting() {
            let waits = |c: &Connection| c.life == Life::Open && c.hold == Hold::Handshake;
            if self.find(key).is_some_and(waits) {
                self.begin_handshake(key.index);
            }
        }
        self.counters.tls_handshakes_under_way.set(self.handshakes.under_way() as u64);
    }

    /// Ciphertext has come from a connection.
    pub(super) fn take_ciphertext(&mut self, index: u32, ciphertext: &mut [u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.life != Life::Open {
            return;
        }
        let key = connection.key(index);
        let tls = match &mut connection.transport {
            Transport::Tls(tls) => tls,
            Transport::Waiting(_) => return self.take_hello(index, ciphertext),
            Transport::Plain | Transport::Proxied { .. } | Transport::Taken => return,
        };
        if tls.session.is_handshaking() {
            let outcome = tls.session.keep(ciphertext);
            let is_enough = tls.session.kept_bytes() > UNREAD_BYTES_MAX;
            if !std::mem::replace(&mut tls.is_queued, true) {
                self.handshakes.queue_step(key);
            }
            if is_enough && connection.hold == Hold::None {
                // Until its step is taken: a client may say a lot behind the end of its handshake.
                connection.hold = Hold::Handshake;
                self.touch(index);
            }
            return self.after_tls(index, outcome);
        }
        let taken = std::mem::replace(&mut connection.transport, Transport::Taken);
        let Transport::Tls(mut tls) = taken else { return };
        let outcome = tls.session.receive(ciphertext, |plain| self.take_plaintext(index, plain));
        self.connections[index as usize].transport = Transport::Tls(tls);
        self.after_tls(index, outcome);
    }

    /// Takes the next steps of handshakes, as many as one turn may.
    pub(super) fn shake_hands(&mut self) {
        for _ in 0..STEPS_PER_TURN_MAX {
            let Some(key) = self.handshakes.next_step() else { return };
            if self.find(key).is_some_and(|connection| connection.life == Life::Open) {
                self.guard(key.index, |core| core.handshake_step(key));
            }
        }
    }

    fn handshake_step(&mut self, key: ConnectionKey) {
        let index = key.index;
        // It may have been held until now.
        self.touch(index);
        let connection = &mut self.connections[index as usize];
        if connection.hold == Hold::Handshake {
            connection.hold = Hold::None;
        }
        let Transport::Tls(tls) = &mut connection.transport else { return };
        tls.is_queued = false;
        // A client may say more than the end of its handshake.
        let mut plain = Vec::new();
        let outcome = tls.session.receive(&mut [], |more| plain.extend_from_slice(more));
        if outcome.is_ok() && !tls.session.is_handshaking() {
            let counters = &self.counters.tls_handshakes;
            counters[usize::from(tls.session.is_resumed())].add(1);
            let profile = tls.profile.clone();
            self.end_handshake(index);
            self.introduce(index, &profile);
            if !plain.is_empty() {
                self.take_framed(index, &mut plain);
            }
        }
        self.after_tls(index, outcome);
        let connection = &self.connections[index as usize];
        let is_done = connection.hold == Hold::None && !connection.is_answering();
        if connection.peer_closed && is_done {
            self.close(index, CloseReason::PeerClosed);
        }
    }

    /// The handshake is over: CONNECT is waited for, and the client's certificate, if it has shown
    /// one, is known.
    fn introduce(&mut self, index: u32, profile: &Profile) {
        let connection = &mut self.connections[index as usize];
        connection.since_ms = self.now.ms;
        let Transport::Tls(tls) = &connection.transport else { return };
        let presented =
            tls.session.peer_certificates().map(|chain| profile.peer_certificate(chain));
        match presented {
            None => {}
            Some(Ok(certificate)) => {
                tracing::debug!(
                    shard = self.number,
                    connection = index,
                    subject = certificate.details.subject.as_deref(),
                    fingerprint = &*certificate.details.fingerprint,
                    "client certificate verified"
                );
                // Where a proxy has passed on its client's, this one is the proxy's own.
                if connection.entering.is_none() {
                    connection.entering = Some(Box::new(Entering::Presenting(certificate)));
                }
            }
            Some(Err(why)) => {
                self.log_tls_failed(index, TlsFailure::BadCertificate, &why);
                return self.close(index, CloseReason::TlsFailed);
            }
        }
        self.check_at(index, self.now.ms + u64::from(self.settings.connect_timeout_ms));
    }

    fn after_tls(&mut self, index: u32, outcome: Result<(), rustls::Error>) {
        if let Err(error) = outcome {
            let reason = failure(&error);
            self.counters.tls_failed(reason);
            self.log_tls_failed(index, reason, &error);
            // What we say about it waits in the session.
            return self.close(index, CloseReason::TlsFailed);
        }
        let connection = &self.connections[index as usize];
        let Transport::Tls(tls) = &connection.transport else { return };
        let (has_outgoing, has_ended) = (tls.session.has_outgoing(), tls.session.peer_has_closed());
        if has_outgoing {
            self.touch(index);
        }
        if has_ended && !self.connections[index as usize].peer_closed {
            self.peer_ended(index, false);
        }
    }

    fn log_tls_failed(&mut self, index: u32, reason: TlsFailure, why: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.log_tls.allow(self.now.ms) {
            let peer = self.peer(index);
            let shard = self.number;
            tracing::warn!(shard, peer, %reason, %why, suppressed, "{LOG_FAILED}");
        }
    }
}
