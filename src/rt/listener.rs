//! Listening sockets: one per shard and address, spread by the kernel through `SO_REUSEPORT`; Unix
//! sockets and those that another process has opened are shared.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// Binds and listens on `address`. Accepted sockets inherit `TCP_NODELAY` from the listener, so no
/// connection pays a system call for it.
///
/// # Errors
/// The kernel's, unchanged: address in use, no permission for a port below 1024.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A Unix socket in the file system, removed with this unless another has taken its place.
#[derive(Debug)]
pub struct UnixFile {
    path: PathBuf,
    identity: FileIdentity,
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Otherwise it stays, and who listens there next removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device and number of a file, and when it was made: numbers are given again.
type FileIdentity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let file = std::fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Listens on a Unix socket. One that a process has left behind which is no more is replaced.
///
/// # Errors
/// The kernel's: somebody listens there, or there is something else of that name; no such folder.
pub fn listen_unix(path: &Path, backlog: i32) -> io::Result<(OwnedFd, UnixFile)> {
    let address = SockAddr::unix(path)?;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket {
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Who listens there and hangs must not make us hang.
        probe.set_nonblocking(true)?;
        match probe.connect(&address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address)?;
    let file = UnixFile { path: path.to_owned(), identity: identity(path)? };
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Makes a socket fit that another process has opened: checks that it is one of a listener, and
/// lets accepted ones send small packets at once. Returns the address it listens on.
///
/// # Errors
/// It is no listening socket.
pub fn adopt(socket: &OwnedFd) -> io::Result<String> {
    let socket = SockRef::from(socket);
    if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
        return Err(io::Error::other("it does not listen for streams"));
    }
    // Otherwise the ring would be told that nobody has come yet, instead of waiting.
    socket.set_nonblocking(false)?;
    let address = socket.local_addr()?;
    if let Some(path) = address.as_pathname() {
        return Ok(path.display().to_string());
    }
    if let Some(name) = address.as_abstract_namespace() {
        return Ok(format!("@{}", name.escape_ascii()));
    }
    socket.set_tcp_nodelay(true)?;
    Ok(address.as_socket().map_or_else(|| "unknown".to_owned(), |address| address.to_string()))
}

/// Fails when another process already listens on `address`, which `SO_REUSEPORT` would hide: two
/// gateways of one user would silently share the devices.
///
/// # Errors
/// As [`listen`].
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn the_kernel_spreads_connections_over_the_listeners_of_an_address() {
        const CONNECTIONS: usize = 400;
        let first = listen(any_port(), 1024).expect("listens");
        let address = first.local_addr().expect("an address");
        let listeners = [first, listen(address, 1024).expect("listens beside the first")];
        let connect = |_| TcpStream::connect(address).expect("connects");
        let _clients: Vec<TcpStream> = (0..CONNECTIONS).map(connect).collect();
        let accepted = listeners.map(|listener| {
            listener.set_nonblocking(true).expect("an option");
            std::iter::from_fn(|| listener.accept().ok()).count()
        });
        assert_eq!(accepted.iter().sum::<usize>(), CONNECTIONS);
        assert!(accepted.iter().all(|count| *count > CONNECTIONS / 4), "{accepted:?}");
    }

    #[test]
    fn accepted_sockets_do_not_wait_to_send_small_packets() {
        let listener = listen(any_port(), 16).expect("listens");
        let _client = TcpStream::connect(listener.local_addr().expect("an address"));
        assert!(listener.accept().expect("accepts").0.nodelay().expect("an option"));
    }

    #[test]
    fn a_unix_socket_is_replaced_only_when_nobody_listens_and_goes_with_its_owner() {
        let folder = std::env::temp_dir().join(format!("ringgate-unix-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("mqtt.sock");
        let kind = |path: &Path| listen_unix(path, 16).map(|_| ()).map_err(|error| error.kind());
        let (socket, file) = listen_unix(&path, 16).expect("listens");
        assert_eq!(kind(&path), Err(io::ErrorKind::AddrInUse));
        std::os::unix::net::UnixStream::connect(&path).expect("connects");
        assert_eq!(adopt(&socket).expect("listens"), path.display().to_string());
        drop(socket);
        let (_socket, successor) = listen_unix(&path, 16).expect("takes the place of a dead one");
        drop(file);
        assert!(path.exists(), "it is the successor's");
        drop(successor);
        assert!(!path.exists());
        std::fs::write(&path, "not a socket").expect("a file");
        assert_eq!(kind(&path), Err(io::ErrorKind::AddrInUse));
        assert_eq!(kind(&folder.join("none/mqtt.sock")), Err(io::ErrorKind::NotFound));
        std::fs::remove_dir_all(&folder).expect("removes");
    }

    #[test]
    fn an_owner_of_a_unix_socket_that_takes_nobody_is_an_owner() {
        let folder = std::env::temp_dir().join(format!("ringgate-full-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("mqtt.sock");
        let (_socket, _file) = listen_unix(&path, 0).expect("listens");
        let address = SockAddr::unix(&path).expect("a path");
        let fill = || {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("an option");
            client.connect(&address).ok().map(|()| client)
        };
        let _waiting: Vec<Socket> = std::iter::from_fn(fill).take(10).collect();
        // In a thread of its own: what hangs is seen to.
        let (sender, outcome) = std::sync::mpsc::channel();
        let taken = path.clone();
        std::thread::spawn(move || {
            let _ = sender.send(listen_unix(&taken, 16).map(|_| ()).map_err(|error| error.kind()));
        });
        let outcome = outcome.recv_timeout(Duration::from_secs(30)).expect("does not hang");
        assert_eq!(outcome, Err(io::ErrorKind::AddrInUse));
        std::fs::remove_dir_all(&folder).expect("removes");
    }

    #[test]
    fn a_socket_of_an_abstract_name_is_adopted_and_waits_for_clients() {
        let name = format!("\0ringgate-test-{}", std::process::id());
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        socket.bind(&SockAddr::unix(&name).expect("a name")).expect("binds");
        socket.listen(16).expect("listens");
        socket.set_nonblocking(true).expect("an option");
        let socket: OwnedFd = socket.into();
        assert_eq!(adopt(&socket).expect("listens"), format!("@{}", &name[1..]));
        assert!(!SockRef::from(&socket).nonblocking().expect("an option"));
    }

    #[test]
    fn only_what_listens_is_adopted() {
        let listening: OwnedFd = listen(any_port(), 16).expect("listens").into();
        assert!(adopt(&listening).expect("listens").starts_with("127.0.0.1:"));
        let quiet: OwnedFd =
            Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket").into();
        assert!(adopt(&quiet).is_err());
        let file: OwnedFd = std::fs::File::open("/dev/null").expect("is there").into();
        assert!(adopt(&file).is_err());
    }

    #[test]
    fn a_probe_finds_an_address_that_is_taken_although_it_could_be_shared() {
        let listener = listen(any_port(), 16).expect("listens");
        let address = listener.local_addr().expect("an address");
        assert_eq!(probe(address).map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
        drop(listener);
        assert!(probe(address).is_ok());
    }
}
