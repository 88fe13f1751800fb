//! Notices that the files of profiles have changed, and makes the profiles anew.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ring::digest::{SHA256, digest};

use super::files::{self, BadFile, CRL_BYTES_MAX};
use super::profile::{Profile, load};
use crate::config::TlsProfile;

/// The place of a profile, where whoever begins a handshake finds the one of the day. The lock is
/// held for the time of a pointer's copy.
#[derive(Debug)]
pub struct Slot(RwLock<Arc<Profile>>);

impl Slot {
    /// The place of `profile`, until there is another.
    pub fn new(profile: Arc<Profile>) -> Self {
        Self(RwLock::new(profile))
    }

    /// The profile of the day.
    pub fn current(&self) -> Arc<Profile> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, profile: Arc<Profile>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = profile;
    }
}

/// What has become of a profile whose files have changed.
#[derive(Debug)]
pub enum Renewed {
    /// It is new from now on.
    Changed {
        /// Its name.
        name: String,
        /// What an operator should look at.
        warnings: Vec<String>,
    },
    /// The files are bad: it stays as it is.
    Refused(BadFile),
}

/// See the module's documentation. A set of files is judged once: while a bad one stays as it is,
/// nothing more is said of it unless somebody asks.
#[derive(Debug, Default)]
pub struct Renewal {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    settings: TlsProfile,
    slot: Arc<Slot>,
    /// What the file system said of the files last.
    stamps: Vec<Option<Stamp>>,
    /// The files as they were judged last: their digests, nothing for those that cannot be read.
    seen: Vec<Option<[u8; 32]>>,
    /// Whether they were bad.
    is_refused: bool,
}

/// What changes when a file does: device, inode, size, seconds and nanoseconds of its change.
type Stamp = (u64, u64, u64, i64, i64);

impl Renewal {
    /// Loads all profiles for the first time; their numbers are their places.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn load(all: Vec<TlsProfile>) -> Result<Self, BadFile> {
        let watch = |settings: TlsProfile| {
            // Before the profile: a change in between is seen again, not missed.
            let (stamps, seen) = (stamps(&settings), digests(&settings));
            let slot = Arc::new(Slot::new(Arc::new(load(&settings, None)?)));
            Ok(Watched { settings, slot, stamps, seen, is_refused: false })
        };
        Ok(Self { watched: all.into_iter().map(watch).collect::<Result<_, _>>()? })
    }

    /// Where the profiles are found, by number.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.watched.iter().map(|watched| watched.slot.clone()).collect()
    }

    /// The profiles' names and places.
    pub fn named_slots(&self) -> impl Iterator<Item = (&str, &Arc<Slot>)> {
        self.watched.iter().map(|watched| (&*watched.settings.name, &watched.slot))
    }

    /// Whether there is nothing to renew.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// What an operator should look at, of all profiles.
    pub fn warnings(&self) -> Vec<String> {
        self.watched.iter().flat_map(|watched| watched.slot.current().warnings.clone()).collect()
    }

    /// Whether the file system says that a file has changed since it was asked last. Reads none.
    pub fn is_due(&mut self) -> bool {
        let mut is_due = false;
        for watched in &mut self.watched {
            let stamps = stamps(&watched.settings);
            is_due |= stamps != watched.stamps;
            watched.stamps = stamps;
        }
        is_due
    }

    /// Reads all files, and makes the profiles anew whose files are not what they were. With
    /// `is_told`, files that are still bad are judged once more.
    pub fn check(&mut self, is_told: bool) -> Vec<Renewed> {
        let mut renewed = Vec::new();
        for watched in &mut self.watched {
            let seen = digests(&watched.settings);
            if seen == watched.seen && !(is_told && watched.is_refused) {
                continue;
            }
            watched.seen = seen;
            let loaded = load(&watched.settings, Some(&watched.slot.current()));
            watched.is_refused = loaded.is_err();
            renewed.push(match loaded {
                Ok(profile) => {
                    let (name, warnings) =
                        (watched.settings.name.clone(), profile.warnings.clone());
                    watched.slot.replace(Arc::new(profile));
                    Renewed::Changed { name, warnings }
                }
                Err(error) => Renewed::Refused(error),
            });
        }
        renewed
    }
}

fn digests(settings: &TlsProfile) -> Vec<Option<[u8; 32]>> {
    let look = |path: &Path| {
        let bytes = files::read(path, CRL_BYTES_MAX).ok()?;
        digest(&SHA256, &bytes).as_ref().try_into().ok()
    };
    paths(settings).into_iter().map(look).collect()
}

fn stamps(settings: &TlsProfile) -> Vec<Option<Stamp>> {
    let look = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        let (changed_s, changed_ns) = (metadata.ctime(), metadata.ctime_nsec());
        Some((metadata.dev(), metadata.ino(), metadata.len(), changed_s, changed_ns))
    };
    paths(settings).into_iter().map(look).collect()
}

fn paths(settings: &TlsProfile) -> Vec<&Path> {
    let own = settings.certificates.iter().flat_map(|(chain, key)| [chain, key]);
    let of_tenants = settings.tenant_ca_files.iter().map(|(_, path)| path);
    let trusted = settings.client_ca_files.iter().chain(of_tenants).chain(&settings.crl_files);
    own.chain(trusted).map(PathBuf::as_path).collect()
}
