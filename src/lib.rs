//! ringgate: an io_uring edge gateway. Devices speak Kaa's 1/KP over MQTT, extension services
//! hear 4/ESP over NATS, and the answers go back.
//!
//! `docs/architecture.md` has the bird's-eye view and the map of the rooms.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod codec;
pub mod config;
pub mod control;
pub mod credentials;
pub mod providers;
pub mod rt;
pub mod server;
pub mod session;
pub mod shard;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod uplink;
