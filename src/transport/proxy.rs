//! The PROXY protocol, versions 1 and 2: what a proxy says of a connection before the connection's
//! own bytes (`doc/proxy-protocol.txt` of HAProxy).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a version 2 header begins with (§2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// What a version 1 header begins with (§2.1).
const WORD: &[u8] = b"PROXY ";
/// Bytes of a version 1 header, its end included (§2.1).
const LINE_BYTES_MAX: usize = 107;
/// Bytes of a version 2 header before the addresses.
const FIXED_BYTES: usize = 16;
/// What follows those at most: addresses, a client's certificate and some names.
const REST_BYTES_MAX: usize = 16 * 1024;

const TYPE_CRC32C: u8 = 0x03;
const TYPE_SSL: u8 = 0x20;
const SUBTYPE_SSL_VERSION: u8 = 0x21;
const SUBTYPE_SSL_CN: u8 = 0x22;
const SUBTYPE_SSL_CLIENT_CERT: u8 = 0x28;
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// What a proxy says of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Who connected to it; `None`: the proxy itself, or somebody without an address.
    pub source: Option<SocketAddr>,
    /// How TLS was spoken with it, if it was.
    pub tls: Option<Tls>,
}

/// How TLS was spoken with a proxy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Its version, as the proxy calls it.
    pub version: Option<Box<str>>,
    /// The common name of the client's certificate.
    pub common_name: Option<Box<str>>,
    /// The client's certificate in DER, where the proxy passes it on and has verified it.
    pub certificate: Option<Box<[u8]>>,
}

/// This is no header, or a broken one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadHeader(&'static str);

impl std::fmt::Display for BadHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether `bytes` begin like a header; `None` while more of them are needed to tell.
pub fn begins(bytes: &[u8]) -> Option<bool> {
    let matches = |start: &[u8]| {
        let common = start.len().min(bytes.len());
        (bytes[..common] == start[..common]).then_some(common == start.len())
    };
    match (matches(WORD), matches(&SIGNATURE)) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (None, None) => Some(false),
        _ => None,
    }
}

/// Reads the header that `bytes` begin with, and how many they are; `None` while more are needed.
///
/// # Errors
/// [`BadHeader`]: with the first byte that shows it.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    match begins(bytes) {
        None => Ok(None),
        Some(false) => Err(BadHeader("no PROXY header comes first")),
        Some(true) if bytes[0] == WORD[0] => parse_line(bytes),
        Some(true) => parse_binary(bytes),
    }
}

/// Version 1 (§2.1).
fn parse_line(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let within = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        let is_too_long = bytes.len() >= LINE_BYTES_MAX;
        return if is_too_long { Err(BadHeader("the line is too long")) } else { Ok(None) };
    };
    let line = std::str::from_utf8(&within[WORD.len()..end]);
    let line = line.map_err(|_| BadHeader("the line is no text"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        // Whatever follows is to be ignored.
        ["UNKNOWN", ..] => None,
        [family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| {
                let address: Option<IpAddr> = text.parse().ok();
                address.filter(|address| address.is_ipv4() == (family == "TCP4"))
            };
            let port = |text: &str| {
                // No sign, which would be taken for a number otherwise.
                text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?
            };
            let source = address(source).zip(port(source_port));
            let destination = address(destination).zip(port(destination_port));
            let (address, port) =
                source.filter(|_| destination.is_some()).ok_or(BadHeader("no good addresses"))?;
            Some(SocketAddr::new(address, port))
        }
        _ => return Err(BadHeader("the line is malformed")),
    };
    Ok(Some((Header { source, tls: None }, end + 2)))
}

/// Version 2 (§2.2).
fn parse_binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_and_command, family_and_protocol, high, low] = *fixed;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadHeader("the version or command is unknown")),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_BYTES_MAX {
        return Err(BadHeader("it is too long"));
    }
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let taken = FIXED_BYTES + length;
    if is_local {
        // Of the proxy's own: a health check. What else it says is to be ignored.
        return Ok(Some((Header::default(), taken)));
    }
    let (source, extensions) = source(family_and_protocol, rest)?;
    let tls = read_extensions(extensions, &bytes[..taken])?;
    Ok(Some((Header { source, tls }, taken)))
}

/// Who connected, and what follows the addresses.
fn source(family_and_protocol: u8, rest: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), BadHeader> {
    const SHORT: BadHeader = BadHeader("it is too short for its addresses");
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    match family_and_protocol {
        // TCP over IPv4: two addresses, two ports.
        0x11 => {
            let (addresses, others) = rest.split_first_chunk::<12>().ok_or(SHORT)?;
            let [a, b, c, d, ..] = *addresses;
            let address = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
            Ok((Some(SocketAddr::new(address, port(&addresses[8..]))), others))
        }
        // TCP over IPv6.
        0x21 => {
            let (addresses, others) = rest.split_first_chunk::<36>().ok_or(SHORT)?;
            let (address, ports) = addresses.split_first_chunk::<16>().ok_or(SHORT)?;
            let address = IpAddr::V6(Ipv6Addr::from(*address));
            Ok((Some(SocketAddr::new(address, port(&ports[16..]))), others))
        }
        // A Unix socket: two paths.
        0x31 => Ok((None, rest.get(216..).ok_or(SHORT)?)),
        // Unspecified: what there is are extensions.
        0x00 => Ok((None, rest)),
        _ => Err(BadHeader("the address family or protocol is unknown")),
    }
}

/// Extensions (§2.2.1 and on), of which those are read that are about TLS, and the checksum.
fn read_extensions(extensions: &[u8], header: &[u8]) -> Result<Option<Tls>, BadHeader> {
    let (mut tls, mut is_checked) = (None, false);
    for extension in Extensions(extensions) {
        let (kind, value) = extension?;
        match kind {
            TYPE_CRC32C if is_checked => return Err(BadHeader("it has several checksums")),
            TYPE_CRC32C => {
                check_sum(value, header)?;
                is_checked = true;
            }
            TYPE_SSL => tls = read_tls(value)?,
            _ => {}
        }
    }
    Ok(tls)
}

/// PP2_TYPE_SSL (§2.2.6).
fn read_tls(value: &[u8]) -> Result<Option<Tls>, BadHeader> {
    const SHORT: BadHeader = BadHeader("what it says of TLS is cut short");
    let (&client, rest) = value.split_first().ok_or(SHORT)?;
    let (verify, rest) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    if client & CLIENT_SSL == 0 {
        return Ok(None);
    }
    let has_certificate = client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) != 0;
    let is_verified = has_certificate && u32::from_be_bytes(*verify) == 0;
    let mut tls = Tls::default();
    let text = |value: &[u8]| std::str::from_utf8(value).ok().map(Into::into);
    for extension in Extensions(rest) {
        match extension? {
            (SUBTYPE_SSL_VERSION, value) => tls.version = text(value),
            (SUBTYPE_SSL_CN, value) => tls.common_name = text(value),
            (SUBTYPE_SSL_CLIENT_CERT, value) if is_verified => {
                tls.certificate = Some(value.into());
            }
            _ => {}
        }
    }
    Ok(Some(tls))
}

/// Type, length and value, over and over.
struct Extensions<'a>(&'a [u8]);

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<(u8, &'a [u8]), BadHeader>;

    fn next(&mut self) -> Option<Self::Item> {
        let ([kind, high, low], rest) = match self.0.split_first_chunk::<3>() {
            Some((head, rest)) => (*head, rest),
            None if self.0.is_empty() => return None,
            None => return Some(Err(self.cut_short())),
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, others)) = rest.split_at_checked(length) else {
            return Some(Err(self.cut_short()));
        };
        self.0 = others;
        Some(Ok((kind, value)))
    }
}

impl Extensions<'_> {
    fn cut_short(&mut self) -> BadHeader {
        self.0 = &[];
        BadHeader("an extension is cut short")
    }
}

/// PP2_TYPE_CRC32C (§2.2.3): of the whole header, with zeros in its own place.
fn check_sum(value: &[u8], header: &[u8]) -> Result<(), BadHeader> {
    const WRONG: BadHeader = BadHeader("its checksum is wrong");
    let expected = <[u8; 4]>::try_from(value).map_err(|_| WRONG)?;
    // It is a part of the header.
    let at = value.as_ptr().addr() - header.as_ptr().addr();
    let bytes = header.iter().enumerate();
    let zeroed = bytes.map(|(place, byte)| if (at..at + 4).contains(&place) { 0 } else { *byte });
    if crc32c(zeroed) == u32::from_be_bytes(expected) { Ok(()) } else { Err(WRONG) }
}

/// CRC-32C (Castagnoli), a bit at a time: once for a connection, where it is asked for.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}

/// What tests say as a proxy.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An extension.
    pub(crate) fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).expect("short").to_be_bytes();
        [&[kind][..], &length, value].concat()
    }

    /// A version 2 header of a connection from `source`.
    pub(crate) fn binary(source: Option<SocketAddr>, extensions: &[u8]) -> Vec<u8> {
        let (family, addresses) = match source {
            None => (0x00, Vec::new()),
            Some(SocketAddr::V4(source)) => {
                let ports = [source.port().to_be_bytes(), 1883u16.to_be_bytes()].concat();
                (0x11, [&source.ip().octets()[..], &[10, 0, 0, 1], &ports].concat())
            }
            Some(SocketAddr::V6(source)) => {
                let ports = [source.port().to_be_bytes(), 1883u16.to_be_bytes()].concat();
                (0x21, [&source.ip().octets()[..], &[1; 16], &ports].concat())
            }
        };
        let length = u16::try_from(addresses.len() + extensions.len()).expect("short");
        let head = [&SIGNATURE[..], &[0x21, family], &length.to_be_bytes()].concat();
        [&head[..], &addresses, extensions].concat()
    }

    /// The extension that says how TLS was spoken; the client has shown that certificate.
    pub(crate) fn tls(verify: u32, certificate: Option<&[u8]>) -> Vec<u8> {
        let client = CLIENT_SSL | if certificate.is_some() { CLIENT_CERT_CONN } else { 0 };
        let mut value = [&[client][..], &verify.to_be_bytes()].concat();
        value.extend(extension(SUBTYPE_SSL_VERSION, b"TLSv1.3"));
        value.extend(extension(SUBTYPE_SSL_CN, b"pump"));
        if let Some(certificate) = certificate {
            value.extend(extension(SUBTYPE_SSL_CLIENT_CERT, certificate));
        }
        extension(TYPE_SSL, &value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::*;
    use super::*;

    /// Everything at once, and byte by byte, which must come to the same.
    #[track_caller]
    fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, BadHeader> {
        let whole = parse(bytes);
        for end in 0..bytes.len() {
            match parse(&bytes[..end]) {
                Ok(None) => {}
                early => {
                    assert_eq!(early, whole, "after {end} bytes");
                    break;
                }
            }
        }
        whole
    }

    fn from(source: &str) -> Header {
        Header { source: Some(source.parse().expect("an address")), tls: None }
    }

    #[test]
    fn lines_of_version_1_are_read_and_what_follows_is_left() {
        for (line, header) in [
            ("PROXY TCP4 192.0.2.1 10.0.0.1 56324 1883\r\n", from("192.0.2.1:56324")),
            ("PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", from("[2001:db8::1]:65535")),
            ("PROXY UNKNOWN\r\n", Header::default()),
            ("PROXY UNKNOWN whatever 1 2 3 4 5\r\n", Header::default()),
        ] {
            let said = format!("{line}\u{10}rest");
            assert_eq!(read(said.as_bytes()), Ok(Some((header, line.len()))), "{line}");
        }
        for bad in [
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 1883\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY\r\n",
            "proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "\u{10}\u{e}\0\u{4}MQTT",
            "POST / HTTP/1.1\r\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX));
        assert!(read(long.as_bytes()).is_err());
    }

    #[test]
    fn headers_of_version_2_are_read_with_what_they_say_of_tls() {
        for source in ["192.0.2.1:56324", "[2001:db8::1]:1"] {
            let said = binary(from(source).source, &extension(0xee, b"unheard of"));
            let with_rest = [&said[..], b"\x16rest"].concat();
            assert_eq!(read(&with_rest), Ok(Some((from(source), said.len()))));
        }
        let said = binary(from("192.0.2.1:1").source, &tls(0, Some(b"DER")));
        let (header, _) = read(&said).expect("good").expect("whole");
        let expected = Tls {
            version: Some("TLSv1.3".into()),
            common_name: Some("pump".into()),
            certificate: Some(b"DER"[..].into()),
        };
        assert_eq!(header.tls, Some(expected));
        // One that the proxy has not found good is none.
        let said = binary(from("192.0.2.1:1").source, &tls(19, Some(b"DER")));
        let (header, _) = read(&said).expect("good").expect("whole");
        assert_eq!(header.tls.expect("TLS").certificate, None);
    }

    #[test]
    fn a_health_check_of_the_proxy_has_no_address_of_a_client() {
        let mut said = binary(from("192.0.2.1:56324").source, &tls(0, None));
        said[12] = 0x20;
        // A family that we do not know, and extensions that are none.
        said[13] = 0x12;
        said.extend([1, 2]);
        said[15] += 2;
        assert_eq!(read(&said), Ok(Some((Header::default(), said.len()))));
        let unspecified = binary(None, &[]);
        assert_eq!(read(&unspecified), Ok(Some((Header::default(), 16))));
        let mut unix = binary(None, &[0; 216]);
        unix[13] = 0x31;
        assert_eq!(read(&unix), Ok(Some((Header::default(), 16 + 216))));
    }

    #[test]
    fn broken_headers_of_version_2_are_refused() {
        let good = binary(from("192.0.2.1:1").source, &tls(0, None));
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for (what, bytes) in [
            ("version", changed(12, 0x11)),
            ("command", changed(12, 0x22)),
            ("UDP", changed(13, 0x12)),
            ("too long", changed(14, 0xff)),
            ("too short for addresses", [&good[..14], &[0, 4], &good[16..]].concat()),
            ("extension cut short", changed(30, 200)),
            ("extension of two bytes", binary(None, &[0xee, 0])),
            ("TLS cut short", binary(None, &extension(TYPE_SSL, &[1, 0]))),
            ("checksum", binary(None, &extension(TYPE_CRC32C, &[1, 2, 3, 4]))),
            ("short checksum", binary(None, &extension(TYPE_CRC32C, &[1, 2]))),
        ] {
            assert!(read(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn a_good_checksum_is_good() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let source = from("192.0.2.1:1").source;
        let mut said = binary(source, &extension(TYPE_CRC32C, &[0; 4]));
        let sum = crc32c(said.iter().copied());
        let at = said.len() - 4;
        said[at..].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(read(&said), Ok(Some((from("192.0.2.1:1"), said.len()))));
        said[16] ^= 1;
        assert!(read(&said).is_err());
    }

    #[test]
    fn one_checksum_is_computed_and_no_more() {
        let checksum = extension(TYPE_CRC32C, &[0; 4]);
        let mut said = binary(None, &checksum.repeat(2));
        let sum = crc32c(said.iter().copied());
        let at = FIXED_BYTES + checksum.len() - 4;
        said[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(read(&said), Err(BadHeader("it has several checksums")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_wait_for_ever(
            start in prop::sample::select(vec![&b""[..], b"PROXY ", &SIGNATURE]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let said = [start, &bytes].concat();
            let _ = parse(&said);
            let endless = [&said[..], &vec![b'x'; FIXED_BYTES + REST_BYTES_MAX]].concat();
            prop_assert!(parse(&endless) != Ok(None));
        }

        #[test]
        fn every_address_is_read_as_it_was_said(address: IpAddr, port: u16) {
            let source = SocketAddr::new(address, port);
            let (header, _) = parse(&binary(Some(source), &[])).expect("good").expect("whole");
            prop_assert_eq!(header.source, Some(source));
            let (family, other) = if address.is_ipv4() { (4, "10.0.0.1") } else { (6, "::1") };
            let line = format!("PROXY TCP{family} {address} {other} {port} 1883\r\n");
            let (header, _) = parse(line.as_bytes()).expect("good").expect("whole");
            prop_assert_eq!(header.source, Some(source));
        }
    }
}
