//! Who wants to know which endpoints are there: a listener to 9/ELCE.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use apache_avro::types::Value;

use super::bus::Bus;
use super::eventually;
use super::records::{self, Fields, text};

/// What became of endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Connected,
    Disconnected,
}

use Change::{Connected, Disconnected};

/// One event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub change: Change,
    /// Application version by endpoint id.
    pub endpoints: BTreeMap<String, String>,
    pub replica: String,
}

/// Keeps every event of the instance `kpc`, in order.
pub struct Connectivity {
    bus: Bus,
    events: Arc<Mutex<Vec<Event>>>,
}

/// What tests publish as events that are none: a listener passes it over.
pub const JUNK: [&[u8]; 4] = [b"", b"\0", &[0x80; 100], &[0xFF; 3000]];

const CONNECTED: &str = "kaa.v1.events.kpc.endpoint.connectivity.connected";
const DISCONNECTED: &str = "kaa.v1.events.kpc.endpoint.connectivity.disconnected";

impl Connectivity {
    pub fn start(url: &str) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        // One subscription for both, so that their order is the server's.
        let subjects = ["kaa.v1.events.kpc.endpoint.connectivity.*".to_owned()];
        let bus = Bus::start(url, "the listener to 9/ELCE", &subjects, {
            let events: Arc<Mutex<Vec<Event>>> = Arc::clone(&events);
            move |message| {
                if !JUNK.contains(&&*message.payload) {
                    events.lock().expect("no holder panics").push(decode(&message));
                }
                Vec::new()
            }
        });
        Self { bus, events }
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no holder panics").clone()
    }

    /// What became of an endpoint so far, in order.
    pub fn history(&self, endpoint: &str) -> Vec<Change> {
        let events = self.events();
        let of_it = events.iter().filter(|event| event.endpoints.contains_key(endpoint));
        of_it.map(|event| event.change).collect()
    }

    /// Waits until this has become of an endpoint, and nothing else.
    pub fn wait_for(&self, endpoint: &str, expected: &[Change]) {
        eventually(&format!("{endpoint} to have been {expected:?}"), || {
            let history = self.history(endpoint);
            let is_on_the_way = expected.starts_with(&history);
            assert!(is_on_the_way, "{endpoint}: {history:?}, expected {expected:?}");
            (history == expected).then_some(())
        });
    }

    /// Takes note of what has been said so far and forgets it: an endpoint's history begins anew.
    pub fn forget(&self) {
        self.events.lock().expect("no holder panics").clear();
    }

    /// Nothing more is said of an endpoint for a while.
    pub fn expect_no_more(&self, endpoint: &str, expected: &[Change]) {
        self.wait_for(endpoint, expected);
        super::let_time_pass(super::SILENCE);
        assert_eq!(self.history(endpoint), expected, "{endpoint}");
    }

    /// Says, as another replica of the instance, that an endpoint is connected there.
    pub fn announce_elsewhere(&self, endpoint: &str, app_version: &str, replica: &str) {
        let endpoints = [(endpoint.to_owned(), text(app_version))].into();
        let fields = [("endpoints", Value::Map(endpoints)), ("originatorReplicaId", text(replica))];
        self.bus.publish(CONNECTED, records::encode("ConnectedEvent", "elsewhere", &fields));
    }

    /// Waits until the connection stands (again).
    pub fn wait_until_ready(&self) {
        self.bus.wait_until_ready();
    }
}

fn decode(message: &async_nats::Message) -> Event {
    let (change, schema) = match message.subject.as_str() {
        CONNECTED => (Connected, "ConnectedEvent"),
        DISCONNECTED => (Disconnected, "DisconnectedEvent"),
        other => panic!("an event on {other}"),
    };
    let fields = Fields::decode(schema, &message.payload);
    assert!(!fields.text("correlationId").is_empty(), "an event without a correlation id");
    let endpoints: BTreeMap<String, String> = fields.texts("endpoints").into_iter().collect();
    assert!(!endpoints.is_empty(), "an event about nobody");
    Event { change, endpoints, replica: fields.text("originatorReplicaId") }
}
