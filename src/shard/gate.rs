//! The gate between the device ring and the core. While the uplink is briefly full (NATS takes
//! what it is given, only not as fast as devices send) arrivals stay in the ring's own buffers, in
//! order: nothing is copied, and once those buffers are all in use the kernel takes no more from
//! the sockets, so TCP pushes back on the devices. When NATS is away or has stalled the gate stands
//! open, and only the connections that publish are put on hold (`Hold::Uplink`): the others must be
//! served.

use std::collections::VecDeque;

use super::State;
use super::core::Core;
use crate::rt::ring::Completion;

/// How long the uplink may be full before NATS counts as stalled, in microseconds.
const STALL_US_MIN: u64 = 100_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Position {
    #[default]
    Open,
    /// Shut at this time, in microseconds of the shard's clock.
    Shut(u64),
    /// Open although the uplink is full: NATS has stalled. Stays so until there is room again.
    Stalled,
}

/// See the module's documentation. What waits is bounded: bytes by the number of read buffers, ends
/// of receives by the number of connections.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: VecDeque<Completion>,
    position: Position,
}

impl Gate {
    /// Whether it is shut.
    #[inline]
    pub(crate) fn is_shut(&self) -> bool {
        matches!(self.position, Position::Shut(_))
    }

    /// Keeps a completion of a receive until the gate opens.
    pub(crate) fn keep(&mut self, completion: Completion) {
        self.waiting.push_back(completion);
    }

    /// Shuts or opens according to what the uplink says.
    #[inline]
    fn turn(&mut self, core: &Core) {
        let ledger = core.ledger.borrow();
        self.position = match self.position {
            Position::Open if ledger.is_nearly_full() && core.link_is_up => {
                Position::Shut(core.now.us)
            }
            Position::Open => Position::Open,
            _ if ledger.has_room_again() => Position::Open,
            Position::Shut(since_us)
                if core.link_is_up && core.now.us.saturating_sub(since_us) < STALL_US_MIN =>
            {
                Position::Shut(since_us)
            }
            Position::Shut(_) | Position::Stalled => Position::Stalled,
        };
    }
}

impl State {
    /// Turns the gate. What waits behind it goes on while it is open.
    pub(crate) fn turn_gate(&mut self) {
        self.gate.turn(&self.core);
        while !self.gate.is_shut()
            && let Some(completion) = self.gate.waiting.pop_front()
        {
            self.complete_receive(completion);
            self.gate.turn(&self.core);
        }
    }

    /// Takes the completion of a receive, or keeps it behind the gate and those before it.
    pub(crate) fn arrive(&mut self, completion: Completion) {
        self.gate.turn(&self.core);
        if self.gate.is_shut() || !self.gate.waiting.is_empty() {
            self.gate.keep(completion);
        } else {
            self.complete_receive(completion);
        }
    }
}
