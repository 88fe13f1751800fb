//! Certificates made on the spot, files in a directory of their own, and handshakes in memory.

mod chains;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, Error, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::config::{ClientAuth, TlsProfile, TlsVersion};
use crate::transport::tls::TlsSession;

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

/// A directory that goes with its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let number = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ringgate-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("writes");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An authority.
struct Ca {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// As `openssl ca -gencrl` makes it where no `crlnumber` is set.
const CRL_OF_VERSION_1: &str = "-----BEGIN X509 CRL-----
MIGQMDgwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYxcNMjYxMTI1MjMyNzE5WhcN
MzYxMTIyMjMyNzE5WjAKBggqhkjOPQQDAgNIADBFAiA+aevzw9SulaHG6ug5vFrN
OHQS3D4Dr/DUwoTiqg2+jgIhAOp9F2mapi8eHO2VwDsw9bpNjoV+k/N6qw18a+hT
rvYX
-----END X509 CRL-----
";

/// A certificate and its key.
struct Made {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    fn new(name: &str) -> Self {
        let (params, key) = (ca_params(name), KeyPair::generate().expect("generates"));
        let certificate = params.self_signed(&key).expect("signs");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    /// An authority under this one.
    fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (ca_params(name), KeyPair::generate().expect("generates"));
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    /// A certificate of this authority's name and key that another has signed.
    fn signed_by(&self, name: &str, other: &Self) -> CertificateDer<'static> {
        let signed = ca_params(name).signed_by(self.issuer.key(), &other.issuer);
        signed.expect("signs").der().clone()
    }

    fn issue(&self, names: &[&str], serial: u8, last_year: i32) -> Made {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().expect("generates");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        Made { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }

    fn revoke(&self, serials: &[u8], next_year: i32) -> String {
        let revoked = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(next_year, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("signs").pem().expect("writes")
    }
}

/// A server's authority, and the settings of a profile with one certificate of it for `gate`.
struct World {
    directory: Directory,
    server_ca: Ca,
    settings: TlsProfile,
}

impl World {
    fn new() -> Self {
        let directory = Directory::new();
        let server_ca = Ca::new("server CA");
        let mut world = Self {
            settings: TlsProfile {
                name: "door".to_owned(),
                certificates: Vec::new(),
                client_auth: ClientAuth::None,
                client_ca_files: Vec::new(),
                tenant_ca_files: Vec::new(),
                crl_files: Vec::new(),
                min_version: TlsVersion::Tls12,
            },
            directory,
            server_ca,
        };
        world.add_certificate("gate", &["gate"]);
        world
    }

    fn add_certificate(&mut self, file: &str, names: &[&str]) {
        let made = self.server_ca.issue(names, 1, 2100);
        let chain = self.directory.put(&format!("{file}.pem"), &made.pem);
        let key = self.directory.put(&format!("{file}.key"), &made.key.serialize_pem());
        self.settings.certificates.push((chain, key));
    }

    /// Client certificates of `ca` are wanted.
    fn trust(&mut self, ca: &Ca, client_auth: ClientAuth) {
        self.settings.client_auth = client_auth;
        self.settings.client_ca_files = vec![self.directory.put("ca.pem", &ca.pem)];
    }

    fn load(&self) -> Profile {
        load(&self.settings, None).expect("good files")
    }

    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        made: Option<&Made>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.der.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots);
        match made {
            None => builder.with_no_client_auth(),
            Some(made) => {
                let key = PrivateKeyDer::try_from(made.key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(made.chain.clone(), key).expect("fits")
            }
        }
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// Shakes hands, asking for `name`.
fn shake(
    profile: &Profile,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(TlsSession, ClientConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(client.clone(), name).expect("a client");
    let mut server = TlsSession::new(profile.config.clone()).expect("a session");
    for _ in 0..10 {
        let mut up = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut up).expect("a Vec takes all");
        }
        server.receive(&mut up, |_| {})?;
        let mut down = Vec::new();
        server.seal(&[], false, &mut down)?;
        let mut down = &down[..];
        while !down.is_empty() {
            client.read_tls(&mut down).expect("reads");
            client.process_new_packets()?;
        }
    }
    assert!(!server.is_handshaking());
    Ok((server, client))
}

fn shown(profile: &Profile, client: &Arc<ClientConfig>, name: &str) -> CertificateDer<'static> {
    let (_, client) = shake(profile, client, name).expect("shakes hands");
    client.peer_certificates().expect("a chain")[0].clone()
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let mut world = World::new();
    world.add_certificate("wild", &["*.plant.example", "deep.er.plant.example"]);
    world.add_certificate("other", &["Other.Example", "gate"]);
    let profile = world.load();
    let file = |at: usize| fs::read(&world.settings.certificates[at].0).expect("reads");
    let of = |at: usize| super::files::certificates(&file(at)).expect("a chain")[0].clone();
    for version in VERSIONS {
        let client = Arc::new(world.client(version, None));
        for (name, at) in [
            ("gate", 0),
            ("a.plant.example", 1),
            ("deep.er.plant.example", 1),
            ("other.example", 2),
        ] {
            assert_eq!(shown(&profile, &client, name), of(at), "{name}");
        }
        let mut nameless = (*client).clone();
        nameless.enable_sni = false;
        assert_eq!(shown(&profile, &Arc::new(nameless), "gate"), of(0));
        // Nobody is called so: the first is shown, which the client does not accept.
        for name in ["plant.example", "b.er.plant.example", "unknown"] {
            assert!(matches!(shake(&profile, &client, name), Err(Error::InvalidCertificate(_))));
        }
    }
}

#[test]
fn client_certificates_are_not_asked_for_or_may_or_must_be_shown() {
    let ca = Ca::new("clients");
    let made = ca.issue(&["device"], 7, 2100);
    for version in VERSIONS {
        for (client_auth, with, without) in [
            (ClientAuth::None, None, true),
            (ClientAuth::Optional, Some("7"), true),
            (ClientAuth::Required, Some("7"), false),
        ] {
            let mut world = World::new();
            world.trust(&ca, client_auth);
            let profile = world.load();
            let showing = Arc::new(world.client(version, Some(&made)));
            let (server, _) = shake(&profile, &showing, "gate").expect("lets in");
            let peer = server.peer_certificates().map(|chain| profile.peer_certificate(chain));
            let peer = peer.map(|peer| peer.expect("a good one"));
            assert_eq!(peer.as_ref().map(|peer| &*peer.name.serial), with, "{client_auth:?}");
            let names = peer.map(|peer| peer.details.dns_names);
            assert_eq!(names, with.map(|_| vec!["device".into()]), "{client_auth:?}");
            let silent = Arc::new(world.client(version, None));
            let outcome = shake(&profile, &silent, "gate").map(|_| ());
            assert_eq!(outcome.is_ok(), without, "{client_auth:?}: {outcome:?}");
            if !without {
                assert_eq!(outcome, Err(Error::NoCertificatesPresented));
            }
        }
    }
}

#[test]
fn bad_client_certificates_are_refused_by_reason() {
    use crate::telemetry::TlsFailure;
    use crate::transport::tls::failure;
    let (ca, stranger) = (Ca::new("clients"), Ca::new("strangers"));
    for (made, reason) in [
        (stranger.issue(&["device"], 1, 2100), TlsFailure::UnknownAuthority),
        (ca.issue(&["device"], 2, 2021), TlsFailure::Expired),
        (ca.issue(&["device"], 3, 2100), TlsFailure::Revoked),
    ] {
        for version in VERSIONS {
            let mut world = World::new();
            world.trust(&ca, ClientAuth::Optional);
            let crl = world.directory.put("crl.pem", &ca.revoke(&[3], 2100));
            world.settings.crl_files = vec![crl];
            let client = Arc::new(world.client(version, Some(&made)));
            let outcome = shake(&world.load(), &client, "gate");
            let error = outcome.map(|_| ()).expect_err("is refused");
            assert_eq!(failure(&error), reason, "{error}");
        }
    }
}

#[test]
fn a_certificate_of_a_tenants_authority_is_of_that_tenant_alone() {
    let (acme, beta, common) = (Ca::new("CA"), Ca::new("CA"), Ca::new("common"));
    let under_acme = acme.intermediate("plant");
    let mut world = World::new();
    world.trust(&common, ClientAuth::Required);
    world.settings.tenant_ca_files = vec![
        ("acme".to_owned(), world.directory.put("acme.pem", &acme.pem)),
        ("beta".to_owned(), world.directory.put("beta.pem", &beta.pem)),
        ("beta".to_owned(), world.directory.put("beta-again.pem", &beta.pem)),
    ];
    let profile = world.load();
    let mut deep = under_acme.issue(&["device"], 3, 2100);
    deep.chain.push(under_acme.der.clone());
    // What merely lies in the chain says nothing.
    deep.chain.push(beta.der.clone());
    for (made, tenant) in [
        (acme.issue(&["device"], 1, 2100), Some("acme")),
        (beta.issue(&["device"], 2, 2100), Some("beta")),
        (common.issue(&["device"], 4, 2100), None),
        (deep, Some("acme")),
    ] {
        let client = Arc::new(world.client(VERSIONS[1], Some(&made)));
        let (server, _) = shake(&profile, &client, "gate").expect("lets in");
        let chain = server.peer_certificates().expect("a chain");
        let peer = profile.peer_certificate(chain).expect("a good one");
        assert_eq!(peer.tenant.as_deref(), tenant);
    }
    world.settings.tenant_ca_files[2].0 = "gamma".to_owned();
    let refused = load(&world.settings, None).expect_err("whose would they be");
    assert_eq!(
        refused.to_string(),
        "TLS profile door: tenants beta and gamma have the same authority"
    );
}

#[test]
fn nothing_in_a_chain_leads_away_from_the_tenant_that_has_signed_it() {
    let (acme, beta, stranger) = (Ca::new("acme"), Ca::new("beta"), Ca::new("stranger"));
    let under_acme = acme.intermediate("plant");
    let mut world = World::new();
    world.trust(&Ca::new("common"), ClientAuth::Required);
    world.settings.tenant_ca_files = vec![
        ("acme".to_owned(), world.directory.put("acme.pem", &acme.pem)),
        ("beta".to_owned(), world.directory.put("beta.pem", &beta.pem)),
    ];
    let profile = world.load();
    let made = under_acme.issue(&["device"], 3, 2100);
    let genuine = under_acme.der.clone();
    // Of the same name and key, but no way up.
    let by_stranger = under_acme.signed_by("plant", &stranger);
    let by_itself = under_acme.signed_by("plant", &under_acme);
    let by_beta = under_acme.signed_by("plant", &beta);
    let tenant = |others: &[&CertificateDer<'static>]| {
        let mut chain = made.chain.clone();
        chain.extend(others.iter().map(|other| (*other).clone()));
        profile.peer_certificate(&chain).map(|peer| peer.tenant.map(String::from))
    };
    let of_acme = Ok(Some("acme".to_owned()));
    assert_eq!(tenant(&[&genuine]), of_acme);
    assert_eq!(tenant(&[&by_stranger, &by_itself, &genuine]), of_acme);
    assert_eq!(tenant(&[&genuine, &by_itself, &CertificateDer::from(vec![0x30])]), of_acme);
    let why = tenant(&[&by_beta, &genuine]).expect_err("whose is it");
    assert_eq!(why, "the client's certificate is of tenants acme and beta both");
    let why = tenant(&[&by_stranger, &by_itself]).expect_err("whose is it");
    assert_eq!(why, "the client's certificate leads to no authority");
    let why = tenant(&[&by_itself; 200]).expect_err("is not worked through");
    assert!(why.contains("too many"), "{why}");
    // A shaken hand says the same.
    let mut shown = Made { chain: made.chain.clone(), ..made };
    shown.chain.extend([by_stranger, genuine]);
    let client = Arc::new(world.client(VERSIONS[1], Some(&shown)));
    let (server, _) = shake(&profile, &client, "gate").expect("lets in");
    let chain = server.peer_certificates().expect("a chain");
    let peer = profile.peer_certificate(chain).expect("a good one");
    assert_eq!(peer.tenant.as_deref(), Some("acme"));
}

#[test]
fn an_authority_under_another_tenants_is_still_its_own_tenants() {
    let root = Ca::new("root");
    let plant = root.intermediate("plant");
    let mut world = World::new();
    world.trust(&Ca::new("common"), ClientAuth::Required);
    world.settings.tenant_ca_files = vec![
        ("acme".to_owned(), world.directory.put("plant.pem", &plant.pem)),
        ("beta".to_owned(), world.directory.put("root.pem", &root.pem)),
    ];
    let profile = world.load();
    let made = plant.issue(&["device"], 3, 2100);
    for others in [&[][..], std::slice::from_ref(&plant.der), &[plant.der.clone(), root.der]] {
        let chain = [&made.chain, others].concat();
        let peer = profile.peer_certificate(&chain).expect("a good one");
        assert_eq!(peer.tenant.as_deref(), Some("acme"));
    }
}

#[test]
fn a_session_is_resumed_by_any_shard_until_clients_are_trusted_by_something_else() {
    let ca = Ca::new("clients");
    let made = ca.issue(&["device"], 3, 2100);
    for version in VERSIONS {
        let mut world = World::new();
        world.trust(&ca, ClientAuth::Required);
        world.settings.crl_files = vec![world.directory.put("crl.pem", &ca.revoke(&[], 2100))];
        let mut renewal = Renewal::load(vec![world.settings.clone()]).expect("good files");
        let first = renewal.slots()[0].current();
        let client = Arc::new(world.client(version, Some(&made)));
        let is_resumed = |profile: &Profile| {
            let (server, _) = shake(profile, &client, "gate").expect("lets in");
            let chain = server.peer_certificates().expect("also of a resumed session");
            profile.peer_certificate(chain).expect("a good one");
            server.is_resumed()
        };
        assert!(!is_resumed(&first));
        assert!(is_resumed(&first));
        assert!(!renewal.is_due() && renewal.check(false).is_empty());
        // Another certificate of ours changes nothing for the client.
        world.settings.certificates.clear();
        world.add_certificate("gate", &["gate"]);
        assert!(renewal.is_due());
        let [Renewed::Changed { .. }] = &renewal.check(false)[..] else { panic!() };
        assert!(is_resumed(&renewal.slots()[0].current()));
        // The client is revoked: its ticket is good for nothing.
        world.directory.put("crl.pem", &ca.revoke(&[3], 2100));
        assert!(renewal.is_due() && !renewal.is_due());
        let [Renewed::Changed { .. }] = &renewal.check(false)[..] else { panic!() };
        let profile = renewal.slots()[0].current();
        assert!(shake(&profile, &client, "gate").is_err());
    }
}

#[test]
fn a_bad_file_leaves_everything_as_it_is_and_is_named_once_and_to_who_asks() {
    let world = World::new();
    let mut renewal = Renewal::load(vec![world.settings.clone()]).expect("good files");
    let before = renewal.slots()[0].current();
    let other = world.server_ca.issue(&["gate"], 9, 2100);
    let key_file = world.directory.put("gate.key", &other.key.serialize_pem());
    let [Renewed::Refused(error)] = &renewal.check(false)[..] else {
        panic!("the key does not fit")
    };
    let said = error.to_string();
    let expected = format!("TLS profile door: {}: is not the key of", key_file.display());
    assert!(said.starts_with(&expected), "{said}");
    assert!(renewal.check(false).is_empty(), "said once");
    let again = renewal.check(true);
    assert!(matches!(&again[..], [Renewed::Refused(again)] if again.to_string() == said));
    assert!(Arc::ptr_eq(&renewal.slots()[0].current(), &before));
    fs::remove_file(&key_file).expect("removes");
    let [Renewed::Refused(error)] = &renewal.check(false)[..] else { panic!("it is gone") };
    assert!(error.to_string().contains("No such file"), "{error}");
    world.directory.put("gate.pem", &other.pem);
    world.directory.put("gate.key", &other.key.serialize_pem());
    assert!(matches!(&renewal.check(false)[..], [Renewed::Changed { .. }]));
    assert!(renewal.check(true).is_empty(), "nothing is bad any more");
}

#[test]
fn files_that_cannot_be_used_are_refused_with_what_is_wrong() {
    let world = World::new();
    let settings = &world.settings;
    let refused = |change: &dyn Fn(&mut TlsProfile)| {
        let mut settings = settings.clone();
        change(&mut settings);
        load(&settings, None).map(|_| ()).expect_err("is refused").why
    };
    let (chain, key) = settings.certificates[0].clone();
    let swapped = refused(&|s| s.certificates = vec![(key.clone(), chain.clone())]);
    assert!(swapped.starts_with("holds no certificate"), "{swapped}");
    let no_key = refused(&|s| s.certificates = vec![(chain.clone(), chain.clone())]);
    assert!(no_key.starts_with("no private key can be read from it"), "{no_key}");
    assert_eq!(refused(&|s| s.certificates.clear()), "has no certificate");
    let no_ca = refused(&|s| s.client_auth = ClientAuth::Required);
    assert_eq!(no_ca, "client certificates are wanted, and no authority is trusted");
    let no_crl = refused(&|s| s.crl_files = vec![chain.clone()]);
    assert!(no_crl.starts_with("holds no revocation list"), "{no_crl}");
    let old = world.directory.put("old.pem", CRL_OF_VERSION_1);
    let too_old = refused(&|s| s.crl_files = vec![old.clone()]);
    assert!(too_old.starts_with("is a revocation list of version 1"), "{too_old}");
    let large = world.directory.put("large.pem", &"x".repeat(2 << 20));
    let too_large = refused(&|s| s.certificates[0].0 = large.clone());
    assert_eq!(too_large, "has more than 1048576 bytes");
}

#[test]
fn what_ends_soon_or_is_overdue_is_warned_of() {
    let mut world = World::new();
    assert_eq!(world.load().warnings, [""; 0]);
    let made = world.server_ca.issue(&["old"], 5, 2021);
    let chain = world.directory.put("old.pem", &made.pem);
    let key = world.directory.put("old.key", &made.key.serialize_pem());
    world.settings.certificates.push((chain.clone(), key));
    let ca = Ca::new("clients");
    let crl = world.directory.put("crl.pem", &ca.revoke(&[], 2022));
    world.settings.crl_files = vec![crl.clone()];
    let warnings = world.load().warnings;
    let [expired, overdue] = &warnings[..] else { panic!("{warnings:?}") };
    let starts = format!("{}: the certificate has expired", chain.display());
    assert!(expired.starts_with(&starts), "{expired}");
    let starts = format!("{}: a newer revocation list was due", crl.display());
    assert!(overdue.starts_with(&starts), "{overdue}");
}

#[test]
fn the_application_protocol_is_mqtt_or_not_said() {
    let world = World::new();
    let profile = world.load();
    for version in VERSIONS {
        let with = |alpn: &[&[u8]]| {
            let mut client = world.client(version, None);
            client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            let shaken = shake(&profile, &Arc::new(client), "gate");
            shaken.map(|(_, client)| client.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&[b"h2", b"mqtt"]), Ok(Some(b"mqtt".to_vec())));
        assert_eq!(with(&[b"h2"]), Err(Error::NoApplicationProtocol));
    }
}

#[test]
fn old_versions_can_be_shut_out() {
    let mut world = World::new();
    world.settings.min_version = TlsVersion::Tls13;
    let profile = world.load();
    let old = shake(&profile, &Arc::new(world.client(VERSIONS[0], None)), "gate");
    assert!(matches!(old.map(|_| ()), Err(Error::PeerIncompatible(_))));
    assert!(shake(&profile, &Arc::new(world.client(VERSIONS[1], None)), "gate").is_ok());
}

proptest! {
    /// Against a straightforward search.
    #[test]
    fn names_are_found_as_by_a_plain_search(
        certificates in prop::collection::vec(
            prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3), 1..4),
        asked in "[abAB](\\.[abAB]){0,3}",
    ) {
        let signer = Arc::new(rustls::crypto::ring::sign::any_supported_type(
            &PrivateKeyDer::try_from(KeyPair::generate().expect("generates").serialize_der())
                .expect("a key"),
        ).expect("a signer"));
        let keys: Vec<_> = certificates.iter().map(|names| {
            let mut params = CertificateParams::default();
            for name in names {
                let name = name.as_str().try_into().expect("ASCII");
                params.subject_alt_names.push(rcgen::SanType::DnsName(name));
            }
            let key = KeyPair::generate().expect("generates");
            let der = params.self_signed(&key).expect("signs").der().clone();
            Arc::new(rustls::sign::CertifiedKey::new(vec![der], (*signer).clone()))
        }).collect();
        let found = super::sni::ByName::new(keys.clone());
        let place = |key: Option<&Arc<_>>| {
            key.and_then(|key| keys.iter().position(|other| Arc::ptr_eq(other, key)))
        };
        let (shown, named) = (place(found.find(Some(&asked))), place(found.named(&asked)));
        let asked = asked.to_ascii_lowercase();
        let wild = asked.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let has = |name: &str| certificates.iter().position(|all| all.iter().any(|n| n == name));
        let expected = has(&asked).or_else(|| wild.and_then(|wild| has(&wild)));
        prop_assert_eq!(named, expected);
        prop_assert_eq!(shown, Some(expected.unwrap_or(0)));
    }
}
