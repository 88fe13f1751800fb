//! Against the management interface and the store that the command is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ringgate::admin::{Admin, Change, CredentialsApi, Health};
use ringgate::auth::{
    CertificateName, Demands, EndpointGrant, LaidDown, Method, Question, Requirement, Revocation,
    Verdict, certificate_name,
};
use ringgate::config::Secret;
use ringgate::credentials::{Credentials, MANAGEMENT_TOKEN_FILE_NAME, management_token};
use ringgate::telemetry::exposition::Metrics;
use ringgate::telemetry::{ControlCounters, LinkStatus};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::place::Place;

/// Changes that wait to be looked at; more than one test makes.
const CHANGES_MAX: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// A store with its management interface.
struct Gateway {
    place: Place,
    credentials: Credentials,
    changes: mpsc::Receiver<Change>,
}

impl Gateway {
    fn start() -> Self {
        let place = Place::new(0);
        let credentials = Credentials::open(&place.folder).expect("opens");
        let bearer =
            management_token(&place.folder.join(MANAGEMENT_TOKEN_FILE_NAME)).expect("is made");
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let api = CredentialsApi {
            credentials: credentials.clone(),
            bearer,
            changes: sender,
            configured: Box::new(|_| Demands { mqtt_tcp: Requirement::Any, ..Demands::default() }),
        };
        let (ready, address) = std::sync::mpsc::channel();
        // Ends with the process: an interface has no end of its own.
        std::thread::spawn(move || {
            runtime().block_on(async {
                let admin = admin(api);
                ready.send(admin.local_addr()).expect("is waited for");
                admin.run().await;
            });
        });
        place.configure(address.recv().expect("listens").port());
        Self { place, credentials, changes }
    }

    fn good(&self, arguments: &[&str]) -> String {
        self.place.good(arguments)
    }

    /// What a command answers in JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.good(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).expect("is JSON")
    }

    /// Why a command comes to nothing.
    fn bad(&self, arguments: &[&str]) -> String {
        let run = self.place.run(arguments);
        assert_eq!((run.code, &*run.out), (Some(1), ""), "{arguments:?}");
        run.err
    }

    /// What has been told next.
    fn change(&mut self) -> Change {
        let changes = &mut self.changes;
        let next =
            runtime().block_on(async { tokio::time::timeout(PATIENCE, changes.recv()).await });
        next.expect("comes in time").expect("the interface runs")
    }

    fn lets_in(&self, tenant: &str, username: &str, password: &str) -> bool {
        let (tenant, username) = (tenant.into(), username.into());
        let question = Question::Basic { tenant, username, password: Secret::new(password) };
        matches!(self.credentials.answer(&question), Verdict::Client(_))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn admin(api: CredentialsApi) -> Admin {
    let health = Arc::new(Health::new(Vec::new(), Arc::new(LinkStatus::new())));
    let metrics = Metrics::new(Vec::new(), Arc::new(ControlCounters::default()));
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    Admin::bind(address, health, metrics, Some(api), Vec::new()).expect("listens")
}

/// What stands behind `label` in what was printed.
fn shown<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in {text}")).trim()
}

fn client_revoked(method: Method, id: &str) -> Change {
    let (tenant, method) = (Some("acme".into()), Some(method));
    Change::Revoked(Revocation::Client { tenant, method, credentials_id: id.into() })
}

#[test]
fn a_client_is_let_in_until_it_is_suspended_or_revoked() {
    let mut gateway = Gateway::start();
    let made = gateway.good(&["basic", "create", "pump@acme"]);
    let first = shown(&made, "Password (shown only now):");
    let record = gateway.json(&["basic", "show", "pump@acme"]);
    let id = record["id"].as_str().expect("is text").to_owned();
    assert_eq!(record["state"], "Inactive");
    let too_early = gateway.bad(&["basic", "revoke", "pump@acme"]);
    assert!(too_early.contains("have not been used yet"), "{too_early}");

    assert!(gateway.lets_in("acme", "pump", first));
    assert!(gateway.good(&["basic", "show", &id]).contains("Active"));
    gateway.good(&["basic", "suspend", "pump@acme"]);
    assert_eq!(gateway.change(), client_revoked(Method::Basic, &id));
    assert!(!gateway.lets_in("acme", "pump", first));
    gateway.good(&["basic", "activate", &id]);
    assert!(gateway.lets_in("acme", "pump", first));

    let made = gateway.good(&["basic", "reset-password", "pump@acme"]);
    assert_eq!(gateway.change(), client_revoked(Method::Basic, &id));
    let second = shown(&made, "Password (shown only now):");
    assert!(!gateway.lets_in("acme", "pump", first) && gateway.lets_in("acme", "pump", second));
    let revoked = gateway.good(&["basic", "revoke", "pump@acme"]);
    assert_eq!(revoked, format!("Revoked, for ever: basic credentials {id} (pump@acme).\n"));
    assert!(!gateway.lets_in("acme", "pump", second));
    let list = gateway.good(&["basic", "list", "--state", "revoked", "--tenant", "acme"]);
    assert!(list.contains(&id), "{list}");
    gateway.good(&["basic", "delete", "pump@acme"]);
    let gone = gateway.bad(&["basic", "show", &id]);
    assert_eq!(gone, "ringgate: there are no credentials with this id\n");
}

#[test]
fn a_password_and_a_token_of_ones_own_are_taken_from_standard_input() {
    let gateway = Gateway::start();
    let run = gateway.place.run_with_input(
        &["basic", "create", "pump", "--tenant", "acme", "--password-stdin"],
        "c0rrect horse\n",
    );
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(!run.out.contains("horse") && gateway.lets_in("acme", "pump", "c0rrect horse"));
    let reset = ["basic", "reset-password", "pump@acme", "--password-stdin"];
    assert_eq!(gateway.place.run_with_input(&reset, "battery").code, Some(0));
    assert!(gateway.lets_in("acme", "pump", "battery"));
    let create = ["token", "create", "--app", "demo", "--endpoint", "ep-1", "--token-stdin"];
    assert_eq!(gateway.place.run_with_input(&create, "st4ple\n").code, Some(0));
    let again = gateway.place.run_with_input(&create, "st4ple\n");
    assert_eq!(again.code, Some(1), "the application has it already");
    assert!(!again.err.contains("st4ple"), "{}", again.err);
}

#[test]
fn a_token_stands_for_its_endpoint_until_it_is_deleted() {
    let mut gateway = Gateway::start();
    let create = ["token", "create", "--app", "demo", "--endpoint", "ep 1/ä"];
    let made = gateway.json(&create);
    let text = |name: &str| made[name].as_str().expect("is text");
    let (id, token) = (text("id"), text("token"));
    let question = Question::Token { app: "demo".into(), token: Secret::new(token) };
    let (endpoint_id, token_id) = ("ep 1/ä".into(), Some(id.into()));
    let grant = Verdict::Endpoint(EndpointGrant { endpoint_id, token_id });
    assert_eq!(gateway.credentials.answer(&question), grant);
    gateway.good(&create);
    let list = ["token", "list", "--app", "demo", "--endpoint", "ep 1/ä", "--order", "asc"];
    let page = gateway.json(&[&list[..], &["--limit", "1"]].concat());
    assert_eq!((&page["content"][0]["id"], &page["total"]), (&made["id"], &Value::from(2)));
    let hint = gateway.good(&["token", "list", "--limit", "1"]);
    assert!(hint.ends_with("\n1 of 2; the next: --offset 1\n"), "{hint}");
    gateway.good(&["token", "delete", id]);
    let (app, endpoint_id) = ("demo".into(), "ep 1/ä".into());
    let revocation = Revocation::Tokens { app, endpoint_id, token_ids: vec![id.into()] };
    assert_eq!(gateway.change(), Change::Revoked(revocation));
    assert!(matches!(gateway.credentials.answer(&question), Verdict::Rejected(_)));
    let bad = gateway.bad(&["token", "list", "--limit", "0"]);
    assert!(bad.contains("limit must be"), "{bad}");
}

#[test]
fn a_certificate_is_known_by_the_name_its_file_has() {
    let mut gateway = Gateway::start();
    gateway.good(&["cert", "issue", "--tenant", "acme", "--cn", "pump 1", "--out", "pump"]);
    let records = gateway.json(&["cert", "list", "--tenant", "acme"]);
    let record = &records["content"][0];
    let text = |name: &str| record[name].as_str().expect("is text");
    let name =
        CertificateName { issuer: text("issuer").into(), serial: text("serialNumber").into() };
    let pem = gateway.place.read("pump/client.crt");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("is a certificate");
    assert_eq!(certificate_name(&der).expect("has a name"), name);
    assert_eq!(gateway.place.read("pump/ca.pem"), gateway.good(&["root-certificate"]));
    assert!(gateway.place.read("pump/client.key").contains("PRIVATE KEY"));

    let question = Question::Certificate { name, details: None };
    assert!(matches!(gateway.credentials.answer(&question), Verdict::Client(_)));
    gateway.good(&["cert", "revoke", text("id")]);
    assert_eq!(gateway.change(), client_revoked(Method::Certificate, text("id")));
    assert!(matches!(gateway.credentials.answer(&question), Verdict::Rejected(_)));
    let refused = gateway.bad(&["cert", "issue", "--ttl-days", "100000", "--out", "pump2"]);
    assert!(refused.contains("valid for 1 to 3650 days"), "{refused}");
}

#[test]
fn a_signing_request_becomes_a_certificate() {
    let gateway = Gateway::start();
    let key = rcgen::KeyPair::generate().expect("generates");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "pump 2");
    let request = params.serialize_request(&key).expect("signs").pem().expect("is PEM");
    gateway.place.write("r.csr", &request);
    let sign = ["cert", "sign", "--tenant", "acme", "--csr", "r.csr", "--ttl-days", "7"];
    let made = gateway.json(&sign);
    assert_eq!((&made["commonName"], &made["privateKey"]), (&"pump 2".into(), &Value::Null));
    gateway.place.write("r.csr", "no request");
    let refused = gateway.bad(&sign);
    assert!(refused.contains("the signing request is refused: it is not in PEM"), "{refused}");
}

#[test]
fn what_a_tenant_demands_is_told_to_the_gateway() {
    let mut gateway = Gateway::start();
    let enforce = ["enforce", "--tenant", "acme"];
    let configured = gateway.good(&enforce);
    assert_eq!(configured.matches("So the configuration says.\n").count(), 4, "{configured}");
    let set = gateway.good(&[&enforce[..], &["--mqtt-tcp", "basic"]].concat());
    assert!(set.contains("plain MQTT need a user name and a password.\n"), "{set}");
    let change = |mqtt_tcp, mqtt_tls| {
        let demands = LaidDown { mqtt_tcp, mqtt_tls, ..LaidDown::default() };
        Change::Enforcement { tenant: "acme".into(), demands }
    };
    assert_eq!(gateway.change(), change(Some(Requirement::Basic), None));
    assert_eq!(gateway.good(&enforce), set);
    let set = gateway.good(&[&enforce[..], &["--mqtt-tls", "certificate"]].concat());
    assert!(set.contains("plain MQTT need a user name and a password.\n"), "stays: {set}");
    assert!(set.contains("MQTT over TLS need a certificate.\n"), "{set}");
    let both = change(Some(Requirement::Basic), Some(Requirement::Certificate));
    assert_eq!(gateway.change(), both);
    let set = gateway.good(&[&enforce[..], &["--mqtt-ws", "any", "--http", "any"]].concat());
    assert!(set.contains("HTTP need a user name and a password, or a certificate.\n"), "{set}");
    let Change::Enforcement { demands, .. } = gateway.change() else { panic!("no demand") };
    assert_eq!((demands.mqtt_ws, demands.http), (Some(Requirement::Any), Some(Requirement::Any)));
    assert_eq!(demands.mqtt_tls, Some(Requirement::Certificate), "stays");
    let refused = gateway.bad(&[&enforce[..], &["--http", "basic"]].concat());
    assert!(refused.contains("no user names and passwords over HTTP"), "{refused}");
    let default =
        ["mqtt-tcp", "mqtt-tls", "mqtt-ws", "http"].map(|name| format!("--{name}=default"));
    let default: Vec<&str> = default.iter().map(String::as_str).collect();
    let unset = gateway.good(&[&enforce[..], &default].concat());
    assert_eq!((gateway.change(), unset), (change(None, None), configured));
}

#[test]
fn another_token_is_refused_and_told_so() {
    let gateway = Gateway::start();
    gateway.place.write("management-token", "an0ther\n");
    let refused = gateway.bad(&["token", "list"]);
    assert!(refused.contains("is not that of the ringgate at 127.0.0.1:"), "{refused}");
    assert!(!refused.contains("an0ther"), "{refused}");
}
