//! What happens in a schedule, and how it comes to rest.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Fault;
use super::provider::{APPS, TOKENS, USERS};
use super::rig::{ASK_TIMEOUT_MS, VERDICT_TTL_MS};
use super::world::World;
use crate::auth::{LaidDown, Method, Requirement, Revocation};
use crate::shard::mail::Mail;
use crate::shard::simulation::random::Random;

/// Connections of a schedule, at most.
const DEVICES_MAX: usize = 8;
/// Rounds in which a schedule must come to rest.
const REST_ROUNDS_MAX: usize = 200;
/// Milliseconds between schedules: more than anything of one is remembered for.
const GAP_MS: u64 = 800_000;

impl World {
    /// One schedule, whole.
    pub(super) fn play(&mut self, seed: u64) {
        self.random = Random::new(seed ^ 0x5EED_0000_0000);
        self.begin();
        let steps = 25 + self.random.below(16);
        for _ in 0..steps {
            let ms = self.random.below(3) as u64;
            self.advance(ms);
            self.step();
        }
        self.come_to_rest();
    }

    fn begin(&mut self) {
        self.advance(GAP_MS);
        self.devices.clear();
        self.places.clear();
        self.messages.clear();
        self.last.clear();
        self.questions.clear();
        self.first_asked.clear();
        self.correlations.clear();
        // Of QoS 0: confirmed by nobody.
        self.unpinged.clear();
        self.tokens = Default::default();
        self.users = Default::default();
        for app in 0..APPS.len() {
            self.demand(app, Requirement::None);
        }
        self.core.tick();
        self.settle();
        if self.random.percent(90) {
            self.link_up();
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..13 if self.devices.len() < DEVICES_MAX => self.connect(),
            0..45 => {
                if let Some(device) = self.talker() {
                    self.publish(device);
                }
            }
            45..50 => {
                if let Some(device) = self.talker() {
                    self.leave(device);
                }
            }
            50..64 => {
                let is_passing = self.random.percent(15);
                self.answer(is_passing);
            }
            64..67 => self.think(),
            67..70 => {
                let times = [1, 250, ASK_TIMEOUT_MS, VERDICT_TTL_MS];
                let ms = self.random.pick(&times);
                self.pass(ms);
            }
            70..76 => self.change_token(),
            76..80 => self.change_user(),
            80..81 => self.unregister(),
            81..84 => {
                let app = self.random.below(APPS.len());
                let demands = [
                    Requirement::None,
                    Requirement::Basic,
                    Requirement::Any,
                    Requirement::Certificate,
                ];
                let demand = self.random.pick(&demands);
                self.demand(app, demand);
            }
            84..85 => self.core.mail(Mail::Doubt),
            85..88 => self.extension_answers(),
            88..90 => self.push(),
            90..91 => self.link_down(),
            91..93 => self.link_up(),
            93..98 => self.pong(),
            98..99 => {
                let is_busy = self.random.percent(50);
                self.desk.is_busy.store(is_busy, Relaxed);
            }
            _ => self.roam(),
        }
    }

    fn pass(&mut self, ms: u64) {
        self.desk.next_moment();
        self.advance(ms);
        self.core.asks_due();
        self.settle();
    }

    fn roam(&mut self) {
        let at = self.random.below(TOKENS.len() - 1);
        self.desk.next_moment();
        let endpoints = [TOKENS[at].endpoint.into()].into();
        self.core.mail(Mail::Roamed { endpoints });
        self.settle();
    }

    /// The next moment, before which nothing was carried that has not come to NATS. While the link
    /// is up, all that is carried is there: what waits still counts as if it came afterwards, also
    /// when its device has left.
    fn next_moment_of_waiting(&mut self) -> u64 {
        let now = self.desk.next_moment();
        if self.link_is_up {
            for message in self.messages.iter_mut().filter(|message| !message.has_arrived) {
                message.token_at = now + 1;
                message.at = now + 1;
            }
        }
        now
    }

    /// The provider suspends or revokes a token, or makes a suspended one good again.
    fn change_token(&mut self) {
        let at = self.random.below(TOKENS.len() - 1);
        let token = &TOKENS[at];
        if std::mem::take(&mut self.tokens[at].is_suspended) {
            return;
        }
        match self.random.percent(60) {
            true => self.tokens[at].is_suspended = true,
            false => self.tokens[at].is_revoked = true,
        }
        self.tokens[at].revoked_at = self.next_moment_of_waiting();
        let revocation = Revocation::Tokens {
            app: APPS[token.app].0.into(),
            endpoint_id: token.endpoint.into(),
            token_ids: token.id.into_iter().map(Into::into).collect(),
        };
        if self.fault != Some(Fault::DeafToRevocations) {
            self.tell(revocation);
        }
        self.settle();
    }

    /// The same with a client's credentials.
    fn change_user(&mut self) {
        let at = self.random.below(USERS.len());
        if std::mem::take(&mut self.users[at].is_suspended) {
            return;
        }
        match self.random.percent(60) {
            true => self.users[at].is_suspended = true,
            false => self.users[at].is_revoked = true,
        }
        let now = self.next_moment_of_waiting();
        self.users[at].revoked_at = now;
        let (_, tenant, id) = USERS[at];
        let says_all = self.random.percent(50);
        let revocation = Revocation::Client {
            tenant: says_all.then(|| tenant.into()),
            method: says_all.then_some(Method::Basic),
            credentials_id: id.into(),
        };
        self.ban(now, |user| user == at);
        self.tell(revocation);
        self.settle();
        self.check_banned();
    }

    /// The shard hears of a revocation, or that it may have missed some.
    fn tell(&mut self, revocation: Revocation) {
        self.core.mail(match self.random.percent(10) {
            true => Mail::Distrust,
            false => Mail::Revoked(Arc::new(revocation)),
        });
    }

    fn ban(&mut self, now: u64, is_meant: impl Fn(usize) -> bool) {
        for device in &mut self.devices {
            if device.is_in && device.login.is_some_and(|(user, _)| is_meant(user)) {
                device.banned_at.get_or_insert(now);
            }
        }
    }

    fn check_banned(&self) {
        for device in &self.devices {
            let may_stay = device.banned_at.is_none() || device.has_ended;
            assert!(may_stay, "a client whose credentials were taken back is not put out");
        }
    }

    /// A tenant is no more, and is made anew with the same credentials.
    fn unregister(&mut self) {
        let app = self.random.below(APPS.len());
        let tenant = APPS[app].1;
        let now = self.next_moment_of_waiting();
        for (at, token) in TOKENS.iter().enumerate() {
            if token.app == app {
                self.tokens[at].revoked_at = now;
            }
        }
        for (at, user) in USERS.iter().enumerate() {
            if user.1 == tenant {
                self.users[at].revoked_at = now;
            }
        }
        self.ban(now, |user| USERS[user].1 == tenant);
        self.tell(Revocation::Tenant { tenant: tenant.into() });
        self.settle();
        self.check_banned();
    }

    fn demand(&mut self, app: usize, requirement: Requirement) {
        self.desk.next_moment();
        self.requirements[app] = requirement;
        let tenant = APPS[app].1.into();
        let demands = LaidDown { mqtt_tcp: Some(requirement), ..LaidDown::default() };
        self.core.mail(Mail::Enforcement { tenant, demands });
        self.settle();
        for device in &self.devices {
            let may_stay = device.has_ended || !device.spoken[app] || device.meets(requirement);
            assert!(may_stay, "a client that has not proven what is demanded is not put out");
        }
        self.judge_waiting();
    }

    /// Everything is answered and everybody leaves; nothing may be left.
    fn come_to_rest(&mut self) {
        self.desk.is_busy.store(false, Relaxed);
        let leave_first = self.random.percent(50);
        for round in 0..REST_ROUNDS_MAX {
            if leave_first || round > 10 {
                while let Some(device) = self.talker() {
                    self.leave(device);
                }
            }
            self.link_up();
            // What was asked in the moment of a revocation is asked again in a later one.
            self.advance(1);
            self.answer(false);
            if self.questions.is_empty() {
                self.pass(ASK_TIMEOUT_MS);
            }
            self.pong();
            if self.is_at_rest() {
                break;
            }
        }
        self.check_nothing_is_left();
    }

    fn is_at_rest(&self) -> bool {
        self.core.connections.is_empty()
            && self.core.asks.is_empty()
            && self.core.ledger.borrow().is_empty()
            && self.questions.is_empty()
    }

    fn check_nothing_is_left(&mut self) {
        let core = &self.core;
        for (_, connection) in &core.connections {
            assert_eq!(connection.parked_bytes, 0, "messages are parked: {connection:?}");
        }
        let left: Vec<_> = core.connections.iter().map(|(_, left)| left).collect();
        assert!(left.is_empty(), "connections are left: {left:?}");
        assert!(core.asks.is_empty(), "questions are left: {:?}", core.asks);
        assert!(core.parked.is_empty() && core.parked.bytes() == 0, "messages are parked");
        let clients = USERS.iter().map(|user| core.clients.with_credentials(user.2, None, None));
        assert_eq!(clients.flatten().count(), 0, "clients are left: {:?}", core.clients);
        assert!(core.endpoints.is_empty(), "endpoints are left: {:?}", core.endpoints);
        assert!(core.ledger.borrow().is_empty(), "the ledger is not empty");
        assert_eq!(core.counters.panics.get(), 0, "a connection has panicked");
        assert_eq!(core.counters.clients_authenticated.get(), 0, "clients are counted");
        assert!(self.here.is_empty(), "no disconnected for {:?}", self.here);
    }
}
