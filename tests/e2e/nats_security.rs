//! The ways to reach a NATS server that does not let everybody in.

use std::path::{Path, PathBuf};
use std::process::Command;

use async_nats::ConnectOptions;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::harness::device::Device;
use crate::harness::extension::{self, Extension, ExtensionData};
use crate::harness::gateway::{Gateway, Settings};
use crate::harness::nats::Nats;
use crate::harness::packet::{Connect, V311};
use crate::harness::{TempDir, find_tool};

/// A request and its answer, and a push: both of the gateway's links to NATS are in use.
fn assert_traffic(nats: &Nats, options: ConnectOptions, adjust: impl FnOnce(&mut Settings)) {
    let dcx = Extension::start_with(options, &nats.url(), "dcx", extension::collects_data);
    let gateway = Gateway::start(&nats.url(), adjust);
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    let answer = device.request("kp1/v1/dcx/token-1/json/1", "[]", 1);
    assert_eq!(answer.topic, "kp1/v1/dcx/token-1/json/1/status");
    gateway.wait_for_metric("ringgate_directory_endpoints", &[], 1.0);
    dcx.push(&ExtensionData::push("cmx", "token-1", "/config/json", "{}"));
    assert_eq!(device.receive_publish().text(), "{}");
    assert!(!gateway.output().contains("hunter2"), "a secret is in the log");
}

/// The gateway runs, says why it is not well, and does not say the secret.
fn assert_refused(nats: &Nats, adjust: impl FnOnce(&mut Settings)) {
    let gateway = Gateway::spawn(&nats.url(), adjust);
    let health = gateway.wait_until_unhealthy();
    assert!(health.body.contains("NATS"), "{health:?}");
    let mut device = Device::connected(gateway.mqtt, Connect::new(V311, "device-1")).0;
    device.ping();
    assert_eq!(gateway.wait_until_unhealthy().status, 500);
    assert!(!gateway.output().contains("hunter2"), "a secret is in the log");
}

#[test]
fn user_and_password() {
    let nats = Nats::start_with(&["--user", "somebody", "--pass", "hunter2"]);
    let options =
        || ConnectOptions::with_user_and_password("somebody".to_owned(), "hunter2".to_owned());
    assert_traffic(&nats, options(), |settings| {
        settings.set("ringgate.nats.username", "somebody");
        settings.set("ringgate.nats.password", "hunter2");
    });
    let inside = format!("nats://somebody:hunter2@{}", nats.address());
    assert_traffic(&nats, options(), |settings| {
        settings.set("ringgate.nats.urls", vec![inside]);
    });
    assert_traffic(&nats, options(), |settings| {
        settings.environment("NATS_USERNAME", "somebody");
        settings.environment("NATS_PASSWORD", "hunter2");
    });
    assert_refused(&nats, |settings| {
        settings.set("ringgate.nats.username", "somebody");
        settings.set("ringgate.nats.password", "hunter2-wrong");
    });
    assert_refused(&nats, |_| {});
}

#[test]
fn token() {
    let nats = Nats::start_with(&["--auth", "hunter2"]);
    let options = ConnectOptions::with_token("hunter2".to_owned());
    assert_traffic(&nats, options, |settings| settings.set("ringgate.nats.token", "hunter2"));
    assert_refused(&nats, |settings| settings.set("ringgate.nats.token", "wrong"));
}

#[test]
fn nkey() {
    let user = KeyPair::new_user();
    let seed = user.seed().expect("a key pair of ours has its seed");
    let configuration =
        format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", user.public_key());
    let nats = Nats::start_configured(TempDir::new(), &configuration);
    let file = nats.dir().file("user.nk", &format!("{seed}\n"));
    assert_traffic(&nats, ConnectOptions::with_nkey(seed), |settings| {
        settings.set("ringgate.nats.nkey-seed-file", path(&file));
    });
    let other = KeyPair::new_user().seed().expect("a seed");
    let file = nats.dir().file("other.nk", &other);
    assert_refused(&nats, |settings| {
        settings.set("ringgate.nats.nkey-seed-file", path(&file));
    });
}

#[test]
fn credentials_file() {
    let operator = KeyPair::new_operator();
    let account = KeyPair::new_account();
    let user = KeyPair::new_user();
    let operator_jwt = jwt(&operator, &operator, "operator", json!({}));
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1,
    });
    let account_jwt = jwt(&operator, &account, "account", json!({ "limits": limits }));
    let user_limits = json!({ "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {} });
    let user_jwt = jwt(&account, &user, "user", user_limits);
    let configuration = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}\n",
        account.public_key(),
    );
    let nats = Nats::start_configured(TempDir::new(), &configuration);
    let seed = user.seed().expect("a key pair of ours has its seed");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         ************************* IMPORTANT *************************\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
         *************************************************************\n"
    );
    let file = nats.dir().file("user.creds", &text);
    let options = ConnectOptions::with_credentials(&text).expect("well-formed credentials");
    assert_traffic(&nats, options, |settings| {
        settings.set("ringgate.nats.credentials-file", path(&file));
    });
}

/// A NATS JWT of `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut claims: Value) -> String {
    claims["type"] = kind.into();
    claims["version"] = 2.into();
    let body = json!({
        "jti": format!("{kind}-of-the-tests"),
        "iat": extension::now_ms() / 1000,
        "iss": issuer.public_key(),
        "name": kind,
        "sub": subject.public_key(),
        "nats": claims,
    });
    let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(body));
    let signature = issuer.sign(signed.as_bytes()).expect("a key pair of ours signs");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A certificate authority, and certificates of it for the server and for a client.
struct Certificates {
    dir: TempDir,
}

impl Certificates {
    fn make() -> Self {
        let dir = TempDir::new();
        let certificates = Self { dir };
        certificates.authority();
        certificates.issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost");
        certificates.issue("client", "extendedKeyUsage=clientAuth");
        certificates
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn authority(&self) {
        let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                         -subj /CN=tests -days 2 -keyout ca.key -out ca.pem";
        self.openssl(arguments);
    }

    fn issue(&self, name: &str, extensions: &str) {
        let text = format!("basicConstraints=CA:FALSE\n{extensions}\n");
        self.dir.file(&format!("{name}.ext"), &text);
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} \
             -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
             -extfile {name}.ext -out {name}.pem"
        ));
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new(find_tool("TEST_OPENSSL", "openssl", &[]))
            .args(arguments.split_whitespace())
            .current_dir(self.dir.path())
            .output()
            .expect("openssl runs");
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    }

    /// A server with these certificates and `more` in its `tls` block.
    fn nats(&self, more: &str) -> Nats {
        let configuration = format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, {more} }}\n",
            self.file("server.pem"),
            self.file("server.key"),
            self.file("ca.pem"),
        );
        Nats::start_configured_as(TempDir::new(), &configuration, "tls")
    }

    fn options(&self) -> ConnectOptions {
        ConnectOptions::new()
            .add_root_certificates(self.file("ca.pem"))
            .add_client_certificate(self.file("client.pem"), self.file("client.key"))
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn tls() {
    let certificates = Certificates::make();
    let nats = certificates.nats("");
    let ca_file = path(&certificates.file("ca.pem"));
    assert_traffic(&nats, certificates.options(), |settings| {
        settings.set("ringgate.nats.tls.ca-file", ca_file.clone());
    });
    // A server that demands TLS is spoken to in TLS also where the URL does not say so.
    let plain_url = format!("nats://{}", nats.address());
    assert_traffic(&nats, certificates.options(), |settings| {
        settings.set("ringgate.nats.urls", vec![plain_url]);
        settings.set("ringgate.nats.tls.ca-file", ca_file.clone());
    });
    // Without the authority the server's certificate is not trusted.
    assert_refused(&nats, |_| {});
}

#[test]
fn tls_is_not_given_up_where_it_is_required() {
    let nats = Nats::start();
    assert_refused(&nats, |settings| settings.set("ringgate.nats.tls.required", true));
}

#[test]
fn tls_with_a_client_certificate() {
    let certificates = Certificates::make();
    let nats = certificates.nats("verify: true");
    let [ca, cert, key] =
        ["ca.pem", "client.pem", "client.key"].map(|name| path(&certificates.file(name)));
    assert_traffic(&nats, certificates.options(), |settings| {
        settings.set("ringgate.nats.tls.ca-file", ca.clone());
        settings.set("ringgate.nats.tls.cert-file", cert);
        settings.set("ringgate.nats.tls.key-file", key);
    });
    assert_refused(&nats, |settings| settings.set("ringgate.nats.tls.ca-file", ca));
}

#[test]
fn tls_before_info() {
    let certificates = Certificates::make();
    let nats = certificates.nats("handshake_first: true");
    let ca_file = path(&certificates.file("ca.pem"));
    let options = certificates.options().tls_first();
    assert_traffic(&nats, options, |settings| {
        settings.set("ringgate.nats.tls.ca-file", ca_file);
        settings.set("ringgate.nats.tls.first", true);
    });
}
