//! What holds for any bytes taken as a 4/ESP datum.

use ringgate::codec::avro::{ClientData, ClientDataTemplate, ConfigName, ExtensionData};

/// Takes `data` as a `ClientData` and as an `ExtensionData`.
pub fn check(data: &[u8]) {
    check_client_data(data);
    check_extension_data(data);
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
