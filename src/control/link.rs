//! The control thread's link to NATS: what the instance is told, and what it tells.

use super::nats::NatsAccess;
use super::news::{Subscription, Topic};
use super::switchboard::Switchboard;
use crate::codec::subjects;
use crate::telemetry::{ControlCounters, LinkStatus, PushDrop, RateLimit, clock};
use async_nats::{Client, Event, Message};
use futures_util::stream::SelectAll;
use futures_util::{FutureExt, Stream, StreamExt};
use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Lines a second about the link.
const LOGS_PER_SECOND: u32 = 2;
/// Pause before async-nats is started again after it gave up, which it does not by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Messages taken in one go.
const MESSAGES_PER_TURN_MAX: usize = 256;

/// Messages of all subscriptions, each with what it is about.
type Messages = SelectAll<Pin<Box<dyn Stream<Item = (Topic, Message)>>>>;

/// The subscriptions and what keeps them alive.
#[derive(Debug)]
pub struct Link {
    access: NatsAccess,
    subscriptions: Vec<Subscription>,
    name: String,
    watch: Arc<Watch>,
}

impl Link {
    /// The link of replica `replica` of service instance `instance`, with these subscriptions and
    /// the one to pushes.
    pub fn new(
        access: NatsAccess,
        instance: &str,
        replica: &str,
        mut subscriptions: Vec<Subscription>,
        status: Arc<LinkStatus>,
        counters: Arc<ControlCounters>,
    ) -> Self {
        // 3/ISM §Subjects, 4/ESP. Without a queue group: only the replica that holds the endpoint
        // can deliver.
        let subject = subjects::service(instance, subjects::esp::EXTENSION_DATA);
        subscriptions.push(Subscription { subject, group: None, topic: Topic::Push });
        let servers = access.names();
        let log_limit = Mutex::new(RateLimit::new(LOGS_PER_SECOND));
        let (changed, missed) = (Notify::new(), AtomicBool::new(false));
        let watch = Arc::new(Watch { servers, status, counters, log_limit, changed, missed });
        Self { access, subscriptions, name: format!("ringgate {replica} control"), watch }
    }

    /// Gives what is heard to `switchboard` and publishes what it has to tell, for ever.
    pub async fn run(self, switchboard: &RefCell<Switchboard>) -> Infallible {
        loop {
            match self.open().await {
                Ok((client, messages)) => {
                    self.serve(&client, messages, switchboard).await;
                    self.watch.down("the subscriptions have ended");
                }
                Err(why) => self.watch.failed(&why),
            }
            switchboard.borrow_mut().link_down();
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Subscribes; async-nats connects in the background and again whenever the link breaks.
    async fn open(&self) -> Result<(Client, Messages), String> {
        let watch = self.watch.clone();
        let options = self.access.options(&self.name).map_err(|error| error.to_string())?;
        let client = options
            .event_callback(move |event| {
                watch.event(&event);
                async {}
            })
            .connect(self.access.servers())
            .await
            .map_err(|error| error.to_string())?;
        let mut messages = SelectAll::new();
        for Subscription { subject, group, topic } in self.subscriptions.iter().cloned() {
            let subscriber = match group {
                Some(group) => client.queue_subscribe(subject, group).await,
                None => client.subscribe(subject).await,
            };
            let subscriber = subscriber.map_err(|error| error.to_string())?;
            let about: Pin<Box<dyn Stream<Item = _>>> =
                Box::pin(subscriber.map(move |message| (topic, message)));
            messages.push(about);
        }
        Ok((client, messages))
    }

    /// Until the subscriptions end.
    async fn serve(
        &self,
        client: &Client,
        mut messages: Messages,
        switchboard: &RefCell<Switchboard>,
    ) {
        let changed = switchboard.borrow().news.changed();
        let mut connects = 0;
        loop {
            self.follow(client, &mut connects, &mut switchboard.borrow_mut());
            self.publish(client, switchboard).await;
            self.watch.see(switchboard.borrow().news.trouble().unwrap_or_default());
            let wake_ms = switchboard.borrow().news.wake_ms();
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return };
                    hear(message, &mut switchboard.borrow_mut());
                    for _ in 1..MESSAGES_PER_TURN_MAX {
                        let Some(Some(message)) = messages.next().now_or_never() else { break };
                        hear(message, &mut switchboard.borrow_mut());
                    }
                }
                () = self.watch.changed.notified() => {}
                () = changed.notified() => {}
                () = sleep_until(wake_ms) => {}
            }
        }
    }

    /// Tells the switchboard what has become of the link. `connects` is how often it had come up
    /// when this was last done.
    fn follow(&self, client: &Client, connects: &mut u64, switchboard: &mut Switchboard) {
        let Watch { status, missed, .. } = &*self.watch;
        if status.connects() != *connects {
            *connects = status.connects();
            missed.store(false, Relaxed);
            switchboard.link_up(client.server_info().max_payload);
        }
        if !status.is_up() {
            switchboard.link_down();
        }
        if missed.swap(false, Relaxed) {
            switchboard.doubt();
        }
    }

    async fn publish(&self, client: &Client, switchboard: &RefCell<Switchboard>) {
        loop {
            let message = switchboard.borrow_mut().next_message();
            let Some((subject, datum)) = message else { return };
            if let Err(error) = client.publish(subject, datum).await {
                self.watch.log(&error.to_string());
            }
        }
    }
}

fn hear((topic, message): (Topic, Message), switchboard: &mut Switchboard) {
    match topic {
        Topic::Push => switchboard.push(message.reply.as_deref(), message.payload),
        Topic::Connectivity(kind) => switchboard.connectivity_heard(kind, &message.payload),
        Topic::Revoked(heard) => switchboard.revocation_heard(heard, &message.payload),
        Topic::Asked(asked) => {
            switchboard.asked(asked, message.reply.as_deref(), &message.payload);
        }
    }
}

async fn sleep_until(wake_ms: Option<u64>) {
    match wake_ms {
        Some(wake_ms) => {
            let left_ms = wake_ms.saturating_sub(clock::monotonic_ms());
            tokio::time::sleep(Duration::from_millis(left_ms)).await;
        }
        None => std::future::pending().await,
    }
}

/// Keeps status, counters and log in step with what async-nats tells.
#[derive(Debug)]
struct Watch {
    servers: String,
    status: Arc<LinkStatus>,
    counters: Arc<ControlCounters>,
    log_limit: Mutex<RateLimit>,
    /// The status has changed, or messages were missed.
    changed: Notify,
    /// async-nats has dropped messages.
    missed: AtomicBool,
}

impl Watch {
    fn event(&self, event: &Event) {
        self.take(event);
        self.changed.notify_one();
    }

    fn take(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.status.went_up(&self.servers);
                tracing::info!(servers = self.servers, "control link to NATS is up");
            }
            Event::Disconnected => {
                self.counters.link_disconnects.add(1);
                self.down("disconnected");
            }
            Event::Closed => self.down("closed"),
            Event::SlowConsumer(_) => {
                self.counters.push_dropped(PushDrop::ControlBusy);
                self.missed.store(true, Relaxed);
                self.log("messages come faster than they are handled");
            }
            Event::ServerError(error) => self.trouble(&error.to_string()),
            Event::ClientError(error) => self.trouble(&error.to_string()),
            Event::LameDuckMode => self.log("the NATS server is about to stop"),
            Event::Draining => {}
        }
    }

    /// Something is wrong although the link is up, or nothing is.
    fn see(&self, trouble: String) {
        let before = self.status.trouble();
        if before != trouble {
            self.status.set_trouble(&trouble);
        }
        if before.is_empty() && !trouble.is_empty() {
            self.log(&trouble);
        }
    }

    fn down(&self, why: &str) {
        self.status.went_down(why);
        self.log(why);
    }

    /// An error that may or may not have to do with a failed attempt to connect.
    fn trouble(&self, why: &str) {
        if self.status.is_up() {
            self.log(why);
        } else {
            self.failed(why);
        }
    }

    fn failed(&self, why: &str) {
        self.status.failed(why);
        self.log(why);
    }

    fn log(&self, why: &str) {
        let mut limit = self.log_limit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = limit.allow(clock::monotonic_ms()) {
            tracing::warn!(servers = self.servers, suppressed, "control link to NATS: {why}");
        }
    }
}
