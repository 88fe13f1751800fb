//! The counters of the control thread.

use super::labels::PushDrop;
use super::{Counter, Gauge};

/// What the control thread counts about itself. Written by that thread only.
#[derive(Debug, Default)]
pub struct ControlCounters {
    /// Messages heard on the instance-wide ExtensionData subject.
    pub pushes_received: Counter,
    /// Of those, given to a shard.
    pub pushes_posted: Counter,
    /// Of those, given to no shard, by reason; see [`Self::push_dropped`].
    pub pushes_dropped: [Counter; PushDrop::COUNT],
    /// Endpoints the directory knows.
    pub directory_endpoints: Gauge,
    /// Reports of endpoints that the directory had no room for.
    pub directory_full: Counter,
    /// Times an endpoint moved from one shard to another.
    pub routes_moved: Counter,
    /// `RouteMoved` mails that found the old shard's mailbox full.
    pub route_moves_lost: Counter,
    /// Times async-nats lost its connection to the server.
    pub link_disconnects: Counter,
}

impl ControlCounters {
    /// Counts a push that went to no shard.
    pub fn push_dropped(&self, reason: PushDrop) {
        self.pushes_dropped[reason.index()].add(1);
    }
}
