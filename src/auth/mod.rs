//! Who belongs here: what providers of credentials are asked and what they answer, how long an
//! answer holds, and who has failed to log in too often. Pure but for the lock of [`throttle`].
//!
//! A *provider* says whether an endpoint token or a client's credentials are good: the internal one
//! ([`crate::credentials`]), remote ones over NATS (16/ECAP, 22/CAP) or HTTP, or none at all
//! (`trustful`). A shard asks in [`Question`]s and gets [`Verdict`]s, whoever the provider is.

pub mod certificate;
pub mod details;
pub mod lately;
pub mod question;
pub mod revocation;
pub mod throttle;
pub mod verdicts;

pub use crate::config::{PerTransport, Transport};
pub use certificate::certificate_name;
pub use details::CertificateDetails;
pub use lately::RevokedLately;
pub use question::{CertificateName, ClientGrant, EndpointGrant, Question, Rejection, Verdict};
pub use revocation::{Method, Revocation};
pub use throttle::Throttle;
pub use verdicts::{Grant, Known, Verdicts};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Nobody: every token is good, and is the endpoint's id; clients are let in without proof. As
    /// Kaa's Trustful credentials service: for development and closed networks, and said so loudly
    /// at start.
    Trustful,
    /// This process's own store.
    Internal,
    /// A service behind 16/ECAP.
    Ecap,
    /// A service behind 22/CAP, which knows clients only.
    Cap,
    /// A service behind HTTP.
    Http,
}

impl Provider {
    /// Whether it is asked over NATS.
    pub fn is_over_nats(self) -> bool {
        matches!(self, Self::Ecap | Self::Cap)
    }
}

/// What a tenant demands of clients that talk for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing.
    #[default]
    None,
    /// User name and password.
    Basic,
    /// A certificate.
    Certificate,
    /// One or the other.
    Any,
}

impl Requirement {
    /// Whether a client that has proven itself by `method`, or not at all, is let talk.
    pub fn is_met_by(self, method: Option<Method>) -> bool {
        match self {
            Self::None => true,
            Self::Basic => method == Some(Method::Basic),
            Self::Certificate => method == Some(Method::Certificate),
            Self::Any => method.is_some(),
        }
    }
}

/// What a tenant demands.
pub type Demands = PerTransport<Requirement>;
/// What has been laid down that a tenant demands while the process runs; `None`: what the
/// configuration says.
pub type LaidDown = PerTransport<Option<Requirement>>;

/// Where a question came from, which its answer goes back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The shard.
    pub shard: u16,
    /// The number the shard knows the question by.
    pub ask: u64,
}

/// The question cannot be taken now: too many are waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// Takes questions that this process answers itself, off the shards' threads. The answer comes by
/// mail.
pub trait Clerk: Send + Sync {
    /// Takes a question; never waits.
    ///
    /// # Errors
    /// [`Busy`]: too many are waiting.
    fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy>;
}
