//! Descriptors of the device ring: none is leaked, whatever is cancelled or dropped halfway, and
//! their end is survived. Descriptors belong to the process, so these tests take turns and stand in
//! a program of their own.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringgate::rt::listener;
use ringgate::rt::ring::{Completion, DeviceRing};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 50;

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_descriptors() -> usize {
    // One of them is that of the listing itself.
    fs::read_dir("/proc/self/fd").expect("the descriptors of this process").count() - 1
}

/// Waits until as many descriptors are open as before: the kernel closes some a little later.
fn expect_open(before: usize) {
    let started = Instant::now();
    while open_descriptors() != before {
        let open = open_descriptors();
        assert!(started.elapsed() < PATIENCE, "{open} descriptors are open, {before} before");
        std::thread::yield_now();
    }
}

fn listen() -> (TcpListener, SocketAddr) {
    let any_port = "127.0.0.1:0".parse().expect("an address");
    let listener = listener::listen(any_port, 1024).expect("listens");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).expect("connects")
}

fn wait(ring: &mut DeviceRing) -> Completion {
    let started = Instant::now();
    loop {
        ring.submit().expect("submits");
        if let Some(completion) = ring.next_completion() {
            return completion;
        }
        assert!(started.elapsed() < PATIENCE, "nothing completes");
        std::thread::yield_now();
    }
}

#[test]
fn accepted_connections_that_are_dropped_leave_nothing() {
    let _turn = my_turn();
    let before = open_descriptors();
    {
        let (listener, address) = listen();
        let mut ring = DeviceRing::new(4, 64).expect("a ring");
        ring.accept(0, listener.as_raw_fd());
        for _ in 0..CONNECTIONS {
            let _client = connect(address);
            let Completion::Accepted { socket, .. } = wait(&mut ring) else { panic!("none") };
            drop(socket);
        }
    }
    expect_open(before);
}

#[test]
fn a_cancelled_accept_leaks_no_connection() {
    // monoio 0.2.4 loses one at every accept that is dropped.
    let _turn = my_turn();
    let before = open_descriptors();
    for backlog in [0, 1, CONNECTIONS] {
        let (listener, address) = listen();
        let mut ring = DeviceRing::new(4, 64).expect("a ring");
        for _ in 0..20 {
            ring.accept(0, listener.as_raw_fd());
            ring.submit().expect("submits");
            let clients: Vec<TcpStream> = (0..backlog).map(|_| connect(address)).collect();
            ring.cancel_accept(0);
            let mut accepted = 0;
            loop {
                match wait(&mut ring) {
                    Completion::Accepted { .. } => accepted += 1,
                    Completion::AcceptStopped { .. } => break,
                    other => panic!("not expected: {other:?}"),
                }
            }
            assert!(accepted <= backlog);
            // Who was not accepted still is in the kernel's queue; whoever accepts next finds them.
            listener.set_nonblocking(true).expect("an option");
            accepted += std::iter::from_fn(|| listener.accept().ok()).count();
            assert_eq!(accepted, backlog);
            drop(clients);
        }
    }
    expect_open(before);
}

#[test]
fn a_ring_dropped_with_connections_nobody_has_taken_leaks_none() {
    let _turn = my_turn();
    let before = open_descriptors();
    {
        let (listener, address) = listen();
        let mut ring = DeviceRing::new(4, 64).expect("a ring");
        ring.accept(0, listener.as_raw_fd());
        ring.submit().expect("submits");
        let _clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(address)).collect();
        let first = wait(&mut ring);
        assert!(matches!(first, Completion::Accepted { .. }));
        drop(ring);
    }
    expect_open(before);
}

#[test]
fn a_ring_dropped_in_full_flight_closes_its_connections() {
    let _turn = my_turn();
    let before = open_descriptors();
    {
        let (listener, address) = listen();
        let mut ring = DeviceRing::new(4, 64).expect("a ring");
        let client = connect(address);
        let (socket, _) = listener.accept().expect("accepts");
        ring.receive(1, socket.as_raw_fd());
        ring.send(1, socket.as_raw_fd(), vec![0; 16 << 20]);
        ring.submit().expect("submits");
        drop((ring, socket, listener));
        // The kernel holds the connection no longer: its peer sees the end.
        client.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut piece = vec![0; 1 << 20];
        while std::io::Read::read(&mut &client, &mut piece).is_ok_and(|count| count > 0) {}
    }
    expect_open(before);
}

#[test]
fn running_out_of_descriptors_stops_accepting_until_it_is_armed_again() {
    let _turn = my_turn();
    let (listener, address) = listen();
    let mut ring = DeviceRing::new(4, 64).expect("a ring");
    // The kernel holds them until they are accepted.
    let _clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    let mut accepted = Vec::new();
    for free in [2, 5] {
        // An accept keeps to the limit there was when it was armed.
        let _limit = Limit::set(open_descriptors() + free);
        ring.accept(0, listener.as_raw_fd());
        loop {
            match wait(&mut ring) {
                Completion::Accepted { socket, .. } => accepted.push(socket),
                Completion::AcceptStopped { listener: 0, error } => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    break;
                }
                other => panic!("not expected: {other:?}"),
            }
        }
        assert!(!accepted.is_empty() && accepted.len() < CONNECTIONS);
    }
    ring.accept(0, listener.as_raw_fd());
    while accepted.len() < CONNECTIONS {
        match wait(&mut ring) {
            Completion::Accepted { socket, .. } => accepted.push(socket),
            other => panic!("not expected: {other:?}"),
        }
    }
}

/// The process's limit of descriptors, lowered until this is dropped.
struct Limit(libc::rlimit);

impl Limit {
    fn set(descriptors: usize) -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits live through the calls.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before), 0);
            let lowered = libc::rlimit { rlim_cur: descriptors as u64, ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const lowered), 0);
        }
        Self(before)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}
