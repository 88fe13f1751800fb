//! What an operator should know about settings that are valid.

use super::doors::{Listener, TlsProfile};
use super::nats_url::UrlCredentials;
use super::network::Network;
use super::settings::Settings;
use super::transport::Transport;
use super::types::{ClientAuth, ClientProvider, ListenerKind, MASK, Requirement, Secret};

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
        self.notice_idle_tls(&mut notices);
        self.notice_missing_certificates(&mut notices);
        self.notice_idle_proxies(&mut notices);
        if self.secrets().any(|secret| secret.expose() == MASK) {
            notices.push(format!(
                "a NATS password or token is {MASK}, which is what `ringgate check` shows \
                 instead of a secret"
            ));
        }
        notices
    }

    /// What is said of TLS, and does nothing.
    fn notice_idle_tls(&self, notices: &mut Vec<String>) {
        let used = self.tls_profiles();
        for name in self.ringgate.tls.keys() {
            if used.iter().all(|profile| profile.name != *name) {
                notices.push(format!("ringgate.tls.{name} is used by no listener"));
            }
        }
        for profile in used.iter().filter(|profile| profile.client_auth == ClientAuth::None) {
            let files =
                [("client-ca-files", &profile.client_ca_files), ("crl-files", &profile.crl_files)];
            let idle = files.iter().filter(|(_, files)| !files.is_empty());
            let idle: Vec<&str> = idle.map(|(name, _)| *name).collect();
            if !idle.is_empty() {
                let (idle, name) = (idle.join(" and "), &profile.name);
                notices.push(format!(
                    "{idle} of TLS profile {name} do nothing: its client-auth is none"
                ));
            }
        }
        if used.iter().all(|profile| profile.client_auth == ClientAuth::None) {
            let tenants = self.ringgate.tenants.iter();
            notices.extend(tenants.filter(|(_, tenant)| !tenant.ca_files.is_empty()).map(
                |(name, _)| {
                    format!(
                        "ringgate.tenants.{name}.ca-files do nothing: no listener asks clients \
                         for certificates"
                    )
                },
            ));
        }
    }

    /// Certificates that are demanded where nobody is asked for one.
    fn notice_missing_certificates(&self, notices: &mut Vec<String>) {
        let profiles = self.tls_profiles();
        let brings = |listener: &Listener| {
            let of_listener = |profile: &&TlsProfile| listener.tls.as_ref() == Some(&profile.name);
            let profile = profiles.iter().find(of_listener);
            let is_asked = profile.is_some_and(|profile| profile.client_auth != ClientAuth::None);
            // A proxy that speaks TLS may pass on the certificates of its clients.
            is_asked || !listener.proxy_protocol_from.is_empty()
        };
        let listeners = self.listeners();
        let asks = |kinds: [ListenerKind; 2]| {
            listeners.iter().any(|listener| kinds.contains(&listener.kind) && brings(listener))
        };
        for transport in Transport::ALL {
            let is_asked = match transport {
                Transport::MqttTcp => false,
                Transport::MqttTls => asks([ListenerKind::Mqtt, ListenerKind::Mqtts]),
                Transport::MqttWs => asks([ListenerKind::Ws, ListenerKind::Wss]),
                Transport::Http => asks([ListenerKind::Http, ListenerKind::Https]),
            };
            if is_asked {
                continue;
            }
            let of_tenants = self.ringgate.tenants.iter().map(|(name, tenant)| {
                (format!("ringgate.tenants.{name}"), tenant.require.of(transport))
            });
            let of_all =
                ("ringgate.auth".to_owned(), Some(self.ringgate.auth.require.of(transport)));
            for (path, _) in of_tenants
                .chain([of_all])
                .filter(|(_, requirement)| *requirement == Some(Requirement::Certificate))
            {
                let (word, phrase) = (transport.word(), transport.phrase());
                notices.push(format!(
                    "{path}.require.{word} is certificate, and no client can show one by {phrase}"
                ));
            }
        }
    }

    /// Proxies that nobody can be.
    fn notice_idle_proxies(&self, notices: &mut Vec<String>) {
        for Listener { name, unix_socket, proxy_protocol_from, .. } in self.listeners() {
            let is_idle = unix_socket.is_some() && !proxy_protocol_from.is_empty();
            if is_idle && !proxy_protocol_from.contains(&Network::Unix) {
                notices.push(format!(
                    "ringgate.listeners.{name}.proxy-protocol-from lacks `unix`: no PROXY header \
                     is believed of who comes by a Unix socket"
                ));
            }
        }
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let nats = &self.ringgate.nats;
        let embedded = nats.urls.iter().filter_map(|url| match url.credentials.as_ref()? {
            UrlCredentials::UserPassword(_, secret) | UrlCredentials::Token(secret) => Some(secret),
        });
        nats.credentials.password.iter().chain(&nats.credentials.token).chain(embedded)
    }
}
