//! Streams of MQTT packets: the first byte chooses the version, the rest is what a peer sends.

use ringgate::codec::mqtt::{Frame, Packet, Version, decode, decode_connect, frame};

const PACKET_BYTES_MAX: u32 = 64 * 1024;

/// Frames and reads the stream. What is read must say the same when it is written and read again,
/// in no more bytes.
pub fn check(data: &[u8]) {
    let Some((&choice, mut stream)) = data.split_first() else {
        return;
    };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(choice % 3)];
    loop {
        match frame(stream, PACKET_BYTES_MAX) {
            Ok(Frame::Complete { header, packet_bytes }) => {
                let (packet, rest) = stream.split_at(packet_bytes);
                stream = rest;
                let _ = decode_connect(packet);
                if let Ok(read) = decode(packet, version) {
                    assert_eq!(read.packet_type(), header.packet_type());
                    says_the_same_again(&read, packet, version);
                }
            }
            Ok(Frame::NeedMore(missing)) => {
                assert!(missing > 0 && stream.len() + missing <= PACKET_BYTES_MAX as usize);
                return;
            }
            Err(_) => return,
        }
    }
}

fn says_the_same_again(read: &Packet<'_>, packet: &[u8], version: Version) {
    let version = match read {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut again = Vec::new();
    read.encode(version, &mut again).expect("what is read can be written");
    assert!(again.len() <= packet.len());
    assert_eq!(decode(&again, version).as_ref(), Ok(read));
}
