//! Which connections of this shard speak for an endpoint, and which of them gets its pushes and the
//! answers without a known request.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use slab::Slab;

use super::correlation::ConnectionKey;
use crate::auth::Grant;
use crate::session::topics::EndpointKey;

/// Connections of one shard that an endpoint remembers at most. One more, and the one whose last
/// word is the oldest is forgotten until it speaks again.
pub const SPEAKERS_MAX: usize = 8;

/// A connection that has spoken for an endpoint, and the token it did so with.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// The connection.
    pub connection: ConnectionKey,
    /// The token it named last when its topic was resolved, and what that stands for.
    pub grant: Rc<Grant>,
}

/// An endpoint's route. Several connections may speak for one endpoint in turns; the route follows
/// the one that spoke last, and falls back to the one before when that leaves.
#[derive(Debug)]
pub struct Endpoint {
    /// Who spoke for it last, of those that have not ended. It gets what comes here also after the
    /// endpoint has moved to another shard: then the directory sends nothing more.
    pub holder: Speaker,
    /// The application version it last spoke as.
    pub app_version: Box<str>,
    /// The others that spoke for it and have not ended, in the order of their last words. Mostly
    /// empty.
    earlier: Vec<Speaker>,
    /// Whether the directory has been told of it since it last moved to another shard; if not, the
    /// next message tells it.
    is_reported: bool,
    generation: u32,
}

impl Endpoint {
    /// The endpoint's id in 4/ESP.
    pub fn id(&self) -> &str {
        &self.holder.grant.endpoint_id
    }

    /// The token a connection speaks for it with; another's is not for it to see.
    pub fn token_of(&self, connection: ConnectionKey) -> Option<&str> {
        let speakers = std::iter::once(&self.holder).chain(&self.earlier);
        let speaker = speakers.into_iter().find(|speaker| speaker.connection == connection)?;
        Some(&speaker.grant.token)
    }

    fn take(&mut self, speaker: Speaker) -> Claim {
        if self.holder.connection == speaker.connection {
            self.holder = speaker;
            return self.report();
        }
        self.earlier.retain(|other| other.connection != speaker.connection);
        if self.earlier.len() + 1 == SPEAKERS_MAX {
            self.earlier.remove(0);
        }
        self.earlier.push(mem::replace(&mut self.holder, speaker));
        if self.is_reported { Claim::Moved } else { self.report() }
    }

    fn report(&mut self) -> Claim {
        if mem::replace(&mut self.is_reported, true) { Claim::Held } else { Claim::New }
    }

    /// Forgets the speakers of which `is_gone` says so; `false` when no other is left.
    fn leave(&mut self, mut is_gone: impl FnMut(&Speaker) -> bool) -> bool {
        self.earlier.retain(|other| !is_gone(other));
        if !is_gone(&self.holder) {
            return true;
        }
        match self.earlier.pop() {
            Some(before) => {
                self.holder = before;
                true
            }
            None => false,
        }
    }
}

/// Whether claiming an endpoint changed who speaks for it.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The endpoint was not on this shard (or had moved away): the directory must be told.
    New,
    /// Another connection of this shard spoke for it.
    Moved,
    /// The connection already spoke for it.
    Held,
}

/// The table of a shard's endpoints.
#[derive(Debug, Default)]
pub struct Endpoints {
    slots: Slab<Endpoint>,
    by_id: HashMap<Box<str>, EndpointKey, foldhash::fast::RandomState>,
    next_generation: u32,
}

impl Endpoints {
    /// Makes `holder` the one who speaks for the endpoint of a token.
    pub fn claim(
        &mut self,
        grant: &Rc<Grant>,
        app_version: &str,
        holder: ConnectionKey,
    ) -> (EndpointKey, Claim) {
        let speaker = Speaker { connection: holder, grant: grant.clone() };
        if let Some(&key) = self.by_id.get(&grant.endpoint_id) {
            let endpoint = &mut self.slots[key.index as usize];
            if *endpoint.app_version != *app_version {
                endpoint.app_version = app_version.into();
            }
            return (key, endpoint.take(speaker));
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let endpoint = Endpoint {
            holder: speaker,
            app_version: app_version.into(),
            earlier: Vec::new(),
            is_reported: true,
            generation: self.next_generation,
        };
        let index = self.slots.insert(endpoint) as u32;
        let key = EndpointKey { index, generation: self.next_generation };
        self.by_id.insert(grant.endpoint_id.clone(), key);
        (key, Claim::New)
    }

    /// As [`Endpoints::claim`] for an endpoint resolved before; `None` when that route has gone, or
    /// does not know `holder` any more.
    #[inline]
    pub fn reclaim(&mut self, key: EndpointKey, holder: ConnectionKey) -> Option<Claim> {
        let endpoint = self.slots.get_mut(key.index as usize)?;
        if endpoint.generation != key.generation {
            return None;
        }
        if endpoint.holder.connection == holder {
            return Some(endpoint.report());
        }
        let earlier = endpoint.earlier.iter().find(|speaker| speaker.connection == holder)?;
        let speaker = earlier.clone();
        Some(endpoint.take(speaker))
    }

    /// The endpoint of that id.
    pub fn find(&self, id: &str) -> Option<&Endpoint> {
        self.by_id.get(id).map(|key| &self.slots[key.index as usize])
    }

    /// The endpoint of a key, unless its route has gone.
    pub fn get(&self, key: EndpointKey) -> Option<&Endpoint> {
        let endpoint = self.slots.get(key.index as usize)?;
        (endpoint.generation == key.generation).then_some(endpoint)
    }

    /// The endpoint of that id, with its key.
    pub fn find_key(&self, id: &str) -> Option<EndpointKey> {
        self.by_id.get(id).copied()
    }

    /// The endpoint now speaks through another shard: the directory sends its pushes there, and the
    /// next message from here takes it back.
    pub fn moved_away(&mut self, id: &str) {
        if let Some(key) = self.by_id.get(id) {
            self.slots[key.index as usize].is_reported = false;
        }
    }

    /// A connection has gone, which spoke for the endpoints of `keys`: each goes back to the
    /// connection that spoke for it before, and is forgotten when there is none. `gone` is told the
    /// ids of those: also of endpoints that have moved to another shard, since the directory would
    /// come back to this one when that shard loses them.
    pub fn release(
        &mut self,
        keys: impl IntoIterator<Item = EndpointKey>,
        speaker: ConnectionKey,
        mut gone: impl FnMut(Box<str>),
    ) {
        for key in keys {
            if self.get(key).is_some() {
                self.remove_speakers(key, |other| other.connection == speaker, &mut gone);
            }
        }
    }

    /// Tokens of an endpoint are good no more: who spoke with one of them speaks for it no more.
    /// `left` is told who, and `gone` the endpoint's id if nobody else does.
    pub fn revoke(
        &mut self,
        endpoint_id: &str,
        is_revoked: impl Fn(&Grant) -> bool,
        mut left: impl FnMut(ConnectionKey, EndpointKey),
        mut gone: impl FnMut(Box<str>),
    ) {
        let Some(key) = self.find_key(endpoint_id) else { return };
        let must_leave = |speaker: &Speaker| {
            let must_leave = is_revoked(&speaker.grant);
            if must_leave {
                left(speaker.connection, key);
            }
            must_leave
        };
        self.remove_speakers(key, must_leave, &mut gone);
    }

    fn remove_speakers(
        &mut self,
        key: EndpointKey,
        is_gone: impl FnMut(&Speaker) -> bool,
        gone: &mut impl FnMut(Box<str>),
    ) {
        if self.slots[key.index as usize].leave(is_gone) {
            return;
        }
        let endpoint = self.slots.remove(key.index as usize);
        if let Some((id, _)) = self.by_id.remove_entry(endpoint.id()) {
            gone(id);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: ConnectionKey = ConnectionKey { index: 1, generation: 1 };
    const B: ConnectionKey = ConnectionKey { index: 2, generation: 1 };

    fn grant(endpoint_id: &str, token: &str) -> Rc<Grant> {
        let (endpoint_id, token) = (endpoint_id.into(), token.into());
        Rc::new(Grant { app: 0, token, endpoint_id, token_id: None })
    }

    fn claim(endpoints: &mut Endpoints, id: &str, holder: ConnectionKey) -> (EndpointKey, Claim) {
        endpoints.claim(&grant(id, "t"), "v", holder)
    }

    fn release(endpoints: &mut Endpoints, key: EndpointKey, holder: ConnectionKey) -> Vec<String> {
        let mut gone = Vec::new();
        endpoints.release([key], holder, |id| gone.push(id.into_string()));
        gone
    }

    #[test]
    fn the_route_follows_whoever_spoke_last() {
        let mut endpoints = Endpoints::default();
        let (key, new) = claim(&mut endpoints, "e", A);
        assert_eq!(new, Claim::New);
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::Held));
        assert_eq!(endpoints.reclaim(key, B), None, "it has not named its token");
        assert_eq!(claim(&mut endpoints, "e", B).1, Claim::Moved);
        assert_eq!(endpoints.find("e").expect("routed").holder.connection, B);
        assert!(release(&mut endpoints, key, A).is_empty(), "B speaks for it");
        assert_eq!(endpoints.find("e").expect("routed").holder.connection, B);
        assert_eq!(release(&mut endpoints, key, B), ["e"]);
        assert!(endpoints.is_empty());
    }

    #[test]
    fn each_speaker_is_known_by_its_own_token() {
        let mut endpoints = Endpoints::default();
        endpoints.claim(&grant("e", "of a"), "v", A);
        endpoints.claim(&grant("e", "of b"), "v", B);
        let endpoint = endpoints.find("e").expect("routed");
        assert_eq!(endpoint.holder.connection, B);
        assert_eq!((endpoint.token_of(A), endpoint.token_of(B)), (Some("of a"), Some("of b")));
        let stranger = ConnectionKey { index: 9, generation: 9 };
        assert_eq!(endpoint.token_of(stranger), None);
    }

    #[test]
    fn the_route_falls_back_when_the_last_speaker_leaves() {
        let mut endpoints = Endpoints::default();
        let (key, _) = claim(&mut endpoints, "e", A);
        claim(&mut endpoints, "e", B);
        assert!(release(&mut endpoints, key, B).is_empty(), "A is still there");
        assert_eq!(endpoints.find("e").expect("routed").holder.connection, A);
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::Held), "there is nothing to tell");
        assert_eq!(release(&mut endpoints, key, A), ["e"]);
    }

    #[test]
    fn an_endpoint_that_moved_to_another_shard_can_come_back_and_its_end_is_told() {
        let mut endpoints = Endpoints::default();
        let (key, _) = claim(&mut endpoints, "e", A);
        endpoints.moved_away("e");
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::New), "the directory must be told again");
        claim(&mut endpoints, "e", B);
        endpoints.moved_away("e");
        assert_eq!(
            endpoints.find("e").expect("known").holder.connection,
            B,
            "should the directory come back"
        );
        assert!(release(&mut endpoints, key, B).is_empty());
        assert_eq!(release(&mut endpoints, key, A), ["e"]);
        assert!(endpoints.is_empty());
    }

    #[test]
    fn who_spoke_with_a_revoked_token_speaks_no_more_and_others_do() {
        let mut endpoints = Endpoints::default();
        let (key, _) = endpoints.claim(&grant("e", "t"), "v", A);
        endpoints.claim(&grant("e", "u"), "v", B);
        let mut left = Vec::new();
        let mut gone = Vec::new();
        let mut revoke = |endpoints: &mut Endpoints, token: &str| {
            endpoints.revoke(
                "e",
                |grant| *grant.token == *token,
                |connection, _| left.push(connection),
                |id| gone.push(id.into_string()),
            );
        };
        revoke(&mut endpoints, "t");
        assert_eq!(endpoints.reclaim(key, A), None);
        assert_eq!(endpoints.reclaim(key, B), Some(Claim::Held));
        revoke(&mut endpoints, "u");
        assert_eq!((left, gone), (vec![A, B], vec!["e".to_owned()]));
        assert!(endpoints.is_empty());
    }

    #[test]
    fn a_stale_key_never_reaches_the_endpoint_that_took_the_place() {
        let mut endpoints = Endpoints::default();
        let (old, _) = claim(&mut endpoints, "e", A);
        release(&mut endpoints, old, A);
        let (new, _) = claim(&mut endpoints, "f", A);
        assert_eq!(old.index, new.index, "the place is used again");
        assert_eq!(endpoints.reclaim(old, A), None);
        assert!(release(&mut endpoints, old, A).is_empty());
        assert!(endpoints.find("f").is_some());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Speak(u32),
        MoveAway,
        Leave(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let speaker = 0..SPEAKERS_MAX as u32 + 3;
        prop_oneof![
            5 => speaker.clone().prop_map(Step::Speak),
            1 => Just(Step::MoveAway),
            3 => speaker.prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Whoever speaks and leaves in whatever order: the endpoint is with the latest of the
        /// connections that are still there, and its end is told when the last one leaves.
        #[test]
        fn the_latest_speaker_that_is_still_there_holds_the_endpoint(
            steps in prop::collection::vec(step(), 0..120)
        ) {
            let connection = |index| ConnectionKey { index, generation: 1 };
            let mut endpoints = Endpoints::default();
            let mut key = None;
            let mut speakers: Vec<u32> = Vec::new();
            let mut is_reported = false;
            for step in steps {
                match step {
                    Step::Speak(speaker) => {
                        let expected = match speakers.last() {
                            Some(last) if is_reported && *last == speaker => Claim::Held,
                            Some(_) if is_reported => Claim::Moved,
                            _ => Claim::New,
                        };
                        let (at, is) = claim(&mut endpoints, "e", connection(speaker));
                        prop_assert_eq!(is, expected);
                        key = Some(at);
                        is_reported = true;
                        speakers.retain(|other| *other != speaker);
                        speakers.push(speaker);
                        if speakers.len() > SPEAKERS_MAX {
                            speakers.remove(0);
                        }
                    }
                    Step::MoveAway => {
                        endpoints.moved_away("e");
                        is_reported = false;
                    }
                    Step::Leave(speaker) => {
                        let Some(key) = key else { continue };
                        let ends = speakers == [speaker];
                        let gone = release(&mut endpoints, key, connection(speaker));
                        prop_assert_eq!(gone.len(), usize::from(ends));
                        speakers.retain(|other| *other != speaker);
                        is_reported &= !ends;
                    }
                }
                let holder = endpoints.find("e").map(|endpoint| endpoint.holder.connection.index);
                prop_assert_eq!(holder, speakers.last().copied());
            }
        }
    }
}
