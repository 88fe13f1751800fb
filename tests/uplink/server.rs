//! A nats-server of a test's own, and an independent client of it.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ringgate::config::NatsUrl;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Tries until there is something, and fails the test when patience runs out.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder that is removed in the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringgate-uplink-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file for the test");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running nats-server on a port of its own; killed in the end.
pub struct NatsServer {
    child: Child,
    folder: Folder,
    config: String,
    pub port: u16,
    pub cluster_port: u16,
}

impl NatsServer {
    /// Starts one with `config` in addition to what every test needs.
    pub fn start(config: &str) -> NatsServer {
        let folder = Folder::new();
        let child = spawn(&folder, config, None);
        let (config, port, cluster_port) = (config.to_owned(), 0, 0);
        let mut server = NatsServer { child, folder, config, port, cluster_port };
        server.wait_until_ready();
        server
    }

    pub fn url(&self) -> NatsUrl {
        NatsUrl::plain("127.0.0.1", self.port)
    }

    /// SIGKILL: the server has no chance to say anything.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server ends");
    }

    /// Starts it again on the same port.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.config, Some(self.port));
        self.wait_until_ready();
    }

    /// Waits until the server tells its clients about the one on that port.
    pub fn wait_until_it_tells_of(&self, port: u16) {
        let news = format!("127.0.0.1:{port}\"");
        until("the cluster has formed", || {
            let mut info = String::new();
            let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            BufReader::new(stream).read_line(&mut info).ok()?;
            let (_, urls) = info.split_once("\"connect_urls\"")?;
            urls.contains(&news).then_some(())
        });
    }

    /// SIGUSR2: lame duck mode.
    pub fn begin_lame_duck_mode(&self) {
        // SAFETY: kill has no preconditions; the process is ours and has not been waited for.
        let result = unsafe { libc::kill(self.child.id() as i32, libc::SIGUSR2) };
        assert_eq!(result, 0, "the server can be signalled");
    }

    fn wait_until_ready(&mut self) {
        let name = format!("nats-server_{}.ports", self.child.id());
        let path = self.folder.path().join(name);
        let log = self.folder.path().join("log");
        let ports = until("nats-server is ready", || {
            if let Some(status) = self.child.try_wait().expect("the server can be watched") {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("nats-server ended with {status}:\n{log}");
            }
            let text = std::fs::read_to_string(&path).ok()?;
            serde_json::from_str::<serde_json::Value>(&text).ok()
        });
        let port_of = |key: &str| {
            let url = ports[key][0].as_str()?;
            url.rsplit_once(':')?.1.parse().ok()
        };
        self.port = port_of("nats").expect("a client port");
        self.cluster_port = port_of("cluster").unwrap_or(0);
        until("nats-server accepts", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Folder, config: &str, port: Option<u16>) -> Child {
    let program = std::env::var("TEST_NATS_SERVER").unwrap_or("nats-server".to_owned());
    let port = port.map_or(-1, i32::from);
    let path = folder.path().display();
    let config = format!(
        "host: 127.0.0.1\nport: {port}\nports_file_dir: \"{path}\"\nlog_file: \"{path}/log\"\n\
         {config}\n"
    );
    let config = folder.write("nats.conf", &config);
    let mut command = Command::new(&program);
    command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("{program} does not start ({error}): set TEST_NATS_SERVER or see scripts/test")
    })
}

/// A client of another make that listens to a subject. Where it finds a reply subject, it answers
/// there with what it got.
pub struct Listener {
    payloads: Arc<Mutex<Vec<String>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    pub fn start(port: u16, subject: &str) -> Listener {
        let payloads = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, wait_until_ready) = std::sync::mpsc::channel();
        let (sink, subject) = (payloads.clone(), subject.to_owned());
        let listen = async move {
            let url = format!("nats://127.0.0.1:{port}");
            let client = async_nats::connect(url).await.expect("the listener connects");
            let mut messages = client.subscribe(subject).await.expect("the listener subscribes");
            client.flush().await.expect("the subscription reaches the server");
            ready.send(()).expect("the test waits");
            let work = async {
                while let Some(message) = messages.next().await {
                    let text = String::from_utf8(message.payload.to_vec()).expect("text");
                    sink.lock().expect("no test has failed yet").push(text);
                    if let Some(reply) = message.reply {
                        // The server may be gone already; then nobody waits for the answer.
                        let _ = client.publish(reply, message.payload).await;
                    }
                }
            };
            tokio::select! { () = work => {}, _ = stopped => {} }
        };
        let thread = std::thread::spawn(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a tokio runtime").block_on(listen);
        });
        wait_until_ready.recv_timeout(PATIENCE).expect("the listener is ready");
        Listener { payloads, stop: Some(stop), thread: Some(thread) }
    }

    /// What has come so far.
    pub fn payloads(&self) -> Vec<String> {
        self.payloads.lock().expect("no test has failed yet").clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
