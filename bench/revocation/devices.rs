//! The devices: connected, logged in, and silent until the gateway closes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::provider::TENANT;
use crate::sys::{self, Epoll};

/// Devices that wait for their CONNACK at once.
const CONNECTING_MAX: usize = 128;
/// How long one CONNACK is waited for.
const CONNACK_WITHIN: Duration = Duration::from_secs(10);
/// How long the opening of all devices may take.
const OPENED_WITHIN: Duration = Duration::from_secs(120);
/// What one read may bring: far more than a DISCONNECT with a reason.
const READ_BYTES: usize = 1024;

/// MQTT 5.0 reason "administrative action" (MQTT-3.14.2.1).
const ADMINISTRATIVE_ACTION: u8 = 0x98;
/// Said per arrival, so that a socket that has ended and is still open is not said all the time.
const EDGE: u32 = libc::EPOLLET as u32;

struct Device {
    username: String,
    is_v5: bool,
    /// The gateway has closed: what the kernel reports from then on says nothing new.
    is_closed: bool,
    /// None once our side is closed too.
    stream: Option<TcpStream>,
}

/// All devices, by index.
pub struct Devices {
    devices: Vec<Device>,
    epoll: Epoll,
    /// Of MQTT 5.0, closed: told why, not told why.
    told: usize,
    untold: usize,
    /// What the last watch took of the CPU.
    busy: Duration,
}

impl Devices {
    /// Connects so many and waits until all are let in.
    pub fn open(
        gateway: SocketAddr,
        count: u32,
        username: impl Fn(u32) -> String,
    ) -> Result<Self, String> {
        let until = Instant::now() + OPENED_WITHIN;
        let epoll = Epoll::new().map_err(|error| format!("no epoll: {error}"))?;
        let devices = Vec::with_capacity(count as usize);
        let mut all = Self { devices, epoll, told: 0, untold: 0, busy: Duration::ZERO };
        let mut connecting = VecDeque::with_capacity(CONNECTING_MAX);
        for index in 0..count {
            if connecting.len() == CONNECTING_MAX {
                connecting.pop_front().map_or(Ok(()), |device| all.admit(device))?;
            }
            if Instant::now() >= until {
                let seconds = OPENED_WITHIN.as_secs();
                return Err(format!("{index} of {count} devices connected in {seconds} s"));
            }
            let device = Device::connect(gateway, index, username(index))
                .map_err(|error| format!("device {index} of {count}: {error}"))?;
            connecting.push_back(device);
        }
        connecting.into_iter().try_for_each(|device| all.admit(device))?;
        Ok(all)
    }

    fn admit(&mut self, mut device: Device) -> Result<(), String> {
        let index = self.devices.len();
        let told = |error: std::io::Error| format!("device {index}: {error}");
        device.read_connack().map_err(told)?;
        if let Some(stream) = &device.stream {
            stream.set_nonblocking(true).map_err(told)?;
            self.epoll.add(stream, sys::IN | EDGE, index).map_err(told)?;
        }
        self.devices.push(device);
        Ok(())
    }

    /// Waits until `enough` connections were closed, but not longer than `within`. Returns their
    /// user names and when each was seen closed.
    pub fn watch(
        &mut self,
        within: Duration,
        enough: usize,
    ) -> Result<Vec<(String, Instant)>, String> {
        let until = Instant::now() + within;
        let mut closed = Vec::with_capacity(self.devices.len());
        let busy_before = thread_cpu();
        let seen = self.see_closed(until, enough, &mut closed);
        self.busy = thread_cpu().saturating_sub(busy_before);
        // Our side is closed only now: that costs time, which is not the gateway's.
        closed.iter().for_each(|(index, _)| self.devices[*index].stream = None);
        seen?;
        let named = |(index, at): (usize, Instant)| (self.devices[index].username.clone(), at);
        Ok(closed.into_iter().map(named).collect())
    }

    fn see_closed(
        &mut self,
        until: Instant,
        enough: usize,
        closed: &mut Vec<(usize, Instant)>,
    ) -> Result<(), String> {
        let mut found = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.epoll.wait(left, &mut found).map_err(|error| format!("epoll: {error}"))?;
            for (index, _) in &found {
                if self.serve(*index)? {
                    closed.push((*index, Instant::now()));
                }
            }
            if closed.len() >= enough {
                return Ok(());
            }
        }
    }

    /// Waits, and fails if a connection is closed meanwhile.
    pub fn expect_quiet(&mut self, pause: Duration) -> Result<(), String> {
        let closed = self.watch(pause, usize::MAX)?;
        match closed.first() {
            None => Ok(()),
            Some((username, _)) => Err(format!(
                "{} sessions were closed that nobody revoked, first that of {username}",
                closed.len()
            )),
        }
    }

    /// Takes what a device was sent; true if its connection is closed now.
    fn serve(&mut self, index: usize) -> Result<bool, String> {
        let device = &mut self.devices[index];
        if device.is_closed {
            return Ok(false);
        }
        let Some(stream) = &mut device.stream else { return Ok(false) };
        let mut buffer = [0; READ_BYTES];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                // DISCONNECT: two bytes of header, the reason, properties. It comes before the
                // end, which the next read brings.
                Ok(got) if device.is_v5 && buffer[0] == 0xe0 => {
                    let is_told = got > 2 && buffer[2] == ADMINISTRATIVE_ACTION;
                    self.told += usize::from(is_told);
                    self.untold += usize::from(!is_told);
                }
                Ok(_) => {
                    return Err(format!("device {index} was sent something: {:02x}", buffer[0]));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => return Err(format!("device {index}: {error}")),
            }
        }
        device.is_closed = true;
        Ok(true)
    }

    /// How many MQTT 5.0 devices were told why, and what seeing all of that cost here.
    pub fn farewells(&self) -> String {
        let closed = |device: &&Device| device.is_v5 && device.is_closed;
        let closed = self.devices.iter().filter(closed).count();
        let Self { told, untold, busy, .. } = self;
        format!(
            "MQTT 5.0: {closed} closed, {told} with reason 0x98, {untold} with another; \
             devices' CPU {:.1} ms",
            busy.as_secs_f64() * 1000.0
        )
    }
}

impl Device {
    /// Connects and says who it is; the answer is read later.
    fn connect(gateway: SocketAddr, index: u32, username: String) -> std::io::Result<Self> {
        let is_v5 = index % 2 == 1;
        let mut stream = TcpStream::connect(gateway)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNACK_WITHIN))?;
        stream.write_all(&connect_packet(is_v5, index, &username))?;
        Ok(Self { username, is_v5, is_closed: false, stream: Some(stream) })
    }

    fn read_connack(&mut self) -> std::io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let mut header = [0; 2];
        stream.read_exact(&mut header)?;
        let mut body = [0; 127];
        let body = &mut body[..usize::from(header[1] & 0x7f)];
        stream.read_exact(body)?;
        let is_whole = header[0] == 0x20 && header[1] < 0x80;
        match body.get(1) {
            Some(0) if is_whole => Ok(()),
            Some(code) if is_whole => {
                Err(std::io::Error::other(format!("CONNACK refused with code 0x{code:02x}")))
            }
            _ => Err(std::io::Error::other("this is no CONNACK")),
        }
    }
}

/// CPU time of this thread so far, from what the scheduler says; zero where it says nothing.
fn thread_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = stat.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}

/// CONNECT with a clean start and without keep-alive (MQTT-3.1).
fn connect_packet(is_v5: bool, index: u32, username: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_text(&mut body, "MQTT");
    body.extend([if is_v5 { 5 } else { 4 }, 0xc2, 0, 0]);
    if is_v5 {
        body.push(0);
    }
    put_text(&mut body, &format!("device-{index}"));
    put_text(&mut body, &format!("{username}@{TENANT}"));
    put_text(&mut body, "password");
    let mut packet = vec![0x10, body.len() as u8];
    packet.extend(body);
    packet
}

/// Names here are short: a whole packet has less than 127 bytes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
