//! The loop: completions in, one send upstream at a time.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};

use crate::buffers::{Buffers, GROUP};

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 32_768;
/// Above this, what was read stays in the ring's buffers, which then run out: TCP pushes back.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

const ACCEPT: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
/// A send of a CONNACK: nobody waits for its end.
const ANSWER: u64 = 3 << 32;

/// CONNACK "accepted" of MQTT 3.1 and 3.1.1, and of 5.0 with no properties.
static CONNACK_3: [u8; 4] = [0x20, 2, 0, 0];
static CONNACK_5: [u8; 5] = [0x20, 3, 0, 0, 0];

/// What is known of a device's connection.
struct Device {
    fd: OwnedFd,
    greeted: bool,
}

/// Data that has to wait in a buffer of the ring until the batch has room.
struct Held {
    buffer: u16,
    len: usize,
}

pub struct Relay {
    ring: IoUring,
    buffers: Buffers,
    listener: TcpListener,
    upstream: TcpStream,
    /// Indexed by descriptor.
    devices: Vec<Option<Device>>,
    filling: Vec<u8>,
    in_flight: Vec<u8>,
    /// Bytes of `in_flight` that have been sent; `None` while nothing is.
    sent: Option<usize>,
    held: Vec<Held>,
    /// Devices whose receive ended for want of buffers.
    starved: Vec<RawFd>,
}

impl Relay {
    pub fn new(listener: TcpListener, upstream: TcpStream, deferred: bool) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_cqsize(COMPLETIONS);
        if deferred {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        let ring = builder.build(SUBMISSIONS)?;
        let buffers = Buffers::register(&ring)?;
        Ok(Self {
            ring,
            buffers,
            listener,
            upstream,
            devices: Vec::new(),
            filling: Vec::with_capacity(BATCH_BYTES_MAX * 2),
            in_flight: Vec::with_capacity(BATCH_BYTES_MAX * 2),
            sent: None,
            held: Vec::new(),
            starved: Vec::new(),
        })
    }

    /// Copies until the upstream socket fails.
    pub fn run(&mut self) -> io::Result<()> {
        self.accept()?;
        let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(COMPLETIONS as usize);
        loop {
            self.wait()?;
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.complete(&completion)?;
            }
            self.buffers.publish();
            self.send_next()?;
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let submitted = self.ring.submit_and_wait(1);
        match submitted {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (data, result) = (completion.user_data(), completion.result());
        let more = cqueue::more(completion.flags());
        match data {
            ACCEPT => {
                if result >= 0 {
                    self.adopt(result)?;
                } else {
                    eprintln!("bench-relay: accept: {}", io::Error::from_raw_os_error(-result));
                }
                if !more {
                    self.accept()?;
                }
                Ok(())
            }
            SEND => self.sent(result),
            ANSWER => Ok(()),
            fd => {
                // user data of a receive is the device's descriptor
                self.received(fd as RawFd, result, cqueue::buffer_select(completion.flags()), more)
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(accept.user_data(ACCEPT))
    }

    fn adopt(&mut self, fd: RawFd) -> io::Result<()> {
        delay_acknowledgements(fd);
        let index = fd as usize;
        if self.devices.len() <= index {
            self.devices.resize_with(index + 1, || None);
        }
        // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
        let fd_owned = unsafe { OwnedFd::from_raw_fd(fd) };
        self.devices[index] = Some(Device { fd: fd_owned, greeted: false });
        self.receive(fd)
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let receive = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        self.push(receive.user_data(fd as u64))
    }

    fn received(
        &mut self,
        fd: RawFd,
        result: i32,
        buffer: Option<u16>,
        more: bool,
    ) -> io::Result<()> {
        if let (Some(buffer), true) = (buffer, result > 0) {
            self.copy(fd, buffer, result as usize)?;
        } else if result == -libc::ENOBUFS {
            self.starved.push(fd);
            return Ok(());
        } else {
            // closed or failed: no completion of this descriptor is outstanding any more
            self.devices[fd as usize] = None;
            return Ok(());
        }
        if more { Ok(()) } else { self.receive(fd) }
    }

    fn copy(&mut self, fd: RawFd, buffer: u16, len: usize) -> io::Result<()> {
        let Some(device) = self.devices.get_mut(fd as usize).and_then(Option::as_mut) else {
            self.buffers.give_back(buffer);
            return Ok(());
        };
        if !device.greeted {
            device.greeted = true;
            let answer = connack(self.buffers.filled(buffer, len));
            let fd = device.fd.as_raw_fd();
            self.buffers.give_back(buffer);
            let send = opcode::Send::new(Fd(fd), answer.as_ptr(), answer.len() as u32).build();
            return self.push(send.user_data(ANSWER));
        }
        if self.filling.len() >= BATCH_BYTES_MAX {
            self.held.push(Held { buffer, len });
        } else {
            self.filling.extend_from_slice(self.buffers.filled(buffer, len));
            self.buffers.give_back(buffer);
        }
        Ok(())
    }

    fn sent(&mut self, result: i32) -> io::Result<()> {
        if result <= 0 {
            return Err(io::Error::other(format!(
                "upstream: {}",
                io::Error::from_raw_os_error(-result)
            )));
        }
        let sent = self.sent.unwrap_or(0) + result as usize;
        if sent < self.in_flight.len() {
            self.sent = Some(sent);
            return self.send_from(sent);
        }
        self.sent = None;
        self.in_flight.clear();
        Ok(())
    }

    /// Sends what has gathered, if nothing is on its way, and takes in what had to wait.
    fn send_next(&mut self) -> io::Result<()> {
        if self.sent.is_some() || self.filling.is_empty() {
            return Ok(());
        }
        std::mem::swap(&mut self.filling, &mut self.in_flight);
        self.sent = Some(0);
        self.send_from(0)?;
        if self.held.is_empty() && self.starved.is_empty() {
            return Ok(());
        }
        for Held { buffer, len } in std::mem::take(&mut self.held) {
            self.filling.extend_from_slice(self.buffers.filled(buffer, len));
            self.buffers.give_back(buffer);
        }
        self.buffers.publish();
        for fd in std::mem::take(&mut self.starved) {
            self.receive(fd)?;
        }
        Ok(())
    }

    fn send_from(&mut self, from: usize) -> io::Result<()> {
        let rest = &self.in_flight[from..];
        let send =
            opcode::Send::new(Fd(self.upstream.as_raw_fd()), rest.as_ptr(), rest.len() as u32);
        self.push(send.build().user_data(SEND))
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        // SAFETY: what entries point to outlives them: statics, and a batch that is left alone
        // until its send has completed.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }
}

/// The CONNACK for a CONNECT; the protocol level is the byte after the protocol name.
fn connack(connect: &[u8]) -> &'static [u8] {
    let length_bytes = connect.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let name = 1 + length_bytes;
    let level = connect.get(name..name + 2).and_then(|length| {
        connect.get(name + 2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
    });
    if level == Some(&5) { &CONNACK_5 } else { &CONNACK_3 }
}

/// Leaves "quick ACK" mode. In it, the kernel sends an ACK at every read of a small segment,
/// which is most of what a message costs at one packet per write.
fn delay_acknowledgements(fd: RawFd) {
    let off: libc::c_int = 0;
    // SAFETY: the pointer and the size are those of `off`. A failure costs speed only.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_QUICKACK,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_the_version_of_the_connect() {
        assert_eq!(connack(b"\x10\x0f\0\x04MQTT\x05\x02\0\0\0\0\x02ab"), &CONNACK_5);
        assert_eq!(connack(b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x02ab"), &CONNACK_3);
        assert_eq!(connack(b"\x10\x90\x01\0\x06MQIsdp\x03\x02\0\0"), &CONNACK_3);
        assert_eq!(connack(b"\x10"), &CONNACK_3);
    }
}
