//! Notices that the files of profiles have changed, and makes the profiles anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::files::{self, BadFile, CRL_BYTES_MAX};
use super::profile::{Profile, load};
use crate::config::TlsProfile;

/// What has become of a profile whose files have changed.
#[derive(Debug)]
pub enum Renewed {
    /// This one takes the place of the one of that number.
    Changed {
        /// The number of the profile.
        number: u16,
        /// The new one.
        profile: Arc<Profile>,
    },
    /// The files are bad: the profile stays as it is.
    Refused {
        /// Which file, and why.
        error: BadFile,
    },
}

/// See the module's documentation. A set of files is judged once: while a bad one stays as it is,
/// nothing more is said of it.
#[derive(Debug)]
pub struct Renewal {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    settings: TlsProfile,
    current: Arc<Profile>,
    /// The files as they were judged last: their digests, nothing for those that cannot be read.
    seen: Vec<Option<[u8; 32]>>,
}

impl Renewal {
    /// Loads all profiles for the first time; their numbers are their places.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(all: Vec<TlsProfile>) -> Result<Self, BadFile> {
        let watch = |settings: TlsProfile| {
            // Before the profile: a change in between is seen again, not missed.
            let seen = look(&settings);
            let current = Arc::new(load(&settings, None)?);
            Ok(Watched { settings, current, seen })
        };
        Ok(Self { watched: all.into_iter().map(watch).collect::<Result<_, _>>()? })
    }

    /// The profiles as they are, by number.
    pub fn profiles(&self) -> Vec<Arc<Profile>> {
        self.watched.iter().map(|watched| watched.current.clone()).collect()
    }

    /// Looks at the files. Reads all of them.
    pub fn check(&mut self) -> Vec<Renewed> {
        let mut renewed = Vec::new();
        for (number, watched) in (0..).zip(&mut self.watched) {
            let seen = look(&watched.settings);
            if seen == watched.seen {
                continue;
            }
            watched.seen = seen;
            match load(&watched.settings, Some(&watched.current)) {
                Ok(profile) => {
                    let profile = Arc::new(profile);
                    watched.current = profile.clone();
                    renewed.push(Renewed::Changed { number, profile });
                }
                Err(error) => renewed.push(Renewed::Refused { error }),
            }
        }
        renewed
    }
}

fn look(settings: &TlsProfile) -> Vec<Option<[u8; 32]>> {
    let look = |path: &Path| {
        let bytes = files::read(path, CRL_BYTES_MAX).ok()?;
        digest(&SHA256, &bytes).as_ref().try_into().ok()
    };
    paths(settings).into_iter().map(look).collect()
}

fn paths(settings: &TlsProfile) -> Vec<&Path> {
    let own = settings.certificates.iter().flat_map(|(chain, key)| [chain, key]);
    let of_tenants = settings.tenant_ca_files.iter().map(|(_, path)| path);
    let trusted = settings.client_ca_files.iter().chain(of_tenants).chain(&settings.crl_files);
    own.chain(trusted).map(PathBuf::as_path).collect()
}
