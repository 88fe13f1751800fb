//! An embedded certificate authority: a self-signed root, below it an authority for each tenant,
//! below that the clients' certificates.
//!
//! A server that trusts the root alone accepts the clients of every tenant; who a client belongs
//! to, the record of its certificate says. Root and tenants' authorities are made at their first
//! use and kept, keys included, through [`Keys`]. The key of a client is handed out once and kept
//! nowhere. All keys that are made here are of the curve P-256, which every TLS library knows.
//!
//! Everything here computes (a signature takes tens of microseconds) and writes to the disk: it is
//! not for the thread of a shard.

mod error;
pub mod request;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::random;
use crate::auth::{CertificateName, certificate_name};
use crate::config::Secret;
pub use error::AuthorityError;

/// Days a client's certificate is good for, unless it is said.
pub const TTL_DAYS_DEFAULT: u32 = 365;
/// Longest life of a client's certificate in days: ten years.
pub const TTL_DAYS_MAX: u32 = 3_650;
/// Characters of a common name, and so of a tenant's id here (X.520 `ub-common-name`).
pub const COMMON_NAME_CHARS_MAX: usize = 64;
/// Life of a tenant's authority in days: twenty years, so that one made today outlives every
/// certificate of the next ten.
const TENANT_DAYS: u32 = 7_300;
/// Life of the root in days: thirty years.
const ROOT_DAYS: u32 = 10_950;
/// A certificate is valid this long before it was made, for devices whose clocks are behind.
const CLOCK_SKEW_S: u64 = 3_600;
/// Bytes of a serial number; RFC 5280 §4.1.2.2 allows 20.
const SERIAL_BYTES: usize = 16;
/// Name the root is kept under.
const ROOT: &str = "root";
/// What names of tenants' authorities begin with.
const TENANT_PREFIX: &str = "tenant/";
const SECONDS_PER_DAY: u64 = 86_400;

/// Where authorities are kept. What is kept has a private key in it, so that nobody else may be
/// able to read it.
pub trait Keys: Send + Sync {
    /// What is kept under `name`.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, String>;

    /// Keeps `bytes` under `name` if nothing is kept there yet; what is there stays.
    ///
    /// # Errors
    /// Why it cannot be written, for people.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), String>;
}

/// A certificate as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The certificate and the authority of its tenant, which a client sends along, in PEM.
    pub chain_pem: String,
    /// Issuer and serial number, by which the client is found.
    pub name: CertificateName,
    /// Common name of the subject.
    pub common_name: String,
    /// When the certificate ends, in milliseconds since 1970.
    pub not_after_ms: u64,
}

/// A certificate whose key was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: Signed,
    /// Its private key (PKCS #8 in PEM). It exists here alone.
    pub private_key_pem: Secret,
}

/// The authority of this installation.
pub struct Authority {
    keys: Arc<dyn Keys>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority that is kept in `keys`.
    pub fn new(keys: Arc<dyn Keys>) -> Self {
        Self { keys }
    }

    /// The root's certificate in PEM, which servers and devices trust.
    ///
    /// # Errors
    /// The root cannot be read or made.
    pub fn root_certificate_pem(&self) -> Result<String, AuthorityError> {
        Ok(self.root(now_s())?.certificate_pem)
    }

    /// Makes a key and a certificate for it. Without a common name, one is made of the serial
    /// number.
    ///
    /// # Errors
    /// The tenant, the name or the life is refused, or an authority cannot be read or made.
    pub fn issue(
        &self,
        tenant: &str,
        common_name: Option<&str>,
        ttl_days: u32,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = self.sign(tenant, common_name, &key, ttl_days)?;
        Ok(Issued { certificate, private_key_pem: Secret::new(key.serialize_pem()) })
    }

    /// A certificate for the key of a signing request (PKCS #10 in PEM). Of the request, only its
    /// key and common name are taken: nobody asks their way to an authority or a server's name.
    ///
    /// # Errors
    /// As [`Self::issue`]; the request cannot be read, its signature is wrong (its sender does not
    /// have the key), or its key is of a kind that TLS here does not take.
    pub fn sign_csr(
        &self,
        tenant: &str,
        csr_pem: &str,
        ttl_days: u32,
    ) -> Result<Signed, AuthorityError> {
        let request = request::read(csr_pem)?;
        self.sign(tenant, request.common_name.as_deref(), &request.key, ttl_days)
    }

    fn sign(
        &self,
        tenant: &str,
        common_name: Option<&str>,
        key: &impl PublicKeyData,
        ttl_days: u32,
    ) -> Result<Signed, AuthorityError> {
        if !(1..=TTL_DAYS_MAX).contains(&ttl_days) {
            return Err(AuthorityError::Ttl(ttl_days));
        }
        let now_s = now_s();
        let serial = serial()?;
        let common_name = match common_name {
            Some(name) => name.to_owned(),
            None => format!("client-{}", u128::from_be_bytes(serial)),
        };
        check_name("a common name", &common_name)?;
        let authority = self.tenant(tenant, now_s)?;
        let not_after_s = authority.end_s(now_s, ttl_days)?;
        let mut params = params(&serial, now_s, not_after_s);
        params.distinguished_name.push(DnType::CommonName, &*common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(key, &authority.issuer)?;
        Ok(Signed {
            chain_pem: certificate.pem() + &authority.certificate_pem,
            name: certificate_name(certificate.der()).map_err(AuthorityError::damaged)?,
            common_name,
            not_after_ms: not_after_s * 1_000,
        })
    }

    /// The root, made if there is none.
    fn root(&self, now_s: u64) -> Result<Signer, AuthorityError> {
        self.kept_or_made(ROOT, || {
            let serial = serial()?;
            let mut params = params(&serial, now_s, now_s + days_s(ROOT_DAYS));
            // Two installations' roots are different names, so that none passes for the other.
            let [a, b, c, d, ..] = serial;
            let name = format!("ringgate root {:08x}", u32::from_be_bytes([a, b, c, d]));
            params.distinguished_name.push(DnType::OrganizationName, "ringgate");
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate()?;
            Ok(kept(&params.self_signed(&key)?, &key))
        })
    }

    /// The authority of a tenant, made if there is none.
    fn tenant(&self, tenant: &str, now_s: u64) -> Result<Signer, AuthorityError> {
        check_name("a tenant's id", tenant)?;
        self.kept_or_made(&format!("{TENANT_PREFIX}{tenant}"), || {
            let root = self.root(now_s)?;
            let not_after_s = root.end_s(now_s, TENANT_DAYS)?;
            let mut params = params(&serial()?, now_s, not_after_s);
            params.distinguished_name.push(DnType::OrganizationName, "ringgate");
            params.distinguished_name.push(DnType::OrganizationalUnitName, "tenant");
            params.distinguished_name.push(DnType::CommonName, tenant);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate()?;
            Ok(kept(&params.signed_by(&key, &root.issuer)?, &key))
        })
    }

    /// The authority kept under `name`. Two that make it at the same time both get what the first
    /// one kept.
    fn kept_or_made(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Vec<u8>, AuthorityError>,
    ) -> Result<Signer, AuthorityError> {
        let get = || self.keys.get(name).map_err(AuthorityError::Keys);
        let bytes = match get()? {
            Some(bytes) => bytes,
            None => {
                self.keys.put_new(name, &make()?).map_err(AuthorityError::Keys)?;
                get()?.ok_or_else(|| AuthorityError::damaged("it was not kept"))?
            }
        };
        Signer::read(&bytes)
    }
}

/// An authority, able to sign.
struct Signer {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_after_s: u64,
}

impl Signer {
    /// Reads what [`kept`] wrote.
    fn read(bytes: &[u8]) -> Result<Self, AuthorityError> {
        let text = std::str::from_utf8(bytes).map_err(AuthorityError::damaged)?;
        let at =
            text.find(KEY_BEGIN).ok_or_else(|| AuthorityError::damaged("it has no private key"))?;
        let (certificate_pem, key_pem) = text.split_at(at);
        // An error of the key's reader is not passed on: what it may quote is the key.
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| AuthorityError::damaged("its key cannot be read"))?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(AuthorityError::damaged)?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(AuthorityError::damaged)?;
        let not_after_s = u64::try_from(certificate.validity().not_after.timestamp());
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            not_after_s: not_after_s.map_err(AuthorityError::damaged)?,
        })
    }

    /// When something ends that is signed now for so many days: not after its authority.
    fn end_s(&self, now_s: u64, ttl_days: u32) -> Result<u64, AuthorityError> {
        if self.not_after_s <= now_s {
            return Err(AuthorityError::Expired);
        }
        Ok(self.not_after_s.min(now_s + days_s(ttl_days)))
    }
}

const KEY_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";

/// An authority's certificate and key as one piece, so that one is never kept without the other.
fn kept(certificate: &Certificate, key: &KeyPair) -> Vec<u8> {
    (certificate.pem() + &key.serialize_pem()).into_bytes()
}

/// What all certificates have in common.
fn params(serial: &[u8; SERIAL_BYTES], now_s: u64, not_after_s: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now_s - CLOCK_SKEW_S);
    params.not_after = epoch + Duration::from_secs(not_after_s);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params
}

/// A random serial number: positive, of the same length always, never given twice in practice.
fn serial() -> Result<[u8; SERIAL_BYTES], AuthorityError> {
    let mut serial: [u8; SERIAL_BYTES] =
        random::bytes().map_err(|_| AuthorityError::NoRandomness)?;
    // The first bit would make it negative; the second keeps it from being short or zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn check_name(what: &'static str, name: &str) -> Result<(), AuthorityError> {
    let chars = name.chars().count();
    let is_fine = (1..=COMMON_NAME_CHARS_MAX).contains(&chars) && !name.contains(char::is_control);
    if is_fine { Ok(()) } else { Err(AuthorityError::Name(what)) }
}

fn days_s(days: u32) -> u64 {
    u64::from(days) * SECONDS_PER_DAY
}

/// Seconds since 1970, by a clock that is at least an hour past it.
fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().max(CLOCK_SKEW_S)
}
