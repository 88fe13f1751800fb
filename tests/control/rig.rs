//! A control thread over played shards, and what it talks to.

use ringgate::codec::avro::ExtensionData;
use ringgate::config::{NatsUrl, ReplicaId, Settings};
use ringgate::control::{Control, Outcome, Providers, ShardHandle, StartError};
use ringgate::shard::mail::{Mail, Mailbox, Reporter, mailbox, reports};
use ringgate::telemetry::{LinkStatus, ShardCounters, clock};
use ringgate::tls::Renewal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A nats-server of the test's own, killed at its end.
pub struct Server(Child);

impl Server {
    pub fn start(port: u16) -> Self {
        Self::start_with(port, &[])
    }

    pub fn start_with(port: u16, arguments: &[&str]) -> Self {
        let program = std::env::var("TEST_NATS_SERVER").unwrap_or("nats-server".to_owned());
        let child = Command::new(&program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program} does not start ({error}): set TEST_NATS_SERVER")
            });
        let server = Self(child);
        until("nats-server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(started.elapsed() < PATIENCE, "gave up waiting: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("an address").port()
}

/// A shard as the control thread sees one, played by the test.
pub struct Shard {
    pub mailbox: Mailbox,
    pub reporter: Reporter,
    pub link: Arc<LinkStatus>,
    pub counters: Arc<ShardCounters>,
}

impl Shard {
    /// What has come, but for the doubts that come with each new link to NATS.
    pub fn mails(&mut self) -> Vec<Mail> {
        let mut mails = self.all_mails();
        mails.retain(|mail| !matches!(mail, Mail::Doubt));
        mails
    }

    pub fn all_mails(&mut self) -> Vec<Mail> {
        let mut mails = Vec::new();
        self.mailbox.drain(|mail| mails.push(mail));
        mails
    }

    pub fn tick(&self) {
        self.counters.tick(clock::monotonic_ms());
    }
}

/// A control thread over two played shards; NATS is expected at `nats_port`.
pub fn start(nats_port: u16) -> (Control, Vec<Shard>) {
    start_with(&settings(nats_port)).expect("starts")
}

pub fn settings(nats_port: u16) -> Settings {
    let mut settings = Settings::default();
    settings.server.port = 0;
    settings.service.instance_name = "kpc".into();
    settings.service.replica_id = ReplicaId::given("r1");
    settings.service.graceful_shutdown_s = 1;
    settings.ringgate.nats.urls = vec![NatsUrl::plain("127.0.0.1", nats_port)];
    settings.ringgate.nats.reconnect_delay_ms_max = 100;
    settings
}

pub fn start_with(settings: &Settings) -> Result<(Control, Vec<Shard>), StartError> {
    start_serving(settings, Providers::default())
}

pub fn start_serving(
    settings: &Settings,
    providers: Providers,
) -> Result<(Control, Vec<Shard>), StartError> {
    let (sender, receiver) = reports();
    let (handles, shards) = (0..2)
        .map(|number| {
            let (mail, mailbox) = mailbox().expect("a descriptor is left");
            let counters = Arc::new(ShardCounters::new());
            let link = Arc::new(LinkStatus::new());
            let reporter = Reporter::new(sender.clone(), number, counters.clone());
            let handle = ShardHandle { mail, counters: counters.clone(), link: link.clone() };
            (handle, Shard { mailbox, reporter, link, counters })
        })
        .unzip();
    Ok((Control::start(settings, handles, receiver, providers, Renewal::default())?, shards))
}

/// Sends `request` as it is; returns the answer's head and body.
pub fn http_raw(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

pub fn http(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    http_raw(address, &format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
}

pub fn status(head: &str) -> &str {
    head.split(' ').nth(1).expect("a status")
}

pub fn finish(control: Control, shards: &mut [Shard]) -> Outcome {
    control.stopper().stop();
    for shard in shards {
        until("the shard is told to drain", || {
            shard.mails().iter().any(|mail| matches!(mail, Mail::Drain)).then_some(())
        });
        shard.reporter.drained();
    }
    control.join()
}

pub fn push_datum(endpoint_id: Option<&str>) -> Vec<u8> {
    let mut datum = Vec::new();
    ExtensionData {
        correlation_id: "c1",
        timestamp_ms: 1,
        timeout_ms: 0,
        app_version_name: None,
        extension_instance_name: Some("cmx"),
        endpoint_id,
        resource_path: "/config/json",
        request_id: None,
        payload: Some(b"{\"config\":1}"),
        status_code: 200,
        reason_phrase: None,
    }
    .encode(&mut datum);
    datum
}

/// A NATS client of the plainest kind, independent of the one under test.
pub struct Publisher(TcpStream);

impl Publisher {
    pub fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.write_all(b"CONNECT {\"verbose\":false}\r\n").expect("sends");
        Self(stream)
    }

    pub fn publish(&mut self, subject: &str, reply_to: &str, payload: &[u8]) {
        let head = format!("PUB {subject} {reply_to} {}\r\n", payload.len());
        self.0.write_all(&[head.as_bytes(), payload, b"\r\n"].concat()).expect("sends");
    }
}
