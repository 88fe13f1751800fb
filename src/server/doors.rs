//! The listening sockets: opened, or taken over from systemd, and given to the shards.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Listener, ListenerKind, Settings};
use crate::rt::listener::{self, UnixFile};
use crate::shard::{Door, ListenerPlan, Seats, Speaks};
use crate::transport::websocket;

/// Every listening socket.
pub(super) struct Doors {
    /// Of each shard.
    pub of_shards: Vec<Vec<Door>>,
    /// What listens, for the log.
    pub addresses: Vec<String>,
    /// Unix sockets in the file system.
    pub files: UnixFiles,
}

/// Unix sockets in the file system, removed with this.
#[derive(Default)]
pub(super) struct UnixFiles {
    _files: Vec<UnixFile>,
}

/// A socket that systemd has passed on, by the name of its listener.
struct Passed {
    name: String,
    socket: OwnedFd,
}

/// Opens what the settings say, a set of doors for each shard.
///
/// # Errors
/// What is in the way, in words for the operator.
pub(super) fn open(settings: &Settings, shards: usize) -> Result<Doors, String> {
    let listeners = settings.listeners();
    let mut passed = passed(&listeners)?;
    let backlog = i32::try_from(settings.ringgate.listen.backlog).unwrap_or(i32::MAX);
    let mut opening = Opening { shards, backlog, doors: Vec::new(), shown: Vec::new() };
    opening.doors.resize_with(shards, Vec::new);
    // All are probed before the first is opened: with SO_REUSEPORT a shard's own sockets would be
    // in the way of the next one's probe.
    for listener in listeners.iter().filter(|l| l.unix_socket.is_none() && !is_passed(l, &passed)) {
        for address in addresses(listener) {
            listener::probe(address).map_err(|error| in_the_way(address, listener, &error))?;
        }
    }
    let mut files = Vec::new();
    for (number, listener) in (0u16..).zip(&listeners) {
        if is_passed(listener, &passed) {
            for Passed { socket, .. } in passed.extract_if(.., |one| one.name == listener.name) {
                opening.take_over(number, listener, socket)?;
            }
        } else if let Some(path) = &listener.unix_socket {
            files.push(opening.open_unix(number, listener, path)?);
        } else {
            opening.open_tcp(number, listener)?;
        }
    }
    let Opening { doors, shown, .. } = opening;
    Ok(Doors { of_shards: doors, addresses: shown, files: UnixFiles { _files: files } })
}

/// The sockets that systemd passes on, each for a listener of its name.
fn passed(listeners: &[Listener]) -> Result<Vec<Passed>, String> {
    let sockets = sd_listen_fds::get()
        .map_err(|error| format!("the sockets that systemd passes on cannot be had: {error}"))?;
    let name = |(name, socket): (Option<String>, sd_listen_fds::OwnedFd)| {
        let name = name.unwrap_or_default();
        if listeners.iter().any(|listener| listener.name == name) {
            return Ok(Passed { name, socket: socket.into_std() });
        }
        let known: Vec<&str> = listeners.iter().map(|listener| &*listener.name).collect();
        Err(format!(
            "systemd passes on a socket called {name:?}, and no listener is called so: there are \
             {}; set FileDescriptorName= in its unit",
            known.join(", ")
        ))
    };
    sockets.into_iter().map(name).collect()
}

fn is_passed(listener: &Listener, passed: &[Passed]) -> bool {
    passed.iter().any(|one| one.name == listener.name)
}

fn addresses(listener: &Listener) -> impl Iterator<Item = SocketAddr> {
    listener.addresses.iter().map(|ip| SocketAddr::new(*ip, listener.port))
}

fn in_the_way(address: SocketAddr, listener: &Listener, error: &io::Error) -> String {
    format!(
        "cannot listen on {address} for devices: {error}; stop what listens there, or change {} \
         or the addresses of that listener",
        listener.port_key
    )
}

struct Opening {
    shards: usize,
    backlog: i32,
    doors: Vec<Vec<Door>>,
    shown: Vec<String>,
}

impl Opening {
    /// A socket of each shard's own on every address: the kernel spreads connections over them.
    fn open_tcp(&mut self, number: u16, listener: &Listener) -> Result<(), String> {
        for address in addresses(listener) {
            for doors in &mut self.doors {
                let socket = listener::listen(address, self.backlog)
                    .map_err(|error| in_the_way(address, listener, &error))?;
                doors.push(Door { socket: socket.into(), listener: number });
            }
            self.shown.push(format!("{}://{address}", listener.kind.as_str()));
        }
        Ok(())
    }

    /// One socket that all shards accept from.
    fn open_unix(
        &mut self,
        number: u16,
        listener: &Listener,
        path: &Path,
    ) -> Result<UnixFile, String> {
        let shown = path.display();
        let explain = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "make its folder",
                io::ErrorKind::PermissionDenied => "let this user write into its folder",
                _ => "stop what listens there, or remove what else is there",
            };
            format!(
                "cannot listen on {shown} for devices: {error}; {remedy}, or change \
                 ringgate.listeners.{}.unix-socket",
                listener.name
            )
        };
        let (socket, file) = listener::listen_unix(path, self.backlog).map_err(explain)?;
        self.share(number, &socket).map_err(explain)?;
        self.shown.push(format!("{}+unix:{shown}", listener.kind.as_str()));
        Ok(file)
    }

    /// A socket that systemd listens on already.
    fn take_over(
        &mut self,
        number: u16,
        listener: &Listener,
        socket: OwnedFd,
    ) -> Result<(), String> {
        let explain = |error: io::Error| {
            let name = &listener.name;
            format!("the socket {name} that systemd passes on cannot be used: {error}")
        };
        let address = listener::adopt(&socket).map_err(explain)?;
        self.share(number, &socket).map_err(explain)?;
        self.shown.push(format!("{}://{address} (of systemd)", listener.kind.as_str()));
        Ok(())
    }

    fn share(&mut self, number: u16, socket: &OwnedFd) -> io::Result<()> {
        debug_assert_eq!(self.shards, self.doors.len());
        for doors in &mut self.doors {
            doors.push(Door { socket: socket.try_clone()?, listener: number });
        }
        Ok(())
    }
}

/// What holds at each listener, for all shards together.
pub(super) fn plans(settings: &Settings) -> Vec<ListenerPlan> {
    let profiles = settings.tls_profiles();
    let config::WebSocket { path, origins, frame_bytes_max } = &settings.ringgate.websocket;
    let rules = Arc::new(websocket::Rules {
        path: path.clone(),
        origins: origins.clone(),
        frame_bytes_max: *frame_bytes_max as u64,
    });
    let plan = |listener: Listener| {
        let of_name = |name: String| profiles.iter().position(|profile| profile.name == name);
        let speaks = match listener.kind {
            ListenerKind::Mqtt | ListenerKind::Mqtts => Speaks::Mqtt,
            ListenerKind::Ws | ListenerKind::Wss => Speaks::WebSocket(rules.clone()),
            ListenerKind::Http | ListenerKind::Https => Speaks::Http,
        };
        // The settings have been checked: there is a profile exactly where TLS is spoken, and they
        // are no more than listeners.
        let tls = listener.tls.and_then(of_name).map(|number| number as u16);
        ListenerPlan {
            tls,
            speaks,
            seats: Seats::new(listener.connections_max),
            proxies: listener.proxy_protocol_from,
        }
    };
    settings.listeners().into_iter().map(plan).collect()
}
