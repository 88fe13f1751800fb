//! The client of the management interface.

use std::fmt::Write;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::Failure;
use crate::config::{Secret, Settings};

/// Time for one request, from connecting to the answer's last byte.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer: a page of 1,000 records has less than half of it.
const ANSWER_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Name of the token's file in the store's directory.
const TOKEN_FILE: &str = "management-token";
/// What all paths begin with.
const BASE: &str = "/api/v1";

/// The management interface of a gateway.
#[derive(Debug)]
pub(super) struct Api {
    address: SocketAddr,
    token_file: PathBuf,
    token: Secret,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    /// The interface that these settings describe.
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let credentials = &settings.ringgate.credentials;
        let token_file = match &credentials.management_token_file {
            Some(file) => file.clone(),
            None => credentials.directory.join(TOKEN_FILE),
        };
        let address =
            SocketAddr::new(reachable(settings.ringgate.management_address), settings.server.port);
        let text = std::fs::read_to_string(&token_file).map_err(|error| {
            let file = token_file.display();
            Failure::told(match error.kind() {
                ErrorKind::NotFound => format!(
                    "there is no management token in {file}: ringgate makes one when it first \
                     starts; if it has, name its configuration with --config"
                ),
                ErrorKind::PermissionDenied => format!(
                    "the management token in {file} cannot be read: run this as the user of \
                     ringgate, or as root"
                ),
                _ => format!("the management token in {file} cannot be read: {error}"),
            })
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::told(format!("cannot open a socket: {error}")))?;
        Ok(Self { address, token_file, token: Secret::new(text.trim()), runtime })
    }

    /// Asks for something.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json(Method::GET, path, None)
    }

    /// Does something.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json(Method::POST, path, Some(body))
    }

    /// Sets something.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json(Method::PUT, path, Some(body))
    }

    /// Removes something.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.json(Method::DELETE, path, None)
    }

    /// The answer as JSON; `null` where there is none.
    fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = self.text(method, path, body)?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|_| self.stranger())
    }

    /// The answer as it is, if it is a good one.
    pub(super) fn text(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Failure> {
        let request = self.request(method, path, body)?;
        let answered = self.runtime.block_on(async {
            // The timer belongs to the runtime: it is made within.
            tokio::time::timeout(REQUEST_TIME_MAX, self.exchange(request)).await
        });
        let (status, answer) = answered.map_err(|_| {
            Failure::told(format!("ringgate at {} does not answer in time", self.address))
        })??;
        if status.is_success() { Ok(answer) } else { Err(self.refusal(status, &answer)) }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let bearer = HeaderValue::try_from(format!("Bearer {}", self.token.expose()));
        let mut bearer = bearer.map_err(|_| self.bad_token())?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, bearer);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::from(body));
        request.map_err(|error| Failure::told(format!("cannot ask for {path}: {error}")))
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| {
            Failure::told(match error.kind() {
                ErrorKind::ConnectionRefused => format!(
                    "ringgate is not running at {}: start it, or name its configuration with \
                     --config",
                    self.address
                ),
                _ => format!("cannot connect to ringgate at {}: {error}", self.address),
            })
        })?;
        let broken = |error: &dyn std::fmt::Display| {
            Failure::told(format!("the connection to {} has failed: {error}", self.address))
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let connection = tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| if error.is_parse() { self.stranger() } else { broken(&error) })?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        connection.abort();
        Ok((status, body.map_err(|error| broken(&error))?.to_bytes()))
    }

    /// What a refusal says, and what to do about it.
    fn refusal(&self, status: StatusCode, answer: &[u8]) -> Failure {
        if status == StatusCode::UNAUTHORIZED {
            return self.bad_token();
        }
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        match ["reasonPhrase", "message", "error"].iter().find_map(|key| answer[*key].as_str()) {
            Some(reason) => Failure::told(reason),
            None if status == StatusCode::NOT_FOUND => Failure::told(format!(
                "ringgate at {} manages no credentials: none of its providers is internal",
                self.address
            )),
            None => Failure::told(format!("ringgate at {} answers {status}", self.address)),
        }
    }

    fn bad_token(&self) -> Failure {
        Failure::told(format!(
            "the management token in {} is not that of the ringgate at {}: name its configuration \
             with --config",
            self.token_file.display(),
            self.address
        ))
    }

    fn stranger(&self) -> Failure {
        Failure::told(format!(
            "what answers at {} is not the ringgate of this version: name its configuration with \
             --config",
            self.address
        ))
    }
}

/// An address to connect to, where a server listens on this one.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// A text as part of a path or query (RFC 3986 §2.1).
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => write!(encoded, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    encoded
}
