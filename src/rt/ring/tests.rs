//! The device ring against real loopback sockets. Peers are blocking sockets of other threads.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::*;
use crate::rt::eventfd::testing::wait_readable;
use crate::rt::listener;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn ring(buffers: u16, bytes: u32) -> DeviceRing {
    DeviceRing::new(buffers, bytes).expect("a ring")
}

impl DeviceRing {
    /// Waits for the next completion.
    fn wait(&mut self) -> Completion {
        self.wait_for(PATIENCE).expect("a completion comes in time")
    }

    fn wait_for(&mut self, patience: Duration) -> Option<Completion> {
        let started = Instant::now();
        loop {
            self.submit().expect("submits");
            if let Some(completion) = self.next_completion() {
                return Some(completion);
            }
            let left = patience.checked_sub(started.elapsed())?;
            wait_readable(self.as_raw_fd(), left).expect("polls");
        }
    }

    fn accept_one(&mut self, listener: &TcpListener) -> (OwnedFd, TcpStream) {
        let address = listener.local_addr().expect("an address");
        let peer = TcpStream::connect(address).expect("connects");
        let Completion::Accepted { socket, .. } = self.wait() else { panic!("no connection") };
        (socket, peer)
    }
}

fn local_listener() -> TcpListener {
    listener::listen("127.0.0.1:0".parse().expect("an address"), 1024).expect("listens")
}

/// A socket whose other end is in the hands of the test.
fn pair() -> (TcpStream, TcpStream) {
    let listener = local_listener();
    let peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
    (listener.accept().expect("accepts").0, peer)
}

/// `len` bytes in which every position can be told from its neighbours.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32 / 4 + 1).flat_map(u32::to_le_bytes).take(len).collect()
}

#[test]
fn carries_every_byte_of_many_connections_to_its_own_key() {
    const CONNECTIONS: usize = 300;
    let mut ring = ring(16, 256);
    let listener = local_listener();
    let address = listener.local_addr().expect("an address");
    ring.accept(7, listener.as_raw_fd());
    let clients = thread::spawn(move || {
        let connect = |_| TcpStream::connect(address).expect("connects");
        let mut clients: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let text = format!("{number}:").repeat(number + 1);
            client.write_all(text.as_bytes()).expect("writes");
        }
        // Each one's end is received as well.
    });
    let mut sockets = Vec::new();
    let mut texts = HashMap::<u32, Vec<u8>>::new();
    let mut ended = 0;
    while ended < CONNECTIONS {
        match ring.wait() {
            Completion::Accepted { listener: 7, socket, armed } => {
                assert!(armed, "a multishot accept goes on by itself");
                ring.receive(sockets.len() as u32, socket.as_raw_fd());
                sockets.push(socket);
            }
            Completion::Received { key, buffer, len, armed } => {
                texts.entry(key).or_default().extend(&*ring.buffers().bytes(&buffer, len));
                ring.recycle(buffer);
                if !armed {
                    ring.receive(key, sockets[key as usize].as_raw_fd());
                }
            }
            Completion::ReceiveStopped { why: Stopped::Closed, .. } => ended += 1,
            Completion::ReceiveStopped { key, why: Stopped::NoBuffers } => {
                ring.receive(key, sockets[key as usize].as_raw_fd());
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    clients.join().expect("clients end well");
    let mut numbers = HashSet::new();
    for text in texts.into_values() {
        let text = String::from_utf8(text).expect("text");
        let number: usize = text.split(':').next().and_then(|n| n.parse().ok()).expect("a number");
        assert_eq!(text, format!("{number}:").repeat(number + 1));
        assert!(numbers.insert(number), "two connections say they are {number}");
    }
    assert_eq!(numbers.len(), CONNECTIONS);
}

#[test]
fn exhausted_buffers_are_said_once_and_lose_no_byte() {
    const BUFFERS: u16 = 4;
    const BYTES: u32 = 64;
    let mut ring = ring(BUFFERS, BYTES);
    let (socket, mut peer) = pair();
    let sent = pattern(10_000);
    peer.write_all(&sent).expect("writes");
    ring.receive(1, socket.as_raw_fd());
    let mut received: Vec<u8> = Vec::new();
    let mut rounds = 0;
    while received.len() < sent.len() {
        let mut held = Vec::new();
        loop {
            match ring.wait() {
                Completion::Received { key: 1, buffer, len, .. } => held.push((buffer, len)),
                Completion::ReceiveStopped { key: 1, why: Stopped::NoBuffers } => break,
                other => panic!("not expected: {other:?}"),
            }
            if received.len() + held.len() * BYTES as usize >= sent.len() {
                break;
            }
        }
        let ids: HashSet<u16> = held.iter().map(|(buffer, _)| buffer.0).collect();
        assert_eq!(ids.len(), held.len(), "a buffer is never given twice");
        assert!(held.len() <= usize::from(BUFFERS));
        for (buffer, len) in held {
            received.extend(&*ring.buffers().bytes(&buffer, len));
            ring.recycle(buffer);
        }
        rounds += 1;
        if received.len() < sent.len() {
            ring.receive(1, socket.as_raw_fd());
        }
    }
    assert!(rounds > 10_000 / (BYTES * u32::from(BUFFERS)), "{rounds} rounds");
    assert!(received == sent);
}

#[test]
fn a_held_buffer_keeps_its_bytes_while_others_go_round() {
    let mut ring = ring(2, 64);
    let (socket, mut peer) = pair();
    ring.receive(1, socket.as_raw_fd());
    peer.write_all(b"held").expect("writes");
    let Completion::Received { buffer: held, len, .. } = ring.wait() else { panic!("no bytes") };
    // More than 65,536 rounds take the ring's 16-bit tail once around.
    for round in 0..70_000_u32 {
        peer.write_all(&round.to_le_bytes()).expect("writes");
        match ring.wait() {
            Completion::Received { buffer, len, armed, .. } => {
                assert_ne!(buffer, held);
                assert_eq!(&*ring.buffers().bytes(&buffer, len), round.to_le_bytes());
                ring.recycle(buffer);
                assert!(armed);
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    assert_eq!(ring.buffers().bytes(&held, len), b"held");
}

#[test]
fn cancelling_and_rearming_a_receive_loses_and_reorders_nothing() {
    const BYTES: usize = 2_000_000;
    let mut ring = ring(256, 512);
    let (socket, mut peer) = pair();
    let writer = thread::spawn(move || {
        for piece in pattern(BYTES).chunks(777) {
            peer.write_all(piece).expect("writes");
            // The ring's receive is waiting, and so can be cancelled, again and again.
            thread::yield_now();
        }
    });
    ring.receive(3, socket.as_raw_fd());
    let mut received: Vec<u8> = Vec::with_capacity(BYTES);
    let (mut cancelled, mut is_cancelling) = (0, false);
    loop {
        let is_over = match ring.wait() {
            Completion::Received { buffer, len, armed, .. } => {
                received.extend(&*ring.buffers().bytes(&buffer, len));
                ring.recycle(buffer);
                !armed
            }
            Completion::ReceiveStopped { why: Stopped::Closed, .. } => break,
            Completion::ReceiveStopped { why: Stopped::Cancelled, .. } => {
                cancelled += 1;
                true
            }
            Completion::ReceiveStopped { why: Stopped::NoBuffers, .. } => true,
            other => panic!("not expected: {other:?}"),
        };
        if is_over {
            is_cancelling = false;
            ring.receive(3, socket.as_raw_fd());
        } else if !is_cancelling && received.len().is_multiple_of(3) {
            is_cancelling = true;
            ring.cancel_receive(3);
        }
    }
    writer.join().expect("the writer ends");
    assert!(received == pattern(BYTES), "{} bytes of {BYTES}", received.len());
    assert!(cancelled > 0);
}

#[test]
fn a_cancelled_receive_leaves_later_bytes_to_the_kernel() {
    let mut ring = ring(4, 64);
    let (socket, mut peer) = pair();
    ring.receive(1, socket.as_raw_fd());
    ring.cancel_receive(1);
    let Completion::ReceiveStopped { key: 1, why: Stopped::Cancelled } = ring.wait() else {
        panic!("not cancelled")
    };
    peer.write_all(b"later").expect("writes");
    assert!(ring.wait_for(Duration::from_millis(20)).is_none());
    ring.receive(1, socket.as_raw_fd());
    let Completion::Received { buffer, len, .. } = ring.wait() else { panic!("no bytes") };
    assert_eq!(&*ring.buffers().bytes(&buffer, len), b"later");
}

#[test]
fn a_large_send_to_a_slow_reader_arrives_whole_and_is_reported_once() {
    const BYTES: usize = 4_000_000;
    let mut ring = ring(4, 64);
    let (socket, mut peer) = pair();
    SockRef::from(&socket).set_send_buffer_size(32 * 1024).expect("an option");
    let bytes = pattern(BYTES);
    let at = bytes.as_ptr();
    ring.send(9, socket.as_raw_fd(), bytes);
    assert!(ring.wait_for(Duration::from_millis(20)).is_none(), "nobody has read yet");
    let reader = thread::spawn(move || {
        let mut received = vec![0; BYTES];
        for piece in received.chunks_mut(100_000) {
            peer.read_exact(piece).expect("reads");
            thread::yield_now();
        }
        (received, peer)
    });
    let Completion::Sent { key: 9, bytes, result } = ring.wait() else { panic!("no end") };
    result.expect("all is sent");
    assert!(bytes.as_ptr() == at && bytes.len() == BYTES, "the same buffer comes back");
    let (received, _peer) = reader.join().expect("the reader ends");
    assert!(received == bytes);
    assert!(ring.next_completion().is_none());
}

#[test]
fn a_send_cut_short_goes_on_where_it_was() {
    let mut ring = ring(4, 64);
    let (socket, mut peer) = pair();
    let text = b"in three pieces".to_vec();
    let slot = ring.sending.insert(Sending { socket: socket.as_raw_fd(), bytes: text, sent: 0 });
    // What the kernel would report after 3 and 6 more bytes, which it has sent indeed.
    peer.set_nonblocking(false).expect("an option");
    (&socket).write_all(b"in ").expect("writes");
    ring.in_flight += 1;
    assert!(ring.sent(slot, 5, 3).is_none());
    let Completion::Sent { key: 5, bytes, result } = ring.wait() else { panic!("no end") };
    assert!(result.is_ok());
    let mut received = vec![0; bytes.len()];
    peer.read_exact(&mut received).expect("reads");
    assert_eq!(received, b"in three pieces");
    ring.in_flight -= 1;
}

#[test]
fn a_reset_by_the_peer_ends_receive_and_send_and_returns_the_buffer() {
    let mut ring = ring(4, 64);
    let (socket, peer) = pair();
    ring.receive(2, socket.as_raw_fd());
    // More than the kernel takes, so that it is under way when the reset comes.
    ring.send(2, socket.as_raw_fd(), vec![1; 32_000_000]);
    assert!(ring.wait_for(Duration::from_millis(20)).is_none());
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(peer);
    let (mut is_received, mut is_sent) = (false, false);
    while !(is_received && is_sent) {
        match ring.wait() {
            Completion::ReceiveStopped { key: 2, why } => {
                is_received = true;
                assert!(matches!(why, Stopped::Failed(_) | Stopped::Closed), "{why:?}");
            }
            Completion::Sent { key: 2, bytes, result } => {
                is_sent = true;
                assert_eq!(bytes.len(), 32_000_000);
                let error = result.expect_err("the peer is gone").raw_os_error();
                assert!(matches!(error, Some(libc::ECONNRESET | libc::EPIPE)), "{error:?}");
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    assert_eq!(ring.in_flight, 0);
}

#[test]
fn more_completions_than_the_queue_holds_are_all_reported() {
    const SENDS: u32 = COMPLETIONS_MAX + 10_000;
    let mut ring = ring(4, 64);
    let (socket, mut peer) = pair();
    let reader = thread::spawn(move || {
        let mut received: Vec<u8> = Vec::new();
        peer.read_to_end(&mut received).expect("reads");
        received
    });
    for number in 0..SENDS {
        ring.send(number, socket.as_raw_fd(), vec![number as u8]);
    }
    let mut seen = vec![false; SENDS as usize];
    for _ in 0..SENDS {
        match ring.wait() {
            Completion::Sent { key, result, .. } => {
                result.expect("is sent");
                assert!(!std::mem::replace(&mut seen[key as usize], true), "{key} came twice");
            }
            other => panic!("not expected: {other:?}"),
        }
    }
    assert_eq!((ring.in_flight, ring.sending.len()), (0, 0));
    drop(socket);
    assert_eq!(reader.join().expect("the reader ends").len(), SENDS as usize);
}

#[test]
fn more_operations_than_the_submission_queue_holds_are_all_done() {
    const CANCELS: u32 = 3 * SUBMISSIONS_MAX;
    let mut ring = ring(4, 64);
    let (socket, _peer) = pair();
    for _ in 0..CANCELS {
        ring.cancel_receive(1);
    }
    ring.receive(1, socket.as_raw_fd());
    ring.cancel_receive(1);
    let Completion::ReceiveStopped { why: Stopped::Cancelled, .. } = ring.wait() else {
        panic!("not cancelled")
    };
    ring.submit().expect("submits");
    assert!(ring.next_completion().is_none());
    assert_eq!((ring.in_flight, ring.queued), (0, 0));
}

#[test]
fn a_dead_descriptor_harms_only_its_own_operations() {
    let mut ring = ring(4, 64);
    let (socket, mut peer) = pair();
    ring.receive(1, -1);
    ring.accept(2, -1);
    ring.send(3, -1, vec![1]);
    ring.send(4, socket.as_raw_fd(), b"fine".to_vec());
    let mut keys = HashSet::new();
    for _ in 0..4 {
        match ring.wait() {
            Completion::ReceiveStopped { key, why: Stopped::Failed(_) } => keys.insert(key),
            Completion::AcceptStopped { listener, .. } => keys.insert(listener),
            Completion::Sent { key: 3, result: Err(_), .. } => keys.insert(3),
            Completion::Sent { key: 4, result: Ok(()), .. } => keys.insert(4),
            other => panic!("not expected: {other:?}"),
        };
    }
    assert_eq!(keys.len(), 4);
    let mut received = [0; 4];
    peer.read_exact(&mut received).expect("reads");
    assert_eq!(&received, b"fine");
}

#[test]
fn a_quiet_ring_leaves_memory_alone_although_bytes_come() {
    let mut ring = ring(4, 64);
    let listener = local_listener();
    ring.accept(0, listener.as_raw_fd());
    let (socket, mut peer) = ring.accept_one(&listener);
    ring.receive(1, socket.as_raw_fd());
    ring.send(1, socket.as_raw_fd(), vec![7; 32_000_000]);
    assert!(ring.wait_for(Duration::from_millis(20)).is_none());
    let late = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
    assert!(ring.quiesce());
    assert_eq!(ring.in_flight, 0);
    peer.write_all(&[0xaa; 256]).expect("writes");
    // The kernel would do what is left to it on the way out of any of these calls.
    for _ in 0..10 {
        wait_readable(ring.as_raw_fd(), Duration::from_millis(2)).expect("polls");
    }
    let untouched = (0..4).all(|id| ring.buffers.bytes(&BufferId(id), 64) == [0; 64]);
    assert!(untouched, "a receive wrote after the ring was quiet");
    drop(late);
}

#[test]
fn dropping_a_ring_in_full_flight_hurts_nobody() {
    for round in 0..20 {
        let mut ring = ring(4, 4096);
        let (socket, mut peer) = pair();
        ring.receive(1, socket.as_raw_fd());
        ring.send(1, socket.as_raw_fd(), vec![round; 4_000_000]);
        ring.submit().expect("submits");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let flood = thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                if peer.write_all(&[0xee; 4096]).is_err() {
                    break;
                }
                let _ = peer.set_nonblocking(true);
                let _ = peer.read(&mut [0; 4096]);
            }
        });
        drop(ring);
        // Memory of the ring's sizes, handed out again: a late write or read would show in it.
        let fresh: Vec<Vec<u8>> = (0..16).map(|_| vec![0x55; 5 * 4096]).collect();
        for _ in 0..100 {
            thread::yield_now();
        }
        assert!(fresh.iter().all(|block| block.iter().all(|byte| *byte == 0x55)));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(socket);
        flood.join().expect("the peer ends well");
    }
}

#[test]
fn completions_come_without_asking_the_ring_and_without_a_polling_thread() {
    // DEFER_TASKRUN would leave them undone until the ring is entered, which monoio, waiting on
    // its own ring, never does; SQPOLL would cost a core and panic monoio.
    let mut ring = ring(4, 64);
    let (socket, mut peer) = pair();
    ring.receive(1, socket.as_raw_fd());
    ring.submit().expect("submits");
    peer.write_all(b"hello").expect("writes");
    let started = Instant::now();
    while ring.ring.completion().is_empty() {
        assert!(started.elapsed() < PATIENCE, "deferred for ever");
        thread::yield_now();
    }
    let parameters = ring.ring.params();
    assert!(parameters.is_setup_single_issuer() && !parameters.is_setup_sqpoll());
    assert!(parameters.is_feature_nodrop());
    assert_eq!(parameters.sq_entries(), SUBMISSIONS_MAX);
    assert_eq!(parameters.cq_entries(), COMPLETIONS_MAX);
}

#[test]
fn the_end_of_accepting_is_told_and_it_can_be_armed_again() {
    let mut ring = ring(4, 64);
    let listener = local_listener();
    ring.accept(0, listener.as_raw_fd());
    let _first = ring.accept_one(&listener);
    ring.cancel_accept(0);
    let Completion::AcceptStopped { listener: 0, error } = ring.wait() else {
        panic!("accepts on")
    };
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    // The kernel holds who comes meanwhile.
    let waiting = TcpStream::connect(listener.local_addr().expect("an address"));
    assert!(ring.wait_for(Duration::from_millis(20)).is_none());
    ring.accept(0, listener.as_raw_fd());
    assert!(matches!(ring.wait(), Completion::Accepted { armed: true, .. }));
    drop(waiting);
}
