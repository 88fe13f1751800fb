//! Which certificate a client is shown: by the name it asks for (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct ByName {
    /// For clients that ask for no name, or for one that nobody has.
    first: Option<Arc<CertifiedKey>>,
    /// By DNS name in lower case, `*.` for one label included. The first that has a name keeps it.
    names: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl ByName {
    /// Shows these; the first to those that ask for no name.
    pub(super) fn new(keys: Vec<Arc<CertifiedKey>>) -> Self {
        let mut names = HashMap::new();
        for key in &keys {
            let leaf = key.cert.first().map(dns_names).unwrap_or_default();
            for name in leaf {
                names.entry(name).or_insert_with(|| key.clone());
            }
        }
        Self { first: keys.into_iter().next(), names }
    }

    /// What a client is shown that asks for this name, or for none.
    pub(super) fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        name.and_then(|name| self.named(name)).or(self.first.as_ref())
    }

    /// The certificate that has a name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let exact = self.names.get(name.as_str());
        let wild = || {
            let (_, parent) = name.split_once('.')?;
            self.names.get(format!("*.{parent}").as_str())
        };
        exact.or_else(wild)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).cloned()
    }
}

/// The DNS names of a certificate, in lower case. One that cannot be read has none.
fn dns_names(der: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let dns = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    });
    dns.collect()
}
