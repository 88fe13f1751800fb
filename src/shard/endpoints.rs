//! Which connections of this shard speak for an endpoint, and which of them gets its pushes and the
//! answers without a known request.

use std::collections::HashMap;
use std::mem;

use slab::Slab;

use super::correlation::ConnectionKey;
use crate::session::topics::EndpointKey;

/// Connections of one shard that an endpoint remembers at most. One more, and the one whose last
/// word is the oldest is forgotten until it speaks again.
pub const SPEAKERS_MAX: usize = 8;

/// An endpoint's route. Several connections may speak for one endpoint in turns; the route follows
/// the one that spoke last, and falls back to the one before when that leaves.
#[derive(Debug)]
pub struct Endpoint {
    /// The endpoint's id in 4/ESP.
    pub id: Box<str>,
    /// The token it was last named by.
    pub token: Box<str>,
    /// The application version it last spoke as.
    pub app_version: Box<str>,
    /// The connection that spoke for it last, of those that have not ended. It gets what comes here
    /// also after the endpoint has moved to another shard: then the directory sends nothing more.
    pub holder: ConnectionKey,
    /// The others that spoke for it and have not ended, in the order of their last words. Mostly
    /// empty.
    earlier: Vec<ConnectionKey>,
    /// Whether the directory has been told of it since it last moved to another shard; if not, the
    /// next message tells it.
    is_reported: bool,
    generation: u32,
}

impl Endpoint {
    fn take(&mut self, holder: ConnectionKey) -> Claim {
        if self.holder != holder {
            self.earlier.retain(|&other| other != holder);
            if self.earlier.len() + 1 == SPEAKERS_MAX {
                self.earlier.remove(0);
            }
            self.earlier.push(mem::replace(&mut self.holder, holder));
        } else if self.is_reported {
            return Claim::Held;
        }
        if mem::replace(&mut self.is_reported, true) { Claim::Moved } else { Claim::New }
    }

    /// Forgets a connection that has ended; `false` when no other is left.
    fn leave(&mut self, speaker: ConnectionKey) -> bool {
        if self.holder != speaker {
            self.earlier.retain(|&other| other != speaker);
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
    /// Makes `holder` the one who speaks for endpoint `id`.
    pub fn claim(
        &mut self,
        id: &str,
        token: &str,
        app_version: &str,
        holder: ConnectionKey,
    ) -> (EndpointKey, Claim) {
        if let Some(&key) = self.by_id.get(id) {
            let endpoint = &mut self.slots[key.index as usize];
            if *endpoint.token != *token {
                endpoint.token = token.into();
            }
            if *endpoint.app_version != *app_version {
                endpoint.app_version = app_version.into();
            }
            return (key, endpoint.take(holder));
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let endpoint = Endpoint {
            id: id.into(),
            token: token.into(),
            app_version: app_version.into(),
            holder,
            earlier: Vec::new(),
            is_reported: true,
            generation: self.next_generation,
        };
        let index = self.slots.insert(endpoint) as u32;
        let key = EndpointKey { index, generation: self.next_generation };
        self.by_id.insert(id.into(), key);
        (key, Claim::New)
    }

    /// As [`Endpoints::claim`] for an endpoint resolved before; `None` when that route has gone.
    #[inline]
    pub fn reclaim(&mut self, key: EndpointKey, holder: ConnectionKey) -> Option<Claim> {
        let endpoint = self.slots.get_mut(key.index as usize)?;
        (endpoint.generation == key.generation).then(|| endpoint.take(holder))
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

    /// The id of the endpoint of a key.
    pub fn id(&self, key: EndpointKey) -> Option<&str> {
        self.get(key).map(|endpoint| &*endpoint.id)
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
            let Some(endpoint) = self.slots.get_mut(key.index as usize) else { continue };
            if endpoint.generation != key.generation || endpoint.leave(speaker) {
                continue;
            }
            let endpoint = self.slots.remove(key.index as usize);
            self.by_id.remove(&endpoint.id);
            gone(endpoint.id);
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

    fn release(endpoints: &mut Endpoints, key: EndpointKey, holder: ConnectionKey) -> Vec<String> {
        let mut gone = Vec::new();
        endpoints.release([key], holder, |id| gone.push(id.into_string()));
        gone
    }

    #[test]
    fn the_route_follows_whoever_spoke_last() {
        let mut endpoints = Endpoints::default();
        let (key, claim) = endpoints.claim("e", "t", "v", A);
        assert_eq!(claim, Claim::New);
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::Held));
        assert_eq!(endpoints.reclaim(key, B), Some(Claim::Moved));
        assert_eq!(endpoints.find("e").expect("routed").holder, B);
        assert!(release(&mut endpoints, key, A).is_empty(), "B speaks for it");
        assert_eq!(endpoints.find("e").expect("routed").holder, B);
        assert_eq!(release(&mut endpoints, key, B), ["e"]);
        assert!(endpoints.is_empty());
    }

    #[test]
    fn the_route_falls_back_when_the_last_speaker_leaves() {
        let mut endpoints = Endpoints::default();
        let (key, _) = endpoints.claim("e", "t", "v", A);
        endpoints.claim("e", "t", "v", B);
        assert!(release(&mut endpoints, key, B).is_empty(), "A is still there");
        assert_eq!(endpoints.find("e").expect("routed").holder, A);
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::Held), "there is nothing to tell");
        assert_eq!(release(&mut endpoints, key, A), ["e"]);
    }

    #[test]
    fn an_endpoint_that_moved_to_another_shard_can_come_back_and_its_end_is_told() {
        let mut endpoints = Endpoints::default();
        let (key, _) = endpoints.claim("e", "t", "v", A);
        endpoints.moved_away("e");
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::New), "the directory must be told again");
        endpoints.reclaim(key, B);
        endpoints.moved_away("e");
        assert_eq!(endpoints.find("e").expect("known").holder, B, "should the directory come back");
        assert!(release(&mut endpoints, key, B).is_empty());
        assert_eq!(release(&mut endpoints, key, A), ["e"]);
        assert!(endpoints.is_empty());
    }

    #[test]
    fn a_stale_key_never_reaches_the_endpoint_that_took_the_place() {
        let mut endpoints = Endpoints::default();
        let (old, _) = endpoints.claim("e", "t", "v", A);
        release(&mut endpoints, old, A);
        let (new, _) = endpoints.claim("f", "t", "v", A);
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
                        let (at, claim) = endpoints.claim("e", "t", "v", connection(speaker));
                        prop_assert_eq!(claim, expected);
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
                let holder = endpoints.find("e").map(|endpoint| endpoint.holder.index);
                prop_assert_eq!(holder, speakers.last().copied());
            }
        }
    }
}
