//! Connections that speak the HTTP binding of 1/KP: one exchange at a time each. A request becomes
//! a ClientData as a PUBLISH does, with a request id of ours, and the answer its response. Nobody
//! can be pushed anything here, so a request gives its endpoint no route.

mod answers;
mod requests;

pub(super) use requests::TOO_LARGE;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasher;
use std::rc::Rc;

use super::correlation::ConnectionKey;
use crate::auth::Grant;
use crate::session::catalogue::{AppId, ExtensionId};
use crate::transport::http::{self, RequestReader};

/// Request ids that we make begin here, so that they seldom meet those that devices choose.
const REQUEST_IDS_FROM: u32 = 1 << 30;
/// Bytes of further requests that are read while one is being answered.
pub(super) const PIPELINE_BYTES_MAX: usize = 16 * 1024;

/// What is known of a connection that speaks HTTP.
#[derive(Debug, Default)]
pub struct Http {
    reader: RequestReader,
    /// The request that is being answered.
    exchange: Option<Exchange>,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The request id that its ClientData bears.
    request_id: u32,
    /// Whether another request may follow on the connection.
    keeps_alive: bool,
    /// Whether bytes of another one had come when it was taken.
    has_successor: bool,
    /// When it is answered 504, in milliseconds of the shard's clock.
    until_ms: u64,
    /// The application that it is for; `None`: that is not known, yet.
    app: Option<AppId>,
    /// What it was carried for; `None`: it was not, yet.
    carried: Option<Carried>,
}

/// What a request was carried for, so that nothing else answers it.
#[derive(Debug)]
struct Carried {
    extension: ExtensionId,
    sender: Sender,
}

/// Who sent a request, as far as the instance that it was carried to knows.
#[derive(Debug)]
enum Sender {
    Endpoint(Rc<Grant>),
    /// The instance knows no endpoints: version and path are all that tells clients apart who have
    /// chosen the same request id.
    Unknown {
        app_version: Box<str>,
        resource_path: Box<str>,
    },
}

impl Http {
    /// Whether a request is being answered.
    pub fn is_answering(&self) -> bool {
        self.exchange.is_some()
    }

    /// When it is answered 504 at the latest.
    pub fn answer_by_ms(&self) -> Option<u64> {
        self.exchange.as_ref().map(|exchange| exchange.until_ms)
    }

    /// The request id of that request.
    #[cfg(test)]
    pub fn exchange_id(&self) -> Option<u32> {
        self.exchange.as_ref().map(|exchange| exchange.request_id)
    }

    /// The application that the request is for which is being answered.
    pub fn app(&self) -> Option<AppId> {
        self.exchange.as_ref()?.app
    }
}

/// The requests of a shard that are being answered, by their request ids.
#[derive(Debug)]
pub(super) struct Exchanges {
    open: HashMap<u32, ConnectionKey, foldhash::fast::RandomState>,
    last: u32,
}

impl Exchanges {
    /// None yet. Their ids begin anywhere: the answer to a request from before a restart must not
    /// be taken for the answer to another one, and nobody can guess them.
    pub(super) fn new() -> Self {
        let last = std::hash::RandomState::new().hash_one(0) as u32;
        Self { open: HashMap::default(), last }
    }

    /// Begins one; its request id.
    fn begin(&mut self, connection: ConnectionKey) -> u32 {
        loop {
            self.last = REQUEST_IDS_FROM | (self.last.wrapping_add(1) % REQUEST_IDS_FROM);
            // There are far fewer connections than ids.
            if let Entry::Vacant(place) = self.open.entry(self.last) {
                place.insert(connection);
                return self.last;
            }
        }
    }

    fn end(&mut self, request_id: u32) {
        self.open.remove(&request_id);
    }

    fn find(&self, request_id: u32) -> Option<ConnectionKey> {
        self.open.get(&request_id).copied()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

/// The time of responses, written once a second.
#[derive(Debug, Default)]
pub(super) struct Dates {
    unix_s: u64,
    text: String,
}

impl Dates {
    fn update(&mut self, unix_s: u64) {
        if self.unix_s != unix_s || self.text.is_empty() {
            *self = Self { unix_s, text: http::date(unix_s) };
        }
    }

    fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_fit_4_esp_and_are_not_given_twice_while_they_are_in_use() {
        let connection = ConnectionKey { index: 1, generation: 1 };
        let mut exchanges = Exchanges { last: u32::MAX, ..Exchanges::new() };
        let first = exchanges.begin(connection);
        assert_eq!(first, REQUEST_IDS_FROM);
        exchanges.last = first - 1;
        let second = exchanges.begin(connection);
        assert_ne!(first, second);
        assert!(second <= i32::MAX as u32);
        exchanges.end(first);
        assert_eq!((exchanges.find(first), exchanges.find(second)), (None, Some(connection)));
    }

    #[test]
    fn request_ids_begin_anywhere() {
        let connection = ConnectionKey { index: 1, generation: 1 };
        let firsts: Vec<u32> = (0..3).map(|_| Exchanges::new().begin(connection)).collect();
        assert!(firsts.iter().any(|first| *first != firsts[0]), "{firsts:?}");
    }
}
