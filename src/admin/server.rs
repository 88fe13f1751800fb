//! The HTTP server of the management interface. One request per connection: scrapes and probes
//! are seconds apart, and a connection that cannot linger needs no further care.

use super::chain::{self, CHAIN_PATH, ProfileChains};
use super::credentials::{BASE, CredentialsApi, Desk, OPERATIONS_MAX};
use super::health::Health;
use super::rest::{BODY_BYTES_MAX, Call, Handled, Reply};
use crate::telemetry::clock;
use crate::telemetry::exposition::{CONTENT_TYPE, Metrics};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at a time; further ones wait in the kernel.
pub const CONNECTIONS_MAX: usize = 32;
/// From an accepted connection to the end of its answer.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of a request's head; hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 8 * 1_024;
/// Pause after a failed accept (no descriptor left), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const PATHS: &str = "GET /health, GET /metrics, GET /api/v1/certificate-chain\n";

/// The management interface, listening.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    local_addr: SocketAddr,
    pages: Arc<Pages>,
}

impl Admin {
    /// Listens on `address`, with the REST interface where there are credentials to manage, and the
    /// chains of these TLS profiles. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's, for instance when the port is taken.
    pub fn bind(
        address: SocketAddr,
        health: Arc<Health>,
        metrics: Metrics,
        credentials: Option<CredentialsApi>,
        chains: Vec<ProfileChains>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let local_addr = listener.local_addr()?;
        let desk = credentials.map(|api| Arc::new(Desk::new(api)));
        let operations = Arc::new(Semaphore::new(OPERATIONS_MAX));
        let pages = Arc::new(Pages { health, metrics, desk, operations, chains });
        Ok(Self { listener, local_addr, pages })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where credentials are managed, if there are any.
    #[must_use]
    pub fn desk(&self) -> Option<Arc<Desk>> {
        self.pages.desk.clone()
    }

    /// Serves, for ever.
    pub async fn run(self) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // Fails only once the semaphore is closed, which it never is.
            let place = places.clone().acquire_owned().await.expect("the semaphore stays open");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let pages = self.pages.clone();
                    tokio::spawn(async move {
                        serve(stream, pages).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!("management interface cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(pages.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off, or is too slow, is its own affair.
    let _ = tokio::time::timeout(REQUEST_TIME_MAX, connection).await;
}

/// What there is to see.
#[derive(Debug)]
struct Pages {
    health: Arc<Health>,
    metrics: Metrics,
    desk: Option<Arc<Desk>>,
    operations: Arc<Semaphore>,
    chains: Vec<ProfileChains>,
}

impl Pages {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() == CHAIN_PATH {
            return self.chain(&request).unwrap_or_else(|refusal| refusal).into_response();
        }
        match &self.desk {
            Some(desk) if is_below(request.uri().path(), BASE) => {
                let reply = self.manage(desk, request).await.unwrap_or_else(|refusal| refusal);
                reply.into_response()
            }
            _ => self.page(request.method(), request.uri().path()),
        }
    }

    /// Who may not is told so before a byte of the body is read.
    async fn manage(&self, desk: &Arc<Desk>, request: Request<Incoming>) -> Handled {
        let (head, body) = request.into_parts();
        desk.admit(head.uri.path(), &head.headers)?;
        let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(|error| {
            let (status, why) = if error.is::<LengthLimitError>() {
                let why = format!("the body must not have more than {BODY_BYTES_MAX} bytes");
                (StatusCode::PAYLOAD_TOO_LARGE, why)
            } else {
                (StatusCode::BAD_REQUEST, "the body has not come whole".to_owned())
            };
            Reply::error(status, &why)
        })?;
        let call = Call::new(head.method, &head.uri, BASE, &head.headers, body.to_bytes())?;
        // Fails only once the semaphore is closed, which it never is.
        let turn = self.operations.clone().acquire_owned().await.expect("it stays open");
        let desk = desk.clone();
        let handled = tokio::task::spawn_blocking(move || {
            let reply = desk.handle(&call);
            drop(turn);
            reply
        });
        handled.await.map_err(|_panicked| {
            tracing::error!("a request to manage credentials failed");
            Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "the request failed; see the log")
        })
    }

    fn chain(&self, request: &Request<Incoming>) -> Handled {
        let (method, nothing) = (request.method().clone(), Bytes::new());
        let call = Call::new(method, request.uri(), BASE, request.headers(), nothing)?;
        chain::answer(&self.chains, &call)
    }

    fn page(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let page: fn(&Self) -> Response<Full<Bytes>> = match path {
            "/health" => Self::health,
            "/metrics" => Self::metrics,
            _ => return response(StatusCode::NOT_FOUND, TEXT, format!("There is: {PATHS}")),
        };
        // hyper leaves the body out of the answer to a HEAD.
        if *method == Method::GET || *method == Method::HEAD {
            return page(self);
        }
        let text = format!("Only GET and HEAD. There is: {PATHS}");
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    }

    fn health(&self) -> Response<Full<Bytes>> {
        let remarks = self.health.remarks();
        match self.health.reasons(clock::monotonic_ms()) {
            reasons if reasons.is_empty() => {
                response(StatusCode::OK, TEXT, format!("OK\n{remarks}"))
            }
            reasons => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, reasons + &remarks),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        response(StatusCode::OK, CONTENT_TYPE, self.metrics.render())
    }
}

fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
