//! The address of a NATS server.

use std::fmt;

use super::types::{MASK, Secret};

/// The port of a NATS server whose URL names none.
const DEFAULT_PORT: u16 = 4222;

/// `nats://[user:password@|token@]host[:port]`, or the same with `tls://`.
///
/// `Display` and `Debug` mask the password or token.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    /// True for `tls://`: the link is refused unless it is encrypted.
    pub tls: bool,
    /// A host name or an IP address, without the brackets of an IPv6 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What the URL says before `@`.
    pub credentials: Option<UrlCredentials>,
}

/// Credentials embedded in a URL, percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlCredentials {
    /// `user:password@`
    UserPassword(String, Secret),
    /// `token@`
    Token(Secret),
}

impl NatsUrl {
    /// A URL without credentials and without TLS.
    pub fn plain(host: impl Into<String>, port: u16) -> Self {
        Self { tls: false, host: host.into(), port, credentials: None }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// The reason in words; it never repeats the part that may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            _ => return Err("a NATS URL starts with nats:// or tls://".into()),
        };
        // The last `@` ends the credentials: a password may hold another one.
        let (user_info, address) = match rest.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, rest),
        };
        let credentials = user_info.map(parse_user_info).transpose()?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = parse_address(address, DEFAULT_PORT)?;
        Ok(Self { tls, host, port, credentials })
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "tls://" } else { "nats://" })?;
        match &self.credentials {
            Some(UrlCredentials::UserPassword(user, _)) => {
                write!(f, "{}:{MASK}@", percent_encode(user))?;
            }
            Some(UrlCredentials::Token(_)) => write!(f, "{MASK}@")?,
            None => {}
        }
        f.write_str(&self.address())
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse_user_info(text: &str) -> Result<UrlCredentials, String> {
    Ok(match text.split_once(':') {
        Some(("", _)) => return Err("the user name before `:` is empty".into()),
        Some((user, password)) => UrlCredentials::UserPassword(
            percent_decode(user)?,
            Secret::new(percent_decode(password)?),
        ),
        None if text.is_empty() => return Err("the token before `@` is empty".into()),
        None => UrlCredentials::Token(Secret::new(percent_decode(text)?)),
    })
}

/// Splits `host[:port]`; the reasons repeat no part that may hold a password.
pub(super) fn parse_address(text: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("`[` without `]`")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("`{host}` is not an IPv6 address"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("expected `:` and a port after `]`".into()),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host_char = |c: char| c.is_alphanumeric() || "-._:".contains(c);
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if !host.chars().all(is_host_char) {
        // The text is not repeated: with a misplaced `@` it could be part of a password.
        return Err("the host has a character that no host name has; \
                    in a password, write `@` `/` `:` as %40 %2F %3A"
            .into());
    }
    let port = match port {
        None => default_port,
        Some(port) => port
            .parse()
            .ok()
            .filter(|&port| port != 0)
            .ok_or("the port is not a number from 1 to 65535")?,
    };
    Ok((host.to_owned(), port))
}

fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits
            .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok())
            .ok_or("`%` without two hexadecimal digits in the credentials")?;
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "the credentials are not UTF-8".into())
}

fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_scheme_host_and_port() {
        let url = NatsUrl::parse("tls://nats.example:4333").unwrap();
        assert!(url.tls);
        assert_eq!((url.host.as_str(), url.port), ("nats.example", 4333));
        assert_eq!(NatsUrl::parse("nats://n").unwrap(), NatsUrl::plain("n", 4222));
        assert_eq!(NatsUrl::parse("nats://[::1]").unwrap().address(), "[::1]:4222");
    }

    #[test]
    fn decodes_credentials_and_masks_them() {
        let url = NatsUrl::parse("nats://us%20er:p%40ss@n").unwrap();
        let Some(UrlCredentials::UserPassword(user, password)) = &url.credentials else {
            panic!("no user and password in {url}");
        };
        assert_eq!((user.as_str(), password.expose()), ("us er", "p@ss"));
        assert_eq!(url.to_string(), "nats://us%20er:***@n:4222");
        assert_eq!(format!("{:?}", NatsUrl::parse("nats://tok@n").unwrap()), "nats://***@n:4222");
    }

    #[test]
    fn refuses_what_is_no_nats_url_without_repeating_it() {
        for text in [
            "n:4222",
            "http://n",
            "nats://",
            "nats://n:0",
            "nats://n:70000",
            "nats://n:",
            "nats://:1",
            "nats://@n",
            "nats://:secret@n",
            "nats://u:secret%4@n",
            "nats://u:sec@ret/n",
            "nats://[::1",
            "nats://[x]:1",
            "nats://[::1]4222",
            "nats://a b",
        ] {
            let reason = NatsUrl::parse(text).expect_err(text);
            assert!(!reason.contains("sec"), "{text}: {reason}");
        }
    }
}
