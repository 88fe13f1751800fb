//! What has really happened, against which everything that anybody is told is held.

use std::collections::{HashMap, HashSet};

/// Where a message is to go, as the device that made its topic up knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub extension: &'static str,
    pub token: Option<&'static str>,
    pub path: &'static str,
    pub request_id: Option<u32>,
}

impl Target {
    pub fn topic(&self) -> String {
        let token = self.token.map(|token| format!("/{token}")).unwrap_or_default();
        let id = self.request_id.map(|id| format!("/{id}")).unwrap_or_default();
        format!("kp1/v1/{}{token}{}{id}", self.extension, self.path)
    }
}

/// One PUBLISH of a device. Its payload says its number.
#[derive(Debug)]
pub struct Message {
    pub device: usize,
    pub qos: u8,
    /// Number of the first PUBLISH of the same message: a resumed session sends it again.
    pub first: usize,
    /// `None`: its topic leads nowhere.
    pub target: Option<Target>,
}

/// An ExtensionData on its way to a client. Its payload, or its reason, says its number.
#[derive(Debug)]
pub struct Answer {
    pub topic: String,
    /// Who may get it; `None` until the gateway has it.
    pub allowed: Option<HashSet<usize>>,
}

/// Everything that has happened.
#[derive(Debug, Default)]
pub struct Truth {
    pub messages: Vec<Message>,
    pub answers: Vec<Answer>,
    /// Correlation id of every message that has come to NATS.
    arrived: HashMap<usize, String>,
    /// Messages, by their first number, that NATS has confirmed with a PONG.
    confirmed: HashSet<usize>,
    /// The last message at NATS of each connection and QoS.
    last: HashMap<(usize, u8), usize>,
    /// Carried messages may be refused: NATS takes small ones only, or may be refused when away.
    pub may_refuse: bool,
}

impl Truth {
    pub fn new(may_refuse: bool) -> Self {
        Self { may_refuse, ..Self::default() }
    }

    /// A message has come to NATS.
    pub fn arrive(&mut self, number: usize, correlation: &str) {
        let message = &self.messages[number];
        if let Some(before) = self.arrived.insert(number, correlation.to_owned()) {
            assert!(message.qos > 0, "message {number} of QoS 0 came to NATS twice");
            assert_eq!(before, correlation, "message {number} was published twice");
            return;
        }
        let last = self.last.insert((message.device, message.qos), number);
        assert!(
            last.is_none_or(|last| last < number),
            "message {number} came to NATS after {last:?}: {message:?}"
        );
    }

    /// NATS has confirmed everything up to a message.
    pub fn confirm(&mut self, number: usize) {
        self.confirmed.insert(self.messages[number].first);
    }

    /// A device was told with PUBACK or PUBREC that a message has arrived.
    pub fn acknowledged(&self, number: usize, code: u8) {
        let message = &self.messages[number];
        if message.target.is_none() {
            return;
        }
        if code >= 0x80 || self.may_refuse {
            assert!(self.may_refuse, "message {number} was refused with {code:#04X}: {message:?}");
            return;
        }
        assert!(
            self.confirmed.contains(&message.first),
            "message {number} was acknowledged before NATS had confirmed it: {message:?}"
        );
    }

    /// A device has got an answer or a push, for it or for a connection `before` it.
    pub fn delivered(&self, device: usize, before: &[usize], number: usize, topic: &str) {
        let answer = &self.answers[number];
        assert_eq!(answer.topic, topic, "answer {number} on a wrong topic");
        let allowed = answer.allowed.as_ref().expect("the gateway has it");
        assert!(
            allowed.contains(&device) || before.iter().any(|before| allowed.contains(before)),
            "answer {number} on {topic} reached device {device}, before it {before:?}; it was for \
             {allowed:?}"
        );
    }
}
