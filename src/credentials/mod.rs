//! The internal provider: endpoint tokens, basic credentials and client certificates in a file of
//! this process, and who is let in by them.
//!
//! Everything here blocks: [`Workers`] answer off the shards' threads, and the management interface
//! calls from threads that may wait.

mod answer;
pub mod authority;
mod listing;
mod manage;
mod open;
mod password;
mod random;
mod record;
mod refused;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod timestamp;
mod workers;

pub use listing::{Filter, LIMIT_DEFAULT, LIMIT_MAX, Order, Page};
pub use manage::{
    Changed, NAME_BYTES_MAX, PASSWORD_BYTES_MAX, Shown, TOKEN_BYTES_MAX, etag, fingerprint,
    requirement_name, requirement_named,
};
pub use open::{FILE_NAME, MANAGEMENT_TOKEN_FILE_NAME, OpenError, TokenError, management_token};
pub use password::{LANES, MEMORY_KIB, PASSES};
pub use random::SECRET_LEN;
pub use record::{
    BasicCredentials, CertificateCredentials, EndpointToken, Kind, Life, Record, Scope,
};
pub use refused::{Refused, StoreError};
pub use state::{Move, State};
pub use timestamp::Timestamp;
pub use workers::{QuestionDesk, Workers};

use crate::auth::{Question, Verdict};
use crate::config::Secret;
use std::fmt;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, RwLock};
use store::Store;

/// The last use of credentials is noted again once the note is so old, in milliseconds.
pub const LAST_USE_INTERVAL_MS: u64 = 10 * 60 * 1_000;

/// The store of credentials. Clones share it.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    /// Held for reading while verdicts are given, for writing while what they rest on changes.
    gate: RwLock<()>,
    /// What the password of an unknown user is compared with.
    nobodys_password: String,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Credentials {
    /// Opens the store in a directory, both of which are made if need be.
    ///
    /// # Errors
    /// When the file cannot be opened or used; says which and what to do.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with(directory, Timestamp::now)
    }

    /// Opens the store with a clock of the caller's.
    fn open_with(
        directory: &Path,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let store = open::store(directory)?;
        let nobodys_password = random::secret()
            .and_then(|secret| password::hash(secret.expose()))
            .map_err(|refused| OpenError::Unreadable {
                path: directory.join(FILE_NAME),
                what: refused.to_string(),
            })?;
        let inner =
            Inner { store, gate: RwLock::default(), nobodys_password, clock: Box::new(clock) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Answers a question; takes tens of milliseconds for a password. See [`Workers`] for answers
    /// that must not be overtaken by a revocation.
    pub fn answer(&self, question: &Question) -> Verdict {
        let mut given = None;
        self.answer_all(std::slice::from_ref(question), &mut |_, verdict| given = Some(verdict));
        given.unwrap_or_else(answer::nobody_knows)
    }

    /// Answers questions together. Each verdict is given with the place of its question, and no
    /// operation changes the store between a verdict and the return of `give`, which therefore
    /// must be quick and must not call back here.
    pub fn answer_all(&self, questions: &[Question], give: &mut dyn FnMut(usize, Verdict)) {
        self.inner.answer(questions, give);
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Notes of uses may still be in memory alone.
        if let Err(refused) = self.store.flush() {
            tracing::warn!("the last uses of credentials are lost: {refused}");
        }
    }
}

/// What is kept of a token: its SHA-256 in hexadecimal. Tokens are long and random, or chosen by
/// the operator knowing that each is a look-up; they need no slow hash.
fn token_hash(token: &Secret) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, token.expose().as_bytes()).as_ref())
}

/// Whether two secrets are the same; how long it takes says nothing about either.
pub fn is_same_secret(one: &str, other: &str) -> bool {
    // Who does not know the digest of one learns nothing from how far the digests agree.
    let [one, other] =
        [one, other].map(|secret| ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()));
    one.as_ref() == other.as_ref()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
