//! Which client certificates are trusted, and for which tenant.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates between a client's and an authority that is trusted.
const INTERMEDIATES_MAX: usize = 6;

/// An authority that client certificates may come from.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    /// Its certificate.
    pub der: CertificateDer<'static>,
    /// The only tenant that its certificates may be of; `None`: whichever the provider says.
    pub tenant: Option<Box<str>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Trust {
    authorities: Vec<Authority>,
}

impl Trust {
    /// Trusts these.
    ///
    /// # Errors
    /// The same authority is of two tenants: nobody could say which one a client is of.
    pub(super) fn new(mut authorities: Vec<Authority>) -> Result<Self, String> {
        // Those of a tenant first: where an authority is also trusted in general, it stays the
        // tenant's.
        authorities.sort_by_key(|authority| authority.tenant.is_none());
        for (at, authority) in authorities.iter().enumerate() {
            let twin = authorities[..at].iter().find(|other| same_key(&other.der, &authority.der));
            let tenants = (twin.and_then(|t| t.tenant.as_ref()), authority.tenant.as_ref());
            if let (Some(one), Some(other)) = tenants
                && one != other
            {
                return Err(format!("tenants {one} and {other} have the same authority"));
            }
        }
        Ok(Self { authorities })
    }

    /// What rustls verifies client certificates by: chain, validity, key usage, revocation lists.
    pub(super) fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        crls: Vec<CertificateRevocationListDer<'static>>,
        is_required: bool,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots
                .add(authority.der.clone())
                .map_err(|error| format!("an authority cannot be trusted: {error}"))?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .with_crls(crls)
                // One authority of several may publish no list. Those that do are heeded.
                .allow_unknown_revocation_status();
        let builder = if is_required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| format!("client certificates cannot be verified: {error}"))
    }

    /// The only tenant that a client with this verified chain may be of.
    ///
    /// Follows signatures from the client's certificate up, so that nobody gets into another
    /// tenant by a certificate that merely lies in his chain.
    pub(super) fn tenant_of(&self, chain: &[CertificateDer<'_>]) -> Option<&str> {
        let parsed = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok());
        let parsed: Vec<X509Certificate<'_>> = parsed.map(|(_, certificate)| certificate).collect();
        let mut current = parsed.first()?;
        for _ in 0..=INTERMEDIATES_MAX {
            let issuer = self.authorities.iter().find(|authority| {
                let parsed = X509Certificate::from_der(&authority.der);
                parsed.is_ok_and(|(_, authority)| has_issued(&authority, current))
            });
            if let Some(authority) = issuer {
                return authority.tenant.as_deref();
            }
            current = parsed.iter().find(|other| has_issued(other, current))?;
        }
        None
    }
}

fn has_issued(authority: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    authority.subject().as_raw() == certificate.issuer().as_raw()
        && certificate.verify_signature(Some(authority.public_key())).is_ok()
}

/// Whether two certificates are of the same name and key.
fn same_key(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    let parsed = (X509Certificate::from_der(one), X509Certificate::from_der(other));
    let (Ok((_, one)), Ok((_, other))) = parsed else { return false };
    one.subject().as_raw() == other.subject().as_raw()
        && one.public_key().raw == other.public_key().raw
}
