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
    /// The shard's epoch it was resolved in: in a later one it must be resolved again.
    pub epoch: u32,
    /// When it must be resolved again at the latest, in milliseconds of the shard's clock.
    pub valid_until_ms: u64,
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
        Self {
            base: base.into(),
            extension,
            endpoint,
            template,
            epoch: 0,
            valid_until_ms: u64::MAX,
            affinity: None,
        }
    }
}

/// Names an entry of [`Topics`] until the next insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSlot(Slot);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Kept(usize),
    Aside,
}

/// The table. The entry used last is tried first, then the others by hash; when it is full, the
/// entries give way in turn.
#[derive(Debug, Default)]
pub struct Topics {
    hashes: Vec<u64>,
    entries: Vec<ResolvedTopic>,
    /// A topic that no base names: good for one message.
    aside: Option<Box<ResolvedTopic>>,
    last: usize,
    victim: usize,
    state: foldhash::fast::RandomState,
}

impl Topics {
    /// Finds a topic by its text without the request id.
    #[inline]
    pub fn find(&mut self, base: &str) -> Option<TopicSlot> {
        if self.entries.get(self.last).is_some_and(|entry| *entry.base == *base) {
            return Some(TopicSlot(Slot::Kept(self.last)));
        }
        let at = self.position(self.state.hash_one(base), base)?;
        self.last = at;
        Some(TopicSlot(Slot::Kept(at)))
    }

    fn position(&self, hash: u64, base: &str) -> Option<usize> {
        (0..self.entries.len())
            .find(|&at| self.hashes[at] == hash && *self.entries[at].base == *base)
    }

    /// Keeps a resolved topic in place of an earlier one with the same base, or else displacing
    /// another when the table is full.
    pub fn insert(&mut self, topic: ResolvedTopic) -> TopicSlot {
        let hash = self.state.hash_one(&*topic.base);
        let at = if let Some(at) = self.position(hash, &topic.base) {
            self.entries[at] = topic;
            at
        } else if self.entries.len() < TOPICS_MAX {
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
        TopicSlot(Slot::Kept(at))
    }

    /// Holds a topic for one message, never to be found: one whose last level may be a request id
    /// or not shares its text with others that lead elsewhere.
    pub fn set_aside(&mut self, topic: ResolvedTopic) -> TopicSlot {
        self.aside = Some(Box::new(topic));
        TopicSlot(Slot::Aside)
    }

    /// The entry of a slot.
    ///
    /// # Panics
    /// When the slot is none of this table's.
    #[inline]
    pub fn get(&self, slot: TopicSlot) -> &ResolvedTopic {
        match slot.0 {
            Slot::Kept(at) => &self.entries[at],
            Slot::Aside => self.aside.as_ref().expect("a slot aside comes with its topic"),
        }
    }

    /// Every entry that can be found, to change.
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
    fn an_entry_is_replaced_by_one_with_the_same_base() {
        let mut topics = Topics::default();
        topics.insert(resolved("a"));
        topics.insert(resolved("b"));
        let slot = topics.insert(ResolvedTopic { extension: ExtensionId(7), ..resolved("a") });
        assert_eq!(topics.get(slot).extension, ExtensionId(7));
        topics.find("b");
        assert_eq!(topics.find("a"), Some(slot));
        assert_eq!(topics.entries.len(), 2);
    }

    #[test]
    fn what_is_set_aside_is_never_found() {
        let mut topics = Topics::default();
        let slot = topics.set_aside(resolved("a"));
        assert_eq!(&*topics.get(slot).base, "a");
        assert!(topics.find("a").is_none());
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
