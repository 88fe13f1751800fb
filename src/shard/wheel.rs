//! One coarse timer wheel for the deadlines of all connections of a shard (connect timeout, keep
//! alive, lingering close). A deadline is never moved while traffic flows: when it fires, the
//! connection says when it is really due.

use super::correlation::ConnectionKey;

/// Slots of one second; a longer deadline fires early and is put in again.
const SLOTS: usize = 512;
/// Milliseconds per slot.
pub const TICK_MS: u64 = 1000;

/// See the module's documentation. Deadlines are in milliseconds of the shard's clock.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<ConnectionKey>>,
    /// The first tick not yet swept.
    next_tick: u64,
}

impl Wheel {
    /// A wheel that starts at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next_tick: now_ms / TICK_MS + 1 }
    }

    /// Lets `connection` be looked at no earlier than `deadline_ms`, or after one turn of the wheel
    /// if that is sooner. Returns when that will be.
    pub fn insert(&mut self, connection: ConnectionKey, deadline_ms: u64) -> u64 {
        let tick = deadline_ms.div_ceil(TICK_MS);
        let tick = tick.clamp(self.next_tick, self.next_tick + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(connection);
        tick * TICK_MS
    }

    /// Takes out every connection whose slot has come by `now_ms`, into `due`.
    pub fn sweep(&mut self, now_ms: u64, due: &mut Vec<ConnectionKey>) {
        let mut turns = 0;
        while self.next_tick * TICK_MS <= now_ms && turns < SLOTS {
            due.append(&mut self.slots[self.next_tick as usize % SLOTS]);
            self.next_tick += 1;
            turns += 1;
        }
        // After a long sleep every slot has been taken once; none needs a second look.
        self.next_tick = self.next_tick.max(now_ms / TICK_MS + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> ConnectionKey {
        ConnectionKey { index, generation: 0 }
    }

    fn sweep(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.sweep(now_ms, &mut due);
        due.into_iter().map(|key| key.index).collect()
    }

    #[test]
    fn never_fires_early_within_one_turn_and_less_than_two_ticks_late() {
        for deadline_ms in [0, 1, 999, 1000, 1001, 61_500, 400_000] {
            let mut wheel = Wheel::new(0);
            wheel.insert(key(7), deadline_ms);
            let fired = (0..600_000).step_by(250).find(|now| !sweep(&mut wheel, *now).is_empty());
            let fired = fired.expect("fires");
            assert!(fired >= deadline_ms, "{deadline_ms} fired at {fired}");
            assert!(fired < deadline_ms + 2 * TICK_MS, "{deadline_ms} fired at {fired}");
        }
    }

    #[test]
    fn a_deadline_beyond_one_turn_comes_up_to_be_put_in_again() {
        let mut wheel = Wheel::new(0);
        wheel.insert(key(1), 10_000_000);
        assert_eq!(sweep(&mut wheel, SLOTS as u64 * TICK_MS), [1]);
    }

    #[test]
    fn a_long_sleep_fires_everything_once() {
        let mut wheel = Wheel::new(0);
        for index in 0..3 {
            wheel.insert(key(index), u64::from(index) * 100_000);
        }
        let mut fired = sweep(&mut wheel, 100_000_000);
        fired.sort_unstable();
        assert_eq!(fired, [0, 1, 2]);
        wheel.insert(key(9), 100_000_001);
        assert_eq!(sweep(&mut wheel, 100_002_000), [9]);
    }
}
