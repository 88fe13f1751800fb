//! Connections and servers that break.

use std::collections::HashMap;
use std::time::Duration;

use ringgate::config::NatsUrl;
use ringgate::rt::task::sleep;

use crate::forwarder::Forwarder;
use crate::rig::{Rig, SUBJECT, settings};
use crate::server::{Listener, NatsServer, PATIENCE, until};

fn count(payloads: &[String]) -> HashMap<u32, u32> {
    let mut counts = HashMap::new();
    for payload in payloads {
        *counts.entry(payload.parse().expect("an id")).or_default() += 1;
    }
    counts
}

/// Each id once, in order.
fn assert_acknowledged_in_order(rig: &Rig, ids: impl Iterator<Item = u32>) {
    let acknowledged = rig.seen.borrow().outcomes.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(acknowledged, ids.collect::<Vec<_>>());
}

#[test]
fn loses_no_message_of_qos_1_over_broken_connections() {
    const COUNT: u32 = 30_000;
    let server = NatsServer::start("");
    let listener = Listener::start(server.port, SUBJECT);
    let forwarder = Forwarder::start(server.port);
    let url = NatsUrl::plain("127.0.0.1", forwarder.port);
    Rig::run(settings(vec![url]), async |rig| {
        let mut id = 0;
        while id < COUNT {
            // Every third message is of QoS 0.
            while id < COUNT && rig.publish(SUBJECT, id, (id % 3).min(1) as u8) {
                id += 1;
                if id % 500 == 0 {
                    sleep(Duration::ZERO).await;
                }
                if id % 3_000 == 0 {
                    let connects = rig.status.connects();
                    forwarder.cut();
                    rig.until("it is up again", |_| rig.status.connects() > connects).await;
                }
            }
            rig.until("room in the ledger", |_| !rig.ledger.borrow().is_full()).await;
        }
        rig.until("the ledger is empty", |_| rig.ledger.borrow().is_empty()).await;
        assert_acknowledged_in_order(rig, (0..COUNT).filter(|id| id % 3 != 0));
        assert!(rig.seen.borrow().downs.len() >= 9, "{:?}", rig.seen.borrow().downs);
        assert!(rig.ledger.borrow().stats().resent > 0, "no connection broke at a bad moment");
        let lost = rig.ledger.borrow().stats().qos0_lost;
        until("what is due has come", || {
            let counts = count(&listener.payloads());
            let missing = (0..COUNT).filter(|id| !counts.contains_key(id)).collect::<Vec<_>>();
            (missing.iter().all(|id| id % 3 == 0) && missing.len() as u64 <= lost).then_some(())
        });
        let counts = count(&listener.payloads());
        let twice = counts.iter().find(|(id, times)| *id % 3 == 0 && **times > 1);
        assert_eq!(twice, None, "a message of QoS 0 came twice");
    });
}

#[test]
fn sends_again_what_a_killed_server_had_not_confirmed() {
    const COUNT: u32 = 1_000;
    let mut server = NatsServer::start("");
    let before = Listener::start(server.port, SUBJECT);
    let forwarder = Forwarder::start(server.port);
    let url = NatsUrl::plain("127.0.0.1", forwarder.port);
    Rig::run(settings(vec![url]), async |rig| {
        let publish_a_thousand = |from: u32| {
            for id in from..from + COUNT {
                assert!(rig.publish(SUBJECT, id, 1));
            }
        };
        rig.until_up().await;
        publish_a_thousand(0);
        rig.until("some are confirmed", |seen| !seen.outcomes.is_empty()).await;
        // From here on nothing is confirmed, and the link must not find the new server before a
        // listener is there to hear it.
        forwarder.freeze(true);
        forwarder.shut(true);
        publish_a_thousand(COUNT);
        rig.until("a write waits for its PONG", |_| rig.ledger.borrow().awaits_pong()).await;
        server.kill();
        rig.until("the link notices", |seen| !seen.downs.is_empty()).await;
        let confirmed_before = rig.seen.borrow().outcomes.len() as u32;
        publish_a_thousand(2 * COUNT);
        server.restart();
        let after = Listener::start(server.port, SUBJECT);
        forwarder.freeze(false);
        forwarder.shut(false);
        rig.until("the ledger is empty", |_| rig.ledger.borrow().is_empty()).await;
        assert_acknowledged_in_order(rig, 0..3 * COUNT);
        assert!(confirmed_before <= COUNT);
        until("what was not confirmed has come", || {
            let counts = count(&after.payloads());
            (confirmed_before..3 * COUNT).all(|id| counts.contains_key(&id)).then_some(())
        });
    });
    drop(before);
}

#[test]
fn gives_up_a_connection_on_which_no_pong_comes() {
    let server = NatsServer::start("");
    let forwarder = Forwarder::start(server.port);
    let url = NatsUrl::plain("127.0.0.1", forwarder.port);
    let mut settings = settings(vec![url]);
    settings.ping_interval = Duration::from_millis(40);
    settings.connect_timeout = Duration::from_secs(1);
    Rig::run(settings, async |rig| {
        rig.until_up().await;
        // An idle link stays up: its PINGs are answered.
        let written = |rig: &Rig| rig.ledger.borrow().stats().batches;
        rig.until("some PINGs", |_| written(rig) >= 5).await;
        assert_eq!(rig.status.connects(), 1);
        forwarder.freeze(true);
        rig.until("the link gives up", |seen| !seen.downs.is_empty()).await;
        assert_eq!(rig.seen.borrow().downs, ["no PONG for 80 ms"]);
        rig.until_error(&["no connection within 1000 ms"]).await;
        forwarder.freeze(false);
        rig.prove_it_works().await;
    });
}

#[test]
fn answers_the_pings_of_the_server() {
    let server = NatsServer::start("ping_interval: \"50ms\"\nping_max: 1");
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_up().await;
        sleep(Duration::from_millis(600)).await;
        rig.prove_it_works().await;
        assert_eq!(rig.status.connects(), 1, "{:?}", rig.seen.borrow().downs);
    });
}

/// Two servers of a cluster that know of each other.
fn cluster() -> (NatsServer, NatsServer) {
    let config = |routes: &str| {
        format!(
            "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"10s\"\n\
             cluster {{ name: c, listen: \"127.0.0.1:-1\", {routes} }}"
        )
    };
    let first = NatsServer::start(&config(""));
    let routes = format!("routes: [\"nats://127.0.0.1:{}\"]", first.cluster_port);
    let second = NatsServer::start(&config(&routes));
    first.wait_until_it_tells_of(second.port);
    (first, second)
}

#[test]
fn an_idle_link_leaves_a_server_that_shuts_down_at_once() {
    let (first, second) = cluster();
    Rig::run(settings(vec![first.url()]), async |rig| {
        rig.prove_it_works().await;
        first.begin_lame_duck_mode();
        let label = format!("127.0.0.1:{}", second.port);
        rig.until("the link has moved", |_| rig.status.server() == label).await;
        rig.prove_it_works().await;
        assert_eq!(rig.seen.borrow().downs, ["the server shuts down"]);
    });
}

#[test]
fn moves_to_another_server_when_its_own_shuts_down() {
    let (first, second) = cluster();
    let listener = Listener::start(second.port, SUBJECT);
    Rig::run(settings(vec![first.url()]), async |rig| {
        rig.until_up().await;
        let mut id = 0;
        let deadline = std::time::Instant::now() + PATIENCE;
        while rig.status.server() != format!("127.0.0.1:{}", second.port) {
            assert!(std::time::Instant::now() < deadline, "{}", rig.status.last_error());
            assert!(rig.publish(SUBJECT, id, 1));
            id += 1;
            if id == 20 {
                first.begin_lame_duck_mode();
            }
            sleep(Duration::from_millis(1)).await;
        }
        rig.until("the ledger is empty", |_| rig.ledger.borrow().is_empty()).await;
        assert_acknowledged_in_order(rig, 0..id);
        assert_eq!(rig.seen.borrow().downs, ["the server shuts down"]);
        assert_eq!(rig.ledger.borrow().stats().resent, 0, "it left before all was confirmed");
    });
    drop(listener);
}
