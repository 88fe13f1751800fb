//! A seeded simulation of who may talk: one core whose provider answers in any order, late, twice,
//! wrongly or never, while credentials are revoked, tenants change what they demand, and clients
//! come, talk and go. A schedule is some 30 events and coming to rest; schedules of a group are
//! played on one core after each other.
//!
//! `RINGGATE_IDENTITY_SEED=<n>` plays one seed, with those before it in its group;
//! `RINGGATE_IDENTITY_SEEDS=<n>` so many from 0 on.

mod device;
mod events;
mod nats;
mod provider;
mod rig;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::number_from;
use world::World;

/// Schedules of a usual run.
const SEEDS: u64 = 100_000;
/// Schedules on one core.
const GROUP: u64 = 500;
/// Threads that share the work.
const THREADS: u64 = 2;
/// Schedules within which a fault must be found.
const FAULT_SEEDS: u64 = 1000;

/// Something wrong, put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The shard does not hear that a token was revoked.
    DeafToRevocations,
    /// Everybody's credentials are good.
    CarelessClerk,
    /// Answers are given to other questions.
    WrongNumber,
    /// The ledger hears of a PONG as soon as a batch is written.
    EarlyPong,
}

/// Plays the schedules of a group up to `end`; the seed that failed with what it said.
fn play(group: u64, end: u64, fault: Option<Fault>) -> Result<(), (u64, String)> {
    let mut world = World::new(group, fault);
    for seed in group * GROUP..end.min((group + 1) * GROUP) {
        catch_unwind(AssertUnwindSafe(|| world.play(seed))).map_err(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default();
            // What has panicked is in no state to be taken apart.
            (seed, text)
        })?;
    }
    Ok(())
}

#[test]
fn nobody_talks_who_may_not_whatever_happens() {
    if let Some(seed) = number_from("RINGGATE_IDENTITY_SEED") {
        return play(seed / GROUP, seed + 1, None).expect("the schedule goes well");
    }
    let seeds = number_from("RINGGATE_IDENTITY_SEEDS").unwrap_or(SEEDS);
    let work = |thread: u64| {
        for group in (0..seeds.div_ceil(GROUP)).filter(|group| group % THREADS == thread) {
            if let Err((seed, text)) = play(group, seeds, None) {
                panic!("the simulation failed: RINGGATE_IDENTITY_SEED={seed}: {text}");
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || work(thread));
        }
    });
}

/// The rig itself: a fault put in on purpose is found, and found for what it is.
#[track_caller]
fn assert_found(fault: Fault, expected: &[&str]) {
    for group in 0..FAULT_SEEDS / GROUP {
        if let Err((_, text)) = play(group, FAULT_SEEDS, Some(fault)) {
            let is_expected = expected.iter().any(|expected| text.contains(expected));
            assert!(is_expected, "{fault:?} was found as {text:?}");
            return;
        }
    }
    panic!("{fault:?} was not found");
}

#[test]
fn a_revocation_that_is_not_heard_is_found() {
    assert_found(Fault::DeafToRevocations, &["with a revoked token"]);
}

#[test]
fn a_clerk_that_grants_everything_is_found() {
    let expected = ["let in with a wrong password", "nobody has granted", "revoked", "granted"];
    assert_found(Fault::CarelessClerk, &expected);
}

#[test]
fn an_answer_to_another_question_is_found() {
    let expected = ["speaks for another", "granted", "let in", "not carried", "revoked"];
    assert_found(Fault::WrongNumber, &expected);
}

#[test]
fn a_success_before_the_pong_is_found() {
    assert_found(Fault::EarlyPong, &["acknowledged before its PONG"]);
}
