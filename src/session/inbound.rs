//! Publications of one client that await their end: NATS' confirmation, or the client's PUBREL.

use std::collections::VecDeque;

use crate::codec::mqtt::{PacketId, QoS, ReasonCode};

/// Where a QoS 2 publication stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receipt {
    /// Handed on, not yet confirmed: PUBREC is still to come.
    Unconfirmed,
    /// PUBREC was sent; PUBREL is awaited.
    Received,
}

/// What to do with a QoS 1 or 2 PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Hand it on.
    New,
    /// A repetition of a QoS 2 message that is still being handed on: nothing to do, its PUBREC
    /// comes.
    Repeated,
    /// A repetition of a QoS 2 message whose PUBREC may have been lost: send it again
    /// (MQTT-4.3.3-10).
    AcknowledgeAgain,
}

/// See the module's documentation.
#[derive(Debug, Default, Clone)]
pub struct Inbound {
    /// QoS 1 publications not yet acknowledged.
    unconfirmed: u16,
    qos2: Vec<(PacketId, Receipt)>,
    /// How many of those are unconfirmed.
    qos2_unconfirmed: u16,
    /// Publications that were dropped, with the reason their acknowledgement will carry.
    refused: Vec<(PacketId, ReasonCode)>,
    /// From the first publication that waits apart from the others on, all that came: their
    /// acknowledgements must leave in this order (MQTT-4.6.0-2, -3). Earlier ones are not in it.
    in_turn: Option<Box<VecDeque<Due>>>,
}

/// An acknowledgement that waits for those before it.
#[derive(Debug, Clone)]
struct Due {
    id: PacketId,
    qos: QoS,
    /// Whether it may be given once it is its turn.
    is_ready: bool,
}

impl Inbound {
    /// A PUBLISH has come.
    #[inline]
    pub fn arrived(&mut self, id: PacketId, qos: QoS) -> Arrival {
        if qos == QoS::AtLeastOnce {
            // The window is at most 65,535 wide, and checked before.
            self.unconfirmed = self.unconfirmed.saturating_add(1);
        } else {
            match self.qos2.iter().find(|(known, _)| *known == id) {
                None => {
                    self.qos2.push((id, Receipt::Unconfirmed));
                    // Identifiers are 65,535 at most.
                    self.qos2_unconfirmed += 1;
                }
                Some((_, Receipt::Unconfirmed)) => return Arrival::Repeated,
                Some((_, Receipt::Received)) => return Arrival::AcknowledgeAgain,
            }
        }
        if let Some(in_turn) = &mut self.in_turn {
            in_turn.push_back(Due { id, qos, is_ready: false });
        }
        Arrival::New
    }

    /// The publication that has just arrived waits apart: later ones may be carried before it, but
    /// not acknowledged.
    pub fn set_apart(&mut self, id: PacketId, qos: QoS) {
        if self.in_turn.is_none() {
            self.in_turn = Some(Box::new([Due { id, qos, is_ready: false }].into()));
        }
    }

    /// Whether the acknowledgement of `id`, which may be given now, has to wait for others; it
    /// comes out of [`Inbound::next_due`] in its turn.
    #[inline]
    pub fn must_wait(&mut self, id: PacketId, qos: QoS) -> bool {
        let Some(in_turn) = &mut self.in_turn else { return false };
        let is_it = |due: &&mut Due| due.id == id && due.qos == qos && !due.is_ready;
        let Some(due) = in_turn.iter_mut().find(is_it) else { return false };
        due.is_ready = true;
        true
    }

    /// The next acknowledgement whose turn it is.
    #[inline]
    pub fn next_due(&mut self) -> Option<(PacketId, QoS)> {
        let in_turn = self.in_turn.as_mut()?;
        if !in_turn.front()?.is_ready {
            return None;
        }
        let due = in_turn.pop_front()?;
        if in_turn.is_empty() {
            self.in_turn = None;
        }
        Some((due.id, due.qos))
    }

    /// Whether `id` is a QoS 2 publication already known, which takes no room in the window.
    pub fn is_known(&self, id: PacketId) -> bool {
        self.qos2.iter().any(|(known, _)| *known == id)
    }

    /// The acknowledgement of `id` will carry `reason` instead of success.
    pub fn refuse(&mut self, id: PacketId, reason: ReasonCode) {
        self.refused.push((id, reason));
    }

    /// The publication may be acknowledged: the reason code to do it with, `None` when it is not
    /// known (any more). A refusing reason ends a QoS 2 exchange at once (MQTT-4.3.3-8).
    #[inline]
    pub fn confirmed(&mut self, id: PacketId, qos: QoS, v5: bool) -> Option<ReasonCode> {
        let reason = self.take_refusal(id);
        if qos == QoS::AtLeastOnce {
            self.unconfirmed = self.unconfirmed.checked_sub(1)?;
            return Some(reason);
        }
        let at = self
            .qos2
            .iter()
            .position(|(known, receipt)| *known == id && *receipt == Receipt::Unconfirmed)?;
        self.qos2_unconfirmed -= 1;
        if v5 && reason.is_error() {
            self.qos2.remove(at);
        } else {
            self.qos2[at].1 = Receipt::Received;
        }
        Some(reason)
    }

    #[inline]
    fn take_refusal(&mut self, id: PacketId) -> ReasonCode {
        if self.refused.is_empty() {
            return ReasonCode::Success;
        }
        match self.refused.iter().position(|(refused, _)| *refused == id) {
            Some(at) => self.refused.remove(at).1,
            None => ReasonCode::Success,
        }
    }

    /// PUBREL: the exchange is over. Returns whether it was one.
    pub fn released(&mut self, id: PacketId) -> bool {
        match self
            .qos2
            .iter()
            .position(|(known, receipt)| *known == id && *receipt == Receipt::Received)
        {
            Some(at) => {
                self.qos2.remove(at);
                true
            }
            None => false,
        }
    }

    /// Exchanges under way, the measure of the receive maximum (MQTT 5.0 §4.9).
    #[inline]
    pub fn open(&self) -> usize {
        usize::from(self.unconfirmed) + self.qos2.len()
    }

    /// Publications whose acknowledgement is still to come: while there are any, a later one must
    /// not be acknowledged before them (MQTT-4.6.0-2).
    #[inline]
    pub fn unconfirmed(&self) -> usize {
        usize::from(self.unconfirmed) + usize::from(self.qos2_unconfirmed)
    }

    /// What a resumed session remembers: only QoS 2 publications already acknowledged with PUBREC.
    /// The client sends everything else again.
    pub fn into_saved(mut self) -> Self {
        self.qos2.retain(|(_, receipt)| *receipt == Receipt::Received);
        Self { qos2: self.qos2, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).expect("not zero")
    }

    #[test]
    fn a_qos_2_message_is_handed_on_once_however_often_it_is_repeated() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.arrived(id(1), QoS::ExactlyOnce), Arrival::New);
        assert_eq!(inbound.arrived(id(1), QoS::ExactlyOnce), Arrival::Repeated);
        assert_eq!(inbound.confirmed(id(1), QoS::ExactlyOnce, true), Some(ReasonCode::Success));
        assert_eq!(inbound.arrived(id(1), QoS::ExactlyOnce), Arrival::AcknowledgeAgain);
        assert!(inbound.released(id(1)));
        assert!(!inbound.released(id(1)));
        assert_eq!(inbound.arrived(id(1), QoS::ExactlyOnce), Arrival::New);
    }

    #[test]
    fn a_refusal_frees_the_identifier_in_v5_and_waits_for_pubrel_before() {
        for (v5, open) in [(true, 0), (false, 1)] {
            let mut inbound = Inbound::default();
            inbound.arrived(id(7), QoS::ExactlyOnce);
            inbound.refuse(id(7), ReasonCode::TopicNameInvalid);
            assert_eq!(
                inbound.confirmed(id(7), QoS::ExactlyOnce, v5),
                Some(ReasonCode::TopicNameInvalid)
            );
            assert_eq!(inbound.open(), open);
        }
    }

    #[test]
    fn a_resumed_session_remembers_only_what_it_acknowledged() {
        let mut inbound = Inbound::default();
        inbound.arrived(id(1), QoS::AtLeastOnce);
        inbound.arrived(id(2), QoS::ExactlyOnce);
        inbound.arrived(id(3), QoS::ExactlyOnce);
        inbound.confirmed(id(3), QoS::ExactlyOnce, false);
        let saved = inbound.into_saved();
        assert_eq!(saved.open(), 1);
        assert!(saved.is_known(id(3)));
    }

    #[test]
    fn what_came_after_a_message_set_apart_is_acknowledged_after_it() {
        let mut inbound = Inbound::default();
        inbound.arrived(id(1), QoS::AtLeastOnce);
        inbound.arrived(id(2), QoS::AtLeastOnce);
        inbound.set_apart(id(2), QoS::AtLeastOnce);
        inbound.arrived(id(3), QoS::ExactlyOnce);
        inbound.arrived(id(4), QoS::AtLeastOnce);
        assert!(!inbound.must_wait(id(1), QoS::AtLeastOnce), "it came before");
        assert!(inbound.must_wait(id(4), QoS::AtLeastOnce));
        assert!(inbound.must_wait(id(3), QoS::ExactlyOnce));
        assert_eq!(inbound.next_due(), None);
        assert!(inbound.must_wait(id(2), QoS::AtLeastOnce));
        let due: Vec<u16> =
            std::iter::from_fn(|| inbound.next_due()).map(|(id, _)| id.get()).collect();
        assert_eq!(due, [2, 3, 4]);
        inbound.arrived(id(5), QoS::AtLeastOnce);
        assert!(!inbound.must_wait(id(5), QoS::AtLeastOnce), "nothing is apart any more");
    }

    #[test]
    fn a_confirmation_nobody_waits_for_is_ignored() {
        let mut inbound = Inbound::default();
        assert_eq!(inbound.confirmed(id(1), QoS::AtLeastOnce, true), None);
        assert_eq!(inbound.confirmed(id(1), QoS::ExactlyOnce, true), None);
    }
}
