//! What an operator can set about the NATS connections.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{NatsUrl, Secret};

/// Settings of the NATS connections, `ringgate.nats.*`.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Servers.
    pub urls: Vec<NatsUrl>,
    /// User, unless the URL names one.
    pub username: Option<String>,
    /// Password of the user.
    pub password: Option<Secret>,
    /// Token, in place of user and password.
    pub token: Option<Secret>,
    /// Credentials file with a user JWT and its seed. Read again for every connection.
    pub credentials_file: Option<PathBuf>,
    /// File with the seed of an nkey user. Read again for every connection.
    pub nkey_seed_file: Option<PathBuf>,
    /// TLS.
    pub tls: TlsSettings,
    /// TCP, TLS and the NATS handshake together may take so long.
    pub connect_timeout: Duration,
    /// Pause before the first attempt to reconnect. It doubles from round to round, and every pause
    /// is shortened at random by up to a half.
    pub reconnect_delay_min: Duration,
    /// The pause grows no longer than this.
    pub reconnect_delay_max: Duration,
    /// How often the link asks for a PONG.
    pub ping_interval: Duration,
    /// Intervals without any PONG after which the connection is given up.
    pub pings_outstanding_max: u32,
}

/// TLS settings, `ringgate.nats.tls.*`.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// Refuse servers that do not speak TLS.
    pub required: bool,
    /// Begin with the TLS handshake, before INFO (the server's `handshake_first`).
    pub first: bool,
    /// Certificate authorities to trust, in place of the host's.
    pub ca_file: Option<PathBuf>,
    /// Client certificate chain.
    pub cert_file: Option<PathBuf>,
    /// Private key of the client certificate.
    pub key_file: Option<PathBuf>,
}

/// Why the settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkError {
    /// No server is given.
    NoServers,
    /// More than one way to authenticate is set.
    TooManyCredentials,
    /// A password without a user name.
    PasswordWithoutUsername,
    /// A file cannot be read or does not hold what it should.
    BadFile {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// One of `cert-file` and `key-file` is set without the other.
    HalfAClientCertificate,
    /// TLS cannot be set up.
    Tls(String),
}

impl fmt::Display for UplinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UplinkError::NoServers => f.write_str("no NATS server is given (ringgate.nats.urls)"),
            UplinkError::TooManyCredentials => f.write_str(
                "more than one of ringgate.nats.username, token, credentials-file and \
                 nkey-seed-file is set: keep one",
            ),
            UplinkError::PasswordWithoutUsername => {
                f.write_str("ringgate.nats.password is set without ringgate.nats.username")
            }
            UplinkError::BadFile { key, path, why } => {
                write!(f, "{key}: {}: {why}", path.display())
            }
            UplinkError::HalfAClientCertificate => f.write_str(
                "ringgate.nats.tls.cert-file and key-file belong together: set both or neither",
            ),
            UplinkError::Tls(why) => write!(f, "TLS towards NATS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for UplinkError {}
