//! A receiver that plays NATS and throws away what it is sent.
//!
//! It stands where nats-server would, so that the cost of a real server is not in the way, and so
//! that ringgate and the bare relay write to the same kind of receiver. It keeps three counts and
//! writes them to a file a few times a second, for a script to read.

mod counts;
mod nats;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;

use counts::Counts;
use nats::{Found, Scanner};

/// What one read may bring. Large, so that the sink costs little of the CPU it shares.
const READ_BYTES: usize = 256 * 1024;

#[derive(Parser)]
#[command(
    name = "bench-sink",
    about = "Plays NATS to a gateway under test and discards everything"
)]
struct Options {
    /// Address to listen on for NATS clients.
    #[arg(long, default_value = "127.0.0.1:14222")]
    listen: SocketAddr,
    /// Address to listen on for senders that speak no NATS (the bare relay).
    #[arg(long)]
    raw: Option<SocketAddr>,
    /// File to keep the counts in: `messages <n> bytes <n> reads <n>`.
    #[arg(long)]
    stats: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-sink: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let counts = Arc::new(Counts::default());
    if let Some(raw) = options.raw {
        let listener = bind(raw)?;
        let counts = Arc::clone(&counts);
        thread::spawn(move || serve(&listener, &counts, discard_raw));
    }
    let listener = bind(options.listen)?;
    if let Some(path) = &options.stats {
        counts::keep_in_file(Arc::clone(&counts), path.clone())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    serve(&listener, &counts, discard_nats);
    Ok(())
}

fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn serve(
    listener: &TcpListener,
    counts: &Arc<Counts>,
    discard: fn(TcpStream, &Counts) -> std::io::Result<()>,
) {
    for stream in listener.incoming() {
        let counts = Arc::clone(counts);
        let Ok(stream) = stream else { continue };
        thread::spawn(move || match discard(stream, &counts) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                eprintln!("bench-sink: a connection ended: {error}");
            }
            _ => {}
        });
    }
}

/// Counts bytes until the sender closes.
fn discard_raw(mut stream: TcpStream, counts: &Counts) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        counts.add(0, got);
    }
}

/// Greets as nats-server does, answers every PING and counts every PUB.
fn discard_nats(mut stream: TcpStream, counts: &Counts) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(nats::info(stream.local_addr()?).as_bytes())?;
    let mut buffer = vec![0; READ_BYTES];
    let mut scanner = Scanner::default();
    let mut answer = Vec::new();
    loop {
        let got = stream.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        let Found { messages, pings } = scanner
            .scan(&buffer[..got])
            .map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error))?;
        counts.add(messages, got);
        if pings > 0 {
            answer.clear();
            answer.extend((0..pings).flat_map(|_| nats::PONG));
            stream.write_all(&answer)?;
        }
    }
}
