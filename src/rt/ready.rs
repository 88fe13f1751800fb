//! Waiting, inside monoio, for a descriptor that is not a socket: the device ring, the mailbox.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use monoio::net::TcpStream;

/// Waits until a descriptor can be read. It watches a duplicate, so the original stays its owner's.
pub struct Readiness {
    // monoio polls any descriptor; its only public way in is the socket type.
    watched: TcpStream,
}

impl Readiness {
    /// Watches `descriptor`.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated (descriptor limit).
    pub fn new(descriptor: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open for as long as the caller's reference lives.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor.as_raw_fd()) };
        let duplicate = borrowed.try_clone_to_owned()?;
        Ok(Self { watched: TcpStream::from_std(std::net::TcpStream::from(duplicate))? })
    }

    /// Returns once something is there to read (level-triggered: at once when it already is). Even
    /// then the runtime has submitted and reaped its own I/O and fired its timers in between, which
    /// makes this the fair way for a busy task to give way.
    ///
    /// # Errors
    /// The ring's own failure.
    pub async fn ready(&self) -> io::Result<()> {
        self.watched.readable(false).await
    }
}
