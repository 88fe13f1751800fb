//! The bare loop: monoio accepts, a task per connection shakes hands with rustls and reads until
//! the peer goes. As a relay it also copies what comes through TLS to one upstream socket, and
//! understands nothing but that a connection's first bytes are a CONNECT, which it answers.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// What one read may bring.
const READ_BYTES: usize = 16 * 1024;
/// What the relay lets gather for its next write upstream.
const GATHER: Duration = Duration::from_micros(200);
/// CONNACK "accepted" of MQTT 3.1.1.
const CONNACK: &[u8] = &[0x20, 2, 0, 0];

/// Plaintext on its way upstream.
type Upstream = Option<Rc<RefCell<Vec<u8>>>>;

pub fn serve(
    listen: SocketAddr,
    directory: &Path,
    upstream: Option<SocketAddr>,
) -> Result<(), String> {
    let config = config(directory)?;
    let told = |error: std::io::Error| error.to_string();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .enable_timer()
        .build()
        .map_err(told)?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(listen).map_err(told)?;
        let gathered: Upstream = match upstream {
            None => None,
            Some(upstream) => {
                let stream = TcpStream::connect(upstream).await.map_err(told)?;
                let gathered = Rc::new(RefCell::new(Vec::new()));
                monoio::spawn(pass_on(stream, gathered.clone()));
                Some(gathered)
            }
        };
        loop {
            let (stream, _) = listener.accept().await.map_err(told)?;
            let (config, gathered) = (config.clone(), gathered.clone());
            monoio::spawn(async move {
                // A peer that goes away is no failure of ours.
                let _ = carry(stream, config, gathered).await;
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

/// Writes upstream what has gathered, a write at a time.
async fn pass_on(mut stream: TcpStream, gathered: Rc<RefCell<Vec<u8>>>) {
    loop {
        let batch = std::mem::take(&mut *gathered.borrow_mut());
        if batch.is_empty() {
            monoio::time::sleep(GATHER).await;
        } else if stream.write_all(batch).await.0.is_err() {
            return;
        }
    }
}

async fn carry(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    gathered: Upstream,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut is_greeted = false;
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
        if let Some(gathered) = &gathered {
            let mut gathered = gathered.borrow_mut();
            let before = gathered.len();
            // No more than there is, which ends in WouldBlock.
            let _ = tls.reader().read_to_end(&mut gathered);
            if !is_greeted && gathered.len() > before {
                is_greeted = true;
                gathered.truncate(before);
                tls.writer().write_all(CONNACK)?;
            }
        }
        let mut out = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut out)?;
        }
        if !out.is_empty() {
            stream.write_all(out).await.0?;
        }
    }
}
