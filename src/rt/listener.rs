//! Listening sockets: one per shard and address, spread by the kernel through `SO_REUSEPORT`.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds and listens on `address`. Accepted sockets inherit `TCP_NODELAY` from the listener, so no
/// connection pays a system call for it.
///
/// # Errors
/// The kernel's, unchanged: address in use, no permission for a port below 1024.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Fails when another process already listens on `address`, which `SO_REUSEPORT` would hide: two
/// gateways of one user would silently share the devices.
///
/// # Errors
/// As [`listen`].
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn the_kernel_spreads_connections_over_the_listeners_of_an_address() {
        const CONNECTIONS: usize = 400;
        let first = listen(any_port(), 1024).expect("listens");
        let address = first.local_addr().expect("an address");
        let listeners = [first, listen(address, 1024).expect("listens beside the first")];
        let connect = |_| TcpStream::connect(address).expect("connects");
        let _clients: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
        let accepted = listeners.map(|listener| {
            listener.set_nonblocking(true).expect("an option");
            std::iter::from_fn(|| listener.accept().ok()).count()
        });
        assert_eq!(accepted.iter().sum::<usize>(), CONNECTIONS);
        assert!(accepted.iter().all(|count| *count > CONNECTIONS / 4), "{accepted:?}");
    }

    #[test]
    fn accepted_sockets_do_not_wait_to_send_small_packets() {
        let listener = listen(any_port(), 16).expect("listens");
        let _client = TcpStream::connect(listener.local_addr().expect("an address"));
        assert!(listener.accept().expect("accepts").0.nodelay().expect("an option"));
    }

    #[test]
    fn a_probe_finds_an_address_that_is_taken_although_it_could_be_shared() {
        let listener = listen(any_port(), 16).expect("listens");
        let address = listener.local_addr().expect("an address");
        assert_eq!(probe(address).map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
        drop(listener);
        assert!(probe(address).is_ok());
    }
}
