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
