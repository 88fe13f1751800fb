//! What a client's certificate says of its holder beside its name, for providers that look at more
//! than issuer and serial number: subject, alternative names (RFC 5280 §4.2.1.6), fingerprint.

use std::net::IpAddr;

use ring::digest::{SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::certificate::rfc4514;

/// Alternative names that are taken of one certificate, of all kinds together.
pub const NAMES_MAX: usize = 32;
/// Bytes of a subject or an alternative name; a longer one is left out, since a part of a name is
/// another name.
pub const NAME_BYTES_MAX: usize = 512;

/// See the module's documentation. Made once, when the handshake is over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateDetails {
    /// The subject's distinguished name, as RFC 4514 writes it; empty where it has none, `None`
    /// where it is too long.
    pub subject: Option<Box<str>>,
    /// Alternative names that are names of hosts.
    pub dns_names: Vec<Box<str>>,
    /// Those that are IP addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Those that are URIs.
    pub uris: Vec<Box<str>>,
    /// Those that are addresses of e-mail.
    pub email_addresses: Vec<Box<str>>,
    /// Whether a subject or name of these kinds has been left out: there were too many, or it is
    /// too long or no text.
    pub is_incomplete: bool,
    /// SHA-256 of the whole certificate in DER, as 64 hexadecimal digits in lower case.
    pub fingerprint: Box<str>,
}

impl CertificateDetails {
    /// Of a certificate that has been read from `der`. Verifies nothing.
    pub fn new(certificate: &X509Certificate<'_>, der: &[u8]) -> Self {
        let mut details = Self { fingerprint: fingerprint(der), ..Self::default() };
        details.subject = details.text(&rfc4514(certificate.subject()));
        match certificate.subject_alternative_name() {
            Ok(None) => {}
            Ok(Some(names)) => details.take(&names.value.general_names),
            // Unreadable, or there twice.
            Err(_) => details.is_incomplete = true,
        }
        details
    }

    fn take(&mut self, names: &[GeneralName<'_>]) {
        self.is_incomplete |= names.len() > NAMES_MAX;
        for name in names.iter().take(NAMES_MAX) {
            match name {
                GeneralName::DNSName(name) => {
                    let name = self.text(name);
                    self.dns_names.extend(name);
                }
                GeneralName::URI(uri) => {
                    let uri = self.text(uri);
                    self.uris.extend(uri);
                }
                GeneralName::RFC822Name(address) => {
                    let address = self.text(address);
                    self.email_addresses.extend(address);
                }
                GeneralName::IPAddress(bytes) => match ip_address(bytes) {
                    Some(address) => self.ip_addresses.push(address),
                    None => self.is_incomplete = true,
                },
                // One of the kinds above that is no UTF-8, mostly.
                GeneralName::Invalid(..) => self.is_incomplete = true,
                // No provider has a place for other kinds.
                _ => {}
            }
        }
    }

    /// A text that is passed on. One with control characters is none: read carelessly, a name with
    /// a NUL in it is a shorter one.
    fn text(&mut self, text: &str) -> Option<Box<str>> {
        let is_good = text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
        self.is_incomplete |= !is_good;
        is_good.then(|| text.into())
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| v6()).ok()
}

fn fingerprint(der: &[u8]) -> Box<str> {
    let digest = digest(&SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::certificate::read_certificate;
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType};

    const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];

    fn details(params: CertificateParams) -> CertificateDetails {
        let key = KeyPair::generate().expect("generates");
        let der = params.self_signed(&key).expect("signs").der().clone();
        CertificateDetails::new(&read_certificate(&der).expect("is one"), &der)
    }

    fn params(common_name: Option<&str>, names: Vec<SanType>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = names;
        params
    }

    fn ascii(text: &str) -> Ia5String {
        Ia5String::try_from(text).expect("is ASCII")
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(ascii(name))
    }

    /// A list of alternative names with these kinds (RFC 5280: 1 e-mail, 2 host, 4 directory name,
    /// 6 URI, 7 IP address, 8 number) and contents, as it stands in a certificate.
    fn raw(names: &[(u8, &[u8])]) -> CertificateParams {
        let mut list = Vec::new();
        for (kind, content) in names {
            list.extend([0x80 | kind, u8::try_from(content.len()).expect("is short")]);
            list.extend_from_slice(content);
        }
        let mut der = vec![0x30, u8::try_from(list.len()).expect("is short")];
        der.extend(list);
        let mut params = params(Some("raw"), Vec::new());
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, der.clone())];
        params
    }

    #[test]
    fn all_kinds_of_names_are_taken_in_the_order_of_the_certificate() {
        let names = vec![
            dns("b.example"),
            SanType::IpAddress([192, 0, 2, 7].into()),
            SanType::URI(ascii("urn:dev:mac:0024befffe804ff1")),
            dns("a.example"),
            SanType::Rfc822Name(ascii("pump@plant.example")),
            SanType::IpAddress("2001:db8:0:0:0:0:0:7".parse().expect("is one")),
        ];
        let details = details(params(Some("pump, 7"), names));
        assert_eq!(details.subject.as_deref(), Some("CN=pump\\, 7"));
        assert_eq!(details.dns_names, ["b.example".into(), "a.example".into()]);
        let shown: Vec<String> = details.ip_addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(shown, ["192.0.2.7", "2001:db8::7"]);
        assert_eq!(details.uris, ["urn:dev:mac:0024befffe804ff1".into()]);
        assert_eq!(details.email_addresses, ["pump@plant.example".into()]);
        assert!(!details.is_incomplete);
    }

    #[test]
    fn a_certificate_may_have_neither_subject_nor_names() {
        let details = details(params(None, Vec::new()));
        let fingerprint = details.fingerprint.clone();
        let nothing = CertificateDetails {
            subject: Some("".into()),
            fingerprint,
            ..CertificateDetails::default()
        };
        assert_eq!(details, nothing);
    }

    #[test]
    fn the_fingerprint_is_sha_256_in_lower_case() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(&*fingerprint(b"abc"), expected);
    }

    #[test]
    fn names_beyond_the_limit_are_left_out_and_that_is_said() {
        let names = |count: usize| (0..count).map(|n| dns(&format!("{n}.example"))).collect();
        let enough = details(params(None, names(NAMES_MAX)));
        assert_eq!((enough.dns_names.len(), enough.is_incomplete), (NAMES_MAX, false));
        let many = details(params(None, names(NAMES_MAX + 200)));
        assert_eq!((&many.dns_names, many.is_incomplete), (&enough.dns_names, true));
    }

    #[test]
    fn a_name_that_is_too_long_is_left_out_whole() {
        let name = |bytes: usize| dns(&"x".repeat(bytes));
        let fits = details(params(None, vec![name(NAME_BYTES_MAX)]));
        assert_eq!((fits.dns_names.len(), fits.is_incomplete), (1, false));
        let long = details(params(None, vec![name(NAME_BYTES_MAX + 1), dns("short")]));
        assert_eq!((long.dns_names, long.is_incomplete), (vec!["short".into()], true));
        let subject = details(params(Some(&"x".repeat(NAME_BYTES_MAX)), Vec::new()));
        assert_eq!((subject.subject, subject.is_incomplete), (None, true));
    }

    #[test]
    fn names_that_are_no_text_or_address_are_left_out_and_the_others_taken() {
        let bad: [(u8, &[u8]); 7] = [
            (2, b"\xff\xfe"),
            (2, b"good.example\0.evil.example"),
            (1, b"a\nb@c"),
            (6, b"urn:\x7f"),
            (6, b"\xc3"),
            (7, &[192, 0, 2]),
            (7, &[0; 32]),
        ];
        for name in bad {
            let details = details(raw(&[name, (2, b"ok.example"), (7, &[127, 0, 0, 1])]));
            assert!(details.is_incomplete, "{name:?}");
            assert_eq!(details.dns_names, ["ok.example".into()], "{name:?}");
            assert_eq!(details.ip_addresses, [IpAddr::from([127, 0, 0, 1])], "{name:?}");
            assert!(details.uris.is_empty() && details.email_addresses.is_empty(), "{name:?}");
        }
        // A kind that nobody is told of is no loss.
        let other = details(raw(&[(8, &[0x2a, 3, 4]), (2, b"ok.example")]));
        assert_eq!((other.dns_names.len(), other.is_incomplete), (1, false));
    }

    #[test]
    fn a_list_of_names_that_cannot_be_read_leaves_subject_and_fingerprint() {
        let mut broken = raw(&[]);
        let content = vec![0x30, 5, 0x82, 9];
        let extension = CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, content);
        broken.custom_extensions = vec![extension];
        let details = details(broken);
        assert_eq!((details.subject.as_deref(), details.is_incomplete), (Some("CN=raw"), true));
        assert_eq!((details.dns_names.len(), details.fingerprint.len()), (0, 64));
    }

    #[test]
    fn a_subject_that_is_no_text_goes_as_numbers() {
        let key = KeyPair::generate().expect("generates");
        let made = params(Some("PLACE"), Vec::new()).self_signed(&key).expect("signs");
        let mut der = made.der().to_vec();
        let places: Vec<usize> =
            der.windows(5).enumerate().filter(|(_, w)| *w == b"PLACE").map(|(at, _)| at).collect();
        assert_eq!(places.len(), 2, "issuer and subject");
        for at in places {
            der[at] = 0xff;
        }
        let details = CertificateDetails::new(&read_certificate(&der).expect("is one"), &der);
        assert_eq!(details.subject.as_deref(), Some("CN=#0C05FF4C414345"));
        assert!(!details.is_incomplete);
    }
}
