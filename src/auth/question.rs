//! What a provider is asked, and what it answers.

use std::fmt;

use super::CertificateDetails;
use crate::config::Secret;

/// A question to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Which endpoint has this token (16/ECAP §Endpoint token validation)?
    Token {
        /// Name of the application the token must be of.
        app: Box<str>,
        /// The token: a credential, so that it is never shown.
        token: Secret,
    },
    /// Is this a client's user name and password (22/CAP §Basic)?
    Basic {
        /// The tenant whose credentials they must be: what follows the last `@` of the MQTT user
        /// name.
        tenant: Box<str>,
        /// The user name without `@` and tenant.
        username: Box<str>,
        /// The password; may be empty.
        password: Secret,
    },
    /// Whose certificate is this (22/CAP §Certificate)? Its chain, validity and signature have been
    /// verified.
    Certificate {
        /// What the provider finds it by.
        name: CertificateName,
        /// What else it says; `None` where nobody asks for it, or it is not known.
        details: Option<Box<CertificateDetails>>,
    },
}

/// What names a client certificate (22/CAP §Certificate).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateName {
    /// The issuer's distinguished name, as RFC 4514 writes it.
    pub issuer: Box<str>,
    /// The serial number in base 10.
    pub serial: Box<str>,
}

/// A provider's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The token is good.
    Endpoint(EndpointGrant),
    /// The client's credentials are good.
    Client(ClientGrant),
    /// They are not, or nobody could say.
    Rejected(Rejection),
}

/// What a good endpoint token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointGrant {
    /// Id of the endpoint.
    pub endpoint_id: Box<str>,
    /// What a revocation calls the token, if the provider has a name for it.
    pub token_id: Option<Box<str>>,
}

/// What a client's good credentials stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientGrant {
    /// The tenant the client belongs to.
    pub tenant: Box<str>,
    /// What a revocation calls the credentials, if the provider has a name for them.
    pub credentials_id: Option<Box<str>>,
    /// What the provider calls the client.
    pub client_id: Option<Box<str>>,
}

/// Why somebody is not let in, in the terms of HTTP as ECAP and CAP have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// 4xx: the credentials are not good. 5xx: nobody could say.
    pub status_code: i32,
    /// For people.
    pub reason: Option<Box<str>>,
}

impl Rejection {
    /// With a reason of our own.
    pub fn new(status_code: i32, reason: &str) -> Self {
        Self { status_code, reason: Some(reason.into()) }
    }

    /// Whether nobody could say: then it holds for this attempt alone.
    pub fn is_passing(&self) -> bool {
        !(400..500).contains(&self.status_code)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{} {reason}", self.status_code),
            None => write!(f, "{}", self.status_code),
        }
    }
}
