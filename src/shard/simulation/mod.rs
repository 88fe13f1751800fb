//! A seeded simulation of whole shards: one or two cores with their ledgers, mailboxes and the
//! registry they share, between models of MQTT clients and of nats-server. No ring, no runtime, no
//! clock: one source of chance decides what happens next, so a run can be repeated by its seed.
//!
//! `RINGGATE_SIM_SEED=<n>` runs one seed, `RINGGATE_SIM_SEEDS=<n>` so many from 0 on.

mod clients;
mod device;
mod directed;
mod http;
mod identity;
mod judged;
mod nats;
mod proxy;
mod random;
mod rest;
mod setup;
mod tls;
mod truth;
mod uplink;
mod waiting;
mod websocket;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Fault, World};

/// Seeds of a usual run; it takes some 15 s in a debug build.
const SEEDS: u64 = 1500;
/// Events before the world comes to rest.
const STEPS: usize = 500;
/// Seeds within which a fault must be found.
const FAULT_SEEDS: u64 = 200;

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

fn run(seed: u64, fault: Option<Fault>) {
    let mut world = World::new(seed, fault);
    for _ in 0..STEPS {
        world.step();
    }
    world.come_to_rest();
    world.end();
}

#[test]
fn shards_keep_their_promises_whatever_happens() {
    if let Some(seed) = number_from("RINGGATE_SIM_SEED") {
        return run(seed, None);
    }
    for seed in 0..number_from("RINGGATE_SIM_SEEDS").unwrap_or(SEEDS) {
        if catch_unwind(AssertUnwindSafe(|| run(seed, None))).is_err() {
            panic!("the simulation failed: RINGGATE_SIM_SEED={seed}");
        }
    }
}

/// The rig itself: a fault put in on purpose is found, and found for what it is.
#[track_caller]
fn assert_found(fault: Fault, expected: &str) {
    for seed in 0..FAULT_SEEDS {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, Some(fault)))) else {
            continue;
        };
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        assert!(text.contains(expected), "{fault:?} was found as {text:?}");
        return;
    }
    panic!("{fault:?} was not found");
}

#[test]
fn an_acknowledgement_before_the_pong_is_found() {
    assert_found(Fault::EarlyPong, "was acknowledged before NATS had confirmed it");
}

#[test]
fn a_message_that_is_lost_is_found() {
    assert_found(Fault::Loss, "was acknowledged before NATS had confirmed it");
}

#[test]
fn a_repeated_qos_0_message_is_found() {
    assert_found(Fault::Repetition, "of QoS 0 came to NATS twice");
}

#[test]
fn a_lost_mail_between_shards_is_found() {
    assert_found(Fault::LostMail, "lives");
}

#[test]
fn an_answer_to_the_wrong_client_is_found() {
    assert_found(Fault::CrossedAnswers, "it was for");
}

#[test]
fn a_hold_that_is_not_lifted_is_found() {
    assert_found(Fault::ForgottenHold, "is held");
}
