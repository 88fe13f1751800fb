//! What happens between a shard, NATS, and the control thread.

use std::collections::HashSet;

use super::device::TOKENS;
use super::nats::{self, Asks, Said};
use super::world::{Fault, Shard, World};
use crate::shard::mail::{Mail, Report};
use crate::uplink::ledger::SubjectId;

const PAYLOAD_BYTES_MAX: usize = 4096;
const PAYLOAD_BYTES_MAX_SMALL: usize = 150;

impl World {
    pub(super) fn start_write(&mut self, shard: usize) {
        let Shard { core, link, .. } = &mut self.shards[shard];
        let bytes = core.ledger.borrow_mut().take_for_write().expect("there is some");
        link.write(&bytes);
        link.writing = Some(bytes);
    }

    pub(super) fn end_write(&mut self, shard: usize) {
        let Shard { core, link, .. } = &mut self.shards[shard];
        let bytes = link.writing.take().expect("a write is under way");
        let has_ping = bytes.ends_with(b"PING\r\n");
        core.ledger.borrow_mut().write_done(bytes);
        if self.fault == Some(Fault::EarlyPong) && has_ping {
            // The true PONG will be one too many.
            let _ = core.ledger.borrow_mut().pong();
        }
        let has_waiting = !core.waiting.is_empty();
        if self.settle_confirmed(shard) || has_waiting {
            self.settle_turn(shard);
        }
    }

    /// As the link does it after a PONG and after a write.
    pub(super) fn settle_confirmed(&mut self, shard: usize) -> bool {
        let core = &mut self.shards[shard].core;
        let has_confirmed = core.ledger.borrow().has_confirmed();
        if has_confirmed {
            core.settle();
        }
        has_confirmed
    }

    pub(super) fn connect_link(&mut self, shard: usize) {
        let small = self.truth.may_refuse && self.random.percent(30);
        let payload_bytes_max = if small { PAYLOAD_BYTES_MAX_SMALL } else { PAYLOAD_BYTES_MAX };
        let Shard { core, link, .. } = &mut self.shards[shard];
        core.ledger.borrow_mut().connected(payload_bytes_max);
        link.is_up = true;
        core.link_up(payload_bytes_max);
        self.settle_turn(shard);
    }

    pub(super) fn break_link(&mut self, shard: usize) {
        if !self.shards[shard].link.is_up {
            return;
        }
        while self.random.percent(50) {
            let link = &mut self.shards[shard].link;
            self.nats.serve(link, &mut self.truth, &mut self.random);
        }
        let Shard { core, link, .. } = &mut self.shards[shard];
        link.break_down();
        if let Some(bytes) = link.writing.take() {
            core.ledger.borrow_mut().write_done(bytes);
        }
        if self.settle_confirmed(shard) {
            self.settle_turn(shard);
        }
        let core = &mut self.shards[shard].core;
        core.ledger.borrow_mut().disconnected();
        core.link_down();
        self.settle_turn(shard);
    }

    /// The shard reads what NATS has said.
    pub(super) fn hear(&mut self, shard: usize) {
        let Shard { core, link, .. } = &mut self.shards[shard];
        match link.said.pop_front().expect("something") {
            Said::Pong => {
                let known = core.ledger.borrow_mut().pong();
                assert!(known.is_ok() || self.fault == Some(Fault::EarlyPong), "{known:?}");
                self.settle_confirmed(shard);
                self.settle_turn(shard);
            }
            Said::NoResponders { subject } => {
                let subject = subject.map(|subject| SubjectId::of(subject.as_bytes()));
                core.ledger.borrow_mut().no_responders(subject);
            }
            Said::Message { reply_to, datum, answer, asks } => {
                self.allow(shard, answer, &asks);
                let core = &mut self.shards[shard].core;
                core.extension_data(reply_to.as_deref(), &datum);
                self.settle_turn(shard);
            }
        }
    }

    /// Notes who may get an answer that the shard is about to take.
    pub(super) fn allow(&mut self, shard: usize, answer: usize, asks: &Asks) {
        let places = &self.shards[shard].places;
        let live = || places.values().copied().filter(|at| self.is_live(*at));
        let speakers = |token: &str| -> HashSet<usize> {
            live().filter(|at| self.devices[*at].spoke_for.contains(token)).collect()
        };
        let allowed = match asks {
            Asks::Device { device, .. } if live().any(|at| at == *device) => [*device].into(),
            Asks::Device { target, .. } => match target.token {
                // The device may have come again: its endpoint's answers follow it.
                Some(token) => speakers(token),
                None => HashSet::new(),
            },
            Asks::Endpoint(token) => speakers(token),
            Asks::Topic(topic) => {
                live().filter(|at| self.devices[*at].topics_asked.contains(topic)).collect()
            }
        };
        let allowed = match self.fault {
            Some(Fault::CrossedAnswers) => HashSet::new(),
            _ => allowed,
        };
        self.truth.answers[answer].allowed = Some(allowed);
    }

    /// An extension service answers, if the shard it answers to can hear it.
    pub(super) fn answer(&mut self) {
        let at = self.random.below(self.nats.pending.len());
        let pending = self.nats.pending.swap_remove(at);
        let link = &mut self.shards[pending.shard].link;
        if link.is_up {
            link.said.push_back(pending.said);
        }
    }

    /// A service pushes; the control thread gives it to the shard its directory names.
    pub(super) fn push(&mut self) {
        let token = self.random.pick(&TOKENS);
        let (datum, answer) = nats::push(token, &mut self.truth, &mut self.random);
        let Some(shard) = self.directory.get(token) else { return };
        self.pushes.insert(datum.clone(), (answer, token));
        let mail = Mail::Push { reply_to: None, datum: datum.into() };
        assert!(self.shards[*shard].core.peers[*shard].post(mail).is_ok());
        self.collect_mail();
    }

    pub(super) fn take_mail(&mut self, shard: usize) {
        let mail = self.shards[shard].mails.pop_front().expect("there is some");
        if let Mail::Push { datum, .. } = &mail {
            let (answer, token) = self.pushes[&datum[..]];
            self.allow(shard, answer, &Asks::Endpoint(token));
        }
        if self.fault == Some(Fault::LostMail) && matches!(mail, Mail::Takeover { .. }) {
            return;
        }
        self.shards[shard].core.mail(mail);
        self.settle_turn(shard);
    }

    /// The control thread takes all reports: those of one turn come in no particular order.
    pub(super) fn take_reports(&mut self) {
        while let Some(report) = self.reported.pop_front() {
            self.take_report(report);
        }
    }

    pub(super) fn take_report(&mut self, report: Report) {
        match report {
            Report::EndpointWanted { .. } => unreachable!("no application rejects"),
            Report::EndpointHere { shard, endpoint, .. } => {
                let before = self.directory.insert(endpoint.to_string(), usize::from(shard));
                if let Some(before) = before.filter(|before| *before != usize::from(shard)) {
                    let mail = Mail::RouteMoved { endpoint };
                    assert!(self.shards[0].core.peers[before].post(mail).is_ok());
                    self.collect_mail();
                }
            }
            Report::EndpointGone { shard, endpoint }
                if self.directory.get(&*endpoint) == Some(&usize::from(shard)) =>
            {
                self.directory.remove(&*endpoint);
            }
            _ => {}
        }
    }
}
