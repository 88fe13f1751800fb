//! What an operator should know about settings that are valid.

use super::nats_url::UrlCredentials;
use super::settings::Settings;
use super::types::{ClientProvider, MASK, Secret};

impl Settings {
    /// Warnings to show at start and by `ringgate check`, one line each.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        let trustful = self.trustful_applications();
        if !trustful.is_empty() {
            notices.push(format!(
                "identity is trustful: ANY endpoint token is accepted for application(s) {}, \
                 and is the endpoint id",
                trustful.join(", ")
            ));
        }
        if self.ringgate.auth.client_provider == ClientProvider::Trustful {
            notices.push(
                "identity is trustful: ANY client may connect; user names, passwords and \
                 certificates are not looked at"
                    .to_owned(),
            );
        }
        if self.kaa.applications.values().all(|application| application.versions.is_empty()) {
            notices.push("kaa.applications has no version: no publish can be carried".into());
        }
        if self.kaa.extension_instances.is_empty() {
            notices.push("kaa.extension-instances is empty: no publish can be carried".into());
        }
        if self.secrets().any(|secret| secret.expose() == MASK) {
            notices.push(format!(
                "a NATS password or token is {MASK}, which is what `ringgate check` shows \
                 instead of a secret"
            ));
        }
        notices
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let nats = &self.ringgate.nats;
        let embedded = nats.urls.iter().filter_map(|url| match url.credentials.as_ref()? {
            UrlCredentials::UserPassword(_, secret) | UrlCredentials::Token(secret) => Some(secret),
        });
        nats.credentials.password.iter().chain(&nats.credentials.token).chain(embedded)
    }
}
