//! A credentials service behind 16/ECAP and 22/CAP: async-nats and apache-avro, nothing of
//! ringgate's.
//!
//! It answers by a table of tokens and clients, misbehaves as told, keeps everything it was asked,
//! and holds every request against what 3/ISM, 16/ECAP and 22/CAP say of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use apache_avro::types::Value;

use super::bus::{Bus, Outgoing};
use super::eventually;
use super::gateway::REPLICA;
use super::records::{self, Fields, null_or_text, text, text_or_null};

/// What a request asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 16/ECAP: an endpoint token.
    Token,
    /// 16/ECAP: a user name and password.
    EcapBasic,
    /// 16/ECAP: a certificate.
    EcapCertificate,
    /// 22/CAP: a user name and password.
    CapBasic,
    /// 22/CAP: a certificate.
    CapCertificate,
}

use Kind::{CapBasic, CapCertificate, EcapBasic, EcapCertificate, Token};

/// Each kind with its subject, the message type of its answer and the names of the two schemas.
const KINDS: [(Kind, &str, &str, &str, &str); 5] = [
    (
        Token,
        "kaa.v1.service.cm.ecap.ep-token-request",
        "ecap.ep-token-response",
        "EndpointTokenValidationRequest",
        "EndpointTokenValidationResponse",
    ),
    (
        EcapBasic,
        "kaa.v1.service.cm.ecap.client-username-password-request",
        "ecap.client-username-password-response",
        "ClientUsernamePasswordValidationRequest",
        "ClientUsernamePasswordValidationResponse",
    ),
    (
        EcapCertificate,
        "kaa.v1.service.cm.ecap.client-certificate-request",
        "ecap.client-certificate-response",
        "ClientCertificateValidationRequest",
        "ClientCertificateValidationResponse",
    ),
    (
        CapBasic,
        "kaa.v1.service.ccm.cap.basic-request",
        "cap.basic-response",
        "ClientBasicAuthenticationRequest",
        "ClientBasicAuthenticationResponse",
    ),
    (
        CapCertificate,
        "kaa.v1.service.ccm.cap.certificate-request",
        "cap.certificate-response",
        "ClientCertificateAuthenticationRequest",
        "ClientCertificateAuthenticationResponse",
    ),
];

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub kind: Kind,
    /// Where the answer is expected.
    pub reply: String,
    pub correlation_id: String,
    pub timeout_ms: i64,
    /// Application of a token, tenant of 22/CAP's user name; else empty.
    pub scope: String,
    /// Token, user name, or issuer of a certificate.
    pub name: String,
    /// Password, or serial number of a certificate; of a token, empty.
    pub proof: String,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// By the table, at once.
    Normal,
    /// By the table, when [`Provider::release`] is called.
    Hold,
    /// Never.
    Silent,
    /// By the table, two times.
    Twice,
    /// With bytes that are no Avro record.
    Garbage,
    /// With a status that is none.
    Nonsense,
    /// With the correlation id of another request.
    WrongCorrelation,
    /// With 500.
    Broken,
}

/// What is said of somebody.
#[derive(Debug, Clone)]
struct Row {
    status_code: i32,
    reason: Option<String>,
    /// Token id or credentials id.
    id: String,
    /// Endpoint id or client id.
    subject: String,
    /// Of a certificate.
    tenant: String,
}

#[derive(Default)]
struct State {
    /// Of tokens by application and token, of user names by tenant (22/CAP) or none (16/ECAP) and
    /// user name and password, of certificates by issuer and serial number.
    rows: HashMap<(Kind, String, String, String), Row>,
    behaviour: Option<Behaviour>,
    /// Of single tokens and user names.
    behaviours: HashMap<String, Behaviour>,
    asked: Vec<Asked>,
    held: Vec<Outgoing>,
}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self as u8).hash(state);
    }
}

/// A running credentials service; leaves NATS on drop.
pub struct Provider {
    bus: Bus,
    state: Arc<Mutex<State>>,
}

impl Provider {
    /// Starts it as `cm` and `ccm`; it knows nobody yet.
    pub fn start(url: &str) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let subjects = KINDS.map(|(_, subject, ..)| subject.to_owned());
        let bus = Bus::start(url, "the credentials service", &subjects, {
            let state = Arc::clone(&state);
            move |message| state.lock().expect("no holder panics").handle(message)
        });
        Self { bus, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// A good token; its id is `id-of-<endpoint>`.
    pub fn token(&self, app: &str, token: &str, endpoint: &str) {
        self.insert(Token, app, token, "", &format!("id-of-{endpoint}"), endpoint);
    }

    /// A token that is answered with a status and a reason.
    pub fn bad_token(&self, app: &str, token: &str, status_code: i32, reason: Option<&str>) {
        self.insert_bad(Token, app, token, "", status_code, reason);
    }

    /// A good user name and password for both protocols: 22/CAP is asked for `username` of
    /// `tenant`, 16/ECAP for `username@tenant`. Their id is `id-of-<username>`.
    pub fn client(&self, tenant: &str, username: &str, password: &str) {
        let id = format!("id-of-{username}");
        self.insert(CapBasic, tenant, username, password, &id, username);
        let whole = format!("{username}@{tenant}");
        self.insert(EcapBasic, "", &whole, password, &id, username);
    }

    /// A good certificate, for both protocols; `id` is what revocations call it.
    pub fn certificate(&self, tenant: &str, issuer: &str, serial: &str, id: &str) {
        for kind in [CapCertificate, EcapCertificate] {
            let row = Row {
                status_code: 200,
                reason: None,
                id: id.to_owned(),
                subject: id.to_owned(),
                tenant: tenant.to_owned(),
            };
            let key = (kind, String::new(), issuer.to_owned(), serial.to_owned());
            self.state().rows.insert(key, row);
        }
    }

    /// A user name and password that are answered with a status, by both protocols.
    pub fn bad_client(&self, tenant: &str, username: &str, password: &str, status_code: i32) {
        self.insert_bad(CapBasic, tenant, username, password, status_code, None);
        let whole = format!("{username}@{tenant}");
        self.insert_bad(EcapBasic, "", &whole, password, status_code, None);
    }

    fn insert(&self, kind: Kind, scope: &str, name: &str, proof: &str, id: &str, subject: &str) {
        let row = Row {
            status_code: 200,
            reason: None,
            id: id.to_owned(),
            subject: subject.to_owned(),
            tenant: scope.to_owned(),
        };
        let key = (kind, scope.to_owned(), name.to_owned(), proof.to_owned());
        self.state().rows.insert(key, row);
    }

    fn insert_bad(
        &self,
        kind: Kind,
        scope: &str,
        name: &str,
        proof: &str,
        status_code: i32,
        reason: Option<&str>,
    ) {
        self.insert(kind, scope, name, proof, "", "");
        let key = (kind, scope.to_owned(), name.to_owned(), proof.to_owned());
        if let Some(row) = self.state().rows.get_mut(&key) {
            row.status_code = status_code;
            row.reason = reason.map(str::to_owned);
        }
    }

    /// How everything is answered from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = Some(behaviour);
    }

    /// How one token or user name is answered from now on.
    pub fn behave_for(&self, name: &str, behaviour: Behaviour) {
        self.state().behaviours.insert(name.to_owned(), behaviour);
    }

    /// Sends the answers held back so far, in the order of their requests.
    pub fn release(&self) {
        let held = std::mem::take(&mut self.state().held);
        for Outgoing { subject, payload } in held {
            self.bus.publish(&subject, payload);
        }
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How often a token or user name has been asked about.
    pub fn count(&self, name: &str) -> usize {
        self.state().asked.iter().filter(|asked| asked.name == name).count()
    }

    /// Waits until a token or user name has been asked about so often.
    pub fn wait_for_count(&self, name: &str, count: usize) {
        eventually(&format!("{count} questions about a credential"), || {
            (self.count(name) >= count).then_some(())
        });
    }

    /// 16/ECAP: tokens of an endpoint are good no more.
    pub fn revoke_token(&self, app: &str, endpoint: &str) {
        self.forget(&format!("id-of-{endpoint}"));
        let ids = Value::Array(vec![text(&format!("id-of-{endpoint}"))]);
        self.broadcast(
            "kaa.v1.events.cm.endpoint.token.revoked",
            "EndpointTokenRevokedEvent",
            &[("appName", text(app)), ("endpointId", text(endpoint)), ("tokenIds", ids)],
        );
    }

    /// 16/ECAP: a client's credential is good no more.
    pub fn revoke_ecap_client(&self, id: &str) {
        self.forget(id);
        self.broadcast(
            "kaa.v1.events.cm.client.credential.revoked",
            "ClientCredentialRevokedEvent",
            &[("credentialId", text(id))],
        );
    }

    /// 22/CAP: a client's credentials are good no more; `method` is `basic` or `certificate`.
    pub fn revoke_cap_client(&self, method: &str, tenant: &str, id: &str) {
        self.forget(id);
        self.broadcast(
            &format!("kaa.v1.events.ccm.client-credentials.{method}.revoked"),
            "ClientCredentialsRevokedEvent",
            &[("tenantId", text(tenant)), ("credentialsId", text(id))],
        );
    }

    /// 21/TLE: a tenant is no more.
    pub fn unregister_tenant(&self, tenant: &str) {
        self.broadcast(
            "kaa.v1.events.tenant-manager.tenant.lifecycle.unregistered",
            "UnregisteredEvent",
            &[("tenantId", text(tenant))],
        );
    }

    /// Whoever had this id is answered 403 from now on.
    fn forget(&self, id: &str) {
        for row in self.state().rows.values_mut().filter(|row| row.id == id) {
            row.status_code = 403;
            row.reason = Some("revoked".to_owned());
        }
    }

    /// Publishes any event.
    pub fn broadcast(&self, subject: &str, schema: &str, fields: &[(&str, Value)]) {
        let fields = [fields, &[("originatorReplicaId", text("provider-1"))]].concat();
        self.bus.publish(subject, records::encode(schema, "event", &fields));
    }

    /// Publishes anything.
    pub fn publish(&self, subject: &str, payload: &[u8]) {
        self.bus.publish(subject, payload.to_vec());
    }
}

impl State {
    fn handle(&mut self, message: async_nats::Message) -> Vec<Outgoing> {
        let subject = message.subject.as_str();
        let kind = KINDS.iter().find(|(_, of_kind, ..)| *of_kind == subject);
        let (kind, _, answer_type, request, response) = *kind.expect("a subject listened to");
        let asked = asked(kind, &message, request);
        check(&asked, answer_type);
        self.asked.push(asked.clone());
        let own = self.behaviours.get(&asked.name).copied();
        let behaviour = own.or(self.behaviour).unwrap_or(Behaviour::Normal);
        let reply = |payload| Outgoing { subject: asked.reply.clone(), payload };
        let row = self.row(&asked);
        let by_table = || reply(answer(kind, response, &asked.correlation_id, &row));
        match behaviour {
            Behaviour::Normal => vec![by_table()],
            Behaviour::Twice => vec![by_table(), by_table()],
            Behaviour::Hold => {
                let outgoing = by_table();
                self.held.push(outgoing);
                Vec::new()
            }
            Behaviour::Silent => Vec::new(),
            Behaviour::Garbage => vec![reply(vec![0xFF; 40])],
            Behaviour::WrongCorrelation => {
                let correlation_id = format!("{}0", asked.correlation_id);
                vec![reply(answer(kind, response, &correlation_id, &row))]
            }
            Behaviour::Nonsense => {
                let row = Row { status_code: -7, ..row };
                vec![reply(answer(kind, response, &asked.correlation_id, &row))]
            }
            Behaviour::Broken => {
                let row = Row { status_code: 500, ..row };
                vec![reply(answer(kind, response, &asked.correlation_id, &row))]
            }
        }
    }

    fn row(&self, asked: &Asked) -> Row {
        let Asked { kind, scope, name, proof, .. } = asked.clone();
        self.rows.get(&(kind, scope, name, proof)).cloned().unwrap_or_else(|| Row {
            status_code: if asked.kind == Token { 404 } else { 401 },
            reason: Some("nobody of that name".to_owned()),
            id: String::new(),
            subject: String::new(),
            tenant: String::new(),
        })
    }
}

fn asked(kind: Kind, message: &async_nats::Message, request: &str) -> Asked {
    let fields = Fields::decode(request, &message.payload);
    let (scope, name, proof) = match kind {
        Token => (fields.text("appName"), fields.text("token"), String::new()),
        EcapBasic => {
            let or_empty = |name| fields.optional_text(name).unwrap_or_default();
            (String::new(), or_empty("username"), or_empty("password"))
        }
        CapBasic => (fields.text("tenantId"), fields.text("username"), fields.text("password")),
        EcapCertificate | CapCertificate => {
            (String::new(), fields.text("issuer"), fields.text("serialNumber"))
        }
    };
    let reply = message.reply.as_ref().expect("a request MUST carry replyTo (16/ECAP, 22/CAP)");
    let timestamp_ms = fields.long("timestamp");
    let age_ms = super::extension::now_ms() - timestamp_ms;
    assert!(age_ms.abs() < 60_000, "timestamp {timestamp_ms} is no time of now in milliseconds");
    Asked {
        kind,
        reply: reply.to_string(),
        correlation_id: fields.text("correlationId"),
        timeout_ms: fields.long("timeout"),
        scope,
        name,
        proof,
    }
}

/// The answer comes back to the shard that asked (3/ISM): `kaa.v1.replica.<replica>-<shard>.…`.
fn check(asked: &Asked, answer_type: &str) {
    let Asked { reply, correlation_id, timeout_ms, .. } = asked;
    let replica = reply
        .strip_prefix("kaa.v1.replica.")
        .and_then(|rest| rest.strip_suffix(answer_type))
        .and_then(|rest| rest.strip_suffix('.'))
        .unwrap_or_else(|| panic!("replyTo {reply} is no replica subject of {answer_type}"));
    let shard = replica.strip_prefix(REPLICA).and_then(|rest| rest.rsplit_once('-'));
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    assert!(shard.is_some_and(|(_, shard)| is_number(shard)), "replyTo {reply} names no shard");
    assert!(!correlation_id.is_empty(), "a request without a correlation id");
    assert!(*timeout_ms > 0, "a request that would hold for ever: timeout {timeout_ms}");
}

fn answer(kind: Kind, response: &str, correlation_id: &str, row: &Row) -> Vec<u8> {
    let is_good = row.status_code == 200;
    let id = text_or_null(is_good.then_some(row.id.as_str()));
    let subject = text_or_null(is_good.then_some(row.subject.as_str()));
    let tenant = text_or_null(is_good.then_some(row.tenant.as_str()));
    let mut fields = match kind {
        Token => vec![("tokenId", id), ("endpointId", subject)],
        EcapBasic | EcapCertificate => vec![("credentialId", id), ("clientId", subject)],
        CapBasic => vec![("credentialsId", id), ("clientId", subject)],
        CapCertificate => {
            vec![("tenantId", tenant), ("credentialsId", id), ("clientId", subject)]
        }
    };
    fields.push(("statusCode", Value::Int(row.status_code)));
    fields.push(("reasonPhrase", null_or_text(row.reason.as_deref())));
    records::encode(response, correlation_id, &fields)
}
