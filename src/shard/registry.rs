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
    /// Nothing it wants: a new session.
    Free,
    /// The session of an earlier connection.
    Kept(Box<Saved>),
    /// A live connection, which must be told to give way. Who wants its session is made an heir by
    /// [`Registry::release`] sooner or later.
    Live(Place),
}

/// What becomes of a session whose connection has ended.
#[derive(Debug)]
pub enum Release {
    /// It is kept, or was not to be.
    Done,
    /// It was dropped for want of room.
    NoRoom,
    /// It is to be handed to this connection, which waits for it.
    Heir(Place, Option<Box<Saved>>),
}

#[derive(Debug)]
enum Owner {
    Live {
        place: Place,
        /// Who still has the session that the owner waits for, and has been told to give way.
        /// `None`: nobody; the owner has it, or it is in the mail to it.
        holder: Option<Place>,
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

    /// Makes `place` the owner of `client_id`. With `wants_session` it inherits: at once what is
    /// [`Claim::Kept`], later what is [`Claim::Live`]; without, what is there is discarded. A kept
    /// session whose time is over by `now_ms` counts as gone.
    pub fn claim(
        &self,
        client_id: &Arc<str>,
        place: Place,
        wants_session: bool,
        now_ms: u64,
    ) -> Claim {
        let owner = |holder| Owner::Live { place, holder };
        match self.stripe(client_id).entry(client_id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(owner(None));
                Claim::Free
            }
            Entry::Occupied(mut entry) => match entry.insert(owner(None)) {
                Owner::Live { place: previous, holder } => {
                    if wants_session {
                        entry.insert(owner(holder.or(Some(previous))));
                    }
                    Claim::Live(previous)
                }
                Owner::Kept { saved, expires_ms } => {
                    self.kept.fetch_sub(1, Ordering::Relaxed);
                    let is_wanted = wants_session && expires_ms > now_ms;
                    if is_wanted { Claim::Kept(saved) } else { Claim::Free }
                }
            },
        }
    }

    /// The connection at `place` has ended while it waited for its session. A session that has not
    /// been given up yet stays with who holds it; one in the mail is still to be released for
    /// `place` when it arrives.
    pub fn abandon(&self, client_id: &str, place: Place) {
        self.replace_owner(client_id, place, None);
    }

    /// The `previous` owner could not be told to give way to `place`: it, or who holds its session,
    /// stays the owner.
    pub fn give_back(&self, client_id: &str, place: Place, previous: Place) {
        self.replace_owner(client_id, place, Some(previous));
    }

    /// Puts who holds the session that `place` waits for, else `other`, in its place.
    fn replace_owner(&self, client_id: &str, place: Place, other: Option<Place>) {
        if let Some(Owner::Live { place: owner, holder }) =
            self.stripe(client_id).get_mut(client_id)
            && *owner == place
            && let Some(next) = holder.take().or(other)
        {
            *owner = next;
        }
    }

    /// The connection at `place` has ended, or was gone when its session came. With `saved` its
    /// session outlives it: it is handed to who waits for it, else kept until the given time of the
    /// shard's clock, unless somebody who did not want it owns the client id now.
    pub fn release(
        &self,
        client_id: &Arc<str>,
        place: Place,
        saved: Option<(Box<Saved>, u64)>,
    ) -> Release {
        let mut stripe = self.stripe(client_id);
        let Some(Owner::Live { place: owner, holder }) = stripe.get_mut(client_id) else {
            return Release::Done;
        };
        if *owner != place {
            if *holder != Some(place) {
                return Release::Done;
            }
            *holder = None;
            return Release::Heir(*owner, saved.map(|(saved, _)| saved));
        }
        stripe.remove(client_id);
        let is_dropped = saved.is_some_and(|(saved, expires_ms)| {
            !self.keep(&mut stripe, client_id, saved, expires_ms)
        });
        if is_dropped { Release::NoRoom } else { Release::Done }
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

    fn claim(registry: &Registry, shard: u16, wants_session: bool) -> Claim {
        registry.claim(&"c".into(), place(shard), wants_session, 0)
    }

    fn release(registry: &Registry, shard: u16) -> Release {
        registry.release(&"c".into(), place(shard), Some((saved(), 100)))
    }

    #[test]
    fn a_live_owner_is_named_and_its_late_end_changes_nothing() {
        let registry = Registry::new(10);
        assert!(matches!(claim(&registry, 0, false), Claim::Free));
        assert!(matches!(claim(&registry, 1, false), Claim::Live(p) if p == place(0)));
        assert!(matches!(release(&registry, 0), Release::Done));
        assert!(matches!(claim(&registry, 2, false), Claim::Live(p) if p == place(1)));
        assert_eq!(registry.kept(), 0, "nobody wanted it");
    }

    #[test]
    fn a_kept_session_is_found_until_its_time_is_over() {
        let registry = Registry::new(10);
        let id: Arc<str> = "c".into();
        registry.claim(&id, place(0), true, 0);
        assert!(matches!(release(&registry, 0), Release::Done));
        assert_eq!(registry.kept(), 1);
        assert!(matches!(registry.claim(&id, place(1), true, 99), Claim::Kept(_)));
        assert!(matches!(release(&registry, 1), Release::Done));
        assert!(matches!(registry.claim(&id, place(1), true, 100), Claim::Free));
        assert_eq!(registry.kept(), 0);
    }

    #[test]
    fn the_number_of_kept_sessions_is_bounded_and_swept() {
        let registry = Registry::new(2);
        let ids: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        let end = |at: usize, expires_ms| {
            registry.claim(&ids[at], place(0), true, 0);
            registry.release(&ids[at], place(0), Some((saved(), expires_ms)))
        };
        assert!(matches!(end(0, 10), Release::Done));
        assert!(matches!(end(1, 20), Release::Done));
        assert!(matches!(end(2, 30), Release::NoRoom));
        (0..STRIPES).for_each(|turn| registry.sweep(turn, 10));
        assert_eq!(registry.kept(), 1);
        assert!(matches!(registry.claim(&ids[1], place(0), true, 10), Claim::Kept(_)));
    }

    #[test]
    fn the_heir_gets_the_session_through_any_number_of_takeovers() {
        let registry = Registry::new(10);
        claim(&registry, 0, true);
        claim(&registry, 1, true);
        assert!(matches!(claim(&registry, 2, true), Claim::Live(p) if p == place(1)));
        registry.abandon("c", place(1));
        assert!(matches!(release(&registry, 0), Release::Heir(p, Some(_)) if p == place(2)));
        // While it is in the mail, the client comes once more.
        claim(&registry, 3, true);
        registry.abandon("c", place(2));
        assert!(matches!(release(&registry, 2), Release::Heir(p, Some(_)) if p == place(3)));
        assert!(matches!(release(&registry, 3), Release::Done));
        assert_eq!(registry.kept(), 1);
    }

    #[test]
    fn an_heir_who_leaves_before_it_inherits_leaves_the_session_to_the_next() {
        let registry = Registry::new(10);
        claim(&registry, 0, true);
        claim(&registry, 1, true);
        registry.abandon("c", place(1));
        assert!(matches!(release(&registry, 0), Release::Done));
        assert_eq!(registry.kept(), 1, "kept by its first owner");

        assert!(matches!(claim(&registry, 0, true), Claim::Kept(_)));
        claim(&registry, 1, true);
        assert!(matches!(release(&registry, 0), Release::Heir(..)));
        registry.abandon("c", place(1));
        assert!(matches!(release(&registry, 1), Release::Done), "the mail finds nobody");
        assert_eq!(registry.kept(), 1);
    }

    #[test]
    fn who_cannot_be_told_to_give_way_stays_the_owner() {
        for wants_session in [false, true] {
            let registry = Registry::new(10);
            claim(&registry, 0, true);
            claim(&registry, 1, wants_session);
            registry.give_back("c", place(1), place(0));
            assert!(matches!(release(&registry, 0), Release::Done));
            assert_eq!(registry.kept(), 1);
        }
    }

    #[test]
    fn a_clean_start_discards_what_is_kept() {
        let registry = Registry::new(10);
        claim(&registry, 0, true);
        assert!(matches!(release(&registry, 0), Release::Done));
        assert!(matches!(claim(&registry, 1, false), Claim::Free));
        assert_eq!(registry.kept(), 0);
    }
}
