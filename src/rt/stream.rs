//! A TCP connection of a shard over monoio.
//!
//! Reads and writes take a buffer and give it back with the result, because the kernel owns it in
//! between. Their futures must run to the end: what a dropped read had received is lost. To give a
//! connection up, [`Closer::shutdown`] ends the pending operations, which then complete and return
//! their buffers.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// The receiving side of a connection.
#[derive(Debug)]
pub struct ReadHalf(OwnedReadHalf<TcpStream>);

/// The sending side of a connection.
#[derive(Debug)]
pub struct WriteHalf(OwnedWriteHalf<TcpStream>);

/// Ends a connection from outside the tasks that read and write it.
#[derive(Clone, Debug)]
pub struct Closer(Rc<Socket>);

/// A socket on its way to be connected.
#[derive(Debug)]
pub struct Dialing {
    socket: Socket,
    closer: Closer,
    to: SocketAddr,
}

impl Dialing {
    /// A socket for a connection to `to`, without Nagle's delay. Nothing is sent yet, but the
    /// attempt can already be ended by its [`closer`](Self::closer).
    ///
    /// # Errors
    /// What the kernel says, for instance that descriptors have run out.
    pub fn new(to: SocketAddr) -> io::Result<Dialing> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        let closer = Closer(Rc::new(socket.try_clone()?));
        Ok(Dialing { socket, closer, to })
    }

    /// Ends the attempt, and the connection that comes of it.
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Connects.
    ///
    /// # Errors
    /// What the kernel says; after [`Closer::shutdown`] some error.
    ///
    /// # Panics
    /// Outside a runtime.
    pub async fn connect(self) -> io::Result<(ReadHalf, WriteHalf)> {
        let must_wait = match self.socket.connect(&self.to.into()) {
            Ok(()) => false,
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
            Err(error) => return Err(error),
        };
        let stream = TcpStream::from_std(self.socket.into())?;
        if must_wait {
            stream.writable(false).await?;
            if let Some(error) = self.closer.0.take_error()? {
                return Err(error);
            }
            // A connection shut down before it stood is writable and has no error.
            self.closer.0.peer_addr()?;
        }
        // io_uring answers EAGAIN on a descriptor set non-blocking instead of waiting.
        self.closer.0.set_nonblocking(false)?;
        let (read, write) = stream.into_split();
        Ok((ReadHalf(read), WriteHalf(write)))
    }
}

impl Closer {
    /// Ends the connection in both directions: a pending read gives what came and then the end, a
    /// pending write or connect fails. Calling it again does nothing.
    pub fn shutdown(&self) {
        // It may be unconnected or gone already; either way it is ended.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl ReadHalf {
    /// Reads once into the free capacity of `buffer`, behind its content; 0 is the end of the
    /// stream. The buffer must have free capacity.
    pub async fn read(&mut self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (begin, end) = (buffer.len(), buffer.capacity());
        let (result, slice) = self.0.read(buffer.slice_mut(begin..end)).await;
        (result, slice.into_inner())
    }
}

impl WriteHalf {
    /// Writes all of `buffer`.
    pub async fn write_all(&mut self, buffer: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let (result, buffer) = self.0.write_all(buffer).await;
        (result.map(drop), buffer)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream as PlainStream};
    use std::time::Duration;

    use super::*;
    use crate::rt::runtime;
    use crate::rt::task::{sleep, spawn};

    fn run<F: Future>(main: impl FnOnce() -> F) -> F::Output {
        runtime::run(None, main).expect("a runtime")
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    /// A connection with a blocking peer.
    pub(crate) async fn connected() -> ((ReadHalf, WriteHalf, Closer), PlainStream) {
        let (listener, address) = listener();
        let dialing = Dialing::new(address).expect("a socket");
        let closer = dialing.closer();
        let (read, write) = dialing.connect().await.expect("a connection");
        let (peer, _) = listener.accept().expect("its peer");
        ((read, write, closer), peer)
    }

    #[test]
    fn reads_behind_what_the_buffer_holds_and_waits_for_data() {
        run(async || {
            let ((mut read, _write, _closer), mut peer) = connected().await;
            let mut buffer = Vec::with_capacity(16);
            buffer.extend_from_slice(b"ab");
            let pending = spawn(async move {
                let (result, buffer) = read.read(buffer).await;
                (result, buffer, read)
            });
            sleep(Duration::from_millis(5)).await;
            peer.write_all(b"cd").expect("the peer writes");
            drop(peer);
            let (result, buffer, mut read) = pending.await;
            assert_eq!((result.expect("a read"), &buffer[..]), (2, &b"abcd"[..]));
            let (result, buffer) = read.read(buffer).await;
            assert_eq!((result.expect("the end"), &buffer[..]), (0, &b"abcd"[..]));
        });
    }

    #[test]
    fn shutdown_ends_a_pending_read_which_returns_its_buffer() {
        // Dropping the read instead would lose what it had received (monoio 0.2.4).
        run(async || {
            let ((mut read, _write, closer), _peer) = connected().await;
            let mut buffer = Vec::with_capacity(16);
            buffer.extend_from_slice(b"kept");
            let pending = spawn(async move { read.read(buffer).await });
            sleep(Duration::from_millis(5)).await;
            closer.shutdown();
            closer.shutdown();
            let (result, buffer) = pending.await;
            assert_eq!((result.expect("the end"), &buffer[..]), (0, &b"kept"[..]));
        });
    }

    #[test]
    fn shutdown_ends_a_pending_write_which_returns_its_buffer() {
        run(async || {
            let ((_read, mut write, closer), _peer) = connected().await;
            // The peer reads nothing, so this is more than the kernel takes.
            let large = vec![1; 64 * 1024 * 1024];
            let pending = spawn(async move { write.write_all(large).await });
            sleep(Duration::from_millis(50)).await;
            closer.shutdown();
            let (result, buffer) = pending.await;
            assert!(result.is_err());
            assert_eq!(buffer.len(), 64 * 1024 * 1024);
        });
    }

    #[test]
    fn writes_all_of_a_buffer_that_the_kernel_takes_in_pieces() {
        run(async || {
            let ((_read, mut write, closer), mut peer) = connected().await;
            let reader = std::thread::spawn(move || {
                let mut bytes = Vec::new();
                peer.read_to_end(&mut bytes).expect("the peer reads");
                bytes
            });
            let large: Vec<u8> = (0..8_000_000_u32).map(|index| index as u8).collect();
            let (result, large) = write.write_all(large).await;
            result.expect("a write");
            closer.shutdown();
            assert!(reader.join().expect("the peer ends well") == large);
        });
    }

    #[test]
    fn says_that_a_connection_is_refused() {
        run(async || {
            let (listener, address) = listener();
            drop(listener);
            let error = Dialing::new(address).expect("a socket").connect().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn shutdown_ends_an_attempt_that_gets_no_answer() {
        run(async || {
            // With its queue of one full, the listener leaves further attempts unanswered.
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let any_port: SocketAddr = "127.0.0.1:0".parse().expect("an address");
            listener.bind(&any_port.into()).expect("a port is free");
            listener.listen(0).expect("it listens");
            let address = listener.local_addr().ok().and_then(|address| address.as_socket());
            let address = address.expect("an address");
            let mut pending = Vec::new();
            for _ in 0..8 {
                let dialing = Dialing::new(address).expect("a socket");
                let closer = dialing.closer();
                pending.push((closer, spawn(async move { dialing.connect().await.is_err() })));
            }
            sleep(Duration::from_millis(20)).await;
            let mut ended = 0;
            for (closer, task) in pending {
                closer.shutdown();
                ended += u32::from(task.await);
            }
            assert!(ended > 0, "every attempt was answered");
        });
    }

    #[test]
    fn dropping_all_parts_closes_the_connection() {
        run(async || {
            let (parts, mut peer) = connected().await;
            drop(parts);
            let reader = std::thread::spawn(move || peer.read(&mut [0; 8]).ok());
            while !reader.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(reader.join().expect("the peer ends well"), Some(0));
        });
    }
}
