//! What a certificate is called: its issuer and serial number, by which 16/ECAP and 22/CAP find a
//! client. Whoever issues and whoever is shown a certificate computes the name here, so that both
//! always agree.

use std::fmt::{self, Write};

use x509_parser::asn1_rs::{Any, Oid, Tag, ToDer, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::CertificateName;

/// Attribute types that have a short name (RFC 4514 §3); all others are written as numbers.
const SHORT_NAMES: [(Oid<'static>, &str); 9] = [
    (oid!(2.5.4.3), "CN"),
    (oid!(2.5.4.7), "L"),
    (oid!(2.5.4.8), "ST"),
    (oid!(2.5.4.10), "O"),
    (oid!(2.5.4.11), "OU"),
    (oid!(2.5.4.6), "C"),
    (oid!(2.5.4.9), "STREET"),
    (oid!(0.9.2342.19200300.100.1.25), "DC"),
    (oid!(0.9.2342.19200300.100.1.1), "UID"),
];

/// Why bytes have no certificate's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCertificate(String);

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an X.509 certificate: {}", self.0)
    }
}

impl std::error::Error for NoCertificate {}

/// Issuer (RFC 4514) and serial number (base 10) of a certificate in DER.
///
/// Verifies nothing: who asks about a certificate's name has verified the certificate.
///
/// # Errors
/// The bytes are no certificate, or more than one.
pub fn certificate_name(der: &[u8]) -> Result<CertificateName, NoCertificate> {
    Ok(name_of(&read_certificate(der)?))
}

/// Reads a certificate in DER.
///
/// # Errors
/// The bytes are no certificate, or more than one.
pub fn read_certificate(der: &[u8]) -> Result<X509Certificate<'_>, NoCertificate> {
    let refuse = |reason: &dyn fmt::Display| NoCertificate(reason.to_string());
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| refuse(&error))?;
    if !rest.is_empty() {
        return Err(refuse(&"something follows it"));
    }
    Ok(certificate)
}

/// The same as [`certificate_name`], of a certificate that has been read.
pub fn name_of(certificate: &X509Certificate<'_>) -> CertificateName {
    let tbs = &certificate.tbs_certificate;
    CertificateName {
        issuer: rfc4514(&tbs.issuer).into(),
        serial: tbs.serial.to_str_radix(10).into(),
    }
}

/// A distinguished name as text: the last part first, `,` between parts, `+` within one
/// (RFC 4514 §2.1–2.2).
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name.iter().collect();
    parts.reverse();
    let mut text = String::new();
    for (at, part) in parts.into_iter().enumerate() {
        for (within, attribute) in part.iter().enumerate() {
            match (at, within) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            write_attribute(attribute, &mut text);
        }
    }
    text
}

/// `type=value`; a type without a short name or a value that is no text goes as numbers
/// (RFC 4514 §2.3–2.4).
fn write_attribute(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    let kind = attribute.attr_type();
    let short = SHORT_NAMES.iter().find(|(oid, _)| oid == kind).map(|(_, short)| *short);
    match (short, value(attribute.attr_value())) {
        (Some(short), Some(value)) => {
            text.push_str(short);
            text.push('=');
            escape(&value, text);
        }
        (short, _) => {
            match short {
                Some(short) => text.push_str(short),
                None => text.push_str(&kind.to_id_string()),
            }
            text.push_str("=#");
            for byte in attribute.attr_value().to_der_vec_raw().unwrap_or_default() {
                write_hex(byte, text);
            }
        }
    }
}

/// The text of a value, if it is one.
fn value(any: &Any<'_>) -> Option<String> {
    match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(any.data).ok().map(str::to_owned)
        }
        Tag::BmpString => {
            let (pairs, rest) = any.data.as_chunks::<2>();
            let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            rest.is_empty().then(|| String::from_utf16(&units).ok()).flatten()
        }
        _ => None,
    }
}

/// Escapes what RFC 4514 §2.4 wants escaped, and control characters, which it allows to be.
fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', c]),
            '#' if at == 0 => text.push_str("\\#"),
            ' ' if at == 0 || at == last => text.push_str("\\ "),
            c if c.is_control() => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    text.push('\\');
                    write_hex(byte, text);
                }
            }
            c => text.push(c),
        }
    }
}

fn write_hex(byte: u8, text: &mut String) {
    write!(text, "{byte:02X}").expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::{BmpString, Ia5String};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SerialNumber};

    fn made(dn: &[(DnType, DnValue)], serial: &[u8]) -> CertificateName {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in dn {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.serial_number = Some(SerialNumber::from_slice(serial));
        let key = KeyPair::generate().expect("generates");
        let certificate = params.self_signed(&key).expect("signs");
        certificate_name(certificate.der()).expect("is a certificate")
    }

    fn issuer_with(value: &str) -> String {
        made(&[(DnType::CommonName, value.into())], &[1]).issuer.into()
    }

    #[test]
    fn writes_the_last_part_of_the_issuer_first() {
        let dn = [
            (DnType::CountryName, "DE".into()),
            (DnType::OrganizationName, "Acme, Inc.".into()),
            (DnType::CommonName, "plant 7".into()),
        ];
        assert_eq!(&*made(&dn, &[1]).issuer, "CN=plant 7,O=Acme\\, Inc.,C=DE");
    }

    #[test]
    fn writes_serial_numbers_in_base_10_however_long() {
        assert_eq!(&*made(&[], &[0xff]).serial, "255");
        let long = made(&[], &[0xff; 20]).serial;
        assert_eq!(&*long, "1461501637330902918203684832716283019655932542975");
    }

    #[test]
    fn escapes_what_would_be_read_otherwise() {
        assert_eq!(issuer_with("a+b;c<d>e\"f\\g=h"), "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g=h");
        assert_eq!(issuer_with(" # "), "CN=\\ #\\ ");
        assert_eq!(issuer_with("#1"), "CN=\\#1");
        assert_eq!(issuer_with(" "), "CN=\\ ");
        assert_eq!(issuer_with("a\0b\nc"), "CN=a\\00b\\0Ac");
        assert_eq!(issuer_with("Zürich"), "CN=Zürich");
    }

    #[test]
    fn writes_types_without_a_short_name_as_numbers() {
        let mail = Ia5String::try_from("a@b").expect("is ASCII");
        let kind = DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]);
        let dn = [(kind, DnValue::Ia5String(mail))];
        assert_eq!(&*made(&dn, &[1]).issuer, "1.2.840.113549.1.9.1=#1603614062");
    }

    #[test]
    fn reads_the_wide_strings_of_old_authorities() {
        let wide = DnValue::BmpString(BmpString::try_from("Łódź").expect("is in the BMP"));
        assert_eq!(&*made(&[(DnType::LocalityName, wide)], &[1]).issuer, "L=Łódź");
    }

    #[test]
    fn refuses_what_is_no_certificate() {
        assert!(certificate_name(b"").is_err());
        let refused = certificate_name(b"-----BEGIN CERTIFICATE-----").expect_err("is no DER");
        assert!(refused.to_string().starts_with("not an X.509 certificate: "), "{refused}");
        let key = KeyPair::generate().expect("generates");
        let certificate = CertificateParams::default().self_signed(&key).expect("signs");
        let mut twice = certificate.der().to_vec();
        twice.extend_from_slice(certificate.der());
        assert!(certificate_name(&twice).is_err());
    }
}
