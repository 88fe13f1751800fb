//! Bad input at every door at once: each is turned away in the right manner and counted, while
//! good devices at the same doors notice nothing.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use crate::harness::device::Device;
use crate::harness::gateway::{Gateway, Settings};
use crate::harness::packet::{Connect, V5};
use crate::harness::ports::Port;
use crate::harness::tls::{Ca, Files, client_config, tunnel};
use crate::harness::{Bench, answer};
use crate::tls::path;

/// How often each piece of bad input is said.
const TIMES: usize = 20;
/// Requests that each good device makes meanwhile, at least.
const REQUESTS_MIN: usize = 50;

struct Doors {
    ca: Ca,
    server: Files,
    ports: [Port; 5],
}

impl Doors {
    fn new() -> Self {
        let ca = Ca::new("server CA");
        let server = ca.server("server", "localhost");
        Self { ca, server, ports: [(); 5].map(|()| Port::reserve()) }
    }

    fn open(&self, settings: &mut Settings) {
        settings.set("ringgate.tls.t.cert-files", vec![path(&self.server.chain)]);
        settings.set("ringgate.tls.t.key-files", vec![path(&self.server.key)]);
        settings.set("ringgate.tls.t.client-auth", "optional");
        settings.set("ringgate.tls.t.client-ca-files", vec![path(&self.ca.file)]);
        let kinds = ["mqtts", "ws", "http", "mqtt", "mqtt"];
        for (number, (port, kind)) in self.ports.iter().zip(kinds).enumerate() {
            let key = |name: &str| format!("ringgate.listeners.l{number}.{name}");
            settings.set(&key("kind"), kind);
            settings.set(&key("port"), port.number);
            if kind == "mqtts" {
                settings.set(&key("tls"), "t");
            }
        }
        settings.set("ringgate.listeners.l3.proxy-protocol-from", vec!["127.0.0.1"]);
        settings.set("ringgate.listeners.l4.proxy-protocol-from", vec!["10.0.0.0/8"]);
    }

    fn at(&self, number: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[number].number).into()
    }
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A door, what is said there, how the answer begins or ends, and where it is counted.
type Case = (usize, Vec<u8>, &'static [u8], (&'static str, &'static str));

fn cases() -> Vec<Case> {
    let tls = |reason| ("ringgate_tls_failures_total", reason);
    let websocket = |reason| ("ringgate_websocket_failures_total", reason);
    let http = |status| ("ringgate_http_responses_total", status);
    let closed = |reason| ("ringgate_connections_closed_total", reason);
    let alert: &[u8] = &[21, 3];
    // A record of 65,535 bytes, where 16 KiB and a little are the most.
    let oversized = [&[22, 3, 1, 0xff, 0xff][..], &[1; 70]].concat();
    let unmasked = [UPGRADE.as_bytes(), &[0x82, 2, 0xc0, 0]].concat();
    let text = [UPGRADE.as_bytes(), &[0x81, 0x80, 0, 0, 0, 0]].concat();
    let bad_key = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
    let large = "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 10000000000\r\n\r\n";
    let proxy = b"PROXY TCP4 192.0.2.1 10.0.0.1 4000 1883\r\n";
    vec![
        (0, b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ab".to_vec(), alert, tls("not_tls")),
        (0, oversized, alert, tls("protocol")),
        (1, bad_key.into_bytes(), b"HTTP/1.1 400 ", websocket("bad_key")),
        (1, unmasked, &[0x88, 2, 0x03, 0xea], websocket("unmasked")),
        (1, text, &[0x88, 2, 0x03, 0xeb], websocket("not_binary")),
        (1, vec![22, 3, 1, 0, 100], b"HTTP/1.1 400 ", websocket("not_http")),
        (2, large.as_bytes().to_vec(), b"HTTP/1.1 413 ", http("413")),
        (2, vec![22, 3, 1, 0, 100], b"HTTP/1.1 400 ", http("400")),
        (3, b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ab".to_vec(), b"", closed("proxy_header")),
        (4, proxy.to_vec(), b"", closed("unlisted_proxy")),
    ]
}

fn count(gateway: &Gateway, (metric, label): (&str, &str)) -> f64 {
    let name = if metric == "ringgate_http_responses_total" { "status" } else { "reason" };
    gateway.metric(metric, &[&format!("{name}=\"{label}\"")])
}

#[test]
fn bad_input_at_every_door_is_turned_away_and_no_good_device_notices() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let over_tls = tunnel(doors.at(0), client_config(&doors.ca, None));
    let is_over = AtomicBool::new(false);
    // Hanging handshakes, requests and headers, that stay to the end.
    let hanging: Vec<TcpStream> = (0..5)
        .flat_map(|door| (0..TIMES).map(move |_| door))
        .map(|door| {
            let mut stream = TcpStream::connect(doors.at(door)).expect("connects");
            let begun: &[u8] = [&[22u8, 3, 1, 0][..], b"GET /w", b"POST", b"PRO", b"PRO"][door];
            stream.write_all(begun).expect("sends");
            stream
        })
        .collect();
    thread::scope(|scope| {
        let good: Vec<_> = [bench.gateway.mqtt, over_tls]
            .into_iter()
            .enumerate()
            .map(|(number, address)| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let name = format!("good-{number}");
                    let mut device = Device::connected(address, Connect::new(V5, &name)).0;
                    let topic = format!("kp1/v1/dcx/{name}/json/1");
                    let mut requests = 0;
                    while requests < REQUESTS_MIN || !is_over.load(Relaxed) {
                        device.request(&topic, "[]", 1);
                        requests += 1;
                    }
                    requests
                })
            })
            .collect();
        let bad: Vec<_> = cases()
            .into_iter()
            .map(|(door, said, expected, counted)| {
                let address = doors.at(door);
                scope.spawn(move || {
                    for _ in 0..TIMES {
                        let heard = answer(address, &said);
                        let is_right = heard.starts_with(expected) || heard.ends_with(expected);
                        assert!(is_right, "{counted:?}: {heard:?}");
                        assert!(heard.is_empty() == expected.is_empty(), "{counted:?}: {heard:?}");
                    }
                })
            })
            .collect();
        let bad: Vec<_> = bad.into_iter().map(|thread| thread.join()).collect();
        is_over.store(true, Relaxed);
        let good: Vec<_> = good.into_iter().map(|thread| thread.join()).collect();
        assert!(bad.iter().all(Result::is_ok) && good.iter().all(Result::is_ok));
    });
    for (.., counted) in cases() {
        let count = count(&bench.gateway, counted);
        assert!(count >= TIMES as f64, "{counted:?}: {count}");
    }
    assert_eq!(bench.gateway.metric("ringgate_panics_total", &[]), 0.0);
    // At most five lines a second of each shard and kind.
    let log = bench.gateway.output();
    let lines = log.lines().filter(|line| line.contains(" WARN ")).count();
    assert!(lines < TIMES * cases().len(), "{lines} lines");
    drop(hanging);
    bench.gateway.wait_for_metric("ringgate_connections_open", &[], 0.0);
}
