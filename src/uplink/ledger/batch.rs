//! One batch of the ledger: the bytes of its messages, the records of those somebody must hear
//! about, and how many messages went to each subject.
//!
//! # Which messages a notice hits
//!
//! A `no responders` notice names at best the subject, not the message. For a group with `n`
//! messages to a subject and `k` notices for it:
//!
//! | k | hit |
//! |---|---|
//! | n | all of them |
//! | less, after a group that ended without responders | the first k: interest has appeared |
//! | less otherwise | the last k: interest vanished on the way |
//!
//! This is exact as long as interest changes at most once while a group is processed.

use std::num::NonZeroU16;

/// What one record costs against the bound of unconfirmed bytes.
pub const RECORD_BYTES: usize = size_of::<Record>();
/// Records a spare batch may keep room for.
const SPARE_RECORDS_MAX: usize = 4096;
/// A spare batch's buffer may be at most this many times `batch_bytes_max`.
const SPARE_BYTES_MULTIPLE: usize = 2;

/// A subject as the ledger knows it: a hash. Two subjects with the same hash share their
/// `no responders` notices, nothing worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubjectId(u32);

impl SubjectId {
    /// The id of a subject (FNV-1a, 32 bits).
    pub const fn of(subject: &[u8]) -> SubjectId {
        let mut hash = 0x811c_9dc5_u32;
        let mut index = 0;
        while index < subject.len() {
            hash = (hash ^ subject[index] as u32).wrapping_mul(0x0100_0193);
            index += 1;
        }
        SubjectId(hash)
    }
}

/// Who sent a message and what it is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The shard's key of the device connection.
    pub connection: u32,
    /// Tells apart connections that used the same key one after the other.
    pub generation: u32,
    /// The MQTT packet identifier; `None` exactly for QoS 0.
    pub packet_id: Option<NonZeroU16>,
    /// MQTT quality of service: 0, 1 (owed a PUBACK) or 2 (owed a PUBREC).
    pub qos: u8,
    /// The message carries a 1/KP request id, so that an error can be answered.
    pub has_request_id: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// NATS has taken it.
    Taken,
    /// NATS has taken it, but nobody was subscribed to its subject. The acknowledgement of QoS 1
    /// and 2 is still positive.
    NoResponders,
    /// NATS does not let us publish to its subject.
    Refused,
    /// It was dropped: larger than the `max_payload` of the server now connected.
    TooLarge,
}

/// The outcome of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// As given on append.
    pub tag: Tag,
    /// What became of the message.
    pub verdict: Verdict,
    /// Its `PUB` frame; empty for a note and for [`Verdict::TooLarge`].
    pub frame: &'a [u8],
}

impl<'a> Outcome<'a> {
    /// The payload inside the frame; empty where the frame is.
    pub fn payload(&self) -> &'a [u8] {
        match frame_extent(self.frame) {
            Some(extent) => &self.frame[extent.payload_at..extent.payload_at + extent.payload_len],
            None => &[],
        }
    }
}

/// A confirmed group on its way through the shard.
#[derive(Debug)]
pub struct Confirmed {
    pub(super) batch: Batch,
    latency_us: u64,
}

impl Confirmed {
    pub(super) fn new(batch: Batch, now_us: u64) -> Confirmed {
        let latency_us = now_us.saturating_sub(batch.first_us);
        Confirmed { batch, latency_us }
    }

    /// Microseconds from the first append of the batch to now; `None` for a bare PING.
    pub fn latency_us(&self) -> Option<u64> {
        (!self.batch.is_empty()).then_some(self.latency_us)
    }

    /// The records somebody must hear about, in the order of appending: every one of QoS 1 and 2,
    /// and those of QoS 0 that NATS has not simply taken.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome<'_>> {
        self.batch.records.iter().filter_map(|record| {
            let verdict = self.batch.verdict(record);
            let is_owed = record.tag.packet_id.is_some() || verdict != Verdict::Taken;
            let frame = &self.batch.bytes[record.range()];
            is_owed.then_some(Outcome { tag: record.tag, verdict, frame })
        })
    }
}

/// A message somebody must hear about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    tag: Tag,
    subject: SubjectId,
    /// Place among the messages of its batch to the same subject.
    ordinal: u32,
    offset: u32,
    /// Length of its frame; 0 for a note.
    len: u32,
    is_too_large: bool,
}

impl Record {
    // A batch is bounded by its limit and one message, far below 4 GiB.
    pub(super) fn new(tag: Tag, subject: SubjectId, ordinal: u32, at: usize, len: usize) -> Record {
        Record { tag, subject, ordinal, offset: at as u32, len: len as u32, is_too_large: false }
    }

    pub(super) fn note(tag: Tag, at: usize) -> Record {
        Record::new(tag, SubjectId(0), 0, at, 0)
    }

    fn is_note(&self) -> bool {
        self.len == 0
    }

    fn range(&self) -> std::ops::Range<usize> {
        self.offset as usize..(self.offset + self.len) as usize
    }
}

/// Messages of a group to one subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    pub(super) subject: SubjectId,
    /// Messages of the group in batches before this one.
    before: u32,
    /// Messages of the group, `before` included.
    pub(super) messages: u32,
    pub(super) notices: u32,
    pub(super) refused: bool,
    /// First and past-the-last message of the group that had no responders.
    hit: (u32, u32),
}

impl Tally {
    /// Decides which messages the notices hit; true if the subject has no responders in the end.
    pub(super) fn settle(&mut self, was_silent: bool) -> bool {
        let total = self.messages;
        let hits = self.notices.min(total);
        let interest_appeared = was_silent && hits < total;
        self.hit = if interest_appeared { (0, hits) } else { (total - hits, total) };
        hits > 0 && !interest_appeared
    }
}

/// How many messages [`Batch::strip_to_acknowledged`] kept and gave up.
pub(super) struct Stripped {
    pub(super) resent: u32,
    pub(super) lost: u32,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The frames, then `PING` once written with one. Empty while a write has them.
    pub(super) bytes: Vec<u8>,
    pub(super) frame_bytes: usize,
    pub(super) records: Vec<Record>,
    pub(super) tallies: Vec<Tally>,
    /// Where in `tallies` the last message was counted.
    last_tally: usize,
    /// Messages in it.
    pub(super) messages: u32,
    /// When the first message was appended.
    pub(super) first_us: u64,
    pub(super) has_ping: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.frame_bytes == 0 && self.records.is_empty()
    }

    /// What the batch costs against the bound of unconfirmed bytes.
    pub(super) fn charge(&self) -> usize {
        self.frame_bytes + self.records.len() * RECORD_BYTES
    }

    /// Counts a message to `subject` and gives its ordinal in the batch.
    pub(super) fn count(&mut self, subject: SubjectId) -> u32 {
        let is_last = |tally: &Tally| tally.subject == subject;
        if !self.tallies.get(self.last_tally).is_some_and(is_last) {
            self.last_tally = tally_of(&mut self.tallies, subject);
        }
        self.messages += 1;
        let tally = &mut self.tallies[self.last_tally];
        tally.messages += 1;
        tally.messages - 1
    }

    /// Makes this batch the end of its group: the run of batches before it is counted in. (A
    /// refusal is not: the server repeats it for each message, so for those of this batch, too.)
    pub(super) fn join_run(&mut self, run: &mut Vec<Tally>) {
        for earlier in run.drain(..) {
            let index = tally_of(&mut self.tallies, earlier.subject);
            let tally = &mut self.tallies[index];
            tally.before = earlier.messages;
            tally.messages += earlier.messages;
            tally.notices += earlier.notices;
        }
    }

    /// Adds this batch to the run of batches whose group a later batch will end.
    pub(super) fn leave_to_run(&mut self, run: &mut Vec<Tally>) {
        for own in self.tallies.drain(..) {
            let index = tally_of(run, own.subject);
            run[index].messages += own.messages;
        }
    }

    fn verdict(&self, record: &Record) -> Verdict {
        if record.is_too_large {
            return Verdict::TooLarge;
        }
        if record.is_note() {
            return Verdict::Taken;
        }
        let Some(tally) = self.tallies.iter().find(|tally| tally.subject == record.subject) else {
            return Verdict::Taken;
        };
        let ordinal = tally.before + record.ordinal;
        if tally.refused {
            Verdict::Refused
        } else if (tally.hit.0..tally.hit.1).contains(&ordinal) {
            Verdict::NoResponders
        } else {
            Verdict::Taken
        }
    }

    /// Makes a written batch ready to be sent again: only messages of QoS 1 and 2 and notes stay.
    pub(super) fn strip_to_acknowledged(&mut self) -> Stripped {
        let total: u32 = self.tallies.iter().map(|tally| tally.messages).sum();
        self.forget_counts();
        let mut records = std::mem::take(&mut self.records);
        let mut end = 0;
        let mut resent = 0;
        records.retain_mut(|record| {
            if record.tag.packet_id.is_none() {
                return false;
            }
            if !record.is_note() {
                record.ordinal = self.count(record.subject);
                resent += 1;
            }
            self.bytes.copy_within(record.range(), end);
            record.offset = end as u32;
            end += record.len as usize;
            true
        });
        self.records = records;
        self.truncate(end);
        Stripped { resent, lost: total - resent }
    }

    /// Drops the messages of an unwritten batch whose payload is larger than `payload_bytes_max`
    /// and says how many there were.
    pub(super) fn drop_too_large(&mut self, payload_bytes_max: usize) -> u32 {
        self.forget_counts();
        let mut dropped = 0;
        let mut at = 0;
        let mut end = 0;
        let mut index = 0;
        while let Some(extent) = frame_extent(&self.bytes[at..self.frame_bytes]) {
            let is_kept = extent.payload_len <= payload_bytes_max;
            let subject = SubjectId::of(subject_of(&self.bytes[at..at + extent.len]));
            let ordinal = if is_kept { self.count(subject) } else { 0 };
            while let Some(record) = self.records.get_mut(index).filter(|r| r.offset as usize <= at)
            {
                if !record.is_note() {
                    record.ordinal = ordinal;
                    record.is_too_large = !is_kept;
                    record.len = if is_kept { record.len } else { 0 };
                }
                record.offset = end as u32;
                index += 1;
            }
            if is_kept {
                self.bytes.copy_within(at..at + extent.len, end);
                end += extent.len;
            } else {
                dropped += 1;
            }
            at += extent.len;
        }
        for note in &mut self.records[index..] {
            note.offset = end as u32;
        }
        self.truncate(end);
        dropped
    }

    pub(super) fn clear(&mut self, batch_bytes_max: usize) {
        self.truncate(0);
        self.records.clear();
        self.forget_counts();
        self.first_us = 0;
        if self.bytes.capacity() > batch_bytes_max.saturating_mul(SPARE_BYTES_MULTIPLE) {
            self.bytes.shrink_to(batch_bytes_max);
        }
        if self.records.capacity() > SPARE_RECORDS_MAX {
            self.records.shrink_to(SPARE_RECORDS_MAX);
        }
    }

    fn truncate(&mut self, frame_bytes: usize) {
        self.bytes.truncate(frame_bytes);
        self.frame_bytes = frame_bytes;
        self.has_ping = false;
    }

    fn forget_counts(&mut self) {
        self.tallies.clear();
        self.last_tally = 0;
        self.messages = 0;
    }
}

/// The index of the subject's tally, which is added where missing.
fn tally_of(tallies: &mut Vec<Tally>, subject: SubjectId) -> usize {
    tallies.iter().position(|tally| tally.subject == subject).unwrap_or_else(|| {
        let (before, messages, notices, refused, hit) = (0, 0, 0, false, (0, 0));
        tallies.push(Tally { subject, before, messages, notices, refused, hit });
        tallies.len() - 1
    })
}

/// The subject in a `PUB` frame.
fn subject_of(frame: &[u8]) -> &[u8] {
    frame.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

struct FrameExtent {
    len: usize,
    payload_at: usize,
    payload_len: usize,
}

/// The extent of the `PUB` frame that `bytes` begins with.
fn frame_extent(bytes: &[u8]) -> Option<FrameExtent> {
    let line_end = memchr::memchr(b'\r', bytes)?;
    let size_at = memchr::memrchr(b' ', &bytes[..line_end])? + 1;
    let payload_len = std::str::from_utf8(&bytes[size_at..line_end]).ok()?.parse().ok()?;
    let payload_at = line_end + 2;
    Some(FrameExtent { len: payload_at + payload_len + 2, payload_at, payload_len })
}
