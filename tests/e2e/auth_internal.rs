//! The provider `internal`: the store of the gateway itself, managed by `ringgate creds`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::connectivity::Change::{Connected, Disconnected};
use crate::harness::device::{Device, Next};
use crate::harness::gateway::{self, Gateway, Settings};
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, PUBLISH, V5, V31, V311};
use crate::harness::secured::{Secured, error_of, secret};
use crate::harness::{PATIENCE, eventually, find_tool};

/// Everybody is looked up in the store of the gateway; `demo` is of tenant `acme`.
fn internal(settings: &mut Settings) {
    settings.set("ringgate.auth.endpoint-provider", "internal");
    settings.set("ringgate.auth.client-provider", "internal");
}

fn start() -> Secured {
    Secured::start_with(internal)
}

/// `ringgate creds` at a gateway, with a line of standard input.
fn creds(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    let config = gateway.dir().path().join("config.yml").display().to_string();
    let mut command: Command = gateway::command(&["creds", "--json", "--config", &config]);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ringgate runs");
    // It may not read any.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("a child of ours")
}

/// The JSON it prints when all is well.
fn told(gateway: &Gateway, arguments: &[&str], input: &str) -> Value {
    let output = creds(gateway, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    if output.stdout.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What it says when it refuses.
fn refused(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = creds(gateway, arguments, "");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Makes basic credentials; returns their id.
fn basic(gateway: &Gateway, username: &str, password: &str) -> String {
    let made = told(gateway, &["basic", "create", username, "--password-stdin"], password);
    assert_eq!(state(&made), "inactive");
    made["id"].as_str().expect("an id").to_owned()
}

/// Makes an endpoint token; returns its id.
fn token(gateway: &Gateway, endpoint: &str, token: &str) -> String {
    let create = ["token", "create", "--app", "demo", "--endpoint", endpoint, "--token-stdin"];
    let made = told(gateway, &create, token);
    made["id"].as_str().expect("an id").to_owned()
}

fn state(credentials: &Value) -> String {
    credentials["state"].as_str().expect("a state").to_lowercase()
}

fn wait_for_state(gateway: &Gateway, kind: &str, id: &str, expected: &str) {
    eventually(&format!("{kind} {id} to be {expected}"), || {
        (state(&told(gateway, &[kind, "show", id], "")) == expected).then_some(())
    });
}

/// `mosquitto_rr` as in Kaa's manual: publishes, and waits for `/error` or `/status`.
fn mosquitto_rr(gateway: &Gateway, token: &str, wait_for: &str, password: &str) -> Output {
    let topic = format!("kp1/v1/dcx/{token}/json/1");
    Command::new(find_tool("TEST_MOSQUITTO_RR", "mosquitto_rr", &[]))
        .args(["-h", "127.0.0.1", "-p", &gateway.mqtt.port().to_string(), "-W", "20"])
        .args(["-e", &format!("{topic}/{wait_for}"), "-t", &topic])
        .args(["-u", "user@acme", "-P", password])
        .args(["-V", "311", "-m", r#"{"temperature": 21}"#])
        .output()
        .expect("mosquitto_rr runs")
}

#[test]
fn the_walk_through_of_the_manual_works() {
    let bench = start();
    let gateway = &bench.gateway;
    let (password, endpoint_token) = (secret("password"), secret("token"));
    // Credentials are made; nobody has used them.
    let id = basic(gateway, "user@acme", &password);
    let token_id = token(gateway, "endpoint-1", &endpoint_token);
    assert_eq!(state(&told(gateway, &["basic", "show", "user@acme"], "")), "inactive");
    // The tenant demands them from now on: who has none is put out.
    let mut anonymous = bench.device_of(V5, "anonymous");
    let topic = format!("kp1/v1/dcx/{endpoint_token}/json/1");
    anonymous.request(&topic, "[]", 1);
    told(gateway, &["enforce", "--tenant", "acme", "--mqtt-tcp", "basic"], "");
    anonymous.expect_disconnect(0x87);

    let output = mosquitto_rr(gateway, &endpoint_token, "status", &password);
    assert!(output.status.success(), "{output:?}");
    bench
        .dcx
        .wait_until(|messages| messages.iter().any(|data| data.text() == r#"{"temperature": 21}"#));
    wait_for_state(gateway, "basic", &id, "active");
    wait_for_state(gateway, "token", &token_id, "active");

    // Revoked, the connection drops and is refused when it comes back.
    let mut client = bench.client(V5, "client", "user@acme", &password);
    client.request(&topic, "[]", 1);
    told(gateway, &["basic", "revoke", &id], "");
    assert!(client.expect_disconnect_because(0x98).is_some());
    let output = mosquitto_rr(gateway, &endpoint_token, "status", &password);
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("onnection"), "{said}");
    for (level, code) in [(V31, 5), (V311, 5), (V5, 0x87)] {
        let connect = Connect::new(level, "client").credentials("user@acme", &password);
        assert_eq!(bench.refused(connect).code, code, "level {level}");
    }
    assert_eq!(state(&told(gateway, &["basic", "show", &id], "")), "revoked");

    // Reverted, devices communicate without credentials again.
    told(gateway, &["enforce", "--tenant", "acme", "--mqtt-tcp", "default"], "");
    eventually("devices without credentials to be let speak", || {
        let mut device = bench.device_of(V5, "anonymous");
        device.publish_qos0(&topic, "[]");
        let Next::Packet(packet) = device.next_within(PATIENCE) else { return None };
        (packet.kind() == PUBLISH).then_some(())
    });
}

#[test]
fn a_wrong_password_is_refused_and_uses_nothing() {
    let bench = start();
    let id = basic(&bench.gateway, "user@acme", &secret("password"));
    for (level, code) in [(V31, 4), (V311, 4), (V5, 0x86)] {
        for name in ["user@acme", "user@other", "nobody@acme"] {
            let connect = Connect::new(level, "client").credentials(name, &secret("wrong"));
            assert_eq!(bench.refused(connect).code, code, "{name} at level {level}");
        }
    }
    assert_eq!(state(&told(&bench.gateway, &["basic", "show", &id], "")), "inactive");
}

#[test]
fn suspended_credentials_come_back_and_revoked_ones_never() {
    let bench = start();
    let gateway = &bench.gateway;
    let password = secret("password");
    let id = basic(gateway, "user@acme", &password);
    let connect = || Connect::new(V5, "client").credentials("user@acme", &password);
    for _ in 0..2 {
        let (mut client, _) = Device::connected(gateway.mqtt, connect());
        wait_for_state(gateway, "basic", &id, "active");
        told(gateway, &["basic", "suspend", &id], "");
        client.expect_disconnect(0x98);
        assert_eq!(bench.refused(connect()).code, 0x87);
        told(gateway, &["basic", "activate", &id], "");
    }
    Device::connected(gateway.mqtt, connect());
    told(gateway, &["basic", "revoke", &id], "");
    for action in ["activate", "suspend", "revoke"] {
        assert!(!refused(gateway, &["basic", action, &id]).is_empty(), "{action}");
    }
    assert_eq!(bench.refused(connect()).code, 0x87);
}

#[test]
fn another_password_holds_at_once() {
    let bench = start();
    let gateway = &bench.gateway;
    let id = basic(gateway, "user@acme", &secret("password"));
    bench.client(V5, "client", "user@acme", &secret("password")).disconnect();
    let reset = ["basic", "reset-password", &id, "--password-stdin"];
    told(gateway, &reset, &secret("another"));
    let connect = Connect::new(V5, "client").credentials("user@acme", &secret("password"));
    assert_eq!(bench.refused(connect).code, 0x86);
    bench.client(V5, "client", "user@acme", &secret("another")).ping();
}

#[test]
fn a_revoked_token_speaks_no_more() {
    let bench = start();
    let gateway = &bench.gateway;
    let id = token(gateway, "endpoint-1", &secret("token"));
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("token"));
    let mut device = bench.device("device-1");
    device.request(&topic, "[]", 1);
    bench.connectivity.wait_for("endpoint-1", &[Connected]);
    assert_eq!(bench.dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
    wait_for_state(gateway, "token", &id, "active");
    told(gateway, &["token", "revoke", &id], "");
    bench.connectivity.wait_for("endpoint-1", &[Connected, Disconnected]);
    let (status, reason) = error_of(&device.request(&topic, "[]", 1));
    assert_eq!(status, 403, "{reason}");
    bench.dcx.expect_silence();
    // Of another application it is none.
    let answer = device.request(&topic.replace("/v1/", "/v2/"), "[]", 1);
    assert!([401, 404].contains(&error_of(&answer).0));
}

#[test]
fn what_is_stored_outlives_the_process() {
    let nats = Nats::start();
    let store = crate::harness::TempDir::new();
    let at = |settings: &mut Settings| {
        internal(settings);
        let directory = store.path().join("store").display().to_string();
        settings.set("ringgate.credentials.directory", directory);
    };
    let password = secret("password");
    let id = {
        let gateway = Gateway::start(&nats.url(), at);
        let id = basic(&gateway, "user@acme", &password);
        let connect = Connect::new(V5, "client").credentials("user@acme", &password);
        Device::connected(gateway.mqtt, connect);
        wait_for_state(&gateway, "basic", &id, "active");
        // `kill -9`
        gateway.signal(libc::SIGKILL);
        id
    };
    let gateway = Gateway::start(&nats.url(), at);
    assert_eq!(state(&told(&gateway, &["basic", "show", &id], "")), "active");
    let connect = Connect::new(V5, "client").credentials("user@acme", &password);
    Device::connected(gateway.mqtt, connect).0.ping();
    // Nothing in the directory is a secret in clear.
    let mut looked_at = 0;
    for entry in std::fs::read_dir(store.path().join("store")).expect("a directory").flatten() {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        let mark = crate::harness::secured::MARK.as_bytes();
        assert!(!bytes.windows(mark.len()).any(|part| part == mark), "{:?}", entry.path());
        looked_at += 1;
    }
    assert!(looked_at > 0);
}

#[test]
fn a_gateway_serves_its_credentials_to_another() {
    let nats = Nats::start();
    let serving = Gateway::start(&nats.url(), |settings| {
        internal(settings);
        settings.set("service.instance.name", "credentials");
        settings.set("service.instance.replica.id", "e2e-server");
        settings.set("ringgate.credentials.serve", true);
    });
    let asking = Gateway::start(&nats.url(), |settings| {
        settings.set("service.instance.replica.id", "e2e-client");
        settings.set("ringgate.auth.endpoint-provider", "ecap");
        settings.set("ringgate.auth.client-provider", "cap");
    });
    // Until then everything is asked once more.
    for gateway in [&serving, &asking] {
        eventually("the control link to come up", || {
            (gateway.metric("ringgate_doubts_total", &[]) >= 1.0).then_some(())
        });
    }
    let dcx = crate::harness::extension::Extension::start(
        &nats.url(),
        "dcx",
        crate::harness::extension::collects_data,
    );
    let password = secret("password");
    let id = basic(&serving, "user@default", &password);
    let token_id = token(&serving, "endpoint-1", &secret("token"));
    let connect = || Connect::new(V5, "client").credentials("user@default", &password);
    // Until the one hears questions, the other knows nobody to ask.
    let mut client = eventually("the client to be let in", || {
        let (client, connack) = Device::connect(asking.mqtt, connect());
        (connack.code == 0).then_some(client)
    });
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("token"));
    client.request(&topic, "[]", 1);
    assert_eq!(dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
    wait_for_state(&serving, "token", &token_id, "active");
    told(&serving, &["token", "suspend", &token_id], "");
    // A request that is carried just before its answer has no route any more would wait for ever.
    eventually("the revocation to be heard", || {
        (asking.metric("ringgate_revocations_total", &[]) >= 1.0).then_some(())
    });
    eventually("the token to be refused", || {
        client.request(&topic, "[]", 1).topic.ends_with("/error").then_some(())
    });
    told(&serving, &["basic", "revoke", &id], "");
    client.expect_disconnect(0x98);
    assert_eq!(Device::refused(asking.mqtt, connect()).code, 0x87);
}

#[test]
fn a_storm_of_logins_does_not_stall_traffic() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.client-provider", "internal");
        settings.set("ringgate.auth.login-failures-max-per-address", 0);
        settings.set("ringgate.auth.login-failures-max-per-username", 0);
        settings.set("ringgate.auth.request-timeout-ms", 20_000);
    });
    bench.provider.token("demo", &secret("token"), "endpoint-1");
    let mut device = bench.device("device-1");
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("token"));
    device.request(&topic, "[]", 1);
    basic(&bench.gateway, "user@acme", &secret("password"));
    let mut storm: Vec<Device> = (0..60)
        .map(|number| {
            let mut device = Device::open(bench.gateway.mqtt, V5);
            let connect = Connect::new(V5, &format!("client-{number}"))
                .credentials("user@acme", &secret("wrong"));
            device.send(&connect.bytes());
            device
        })
        .collect();
    for _ in 0..50 {
        device.request(&topic, "[]", 1);
    }
    for device in &mut storm {
        assert_eq!(device.receive().connack(V5).code, 0x86);
    }
}
