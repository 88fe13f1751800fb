//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Most clients one process may play; the descriptor limit is checked as well.
const CLIENTS_MAX: u64 = 1_000_000;
/// Longest payload: what an MQTT remaining length can hold, less room for the topic.
const PAYLOAD_BYTES_MAX: u64 = 268_000_000;
/// Packets per write.
const BURST_MAX: u64 = 10_000;
/// Messages in flight per client: packet identifiers must not run out.
const WINDOW_MAX: u64 = 32_768;

#[derive(Parser)]
#[command(name = "bench-load", about = "MQTT load generator with coordinated-omission correction")]
pub struct Options {
    #[command(subcommand)]
    pub mode: Mode,
}

#[derive(Subcommand)]
pub enum Mode {
    /// Connect, publish, measure.
    Pub(Publish),
    /// Connect and count what is pushed.
    Sub(Subscribe),
    /// Connect and hold; with --watch-pid, measure memory per connection.
    Idle(Idle),
    /// Connect, hang up and connect again, until --count connections were made.
    Conn(Connect),
}

#[derive(Args, Clone)]
pub struct Common {
    /// Server's host name or address.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Server's port.
    #[arg(short, long, default_value_t = 1883)]
    pub port: u16,
    /// Clients to play.
    #[arg(short, long, default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=CLIENTS_MAX))]
    pub clients: u64,
    /// Index of the first client, for several generators at once.
    #[arg(long, default_value_t = 0)]
    pub first_index: u64,
    /// Connections to open per second (0: as fast as answers come).
    #[arg(long, default_value_t = 0)]
    pub connect_rate: u64,
    /// Protocol version.
    #[arg(short = 'V', long, value_enum, default_value = "5")]
    pub mqtt_version: Version,
    /// Client id; %i is the client's index [default: bench-<mode>-%i].
    #[arg(long)]
    pub client_id: Option<String>,
    /// User name; %i is the client's index, %c its id.
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password.
    #[arg(short = 'P', long, requires = "username")]
    pub password: Option<String>,
    /// Keep-alive in seconds (0: none).
    #[arg(short, long, default_value_t = 300)]
    pub keep_alive: u16,
    /// Threads to share the clients among.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub threads: u64,
    /// Seconds to wait for all clients to be connected.
    #[arg(long, default_value_t = 60)]
    pub connect_timeout: u64,
    /// TCP congestion control of our sockets ("kernel": leave it; pacing ones blur a benchmark).
    #[arg(long, default_value = "reno")]
    pub congestion_control: String,
    /// Bytes of send buffer per socket (0: the kernel's choice), so that little waits there.
    #[arg(long, default_value_t = 65_536)]
    pub send_buffer: usize,
    /// Also report the CPU time and memory of the process with this id.
    #[arg(long)]
    pub watch_pid: Option<u32>,
    /// Print one line of JSON instead of a summary.
    #[arg(long)]
    pub json: bool,
    /// No line per second on standard error.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Args)]
pub struct Publish {
    #[command(flatten)]
    pub common: Common,
    /// Topic; %i is the client's index, %c its id, %u its user name.
    #[arg(short, long, default_value = "kp1/bench/dcx/%c/json")]
    pub topic: String,
    /// Bytes of payload.
    #[arg(short = 's', long, default_value_t = 256, conflicts_with = "payload_file")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=PAYLOAD_BYTES_MAX))]
    pub payload_bytes: u64,
    /// File with the payload.
    #[arg(long)]
    pub payload_file: Option<PathBuf>,
    /// Quality of service.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Messages per second over all clients, on a schedule that waits for nobody (0: flat out).
    #[arg(short, long, default_value_t = 0)]
    pub rate: u64,
    /// Messages in flight per client: unacknowledged, or unanswered with --request-id.
    #[arg(short, long, default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=WINDOW_MAX))]
    pub window: u64,
    /// Packets in one write.
    #[arg(short, long, default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=BURST_MAX))]
    pub burst: u64,
    /// Messages to send over all clients (0: until --duration).
    #[arg(short = 'n', long, default_value_t = 0)]
    pub count: u64,
    /// Seconds to publish for.
    #[arg(short, long, default_value_t = 10)]
    pub duration: u64,
    /// Append a request id to the topic and measure until its /status comes back.
    #[arg(long)]
    pub request_id: bool,
    /// Seconds to wait for outstanding acknowledgements and answers at the end.
    #[arg(long, default_value_t = 10)]
    pub drain: u64,
}

#[derive(Args)]
pub struct Subscribe {
    #[command(flatten)]
    pub common: Common,
    /// Topic filter to subscribe to (none: receive only what the server sends unasked).
    #[arg(short, long)]
    pub topic: Option<String>,
    /// Quality of service to ask for.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Stop after so many messages (0: until --duration).
    #[arg(short = 'n', long, default_value_t = 0)]
    pub count: u64,
    /// Seconds to listen.
    #[arg(short, long, default_value_t = 10)]
    pub duration: u64,
}

#[derive(Args)]
pub struct Idle {
    #[command(flatten)]
    pub common: Common,
    /// Seconds to hold all connections.
    #[arg(short, long, default_value_t = 10)]
    pub duration: u64,
    /// Measure the watched process' memory per connection from this many connections on.
    #[arg(long, requires = "watch_pid")]
    pub slope_from: Option<u64>,
}

#[derive(Args)]
pub struct Connect {
    #[command(flatten)]
    pub common: Common,
    /// Connections to make in all.
    #[arg(short = 'n', long, default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Version {
    /// MQTT 3.1 (MQIsdp)
    #[value(name = "31", alias = "3")]
    V31,
    /// MQTT 3.1.1
    #[value(name = "311", alias = "4")]
    V311,
    /// MQTT 5.0
    #[value(name = "5")]
    V5,
}

impl Mode {
    pub fn common(&self) -> &Common {
        match self {
            Self::Pub(mode) => &mode.common,
            Self::Sub(mode) => &mode.common,
            Self::Idle(mode) => &mode.common,
            Self::Conn(mode) => &mode.common,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pub(_) => "pub",
            Self::Sub(_) => "sub",
            Self::Idle(_) => "idle",
            Self::Conn(_) => "conn",
        }
    }

    /// Names of the client with this index. Generators of different modes do not take over each
    /// other's clients unless told to.
    pub fn names(&self, index: u64) -> Names {
        let common = self.common();
        let index = index.to_string();
        let client_id = match &common.client_id {
            Some(template) => template.replace("%i", &index),
            None => format!("bench-{}-{index}", self.name()),
        };
        let fill = |name: &String| name.replace("%i", &index).replace("%c", &client_id);
        let username = common.username.as_ref().map(fill);
        Names { index, client_id, username }
    }
}

impl Common {
    /// The first address of the host.
    pub fn address(&self) -> Result<SocketAddr, String> {
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve {}: {error}", self.host))?
            .next()
            .ok_or_else(|| format!("{} has no address", self.host))
    }
}

/// What stands for the placeholders of a template.
pub struct Names {
    pub index: String,
    pub client_id: String,
    pub username: Option<String>,
}

impl Names {
    /// Puts the names into a topic template.
    pub fn fill(&self, template: &str) -> String {
        template
            .replace("%i", &self.index)
            .replace("%c", &self.client_id)
            .replace("%u", self.username.as_deref().unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_placeholders_of_a_topic() {
        let options =
            Options::parse_from(["bench-load", "pub", "-u", "u-%c", "--client-id", "c%i"]);
        let names = options.mode.names(7);
        assert_eq!(names.fill("a/%i/%c/%u"), "a/7/c7/u-c7");
    }

    #[test]
    fn speaks_version_5_by_default() {
        let options = Options::parse_from(["bench-load", "idle"]);
        assert_eq!(options.mode.common().mqtt_version, Version::V5);
    }
}
