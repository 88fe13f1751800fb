//! Requests to endpoint-unaware extension instances, remembered for a while: their answers name no
//! endpoint, and 4/ESP does not oblige an extension to echo the correlationId.

use std::hash::BuildHasher;

use super::correlation::ConnectionKey;
use crate::codec::mqtt::QoS;

/// Requests remembered per shard; a newer one takes the place of an older one with the same slot.
const REQUESTS_MAX: usize = 4096;

/// What an answer has in common with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request<'a> {
    /// Application version; an answer of an endpoint-unaware instance must name it.
    pub app_version: &'a str,
    /// Extension instance.
    pub extension: &'a str,
    /// Resource path.
    pub resource_path: &'a str,
    /// Request id.
    pub request_id: Option<u32>,
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The connection.
    pub connection: ConnectionKey,
    /// QoS of the request.
    pub qos: QoS,
}

/// See the module's documentation. Fixed in size: nothing is allocated per request.
#[derive(Debug)]
pub struct Recent {
    slots: Box<[Option<(u64, Asker)>]>,
    hasher: foldhash::fast::RandomState,
}

impl Default for Recent {
    fn default() -> Self {
        Self { slots: vec![None; REQUESTS_MAX].into(), hasher: Default::default() }
    }
}

impl Recent {
    /// Remembers who asked.
    pub fn remember(&mut self, request: Request<'_>, asker: Asker) {
        let hash = self.hasher.hash_one(request);
        self.slots[hash as usize % REQUESTS_MAX] = Some((hash, asker));
    }

    /// Who asked last for what this answers, if it is still remembered.
    pub fn find(&self, request: Request<'_>) -> Option<Asker> {
        let hash = self.hasher.hash_one(request);
        match self.slots[hash as usize % REQUESTS_MAX] {
            Some((known, asker)) if known == hash => Some(asker),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_who_asked_last() {
        let request = Request {
            app_version: "v",
            extension: "tsx",
            resource_path: "/now",
            request_id: Some(1),
        };
        let asker = |index| Asker {
            connection: ConnectionKey { index, generation: 1 },
            qos: QoS::AtLeastOnce,
        };
        let mut recent = Recent::default();
        assert_eq!(recent.find(request), None);
        recent.remember(request, asker(1));
        recent.remember(request, asker(2));
        assert_eq!(recent.find(request), Some(asker(2)));
        assert_eq!(recent.find(Request { request_id: None, ..request }), None);
    }
}
