//! Command line of ringgate.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringgate::cli::{self, BAD_CONFIGURATION, Configuration, Creds, FAILURE, load};
use ringgate::config::Settings;
use ringgate::tls::Renewal;

/// For what allocates: CONNECT, kept messages, the control thread. The message path does not. Its
/// gain over the system's allocator has not been measured yet.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Carries device traffic from MQTT to Kaa's extension services over NATS, and back.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  success; for `run`, stopped by a signal and drained
  1  failure while running, or of the command
  2  bad configuration or command line";

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    #[command(after_help = EXIT_CODES)]
    Run(Configuration),
    /// Validate the configuration and print all of it as it takes effect; opens no socket and
    /// writes no file. Secrets are printed as ***, warnings go to stderr.
    #[command(after_help = EXIT_CODES)]
    Check(Configuration),
    /// Manage who may talk, at the running gateway: endpoint tokens, clients' user names and
    /// certificates, and what tenants demand.
    #[command(after_help = EXIT_CODES)]
    Creds(Creds),
}

fn main() -> ExitCode {
    let ended = match CommandLine::parse().command {
        Command::Run(configuration) => load(configuration).and_then(run),
        Command::Check(configuration) => load(configuration).and_then(|settings| check(&settings)),
        Command::Creds(creds) => cli::creds::main(creds),
    };
    ended.map_or_else(ExitCode::from, |()| ExitCode::SUCCESS)
}

fn run(settings: Settings) -> Result<(), u8> {
    ringgate::server::run(settings).map_err(|reason| {
        eprintln!("ringgate: {reason}");
        FAILURE
    })
}

/// Prints the effective configuration to stdout, and what is worth knowing about it to stderr.
fn check(settings: &Settings) -> Result<(), u8> {
    for notice in settings.notices() {
        eprintln!("ringgate: note: {notice}");
    }
    let tls = Renewal::load(settings.tls_profiles()).map_err(|error| {
        eprintln!("ringgate: {error}");
        BAD_CONFIGURATION
    })?;
    for warning in tls.warnings() {
        eprintln!("ringgate: note: {warning}");
    }
    // Not `print!`, which panics where the reader has gone (`ringgate check | head`).
    io::stdout().write_all(settings.effective_yaml().as_bytes()).map_err(|_| FAILURE)
}
