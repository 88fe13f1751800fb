//! One shard: a thread that owns its connections, sessions, routes and its link to NATS.

pub mod mail;
