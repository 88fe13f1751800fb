//! How many connections there may be. All shards count together, since the kernel does not spread
//! connections evenly over them. Off the message path.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Places for connections; a clone has the same places.
#[derive(Debug, Clone)]
pub struct Seats {
    max: usize,
    taken: Arc<AtomicUsize>,
}

impl Seats {
    /// So many, all free.
    pub fn new(max: usize) -> Self {
        Self { max, taken: Arc::default() }
    }

    /// How many there are.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Takes one, if one is free, to be given back.
    pub fn take(&self) -> bool {
        let is_free = self.taken.fetch_add(1, Relaxed) < self.max;
        if !is_free {
            self.give_back();
        }
        is_free
    }

    /// Gives one back.
    pub fn give_back(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_take_as_many_places_as_there_are_and_no_more() {
        let seats = Seats::new(3);
        let of_shards: Vec<Seats> = (0..2).map(|_| seats.clone()).collect();
        let taken = of_shards.iter().cycle().take(10).filter(|seats| seats.take()).count();
        assert_eq!(taken, 3);
        of_shards[1].give_back();
        assert!(of_shards[0].take() && !of_shards[0].take());
    }
}
