//! The shard's NATS connection: keeps one connection alive, over all known servers and for good.
//!
//! [`live`](super::live) is what happens on one connection, [`dial`](super::dial) how it is made.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dial::{Candidates, Connection, Dialer, Random};
use super::ledger::Ledger;
use super::live::Live;
use crate::rt::task::{Notify, Task, spawn};
use crate::telemetry::LinkStatus;

/// While NATS cannot be reached, this is how often the log says so again.
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);

/// What a shard does about the events of its link. Called from the link's tasks, never while the
/// ledger is borrowed; an implementation must not keep it borrowed.
pub trait Handler {
    /// NATS has accepted the link. Payloads may be up to `payload_bytes_max` bytes. Called again
    /// when the server changes that.
    fn on_up(&self, payload_bytes_max: usize);
    /// The link is down. What the ledger holds is kept.
    fn on_down(&self, why: &str);
    /// A message on one of the link's subjects.
    fn on_message(&self, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]);
    /// Groups are confirmed: collect them with [`Ledger::confirmed`] until there are no more.
    fn on_confirmed(&self);
    /// Nobody is subscribed to a subject published to, which newer servers name. The ledger has
    /// already counted it; affected records come out of their group as
    /// [`Verdict::NoResponders`](super::Verdict::NoResponders).
    fn on_no_responders(&self, subject: Option<&[u8]>) {
        let _ = subject;
    }
    /// A batch of so many messages is being written.
    fn on_batch(&self, messages: u32) {
        let _ = messages;
    }
    /// A batch has been written: what needs no confirmation has left the ledger.
    fn on_written(&self) {}
    /// Everything that had come is dealt with: what was left to do at the end of a turn is due.
    fn on_turn_end(&self) {}
    /// The server reports an error. Most of them end the connection.
    fn on_error(&self, text: &str) {
        let _ = text;
    }
}

/// A shard's connection to NATS, kept alive over all known servers.
#[derive(Debug)]
pub struct Link {
    dialer: Arc<Dialer>,
    client_name: String,
    subjects: Vec<String>,
    ledger: Rc<RefCell<Ledger>>,
    status: Arc<LinkStatus>,
    /// The connection in use; `None` while down.
    live: RefCell<Option<Rc<Live>>>,
    payload_bytes_max: Cell<usize>,
    is_closing: Cell<bool>,
    /// Ends the pause between two rounds of attempts.
    close_requested: Notify,
}

impl Link {
    /// A link that is not started. `client_name` is shown by the server's monitoring; `subjects`
    /// are subscribed to on every connection, before the link is reported up.
    pub fn new(
        dialer: Arc<Dialer>,
        client_name: impl Into<String>,
        subjects: Vec<String>,
        ledger: Rc<RefCell<Ledger>>,
        status: Arc<LinkStatus>,
    ) -> Rc<Link> {
        Rc::new(Link {
            dialer,
            client_name: client_name.into(),
            subjects,
            ledger,
            status,
            live: RefCell::new(None),
            payload_bytes_max: Cell::new(0),
            is_closing: Cell::new(false),
            close_requested: Notify::new(),
        })
    }

    /// Starts to connect, and keeps the link up until [`close`](Self::close); the task ends then.
    /// To be called once.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(self: &Rc<Link>, handler: Rc<dyn Handler>) -> Task<()> {
        spawn(self.clone().run(handler))
    }

    /// Writes what the ledger holds, now or as soon as the write in flight has ended. Cheap; to be
    /// called at the end of a turn in which something was appended.
    pub fn flush(&self) {
        if let Some(live) = &*self.live.borrow()
            && self.ledger.borrow().has_bytes_to_write()
        {
            live.wake_writer();
        }
    }

    /// Whether NATS has accepted the link.
    pub fn is_up(&self) -> bool {
        self.live.borrow().is_some()
    }

    /// The largest payload the server takes, in bytes; the last one known while the link is down, 0
    /// before it was ever up.
    pub fn payload_bytes_max(&self) -> usize {
        match &*self.live.borrow() {
            Some(live) => live.payload_bytes_max(),
            None => self.payload_bytes_max.get(),
        }
    }

    /// Ends the connection at once and stays down. To lose nothing, wait until
    /// [`Ledger::is_empty`] first.
    pub fn close(&self) {
        self.is_closing.set(true);
        self.close_requested.notify();
        if let Some(live) = &*self.live.borrow() {
            live.end("ringgate shuts down");
        }
    }

    async fn run(self: Rc<Link>, handler: Rc<dyn Handler>) {
        let settings = &self.dialer.settings;
        let mut random = Random::new();
        let mut delay = settings.reconnect_delay_min;
        let mut log = FailureLog::default();
        let mut last = None;
        while !self.is_closing.get() {
            if let Some(connection) = self.try_all(last, &mut random, &mut log).await {
                last = Some(connection.address);
                let came_up = Instant::now();
                let is_leaving = self.serve(connection, handler.clone(), &mut log).await;
                // A server that ends every connection soon is left alone for longer and longer.
                if came_up.elapsed() >= settings.reconnect_delay_max {
                    delay = settings.reconnect_delay_min;
                    if is_leaving {
                        continue;
                    }
                }
            }
            if !self.is_closing.get() {
                self.close_requested.notified_within(random.shorten(delay)).await;
                delay = (delay * 2).min(settings.reconnect_delay_max);
            }
        }
    }

    /// Tries every known address once, until one takes us.
    async fn try_all(
        &self,
        last: Option<SocketAddr>,
        random: &mut Random,
        log: &mut FailureLog,
    ) -> Option<Connection> {
        let Candidates { targets, unresolved } = self.dialer.candidates(last, random);
        if let Some(why) = unresolved {
            self.failed(&why, log);
        }
        for target in targets {
            if self.is_closing.get() {
                return None;
            }
            match self.dialer.dial(&target, &self.client_name, &self.subjects).await {
                Ok(connection) => return Some(connection),
                Err(why) => self.failed(&why, log),
            }
        }
        None
    }

    fn failed(&self, why: &str, log: &mut FailureLog) {
        self.status.failed(why);
        if log.is_due() {
            tracing::warn!(link = self.client_name, why, "NATS cannot be reached; trying on");
        }
    }

    /// Uses a connection until it ends; true if the server asked us to go elsewhere.
    async fn serve(
        &self,
        connection: Connection,
        handler: Rc<dyn Handler>,
        log: &mut FailureLog,
    ) -> bool {
        if self.is_closing.get() {
            connection.closer.shutdown();
            return false;
        }
        let Connection { server, info, input, sender, closer, .. } = connection;
        let label = server.label();
        tracing::info!(
            link = self.client_name,
            server = label,
            version = info.version,
            payload_bytes_max = info.max_payload,
            "connected to NATS"
        );
        *log = FailureLog::default();
        let (dialer, ledger) = (self.dialer.clone(), self.ledger.clone());
        let live = Live::new(dialer, server, closer, ledger, handler.clone());
        *self.live.borrow_mut() = Some(live.clone());
        self.status.went_up(&label);
        let why = live.run(&info, input, sender).await;
        *self.live.borrow_mut() = None;
        self.payload_bytes_max.set(live.payload_bytes_max());
        self.status.went_down(&format!("{label}: {why}"));
        if !self.is_closing.get() && log.is_due() {
            tracing::warn!(link = self.client_name, server = label, why, "lost NATS");
        }
        handler.on_down(&why);
        live.is_leaving()
    }
}

/// Says the first failure at once and then only now and again.
#[derive(Debug, Default)]
struct FailureLog {
    last: Option<Instant>,
}

impl FailureLog {
    fn is_due(&mut self) -> bool {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= REMINDER_INTERVAL);
        if is_due {
            self.last = Some(Instant::now());
        }
        is_due
    }
}
