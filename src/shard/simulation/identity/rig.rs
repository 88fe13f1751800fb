//! The one shard that a group of schedules is played on.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::Receiver;

use super::provider::{APPS, Desk};
use crate::auth::{Provider, Throttle, throttle};
use crate::config::WhenUnavailable;
use crate::session::catalogue::{App, Catalogue, Extension};
use crate::shard::asks;
use crate::shard::core::{Clerks, Core, Surroundings};
use crate::shard::mail::{Report, Reporter, mailbox, reports};
use crate::shard::registry::Registry;
use crate::shard::settings::AuthSettings;
use crate::shard::simulation::setup::Setup;
use crate::shard::sockets::Sockets;
use crate::telemetry::ShardCounters;
use crate::uplink::ledger::Ledger;

/// Milliseconds an attempt to ask may take.
pub const ASK_TIMEOUT_MS: u64 = 1000;
/// Milliseconds that a good verdict holds.
pub const VERDICT_TTL_MS: u64 = 5000;

/// What the core wants done with sockets, done at once by the world.
#[derive(Default)]
pub struct Ring {
    pub sends: Vec<(u32, Vec<u8>)>,
    /// What went before them, beside the ring.
    pub lasts: Vec<(u32, Vec<u8>)>,
    pub cancels: Vec<u32>,
}

impl Sockets for Ring {
    fn send(&mut self, index: u32, _: &OwnedFd, bytes: Vec<u8>) {
        self.sends.push((index, bytes));
    }

    /// Takes a part, like a socket whose buffer is nearly full, or all.
    fn send_last(&mut self, index: u32, _: &OwnedFd, bytes: &[u8]) -> usize {
        let taken = if index.is_multiple_of(2) { bytes.len() } else { bytes.len() / 2 };
        self.lasts.push((index, bytes[..taken].into()));
        taken
    }

    fn receive(&mut self, _: u32, _: &OwnedFd) {}

    fn cancel_receive(&mut self, index: u32) {
        self.cancels.push(index);
    }
}

/// A shard of a kind that `group` decides, its reports, and its clerk.
pub fn build(group: u64) -> (Core, Receiver<Report>, Arc<Desk>) {
    let mut catalogue = Catalogue::default();
    for (name, endpoint_aware) in [("dcx", true), ("tsx", false)] {
        let name = name.into();
        catalogue.add_extension(Extension { name, endpoint_aware, push_qos: None });
    }
    for (name, tenant, version) in APPS {
        let app = catalogue.add_app(App { name: name.into(), tenant: tenant.into() });
        catalogue.add_version(app, version, None);
    }
    let mut setup = Setup::plain();
    setup.settings.policy.receive_maximum = 200;
    setup.settings.policy.session_expiry_s_max = 60;
    setup.settings.replica = "r-0".to_owned();
    setup.limits.batch_bytes_max = 4000;
    setup.limits.unconfirmed_bytes_max = if group % 4 == 1 { 600 } else { 100_000 };
    if group % 4 == 2 {
        setup.settings.when_unavailable = WhenUnavailable::Refuse;
    }
    setup.settings.auth = AuthSettings {
        apps: vec![Provider::Internal; APPS.len()],
        client_provider: Provider::Internal,
        asks: asks::Limits { asks_max: 6, timeout_ms: ASK_TIMEOUT_MS, attempts_max: 2 },
        verdicts_max: if group.is_multiple_of(3) { 3 } else { 100 },
        verdict_ttl_ms: VERDICT_TTL_MS,
        rejection_ttl_ms: 500,
        parked_bytes_max: if group.is_multiple_of(5) { 300 } else { 4000 },
        parked_bytes_per_shard_max: if group.is_multiple_of(7) { 600 } else { 100_000 },
        ..AuthSettings::default()
    };
    let limits = throttle::Limits { per_address: 0, per_username: 0, window_ms: 1 };
    let (sender, receiver) = reports();
    let counters = Arc::new(ShardCounters::new());
    let desk = Arc::new(Desk::default());
    let (mails, _) = mailbox().expect("a descriptor is left");
    let surroundings = Surroundings {
        catalogue: Arc::new(catalogue),
        registry: Arc::new(Registry::new(1000)),
        peers: vec![mails],
        reporter: Reporter::new(sender, 0, counters.clone()),
        tls_profiles: Vec::new(),
        clerks: Clerks { internal: Some(desk.clone()), http: None },
        throttle: Arc::new(Throttle::new(limits)),
        ledger: Rc::new(RefCell::new(Ledger::new(setup.limits))),
        counters,
    };
    (Core::new(0, setup.settings, surroundings, 0), receiver, desk)
}
