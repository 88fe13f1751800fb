//! 4/ESP messages (namespace `org.kaaproject.ipc.esp.gen.v1`): `ClientData` goes to an extension
//! service, `ExtensionData` comes back.
//!
//! The fields and their order are those of the schema; a field is found by its position alone.
//! Decoding is tolerant so that either side may be a version ahead: a missing trailing field takes
//! its default, and bytes after the last known field are ignored.

use super::fields::{
    NULL, VALUE, expired, null_or_string_if_present, put_int_or_null, put_null_or_string,
    put_string_or_null, value_or_null,
};
use super::{AvroError, Reader, put_bytes, put_long, put_string, put_union_index};

/// A client's message on its way to an extension service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientData<'a> {
    /// Identifies the message in logs and, echoed, its answer.
    pub correlation_id: &'a str,
    /// When the message was made, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// For how long after the timestamp the message is worth processing; 0 = for ever.
    pub timeout_ms: i64,
    /// Application version, from the topic.
    pub app_version_name: &'a str,
    /// `None` for an endpoint-unaware extension.
    pub endpoint_id: Option<&'a str>,
    /// With leading `/`, without token and request id: `/json`, `/config/json`.
    pub resource_path: &'a str,
    /// `None` when the client wants no answer.
    pub request_id: Option<i32>,
    /// The client's payload, byte for byte.
    pub payload: &'a [u8],
    /// Named configuration; `None` is the default one. Writers from before 2026 lack the field.
    pub config_name: Option<&'a str>,
}

impl<'a> ClientData<'a> {
    /// Reads a `ClientData` datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            correlation_id: reader.string()?,
            timestamp_ms: reader.long()?,
            timeout_ms: reader.long()?,
            app_version_name: reader.string()?,
            endpoint_id: value_or_null(&mut reader, Reader::string)?,
            resource_path: reader.string()?,
            request_id: value_or_null(&mut reader, Reader::int)?,
            payload: reader.bytes()?,
            config_name: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    ///
    /// [`ClientDataTemplate`](super::ClientDataTemplate) does the same for a stream of messages,
    /// faster.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self.correlation_id);
        put_long(out, self.timestamp_ms);
        put_long(out, self.timeout_ms);
        put_string(out, self.app_version_name);
        put_string_or_null(out, self.endpoint_id);
        put_string(out, self.resource_path);
        put_int_or_null(out, self.request_id);
        put_bytes(out, self.payload);
        put_null_or_string(out, self.config_name);
    }

    /// Whether the message should no longer be processed at `now_ms`, in milliseconds since the
    /// Unix epoch (3/ISM: `timeout` after `timestamp`, 0 = never).
    #[must_use]
    pub fn expired(&self, now_ms: i64) -> bool {
        expired(self.timestamp_ms, self.timeout_ms, now_ms)
    }
}

/// An extension service's answer or push on its way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtensionData<'a> {
    /// That of the `ClientData` answered, when the extension echoes it.
    pub correlation_id: &'a str,
    /// When the message was made, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// For how long after the timestamp the message is worth processing; 0 = for ever.
    pub timeout_ms: i64,
    /// `None` when the extension does not know it.
    pub app_version_name: Option<&'a str>,
    /// Service instance that sent this.
    pub extension_instance_name: Option<&'a str>,
    /// `None` from an endpoint-unaware extension.
    pub endpoint_id: Option<&'a str>,
    /// With leading `/`, without token and request id.
    pub resource_path: &'a str,
    /// `None` for a push.
    pub request_id: Option<i32>,
    /// `None` is delivered as an empty payload.
    pub payload: Option<&'a [u8]>,
    /// HTTP status code: 2xx is a success.
    pub status_code: i32,
    /// Text for `status_code`.
    pub reason_phrase: Option<&'a str>,
}

impl<'a> ExtensionData<'a> {
    /// Reads an `ExtensionData` datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            correlation_id: reader.string()?,
            timestamp_ms: reader.long()?,
            timeout_ms: reader.long()?,
            app_version_name: value_or_null(&mut reader, Reader::string)?,
            extension_instance_name: value_or_null(&mut reader, Reader::string)?,
            endpoint_id: value_or_null(&mut reader, Reader::string)?,
            resource_path: reader.string()?,
            request_id: value_or_null(&mut reader, Reader::int)?,
            payload: value_or_null(&mut reader, Reader::bytes)?,
            status_code: reader.int()?,
            reason_phrase: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self.correlation_id);
        put_long(out, self.timestamp_ms);
        put_long(out, self.timeout_ms);
        put_string_or_null(out, self.app_version_name);
        put_string_or_null(out, self.extension_instance_name);
        put_string_or_null(out, self.endpoint_id);
        put_string(out, self.resource_path);
        put_int_or_null(out, self.request_id);
        match self.payload {
            Some(payload) => {
                put_union_index(out, VALUE);
                put_bytes(out, payload);
            }
            None => put_union_index(out, NULL),
        }
        put_long(out, i64::from(self.status_code));
        put_null_or_string(out, self.reason_phrase);
    }

    /// Whether the message should no longer be processed at `now_ms`, in milliseconds since the
    /// Unix epoch (3/ISM: `timeout` after `timestamp`, 0 = never).
    #[must_use]
    pub fn expired(&self, now_ms: i64) -> bool {
        expired(self.timestamp_ms, self.timeout_ms, now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |byte: u8| (byte as char).to_digit(16).expect("a hex digit") as u8;
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    const TO_ENDPOINT: ClientData<'static> = ClientData {
        correlation_id: "c1",
        timestamp_ms: 1,
        timeout_ms: 0,
        app_version_name: "av1",
        endpoint_id: Some("e1"),
        resource_path: "/json",
        request_id: Some(42),
        payload: b"[1]",
        config_name: None,
    };

    const ANSWER: ExtensionData<'static> = ExtensionData {
        correlation_id: "c1",
        timestamp_ms: 1,
        timeout_ms: 0,
        app_version_name: Some("av1"),
        extension_instance_name: Some("dcx"),
        endpoint_id: Some("e1"),
        resource_path: "/json",
        request_id: Some(42),
        payload: None,
        status_code: 200,
        reason_phrase: Some("OK"),
    };

    #[test]
    fn client_data_is_as_other_writers_write_it() {
        let vectors = [
            (TO_ENDPOINT, "046331020006617631000465310a2f6a736f6e0054065b315d00"),
            (
                ClientData {
                    endpoint_id: None,
                    resource_path: "/x",
                    request_id: None,
                    payload: b"",
                    config_name: Some("network"),
                    ..TO_ENDPOINT
                },
                "04633102000661763102042f780200020e6e6574776f726b",
            ),
        ];
        for (data, datum) in vectors {
            let datum = hex(datum);
            let mut out = Vec::new();
            data.encode(&mut out);
            assert_eq!(out, datum);
            assert_eq!(ClientData::decode(&datum), Ok(data));
        }
    }

    #[test]
    fn extension_data_is_as_other_writers_write_it() {
        let datum = hex("046331020000066176310006646378000465310a2f6a736f6e005402900302044f4b");
        let mut out = Vec::new();
        ANSWER.encode(&mut out);
        assert_eq!(out, datum);
        assert_eq!(ExtensionData::decode(&datum), Ok(ANSWER));
    }

    #[test]
    fn missing_trailing_fields_take_their_defaults() {
        let mut old = Vec::new();
        TO_ENDPOINT.encode(&mut old);
        old.pop();
        assert_eq!(ClientData::decode(&old), Ok(TO_ENDPOINT));

        let silent = ExtensionData { reason_phrase: None, ..ANSWER };
        let mut old = Vec::new();
        silent.encode(&mut old);
        old.pop();
        assert_eq!(ExtensionData::decode(&old), Ok(silent));
        old.pop();
        let error = AvroError::Truncated { at: old.len() - 1, expected: "int" };
        assert_eq!(ExtensionData::decode(&old), Err(error));
    }

    #[test]
    fn bytes_after_the_last_known_field_are_ignored() {
        let mut newer = Vec::new();
        ANSWER.encode(&mut newer);
        newer.extend_from_slice(b"\xff\xff");
        assert_eq!(ExtensionData::decode(&newer), Ok(ANSWER));
    }

    #[test]
    fn expires_strictly_after_its_timeout_and_never_without_one() {
        let data =
            |timestamp_ms, timeout_ms| ClientData { timestamp_ms, timeout_ms, ..TO_ENDPOINT };
        assert!(!data(1_000, 10).expired(1_010));
        assert!(data(1_000, 10).expired(1_011));
        assert!(!data(1_000, 0).expired(i64::MAX));
        assert!(!data(i64::MAX, i64::MAX).expired(i64::MAX));
        assert!(data(i64::MIN, -1).expired(i64::MIN));
        assert!(ExtensionData { timeout_ms: 1, ..ANSWER }.expired(3));
    }
}
