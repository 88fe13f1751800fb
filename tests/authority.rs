//! The embedded certificate authority, judged by openssl and by the TLS library that will verify
//! its clients.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ringgate::auth::certificate_name;
use ringgate::credentials::Credentials;
use ringgate::credentials::authority::{
    Authority, AuthorityError, COMMON_NAME_CHARS_MAX, Issued, Keys, TTL_DAYS_MAX,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;

const KEY_BEGIN: &str = "PRIVATE KEY";

#[derive(Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl Keys for Memory {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().expect("is whole").get(name).cloned())
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.0.lock().expect("is whole").entry(name.into()).or_insert_with(|| bytes.into());
        Ok(())
    }
}

/// Finds nothing at the first look, as if another had made the same authority meanwhile.
struct Late {
    memory: Arc<Memory>,
    looks: AtomicU32,
}

impl Keys for Late {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        if self.looks.fetch_add(1, Ordering::Relaxed) == 0 {
            Ok(None)
        } else {
            self.memory.get(name)
        }
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.memory.put_new(name, bytes)
    }
}

fn authority() -> (Authority, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    (Authority::new(memory.clone()), memory)
}

fn issue(authority: &Authority, tenant: &str) -> Issued {
    authority.issue(tenant, Some("pump 1"), 30).expect("issues")
}

/// A folder that is gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringgate-authority-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("makes a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("writes");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("reads")
    }

    fn openssl(&self, arguments: &[&str]) -> Output {
        run_openssl(&self.0, arguments)
    }

    /// What openssl prints, which must succeed.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.openssl(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {complaint}");
        String::from_utf8(output.stdout).expect("is text")
    }

    /// Writes `root.pem`, `client.pem` (the client's alone) and `chain.pem`.
    fn write_chain(&self, authority: &Authority, chain_pem: &str) {
        self.write("root.pem", &authority.root_certificate_pem().expect("has a root"));
        self.write("chain.pem", chain_pem);
        let [client, _] = parts(chain_pem);
        self.write("client.pem", &client);
    }

    fn verify(&self) -> Output {
        self.openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            "root.pem",
            "-untrusted",
            "chain.pem",
            "client.pem",
        ])
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run_openssl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl").current_dir(folder).args(arguments).output().expect("runs openssl")
}

/// The client's certificate and its tenant's authority.
fn parts(chain_pem: &str) -> [String; 2] {
    let end = "-----END CERTIFICATE-----\n";
    let mut parts = chain_pem.split_inclusive(end).map(str::to_owned);
    let both = [parts.next().expect("has one"), parts.next().expect("has two")];
    assert_eq!(parts.next(), None, "the root is no part of the chain");
    both
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("is a certificate")
}

/// Whether the TLS server's verifier lets this chain in, if it trusts `trusted` alone.
fn lets_in(trusted: &str, chain_pem: &str, now: SystemTime) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(der(trusted)).expect("is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let [client, tenant] = parts(chain_pem).map(|pem| der(&pem));
    let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).expect("now"));
    verifier.expect("builds").verify_client_cert(&client, &[tenant], now).is_ok()
}

fn in_days(days: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(days * 86_400)
}

#[test]
fn openssl_verifies_an_issued_client_up_to_the_root() {
    let (authority, _) = authority();
    let folder = Folder::new();
    let issued = issue(&authority, "acme");
    folder.write_chain(&authority, &issued.certificate.chain_pem);
    let verified = folder.verify();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    folder.write("client.key", issued.private_key_pem.expose());
    let of_key = folder.ask(&["pkey", "-in", "client.key", "-pubout"]);
    assert_eq!(folder.ask(&["x509", "-in", "client.pem", "-noout", "-pubkey"]), of_key);
}

#[test]
fn certificates_are_for_what_they_are_meant_for_and_no_more() {
    let (authority, _) = authority();
    let folder = Folder::new();
    folder.write_chain(&authority, &issue(&authority, "acme").certificate.chain_pem);
    let [_, tenant] = parts(&folder.read("chain.pem"));
    folder.write("tenant.pem", &tenant);
    let text = |file| folder.ask(&["x509", "-in", file, "-noout", "-text"]);
    let expected = [
        ("root.pem", "CA:TRUE, pathlen:1"),
        ("root.pem", "Certificate Sign, CRL Sign\n"),
        ("tenant.pem", "CA:TRUE, pathlen:0"),
        ("tenant.pem", "Certificate Sign, CRL Sign\n"),
        ("client.pem", "CA:FALSE"),
        ("client.pem", " Digital Signature\n"),
        ("client.pem", " TLS Web Client Authentication\n"),
        ("client.pem", "prime256v1"),
    ];
    for (file, line) in expected {
        assert!(text(file).contains(line), "{file} lacks {line}: {}", text(file));
    }
    let purpose = ["verify", "-purpose", "sslserver", "-CAfile", "root.pem", "-untrusted"];
    let as_server = folder.openssl(&[&purpose[..], &["chain.pem", "client.pem"]].concat());
    assert!(!as_server.status.success(), "a client does not pass for a server");
}

#[test]
fn openssl_and_the_record_agree_on_issuer_and_serial_number() {
    let (authority, _) = authority();
    let folder = Folder::new();
    for tenant in ["acme", "a, b + \"c\" <d>; \\e", "#1 ", "Zürich", "a=b/c"] {
        let signed = issue(&authority, tenant).certificate;
        folder.write_chain(&authority, &signed.chain_pem);
        let options = ["-noout", "-serial", "-issuer", "-nameopt", "RFC2253,-esc_msb"];
        let told = folder.ask(&[&["x509", "-in", "client.pem"][..], &options].concat());
        let mut lines = told.lines();
        let serial = lines.next().and_then(|line| line.strip_prefix("serial=")).expect("a serial");
        let serial = u128::from_str_radix(serial, 16).expect("fits 128 bits and is positive");
        assert_eq!(*signed.name.serial, serial.to_string());
        assert_eq!(lines.next(), Some(&*format!("issuer={}", signed.name.issuer)));
        let [client, _] = parts(&signed.chain_pem);
        assert_eq!(certificate_name(&der(&client)).expect("has a name"), signed.name);
    }
}

#[test]
fn the_tls_library_lets_clients_in_as_long_as_they_are_valid() {
    let (authority, _) = authority();
    let root = authority.root_certificate_pem().expect("has a root");
    let signed = issue(&authority, "acme").certificate;
    let half_an_hour_ago = SystemTime::now() - Duration::from_secs(1_800);
    assert!(lets_in(&root, &signed.chain_pem, half_an_hour_ago), "a clock may be behind");
    assert!(lets_in(&root, &signed.chain_pem, in_days(29)));
    assert!(!lets_in(&root, &signed.chain_pem, in_days(31)));
    let end = SystemTime::UNIX_EPOCH + Duration::from_millis(signed.not_after_ms);
    assert!(end > in_days(29) && end <= in_days(30), "the record has the same end");
}

#[test]
fn clients_of_one_tenant_are_not_verified_by_the_authority_of_another() {
    let (authority, _) = authority();
    let acme = issue(&authority, "acme").certificate;
    let umbrella = issue(&authority, "umbrella").certificate;
    let [acme_client, acme_ca] = parts(&acme.chain_pem);
    let [_, umbrella_ca] = parts(&umbrella.chain_pem);
    assert_ne!(acme.name.issuer, umbrella.name.issuer);
    assert!(lets_in(&acme_ca, &acme.chain_pem, SystemTime::now()));
    assert!(!lets_in(&umbrella_ca, &acme.chain_pem, SystemTime::now()));
    let folder = Folder::new();
    folder.write("other.pem", &umbrella_ca);
    folder.write("client.pem", &acme_client);
    let verify = ["verify", "-partial_chain", "-CAfile", "other.pem", "client.pem"];
    assert!(!folder.openssl(&verify).status.success());
}

#[test]
fn authorities_are_made_once_and_kept() {
    let (first, memory) = authority();
    let before = issue(&first, "acme").certificate;
    let again = Authority::new(memory.clone());
    let after = issue(&again, "acme").certificate;
    assert_eq!(first.root_certificate_pem(), again.root_certificate_pem());
    assert_eq!(parts(&before.chain_pem)[1], parts(&after.chain_pem)[1]);
    assert_ne!(before.name, after.name, "each has its own serial number");
    let mut names: Vec<_> = memory.0.lock().expect("is whole").keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["root", "tenant/acme"]);
}

#[test]
fn the_store_of_credentials_keeps_authorities() {
    let folder = Folder::new();
    let root = |store: Credentials| {
        let authority = Authority::new(Arc::new(store));
        issue(&authority, "acme");
        authority.root_certificate_pem().expect("has a root")
    };
    let first = root(Credentials::open(&folder.0.join("store")).expect("opens"));
    assert_eq!(root(Credentials::open(&folder.0.join("store")).expect("opens")), first);
}

#[test]
fn whoever_makes_an_authority_second_uses_the_first() {
    let (first, memory) = authority();
    let root = first.root_certificate_pem();
    let late = Authority::new(Arc::new(Late { memory, looks: AtomicU32::new(0) }));
    assert_eq!(late.root_certificate_pem(), root);
}

#[test]
fn a_request_is_signed_for_its_key_and_common_name_alone() {
    let kinds: [&[&str]; 4] = [
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha256"],
        &["-newkey", "rsa:2048"],
        &["-newkey", "ed25519"],
    ];
    let (authority, _) = authority();
    let folder = Folder::new();
    for kind in kinds {
        let request = [
            "req",
            "-new",
            "-nodes",
            "-keyout",
            "client.key",
            "-out",
            "client.csr",
            "-subj",
            "/O=Elsewhere/CN=pump 2",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "subjectAltName=DNS:example.org",
        ];
        folder.ask(&[&request[..], kind].concat());
        let signed = authority.sign_csr("acme", &folder.read("client.csr"), 7).expect("signs");
        assert_eq!(signed.common_name, "pump 2");
        folder.write_chain(&authority, &signed.chain_pem);
        let verified = folder.verify();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        let text = folder.ask(&["x509", "-in", "client.pem", "-noout", "-text"]);
        assert!(text.contains("Subject: CN = pump 2\n") && text.contains("CA:FALSE"), "{text}");
        assert!(!text.contains("example.org"), "{text}");
        let of_key = folder.ask(&["pkey", "-in", "client.key", "-pubout"]);
        assert_eq!(folder.ask(&["x509", "-in", "client.pem", "-noout", "-pubkey"]), of_key);
    }
}

#[test]
fn a_request_without_a_common_name_gets_one_that_is_its_own() {
    let (authority, _) = authority();
    let folder = Folder::new();
    let files = ["-keyout", "client.key", "-out", "client.csr"];
    folder.ask(
        &[&["req", "-new", "-nodes", "-newkey", "ed25519", "-subj", "/"], &files[..]].concat(),
    );
    let signed = authority.sign_csr("acme", &folder.read("client.csr"), 7).expect("signs");
    assert_eq!(signed.common_name, format!("client-{}", signed.name.serial));
    assert!(signed.common_name.chars().count() <= COMMON_NAME_CHARS_MAX);
}

fn refusal(authority: &Authority, csr_pem: &str) -> String {
    let refused = authority.sign_csr("acme", csr_pem, 7).expect_err("is refused");
    assert!(refused.is_askers_fault(), "{refused}");
    refused.to_string()
}

#[test]
fn a_bad_request_is_refused_with_the_reason() {
    let (authority, memory) = authority();
    let folder = Folder::new();
    let files = ["-keyout", "client.key", "-out", "client.csr", "-subj", "/CN=pump"];
    let request = |kind: &[&str]| {
        folder.ask(&[&["req", "-new", "-nodes"], kind, &files[..]].concat());
        folder.read("client.csr")
    };
    let small = request(&["-newkey", "rsa:1024", "-sha1"]);
    assert!(refusal(&authority, &small).contains("less than 2048 bits"));
    let odd = request(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]);
    assert!(refusal(&authority, &odd).contains("unknown kind"));
    let good = request(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    assert!(refusal(&authority, "").contains("not in PEM"));
    assert!(refusal(&authority, &"x".repeat(20_000)).contains("more than 16384 bytes"));
    let empty = "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n";
    assert!(refusal(&authority, empty).contains("cannot be read"));
    let bytes = base64_of(&good);
    for at in [bytes.len() - 1, bytes.len() / 2] {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        let reason = refusal(&authority, &pem_of(&forged));
        assert!(reason.contains("signature is not that of its own key"), "{reason}");
    }
    assert!(memory.0.lock().expect("is whole").is_empty(), "nothing was made for them");
}

fn base64_of(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateSigningRequestDer as Der;
    Der::from_pem_slice(pem.as_bytes()).expect("is a request").to_vec()
}

fn pem_of(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
}

#[test]
fn lives_and_names_out_of_bounds_are_refused() {
    let (authority, _) = authority();
    let long = "ä".repeat(COMMON_NAME_CHARS_MAX + 1);
    for ttl_days in [0, TTL_DAYS_MAX + 1, u32::MAX] {
        let refused = authority.issue("acme", None, ttl_days);
        assert_eq!(refused, Err(AuthorityError::Ttl(ttl_days)));
    }
    for name in ["", "a\nb", &long] {
        let refused = authority.issue("acme", Some(name), 1);
        assert_eq!(refused, Err(AuthorityError::Name("a common name")));
        let refused = authority.issue(name, None, 1);
        assert_eq!(refused, Err(AuthorityError::Name("a tenant's id")));
    }
    let longest = authority.issue("acme", Some(&long[2..]), TTL_DAYS_MAX).expect("issues");
    let root = authority.root_certificate_pem().expect("has a root");
    assert!(lets_in(&root, &longest.certificate.chain_pem, in_days(3_649)));
}

#[test]
fn a_private_key_is_in_no_text_but_its_own() {
    let (authority, memory) = authority();
    let issued = issue(&authority, "acme");
    assert!(issued.private_key_pem.expose().contains(KEY_BEGIN));
    let kept = memory.0.lock().expect("is whole").clone();
    let of_authorities: Vec<_> = kept.values().map(|kept| String::from_utf8_lossy(kept)).collect();
    let shown = format!("{issued:?} {authority:?} {}", issued.certificate.chain_pem);
    assert!(!shown.contains(KEY_BEGIN), "{shown}");
    for line in of_authorities.iter().flat_map(|kept| kept.split(KEY_BEGIN).nth(1)) {
        let secret = line.lines().nth(1).expect("has a line of base64");
        assert!(!shown.contains(secret));
    }
    let secret = issued.private_key_pem.expose().lines().nth(1).expect("has a line of base64");
    assert!(!kept.values().any(|kept| String::from_utf8_lossy(kept).contains(secret)));
}

#[test]
fn what_is_damaged_is_said_without_showing_it() {
    let (authority, memory) = authority();
    authority.root_certificate_pem().expect("makes a root");
    let good = memory.get("root").expect("reads").expect("is there");
    let text = String::from_utf8(good).expect("is text");
    for bad in ["", &text[..200], &text.replace("KEY-----\nM", "KEY-----\nN")] {
        memory.0.lock().expect("is whole").insert("root".into(), bad.into());
        let refused = authority.issue("acme", None, 1).expect_err("is damaged");
        assert!(matches!(refused, AuthorityError::Damaged(_)), "{refused}");
        assert!(!refused.is_askers_fault() && !format!("{refused} {refused:?}").contains("MI"));
    }
}
