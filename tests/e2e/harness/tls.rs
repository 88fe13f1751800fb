//! TLS for tests: an authority that issues certificates into files, and a tunnel that speaks TLS
//! to the gateway for devices that speak none.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::TempDir;

/// How long a tunnel waits for either side before it looks whether it is still wanted.
const TUNNEL_POLL_MS: i32 = 200;
/// What a tunnel does not do longer than this is not done.
const TUNNEL_LIFE: Duration = Duration::from_secs(120);

/// An authority, whose files go with it.
pub struct Ca {
    name: String,
    /// PEM file of its certificate.
    pub file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

/// The files of a certificate.
#[derive(Clone)]
pub struct Files {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let dir = TempDir::new();
        let pem = params.self_signed(&key).expect("signs").pem();
        let file = dir.file("ca.pem", &pem);
        Self { name: name.to_owned(), file, issuer: Issuer::new(params, key), dir }
    }

    /// The name that issued certificates bear, as RFC 4514 writes it.
    pub fn issuer_name(&self) -> String {
        format!("CN={}", self.name)
    }

    /// For 127.0.0.1 and `name`, in files called `file`.
    pub fn server(&self, file: &str, name: &str) -> Files {
        self.issue(file, &["127.0.0.1", name], 1, 2100, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate.
    pub fn client(&self, serial: u8) -> Files {
        self.client_until(serial, 2100)
    }

    /// The same, which is good until the beginning of that year.
    pub fn client_until(&self, serial: u8, year: i32) -> Files {
        let file = format!("client-{serial}");
        self.issue(&file, &["device"], serial, year, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        file: &str,
        names: &[&str],
        serial: u8,
        until_year: i32,
        usage: ExtendedKeyUsagePurpose,
    ) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until_year, 1, 1);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        Files {
            chain: self.dir.file(&format!("{file}.pem"), &certificate.pem()),
            key: self.dir.file(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    /// A file with a list that revokes these.
    pub fn crl(&self, serials: &[u8]) -> PathBuf {
        let revoked = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).expect("signs").pem().expect("PEM");
        self.dir.file("crl.pem", &crl)
    }
}

/// What a client trusts and shows.
pub fn client_config(ca: &Ca, shown: Option<&Files>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ca.file).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(&files.chain).expect("a file");
            let chain: Result<Vec<_>, _> = chain.collect();
            let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
            builder.with_client_auth_cert(chain.expect("PEM"), key).expect("fits")
        }
    })
}

/// Listens for one plain connection at a time and carries each over TLS to `gateway`. Ends with
/// its process, or after a while.
pub fn tunnel(gateway: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for plain in listener.incoming().map_while(Result::ok) {
            let config = config.clone();
            std::thread::spawn(move || carry(plain, gateway, config));
        }
    });
    address
}

/// Carries until either side ends; what the gateway has said until then still gets through.
fn carry(mut plain: TcpStream, gateway: SocketAddr, config: Arc<ClientConfig>) {
    let Ok(mut secure) = TcpStream::connect(gateway) else { return };
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut tls = ClientConnection::new(config, name).expect("a client");
    for stream in [&plain, &secure] {
        stream.set_nonblocking(true).expect("an option");
        stream.set_nodelay(true).expect("an option");
    }
    let started = std::time::Instant::now();
    let mut buffer = [0; 16 * 1024];
    while started.elapsed() < TUNNEL_LIFE {
        while tls.wants_write() {
            match tls.write_tls(&mut secure) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(&[&secure]),
                Err(_) => return,
            }
        }
        let mut is_idle = true;
        match tls.read_tls(&mut secure) {
            Ok(got) => {
                is_idle = false;
                let outcome = tls.process_new_packets();
                let mut told = Vec::new();
                let has_ended = tls.reader().read_to_end(&mut told).is_ok() || got == 0;
                plain.set_nonblocking(false).expect("an option");
                let sent = plain.write_all(&told);
                plain.set_nonblocking(true).expect("an option");
                if outcome.is_err() || has_ended || sent.is_err() {
                    // Alerts of ours.
                    while tls.wants_write() && tls.write_tls(&mut secure).is_ok() {}
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        match if tls.is_handshaking() { Ok(usize::MAX) } else { plain.read(&mut buffer) } {
            Ok(usize::MAX) => {}
            Ok(0) => {
                tls.send_close_notify();
                while tls.wants_write() && tls.write_tls(&mut secure).is_ok() {}
                return;
            }
            Ok(got) => {
                is_idle = false;
                tls.writer().write_all(&buffer[..got]).expect("takes it");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if is_idle && !tls.wants_write() {
            wait(&[&plain, &secure]);
        }
    }
}

/// Waits until one of these can be read, for a while.
fn wait(streams: &[&TcpStream]) {
    let poll = |stream: &&TcpStream| libc::pollfd {
        fd: stream.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = streams.iter().map(poll).collect();
    // SAFETY: the array lives through the call, and its length is its own.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, TUNNEL_POLL_MS) };
}
