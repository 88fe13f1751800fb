//! Networks of source addresses.

use std::fmt;
use std::net::IpAddr;

/// Addresses that share their first bits, or all clients of Unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Those whose first `bits` are those of `address`.
    Ip {
        /// Any of them.
        address: IpAddr,
        /// Leading bits that count.
        bits: u8,
    },
    /// Who comes by a Unix socket, and has no address.
    Unix,
}

impl Network {
    /// Reads `10.0.0.0/8`, `::1`, or `unix`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let wrong = || format!("{text:?} is no network like 10.0.0.0/8, ::1 or unix");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits_max: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= bits_max).ok_or_else(wrong)?,
        };
        // An IPv4 network in the form of IPv6 is an IPv4 network: clients are told apart like that.
        let (address, bits) = match (address.to_canonical(), bits.checked_sub(96)) {
            (canonical @ IpAddr::V4(_), Some(bits)) if address.is_ipv6() => (canonical, bits),
            _ => (address, bits),
        };
        Ok(Self::Ip { address, bits })
    }

    /// Whether a client is of it; `None` is one of a Unix socket. An IPv4 address is in its own
    /// form, as `rt::socket::peer` has it.
    pub fn contains(&self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::Unix, None) => true,
            (Self::Ip { address, bits }, Some(client)) => {
                let (one, width) = number(*address);
                let (other, other_width) = number(client);
                let ignored = width - u32::from(*bits);
                // Of 128 bits none may be left, and no shift does that.
                let same = (one ^ other).checked_shr(ignored).unwrap_or(0) == 0;
                width == other_width && same
            }
            (Self::Unix, Some(_)) | (Self::Ip { .. }, None) => false,
        }
    }
}

/// An address as a number, and of how many bits.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Ip { address, bits } => write!(f, "{address}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_shares_its_first_bits() {
        let holds = |network: &str, client: &str| {
            let network = Network::parse(network).expect("a network");
            network.contains(client.parse().ok())
        };
        for (network, client, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.0", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("::1", "::1", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("unix", "a unix socket", true),
            ("unix", "::1", false),
            ("::/0", "a unix socket", false),
        ] {
            assert_eq!(holds(network, client), expected, "{client} in {network}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "/8"] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }
}
