//! One monoio runtime per shard thread.

use std::io;

use monoio::{IoUringDriver, RuntimeBuilder};

/// Entries of the runtime's own ring: the NATS socket, the mailbox, the device ring's readiness and
/// timers. monoio panics on a full queue in some modes, so it is generous.
pub(super) const ENTRIES: u32 = 4096;
/// At least four times the entries: beyond it the kernel's overflow list delays completions.
pub(super) const COMPLETIONS: u32 = 32_768;

/// Runs what `main` makes until it ends, on this thread, pinned to `core` when one is given.
///
/// # Errors
/// When the thread cannot be pinned or the ring cannot be made.
pub fn run<F: Future>(core: Option<usize>, main: impl FnOnce() -> F) -> io::Result<F::Output> {
    if let Some(core) = core {
        monoio::utils::bind_to_cpu_set([core]).map_err(io::Error::other)?;
    }
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .uring_builder(ring_builder())
        .with_entries(ENTRIES)
        .enable_timer()
        .build()?;
    Ok(runtime.block_on(async move { main().await }))
}

/// COOP_TASKRUN and SINGLE_ISSUER are safe with monoio 0.2.4; DEFER_TASKRUN starves its I/O and
/// SQPOLL panics on a full queue, so neither can be chosen.
pub(super) fn ring_builder() -> io_uring::Builder {
    let mut ring = io_uring::IoUring::builder();
    ring.dontfork().setup_clamp().setup_cqsize(COMPLETIONS);
    ring.setup_coop_taskrun().setup_single_issuer();
    ring
}

/// The processors this process may run on, in order.
pub fn cores() -> Vec<usize> {
    // SAFETY: cpu_set_t is plain bits, for which zero is valid; sched_getaffinity fills it and
    // CPU_ISSET reads below CPU_SETSIZE only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return vec![0];
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &set)).collect()
    }
}
