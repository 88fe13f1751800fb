//! The management interface: `/health` and `/metrics` over HTTP/1.1, on the control thread.

mod health;
mod server;

pub use health::{Health, ShardHealth, TICK_SILENCE_MS_MAX};
pub use server::{Admin, CONNECTIONS_MAX, REQUEST_TIME_MAX};
