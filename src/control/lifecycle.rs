//! Hears the shards' reports and the signals, and stops the process in order.

use super::shutdown::{Outcome, Shutdown};
use super::signals::{Received, Signals};
use super::switchboard::Switchboard;
use crate::admin::Health;
use crate::shard::mail::{Mail, Report};
use crate::telemetry::clock;
use std::cell::RefCell;
use std::time::Duration;
use tokio::sync::mpsc;

/// Reports taken in one go.
const REPORTS_PER_TURN_MAX: usize = 256;
/// How often the deadline is looked at and a full mailbox tried again while draining.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Asks for the end of the process, as SIGTERM does.
#[derive(Clone, Debug)]
pub struct Stopper(mpsc::Sender<()>);

impl Stopper {
    /// Drains the process. Asking again changes nothing.
    pub fn stop(&self) {
        // A full channel holds a request already; a closed one has been obeyed.
        let _ = self.0.try_send(());
    }
}

/// A stopper and what it acts on.
pub fn stopper() -> (Stopper, mpsc::Receiver<()>) {
    let (sender, receiver) = mpsc::channel(1);
    (Stopper(sender), receiver)
}

/// Everybody who can ask for the end.
pub struct Stop {
    pub signals: Signals,
    pub asked: mpsc::Receiver<()>,
}

/// Runs until the process is to end.
pub async fn run(
    switchboard: &RefCell<Switchboard>,
    mut reports: mpsc::Receiver<Report>,
    mut stop: Stop,
    grace: Duration,
    health: &Health,
) -> Outcome {
    let shards = switchboard.borrow().shards();
    let mut shutdown = Shutdown::new(shards, grace.as_millis() as u64);
    let mut batch = Vec::with_capacity(REPORTS_PER_TURN_MAX);
    let mut ticks = tokio::time::interval(DRAIN_TICK);
    let mut shards_left = true;
    let mut all_told = false;
    loop {
        tokio::select! {
            count = reports.recv_many(&mut batch, REPORTS_PER_TURN_MAX), if shards_left => {
                for report in batch.drain(..) {
                    take(report, switchboard, &mut shutdown, health);
                }
                if count == 0 {
                    shards_left = false;
                    shutdown.all_ended(clock::monotonic_ms());
                }
            }
            signal = stop.signals.next() => on_signal(signal, &mut shutdown),
            Some(()) = stop.asked.recv() => {
                shutdown.ask(clock::monotonic_ms());
            }
            _ = ticks.tick(), if shutdown.asked() => {}
        }
        if shutdown.asked() {
            health.set_draining();
            let switchboard = switchboard.borrow();
            shutdown.tell(|shard| switchboard.post(shard, Mail::Drain).is_ok());
        }
        let now_ms = clock::monotonic_ms();
        if let Some(outcome) = shutdown.outcome(now_ms) {
            // The last thing to be said is that nobody is connected any more.
            if !all_told {
                all_told = true;
                switchboard.borrow_mut().all_gone();
            }
            // NATS may come back until the time is over.
            let untold = switchboard.borrow().news.owed();
            if untold > 0 && !shutdown.is_over(now_ms) {
                continue;
            }
            if untold > 0 {
                tracing::warn!(
                    untold,
                    "NATS has not heard of all that ends: endpoints that have gone, revocations"
                );
            }
            tracing::info!("stopping: {outcome}");
            return outcome;
        }
    }
}

fn take(
    report: Report,
    switchboard: &RefCell<Switchboard>,
    shutdown: &mut Shutdown,
    health: &Health,
) {
    match report {
        Report::EndpointWanted { shard, ask, endpoint, app_version } => {
            switchboard.borrow_mut().endpoint_wanted(shard, ask, endpoint, &app_version);
        }
        Report::EndpointHere { shard, endpoint, app_version } => {
            switchboard.borrow_mut().endpoint_here(shard, endpoint, &app_version);
        }
        Report::EndpointGone { shard, endpoint } => {
            switchboard.borrow_mut().endpoint_gone(shard, &endpoint);
        }
        Report::Drained { shard } => {
            tracing::info!(shard, "shard has drained");
            shutdown.drained(shard);
        }
        Report::Failed { shard, why } => {
            tracing::error!(shard, "shard has failed, stopping the process: {why}");
            health.set_failed(shard, why.clone());
            shutdown.failed(shard, why, clock::monotonic_ms());
        }
    }
}

/// The first signal drains. Whoever signals twice does not want to wait: the process ends here.
fn on_signal(signal: Received, shutdown: &mut Shutdown) {
    if shutdown.ask(clock::monotonic_ms()) {
        tracing::info!("{}: draining; once more to stop at once", signal.as_str());
    } else {
        tracing::warn!("{} while draining: stopping at once", signal.as_str());
        std::process::exit(signal.exit_code());
    }
}
