//! The control thread as a whole, in this process: management interface, pushes from a real
//! nats-server, and the end.
//!
//! The server is the one that `TEST_NATS_SERVER` names, else `nats-server` on the PATH.

mod events;
mod rig;
mod transitions;

use rig::*;
use ringgate::admin::{CONNECTIONS_MAX, REQUEST_TIME_MAX};
use ringgate::config::{Nats, NatsUrl, Secret, Settings};
use ringgate::control::Outcome;
use ringgate::shard::mail::Mail;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

#[test]
fn health_follows_the_links_and_the_draining() {
    let nats_port = free_port();
    let (control, mut shards) = start(nats_port);
    let address = control.management_addr();
    shards[0].link.went_up("127.0.0.1:1");
    shards[1].link.went_up("127.0.0.1:1");
    shards[1].link.went_down("broken pipe");

    let (head, body) = http(address, "GET", "/health");
    assert_eq!(status(&head), "500");
    let lines: Vec<_> = body.lines().collect();
    assert_eq!(lines.len(), 2, "{body}");
    assert!(lines[0].starts_with("shard 1: NATS link down, for 0."), "{body}");
    assert!(lines[0].ends_with(" s: broken pipe"), "{body}");
    assert!(lines[1].starts_with("control: not connected to NATS yet"), "{body}");
    until("the reason of the failing attempts is told", || {
        shards.iter().for_each(Shard::tick);
        let (_, body) = http(address, "GET", "/health");
        body.lines().last()?.contains(" s: ").then_some(())
    });

    // NATS comes up later, and everything recovers by itself.
    let server = Server::start(nats_port);
    shards[1].link.went_up("127.0.0.1:1");
    until("healthy", || {
        shards.iter().for_each(Shard::tick);
        let (head, body) = http(address, "GET", "/health");
        (status(&head) == "200" && body == "OK\n").then_some(())
    });

    drop(server);
    until("the loss of NATS is told", || {
        shards.iter().for_each(Shard::tick);
        let (head, body) = http(address, "GET", "/health");
        (status(&head) == "500" && body.starts_with("control: NATS link down")).then_some(())
    });

    control.stopper().stop();
    until("draining", || http(address, "GET", "/health").1.starts_with("draining").then_some(()));
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

#[test]
fn metrics_are_served_and_other_requests_refused_with_what_there_is() {
    let (control, mut shards) = start(free_port());
    let address = control.management_addr();
    shards[1].counters.messages_in[1].add(3);

    let (head, body) = http(address, "GET", "/metrics?x=y");
    assert_eq!(status(&head), "200");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    let series = "ringgate_messages_received_total{shard=\"1\",qos=\"1\"} 3\n";
    assert!(body.contains(series), "{body}");
    assert!(body.ends_with("# EOF\n"));

    let (head, body) = http(address, "HEAD", "/metrics");
    assert_eq!((status(&head), body.as_str()), ("200", ""));
    assert!(head.to_ascii_lowercase().contains("content-length: "), "{head}");

    let (head, body) = http(address, "GET", "/");
    let there_is = "There is: GET /health, GET /metrics, GET /api/v1/certificate-chain\n";
    assert_eq!((status(&head), body.as_str()), ("404", there_is));
    let (head, body) = http(address, "POST", "/health");
    assert_eq!(status(&head), "405");
    assert!(head.to_ascii_lowercase().contains("allow: get, head"), "{head}");
    assert!(body.contains("/health") && body.contains("/metrics"), "{body}");

    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let mut stream = TcpStream::connect(address).expect("connects");
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "too long"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(status(&http(address, "GET", "/health").0), "500", "still serving");
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

#[test]
fn connections_that_say_nothing_do_not_keep_others_out_for_long() {
    let (control, mut shards) = start(free_port());
    let address = control.management_addr();
    let connect = |_| TcpStream::connect(address).expect("connects");
    let silent: Vec<_> = (0..CONNECTIONS_MAX).map(connect).collect();
    let started = Instant::now();
    assert_eq!(status(&http(address, "GET", "/health").0), "500");
    let waited = started.elapsed();
    assert!(waited > REQUEST_TIME_MAX / 2, "no bound on connections: after {waited:?}");
    assert!(waited < REQUEST_TIME_MAX * 3, "{waited:?}");
    for mut stream in silent {
        assert_eq!(stream.read(&mut [0]).expect("closed in order"), 0);
    }
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

#[test]
fn a_push_on_the_instance_subject_lands_in_the_mailbox_of_the_endpoints_shard() {
    let nats_port = free_port();
    let _server = Server::start(nats_port);
    let (control, mut shards) = start(nats_port);
    let address = control.management_addr();
    shards[0].reporter.endpoint_here("e1".into(), "v".into());
    shards[1].reporter.endpoint_here("e2".into(), "v".into());
    until("the directory knows both endpoints", || {
        let metrics = http(address, "GET", "/metrics").1;
        metrics.contains("ringgate_directory_endpoints 2\n").then_some(())
    });

    let subject = "kaa.v1.service.kpc.esp.ExtensionData";
    let mut publisher = Publisher::connect(nats_port);
    let mail = until("the push arrives", || {
        // Until the subscription stands, nobody hears a push.
        publisher.publish(subject, "kaa.v1.replica.x.esp.ClientData", &push_datum(Some("e2")));
        shards[1].mails().into_iter().next()
    });
    let Mail::Push { reply_to, datum } = mail else { panic!("{mail:?}") };
    assert_eq!(reply_to.as_deref(), Some("kaa.v1.replica.x.esp.ClientData"));
    assert_eq!(datum, push_datum(Some("e2")));
    assert!(shards[0].mails().is_empty());

    publisher.publish(subject, "", &push_datum(Some("elsewhere")));
    publisher.publish(subject, "", &push_datum(None));
    publisher.publish(subject, "", b"\x02");
    until("what is for nobody here is counted", || {
        let metrics = http(address, "GET", "/metrics").1;
        ["not_held", "no_endpoint", "malformed"]
            .iter()
            .all(|reason| {
                let series = format!("ringgate_pushes_dropped_total{{reason=\"{reason}\"}} 1\n");
                metrics.contains(&series)
            })
            .then_some(())
    });

    shards[0].reporter.endpoint_here("e2".into(), "v".into());
    until("the shard that lost the endpoint is told", || {
        let moved =
            |mail: &Mail| matches!(mail, Mail::RouteMoved { endpoint } if &**endpoint == "e2");
        shards[1].mails().iter().any(moved).then_some(())
    });
    publisher.publish(subject, "", &push_datum(Some("e2")));
    let mail = until("the push follows the endpoint", || shards[0].mails().into_iter().next());
    assert!(matches!(mail, Mail::Push { reply_to: None, .. }), "{mail:?}");
    assert_eq!(finish(control, &mut shards), Outcome::Drained);
}

#[test]
fn shards_that_do_not_drain_in_time_are_named() {
    let (control, mut shards) = start(free_port());
    control.stopper().stop();
    until("told", || (!shards[1].mails().is_empty()).then_some(()));
    shards[1].reporter.drained();
    let started = Instant::now();
    assert_eq!(control.join(), Outcome::Overdue { shards: vec![0] });
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn a_failed_shard_drains_the_others_and_is_the_reason() {
    let (control, mut shards) = start(free_port());
    let address = control.management_addr();
    shards[0].reporter.failed("no io_uring".into());
    until("the other shard is told to drain", || {
        shards[1].mails().iter().any(|mail| matches!(mail, Mail::Drain)).then_some(())
    });
    let body = http(address, "GET", "/health").1;
    assert!(body.contains("shard 0: failed: no io_uring\n"), "{body}");
    shards[1].reporter.drained();
    let failed = Outcome::ShardFailed { shard: 0, why: "no io_uring".into() };
    assert_eq!(control.join(), failed);
}

#[test]
fn a_management_port_that_is_taken_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut settings = Settings::default();
    settings.server.port = taken.local_addr().expect("an address").port();
    let Err(error) = start_with(&settings) else { panic!("started on a taken port") };
    assert!(error.to_string().contains("server.port"), "{error}");
}

#[test]
fn every_way_to_prove_who_we_are_is_accepted_and_a_wrong_one_is_told() {
    let directory = std::env::temp_dir().join(format!("ringgate-control-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let key = nkeys::KeyPair::new_user();
    let seed_file = directory.join("user.nk");
    std::fs::write(&seed_file, key.seed().expect("a seed")).expect("written");
    let server_file = directory.join("nats.conf");
    let users = format!("authorization {{ users = [{{ nkey: {} }}] }}", key.public_key());
    std::fs::write(&server_file, users).expect("written");
    let server_file = server_file.to_str().expect("a plain path");

    type Given<'a> = Box<dyn Fn(&mut Nats) + 'a>;
    let cases: [(&[&str], Given<'_>, bool); 5] = [
        (
            &["--user", "u", "--pass", "p@ss"],
            Box::new(|nats| {
                nats.credentials.username = Some("u".into());
                nats.credentials.password = Some(Secret::new("p@ss"));
            }),
            true,
        ),
        (
            &["--user", "u", "--pass", "p@ss"],
            Box::new(|nats| {
                let url = format!("nats://u:p%40ss@{}", nats.urls[0].address());
                nats.urls = vec![NatsUrl::parse(&url).expect("a URL")];
            }),
            true,
        ),
        (
            &["--auth", "t0ken"],
            Box::new(|nats| {
                nats.credentials.token = Some(Secret::new("t0ken"));
            }),
            true,
        ),
        (
            &["-c", server_file],
            Box::new(|nats| {
                nats.credentials.nkey_seed_file = Some(seed_file.clone());
            }),
            true,
        ),
        (
            &["--auth", "t0ken"],
            Box::new(|nats| {
                nats.credentials.token = Some(Secret::new("wr0ng"));
            }),
            false,
        ),
    ];
    for (arguments, give, accepted) in cases {
        let nats_port = free_port();
        let _server = Server::start_with(nats_port, arguments);
        let mut settings = settings(nats_port);
        give(&mut settings.ringgate.nats);
        let (control, mut shards) = start_with(&settings).expect("starts");
        shards.iter().for_each(|shard| shard.link.went_up("127.0.0.1:1"));
        until(&format!("the link with {arguments:?}, accepted: {accepted}"), || {
            shards.iter().for_each(Shard::tick);
            let body = http(control.management_addr(), "GET", "/health").1;
            let expected = if accepted {
                body == "OK\n"
            } else {
                body.ends_with(": authorization violation\n")
            };
            expected.then_some(())
        });
        assert_eq!(finish(control, &mut shards), Outcome::Drained);
    }
    std::fs::remove_dir_all(directory).expect("removed");
}
