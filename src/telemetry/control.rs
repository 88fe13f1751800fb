//! The counters of the control thread.

use super::labels::{ConnectivityKind, PushDrop, RevocationKind};
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
    /// Times a TLS profile was made anew.
    pub tls_renewed: Counter,
    /// Times the changed files of one were refused.
    pub tls_refused: Counter,
    /// Reports of endpoints whose id another tenant's endpoint has on another shard.
    pub endpoints_alien: Counter,
    /// Times an endpoint moved from one shard to another.
    pub routes_moved: Counter,
    /// `RouteMoved` mails that found the old shard's mailbox full.
    pub route_moves_lost: Counter,
    /// Events about endpoints that were sent, without repetitions, by kind.
    pub connectivity_events: [Counter; ConnectivityKind::COUNT],
    /// Endpoints they named.
    pub connectivity_endpoints: [Counter; ConnectivityKind::COUNT],
    /// Times such an event was sent again.
    pub connectivity_repeated: Counter,
    /// Changes of endpoints that were never told, because too many waited.
    pub connectivity_lost: Counter,
    /// Changes of endpoints that NATS has not spread yet.
    pub connectivity_pending: Gauge,
    /// Endpoints that moved to another replica.
    pub roamed: Counter,
    /// Revocations given to the shards, by what was revoked.
    pub revocations: [Counter; RevocationKind::COUNT],
    /// Of those, made by this process's own store.
    pub revocations_own: Counter,
    /// Times the shards were told that revocations may have been missed.
    pub doubts: Counter,
    /// Mails that were given up, a shard's mailbox having been full for long. The shard is told
    /// that it has missed something.
    pub mails_given_up: Counter,
    /// Events of other services that do not decode.
    pub events_malformed: Counter,
    /// Questions of others to this process's own store.
    pub questions_served: Counter,
    /// Of those, not answered: too late, unreadable, or without a reply subject.
    pub questions_ignored: Counter,
    /// Replies that were given up because too many waited for NATS.
    pub replies_lost: Counter,
    /// Times async-nats lost its connection to the server.
    pub link_disconnects: Counter,
}

impl ControlCounters {
    /// Counts a push that went to no shard.
    pub fn push_dropped(&self, reason: PushDrop) {
        self.pushes_dropped[reason.index()].add(1);
    }
}
