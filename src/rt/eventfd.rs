//! An eventfd: a descriptor that one thread makes readable to wake another that polls it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A counter in the kernel, readable while it is not zero.
#[derive(Debug)]
pub struct EventFd(File);

impl EventFd {
    /// An eventfd at zero that never blocks its reader.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd(2) takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else has it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes the descriptor readable.
    ///
    /// # Errors
    /// None that a valid eventfd can give: a counter that is full is readable already.
    pub fn signal(&self) -> io::Result<()> {
        match (&self.0).write(&1_u64.to_ne_bytes()) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the counter back to zero, so that the descriptor is no longer readable. Says whether
    /// it was.
    ///
    /// # Errors
    /// None that a valid eventfd can give.
    pub fn clear(&self) -> io::Result<bool> {
        match (&self.0).read(&mut [0; 8]) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// How the tests wait, in place of a shard's ring.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::time::Duration;

    /// Waits until a descriptor is readable; says whether it is before `timeout` is over.
    pub(crate) fn wait_readable(fd: RawFd, timeout: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let timeout_ms = timeout.as_millis() as libc::c_int;
        // SAFETY: `poll` is one pollfd and lives through the call.
        match unsafe { libc::poll(&raw mut poll, 1, timeout_ms) } {
            -1 => Err(io::Error::last_os_error()),
            count => Ok(count == 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_gather_until_they_are_cleared() {
        let event = EventFd::new().expect("a descriptor is left");
        assert!(!event.clear().expect("reads"));
        event.signal().expect("writes");
        event.signal().expect("writes");
        assert!(event.clear().expect("reads"));
        assert!(!event.clear().expect("reads"));
    }
}
