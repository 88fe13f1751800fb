//! MQTT over WebSocket, plain and over TLS: clients people use, and what is refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::gateway::Settings;
use crate::harness::ports::Port;
use crate::harness::tls::{Ca, Files};
use crate::harness::{Bench, answer, find_tool};
use crate::own_clients::{assert_success, python, run};
use crate::tls::path;

/// A door for WebSockets, by KPC's keys, and one over TLS.
struct Doors {
    ca: Ca,
    server: Files,
    plain: Port,
    tls: Port,
}

impl Doors {
    fn new() -> Self {
        let ca = Ca::new("server CA");
        let server = ca.server("server", "localhost");
        Self { ca, server, plain: Port::reserve(), tls: Port::reserve() }
    }

    fn open(&self, settings: &mut Settings) {
        settings.set("kaa.kpc.transports.mqtt.websocket.enabled", true);
        settings.set("kaa.kpc.transports.mqtt.websocket.port", self.plain.number);
        settings.set("ringgate.tls.web.cert-files", vec![path(&self.server.chain)]);
        settings.set("ringgate.tls.web.key-files", vec![path(&self.server.key)]);
        settings.set("ringgate.listeners.web.kind", "wss");
        settings.set("ringgate.listeners.web.port", self.tls.number);
        settings.set("ringgate.listeners.web.tls", "web");
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.plain.number).into()
    }
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Where `scripts/test` has put packages for Node.
fn node_modules() -> PathBuf {
    let cached = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/node/node_modules");
    std::env::var_os("TEST_NODE_MODULES").map_or(cached, PathBuf::from)
}

#[test]
fn a_paho_device_works_over_websocket_in_every_version_plain_and_over_tls() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    for (version, is_tls) in [("3.1", false), ("3.1.1", false), ("3.1.1", true), ("5", true)] {
        let token = format!("token-{}-{is_tls}", version.replace('.', "-"));
        let port = if is_tls { &doors.tls } else { &doors.plain };
        let mut command = python();
        command
            .arg(client("paho_device.py"))
            .args(["--port", &port.number.to_string(), "--websocket-path", "/ws"])
            .args(["--version", version, "--app-version", "v1", "--token", &token]);
        if is_tls {
            command.args(["--ca", &path(&doors.ca.file)]);
        }
        assert_success(&run(&mut command));
    }
    assert!(bench.dcx.received().len() >= 4 * 5);
}

#[test]
fn an_mqtt_js_device_works_over_websocket_in_every_version_plain_and_over_tls() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let urls = [
        format!("ws://127.0.0.1:{}/ws", doors.plain.number),
        format!("wss://127.0.0.1:{}/ws", doors.tls.number),
    ];
    let runs = urls.iter().flat_map(|url| ["3", "4", "5"].map(|v| (url, v)));
    for (number, (url, version)) in (1..).zip(runs) {
        let topic = format!("kp1/v1/dcx/token-{version}/json");
        let mut command = Command::new(find_tool("TEST_NODE", "node", &[]));
        command.env("TEST_NODE_MODULES", node_modules());
        command.arg(client("mqttjs_device.cjs")).args([url, version, &topic]);
        if url.starts_with("wss") {
            command.arg(&doors.ca.file);
        }
        assert_success(&run(&mut command));
        bench.dcx.wait_for_count(number * 4);
        let large = bench.dcx.received().iter().filter(|data| data.text().len() == 200_000).count();
        assert_eq!(large, number);
    }
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
    let failed = bench.gateway.metric("ringgate_websocket_failures_total", &[]);
    assert_eq!(failed, 0.0);
    let reason = ["reason=\"client_disconnect\""];
    assert_eq!(bench.gateway.metric("ringgate_connections_closed_total", &reason), 6.0);
}

#[test]
fn what_is_refused_is_told_why_and_counted() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| {
        doors.open(settings);
        settings.set("ringgate.websocket.origins", vec!["https://panel.example"]);
        settings.set("ringgate.websocket.path", "/mqtt");
    });
    let request = |path: &str, origin: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: gate\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: mqtt\r\nOrigin: {origin}\r\n\r\n"
        )
    };
    let address = doors.address();
    let good = request("/mqtt", "https://panel.example");
    // Granted, and then not masked.
    let unmasked = [good.as_bytes(), &[0x82, 2, 0xc0, 0]].concat();
    let heard = answer(address, &unmasked);
    assert!(heard.starts_with(b"HTTP/1.1 101 ") && heard.ends_with(&[0x88, 2, 0x03, 0xea]));
    for (said, status, reason) in [
        (request("/ws", "https://panel.example"), "404", "wrong_path"),
        (request("/mqtt", "https://evil.example"), "403", "forbidden_origin"),
        ("\u{16}\u{3}\u{1}\0\0".to_owned(), "400", "not_http"),
        (format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(2000)), "431", "head_too_large"),
    ] {
        let heard = String::from_utf8(answer(address, said.as_bytes())).expect("text");
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
        let labels = [&*format!("reason=\"{reason}\"")];
        bench.gateway.wait_for_metric("ringgate_websocket_failures_total", &labels, 1.0);
    }
    let log = bench.gateway.output();
    assert!(log.contains("WebSocket with a client failed"), "{log}");
    assert!(log.contains("forbidden_origin"), "{log}");
}
