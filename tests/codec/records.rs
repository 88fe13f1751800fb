//! 16/ECAP, 22/CAP, 9/ELCE and 21/TLE against `apache-avro`, with schemas written from the
//! protocols' field tables.

use std::collections::HashMap;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::RecordSchema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use proptest::strategy::Union;
use ringgate::codec::avro::{AvroError, Header, Reader, cap, ecap, elce, tle};

/// What a decoder of ours makes of a datum, field by field, and what its encoder writes for that.
type Read = Result<(Value, Vec<u8>), AvroError>;

type Record = (&'static str, &'static str, fn(&[u8]) -> Read);

/// Name, schema and our codec of each record.
const RECORDS: [Record; 19] = [
    (
        "EndpointTokenValidationRequest",
        include_str!("../schemas/EndpointTokenValidationRequest.avsc"),
        endpoint_token_validation_request,
    ),
    (
        "EndpointTokenValidationResponse",
        include_str!("../schemas/EndpointTokenValidationResponse.avsc"),
        endpoint_token_validation_response,
    ),
    (
        "EndpointTokenStatusTransitionRequest",
        include_str!("../schemas/EndpointTokenStatusTransitionRequest.avsc"),
        endpoint_token_status_transition_request,
    ),
    (
        "EndpointTokenStatusTransitionResponse",
        include_str!("../schemas/EndpointTokenStatusTransitionResponse.avsc"),
        endpoint_token_status_transition_response,
    ),
    (
        "EndpointTokenRevokedEvent",
        include_str!("../schemas/EndpointTokenRevokedEvent.avsc"),
        endpoint_token_revoked_event,
    ),
    (
        "ClientUsernamePasswordValidationRequest",
        include_str!("../schemas/ClientUsernamePasswordValidationRequest.avsc"),
        client_username_password_validation_request,
    ),
    (
        "ClientUsernamePasswordValidationResponse",
        include_str!("../schemas/ClientUsernamePasswordValidationResponse.avsc"),
        client_username_password_validation_response,
    ),
    (
        "ClientCertificateValidationRequest",
        include_str!("../schemas/ClientCertificateValidationRequest.avsc"),
        client_certificate_validation_request,
    ),
    (
        "ClientCertificateValidationResponse",
        include_str!("../schemas/ClientCertificateValidationResponse.avsc"),
        client_username_password_validation_response,
    ),
    (
        "ClientCredentialRevokedEvent",
        include_str!("../schemas/ClientCredentialRevokedEvent.avsc"),
        client_credential_revoked_event,
    ),
    (
        "ClientBasicAuthenticationRequest",
        include_str!("../schemas/ClientBasicAuthenticationRequest.avsc"),
        client_basic_authentication_request,
    ),
    (
        "ClientBasicAuthenticationResponse",
        include_str!("../schemas/ClientBasicAuthenticationResponse.avsc"),
        client_basic_authentication_response,
    ),
    (
        "ClientCertificateAuthenticationRequest",
        include_str!("../schemas/ClientCertificateAuthenticationRequest.avsc"),
        client_certificate_authentication_request,
    ),
    (
        "ClientCertificateAuthenticationResponse",
        include_str!("../schemas/ClientCertificateAuthenticationResponse.avsc"),
        client_certificate_authentication_response,
    ),
    (
        "ClientCredentialsRevokedEvent",
        include_str!("../schemas/ClientCredentialsRevokedEvent.avsc"),
        client_credentials_revoked_event,
    ),
    ("ConnectedEvent", include_str!("../schemas/ConnectedEvent.avsc"), connected_event),
    ("DisconnectedEvent", include_str!("../schemas/DisconnectedEvent.avsc"), connected_event),
    ("UpdatedEvent", include_str!("../schemas/UpdatedEvent.avsc"), updated_event),
    ("UnregisteredEvent", include_str!("../schemas/UnregisteredEvent.avsc"), updated_event),
];

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let parse = |(_, json, _): &(_, &str, _)| Schema::parse_str(json).expect("a schema");
    RECORDS.iter().map(parse).collect()
});

fn record<const N: usize>(header: &Header<'_>, fields: [(&str, Value); N]) -> Value {
    let header = [
        ("correlationId", text(header.correlation_id)),
        ("timestamp", Value::Long(header.timestamp_ms)),
        ("timeout", Value::Long(header.timeout_ms)),
    ];
    Value::Record(header.into_iter().chain(fields).map(|(name, v)| (name.into(), v)).collect())
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn text_or_null(value: Option<&str>) -> Value {
    match value {
        Some(value) => Value::Union(0, Box::new(text(value))),
        None => Value::Union(1, Box::new(Value::Null)),
    }
}

fn null_or_text(value: Option<&str>) -> Value {
    match value {
        Some(value) => Value::Union(1, Box::new(text(value))),
        None => Value::Union(0, Box::new(Value::Null)),
    }
}

fn endpoint_token_validation_request(datum: &[u8]) -> Read {
    let read = ecap::EndpointTokenValidationRequest::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [("appName", text(read.app_name)), ("token", text(read.token))];
    Ok((record(&read.header, fields), out))
}

fn endpoint_token_validation_response(datum: &[u8]) -> Read {
    let read = ecap::EndpointTokenValidationResponse::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("tokenId", text_or_null(read.token_id)),
        ("endpointId", text_or_null(read.endpoint_id)),
        ("statusCode", Value::Int(read.status_code)),
        ("reasonPhrase", null_or_text(read.reason_phrase)),
    ];
    Ok((record(&read.header, fields), out))
}

fn endpoint_token_status_transition_request(datum: &[u8]) -> Read {
    let read = ecap::EndpointTokenStatusTransitionRequest::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("appName", text(read.app_name)),
        ("token", text(read.token)),
        ("targetStatus", text(read.target_status)),
    ];
    Ok((record(&read.header, fields), out))
}

fn endpoint_token_status_transition_response(datum: &[u8]) -> Read {
    let read = ecap::EndpointTokenStatusTransitionResponse::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("statusCode", Value::Int(read.status_code)),
        ("reasonPhrase", null_or_text(read.reason_phrase)),
    ];
    Ok((record(&read.header, fields), out))
}

fn endpoint_token_revoked_event(datum: &[u8]) -> Read {
    let read = ecap::EndpointTokenRevokedEvent::decode(datum)?;
    let mut out = Vec::new();
    let ids: Vec<_> = read.token_ids.iter().collect();
    ecap::EndpointTokenRevokedEvent::encode(
        &read.header,
        read.app_name,
        read.endpoint_id,
        ids.into_iter(),
        read.originator_replica_id,
        &mut out,
    );
    let fields = [
        ("appName", text(read.app_name)),
        ("endpointId", text(read.endpoint_id)),
        ("tokenIds", Value::Array(read.token_ids.iter().map(text).collect())),
        ("originatorReplicaId", text(read.originator_replica_id)),
    ];
    Ok((record(&read.header, fields), out))
}

fn client_username_password_validation_request(datum: &[u8]) -> Read {
    let read = ecap::ClientUsernamePasswordValidationRequest::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields =
        [("username", text_or_null(read.username)), ("password", text_or_null(read.password))];
    Ok((record(&read.header, fields), out))
}

fn client_username_password_validation_response(datum: &[u8]) -> Read {
    let read = ecap::ClientValidationResponse::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("credentialId", text_or_null(read.credential_id)),
        ("clientId", text_or_null(read.client_id)),
        ("statusCode", Value::Int(read.status_code)),
        ("reasonPhrase", null_or_text(read.reason_phrase)),
    ];
    Ok((record(&read.header, fields), out))
}

fn client_certificate_validation_request(datum: &[u8]) -> Read {
    let read = ecap::ClientCertificateValidationRequest::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [("issuer", text(read.issuer)), ("serialNumber", text(read.serial_number))];
    Ok((record(&read.header, fields), out))
}

fn client_credential_revoked_event(datum: &[u8]) -> Read {
    let read = ecap::ClientCredentialRevokedEvent::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("credentialId", text(read.credential_id)),
        ("originatorReplicaId", text(read.originator_replica_id)),
    ];
    Ok((record(&read.header, fields), out))
}

fn client_basic_authentication_request(datum: &[u8]) -> Read {
    let read = cap::ClientBasicAuthenticationRequest::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("tenantId", text(read.tenant_id)),
        ("username", text(read.username)),
        ("password", text(read.password)),
    ];
    Ok((record(&read.header, fields), out))
}

fn client_basic_authentication_response(datum: &[u8]) -> Read {
    let read = cap::ClientBasicAuthenticationResponse::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("credentialsId", text_or_null(read.credentials_id)),
        ("clientId", text_or_null(read.client_id)),
        ("statusCode", Value::Int(read.status_code)),
        ("reasonPhrase", null_or_text(read.reason_phrase)),
    ];
    Ok((record(&read.header, fields), out))
}

fn client_certificate_authentication_request(datum: &[u8]) -> Read {
    let read = cap::ClientCertificateAuthenticationRequest::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [("issuer", text(read.issuer)), ("serialNumber", text(read.serial_number))];
    Ok((record(&read.header, fields), out))
}

fn client_certificate_authentication_response(datum: &[u8]) -> Read {
    let read = cap::ClientCertificateAuthenticationResponse::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("tenantId", text_or_null(read.tenant_id)),
        ("credentialsId", text_or_null(read.credentials_id)),
        ("clientId", text_or_null(read.client_id)),
        ("statusCode", Value::Int(read.status_code)),
        ("reasonPhrase", null_or_text(read.reason_phrase)),
    ];
    Ok((record(&read.header, fields), out))
}

fn client_credentials_revoked_event(datum: &[u8]) -> Read {
    let read = cap::ClientCredentialsRevokedEvent::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("tenantId", text(read.tenant_id)),
        ("credentialsId", text(read.credentials_id)),
        ("originatorReplicaId", text(read.originator_replica_id)),
    ];
    Ok((record(&read.header, fields), out))
}

fn connected_event(datum: &[u8]) -> Read {
    let read = elce::ConnectivityEvent::decode(datum)?;
    let mut out = Vec::new();
    let endpoints: Vec<_> = read.endpoints.iter().collect();
    let originator = read.originator_replica_id;
    elce::ConnectivityEvent::encode(&read.header, endpoints.into_iter(), originator, &mut out);
    let fields = [
        (
            "endpoints",
            Value::Map(read.endpoints.iter().map(|(id, av)| (id.into(), text(av))).collect()),
        ),
        ("originatorReplicaId", text(read.originator_replica_id)),
    ];
    Ok((record(&read.header, fields), out))
}

fn updated_event(datum: &[u8]) -> Read {
    let read = tle::TenantEvent::decode(datum)?;
    let mut out = Vec::new();
    read.encode(&mut out);
    let fields = [
        ("tenantId", text(read.tenant_id)),
        ("originatorReplicaId", text(read.originator_replica_id)),
    ];
    Ok((record(&read.header, fields), out))
}

/// Any value of a schema of the kinds that occur here.
fn value(schema: &Schema) -> BoxedStrategy<Value> {
    match schema {
        Schema::Null => Just(Value::Null).boxed(),
        Schema::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Schema::Long => prop_oneof![Just(0), any::<i64>()].prop_map(Value::Long).boxed(),
        Schema::String => {
            prop_oneof!["[a-z0-9-]{0,70}", "\\PC{0,40}"].prop_map(Value::String).boxed()
        }
        Schema::Array(array) => {
            prop::collection::vec(value(&array.items), 0..5).prop_map(Value::Array).boxed()
        }
        Schema::Map(map) => prop::collection::hash_map("\\PC{0,20}", value(&map.types), 0..5)
            .prop_map(Value::Map)
            .boxed(),
        Schema::Union(union) => {
            let branch = |(index, schema): (usize, &Schema)| {
                value(schema).prop_map(move |v| Value::Union(index as u32, Box::new(v))).boxed()
            };
            Union::new(union.variants().iter().enumerate().map(branch)).boxed()
        }
        Schema::Record(record) => fields(record),
        other => panic!("{other:?} does not occur"),
    }
}

fn fields(record: &RecordSchema) -> BoxedStrategy<Value> {
    let names: Vec<String> = record.fields.iter().map(|field| field.name.clone()).collect();
    let values: Vec<_> = record.fields.iter().map(|field| value(&field.schema)).collect();
    let zip = move |values: Vec<Value>| Value::Record(names.iter().cloned().zip(values).collect());
    values.prop_map(zip).boxed()
}

/// The number of a record, and a value of it.
fn any_record() -> impl Strategy<Value = (usize, Value)> {
    Union::new(
        (0..RECORDS.len())
            .map(|number| value(&SCHEMAS[number]).prop_map(move |value| (number, value)).boxed()),
    )
}

fn theirs(number: usize, value: &Value) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(&SCHEMAS[number]).build().expect("a writer");
    writer.write_value_to_vec(value.clone()).expect("a value of the schema")
}

fn read_by_peer(number: usize, mut datum: &[u8]) -> Option<Value> {
    let schema = &SCHEMAS[number];
    let reader = GenericDatumReader::builder(schema).build().expect("a reader");
    // The peer takes a string cut short for a null, which then is no value of the schema.
    reader.read_value(&mut datum).ok().filter(|value| value.validate(schema))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn records_are_read_as_the_peer_wrote_them_and_written_so_that_it_reads_them(
        (number, value) in any_record()
    ) {
        let datum = theirs(number, &value);
        let (ours, written) = RECORDS[number].2(&datum).expect("a good datum");
        prop_assert_eq!(&ours, &value, "{}", RECORDS[number].0);
        // The peer writes a map in any order.
        prop_assert_eq!(written.len(), datum.len());
        prop_assert_eq!(read_by_peer(number, &written), Some(value));
    }

    /// One changed byte: both sides refuse the datum, or both read the same.
    #[test]
    fn a_damaged_record_is_judged_as_the_peer_does(
        (number, value) in any_record(), at: prop::sample::Index, byte: u8,
    ) {
        let mut datum = theirs(number, &value);
        *at.get_mut(&mut datum) = byte;
        let theirs = read_by_peer(number, &datum);
        match RECORDS[number].2(&datum) {
            // A trailing null may be missing for us.
            Ok((ours, _)) => {
                let with_null = [&datum[..], &[0]].concat();
                let theirs = theirs.or_else(|| read_by_peer(number, &with_null));
                prop_assert_eq!(Some(ours), theirs);
            }
            // The peer drops the bits of a number beyond 64, and takes a branch cut short for null.
            Err(AvroError::VarintTooLong { .. }) => {}
            Err(AvroError::Truncated { expected: "union", .. }) => {}
            Err(error) => prop_assert!(theirs.is_none(), "ours: {error}, theirs: {theirs:?}"),
        }
    }

    /// Only a trailing reason, which has a default, may be missing, and only whole.
    #[test]
    fn a_record_cut_short_is_refused((number, value) in any_record(), at: prop::sample::Index) {
        let mut datum = theirs(number, &value);
        let whole = datum.len();
        datum.truncate(at.index(whole));
        if RECORDS[number].2(&datum).is_ok() {
            let Value::Record(mut fields) = value else { unreachable!("all are records") };
            let (name, last) = fields.pop().expect("has fields");
            prop_assert_eq!(name.as_str(), "reasonPhrase");
            let reason_bytes = match last {
                Value::Union(0, _) => 1,
                _ => whole - datum.len(),
            };
            prop_assert_eq!(whole - datum.len(), reason_bytes);
        }
    }

    /// However a map is cut into blocks, with or without their sizes: its entries are read.
    #[test]
    fn a_map_in_several_blocks_is_read(
        blocks in prop::collection::vec(
            (prop::collection::vec(("[a-z]{1,6}", "\\PC{0,9}"), 1..4), any::<bool>()), 0..5,
        ),
    ) {
        let mut datum = b"\x04c1\x02\x00".to_vec();
        let mut entries = Vec::new();
        for (block, sized) in &blocks {
            let mut body = Vec::new();
            for (key, text) in block {
                put(&mut body, key);
                put(&mut body, text);
                entries.push((key.as_str(), text.as_str()));
            }
            let count = block.len() as i64;
            put_long(&mut datum, if *sized { -count } else { count });
            if *sized {
                put_long(&mut datum, body.len() as i64);
            }
            datum.extend_from_slice(&body);
        }
        datum.extend_from_slice(b"\x00\x04r1and more");
        let event = elce::ConnectivityEvent::decode(&datum).expect("well-formed");
        prop_assert_eq!(&event.endpoints.iter().collect::<Vec<_>>(), &entries);
        prop_assert_eq!(event.originator_replica_id, "r1");
        let (ours, _) = connected_event(&datum).expect("well-formed");
        let connected = RECORDS.iter().position(|(name, ..)| *name == "ConnectedEvent");
        let theirs = read_by_peer(connected.expect("one of them"), &datum);
        prop_assert_eq!(Some(ours), theirs);
        let distinct: HashMap<_, _> = entries.into_iter().collect();
        prop_assert!(distinct.len() <= event.endpoints.iter().count());
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    ringgate::codec::avro::put_string(out, text);
}

fn put_long(out: &mut Vec<u8>, value: i64) {
    ringgate::codec::avro::put_long(out, value);
    let mut reader = Reader::new(&out[out.len() - ringgate::codec::avro::long_len(value)..]);
    assert_eq!(reader.long(), Ok(value));
}
