//! Command line of ringgate.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringgate::config::{self, Settings};

/// For what allocates: CONNECT, kept messages, the control thread. The message path does not. Its
/// gain over the system's allocator has not been measured yet.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Where KPC keeps its configuration, and so ringgate too.
const DEFAULT_CONFIG: &str = "/srv/kpc/service-config.yml";

/// The environment variable that names the configuration file, as for KPC.
const CONFIG_VARIABLE: &str = "APP_CONFIG_PATH";

/// The work failed.
const FAILURE: u8 = 1;

/// The configuration was refused; clap ends with the same code on a bad command line.
const BAD_CONFIGURATION: u8 = 2;

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
  1  failure while running
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
}

#[derive(Args)]
struct Configuration {
    /// Configuration file (YAML) [default: $APP_CONFIG_PATH, else /srv/kpc/service-config.yml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let ended = match CommandLine::parse().command {
        Command::Run(configuration) => load(configuration).and_then(run),
        Command::Check(configuration) => load(configuration).and_then(|settings| check(&settings)),
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
    // Not `print!`, which panics where the reader has gone (`ringgate check | head`).
    io::stdout().write_all(settings.effective_yaml().as_bytes()).map_err(|_| FAILURE)
}

/// Loads the settings, or tells the operator why not.
fn load(configuration: Configuration) -> Result<Settings, u8> {
    let refuse = |reason: &dyn Display| {
        eprintln!("ringgate: the configuration is refused\n{reason}");
        BAD_CONFIGURATION
    };
    let named = configuration.config.or_else(|| env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
    let file = match named {
        Some(file) => file,
        None if Path::new(DEFAULT_CONFIG).exists() => DEFAULT_CONFIG.into(),
        None => {
            let reason = format!(
                "{DEFAULT_CONFIG}: does not exist; name another file with --config FILE or in \
                 the environment variable {CONFIG_VARIABLE}"
            );
            return Err(refuse(&reason));
        }
    };
    // A value that is not UTF-8 is refused where it is used.
    let environment = env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into()))
    });
    config::load(&file, environment).map_err(|error| refuse(&error))
}
