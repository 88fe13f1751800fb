//! The settings tree and its defaults.
//!
//! The tree has the shape of the YAML file; where a name here ends in a unit, so does its key.
//! `docs/operate/configuration.md` describes every key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::auth::{Auth, Connectivity, Credentials, Tenant};
use super::doors::{Http, ListenerSettings, MqttTls, ShortForm, Tls, TlsHandshakes, WebSocket};
use super::nats_url::NatsUrl;
use super::types::*;

/// Every setting of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `service`: who this process is and how it stops.
    pub service: Service,
    /// `server`: the management interface.
    pub server: Server,
    /// `kaa`: transports, applications and extension instances.
    pub kaa: Kaa,
    /// `ringgate`: everything KPC has no key for.
    pub ringgate: Ringgate,
}

/// `service`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name of the service instance, a NATS subject token (3/Messaging).
    pub instance_name: String,
    /// Id of this replica of the instance, a NATS subject token (3/Messaging).
    pub replica_id: ReplicaId,
    /// Seconds a stopping process may take to drain.
    pub graceful_shutdown_s: u32,
}

/// `server`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Port of the management interface (`/health`, `/metrics`).
    pub port: u16,
}

/// `kaa`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kaa {
    /// `kaa.kpc.transports.mqtt.tcp`: plain MQTT.
    pub mqtt_tcp: MqttTcp,
    /// `kaa.kpc.transports.mqtt.tls`: MQTT over TLS.
    pub mqtt_tls: MqttTls,
    /// `kaa.kpc.transports.mqtt.websocket`: MQTT over WebSocket.
    pub mqtt_websocket: ShortForm,
    /// `kaa.kpc.transports.http`: the HTTP binding of 1/KP.
    pub http: ShortForm,
    /// `kaa.applications`, by application name.
    pub applications: BTreeMap<String, Application>,
    /// `kaa.extension-instances`, by instance name, which is the NATS name of the service too.
    pub extension_instances: BTreeMap<String, ExtensionInstance>,
}

/// `kaa.kpc.transports.mqtt.tcp`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttTcp {
    /// Whether devices may connect this way.
    pub enabled: bool,
    /// TCP port.
    pub port: u16,
}

/// `kaa.applications.<application>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Application {
    /// Tenant it belongs to, instead of [`Auth::default_tenant`].
    pub tenant: Option<String>,
    /// Who is asked about tokens of its endpoints, instead of [`Auth::endpoint_provider`].
    pub endpoint_provider: Option<EndpointProvider>,
    /// What becomes of its endpoint that is live elsewhere, instead of
    /// [`Auth::endpoint_elsewhere`].
    pub endpoint_elsewhere: Option<Elsewhere>,
    /// By application version name, the second level of a 1/KP topic; unique over all applications.
    pub versions: BTreeMap<String, AppVersion>,
}

/// `kaa.applications.<application>.versions.<version>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppVersion {
    /// Extension instances that devices of this version may address; `None` is all configured
    /// ones, an empty list is none.
    pub allowed_extension_instances: Option<Vec<String>>,
}

/// `kaa.extension-instances.<name>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionInstance {
    /// Whether topics of this instance carry an endpoint token (1/KP).
    pub endpoint_aware: bool,
    /// QoS of this instance's pushes, instead of [`Mqtt::push_qos`].
    pub push_qos: Option<u8>,
}

/// `ringgate`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ringgate {
    /// How many shards carry the traffic.
    pub shards: Shards,
    /// Whether each shard's thread is tied to one core.
    pub pin_threads: bool,
    /// Local address of the management interface.
    pub management_address: IpAddr,
    /// `ringgate.listen`: where devices connect to.
    pub listen: Listen,
    /// `ringgate.listeners`, by name: more of them.
    pub listeners: BTreeMap<String, ListenerSettings>,
    /// `ringgate.tls`: what TLS is spoken by, by the name of the profile.
    pub tls: BTreeMap<String, Tls>,
    /// `ringgate.tls-handshakes`
    pub tls_handshakes: TlsHandshakes,
    /// `ringgate.websocket`: what holds for every WebSocket.
    pub websocket: WebSocket,
    /// `ringgate.http`: what holds for every connection that speaks HTTP.
    pub http: Http,
    /// `ringgate.nats`: the links to NATS.
    pub nats: Nats,
    /// `ringgate.mqtt`: limits and defaults of MQTT.
    pub mqtt: Mqtt,
    /// `ringgate.auth`: who may talk.
    pub auth: Auth,
    /// `ringgate.tenants`, by name.
    pub tenants: BTreeMap<String, Tenant>,
    /// `ringgate.credentials`: the store of the provider `internal`.
    pub credentials: Credentials,
    /// `ringgate.connectivity`: what is said of endpoints that come and go.
    pub connectivity: Connectivity,
    /// `ringgate.esp`: what is said to extension services.
    pub esp: Esp,
    /// `ringgate.read-buffers`: memory that arriving bytes land in.
    pub read_buffers: ReadBuffers,
    /// `ringgate.log`
    pub log: Log,
}

/// `ringgate.listen`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Local addresses of every transport; never empty.
    pub addresses: Vec<IpAddr>,
    /// Connections the kernel holds for each listening socket until they are accepted.
    pub backlog: u32,
}

/// `ringgate.nats`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nats {
    /// Servers to try, in this order at first; never empty.
    pub urls: Vec<NatsUrl>,
    /// How to prove who we are, unless a URL says so itself.
    pub credentials: NatsCredentials,
    /// `ringgate.nats.tls`
    pub tls: NatsTls,
    /// Milliseconds for connecting and the handshake with one server.
    pub connect_timeout_ms: u32,
    /// Milliseconds before the first attempt to reconnect; doubled after each failure.
    pub reconnect_delay_ms_min: u32,
    /// Milliseconds that delay grows to at most.
    pub reconnect_delay_ms_max: u32,
    /// Milliseconds of silence after which a PING is sent.
    pub ping_interval_ms: u32,
    /// Unanswered PINGs after which the link counts as broken.
    pub pings_outstanding_max: u32,
    /// Bytes of one batch, which is one write.
    pub batch_bytes_max: usize,
    /// Bytes per shard that NATS has not confirmed yet: being filled, in flight, kept for replay.
    pub unconfirmed_bytes_max: usize,
    /// What becomes of a publish while NATS is away.
    pub when_unavailable: WhenUnavailable,
    /// What becomes of a QoS 0 publish when the buffers are full.
    pub qos0_when_full: Qos0WhenFull,
}

/// `ringgate.nats`: `username` … `nkey-seed-file`, of which at most one way is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsCredentials {
    /// User name; always with a password.
    pub username: Option<String>,
    /// Password; always with a user name.
    pub password: Option<Secret>,
    /// Token.
    pub token: Option<Secret>,
    /// File with a user's JWT and seed (`.creds`).
    pub credentials_file: Option<PathBuf>,
    /// File with a seed (`.nk`).
    pub nkey_seed_file: Option<PathBuf>,
}

/// `ringgate.nats.tls`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// Whether a link without TLS is refused; `tls://` in a URL says the same for that server.
    pub required: bool,
    /// Whether the TLS handshake comes before the server's INFO.
    pub first: bool,
    /// PEM file of the authorities to trust, instead of the host's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our certificate chain; always with a key.
    pub cert_file: Option<PathBuf>,
    /// PEM file of our private key; always with a certificate.
    pub key_file: Option<PathBuf>,
}

/// `ringgate.mqtt`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// Bytes of one control packet from a client, fixed header included.
    pub packet_bytes_max: usize,
    /// Milliseconds from an accepted connection to its CONNECT.
    pub connect_timeout_ms: u32,
    /// Longest keep alive in seconds; 0 is whatever the client asks for.
    pub keep_alive_s_max: u16,
    /// Bytes of a client identifier.
    pub client_id_bytes_max: usize,
    /// QoS 1 and 2 publishes of one client that may await confirmation.
    pub receive_maximum: u16,
    /// Topic aliases a client may set.
    pub topic_alias_maximum: u16,
    /// Longest session expiry interval in seconds.
    pub session_expiry_s_max: u32,
    /// Disconnected sessions kept, whole process.
    pub sessions_kept_max: usize,
    /// Topic filters of one session.
    pub subscriptions_max: usize,
    /// Messages waiting for one slow client.
    pub outbound_messages_max: usize,
    /// Bytes waiting for one slow client.
    pub outbound_bytes_max: usize,
    /// Endpoints one connection may speak for.
    pub endpoints_max: usize,
    /// Connections, whole process.
    pub connections_max: usize,
    /// QoS of a message whose request is unknown (a push): 0, 1 or 2.
    pub push_qos: u8,
}

/// `ringgate.esp`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Esp {
    /// How `configName` is filled.
    pub config_name: ConfigName,
    /// The field `timeout` of a `ClientData`, in milliseconds; 0 is none.
    pub client_data_timeout_ms: u32,
}

/// `ringgate.read-buffers`: a pool per shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBuffers {
    /// Buffers; a power of two, as the kernel wants it.
    pub count: u16,
    /// Bytes of each.
    pub bytes: usize,
}

/// `ringgate.log`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Least severe event that is written.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            instance_name: "kpc".into(),
            replica_id: ReplicaId::generate(),
            graceful_shutdown_s: 30,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self { port: 8008 }
    }
}

impl Default for Kaa {
    fn default() -> Self {
        Self {
            mqtt_tcp: MqttTcp::default(),
            mqtt_tls: MqttTls::default(),
            mqtt_websocket: ShortForm::at(8083),
            http: ShortForm::at(8080),
            applications: BTreeMap::new(),
            extension_instances: BTreeMap::new(),
        }
    }
}

impl Default for MqttTcp {
    fn default() -> Self {
        Self { enabled: true, port: 1883 }
    }
}

impl Default for Ringgate {
    fn default() -> Self {
        Self {
            shards: Shards::Auto,
            pin_threads: true,
            management_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listen: Listen::default(),
            listeners: BTreeMap::new(),
            tls: BTreeMap::new(),
            tls_handshakes: TlsHandshakes::default(),
            websocket: WebSocket::default(),
            http: Http::default(),
            nats: Nats::default(),
            mqtt: Mqtt::default(),
            auth: Auth::default(),
            tenants: BTreeMap::new(),
            credentials: Credentials::default(),
            connectivity: Connectivity::default(),
            esp: Esp::default(),
            read_buffers: ReadBuffers::default(),
            log: Log::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { addresses: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)], backlog: 4096 }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            urls: vec![NatsUrl::plain("nats", 4222)],
            credentials: NatsCredentials::default(),
            tls: NatsTls::default(),
            connect_timeout_ms: 2_000,
            reconnect_delay_ms_min: 50,
            reconnect_delay_ms_max: 2_000,
            ping_interval_ms: 20_000,
            pings_outstanding_max: 2,
            batch_bytes_max: 256 * 1024,
            unconfirmed_bytes_max: 8 * 1024 * 1024,
            when_unavailable: WhenUnavailable::Wait,
            qos0_when_full: Qos0WhenFull::Wait,
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1024 * 1024,
            connect_timeout_ms: 5_000,
            keep_alive_s_max: 0,
            client_id_bytes_max: 256,
            receive_maximum: 1024,
            topic_alias_maximum: 16,
            session_expiry_s_max: 3_600,
            sessions_kept_max: 100_000,
            subscriptions_max: 64,
            outbound_messages_max: 256,
            outbound_bytes_max: 1024 * 1024,
            endpoints_max: 10_000,
            connections_max: 1_000_000,
            push_qos: 0,
        }
    }
}

impl Default for Esp {
    fn default() -> Self {
        Self { config_name: ConfigName::FromPath, client_data_timeout_ms: 0 }
    }
}

impl Default for ReadBuffers {
    fn default() -> Self {
        Self { count: 256, bytes: 16 * 1024 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}
