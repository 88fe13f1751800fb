//! The ledger of one NATS connection: which messages went into which batch, which batches NATS has
//! confirmed, what must be sent again after a reconnect, and who is owed an acknowledgement.
//!
//! Pure: no socket, no clock. The link hands it events (a write ended, a PONG came, the connection
//! broke) and takes bytes to write; the shard appends messages and collects outcomes.
//!
//! # How a message travels
//!
//! ```text
//! append ─► filling ─seal─► kept: │ ponged │ written, unconfirmed │ not yet written │
//!                                  └ confirmed() takes these   └ take_for_write() takes from here
//! ```
//!
//! - A batch that holds a *record* (a message somebody must hear about) ends in `PING`. The PONG
//!   proves that the server has processed every byte before it. Batches without records are
//!   forgotten once written, and only every [`UNCONFIRMED_BATCHES_MAX`]th or
//!   [`UNCONFIRMED_RUN_BYTES_MAX`] bytes one of them ends in `PING`. The bytes between two PINGs
//!   are a *group*.
//! - After a reconnect every written but unconfirmed batch is stripped down to its messages of
//!   QoS 1 and 2 and goes out again, oldest first, before anything newer: at least once. Messages
//!   of QoS 0 that were handed to a write are not sent again (at most once) but counted; those
//!   never handed to a write go out as usual.
//! - `no responders` notices come between the bytes they answer and the PONG of their group, so
//!   they are counted against the oldest group without a PONG (see [`batch`] on which messages of
//!   the group they hit).

pub mod batch;

use std::collections::VecDeque;
use std::fmt;

use batch::{Batch, RECORD_BYTES, Record, Tally};
pub use batch::{Confirmed, Outcome, SubjectId, Tag, Verdict};

/// Bytes of consecutive batches without records after which one ends in `PING` all the same.
pub const UNCONFIRMED_RUN_BYTES_MAX: usize = 1024 * 1024;
/// Number of consecutive batches without records after which one ends in `PING` all the same.
pub const UNCONFIRMED_BATCHES_MAX: u32 = 64;
/// Number of emptied batches kept for reuse; together they hold at most `unconfirmed_bytes_max`.
pub const SPARE_BATCHES_MAX: usize = 64;
/// Subjects remembered as having had no responders at the end of their last group.
pub const SILENT_SUBJECTS_MAX: usize = 256;

const PING: &[u8] = b"PING\r\n";

/// Bounds of a ledger, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A batch that has reached this size is closed and the next one begins. It may be exceeded by
    /// the last message appended.
    pub batch_bytes_max: usize,
    /// Wire bytes and records of everything appended and not yet confirmed (or, without a record,
    /// not yet written). Reaching it makes [`Ledger::append`] refuse; it may be exceeded by the
    /// last message appended.
    pub unconfirmed_bytes_max: usize,
}

/// The bound of unconfirmed bytes is reached: the message was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes not yet confirmed by NATS have reached their bound")
    }
}

impl std::error::Error for Full {}

/// A PONG came although no PING is unanswered: the two sides have lost count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnexpectedPong;

impl fmt::Display for UnexpectedPong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NATS sent a PONG that no PING had asked for")
    }
}

impl std::error::Error for UnexpectedPong {}

/// Counters since the ledger was made. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Messages appended.
    pub messages: u64,
    /// Batches handed to a write, again ones included.
    pub batches: u64,
    /// Bytes handed to a write, again ones included.
    pub batch_bytes: u64,
    /// Groups confirmed by a PONG.
    pub confirmed: u64,
    /// Messages of QoS 1 and 2 put back for sending after a broken connection.
    pub resent: u64,
    /// Messages of QoS 0 handed to a connection that broke before NATS had confirmed them.
    pub qos0_lost: u64,
    /// `no responders` notices received.
    pub no_responders: u64,
    /// Notices among them that could not be matched to a message.
    pub no_responders_unmatched: u64,
    /// Messages dropped because a new server's `max_payload` is smaller than they are.
    pub too_large: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    filling: Batch,
    /// Closed batches, oldest first: `ponged` of them are confirmed, `written - ponged` are written
    /// and wait for their PONG, the rest has not been written on this connection.
    kept: VecDeque<Batch>,
    ponged: usize,
    written: usize,
    /// The bytes of `kept[written - 1]` are with the writer.
    in_flight: bool,
    ping_requested: bool,
    /// What the batches without PING since the last PING held.
    run_tallies: Vec<Tally>,
    run_bytes: usize,
    run_batches: u32,
    silent_subjects: Vec<SubjectId>,
    payload_bytes_max: usize,
    unconfirmed_bytes: usize,
    spare: Vec<Batch>,
    spare_bytes: usize,
    stats: LedgerStats,
}

impl Ledger {
    /// An empty ledger.
    pub fn new(limits: Limits) -> Ledger {
        Ledger {
            limits,
            filling: Batch::default(),
            kept: VecDeque::new(),
            ponged: 0,
            written: 0,
            in_flight: false,
            ping_requested: false,
            run_tallies: Vec::new(),
            run_bytes: 0,
            run_batches: 0,
            silent_subjects: Vec::new(),
            payload_bytes_max: usize::MAX,
            unconfirmed_bytes: 0,
            spare: Vec::new(),
            spare_bytes: 0,
            stats: LedgerStats::default(),
        }
    }

    /// Appends one message: `write` appends its complete `PUB` frame, and nothing else, to the
    /// buffer given to it. With a `tag` the message becomes a record whose [`Outcome`] is reported
    /// once its group is confirmed. `now_us` is any monotonic clock in microseconds.
    ///
    /// Either every message of a subject carries a reply subject or none does; otherwise
    /// `no responders` notices are attributed to the wrong messages.
    ///
    /// # Errors
    /// [`Full`]; `write` was not called then.
    pub fn append(
        &mut self,
        subject: SubjectId,
        tag: Option<Tag>,
        now_us: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        self.append_again(subject, tag, now_us, write);
        Ok(())
    }

    /// As [`append`](Self::append), also where that would refuse: for a message of a group just
    /// confirmed that is to go out once more, to another subject. It takes the room it had before.
    pub fn append_again(
        &mut self,
        subject: SubjectId,
        tag: Option<Tag>,
        now_us: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let batch = &mut self.filling;
        if batch.is_empty() {
            batch.first_us = now_us;
        }
        let offset = batch.bytes.len();
        write(&mut batch.bytes);
        let len = batch.bytes.len() - offset;
        batch.frame_bytes += len;
        let ordinal = batch.count(subject);
        self.stats.messages += 1;
        self.unconfirmed_bytes += len;
        if let Some(tag) = tag {
            batch.records.push(Record::new(tag, subject, ordinal, offset, len));
            self.unconfirmed_bytes += RECORD_BYTES;
        }
        if batch.bytes.len() >= self.limits.batch_bytes_max {
            self.seal();
        }
    }

    /// Records an acknowledgement that is owed without any bytes for NATS (a QoS 1 or 2 message
    /// that was dropped by policy), so that it is given in order with the others.
    ///
    /// # Errors
    /// [`Full`]: notes take memory too.
    pub fn note(&mut self, tag: Tag, now_us: u64) -> Result<(), Full> {
        if self.is_full() {
            return Err(Full);
        }
        let batch = &mut self.filling;
        if batch.is_empty() {
            batch.first_us = now_us;
        }
        batch.records.push(Record::note(tag, batch.bytes.len()));
        self.unconfirmed_bytes += RECORD_BYTES;
        Ok(())
    }

    /// Whether [`append`](Self::append) and [`note`](Self::note) refuse.
    pub fn is_full(&self) -> bool {
        self.unconfirmed_bytes >= self.limits.unconfirmed_bytes_max
    }

    /// Whether it is time to take nothing more in if that can be helped: an eighth of the bound is
    /// left for what has been begun.
    pub fn is_nearly_full(&self) -> bool {
        self.unconfirmed_bytes >= self.limits.unconfirmed_bytes_max / 8 * 7
    }

    /// Whether there is room worth waking those who wait for it: a quarter of the bound, so that
    /// they are not stopped and woken again for every batch.
    pub fn has_room_again(&self) -> bool {
        self.unconfirmed_bytes <= self.limits.unconfirmed_bytes_max / 4 * 3
    }

    /// Bytes appended and not yet confirmed (or, without a record, not yet written), records
    /// included.
    pub fn unconfirmed_bytes(&self) -> usize {
        self.unconfirmed_bytes
    }

    /// Whether nothing is waiting: every message is written and, where it has a record, confirmed
    /// and collected.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.filling.is_empty()
    }

    /// Whether a written batch still waits for its PONG.
    pub fn awaits_pong(&self) -> bool {
        self.written > self.ponged
    }

    /// Whether [`confirmed`](Self::confirmed) would give a group.
    pub fn has_confirmed(&self) -> bool {
        let front_is_in_flight = self.in_flight && self.written == 1;
        self.ponged > 0 && !front_is_in_flight
    }

    /// Whether [`take_for_write`](Self::take_for_write) would give bytes.
    pub fn has_bytes_to_write(&self) -> bool {
        let waiting = self.written < self.kept.len() || !self.filling.is_empty();
        !self.in_flight && (waiting || self.ping_requested)
    }

    /// Makes the next write end in `PING` even where nothing needs a confirmation, so that the link
    /// can tell whether the server still answers.
    pub fn request_ping(&mut self) {
        self.ping_requested = true;
    }

    /// Whether a requested PING has not been handed to a write yet.
    pub fn is_ping_requested(&self) -> bool {
        self.ping_requested
    }

    /// Counters since the start.
    pub fn stats(&self) -> &LedgerStats {
        &self.stats
    }

    /// The bytes of the next batch to write, oldest first, or `None` where there is nothing to
    /// write or a write is in flight. The buffer must come back by [`write_done`](Self::write_done)
    /// whatever becomes of the write.
    pub fn take_for_write(&mut self) -> Option<Vec<u8>> {
        if !self.has_bytes_to_write() {
            return None;
        }
        if self.written == self.kept.len() {
            self.seal();
        }
        let batch = &mut self.kept[self.written];
        let needs_ping = !batch.records.is_empty()
            || self.ping_requested
            || self.run_bytes + batch.frame_bytes >= UNCONFIRMED_RUN_BYTES_MAX
            || self.run_batches + 1 >= UNCONFIRMED_BATCHES_MAX;
        if needs_ping {
            batch.bytes.extend_from_slice(PING);
            batch.has_ping = true;
            batch.join_run(&mut self.run_tallies);
            self.run_bytes = 0;
            self.run_batches = 0;
            self.ping_requested = false;
        } else {
            batch.leave_to_run(&mut self.run_tallies);
            self.run_bytes += batch.frame_bytes;
            self.run_batches += 1;
        }
        let bytes = std::mem::take(&mut batch.bytes);
        self.written += 1;
        self.in_flight = true;
        self.stats.batches += 1;
        self.stats.batch_bytes += bytes.len() as u64;
        Some(bytes)
    }

    /// Messages of the batch that is with the writer; 0 when none is.
    pub fn messages_in_flight(&self) -> u32 {
        if self.in_flight { self.kept[self.written - 1].messages } else { 0 }
    }

    /// The write of the batch last taken has ended, well or not; `bytes` is its buffer. After a
    /// failure [`disconnected`](Self::disconnected) must follow.
    pub fn write_done(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.in_flight, "a buffer came back that was not taken");
        self.in_flight = false;
        let last = self.written - 1;
        let batch = &mut self.kept[last];
        batch.bytes = bytes;
        if !batch.has_ping
            && let Some(batch) = self.kept.remove(last)
        {
            self.written = last;
            self.retire(batch);
        }
    }

    /// A PONG came: the oldest group without one is confirmed. Its outcomes are given by
    /// [`confirmed`](Self::confirmed), which may have to wait for [`write_done`](Self::write_done).
    ///
    /// # Errors
    /// [`UnexpectedPong`].
    pub fn pong(&mut self) -> Result<(), UnexpectedPong> {
        if self.ponged == self.written || !self.kept[self.ponged].has_ping {
            return Err(UnexpectedPong);
        }
        self.ponged += 1;
        Ok(())
    }

    /// A `no responders` notice came (status 503 on the reply subject). `subject` is the subject
    /// published to where the server names it (`Nats-Subject`, nats-server 2.15 and newer).
    pub fn no_responders(&mut self, subject: Option<SubjectId>) {
        self.stats.no_responders += 1;
        let tally = match (subject, self.tallies_in_question()) {
            (Some(subject), tallies) => tallies.iter_mut().find(|tally| tally.subject == subject),
            (None, [tally]) => Some(tally),
            (None, _) => None,
        };
        match tally {
            Some(tally) => tally.notices += 1,
            None => self.stats.no_responders_unmatched += 1,
        }
    }

    /// The server refused to let us publish to `subject`: the records of that subject in the oldest
    /// group without a PONG come out as [`Verdict::Refused`].
    pub fn refused(&mut self, subject: SubjectId) {
        if let Some(tally) = self.tallies_in_question().iter_mut().find(|t| t.subject == subject) {
            tally.refused = true;
        }
    }

    /// The oldest confirmed group, if there is one. Give it back by [`recycle`](Self::recycle)
    /// after its outcomes have been dealt with. To be called until it gives `None`.
    pub fn confirmed(&mut self, now_us: u64) -> Option<Confirmed> {
        if !self.has_confirmed() {
            return None;
        }
        let mut batch = self.kept.pop_front()?;
        self.ponged -= 1;
        self.written -= 1;
        self.stats.confirmed += 1;
        self.unconfirmed_bytes -= batch.charge();
        for tally in &mut batch.tallies {
            let was_silent = self.silent_subjects.contains(&tally.subject);
            let is_silent = tally.settle(was_silent);
            if is_silent && !was_silent && self.silent_subjects.len() < SILENT_SUBJECTS_MAX {
                self.silent_subjects.push(tally.subject);
            } else if was_silent && !is_silent {
                self.silent_subjects.retain(|subject| *subject != tally.subject);
            }
        }
        Some(Confirmed::new(batch, now_us))
    }

    /// Takes back the buffers of a group whose outcomes have been dealt with.
    pub fn recycle(&mut self, confirmed: Confirmed) {
        self.spare(confirmed.batch);
    }

    /// The connection broke; no write may be in flight. What was written and not confirmed is put
    /// back to be sent again, QoS 0 excepted. Groups already confirmed stay to be collected.
    pub fn disconnected(&mut self) {
        debug_assert!(!self.in_flight, "the write ends before its connection is given up");
        let run_messages = self.run_tallies.drain(..).map(|tally| u64::from(tally.messages));
        self.stats.qos0_lost += run_messages.sum::<u64>();
        self.run_bytes = 0;
        self.run_batches = 0;
        self.ping_requested = false;
        let mut index = self.ponged;
        for _ in self.ponged..self.written {
            let batch = &mut self.kept[index];
            let charge_before = batch.charge();
            let stripped = batch.strip_to_acknowledged();
            self.unconfirmed_bytes -= charge_before - batch.charge();
            self.stats.resent += u64::from(stripped.resent);
            self.stats.qos0_lost += u64::from(stripped.lost);
            if !batch.is_empty() {
                index += 1;
            } else if let Some(batch) = self.kept.remove(index) {
                self.spare(batch);
            }
        }
        self.written = self.ponged;
    }

    /// A connection is up whose server takes payloads of at most `payload_bytes_max` bytes. Waiting
    /// messages larger than that (appended under another server's limit) are dropped, since this
    /// server would close the connection over each; their records come out as
    /// [`Verdict::TooLarge`].
    pub fn connected(&mut self, payload_bytes_max: usize) {
        debug_assert!(!self.awaits_pong() && !self.in_flight, "disconnected() comes first");
        if payload_bytes_max < self.payload_bytes_max {
            let waiting = self.kept.iter_mut().skip(self.written);
            for batch in waiting.chain(std::iter::once(&mut self.filling)) {
                let charge_before = batch.charge();
                self.stats.too_large += u64::from(batch.drop_too_large(payload_bytes_max));
                self.unconfirmed_bytes -= charge_before - batch.charge();
            }
        }
        self.payload_bytes_max = payload_bytes_max;
    }

    /// Closes the filling batch and begins the next one.
    fn seal(&mut self) {
        let next = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= next.bytes.capacity();
        self.kept.push_back(std::mem::replace(&mut self.filling, next));
    }

    /// The tallies of the oldest group without a PONG.
    fn tallies_in_question(&mut self) -> &mut [Tally] {
        match self.kept.get_mut(self.ponged) {
            Some(batch) if batch.has_ping => &mut batch.tallies,
            _ => &mut self.run_tallies,
        }
    }

    fn retire(&mut self, batch: Batch) {
        self.unconfirmed_bytes -= batch.charge();
        self.spare(batch);
    }

    /// Keeps an emptied batch for reuse, within bounds.
    fn spare(&mut self, mut batch: Batch) {
        batch.clear(self.limits.batch_bytes_max);
        let capacity = batch.bytes.capacity();
        let spare_bytes_max = self.limits.unconfirmed_bytes_max;
        if self.spare.len() < SPARE_BATCHES_MAX && self.spare_bytes + capacity <= spare_bytes_max {
            self.spare_bytes += capacity;
            self.spare.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU16;

    use super::*;

    const LIMITS: Limits = Limits { batch_bytes_max: 1_000, unconfirmed_bytes_max: 100_000_000 };
    const SUBJECT: SubjectId = SubjectId::of(b"s");

    fn tag() -> Tag {
        let packet_id = NonZeroU16::new(1);
        Tag { connection: 0, generation: 0, packet_id, qos: 1, has_request_id: false }
    }

    fn append(ledger: &mut Ledger, tag: Option<Tag>, payload_bytes: usize) {
        let write = |batch: &mut Vec<u8>| {
            crate::codec::nats::publish_head(batch, b"s", None, payload_bytes);
            batch.resize(batch.len() + payload_bytes, b'x');
            batch.extend_from_slice(b"\r\n");
        };
        ledger.append(SUBJECT, tag, 0, write).expect("room");
    }

    /// Writes one batch; whether it ended in PING, and where its buffer lies.
    fn write(ledger: &mut Ledger) -> (bool, *const u8) {
        let batch = ledger.take_for_write().expect("something to write");
        let written = (batch.ends_with(PING), batch.as_ptr());
        ledger.write_done(batch);
        written
    }

    fn collect(ledger: &mut Ledger) -> usize {
        let group = ledger.confirmed(0).expect("a confirmed group");
        let outcomes = group.outcomes().count();
        ledger.recycle(group);
        outcomes
    }

    #[test]
    fn batches_nobody_waits_for_need_a_ping_only_now_and_then() {
        let mut ledger = Ledger::new(LIMITS);
        for index in 1..=3 * UNCONFIRMED_BATCHES_MAX {
            append(&mut ledger, None, 10);
            let (has_ping, _) = write(&mut ledger);
            assert_eq!(has_ping, index % UNCONFIRMED_BATCHES_MAX == 0, "batch {index}");
        }
        append(&mut ledger, None, UNCONFIRMED_RUN_BYTES_MAX / 2);
        assert!(!write(&mut ledger).0);
        append(&mut ledger, None, UNCONFIRMED_RUN_BYTES_MAX / 2);
        assert!(write(&mut ledger).0);
        append(&mut ledger, Some(tag()), 10);
        assert!(write(&mut ledger).0);
    }

    #[test]
    fn a_pong_that_comes_before_the_end_of_its_write_is_kept() {
        let mut ledger = Ledger::new(LIMITS);
        append(&mut ledger, Some(tag()), 10);
        let batch = ledger.take_for_write().expect("a batch");
        ledger.pong().expect("a PING is unanswered");
        assert!(ledger.confirmed(0).is_none());
        assert_eq!(ledger.pong(), Err(UnexpectedPong));
        ledger.write_done(batch);
        assert_eq!(collect(&mut ledger), 1);
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_steady_stream_reuses_its_buffers() {
        let mut ledger = Ledger::new(LIMITS);
        let mut buffers = BTreeSet::new();
        for _ in 0..1_000 {
            append(&mut ledger, Some(tag()), 100);
            buffers.insert(write(&mut ledger).1);
            append(&mut ledger, Some(tag()), 100);
            buffers.insert(write(&mut ledger).1);
            for _ in 0..2 {
                ledger.pong().expect("a PING is unanswered");
                assert_eq!(collect(&mut ledger), 1);
            }
        }
        assert!(buffers.len() <= 3, "{} buffers", buffers.len());
    }

    #[test]
    fn what_a_burst_needed_is_given_back() {
        let mut ledger = Ledger::new(LIMITS);
        for _ in 0..1_000 {
            append(&mut ledger, Some(tag()), 3_000);
        }
        append(&mut ledger, Some(tag()), 1_000_000);
        while ledger.has_bytes_to_write() {
            write(&mut ledger);
            ledger.pong().expect("a PING is unanswered");
        }
        while ledger.has_confirmed() {
            collect(&mut ledger);
        }
        assert_eq!(ledger.unconfirmed_bytes(), 0);
        let kept: usize = ledger.spare.iter().map(|batch| batch.bytes.capacity()).sum();
        assert_eq!(kept, ledger.spare_bytes);
        assert!(kept <= LIMITS.unconfirmed_bytes_max, "{kept} bytes");
    }

    #[test]
    fn notes_count_against_the_bound() {
        let mut ledger = Ledger::new(Limits { unconfirmed_bytes_max: 1_000, ..LIMITS });
        let mut notes = 0;
        while ledger.note(tag(), 0).is_ok() {
            notes += 1;
            assert!(notes < 1_000, "notes are free");
        }
        assert_eq!(ledger.append(SUBJECT, None, 0, |_| panic!("it is full")), Err(Full));
        assert!(write(&mut ledger).0);
        ledger.pong().expect("a PING is unanswered");
        assert_eq!(collect(&mut ledger), notes);
    }
}
