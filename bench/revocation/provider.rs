//! The credentials service: lets everybody in, and says whose credentials are good no more.

use std::net::SocketAddr;
use std::sync::mpsc as plain;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use ringgate::codec::avro::{Header, cap};
use ringgate::codec::subjects;
use tokio::sync::mpsc;

/// The tenant of all clients.
pub const TENANT: &str = "bench";
/// The service instance that answers, the gateway's default.
const INSTANCE: &str = "ccm";
/// How long one answer of the provider's thread is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A revocation to be published; when it was is told to `published`.
struct Order {
    credentials_id: String,
    published: plain::Sender<Result<Instant, String>>,
}

/// Runs on a thread of its own.
pub struct Provider {
    orders: mpsc::Sender<Order>,
}

impl Provider {
    /// Connects, and returns when it can be asked.
    pub fn start(nats: SocketAddr) -> Result<Self, String> {
        let (orders, receiver) = mpsc::channel(1);
        let (ready, is_ready) = plain::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let result = runtime
                .map_err(|error| format!("no runtime: {error}"))
                .and_then(|runtime| runtime.block_on(serve(nats, receiver, ready.clone())));
            if let Err(message) = result {
                // Nobody waits any more if it was ready before.
                let _ = ready.send(Err(message));
            }
        });
        is_ready
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| Err(format!("the NATS server at {nats} is silent")))?;
        Ok(Self { orders })
    }

    /// Publishes that the credentials of a user are good no more; tells when, just before.
    pub fn revoke(&self, username: &str) -> Result<Instant, String> {
        let (published, is_published) = plain::channel();
        let order = Order { credentials_id: id_of(username), published };
        let silent = "the provider's thread has ended or is stuck";
        self.orders.blocking_send(order).map_err(|_| silent.to_owned())?;
        is_published.recv_timeout(PATIENCE).map_err(|_| silent.to_owned())?
    }
}

fn id_of(username: &str) -> String {
    format!("id-of-{username}")
}

async fn serve(
    nats: SocketAddr,
    mut orders: mpsc::Receiver<Order>,
    ready: plain::Sender<Result<(), String>>,
) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| format!("NATS at {nats}: {error}");
    let client =
        async_nats::connect(format!("nats://{nats}")).await.map_err(|error| told(&error))?;
    let subject = subjects::service(INSTANCE, subjects::cap::BASIC_REQUEST);
    let subscribed = client.queue_subscribe(subject, INSTANCE.to_owned()).await;
    let mut requests = subscribed.map_err(|error| told(&error))?;
    client.flush().await.map_err(|error| told(&error))?;
    // Nobody waits for it when the start took too long.
    let _ = ready.send(Ok(()));
    loop {
        tokio::select! {
            request = requests.next() => {
                let Some(request) = request else { return Err("the subscription ended".into()) };
                answer(&client, &request).await;
            }
            order = orders.recv() => {
                let Some(Order { credentials_id, published }) = order else { return Ok(()) };
                let at = publish(&client, &credentials_id).await;
                // Nobody waits for it when it took too long.
                let _ = published.send(at);
            }
        }
    }
}

/// 22/CAP §Basic: 200, whatever the password.
async fn answer(client: &async_nats::Client, message: &async_nats::Message) {
    let request = cap::ClientBasicAuthenticationRequest::decode(&message.payload);
    let (Ok(request), Some(reply)) = (request, message.reply.clone()) else {
        eprintln!("bench-revocation: a request that is none of 22/CAP, or names no reply subject");
        return;
    };
    let header = Header { timestamp_ms: now_ms(), ..request.header };
    let mut datum = Vec::new();
    cap::ClientBasicAuthenticationResponse {
        header,
        credentials_id: Some(&id_of(request.username)),
        client_id: Some(request.username),
        status_code: 200,
        reason_phrase: None,
    }
    .encode(&mut datum);
    if let Err(error) = client.publish(reply, datum.into()).await {
        eprintln!("bench-revocation: cannot answer: {error}");
    }
}

/// 22/CAP §Revocation.
async fn publish(client: &async_nats::Client, credentials_id: &str) -> Result<Instant, String> {
    let subject = subjects::event(INSTANCE, subjects::cap::BASIC_REVOKED);
    let mut datum = Vec::new();
    cap::ClientCredentialsRevokedEvent {
        header: Header { correlation_id: "revocation", timestamp_ms: now_ms(), timeout_ms: 0 },
        tenant_id: TENANT,
        credentials_id,
        originator_replica_id: "bench-revocation",
    }
    .encode(&mut datum);
    let at = Instant::now();
    client.publish(subject, datum.into()).await.map_err(|error| format!("NATS: {error}"))?;
    Ok(at)
}

fn now_ms() -> i64 {
    // A clock before 1970 is nobody's; the gateway does not look at this field.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
