//! Revocations as events of 16/ECAP, 22/CAP and 21/TLE, heard and told; and the way on which this
//! process's own store tells the control thread of those it makes.

use crate::auth::{Method, Revocation};
use crate::codec::avro::{AvroError, Header, cap, ecap, tle};
use crate::codec::subjects;
use bytes::Bytes;
use std::collections::VecDeque;

/// Events about our own revocations that wait for NATS. Beyond it the oldest is lost.
pub const BROADCASTS_MAX: usize = 65_536;
/// For how long after it was sent an event is sent again if the link breaks: it may not have
/// arrived, and hearing it twice does no harm.
const SENT_AGAIN_MS: u64 = 10_000;

/// Which events are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// 16/ECAP: tokens of an endpoint.
    Tokens,
    /// 16/ECAP: credentials of a client.
    Credential,
    /// 22/CAP: credentials of a client, by what they are proven.
    Credentials(Method),
    /// 21/TLE: a tenant is no more.
    Tenant,
}

/// An event that was heard: who told it, and what it says.
pub fn decode(heard: Heard, datum: &[u8]) -> Result<(&str, Revocation), AvroError> {
    Ok(match heard {
        Heard::Tokens => {
            let event = ecap::EndpointTokenRevokedEvent::decode(datum)?;
            let revocation = Revocation::Tokens {
                app: event.app_name.into(),
                endpoint_id: event.endpoint_id.into(),
                token_ids: event.token_ids.iter().map(Box::from).collect(),
            };
            (event.originator_replica_id, revocation)
        }
        Heard::Credential => {
            let event = ecap::ClientCredentialRevokedEvent::decode(datum)?;
            let credentials_id = event.credential_id.into();
            let revocation = Revocation::Client { tenant: None, method: None, credentials_id };
            (event.originator_replica_id, revocation)
        }
        Heard::Credentials(method) => {
            let event = cap::ClientCredentialsRevokedEvent::decode(datum)?;
            let revocation = Revocation::Client {
                tenant: Some(event.tenant_id.into()),
                method: Some(method),
                credentials_id: event.credentials_id.into(),
            };
            (event.originator_replica_id, revocation)
        }
        Heard::Tenant => {
            let event = tle::TenantEvent::decode(datum)?;
            let revocation = Revocation::Tenant { tenant: event.tenant_id.into() };
            (event.originator_replica_id, revocation)
        }
    })
}

/// Who we are when our own store serves others.
#[derive(Debug, Clone)]
pub struct Teller {
    /// The service instance that others know as their 16/ECAP provider.
    pub ecap_instance: String,
    /// The service instance that others know as their 22/CAP provider.
    pub cap_instance: String,
    /// Our replica id.
    pub replica: String,
}

impl Teller {
    /// The events that tell of a revocation. There is none for a tenant, which is not ours to end.
    pub fn events(&self, revocation: &Revocation, header: &Header<'_>) -> Vec<(String, Bytes)> {
        match revocation {
            Revocation::Tokens { app, endpoint_id, token_ids } => {
                let mut datum = Vec::new();
                ecap::EndpointTokenRevokedEvent::encode(
                    header,
                    app,
                    endpoint_id,
                    token_ids.iter().map(|id| &**id),
                    &self.replica,
                    &mut datum,
                );
                let subject = subjects::event(&self.ecap_instance, subjects::ecap::TOKEN_REVOKED);
                vec![(subject, datum.into())]
            }
            Revocation::Client { tenant, method, credentials_id } => {
                let by_cap = |(tenant, method): (&str, Method)| {
                    self.credentials(tenant, method, credentials_id, header)
                };
                let known = tenant.as_deref().zip(*method);
                known
                    .map(by_cap)
                    .into_iter()
                    .chain([self.credential(credentials_id, header)])
                    .collect()
            }
            Revocation::Tenant { .. } => Vec::new(),
        }
    }

    fn credentials(
        &self,
        tenant_id: &str,
        method: Method,
        credentials_id: &str,
        header: &Header<'_>,
    ) -> (String, Bytes) {
        let event = match method {
            Method::Basic => subjects::cap::BASIC_REVOKED,
            Method::Certificate => subjects::cap::CERTIFICATE_REVOKED,
        };
        let mut datum = Vec::new();
        let (header, originator_replica_id) = (*header, self.replica.as_str());
        cap::ClientCredentialsRevokedEvent {
            header,
            tenant_id,
            credentials_id,
            originator_replica_id,
        }
        .encode(&mut datum);
        (subjects::event(&self.cap_instance, event), datum.into())
    }

    fn credential(&self, credential_id: &str, header: &Header<'_>) -> (String, Bytes) {
        let mut datum = Vec::new();
        let (header, originator_replica_id) = (*header, self.replica.as_str());
        ecap::ClientCredentialRevokedEvent { header, credential_id, originator_replica_id }
            .encode(&mut datum);
        (subjects::event(&self.ecap_instance, subjects::ecap::CREDENTIAL_REVOKED), datum.into())
    }
}

/// Events on their way to NATS. Pure.
#[derive(Debug, Default)]
pub struct Broadcasts {
    /// Oldest first: subject, datum, and when it was sent.
    events: VecDeque<(String, Bytes, Option<u64>)>,
    is_up: bool,
}

impl Broadcasts {
    /// Takes events. Returns how many were lost because too many wait.
    pub fn push(&mut self, events: Vec<(String, Bytes)>) -> usize {
        self.events.extend(events.into_iter().map(|(subject, datum)| (subject, datum, None)));
        let lost = self.events.len().saturating_sub(BROADCASTS_MAX);
        self.events.drain(..lost);
        lost
    }

    /// The link is up: what was sent lately is sent again.
    pub fn link_up(&mut self, now_ms: u64) {
        self.is_up = true;
        self.forget_old(now_ms);
        self.events.iter_mut().for_each(|(_, _, sent_ms)| *sent_ms = None);
    }

    /// The link has broken.
    pub fn link_down(&mut self) {
        self.is_up = false;
    }

    /// The next event to send.
    pub fn next(&mut self, now_ms: u64) -> Option<(String, Bytes)> {
        if !self.is_up {
            return None;
        }
        self.forget_old(now_ms);
        // Those that have been sent stand in front.
        let unsent = self.events.partition_point(|(_, _, sent_ms)| sent_ms.is_some());
        let (subject, datum, sent_ms) = self.events.get_mut(unsent)?;
        *sent_ms = Some(now_ms);
        Some((subject.clone(), datum.clone()))
    }

    /// Events that have not been sent.
    pub fn unsent(&self) -> usize {
        self.events.iter().filter(|(_, _, sent_ms)| sent_ms.is_none()).count()
    }

    fn forget_old(&mut self, now_ms: u64) {
        while let Some((_, _, Some(sent_ms))) = self.events.front()
            && now_ms.saturating_sub(*sent_ms) > SENT_AGAIN_MS
        {
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header<'static> = Header { correlation_id: "c", timestamp_ms: 1, timeout_ms: 0 };

    #[test]
    fn what_is_told_is_heard_as_it_was_meant() {
        let teller =
            Teller { ecap_instance: "cm".into(), cap_instance: "ccm".into(), replica: "r1".into() };
        let tokens = Revocation::Tokens {
            app: "app".into(),
            endpoint_id: "e".into(),
            token_ids: vec!["t1".into(), "t2".into()],
        };
        let (subject, datum) = &teller.events(&tokens, &HEADER)[0];
        assert_eq!(subject, "kaa.v1.events.cm.endpoint.token.revoked");
        assert_eq!(decode(Heard::Tokens, datum), Ok(("r1", tokens)));

        for (method, kind) in [(Method::Basic, "basic"), (Method::Certificate, "certificate")] {
            let client = Revocation::Client {
                tenant: Some("t".into()),
                method: Some(method),
                credentials_id: "id".into(),
            };
            let events = teller.events(&client, &HEADER);
            let subject = format!("kaa.v1.events.ccm.client-credentials.{kind}.revoked");
            assert_eq!(events[0].0, subject);
            assert_eq!(decode(Heard::Credentials(method), &events[0].1), Ok(("r1", client)));
            assert_eq!(events[1].0, "kaa.v1.events.cm.client.credential.revoked");
            let nameless =
                Revocation::Client { tenant: None, method: None, credentials_id: "id".into() };
            assert_eq!(decode(Heard::Credential, &events[1].1), Ok(("r1", nameless)));
        }
        assert!(teller.events(&Revocation::Tenant { tenant: "t".into() }, &HEADER).is_empty());
        assert!(decode(Heard::Tenant, b"\x02").is_err());
    }

    #[test]
    fn what_was_sent_lately_is_sent_again_over_a_new_link_and_nothing_is_sent_over_none() {
        let mut broadcasts = Broadcasts::default();
        let event = |subject: &str| vec![(subject.to_owned(), Bytes::new())];
        broadcasts.push(event("a"));
        assert_eq!(broadcasts.next(0), None);
        broadcasts.link_up(0);
        broadcasts.push(event("b"));
        let sent = |broadcasts: &mut Broadcasts, now_ms| {
            let next = |_| broadcasts.next(now_ms).map(|(subject, _)| subject);
            (0..5).map_while(next).collect::<Vec<_>>()
        };
        assert_eq!(sent(&mut broadcasts, 0), ["a", "b"]);
        assert_eq!(broadcasts.unsent(), 0);
        broadcasts.link_down();
        broadcasts.push(event("c"));
        assert_eq!(broadcasts.unsent(), 1);
        broadcasts.link_up(SENT_AGAIN_MS);
        assert_eq!(sent(&mut broadcasts, SENT_AGAIN_MS), ["a", "b", "c"]);
        broadcasts.link_up(3 * SENT_AGAIN_MS);
        assert_eq!(sent(&mut broadcasts, 3 * SENT_AGAIN_MS), [""; 0]);
    }

    #[test]
    fn of_too_many_the_oldest_are_lost() {
        let mut broadcasts = Broadcasts::default();
        let events = (0..BROADCASTS_MAX + 3).map(|n| (n.to_string(), Bytes::new()));
        assert_eq!(broadcasts.push(events.collect()), 3);
        broadcasts.link_up(0);
        assert_eq!(broadcasts.next(0).map(|(subject, _)| subject), Some("3".to_owned()));
    }
}
