//! The types of single settings that are more than a number or a flag.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// What stands in for a secret wherever one would be shown.
pub const MASK: &str = "***";

/// A password or token: usable through [`Secret::expose`], shown as `***` everywhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Characters of a generated replica id.
const REPLICA_ID_LEN: usize = 12;

/// The id of this process among the replicas of one service instance: a NATS subject token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaId {
    text: String,
    generated: bool,
}

impl ReplicaId {
    /// An id chosen by the operator.
    pub fn given(text: impl Into<String>) -> Self {
        Self { text: text.into(), generated: false }
    }

    /// A fresh random id: 12 characters of lower-case base32, 60 bits.
    pub fn generate() -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        // The standard library keys each `RandomState` from the operating system's generator, so
        // the hash of nothing is 64 random bits.
        let random_bits = RandomState::new().build_hasher().finish();
        let text = (0..REPLICA_ID_LEN)
            .map(|i| char::from(ALPHABET[(random_bits >> (5 * i)) as usize & 31]))
            .collect();
        Self { text, generated: true }
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True if the id was made at start, and so will be another one next time.
    pub fn is_generated(&self) -> bool {
        self.generated
    }
}

/// A setting that is one of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// The words and what they stand for, in the order they are shown.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }
}

/// How many shards (threads with an io_uring each) carry the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per core this process may run on.
    Auto,
    /// This many.
    Count(u16),
}

/// What becomes of a publish while NATS is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenUnavailable {
    /// It is kept; when the buffers are full, the publishing connection is not read until there is
    /// room again: TCP pushes back.
    Wait,
    /// The publish is refused at once: a 503 on the error topic where there is a request id,
    /// reason code 0x97 for an MQTT 5 publish of QoS 1 or 2, a closed connection for older ones.
    Refuse,
}

impl Choice for WhenUnavailable {
    const WORDS: &'static [(&'static str, Self)] =
        &[("wait", Self::Wait), ("refuse", Self::Refuse)];
}

/// What becomes of a QoS 0 publish when the buffers towards NATS are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos0WhenFull {
    /// As for the other QoS levels: the connection waits.
    Wait,
    /// It is dropped and counted.
    Drop,
}

impl Choice for Qos0WhenFull {
    const WORDS: &'static [(&'static str, Self)] = &[("wait", Self::Wait), ("drop", Self::Drop)];
}

/// How the field `configName` of a `ClientData` is filled (4/ESP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigName {
    /// With the last level of a path such as `/config/json/network`, else null.
    FromPath,
    /// Always null.
    Null,
    /// Not written at all, for extension services built on the schema without that field.
    Omit,
}

impl Choice for ConfigName {
    const WORDS: &'static [(&'static str, Self)] =
        &[("from-path", Self::FromPath), ("null", Self::Null), ("omit", Self::Omit)];
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// MQTT.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// The HTTP binding of 1/KP.
    Http,
    /// The same over TLS.
    Https,
}

impl ListenerKind {
    /// Its word, which is also the scheme of its URLs.
    pub fn as_str(self) -> &'static str {
        self.word()
    }

    /// Whether TLS is spoken there.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss | Self::Https)
    }

    /// The kind that differs only in whether TLS is spoken.
    pub fn other(self) -> Self {
        match self {
            Self::Mqtt => Self::Mqtts,
            Self::Mqtts => Self::Mqtt,
            Self::Ws => Self::Wss,
            Self::Wss => Self::Ws,
            Self::Http => Self::Https,
            Self::Https => Self::Http,
        }
    }
}

impl Choice for ListenerKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("mqtt", Self::Mqtt),
        ("mqtts", Self::Mqtts),
        ("ws", Self::Ws),
        ("wss", Self::Wss),
        ("http", Self::Http),
        ("https", Self::Https),
    ];
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked to.
    #[default]
    None,
    /// They may.
    Optional,
    /// They must.
    Required,
}

impl Choice for ClientAuth {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("optional", Self::Optional), ("required", Self::Required)];
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Choice for TlsVersion {
    const WORDS: &'static [(&'static str, Self)] = &[("1.2", Self::Tls12), ("1.3", Self::Tls13)];
}

/// The least severe log event that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures that need an operator.
    Error,
    /// Trouble that ringgate copes with.
    Warn,
    /// Start, stop, links up and down.
    Info,
    /// Single connections.
    Debug,
    /// Single messages.
    Trace,
}

impl Choice for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl LogLevel {
    /// The level in the words of the `tracing` crate's filters.
    pub fn as_str(self) -> &'static str {
        self.word()
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// Who says whether an endpoint token is good, and which endpoint it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointProvider {
    /// Nobody: every token is accepted, and is the endpoint's id.
    Trustful,
    /// The store of this process.
    Internal,
    /// A credentials service over NATS (16/ECAP).
    Ecap,
    /// A service over HTTP.
    Http,
}

impl Choice for EndpointProvider {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("trustful", Self::Trustful),
        ("internal", Self::Internal),
        ("ecap", Self::Ecap),
        ("http", Self::Http),
    ];
}

/// Who says whether a client's password or certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProvider {
    /// Nobody: credentials are not looked at.
    Trustful,
    /// The store of this process.
    Internal,
    /// A client credentials service over NATS (22/CAP).
    Cap,
    /// A credentials service over NATS, by the older client messages of 16/ECAP.
    Ecap,
    /// A service over HTTP.
    Http,
}

impl Choice for ClientProvider {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("trustful", Self::Trustful),
        ("internal", Self::Internal),
        ("cap", Self::Cap),
        ("ecap", Self::Ecap),
        ("http", Self::Http),
    ];
}

/// What becomes of an endpoint that appears while it is live on another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// It moves: answers and pushes go to the new connection only.
    Takeover,
    /// It stays: the new connection may not speak for it.
    Reject,
    /// Both may speak for it; pushes go to the connection that spoke last.
    Allow,
}

impl Choice for Elsewhere {
    const WORDS: &'static [(&'static str, Self)] =
        &[("takeover", Self::Takeover), ("reject", Self::Reject), ("allow", Self::Allow)];
}

/// How clients must prove who they are before they may speak for endpoints of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// Not at all.
    #[default]
    None,
    /// By user name and password.
    Basic,
    /// By a certificate.
    Certificate,
    /// By either.
    Any,
}

impl Choice for Requirement {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("basic", Self::Basic),
        ("certificate", Self::Certificate),
        ("any", Self::Any),
    ];
}
