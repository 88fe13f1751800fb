//! Which credentials a list is to have.

use super::record::Scope;
use super::state::State;

/// Records of a page if none is named, as in CM and CCM.
pub const LIMIT_DEFAULT: u32 = 20;
/// Records of a page at most.
pub const LIMIT_MAX: u32 = 1_000;

/// By creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    #[default]
    Descending,
}

/// Which credentials, and which piece of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Whose.
    pub scope: Scope<'a>,
    /// In one of these states; in any if there is none.
    pub states: Vec<State>,
    /// How many to pass over.
    pub offset: u64,
    /// How many to give, of 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// In which order.
    pub order: Order,
}

impl<'a> Filter<'a> {
    /// The first page of a scope.
    pub fn new(scope: Scope<'a>) -> Self {
        let (states, order) = (Vec::new(), Order::default());
        Self { scope, states, offset: 0, limit: LIMIT_DEFAULT, order }
    }
}

/// A piece of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<R> {
    /// The records.
    pub content: Vec<R>,
    /// How many there are in all.
    pub total: u64,
    /// How many were passed over.
    pub offset: u64,
    /// How many the page may have.
    pub limit: u32,
}
