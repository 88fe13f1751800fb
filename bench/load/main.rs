//! MQTT load generator.
//!
//! Publishers send on a schedule that waits for nobody: a message's latency counts from the time
//! it was due, so that a server that stalls cannot hide it (coordinated omission). Packets are
//! encoded once and patched per message, so that one thread can send more than a million a second.

mod client;
mod options;
mod packet;
mod process;
mod report;
mod run;
mod sys;
mod tally;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.mode.common().json;
    match run::run(&options.mode) {
        Ok(report) => {
            if json {
                println!("{}", report.json());
            } else {
                print!("{}", report.text());
            }
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(message) => {
            eprintln!("bench-load: {message}");
            ExitCode::FAILURE
        }
    }
}
