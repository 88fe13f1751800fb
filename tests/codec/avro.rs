//! 4/ESP against `apache-avro`, with schemas written from the protocol's field tables.

use std::fmt::Debug;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use ringgate::codec::avro::{
    AvroError, ClientData, ClientDataTemplate, ConfigName, ExtensionData, config_name,
};
use serde::{Deserialize, Serialize};

use crate::corpus::avro::check;

static CLIENT_DATA: LazyLock<Schema> =
    LazyLock::new(|| schema(include_str!("../schemas/ClientData.avsc")));
static EXTENSION_DATA: LazyLock<Schema> =
    LazyLock::new(|| schema(include_str!("../schemas/ExtensionData.avsc")));

fn schema(json: &str) -> Schema {
    Schema::parse_str(json).expect("a schema")
}

/// `ClientData` as the peer has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "ClientData", rename_all = "camelCase")]
struct PeerClientData {
    correlation_id: String,
    timestamp: i64,
    timeout: i64,
    app_version_name: String,
    endpoint_id: Option<String>,
    resource_path: String,
    request_id: Option<i32>,
    #[serde(with = "apache_avro::serde::bytes")]
    payload: Vec<u8>,
    config_name: Option<String>,
}

impl PeerClientData {
    fn datum(&self) -> Vec<u8> {
        encode(&CLIENT_DATA, self)
    }

    fn ours(&self) -> ClientData<'_> {
        ClientData {
            correlation_id: &self.correlation_id,
            timestamp_ms: self.timestamp,
            timeout_ms: self.timeout,
            app_version_name: &self.app_version_name,
            endpoint_id: self.endpoint_id.as_deref(),
            resource_path: &self.resource_path,
            request_id: self.request_id,
            payload: &self.payload,
            config_name: self.config_name.as_deref(),
        }
    }
}

/// `ExtensionData` as the peer has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "ExtensionData", rename_all = "camelCase")]
struct PeerExtensionData {
    correlation_id: String,
    timestamp: i64,
    timeout: i64,
    app_version_name: Option<String>,
    extension_instance_name: Option<String>,
    endpoint_id: Option<String>,
    resource_path: String,
    request_id: Option<i32>,
    #[serde(with = "apache_avro::serde::bytes_opt")]
    payload: Option<Vec<u8>>,
    status_code: i32,
    reason_phrase: Option<String>,
}

impl PeerExtensionData {
    fn datum(&self) -> Vec<u8> {
        encode(&EXTENSION_DATA, self)
    }

    fn ours(&self) -> ExtensionData<'_> {
        ExtensionData {
            correlation_id: &self.correlation_id,
            timestamp_ms: self.timestamp,
            timeout_ms: self.timeout,
            app_version_name: self.app_version_name.as_deref(),
            extension_instance_name: self.extension_instance_name.as_deref(),
            endpoint_id: self.endpoint_id.as_deref(),
            resource_path: &self.resource_path,
            request_id: self.request_id,
            payload: self.payload.as_deref(),
            status_code: self.status_code,
            reason_phrase: self.reason_phrase.as_deref(),
        }
    }
}

fn encode<T: Serialize>(schema: &Schema, value: &T) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().expect("a writer");
    writer.write_ser_to_vec(value).expect("a value of the schema")
}

fn decode<T: for<'de> Deserialize<'de>>(schema: &Schema, mut datum: &[u8]) -> Option<T> {
    let reader = GenericDatumReader::builder(schema).build().expect("a reader");
    reader.read_deser(&mut datum).ok()
}

fn optional(text: &'static str) -> impl Strategy<Value = Option<String>> {
    prop::option::of(text)
}

fn resource_path() -> impl Strategy<Value = String> {
    prop_oneof![
        "(/[a-z0-9]{0,6}){0,4}",
        "/(config|applied|report|command)/json/[a-zA-Z0-9_.-]{0,8}",
        "\\PC{0,30}",
    ]
}

prop_compose! {
    fn client_data()(
        correlation_id in "\\PC{0,40}",
        timestamp: i64,
        timeout in prop_oneof![Just(0), 0..100_000i64, any::<i64>()],
        app_version_name in "[a-z0-9-]{0,70}",
        endpoint_id in optional("\\PC{0,70}"),
        resource_path in resource_path(),
        request_id: Option<i32>,
        payload in prop::collection::vec(any::<u8>(), 0..200),
        config_name in optional("[a-zA-Z0-9_-]{1,20}"),
    ) -> PeerClientData {
        PeerClientData {
            correlation_id, timestamp, timeout, app_version_name, endpoint_id, resource_path,
            request_id, payload, config_name,
        }
    }
}

prop_compose! {
    fn extension_data()(
        correlation_id in "\\PC{0,40}",
        timestamp: i64,
        timeout in prop_oneof![Just(0), 0..100_000i64, any::<i64>()],
        app_version_name in optional("[a-z0-9-]{0,70}"),
        extension_instance_name in optional("[a-z0-9-]{0,20}"),
        endpoint_id in optional("\\PC{0,70}"),
        resource_path in resource_path(),
        request_id: Option<i32>,
        payload in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        status_code: i32,
        reason_phrase in optional("\\PC{0,20}"),
    ) -> PeerExtensionData {
        PeerExtensionData {
            correlation_id, timestamp, timeout, app_version_name, extension_instance_name,
            endpoint_id, resource_path, request_id, payload, status_code, reason_phrase,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn client_data_is_written_and_read_as_the_peer_does(data in client_data()) {
        let theirs = data.datum();
        let mut ours = Vec::new();
        data.ours().encode(&mut ours);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(ClientData::decode(&theirs), Ok(data.ours()));
    }

    #[test]
    fn extension_data_is_written_and_read_as_the_peer_does(data in extension_data()) {
        let theirs = data.datum();
        let mut ours = Vec::new();
        data.ours().encode(&mut ours);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(ExtensionData::decode(&theirs), Ok(data.ours()));
    }

    /// The peer reads what the template wrote, and behind it the byte an omitted configName lacks.
    #[test]
    fn a_template_writes_what_the_peer_reads(
        data in client_data(),
        request_id in prop::option::of(0..=i32::MAX),
        mode in prop::sample::select(vec![
            ConfigName::Omit, ConfigName::Null, ConfigName::FromPath,
        ]),
    ) {
        let mut expected = PeerClientData { request_id, config_name: None, ..data };
        if mode == ConfigName::FromPath {
            expected.config_name = config_name(&expected.resource_path).map(str::to_owned);
        }
        let template = ClientDataTemplate::new(
            &expected.app_version_name,
            expected.endpoint_id.as_deref(),
            &expected.resource_path,
            mode,
        );
        let id = request_id.map(i32::unsigned_abs);
        let (correlation, payload) = (expected.correlation_id.as_bytes(), &expected.payload);
        let len = template.encoded_len(
            correlation.len(), expected.timestamp, expected.timeout, id, payload.len(),
        );
        let mut out = b"PUB".to_vec();
        template.encode_into(
            correlation, expected.timestamp, expected.timeout, id, payload, &mut out,
        );
        prop_assert_eq!(out.len(), 3 + len);
        if mode == ConfigName::Omit {
            out.push(0);
        }
        prop_assert_eq!(&out[3..], &expected.datum());
    }

    /// One changed byte: both sides refuse the datum, or both read the same.
    #[test]
    fn a_damaged_client_data_is_judged_as_the_peer_does(
        data in client_data(), at: prop::sample::Index, byte: u8,
    ) {
        let mut datum = data.datum();
        *at.get_mut(&mut datum) = byte;
        let with_null = [&datum[..], &[0]].concat();
        let theirs = [&datum, &with_null].map(|datum| decode(&CLIENT_DATA, datum));
        let [theirs, theirs_with_null] = theirs.each_ref().map(|theirs| {
            theirs.as_ref().map(PeerClientData::ours)
        });
        judge(ClientData::decode(&datum), theirs, theirs_with_null)?;
    }

    #[test]
    fn a_damaged_extension_data_is_judged_as_the_peer_does(
        data in extension_data(), at: prop::sample::Index, byte: u8,
    ) {
        let mut datum = data.datum();
        *at.get_mut(&mut datum) = byte;
        let with_null = [&datum[..], &[0]].concat();
        let theirs = [&datum, &with_null].map(|datum| decode(&EXTENSION_DATA, datum));
        let [theirs, theirs_with_null] = theirs.each_ref().map(|theirs| {
            theirs.as_ref().map(PeerExtensionData::ours)
        });
        judge(ExtensionData::decode(&datum), theirs, theirs_with_null)?;
    }

    /// Only the last field, which has a default, may be missing, and only whole.
    #[test]
    fn a_datum_cut_short_is_refused(data in extension_data(), at: prop::sample::Index) {
        let mut datum = data.datum();
        let without_reason = PeerExtensionData { reason_phrase: None, ..data };
        let whole = without_reason.datum().len() - 1;
        datum.truncate(at.index(datum.len()));
        let decoded = ExtensionData::decode(&datum);
        if datum.len() == whole {
            prop_assert_eq!(decoded, Ok(without_reason.ours()));
        } else {
            prop_assert!(matches!(decoded, Err(AvroError::Truncated { .. })), "{:?}", decoded);
        }
    }

    #[test]
    fn invariants_hold_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        check(&bytes);
    }

    #[test]
    fn invariants_hold_for_damaged_data(
        data in client_data(), at: prop::sample::Index, byte: u8,
    ) {
        let mut datum = data.datum();
        *at.get_mut(&mut datum) = byte;
        check(&datum);
    }
}

/// Ours may refuse what the peer takes only for a number of more than 64 bits, whose upper bits the
/// peer drops; and take what the peer refuses only where nothing but the last field's null is
/// missing.
fn judge<T: PartialEq + Debug>(
    ours: Result<T, AvroError>,
    theirs: Option<T>,
    theirs_with_null: Option<T>,
) -> Result<(), TestCaseError> {
    match ours {
        Ok(ours) => prop_assert_eq!(Some(ours), theirs.or(theirs_with_null)),
        Err(AvroError::VarintTooLong { .. }) => {}
        Err(error) => prop_assert!(theirs.is_none(), "ours: {error}, theirs: {theirs:?}"),
    }
    Ok(())
}
