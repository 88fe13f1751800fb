//! Making a connection: TCP, TLS and the NATS handshake, within one deadline.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::access::Access;
use super::servers::{Addresses, Server, Servers, UrlLogin};
use super::settings::{LinkSettings, UplinkError};
use super::tls::{self, Receiver, Sender};
use crate::codec::nats::{self, NatsError, Parsed, ServerInfo, ServerOp};
use crate::rt::stream::{Closer, Dialing};
use crate::rt::task::{Notify, spawn};

/// Initial and usual size of the buffer a link reads into.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A larger buffer, grown for a large message, is given up when it has been emptied.
const READ_BUFFER_BYTES_KEPT: usize = 256 * 1024;
/// Messages up to this size are taken even from a server that itself accepts only smaller ones:
/// they may come from another server of its cluster.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What all links of a process need to connect: servers, credentials, TLS.
#[derive(Debug)]
pub struct Dialer {
    pub(super) settings: LinkSettings,
    pub(super) servers: Arc<Servers>,
    access: Access,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    /// Checks the settings, reads the files they name, and begins to resolve the servers' names on
    /// a thread of its own. Does not connect.
    ///
    /// # Errors
    /// [`UplinkError`] says which setting cannot be used and why.
    pub fn new(settings: LinkSettings) -> Result<Arc<Dialer>, UplinkError> {
        let servers: Vec<_> = settings.urls.iter().map(Server::from_url).collect();
        if servers.is_empty() {
            return Err(UplinkError::NoServers);
        }
        let access = Access::new(&settings)?;
        let tls = tls::client_config(&settings.tls)?;
        let servers = Servers::new(servers);
        Ok(Arc::new(Dialer { settings, servers, access, tls }))
    }

    /// Every address worth trying, in random order, the one just lost (`last`) at the end.
    pub(super) fn candidates(&self, last: Option<SocketAddr>, random: &mut Random) -> Candidates {
        let mut found = Candidates::default();
        for (server, addresses) in self.servers.list() {
            match addresses {
                Addresses::Known(addresses) => {
                    let targets = addresses.into_iter();
                    found.targets.extend(targets.map(|to| Target { server: server.clone(), to }));
                }
                Addresses::Pending => self.servers.resolve_soon(),
                Addresses::Unknown(why) => {
                    let label = server.label();
                    found.unresolved = Some(format!("{label}: cannot resolve the name: {why}"));
                }
            }
        }
        random.shuffle(&mut found.targets);
        found.targets.sort_by_key(|target| Some(target.to) == last);
        if found.unresolved.is_some() {
            self.servers.resolve_soon();
        }
        found
    }

    /// Connects to one address. Ends within the connect timeout.
    ///
    /// # Errors
    /// Text for the operator: what failed and what to change.
    pub(super) async fn dial(
        &self,
        target: &Target,
        client_name: &str,
        subjects: &[String],
    ) -> Result<Connection, String> {
        let label = target.server.label();
        let dialing = Dialing::new(target.to).map_err(|error| format!("{label}: {error}"))?;
        let deadline = Deadline::start(self.settings.connect_timeout, dialing.closer());
        let result = self.connect(target, dialing, client_name, subjects).await;
        let in_time = deadline.met();
        match result {
            Ok(connection) if in_time => Ok(connection),
            Err(why) if in_time => Err(format!("{label}: {why}")),
            _ => {
                let timeout_ms = self.settings.connect_timeout.as_millis();
                Err(format!("{label}: no connection within {timeout_ms} ms (connect-timeout-ms)"))
            }
        }
    }

    async fn connect(
        &self,
        target: &Target,
        dialing: Dialing,
        client_name: &str,
        subjects: &[String],
    ) -> Result<Connection, String> {
        let closer = dialing.closer();
        let (read, write) = dialing.connect().await.map_err(|error| error.to_string())?;
        let mut sender = Sender::plain(write);
        let mut input = Input::new(Receiver::plain(read));
        if self.settings.tls.first {
            self.start_tls(target, &mut input, &mut sender).await?;
        }
        let info = read_info(&mut input).await?;
        if !self.settings.tls.first && self.must_use_tls(&target.server, &info)? {
            self.start_tls(target, &mut input, &mut sender).await?;
        }
        let mut hello = Vec::new();
        let login = target.server.login.as_ref();
        let is_tls = input.receiver.is_tls();
        self.access.connect(&mut hello, client_name, is_tls, login, &info)?;
        for (index, subject) in subjects.iter().enumerate() {
            nats::subscribe(&mut hello, subject, None, index as u64 + 1);
        }
        hello.extend_from_slice(nats::PING);
        let (written, _) = sender.write_all(hello).await;
        // The reason for a broken write comes as -ERR, if at all: read on in any case.
        let greeting = self.read_greeting(&mut input, info, login).await;
        let info = greeting?;
        written.map_err(|error| error.to_string())?;
        let (server, address) = (target.server.clone(), target.to);
        Ok(Connection { server, address, info, input, sender, closer })
    }

    fn must_use_tls(&self, server: &Server, info: &ServerInfo) -> Result<bool, String> {
        let wanted = self.settings.tls.required || server.wants_tls;
        let offered = info.tls_required || info.tls_available;
        if wanted && !offered {
            return Err("the server offers no TLS: set up TLS there, or unset \
                        ringgate.nats.tls.required and use nats:// in ringgate.nats.urls"
                .to_owned());
        }
        Ok(wanted || info.tls_required)
    }

    async fn start_tls(
        &self,
        target: &Target,
        input: &mut Input,
        sender: &mut Sender,
    ) -> Result<(), String> {
        // Bytes that came in clear behind INFO would otherwise be taken as if TLS had carried them.
        if !input.is_empty() {
            return Err("the server sent data in clear where TLS must begin".to_owned());
        }
        let name = &target.server.tls_name;
        tls::handshake(&mut input.receiver, sender, &self.tls, name).await.map_err(|error| {
            let advice = match self.settings.tls.ca_file {
                Some(_) => "check ringgate.nats.tls.ca-file, cert-file and key-file",
                None => "check ringgate.nats.tls; a private authority needs ca-file",
            };
            format!("TLS handshake for \"{name}\" failed: {error}; {advice}")
        })
    }

    /// Reads up to the PONG that proves that the server has accepted CONNECT and SUB.
    async fn read_greeting(
        &self,
        input: &mut Input,
        mut info: ServerInfo,
        login: Option<&UrlLogin>,
    ) -> Result<ServerInfo, String> {
        loop {
            match input.next(info.max_payload)? {
                Some((ServerOp::Pong, len)) => {
                    input.consume(len);
                    return Ok(info);
                }
                Some((ServerOp::Info(json), len)) => {
                    info = parse_info(json)?;
                    input.consume(len);
                }
                Some((ServerOp::Err(text), _)) => {
                    let is_about_us = text.to_ascii_lowercase().contains("auth");
                    let advice = if is_about_us {
                        self.access.advice(login)
                    } else if text.contains("Permissions Violation for Subscription") {
                        "allow this user to subscribe to it: answers to devices come there"
                    } else {
                        "see the log of the server"
                    };
                    return Err(format!("the server says \"{text}\": {advice}"));
                }
                // A message that comes now is as late as one a moment before SUB: nobody hears it.
                Some((_, len)) => input.consume(len),
                None => input.fill().await?,
            }
        }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        self.servers.stop();
    }
}

async fn read_info(input: &mut Input) -> Result<ServerInfo, String> {
    loop {
        match input.next(MESSAGE_BYTES_MAX)? {
            Some((ServerOp::Info(json), len)) => {
                let info = parse_info(json)?;
                input.consume(len);
                return Ok(info);
            }
            Some((ServerOp::Err(text), _)) => return Err(format!("the server says \"{text}\"")),
            Some(_) => return Err("this is no NATS server: INFO must come first".to_owned()),
            None => input.fill().await.map_err(|why| {
                format!("{why} (before INFO; a server with handshake_first needs tls.first)")
            })?,
        }
    }
}

pub(super) fn parse_info(json: &str) -> Result<ServerInfo, String> {
    ServerInfo::from_json(json).map_err(|error| format!("INFO cannot be understood: {error}"))
}

/// Where one attempt goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) server: Arc<Server>,
    pub(super) to: SocketAddr,
}

/// What one round of attempts can try.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) targets: Vec<Target>,
    /// The last failure to resolve a name.
    pub(super) unresolved: Option<String>,
}

/// A connection that NATS has accepted.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) address: SocketAddr,
    pub(super) info: ServerInfo,
    pub(super) input: Input,
    pub(super) sender: Sender,
    pub(super) closer: Closer,
}

/// What the server sends, operation by operation, from one reusable buffer.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) receiver: Receiver,
    buffer: Vec<u8>,
    /// Operations before this have been dealt with.
    begin: usize,
    /// Bytes known to be missing at the end.
    missing: usize,
}

impl Input {
    fn new(receiver: Receiver) -> Input {
        Input { receiver, buffer: Vec::with_capacity(READ_BUFFER_BYTES), begin: 0, missing: 0 }
    }

    fn is_empty(&self) -> bool {
        self.begin == self.buffer.len()
    }

    /// The next operation, to be followed by [`consume`](Self::consume); `None` asks for
    /// [`fill`](Self::fill).
    pub(super) fn next(
        &mut self,
        max_payload: usize,
    ) -> Result<Option<(ServerOp<'_>, usize)>, String> {
        if self.is_empty() {
            self.missing = 1;
            return Ok(None);
        }
        let payload_bytes_max = max_payload.max(MESSAGE_BYTES_MAX);
        match nats::parse(&self.buffer[self.begin..], payload_bytes_max) {
            Ok(Parsed::Op(op, len)) => Ok(Some((op, len))),
            Ok(Parsed::NeedMore(missing)) => {
                self.missing = missing;
                Ok(None)
            }
            Err(error) => Err(describe(error)),
        }
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.begin += len;
    }

    /// Reads once. Grows the buffer only as far as the operation at hand needs, whose size
    /// [`next`](Self::next) has checked.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.drain(..self.begin);
        self.begin = 0;
        if buffer.is_empty() && buffer.capacity() > READ_BUFFER_BYTES_KEPT {
            buffer = Vec::with_capacity(READ_BUFFER_BYTES);
        }
        if buffer.capacity() - buffer.len() < self.missing {
            buffer.reserve(self.missing);
        }
        let (result, buffer) = self.receiver.read(buffer).await;
        self.buffer = buffer;
        match result {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("reading failed: {error}")),
        }
    }
}

fn describe(error: NatsError) -> String {
    format!("this is not the NATS protocol: {error}")
}

/// Ends a connection attempt that takes too long. The attempt itself is never dropped: it is ended
/// by shutting its socket down, and then fails by itself.
struct Deadline {
    done: Rc<Notify>,
    has_passed: Rc<Cell<bool>>,
}

impl Deadline {
    fn start(timeout: Duration, closer: Closer) -> Deadline {
        let deadline = Deadline { done: Rc::default(), has_passed: Rc::default() };
        let (done, has_passed) = (deadline.done.clone(), deadline.has_passed.clone());
        spawn(async move {
            if !done.notified_within(timeout).await {
                has_passed.set(true);
                closer.shutdown();
            }
        });
        deadline
    }

    /// Ends the watch; false if the deadline has passed.
    fn met(self) -> bool {
        self.done.notify();
        !self.has_passed.get()
    }
}

/// Random numbers for shuffling and jitter (splitmix64). Not for secrets.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Seeded differently in every link.
    pub(super) fn new() -> Random {
        use std::hash::{BuildHasher, RandomState};
        Random(RandomState::new().hash_one("ringgate"))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, (self.next() % (index as u64 + 1)) as usize);
        }
    }

    /// Between a half and the whole of `delay`.
    pub(super) fn shorten(&mut self, delay: Duration) -> Duration {
        let half_us = delay.as_micros() as u64 / 2;
        Duration::from_micros(half_us + self.next() % (half_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::NatsUrl;
    use crate::rt::runtime;
    use crate::rt::stream::tests::connected;

    #[test]
    fn the_server_just_lost_is_tried_last() {
        let ports = 1..=8;
        let settings = LinkSettings {
            urls: ports.clone().map(|port| NatsUrl::plain("127.0.0.1", port)).collect(),
            username: None,
            password: None,
            token: None,
            credentials_file: None,
            nkey_seed_file: None,
            tls: super::super::TlsSettings::default(),
            connect_timeout: Duration::from_secs(1),
            reconnect_delay_min: Duration::from_secs(1),
            reconnect_delay_max: Duration::from_secs(1),
            ping_interval: Duration::from_secs(1),
            pings_outstanding_max: 1,
        };
        let dialer = Dialer::new(settings).expect("good settings");
        let mut random = Random::new();
        for port in ports.clone() {
            let last = SocketAddr::from(([127, 0, 0, 1], port));
            let targets = dialer.candidates(Some(last), &mut random).targets;
            let mut tried: Vec<_> = targets.iter().map(|target| target.to.port()).collect();
            assert_eq!(tried.last(), Some(&port));
            tried.sort_unstable();
            assert_eq!(tried, ports.clone().collect::<Vec<_>>());
        }
    }

    #[test]
    fn pauses_are_shortened_by_at_most_a_half() {
        let mut random = Random::new();
        let delay = Duration::from_millis(100);
        let pauses: Vec<_> = (0..1_000).map(|_| random.shorten(delay)).collect();
        assert!(pauses.iter().all(|pause| (delay / 2..=delay).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }

    #[test]
    fn the_read_buffer_grows_for_a_large_message_only() {
        const LARGE: usize = 900_000;
        runtime::run(None, async || {
            let ((read, _write, _closer), mut peer) = connected().await;
            let writer = std::thread::spawn(move || {
                let small = b"MSG a 1 5\r\nhello\r\n".repeat(20_000);
                let head = format!("MSG a 1 {LARGE}\r\n");
                let large = [head.as_bytes(), &vec![b'x'; LARGE], b"\r\n"].concat();
                for part in [&small, &large, &small] {
                    peer.write_all(part).expect("the peer writes");
                }
            });
            let mut input = Input::new(Receiver::plain(read));
            let mut messages = 0;
            loop {
                match input.next(LARGE).expect("the protocol") {
                    Some((ServerOp::Msg { payload, .. }, len)) => {
                        messages += 1;
                        let is_large = payload.len() == LARGE;
                        input.consume(len);
                        if !is_large && messages < 20_000 {
                            assert_eq!(input.buffer.capacity(), READ_BUFFER_BYTES);
                        }
                    }
                    Some((op, _)) => panic!("{op:?}"),
                    None if messages == 40_001 => break,
                    None => input.fill().await.expect("more"),
                }
            }
            writer.join().expect("the peer ends well");
            assert!(input.is_empty());
            assert!(input.fill().await.is_err(), "the stream has ended");
            assert!(input.buffer.capacity() <= READ_BUFFER_BYTES_KEPT);
        })
        .expect("a runtime");
    }
}
