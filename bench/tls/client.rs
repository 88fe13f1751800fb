//! The devices: they shake hands, and perhaps connect.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

/// How long one connection may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn write_certificate(directory: &Path) -> Result<(), String> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let made = made.map_err(|error| error.to_string())?;
    let write = |name: &str, text: String| {
        std::fs::write(directory.join(name), text).map_err(|error| format!("{name}: {error}"))
    };
    write("server.pem", made.cert.pem())?;
    write("server.key", made.signing_key.serialize_pem())
}

/// TLS 1.3, trusting the server's own certificate.
pub fn config(directory: &Path, resume: bool) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(directory.join("server.pem"));
    let certificate = certificate.map_err(|error| format!("server.pem: {error}"))?;
    roots.add(certificate).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption =
        if resume { Resumption::in_memory_sessions(16) } else { Resumption::disabled() };
    Ok(Arc::new(config))
}

fn connect(
    server: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Result<(TcpStream, ClientConnection), String> {
    let told = |error: std::io::Error| format!("{server}: {error}");
    let mut stream = TcpStream::connect(server).map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    let name = ServerName::try_from("127.0.0.1").map_err(|error| error.to_string())?;
    let mut tls = ClientConnection::new(config.clone(), name).map_err(|error| error.to_string())?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(told)?;
    }
    while tls.wants_write() {
        tls.write_tls(&mut stream).map_err(told)?;
    }
    Ok((stream, tls))
}

/// Shakes hands, waits for the ticket, and goes; whether it resumed a session.
pub fn shake(server: SocketAddr, config: &Arc<ClientConfig>) -> Result<bool, String> {
    let (mut stream, mut tls) = connect(server, config)?;
    while tls.tls13_tickets_received() == 0 {
        let got = tls.read_tls(&mut stream).map_err(|error| format!("no ticket: {error}"))?;
        if got == 0 {
            return Err("closed before a ticket came".to_owned());
        }
        tls.process_new_packets().map_err(|error| error.to_string())?;
    }
    let is_resumed = tls.handshake_kind() == Some(HandshakeKind::Resumed);
    tls.send_close_notify();
    // The server may have closed already.
    let _ = tls.write_tls(&mut stream);
    Ok(is_resumed)
}

/// An MQTT session, to be held.
pub fn session(
    server: SocketAddr,
    config: &Arc<ClientConfig>,
    number: usize,
) -> Result<(TcpStream, ClientConnection), String> {
    let (mut stream, mut tls) = connect(server, config)?;
    let packet = connect_packet(number);
    let told = |error: std::io::Error| format!("session {number}: {error}");
    tls.writer().write_all(&packet).map_err(told)?;
    let mut connack = [0; 4];
    let mut stream_tls = rustls::Stream::new(&mut tls, &mut stream);
    stream_tls.read_exact(&mut connack).map_err(told)?;
    if connack != [0x20, 2, 0, 0] {
        return Err(format!("session {number} was answered {connack:?}"));
    }
    Ok((stream, tls))
}

/// CONNECT of MQTT 3.1.1.
fn connect_packet(number: usize) -> Vec<u8> {
    let id = format!("device-{number:08}");
    let mut packet = vec![0x10, 12 + id.len() as u8];
    packet.extend(b"\0\x04MQTT\x04\x02\0\0");
    packet.extend((id.len() as u16).to_be_bytes());
    packet.extend(id.as_bytes());
    packet
}

/// An MQTT session through a WebSocket, to be held.
pub fn websocket_session(server: SocketAddr, number: usize) -> Result<TcpStream, String> {
    const REQUEST: &[u8] = b"GET /ws HTTP/1.1\r\nHost: gate\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let told = |error: std::io::Error| format!("session {number}: {error}");
    let mut stream = TcpStream::connect(server).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
    stream.write_all(REQUEST).map_err(told)?;
    let packet = connect_packet(number);
    // A mask of zeros is one, too.
    let frame = [&[0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0][..], &packet].concat();
    stream.write_all(&frame).map_err(told)?;
    let mut heard = Vec::new();
    while !heard.ends_with(&[0x82, 4, 0x20, 2, 0, 0]) {
        let mut some = [0; 512];
        match stream.read(&mut some).map_err(told)? {
            0 => return Err(format!("session {number} was closed")),
            got => heard.extend(&some[..got]),
        }
    }
    Ok(stream)
}
