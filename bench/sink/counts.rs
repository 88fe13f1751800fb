//! What has arrived, over all connections.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often the file is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Counts {
    messages: AtomicU64,
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl Counts {
    /// One read brought `messages` whole messages in `bytes` bytes.
    pub fn add(&self, messages: u64, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn line(&self) -> String {
        format!(
            "messages {} bytes {} reads {}\n",
            self.messages.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
            self.reads.load(Ordering::Relaxed)
        )
    }
}

/// Renews `path` for as long as the process lives; a reader never sees half a line.
pub fn keep_in_file(counts: Arc<Counts>, path: PathBuf) -> io::Result<()> {
    write(&counts, &path)?;
    thread::spawn(move || {
        let mut last = String::new();
        loop {
            thread::sleep(RENEW_EVERY);
            let line = counts.line();
            if line != last && write(&counts, &path).is_ok() {
                last = line;
            }
        }
    });
    Ok(())
}

fn write(counts: &Counts, path: &Path) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, counts.line())?;
    fs::rename(&fresh, path)
}
