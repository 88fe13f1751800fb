//! The table of keys: what each setting is called, and in which field it lives.

use super::auth_keys::{auth_keys, connectivity_keys, credentials_keys, tenant_keys};
use super::door_keys::{
    handshake_keys, http_keys, listener_keys, mqtt_tls_keys, short_form_keys, tls_keys,
    websocket_keys,
};
use super::field::Field;
use super::limits;
use super::settings::*;

/// A setting by its dotted key.
pub(super) struct Key<'a> {
    pub path: String,
    pub field: Field<'a>,
}

impl Key<'_> {
    /// The environment variables that set this key: the derived name, and KPC's if it has one.
    pub fn variables(&self) -> Vec<String> {
        let kpc = match self.path.as_str() {
            "ringgate.nats.urls" => Some("NATS_URLS"),
            "ringgate.nats.username" => Some("NATS_USERNAME"),
            "ringgate.nats.password" => Some("NATS_PASSWORD"),
            _ => None,
        };
        let derived = match self.field {
            Field::EmptyMap => None,
            _ => Some(self.path.to_uppercase().replace(['.', '-'], "_")),
        };
        derived.into_iter().chain(kpc.map(str::to_owned)).collect()
    }
}

pub(super) fn key<'a>(path: impl Into<String>, field: Field<'a>) -> Key<'a> {
    Key { path: path.into(), field }
}

/// Every key of these settings, in the order they are shown; keys of one map are neighbours.
pub(super) fn keys(settings: &mut Settings) -> Vec<Key<'_>> {
    let Settings { service, server, kaa, ringgate } = settings;
    let mut keys = vec![
        key("service.instance.name", Field::Name(&mut service.instance_name)),
        key("service.instance.replica.id", Field::Replica(&mut service.replica_id)),
        key(
            "service.graceful-shutdown",
            Field::Integer(&mut service.graceful_shutdown_s, limits::GRACEFUL_SHUTDOWN_S),
        ),
        key("server.port", Field::Integer(&mut server.port, limits::PORT)),
        key("kaa.kpc.transports.mqtt.tcp.enabled", Field::Flag(&mut kaa.mqtt_tcp.enabled)),
        key(
            "kaa.kpc.transports.mqtt.tcp.port",
            Field::Integer(&mut kaa.mqtt_tcp.port, limits::PORT),
        ),
    ];
    keys.extend(mqtt_tls_keys(&mut kaa.mqtt_tls));
    let websocket = "kaa.kpc.transports.mqtt.websocket";
    keys.extend(short_form_keys(websocket, &mut kaa.mqtt_websocket));
    keys.extend(short_form_keys("kaa.kpc.transports.http", &mut kaa.http));
    keys.extend(application_keys(kaa.applications.iter_mut()));
    keys.extend(extension_keys(kaa.extension_instances.iter_mut()));
    keys.extend(ringgate_keys(ringgate));
    keys
}

fn application_keys<'a>(
    applications: impl ExactSizeIterator<Item = (&'a String, &'a mut Application)>,
) -> Vec<Key<'a>> {
    if applications.len() == 0 {
        return vec![key("kaa.applications", Field::EmptyMap)];
    }
    let mut keys = Vec::new();
    for (name, application) in applications {
        let Application { tenant, endpoint_provider, endpoint_elsewhere, versions: settings } =
            application;
        let path = format!("kaa.applications.{name}");
        keys.extend([
            key(format!("{path}.tenant"), Field::OptionalTenant(tenant)),
            key(format!("{path}.endpoint-provider"), Field::OptionalWord(endpoint_provider)),
            key(format!("{path}.endpoint-elsewhere"), Field::OptionalWord(endpoint_elsewhere)),
        ]);
        let versions = format!("{path}.versions");
        if settings.is_empty() {
            keys.push(key(versions, Field::EmptyMap));
            continue;
        }
        for (version, settings) in settings {
            keys.push(key(
                format!("{versions}.{version}.allowed-extension-instances"),
                Field::Names(&mut settings.allowed_extension_instances),
            ));
        }
    }
    keys
}

fn extension_keys<'a>(
    instances: impl ExactSizeIterator<Item = (&'a String, &'a mut ExtensionInstance)>,
) -> Vec<Key<'a>> {
    if instances.len() == 0 {
        return vec![key("kaa.extension-instances", Field::EmptyMap)];
    }
    let mut keys = Vec::new();
    for (name, ExtensionInstance { endpoint_aware, push_qos }) in instances {
        let instance = format!("kaa.extension-instances.{name}");
        keys.push(key(format!("{instance}.endpoint-aware"), Field::Flag(endpoint_aware)));
        keys.push(key(format!("{instance}.push-qos"), Field::Qos(push_qos)));
    }
    keys
}

fn ringgate_keys(ringgate: &mut Ringgate) -> Vec<Key<'_>> {
    let Ringgate {
        shards,
        pin_threads,
        management_address,
        listen,
        listeners,
        tls,
        tls_handshakes,
        websocket,
        http,
        nats,
        mqtt,
        auth,
        tenants,
        credentials,
        connectivity,
        esp,
        read_buffers,
        log,
    } = ringgate;
    let mut keys = vec![
        key("ringgate.shards", Field::Shards(shards)),
        key("ringgate.pin-threads", Field::Flag(pin_threads)),
        key("ringgate.management.address", Field::Address(management_address)),
        key("ringgate.listen.addresses", Field::Addresses(&mut listen.addresses)),
        key("ringgate.listen.backlog", Field::Integer(&mut listen.backlog, limits::BACKLOG)),
        key(
            "ringgate.read-buffers.count",
            Field::Integer(&mut read_buffers.count, limits::READ_BUFFERS),
        ),
        key(
            "ringgate.read-buffers.bytes",
            Field::Integer(&mut read_buffers.bytes, limits::READ_BUFFER_BYTES),
        ),
    ];
    keys.extend(listener_keys(listeners.iter_mut()));
    keys.extend(tls_keys(tls.iter_mut()));
    keys.extend(handshake_keys(tls_handshakes));
    keys.extend(websocket_keys(websocket));
    keys.extend(http_keys(http));
    keys.extend(nats_keys(nats));
    keys.extend(mqtt_keys(mqtt));
    keys.extend(auth_keys(auth));
    keys.extend(tenant_keys(tenants.iter_mut()));
    keys.extend(credentials_keys(credentials));
    keys.extend(connectivity_keys(connectivity));
    keys.extend([
        key("ringgate.esp.config-name", Field::Word(&mut esp.config_name)),
        key(
            "ringgate.esp.client-data-timeout-ms",
            Field::Integer(&mut esp.client_data_timeout_ms, limits::CLIENT_DATA_TIMEOUT_MS),
        ),
        key("ringgate.log.level", Field::Word(&mut log.level)),
        key("ringgate.log.format", Field::Word(&mut log.format)),
    ]);
    keys
}

fn nats_keys(nats: &mut Nats) -> Vec<Key<'_>> {
    let NatsCredentials { username, password, token, credentials_file, nkey_seed_file } =
        &mut nats.credentials;
    let NatsTls { required, first, ca_file, cert_file, key_file } = &mut nats.tls;
    vec![
        key("ringgate.nats.urls", Field::Urls(&mut nats.urls)),
        key("ringgate.nats.username", Field::Text(username)),
        key("ringgate.nats.password", Field::Secret(password)),
        key("ringgate.nats.token", Field::Secret(token)),
        key("ringgate.nats.credentials-file", Field::File(credentials_file)),
        key("ringgate.nats.nkey-seed-file", Field::File(nkey_seed_file)),
        key("ringgate.nats.tls.required", Field::Flag(required)),
        key("ringgate.nats.tls.first", Field::Flag(first)),
        key("ringgate.nats.tls.ca-file", Field::File(ca_file)),
        key("ringgate.nats.tls.cert-file", Field::File(cert_file)),
        key("ringgate.nats.tls.key-file", Field::File(key_file)),
        key(
            "ringgate.nats.connect-timeout-ms",
            Field::Integer(&mut nats.connect_timeout_ms, limits::NATS_CONNECT_TIMEOUT_MS),
        ),
        key(
            "ringgate.nats.reconnect-delay-ms-min",
            Field::Integer(&mut nats.reconnect_delay_ms_min, limits::RECONNECT_DELAY_MS),
        ),
        key(
            "ringgate.nats.reconnect-delay-ms-max",
            Field::Integer(&mut nats.reconnect_delay_ms_max, limits::RECONNECT_DELAY_MS),
        ),
        key(
            "ringgate.nats.ping-interval-ms",
            Field::Integer(&mut nats.ping_interval_ms, limits::PING_INTERVAL_MS),
        ),
        key(
            "ringgate.nats.pings-outstanding-max",
            Field::Integer(&mut nats.pings_outstanding_max, limits::PINGS_OUTSTANDING),
        ),
        key(
            "ringgate.nats.batch-bytes-max",
            Field::Integer(&mut nats.batch_bytes_max, limits::BATCH_BYTES),
        ),
        key(
            "ringgate.nats.unconfirmed-bytes-max",
            Field::Integer(&mut nats.unconfirmed_bytes_max, limits::UNCONFIRMED_BYTES),
        ),
        key("ringgate.nats.when-unavailable", Field::Word(&mut nats.when_unavailable)),
        key("ringgate.nats.qos0-when-full", Field::Word(&mut nats.qos0_when_full)),
    ]
}

fn mqtt_keys(mqtt: &mut Mqtt) -> [Key<'_>; 14] {
    use Field::Integer;
    [
        ("packet-bytes-max", Integer(&mut mqtt.packet_bytes_max, limits::PACKET_BYTES)),
        (
            "connect-timeout-ms",
            Integer(&mut mqtt.connect_timeout_ms, limits::MQTT_CONNECT_TIMEOUT_MS),
        ),
        ("keep-alive-s-max", Integer(&mut mqtt.keep_alive_s_max, limits::KEEP_ALIVE_S)),
        ("client-id-bytes-max", Integer(&mut mqtt.client_id_bytes_max, limits::CLIENT_ID_BYTES)),
        ("receive-maximum", Integer(&mut mqtt.receive_maximum, limits::RECEIVE_MAXIMUM)),
        (
            "topic-alias-maximum",
            Integer(&mut mqtt.topic_alias_maximum, limits::TOPIC_ALIAS_MAXIMUM),
        ),
        ("session-expiry-s-max", Integer(&mut mqtt.session_expiry_s_max, limits::SESSION_EXPIRY_S)),
        ("sessions-kept-max", Integer(&mut mqtt.sessions_kept_max, limits::SESSIONS_KEPT)),
        ("subscriptions-max", Integer(&mut mqtt.subscriptions_max, limits::SUBSCRIPTIONS)),
        (
            "outbound-messages-max",
            Integer(&mut mqtt.outbound_messages_max, limits::OUTBOUND_MESSAGES),
        ),
        ("outbound-bytes-max", Integer(&mut mqtt.outbound_bytes_max, limits::OUTBOUND_BYTES)),
        ("endpoints-max", Integer(&mut mqtt.endpoints_max, limits::ENDPOINTS)),
        ("connections-max", Integer(&mut mqtt.connections_max, limits::CONNECTIONS)),
        ("push-qos", Integer(&mut mqtt.push_qos, limits::QOS)),
    ]
    .map(|(name, field)| key(format!("ringgate.mqtt.{name}"), field))
}

#[cfg(test)]
mod tests {
    use super::super::auth::Tenant;
    use super::super::doors::{ListenerSettings, Tls};
    use super::*;

    fn all() -> Settings {
        let mut settings = Settings::default();
        let versions = [("<version>".into(), AppVersion::default())].into();
        settings
            .kaa
            .applications
            .insert("<app>".into(), Application { versions, ..Application::default() });
        settings.kaa.extension_instances.insert("<name>".into(), ExtensionInstance::default());
        settings.ringgate.tenants.insert("<tenant>".into(), Tenant::default());
        settings.ringgate.listeners.insert("<listener>".into(), ListenerSettings::default());
        settings.ringgate.tls.insert("<profile>".into(), Tls::default());
        settings
    }

    #[test]
    fn the_limits_of_every_number_fit_its_type() {
        for key in &mut keys(&mut all()) {
            if let Field::Integer(number, limit) = &mut key.field {
                let default = number.get();
                assert_eq!(limit.check(default.into()), Ok(default), "{}", key.path);
                for bound in [limit.min, limit.max] {
                    number.set(bound);
                    assert_eq!(number.get(), bound, "{}", key.path);
                }
            }
        }
    }

    #[test]
    fn the_manual_has_key_default_limits_and_variable_of_every_setting() {
        let manual = include_str!("../../docs/operate/configuration.md");
        for key in keys(&mut all()) {
            let start = format!("| `{}` |", key.path);
            let row = manual.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("no row {start}"));
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [_, _, _, unit, default, allowed, variables, _] = cells[..] else {
                panic!("not six cells: {row}");
            };
            assert_eq!(default, format!("`{}`", key.field.show()), "{row}");
            let names = key.variables().join("`, `");
            assert!(key.path.contains('<') || variables == format!("`{names}`"), "{row}");
            match &key.field {
                Field::Integer(_, limit) => {
                    assert_eq!(allowed.split(',').next().unwrap(), limit.to_string(), "{row}");
                    assert_eq!(unit, limit.unit, "{row}");
                }
                Field::Word(word) => assert_eq!(allowed, format!("`{}`", word.all().join("`, `"))),
                Field::OptionalWord(word) => {
                    assert_eq!(allowed, format!("`{}`", word.all().join("`, `")));
                }
                _ => {}
            }
        }
    }
}
