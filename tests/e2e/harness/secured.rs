//! The set for tests of who may talk: NATS, a gateway that asks an independent credentials service,
//! an extension service, and a listener to connectivity events.

use super::connectivity::Connectivity;
use super::device::Device;
use super::eventually;
use super::extension::{self, Extension, ExtensionData};
use super::gateway::{Gateway, Settings};
use super::nats::Nats;
use super::packet::{self, Connack, Connect, Publish};
use super::provider::Provider;

/// What every secret of these tests contains: no output of the gateway may.
pub const MARK: &str = "pl4nted";

/// Time a provider has for one attempt, and how many it gets.
pub const REQUEST_TIMEOUT_MS: u64 = 400;
pub const REQUEST_ATTEMPTS: u64 = 2;

pub struct Secured {
    // Order matters: fields drop in this order, the gateway before what it talks to.
    pub gateway: Gateway,
    pub dcx: Extension,
    pub provider: Provider,
    pub connectivity: Connectivity,
    pub nats: Nats,
}

/// Endpoints are asked about by 16/ECAP, clients by 22/CAP; application `demo` is of tenant `acme`,
/// `narrow` of tenant `other`.
pub fn asks_over_nats(settings: &mut Settings) {
    settings.set("ringgate.auth.endpoint-provider", "ecap");
    settings.set("ringgate.auth.client-provider", "cap");
    settings.set("ringgate.auth.request-timeout-ms", REQUEST_TIMEOUT_MS);
    settings.set("ringgate.auth.request-attempts", REQUEST_ATTEMPTS);
    settings.set("kaa.applications.demo.tenant", "acme");
    settings.set("kaa.applications.narrow.tenant", "other");
}

impl Secured {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts the set after `adjust` changed the configuration.
    pub fn start_with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let nats = Nats::start();
        let dcx = Extension::start(&nats.url(), "dcx", extension::collects_data);
        let provider = Provider::start(&nats.url());
        let connectivity = Connectivity::start(&nats.url());
        let gateway = Gateway::start(&nats.url(), |settings| {
            asks_over_nats(settings);
            adjust(settings);
        });
        // When its control link has come up, whatever has been asked before is asked once more: a
        // test that counts or holds back questions must not begin earlier.
        eventually("the control link to come up", || {
            (gateway.metric("ringgate_doubts_total", &[]) >= 1.0).then_some(())
        });
        // The control thread has told the shards of that before it takes a push, which is nobody's.
        // Then it also hears of revocations: before, NATS may not have heard of its subscriptions.
        eventually("the control thread to hear a push", || {
            dcx.push(&ExtensionData::push("dcx", "nobody", "/", "[]"));
            (gateway.metric("ringgate_pushes_received_total", &[]) >= 1.0).then_some(())
        });
        Self { gateway, dcx, provider, connectivity, nats }
    }

    /// A connected MQTT 3.1.1 device that has not said who it is.
    pub fn device(&self, client_id: &str) -> Device {
        self.device_of(packet::V311, client_id)
    }

    /// The same of the given protocol level.
    pub fn device_of(&self, level: u8, client_id: &str) -> Device {
        Device::connected(self.gateway.mqtt, Connect::new(level, client_id)).0
    }

    /// A device that has said who it is and was let in.
    pub fn client(&self, level: u8, client_id: &str, username: &str, password: &str) -> Device {
        let connect = Connect::new(level, client_id).credentials(username, password);
        Device::connected(self.gateway.mqtt, connect).0
    }

    /// What a device is told that says who it is and is not let in; the gateway closes.
    pub fn refused(&self, connect: Connect) -> Connack {
        Device::refused(self.gateway.mqtt, connect)
    }
}

/// A secret: a token or password.
pub fn secret(name: &str) -> String {
    format!("{MARK}-{name}")
}

/// What an error answer says (1/KP): its status and reason, and nothing else.
pub fn error_of(answer: &Publish) -> (i64, String) {
    assert!(answer.topic.ends_with("/error"), "not an error: {answer:?}");
    let error: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(error.as_object().map(|keys| keys.len()), Some(2), "{error}");
    let reason = error["reasonPhrase"].as_str().expect("a text");
    (error["statusCode"].as_i64().expect("an integer"), reason.to_owned())
}
