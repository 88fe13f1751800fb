//! What a simulated gateway is configured to be.

use super::device;
use super::random::Random;
use super::world::EXPIRY_S_MAX;
use crate::auth::Provider;
use crate::codec::avro::ConfigName;
use crate::codec::mqtt::QoS;
use crate::config::{Qos0WhenFull, WhenUnavailable};
use crate::session::Policy;
use crate::session::catalogue::{Catalogue, Extension};
use crate::shard::settings::ShardSettings;

pub(super) fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (name, endpoint_aware, push_qos) in
        [("dcx", true, None), ("cmx", true, Some(QoS::AtLeastOnce)), ("tsx", false, None)]
    {
        catalogue.add_extension(Extension { name: name.into(), endpoint_aware, push_qos });
    }
    catalogue.add_version("v1", None);
    catalogue
}

pub(super) fn settings(random: &mut Random, refuses: bool) -> ShardSettings {
    let policy = Policy {
        packet_bytes_max: 4096,
        receive_maximum: device::RECEIVE_MAXIMUM,
        topic_alias_maximum: device::ALIAS_MAXIMUM,
        session_expiry_s_max: EXPIRY_S_MAX,
        outbound_messages_max: random.pick(&[4, 100]),
        outbound_bytes_max: random.pick(&[1500, 100_000]),
        ..Policy::default()
    };
    ShardSettings {
        replica: String::new(),
        core: None,
        connections_max: 1000,
        connect_timeout_ms: 5000,
        policy,
        provider: Provider::Trustful,
        config_name: ConfigName::Omit,
        client_data_timeout_ms: 0,
        when_unavailable: if refuses { WhenUnavailable::Refuse } else { WhenUnavailable::Wait },
        qos0_when_full: random.pick(&[Qos0WhenFull::Wait, Qos0WhenFull::Drop]),
        read_buffer_count: 0,
        read_buffer_bytes: 0,
        drain_ms_max: 10_000,
        #[cfg(debug_assertions)]
        fault_topic: None,
    }
}
