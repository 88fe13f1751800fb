//! CONNECT and CONNACK.

use super::*;

#[test]
fn client_ids_are_judged_by_the_rules_of_each_version() {
    let long = "x".repeat(257);
    let nameless = Led::Connect(Hello {
        client_id: ClientId::Nameless,
        clean_start: true,
        has_will: false,
        login: None,
    });
    let assigned = |clean_start| {
        Led::Connect(Hello {
            client_id: ClientId::Assign,
            clean_start,
            has_will: false,
            login: None,
        })
    };
    let refused = Led::Close(CloseReason::BadClientId);
    for (version, client_id, clean_start, expected) in [
        (Version::V31, "", true, &refused),
        (Version::V311, "", true, &nameless),
        (Version::V311, "", false, &refused),
        (Version::V5, "", true, &assigned(true)),
        (Version::V5, "", false, &assigned(false)),
        (Version::V31, &long[..], true, &refused),
        (Version::V311, &long, true, &refused),
        (Version::V5, &long, true, &refused),
    ] {
        let mut client = Client::new(version);
        let led = client.connect(&Connect { client_id, clean_start, ..connect(version) });
        assert_eq!(&led, expected, "{version:?} {client_id:?}");
        if led == refused {
            let code = ReasonCode::ClientIdentifierNotValid as u8;
            assert_eq!(client.said(), [(PacketType::ConnAck, 0, vec![0, code])]);
        }
    }
    // 24 to 256 bytes: more than 3.1 demands of a server, and no reason to refuse.
    let name = "x".repeat(256);
    let led =
        Client::new(Version::V31).connect(&Connect { client_id: &name, ..connect(Version::V31) });
    assert!(matches!(led, Led::Connect(_)));
}

#[test]
fn wills_are_accepted_but_not_one_that_is_to_be_retained_by_v5() {
    for version in VERSIONS {
        for retain in [false, true] {
            let (qos, properties) = (QoS::AtLeastOnce, WillProperties::default());
            let will = Some(Will { qos, retain, topic: "gone", payload: b"x", properties });
            let mut client = Client::new(version);
            let led = client.connect(&Connect { will, ..connect(version) });
            if version.is_v5() && retain {
                assert_eq!(led, Led::Close(CloseReason::ProtocolError));
                let code = ReasonCode::RetainNotSupported as u8;
                assert_eq!(client.said(), [(PacketType::ConnAck, 0, vec![0, code])]);
            } else {
                assert!(matches!(led, Led::Connect(Hello { has_will: true, .. })));
            }
        }
    }
}

#[test]
fn the_keep_alive_is_bounded_for_those_who_can_be_told() {
    for (asked, max, granted) in [(0, 0, 0), (90, 0, 90), (90, 60, 60), (0, 60, 60), (9, 60, 9)] {
        let mut client = Client::new(Version::V5);
        client.policy.keep_alive_s_max = max;
        client.connect(&Connect { keep_alive_s: asked, ..connect(Version::V5) });
        client.accept(None);
        assert_eq!(client.capabilities().1, (max > 0).then_some(granted));
        let silence_ms = (granted > 0).then(|| u64::from(granted) * 1500);
        assert_eq!(client.session.silence_ms_max(), silence_ms);

        let mut client = Client::new(Version::V311);
        client.policy.keep_alive_s_max = max;
        client.connect(&Connect { keep_alive_s: asked, ..connect(Version::V311) });
        client.accept(None);
        let silence_ms = (asked > 0).then(|| u64::from(asked) * 1500);
        assert_eq!(client.session.silence_ms_max(), silence_ms, "it keeps to what it said");
    }
}

#[test]
fn a_session_outlives_its_connection_for_as_long_as_was_asked_and_is_allowed() {
    for (asked, granted) in [(None, 0), (Some(0), 0), (Some(9), 9), (Some(u32::MAX), 3600)] {
        let mut client = Client::new(Version::V5);
        let properties = ConnectProperties { session_expiry_interval_s: asked, ..<_>::default() };
        client.connect(&Connect { properties, ..connect(Version::V5) });
        client.accept(None);
        assert_eq!(client.capabilities().0, Some(granted));
        assert_eq!(client.session.expiry_s(), granted);
    }
    for version in [Version::V31, Version::V311] {
        for (clean_start, granted) in [(true, 0), (false, 3600)] {
            let client = Client::with(Connect { clean_start, ..connect(version) });
            assert_eq!(client.session.expiry_s(), granted);
        }
    }
}

#[test]
fn session_present_is_told_to_those_who_know_of_it() {
    for (version, present) in [(Version::V31, 0), (Version::V311, 1), (Version::V5, 1)] {
        let mut client = Client::new(version);
        client.connect(&Connect { clean_start: false, ..connect(version) });
        client.accept(Some(Saved::default()));
        assert_eq!(client.said(), [(PacketType::ConnAck, 0, vec![present, 0])]);
    }
}

#[test]
fn an_unknown_level_is_refused_in_the_words_of_the_nearest_version() {
    for (level, connack) in [(2, &b"\x20\x02\0\x01"[..]), (6, b"\x20\x03\0\x84\0")] {
        let mut client = Client::new(Version::V311);
        let packet = [&b"\x10\x0D\0\x04MQTT"[..], &[level], b"\x02\0\0\0\x01c"].concat();
        assert_eq!(client.raw(&packet), Led::Close(CloseReason::UnsupportedVersion));
        assert_eq!(client.out, connack);
    }
    let mut client = Client::new(Version::V311);
    let packet = b"\x10\x0D\0\x04HTTP\x04\x02\0\0\0\x01c";
    assert_eq!(client.raw(packet), Led::Close(CloseReason::WrongProtocolName));
    assert!(client.out.is_empty());
}

#[test]
fn anything_before_connect_ends_in_silence_and_a_second_connect_with_a_reason() {
    let mut client = Client::new(Version::V5);
    assert_eq!(client.packet(Packet::PingReq), Led::Close(CloseReason::ProtocolError));
    assert!(client.out.is_empty());

    for version in VERSIONS {
        let mut client = Client::entered(version);
        assert_eq!(client.connect(&connect(version)), Led::Close(CloseReason::ProtocolError));
        let told = if version.is_v5() { goodbye(ReasonCode::ProtocolError) } else { Vec::new() };
        assert_eq!(client.said(), told);
    }
}

#[test]
fn extended_authentication_is_refused() {
    let mut client = Client::new(Version::V5);
    let properties = ConnectProperties { authentication_method: Some("GS2"), ..<_>::default() };
    let led = client.connect(&Connect { properties, ..connect(Version::V5) });
    assert_eq!(led, Led::Close(CloseReason::NotAuthorized));
    let code = ReasonCode::BadAuthenticationMethod as u8;
    assert_eq!(client.said(), [(PacketType::ConnAck, 0, vec![0, code])]);

    let mut client = Client::entered(Version::V5);
    let led = client.packet(Packet::Auth(Auth::default()));
    assert_eq!(led, Led::Close(CloseReason::ProtocolError));
    assert_eq!(client.said(), goodbye(ReasonCode::ProtocolError));
}
