//! 22/CAP messages (namespace `org.kaaproject.ipc.cap.gen.v1`): whether a client's credentials are
//! good, and that they are good no more.
//!
//! Decoding is as tolerant as that of 4/ESP. A request carries a reply subject and is answered
//! there.

use std::fmt;

use super::fields::{
    Hidden, null_or_string_if_present, put_null_or_string, put_string_or_null, string_or_null,
};
use super::{AvroError, Header, Reader, put_long, put_string};

/// Are these a client's user name and password (22/CAP §Basic)?
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientBasicAuthenticationRequest<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The tenant the client belongs to.
    pub tenant_id: &'a str,
    /// The user name, without its tenant.
    pub username: &'a str,
    /// The password, which `Debug` does not show.
    pub password: &'a str,
}

impl<'a> ClientBasicAuthenticationRequest<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            tenant_id: reader.string()?,
            username: reader.string()?,
            password: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.tenant_id);
        put_string(out, self.username);
        put_string(out, self.password);
    }
}

impl fmt::Debug for ClientBasicAuthenticationRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBasicAuthenticationRequest")
            .field("header", &self.header)
            .field("tenant_id", &self.tenant_id)
            .field("username", &self.username)
            .field("password", &Hidden)
            .finish()
    }
}

/// The answer to a [`ClientBasicAuthenticationRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientBasicAuthenticationResponse<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// What a revocation calls the credentials.
    pub credentials_id: Option<&'a str>,
    /// What the provider calls the client.
    pub client_id: Option<&'a str>,
    /// HTTP status code: 2xx means that it is good.
    pub status_code: i32,
    /// Text for `status_code`.
    pub reason_phrase: Option<&'a str>,
}

impl<'a> ClientBasicAuthenticationResponse<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            credentials_id: string_or_null(&mut reader)?,
            client_id: string_or_null(&mut reader)?,
            status_code: reader.int()?,
            reason_phrase: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string_or_null(out, self.credentials_id);
        put_string_or_null(out, self.client_id);
        put_long(out, i64::from(self.status_code));
        put_null_or_string(out, self.reason_phrase);
    }
}

/// Whose certificate is this (22/CAP §Certificate)? Who asks has verified it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificateAuthenticationRequest<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The issuer's distinguished name.
    pub issuer: &'a str,
    /// The serial number in base 10.
    pub serial_number: &'a str,
}

impl<'a> ClientCertificateAuthenticationRequest<'a> {
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

/// The answer to a [`ClientCertificateAuthenticationRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCertificateAuthenticationResponse<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The tenant the client belongs to.
    pub tenant_id: Option<&'a str>,
    /// What a revocation calls the credentials.
    pub credentials_id: Option<&'a str>,
    /// What the provider calls the client.
    pub client_id: Option<&'a str>,
    /// HTTP status code: 2xx means that it is good.
    pub status_code: i32,
    /// Text for `status_code`.
    pub reason_phrase: Option<&'a str>,
}

impl<'a> ClientCertificateAuthenticationResponse<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            tenant_id: string_or_null(&mut reader)?,
            credentials_id: string_or_null(&mut reader)?,
            client_id: string_or_null(&mut reader)?,
            status_code: reader.int()?,
            reason_phrase: null_or_string_if_present(&mut reader)?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string_or_null(out, self.tenant_id);
        put_string_or_null(out, self.credentials_id);
        put_string_or_null(out, self.client_id);
        put_long(out, i64::from(self.status_code));
        put_null_or_string(out, self.reason_phrase);
    }
}

/// Credentials of a client are good no more (22/CAP §Revocation); the subject says of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCredentialsRevokedEvent<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The tenant the client belongs to.
    pub tenant_id: &'a str,
    /// What the provider calls the credentials.
    pub credentials_id: &'a str,
    /// The replica that says so.
    pub originator_replica_id: &'a str,
}

impl<'a> ClientCredentialsRevokedEvent<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            tenant_id: reader.string()?,
            credentials_id: reader.string()?,
            originator_replica_id: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.tenant_id);
        put_string(out, self.credentials_id);
        put_string(out, self.originator_replica_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_basic_request_is_as_other_writers_write_it_and_hides_its_password() {
        let datum = b"\x04c1\x02\x00\x02t\x02u\x02p";
        let header = Header { correlation_id: "c1", timestamp_ms: 1, timeout_ms: 0 };
        let request = ClientBasicAuthenticationRequest {
            header,
            tenant_id: "t",
            username: "u",
            password: "p",
        };
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(out, datum);
        assert_eq!(ClientBasicAuthenticationRequest::decode(datum), Ok(request));
        let shown = format!("{request:?}");
        assert!(shown.ends_with("username: \"u\", password: *** }"), "{shown}");
    }
}
