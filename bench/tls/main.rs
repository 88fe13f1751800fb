//! What TLS costs the gateway: CPU per handshake, in full and resumed, beside a bare accept loop on
//! monoio and rustls; CPU per message beside a bare relay of the same; resident memory per idle
//! connection, over TLS or a WebSocket.

mod bare;
mod client;
mod messages;
mod process;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench-tls", about = "Measures what TLS costs")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write server.pem and server.key (ECDSA P-256) for 127.0.0.1 into a directory.
    Certificate {
        /// The directory.
        directory: PathBuf,
    },
    /// Accept TLS connections and do nothing with them but relay, until killed.
    Serve {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
        /// Directory of server.pem and server.key.
        #[arg(long)]
        directory: PathBuf,
        /// Where to copy what comes through TLS.
        #[arg(long)]
        upstream: Option<SocketAddr>,
    },
    /// Publish on a schedule, and print the server's CPU per message.
    Messages {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// Clients.
        #[arg(long, default_value_t = 64)]
        clients: usize,
        /// Messages a second, of all of them.
        #[arg(long, default_value_t = 30_000)]
        rate: u32,
        /// For so many seconds.
        #[arg(long, default_value_t = 4)]
        seconds: u32,
    },
    /// Shake hands again and again, and print the server's CPU per handshake.
    Handshakes {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// Handshakes.
        #[arg(long, default_value_t = 4000)]
        count: u32,
        /// Resume the session of the handshake before.
        #[arg(long)]
        resume: bool,
    },
    /// Hold MQTT sessions, and print the resident memory of each: the slope between two numbers.
    Idle {
        /// The server.
        #[command(flatten)]
        server: Server,
        /// The smaller number.
        #[arg(long, default_value_t = 2000)]
        from: usize,
        /// The larger number.
        #[arg(long, default_value_t = 15_000)]
        to: usize,
        /// Through a WebSocket, without TLS.
        #[arg(long)]
        websocket: bool,
    },
}

#[derive(clap::Args)]
struct Server {
    /// Its address.
    #[arg(long)]
    connect: SocketAddr,
    /// Its process id.
    #[arg(long)]
    pid: u32,
    /// Directory of server.pem, which is trusted.
    #[arg(long)]
    directory: PathBuf,
}

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Certificate { directory } => client::write_certificate(&directory),
        Command::Serve { listen, directory, upstream } => bare::serve(listen, &directory, upstream),
        Command::Messages { server, clients, rate, seconds } => {
            messages(&server, clients, rate, seconds)
        }
        Command::Handshakes { server, count, resume } => handshakes(&server, count, resume),
        Command::Idle { server, from, to, websocket } => idle(&server, from, to, websocket),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-tls: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints two numbers: microseconds of the server's CPU per handshake, and handshakes a second.
fn handshakes(server: &Server, count: u32, resume: bool) -> Result<(), String> {
    let config = client::config(&server.directory, resume)?;
    // One that is not counted: the first fills caches, and gives the ticket to resume by.
    client::shake(server.connect, &config)?;
    let before = process::cpu_us(server.pid)?;
    let started = std::time::Instant::now();
    let mut resumed = 0;
    for _ in 0..count {
        resumed += u32::from(client::shake(server.connect, &config)?);
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    let spent_us = process::cpu_us(server.pid)? - before;
    let expected = if resume { count } else { 0 };
    if resumed != expected {
        return Err(format!("{resumed} of {count} handshakes were resumed, not {expected}"));
    }
    let per_s = f64::from(count) / elapsed_s;
    println!("{:.1} {per_s:.0}", spent_us as f64 / f64::from(count));
    Ok(())
}

/// Prints microseconds of the server's CPU per message.
fn messages(server: &Server, clients: usize, rate: u32, seconds: u32) -> Result<(), String> {
    let config = client::config(&server.directory, false)?;
    let mut publishers = messages::Publishers::connect(server.connect, &config, clients)?;
    // Some that are not counted: the first of each resolves its topic.
    publishers.publish(rate, rate)?;
    let before = process::cpu_us(server.pid)?;
    let sent = publishers.publish(rate, rate * seconds)?;
    // What lies in socket buffers is worked off before the clock is read.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let spent_us = process::cpu_us(server.pid)? - before;
    println!("{:.3}", spent_us as f64 / f64::from(sent));
    Ok(())
}

/// Prints KiB per connection.
fn idle(server: &Server, from: usize, to: usize, websocket: bool) -> Result<(), String> {
    let config = client::config(&server.directory, false)?;
    let mut held = Vec::with_capacity(to);
    let mut open = |until: usize| {
        while held.len() < until {
            held.push(match websocket {
                true => client::websocket_session(server.connect, held.len())?,
                false => client::session(server.connect, &config, held.len())?.0,
            });
        }
        process::settled_rss_kib(server.pid)
    };
    let (few, many) = (open(from)?, open(to)?);
    println!("{:.2}", (many as f64 - few as f64) / (to - from) as f64);
    Ok(())
}
