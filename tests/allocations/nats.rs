//! A NATS server just good enough for one shard: says INFO, answers PING, counts what is published,
//! and answers as an extension service would if told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ringgate::codec::avro::{ClientData, ExtensionData};

pub struct Nats {
    pub address: SocketAddr,
    published: Arc<AtomicU64>,
    answers: Arc<AtomicBool>,
}

impl Nats {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let nats = Self {
            address: listener.local_addr().expect("an address"),
            published: Arc::default(),
            answers: Arc::default(),
        };
        let (published, answers) = (nats.published.clone(), nats.answers.clone());
        thread::spawn(move || {
            let (socket, _) = listener.accept().expect("a shard connects");
            socket.set_nodelay(true).expect("an option");
            Server { socket, published, answers, out: Vec::new() }.serve();
        });
        nats
    }

    /// Messages published so far.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// From now on every message is answered with status 200.
    pub fn answer(&self, answers: bool) {
        self.answers.store(answers, Ordering::Relaxed);
    }
}

struct Server {
    socket: TcpStream,
    published: Arc<AtomicU64>,
    answers: Arc<AtomicBool>,
    out: Vec<u8>,
}

impl Server {
    fn serve(mut self) {
        let info = "INFO {\"server_id\":\"T\",\"version\":\"2.11.0\",\"max_payload\":1048576}\r\n";
        self.socket.write_all(info.as_bytes()).expect("writes");
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
        loop {
            match self.socket.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
            }
            let mut taken = 0;
            while let Some(count) = self.operation(&bytes[taken..]) {
                taken += count;
            }
            bytes.drain(..taken);
            if self.socket.write_all(&self.out).is_err() {
                return;
            }
            self.out.clear();
        }
    }

    /// Takes one whole operation from the front; how many bytes that was.
    fn operation(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[..end]).expect("the shard speaks UTF-8");
        if line == "PING" {
            self.out.extend_from_slice(b"PONG\r\n");
        }
        let Some(arguments) = line.strip_prefix("PUB ") else { return Some(end + 2) };
        let mut arguments = arguments.split(' ');
        let (reply, size) = (arguments.nth(1), arguments.next());
        let size: usize = size.and_then(|size| size.parse().ok()).expect("PUB with reply and size");
        let datum = bytes.get(end + 2..end + 2 + size)?;
        let whole = end + 2 + size + 2;
        if bytes.len() < whole {
            return None;
        }
        self.published.fetch_add(1, Ordering::Relaxed);
        if self.answers.load(Ordering::Relaxed) {
            self.answer(reply.expect("a reply subject"), datum);
        }
        Some(whole)
    }

    fn answer(&mut self, reply: &str, datum: &[u8]) {
        let asked = ClientData::decode(datum).expect("a ClientData");
        let mut answer = Vec::new();
        ExtensionData {
            correlation_id: asked.correlation_id,
            timestamp_ms: asked.timestamp_ms,
            timeout_ms: 0,
            app_version_name: Some(asked.app_version_name),
            extension_instance_name: Some("dcx"),
            endpoint_id: asked.endpoint_id,
            resource_path: asked.resource_path,
            request_id: asked.request_id,
            payload: Some(b"{}"),
            status_code: 200,
            reason_phrase: None,
        }
        .encode(&mut answer);
        write!(self.out, "MSG {reply} 1 {}\r\n", answer.len()).expect("writes to memory");
        self.out.extend_from_slice(&answer);
        self.out.extend_from_slice(b"\r\n");
    }
}
