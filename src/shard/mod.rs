//! One shard: a thread that owns its connections, sessions, routes and its link to NATS.
//!
//! [`core`] decides; this file is its shell: it owns the device ring, reads the clock, turns
//! completions, mail, the link's events and ticks into calls of the core, and at the end of each
//! turn carries out what the core has left to do, in one submission to the ring and one write to
//! NATS.

pub mod affinity;
mod answer;
mod ask;
pub mod asks;
pub mod clients;
mod close;
pub mod connection;
pub mod core;
pub mod correlation;
pub mod doors;
mod drain;
mod dropped;
pub mod endpoints;
mod enter;
mod framing;
mod gate;
mod handshakes;
mod http;
mod login;
mod logins;
pub mod mail;
mod origin;
mod park;
mod parked;
mod place;
mod pool;
mod publish;
mod recent;
pub mod registry;
mod revoke;
mod seats;
pub mod settings;
#[cfg(test)]
mod simulation;
mod sockets;
mod start;
pub mod tenants;
mod tick;
mod tls;
mod websocket;
mod wheel;

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use doors::{Door, ListenerPlan, Speaks};
pub use seats::Seats;
pub use settings::ShardSettings;
pub use start::{Parts, ShardThread, start};

use crate::rt::eventfd::EventFd;
use crate::rt::ring::{Completion, DeviceRing, Stopped};
use crate::rt::socket;
use crate::rt::task::Notify;
use crate::telemetry::clock;
use crate::uplink::{Handler, Link};
use core::{Core, Now};
use gate::Gate;
use mail::Mail;

/// Completions taken in one turn before other tasks get theirs.
const COMPLETIONS_PER_TURN_MAX: usize = 4096;
/// Rounds of carrying out and reaping within one turn.
const ROUNDS_PER_TURN_MAX: usize = 4;
/// How long a closed connection may take to read our last packet and close its side.
pub(crate) const LINGER_MS_MAX: u64 = 3000;

/// The shell's state; every task of the shard borrows it between awaits only.
pub(crate) struct Shell {
    pub(crate) state: RefCell<State>,
    pub(crate) link: Rc<Link>,
    /// Raised when the shard has drained.
    pub(crate) is_done: Notify,
    /// Raised when a provider has been asked.
    pub(crate) is_asking: Notify,
    /// Readable when steps of TLS handshakes wait for the next turn.
    pub(crate) hands_wait: EventFd,
}

pub(crate) struct State {
    pub(crate) core: Core,
    pub(crate) ring: DeviceRing,
    pub(crate) doors: Vec<Door>,
    /// Listeners whose accept has stopped and is armed again at the next tick.
    pub(crate) stopped_listeners: Vec<u32>,
    pub(crate) gate: Gate,
}

impl Shell {
    /// Runs `work` as one turn: with the clock read before, and what it left behind carried out
    /// after.
    pub(crate) fn turn(&self, work: impl FnOnce(&mut State)) {
        let started = Instant::now();
        let state = &mut *self.state.borrow_mut();
        state.core.now = now();
        work(state);
        state.turn_gate();
        state.core.resume_waiting();
        state.core.shake_hands();
        state.carry_out();
        self.link.flush();
        // Only now: carrying out takes what has arrived meanwhile, which may be a step of one.
        if state.core.handshakes.has_steps() {
            // A failure would leave them until something else happens: the tick, at the latest.
            let _ = self.hands_wait.signal();
        }
        if state.drained() {
            self.is_done.notify();
        }
        if !state.core.asks.is_empty() {
            self.is_asking.notify();
        }
        let counters = &state.core.counters;
        counters.loop_wakeups.add(1);
        counters.loop_busy_ns.add(started.elapsed().as_nanos() as u64);
    }

    /// Takes what has completed on the device ring; whether more waits.
    pub(crate) fn device_turn(&self) -> bool {
        let mut has_more = false;
        self.turn(|state| has_more = state.reap());
        has_more
    }

    /// Whether an answer of a provider is waited for.
    pub(crate) fn is_asking(&self) -> bool {
        !self.state.borrow().core.asks.is_empty()
    }

    /// Takes one mail.
    pub(crate) fn take_mail(&self, mail: Mail) {
        let state = &mut *self.state.borrow_mut();
        state.core.now = now();
        state.core.mail(mail);
    }
}

impl Handler for Shell {
    fn on_up(&self, payload_bytes_max: usize) {
        self.turn(|state| state.core.link_up(payload_bytes_max));
    }

    fn on_down(&self, _why: &str) {
        self.turn(|state| state.core.link_down());
    }

    fn on_message(&self, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
        let state = &mut *self.state.borrow_mut();
        match ask::response_of(subject) {
            None => {
                let reply = reply.and_then(|reply| std::str::from_utf8(reply).ok());
                state.core.extension_data(reply, payload);
            }
            Some(message) => {
                state.core.now = now();
                state.core.answer_over_nats(message, payload);
            }
        }
    }

    fn on_confirmed(&self) {
        let state = &mut *self.state.borrow_mut();
        state.core.now = now();
        state.core.settle();
    }

    fn on_error(&self, _text: &str) {
        self.state.borrow().core.counters.nats_errors.add(1);
    }

    fn on_batch(&self, messages: u32) {
        self.state.borrow_mut().core.batch_sizes.record(u64::from(messages));
    }

    fn on_written(&self) {
        let has_waiting = {
            let state = self.state.borrow();
            state.gate.is_shut() || !state.core.waiting.is_empty()
        };
        if has_waiting {
            self.turn(|state| state.core.resume_waiting());
        }
    }

    fn on_turn_end(&self) {
        self.turn(|_| {});
    }
}

impl State {
    /// Takes completions, up to a bound; whether more may wait.
    fn reap(&mut self) -> bool {
        if let Err(error) = self.ring.submit() {
            tracing::error!(shard = self.core.number, %error, "the device ring refuses work");
        }
        for _ in 0..COMPLETIONS_PER_TURN_MAX {
            match self.ring.next_completion() {
                Some(completion) => self.complete(completion),
                None => return false,
            }
        }
        true
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, socket, armed } => {
                socket::delay_acknowledgements(&socket);
                if let Some(door) = self.doors.get(listener as usize) {
                    self.core.opened(socket, door.listener);
                }
                if !armed {
                    self.accept(listener);
                }
            }
            Completion::AcceptStopped { listener, error } => self.accept_stopped(listener, &error),
            Completion::Received { .. } | Completion::ReceiveStopped { .. } => {
                self.arrive(completion);
            }
            Completion::Sent { key, bytes, result } => {
                self.core.sent(key, bytes, result.is_ok());
            }
        }
    }

    /// Takes what a receive has brought, or its end.
    fn complete_receive(&mut self, completion: Completion) {
        match completion {
            Completion::Received { key, buffer, len, armed } => {
                if !armed {
                    self.core.receive_stopped(key);
                }
                let bytes = self.ring.buffers().bytes(&buffer, len);
                self.core.arrived(key, bytes);
                self.ring.recycle(buffer);
            }
            Completion::ReceiveStopped { key, why } => {
                self.core.receive_stopped(key);
                match why {
                    Stopped::Closed => self.core.peer_ended(key, false),
                    Stopped::Failed(_) => self.core.peer_ended(key, true),
                    Stopped::NoBuffers => self.core.counters.read_buffers_exhausted.add(1),
                    Stopped::Cancelled => {}
                }
            }
            _ => {}
        }
    }

    /// Accepts on a listener from now on.
    pub(crate) fn accept(&mut self, listener: u32) {
        if let Some(door) = self.doors.get(listener as usize) {
            self.ring.accept(listener, door.socket.as_raw_fd());
        }
    }

    fn accept_stopped(&mut self, listener: u32, error: &std::io::Error) {
        if self.core.is_draining() {
            return;
        }
        if socket::is_of_one_connection(error) {
            return self.accept(listener);
        }
        tracing::error!(
            shard = self.core.number,
            %error,
            "accepting has stopped and is tried again; with too many open files, raise LimitNOFILE"
        );
        self.stopped_listeners.push(listener);
    }

    /// Carries out what the core has left to do, and reaps what completes at once, so that a send
    /// that goes through costs no wake-up of its own.
    fn carry_out(&mut self) {
        for _ in 0..ROUNDS_PER_TURN_MAX {
            while let Some(index) = self.core.dirty.pop() {
                self.core.finish(index, &mut self.ring);
            }
            if !self.ring.has_queued() {
                return;
            }
            self.reap();
        }
        while let Some(index) = self.core.dirty.pop() {
            self.core.finish(index, &mut self.ring);
        }
        if let Err(error) = self.ring.submit() {
            tracing::error!(shard = self.core.number, %error, "the device ring refuses work");
        }
    }
}

fn now() -> Now {
    let us = clock::monotonic_us();
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Now { us, ms: us / 1000, unix_ms: unix_ms as i64 }
}
