//! 9/ELCE messages (namespace `org.kaaproject.ipc.event.gen.v1.endpoint.connectivity`): endpoints
//! have come or gone.

use super::blocks::put_string_map;
use super::{AvroError, Header, Reader, StringMap, put_string};

/// Endpoints are connected, or no more (9/ELCE): ConnectedEvent and DisconnectedEvent are records
/// with the same fields; the subject says which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectivityEvent<'a> {
    /// Identifies the message, and how long it is good for.
    pub header: Header<'a>,
    /// Ids of the endpoints, each with the application version it speaks as.
    pub endpoints: StringMap<'a>,
    /// The replica that says so.
    pub originator_replica_id: &'a str,
}

impl<'a> ConnectivityEvent<'a> {
    /// Reads the datum.
    ///
    /// # Errors
    /// Any [`AvroError`]: a field is cut short or is not of its type.
    pub fn decode(datum: &'a [u8]) -> Result<Self, AvroError> {
        let mut reader = Reader::new(datum);
        Ok(Self {
            header: Header::read(&mut reader)?,
            endpoints: StringMap::read(&mut reader)?,
            originator_replica_id: reader.string()?,
        })
    }

    /// Appends the datum of an event about these endpoints, each given with the application version
    /// it speaks as, and each once.
    pub fn encode<'b>(
        header: &Header<'_>,
        endpoints: impl ExactSizeIterator<Item = (&'b str, &'b str)>,
        originator_replica_id: &str,
        out: &mut Vec<u8>,
    ) {
        header.put(out);
        put_string_map(out, endpoints);
        put_string(out, originator_replica_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_as_other_writers_write_it() {
        let datum = b"\x04c1\x02\x00\x02\x04e1\x06av1\x00\x04r1";
        let event = ConnectivityEvent::decode(datum).expect("well-formed");
        let header = Header { correlation_id: "c1", timestamp_ms: 1, timeout_ms: 0 };
        assert_eq!((event.header, event.originator_replica_id), (header, "r1"));
        assert_eq!(event.endpoints.iter().collect::<Vec<_>>(), [("e1", "av1")]);
        let mut out = Vec::new();
        ConnectivityEvent::encode(&header, [("e1", "av1")].into_iter(), "r1", &mut out);
        assert_eq!(out, datum);
    }
}
