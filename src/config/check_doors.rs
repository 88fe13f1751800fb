//! What no single key shows about listeners and TLS.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use super::check::check_file;
use super::doors::{HTTP, Listener, ListenerSettings, MQTT_TCP, MQTT_TLS, MQTT_WS};
use super::read::Reading;
use super::settings::Settings;
use super::suggest::nearest;
use super::types::ClientAuth;

/// What the kernel takes as the path of a Unix socket (unix(7)).
const UNIX_SOCKET_BYTES_MAX: usize = 107;

pub(super) fn check_doors(settings: &Settings, reading: &mut Reading) {
    let listeners = settings.listeners();
    if listeners.is_empty() {
        let key = "kaa.kpc.transports.mqtt.tcp.enabled";
        reading.refuse(key, "no transport is enabled: no device could connect");
    }
    check_addresses(settings, reading);
    check_ports(settings, &listeners, reading);
    check_listeners(settings, reading);
    check_short_form(settings, reading);
    for (name, tls) in &settings.ringgate.tls {
        let path = format!("ringgate.tls.{name}");
        let key = format!("{path}.cert-files");
        if tls.cert_files.is_empty() {
            reading.refuse(&path, "needs cert-files: at least one certificate");
        } else if tls.cert_files.len() != tls.key_files.len() {
            let (certs, keys) = (tls.cert_files.len(), tls.key_files.len());
            let reason = format!("{certs} certificates, and {keys} keys in {path}.key-files");
            reading.refuse(&key, reason);
        }
        check_files(&key, &tls.cert_files, reading);
        check_files(&format!("{path}.key-files"), &tls.key_files, reading);
        check_files(&format!("{path}.client-ca-files"), &tls.client_ca_files, reading);
        check_files(&format!("{path}.crl-files"), &tls.crl_files, reading);
        let has_ca = !tls.client_ca_files.is_empty();
        check_client_auth(settings, &path, tls.client_auth, has_ca, reading);
    }
    for (tenant, of_tenant) in &settings.ringgate.tenants {
        check_files(&format!("ringgate.tenants.{tenant}.ca-files"), &of_tenant.ca_files, reading);
    }
}

/// Refuses IPv4 addresses in the form of IPv6: our sockets are of one family each.
fn check_addresses(settings: &Settings, reading: &mut Reading) {
    let of_all = ("ringgate.listen.addresses".to_owned(), &settings.ringgate.listen.addresses);
    let of_listeners = settings.ringgate.listeners.iter().filter_map(|(name, listener)| {
        let addresses = listener.addresses.as_ref()?;
        Some((format!("ringgate.listeners.{name}.addresses"), addresses))
    });
    for (key, addresses) in of_listeners.chain([of_all]) {
        for address in addresses.iter().filter(|address| address.to_canonical() != **address) {
            reading.refuse(&key, format!("{address} is {} to us", address.to_canonical()));
        }
    }
}

/// Refuses two listeners on one port of one address, the management interface included.
fn check_ports(settings: &Settings, listeners: &[Listener], reading: &mut Reading) {
    let mut taken: BTreeMap<u16, Vec<(IpAddr, &str)>> = BTreeMap::new();
    for Listener { addresses, port, port_key, .. } in listeners {
        let others = taken.entry(*port).or_default();
        let meets = |address: &IpAddr| {
            let twin = others.iter().find(|(other, _)| overlap(*other, *address));
            twin.map(|(_, key)| *key)
        };
        if let Some(other) = addresses.iter().find_map(meets) {
            reading.refuse(port_key, format!("{port} is taken by {other} on the same address"));
        }
        others.extend(addresses.iter().map(|address| (*address, port_key.as_str())));
    }
    let port = settings.server.port;
    let management = settings.ringgate.management_address;
    let of_port = taken.get(&port).into_iter().flatten();
    if let Some((_, key)) = of_port.clone().find(|(address, _)| overlap(*address, management)) {
        reading.refuse("server.port", format!("{port} is taken by {key} too"));
    }
}

/// Whether a socket on one address keeps the other from the same port.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other
        || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
}

fn check_listeners(settings: &Settings, reading: &mut Reading) {
    for (name, listener) in &settings.ringgate.listeners {
        if [MQTT_TCP, MQTT_TLS, MQTT_WS, HTTP].contains(&name.as_str()) {
            let key = format!("ringgate.listeners.{name}");
            reading.refuse(&key, "this name is that of the listener of KPC's keys");
        }
        check_unix_socket(settings, name, listener, reading);
        let key = format!("ringgate.listeners.{name}.tls");
        let (kind, other) = (listener.kind.as_str(), listener.kind.other().as_str());
        match (&listener.tls, listener.kind.is_tls()) {
            (None, false) => {}
            (None, true) => {
                let reason = format!("{kind} needs tls, the name of a profile below ringgate.tls");
                reading.refuse(&format!("ringgate.listeners.{name}"), reason);
            }
            (Some(_), false) => {
                reading.refuse(&key, format!("kind {kind} speaks no TLS; make it {other}"));
            }
            (Some(profile), true) => {
                let profiles = settings.ringgate.tls.keys().map(String::as_str);
                if !settings.ringgate.tls.contains_key(profile) {
                    let hint = nearest(profile, profiles)
                        .map(|near| format!("; did you mean {near}?"))
                        .unwrap_or_default();
                    reading.refuse(&key, format!("{profile:?} is not among ringgate.tls{hint}"));
                }
            }
        }
    }
    if settings.ringgate.tls.contains_key(MQTT_TLS) {
        let key = format!("ringgate.tls.{MQTT_TLS}");
        reading.refuse(&key, "this name is that of the profile of KPC's keys");
    }
}

fn check_unix_socket(
    settings: &Settings,
    name: &str,
    listener: &ListenerSettings,
    reading: &mut Reading,
) {
    let Some(path) = &listener.unix_socket else { return };
    let key = format!("ringgate.listeners.{name}.unix-socket");
    let bytes = path.as_os_str().len();
    if bytes > UNIX_SOCKET_BYTES_MAX {
        let reason = format!("{bytes} bytes are too many: at most {UNIX_SOCKET_BYTES_MAX}");
        reading.refuse(&key, reason);
    }
    if listener.addresses.is_some() {
        reading.refuse(&key, format!("ringgate.listeners.{name}.addresses are for TCP: give one"));
    }
    let mut others = settings.ringgate.listeners.iter().take_while(|(other, _)| *other != name);
    if let Some((other, _)) = others.find(|(_, other)| other.unix_socket.as_ref() == Some(path)) {
        reading.refuse(&key, format!("is taken by ringgate.listeners.{other} too"));
    }
}

fn check_short_form(settings: &Settings, reading: &mut Reading) {
    let tls = &settings.kaa.mqtt_tls;
    if !tls.enabled {
        return;
    }
    let path = "kaa.kpc.transports.mqtt.tls";
    for (name, file) in [("cert-file", &tls.cert_file), ("key-file", &tls.key_file)] {
        if file.is_none() {
            reading.refuse(&format!("{path}.enabled"), format!("needs {path}.{name} too"));
        }
    }
    for (name, file) in [
        ("cert-file", &tls.cert_file),
        ("key-file", &tls.key_file),
        ("client-ca-file", &tls.client_ca_file),
        ("crl-file", &tls.crl_file),
    ] {
        check_file(&format!("{path}.{name}"), file, reading);
    }
    check_client_auth(settings, path, tls.client_auth, tls.client_ca_file.is_some(), reading);
}

fn check_client_auth(
    settings: &Settings,
    path: &str,
    client_auth: ClientAuth,
    has_ca: bool,
    reading: &mut Reading,
) {
    let of_tenants = settings.ringgate.tenants.values().any(|tenant| !tenant.ca_files.is_empty());
    if client_auth != ClientAuth::None && !has_ca && !of_tenants {
        let reason = "no authority is trusted: name one here, or below ringgate.tenants";
        reading.refuse(&format!("{path}.client-auth"), reason);
    }
}

fn check_files(key: &str, files: &[PathBuf], reading: &mut Reading) {
    for file in files {
        check_file(key, &Some(file.clone()), reading);
    }
}
