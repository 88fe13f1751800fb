//! A ring of buffers that the kernel picks from when data has arrived.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Buffers in the ring; a power of two.
const COUNT: u16 = 256;
/// Bytes in a buffer.
const BYTES: usize = 16 * 1024;
/// The only group of buffers.
pub const GROUP: u16 = 0;

/// Provided buffers (`IORING_REGISTER_PBUF_RING`), registered for as long as the ring lives.
pub struct Buffers {
    entries: *mut BufRingEntry,
    data: *mut u8,
    tail: u16,
}

impl Buffers {
    /// Maps the memory and hands all buffers to the kernel.
    pub fn register(ring: &IoUring) -> io::Result<Self> {
        let entries = map(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast::<BufRingEntry>();
        let data = map(usize::from(COUNT) * BYTES)?;
        // SAFETY: both mappings are large enough, page-aligned and never unmapped.
        unsafe { ring.submitter().register_buf_ring(entries as u64, COUNT, GROUP)? };
        let mut buffers = Self { entries, data, tail: 0 };
        for id in 0..COUNT {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What the kernel wrote: the first `len` bytes of buffer `id`.
    ///
    /// # Panics
    /// If the kernel named a buffer or a length that cannot be.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < COUNT && len <= BYTES, "buffer {id} with {len} bytes");
        // SAFETY: within the mapping; the kernel does not write to it until it is given back.
        unsafe { std::slice::from_raw_parts(self.data.add(usize::from(id) * BYTES), len) }
    }

    /// Puts buffer `id` back; the kernel sees it after [`Self::publish`].
    pub fn give_back(&mut self, id: u16) {
        assert!(id < COUNT, "buffer {id}");
        // SAFETY: both indices are below COUNT; the kernel reads an entry only below the tail.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (COUNT - 1)));
            entry.set_addr(self.data.add(usize::from(id) * BYTES) as u64);
            entry.set_len(BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes what was put back visible to the kernel.
    pub fn publish(&mut self) {
        // SAFETY: the tail lies in the first entry, is aligned to two bytes, and is written by
        // this thread alone.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

fn map(bytes: usize) -> io::Result<*mut u8> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}
