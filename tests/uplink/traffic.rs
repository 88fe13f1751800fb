//! Messages there and back.

use ringgate::uplink::Verdict;

use crate::rig::{REPLIES, Rig, SUBJECT, settings};
use crate::server::{Listener, NatsServer, until};

#[test]
fn carries_messages_there_and_answers_back() {
    let server = NatsServer::start("max_payload: 4096");
    let listener = Listener::start(server.port, SUBJECT);
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_up().await;
        assert_eq!(rig.seen.borrow().ups, [4096]);
        assert_eq!(rig.link.payload_bytes_max(), 4096);
        for id in 0..3 {
            assert!(rig.publish(SUBJECT, id, id as u8));
        }
        rig.until("the answers", |seen| seen.messages.len() == 3).await;
        let answers = ["0", "1", "2"].map(|payload| format!("{REPLIES} {payload}"));
        assert_eq!(rig.seen.borrow().messages, answers);
        rig.until("the acknowledgements", |seen| seen.outcomes.len() == 2).await;
        assert_eq!(rig.seen.borrow().outcomes, [(1, Verdict::Taken), (2, Verdict::Taken)]);
        rig.until("the ledger is empty", |_| rig.ledger.borrow().is_empty()).await;
        assert_eq!(rig.ledger.borrow().unconfirmed_bytes(), 0);
    });
    assert_eq!(listener.payloads(), ["0", "1", "2"]);
}

#[test]
fn tells_which_messages_nobody_has_heard() {
    let server = NatsServer::start("");
    let listener = Listener::start(server.port, SUBJECT);
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_up().await;
        const NOBODYS: &str = "service.none.data";
        let heard = |id| (id, Verdict::Taken);
        let unheard = |id| (id, Verdict::NoResponders);
        // Alone in its group, a message is told without a Nats-Subject header, too.
        assert!(rig.publish(NOBODYS, 1, 0));
        rig.until("the outcome", |seen| seen.outcomes.len() == 1).await;
        assert!(rig.publish(NOBODYS, 2, 1));
        rig.until("the outcome", |seen| seen.outcomes.len() == 2).await;
        assert_eq!(rig.seen.borrow().outcomes, [unheard(1), unheard(2)]);
        for (id, subject) in [SUBJECT, NOBODYS, SUBJECT, NOBODYS].into_iter().enumerate() {
            assert!(rig.publish(subject, id as u32 + 3, 1));
        }
        rig.until("the outcomes", |seen| seen.outcomes.len() == 6).await;
        let seen = rig.seen.borrow();
        assert_eq!(rig.ledger.borrow().stats().no_responders, 4);
        if seen.silent_subjects.iter().all(|subject| subject.as_deref() == Some(NOBODYS)) {
            assert_eq!(seen.outcomes[2..], [heard(3), unheard(4), heard(5), unheard(6)]);
        } else {
            println!("this nats-server is older than 2.15 and does not name the subject");
        }
    });
    drop(listener);
}

#[test]
fn reports_messages_that_the_server_refuses() {
    let permissions = "publish: { deny: [\"service.secret.>\"] }, subscribe: [\">\"]";
    let config = format!(
        "authorization {{ users: [{{ user: u, password: p, permissions: {{ {permissions} }} }}] }}"
    );
    let server = NatsServer::start(&config);
    let mut settings = settings(vec![server.url()]);
    settings.username = Some("u".to_owned());
    settings.password = Some(ringgate::config::Secret::new("p"));
    Rig::run(settings, async |rig| {
        rig.until_up().await;
        assert!(rig.publish("service.secret.data", 1, 1));
        assert!(rig.publish(SUBJECT, 2, 1));
        rig.until("the outcomes", |seen| seen.outcomes.len() == 2).await;
        let outcomes = [(1, Verdict::Refused), (2, Verdict::NoResponders)];
        assert_eq!(rig.seen.borrow().outcomes, outcomes);
        assert!(rig.seen.borrow().errors[0].contains("Permissions Violation"));
        assert!(rig.link.is_up(), "a refusal does not end the connection");
    });
}

#[test]
fn receives_messages_larger_than_its_first_buffer() {
    let server = NatsServer::start("max_payload: 1048576");
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_up().await;
        let large = "x".repeat(1_000_000);
        let port = server.port;
        let publish = {
            let large = large.clone();
            move || {
                let work = async {
                    let client = async_nats::connect(format!("nats://127.0.0.1:{port}")).await;
                    let client = client.expect("a client connects");
                    for payload in [large.clone(), "small".to_owned(), large] {
                        client.publish(REPLIES, payload.into()).await.expect("it publishes");
                    }
                    client.flush().await.expect("it flushes");
                };
                let mut builder = tokio::runtime::Builder::new_current_thread();
                builder.enable_all().build().expect("a tokio runtime").block_on(work);
            }
        };
        let publisher = std::thread::spawn(publish);
        rig.until("the messages", |seen| seen.messages.len() == 3).await;
        publisher.join().expect("the publisher ends well");
        let lengths = rig.seen.borrow().messages.iter().map(String::len).collect::<Vec<_>>();
        let head = REPLIES.len() + 1;
        assert_eq!(lengths, [head + 1_000_000, head + 5, head + 1_000_000]);
    });
}

#[test]
fn fills_batches_while_a_write_is_in_flight() {
    let server = NatsServer::start("");
    let listener = Listener::start(server.port, SUBJECT);
    const COUNT: u32 = 20_000;
    Rig::run(settings(vec![server.url()]), async |rig| {
        rig.until_up().await;
        let mut id = 0;
        while id < COUNT {
            while id < COUNT && rig.publish(SUBJECT, id, 1) {
                id += 1;
            }
            rig.until("room in the ledger", |_| !rig.ledger.borrow().is_full()).await;
        }
        rig.until("all outcomes", |seen| seen.outcomes.len() == COUNT as usize).await;
        let ids: Vec<_> = rig.seen.borrow().outcomes.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, (0..COUNT).collect::<Vec<_>>());
        let batches = rig.ledger.borrow().stats().batches;
        assert!(batches < u64::from(COUNT) / 10, "{batches} batches for {COUNT} messages");
    });
    until("all messages arrive", || (listener.payloads().len() == COUNT as usize).then_some(()));
}
