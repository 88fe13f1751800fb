//! Who we are to NATS: the credentials in CONNECT.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;

use super::servers::UrlLogin;
use super::settings::{LinkSettings, UplinkError};
use crate::codec::nats::{self, Connect, ServerInfo};
use crate::config::Secret;

const CREDENTIALS_KEY: &str = "ringgate.nats.credentials-file";
const NKEY_KEY: &str = "ringgate.nats.nkey-seed-file";
/// A credentials or seed file may be at most this long.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The configured way to authenticate.
#[derive(Clone, Debug)]
pub(super) enum Access {
    Anonymous,
    User { name: String, password: Option<Secret> },
    Token(Secret),
    Nkey(PathBuf),
    Credentials(PathBuf),
}

impl Access {
    /// # Errors
    /// Contradicting settings, or a file that cannot be used.
    pub(super) fn new(settings: &LinkSettings) -> Result<Access, UplinkError> {
        let ways = [
            settings.username.clone().map(|name| {
                let password = settings.password.clone();
                Access::User { name, password }
            }),
            settings.token.clone().map(Access::Token),
            settings.nkey_seed_file.clone().map(Access::Nkey),
            settings.credentials_file.clone().map(Access::Credentials),
        ];
        let mut ways = ways.into_iter().flatten();
        let access = ways.next().unwrap_or(Access::Anonymous);
        if ways.next().is_some() {
            return Err(UplinkError::TooManyCredentials);
        }
        if settings.password.is_some() && settings.username.is_none() {
            return Err(UplinkError::PasswordWithoutUsername);
        }
        access.signer()?;
        Ok(access)
    }

    /// The JWT and the key to sign with, read from their file.
    fn signer(&self) -> Result<Option<Signer>, UplinkError> {
        match self {
            Access::Nkey(path) => {
                let text = read(NKEY_KEY, path)?;
                Signer::new(NKEY_KEY, path, None, text.trim()).map(Some)
            }
            Access::Credentials(path) => {
                let text = read(CREDENTIALS_KEY, path)?;
                let part = |begin, what: &str| {
                    section(&text, begin).ok_or_else(|| {
                        let why = format!("it holds no {what} after \"{begin}\"");
                        UplinkError::BadFile { key: CREDENTIALS_KEY, path: path.clone(), why }
                    })
                };
                let jwt = part("BEGIN NATS USER JWT", "user JWT")?.to_owned();
                let seed = part("BEGIN USER NKEY SEED", "seed")?;
                Signer::new(CREDENTIALS_KEY, path, Some(jwt), seed).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Appends CONNECT for a server that has introduced itself with `info`. What the URL carries
    /// goes before what is configured.
    ///
    /// # Errors
    /// Text for the operator: a file that cannot be used any more, or a server that does not give
    /// the nonce our key is to sign.
    pub(super) fn connect(
        &self,
        out: &mut Vec<u8>,
        client_name: &str,
        is_tls: bool,
        url_login: Option<&UrlLogin>,
        info: &ServerInfo,
    ) -> Result<(), String> {
        let signer = self.signer().map_err(|error| error.to_string())?;
        let nkey = signer.as_ref().map(|signer| signer.key.public_key());
        let signature = signer.as_ref().map(|signer| signer.sign(info)).transpose()?;
        let mut options = Connect {
            tls_required: is_tls,
            name: client_name,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            protocol: 1,
            headers: true,
            no_responders: info.headers,
            ..Connect::default()
        };
        match (self, url_login) {
            (_, Some(UrlLogin::User(name, password))) => {
                options.user = Some(name);
                options.pass = Some(password.expose());
            }
            (_, Some(UrlLogin::Token(token))) => options.auth_token = Some(token.expose()),
            (Access::Anonymous, None) => {}
            (Access::User { name, password }, None) => {
                options.user = Some(name);
                options.pass = password.as_ref().map(Secret::expose);
            }
            (Access::Token(token), None) => options.auth_token = Some(token.expose()),
            (Access::Nkey(_) | Access::Credentials(_), None) => {
                options.jwt = signer.as_ref().and_then(|signer| signer.jwt.as_deref());
                options.nkey = nkey.as_deref().filter(|_| options.jwt.is_none());
                options.sig = signature.as_deref();
            }
        }
        nats::connect(out, &options);
        Ok(())
    }

    /// What an operator should look at when the server refuses us.
    pub(super) fn advice(&self, url_login: Option<&UrlLogin>) -> &'static str {
        match (self, url_login) {
            (_, Some(_)) => "check the credentials in ringgate.nats.urls",
            (Access::Anonymous, None) => {
                "the server wants credentials: set ringgate.nats.username and password, token, \
                 credentials-file or nkey-seed-file"
            }
            (Access::User { .. }, None) => "check ringgate.nats.username and password",
            (Access::Token(_), None) => "check ringgate.nats.token",
            (Access::Nkey(_), None) => {
                "check that the server knows the public key of ringgate.nats.nkey-seed-file"
            }
            (Access::Credentials(_), None) => {
                "check that the user in ringgate.nats.credentials-file is neither expired nor \
                 revoked and that the server trusts its account"
            }
        }
    }
}

struct Signer {
    jwt: Option<String>,
    key: KeyPair,
}

impl Signer {
    fn new(
        key: &'static str,
        path: &Path,
        jwt: Option<String>,
        seed: &str,
    ) -> Result<Signer, UplinkError> {
        // The error is not shown: it could quote the seed.
        let pair = KeyPair::from_seed(seed).map_err(|_| {
            let why = "the seed in it is not valid".to_owned();
            UplinkError::BadFile { key, path: path.to_owned(), why }
        })?;
        Ok(Signer { jwt, key: pair })
    }

    fn sign(&self, info: &ServerInfo) -> Result<String, String> {
        let nonce = info.nonce.as_deref().ok_or(
            "the server sends no nonce to sign: it is not set up for nkeys or JWT, so \
             ringgate.nats.nkey-seed-file and credentials-file are of no use with it",
        )?;
        let signature = self.key.sign(nonce.as_bytes()).map_err(|error| error.to_string())?;
        Ok(URL_SAFE_NO_PAD.encode(signature))
    }
}

fn read(key: &'static str, path: &Path) -> Result<String, UplinkError> {
    let bad = |why| UplinkError::BadFile { key, path: path.to_owned(), why };
    let length = std::fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(bad(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))
}

/// The line after the one that holds `begin`.
fn section<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    let mut lines = text.lines().skip_while(|line| !line.contains(begin)).skip(1);
    lines.next().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('-'))
}
