//! The HTTP binding of 1/KP, plain and over TLS: curl, connections by hand, and what is refused.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use crate::harness::extension::{self, ExtensionData};
use crate::harness::gateway::Settings;
use crate::harness::ports::Port;
use crate::harness::provider::Kind;
use crate::harness::secured::{Secured, secret};
use crate::harness::tls::{Ca, Files};
use crate::harness::{Bench, PATIENCE, answer, eventually, find_tool};
use crate::own_clients::{assert_success, run};
use crate::tls::path;

/// A door for HTTP, by KPC's keys, and one over TLS that asks for certificates of `clients`.
pub struct Doors {
    ca: Ca,
    server: Files,
    clients: Ca,
    plain: Port,
    tls: Port,
}

impl Doors {
    pub fn new() -> Self {
        let ca = Ca::new("server CA");
        let server = ca.server("server", "localhost");
        let (plain, tls) = (Port::reserve(), Port::reserve());
        Self { ca, server, clients: Ca::new("plant CA"), plain, tls }
    }

    pub fn open(&self, settings: &mut Settings) {
        settings.set("kaa.kpc.transports.http.enabled", true);
        settings.set("kaa.kpc.transports.http.port", self.plain.number);
        settings.set("ringgate.tls.web.cert-files", vec![path(&self.server.chain)]);
        settings.set("ringgate.tls.web.key-files", vec![path(&self.server.key)]);
        settings.set("ringgate.tls.web.client-auth", "optional");
        settings.set("ringgate.tls.web.client-ca-files", vec![path(&self.clients.file)]);
        settings.set("ringgate.listeners.web.kind", "https");
        settings.set("ringgate.listeners.web.port", self.tls.number);
        settings.set("ringgate.listeners.web.tls", "web");
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.plain.number).into()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    fn tls_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.tls.number)
    }
}

fn curl(arguments: &[&str]) -> Output {
    let curl = find_tool("TEST_CURL", "curl", &[]);
    run(Command::new(curl).args(["--silent", "--show-error", "--max-time", "20"]).args(arguments))
}

/// The status and body that curl was answered, and how many connections it made.
fn answered(arguments: &[&str]) -> (u16, String) {
    let output = curl(&[&["--write-out", "\n%{http_code}"], arguments].concat());
    assert_success(&output);
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("two lines");
    (status.parse().expect("a status"), body.to_owned())
}

/// What is answered to these bytes, until the end.
fn conversation(address: SocketAddr, bytes: &[u8]) -> String {
    String::from_utf8(answer(address, bytes)).expect("text")
}

#[test]
fn curl_posts_a_sample_and_is_answered_by_the_extension_service() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let body = r#"[{"temperature": 21}]"#;
    for url in [
        doors.url("/kp1/v1/dcx/token-1/json"),
        doors.url("/kp1/v1/dcx/token-1/json/17"),
        doors.tls_url("/kp1/v1/dcx/token-1/json"),
    ] {
        let arguments = ["--data-binary", body, "--cacert", &path(&doors.ca.file), &url];
        assert_eq!(answered(&arguments), (200, String::new()), "{url}");
        let data = bench.dcx.take();
        assert_eq!((data.text(), data.endpoint_id.as_deref()), (body, Some("token-1")));
        assert!(data.request_id.is_some_and(|id| id > 0), "{data:?}");
        assert_eq!(data.resource_path, "/json");
    }
    let connected = bench.gateway.metric("ringgate_endpoints", &[]);
    assert_eq!(connected, 0.0, "a request gives its endpoint no route");
}

#[test]
fn the_payload_and_the_errors_of_an_extension_service_come_through() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let _cmx = bench.extension("cmx", |data| {
        let answer = ExtensionData::answering(data, if data.text() == "good" { 200 } else { 409 });
        Some(answer.payload(r#"{"led":true}"#).reason("not \"now\"").into())
    });
    let url = doors.url("/kp1/v1/cmx/token-1/config/json");
    let head = curl(&["--include", "--data", "good", &url]);
    let text = String::from_utf8(head.stdout).expect("text");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\nContent-Type: application/json\r\n"), "{text}");
    assert!(text.ends_with(r#"{"led":true}"#), "{text}");
    let error = r#"{"statusCode":409,"reasonPhrase":"not \"now\""}"#;
    assert_eq!(answered(&["--data", "bad", &url]), (409, error.to_owned()));
    bench.gateway.wait_for_metric("ringgate_http_responses_total", &["status=\"409\""], 1.0);
}

#[test]
fn curl_keeps_its_connection_waits_to_go_on_and_sends_chunks() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let url = doors.url("/kp1/v1/dcx/token-1/json");
    let large = "x".repeat(500_000);
    let file = bench.gateway.dir().file("large", &large);
    let upload = format!("@{}", path(&file));
    let output = curl(&[
        "--write-out",
        "%{http_code} %{num_connects}\n",
        "--header",
        "Expect: 100-continue",
        "--data-binary",
        &upload,
        &url,
        &url,
        "--next",
        "--write-out",
        "%{http_code} %{num_connects}\n",
        "--header",
        "Transfer-Encoding: chunked",
        "--data-binary",
        &upload,
        &url,
    ]);
    assert_success(&output);
    let told = String::from_utf8(output.stdout).expect("text");
    assert_eq!(told, "200 1\n200 0\n200 0\n");
    bench.dcx.wait_for_count(3);
    assert!(bench.dcx.received().iter().all(|data| data.text() == large));
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let _cmx = bench.extension("cmx", extension::echoes);
    let post = |body: &str, header: &str| {
        let length = body.len();
        format!(
            "POST /kp1/v1/cmx/token-1/echo HTTP/1.1\r\nHost: gate\r\n{header}\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let mut said: String = (0..50).map(|n| post(&format!("<{n}>"), "")).collect();
    said += &post("<last>", "Connection: close\r\n");
    let heard = conversation(doors.address(), said.as_bytes());
    let bodies: Vec<&str> =
        heard.split('<').skip(1).filter_map(|part| part.split('>').next()).collect();
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(bodies, expected);
}

#[test]
fn what_is_refused_has_the_right_status_and_is_counted() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| {
        doors.open(settings);
        settings.set("ringgate.http.body-bytes-max", 2000);
    });
    let error = |status: u16, reason: &str| {
        (status, format!(r#"{{"statusCode":{status},"reasonPhrase":"{reason}"}}"#))
    };
    for (path, expected) in [
        ("/", error(404, "the path does not begin with kp1")),
        ("/kp1/v9/dcx/token-1/json", error(404, "no such application version")),
        (
            "/kp1/v2/cmx/token-1/json",
            error(403, "the application version may not use the instance"),
        ),
        ("/kp1/v1/dcx", error(400, "the path is none of 1/KP")),
        ("/kp1/v1/cex/token-1/nobody-there", error(503, "no extension service listens")),
    ] {
        assert_eq!(answered(&["--data", "x", &doors.url(path)]), expected, "{path}");
    }
    let large = "x".repeat(2001);
    let url = doors.url("/kp1/v1/dcx/token-1/json");
    assert_eq!(answered(&["--data", &large, &url]).0, 413);
    assert_eq!(answered(&[&url]).0, 405, "GET");
    for (said, status) in [
        ("\u{16}\u{3}\u{1}\0\u{5}hello", "400"),
        ("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 10000000000\r\n\r\n", "413"),
        ("POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
    ] {
        let heard = conversation(doors.address(), said.as_bytes());
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{heard}");
    }
    let closed = ["reason=\"http_refused\""];
    bench.gateway.wait_for_metric("ringgate_connections_closed_total", &closed, 6.0);
    assert!(bench.gateway.output().contains("HTTP request refused"));
    assert!(!bench.gateway.output().contains("token-1"), "a token is a secret");
}

#[test]
fn silence_of_an_extension_service_is_504_and_of_a_client_408() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| {
        doors.open(settings);
        settings.set("ringgate.http.answer-timeout-ms", 1000);
        settings.set("ringgate.http.request-timeout-ms", 1000);
    });
    let _cmx = bench.extension("cmx", extension::is_silent);
    let url = doors.url("/kp1/v1/cmx/token-1/json");
    let (status, body) = answered(&["--data", "x", &url]);
    assert_eq!(status, 504);
    assert!(body.contains("no answer from the extension service in time"), "{body}");
    let heard = conversation(doors.address(), b"POST / HTTP/1.1\r\nHost:");
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
}

#[test]
fn nats_away_is_503_at_once_and_service_goes_on_when_it_is_back() {
    let doors = Doors::new();
    let mut bench = Bench::start_with(|settings| doors.open(settings));
    let url = doors.url("/kp1/v1/dcx/token-1/json");
    assert_eq!(answered(&["--data", "x", &url]).0, 200);
    bench.nats.kill();
    bench.gateway.wait_until_unhealthy();
    let (status, body) = answered(&["--data", "x", &url]);
    assert_eq!((status, body.contains("there is no link to NATS")), (503, true), "{body}");
    bench.nats.restart();
    bench.gateway.wait_until_healthy();
    eventually("requests to be answered again", || {
        (answered(&["--data", "x", &url]).0 == 200).then_some(())
    });
}

#[test]
fn a_stopping_gateway_answers_what_it_has_taken() {
    let doors = Doors::new();
    let bench = Bench::start_with(|settings| doors.open(settings));
    let url = doors.url("/kp1/v1/dcx/token-1/json");
    let cmx = bench.extension("cmx", extension::is_silent);
    let mut waiting = TcpStream::connect(doors.address()).expect("connects");
    waiting.set_read_timeout(Some(PATIENCE)).expect("an option");
    let request = "POST /kp1/v1/cmx/token-1/x HTTP/1.1\r\nHost: g\r\n\r\n";
    waiting.write_all(request.as_bytes()).expect("sends");
    cmx.wait_for_count(1);
    assert_eq!(answered(&["--data", "x", &url]).0, 200);
    bench.gateway.signal(libc::SIGTERM);
    let mut heard = String::new();
    waiting.read_to_string(&mut heard).expect("an end, and no reset");
    // Not 503: the message was carried, and may have been processed.
    assert!(heard.starts_with("HTTP/1.1 504 "), "{heard}");
    assert!(heard.contains("the gateway stops"), "{heard}");
}

#[test]
fn tokens_are_asked_about_and_client_certificates_too() {
    let doors = Doors::new();
    let bench = Secured::start_with(|settings| doors.open(settings));
    let (good, bad) = (secret("good"), secret("bad"));
    bench.provider.token("demo", &good, "endpoint-1");
    bench.provider.certificate("acme", &doors.clients.issuer_name(), "7", "pump-7");
    let ca = path(&doors.ca.file);
    let post = |url: String, shown: Option<&Files>| {
        let mut arguments =
            vec!["--data".to_owned(), "x".to_owned(), "--cacert".into(), ca.clone()];
        if let Some(files) = shown {
            arguments.extend(["--cert".into(), path(&files.chain)]);
            arguments.extend(["--key".into(), path(&files.key)]);
        }
        arguments.push(url);
        answered(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let path_of = |token: &str| format!("/kp1/v1/dcx/{token}/json");
    assert_eq!(post(doors.url(&path_of(&good)), None).0, 200);
    assert_eq!(bench.dcx.take().endpoint_id.as_deref(), Some("endpoint-1"));
    assert_eq!(post(doors.url(&path_of(&bad)), None).0, 404);
    assert_eq!(post(doors.tls_url(&path_of(&good)), Some(&doors.clients.client(7))).0, 200);
    assert!(bench.provider.asked().iter().any(|asked| asked.kind == Kind::CapCertificate));
    let (status, body) = post(doors.tls_url(&path_of(&good)), Some(&doors.clients.client(8)));
    assert_eq!(status, 401, "{body}");
}
