//! The PROXY protocol: real addresses in logs and limits, and headers that nobody asked for.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::harness::device::Device;
use crate::harness::gateway::Settings;
use crate::harness::packet::{Connect, V5};
use crate::harness::ports::Port;
use crate::harness::process::Process;
use crate::harness::secured::Secured;
use crate::harness::tls::{Ca, client_config, tunnel};
use crate::harness::{Bench, TempDir, answer, eventually, find_tool};
use crate::tls::path;

/// A door for plain MQTT whose proxies are of that network.
fn open(settings: &mut Settings, port: &Port, network: &str) {
    settings.set("ringgate.listeners.proxied.kind", "mqtt");
    settings.set("ringgate.listeners.proxied.port", port.number);
    settings.set("ringgate.listeners.proxied.proxy-protocol-from", vec![network]);
}

/// A CONNECT of MQTT 3.1.1 with a wrong password.
fn connect(username: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let body =
        [&b"\0\x04MQTT\x04\xc2\0\0"[..], &text("client"), &text(username), &text("wrong")].concat();
    [&[0x10, body.len() as u8][..], &body].concat()
}

/// What is answered at a port of ours.
fn answer_at(port: &Port, bytes: &[u8]) -> Vec<u8> {
    answer(([127, 0, 0, 1], port.number).into(), bytes)
}

#[test]
fn the_clients_address_is_what_logs_and_limits_see() {
    let port = Port::reserve();
    let bench = Secured::start_with(|settings| {
        open(settings, &port, "127.0.0.0/8");
        settings.set("ringgate.auth.login-failures-max-per-address", 1);
    });
    let log_in = |address: &str, username: &str| {
        let header = format!("PROXY TCP4 {address} 10.0.0.1 4000 1883\r\n");
        answer_at(&port, &[header.as_bytes(), &connect(username)].concat())
    };
    assert_eq!(log_in("192.0.2.1", "one"), [0x20, 2, 0, 4]);
    assert_eq!(log_in("192.0.2.1", "two"), [0x20, 2, 0, 3], "too many attempts");
    assert_eq!(log_in("192.0.2.2", "three"), [0x20, 2, 0, 4]);
    // By the other door the proxy itself has failed in nothing.
    let refused = bench.refused(Connect {
        username: Some("four".into()),
        password: Some(b"wrong".to_vec()),
        ..Connect::new(V5, "client")
    });
    assert_eq!(refused.code, 0x86);
    let log = bench.gateway.output();
    assert!(log.contains("peer=192.0.2.1") || log.contains("peer=\"192.0.2.1\""), "{log}");
}

#[test]
fn a_missing_header_and_one_from_elsewhere_are_closed_and_counted() {
    let (listed, unlisted) = (Port::reserve(), Port::reserve());
    let bench = Bench::start_with(|settings| {
        open(settings, &listed, "127.0.0.1");
        settings.set("ringgate.listeners.other.kind", "mqtt");
        settings.set("ringgate.listeners.other.port", unlisted.number);
        settings.set("ringgate.listeners.other.proxy-protocol-from", vec!["10.0.0.0/8"]);
    });
    assert!(answer_at(&listed, &connect("x")).is_empty());
    bench.gateway.wait_until_closed("proxy_header", 1.0);
    let header = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 1883\r\n";
    assert!(answer_at(&unlisted, &[&header[..], &connect("x")].concat()).is_empty());
    bench.gateway.wait_until_closed("unlisted_proxy", 1.0);
    let log = bench.gateway.output();
    assert!(log.contains("not among proxy-protocol-from"), "{log}");
}

#[test]
fn a_real_haproxy_is_understood_in_both_versions_and_with_what_it_says_of_tls() {
    let (ca, dir) = (Ca::new("server CA"), TempDir::new());
    let server = ca.server("server", "localhost");
    let pem = [&server.chain, &server.key].map(|file| std::fs::read_to_string(file).expect("PEM"));
    let pem = dir.file("server.pem", &pem.concat());
    let (gate, line, binary) = (Port::reserve(), Port::reserve(), Port::reserve());
    let bench = Bench::start_with(|settings| open(settings, &gate, "127.0.0.1"));
    let config = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         listen line\n bind 127.0.0.1:{}\n server gate 127.0.0.1:{} send-proxy\n\
         listen binary\n bind 127.0.0.1:{} ssl crt {} ca-file {} verify required\n \
         server gate 127.0.0.1:{} send-proxy-v2-ssl-cn proxy-v2-options crc32c check\n",
        line.number,
        gate.number,
        binary.number,
        path(&pem),
        path(&ca.file),
        gate.number,
    );
    let config = dir.file("haproxy.cfg", &config);
    let haproxy = find_tool("TEST_HAPROXY", "haproxy", &["/usr/sbin/haproxy"]);
    let mut command = Command::new(haproxy);
    let _haproxy =
        Process::start("haproxy", command.args(["-db", "-f", &path(&config)]), dir.path());
    let at = |port: &Port| SocketAddr::from(([127, 0, 0, 1], port.number));
    for port in [&line, &binary] {
        eventually("haproxy to listen", || TcpStream::connect(at(port)).ok());
    }
    let shown = ca.client(7);
    let addresses = [at(&line), tunnel(at(&binary), client_config(&ca, Some(&shown)))];
    for address in addresses {
        let mut device = Device::connected(address, Connect::new(V5, "behind")).0;
        device.request("kp1/v1/dcx/token-1/json/1", "[]", 1);
        device.disconnect();
    }
    let log = bench.gateway.output();
    assert!(log.contains("TLS was spoken with the proxy"), "{log}");
    assert!(!log.contains("PROXY protocol with a client failed"), "{log}");
    assert!(
        log.contains("TLSv1.3") && log.contains("common_name=\"rcgen self signed cert\""),
        "{log}"
    );
    assert_eq!(
        bench.gateway.metric("ringgate_connections_closed_total", &["reason=\"proxy_header\""]),
        0.0
    );
}
