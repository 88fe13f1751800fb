//! Settings: what they are, where they come from, and why some are refused.
//!
//! [`Settings`] is the whole tree in plain typed fields; every field has a default, so an empty
//! file is a valid configuration.

mod nats_url;
mod settings;
mod types;

pub use nats_url::{NatsUrl, UrlCredentials};
pub use settings::*;
pub use types::*;
