//! What a server tells about itself.

use serde::Deserialize;

/// The JSON of an INFO line, as far as a client needs it. Unknown fields are ignored, missing ones
/// have the value that asks the least.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The server's public key.
    pub server_id: String,
    /// Its name, for logs.
    pub server_name: String,
    /// Its version, for instance `2.15.1`.
    pub version: String,
    /// Protocol level; 1 and more sends INFO again when something changes.
    pub proto: i64,
    /// The largest payload it accepts, in bytes, headers included; 0 if it does not say.
    pub max_payload: usize,
    /// Whether it understands headers, and with them `no responders`.
    pub headers: bool,
    /// Whether it expects credentials in CONNECT.
    pub auth_required: bool,
    /// Whether TLS must follow INFO.
    pub tls_required: bool,
    /// Whether TLS may follow INFO.
    pub tls_available: bool,
    /// Whether it expects a client certificate.
    pub tls_verify: bool,
    /// What nkey and JWT clients have to sign.
    pub nonce: Option<String>,
    /// `host:port` of the servers of its cluster that clients may use.
    pub connect_urls: Vec<String>,
    /// Lame duck mode: it is about to shut down, and clients should go elsewhere.
    #[serde(rename = "ldm")]
    pub is_lame_duck: bool,
}

impl ServerInfo {
    /// Parses the JSON of an INFO line.
    ///
    /// # Errors
    /// Not JSON, or a field has another type than the protocol says.
    pub fn from_json(json: &str) -> Result<ServerInfo, serde_json::Error> {
        serde_json::from_str(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_says_and_ignores_the_rest() {
        let json = r#"{"server_id":"N1","version":"2.15.1","proto":1,"headers":true,
            "max_payload":1048576,"nonce":"n0","connect_urls":["10.0.0.1:4222"],"ldm":true,
            "tls_required":true,"some_future_field":{"a":[1]}}"#;
        let info = ServerInfo::from_json(json).unwrap();
        assert_eq!((info.max_payload, info.headers, info.is_lame_duck), (1_048_576, true, true));
        assert_eq!(info.nonce.as_deref(), Some("n0"));
        assert_eq!(info.connect_urls, ["10.0.0.1:4222"]);
        assert!(info.tls_required && !info.tls_available && !info.auth_required);
        assert_eq!(ServerInfo::from_json("{}").unwrap(), ServerInfo::default());
    }

    #[test]
    fn refuses_what_is_not_json_or_of_another_type() {
        for json in ["", "1", "{", r#"{"max_payload":"1"}"#, r#"{"max_payload":-1}"#] {
            assert!(ServerInfo::from_json(json).is_err(), "{json}");
        }
    }
}
