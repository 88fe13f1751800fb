//! Reads certificate signing requests (PKCS #10).

use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::AuthorityError;

/// Bytes of a signing request in PEM: one with an RSA key of 8192 bits has less than 4 KiB.
pub const CSR_BYTES_MAX: usize = 16 * 1_024;
/// Bits of an RSA key, below which TLS takes none.
const RSA_BITS_MIN: usize = 2_048;

/// What is taken of a signing request.
pub(super) struct Request {
    /// Common name of the subject, if it has one.
    pub(super) common_name: Option<String>,
    /// The key, which the sender has proven to have.
    pub(super) key: SubjectPublicKeyInfo,
}

/// Reads a request in PEM and verifies that it was signed with its own key.
pub(super) fn read(pem: &str) -> Result<Request, AuthorityError> {
    if pem.len() > CSR_BYTES_MAX {
        return Err(AuthorityError::request(format!("it has more than {CSR_BYTES_MAX} bytes")));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        AuthorityError::request(
            "it is not in PEM; it begins with -----BEGIN CERTIFICATE REQUEST-----",
        )
    })?;
    let (rest, request) = X509CertificationRequest::from_der(&der)
        .map_err(|error| AuthorityError::request(format!("it cannot be read: {error}")))?;
    if !rest.is_empty() {
        return Err(AuthorityError::request("something follows it"));
    }
    request.verify_signature().map_err(|error| {
        AuthorityError::request(format!(
            "its signature is not that of its own key, or of an unknown kind: {error}"
        ))
    })?;
    let info = &request.certification_request_info;
    if let Ok(PublicKey::RSA(key)) = info.subject_pki.parsed()
        && key.key_size() < RSA_BITS_MIN
    {
        return Err(AuthorityError::request(format!(
            "its RSA key has less than {RSA_BITS_MIN} bits"
        )));
    }
    let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).map_err(|_| {
        AuthorityError::request(
            "its key is neither RSA nor ECDSA of the curve P-256 or P-384 nor Ed25519",
        )
    })?;
    let common_name = match info.subject.iter_common_name().next() {
        None => None,
        Some(name) => {
            let text =
                name.as_str().map_err(|_| AuthorityError::request("its common name is no text"))?;
            Some(text.to_owned())
        }
    };
    Ok(Request { common_name, key })
}
