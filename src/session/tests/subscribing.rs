//! SUBSCRIBE and UNSUBSCRIBE.

use super::*;

#[test]
fn suback_has_a_code_for_each_filter() {
    for version in VERSIONS {
        let mut client = Client::entered(version);
        client.policy.subscriptions_max = 2;
        let filters = [
            ("a", QoS::AtMostOnce),
            ("b/#", QoS::ExactlyOnce),
            ("c", QoS::AtLeastOnce),
            ("a", QoS::AtLeastOnce),
        ];
        assert_eq!(client.subscribe(&filters), Led::Done);
        let full = match version.is_v5() {
            true => ReasonCode::QuotaExceeded as u8,
            false => 0x80,
        };
        assert_eq!(client.said(), [(PacketType::SubAck, 9, vec![0, 2, full, 1])]);
    }
}

#[test]
fn shared_subscriptions_are_refused_one_by_one_and_are_mere_names_before_v5() {
    let filters = [("$share/g/a", QoS::AtLeastOnce), ("a", QoS::AtLeastOnce)];
    let mut client = Client::entered(Version::V5);
    client.subscribe(&filters);
    let refused = ReasonCode::SharedSubscriptionsNotSupported as u8;
    assert_eq!(client.said(), [(PacketType::SubAck, 9, vec![refused, 1])]);
    let mut client = Client::entered(Version::V311);
    client.subscribe(&filters);
    assert_eq!(client.said(), [(PacketType::SubAck, 9, vec![1, 1])]);
}

#[test]
fn a_subscription_identifier_ends_the_connection() {
    let mut client = Client::entered(Version::V5);
    let led = client.raw(b"\x82\x09\0\x09\x02\x0B\x01\0\x01a\0");
    assert_eq!(led, Led::Close(CloseReason::ProtocolError));
    assert_eq!(client.said(), goodbye(ReasonCode::SubscriptionIdentifiersNotSupported));
}

#[test]
fn unsuback_comes_always() {
    for version in VERSIONS {
        let mut client = Client::entered(version);
        client.subscribe(&[("a", QoS::AtMostOnce)]);
        client.out.clear();
        let mut bytes = Vec::new();
        for filter in ["a", "never"] {
            append_filter(filter, &mut bytes).expect("short");
        }
        let filters = Filters::new(&bytes, version).expect("valid");
        let properties = <_>::default();
        let led = client.packet(Packet::Unsubscribe(Unsubscribe {
            packet_id: id(4),
            properties,
            filters,
        }));
        assert_eq!(led, Led::Done);
        let codes = if version.is_v5() { vec![0, 0x11] } else { vec![] };
        assert_eq!(client.said(), [(PacketType::UnsubAck, 4, codes)]);
    }
}
