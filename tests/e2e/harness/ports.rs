//! TCP ports that no other test takes, in this process or another.

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral range, so that no outgoing connection takes a port first.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// A TCP port reserved until drop.
///
/// ringgate listens with `SO_REUSEPORT`: two gateways given the same port would silently share it.
/// So a port is reserved by a name among the abstract Unix sockets, which the kernel frees when
/// the test process ends, however it ends.
pub struct Port {
    pub number: u16,
    _reservation: UnixListener,
}

impl Port {
    pub fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let spread = (std::process::id() as u16).wrapping_mul(61);
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + spread.wrapping_add(step) % COUNT;
            let name = format!("ringgate-e2e-port-{number}");
            let address = SocketAddr::from_abstract_name(name).expect("a short name");
            let Ok(reservation) = UnixListener::bind_addr(&address) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _reservation: reservation };
            }
        }
        panic!("no free TCP port");
    }
}
