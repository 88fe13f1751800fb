//! Finding a server, and TLS on the way.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ringgate::config::NatsUrl;
use ringgate::uplink::TlsSettings;

use crate::forwarder::Forwarder;
use crate::rig::{Rig, settings};
use crate::server::{Folder, NatsServer};

#[test]
fn passes_over_a_server_that_is_dead() {
    let dead = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let dead_port = dead.local_addr().expect("an address").port();
    drop(dead);
    let server = NatsServer::start("");
    let urls = vec![NatsUrl::plain("127.0.0.1", dead_port), server.url()];
    Rig::run(settings(urls), async |rig| rig.prove_it_works().await);
}

#[test]
fn resolves_names_and_tries_each_address() {
    let server = NatsServer::start("");
    let url = NatsUrl::plain("localhost", server.port);
    Rig::run(settings(vec![url]), async |rig| {
        rig.prove_it_works().await;
        assert_eq!(rig.status.server(), format!("localhost:{}", server.port));
    });
}

#[test]
fn says_that_a_name_cannot_be_resolved() {
    let url = NatsUrl::plain("no-such-host.invalid", 4222);
    Rig::run(settings(vec![url]), async |rig| {
        rig.until_error(&["no-such-host.invalid:4222", "cannot resolve the name"]).await;
    });
}

#[test]
fn waits_for_a_server_that_is_absent_at_first() {
    let mut server = NatsServer::start("");
    server.kill();
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_error(&["Connection refused"]).await;
        assert!(rig.publish("early", 1, 1), "what comes early is kept");
        server.restart();
        rig.until("the early message is taken", |seen| seen.outcomes.len() == 1).await;
        assert!(rig.status.is_up());
    });
}

#[test]
fn learns_the_servers_of_a_cluster() {
    let mut first = NatsServer::start("cluster { name: c, listen: \"127.0.0.1:-1\" }");
    let routes = format!(
        "cluster {{ name: c, listen: \"127.0.0.1:-1\", routes: [\"nats://127.0.0.1:{}\"] }}",
        first.cluster_port
    );
    Rig::run(settings(vec![first.url()]), async |rig| {
        rig.until_up().await;
        // It joins while the link is up: the news comes as another INFO.
        let second = NatsServer::start(&routes);
        first.wait_until_it_tells_of(second.port);
        rig.prove_it_works().await;
        first.kill();
        let label = format!("127.0.0.1:{}", second.port);
        rig.until("the link has moved", |_| rig.status.server() == label).await;
        rig.prove_it_works().await;
    });
}

#[test]
fn gives_up_a_server_that_says_nothing() {
    let server = NatsServer::start("");
    let forwarder = Forwarder::start(server.port);
    forwarder.freeze(true);
    let silent = NatsUrl::plain("127.0.0.1", forwarder.port);
    let mut settings = settings(vec![silent]);
    settings.connect_timeout = Duration::from_millis(60);
    Rig::run(settings, async |rig| {
        rig.until_error(&["no connection within 60 ms (connect-timeout-ms)"]).await;
        rig.until("it tries again", |_| forwarder.accepted() >= 3).await;
    });
}

#[test]
fn says_that_it_has_not_met_a_nats_server() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(3) {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let url = NatsUrl::plain("127.0.0.1", port);
    Rig::run(settings(vec![url]), async |rig| {
        rig.until_error(&["this is not the NATS protocol"]).await;
    });
}

#[test]
fn takes_no_data_in_clear_for_what_tls_should_have_carried() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten().take(3) {
            let _ = stream.write_all(b"INFO {\"tls_required\":true}\r\nINFO {}\r\n");
            let _ = stream.read(&mut [0; 64]);
        }
    });
    let url = NatsUrl::plain("127.0.0.1", port);
    Rig::run(settings(vec![url]), async |rig| {
        rig.until_error(&["data in clear where TLS must begin"]).await;
    });
}

#[test]
fn pauses_between_rounds_of_attempts() {
    let server = NatsServer::start("");
    let forwarder = Forwarder::start(server.port);
    forwarder.shut(true);
    let mut settings = settings(vec![NatsUrl::plain("127.0.0.1", forwarder.port)]);
    settings.reconnect_delay_min = Duration::from_millis(40);
    settings.reconnect_delay_max = Duration::from_millis(80);
    Rig::run(settings, async |rig| {
        let started = std::time::Instant::now();
        rig.until("some attempts", |_| forwarder.accepted() >= 5).await;
        // Half of 40, 80, 80 and 80 ms at least.
        assert!(started.elapsed() >= Duration::from_millis(140), "{:?}", started.elapsed());
        forwarder.shut(false);
        rig.prove_it_works().await;
    });
}

/// A certificate authority with a server's and a client's certificate.
struct Certificates {
    folder: Folder,
}

impl Certificates {
    fn new() -> Certificates {
        let folder = Folder::new();
        let key = || KeyPair::generate().expect("a key");
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            CertificateParams::new(names).expect("names of a certificate")
        };
        let mut authority = names(&[]);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority");
        folder.write("ca.pem", &authority.pem());
        for (file, host) in [("server", "localhost"), ("client", "gateway")] {
            let key = key();
            let certificate = names(&[host]).signed_by(&key, &authority).expect("a certificate");
            folder.write(&format!("{file}.pem"), &certificate.pem());
            folder.write(&format!("{file}.key"), &key.serialize_pem());
        }
        Certificates { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's `tls` block.
    fn block(&self, more: &str) -> String {
        let path = self.folder.path().display();
        format!(
            "tls {{ cert_file: \"{path}/server.pem\", key_file: \"{path}/server.key\", \
             ca_file: \"{path}/ca.pem\", {more} }}"
        )
    }
}

fn localhost(server: &NatsServer) -> NatsUrl {
    NatsUrl::plain("localhost", server.port)
}

#[test]
fn speaks_tls_where_the_server_asks_for_it() {
    let certificates = Certificates::new();
    let server = NatsServer::start(&certificates.block(""));
    let mut settings = settings(vec![localhost(&server)]);
    settings.tls.ca_file = Some(certificates.path("ca.pem"));
    Rig::run(settings, async |rig| {
        rig.prove_it_works().await;
        // Batches of many TLS records, too.
        for id in 0..10_000 {
            assert!(rig.publish("bulk", id, 1));
        }
        rig.until("the ledger is empty", |_| rig.ledger.borrow().is_empty()).await;
    });
}

#[test]
fn begins_with_tls_where_told() {
    let certificates = Certificates::new();
    let server = NatsServer::start(&certificates.block("handshake_first: true"));
    let tls = TlsSettings {
        first: true,
        ca_file: Some(certificates.path("ca.pem")),
        ..TlsSettings::default()
    };
    let mut settings = settings(vec![localhost(&server)]);
    settings.tls = tls;
    Rig::run(settings, async |rig| rig.prove_it_works().await);
}

#[test]
fn shows_its_certificate_where_the_server_asks_for_it() {
    let certificates = Certificates::new();
    let server = NatsServer::start(&certificates.block("verify: true"));
    let mut settings = settings(vec![localhost(&server)]);
    settings.tls = TlsSettings {
        required: true,
        first: false,
        ca_file: Some(certificates.path("ca.pem")),
        cert_file: Some(certificates.path("client.pem")),
        key_file: Some(certificates.path("client.key")),
    };
    Rig::run(settings.clone(), async |rig| rig.prove_it_works().await);
    settings.tls.cert_file = None;
    settings.tls.key_file = None;
    Rig::run(settings, async |rig| rig.until_error(&["localhost"]).await);
}

#[test]
fn trusts_no_server_whose_authority_or_name_is_another() {
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let server = NatsServer::start(&theirs.block(""));
    let mut strange = settings(vec![localhost(&server)]);
    strange.tls.ca_file = Some(ours.path("ca.pem"));
    Rig::run(strange, async |rig| {
        rig.until_error(&["TLS handshake", "localhost", "ringgate.nats.tls.ca-file"]).await;
    });
    let mut misnamed = settings(vec![server.url()]);
    misnamed.tls.ca_file = Some(theirs.path("ca.pem"));
    Rig::run(misnamed, async |rig| rig.until_error(&["TLS handshake", "127.0.0.1"]).await);
}

#[test]
fn refuses_a_server_without_tls_where_tls_is_required() {
    let server = NatsServer::start("");
    let mut required = settings(vec![server.url()]);
    required.tls.required = true;
    Rig::run(required, async |rig| rig.until_error(&["the server offers no TLS"]).await);
    let url = NatsUrl::parse(&format!("tls://127.0.0.1:{}", server.port)).expect("a URL");
    Rig::run(settings(vec![url]), async |rig| {
        rig.until_error(&["the server offers no TLS"]).await;
    });
}
