//! The store as a whole.

mod answers;
mod crash;
mod model;

use super::Credentials;
use super::timestamp::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A directory that goes with the value.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let name = format!("ringgate-credentials-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("temporary directories can be made");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // Whatever is left is in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A clock that the test moves.
#[derive(Clone)]
struct Clock(Arc<AtomicU64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_700_000_000_000)))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Relaxed))
    }

    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Relaxed);
    }

    fn open(&self, directory: &Path) -> Credentials {
        let clock = self.clone();
        Credentials::open_with(directory, move || clock.now()).expect("opens")
    }
}
