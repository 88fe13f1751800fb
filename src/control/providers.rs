//! What the control thread does for the providers of credentials within this process: it manages
//! their store over REST, tells of what changes there, answers other gateways, and asks a service
//! behind HTTP.

use super::http_provider::HttpProvider;
use super::serve::Service;
use super::switchboard::{LATE_PAUSE, Switchboard};
use crate::admin::{Change, CredentialsApi};
use crate::auth::{Ticket, Verdict};
use crate::shard::mail::Mail;
use std::cell::RefCell;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// Changes of the store that wait for the control thread; while so many do, requests that change
/// something wait too.
pub const CHANGES_MAX: usize = 1_024;

/// See the module's documentation. Each part may be absent.
#[derive(Debug, Default)]
pub struct Providers {
    /// The management of the store, and what it says of changes.
    pub store: Option<(CredentialsApi, mpsc::Receiver<Change>)>,
    /// Answers other gateways from the store.
    pub service: Option<Service>,
    /// Asks a service behind HTTP.
    pub http: Option<HttpProvider>,
}

/// Tells the shards, and whoever else is to know, of what changes in the store, for ever.
pub(super) async fn tell_changes(
    changes: Option<mpsc::Receiver<Change>>,
    switchboard: &RefCell<Switchboard>,
) -> Infallible {
    if let Some(mut changes) = changes {
        while let Some(change) = changes.recv().await {
            while !switchboard.borrow().takes_changes() {
                tokio::time::sleep(LATE_PAUSE).await;
            }
            match change {
                Change::Revoked(revocation) => switchboard.borrow_mut().revoke_own(revocation),
                Change::Enforcement { tenant, demands } => {
                    let mail = || Mail::Enforcement { tenant: tenant.as_str().into(), demands };
                    switchboard.borrow_mut().post_to_all(mail);
                }
            }
        }
    }
    std::future::pending().await
}

/// Asks the service behind HTTP, for ever.
pub(super) async fn ask_over_http(
    provider: Option<HttpProvider>,
    switchboard: &RefCell<Switchboard>,
) -> Infallible {
    if let Some(provider) = provider {
        let reply = |ticket: Ticket, verdict: Verdict| {
            let mail = Mail::Answered { ask: ticket.ask, verdict };
            // A shard whose mailbox is full asks again.
            let _ = switchboard.borrow().post(ticket.shard, mail);
        };
        provider.run(reply).await;
    }
    std::future::pending().await
}
