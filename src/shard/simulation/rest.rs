//! How a run ends: the world comes to rest, then everybody leaves.

use super::world::{Session, World};
use crate::shard::connection::{Hold, Life};
use crate::shard::mail::Mail;

/// Events in which a world without new ones must come to rest.
const REST_EVENTS_MAX: usize = 100_000;

impl World {
    /// Nobody begins anything new; NATS works; everybody reads. Everything must end well.
    pub fn come_to_rest(&mut self) {
        if self.drains {
            for shard in &self.shards {
                let own = usize::from(shard.core.number);
                assert!(shard.core.peers[own].post(Mail::Drain).is_ok());
            }
            self.collect_mail();
        }
        self.rest();
        for (number, shard) in self.shards.iter().enumerate() {
            if self.drains {
                continue;
            }
            for (index, connection) in &shard.core.connections {
                if connection.life == Life::Open {
                    let held = connection.hold;
                    assert_eq!(held, Hold::None, "connection {index} of shard {number} is held");
                }
            }
            assert!(shard.core.waiting.is_empty(), "shard {number}: somebody is held");
        }
        for device in self.devices.iter().filter(|device| device.may_act() && !device.is_ended) {
            assert!(device.is_satisfied(), "{}", device.why_not_satisfied());
        }
    }

    fn rest(&mut self) {
        self.nats.silent.clear();
        for _ in 0..REST_EVENTS_MAX {
            for device in &mut self.devices {
                device.reads = true;
                // Whoever is sent away closes; a dead host is noticed in the end.
                device.has_closed |= device.is_ended;
            }
            let events = self.events();
            if events.is_empty() {
                return;
            }
            let event = self.random.pick(&events);
            self.happen(event);
        }
        panic!("no rest after {REST_EVENTS_MAX} events: {:?}", self.events());
    }

    /// Everybody leaves, and nothing is left.
    pub fn end(mut self) {
        if self.drains {
            for shard in &mut self.shards {
                assert!(shard.core.is_drained(), "shard {} does not drain", shard.core.number);
            }
        }
        for at in 0..self.devices.len() {
            let device = &mut self.devices[at];
            match (device.may_act() && device.is_in(), self.random.below(3)) {
                (true, 0) => device.leave(&mut self.random),
                (_, 1) => device.has_failed = true,
                _ => device.has_closed = true,
            }
        }
        self.rest();
        self.check_nothing_is_left();
    }

    fn check_nothing_is_left(&mut self) {
        let now_ms = self.now_ms;
        for shard in &self.shards {
            let core = &shard.core;
            assert!(core.connections.is_empty(), "connections are left: {:?}", core.connections);
            assert!(core.endpoints.is_empty(), "endpoints are left: {:?}", core.endpoints);
            assert!(core.waiting.is_empty() && core.window_waiting.is_empty());
            let ledger = core.ledger.borrow();
            assert!(ledger.is_empty(), "the ledger is not empty");
            assert_eq!(ledger.unconfirmed_bytes(), 0, "bytes are left in the ledger");
            assert_eq!(core.counters.connections_open.get(), 0);
            assert_eq!(core.counters.panics.get(), 0);
        }
        assert!(self.directory.is_empty(), "the directory holds {:?}", self.directory);
        for turn in 0..64 {
            self.registry.sweep(turn, now_ms);
        }
        let is_unknown = |session: &Session| matches!(session, Session::Unknown);
        if self.sessions.values().any(is_unknown) {
            return;
        }
        let kept = self.sessions.values().filter(
            |session| matches!(session, Session::Kept { expires_ms } if *expires_ms > now_ms),
        );
        assert_eq!(self.registry.kept(), kept.count(), "sessions kept: {:?}", self.sessions);
    }
}
