//! The running gateway: turns the settings into shards and a control thread, and waits for their
//! end.

mod doors;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::doors::{Doors, UnixFiles};
use crate::auth::{Throttle, throttle};
use crate::codec::avro;
use crate::codec::mqtt::QoS;
use crate::config::{self, Settings, Shards};
use crate::control::{Control, Outcome, ShardHandle};
use crate::credentials::Workers;
use crate::providers::{self, Made};
use crate::rt::{preflight, runtime};
use crate::session::Policy;
use crate::session::catalogue::{App, Catalogue, Extension};
use crate::shard::mail::{self, Mailbox, Reporter};
use crate::shard::registry::Registry;
use crate::shard::settings::{AuthSettings, HttpSettings};
use crate::shard::{self, Door, Parts, Seats, ShardSettings, ShardThread};
use crate::telemetry::logging::{self, Format};
use crate::telemetry::{LinkStatus, ShardCounters};
use crate::tls::Renewal;
use crate::uplink::{Dialer, Limits, LinkSettings, TlsSettings};

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// What kept it from running, or from ending well, in words for the operator.
pub fn run(settings: Settings) -> Result<(), String> {
    start_logging(&settings)?;
    for notice in settings.notices() {
        tracing::warn!("{notice}");
    }
    preflight::check().map_err(|refusal| refusal.to_string())?;
    let mut gateway = Gateway::build(&settings)?;
    let addresses = std::mem::take(&mut gateway.addresses);
    let files = std::mem::take(&mut gateway.files);
    let Running { control, threads, workers } = gateway.start(&settings)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        replica = settings.service.replica_id.as_str(),
        shards = threads.len(),
        listen = ?addresses,
        management = %control.management_addr(),
        "ringgate is ready"
    );
    let ended = finish(control.join(), threads);
    // Nobody asks any more.
    drop(workers);
    drop(files);
    ended
}

fn start_logging(settings: &Settings) -> Result<(), String> {
    let format = match settings.ringgate.log.format {
        config::LogFormat::Text => Format::Text,
        config::LogFormat::Json => Format::Json,
    };
    logging::init(settings.ringgate.log.level.as_str(), format).map_err(|error| error.to_string())
}

/// Waits for the shards after an orderly end; after any other the process ends without them.
fn finish(outcome: Outcome, threads: Vec<ShardThread>) -> Result<(), String> {
    if outcome != Outcome::Drained {
        return Err(outcome.to_string());
    }
    for thread in threads {
        match thread.thread.join() {
            Ok(ended) => ended?,
            Err(_) => return Err("a shard panicked while it ended".to_owned()),
        }
    }
    Ok(())
}

/// Everything that is made before the first thread starts.
struct Gateway {
    doors: Vec<Vec<Door>>,
    /// What listens, for the log.
    addresses: Vec<String>,
    /// Removed once the shards have ended.
    files: UnixFiles,
    renewal: Renewal,
    cores: Vec<Option<usize>>,
    dialer: Arc<Dialer>,
    catalogue: Arc<Catalogue>,
    registry: Arc<Registry>,
    throttle: Arc<Throttle>,
}

impl Gateway {
    fn build(settings: &Settings) -> Result<Self, String> {
        let cores = cores(settings);
        let renewal = Renewal::load(settings.tls_profiles()).map_err(|error| error.to_string())?;
        for warning in renewal.warnings() {
            tracing::warn!("{warning}");
        }
        let Doors { of_shards, addresses, files } = doors::open(settings, cores.len())?;
        let dialer = Dialer::new(link_settings(settings)).map_err(|error| error.to_string())?;
        Ok(Self {
            doors: of_shards,
            addresses,
            files,
            renewal,
            cores,
            dialer,
            catalogue: Arc::new(catalogue(settings)),
            registry: Arc::new(Registry::new(settings.ringgate.mqtt.sessions_kept_max)),
            throttle: Arc::new(Throttle::new(login_limits(settings))),
        })
    }

    fn start(self, settings: &Settings) -> Result<Running, String> {
        let no_descriptor = |error: io::Error| format!("no mailbox for a shard: {error}");
        let boxes = (0..self.cores.len())
            .map(|_| mail::mailbox())
            .collect::<Result<Vec<_>, _>>()
            .map_err(no_descriptor)?;
        let (peers, mailboxes): (Vec<_>, Vec<Mailbox>) = boxes.into_iter().unzip();
        let (reports, reports_received) = mail::reports();
        let handles: Vec<ShardHandle> = peers
            .iter()
            .map(|mail| ShardHandle {
                mail: mail.clone(),
                counters: Arc::new(ShardCounters::new()),
                link: Arc::new(LinkStatus::new()),
            })
            .collect();
        let Made { clerks, providers, workers, laid_down } = providers::make(settings, &peers)?;
        let auth = providers::auth_settings(settings, &laid_down);
        let tls_profiles = self.renewal.slots();
        let handles_of_control = handles.clone();
        let control =
            Control::start(settings, handles_of_control, reports_received, providers, self.renewal)
                .map_err(|error| error.to_string())?;
        let of_all = shard_settings(settings, peers.len(), auth);
        let mut threads = Vec::new();
        let shards = mailboxes.into_iter().zip(self.doors).zip(self.cores).zip(handles);
        for (number, (((mailbox, doors), core), handle)) in (0u16..).zip(shards) {
            threads.push(shard::start(Parts {
                number,
                settings: ShardSettings {
                    replica: format!("{}-{number}", of_all.replica),
                    core,
                    ..of_all.clone()
                },
                doors,
                tls_profiles: tls_profiles.clone(),
                catalogue: self.catalogue.clone(),
                registry: self.registry.clone(),
                mailbox,
                peers: peers.clone(),
                reporter: Reporter::new(reports.clone(), number, handle.counters.clone()),
                clerks: clerks.clone(),
                throttle: self.throttle.clone(),
                counters: handle.counters,
                dialer: self.dialer.clone(),
                limits: Limits {
                    batch_bytes_max: settings.ringgate.nats.batch_bytes_max,
                    unconfirmed_bytes_max: settings.ringgate.nats.unconfirmed_bytes_max,
                },
                link_status: handle.link,
            })?);
        }
        Ok(Running { control, threads, workers })
    }
}

/// Everything that runs.
struct Running {
    control: Control,
    threads: Vec<ShardThread>,
    workers: Option<Workers>,
}

fn login_limits(settings: &Settings) -> throttle::Limits {
    let auth = &settings.ringgate.auth;
    throttle::Limits {
        per_address: auth.login_failures_max_per_address,
        per_username: auth.login_failures_max_per_username,
        window_ms: u64::from(auth.login_failures_window_s) * 1000,
    }
}

/// A core for each shard; more shards than cores share them.
fn cores(settings: &Settings) -> Vec<Option<usize>> {
    let available = runtime::cores();
    let shards = match settings.ringgate.shards {
        Shards::Auto => available.len(),
        Shards::Count(count) => usize::from(count),
    };
    let pinned = |shard: usize| available.get(shard % available.len().max(1)).copied();
    (0..shards.max(1)).map(|n| pinned(n).filter(|_| settings.ringgate.pin_threads)).collect()
}

fn catalogue(settings: &Settings) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (name, instance) in &settings.kaa.extension_instances {
        catalogue.add_extension(Extension {
            name: name.as_str().into(),
            endpoint_aware: instance.endpoint_aware,
            push_qos: instance.push_qos.and_then(QoS::from_u8),
        });
    }
    for (name, application) in &settings.kaa.applications {
        let app = catalogue
            .add_app(App { name: name.as_str().into(), tenant: settings.tenant(name).into() });
        for (name, version) in &application.versions {
            catalogue.add_version(app, name, version.allowed_extension_instances.as_deref());
        }
    }
    catalogue
}

fn link_settings(settings: &Settings) -> LinkSettings {
    let nats = &settings.ringgate.nats;
    let ms = |ms: u32| Duration::from_millis(ms.into());
    LinkSettings {
        urls: nats.urls.clone(),
        username: nats.credentials.username.clone(),
        password: nats.credentials.password.clone(),
        token: nats.credentials.token.clone(),
        credentials_file: nats.credentials.credentials_file.clone(),
        nkey_seed_file: nats.credentials.nkey_seed_file.clone(),
        tls: TlsSettings {
            required: nats.tls.required,
            first: nats.tls.first,
            ca_file: nats.tls.ca_file.clone(),
            cert_file: nats.tls.cert_file.clone(),
            key_file: nats.tls.key_file.clone(),
        },
        connect_timeout: ms(nats.connect_timeout_ms),
        reconnect_delay_min: ms(nats.reconnect_delay_ms_min),
        reconnect_delay_max: ms(nats.reconnect_delay_ms_max),
        ping_interval: ms(nats.ping_interval_ms),
        pings_outstanding_max: nats.pings_outstanding_max,
    }
}

/// What holds for each of so many shards; what they share they count together.
fn shard_settings(settings: &Settings, shards: usize, auth: AuthSettings) -> ShardSettings {
    let ringgate = &settings.ringgate;
    let grace_ms = u64::from(settings.service.graceful_shutdown_s) * 1000;
    ShardSettings {
        replica: settings.service.replica_id.as_str().to_owned(),
        core: None,
        http: HttpSettings {
            body_bytes_max: ringgate.http.body_bytes_max,
            request_timeout_ms: ringgate.http.request_timeout_ms,
            answer_timeout_ms: ringgate.http.answer_timeout_ms,
            idle_timeout_ms: ringgate.http.idle_timeout_ms,
        },
        listeners: doors::plans(settings),
        seats: Seats::new(ringgate.mqtt.connections_max),
        endpoints_max: ringgate.mqtt.endpoints_max,
        connect_timeout_ms: ringgate.mqtt.connect_timeout_ms,
        tls_handshake_timeout_ms: ringgate.tls_handshakes.timeout_ms,
        tls_handshakes_max: ringgate.tls_handshakes.max.div_ceil(shards),
        policy: policy(&ringgate.mqtt),
        auth,
        config_name: match ringgate.esp.config_name {
            config::ConfigName::FromPath => avro::ConfigName::FromPath,
            config::ConfigName::Null => avro::ConfigName::Null,
            config::ConfigName::Omit => avro::ConfigName::Omit,
        },
        client_data_timeout_ms: ringgate.esp.client_data_timeout_ms,
        when_unavailable: ringgate.nats.when_unavailable,
        qos0_when_full: ringgate.nats.qos0_when_full,
        read_buffer_count: ringgate.read_buffers.count,
        read_buffer_bytes: u32::try_from(ringgate.read_buffers.bytes).unwrap_or(u32::MAX),
        // The control thread's own deadline is the whole time: a shard must be a little ahead of
        // it.
        drain_ms_max: grace_ms - grace_ms / 10,
        #[cfg(debug_assertions)]
        fault_topic: std::env::var(shard::settings::FAULT_VARIABLE).ok(),
    }
}

fn policy(mqtt: &config::Mqtt) -> Policy {
    Policy {
        packet_bytes_max: u32::try_from(mqtt.packet_bytes_max).unwrap_or(u32::MAX),
        keep_alive_s_max: mqtt.keep_alive_s_max,
        client_id_bytes_max: mqtt.client_id_bytes_max,
        receive_maximum: mqtt.receive_maximum,
        topic_alias_maximum: mqtt.topic_alias_maximum,
        session_expiry_s_max: mqtt.session_expiry_s_max,
        subscriptions_max: mqtt.subscriptions_max,
        outbound_messages_max: mqtt.outbound_messages_max,
        outbound_bytes_max: mqtt.outbound_bytes_max,
        push_qos: QoS::from_u8(mqtt.push_qos).unwrap_or_default(),
    }
}
