//! Keeps the directory by the shards' reports and gives pushes, revocations and the like to the
//! shards they are for.

use super::ShardHandle;
use super::connectivity::Kind;
use super::directory::{Directory, ENDPOINTS_MAX, Gone, Here};
use super::late::Late;
use super::news::News;
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
    pub fn new(shards: Vec<ShardHandle>, news: News, counters: Arc<ControlCounters>) -> Self {
        let mailboxes: Vec<_> = shards.into_iter().map(|shard| shard.mail).collect();
        Self {
            directory: Directory::new(ENDPOINTS_MAX),
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
                if self.post(before, Mail::RouteMoved { endpoint }).is_err() {
                    // The old shard does not know that it must report to have the endpoint back,
                    // so pushes stay with the new one until that loses it.
                    self.counters.route_moves_lost.add(1);
                }
            }
            Here::Full => self.counters.directory_full.add(1),
        }
        self.counters.directory_endpoints.set(self.directory.len() as u64);
    }

    /// `shard` wants to have `endpoint`, which may be in one place only: it gets it unless another
    /// shard or replica has it.
    pub fn endpoint_wanted(&mut self, shard: u16, ask: u64, endpoint: Box<str>, version: &str) {
        let holder = self.directory.holder(&endpoint);
        let is_elsewhere = holder.is_some_and(|holder| holder != shard)
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
mod tests {
    use super::*;
    use crate::admin::Change;
    use crate::auth::{Busy, Clerk, LaidDown, Question, Revocation, Ticket};
    use crate::codec::avro::{Header, ecap};
    use crate::config::Settings;
    use crate::control::late::LATE_TENANTS_MAX;
    use crate::control::news::REPLIES_MAX;
    use crate::control::providers::tell_changes;
    use crate::control::serve::{Asked, Service, answers};
    use crate::shard::mail::{MAILS_MAX, Mailbox, mailbox};
    use crate::telemetry::{LinkStatus, ShardCounters};

    fn switchboard(shards: usize) -> (Switchboard, Vec<Mailbox>, Arc<ControlCounters>) {
        let counters = Arc::new(ControlCounters::default());
        let (handles, mailboxes) = (0..shards)
            .map(|_| {
                let (mail, mailbox) = mailbox().expect("a descriptor is left");
                let counters = Arc::new(ShardCounters::new());
                (ShardHandle { mail, counters, link: Arc::new(LinkStatus::new()) }, mailbox)
            })
            .unzip();
        (Switchboard::new(handles, news(None), counters.clone()), mailboxes, counters)
    }

    fn news(service: Option<Service>) -> News {
        News::new(&Settings::default(), service, tokio::sync::mpsc::channel(1).0)
    }

    fn datum(endpoint_id: Option<&str>) -> Bytes {
        let data = ExtensionData {
            correlation_id: "c1",
            timestamp_ms: 1,
            timeout_ms: 0,
            app_version_name: Some("av1"),
            extension_instance_name: Some("cmx"),
            endpoint_id,
            resource_path: "/config/json",
            request_id: None,
            payload: Some(b"{}"),
            status_code: 200,
            reason_phrase: None,
        };
        let mut out = Vec::new();
        data.encode(&mut out);
        out.into()
    }

    fn taken(mailbox: &mut Mailbox) -> Vec<Mail> {
        let mut mails = Vec::new();
        mailbox.drain(|mail| mails.push(mail));
        mails
    }

    #[test]
    fn a_push_goes_to_the_shard_that_holds_its_endpoint() {
        let (mut switchboard, mut mailboxes, counters) = switchboard(2);
        switchboard.endpoint_here(1, "e1".into(), "v");
        switchboard.push(Some("kaa.v1.replica.x.esp.ClientData"), datum(Some("e1")));
        assert!(taken(&mut mailboxes[0]).is_empty());
        let mails = taken(&mut mailboxes[1]);
        let [Mail::Push { reply_to: Some(reply_to), datum: delivered }] = &mails[..] else {
            panic!("{mails:?}");
        };
        assert_eq!(&**reply_to, "kaa.v1.replica.x.esp.ClientData");
        assert_eq!(*delivered, datum(Some("e1")));
        assert_eq!((counters.pushes_received.get(), counters.pushes_posted.get()), (1, 1));
        assert_eq!(counters.directory_endpoints.get(), 1);
    }

    #[test]
    fn pushes_for_nobody_here_are_dropped_and_counted() {
        let (mut switchboard, mut mailboxes, counters) = switchboard(1);
        switchboard.endpoint_here(0, "e1".into(), "v");
        switchboard.endpoint_gone(0, "e1");
        switchboard.push(None, datum(Some("e1")));
        switchboard.push(None, datum(None));
        switchboard.push(None, Bytes::from_static(b"\x04"));
        assert!(taken(&mut mailboxes[0]).is_empty());
        for reason in [PushDrop::NotHeld, PushDrop::NoEndpoint, PushDrop::Malformed] {
            assert_eq!(counters.pushes_dropped[reason.index()].get(), 1, "{reason}");
        }
        assert_eq!(counters.directory_endpoints.get(), 0);
    }

    #[test]
    fn a_shard_that_does_not_empty_its_mailbox_loses_pushes_and_nobody_waits() {
        let (mut switchboard, _mailboxes, counters) = switchboard(1);
        switchboard.endpoint_here(0, "e1".into(), "v");
        for _ in 0..MAILS_MAX + 3 {
            switchboard.push(None, datum(Some("e1")));
        }
        assert_eq!(counters.pushes_dropped[PushDrop::MailboxFull.index()].get(), 3);
    }

    #[test]
    fn the_shard_an_endpoint_left_is_told() {
        let (mut switchboard, mut mailboxes, counters) = switchboard(2);
        switchboard.endpoint_here(0, "e1".into(), "v");
        switchboard.endpoint_here(1, "e1".into(), "v");
        let mails = taken(&mut mailboxes[0]);
        assert!(matches!(&mails[..], [Mail::RouteMoved { endpoint }] if &**endpoint == "e1"));
        assert_eq!(counters.routes_moved.get(), 1);
        switchboard.push(None, datum(Some("e1")));
        assert_eq!(taken(&mut mailboxes[1]).len(), 1);
    }

    #[test]
    fn a_push_goes_back_to_the_shard_that_still_has_the_endpoint() {
        let (mut switchboard, mut mailboxes, counters) = switchboard(2);
        switchboard.endpoint_here(0, "e1".into(), "v");
        switchboard.endpoint_here(1, "e1".into(), "v");
        taken(&mut mailboxes[0]);
        switchboard.endpoint_gone(1, "e1");
        assert_eq!(counters.routes_moved.get(), 2);
        switchboard.push(None, datum(Some("e1")));
        assert!(matches!(&taken(&mut mailboxes[0])[..], [Mail::Push { .. }]));
        assert!(taken(&mut mailboxes[1]).is_empty());
        switchboard.endpoint_gone(0, "e1");
        assert_eq!((counters.routes_moved.get(), counters.directory_endpoints.get()), (2, 0));
    }

    #[test]
    fn a_report_of_a_shard_that_does_not_exist_harms_nothing() {
        let (mut switchboard, _mailboxes, counters) = switchboard(1);
        switchboard.endpoint_here(7, "e1".into(), "v");
        switchboard.push(None, datum(Some("e1")));
        assert_eq!(counters.pushes_posted.get(), 0);
    }

    #[test]
    fn endpoints_of_one_event_that_roamed_come_to_a_shard_in_one_mail() {
        let (mut switchboard, mut mailboxes, counters) = switchboard(2);
        for (shard, endpoint) in [(0, "e1"), (1, "e2"), (0, "e3"), (1, "e3")] {
            switchboard.endpoint_here(shard, endpoint.into(), "v");
        }
        taken(&mut mailboxes[0]);
        switchboard.endpoints_roamed(["e1", "e2", "e3"].map(Into::into).into());
        for (mailbox, expected) in mailboxes.iter_mut().zip([["e1", "e3"], ["e2", "e3"]]) {
            let mails = taken(mailbox);
            let [Mail::Roamed { endpoints }] = &mails[..] else { panic!("{mails:?}") };
            assert_eq!(**endpoints, expected.map(Box::from));
        }
        assert_eq!((counters.roamed.get(), counters.directory_endpoints.get()), (3, 0));
    }

    /// Has no time for anybody.
    struct Refusing;

    impl Clerk for Refusing {
        fn ask(&self, _: Ticket, _: Question) -> Result<(), Busy> {
            Err(Busy)
        }
    }

    #[test]
    fn of_too_many_replies_the_oldest_are_given_up() {
        let (mut switchboard, _mailboxes, counters) = switchboard(1);
        let service = Service { clerk: Arc::new(Refusing), answers: answers().1 };
        switchboard.news = news(Some(service));
        for asker in 0..REPLIES_MAX + 2 {
            let (mut datum, asker) = (Vec::new(), asker.to_string());
            let header = Header { correlation_id: &asker, timestamp_ms: 0, timeout_ms: 0 };
            ecap::EndpointTokenValidationRequest { header, app_name: "a", token: "t" }
                .encode(&mut datum);
            switchboard.asked(Asked::Token, Some(&asker), &datum);
        }
        assert_eq!(counters.replies_lost.get(), 2);
        let mut asked = Vec::new();
        while let Some((subject, _)) = switchboard.next_message() {
            asked.push(subject);
        }
        let expected = (2..REPLIES_MAX + 2).map(|asker| asker.to_string());
        assert!(asked.into_iter().eq(expected));
    }

    #[tokio::test]
    async fn changes_of_the_store_wait_while_too_many_tenants_are_news_to_a_stuck_shard() {
        let (mut switchboard, mut mailboxes, _) = switchboard(1);
        while switchboard.post(0, Mail::Doubt).is_ok() {}
        for tenant in 0..LATE_TENANTS_MAX {
            let tenant: Box<str> = tenant.to_string().into();
            switchboard.post_surely(0, Mail::Enforcement { tenant, demands: LaidDown::default() });
        }
        let switchboard = RefCell::new(switchboard);
        let (changes, taken_changes) = tokio::sync::mpsc::channel(1);
        let revocation = Revocation::Tenant { tenant: "t".into() };
        changes.try_send(Change::Revoked(revocation)).expect("room");
        let telling = tell_changes(Some(taken_changes), &switchboard);
        let test = async {
            changes.reserve().await.expect("the change is taken");
            let revoked = |counters: &ControlCounters| counters.revocations_own.get();
            assert_eq!(revoked(&switchboard.borrow().counters), 0, "and waits");
            while !taken(&mut mailboxes[0]).is_empty() {}
            switchboard.borrow_mut().retry_late();
            while revoked(&switchboard.borrow().counters) == 0 {
                tokio::time::sleep(LATE_PAUSE).await;
            }
        };
        tokio::select! {
            never = telling => match never {},
            () = test => {}
        }
    }

    #[test]
    fn what_must_not_be_lost_waits_for_room_in_a_full_mailbox() {
        let (mut switchboard, mut mailboxes, counters) = switchboard(1);
        switchboard.endpoint_here(0, "e1".into(), "v");
        for _ in 0..MAILS_MAX {
            switchboard.push(None, datum(Some("e1")));
        }
        switchboard.doubt();
        switchboard.endpoints_roamed(vec!["e1".into()]);
        assert!(!switchboard.retry_late());
        while !taken(&mut mailboxes[0]).is_empty() {}
        assert!(switchboard.retry_late());
        let mails = taken(&mut mailboxes[0]);
        assert!(matches!(&mails[..], [Mail::Doubt, Mail::Roamed { .. }]), "{mails:?}");
        assert_eq!((counters.roamed.get(), counters.mails_given_up.get()), (1, 0));
        assert_eq!(counters.directory_endpoints.get(), 0);
    }
}
