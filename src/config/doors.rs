//! The settings of where devices come in: listeners, and what TLS is spoken by there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use super::limits;
use super::network::Network;
use super::settings::Settings;
use super::types::{ClientAuth, ListenerKind, TlsVersion};

/// A listener's limit that leaves it to that of the process.
const UNLIMITED: usize = limits::CONNECTIONS.max as usize;
/// What the listeners of the short forms are called; the profile of the second is called like it.
pub(super) const MQTT_TCP: &str = "mqtt-tcp";
pub(super) const MQTT_TLS: &str = "mqtt-tls";
pub(super) const MQTT_WS: &str = "mqtt-ws";
pub(super) const HTTP: &str = "http";

/// `kaa.kpc.transports.mqtt.tls`: the short form of a listener and its profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttTls {
    /// Whether devices may connect this way.
    pub enabled: bool,
    /// TCP port.
    pub port: u16,
    /// PEM file of the certificate chain.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// PEM file of the authorities that client certificates may come from.
    pub client_ca_file: Option<PathBuf>,
    /// PEM file of revocation lists.
    pub crl_file: Option<PathBuf>,
}

/// `kaa.kpc.transports.mqtt.websocket` and `kaa.kpc.transports.http`: short forms of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortForm {
    /// Whether devices may connect this way.
    pub enabled: bool,
    /// TCP port.
    pub port: u16,
}

/// `ringgate.http`: what holds for every connection that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Milliseconds from the first byte of a request to its last.
    pub request_timeout_ms: u32,
    /// Milliseconds from a whole request to the answer of its extension service.
    pub answer_timeout_ms: u32,
    /// Milliseconds that a connection may be without a request.
    pub idle_timeout_ms: u32,
}

/// `ringgate.websocket`: what holds for every WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocket {
    /// Path it is at.
    pub path: String,
    /// Origins whose pages may connect; empty: all may.
    pub origins: Vec<String>,
    /// Payload bytes of one frame.
    pub frame_bytes_max: usize,
}

/// `ringgate.tls.<profile>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM files of certificate chains; the first for clients that ask for no name.
    pub cert_files: Vec<PathBuf>,
    /// PEM files of their keys, in the same order.
    pub key_files: Vec<PathBuf>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// PEM files of authorities that client certificates may come from.
    pub client_ca_files: Vec<PathBuf>,
    /// PEM files of revocation lists.
    pub crl_files: Vec<PathBuf>,
    /// The oldest version of TLS spoken.
    pub min_version: TlsVersion,
}

/// `ringgate.listeners.<name>`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Local addresses, instead of `ringgate.listen.addresses`.
    pub addresses: Option<Vec<IpAddr>>,
    /// TCP port.
    pub port: u16,
    /// A Unix socket, instead of addresses and a port.
    pub unix_socket: Option<PathBuf>,
    /// Name of its TLS profile.
    pub tls: Option<String>,
    /// Connections at it, of the whole process.
    pub connections_max: usize,
    /// Proxies whose PROXY headers are believed; empty: none are read.
    pub proxy_protocol_from: Vec<Network>,
}

/// `ringgate.tls-handshakes`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsHandshakes {
    /// Handshakes under way at a time, whole process.
    pub max: usize,
    /// Milliseconds from accepted to the end of the handshake.
    pub timeout_ms: u32,
}

/// A listener, in whichever form it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name; `mqtt-tcp` and `mqtt-tls` are those of KPC's keys.
    pub name: String,
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Local addresses.
    pub addresses: Vec<IpAddr>,
    /// TCP port.
    pub port: u16,
    /// A Unix socket, instead of addresses and a port.
    pub unix_socket: Option<PathBuf>,
    /// Name of its TLS profile; there is one exactly where TLS is spoken.
    pub tls: Option<String>,
    /// Connections at it, of the whole process.
    pub connections_max: usize,
    /// Proxies whose PROXY headers are believed; empty: none are read.
    pub proxy_protocol_from: Vec<Network>,
    /// The key that its port comes from.
    pub port_key: String,
}

/// What TLS is spoken by, in whichever form it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProfile {
    /// Its name; `mqtt-tls` is that of KPC's keys.
    pub name: String,
    /// PEM files of certificate chains and their keys; the first for clients that ask for no name.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// PEM files of authorities that client certificates may come from.
    pub client_ca_files: Vec<PathBuf>,
    /// Tenants, and PEM files of authorities whose certificates are only of that tenant.
    pub tenant_ca_files: Vec<(String, PathBuf)>,
    /// PEM files of revocation lists.
    pub crl_files: Vec<PathBuf>,
    /// The oldest version of TLS spoken.
    pub min_version: TlsVersion,
}

impl Default for MqttTls {
    fn default() -> Self {
        Self {
            enabled: false,
            port: 8883,
            cert_file: None,
            key_file: None,
            client_auth: ClientAuth::None,
            client_ca_file: None,
            crl_file: None,
        }
    }
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            kind: ListenerKind::Mqtts,
            addresses: None,
            port: 8883,
            unix_socket: None,
            tls: None,
            connections_max: UNLIMITED,
            proxy_protocol_from: Vec::new(),
        }
    }
}

impl ShortForm {
    /// One that is off.
    pub fn at(port: u16) -> Self {
        Self { enabled: false, port }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            request_timeout_ms: 10_000,
            answer_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
        }
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { path: "/ws".to_owned(), origins: Vec::new(), frame_bytes_max: 1024 * 1024 }
    }
}

impl Default for TlsHandshakes {
    fn default() -> Self {
        Self { max: 4_096, timeout_ms: 10_000 }
    }
}

impl Settings {
    /// Every listener, those of KPC's keys first.
    pub fn listeners(&self) -> Vec<Listener> {
        let addresses = &self.ringgate.listen.addresses;
        let short = |name: &str, kind, port, tls: Option<&str>| Listener {
            name: name.to_owned(),
            kind,
            addresses: addresses.clone(),
            port,
            unix_socket: None,
            tls: tls.map(str::to_owned),
            connections_max: UNLIMITED,
            proxy_protocol_from: Vec::new(),
            port_key: match name {
                MQTT_TCP => "kaa.kpc.transports.mqtt.tcp.port".to_owned(),
                MQTT_TLS => "kaa.kpc.transports.mqtt.tls.port".to_owned(),
                MQTT_WS => "kaa.kpc.transports.mqtt.websocket.port".to_owned(),
                _ => "kaa.kpc.transports.http.port".to_owned(),
            },
        };
        let mut listeners = Vec::new();
        if self.kaa.mqtt_tcp.enabled {
            let port = self.kaa.mqtt_tcp.port;
            listeners.push(short(MQTT_TCP, ListenerKind::Mqtt, port, None));
        }
        if self.kaa.mqtt_tls.enabled {
            let port = self.kaa.mqtt_tls.port;
            listeners.push(short(MQTT_TLS, ListenerKind::Mqtts, port, Some(MQTT_TLS)));
        }
        if self.kaa.mqtt_websocket.enabled {
            let port = self.kaa.mqtt_websocket.port;
            listeners.push(short(MQTT_WS, ListenerKind::Ws, port, None));
        }
        if self.kaa.http.enabled {
            listeners.push(short(HTTP, ListenerKind::Http, self.kaa.http.port, None));
        }
        listeners.extend(self.ringgate.listeners.iter().map(|(name, listener)| Listener {
            name: name.clone(),
            kind: listener.kind,
            addresses: match &listener.unix_socket {
                Some(_) => Vec::new(),
                None => listener.addresses.as_ref().unwrap_or(addresses).clone(),
            },
            port: listener.port,
            unix_socket: listener.unix_socket.clone(),
            tls: listener.tls.clone(),
            connections_max: listener.connections_max,
            proxy_protocol_from: listener.proxy_protocol_from.clone(),
            port_key: format!("ringgate.listeners.{name}.port"),
        }));
        listeners
    }

    /// The profiles that listeners speak TLS by, each once.
    pub fn tls_profiles(&self) -> Vec<TlsProfile> {
        let used: BTreeSet<String> =
            self.listeners().into_iter().filter_map(|listener| listener.tls).collect();
        used.iter().filter_map(|name| self.tls_profile(name)).collect()
    }

    fn tls_profile(&self, name: &str) -> Option<TlsProfile> {
        let tenants = self.ringgate.tenants.iter();
        let tenant_ca_files = tenants
            .flat_map(|(tenant, settings)| {
                settings.ca_files.iter().map(|file| (tenant.clone(), file.clone()))
            })
            .collect();
        let name = name.to_owned();
        if name == MQTT_TLS {
            let tls = &self.kaa.mqtt_tls;
            let certificate = tls.cert_file.clone().zip(tls.key_file.clone());
            return Some(TlsProfile {
                name,
                certificates: certificate.into_iter().collect(),
                client_auth: tls.client_auth,
                client_ca_files: tls.client_ca_file.iter().cloned().collect(),
                tenant_ca_files,
                crl_files: tls.crl_file.iter().cloned().collect(),
                min_version: TlsVersion::Tls12,
            });
        }
        let tls = self.ringgate.tls.get(&name)?;
        Some(TlsProfile {
            name,
            certificates: tls.cert_files.iter().cloned().zip(tls.key_files.clone()).collect(),
            client_auth: tls.client_auth,
            client_ca_files: tls.client_ca_files.clone(),
            tenant_ca_files,
            crl_files: tls.crl_files.clone(),
            min_version: tls.min_version,
        })
    }
}
