//! `ClientData` for a stream of messages on one topic: what they share is encoded once.

use super::fields::{NULL, VALUE, put_null_or_string, put_string_or_null};
use super::{Varints, bytes_len, long_len, put_bytes, put_string};

/// How `ClientData.configName`, appended to the schema in 2026, is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfigName {
    /// Not at all, for extension services that refuse bytes after the fields they know.
    Omit,
    /// Always null.
    Null,
    /// The name that [`config_name`] finds in the resource path, else null.
    #[default]
    FromPath,
}

/// Name of the configuration a resource path speaks of (7/CMP): `network` of
/// `/config/json/network`; likewise under `/applied/json/` and `/report/json/`.
///
/// A name is one or more of `a-z A-Z 0-9 _ -`.
#[must_use]
pub fn config_name(resource_path: &str) -> Option<&str> {
    let name = ["/config/json/", "/applied/json/", "/report/json/"]
        .iter()
        .find_map(|prefix| resource_path.strip_prefix(prefix))?;
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!name.is_empty() && name.bytes().all(is_name_byte)).then_some(name)
}

/// The parts of a [`ClientData`](super::ClientData) that are the same for every message on one
/// topic, encoded once.
///
/// What differs from message to message is added by [`ClientDataTemplate::encode_into`], whose
/// length [`ClientDataTemplate::encoded_len`] tells beforehand (a NATS PUB line needs it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientDataTemplate {
    /// appVersionName, endpointId and resourcePath, then configName: one allocation.
    bytes: Box<[u8]>,
    /// Where configName starts in `bytes`; their end when the field is omitted.
    config_name_at: u32,
}

impl ClientDataTemplate {
    /// Encodes the constant fields.
    ///
    /// # Panics
    /// If they take more than 4 GiB; they come from a topic of at most 64 KiB.
    #[must_use]
    pub fn new(
        app_version_name: &str,
        endpoint_id: Option<&str>,
        resource_path: &str,
        config_name: ConfigName,
    ) -> Self {
        let name = match config_name {
            ConfigName::Omit | ConfigName::Null => None,
            ConfigName::FromPath => self::config_name(resource_path),
        };
        let string_bytes_max = |text: &str| 1 + bytes_len(text.len());
        let mut bytes = Vec::with_capacity(
            string_bytes_max(app_version_name)
                + string_bytes_max(endpoint_id.unwrap_or_default())
                + string_bytes_max(resource_path)
                + string_bytes_max(name.unwrap_or_default()),
        );
        put_string(&mut bytes, app_version_name);
        put_string_or_null(&mut bytes, endpoint_id);
        put_string(&mut bytes, resource_path);
        let config_name_at =
            u32::try_from(bytes.len()).expect("fields of a topic are far below 4 GiB");
        if config_name != ConfigName::Omit {
            put_null_or_string(&mut bytes, name);
        }
        Self { bytes: bytes.into_boxed_slice(), config_name_at }
    }

    /// Length in bytes of the datum that [`ClientDataTemplate::encode_into`] appends for a
    /// correlation id and a payload of these lengths.
    #[inline]
    #[must_use]
    pub fn encoded_len(
        &self,
        correlation_len: usize,
        timestamp_ms: i64,
        timeout_ms: i64,
        request_id: Option<u32>,
        payload_len: usize,
    ) -> usize {
        // The union index of a request id is one byte, whichever branch.
        let request_id_len = 1 + request_id.map_or(0, |id| long_len(i64::from(id)));
        bytes_len(correlation_len)
            + long_len(timestamp_ms)
            + long_len(timeout_ms)
            + self.bytes.len()
            + request_id_len
            + bytes_len(payload_len)
    }

    /// Appends one datum. Does not allocate when `out` has room for
    /// [`ClientDataTemplate::encoded_len`] bytes more.
    ///
    /// `correlation` must be UTF-8 and `request_id` at most 2147483647 (`requestId` is an Avro
    /// `int`): a reader refuses the datum otherwise.
    #[inline]
    pub fn encode_into(
        &self,
        correlation: &[u8],
        timestamp_ms: i64,
        timeout_ms: i64,
        request_id: Option<u32>,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        debug_assert!(std::str::from_utf8(correlation).is_ok());
        debug_assert!(request_id.is_none_or(|id| i32::try_from(id).is_ok()));
        let len = self.encoded_len(
            correlation.len(),
            timestamp_ms,
            timeout_ms,
            request_id,
            payload.len(),
        );
        out.reserve(len);
        let end = out.len() + len;
        let (constant, config_name) = self.bytes.split_at(self.config_name_at as usize);

        put_bytes(out, correlation);
        let mut times = Varints::<2>::default();
        times.push(timestamp_ms);
        times.push(timeout_ms);
        out.extend_from_slice(times.as_bytes());
        out.extend_from_slice(constant);
        let mut tail = Varints::<3>::default();
        match request_id {
            Some(id) => {
                tail.push(i64::from(VALUE));
                tail.push(i64::from(id));
            }
            None => tail.push(i64::from(NULL)),
        }
        tail.push(payload.len() as i64);
        out.extend_from_slice(tail.as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(config_name);
        debug_assert_eq!(out.len(), end);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ClientData;
    use super::*;

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

    #[test]
    fn a_template_writes_what_the_plain_encoder_writes() {
        for (path, config_name, named) in [
            ("/config/json/network", ConfigName::FromPath, Some("network")),
            ("/config/json/network", ConfigName::Null, None),
            ("/json", ConfigName::FromPath, None),
        ] {
            let data = ClientData { resource_path: path, config_name: named, ..TO_ENDPOINT };
            let mut expected = Vec::new();
            data.encode(&mut expected);
            let template = ClientDataTemplate::new("av1", Some("e1"), path, config_name);
            let mut out = Vec::new();
            template.encode_into(b"c1", 1, 0, Some(42), b"[1]", &mut out);
            assert_eq!(out, expected);
            assert_eq!(template.encoded_len(2, 1, 0, Some(42), 3), expected.len());
        }
    }

    #[test]
    fn an_omitted_config_name_leaves_no_byte() {
        let template =
            ClientDataTemplate::new("av1", None, "/config/json/network", ConfigName::Omit);
        let mut out = Vec::new();
        template.encode_into(b"c1", 1, 0, None, b"[1]", &mut out);
        assert!(out.ends_with(b"[1]"));
        assert_eq!(out.len(), template.encoded_len(2, 1, 0, None, 3));
        let data = ClientData::decode(&out).expect("the field has a default");
        assert_eq!(data.config_name, None);
    }

    #[test]
    fn finds_the_config_name_in_the_paths_of_7_cmp_only() {
        assert_eq!(config_name("/config/json/Net_work-1"), Some("Net_work-1"));
        assert_eq!(config_name("/applied/json/n"), Some("n"));
        assert_eq!(config_name("/report/json/n"), Some("n"));
        for path in [
            "/config/json",
            "/config/json/",
            "/config/json/n/",
            "/config/json/n/m",
            "/config/json/n.m",
            "/config/json/n\u{e9}",
            "config/json/n",
            "/x/config/json/n",
            "/command/json/n",
            "",
        ] {
            assert_eq!(config_name(path), None, "{path}");
        }
    }
}
