//! A TCP relay between the gateway and NATS that a test can cut and hold shut.
//!
//! With it a test decides when the gateway may come back after a NATS restart: not before the
//! extension service has subscribed again, as core NATS forgets a message nobody listens to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::ports::Port;

pub struct Proxy {
    shared: Arc<Shared>,
    port: Port,
}

struct Shared {
    target: SocketAddr,
    open: AtomicBool,
    ended: AtomicBool,
    /// Both ends of every connection relayed at present.
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        let port = Port::reserve();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number)).expect("a listener");
        let shared = Arc::new(Shared {
            target,
            open: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            streams: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept_all(&listener, &accepting));
        Self { shared, port }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number)
    }

    /// Cuts every connection; new ones are let in at once.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().expect("no holder panics").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts every connection and lets none in until [`Proxy::open`].
    pub fn shut(&self) {
        self.shared.open.store(false, Ordering::SeqCst);
        self.cut();
    }

    pub fn open(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shut();
        // The accepting thread looks at `ended` after each connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.number));
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        let mut streams = shared.streams.lock().expect("no holder panics");
        if !shared.open.load(Ordering::SeqCst) {
            continue;
        }
        let Ok(server) = TcpStream::connect(shared.target) else { continue };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        for (from, to) in [(&client, &server), (&server, &client)] {
            let from = from.try_clone().expect("a second handle");
            let to = to.try_clone().expect("a second handle");
            std::thread::spawn(move || relay(from, to));
        }
        streams.extend([client, server]);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
