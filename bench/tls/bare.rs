//! The bare loop: monoio accepts, a task per connection shakes hands with rustls and reads until
//! the peer goes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// What one read may bring.
const READ_BYTES: usize = 16 * 1024;

pub fn serve(listen: SocketAddr, directory: &Path) -> Result<(), String> {
    let config = config(directory)?;
    let told = |error: std::io::Error| error.to_string();
    let mut runtime =
        monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build().map_err(told)?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(listen).map_err(told)?;
        loop {
            let (stream, _) = listener.accept().await.map_err(told)?;
            let config = config.clone();
            monoio::spawn(async move {
                // A peer that goes away is no failure of ours.
                let _ = carry(stream, config).await;
            });
        }
    })
}

/// As a profile of ringgate: TLS 1.3 with one ticket that any process's shard understands.
fn config(directory: &Path) -> Result<Arc<ServerConfig>, String> {
    let text = |error: rustls::pki_types::pem::Error| error.to_string();
    let chain = CertificateDer::from_pem_file(directory.join("server.pem")).map_err(text)?;
    let key = PrivateKeyDer::from_pem_file(directory.join("server.key")).map_err(text)?;
    let tls = |error: rustls::Error| error.to_string();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .map_err(tls)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(tls)?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

async fn carry(mut stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        let (got, filled) = stream.read(buffer).await;
        if got? == 0 {
            return Ok(());
        }
        let mut rest = &filled[..];
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets().map_err(std::io::Error::other)?;
            if state.peer_has_closed() {
                return Ok(());
            }
        }
        buffer = filled;
        buffer.clear();
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out)?;
        }
        if !out.is_empty() {
            stream.write_all(out).await.0?;
        }
    }
}
