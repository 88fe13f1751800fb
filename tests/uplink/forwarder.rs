//! A TCP forwarder that a test can cut, close and freeze.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    streams: Mutex<Vec<TcpStream>>,
    is_shut: AtomicBool,
    is_frozen: AtomicBool,
    is_over: AtomicBool,
    accepted: AtomicU32,
}

/// Forwards connections on its port to another one.
pub struct Forwarder {
    state: Arc<State>,
    pub port: u16,
}

impl Forwarder {
    pub fn start(to: u16) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if let Ok(stream) = stream {
                    forward(stream, to, &shared);
                }
            }
        });
        Forwarder { state, port }
    }

    /// Breaks every connection.
    pub fn cut(&self) {
        for stream in self.state.streams.lock().expect("no panic inside").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on connections are ended as soon as they are made, or no more.
    pub fn shut(&self, is_shut: bool) {
        self.state.is_shut.store(is_shut, Ordering::SeqCst);
    }

    /// From now on what comes is swallowed, on old and new connections, or no more.
    pub fn freeze(&self, is_frozen: bool) {
        self.state.is_frozen.store(is_frozen, Ordering::SeqCst);
    }

    /// Connections made so far.
    pub fn accepted(&self) -> u32 {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn forward(client: TcpStream, to: u16, state: &Arc<State>) {
    if state.is_shut.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let clone = |stream: &TcpStream| stream.try_clone().expect("descriptors are left");
    let mut streams = state.streams.lock().expect("no panic inside");
    streams.extend([clone(&client), clone(&server)]);
    for (from, into) in [(clone(&client), clone(&server)), (server, client)] {
        let state = state.clone();
        std::thread::spawn(move || copy(from, into, &state));
    }
}

fn copy(mut from: TcpStream, mut into: TcpStream, state: &State) {
    // Small and odd, so that frames are torn in many ways.
    let mut buffer = [0; 1_021];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !state.is_frozen.load(Ordering::SeqCst) && into.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = into.shutdown(Shutdown::Both);
}
