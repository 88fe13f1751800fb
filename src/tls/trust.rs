//! Which client certificates are trusted, and for which tenant.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Signatures that are verified to find the tenant of one client, besides one for each authority;
/// rustls verifies as many at most (webpki's `Budget`).
const SIGNATURES_MAX: usize = 100;

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

    /// The only tenant that a client with this verified chain may be of, if there is one.
    ///
    /// rustls does not say by which authority it has verified a chain, which may hold whatever the
    /// client likes. So every authority is found that signatures lead to from the client's
    /// certificate; the one that rustls has found is among them.
    ///
    /// # Errors
    /// They are of several tenants, or there are none: nobody can say whose the client is.
    pub(super) fn tenant_of(&self, chain: &[CertificateDer<'_>]) -> Result<Option<&str>, String> {
        if self.authorities.iter().all(|authority| authority.tenant.is_none()) {
            return Ok(None);
        }
        let mut found = None;
        for at in self.reached_from(chain)? {
            let tenant = self.authorities[at].tenant.as_deref();
            match (found, tenant) {
                (Some(Some(one)), Some(other)) if one != other => {
                    return Err(format!(
                        "the client's certificate is of tenants {one} and {other} both"
                    ));
                }
                // One of a tenant may also be signed by an authority of all: it stays the tenant's.
                (Some(Some(_)), _) => {}
                (Some(None) | None, tenant) => found = Some(tenant),
            }
        }
        found.ok_or_else(|| "the client's certificate leads to no authority".to_owned())
    }

    /// The authorities that signatures lead to from the first certificate of a chain.
    fn reached_from(&self, chain: &[CertificateDer<'_>]) -> Result<BTreeSet<usize>, String> {
        let chain = parsed(chain.iter());
        let authorities = parsed(self.authorities.iter().map(|authority| &authority.der));
        let mut signatures_left = SIGNATURES_MAX + authorities.len();
        let mut has_issued = |authority: &X509Certificate<'_>, issued: &X509Certificate<'_>| {
            if authority.subject().as_raw() != issued.issuer().as_raw() {
                return Ok(false);
            }
            signatures_left = usize::checked_sub(signatures_left, 1)
                .ok_or("the client's chain has too many certificates of the same name")?;
            Ok::<_, String>(issued.verify_signature(Some(authority.public_key())).is_ok())
        };
        let mut reached = BTreeSet::new();
        // Places in the chain that have been reached, in the order in which they were.
        let mut path = vec![0];
        let mut next = 0;
        while let Some(issued) =
            path.get(next).and_then(|at| chain.get(*at)).and_then(Option::as_ref)
        {
            next += 1;
            for (at, authority) in places(&authorities) {
                if !reached.contains(&at) && has_issued(authority, issued)? {
                    reached.insert(at);
                }
            }
            for (at, other) in places(&chain) {
                // At an authority the way ends, whoever has signed that: rustls goes no further.
                let is_trusted = places(&authorities).any(|(_, one)| is_same(one, other));
                if !path.contains(&at) && !is_trusted && has_issued(other, issued)? {
                    path.push(at);
                }
            }
        }
        Ok(reached)
    }
}

/// What is no certificate keeps its place, but is none.
fn parsed<'a>(
    certificates: impl Iterator<Item = &'a CertificateDer<'a>>,
) -> Vec<Option<X509Certificate<'a>>> {
    let read = |der: &'a CertificateDer<'a>| X509Certificate::from_der(der).ok();
    certificates.map(|der| read(der).map(|(_, certificate)| certificate)).collect()
}

fn places<'a, 'b>(
    certificates: &'b [Option<X509Certificate<'a>>],
) -> impl Iterator<Item = (usize, &'b X509Certificate<'a>)> {
    let all = certificates.iter().enumerate();
    all.filter_map(|(at, certificate)| Some((at, certificate.as_ref()?)))
}

/// Whether two certificates are of the same name and key.
fn same_key(one: &CertificateDer<'_>, other: &CertificateDer<'_>) -> bool {
    let parsed = (X509Certificate::from_der(one), X509Certificate::from_der(other));
    let (Ok((_, one)), Ok((_, other))) = parsed else { return false };
    is_same(&one, &other)
}

fn is_same(one: &X509Certificate<'_>, other: &X509Certificate<'_>) -> bool {
    one.subject().as_raw() == other.subject().as_raw()
        && one.public_key().raw == other.public_key().raw
}
