//! Credentials over REST, in the style of CM and CCM: what each path does.
//!
//! All of this blocks on the store, some of it on the hash of a password: it runs on threads that
//! may wait, [`OPERATIONS_MAX`] at a time.

use super::rest::{self, Call, Fields, Handled, PEM, Reply, bad_query, invalid};
use crate::auth::{Demands, LaidDown, Rejection, Requirement, Revocation};
use crate::config::{Secret, Transport};
use crate::credentials::authority::{Authority, AuthorityError, Signed, TTL_DAYS_DEFAULT};
use crate::credentials::{
    BasicCredentials, CertificateCredentials, Changed, Credentials, EndpointToken, Filter,
    LIMIT_MAX, Move, Order, Page, Record, Refused, Scope, State, Timestamp, etag, is_same_secret,
    requirement_name, requirement_named,
};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// What all paths begin with.
pub const BASE: &str = "/api/v1";
/// Requests worked on at a time: a password takes 19 MiB and a core.
pub const OPERATIONS_MAX: usize = 4;
/// What every list understands, beside what it is matched by.
const LIST_PARAMETERS: [&str; 5] = ["state", "status", "offset", "limit", "order"];

/// What has changed by a request, in the order it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something that was good is good no more.
    Revoked(Revocation),
    /// What a tenant demands of its clients over MQTT has been laid down, or taken back.
    Enforcement {
        /// The tenant.
        tenant: String,
        /// All that is laid down now; the rest is up to the configuration.
        demands: LaidDown,
    },
}

/// What the management interface needs to manage credentials.
pub struct CredentialsApi {
    /// The store.
    pub credentials: Credentials,
    /// What a caller must present.
    pub bearer: Secret,
    /// Where changes go. While it is full, requests wait.
    pub changes: mpsc::Sender<Change>,
    /// What a tenant demands by the configuration.
    pub configured: Box<dyn Fn(&str) -> Demands + Send + Sync>,
}

impl fmt::Debug for CredentialsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsApi")
    }
}

/// Where credentials are managed: the paths of REST and what is behind them.
#[derive(Debug)]
pub struct Desk {
    api: CredentialsApi,
    authority: Authority,
    /// Held from a change in the store until it has been told, so that the last one told is the
    /// last one made.
    telling: Mutex<()>,
}

/// What is done to credentials by `POST …/{id}/{word}`.
const STEPS: [(&str, Move); 3] =
    [("suspend", Move::Suspend), ("activate", Move::Activate), ("revoke", Move::Revoke)];

impl Desk {
    pub(super) fn new(api: CredentialsApi) -> Self {
        let authority = Authority::new(Arc::new(api.credentials.clone()));
        Self { api, authority, telling: Mutex::default() }
    }

    /// Whether the caller may, or the answer that they may not. What is public is asked first.
    pub(super) fn admit(&self, path: &str, headers: &HeaderMap) -> Result<(), Reply> {
        if path.strip_prefix(BASE) == Some("/certificates/root") {
            return Ok(());
        }
        let given = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        let Some(given) = given else { return Err(Reply::unauthorized(false)) };
        let (scheme, token) = given.split_once(' ').unwrap_or((given, ""));
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return Err(Reply::unauthorized(false));
        }
        let is_good = is_same_secret(token.trim(), self.api.bearer.expose());
        is_good.then_some(()).ok_or_else(|| Reply::unauthorized(true))
    }

    /// Does what is asked for, and says how it went.
    pub(super) fn handle(&self, call: &Call) -> Reply {
        self.route(call).unwrap_or_else(|refusal| refusal)
    }

    /// Gives an application's token another status (16/ECAP §Endpoint token status transition): by
    /// the step that leads there, as over REST. Blocks on the store.
    ///
    /// # Errors
    /// Why it does not get it: there is no such token or status, or no step leads there from the
    /// status it has.
    pub fn change_token_status(
        &self,
        app: &str,
        token: &Secret,
        target_status: &str,
    ) -> Result<(), Rejection> {
        let step = step_to(target_status)?;
        let id = self.api.credentials.token_id(app, token);
        let changed = id.and_then(|id| self.take_step::<EndpointToken>(&id, step, None));
        changed.map(drop).map_err(|refused| match refused {
            Refused::NotFound => Rejection::new(404, "unknown endpoint token"),
            refused => rejection(&refused),
        })
    }

    fn route(&self, call: &Call) -> Handled {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        match path[..] {
            ["endpoints", endpoint, "tokens"] => self.tokens_of(call, endpoint),
            ["endpoint-tokens"] => self.tokens(call),
            ["endpoint-tokens", id] => self.one::<EndpointToken>(call, id),
            ["endpoint-tokens", id, step] => self.step::<EndpointToken>(call, id, step),
            ["basic-credentials"] => self.all_basic(call),
            ["basic-credentials", id] => self.one::<BasicCredentials>(call, id),
            ["basic-credentials", id, "password"] => self.password(call, id),
            ["basic-credentials", id, step] => self.step::<BasicCredentials>(call, id, step),
            ["x509-credentials"] => self.certificates(call),
            ["x509-credentials", id] => self.one::<CertificateCredentials>(call, id),
            ["x509-credentials", id, step] => self.step::<CertificateCredentials>(call, id, step),
            ["certificates", "root"] => self.root(call),
            ["tenants", tenant, "authentication"] => self.authentication(call, tenant),
            _ => Err(no_such_path()),
        }
    }

    fn tokens_of(&self, call: &Call, endpoint: &str) -> Handled {
        match call.method {
            Method::GET => {
                let scope = match call.parameter("appName")? {
                    Some(app) => Scope::AppEndpoint(app, endpoint),
                    None => Scope::Endpoint(endpoint),
                };
                self.list::<EndpointToken>(call, &["appName"], scope)
            }
            Method::POST => {
                let fields = call.fields(&["appName", "token"])?;
                let given = secret(&fields, "token")?;
                let is_given = given.is_some();
                let app = fields.required("appName")?;
                let made = self.api.credentials.create_token(app, endpoint, given);
                let made = made.map_err(refusal)?;
                let shown = (!is_given).then_some(("token", made.secret));
                Ok(created(&made.record, shown))
            }
            _ => Err(call.not_allowed("GET, HEAD, POST")),
        }
    }

    fn tokens(&self, call: &Call) -> Handled {
        if call.method != Method::GET {
            return Err(call.not_allowed("GET, HEAD"));
        }
        let scope = match (call.parameter("appName")?, call.parameter("endpointId")?) {
            (Some(app), Some(endpoint)) => Scope::AppEndpoint(app, endpoint),
            (Some(app), None) => Scope::App(app),
            (None, Some(endpoint)) => Scope::Endpoint(endpoint),
            (None, None) => Scope::All,
        };
        self.list::<EndpointToken>(call, &["appName", "endpointId"], scope)
    }

    fn all_basic(&self, call: &Call) -> Handled {
        match call.method {
            Method::GET => self.list_of_tenant::<BasicCredentials>(call),
            Method::POST => {
                let fields = call.fields(&["tenantId", "username", "password"])?;
                let given = secret(&fields, "password")?;
                let is_given = given.is_some();
                let (tenant, username) =
                    (fields.required("tenantId")?, fields.required("username")?);
                let made = self.api.credentials.create_basic(tenant, username, given);
                let made = made.map_err(refusal)?;
                let shown = (!is_given).then_some(("password", made.secret));
                Ok(created(&made.record, shown))
            }
            _ => Err(call.not_allowed("GET, HEAD, POST")),
        }
    }

    fn password(&self, call: &Call, id: &str) -> Handled {
        if call.method != Method::POST {
            return Err(call.not_allowed("POST"));
        }
        let fields = call.fields(&["password"])?;
        let given = secret(&fields, "password")?;
        let is_given = given.is_some();
        let if_match = call.if_match()?;
        let _telling = self.telling();
        let (made, revocation) =
            self.api.credentials.reset_password(id, given, if_match).map_err(refusal)?;
        tracing::info!("password of credentials {id} reset");
        self.tell(revocation.map(Change::Revoked));
        let mut body = made.record.face();
        if !is_given {
            body["password"] = made.secret.expose().into();
        }
        Ok(Reply::json(StatusCode::OK, &body).tagged(&etag(&made.record)))
    }

    fn certificates(&self, call: &Call) -> Handled {
        match call.method {
            Method::GET => self.list_of_tenant::<CertificateCredentials>(call),
            Method::POST => self.make_certificate(call),
            _ => Err(call.not_allowed("GET, HEAD, POST")),
        }
    }

    fn make_certificate(&self, call: &Call) -> Handled {
        let fields = call.fields(&["tenantId", "commonName", "ttlDays", "csr"])?;
        let tenant = fields.required("tenantId")?;
        let common_name = fields.text("commonName")?;
        let ttl_days = fields.number("ttlDays")?.unwrap_or(TTL_DAYS_DEFAULT);
        let (signed, key): (Signed, _) = match fields.text("csr")? {
            Some(_) if common_name.is_some() => {
                return Err(invalid("give commonName or csr: a csr has a name of its own"));
            }
            Some(csr) => (self.authority.sign_csr(tenant, csr, ttl_days).map_err(unsigned)?, None),
            None => {
                let issued = self.authority.issue(tenant, common_name, ttl_days);
                let issued = issued.map_err(unsigned)?;
                (issued.certificate, Some(("privateKey", issued.private_key_pem)))
            }
        };
        let not_after = Timestamp::from_ms(signed.not_after_ms);
        let record = self
            .api
            .credentials
            .add_certificate(tenant, &signed.name, &signed.common_name, not_after)
            .map_err(refusal)?;
        let chain = ("certificateChain", Secret::new(signed.chain_pem));
        Ok(created(&record, [chain].into_iter().chain(key)))
    }

    fn root(&self, call: &Call) -> Handled {
        if call.method != Method::GET {
            return Err(call.not_allowed("GET, HEAD"));
        }
        let pem = self.authority.root_certificate_pem().map_err(unsigned)?;
        Ok(Reply::text(StatusCode::OK, PEM, pem))
    }

    fn authentication(&self, call: &Call, tenant: &str) -> Handled {
        let credentials = &self.api.credentials;
        let face = |demands: LaidDown| demands_face(tenant, demands, (self.api.configured)(tenant));
        // One name is one version: the whole of it is a few words.
        let tag = |body: &Value| crate::credentials::fingerprint(body.to_string().as_bytes());
        let now = || credentials.demands(tenant).map_err(refusal);
        let change = match call.method {
            Method::GET => {
                let body = face(now()?);
                return Ok(call.versioned(&body, &tag(&body)));
            }
            Method::PUT => {
                let names = Transport::ALL.map(Transport::field);
                let fields = call.fields(&[&names[..], &["tenantId", "source"]].concat())?;
                let mut wishes = Vec::new();
                for transport in Transport::ALL {
                    if let Some(word) = fields.text(transport.field())? {
                        wishes.push((transport, wish(transport, word)?));
                    }
                }
                if wishes.is_empty() {
                    return Err(invalid(&format!("one of {} is needed", names.join(", "))));
                }
                Some(wishes)
            }
            Method::DELETE => None,
            _ => return Err(call.not_allowed("GET, HEAD, PUT, DELETE")),
        };
        let if_match = call.if_match()?;
        let _telling = self.telling();
        let before = now()?;
        if if_match.is_some() && if_match != Some(&tag(&face(before))) {
            return Err(refusal(Refused::Changed));
        }
        let mut demands = LaidDown::default();
        if let Some(wishes) = &change {
            demands = before;
            wishes.iter().for_each(|(transport, wish)| *demands.of_mut(*transport) = *wish);
        }
        credentials.lay_down(tenant, demands).map_err(refusal)?;
        let body = face(demands);
        tracing::info!(tenant, "authentication is now: {body}");
        self.tell(Some(Change::Enforcement { tenant: tenant.to_owned(), demands }));
        if change.is_none() {
            return Ok(Reply::nothing());
        }
        Ok(Reply::json(StatusCode::OK, &body).tagged(&tag(&body)))
    }

    fn one<R: Face>(&self, call: &Call, id: &str) -> Handled {
        match call.method {
            Method::GET => {
                let record: R = self.api.credentials.get(id).map_err(refusal)?;
                Ok(call.versioned(&record.face(), &etag(&record)))
            }
            Method::DELETE => {
                let if_match = call.if_match()?;
                let _telling = self.telling();
                let changed: Changed<R> =
                    self.api.credentials.delete(id, if_match).map_err(refusal)?;
                tracing::info!("credentials {id} deleted");
                self.tell(changed.revocation.map(Change::Revoked));
                Ok(Reply::nothing())
            }
            _ => Err(call.not_allowed("GET, HEAD, DELETE")),
        }
    }

    fn step<R: Face>(&self, call: &Call, id: &str, word: &str) -> Handled {
        let step = STEPS.iter().find(|(name, _)| *name == word).ok_or_else(no_such_path)?.1;
        if call.method != Method::POST {
            return Err(call.not_allowed("POST"));
        }
        call.fields(&[])?;
        let record: R = self.take_step(id, step, call.if_match()?).map_err(refusal)?;
        Ok(Reply::json(StatusCode::OK, &record.face()).tagged(&etag(&record)))
    }

    fn take_step<R: Face>(
        &self,
        id: &str,
        step: Move,
        if_match: Option<&str>,
    ) -> Result<R, Refused> {
        let _telling = self.telling();
        let changed: Changed<R> = self.api.credentials.step(id, step, if_match)?;
        tracing::info!("credentials {id} {}", step.done());
        self.tell(changed.revocation.map(Change::Revoked));
        Ok(changed.record)
    }

    fn list_of_tenant<R: Face>(&self, call: &Call) -> Handled {
        let scope = call.parameter("tenantId")?.map_or(Scope::All, Scope::Tenant);
        self.list::<R>(call, &["tenantId"], scope)
    }

    fn list<R: Face>(&self, call: &Call, matched: &[&str], scope: Scope<'_>) -> Handled {
        call.check_query(&[matched, &LIST_PARAMETERS].concat())?;
        let filter = filter(call, scope)?;
        let page: Page<R> = self.api.credentials.list(&filter).map_err(refusal)?;
        let body = json!({
            "content": page.content.iter().map(Face::face).collect::<Vec<_>>(),
            "total": page.total,
            "offset": page.offset,
            "limit": page.limit,
        });
        let tag = rest::tag_of(&body);
        Ok(call.versioned(&body, &tag))
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>) {
        let Some(change) = change else { return };
        if self.api.changes.blocking_send(change).is_err() {
            tracing::warn!("the process is stopping: nobody hears of a change of credentials");
        }
    }
}

/// A record as REST shows it.
trait Face: Record {
    /// Where records of its kind are.
    const PATH: &'static str;

    fn face(&self) -> Value {
        // Records are structs of texts, which JSON takes.
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Face for EndpointToken {
    const PATH: &'static str = "endpoint-tokens";
}

impl Face for BasicCredentials {
    const PATH: &'static str = "basic-credentials";

    fn face(&self) -> Value {
        let mut face = serde_json::to_value(self).unwrap_or_default();
        face["mqttUsername"] = self.mqtt_username().into();
        face
    }
}

impl Face for CertificateCredentials {
    const PATH: &'static str = "x509-credentials";
}

/// 201 with the record, and with what is shown this once.
fn created<R: Face>(record: &R, shown: impl IntoIterator<Item = (&'static str, Secret)>) -> Reply {
    let id = &record.life().id;
    tracing::info!("{} {id} made", R::PATH);
    let mut body = record.face();
    for (name, secret) in shown {
        body[name] = secret.expose().into();
    }
    let reply = Reply::json(StatusCode::CREATED, &body).tagged(&etag(record));
    reply.located(&format!("{BASE}/{}/{id}", R::PATH))
}

fn secret(fields: &Fields, name: &str) -> Result<Option<Secret>, Reply> {
    Ok(fields.text(name)?.map(Secret::new))
}

fn filter<'a>(call: &Call, scope: Scope<'a>) -> Result<Filter<'a>, Reply> {
    let mut filter = Filter::new(scope);
    for name in call.parameters("state").chain(call.parameters("status")) {
        let unknown = || {
            let names = State::ALL.map(State::name).join(", ");
            bad_query(&format!("state must be one of {names}; it may be given more than once"))
        };
        filter.states.push(State::named(name).ok_or_else(unknown)?);
    }
    if let Some(offset) = call.parameter("offset")? {
        let why = || bad_query("offset must be a whole number");
        filter.offset = offset.parse().map_err(|_| why())?;
    }
    if let Some(limit) = call.parameter("limit")? {
        let limit = limit.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        let why = || bad_query(&format!("limit must be a whole number of 1 to {LIMIT_MAX}"));
        filter.limit = limit.ok_or_else(why)?;
    }
    filter.order = match call.parameter("order")? {
        None => Order::default(),
        Some(word) if word.eq_ignore_ascii_case("ASC") => Order::Ascending,
        Some(word) if word.eq_ignore_ascii_case("DESC") => Order::Descending,
        Some(_) => return Err(bad_query("order must be ASC or DESC")),
    };
    Ok(filter)
}

/// The step that leads to a status.
fn step_to(target_status: &str) -> Result<Move, Rejection> {
    let state = State::named(target_status).ok_or_else(|| {
        Rejection::new(422, "targetStatus must be one of Active, Suspended, Revoked")
    })?;
    state.step_here().ok_or_else(|| {
        Rejection::new(409, "a token that has been made does not become inactive again")
    })
}

fn refusal(refused: Refused) -> Reply {
    Reply::error(status(&refused), &refused.to_string())
}

fn rejection(refused: &Refused) -> Rejection {
    Rejection::new(status(refused).as_u16().into(), &refused.to_string())
}

fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::NotFound => StatusCode::NOT_FOUND,
        Refused::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Conflict(_) => StatusCode::CONFLICT,
        Refused::Changed => StatusCode::PRECONDITION_FAILED,
        Refused::Store(_) => {
            tracing::error!("{refused}");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

fn unsigned(error: AuthorityError) -> Reply {
    if error.is_askers_fault() {
        return invalid(&error.to_string());
    }
    tracing::error!("a certificate could not be made: {error}");
    Reply::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
}

fn no_such_path() -> Reply {
    Reply::error(
        StatusCode::NOT_FOUND,
        "there is no such path; there are endpoints/{endpointId}/tokens, endpoint-tokens, \
         basic-credentials, x509-credentials, certificates/root, tenants/{tenantId}/authentication",
    )
}

/// What a tenant demands, and who says so.
fn demands_face(tenant: &str, laid_down: LaidDown, configured: Demands) -> Value {
    let mut face = Map::from_iter([("tenantId".to_owned(), tenant.into())]);
    let mut source = Map::new();
    for transport in Transport::ALL {
        let name = transport.field().to_owned();
        let laid_down = laid_down.of(transport);
        let word = requirement_name(laid_down.unwrap_or(configured.of(transport)));
        let by = if laid_down.is_some() { "management" } else { "configuration" };
        face.insert(name.clone(), word.into());
        source.insert(name, by.into());
    }
    face.insert("source".to_owned(), source.into());
    face.into()
}

/// What a word asks to be laid down; `default` asks for nothing.
fn wish(transport: Transport, word: &str) -> Result<Option<Requirement>, Reply> {
    if word == "default" {
        return Ok(None);
    }
    let name = transport.field();
    if word == "basic" && !transport.has_passwords() {
        let why = format!("{name}: there are no user names and passwords over HTTP");
        return Err(invalid(&why));
    }
    let unknown = || invalid(&format!("{name} must be none, basic, certificate, any or default"));
    requirement_named(word).map(Some).ok_or_else(unknown)
}
