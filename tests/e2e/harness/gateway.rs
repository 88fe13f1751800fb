//! The real `ringgate` binary with a configuration of the test's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::http::{self, Metrics, Response};
use super::ports::Port;
use super::process::Process;
use super::secured::MARK;
use super::{TempDir, eventually};

/// `service.graceful-shutdown` of the tests, in seconds.
pub const GRACEFUL_SHUTDOWN_S: u64 = 5;

/// Replica id of the tests; a shard's reply subject begins with it.
pub const REPLICA: &str = "e2e";

/// A configuration file in the making, as JSON, which is YAML too.
#[derive(Clone)]
pub struct Settings {
    root: Value,
    environment: Vec<(String, String)>,
}

impl Settings {
    /// Two applications: `v1` may use every extension instance, `v2` only `dcx`; `tsx` and `plain`
    /// know no endpoints. Everybody is let in; credentials, if needed, are in the folder `store`.
    fn new(mqtt_port: u16, admin_port: u16, nats_url: &str, store: &str) -> Self {
        let root = json!({
            "service": {
                "instance": { "name": "kpc", "replica": { "id": REPLICA } },
                "graceful-shutdown": GRACEFUL_SHUTDOWN_S,
            },
            "server": { "port": admin_port },
            "kaa": {
                "kpc": {
                    "transports": { "mqtt": { "tcp": { "enabled": true, "port": mqtt_port } } },
                },
                "applications": {
                    "demo": {
                        "versions": {
                            "v1": {
                                "allowed-extension-instances":
                                    ["dcx", "cmx", "cex", "tsx", "plain"],
                            },
                        },
                    },
                    "narrow": {
                        "versions": { "v2": { "allowed-extension-instances": ["dcx"] } },
                    },
                },
                "extension-instances": {
                    "dcx": { "endpoint-aware": true },
                    "cmx": { "endpoint-aware": true },
                    "cex": { "endpoint-aware": true },
                    "tsx": null,
                    "plain": { "endpoint-aware": false },
                },
            },
            "ringgate": {
                "shards": 2,
                "pin-threads": false,
                "listen": { "addresses": ["127.0.0.1"] },
                "nats": {
                    "urls": [nats_url],
                    "reconnect-delay-ms-min": 20,
                    "reconnect-delay-ms-max": 200,
                },
                "auth": { "endpoint-provider": "trustful", "client-provider": "trustful" },
                "credentials": { "directory": store },
                "log": { "level": "debug" },
            },
        });
        Self { root, environment: Vec::new() }
    }

    /// Sets one key; `path` has its levels separated by dots.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) {
        let mut place = &mut self.root;
        for level in path.split('.') {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[level];
        }
        *place = value.into();
    }

    /// Sets an environment variable of the process.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn text(&self) -> String {
        serde_json::to_string_pretty(&self.root).expect("JSON of JSON")
    }
}

/// A configuration like the tests' own, for tests that only read it.
pub fn settings() -> Settings {
    Settings::new(1883, 8008, "nats://127.0.0.1:4222", "credentials")
}

/// `ringgate` with these arguments and none of the caller's settings in its environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.args(arguments);
    without_settings(&mut command);
    command
}

/// Takes ringgate's settings out of the environment that a command will have.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["KAA_", "RINGGATE_", "NATS_", "APP_CONFIG_PATH"].iter().any(|p| text.starts_with(p)) {
            command.env_remove(&name);
        }
    }
}

pub struct Gateway {
    process: Process,
    /// Where devices connect.
    pub mqtt: SocketAddr,
    /// Where `/health` and `/metrics` are.
    pub admin: SocketAddr,
    dir: TempDir,
    _ports: [Port; 2],
}

impl Gateway {
    /// Starts ringgate and waits until `/health` says that all is well.
    pub fn start(nats_url: &str, adjust: impl FnOnce(&mut Settings)) -> Self {
        let gateway = Self::spawn(nats_url, adjust);
        gateway.wait_until_healthy();
        gateway
    }

    /// Starts ringgate and waits for nothing.
    pub fn spawn(nats_url: &str, adjust: impl FnOnce(&mut Settings)) -> Self {
        Self::spawn_prepared(nats_url, adjust, |_| {})
    }

    /// The same with a last word on the command, such as a system call filter.
    pub fn spawn_prepared(
        nats_url: &str,
        adjust: impl FnOnce(&mut Settings),
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let ports = [Port::reserve(), Port::reserve()];
        let [mqtt, admin] =
            [&ports[0], &ports[1]].map(|port| (Ipv4Addr::LOCALHOST, port.number).into());
        let dir = TempDir::new();
        let store = dir.path().join("credentials").display().to_string();
        let mut settings = Settings::new(ports[0].number, ports[1].number, nats_url, &store);
        adjust(&mut settings);
        let config = dir.file("config.yml", &settings.text());
        let mut command = command(&["run", "--config", &config.display().to_string()]);
        command.envs(settings.environment.clone());
        prepare(&mut command);
        let process = Process::start("ringgate", &mut command, dir.path());
        Self { process, mqtt, admin, dir, _ports: ports }
    }

    pub fn output(&self) -> String {
        self.process.output()
    }

    pub fn wait_until_healthy(&self) {
        eventually("GET /health to say 200", || {
            http::get(self.admin, "/health").filter(|response| response.status == 200)
        });
    }

    /// Waits until `/health` says 500 and returns what it says.
    pub fn wait_until_unhealthy(&self) -> Response {
        eventually("GET /health to say 500", || {
            http::get(self.admin, "/health").filter(|response| response.status == 500)
        })
    }

    pub fn metrics(&self) -> Metrics {
        let response = http::get(self.admin, "/metrics").expect("GET /metrics answers");
        assert_eq!(response.status, 200);
        Metrics { text: response.body }
    }

    /// The sum over all series of `name` that carry every label; panics when there is none, so
    /// that a misspelt name does not read as zero.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics();
        metrics
            .sum(name, labels)
            .unwrap_or_else(|| panic!("no series {name} {labels:?} in:\n{}", metrics.text))
    }

    /// Waits until a metric is `value`.
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], value: f64) {
        eventually(&format!("{name} {labels:?} to be {value}"), || {
            (self.metric(name, labels) == value).then_some(())
        });
    }

    /// Messages dropped for `reason` so far.
    pub fn dropped(&self, reason: &str) -> f64 {
        self.metric("ringgate_messages_dropped_total", &[&format!("reason=\"{reason}\"")])
    }

    pub fn wait_until_dropped(&self, reason: &str, count: f64) {
        let label = format!("reason=\"{reason}\"");
        self.wait_for_metric("ringgate_messages_dropped_total", &[&label], count);
    }

    /// Waits until connections have ended `count` times for `reason`.
    pub fn wait_until_closed(&self, reason: &str, count: f64) {
        let label = format!("reason=\"{reason}\"");
        self.wait_for_metric("ringgate_connections_closed_total", &[&label], count);
    }

    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    pub fn has_exited(&mut self) -> bool {
        self.process.exited().is_some()
    }

    /// The directory with the configuration file `config.yml`.
    pub fn dir(&self) -> &TempDir {
        &self.dir
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }
}

impl Drop for Gateway {
    /// No secret of these tests may be in anything the gateway says, whatever the test was about.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // It may not run any more, or be stopped for good.
        let metrics = if self.has_exited() { None } else { http::get(self.admin, "/metrics") };
        self.process.kill();
        let said = [self.output(), metrics.map(|metrics| metrics.body).unwrap_or_default()];
        for line in said.iter().flat_map(|text| text.lines()) {
            assert!(!line.contains(MARK), "the gateway tells a secret: {line}");
        }
    }
}
