//! A model of the provider of credentials: what is good, and a clerk whose answers wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::auth::{Busy, Clerk, ClientGrant, EndpointGrant, Question, Rejection, Ticket, Verdict};

/// Name, tenant and version of each application.
pub const APPS: [(&str, &str, &str); 2] = [("a", "acme", "v1"), ("b", "beta", "w1")];

/// What there is to know of an endpoint token that does not change.
pub struct Token {
    pub text: &'static str,
    /// Its application, by its place in [`APPS`].
    pub app: usize,
    /// Empty: nobody's.
    pub endpoint: &'static str,
    pub id: Option<&'static str>,
}

const fn token(
    text: &'static str,
    app: usize,
    endpoint: &'static str,
    id: Option<&'static str>,
) -> Token {
    Token { text, app, endpoint, id }
}

/// Few, so that they meet: two of one endpoint, one that revocations do not name, one that is
/// nobody's.
pub const TOKENS: [Token; 6] = [
    token("tok0", 0, "e0", Some("t0")),
    token("tok1", 0, "e0", Some("t1")),
    token("tok2", 0, "e1", Some("t2")),
    token("tok3", 1, "f0", Some("t3")),
    token("tok4", 1, "f1", None),
    token("tok5", 0, "", None),
];

/// User name, tenant and id of the credentials of each client.
pub const USERS: [(&str, &str, &str); 3] =
    [("ann", "acme", "c0"), ("bob", "acme", "c1"), ("eve", "beta", "c2")];
/// The password of all of them.
pub const PASSWORD: &str = "right";

/// Where credentials stand with the provider, and what of it has come to the shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    pub is_suspended: bool,
    pub is_revoked: bool,
    /// When the shard last took a revocation; 0: never.
    pub revoked_at: u64,
    /// When the newest of the questions was asked to which the shard has got a true grant; 0:
    /// never.
    pub granted_asked_at: u64,
    /// The shard was told that they are not good.
    pub was_rejected: bool,
}

impl Standing {
    /// Whether the provider grants them.
    pub fn is_good(&self) -> bool {
        !self.is_suspended && !self.is_revoked
    }
}

/// Whose credentials a question is about, by their place in [`TOKENS`] or [`USERS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Token(usize),
    /// With whether the password is right.
    User(usize, bool),
}

/// Whose credentials a question is about.
pub fn subject(question: &Question) -> Subject {
    match question {
        Question::Token { token, .. } => {
            let at = TOKENS.iter().position(|known| known.text == token.expose());
            Subject::Token(at.expect("a token of a device"))
        }
        Question::Basic { username, password, .. } => {
            let at = USERS.iter().position(|(name, ..)| **username == **name);
            Subject::User(at.expect("a known user"), password.expose() == PASSWORD)
        }
        Question::Certificate { .. } => unreachable!("no device has a certificate"),
    }
}

/// A verdict with whether it grants what is really good.
#[derive(Clone, Debug)]
pub struct Thought {
    pub verdict: Verdict,
    pub is_true_grant: bool,
}

/// What the provider says now; a careless one grants everything.
pub fn judge(subject: Subject, standing: &Standing, is_careless: bool) -> Thought {
    let is_known = match subject {
        Subject::Token(at) => !TOKENS[at].endpoint.is_empty(),
        Subject::User(_, is_right) => is_right,
    };
    let is_true_grant = is_known && standing.is_good();
    let verdict = match subject {
        _ if !is_true_grant && !is_careless => {
            Verdict::Rejected(Rejection { status_code: 401, reason: None })
        }
        Subject::Token(at) => Verdict::Endpoint(EndpointGrant {
            endpoint_id: TOKENS[at].endpoint.into(),
            token_id: TOKENS[at].id.map(Into::into),
        }),
        Subject::User(at, _) => {
            let (name, tenant, id) = USERS[at];
            Verdict::Client(ClientGrant {
                tenant: tenant.into(),
                credentials_id: Some(id.into()),
                client_id: Some(name.into()),
            })
        }
    };
    Thought { verdict, is_true_grant }
}

/// A question that has come to the clerk.
pub struct Asked {
    pub number: u64,
    pub subject: Subject,
    pub at: u64,
    /// What the provider has already thought of it: revocations may overtake it.
    pub thought: Option<Thought>,
}

/// The clerk: questions wait on it until the world answers them.
#[derive(Default)]
pub struct Desk {
    pub asked: Mutex<Vec<Asked>>,
    /// The world's time: grows with every event, and with every question.
    pub time: AtomicU64,
    pub is_busy: AtomicBool,
}

impl Desk {
    /// The next moment.
    pub fn next_moment(&self) -> u64 {
        self.time.fetch_add(1, Relaxed) + 1
    }

    /// The questions asked since.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clerk for Desk {
    fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy> {
        if self.is_busy.load(Relaxed) {
            return Err(Busy);
        }
        let asked = Asked {
            number: ticket.ask,
            subject: subject(&question),
            at: self.next_moment(),
            thought: None,
        };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        Ok(())
    }
}
