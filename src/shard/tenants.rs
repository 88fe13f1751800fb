//! What each tenant demands of the clients that talk for it.

use std::collections::HashMap;

use crate::auth::Requirement;

/// See the module's documentation. What was set while the process runs comes before what the
/// configuration says of the tenant, and that before what it says of all.
#[derive(Debug, Clone, Default)]
pub struct Tenants {
    /// Of tenants that nothing is said of.
    others: Requirement,
    /// Of single tenants, by the configuration.
    pub configured: HashMap<Box<str>, Requirement>,
    /// Of single tenants, set since.
    set: HashMap<Box<str>, Requirement>,
}

impl Tenants {
    /// Every tenant demands `others`.
    pub fn new(others: Requirement) -> Self {
        Self { others, ..Self::default() }
    }

    /// What a tenant demands.
    pub fn requirement(&self, tenant: &str) -> Requirement {
        let own = self.set.get(tenant).or_else(|| self.configured.get(tenant));
        own.copied().unwrap_or(self.others)
    }

    /// A tenant demands something else from now on; `None`: what the configuration says.
    pub fn set(&mut self, tenant: &str, requirement: Option<Requirement>) {
        match requirement {
            Some(requirement) => self.set.insert(tenant.into(), requirement),
            None => self.set.remove(tenant),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_and_most_special_word_counts() {
        let mut tenants = Tenants::new(Requirement::Any);
        tenants.configured.insert("acme".into(), Requirement::Basic);
        assert_eq!(tenants.requirement("other"), Requirement::Any);
        assert_eq!(tenants.requirement("acme"), Requirement::Basic);
        tenants.set("acme", Some(Requirement::None));
        assert_eq!(tenants.requirement("acme"), Requirement::None);
        tenants.set("acme", None);
        assert_eq!(tenants.requirement("acme"), Requirement::Basic);
    }
}
