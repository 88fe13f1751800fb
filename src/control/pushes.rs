//! The control thread's link to NATS: hears what extension services push to the instance.

use super::nats::NatsAccess;
use super::switchboard::Switchboard;
use crate::telemetry::{ControlCounters, LinkStatus, PushDrop, RateLimit, clock};
use async_nats::{Event, Subscriber};
use futures_util::StreamExt;
use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lines a second about the link.
const LOGS_PER_SECOND: u32 = 2;
/// Pause before async-nats is started again after it gave up, which it does not by itself.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The subscription to the instance-wide subject and what keeps it alive.
#[derive(Debug)]
pub struct Pushes {
    access: NatsAccess,
    subject: String,
    name: String,
    watch: Arc<Watch>,
}

impl Pushes {
    /// Pushes to service instance `instance`, heard by replica `replica`.
    pub fn new(
        access: NatsAccess,
        instance: &str,
        replica: &str,
        status: Arc<LinkStatus>,
        counters: Arc<ControlCounters>,
    ) -> Self {
        let servers = access.names();
        let log_limit = Mutex::new(RateLimit::new(LOGS_PER_SECOND));
        Self {
            access,
            // 3/ISM §Subjects, 4/ESP. Without a queue group: only the replica that holds the
            // endpoint can deliver.
            subject: format!("kaa.v1.service.{instance}.esp.ExtensionData"),
            name: format!("ringgate {replica} control"),
            watch: Arc::new(Watch { servers, status, counters, log_limit }),
        }
    }

    /// Gives every push to `switchboard`, for ever.
    pub async fn run(self, switchboard: &RefCell<Switchboard>) -> Infallible {
        loop {
            match self.subscribe().await {
                Ok(mut pushes) => {
                    while let Some(message) = pushes.next().await {
                        let reply_to = message.reply.as_deref();
                        switchboard.borrow_mut().push(reply_to, message.payload);
                    }
                    self.watch.down("the subscription has ended");
                }
                Err(why) => self.watch.failed(&why),
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Subscribes; async-nats connects in the background and again whenever the link breaks.
    async fn subscribe(&self) -> Result<Subscriber, String> {
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
        client.subscribe(self.subject.clone()).await.map_err(|error| error.to_string())
    }
}

/// Keeps status, counters and log in step with what async-nats tells.
#[derive(Debug)]
struct Watch {
    servers: String,
    status: Arc<LinkStatus>,
    counters: Arc<ControlCounters>,
    log_limit: Mutex<RateLimit>,
}

impl Watch {
    fn event(&self, event: &Event) {
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
                self.log("pushes come faster than they are handled");
            }
            Event::ServerError(error) => self.trouble(&error.to_string()),
            Event::ClientError(error) => self.trouble(&error.to_string()),
            Event::LameDuckMode => self.log("the NATS server is about to stop"),
            Event::Draining => {}
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
