//! The server's side of TLS for devices, made from files.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

use crate::auth::CertificateName;
use crate::auth::certificate::{NoCertificate, certificate_name};

/// What TLS is spoken by at a door.
#[derive(Debug)]
pub struct Profile {
    /// For rustls.
    pub config: Arc<ServerConfig>,
}

impl Profile {
    /// Who has shown this chain.
    pub fn peer_certificate(
        &self,
        chain: &[CertificateDer<'_>],
    ) -> Result<CertificateName, NoCertificate> {
        certificate_name(chain.first().map_or(&[], |der| der.as_ref()))
    }
}
