//! A management interface with credentials, and a client that speaks HTTP by hand.

use ringgate::admin::{Admin, Change, CredentialsApi, Health, ProfileChains};
use ringgate::auth::{Demands, Requirement};
use ringgate::config::Secret;
use ringgate::credentials::Credentials;
use ringgate::telemetry::exposition::Metrics;
use ringgate::telemetry::{ControlCounters, LinkStatus};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What callers must present.
pub const BEARER: &str = "planted-bearer-0123456789";
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A management interface of the test's own.
pub struct Rig {
    pub credentials: Credentials,
    pub changes: mpsc::Receiver<Change>,
    address: SocketAddr,
    directory: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn etag(&self) -> &str {
        self.header("etag").expect("has a version")
    }

    pub fn reason(&self) -> String {
        let json = self.json();
        assert_eq!(json["statusCode"], self.status, "{self:?}");
        json["reasonPhrase"].as_str().expect("says why").to_owned()
    }

    /// The body, of an answer with this status.
    #[track_caller]
    pub fn of(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// Why, of an answer with this status.
    #[track_caller]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        self.reason()
    }
}

impl Rig {
    pub fn start() -> Self {
        Self::start_with(Vec::new())
    }

    /// One where devices are shown these chains.
    pub fn start_with(chains: Vec<ProfileChains>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringgate-rest-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let credentials = Credentials::open(&directory).expect("opens");
        let (sender, changes) = mpsc::channel(64);
        let api = CredentialsApi {
            credentials: credentials.clone(),
            bearer: Secret::new(BEARER),
            changes: sender,
            configured: Box::new(|tenant| match tenant {
                "strict" => Demands { mqtt_tcp: Requirement::Any, ..Demands::default() },
                _ => Demands::default(),
            }),
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("starts").block_on(async {
                let health = Arc::new(Health::new(Vec::new(), Arc::new(LinkStatus::new())));
                let metrics = Metrics::new(Vec::new(), Arc::new(ControlCounters::default()));
                let anywhere = ([127, 0, 0, 1], 0).into();
                let admin = Admin::bind(anywhere, health, metrics, Some(api), chains);
                let admin = admin.expect("listens");
                tell.send(admin.local_addr()).expect("the test waits");
                tokio::select! {
                    never = admin.run() => match never {},
                    _ = stopped => {}
                }
            });
        });
        let address = told.recv().expect("listens");
        let (stop, thread) = (Some(stop), Some(thread));
        Self { credentials, changes, address, directory, stop, thread }
    }

    /// Sends a request as it is written.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("is set");
        // A server that has refused may close before all is sent.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).expect("is text");
        let (head, text) = answer.split_once("\r\n\r\n").expect("has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("has a status"), head: head.into(), text: text.into() }
    }

    /// A request with these header lines, below the base.
    pub fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut request = format!("{method} /api/v1{path} HTTP/1.1\r\nHost: h\r\n");
        for header in headers {
            request += &format!("{header}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        self.raw(request.as_bytes())
    }

    fn admitted(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Authorization: Bearer {BEARER}");
        let headers = [&*bearer, "Content-Type: application/json"];
        self.request(method, path, &headers, body)
    }

    /// With one more header line.
    pub fn with(&self, header: &str, method: &str, path: &str) -> Answer {
        self.request(method, path, &[&format!("Authorization: Bearer {BEARER}"), header], "")
    }

    pub fn get(&self, path: &str) -> Answer {
        self.admitted("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.admitted("POST", path, &body.to_string())
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.admitted("PUT", path, &body.to_string())
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.admitted("DELETE", path, "")
    }

    /// What `ringgate creds` prints, which must succeed.
    pub fn creds(&self, arguments: &[&str]) -> String {
        let (port, directory) = (self.address.port(), self.directory.display());
        let config = self.directory.join("config.yml");
        let text = format!(
            "server: {{ port: {port} }}\nringgate:\n  credentials: {{ directory: {directory} }}\n"
        );
        std::fs::write(&config, text).expect("writes");
        std::fs::write(self.directory.join("management-token"), BEARER).expect("writes");
        let run = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .arg("creds")
            .args(arguments)
            .arg("--config")
            .arg(config)
            .env_clear()
            .output()
            .expect("starts");
        let [out, err] =
            [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(run.status.success(), "{arguments:?}: {out}{err}");
        assert!(!format!("{out}{err}").contains(BEARER));
        out
    }

    /// The change that has been told; there is one when the answer comes.
    pub fn change(&mut self) -> Change {
        self.changes.try_recv().expect("has been told")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Both are taken once.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
