//! How a link to NATS is doing, for other threads to read.

use super::clock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// State of one link. Written by its thread on changes only, read by `/health`.
#[derive(Debug)]
pub struct LinkStatus {
    is_up: AtomicBool,
    since_ms: AtomicU64,
    connects: AtomicU64,
    text: Mutex<Text>,
}

#[derive(Debug, Default)]
struct Text {
    server: String,
    last_error: String,
    trouble: String,
}

impl LinkStatus {
    /// A link that has been down since now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            is_up: AtomicBool::new(false),
            since_ms: AtomicU64::new(clock::monotonic_ms()),
            connects: AtomicU64::new(0),
            text: Mutex::default(),
        }
    }

    /// Whether the link has a NATS server that has accepted it.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    /// When the link last went up or down, or was made: [`clock::monotonic_ms`] of that time.
    #[must_use]
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Relaxed)
    }

    /// How often the link has gone up.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.connects.load(Relaxed)
    }

    /// `host:port` of the server last connected to; empty if there was none.
    #[must_use]
    pub fn server(&self) -> String {
        self.text().server.clone()
    }

    /// Why the link went down or the last attempt failed; empty if it never did. Holds no secret.
    #[must_use]
    pub fn last_error(&self) -> String {
        self.text().last_error.clone()
    }

    /// What is wrong although the link is up; empty if nothing is. Holds no secret.
    #[must_use]
    pub fn trouble(&self) -> String {
        self.text().trouble.clone()
    }

    /// Something is wrong although the link is up, or nothing is (empty).
    pub fn set_trouble(&self, what: &str) {
        what.clone_into(&mut self.text().trouble);
    }

    /// The link is up, at `server`.
    pub fn went_up(&self, server: &str) {
        server.clone_into(&mut self.text().server);
        self.connects.store(self.connects() + 1, Relaxed);
        self.change(true);
    }

    /// The link was up and has broken.
    pub fn went_down(&self, why: &str) {
        self.failed(why);
        self.change(false);
    }

    /// An attempt to connect has failed; the link was down before.
    pub fn failed(&self, why: &str) {
        why.clone_into(&mut self.text().last_error);
    }

    fn change(&self, is_up: bool) {
        self.since_ms.store(clock::monotonic_ms(), Relaxed);
        self.is_up.store(is_up, Relaxed);
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LinkStatus {
    fn default() -> Self {
        Self::new()
    }
}
