//! Which connection owns a client id, over all shards, and the sessions that outlive theirs.
//!
//! Asked at CONNECT and at the end of a connection only, never on the message path, so plain
//! mutexes over stripes serve: a CONNECT whose client id is free costs no message between shards.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::correlation::ConnectionKey;
use crate::session::saved::Saved;

/// Locks the client ids are spread over.
const STRIPES: usize = 64;

/// A connection of any shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the shard.
    pub shard: u16,
    /// The connection there.
    pub connection: ConnectionKey,
}

/// What a CONNECT finds under its client id.
#[derive(Debug)]
pub enum Claim {
    /// Nothing: a new session.
    Free,
    /// The session of an earlier connection.
    Kept(Box<Saved>),
    /// A live connection, which must give way. It was the owner until now.
    Live(Place),
}

#[derive(Debug)]
enum Owner {
    Live {
        place: Place,
        /// The owner before, until its session has been handed over.
        before: Option<Place>,
        /// What that owner left when it ended before it was asked.
        left: Option<Box<Saved>>,
    },
    Kept {
        saved: Box<Saved>,
        expires_ms: u64,
    },
}

type Stripe = HashMap<Arc<str>, Owner, foldhash::fast::RandomState>;

/// See the module's documentation.
#[derive(Debug)]
pub struct Registry {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: foldhash::fast::RandomState,
    kept: AtomicUsize,
    kept_max: usize,
}

impl Registry {
    /// An empty registry that keeps at most `kept_max` sessions without a connection.
    pub fn new(kept_max: usize) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            kept: AtomicUsize::new(0),
            kept_max,
        }
    }

    fn stripe(&self, client_id: &str) -> MutexGuard<'_, Stripe> {
        let at = self.hasher.hash_one(client_id) as usize % STRIPES;
        // A panic while a stripe was locked cannot leave it half-changed: every change is one
        // insertion or removal.
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `place` the owner of `client_id`. A kept session whose time is over by `now_ms` counts
    /// as gone.
    pub fn claim(&self, client_id: &Arc<str>, place: Place, now_ms: u64) -> Claim {
        let owner = Owner::Live { place, before: None, left: None };
        match self.stripe(client_id).entry(client_id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(owner);
                Claim::Free
            }
            Entry::Occupied(mut entry) => match entry.insert(owner) {
                Owner::Live { place: previous, .. } => {
                    let before = Some(previous);
                    entry.insert(Owner::Live { place, before, left: None });
                    Claim::Live(previous)
                }
                Owner::Kept { saved, expires_ms } => {
                    self.kept.fetch_sub(1, Ordering::Relaxed);
                    if expires_ms > now_ms { Claim::Kept(saved) } else { Claim::Free }
                }
            },
        }
    }

    /// The connection at `place` has ended. With `saved` its session is kept until `expires_ms`,
    /// unless another connection has taken the client id over, which then inherits it. Returns
    /// `false` when the session had to be dropped for want of room.
    pub fn release(
        &self,
        client_id: &Arc<str>,
        place: Place,
        saved: Option<(Box<Saved>, u64)>,
    ) -> bool {
        let mut stripe = self.stripe(client_id);
        let Some(Owner::Live { place: owner, before, left }) = stripe.get_mut(client_id) else {
            return true;
        };
        if *owner != place {
            if *before == Some(place) {
                *left = saved.map(|(saved, _)| saved);
            }
            return true;
        }
        stripe.remove(client_id);
        match saved {
            None => true,
            Some((saved, expires_ms)) => self.keep(&mut stripe, client_id, saved, expires_ms),
        }
    }

    fn keep(
        &self,
        stripe: &mut Stripe,
        client_id: &Arc<str>,
        saved: Box<Saved>,
        expires_ms: u64,
    ) -> bool {
        if self.kept.fetch_add(1, Ordering::Relaxed) >= self.kept_max {
            self.kept.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        stripe.insert(client_id.clone(), Owner::Kept { saved, expires_ms });
        true
    }

    /// The owner before had already ended when it was asked for its session: what it left.
    pub fn take_left(&self, client_id: &str) -> Option<Box<Saved>> {
        match self.stripe(client_id).get_mut(client_id) {
            Some(Owner::Live { left, .. }) => left.take(),
            _ => None,
        }
    }

    /// A session was handed over to a connection that has ended meanwhile: keeps it if the client
    /// id is free. Returns whether it was kept.
    pub fn put_back(&self, client_id: &Arc<str>, saved: Box<Saved>, expires_ms: u64) -> bool {
        let mut stripe = self.stripe(client_id);
        !stripe.contains_key(client_id) && self.keep(&mut stripe, client_id, saved, expires_ms)
    }

    /// Drops the kept sessions of stripe `turn` (any number; stripes are taken round) whose time is
    /// over.
    pub fn sweep(&self, turn: usize, now_ms: u64) {
        let mut stripe =
            self.stripes[turn % STRIPES].lock().unwrap_or_else(PoisonError::into_inner);
        let before = stripe.len();
        stripe.retain(
            |_, owner| !matches!(owner, Owner::Kept { expires_ms, .. } if *expires_ms <= now_ms),
        );
        self.kept.fetch_sub(before - stripe.len(), Ordering::Relaxed);
    }

    /// Sessions kept without a connection.
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(shard: u16) -> Place {
        Place { shard, connection: ConnectionKey { index: 1, generation: u32::from(shard) } }
    }

    fn saved() -> Box<Saved> {
        Box::default()
    }

    #[test]
    fn a_live_owner_is_named_and_its_late_end_changes_nothing() {
        let registry = Registry::new(10);
        let id: Arc<str> = "c".into();
        assert!(matches!(registry.claim(&id, place(0), 0), Claim::Free));
        assert!(matches!(registry.claim(&id, place(1), 0), Claim::Live(p) if p == place(0)));
        assert!(registry.release(&id, place(0), None));
        assert!(matches!(registry.claim(&id, place(2), 0), Claim::Live(p) if p == place(1)));
    }

    #[test]
    fn a_kept_session_is_found_until_its_time_is_over() {
        let registry = Registry::new(10);
        let id: Arc<str> = "c".into();
        registry.claim(&id, place(0), 0);
        assert!(registry.release(&id, place(0), Some((saved(), 100))));
        assert_eq!(registry.kept(), 1);
        assert!(matches!(registry.claim(&id, place(1), 99), Claim::Kept(_)));
        assert!(registry.release(&id, place(1), Some((saved(), 100))));
        assert!(matches!(registry.claim(&id, place(1), 100), Claim::Free));
        assert_eq!(registry.kept(), 0);
    }

    #[test]
    fn the_number_of_kept_sessions_is_bounded_and_swept() {
        let registry = Registry::new(2);
        let ids: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        for id in &ids {
            registry.claim(id, place(0), 0);
        }
        assert!(registry.release(&ids[0], place(0), Some((saved(), 10))));
        assert!(registry.release(&ids[1], place(0), Some((saved(), 20))));
        assert!(!registry.release(&ids[2], place(0), Some((saved(), 30))));
        (0..STRIPES).for_each(|turn| registry.sweep(turn, 10));
        assert_eq!(registry.kept(), 1);
        assert!(matches!(registry.claim(&ids[1], place(0), 10), Claim::Kept(_)));
    }

    #[test]
    fn what_an_owner_left_before_it_was_asked_is_inherited() {
        let registry = Registry::new(10);
        let id: Arc<str> = "c".into();
        registry.claim(&id, place(0), 0);
        registry.claim(&id, place(1), 0);
        registry.release(&id, place(0), Some((saved(), 100)));
        assert!(registry.take_left(&id).is_some());
        assert!(registry.take_left(&id).is_none());
        registry.release(&id, place(1), None);
        assert!(registry.put_back(&id, saved(), 100), "the heir has gone, the id is free");
        assert!(!registry.put_back(&id, saved(), 100));
    }
}
