//! An allocator that counts what one thread of the process does with the heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};

pub struct Counting;

/// Kernel id of the thread that is counted; 0: none.
static COUNTED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HELD_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OWN: Cell<i32> = const { Cell::new(0) };
}

/// What the counted thread has done.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Allocations and reallocations.
    pub allocations: u64,
    /// Bytes allocated less bytes freed.
    pub held_bytes: i64,
}

impl Counts {
    pub fn now() -> Self {
        Self { allocations: ALLOCATIONS.load(Relaxed), held_bytes: HELD_BYTES.load(Relaxed) }
    }

    pub fn since(before: Self) -> Self {
        let now = Self::now();
        Self {
            allocations: now.allocations - before.allocations,
            held_bytes: now.held_bytes - before.held_bytes,
        }
    }
}

/// Counts the thread of this name from now on.
pub fn count_thread(name: &str) {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads of this process");
    let of_name = |task: fs::DirEntry| {
        let comm = fs::read_to_string(task.path().join("comm")).ok()?;
        (comm.trim_end() == name).then(|| task.file_name().into_string().ok()?.parse().ok())?
    };
    let threads = tasks.flatten().filter_map(of_name);
    let thread: i32 = threads.max().expect("a thread of that name");
    COUNTED.store(thread, Relaxed);
}

fn is_counted() -> bool {
    let counted = COUNTED.load(Relaxed);
    let is_own = |own: &Cell<i32>| {
        if own.get() == 0 {
            // SAFETY: gettid(2) takes nothing and cannot fail.
            own.set(unsafe { libc::gettid() });
        }
        own.get() == counted
    };
    counted != 0 && OWN.try_with(is_own).unwrap_or(false)
}

fn count(allocations: u64, bytes: i64) {
    if is_counted() {
        ALLOCATIONS.fetch_add(allocations, Relaxed);
        HELD_BYTES.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }
}
