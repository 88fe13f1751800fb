//! What a shard's thread asks of the heap: nothing per message, little per connection.
//!
//! A real shard runs in this process between clients on loopback and a small NATS server, and an
//! allocator counts what the shard's thread does. Nothing here depends on time.

mod allocator;
mod gateway;
mod nats;

use std::sync::{Mutex, MutexGuard, PoisonError};

use allocator::{Counting, Counts};
use gateway::{Client, Gateway, publish, until};
use nats::Nats;
use ringgate::shard::connection::Connection;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One thread is counted at a time.
static TURN: Mutex<()> = Mutex::new(());

const CLIENTS: usize = 2;
const MESSAGES: usize = 20_000;
/// Phases of [`MESSAGES`] messages in which queues and buffers may still grow to the size that a
/// shape of traffic needs. They are bounded, so a phase without any allocation must come.
const PHASES_MAX: usize = 30;

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a phase publishes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    is_acknowledged: bool,
    has_request_id: bool,
    /// Packets handed to the kernel in one write.
    packets_per_write: usize,
}

const fn shape(name: &'static str, qos: u8, has_request_id: bool, packets: usize) -> Shape {
    Shape { name, is_acknowledged: qos == 1, has_request_id, packets_per_write: packets }
}

const SHAPES: [Shape; 8] = [
    shape("QoS 0, bursts", 0, false, 50),
    shape("QoS 0, bursts, request ids", 0, true, 50),
    shape("QoS 0, one per write", 0, false, 1),
    shape("QoS 0, one per write, request ids", 0, true, 1),
    shape("QoS 1, bursts", 1, false, 50),
    shape("QoS 1, bursts, request ids", 1, true, 50),
    shape("QoS 1, one per write", 1, false, 1),
    shape("QoS 1, one per write, request ids", 1, true, 1),
];

/// Messages each client sends before it waits for the end of all of them.
const WINDOW: usize = 50;

struct Bench {
    nats: Nats,
    gateway: Gateway,
    clients: Vec<Client>,
}

impl Bench {
    fn start() -> Self {
        let nats = Nats::start();
        let gateway = Gateway::start(&nats);
        let connect = |n| Client::connect(gateway.address, &format!("client-{n}"));
        let clients = (0..CLIENTS).map(connect).collect();
        Self { nats, gateway, clients }
    }

    /// Publishes `messages` in one shape and waits for their end. With `answer` every one of them
    /// is answered, which the client reads (and acknowledges).
    fn publish(&mut self, shape: Shape, messages: usize, answer: bool) {
        self.nats.answer(answer);
        let mut expected = self.nats.published();
        for round in 0..messages.div_ceil(CLIENTS * WINDOW) {
            for (number, client) in self.clients.iter_mut().enumerate() {
                let packets: Vec<Vec<u8>> = (0..WINDOW)
                    .map(|n| {
                        let id = shape.is_acknowledged.then_some(n as u16 + 1);
                        let mut topic = format!("kp1/app-v1/dcx/token-{number}/json");
                        if shape.has_request_id {
                            topic += &format!("/{}", round * WINDOW + n);
                        }
                        publish(&topic, id, &[b'7'; 128])
                    })
                    .collect();
                for burst in packets.chunks(shape.packets_per_write) {
                    client.write(&burst.concat());
                }
            }
            expected += (CLIENTS * WINDOW) as u64;
            for client in &mut self.clients {
                let acknowledgements = if shape.is_acknowledged { WINDOW } else { 0 };
                let answers = if answer { WINDOW } else { 0 };
                read_all(client, acknowledgements, answers);
            }
            until("all is published", || self.nats.published() == expected);
        }
    }

    /// Publishes [`MESSAGES`] messages; how often the shard's thread allocated meanwhile.
    fn phase(&mut self, shape: Shape, answer: bool) -> u64 {
        let before = Counts::now();
        self.publish(shape, MESSAGES, answer);
        Counts::since(before).allocations
    }

    /// Asserts that a whole phase passes without an allocation.
    fn expect_a_phase_without_allocation(&mut self, shape: Shape, answer: bool) {
        let mut phases = Vec::new();
        while phases.last() != Some(&0) && phases.len() < PHASES_MAX {
            phases.push(self.phase(shape, answer));
        }
        println!("{}: {phases:?} allocations in phases of {MESSAGES} messages", shape.name);
        assert_eq!(phases.last(), Some(&0), "{}", shape.name);
    }

    fn stop(self) {
        drop(self.clients);
        self.gateway.stop();
    }
}

/// Reads that many PUBACK and PUBLISH packets, and acknowledges the latter where it is due.
fn read_all(client: &mut Client, mut acknowledgements: usize, mut answers: usize) {
    while acknowledgements + answers > 0 {
        let (first, body) = client.read_packet();
        match first {
            0x40 => acknowledgements -= 1,
            0x30 => answers -= 1,
            0x32 => {
                answers -= 1;
                let topic_bytes = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let id = &body[2 + topic_bytes..4 + topic_bytes];
                client.write(&[0x40, 2, id[0], id[1]]);
            }
            other => panic!("not expected: {other:#x}"),
        }
    }
}

#[test]
fn publications_on_known_topics_allocate_nothing() {
    let _turn = my_turn();
    let mut bench = Bench::start();
    for shape in SHAPES {
        bench.expect_a_phase_without_allocation(shape, false);
    }
    bench.stop();
}

#[test]
fn answers_of_qos_0_allocate_nothing_and_those_of_qos_1_only_the_copy_kept() {
    let _turn = my_turn();
    let mut bench = Bench::start();
    bench.expect_a_phase_without_allocation(shape("QoS 0 answered, bursts", 0, true, 50), true);
    bench.expect_a_phase_without_allocation(shape("QoS 0 answered, singly", 0, true, 1), true);
    let acknowledged = shape("QoS 1 answered, bursts", 1, true, 50);
    bench.phase(acknowledged, true);
    let allocations = bench.phase(acknowledged, true);
    println!("{}: {allocations} allocations for {MESSAGES} messages", acknowledged.name);
    // Topic and payload are kept until the client has acknowledged them; the tables that hold them
    // come and go with the exchanges.
    assert!(allocations >= 2 * MESSAGES as u64, "the allocator counts");
    assert!(allocations <= 3 * MESSAGES as u64, "{allocations}");
    bench.stop();
}

/// The entry of a connection in the table of them, whose room is reserved from the start.
const OWN_BYTES_MAX: usize = 272;
/// Heap of an idle connection besides that, its entry in the registry of client ids and its share
/// of every other table included. Both together are at most half a KiB (design).
const IDLE_BYTES_MAX: i64 = 512 - OWN_BYTES_MAX as i64;
/// As [`IDLE_BYTES_MAX`], of one that has spoken for an endpoint: its route and its resolved topic
/// come to it.
const SPOKEN_BYTES_MAX: i64 = 1536 - OWN_BYTES_MAX as i64;

#[test]
fn an_idle_connection_holds_little_and_gives_it_back() {
    const CONNECTIONS: usize = 1024;
    let _turn = my_turn();
    let nats = Nats::start();
    let gateway = Gateway::start(&nats);
    // What the shard needs for itself to carry that many messages is not what is measured.
    let warm = publish("kp1/app-v1/dcx/warm/json", None, b"{}").repeat(CONNECTIONS);
    for round in 1..=10 {
        Client::connect(gateway.address, "warm").write(&warm);
        until("all is published", || nats.published() == (round * CONNECTIONS) as u64);
    }
    let published = nats.published();
    let before = Counts::now();
    let held_bytes = |what: &str| {
        let held = Counts::since(before).held_bytes / CONNECTIONS as i64;
        println!("{held} bytes of heap per connection {what}, besides its own entry");
        held
    };
    let connect = |n| Client::connect(gateway.address, &format!("device-{n:08}"));
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(connect).collect();
    assert!(held_bytes("once connected") <= IDLE_BYTES_MAX);
    for client in &mut clients {
        client.write(&[0xc0, 0]);
        assert_eq!(client.read_packet(), (0xd0, Vec::new()));
    }
    assert!(held_bytes("after a PINGREQ") <= IDLE_BYTES_MAX);
    for (n, client) in clients.iter_mut().enumerate() {
        client.write(&publish(&format!("kp1/app-v1/dcx/token-{n:08}/json"), None, b"{}"));
    }
    let expected = published + CONNECTIONS as u64;
    until("all is published", || nats.published() == expected);
    let spoken_bytes = held_bytes("after a message of QoS 0");
    assert!(spoken_bytes <= SPOKEN_BYTES_MAX);
    drop(clients);
    until("all are gone", || gateway.counters.connections_open.get() == 0);
    // Tables keep their room for the next connections.
    assert!(held_bytes("when all are gone") <= spoken_bytes - IDLE_BYTES_MAX);
    let own_bytes = size_of::<Connection>();
    println!("{own_bytes} bytes are the connection itself");
    assert!(own_bytes <= OWN_BYTES_MAX);
    gateway.stop();
}
