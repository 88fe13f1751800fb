//! Clients people use: mosquitto's command line tools and paho-mqtt for Python.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::harness::{Bench, eventually_within, find_tool};

/// How long a client may take; each gives up by itself earlier.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// Runs a client to its end, which must come in time.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually_within(CLIENT_LIMIT, "the client to end", || {
            child.try_wait().expect("a child of ours")
        })
    }));
    if ended.is_err() {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("a child of ours");
    assert!(ended.is_ok(), "{command:?} did not end: {output:?}");
    output
}

pub fn assert_success(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// A mosquitto tool, pointed at the gateway.
fn mosquitto(bench: &Bench, tool: &str) -> Command {
    let variable = format!("TEST_{}", tool.to_uppercase());
    let mut command = Command::new(find_tool(&variable, tool, &[]));
    command.args(["-h", "127.0.0.1", "-p", &bench.gateway.mqtt.port().to_string()]);
    command
}

const APP: &str = "v1";
const TOKEN: &str = "token-1";

#[test]
fn mosquitto_rr_waits_for_status_as_kaas_tutorial_does() {
    let bench = Bench::start();
    let topic = format!("kp1/{APP}/dcx/{TOKEN}/json/1");
    let output = run(mosquitto(&bench, "mosquitto_rr")
        .args(["-e", &format!("{topic}/status"), "-t", &topic])
        .args(["-V", "311", "-m", r#"{"temperature": 21}"#]));
    assert_success(&output);
    let data = bench.dcx.take();
    assert_eq!(data.text(), r#"{"temperature": 21}"#);
    assert_eq!((data.endpoint_id.as_deref(), data.request_id), (Some(TOKEN), Some(1)));
}

#[test]
fn mosquitto_rr_waits_for_an_error_as_kaas_tutorial_does() {
    let bench = Bench::start();
    // With credentials, and listening on /error; the answer comes whatever is listened to.
    for (version, topic, expected) in [
        (APP, format!("kp1/{APP}/dcx/{TOKEN}/json/1"), ""),
        ("v9", format!("kp1/v9/dcx/{TOKEN}/json/1"), "\"statusCode\":404"),
    ] {
        let output = run(mosquitto(&bench, "mosquitto_rr")
            .args(["-e", &format!("{topic}/error"), "-t", &topic])
            .args(["-u", "user@tenant", "-P", "secret"])
            .args(["-V", "311", "-m", r#"{"temperature": 21}"#]));
        assert_success(&output);
        let text = String::from_utf8(output.stdout).expect("UTF-8").replace(' ', "");
        assert!(text.contains(expected), "{version}: {text}");
    }
}

#[test]
fn mosquitto_rr_works_with_version_5_and_every_qos() {
    let bench = Bench::start();
    for version in ["311", "5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("kp1/{APP}/dcx/{TOKEN}/json/{qos}");
            let output = run(mosquitto(&bench, "mosquitto_rr")
                .args(["-e", &format!("{topic}/status"), "-t", &topic, "-q", qos, "-W", "20"])
                .args(["-V", version, "-m", "[]"]));
            assert_success(&output);
            assert_eq!(bench.dcx.take().request_id, qos.parse().ok());
        }
    }
}

#[test]
fn mosquitto_pub_works_in_every_version_with_every_qos() {
    let bench = Bench::start();
    for version in ["31", "311", "5"] {
        for qos in ["0", "1", "2"] {
            let text = format!("{version}-{qos}");
            let output = run(mosquitto(&bench, "mosquitto_pub")
                .args(["-t", &format!("kp1/{APP}/dcx/{TOKEN}/json"), "-q", qos])
                .args(["-V", version, "-m", &text]));
            assert_success(&output);
            assert_eq!(bench.dcx.take().text(), text);
        }
    }
}

#[test]
fn mosquitto_sub_is_granted_what_it_asks_in_every_version() {
    let bench = Bench::start();
    for version in ["31", "311", "5"] {
        for qos in ["0", "1", "2"] {
            // -E: leave once the subscription is acknowledged.
            let output = run(mosquitto(&bench, "mosquitto_sub")
                .args(["-t", &format!("kp1/{APP}/cmx/{TOKEN}/#"), "-q", qos])
                .args(["-V", version, "-E", "-d", "-W", "20"]));
            assert_success(&output);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(&format!("Subscribed (mid: 1): {qos}")), "{text}");
        }
    }
}

#[test]
fn mosquitto_pub_sends_many_lines_over_one_connection() {
    let bench = Bench::start();
    let dir = crate::harness::TempDir::new();
    let lines: String = (0..500).map(|number| format!("line {number}\n")).collect();
    let file = std::fs::File::open(dir.file("lines", &lines)).expect("the file just written");
    let mut command = mosquitto(&bench, "mosquitto_pub");
    command.args(["-t", &format!("kp1/{APP}/dcx/{TOKEN}/json"), "-q", "1", "-V", "5", "-l"]);
    command.stdin(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("mosquitto_pub runs");
    assert_success(&output);
    bench.dcx.wait_for_count(500);
    let texts: String =
        bench.dcx.received().iter().map(|data| format!("{}\n", data.text())).collect();
    assert_eq!(texts, lines);
}

/// A Python that has paho-mqtt: the environment scripts/test makes, or the one on the PATH.
pub fn python() -> Command {
    Command::new(find_tool("TEST_PYTHON", "python3", &["venv/bin/python3"]))
}

#[test]
fn a_paho_device_works_in_every_version() {
    let bench = Bench::start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/paho_device.py");
    for version in ["3.1", "3.1.1", "5"] {
        let token = format!("token-{}", version.replace('.', "-"));
        let output = run(python()
            .arg(&script)
            .args(["--port", &bench.gateway.mqtt.port().to_string()])
            .args(["--version", version, "--app-version", APP, "--token", &token]));
        assert_success(&output);
        let count = bench.dcx.received().len();
        assert!(count >= 5, "{count} samples of version {version}");
    }
}
