//! The graceful end of a shard: accept no more, let NATS confirm what has been taken, acknowledge
//! it, say goodbye, and only then close.

use super::State;
use super::connection::{Hold, Life};
use super::core::Core;
use crate::codec::mqtt::ReasonCode;
use crate::telemetry::CloseReason;

/// How far the end of the shard has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// It is not to end.
    No,
    /// Nothing more is read; NATS confirms what it has been given, until this deadline.
    Confirming {
        /// In milliseconds of the shard's clock.
        until_ms: u64,
        /// The deadline for everything.
        end_ms: u64,
    },
    /// Goodbyes are on their way, until this deadline.
    Closing {
        /// In milliseconds of the shard's clock.
        end_ms: u64,
    },
    /// Nothing is left.
    Done,
}

impl State {
    /// Stops accepting once the core drains, and carries the end on; whether the shard is done.
    pub(crate) fn drained(&mut self) -> bool {
        if !self.core.is_draining() {
            return false;
        }
        for listener in 0..self.doors.len() {
            self.ring.cancel_accept(listener as u32);
        }
        // Closing the listeners lets connections the kernel holds for them go elsewhere.
        self.doors.clear();
        if self.core.goodbyes_are_due() {
            self.core.say_goodbye_to_all();
            self.carry_out();
        }
        self.core.is_drained()
    }
}

impl Core {
    /// Whether the shard is about to end.
    pub(super) fn is_draining(&self) -> bool {
        self.drain != Drain::No
    }

    /// Accepts and reads no more.
    pub(super) fn begin_drain(&mut self) {
        if self.is_draining() {
            return;
        }
        let drain_ms = self.settings.drain_ms_max;
        self.drain = Drain::Confirming {
            until_ms: self.now.ms + drain_ms / 2,
            end_ms: self.now.ms + drain_ms,
        };
        self.stop_reading();
    }

    /// Whether NATS has confirmed what it was given, or is waited for no longer.
    pub(super) fn goodbyes_are_due(&self) -> bool {
        let Drain::Confirming { until_ms, .. } = self.drain else { return false };
        let is_settled = self.ledger.borrow().is_empty()
            && self.waiting.is_empty()
            && self.parked.is_empty()
            && self.exchanges.len() == 0;
        if !is_settled && self.now.ms >= until_ms {
            let bytes = self.ledger.borrow().unconfirmed_bytes();
            tracing::warn!(
                shard = self.number,
                bytes,
                "stopping although NATS has not confirmed everything; nothing of it was \
                 acknowledged to a device"
            );
        }
        is_settled || self.now.ms >= until_ms
    }

    /// Whether nothing is left to do, or no time to do it.
    pub(super) fn is_drained(&mut self) -> bool {
        if let Drain::Closing { end_ms } = self.drain
            && (self.all_told() || self.now.ms >= end_ms)
        {
            self.drain = Drain::Done;
        }
        self.drain == Drain::Done
    }

    /// No packet is taken any more, except from connections whose turn in the uplink, or whose
    /// session, is still to come.
    fn stop_reading(&mut self) {
        for index in self.open_connections() {
            let connection = &mut self.connections[index as usize];
            if !matches!(connection.hold, Hold::Uplink | Hold::Parked | Hold::Entering) {
                connection.hold = Hold::Draining;
            }
            self.touch(index);
        }
    }

    /// Ends every connection.
    pub(super) fn say_goodbye_to_all(&mut self) {
        if let Drain::Confirming { end_ms, .. } = self.drain {
            self.drain = Drain::Closing { end_ms };
        }
        for index in self.open_connections() {
            let connection = &mut self.connections[index as usize];
            connection.session.say_goodbye(ReasonCode::ServerShuttingDown, &mut connection.out);
            self.close(index, CloseReason::Shutdown);
        }
    }

    fn open_connections(&self) -> Vec<u32> {
        let open = self.connections.iter().filter(|(_, c)| c.life == Life::Open);
        open.map(|(index, _)| index as u32).collect()
    }

    /// Whether every client has been sent all that was for it.
    fn all_told(&self) -> bool {
        self.connections.iter().all(|(_, connection)| connection.waiting_bytes() == 0)
    }
}
