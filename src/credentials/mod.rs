//! The internal provider of credentials.

pub mod authority;
