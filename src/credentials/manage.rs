//! What operators do to credentials. What an operation returns is on the disk.

use super::authority::Keys;
use super::listing::{Filter, LIMIT_MAX, Page};
use super::record::{BasicCredentials, CertificateCredentials, EndpointToken, Record};
use super::refused::{Refused, StoreError};
use super::state::Move;
use super::timestamp::Timestamp;
use super::{Credentials, hex, password, random, token_hash};
use crate::auth::{CertificateName, LaidDown, Requirement, Revocation};
use crate::config::Secret;
use serde::{Deserialize, Serialize};
use std::sync::{PoisonError, RwLockWriteGuard};

/// Bytes of a name at most: of a tenant, user, application, endpoint or certificate's issuer.
pub const NAME_BYTES_MAX: usize = 1_024;
/// Bytes of a token at most.
pub const TOKEN_BYTES_MAX: usize = 1_024;
/// Bytes of a password at most.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Hexadecimal digits of a fingerprint: 64 bits of a SHA-256.
const FINGERPRINT_LEN: usize = 16;

/// What has become of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed<R> {
    /// As they are; as they were when they have been deleted.
    pub record: R,
    /// What must end because of it. Told even if nobody should be in with them any more: somebody
    /// may have missed an earlier one.
    pub revocation: Option<Revocation>,
}

/// Credentials with their secret, which is shown this once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown<R> {
    /// The credentials.
    pub record: R,
    /// The token or password.
    pub secret: Secret,
}

/// What a tenant demands of its clients, by transport.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TenantSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mqtt_tcp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mqtt_tls: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mqtt_ws: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<String>,
}

/// Names this version of a record: another one has another tag.
pub fn etag<R: Record>(record: &R) -> String {
    // Records are structs of texts, which JSON takes.
    fingerprint(&serde_json::to_vec(record).unwrap_or_default())
}

/// Names these bytes: others have another fingerprint, as far as chance goes.
pub fn fingerprint(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    hex(digest.as_ref())[..FINGERPRINT_LEN].to_owned()
}

impl Credentials {
    /// Makes a token for an endpoint of an application: this one, or a fresh one.
    ///
    /// # Errors
    /// When a name or the token cannot be one, the application has the token already, or the store
    /// fails.
    pub fn create_token(
        &self,
        app: &str,
        endpoint: &str,
        token: Option<Secret>,
    ) -> Result<Shown<EndpointToken>, Refused> {
        check_name("appName", app)?;
        check_name("endpointId", endpoint)?;
        let secret = token.map_or_else(random::secret, Ok)?;
        check_token(&secret)?;
        let (app_name, endpoint_id) = (app.to_owned(), endpoint.to_owned());
        let record = self.inner.store.insert(self.now(), token_hash(&secret), |life| {
            EndpointToken { life, app_name, endpoint_id }
        })?;
        Ok(Shown { record, secret })
    }

    /// Makes credentials for clients of a tenant, with this password or a fresh one.
    ///
    /// # Errors
    /// When a name or the password cannot be one, the tenant has the user name already, or the
    /// store fails.
    pub fn create_basic(
        &self,
        tenant: &str,
        username: &str,
        password: Option<Secret>,
    ) -> Result<Shown<BasicCredentials>, Refused> {
        check_tenant(tenant)?;
        check_name("username", username)?;
        let (secret, kept) = password_and_hash(password)?;
        let (tenant_id, username) = (tenant.to_owned(), username.to_owned());
        let record = self.inner.store.insert(self.now(), kept, |life| BasicCredentials {
            life,
            tenant_id,
            username,
        })?;
        Ok(Shown { record, secret })
    }

    /// Registers a client certificate of a tenant, which an authority has issued.
    ///
    /// # Errors
    /// When a name cannot be one, the issuer has the serial number already, or the store fails.
    pub fn add_certificate(
        &self,
        tenant: &str,
        name: &CertificateName,
        common_name: &str,
        not_after: Timestamp,
    ) -> Result<CertificateCredentials, Refused> {
        check_tenant(tenant)?;
        check_name("issuer", &name.issuer)?;
        check_name("serialNumber", &name.serial)?;
        if !common_name.is_empty() {
            check_name("commonName", common_name)?;
        }
        self.inner.store.insert(self.now(), String::new(), |life| CertificateCredentials {
            life,
            tenant_id: tenant.to_owned(),
            issuer: name.issuer.to_string(),
            serial_number: name.serial.to_string(),
            common_name: common_name.to_owned(),
            not_after,
        })
    }

    /// The credentials with this id.
    ///
    /// # Errors
    /// When there are none, or the store fails.
    pub fn get<R: Record>(&self, id: &str) -> Result<R, Refused> {
        let stored = self.inner.store.get::<R>(id)?;
        stored.map(|stored| stored.record).ok_or(Refused::NotFound)
    }

    /// The id of the credentials of an application's token: of those with its hash, since the token
    /// itself is not kept.
    ///
    /// # Errors
    /// When the application has no such token, or the store fails.
    pub fn token_id(&self, app: &str, token: &Secret) -> Result<String, Refused> {
        let stored = self.inner.store.find::<EndpointToken>((app, &token_hash(token)))?;
        stored.map(|stored| stored.record.life.id).ok_or(Refused::NotFound)
    }

    /// A piece of a list.
    ///
    /// # Errors
    /// When the limit is not of 1 to [`LIMIT_MAX`], or the store fails.
    pub fn list<R: Record>(&self, filter: &Filter<'_>) -> Result<Page<R>, Refused> {
        if !(1..=LIMIT_MAX).contains(&filter.limit) {
            return Err(Refused::Invalid(format!("limit must be of 1 to {LIMIT_MAX}")));
        }
        self.inner.store.list(filter)
    }

    /// Suspends, activates or revokes credentials, if they are still of the version `if_match`,
    /// where one is named.
    ///
    /// # Errors
    /// When there are none, the state machine has no such step, they have changed, or the store
    /// fails.
    pub fn step<R: Record>(
        &self,
        id: &str,
        step: Move,
        if_match: Option<&str>,
    ) -> Result<Changed<R>, Refused> {
        let now = self.now();
        let _change = self.change();
        let record = self.inner.store.update::<R>(id, |stored| {
            check_version(&stored.record, if_match)?;
            let life = stored.record.life_mut();
            life.state = life.state.after(step).map_err(|why| {
                let done = step.done();
                Refused::Conflict(format!("the credentials cannot be {done}: they {why}"))
            })?;
            life.updated_date = now;
            Ok(())
        })?;
        let revocation = (!record.life().state.is_good()).then(|| record.revocation());
        Ok(Changed { record, revocation })
    }

    /// Deletes credentials, if they are still of the version `if_match`, where one is named.
    ///
    /// # Errors
    /// When there are none, they have changed, or the store fails.
    pub fn delete<R: Record>(
        &self,
        id: &str,
        if_match: Option<&str>,
    ) -> Result<Changed<R>, Refused> {
        let _change = self.change();
        let record = self.inner.store.remove::<R>(id, |record| check_version(record, if_match))?;
        let revocation = Some(record.revocation());
        Ok(Changed { record, revocation })
    }

    /// Gives basic credentials this password, or a fresh one. Their state stays; who is in with the
    /// old password must come again.
    ///
    /// # Errors
    /// When there are none, they are revoked or have changed, the password cannot be one, or the
    /// store fails.
    pub fn reset_password(
        &self,
        id: &str,
        password: Option<Secret>,
        if_match: Option<&str>,
    ) -> Result<(Shown<BasicCredentials>, Option<Revocation>), Refused> {
        // Hashing takes a while: not for credentials that are not there.
        self.get::<BasicCredentials>(id)?;
        let (secret, kept) = password_and_hash(password)?;
        let now = self.now();
        let _change = self.change();
        let record = self.inner.store.update::<BasicCredentials>(id, |stored| {
            check_version(&stored.record, if_match)?;
            let life = &mut stored.record.life;
            if life.state == super::State::Revoked {
                let why = "the password cannot be reset: the credentials are revoked";
                return Err(Refused::Conflict(why.to_owned()));
            }
            life.updated_date = now;
            stored.kept = kept;
            Ok(())
        })?;
        let revocation = record.life.state.is_live().then(|| record.revocation());
        Ok((Shown { record, secret }, revocation))
    }

    /// What has been laid down that a tenant demands of its clients.
    ///
    /// # Errors
    /// When the store fails.
    pub fn demands(&self, tenant: &str) -> Result<LaidDown, Refused> {
        let settings = self.inner.store.tenant(tenant)?;
        settings.map_or(Ok(LaidDown::default()), |settings| read_demands(&settings))
    }

    /// What has been laid down, of all tenants of which something has.
    ///
    /// # Errors
    /// When the store fails.
    pub fn all_demands(&self) -> Result<Vec<(String, LaidDown)>, Refused> {
        let tenants = self.inner.store.tenants()?.into_iter();
        tenants.map(|(tenant, settings)| Ok((tenant, read_demands(&settings)?))).collect()
    }

    /// Lays down what a tenant demands of its clients, in place of what has been.
    ///
    /// # Errors
    /// When the name cannot be one of a tenant, or the store fails.
    pub fn lay_down(&self, tenant: &str, demands: LaidDown) -> Result<(), Refused> {
        check_tenant(tenant)?;
        let name = |requirement| requirement_name(requirement).to_owned();
        let settings = (demands != LaidDown::default()).then(|| {
            serde_json::to_vec(&TenantSettings {
                mqtt_tcp: demands.mqtt_tcp.map(name),
                mqtt_tls: demands.mqtt_tls.map(name),
                mqtt_ws: demands.mqtt_ws.map(name),
                http: demands.http.map(name),
            })
        });
        self.inner.store.put_tenant(tenant, settings.transpose()?.as_deref())?;
        Ok(())
    }

    /// What the certificate authority keeps under a name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn authority_get(&self, name: &str) -> Result<Option<Vec<u8>>, Refused> {
        self.inner.store.authority(name)
    }

    /// Keeps something for the certificate authority, unless there is something of that name:
    /// false then.
    ///
    /// # Errors
    /// When the store fails.
    pub fn authority_put_new(&self, name: &str, bytes: &[u8]) -> Result<bool, Refused> {
        self.inner.store.put_new_authority(name, bytes)
    }

    fn now(&self) -> Timestamp {
        (self.inner.clock)()
    }

    /// From here on no verdict is given until this is dropped.
    fn change(&self) -> RwLockWriteGuard<'_, ()> {
        self.inner.gate.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys for Credentials {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.authority_get(name).map_err(|refused| refused.to_string())
    }

    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        self.authority_put_new(name, bytes).map(|_| ()).map_err(|refused| refused.to_string())
    }
}

/// The name of a requirement in REST.
pub fn requirement_name(requirement: Requirement) -> &'static str {
    match requirement {
        Requirement::None => "none",
        Requirement::Basic => "basic",
        Requirement::Certificate => "certificate",
        Requirement::Any => "any",
    }
}

/// The requirement of that name.
pub fn requirement_named(name: &str) -> Option<Requirement> {
    [Requirement::None, Requirement::Basic, Requirement::Certificate, Requirement::Any]
        .into_iter()
        .find(|requirement| requirement_name(*requirement) == name)
}

fn read_demands(settings: &[u8]) -> Result<LaidDown, Refused> {
    let TenantSettings { mqtt_tcp, mqtt_tls, mqtt_ws, http } = serde_json::from_slice(settings)?;
    let read = |name: Option<String>| {
        let unknown = |name: &str| StoreError::new(format!("unknown requirement {name:?}"));
        name.map(|name| requirement_named(&name).ok_or_else(|| unknown(&name))).transpose()
    };
    Ok(LaidDown {
        mqtt_tcp: read(mqtt_tcp)?,
        mqtt_tls: read(mqtt_tls)?,
        mqtt_ws: read(mqtt_ws)?,
        http: read(http)?,
    })
}

fn check_version<R: Record>(record: &R, if_match: Option<&str>) -> Result<(), Refused> {
    match if_match {
        Some(wanted) if etag(record) != wanted => Err(Refused::Changed),
        _ => Ok(()),
    }
}

/// Names go into keys of the store, where a control character divides, and into logs.
fn check_name(field: &str, name: &str) -> Result<(), Refused> {
    let why = if name.is_empty() {
        "must not be empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("must not have more than {NAME_BYTES_MAX} bytes")
    } else if name.chars().any(char::is_control) {
        "must not have control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Refused::Invalid(format!("{field} {why}")))
}

/// A tenant is what follows the last `@` of an MQTT user name.
fn check_tenant(tenant: &str) -> Result<(), Refused> {
    check_name("tenantId", tenant)?;
    if tenant.contains('@') {
        return Err(Refused::Invalid("tenantId must not have an @".into()));
    }
    Ok(())
}

/// A token is a level of an MQTT topic that is published to (1/KP).
fn check_token(token: &Secret) -> Result<(), Refused> {
    let token = token.expose();
    let why = if token.is_empty() {
        "must not be empty".to_owned()
    } else if token.len() > TOKEN_BYTES_MAX {
        format!("must not have more than {TOKEN_BYTES_MAX} bytes")
    } else if token.contains(|c: char| c.is_control() || matches!(c, '/' | '+' | '#')) {
        "must not have control characters nor / + #, which topics cannot carry".to_owned()
    } else {
        return Ok(());
    };
    Err(Refused::Invalid(format!("token {why}")))
}

fn password_and_hash(password: Option<Secret>) -> Result<(Secret, String), Refused> {
    let secret = password.map_or_else(random::secret, Ok)?;
    let bytes = secret.expose().len();
    if !(1..=PASSWORD_BYTES_MAX).contains(&bytes) {
        let why = format!("password must have 1 to {PASSWORD_BYTES_MAX} bytes");
        return Err(Refused::Invalid(why));
    }
    let kept = password::hash(secret.expose())?;
    Ok((secret, kept))
}
