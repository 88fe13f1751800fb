//! Clients with a user name and password: who is asked, and what they are told.

use crate::harness::device::Device;
use crate::harness::eventually;
use crate::harness::packet::{self, Connect, V5, V31, V311};
use crate::harness::provider::{Behaviour, Kind};
use crate::harness::secured::{Secured, secret};

const LEVELS: [u8; 3] = [V31, V311, V5];

/// The code of the CONNACK in each version, where older ones share one.
fn code(level: u8, older: u8, v5: u8) -> u8 {
    if level == V5 { v5 } else { older }
}

fn connect(level: u8, username: &str, password: &str) -> Connect {
    Connect::new(level, "client").credentials(username, password)
}

#[test]
fn a_client_is_let_in_by_its_user_name_and_password() {
    let bench = Secured::start();
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    bench.provider.token("demo", &secret("good"), "endpoint-1");
    for level in LEVELS {
        let mut client = bench.client(level, "client", "user@acme", &password);
        client.request(&format!("kp1/v1/dcx/{}/json/1", secret("good")), "[]", 1);
        client.disconnect();
    }
    let of_clients = bench.provider.asked().into_iter().filter(|asked| asked.name == "user");
    let asked: Vec<_> = of_clients.collect();
    assert_eq!(asked.len(), 3, "never kept beyond the session");
    for asked in asked {
        assert_eq!((asked.kind, asked.scope.as_str()), (Kind::CapBasic, "acme"));
        assert_eq!(asked.proof, password);
    }
}

#[test]
fn the_older_messages_of_16_ecap_are_asked_with_the_whole_user_name() {
    let bench =
        Secured::start_with(|settings| settings.set("ringgate.auth.client-provider", "ecap"));
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    for level in LEVELS {
        bench.client(level, "client", "user@acme", &password).disconnect();
        let wrong = connect(level, "user@acme", &secret("wrong"));
        assert_eq!(bench.refused(wrong).code, code(level, 4, 0x86));
    }
    for asked in bench.provider.asked() {
        assert_eq!((asked.kind, asked.name.as_str()), (Kind::EcapBasic, "user@acme"));
    }
}

#[test]
fn the_tenant_is_what_follows_the_last_at_sign() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.default-tenant", "everybody");
    });
    let password = secret("password");
    for (username, tenant, name) in [
        ("user@acme", "acme", "user"),
        ("user@mail.example@acme", "acme", "user@mail.example"),
        ("user", "everybody", "user"),
        ("üser@ténant", "ténant", "üser"),
    ] {
        bench.provider.client(tenant, name, &password);
        bench.client(V311, "client", username, &password).disconnect();
        let asked = bench.provider.asked().pop().expect("a question");
        assert_eq!((asked.scope.as_str(), asked.name.as_str()), (tenant, name));
    }
    // Half a name is none.
    let count = bench.provider.asked().len();
    for username in ["@acme", "user@", "@"] {
        for level in LEVELS {
            let refused = bench.refused(connect(level, username, &password));
            assert_eq!(refused.code, code(level, 4, 0x86), "{username}");
        }
    }
    assert_eq!(bench.provider.asked().len(), count);
}

#[test]
fn a_client_is_told_why_it_is_not_let_in_as_its_version_can_say_it() {
    let bench = Secured::start();
    let password = secret("password");
    for (status, older, v5) in [
        (401, 4, 0x86),
        (404, 4, 0x86),
        (400, 4, 0x86),
        (403, 5, 0x87),
        (500, 3, 0x88),
        (503, 3, 0x88),
    ] {
        let name = format!("user-{status}");
        bench.provider.bad_client("acme", &name, &password, status);
        for level in LEVELS {
            let refused = bench.refused(connect(level, &format!("{name}@acme"), &password));
            assert_eq!(refused.code, code(level, older, v5), "{status} at level {level}");
        }
    }
    for level in LEVELS {
        let refused = bench.refused(connect(level, "nobody@acme", &password));
        assert_eq!(refused.code, code(level, 4, 0x86));
    }
}

#[test]
fn a_provider_that_does_not_answer_in_time_is_told_as_a_server_away() {
    let bench = Secured::start();
    bench.provider.behave(Behaviour::Silent);
    for level in LEVELS {
        let refused = bench.refused(connect(level, "user@acme", &secret("password")));
        assert_eq!(refused.code, code(level, 3, 0x88));
    }
}

#[test]
fn a_password_that_is_no_text_is_refused_unasked() {
    let bench = Secured::start();
    for level in LEVELS {
        let connect = connect(level, "user@acme", "").password_bytes(&[b'p', 0xFF, 0xFE, b'w']);
        assert_eq!(bench.refused(connect).code, code(level, 4, 0x86));
    }
    assert!(bench.provider.asked().is_empty());
}

#[test]
fn a_user_name_without_a_password_is_asked_with_an_empty_one() {
    let bench = Secured::start();
    for level in LEVELS {
        let mut connect = connect(level, "user@acme", "");
        connect.password = None;
        assert_eq!(bench.refused(connect).code, code(level, 4, 0x86));
    }
    assert!(bench.provider.asked().iter().all(|asked| asked.proof.is_empty()));
    bench.provider.client("acme", "open", "");
    let mut connect = connect(V311, "open@acme", "");
    connect.password = None;
    Device::connected(bench.gateway.mqtt, connect);
}

#[test]
fn who_is_not_let_in_takes_nothing_over() {
    let bench = Secured::start();
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    let mut client = bench.client(V5, "client", "user@acme", &password);
    let wrong = connect(V5, "user@acme", &secret("wrong"));
    assert_eq!(bench.refused(wrong).code, 0x86);
    client.ping();
    // Whoever proves itself takes over, as MQTT-3.1.4-2 has it.
    bench.client(V5, "client", "user@acme", &password).ping();
    client.expect_disconnect(0x8E);
}

#[test]
fn what_a_client_sends_before_it_is_known_waits_for_the_verdict() {
    let bench = Secured::start();
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    bench.provider.token("demo", &secret("good"), "endpoint-1");
    bench.provider.behave_for("user", Behaviour::Hold);
    let publish = |text: &str| {
        let topic = format!("kp1/v1/dcx/{}/json", secret("good"));
        packet::Publish::new(&topic, text).bytes(V311)
    };
    for (good, text) in [(false, "unknown"), (true, "known")] {
        let proof = if good { password.clone() } else { secret("wrong") };
        let mut device = Device::open(bench.gateway.mqtt, V311);
        let connect = connect(V311, "user@acme", &proof);
        let count = bench.provider.count("user");
        // In one write: CONNECT and what follows.
        device.send(&[connect.bytes(), publish(text)].concat());
        bench.provider.wait_for_count("user", count + 1);
        device.expect_silence();
        bench.provider.release();
        let connack = device.receive().connack(V311);
        assert_eq!(connack.code, if good { 0 } else { 4 });
    }
    assert_eq!(bench.dcx.take().text(), "known");
    bench.dcx.expect_silence();
}

#[test]
fn a_client_that_leaves_while_it_is_asked_about_is_forgotten() {
    let bench = Secured::start();
    bench.provider.client("acme", "user", &secret("password"));
    bench.provider.behave(Behaviour::Hold);
    let mut device = Device::open(bench.gateway.mqtt, V311);
    device.send(&connect(V311, "user@acme", &secret("password")).bytes());
    bench.provider.wait_for_count("user", 1);
    drop(device);
    eventually("the connection to be gone", || {
        (bench.gateway.metric("ringgate_connections_open", &[]) == 0.0).then_some(())
    });
    bench.provider.release();
    bench.provider.behave(Behaviour::Normal);
    bench.client(V311, "client", "user@acme", &secret("password")).ping();
}

#[test]
fn a_verdict_on_a_client_is_kept_where_that_is_configured() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.shards", 1);
        settings.set("ringgate.auth.client-verdict-ttl-s", 600);
    });
    let password = secret("password");
    bench.provider.client("acme", "user", &password);
    for _ in 0..3 {
        bench.client(V5, "client", "user@acme", &password).disconnect();
    }
    assert_eq!(bench.provider.count("user"), 1);
    // It is a verdict on that password alone.
    assert_eq!(bench.refused(connect(V5, "user@acme", &secret("wrong"))).code, 0x86);
    // Revoked, it is forgotten.
    bench.provider.revoke_cap_client("basic", "acme", "id-of-user");
    eventually("the revocation to be heard", || {
        let (_, connack) = Device::connect(bench.gateway.mqtt, connect(V5, "user@acme", &password));
        (connack.code == 0x87).then_some(())
    });
}

#[test]
fn a_trustful_gateway_looks_at_no_password() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.client-provider", "trustful");
    });
    bench.client(V311, "client", "user@acme", &secret("any")).ping();
    assert!(bench.provider.asked().is_empty());
    assert!(bench.gateway.output().contains("ANY client may connect"));
}
