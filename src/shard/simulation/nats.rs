//! A model of nats-server and of the extension services behind it.

use std::collections::{HashSet, VecDeque};

use super::random::Random;
use super::truth::{Answer, Target, Truth};
use crate::codec::avro::{ClientData, ExtensionData};

/// Where extension services listen when they set an affinity up.
const AFFINITIES: [&str; 2] =
    ["kaa.v1.replica.dcx-a.esp.ClientData", "kaa.v1.replica.dcx-b.esp.ClientData"];

/// What the server reads from a link.
enum Operation {
    Publish { subject: String, reply: String, datum: Vec<u8> },
    Ping,
}

/// What it says on a link.
pub enum Said {
    Pong,
    NoResponders { subject: Option<String> },
    Message { reply_to: Option<String>, datum: Vec<u8>, answer: usize, asks: Asks },
}

/// Who may get an answer.
#[derive(Clone, Debug)]
pub enum Asks {
    /// The connection that asked, which the correlation id names.
    Device { device: usize, target: Target },
    /// Whoever speaks for the endpoint.
    Endpoint(&'static str),
    /// Whoever asked the same of an endpoint-unaware instance.
    Topic(String),
}

/// An answer that an extension service has not given yet.
pub struct Pending {
    pub shard: usize,
    pub said: Said,
}

/// One connection of a shard.
#[derive(Default)]
pub struct Link {
    pub is_up: bool,
    /// The batch that is being written.
    pub writing: Option<Vec<u8>>,
    /// What has been written and not read by the server.
    wire: VecDeque<Operation>,
    /// What the server has said and the shard not read.
    pub said: VecDeque<Said>,
    /// Messages the server has read since the last PING.
    unconfirmed: Vec<usize>,
}

impl Link {
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let line_end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a whole line");
            let line = std::str::from_utf8(&rest[..line_end]).expect("text");
            rest = &rest[line_end + 2..];
            if line == "PING" {
                self.wire.push_back(Operation::Ping);
                continue;
            }
            let words: Vec<&str> = line.split(' ').collect();
            let [verb, subject, reply, size] = words[..] else { panic!("not PUB: {line}") };
            assert_eq!(verb, "PUB");
            let size: usize = size.parse().expect("a size");
            let datum = rest[..size].to_vec();
            assert_eq!(&rest[size..size + 2], b"\r\n");
            rest = &rest[size + 2..];
            let (subject, reply) = (subject.to_owned(), reply.to_owned());
            self.wire.push_back(Operation::Publish { subject, reply, datum });
        }
    }

    pub fn has_work(&self) -> bool {
        !self.wire.is_empty()
    }

    /// The connection has broken.
    pub fn break_down(&mut self) {
        self.is_up = false;
        self.wire.clear();
        self.said.clear();
        self.unconfirmed.clear();
    }
}

/// What the server knows beside its links.
#[derive(Default)]
pub struct Nats {
    /// Subjects nobody listens to.
    pub silent: HashSet<String>,
    pub pending: Vec<Pending>,
    /// Faults of this model, which the checks must find.
    pub loses: bool,
    pub repeats: bool,
}

impl Nats {
    /// A listener comes or goes.
    pub fn toggle(&mut self, random: &mut Random) {
        let subjects = [
            "kaa.v1.service.dcx.esp.ClientData",
            "kaa.v1.service.cmx.esp.ClientData",
            "kaa.v1.service.tsx.esp.ClientData",
            AFFINITIES[0],
            AFFINITIES[1],
        ];
        let subject = random.pick(&subjects);
        if !self.silent.remove(subject) {
            self.silent.insert(subject.to_owned());
        }
    }

    /// The server reads one operation of a link.
    pub fn serve(&mut self, link: &mut Link, truth: &mut Truth, random: &mut Random) {
        match link.wire.pop_front() {
            None => {}
            Some(Operation::Ping) => {
                for number in link.unconfirmed.drain(..) {
                    truth.confirm(number);
                }
                link.said.push_back(Said::Pong);
            }
            Some(Operation::Publish { subject, reply, datum }) => {
                if self.loses && random.percent(5) {
                    return;
                }
                let data = ClientData::decode(&datum).expect("ClientData");
                let text = std::str::from_utf8(data.payload).expect("text");
                let (number, _) = text[1..].split_once(' ').expect("numbered");
                let number: usize = number.parse().expect("a number");
                let target = truth.messages[number].target.expect("a topic that leads somewhere");
                check(&data, &target, &subject);
                truth.arrive(number, data.correlation_id);
                if self.repeats && random.percent(5) {
                    truth.arrive(number, data.correlation_id);
                }
                link.unconfirmed.push(number);
                if self.silent.contains(&subject) {
                    let subject = random.percent(60).then_some(subject);
                    link.said.push_back(Said::NoResponders { subject });
                } else {
                    self.answer(number, &target, &data, &reply, truth, random);
                }
            }
        }
    }

    /// The extension service thinks about an answer.
    fn answer(
        &mut self,
        number: usize,
        target: &Target,
        data: &ClientData<'_>,
        reply: &str,
        truth: &mut Truth,
        random: &mut Random,
    ) {
        let percent = if target.request_id.is_some() { 60 } else { 10 };
        if !random.percent(percent) {
            return;
        }
        let echoes = random.percent(70);
        let asks = match (echoes, target.token) {
            (true, _) => Asks::Device { device: truth.messages[number].device, target: *target },
            (false, Some(token)) => Asks::Endpoint(token),
            (false, None) => Asks::Topic(target.topic()),
        };
        let is_ok = random.percent(80);
        let outcome = if is_ok { "status" } else { "error" };
        let answer = truth.answers.len();
        truth
            .answers
            .push(Answer { topic: format!("{}/{outcome}", target.topic()), allowed: None });
        let padding = random.pick(&[0, 0, 30, 300]);
        let text = format!("a #{answer}#{}", "y".repeat(padding));
        let mut datum = Vec::new();
        ExtensionData {
            correlation_id: if echoes { data.correlation_id } else { "" },
            timestamp_ms: data.timestamp_ms,
            timeout_ms: 0,
            // An endpoint-unaware instance must say it.
            app_version_name: (target.token.is_none() || random.percent(50)).then_some("v1"),
            extension_instance_name: Some(target.extension),
            endpoint_id: target.token,
            resource_path: target.path,
            request_id: data.request_id,
            payload: is_ok.then_some(text.as_bytes()),
            status_code: if is_ok { 200 } else { 404 },
            reason_phrase: Some(&text),
        }
        .encode(&mut datum);
        let shard = shard_of(reply);
        let affine = target.extension == "dcx" && random.percent(20);
        let reply_to = affine.then(|| random.pick(&AFFINITIES).to_owned());
        self.pending.push(Pending { shard, said: Said::Message { reply_to, datum, answer, asks } });
    }
}

/// What a service pushes to an endpoint of its own accord.
pub fn push(token: &'static str, truth: &mut Truth, random: &mut Random) -> (Vec<u8>, usize) {
    let answer = truth.answers.len();
    let topic = format!("kp1/v1/cmx/{token}/config/json/status");
    truth.answers.push(Answer { topic, allowed: None });
    let text = format!("p #{answer}#");
    let mut datum = Vec::new();
    ExtensionData {
        correlation_id: "push",
        timestamp_ms: 0,
        timeout_ms: 0,
        app_version_name: random.percent(50).then_some("v1"),
        extension_instance_name: Some("cmx"),
        endpoint_id: Some(token),
        resource_path: "/config/json",
        request_id: None,
        payload: Some(text.as_bytes()),
        status_code: 200,
        reason_phrase: None,
    }
    .encode(&mut datum);
    (datum, answer)
}

fn check(data: &ClientData<'_>, target: &Target, subject: &str) {
    assert_eq!(data.app_version_name, "v1");
    assert_eq!(data.endpoint_id, target.token);
    assert_eq!(data.resource_path, target.path, "resource path of {target:?}");
    assert_eq!(data.request_id, target.request_id.map(|id| id as i32), "{target:?}");
    let instance = format!("kaa.v1.service.{}.esp.ClientData", target.extension);
    let is_affine = target.extension == "dcx" && AFFINITIES.contains(&subject);
    assert!(subject == instance || is_affine, "{target:?} on {subject}");
}

/// The shard of a reply subject.
fn shard_of(reply: &str) -> usize {
    let replica = reply.split('.').nth(3).expect("a replica subject");
    replica.strip_prefix("r-").expect("our replica").parse().expect("a shard")
}
