//! Messages for the client.

use super::*;

#[test]
fn the_best_of_all_matching_filters_caps_the_qos_of_one_delivery() {
    for (filters, asked, given) in [
        (&[][..], QoS::AtLeastOnce, QoS::AtLeastOnce),
        (&[("other", QoS::AtMostOnce)], QoS::AtLeastOnce, QoS::AtLeastOnce),
        (&[("t/#", QoS::AtMostOnce)], QoS::ExactlyOnce, QoS::AtMostOnce),
        (
            &[("t/#", QoS::AtMostOnce), ("t/+", QoS::AtLeastOnce), ("#", QoS::AtMostOnce)],
            QoS::ExactlyOnce,
            QoS::AtLeastOnce,
        ),
        (&[("t/#", QoS::ExactlyOnce)], QoS::AtMostOnce, QoS::AtMostOnce),
    ] {
        let mut client = Client::entered(Version::V311);
        if !filters.is_empty() {
            client.subscribe(filters);
            client.out.clear();
        }
        assert_eq!(client.deliver("t/x", b"p", asked), Delivery::Accepted(given));
        let packet_id = u16::from(given != QoS::AtMostOnce);
        let once = [(PacketType::Publish, packet_id, b"p".to_vec())];
        assert_eq!(client.said(), once, "{filters:?}");
    }
}

#[test]
fn the_receive_maximum_of_the_client_is_kept() {
    let properties = ConnectProperties { receive_max: NonZeroU16::new(1), ..<_>::default() };
    let mut client = Client::with(Connect { properties, ..connect(Version::V5) });
    for payload in [b"1", b"2", b"3"] {
        client.deliver("t", payload, QoS::ExactlyOnce);
    }
    client.deliver("t", b"0", QoS::AtMostOnce);
    let said = client.said();
    assert_eq!(said[0], (PacketType::Publish, 1, b"1".to_vec()));
    assert_eq!((said.len(), &said[1].2), (2, &b"0".to_vec()), "QoS 0 need not wait");
    client.acknowledge(Packet::PubRec, 1);
    assert_eq!(client.said(), [(PacketType::PubRel, 1, vec![0])]);
    client.acknowledge(Packet::PubComp, 1);
    assert_eq!(client.said(), [(PacketType::Publish, 2, b"2".to_vec())]);
}

#[test]
fn topic_aliases_are_used_as_far_as_the_client_takes_them() {
    let properties = ConnectProperties { topic_alias_max: Some(1), ..<_>::default() };
    let mut client = Client::with(Connect { properties, ..connect(Version::V5) });
    let mut sizes = Vec::new();
    for topic in ["first/topic", "first/topic", "second/topic", "second/topic"] {
        client.out.clear();
        client.deliver(topic, b"", QoS::AtMostOnce);
        let Ok(Packet::Publish(publish)) = mqtt::decode(&client.out, Version::V5) else {
            panic!("a PUBLISH");
        };
        let alias = publish.properties.topic_alias.map(NonZeroU16::get);
        sizes.push((publish.topic.to_owned(), alias));
    }
    let expected =
        [("first/topic", Some(1)), ("", Some(1)), ("second/topic", None), ("second/topic", None)];
    assert!(sizes.iter().map(|(topic, alias)| (&**topic, *alias)).eq(expected));
}

#[test]
fn a_packet_of_exactly_the_maximum_size_is_sent_and_one_byte_more_is_not() {
    for alias_max in [0, 1] {
        let properties = ConnectProperties {
            packet_bytes_max: NonZeroU32::new(100),
            topic_alias_max: Some(alias_max),
            ..<_>::default()
        };
        let mut client = Client::with(Connect { properties, ..connect(Version::V5) });
        // Two bytes of fixed header, three of topic, one for the length of properties.
        assert_eq!(
            client.deliver("t", &[b'x'; 94], QoS::AtMostOnce),
            Delivery::Accepted(QoS::AtMostOnce)
        );
        assert_eq!(client.out.len(), 100);
        assert_eq!(client.deliver("t", &[b'x'; 95], QoS::AtMostOnce), Delivery::TooLarge);
        assert_eq!(client.deliver("t", &[b'x'; 93], QoS::AtLeastOnce), Delivery::TooLarge);
    }
}

#[test]
fn a_resumed_session_begins_with_what_was_not_finished() {
    let mut client = Client::entered(Version::V311);
    for (payload, qos) in
        [(b"1", QoS::AtLeastOnce), (b"2", QoS::ExactlyOnce), (b"3", QoS::AtLeastOnce)]
    {
        client.deliver("t", payload, qos);
    }
    client.acknowledge(Packet::PubRec, 2);
    client.acknowledge(Packet::PubAck, 3);
    let saved = client.session.into_saved();

    let mut client = Client::new(Version::V311);
    client.connect(&Connect { clean_start: false, ..connect(Version::V311) });
    client.accept(Some(saved));
    assert_eq!(
        client.said(),
        [
            (PacketType::ConnAck, 0, vec![1, 0]),
            (PacketType::Publish, 1, b"1".to_vec()),
            (PacketType::PubRel, 2, vec![0]),
        ]
    );
    client.deliver("t", b"4", QoS::AtLeastOnce);
    assert_eq!(client.said(), [(PacketType::Publish, 4, b"4".to_vec())]);
}

#[test]
fn a_resumed_session_keeps_to_the_packet_size_of_the_new_connection() {
    let mut client = Client::entered(Version::V5);
    client.deliver("t", &[b'x'; 200], QoS::AtLeastOnce);
    client.deliver("t", b"short", QoS::AtLeastOnce);
    let saved = client.session.into_saved();
    let properties = ConnectProperties { packet_bytes_max: NonZeroU32::new(100), ..<_>::default() };
    let mut client = Client::new(Version::V5);
    client.connect(&Connect { clean_start: false, properties, ..connect(Version::V5) });
    client.accept(Some(saved));
    assert_eq!(client.said()[1..], [(PacketType::Publish, 2, b"short".to_vec())]);
}
