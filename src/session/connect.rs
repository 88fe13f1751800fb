//! Coming in: CONNECT and CONNACK.

use std::fmt;
use std::sync::Arc;

use super::saved::Saved;
use super::{Policy, Session, State, Step};
use crate::codec::mqtt::{
    self, ConnAck, ConnAckProperties, Connect, ConnectError, Malformed, ReasonCode, Version,
};
use crate::telemetry::{CloseReason, ConnectRefusal};

/// What a CONNECT asks for that the shell must decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The client id.
    pub client_id: ClientId,
    /// Whether an earlier session is unwanted.
    pub clean_start: bool,
    /// Whether a will came along, which ringgate ignores: it is no broker.
    pub has_will: bool,
    /// What the client says it is known by, if it says anything.
    pub login: Option<Login>,
}

impl Hello {
    /// That of a client that sends no CONNECT.
    pub fn of_nobody() -> Self {
        Self { client_id: ClientId::Nameless, clean_start: true, has_will: false, login: None }
    }
}

/// User name and password of a CONNECT (MQTT §3.1.3.5, §3.1.3.6).
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: Option<Box<str>>,
    /// The password, of any bytes.
    pub password: Option<Box<[u8]>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The password is not for anybody's eyes.
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How a client names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientId {
    /// By this name.
    Named(Arc<str>),
    /// Not at all, and none is needed: 3.1.1 with a clean session (MQTT-3.1.3-6 of 3.1.1).
    Nameless,
    /// It wants to be given a name: v5 (MQTT-3.1.3-6).
    Assign,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A client id that is too long, or missing where it is needed.
    ClientId,
    /// A version that is not spoken here.
    Version,
    /// An authentication method: there is none.
    AuthenticationMethod,
    /// A will that is to be retained (v5).
    WillRetain,
    /// The gateway cannot take the session now, or nobody can say who the client is.
    Unavailable,
    /// A user name and password, or a certificate, that are not known.
    BadCredentials,
    /// Credentials that are known and may not be used: suspended or revoked.
    NotAuthorized,
    /// Too many attempts have failed before.
    TooManyAttempts,
}

impl Refused {
    fn reason_code(self) -> ReasonCode {
        match self {
            Self::ClientId => ReasonCode::ClientIdentifierNotValid,
            Self::Version => ReasonCode::UnsupportedProtocolVersion,
            Self::AuthenticationMethod => ReasonCode::BadAuthenticationMethod,
            Self::WillRetain => ReasonCode::RetainNotSupported,
            Self::Unavailable => ReasonCode::ServerUnavailable,
            Self::BadCredentials => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
            // Before v5 it becomes 3, server unavailable: to try again later is right.
            Self::TooManyAttempts => ReasonCode::ConnectionRateExceeded,
        }
    }

    /// Under what the refusal is counted.
    pub fn label(self) -> ConnectRefusal {
        match self {
            Self::ClientId => ConnectRefusal::BadClientId,
            Self::Version => ConnectRefusal::UnsupportedVersion,
            Self::AuthenticationMethod | Self::WillRetain => ConnectRefusal::Other,
            Self::Unavailable => ConnectRefusal::Unavailable,
            Self::BadCredentials => ConnectRefusal::BadCredentials,
            Self::NotAuthorized => ConnectRefusal::NotAuthorized,
            Self::TooManyAttempts => ConnectRefusal::TooManyAttempts,
        }
    }

    fn close_reason(self) -> CloseReason {
        match self {
            Self::ClientId => CloseReason::BadClientId,
            Self::Version => CloseReason::UnsupportedVersion,
            Self::AuthenticationMethod
            | Self::BadCredentials
            | Self::NotAuthorized
            | Self::TooManyAttempts => CloseReason::NotAuthorized,
            Self::WillRetain => CloseReason::ProtocolError,
            Self::Unavailable => CloseReason::UplinkRefused,
        }
    }
}

impl Session {
    /// The first packet of a connection: anything but CONNECT ends it (MQTT-3.1.0-1).
    pub(super) fn first<'a>(
        &mut self,
        packet: &'a [u8],
        policy: &Policy,
        out: &mut Vec<u8>,
    ) -> Step<'a> {
        match mqtt::decode_connect(packet) {
            Ok(connect) => self.connect(&connect, policy, out),
            Err(error) => self.bad_connect(error, out),
        }
    }

    fn bad_connect<'a>(&mut self, error: ConnectError, out: &mut Vec<u8>) -> Step<'a> {
        match error {
            ConnectError::ProtocolLevel(level) => self.refuse_version(level, out),
            ConnectError::ProtocolName => Step::Close(CloseReason::WrongProtocolName),
            ConnectError::NotConnect(_) => Step::Close(CloseReason::ProtocolError),
            ConnectError::Malformed { version, rule } => {
                self.refuse_malformed(version, rule, out);
                Step::Refused(ConnectRefusal::Malformed, CloseReason::MalformedPacket)
            }
        }
    }

    /// A level newer than ours is answered as v5 answers (0x84), an older one as 3.1.1 does (1).
    fn refuse_version<'a>(&mut self, level: u8, out: &mut Vec<u8>) -> Step<'a> {
        self.version = if level > Version::V5.level() { Version::V5 } else { Version::V311 };
        let reason = self.refuse_connect(Refused::Version, out);
        Step::Refused(Refused::Version.label(), reason)
    }

    /// Only v5 has a code for it.
    fn refuse_malformed(&mut self, version: Option<Version>, rule: Malformed, out: &mut Vec<u8>) {
        if let Some(version) = version.filter(|version| version.is_v5()) {
            connack(version, false, rule.reason_code(), ConnAckProperties::default(), out);
        }
    }

    fn connect<'a>(
        &mut self,
        connect: &Connect<'_>,
        policy: &Policy,
        out: &mut Vec<u8>,
    ) -> Step<'a> {
        self.version = connect.version;
        match self.hello(connect, policy) {
            Ok(hello) => {
                self.state = State::Entering;
                Step::Connect(hello)
            }
            Err(refused) => Step::Refused(refused.label(), self.refuse_connect(refused, out)),
        }
    }

    fn hello(&mut self, connect: &Connect<'_>, policy: &Policy) -> Result<Hello, Refused> {
        let v5 = connect.version.is_v5();
        let properties = &connect.properties;
        if properties.authentication_method.is_some() {
            return Err(Refused::AuthenticationMethod);
        }
        if v5 && connect.will.as_ref().is_some_and(|will| will.retain) {
            // MQTT-3.2.2-13.
            return Err(Refused::WillRetain);
        }
        let client_id = match (connect.client_id, connect.version) {
            ("", Version::V5) => ClientId::Assign,
            ("", Version::V311) if connect.clean_start => ClientId::Nameless,
            ("", _) => return Err(Refused::ClientId),
            (id, _) if id.len() > policy.client_id_bytes_max => return Err(Refused::ClientId),
            (id, _) => ClientId::Named(id.into()),
        };
        self.keep_alive_s = match policy.keep_alive_s_max {
            max if max > 0 && v5 && (connect.keep_alive_s == 0 || connect.keep_alive_s > max) => {
                max
            }
            _ => connect.keep_alive_s,
        };
        let asked_s = match v5 {
            true => properties.session_expiry_interval_s.unwrap_or(0),
            false if connect.clean_start => 0,
            false => u32::MAX,
        };
        self.expiry_s = asked_s.min(policy.session_expiry_s_max);
        self.client_receive_maximum = properties.receive_max.map_or(u16::MAX, |max| max.get());
        self.client_packet_bytes_max =
            properties.packet_bytes_max.map_or(u32::MAX, |bytes| bytes.get());
        self.client_alias_maximum = properties.topic_alias_max.unwrap_or(0);
        let login = (connect.user_name.is_some() || connect.password.is_some()).then(|| Login {
            username: connect.user_name.map(Into::into),
            password: connect.password.map(Into::into),
        });
        let has_will = connect.will.is_some();
        Ok(Hello { client_id, clean_start: connect.clean_start, has_will, login })
    }

    /// Lets the client in: appends CONNACK and, for a resumed session, what was not finished.
    /// `is_assigned`: the client id is one that a nameless v5 client has been given.
    pub fn accept(
        &mut self,
        client_id: Option<Arc<str>>,
        is_assigned: bool,
        resumed: Option<Saved>,
        policy: &Policy,
        out: &mut Vec<u8>,
    ) {
        debug_assert_eq!(self.state, State::Entering);
        self.state = State::Live;
        let is_present = resumed.is_some();
        if let Some(saved) = resumed {
            self.inbound = saved.inbound;
            self.inherit(saved.outbound);
            self.subscriptions =
                (!saved.subscriptions.is_empty()).then(|| Box::new(saved.subscriptions));
        }
        let assigned = client_id.as_deref().filter(|_| is_assigned);
        connack(
            self.version,
            is_present,
            ReasonCode::Success,
            self.capabilities(assigned, policy),
            out,
        );
        self.client_id = client_id;
        self.send_waiting(out);
    }

    /// What ringgate can and cannot do, told truthfully (MQTT 5.0 §3.2.2.3).
    fn capabilities<'a>(
        &self,
        assigned: Option<&'a str>,
        policy: &Policy,
    ) -> ConnAckProperties<'a> {
        ConnAckProperties {
            session_expiry_interval_s: Some(self.expiry_s),
            receive_max: std::num::NonZeroU16::new(policy.receive_maximum),
            retain_available: Some(false),
            packet_bytes_max: std::num::NonZeroU32::new(policy.packet_bytes_max),
            assigned_client_id: assigned,
            topic_alias_max: Some(policy.topic_alias_maximum),
            subscription_ids_available: Some(false),
            shared_subscription_available: Some(false),
            server_keep_alive_s: (policy.keep_alive_s_max > 0).then_some(self.keep_alive_s),
            ..ConnAckProperties::default()
        }
    }

    /// Does not let the client in: appends the refusing CONNACK.
    pub fn refuse_connect(&mut self, refused: Refused, out: &mut Vec<u8>) -> CloseReason {
        let none = ConnAckProperties::default();
        connack(self.version, false, refused.reason_code(), none, out);
        refused.close_reason()
    }
}

fn connack(
    version: Version,
    session_present: bool,
    reason: ReasonCode,
    properties: ConnAckProperties<'_>,
    out: &mut Vec<u8>,
) {
    // MQTT 3.1 has no session present flag: the byte is reserved.
    let session_present = session_present && version != Version::V31;
    let connack = ConnAck { session_present, reason, properties };
    // The only variable field is a client id that this process made.
    let encoded = connack.encode(version, out);
    debug_assert!(encoded.is_ok());
}
