//! The part of the table of keys that says where devices come in.

use super::doors::{Http, ListenerSettings, MqttTls, ShortForm, Tls, TlsHandshakes, WebSocket};
use super::field::Field;
use super::keys::{Key, key};
use super::limits;

pub(super) fn mqtt_tls_keys(tls: &mut MqttTls) -> [Key<'_>; 7] {
    [
        ("enabled", Field::Flag(&mut tls.enabled)),
        ("port", Field::Integer(&mut tls.port, limits::PORT)),
        ("cert-file", Field::File(&mut tls.cert_file)),
        ("key-file", Field::File(&mut tls.key_file)),
        ("client-auth", Field::Word(&mut tls.client_auth)),
        ("client-ca-file", Field::File(&mut tls.client_ca_file)),
        ("crl-file", Field::File(&mut tls.crl_file)),
    ]
    .map(|(name, field)| key(format!("kaa.kpc.transports.mqtt.tls.{name}"), field))
}

/// The keys of a listener's short form, below `path`.
pub(super) fn short_form_keys<'a>(path: &str, short: &'a mut ShortForm) -> [Key<'a>; 2] {
    let ShortForm { enabled, port } = short;
    [("enabled", Field::Flag(enabled)), ("port", Field::Integer(port, limits::PORT))]
        .map(|(name, field)| key(format!("{path}.{name}"), field))
}

pub(super) fn http_keys(http: &mut Http) -> [Key<'_>; 4] {
    let Http { body_bytes_max, request_timeout_ms, answer_timeout_ms, idle_timeout_ms } = http;
    [
        ("body-bytes-max", Field::Integer(body_bytes_max, limits::PACKET_BYTES)),
        ("request-timeout-ms", Field::Integer(request_timeout_ms, limits::HTTP_TIMEOUT_MS)),
        ("answer-timeout-ms", Field::Integer(answer_timeout_ms, limits::HTTP_TIMEOUT_MS)),
        ("idle-timeout-ms", Field::Integer(idle_timeout_ms, limits::HTTP_TIMEOUT_MS)),
    ]
    .map(|(name, field)| key(format!("ringgate.http.{name}"), field))
}

pub(super) fn websocket_keys(websocket: &mut WebSocket) -> [Key<'_>; 3] {
    let WebSocket { path, origins, frame_bytes_max } = websocket;
    [
        ("path", Field::UrlPath(path)),
        ("origins", Field::Origins(origins)),
        ("frame-bytes-max", Field::Integer(frame_bytes_max, limits::FRAME_BYTES)),
    ]
    .map(|(name, field)| key(format!("ringgate.websocket.{name}"), field))
}

pub(super) fn listener_keys<'a>(
    listeners: impl ExactSizeIterator<Item = (&'a String, &'a mut ListenerSettings)>,
) -> Vec<Key<'a>> {
    if listeners.len() == 0 {
        return vec![key("ringgate.listeners", Field::EmptyMap)];
    }
    listeners
        .flat_map(|(name, listener)| {
            let ListenerSettings {
                kind,
                addresses,
                port,
                unix_socket,
                tls,
                connections_max,
                proxy_protocol_from,
            } = listener;
            [
                ("kind", Field::Word(kind)),
                ("addresses", Field::OptionalAddresses(addresses)),
                ("port", Field::Integer(port, limits::PORT)),
                ("unix-socket", Field::File(unix_socket)),
                ("tls", Field::Text(tls)),
                ("connections-max", Field::Integer(connections_max, limits::CONNECTIONS)),
                ("proxy-protocol-from", Field::Networks(proxy_protocol_from)),
            ]
            .map(|(part, field)| key(format!("ringgate.listeners.{name}.{part}"), field))
        })
        .collect()
}

pub(super) fn tls_keys<'a>(
    profiles: impl ExactSizeIterator<Item = (&'a String, &'a mut Tls)>,
) -> Vec<Key<'a>> {
    if profiles.len() == 0 {
        return vec![key("ringgate.tls", Field::EmptyMap)];
    }
    profiles
        .flat_map(|(name, tls)| {
            [
                ("cert-files", Field::Files(&mut tls.cert_files)),
                ("key-files", Field::Files(&mut tls.key_files)),
                ("client-auth", Field::Word(&mut tls.client_auth)),
                ("client-ca-files", Field::Files(&mut tls.client_ca_files)),
                ("crl-files", Field::Files(&mut tls.crl_files)),
                ("min-version", Field::Word(&mut tls.min_version)),
            ]
            .map(|(part, field)| key(format!("ringgate.tls.{name}.{part}"), field))
        })
        .collect()
}

pub(super) fn handshake_keys(handshakes: &mut TlsHandshakes) -> [Key<'_>; 2] {
    let TlsHandshakes { max, timeout_ms } = handshakes;
    [
        ("max", Field::Integer(max, limits::TLS_HANDSHAKES)),
        ("timeout-ms", Field::Integer(timeout_ms, limits::TLS_HANDSHAKE_TIMEOUT_MS)),
    ]
    .map(|(name, field)| key(format!("ringgate.tls-handshakes.{name}"), field))
}
