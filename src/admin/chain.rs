//! `GET /api/v1/certificate-chain`: the chain of certificates that devices are shown, for whoever
//! has to trust it. It is public, as devices get it from every handshake.

use super::rest::{Call, Handled, PEM, Reply, bad_query, shown};
use hyper::{Method, StatusCode};
use std::fmt;

/// Its path.
pub const CHAIN_PATH: &str = "/api/v1/certificate-chain";

/// Gives a chain in PEM, the certificate itself first: what a client is shown that asks for this
/// name, or for none. `None`: no certificate has the name.
pub type FindChain = dyn Fn(Option<&str>) -> Option<String> + Send + Sync;

/// The chains of one TLS profile.
pub struct ProfileChains {
    /// What the profile is called.
    pub name: String,
    /// Asked anew for every request, since certificates are renewed.
    pub find: Box<FindChain>,
}

impl fmt::Debug for ProfileChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProfileChains({})", self.name)
    }
}

/// Answers a request for [`CHAIN_PATH`].
pub(super) fn answer(profiles: &[ProfileChains], call: &Call) -> Handled {
    if call.method != Method::GET {
        return Err(call.not_allowed("GET, HEAD"));
    }
    call.check_query(&["profile", "server-name"])?;
    let profile = choose(profiles, call.parameter("profile")?)?;
    let name = call.parameter("server-name")?;
    let chain = (profile.find)(name).ok_or_else(|| {
        let (profile, name) = (&profile.name, shown(name.unwrap_or_default()));
        not_found(&format!("no certificate of TLS profile {profile} is for {name:?}"))
    })?;
    Ok(Reply::text(StatusCode::OK, PEM, chain))
}

fn choose<'a>(
    profiles: &'a [ProfileChains],
    wanted: Option<&str>,
) -> Result<&'a ProfileChains, Reply> {
    let names = || profiles.iter().map(|profile| &*profile.name).collect::<Vec<_>>().join(", ");
    match (profiles, wanted) {
        ([], _) => Err(not_found("no TLS for devices is configured: there is no certificate")),
        ([only], None) => Ok(only),
        (_, None) => Err(bad_query(&format!("profile is needed; there are: {}", names()))),
        (_, Some(wanted)) => {
            profiles.iter().find(|profile| profile.name == wanted).ok_or_else(|| {
                let wanted = shown(wanted);
                not_found(&format!("no TLS profile {wanted:?}; there are: {}", names()))
            })
        }
    }
}

fn not_found(why: &str) -> Reply {
    Reply::error(StatusCode::NOT_FOUND, why)
}
