//! Which tenant an application version is of. Events and messages name versions, never tenants.

use crate::config::Settings;
use std::collections::HashMap;

/// See the module's documentation. As many as the configuration has.
#[derive(Debug, Default)]
pub struct TenantsOfVersions(HashMap<Box<str>, Box<str>>);

impl TenantsOfVersions {
    /// Those of the configuration.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let of_app = |name: &String| settings.tenant(name).to_owned();
        let apps = settings.kaa.applications.iter();
        let versions = apps.flat_map(|(name, app)| {
            let tenant = of_app(name);
            app.versions
                .keys()
                .map(move |version| (version.as_str().into(), tenant.as_str().into()))
        });
        Self(versions.collect())
    }

    /// Whether two versions are known to be of different tenants. Of one that is not known here,
    /// which another replica may know, nothing is.
    #[must_use]
    pub fn differ(&self, version: &str, other: &str) -> bool {
        version != other
            && match (self.0.get(version), self.0.get(other)) {
                (Some(tenant), Some(other)) => tenant != other,
                _ => false,
            }
    }
}

#[cfg(test)]
pub mod testing {
    use super::TenantsOfVersions;

    /// Two versions of tenant `acme` and one of `other`.
    pub fn two() -> TenantsOfVersions {
        let of = |(version, tenant): (&str, &str)| (version.into(), tenant.into());
        let versions = [("acme-1", "acme"), ("acme-2", "acme"), ("other-1", "other")];
        TenantsOfVersions(versions.into_iter().map(of).collect())
    }
}
