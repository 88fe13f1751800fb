//! 21/TLE messages (namespace `org.kaaproject.ipc.event.gen.v1.tenant.lifecycle`): something has
//! become of a tenant.

use super::{AvroError, Header, Reader, put_string};

/// A tenant has changed or is no more (21/TLE): UpdatedEvent and UnregisteredEvent are records with
/// the same fields; the subject says which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantEvent<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// The tenant.
    pub tenant_id: &'a str,
    /// The replica that says so.
    pub originator_replica_id: &'a str,
}

impl<'a> TenantEvent<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            tenant_id: reader.string()?,
            originator_replica_id: reader.string()?,
        })
    }

    /// Appends the datum with all its fields.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.put(out);
        put_string(out, self.tenant_id);
        put_string(out, self.originator_replica_id);
    }
}
