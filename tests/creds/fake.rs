//! Against a management interface that says what it is told to.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::place::Place;

const TOKEN: &str = "t0ken-of-management";

/// An answer: its status and body.
type Answer = (u16, String);

/// A management interface: answers its requests in turn, and remembers them.
struct Fake {
    place: Place,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Deref for Fake {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Fake {
    fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let place = Place::new(listener.local_addr().expect("an address").port());
        place.write("management-token", &format!("{TOKEN}\n"));
        let fake = Self { place, requests: Arc::default() };
        let (requests, mut answers) = (fake.requests.clone(), answers.into_iter().collect());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                attend(stream, &requests, &mut answers);
            }
        });
        fake
    }

    /// Requests since the last look.
    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.requests.lock().expect("is whole"))
    }

    fn asked_once(&self) -> (String, Value) {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }
}

fn attend(
    mut stream: TcpStream,
    requests: &Mutex<Vec<(String, Value)>>,
    answers: &mut VecDeque<Answer>,
) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                break (head.to_owned(), body.to_owned());
            }
        }
        match stream.read(&mut chunk).expect("reads") {
            0 => return,
            count => bytes.extend_from_slice(&chunk[..count]),
        }
    };
    assert!(head.contains(&format!("authorization: Bearer {TOKEN}")), "{head}");
    let line = head.lines().next().expect("a line").trim_end_matches(" HTTP/1.1").to_owned();
    let body = serde_json::from_str(&body).unwrap_or_default();
    requests.lock().expect("is whole").push((line, body));
    let (status, body) = answers.pop_front().unwrap_or((500, "{}".into()));
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).expect("writes");
}

fn ok(body: Value) -> Answer {
    (200, body.to_string())
}

fn token(id: &str, state: &str) -> Value {
    json!({
        "id": id, "state": state, "appName": "demo", "endpointId": "ep 1",
        "createdDate": "2026-01-02T03:04:05.678Z", "updatedDate": "2026-01-02T03:04:05.678Z",
    })
}

fn basic(id: &str, username: &str) -> Value {
    json!({
        "id": id, "state": "Active", "tenantId": "acme", "username": username,
        "createdDate": "2026-01-02T03:04:05.678Z", "updatedDate": "2026-01-02T03:04:05.678Z",
        "lastUseDate": "2026-02-03T04:05:06.789Z",
    })
}

fn certificate() -> Value {
    json!({
        "id": "c1", "state": "Inactive", "tenantId": "acme", "commonName": "pump 1",
        "issuer": "CN=acme", "serialNumber": "255", "notAfter": "2027-01-02T03:04:05.000Z",
        "createdDate": "2026-01-02T03:04:05.678Z", "updatedDate": "2026-01-02T03:04:05.678Z",
    })
}

fn with(mut record: Value, name: &str, value: &str) -> Value {
    record[name] = value.into();
    record
}

#[test]
fn a_token_is_created_and_shown_once() {
    let made = with(token("t1", "Inactive"), "token", "s3cret");
    let fake = Fake::start([ok(made.clone()), ok(made.clone())]);
    let create = ["token", "create", "--app", "demo", "--endpoint", "ep 1/ä"];
    assert_eq!(
        fake.good(&create),
        "Created endpoint token t1 (endpoint ep 1 of application demo).\n\
         Token (shown only now): s3cret\n"
    );
    let body = json!({ "appName": "demo" });
    assert_eq!(fake.asked_once(), ("POST /api/v1/endpoints/ep%201%2F%C3%A4/tokens".into(), body));
    let run = fake.run_with_input(&[&create[..], &["--token-stdin"]].concat(), "s3cret\n");
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!run.out.contains("s3cret"), "who gives it knows it: {}", run.out);
    assert_eq!(fake.asked_once().1, json!({ "appName": "demo", "token": "s3cret" }));
}

#[test]
fn lists_are_tables_with_a_hint_of_what_follows() {
    let page = json!({ "content": [token("t1", "Active"), token("t22", "Suspended")], "total": 3 });
    let empty = json!({ "content": [], "total": 0 });
    let fake = Fake::start([ok(page), ok(empty.clone()), ok(empty)]);
    assert_eq!(
        fake.good(&["token", "list"]),
        "ID   STATE      APPLICATION  ENDPOINT  CREATED (UTC)        LAST USE (UTC)\n\
         t1   Active     demo         ep 1      2026-01-02 03:04:05\n\
         t22  Suspended  demo         ep 1      2026-01-02 03:04:05\n\
         \n\
         2 of 3; the next: --offset 2\n"
    );
    let asked = fake.asked_once().0;
    assert_eq!(asked, "GET /api/v1/endpoint-tokens?offset=0&limit=20&order=DESC");
    let list = ["basic", "list", "--tenant", "a&b", "--state", "active", "--state", "Revoked"];
    let part = ["--offset", "5", "--limit", "7", "--order", "asc"];
    assert_eq!(fake.good(&[&list[..], &part].concat()), "There are no such basic credentials.\n");
    let query = "offset=5&limit=7&order=ASC&state=Active&state=Revoked&tenantId=a%26b";
    assert_eq!(fake.asked_once().0, format!("GET /api/v1/basic-credentials?{query}"));
    assert_eq!(fake.good(&["cert", "list"]), "There are no such certificates.\n");
}

#[test]
fn every_kind_is_suspended_activated_revoked_and_deleted() {
    let kinds = [
        ("token", "endpoint-tokens", "endpoint token", "t1 (endpoint ep 1 of application demo)"),
        ("basic", "basic-credentials", "basic credentials", "b1 (pump@acme)"),
        ("cert", "x509-credentials", "certificate", "c1 (pump 1 of tenant acme)"),
    ];
    let records = [token("t1", "Active"), basic("b1", "pump"), certificate()];
    for ((kind, path, noun, title), record) in kinds.into_iter().zip(records) {
        let gone = (204, String::new());
        let fake = Fake::start([ok(record.clone()), ok(record.clone()), ok(record), gone]);
        for (step, done) in
            [("suspend", "Suspended"), ("activate", "Activated"), ("revoke", "Revoked, for ever:")]
        {
            assert_eq!(fake.good(&[kind, step, "x/1"]), format!("{done} {noun} {title}.\n"));
            let asked = fake.asked_once();
            assert_eq!(asked, (format!("POST /api/v1/{path}/x%2F1/{step}"), json!({})));
        }
        assert_eq!(fake.good(&[kind, "delete", "x/1"]), format!("Deleted {noun} x/1.\n"));
        assert_eq!(fake.asked_once().0, format!("DELETE /api/v1/{path}/x%2F1"));
    }
}

#[test]
fn basic_credentials_are_created_for_the_tenant_behind_the_name() {
    let made = with(basic("b1", "pump"), "password", "s3cret");
    let fake = Fake::start((0..4).map(|_| ok(made.clone())));
    assert_eq!(
        fake.good(&["basic", "create", "pump@acme"]),
        "Created basic credentials b1 (pump@acme).\n\
         MQTT user name: pump@acme\nPassword (shown only now): s3cret\n"
    );
    let asked = |fake: &Fake| fake.asked_once().1;
    assert_eq!(asked(&fake), json!({ "tenantId": "acme", "username": "pump" }));
    fake.good(&["basic", "create", "pump"]);
    assert_eq!(asked(&fake), json!({ "tenantId": "default", "username": "pump" }));
    fake.good(&["basic", "create", "pump@site", "--tenant", "acme"]);
    assert_eq!(asked(&fake), json!({ "tenantId": "acme", "username": "pump@site" }));
    let run = fake.run_with_input(&["basic", "create", "a@b@c", "--password-stdin"], "s3cret\r\n");
    assert!(!run.out.contains("s3cret"), "{}", run.out);
    let body = json!({ "tenantId": "c", "username": "a@b", "password": "s3cret" });
    assert_eq!(asked(&fake), body);
}

#[test]
fn basic_credentials_are_found_by_user_name_and_tenant() {
    let first = json!({ "content": [basic("b1", "pump-1")], "total": 1_001 });
    let second = json!({ "content": [basic("b2", "pump")], "total": 1_001 });
    let reset = with(basic("b2", "pump"), "password", "s3cret");
    let none = json!({ "content": [], "total": 0 });
    let fake = Fake::start([ok(first), ok(second), ok(reset), ok(none)]);
    assert_eq!(
        fake.good(&["basic", "reset-password", "pump@acme"]),
        "The password of pump@acme is another one now.\nPassword (shown only now): s3cret\n"
    );
    let lines: Vec<String> = fake.asked().into_iter().map(|(line, _)| line).collect();
    assert_eq!(
        lines,
        [
            "GET /api/v1/basic-credentials?tenantId=acme&offset=0&limit=1000",
            "GET /api/v1/basic-credentials?tenantId=acme&offset=1000&limit=1000",
            "POST /api/v1/basic-credentials/b2/password",
        ]
    );
    let run = fake.run(&["basic", "revoke", "pump@acme"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("there is no user name pump in tenant acme"), "{}", run.err);
}

#[test]
fn a_certificate_is_written_into_files_for_its_owner_alone() {
    let key = "-----BEGIN PRIVATE KEY-----\ns3cret\n";
    let made = with(with(certificate(), "certificateChain", "CHAIN\n"), "privateKey", key);
    let root = || (200, "ROOT\n".to_owned());
    let fake = Fake::start([root(), ok(made.clone()), root(), ok(made.clone()), ok(made)]);
    let issue = ["cert", "issue", "--tenant", "acme", "--cn", "pump 1", "--ttl-days", "7"];
    let out = fake.good(&[&issue[..], &["--out", "a/b"]].concat());
    assert_eq!(
        out,
        "Made certificate c1 (pump 1 of tenant acme).\n\
         It is valid until 2027-01-02 03:04:05 UTC.\n\
         Written to a/b: client.crt, client.key, ca.pem\n"
    );
    let body = json!({ "tenantId": "acme", "commonName": "pump 1", "ttlDays": 7 });
    let asked = fake.asked();
    assert_eq!(asked[0].0, "GET /api/v1/certificates/root");
    assert_eq!(asked[1], ("POST /api/v1/x509-credentials".into(), body));
    for (name, text) in [("client.crt", "CHAIN\n"), ("client.key", key), ("ca.pem", "ROOT\n")] {
        assert_eq!(fake.read(&format!("a/b/{name}")), text);
        let mode = fs::metadata(fake.folder.join("a/b").join(name)).expect("is there");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{name}");
    }
    // A second time there, nothing is issued: the first key stays.
    let run = fake.run(&[&issue[..], &["--out", "a/b"]].concat());
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("nothing was issued"), "{}", run.err);
    assert!(fake.asked().is_empty());
    assert_eq!(fake.read("a/b/client.key"), key);
    let out = fake.good(&[&issue[..], &["--out", "c", "--json"]].concat());
    assert!(!out.contains("s3cret") && fake.read("c/client.key") == key, "{out}");
    let out = fake.good(&issue);
    assert!(out.ends_with(&format!("CHAIN\nPrivate key (shown only now):\n{key}")), "{out}");
}

#[test]
fn no_file_is_left_when_nothing_is_issued() {
    let refused = json!({ "reasonPhrase": "a certificate is valid for 1 to 3650 days, not 0" });
    let fake = Fake::start([(200, "ROOT\n".into()), (400, refused.to_string())]);
    let run = fake.run(&["cert", "issue", "--ttl-days", "0", "--out", "a"]);
    assert_eq!((run.code, &*run.out), (Some(1), ""));
    assert_eq!(run.err, "ringgate: a certificate is valid for 1 to 3650 days, not 0\n");
    let left: Vec<_> = fs::read_dir(fake.folder.join("a")).expect("is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_signing_request_is_sent_from_a_file_or_standard_input_but_never_a_key() {
    let made = with(certificate(), "certificateChain", "CHAIN\n");
    let fake = Fake::start([ok(made.clone()), ok(made)]);
    fake.write("r.csr", "REQUEST\n");
    let out = fake.good(&["cert", "sign", "--csr", "r.csr"]);
    assert!(out.ends_with("Certificate chain:\nCHAIN\n"), "{out}");
    let body = json!({ "tenantId": "default", "csr": "REQUEST\n" });
    assert_eq!(fake.asked_once(), ("POST /api/v1/x509-credentials".into(), body.clone()));
    let run = fake.run_with_input(&["cert", "sign", "--csr", "-"], "REQUEST\n");
    assert_eq!((run.code, fake.asked_once().1), (Some(0), body));
    let key = "-----BEGIN PRIVATE KEY-----\ns3cret\n";
    let run = fake.run_with_input(&["cert", "sign", "--csr", "-"], key);
    assert!(run.code == Some(1) && run.err.contains("has a private key in it"), "{}", run.err);
    assert!(fake.asked().is_empty());
}

#[test]
fn the_root_certificate_is_printed_as_it_is() {
    let fake = Fake::start([(200, "ROOT\n".to_owned()), ok(json!({ "certificate": "ROOT\n" }))]);
    for _ in 0..2 {
        assert_eq!(fake.good(&["root-certificate"]), "ROOT\n");
        assert_eq!(fake.asked_once().0, "GET /api/v1/certificates/root");
    }
}

#[test]
fn what_a_tenant_demands_is_shown_set_and_left_to_the_configuration() {
    let is = |tcp: &str, http: &str, source: &str| {
        let source = json!({ "mqttTcp": "management", "http": source });
        ok(json!({ "mqttTcp": tcp, "http": http, "source": source }))
    };
    let fake = Fake::start([
        is("none", "certificate", "configuration"),
        is("basic", "any", "management"),
        is("any", "none", "management"),
    ]);
    let enforce = ["enforce", "--tenant", "ac me"];
    let set = |words: &[&'static str]| [&enforce[..], words].concat();
    let path = "/api/v1/tenants/ac%20me/authentication";
    let said = |tcp: &str, http: &str| {
        let clients = "Clients of tenant ac me that come by";
        format!("{clients} plain MQTT {tcp}.\n{clients} HTTP {http}.\n")
    };
    let configured = "need a certificate. So the configuration says";
    assert_eq!(fake.good(&enforce), said("need not prove who they are", configured));
    assert_eq!(fake.asked_once().0, format!("GET {path}"));
    let any = "need a user name and a password, or a certificate";
    let basic = "need a user name and a password";
    assert_eq!(fake.good(&set(&["--mqtt-tcp", "basic"])), said(basic, any));
    assert_eq!(fake.asked_once(), (format!("PUT {path}"), json!({ "mqttTcp": "basic" })));
    let all =
        ["--mqtt-tcp", "any", "--mqtt-tls", "none", "--mqtt-ws", "basic", "--http", "default"];
    assert_eq!(fake.good(&set(&all)), said(any, "need not prove who they are"));
    let asked =
        json!({ "mqttTcp": "any", "mqttTls": "none", "mqttWs": "basic", "http": "default" });
    assert_eq!(fake.asked_once(), (format!("PUT {path}"), asked));
}

#[test]
fn json_is_what_the_interface_answers() {
    let page = json!({ "content": [token("t1", "Active")], "total": 1, "more": true });
    let made = with(basic("b1", "pump"), "password", "s3cret");
    let fake = Fake::start([ok(page.clone()), ok(made.clone()), (204, String::new())]);
    let json = |text: String| serde_json::from_str::<Value>(&text).expect("is JSON");
    assert_eq!(json(fake.good(&["--json", "token", "list"])), page);
    assert_eq!(json(fake.good(&["basic", "create", "pump", "--json"])), made);
    assert_eq!(json(fake.good(&["basic", "delete", "b1", "--json"])), Value::Null);
}

#[test]
fn a_record_is_shown_field_by_field() {
    let fake = Fake::start([ok(certificate())]);
    let out = fake.good(&["cert", "show", "c1"]);
    let head = "id:             c1\nstate:          Inactive\ntenant id:      acme\n";
    assert!(out.starts_with(head), "{out}");
    assert!(out.contains("\nnot after:      2027-01-02 03:04:05 UTC\n"), "{out}");
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let conflict = json!({ "reasonPhrase": "they have not been used yet" }).to_string();
    let answers = [(409, conflict), (401, "{}".into()), (404, "x".into()), (200, "x".into())];
    let fake = Fake::start(answers);
    let told = |fake: &Fake, expected: &str| {
        let run = fake.run(&["token", "suspend", "t1"]);
        assert_eq!((run.code, &*run.out), (Some(1), ""));
        assert!(run.err.contains(expected) && !run.err.contains(TOKEN), "{}", run.err);
    };
    told(&fake, "ringgate: they have not been used yet\n");
    told(&fake, "management-token is not that of the ringgate at 127.0.0.1:");
    told(&fake, "manages no credentials: none of its providers is internal");
    told(&fake, "is not the ringgate of this version");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    fake.configure(port);
    told(
        &fake,
        &format!(
            "ringgate is not running at 127.0.0.1:{port}: start it, or name its configuration \
             with --config"
        ),
    );
    fs::remove_file(fake.folder.join("management-token")).expect("removes");
    told(&fake, "ringgate makes one when it first starts");
}

#[test]
fn a_secret_on_standard_input_must_be_there_and_fit() {
    let fake = Fake::start([]);
    for (input, expected) in [
        ("", "there is no password on standard input"),
        ("\n", "there is no password on standard input"),
        (&*"s3cret".repeat(1_000), "the password has more than 4096 bytes"),
    ] {
        let run = fake.run_with_input(&["basic", "create", "pump", "--password-stdin"], input);
        assert_eq!(run.code, Some(1));
        assert!(run.err.contains(expected) && !run.err.contains("s3cret"), "{}", run.err);
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_bad_command_line_or_configuration_is_another_code() {
    let fake = Fake::start([]);
    assert_eq!(fake.run(&["token", "create", "--app", "demo"]).code, Some(2));
    assert_eq!(fake.run(&["enforce", "--tenant", "a", "--mqtt-tcp", "nothing"]).code, Some(2));
    fake.write("config.yml", "x: 1");
    let run = fake.run(&["token", "list"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("the configuration is refused"), "{}", run.err);
}
