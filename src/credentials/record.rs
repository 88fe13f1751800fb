//! The three kinds of credentials, as REST shows them.

use super::state::State;
use super::timestamp::Timestamp;
use crate::auth::{CertificateName, Method, Revocation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What all kinds have: who they are, their state, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Life {
    /// Names the credentials among those of their kind, for ever: no id is given twice. Ids sort by
    /// creation.
    pub id: String,
    /// Whether they are good.
    pub state: State,
    /// When they were made.
    pub created_date: Timestamp,
    /// When their state or secret last changed.
    pub updated_date: Timestamp,
    /// When somebody last got in with them, within
    /// [`LAST_USE_INTERVAL_MS`](super::LAST_USE_INTERVAL_MS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_use_date: Option<Timestamp>,
}

/// A token by which an endpoint is known within its application (16/ECAP). The token itself is not
/// kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointToken {
    /// Its life.
    #[serde(flatten)]
    pub life: Life,
    /// Name of the application.
    pub app_name: String,
    /// The endpoint it stands for.
    pub endpoint_id: String,
}

/// User name and password of clients of a tenant (22/CAP §Basic). The password is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicCredentials {
    /// Its life.
    #[serde(flatten)]
    pub life: Life,
    /// The tenant.
    pub tenant_id: String,
    /// The user name, of which a tenant has each once.
    pub username: String,
}

impl BasicCredentials {
    /// What a client gives as MQTT user name.
    pub fn mqtt_username(&self) -> String {
        format!("{}@{}", self.username, self.tenant_id)
    }
}

/// A client certificate of a tenant (22/CAP §Certificate), known by issuer and serial number. The
/// certificate and its key are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateCredentials {
    /// Its life.
    #[serde(flatten)]
    pub life: Life,
    /// The tenant.
    pub tenant_id: String,
    /// The issuer's distinguished name, as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number in base 10.
    pub serial_number: String,
    /// The common name of its subject.
    pub common_name: String,
    /// The end of its validity.
    pub not_after: Timestamp,
}

impl CertificateCredentials {
    /// What a certificate is asked for by.
    pub fn certificate(&self) -> CertificateName {
        let (issuer, serial) = (self.issuer.as_str().into(), self.serial_number.as_str().into());
        CertificateName { issuer, serial }
    }
}

/// A kind of credentials. The numbers are those of the store's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`EndpointToken`].
    Token = 1,
    /// [`BasicCredentials`].
    Basic = 2,
    /// [`CertificateCredentials`].
    Certificate = 3,
}

/// Part of the credentials of a kind. Names have no control characters, so that NUL divides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All of them.
    All,
    /// Those of an application.
    App(&'a str),
    /// Those of an endpoint, whatever the application.
    Endpoint(&'a str),
    /// Those of an endpoint in an application.
    AppEndpoint(&'a str, &'a str),
    /// Those of a tenant.
    Tenant(&'a str),
}

impl Scope<'_> {
    /// Its key in the store.
    pub(super) fn key(self) -> String {
        match self {
            Self::All => String::new(),
            Self::App(app) => format!("app\0{app}"),
            Self::Endpoint(endpoint) => format!("endpoint\0{endpoint}"),
            Self::AppEndpoint(app, endpoint) => format!("app\0{app}\0{endpoint}"),
            Self::Tenant(tenant) => format!("tenant\0{tenant}"),
        }
    }
}

/// What the three kinds have in common.
pub trait Record: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Which kind this is.
    const KIND: Kind;

    /// The part that is the same for all.
    fn life(&self) -> &Life;
    /// The same, to be changed.
    fn life_mut(&mut self) -> &mut Life;
    /// What these credentials are asked for by, beside what is kept of their secret: unique among
    /// those of the kind.
    fn name<'a>(&'a self, kept: &'a str) -> (&'a str, &'a str);
    /// The parts they are listed in.
    fn scopes(&self) -> Vec<Scope<'_>>;
    /// What everybody is told when these are good no more.
    fn revocation(&self) -> Revocation;
    /// For messages: "user name bob of tenant t".
    fn title(&self) -> String;
}

impl Record for EndpointToken {
    const KIND: Kind = Kind::Token;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn name<'a>(&'a self, kept: &'a str) -> (&'a str, &'a str) {
        (&self.app_name, kept)
    }

    fn scopes(&self) -> Vec<Scope<'_>> {
        vec![
            Scope::All,
            Scope::App(&self.app_name),
            Scope::Endpoint(&self.endpoint_id),
            Scope::AppEndpoint(&self.app_name, &self.endpoint_id),
        ]
    }

    fn revocation(&self) -> Revocation {
        Revocation::Tokens {
            app: self.app_name.as_str().into(),
            endpoint_id: self.endpoint_id.as_str().into(),
            token_ids: vec![self.life.id.as_str().into()],
        }
    }

    fn title(&self) -> String {
        format!("this token in application {}", self.app_name)
    }
}

impl Record for BasicCredentials {
    const KIND: Kind = Kind::Basic;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn name<'a>(&'a self, _kept: &'a str) -> (&'a str, &'a str) {
        (&self.tenant_id, &self.username)
    }

    fn scopes(&self) -> Vec<Scope<'_>> {
        vec![Scope::All, Scope::Tenant(&self.tenant_id)]
    }

    fn revocation(&self) -> Revocation {
        client_revocation(&self.tenant_id, Method::Basic, &self.life.id)
    }

    fn title(&self) -> String {
        format!("user name {} in tenant {}", self.username, self.tenant_id)
    }
}

impl Record for CertificateCredentials {
    const KIND: Kind = Kind::Certificate;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn name<'a>(&'a self, _kept: &'a str) -> (&'a str, &'a str) {
        (&self.issuer, &self.serial_number)
    }

    fn scopes(&self) -> Vec<Scope<'_>> {
        vec![Scope::All, Scope::Tenant(&self.tenant_id)]
    }

    fn revocation(&self) -> Revocation {
        client_revocation(&self.tenant_id, Method::Certificate, &self.life.id)
    }

    fn title(&self) -> String {
        format!("serial number {} of issuer {}", self.serial_number, self.issuer)
    }
}

fn client_revocation(tenant: &str, method: Method, id: &str) -> Revocation {
    Revocation::Client {
        tenant: Some(tenant.into()),
        method: Some(method),
        credentials_id: id.into(),
    }
}
