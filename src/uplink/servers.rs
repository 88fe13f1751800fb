//! The NATS servers of a process: those configured, those the cluster tells about, and their
//! addresses.
//!
//! getaddrinfo blocks, so it never runs on a shard: one small thread resolves names, at the start,
//! every [`RESOLVE_INTERVAL`] and when a link asks. IP addresses need no resolving.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{NatsUrl, Secret, UrlCredentials};

/// How often names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// A link's request to resolve is not honoured earlier than this after the last time.
const RESOLVE_PAUSE: Duration = Duration::from_millis(500);
/// Servers learned from a cluster, at most.
const DISCOVERED_MAX: usize = 64;
/// Addresses of one name, at most.
const ADDRESSES_MAX: usize = 16;
const PORT_DEFAULT: u16 = 4222;

/// Credentials that a URL carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UrlLogin {
    User(String, Secret),
    Token(Secret),
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    /// The URL insists on TLS.
    pub(super) wants_tls: bool,
    /// The name its certificate must bear.
    pub(super) tls_name: String,
    pub(super) login: Option<UrlLogin>,
    is_discovered: bool,
}

impl Server {
    /// A server of the configuration.
    pub(super) fn from_url(url: &NatsUrl) -> Server {
        let login = url.credentials.clone().map(|credentials| match credentials {
            UrlCredentials::UserPassword(user, password) => UrlLogin::User(user, password),
            UrlCredentials::Token(token) => UrlLogin::Token(token),
        });
        Server {
            host: url.host.clone(),
            port: url.port,
            wants_tls: url.tls,
            tls_name: url.host.clone(),
            login,
            is_discovered: false,
        }
    }

    /// A server its cluster told about. It is reached with the means of the one that told.
    fn discovered(address: &str, told_by: &Server) -> Option<Server> {
        let (host, port) = split_host_port(address).ok()?;
        let is_address = host.parse::<IpAddr>().is_ok();
        let tls_name = if is_address { told_by.tls_name.clone() } else { host.to_owned() };
        let (wants_tls, login) = (told_by.wants_tls, told_by.login.clone());
        let host = host.to_owned();
        Some(Server { host, port, wants_tls, tls_name, login, is_discovered: true })
    }

    fn is_at(&self, other: &Server) -> bool {
        self.host == other.host && self.port == other.port
    }

    /// `host:port`, for logs.
    pub(super) fn label(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

fn split_host_port(address: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("an IPv6 address lacks its ]")?;
        if !rest.is_empty() && !rest.starts_with(':') {
            return Err("only a port may follow an IPv6 address");
        }
        (host, rest.strip_prefix(':'))
    } else if address.matches(':').count() > 1 {
        (address, None)
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c);
    if host.is_empty() || host.contains(is_odd) {
        return Err("there is no host, or it holds a character no host may hold");
    }
    match port.map(str::parse).transpose() {
        Ok(Some(0)) | Err(_) => Err("the port must be a number from 1 to 65535"),
        Ok(port) => Ok((host, port.unwrap_or(PORT_DEFAULT))),
    }
}

/// Where a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Addresses {
    /// Its name has not been looked up yet.
    Pending,
    /// Its name cannot be resolved, and why.
    Unknown(String),
    /// Known addresses, at least one.
    Known(Vec<SocketAddr>),
}

#[derive(Debug)]
struct Entry {
    server: Arc<Server>,
    addresses: Addresses,
}

impl Entry {
    fn new(server: Server) -> Entry {
        let addresses = match server.host.parse::<IpAddr>() {
            Ok(ip) => Addresses::Known(vec![SocketAddr::new(ip, server.port)]),
            Err(_) => Addresses::Pending,
        };
        Entry { server: Arc::new(server), addresses }
    }

    fn is_a_name(&self) -> bool {
        self.server.host.parse::<IpAddr>().is_err()
    }
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    is_resolver_running: bool,
    resolve_requested: bool,
    is_stopped: bool,
}

/// All known servers. Shared by the links of a process; locked only to connect.
#[derive(Debug, Default)]
pub(super) struct Servers {
    state: Mutex<State>,
    changed: Condvar,
}

impl Servers {
    pub(super) fn new(servers: Vec<Server>) -> Arc<Servers> {
        let mut state = State::default();
        for server in servers {
            if !state.entries.iter().any(|entry| entry.server.is_at(&server)) {
                state.entries.push(Entry::new(server));
            }
        }
        let servers = Arc::new(Servers { state: Mutex::new(state), changed: Condvar::new() });
        servers.start_resolver_if_needed(&mut servers.lock());
        servers
    }

    /// Every server with its addresses, in the order known.
    pub(super) fn list(&self) -> Vec<(Arc<Server>, Addresses)> {
        let entries = &self.lock().entries;
        entries.iter().map(|entry| (entry.server.clone(), entry.addresses.clone())).collect()
    }

    /// Takes over what `told_by` says about its cluster: servers that it no longer names and that
    /// were not configured are forgotten. A server that names none says nothing by it.
    pub(super) fn discovered(self: &Arc<Servers>, urls: &[String], told_by: &Server) {
        let news: Vec<Server> = urls
            .iter()
            .filter_map(|url| Server::discovered(url, told_by))
            .take(DISCOVERED_MAX)
            .collect();
        if news.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.entries.retain(|entry| {
            !entry.server.is_discovered || news.iter().any(|server| server.is_at(&entry.server))
        });
        for server in news {
            if !state.entries.iter().any(|entry| entry.server.is_at(&server)) {
                tracing::info!(server = server.label(), "learned of another NATS server");
                state.entries.push(Entry::new(server));
            }
        }
        self.start_resolver_if_needed(&mut state);
    }

    /// Asks for names to be resolved again soon.
    pub(super) fn resolve_soon(&self) {
        self.lock().resolve_requested = true;
        self.changed.notify_all();
    }

    /// Ends the resolver thread.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_resolver_if_needed(self: &Arc<Servers>, state: &mut State) {
        if state.is_resolver_running || !state.entries.iter().any(Entry::is_a_name) {
            return;
        }
        let servers = self.clone();
        let thread = std::thread::Builder::new().name("ringgate-dns".to_owned());
        match thread.spawn(move || servers.resolve_until_stopped()) {
            Ok(_) => state.is_resolver_running = true,
            Err(error) => tracing::error!(%error, "the thread for name resolution cannot start"),
        }
    }

    fn resolve_until_stopped(&self) {
        loop {
            for (host, port) in self.names() {
                let addresses = resolve(&host, port);
                let mut state = self.lock();
                let is_it =
                    |entry: &&mut Entry| entry.server.host == host && entry.server.port == port;
                if let Some(entry) = state.entries.iter_mut().find(is_it) {
                    let has_failed = matches!(addresses, Addresses::Unknown(_));
                    let was_known = matches!(entry.addresses, Addresses::Known(_));
                    // Old addresses are better than none while the name service is away.
                    if !(has_failed && was_known) {
                        entry.addresses = addresses;
                    }
                }
            }
            if self.wait_for_next_round() {
                return;
            }
        }
    }

    fn names(&self) -> Vec<(String, u16)> {
        let state = self.lock();
        let names = state.entries.iter().filter(|entry| entry.is_a_name());
        names.map(|entry| (entry.server.host.clone(), entry.server.port)).collect()
    }

    /// True when the resolver is to end.
    fn wait_for_next_round(&self) -> bool {
        let wait = |duration, is_over: fn(&State) -> bool| {
            let waited =
                self.changed.wait_timeout_while(self.lock(), duration, |state| !is_over(state));
            waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped
        };
        let stopped = wait(RESOLVE_PAUSE, |state| state.is_stopped)
            || wait(RESOLVE_INTERVAL, |state| state.is_stopped || state.resolve_requested);
        self.lock().resolve_requested = false;
        stopped
    }
}

fn resolve(host: &str, port: u16) -> Addresses {
    match (host, port).to_socket_addrs() {
        Ok(found) => match found.take(ADDRESSES_MAX).collect::<Vec<_>>() {
            found if found.is_empty() => Addresses::Unknown("the name has no address".to_owned()),
            found => Addresses::Known(found),
        },
        Err(error) => Addresses::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server::from_url(&NatsUrl::parse(url).expect("a URL"))
    }

    #[test]
    fn takes_over_what_the_url_says() {
        let from = server("tls://u%40x:p:%2Fw@[::1]:5");
        assert_eq!((from.label().as_str(), from.wants_tls), ("[::1]:5", true));
        assert_eq!(from.login, Some(UrlLogin::User("u@x".into(), Secret::new("p:/w"))));
        assert_eq!(server("nats://t0k@h").login, Some(UrlLogin::Token(Secret::new("t0k"))));
    }

    #[test]
    fn learns_servers_once_and_forgets_those_no_longer_named() {
        let servers = Servers::new(vec![server("tls://127.0.0.1:1")]);
        let origin = servers.list()[0].0.clone();
        let hosts = |servers: &Servers| {
            servers.list().iter().map(|(server, _)| server.label()).collect::<Vec<_>>()
        };
        servers.discovered(&["127.0.0.1:1".into(), "127.0.0.2:2".into()], &origin);
        servers.discovered(&["127.0.0.2:2".into(), "[::1]:3".into()], &origin);
        assert_eq!(hosts(&servers), ["127.0.0.1:1", "127.0.0.2:2", "[::1]:3"]);
        assert!(servers.list().iter().all(|(server, _)| server.wants_tls));
        servers.discovered(&["[::1]:3".into()], &origin);
        assert_eq!(hosts(&servers), ["127.0.0.1:1", "[::1]:3"]);
    }

    #[test]
    fn resolves_names_on_its_own_thread_and_ends_it() {
        let servers = Servers::new(vec![server("nats://localhost:9")]);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !matches!(servers.list()[0].1, Addresses::Known(_)) {
            assert!(std::time::Instant::now() < deadline, "{:?}", servers.list());
            std::thread::yield_now();
        }
        servers.stop();
        while Arc::strong_count(&servers) > 1 {
            assert!(std::time::Instant::now() < deadline, "the resolver runs on");
            std::thread::yield_now();
        }
    }
}
