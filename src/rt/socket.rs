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

/// The address of the peer, while it is connected. At a socket of both families an IPv4 address
/// looks like one of IPv6; here it does not.
pub fn peer(socket: &OwnedFd) -> Option<SocketAddr> {
    let address = SockRef::from(socket).peer_addr().ok()?.as_socket()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// Whether the peer has reset the connection, so that nobody can say any more who it was.
pub fn is_gone(socket: &OwnedFd) -> bool {
    let peer = SockRef::from(socket).peer_addr();
    peer.is_err_and(|error| error.raw_os_error() == Some(libc::ENOTCONN))
}

/// Gives the kernel bytes that [`shutdown_write`] is about to follow, so that both leave in one
/// segment, which costs half of what two cost (`docs/performance.md`, "Revocation"). Returns how
/// many bytes it has taken; it never waits. A failure takes none: the send that follows meets it.
pub fn send_before_end(socket: &OwnedFd, bytes: &[u8]) -> usize {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE;
    SockRef::from(socket).send_with_flags(bytes, flags).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        (listener.accept().expect("one waits").0.into(), peer)
    }

    #[test]
    fn an_ipv4_client_looks_the_same_at_a_socket_of_both_families() {
        let listener = TcpListener::bind("[::]:0").expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let peer = TcpStream::connect(("127.0.0.1", port)).expect("a socket of both families");
        let (socket, client) = listener.accept().expect("one waits");
        assert!(client.is_ipv6());
        let local = peer.local_addr().expect("is connected");
        assert_eq!(super::peer(&socket.into()), Some(local));
    }

    #[test]
    fn last_bytes_come_before_the_end() {
        let (socket, mut peer) = pair();
        assert_eq!(send_before_end(&socket, b"goodbye"), 7);
        shutdown_write(&socket);
        let mut heard = Vec::new();
        assert_eq!(peer.read_to_end(&mut heard).expect("reads"), 7);
        assert_eq!(heard, b"goodbye");
    }

    #[test]
    fn who_has_reset_the_connection_is_gone_and_who_has_closed_it_is_not() {
        let (socket, peer) = pair();
        drop(peer);
        assert!(!is_gone(&socket) && super::peer(&socket).is_some());
        let (socket, peer) = pair();
        SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
        drop(peer);
        assert!(is_gone(&socket) && super::peer(&socket).is_none());
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_waited_for() {
        let (socket, mut peer) = pair();
        let bytes = vec![7; 1 << 16];
        let mut taken = 0;
        while let 1.. = send_before_end(&socket, &bytes) {
            taken += 1;
            assert!(taken < 1 << 16, "no buffer is that large");
        }
        assert!(taken > 0);
        peer.read_exact(&mut [0; 1]).expect("what was taken arrives");
    }
}
