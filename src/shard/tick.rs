//! What a shard does once a second.

use super::State;
use super::connection::{Entering, Hold, Life};
use super::core::Core;
use super::correlation::ConnectionKey;
use crate::codec::mqtt::ReasonCode;
use crate::telemetry::CloseReason;

impl State {
    pub(crate) fn tick(&mut self) {
        for listener in std::mem::take(&mut self.stopped_listeners) {
            self.accept(listener);
        }
        self.core.tick();
    }
}

impl Core {
    pub(super) fn tick(&mut self) {
        let mut due = Vec::new();
        self.wheel.sweep(self.now.ms, &mut due);
        for key in due {
            self.guard(key.index, |core| core.look_at(key));
        }
        let shards = self.peers.len().max(1);
        let turn = (self.now.ms / super::wheel::TICK_MS) as usize;
        self.registry.sweep(turn * shards + usize::from(self.number), self.now.ms);
        if self.number == 0 {
            self.counters.sessions_kept.set(self.registry.kept() as u64);
        }
        self.reporter.retry();
        self.latency.hand_over(&self.counters.confirm_latency);
        self.batch_sizes.hand_over(&self.counters.batch_sizes);
        self.publish_ledger_counters();
        self.counters.tick(self.now.ms);
    }

    fn publish_ledger_counters(&mut self) {
        let ledger = self.ledger.borrow();
        let stats = ledger.stats();
        self.counters.batches.set(stats.batches);
        self.counters.batch_bytes.set(stats.batch_bytes);
        self.counters.batch_messages.set(stats.messages);
        self.counters.qos0_lost_on_reconnect.set(stats.qos0_lost);
        self.counters.unconfirmed_bytes.set(ledger.unconfirmed_bytes() as u64);
        self.counters.asks_pending.set(self.asks.len() as u64);
        self.counters.parked_bytes.set(self.parked.bytes() as u64);
        self.counters.verdicts.set(self.verdicts.len() as u64);
    }

    /// The wheel has come to a connection: ends it if a deadline is over, else says when to look
    /// again.
    fn look_at(&mut self, key: ConnectionKey) {
        let now_ms = self.now.ms;
        let Some(connection) = self.find(key) else { return };
        if connection.check_ms > now_ms {
            return;
        }
        let index = key.index;
        match self.deadline_ms(index) {
            Some(deadline_ms) if deadline_ms <= now_ms => self.expire(index),
            Some(deadline_ms) => self.check_at(index, deadline_ms),
            None => {}
        }
    }

    /// When a connection must be ended if nothing happens, in milliseconds of the shard's clock.
    fn deadline_ms(&self, index: u32) -> Option<u64> {
        let connection = &self.connections[index as usize];
        if connection.life != Life::Open {
            return Some(connection.since_ms + super::LINGER_MS_MAX);
        }
        if connection.is_shaking_hands() {
            return Some(connection.since_ms + u64::from(self.settings.tls_handshake_timeout_ms));
        }
        if matches!(connection.entering.as_deref(), Some(Entering::Asking { .. })) {
            // A question ends by itself; a look now and then does no harm.
            return Some(self.now.ms + u64::from(self.settings.connect_timeout_ms));
        }
        if connection.awaits_header() {
            return Some(connection.since_ms + u64::from(self.settings.connect_timeout_ms));
        }
        if let Some(http) = connection.http() {
            let timeout_ms = match connection.awaits_bytes() {
                true => self.settings.http.request_timeout_ms,
                false => self.settings.http.idle_timeout_ms,
            };
            let deadline_ms = connection.since_ms + u64::from(timeout_ms);
            return Some(http.answer_by_ms().unwrap_or(deadline_ms));
        }
        if !connection.session.is_live() {
            return Some(connection.since_ms + u64::from(self.settings.connect_timeout_ms));
        }
        let silence_ms = connection.session.silence_ms_max()?;
        // Whoever is not read from cannot be heard; who is not read from because it does not read
        // itself has only itself to blame.
        let heard_ms = match connection.hold {
            Hold::None | Hold::Output => connection.heard_ms,
            Hold::Handshake
            | Hold::Entering
            | Hold::Uplink
            | Hold::Window
            | Hold::Parked
            | Hold::Exchange
            | Hold::Draining => self.now.ms,
        };
        Some(heard_ms + silence_ms)
    }

    fn expire(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        match connection.life {
            Life::Open if connection.session.is_live() => {
                let code = ReasonCode::KeepAliveTimeout;
                connection.session.say_goodbye(code, &mut connection.out);
                self.close(index, CloseReason::KeepAliveTimeout);
            }
            Life::Open if connection.is_shaking_hands() => {
                self.close(index, CloseReason::TlsHandshakeTimeout);
            }
            Life::Open if connection.awaits_header() => {
                self.close(index, CloseReason::ConnectTimeout);
            }
            Life::Open if connection.http().is_some() => self.expire_http(index),
            Life::Open => self.close(index, CloseReason::ConnectTimeout),
            _ => {
                // It does not read, or does not close: its last bytes are given up.
                connection.out.clear();
                connection.shut();
                self.touch(index);
            }
        }
    }
}
