//! Clients people use, over TLS: mosquitto's command line tools and paho-mqtt for Python, with and
//! without certificates of their own.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::device::Device;
use crate::harness::gateway::{self, Gateway, Settings};
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, V5};
use crate::harness::secured::{Secured, secret};
use crate::harness::tls::{Ca, Files, client_config, tunnel};
use crate::harness::{Bench, TempDir, eventually, find_tool};
use crate::own_clients::{assert_success, python, run};
use crate::tls::{Door, path};

/// A mosquitto tool, pointed at a door.
fn mosquitto(door: &Door, tool: &str, shown: Option<&Files>) -> Command {
    let variable = format!("TEST_{}", tool.to_uppercase());
    let mut command = Command::new(find_tool(&variable, tool, &[]));
    command.args(["-h", "127.0.0.1", "-p", &door.address().port().to_string()]);
    command.args(["--cafile", &path(&door.ca.file)]);
    if let Some(files) = shown {
        command.args(["--cert", &path(&files.chain), "--key", &path(&files.key)]);
    }
    command
}

#[test]
fn mosquitto_works_over_tls_in_every_version_with_every_qos() {
    let door = Door::new();
    let bench = Bench::start_with(|settings| door.open(settings));
    for version in ["31", "311", "5"] {
        for qos in ["0", "1", "2"] {
            let text = format!("{version}-{qos}");
            let output = run(mosquitto(&door, "mosquitto_pub", None).args([
                "-t",
                "kp1/v1/dcx/token-1/json",
                "-q",
                qos,
                "-V",
                version,
                "-m",
                &text,
            ]));
            assert_success(&output);
            assert_eq!(bench.dcx.take().text(), text);
        }
    }
    for tls_version in ["tlsv1.2", "tlsv1.3"] {
        let topic = "kp1/v1/dcx/token-1/json/1";
        let output = run(mosquitto(&door, "mosquitto_rr", None)
            .args(["--tls-version", tls_version, "--tls-alpn", "mqtt", "-W", "20"])
            .args(["-e", &format!("{topic}/status"), "-t", topic, "-V", "311", "-m", "[]"]));
        assert_success(&output);
    }
}

#[test]
fn mosquitto_shows_its_certificate_in_every_version() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let bench = Secured::start_with(|settings| door.open_for(&ca, "required", settings));
    bench.provider.certificate("acme", &ca.issuer_name(), "7", "pump-7");
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    for version in ["31", "311", "5"] {
        let output = run(mosquitto(&door, "mosquitto_pub", Some(&ca.client(7)))
            .args(["-t", &topic, "-q", "1", "-V", version, "-m", version]));
        assert_success(&output);
        bench.dcx.wait_until(|messages| messages.iter().any(|data| data.text() == version));
    }
    for shown in [None, Some(Ca::new("strangers").client(7))] {
        let output = run(mosquitto(&door, "mosquitto_pub", shown.as_ref())
            .args(["-t", &topic, "-q", "1", "-V", "311", "-m", "refused"]));
        assert!(!output.status.success(), "{output:?}");
    }
}

#[test]
fn a_paho_device_works_over_tls_in_every_version() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let bench = Bench::start_with(|settings| door.open_for(&ca, "optional", settings));
    let shown = ca.client(7);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/paho_device.py");
    for (version, shows) in [("3.1", false), ("3.1.1", true), ("5", true)] {
        let token = format!("token-{}", version.replace('.', "-"));
        let mut command = python();
        command
            .arg(&script)
            .args(["--port", &door.address().port().to_string()])
            .args(["--version", version, "--app-version", "v1", "--token", &token])
            .args(["--ca", &path(&door.ca.file)]);
        if shows {
            command.args(["--cert", &path(&shown.chain), "--key", &path(&shown.key)]);
        }
        assert_success(&run(&mut command));
        let count = bench.dcx.received().len();
        assert!(count >= 5, "{count} samples of version {version}");
    }
}

/// `ringgate creds` at a gateway; what it prints as JSON.
fn creds(gateway: &Gateway, arguments: &[&str]) -> Value {
    let config = path(&gateway.dir().path().join("config.yml"));
    let mut command = gateway::command(&["creds", "--json", "--config", &config]);
    let output = command.args(arguments).output().expect("ringgate runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

#[test]
fn a_certificate_of_the_embedded_authority_opens_the_door_until_it_is_revoked() {
    let (nats, store, door) = (Nats::start(), TempDir::new(), Door::new());
    let internal = |settings: &mut Settings| {
        settings.set("ringgate.auth.client-provider", "internal");
        settings.set("ringgate.credentials.directory", path(store.path()));
    };
    let out = path(&store.path().join("pump-1"));
    let id = {
        let gateway = Gateway::start(&nats.url(), internal);
        let issue = ["cert", "issue", "--tenant", "acme", "--cn", "pump-1", "--out", &out];
        creds(&gateway, &issue)["id"].as_str().expect("an id").to_owned()
    };
    let file = |name: &str| store.path().join("pump-1").join(name);
    let shown = Files { chain: file("client.crt"), key: file("client.key") };
    let gateway = Gateway::start(&nats.url(), |settings| {
        internal(settings);
        settings.set("kaa.applications.demo.tenant", "acme");
        settings.set("ringgate.auth.require.mqtt-tls", "certificate");
        door.open(settings);
        settings.set("kaa.kpc.transports.mqtt.tls.client-auth", "optional");
        settings.set("kaa.kpc.transports.mqtt.tls.client-ca-file", path(&file("ca.pem")));
    });
    let address = tunnel(door.address(), client_config(&door.ca, Some(&shown)));
    let mut client = Device::connected(address, Connect::new(V5, "pump-1")).0;
    client.publish_qos0("kp1/v1/dcx/token-1/json", "[]");
    client.ping();
    eventually("the certificate to be active", || {
        (creds(&gateway, &["cert", "show", &id])["state"] == "Active").then_some(())
    });
    creds(&gateway, &["cert", "revoke", &id]);
    assert!(client.expect_disconnect_because(0x98).is_some());
    assert_eq!(Device::refused(address, Connect::new(V5, "pump-1")).code, 0x87);
}
