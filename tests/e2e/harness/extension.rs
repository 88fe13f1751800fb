//! An extension service: async-nats and apache-avro, nothing of ringgate's.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use async_nats::HeaderMap;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::PATIENCE;

/// 4/ESP `ClientData` as the extension got it, with the NATS message around it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientData {
    pub subject: String,
    pub reply: Option<String>,
    pub headers: Option<HeaderMap>,
    /// The whole NATS payload.
    pub datum: Vec<u8>,
    pub correlation_id: String,
    pub timestamp_ms: i64,
    pub timeout_ms: i64,
    pub app_version_name: String,
    pub endpoint_id: Option<String>,
    pub resource_path: String,
    pub request_id: Option<i32>,
    pub payload: Vec<u8>,
    pub config_name: Option<String>,
    /// Whether the datum has the field `configName` at all, which the older schema has not.
    pub has_config_name: bool,
}

impl ClientData {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a UTF-8 payload")
    }
}

/// 4/ESP `ExtensionData` to be sent.
#[derive(Debug, Clone)]
pub struct ExtensionData {
    pub correlation_id: String,
    pub timestamp_ms: i64,
    pub timeout_ms: i64,
    pub app_version_name: Option<String>,
    pub extension_instance_name: Option<String>,
    pub endpoint_id: Option<String>,
    pub resource_path: String,
    pub request_id: Option<i32>,
    pub payload: Option<Vec<u8>>,
    pub status_code: i32,
    pub reason_phrase: Option<String>,
}

impl ExtensionData {
    /// An answer to `data`: same route, same request id, echoed correlation id.
    pub fn answering(data: &ClientData, status_code: i32) -> Self {
        Self {
            correlation_id: data.correlation_id.clone(),
            timestamp_ms: now_ms(),
            timeout_ms: 0,
            app_version_name: Some(data.app_version_name.clone()),
            extension_instance_name: Some(instance_of(&data.subject)),
            endpoint_id: data.endpoint_id.clone(),
            resource_path: data.resource_path.clone(),
            request_id: data.request_id,
            payload: None,
            status_code,
            reason_phrase: None,
        }
    }

    /// A push to an endpoint: no request id.
    pub fn push(extension: &str, endpoint: &str, path: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            correlation_id: format!("push-{}", now_ms()),
            timestamp_ms: now_ms(),
            timeout_ms: 0,
            app_version_name: Some("v1".to_owned()),
            extension_instance_name: Some(extension.to_owned()),
            endpoint_id: Some(endpoint.to_owned()),
            resource_path: path.to_owned(),
            request_id: None,
            payload: Some(payload.as_ref().to_vec()),
            status_code: 200,
            reason_phrase: None,
        }
    }

    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = Some(payload.as_ref().to_vec());
        self
    }

    pub fn reason(mut self, reason: &str) -> Self {
        self.reason_phrase = Some(reason.to_owned());
        self
    }

    /// The Avro datum.
    pub fn datum(&self) -> Vec<u8> {
        let value_first = |value: Option<Value>| match value {
            Some(value) => Value::Union(0, Box::new(value)),
            None => Value::Union(1, Box::new(Value::Null)),
        };
        let text = |text: &Option<String>| value_first(text.clone().map(Value::String));
        let reason = match &self.reason_phrase {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(reason) => Value::Union(1, Box::new(Value::String(reason.clone()))),
        };
        let fields = [
            ("correlationId", Value::String(self.correlation_id.clone())),
            ("timestamp", Value::Long(self.timestamp_ms)),
            ("timeout", Value::Long(self.timeout_ms)),
            ("appVersionName", text(&self.app_version_name)),
            ("extensionInstanceName", text(&self.extension_instance_name)),
            ("endpointId", text(&self.endpoint_id)),
            ("resourcePath", Value::String(self.resource_path.clone())),
            ("requestId", value_first(self.request_id.map(Value::Int))),
            ("payload", value_first(self.payload.clone().map(Value::Bytes))),
            ("statusCode", Value::Int(self.status_code)),
            ("reasonPhrase", reason),
        ];
        let record = fields.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let writer = GenericDatumWriter::builder(&schemas().extension_data).build();
        writer
            .and_then(|writer| writer.write_value_to_vec(Value::Record(record)))
            .expect("a record of its schema")
    }
}

/// What an extension does with one `ClientData`.
#[derive(Debug, Clone)]
pub struct Answer {
    pub data: ExtensionData,
    /// Where to; by default the reply subject of the message answered.
    pub subject: Option<String>,
    /// The extension's own reply subject: affinity (4/ESP).
    pub reply_to: Option<String>,
}

impl From<ExtensionData> for Answer {
    fn from(data: ExtensionData) -> Self {
        Self { data, subject: None, reply_to: None }
    }
}

/// Data collection: 200 with an empty payload when there is a request id, else nothing.
pub fn collects_data(data: &ClientData) -> Option<Answer> {
    data.request_id?;
    Some(ExtensionData::answering(data, 200).into())
}

/// Answers nothing at all.
pub fn is_silent(_: &ClientData) -> Option<Answer> {
    None
}

/// Answers every message with its own payload.
pub fn echoes(data: &ClientData) -> Option<Answer> {
    Some(ExtensionData::answering(data, 200).payload(&data.payload).into())
}

/// A running extension service; leaves NATS on drop.
pub struct Extension {
    name: String,
    inbox: Arc<Inbox>,
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Inbox {
    messages: Mutex<Vec<ClientData>>,
    arrived: Condvar,
}

enum Command {
    Publish {
        subject: String,
        reply_to: Option<String>,
        payload: Vec<u8>,
    },
    Listen {
        subject: String,
        done: std::sync::mpsc::Sender<()>,
    },
    /// Answers when the connection stands and its subscriptions are in force.
    Ready {
        done: std::sync::mpsc::Sender<()>,
    },
}

type Behaviour = Box<dyn Fn(&ClientData) -> Option<Answer> + Send>;

impl Extension {
    /// Starts a service instance `name` and returns when its subscription is in force.
    pub fn start(
        url: &str,
        name: &str,
        behaviour: impl Fn(&ClientData) -> Option<Answer> + Send + 'static,
    ) -> Self {
        Self::start_with(async_nats::ConnectOptions::new(), url, name, behaviour)
    }

    /// The same with credentials or TLS.
    pub fn start_with(
        options: async_nats::ConnectOptions,
        url: &str,
        name: &str,
        behaviour: impl Fn(&ClientData) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let (commands, receiver) = mpsc::unbounded_channel();
        let service = Service { inbox: Arc::clone(&inbox), behaviour: Box::new(behaviour) };
        let url = url.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(service.run(options, &url, receiver));
        });
        let extension = Self { name: name.to_owned(), inbox, commands, thread: Some(thread) };
        extension.also_listen_on(&format!("kaa.v1.service.{name}.esp.ClientData"));
        extension
    }

    /// Subscribes to one more subject, such as a replica's own.
    pub fn also_listen_on(&self, subject: &str) {
        let subject = subject.to_owned();
        self.ask(|done| Command::Listen { subject, done });
    }

    /// Waits until the connection stands (again) and its subscriptions are in force.
    pub fn wait_until_ready(&self) {
        self.ask(|done| Command::Ready { done });
    }

    fn ask(&self, command: impl FnOnce(std::sync::mpsc::Sender<()>) -> Command) {
        let (done, answered) = std::sync::mpsc::channel();
        self.commands.send(command(done)).expect("the extension's thread runs");
        answered
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("extension {} did not get ready", self.name));
    }

    /// Publishes to the gateway's instance subject.
    pub fn push(&self, data: &ExtensionData) {
        self.publish("kaa.v1.service.kpc.esp.ExtensionData", None, data.datum());
    }

    pub fn publish(&self, subject: &str, reply_to: Option<&str>, payload: Vec<u8>) {
        let subject = subject.to_owned();
        let reply_to = reply_to.map(str::to_owned);
        self.commands
            .send(Command::Publish { subject, reply_to, payload })
            .expect("the extension's thread runs");
    }

    /// All messages so far, in the order they came.
    pub fn received(&self) -> Vec<ClientData> {
        self.inbox.messages.lock().expect("no holder panics").clone()
    }

    pub fn count(&self) -> usize {
        self.inbox.messages.lock().expect("no holder panics").len()
    }

    /// Takes the oldest message not taken yet, waiting for it.
    pub fn take(&self) -> ClientData {
        let mut messages = self.wait(PATIENCE, |messages| !messages.is_empty());
        messages.remove(0)
    }

    /// Waits until `enough` holds of all messages so far.
    pub fn wait_until(&self, enough: impl FnMut(&[ClientData]) -> bool) {
        drop(self.wait(PATIENCE, enough));
    }

    pub fn wait_for_count(&self, count: usize) {
        self.wait_until(|messages| messages.len() >= count);
    }

    /// No message comes for a while.
    pub fn expect_silence(&self) {
        let messages = self.inbox.messages.lock().expect("no holder panics");
        let (messages, timeout) = self
            .inbox
            .arrived
            .wait_timeout_while(messages, super::SILENCE, |messages| messages.is_empty())
            .expect("no holder panics");
        assert!(timeout.timed_out(), "extension {} got {:?}", self.name, messages[0]);
    }

    fn wait(
        &self,
        limit: Duration,
        mut enough: impl FnMut(&[ClientData]) -> bool,
    ) -> std::sync::MutexGuard<'_, Vec<ClientData>> {
        let deadline = Instant::now() + limit;
        let mut messages = self.inbox.messages.lock().expect("no holder panics");
        while !enough(&messages) {
            let left = deadline.saturating_duration_since(Instant::now());
            let count = messages.len();
            let name = &self.name;
            assert!(!left.is_zero(), "extension {name} got {count} messages, waited for others");
            messages = self.inbox.arrived.wait_timeout(messages, left).expect("no holder panics").0;
        }
        messages
    }
}

impl Drop for Extension {
    fn drop(&mut self) {
        // The service ends when its command channel is closed.
        let (closed, _) = mpsc::unbounded_channel();
        self.commands = closed;
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            if !std::thread::panicking() {
                assert!(result.is_ok(), "extension {} panicked", self.name);
            }
        }
    }
}

struct Service {
    inbox: Arc<Inbox>,
    behaviour: Behaviour,
}

impl Service {
    async fn run(
        self,
        options: async_nats::ConnectOptions,
        url: &str,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        let client = options
            .retry_on_initial_connect()
            .reconnect_delay_callback(|_| Duration::from_millis(20))
            .connect(url)
            .await
            .expect("a NATS server");
        let (sender, mut messages) = mpsc::unbounded_channel::<async_nats::Message>();
        loop {
            tokio::select! {
                // Messages before the end of commands, so that none is left behind.
                biased;
                Some(message) = messages.recv() => self.handle(&client, message).await,
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::Publish { subject, reply_to, payload }) => {
                        publish(&client, subject, reply_to, payload).await;
                    }
                    Some(Command::Listen { subject, done }) => {
                        let mut subscription =
                            client.subscribe(subject).await.expect("a subscription");
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

    async fn handle(&self, client: &async_nats::Client, message: async_nats::Message) {
        let data = decode(message);
        let answer = (self.behaviour)(&data);
        let reply = data.reply.clone();
        self.inbox.messages.lock().expect("no holder panics").push(data);
        self.inbox.arrived.notify_all();
        if let Some(answer) = answer {
            let subject = answer.subject.or(reply).expect("ClientData carries a reply subject");
            publish(client, subject, answer.reply_to, answer.data.datum()).await;
        }
    }
}

pub(super) async fn publish(
    client: &async_nats::Client,
    subject: String,
    reply_to: Option<String>,
    payload: Vec<u8>,
) {
    let result = match reply_to {
        None => client.publish(subject, payload.into()).await,
        Some(reply) => client.publish_with_reply(subject, reply, payload.into()).await,
    };
    result.expect("the NATS client accepts a message");
}

/// Returns once a message has gone to the server and come back on this connection: what was
/// subscribed before is then in force, also after a reconnect.
pub(super) async fn echo_through_server(client: &async_nats::Client) {
    let probe = client.new_inbox();
    let mut echo = client.subscribe(probe.clone()).await.expect("a subscription");
    loop {
        publish(client, probe.clone(), None, Vec::new()).await;
        let wait = tokio::time::timeout(Duration::from_millis(50), echo.next());
        if wait.await.is_ok() {
            return;
        }
    }
}

struct Schemas {
    client_data: Schema,
    /// As it was before `configName`.
    client_data_before_2026: Schema,
    extension_data: Schema,
}

fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let parse = |text: &str| Schema::parse_str(text).expect("a valid schema");
        let client_data = include_str!("../../schemas/ClientData.avsc");
        let mut older: serde_json::Value = serde_json::from_str(client_data).expect("JSON");
        let last = older["fields"].as_array_mut().and_then(Vec::pop).expect("fields");
        assert_eq!(last["name"], "configName");
        Schemas {
            client_data: parse(client_data),
            client_data_before_2026: parse(&older.to_string()),
            extension_data: parse(include_str!("../../schemas/ExtensionData.avsc")),
        }
    })
}

/// Reads a whole datum; `None` when it is not exactly one of that schema. What was read is written
/// again and compared, as apache-avro forgives a datum that ends early.
fn read_datum(schema: &Schema, datum: &[u8]) -> Option<Value> {
    let reader = GenericDatumReader::builder(schema).build().expect("a valid schema");
    let writer = GenericDatumWriter::builder(schema).build().expect("a valid schema");
    let value = reader.read_value(&mut &*datum).ok()?;
    let again = writer.write_value_to_vec(value.clone()).ok()?;
    (again == datum).then_some(value)
}

fn decode(message: async_nats::Message) -> ClientData {
    let newer = read_datum(&schemas().client_data, &message.payload);
    let has_config_name = newer.is_some();
    let value = newer
        .or_else(|| read_datum(&schemas().client_data_before_2026, &message.payload))
        .unwrap_or_else(|| panic!("no ClientData: {:02x?}", message.payload));
    let Value::Record(fields) = value else { panic!("ClientData is a record") };
    let mut fields: HashMap<String, Value> = fields.into_iter().collect();
    let mut field = |name: &str| match fields.remove(name) {
        Some(Value::Union(_, inner)) => *inner,
        Some(value) => value,
        None => Value::Null,
    };
    ClientData {
        correlation_id: text(field("correlationId")).expect("a correlation id"),
        timestamp_ms: long(&field("timestamp")),
        timeout_ms: long(&field("timeout")),
        app_version_name: text(field("appVersionName")).expect("an application version"),
        endpoint_id: text(field("endpointId")),
        resource_path: text(field("resourcePath")).expect("a resource path"),
        request_id: match field("requestId") {
            Value::Int(id) => Some(id),
            _ => None,
        },
        payload: match field("payload") {
            Value::Bytes(bytes) => bytes,
            other => panic!("payload is {other:?}"),
        },
        config_name: text(field("configName")),
        has_config_name,
        subject: message.subject.to_string(),
        reply: message.reply.map(|subject| subject.to_string()),
        headers: message.headers,
        datum: message.payload.to_vec(),
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn long(value: &Value) -> i64 {
    match value {
        Value::Long(number) => *number,
        other => panic!("expected a long, got {other:?}"),
    }
}

/// The instance a `kaa.v1.service.<instance>.esp.ClientData` subject names.
fn instance_of(subject: &str) -> String {
    subject.split('.').nth(3).expect("an instance subject").to_owned()
}

/// Milliseconds since 1970, as 3/ISM timestamps count.
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(elapsed.as_millis()).expect("a clock before the year 292 million")
}
