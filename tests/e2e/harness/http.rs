//! The least HTTP a management interface needs, and a reader of Prometheus text.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// `GET path`; `None` when nothing listens or the answer is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> Option<Response> {
    request(address, "GET", path)
}

/// A request without a body; `None` when nothing listens or the answer is not HTTP.
pub fn request(address: SocketAddr, method: &str, path: &str) -> Option<Response> {
    send(address, method, path, &[], "")
}

/// A request with more header lines and a body of JSON, if it is not empty.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Option<Response> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: e2e\r\nconnection: close\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        request += "content-type: application/json\r\n";
        request += &format!("content-length: {}\r\n", body.len());
    }
    request += &format!("\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Response { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// Samples of one scrape of `/metrics`.
pub struct Metrics {
    pub text: String,
}

impl Metrics {
    /// The sum over all samples named `name` whose labels contain every one of `labels`
    /// (each as `key="value"`); `None` when there is no such sample.
    pub fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let mut found = None;
        for line in self.text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
            if series_name == name && labels.iter().all(|label| series_labels.contains(label)) {
                let value: f64 = value.parse().expect("a number in Prometheus text");
                found = Some(found.unwrap_or(0.0) + value);
            }
        }
        found
    }
}
