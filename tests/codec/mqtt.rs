//! The MQTT codec: what it writes it reads, what it is given never makes it panic, and independent
//! codecs agree with it.

mod against_core;
mod against_mqttbytes;
mod packets;
mod seeds;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringgate::codec::mqtt::*;

use packets::{VERSIONS, config, encoded, versioned_packet};

/// Reads the bytes as a packet of each version. What is read must say the same when it is written
/// and read again.
fn read_in_all_versions(bytes: &[u8]) {
    for version in VERSIONS {
        let Ok(packet) = decode(bytes, version) else {
            continue;
        };
        let version = match packet {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        let again = encoded(&packet, version);
        assert_eq!(decode(&again, version), Ok(packet), "{bytes:02X?}");
        assert!(again.len() <= bytes.len(), "{bytes:02X?} can be said with fewer bytes");
    }
}

/// Frames and reads a stream to its end, or to where it is refused.
fn read_stream(mut stream: &[u8]) {
    while let Ok(Frame::Complete { header, packet_bytes }) = frame(stream, u32::MAX) {
        let (packet, rest) = stream.split_at(packet_bytes);
        read_in_all_versions(packet);
        assert_eq!(header, FixedHeader::new(packet[0]).expect("has been framed"));
        stream = rest;
    }
}

/// Puts a remaining length that fits before the body.
fn reframed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let more = if rest > 0x7F { 0x80 } else { 0 };
        packet.push((rest & 0x7F) as u8 | more);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// Where the body of a whole packet begins.
fn body_start(packet: &[u8]) -> usize {
    1 + packet[1..].iter().position(|byte| *byte < 0x80).expect("is framed") + 1
}

#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    CutOff(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // small numbers are what lengths, flags and identifiers are made of
    let byte = || prop_oneof![any::<u8>(), 0..0x30u8];
    prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        2 => (any::<Index>(), byte()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        2 => any::<Index>().prop_map(Mutation::Remove),
        1 => any::<Index>().prop_map(Mutation::CutOff),
    ]
}

/// Changes the body of a packet and frames it anew.
fn mutate(packet: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut body = packet[body_start(packet)..].to_vec();
    for mutation in mutations {
        // most of a large packet is payload, where nothing is to be broken
        let reach = body.len().min(60);
        match *mutation {
            Mutation::Insert(at, byte) => body.insert(at.index(reach + 1), byte),
            _ if reach == 0 => (),
            Mutation::Replace(at, byte) => body[at.index(reach)] = byte,
            Mutation::Remove(at) => drop(body.remove(at.index(reach))),
            Mutation::CutOff(at) => body.truncate(at.index(reach)),
        }
    }
    reframed(packet[0], &body)
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn what_is_written_is_read((version, packet) in versioned_packet()) {
        let bytes = encoded(&packet, version);
        let Ok(Frame::Complete { header, packet_bytes }) = frame(&bytes, bytes.len() as u32) else {
            panic!("a whole packet");
        };
        prop_assert_eq!(packet_bytes, bytes.len());
        prop_assert_eq!(header.packet_type(), packet.packet_type());
        prop_assert_eq!(decode(&bytes, version), Ok(packet));
        match packet {
            Packet::Connect(connect) => prop_assert_eq!(decode_connect(&bytes), Ok(connect)),
            Packet::Publish(publish) => {
                prop_assert_eq!(decode_publish(&bytes, version), Ok(publish));
            }
            other => {
                let refused = Err(ConnectError::NotConnect(other.packet_type()));
                prop_assert_eq!(decode_connect(&bytes), refused);
            }
        }
    }

    #[test]
    fn a_packet_that_has_not_arrived_is_waited_for_and_no_longer(
        (version, packet) in versioned_packet(),
        cuts in vec(any::<Index>(), 20),
    ) {
        let bytes = encoded(&packet, version);
        let early = 0..bytes.len().min(40);
        for cut in early.chain(cuts.iter().map(|cut| cut.index(bytes.len()))) {
            let Ok(Frame::NeedMore(missing)) = frame(&bytes[..cut], u32::MAX) else {
                panic!("{cut} of {} bytes are not a packet", bytes.len());
            };
            prop_assert!(missing >= 1 && cut + missing <= bytes.len());
            prop_assert_eq!(decode(&bytes[..cut], version), Err(Malformed::PacketLength));
        }
    }

    #[test]
    fn the_limit_is_kept_with_the_fixed_header_alone((version, packet) in versioned_packet()) {
        let bytes = encoded(&packet, version);
        let packet_bytes_max = bytes.len() as u32 - 1;
        let refused = Err(FrameError::TooLarge { packet_bytes: bytes.len(), packet_bytes_max });
        prop_assert_eq!(frame(&bytes[..body_start(&bytes)], packet_bytes_max), refused);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(stream in vec(any::<u8>(), 0..200)) {
        read_stream(&stream);
    }

    #[test]
    fn an_arbitrary_body_does_no_harm(first in any::<u8>(), body in vec(0..0x30u8, 0..40)) {
        read_in_all_versions(&reframed(first, &body));
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn a_damaged_packet_does_no_harm(
        (version, packet) in versioned_packet(),
        mutations in vec(mutation(), 1..4),
    ) {
        read_in_all_versions(&mutate(&encoded(&packet, version), &mutations));
    }
}
