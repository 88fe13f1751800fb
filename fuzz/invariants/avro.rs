//! What holds for any bytes taken as a datum of one of the protocols spoken over NATS.

use ringgate::codec::avro::{ClientData, ClientDataTemplate, ConfigName, ExtensionData};
use ringgate::codec::avro::{cap, ecap, elce, tle};

/// Takes `data` as a `ClientData`, as an `ExtensionData`, and as each record of 16/ECAP, 22/CAP,
/// 9/ELCE and 21/TLE.
pub fn check(data: &[u8]) {
    check_client_data(data);
    check_extension_data(data);
    check_questions(data);
    check_answers(data);
    check_events(data);
}

/// What decodes, encodes to a datum that decodes to the same; the template writes that datum too.
fn check_client_data(data: &[u8]) {
    let Ok(decoded) = ClientData::decode(data) else { return };
    let mut datum = Vec::new();
    decoded.encode(&mut datum);
    assert_eq!(ClientData::decode(&datum), Ok(decoded));

    let request_id = decoded.request_id.map(u32::try_from);
    let Ok(request_id) = request_id.transpose() else { return };
    let template = ClientDataTemplate::new(
        decoded.app_version_name,
        decoded.endpoint_id,
        decoded.resource_path,
        ConfigName::Null,
    );
    let mut by_template = Vec::new();
    template.encode_into(
        decoded.correlation_id.as_bytes(),
        decoded.timestamp_ms,
        decoded.timeout_ms,
        request_id,
        decoded.payload,
        &mut by_template,
    );
    let len = template.encoded_len(
        decoded.correlation_id.len(),
        decoded.timestamp_ms,
        decoded.timeout_ms,
        request_id,
        decoded.payload.len(),
    );
    assert_eq!(by_template.len(), len);
    let nameless = ClientData { config_name: None, ..decoded };
    assert_eq!(ClientData::decode(&by_template), Ok(nameless));
}

fn check_extension_data(data: &[u8]) {
    let Ok(decoded) = ExtensionData::decode(data) else { return };
    let mut datum = Vec::new();
    decoded.encode(&mut datum);
    assert_eq!(ExtensionData::decode(&datum), Ok(decoded));
}

/// What decodes, encodes to a datum that decodes to the same.
macro_rules! comes_back {
    ($record:ty, $data:expr) => {
        if let Ok(decoded) = <$record>::decode($data) {
            let mut datum = Vec::new();
            decoded.encode(&mut datum);
            assert_eq!(<$record>::decode(&datum), Ok(decoded));
        }
    };
}

fn check_questions(data: &[u8]) {
    comes_back!(ecap::EndpointTokenValidationRequest<'_>, data);
    comes_back!(ecap::EndpointTokenStatusTransitionRequest<'_>, data);
    comes_back!(ecap::ClientUsernamePasswordValidationRequest<'_>, data);
    comes_back!(ecap::ClientCertificateValidationRequest<'_>, data);
    comes_back!(cap::ClientBasicAuthenticationRequest<'_>, data);
    comes_back!(cap::ClientCertificateAuthenticationRequest<'_>, data);
}

fn check_answers(data: &[u8]) {
    comes_back!(ecap::EndpointTokenValidationResponse<'_>, data);
    comes_back!(ecap::EndpointTokenStatusTransitionResponse<'_>, data);
    comes_back!(ecap::ClientValidationResponse<'_>, data);
    comes_back!(cap::ClientBasicAuthenticationResponse<'_>, data);
    comes_back!(cap::ClientCertificateAuthenticationResponse<'_>, data);
}

fn check_events(data: &[u8]) {
    comes_back!(ecap::ClientCredentialRevokedEvent<'_>, data);
    comes_back!(cap::ClientCredentialsRevokedEvent<'_>, data);
    comes_back!(tle::TenantEvent<'_>, data);
    if let Ok(decoded) = elce::ConnectivityEvent::decode(data) {
        // An entry has two bytes at least, so that no count makes more of them.
        let endpoints: Vec<_> = decoded.endpoints.iter().collect();
        assert!(endpoints.len() <= data.len() / 2);
        let mut datum = Vec::new();
        let originator = decoded.originator_replica_id;
        let endpoints = endpoints.into_iter();
        elce::ConnectivityEvent::encode(&decoded.header, endpoints, originator, &mut datum);
        assert_eq!(elce::ConnectivityEvent::decode(&datum), Ok(decoded));
    }
    if let Ok(decoded) = ecap::EndpointTokenRevokedEvent::decode(data) {
        let ids: Vec<_> = decoded.token_ids.iter().collect();
        assert!(ids.len() <= data.len());
        let mut datum = Vec::new();
        ecap::EndpointTokenRevokedEvent::encode(
            &decoded.header,
            decoded.app_name,
            decoded.endpoint_id,
            ids.into_iter(),
            decoded.originator_replica_id,
            &mut datum,
        );
        assert_eq!(ecap::EndpointTokenRevokedEvent::decode(&datum), Ok(decoded));
    }
}
