//! The part of the table of keys that says who may talk.

use super::auth::{Auth, Connectivity, Credentials, Tenant};
use super::field::Field;
use super::keys::{Key, key};
use super::limits;

pub(super) fn auth_keys(auth: &mut Auth) -> Vec<Key<'_>> {
    use Field::{Integer, Name, Word};
    [
        ("endpoint-provider", Word(&mut auth.endpoint_provider)),
        ("client-provider", Word(&mut auth.client_provider)),
        ("endpoint-elsewhere", Word(&mut auth.endpoint_elsewhere)),
        ("default-tenant", Field::Tenant(&mut auth.default_tenant)),
        ("require.mqtt-tcp", Word(&mut auth.require.mqtt_tcp)),
        ("require.mqtt-tls", Word(&mut auth.require.mqtt_tls)),
        ("require.mqtt-ws", Word(&mut auth.require.mqtt_ws)),
        ("require.http", Word(&mut auth.require.http)),
        ("ecap-instance", Name(&mut auth.ecap_instance)),
        ("cap-instance", Name(&mut auth.cap_instance)),
        ("tenant-manager-instance", Name(&mut auth.tenant_manager_instance)),
        (
            "request-timeout-ms",
            Integer(&mut auth.request_timeout_ms, limits::AUTH_REQUEST_TIMEOUT_MS),
        ),
        ("request-attempts", Integer(&mut auth.request_attempts, limits::AUTH_REQUEST_ATTEMPTS)),
        ("requests-max", Integer(&mut auth.requests_max, limits::AUTH_REQUESTS)),
        ("verdict-ttl-s", Integer(&mut auth.verdict_ttl_s, limits::VERDICT_TTL_S)),
        ("rejection-ttl-s", Integer(&mut auth.rejection_ttl_s, limits::REJECTION_TTL_S)),
        ("verdicts-max", Integer(&mut auth.verdicts_max, limits::VERDICTS)),
        (
            "client-verdict-ttl-s",
            Integer(&mut auth.client_verdict_ttl_s, limits::CLIENT_VERDICT_TTL_S),
        ),
        ("parked-bytes-max", Integer(&mut auth.parked_bytes_max, limits::PARKED_BYTES)),
        (
            "parked-bytes-max-per-shard",
            Integer(&mut auth.parked_bytes_max_per_shard, limits::PARKED_BYTES_PER_SHARD),
        ),
        (
            "login-failures-max-per-address",
            Integer(&mut auth.login_failures_max_per_address, limits::LOGIN_FAILURES),
        ),
        (
            "login-failures-max-per-username",
            Integer(&mut auth.login_failures_max_per_username, limits::LOGIN_FAILURES),
        ),
        (
            "login-failures-window-s",
            Integer(&mut auth.login_failures_window_s, limits::LOGIN_FAILURES_WINDOW_S),
        ),
        ("http.url", Field::HttpUrl(&mut auth.http.url)),
        ("http.bearer-token-file", Field::File(&mut auth.http.bearer_token_file)),
        ("http.concurrency-max", Integer(&mut auth.http.concurrency_max, limits::HTTP_CONCURRENCY)),
    ]
    .map(|(name, field)| key(format!("ringgate.auth.{name}"), field))
    .into()
}

pub(super) fn tenant_keys<'a>(
    tenants: impl ExactSizeIterator<Item = (&'a String, &'a mut Tenant)>,
) -> Vec<Key<'a>> {
    if tenants.len() == 0 {
        return vec![key("ringgate.tenants", Field::EmptyMap)];
    }
    tenants
        .flat_map(|(name, Tenant { require, ca_files })| {
            [
                ("require.mqtt-tcp", Field::OptionalWord(&mut require.mqtt_tcp)),
                ("require.mqtt-tls", Field::OptionalWord(&mut require.mqtt_tls)),
                ("require.mqtt-ws", Field::OptionalWord(&mut require.mqtt_ws)),
                ("require.http", Field::OptionalWord(&mut require.http)),
                ("ca-files", Field::Files(ca_files)),
            ]
            .map(|(part, field)| key(format!("ringgate.tenants.{name}.{part}"), field))
        })
        .collect()
}

pub(super) fn credentials_keys(credentials: &mut Credentials) -> [Key<'_>; 5] {
    let Credentials { directory, verifier_threads, queue_max, serve, management_token_file } =
        credentials;
    [
        ("directory", Field::Directory(directory)),
        ("verifier-threads", Field::Integer(verifier_threads, limits::VERIFIER_THREADS)),
        ("queue-max", Field::Integer(queue_max, limits::VERIFIER_QUEUE)),
        ("serve", Field::Flag(serve)),
        ("management-token-file", Field::File(management_token_file)),
    ]
    .map(|(name, field)| key(format!("ringgate.credentials.{name}"), field))
}

pub(super) fn connectivity_keys(connectivity: &mut Connectivity) -> [Key<'_>; 2] {
    let Connectivity { enabled, window_ms } = connectivity;
    [
        ("enabled", Field::Flag(enabled)),
        ("window-ms", Field::Integer(window_ms, limits::CONNECTIVITY_WINDOW_MS)),
    ]
    .map(|(name, field)| key(format!("ringgate.connectivity.{name}"), field))
}
