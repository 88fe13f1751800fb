//! Questions and orders to a device socket that need no ring: they are rare, or never block.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use socket2::SockRef;

/// Asks the kernel to acknowledge received bytes together with what is sent next, or a little
/// later, instead of at every read: device packets are small and each would cost an ACK of its own,
/// the largest single cost of reading them (`docs/performance.md`).
pub fn delay_acknowledgements(socket: &OwnedFd) {
    let off: libc::c_int = 0;
    // SAFETY: the option's value is a c_int that lives through the call. A failure leaves the
    // default, which is merely slower.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

/// Whether an error of accepting concerns only the connection that was to be accepted, so that the
/// next one can be accepted at once (accept(2), "Error handling").
pub fn is_of_one_connection(error: &io::Error) -> bool {
    let of_one = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|errno| of_one.contains(&errno))
}

/// The address of the peer, while it is connected.
pub fn peer(socket: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(socket).peer_addr().ok()?.as_socket()
}

/// Ends the sending side: the peer reads what is under way and then the end.
pub fn shutdown_write(socket: &OwnedFd) {
    // Not connected any more: nothing left to end.
    let _ = SockRef::from(socket).shutdown(Shutdown::Write);
}

/// Ends both sides, which also completes what the ring has under way for it.
pub fn shutdown_both(socket: &OwnedFd) {
    // As above.
    let _ = SockRef::from(socket).shutdown(Shutdown::Both);
}
