//! What every end-to-end test stands on: a real nats-server, the real `ringgate` binary, an
//! extension service and a device, each independent of ringgate's own codecs.
//!
//! Rules kept here so that tests stay short and can run in parallel:
//! - nothing sleeps and hopes: a condition is waited for with a deadline ([`eventually`]);
//! - every process is killed by its pid when its guard drops, and its output is printed when the
//!   test failed;
//! - ports and directories are the test's own ([`ports::Port`], [`TempDir`]).

pub mod bus;
pub mod connectivity;
pub mod device;
pub mod extension;
pub mod gateway;
pub mod http;
pub mod nats;
pub mod packet;
pub mod ports;
pub mod process;
pub mod provider;
pub mod proxy;
pub mod records;
pub mod secured;
pub mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long anything that must happen may take. Generous: a loaded 2-core machine runs many tests
/// at once; a test that passes never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test watches that something does *not* happen.
pub const SILENCE: Duration = Duration::from_millis(400);

/// Waits until `probe` gives a value; panics with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe)
}

/// Waits until `probe` gives a value; panics with `what` after `limit`.
pub fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < limit, "gave up after {limit:?} waiting for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for nothing but time, where time alone ends something.
pub fn let_time_pass(duration: Duration) {
    std::thread::sleep(duration);
}

/// A directory of the test's own, removed on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("ringgate-e2e-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes `text` to a file of this directory and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file in the temporary directory");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is answered to these bytes, until the end.
pub fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(bytes).expect("sends");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an end, and no reset");
    heard
}

/// The first of these that exists: the file named by `variable`, `name` on the PATH, or one of
/// `cached` below the checkout's `.cache`, where `scripts/test` puts what it fetched.
pub fn find_tool(variable: &str, name: &str, cached: &[&str]) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let checkout_cache = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache");
    cached
        .iter()
        .map(|path| checkout_cache.join(path))
        .chain(std::env::split_paths(&on_path).map(|dir| dir.join(name)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!("`{name}` was not found; run scripts/test, which fetches it, or set {variable}")
        })
}

/// The usual set: NATS, a gateway on it and an extension service that answers 200 to every message
/// with a request id, as a data collection service does.
pub struct Bench {
    // Order matters: fields drop in this order, the gateway before what it talks to.
    pub gateway: gateway::Gateway,
    pub dcx: extension::Extension,
    pub nats: nats::Nats,
}

impl Bench {
    /// Starts the usual set with the default test configuration.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts the usual set after `adjust` changed the configuration.
    pub fn start_with(adjust: impl FnOnce(&mut gateway::Settings)) -> Self {
        let nats = nats::Nats::start();
        let dcx = extension::Extension::start(&nats.url(), "dcx", extension::collects_data);
        let gateway = gateway::Gateway::start(&nats.url(), adjust);
        Self { gateway, dcx, nats }
    }

    /// An extension service of the given name that does what `behaviour` says.
    pub fn extension(
        &self,
        name: &str,
        behaviour: impl Fn(&extension::ClientData) -> Option<extension::Answer> + Send + 'static,
    ) -> extension::Extension {
        extension::Extension::start(&self.nats.url(), name, behaviour)
    }

    /// A connected MQTT 3.1.1 device with a client id of its own.
    pub fn device(&self, client_id: &str) -> device::Device {
        self.device_of(packet::V311, client_id)
    }

    /// A connected device of the given protocol level.
    pub fn device_of(&self, level: u8, client_id: &str) -> device::Device {
        device::Device::connected(self.gateway.mqtt, packet::Connect::new(level, client_id)).0
    }
}
