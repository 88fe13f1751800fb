//! Those who guess: limits on failed logins, and that no secret is told whatever goes wrong.

use std::net::Ipv4Addr;

use crate::harness::device::Device;
use crate::harness::gateway::Settings;
use crate::harness::packet::{self, Connect, PUBACK, Publish, V5, V31, V311};
use crate::harness::provider::Behaviour;
use crate::harness::secured::{MARK, Secured, error_of, secret};
use crate::harness::{eventually, http};

/// Nothing is forgotten while a test runs.
const LONG_S: u64 = 3_600;

fn limits(settings: &mut Settings, per_address: u64, per_username: u64, window_s: u64) {
    settings.set("ringgate.auth.login-failures-max-per-address", per_address);
    settings.set("ringgate.auth.login-failures-max-per-username", per_username);
    settings.set("ringgate.auth.login-failures-window-s", window_s);
}

fn connect(level: u8, username: &str, password: &str) -> Connect {
    Connect::new(level, "client").credentials(username, password)
}

/// What is answered to a CONNECT from another address of this host.
fn code_from(bench: &Secured, address: Ipv4Addr, connect: &Connect) -> u8 {
    let mut device = Device::open_from(address, bench.gateway.mqtt, connect.level);
    device.send(&connect.bytes());
    device.receive().connack(connect.level).code
}

#[test]
fn an_address_that_fails_too_often_is_refused_unasked() {
    let bench = Secured::start_with(|settings| limits(settings, 3, 0, LONG_S));
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    // Of any name: the shards count together, and so do the versions.
    for (number, level) in [V31, V311, V5].into_iter().enumerate() {
        let name = format!("guess-{number}@acme");
        let refused = bench.refused(connect(level, &name, &secret("guess")));
        assert_eq!(refused.code, if level == V5 { 0x86 } else { 4 });
    }
    let asked = bench.provider.asked().len();
    for (level, code) in [(V31, 3), (V311, 3), (V5, 0x9F)] {
        let refused = bench.refused(connect(level, "user@acme", &password));
        assert_eq!(refused.code, code, "level {level}");
    }
    assert_eq!(bench.provider.asked().len(), asked, "it is refused unasked");
    // Others are let in.
    let other = Ipv4Addr::new(127, 0, 0, 2);
    assert_eq!(code_from(&bench, other, &connect(V311, "user@acme", &password)), 0);
    // Those that say nothing have guessed nothing.
    bench.device("anonymous").ping();
    let labels = ["reason=\"too_many_attempts\""];
    bench.gateway.wait_for_metric("ringgate_connects_refused_total", &labels, 3.0);
}

#[test]
fn a_user_name_that_fails_too_often_is_refused_wherever_it_comes_from() {
    let bench = Secured::start_with(|settings| limits(settings, 0, 3, LONG_S));
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    bench.provider.client("acme", "other", &password);
    for host in 1..=3 {
        let wrong = connect(V311, "user@acme", &secret("guess"));
        assert_eq!(code_from(&bench, Ipv4Addr::new(127, 0, 1, host), &wrong), 4);
    }
    let right = connect(V5, "user@acme", &password);
    assert_eq!(code_from(&bench, Ipv4Addr::new(127, 0, 1, 9), &right), 0x9F);
    bench.client(V5, "client", "other@acme", &password).ping();
}

#[test]
fn failures_are_forgotten_with_time() {
    let bench = Secured::start_with(|settings| limits(settings, 2, 2, 1));
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    let code = |password: &str| {
        Device::connect(bench.gateway.mqtt, connect(V5, "user@acme", password)).1.code
    };
    eventually("the limit to be reached", || (code(&secret("guess")) == 0x9F).then_some(()));
    eventually("it to be forgotten", || (code(&password) == 0).then_some(()));
}

#[test]
fn guesses_made_at_the_same_time_count_too() {
    const FAILURES: u64 = 2;
    // Fifty under way count as much as one that has failed.
    const LIMIT: usize = 100;
    let bench = Secured::start_with(|settings| {
        limits(settings, FAILURES, 0, LONG_S);
        // So that nothing times out before all guesses are there.
        settings.set("ringgate.auth.request-timeout-ms", 20_000);
        settings.set("ringgate.shards", 1);
    });
    bench.provider.behave(Behaviour::Hold);
    let mut devices: Vec<Device> = (0..LIMIT + 20)
        .map(|number| {
            let mut device = Device::open(bench.gateway.mqtt, V5);
            let guess = Connect::new(V5, &format!("client-{number}"))
                .credentials("user@acme", &secret(&format!("guess-{number}")));
            device.send(&guess.bytes());
            device
        })
        .collect();
    bench.provider.wait_for_count("user", LIMIT);
    // Those that are refused unasked hear of it while the others wait for their verdicts.
    let labels = ["reason=\"too_many_attempts\""];
    let beyond = (devices.len() - LIMIT) as f64;
    bench.gateway.wait_for_metric("ringgate_connects_refused_total", &labels, beyond);
    assert_eq!(bench.provider.count("user"), LIMIT);
    bench.provider.release();
    let mut codes: Vec<u8> =
        devices.iter_mut().map(|device| device.receive().connack(V5).code).collect();
    codes.sort_unstable();
    assert_eq!(codes[..LIMIT], [0x86; LIMIT]);
    assert!(codes[LIMIT..].iter().all(|code| *code == 0x9F), "{codes:02x?}");
}

#[test]
fn a_provider_that_is_away_is_nobodys_failure() {
    let bench = Secured::start_with(|settings| limits(settings, 2, 2, LONG_S));
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    bench.provider.behave(Behaviour::Broken);
    for _ in 0..6 {
        assert_eq!(bench.refused(connect(V5, "user@acme", &password)).code, 0x88);
    }
    bench.provider.behave(Behaviour::Normal);
    bench.client(V5, "client", "user@acme", &password).ping();
}

#[test]
fn a_refused_login_is_logged_with_its_name_and_address() {
    let bench = Secured::start();
    bench.refused(connect(V311, "somebody@acme", &secret("guess")));
    let line = eventually("a line about it", || {
        let output = bench.gateway.output();
        output.lines().find(|line| line.contains("client refused")).map(str::to_owned)
    });
    assert!(line.contains("somebody@acme") && line.contains("127.0.0.1"), "{line}");
}

/// The gateway's whole output and its metrics are looked through when it is dropped; this makes it
/// say all it can.
#[test]
fn no_secret_is_told_even_where_everything_is_logged_and_all_goes_wrong() {
    for format in ["text", "json"] {
        let bench = Secured::start_with(|settings| {
            settings.set("ringgate.log.level", "trace");
            settings.set("ringgate.log.format", format);
            settings.environment("RINGGATE_FAULT_PANIC_TOPIC", &topic("panic"));
        });
        bench.provider.token("demo", &secret("good"), "endpoint-1");
        bench.provider.client("acme", "user", &secret("password"));
        for behaviour in [
            Behaviour::Normal,
            Behaviour::Silent,
            Behaviour::Garbage,
            Behaviour::WrongCorrelation,
            Behaviour::Nonsense,
            Behaviour::Broken,
            Behaviour::Twice,
        ] {
            bench.provider.behave(behaviour);
            let mut device = bench.device_of(V5, "device-1");
            for token in ["good", "unknown"] {
                device.request(&topic(&format!("{token}/json/1")), secret("payload"), 0);
            }
            for password in ["password", "wrong"] {
                let connect = connect(V5, "user@acme", &secret(password));
                drop(Device::connect(bench.gateway.mqtt, connect));
            }
        }
        break_the_protocol(&bench);
        let mut device = bench.device_of(V5, "device-2");
        device.send_publish(&Publish::new(&topic("panic"), "[]"));
        device.expect_closed();
        bench.provider.revoke_token("demo", "endpoint-1");
        bench.provider.revoke_cap_client("basic", "acme", "id-of-user");
        let health = http::get(bench.gateway.admin, "/health").expect("an answer");
        assert!(!health.body.contains(MARK), "{}", health.body);
        assert!(bench.gateway.output().contains("panic"), "the panic is logged");
    }
}

fn topic(rest: &str) -> String {
    format!("kp1/v1/dcx/{MARK}-{rest}")
}

/// Sends what is refused, with secrets in it.
fn break_the_protocol(bench: &Secured) {
    let mut whole = connect(V5, "user@acme", &secret("password")).bytes();
    // The password is longer than the packet says.
    whole[1] -= 1;
    Device::open(bench.gateway.mqtt, V5).send_regardless(&whole);
    for topic in [topic("good/+/json"), topic("good//json/99999999999"), topic("")] {
        let mut device = bench.device_of(V5, "device-3");
        device.send_regardless(&Publish::new(&topic, secret("payload")).bytes(V5));
        device.send_regardless(&packet::subscribe(V5, 1, &[(&topic, 0)]));
        device.send_regardless(&packet::PINGREQ_BYTES);
        drop(device);
    }
}

#[test]
fn a_token_in_a_misspelt_topic_is_not_logged_either() {
    let bench = Secured::start_with(|settings| settings.set("ringgate.shards", 1));
    let good = topic("good/json/1");
    let misspelt = [
        format!("/{good}"),
        good.replace("kp1/", "kp1//"),
        good.replace("kp1/", "KP1/"),
        good.replace("kp1/v1/", "v1/"),
        good.replace("kp1/v1/", "kp1/"),
        good.replace("dcx/", "dcx//"),
        good.replace("v1", "v9"),
        good.replace("dcx", "no-such-extension"),
        good.replace('/', "."),
    ];
    for (number, topic) in misspelt.iter().enumerate() {
        // Each of a device of its own, so that no line about it is suppressed for long.
        let mut device = bench.device(&format!("device-{number}"));
        let logged = || bench.gateway.output().matches("message dropped").count();
        let before = logged();
        eventually(&format!("a line about {topic}"), || {
            device.publish_qos0(topic, "[]");
            device.send(&packet::PINGREQ_BYTES);
            while device.receive().kind() != packet::PINGRESP {}
            (logged() > before).then_some(())
        });
    }
    // The gateway's output is looked through when it is dropped.
}

#[test]
fn an_error_answer_repeats_no_token_of_anybody_else() {
    let bench = Secured::start();
    let mut device = bench.device_of(V5, "device-1");
    let topic = format!("kp1/v1/dcx/{}/json/1", secret("unknown"));
    let (_, reason) = error_of(&device.request(&topic, "[]", 0));
    assert!(!reason.contains(MARK), "{reason}");
    device.send_publish(&Publish::new(&topic[..topic.len() - 2], "[]").qos(1, 7));
    let puback = device.receive_ack(PUBACK);
    let said = puback.properties.text(packet::property::REASON_STRING).unwrap_or_default();
    assert!(!said.contains(MARK), "{said}");
}
