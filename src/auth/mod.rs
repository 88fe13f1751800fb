//! Who belongs here: identifies endpoints by their tokens.

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
