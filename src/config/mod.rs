//! Settings: what they are, where they come from, and why some are refused.
//!
//! [`load`] reads a YAML file with KPC's keys and ringgate's own, lets the environment override
//! single keys, and gives [`Settings`], a tree of plain typed fields. Every field has a default,
//! so an empty file is a valid configuration. Nothing is guessed: an unknown key, a bad value or
//! a contradiction refuses the whole configuration, with the place, the key and the reason.
//!
//! One table (`keys.rs`) says which key is which field; reading, printing, the names of
//! environment variables and the hints for misspelt keys all follow from it.

mod auth;
mod auth_keys;
mod check;
mod check_doors;
mod door_keys;
mod doors;
mod environment;
mod error;
mod field;
mod http_url;
mod keys;
pub mod limits;
mod nats_url;
mod network;
mod node;
mod notices;
mod print;
mod read;
mod settings;
mod suggest;
mod transport;
mod types;

use std::path::Path;

pub use auth::*;
pub use doors::{
    Http, Listener, ListenerSettings, MqttTls, ShortForm, Tls, TlsHandshakes, TlsProfile, WebSocket,
};
pub use error::{ConfigError, Place, Problem};
pub use http_url::HttpUrl;
pub use nats_url::{NatsUrl, UrlCredentials};
pub use network::Network;
pub use settings::*;
pub use transport::{PerTransport, Transport};
pub use types::{
    ClientAuth, ClientProvider, ConfigName, Elsewhere, EndpointProvider, ListenerKind, LogFormat,
    LogLevel, MASK, Qos0WhenFull, ReplicaId, Requirement, Secret, Shards, TlsVersion,
    WhenUnavailable,
};

/// Reads the settings from a file and the variables of the environment.
///
/// A variable with U+FFFD in it counts as one that was not UTF-8 (`to_string_lossy` makes it so).
///
/// Opens no socket and writes nothing. Files that the settings name are opened to see whether
/// they can be read; relative names are relative to the working directory.
///
/// # Errors
/// All problems that were found, if there is one: the file cannot be read or is no YAML, a key is
/// unknown or given twice, a value is bad, settings contradict each other.
pub fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let refuse = |problems| Err(ConfigError::new(file, problems));
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let reason = format!("cannot be read: {error}");
            return refuse(vec![Problem { place: Place::File, key: String::new(), reason }]);
        }
    };
    let root = match node::parse(&text) {
        Ok(root) => root,
        Err(problem) => return refuse(vec![problem]),
    };
    let (settings, mut reading) = read::read(&root, &environment::relevant(environment));
    if reading.problems.is_empty() {
        check::check(&settings, &mut reading);
    }
    if reading.problems.is_empty() { Ok(settings) } else { refuse(reading.problems) }
}
