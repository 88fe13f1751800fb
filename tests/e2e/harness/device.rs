//! A device: a TCP connection that speaks MQTT byte by byte, blocking, with deadlines.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::packet::{self, Acknowledged, Connack, Connect, Packet, Publish, Suback};
use super::{PATIENCE, SILENCE};

/// What came next on a connection.
#[derive(Debug, PartialEq)]
pub enum Next {
    Packet(Packet),
    /// The gateway closed the connection.
    Closed,
    /// Nothing within the time given.
    Nothing,
}

pub struct Device {
    stream: TcpStream,
    pub level: u8,
    received: Vec<u8>,
    last_packet_id: u16,
}

impl Device {
    /// A TCP connection on which nothing has been sent yet.
    pub fn open(address: SocketAddr, level: u8) -> Self {
        Self::over(TcpStream::connect(address).expect("a connection to the gateway"), level)
    }

    /// The same from another address of this host, such as 127.0.0.2.
    pub fn open_from(from: Ipv4Addr, address: SocketAddr, level: u8) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("a loopback address");
        socket.connect(&address.into()).expect("a connection to the gateway");
        Self::over(socket.into(), level)
    }

    fn over(stream: TcpStream, level: u8) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        Self { stream, level, received: Vec::new(), last_packet_id: 0 }
    }

    /// Sends a CONNECT and reads the CONNACK, whatever it says.
    pub fn connect(address: SocketAddr, connect: Connect) -> (Self, Connack) {
        let mut device = Self::open(address, connect.level);
        device.send(&connect.bytes());
        let connack = device.receive().connack(connect.level);
        (device, connack)
    }

    /// Sends a CONNECT that must be accepted.
    pub fn connected(address: SocketAddr, connect: Connect) -> (Self, Connack) {
        let (device, connack) = Self::connect(address, connect);
        assert_eq!(connack.code, 0, "CONNECT refused: {connack:?}");
        (device, connack)
    }

    /// Sends a CONNECT that must be refused and the connection closed; returns the CONNACK.
    pub fn refused(address: SocketAddr, connect: Connect) -> Connack {
        let (mut device, connack) = Self::connect(address, connect);
        assert_ne!(connack.code, 0, "CONNECT accepted: {connack:?}");
        device.expect_closed();
        connack
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the gateway reads what a device sends");
    }

    /// Sends as much as the gateway takes; for input that makes it close the connection.
    pub fn send_regardless(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends until the gateway has taken no byte for `limit`; returns what it did not take.
    pub fn send_within(&mut self, bytes: &[u8], limit: Duration) -> Vec<u8> {
        self.stream.set_write_timeout(Some(limit)).expect("a write timeout");
        let mut left = bytes;
        while !left.is_empty() {
            match self.stream.write(left) {
                Ok(taken) => left = &left[taken..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("writing to the gateway: {error}"),
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        left.to_vec()
    }

    /// Ends the sending half: the gateway reads an end of file.
    pub fn hang_up(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// What comes next within `limit`.
    pub fn next_within(&mut self, limit: Duration) -> Next {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(packet) = Packet::take(&mut self.received) {
                return Next::Packet(packet);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            self.stream.set_read_timeout(Some(left)).expect("a read timeout");
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Next::Closed,
                Ok(length) => self.received.extend(&buffer[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Next::Nothing,
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Next::Closed,
                    _ => panic!("reading from the gateway: {error}"),
                },
            }
        }
    }

    /// The next packet; panics when none comes.
    pub fn receive(&mut self) -> Packet {
        match self.next_within(PATIENCE) {
            Next::Packet(packet) => packet,
            other => panic!("expected a packet, got {other:?}"),
        }
    }

    pub fn receive_publish(&mut self) -> Publish {
        let level = self.level;
        self.receive().publish(level)
    }

    /// The next packet, which must be an acknowledgement of that kind.
    pub fn receive_ack(&mut self, kind: u8) -> Acknowledged {
        let level = self.level;
        self.receive().acknowledged(kind, level)
    }

    pub fn expect_silence(&mut self) {
        let next = self.next_within(SILENCE);
        assert_eq!(next, Next::Nothing, "expected the gateway to stay silent");
    }

    /// The gateway closes the connection without another packet.
    pub fn expect_closed(&mut self) {
        let next = self.next_within(PATIENCE);
        assert_eq!(next, Next::Closed, "expected the gateway to close the connection");
    }

    /// The gateway sends a v5 DISCONNECT with `reason`, then closes.
    pub fn expect_disconnect(&mut self, reason: u8) {
        self.expect_disconnect_because(reason);
    }

    /// The same; returns the reason string, if there is one.
    pub fn expect_disconnect_because(&mut self, reason: u8) -> Option<String> {
        let (got, properties) = self.receive().disconnect();
        assert_eq!(got, reason, "DISCONNECT {got:#04x} {properties:?}, expected {reason:#04x}");
        self.expect_closed();
        properties.text(packet::property::REASON_STRING).map(str::to_owned)
    }

    /// What a bad packet must lead to: v5 DISCONNECT with the reason, older versions a close.
    pub fn expect_refusal(&mut self, reason: u8) {
        if self.level == packet::V5 {
            self.expect_disconnect(reason);
        } else {
            self.expect_closed();
        }
    }

    /// A packet id not used before on this connection.
    pub fn fresh_id(&mut self) -> u16 {
        self.last_packet_id += 1;
        self.last_packet_id
    }

    /// Sends a PUBLISH as it is.
    pub fn send_publish(&mut self, publish: &Publish) {
        let bytes = publish.bytes(self.level);
        self.send(&bytes);
    }

    pub fn publish_qos0(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.send_publish(&Publish::new(topic, payload));
    }

    /// Publishes with QoS 1 and waits for the PUBACK, which must say success.
    /// Nothing else may arrive before it.
    pub fn publish_qos1(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        let id = self.fresh_id();
        self.send_publish(&Publish::new(topic, payload).qos(1, id));
        let puback = self.receive_ack(packet::PUBACK);
        assert_eq!((puback.packet_id, puback.reason), (id, 0));
    }

    /// Publishes with QoS 2 through the whole handshake.
    pub fn publish_qos2(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        let id = self.fresh_id();
        self.send_publish(&Publish::new(topic, payload).qos(2, id));
        let pubrec = self.receive_ack(packet::PUBREC);
        assert_eq!((pubrec.packet_id, pubrec.reason), (id, 0));
        self.send(&packet::acknowledgement(packet::PUBREL, id));
        let pubcomp = self.receive_ack(packet::PUBCOMP);
        assert_eq!((pubcomp.packet_id, pubcomp.reason), (id, 0));
    }

    /// Publishes with any QoS and completes its handshake; nothing else may arrive meanwhile.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        match qos {
            0 => self.publish_qos0(topic, payload),
            1 => self.publish_qos1(topic, payload),
            _ => self.publish_qos2(topic, payload),
        }
    }

    /// Publishes and goes on until every handshake is over and an answer has come, which it
    /// returns. Acknowledgement and answer may come in either order.
    pub fn request(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) -> Publish {
        let id = if qos > 0 { self.fresh_id() } else { 0 };
        self.send_publish(&Publish::new(topic, payload).qos(qos, id));
        let mut acknowledged = qos == 0;
        let mut answer: Option<Publish> = None;
        let mut answer_over = false;
        while !(acknowledged && answer_over) {
            let packet = self.receive();
            match packet.kind() {
                packet::PUBACK | packet::PUBCOMP => acknowledged = true,
                packet::PUBREC => {
                    // A refusing PUBREC ends the exchange (MQTT 5.0 §4.3.3).
                    acknowledged = packet.acknowledged(packet::PUBREC, self.level).reason >= 0x80;
                    if !acknowledged {
                        self.send(&packet::acknowledgement(packet::PUBREL, id));
                    }
                }
                packet::PUBREL => {
                    let id = packet.acknowledged(packet::PUBREL, self.level).packet_id;
                    self.send(&packet::acknowledgement(packet::PUBCOMP, id));
                    answer_over = true;
                }
                packet::PUBLISH => {
                    let publish = packet.publish(self.level);
                    assert!(answer.is_none(), "a second answer: {publish:?}");
                    match publish.qos {
                        0 => answer_over = true,
                        1 => {
                            self.send(&packet::acknowledgement(packet::PUBACK, publish.packet_id));
                            answer_over = true;
                        }
                        _ => self.send(&packet::acknowledgement(packet::PUBREC, publish.packet_id)),
                    }
                    answer = Some(publish);
                }
                _ => panic!("unexpected during a request: {packet:02x?}"),
            }
        }
        answer.expect("the loop ends with an answer")
    }

    /// Receives a PUBLISH and acknowledges it as its QoS demands.
    pub fn receive_and_acknowledge(&mut self) -> Publish {
        let publish = self.receive_publish();
        match publish.qos {
            0 => {}
            1 => self.send(&packet::acknowledgement(packet::PUBACK, publish.packet_id)),
            _ => {
                self.send(&packet::acknowledgement(packet::PUBREC, publish.packet_id));
                let pubrel = self.receive_ack(packet::PUBREL);
                assert_eq!(pubrel.packet_id, publish.packet_id);
                self.send(&packet::acknowledgement(packet::PUBCOMP, publish.packet_id));
            }
        }
        publish
    }

    /// Subscribes and returns the SUBACK's codes.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.fresh_id();
        let bytes = packet::subscribe(self.level, id, filters);
        self.send(&bytes);
        let suback = self.receive_suback(packet::SUBACK);
        assert_eq!(suback.packet_id, id);
        suback.reasons
    }

    /// Unsubscribes and returns the UNSUBACK's codes (none before v5).
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.fresh_id();
        let bytes = packet::unsubscribe(self.level, id, filters);
        self.send(&bytes);
        let unsuback = self.receive_suback(packet::UNSUBACK);
        assert_eq!(unsuback.packet_id, id);
        unsuback.reasons
    }

    fn receive_suback(&mut self, kind: u8) -> Suback {
        let level = self.level;
        self.receive().suback(kind, level)
    }

    /// A PINGREQ that must be answered next: everything sent before has been read, and nothing
    /// was due for this device.
    pub fn ping(&mut self) {
        self.send(&packet::PINGREQ_BYTES);
        let answer = self.receive();
        assert_eq!(answer.kind(), packet::PINGRESP, "expected a PINGRESP, got {answer:02x?}");
    }

    /// Leaves in order and waits until the gateway has closed.
    pub fn disconnect(mut self) {
        self.send(&packet::DISCONNECT_BYTES);
        self.expect_closed();
    }
}
