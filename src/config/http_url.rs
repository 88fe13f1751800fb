//! The address of a service over HTTP.

use std::fmt;

use super::nats_url::parse_address;

/// The port of an HTTP URL that names none.
const DEFAULT_PORT: u16 = 80;

/// `http://host[:port][/path]`, without credentials, query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// A host name or an IP address, without the brackets of an IPv6 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// With a leading `/`, as it goes into the request line.
    pub path: String,
}

impl HttpUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// The reason in words; it repeats no part that may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("http://").ok_or("the URL starts with http://")?;
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if rest.contains('@') {
            return Err("credentials do not belong into this URL".into());
        }
        let is_path_char = |c: char| c.is_ascii_graphic() && !"?#\"<>\\^`{|}".contains(c);
        if !path.chars().all(is_path_char) {
            return Err("the path has a character that a path has not, such as `?` or `#`".into());
        }
        let (host, port) = parse_address(address, DEFAULT_PORT)?;
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Ok(Self { host, port, path })
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

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_host_port_and_path() {
        for (text, shown) in [
            ("http://auth", "http://auth:80/"),
            ("http://auth:8080/v1/ask", "http://auth:8080/v1/ask"),
            ("http://[::1]:1/", "http://[::1]:1/"),
        ] {
            let url = HttpUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(HttpUrl::parse(shown).unwrap(), url);
        }
    }

    #[test]
    fn refuses_without_repeating_credentials() {
        for text in [
            "https://auth/",
            "auth:80",
            "http://",
            "http:///x",
            "http://u:pl4nted@auth/",
            "http://auth/?key=pl4nted",
            "http://auth/a b",
            "http://auth:0/",
        ] {
            let reason = HttpUrl::parse(text).unwrap_err();
            assert!(!reason.contains("pl4nted"), "{reason}");
        }
    }
}
