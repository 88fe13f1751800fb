//! Random valid packets.

use core::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use ringgate::codec::mqtt::*;

/// A bounded number of cases; what fails is printed and needs no file.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Keeps a value to the end of the process, so that packets can borrow from it. The tests make a
/// bounded number of small packets.
fn keep<T: Into<Box<U>>, U: ?Sized + 'static>(value: T) -> &'static U {
    Box::leak(value.into())
}

fn text() -> impl Strategy<Value = &'static str> {
    let long = any::<u8>().prop_map(|count| "x".repeat(usize::from(count)));
    prop_oneof![8 => "[a-z0-9 +#$/é漢🦀\u{1}-\u{1F}]{0,12}", 1 => long].prop_map(keep)
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![8 => vec(any::<u8>(), 0..12), 1 => vec(any::<u8>(), 100..300)].prop_map(keep)
}

fn topic_name() -> impl Strategy<Value = &'static str> {
    prop_oneof!["[a-zé$/ ]{1,12}", "kp1/[a-z]{1,9}/dcx/[a-z0-9]{1,40}/json/[0-9]{1,5}"]
        .prop_map(keep)
}

fn topic_filter(version: Version) -> impl Strategy<Value = &'static str> {
    let level = prop_oneof![3 => "[a-zé$ ]{0,4}", 1 => Just("+".to_owned())];
    (vec(level, 1..4), any::<bool>(), any::<bool>()).prop_map(move |(levels, hash, shared)| {
        let mut filter = levels.join("/");
        if hash || filter.is_empty() {
            filter = if filter.is_empty() { "#".to_owned() } else { filter + "/#" };
        }
        let shared = shared && version.is_v5();
        keep(if shared { format!("$share/group/{filter}") } else { filter })
    })
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>()
}

fn subscription_id() -> impl Strategy<Value = SubscriptionId> {
    (1..=VARIABLE_INTEGER_MAX)
        .prop_map(|value| SubscriptionId::new(value).expect("the range is that of the identifiers"))
}

fn user() -> impl Strategy<Value = UserProperties<'static>> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec((text(), text()), 1..4)].prop_map(|pairs| {
        let mut section = Vec::new();
        for (name, value) in pairs {
            append_user_property(&mut section, name, value).expect("short enough");
        }
        UserProperties::new(keep(section)).expect("valid")
    })
}

fn subscription_ids() -> impl Strategy<Value = SubscriptionIds<'static>> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec(subscription_id(), 1..4)].prop_map(|ids| {
        let mut section = Vec::new();
        ids.into_iter().for_each(|id| append_subscription_id(&mut section, id));
        SubscriptionIds::new(keep(section)).expect("valid")
    })
}

/// The code of a packet, among those that it may carry.
fn reason(packet: PacketType) -> impl Strategy<Value = ReasonCode> {
    let allowed: Vec<_> =
        ReasonCode::ALL.iter().copied().filter(|code| code.is_allowed_in(packet)).collect();
    proptest::sample::select(allowed)
}

prop_compose! {
    fn connect_properties()(
        session_expiry_interval_s in of(any::<u32>()),
        receive_max in of(any::<NonZeroU16>()),
        packet_bytes_max in of(any::<NonZeroU32>()),
        topic_alias_max in of(any::<u16>()),
        request_response_information in of(any::<bool>()),
        request_problem_information in of(any::<bool>()),
        authentication in of((text(), of(bytes()))),
        user in user(),
    ) -> ConnectProperties<'static> {
        ConnectProperties {
            session_expiry_interval_s,
            receive_max,
            packet_bytes_max,
            topic_alias_max,
            request_response_information,
            request_problem_information,
            authentication_method: authentication.map(|(method, _)| method),
            authentication_data: authentication.and_then(|(_, data)| data),
            user,
        }
    }
}

prop_compose! {
    fn will_properties()(
        delay_interval_s in of(any::<u32>()),
        payload_format_indicator in of(any::<bool>()),
        message_expiry_interval_s in of(any::<u32>()),
        content_type in of(text()),
        response_topic in of(topic_name()),
        correlation_data in of(bytes()),
        user in user(),
    ) -> WillProperties<'static> {
        WillProperties {
            delay_interval_s,
            payload_format_indicator,
            message_expiry_interval_s,
            content_type,
            response_topic,
            correlation_data,
            user,
        }
    }
}

prop_compose! {
    fn will(version: Version)(
        qos in qos(),
        retain in any::<bool>(),
        topic in topic_name(),
        payload in bytes(),
        properties in will_properties(),
    ) -> Will<'static> {
        let properties = if version.is_v5() { properties } else { <_>::default() };
        Will { qos, retain, topic, payload, properties }
    }
}

prop_compose! {
    fn connect(version: Version)(
        clean_start in any::<bool>(),
        keep_alive_s in any::<u16>(),
        client_id in text(),
        will in of(will(version)),
        user_name in of(text()),
        password in of(bytes()),
        properties in connect_properties(),
    ) -> Packet<'static> {
        Packet::Connect(Connect {
            version,
            clean_start,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password: password.filter(|_| version.is_v5() || user_name.is_some()),
            properties: if version.is_v5() { properties } else { <_>::default() },
        })
    }
}

prop_compose! {
    fn connack_limits()(
        session_expiry_interval_s in of(any::<u32>()),
        receive_max in of(any::<NonZeroU16>()),
        qos_max in of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        retain_available in of(any::<bool>()),
        packet_bytes_max in of(any::<NonZeroU32>()),
        topic_alias_max in of(any::<u16>()),
        wildcard_subscription_available in of(any::<bool>()),
        subscription_ids_available in of(any::<bool>()),
        shared_subscription_available in of(any::<bool>()),
        server_keep_alive_s in of(any::<u16>()),
    ) -> ConnAckProperties<'static> {
        ConnAckProperties {
            session_expiry_interval_s,
            receive_max,
            qos_max,
            retain_available,
            packet_bytes_max,
            topic_alias_max,
            wildcard_subscription_available,
            subscription_ids_available,
            shared_subscription_available,
            server_keep_alive_s,
            ..<_>::default()
        }
    }
}

prop_compose! {
    fn connack(version: Version)(
        reason in reason(PacketType::ConnAck),
        session_present in any::<bool>(),
        limits in connack_limits(),
        assigned_client_id in of(text()),
        reason_string in of(text()),
        response_information in of(text()),
        server_reference in of(text()),
        authentication_method in of(text()),
        authentication_data in of(bytes()),
        user in user(),
    ) -> Packet<'static> {
        let properties = ConnAckProperties {
            assigned_client_id,
            reason_string,
            response_information,
            server_reference,
            authentication_method,
            authentication_data,
            user,
            ..limits
        };
        Packet::ConnAck(ConnAck {
            session_present: session_present && !reason.is_error() && version != Version::V31,
            // a reason that an older version has no word for comes back as the nearest it has
            reason: if version.is_v5() { reason } else { reason.v3_return_code().reason_code() },
            properties: if version.is_v5() { properties } else { <_>::default() },
        })
    }
}

prop_compose! {
    fn publish_properties()(
        payload_format_indicator in of(any::<bool>()),
        message_expiry_interval_s in of(any::<u32>()),
        topic_alias in of(any::<NonZeroU16>()),
        response_topic in of(topic_name()),
        correlation_data in of(bytes()),
        content_type in of(text()),
        subscription_ids in subscription_ids(),
        user in user(),
    ) -> PublishProperties<'static> {
        PublishProperties {
            payload_format_indicator,
            message_expiry_interval_s,
            topic_alias,
            response_topic,
            correlation_data,
            content_type,
            subscription_ids,
            user,
        }
    }
}

prop_compose! {
    fn publish(version: Version)(
        dup in any::<bool>(),
        qos in qos(),
        retain in any::<bool>(),
        topic in topic_name(),
        by_alias in any::<bool>(),
        packet_id in packet_id(),
        properties in prop_oneof![Just(PublishProperties::default()), publish_properties()],
        payload in prop_oneof![8 => bytes(), 1 => vec(any::<u8>(), 16_300..16_500).prop_map(keep)],
    ) -> Packet<'static> {
        let properties = if version.is_v5() { properties } else { <_>::default() };
        Packet::Publish(Publish {
            dup: dup && qos > QoS::AtMostOnce,
            qos,
            retain,
            topic: if by_alias && properties.topic_alias.is_some() { "" } else { topic },
            packet_id: (qos > QoS::AtMostOnce).then_some(packet_id),
            properties,
            payload,
        })
    }
}

fn ack_properties(version: Version) -> impl Strategy<Value = AckProperties<'static>> {
    (of(text()), user()).prop_map(move |(reason_string, user)| match version {
        Version::V5 => AckProperties { reason_string, user },
        _ => <_>::default(),
    })
}

fn ack(
    version: Version,
    kind: AckKind,
    packet: fn(Ack<'static>) -> Packet<'static>,
) -> impl Strategy<Value = Packet<'static>> {
    (packet_id(), reason(kind.packet_type()), ack_properties(version)).prop_map(
        move |(packet_id, reason, properties)| {
            let reason = if version.is_v5() { reason } else { ReasonCode::Success };
            packet(Ack { packet_id, reason, properties })
        },
    )
}

fn subscription(version: Version) -> impl Strategy<Value = Subscription<'static>> {
    let handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    let options = (qos(), any::<bool>(), any::<bool>(), handling);
    (topic_filter(version), options).prop_map(
        move |(filter, (qos_max, no_local, retain_as_published, retain_handling))| {
            let options = match version {
                Version::V5 => SubscriptionOptions {
                    qos_max,
                    no_local: no_local && shared_filter(filter).is_none(),
                    retain_as_published,
                    retain_handling,
                },
                _ => SubscriptionOptions { qos_max, ..<_>::default() },
            };
            Subscription { filter, options }
        },
    )
}

prop_compose! {
    fn subscribe(version: Version)(
        packet_id in packet_id(),
        subscription_id in of(subscription_id()),
        user in user(),
        subscriptions in vec(subscription(version), 1..5),
    ) -> Packet<'static> {
        let mut payload = Vec::new();
        for subscription in subscriptions {
            subscription.append(version, &mut payload).expect("short enough");
        }
        Packet::Subscribe(Subscribe {
            packet_id,
            properties: match version {
                Version::V5 => SubscribeProperties { subscription_id, user },
                _ => <_>::default(),
            },
            subscriptions: Subscriptions::new(keep(payload), version).expect("valid"),
        })
    }
}

prop_compose! {
    fn unsubscribe(version: Version)(
        packet_id in packet_id(),
        user in user(),
        filters in vec(topic_filter(version), 1..5),
    ) -> Packet<'static> {
        let mut payload = Vec::new();
        for filter in filters {
            append_filter(filter, &mut payload).expect("short enough");
        }
        Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: match version {
                Version::V5 => UnsubscribeProperties { user },
                _ => <_>::default(),
            },
            filters: Filters::new(keep(payload), version).expect("valid"),
        })
    }
}

prop_compose! {
    fn suback(version: Version)(
        packet_id in packet_id(),
        properties in ack_properties(version),
        reasons in vec(reason(PacketType::SubAck), 1..5),
    ) -> Packet<'static> {
        let v3 = |code: ReasonCode| if code.is_error() { 0x80 } else { code as u8 };
        let byte = |code| if version.is_v5() { code as u8 } else { v3(code) };
        let payload: Vec<u8> = reasons.into_iter().map(byte).collect();
        let reasons = ReasonCodes::new(keep(payload), PacketType::SubAck, version).expect("valid");
        Packet::SubAck(SubAck { packet_id, properties, reasons })
    }
}

prop_compose! {
    fn unsuback(version: Version)(
        packet_id in packet_id(),
        properties in ack_properties(version),
        reasons in vec(reason(PacketType::UnsubAck), 1..5),
    ) -> Packet<'static> {
        let payload: Vec<u8> = match version {
            Version::V5 => reasons.into_iter().map(|code| code as u8).collect(),
            _ => Vec::new(),
        };
        let reasons = ReasonCodes::new(keep(payload), PacketType::UnsubAck, version);
        let reasons = reasons.expect("valid");
        Packet::UnsubAck(UnsubAck { packet_id, properties, reasons })
    }
}

prop_compose! {
    fn disconnect(version: Version)(
        reason in reason(PacketType::Disconnect),
        session_expiry_interval_s in of(any::<u32>()),
        reason_string in of(text()),
        server_reference in of(text()),
        user in user(),
    ) -> Packet<'static> {
        Packet::Disconnect(match version {
            Version::V5 => Disconnect {
                reason,
                properties: DisconnectProperties {
                    session_expiry_interval_s,
                    reason_string,
                    server_reference,
                    user,
                },
            },
            _ => Disconnect::default(),
        })
    }
}

prop_compose! {
    fn auth()(
        reason in reason(PacketType::Auth),
        authentication_method in text(),
        authentication_data in of(bytes()),
        reason_string in of(text()),
        user in user(),
    ) -> Packet<'static> {
        Packet::Auth(Auth {
            reason,
            properties: AuthProperties {
                authentication_method: Some(authentication_method),
                authentication_data,
                reason_string,
                user,
            },
        })
    }
}

/// Any packet that the version knows.
pub fn packet(version: Version) -> BoxedStrategy<Packet<'static>> {
    let common = prop_oneof![
        2 => connect(version),
        2 => connack(version),
        4 => publish(version),
        1 => ack(version, AckKind::PubAck, Packet::PubAck),
        1 => ack(version, AckKind::PubRec, Packet::PubRec),
        1 => ack(version, AckKind::PubRel, Packet::PubRel),
        1 => ack(version, AckKind::PubComp, Packet::PubComp),
        2 => subscribe(version),
        1 => suback(version),
        1 => unsubscribe(version),
        1 => unsuback(version),
        1 => prop_oneof![Just(Packet::PingReq), Just(Packet::PingResp)],
        1 => disconnect(version),
    ];
    match version {
        Version::V5 => prop_oneof![16 => common, 1 => auth()].boxed(),
        _ => common.boxed(),
    }
}

/// Any packet of any version.
pub fn versioned_packet() -> impl Strategy<Value = (Version, Packet<'static>)> {
    proptest::sample::select(&VERSIONS[..])
        .prop_flat_map(|version| packet(version).prop_map(move |packet| (version, packet)))
}

/// The packet as bytes.
pub fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out).expect("valid packets can be written");
    out
}
