//! The control thread: what is rare and concerns the whole process. It hears pushes on the
//! instance-wide subject and gives each to the shard that holds its endpoint, tells the world of
//! endpoints that come and go, gives revocations to the shards, serves the management interface,
//! and stops the process in order.
//!
//! It never touches a message on its way from a device, nor an answer: a shard hears those itself.

mod connectivity;
mod directory;
mod http_provider;
mod late;
mod lifecycle;
mod link;
mod nats;
mod news;
mod providers;
mod renewal;
mod revocations;
mod serve;
mod shutdown;
mod signals;
mod switchboard;
mod tenants;
mod transitions;

pub use connectivity::{Connectivity, ConnectivitySettings, Kind, Now, Sent};
pub use directory::{Directory, ENDPOINTS_MAX, Gone, Here, SHARDS_MAX, VERSIONS_MAX};
pub use http_provider::{HttpClerk, HttpProvider, HttpProviderSettings};
pub use lifecycle::Stopper;
pub use nats::{NatsAccess, NatsAccessError};
pub use providers::{CHANGES_MAX, Providers};
pub use serve::{Answers, AnswersTaken, OVER_NATS, Service, answers};
pub use shutdown::Outcome;
pub use tenants::TenantsOfVersions;

use crate::admin::{Admin, Change, Health, ShardHealth};
use crate::config::Settings;
use crate::shard::mail::{MailSender, Report};
use crate::telemetry::exposition::Metrics;
use crate::telemetry::{ControlCounters, LinkStatus, ShardCounters};
use crate::tls::Renewal;
use link::Link;
use news::News;
use signals::Signals;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use switchboard::Switchboard;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use transitions::{TRANSITIONS_MAX, Transitions};

/// What the control thread holds of one shard. A shard's number is its place in the list.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    /// The shard's mailbox.
    pub mail: MailSender,
    /// What the shard counts.
    pub counters: Arc<ShardCounters>,
    /// How the shard's link to NATS is doing.
    pub link: Arc<LinkStatus>,
}

/// Why the control thread could not start.
#[derive(Debug)]
pub enum StartError {
    /// The management interface could not listen.
    Listen {
        /// Where it should have.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The settings of the NATS link cannot be used.
    Nats(NatsAccessError),
    /// The thread, its runtime or the signal handlers could not be set up.
    Runtime(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => write!(
                f,
                "cannot listen on {address} for /health and /metrics ({error}); change \
                 server.port or ringgate.management.address"
            ),
            Self::Nats(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "cannot start the control thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The running control thread.
#[derive(Debug)]
pub struct Control {
    thread: JoinHandle<Outcome>,
    stopper: Stopper,
    management: SocketAddr,
}

impl Control {
    /// Starts the control thread. From here on SIGTERM and SIGINT drain the process, and SIGHUP
    /// has the files of TLS read again.
    ///
    /// NATS need not be there: `/health` says so until it is.
    ///
    /// # Errors
    /// When the management interface cannot listen, a file named in the settings cannot be used,
    /// or the system gives no thread.
    pub fn start(
        settings: &Settings,
        shards: Vec<ShardHandle>,
        reports: mpsc::Receiver<Report>,
        providers: Providers,
        renewal: Renewal,
    ) -> Result<Self, StartError> {
        let Providers { store, service, http } = providers;
        let (api, changes) = store.unzip();
        let access = NatsAccess::new(&settings.ringgate.nats).map_err(StartError::Nats)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let counters = Arc::new(ControlCounters::default());
        let link = Arc::new(LinkStatus::new());
        let health = Arc::new(Health::new(
            shards
                .iter()
                .map(|shard| ShardHealth {
                    counters: shard.counters.clone(),
                    link: shard.link.clone(),
                })
                .collect(),
            link.clone(),
        ));
        let metrics = Metrics::new(
            shards.iter().map(|shard| shard.counters.clone()).collect(),
            counters.clone(),
        );

        // Sockets and signal handlers belong to the runtime, and their failures to the caller.
        let entered = runtime.enter();
        let address = SocketAddr::new(settings.ringgate.management_address, settings.server.port);
        let chains = renewal::chains(&renewal);
        let admin = Admin::bind(address, health.clone(), metrics, api, chains)
            .map_err(|error| StartError::Listen { address, error })?;
        let signals = Signals::new().map_err(StartError::Runtime)?;
        let hangup = signal(SignalKind::hangup()).map_err(StartError::Runtime)?;
        drop(entered);

        let (stopper, stop) = lifecycle::stopper();
        let management = admin.local_addr();
        let desk = admin.desk();
        let answers = service.as_ref().map(|service| service.answers.answers());
        let (wished, transitions) = mpsc::channel(TRANSITIONS_MAX);
        let subscriptions = news::subscriptions(settings, service.is_some());
        let hall = Hall {
            switchboard: RefCell::new(Switchboard::new(
                shards,
                TenantsOfVersions::new(settings),
                News::new(settings, service, wished),
                counters.clone(),
            )),
            changes,
            transitions: Transitions { wished: transitions, desk, answers },
            http,
            tls: renewal::TlsFiles { renewal, hangup, counters: counters.clone() },
            link: Link::new(
                access,
                &settings.service.instance_name,
                settings.service.replica_id.as_str(),
                subscriptions,
                link,
                counters,
            ),
            admin,
            reports,
            stop: lifecycle::Stop { signals, asked: stop },
            grace: Duration::from_secs(settings.service.graceful_shutdown_s.into()),
            health,
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || hall.run(&runtime))
            .map_err(StartError::Runtime)?;
        Ok(Self { thread, stopper, management })
    }

    /// Where the management interface listens.
    #[must_use]
    pub fn management_addr(&self) -> SocketAddr {
        self.management
    }

    /// A handle that drains the process as SIGTERM does.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until the process is to end, and says how it came to that.
    #[must_use]
    pub fn join(self) -> Outcome {
        self.thread.join().unwrap_or(Outcome::ControlPanicked)
    }
}

/// Everything the control thread works with.
struct Hall {
    switchboard: RefCell<Switchboard>,
    changes: Option<mpsc::Receiver<Change>>,
    transitions: Transitions,
    http: Option<HttpProvider>,
    tls: renewal::TlsFiles,
    link: Link,
    admin: Admin,
    reports: mpsc::Receiver<Report>,
    stop: lifecycle::Stop,
    grace: Duration,
    health: Arc<Health>,
}

impl Hall {
    fn run(self, runtime: &Runtime) -> Outcome {
        let Self { switchboard, changes, transitions, http, link, admin, .. } = self;
        let Self { tls, reports, stop, grace, health, .. } = self;
        // All but the last never end. They run in turns on this thread, and a borrow of the
        // switchboard never lives across an await.
        runtime.block_on(async {
            tokio::select! {
                never = link.run(&switchboard) => match never {},
                never = switchboard::deliver_late(&switchboard) => match never {},
                never = providers::tell_changes(changes, &switchboard) => match never {},
                never = transitions.run() => match never {},
                never = providers::ask_over_http(http, &switchboard) => match never {},
                never = tls.renew() => match never {},
                never = admin.run() => match never {},
                outcome = lifecycle::run(&switchboard, reports, stop, grace, &health) => outcome,
            }
        })
    }
}
