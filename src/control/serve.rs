//! Answers other gateways' questions over NATS (16/ECAP, 22/CAP) from this process's own store, so
//! that one ringgate is the credentials service of a fleet.
//!
//! A question becomes one of [`auth`](crate::auth) and goes to a clerk, who answers off this
//! thread. The reply goes to the reply subject of the request, under its correlationId.

use super::transitions::Transition;
use crate::auth::{Busy, CertificateName, Clerk, Question, Rejection, Ticket, Verdict};
use crate::codec::avro::{AvroError, Header, cap, ecap};
use crate::codec::subjects;
use crate::config::{Secret, Settings};
use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Questions that await the clerk's answers. More are answered 503 at once.
pub const REQUESTS_MAX: usize = 16_384;
/// In a [`Ticket`], instead of the number of a shard: the question came over NATS.
pub const OVER_NATS: u16 = u16::MAX;

/// Which question a subject is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// 16/ECAP: an endpoint token.
    Token,
    /// 16/ECAP: another status for a token.
    TokenStatus,
    /// 16/ECAP: user name and password.
    EcapBasic,
    /// 16/ECAP: a certificate.
    EcapCertificate,
    /// 22/CAP: user name and password.
    CapBasic,
    /// 22/CAP: a certificate.
    CapCertificate,
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The clerk has answered the question, or there is a reason why it gets no other answer.
    Verdict(Verdict),
    /// The token has its new status.
    Changed,
}

/// Takes the answers to questions that came over NATS.
#[derive(Debug, Clone)]
pub struct Answers {
    sender: mpsc::Sender<(u64, Answer)>,
    changed: Arc<Notify>,
}

impl Answers {
    /// Takes the clerk's answer to the question of that number; never waits.
    pub fn give(&self, ask: u64, verdict: Verdict) {
        self.send(ask, Answer::Verdict(verdict));
    }

    /// Takes what has become of a transition; never waits.
    pub fn give_change(&self, ask: u64, changed: Result<(), Rejection>) {
        self.send(
            ask,
            match changed {
                Ok(()) => Answer::Changed,
                Err(rejection) => Answer::Verdict(Verdict::Rejected(rejection)),
            },
        );
    }

    fn send(&self, ask: u64, answer: Answer) {
        // There is room for the answer to every question that may be waiting. The control thread
        // may have ended.
        let _ = self.sender.try_send((ask, answer));
        self.changed.notify_one();
    }
}

/// Where the answers come out.
#[derive(Debug)]
pub struct AnswersTaken {
    receiver: mpsc::Receiver<(u64, Answer)>,
    answers: Answers,
}

/// The way of answers from a clerk's threads to the control thread.
#[must_use]
pub fn answers() -> (Answers, AnswersTaken) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    let answers = Answers { sender, changed: Arc::default() };
    (answers.clone(), AnswersTaken { receiver, answers })
}

/// What it takes to serve others.
pub struct Service {
    /// Who answers. He gives his answers to tickets of [`OVER_NATS`] to [`Answers`].
    pub clerk: Arc<dyn Clerk>,
    /// Where the answers come out.
    pub answers: AnswersTaken,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

/// A question that awaits its answer.
#[derive(Debug)]
struct Waiting {
    asked: Asked,
    reply_to: Box<str>,
    correlation_id: Box<str>,
}

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Nobody wants the answer.
    NoReplyTo,
    /// It came too late.
    Expired,
    /// It cannot be read.
    Malformed(AvroError),
}

/// See the module's documentation.
pub struct Server {
    clerk: Arc<dyn Clerk>,
    default_tenant: Box<str>,
    /// Where transitions of tokens go.
    transitions: mpsc::Sender<Transition>,
    waiting: HashMap<u64, Waiting>,
    next_ask: u64,
}

/// What a request wants.
enum Wish {
    /// An answer of the clerk's.
    Verdict(Question),
    /// Another status for a token.
    Transition { app: Box<str>, token: Secret, target_status: Box<str> },
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

/// What is subscribed to, each with the queue group that spreads the questions over replicas.
pub fn subscriptions(settings: &Settings) -> Vec<(String, String, Asked)> {
    let auth = &settings.ringgate.auth;
    let (ecap, cap) = (&auth.ecap_instance, &auth.cap_instance);
    [
        (ecap, subjects::ecap::TOKEN_REQUEST, Asked::Token),
        (ecap, subjects::ecap::TOKEN_STATUS_REQUEST, Asked::TokenStatus),
        (ecap, subjects::ecap::BASIC_REQUEST, Asked::EcapBasic),
        (ecap, subjects::ecap::CERTIFICATE_REQUEST, Asked::EcapCertificate),
        (cap, subjects::cap::BASIC_REQUEST, Asked::CapBasic),
        (cap, subjects::cap::CERTIFICATE_REQUEST, Asked::CapCertificate),
    ]
    .into_iter()
    .map(|(instance, message, asked)| {
        (subjects::service(instance, message), instance.clone(), asked)
    })
    .collect()
}

impl Server {
    /// Nobody has asked yet. `default_tenant` is that of user names without `@`; tokens get another
    /// status by `transitions`.
    pub fn new(
        clerk: Arc<dyn Clerk>,
        default_tenant: &str,
        transitions: mpsc::Sender<Transition>,
    ) -> Self {
        let default_tenant = default_tenant.into();
        Self { clerk, default_tenant, transitions, waiting: HashMap::new(), next_ask: 0 }
    }

    /// Takes a request. Returns the reply if there is one at once: subject and datum.
    ///
    /// # Errors
    /// Why it gets none.
    pub fn request(
        &mut self,
        asked: Asked,
        reply_to: Option<&str>,
        datum: &[u8],
        now_ms: i64,
    ) -> Result<Option<(String, Bytes)>, Ignored> {
        let reply_to = reply_to.ok_or(Ignored::NoReplyTo)?;
        let (header, wish) = self.read(asked, datum).map_err(Ignored::Malformed)?;
        if header.expired(now_ms) {
            return Err(Ignored::Expired);
        }
        let waiting = Waiting {
            asked,
            reply_to: reply_to.into(),
            correlation_id: header.correlation_id.into(),
        };
        let refused = match wish {
            Ok(_) if self.waiting.len() >= REQUESTS_MAX => Rejection::new(503, BUSY),
            Ok(wish) => {
                self.next_ask += 1;
                if self.hand_on(self.next_ask, wish).is_ok() {
                    self.waiting.insert(self.next_ask, waiting);
                    return Ok(None);
                }
                Rejection::new(503, BUSY)
            }
            Err(rejection) => rejection,
        };
        Ok(Some(reply(&waiting, &Answer::Verdict(Verdict::Rejected(refused)), now_ms)))
    }

    fn hand_on(&self, ask: u64, wish: Wish) -> Result<(), Busy> {
        match wish {
            Wish::Verdict(question) => self.clerk.ask(Ticket { shard: OVER_NATS, ask }, question),
            Wish::Transition { app, token, target_status } => {
                let transition = Transition { ask, app, token, target_status };
                self.transitions.try_send(transition).map_err(|_| Busy)
            }
        }
    }

    /// The request's header, and what it wants or why it cannot get that.
    fn read<'a>(
        &self,
        asked: Asked,
        datum: &'a [u8],
    ) -> Result<(Header<'a>, Result<Wish, Rejection>), AvroError> {
        let (header, question) = match asked {
            Asked::Token => {
                let request = ecap::EndpointTokenValidationRequest::decode(datum)?;
                let (app, token) = (request.app_name.into(), Secret::new(request.token));
                (request.header, Ok(Question::Token { app, token }))
            }
            Asked::TokenStatus => {
                let request = ecap::EndpointTokenStatusTransitionRequest::decode(datum)?;
                let (app, token) = (request.app_name.into(), Secret::new(request.token));
                let target_status = request.target_status.into();
                let transition = Wish::Transition { app, token, target_status };
                return Ok((request.header, Ok(transition)));
            }
            Asked::EcapBasic => {
                let request = ecap::ClientUsernamePasswordValidationRequest::decode(datum)?;
                (request.header, self.basic(request.username, request.password))
            }
            Asked::EcapCertificate => {
                let request = ecap::ClientCertificateValidationRequest::decode(datum)?;
                (request.header, Ok(certificate(request.issuer, request.serial_number)))
            }
            Asked::CapBasic => {
                let request = cap::ClientBasicAuthenticationRequest::decode(datum)?;
                let question = Question::Basic {
                    tenant: request.tenant_id.into(),
                    username: request.username.into(),
                    password: Secret::new(request.password),
                };
                (request.header, Ok(question))
            }
            Asked::CapCertificate => {
                let request = cap::ClientCertificateAuthenticationRequest::decode(datum)?;
                (request.header, Ok(certificate(request.issuer, request.serial_number)))
            }
        };
        Ok((header, question.map(Wish::Verdict)))
    }

    /// 16/ECAP knows no tenants: the user name has its own behind the last `@`, as in MQTT.
    fn basic(&self, username: Option<&str>, password: Option<&str>) -> Result<Question, Rejection> {
        let username = username.ok_or_else(|| Rejection::new(401, "no user name"))?;
        let (username, tenant) =
            username.rsplit_once('@').unwrap_or((username, &self.default_tenant));
        Ok(Question::Basic {
            tenant: tenant.into(),
            username: username.into(),
            password: Secret::new(password.unwrap_or_default()),
        })
    }

    /// There is an answer: the reply, as subject and datum, if the request is known.
    pub fn answered(&mut self, ask: u64, answer: &Answer, now_ms: i64) -> Option<(String, Bytes)> {
        let waiting = self.waiting.remove(&ask)?;
        Some(reply(&waiting, answer, now_ms))
    }
}

impl AnswersTaken {
    /// The next answer, if one has come.
    pub fn try_next(&mut self) -> Option<(u64, Answer)> {
        self.receiver.try_recv().ok()
    }

    /// Is notified when an answer has come.
    pub fn changed(&self) -> Arc<Notify> {
        self.answers.changed.clone()
    }

    /// Where answers go in.
    pub fn answers(&self) -> Answers {
        self.answers.clone()
    }
}

const BUSY: &str = "too many questions are waiting";

fn certificate(issuer: &str, serial_number: &str) -> Question {
    let name = CertificateName { issuer: issuer.into(), serial: serial_number.into() };
    // Neither protocol has a place for more.
    Question::Certificate { name, details: None }
}

fn reply(waiting: &Waiting, answer: &Answer, now_ms: i64) -> (String, Bytes) {
    let correlation_id = &*waiting.correlation_id;
    let header = Header { correlation_id, timestamp_ms: now_ms, timeout_ms: 0 };
    let (mut status_code, mut reason_phrase) = (200, None);
    let (mut endpoint, mut client) = (None, None);
    match answer {
        Answer::Verdict(Verdict::Endpoint(grant)) => endpoint = Some(grant),
        Answer::Verdict(Verdict::Client(grant)) => client = Some(grant),
        Answer::Verdict(Verdict::Rejected(rejection)) => {
            (status_code, reason_phrase) = (rejection.status_code, rejection.reason.as_deref());
        }
        Answer::Changed => {}
    }
    let tenant_id = client.map(|grant| &*grant.tenant);
    let credentials_id = client.and_then(|grant| grant.credentials_id.as_deref());
    let client_id = client.and_then(|grant| grant.client_id.as_deref());
    let mut out = Vec::new();
    match waiting.asked {
        Asked::Token => ecap::EndpointTokenValidationResponse {
            header,
            token_id: endpoint.and_then(|grant| grant.token_id.as_deref()),
            endpoint_id: endpoint.map(|grant| &*grant.endpoint_id),
            status_code,
            reason_phrase,
        }
        .encode(&mut out),
        Asked::TokenStatus => {
            ecap::EndpointTokenStatusTransitionResponse { header, status_code, reason_phrase }
                .encode(&mut out);
        }
        Asked::EcapBasic | Asked::EcapCertificate => ecap::ClientValidationResponse {
            header,
            credential_id: credentials_id,
            client_id,
            status_code,
            reason_phrase,
        }
        .encode(&mut out),
        Asked::CapBasic => cap::ClientBasicAuthenticationResponse {
            header,
            credentials_id,
            client_id,
            status_code,
            reason_phrase,
        }
        .encode(&mut out),
        Asked::CapCertificate => cap::ClientCertificateAuthenticationResponse {
            header,
            tenant_id,
            credentials_id,
            client_id,
            status_code,
            reason_phrase,
        }
        .encode(&mut out),
    }
    (waiting.reply_to.to_string(), out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Busy, ClientGrant, EndpointGrant};
    use std::sync::Mutex;

    /// Writes down what he is asked.
    #[derive(Default)]
    struct Notes {
        asked: Mutex<Vec<(Ticket, Question)>>,
        is_busy: bool,
    }

    impl Clerk for Notes {
        fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy> {
            if self.is_busy {
                return Err(Busy);
            }
            self.asked.lock().expect("unharmed").push((ticket, question));
            Ok(())
        }
    }

    const HEADER: Header<'static> =
        Header { correlation_id: "c", timestamp_ms: 100, timeout_ms: 50 };

    fn server(is_busy: bool) -> (Server, Arc<Notes>) {
        let notes = Arc::new(Notes { is_busy, ..Notes::default() });
        (Server::new(notes.clone(), "default", mpsc::channel(1).0), notes)
    }

    fn token_request() -> Vec<u8> {
        let mut datum = Vec::new();
        ecap::EndpointTokenValidationRequest { header: HEADER, app_name: "app", token: "tok" }
            .encode(&mut datum);
        datum
    }

    fn basic_request(username: Option<&str>) -> Vec<u8> {
        let mut datum = Vec::new();
        let password = Some("p");
        ecap::ClientUsernamePasswordValidationRequest { header: HEADER, username, password }
            .encode(&mut datum);
        datum
    }

    #[test]
    fn a_question_is_answered_where_and_as_it_asks() {
        let (mut server, notes) = server(false);
        let taken = server.request(Asked::Token, Some("inbox"), &token_request(), 120);
        assert_eq!(taken, Ok(None));
        let (ticket, question) = notes.asked.lock().expect("unharmed").remove(0);
        assert_eq!(ticket.shard, OVER_NATS);
        let token = Secret::new("tok");
        assert_eq!(question, Question::Token { app: "app".into(), token });
        let good = Answer::Verdict(Verdict::Endpoint(EndpointGrant {
            endpoint_id: "e1".into(),
            token_id: Some("t1".into()),
        }));
        let (subject, datum) = server.answered(ticket.ask, &good, 130).expect("a reply");
        assert_eq!(subject, "inbox");
        let reply = ecap::EndpointTokenValidationResponse::decode(&datum).expect("a datum");
        assert_eq!((reply.header.correlation_id, reply.header.timestamp_ms), ("c", 130));
        assert_eq!((reply.token_id, reply.endpoint_id), (Some("t1"), Some("e1")));
        assert_eq!((reply.status_code, reply.reason_phrase), (200, None));
        assert_eq!(server.answered(ticket.ask, &good, 130), None, "once");
    }

    #[test]
    fn the_tenant_of_an_ecap_client_stands_behind_the_last_at_sign() {
        let (mut server, notes) = server(false);
        for (given, expected) in
            [("u", ("u", "default")), ("u@t", ("u", "t")), ("u@v@t", ("u@v", "t"))]
        {
            let datum = basic_request(Some(given));
            server.request(Asked::EcapBasic, Some("inbox"), &datum, 100).expect("taken");
            let (ticket, question) = notes.asked.lock().expect("unharmed").remove(0);
            let Question::Basic { tenant, username, password } = question else { panic!() };
            assert_eq!((&*username, &*tenant), expected);
            assert_eq!(password.expose(), "p");
            let good = Answer::Verdict(Verdict::Client(ClientGrant {
                tenant,
                credentials_id: Some("id".into()),
                client_id: None,
            }));
            let (_, datum) = server.answered(ticket.ask, &good, 130).expect("a reply");
            let reply = ecap::ClientValidationResponse::decode(&datum).expect("a datum");
            assert_eq!((reply.credential_id, reply.status_code), (Some("id"), 200));
        }
        let nobody = server.request(Asked::EcapBasic, Some("inbox"), &basic_request(None), 100);
        let (_, datum) = nobody.expect("taken").expect("refused at once");
        assert_eq!(ecap::ClientValidationResponse::decode(&datum).expect("ours").status_code, 401);
    }

    #[test]
    fn a_request_that_nobody_waits_for_any_more_is_not_asked_about() {
        let (mut server, notes) = server(false);
        let datum = token_request();
        let now_ms = 100;
        let mut request =
            |reply_to, datum: &[u8], now_ms| server.request(Asked::Token, reply_to, datum, now_ms);
        assert_eq!(request(None, &datum, now_ms), Err(Ignored::NoReplyTo));
        assert_eq!(request(Some("inbox"), &datum, 151), Err(Ignored::Expired));
        assert!(matches!(request(Some("inbox"), &datum[1..], 100), Err(Ignored::Malformed(_))));
        assert!(notes.asked.lock().expect("unharmed").is_empty());
    }

    #[test]
    fn who_cannot_be_served_is_told_at_once() {
        let (mut busy, _) = server(true);
        let reply = busy.request(Asked::Token, Some("inbox"), &token_request(), 100);
        let (_, datum) = reply.expect("taken").expect("a reply");
        let reply = ecap::EndpointTokenValidationResponse::decode(&datum).expect("ours");
        assert_eq!(reply.status_code, 503);
        assert!(busy.waiting.is_empty());
    }

    #[test]
    fn a_transition_is_handed_on_as_it_was_asked_for_and_answered_by_what_became_of_it() {
        let (sender, mut transitions) = mpsc::channel(1);
        let mut server = Server::new(Arc::new(Notes::default()), "default", sender);
        let mut datum = Vec::new();
        ecap::EndpointTokenStatusTransitionRequest {
            header: HEADER,
            app_name: "app",
            token: "tok",
            target_status: "SUSPENDED",
        }
        .encode(&mut datum);
        let status_of = |(subject, datum): (String, Bytes)| {
            let reply = ecap::EndpointTokenStatusTransitionResponse::decode(&datum).expect("ours");
            assert_eq!((subject.as_str(), reply.header.correlation_id), ("inbox", "c"));
            (reply.status_code, reply.reason_phrase.map(str::to_owned))
        };
        let conflict = Answer::Verdict(Verdict::Rejected(Rejection::new(409, "why")));
        for (answer, expected) in
            [(Answer::Changed, (200, None)), (conflict, (409, Some("why".to_owned())))]
        {
            let mut request = || server.request(Asked::TokenStatus, Some("inbox"), &datum, 100);
            assert_eq!(request(), Ok(None));
            let busy = request().expect("taken").expect("refused at once: there is no room");
            assert_eq!(status_of(busy).0, 503);
            let transition = transitions.try_recv().expect("handed on");
            let (app, target_status) = ("app".into(), "SUSPENDED".into());
            let (ask, token) = (transition.ask, Secret::new("tok"));
            assert_eq!(transition, Transition { ask, app, token, target_status });
            assert_eq!(status_of(server.answered(ask, &answer, 130).expect("a reply")), expected);
        }
        assert!(server.waiting.is_empty());
    }
}
