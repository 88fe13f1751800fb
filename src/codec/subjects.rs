//! NATS subjects of 3/ISM: `kaa.v1.service.…` to any replica of a service instance,
//! `kaa.v1.replica.…` to one replica, `kaa.v1.events.…` to whoever wants to know.
//!
//! Names of instances and replicas become one token of a subject each: the settings refuse what
//! could not be one.

/// The message types of 4/ESP, as `protocol.message`.
pub mod esp {
    /// To an extension service.
    pub const CLIENT_DATA: &str = "esp.ClientData";
    /// From an extension service.
    pub const EXTENSION_DATA: &str = "esp.ExtensionData";
}

/// The message types of 16/ECAP, as `protocol.message`, and its events.
pub mod ecap {
    /// Which endpoint has this token?
    pub const TOKEN_REQUEST: &str = "ecap.ep-token-request";
    /// The answer to it.
    pub const TOKEN_RESPONSE: &str = "ecap.ep-token-response";
    /// Give this token another status.
    pub const TOKEN_STATUS_REQUEST: &str = "ecap.ep-token-status-transition-request";
    /// The answer to it.
    pub const TOKEN_STATUS_RESPONSE: &str = "ecap.ep-token-status-transition-response";
    /// Are these a client's user name and password?
    pub const BASIC_REQUEST: &str = "ecap.client-username-password-request";
    /// The answer to it.
    pub const BASIC_RESPONSE: &str = "ecap.client-username-password-response";
    /// Whose certificate is this?
    pub const CERTIFICATE_REQUEST: &str = "ecap.client-certificate-request";
    /// The answer to it.
    pub const CERTIFICATE_RESPONSE: &str = "ecap.client-certificate-response";
    /// Event: tokens of an endpoint are good no more.
    pub const TOKEN_REVOKED: &str = "endpoint.token.revoked";
    /// Event: credentials of a client are good no more.
    pub const CREDENTIAL_REVOKED: &str = "client.credential.revoked";
}

/// The message types of 22/CAP, as `protocol.message`, and its events.
pub mod cap {
    /// Are these a client's user name and password?
    pub const BASIC_REQUEST: &str = "cap.basic-request";
    /// The answer to it.
    pub const BASIC_RESPONSE: &str = "cap.basic-response";
    /// Whose certificate is this?
    pub const CERTIFICATE_REQUEST: &str = "cap.certificate-request";
    /// The answer to it.
    pub const CERTIFICATE_RESPONSE: &str = "cap.certificate-response";
    /// Event: a user name and password are good no more.
    pub const BASIC_REVOKED: &str = "client-credentials.basic.revoked";
    /// Event: a certificate is good no more.
    pub const CERTIFICATE_REVOKED: &str = "client-credentials.certificate.revoked";
}

/// The events of 9/ELCE.
pub mod elce {
    /// Endpoints are connected.
    pub const CONNECTED: &str = "endpoint.connectivity.connected";
    /// Endpoints are connected no more.
    pub const DISCONNECTED: &str = "endpoint.connectivity.disconnected";
}

/// The events of 21/TLE.
pub mod tle {
    /// A tenant has changed.
    pub const UPDATED: &str = "tenant.lifecycle.updated";
    /// A tenant is no more.
    pub const UNREGISTERED: &str = "tenant.lifecycle.unregistered";
}

/// The subject of `message`, one of the constants here, to a service instance.
#[must_use]
pub fn service(instance: &str, message: &str) -> String {
    format!("kaa.v1.service.{instance}.{message}")
}

/// The subject of `message`, one of the constants here, to one replica.
#[must_use]
pub fn replica(replica: &str, message: &str) -> String {
    format!("kaa.v1.replica.{replica}.{message}")
}

/// The subject of `event`, one of the constants here, from a service instance.
#[must_use]
pub fn event(originator_instance: &str, event: &str) -> String {
    format!("kaa.v1.events.{originator_instance}.{event}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_3_ism() {
        assert_eq!(service("cm", ecap::TOKEN_REQUEST), "kaa.v1.service.cm.ecap.ep-token-request");
        assert_eq!(replica("r-0", cap::BASIC_RESPONSE), "kaa.v1.replica.r-0.cap.basic-response");
        assert_eq!(
            event("ccm", cap::CERTIFICATE_REVOKED),
            "kaa.v1.events.ccm.client-credentials.certificate.revoked"
        );
    }
}
