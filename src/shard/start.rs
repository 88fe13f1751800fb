//! Starting a shard's thread.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::ask::RESPONSES;
use super::asks::ASK_TICK_MS;
use super::core::{Clerks, Core, Surroundings};
use super::gate::Gate;
use super::mail::{MailSender, Mailbox, Reporter};
use super::registry::Registry;
use super::settings::ShardSettings;
use super::wheel::TICK_MS;
use super::{Door, Shell, State};
use crate::auth::Throttle;
use crate::codec::subjects;
use crate::rt::eventfd::EventFd;
use crate::rt::ready::Readiness;
use crate::rt::ring::DeviceRing;
use crate::rt::runtime;
use crate::rt::task::{Notify, sleep, spawn};
use crate::session::catalogue::Catalogue;
use crate::telemetry::{ShardCounters, clock};
use crate::tls::Slot;
use crate::uplink::{Dialer, Ledger, Limits, Link, LinkStatus};

/// Turns of the device ring in a row before other tasks, timers and NATS get theirs.
const TURNS_IN_A_ROW_MAX: usize = 8;

/// What a shard is made of.
pub struct Parts {
    /// Its number, from 0.
    pub number: u16,
    /// What the configuration says to it.
    pub settings: ShardSettings,
    /// Its listening sockets.
    pub doors: Vec<Door>,
    /// What TLS is spoken by, by the number of the profile.
    pub tls_profiles: Vec<Arc<Slot>>,
    /// Application versions and extension instances.
    pub catalogue: Arc<Catalogue>,
    /// Client ids of all shards.
    pub registry: Arc<Registry>,
    /// Its own mailbox.
    pub mailbox: Mailbox,
    /// The mailboxes of all shards, by number.
    pub peers: Vec<MailSender>,
    /// Its way to the control thread.
    pub reporter: Reporter,
    /// Who answers questions about credentials within this process.
    pub clerks: Clerks,
    /// Failed logins of all shards.
    pub throttle: Arc<Throttle>,
    /// Its counters.
    pub counters: Arc<ShardCounters>,
    /// How it connects to NATS.
    pub dialer: Arc<Dialer>,
    /// Bounds of its ledger.
    pub limits: Limits,
    /// How its link is doing, for others to read.
    pub link_status: Arc<LinkStatus>,
}

/// A running shard.
pub struct ShardThread {
    /// Ends with what made it fail, if anything did.
    pub thread: JoinHandle<Result<(), String>>,
}

/// Starts a shard and waits until it accepts connections.
///
/// # Errors
/// What kept it from starting.
pub fn start(parts: Parts) -> Result<ShardThread, String> {
    let (started, has_started) = mpsc::channel();
    let name = format!("ringgate-{}", parts.number);
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let mut last_words = parts.reporter.another();
            let core = parts.settings.core;
            let run = || runtime::run(core, move || run(parts, started));
            let ended = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(ended)) => ended,
                Ok(Err(error)) => Err(format!("the shard's runtime cannot be made: {error}")),
                Err(_) => Err("the shard panicked".to_owned()),
            };
            match &ended {
                Ok(()) => last_words.drained(),
                Err(why) => last_words.failed(why.clone()),
            }
            last_words.finish();
            ended
        })
        .map_err(|error| format!("no thread for a shard: {error}"))?;
    match has_started.recv() {
        Ok(()) => Ok(ShardThread { thread }),
        Err(_) => match thread.join() {
            Ok(Err(why)) => Err(why),
            _ => Err("the shard ended while it was starting".to_owned()),
        },
    }
}

async fn run(parts: Parts, started: mpsc::Sender<()>) -> Result<(), String> {
    let text = |error: std::io::Error| format!("the shard cannot start: {error}");
    let buffers = (parts.settings.read_buffer_count, parts.settings.read_buffer_bytes);
    let ring = DeviceRing::new(buffers.0, buffers.1).map_err(text)?;
    let ring_readiness = Readiness::new(&ring).map_err(text)?;
    let mail_readiness = Readiness::new(&parts.mailbox).map_err(text)?;
    let hands_wait = EventFd::new().map_err(text)?;
    let hands_readiness = Readiness::new(&hands_wait).map_err(text)?;
    let heard = RESPONSES.iter().chain([&subjects::esp::EXTENSION_DATA]);
    let replica = &parts.settings.replica;
    let reply_subjects = heard.map(|message| subjects::replica(replica, message)).collect();
    let ledger = Rc::new(RefCell::new(Ledger::new(parts.limits)));
    let link = Link::new(
        parts.dialer,
        format!("ringgate {}", parts.settings.replica),
        reply_subjects,
        ledger.clone(),
        parts.link_status,
    );
    let surroundings = Surroundings {
        catalogue: parts.catalogue,
        registry: parts.registry,
        peers: parts.peers,
        reporter: parts.reporter,
        clerks: parts.clerks,
        throttle: parts.throttle,
        tls_profiles: parts.tls_profiles,
        ledger,
        counters: parts.counters,
    };
    let core = Core::new(parts.number, parts.settings, surroundings, clock::monotonic_ms());
    let shell = Rc::new(Shell {
        state: RefCell::new(State {
            core,
            ring,
            doors: parts.doors,
            stopped_listeners: Vec::new(),
            gate: Gate::default(),
        }),
        link: link.clone(),
        is_done: Notify::new(),
        is_asking: Notify::new(),
        hands_wait,
    });
    shell.turn(|state| {
        for listener in 0..state.doors.len() {
            state.accept(listener as u32);
        }
    });
    let link_task = link.start(shell.clone());
    spawn(take_mail(shell.clone(), parts.mailbox, mail_readiness));
    spawn(tick(shell.clone()));
    spawn(watch_asks(shell.clone()));
    spawn(shake_hands(shell.clone(), hands_readiness));
    spawn(serve_devices(shell.clone(), ring_readiness));
    // The main thread gives up waiting only together with the process.
    let _ = started.send(());
    shell.is_done.notified().await;
    link.close();
    link_task.await;
    Ok(())
}

async fn serve_devices(shell: Rc<Shell>, readiness: Readiness) {
    loop {
        // Also the fair way to give way in between: with more to do this returns at once, but only
        // after the runtime has looked at its own ring and its timers.
        if let Err(error) = readiness.ready().await {
            tracing::error!(%error, "waiting for devices failed");
            sleep(Duration::from_millis(TICK_MS)).await;
        }
        for _ in 0..TURNS_IN_A_ROW_MAX {
            if !shell.device_turn() {
                break;
            }
        }
    }
}

async fn take_mail(shell: Rc<Shell>, mut mailbox: Mailbox, readiness: Readiness) {
    loop {
        if let Err(error) = readiness.ready().await {
            tracing::error!(%error, "waiting for mail failed");
            sleep(Duration::from_millis(TICK_MS)).await;
        }
        mailbox.drain(|mail| shell.take_mail(mail));
        shell.turn(|_| {});
    }
}

async fn tick(shell: Rc<Shell>) {
    loop {
        sleep(Duration::from_millis(TICK_MS)).await;
        shell.turn(State::tick);
    }
}

/// Gives handshakes that wait for the next turn one: everything else has its own in between.
async fn shake_hands(shell: Rc<Shell>, readiness: Readiness) {
    loop {
        if let Err(error) = readiness.ready().await {
            tracing::error!(%error, "waiting for TLS handshakes failed");
            sleep(Duration::from_millis(TICK_MS)).await;
        }
        let cleared = shell.hands_wait.clear();
        debug_assert!(cleared.is_ok(), "an eventfd can be read: {cleared:?}");
        shell.turn(|_| {});
    }
}

/// Looks at questions under way; sleeps while there are none.
async fn watch_asks(shell: Rc<Shell>) {
    loop {
        shell.is_asking.notified().await;
        while shell.is_asking() {
            sleep(Duration::from_millis(ASK_TICK_MS)).await;
            shell.turn(|state| state.core.asks_due());
        }
    }
}
