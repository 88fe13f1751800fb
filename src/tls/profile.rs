//! What doors speak TLS by.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{Context, SHA256, digest};
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::files::{self, BadFile, CRL_BYTES_MAX, PEM_BYTES_MAX};
use super::sni::ByName;
use super::trust::{Authority, Trust};
use crate::auth::certificate::{name_of, read_certificate};
use crate::auth::{CertificateDetails, CertificateName, certificate_name};
use crate::config::{ClientAuth, TlsProfile, TlsVersion};

/// Tickets for a client after a TLS 1.3 handshake; each is good for one resumption.
const TICKETS: usize = 1;
/// Application protocols (ALPN); a client that offers none is let in all the same.
const ALPN: [&[u8]; 1] = [b"mqtt"];
/// The same where HTTP or a WebSocket, which begins with it, is spoken.
const WEB_ALPN: [&[u8]; 1] = [b"http/1.1"];
/// How long before its end an own certificate is warned of, in seconds.
const WARNED_BEFORE_S: i64 = 14 * 24 * 3600;

/// See the module's documentation.
#[derive(Debug)]
pub struct Profile {
    /// For rustls, where MQTT is spoken.
    pub config: Arc<ServerConfig>,
    /// For rustls, where HTTP or a WebSocket is.
    pub web_config: Arc<ServerConfig>,
    /// What an operator should look at: certificates that end soon, and the like.
    pub warnings: Vec<String>,
    own: Arc<ByName>,
    trust: Option<Trust>,
    /// Of everything that client certificates are trusted by.
    trust_digest: [u8; 32],
}

/// A client certificate that has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// What providers know it by.
    pub name: CertificateName,
    /// What else it says of its client.
    pub details: Box<CertificateDetails>,
    /// The only tenant its client may be of; `None`: whichever the provider says.
    pub tenant: Option<Box<str>>,
}

impl PeerCertificate {
    /// One that a proxy has verified, which is trusted to have done so.
    ///
    /// # Errors
    /// What is no certificate.
    pub fn verified_elsewhere(der: &[u8]) -> Result<Self, String> {
        let certificate = read_certificate(der).map_err(|error| error.to_string())?;
        Ok(Self {
            name: name_of(&certificate),
            details: Box::new(CertificateDetails::new(&certificate, der)),
            tenant: None,
        })
    }
}

/// Makes a profile. `before` is the one it takes the place of, if any.
///
/// Sessions are resumed by tickets, which all shards understand. rustls does not verify a client's
/// certificate again when its session is resumed, and takes it from the ticket (rustls 0.23,
/// `server/tls13.rs`: `peer_certificates.clone_from(&resume.client_cert_chain)`): so tickets of
/// before are understood only where nothing of what clients are trusted by has changed.
///
/// # Errors
/// The first file that cannot be used.
pub fn load(settings: &TlsProfile, before: Option<&Profile>) -> Result<Profile, BadFile> {
    Loading { settings, warnings: Vec::new(), trusted_by: Context::new(&SHA256) }.load(before)
}

struct Loading<'a> {
    settings: &'a TlsProfile,
    warnings: Vec<String>,
    trusted_by: Context,
}

impl Loading<'_> {
    fn load(mut self, before: Option<&Profile>) -> Result<Profile, BadFile> {
        let provider = Arc::new(default_provider());
        let own = Arc::new(self.own_certificates(&provider)?);
        let trust = self.trust()?;
        let crls = self.crls()?;
        let trust_digest = self.trust_digest();
        let together = |why: String| self.bad(Path::new(""), why);
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(self.settings.min_version))
            .map_err(|error| together(error.to_string()))?;
        let builder = match &trust {
            None => builder.with_no_client_auth(),
            Some(trust) => {
                let is_required = self.settings.client_auth == ClientAuth::Required;
                let verifier = trust.verifier(&provider, crls, is_required).map_err(together)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(own.clone());
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS;
        config.max_early_data_size = 0;
        config.ticketer = match before.filter(|before| before.trust_digest == trust_digest) {
            Some(before) => before.config.ticketer.clone(),
            None => new_ticketer().map_err(|error| together(error.to_string()))?,
        };
        let mut web_config = config.clone();
        web_config.alpn_protocols = WEB_ALPN.map(<[u8]>::to_vec).into();
        let (config, web_config) = (Arc::new(config), Arc::new(web_config));
        let warnings = self.warnings;
        Ok(Profile { config, web_config, warnings, own, trust, trust_digest })
    }

    fn bad(&self, path: &Path, why: String) -> BadFile {
        BadFile { profile: self.settings.name.clone(), path: path.to_owned(), why }
    }

    fn read(&self, path: &Path, bytes_max: u64) -> Result<Vec<u8>, BadFile> {
        files::read(path, bytes_max).map_err(|why| self.bad(path, why))
    }

    fn own_certificates(
        &mut self,
        provider: &rustls::crypto::CryptoProvider,
    ) -> Result<ByName, BadFile> {
        let mut keys = Vec::new();
        for (chain_file, key_file) in &self.settings.certificates {
            let chain = files::certificates(&self.read(chain_file, PEM_BYTES_MAX)?)
                .map_err(|why| self.bad(chain_file, why))?;
            let key = files::key(&self.read(key_file, PEM_BYTES_MAX)?)
                .map_err(|why| self.bad(key_file, why))?;
            let key = provider
                .key_provider
                .load_private_key(key)
                .map_err(|error| self.bad(key_file, format!("its key cannot be used: {error}")))?;
            self.warn_of_end(chain_file, &chain[0]);
            let certified = CertifiedKey::new(chain, key);
            if let Err(error) = certified.keys_match() {
                let chain = chain_file.display();
                let why = format!("is not the key of the certificate in {chain}: {error}");
                return Err(self.bad(key_file, why));
            }
            keys.push(Arc::new(certified));
        }
        if keys.is_empty() {
            return Err(self.bad(Path::new(""), "has no certificate".to_owned()));
        }
        Ok(ByName::new(keys))
    }

    fn warn_of_end(&mut self, path: &Path, leaf: &CertificateDer<'_>) {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else { return };
        let left_s = certificate.validity().not_after.timestamp() - now_s();
        let end = certificate.validity().not_after;
        let path = path.display();
        if left_s < 0 {
            self.warnings.push(format!("{path}: the certificate has expired: {end}"));
        } else if left_s < WARNED_BEFORE_S {
            self.warnings.push(format!("{path}: the certificate expires soon: {end}"));
        }
    }

    fn trust(&mut self) -> Result<Option<Trust>, BadFile> {
        let settings = self.settings;
        self.trusted_by.update(&[settings.client_auth as u8]);
        if settings.client_auth == ClientAuth::None {
            return Ok(None);
        }
        let of_all = settings.client_ca_files.iter().map(|path| (None, path));
        let of_tenants = settings.tenant_ca_files.iter().map(|(t, path)| (Some(t.as_str()), path));
        let mut authorities = Vec::new();
        for (tenant, path) in of_all.chain(of_tenants) {
            let pem = self.read(path, PEM_BYTES_MAX)?;
            self.trusted_by.update(tenant.unwrap_or_default().as_bytes());
            self.trusted_by.update(digest(&SHA256, &pem).as_ref());
            for der in files::certificates(&pem).map_err(|why| self.bad(path, why))? {
                if let Err(error) = certificate_name(&der) {
                    return Err(self.bad(path, error.to_string()));
                }
                authorities.push(Authority { der, tenant: tenant.map(Into::into) });
            }
        }
        let together = |why| self.bad(Path::new(""), why);
        if authorities.is_empty() {
            return Err(together(
                "client certificates are wanted, and no authority is trusted".into(),
            ));
        }
        Trust::new(authorities).map(Some).map_err(together)
    }

    fn crls(
        &mut self,
    ) -> Result<Vec<rustls::pki_types::CertificateRevocationListDer<'static>>, BadFile> {
        let mut all = Vec::new();
        for path in &self.settings.crl_files {
            let pem = self.read(path, CRL_BYTES_MAX)?;
            self.trusted_by.update(digest(&SHA256, &pem).as_ref());
            let crls = files::crls(&pem).map_err(|why| self.bad(path, why))?;
            for crl in &crls {
                let parsed = x509_parser::revocation_list::CertificateRevocationList::from_der(crl);
                let (_, parsed) =
                    parsed.map_err(|error| self.bad(path, format!("is no CRL: {error}")))?;
                if parsed.version() != Some(X509Version::V2) {
                    let why = "is a revocation list of version 1, and 2 is needed: `openssl ca` \
                               makes one where `crlnumber` is set";
                    return Err(self.bad(path, why.to_owned()));
                }
                if let Some(next) = parsed.next_update()
                    && next.timestamp() < now_s()
                {
                    let path = path.display();
                    self.warnings.push(format!("{path}: a newer revocation list was due: {next}"));
                }
            }
            all.extend(crls);
        }
        Ok(all)
    }

    fn trust_digest(&self) -> [u8; 32] {
        let digest = self.trusted_by.clone().finish();
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl Profile {
    /// One for tests, which asks no client for a certificate.
    #[cfg(test)]
    pub fn of(config: Arc<ServerConfig>) -> Self {
        let web_config = config.clone();
        let (own, warnings) = (Arc::default(), Vec::new());
        Self { config, web_config, warnings, own, trust: None, trust_digest: [0; 32] }
    }

    /// A chain of ours in PEM, the certificate itself first: what a client is shown that asks for
    /// this name, or for none. `None`: no certificate has the name, so that such a client is shown
    /// the first one, and will hardly accept it.
    pub fn chain_pem(&self, server_name: Option<&str>) -> Option<String> {
        let key = match server_name {
            Some(name) => self.own.named(name),
            None => self.own.find(None),
        };
        key.map(|key| files::chain_pem(&key.cert))
    }

    /// Who has shown this verified chain, his own certificate first.
    ///
    /// # Errors
    /// A certificate that has ended since: a resumed session brings it along from long ago. One
    /// that is of several tenants. Or what is no certificate.
    pub fn peer_certificate(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<PeerCertificate, String> {
        let leaf = chain.first().ok_or("an empty chain of certificates")?;
        let certificate = read_certificate(leaf).map_err(|error| error.to_string())?;
        if certificate.validity().not_after.timestamp() < now_s() {
            return Err("the client's certificate has expired since its session began".to_owned());
        }
        let tenant = match &self.trust {
            Some(trust) => trust.tenant_of(chain)?,
            None => None,
        };
        Ok(PeerCertificate {
            name: name_of(&certificate),
            details: Box::new(CertificateDetails::new(&certificate, leaf)),
            tenant: tenant.map(Into::into),
        })
    }
}

fn versions(min_version: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];
    static FROM_13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match min_version {
        TlsVersion::Tls12 => &FROM_12,
        TlsVersion::Tls13 => &FROM_13,
    }
}

fn new_ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    Ticketer::new()
}

fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
