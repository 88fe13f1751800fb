//! Somebody on NATS: async-nats on a thread of its own, with a handler for what comes.

use std::sync::mpsc as plain;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::PATIENCE;
use super::extension::{echo_through_server, publish};

/// A message to be sent.
pub struct Outgoing {
    pub subject: String,
    pub payload: Vec<u8>,
}

type Handler = Box<dyn FnMut(async_nats::Message) -> Vec<Outgoing> + Send>;

/// A connection to NATS; ends on drop.
pub struct Bus {
    name: String,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
}

enum Command {
    Publish(Outgoing),
    Listen { subject: String, done: plain::Sender<()> },
    Ready { done: plain::Sender<()> },
}

impl Bus {
    /// Connects, and gives every message on `subjects` to `handler`; what that returns is sent.
    /// Returns when the subscriptions are in force. A handler that panics fails the test when this
    /// is dropped.
    pub fn start(
        url: &str,
        name: &str,
        subjects: &[String],
        handler: impl FnMut(async_nats::Message) -> Vec<Outgoing> + Send + 'static,
    ) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (url, handler): (String, Handler) = (url.to_owned(), Box::new(handler));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(run(&url, handler, receiver));
        });
        let bus = Self { name: name.to_owned(), commands, thread: Some(thread) };
        for subject in subjects {
            let subject = subject.clone();
            bus.ask(|done| Command::Listen { subject, done });
        }
        bus
    }

    pub fn publish(&self, subject: &str, payload: Vec<u8>) {
        let subject = subject.to_owned();
        self.send(Command::Publish(Outgoing { subject, payload }));
    }

    /// Waits until the connection stands (again), its subscriptions are in force, and all that was
    /// published before is with the server.
    pub fn wait_until_ready(&self) {
        self.ask(|done| Command::Ready { done });
    }

    fn ask(&self, command: impl FnOnce(plain::Sender<()>) -> Command) {
        let (done, answered) = plain::channel();
        self.send(command(done));
        let answer = answered.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|_| panic!("{} did not get ready", self.name));
    }

    fn send(&self, command: Command) {
        assert!(self.commands.send(command).is_ok(), "the thread of {} has ended", self.name);
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // The thread ends when its command channel is closed.
        let (closed, _) = mpsc::unbounded_channel();
        self.commands = closed;
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                assert!(result.is_ok(), "{} panicked", self.name);
            }
        }
    }
}

async fn run(url: &str, mut handler: Handler, mut commands: mpsc::UnboundedReceiver<Command>) {
    let client = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .connect(url)
        .await
        .expect("a NATS server");
    let (sender, mut messages) = mpsc::unbounded_channel::<async_nats::Message>();
    loop {
        tokio::select! {
            biased;
            Some(message) = messages.recv() => {
                for Outgoing { subject, payload } in handler(message) {
                    publish(&client, subject, None, payload).await;
                }
            }
            command = commands.recv() => match command {
                None => return,
                Some(Command::Publish(Outgoing { subject, payload })) => {
                    publish(&client, subject, None, payload).await;
                }
                Some(Command::Listen { subject, done }) => {
                    let mut subscription = client.subscribe(subject).await.expect("subscribes");
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        while let Some(message) = subscription.next().await {
                            if sender.send(message).is_err() {
                                return;
                            }
                        }
                    });
                    echo_through_server(&client).await;
                    let _ = done.send(());
                }
                Some(Command::Ready { done }) => {
                    echo_through_server(&client).await;
                    let _ = done.send(());
                }
            },
        }
    }
}
