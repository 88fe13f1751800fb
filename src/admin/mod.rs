//! The management interface on the control thread, over HTTP/1.1: `/health`, `/metrics`, the
//! certificate chain of TLS, and the REST interface of the internal provider's credentials.

mod chain;
mod credentials;
mod health;
mod rest;
mod server;

pub use chain::{CHAIN_PATH, FindChain, ProfileChains};
pub use credentials::{BASE, Change, CredentialsApi, Desk, OPERATIONS_MAX};
pub use health::{Health, ShardHealth, TICK_SILENCE_MS_MAX};
pub use server::{Admin, CONNECTIONS_MAX, REQUEST_TIME_MAX};
