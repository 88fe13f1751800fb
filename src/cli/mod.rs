//! What the command line does beyond running the gateway.

pub mod configuration;
pub mod creds;

pub use configuration::{Configuration, load};
pub use creds::Creds;

/// The work failed.
pub const FAILURE: u8 = 1;

/// The configuration was refused; clap ends with the same code on a bad command line.
pub const BAD_CONFIGURATION: u8 = 2;
