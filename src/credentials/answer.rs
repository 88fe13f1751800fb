//! Answers the questions of the shards.
//!
//! A verdict and a management operation that contradicts it never cross: an answer is given to its
//! receiver while no operation can change the store, so that whoever hears of a revocation after
//! the operation has heard all good verdicts from before it.

use super::record::{BasicCredentials, CertificateCredentials, EndpointToken, Kind, Record};
use super::refused::Refused;
use super::state::State;
use super::store::{Stored, Use};
use super::timestamp::Timestamp;
use super::{Inner, LAST_USE_INTERVAL_MS, password, token_hash};
use crate::auth::{ClientGrant, EndpointGrant, Question, Rejection, Verdict};
use std::sync::PoisonError;

/// What a question has proven before its record is looked at for good.
enum Proof {
    /// The secret is that of these credentials, as they were read.
    Of { kind: Kind, id: String, kept: String },
    /// Nothing.
    None(Rejection),
}

/// What is to be told, and noted if it is good.
struct Finding {
    verdict: Verdict,
    used: Option<Use>,
    activates: bool,
}

impl Inner {
    /// Answers questions, each by its place among them. Slow things come first, then all verdicts
    /// are given together; one transaction notes all uses.
    pub(super) fn answer(&self, questions: &[Question], give: &mut dyn FnMut(usize, Verdict)) {
        let proofs: Vec<Proof> = questions.iter().map(|question| self.prove(question)).collect();
        let _no_change = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let now = (self.clock)();
        let mut findings: Vec<Finding> =
            proofs.into_iter().map(|proof| self.find(proof, now)).collect();
        let uses: Vec<Use> =
            findings.iter_mut().filter_map(|finding| finding.used.take()).collect();
        if !uses.is_empty() {
            let is_urgent = findings.iter().any(|finding| finding.activates);
            if let Err(refused) = self.store.note_uses(&uses, is_urgent) {
                tracing::error!("uses of credentials could not be noted: {refused}");
                for finding in findings.iter_mut().filter(|finding| finding.activates) {
                    finding.verdict = nobody_knows();
                }
            }
        }
        for (place, finding) in findings.into_iter().enumerate() {
            give(place, finding.verdict);
        }
    }

    /// Finds whose the secret is: hashes it, which takes a while for a password.
    fn prove(&self, question: &Question) -> Proof {
        let proof = match question {
            Question::Token { app, token } => {
                let hash = token_hash(token);
                self.proof::<EndpointToken>((app, &hash))
            }
            Question::Basic { tenant, username, password } => {
                self.prove_password((tenant, username), password.expose())
            }
            Question::Certificate { name, .. } => {
                self.proof::<CertificateCredentials>((&name.issuer, &name.serial))
            }
        };
        proof.unwrap_or_else(|refused| {
            tracing::error!("a question about credentials could not be answered: {refused}");
            Proof::None(Rejection::new(503, FAILED))
        })
    }

    fn proof<R: Record>(&self, name: (&str, &str)) -> Result<Proof, Refused> {
        let proof = self.store.find::<R>(name)?.map(|Stored { record, kept }| {
            let id = record.life().id.clone();
            Proof::Of { kind: R::KIND, id, kept }
        });
        Ok(proof.unwrap_or_else(|| Proof::None(unknown(R::KIND))))
    }

    /// The same words, and the same work, for a wrong password and an unknown user.
    fn prove_password(&self, name: (&str, &str), given: &str) -> Result<Proof, Refused> {
        let wrong = Proof::None(unknown(Kind::Basic));
        let Some(stored) = self.store.find::<BasicCredentials>(name)? else {
            password::is_of(given, &self.nobodys_password)?;
            return Ok(wrong);
        };
        if !password::is_of(given, &stored.kept)? {
            return Ok(wrong);
        }
        Ok(Proof::Of { kind: Kind::Basic, id: stored.record.life.id, kept: stored.kept })
    }

    /// Looks whether the credentials are good, still with the secret that was proven.
    fn find(&self, proof: Proof, now: Timestamp) -> Finding {
        let (kind, id, kept) = match proof {
            Proof::Of { kind, id, kept } => (kind, id, kept),
            Proof::None(rejection) => return Finding::bad(rejection),
        };
        let finding = match kind {
            Kind::Token => self.judge::<EndpointToken>(&id, &kept, now, |token| {
                Verdict::Endpoint(EndpointGrant {
                    endpoint_id: token.endpoint_id.into(),
                    token_id: Some(token.life.id.into()),
                })
            }),
            Kind::Basic => self.judge::<BasicCredentials>(&id, &kept, now, |basic| {
                Verdict::Client(ClientGrant {
                    tenant: basic.tenant_id.into(),
                    credentials_id: Some(basic.life.id.into()),
                    client_id: Some(basic.username.into()),
                })
            }),
            Kind::Certificate => {
                self.judge::<CertificateCredentials>(&id, &kept, now, |certificate| {
                    Verdict::Client(ClientGrant {
                        tenant: certificate.tenant_id.into(),
                        credentials_id: Some(certificate.life.id.into()),
                        client_id: Some(certificate.common_name.into()),
                    })
                })
            }
        };
        finding.unwrap_or_else(|refused| {
            tracing::error!("a question about credentials could not be answered: {refused}");
            Finding::bad(Rejection::new(503, FAILED))
        })
    }

    fn judge<R: Record>(
        &self,
        id: &str,
        kept: &str,
        now: Timestamp,
        grant: impl FnOnce(R) -> Verdict,
    ) -> Result<Finding, Refused> {
        let stored = self.store.get::<R>(id)?.filter(|stored| stored.kept == kept);
        let Some(stored) = stored else {
            return Ok(Finding::bad(unknown(R::KIND)));
        };
        let life = stored.record.life();
        let activates = match life.state {
            State::Inactive => true,
            State::Active => false,
            State::Suspended => return Ok(Finding::bad(rejection(R::KIND, "suspended"))),
            State::Revoked => return Ok(Finding::bad(rejection(R::KIND, "revoked"))),
        };
        let is_stale = life.last_use_date.is_none_or(|last| {
            // A clock that was set back must not stop the notes.
            now.ms().abs_diff(last.ms()) >= LAST_USE_INTERVAL_MS
        });
        let used =
            (activates || is_stale).then(|| Use { kind: R::KIND, id: life.id.clone(), at: now });
        Ok(Finding { verdict: grant(stored.record), used, activates })
    }
}

impl Finding {
    fn bad(rejection: Rejection) -> Self {
        Self { verdict: Verdict::Rejected(rejection), used: None, activates: false }
    }
}

const FAILED: &str = "the store of credentials failed";

fn unknown(kind: Kind) -> Rejection {
    match kind {
        Kind::Token => Rejection::new(404, "unknown endpoint token"),
        Kind::Basic => Rejection::new(401, "unknown user name or wrong password"),
        Kind::Certificate => Rejection::new(401, "unknown certificate"),
    }
}

fn rejection(kind: Kind, state: &str) -> Rejection {
    let what = match kind {
        Kind::Token => "the endpoint token is",
        Kind::Basic => "the credentials are",
        Kind::Certificate => "the certificate is",
    };
    Rejection::new(403, &format!("{what} {state}"))
}

/// The verdict when the store or the program has failed.
pub(super) fn nobody_knows() -> Verdict {
    Verdict::Rejected(Rejection::new(503, FAILED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::credentials::tests::TempDir;
    use crate::credentials::{Credentials, Move};

    fn verdict_after(change: impl FnOnce(&Credentials, &str)) -> Verdict {
        let dir = TempDir::new();
        let credentials = Credentials::open(dir.path()).expect("opens");
        let password = Secret::new("p");
        let made = credentials.create_basic("t", "u", Some(password.clone())).expect("creates");
        let question = Question::Basic { tenant: "t".into(), username: "u".into(), password };
        credentials.answer(&question);
        let proof = credentials.inner.prove(&question);
        change(&credentials, &made.record.life.id);
        credentials.inner.find(proof, Timestamp::now()).verdict
    }

    #[test]
    fn what_changes_while_a_password_is_hashed_counts() {
        let basic = |status_code| match status_code {
            401 => Verdict::Rejected(unknown(Kind::Basic)),
            _ => Verdict::Rejected(rejection(Kind::Basic, "revoked")),
        };
        assert!(matches!(verdict_after(|_, _| {}), Verdict::Client(_)));
        let reset = verdict_after(|credentials, id| {
            credentials.reset_password(id, None, None).expect("resets");
        });
        assert_eq!(reset, basic(401));
        let revoked = verdict_after(|credentials, id| {
            credentials.step::<BasicCredentials>(id, Move::Revoke, None).expect("revokes");
        });
        assert_eq!(revoked, basic(403));
        let deleted = verdict_after(|credentials, id| {
            credentials.delete::<BasicCredentials>(id, None).expect("deletes");
        });
        assert_eq!(deleted, basic(401));
    }
}
