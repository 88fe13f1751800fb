//! The shard's own connection to NATS: a [`Ledger`] of what is owed and to whom (pure), and a
//! [`Link`] that moves its bytes (tasks on the shard's runtime).
//!
//! One [`Dialer`] per process knows the servers, the credentials and TLS; each shard has a ledger
//! and a link of its own and shares nothing else. This is how a shard drives them:
//!
//! ```no_run
//! # use std::{cell::RefCell, rc::Rc, sync::Arc};
//! # use ringgate::codec::nats::publish_head;
//! # use ringgate::uplink::*;
//! struct Shard { ledger: Rc<RefCell<Ledger>> }
//!
//! impl Handler for Shard {
//!     fn on_up(&self, _payload_bytes_max: usize) { /* read from devices again */ }
//!     fn on_down(&self, _why: &str) { /* nothing to save: the ledger keeps what is owed */ }
//!     fn on_message(&self, _subject: &[u8], _reply: Option<&[u8]>, _payload: &[u8]) {}
//!     fn on_confirmed(&self) {
//!         // The ledger is not borrowed while outcomes are dealt with: they may append.
//!         loop {
//!             let Some(group) = self.ledger.borrow_mut().confirmed(/* now_us */ 0) else { break };
//!             for outcome in group.outcomes() { /* PUBACK, PUBREC or /error to outcome.tag */ }
//!             self.ledger.borrow_mut().recycle(group);
//!         }
//!     }
//! }
//!
//! # fn usage(settings: LinkSettings, limits: Limits) -> Result<(), UplinkError> {
//! let dialer = Dialer::new(settings)?;                          // once per process
//! let ledger = Rc::new(RefCell::new(Ledger::new(limits)));      // and the rest once per shard
//! let status = Arc::new(LinkStatus::new());                     // for /health
//! let subjects = vec!["kaa.v1.replica.r1-0.esp.ExtensionData".to_owned()];
//! let link = Link::new(dialer, "ringgate r1-0", subjects, ledger.clone(), status);
//! let task = link.start(Rc::new(Shard { ledger: ledger.clone() }));
//! // In a turn of the shard, for each message:
//! let (subject, reply) = (b"kaa.v1.service.dcx.esp.ClientData", Some(&b"answers.r1-0"[..]));
//! let taken = ledger.borrow_mut().append(SubjectId::of(subject), None, 0, |batch| {
//!     publish_head(batch, subject, reply, 2);
//!     batch.extend_from_slice(b"hi\r\n");
//! });
//! if taken.is_err() { /* full: stop reading, or drop QoS 0 */ }
//! link.flush();                                                 // once at the end of the turn
//! # drop(task); Ok(()) }
//! ```

mod access;
mod dial;
pub mod ledger;
mod link;
mod live;
mod servers;
mod settings;
mod tls;

pub use crate::telemetry::LinkStatus;
pub use dial::Dialer;
pub use ledger::{Confirmed, Full, Ledger, LedgerStats, Limits, Outcome, SubjectId, Tag, Verdict};
pub use link::{Handler, Link};
pub use settings::{LinkSettings, TlsSettings, UplinkError};
