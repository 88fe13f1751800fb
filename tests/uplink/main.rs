//! The NATS link: its ledger in simulation, the link against a real nats-server.
//!
//! The server is the one that `TEST_NATS_SERVER` names, else `nats-server` on the PATH.

mod broken;
mod connecting;
mod forwarder;
mod ledger_simulation;
mod login;
mod rig;
mod server;
mod traffic;
