//! 16/ECAP messages (namespace `org.kaaproject.ipc.ecap.gen.v1`): whether an endpoint token or a
//! client's credentials are good, and that they are good no more.
//!
//! Decoding is as tolerant as that of 4/ESP. A request carries a reply subject and is answered
//! there.

use std::fmt;

use super::blocks::put_string_array;
use super::fields::{
    Hidden, null_or_string_if_present, put_null_or_string, put_string_or_null, string_or_null,
};
use super::{AvroError, Header, Reader, StringArray, put_long, put_string};

/// Which endpoint has this token (16/ECAP §Endpoint token validation)?
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EndpointTokenValidationRequest<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// Name of the application.
    pub app_name: &'a str,
    /// The token: a credential, which `Debug` does not show.
    pub token: &'a str,
}

impl<'a> EndpointTokenValidationRequest<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            app_name: reader.string()?,
            token: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.app_name);
        put_string(out, self.token);
    }
}

impl fmt::Debug for EndpointTokenValidationRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTokenValidationRequest")
            .field("header", &self.header)
            .field("app_name", &self.app_name)
            .field("token", &Hidden)
            .finish()
    }
}

/// The answer to an [`EndpointTokenValidationRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointTokenValidationResponse<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// What a revocation calls the token.
    pub token_id: Option<&'a str>,
    /// The endpoint that has the token.
    pub endpoint_id: Option<&'a str>,
    /// HTTP status code: 2xx means that it is good.
    pub status_code: i32,
    /// Text for `status_code`.
    pub reason_phrase: Option<&'a str>,
}

impl<'a> EndpointTokenValidationResponse<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            token_id: string_or_null(&mut reader)?,
            endpoint_id: string_or_null(&mut reader)?,
            status_code: reader.int()?,
            reason_phrase: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string_or_null(out, self.token_id);
        put_string_or_null(out, self.endpoint_id);
        put_long(out, i64::from(self.status_code));
        put_null_or_string(out, self.reason_phrase);
    }
}

/// Give this token another status (16/ECAP §Endpoint token status transition, of 2023).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EndpointTokenStatusTransitionRequest<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// Name of the application.
    pub app_name: &'a str,
    /// The token: a credential, which `Debug` does not show.
    pub token: &'a str,
    /// The status it is to have: `ACTIVE`, `SUSPENDED`, `REVOKED`, …, as the provider names them.
    pub target_status: &'a str,
}

impl<'a> EndpointTokenStatusTransitionRequest<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            app_name: reader.string()?,
            token: reader.string()?,
            target_status: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.app_name);
        put_string(out, self.token);
        put_string(out, self.target_status);
    }
}

impl fmt::Debug for EndpointTokenStatusTransitionRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointTokenStatusTransitionRequest")
            .field("header", &self.header)
            .field("app_name", &self.app_name)
            .field("token", &Hidden)
            .field("target_status", &self.target_status)
            .finish()
    }
}

/// The answer to an [`EndpointTokenStatusTransitionRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointTokenStatusTransitionResponse<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// HTTP status code: 2xx means that it is good.
    pub status_code: i32,
    /// Text for `status_code`.
    pub reason_phrase: Option<&'a str>,
}

impl<'a> EndpointTokenStatusTransitionResponse<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            status_code: reader.int()?,
            reason_phrase: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_long(out, i64::from(self.status_code));
        put_null_or_string(out, self.reason_phrase);
    }
}

/// Tokens of an endpoint are good no more (16/ECAP §Endpoint token revoked). Everybody ends at once
/// what was begun with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointTokenRevokedEvent<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// Name of the application.
    pub app_name: &'a str,
    /// The endpoint that had the tokens.
    pub endpoint_id: &'a str,
    /// What the provider calls the tokens.
    pub token_ids: StringArray<'a>,
    /// The replica that says so.
    pub originator_replica_id: &'a str,
}

impl<'a> EndpointTokenRevokedEvent<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            app_name: reader.string()?,
            endpoint_id: reader.string()?,
            token_ids: StringArray::read(&mut reader)?,
            originator_replica_id: reader.string()?,
        })
    }

    /// Appends the datum of an event about these tokens.
    pub fn encode<'b>(
        header: &Header<'_>,
        app_name: &str,
        endpoint_id: &str,
        token_ids: impl ExactSizeIterator<Item = &'b str>,
        originator_replica_id: &str,
        out: &mut Vec<u8>,
    ) {
        header.put(out);
        put_string(out, app_name);
        put_string(out, endpoint_id);
        put_string_array(out, token_ids);
        put_string(out, originator_replica_id);
    }
}

/// Are these a client's user name and password (16/ECAP §Client username and password, of before
/// 22/CAP)?
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientUsernamePasswordValidationRequest<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password, which `Debug` does not show.
    pub password: Option<&'a str>,
}

impl<'a> ClientUsernamePasswordValidationRequest<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            username: string_or_null(&mut reader)?,
            password: string_or_null(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string_or_null(out, self.username);
        put_string_or_null(out, self.password);
    }
}

impl fmt::Debug for ClientUsernamePasswordValidationRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientUsernamePasswordValidationRequest")
            .field("header", &self.header)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| Hidden))
            .finish()
    }
}

/// Whose certificate is this (16/ECAP §Client certificate)? Who asks has verified it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificateValidationRequest<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The issuer's distinguished name.
    pub issuer: &'a str,
    /// The serial number in base 10.
    pub serial_number: &'a str,
}

impl<'a> ClientCertificateValidationRequest<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            issuer: reader.string()?,
            serial_number: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.issuer);
        put_string(out, self.serial_number);
    }
}

/// The answer to a [`ClientUsernamePasswordValidationRequest`] or a
/// [`ClientCertificateValidationRequest`]: two records with the same fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientValidationResponse<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// What a revocation calls the credentials.
    pub credential_id: Option<&'a str>,
    /// What the provider calls the client.
    pub client_id: Option<&'a str>,
    /// HTTP status code: 2xx means that it is good.
    pub status_code: i32,
    /// Text for `status_code`.
    pub reason_phrase: Option<&'a str>,
}

impl<'a> ClientValidationResponse<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            credential_id: string_or_null(&mut reader)?,
            client_id: string_or_null(&mut reader)?,
            status_code: reader.int()?,
            reason_phrase: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string_or_null(out, self.credential_id);
        put_string_or_null(out, self.client_id);
        put_long(out, i64::from(self.status_code));
        put_null_or_string(out, self.reason_phrase);
    }
}

/// Credentials of a client are good no more (16/ECAP §Client credential revoked).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCredentialRevokedEvent<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// What the provider calls the credentials.
    pub credential_id: &'a str,
    /// The replica that says so.
    pub originator_replica_id: &'a str,
}

impl<'a> ClientCredentialRevokedEvent<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            credential_id: reader.string()?,
            originator_replica_id: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.credential_id);
        put_string(out, self.originator_replica_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header<'static> = Header { correlation_id: "c1", timestamp_ms: 1, timeout_ms: 0 };

    #[test]
    fn a_token_request_is_as_other_writers_write_it() {
        let datum = b"\x04c1\x02\x00\x06app\x06tok";
        let request =
            EndpointTokenValidationRequest { header: HEADER, app_name: "app", token: "tok" };
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(out, datum);
        assert_eq!(EndpointTokenValidationRequest::decode(datum), Ok(request));
    }

    #[test]
    fn a_token_response_is_as_other_writers_write_it() {
        let good = EndpointTokenValidationResponse {
            header: HEADER,
            token_id: Some("t1"),
            endpoint_id: Some("e1"),
            status_code: 200,
            reason_phrase: None,
        };
        let bad = EndpointTokenValidationResponse {
            token_id: None,
            endpoint_id: None,
            status_code: 404,
            reason_phrase: Some("NF"),
            ..good
        };
        for (response, datum) in [
            (good, &b"\x04c1\x02\x00\x00\x04t1\x00\x04e1\x90\x03\x00"[..]),
            (bad, b"\x04c1\x02\x00\x02\x02\xa8\x06\x02\x04NF"),
        ] {
            let mut out = Vec::new();
            response.encode(&mut out);
            assert_eq!(out, datum);
            assert_eq!(EndpointTokenValidationResponse::decode(datum), Ok(response));
        }
        let mut shorter = Vec::new();
        good.encode(&mut shorter);
        shorter.pop();
        assert_eq!(EndpointTokenValidationResponse::decode(&shorter), Ok(good));
    }

    #[test]
    fn tokens_and_passwords_are_not_shown() {
        let token = "planted-token";
        let request = EndpointTokenValidationRequest { header: HEADER, app_name: "a", token };
        let transition = EndpointTokenStatusTransitionRequest {
            header: HEADER,
            app_name: "a",
            token,
            target_status: "ACTIVE",
        };
        let client = ClientUsernamePasswordValidationRequest {
            header: HEADER,
            username: Some("u"),
            password: Some(token),
        };
        let shown = format!("{request:?} {transition:?} {client:?}");
        assert!(!shown.contains("planted"), "{shown}");
        assert_eq!(shown.matches("***").count(), 3, "{shown}");
    }
}
