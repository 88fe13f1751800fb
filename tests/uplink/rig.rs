//! A link with its ledger on a shard's runtime, and a handler that remembers.

use std::cell::RefCell;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringgate::codec::nats::publish_head;
use ringgate::config::NatsUrl;
use ringgate::rt::task::{Task, sleep};
use ringgate::uplink::{
    Dialer, Handler, Ledger, Limits, Link, LinkSettings, LinkStatus, SubjectId, Tag, TlsSettings,
    Verdict,
};

use crate::server::PATIENCE;

pub const REPLIES: &str = "replica.1.answers";
pub const SUBJECT: &str = "service.dcx.data";

/// Settings that suit a test: quick to reconnect, no PING of their own.
pub fn settings(urls: Vec<NatsUrl>) -> LinkSettings {
    LinkSettings {
        urls,
        username: None,
        password: None,
        token: None,
        credentials_file: None,
        nkey_seed_file: None,
        tls: TlsSettings::default(),
        connect_timeout: PATIENCE,
        reconnect_delay_min: Duration::from_millis(10),
        reconnect_delay_max: Duration::from_millis(50),
        ping_interval: PATIENCE,
        pings_outstanding_max: 2,
    }
}

/// What the link has told.
#[derive(Default)]
pub struct Seen {
    pub ups: Vec<usize>,
    pub downs: Vec<String>,
    /// `subject payload` of each message.
    pub messages: Vec<String>,
    /// Id and verdict of each outcome.
    pub outcomes: Vec<(u32, Verdict)>,
    pub silent_subjects: Vec<Option<String>>,
    pub errors: Vec<String>,
}

struct Recorder {
    ledger: Rc<RefCell<Ledger>>,
    seen: Rc<RefCell<Seen>>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

impl Handler for Recorder {
    fn on_up(&self, payload_bytes_max: usize) {
        self.seen.borrow_mut().ups.push(payload_bytes_max);
    }

    fn on_down(&self, why: &str) {
        self.seen.borrow_mut().downs.push(why.to_owned());
    }

    fn on_message(&self, subject: &[u8], _reply: Option<&[u8]>, payload: &[u8]) {
        let message = format!("{} {}", text(subject), text(payload));
        self.seen.borrow_mut().messages.push(message);
    }

    fn on_confirmed(&self) {
        let confirmed = || self.ledger.borrow_mut().confirmed(0);
        while let Some(group) = confirmed() {
            for outcome in group.outcomes() {
                let id = outcome.tag.generation;
                self.seen.borrow_mut().outcomes.push((id, outcome.verdict));
            }
            self.ledger.borrow_mut().recycle(group);
        }
    }

    fn on_no_responders(&self, subject: Option<&[u8]>) {
        self.seen.borrow_mut().silent_subjects.push(subject.map(text));
    }

    fn on_error(&self, text: &str) {
        self.seen.borrow_mut().errors.push(text.to_owned());
    }
}

/// A started link.
pub struct Rig {
    pub link: Rc<Link>,
    pub ledger: Rc<RefCell<Ledger>>,
    pub seen: Rc<RefCell<Seen>>,
    pub status: Arc<LinkStatus>,
    task: Task<()>,
}

impl Rig {
    /// Runs `test` with a link of these settings on a runtime of its own, and closes the link.
    pub fn run(settings: LinkSettings, test: impl AsyncFnOnce(&Rig)) {
        let main = async || {
            let rig = Rig::start(settings);
            test(&rig).await;
            rig.link.close();
            rig.task.await;
            assert!(!rig.link.is_up());
        };
        ringgate::rt::runtime::run(None, main).expect("a runtime");
    }

    fn start(settings: LinkSettings) -> Rig {
        let limits = Limits { batch_bytes_max: 16 * 1024, unconfirmed_bytes_max: 1024 * 1024 };
        let ledger = Rc::new(RefCell::new(Ledger::new(limits)));
        let seen = Rc::new(RefCell::new(Seen::default()));
        let status = Arc::new(LinkStatus::new());
        let dialer = Dialer::new(settings).expect("the settings are good");
        let subjects = vec![REPLIES.to_owned()];
        let link = Link::new(dialer, "ringgate test-0", subjects, ledger.clone(), status.clone());
        let recorder = Recorder { ledger: ledger.clone(), seen: seen.clone() };
        let task = link.start(Rc::new(recorder));
        Rig { link, ledger, seen, status, task }
    }

    /// Appends a message with a request id whose payload is its id; false if the ledger is full.
    pub fn publish(&self, subject: &str, id: u32, qos: u8) -> bool {
        let packet_id = NonZeroU16::new(id as u16 + 1).filter(|_| qos > 0);
        let tag = Tag { connection: 0, generation: id, packet_id, qos, has_request_id: true };
        let payload = id.to_string();
        let subject_id = SubjectId::of(subject.as_bytes());
        let appended = self.ledger.borrow_mut().append(subject_id, Some(tag), 0, |batch| {
            publish_head(batch, subject.as_bytes(), Some(REPLIES.as_bytes()), payload.len());
            batch.extend_from_slice(payload.as_bytes());
            batch.extend_from_slice(b"\r\n");
        });
        self.link.flush();
        appended.is_ok()
    }

    /// Waits for a condition, and fails the test when patience runs out.
    pub async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.seen.borrow()) {
            let last_error = self.status.last_error();
            assert!(Instant::now() < deadline, "gave up waiting: {what}; {last_error}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the link is up.
    pub async fn until_up(&self) {
        self.until("the link is up", |_| self.link.is_up()).await;
    }

    /// Waits until an attempt has failed with a text that holds all of `parts`.
    pub async fn until_error(&self, parts: &[&str]) {
        let what = format!("an error that speaks of {parts:?}");
        let is_it = |_: &Seen| {
            let error = self.status.last_error();
            parts.iter().all(|part| error.contains(part))
        };
        self.until(&what, is_it).await;
        assert!(!self.link.is_up() && !self.status.is_up());
    }

    /// Publishes one message of QoS 1 and waits until NATS has taken it.
    pub async fn prove_it_works(&self) {
        self.until_up().await;
        let before = self.seen.borrow().outcomes.len();
        assert!(self.publish(SUBJECT, 7, 1));
        self.until("an acknowledgement", |seen| seen.outcomes.len() > before).await;
        assert_eq!(self.seen.borrow().outcomes[before].0, 7);
        assert!(self.status.is_up());
    }
}
