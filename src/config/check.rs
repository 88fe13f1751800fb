//! What no single key shows: settings that contradict each other, and files that are named.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::auth::Auth;
use super::check_doors::check_doors;
use super::nats_url::NatsUrl;
use super::read::Reading;
use super::settings::{Kaa, Nats, NatsCredentials, NatsTls, Settings};
use super::suggest::nearest;
use super::transport::Transport;
use super::types::{ClientProvider, EndpointProvider, Requirement};

/// Looks at the settings together; reads nothing but the first byte of the files they name.
pub(super) fn check(settings: &Settings, reading: &mut Reading) {
    check_doors(settings, reading);
    check_applications(&settings.kaa, reading);
    check_nats(&settings.ringgate.nats, reading);
    check_auth(settings, reading);
    check_memory(settings, reading);
}

fn check_applications(kaa: &Kaa, reading: &mut Reading) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, application) in &kaa.applications {
        for (version, settings) in &application.versions {
            let key = format!("kaa.applications.{name}.versions.{version}");
            if let Some(other) = owners.insert(version, name) {
                let reason = format!("application {other} has a version of this name too");
                reading.refuse(&key, reason);
            }
            let allowed = settings.allowed_extension_instances.iter().flatten();
            for unknown in allowed.filter(|name| !kaa.extension_instances.contains_key(*name)) {
                let configured = kaa.extension_instances.keys().map(String::as_str);
                let hint = nearest(unknown, configured)
                    .map(|near| format!("; did you mean {near}?"))
                    .unwrap_or_default();
                reading.refuse(
                    &format!("{key}.allowed-extension-instances"),
                    format!("{unknown:?} is not among kaa.extension-instances{hint}"),
                );
            }
        }
    }
}

fn check_nats(nats: &Nats, reading: &mut Reading) {
    check_credentials(&nats.credentials, &nats.urls, reading);
    check_tls(&nats.tls, &nats.urls, reading);
    if nats.reconnect_delay_ms_min > nats.reconnect_delay_ms_max {
        let reason = format!(
            "{} is more than ringgate.nats.reconnect-delay-ms-max, which is {}",
            nats.reconnect_delay_ms_min, nats.reconnect_delay_ms_max
        );
        reading.refuse("ringgate.nats.reconnect-delay-ms-min", reason);
    }
}

fn check_credentials(credentials: &NatsCredentials, urls: &[NatsUrl], reading: &mut Reading) {
    let NatsCredentials { username, password, token, credentials_file, nkey_seed_file } =
        credentials;
    match (username, password) {
        (Some(_), None) => {
            reading.refuse("ringgate.nats.username", "needs ringgate.nats.password too");
        }
        (None, Some(_)) => {
            reading.refuse("ringgate.nats.password", "needs ringgate.nats.username too");
        }
        _ => {}
    }
    let ways: Vec<&str> = [
        (username.is_some() || password.is_some(), "ringgate.nats.username"),
        (token.is_some(), "ringgate.nats.token"),
        (credentials_file.is_some(), "ringgate.nats.credentials-file"),
        (nkey_seed_file.is_some(), "ringgate.nats.nkey-seed-file"),
        (urls.iter().any(|url| url.credentials.is_some()), "ringgate.nats.urls"),
    ]
    .into_iter()
    .filter_map(|(given, key)| given.then_some(key))
    .collect();
    if let [first, others @ ..] = ways.as_slice() {
        for key in others {
            reading.refuse(key, format!("credentials are given by {first} already: keep one"));
        }
    }
    check_file("ringgate.nats.credentials-file", credentials_file, reading);
    check_file("ringgate.nats.nkey-seed-file", nkey_seed_file, reading);
}

fn check_tls(tls: &NatsTls, urls: &[NatsUrl], reading: &mut Reading) {
    let NatsTls { required, first, ca_file, cert_file, key_file } = tls;
    if *first && !required && !urls.iter().all(|url| url.tls) {
        let reason = "needs ringgate.nats.tls.required: true, or tls:// in every URL";
        reading.refuse("ringgate.nats.tls.first", reason);
    }
    match (cert_file, key_file) {
        (Some(_), None) => {
            reading.refuse("ringgate.nats.tls.cert-file", "needs ringgate.nats.tls.key-file too");
        }
        (None, Some(_)) => {
            reading.refuse("ringgate.nats.tls.key-file", "needs ringgate.nats.tls.cert-file too");
        }
        _ => {}
    }
    check_file("ringgate.nats.tls.ca-file", ca_file, reading);
    check_file("ringgate.nats.tls.cert-file", cert_file, reading);
    check_file("ringgate.nats.tls.key-file", key_file, reading);
}

pub(super) fn check_file(key: &str, file: &Option<PathBuf>, reading: &mut Reading) {
    let Some(path) = file else { return };
    // Opening a directory succeeds, reading it does not; opening a pipe could wait for ever.
    let outcome = match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => {
            Err("is not a regular file".to_owned())
        }
        Ok(_) => {
            File::open(path).and_then(|mut file| file.read(&mut [0])).map_err(|e| e.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(0) => reading.refuse(key, format!("{}: is empty", path.display())),
        Ok(_) => {}
        Err(reason) => reading.refuse(key, format!("{}: {reason}", path.display())),
    }
}

fn check_auth(settings: &Settings, reading: &mut Reading) {
    let auth = &settings.ringgate.auth;
    check_http_url(settings, reading);
    check_requirements(settings, reading);
    check_parking(auth, reading);
    check_file("ringgate.auth.http.bearer-token-file", &auth.http.bearer_token_file, reading);
    // One that is not there is made at the start.
    let token_file = settings.ringgate.credentials.management_token_file.clone();
    let token_file = token_file.filter(|file| file.exists());
    check_file("ringgate.credentials.management-token-file", &token_file, reading);
}

/// Refuses demands that no client could meet.
fn check_requirements(settings: &Settings, reading: &mut Reading) {
    let auth = &settings.ringgate.auth;
    let of_all = Transport::ALL.map(|transport| {
        (format!("ringgate.auth.require.{}", transport.word()), transport, {
            Some(auth.require.of(transport))
        })
    });
    let of_tenants = settings.ringgate.tenants.iter().flat_map(|(name, tenant)| {
        Transport::ALL.map(|transport| {
            let key = format!("ringgate.tenants.{name}.require.{}", transport.word());
            (key, transport, tenant.require.of(transport))
        })
    });
    for (key, transport, requirement) in of_tenants.chain(of_all) {
        let Some(requirement) = requirement.filter(|r| *r != Requirement::None) else { continue };
        if auth.client_provider == ClientProvider::Trustful {
            let reason = "nobody could be authenticated: \
                          ringgate.auth.client-provider is trustful";
            reading.refuse(&key, reason);
        } else if requirement == Requirement::Basic && !transport.has_passwords() {
            let reason = "there are no user names and passwords over HTTP: make it certificate";
            reading.refuse(&key, reason);
        }
    }
}

/// Refuses the choice of the provider `http` where nothing says where it is.
fn check_http_url(settings: &Settings, reading: &mut Reading) {
    let auth = &settings.ringgate.auth;
    if auth.http.url.is_some() {
        return;
    }
    let of_applications = settings.kaa.applications.iter().map(|(name, application)| {
        let provider = application.endpoint_provider;
        (format!("kaa.applications.{name}.endpoint-provider"), provider)
    });
    let own = ("ringgate.auth.endpoint-provider".to_owned(), Some(auth.endpoint_provider));
    let mut keys: Vec<String> = of_applications
        .chain([own])
        .filter(|(_, provider)| *provider == Some(EndpointProvider::Http))
        .map(|(key, _)| key)
        .collect();
    if auth.client_provider == ClientProvider::Http {
        keys.push("ringgate.auth.client-provider".to_owned());
    }
    for key in keys {
        reading.refuse(&key, "http needs ringgate.auth.http.url too");
    }
}

fn check_parking(auth: &Auth, reading: &mut Reading) {
    if auth.parked_bytes_max > auth.parked_bytes_max_per_shard {
        let reason = format!(
            "{} is more than ringgate.auth.parked-bytes-max-per-shard, which is {}",
            auth.parked_bytes_max, auth.parked_bytes_max_per_shard
        );
        reading.refuse("ringgate.auth.parked-bytes-max", reason);
    }
}

fn check_memory(settings: &Settings, reading: &mut Reading) {
    let nats = &settings.ringgate.nats;
    let buffers = &settings.ringgate.read_buffers;
    if !buffers.count.is_power_of_two() {
        let reason = format!("{} is not a power of two", buffers.count);
        reading.refuse("ringgate.read-buffers.count", reason);
    }
    // One batch in flight and the greatest message in the next must fit, or a publish could
    // wait for ever.
    let needed = nats.batch_bytes_max.saturating_add(settings.ringgate.mqtt.packet_bytes_max);
    if nats.unconfirmed_bytes_max < needed {
        let reason = format!(
            "{} is too small: at least {needed}, which is ringgate.nats.batch-bytes-max \
             and ringgate.mqtt.packet-bytes-max together",
            nats.unconfirmed_bytes_max
        );
        reading.refuse("ringgate.nats.unconfirmed-bytes-max", reason);
    }
}
