//! Any packets in any order.

use proptest::prelude::*;

use super::*;

/// A step of a random life.
#[derive(Clone, Debug)]
enum Act {
    Publish { qos: u8, packet_id: u16, topic: usize, alias: Option<u16>, retain: bool, dup: bool },
    Acknowledge { kind: usize, packet_id: u16 },
    Subscribe { filter: usize, qos: u8 },
    Ping,
    Disconnect(Option<u32>),
    Connect,
    Bytes(Vec<u8>),
    Confirm { qos: u8, packet_id: u16 },
    Drop { qos: u8, packet_id: u16 },
    Deliver { qos: u8, payload_bytes: usize },
}

const TOPICS: [&str; 3] = ["", "kp1/v/dcx/t/json", "x"];
const FILTERS: [&str; 4] = ["#", "a/+", "$share/g/a", "x"];

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let small = 1..5u16;
    let (alias, retain) = (prop::option::of(1..4u16), prop::bool::weighted(0.02));
    let act = prop_oneof![
        8 => (0..3u8, small.clone(), 0..3usize, alias, retain, prop::bool::ANY)
            .prop_map(|(qos, packet_id, topic, alias, retain, dup)| Act::Publish {
                qos, packet_id, topic, alias, retain, dup
            }),
        6 => (0..4usize, small.clone()).prop_map(|(kind, packet_id)| {
            Act::Acknowledge { kind, packet_id }
        }),
        2 => (0..4usize, 0..3u8).prop_map(|(filter, qos)| Act::Subscribe { filter, qos }),
        1 => Just(Act::Ping),
        1 => prop::option::of(0..9u32).prop_map(Act::Disconnect),
        1 => Just(Act::Connect),
        1 => prop::collection::vec(any::<u8>(), 2..20).prop_map(Act::Bytes),
        8 => (1..3u8, small.clone()).prop_map(|(qos, packet_id)| Act::Confirm { qos, packet_id }),
        2 => (1..3u8, small).prop_map(|(qos, packet_id)| Act::Drop { qos, packet_id }),
        4 => (0..3u8, 0..300usize).prop_map(|(qos, payload_bytes)| {
            Act::Deliver { qos, payload_bytes }
        }),
    ];
    prop::collection::vec(act, 0..60)
}

fn qos(level: u8) -> QoS {
    QoS::from_u8(level).expect("0 to 2")
}

impl Client {
    fn act(&mut self, act: &Act) -> Led {
        let v5 = self.version.is_v5();
        match act {
            Act::Publish { qos: level, packet_id, topic, alias, retain, dup } => {
                let qos = qos(*level);
                let topic_alias = alias.filter(|_| v5).and_then(NonZeroU16::new);
                let topic = match TOPICS[*topic] {
                    "" if topic_alias.is_none() => "x",
                    topic => topic,
                };
                let message = Publish {
                    dup: *dup && *level > 0,
                    qos,
                    retain: *retain,
                    topic,
                    packet_id: (*level > 0).then(|| id(*packet_id)),
                    properties: PublishProperties { topic_alias, ..<_>::default() },
                    payload: b"p",
                };
                self.packet(Packet::Publish(message))
            }
            Act::Acknowledge { kind, packet_id } => {
                let kinds = [Packet::PubAck, Packet::PubRec, Packet::PubRel, Packet::PubComp];
                self.acknowledge(kinds[*kind], *packet_id)
            }
            Act::Subscribe { filter, qos: level } => {
                self.subscribe(&[(FILTERS[*filter], qos(*level))])
            }
            Act::Ping => self.packet(Packet::PingReq),
            Act::Disconnect(expiry_s) => self.disconnect(expiry_s.filter(|_| v5)),
            Act::Connect => self.connect(&connect(self.version)),
            Act::Bytes(bytes) => match mqtt::frame(bytes, 1000) {
                Ok(Frame::Complete { packet_bytes, .. }) => self.raw(&bytes[..packet_bytes]),
                Ok(Frame::NeedMore(_)) => Led::Done,
                Err(error) => Led::Close(self.session.bad_frame(error, &mut self.out)),
            },
            Act::Confirm { qos: level, packet_id } => {
                self.session.confirmed(id(*packet_id), qos(*level), &mut self.out);
                Led::Done
            }
            Act::Drop { .. } => Led::Done,
            Act::Deliver { qos: level, payload_bytes } => {
                let payload = vec![b'd'; *payload_bytes];
                self.deliver("t", &payload, qos(*level));
                Led::Done
            }
        }
    }
}

proptest! {
    #[test]
    fn any_packets_in_any_order_are_answered_in_well_formed_ones(
        version in 0..3usize,
        acts in acts(),
        resumes: bool,
    ) {
        let version = VERSIONS[version];
        let mut client = Client::new(version);
        let properties = ConnectProperties {
            receive_max: NonZeroU16::new(3).filter(|_| version.is_v5()),
            packet_bytes_max: NonZeroU32::new(250).filter(|_| version.is_v5()),
            topic_alias_max: version.is_v5().then_some(1),
            ..<_>::default()
        };
        client.connect(&Connect { properties, clean_start: !resumes, ..connect(version) });
        client.accept(resumes.then(Saved::default));
        let mut said = client.said();
        let mut owed = 0;
        for act in &acts {
            let led = match act {
                Act::Drop { qos: level, packet_id } => {
                    // As the shell does it: only for what was just published.
                    let publish = Act::Publish {
                        qos: *level, packet_id: *packet_id, topic: 1, alias: None,
                        retain: false, dup: false,
                    };
                    let led = client.act(&publish);
                    if matches!(led, Led::Publish { .. }) {
                        let code = ReasonCode::TopicNameInvalid;
                        let waits = client.session
                            .dropped(id(*packet_id), qos(*level), code, &mut client.out);
                        if waits {
                            client.session
                                .confirmed(id(*packet_id), qos(*level), &mut client.out);
                        }
                    }
                    led
                }
                act => client.act(act),
            };
            let news = client.said();
            for (packet_type, packet_id, _) in &news {
                match packet_type {
                    PacketType::Publish if *packet_id > 0 => owed += 1,
                    PacketType::ConnAck => prop_assert!(false, "a second CONNACK"),
                    _ => {}
                }
            }
            let ends = matches!(led, Led::Close(_));
            let goodbyes = news.iter().filter(|said| said.0 == PacketType::Disconnect).count();
            prop_assert!(goodbyes == 0 || (ends && version.is_v5()));
            said.extend(news);
            if ends {
                break;
            }
        }
        prop_assert_eq!(said[0].0, PacketType::ConnAck);
        let last = said.len() - 1;
        let early = said[..last].iter().any(|said| said.0 == PacketType::Disconnect);
        prop_assert!(!early, "something follows DISCONNECT");
        let acknowledged = acts.iter().filter(|act| matches!(act, Act::Acknowledge { .. })).count();
        prop_assert!(!version.is_v5() || owed <= 3 + acknowledged, "over the receive maximum");
        // What is saved holds nothing of what was not acknowledged, and can be resumed.
        let saved = client.session.into_saved();
        prop_assert_eq!(saved.inbound.unconfirmed(), 0);
        let mut again = Client::new(version);
        again.connect(&Connect { clean_start: false, ..connect(version) });
        again.accept(Some(saved));
        prop_assert_eq!(again.said()[0].0, PacketType::ConnAck);
    }
}
