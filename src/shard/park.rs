//! Messages whose endpoint token is being asked about: kept aside in order, so that other endpoints
//! of the same connection flow on, and carried, or dropped, when the answer is there.

use std::rc::Rc;

use super::clients::Client;
use super::connection::{Hold, Life};
use super::core::Core;
use super::correlation::{ConnectionKey, Correlation};
use super::dropped::{Drop, Stop, drop_reason};
use super::parked::{self, Message};
use crate::auth::Known;
use crate::codec::avro::ClientDataTemplate;
use crate::codec::mqtt::QoS;
use crate::session::catalogue::Target;
use crate::session::{Incoming, Topic};
use crate::telemetry::DropReason;
use crate::uplink::ledger::Tag;

impl Core {
    /// Keeps a message until question `ask` is answered.
    #[cold]
    pub(super) fn park(&mut self, index: u32, ask: u64, incoming: &Incoming<'_>) {
        let bytes = parked::message_bytes(incoming.topic.len(), incoming.payload.len());
        if !self.can_park(bytes) {
            return self.drop_for_want_of_room(index, incoming);
        }
        let comes_by = self.comes_by(index);
        let connection = &mut self.connections[index as usize];
        // Far below 4 GiB: of a shard's messages no more may wait.
        connection.parked_bytes += bytes as u32;
        if let Some(id) = incoming.packet_id {
            connection.session.set_apart(id, incoming.qos);
        }
        let message = Message {
            connection: connection.key(index),
            client: connection.client.clone(),
            comes_by,
            topic: (*incoming.topic).into(),
            payload: incoming.payload.into(),
            qos: incoming.qos,
            packet_id: incoming.packet_id,
        };
        self.parked.push(ask, message);
    }

    /// Whether there is room for a message of so many bytes to wait.
    pub(super) fn can_park(&self, bytes: usize) -> bool {
        self.parked.bytes() + bytes <= self.settings.auth.parked_bytes_per_shard_max
    }

    /// The question that messages waited for is answered. They are taken one after the other, so
    /// that those behind a message that ends its connection fare like all others of that
    /// connection: if it is put out, they are forgotten; if it ends for another reason, each goes
    /// the way of a message whose connection has ended ([`Core::end_alone`]), in its turn.
    pub(super) fn release_parked(&mut self, ask: u64, known: &Known) {
        let mut held = Vec::new();
        for _ in 0..self.parked.count(ask) {
            let Some(message) = self.parked.take_first(ask) else { break };
            let key = message.connection;
            if let Some(connection) = self.open_connection(key) {
                connection.parked_bytes -= message.bytes() as u32;
                if matches!(connection.hold, Hold::Parked | Hold::Window) {
                    held.push(key);
                }
                self.guard(key.index, |core| core.carry_on(key.index, &message, known));
            } else {
                self.end_alone(message, known);
            }
        }
        for key in held {
            let max = self.settings.auth.parked_bytes_max;
            let policy = &self.settings.policy;
            let connection = self.find(key).filter(|connection| connection.life == Life::Open);
            let may_go_on = connection.is_some_and(|connection| match connection.hold {
                Hold::Parked => (connection.parked_bytes as usize) < max,
                Hold::Window => !connection.session.window_is_full(policy),
                _ => false,
            });
            if may_go_on {
                self.resume(key.index);
            }
        }
    }

    fn open_connection(
        &mut self,
        key: ConnectionKey,
    ) -> Option<&mut super::connection::Connection> {
        let connection = self.connections.get_mut(key.index as usize)?;
        let is_it = connection.generation == key.generation && connection.life == Life::Open;
        is_it.then_some(connection)
    }

    /// Carries a message of a connection that is still there, or tells it why not.
    fn carry_on(&mut self, index: u32, message: &Message, known: &Known) {
        if self.connections[index as usize].http().is_some() {
            return self.request_goes_on(index, message, known);
        }
        let Message { topic, payload, qos, packet_id, .. } = message;
        let topic = Topic::Sent(topic);
        let (qos, packet_id) = (*qos, *packet_id);
        let incoming = Incoming { topic, payload, qos, packet_id, retain: false };
        match known {
            Known::Good(..) => self.carry_parked(index, &incoming),
            Known::Bad(rejection) => self.drop_rejected(index, &incoming, rejection),
        }
    }

    /// Carries a message whose connection has ended meanwhile, or drops it. One of QoS 2 is dropped
    /// in any case: it was not acknowledged, so its client sends it again, and it must come once.
    fn end_alone(&mut self, message: Message, known: &Known) {
        let (key, client) = (message.connection, message.client.clone());
        match known {
            Known::Good(..) if message.qos != QoS::ExactlyOnce => self.carry_alone(message),
            Known::Good(..) => {}
            Known::Bad(rejection) => self.counters.dropped(drop_reason(rejection)),
        }
        self.leave_clients(key, client.as_ref());
    }

    /// A revocation of a client's credentials need not find a connection any more that has ended
    /// and of which no message waits.
    pub(super) fn leave_clients(&mut self, key: ConnectionKey, client: Option<&Rc<Client>>) {
        if let Some(client) = client
            && !self.parked.holds(key)
        {
            self.clients.leave(client, key);
        }
    }

    /// Carries a message whose connection has ended meanwhile. Nobody is owed anything for it, and
    /// it gives its endpoint no route.
    fn carry_alone(&mut self, message: Message) {
        let catalogue = self.catalogue.clone();
        let topic = message.topic.clone();
        let Ok(target) = catalogue.resolve(&topic) else { return };
        let Some(token) = target.token else { return };
        // What its tenant demands may have changed while the message waited.
        if let Some(bar) = self.bar(target.app, message.client.as_deref(), message.comes_by) {
            return self.counters.dropped(bar.reason());
        }
        // Anew: it may have been revoked while the message waited.
        let bytes = message.bytes();
        let identified = self.identify(target.app, token, bytes).and_then(|(grant, _)| {
            self.check_place(&grant, target.app_version, None, bytes)?;
            Ok(grant)
        });
        let grant = match identified {
            Ok(grant) => grant,
            Err(Stop::Park(ask)) => return self.parked.push(ask, message),
            Err(Stop::Drop(dropped)) => return self.counters.dropped(dropped.reason()),
            Err(Stop::Ended) => return,
        };
        if self.refuses_publications() {
            return self.counters.dropped(DropReason::UplinkUnavailable);
        }
        let (endpoint_id, asker) =
            (Some(&*grant.endpoint_id), (message.connection, Some(message.qos)));
        let carried = self.append_unclaimed(&target, endpoint_id, asker, &message.payload, None);
        if let Err(dropped) = carried {
            self.counters.dropped(dropped.reason());
        }
    }

    /// Writes a message that gives its endpoint no route into the batch being filled, behind its
    /// PUB line.
    pub(super) fn append_unclaimed(
        &mut self,
        target: &Target<'_>,
        endpoint_id: Option<&str>,
        (connection, qos): (ConnectionKey, Option<QoS>),
        payload: &[u8],
        tag: Option<Tag>,
    ) -> Result<(), Drop> {
        let template = ClientDataTemplate::new(
            target.app_version,
            endpoint_id,
            target.resource_path,
            self.settings.config_name,
        );
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let correlation = self.correlations.encode(Correlation { connection, qos, sequence });
        let timestamp_ms = self.now.unix_ms;
        let timeout_ms = i64::from(self.settings.client_data_timeout_ms);
        let mut datum = Vec::new();
        let request_id = target.request_id;
        template.encode_into(
            correlation,
            timestamp_ms,
            timeout_ms,
            request_id,
            payload,
            &mut datum,
        );
        if datum.len() > self.payload_bytes_max {
            return Err(Drop::too_large());
        }
        let address = &self.addresses[usize::from(target.extension.0)];
        let mut size = itoa::Buffer::new();
        let size = size.format(datum.len()).as_bytes();
        self.ledger.borrow_mut().append_again(address.subject, tag, self.now.us, |batch| {
            for part in [&*address.head, size, b"\r\n", &datum, b"\r\n"] {
                batch.extend_from_slice(part);
            }
        });
        Ok(())
    }

    /// Forgets what waits of a connection that is put out, or would be if it had not ended.
    pub(super) fn forget_parked(&mut self, key: ConnectionKey) {
        let forgotten = self.parked.forget(key);
        self.counters.messages_dropped[DropReason::TokenUnvalidated.index()]
            .add(forgotten.len() as u64);
        if let Some(message) = forgotten.first() {
            self.leave_clients(key, message.client.as_ref());
        }
    }
}
