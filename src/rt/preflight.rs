//! Can this host run a shard? Asked once before any thread starts, so that the answer is one plain
//! message instead of a failure deep inside a runtime.

use std::fmt;
use std::io;

use super::ring::DeviceRing;

/// The oldest kernel with multishot receive, provided-buffer rings and deferred task work.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

const DISABLED_FILE: &str = "/proc/sys/kernel/io_uring_disabled";
const RELEASE_FILE: &str = "/proc/sys/kernel/osrelease";

/// Why io_uring cannot be used here, and what to change.
#[derive(Debug)]
pub enum Refusal {
    /// The kernel is older than [`KERNEL_MIN`].
    KernelTooOld {
        /// Its release, as it names itself.
        release: String,
    },
    /// `kernel.io_uring_disabled` is 1 or 2.
    Disabled {
        /// The setting's value.
        value: String,
    },
    /// The system call is forbidden although the setting allows it: a seccomp filter or a
    /// container.
    Forbidden,
    /// The kernel was built without it.
    Absent,
    /// Memory may not be locked.
    LockedMemory(io::Error),
    /// Anything else.
    Other(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelTooOld { release } => write!(
                f,
                "io_uring of kernel {release} lacks what ringgate needs: run Linux {}.{} or newer",
                KERNEL_MIN.0, KERNEL_MIN.1
            ),
            Self::Disabled { value } => write!(
                f,
                "io_uring is switched off: kernel.io_uring_disabled is {value}. Set it to 0 with \
                 `sysctl -w kernel.io_uring_disabled=0` (and in /etc/sysctl.d to keep it); 1 would \
                 do where ringgate's group is the one in kernel.io_uring_group"
            ),
            Self::Forbidden => f.write_str(
                "io_uring is forbidden here (EPERM) although kernel.io_uring_disabled allows it: a \
                 seccomp filter blocks it, as containers do by default. Allow io_uring_setup, \
                 io_uring_enter and io_uring_register in the filter (systemd: SystemCallFilter=, \
                 Docker: --security-opt seccomp=…), or run outside the container",
            ),
            Self::Absent => f.write_str(
                "this kernel has no io_uring (ENOSYS): use one built with CONFIG_IO_URING, or lift \
                 the seccomp filter that hides it",
            ),
            Self::LockedMemory(e) => write!(
                f,
                "io_uring could not lock its memory ({e}): raise the limit with `ulimit -l \
                 unlimited` or LimitMEMLOCK=infinity in the systemd unit"
            ),
            Self::Other(e) => write!(f, "io_uring could not be set up: {e}"),
        }
    }
}

/// Makes and drops a ring like a shard's.
///
/// # Errors
/// [`Refusal`] says what to change.
pub fn check() -> Result<(), Refusal> {
    let release = std::fs::read_to_string(RELEASE_FILE).unwrap_or_default();
    if kernel_version(&release).is_some_and(|version| version < KERNEL_MIN) {
        return Err(Refusal::KernelTooOld { release: release.trim().to_owned() });
    }
    match DeviceRing::new(1, 4096) {
        Ok(_) => Ok(()),
        Err(e) => Err(refusal(e, &std::fs::read_to_string(DISABLED_FILE).unwrap_or_default())),
    }
}

fn refusal(error: io::Error, disabled: &str) -> Refusal {
    let value = disabled.trim();
    match error.raw_os_error() {
        Some(libc::EPERM) if !matches!(value, "" | "0") => {
            Refusal::Disabled { value: value.to_owned() }
        }
        Some(libc::EPERM | libc::EACCES) => Refusal::Forbidden,
        Some(libc::ENOSYS) => Refusal::Absent,
        Some(libc::ENOMEM | libc::ENOBUFS) => Refusal::LockedMemory(error),
        _ => Refusal::Other(error),
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernel_version_of_common_releases() {
        assert_eq!(kernel_version("6.1.0-18-amd64\n"), Some((6, 1)));
        assert_eq!(kernel_version("5.15.0-101-generic"), Some((5, 15)));
        assert_eq!(kernel_version("6.18.44"), Some((6, 18)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn names_the_setting_that_forbids_io_uring() {
        let denied = || io::Error::from_raw_os_error(libc::EPERM);
        assert!(matches!(refusal(denied(), "2\n"), Refusal::Disabled { value } if value == "2"));
        assert!(matches!(refusal(denied(), "0\n"), Refusal::Forbidden));
        assert!(matches!(refusal(denied(), ""), Refusal::Forbidden));
        let absent = io::Error::from_raw_os_error(libc::ENOSYS);
        assert!(matches!(refusal(absent, ""), Refusal::Absent));
        let locked = refusal(io::Error::from_raw_os_error(libc::ENOMEM), "0");
        assert!(locked.to_string().contains("LimitMEMLOCK=infinity"), "{locked}");
    }

    #[test]
    fn a_host_that_runs_the_tests_passes() {
        check().expect("io_uring works here");
    }
}
