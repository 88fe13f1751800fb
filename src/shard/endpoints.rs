//! Which connection of this shard speaks for an endpoint: where answers without a known request,
//! and pushes, go.

use std::collections::HashMap;

use slab::Slab;

use super::correlation::ConnectionKey;
use crate::session::topics::EndpointKey;

/// An endpoint's route. Several connections may speak for one endpoint in turns; the route follows
/// the one that spoke last.
#[derive(Debug)]
pub struct Endpoint {
    /// The endpoint's id in 4/ESP.
    pub id: Box<str>,
    /// The token it was last named by.
    pub token: Box<str>,
    /// The application version it last spoke as.
    pub app_version: Box<str>,
    /// Who speaks for it; `None` after it has moved to another shard.
    pub holder: Option<ConnectionKey>,
    generation: u32,
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
            return (key, Self::take(endpoint, holder));
        }
        self.next_generation = self.next_generation.wrapping_add(1);
        let endpoint = Endpoint {
            id: id.into(),
            token: token.into(),
            app_version: app_version.into(),
            holder: Some(holder),
            generation: self.next_generation,
        };
        let index = self.slots.insert(endpoint) as u32;
        let key = EndpointKey { index, generation: self.next_generation };
        self.by_id.insert(id.into(), key);
        (key, Claim::New)
    }

    fn take(endpoint: &mut Endpoint, holder: ConnectionKey) -> Claim {
        match endpoint.holder.replace(holder) {
            None => Claim::New,
            Some(before) if before == holder => Claim::Held,
            Some(_) => Claim::Moved,
        }
    }

    /// As [`Endpoints::claim`] for an endpoint resolved before; `None` when that route has gone.
    #[inline]
    pub fn reclaim(&mut self, key: EndpointKey, holder: ConnectionKey) -> Option<Claim> {
        let endpoint = self.slots.get_mut(key.index as usize)?;
        (endpoint.generation == key.generation).then(|| Self::take(endpoint, holder))
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

    /// The endpoint now speaks through another shard: pushes no longer come here, and the next
    /// message from here takes it back.
    pub fn moved_away(&mut self, id: &str) {
        if let Some(key) = self.by_id.get(id) {
            self.slots[key.index as usize].holder = None;
        }
    }

    /// A connection has gone: forgets `keys`, the endpoints it spoke for, unless another connection
    /// speaks for them now. `gone` is told their ids: also of those that have moved to another
    /// shard, since the directory knows better, and may have taken them to be here again while word
    /// of an earlier move was still on its way.
    pub fn release(
        &mut self,
        keys: impl IntoIterator<Item = EndpointKey>,
        holder: ConnectionKey,
        mut gone: impl FnMut(Box<str>),
    ) {
        for key in keys {
            let stands = self.slots.get(key.index as usize).is_some_and(|endpoint| {
                endpoint.generation == key.generation
                    && endpoint.holder.is_none_or(|other| other == holder)
            });
            if !stands {
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
        assert_eq!(endpoints.find("e").expect("routed").holder, Some(B));
        assert!(release(&mut endpoints, key, A).is_empty(), "A speaks for it no more");
        assert_eq!(release(&mut endpoints, key, B), ["e"]);
        assert!(endpoints.is_empty());
    }

    #[test]
    fn an_endpoint_that_moved_to_another_shard_can_come_back_and_its_end_is_told() {
        let mut endpoints = Endpoints::default();
        let (key, _) = endpoints.claim("e", "t", "v", A);
        endpoints.moved_away("e");
        assert_eq!(endpoints.reclaim(key, A), Some(Claim::New), "the directory must be told again");
        endpoints.moved_away("e");
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
}
