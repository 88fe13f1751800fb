//! Publications of the client, and its DISCONNECT.

use super::*;

#[test]
fn v5_is_held_to_its_receive_maximum_until_each_exchange_has_ended() {
    let mut client = Client::entered(Version::V5);
    assert!(matches!(client.publish(QoS::AtLeastOnce, 1), Led::Publish { .. }));
    assert!(matches!(client.publish(QoS::ExactlyOnce, 2), Led::Publish { .. }));
    assert!(client.session.confirmed(id(1), QoS::AtLeastOnce, &mut client.out));
    assert!(matches!(client.publish(QoS::AtLeastOnce, 1), Led::Publish { .. }), "one ended");
    assert!(client.session.confirmed(id(1), QoS::AtLeastOnce, &mut client.out));
    assert!(client.session.confirmed(id(2), QoS::ExactlyOnce, &mut client.out));
    assert!(matches!(client.publish(QoS::AtLeastOnce, 3), Led::Publish { .. }));
    assert_eq!(client.publish(QoS::ExactlyOnce, 2), Led::Done, "it is known");
    client.out.clear();
    let led = client.publish(QoS::AtLeastOnce, 2);
    assert_eq!(led, Led::Close(CloseReason::ReceiveMaximumExceeded), "QoS 2 awaits its PUBREL");
    assert_eq!(client.said(), goodbye(ReasonCode::ReceiveMaximumExceeded));
}

#[test]
fn earlier_versions_are_not_read_from_while_their_window_is_full() {
    let mut client = Client::entered(Version::V311);
    for packet_id in 1..=2 {
        assert!(!client.session.window_is_full(&client.policy));
        client.publish(QoS::AtLeastOnce, packet_id);
    }
    assert!(client.session.window_is_full(&client.policy));
    client.session.confirmed(id(1), QoS::AtLeastOnce, &mut client.out);
    assert!(!client.session.window_is_full(&client.policy));
}

#[test]
fn a_topic_alias_stands_for_the_topic_it_was_last_given_with() {
    let publish =
        |topic: &str| Led::Publish { topic: topic.to_owned(), qos: QoS::AtMostOnce, retain: false };
    let mut client = Client::entered(Version::V5);
    assert_eq!(client.publish_alias("a", 2), publish("a"));
    assert_eq!(client.publish_alias("", 2), publish("a"));
    assert_eq!(client.publish_alias("b", 2), publish("b"));
    assert_eq!(client.publish_alias("", 2), publish("b"));
    assert_eq!(client.publish_alias("", 1), Led::Close(CloseReason::ProtocolError));
    assert_eq!(client.said(), goodbye(ReasonCode::ProtocolError), "never set up");
}

#[test]
fn a_topic_alias_out_of_range_is_an_error_of_its_own() {
    let mut client = Client::entered(Version::V5);
    assert_eq!(client.publish_alias("a", 3), Led::Close(CloseReason::ProtocolError));
    assert_eq!(client.said(), goodbye(ReasonCode::TopicAliasInvalid));
    let mut client = Client::entered(Version::V5);
    let zero = b"\x30\x07\0\x01a\x03\x23\0\0";
    assert!(matches!(client.raw(zero), Led::Close(_)));
    assert_eq!(client.said(), goodbye(ReasonCode::TopicAliasInvalid));
}

#[test]
fn retain_is_ignored_before_v5_which_was_told_that_there_is_none() {
    for version in VERSIONS {
        let mut client = Client::entered(version);
        let message = Publish { retain: true, ..publication(QoS::AtMostOnce, 0) };
        let led = client.packet(Packet::Publish(message));
        if version.is_v5() {
            assert_eq!(led, Led::Close(CloseReason::ProtocolError));
            assert_eq!(client.said(), goodbye(ReasonCode::RetainNotSupported));
        } else {
            assert!(matches!(led, Led::Publish { retain: true, .. }));
        }
    }
}

#[test]
fn a_subscription_identifier_in_a_publish_of_a_client_is_a_protocol_error() {
    let mut client = Client::entered(Version::V5);
    assert_eq!(client.raw(b"\x30\x06\0\x01a\x02\x0B\x01"), Led::Close(CloseReason::ProtocolError));
    assert_eq!(client.said(), goodbye(ReasonCode::ProtocolError));
}

#[test]
fn qos_2_is_handed_on_once_and_ends_with_pubcomp() {
    for version in VERSIONS {
        let mut client = Client::entered(version);
        assert!(matches!(client.publish(QoS::ExactlyOnce, 5), Led::Publish { .. }));
        assert_eq!(client.publish(QoS::ExactlyOnce, 5), Led::Done);
        client.session.confirmed(id(5), QoS::ExactlyOnce, &mut client.out);
        assert_eq!(client.publish(QoS::ExactlyOnce, 5), Led::Done);
        assert_eq!(client.acknowledge(Packet::PubRel, 5), Led::Done);
        assert_eq!(client.acknowledge(Packet::PubRel, 5), Led::Done);
        let not_found = match version.is_v5() {
            true => ReasonCode::PacketIdentifierNotFound as u8,
            false => 0,
        };
        assert_eq!(
            client.said(),
            [
                (PacketType::PubRec, 5, vec![0]),
                (PacketType::PubRec, 5, vec![0]),
                (PacketType::PubComp, 5, vec![0]),
                (PacketType::PubComp, 5, vec![not_found]),
            ]
        );
    }
}

#[test]
fn what_is_dropped_is_acknowledged_after_what_came_before_it() {
    for version in VERSIONS {
        let mut client = Client::entered(version);
        client.publish(QoS::AtLeastOnce, 1);
        client.publish(QoS::AtLeastOnce, 2);
        let reason = ReasonCode::TopicNameInvalid;
        let waits = client.session.dropped(id(2), QoS::AtLeastOnce, reason, &mut client.out);
        assert!(waits && client.out.is_empty());
        for packet_id in 1..=2 {
            client.session.confirmed(id(packet_id), QoS::AtLeastOnce, &mut client.out);
        }
        client.publish(QoS::AtLeastOnce, 3);
        assert!(!client.session.dropped(id(3), QoS::AtLeastOnce, reason, &mut client.out));
        let code = if version.is_v5() { reason as u8 } else { 0 };
        assert_eq!(
            client.said(),
            [
                (PacketType::PubAck, 1, vec![0]),
                (PacketType::PubAck, 2, vec![code]),
                (PacketType::PubAck, 3, vec![code]),
            ]
        );
    }
}

#[test]
fn a_malformed_packet_is_named_to_v5_and_ends_the_others_in_silence() {
    for version in VERSIONS {
        let mut client = Client::entered(version);
        let led = client.raw(b"\x30\x03\0\x01+");
        assert_eq!(led, Led::Close(CloseReason::MalformedPacket));
        let told = if version.is_v5() { goodbye(ReasonCode::TopicNameInvalid) } else { Vec::new() };
        assert_eq!(client.said(), told);
    }
}

#[test]
fn v5_may_shorten_or_prolong_its_session_with_disconnect_but_not_begin_one() {
    for (asked, last, expiry_s) in
        [(9, None, 9), (9, Some(0), 0), (9, Some(50), 50), (9, Some(u32::MAX), 3600)]
    {
        let properties =
            ConnectProperties { session_expiry_interval_s: Some(asked), ..<_>::default() };
        let mut client = Client::with(Connect { properties, ..connect(Version::V5) });
        assert_eq!(client.disconnect(last), Led::Close(CloseReason::ClientDisconnect));
        assert_eq!(client.session.expiry_s(), expiry_s);
        assert!(client.said().is_empty());
    }
    let mut client = Client::entered(Version::V5);
    assert_eq!(client.disconnect(Some(1)), Led::Close(CloseReason::ProtocolError));
    assert_eq!(client.said(), goodbye(ReasonCode::ProtocolError));
    let mut client = Client::entered(Version::V5);
    assert_eq!(client.disconnect(Some(0)), Led::Close(CloseReason::ClientDisconnect));
}
