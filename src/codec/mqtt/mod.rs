//! MQTT 3.1, 3.1.1 and 5.0 packets, both ways.
//!
//! Reading takes two steps. [`frame`] looks at the first bytes of a stream and says how long the
//! packet is, how many bytes are still missing, or that it must be refused: before its body has
//! arrived. [`decode`] then turns exactly one whole packet into a [`Packet`] that borrows from it;
//! the first packet of a connection goes through [`decode_connect`], because it names the version
//! that all later ones are read with. Nothing is allocated, and whatever a decoded packet shows has
//! been checked: lists (subscriptions, reason codes, user properties) are read lazily from bytes
//! that are known to be well-formed.
//!
//! Writing appends to a `Vec<u8>`: each packet has an `encode`, and the answers of the hot path
//! have small functions of their own ([`encode_ack`], [`encode_publish`], [`encode_pingresp`]).
//!
//! What depends on more than the packet itself is not judged here: the direction a packet may
//! travel in, whether a topic alias is in range, whether a client identifier may be empty.
//!
//! Clauses are named as the OASIS standards name them; `MQTT-x.y.z-n` is of version 5.0 unless said
//! otherwise.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod frame;
mod malformed;
mod packet;
mod property;
mod publish;
mod reader;
mod reason;
mod suback;
mod subscribe;
mod topic;
mod types;
mod unsubscribe;
mod writer;

pub use ack::{Ack, AckKind, AckProperties, encode_ack};
pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectError, ConnectProperties, Will, WillProperties, decode_connect};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use frame::{FixedHeader, Frame, FrameError, PacketType, frame};
pub use malformed::Malformed;
pub use packet::{Packet, decode, encode_pingreq, encode_pingresp};
pub use property::{
    SubscriptionId, SubscriptionIds, SubscriptionIdsIter, UserProperties, UserPropertiesIter,
    append_subscription_id, append_user_property,
};
pub use publish::{Publish, PublishHead, PublishProperties, decode_publish, encode_publish};
pub use reason::{ConnectReturnCode, ReasonCode};
pub use suback::{ReasonCodes, ReasonCodesIter, SubAck, UnsubAck, encode_suback, encode_unsuback};
pub use subscribe::{
    RetainHandling, Subscribe, SubscribeProperties, Subscription, SubscriptionOptions,
    Subscriptions, SubscriptionsIter,
};
pub use topic::{SharedFilter, check_topic_filter, check_topic_name, shared_filter};
pub use types::{PacketId, QoS, Version};
pub use unsubscribe::{Filters, FiltersIter, Unsubscribe, UnsubscribeProperties, append_filter};
pub use writer::EncodeError;

/// The largest value of a variable byte integer, and so of a remaining length: 268,435,455
/// (MQTT §1.5.5).
pub const VARIABLE_INTEGER_MAX: u32 = 0x0FFF_FFFF;
