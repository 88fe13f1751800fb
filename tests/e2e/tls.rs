//! MQTT over TLS: handshakes good and bad, client certificates, and files that change.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::device::Device;
use crate::harness::gateway::{self, Gateway, Settings};
use crate::harness::packet::{Connect, V5, V31, V311};
use crate::harness::ports::Port;
use crate::harness::provider::Kind;
use crate::harness::secured::{Secured, secret};
use crate::harness::tls::{Ca, Files, client_config, tunnel};
use crate::harness::{Bench, eventually, find_tool, http};

const TOPIC: &str = "kp1/v1/dcx/token-1/json/1";

/// A door that speaks TLS, and what it speaks it by.
pub struct Door {
    pub ca: Ca,
    pub server: Files,
    port: Port,
}

impl Door {
    pub fn new() -> Self {
        let ca = Ca::new("server CA");
        let server = ca.server("server", "localhost");
        Self { ca, server, port: Port::reserve() }
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number).into()
    }

    /// KPC's keys.
    pub fn open(&self, settings: &mut Settings) {
        let key = |name: &str| format!("kaa.kpc.transports.mqtt.tls.{name}");
        settings.set(&key("enabled"), true);
        settings.set(&key("port"), self.port.number);
        settings.set(&key("cert-file"), path(&self.server.chain));
        settings.set(&key("key-file"), path(&self.server.key));
    }

    /// The same, where clients show certificates of `ca`.
    pub fn open_for(&self, ca: &Ca, client_auth: &str, settings: &mut Settings) {
        self.open(settings);
        settings.set("kaa.kpc.transports.mqtt.tls.client-auth", client_auth);
        settings.set("kaa.kpc.transports.mqtt.tls.client-ca-file", path(&ca.file));
    }

    /// Where devices that speak no TLS reach it.
    pub fn tunnel(&self, shown: Option<&Files>) -> SocketAddr {
        tunnel(self.address(), client_config(&self.ca, shown))
    }
}

pub fn path(file: &Path) -> String {
    file.display().to_string()
}

fn tls_failures(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("ringgate_tls_failures_total", &[reason])
}

fn wait_for_failure(gateway: &Gateway, reason: &str, count: f64) {
    let labels = format!("reason=\"{reason}\"");
    gateway.wait_for_metric("ringgate_tls_failures_total", &[&labels], count);
}

/// What `openssl s_client` prints when it has tried to shake hands.
fn s_client(address: SocketAddr, arguments: &[&str]) -> String {
    let output = Command::new(find_tool("TEST_OPENSSL", "openssl", &[]))
        .args(["s_client", "-connect", &address.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn devices_of_every_version_talk_through_tls_and_plain_at_once() {
    let door = Door::new();
    let bench = Bench::start_with(|settings| door.open(settings));
    let address = door.tunnel(None);
    for level in [V31, V311, V5] {
        let mut secure = Device::connected(address, Connect::new(level, "secure")).0;
        let mut plain = bench.device_of(level, "plain");
        for qos in 0..3 {
            secure.request(TOPIC, "[]", qos);
            plain.request("kp1/v1/dcx/token-2/json/1", "[]", qos);
        }
        secure.disconnect();
        plain.disconnect();
    }
    let handshakes = bench.gateway.metric("ringgate_tls_handshakes_total", &["kind=\"full\""]);
    assert!(handshakes >= 1.0, "{handshakes}");
}

#[test]
fn versions_names_protocols_and_resumption_are_as_they_should() {
    let door = Door::new();
    let other = door.ca.server("other", "other.example");
    let bench = Bench::start_with(|settings| {
        let key = |name: &str| format!("ringgate.tls.door.{name}");
        settings.set(&key("cert-files"), vec![path(&door.server.chain), path(&other.chain)]);
        settings.set(&key("key-files"), vec![path(&door.server.key), path(&other.key)]);
        settings.set("ringgate.listeners.door.port", door.port.number);
        settings.set("ringgate.listeners.door.tls", "door");
    });
    let address = door.address();
    let ca = path(&door.ca.file);
    for version in ["-tls1_2", "-tls1_3"] {
        let said = s_client(
            address,
            &[
                version,
                "-CAfile",
                &ca,
                "-servername",
                "other.example",
                "-verify_hostname",
                "other.example",
                "-alpn",
                "h2,mqtt",
                "-verify_return_error",
            ],
        );
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
        assert!(said.contains("ALPN protocol: mqtt"), "{said}");
        let said = s_client(
            address,
            &[
                version,
                "-CAfile",
                &ca,
                "-noservername",
                "-verify_hostname",
                "localhost",
                "-verify_return_error",
            ],
        );
        assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    for old in ["-tls1", "-tls1_1"] {
        let said = s_client(address, &[old, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(said.contains("Cipher is (NONE)"), "{said}");
    }
    let said = s_client(address, &["-alpn", "h2"]);
    assert!(said.contains("no application protocol"), "{said}");
    // Any shard resumes what any other has begun: with two of them, ten connections meet both.
    let config = client_config(&door.ca, None);
    let resumed =
        |gateway: &Gateway| gateway.metric("ringgate_tls_handshakes_total", &["kind=\"resumed\""]);
    let before = resumed(&bench.gateway);
    let address = tunnel(address, config);
    for _ in 0..11 {
        Device::connected(address, Connect::new(V311, "again")).0.disconnect();
    }
    assert!(resumed(&bench.gateway) - before >= 10.0, "{}", resumed(&bench.gateway));
}

#[test]
fn a_client_is_known_by_its_certificate_until_that_is_revoked() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let bench = Secured::start_with(|settings| door.open_for(&ca, "optional", settings));
    bench.provider.certificate("acme", &ca.issuer_name(), "7", "pump-7");
    bench.provider.certificate("other", &ca.issuer_name(), "8", "pump-8");
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    let (seven, eight, nine) = (ca.client(7), ca.client(8), ca.client(9));
    let address = door.tunnel(Some(&seven));
    for level in [V31, V311, V5] {
        let mut client = Device::connected(address, Connect::new(level, "pump")).0;
        client.request(&topic, "[]", 1);
        client.disconnect();
    }
    let asked = bench.provider.asked();
    let asked = asked.iter().find(|asked| asked.kind == Kind::CapCertificate);
    let asked = asked.expect("a question about the certificate");
    assert_eq!((&*asked.name, &*asked.proof), ("CN=plant CA", "7"));
    // Nobody knows the ninth; the tenant of the eighth is not that of the application.
    let stranger = door.tunnel(Some(&nine));
    for (level, code) in [(V31, 4), (V311, 4), (V5, 0x86)] {
        assert_eq!(Device::refused(stranger, Connect::new(level, "pump")).code, code);
    }
    let mut other = Device::connected(door.tunnel(Some(&eight)), Connect::new(V5, "other")).0;
    other.publish_qos0(&topic, "[]");
    bench.gateway.wait_until_dropped("wrong_tenant", 1.0);
    assert!(other.receive_publish().topic.ends_with("/error"));
    // Revoked: put out, and not let in again.
    let mut client = Device::connected(address, Connect::new(V5, "pump")).0;
    let mut stays = Device::connected(door.tunnel(None), Connect::new(V5, "anonymous")).0;
    bench.provider.revoke_cap_client("certificate", "acme", "pump-7");
    assert!(client.expect_disconnect_because(0x98).is_some());
    assert_eq!(Device::refused(address, Connect::new(V5, "pump")).code, 0x87);
    stays.ping();
    other.ping();
}

#[test]
fn a_certificate_that_16_ecap_knows_is_of_the_default_tenant() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let bench = Secured::start_with(|settings| {
        door.open_for(&ca, "required", settings);
        settings.set("ringgate.auth.client-provider", "ecap");
        settings.set("ringgate.auth.default-tenant", "acme");
    });
    bench.provider.certificate("", &ca.issuer_name(), "7", "pump-7");
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    bench.provider.token("narrow", &token, "endpoint-2");
    let mut client = Device::connected(door.tunnel(Some(&ca.client(7))), Connect::new(V5, "a")).0;
    client.request(&format!("kp1/v1/dcx/{token}/json/1"), "[]", 1);
    client.publish_qos0(&format!("kp1/v2/dcx/{token}/json"), "[]");
    bench.gateway.wait_until_dropped("wrong_tenant", 1.0);
}

#[test]
fn a_tenant_may_demand_certificates_of_those_that_come_by_tls() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let bench = Secured::start_with(|settings| {
        door.open_for(&ca, "optional", settings);
        settings.set("ringgate.tenants.acme.require.mqtt-tls", "certificate");
    });
    bench.provider.certificate("acme", &ca.issuer_name(), "7", "pump-7");
    bench.provider.client("acme", "user", &secret("password"));
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    let mut shown = Device::connected(door.tunnel(Some(&ca.client(7))), Connect::new(V5, "a")).0;
    shown.request(&topic, "[]", 1);
    let nothing_shown = door.tunnel(None);
    let basic = Connect::new(V5, "b").credentials("user@acme", &secret("password"));
    for connect in [Connect::new(V5, "c"), basic] {
        let mut refused = Device::connected(nothing_shown, connect).0;
        refused.publish_qos0(&topic, "[]");
        refused.expect_disconnect(0x87);
    }
    // Plain MQTT is another matter.
    bench.device_of(V5, "plain").request(&topic, "[]", 1);
    shown.request(&topic, "[]", 1);
}

#[test]
fn a_certificate_of_another_tenants_authority_does_not_get_in() {
    let (door, acme, other) = (Door::new(), Ca::new("CA of acme"), Ca::new("CA of other"));
    let bench = Secured::start_with(|settings| {
        door.open(settings);
        settings.set("kaa.kpc.transports.mqtt.tls.client-auth", "required");
        settings.set("ringgate.tenants.acme.ca-files", vec![path(&acme.file)]);
        settings.set("ringgate.tenants.other.ca-files", vec![path(&other.file)]);
    });
    // The provider errs: it takes the certificate of one tenant for that of another.
    bench.provider.certificate("acme", &other.issuer_name(), "7", "pump-7");
    bench.provider.certificate("acme", &acme.issuer_name(), "8", "pump-8");
    let connect = || Connect::new(V5, "pump");
    assert_eq!(Device::refused(door.tunnel(Some(&other.client(7))), connect()).code, 0x87);
    Device::connected(door.tunnel(Some(&acme.client(8))), connect()).0.disconnect();
    eventually("a line about it", || {
        bench.gateway.output().contains("of another tenant's authority").then_some(())
    });
}

#[test]
fn bad_certificates_end_the_handshake_with_the_right_alert() {
    let (door, ca, stranger) = (Door::new(), Ca::new("plant CA"), Ca::new("strangers"));
    let crl = ca.crl(&[3]);
    let bench = Bench::start_with(|settings| {
        door.open_for(&ca, "required", settings);
        settings.set("kaa.kpc.transports.mqtt.tls.crl-file", path(&crl));
    });
    let mut watcher = bench.device_of(V5, "watcher");
    for (files, alert, reason) in [
        (Some(stranger.client(1)), "unknown ca", "unknown_authority"),
        (Some(ca.client_until(2, 2021)), "certificate expired", "expired"),
        (Some(ca.client(3)), "certificate revoked", "revoked"),
        (None, "certificate required", "no_certificate"),
    ] {
        let files = files.map(|files| [path(&files.chain), path(&files.key)]);
        let mut arguments = vec!["-tls1_3"];
        if let Some([chain, key]) = &files {
            arguments.extend(["-cert", chain, "-key", key]);
        }
        // TLS 1.3: the client hears of it only when it reads.
        let said = s_client(door.address(), &[&arguments[..], &["-ign_eof"]].concat());
        assert!(said.contains(alert), "{alert}: {said}");
        wait_for_failure(&bench.gateway, reason, 1.0);
        watcher.ping();
    }
    Device::connected(door.tunnel(Some(&ca.client(4))), Connect::new(V5, "good")).0.disconnect();
}

#[test]
fn new_certificates_and_revocation_lists_are_taken_without_dropping_anybody() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let crl = ca.crl(&[]);
    let bench = Bench::start_with(|settings| {
        door.open_for(&ca, "required", settings);
        settings.set("kaa.kpc.transports.mqtt.tls.crl-file", path(&crl));
    });
    let gateway = &bench.gateway;
    let tunnel_of_3 = door.tunnel(Some(&ca.client(3)));
    let mut old = Device::connected(tunnel_of_3, Connect::new(V5, "old")).0;
    let shown = || {
        let said = s_client(door.address(), &["-showcerts"]);
        let certificate = said.split("-----BEGIN CERTIFICATE-----").nth(1);
        let certificate = certificate.and_then(|rest| rest.split("-----END").next());
        certificate.unwrap_or_else(|| panic!("no certificate: {said}")).to_owned()
    };
    let before = shown();
    // A bad file: everything stays, and it is said which and why.
    std::fs::write(&door.server.key, "no key").expect("writes");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_metric("ringgate_tls_refused_total", &[], 1.0);
    assert_eq!(shown(), before);
    let output = gateway.output();
    assert!(output.contains("no private key can be read from it"), "{output}");
    assert!(output.contains(&path(&door.server.key)), "{output}");
    // A good one, on SIGHUP.
    door.ca.server("server", "localhost");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_metric("ringgate_tls_renewed_total", &[], 1.0);
    assert_ne!(shown(), before);
    // And without being told: a client is on the list now, and its ticket is good for nothing.
    ca.crl(&[3]);
    gateway.wait_for_metric("ringgate_tls_renewed_total", &[], 2.0);
    let mut refused = Device::open(tunnel_of_3, V5);
    refused.send_regardless(&Connect::new(V5, "new").bytes());
    refused.expect_closed();
    wait_for_failure(gateway, "revoked", 1.0);
    Device::connected(door.tunnel(Some(&ca.client(4))), Connect::new(V5, "good")).0.disconnect();
    old.request(TOPIC, "[]", 1);
}

#[test]
fn the_chain_that_devices_are_shown_is_there_for_whoever_asks_and_is_always_the_new_one() {
    let (door, plant) = (Door::new(), Port::reserve());
    let other = door.ca.server("other", "other.example");
    let bench = Bench::start_with(|settings| {
        door.open(settings);
        settings.set("ringgate.tls.plant.cert-files", vec![path(&other.chain)]);
        settings.set("ringgate.tls.plant.key-files", vec![path(&other.key)]);
        settings.set("ringgate.listeners.plant.port", plant.number);
        settings.set("ringgate.listeners.plant.tls", "plant");
    });
    let gateway = &bench.gateway;
    let get = |query: &str| {
        let path = format!("/api/v1/certificate-chain{query}");
        http::get(gateway.admin, &path).expect("an answer")
    };
    let chain = |query: &str| {
        let response = get(query);
        assert_eq!(response.status, 200, "{response:?}");
        assert!(response.head.contains("content-type: application/x-pem-file"), "{response:?}");
        response.body
    };
    let file = |file: &Path| std::fs::read_to_string(file).expect("reads");
    let before = chain("?profile=mqtt-tls");
    assert_eq!(before, file(&door.server.chain));
    assert_eq!(chain("?profile=plant&server-name=other.example"), file(&other.chain));
    assert_eq!(get("?profile=plant&server-name=localhost").status, 404);
    assert_eq!(get("?profile=gone").status, 404);
    assert!(get("").body.contains("profile is needed; there are: mqtt-tls, plant"));
    // It is what a handshake shows, and of the authority that devices trust.
    assert!(s_client(door.address(), &["-showcerts"]).contains(&before));
    let fetched = gateway.dir().file("fetched.pem", &before);
    let verified = Command::new(find_tool("TEST_OPENSSL", "openssl", &[]))
        .args(["verify", "-CAfile", &path(&door.ca.file), &path(&fetched)])
        .output()
        .expect("openssl runs");
    assert!(verified.status.success(), "{verified:?}");
    // A file that cannot be used changes nothing; a good one is there once it is shown.
    std::fs::write(&door.server.chain, "no certificate").expect("writes");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_metric("ringgate_tls_refused_total", &[], 1.0);
    assert_eq!(chain("?profile=mqtt-tls"), before);
    door.ca.server("server", "localhost");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_metric("ringgate_tls_renewed_total", &[], 1.0);
    let after = chain("?profile=mqtt-tls");
    assert_eq!(after, file(&door.server.chain));
    assert_ne!(after, before);
    assert!(s_client(door.address(), &["-showcerts"]).contains(&after));
}

#[test]
fn nonsense_at_the_door_is_counted_and_nobody_else_notices() {
    let door = Door::new();
    let bench = Bench::start_with(|settings| {
        door.open(settings);
        settings.set("ringgate.tls-handshakes.timeout-ms", 1000);
        settings.set("ringgate.tls-handshakes.max", 4);
    });
    let gateway = &bench.gateway;
    let mut secure = Device::connected(door.tunnel(None), Connect::new(V5, "secure")).0;
    let mut plain = bench.device_of(V5, "plain");
    let mut still_fine = |gateway: &Gateway| {
        assert!(!gateway.output().contains("panicked"));
        secure.request(TOPIC, "[]", 1);
        plain.request("kp1/v1/dcx/token-2/json/1", "[]", 1);
    };
    // Plain text where TLS is spoken.
    let mut stream = TcpStream::connect(door.address()).expect("connects");
    stream.write_all(&Connect::new(V5, "lost").bytes()).expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("is closed, not reset");
    assert_eq!((answer[0], answer.len()), (21, 7), "an alert: {answer:?}");
    wait_for_failure(gateway, "not_tls", 1.0);
    still_fine(gateway);
    // A record that is too large, and one that breaks off.
    let mut stream = TcpStream::connect(door.address()).expect("connects");
    stream.write_all(&[22, 3, 1, 0xff, 0xff]).expect("writes");
    stream.read_to_end(&mut Vec::new()).expect("is closed");
    wait_for_failure(gateway, "protocol", 1.0);
    let mut stream = TcpStream::connect(door.address()).expect("connects");
    stream.write_all(&[22, 3, 1, 0, 200, 1, 0]).expect("writes");
    drop(stream);
    still_fine(gateway);
    // Handshakes that hang hold up no other, and end; more wait for their turn.
    let hanging: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut stream = TcpStream::connect(door.address()).expect("connects");
            stream.write_all(&[22, 3, 1]).expect("writes");
            stream
        })
        .collect();
    still_fine(gateway);
    gateway.wait_until_closed("tls_handshake_timeout", 12.0);
    drop(hanging);
    Device::connected(door.tunnel(None), Connect::new(V5, "later")).0.disconnect();
    // TLS where plain MQTT is spoken.
    let said = s_client(gateway.mqtt, &[]);
    assert!(said.contains("(NONE)"), "{said}");
    gateway.wait_until_closed("tls_on_plain_port", 1.0);
    still_fine(gateway);
    assert_eq!(tls_failures(gateway, "reason=\"bad_certificate\""), 0.0);
}

#[test]
fn check_finds_a_key_that_is_not_that_of_the_certificate() {
    let (door, other) = (Door::new(), Ca::new("other"));
    let mut settings = gateway::settings();
    door.open(&mut settings);
    let key = other.server("server", "localhost").key;
    settings.set("kaa.kpc.transports.mqtt.tls.key-file", path(&key));
    let config = other.file.with_file_name("config.yml");
    std::fs::write(&config, settings.text()).expect("writes");
    let mut check = gateway::command(&["check", "--config", &path(&config)]);
    let output = check.output().expect("ringgate runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("TLS profile mqtt-tls: {}: is not the key of", path(&key));
    assert!(said.contains(&expected), "{said}");
}
