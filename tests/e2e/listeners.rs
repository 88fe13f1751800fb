//! Listeners of every kind of place: IPv6, Unix sockets, and sockets that systemd has opened.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::harness::device::Device;
use crate::harness::extension;
use crate::harness::gateway::{Gateway, settings, without_settings};
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, V5};
use crate::harness::ports::Port;
use crate::harness::process::Process;
use crate::harness::{Bench, PATIENCE, TempDir, eventually, find_tool};
use crate::own_clients::{assert_success, python, run};
use crate::tls::path;

const TOPIC: &str = "kp1/v1/dcx/token-1/json/1";

#[test]
fn devices_come_in_over_ipv6() {
    let port = Port::reserve();
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.listeners.six.kind", "mqtt");
        settings.set("ringgate.listeners.six.addresses", vec!["::1"]);
        settings.set("ringgate.listeners.six.port", port.number);
    });
    let address = (Ipv6Addr::LOCALHOST, port.number).into();
    let mut device = Device::connected(address, Connect::new(V5, "six")).0;
    device.request(TOPIC, "[]", 1);
    assert!(bench.gateway.output().contains("mqtt://[::1]:"));
}

#[test]
fn devices_come_in_by_a_unix_socket_which_goes_with_the_gateway() {
    let folder = TempDir::new();
    let (mqtt, http) = (folder.path().join("mqtt.sock"), folder.path().join("http.sock"));
    // What a killed process has left behind.
    drop(std::os::unix::net::UnixListener::bind(&mqtt).expect("binds"));
    let mut bench = Bench::start_with(|settings| {
        settings.set("ringgate.listeners.side.kind", "mqtt");
        settings.set("ringgate.listeners.side.unix-socket", path(&mqtt));
        settings.set("ringgate.listeners.web.kind", "http");
        settings.set("ringgate.listeners.web.unix-socket", path(&http));
    });
    let mosquitto = find_tool("TEST_MOSQUITTO_PUB", "mosquitto_pub", &[]);
    let arguments = ["-q", "1", "-t", TOPIC, "-m", "by unix", "--unix", &path(&mqtt)];
    assert_success(&run(Command::new(mosquitto).args(arguments)));
    assert_eq!(bench.dcx.take().text(), "by unix");
    let curl = find_tool("TEST_CURL", "curl", &[]);
    let arguments = ["--fail", "--data", "x", "http://gate/kp1/v1/dcx/token-1/json"];
    assert_success(&run(Command::new(curl).args(["--unix-socket", &path(&http)]).args(arguments)));

    let second = Gateway::spawn(&bench.nats.url(), |settings| {
        settings.set("ringgate.listeners.side.kind", "mqtt");
        settings.set("ringgate.listeners.side.unix-socket", path(&mqtt));
    });
    let why = eventually("the second to give up", || {
        second.output().contains("cannot listen on").then(|| second.output())
    });
    assert!(why.contains("mqtt.sock") && why.contains("unix-socket"), "{why}");
    bench.gateway.signal(libc::SIGTERM);
    bench.gateway.wait(PATIENCE);
    assert!(!mqtt.exists() && !http.exists());
}

/// Runs ringgate as systemd does: with a listening socket at descriptor 3, called `name`.
const ACTIVATE: &str = "
import os, socket, sys
name, port, *command = sys.argv[1:]
listening = socket.create_server(('127.0.0.1', int(port)), backlog=100)
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES=name)
os.execv(command[0], command)
";

fn activated(name: &str, port: u16, config: &Path, dir: &TempDir) -> Process {
    let mut command = python();
    command.args(["-c", ACTIVATE, name, &port.to_string(), env!("CARGO_BIN_EXE_ringgate")]);
    command.args(["run", "--config", &path(config)]);
    without_settings(&mut command);
    Process::start("ringgate", &mut command, dir.path())
}

#[test]
fn a_socket_of_systemd_is_used_in_place_of_the_listeners_own() {
    let (nats, dir) = (Nats::start(), TempDir::new());
    let dcx = extension::Extension::start(&nats.url(), "dcx", extension::collects_data);
    let (passed, own, admin) = (Port::reserve(), Port::reserve(), Port::reserve());
    let mut settings = settings();
    settings.set("kaa.kpc.transports.mqtt.tcp.port", own.number);
    settings.set("server.port", admin.number);
    settings.set("ringgate.nats.urls", vec![nats.url()]);
    settings.set("ringgate.credentials.directory", path(dir.path()));
    let config = dir.file("config.yml", &settings.text());
    let mut gateway = activated("mqtt-tcp", passed.number, &config, &dir);
    let address = ([127, 0, 0, 1], passed.number).into();
    eventually("the gateway to be ready", || {
        gateway.output().contains("ringgate is ready").then_some(())
    });
    // Enough for both shards to get some.
    for client in 0..20 {
        let mut device = Device::connected(address, Connect::new(V5, &format!("c{client}"))).0;
        device.request(TOPIC, "[]", 1);
    }
    dcx.wait_for_count(20);
    assert!(gateway.output().contains("of systemd"), "{}", gateway.output());
    // Its own port is free.
    TcpListener::bind(("127.0.0.1", own.number)).expect("nobody listens");
    gateway.signal(libc::SIGTERM);
    gateway.wait(PATIENCE);

    let gateway = activated("lighthouse", Port::reserve().number, &config, &dir);
    eventually("it to say which names there are", || {
        let said = gateway.output();
        (said.contains("\"lighthouse\"") && said.contains("there are mqtt-tcp")).then_some(())
    });
}

#[test]
fn what_is_no_mqtt_on_a_unix_socket_is_closed() {
    let folder = TempDir::new();
    let socket = folder.path().join("mqtt.sock");
    let bench = Bench::start_with(|settings| {
        settings.set("ringgate.listeners.side.kind", "mqtt");
        settings.set("ringgate.listeners.side.unix-socket", path(&socket));
    });
    let mut stream = UnixStream::connect(&socket).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sends");
    assert_eq!(stream.read_to_end(&mut Vec::new()).expect("an end"), 0);
    bench.gateway.wait_until_closed("malformed_packet", 1.0);
}
