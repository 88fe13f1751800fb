//! The topics a client has used lately, resolved: a device says the same few topics over and over,
//! so the work of following one is done once.

use std::hash::BuildHasher;

use crate::codec::avro::ClientDataTemplate;
use crate::session::catalogue::ExtensionId;

/// Resolved topics kept per session. A gateway that speaks for more endpoints than this pays the
/// look-up of a topic that has been displaced.
pub const TOPICS_MAX: usize = 64;

/// Names an endpoint's route in the shard's table; stale once the route has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// Place in the table.
    pub index: u32,
    /// Which of the endpoints that had this place.
    pub generation: u32,
}

/// A topic without its request id, and all that is needed to carry a message on it.
#[derive(Debug)]
pub struct ResolvedTopic {
    base: Box<str>,
    /// Extension instance it leads to.
    pub extension: ExtensionId,
    /// Route of the endpoint it speaks for; `None` for an endpoint-unaware instance.
    pub endpoint: Option<EndpointKey>,
    /// The constant part of its ClientData.
    pub template: ClientDataTemplate,
    /// Subject that the extension has asked to be answered on (4/ESP affinity), if it has.
    pub affinity: Option<Box<str>>,
}

impl ResolvedTopic {
    /// A topic without its request id, resolved.
    pub fn new(
        base: &str,
        extension: ExtensionId,
        endpoint: Option<EndpointKey>,
        template: ClientDataTemplate,
    ) -> Self {
        Self { base: base.into(), extension, endpoint, template, affinity: None }
    }
}

/// Names an entry of [`Topics`] until the next insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSlot(usize);

/// The table. The entry used last is tried first, then the others by hash; when it is full, the
/// entries give way in turn.
#[derive(Debug, Default)]
pub struct Topics {
    hashes: Vec<u64>,
    entries: Vec<ResolvedTopic>,
    last: usize,
    victim: usize,
    state: foldhash::fast::RandomState,
}

impl Topics {
    /// Finds a topic by its text without the request id.
    #[inline]
    pub fn find(&mut self, base: &str) -> Option<TopicSlot> {
        if self.entries.get(self.last).is_some_and(|entry| *entry.base == *base) {
            return Some(TopicSlot(self.last));
        }
        let hash = self.state.hash_one(base);
        let at = (0..self.entries.len())
            .find(|&at| self.hashes[at] == hash && *self.entries[at].base == *base)?;
        self.last = at;
        Some(TopicSlot(at))
    }

    /// Keeps a resolved topic, displacing another when the table is full.
    pub fn insert(&mut self, topic: ResolvedTopic) -> TopicSlot {
        let hash = self.state.hash_one(&*topic.base);
        let at = if self.entries.len() < TOPICS_MAX {
            self.hashes.push(hash);
            self.entries.push(topic);
            self.entries.len() - 1
        } else {
            let at = self.victim;
            self.victim = (self.victim + 1) % TOPICS_MAX;
            self.hashes[at] = hash;
            self.entries[at] = topic;
            at
        };
        self.last = at;
        TopicSlot(at)
    }

    /// The entry of a slot.
    pub fn get(&self, slot: TopicSlot) -> &ResolvedTopic {
        &self.entries[slot.0]
    }

    /// The entry of a slot, to change.
    pub fn get_mut(&mut self, slot: TopicSlot) -> &mut ResolvedTopic {
        &mut self.entries[slot.0]
    }

    /// Every entry, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ResolvedTopic> {
        self.entries.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::avro::ConfigName;

    fn resolved(base: &str) -> ResolvedTopic {
        let template = ClientDataTemplate::new("v", None, base, ConfigName::Omit);
        ResolvedTopic::new(base, ExtensionId(0), None, template)
    }

    #[test]
    fn finds_what_was_inserted_and_nothing_else() {
        let mut topics = Topics::default();
        assert!(topics.find("a").is_none());
        for base in ["a", "b", "c"] {
            topics.insert(resolved(base));
        }
        for base in ["b", "a", "a", "c"] {
            let slot = topics.find(base).expect("kept");
            assert_eq!(&*topics.get(slot).base, base);
        }
        assert!(topics.find("d").is_none());
    }

    #[test]
    fn stays_bounded_and_displaces_in_turn() {
        let mut topics = Topics::default();
        let names: Vec<String> = (0..TOPICS_MAX * 2).map(|n| format!("t{n}")).collect();
        for name in &names {
            topics.insert(resolved(name));
        }
        assert_eq!(topics.entries.len(), TOPICS_MAX);
        assert!(topics.find(&names[0]).is_none());
        assert!(names[TOPICS_MAX..].iter().all(|name| topics.find(name).is_some()));
    }
}
