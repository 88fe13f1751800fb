//! `ringgate creds`: a client of the management interface of a running gateway.

mod api;
mod basic;
mod cert;
mod enforce;
mod files;
mod kind;
mod show;
mod token;

use std::fmt;
use std::io::{self, Read, Write};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Configuration, FAILURE, load};
use crate::config::{Secret, Settings};
use api::Api;

/// Bytes of a password or token on standard input.
const SECRET_BYTES_MAX: u64 = 4_096;

/// The command line of `ringgate creds`.
#[derive(Debug, Args)]
pub struct Creds {
    #[command(flatten)]
    configuration: Configuration,
    /// Print what the management interface answers, in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tokens, by which endpoints are known
    #[command(subcommand)]
    Token(token::Command),
    /// User names and passwords of clients
    #[command(subcommand)]
    Basic(basic::Command),
    /// Certificates of clients
    #[command(subcommand)]
    Cert(cert::Command),
    /// Print the certificate of the root authority (PEM)
    RootCertificate,
    /// Show or set how clients of a tenant must prove who they are
    Enforce(enforce::Arguments),
}

/// Why a command came to nothing.
#[derive(Debug)]
enum Failure {
    /// For the operator: what is wrong, and what to do.
    Told(String),
    /// Nobody reads standard output any more.
    OutputGone,
}

impl Failure {
    fn told(reason: impl Into<String>) -> Self {
        Self::Told(reason.into())
    }
}

impl From<fmt::Error> for Failure {
    fn from(_: fmt::Error) -> Self {
        Self::OutputGone
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::OutputGone
    }
}

/// Runs a command.
///
/// # Errors
/// The exit code, when the reason has been printed.
pub fn main(creds: Creds) -> Result<(), u8> {
    let settings = load(creds.configuration)?;
    let done = run(&settings, creds.command, creds.json);
    done.map_err(|failure| {
        if let Failure::Told(reason) = failure {
            eprintln!("ringgate: {reason}");
        }
        FAILURE
    })
}

fn run(settings: &Settings, command: Command, is_json: bool) -> Result<(), Failure> {
    let api = Api::new(settings)?;
    let desk = Desk { api, is_json, default_tenant: &settings.ringgate.auth.default_tenant };
    match command {
        Command::Token(command) => token::run(&desk, command),
        Command::Basic(command) => basic::run(&desk, command),
        Command::Cert(command) => cert::run(&desk, command),
        Command::RootCertificate => cert::root(&desk),
        Command::Enforce(arguments) => enforce::run(&desk, arguments),
    }
}

/// What commands work with.
struct Desk<'a> {
    api: Api,
    is_json: bool,
    default_tenant: &'a str,
}

impl Desk<'_> {
    /// Prints an answer: as it is for programs, else as `text` for people.
    fn print(&self, answer: &Value, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.is_json {
            // A Value can always be written as JSON.
            writeln!(out, "{answer:#}")?;
        } else {
            out.write_all(text.as_bytes())?;
        }
        Ok(out.flush()?)
    }
}

/// The secret on standard input, without the end of its line.
fn secret_from_stdin(what: &str) -> Result<Secret, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(SECRET_BYTES_MAX + 1).read_to_string(&mut text);
    // The error quotes nothing of the input.
    read.map_err(|error| Failure::told(format!("cannot read the {what}: {error}")))?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(Failure::told(format!("the {what} has more than {SECRET_BYTES_MAX} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::told(format!("there is no {what} on standard input")));
    }
    Ok(Secret::new(line))
}
