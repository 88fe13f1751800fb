//! `connected` and `disconnected` events on their way to NATS: gathered over a short window, sent
//! one after the other, and again until NATS has spread them. Pure.
//!
//! Changes wait in *groups*, each of one kind; a group goes out as one event, or as several if it
//! is large. A change joins the first group of its kind that is still open and lies behind the last
//! group that names its endpoint; otherwise it opens a new group at the end. So events come in the
//! order of the changes, endpoint by endpoint, and a client that is lost with many endpoints is
//! told in one event (9/ELCE).
//!
//! An event is under way until its echo comes back from NATS. Until then it is sent again, under
//! the same correlationId: after a while, and when the link has come up again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::roaming::{Clock, Ours};
use crate::codec::avro;

/// Bytes of an event at most, far below what NATS takes by default (1 MiB). A server that takes
/// less gets smaller ones.
pub const EVENT_BYTES_MAX: usize = 512 * 1024;
/// Changes that wait at most. Beyond it the oldest is lost.
pub const CHANGES_MAX: usize = 1 << 20;
/// How long an echo is waited for before an event is sent again.
pub const CONFIRM_MS_MAX: u64 = 5_000;
/// How long an event may be under way on one link before something is wrong: it has been sent three
/// times by then. The usual reason is that we may not publish it, or not hear it.
pub const UNHEARD_MS_MAX: u64 = 2 * CONFIRM_MS_MAX;
/// How long a group that cannot be sent may still be joined: its one timestamp stands for all its
/// changes.
pub const OPEN_MS_MAX: u64 = 1_000;
/// Room for the fields of an event beside its endpoints and names.
const EVENT_SLACK_BYTES: usize = 64;

/// The time, in two clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds of the process's monotonic clock.
    pub ms: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// What has become of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It has opened a session.
    Connected,
    /// It has none any more.
    Disconnected,
}

/// An endpoint's id and the application version it speaks as.
pub type Entry = (Arc<str>, Arc<str>);

/// An event to publish.
#[derive(Debug)]
pub struct Event<'a> {
    /// What has become of the endpoints.
    pub kind: Kind,
    /// Names the event, also when it is sent again.
    pub correlation_id: &'a str,
    /// When it was made.
    pub timestamp_ms: i64,
    /// The endpoints, each once.
    pub endpoints: &'a [Entry],
    /// Whether it has been sent before.
    pub is_repeated: bool,
}

/// Changes that go out together.
#[derive(Debug)]
struct Group {
    kind: Kind,
    opened: Now,
    joined_ms: u64,
    /// Known once no change may join any more: the group is closed.
    timestamp_ms: Option<i64>,
    entries: Vec<Entry>,
    /// How many of them NATS has spread.
    confirmed: usize,
    /// How many of them NATS may have heard of.
    sent: usize,
}

/// The event that waits for its echo: a part of the first group.
#[derive(Debug)]
struct InFlight {
    correlation_id: String,
    /// Behind its last entry.
    end: usize,
    bytes: usize,
    /// When it is to be sent again.
    again_ms: u64,
    /// When it was first sent on this link; `None`: not yet.
    since_ms: Option<u64>,
    is_repeated: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Outbox {
    window_ms: u64,
    changes_max: usize,
    event_bytes_max: usize,
    /// What correlationIds begin with.
    name: String,
    sequence: u64,
    groups: VecDeque<Group>,
    /// The number of the first group.
    first: u64,
    /// How many groups in front are closed, at least.
    closed: usize,
    /// The number of the last group that names an endpoint.
    last: HashMap<Arc<str>, u64, foldhash::fast::RandomState>,
    in_flight: Option<InFlight>,
    pending: usize,
    is_up: bool,
    is_urgent: bool,
    lost: u64,
}

impl Outbox {
    /// An empty outbox whose link is down. `name` begins every correlationId and must be of this
    /// process alone.
    pub fn new(name: String, window_ms: u64) -> Self {
        Self::with_limit(name, window_ms, CHANGES_MAX)
    }

    pub(super) fn with_limit(name: String, window_ms: u64, changes_max: usize) -> Self {
        Self {
            window_ms,
            changes_max,
            event_bytes_max: EVENT_BYTES_MAX,
            name,
            sequence: 0,
            groups: VecDeque::new(),
            first: 0,
            closed: 0,
            last: HashMap::default(),
            in_flight: None,
            pending: 0,
            is_up: false,
            is_urgent: false,
            lost: 0,
        }
    }

    /// Takes a change.
    pub fn change(&mut self, kind: Kind, entry: Entry, now: Now, clock: &mut Clock) {
        self.close_overdue(now, clock);
        if self.pending >= self.changes_max {
            self.lose_oldest();
        }
        let behind = self.last.get(&entry.0).map_or(0, |&number| self.index(number) + 1);
        let from = behind.max(self.closed);
        let fits = |group: &Group| group.kind == kind && group.timestamp_ms.is_none();
        let index = (from..self.groups.len()).find(|&index| fits(&self.groups[index]));
        let index = index.unwrap_or_else(|| self.open(kind, None, now));
        self.join(index, entry, now);
    }

    /// A claim that NATS has spread is to be said again, under its old timestamp, for somebody who
    /// has missed it.
    pub fn repeat(&mut self, entry: Entry, timestamp_ms: i64, now: Now) {
        if self.pending >= self.changes_max {
            return; // What is new comes first.
        }
        let fits = |group: &Group| {
            group.timestamp_ms == Some(timestamp_ms) && group.kind == Kind::Connected
        };
        // The first group may be under way.
        let last = self.groups.len().checked_sub(1).filter(|index| *index > 0);
        let index = last.filter(|&index| fits(&self.groups[index]));
        let index = index.unwrap_or_else(|| self.open(Kind::Connected, Some(timestamp_ms), now));
        self.join(index, entry, now);
    }

    fn open(&mut self, kind: Kind, timestamp_ms: Option<i64>, now: Now) -> usize {
        let (entries, confirmed, joined_ms) = (Vec::new(), 0, now.ms);
        // What has its time already has been said before.
        let sent = timestamp_ms.map_or(0, |_| usize::MAX);
        self.groups.push_back(Group {
            kind,
            opened: now,
            joined_ms,
            timestamp_ms,
            entries,
            confirmed,
            sent,
        });
        self.groups.len() - 1
    }

    fn join(&mut self, index: usize, entry: Entry, now: Now) {
        self.last.insert(entry.0.clone(), self.first + index as u64);
        let group = &mut self.groups[index];
        group.joined_ms = now.ms;
        group.entries.push(entry);
        self.pending += 1;
    }

    fn index(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    /// Closes the groups that have been open for long. To be called before `clock` hears anything,
    /// since they were made before.
    pub fn close_overdue(&mut self, now: Now, clock: &mut Clock) {
        while let Some(group) = self.groups.get_mut(self.closed) {
            let since_ms = now.ms.saturating_sub(group.opened.ms);
            if since_ms <= OPEN_MS_MAX {
                return;
            }
            let late_ms = (since_ms - OPEN_MS_MAX) as i64;
            group.timestamp_ms.get_or_insert_with(|| clock.stamp(now.unix_ms - late_ms));
            self.closed += 1;
        }
    }

    /// Makes room: a change of the oldest group that has not been sent is forgotten.
    fn lose_oldest(&mut self) {
        let sent = self.in_flight.as_ref().map_or(0, |event| event.end);
        let mut groups = self.groups.iter_mut().enumerate();
        let oldest = groups.find(|(index, group)| {
            let kept = if *index == 0 { sent.max(group.confirmed) } else { 0 };
            group.entries.len() > kept
        });
        let Some((index, group)) = oldest else { return };
        if let Some(entry) = group.entries.pop() {
            self.forget(&entry.0, self.first + index as u64);
            self.pending -= 1;
            self.lost += 1;
        }
    }

    fn forget(&mut self, endpoint: &str, number: u64) {
        if self.last.get(endpoint) == Some(&number) {
            self.last.remove(endpoint);
        }
    }

    /// The link to NATS has come up; the server takes `payload_bytes_max` in one message. What was
    /// under way is sent again.
    pub fn link_up(&mut self, payload_bytes_max: usize) {
        self.is_up = true;
        self.event_bytes_max = payload_bytes_max.min(EVENT_BYTES_MAX);
        let limit = self.event_bytes_max;
        // One that this server would not take is cut anew.
        self.in_flight = self.in_flight.take().filter(|event| event.bytes <= limit);
        if let Some(event) = &mut self.in_flight {
            event.again_ms = 0;
            event.since_ms = None;
        }
    }

    /// The link to NATS has broken.
    pub fn link_down(&mut self) {
        self.is_up = false;
    }

    /// From here on nothing waits for company: the process is about to end.
    pub fn hurry(&mut self) {
        self.is_urgent = true;
    }

    /// When [`Outbox::next`] is to be called again, if nothing else happens before.
    pub fn wake_ms(&self) -> Option<u64> {
        if !self.is_up {
            return None;
        }
        match &self.in_flight {
            Some(event) => Some(event.again_ms),
            None => self.groups.front().map(|group| self.due_ms(group)),
        }
    }

    /// A group waits for the window. While changes come in quick succession, as of a lost client,
    /// it waits for their end, but no longer than two windows.
    fn due_ms(&self, group: &Group) -> u64 {
        if self.is_urgent || group.timestamp_ms.is_some() || group.entries.is_empty() {
            return group.opened.ms;
        }
        let window_over_ms = group.opened.ms + self.window_ms;
        let settled_ms = group.joined_ms + self.window_ms / 4;
        settled_ms.clamp(window_over_ms, window_over_ms + self.window_ms)
    }

    /// The event to publish now, if any: the next one, or the one under way once more.
    pub fn next(&mut self, now: Now, clock: &mut Clock) -> Option<Event<'_>> {
        if !self.is_up {
            return None;
        }
        match &mut self.in_flight {
            Some(event) if now.ms < event.again_ms => return None,
            Some(event) => {
                event.is_repeated = true;
                event.again_ms = now.ms + CONFIRM_MS_MAX;
            }
            None => self.cut(now, clock)?,
        }
        if let Some(event) = &mut self.in_flight {
            event.since_ms.get_or_insert(now.ms);
        }
        let (event, group) = (self.in_flight.as_ref()?, self.groups.front()?);
        Some(Event {
            kind: group.kind,
            correlation_id: &event.correlation_id,
            timestamp_ms: group.timestamp_ms?,
            endpoints: &group.entries[group.confirmed..event.end],
            is_repeated: event.is_repeated,
        })
    }

    /// Makes an event of what is left of the first group, or of as much as one event takes.
    fn cut(&mut self, now: Now, clock: &mut Clock) -> Option<()> {
        loop {
            let group = self.groups.front()?;
            if now.ms < self.due_ms(group) {
                return None;
            }
            if self.closed == 0 {
                self.closed = 1;
                let stamp = || clock.stamp(now.unix_ms);
                self.groups[0].timestamp_ms.get_or_insert_with(stamp);
            }
            let (end, bytes) = self.fitting();
            if end > self.groups[0].confirmed {
                self.groups[0].sent = self.groups[0].sent.max(end);
                self.sequence += 1;
                self.in_flight = Some(InFlight {
                    correlation_id: format!("{}-{}", self.name, self.sequence),
                    end,
                    bytes,
                    again_ms: now.ms + CONFIRM_MS_MAX,
                    since_ms: None,
                    is_repeated: false,
                });
                return Some(());
            }
            self.lose_first();
        }
    }

    /// How many entries of the first group fit in an event, as their end, and its bytes at most.
    fn fitting(&self) -> (usize, usize) {
        let group = &self.groups[0];
        let mut bytes = EVENT_SLACK_BYTES + 2 * self.name.len();
        let mut end = group.confirmed;
        for (endpoint, version) in &group.entries[end..] {
            let more = avro::bytes_len(endpoint.len()) + avro::bytes_len(version.len());
            if bytes + more > self.event_bytes_max {
                break;
            }
            bytes += more;
            end += 1;
        }
        (end, bytes)
    }

    /// The first group is empty, or its first entry is larger than this server takes in a message.
    fn lose_first(&mut self) {
        let (number, group) = (self.first, &mut self.groups[0]);
        if group.confirmed < group.entries.len() {
            let entry = group.entries.swap_remove(group.confirmed);
            self.forget(&entry.0, number);
            self.pending -= 1;
            self.lost += 1;
        }
        self.end_first_if_done();
    }

    fn end_first_if_done(&mut self) {
        if self.groups.front().is_some_and(|group| group.confirmed == group.entries.len()) {
            self.groups.pop_front();
            self.first += 1;
            self.closed -= 1;
        }
    }

    /// NATS has spread the event of that correlationId: calls `done` with what it said. `false` if
    /// none of that name is under way: it has been confirmed before.
    pub fn confirm(&mut self, correlation_id: &str, mut done: impl FnMut(Kind, &str, i64)) -> bool {
        let event = self.in_flight.take_if(|event| event.correlation_id == correlation_id);
        let Some(event) = event else { return false };
        let (number, group) = (self.first, &mut self.groups[0]);
        let timestamp_ms = group.timestamp_ms.unwrap_or_default();
        for (endpoint, _) in &group.entries[group.confirmed..event.end] {
            if self.last.get(endpoint) == Some(&number) {
                self.last.remove(endpoint);
            }
            done(group.kind, endpoint, timestamp_ms);
        }
        self.pending -= event.end - group.confirmed;
        group.confirmed = event.end;
        self.end_first_if_done();
        true
    }

    /// How far our claim to an endpoint has come, if it is on its way: `None` when the last word
    /// about it here has been confirmed.
    pub fn claim(&self, endpoint: &str) -> Option<Ours> {
        let number = *self.last.get(endpoint)?;
        let group = &self.groups[self.index(number)];
        Some(match group.timestamp_ms {
            Some(timestamp_ms) => Ours::Made { timestamp_ms },
            None => Ours::Open,
        })
    }

    /// For how long the event under way has not come back, once that is longer than
    /// [`UNHEARD_MS_MAX`] on a link that is up. [`Outbox::wake_ms`] is never later than by
    /// [`CONFIRM_MS_MAX`] meanwhile.
    pub fn unheard_ms(&self, now: Now) -> Option<u64> {
        let since_ms = self.in_flight.as_ref().filter(|_| self.is_up)?.since_ms?;
        Some(now.ms.saturating_sub(since_ms)).filter(|ms| *ms >= UNHEARD_MS_MAX)
    }

    /// Endpoints of which the world may think otherwise than it would if it had all changes, should
    /// their last one be that they have disconnected: it has heard of them, or will as soon as the
    /// link is up. Whoever connected and disconnected behind a broken link is none of them.
    pub fn owed(&self) -> usize {
        if self.is_up {
            return self.pending;
        }
        let mut seen = HashSet::new();
        let mut owed = 0;
        for group in &self.groups {
            for (place, (endpoint, _)) in group.entries.iter().enumerate().skip(group.confirmed) {
                let is_known = group.kind == Kind::Disconnected || place < group.sent;
                // By an endpoint's first change, which is the opposite of what the world knows.
                owed += usize::from(seen.insert(endpoint) && is_known);
            }
        }
        owed
    }

    /// Changes that NATS has not spread yet.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Changes that were lost because too many waited, or one was too large.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
