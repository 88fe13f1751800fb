//! A run from the first connection to the report: the main thread's part.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Behaviour, Client};
use crate::options::{Common, Mode};
use crate::packet::{self, PublishTemplate};
use crate::process::{self, Usage};
use crate::report::Report;
use crate::tally::{Gauges, Tally};
use crate::worker::{Line, Orders, Plan, Worker};

/// Descriptors a process needs besides its clients'.
const DESCRIPTORS_SPARE: u64 = 32;
/// How often the main thread looks at the others.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Quiet time before memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);
/// A watched process that used less CPU than this in [`QUIET_FOR`] has caught up.
const QUIET_CPU_S: f64 = 0.011;
const QUIET_FOR: Duration = Duration::from_millis(100);
const QUIET_WAIT_MAX: Duration = Duration::from_secs(5);

/// Plays the clients of one mode and tells what came of it.
pub fn run(mode: &Mode) -> Result<Report, String> {
    let (plan, lines) = prepare(mode)?;
    let mut crowd = Crowd::start(Arc::new(plan), lines, mode.common())?;
    let mut report = Report::new(mode);
    crowd.connect(mode, &mut report)?;
    match mode {
        Mode::Pub(options) => crowd.publish(Duration::from_secs(options.drain), &mut report)?,
        Mode::Sub(options) => {
            let before = crowd.usage()?;
            let began = Instant::now();
            let limit = Duration::from_secs(options.duration);
            crowd.watch(|seen| {
                began.elapsed() >= limit || (options.count > 0 && seen.received >= options.count)
            });
            report.seconds = began.elapsed().as_secs_f64();
            report.cpu(before, crowd.usage()?);
        }
        Mode::Idle(options) => {
            let began = Instant::now();
            let before = crowd.usage()?;
            crowd.watch(|_| began.elapsed() >= Duration::from_secs(options.duration));
            report.seconds = began.elapsed().as_secs_f64();
            report.cpu(before, crowd.usage()?);
        }
        Mode::Conn(_) => {}
    }
    report.tally = crowd.finish()?;
    report.own_cpu_s = process::usage(std::process::id())?.cpu_s;
    Ok(report)
}

fn prepare(mode: &Mode) -> Result<(Plan, Vec<Line>), String> {
    let common = mode.common();
    check(common)?;
    let mut plan = Plan {
        address: common.address()?,
        behaviour: Behaviour {
            version: common.mqtt_version,
            qos: 0,
            burst: 1,
            window: 0,
            request_id: false,
        },
        clients: common.clients,
        threads: common.threads.min(common.clients),
        connect_rate: common.connect_rate,
        keep_alive_s: common.keep_alive,
        congestion_control: Some(common.congestion_control.clone()).filter(|name| name != "kernel"),
        send_buffer: common.send_buffer,
        bursts_per_second: 0.0,
        bursts_max: u64::MAX,
        duration_ns: 0,
        connections: None,
    };
    let mut payload = Vec::new();
    match mode {
        Mode::Pub(options) => {
            let window = options.window.max(options.burst);
            plan.behaviour.qos = options.qos;
            plan.behaviour.burst = options.burst;
            plan.behaviour.window = window;
            plan.behaviour.request_id = options.request_id;
            plan.bursts_per_second = options.rate as f64 / options.burst as f64;
            plan.duration_ns = Duration::from_secs(options.duration).as_nanos() as u64;
            if options.count > 0 {
                plan.bursts_max = options.count.div_ceil(options.burst);
            }
            if options.rate > 0 {
                let due = plan.bursts_per_second * options.duration as f64;
                plan.bursts_max = plan.bursts_max.min(due.ceil() as u64);
            }
            payload = match &options.payload_file {
                Some(path) => fs::read(path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?,
                None => vec![b'x'; options.payload_bytes as usize],
            };
        }
        Mode::Conn(options) => plan.connections = Some(options.count),
        Mode::Sub(_) | Mode::Idle(_) => {}
    }
    let lines = (0..common.clients).map(|index| line(mode, index, &payload));
    let lines = lines.collect::<Result<_, _>>()?;
    Ok((plan, lines))
}

fn check(common: &Common) -> Result<(), String> {
    let needed = common.clients + DESCRIPTORS_SPARE;
    match process::descriptors_max() {
        Some(max) if max < needed => Err(format!(
            "{} clients need {needed} descriptors, the limit is {max}: raise it (ulimit -n) or \
             play fewer",
            common.clients
        )),
        _ => Ok(()),
    }
}

fn line(mode: &Mode, index: u64, payload: &[u8]) -> Result<Line, String> {
    let common = mode.common();
    let names = mode.names(common.first_index + index);
    let check = |what: &str, text: &str| {
        // room for a request id behind a topic
        if text.len() > usize::from(u16::MAX) - 16 {
            Err(format!("{what} is too long for MQTT"))
        } else {
            Ok(())
        }
    };
    check("the client id", &names.client_id)?;
    check("the user name", names.username.as_deref().unwrap_or(""))?;
    check("the password", common.password.as_deref().unwrap_or(""))?;
    let version = common.mqtt_version;
    let (mut template, mut subscribe) = (None, None);
    match mode {
        Mode::Pub(options) => {
            let topic = names.fill(&options.topic);
            check("the topic", &topic)?;
            template = Some(PublishTemplate::new(
                version,
                &topic,
                payload,
                options.qos,
                options.request_id,
            ));
        }
        Mode::Sub(options) => {
            if let Some(filter) = &options.topic {
                let filter = names.fill(filter);
                check("the topic filter", &filter)?;
                subscribe = Some(packet::subscribe(version, &filter, options.qos));
            }
        }
        Mode::Idle(_) | Mode::Conn(_) => {}
    }
    let connect = packet::connect(version, &names, common.password.as_deref(), common.keep_alive);
    Ok(Line::new(index, connect, Client::new(template, subscribe)))
}

/// The counts of all threads at one moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    connected: u64,
    failed: u64,
    lost: u64,
    sent: u64,
    acknowledged: u64,
    answered: u64,
    received: u64,
    in_flight: u64,
    ready: u64,
    sending: u64,
}

/// All threads.
struct Crowd {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    gauges: Vec<Arc<Gauges>>,
    threads: Vec<JoinHandle<std::io::Result<Tally>>>,
    watch_pid: Option<u32>,
    connect_timeout: Duration,
    progress: bool,
    shown: Seen,
    shown_at: Instant,
}

impl Crowd {
    fn start(plan: Arc<Plan>, lines: Vec<Line>, common: &Common) -> Result<Self, String> {
        let orders = Arc::new(Orders {
            origin: Instant::now(),
            connect_limit: AtomicU64::new(0),
            start_ns: AtomicU64::new(0),
            finish: AtomicBool::new(false),
        });
        let mut shares: Vec<Vec<Line>> = (0..plan.threads).map(|_| Vec::new()).collect();
        for line in lines {
            shares[(line.index % plan.threads) as usize].push(line);
        }
        let (mut gauges, mut threads) = (Vec::new(), Vec::new());
        for share in shares {
            let gauge = Arc::new(Gauges::default());
            gauges.push(Arc::clone(&gauge));
            let worker = Worker::new(Arc::clone(&plan), Arc::clone(&orders), gauge, share)
                .map_err(|error| format!("epoll: {error}"))?;
            threads.push(thread::spawn(|| worker.run()));
        }
        Ok(Self {
            plan,
            orders,
            gauges,
            threads,
            watch_pid: common.watch_pid,
            connect_timeout: Duration::from_secs(common.connect_timeout),
            progress: !common.quiet,
            shown: Seen::default(),
            shown_at: Instant::now(),
        })
    }

    fn seen(&self) -> Seen {
        let mut all = Seen::default();
        for gauge in &self.gauges {
            let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
            all.connected += get(&gauge.connected);
            all.failed += get(&gauge.failed);
            all.lost += get(&gauge.lost);
            all.sent += get(&gauge.sent);
            all.acknowledged += get(&gauge.acknowledged);
            all.answered += get(&gauge.answered);
            all.received += get(&gauge.received);
            all.in_flight += get(&gauge.in_flight);
            all.ready += get(&gauge.ready);
            all.sending += u64::from(!gauge.done_sending.load(Ordering::Acquire));
        }
        all
    }

    /// Looks on, with a line a second on standard error, until `is_over` or all threads ended.
    fn watch(&mut self, is_over: impl Fn(&Seen) -> bool) {
        loop {
            let seen = self.seen();
            if is_over(&seen) || self.threads.iter().all(JoinHandle::is_finished) {
                return;
            }
            if self.progress && self.shown_at.elapsed() >= Duration::from_secs(1) {
                self.show(&seen);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn show(&mut self, seen: &Seen) {
        let elapsed = self.shown_at.elapsed().as_secs_f64();
        let rate = |now: u64, before: u64| (now - before) as f64 / elapsed;
        eprintln!(
            "{:4}s connected {} (+{:.0}/s) failed {} lost {} sent {} ({:.0}/s) acknowledged {} \
             answered {} received {} in flight {}",
            self.orders.origin.elapsed().as_secs(),
            seen.connected,
            rate(seen.connected, self.shown.connected),
            seen.failed,
            seen.lost,
            seen.sent,
            rate(seen.sent, self.shown.sent),
            seen.acknowledged,
            seen.answered,
            seen.received,
            seen.in_flight
        );
        self.shown = *seen;
        self.shown_at = Instant::now();
    }

    fn usage(&self) -> Result<Option<Usage>, String> {
        self.watch_pid.map(process::usage).transpose()
    }

    /// Connects everybody, in two steps where memory is to be measured between them.
    fn connect(&mut self, mode: &Mode, report: &mut Report) -> Result<(), String> {
        let before = self.usage()?;
        let began = Instant::now();
        if let Mode::Idle(options) = mode
            && let Some(from) = options.slope_from.filter(|from| *from < self.plan.clients)
        {
            self.connect_up_to(from)?;
            thread::sleep(SETTLE);
            let low = self.usage()?;
            self.connect_up_to(self.plan.clients)?;
            thread::sleep(SETTLE);
            report.slope(self.plan.clients - from, low, self.usage()?);
        } else {
            self.connect_up_to(self.plan.clients)?;
        }
        report.connect_seconds = began.elapsed().as_secs_f64();
        if let Mode::Conn(_) = mode {
            self.wait_until_quiet()?;
            report.cpu(before, self.usage()?);
        }
        Ok(())
    }

    fn connect_up_to(&mut self, limit: u64) -> Result<(), String> {
        self.orders.connect_limit.store(limit, Ordering::Release);
        let (holding, wanted) = match self.plan.connections {
            Some(connections) => (false, connections),
            None => (true, limit),
        };
        let deadline = Instant::now() + self.connect_timeout;
        self.watch(|seen| {
            let settled = if holding { seen.ready } else { seen.connected };
            settled + seen.failed + seen.lost >= wanted || Instant::now() >= deadline
        });
        let seen = self.seen();
        if seen.connected == 0 {
            self.orders.finish.store(true, Ordering::Release);
            let tally = self.join()?;
            return Err(match tally.reasons.first() {
                Some(reason) => format!("no client could connect: {reason}"),
                None => format!("no client was connected within {:?}", self.connect_timeout),
            });
        }
        Ok(())
    }

    fn publish(&mut self, drain: Duration, report: &mut Report) -> Result<(), String> {
        let before = self.usage()?;
        let start_ns = self.orders.now_ns();
        self.orders.start_ns.store(start_ns, Ordering::Release);
        self.watch(|seen| seen.sending == 0);
        report.seconds = (self.orders.now_ns() - start_ns) as f64 / 1e9;
        let deadline = Instant::now() + drain;
        self.watch(|seen| seen.in_flight == 0 || Instant::now() >= deadline);
        self.wait_until_quiet()?;
        report.cpu(before, self.usage()?);
        let seen = self.seen();
        report.in_flight = seen.in_flight;
        if self.plan.bursts_per_second > 0.0 {
            let due = self.plan.bursts_max * self.plan.behaviour.burst;
            report.unsent = due.saturating_sub(seen.sent);
        }
        Ok(())
    }

    /// Waits for a watched process to work off what lies in socket buffers.
    fn wait_until_quiet(&self) -> Result<(), String> {
        let deadline = Instant::now() + QUIET_WAIT_MAX;
        let Some(mut before) = self.usage()? else { return Ok(()) };
        while Instant::now() < deadline {
            thread::sleep(QUIET_FOR);
            let Some(after) = self.usage()? else { return Ok(()) };
            if after.cpu_s - before.cpu_s < QUIET_CPU_S {
                break;
            }
            before = after;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Tally, String> {
        self.orders.finish.store(true, Ordering::Release);
        self.join()
    }

    fn join(&mut self) -> Result<Tally, String> {
        let mut all = Tally::default();
        for thread in self.threads.drain(..) {
            let tally = thread.join().map_err(|_| "a thread panicked".to_owned())?;
            all.merge(tally.map_err(|error| format!("a thread failed: {error}"))?);
        }
        Ok(all)
    }
}
