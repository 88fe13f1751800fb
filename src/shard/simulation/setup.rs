//! What a simulated gateway is configured to be.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::device;
use super::random::Random;
use super::world::EXPIRY_S_MAX;
use crate::auth::{Throttle, throttle};
use crate::codec::avro::ConfigName;
use crate::codec::mqtt::QoS;
use crate::config::{Network, Qos0WhenFull, WhenUnavailable};
use crate::session::Policy;
use crate::session::catalogue::{App, Catalogue, Extension};
use crate::shard::core::{Clerks, Core, Surroundings};
use crate::shard::doors::{ListenerPlan, Speaks};
use crate::shard::mail::{Mailbox, Report, Reporter, mailbox, reports};
use crate::shard::registry::Registry;
use crate::shard::seats::Seats;
use crate::shard::settings::{AuthSettings, HttpSettings, ShardSettings};
use crate::telemetry::ShardCounters;
use crate::tls::Slot;
use crate::transport::websocket::Rules;
use crate::uplink::ledger::{Ledger, Limits};

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (name, endpoint_aware, push_qos) in
        [("dcx", true, None), ("cmx", true, Some(QoS::AtLeastOnce)), ("tsx", false, None)]
    {
        catalogue.add_extension(Extension { name: name.into(), endpoint_aware, push_qos });
    }
    let app = catalogue.add_app(App { name: "app".into(), tenant: "acme".into() });
    catalogue.add_version(app, "v1", None);
    let other = catalogue.add_app(App { name: "alien".into(), tenant: "other".into() });
    catalogue.add_version(other, "v2", None);
    catalogue
}

/// The listeners of [`Setup::plain`], by number.
pub(super) const MQTT: u16 = 0;
pub(super) const MQTTS: u16 = 1;
pub(super) const WS: u16 = 2;
pub(super) const WSS: u16 = 3;
pub(super) const HTTP: u16 = 4;
pub(super) const HTTPS: u16 = 5;
pub(super) const PROXIED: u16 = 6;
pub(super) const PROXIED_TLS: u16 = 7;
pub(super) const UNLISTED: u16 = 8;

/// A world to be made.
pub(super) struct Setup {
    pub(super) shards: usize,
    pub(super) settings: ShardSettings,
    pub(super) limits: Limits,
    /// The NATS servers differ in what they take.
    pub(super) has_small_payloads: bool,
    /// The shards are told to stop in the end.
    pub(super) drains: bool,
    pub(super) tls_profiles: Vec<Arc<Slot>>,
    pub(super) clerks: Clerks,
}

impl Setup {
    /// The usual one.
    pub(super) fn plain() -> Self {
        let policy = Policy {
            packet_bytes_max: 4096,
            receive_maximum: device::RECEIVE_MAXIMUM,
            topic_alias_maximum: device::ALIAS_MAXIMUM,
            session_expiry_s_max: EXPIRY_S_MAX,
            outbound_messages_max: 100,
            outbound_bytes_max: 100_000,
            ..Policy::default()
        };
        let elsewhere = Network::Ip { address: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 32 };
        let rules = Rules { path: "/ws".to_owned(), origins: Vec::new(), frame_bytes_max: 100_000 };
        let rules = Arc::new(rules);
        let settings = ShardSettings {
            replica: String::new(),
            core: None,
            http: HttpSettings {
                body_bytes_max: 1000,
                request_timeout_ms: 3000,
                answer_timeout_ms: 5000,
                idle_timeout_ms: 20_000,
            },
            listeners: vec![
                ListenerPlan::mqtt(),
                ListenerPlan { tls: Some(0), ..ListenerPlan::mqtt() },
                ListenerPlan { speaks: Speaks::WebSocket(rules.clone()), ..ListenerPlan::mqtt() },
                ListenerPlan {
                    tls: Some(0),
                    speaks: Speaks::WebSocket(rules),
                    ..ListenerPlan::mqtt()
                },
                ListenerPlan { speaks: Speaks::Http, ..ListenerPlan::mqtt() },
                ListenerPlan { tls: Some(0), speaks: Speaks::Http, ..ListenerPlan::mqtt() },
                // The sockets of the simulation have no address, as those of Unix sockets.
                ListenerPlan { proxies: vec![Network::Unix], ..ListenerPlan::mqtt() },
                ListenerPlan { tls: Some(0), proxies: vec![Network::Unix], ..ListenerPlan::mqtt() },
                ListenerPlan { proxies: vec![elsewhere], ..ListenerPlan::mqtt() },
            ],
            seats: Seats::new(1000),
            endpoints_max: 1000,
            connect_timeout_ms: 5000,
            tls_handshake_timeout_ms: 10_000,
            tls_handshakes_max: 2,
            policy,
            auth: AuthSettings::default(),
            config_name: ConfigName::Omit,
            client_data_timeout_ms: 0,
            when_unavailable: WhenUnavailable::Wait,
            qos0_when_full: Qos0WhenFull::Wait,
            read_buffer_count: 0,
            read_buffer_bytes: 0,
            drain_ms_max: 10_000,
            #[cfg(debug_assertions)]
            fault_topic: None,
        };
        let limits = Limits { batch_bytes_max: 600, unconfirmed_bytes_max: 2000 };
        Self {
            shards: 1,
            settings,
            limits,
            has_small_payloads: false,
            drains: false,
            tls_profiles: Vec::new(),
            clerks: Clerks::default(),
        }
    }

    /// Any.
    pub(super) fn random(random: &mut Random) -> Self {
        let mut setup = Self::plain();
        setup.shards = 1 + random.below(2);
        setup.has_small_payloads = random.percent(10);
        setup.drains = random.percent(15);
        setup.limits.batch_bytes_max = random.pick(&[200, 600]);
        setup.limits.unconfirmed_bytes_max = random.pick(&[600, 2000, 20_000]);
        let ShardSettings { policy, when_unavailable, qos0_when_full, .. } = &mut setup.settings;
        policy.outbound_messages_max = random.pick(&[4, 100]);
        policy.outbound_bytes_max = random.pick(&[1500, 100_000]);
        if random.percent(10) {
            *when_unavailable = WhenUnavailable::Refuse;
        }
        *qos0_when_full = random.pick(&[Qos0WhenFull::Wait, Qos0WhenFull::Drop]);
        setup
    }

    /// Whether a message for which there is room may be refused all the same.
    pub(super) fn may_refuse(&self) -> bool {
        self.has_small_payloads || self.settings.when_unavailable == WhenUnavailable::Refuse
    }

    /// The cores of the shards with their mailboxes, what they share, and what they report.
    pub(super) fn build(&self) -> (Vec<(Core, Mailbox)>, Arc<Registry>, Receiver<Report>) {
        let registry = Arc::new(Registry::new(1000));
        let limits = throttle::Limits { per_address: 0, per_username: 0, window_ms: 1 };
        let throttle = Arc::new(Throttle::new(limits));
        let (sender, reports) = reports();
        let (peers, mailboxes): (Vec<_>, Vec<_>) =
            (0..self.shards).map(|_| mailbox().expect("a descriptor is left")).unzip();
        let build = |(number, mailbox): (usize, Mailbox)| {
            let counters = Arc::new(ShardCounters::new());
            let surroundings = Surroundings {
                catalogue: Arc::new(catalogue()),
                registry: registry.clone(),
                peers: peers.clone(),
                reporter: Reporter::new(sender.clone(), number as u16, counters.clone()),
                tls_profiles: self.tls_profiles.clone(),
                clerks: self.clerks.clone(),
                throttle: throttle.clone(),
                ledger: Rc::new(RefCell::new(Ledger::new(self.limits))),
                counters,
            };
            let replica = format!("r-{number}");
            let settings = ShardSettings { replica, ..self.settings.clone() };
            (Core::new(number as u16, settings, surroundings, 0), mailbox)
        };
        let cores = mailboxes.into_iter().enumerate().map(build).collect();
        (cores, registry, reports)
    }
}
