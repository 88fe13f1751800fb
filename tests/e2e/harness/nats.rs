//! A real nats-server on a port of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use super::http;
use super::ports::Port;
use super::process::Process;
use super::{TempDir, eventually, find_tool};

pub struct Nats {
    process: Option<Process>,
    port: Port,
    arguments: Vec<String>,
    scheme: &'static str,
    dir: TempDir,
}

impl Nats {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with more command line arguments, such as `--auth`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let dir = TempDir::new();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_in(dir, arguments, "nats")
    }

    /// Starts with a configuration file of the given text; `dir` may already hold keys for it.
    pub fn start_configured(dir: TempDir, text: &str) -> Self {
        Self::start_configured_as(dir, text, "nats")
    }

    /// The same with the scheme its URL has, such as `tls`.
    pub fn start_configured_as(dir: TempDir, text: &str, scheme: &'static str) -> Self {
        let file = dir.file("nats.conf", text);
        let arguments = vec!["-c".to_owned(), file.display().to_string()];
        Self::start_in(dir, arguments, scheme)
    }

    fn start_in(dir: TempDir, arguments: Vec<String>, scheme: &'static str) -> Self {
        let port = Port::reserve();
        let mut nats = Self { process: None, port, arguments, scheme, dir };
        nats.restart();
        nats
    }

    /// A place for a server that does not run yet; [`Nats::restart`] starts it.
    pub fn absent() -> Self {
        Self {
            process: None,
            port: Port::reserve(),
            arguments: Vec::new(),
            scheme: "nats",
            dir: TempDir::new(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number).into()
    }

    pub fn dir(&self) -> &TempDir {
        &self.dir
    }

    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address())
    }

    /// Stops the server's execution: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.running().freeze();
    }

    pub fn thaw(&self) {
        self.running().signal(libc::SIGCONT);
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("nats-server runs")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the server again on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.process = Some(spawn(&self.port, &self.arguments, &self.dir));
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&self) {
        eventually("nats-server to listen", || TcpStream::connect(self.address()).ok());
    }
}

/// Three servers that are one cluster.
pub struct Cluster {
    pub servers: [Nats; 3],
    monitors: [Port; 3],
    _routes: [Port; 3],
}

impl Cluster {
    /// Starts them, and waits until each has a route to both others.
    pub fn start() -> Self {
        let monitors = [0; 3].map(|_| Port::reserve());
        let routes = [0; 3].map(|_| Port::reserve());
        let address = |port: &Port| format!("nats://127.0.0.1:{}", port.number);
        let all = routes.each_ref().map(address).join(",");
        let servers = [0, 1, 2].map(|at| {
            let monitor = monitors[at].number.to_string();
            let name = format!("n{at}");
            let cluster = address(&routes[at]);
            let mut arguments = vec!["--server_name", &name, "-m", &monitor];
            arguments.extend(["--cluster_name", "e2e", "--cluster", &cluster, "--routes", &all]);
            Nats::start_with(&arguments)
        });
        let cluster = Self { servers, monitors, _routes: routes };
        for at in 0..3 {
            eventually("routes between the servers", || {
                let routes = cluster.routes(at)?;
                let others = (0..3).filter(|other| *other != at);
                let mut names = others.map(|other| format!("\"remote_name\": \"n{other}\""));
                names.all(|name| routes.contains(&name)).then_some(())
            });
        }
        cluster
    }

    /// Waits until every server knows that somebody listens to a subject at server `at`.
    pub fn wait_until_heard(&self, at: usize, subject: &str) {
        for other in (0..3).filter(|other| *other != at) {
            eventually(&format!("interest in {subject} to spread"), || {
                self.routes(other)?.contains(&format!("\"{subject}\"")).then_some(())
            });
        }
    }

    fn routes(&self, at: usize) -> Option<String> {
        let address = (Ipv4Addr::LOCALHOST, self.monitors[at].number).into();
        http::get(address, "/routez?subs=1").map(|response| response.body)
    }
}

fn spawn(port: &Port, arguments: &[String], dir: &TempDir) -> Process {
    let mut command = Command::new(server());
    command.args(["-a", "127.0.0.1", "-p", &port.number.to_string()]).args(arguments);
    Process::start("nats-server", &mut command, dir.path())
}

fn server() -> PathBuf {
    let cached = format!("nats/{}/nats-server", std::env::consts::ARCH);
    find_tool("TEST_NATS_SERVER", "nats-server", &[&cached])
}
