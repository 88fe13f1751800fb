//! 16/ECAP: tokens of the internal store that another service gives another status, over a real
//! nats-server, in the records of `apache-avro`.

use super::events::{Nats, metric};
use super::rig::*;
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use ringgate::admin::CredentialsApi;
use ringgate::auth::{Demands, Revocation};
use ringgate::config::Secret;
use ringgate::control::{Outcome, Providers, Service, answers};
use ringgate::credentials::{Credentials, EndpointToken, Workers};
use ringgate::shard::mail::Mail;
use std::collections::HashMap;
use std::sync::Arc;

const VALIDATION_REQUEST: &str = include_str!("../schemas/EndpointTokenValidationRequest.avsc");
const VALIDATION_RESPONSE: &str = include_str!("../schemas/EndpointTokenValidationResponse.avsc");
const TRANSITION_REQUEST: &str =
    include_str!("../schemas/EndpointTokenStatusTransitionRequest.avsc");
const TRANSITION_RESPONSE: &str =
    include_str!("../schemas/EndpointTokenStatusTransitionResponse.avsc");
const REVOKED_EVENT: &str = include_str!("../schemas/EndpointTokenRevokedEvent.avsc");

fn encode(schema: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let schema = Schema::parse_str(schema).expect("a schema");
    let texts = fields.iter().map(|(name, text)| (*name, Value::String((*text).to_owned())));
    let header = [("timestamp", Value::Long(ringgate::telemetry::clock::unix_ms()))]
        .into_iter()
        .chain([("timeout", Value::Long(10_000))]);
    let record = header.chain(texts).map(|(name, value)| (name.to_owned(), value)).collect();
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    writer.write_value_to_vec(Value::Record(record)).expect("a record of its schema")
}

/// The fields of a record, all of whose bytes are read.
fn decode(schema: &str, mut datum: &[u8]) -> HashMap<String, Value> {
    let schema = Schema::parse_str(schema).expect("a schema");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let value = reader.read_value(&mut datum).expect("a record of its schema");
    assert!(datum.is_empty(), "{datum:?} is left");
    let Value::Record(fields) = value else { panic!("{value:?}") };
    let inner = |value| match value {
        Value::Union(_, inner) => *inner,
        value => value,
    };
    fields.into_iter().map(|(name, value)| (name, inner(value))).collect()
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// A control thread that serves a store, and the store.
struct Rig {
    control: ringgate::control::Control,
    shards: Vec<Shard>,
    credentials: Credentials,
    nats: Nats,
    _server: Server,
    workers: Workers,
    directory: std::path::PathBuf,
}

impl Rig {
    fn start() -> Self {
        let port = free_port();
        let server = Server::start(port);
        let name = format!("ringgate-transitions-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let credentials = Credentials::open(&directory).expect("a store");
        let (given, taken) = answers();
        let give = move |ticket: ringgate::auth::Ticket, verdict| given.give(ticket.ask, verdict);
        let workers = Workers::start(credentials.clone(), 1, 16, give).expect("threads");
        let (changes, changed) = tokio::sync::mpsc::channel(8);
        let api = CredentialsApi {
            credentials: credentials.clone(),
            bearer: Secret::new("pl4nted-bearer"),
            changes,
            configured: Box::new(|_| Demands::default()),
        };
        let service = Service { clerk: Arc::new(workers.desk()), answers: taken };
        let providers =
            Providers { store: Some((api, changed)), service: Some(service), http: None };
        let (control, shards) = start_serving(&settings(port), providers).expect("starts");
        until("the link is up", || (metric(&control, "ringgate_doubts_total") > 0).then_some(()));
        let nats = Nats::connect(port);
        Self { control, shards, credentials, nats, _server: server, workers, directory }
    }

    fn ask(
        &self,
        message: &str,
        (request, response): (&str, &str),
        fields: &[(&str, &str)],
    ) -> HashMap<String, Value> {
        let subject = format!("kaa.v1.service.cm.ecap.{message}");
        let fields = [&[("correlationId", "theirs")], fields].concat();
        let answer = until("an answer", || {
            let asked = self.nats.client.request(subject.clone(), encode(request, &fields).into());
            // Nobody may listen yet.
            self.nats.runtime.block_on(asked).ok()
        });
        let answer = decode(response, &answer.payload);
        assert_eq!(answer["correlationId"], text("theirs"));
        answer
    }

    /// Asks for another status: the answer's status code and reason.
    fn change(&self, app: &str, token: &str, target_status: &str) -> (i32, Option<String>) {
        let schemas = (TRANSITION_REQUEST, TRANSITION_RESPONSE);
        let fields = [("appName", app), ("token", token), ("targetStatus", target_status)];
        let answer = self.ask("ep-token-status-transition-request", schemas, &fields);
        let Value::Int(status_code) = answer["statusCode"] else { panic!("{answer:?}") };
        match &answer["reasonPhrase"] {
            Value::String(reason) => (status_code, Some(reason.clone())),
            other => {
                assert_eq!(*other, Value::Null);
                (status_code, None)
            }
        }
    }

    fn validate(&self, token: &str) -> Value {
        let schemas = (VALIDATION_REQUEST, VALIDATION_RESPONSE);
        let fields = [("appName", "app"), ("token", token)];
        self.ask("ep-token-request", schemas, &fields)["statusCode"].clone()
    }

    fn state(&self, id: &str) -> String {
        self.credentials.get::<EndpointToken>(id).expect("is there").life.state.to_string()
    }

    fn end(mut self) {
        assert_eq!(finish(self.control, &mut self.shards), Outcome::Drained);
        drop(self.workers);
        drop(self.credentials);
        std::fs::remove_dir_all(self.directory).expect("removed");
    }
}

#[test]
fn a_service_gives_a_token_another_status_as_the_state_machine_has_it() {
    let mut rig = Rig::start();
    let mut events = rig.nats.subscribe("kaa.v1.events.>");
    let token = Some(Secret::new("the-token"));
    let id = rig.credentials.create_token("app", "e1", token).expect("makes it").record.life.id;

    // Not used yet: only a use makes it active.
    for status in ["ACTIVE", "SUSPENDED", "REVOKED", "INACTIVE"] {
        let (status_code, reason) = rig.change("app", "the-token", status);
        assert_eq!(status_code, 409, "{status}");
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "{status}");
    }
    assert_eq!(rig.state(&id), "Inactive");
    assert_eq!(rig.validate("the-token"), Value::Int(200));
    assert_eq!(rig.state(&id), "Active");
    rig.nats.nothing_more(&mut events);

    let steps = [
        ("ACTIVE", 409, "Active"),
        ("INACTIVE", 409, "Active"),
        ("SUSPENDED", 200, "Suspended"),
        ("suspended", 409, "Suspended"),
        ("Active", 200, "Active"),
        ("Suspended", 200, "Suspended"),
        ("REVOKED", 200, "Revoked"),
        ("ACTIVE", 409, "Revoked"),
        ("SUSPENDED", 409, "Revoked"),
        ("REVOKED", 409, "Revoked"),
    ];
    for (status, expected, state) in steps {
        let (status_code, reason) = rig.change("app", "the-token", status);
        assert_eq!((status_code, rig.state(&id).as_str()), (expected, state), "{status}");
        assert_eq!(reason.is_some(), expected != 200, "{reason:?}");
        if expected == 200 && state != "Active" {
            rig.expect_revoked(&mut events, &id);
            assert_eq!(rig.validate("the-token"), Value::Int(403));
        }
    }
    assert_eq!(rig.change("app", "the-token", "BROKEN").0, 422);
    assert_eq!(rig.change("app", "another-token", "SUSPENDED").0, 404);
    assert_eq!(rig.change("other", "the-token", "SUSPENDED").0, 404);
    rig.nats.nothing_more(&mut events);
    assert!(rig.shards.iter_mut().all(|shard| shard.mails().is_empty()));
    rig.end();
}

impl Rig {
    /// The shards and the world have heard that the token of `e1` is good no more, once.
    fn expect_revoked(&mut self, events: &mut async_nats::Subscriber, id: &str) {
        let message = self.nats.next(events);
        assert_eq!(message.subject.as_str(), "kaa.v1.events.cm.endpoint.token.revoked");
        let event = decode(REVOKED_EVENT, &message.payload);
        assert_eq!((&event["appName"], &event["endpointId"]), (&text("app"), &text("e1")));
        assert_eq!(event["tokenIds"], Value::Array(vec![text(id)]));
        assert_eq!(event["originatorReplicaId"], text("r1"));
        let expected = Revocation::Tokens {
            app: "app".into(),
            endpoint_id: "e1".into(),
            token_ids: vec![id.into()],
        };
        for shard in &mut self.shards {
            let mails = shard.mails();
            let [Mail::Revoked(revoked)] = &mails[..] else { panic!("{mails:?}") };
            assert_eq!(**revoked, expected);
        }
    }
}
