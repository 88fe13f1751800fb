//! Who a client is: asked at CONNECT, before its client id is looked at, so that nobody takes over
//! what is another's.

use std::net::IpAddr;

use super::asks::Purpose;
use super::clients::Client;
use super::connection::{Entering, Hold, Life};
use super::core::Core;
use super::correlation::ConnectionKey;
use crate::auth::{Method, Provider, Question, Rejection, Verdict};
use crate::config::Secret;
use crate::session::{Hello, Login, Refused};
use crate::tls::PeerCertificate;

/// What a CONNECT says of who the client is.
enum Proof {
    /// Nothing that a provider could be asked about.
    None,
    /// What a provider can be asked about.
    Offered(Offer),
    /// What can be no credentials.
    Bad,
}

/// Proof that is offered.
struct Offer {
    /// For the provider.
    question: Question,
    /// The user name as it came; empty for a certificate.
    username: Box<str>,
    /// The only tenant the client may be of, if its certificate says so.
    tenant: Option<Box<str>>,
}

impl Core {
    /// A CONNECT has been taken: lets the client in, or asks first who it is.
    pub(super) fn log_in(&mut self, index: u32, mut hello: Hello) {
        let login = hello.login.take();
        match self.proof(index, login) {
            Proof::None => self.enter(index, &hello),
            Proof::Offered(offer) => self.ask_who(index, hello, offer),
            Proof::Bad => self.refuse(index, Refused::BadCredentials),
        }
    }

    fn proof(&mut self, index: u32, login: Option<Login>) -> Proof {
        let entering = self.connections[index as usize].entering.take();
        let certificate = match entering.map(|entering| *entering) {
            Some(Entering::Presenting(certificate)) => Some(certificate),
            _ => None,
        };
        match (certificate, login) {
            _ if self.settings.auth.client_provider == Provider::Trustful => Proof::None,
            (Some(PeerCertificate { name, details, tenant }), _) => {
                // Only a service behind HTTP has a place for more than the name.
                let is_told = self.settings.auth.client_provider == Provider::Http;
                let details = is_told.then_some(details);
                let question = Question::Certificate { name, details };
                Proof::Offered(Offer { question, username: Box::default(), tenant })
            }
            (None, None) => Proof::None,
            (None, Some(Login { username, password })) => {
                let username = username.unwrap_or_default();
                let password = String::from_utf8(password.unwrap_or_default().into()).ok();
                let question = password.and_then(|password| {
                    basic_question(&username, password, &self.settings.auth.default_tenant)
                });
                question.map_or(Proof::Bad, |question| {
                    Proof::Offered(Offer { question, username, tenant: None })
                })
            }
        }
    }

    fn ask_who(&mut self, index: u32, hello: Hello, offer: Offer) {
        let Offer { question, username, tenant } = offer;
        let address = self.connections[index as usize].address().map(|address| address.ip());
        let connection = self.connections[index as usize].key(index);
        if let Some(client) = self.logins.find(&question, self.now.ms) {
            return self.proven(connection, client, tenant.as_deref(), &hello);
        }
        if !self.throttle.try_now(address, &username, self.now.ms) {
            self.log_refused(address, &username, "too many failed attempts");
            return self.refuse(index, Refused::TooManyAttempts);
        }
        let purpose = Purpose::Login { connection, username: username.clone(), address };
        let provider = self.settings.auth.client_provider;
        if self.ask(purpose, question, provider).is_some() {
            let connection = &mut self.connections[index as usize];
            connection.hold = Hold::Entering;
            connection.entering = Some(Box::new(Entering::Asking { hello, tenant }));
            self.touch(index);
        } else {
            self.throttle.forgive(address, &username);
            self.refuse(index, Refused::Unavailable);
        }
    }

    /// It is known who a client is, or that nobody can tell.
    pub(super) fn login_answered(
        &mut self,
        key: ConnectionKey,
        username: &str,
        address: Option<IpAddr>,
        question: &Question,
        verdict: Verdict,
    ) {
        let verdict = match (verdict, question) {
            (Verdict::Client(grant), Question::Certificate { .. }) => {
                Ok(Client { grant, method: Method::Certificate })
            }
            (Verdict::Client(grant), _) => Ok(Client { grant, method: Method::Basic }),
            (Verdict::Rejected(rejection), _) => Err(rejection),
            (Verdict::Endpoint(_), _) => Err(Rejection::new(502, "not an answer about a client")),
        };
        let who = || match question {
            Question::Certificate { name, .. } => {
                format!("certificate {} of {}", name.serial, name.issuer)
            }
            _ => username.to_owned(),
        };
        match &verdict {
            Ok(client) => {
                let until_ms = self.now.ms + self.settings.auth.login_ttl_ms;
                self.logins.remember(question, client, until_ms);
            }
            Err(rejection) if !rejection.is_passing() => {
                self.throttle.failed(address, username, self.now.ms);
                self.log_refused(address, &who(), "its credentials are not good");
            }
            Err(_) => self.log_refused(address, &who(), "nobody can say who it is"),
        }
        if verdict.as_ref().err().is_none_or(Rejection::is_passing) {
            self.throttle.forgive(address, username);
        }
        self.guard(key.index, |core| core.conclude_login(key, verdict));
    }

    fn conclude_login(&mut self, key: ConnectionKey, verdict: Result<Client, Rejection>) {
        if self.find(key).is_none_or(|connection| connection.life != Life::Open) {
            return;
        }
        let connection = &mut self.connections[key.index as usize];
        let (hello, tenant) = match connection.entering.take().map(|entering| *entering) {
            Some(Entering::Asking { hello, tenant }) => (hello, tenant),
            other => {
                connection.entering = other.map(Box::new);
                return;
            }
        };
        match verdict {
            Ok(client) => {
                self.proven(key, client, tenant.as_deref(), &hello);
                let connection = &self.connections[key.index as usize];
                if connection.life == Life::Open && connection.entering.is_none() {
                    self.resume(key.index);
                }
            }
            Err(rejection) => self.refuse(key.index, refused(&rejection)),
        }
    }

    /// A client has proven who it is; `tenant` is the only one it may be of, if there is one.
    fn proven(&mut self, key: ConnectionKey, client: Client, tenant: Option<&str>, hello: &Hello) {
        if tenant.is_some_and(|tenant| *tenant != *client.grant.tenant) {
            let address = self.connections[key.index as usize].address();
            let why = "its certificate is of another tenant's authority";
            self.log_refused(address.map(|address| address.ip()), "", why);
            return self.refuse(key.index, Refused::NotAuthorized);
        }
        self.counters.clients_authenticated.add(1);
        let client = self.clients.join(client, key);
        self.connections[key.index as usize].client = Some(client);
        self.enter(key.index, hello);
    }

    fn log_refused(&mut self, address: Option<IpAddr>, username: &str, why: &str) {
        if let Some(suppressed) = self.log_login.allow(self.now.ms) {
            let address = address.map_or_else(|| "unknown".to_owned(), |a| a.to_string());
            tracing::warn!(
                shard = self.number,
                peer = address,
                username,
                why,
                suppressed,
                "client refused"
            );
        }
    }
}

/// `user@tenant`, split at the last `@`: a user name may have one itself.
fn basic_question(username: &str, password: String, default_tenant: &str) -> Option<Question> {
    let (name, tenant) = username.rsplit_once('@').unwrap_or((username, default_tenant));
    let is_good = !name.is_empty() && !tenant.is_empty();
    is_good.then(|| Question::Basic {
        tenant: tenant.into(),
        username: name.into(),
        password: Secret::new(password),
    })
}

/// How a client is told.
fn refused(rejection: &Rejection) -> Refused {
    match rejection.status_code {
        400 | 401 | 404 => Refused::BadCredentials,
        429 => Refused::TooManyAttempts,
        _ if rejection.is_passing() => Refused::Unavailable,
        _ => Refused::NotAuthorized,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_is_what_follows_the_last_at_sign() {
        let split = |username| match basic_question(username, "p".to_owned(), "default") {
            Some(Question::Basic { tenant, username, .. }) => Some((username, tenant)),
            _ => None,
        };
        let expect = |name: &str, tenant: &str| Some((name.into(), tenant.into()));
        assert_eq!(split("user@acme"), expect("user", "acme"));
        assert_eq!(split("user@mail@acme"), expect("user@mail", "acme"));
        assert_eq!(split("user"), expect("user", "default"));
        for bad in ["", "@acme", "user@", "@"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_client_is_told_whether_to_try_again() {
        for (status_code, expected) in [
            (401, Refused::BadCredentials),
            (404, Refused::BadCredentials),
            (403, Refused::NotAuthorized),
            (409, Refused::NotAuthorized),
            (429, Refused::TooManyAttempts),
            (500, Refused::Unavailable),
            (504, Refused::Unavailable),
        ] {
            assert_eq!(refused(&Rejection::new(status_code, "")), expected, "{status_code}");
        }
    }
}
