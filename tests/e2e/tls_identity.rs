//! What a credentials service behind HTTP is told of a client's certificate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::harness::device::Device;
use crate::harness::packet::{Connect, V5};
use crate::harness::secured::Secured;
use crate::harness::tls::Ca;
use crate::harness::{PATIENCE, eventually};
use crate::tls::Door;

/// A service that takes everybody for a client of `acme`, and what it is asked.
fn service() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/ask", listener.local_addr().expect("an address"));
    let (told, asked) = channel();
    // Ends with its process.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let told = told.clone();
            std::thread::spawn(move || attend(stream, &told));
        }
    });
    (url, asked)
}

/// Answers one request, and closes.
fn attend(mut stream: TcpStream, told: &Sender<Value>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().to_ascii_lowercase().strip_prefix("content-length: ") {
            Some(bytes) => body_bytes = bytes.parse().ok()?,
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; body_bytes];
    reader.read_exact(&mut body).ok()?;
    told.send(serde_json::from_slice(&body).ok()?).ok()?;
    let body = r#"{"tenantId":"acme"}"#;
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).ok()
}

#[test]
fn a_service_behind_http_is_told_all_that_a_certificate_says_of_its_client() {
    let (door, ca) = (Door::new(), Ca::new("plant CA"));
    let (url, asked) = service();
    let bench = Secured::start_with(|settings| {
        door.open_for(&ca, "required", settings);
        settings.set("ringgate.auth.client-provider", "http");
        settings.set("ringgate.auth.http.url", url);
        settings.set("ringgate.log.level", "debug");
    });
    let shown = ca.client(7);
    let mut client = Device::connected(door.tunnel(Some(&shown)), Connect::new(V5, "pump")).0;
    let der = CertificateDer::from_pem_file(&shown.chain).expect("PEM");
    let fingerprint = digest(&SHA256, &der);
    let fingerprint: String = fingerprint.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let expected = json!({
        "kind": "certificate", "issuer": "CN=plant CA", "serialNumber": "7",
        "subject": "CN=rcgen self signed cert",
        "dnsNames": ["device"], "ipAddresses": [], "uris": [], "emailAddresses": [],
        "incomplete": false, "fingerprint": fingerprint,
    });
    assert_eq!(asked.recv_timeout(PATIENCE).expect("a question"), expected);
    client.ping();
    eventually("a line about the certificate", || {
        let output = bench.gateway.output();
        let line = output.lines().find(|line| line.contains("client certificate verified"))?;
        assert!(line.contains(&fingerprint) && line.contains("rcgen self signed cert"), "{line}");
        Some(())
    });
}
