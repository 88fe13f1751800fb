//! One TLS connection of a device, without its socket: ciphertext in, plaintext out, and the other
//! way round. A quiet connection holds no buffer, only the state of rustls.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, InvalidMessage, ServerConfig};

use crate::telemetry::TlsFailure;

/// What may be kept of ciphertext that is no whole record or handshake message yet: a handshake
/// message of 64 KiB, the most that rustls takes, in records, and what one read may bring beyond.
pub const PARTIAL_BYTES_MAX: usize = 192 * 1024;
/// Bytes that protecting one record adds: header, explicit nonce (1.2), content type (1.3), tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 1 + 16;
/// Plaintext bytes of one record (RFC 8446 §5.1).
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Room for a close_notify alert.
const ALERT_BYTES_MAX: usize = 64;

/// See the module's documentation.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// The beginning of a record or handshake message whose rest has not come.
    partial: Vec<u8>,
    /// What TLS itself has to say, ready to be sent.
    outgoing: Vec<u8>,
    /// Whether the peer has said that it sends no more.
    peer_has_closed: bool,
    /// Whether we have said so.
    has_closed: bool,
    /// Whether it has failed: only an alert is still to be sent.
    has_failed: bool,
}

impl std::fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSession").field("is_handshaking", &self.is_handshaking()).finish()
    }
}

impl TlsSession {
    /// The server's side of a connection on which nothing has been said.
    ///
    /// # Errors
    /// What rustls has against the configuration.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            partial: Vec::new(),
            outgoing: Vec::new(),
            peer_has_closed: false,
            has_closed: false,
            has_failed: false,
        })
    }

    /// Whether the handshake is not over yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the handshake resumed an earlier session; known once it is over.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether the peer has said that it sends no more (close_notify).
    pub fn peer_has_closed(&self) -> bool {
        self.peer_has_closed
    }

    /// The client's certificate chain, its own first, if it has shown one; verified.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.connection.peer_certificates()
    }

    /// Keeps ciphertext until [`Self::receive`] is called next: what a handshake does with it costs
    /// milliseconds and may have to wait for its turn.
    ///
    /// # Errors
    /// That is more than any handshake is.
    pub fn keep(&mut self, ciphertext: &[u8]) -> Result<(), Error> {
        if self.partial.len() + ciphertext.len() > PARTIAL_BYTES_MAX {
            self.has_failed = true;
            self.partial = Vec::new();
            return Err(Error::PeerSentOversizedRecord);
        }
        self.partial.extend_from_slice(ciphertext);
        Ok(())
    }

    /// How much is kept until [`Self::receive`] is called next.
    pub fn kept_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Takes ciphertext, decrypting it where it lies, and gives the plaintext to `take`, record by
    /// record. What TLS answers waits in [`Self::has_outgoing`].
    ///
    /// # Errors
    /// The peer breaks the protocol, shows a bad certificate, or sends an alert. Ours, if there is
    /// one, waits to be sent; nothing else can be done with the connection.
    pub fn receive(&mut self, ciphertext: &mut [u8], take: impl FnMut(&[u8])) -> Result<(), Error> {
        if self.has_failed {
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        let (taken, rest) = if partial.is_empty() {
            let taken = self.process(ciphertext, take)?;
            (taken, &*ciphertext)
        } else {
            partial.extend_from_slice(ciphertext);
            let taken = self.process(&mut partial, take)?;
            (taken, &*partial)
        };
        let rest = &rest[taken..];
        if rest.len() > PARTIAL_BYTES_MAX {
            self.has_failed = true;
            return Err(Error::PeerSentOversizedRecord);
        }
        // Exactly as much as is needed, and nothing where nothing is: most of the time.
        self.partial = rest.to_vec();
        Ok(())
    }

    /// Works on `buffer` until more is needed; returns how many bytes of it are done with.
    fn process(&mut self, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<usize, Error> {
        let Self { connection, outgoing, .. } = self;
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                connection.process_tls_records(&mut buffer[at..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        take(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_has_closed = true,
                // Early data is not offered, so none comes.
                Ok(_) => return Ok(at + discard),
                Err(error) => {
                    self.has_failed = true;
                    self.encode_alert();
                    return Err(error);
                }
            }
            at += discard;
        }
    }

    /// After an error: what is to be said about it. rustls must not be let near the bytes that
    /// were wrong again, which it is not while something waits to be said.
    fn encode_alert(&mut self) {
        let Self { connection, outgoing, .. } = self;
        while connection.wants_write() {
            match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                // What came before the error and has not been taken: nobody wants it any more.
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while traffic.next_record().is_some() {}
                }
                _ => return,
            }
        }
    }

    /// Whether TLS itself has something to say.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether it is to be said that no more comes, and has not been.
    pub fn owes_close(&self) -> bool {
        !self.has_closed && !self.has_failed && !self.is_handshaking()
    }

    /// Appends to `ciphertext` all that is to be sent: what TLS itself has to say, `plaintext`, and
    /// with `is_last` that no more comes.
    ///
    /// # Errors
    /// The connection can protect no more bytes.
    pub fn seal(
        &mut self,
        plaintext: &[u8],
        is_last: bool,
        ciphertext: &mut Vec<u8>,
    ) -> Result<(), Error> {
        ciphertext.append(&mut self.outgoing);
        self.outgoing = Vec::new();
        if self.has_failed || self.has_closed || (plaintext.is_empty() && !is_last) {
            return Ok(());
        }
        let Self { connection, partial, .. } = self;
        loop {
            // The same bytes as at the last call, which found no whole record in them: none is
            // taken now.
            match connection.process_tls_records(partial).state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    encrypt(&mut traffic, plaintext, ciphertext)?;
                    if is_last {
                        close(&mut traffic, ciphertext)?;
                        self.has_closed = true;
                    }
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(data) => encode(data, ciphertext),
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.peer_has_closed = true,
                // Nothing can be said before the handshake is over, or after the end.
                _ => return Ok(()),
            }
        }
    }
}

/// What an error is counted as.
pub fn failure(error: &Error) -> TlsFailure {
    use rustls::CertificateError as Certificate;
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFailure::NotTls,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => TlsFailure::NothingInCommon,
        Error::NoCertificatesPresented => TlsFailure::NoCertificate,
        Error::InvalidCertificate(why) => match why {
            Certificate::UnknownIssuer => TlsFailure::UnknownAuthority,
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. } => TlsFailure::Expired,
            Certificate::Revoked => TlsFailure::Revoked,
            _ => TlsFailure::BadCertificate,
        },
        Error::AlertReceived(_) => TlsFailure::RefusedByClient,
        _ => TlsFailure::Protocol,
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let before = out.len();
    // Its size is known only from its refusal.
    let size = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return,
    };
    out.resize(before + size, 0);
    let written = data.encode(&mut out[before..]);
    debug_assert!(matches!(written, Ok(n) if n == size), "{written:?}");
}

fn encrypt(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    if plaintext.is_empty() {
        return Ok(());
    }
    let records = plaintext.len().div_ceil(RECORD_BYTES_MAX);
    let room = plaintext.len() + records * RECORD_OVERHEAD_BYTES;
    write(out, room, |room| traffic.encrypt(plaintext, room))
}

fn close(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    write(out, ALERT_BYTES_MAX, |room| traffic.queue_close_notify(room))
}

/// Appends what `protect` writes, giving it more room where it asks for it.
fn write(
    out: &mut Vec<u8>,
    room: usize,
    mut protect: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), Error> {
    let before = out.len();
    out.resize(before + room, 0);
    let mut written = protect(&mut out[before..]);
    if let Err(EncryptError::InsufficientSize(size)) = &written {
        out.resize(before + size.required_size, 0);
        written = protect(&mut out[before..]);
    }
    match written {
        Ok(written) => {
            out.truncate(before + written);
            Ok(())
        }
        Err(_) => {
            out.truncate(before);
            Err(Error::EncryptError)
        }
    }
}

/// Both sides of TLS for tests: a certificate of its own making for `gate`.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
    use std::sync::LazyLock;

    pub struct Configs {
        pub server: Arc<ServerConfig>,
        /// One that wants to see the certificate of its clients, and a client that shows it.
        pub mutual: (Arc<ServerConfig>, Arc<ClientConfig>),
        /// Of TLS 1.2, of TLS 1.3.
        pub clients: [Arc<ClientConfig>; 2],
    }

    pub static CONFIGS: LazyLock<Configs> = LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["gate".to_owned()]).expect("signs");
        let chain = vec![made.cert.der().clone()];
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = || {
            ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("versions")
        };
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).expect("a root");
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let mutual = server()
            .with_client_cert_verifier(verifier.expect("a verifier"))
            .with_single_cert(chain.clone(), key.clone_key())
            .expect("a certificate");
        let shows = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .expect("a certificate");
        let server = server()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key)
            .expect("a certificate");
        let client = |version: &'static SupportedProtocolVersion| {
            let mut roots = RootCertStore::empty();
            roots.add(chain[0].clone()).expect("a root");
            let config = ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let mut config = config;
            config.resumption = rustls::client::Resumption::disabled();
            Arc::new(config)
        };
        let clients = [client(&rustls::version::TLS12), client(&rustls::version::TLS13)];
        Configs { server: Arc::new(server), mutual: (Arc::new(mutual), Arc::new(shows)), clients }
    });
}

#[cfg(test)]
mod tests {
    use super::testing::CONFIGS;
    use super::*;
    use proptest::prelude::*;
    use rustls::ClientConnection;
    use rustls::pki_types::ServerName;
    use std::io::{Read, Write};

    struct Pair {
        server: TlsSession,
        client: ClientConnection,
        /// Sizes of the pieces in which ciphertext arrives, over and over.
        pieces: Vec<usize>,
        heard: Vec<u8>,
        told: Vec<u8>,
        has_ended: bool,
    }

    impl Pair {
        fn new(version: usize, pieces: &[usize]) -> Self {
            let name = ServerName::try_from("gate").expect("a name");
            Self {
                server: TlsSession::new(CONFIGS.server.clone()).expect("a session"),
                client: ClientConnection::new(CONFIGS.clients[version].clone(), name)
                    .expect("a client"),
                pieces: pieces.into(),
                heard: Vec::new(),
                told: Vec::new(),
                has_ended: false,
            }
        }

        /// Lets both talk until neither has anything to say.
        fn talk(&mut self) {
            for _ in 0..100 {
                let mut up = Vec::new();
                while self.client.wants_write() {
                    self.client.write_tls(&mut up).expect("a Vec takes all");
                }
                let mut pieces = self.pieces.iter().cycle();
                let mut rest = &mut up[..];
                while !rest.is_empty() {
                    let size = (*pieces.next().expect("endless")).min(rest.len());
                    let (piece, others) = rest.split_at_mut(size);
                    self.server
                        .receive(piece, |plain| self.heard.extend_from_slice(plain))
                        .expect("good ciphertext");
                    rest = others;
                }
                let mut down = Vec::new();
                self.server.seal(&[], false, &mut down).expect("seals");
                if up.is_empty() && down.is_empty() {
                    return;
                }
                self.tell(&down);
            }
            panic!("they never stop");
        }

        fn tell(&mut self, mut down: &[u8]) {
            while !down.is_empty() {
                self.client.read_tls(&mut down).expect("reads");
                self.client.process_new_packets().expect("good ciphertext");
                self.has_ended = self.client.reader().read_to_end(&mut self.told).is_ok();
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        /// Whatever the pieces that ciphertext comes in, and whatever the version: both sides hear
        /// exactly what the other has said, and that it has ended.
        #[test]
        fn both_hear_what_the_other_says(
            version in 0usize..2,
            pieces in prop::collection::vec(1usize..3000, 1..5),
            said in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 1..4),
        ) {
            let mut pair = Pair::new(version, &pieces);
            pair.talk();
            prop_assert!(!pair.server.is_handshaking() && !pair.server.is_resumed());
            let mut all = Vec::new();
            for said in &said {
                pair.client.writer().write_all(said).expect("takes it");
                pair.talk();
                let mut down = Vec::new();
                pair.server.seal(said, false, &mut down).expect("seals");
                pair.tell(&down);
                all.extend_from_slice(said);
                prop_assert_eq!(&pair.told, said);
                pair.told.clear();
            }
            prop_assert_eq!(&pair.heard, &all);
            prop_assert_eq!(pair.server.partial.capacity(), 0, "a quiet one holds no buffer");
            pair.client.send_close_notify();
            pair.talk();
            prop_assert!(pair.server.peer_has_closed());
            let mut down = Vec::new();
            pair.server.seal(b"bye", true, &mut down).expect("seals");
            prop_assert!(!pair.server.owes_close());
            pair.tell(&down);
            prop_assert_eq!((&pair.told[..], pair.has_ended), (&b"bye"[..], true));
        }
    }

    #[test]
    fn plain_text_is_refused_with_an_alert() {
        let mut server = TlsSession::new(CONFIGS.server.clone()).expect("a session");
        let refused = server.receive(&mut b"\x10\x0e\0\x04MQTT\x04\0\0\0\0\x02ab".to_vec(), |_| {});
        let refused = refused.expect_err("is no TLS");
        assert_eq!(failure(&refused), TlsFailure::NotTls, "{refused:?}");
        let mut down = Vec::new();
        server.seal(b"not to be said", true, &mut down).expect("seals");
        assert_eq!(down[0], 21, "an alert: {down:?}");
        assert_eq!(down.len(), 7);
        assert!(!server.has_outgoing() && !server.owes_close());
        assert!(server.receive(&mut [0; 100], |_| panic!("nothing is heard")).is_ok());
    }

    #[test]
    fn changed_ciphertext_is_refused() {
        for version in 0..2 {
            let mut pair = Pair::new(version, &[1000]);
            pair.talk();
            pair.client.writer().write_all(b"hello").expect("takes it");
            let mut up = Vec::new();
            pair.client.write_tls(&mut up).expect("a Vec takes all");
            *up.last_mut().expect("some bytes") ^= 1;
            let refused = pair.server.receive(&mut up, |_| panic!("nothing is heard"));
            assert!(matches!(refused, Err(Error::DecryptError)), "{refused:?}");
            assert!(pair.server.has_outgoing(), "an alert");
        }
    }

    #[test]
    fn a_handshake_that_is_kept_goes_on_when_it_is_its_turn() {
        let mut pair = Pair::new(1, &[1000]);
        let mut hello = Vec::new();
        pair.client.write_tls(&mut hello).expect("a Vec takes all");
        pair.server.keep(&hello).expect("is short");
        assert!(!pair.server.has_outgoing());
        pair.server.receive(&mut [], |_| {}).expect("a good hello");
        assert!(pair.server.has_outgoing());
        pair.talk();
        assert!(!pair.server.is_handshaking());
    }

    #[test]
    fn who_goes_on_talking_before_its_turn_is_not_kept_without_end() {
        let mut server = TlsSession::new(CONFIGS.server.clone()).expect("a session");
        let piece = [22; 16 * 1024];
        let kept = (0..100).take_while(|_| server.keep(&piece).is_ok()).count();
        assert_eq!(kept, PARTIAL_BYTES_MAX / piece.len());
        assert_eq!(server.partial.capacity(), 0);
        assert!(!server.has_outgoing() && server.is_handshaking());
    }

    #[test]
    fn what_never_becomes_a_record_is_not_kept_for_ever() {
        let mut server = TlsSession::new(CONFIGS.server.clone()).expect("a session");
        // A handshake message of 64 KiB that never ends, in records that have.
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.extend(vec![0; 0x4000]);
        record[5..9].copy_from_slice(&[1, 0, 0xff, 0xff]);
        let mut outcome = Ok(());
        for _ in 0..100 {
            outcome = server.receive(&mut record.clone(), |_| {});
            if outcome.is_err() {
                break;
            }
        }
        assert!(outcome.is_err());
        assert!(server.partial.len() <= PARTIAL_BYTES_MAX);
    }
}
