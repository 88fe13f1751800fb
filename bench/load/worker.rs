//! One thread: its clients' sockets and when they are to do what.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::client::{Behaviour, Client, End, Phase};
use crate::packet;
use crate::sys::{self, Epoll};
use crate::tally::{Gauges, Tally};

/// What one read may bring.
const READ_BYTES: usize = 64 * 1024;
/// TCP and MQTT handshakes a thread has under way at once.
const CONNECTING_MAX: usize = 128;
/// How often a thread that has nothing to do looks whether the run goes on.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Bursts written between two looks at the sockets, so that a late schedule starves nobody.
const TURN_BURSTS_MAX: usize = 256;
/// How long after the end of the schedule a late burst may still be written.
const LATE_NS_MAX: u64 = SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;

/// What all threads do, as set by the command line.
pub struct Plan {
    pub address: SocketAddr,
    pub behaviour: Behaviour,
    /// Clients of the whole run, and threads they are shared among.
    pub clients: u64,
    pub threads: u64,
    pub connect_rate: u64,
    pub keep_alive_s: u16,
    pub congestion_control: Option<String>,
    pub send_buffer: usize,
    /// Bursts per second over all clients; 0: flat out.
    pub bursts_per_second: f64,
    /// Bursts over all clients (with a rate: all that are due); `u64::MAX`: no limit but time.
    pub bursts_max: u64,
    pub duration_ns: u64,
    /// Connections to make and hang up again, instead of holding them.
    pub connections: Option<u64>,
}

impl Plan {
    /// When publishing ends at the latest: what is due at the last moment may still be written.
    fn publish_ns_max(&self) -> u64 {
        let late_ns = if self.bursts_per_second > 0.0 { LATE_NS_MAX } else { 0 };
        self.duration_ns + late_ns
    }
}

/// What the main thread tells the others.
pub struct Orders {
    /// All times are nanoseconds since this.
    pub origin: Instant,
    /// Clients with a lower index may connect.
    pub connect_limit: AtomicU64,
    /// When publishing begins; 0: not yet.
    pub start_ns: AtomicU64,
    /// Hang up and finish.
    pub finish: AtomicBool,
}

impl Orders {
    pub fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// A client with its socket.
pub struct Line {
    pub index: u64,
    pub connect: Vec<u8>,
    pub client: Client,
    stream: Option<TcpStream>,
    /// The events asked of epoll.
    interest: u32,
}

impl Line {
    pub fn new(index: u64, connect: Vec<u8>, client: Client) -> Self {
        Self { index, connect, client, stream: None, interest: 0 }
    }
}

pub struct Worker {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    gauges: Arc<Gauges>,
    epoll: Epoll,
    lines: Vec<Line>,
    tally: Tally,
    /// Lines that are to be connected, in order.
    to_open: VecDeque<usize>,
    opened: u64,
    opens_max: u64,
    connecting: usize,
    first_open_ns: Option<u64>,
    in_flight: usize,
    ready: usize,
    /// The next line on the schedule.
    cursor: usize,
    /// Burst of the line at the cursor.
    round: u64,
    buffer: Vec<u8>,
    batch: Vec<u8>,
}

impl Worker {
    pub fn new(
        plan: Arc<Plan>,
        orders: Arc<Orders>,
        gauges: Arc<Gauges>,
        lines: Vec<Line>,
    ) -> io::Result<Self> {
        let opens_max = plan.connections.map_or(lines.len() as u64, |all| {
            let first = lines.first().map_or(0, |line| line.index % plan.threads);
            all / plan.threads + u64::from(first < all % plan.threads)
        });
        Ok(Self {
            plan,
            orders,
            gauges,
            epoll: Epoll::new()?,
            to_open: (0..lines.len()).collect(),
            lines,
            tally: Tally::default(),
            opened: 0,
            opens_max,
            connecting: 0,
            first_open_ns: None,
            in_flight: 0,
            ready: 0,
            cursor: 0,
            round: 0,
            buffer: vec![0; READ_BYTES],
            batch: Vec::new(),
        })
    }

    /// Plays the clients until told to finish.
    pub fn run(mut self) -> io::Result<Tally> {
        sys::sharpen_timers();
        let mut found = Vec::new();
        let mut swept_ns = 0;
        while !self.orders.finish.load(Ordering::Acquire) {
            let now_ns = self.orders.now_ns();
            let wait_open = self.open_due(now_ns);
            let wait_publish = self.publish_due();
            self.show();
            self.epoll.wait(wait_open.min(wait_publish).min(LOOK_EVERY), &mut found)?;
            for (token, events) in found.drain(..) {
                self.handle(token, events);
            }
            if now_ns - swept_ns > SECOND_NS {
                swept_ns = now_ns;
                self.keep_alive(now_ns);
            }
        }
        for index in 0..self.lines.len() {
            self.hang_up(index);
        }
        self.show();
        Ok(self.tally)
    }

    fn show(&self) {
        self.gauges.show(&self.tally);
        self.gauges.in_flight.store(self.in_flight as u64, Ordering::Relaxed);
        self.gauges.ready.store(self.ready as u64, Ordering::Relaxed);
    }

    /// Opens the connections that are due; tells how long until the next one is.
    fn open_due(&mut self, now_ns: u64) -> Duration {
        let limit = self.orders.connect_limit.load(Ordering::Acquire);
        while let Some(&next) = self.to_open.front() {
            if self.opened >= self.opens_max
                || self.connecting >= CONNECTING_MAX
                || self.lines[next].index >= limit
            {
                break;
            }
            let first_ns = *self.first_open_ns.get_or_insert(now_ns);
            if self.plan.connect_rate > 0 {
                let rate = self.plan.connect_rate as f64 / self.plan.threads as f64;
                let due_ns = first_ns + (self.opened as f64 / rate * SECOND_NS as f64) as u64;
                if due_ns > now_ns {
                    return Duration::from_nanos(due_ns - now_ns);
                }
            }
            self.to_open.pop_front();
            self.opened += 1;
            self.connecting += 1;
            self.lines[next].client.phase = Phase::Connecting { since_ns: now_ns };
            if let Err(error) = self.open(next) {
                self.end(next, End::Socket(error.to_string()));
            }
        }
        LOOK_EVERY
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        let plan = &self.plan;
        let domain = Domain::for_address(plan.address);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if plan.send_buffer > 0 {
            socket.set_send_buffer_size(plan.send_buffer)?;
        }
        if let Some(name) = &plan.congestion_control {
            sys::set_congestion_control(&socket, name)
                .map_err(|error| io::Error::other(format!("congestion control {name}: {error}")))?;
        }
        match socket.connect(&plan.address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let line = &mut self.lines[index];
        line.interest = sys::OUT;
        self.epoll.add(&socket, line.interest, index)?;
        line.stream = Some(socket.into());
        Ok(())
    }

    fn handle(&mut self, index: usize, events: u32) {
        let Err(end) = self.serve(index, events) else { return };
        self.end(index, end);
    }

    fn serve(&mut self, index: usize, events: u32) -> Result<(), End> {
        let line = &mut self.lines[index];
        let Some(stream) = &line.stream else { return Ok(()) };
        if line.interest == sys::OUT && matches!(line.client.phase, Phase::Connecting { .. }) {
            if let Some(error) = stream.take_error().map_err(socket_error)? {
                return Err(socket_error(error));
            }
            let connect = line.connect.clone();
            line.client.out.extend(connect);
            return self.flush(index);
        }
        if events & !sys::OUT != 0 {
            self.read(index)?;
        }
        self.flush(index)?;
        self.publish_line(index)
    }

    fn read(&mut self, index: usize) -> Result<(), End> {
        let line = &mut self.lines[index];
        let Some(stream) = &mut line.stream else { return Ok(()) };
        let got = match stream.read(&mut self.buffer) {
            Ok(0) => return Err(End::Closed),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(socket_error(error)),
        };
        let now_ns = self.orders.now_ns();
        let client = &mut line.client;
        let (before, in_flight) = (client.phase, client.in_flight());
        let taken = client.take(&self.buffer[..got], now_ns, &self.plan.behaviour, &mut self.tally);
        self.in_flight = self.in_flight + client.in_flight() - in_flight;
        let after = client.phase;
        if matches!(before, Phase::Connecting { .. }) && after != before {
            self.connecting -= 1;
        }
        if after == Phase::Running && before != Phase::Running {
            self.ready += 1;
        }
        taken?;
        if after == Phase::Running && self.plan.connections.is_some() {
            self.hang_up(index);
            self.to_open.push_back(index);
        }
        Ok(())
    }

    /// Writes what is left over and asks epoll for what is wanted next.
    fn flush(&mut self, index: usize) -> Result<(), End> {
        let line = &mut self.lines[index];
        let Some(stream) = &mut line.stream else { return Ok(()) };
        if !line.client.out.is_empty() {
            let sent = write(stream, &line.client.out)?;
            line.client.out.drain(..sent);
            line.client.written_ns = self.orders.now_ns();
        }
        let interest = if line.client.out.is_empty() { sys::IN } else { sys::IN | sys::OUT };
        if interest != line.interest {
            line.interest = interest;
            self.epoll.modify(stream, interest, index).map_err(socket_error)?;
        }
        Ok(())
    }

    /// Publishes what is due; tells how long until the next burst is.
    fn publish_due(&mut self) -> Duration {
        let start_ns = self.orders.start_ns.load(Ordering::Acquire);
        if start_ns == 0 || self.lines.is_empty() || self.is_done() {
            return LOOK_EVERY;
        }
        let now_ns = self.orders.now_ns();
        if now_ns >= start_ns + self.plan.publish_ns_max() {
            self.gauges.done_sending.store(true, Ordering::Release);
            return LOOK_EVERY;
        }
        if self.plan.bursts_per_second == 0.0 { self.pass_round() } else { self.follow_schedule() }
    }

    fn is_done(&self) -> bool {
        self.gauges.done_sending.load(Ordering::Relaxed)
    }

    /// Flat out: a burst of every client that can.
    fn pass_round(&mut self) -> Duration {
        let before = self.tally.sent;
        let mut left = false;
        for index in 0..self.lines.len() {
            left |= self.burst_number(index, self.lines[index].client.bursts)
                < self.plan.bursts_max
                && self.lines[index].client.phase != Phase::Closed;
            if let Err(end) = self.publish_line(index) {
                self.end(index, end);
            }
        }
        if !left {
            self.gauges.done_sending.store(true, Ordering::Release);
        }
        if self.tally.sent > before { Duration::ZERO } else { LOOK_EVERY }
    }

    /// On schedule: the clients whose turn has come.
    fn follow_schedule(&mut self) -> Duration {
        for _ in 0..TURN_BURSTS_MAX {
            let number = self.burst_number(self.cursor, self.round);
            if number >= self.plan.bursts_max {
                if self.lines.iter().all(|line| self.is_finished(line)) {
                    self.gauges.done_sending.store(true, Ordering::Release);
                }
                return LOOK_EVERY;
            }
            let (due_ns, now_ns) = (self.due_ns(number), self.orders.now_ns());
            if due_ns > now_ns {
                return Duration::from_nanos(due_ns - now_ns);
            }
            let index = self.cursor;
            self.cursor += 1;
            if self.cursor == self.lines.len() {
                self.cursor = 0;
                self.round += 1;
            }
            if let Err(end) = self.publish_line(index) {
                self.end(index, end);
            }
        }
        Duration::ZERO
    }

    fn is_finished(&self, line: &Line) -> bool {
        line.client.phase == Phase::Closed
            || line.client.bursts * self.plan.clients + line.index >= self.plan.bursts_max
    }

    /// The place of a line's burst in the order of all bursts.
    fn burst_number(&self, index: usize, burst: u64) -> u64 {
        burst * self.plan.clients + self.lines[index].index
    }

    fn due_ns(&self, number: u64) -> u64 {
        let start_ns = self.orders.start_ns.load(Ordering::Acquire);
        start_ns + (number as f64 / self.plan.bursts_per_second * SECOND_NS as f64) as u64
    }

    /// Writes the bursts of one line that are due: all on schedule, or one flat out.
    fn publish_line(&mut self, index: usize) -> Result<(), End> {
        let start_ns = self.orders.start_ns.load(Ordering::Acquire);
        if start_ns == 0 || self.is_done() {
            return Ok(());
        }
        loop {
            let line = &self.lines[index];
            let number = line.client.bursts * self.plan.clients + line.index;
            if number >= self.plan.bursts_max || !line.client.may_publish(&self.plan.behaviour) {
                return Ok(());
            }
            let now_ns = self.orders.now_ns();
            let flat_out = self.plan.bursts_per_second == 0.0;
            let due_ns = if flat_out { now_ns } else { self.due_ns(number) };
            if due_ns > now_ns {
                return Ok(());
            }
            self.tally.behind_ns_max = self.tally.behind_ns_max.max(now_ns - due_ns);
            self.write_burst(index, due_ns, now_ns)?;
            if flat_out {
                return Ok(());
            }
        }
    }

    fn write_burst(&mut self, index: usize, due_ns: u64, now_ns: u64) -> Result<(), End> {
        let line = &mut self.lines[index];
        let Some(stream) = &mut line.stream else { return Ok(()) };
        self.batch.clear();
        let in_flight = line.client.in_flight();
        line.client.publish(due_ns, &self.plan.behaviour, &mut self.batch);
        self.in_flight = self.in_flight + line.client.in_flight() - in_flight;
        let sent = write(stream, &self.batch)?;
        line.client.written_ns = now_ns;
        self.tally.sent += self.plan.behaviour.burst;
        self.tally.sent_bytes += self.batch.len() as u64;
        if sent < self.batch.len() {
            line.client.out.extend_from_slice(&self.batch[sent..]);
            return self.flush(index);
        }
        Ok(())
    }

    /// PINGREQ where nothing was written for half the keep-alive.
    fn keep_alive(&mut self, now_ns: u64) {
        let half_ns = u64::from(self.plan.keep_alive_s) * SECOND_NS / 2;
        if half_ns == 0 {
            return;
        }
        for index in 0..self.lines.len() {
            let client = &mut self.lines[index].client;
            if client.phase != Phase::Running || now_ns.saturating_sub(client.written_ns) < half_ns
            {
                continue;
            }
            client.out.extend_from_slice(packet::PINGREQ);
            if let Err(end) = self.flush(index) {
                self.end(index, end);
            }
        }
    }

    /// Ends a connection in order.
    fn hang_up(&mut self, index: usize) {
        let line = &mut self.lines[index];
        if line.client.phase == Phase::Running {
            self.ready -= 1;
            if let Some(stream) = &mut line.stream {
                // nobody is interested any more whether it arrives
                let _ = stream.write(packet::DISCONNECT);
            }
        }
        line.stream = None;
        line.client.reset();
    }

    /// Counts a connection that ended against our will.
    fn end(&mut self, index: usize, end: End) {
        let line = &mut self.lines[index];
        match line.client.phase {
            Phase::Closed => return,
            Phase::Connecting { .. } => {
                self.connecting -= 1;
                self.tally.failed += 1;
            }
            Phase::Subscribing => self.tally.lost += 1,
            Phase::Running => {
                self.ready -= 1;
                self.tally.lost += 1;
            }
        }
        self.in_flight -= line.client.in_flight();
        self.tally.add_reason(end.to_string());
        line.stream = None;
        line.client.reset();
    }
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, End> {
    match stream.write(bytes) {
        Ok(sent) => Ok(sent),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(socket_error(error)),
    }
}

fn socket_error(error: io::Error) -> End {
    End::Socket(error.to_string())
}
