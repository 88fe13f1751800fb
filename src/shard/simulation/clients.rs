//! What happens between the gateway and its clients.

use std::fs::File;

use super::device::Device;
use super::setup::MQTT;
use super::wire::Connect;
use super::world::{EXPIRY_S_MAX, Session, Shard, World};
use crate::shard::connection::{Hold, Life};
use crate::telemetry::CloseReason;

/// Devices that are connected at a time, at most.
const DEVICES_MAX: usize = 6;
/// Client ids, and the protocol level on which each keeps its session.
const CLIENTS: [(&str, u8); 5] = [("", 4), ("a", 3), ("b", 4), ("c", 5), ("d", 5)];

impl World {
    pub(super) fn connect_device(&mut self) {
        if self.devices.iter().filter(|device| !device.is_ended).count() >= DEVICES_MAX {
            return;
        }
        let random = &mut self.random;
        let (client_id, own_level) = random.pick(&CLIENTS);
        let clean = client_id.is_empty() || random.percent(40);
        let level = if clean { random.pick(&[4, 5, 5, own_level]) } else { own_level };
        let expiry_s = match level {
            5 => random.pick(&[0, 5, 100_000, 100_000]),
            _ if clean => 0,
            _ => u32::MAX,
        };
        let asked = Connect {
            client_id: client_id.to_owned(),
            clean,
            keep_alive_s: random.pick(&[0, 5, 60]),
            expiry_s,
            receive_max: random.pick(&[None, Some(1), Some(3)]),
            packet_bytes_max: random.pick(&[None, None, Some(250)]),
            alias_max: random.pick(&[0, 2]),
        };
        let number = self.devices.len();
        let device = Device::new(number, level, asked);
        self.devices.push(device);
        let shard = self.random.below(self.shards.len());
        let core = &mut self.shards[shard].core;
        let socket = File::open("/dev/null").expect("is there").into();
        match core.opened(socket, MQTT) {
            Some(index) => {
                self.shards[shard].places.insert(index, number);
            }
            None => {
                assert!(core.is_draining(), "not accepted");
                self.devices[number].is_ended = true;
                self.devices[number].has_closed = true;
            }
        }
        self.settle_turn(shard);
    }

    /// Some bytes of a device arrive, or its end.
    pub(super) fn deliver(&mut self, shard: usize, index: u32) {
        let number = self.shards[shard].places[&index];
        let device = &mut self.devices[number];
        let connection = &self.shards[shard].core.connections[index as usize];
        let (life, is_held) = (connection.life, connection.hold != Hold::None);
        if device.has_failed || life == Life::Shut {
            let failed = device.has_failed;
            return self.receive_ends(shard, index, Some(failed));
        }
        if device.outgoing.is_empty() {
            return self.receive_ends(shard, index, Some(false));
        }
        let all = device.outgoing.len();
        let count = if self.random.percent(60) { all } else { 1 + self.random.below(all) };
        let bytes: Vec<u8> = device.outgoing.drain(..count).collect();
        let before = device.delivered_bytes;
        device.delivered_bytes += count;
        let connects =
            before < device.connect_bytes && device.delivered_bytes >= device.connect_bytes;
        if connects && life == Life::Open && !is_held {
            self.claim(number);
        }
        self.shards[shard].core.received(index, &bytes);
        self.settle_turn(shard);
    }

    pub(super) fn receive_ends(&mut self, shard: usize, index: u32, failed: Option<bool>) {
        let Shard { core, ring, .. } = &mut self.shards[shard];
        ring.receives.remove(&index);
        ring.cancels.remove(&index);
        core.receive_stopped(index);
        if let Some(failed) = failed {
            core.peer_ended(index, failed);
        }
        self.settle_turn(shard);
    }

    pub(super) fn run_out_of_buffers(&mut self) {
        let shard = self.random.below(self.shards.len());
        let receives = &self.shards[shard].ring.receives;
        if let Some(index) = receives.iter().copied().min() {
            self.receive_ends(shard, index, None);
        }
    }

    pub(super) fn sent(&mut self, shard: usize, index: u32) {
        let Shard { core, ring, places, .. } = &mut self.shards[shard];
        let bytes = ring.sends.remove(&index).expect("is under way");
        let device = &mut self.devices[places[&index]];
        let is_shut = core.connections[index as usize].life == Life::Shut;
        let is_ok = !(is_shut || device.has_failed || device.has_closed && self.random.percent(50));
        if is_ok {
            device.receive(&bytes, &mut self.truth, &mut self.random);
        }
        core.sent(index, bytes, is_ok);
        self.settle_turn(shard);
    }

    /// A CONNECT is about to be taken: what it must find, by the standard.
    pub(super) fn claim(&mut self, number: usize) {
        let device = &self.devices[number];
        let client_id = device.session();
        let clean = device.asked.clean;
        let behind = match self.sessions.get(&client_id) {
            None => Some(false),
            Some(Session::Unknown) => None,
            Some(Session::Kept { expires_ms }) => Some(self.now_ms < *expires_ms),
            Some(Session::Live(owner)) if self.is_live(*owner) => {
                Some(granted_expiry_s(&self.devices[*owner]) > 0)
            }
            // Not let in yet. If it will be, what it leaves counts, else what it waits for.
            Some(Session::Live(owner)) => {
                let leaves = granted_expiry_s(&self.devices[*owner]) > 0;
                self.devices[*owner].present_expected.filter(|inherits| *inherits == leaves)
            }
        };
        let expected = if clean { Some(false) } else { behind };
        if expected != Some(false)
            && let Some(before) = self.claimants.get(&client_id)
        {
            // The same client has come again: what it was before is no more.
            let [device, before] =
                self.devices.get_disjoint_mut([number, *before]).expect("two devices");
            before.is_abandoned = true;
            before.has_failed |= self.random.percent(30);
            device.follow(before);
        }
        self.devices[number].present_expected = expected;
        self.claimants.insert(client_id.clone(), number);
        self.sessions.insert(client_id, Session::Live(number));
    }

    /// Whether the gateway has let a device in and not ended it.
    pub(super) fn is_live(&self, number: usize) -> bool {
        self.shards.iter().any(|shard| {
            shard.places.iter().any(|(index, device)| {
                *device == number && shard.core.connections[*index as usize].session.is_live()
            })
        })
    }

    /// The gateway has ended a connection.
    pub(super) fn ended(&mut self, number: usize, reason: CloseReason) {
        let was_ended = std::mem::replace(&mut self.devices[number].is_ended, true);
        if was_ended {
            return;
        }
        let device = &mut self.devices[number];
        match reason {
            CloseReason::ClientDisconnect
            | CloseReason::PeerClosed
            | CloseReason::PeerReset
            | CloseReason::ConnectTimeout
            | CloseReason::KeepAliveTimeout
            | CloseReason::Takeover
            | CloseReason::QuotaExceeded
            | CloseReason::Shutdown => {}
            CloseReason::UplinkRefused if self.truth.may_refuse => {}
            reason => panic!("device {number} did nothing to deserve {reason}"),
        }
        if reason == CloseReason::ClientDisconnect
            && let Some(expiry_s) = device.last_expiry_s.filter(|_| device.level == 5)
        {
            device.asked.expiry_s = expiry_s;
        }
        let client_id = device.session();
        if !matches!(self.sessions.get(&client_id), Some(Session::Live(owner)) if *owner == number)
        {
            return;
        }
        // Let in is who was not waiting for another shard: its place is freed in this turn.
        let expiry_s = granted_expiry_s(device);
        let was_let_in = device.is_in() || device.was_told_to_go() || !self.waits_for(number);
        match (was_let_in, expiry_s) {
            (false, _) => self.sessions.insert(client_id, Session::Unknown),
            (true, 0) => self.sessions.remove(&client_id),
            (true, _) => {
                let expires_ms = self.now_ms + u64::from(expiry_s) * 1000;
                self.sessions.insert(client_id, Session::Kept { expires_ms })
            }
        };
    }

    /// Whether a device that has heard nothing may have been waiting for its session when it ended.
    pub(super) fn waits_for(&self, number: usize) -> bool {
        self.shards.len() > 1 && !self.devices[number].asked.clean
    }
}

/// What the gateway grants of the expiry asked for, in seconds.
fn granted_expiry_s(device: &Device) -> u32 {
    device.asked.expiry_s.min(EXPIRY_S_MAX)
}
