//! The runtime of a shard, and the only room with `unsafe`.

pub mod eventfd;
