//! The PROXY protocol: real addresses in logs and limits, and headers that nobody asked for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::gateway::Settings;
use crate::harness::packet::V5;
use crate::harness::ports::Port;
use crate::harness::secured::Secured;
use crate::harness::{Bench, PATIENCE};

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

/// What is answered to these bytes, until the end.
fn answer(port: &Port, bytes: &[u8]) -> Vec<u8> {
    let address: SocketAddr = ([127, 0, 0, 1], port.number).into();
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(bytes).expect("sends");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("an end, and no reset");
    heard
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
        answer(&port, &[header.as_bytes(), &connect(username)].concat())
    };
    assert_eq!(log_in("192.0.2.1", "one"), [0x20, 2, 0, 4]);
    assert_eq!(log_in("192.0.2.1", "two"), [0x20, 2, 0, 3], "too many attempts");
    assert_eq!(log_in("192.0.2.2", "three"), [0x20, 2, 0, 4]);
    // By the other door the proxy itself has failed in nothing.
    let refused = bench.refused(crate::harness::packet::Connect {
        username: Some("four".into()),
        password: Some(b"wrong".to_vec()),
        ..crate::harness::packet::Connect::new(V5, "client")
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
    assert!(answer(&listed, &connect("x")).is_empty());
    bench.gateway.wait_until_closed("proxy_header", 1.0);
    let header = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 1883\r\n";
    assert!(answer(&unlisted, &[&header[..], &connect("x")].concat()).is_empty());
    bench.gateway.wait_until_closed("unlisted_proxy", 1.0);
    let log = bench.gateway.output();
    assert!(log.contains("not among proxy-protocol-from"), "{log}");
}
