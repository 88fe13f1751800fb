//! Asking providers of credentials and hearing their answers: over the shard's own NATS link
//! (16/ECAP, 22/CAP), or from the clerks of this process. Every answer ends in
//! [`Core::answered`].

use super::asks::{self, Ask, Due, Next, Purpose, Term};
use super::core::{Address, Core};
use crate::auth::{
    CertificateName, ClientGrant, EndpointGrant, Known, Provider, Question, Rejection, Ticket,
    Verdict,
};
use crate::codec::avro::{Header, cap, ecap};
use crate::codec::subjects;
use crate::config::{Secret, WhenUnavailable};
use crate::session::catalogue::AppId;
use crate::telemetry::AskOutcome;
use crate::uplink::ledger::{self, Tag};

/// Stands for a connection in the tags of questions in the ledger: there are never so many.
pub(super) const ASKER: u32 = u32::MAX - 1;

/// Whom questions over NATS go to, and where their answers come.
#[derive(Debug)]
pub(super) struct AskAddresses {
    ecap_token: Address,
    ecap_basic: Address,
    ecap_certificate: Address,
    cap_basic: Address,
    cap_certificate: Address,
}

impl AskAddresses {
    /// For the shard named `replica` in subjects.
    pub(super) fn new(ecap_instance: &str, cap_instance: &str, replica: &str) -> Self {
        let address = |instance: &str, request: &str, response: &str| {
            let subject = subjects::service(instance, request);
            Address::new(&subject, &subjects::replica(replica, response))
        };
        use subjects::{cap, ecap};
        Self {
            ecap_token: address(ecap_instance, ecap::TOKEN_REQUEST, ecap::TOKEN_RESPONSE),
            ecap_basic: address(ecap_instance, ecap::BASIC_REQUEST, ecap::BASIC_RESPONSE),
            ecap_certificate: address(
                ecap_instance,
                ecap::CERTIFICATE_REQUEST,
                ecap::CERTIFICATE_RESPONSE,
            ),
            cap_basic: address(cap_instance, cap::BASIC_REQUEST, cap::BASIC_RESPONSE),
            cap_certificate: address(
                cap_instance,
                cap::CERTIFICATE_REQUEST,
                cap::CERTIFICATE_RESPONSE,
            ),
        }
    }
}

/// The messages that answer questions, at the end of their subjects.
pub(super) const RESPONSES: [&str; 5] = [
    subjects::ecap::TOKEN_RESPONSE,
    subjects::ecap::BASIC_RESPONSE,
    subjects::ecap::CERTIFICATE_RESPONSE,
    subjects::cap::BASIC_RESPONSE,
    subjects::cap::CERTIFICATE_RESPONSE,
];

/// Which of [`RESPONSES`] comes on a subject, if it is one.
pub(super) fn response_of(subject: &[u8]) -> Option<&'static str> {
    // Nearly everything that comes is not.
    if subject.ends_with(subjects::esp::EXTENSION_DATA.as_bytes()) {
        return None;
    }
    RESPONSES.into_iter().find(|message| subject.ends_with(message.as_bytes()))
}

/// What an answer over NATS says, before it is held against its question.
struct Response<'a> {
    correlation_id: &'a str,
    status_code: i32,
    reason: Option<&'a str>,
    kind: ResponseKind<'a>,
}

enum ResponseKind<'a> {
    Token { endpoint_id: Option<&'a str>, token_id: Option<&'a str> },
    Client { tenant: Option<&'a str>, id: Option<&'a str>, client_id: Option<&'a str> },
}

impl Core {
    /// Asks whose token it is, unless that is being asked already; `None` when too much is.
    pub(super) fn ask_token(&mut self, app: AppId, token: &str) -> Option<u64> {
        if let Some(number) = self.asks.of_token(app, token) {
            return Some(number);
        }
        let provider = self.settings.auth.provider(app);
        let question = Question::Token {
            app: self.catalogue.app(app).name.clone(),
            token: Secret::new(token),
        };
        self.ask(Purpose::Token { app }, question, provider)
    }

    /// Asks a provider; `None` when too much is asked already.
    pub(super) fn ask(
        &mut self,
        purpose: Purpose,
        question: Question,
        provider: Provider,
    ) -> Option<u64> {
        let term = self.asks.term(self.is_patient(&purpose, provider), self.now.ms);
        self.ask_within(term, purpose, question, provider)
    }

    fn ask_within(
        &mut self,
        term: Term,
        purpose: Purpose,
        question: Question,
        provider: Provider,
    ) -> Option<u64> {
        if self.asks.is_full(&purpose) {
            return None;
        }
        let number = self.asks.begin(purpose, question, provider, term, self.now.ms);
        self.attempt(number);
        Some(number)
    }

    /// Makes the next attempt.
    fn attempt(&mut self, number: u64) {
        self.asks.attempted(number, self.now.ms);
        self.counters.asks_made.add(1);
        let Some(ask) = self.asks.get(number) else { return };
        if !ask.provider.is_over_nats() {
            if !self.ask_clerk(number) {
                self.asks.unsent(number, self.now.ms);
            }
        } else if self.link_is_up {
            self.ask_over_nats(number);
        }
        // While the link is down the attempt stands all the same: it is excused once it is up.
    }

    fn ask_clerk(&self, number: u64) -> bool {
        let Some(ask) = self.asks.get(number) else { return false };
        let clerk = match ask.provider {
            Provider::Internal => &self.clerks.internal,
            _ => &self.clerks.http,
        };
        let ticket = Ticket { shard: self.number, ask: number };
        clerk.as_ref().is_some_and(|clerk| clerk.ask(ticket, ask.question.clone()).is_ok())
    }

    fn ask_over_nats(&mut self, number: u64) {
        let Some(mark) = self.asks.sent(number) else { return };
        let Some(ask) = self.asks.get(number) else { return };
        let mut datum = std::mem::take(&mut self.payload_text);
        datum.clear();
        let correlation = correlation(&self.settings.replica, number);
        let header = Header {
            correlation_id: &correlation,
            timestamp_ms: self.now.unix_ms,
            timeout_ms: self.asks.timeout_ms() as i64,
        };
        let address = write_request(ask, header, &self.ask_addresses, &mut datum);
        let tag = Tag {
            connection: ASKER,
            generation: mark,
            packet_id: None,
            qos: 0,
            has_request_id: false,
        };
        let mut size = itoa::Buffer::new();
        let size = size.format(datum.len()).as_bytes();
        let mut ledger = self.ledger.borrow_mut();
        // Also when there is no room: what waits for the answer takes more, and both are bounded.
        ledger.append_again(address.subject, Some(tag), self.now.us, |batch| {
            for part in [&*address.head, size, b"\r\n", &datum, b"\r\n"] {
                batch.extend_from_slice(part);
            }
        });
        drop(ledger);
        // It may have held a password.
        datum.fill(0);
        self.payload_text = datum;
    }

    /// NATS has said what became of a question that was sent: only that nobody was there to hear
    /// it, or that it may not be asked, is news.
    #[cold]
    pub(super) fn ask_outcome(&mut self, tag: Tag, verdict: ledger::Verdict) {
        if verdict == ledger::Verdict::Taken {
            return;
        }
        // Of an attempt that has been given up it says nothing new.
        if let Some(number) = self.asks.marked(tag.generation) {
            self.counters.asked(AskOutcome::NobodyThere);
            self.attempt_failed(number, asks::nobody_there());
        }
    }

    /// A provider's answer has come over NATS.
    pub(super) fn answer_over_nats(&mut self, message: &str, datum: &[u8]) {
        let Some(response) = decode(message, datum) else {
            self.counters.asked(AskOutcome::Malformed);
            return self.log_asking("a credentials service answers what does not decode");
        };
        let number = number_of(&self.settings.replica, response.correlation_id);
        let tenant = &self.settings.auth.default_tenant;
        let verdict = |ask: &Ask| verdict_of(&response, ask, tenant);
        match number.and_then(|number| Some((number, verdict(self.asks.get(number)?)))) {
            Some((number, verdict)) => self.answered(number, verdict),
            None => self.counters.asked(AskOutcome::Late),
        }
    }

    /// A provider has answered, in time or not.
    pub(super) fn answered(&mut self, number: u64, verdict: Verdict) {
        let Some(ask) = self.asks.get(number) else {
            return self.counters.asked(AskOutcome::Late);
        };
        match verdict {
            Verdict::Rejected(rejection) if rejection.is_passing() => {
                self.counters.asked(AskOutcome::Failed);
                self.attempt_failed(number, rejection);
            }
            granted if self.is_doubtful(ask, &granted) => self.ask_anew(number),
            verdict => {
                let outcome = match verdict {
                    Verdict::Rejected(_) => AskOutcome::Rejected,
                    _ => AskOutcome::Granted,
                };
                self.counters.asked(outcome);
                if let Some(ask) = self.asks.finish(number) {
                    self.conclude(number, ask, verdict);
                }
            }
        }
    }

    /// Whether what is granted may have been revoked since it was asked for.
    fn is_doubtful(&self, ask: &Ask, verdict: &Verdict) -> bool {
        let ids = match verdict {
            Verdict::Endpoint(grant) => [grant.token_id.as_deref(), Some(&*grant.endpoint_id)],
            Verdict::Client(grant) => [grant.credentials_id.as_deref(), Some(&*grant.tenant)],
            Verdict::Rejected(_) => return false,
        };
        self.revoked_lately.is_doubtful(&ids, ask.asked_ms)
    }

    /// Asks the same under a new number: no answer to the old one counts any more.
    pub(super) fn ask_anew(&mut self, number: u64) {
        let Some(Ask { purpose, question, provider, term, .. }) = self.asks.finish(number) else {
            return;
        };
        // There is room: one has just gone.
        if let Some(anew) = self.ask_within(term, purpose, question, provider) {
            self.parked.move_to(number, anew);
        }
    }

    fn attempt_failed(&mut self, number: u64, why: Rejection) {
        if let Next::GiveUp(ask) = self.asks.failed(number, self.now.ms) {
            self.give_ask_up(number, *ask, why);
        }
    }

    fn give_ask_up(&mut self, number: u64, ask: Ask, why: Rejection) {
        self.log_asking("a credentials service cannot say who somebody is");
        self.conclude(number, ask, Verdict::Rejected(why));
    }

    /// The end of a question.
    fn conclude(&mut self, number: u64, ask: Ask, verdict: Verdict) {
        match (ask.purpose, verdict) {
            (Purpose::Token { app }, verdict) => {
                let Question::Token { token, .. } = &ask.question else { return };
                let known = self.learn(app, token.expose(), verdict);
                self.release_parked(number, &known);
            }
            (Purpose::Login { connection, username, address }, verdict) => {
                self.login_answered(connection, &username, address, &ask.question, verdict);
            }
        }
    }

    /// Remembers what was said of a token. What nobody could say is not remembered.
    fn learn(&mut self, app: AppId, token: &str, verdict: Verdict) -> Known {
        let auth = &self.settings.auth;
        match verdict {
            Verdict::Endpoint(granted) => {
                let until_ms = self.now.ms + auth.verdict_ttl_ms;
                Known::Good(self.verdicts.granted(app.0, token, granted, until_ms), until_ms)
            }
            Verdict::Rejected(rejection) => {
                if !rejection.is_passing() {
                    let until_ms = self.now.ms + auth.rejection_ttl_ms;
                    self.verdicts.rejected(app.0, token, rejection.clone(), until_ms);
                }
                Known::Bad(rejection.into())
            }
            Verdict::Client(_) => Known::Bad(garbage().into()),
        }
    }

    /// Looks at what has waited long enough. To be called every [`asks::ASK_TICK_MS`] while
    /// anything is asked.
    pub(super) fn asks_due(&mut self) {
        for due in self.asks.due(self.now.ms) {
            match due {
                Due::Again(number) => self.attempt(number),
                Due::TimedOut(number) | Due::Exhausted(number) if self.must_be_patient(number) => {
                    self.asks.excuse(number, self.now.ms);
                }
                // A clerk answers sooner or later: a storm of logins must not grow by itself.
                Due::TimedOut(number)
                    if self.is_with_clerk(number) && self.asks.wait_on(number, self.now.ms) => {}
                Due::TimedOut(number) => {
                    self.counters.asked(AskOutcome::TimedOut);
                    self.attempt_failed(number, asks::timed_out());
                }
                Due::Exhausted(number) => {
                    self.counters.asked(AskOutcome::Failed);
                    self.attempt_failed(number, asks::too_busy());
                }
                Due::Overdue(number) => {
                    self.counters.asked(AskOutcome::TimedOut);
                    if let Some(ask) = self.asks.finish(number) {
                        self.give_ask_up(number, ask, asks::timed_out());
                    }
                }
            }
        }
    }

    fn is_with_clerk(&self, number: u64) -> bool {
        self.asks.get(number).is_some_and(|ask| !ask.provider.is_over_nats())
    }

    /// While NATS is away, messages wait for it, and so do the questions they depend on. A client
    /// that wants in is told instead.
    fn is_patient(&self, purpose: &Purpose, provider: Provider) -> bool {
        self.settings.when_unavailable == WhenUnavailable::Wait
            && provider.is_over_nats()
            && matches!(purpose, Purpose::Token { .. })
    }

    fn must_be_patient(&self, number: u64) -> bool {
        !self.link_is_up && self.asks.get(number).is_some_and(|ask| ask.term.is_patient())
    }

    /// The link is up again: what was asked on the one before, or its answer, may be lost.
    pub(super) fn ask_again_over_nats(&mut self) {
        self.asks.link_up(self.now.ms);
        for number in self.asks.over_nats() {
            self.asks.excuse(number, self.now.ms);
        }
    }

    fn log_asking(&mut self, what: &str) {
        if let Some(suppressed) = self.log_ask.allow(self.now.ms) {
            tracing::warn!(shard = self.number, suppressed, "{what}");
        }
    }
}

/// The correlationId of a question.
fn correlation(replica: &str, number: u64) -> String {
    format!("{replica}-ask-{number:x}")
}

fn number_of(replica: &str, correlation_id: &str) -> Option<u64> {
    let number = correlation_id.strip_prefix(replica)?.strip_prefix("-ask-")?;
    u64::from_str_radix(number, 16).ok()
}

/// Appends the request to `datum`; returns where it goes.
fn write_request<'a>(
    ask: &Ask,
    header: Header<'_>,
    addresses: &'a AskAddresses,
    datum: &mut Vec<u8>,
) -> &'a Address {
    match (&ask.question, ask.provider) {
        (Question::Token { app, token }, _) => {
            let token = token.expose();
            ecap::EndpointTokenValidationRequest { header, app_name: app, token }.encode(datum);
            &addresses.ecap_token
        }
        (Question::Basic { password, .. }, Provider::Ecap) => {
            // It knows no tenants: the user name goes as it came.
            let username = match &ask.purpose {
                Purpose::Login { username, .. } => Some(&**username),
                Purpose::Token { .. } => None,
            };
            let password = Some(password.expose());
            ecap::ClientUsernamePasswordValidationRequest { header, username, password }
                .encode(datum);
            &addresses.ecap_basic
        }
        (Question::Basic { tenant, username, password }, _) => {
            let password = password.expose();
            cap::ClientBasicAuthenticationRequest { header, tenant_id: tenant, username, password }
                .encode(datum);
            &addresses.cap_basic
        }
        (Question::Certificate { name, .. }, Provider::Ecap) => {
            let CertificateName { issuer, serial } = name;
            ecap::ClientCertificateValidationRequest { header, issuer, serial_number: serial }
                .encode(datum);
            &addresses.ecap_certificate
        }
        (Question::Certificate { name, .. }, _) => {
            let CertificateName { issuer, serial } = name;
            cap::ClientCertificateAuthenticationRequest { header, issuer, serial_number: serial }
                .encode(datum);
            &addresses.cap_certificate
        }
    }
}

fn decode<'a>(message: &str, datum: &'a [u8]) -> Option<Response<'a>> {
    if message == subjects::ecap::TOKEN_RESPONSE {
        let answer = ecap::EndpointTokenValidationResponse::decode(datum).ok()?;
        let (endpoint_id, token_id) = (answer.endpoint_id, answer.token_id);
        return Some(Response {
            correlation_id: answer.header.correlation_id,
            status_code: answer.status_code,
            reason: answer.reason_phrase,
            kind: ResponseKind::Token { endpoint_id, token_id },
        });
    }
    if message == subjects::cap::CERTIFICATE_RESPONSE {
        let answer = cap::ClientCertificateAuthenticationResponse::decode(datum).ok()?;
        let (tenant, id, client_id) = (answer.tenant_id, answer.credentials_id, answer.client_id);
        return Some(Response {
            correlation_id: answer.header.correlation_id,
            status_code: answer.status_code,
            reason: answer.reason_phrase,
            kind: ResponseKind::Client { tenant, id, client_id },
        });
    }
    if message == subjects::cap::BASIC_RESPONSE {
        let answer = cap::ClientBasicAuthenticationResponse::decode(datum).ok()?;
        let (id, client_id) = (answer.credentials_id, answer.client_id);
        return Some(Response {
            correlation_id: answer.header.correlation_id,
            status_code: answer.status_code,
            reason: answer.reason_phrase,
            kind: ResponseKind::Client { tenant: None, id, client_id },
        });
    }
    let answer = ecap::ClientValidationResponse::decode(datum).ok()?;
    let (id, client_id) = (answer.credential_id, answer.client_id);
    Some(Response {
        correlation_id: answer.header.correlation_id,
        status_code: answer.status_code,
        reason: answer.reason_phrase,
        kind: ResponseKind::Client { tenant: None, id, client_id },
    })
}

/// What an answer means for the question it is given to.
/// 16/ECAP knows no tenants: who proves himself by a certificate there is of `default_tenant`.
fn verdict_of(response: &Response<'_>, ask: &Ask, default_tenant: &str) -> Verdict {
    let status_code = response.status_code;
    if !(200..300).contains(&status_code) {
        // Nobody can be refused with a status that is none of an error.
        if !(400..600).contains(&status_code) {
            return Verdict::Rejected(garbage());
        }
        let reason = response.reason.map(Into::into);
        return Verdict::Rejected(Rejection { status_code, reason });
    }
    match (&response.kind, &ask.question) {
        (
            ResponseKind::Token { endpoint_id: Some(endpoint_id), token_id },
            Question::Token { .. },
        ) if !endpoint_id.is_empty() => Verdict::Endpoint(EndpointGrant {
            endpoint_id: (*endpoint_id).into(),
            token_id: token_id.map(Into::into),
        }),
        (ResponseKind::Client { tenant, id, client_id }, question) => {
            let tenant = match question {
                Question::Basic { tenant, .. } => Some(&**tenant),
                Question::Certificate { .. } if ask.provider == Provider::Ecap => {
                    Some(default_tenant)
                }
                Question::Certificate { .. } => *tenant,
                Question::Token { .. } => None,
            };
            match tenant {
                Some(tenant) => Verdict::Client(ClientGrant {
                    tenant: tenant.into(),
                    credentials_id: id.map(Into::into),
                    client_id: client_id.map(Into::into),
                }),
                None => Verdict::Rejected(garbage()),
            }
        }
        _ => Verdict::Rejected(garbage()),
    }
}

fn garbage() -> Rejection {
    Rejection::new(502, "the credentials service gave an answer that makes no sense")
}
