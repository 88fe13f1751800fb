//! How long after a revocation the sessions it concerns are closed.
//!
//! Plays the credentials service behind 22/CAP and the devices. Publishes a revocation and takes,
//! per session, the time from just before the publish until the device sees the connection closed.

mod devices;
mod figures;
mod limit;
mod provider;
#[path = "../load/sys.rs"]
#[allow(dead_code, reason = "the load generator uses more of it")]
mod sys;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use devices::Devices;
use figures::{Held, Latencies};
use provider::Provider;

/// Descriptors needed besides those of the sessions.
const DESCRIPTORS_BESIDES: u64 = 64;
/// For how long the gateway may not hear revocations yet when the run begins.
const HEARS_WITHIN: Duration = Duration::from_secs(30);
/// How long a first revocation is waited for before it is said again.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// How long sessions that were revoked are waited for.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Between two revocations of single sessions, so that each meets a gateway at rest.
const PAUSE: Duration = Duration::from_millis(10);
/// Between the opening of all sessions and a revocation, for the same reason.
const REST: Duration = Duration::from_millis(500);
/// What is to hold on an idle machine with 10,000 sessions (99th percentiles).
const SHARED_HELD: Duration = Duration::from_millis(100);
const SINGLE_HELD: Duration = Duration::from_millis(10);

#[derive(Parser)]
#[command(
    name = "bench-revocation",
    about = "Measures the time from a revocation event to closed connections"
)]
struct Options {
    /// Address of the gateway's MQTT listener; its client provider is to be `cap`.
    #[arg(long)]
    gateway: SocketAddr,
    /// Address of the NATS server that the gateway is connected to.
    #[arg(long)]
    nats: SocketAddr,
    /// Sessions held.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    sessions: u32,
    /// Revocations of the credential that all sessions share.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Revocations of single sessions, each with a credential of its own.
    #[arg(long, default_value_t = 200)]
    singles: u32,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-revocation: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    limit::raise_descriptors(u64::from(options.sessions) + DESCRIPTORS_BESIDES)
        .map_err(|error| format!("{} sessions need more descriptors: {error}", options.sessions))?;
    let provider = Provider::start(options.nats)?;
    await_hearing(options, &provider)?;
    println!("sessions: {}, half MQTT 3.1.1, half MQTT 5.0", options.sessions);
    figures::print_head();
    let shared = shared(options, &provider)?;
    let single = single(options, &provider)?;
    println!();
    shared.print("p99, all sessions share the credential");
    single.print("p99, one session of all");
    Ok(())
}

/// The gateway accepts logins as soon as a shard has its link; revocations it hears over another.
fn await_hearing(options: &Options, provider: &Provider) -> Result<(), String> {
    let until = Instant::now() + HEARS_WITHIN;
    let mut devices = Devices::open(options.gateway, 1, |_| "first".to_owned())?;
    while Instant::now() < until {
        provider.revoke("first")?;
        if devices.watch(HEARD_WITHIN, 1)?.len() == 1 {
            return Ok(());
        }
    }
    Err("the gateway does not close what is revoked; is its client provider `cap`?".to_owned())
}

/// All sessions have one credential.
fn shared(options: &Options, provider: &Provider) -> Result<Held, String> {
    let mut all = Latencies::default();
    for round in 1..=options.rounds {
        let opening = Instant::now();
        let mut devices =
            Devices::open(options.gateway, options.sessions, |_| "shared".to_owned())?;
        let opened = opening.elapsed();
        devices.expect_quiet(REST)?;
        let mut latencies = Latencies::default();
        latencies.count_close(&mut devices, provider, "shared", options.sessions as usize)?;
        latencies.print(&format!("shared credential, round {round}"));
        let (opened_s, farewells) = (opened.as_secs_f64(), devices.farewells());
        println!("  opened in {opened_s:.1} s; {farewells}");
        all.append(&latencies);
    }
    all.print("shared credential, all rounds");
    Ok(all.held(SHARED_HELD))
}

/// Every session has its own credential; one after the other is revoked.
fn single(options: &Options, provider: &Provider) -> Result<Held, String> {
    let mut devices =
        Devices::open(options.gateway, options.sessions, |index| format!("u{index}"))?;
    devices.expect_quiet(REST)?;
    let mut latencies = Latencies::default();
    let singles = options.singles.min(options.sessions);
    // Odd, so that both versions of MQTT have their turn; spread over all sessions.
    let step = (options.sessions / singles.max(1)).saturating_sub(1) | 1;
    for index in (0..options.sessions).step_by(step as usize).take(singles as usize) {
        latencies.count_close(&mut devices, provider, &format!("u{index}"), 1)?;
        devices.expect_quiet(PAUSE)?;
    }
    latencies.print("one session of all");
    println!("  {}", devices.farewells());
    Ok(latencies.held(SINGLE_HELD))
}

impl Latencies {
    /// Revokes a credential and counts how long each of its `sessions` took to close.
    fn count_close(
        &mut self,
        devices: &mut Devices,
        provider: &Provider,
        username: &str,
        sessions: usize,
    ) -> Result<(), String> {
        let published = provider.revoke(username)?;
        let closed = devices.watch(CLOSED_WITHIN, sessions)?;
        if closed.len() != sessions || closed.iter().any(|(name, _)| name != username) {
            let ours = closed.iter().filter(|(name, _)| name == username).count();
            return Err(format!(
                "{username} was revoked: {ours} of its {sessions} sessions and {} others were \
                 closed within {} s",
                closed.len() - ours,
                CLOSED_WITHIN.as_secs()
            ));
        }
        for (_, at) in closed {
            self.add(at.saturating_duration_since(published));
        }
        Ok(())
    }
}
