//! One regression test per hazard of monoio 0.2.4 that this room keeps from the rest of the
//! program. Those about reads that must not be dropped are beside [`stream`](super::stream), those
//! about accepts that must not leak in `tests/descriptors.rs`.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};

use super::eventfd::EventFd;
use super::ready::Readiness;
use super::ring::{Completion, DeviceRing, Stopped};
use super::runtime;
use super::stream::tests::connected;
use super::task::{sleep, spawn};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn run<F: Future>(main: impl FnOnce() -> F) -> F::Output {
    runtime::run(None, main).expect("a runtime")
}

/// A task that always has more to do and gives way as the one of the device ring does; it ends when
/// told to and gives the number of its turns.
fn busy_task(is_done: Rc<Cell<bool>>) -> super::task::Task<u64> {
    let event = EventFd::new().expect("a descriptor is left");
    event.signal().expect("signals");
    let readiness = Readiness::new(&event).expect("a descriptor is left");
    spawn(async move {
        let mut turns = 0;
        while !is_done.get() {
            readiness.ready().await.expect("waits");
            turns += 1;
        }
        drop(event);
        turns
    })
}

#[test]
fn a_task_that_never_runs_out_of_work_leaves_io_its_turn() {
    run(async || {
        const ROUND_TRIPS: usize = 500;
        let ((mut read, mut write, _closer), mut peer) = connected().await;
        let echo = thread::spawn(move || {
            let mut byte = [0];
            for _ in 0..ROUND_TRIPS {
                peer.read_exact(&mut byte).expect("a byte comes");
                peer.write_all(&byte).expect("it goes back");
            }
        });
        let is_done = Rc::new(Cell::new(false));
        let busy = busy_task(is_done.clone());
        let (mut out, mut back) = (vec![7], Vec::with_capacity(8));
        for _ in 0..ROUND_TRIPS {
            let (written, buffer) = write.write_all(out).await;
            written.expect("writes");
            out = buffer;
            let (count, mut buffer) = read.read(back).await;
            assert_eq!(count.expect("reads"), 1);
            buffer.clear();
            back = buffer;
        }
        is_done.set(true);
        assert!(busy.await > 0);
        echo.join().expect("the peer ends well");
    });
}

#[test]
fn a_task_that_never_runs_out_of_work_leaves_timers_their_turn() {
    run(async || {
        let is_done = Rc::new(Cell::new(false));
        let busy = busy_task(is_done.clone());
        let started = Instant::now();
        for _ in 0..20 {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(started.elapsed() >= Duration::from_millis(20));
        is_done.set(true);
        assert!(busy.await > 20, "the busy task went on as well");
    });
}

#[test]
fn no_wake_up_from_another_thread_is_lost() {
    const ROUNDS: u64 = 10_000;
    let event = Arc::new(EventFd::new().expect("a descriptor is left"));
    let posted = Arc::new(AtomicU64::new(0));
    let (seen, is_seen) = mpsc::channel();
    let (waker, count) = (event.clone(), posted.clone());
    let other = thread::spawn(move || {
        for round in 1..=ROUNDS {
            count.store(round, Ordering::SeqCst);
            waker.signal().expect("signals");
            // Only now and then is the runtime let to fall asleep before the next signal.
            if round % 3 == 0 || round == ROUNDS {
                while is_seen.recv_timeout(PATIENCE).expect("a wake-up was lost") < round {}
            }
        }
    });
    run(async || {
        let readiness = Readiness::new(&*event).expect("a descriptor is left");
        let mut last = 0;
        while last < ROUNDS {
            readiness.ready().await.expect("waits");
            event.clear().expect("clears");
            last = posted.load(Ordering::SeqCst);
            seen.send(last).expect("the other thread listens");
        }
    });
    other.join().expect("the other thread ends well");
}

#[test]
fn the_device_ring_wakes_the_runtime_for_everything_that_comes() {
    const ROUND_TRIPS: usize = 5_000;
    run(async || {
        let mut ring = DeviceRing::new(4, 64).expect("a ring");
        let readiness = Readiness::new(&ring).expect("a descriptor is left");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("an address");
        let mut peer = TcpStream::connect(address).expect("connects");
        peer.set_read_timeout(Some(PATIENCE)).expect("an option");
        let (socket, _) = listener.accept().expect("accepts");
        let echo = thread::spawn(move || {
            let mut byte = [0];
            for number in 0..ROUND_TRIPS {
                peer.write_all(&[number as u8]).expect("writes");
                peer.read_exact(&mut byte).expect("the ring slept through a byte");
                assert_eq!(byte[0], number as u8);
            }
        });
        ring.receive(1, socket.as_raw_fd());
        ring.submit().expect("submits");
        let mut echoed = 0;
        while echoed < ROUND_TRIPS {
            readiness.ready().await.expect("waits");
            ring.submit().expect("submits");
            while let Some(completion) = ring.next_completion() {
                match completion {
                    Completion::Received { buffer, len, armed, .. } => {
                        let bytes = ring.buffers().bytes(&buffer, len).to_vec();
                        ring.recycle(buffer);
                        assert!(armed);
                        ring.send(1, socket.as_raw_fd(), bytes);
                        ring.submit().expect("submits");
                    }
                    Completion::Sent { result, .. } => {
                        result.expect("sends");
                        echoed += 1;
                    }
                    Completion::ReceiveStopped { why: Stopped::Closed, .. } => {}
                    other => panic!("not expected: {other:?}"),
                }
            }
        }
        echo.join().expect("the peer ends well");
    });
}

#[test]
fn the_runtimes_ring_neither_defers_work_nor_polls_and_has_a_long_completion_queue() {
    let mut ring: IoUring = runtime::ring_builder().build(runtime::ENTRIES).expect("a ring");
    let parameters = ring.params();
    assert!(parameters.is_setup_single_issuer() && !parameters.is_setup_sqpoll());
    assert_eq!(parameters.sq_entries(), runtime::ENTRIES);
    assert_eq!(parameters.cq_entries(), runtime::COMPLETIONS);
    const { assert!(runtime::COMPLETIONS >= 4 * runtime::ENTRIES) };
    // With DEFER_TASKRUN the completion would not come before the ring is entered again.
    let event = EventFd::new().expect("a descriptor is left");
    let poll = opcode::PollAdd::new(types::Fd(event.as_raw_fd()), libc::POLLIN as u32).build();
    // SAFETY: a poll names no memory, and the descriptor outlives it.
    unsafe { ring.submission().push(&poll).expect("room") };
    ring.submit().expect("submits");
    event.signal().expect("signals");
    let started = Instant::now();
    while ring.completion().is_empty() {
        assert!(started.elapsed() < PATIENCE, "deferred for ever");
        thread::yield_now();
    }
}
