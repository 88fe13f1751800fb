//! The provided buffers of a device ring: memory the kernel picks from when data arrives, so that a
//! quiet connection holds no buffer at all.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The ring is shared with the kernel page by page.
const PAGE_BYTES: usize = 4096;

/// The one buffer group of a device ring.
pub(super) const GROUP: u16 = 0;

/// Names one provided buffer that holds received bytes; give it back with
/// [`ReadBuffers::recycle`].
#[derive(Debug, PartialEq, Eq)]
pub struct BufferId(pub(super) u16);

/// A ring of `count` buffers of `bytes` bytes each, registered with the kernel.
pub struct ReadBuffers {
    entries: *mut BufRingEntry,
    data: *mut u8,
    layout: Layout,
    count: u16,
    bytes: u32,
    tail: u16,
    /// Whether the kernel may still write to the memory when this is dropped.
    is_kept: bool,
}

impl ReadBuffers {
    /// Allocates the buffers and registers them with `ring`. `count` is a power of two, at most
    /// 32,768.
    ///
    /// # Errors
    /// The kernel's refusal, for example for want of locked memory.
    ///
    /// # Panics
    /// When `count` is not a power of two: configuration has checked it.
    pub fn register(ring: &IoUring, count: u16, bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "a buffer ring holds a power of two of buffers");
        let head_bytes =
            (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES);
        let layout =
            Layout::from_size_align(head_bytes + usize::from(count) * bytes as usize, PAGE_BYTES)
                .map_err(io::Error::other)?;
        // SAFETY: the layout has a non-zero size, since count is at least 1 and the head a page.
        let base = unsafe { alloc_zeroed(layout) };
        if base.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: head_bytes is inside the allocation just made.
        let data = unsafe { base.add(head_bytes) };
        let mut buffers =
            Self { entries: base.cast(), data, layout, count, bytes, tail: 0, is_kept: false };
        // SAFETY: the memory is page-aligned and lives until `drop`, which runs only after the ring
        // is gone (DeviceRing declares the ring first) and after every receive that could take a
        // buffer has ended (DeviceRing's own drop sees to that, or calls `keep_for_ever`).
        unsafe { ring.submitter().register_buf_ring(base as u64, count, GROUP)? };
        for id in 0..count {
            buffers.recycle(BufferId(id));
        }
        Ok(buffers)
    }

    /// The first `len` bytes of a buffer the kernel has filled, to be read or decrypted in place.
    ///
    /// # Panics
    /// When `len` exceeds the buffer: the kernel never reports that.
    pub fn bytes(&mut self, buffer: &BufferId, len: u32) -> &mut [u8] {
        assert!(buffer.0 < self.count && len <= self.bytes);
        // SAFETY: the range is inside the data region (asserted above). The kernel has handed this
        // buffer over and does not touch it again before `recycle`, which consumes the id; the
        // exclusive borrow of `self` keeps every other slice of this memory away.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.data.add(usize::from(buffer.0) * self.bytes as usize),
                len as usize,
            )
        }
    }

    /// Gives a buffer back to the kernel.
    pub fn recycle(&mut self, buffer: BufferId) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: slot < count entries, all inside the allocation; only this thread writes entries,
        // and the kernel reads this one only after the tail below is published.
        unsafe {
            let entry = &mut *self.entries.add(slot);
            entry.set_addr(self.data.add(usize::from(buffer.0) * self.bytes as usize) as u64);
            entry.set_len(self.bytes);
            entry.set_bid(buffer.0);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry of the registered ring, is two-byte aligned, and
        // is written by this thread alone; release orders the entry's fields before it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// Lets the memory outlive this value.
    pub(super) fn keep_for_ever(&mut self) {
        self.is_kept = true;
    }

    /// How many buffers there are.
    pub fn count(&self) -> u16 {
        self.count
    }
}

impl Drop for ReadBuffers {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // SAFETY: allocated in `register` with this layout. No operation of the ring can write to
        // it any more, and the ring is closed (see `register`).
        unsafe { dealloc(self.entries.cast(), self.layout) }
    }
}
