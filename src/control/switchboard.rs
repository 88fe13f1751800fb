//! Keeps the directory by the shards' reports and gives pushes, revocations and the like to the
//! shards they are for.

use super::ShardHandle;
use super::connectivity::Kind;
use super::directory::{Directory, ENDPOINTS_MAX, Gone, Here};
use super::late::Late;
use super::news::News;
use super::tenants::TenantsOfVersions;
use crate::codec::avro::ExtensionData;
use crate::shard::mail::{Mail, MailSender};
use crate::telemetry::{ControlCounters, PushDrop, RateLimit, clock};
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Lines a second about pushes that cannot be read or posted.
const LOGS_PER_SECOND: u32 = 1;
/// Pause before a full mailbox is tried again.
pub(super) const LATE_PAUSE: Duration = Duration::from_millis(10);

/// See the module's documentation.
#[derive(Debug)]
pub struct Switchboard {
    pub(super) directory: Directory,
    mailboxes: Vec<MailSender>,
    late: Late,
    /// Wakes [`deliver_late`].
    is_late: Arc<Notify>,
    pub(super) news: News,
    pub(super) counters: Arc<ControlCounters>,
    log_limit: RateLimit,
}

impl Switchboard {
    /// A switchboard for these shards. `news` is what it tells the world of endpoints, and what it
    /// is told.
    pub fn new(
        shards: Vec<ShardHandle>,
        tenants: TenantsOfVersions,
        news: News,
        counters: Arc<ControlCounters>,
    ) -> Self {
        let mailboxes: Vec<_> = shards.into_iter().map(|shard| shard.mail).collect();
        Self {
            directory: Directory::new(ENDPOINTS_MAX, tenants),
            late: Late::new(mailboxes.len()),
            mailboxes,
            is_late: Arc::default(),
            news,
            counters,
            log_limit: RateLimit::new(LOGS_PER_SECOND),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.mailboxes.len() as u16
    }

    /// `shard` reports that it speaks for `endpoint`, as `app_version`.
    pub fn endpoint_here(&mut self, shard: u16, endpoint: Box<str>, app_version: &str) {
        match self.directory.here(&endpoint, app_version, shard) {
            Here::First => self.endpoint_changed(Kind::Connected, &endpoint, app_version.into()),
            Here::Held => {}
            Here::MovedFrom(before) => {
                self.counters.routes_moved.add(1);
                self.route_moved(before, endpoint);
            }
            Here::Alien => {
                self.counters.endpoints_alien.add(1);
                self.log_alien(&endpoint, app_version);
                // It is reported anew by its next message: the other may be gone by then.
                self.route_moved(shard, endpoint);
            }
            Here::Full => self.counters.directory_full.add(1),
        }
        self.counters.directory_endpoints.set(self.directory.len() as u64);
    }

    /// Tells a shard that it must report an endpoint to have it.
    fn route_moved(&mut self, shard: u16, endpoint: Box<str>) {
        if self.post(shard, Mail::RouteMoved { endpoint }).is_err() {
            // The shard does not know that it must, so pushes stay away from it until somebody
            // else there speaks for the endpoint.
            self.counters.route_moves_lost.add(1);
        }
    }

    fn log_alien(&mut self, endpoint: &str, app_version: &str) {
        if let Some(suppressed) = self.log_limit.allow(clock::monotonic_ms()) {
            tracing::warn!(
                endpoint,
                app_version,
                suppressed,
                "another tenant's endpoint has this id: this one gets no pushes"
            );
        }
    }

    /// `shard` wants to have `endpoint`, which may be in one place only: it gets it unless another
    /// shard or replica has it.
    pub fn endpoint_wanted(&mut self, shard: u16, ask: u64, endpoint: Box<str>, version: &str) {
        let holder = self.directory.holder(&endpoint);
        let is_elsewhere = holder.is_some_and(|holder| holder != shard)
            || self.directory.is_alien(&endpoint, version)
            || self.news.elsewhere(&endpoint).is_some();
        if !is_elsewhere {
            self.endpoint_here(shard, endpoint, version);
        }
        self.post_surely(shard, Mail::Placed { ask, is_granted: !is_elsewhere });
    }

    /// `shard` reports that nobody is left there who speaks for `endpoint`. Another shard that has
    /// it then gets its pushes, and need not be told: it gives them to who spoke last there.
    pub fn endpoint_gone(&mut self, shard: u16, endpoint: &str) {
        match self.directory.gone(endpoint, shard) {
            Gone::Quiet => {}
            Gone::MovedBack => self.counters.routes_moved.add(1),
            Gone::Last(version) => self.endpoint_changed(Kind::Disconnected, endpoint, version),
        }
        self.counters.directory_endpoints.set(self.directory.len() as u64);
    }

    /// These endpoints have moved to another replica: the shards that have them are told, and the
    /// world is not, since they are still connected.
    pub(super) fn endpoints_roamed(&mut self, endpoints: Vec<Box<str>>) {
        self.counters.roamed.add(endpoints.len() as u64);
        let mut of_shards: BTreeMap<u16, Vec<Box<str>>> = BTreeMap::new();
        for endpoint in endpoints {
            for shard in self.directory.roamed(&endpoint) {
                of_shards.entry(shard).or_default().push(endpoint.clone());
            }
        }
        for (shard, endpoints) in of_shards {
            self.post_surely(shard, Mail::Roamed { endpoints: endpoints.into() });
        }
        self.counters.directory_endpoints.set(self.directory.len() as u64);
    }

    /// Gives an ExtensionData datum from the instance-wide subject to the shard that holds its
    /// endpoint. Replicas all hear that subject, so a datum nobody here holds is another's
    /// (3/ISM).
    pub fn push(&mut self, reply_to: Option<&str>, datum: Bytes) {
        self.counters.pushes_received.add(1);
        if let Err(reason) = self.try_push(reply_to, datum) {
            self.counters.push_dropped(reason);
            if reason != PushDrop::NotHeld {
                self.log_drop(reason);
            }
        }
    }

    fn try_push(&self, reply_to: Option<&str>, datum: Bytes) -> Result<(), PushDrop> {
        let data = ExtensionData::decode(&datum).map_err(|_| PushDrop::Malformed)?;
        let endpoint = data.endpoint_id.ok_or(PushDrop::NoEndpoint)?;
        let shard = self.directory.holder(endpoint).ok_or(PushDrop::NotHeld)?;
        if data.app_version_name.is_some_and(|named| self.directory.is_alien(endpoint, named)) {
            return Err(PushDrop::WrongTenant);
        }
        let mail = Mail::Push { reply_to: reply_to.map(Box::from), datum };
        self.post(shard, mail).map_err(|_| PushDrop::MailboxFull)?;
        self.counters.pushes_posted.add(1);
        Ok(())
    }

    fn retry_late(&mut self) -> bool {
        let Self { late, mailboxes, .. } = self;
        late.retry(|shard, mail| post(mailboxes, shard, mail))
    }

    fn log_drop(&mut self, reason: PushDrop) {
        if let Some(suppressed) = self.log_limit.allow(clock::monotonic_ms()) {
            tracing::warn!(reason = reason.as_str(), suppressed, "push dropped");
        }
    }

    /// Posts a mail that must not be lost: what finds the mailbox full is posted later.
    pub(super) fn post_surely(&mut self, shard: u16, mail: Mail) {
        let Self { late, mailboxes, .. } = self;
        let given_up = late.post(shard, mail, |shard, mail| post(mailboxes, shard, mail));
        self.counters.mails_given_up.add(given_up as u64);
        if !late.is_empty() {
            self.is_late.notify_one();
        }
    }

    /// Whether there is room, should every shard be stuck, for one more change of our own store.
    pub(super) fn takes_changes(&self) -> bool {
        self.late.has_room_for_demands()
    }

    /// The same for every shard.
    pub(super) fn post_to_all(&mut self, mail: impl Fn() -> Mail) {
        for shard in 0..self.shards() {
            self.post_surely(shard, mail());
        }
    }

    /// Posts a mail; gives it back when the mailbox is full or there is no such shard.
    pub fn post(&self, shard: u16, mail: Mail) -> Result<(), Mail> {
        post(&self.mailboxes, shard, mail)
    }
}

fn post(mailboxes: &[MailSender], shard: u16, mail: Mail) -> Result<(), Mail> {
    match mailboxes.get(usize::from(shard)) {
        Some(mailbox) => mailbox.post(mail),
        None => Err(mail),
    }
}

/// Posts what found a mailbox full, for ever.
pub async fn deliver_late(switchboard: &RefCell<Switchboard>) -> Infallible {
    let is_late = switchboard.borrow().is_late.clone();
    loop {
        is_late.notified().await;
        while !switchboard.borrow_mut().retry_late() {
            tokio::time::sleep(LATE_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests;
