//! Endpoint tokens over 16/ECAP: who may speak, and what becomes of messages meanwhile.

use crate::harness::device::{Device, Next};
use crate::harness::extension::ExtensionData;
use crate::harness::packet::{self, PUBACK, PUBCOMP, PUBREC, Publish, V5, V31, V311};
use crate::harness::provider::{Behaviour, Kind};
use crate::harness::secured::{Secured, error_of, secret};
use crate::harness::{PATIENCE, SILENCE, find_tool};

#[test]
fn a_good_token_speaks_for_its_endpoint_and_is_answered_on_its_own_topic() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    for level in [V31, V311, V5] {
        let mut device = bench.device_of(level, &format!("device-{level}"));
        for qos in 0..=2 {
            let topic = format!("kp1/v1/dcx/{token}/json/7");
            let answer = device.request(&topic, "[1]", qos);
            assert_eq!(answer.topic, format!("{topic}/status"));
            let data = bench.dcx.take();
            assert_eq!(data.endpoint_id.as_deref(), Some("endpoint-1"));
            assert_eq!((data.text(), data.request_id), ("[1]", Some(7)));
            assert!(!String::from_utf8_lossy(&data.datum).contains(&token), "the token went on");
        }
    }
    let asked = bench.provider.asked();
    assert!(asked.iter().all(|asked| asked.kind == Kind::Token && asked.scope == "demo"));
    assert!(asked.iter().all(|asked| asked.name == token));
}

#[test]
fn a_bad_token_is_answered_with_the_providers_status_and_reason() {
    let bench = Secured::start();
    let cases = [
        (secret("unknown"), 404, "nobody of that name"),
        (secret("suspended"), 403, "suspended for now"),
        (secret("refused"), 401, "Unauthorized"),
    ];
    bench.provider.bad_token("demo", &cases[1].0, 403, Some(cases[1].2));
    bench.provider.bad_token("demo", &cases[2].0, 401, None);
    for level in [V311, V5] {
        let mut device = bench.device_of(level, &format!("device-{level}"));
        for (token, status, reason) in &cases {
            let topic = format!("kp1/v1/dcx/{token}/json/1");
            for qos in 0..=2 {
                let answer = device.request(&topic, "[]", qos);
                assert_eq!(answer.topic, format!("{topic}/error"));
                assert_eq!(error_of(&answer), (*status, (*reason).to_owned()));
            }
        }
        device.ping();
    }
    bench.dcx.expect_silence();
    bench.gateway.wait_until_dropped("token_rejected", 18.0);
}

#[test]
fn a_bad_token_is_acknowledged_with_a_reason_where_the_protocol_has_one() {
    let bench = Secured::start();
    let topic = format!("kp1/v1/dcx/{}/json", secret("unknown"));
    for (level, reason) in [(V311, 0), (V5, 0x87)] {
        let mut device = bench.device_of(level, &format!("device-{level}"));
        device.send_publish(&Publish::new(&topic, "[]").qos(1, 1));
        let puback = device.receive_ack(PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (1, reason));
        device.send_publish(&Publish::new(&topic, "[]").qos(2, 2));
        let pubrec = device.receive_ack(PUBREC);
        assert_eq!((pubrec.packet_id, pubrec.reason), (2, reason));
        if reason == 0 {
            device.send(&packet::acknowledgement(packet::PUBREL, 2));
            assert_eq!(device.receive_ack(PUBCOMP).packet_id, 2);
        }
        device.ping();
    }
    bench.dcx.expect_silence();
}

#[test]
fn without_a_request_id_a_bad_token_is_only_counted() {
    let bench = Secured::start();
    let mut device = bench.device("device-1");
    device.publish_qos0(&format!("kp1/v1/dcx/{}/json", secret("unknown")), "[]");
    bench.gateway.wait_until_dropped("token_rejected", 1.0);
    device.expect_silence();
    device.ping();
    bench.dcx.expect_silence();
}

#[test]
fn a_token_is_of_one_application() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let mut device = bench.device("device-1");
    device.request(&format!("kp1/v1/dcx/{token}/json/1"), "[]", 1);
    let answer = device.request(&format!("kp1/v2/dcx/{token}/json/1"), "[]", 1);
    assert_eq!(error_of(&answer).0, 404);
    let scopes: Vec<_> = bench.provider.asked().into_iter().map(|asked| asked.scope).collect();
    assert_eq!(scopes, ["demo", "narrow"]);
}

#[test]
fn a_verdict_is_remembered() {
    let bench = Secured::start_with(|settings| settings.set("ringgate.shards", 1));
    let (good, bad) = (secret("good"), secret("unknown"));
    bench.provider.token("demo", &good, "endpoint-1");
    let mut device = bench.device("device-1");
    let mut other = bench.device("device-2");
    for request in 0..20 {
        for device in [&mut device, &mut other] {
            device.request(&format!("kp1/v1/dcx/{good}/json/{request}"), "[]", 1);
            let answer = device.request(&format!("kp1/v1/dcx/{bad}/json/{request}"), "[]", 1);
            assert_eq!(error_of(&answer).0, 404);
        }
    }
    assert_eq!((bench.provider.count(&good), bench.provider.count(&bad)), (1, 1));
}

#[test]
fn a_verdict_is_asked_for_again_when_its_time_is_over() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.verdict-ttl-s", 1);
        settings.set("ringgate.auth.rejection-ttl-s", 0);
    });
    let (good, bad) = (secret("good"), secret("unknown"));
    bench.provider.token("demo", &good, "endpoint-1");
    let mut device = bench.device("device-1");
    for count in 1..=3 {
        device.request(&format!("kp1/v1/dcx/{bad}/json/1"), "[]", 0);
        assert_eq!(bench.provider.count(&bad), count);
    }
    // Traffic of its own does not keep a verdict alive.
    crate::harness::eventually("the token to be asked about again", || {
        device.request(&format!("kp1/v1/dcx/{good}/json/1"), "[]", 1);
        (bench.provider.count(&good) >= 2).then_some(())
    });
    // What was good and is not any more is found out, too.
    bench.provider.bad_token("demo", &good, 403, Some("suspended"));
    let answer = crate::harness::eventually("the verdict to be over", || {
        let answer = device.request(&format!("kp1/v1/dcx/{good}/json/1"), "[]", 1);
        answer.topic.ends_with("/error").then_some(answer)
    });
    assert_eq!(error_of(&answer), (403, "suspended".to_owned()));
}

#[test]
fn all_messages_of_a_token_wait_for_one_answer_and_come_in_order() {
    let bench = Secured::start_with(|settings| settings.set("ringgate.shards", 1));
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    bench.provider.behave(Behaviour::Hold);
    let mut devices = [bench.device("device-1"), bench.device("device-2")];
    for number in 0..50 {
        for (at, device) in devices.iter_mut().enumerate() {
            device.publish_qos0(&format!("kp1/v1/dcx/{token}/json"), format!("{at}-{number}"));
        }
    }
    bench.provider.wait_for_count(&token, 1);
    // Both have been read to the end.
    devices.iter_mut().for_each(Device::ping);
    assert_eq!(bench.dcx.count(), 0);
    bench.provider.release();
    bench.dcx.wait_for_count(100);
    for at in 0..2 {
        let messages = bench.dcx.received();
        let of_device = messages.iter().filter(|data| data.text().starts_with(&format!("{at}-")));
        let numbers: Vec<String> = of_device.map(|data| data.text()[2..].to_owned()).collect();
        assert_eq!(numbers, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(bench.provider.count(&token), 1);
}

#[test]
fn while_one_endpoint_waits_the_others_of_its_connection_flow_on() {
    let bench = Secured::start();
    let (slow, quick) = (secret("slow"), secret("quick"));
    bench.provider.token("demo", &slow, "endpoint-slow");
    bench.provider.token("demo", &quick, "endpoint-quick");
    bench.provider.behave_for(&slow, Behaviour::Hold);
    let mut device = bench.device("gateway-device");
    for number in 0..10 {
        device.publish_qos0(&format!("kp1/v1/dcx/{slow}/json"), format!("slow-{number}"));
        let topic = format!("kp1/v1/dcx/{quick}/json/{number}");
        let answer = device.request(&topic, format!("quick-{number}"), 0);
        assert_eq!(answer.topic, format!("{topic}/status"));
    }
    // Instances that know no endpoints flow on as well.
    device.publish_qos0("kp1/v1/plain/json", "[]");
    device.ping();
    let of = |endpoint: &str| {
        let messages = bench.dcx.received();
        let of_it = messages.iter().filter(|data| data.endpoint_id.as_deref() == Some(endpoint));
        of_it.map(|data| data.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of("endpoint-quick").len(), 10);
    assert!(of("endpoint-slow").is_empty());
    bench.provider.wait_for_count(&slow, 1);
    bench.provider.release();
    bench.dcx.wait_for_count(20);
    let expected: Vec<_> = (0..10).map(|number| format!("slow-{number}")).collect();
    assert_eq!(of("endpoint-slow"), expected);
}

#[test]
fn acknowledgements_keep_the_order_of_the_messages() {
    let bench = Secured::start();
    let (slow, quick) = (secret("slow"), secret("quick"));
    bench.provider.token("demo", &slow, "endpoint-slow");
    bench.provider.token("demo", &quick, "endpoint-quick");
    bench.provider.behave_for(&slow, Behaviour::Hold);
    for level in [V311, V5] {
        let mut device = bench.device_of(level, &format!("device-{level}"));
        let tokens = [&quick, &slow, &quick, &slow, &quick];
        for (id, token) in (1u16..).zip(tokens) {
            let topic = format!("kp1/v1/dcx/{token}/json");
            device.send_publish(&Publish::new(&topic, format!("{level}-{id}")).qos(1, id));
        }
        assert_eq!(device.receive_ack(PUBACK).packet_id, 1);
        // MQTT-4.6.0-2: those behind the parked one wait for it, though they have been carried.
        bench.dcx.wait_until(|messages| {
            let quick = [1, 3, 5].map(|id| format!("{level}-{id}"));
            quick.iter().all(|text| messages.iter().any(|data| data.text() == text))
        });
        if level == V311 {
            device.expect_silence();
            bench.provider.wait_for_count(&slow, 1);
            bench.provider.release();
            bench.provider.behave_for(&slow, Behaviour::Normal);
        }
        for id in 2..=5 {
            assert_eq!(device.receive_ack(PUBACK).packet_id, id);
        }
    }
}

#[test]
fn parked_messages_are_bounded_and_the_connection_is_read_again_afterwards() {
    let bench = Secured::start_with(|settings| {
        settings.set("ringgate.auth.parked-bytes-max", 20_000);
        // So that nothing times out before the answer.
        settings.set("ringgate.auth.request-timeout-ms", 20_000);
    });
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    bench.provider.behave(Behaviour::Hold);
    let mut device = bench.device("device-1");
    // Far more than may be parked, and than the kernel's buffers hold.
    let payload = vec![b'x'; 10_000];
    let topic = format!("kp1/v1/dcx/{token}/json");
    let all: Vec<u8> =
        (0..2_000).flat_map(|_| Publish::new(&topic, &payload).bytes(V311)).collect();
    let left = device.send_within(&all, SILENCE);
    assert!(!left.is_empty(), "20 MB were taken for a token nobody has validated");
    bench.provider.wait_for_count(&token, 1);
    bench.provider.release();
    assert!(device.send_within(&left, PATIENCE).is_empty(), "the connection stands still");
    bench.dcx.wait_for_count(2_000);
    device.ping();
}

#[test]
fn a_publisher_that_leaves_at_once_is_still_heard() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    let tool = find_tool("TEST_MOSQUITTO_PUB", "mosquitto_pub", &[]);
    let port = bench.gateway.mqtt.port().to_string();
    for (count, qos) in [(1, "0"), (2, "1"), (3, "2")] {
        // Known by no shard: asked about each time.
        let token = format!("{token}-{qos}");
        bench.provider.token("demo", &token, "endpoint-1");
        let output = std::process::Command::new(&tool)
            .args(["-h", "127.0.0.1", "-p", &port, "-q", qos, "-m", "[1]"])
            .args(["-t", &format!("kp1/v1/dcx/{token}/json")])
            .output()
            .expect("mosquitto_pub runs");
        assert!(output.status.success(), "{output:?}");
        bench.dcx.wait_for_count(count);
        assert_eq!(bench.dcx.received()[count - 1].endpoint_id.as_deref(), Some("endpoint-1"));
    }
}

#[test]
fn a_publisher_that_leaves_while_its_token_is_asked_about_is_still_heard() {
    let bench = Secured::start();
    let token = secret("good");
    bench.provider.token("demo", &token, "endpoint-1");
    bench.provider.behave(Behaviour::Hold);
    let mut device = bench.device("device-1");
    device.publish_qos0(&format!("kp1/v1/dcx/{token}/json"), "[1]");
    bench.provider.wait_for_count(&token, 1);
    device.disconnect();
    bench.gateway.wait_until_closed("client_disconnect", 1.0);
    bench.provider.release();
    assert_eq!(bench.dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
}

#[test]
fn a_trustful_application_asks_nobody() {
    let bench = Secured::start_with(|settings| {
        settings.set("kaa.applications.narrow.endpoint-provider", "trustful");
    });
    let mut device = bench.device("device-1");
    device.request("kp1/v2/dcx/any-token/json/1", "[]", 1);
    assert_eq!(bench.dcx.take().endpoint_id.as_deref(), Some("any-token"));
    let answer = device.request("kp1/v1/dcx/any-token/json/1", "[]", 1);
    assert_eq!(error_of(&answer).0, 404);
    let output = bench.gateway.output();
    let line = output.lines().find(|line| line.contains("ANY endpoint token is accepted"));
    let line = line.unwrap_or_else(|| panic!("nothing is said:\n{output}"));
    assert!(line.contains("narrow") && !line.contains("demo"), "{line}");
    assert_eq!(device.next_within(SILENCE), Next::Nothing);
}

#[test]
fn two_tokens_of_one_endpoint_are_each_answered_on_their_own_topic() {
    let bench = Secured::start();
    let [first, second] = ["first", "second"].map(|name| {
        bench.provider.token("demo", &secret(name), "endpoint-1");
        format!("kp1/v1/dcx/{}/json/1", secret(name))
    });
    let (mut one, mut other) = (bench.device("one"), bench.device("other"));
    for _ in 0..3 {
        // The topic of an answer is compared with that of the request.
        one.request(&first, "[]", 1);
        other.request(&second, "[]", 1);
    }
    // A push goes to who spoke last, by the token it did so with.
    bench.dcx.push(&ExtensionData::push("dcx", "endpoint-1", "/told", "[]"));
    let told = other.receive_publish();
    assert_eq!(told.topic, format!("kp1/v1/dcx/{}/told/status", secret("second")));
    one.expect_silence();
}
