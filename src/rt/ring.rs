//! The device ring: every device socket of a shard on one io_uring of its own.
//!
//! One multishot accept per listener, one multishot receive per connection, and sends. A quiet
//! connection costs this process nothing but its table entry: the kernel takes a buffer only when
//! bytes arrive. Operations are queued as they come and handed over by one [`DeviceRing::submit`]
//! per turn.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::types::{CancelBuilder, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use super::buffers::{BufferId, GROUP, ReadBuffers};

/// Operations that may be queued between two submissions; when it is full the ring submits by
/// itself.
pub const SUBMISSIONS_MAX: u32 = 4096;
/// Completions that may wait to be reaped; beyond it the kernel keeps them on an overflow list.
pub const COMPLETIONS_MAX: u32 = 32_768;

/// io_uring_enter(2): reap deferred work.
const ENTER_GETEVENTS: u32 = 1;
/// Attempts of a ring about to be dropped to end what is in flight, and how long each waits.
const QUIESCE_ATTEMPTS_MAX: usize = 3;
const QUIESCE_TIMEOUT_S: u64 = 1;

/// What has happened on the ring.
#[derive(Debug)]
pub enum Completion {
    /// A connection was accepted.
    Accepted {
        /// The number given to [`DeviceRing::accept`].
        listener: u32,
        /// The new socket.
        socket: OwnedFd,
        /// Whether accepting goes on by itself; `false`: arm it again.
        armed: bool,
    },
    /// Accepting has stopped (descriptor limit, cancelled) and must be armed again to go on.
    AcceptStopped {
        /// The number given to [`DeviceRing::accept`].
        listener: u32,
        /// Why.
        error: io::Error,
    },
    /// Bytes have arrived.
    Received {
        /// The connection.
        key: u32,
        /// The buffer that holds them.
        buffer: BufferId,
        /// How many bytes.
        len: u32,
        /// Whether the receive goes on by itself; `false`: arm it again.
        armed: bool,
    },
    /// The receive has ended.
    ReceiveStopped {
        /// The connection.
        key: u32,
        /// Why.
        why: Stopped,
    },
    /// A send has ended; the buffer comes back.
    Sent {
        /// The connection.
        key: u32,
        /// The buffer given to [`DeviceRing::send`].
        bytes: Vec<u8>,
        /// Nothing when all bytes were taken over by the kernel.
        result: io::Result<()>,
    },
}

/// Why a receive has ended.
#[derive(Debug)]
pub enum Stopped {
    /// The peer has closed its side.
    Closed,
    /// All read buffers are in use; arm again once some are back.
    NoBuffers,
    /// Cancelled by [`DeviceRing::cancel_receive`].
    Cancelled,
    /// The socket failed.
    Failed(io::Error),
}

/// Kind of an operation, in the low bits of its user data.
const OP_ACCEPT: u64 = 1;
const OP_RECEIVE: u64 = 2;
const OP_SEND: u64 = 3;
const OP_CANCEL: u64 = 4;
const OP_BITS: u32 = 4;
/// Sends in flight are numbered in 28 bits: one per connection at most, and far fewer descriptors.
const SLOT_BITS: u32 = 28;

const fn tag(op: u64, slot: usize, key: u32) -> u64 {
    op | (slot as u64) << OP_BITS | (key as u64) << (OP_BITS + SLOT_BITS)
}

/// A send the kernel is working on: it owns the bytes until then.
struct Sending {
    socket: RawFd,
    bytes: Vec<u8>,
    sent: usize,
}

/// See the module's documentation. Not `Send`: a ring belongs to the thread that made it.
pub struct DeviceRing {
    // Declared before the buffers: the ring must be gone before their memory is.
    ring: IoUring,
    buffers: ReadBuffers,
    sending: Slab<Sending>,
    /// Operations not handed over yet.
    queued: u32,
    /// Operations whose last completion has not been reaped, queued ones included.
    in_flight: u32,
    _single_thread: std::marker::PhantomData<*const ()>,
}

impl DeviceRing {
    /// Makes the ring with `buffer_count` read buffers of `buffer_bytes` bytes each.
    ///
    /// # Errors
    /// The kernel's refusal; [`super::preflight`] turns it into advice.
    pub fn new(buffer_count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let ring = builder().build(SUBMISSIONS_MAX)?;
        let buffers = ReadBuffers::register(&ring, buffer_count, buffer_bytes)?;
        Ok(Self {
            ring,
            buffers,
            sending: Slab::new(),
            queued: 0,
            in_flight: 0,
            _single_thread: std::marker::PhantomData,
        })
    }

    /// Accepts on `listener` until it is stopped.
    pub fn accept(&mut self, listener: u32, socket: RawFd) {
        let entry = opcode::AcceptMulti::new(types::Fd(socket))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag(OP_ACCEPT, 0, listener));
        self.push(entry);
    }

    /// Receives from connection `key` until it is stopped.
    pub fn receive(&mut self, key: u32, socket: RawFd) {
        let entry = opcode::RecvMulti::new(types::Fd(socket), GROUP)
            .build()
            .user_data(tag(OP_RECEIVE, 0, key));
        self.push(entry);
    }

    /// Stops receiving from connection `key`; [`Stopped::Cancelled`] follows, after what had
    /// already arrived.
    pub fn cancel_receive(&mut self, key: u32) {
        self.cancel(tag(OP_RECEIVE, 0, key));
    }

    /// Stops accepting on `listener`.
    pub fn cancel_accept(&mut self, listener: u32) {
        self.cancel(tag(OP_ACCEPT, 0, listener));
    }

    fn cancel(&mut self, target: u64) {
        let entry = opcode::AsyncCancel::new(target).build().user_data(tag(OP_CANCEL, 0, 0));
        self.push(entry);
    }

    /// Sends `bytes` to connection `key`. One send per connection at a time keeps them in order.
    pub fn send(&mut self, key: u32, socket: RawFd, bytes: Vec<u8>) {
        let slot = self.sending.insert(Sending { socket, bytes, sent: 0 });
        self.push_send(slot, key);
    }

    fn push_send(&mut self, slot: usize, key: u32) {
        let sending = &self.sending[slot];
        let rest = &sending.bytes[sending.sent..];
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(types::Fd(sending.socket), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(tag(OP_SEND, slot, key));
        self.push(entry);
    }

    /// Queues an entry. Its memory, if it names any, is owned by `self.sending` or `self.buffers`.
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: every entry made in this module names no memory, or memory that `sending` or
            // `buffers` keeps until the operation's last completion has been reaped: that is what
            // `in_flight` counts, and `Drop` frees nothing before it is zero.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                self.queued += 1;
                self.in_flight += 1;
                return;
            }
            // The queue is full: hand it over. A failure leaves it full and is tried again, since
            // only memory pressure (EAGAIN, EBUSY) makes it fail.
            let _ = self.submit();
        }
    }

    /// Hands over what is queued and lets the kernel post what has completed.
    ///
    /// # Errors
    /// The kernel's; `EAGAIN` and `EBUSY` pass by themselves and are not reported.
    pub fn submit(&mut self) -> io::Result<()> {
        let work_waits = {
            let queue = self.ring.submission();
            queue.taskrun() || queue.cq_overflow()
        };
        if self.queued == 0 && !work_waits {
            return Ok(());
        }
        // SAFETY: flags without an argument: nothing is passed by pointer.
        let entered = unsafe {
            self.ring.submitter().enter::<libc::sigset_t>(self.queued, 0, ENTER_GETEVENTS, None)
        };
        match entered {
            Ok(taken) => {
                self.queued = self.queued.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
                Ok(())
            }
            Err(e) => match e.raw_os_error() {
                Some(libc::EAGAIN | libc::EBUSY | libc::EINTR) => Ok(()),
                _ => Err(e),
            },
        }
    }

    /// Whether operations wait to be handed over.
    pub fn has_queued(&self) -> bool {
        self.queued > 0
    }

    /// The next completion that concerns the caller, if one is there.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if let Some(completion) = self.interpret(&entry) {
                return Some(completion);
            }
        }
    }

    fn interpret(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let data = entry.user_data();
        let key = (data >> (OP_BITS + SLOT_BITS)) as u32;
        let slot = (data >> OP_BITS) as usize & ((1 << SLOT_BITS) - 1);
        let result = entry.result();
        let more = cqueue::more(entry.flags());
        self.in_flight -= u32::from(!more);
        match data & ((1 << OP_BITS) - 1) {
            OP_ACCEPT => Some(accepted(key, result, more)),
            OP_RECEIVE => Some(self.received(key, result, entry.flags(), more)),
            OP_SEND => self.sent(slot, key, result),
            _ => None,
        }
    }

    fn received(&mut self, key: u32, result: i32, flags: u32, more: bool) -> Completion {
        let buffer = cqueue::buffer_select(flags).map(BufferId);
        let why = match (result, buffer) {
            (n, Some(buffer)) if n > 0 => {
                return Completion::Received { key, buffer, len: n as u32, armed: more };
            }
            (_, Some(empty)) => {
                self.buffers.recycle(empty);
                stopped(result)
            }
            (_, None) => stopped(result),
        };
        Completion::ReceiveStopped { key, why }
    }

    /// A send that was cut short goes on; only its end is reported.
    fn sent(&mut self, slot: usize, key: u32, result: i32) -> Option<Completion> {
        let sending = self.sending.get_mut(slot)?;
        let result = match result {
            0 => Err(io::Error::from(io::ErrorKind::WriteZero)),
            n if n > 0 => {
                sending.sent += n as usize;
                if sending.sent < sending.bytes.len() {
                    self.push_send(slot, key);
                    return None;
                }
                Ok(())
            }
            e if -e == libc::EINTR || -e == libc::EAGAIN => {
                self.push_send(slot, key);
                return None;
            }
            e => Err(io::Error::from_raw_os_error(-e)),
        };
        Some(Completion::Sent { key, bytes: self.sending.remove(slot).bytes, result })
    }

    /// The read buffers.
    pub fn buffers(&mut self) -> &mut ReadBuffers {
        &mut self.buffers
    }

    /// Gives a read buffer back to the kernel.
    pub fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer);
    }
}

impl AsRawFd for DeviceRing {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl DeviceRing {
    /// Ends every operation and reaps what they leave: afterwards the kernel neither reads from a
    /// send nor writes to a read buffer, and no accepted socket is left behind. Whether that
    /// worked.
    ///
    /// Closing the ring alone would not do: the kernel ends its operations some time after that.
    fn quiesce(&mut self) -> bool {
        for _ in 0..QUIESCE_ATTEMPTS_MAX {
            // What is still queued must be known to the kernel to be cancelled. The results of both
            // calls show in what is reaped.
            let _ = self.submit();
            let timeout = Timespec::new().sec(QUIESCE_TIMEOUT_S);
            let _ = self.ring.submitter().register_sync_cancel(Some(timeout), CancelBuilder::any());
            let _ = self.submit();
            loop {
                let entry = self.ring.completion().next();
                let Some(entry) = entry else { break };
                self.discard(&entry);
            }
            if self.in_flight == 0 {
                return true;
            }
        }
        false
    }

    fn discard(&mut self, entry: &cqueue::Entry) {
        self.in_flight -= u32::from(!cqueue::more(entry.flags()));
        if entry.user_data() & ((1 << OP_BITS) - 1) == OP_ACCEPT {
            drop(accepted(0, entry.result(), false));
        }
    }
}

impl Drop for DeviceRing {
    fn drop(&mut self) {
        if !self.quiesce() {
            // Memory that the kernel may still touch is never freed.
            for sending in self.sending.drain() {
                std::mem::forget(sending.bytes);
            }
            self.buffers.keep_for_ever();
        }
    }
}

/// One bad operation does not hold up those behind it; one thread submits; completions are posted
/// when that thread enters the kernel anyway. Not DEFER_TASKRUN: monoio, waiting for this ring as
/// for a descriptor, is not woken by deferred work.
pub(super) fn builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .dontfork()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS_MAX)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_taskrun_flag();
    builder
}

fn accepted(listener: u32, result: i32, armed: bool) -> Completion {
    if result < 0 {
        let error = io::Error::from_raw_os_error(-result);
        return Completion::AcceptStopped { listener, error };
    }
    // SAFETY: a non-negative result of an accept is a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(result) };
    Completion::Accepted { listener, socket, armed }
}

fn stopped(result: i32) -> Stopped {
    match -result {
        0 => Stopped::Closed,
        libc::ENOBUFS => Stopped::NoBuffers,
        libc::ECANCELED => Stopped::Cancelled,
        errno => Stopped::Failed(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests;
