//! Whose turn it is to shake hands. A handshake costs a thousand times what a message costs, so a
//! shard takes a few steps of handshakes a turn, first come first served, and has a bounded number
//! of them under way; the others wait in the order they came. Pure.

use std::collections::VecDeque;

use super::correlation::ConnectionKey;

/// Steps of handshakes in one turn of the shard: the most expensive, a signature with an RSA key,
/// takes about a millisecond.
pub const STEPS_PER_TURN_MAX: usize = 2;
/// Entries of ended connections that a queue may hold beside twice as many as are alive.
const ENDED_SLACK: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub struct Handshakes {
    under_way: usize,
    under_way_max: usize,
    /// Connections that wait until they may begin.
    waiting: VecDeque<ConnectionKey>,
    /// Connections whose client has said something that has not been looked at.
    steps: VecDeque<ConnectionKey>,
}

impl Handshakes {
    /// None under way, and never more than `under_way_max`, at least one.
    pub fn new(under_way_max: usize) -> Self {
        Self {
            under_way: 0,
            under_way_max: under_way_max.max(1),
            waiting: VecDeque::new(),
            steps: VecDeque::new(),
        }
    }

    /// Whether a handshake may begin now; it is under way then.
    pub fn try_begin(&mut self) -> bool {
        let may_begin = self.under_way < self.under_way_max;
        self.under_way += usize::from(may_begin);
        may_begin
    }

    /// A handshake that was under way is over.
    pub fn end(&mut self) {
        debug_assert!(self.under_way > 0, "each ends once");
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// A connection waits until it may begin. `is_alive` tells those that are still there.
    pub fn wait(
        &mut self,
        key: ConnectionKey,
        connections: usize,
        is_alive: impl Fn(ConnectionKey) -> bool,
    ) {
        self.waiting.push_back(key);
        if self.waiting.len() > ENDED_SLACK + 2 * connections {
            self.waiting.retain(|key| is_alive(*key));
        }
    }

    /// Who has waited longest, if one more may begin.
    pub fn next_waiting(&mut self) -> Option<ConnectionKey> {
        if self.under_way < self.under_way_max { self.waiting.pop_front() } else { None }
    }

    /// A connection has something to be looked at; to be said once until it is.
    pub fn queue_step(&mut self, key: ConnectionKey) {
        self.steps.push_back(key);
    }

    /// Whose step is next.
    pub fn next_step(&mut self) -> Option<ConnectionKey> {
        self.steps.pop_front()
    }

    /// Whether steps wait.
    pub fn has_steps(&self) -> bool {
        !self.steps.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> ConnectionKey {
        ConnectionKey { index, generation: 1 }
    }

    #[test]
    fn who_came_first_begins_first_when_another_has_ended() {
        let mut handshakes = Handshakes::new(2);
        assert!(handshakes.try_begin() && handshakes.try_begin());
        assert!(!handshakes.try_begin());
        handshakes.wait(key(3), 4, |_| true);
        handshakes.wait(key(4), 4, |_| true);
        assert_eq!(handshakes.next_waiting(), None);
        handshakes.end();
        assert_eq!(handshakes.next_waiting(), Some(key(3)));
        assert!(handshakes.try_begin());
        assert_eq!(handshakes.next_waiting(), None);
        assert_eq!(handshakes.under_way(), 2);
    }

    #[test]
    fn those_that_gave_up_are_cleared_away() {
        let mut handshakes = Handshakes::new(1);
        assert!(handshakes.try_begin());
        for index in 0..10_000 {
            handshakes.wait(key(index), 1, |alive| alive.index == index);
            assert!(handshakes.waiting.len() <= ENDED_SLACK + 2);
        }
        handshakes.end();
        let left = std::iter::from_fn(|| handshakes.next_waiting()).last();
        assert_eq!(left, Some(key(9_999)));
    }
}
