//! The runtime of a shard, and the only room that names monoio.

pub mod stream;
pub mod task;
