//! The management interface on the control thread, over HTTP/1.1: `/health`, `/metrics`, and the
//! REST interface of the internal provider's credentials.

mod credentials;
mod health;
mod rest;
mod server;

pub use credentials::{BASE, Change, CredentialsApi, Desk, OPERATIONS_MAX};
pub use health::{Health, ShardHealth, TICK_SILENCE_MS_MAX};
pub use server::{Admin, CONNECTIONS_MAX, REQUEST_TIME_MAX};
