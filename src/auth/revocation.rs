//! That something which was good is good no more.

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// By user name and password.
    Basic,
    /// By the certificate of its TLS connection.
    Certificate,
}

/// What a provider tells everybody at once (16/ECAP §Revocation, 22/CAP §Revocation, 21/TLE).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// Tokens of an endpoint are good no more: suspended, revoked or deleted.
    Tokens {
        /// Name of the application.
        app: Box<str>,
        /// Id of the endpoint.
        endpoint_id: Box<str>,
        /// What the provider calls the tokens.
        token_ids: Vec<Box<str>>,
    },
    /// Credentials of clients are good no more.
    Client {
        /// The tenant, which 16/ECAP does not name.
        tenant: Option<Box<str>>,
        /// What they are proven by, which 16/ECAP does not say.
        method: Option<Method>,
        /// What the provider calls the credentials.
        credentials_id: Box<str>,
    },
    /// A tenant is no more (21/TLE §Unregistered).
    Tenant {
        /// Its id.
        tenant: Box<str>,
    },
}
