//! The files of TLS: certificates, keys and revocation lists in PEM.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Bytes of a file with certificates or a key.
pub(super) const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a file with revocation lists.
pub(super) const CRL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Characters of base64 in a line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;

/// A file that cannot be used. Says nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// The profile that wants it.
    pub profile: String,
    /// The file; empty where the settings together are bad.
    pub path: PathBuf,
    /// What is wrong with it, for the operator.
    pub why: String,
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TLS profile {}: ", self.profile)?;
        if !self.path.as_os_str().is_empty() {
            write!(f, "{}: ", self.path.display())?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for BadFile {}

/// Reads a file that has `bytes_max` bytes at most.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.by_ref().take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("has more than {bytes_max} bytes"));
    }
    Ok(bytes)
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err("holds no certificate (PEM: -----BEGIN CERTIFICATE-----)".to_owned())
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("no certificate can be read from it: {error}")),
    }
}

/// The other way round (RFC 7468 §5.1).
pub(super) fn chain_pem(chain: &[CertificateDer<'_>]) -> String {
    let mut pem = String::new();
    for certificate in chain {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = &*STANDARD.encode(certificate);
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(PEM_LINE_CHARS));
            pem.extend([line, "\n"]);
            rest = more;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

pub(super) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        format!("no private key can be read from it (PEM, not encrypted): {error}")
    })
}

pub(super) fn crls(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match read {
        Ok(crls) if crls.is_empty() => {
            Err("holds no revocation list (PEM: -----BEGIN X509 CRL-----)".to_owned())
        }
        Ok(crls) => Ok(crls),
        Err(error) => Err(format!("no revocation list can be read from it: {error}")),
    }
}
