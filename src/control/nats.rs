//! The settings of the NATS links in the terms of async-nats.

use crate::config::{Nats, NatsCredentials, NatsUrl, Secret, UrlCredentials};
use async_nats::{ConnectOptions, ServerAddr};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Messages that may wait for the control thread; beyond it async-nats drops them.
const SUBSCRIPTION_MESSAGES_MAX: usize = 16_384;

/// Why the settings cannot be used.
#[derive(Debug)]
pub enum NatsAccessError {
    /// A file cannot be read or does not hold what it should.
    File {
        /// The setting that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A server's address is not one.
    Server {
        /// The URL without its credentials.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for NatsAccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { key, path, why } => {
                write!(f, "{key}: {}: {why}", path.display())
            }
            Self::Server { url, why } => write!(f, "ringgate.nats.urls: {url}: {why}"),
        }
    }
}

impl std::error::Error for NatsAccessError {}

/// How to prove who we are. One way for all servers: async-nats presents the same to each.
#[derive(Clone)]
enum Proof {
    None,
    UserPassword(String, Secret),
    Token(Secret),
    /// The text of a credentials file: a JWT and a seed.
    Credentials(Secret),
    NkeySeed(Secret),
}

/// Everything needed to connect, read and checked once at start.
#[derive(Clone)]
pub struct NatsAccess {
    servers: Vec<ServerAddr>,
    proof: Proof,
    settings: Nats,
}

impl fmt::Debug for NatsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsAccess({})", self.names())
    }
}

impl NatsAccess {
    /// Reads the files that `settings` name.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold credentials, or a URL is not one.
    pub fn new(settings: &Nats) -> Result<Self, NatsAccessError> {
        let servers = settings.urls.iter().map(server).collect::<Result<_, _>>()?;
        let tls = &settings.tls;
        for (key, path) in [
            ("ringgate.nats.tls.ca-file", &tls.ca_file),
            ("ringgate.nats.tls.cert-file", &tls.cert_file),
            ("ringgate.nats.tls.key-file", &tls.key_file),
        ] {
            if let Some(path) = path {
                read(key, path)?;
            }
        }
        // What stands in a URL comes before the settings.
        let in_url = settings.urls.iter().find_map(|url| url.credentials.as_ref());
        let proof = match in_url {
            Some(UrlCredentials::UserPassword(user, password)) => {
                Proof::UserPassword(user.clone(), password.clone())
            }
            Some(UrlCredentials::Token(token)) => Proof::Token(token.clone()),
            None => proof(&settings.credentials)?,
        };
        Ok(Self { servers, proof, settings: settings.clone() })
    }

    /// The servers, for logs.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<_> = self.settings.urls.iter().map(NatsUrl::address).collect();
        names.join(", ")
    }

    /// The servers to connect to.
    #[must_use]
    pub fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    /// Options for a connection that names itself `name` and is set up again for ever.
    ///
    /// # Errors
    /// When the credentials file holds no credentials.
    pub fn options(&self, name: &str) -> Result<ConnectOptions, NatsAccessError> {
        let settings = &self.settings;
        let servers = self.servers.len().max(1);
        let (delay_ms_min, delay_ms_max) =
            (settings.reconnect_delay_ms_min, settings.reconnect_delay_ms_max);
        let mut options = ConnectOptions::new()
            .name(name)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .connection_timeout(Duration::from_millis(settings.connect_timeout_ms.into()))
            .ping_interval(Duration::from_millis(settings.ping_interval_ms.into()))
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .require_tls(settings.tls.required)
            .reconnect_delay_callback(move |attempts| {
                reconnect_delay(attempts, servers, delay_ms_min, delay_ms_max)
            });
        if settings.tls.first {
            options = options.tls_first();
        }
        if let Some(ca_file) = &settings.tls.ca_file {
            options = options.add_root_certificates(ca_file.clone());
        }
        if let (Some(cert), Some(key)) = (&settings.tls.cert_file, &settings.tls.key_file) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        Ok(match &self.proof {
            Proof::None => options,
            Proof::UserPassword(user, password) => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
            Proof::Token(token) => options.token(token.expose().to_owned()),
            Proof::NkeySeed(seed) => options.nkey(seed.expose().to_owned()),
            Proof::Credentials(text) => {
                options.credentials(text.expose()).map_err(|error| self.bad_credentials(&error))?
            }
        })
    }

    fn bad_credentials(&self, error: &std::io::Error) -> NatsAccessError {
        NatsAccessError::File {
            key: CREDENTIALS_KEY,
            path: self.settings.credentials.credentials_file.clone().unwrap_or_default(),
            why: error.to_string(),
        }
    }
}

const CREDENTIALS_KEY: &str = "ringgate.nats.credentials-file";
const SEED_KEY: &str = "ringgate.nats.nkey-seed-file";

fn proof(credentials: &NatsCredentials) -> Result<Proof, NatsAccessError> {
    if let (Some(user), Some(password)) = (&credentials.username, &credentials.password) {
        return Ok(Proof::UserPassword(user.clone(), password.clone()));
    }
    if let Some(token) = &credentials.token {
        return Ok(Proof::Token(token.clone()));
    }
    if let Some(path) = &credentials.credentials_file {
        let text = read(CREDENTIALS_KEY, path)?;
        if ConnectOptions::new().credentials(&text).is_err() {
            return Err(NatsAccessError::File {
                key: CREDENTIALS_KEY,
                path: path.clone(),
                why: "holds no user JWT and seed".to_owned(),
            });
        }
        return Ok(Proof::Credentials(Secret::new(text)));
    }
    if let Some(path) = &credentials.nkey_seed_file {
        let text = read(SEED_KEY, path)?;
        let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
        return match seed {
            Some(seed) if nkeys::KeyPair::from_seed(seed).is_ok() => {
                Ok(Proof::NkeySeed(Secret::new(seed)))
            }
            _ => Err(NatsAccessError::File {
                key: SEED_KEY,
                path: path.clone(),
                why: "holds no seed of a user (a line that starts with SU)".to_owned(),
            }),
        };
    }
    Ok(Proof::None)
}

fn read(key: &'static str, path: &Path) -> Result<String, NatsAccessError> {
    fs::read_to_string(path).map_err(|error| NatsAccessError::File {
        key,
        path: path.to_owned(),
        why: error.to_string(),
    })
}

fn server(url: &NatsUrl) -> Result<ServerAddr, NatsAccessError> {
    let scheme = if url.tls { "tls" } else { "nats" };
    format!("{scheme}://{}", url.address()).parse().map_err(|error: std::io::Error| {
        NatsAccessError::Server { url: url.to_string(), why: error.to_string() }
    })
}

/// The pause before an attempt: doubled with every round through all servers. async-nats counts
/// attempts from 1, of all servers together.
fn reconnect_delay(attempts: usize, servers: usize, ms_min: u32, ms_max: u32) -> Duration {
    let round = attempts.saturating_sub(1) / servers;
    let doubled = u64::from(ms_min) << round.min(31);
    Duration::from_millis(doubled.min(ms_max.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> Nats {
        Nats { urls: vec![NatsUrl::parse(url).expect("a URL")], ..Nats::default() }
    }

    #[test]
    fn the_pause_doubles_with_each_round_up_to_its_maximum() {
        let pause = |attempts| reconnect_delay(attempts, 2, 50, 2_000).as_millis();
        assert_eq!([1, 2, 3, 4, 5].map(pause), [50, 50, 100, 100, 200]);
        assert_eq!(pause(1_000), 2_000);
        assert_eq!(pause(0), 50);
    }

    #[test]
    fn credentials_of_a_url_come_before_those_of_the_settings() {
        let mut settings = settings("nats://u:p%40@h:1");
        settings.credentials.token = Some(Secret::new("t"));
        let access = NatsAccess::new(&settings).expect("usable");
        let Proof::UserPassword(user, password) = &access.proof else { panic!("not the URL's") };
        assert_eq!((user.as_str(), password.expose()), ("u", "p@"));
        assert_eq!(access.names(), "h:1");
        assert!(!format!("{access:?}").contains("p@"));
    }

    #[test]
    fn addresses_of_all_kinds_are_taken_over() {
        for url in ["nats://h", "tls://h:4333", "nats://[::1]:4222", "nats://127.0.0.1:4222"] {
            let access = NatsAccess::new(&settings(url)).expect(url);
            assert_eq!(access.servers()[0].tls_required(), url.starts_with("tls"));
            access.options("name").expect(url);
        }
    }

    #[test]
    fn a_file_that_does_not_serve_is_named_with_its_setting() {
        let directory =
            std::env::temp_dir().join(format!("ringgate-access-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let empty = directory.join("empty");
        fs::write(&empty, "nothing").expect("written");
        let credentials = [
            NatsCredentials { credentials_file: Some(empty.clone()), ..Default::default() },
            NatsCredentials { nkey_seed_file: Some(empty.clone()), ..Default::default() },
            NatsCredentials { nkey_seed_file: Some(directory.join("no")), ..Default::default() },
        ];
        for credentials in credentials {
            let settings = Nats { credentials, ..settings("nats://h") };
            let error = NatsAccess::new(&settings).expect_err("unusable").to_string();
            assert!(error.starts_with("ringgate.nats."), "{error}");
        }
        let seed = nkeys::KeyPair::new_user().seed().expect("a seed");
        fs::write(&empty, format!("{seed}\n")).expect("written");
        let credentials = NatsCredentials { nkey_seed_file: Some(empty), ..Default::default() };
        let settings = Nats { credentials, ..settings("nats://h") };
        let access = NatsAccess::new(&settings).expect("usable");
        assert!(matches!(access.proof, Proof::NkeySeed(found) if found.expose() == seed));
        fs::remove_dir_all(directory).expect("removed");
    }
}
