//! The NATS link: its ledger in simulation, the link against a real nats-server.

mod ledger_simulation;
