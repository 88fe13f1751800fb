//! The runtime of a shard, and the only room that names monoio and io_uring.
//!
//! A shard thread runs one monoio runtime ([`runtime`]): timers, the NATS socket ([`stream`]), the
//! mailbox and the wait. Device sockets live on a second ring of the same thread, the
//! [`ring::DeviceRing`], because what a gateway of many quiet connections needs (multishot accept,
//! multishot receive, provided buffers) cannot be issued through monoio 0.2.4. monoio waits for
//! that ring as for any other descriptor ([`ready::Readiness`]). `docs/architecture.md` has the
//! reasons and the measurement.

pub mod buffers;
pub mod eventfd;
#[cfg(test)]
mod hazards;
pub mod listener;
pub mod preflight;
pub mod ready;
pub mod ring;
pub mod runtime;
pub mod socket;
pub mod stream;
pub mod task;
