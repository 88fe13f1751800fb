//! A model of a client that says who it is, truly or not.

use std::collections::VecDeque;

use super::provider::{APPS, PASSWORD, TOKENS, USERS};
use crate::auth::Requirement;
use crate::shard::simulation::wire::{self, FromServer};

/// One connection.
#[derive(Debug)]
pub struct Device {
    pub index: u32,
    pub level: u8,
    /// Its place in [`USERS`], and whether its password is right; `None`: anonymous.
    pub login: Option<(usize, bool)>,
    pub connected_at: u64,
    pub is_in: bool,
    /// It has closed, or the gateway has.
    pub has_ended: bool,
    /// It was let in, and what let it in was taken back then.
    pub banned_at: Option<u64>,
    /// Packet ids and messages of QoS 1 and 2 that are not acknowledged.
    pub owed: [VecDeque<(u16, usize)>; 2],
    /// Applications it has spoken for, as NATS knows.
    pub spoken: [bool; APPS.len()],
    /// Tokens it has named.
    pub named: [bool; TOKENS.len()],
    incoming: Vec<u8>,
}

/// What a device has heard and the world must judge.
pub enum Heard {
    LetIn,
    /// A message was acknowledged with this code.
    Acknowledged(usize, u8),
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// CONNECT by hand: [`wire::connect`] has no user.
pub fn connect(level: u8, client_id: &str, clean: bool, login: Option<(usize, bool)>) -> Vec<u8> {
    let mut body = vec![0x10, 0];
    put_text(&mut body, "MQTT");
    body.push(level);
    body.push(u8::from(clean) << 1 | if login.is_some() { 0xC0 } else { 0 });
    body.extend_from_slice(&[0, 0]);
    if level == 5 {
        // The session outlives its connection unless it is a clean one.
        body.extend_from_slice(&[5, 0x11, 0, 0, 0, if clean { 0 } else { 60 }]);
    }
    put_text(&mut body, client_id);
    if let Some((user, is_right)) = login {
        let (name, tenant, _) = USERS[user];
        let length = name.len() + 1 + tenant.len();
        body.extend_from_slice(&(length as u16).to_be_bytes());
        body.extend_from_slice(name.as_bytes());
        body.push(b'@');
        body.extend_from_slice(tenant.as_bytes());
        put_text(&mut body, if is_right { PASSWORD } else { "wrong" });
    }
    body[1] = (body.len() - 2) as u8;
    body
}

impl Device {
    /// Whether it has proven what a tenant demands.
    pub fn meets(&self, requirement: Requirement) -> bool {
        match requirement {
            Requirement::None => true,
            Requirement::Certificate => false,
            Requirement::Basic | Requirement::Any => self.login.is_some(),
        }
    }

    pub fn new(index: u32, level: u8, login: Option<(usize, bool)>, connected_at: u64) -> Self {
        Self {
            index,
            level,
            login,
            connected_at,
            is_in: false,
            has_ended: false,
            banned_at: None,
            owed: Default::default(),
            spoken: Default::default(),
            named: Default::default(),
            incoming: Vec::new(),
        }
    }

    /// Reads what the gateway says; adds what is to be replied to `replies`.
    ///
    /// # Panics
    /// When the gateway says what it must not.
    pub fn hear(&mut self, bytes: &[u8], replies: &mut Vec<u8>, mut heard: impl FnMut(Heard)) {
        self.incoming.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((said, length)) = wire::take(self.level, &self.incoming[at..]) {
            at += length;
            match said {
                FromServer::ConnAck { code: 0, .. } => {
                    assert!(!self.is_in, "a second CONNACK");
                    self.is_in = true;
                    heard(Heard::LetIn);
                }
                FromServer::ConnAck { .. } | FromServer::Disconnect { .. } => {}
                FromServer::PubAck { packet_id, code } => {
                    heard(Heard::Acknowledged(settle(&mut self.owed[0], packet_id, 1), code));
                }
                FromServer::PubRec { packet_id, code } => {
                    heard(Heard::Acknowledged(settle(&mut self.owed[1], packet_id, 2), code));
                    if code < 0x80 {
                        replies.extend_from_slice(&wire::acknowledge(0x62, packet_id));
                    }
                }
                FromServer::PubRel { packet_id } => {
                    replies.extend_from_slice(&wire::acknowledge(0x70, packet_id));
                }
                FromServer::PubComp { .. } => {}
                FromServer::Publish { topic, payload, qos, packet_id, .. } => {
                    // What comes unasked, and with QoS 0, is for this connection alone.
                    if payload == b"push" {
                        let token = topic.split('/').nth(3);
                        let at = TOKENS.iter().position(|known| Some(known.text) == token);
                        let is_named = at.is_some_and(|at| self.named[at]);
                        assert!(is_named, "a push on {topic}, whose token it has not named");
                    }
                    match qos {
                        1 => replies.extend_from_slice(&wire::acknowledge(0x40, packet_id)),
                        2 => replies.extend_from_slice(&wire::acknowledge(0x50, packet_id)),
                        _ => {}
                    }
                }
                other => panic!("not asked for: {other:?}"),
            }
        }
        self.incoming.drain(..at);
    }
}

fn settle(owed: &mut VecDeque<(u16, usize)>, packet_id: u16, qos: u8) -> usize {
    let first = owed.pop_front();
    let Some((_, number)) = first.filter(|(id, _)| *id == packet_id) else {
        panic!("QoS {qos} message {packet_id} was acknowledged when it was the turn of {first:?}");
    };
    number
}
