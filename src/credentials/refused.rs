//! Why something was not done to credentials.

use std::fmt;

/// Why a management operation was not carried out. Nothing has changed then.
#[derive(Debug)]
pub enum Refused {
    /// There are no such credentials.
    NotFound,
    /// What was asked for makes no sense, and why.
    Invalid(String),
    /// It contradicts what there is, and how.
    Conflict(String),
    /// The credentials are no longer as the caller knew them.
    Changed,
    /// The store could not be read or written.
    Store(StoreError),
}

/// The store could not be read or written.
#[derive(Debug)]
pub struct StoreError(String);

impl StoreError {
    /// With what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there are no credentials with this id"),
            Self::Invalid(why) | Self::Conflict(why) => f.write_str(why),
            Self::Changed => f.write_str("the credentials have changed since they were read"),
            Self::Store(error) => write!(f, "the store of credentials failed: {error}"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<redb::TransactionError> for Refused {
    fn from(error: redb::TransactionError) -> Self {
        StoreError(error.to_string()).into()
    }
}

impl From<redb::TableError> for Refused {
    fn from(error: redb::TableError) -> Self {
        StoreError(error.to_string()).into()
    }
}

impl From<redb::StorageError> for Refused {
    fn from(error: redb::StorageError) -> Self {
        StoreError(error.to_string()).into()
    }
}

impl From<redb::CommitError> for Refused {
    fn from(error: redb::CommitError) -> Self {
        StoreError(error.to_string()).into()
    }
}

impl From<redb::SetDurabilityError> for Refused {
    fn from(error: redb::SetDurabilityError) -> Self {
        StoreError(error.to_string()).into()
    }
}

impl From<serde_json::Error> for Refused {
    /// The text names a place in a record, and no value of it: categories only.
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        StoreError(format!("a record cannot be read (line {line}, column {column})")).into()
    }
}
