//! `ringgate check` and the command line.

use std::process::Output;

use crate::harness::TempDir;
use crate::harness::gateway::{command, settings};

fn check(text: &str, environment: &[(&str, &str)]) -> Output {
    let dir = TempDir::new();
    let file = dir.file("config.yml", text);
    let mut command = command(&["check", "--config", &file.display().to_string()]);
    command.envs(environment.iter().copied()).output().expect("ringgate runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

const GOOD: &str = "\
service:
  instance:
    name: kpc
server:
  port: 8080
kaa:
  applications:
    demo:
      versions:
        demo-v1:
          allowed-extension-instances: [dcx, tsx]
  extension-instances:
    dcx:
      endpoint-aware: true
    tsx:
ringgate:
  nats:
    urls: [\"nats://user:hunter2@127.0.0.1:4222\"]
";

#[test]
fn a_good_configuration_is_printed_whole_and_its_print_is_good_too() {
    let output = check(GOOD, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let effective = stdout(&output);
    for expected in ["port: 8080", "port: 1883", "graceful-shutdown: 30", "endpoint-aware: true"] {
        assert!(effective.contains(expected), "{expected:?} is missing in:\n{effective}");
    }
    let again = check(&effective, &[]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(stdout(&again), effective);
}

#[test]
fn secrets_are_not_printed() {
    let yaml = format!("{GOOD}    tls:\n      required: false\n");
    for (text, environment) in [
        (yaml.as_str(), &[][..]),
        ("", &[("NATS_URLS", "nats://user:hunter2@127.0.0.1:4222")][..]),
        ("", &[("NATS_USERNAME", "somebody"), ("NATS_PASSWORD", "hunter2")][..]),
        ("ringgate: { nats: { token: hunter2 } }", &[][..]),
    ] {
        let output = check(text, environment);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(!stdout(&output).contains("hunter2"), "{}", stdout(&output));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let variables =
        [("KAA_KPC_TRANSPORTS_MQTT_TCP_PORT", "2883"), ("NATS_URLS", "nats://a:1,nats://b:2")];
    let output = check(GOOD, &variables);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let effective = stdout(&output);
    assert!(effective.contains("2883"), "{effective}");
    assert!(effective.contains("nats://b:2"), "{effective}");
    assert!(!effective.contains("127.0.0.1:4222"), "{effective}");
}

#[test]
fn a_mistake_is_refused_with_file_line_key_and_reason() {
    for (text, expected) in [
        ("server:\n  prot: 8008\n", &["config.yml:2", "server.prot", "port"][..]),
        ("server:\n  port: many\n", &["config.yml:2", "server.port"][..]),
        ("server:\n  port: 70000\n", &["config.yml:2", "server.port", "65535"][..]),
        ("ringgate:\n  mqtt:\n    push-qos: 3\n", &["config.yml:3", "push-qos"][..]),
        ("ringgate:\n  nats:\n    urls: []\n", &["config.yml:3", "ringgate.nats.urls"][..]),
        ("service:\n  instance:\n    name: a.b\n", &["config.yml:3", "service.instance.name"][..]),
        ("server: {\n", &["config.yml:"][..]),
        ("server:\n  port: 1\n  port: 2\n", &["config.yml:3"][..]),
    ] {
        let output = check(text, &[]);
        assert_eq!(output.status.code(), Some(2), "{text:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        for part in expected {
            assert!(stderr(&output).contains(part), "{part:?} for {text:?}: {}", stderr(&output));
        }
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let output = check("server:\n  port: 0\nservce: {}\nringgate:\n  shards: none\n", &[]);
    let told = stderr(&output);
    for part in ["server.port", "servce", "ringgate.shards"] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
}

#[test]
fn an_allowed_extension_that_is_not_configured_is_refused() {
    let text = GOOD.replace("[dcx, tsx]", "[dcx, nowhere]");
    let output = check(&text, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nowhere"), "{}", stderr(&output));
}

#[test]
fn a_missing_file_is_named() {
    let output =
        command(&["check", "--config", "/nowhere/at/all.yml"]).output().expect("ringgate runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("/nowhere/at/all.yml"), "{}", stderr(&output));
}

#[test]
fn run_refuses_what_check_refuses() {
    let dir = TempDir::new();
    let file = dir.file("config.yml", "server:\n  prot: 8008\n");
    let output =
        command(&["run", "--config", &file.display().to_string()]).output().expect("ringgate runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("server.prot"), "{}", stderr(&output));
}

#[test]
fn the_tests_own_configuration_is_good() {
    let output = check(&settings().text(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_development_configuration_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/dev-config.yml");
    let output = command(&["check", "--config", file]).output().expect("ringgate runs");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn help_and_version_are_there() {
    for argument in ["--help", "--version"] {
        let output = command(&[argument]).output().expect("ringgate runs");
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("ringgate"), "{}", stdout(&output));
    }
    let output = command(&["frobnicate"]).output().expect("ringgate runs");
    assert_eq!(output.status.code(), Some(2));
}
