//! What other threads tell a shard, and what a shard tells the control thread.
//!
//! To a shard: a bounded queue and an eventfd that the shard polls beside its sockets. To the
//! control thread: a bounded channel, with a backlog of the shard's own for when it is full.
//! Neither side ever waits for the other.

use super::correlation::ConnectionKey;
use crate::auth::{LaidDown, Revocation, Verdict};
use crate::rt::eventfd::EventFd;
use crate::session::saved::Saved;
use crate::telemetry::ShardCounters;
use bytes::Bytes;
use crossbeam::queue::ArrayQueue;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Mails that wait for one shard.
pub const MAILS_MAX: usize = 16_384;
/// Mails a shard takes in one turn; the rest waits for the next, so that a flood of mail cannot
/// keep it from its sockets.
pub const MAILS_PER_TURN_MAX: usize = 1_024;
/// Reports that wait for the control thread, of all shards together.
pub const REPORTS_MAX: usize = 65_536;
/// Reports a shard keeps back while the control thread's channel is full.
pub const REPORTS_BACKLOG_MAX: usize = 65_536;

/// What another thread tells a shard.
#[derive(Debug)]
pub enum Mail {
    /// A message from the instance-wide ExtensionData subject for an endpoint whose route is
    /// thought to be on this shard (4/ESP §Extension to communication service).
    Push {
        /// The subject the extension wants to be answered on (affinity), if any.
        reply_to: Option<Box<str>>,
        /// The ExtensionData datum, not decoded in full yet.
        datum: Bytes,
    },
    /// The endpoint now speaks through another shard and its pushes go there, or those of another
    /// tenant's endpoint of the same id: whoever speaks for it here is to be reported anew. The
    /// connections that have spoken for it stay known, since its
    /// pushes come back here when the other shard loses it.
    RouteMoved {
        /// Id of the endpoint.
        endpoint: Box<str>,
    },
    /// Endpoints now speak through another replica (9/ELCE): their routes here go, whoever speaks
    /// for them, and are reported gone. That is no news to the control thread, unless somebody here
    /// has claimed them since. Those of one event come in one mail: when a fleet moves, there are
    /// many.
    Roamed {
        /// Ids of the endpoints.
        endpoints: Box<[Box<str>]>,
    },
    /// The client id of this connection has connected on another shard: it must end
    /// (MQTT-3.1.4-3). The registry knows who inherits its session.
    Takeover {
        /// The connection that has owned the client id until now.
        connection: ConnectionKey,
    },
    /// A session for a connection of this shard that waits for it: that of the owner before, who
    /// has ended.
    SessionMoved {
        /// The connection that waits for it.
        to: ConnectionKey,
        /// What the registry knows its client id by.
        name: Arc<str>,
        /// The session, if it outlived its connection.
        saved: Option<Box<Saved>>,
    },
    /// A clerk of this process has answered a question of this shard.
    Answered {
        /// The number of the question.
        ask: u64,
        /// The answer.
        verdict: Verdict,
    },
    /// Whether the place of an endpoint that may be in one place only is here.
    Placed {
        /// The number under which it was asked.
        ask: u64,
        /// Whether it is; then the directory has it here already.
        is_granted: bool,
    },
    /// A tenant demands something else of its clients from now on.
    Enforcement {
        /// The tenant.
        tenant: Box<str>,
        /// What has been laid down for it, all of it.
        demands: LaidDown,
    },
    /// A provider has revoked something: whoever depends on it is put out.
    Revoked(Arc<Revocation>),
    /// Revocations may have been missed: what remote providers have said is asked for again.
    Doubt,
    /// Mails to this shard were given up, so that anything may have been missed: everybody is put
    /// out and nothing that was said of anybody holds any more. What tenants demand is not among
    /// what was given up.
    Distrust,
    /// Stop gracefully: accept no more, say goodbye, flush and confirm, then [`Report::Drained`].
    Drain,
}

/// What a shard tells the control thread.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// The endpoint speaks through this shard now.
    EndpointHere {
        /// The reporting shard.
        shard: u16,
        /// Id of the endpoint.
        endpoint: Box<str>,
        /// The application version it speaks as.
        app_version: Box<str>,
    },
    /// A connection wants to speak for an endpoint that may be in one place only.
    EndpointWanted {
        /// The reporting shard.
        shard: u16,
        /// Under what number [`Mail::Placed`] answers.
        ask: u64,
        /// Id of the endpoint.
        endpoint: Box<str>,
        /// The application version it speaks as.
        app_version: Box<str>,
    },
    /// No connection that has spoken for the endpoint is left on this shard.
    EndpointGone {
        /// The reporting shard.
        shard: u16,
        /// Id of the endpoint.
        endpoint: Box<str>,
    },
    /// The shard has drained and its thread ends.
    Drained {
        /// The reporting shard.
        shard: u16,
    },
    /// The shard cannot go on, and its thread ends.
    Failed {
        /// The reporting shard.
        shard: u16,
        /// What went wrong, for the operator.
        why: String,
    },
}

#[derive(Debug)]
struct Shared {
    mails: ArrayQueue<Mail>,
    /// Set by a sender before it makes `event` readable, taken back by the shard before it looks
    /// into the queue. While it is set the shard is going to look, and nobody needs to wake it.
    signalled: AtomicBool,
    event: EventFd,
}

impl Shared {
    /// Makes sure that the shard looks into the queue after this call.
    ///
    /// Why no wake-up is lost. All accesses to `signalled` are read-modify-writes, so they stand
    /// in one order and each reads what the one before it wrote. A sender pushes, then swaps in
    /// `true`; the shard swaps in `false`, then pops.
    /// - The sender read `false`: it signals, and the shard will read the eventfd and look again.
    /// - The sender read `true`: the shard's next swap comes later in that order and reads what
    ///   this or a later sender wrote, so it sees all they did before: the pushed mail. That swap
    ///   does come, because the sender that turned `false` into `true` signals.
    ///
    /// The shard reads the eventfd *before* its swap: a signal that follows the swap is therefore
    /// never eaten. The price is a spurious wake-up now and then.
    fn wake(&self) {
        if !self.signalled.swap(true, SeqCst) {
            let signalled = self.event.signal();
            debug_assert!(signalled.is_ok(), "an eventfd takes a signal: {signalled:?}");
        }
    }
}

/// The end of a mailbox that other threads hold.
#[derive(Clone, Debug)]
pub struct MailSender(Arc<Shared>);

impl MailSender {
    /// Puts a mail into the shard's mailbox and wakes the shard. Never waits.
    ///
    /// # Errors
    /// The mail itself when [`MAILS_MAX`] mails wait already.
    pub fn post(&self, mail: Mail) -> Result<(), Mail> {
        self.0.mails.push(mail)?;
        self.0.wake();
        Ok(())
    }
}

/// The end of a mailbox that the shard holds. Its descriptor is readable when there is mail.
#[derive(Debug)]
pub struct Mailbox(Arc<Shared>);

/// A mailbox with its first sender.
///
/// # Errors
/// When the process has no descriptor left.
pub fn mailbox() -> io::Result<(MailSender, Mailbox)> {
    let shared = Arc::new(Shared {
        mails: ArrayQueue::new(MAILS_MAX),
        signalled: AtomicBool::new(false),
        event: EventFd::new()?,
    });
    Ok((MailSender(shared.clone()), Mailbox(shared)))
}

impl Mailbox {
    /// Gives the waiting mails to `take`, [`MAILS_PER_TURN_MAX`] at most; returns how many. To be
    /// called when the descriptor is readable; it stays readable if there is more.
    pub fn drain(&mut self, mut take: impl FnMut(Mail)) -> usize {
        let cleared = self.0.event.clear();
        debug_assert!(cleared.is_ok(), "an eventfd can be read: {cleared:?}");
        self.0.signalled.swap(false, SeqCst);
        for taken in 0..MAILS_PER_TURN_MAX {
            match self.0.mails.pop() {
                Some(mail) => take(mail),
                None => return taken,
            }
        }
        if !self.0.mails.is_empty() {
            self.0.wake();
        }
        MAILS_PER_TURN_MAX
    }
}

impl AsRawFd for Mailbox {
    fn as_raw_fd(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }
}

/// A shard's way to tell the control thread something without ever waiting for it.
#[derive(Debug)]
pub struct Reporter {
    sender: mpsc::Sender<Report>,
    shard: u16,
    /// Reports that found the channel full, oldest first. While there are any, new ones queue
    /// behind them: the directory depends on their order.
    backlog: VecDeque<Report>,
    counters: Arc<ShardCounters>,
}

/// The channel of reports: one sender to be cloned for each shard, one receiver.
#[must_use]
pub fn reports() -> (mpsc::Sender<Report>, mpsc::Receiver<Report>) {
    mpsc::channel(REPORTS_MAX)
}

impl Reporter {
    /// Reports of this shard. What cannot be kept is counted in `counters`.
    #[must_use]
    pub fn new(sender: mpsc::Sender<Report>, shard: u16, counters: Arc<ShardCounters>) -> Self {
        Self { sender, shard, backlog: VecDeque::new(), counters }
    }

    /// A second reporter of the same shard, for what is to be said after its end.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::new(self.sender.clone(), self.shard, self.counters.clone())
    }

    /// The endpoint speaks through this shard now, as that application version.
    pub fn endpoint_here(&mut self, endpoint: Box<str>, app_version: Box<str>) {
        self.report(Report::EndpointHere { shard: self.shard, endpoint, app_version });
    }

    /// A connection wants to speak for an endpoint that may be in one place only.
    pub fn endpoint_wanted(&mut self, ask: u64, endpoint: Box<str>, app_version: Box<str>) {
        let shard = self.shard;
        self.report(Report::EndpointWanted { shard, ask, endpoint, app_version });
    }

    /// No connection that has spoken for the endpoint is left on this shard.
    pub fn endpoint_gone(&mut self, endpoint: Box<str>) {
        self.report(Report::EndpointGone { shard: self.shard, endpoint });
    }

    /// The shard has drained. The last report of a shard: see [`Self::finish`].
    pub fn drained(&mut self) {
        self.report(Report::Drained { shard: self.shard });
    }

    /// The shard cannot go on.
    pub fn failed(&mut self, why: String) {
        self.report(Report::Failed { shard: self.shard, why });
    }

    fn report(&mut self, report: Report) {
        if self.backlog.is_empty() {
            match self.sender.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Full(report)) => self.keep(report),
                // The control thread has ended, and nobody is left to tell.
                Err(TrySendError::Closed(_)) => self.counters.reports_lost.add(1),
            }
        } else {
            self.keep(report);
        }
    }

    fn keep(&mut self, report: Report) {
        // The end of a shard is always told: only reports about endpoints are lost to the bound.
        let of_endpoint =
            matches!(report, Report::EndpointHere { .. } | Report::EndpointGone { .. });
        if of_endpoint && self.backlog.len() >= REPORTS_BACKLOG_MAX {
            self.counters.reports_lost.add(1);
        } else {
            self.backlog.push_back(report);
        }
    }

    /// Tries to send what was kept back. To be called at every tick; costs nothing when nothing
    /// was. Returns whether all is sent, which a shard waits for before its thread ends.
    pub fn retry(&mut self) -> bool {
        while let Some(report) = self.backlog.pop_front() {
            match self.sender.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Full(report)) => {
                    self.backlog.push_front(report);
                    return false;
                }
                Err(TrySendError::Closed(_)) => {
                    self.counters.reports_lost.add(1 + self.backlog.len() as u64);
                    self.backlog.clear();
                }
            }
        }
        true
    }

    /// Sends what was kept back, waiting for room: for a shard whose loop has ended.
    pub fn finish(mut self) {
        while let Some(report) = self.backlog.pop_front() {
            if self.sender.blocking_send(report).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::eventfd::testing::wait_readable;
    use crate::rt::ready::Readiness;
    use crate::rt::runtime;
    use std::thread;
    use std::time::{Duration, Instant};

    fn moved(endpoint: &str) -> Mail {
        Mail::RouteMoved { endpoint: endpoint.into() }
    }

    fn readable(mailbox: &Mailbox, timeout: Duration) -> bool {
        wait_readable(mailbox.as_raw_fd(), timeout).expect("polls")
    }

    #[test]
    fn mail_makes_the_descriptor_readable_until_it_is_taken() {
        let (sender, mut mailbox) = mailbox().expect("a descriptor is left");
        assert!(!readable(&mailbox, Duration::ZERO));
        sender.post(moved("a")).expect("room");
        sender.post(moved("b")).expect("room");
        assert!(readable(&mailbox, Duration::ZERO));
        let mut taken = Vec::new();
        assert_eq!(mailbox.drain(|mail| taken.push(mail)), 2);
        assert!(matches!(&taken[1], Mail::RouteMoved { endpoint } if &**endpoint == "b"));
        assert!(!readable(&mailbox, Duration::ZERO));
        assert_eq!(mailbox.drain(|_| panic!("nothing is left")), 0);
    }

    #[test]
    fn a_full_mailbox_gives_the_mail_back_and_is_emptied_turn_by_turn() {
        let (sender, mut mailbox) = mailbox().expect("a descriptor is left");
        for _ in 0..MAILS_MAX {
            sender.post(Mail::Drain).expect("room");
        }
        assert!(matches!(sender.post(moved("late")), Err(Mail::RouteMoved { .. })));
        let mut taken = 0;
        while readable(&mailbox, Duration::ZERO) {
            taken += mailbox.drain(|_| {});
        }
        assert_eq!(taken, MAILS_MAX);
        sender.post(moved("in time")).expect("room again");
        assert!(readable(&mailbox, Duration::ZERO));
    }

    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const SENDERS: usize = 3;
        const MAILS_EACH: usize = 20_000;
        let (sender, mut mailbox) = mailbox().expect("a descriptor is left");
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let sender = sender.clone();
                thread::spawn(move || {
                    for number in 0..MAILS_EACH {
                        while sender.post(Mail::Drain).is_err() {
                            thread::yield_now();
                        }
                        // Gaps let the reader fall asleep in between, which is what is tested.
                        while number % 64 == 0 && !sender.0.mails.is_empty() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        // The reader looks only when it is woken: a lost wake-up ends in the timeout.
        let mut taken = 0;
        while taken < SENDERS * MAILS_EACH {
            assert!(readable(&mailbox, Duration::from_secs(10)), "lost after {taken} mails");
            taken += mailbox.drain(|_| {});
        }
        for sender in senders {
            sender.join().expect("sender ends");
        }
        assert_eq!(taken, SENDERS * MAILS_EACH);
    }

    #[test]
    fn a_shard_asleep_in_its_runtime_wakes_for_every_mail() {
        const MAILS: usize = 5_000;
        let (sender, mut mailbox) = mailbox().expect("a descriptor is left");
        let (taken, is_taken) = mpsc::channel(1);
        let mut is_taken = is_taken;
        let other = thread::spawn(move || {
            for _ in 0..MAILS {
                sender.post(Mail::Drain).expect("room");
                is_taken.blocking_recv().expect("the shard lives");
            }
        });
        let shard = async || {
            let readiness = Readiness::new(&mailbox).expect("a descriptor is left");
            let mut count = 0;
            while count < MAILS {
                readiness.ready().await.expect("waits");
                for _ in 0..mailbox.drain(|_| {}) {
                    taken.try_send(()).expect("one mail at a time");
                    count += 1;
                }
            }
        };
        runtime::run(None, shard).expect("a runtime");
        other.join().expect("the other thread ends well");
    }

    fn reporter(room: usize) -> (Reporter, mpsc::Receiver<Report>, Arc<ShardCounters>) {
        let (sender, receiver) = mpsc::channel(room);
        let counters = Arc::new(ShardCounters::new());
        (Reporter::new(sender, 3, counters.clone()), receiver, counters)
    }

    #[test]
    fn reports_keep_their_order_when_the_channel_is_full() {
        let (mut reporter, mut receiver, counters) = reporter(1);
        reporter.endpoint_here("a".into(), "v".into());
        reporter.endpoint_gone("a".into());
        reporter.drained();
        assert!(!reporter.retry());
        let here = Report::EndpointHere { shard: 3, endpoint: "a".into(), app_version: "v".into() };
        assert_eq!(receiver.try_recv(), Ok(here));
        reporter.endpoint_here("b".into(), "v".into());
        assert!(!reporter.retry());
        let gone = Report::EndpointGone { shard: 3, endpoint: "a".into() };
        assert_eq!(receiver.try_recv(), Ok(gone));
        reporter.retry();
        assert_eq!(receiver.try_recv(), Ok(Report::Drained { shard: 3 }));
        assert!(reporter.retry());
        assert!(matches!(receiver.try_recv(), Ok(Report::EndpointHere { .. })));
        assert_eq!(counters.reports_lost.get(), 0);
    }

    #[test]
    fn what_exceeds_the_backlog_is_counted_but_the_end_is_told() {
        let (mut reporter, mut receiver, counters) = reporter(1);
        for _ in 0..1 + REPORTS_BACKLOG_MAX + 2 {
            reporter.endpoint_here("a".into(), "v".into());
        }
        assert_eq!(counters.reports_lost.get(), 2);
        reporter.failed("broken".into());
        assert_eq!(counters.reports_lost.get(), 2);
        let finisher = thread::spawn(move || reporter.finish());
        let last = std::iter::from_fn(|| receiver.blocking_recv()).last();
        finisher.join().expect("finisher ends");
        assert_eq!(last, Some(Report::Failed { shard: 3, why: "broken".into() }));
    }

    #[test]
    fn a_control_thread_that_has_gone_is_no_obstacle() {
        let (mut reporter, receiver, counters) = reporter(1);
        reporter.endpoint_here("a".into(), "v".into());
        reporter.endpoint_here("b".into(), "v".into());
        drop(receiver);
        let started = Instant::now();
        assert!(reporter.retry());
        reporter.drained();
        assert_eq!(counters.reports_lost.get(), 2);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
