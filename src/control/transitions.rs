//! Tokens of our own store that get another status because a service asks for it over NATS
//! (16/ECAP §Endpoint token status transition). It is done where REST does it, so that it has the
//! same effects, off this thread and one after the other.

use super::serve::Answers;
use crate::admin::Desk;
use crate::auth::Rejection;
use crate::config::Secret;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Transitions that wait for their turn. More are answered 503 at once.
pub const TRANSITIONS_MAX: usize = 1_024;

/// A token is to get another status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The number under which the answer is given.
    pub ask: u64,
    /// Name of the application.
    pub app: Box<str>,
    /// Its token.
    pub token: Secret,
    /// The status, as the request names it.
    pub target_status: Box<str>,
}

/// What carries them out.
pub struct Transitions {
    /// What is to be done.
    pub wished: mpsc::Receiver<Transition>,
    /// Where it is done; `None` where there is no store.
    pub desk: Option<Arc<Desk>>,
    /// Where is told what has become of it; `None` where nobody is served, and nothing comes.
    pub answers: Option<Answers>,
}

impl Transitions {
    /// Carries out what comes, for ever.
    pub async fn run(mut self) -> Infallible {
        while let (Some(transition), Some(answers)) = (self.wished.recv().await, &self.answers) {
            let ask = transition.ask;
            answers.give_change(ask, self.carry_out(transition).await);
        }
        std::future::pending().await
    }

    async fn carry_out(&self, transition: Transition) -> Result<(), Rejection> {
        let Some(desk) = self.desk.clone() else {
            return Err(Rejection::new(503, "there is no store of credentials"));
        };
        let Transition { app, token, target_status, .. } = transition;
        let changing = tokio::task::spawn_blocking(move || {
            desk.change_token_status(&app, &token, &target_status)
        });
        changing.await.unwrap_or_else(|_panicked| {
            tracing::error!("a token could not be given another status");
            Err(Rejection::new(500, "the request failed; see the log"))
        })
    }
}
