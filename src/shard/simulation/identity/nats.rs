//! What reaches NATS, and what comes from there.

use super::Fault;
use super::provider::{APPS, TOKENS, USERS};
use super::world::World;
use crate::codec::avro::{ClientData, ExtensionData};
use crate::shard::mail::Mail;

impl World {
    /// The link writes what there is to write.
    pub(super) fn write(&mut self) {
        while self.link_is_up {
            let taken = self.core.ledger.borrow_mut().take_for_write();
            let Some(bytes) = taken else { return };
            self.write_batch(bytes);
        }
    }

    fn write_batch(&mut self, bytes: Vec<u8>) {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').expect("a whole line") + 1;
            let line = &rest[..end - 2];
            rest = &rest[end..];
            if line == b"PING" {
                let before = std::mem::take(&mut self.unpinged);
                self.pings.push(before);
                continue;
            }
            let size = line.rsplit(|byte| *byte == b' ').next().expect("words");
            let size = size.iter().fold(0, |size, digit| 10 * size + usize::from(digit - b'0'));
            self.arrive(&rest[..size]);
            rest = &rest[size + 2..];
        }
        let has_ping = bytes.ends_with(b"PING\r\n");
        self.core.ledger.borrow_mut().write_done(bytes);
        if has_ping && self.fault == Some(Fault::EarlyPong) {
            // The true PONG will be one too many, if it comes to that.
            let _ = self.core.ledger.borrow_mut().pong();
            self.core.settle();
        }
    }

    fn arrive(&mut self, datum: &[u8]) {
        let data = ClientData::decode(datum).expect("ClientData");
        let payload = data.payload.try_into().expect("four bytes");
        let number = u32::from_be_bytes(payload) as usize;
        let message = &mut self.messages[number];
        let device = &self.devices[message.device];
        self.unpinged.push(number);
        let endpoint = message.token.map(|at| TOKENS[at].endpoint);
        assert_eq!(data.endpoint_id, endpoint, "message {number} speaks for another");
        assert_eq!(data.app_version_name, APPS[message.app].2, "message {number}");
        assert!(!message.was_dropped, "message {number} is carried after it was dropped");
        if std::mem::replace(&mut message.has_arrived, true) {
            assert!(message.qos > 0, "message {number} of QoS 0 came to NATS twice");
            return;
        }
        if let Some(at) = message.token {
            let standing = &self.tokens[at];
            let asked_at = standing.granted_asked_at;
            assert!(asked_at > 0, "message {number} with a token nobody has granted");
            let is_revoked =
                standing.revoked_at < message.token_at && asked_at < standing.revoked_at;
            assert!(!is_revoked, "message {number} with a revoked token");
        }
        if let Some((user, _)) = device.login {
            assert_eq!(USERS[user].1, APPS[message.app].1, "message {number}: another's tenant");
            assert!(device.is_in, "message {number} of a client that is not let in");
        }
        let is_banned = device.banned_at.is_some_and(|at| at < message.at);
        assert!(!is_banned, "message {number} of a client that was put out");
        assert!(!message.is_barred, "message {number} of a client that does not meet a new demand");
        assert!(!message.is_forbidden, "message {number} of a client that has proven nothing");
        let key = (message.device, message.token);
        match self.last.iter_mut().find(|(device, token, _)| (*device, *token) == key) {
            Some((.., last)) => {
                assert!(*last < number, "message {number} came to NATS after {last}");
                *last = number;
            }
            None => self.last.push((key.0, key.1, number)),
        }
        self.devices[key.0].spoken[self.messages[number].app] = true;
        self.correlations.push((data.correlation_id.to_owned(), number));
    }

    /// An extension answers one of the messages it has got.
    pub(super) fn extension_answers(&mut self) {
        if self.correlations.is_empty() {
            return;
        }
        let at = self.random.below(self.correlations.len());
        let (correlation_id, number) = self.correlations.swap_remove(at);
        let message = &self.messages[number];
        let mut datum = Vec::new();
        ExtensionData {
            correlation_id: &correlation_id,
            timestamp_ms: 0,
            timeout_ms: 0,
            app_version_name: Some(APPS[message.app].2),
            extension_instance_name: Some(if message.token.is_some() { "dcx" } else { "tsx" }),
            endpoint_id: message.token.map(|at| TOKENS[at].endpoint),
            resource_path: "/data",
            request_id: Some(7),
            payload: Some(b"answer"),
            status_code: 200,
            reason_phrase: None,
        }
        .encode(&mut datum);
        self.core.extension_data(None, &datum);
        self.settle();
    }

    /// An extension pushes to an endpoint.
    pub(super) fn push(&mut self) {
        let token = &TOKENS[self.random.below(TOKENS.len() - 1)];
        let mut datum = Vec::new();
        ExtensionData {
            correlation_id: "push",
            timestamp_ms: 0,
            timeout_ms: 0,
            app_version_name: Some(APPS[token.app].2),
            extension_instance_name: Some("dcx"),
            endpoint_id: Some(token.endpoint),
            resource_path: "/data",
            request_id: None,
            payload: Some(b"push"),
            status_code: 200,
            reason_phrase: None,
        }
        .encode(&mut datum);
        self.core.mail(Mail::Push { reply_to: None, datum: datum.into() });
        self.settle();
    }
}
