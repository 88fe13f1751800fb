//! Why an authority signs nothing.

use std::fmt;

use super::{COMMON_NAME_CHARS_MAX, TTL_DAYS_MAX};

/// Why an authority signs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityError {
    /// The certificate's life is none or too long: this many days.
    Ttl(u32),
    /// A name, which one is said, is empty, too long or has control characters.
    Name(&'static str),
    /// The signing request cannot be accepted, and why.
    Request(String),
    /// The authority that is to sign has itself ended.
    Expired,
    /// Authorities cannot be read or written, and why.
    Keys(String),
    /// What is kept of an authority makes no sense, and why.
    Damaged(String),
    /// The operating system gives no random numbers.
    NoRandomness,
    /// The library that writes certificates refuses, and why.
    Library(String),
}

impl AuthorityError {
    /// Whether it is what was asked for that is wrong, rather than the authority.
    pub fn is_askers_fault(&self) -> bool {
        matches!(self, Self::Ttl(_) | Self::Name(_) | Self::Request(_))
    }

    pub(super) fn damaged(reason: impl fmt::Display) -> Self {
        Self::Damaged(reason.to_string())
    }

    pub(super) fn request(reason: impl fmt::Display) -> Self {
        Self::Request(reason.to_string())
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Library(error.to_string())
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ttl(days) => {
                write!(f, "a certificate is valid for 1 to {TTL_DAYS_MAX} days, not {days}")
            }
            Self::Name(what) => write!(
                f,
                "{what} has 1 to {COMMON_NAME_CHARS_MAX} characters, and no control characters"
            ),
            Self::Request(reason) => write!(f, "the signing request is refused: {reason}"),
            Self::Expired => f.write_str("the authority that would sign has expired"),
            Self::Keys(reason) => write!(f, "the authority cannot be read or kept: {reason}"),
            Self::Damaged(reason) => write!(f, "what is kept of the authority is bad: {reason}"),
            Self::NoRandomness => f.write_str("the operating system gives no random numbers"),
            Self::Library(reason) => write!(f, "the certificate cannot be made: {reason}"),
        }
    }
}

impl std::error::Error for AuthorityError {}
