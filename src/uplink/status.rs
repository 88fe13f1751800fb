//! How a link is doing, for other threads to read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// State of one link. Written by its shard on changes only, read by `/health` and `/metrics`.
#[derive(Debug, Default)]
pub struct LinkStatus {
    is_up: AtomicBool,
    since_unix_ms: AtomicU64,
    connects: AtomicU64,
    text: Mutex<Text>,
}

#[derive(Debug, Default)]
struct Text {
    server: String,
    last_error: String,
}

impl LinkStatus {
    /// Whether the link has a NATS server that has accepted it.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// When the link last went up or down, in milliseconds of Unix time; 0 if it was never up.
    pub fn since_unix_ms(&self) -> u64 {
        self.since_unix_ms.load(Ordering::Relaxed)
    }

    /// How often the link has gone up.
    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    /// `host:port` of the server last connected to; empty if there was none.
    pub fn server(&self) -> String {
        self.text().server.clone()
    }

    /// Why the link went down or the last attempt failed; empty if it never did. Holds no secret.
    pub fn last_error(&self) -> String {
        self.text().last_error.clone()
    }

    pub(super) fn went_up(&self, server: &str) {
        server.clone_into(&mut self.text().server);
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.change(true);
    }

    pub(super) fn went_down(&self, why: &str) {
        self.failed(why);
        self.change(false);
    }

    pub(super) fn failed(&self, why: &str) {
        why.clone_into(&mut self.text().last_error);
    }

    fn change(&self, is_up: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.since_unix_ms.store(now.as_millis() as u64, Ordering::Relaxed);
        self.is_up.store(is_up, Ordering::Relaxed);
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
