//! Where a connection really comes from: what a proxy says of it that is believed.

use std::net::{IpAddr, SocketAddr};

use super::connection::{Connection, Entering, Life, Transport};
use super::core::Core;
use crate::rt::socket;
use crate::telemetry::CloseReason;
use crate::tls::PeerCertificate;
use crate::transport::proxy::{self, Header};

/// What a proxy has said of a connection.
#[derive(Debug)]
pub struct Origin {
    /// Who connected to the proxy; `None`: the proxy itself, whose address its socket has.
    address: Option<SocketAddr>,
    /// Whether TLS was spoken with the proxy.
    pub is_tls: bool,
}

impl Connection {
    /// The client's address, as far as it has one.
    pub fn address(&self) -> Option<SocketAddr> {
        let told = self.origin.as_ref().and_then(|origin| origin.address);
        told.or_else(|| socket::peer(&self.socket))
    }

    /// Whether a PROXY header is still to come, or to be ruled out.
    pub fn awaits_header(&self) -> bool {
        matches!(self.transport, Transport::Proxied { .. })
    }
}

impl Core {
    /// How a connection begins at a listener where proxies are believed: with what its proxy says,
    /// which must come first (`proxy-protocol.txt` §2), or from elsewhere without.
    pub(super) fn transport_at(
        &self,
        listener: u16,
        client: Option<IpAddr>,
        tls: Option<u16>,
    ) -> Transport {
        let proxies = &self.settings.listeners[usize::from(listener)].proxies;
        if !proxies.is_empty() {
            let is_believed = proxies.iter().any(|network| network.contains(client));
            return Transport::Proxied { is_believed, tls };
        }
        tls.map_or(Transport::Plain, Transport::Waiting)
    }

    /// The first bytes of a connection have come that a PROXY header may be among.
    pub(super) fn take_header(&mut self, index: u32, bytes: &mut [u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.life != Life::Open {
            return;
        }
        let Transport::Proxied { is_believed, tls } = connection.transport else { return };
        connection.heard_ms = self.now.ms;
        let mut pending = std::mem::take(&mut connection.pending);
        pending.extend_from_slice(bytes);
        if !is_believed {
            return match proxy::begins(&pending) {
                None => self.connections[index as usize].pending = pending,
                Some(false) => self.go_on(index, tls, pending, 0),
                Some(true) => self.header_failed(
                    index,
                    CloseReason::UnlistedProxy,
                    &"a PROXY header from an address that is not among proxy-protocol-from",
                ),
            };
        }
        match proxy::parse(&pending) {
            Ok(None) => self.connections[index as usize].pending = pending,
            Ok(Some((header, taken))) => {
                if self.believe(index, header) {
                    self.go_on(index, tls, pending, taken);
                }
            }
            Err(why) => self.header_failed(index, CloseReason::ProxyHeader, &why),
        }
    }

    /// Takes over what a proxy says; `false`: it cannot be.
    fn believe(&mut self, index: u32, header: Header) -> bool {
        let Header { source, tls } = header;
        if let Some(tls) = &tls {
            let (version, name) = (tls.version.as_deref(), tls.common_name.as_deref());
            tracing::debug!(
                shard = self.number,
                connection = index,
                tls = version.unwrap_or("?"),
                common_name = name.unwrap_or(""),
                "TLS was spoken with the proxy"
            );
        }
        let is_tls = tls.is_some();
        let certificate = tls.and_then(|tls| tls.certificate);
        let connection = &mut self.connections[index as usize];
        connection.origin = Some(Box::new(Origin { address: source, is_tls }));
        match certificate.map(|der| PeerCertificate::verified_elsewhere(&der)) {
            None => {}
            Some(Ok(certificate)) => {
                connection.entering = Some(Box::new(Entering::Presenting(certificate)));
            }
            Some(Err(why)) => {
                self.header_failed(index, CloseReason::ProxyHeader, &why);
                return false;
            }
        }
        true
    }

    /// The connection's own bytes begin after the first `taken` ones.
    fn go_on(&mut self, index: u32, tls: Option<u16>, mut bytes: Vec<u8>, taken: usize) {
        bytes.drain(..taken);
        let connection = &mut self.connections[index as usize];
        let Some(profile) = tls else {
            connection.transport = Transport::Plain;
            self.take_framed(index, &mut bytes);
            return self.pool.give(bytes);
        };
        connection.transport = Transport::Waiting(profile);
        self.begin_tls(index);
        if !bytes.is_empty() {
            self.take_ciphertext(index, &mut bytes);
        }
        self.pool.give(bytes);
    }

    fn header_failed(&mut self, index: u32, reason: CloseReason, why: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.log_door.allow(self.now.ms) {
            let (peer, shard) = (self.peer(index), self.number);
            tracing::warn!(shard, peer, %why, suppressed, "PROXY protocol with a client failed");
        }
        self.close(index, reason);
    }
}
