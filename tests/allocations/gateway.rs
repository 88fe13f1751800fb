//! One shard in this process, built as the gateway builds its shards, and clients of hand-made
//! bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringgate::auth::{Throttle, throttle};
use ringgate::codec::avro::ConfigName;
use ringgate::config::{NatsUrl, Qos0WhenFull, WhenUnavailable};
use ringgate::rt::listener;
use ringgate::session::Policy;
use ringgate::session::catalogue::{App, Catalogue, Extension};
use ringgate::shard::core::Clerks;
use ringgate::shard::mail::{self, Mail, MailSender, Reporter};
use ringgate::shard::registry::Registry;
use ringgate::shard::settings::{AuthSettings, HttpSettings};
use ringgate::shard::{self, Door, ListenerPlan, Parts, Seats, ShardSettings, ShardThread};
use ringgate::telemetry::{LinkStatus, ShardCounters};
use ringgate::uplink::{Dialer, Limits, LinkSettings, TlsSettings};

use crate::allocator;
use crate::nats::Nats;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A shard whose thread is counted.
pub struct Gateway {
    pub address: SocketAddr,
    pub counters: Arc<ShardCounters>,
    mail: MailSender,
    thread: ShardThread,
}

impl Gateway {
    /// Starts a shard that talks to `nats`.
    pub fn start(nats: &Nats) -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = listener::listen(address, 4096).expect("listens");
        let address = listener.local_addr().expect("an address");
        let (mail, mailbox) = mail::mailbox().expect("a descriptor is left");
        let (reports, _) = mail::reports();
        let counters = Arc::new(ShardCounters::new());
        let link_status = Arc::new(LinkStatus::new());
        let thread = shard::start(Parts {
            number: 0,
            settings: shard_settings(),
            doors: vec![Door { socket: listener.into(), listener: 0 }],
            tls_profiles: Vec::new(),
            catalogue: Arc::new(catalogue()),
            registry: Arc::new(Registry::new(1000)),
            mailbox,
            peers: vec![mail.clone()],
            reporter: Reporter::new(reports, 0, counters.clone()),
            clerks: Clerks::default(),
            throttle: Arc::new(Throttle::new(throttle::Limits::default())),
            counters: counters.clone(),
            dialer: Dialer::new(link_settings(nats.address)).expect("a dialer"),
            limits: Limits { batch_bytes_max: 256 << 10, unconfirmed_bytes_max: 64 << 20 },
            link_status: link_status.clone(),
        })
        .expect("the shard starts");
        allocator::count_thread("ringgate-0");
        until("the link is up", || link_status.is_up());
        Self { address, counters, mail, thread }
    }

    /// Ends the shard in good order.
    pub fn stop(self) {
        self.mail.post(Mail::Drain).expect("room");
        self.thread.thread.join().expect("no panic").expect("a good end");
    }
}

/// Waits, without sleeping, until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "gave up waiting: {what}");
        std::thread::yield_now();
    }
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    catalogue.add_extension(Extension { name: "dcx".into(), endpoint_aware: true, push_qos: None });
    let app = catalogue.add_app(App { name: "app".into(), tenant: "acme".into() });
    catalogue.add_version(app, "app-v1", None);
    catalogue
}

fn shard_settings() -> ShardSettings {
    ShardSettings {
        replica: "test-0".to_owned(),
        core: None,
        http: HttpSettings {
            body_bytes_max: 1 << 20,
            request_timeout_ms: 10_000,
            answer_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
        },
        listeners: vec![ListenerPlan::mqtt()],
        seats: Seats::new(100_000),
        endpoints_max: 1_000,
        connect_timeout_ms: 60_000,
        tls_handshake_timeout_ms: 10_000,
        tls_handshakes_max: 1,
        policy: Policy { outbound_messages_max: 4096, ..Policy::default() },
        auth: AuthSettings::default(),
        config_name: ConfigName::FromPath,
        client_data_timeout_ms: 0,
        when_unavailable: WhenUnavailable::Wait,
        qos0_when_full: Qos0WhenFull::Wait,
        read_buffer_count: 256,
        read_buffer_bytes: 4096,
        drain_ms_max: 5000,
        #[cfg(debug_assertions)]
        fault_topic: None,
    }
}

fn link_settings(nats: SocketAddr) -> LinkSettings {
    LinkSettings {
        urls: vec![NatsUrl::plain(nats.ip().to_string(), nats.port())],
        username: None,
        password: None,
        token: None,
        credentials_file: None,
        nkey_seed_file: None,
        tls: TlsSettings::default(),
        connect_timeout: Duration::from_secs(10),
        reconnect_delay_min: Duration::from_millis(10),
        reconnect_delay_max: Duration::from_secs(1),
        ping_interval: Duration::from_secs(30),
        pings_outstanding_max: 3,
    }
}

/// An MQTT 3.1.1 client.
pub struct Client {
    socket: TcpStream,
    /// Bytes read and not taken yet.
    bytes: Vec<u8>,
}

impl Client {
    /// Connects, with a keep-alive of a minute, and waits for CONNACK.
    pub fn connect(address: SocketAddr, id: &str) -> Self {
        let socket = TcpStream::connect(address).expect("connects");
        socket.set_nodelay(true).expect("an option");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut client = Self { socket, bytes: Vec::new() };
        let mut body = b"\x00\x04MQTT\x04\x02\x00\x3c".to_vec();
        body.extend_from_slice(&(id.len() as u16).to_be_bytes());
        body.extend_from_slice(id.as_bytes());
        client.write(&packet(0x10, &body));
        assert_eq!(client.read_packet(), (0x20, vec![0, 0]));
        client
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("writes");
    }

    /// Reads one packet: its first byte and what follows its length.
    pub fn read_packet(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some((first, begin, end)) = extent(&self.bytes) {
                let body = self.bytes[begin..end].to_vec();
                self.bytes.drain(..end);
                return (first, body);
            }
            let mut piece = [0; 16 * 1024];
            let count = self.socket.read(&mut piece).expect("reads");
            assert_ne!(count, 0, "the gateway has closed the connection");
            self.bytes.extend_from_slice(&piece[..count]);
        }
    }
}

/// First byte, begin and end of the body of the first whole packet.
fn extent(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let first = *bytes.first()?;
    let mut len = 0;
    for (index, byte) in bytes[1..].iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let begin = index + 2;
            return (bytes.len() >= begin + len).then_some((first, begin, begin + len));
        }
    }
    None
}

/// A packet with a body of up to 2 MiB.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut len = body.len();
    while len >= 0x80 {
        packet.push(len as u8 | 0x80);
        len >>= 7;
    }
    packet.push(len as u8);
    packet.extend_from_slice(body);
    packet
}

/// A PUBLISH of QoS 0 without `id`, else of QoS 1.
pub fn publish(topic: &str, id: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend(id.iter().flat_map(|id| id.to_be_bytes()));
    body.extend_from_slice(payload);
    packet(if id.is_some() { 0x32 } else { 0x30 }, &body)
}
