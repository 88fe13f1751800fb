//! One connection while it lasts.
//!
//! Three tasks on the shard's runtime: the link's own reads, the *writer* writes (and is the only
//! one that does), the *watch* asks for PONGs. To give the connection up, anybody shuts its socket
//! down: the pending read and write then end by themselves, so that no I/O is ever dropped halfway.
//! The ledger and the cells here are borrowed between awaits only, and never while the handler
//! runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dial::{Dialer, Input, parse_info};
use super::ledger::{Ledger, SubjectId};
use super::link::Handler;
use super::servers::Server;
use super::tls::Sender;
use crate::codec::nats::{self, HEADER_SUBJECT, STATUS_NO_RESPONDERS, ServerInfo, ServerOp};
use crate::rt::stream::Closer;
use crate::rt::task::{Notify, Task, sleep, spawn};

/// A server that is about to shut down is left after this time even if a PONG is still missing.
const LAME_DUCK_WAIT: Duration = Duration::from_secs(2);
/// How often an error of the server is logged at most.
const ERROR_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Payloads a server takes that does not say (the default of nats-server).
const PAYLOAD_BYTES_MAX_DEFAULT: usize = 1024 * 1024;
/// What the server says before the subject it does not let us publish to, and after it.
const PUBLISH_REFUSED: &str = "Permissions Violation for Publish to \"";

/// See the [module](self).
pub(super) struct Live {
    dialer: Arc<Dialer>,
    server: Arc<Server>,
    closer: Closer,
    ledger: Rc<RefCell<Ledger>>,
    handler: Rc<dyn Handler>,
    payload_bytes_max: Cell<usize>,
    wakes_writer: Notify,
    wakes_watch: Notify,
    is_over: Cell<bool>,
    owes_pong: Cell<bool>,
    pongs: Cell<u64>,
    /// The server is about to shut down: one more batch with PING, then we go.
    is_leaving: Cell<bool>,
    /// The first reason given for the end.
    reason: RefCell<Option<String>>,
    error_logged: Cell<Option<Instant>>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("server", &self.server.label()).finish_non_exhaustive()
    }
}

impl Live {
    pub(super) fn new(
        dialer: Arc<Dialer>,
        server: Arc<Server>,
        closer: Closer,
        ledger: Rc<RefCell<Ledger>>,
        handler: Rc<dyn Handler>,
    ) -> Rc<Live> {
        Rc::new(Live {
            dialer,
            server,
            closer,
            ledger,
            handler,
            payload_bytes_max: Cell::new(0),
            wakes_writer: Notify::new(),
            wakes_watch: Notify::new(),
            is_over: Cell::new(false),
            owes_pong: Cell::new(false),
            pongs: Cell::new(0),
            is_leaving: Cell::new(false),
            reason: RefCell::new(None),
            error_logged: Cell::new(None),
        })
    }

    /// Runs the connection to its end and says why it ended. The ledger is ready for the next one
    /// then.
    pub(super) async fn run(
        self: &Rc<Live>,
        info: &ServerInfo,
        mut input: Input,
        sender: Sender,
    ) -> String {
        self.ledger.borrow_mut().connected(info_payload_bytes_max(info));
        self.take_info(info);
        let writer = self.start_writer(sender);
        self.start_watch();
        self.wake_writer();
        let why = self.read_until_end(&mut input).await;
        self.end(why);
        self.is_over.set(true);
        self.wakes_watch.notify();
        self.wake_writer();
        writer.await;
        // A PONG may have come for the write that has only now ended.
        self.collect_confirmed();
        self.ledger.borrow_mut().disconnected();
        self.reason.take().unwrap_or_default()
    }

    /// Ends the connection; the first reason given is the one reported.
    pub(super) fn end(&self, reason: impl Into<String>) {
        self.reason.borrow_mut().get_or_insert_with(|| reason.into());
        self.closer.shutdown();
    }

    pub(super) fn wake_writer(&self) {
        self.wakes_writer.notify();
    }

    pub(super) fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.get()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    async fn read_until_end(self: &Rc<Live>, input: &mut Input) -> String {
        loop {
            match input.next(self.payload_bytes_max.get()) {
                Ok(Some((op, len))) => {
                    if let Err(why) = self.take(&op) {
                        return why;
                    }
                    input.consume(len);
                }
                Ok(None) => {
                    self.handler.on_turn_end();
                    if let Err(why) = input.fill().await {
                        return why;
                    }
                    if input.receiver.wants_write() {
                        self.wake_writer();
                    }
                }
                Err(why) => return why,
            }
        }
    }

    fn take(self: &Rc<Live>, op: &ServerOp<'_>) -> Result<(), String> {
        match *op {
            ServerOp::Msg { subject, reply, payload, .. } => {
                self.handler.on_message(subject, reply, payload);
            }
            ServerOp::HMsg { headers, payload, .. }
                if headers.status() == Some(STATUS_NO_RESPONDERS) && payload.is_empty() =>
            {
                let subject = headers.get(HEADER_SUBJECT);
                self.ledger.borrow_mut().no_responders(subject.map(SubjectId::of));
                self.handler.on_no_responders(subject);
            }
            ServerOp::HMsg { subject, reply, payload, .. } => {
                self.handler.on_message(subject, reply, payload);
            }
            ServerOp::Ping => {
                self.owes_pong.set(true);
                self.wake_writer();
            }
            ServerOp::Pong => self.take_pong()?,
            ServerOp::Info(json) => self.take_info(&parse_info(json)?),
            ServerOp::Err(text) => self.take_error(text),
            ServerOp::Ok => {}
        }
        Ok(())
    }

    fn take_pong(&self) -> Result<(), String> {
        self.ledger.borrow_mut().pong().map_err(|error| error.to_string())?;
        self.pongs.set(self.pongs.get() + 1);
        self.collect_confirmed();
        self.leave_if_done();
        Ok(())
    }

    /// Lets the handler collect what is confirmed; whether there was anything.
    fn collect_confirmed(&self) -> bool {
        let has_confirmed = self.ledger.borrow().has_confirmed();
        if has_confirmed {
            self.handler.on_confirmed();
        }
        has_confirmed
    }

    fn take_info(self: &Rc<Live>, info: &ServerInfo) {
        self.dialer.servers.discovered(&info.connect_urls, &self.server);
        let payload_bytes_max = info_payload_bytes_max(info);
        if self.payload_bytes_max.replace(payload_bytes_max) != payload_bytes_max {
            self.handler.on_up(payload_bytes_max);
        }
        if info.is_lame_duck && !self.is_leaving.replace(true) {
            tracing::info!(server = self.server.label(), "the NATS server shuts down: moving on");
            self.ledger.borrow_mut().request_ping();
            self.wake_writer();
            let live = self.clone();
            spawn(async move {
                sleep(LAME_DUCK_WAIT).await;
                live.end("the server shuts down and confirms no more");
            });
        }
    }

    /// Ends a connection that is to be left once NATS has confirmed all that was written on it.
    fn leave_if_done(&self) {
        let is_done = {
            let ledger = self.ledger.borrow();
            !ledger.is_ping_requested() && !ledger.awaits_pong()
        };
        if self.is_leaving.get() && is_done {
            self.end("the server shuts down");
        }
    }

    /// The server follows most errors by closing the connection; ours is then the reason given.
    fn take_error(&self, text: &str) {
        let refused = text.strip_prefix(PUBLISH_REFUSED).and_then(|rest| rest.strip_suffix('"'));
        match refused {
            Some(subject) => self.ledger.borrow_mut().refused(SubjectId::of(subject.as_bytes())),
            None => {
                let reason = format!("the server says \"{text}\"");
                self.reason.borrow_mut().get_or_insert(reason);
            }
        }
        let is_due = |last: Instant| last.elapsed() >= ERROR_LOG_INTERVAL;
        if self.error_logged.get().is_none_or(is_due) {
            self.error_logged.set(Some(Instant::now()));
            tracing::error!(server = self.server.label(), text, "NATS reports an error");
        }
        self.handler.on_error(text);
    }

    fn start_writer(self: &Rc<Live>, mut sender: Sender) -> Task<()> {
        let live = self.clone();
        spawn(async move {
            let mut pong = Vec::with_capacity(nats::PONG.len());
            while !live.is_over.get() {
                let written = if live.owes_pong.take() {
                    pong.clear();
                    pong.extend_from_slice(nats::PONG);
                    let (written, buffer) = sender.write_all(pong).await;
                    pong = buffer;
                    written
                } else if let Some(batch) = live.next_batch() {
                    let (written, batch) = sender.write_all(batch).await;
                    live.ledger.borrow_mut().write_done(batch);
                    live.handler.on_written();
                    if live.collect_confirmed() {
                        live.handler.on_turn_end();
                    }
                    live.leave_if_done();
                    written
                } else {
                    live.wakes_writer.notified().await;
                    sender.flush().await
                };
                if let Err(error) = written {
                    live.end(format!("writing failed: {error}"));
                    return;
                }
            }
        })
    }

    fn next_batch(&self) -> Option<Vec<u8>> {
        let mut ledger = self.ledger.borrow_mut();
        let may_write = !self.is_leaving.get() || ledger.is_ping_requested();
        let batch = if may_write { ledger.take_for_write() } else { None };
        let messages = ledger.messages_in_flight();
        drop(ledger);
        if batch.is_some() {
            self.handler.on_batch(messages);
        }
        batch
    }

    /// Asks for a PONG now and then, and ends a connection on which none comes.
    fn start_watch(self: &Rc<Live>) {
        let live = self.clone();
        spawn(async move {
            let interval = live.dialer.settings.ping_interval;
            let intervals_max = live.dialer.settings.pings_outstanding_max;
            let mut pongs_before = None;
            let mut silent_intervals = 0;
            while !live.wakes_watch.notified_within(interval).await {
                let pongs = live.pongs.get();
                let is_silent = pongs_before == Some(pongs);
                silent_intervals = if is_silent { silent_intervals + 1 } else { 0 };
                if silent_intervals >= intervals_max {
                    let silence_ms = interval.as_millis() * u128::from(intervals_max);
                    live.end(format!("no PONG for {silence_ms} ms"));
                    return;
                }
                pongs_before = Some(pongs);
                if !live.ledger.borrow().awaits_pong() {
                    live.ledger.borrow_mut().request_ping();
                    live.wake_writer();
                }
            }
        });
    }
}

fn info_payload_bytes_max(info: &ServerInfo) -> usize {
    if info.max_payload == 0 { PAYLOAD_BYTES_MAX_DEFAULT } else { info.max_payload }
}
