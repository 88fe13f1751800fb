//! Who belongs here: what providers of credentials are asked and what they answer, how long an
//! answer holds, and who has failed to log in too often. Pure but for the lock of [`throttle`].
//!
//! A *provider* says whether an endpoint token or a client's credentials are good: the internal one
//! ([`crate::credentials`]), remote ones over NATS (16/ECAP, 22/CAP) or HTTP, or none at all
//! (`trustful`). A shard asks in [`Question`]s and gets [`Verdict`]s, whoever the provider is.

pub mod certificate;
pub mod question;
pub mod revocation;

pub use certificate::certificate_name;
pub use question::{CertificateName, ClientGrant, EndpointGrant, Question, Rejection, Verdict};
pub use revocation::{Method, Revocation};

/// Identifies endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Accepts every token; the endpoint's id is its token. As Kaa's Trustful credentials service:
    /// for development and closed networks, and said so loudly at start.
    Trustful,
}

impl Provider {
    /// The id of the endpoint that `token` names.
    pub fn endpoint_id<'a>(&self, token: &'a str) -> &'a str {
        match self {
            Self::Trustful => token,
        }
    }
}
