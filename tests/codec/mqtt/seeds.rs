//! The seed corpus of the fuzz target. It was made without this codec, so that it also serves as a
//! set of known packets.

use std::collections::BTreeSet;
use std::path::Path;

use ringgate::codec::mqtt::*;

use super::packets::{VERSIONS, encoded};

/// The packets of a seed: a byte that chooses the version, then a stream.
fn read(seed: &[u8]) -> Vec<(Version, PacketType)> {
    let version = VERSIONS[usize::from(seed[0])];
    let mut stream = &seed[1..];
    let mut seen = Vec::new();
    while !stream.is_empty() {
        let Ok(Frame::Complete { packet_bytes, .. }) = frame(stream, 1024) else {
            panic!("seeds hold whole packets: {stream:02X?}");
        };
        let (bytes, rest) = stream.split_at(packet_bytes);
        let packet = decode(bytes, version).expect("seeds are valid");
        assert_eq!(encoded(&packet, version), bytes, "{packet:?}");
        seen.push((version, packet.packet_type()));
        stream = rest;
    }
    seen
}

#[test]
fn seeds_hold_every_packet_of_every_version() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/mqtt");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(corpus).expect("the corpus is there") {
        let path = entry.expect("can be listed").path();
        // what a fuzzer has found since is named by its hash
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v')) {
            continue;
        }
        let packets = read(&std::fs::read(&path).expect("can be read"));
        seen.extend(packets.into_iter().map(|(version, packet)| (version, packet as u8)));
    }
    for version in VERSIONS {
        let last = if version.is_v5() { PacketType::Auth } else { PacketType::Disconnect };
        for packet in PacketType::Connect as u8..=last as u8 {
            assert!(seen.contains(&(version, packet)), "{version}, packet type {packet}");
        }
    }
}
