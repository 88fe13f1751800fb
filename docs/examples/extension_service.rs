//! A sample extension service: what stands behind ringgate on the other side of NATS.
//!
//! `serve` is a data collection service: it prints every sample it hears and answers 200 where the
//! device asked for an answer. `push` sends one message to an endpoint, as a configuration service
//! does when a configuration changes.
//!
//! ```text
//! cargo run --example extension-service -- serve --instance dcx
//! cargo run --example extension-service -- push --endpoint TOKEN --app-version AV \
//!     --payload '{"configId":"1","config":{}}'
//! ```
//!
//! It shares no code with ringgate: messages are encoded by apache-avro from the schemas of 4/ESP.

use std::error::Error;
use std::io::Read;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use async_nats::{Client, ConnectOptions, Event, Message, ServerAddr};
use clap::{Args, Parser, Subcommand};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

/// How long the NATS server may take to answer, when connecting and when confirming.
const NATS_TIMEOUT: Duration = Duration::from_secs(5);

/// Sample extension service for ringgate: hears devices over NATS and answers them.
#[derive(Parser)]
#[command(name = "extension-service", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what devices send to an extension instance, and answer 200 to each request with an id.
    Serve(Serve),
    /// Send one message to an endpoint, without it having asked.
    Push(Push),
}

#[derive(Args)]
struct Serve {
    /// NATS server.
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: ServerAddr,
    /// Extension instance to be: the name in the devices' topics, and the NATS queue group.
    #[arg(long, value_name = "NAME", default_value = "dcx", value_parser = subject_token)]
    instance: String,
    /// Do not print the messages.
    #[arg(long)]
    quiet: bool,
    /// Ask, with every answer, that the device's next messages come to this process and not to
    /// another one of the instance.
    #[arg(long)]
    affinity: bool,
}

#[derive(Args)]
struct Push {
    /// NATS server.
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: ServerAddr,
    /// Service instance name of the gateway.
    #[arg(long, value_name = "NAME", default_value = "kpc", value_parser = subject_token)]
    kpc: String,
    /// Extension instance the message comes from.
    #[arg(long, value_name = "NAME", default_value = "cmx", value_parser = subject_token)]
    instance: String,
    /// Endpoint id; where ringgate trusts any token, the token.
    #[arg(long, value_name = "ID")]
    endpoint: String,
    /// Application version of the endpoint.
    #[arg(long, value_name = "NAME")]
    app_version: String,
    /// Resource path, from its `/` on.
    #[arg(long, value_name = "PATH", default_value = "/config/json", value_parser = resource_path)]
    path: String,
    /// Payload for the device.
    #[arg(long, value_name = "TEXT")]
    payload: String,
}

/// 4/ESP: a device's message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientData {
    correlation_id: String,
    /// Milliseconds since the Unix epoch.
    timestamp: i64,
    /// Milliseconds after `timestamp`; 0 = for ever.
    timeout: i64,
    app_version_name: String,
    endpoint_id: Option<String>,
    resource_path: String,
    request_id: Option<i32>,
    #[serde(with = "apache_avro::serde::bytes")]
    payload: Vec<u8>,
    config_name: Option<String>,
}

/// 4/ESP: an answer, or a push (which has no request id).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExtensionData {
    correlation_id: String,
    timestamp: i64,
    timeout: i64,
    app_version_name: Option<String>,
    extension_instance_name: Option<String>,
    endpoint_id: Option<String>,
    resource_path: String,
    request_id: Option<i32>,
    #[serde(with = "apache_avro::serde::bytes_opt")]
    payload: Option<Vec<u8>>,
    status_code: i32,
    reason_phrase: Option<String>,
}

static CLIENT_DATA: LazyLock<Schema> =
    LazyLock::new(|| schema(include_str!("../../tests/schemas/ClientData.avsc")));
static EXTENSION_DATA: LazyLock<Schema> =
    LazyLock::new(|| schema(include_str!("../../tests/schemas/ExtensionData.avsc")));

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(options) => serve(options).await,
        Command::Push(options) => push(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("extension-service: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Serve) -> Result<(), Box<dyn Error>> {
    // Before the READY line, so that a signal sent on seeing it is not lost.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let client = connect(&options.nats).await?;

    let instance = &options.instance;
    let instance_subject = format!("kaa.v1.service.{instance}.esp.ClientData");
    let shared = client.queue_subscribe(instance_subject.clone(), instance.clone()).await?;
    let mut messages = stream::SelectAll::from_iter([shared]);
    let mut own_subject = None;
    if options.affinity {
        let replica_id = format!("{instance}-{}", std::process::id());
        let subject = format!("kaa.v1.replica.{replica_id}.esp.ClientData");
        messages.push(client.subscribe(subject.clone()).await?);
        own_subject = Some(subject);
    }
    confirm(&client).await?;
    match &own_subject {
        Some(own) => println!("listening on {instance_subject} and {own}"),
        None => println!("listening on {instance_subject}"),
    }

    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => hear(&client, &options, own_subject.as_deref(), message).await?,
                None => return Err("the NATS connection was closed".into()),
            },
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    // Answers already given must not be lost; a server that is away must not keep us here.
    if confirm(&client).await.is_err() {
        eprintln!("extension-service: the last answers may not have reached the NATS server");
    }
    println!("stopped");
    Ok(())
}

/// Prints a message and answers it. Only a NATS client that is closed for good is an error.
async fn hear(
    client: &Client,
    options: &Serve,
    own_subject: Option<&str>,
    message: Message,
) -> Result<(), Box<dyn Error>> {
    let data = match decode_client_data(&message.payload) {
        Ok(data) => data,
        Err(error) => {
            eprintln!("{}: not a ClientData: {error}", message.subject);
            return Ok(());
        }
    };
    if data.timeout != 0 && data.timestamp.saturating_add(data.timeout) < now_ms() {
        eprintln!("{}: came after its timeout of {} ms", message.subject, data.timeout);
        return Ok(());
    }
    if !options.quiet {
        println!("{}", describe(&data));
    }
    // A device that gave no request id wants no answer.
    let (Some(_), Some(reply)) = (data.request_id, message.reply) else { return Ok(()) };
    let answer = encode(&ExtensionData {
        correlation_id: data.correlation_id,
        timestamp: now_ms(),
        timeout: 0,
        app_version_name: Some(data.app_version_name),
        extension_instance_name: Some(options.instance.clone()),
        endpoint_id: data.endpoint_id,
        resource_path: data.resource_path,
        request_id: data.request_id,
        payload: Some(Vec::new()),
        status_code: 200,
        reason_phrase: Some("OK".to_owned()),
    })?;
    match own_subject {
        Some(own) => client.publish_with_reply(reply, own.to_owned(), answer.into()).await?,
        None => client.publish(reply, answer.into()).await?,
    }
    Ok(())
}

async fn push(options: Push) -> Result<(), Box<dyn Error>> {
    let client = connect(&options.nats).await?;
    let subject = format!("kaa.v1.service.{}.esp.ExtensionData", options.kpc);
    let sent = format!(
        "sent to {subject}: {} for endpoint {} ({}), path {}, {} bytes",
        options.instance,
        options.endpoint,
        options.app_version,
        options.path,
        options.payload.len(),
    );
    let now_ms = now_ms();
    let datum = encode(&ExtensionData {
        correlation_id: format!("push-{}-{now_ms}", std::process::id()),
        timestamp: now_ms,
        timeout: 0,
        app_version_name: Some(options.app_version),
        extension_instance_name: Some(options.instance),
        endpoint_id: Some(options.endpoint),
        resource_path: options.path,
        request_id: None,
        payload: Some(options.payload.into_bytes()),
        status_code: 200,
        reason_phrase: None,
    })?;
    client.publish(subject, datum.into()).await?;
    confirm(&client).await?;
    println!("{sent}");
    Ok(())
}

async fn connect(server: &ServerAddr) -> Result<Client, Box<dyn Error>> {
    // Not the URL as given: it may hold a password.
    let place = format!("{}://{}:{}", server.scheme(), server.host(), server.port());
    ConnectOptions::new()
        .name("extension-service")
        .connection_timeout(NATS_TIMEOUT)
        .event_callback(|event| async move {
            // While the server is away, every attempt to reach it would be another client error.
            if !matches!(event, Event::ClientError(_)) {
                eprintln!("NATS: {event}");
            }
        })
        .connect(server)
        .await
        .map_err(|error| {
            let advice = "is nats-server running there? another place is given with --nats URL";
            format!("cannot connect to NATS at {place}: {error}; {advice}").into()
        })
}

/// Returns when the server has dealt with all that was sent before: it has come as far as a
/// message to ourselves.
async fn confirm(client: &Client) -> Result<(), Box<dyn Error>> {
    let round_trip = async {
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await?;
        client.publish(inbox, Vec::new().into()).await?;
        echo.next().await;
        Ok(())
    };
    tokio::time::timeout(NATS_TIMEOUT, round_trip)
        .await
        .unwrap_or_else(|_| Err("the NATS server does not answer".into()))
}

/// Endpoint, path, request id and payload in one line.
fn describe(data: &ClientData) -> String {
    let endpoint = data.endpoint_id.as_deref().unwrap_or("-");
    let request_id = data.request_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let payload = match std::str::from_utf8(&data.payload) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("<{} bytes>", data.payload.len()),
    };
    let path = &data.resource_path;
    format!("endpoint={endpoint} path={path} request={request_id} payload={payload}")
}

fn decode_client_data(datum: &[u8]) -> Result<ClientData, apache_avro::Error> {
    let reader = GenericDatumReader::builder(&CLIENT_DATA).build()?;
    // A gateway told to omit configName ends one byte early: that of its default, null.
    reader.read_deser(&mut datum.chain(&[0][..]))
}

fn encode(data: &ExtensionData) -> Result<Vec<u8>, apache_avro::Error> {
    GenericDatumWriter::builder(&EXTENSION_DATA).build()?.write_ser_to_vec(data)
}

fn schema(json: &str) -> Schema {
    Schema::parse_str(json).expect("the schema is part of this program")
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A name that is put into a NATS subject.
fn subject_token(name: &str) -> Result<String, String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(is_name_char) {
        Ok(name.to_owned())
    } else {
        Err("letters, digits, - and _ only".to_owned())
    }
}

fn resource_path(path: &str) -> Result<String, String> {
    if path.is_empty() || path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err("must start with /".to_owned())
    }
}
