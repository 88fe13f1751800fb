//! The limit: an io_uring loop that copies what MQTT clients send to one upstream socket.
//!
//! It reads from as many sockets as ringgate would and writes as many bytes, but understands
//! nothing, except that a connection's first bytes are a CONNECT which it answers, so that the
//! same load generator drives both. What ringgate costs beyond this is the price of its work.

mod buffers;
mod relay;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// Where completed work is run: see io_uring_setup(2).
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TaskRun {
    /// `IORING_SETUP_COOP_TASKRUN`
    Coop,
    /// `IORING_SETUP_DEFER_TASKRUN`
    Defer,
}

#[derive(Parser)]
#[command(name = "bench-relay", about = "Copies bytes from many sockets to one with io_uring")]
struct Options {
    /// Address to listen on for MQTT clients.
    #[arg(long, default_value = "127.0.0.1:11883")]
    listen: SocketAddr,
    /// Where to copy the bytes to (`bench-sink --raw`).
    #[arg(long, default_value = "127.0.0.1:14223")]
    upstream: SocketAddr,
    /// How the ring runs completed work.
    #[arg(long, value_enum, default_value = "coop")]
    task_run: TaskRun,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-relay: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let upstream = TcpStream::connect(options.upstream)
        .map_err(|error| format!("cannot reach upstream {}: {error}", options.upstream))?;
    upstream.set_nodelay(true).map_err(|error| format!("TCP_NODELAY: {error}"))?;
    let listener = listen(options.listen)
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let deferred = options.task_run == TaskRun::Defer;
    relay::Relay::new(listener, upstream, deferred)
        .map_err(|error| format!("io_uring: {error}"))?
        .run()
        .map_err(|error| error.to_string())
}

/// A backlog as deep as the gateway's, so that a storm of connections meets the same queue.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
