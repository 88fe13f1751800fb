//! Exchanges by chance: devices that send requests in pieces, in rows and by halves, leave or
//! dawdle; services that answer in any order, twice, late or not at all, with or without the
//! correlation id. Whatever happens, the n-th response of a connection answers its n-th request.
//!
//! `RINGGATE_HTTP_SEED=<n>` plays one seed.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::shard::connection::Life;
use crate::shard::simulation::random::Random;

const SEEDS: u64 = 1000;
const STEPS: usize = 150;
const DEVICES_MAX: usize = 6;
/// Longer than any timeout of the settings, in milliseconds.
const LONG_MS: u64 = 30_000;
/// What an answer for somebody else would say.
const FORGED: &str = "forged";

/// A request of a device.
struct Question {
    /// What it says, and no other does; the services answer the same.
    id: String,
    leads_nowhere: bool,
    /// Where it ends in all that the device says.
    end: usize,
}

struct Device {
    index: u32,
    said: Vec<u8>,
    /// Bytes of that which the gateway has been given.
    sent: usize,
    questions: Vec<Question>,
    /// How many have been answered.
    answered: usize,
    /// It has shut its side, or is gone.
    has_left: bool,
    /// Its last response has come, or its connection has ended.
    is_over: bool,
}

struct Play {
    rig: Rig,
    random: Random,
    devices: Vec<Device>,
    /// What the services have heard and may still answer.
    asked: Vec<Asked>,
    /// What nobody has heard.
    unheard: HashSet<String>,
    ids: usize,
    is_draining: bool,
}

impl Device {
    /// How many requests the gateway has been given in full.
    fn complete(&self) -> usize {
        self.questions.iter().take_while(|question| question.end <= self.sent).count()
    }

    /// A response has come.
    fn hear(&mut self, told: &Heard, unheard: &HashSet<String>, is_draining: bool) {
        assert!(!self.is_over, "a response after the last: {told:?}");
        self.is_over = told.is_last;
        let complete = self.complete();
        if told.status == 408 || told.status == 503 && is_draining && self.answered == complete {
            assert!(told.is_last && self.answered == complete, "{told:?}");
            return;
        }
        assert!(self.answered < complete, "nothing was asked: {told:?}");
        let question = &self.questions[self.answered];
        self.answered += 1;
        let (id, body) = (&question.id, &told.body);
        match told.status {
            200 => assert!(id == body && !question.leads_nowhere, "{id} is answered {told:?}"),
            404 => assert!(question.leads_nowhere, "{id} is answered {told:?}"),
            503 => assert!(unheard.contains(id) || is_draining, "{id} is answered {told:?}"),
            504 => assert!(told.is_last && !question.leads_nowhere, "{id} is answered {told:?}"),
            _ => panic!("{id} is answered {told:?}"),
        }
        if told.is_last && told.status != 504 && !is_draining {
            assert!(self.has_left && self.answered == complete, "{id} is answered {told:?}");
        }
    }
}

impl Play {
    fn new(seed: u64) -> Self {
        Self {
            rig: rig(),
            random: Random::new(seed),
            devices: Vec::new(),
            asked: Vec::new(),
            unheard: HashSet::new(),
            ids: 0,
            is_draining: false,
        }
    }

    /// Lets devices hear what they have been told, and see that they have been closed.
    fn listen(&mut self) {
        for at in 0..self.devices.len() {
            let device = &mut self.devices[at];
            for told in heard(&mut self.rig, device.index) {
                device.hear(&told, &self.unheard, self.is_draining);
            }
            let connection = self.rig.core.connections.get(device.index as usize);
            if !device.is_over && connection.is_none_or(|c| c.life != Life::Open) {
                // Without a word, only where none is owed.
                assert_eq!(device.answered, device.complete(), "device {}", device.index);
                device.is_over = true;
            }
            if device.is_over && !device.has_left {
                device.has_left = true;
                self.rig.leave(device.index, false);
            }
        }
        // Those whose place in the table may be given again are known no more.
        let connections = &self.rig.core.connections;
        self.devices.retain(|device| connections.contains(device.index as usize));
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..10 => self.open(),
            10..30 => self.ask(),
            30..60 => self.send(),
            60..70 => self.carry(),
            70..90 => self.answer(),
            90..95 => self.rig.pass(1000),
            _ => self.leave(),
        }
        self.listen();
    }

    fn open(&mut self) {
        if self.devices.len() < DEVICES_MAX {
            let index = opened(&mut self.rig);
            self.devices.push(Device {
                index,
                said: Vec::new(),
                sent: 0,
                questions: Vec::new(),
                answered: 0,
                has_left: false,
                is_over: false,
            });
        }
    }

    /// One that still talks.
    fn device(&mut self) -> Option<usize> {
        let talks = |(at, device): (usize, &Device)| (!device.has_left).then_some(at);
        let talking: Vec<usize> = self.devices.iter().enumerate().filter_map(talks).collect();
        (!talking.is_empty()).then(|| self.random.pick(&talking))
    }

    fn ask(&mut self) {
        let Some(at) = self.device() else { return };
        self.ids += 1;
        let id = format!("question {}", self.ids);
        let path = match self.random.below(10) {
            0 => "/nowhere".to_owned(),
            1 | 2 => "/kp1/v1/tsx/time".to_owned(),
            _ => format!("/kp1/v1/dcx/e{}/json", self.random.below(3)),
        };
        let device = &mut self.devices[at];
        device.said.extend_from_slice(post(&path, &id).as_bytes());
        let (leads_nowhere, end) = (path == "/nowhere", device.said.len());
        device.questions.push(Question { id, leads_nowhere, end });
    }

    fn send(&mut self) {
        let Some(at) = self.device() else { return };
        let device = &mut self.devices[at];
        let left = device.said.len() - device.sent;
        let most = if self.random.percent(50) { left } else { left.min(40) };
        let piece = self.random.below(most + 1);
        let bytes = device.said[device.sent..][..piece].to_vec();
        device.sent += piece;
        tell(&mut self.rig, device.index, bytes);
    }

    fn carry(&mut self) {
        let is_heard = self.random.percent(85);
        let asked = taken_and(&mut self.rig, is_heard);
        if is_heard {
            self.asked.extend(asked);
        } else {
            self.unheard.extend(asked.into_iter().map(|asked| asked.payload));
        }
    }

    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let at = self.random.below(self.asked.len());
        // Now and then, it is answered once more later.
        let again = self.random.percent(10);
        let mut asked = if again { self.asked[at].clone() } else { self.asked.remove(at) };
        if self.random.percent(30) {
            asked.correlation_id.clear();
        }
        let payload = asked.payload.clone();
        if self.random.percent(10) {
            let forged = match asked.endpoint_id {
                Some(_) => Asked { endpoint_id: Some("e9".to_owned()), ..asked.clone() },
                None => Asked { app_version: Some("v2".to_owned()), ..asked.clone() },
            };
            answer(&mut self.rig, &forged, 200, FORGED, None);
        }
        answer(&mut self.rig, &asked, 200, &payload, None);
    }

    fn leave(&mut self) {
        let Some(at) = self.device() else { return };
        let failed = self.random.percent(30);
        let device = &mut self.devices[at];
        device.has_left = true;
        // Of who is gone nothing is expected.
        device.is_over |= failed;
        self.rig.leave(device.index, failed);
        self.rig.heard.retain(|index, _| !failed || *index != device.index);
    }

    /// What has been asked in full is answered in time, one way or the other.
    fn end(&mut self) {
        for _ in 0..STEPS {
            self.carry();
            self.listen();
            while !self.asked.is_empty() {
                self.answer();
                self.listen();
            }
        }
        for device in self.devices.iter().filter(|device| !device.is_over) {
            assert_eq!(device.answered, device.complete(), "device {}", device.index);
        }
        assert_eq!(self.rig.core.exchanges.len(), 0);
        if self.random.percent(50) {
            // Some are still asking when the shard stops, and go on.
            for at in 0..4 * DEVICES_MAX {
                if at == DEVICES_MAX {
                    self.is_draining = true;
                    self.rig.core.mail(Mail::Drain);
                    self.rig.turn();
                }
                self.ask();
                self.send();
                self.listen();
            }
            self.rig.core.say_goodbye_to_all();
            self.rig.turn();
        }
        for _ in 0..LONG_MS / 1000 {
            self.rig.pass(1000);
            self.listen();
        }
        assert!(self.rig.core.connections.is_empty(), "all are gone");
        assert_eq!(self.rig.core.exchanges.len(), 0);
        assert_eq!(self.rig.core.counters.http_exchanges.get(), 0);
    }
}

fn play(seed: u64) {
    let mut play = Play::new(seed);
    for _ in 0..STEPS {
        play.step();
    }
    play.end();
}

#[test]
fn every_request_is_answered_in_its_turn_and_by_its_own_answer_whatever_happens() {
    if let Some(seed) = std::env::var("RINGGATE_HTTP_SEED").ok().and_then(|n| n.parse().ok()) {
        return play(seed);
    }
    for seed in 0..SEEDS {
        if catch_unwind(AssertUnwindSafe(|| play(seed))).is_err() {
            panic!("the simulation failed: RINGGATE_HTTP_SEED={seed}");
        }
    }
}
