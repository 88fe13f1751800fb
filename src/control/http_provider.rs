//! The provider `http`: asks a service of the operator's own about tokens and clients, in JSON over
//! HTTP. `docs/operate/custom-credentials-service.md` has the format.
//!
//! Shards hand their questions to the [`HttpClerk`]; the [`HttpProvider`] asks them one by one on
//! the control thread, a bounded number at a time, and replies to each exactly once.

mod answer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::auth::{Busy, Clerk, Question, Rejection, Ticket, Verdict};
use crate::config::{Auth, Secret};

/// Questions that wait to be asked, whole process.
pub const QUESTIONS_MAX: usize = 4_096;
/// Bytes of an answer's body.
pub const ANSWER_BYTES_MAX: usize = 16 * 1_024;
/// Bytes of an answer's head; hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
/// A connection that is not used is kept this long.
const IDLE_MAX: Duration = Duration::from_secs(30);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Where the service is and how it is asked.
#[derive(Debug, Clone)]
pub struct HttpProviderSettings {
    /// `http://host[:port]/path`, without credentials.
    pub url: String,
    /// What it is shown in the header `Authorization`.
    pub bearer_token: Option<Secret>,
    /// Requests at a time, and so connections; at least 1.
    pub concurrency_max: usize,
    /// Time for a question from a shard's asking to the answer's last byte.
    pub timeout: Duration,
}

impl HttpProviderSettings {
    /// What the configuration says, with the bearer token read from its file; `None` where it
    /// names no URL.
    ///
    /// # Errors
    /// The file of the bearer token cannot be read, and why.
    pub fn new(auth: &Auth) -> Result<Option<Self>, String> {
        let Some(url) = &auth.http.url else { return Ok(None) };
        let bearer_token = match &auth.http.bearer_token_file {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    format!("ringgate.auth.http.bearer-token-file: {}: {error}", file.display())
                })?;
                Some(Secret::new(text.trim()))
            }
        };
        Ok(Some(Self {
            url: url.to_string(),
            bearer_token,
            concurrency_max: usize::try_from(auth.http.concurrency_max).unwrap_or(usize::MAX),
            timeout: Duration::from_millis(auth.request_timeout_ms.into()),
        }))
    }
}

/// Takes questions for the service. Held by every shard.
#[derive(Clone)]
pub struct HttpClerk {
    questions: mpsc::Sender<Asked>,
}

impl fmt::Debug for HttpClerk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClerk").finish_non_exhaustive()
    }
}

impl Clerk for HttpClerk {
    fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy> {
        let asked = Asked { ticket, question, at: Instant::now() };
        self.questions.try_send(asked).map_err(|_| Busy)
    }
}

struct Asked {
    ticket: Ticket,
    question: Question,
    at: Instant,
}

/// Asks the service. Runs on the control thread.
pub struct HttpProvider {
    questions: mpsc::Receiver<Asked>,
    service: Service,
    concurrency_max: usize,
}

impl fmt::Debug for HttpProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpProvider({})", self.service.uri)
    }
}

impl HttpProvider {
    /// A clerk, and the provider behind it.
    ///
    /// # Errors
    /// The URL or the bearer token cannot be used, and why.
    pub fn new(settings: &HttpProviderSettings) -> Result<(HttpClerk, Self), String> {
        let service = Service::new(settings)?;
        let (sender, questions) = mpsc::channel(QUESTIONS_MAX);
        let concurrency_max = settings.concurrency_max.max(1);
        Ok((HttpClerk { questions: sender }, Self { questions, service, concurrency_max }))
    }

    /// Asks until every clerk is gone and all is answered. To be run within a tokio runtime.
    pub async fn run(self, mut reply: impl FnMut(Ticket, Verdict)) {
        let Self { mut questions, service, concurrency_max } = self;
        let mut asking = FuturesUnordered::new();
        let mut is_open = true;
        let mut is_well = true;
        while is_open || !asking.is_empty() {
            tokio::select! {
                next = questions.recv(), if is_open && asking.len() < concurrency_max => {
                    match next {
                        Some(asked) => asking.push(service.ask(asked)),
                        None => is_open = false,
                    }
                }
                Some((ticket, answered)) = asking.next(), if !asking.is_empty() => {
                    service.log_change(&mut is_well, &answered);
                    reply(ticket, answered.unwrap_or_else(|trouble| trouble.into_verdict()));
                }
            }
        }
    }
}

/// Why nobody could say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// The service cannot be reached, or breaks off.
    Unreachable(String),
    /// It has not answered in time.
    Late,
    /// It has answered with this status, 5xx or one that says the same.
    Failed(u16),
    /// It has answered something else than is laid down.
    Garbage(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Late => f.write_str("has not answered in time"),
            Self::Failed(status) => write!(f, "has answered {status}"),
            Self::Garbage(why) => write!(f, "has answered something unknown: {why}"),
        }
    }
}

impl Trouble {
    /// What a device is told. Details are for the log: they are the operator's affair.
    fn into_verdict(self) -> Verdict {
        let (status, reason) = match self {
            Self::Unreachable(_) => (503, "the credentials service cannot be reached"),
            Self::Late => (504, "the credentials service has not answered in time"),
            Self::Failed(status) => (status.into(), "the credentials service has failed"),
            Self::Garbage(_) => (502, "the credentials service has answered something unknown"),
        };
        Verdict::Rejected(Rejection::new(status, reason))
    }
}

/// The service, as a client sees it.
struct Service {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl Service {
    fn new(settings: &HttpProviderSettings) -> Result<Self, String> {
        let uri: Uri = settings.url.parse().map_err(|error| format!("the URL is none: {error}"))?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() {
            return Err("the URL is not of the form http://host:port/path".into());
        }
        let authorization = settings.bearer_token.as_ref().map(bearer).transpose()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(settings.timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(settings.concurrency_max.max(1))
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self { client, uri, authorization, timeout: settings.timeout })
    }

    async fn ask(&self, asked: Asked) -> (Ticket, Result<Verdict, Trouble>) {
        // A question that has waited too long is not asked any more: after a storm, the queue is
        // soon empty again.
        let deadline = asked.at + self.timeout;
        let body = Bytes::from(answer::question(&asked.question));
        let response = timeout_at(deadline, async {
            match self.post(body.clone()).await {
                // The other end may have closed a kept connection just when it was used again.
                Err(Failure::BrokeOff(_)) => self.post(body).await,
                other => other,
            }
        });
        let answered = match response.await {
            Err(_) => Err(Trouble::Late),
            Ok(Err(Failure::BrokeOff(why))) => Err(Trouble::Unreachable(why)),
            Ok(Err(Failure::Other(trouble))) => Err(trouble),
            Ok(Ok((status, body))) => answer::read(&asked.question, status, &body),
        };
        (asked.ticket, answered)
    }

    /// One request: the status and the body of its answer.
    async fn post(&self, body: Bytes) -> Result<(u16, Bytes), Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let response = self.client.request(request).await.map_err(Failure::of_request)?;
        let status = response.status().as_u16();
        Ok((status, body_of(response).await?))
    }

    /// Says once that the service is in trouble and once that it is not any more.
    fn log_change(&self, is_well: &mut bool, answered: &Result<Verdict, Trouble>) {
        match answered {
            Err(trouble) if *is_well => {
                tracing::warn!("the credentials service {} {trouble}", self.uri);
            }
            Err(trouble) => tracing::debug!("the credentials service {} {trouble}", self.uri),
            Ok(_) if !*is_well => {
                tracing::info!("the credentials service {} answers again", self.uri);
            }
            Ok(_) => {}
        }
        *is_well = answered.is_ok();
    }
}

/// Why a request came to nothing.
enum Failure {
    /// A connection that stood has ended before the answer did.
    BrokeOff(String),
    Other(Trouble),
}

impl Failure {
    fn of_request(error: legacy::Error) -> Self {
        let is_garbage = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<hyper::Error>())
            .is_some_and(hyper::Error::is_parse);
        let why = innermost(&error);
        if is_garbage {
            Self::Other(Trouble::Garbage(why))
        } else if error.is_connect() {
            Self::Other(Trouble::Unreachable(why))
        } else {
            Self::BrokeOff(why)
        }
    }
}

async fn body_of(response: Response<Incoming>) -> Result<Bytes, Failure> {
    match Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("more than {ANSWER_BYTES_MAX} bytes");
            Err(Failure::Other(Trouble::Garbage(why)))
        }
        Err(error) => Err(Failure::BrokeOff(innermost(&*error))),
    }
}

/// The cause at the bottom, which says the most in the fewest words.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value = value.map_err(|_| "the bearer token has characters that a header has not")?;
    value.set_sensitive(true);
    Ok(value)
}
