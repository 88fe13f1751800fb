//! Devices that publish over TLS, one message to a record, on a schedule that waits for nobody.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};

use crate::client;

const PAYLOAD_BYTES: usize = 256;

pub struct Publishers {
    devices: Vec<Device>,
}

struct Device {
    stream: TcpStream,
    tls: ClientConnection,
    packet: Vec<u8>,
    record: Vec<u8>,
}

impl Publishers {
    pub fn connect(
        server: SocketAddr,
        config: &Arc<ClientConfig>,
        clients: usize,
    ) -> Result<Self, String> {
        let device = |number| {
            let (stream, tls) = client::session(server, config, number)?;
            let packet = publish(&format!("kp1/bench/dcx/device-{number:08}/json"));
            Ok(Device { stream, tls, packet, record: Vec::new() })
        };
        Ok(Self { devices: (0..clients).map(device).collect::<Result<_, String>>()? })
    }

    /// Publishes `count` messages, `rate` a second, a device after the other; returns how many.
    pub fn publish(&mut self, rate: u32, count: u32) -> Result<u32, String> {
        let started = Instant::now();
        let clients = self.devices.len();
        for number in 0..count {
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(rate));
            let early = due.saturating_sub(started.elapsed());
            // Below that, a sleep is longer than what is to be slept.
            if early > Duration::from_micros(100) {
                std::thread::sleep(early);
            }
            self.devices[number as usize % clients].send().map_err(|error| error.to_string())?;
        }
        let late = started.elapsed().as_secs_f64() - f64::from(count) / f64::from(rate);
        if late > 0.2 {
            eprintln!("bench-tls: {late:.1} s behind schedule: the generator is the bottleneck");
        }
        Ok(count)
    }
}

impl Device {
    fn send(&mut self) -> std::io::Result<()> {
        self.tls.writer().write_all(&self.packet)?;
        self.record.clear();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.record)?;
        }
        self.stream.write_all(&self.record)
    }
}

/// A PUBLISH of QoS 0.
fn publish(topic: &str) -> Vec<u8> {
    let length = 2 + topic.len() + PAYLOAD_BYTES;
    let mut packet = vec![0x30, (length % 128) as u8 | 0x80, (length / 128) as u8];
    packet.extend((topic.len() as u16).to_be_bytes());
    packet.extend(topic.bytes());
    packet.resize(packet.len() + PAYLOAD_BYTES, b'x');
    packet
}
