//! TLS of the link: rustls between two halves of a connection.
//!
//! Both halves share one rustls session, borrowed only between awaits. Only the sending half writes
//! to the socket, so records never interleave; when reading gives rise to an answer (a key update),
//! [`Receiver::read`] says so by `wants_write` and the sender is to [`Sender::flush`].

use std::cell::RefCell;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::settings::{TlsSettings, UplinkError};
use crate::rt::stream::{ReadHalf, WriteHalf};

/// Ciphertext is read in pieces of this size: one TLS record and its overhead.
const CIPHERTEXT_BYTES: usize = 18 * 1024;
/// Plaintext is encrypted in pieces of this size, so that a large batch is not held twice.
const PLAINTEXT_PIECE_BYTES: usize = 64 * 1024;

/// The receiving half of a connection, plain or TLS.
#[derive(Debug)]
pub(super) struct Receiver {
    half: ReadHalf,
    tls: Option<TlsInput>,
}

#[derive(Debug)]
struct TlsInput {
    session: Rc<RefCell<ClientConnection>>,
    /// Received; from `taken` on not yet given to the session.
    ciphertext: Vec<u8>,
    taken: usize,
}

/// The sending half of a connection, plain or TLS.
#[derive(Debug)]
pub(super) struct Sender {
    half: WriteHalf,
    tls: Option<TlsOutput>,
}

#[derive(Debug)]
struct TlsOutput {
    session: Rc<RefCell<ClientConnection>>,
    ciphertext: Vec<u8>,
}

impl Receiver {
    pub(super) fn plain(half: ReadHalf) -> Receiver {
        Receiver { half, tls: None }
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether TLS has something to send that no write has caused.
    pub(super) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.session.borrow().wants_write())
    }

    /// Reads into the free capacity of `buffer`, behind its content; 0 is the end of the stream.
    /// The buffer must have free capacity.
    pub(super) async fn read(&mut self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Some(tls) = &mut self.tls else { return self.half.read(buffer).await };
        loop {
            match tls.take_plaintext(&mut buffer) {
                Ok(Some(taken)) => return (Ok(taken), buffer),
                Ok(None) => {}
                Err(error) => return (Err(error), buffer),
            }
            match tls.receive(&mut self.half).await {
                Ok(0) => return (Ok(0), buffer),
                Ok(_) => {}
                Err(error) => return (Err(error), buffer),
            }
        }
    }
}

impl TlsInput {
    /// Moves plaintext to the free capacity of `buffer`: its length, 0 at the orderly end, `None`
    /// if more ciphertext is needed.
    fn take_plaintext(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let before = buffer.len();
        let mut session = self.session.borrow_mut();
        loop {
            let mut reader = session.reader();
            match reader.fill_buf() {
                Ok([]) => return Ok(Some(buffer.len() - before)),
                Ok(plaintext) => {
                    let free = buffer.capacity() - buffer.len();
                    let taken = plaintext.len().min(free);
                    buffer.extend_from_slice(&plaintext[..taken]);
                    reader.consume(taken);
                    if taken == free {
                        return Ok(Some(buffer.len() - before));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let taken = buffer.len() - before;
                    return Ok((taken > 0).then_some(taken));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives ciphertext to the session, read from the socket where none is left; 0 at the end.
    async fn receive(&mut self, half: &mut ReadHalf) -> io::Result<usize> {
        if self.taken == self.ciphertext.len() {
            self.taken = 0;
            let mut empty = std::mem::take(&mut self.ciphertext);
            empty.clear();
            let (result, filled) = half.read(empty).await;
            self.ciphertext = filled;
            if result? == 0 {
                return Ok(0);
            }
        }
        let mut session = self.session.borrow_mut();
        let taken = session.read_tls(&mut &self.ciphertext[self.taken..])?;
        self.taken += taken;
        session.process_new_packets().map_err(io::Error::other)?;
        Ok(taken)
    }
}

impl Sender {
    pub(super) fn plain(half: WriteHalf) -> Sender {
        Sender { half, tls: None }
    }

    /// Writes all of `buffer`.
    pub(super) async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(tls) = &mut self.tls else { return self.half.write_all(buffer).await };
        for piece in buffer.chunks(PLAINTEXT_PIECE_BYTES) {
            let encrypted = tls.session.borrow_mut().writer().write_all(piece);
            let sent = match encrypted {
                Ok(()) => tls.send(&mut self.half).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                return (Err(error), buffer);
            }
        }
        (Ok(()), buffer)
    }

    /// Sends what TLS itself has to say.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.send(&mut self.half).await,
            None => Ok(()),
        }
    }
}

impl TlsOutput {
    async fn send(&mut self, half: &mut WriteHalf) -> io::Result<()> {
        loop {
            let mut ciphertext = std::mem::take(&mut self.ciphertext);
            ciphertext.clear();
            // Bound of the loop: the session holds at most one piece, and nothing adds to it here.
            while self.session.borrow().wants_write() {
                self.session.borrow_mut().write_tls(&mut ciphertext)?;
            }
            if ciphertext.is_empty() {
                self.ciphertext = ciphertext;
                return Ok(());
            }
            let (result, ciphertext) = half.write_all(ciphertext).await;
            self.ciphertext = ciphertext;
            result?;
        }
    }
}

/// Makes TLS of a plain connection on which no byte is on its way.
///
/// # Errors
/// What rustls or the socket says; the server's view of the failure has been sent to it.
pub(super) async fn handshake(
    receiver: &mut Receiver,
    sender: &mut Sender,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<()> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    session.set_buffer_limit(None);
    let session = Rc::new(RefCell::new(session));
    let ciphertext = Vec::with_capacity(CIPHERTEXT_BYTES);
    let mut input = TlsInput { session: session.clone(), ciphertext, taken: 0 };
    let mut output = TlsOutput { session: session.clone(), ciphertext: Vec::new() };
    while session.borrow().is_handshaking() {
        output.send(&mut sender.half).await?;
        if !session.borrow().is_handshaking() {
            break;
        }
        let received = input.receive(&mut receiver.half).await;
        if !matches!(received, Ok(1..)) {
            // An alert may be waiting; whether it still reaches the server changes nothing here.
            let _ = output.send(&mut sender.half).await;
        }
        if received? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    output.send(&mut sender.half).await?;
    receiver.tls = Some(input);
    sender.tls = Some(output);
    Ok(())
}

/// The client's side of TLS as configured.
///
/// # Errors
/// A file that cannot be used, or a key that does not fit its certificate.
pub(super) fn client_config(settings: &TlsSettings) -> Result<Arc<ClientConfig>, UplinkError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_file {
        Some(path) => {
            let key = "ringgate.nats.tls.ca-file";
            for certificate in certificates(key, path)? {
                roots.add(certificate).map_err(|error| {
                    let why = format!("a certificate in it cannot be trusted: {error}");
                    UplinkError::BadFile { key, path: path.clone(), why }
                })?;
            }
        }
        None => {
            // A host without a trust store can still use plain NATS; the handshake will say more.
            let host = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(host.certs);
        }
    }
    let tls_error = |error: rustls::Error| UplinkError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .with_root_certificates(roots);
    let config = match (&settings.cert_file, &settings.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates("ringgate.nats.tls.cert-file", cert_file)?;
            let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| {
                let why = format!("no private key can be read from it: {error}");
                let key = "ringgate.nats.tls.key-file";
                UplinkError::BadFile { key, path: key_file.clone(), why }
            })?;
            builder.with_client_auth_cert(chain, key).map_err(tls_error)?
        }
        _ => return Err(UplinkError::HalfAClientCertificate),
    };
    Ok(Arc::new(config))
}

fn certificates(
    key: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, UplinkError> {
    let bad = |why| UplinkError::BadFile { key, path: path.to_owned(), why };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(bad("it holds no certificate".into())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad(format!("no certificate can be read from it: {error}"))),
    }
}
