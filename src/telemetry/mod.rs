//! What an operator sees: counters and histograms of each shard, their exposition as OpenMetrics
//! text, and logs.
//!
//! A shard writes its own [`ShardCounters`] with plain relaxed stores; nobody else writes them.
//! The control thread reads them when it is scraped. Nothing here is shared between two writers,
//! so nothing on the message path needs a read-modify-write.

pub mod clock;
mod control;
mod counter;
pub mod exposition;
pub mod histogram;
mod labels;
mod link_status;
pub mod logging;
mod process;
mod shard;

pub use control::ControlCounters;
pub use counter::{Counter, Gauge};
pub use histogram::{BatchSizes, Latency};
pub use labels::{
    AnswerStatus, AskOutcome, CloseReason, ConnectRefusal, ConnectivityKind, DropReason,
    HttpStatus, PushDrop, RevocationKind, TlsFailure, WebSocketFailure,
};
pub use link_status::LinkStatus;
pub use logging::RateLimit;
pub use shard::ShardCounters;
